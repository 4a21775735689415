package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// Put is an event of a key.
type Put struct {
	Key string
	N   int
}

// Shelf is a model of what was put, in order, by key.
type Shelf map[string][]int

func (s Shelf) Clone() Shelf {
	c := Shelf{}
	for k, v := range s {
		c[k] = slices.Clone(v)
	}
	return c
}

func shelf(m *projection.Memory[Shelf]) (s Shelf) {
	m.View(func(v *Shelf, _ eventstore.Position) { s = v.Clone() })
	return s
}

// put appends events of a key, each with the next number of the store.
func put(t testing.TB, s *eventstore.Store, key string, ns ...int) eventstore.Position {
	t.Helper()
	var events []eventstore.Event
	for _, n := range ns {
		events = append(events, eventstore.Event{Data: Put{key, n}})
	}
	at, err := s.Append(context.Background(), eventstore.Stream("shelf", key), eventstore.Any, events...)
	require.NoError(t, err)
	return at.Position
}

// poison is which events a handler fails on.
type poison struct {
	mu  sync.Mutex
	set map[int]bool
}

func (p *poison) put(ns ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set == nil {
		p.set = map[int]bool{}
	}
	for _, n := range ns {
		p.set[n] = true
	}
}

func (p *poison) cure(ns ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range ns {
		delete(p.set, n)
	}
	if len(ns) == 0 {
		p.set = nil
	}
}

func (p *poison) in(n int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.set[n]
}

func shelved(target projection.Target[*Shelf], bad *poison) *projection.Projection[*Shelf] {
	return &projection.Projection[*Shelf]{
		Name: "shelf", Target: target,
		Handlers: []projection.Handler[*Shelf]{projection.On(func(_ context.Context, s *Shelf, e Put, _ *eventstore.Recorded) error {
			if *s == nil {
				*s = Shelf{}
			}
			(*s)[e.Key] = append((*s)[e.Key], e.N)
			if bad.in(e.N) {
				return errBoom
			}
			return nil
		})},
		OnError: projection.ParkAfter(2),
	}
}

// lasting hides what a Memory keeps for itself: it stands for a model that outlives processes.
type lasting[T any] struct{ projection.Target[T] }

func shelfStore(t testing.TB) *eventstore.Store {
	s := newStore(t)
	require.NoError(t, s.Types.Register("put", Put{}))
	return s
}

func wait(t testing.TB, g *projection.Group, at eventstore.Position) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	require.NoError(t, g.Wait(ctx, at))
}

func keysOf(t testing.TB, g *projection.Group) (keys []string) {
	t.Helper()
	list, err := g.Parked(t.Context(), "shelf")
	require.NoError(t, err)
	for _, k := range list {
		keys = append(keys, fmt.Sprintf("%s:%d", k.Key, k.Events))
	}
	return keys
}

// eachShelf runs a test with a model that keeps its own dead letters and with one that has
// them in the store.
func eachShelf(t *testing.T, fn func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf])) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var m projection.Memory[Shelf]
			fn(t, &m, &m)
		})
	})
	t.Run("lasting", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var m projection.Memory[Shelf]
			fn(t, &m, lasting[*Shelf]{&m})
		})
	})
}

func TestAParkedEventHoldsUpItsKeyAndNoOther(t *testing.T) {
	eachShelf(t, func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf]) {
		s, bad := shelfStore(t), &poison{}
		bad.put(3)
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(target, bad)))
		put(t, s, "a", 1)
		put(t, s, "b", 2)
		third := put(t, s, "a", 3, 4)
		put(t, s, "b", 5)
		start(t, g)
		wait(t, g, put(t, s, "a", 6))
		require.Equal(t, Shelf{"a": {1}, "b": {2, 5}}, shelf(m))

		list, err := g.Parked(t.Context(), "shelf")
		require.NoError(t, err)
		require.Len(t, list, 1)
		k := list[0]
		require.Equal(t, "shelf-a", k.Key)
		require.Equal(t, 3, k.Events)
		require.Equal(t, third-1, k.First.Position)
		require.Equal(t, eventstore.StreamName("shelf-a"), k.First.Stream)
		require.EqualValues(t, 2, k.First.Version)
		require.Equal(t, "put", k.First.Type)
		require.Equal(t, errBoom.Error(), k.First.Error)
		require.Equal(t, 2, k.First.Attempts)
		require.WithinDuration(t, time.Now(), k.Since, time.Minute)
		letters, err := g.DeadLetters(t.Context(), "shelf", "shelf-a")
		require.NoError(t, err)
		require.Len(t, letters, 3)
		require.Empty(t, letters[1].Error, "it was not tried")
		st := status(t, g, "shelf")
		require.Equal(t, 1, st.Parked)
		require.NoError(t, st.LastError)
		require.Equal(t, projection.Running, st.State)
	})
}

