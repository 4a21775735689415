package pgstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/projection"
)

// soak returns how often something is to happen: more often with LEVADA_SOAK=1.
func soak(rounds, long int) int {
	if os.Getenv("LEVADA_SOAK") == "1" {
		return long
	}
	return rounds
}

// openNode opens a store with a pool of its own.
func openNode(t testing.TB, address string) *eventstore.Store {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	q := u.Query()
	q.Set("pool_max_conns", "12")
	u.RawQuery = q.Encode()
	s, err := pgstore.OpenURL(t.Context(), u.String(), &pgstore.Options{Store: eventstore.Options{Logger: slog.New(slog.DiscardHandler)}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// written is the data of an event: the K-th of the N of its append.
type written struct {
	First string // id of the append's first event
	K, N  int
}

// A ledger is what writers were told.
type ledger struct {
	mu      sync.Mutex
	acked   map[eventstore.ID]eventstore.Version // of the last event of each append
	at      map[eventstore.ID]eventstore.Position
	refused map[eventstore.ID]error
	unknown int
	known   map[eventstore.StreamName]eventstore.Version
	total   atomic.Int64 // acknowledged appends
}

func newLedger() *ledger {
	return &ledger{acked: map[eventstore.ID]eventstore.Version{}, at: map[eventstore.ID]eventstore.Position{},
		refused: map[eventstore.ID]error{}, known: map[eventstore.StreamName]eventstore.Version{}}
}

// write appends to one of 60 streams, with and without an expectation, a quarter of the times several events.
func (l *ledger) write(ctx context.Context, s *eventstore.Store, r *rand.Rand) error {
	stream := eventstore.Stream("kill", fmt.Sprint(r.IntN(60)))
	n := 1
	if r.IntN(4) == 0 {
		n = 2 + r.IntN(9)
	}
	events := make([]eventstore.Event, n)
	first := eventstore.NewID()
	for k := range events {
		id := first
		if k > 0 {
			id = eventstore.NewID()
		}
		data, err := json.Marshal(written{first.String(), k, n})
		if err != nil {
			return err
		}
		events[k] = eventstore.Event{ID: id, Type: "written", Raw: data, ContentType: "application/json"}
	}
	expected := eventstore.Any
	l.mu.Lock()
	if v := l.known[stream]; v > 0 && r.IntN(2) == 0 {
		expected = eventstore.Expected(v)
	}
	l.mu.Unlock()
	got, err := s.Append(ctx, stream, expected, events...)
	l.mu.Lock()
	defer l.mu.Unlock()
	last := events[n-1].ID
	var conflict *eventstore.ConflictError
	switch {
	case err == nil:
		l.acked[last], l.at[last] = got.Version, got.Position
		l.known[stream] = max(l.known[stream], got.Version)
		l.total.Add(1)
		return nil
	case errors.As(err, &conflict):
		l.refused[first], err = err, nil
		delete(l.known, stream)
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		l.unknown++
		delete(l.known, stream)
	default:
		l.refused[first] = err
	}
	return err
}

// run writes from so many goroutines until stop is called.
func (l *ledger) run(t testing.TB, writers int, stores ...*eventstore.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for ctx.Err() == nil {
				// An append that was begun is told of.
				if err := l.write(context.WithoutCancel(ctx), stores[w%len(stores)], r); err != nil {
					select {
					case <-ctx.Done():
					case <-time.After(5 * time.Millisecond):
					}
				}
			}
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// more waits until so many more appends were acknowledged.
func (l *ledger) more(t testing.TB, n int64) {
	t.Helper()
	want := l.total.Load() + n
	require.Eventually(t, func() bool { return l.total.Load() >= want }, 2*time.Minute, 5*time.Millisecond, "writers do not get on")
}

// A sighting is an event as somebody saw it.
type sighting struct {
	id       eventstore.ID
	position eventstore.Position
}

// check compares what writers were told with what is in the log, which it returns.
func (l *ledger) check(t testing.TB, s *eventstore.Store) (log []sighting) {
	t.Helper()
	versions := map[eventstore.StreamName]eventstore.Version{}
	ids := map[eventstore.ID]bool{}
	open := map[eventstore.StreamName]written{}
	var last eventstore.Position
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		require.Greater(t, r.Position, last)
		last = r.Position
		require.Equal(t, versions[r.Stream]+1, r.Version, "versions of %s are dense", r.Stream)
		versions[r.Stream] = r.Version
		require.False(t, ids[r.ID], "event %s is there twice", r.ID)
		ids[r.ID] = true
		var d written
		require.NoError(t, json.Unmarshal(r.Raw, &d))
		before, begun := open[r.Stream]
		if begun {
			require.Equal(t, written{before.First, before.K + 1, before.N}, d, "an append is there whole")
		} else {
			require.Zero(t, d.K, "an append is there from its beginning")
			require.NotContains(t, l.refused, r.ID, "it was refused")
		}
		if delete(open, r.Stream); d.K+1 < d.N {
			open[r.Stream] = d
		}
		if v, ok := l.acked[r.ID]; ok {
			require.Equal(t, v, r.Version)
			require.Equal(t, l.at[r.ID], r.Position)
			delete(l.acked, r.ID)
		}
		log = append(log, sighting{r.ID, r.Position})
	}
	require.Empty(t, open, "an append is there to its end")
	require.Empty(t, l.acked, "acknowledged and lost")
	return log
}

// A follower is a subscription from the beginning, which must see every event once, in order.
type follower struct {
	sub  *eventstore.Subscription[sighting]
	mu   sync.Mutex
	seen []sighting
	end  chan struct{}
}

func follow(t testing.TB, s *eventstore.Store) *follower {
	t.Helper()
	sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[sighting]{From: eventstore.Origin(),
		Map: func(r *eventstore.Recorded) sighting { return sighting{r.ID, r.Position} }})
	require.NoError(t, err)
	f := &follower{sub: sub, end: make(chan struct{})}
	go func() {
		defer close(f.end)
		for b := range sub.C {
			f.mu.Lock()
			f.seen = append(f.seen, b.Events...)
			f.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		sub.Close()
		<-f.end
	})
	return f
}

// check waits until the follower has seen as much as there is, and compares.
func (f *follower) check(t testing.TB, log []sighting) {
	t.Helper()
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.seen) >= len(log)
	}, time.Minute, 5*time.Millisecond, "a follower does not get on")
	require.NoError(t, f.sub.Err())
	f.mu.Lock()
	defer f.mu.Unlock()
	require.True(t, slices.Equal(log, f.seen), "a follower saw %d events, of %d", len(f.seen), len(log))
}

