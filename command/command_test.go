package command_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/stretchr/testify/require"
)

type ping struct{ ID string }

func (p ping) AggregateID() string { return p.ID }

// capture returns a handler that keeps the last envelope.
func capture(e **command.Envelope) command.Handler {
	return command.HandlerFunc(func(_ context.Context, got *command.Envelope) (command.Result, error) {
		*e = got
		return command.Result{Version: 1, Position: 7}, nil
	})
}

func TestDispatchRefusesWhatCannotBeCarried(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		cmd  command.Command
		opts []command.Option
	}{
		{"nil command", nil, nil},
		{"reserved metadata", ping{"a"}, []command.Option{command.Meta("$key", "x")}},
		{"empty metadata key", ping{"a"}, []command.Option{command.Meta("", "x")}},
		{"metadata key not UTF-8", ping{"a"}, []command.Option{command.Meta("\xff", "x")}},
		{"metadata value not UTF-8", ping{"a"}, []command.Option{command.Meta("x", "\xff")}},
		{"empty key", ping{"a"}, []command.Option{command.Once("")}},
		{"nil command with an empty key", nil, []command.Option{command.Once("")}},
		{"long key", ping{"a"}, []command.Option{command.Once(strings.Repeat("k", 256))}},
		{"key not UTF-8", ping{"a"}, []command.Option{command.Once("\xff")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) {
				t.Error("it reached the handler")
				return command.Result{}, nil
			})
			_, err := command.Dispatch(t.Context(), h, tt.cmd, tt.opts...)
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			_, err = command.Submit(t.Context(), h, tt.cmd, tt.opts...).Wait(t.Context())
			require.ErrorIs(t, err, eventstore.ErrInvalid)
		})
	}
}

func TestOptionsFillTheEnvelope(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	key := strings.Repeat("k", 255)
	res, err := command.Dispatch(t.Context(), capture(&e), ping{"a"},
		command.Once(key), command.Meta("ip", "::1"), command.Meta("by", "ann"),
		command.At(eventstore.Exactly(41)), command.Wait("logs", "rooms"))
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(7), res.Position)
	require.Equal(t, ping{"a"}, e.Command)
	require.Equal(t, key, e.Key)
	require.Equal(t, map[string]string{"ip": "::1", "by": "ann"}, e.Metadata)
	require.Equal(t, eventstore.Exactly(41), e.Expected)
	require.Equal(t, &command.Await{Names: []string{"logs", "rooms"}}, e.Await)
}

func TestCommandBeginsAConversationOrContinuesTheEventsBeingHandled(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	h := capture(&e)
	_, err := command.Dispatch(t.Context(), h, ping{"a"})
	require.NoError(t, err)
	require.NotZero(t, e.ID)
	require.Equal(t, e.ID, e.Correlation)
	require.Zero(t, e.Causation)

	r := &eventstore.Recorded{Event: eventstore.Event{ID: eventstore.NewID(), Correlation: eventstore.NewID(), Metadata: map[string]string{"$key": "k", "ip": "::1"}}}
	ctx := eventstore.NewContext(t.Context(), r)
	_, err = command.Dispatch(ctx, h, ping{"a"})
	require.NoError(t, err)
	require.Equal(t, r.Correlation, e.Correlation)
	require.Equal(t, r.ID, e.Causation)
	require.NotEqual(t, r.ID, e.ID)
	require.Empty(t, e.Metadata, "metadata is said of one event, not of a conversation")

	r = &eventstore.Recorded{Event: eventstore.Event{ID: eventstore.NewID()}}
	_, err = command.Dispatch(eventstore.NewContext(t.Context(), r), h, ping{"a"})
	require.NoError(t, err)
	require.Equal(t, r.ID, e.Correlation, "an event without a conversation begins one")

	explicit := func(e *command.Envelope) { e.Correlation = eventstore.ID{1} }
	_, err = command.Dispatch(ctx, h, ping{"a"}, explicit)
	require.NoError(t, err)
	require.Equal(t, eventstore.ID{1}, e.Correlation)
	require.Equal(t, eventstore.FromContext(ctx).ID, e.Causation)
}

func TestPanicErrorIsTheErrorItPanickedWith(t *testing.T) {
	t.Parallel()
	cause := errors.New("oh")
	err := error(command.NewPanicError(cause))
	require.ErrorIs(t, err, cause)
	require.EqualError(t, err, "command: panic: oh")
	err = command.NewPanicError("text")
	require.Nil(t, errors.Unwrap(err))
	p, ok := errors.AsType[*command.PanicError](err)
	require.True(t, ok)
	require.Contains(t, string(p.Stack), "command_test.go")
}
