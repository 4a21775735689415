package natsstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/projection"
)

// TestALoadThroughANodeThatDoesNotLeadIsNeverStale appends, to one stream or to
// two, and loads in turns: of direct gets some in a hundred would be stale.
func TestALoadThroughANodeThatDoesNotLeadIsNeverStale(t *testing.T) {
	t.Parallel()
	pairs := 3000
	if raceEnabled && !soak() {
		pairs = 600
	}
	nodes := natstest.Shared(t, 3)
	a, err := open(t.Context(), nodes.Connect(t), &Options{Name: fresh(), Replicas: 3, Timeout: time.Minute})
	require.NoError(t, err)
	defer a.Close()
	leader := nodes.Leader(t, a.opt.Name)
	b, err := open(t.Context(), nodes.Other(leader).Connect(t), &Options{Name: a.opt.Name, Timeout: time.Minute})
	require.NoError(t, err)
	defer b.Close()
	c, err := open(t.Context(), leader.Connect(t), &Options{Name: a.opt.Name, Timeout: time.Minute})
	require.NoError(t, err)
	defer c.Close()
	version := map[string]uint64{}
	for i := range pairs {
		streams := []string{fmt.Sprintf("s-%d", i%10)}
		writer := b
		if i%2 == 0 {
			writer = c // another node
		}
		if i%4 < 3 {
			version[streams[0]] = must(t, writer, streams[0], driver.Any, 1).Version
		} else {
			streams = append(streams, fmt.Sprintf("s-%d", (i+3)%10))
			for k, r := range mustAll(t, writer, to(streams[0], driver.Any, 1), to(streams[1], driver.Any, 2)) {
				version[streams[k]] = r.Version
			}
		}
		for _, stream := range streams {
			info, err := b.Stream(t.Context(), stream)
			require.NoError(t, err)
			require.Equal(t, version[stream], info.Version)
			list, err := b.ReadStream(t.Context(), stream, 0, driver.Backward, 3)
			require.NoError(t, err)
			require.Equal(t, version[stream], list[0].Version)
		}
	}
	chained(t, b)
	require.Equal(t, pairs/4, entire(t, b))
}

func TestTwoHundredBatchesAtOnceAllSucceed(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			t.Parallel()
			nodes := natstest.Shared(t, n)
			name := fresh()
			// Two processes: the limit of the server counts all, the one here its own.
			var stores []*store
			for range 2 {
				s, err := open(t.Context(), nodes.Connect(t), &Options{Name: name, Timeout: time.Minute})
				require.NoError(t, err)
				defer s.Close()
				stores = append(stores, s)
			}
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() {
					r := stores[i%2].Append(t.Context(), driver.Append{Stream: fmt.Sprintf("s-%d", i), Expected: driver.NoStream, Events: newEvents(2 + i%5)})
					if r.Err != nil {
						t.Error(r.Err)
					}
				})
			}
			all.Wait()
			want := 0
			for i := range 200 {
				want += 2 + i%5
			}
			require.Len(t, readAll(t, stores[0], driver.Filter{}, driver.Forward, 1000), want)
		})
	}
}

func TestABatchThatIsAbandonedLeavesNothing(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	must(t, s, "a-1", driver.NoStream, 1)
	st, err := s.leader(t.Context(), "a-1")
	require.NoError(t, err)
	list := st.messages(s.space.of("a-1"), newNonce(), newEvents(3))
	for i, m := range list[:2] {
		m.Header.Set(headerBatchID, "abandoned")
		m.Header.Set(headerBatchSequence, fmt.Sprint(i+1))
		require.NoError(t, s.log.nc.PublishMsg(m))
	}
	require.NoError(t, s.log.nc.Flush())
	require.Equal(t, uint64(4), must(t, s, "a-1", 1, 3).Version)
	require.Len(t, scan(t, s), 4)
}

// TestNoAcknowledgedEventIsLostWhenServersAreKilled kills leader and followers
// while writers append, and compares what was acknowledged with what there is.
func TestNoAcknowledgedEventIsLostWhenServersAreKilled(t *testing.T) {
	t.Parallel()
	// A leader is replaced within some seconds, before which the writers wait.
	kills, apart := 3, time.Second
	if soak() {
		kills, apart = 20, 10*time.Second
	}
	disturb(t, kills, apart, soak() && os.Getenv("LEVADA_NATS_SYNC") == "always", func(n *natstest.Node) { n.Kill(t) })
}

