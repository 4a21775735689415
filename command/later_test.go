package command_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/router"
	"github.com/stretchr/testify/require"
)

func TestACommandForLaterCarriesItsTimeKeyAndMetadata(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	at := time.Now().Add(time.Hour)
	_, err := command.DispatchAt(t.Context(), capture(&e), at, ping{"a"}, command.Once("k"), command.Meta("by", "ann"))
	require.NoError(t, err)
	require.Equal(t, command.Later{Command: ping{"a"}, At: at}, e.Command)
	require.Equal(t, "a", e.Command.AggregateID())
	require.Equal(t, "k", e.Key)
	require.Equal(t, "ann", e.Metadata["by"])

	_, err = command.DispatchAfter(t.Context(), capture(&e), time.Minute, ping{"a"})
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Minute), e.Command.(command.Later).At, time.Minute/2)

	require.NoError(t, command.CancelScheduled(t.Context(), capture(&e), "k"))
	require.Equal(t, command.Withdraw{Key: "k"}, e.Command)
	require.Equal(t, "k", e.Command.AggregateID())
}

func TestCommandsForLaterThatNothingKeepsAreErrors(t *testing.T) {
	t.Parallel()
	var r router.Router
	_, err := command.DispatchAt(t.Context(), &r, time.Now(), ping{"a"})
	require.ErrorIs(t, err, command.ErrNoScheduler)
	require.ErrorIs(t, command.CancelScheduled(t.Context(), &r, "k"), command.ErrNoScheduler)
	var e *command.Envelope
	_, err = command.DispatchAt(t.Context(), capture(&e), time.Now(), nil)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorIs(t, command.CancelScheduled(t.Context(), capture(&e), ""), eventstore.ErrInvalid)
	require.Nil(t, e)
	refused := errors.New("refused")
	failing := command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) { return command.Result{}, refused })
	_, err = command.DispatchAt(t.Context(), failing, time.Now(), ping{"a"})
	require.ErrorIs(t, err, refused)
	require.NotErrorIs(t, err, command.ErrNoScheduler)
}

func TestWhatCannotBeKeptForLaterIsRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	h := command.Chain(capture(&e), command.Awaiting(nil))
	for name, opt := range map[string]command.Option{"Wait": command.Wait(), "At": command.At(eventstore.NoStream)} {
		_, err := command.DispatchAfter(t.Context(), h, time.Minute, ping{"a"}, opt)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.ErrorContains(t, err, name)
	}
	require.Nil(t, e)
}
