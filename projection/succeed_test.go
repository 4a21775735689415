package projection_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
	"zombiezen.com/go/sqlite"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// Mails is a model with side effects: what was sent, whoever wrote it.
type mails struct {
	mu   sync.Mutex
	sent []int
}

func (m *mails) send(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent = append(m.sent, n)
}

func (m *mails) list() []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.sent)
}

// mailing logs what was added, times factor, and mails it unless it is only replayed.
func mailing(name string, target projection.Target[*Log], out *mails, factor int) *projection.Projection[*Log] {
	return &projection.Projection[*Log]{
		Name: name, Target: target,
		Handlers: []projection.Handler[*Log]{projection.On(func(ctx context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
			l.Seen = append(l.Seen, factor*e.N)
			if !projection.Replaying(ctx) {
				out.send(e.N)
			}
			return nil
		})},
	}
}

func TestASecondVersionCatchesUpAndTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var v1, v2 projection.Memory[Log]
		out := &mails{}
		g := newGroup(s)
		require.NoError(t, g.Add(mailing("log", &v1, out, 1)))
		stop := start(t, g)
		wait(t, g, add(t, s, 1, 2, 3))
		require.NoError(t, stop())

		slow := &tap[*Log]{Target: &v2}
		hold := make(chan struct{})
		slow.before = func(eventstore.Position) error { <-hold; return nil }
		p := mailing("log2", slow, out, 10)
		p.Replaces = "log"
		require.NoError(t, g.Add(p))
		live := projection.Live[*projection.Memory[Log]]{Group: g, Models: map[string]*projection.Memory[Log]{"log": &v1, "log2": &v2}}
		start(t, g)
		at := add(t, s, 4)
		require.NoError(t, g.Wait(t.Context(), at, "log"))
		m, err := live.Model(t.Context())
		require.NoError(t, err)
		require.Same(t, &v1, m, "until the other has caught up")
		require.Equal(t, []int{1, 2, 3, 4}, seen(m))

		close(hold)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		m, err = live.Model(t.Context())
		require.NoError(t, err)
		require.Same(t, &v2, m)
		require.Equal(t, projection.Replaced, status(t, g, "log").State)
		at = add(t, s, 5)
		require.NoError(t, g.Wait(t.Context(), at, "log"), "it is waited for in its successor")
		require.Equal(t, []int{10, 20, 30, 40, 50}, seen(m))
		require.Equal(t, []int{1, 2, 3, 4}, seen(&v1))
		require.Equal(t, []int{1, 2, 3, 4, 5}, out.list(), "each is mailed once")

		require.NoError(t, g.Reset(t.Context(), "log"))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Empty(t, seen(&v1), "it can be emptied and stays replaced")
		require.Equal(t, projection.Replaced, status(t, g, "log").State)
		name, err := g.Current(t.Context(), "log")
		require.NoError(t, err)
		require.Equal(t, "log2", name)
	})
}

// However little its successor is behind, whoever reads from the first version sees what happens now.
func TestThePredecessorGoesOnUntilTheSuccessorHasCaughtUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var v1, v2 projection.Memory[Log]
		out := &mails{}
		g := newGroup(s)
		require.NoError(t, g.Add(mailing("log", &v1, out, 1)))
		stop := start(t, g)
		wait(t, g, add(t, s, 1, 2, 3))
		require.NoError(t, stop())

		slow := &tap[*Log]{Target: &v2}
		step := make(chan struct{})
		slow.before = func(eventstore.Position) error { <-step; return nil }
		p := mailing("log2", slow, out, 10)
		p.Replaces = "log"
		require.NoError(t, g.Add(p))
		start(t, g)
		synctest.Wait()
		for n := 4; n < 8; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			require.NoError(t, g.Wait(ctx, add(t, s, n), "log"))
			cancel()
			require.Len(t, seen(&v1), n, "with its successor one event behind")
			require.Equal(t, projection.Running, status(t, g, "log").State)
			step <- struct{}{}
			synctest.Wait()
		}
		close(step)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		name, err := g.Current(t.Context(), "log")
		require.NoError(t, err)
		require.Equal(t, "log2", name)
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7}, out.list())
	})
}