// TestARollingRestartLosesNothing stops and starts one server after the other, in
// good order.
func TestARollingRestartLosesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three servers are restarted")
	}
	disturb(t, 3, time.Second, false, func(n *natstest.Node) { n.Stop(t) })
}

// disturb has 12 writers append to 60 streams, a quarter of the times several
// events, half of those to several streams at once, while servers end and are
// started again.
func disturb(t *testing.T, times int, apart time.Duration, syncAlways bool, end func(*natstest.Node)) {
	nodes := natstest.Processes(t, 3, syncAlways)
	name := fresh()
	type event struct {
		id       eventstore.ID
		position uint64
	}
	var mu sync.Mutex
	acknowledged := map[string]map[uint64]event{} // by stream and version
	var several [][]driver.Append                 // all that were tried to several streams
	var count, atomics, unknown, failed atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var writers sync.WaitGroup
	for range 12 {
		s, err := open(t.Context(), nodes.Connect(t), &Options{Name: name, Replicas: 3, Timeout: 30 * time.Second})
		require.NoError(t, err)
		defer s.Close()
		writers.Go(func() {
			for ctx.Err() == nil {
				var as []driver.Append
				switch k := rand.IntN(8); k {
				case 0:
					first, step := rand.IntN(60), 1+rand.IntN(14) // no stream twice, any order
					for i := range 2 + rand.IntN(3) {
						as = append(as, to(fmt.Sprintf("s-%d", (first+i*step)%60), driver.Any, 1+rand.IntN(3)))
					}
				case 1:
					as = []driver.Append{to(fmt.Sprintf("s-%d", rand.IntN(60)), driver.Any, 2+rand.IntN(4))}
				default:
					as = []driver.Append{to(fmt.Sprintf("s-%d", rand.IntN(60)), driver.Any, 1)}
				}
				// Not ctx: each append is let end.
				var results []driver.Result
				var err error
				if len(as) == 1 {
					r := s.Append(context.Background(), as[0])
					results, err = []driver.Result{r}, r.Err
				} else {
					results, err = s.AppendAtomic(context.Background(), as, nil)
					mu.Lock()
					several = append(several, as)
					mu.Unlock()
				}
				switch {
				case err == nil:
					mu.Lock()
					for i, a := range as {
						r := results[i]
						if acknowledged[a.Stream] == nil {
							acknowledged[a.Stream] = map[uint64]event{}
						}
						for k, e := range a.Events {
							v := r.Version - uint64(len(a.Events)-1-k)
							if _, twice := acknowledged[a.Stream][v]; twice {
								t.Errorf("version %d of %s was acknowledged twice", v, a.Stream)
							}
							acknowledged[a.Stream][v] = event{e.ID, r.Positions[k]}
						}
						count.Add(int64(len(a.Events)))
					}
					mu.Unlock()
					if len(as) > 1 {
						atomics.Add(1)
					}
				case errors.Is(err, driver.ErrOutcomeUnknown):
					unknown.Add(1)
				default:
					failed.Add(1)
					t.Errorf("an append failed: %v", err)
				}
			}
		})
	}
	progress := func(n int64) {
		from, several := count.Load(), atomics.Load()
		require.Eventually(t, func() bool { return count.Load() >= from+n && atomics.Load() > several }, 2*time.Minute, time.Millisecond, "no append is acknowledged")
	}
	progress(200)
	for i := range times {
		victim := nodes.Node(i % 3)
		if leader := nodes.Leader(t, name); i%2 == 0 {
			victim = leader
		} else if victim == leader {
			victim = nodes.Other(leader)
		}
		began := time.Now()
		end(victim)
		require.Eventually(t, func() bool { return time.Since(began) >= apart }, time.Minute, 10*time.Millisecond)
		progress(20) // two of three go on
		paused := time.Since(began)
		victim.Start(t)
		nodes.Wait(t)
		progress(50)
		t.Logf("%s was away for %v", victim.Name(), paused.Round(time.Millisecond))
	}
	stop()
	writers.Wait()

	s, err := open(t.Context(), nodes.Connect(t), &Options{Name: name, Timeout: time.Minute})
	require.NoError(t, err)
	defer s.Close()
	last, _, err := s.lastSeq(t.Context())
	require.NoError(t, err)
	log := readAll(t, s, driver.Filter{}, driver.Forward, 1000)
	require.Equal(t, last, log[len(log)-1].Position, "the whole log was read")
	versions := map[string]uint64{}
	positions := map[eventstore.ID]uint64{}
	found := 0
	for _, e := range log {
		versions[e.Stream]++
		require.Equal(t, versions[e.Stream], e.Version, "versions of %s are dense", e.Stream)
		require.Zero(t, positions[e.ID], "event %v is there twice", eventstore.ID(e.ID))
		positions[e.ID] = e.Position
		if a, ok := acknowledged[e.Stream][e.Version]; ok {
			require.Equal(t, a, event{e.ID, e.Position})
			found++
		}
	}
	want := 0
	for _, m := range acknowledged {
		want += len(m)
	}
	require.Equal(t, want, found, "an acknowledged event is gone")
	there := 0
	for _, as := range several {
		at := positions[as[0].Events[0].ID]
		if at > 0 {
			there++
		}
		for _, a := range as {
			for _, e := range a.Events {
				require.Equal(t, at, positions[e.ID], "an append to several streams is there in part, or scattered")
				if at > 0 {
					at++
				}
			}
		}
	}
	require.GreaterOrEqual(t, there, int(atomics.Load()))
	require.Equal(t, there, entire(t, s))
	chained(t, s)
	for stream := range acknowledged {
		list, err := s.ReadStream(t.Context(), stream, 0, driver.Forward, 100_000)
		require.NoError(t, err)
		require.Len(t, list, int(versions[stream]))
	}
	t.Logf("%d acknowledged, %d stored, %d appends to several streams acknowledged, %d stored, %d outcomes unknown, %d failed",
		want, len(log), atomics.Load(), there, unknown.Load(), failed.Load())
}