func TestNothingThatWasAcknowledgedIsLostWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	address := server.URL(t)
	a, b := openNode(t, address), openNode(t, address)
	followers := []*follower{follow(t, a), follow(t, b)}
	l := newLedger()
	stop := l.run(t, 12, a, b)
	r := rand.New(rand.NewPCG(1, 2))
	rounds := soak(4, 60)
	for round := range rounds {
		l.more(t, 100)
		if round%4 == 3 {
			server.Stop() // also when it is told to end
		} else {
			server.Kill()
		}
		if round == rounds-1 {
			stop() // nobody appends any more, and still all must heal
		}
		time.Sleep(time.Duration(r.IntN(200)) * time.Millisecond)
		server.Restart(t)
	}
	log := l.check(t, openNode(t, address))
	t.Logf("%d appends acknowledged, %d of unknown outcome, %d refused, %d events", l.total.Load(), l.unknown, len(l.refused), len(log))
	for _, f := range followers {
		f.check(t, log)
	}
	require.Equal(t, log, l.check(t, a), "a store that lived through it reads the same")
	// And it goes on.
	for _, s := range []*eventstore.Store{a, b} {
		_, err := s.Append(t.Context(), "after-1", eventstore.Any, eventstore.Event{Type: "written", Raw: []byte(`{"N":1}`), ContentType: "application/json"})
		require.NoError(t, err)
	}
}