func TestARetryHandlesWhatIsParkedInOrder(t *testing.T) {
	eachShelf(t, func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf]) {
		s, bad := shelfStore(t), &poison{}
		bad.put(2, 4)
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(target, bad)))
		start(t, g)
		wait(t, g, put(t, s, "a", 1, 2, 3, 4, 5))
		require.Equal(t, Shelf{"a": {1}}, shelf(m))

		require.ErrorIs(t, g.Retry(t.Context(), "shelf", "shelf-a"), errBoom)
		letters, err := g.DeadLetters(t.Context(), "shelf", "shelf-a")
		require.NoError(t, err)
		require.Len(t, letters, 4)
		require.Equal(t, 3, letters[0].Attempts)

		bad.cure(2)
		require.ErrorIs(t, g.Retry(t.Context(), "shelf", "shelf-a"), errBoom)
		require.Equal(t, Shelf{"a": {1, 2, 3}}, shelf(m))
		require.Equal(t, []string{"shelf-a:2"}, keysOf(t, g))
		wait(t, g, put(t, s, "a", 6))
		require.Equal(t, Shelf{"a": {1, 2, 3}}, shelf(m), "it is still parked")

		bad.cure()
		require.NoError(t, g.Retry(t.Context(), "shelf", "shelf-a"))
		require.Equal(t, Shelf{"a": {1, 2, 3, 4, 5, 6}}, shelf(m))
		require.Empty(t, keysOf(t, g))
		require.ErrorIs(t, g.Retry(t.Context(), "shelf", "shelf-a"), projection.ErrNotParked)
		wait(t, g, put(t, s, "a", 7))
		require.Equal(t, Shelf{"a": {1, 2, 3, 4, 5, 6, 7}}, shelf(m))
		bad.put(8)
		wait(t, g, put(t, s, "a", 8, 9))
		require.Equal(t, []string{"shelf-a:2"}, keysOf(t, g), "it can be parked again")
		bad.cure()
		require.NoError(t, g.Retry(t.Context(), "shelf", "shelf-a"))
		require.Equal(t, Shelf{"a": {1, 2, 3, 4, 5, 6, 7, 8, 9}}, shelf(m))
	})
}

func TestDiscardedEventsAreLeftOutAndLaterOnesFlow(t *testing.T) {
	eachShelf(t, func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf]) {
		s, bad := shelfStore(t), &poison{}
		bad.put(2)
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(target, bad)))
		start(t, g)
		wait(t, g, put(t, s, "a", 1, 2, 3))
		require.NoError(t, g.Discard(t.Context(), "shelf", "shelf-a"))
		require.ErrorIs(t, g.Discard(t.Context(), "shelf", "shelf-a"), projection.ErrNotParked)
		wait(t, g, put(t, s, "a", 4))
		require.Equal(t, Shelf{"a": {1, 4}}, shelf(m))
		require.Zero(t, status(t, g, "shelf").Parked)
	})
}

func TestWhatIsParkedIsKnownAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, bad := shelfStore(t), &poison{}
		bad.put(2)
		var m projection.Memory[Shelf]
		first, second := newGroup(s), newGroup(s)
		require.NoError(t, first.Add(shelved(lasting[*Shelf]{&m}, bad)))
		require.NoError(t, second.Add(shelved(lasting[*Shelf]{&m}, bad)))
		stop := start(t, first)
		wait(t, first, put(t, s, "a", 1, 2))
		require.NoError(t, stop())
		bad.cure()
		last := put(t, s, "a", 3)
		require.Equal(t, []string{"shelf-a:1"}, keysOf(t, second), "also where it does not run")
		start(t, second)
		wait(t, second, last)
		require.Equal(t, Shelf{"a": {1}}, shelf(&m))
		require.NoError(t, first.Retry(t.Context(), "shelf", "shelf-a"), "also where it does not run")
		wait(t, second, put(t, s, "a", 4))
		require.Equal(t, Shelf{"a": {1, 2, 3, 4}}, shelf(&m))
	})
}

