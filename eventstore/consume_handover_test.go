package eventstore_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// What two processes share is with the one that is left within a second when the other ends in peace, and within a
// second of the end of the lease when it dies, whenever that is.
func TestWhoIsLeftHasThePartitionsSoon(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lease time.Duration
		end   func(t *testing.T, there *eventstore.Store, line *cable, leave func())
		most  time.Duration
	}{
		{"a member leaves its loop", 0, func(_ *testing.T, _ *eventstore.Store, _ *cable, leave func()) { leave() }, time.Second},
		{"a store is shut down", 0, func(t *testing.T, there *eventstore.Store, _ *cable, _ func()) {
			require.NoError(t, there.Shutdown(t.Context()))
		}, time.Second},
		{"a process dies", 0, func(_ *testing.T, _ *eventstore.Store, line *cable, _ func()) { line.cut(true, false) }, 11 * time.Second},
		{"a process with a short lease dies", 2 * time.Second, func(_ *testing.T, _ *eventstore.Store, line *cable, _ func()) { line.cut(true, false) }, 3 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for phase := range 8 { // of when they look
				synctest.Test(t, func(t *testing.T) {
					took := handOver(t, eventstore.Consumer{Lease: tt.lease}, 2*time.Second+time.Duration(phase)*130*time.Millisecond, tt.end)
					require.Less(t, took, tt.most)
				})
			}
		})
	}
}

// handOver has two processes consume for a while, ends one of them, and returns how long it takes until the other has
// what happened after that, of every partition.
func handOver(t *testing.T, c eventstore.Consumer, after time.Duration, end func(*testing.T, *eventstore.Store, *cable, func())) time.Duration {
	e := memstore.NewDriver().(engine)
	line := newCable(t, e)
	there := eventstore.New(line, &eventstore.Options{Logger: quiet})
	here := eventstore.New(e, &eventstore.Options{Logger: quiet})
	for _, s := range []*eventstore.Store{there, here} {
		require.NoError(t, s.Types.Register("counted", Counted{}))
	}
	c.Name, c.From, c.Partitions = "c", eventstore.Origin(), 8
	got := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	member := func(s *eventstore.Store, out chan<- string) (leave func()) {
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for d, err := range s.Consume(ctx, c) {
				if err != nil {
					return
				}
				if d.Ack(ctx) == nil && out != nil {
					for _, r := range d.Events {
						out <- fmt.Sprint(r.Stream.ID(), r.Data.(Counted).N)
					}
				}
			}
		}()
		return func() {
			cancel()
			<-done
		}
	}
	leave := member(there, nil)
	leaveToo := member(here, got)
	time.Sleep(after)
	list, err := here.Consumers(t.Context())
	require.NoError(t, err)
	owned := map[string]int{}
	for _, p := range list[0].Partitions {
		owned[p.Owner]++
	}
	require.Len(t, owned, 2)
	for owner, n := range owned {
		require.Equal(t, 4, n, "the share of %s", owner)
	}

	began := time.Now()
	end(t, there, line, leave)
	want := map[string]bool{}
	for key := 'a'; key < 'a'+26; key++ { // some in each partition
		count(t, here, string(key)+"2")
		want[string(key)+"2"] = true
	}
	limit := time.After(time.Minute)
	for len(want) > 0 {
		select {
		case event := <-got:
			delete(want, event)
		case <-limit:
			require.FailNow(t, "not taken over", "%v", want)
		}
	}
	took := time.Since(began)
	line.cut(false, false)
	leave()
	leaveToo()
	require.NoError(t, there.Close())
	require.NoError(t, here.Close())
	return took
}