func TestNothingIsLostOrRepeatedWhenConnectionsAreKilled(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	address := server.URL(t)
	a, b := openNode(t, address), openNode(t, address)
	followers := []*follower{follow(t, a), follow(t, b)}

	var groups []*projection.Group
	var models []*pgstore.ReadModel
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	for _, s := range []*eventstore.Store{a, b} {
		m, err := pgstore.Target(t.Context(), s, pgstore.Model{Tables: []string{"seen"},
			Schema: "CREATE TABLE seen(n bigint GENERATED ALWAYS AS IDENTITY, id uuid PRIMARY KEY, position bigint NOT NULL)"})
		require.NoError(t, err)
		g := &projection.Group{Store: s, Logger: slog.New(slog.DiscardHandler)}
		require.NoError(t, s.Types.Register("written", written{}))
		require.NoError(t, g.Add(&projection.Projection[pgx.Tx]{Name: "seen", Target: m,
			Handlers: []projection.Handler[pgx.Tx]{projection.On(func(ctx context.Context, tx pgx.Tx, _ written, r *eventstore.Recorded) error {
				_, err := tx.Exec(ctx, "INSERT INTO seen(id, position) VALUES($1, $2)", r.ID, int64(r.Position))
				return err
			})}}))
		groups, models = append(groups, g), append(models, m)
		wg.Go(func() {
			if err := g.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}

	// Two members of a group: each event at least once, those of a stream in order.
	var mu sync.Mutex
	consumed := map[eventstore.ID]bool{}
	highest := map[eventstore.StreamName]eventstore.Version{}
	for _, s := range []*eventstore.Store{a, b} {
		wg.Go(func() {
			for d, err := range s.Consume(ctx, eventstore.Consumer{Name: "group", From: eventstore.Origin(), Partitions: 4, Lease: time.Second}) {
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				for _, r := range d.Events {
					if r.Version > highest[r.Stream]+1 {
						t.Errorf("%s: version %d was consumed after %d", r.Stream, r.Version, highest[r.Stream])
					}
					highest[r.Stream] = max(highest[r.Stream], r.Version)
					consumed[r.ID] = true
				}
				mu.Unlock()
				for attempt := 0; attempt < 100; attempt++ {
					if err := d.Ack(ctx); err == nil || errors.Is(err, eventstore.ErrMoved) || ctx.Err() != nil {
						break
					}
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}

	l := newLedger()
	stop := l.run(t, 6, a, b)
	dropped := 0
	for range soak(8, 300) {
		l.more(t, 50)
		dropped += server.DropConnections(t)
	}
	stop()
	dropped += server.DropConnections(t)
	log := l.check(t, openNode(t, address))
	t.Logf("%d connections dropped; %d appends acknowledged, %d of unknown outcome, %d refused, %d events", dropped, l.total.Load(), l.unknown, len(l.refused), len(log))
	for _, f := range followers {
		f.check(t, log)
	}
	waiting, done := context.WithTimeout(t.Context(), time.Minute)
	defer done()
	for _, g := range groups {
		require.NoError(t, g.Wait(waiting, log[len(log)-1].position))
	}
	var rows []sighting
	require.NoError(t, models[0].Read(t.Context(), func(tx pgx.Tx) error {
		r, err := tx.Query(t.Context(), "SELECT id, position FROM seen ORDER BY n")
		require.NoError(t, err)
		var id [16]byte
		var position int64
		_, err = pgx.ForEachRow(r, []any{&id, &position}, func() error {
			rows = append(rows, sighting{id, eventstore.Position(position)})
			return nil
		})
		return err
	}))
	require.True(t, slices.Equal(log, rows), "the model has %d events, of %d", len(rows), len(log))
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(consumed) == len(log)
	}, time.Minute, 10*time.Millisecond, "the group does not get on")
}