func TestAModelThatStartsOverTriesParkedEventsAnew(t *testing.T) {
	eachShelf(t, func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf]) {
		s, bad := shelfStore(t), &poison{}
		bad.put(2, 12)
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(target, bad)))
		start(t, g)
		put(t, s, "a", 1, 2, 3)
		last := put(t, s, "b", 11, 12, 13)
		wait(t, g, last)
		require.NoError(t, g.Discard(t.Context(), "shelf", "shelf-b"))
		require.Equal(t, []string{"shelf-a:2"}, keysOf(t, g))
		bad.cure(2)
		require.NoError(t, g.Reset(t.Context(), "shelf"))
		wait(t, g, last)
		require.Equal(t, Shelf{"a": {1, 2, 3}, "b": {11}}, shelf(m))
		require.Equal(t, []string{"shelf-b:2"}, keysOf(t, g))
		bad.cure()
		require.NoError(t, g.Retry(t.Context(), "shelf", "shelf-b"))
		require.Equal(t, Shelf{"a": {1, 2, 3}, "b": {11, 12, 13}}, shelf(m))
	})
}

// A process that has slept through a reset does not find the position where it left it, although as many events
// have been handled.
func TestAModelThatStartsOverIsElsewhereThanBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := shelfStore(t)
		var m projection.Memory[Shelf]
		bad := &poison{}
		bad.put(1)
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(&m, bad)))
		start(t, g)
		put(t, s, "a", 1)
		seen := map[eventstore.Position]bool{}
		for range 4 { // the number of a life is drawn by lot
			for status(t, g, "shelf").Parked == 0 {
				time.Sleep(time.Second)
			}
			time.Sleep(2 * time.Second)
			require.NoError(t, g.Pause(t.Context(), "shelf"))
			at, err := m.Load(t.Context(), "shelf")
			require.NoError(t, err)
			for old := range seen {
				if old != at {
					require.ErrorIs(t, m.Update(t.Context(), "shelf", old, old+1, func(*Shelf) error { return nil }), projection.ErrMoved)
				}
			}
			seen[at] = true
			require.NoError(t, g.Reset(t.Context(), "shelf"))
			synctest.Wait()
		}
		require.Greater(t, len(seen), 1)
	})
}

// Status is asked often, by whoever looks after the program.
func TestStatusReadsADeadLetterOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var letters atomic.Int64 // that were read
		trace := &eventstore.Trace{
			ReadStart: func(ctx context.Context, r eventstore.ReadInfo) context.Context {
				of := len(r.Filter.Categories) == 1 && strings.HasPrefix(r.Filter.Categories[0], "$parked.")
				return context.WithValue(ctx, letterbox{}, of)
			},
			ReadEnd: func(ctx context.Context, n int, _ error) {
				if ctx.Value(letterbox{}) == true {
					letters.Add(int64(n))
				}
			},
		}
		s := newStoreWith(t, eventstore.Options{Trace: trace})
		require.NoError(t, s.Types.Register("put", Put{}))
		var m projection.Memory[Shelf]
		bad := &poison{}
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(lasting[*Shelf]{&m}, bad)))
		start(t, g)
		bad.put(1, 2)
		put(t, s, "a", 1)
		put(t, s, "b", 2)
		wait(t, g, put(t, s, "a", 3))
		require.Equal(t, 2, status(t, g, "shelf").Parked)
		before := letters.Load()
		for range 5 {
			require.Equal(t, 2, status(t, g, "shelf").Parked)
		}
		require.Equal(t, before, letters.Load())

		bad.cure(2)
		require.NoError(t, g.Retry(t.Context(), "shelf", "shelf-b"))
		require.Equal(t, 1, status(t, g, "shelf").Parked)
		bad.put(4)
		wait(t, g, put(t, s, "c", 4))
		require.Equal(t, 2, status(t, g, "shelf").Parked)
		bad.cure()
		require.NoError(t, g.Reset(t.Context(), "shelf"))
		head, err := s.Head(t.Context())
		require.NoError(t, err)
		wait(t, g, head)
		require.Zero(t, status(t, g, "shelf").Parked, "the model started over, and no letter says so")
	})
}

