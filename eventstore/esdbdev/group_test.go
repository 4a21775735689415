package esdbdev_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// settings of a group in tests: checkpoints at once, and quick time-outs where one is given.
func settings(change func(s *esdb.PersistentSubscriptionSettings)) *esdb.PersistentSubscriptionSettings {
	s := esdb.SubscriptionSettingsDefault()
	s.CheckpointLowerBound, s.CheckpointUpperBound = 1, 1
	if change != nil {
		change(&s)
	}
	return &s
}

func (f *fixture) createGroup(t testing.TB, stream, group string, from esdb.StreamPosition, s *esdb.PersistentSubscriptionSettings) {
	t.Helper()
	require.NoError(t, f.CreatePersistentSubscription(t.Context(), stream, group, esdb.PersistentStreamSubscriptionOptions{StartFrom: from, Settings: s}))
}

func (f *fixture) join(t testing.TB, stream, group string, buffer uint32) *esdb.PersistentSubscription {
	t.Helper()
	sub, err := f.SubscribeToPersistentSubscription(t.Context(), stream, group, esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: buffer})
	require.NoError(t, err)
	t.Cleanup(func() { sub.Close() })
	return sub
}

// next returns what a consumer is given next; it fails the test if that is nothing.
func next(t testing.TB, sub *esdb.PersistentSubscription) *esdb.EventAppeared {
	t.Helper()
	e := receive(t, sub)
	if e.EventAppeared == nil {
		require.NoError(t, e.SubscriptionDropped.Error, "the subscription was dropped")
	}
	return e.EventAppeared
}

func receive(t testing.TB, sub *esdb.PersistentSubscription) *esdb.PersistentSubscriptionEvent {
	t.Helper()
	got := make(chan *esdb.PersistentSubscriptionEvent, 1)
	go func() { got <- sub.Recv() }()
	select {
	case e := <-got:
		return e
	case <-within(t).Done():
		t.Fatal("nothing is delivered")
		return nil
	}
}

// gives receives events and acknowledges them.
func gives(t testing.TB, sub *esdb.PersistentSubscription, want ...string) {
	t.Helper()
	for i, w := range want {
		e := next(t, sub)
		require.Equal(t, w, e.Event.OriginalEvent().EventType, "%d", i)
		require.NoError(t, sub.Ack(e.Event))
	}
}

func (f *fixture) info(t testing.TB, stream, group string) *esdb.PersistentSubscriptionInfo {
	t.Helper()
	i, err := f.GetPersistentSubscriptionInfo(t.Context(), stream, group, esdb.GetPersistentSubscriptionOptions{})
	require.NoError(t, err)
	return i
}

// eventually waits for what other goroutines do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 30*time.Second, 2*time.Millisecond, what)
}

func (f *fixture) parked(t testing.TB, stream, group string, n int64) {
	t.Helper()
	eventually(t, fmt.Sprint(n, " parked"), func() bool { return f.info(t, stream, group).Stats.ParkedMessagesCount == n })
}

func TestAGroupDeliversFromWhereItBegins(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		from esdb.StreamPosition
		want []string
	}{
		"start":                       {esdb.Start{}, []string{"a", "b", "c", "d"}},
		"end, as it was at creation":  {esdb.End{}, []string{"d"}},
		"a revision, that included":   {esdb.Revision(1), []string{"b", "c", "d"}},
		"a revision that is to come":  {esdb.Revision(3), []string{"d"}},
		"one that is further to come": {esdb.Revision(4), []string{"e"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, nil)
			f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
			f.createGroup(t, "s-1", "g", row.from, settings(nil))
			f.must(t, "s-1", esdb.Any{}, event("d"))
			sub := f.join(t, "s-1", "g", 2)
			f.must(t, "s-1", esdb.Any{}, event("e"))
			gives(t, sub, row.want...)
		})
	}
}

func TestAGroupGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c", "d")...)
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
	sub := f.join(t, "s-1", "g", 10)
	gives(t, sub, "a", "b")
	eventually(t, "a checkpoint", func() bool {
		r := f.info(t, "s-1", "g").Stats.LastCheckpointedEventRevision
		return r != nil && *r == 1
	})
	require.NoError(t, sub.Close())
	again := f.join(t, "s-1", "g", 10)
	gives(t, again, "c", "d")
}

func TestWhatIsNotAcknowledgedIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(func(s *esdb.PersistentSubscriptionSettings) { s.MessageTimeout = 50 }))
	sub := f.join(t, "s-1", "g", 1)
	e := next(t, sub)
	require.Zero(t, e.RetryCount)
	e = next(t, sub)
	require.Equal(t, "a", e.Event.Event.EventType)
	require.Positive(t, e.RetryCount)
	for e.Event.Event.EventType == "a" { // on a busy machine it may be late again
		require.NoError(t, sub.Ack(e.Event))
		e = next(t, sub)
	}
	require.Equal(t, "b", e.Event.Event.EventType)
}

func TestAConsumerThatLeavesLeavesItsMessagesToOthers(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(func(s *esdb.PersistentSubscriptionSettings) {
		s.ConsumerStrategyName = esdb.ConsumerStrategyDispatchToSingle
	}))
	first := f.join(t, "s-1", "g", 10)
	for range 3 {
		next(t, first)
	}
	second := f.join(t, "s-1", "g", 10)
	require.NoError(t, first.Close())
	gives(t, second, "a", "b", "c")
}

func TestNacks(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		action esdb.NackAction
		check  func(t *testing.T, f *fixture, sub *esdb.PersistentSubscription)
	}{
		"park": {esdb.NackActionPark, func(t *testing.T, f *fixture, sub *esdb.PersistentSubscription) {
			gives(t, sub, "b")
			f.parked(t, "s-1", "g", 1)
			list, err := collect(f.ReadStream(t.Context(), "$persistentsubscription-s-1::g-parked", esdb.ReadStreamOptions{ResolveLinkTos: true}, 10))
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, "a", list[0].Event.EventType)
			require.Equal(t, "0@s-1", string(list[0].Link.Data))
			require.Contains(t, string(list[0].Link.UserMetadata), "because")
		}},
		"retry": {esdb.NackActionRetry, func(t *testing.T, f *fixture, sub *esdb.PersistentSubscription) {
			e := next(t, sub)
			require.Equal(t, "a", e.Event.Event.EventType)
			require.Equal(t, 1, e.RetryCount)
			require.NoError(t, sub.Ack(e.Event))
			gives(t, sub, "b")
		}},
		"unknown": {esdb.NackActionUnknown, func(t *testing.T, f *fixture, sub *esdb.PersistentSubscription) { gives(t, sub, "a", "b") }},
		"skip": {esdb.NackActionSkip, func(t *testing.T, f *fixture, sub *esdb.PersistentSubscription) {
			gives(t, sub, "b")
			require.Zero(t, f.info(t, "s-1", "g").Stats.ParkedMessagesCount)
		}},
		"stop": {esdb.NackActionStop, func(t *testing.T, f *fixture, sub *esdb.PersistentSubscription) {
			require.NotNil(t, receive(t, sub).SubscriptionDropped)
			gives(t, f.join(t, "s-1", "g", 1), "a", "b")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, nil)
			f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
			f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
			sub := f.join(t, "s-1", "g", 1)
			require.NoError(t, sub.Nack("because", row.action, next(t, sub).Event))
			row.check(t, f, sub)
		})
	}
}

func TestAMessageIsParkedAfterItsRetries(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(func(s *esdb.PersistentSubscriptionSettings) { s.MaxRetryCount = 2 }))
	sub := f.join(t, "s-1", "g", 1)
	for i := range 3 {
		e := next(t, sub)
		require.Equal(t, "a", e.Event.Event.EventType)
		require.Equal(t, i, e.RetryCount)
		require.NoError(t, sub.Nack("again", esdb.NackActionRetry, e.Event))
	}
	gives(t, sub, "b")
	f.parked(t, "s-1", "g", 1)
}

