package eventstore_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

func TestARepeatedConditionalAppendReturnsTheOriginalPosition(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	tags, err := s.Tags()
	require.NoError(t, err)
	to := func(stream eventstore.StreamName, data any, tag ...string) eventstore.To {
		return eventstore.To{Stream: stream, Event: eventstore.Event{ID: eventstore.NewID(), Data: data, Tags: tag}}
	}
	mine := eventstore.Query{{Tags: []string{"name:ann"}}}
	before, err := s.Append(t.Context(), "other-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	events := []eventstore.To{to("a-1", deposits(7)[0].Data, "name:ann"), to("b-1", deposits(8)[0].Data), to("a-1", deposits(9)[0].Data)}
	at, err := tags.Append(t.Context(), mine, before.Position, events...)
	require.NoError(t, err)
	_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(2, 3)...)
	require.NoError(t, err)
	for range 2 {
		again, err := tags.Append(t.Context(), mine, before.Position, events...)
		require.NoError(t, err)
		require.Equal(t, at, again)
	}
	info, err := s.Stream(t.Context(), "a-1")
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Version, "nothing was written twice")

	tests := []struct {
		name   string
		events []eventstore.To
		after  eventstore.Position
		err    error
	}{
		{"others", []eventstore.To{to("a-1", deposits(7)[0].Data, "name:ann")}, before.Position, eventstore.ErrConflict},
		{"others without ids", []eventstore.To{{Stream: "a-1", Event: deposits(7)[0]}}, before.Position, eventstore.ErrConflict},
		{"some of them", []eventstore.To{events[0], to("b-1", deposits(8)[0].Data)}, before.Position, eventstore.ErrDuplicate},
		{"the same ids elsewhere", []eventstore.To{{Stream: "c-1", Event: events[0].Event}}, before.Position, eventstore.ErrConflict},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tags.Append(t.Context(), mine, tt.after, tt.events...)
			require.ErrorIs(t, err, tt.err)
		})
	}
	info, err = s.Stream(t.Context(), "a-1")
	require.NoError(t, err)
	require.EqualValues(t, 4, info.Version)
}

func TestAConditionalAppendThatCannotBeLookedIntoIsUnknown(t *testing.T) {
	t.Parallel()
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	s := open(t, d, nil)
	tags, err := s.Tags()
	require.NoError(t, err)
	e := eventstore.To{Stream: "a-1", Event: eventstore.Event{ID: eventstore.NewID(), Data: deposits(1)[0].Data, Tags: []string{"x"}}}
	mine := eventstore.Query{{Tags: []string{"x"}}}
	at, err := tags.Append(t.Context(), mine, 0, e)
	require.NoError(t, err)
	cut := errors.New("the line is cut")
	faults.Before(eventstoretest.OpReadStream, 1, cut)
	_, err = tags.Append(t.Context(), mine, 0, e)
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	require.ErrorIs(t, err, cut)
	require.NotErrorIs(t, err, eventstore.ErrConflict)
	again, err := tags.Append(t.Context(), mine, 0, e)
	require.NoError(t, err)
	require.Equal(t, at, again)
}
