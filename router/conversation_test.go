package router_test

import (
	"context"
	"testing"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/router"
	"github.com/stretchr/testify/require"
)

type rung struct{ Bell string }

type ring struct{ Bell string }

func (c ring) AggregateID() string { return c.Bell }

type ringTwice struct{ Bell string }

func (c ringTwice) AggregateID() string { return c.Bell }

func TestWhatAFuncDoesBelongsToItsCommand(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	require.NoError(t, s.Types.Register("rung", rung{}))
	var r router.Router
	var envelopes []*command.Envelope
	r.Handle(
		router.Func(func(ctx context.Context, c ring, e *command.Envelope) (command.Result, error) {
			envelopes = append(envelopes, e)
			at, err := s.Append(ctx, "bell", eventstore.Any, eventstore.Event{Data: rung(c)})
			return command.Result{Position: at.Position}, err
		}),
		router.Func(func(ctx context.Context, c ringTwice, e *command.Envelope) (command.Result, error) {
			envelopes = append(envelopes, e)
			if _, err := command.Dispatch(ctx, &r, ring(c)); err != nil {
				return command.Result{}, err
			}
			return command.Dispatch(ctx, &r, ring(c))
		}),
	)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	// An event is being handled when the command comes: that is the command's cause, not its events'.
	handled := &eventstore.Recorded{Event: eventstore.Event{ID: eventstore.NewID(), Correlation: eventstore.NewID(),
		Metadata: map[string]string{eventstore.TraceParent: parent}}}
	_, err := command.Dispatch(eventstore.NewContext(t.Context(), handled), &r, ringTwice{"big"})
	require.NoError(t, err)

	require.Len(t, envelopes, 3)
	outer := envelopes[0]
	require.Equal(t, handled.ID, outer.Causation)
	n := 0
	for e, err := range s.ReadStream(t.Context(), "bell", 0) {
		require.NoError(t, err)
		n++
		require.Equal(t, outer.ID, envelopes[n].Causation)
		require.Equal(t, envelopes[n].ID, e.Causation)
		require.Equal(t, handled.Correlation, e.Correlation)
		require.Equal(t, parent, e.Metadata[eventstore.TraceParent])
	}
	require.Equal(t, 2, n)
}