type letterbox struct{}

func TestKeysOfAProjectionsOwn(t *testing.T) {
	eachShelf(t, func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf]) {
		s, bad := shelfStore(t), &poison{}
		bad.put(1)
		long := strings.Repeat("k", 300)
		g := newGroup(s)
		p := shelved(target, bad)
		p.Name = "shelf-50%"
		p.Key = func(r *eventstore.Recorded) string {
			if r.Data.(Put).N < 5 {
				return long
			}
			panic("no key")
		}
		require.NoError(t, g.Add(p))
		start(t, g)
		put(t, s, "a", 1)
		put(t, s, "b", 2)
		wait(t, g, put(t, s, "b", 5))
		require.Equal(t, Shelf{"b": {5}}, shelf(m))
		list, err := g.Parked(t.Context(), p.Name)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, long, list[0].Key)
		bad.cure()
		require.NoError(t, g.Retry(t.Context(), p.Name, long))
		require.Equal(t, Shelf{"a": {1}, "b": {5, 2}}, shelf(m))
	})
}

func TestParkingIsRefusedForWhatIsNotThere(t *testing.T) {
	t.Parallel()
	g := newGroup(shelfStore(t))
	var stopped *projection.StoppedError
	require.ErrorAs(t, g.Retry(t.Context(), "none", "k"), &stopped)
	require.ErrorAs(t, g.Discard(t.Context(), "none", "k"), &stopped)
	_, err := g.Parked(t.Context(), "none")
	require.ErrorAs(t, err, &stopped)
	_, err = g.DeadLetters(t.Context(), "none", "k")
	require.ErrorAs(t, err, &stopped)
}

func TestAnEventThatCannotBeDecodedCanBeParked(t *testing.T) {
	eachShelf(t, func(t *testing.T, m *projection.Memory[Shelf], target projection.Target[*Shelf]) {
		s, bad := shelfStore(t), &poison{}
		g := newGroup(s)
		require.NoError(t, g.Add(shelved(target, bad)))
		start(t, g)
		_, err := s.Append(t.Context(), "shelf-a", eventstore.Any, eventstore.Event{Type: "put", Raw: []byte("{"), ContentType: "application/json"})
		require.NoError(t, err)
		put(t, s, "b", 1)
		wait(t, g, put(t, s, "a", 2))
		require.Equal(t, Shelf{"b": {1}}, shelf(m))
		require.Equal(t, []string{"shelf-a:2"}, keysOf(t, g))
		require.ErrorIs(t, g.Retry(t.Context(), "shelf", "shelf-a"), eventstore.ErrCodec)
	})
}

func TestNoMoreThanSoManyKeysAreParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, bad := shelfStore(t), &poison{}
		var m projection.Memory[Shelf]
		g := newGroup(s)
		p := shelved(&m, bad)
		p.OnError = projection.ParkAfter(1)
		require.NoError(t, g.Add(p))
		start(t, g)
		for n := 1; n <= 1001; n++ {
			bad.put(n)
			put(t, s, fmt.Sprint(n), n)
		}
		synctest.Wait()
		time.Sleep(time.Hour)
		st := status(t, g, "shelf")
		require.Equal(t, 1000, st.Parked)
		require.ErrorIs(t, st.LastError, errBoom)
		require.EqualValues(t, 1, st.Lag)
		bad.cure(1001)
		wait(t, g, put(t, s, "good", 2000))
		require.Equal(t, Shelf{"1001": {1001}, "good": {2000}}, shelf(&m))
	})
}

// slow takes its time, so that what others do comes between.
type slow[T any] struct {
	projection.Target[T]
	mu   sync.Mutex
	rand *rand.Rand
	most time.Duration
}