type counted struct{ N int }

// TestReadersGoOnWhenTheServerComesBack has a subscription, a consumer and a
// projection go on over a restart of the server.
func TestReadersGoOnWhenTheServerComesBack(t *testing.T) {
	t.Parallel()
	n := natstest.Run(t)
	quiet := slog.New(slog.DiscardHandler)
	store, err := Open(t.Context(), n.Connect(t), &Options{Store: eventstore.Options{Logger: quiet}, Timeout: 2 * time.Second})
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Types.Register("counted", counted{}))
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()

	var subscribed, consumed, projected atomic.Int64
	var readers sync.WaitGroup
	sub, err := eventstore.SubscribeTo[counted](ctx, store, eventstore.Filter{}, eventstore.Origin())
	require.NoError(t, err)
	readers.Go(func() {
		for b := range sub.C {
			subscribed.Add(int64(len(b.Events)))
		}
	})
	readers.Go(func() {
		for ctx.Err() == nil {
			for d, err := range store.Consume(ctx, eventstore.Consumer{Name: "c", From: eventstore.Origin(), Partitions: 1, Lease: time.Second}) {
				if err != nil {
					break
				}
				if d.Ack(ctx) == nil {
					consumed.Add(int64(len(d.Events)))
				}
			}
		}
	})
	var sums projection.Memory[counted]
	group := &projection.Group{Store: store, Logger: quiet}
	require.NoError(t, group.Add(&projection.Projection[*counted]{
		Name: "p", Target: &sums,
		Handlers: []projection.Handler[*counted]{projection.On(func(_ context.Context, s *counted, e counted, _ *eventstore.Recorded) error {
			s.N++
			projected.Add(1)
			return nil
		})},
	}))
	readers.Go(func() {
		for ctx.Err() == nil {
			_ = group.Run(ctx)
		}
	})
	appended := int64(0)
	add := func(n int) {
		for range n {
			require.Eventually(t, func() bool {
				_, err := store.Append(ctx, eventstore.Stream("s", fmt.Sprint(appended%3)), eventstore.Any, eventstore.Event{Data: counted{int(appended)}})
				return err == nil
			}, time.Minute, time.Millisecond)
			appended++
		}
	}
	reached := func(what string, v *atomic.Int64) {
		require.Eventually(t, func() bool { return v.Load() >= appended }, time.Minute, time.Millisecond, what)
	}
	for round := range 3 {
		if round > 0 {
			n.Stop(t)
			n.Start(t)
		}
		add(20)
		reached("the subscription", &subscribed)
		reached("the consumer", &consumed)
		reached("the projection", &projected)
	}
	require.Equal(t, appended, subscribed.Load(), "each event once")
	stop()
	readers.Wait()
}
