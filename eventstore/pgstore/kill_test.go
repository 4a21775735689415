package pgstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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

// written is the data of an event: the K-th of the N of its append, which may go to several streams. One under a
// condition has the tag that it was about, and the position after which nothing with it was to be there.
type written struct {
	First string // id of the append's first event
	K, N  int
	Tag   string              `json:",omitempty"`
	After eventstore.Position `json:",omitempty"`
}

// A ledger is what writers were told.
type ledger struct {
	mu      sync.Mutex
	acked   map[eventstore.ID]eventstore.Appended // by the last event in its stream; no Version, if it was not told
	refused map[eventstore.ID]error               // by the first event
	unknown int
	known   map[eventstore.StreamName]eventstore.Version
	tagged  map[string]eventstore.Position
	total   atomic.Int64    // acknowledged appends
	kinds   [3]atomic.Int64 // of them, by kind
}

func newLedger() *ledger {
	return &ledger{acked: map[eventstore.ID]eventstore.Appended{}, refused: map[eventstore.ID]error{},
		known: map[eventstore.StreamName]eventstore.Version{}, tagged: map[string]eventstore.Position{}}
}

// Kinds of appends.
const (
	plain = iota
	toSeveral
	conditional
)

// write appends to one or more of 60 streams, with and without expectations, at times several events, or under
// the condition that there is no news of a tag.
func (l *ledger) write(ctx context.Context, s *eventstore.Store, r *rand.Rand) error {
	kind := max(plain, r.IntN(4)-1)
	parts := make([]eventstore.Part, 1)
	if kind != plain {
		parts = make([]eventstore.Part, 2+r.IntN(3))
	}
	at := written{}
	l.mu.Lock()
	if kind == conditional {
		at.Tag = fmt.Sprint("tag:", r.IntN(8))
		at.After = l.tagged[at.Tag]
	}
	for i, n := range r.Perm(60)[:len(parts)] {
		p := &parts[i]
		p.Stream, p.Expected = eventstore.Stream("kill", fmt.Sprint(n)), eventstore.Any
		if v := l.known[p.Stream]; v > 0 && r.IntN(2) == 0 && kind != conditional {
			p.Expected = eventstore.Expected(v)
		}
		p.Events = make([]eventstore.Event, 1)
		if r.IntN(4) == 0 {
			p.Events = make([]eventstore.Event, 2+r.IntN(9))
		}
		at.N += len(p.Events)
	}
	l.mu.Unlock()
	first := eventstore.NewID()
	at.First = first.String()
	var tos []eventstore.To
	for i := range parts {
		for k := range parts[i].Events {
			data, err := json.Marshal(at)
			if err != nil {
				return err
			}
			e := &parts[i].Events[k]
			*e = eventstore.Event{ID: eventstore.NewID(), Type: "written", Raw: data, ContentType: "application/json"}
			if at.K == 0 {
				e.ID = first
			}
			if at.Tag != "" {
				e.Tags = []string{at.Tag}
			}
			at.K++
			tos = append(tos, eventstore.To{Stream: parts[i].Stream, Event: *e})
		}
	}
	told := make([]eventstore.Appended, 1)
	var err error
	switch kind {
	case plain:
		told[0], err = s.Append(ctx, parts[0].Stream, parts[0].Expected, parts[0].Events...)
	case toSeveral:
		var several *eventstore.AtomicStore
		if several, err = s.Atomic(); err == nil {
			told, err = several.Append(ctx, parts...)
		}
	case conditional:
		var tags *eventstore.TagStore
		if tags, err = s.Tags(); err == nil {
			told[0].Position, err = tags.Append(ctx, eventstore.Query{{Tags: []string{at.Tag}}}, at.After, tos...)
		}
	}
	var head eventstore.Position
	if err != nil && kind == conditional {
		head, _ = s.Head(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.total.Add(1)
		l.kinds[kind].Add(1)
		if kind == conditional {
			l.tagged[at.Tag] = max(l.tagged[at.Tag], told[0].Position)
			l.acked[tos[len(tos)-1].ID] = told[0]
			return nil
		}
		for i, a := range told {
			p := &parts[i]
			l.acked[p.Events[len(p.Events)-1].ID] = a
			l.known[p.Stream] = max(l.known[p.Stream], a.Version)
		}
		return nil
	case errors.Is(err, eventstore.ErrConflict):
		l.refused[first], err = err, nil
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		l.unknown++
	default:
		l.refused[first] = err
		return err
	}
	for i := range parts {
		delete(l.known, parts[i].Stream)
	}
	l.tagged[at.Tag] = max(l.tagged[at.Tag], head)
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
	tagged := map[string]eventstore.Position{}
	acked := maps.Clone(l.acked)
	var before written
	var last eventstore.Position
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		require.Greater(t, r.Position, last)
		var d written
		require.NoError(t, json.Unmarshal(r.Raw, &d))
		if before.K+1 < before.N {
			before.K++
			require.Equal(t, before, d, "an append is there whole, in one piece")
			require.Equal(t, last+1, r.Position)
		} else {
			require.Zero(t, d.K, "an append is there from its beginning")
			require.NotContains(t, l.refused, r.ID, "it was refused")
			if d.Tag != "" {
				require.LessOrEqual(t, tagged[d.Tag], d.After, "there was news of %s", d.Tag)
			}
		}
		before, last = d, r.Position
		if d.Tag != "" {
			tagged[d.Tag] = last
		}
		require.Equal(t, versions[r.Stream]+1, r.Version, "versions of %s are dense", r.Stream)
		versions[r.Stream] = r.Version
		require.False(t, ids[r.ID], "event %s is there twice", r.ID)
		ids[r.ID] = true
		if a, ok := acked[r.ID]; ok {
			require.Equal(t, a.Position, r.Position)
			if a.Version > 0 {
				require.Equal(t, a.Version, r.Version)
			}
			delete(acked, r.ID)
		}
		log = append(log, sighting{r.ID, r.Position})
	}
	require.Equal(t, before.N, before.K+1, "an append is there to its end")
	require.Empty(t, acked, "acknowledged and lost")
	for kind := range l.kinds {
		require.Positive(t, l.kinds[kind].Load())
	}
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
