package appends_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
)

func TestEventsOfOneStreamInARowAreOneAppend(t *testing.T) {
	t.Parallel()
	e := func(stream, typ string) driver.StreamEvent {
		return driver.StreamEvent{Stream: stream, Event: driver.Event{Type: typ}}
	}
	as := appends.Runs([]driver.StreamEvent{e("a", "1"), e("a", "2"), e("b", "3"), e("a", "4")})
	require.Equal(t, []driver.Append{
		{Stream: "a", Events: []driver.Event{{Type: "1"}, {Type: "2"}}},
		{Stream: "b", Events: []driver.Event{{Type: "3"}}},
		{Stream: "a", Events: []driver.Event{{Type: "4"}}},
	}, as)
	require.Equal(t, 4, appends.Events(as))
	require.Empty(t, appends.Runs(nil))
}

func TestResultsOfAppendsTellOfAllTheirEvents(t *testing.T) {
	t.Parallel()
	now := time.Now()
	as := []driver.Append{
		{Stream: "a", Events: []driver.Event{{Type: "1", Tags: []string{}, Metadata: map[string]string{}}, {Type: "2", Tags: []string{"x"}}}},
		{Stream: "b", Events: []driver.Event{{Type: "3"}}},
	}
	results := []driver.Result{
		{Version: 7, Positions: []uint64{11, 12}, Last: 12, Time: now},
		{Version: 1, Positions: []uint64{13}, Last: 13, Time: now},
	}
	require.Equal(t, []driver.Recorded{
		{Event: driver.Event{Type: "1"}, Stream: "a", Version: 6, Position: 11, Time: now},
		{Event: driver.Event{Type: "2", Tags: []string{"x"}}, Stream: "a", Version: 7, Position: 12, Time: now},
		{Event: driver.Event{Type: "3"}, Stream: "b", Version: 1, Position: 13, Time: now},
	}, appends.Recorded(as, results))
	require.Equal(t, driver.Result{Version: 1, Positions: []uint64{11, 12, 13}, Last: 13, Time: now}, appends.Join(results))
	require.Zero(t, appends.Join(nil))
}

func TestOnlyConflictsWithWhatWasNotCommittedAreTakenBack(t *testing.T) {
	t.Parallel()
	failed, own := errors.New("failed"), errors.New("its own")
	early, late, other := &driver.ConflictError{Actual: 1}, &driver.ConflictError{Actual: 2}, &driver.ConflictError{Actual: 3}
	as := []driver.Append{{Stream: "a"}, {Stream: "a"}, {Stream: "a"}, {Stream: "a"}, {Stream: "b"}}
	results := []driver.Result{{Err: early}, {Version: 2, Last: 9}, {Err: late}, {Err: own}, {Err: other}}
	appends.Fail(as, results, failed)
	require.Equal(t, []driver.Result{{Err: early}, {Err: failed}, {Err: failed}, {Err: own}, {Err: other}}, results)
}