// Whatever fails, and in whichever of two processes, every event is in both models once,
// and exactly one of the two versions handled it for the first time.
func TestASuccessionSurvivesWhateverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		seed, rate := rapid.Uint64().Draw(rt, "seed"), rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "rate")
		steps := rapid.SliceOfN(rapid.IntRange(0, 5000), 1, 30).Draw(rt, "steps")
		var err error
		synctest.Test(t, func(t *testing.T) { err = carryOutSuccession(t, seed, rate, steps) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func carryOutSuccession(t *testing.T, seed uint64, rate float64, steps []int) error {
	s := newStore(t)
	var v1, v2 projection.Memory[Log]
	var faults []*faulty[*Log]
	target := func(m projection.Target[*Log], n uint64) projection.Target[*Log] {
		f := &faulty[*Log]{Target: m, rand: rand.New(rand.NewPCG(seed, n)), rate: rate}
		faults = append(faults, f)
		return &slow[*Log]{Target: f, rand: rand.New(rand.NewPCG(seed, n+9)), most: time.Duration(seed%3) * 100 * time.Millisecond}
	}
	one, two := target(&v1, 1), target(&v2, 2)
	// fresh has what the models hold first handled, not replayed: as a model of its own would.
	version := func(name string, target projection.Target[*Log]) *projection.Projection[*Log] {
		return &projection.Projection[*Log]{Name: name, Target: target, Handlers: []projection.Handler[*Log]{
			projection.On(func(ctx context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
				n := e.N
				if projection.Replaying(ctx) {
					n = -n
				}
				l.Seen = append(l.Seen, n)
				return nil
			})}}
	}
	var groups []*projection.Group
	stops := make([]func() error, 2)
	for range 2 {
		g := newGroup(s)
		p := version("log2", two)
		p.Replaces = "log"
		if err := g.Add(p, version("log", one)); err != nil {
			return err
		}
		groups = append(groups, g)
	}
	toggle := func(i int) (err error) {
		if stop := stops[i]; stop != nil {
			stops[i] = nil
			return stop()
		}
		stops[i] = start(t, groups[i])
		return nil
	}
	var all []int
	for _, n := range steps {
		switch n % 4 {
		case 0, 1:
			for range n%5 + 1 {
				all = append(all, len(all)+1)
				add(t, s, len(all))
			}
		case 2:
			if err := toggle(n / 4 % 2); err != nil {
				return err
			}
		case 3:
			time.Sleep(time.Duration(n) * time.Millisecond)
		}
	}
	for _, f := range faults {
		f.heal()
	}
	for i := range stops {
		if stops[i] == nil {
			if err := toggle(i); err != nil {
				return err
			}
		}
	}
	all = append(all, len(all)+1)
	last := add(t, s, len(all))
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for i, g := range groups {
		if err := g.Wait(ctx, last); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
		for {
			name, err := g.Current(ctx, "log2")
			if err != nil {
				return err
			}
			if name == "log2" {
				break
			}
			time.Sleep(time.Second)
			if ctx.Err() != nil {
				return fmt.Errorf("group %d: %s is still current", i, name)
			}
		}
	}
	first, second := seen(&v1), seen(&v2)
	for i, n := range second {
		replayed := n < 0
		if max(n, -n) != i+1 {
			return fmt.Errorf("the second version has %v", second)
		}
		if replayed != (i < len(first)) {
			return fmt.Errorf("%d replayed is %v, while the first version has %v", i+1, replayed, first)
		}
	}
	if len(second) != len(all) || len(first) > len(all) {
		return fmt.Errorf("of %d the first version has %v, the second %v", len(all), first, second)
	}
	for i, n := range first {
		if n != i+1 {
			return fmt.Errorf("the first version has %v", first)
		}
	}
	for i := range groups {
		if err := toggle(i); err != nil {
			return err
		}
	}
	return nil
}

func TestFaultsOfReplacesAreReported(t *testing.T) {
	t.Parallel()
	p := func(name, replaces string) *projection.Projection[*Log] {
		p := logged(name, &projection.Memory[Log]{})
		p.Replaces = replaces
		return p
	}
	for name, ps := range map[string][]projection.Runner{
		"unknown": {p("a", "b")},
		"itself":  {p("a", "a")},
		"twice":   {p("a", ""), p("b", "a"), p("c", "a")},
		"circle":  {p("a", "b"), p("b", "a")},
	} {
		require.Error(t, newGroup(newStore(t)).Add(ps...), name)
	}
	_, err := newGroup(newStore(t)).Current(t.Context(), "none")
	var stopped *projection.StoppedError
	require.ErrorAs(t, err, &stopped)
}

func TestARebuildTellsHowItGetsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Log]
		g := newGroup(s)
		p := logged("log", &m)
		p.Handlers[0] = projection.On(func(_ context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
			time.Sleep(100 * time.Millisecond)
			l.Seen = append(l.Seen, e.N)
			return nil
		})
		require.NoError(t, g.Add(p))
		start(t, g)
		for n := range 100 {
			wait(t, g, add(t, s, n)) // a batch each
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		calls := 0
		require.ErrorIs(t, g.Rebuild(ctx, "log", func(projection.Status) { calls++ }), context.DeadlineExceeded)
		require.Equal(t, 3, calls)
		wait(t, g, 100)
		require.Len(t, seen(&m), 100, "it goes on")

		var last projection.Status
		require.NoError(t, g.Rebuild(t.Context(), "log", func(s projection.Status) { last = s }))
		require.EqualValues(t, 100, last.Position)
		require.NoError(t, g.Rebuild(t.Context(), "log", nil))
		var stopped *projection.StoppedError
		require.ErrorAs(t, g.Rebuild(t.Context(), "none", nil), &stopped)
	})
}