func TestParkedMessagesAreReplayed(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
	sub := f.join(t, "s-1", "g", 10)
	for range 3 {
		require.NoError(t, sub.Nack("later", esdb.NackActionPark, next(t, sub).Event))
	}
	f.parked(t, "s-1", "g", 3)
	require.NoError(t, f.ReplayParkedMessages(t.Context(), "s-1", "g", esdb.ReplayParkedMessagesOptions{StopAt: 2}))
	gives(t, sub, "a")
	e := next(t, sub)
	require.Equal(t, "b", e.Event.Event.EventType)
	require.Nil(t, e.Event.Link)
	require.NoError(t, sub.Nack("not yet", esdb.NackActionPark, e.Event))
	f.parked(t, "s-1", "g", 2)
	require.NoError(t, f.ReplayParkedMessages(t.Context(), "s-1", "g", esdb.ReplayParkedMessagesOptions{}))
	gives(t, sub, "c", "b")
	f.parked(t, "s-1", "g", 0)
	eventually(t, "the parked stream is empty", func() bool { return len(f.read(t, "$persistentsubscription-s-1::g-parked")) == 0 })

	// Without a consumer they are for the first that comes.
	f.must(t, "s-1", esdb.Any{}, event("d"))
	require.NoError(t, sub.Nack("later", esdb.NackActionPark, next(t, sub).Event))
	f.parked(t, "s-1", "g", 1)
	require.NoError(t, sub.Close())
	eventually(t, "the consumer has left", func() bool { return len(f.info(t, "s-1", "g").Connections) == 0 })
	require.NoError(t, f.ReplayParkedMessages(t.Context(), "s-1", "g", esdb.ReplayParkedMessagesOptions{}))
	gives(t, f.join(t, "s-1", "g", 10), "d")
}

func TestStrategies(t *testing.T) {
	t.Parallel()
	t.Run("round robin", func(t *testing.T) {
		t.Parallel()
		f := start(t, nil)
		f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
		one, two := f.join(t, "s-1", "g", 10), f.join(t, "s-1", "g", 10)
		f.must(t, "s-1", esdb.Any{}, events("a", "b", "c", "d")...)
		got := []string{}
		for _, sub := range []*esdb.PersistentSubscription{one, two} {
			for range 2 {
				got = append(got, next(t, sub).Event.Event.EventType)
			}
		}
		require.ElementsMatch(t, []string{"a", "b", "c", "d"}, got)
	})
	t.Run("dispatch to single", func(t *testing.T) {
		t.Parallel()
		f := start(t, nil)
		f.createGroup(t, "s-1", "g", esdb.Start{}, settings(func(s *esdb.PersistentSubscriptionSettings) {
			s.ConsumerStrategyName = esdb.ConsumerStrategyDispatchToSingle
		}))
		one, two := f.join(t, "s-1", "g", 2), f.join(t, "s-1", "g", 10)
		f.must(t, "s-1", esdb.Any{}, events("a", "b", "c", "d")...)
		require.Equal(t, "a", next(t, one).Event.Event.EventType)
		require.Equal(t, "b", next(t, one).Event.Event.EventType)
		require.Equal(t, "c", next(t, two).Event.Event.EventType, "the first is full")
		require.Equal(t, "d", next(t, two).Event.Event.EventType)
	})
	t.Run("pinned", func(t *testing.T) {
		t.Parallel()
		f := start(t, nil)
		require.NoError(t, f.CreatePersistentSubscriptionToAll(t.Context(), "g", esdb.PersistentAllSubscriptionOptions{
			StartFrom: esdb.Start{}, Filter: &esdb.SubscriptionFilter{Type: esdb.StreamFilterType, Prefixes: []string{"s-"}}, MaxSearchWindow: 32,
			Settings: settings(func(s *esdb.PersistentSubscriptionSettings) { s.ConsumerStrategyName = esdb.ConsumerStrategyPinned }),
		}))
		who := map[string]int{}
		for i := range 2 {
			sub, err := f.SubscribeToPersistentSubscriptionToAll(t.Context(), "g", esdb.SubscribeToPersistentSubscriptionOptions{BufferSize: 100})
			require.NoError(t, err)
			defer sub.Close()
			go func() {
				for {
					e := sub.Recv()
					if e.EventAppeared == nil {
						return
					}
					ev := e.EventAppeared.Event
					_, _ = f.AppendToStream(context.Background(), "seen", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}},
						event(fmt.Sprint(ev.Event.StreamID, " ", i)))
					_ = sub.Ack(ev)
				}
			}()
		}
		eventually(t, "two consumers", func() bool {
			list, err := f.ListPersistentSubscriptionsToAll(t.Context(), esdb.ListPersistentSubscriptionsOptions{})
			return err == nil && len(list[0].Connections) == 2
		})
		for i := range 40 {
			f.must(t, fmt.Sprint("s-", i%10), esdb.Any{}, event("a"))
		}
		eventually(t, "all", func() bool {
			list, err := collect(f.ReadStream(t.Context(), "seen", esdb.ReadStreamOptions{}, 100))
			return err == nil && len(list) == 40
		})
		consumers := map[string]bool{}
		for _, e := range f.read(t, "seen") {
			stream, consumer, _ := strings.Cut(e.Event.EventType, " ")
			who[stream+consumer]++
			consumers[consumer] = true
		}
		require.Len(t, who, 10, "each stream has one consumer")
		require.Len(t, consumers, 2)
	})
}