func (s *slow[T]) nap() {
	s.mu.Lock()
	d := time.Duration(s.rand.Int64N(int64(s.most) + 1))
	s.mu.Unlock()
	time.Sleep(d)
}

func (s *slow[T]) Load(ctx context.Context, name string) (eventstore.Position, error) {
	s.nap()
	defer s.nap()
	return s.Target.Load(ctx, name)
}

func (s *slow[T]) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(T) error) error {
	s.nap()
	defer s.nap()
	return s.Target.Update(ctx, name, from, to, fn)
}

// A parking plan is what happens to two processes that run the same projection on one model.
type parkPlan struct {
	seed  uint64
	rate  float64       // of faults
	parts int           // partitions
	most  time.Duration // that an access to the model takes
	steps []parkStep
}

type parkStep struct {
	what  string
	key   string
	group int
	n     int
}

var parkPlans = rapid.Custom(func(rt *rapid.T) parkPlan {
	p := parkPlan{parts: rapid.SampledFrom([]int{1, 1, 2, 5}).Draw(rt, "partitions"), seed: rapid.Uint64().Draw(rt, "seed"), rate: rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "rate"),
		most: rapid.SampledFrom([]time.Duration{0, 10 * time.Millisecond, time.Second}).Draw(rt, "most")}
	for range rapid.IntRange(1, 60).Draw(rt, "steps") {
		p.steps = append(p.steps, parkStep{
			what: rapid.SampledFrom([]string{
				"put", "put", "put", "poison", "poison", "cure", "run or stop", "run or stop", "sleep", "settle", "settle",
				"retry", "retry", "discard", "reset", "lose",
			}).Draw(rt, "what"),
			key:   rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "key"),
			group: rapid.IntRange(0, 1).Draw(rt, "group"),
			n:     rapid.IntRange(1, 3000).Draw(rt, "n"),
		})
	}
	return p
})

