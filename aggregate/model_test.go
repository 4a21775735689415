package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// A labelled deposit or withdrawal says which command it came from.
type moved struct {
	Label  string
	Amount int
}

func (e moved) Apply(v *vault) {
	if v.Seen == nil {
		v.Seen = map[string]int{}
	}
	v.Seen[e.Label]++
	v.Balance += e.Amount
	v.Events++
}

// A vault has references in its state, so that whatever a failed batch leaves behind
// shows.
type vault struct {
	Balance, Events int
	Seen            map[string]int
}

// move moves an amount, in so many events.
type move struct {
	ID, Label string
	Amount    int
	Parts     int
}

func (c move) AggregateID() string { return c.ID }

func (c move) Execute(v vault) ([]aggregate.Event[vault], error) {
	if v.Balance+c.Amount*c.Parts < 0 {
		return nil, errPoor
	}
	var out []aggregate.Event[vault]
	for range c.Parts {
		out = append(out, moved{c.Label, c.Amount})
	}
	return out, nil
}

// TestConcurrentCommandsAreLikeSomeSequenceOfThem runs many callers against a
// store that fails in every way it may, then replays the stream and compares.
func TestConcurrentCommandsAreLikeSomeSequenceOfThem(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var (
			seed      = rapid.Uint64().Draw(t, "seed")
			callers   = rapid.IntRange(1, 12).Draw(t, "callers")
			each      = rapid.IntRange(1, 10).Draw(t, "each")
			ids       = rapid.IntRange(1, 2).Draw(t, "ids")
			shared    = rapid.Bool().Draw(t, "shared")
			conflicts = rapid.IntRange(0, 20).Draw(t, "conflicts%")
			failures  = rapid.IntRange(0, 20).Draw(t, "failures%")
			unknowns  = rapid.IntRange(0, 20).Draw(t, "unknowns%")
			typ       = &aggregate.Type[vault]{
				Name: "vault", Events: aggregate.Events[vault]{"moved": moved{}},
				SnapshotEvery: rapid.IntRange(0, 5).Draw(t, "snapshots"),
				Cached:        rapid.SampledFrom([]int{-1, 1, 10}).Draw(t, "cached"),
				Queue:         rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "queue"),
			}
		)
		f := newFaulty()
		f.shared = shared
		f.limits = func(l *driver.Limits) { l.AppendEvents = 6 }
		dice := &dice{r: rand.New(rand.NewPCG(seed, 1))}
		f.before = func(a driver.Append) error {
			switch {
			case shared && dice.percent(conflicts):
				// Another process gets in first.
				r := f.engine.Append(context.Background(), driver.Append{Stream: a.Stream, Events: []driver.Event{
					{ID: eventstore.NewID(), Type: "moved", ContentType: "application/json", Data: []byte(`{"Label":"other","Amount":1}`)},
				}})
				return r.Err
			case dice.percent(failures):
				return errDisk
			case dice.percent(unknowns):
				return driver.ErrOutcomeUnknown
			}
			return nil
		}
		f.after = func(a driver.Append, r driver.Result) driver.Result {
			if dice.percent(unknowns) {
				return driver.Result{Err: driver.ErrOutcomeUnknown}
			}
			return r
		}
		s := eventstore.New(f, nil)
		nodes := []*aggregate.Repository[vault]{openVault(t, s, typ)}
		if shared {
			nodes = append(nodes, openVault(t, eventstore.New(f, nil), typ))
		}

		var mu sync.Mutex
		outcomes := map[string]outcome{}
		tell := func(label string, c move, res command.Result, err error) {
			mu.Lock()
			defer mu.Unlock()
			outcomes[label] = outcome{c, res, err}
		}
		var wg sync.WaitGroup
		for w := range callers {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(seed, uint64(w)+100))
				var pending sync.WaitGroup
				for i := range each {
					label := fmt.Sprintf("%d/%d", w, i)
					c := move{fmt.Sprint(rnd.IntN(ids)), label, rnd.IntN(21) - 8, 1 + rnd.IntN(3)}
					r := nodes[rnd.IntN(len(nodes))]
					ctx, cancel := context.Background(), func() {}
					switch rnd.IntN(4) {
					case 0:
						ctx, cancel = context.WithCancel(ctx)
					case 1:
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rnd.IntN(3000))*time.Microsecond)
					}
					opts := []command.Option{command.Once(label)}
					if rnd.IntN(3) == 0 {
						opts = nil
					}
					if rnd.IntN(2) == 0 {
						p := r.Submit(ctx, c, opts...)
						pending.Go(func() {
							res, err := p.Wait(context.Background())
							cancel()
							tell(label, c, res, err)
						})
						continue
					}
					res, err := r.Execute(ctx, c, opts...)
					for n := 0; len(opts) > 0 && n < 20 && (errors.Is(err, command.ErrOutcomeUnknown) || errors.Is(err, errDisk)); n++ {
						// With a key it is safe to send it again.
						res, err = r.Execute(context.Background(), c, opts...)
					}
					cancel()
					tell(label, c, res, err)
				}
				pending.Wait()
			})
		}
		wg.Wait()
		f.set(func(f *faulty) { f.before, f.after = nil, nil })
		check(t, s, nodes, ids, outcomes)
	})
}

type outcome struct {
	c   move
	res command.Result
	err error
}

// check compares what callers were told with what is stored.
func check(t *rapid.T, s *eventstore.Store, nodes []*aggregate.Repository[vault], ids int, outcomes map[string]outcome) {
	for id := range ids {
		name := fmt.Sprint(id)
		var model vault
		version := eventstore.Version(0)
		ends := map[string]eventstore.Version{}
		before := map[string]int{} // balance on which a command was decided
		for rec, err := range s.ReadStream(context.Background(), eventstore.Stream("vault", name), 0) {
			require.NoError(t, err)
			version++
			require.Equal(t, version, rec.Version, "versions are dense")
			e := rec.Data.(moved)
			if _, ok := before[e.Label]; !ok {
				before[e.Label] = model.Balance
			} else if e.Label != "other" {
				require.Equal(t, version-1, ends[e.Label], "the events of one command stand together")
			}
			ends[e.Label] = version
			e.Apply(&model)
		}
		for label, o := range outcomes {
			if o.c.ID != name {
				continue
			}
			n := model.Seen[label]
			switch {
			case o.err == nil:
				require.Equal(t, o.c.Parts, n, "%s was accepted, so it happened exactly once", label)
				require.Equal(t, ends[label], o.res.Version)
				require.NotZero(t, o.res.Position)
				if !o.res.Repeated {
					require.Len(t, o.res.Events, n)
				}
				require.GreaterOrEqual(t, before[label]+o.c.Amount*o.c.Parts, 0, "decided on the state it was appended to")
			case errors.Is(o.err, command.ErrOutcomeUnknown):
				require.Contains(t, []int{0, o.c.Parts}, n)
			default:
				require.Zero(t, n, "%s failed with %v, so nothing happened", label, o.err)
			}
		}
		for _, r := range nodes {
			require.NoError(t, r.View(context.Background(), name, func(v *vault, at eventstore.Version) {
				require.Equal(t, version, at)
				require.Equal(t, model, *v)
			}))
		}
	}
}

func openVault(t require.TestingT, s *eventstore.Store, typ *aggregate.Type[vault]) *aggregate.Repository[vault] {
	r, err := aggregate.New(s, typ)
	require.NoError(t, err)
	return r
}

type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) percent(n int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.IntN(100) < n
}
