package projection_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/projection"
)

// A Signed is about somebody in part, a Wrote as a whole.
type (
	Signed struct {
		User string
		Name string `shred:"User"`
	}
	Wrote struct{ User, Text string }
)

// signing opens a store that seals, and a projection that parks what has "bad" in it.
func signing(t *testing.T) (*eventstore.Store, *shred.Sealer, *projection.Group, *[]string) {
	sealer := shred.New(&shred.Memory{}, &shred.Options{Subject: func(e *eventstore.Event) string {
		if w, ok := e.Data.(Wrote); ok {
			return w.User
		}
		return ""
	}})
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer, Logger: quiet}})
	t.Cleanup(func() { _ = s.Close() })
	require.NoError(t, s.Types.Register("signed", Signed{}))
	require.NoError(t, s.Types.Register("wrote", Wrote{}))
	var mu sync.Mutex
	var got []string
	see := func(text string) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(text, "bad") {
			return fmt.Errorf("cannot take %q", text)
		}
		got = append(got, text)
		return nil
	}
	g := newGroup(s)
	require.NoError(t, g.Add(&projection.Projection[struct{}]{
		Name: "book", Target: projection.Checkpointed(s), OnError: projection.ParkAfter(1),
		Handlers: []projection.Handler[struct{}]{
			projection.On(func(_ context.Context, _ struct{}, e Signed, _ *eventstore.Recorded) error {
				return see("name " + e.Name)
			}),
			projection.On(func(_ context.Context, _ struct{}, e Wrote, _ *eventstore.Recorded) error {
				return see("text " + e.Text)
			}),
		},
	}))
	start(t, g)
	return s, sealer, g, &got
}

func TestDeadLettersAreErasedWithTheirEvents(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data any
		then []string // what is handled when it is retried
	}{
		"an event of which something is left": {Signed{"ann", "bad Ann"}, []string{"name ", "text fine"}},
		"an event that is erased":             {Wrote{"ann", "bad Ann"}, []string{"text fine"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s, sealer, g, got := signing(t)
			_, err := s.Append(ctx, "book-1", eventstore.Any, eventstore.Event{Data: tt.data}, eventstore.Event{Data: Wrote{"bob", "fine"}})
			require.NoError(t, err)
			head, err := s.Head(ctx)
			require.NoError(t, err)
			require.NoError(t, g.Wait(ctx, head, "book"))
			parked, err := g.Parked(ctx, "book")
			require.NoError(t, err)
			require.Len(t, parked, 1)
			require.Contains(t, parked[0].First.Error, "bad Ann")
			require.Equal(t, 2, parked[0].Events)
			require.ErrorContains(t, g.Retry(ctx, "book", "book-1"), "bad Ann")
			for r, err := range s.ReadAll(ctx, eventstore.Filter{Categories: []string{"$parked.book"}}, 0) {
				require.NoError(t, err)
				require.NotContains(t, string(r.Raw), "Ann")
			}
			require.NoError(t, sealer.Shred(ctx, "ann"))
			letters, err := g.DeadLetters(ctx, "book", "book-1")
			require.NoError(t, err)
			require.Equal(t, eventstore.ErrErased.Error(), letters[0].Error)
			require.Equal(t, 2, letters[0].Attempts)
			require.Empty(t, letters[1].Error, "which was never tried")
			require.NoError(t, g.Retry(ctx, "book", "book-1"))
			require.Equal(t, tt.then, *got)
			parked, err = g.Parked(ctx, "book")
			require.NoError(t, err)
			require.Empty(t, parked)
		})
	}
}
