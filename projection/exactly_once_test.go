package projection_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// faulty is a target, and what handlers ask, that fails with a probability before a
// transaction, in a handler, when it commits, and after it has committed.
type faulty[T any] struct {
	projection.Target[T]
	mu   sync.Mutex
	rand *rand.Rand
	rate float64 // of each fault
}

func (f *faulty[T]) fault(what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rand.Float64() >= f.rate {
		return nil
	}
	if f.rand.IntN(4) == 0 {
		panic(what)
	}
	return errors.New(what)
}

func (f *faulty[T]) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = 0
}

func (f *faulty[T]) Load(ctx context.Context, name string) (eventstore.Position, error) {
	if err := f.fault("load"); err != nil {
		return 0, err
	}
	return f.Target.Load(ctx, name)
}

func (f *faulty[T]) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(T) error) error {
	if err := f.fault("begin"); err != nil {
		return err
	}
	err := f.Target.Update(ctx, name, from, to, func(tx T) error {
		if err := fn(tx); err != nil {
			return err
		}
		return f.fault("commit")
	})
	if err != nil {
		return err
	}
	return f.fault("answer")
}

// A plan is what happens to one or two groups that run the same projection.
type plan struct {
	seed   uint64
	rate   float64 // of each fault
	groups int
	skip   int // multiples of it are skipped; 0 for none
	steps  []step
}

type step struct {
	what string
	n    int
}

var plans = rapid.Custom(func(rt *rapid.T) plan {
	p := plan{
		seed:   rapid.Uint64().Draw(rt, "seed"),
		rate:   rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "rate"),
		groups: rapid.IntRange(1, 2).Draw(rt, "groups"),
		skip:   rapid.SampledFrom([]int{0, 0, 3, 7}).Draw(rt, "skip"),
	}
	for range rapid.IntRange(1, 30).Draw(rt, "steps") {
		st := step{what: rapid.SampledFrom([]string{
			"add", "add", "add", "note", "note", "run or stop", "pause", "reset", "sleep", "settle",
		}).Draw(rt, "what")}
		switch st.what {
		case "add", "note":
			st.n = rapid.IntRange(1, 6).Draw(rt, "events")
		case "run or stop", "pause", "reset":
			st.n = rapid.IntRange(0, p.groups-1).Draw(rt, "group")
		case "sleep":
			st.n = rapid.IntRange(0, 3000).Draw(rt, "milliseconds")
		}
		p.steps = append(p.steps, st)
	}
	return p
})

// carryOut returns an error unless, whatever goes wrong where, every event is in
// the model once, in order.
func carryOut[M any](t *testing.T, p plan, target projection.Target[*M], write func(*M, int), read func() []int) error {
	s := newStore(t)
	f := &faulty[*M]{Target: target, rand: rand.New(rand.NewPCG(p.seed, 1)), rate: p.rate}
	skips := func(n int) bool { return p.skip > 0 && n%p.skip == 0 }
	var groups []*projection.Group
	var stops []func() error // nil for a group that does not run
	for range p.groups {
		g := newGroup(s)
		err := g.Add(&projection.Projection[*M]{
			Name: "once", Target: f,
			Handlers: []projection.Handler[*M]{projection.On(func(_ context.Context, m *M, e Added, _ *eventstore.Recorded) error {
				write(m, e.N)
				if skips(e.N) {
					return errBoom
				}
				return f.fault("handler")
			})},
			OnError: func(fail projection.Failure) projection.Action {
				if errors.Is(fail.Err, errBoom) {
					return projection.Skip()
				}
				return projection.Retry(fail)
			},
		})
		if err != nil {
			return err
		}
		groups, stops = append(groups, g), append(stops, nil)
	}
	toggle := func(i int) error {
		if stop := stops[i]; stop != nil {
			stops[i] = nil
			return stop()
		}
		stops[i] = start(t, groups[i])
		return nil
	}

	var last eventstore.Position
	var want []int
	next := 1
	for i, st := range p.steps {
		var err error
		switch st.what {
		case "add":
			var ns []int
			for range st.n {
				ns = append(ns, next)
				if !skips(next) {
					want = append(want, next)
				}
				next++
			}
			last = add(t, s, ns...)
		case "note":
			last = note(t, s, st.n)
		case "run or stop":
			err = toggle(st.n)
		case "pause":
			err = errors.Join(groups[st.n].Pause(t.Context(), "once"), groups[st.n].Resume("once"))
		case "reset":
			err = groups[st.n].Reset(t.Context(), "once")
		case "sleep":
			time.Sleep(time.Duration(st.n) * time.Millisecond)
		case "settle":
			synctest.Wait()
		}
		if err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if got := read(); len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			return fmt.Errorf("after step %d the model has %v, want a beginning of %v", i, got, want)
		}
	}

	f.heal()
	for i := range groups {
		if stops[i] == nil {
			if err := toggle(i); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for i, g := range groups {
		if err := g.Wait(ctx, last); err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
	}
	if got := read(); !slices.Equal(got, want) {
		return fmt.Errorf("the model has %v, want %v", got, want)
	}
	synctest.Wait() // one that has begun anew may have filtered events to go over again
	for i := range groups {
		if err := toggle(i); err != nil {
			return err
		}
	}
	if at, err := target.Load(ctx, "once"); err != nil || at != last {
		return fmt.Errorf("it ended at %d (%v), want %d", at, err, last)
	}
	return nil
}

// checkPlans runs plans in bubbles, where rapid's own panics must not go.
func checkPlans(t *testing.T, try func(t *testing.T, p plan) error) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p := plans.Draw(rt, "plan")
		var err error
		synctest.Test(t, func(t *testing.T) { err = try(t, p) })
		if err != nil {
			rt.Fatal(err)
		}
	})
}

func TestEveryEventCountsOnceWhateverFails(t *testing.T) {
	t.Parallel()
	t.Run("in a model with a clone", func(t *testing.T) {
		checkPlans(t, func(t *testing.T, p plan) error {
			var m projection.Memory[Log]
			return carryOut(t, p, &m, func(l *Log, n int) { l.Seen = append(l.Seen, n) }, func() []int { return seen(&m) })
		})
	})
	t.Run("in a model that is built again", func(t *testing.T) {
		type list struct{ seen []int }
		checkPlans(t, func(t *testing.T, p plan) error {
			var m projection.Memory[list]
			return carryOut(t, p, &m, func(l *list, n int) { l.seen = append(l.seen, n) }, func() (ns []int) {
				m.View(func(l *list, _ eventstore.Position) { ns = slices.Clone(l.seen) })
				return ns
			})
		})
	})
	t.Run("in a model that is assigned", func(t *testing.T) {
		type array struct {
			n    int
			seen [256]int
		}
		checkPlans(t, func(t *testing.T, p plan) error {
			var m projection.Memory[array]
			return carryOut(t, p, &m, func(a *array, n int) { a.seen[a.n] = n; a.n++ }, func() (ns []int) {
				m.View(func(a *array, _ eventstore.Position) { ns = slices.Clone(a.seen[:a.n]) })
				return ns
			})
		})
	})
}