func TestAGroupOfEverythingHasAFilterAndLeavesOutItsOwnTraces(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "a-1", esdb.Any{}, event("a"))
	f.must(t, "b-1", esdb.Any{}, event("b"))
	require.NoError(t, f.CreatePersistentSubscriptionToAll(t.Context(), "types", esdb.PersistentAllSubscriptionOptions{
		StartFrom: esdb.Start{}, Settings: settings(nil), MaxSearchWindow: 32, Filter: &esdb.SubscriptionFilter{Type: esdb.EventFilterType, Regex: "^[bc]$"}}))
	require.NoError(t, f.CreatePersistentSubscriptionToAll(t.Context(), "all", esdb.PersistentAllSubscriptionOptions{StartFrom: esdb.End{}, Settings: settings(nil)}))
	typed, err := f.SubscribeToPersistentSubscriptionToAll(t.Context(), "types", esdb.SubscribeToPersistentSubscriptionOptions{})
	require.NoError(t, err)
	defer typed.Close()
	all, err := f.SubscribeToPersistentSubscriptionToAll(t.Context(), "all", esdb.SubscribeToPersistentSubscriptionOptions{})
	require.NoError(t, err)
	defer all.Close()
	f.must(t, "c-1", esdb.Any{}, event("c"))
	f.must(t, "d-1", esdb.Any{}, event("d"))
	gives(t, typed, "b", "c")
	gives(t, all, "$PersistentConfig", "c", "d")
	f.must(t, "e-1", esdb.Any{}, event("e"))
	gives(t, all, "e")
	list, err := f.ListPersistentSubscriptionsToAll(t.Context(), esdb.ListPersistentSubscriptionsOptions{})
	require.NoError(t, err)
	require.Len(t, list, 2)
	eventually(t, "a checkpoint", func() bool {
		i, err := f.GetPersistentSubscriptionInfo(t.Context(), "$all", "types", esdb.GetPersistentSubscriptionOptions{})
		return err == nil && i.Stats.LastCheckpointedPosition != nil && i.Stats.LastKnownPosition != nil
	})
	// What it was acknowledged is not delivered again.
	require.NoError(t, typed.Close())
	typed, err = f.SubscribeToPersistentSubscriptionToAll(t.Context(), "types", esdb.SubscribeToPersistentSubscriptionOptions{})
	require.NoError(t, err)
	defer typed.Close()
	f.must(t, "c-1", esdb.Any{}, event("c"))
	e := next(t, typed)
	require.EqualValues(t, 1, e.Event.Event.EventNumber)
}

