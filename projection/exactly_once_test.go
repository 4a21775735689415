package projection_test

import (
	"context"
	"errors"
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

// onceModel checks, whatever goes wrong where, with two groups that run the
// same projection, that are stopped and started, that every event is in the model once, in order.
func onceModel[M any](rt *rapid.T, t *testing.T, target projection.Target[*M], write func(*M, int), read func() []int) {
	s := newStore(t)
	f := &faulty[*M]{Target: target,
		rand: rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)),
		rate: rapid.SampledFrom([]float64{0, 0.05, 0.3}).Draw(rt, "rate"),
	}
	skips := rapid.SampledFrom([]int{0, 0, 3, 7}).Draw(rt, "skip multiples of")
	type proc struct {
		g    *projection.Group
		stop func()
	}
	procs := make([]*proc, rapid.IntRange(1, 2).Draw(rt, "groups"))
	for i := range procs {
		g := newGroup(s)
		err := g.Add(&projection.Projection[*M]{
			Name: "once", Target: f,
			Handlers: []projection.Handler[*M]{projection.On(func(_ context.Context, m *M, e Added, _ *eventstore.Recorded) error {
				write(m, e.N)
				if skips > 0 && e.N%skips == 0 {
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
			rt.Fatal(err)
		}
		procs[i] = &proc{g: g}
	}
	toggle := func(p *proc) {
		if p.stop != nil {
			p.stop()
			p.stop = nil
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		result := make(chan error, 1)
		go func() { result <- p.g.Run(ctx) }()
		p.stop = func() {
			cancel()
			if err := <-result; err != nil {
				rt.Fatal(err)
			}
		}
	}
	var last eventstore.Position
	var want []int
	next := 1
	for range rapid.IntRange(1, 30).Draw(rt, "steps") {
		switch rapid.IntRange(0, 9).Draw(rt, "step") {
		case 0, 1, 2:
			var ns []int
			for range rapid.IntRange(1, 6).Draw(rt, "events") {
				ns = append(ns, next)
				if skips == 0 || next%skips != 0 {
					want = append(want, next)
				}
				next++
			}
			last = add(t, s, ns...)
		case 3, 4:
			last = note(t, s, rapid.IntRange(1, 5).Draw(rt, "notes"))
		case 5:
			toggle(procs[rapid.IntRange(0, len(procs)-1).Draw(rt, "which")])
		case 6:
			p := procs[rapid.IntRange(0, len(procs)-1).Draw(rt, "which")]
			if err := p.g.Pause(context.Background(), "once"); err != nil {
				rt.Fatal(err)
			}
			if err := p.g.Resume("once"); err != nil {
				rt.Fatal(err)
			}
		case 7:
			if rapid.Bool().Draw(rt, "reset") {
				// It may fail, and then changes nothing.
				_ = procs[0].g.Reset(context.Background(), "once")
			}
		case 8:
			time.Sleep(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
		case 9:
			synctest.Wait()
		}
		if got := read(); !prefix(got, want) {
			rt.Fatalf("the model has %v, want a beginning of %v", got, want)
		}
	}
	f.heal()
	for _, p := range procs {
		if p.stop == nil {
			toggle(p)
		}
	}
	for _, p := range procs {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		if err := p.g.Wait(ctx, last); err != nil {
			rt.Fatal(err)
		}
		cancel()
	}
	if got := read(); !slices.Equal(got, want) {
		rt.Fatalf("the model has %v, want %v", got, want)
	}
	for _, p := range procs {
		toggle(p)
	}
	if at, err := target.Load(context.Background(), "once"); err != nil || at != last {
		rt.Fatalf("it ended at %d (%v), want %d", at, err, last)
	}
}

func prefix(got, want []int) bool { return len(got) <= len(want) && slices.Equal(got, want[:len(got)]) }

func TestEveryEventCountsOnceWhateverFails(t *testing.T) {
	t.Parallel()
	t.Run("in a model with a clone", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(rt *rapid.T) {
			synctest.Test(t, func(t *testing.T) {
				var m projection.Memory[Log]
				onceModel(rt, t, &m, func(l *Log, n int) { l.Seen = append(l.Seen, n) }, func() []int { return seen(&m) })
			})
		})
	})
	t.Run("in a model that is built again", func(t *testing.T) {
		t.Parallel()
		type list struct{ seen []int }
		rapid.Check(t, func(rt *rapid.T) {
			synctest.Test(t, func(t *testing.T) {
				var m projection.Memory[list]
				onceModel(rt, t, &m, func(l *list, n int) { l.seen = append(l.seen, n) }, func() (ns []int) {
					m.View(func(l *list, _ eventstore.Position) { ns = slices.Clone(l.seen) })
					return ns
				})
			})
		})
	})
	t.Run("in a model that is assigned", func(t *testing.T) {
		t.Parallel()
		type array struct {
			n    int
			seen [256]int
		}
		rapid.Check(t, func(rt *rapid.T) {
			synctest.Test(t, func(t *testing.T) {
				var m projection.Memory[array]
				onceModel(rt, t, &m, func(a *array, n int) { a.seen[a.n] = n; a.n++ }, func() (ns []int) {
					m.View(func(a *array, _ eventstore.Position) { ns = slices.Clone(a.seen[:a.n]) })
					return ns
				})
			})
		})
	})
}