// TestParkedEventsCountOnceWhateverFails: whatever goes wrong where, every event that was
// not given up is in the model once, after those of its key that came before it.
func TestParkedEventsCountOnceWhateverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := parkPlans.Draw(rt, "plan")
		var err error
		synctest.Test(t, func(t *testing.T) { err = carryOutParking(t, p) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func carryOutParking(t *testing.T, p parkPlan) error {
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	s := eventstore.New(d, &eventstore.Options{Logger: quiet})
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("put", Put{}))
	bad := &poison{}
	var m projection.Memory[Shelf]
	f := &faulty[*Shelf]{Target: &m, rand: rand.New(rand.NewPCG(p.seed, 1)), rate: p.rate}
	target := &slow[*Shelf]{Target: f, rand: rand.New(rand.NewPCG(p.seed, 2)), most: p.most}
	var groups []*projection.Group
	stops := make([]func() error, 2)
	for range 2 {
		g := newGroup(s)
		runs := shelved(target, bad)
		runs.Partitions = p.parts
		if err := g.Add(runs); err != nil {
			return err
		}
		groups = append(groups, g)
	}
	toggle := func(i int) error {
		if stop := stops[i]; stop != nil {
			stops[i] = nil
			return stop()
		}
		stops[i] = start(t, groups[i])
		return nil
	}
	all := map[string][]int{}          // what was put
	given := map[string]map[int]bool{} // what may have been given up
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	check := func() error {
		for key, got := range shelf(&m) {
			rest := all[key]
			for _, n := range got {
				i := slices.Index(rest, n)
				if i < 0 {
					return fmt.Errorf("of %s the model has %v, of %v", key, got, all[key])
				}
				for _, skipped := range rest[:i] {
					if !given[key][skipped] {
						return fmt.Errorf("of %s the model has %v without %d, of %v", key, got, skipped, all[key])
					}
				}
				rest = rest[i+1:]
			}
		}
		return nil
	}

	next := 1
	var under sync.WaitGroup
	var last eventstore.Position
	add := func(key string) {
		faults.Heal() // the caller's own appends are not what is tried here
		last = put(t, s, key, next)
		all[key] = append(all[key], next)
		next++
	}
	for i, st := range p.steps {
		var err error
		switch st.what {
		case "put":
			for range 1 + st.n%5 {
				add(st.key)
			}
		case "poison":
			bad.put(next)
			add(st.key)
			add(st.key)
		case "cure":
			bad.cure()
		case "run or stop":
			err = toggle(st.group)
		case "sleep":
			time.Sleep(time.Duration(st.n) * time.Millisecond)
		case "settle":
			synctest.Wait()
		case "retry":
			under.Go(func() { _ = groups[st.group].Retry(short(), "shelf", "shelf-"+st.key) })
		case "discard":
			if given[st.key] == nil {
				given[st.key] = map[int]bool{}
			}
			for _, n := range all[st.key] {
				given[st.key][n] = true
			}
			_ = groups[st.group].Discard(short(), "shelf", "shelf-"+st.key)
		case "reset":
			under.Go(func() { _ = groups[st.group].Reset(short(), "shelf") })
		case "lose":
			faults.Delay(eventstoretest.OpAppend, time.Duration(st.n)*time.Millisecond/3)
			if st.n%2 == 0 {
				faults.Before(eventstoretest.OpAppend, st.n%3, errBoom)
			} else {
				faults.After(eventstoretest.OpAppend, st.n%3, errBoom)
			}
		}
		if err == nil {
			err = check()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
	}

	under.Wait()
	f.heal()
	faults.Heal()
	bad.cure()
	for i := range groups {
		if stops[i] == nil {
			if err := toggle(i); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for _, key := range []string{"a", "b", "c"} {
		add(key)
	}
	for i, g := range groups {
		if err := g.Wait(ctx, last); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
	}
	list, err := groups[0].Parked(ctx, "shelf")
	if err != nil {
		return err
	}
	for _, k := range list {
		if err := groups[k.Events%2].Retry(ctx, "shelf", k.Key); err != nil && !errors.Is(err, projection.ErrNotParked) {
			return fmt.Errorf("retry %s: %w", k.Key, err)
		}
	}
	for i, g := range groups {
		if err := g.Wait(ctx, last); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
	}
	if err := check(); err != nil {
		return err
	}
	for key, ns := range all {
		got := shelf(&m)[key]
		for _, n := range ns {
			if !given[key][n] && !slices.Contains(got, n) {
				return fmt.Errorf("of %s the model has %v, want %v, given up perhaps %v", key, got, ns, given[key])
			}
		}
	}
	for i := range groups {
		if err := toggle(i); err != nil {
			return err
		}
	}
	return nil
}

func TestParkedEventsInASQLiteModel(t *testing.T) {
	t.Parallel()
	s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), &sqlitestore.Options{Store: eventstore.Options{Logger: quiet}})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("put", Put{}))
	model, err := sqlitestore.Target(s, sqlitestore.Model{Tables: []string{"shelf"},
		Schema: `CREATE TABLE shelf(id INTEGER PRIMARY KEY, key TEXT NOT NULL, n INTEGER NOT NULL) STRICT`})
	require.NoError(t, err)
	bad := &poison{}
	bad.put(2)
	p := &projection.Projection[*sqlite.Conn]{
		Name: "shelf", Target: model, OnError: projection.ParkAfter(1),
		Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Put, _ *eventstore.Recorded) error {
			if err := sqlitex.Execute(c, "INSERT INTO shelf(key, n) VALUES(?, ?)", &sqlitex.ExecOptions{Args: []any{e.Key, e.N}}); err != nil {
				return err
			}
			if bad.in(e.N) {
				return errBoom
			}
			return nil
		})},
	}
	have := func() (ns []int) {
		require.NoError(t, model.Read(t.Context(), func(c *sqlite.Conn) error {
			return sqlitex.Execute(c, "SELECT n FROM shelf ORDER BY id", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
				ns = append(ns, st.ColumnInt(0))
				return nil
			}})
		}))
		return ns
	}
	g := newGroup(s)
	require.NoError(t, g.Add(p))
	stop := start(t, g)
	put(t, s, "a", 1, 2, 3)
	last := put(t, s, "b", 4)
	wait(t, g, last)
	require.Equal(t, []int{1, 4}, have())
	require.GreaterOrEqual(t, status(t, g, "shelf").Position, last)
	require.NoError(t, stop())
	require.GreaterOrEqual(t, status(t, g, "shelf").Position, last)

	g = newGroup(s)
	require.NoError(t, g.Add(p))
	start(t, g)
	require.Equal(t, []string{"shelf-a:2"}, keysOf(t, g))
	bad.cure()
	require.NoError(t, g.Retry(t.Context(), "shelf", "shelf-a"))
	wait(t, g, put(t, s, "a", 5))
	require.Equal(t, []int{1, 4, 2, 3, 5}, have())

	bad.put(2)
	require.NoError(t, g.Reset(t.Context(), "shelf"))
	wait(t, g, put(t, s, "b", 6))
	require.Equal(t, []int{1, 4, 6}, have())
	require.Equal(t, []string{"shelf-a:3"}, keysOf(t, g))
}

