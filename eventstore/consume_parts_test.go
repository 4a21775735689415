package eventstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
)

func TestTheKeysOfAllPartsOfAnEventCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type both struct{ A, B string }
		type one struct{ ID string }
		s := memstore.Open(nil)
		defer s.Close()
		require.NoError(t, s.Types.Register("one", one{}))
		require.NoError(t, s.Types.Add(eventstore.UpcastSplit("both", func(b both) []any { return []any{one{b.A}, one{b.B}} })))
		want := map[string]int{}
		for i := range 20 {
			a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
			want[a], want[b] = eventstore.PartitionOf(a, 16), eventstore.PartitionOf(b, 16)
			_, err := s.Append(t.Context(), "s", eventstore.Any, eventstore.Event{Type: "both", Raw: fmt.Appendf(nil, `{"A":%q,"B":%q}`, a, b), ContentType: "application/json"})
			require.NoError(t, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := map[string]int{}
		for d, err := range s.Consume(ctx, eventstore.Consumer{
			Name: "c", From: eventstore.Origin(), Partitions: 16, Batch: 1,
			Keys: func(r *eventstore.Recorded) []string { return []string{r.Data.(one).ID} },
		}) {
			require.NoError(t, err)
			require.Len(t, d.Events, 2, "the parts stay together")
			for _, r := range d.Events {
				if id := r.Data.(one).ID; eventstore.PartitionOf(id, 16) == d.Partition {
					got[id] = d.Partition
				}
			}
			require.NoError(t, d.Ack(t.Context()))
			if len(got) == len(want) {
				break
			}
		}
		require.Equal(t, want, got)
	})
}

func TestAFilterMaySelectTheSystemsStreamsToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.Open(nil)
		defer s.Close()
		e := eventstore.Event{Type: "t", Raw: []byte("{}"), ContentType: "application/json"}
		follow := func(f eventstore.Filter) *[]eventstore.StreamName {
			var got []eventstore.StreamName
			go func() {
				for b, err := range s.Follow(t.Context(), f, 0) {
					if err != nil {
						return
					}
					for _, r := range b.Events {
						got = append(got, r.Stream)
					}
				}
			}()
			return &got
		}
		live := follow(eventstore.Filter{Types: []string{"t"}, System: true})
		users := follow(eventstore.Filter{Types: []string{"t"}})
		synctest.Wait()
		for _, name := range []eventstore.StreamName{"a-1", "$b-1", "c-1"} {
			_, err := s.Append(system.Context(t.Context()), name, eventstore.Any, e)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Equal(t, []eventstore.StreamName{"a-1", "$b-1", "c-1"}, *live)
		require.Equal(t, []eventstore.StreamName{"a-1", "c-1"}, *users)
		var read []eventstore.StreamName
		for r, err := range s.ReadAll(t.Context(), eventstore.Filter{Types: []string{"t"}, System: true}, 0) {
			require.NoError(t, err)
			read = append(read, r.Stream)
		}
		require.True(t, slices.Equal(*live, read))
	})
}