func TestGroupsAreManaged(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	ctx := t.Context()
	opts := esdb.PersistentStreamSubscriptionOptions{StartFrom: esdb.Start{}, Settings: settings(func(s *esdb.PersistentSubscriptionSettings) { s.MaxSubscriberCount = 1 })}
	require.NoError(t, f.CreatePersistentSubscription(ctx, "s-1", "g", opts))
	require.Equal(t, esdb.ErrorCodeResourceAlreadyExists, code(f.CreatePersistentSubscription(ctx, "s-1", "g", opts)))
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(f.UpdatePersistentSubscription(ctx, "s-1", "none", opts)))
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(f.DeletePersistentSubscription(ctx, "s-1", "none", esdb.DeletePersistentSubscriptionOptions{})))
	_, err := f.SubscribeToPersistentSubscription(ctx, "s-1", "none", esdb.SubscribeToPersistentSubscriptionOptions{})
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err))
	_, err = f.ListPersistentSubscriptionsForStream(ctx, "none", esdb.ListPersistentSubscriptionsOptions{})
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err))

	for stream, group := range map[string]string{"$all": "g", "s-1": ""} {
		require.ErrorContains(t, f.CreatePersistentSubscription(ctx, stream, group, opts), "InvalidArgument")
	}
	negative := opts
	negative.Settings = settings(func(s *esdb.PersistentSubscriptionSettings) { s.MaxRetryCount = -1 })
	require.ErrorContains(t, f.CreatePersistentSubscription(ctx, "s-2", "g", negative), "negative")

	info := f.info(t, "s-1", "g")
	require.Equal(t, "s-1", info.EventSource)
	require.Equal(t, "g", info.GroupName)
	require.Equal(t, "Live", info.Status)
	require.Equal(t, esdb.Start{}, info.Settings.StartFrom)
	require.EqualValues(t, 500, info.Settings.HistoryBufferSize)
	require.Equal(t, esdb.ConsumerStrategyRoundRobin, info.Settings.ConsumerStrategyName)
	require.Empty(t, info.Connections)

	sub := f.join(t, "s-1", "g", 7)
	_, err = f.SubscribeToPersistentSubscription(ctx, "s-1", "g", esdb.SubscribeToPersistentSubscriptionOptions{})
	require.ErrorContains(t, err, "as many consumers")
	f.must(t, "s-1", esdb.Any{}, event("a"))
	next(t, sub)
	info = f.info(t, "s-1", "g")
	require.Len(t, info.Connections, 1)
	require.EqualValues(t, 1, info.Connections[0].InFlightMessages)
	require.EqualValues(t, 6, info.Connections[0].AvailableSlots)
	require.EqualValues(t, 1, info.Stats.TotalItems)

	opts.Settings.MaxRetryCount = 3
	require.NoError(t, f.UpdatePersistentSubscription(ctx, "s-1", "g", opts))
	require.NotNil(t, receive(t, sub).SubscriptionDropped, "updating drops consumers")
	require.EqualValues(t, 3, f.info(t, "s-1", "g").Settings.MaxRetryCount)
	sub = f.join(t, "s-1", "g", 1)
	gives(t, sub, "a")
	eventually(t, "a checkpoint", func() bool { return f.info(t, "s-1", "g").Stats.LastCheckpointedEventRevision != nil })

	require.NoError(t, f.RestartPersistentSubscriptionSubsystem(ctx, esdb.RestartPersistentSubscriptionSubsystemOptions{}))
	require.NotNil(t, receive(t, sub).SubscriptionDropped)
	sub = f.join(t, "s-1", "g", 1)
	all, err := f.ListAllPersistentSubscriptions(ctx, esdb.ListPersistentSubscriptionsOptions{})
	require.NoError(t, err)
	require.Len(t, all, 1)

	require.NoError(t, f.DeletePersistentSubscription(ctx, "s-1", "g", esdb.DeletePersistentSubscriptionOptions{}))
	require.NotNil(t, receive(t, sub).SubscriptionDropped)
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(f.DeletePersistentSubscription(ctx, "s-1", "g", esdb.DeletePersistentSubscriptionOptions{})))
	require.NoError(t, f.CreatePersistentSubscription(ctx, "s-1", "g", opts))
	gives(t, f.join(t, "s-1", "g", 1), "a") // from the beginning: its checkpoint went with it
}

