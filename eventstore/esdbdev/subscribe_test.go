package esdbdev_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// said returns what a subscription says next, in short: the type of an event, or
// "caught up", "fell behind", "at N", N being the events before a checkpoint, or
// "dropped".
func said(t testing.TB, sub *esdb.Subscription, positions map[uint64]int) string {
	t.Helper()
	got := make(chan *esdb.SubscriptionEvent, 1)
	go func() { got <- sub.Recv() }()
	select {
	case e := <-got:
		switch {
		case e.EventAppeared != nil:
			return e.EventAppeared.OriginalEvent().EventType
		case e.CaughtUp != nil:
			return "caught up"
		case e.FellBehind != nil:
			return "fell behind"
		case e.CheckPointReached != nil:
			return fmt.Sprint("at ", positions[e.CheckPointReached.Commit])
		}
		return "dropped: " + e.SubscriptionDropped.Error.Error()
	case <-within(t).Done():
		t.Fatal("the subscription says nothing")
		return ""
	}
}

func says(t testing.TB, sub *esdb.Subscription, want ...string) {
	t.Helper()
	for i, w := range want {
		require.Equal(t, w, said(t, sub, nil), "%d", i)
	}
}

func TestASubscriptionToAStreamGoesFromHistoryToWhatIsAppended(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
	f.must(t, "other-1", esdb.Any{}, event("x"))
	for name, row := range map[string]struct {
		from esdb.StreamPosition
		want []string
	}{
		"start":                         {esdb.Start{}, []string{"a", "b", "c", "caught up", "d"}},
		"end":                           {esdb.End{}, []string{"caught up", "d"}},
		"after a revision, without it":  {esdb.Revision(1), []string{"c", "caught up", "d"}},
		"after the last":                {esdb.Revision(2), []string{"caught up", "d"}},
		"after what is not there yet":   {esdb.Revision(3), []string{"caught up", "e"}},
		"after what will never be, yet": {esdb.Revision(4), []string{"caught up"}},
	} {
		t.Run(name, func(t *testing.T) {
			// The appends below are for all of them.
			sub, err := f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: row.from})
			require.NoError(t, err)
			defer sub.Close()
			n := len(row.want)
			for i, w := range row.want {
				if w == "caught up" {
					n = i + 1
				}
			}
			says(t, sub, row.want[:n]...)
			f2 := start(t, nil) // its own appends, so that the rows do not meet
			f2.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
			sub2, err := f2.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: row.from})
			require.NoError(t, err)
			defer sub2.Close()
			says(t, sub2, row.want[:n]...)
			f2.must(t, "other-1", esdb.Any{}, event("x"))
			f2.must(t, "s-1", esdb.Any{}, event("d"))
			f2.must(t, "s-1", esdb.Any{}, event("e"))
			says(t, sub2, row.want[n:]...)
		})
	}
}

func TestASubscriptionToAStreamThatIsNotThereWaitsForIt(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	sub, err := f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "caught up")
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	says(t, sub, "a", "b")
	_, err = f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	f.must(t, "s-1", esdb.NoStream{}, event("c"))
	says(t, sub, "c")
}

func TestASubscriptionThatLooksWhileAStreamIsReopenedMissesNothing(t *testing.T) {
	t.Parallel()
	const metadata = "$esdb-$$s-1"
	var looks atomic.Int64 // at the metadata: the append's own, and then the subscription's
	looks.Store(-1 << 32)
	looked := make(chan struct{})
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Trace: &eventstore.Trace{
		ReadStart: func(ctx context.Context, i eventstore.ReadInfo) context.Context {
			if i.Stream == metadata && looks.Add(1) == 2 {
				close(looked)
			}
			return ctx
		},
		AppendStart: func(ctx context.Context, i eventstore.AppendInfo) context.Context {
			if i.Stream == metadata && looks.Load() > 0 { // the events are there, and cannot be read yet
				<-looked
			}
			return ctx
		},
	}}})
	t.Cleanup(func() { store.Close() })
	s := serve(t, store, nil)
	f := &fixture{connect(t, s.URL()), s, store}
	f.must(t, "s-1", esdb.Any{}, event("a"))
	_, err := f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	sub, err := f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "caught up")
	looks.Store(0)
	f.must(t, "s-1", esdb.NoStream{}, event("b"))
	says(t, sub, "b")
}