func TestTheETAComesOfThePace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStoreWith(t, eventstore.Options{PageSize: 10})
		var m projection.Memory[Log]
		g := newGroup(s)
		p := logged("log", &m)
		p.Handlers[0] = projection.On(func(_ context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
			time.Sleep(100 * time.Millisecond) // ten events a second
			return nil
		})
		require.NoError(t, g.Add(p))
		for n := range 400 {
			add(t, s, n)
		}
		start(t, g)
		time.Sleep(20500 * time.Millisecond)
		st := status(t, g, "log")
		require.InDelta(t, 200, st.Lag, 1)
		require.InDelta(t, 20, st.ETA.Seconds(), 4)
		wait(t, g, 400)
		require.Zero(t, status(t, g, "log").ETA)
	})
}

func TestThePredecessorAnswersWhileTheSuccessorIsReset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var v1, v2 projection.Memory[Log]
		out := &mails{}
		slow := &tap[*Log]{Target: &v2}
		p := mailing("log2", slow, out, 10)
		p.Replaces = "log"
		g := newGroup(s)
		require.NoError(t, g.Add(mailing("log", &v1, out, 1)))
		stop := start(t, g)
		wait(t, g, add(t, s, 1, 2))
		require.NoError(t, stop())
		require.NoError(t, g.Add(p))
		start(t, g)
		last := add(t, s, 3)
		wait(t, g, last)
		time.Sleep(5 * time.Second)
		current := func() string {
			name, err := g.Current(t.Context(), "log")
			require.NoError(t, err)
			return name
		}
		require.Equal(t, "log2", current())
		hold := make(chan struct{})
		slow.before = func(eventstore.Position) error { <-hold; return nil }
		require.NoError(t, g.Reset(t.Context(), "log2"))
		synctest.Wait()
		require.Equal(t, "log", current())
		close(hold)
		time.Sleep(5 * time.Second)
		require.Equal(t, "log2", current())
		require.Equal(t, []int{10, 20, 30}, seen(&v2))
	})
}

// Whoever gives up waiting for a rebuild, or ends in the middle of it, leaves a model that is filled from where it is.
func TestARebuildThatIsGivenUpGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), &sqlitestore.Options{Store: eventstore.Options{Logger: quiet, PageSize: 4}})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("put", Put{}))
	m := openRows(t, s, sqlitestore.Target)
	var want []int
	for n := range 30 {
		put(t, s, "a", n)
		want = append(want, n)
	}
	p := m.projection()
	p.Inline = false
	hold := make(chan struct{})
	var calls atomic.Int64
	p.Handlers = []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Put, r *eventstore.Recorded) error {
		if calls.Add(1) > 40 { // in the middle of the second time
			<-hold
		}
		return insert(c, e.N, r.Position)
	})}
	g := newGroup(s)
	require.NoError(t, g.Add(p))
	running, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.Run(running) }()
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	wait(t, g, head)
	require.Equal(t, want, m.list(t))

	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- g.Rebuild(ctx, "rows", nil) }()
	require.Eventually(t, func() bool { return calls.Load() > 40 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-given, context.Canceled)
	stop()
	close(hold)
	require.NoError(t, <-ended)
	at, err := m.Load(t.Context(), "rows")
	require.NoError(t, err)
	require.Less(t, at, head, "it is not through")
	require.NotZero(t, at, "and does not begin again")
	before := calls.Load()

	g = newGroup(s)
	require.NoError(t, g.Add(p))
	start(t, g)
	wait(t, g, head)
	require.Equal(t, want, m.list(t))
	require.Less(t, calls.Load()-before, int64(30))
}