func TestGroupsAndCheckpointsSurviveARestartOverAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.db")
	run := func(fn func(f *fixture)) {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(t, err)
		s, err := esdbdev.New(store, nil)
		require.NoError(t, err)
		require.NoError(t, s.Start("127.0.0.1:0"))
		cfg, err := esdb.ParseConnectionString(s.URL())
		require.NoError(t, err)
		cfg.Logger = esdb.NoopLogging()
		c, err := esdb.NewClient(cfg)
		require.NoError(t, err)
		fn(&fixture{c, s, store})
		require.NoError(t, c.Close())
		require.NoError(t, s.Close())
		require.NoError(t, store.Close())
	}
	var position uint64
	var list []esdb.EventData
	run(func(f *fixture) {
		list = events("a", "b", "c")
		position = f.must(t, "s-1", esdb.Any{}, list...).CommitPosition
		f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
		sub := f.join(t, "s-1", "g", 1)
		gives(t, sub, "a")
		require.NoError(t, sub.Nack("later", esdb.NackActionPark, next(t, sub).Event))
		f.parked(t, "s-1", "g", 1)
		eventually(t, "a checkpoint", func() bool {
			r := f.info(t, "s-1", "g").Stats.LastCheckpointedEventRevision
			return r != nil && *r == 1
		})
		require.NoError(t, sub.Close())
		_, err := f.TombstoneStream(t.Context(), "gone", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
		require.NoError(t, err)
	})
	run(func(f *fixture) {
		require.Equal(t, position, f.must(t, "s-1", esdb.Any{}, list...).CommitPosition, "the same append, and the same position")
		require.EqualValues(t, 1, f.info(t, "s-1", "g").Stats.ParkedMessagesCount)
		sub := f.join(t, "s-1", "g", 10)
		gives(t, sub, "c")
		require.NoError(t, f.ReplayParkedMessages(t.Context(), "s-1", "g", esdb.ReplayParkedMessagesOptions{}))
		gives(t, sub, "b")
		_, err := collect(f.ReadStream(t.Context(), "gone", esdb.ReadStreamOptions{}, 1))
		require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
		require.NoError(t, sub.Close())
	})
}

func TestLinksAreResolvedForGroupsThatWantIt(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	f.must(t, "links", esdb.Any{}, esdb.EventData{EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte("1@s-1")})
	f.createGroup(t, "links", "g", esdb.Start{}, settings(func(s *esdb.PersistentSubscriptionSettings) { s.ResolveLinkTos = true }))
	sub := f.join(t, "links", "g", 1)
	e := next(t, sub)
	require.Equal(t, "b", e.Event.Event.EventType)
	require.Equal(t, "links", e.Event.Link.StreamID)
	require.NoError(t, sub.Ack(e.Event), "by the id of the link")
	f.must(t, "links", esdb.Any{}, esdb.EventData{EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte("0@s-1")})
	require.Equal(t, "a", next(t, sub).Event.Event.EventType)
}

func TestConsumersCanBeDroppedAndAFollowerHasNone(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
	sub := f.join(t, "s-1", "g", 1)
	f.server.DropSubscriptions(status.Error(codes.Aborted, "enough"))
	require.ErrorContains(t, receive(t, sub).SubscriptionDropped.Error, "enough")
	f.must(t, "s-1", esdb.Any{}, event("a"))
	gives(t, f.join(t, "s-1", "g", 1), "a")
	for i := range 20 { // whoever comes while others are still on their way out is served
		f.join(t, "s-1", "g", 1)
		f.server.DropSubscriptions(nil)
		last := f.join(t, "s-1", "g", 1)
		f.must(t, "s-1", esdb.Any{}, event(fmt.Sprint(i)))
		for { // an acknowledgement may be too late for the one who leaves
			e := next(t, last).Event
			require.NoError(t, last.Ack(e))
			if e.Event.EventType == fmt.Sprint(i) {
				break
			}
		}
		require.NoError(t, last.Close())
	}

	require.NoError(t, f.server.SetRole(t.Context(), esdbdev.Role{Leader: "127.0.0.1:1"}))
	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodPersistentManage, Times: 1, Err: status.Error(codes.Aborted, "x")})
	err := f.CreatePersistentSubscription(t.Context(), "s-1", "h", esdb.PersistentStreamSubscriptionOptions{})
	require.Equal(t, esdb.ErrorAborted, code(err))
	err = f.CreatePersistentSubscription(t.Context(), "s-1", "h", esdb.PersistentStreamSubscriptionOptions{})
	require.Equal(t, esdb.ErrorCodeNotLeader, code(err))
}