func TestATombstoneEndsSubscriptionsToItsStream(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	sub, err := f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "a", "caught up")
	_, err = f.TombstoneStream(t.Context(), "s-1", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	require.Contains(t, said(t, sub, nil), "is deleted")
	_, err = f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
}

func TestASubscriptionToEverythingResumesAfterAPosition(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	r := f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	f.must(t, "s-2", esdb.Any{}, event("c"))
	sub, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Position{Commit: r.CommitPosition, Prepare: r.PreparePosition}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "c", "caught up")
	f.must(t, "s-3", esdb.Any{}, event("d"))
	says(t, sub, "d")
	end, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.End{}})
	require.NoError(t, err)
	defer end.Close()
	says(t, end, "caught up")
	f.must(t, "s-3", esdb.Any{}, event("e"))
	says(t, end, "e")
	says(t, sub, "e")
}

func TestFiltersSelectByStreamOrTypeAndCheckpointsTellTheRest(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		filter   *esdb.SubscriptionFilter
		window   int
		interval int
		want     []string
	}{
		"streams by prefix": {&esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"odd", "none"}}, 100, 1,
			[]string{"e1", "e3", "e5", "e7", "e9", "at 10", "caught up"}},
		"streams by regular expression": {&esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "^even-"}, 100, 1,
			[]string{"e0", "e2", "e4", "e6", "e8", "at 10", "caught up"}},
		"types by prefix": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"e7", "e8"}}, 100, 1,
			[]string{"e7", "e8", "at 10", "caught up"}},
		"types by regular expression": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "[12]$"}, 100, 1,
			[]string{"e1", "e2", "at 10", "caught up"}},
		"no system events": {esdb.ExcludeSystemEventsFilter(), 100, 1,
			[]string{"e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9", "at 10", "caught up"}},
		"a window of three": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"e4"}}, 3, 1,
			[]string{"at 3", "e4", "at 6", "at 9", "at 10", "caught up"}},
		"every second window": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"e4"}}, 2, 2,
			[]string{"at 4", "e4", "at 8", "at 10", "caught up"}},
		"no window": {&esdb.SubscriptionFilter{Type: esdb.EventFilterType, Prefixes: []string{"nothing"}}, esdb.NoMaxSearchWindow, 1,
			[]string{"at 10", "caught up"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, nil)
			at := map[uint64]int{}
			for i := range 10 {
				r := f.must(t, []string{"even-1", "odd-1"}[i%2], esdb.Any{}, event(fmt.Sprint("e", i)))
				at[r.CommitPosition] = i + 1
			}
			sub, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: row.filter,
				MaxSearchWindow: row.window, CheckpointInterval: row.interval})
			require.NoError(t, err)
			defer sub.Close()
			for i, w := range row.want {
				require.Equal(t, w, said(t, sub, at), "%d", i)
			}
		})
	}
}

func TestAFilterThatGoCannotReadIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	_, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Regex: "(?!x)"}})
	require.ErrorContains(t, err, "regular expression")
}

func TestASlowSubscriberIsToldThatItFellBehind(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	sub, err := f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "caught up")
	var list []esdb.EventData
	for range 600 {
		list = append(list, event("a"))
	}
	f.must(t, "s-1", esdb.Any{}, list...)
	for range 500 {
		says(t, sub, "a")
	}
	says(t, sub, "fell behind")
	for range 100 {
		says(t, sub, "a")
	}
	says(t, sub, "caught up")
}

func TestSubscriptionsCanBeDropped(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	sub, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "caught up")
	f.server.DropSubscriptions(status.Error(codes.Aborted, "enough"))
	require.Contains(t, said(t, sub, nil), "enough")
	again, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer again.Close()
	says(t, again, "caught up")
}