// dying is a target that works for so many accesses and then not at all, before or
// after it has done the last one, as if the process had ended there.
type dying[T any] struct {
	projection.Target[T]
	mu    sync.Mutex
	left  int
	after bool
	dead  bool
}

func (d *dying[T]) access(fn func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errBoom
	}
	if d.left--; d.left < 0 {
		d.dead = true
		if d.after {
			_ = fn()
		}
		return errBoom
	}
	return fn()
}

func (d *dying[T]) Load(ctx context.Context, name string) (at eventstore.Position, err error) {
	err = d.access(func() error {
		at, err = d.Target.Load(ctx, name)
		return err
	})
	return at, err
}

func (d *dying[T]) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(T) error) error {
	return d.access(func() error { return d.Target.Update(ctx, name, from, to, fn) })
}

// Wherever a process ends while it parks, retries or discards, the next one goes on as if it had not.
func TestAProcessMayEndAnywhereWhileItParks(t *testing.T) {
	t.Parallel()
	for _, discard := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("discard=%v/after=%v", discard, after), func(t *testing.T) {
				t.Parallel()
				died := 0
				for left := range 60 {
					synctest.Test(t, func(t *testing.T) {
						if dieWhileParking(t, left, after, discard) {
							died++
						}
					})
				}
				require.Greater(t, died, 20)
				require.Less(t, died, 60, "one process must have come through")
			})
		}
	}
}

func dieWhileParking(t *testing.T, left int, after, discard bool) (died bool) {
	s, bad := shelfStore(t), &poison{}
	bad.put(2)
	var m projection.Memory[Shelf]
	mortal := &dying[*Shelf]{Target: &m, left: left, after: after}
	g := newGroup(s)
	p := shelved(mortal, bad)
	p.OnError = projection.ParkAfter(1)
	require.NoError(t, g.Add(p))
	stop := start(t, g)
	put(t, s, "a", 1, 2, 3)
	put(t, s, "b", 11)
	time.Sleep(time.Second)
	put(t, s, "a", 4)
	time.Sleep(time.Second)
	unpark := func(g *projection.Group) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if discard {
			return g.Discard(ctx, "shelf", "shelf-a")
		}
		bad.cure()
		return g.Retry(ctx, "shelf", "shelf-a")
	}
	_ = unpark(g)
	require.NoError(t, stop())
	mortal.mu.Lock()
	died = mortal.dead
	mortal.mu.Unlock()

	next := newGroup(s)
	p = shelved(lasting[*Shelf]{&m}, bad)
	p.OnError = projection.ParkAfter(1)
	require.NoError(t, next.Add(p))
	start(t, next)
	wait(t, next, put(t, s, "b", 12))
	err := unpark(next)
	if !errors.Is(err, projection.ErrNotParked) {
		require.NoError(t, err)
	}
	wait(t, next, put(t, s, "a", 5))
	want := Shelf{"a": {1, 2, 3, 4, 5}, "b": {11, 12}}
	got := shelf(&m)
	if discard {
		// What was not parked yet when the first process died is parked, and given up, by the second.
		require.Equal(t, []int{1, 5}, got["a"], "died at %d", left)
		got["a"] = want["a"]
	}
	require.Equal(t, want, got, "died at %d", left)
	require.Empty(t, keysOf(t, next))
	return died
}
