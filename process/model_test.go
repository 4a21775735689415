package process_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/bank/bank"
	"github.com/levada-go/levada/process"
)

// A mortal is one node's way to a store that all share. After so many writes it is dead: of the last one
// only the node's knowledge is lost, or all of it.
type mortal struct {
	shared
	writes atomic.Int64 // left; negative for ever
	silent bool         // the last write gets through
	dead   atomic.Bool
}

var errDead = errors.New("the node is dead")

// write reports whether a write gets through, and whether its answer does.
func (m *mortal) write() (through, answered bool) {
	if m.dead.Load() {
		return false, false
	}
	if m.writes.Load() < 0 || m.writes.Add(-1) > 0 {
		return true, true
	}
	m.dead.Store(true)
	return m.silent, false
}

func (m *mortal) Append(ctx context.Context, a driver.Append) driver.Result {
	return m.AppendBatch(ctx, []driver.Append{a})[0]
}

func (m *mortal) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	through, answered := m.write()
	var res []driver.Result
	if through {
		res = m.shared.AppendBatch(ctx, as)
	}
	if !answered {
		res = make([]driver.Result, len(as))
		for i := range res {
			res[i].Err = errDead
		}
	}
	return res
}

func (m *mortal) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	through, answered := m.write()
	var err error
	if through {
		err = m.shared.SaveCheckpoint(ctx, name, from, to)
	}
	if !answered {
		return errDead
	}
	return err
}

func (m *mortal) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	if m.dead.Load() {
		return 0, false, errDead
	}
	return m.shared.Acquire(ctx, name, owner, ttl)
}

func (m *mortal) Release(ctx context.Context, name, owner string, fence uint64) error {
	if m.dead.Load() {
		return errDead
	}
	return m.shared.Release(ctx, name, owner, fence)
}

// A town has nodes that run one bank, and come, go and die.
type town struct {
	t     *testing.T
	d     everything
	nodes []*node

	mu     sync.Mutex
	rand   *rand.Rand
	kind   bool // all goes well from here on
	faults []string
}

type node struct {
	way   *mortal
	store *eventstore.Store
	app   *levada.App
	stop  func()
}

func (w *town) chance(percent int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.kind && w.rand.IntN(100) < percent
}

func (w *town) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

var errLost = errors.New("the line is down")

// weather is middleware: commands are slow, do not arrive, or their answers do not.
func (w *town) weather(next command.Handler) command.Handler {
	return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
		if w.chance(5) {
			return command.Result{}, errLost
		}
		if w.chance(30) {
			w.mu.Lock()
			d := time.Duration(w.rand.IntN(300)) * time.Millisecond
			w.mu.Unlock()
			time.Sleep(d)
		}
		res, err := next.HandleCommand(ctx, e)
		if w.chance(5) {
			return command.Result{}, errLost
		}
		return res, err
	})
}

func (w *town) join() *node {
	n := &node{way: &mortal{shared: shared{w.d}}}
	n.way.writes.Store(-1)
	n.store = eventstore.New(n.way, &eventstore.Options{Logger: quiet})
	var err error
	n.app, err = levada.New(n.store, levada.Config{
		Aggregates: []aggregate.Opener{bank.Accounts, bank.Transfers},
		Processes:  []process.Opener{bank.Transferrals},
		Middleware: []command.Middleware{w.weather},
		Logger:     quiet,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.app.Run(ctx)
		_ = n.store.Close()
	}()
	n.stop = func() {
		cancel()
		<-ended
	}
	w.nodes = append(w.nodes, n)
	return n
}

// node returns one that lives.
func (w *town) node(i int) *node {
	var living []*node
	for _, n := range w.nodes {
		if !n.way.dead.Load() {
			living = append(living, n)
		} else {
			go n.stop()
		}
	}
	if len(living) == 0 {
		return w.join()
	}
	return living[i%len(living)]
}

// people do what they do, and do not mind if it fails.
func (w *town) people(i int, c command.Command) {
	n := w.node(i)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = n.app.Dispatch(ctx, c)
	}()
}

const accounts = 4

func account(i int) string { return fmt.Sprintf("a%d", i%accounts) }

// check looks at everything that was ever written.
func (w *town) check(s *eventstore.Store) {
	var deposited int64
	money := map[string]*bank.Account{}
	ends := map[string][]string{} // of transfers
	did := map[string]map[string]int{}
	keys := map[string]bool{}
	note := func(transfer, what string) {
		if did[transfer] == nil {
			did[transfer] = map[string]int{}
		}
		did[transfer][what]++
	}
	for r, err := range s.ReadAll(context.Background(), eventstore.Filter{}, 0) {
		if err != nil {
			w.fault("%v", err)
			return
		}
		if k := r.Metadata["$key"]; k != "" {
			if keys[k] {
				w.fault("%s took effect twice", k)
			}
			keys[k] = true
		}
		if e, ok := r.Data.(bank.AccountEvent); ok {
			a := money[r.Stream.ID()]
			if a == nil {
				a = &bank.Account{}
				money[r.Stream.ID()] = a
			}
			e.Apply(a)
			if a.Balance < 0 {
				w.fault("%s has %d", r.Stream, a.Balance)
			}
		}
		switch e := r.Data.(type) {
		case bank.Deposited:
			deposited += e.Amount
		case bank.Held:
			note(e.Transfer, "held")
		case bank.Received:
			note(e.Transfer, "received")
		case bank.Captured:
			note(e.Transfer, "captured")
		case bank.Released:
			note(e.Transfer, "released")
		case bank.Sent:
			ends[e.Transfer] = append(ends[e.Transfer], "")
		case bank.Completed:
			ends[e.Transfer] = append(ends[e.Transfer], "completed")
		case bank.Failed:
			ends[e.Transfer] = append(ends[e.Transfer], "failed")
		case bank.Expired:
			ends[e.Transfer] = append(ends[e.Transfer], "expired")
		}
	}
	var sum int64
	for id, a := range money {
		sum += a.Balance
		if len(a.Holds) > 0 {
			w.fault("%s still holds %v", id, a.Holds)
		}
	}
	if sum != deposited {
		w.fault("of %d there is %d", deposited, sum)
	}
	for id, end := range ends {
		if len(end) != 2 {
			w.fault("transfer %s ended %d times: %v", id, len(end)-1, end)
			continue
		}
		d := did[id]
		switch completed := end[1] == "completed"; {
		case d["held"] > 1 || d["held"] != d["captured"]+d["released"]:
			w.fault("transfer %s %s: %v", id, end[1], d)
		case completed != (d["received"] == 1), completed != (d["captured"] == 1):
			w.fault("transfer %s %s: %v", id, end[1], d)
		}
		w.history(s, id)
	}
}

// history checks that an instance handled its events in order, once, and ended.
func (w *town) history(s *eventstore.Store, id string) {
	var last eventstore.Position
	var status process.Status
	for e, err := range process.History(context.Background(), s, "transfer", id) {
		if err != nil {
			w.fault("%v", err)
			return
		}
		status = e.Status
		if e.What == "$process.handled" || e.What == "$process.ended" {
			if e.Event.Position <= last {
				w.fault("transfer %s handled %d after %d", id, e.Event.Position, last)
			}
			last = e.Event.Position
		}
	}
	if status != process.Ended {
		w.fault("the instance of transfer %s is %s", id, status)
	}
}

func TestMoneyIsConservedWhateverHappens(t *testing.T) {
	t.Parallel()
	type step struct {
		kind, index int
		wait        time.Duration
	}
	// One check is some minutes of many nodes, and takes a tenth of a second: unless asked for more there are 40.
	most, checks := 30, 40
	if race {
		most, checks = 10, 15
	}
	if f := flag.Lookup("rapid.checks"); f.Value.String() != f.DefValue {
		checks = math.MaxInt
	}
	rapid.Check(t, func(r *rapid.T) {
		if checks--; checks < 0 {
			return
		}
		seed := rapid.Uint64().Draw(r, "seed")
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2, 2, 3, 4, 5, 5, 5, 6, 7, 8}).Draw(r, "kind"), rapid.IntRange(0, 15).Draw(r, "index"),
				time.Duration(rapid.IntRange(0, 3000).Draw(r, "wait")) * time.Millisecond,
			}
		}), 5, most).Draw(r, "steps")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			w := &town{t: t, d: memstore.NewDriver().(everything), rand: rand.New(rand.NewPCG(seed, 0)), kind: true}
			for i := range accounts {
				for _, c := range []command.Command{bank.Open{Account: account(i)}, bank.Deposit{Account: account(i), Amount: 100}} {
					if _, err := w.node(0).app.Dispatch(t.Context(), c); err != nil {
						t.Fatal(err)
					}
				}
			}
			w.kind = false
			transfers := 0
			for _, s := range steps {
				switch s.kind {
				case 0: // several at once
					for i := range 1 + s.index%5 {
						w.people(s.index+i, bank.Send{
							Transfer: fmt.Sprintf("t%d", transfers), From: account(s.index + i), To: account(s.index + i + 1 + i%3),
							Amount: int64(10 + 13*(s.index%8)), Ask: (s.index+i)%3 == 0,
						})
						transfers++
					}
				case 1:
					w.people(s.index, bank.Accept{Transfer: fmt.Sprintf("t%d", s.index)})
				case 2:
					if len(w.nodes) < 8 {
						w.join()
					}
				case 3: // dies at one of the next writes
					way := w.node(s.index).way
					way.silent = s.index%2 == 0
					way.writes.Store(int64(1 + s.index/2))
				case 4: // ends in peace
					n := w.node(s.index)
					n.stop()
					n.way.dead.Store(true)
				case 5:
					time.Sleep(s.wait)
				case 6:
					w.people(s.index, bank.Close{Account: account(s.index)})
				case 7:
					w.people(s.index, bank.Open{Account: account(s.index)})
				case 8:
					time.Sleep(time.Duration(s.index) * bank.TimeToAccept / 16)
				}
			}
			w.mu.Lock()
			w.kind = true
			w.mu.Unlock()
			for _, n := range w.nodes {
				n.way.dead.Store(true)
			}
			for _, n := range w.nodes {
				n.stop()
			}
			last := w.join()
			time.Sleep(time.Minute) // for the leases of the dead
			time.Sleep(bank.TimeToAccept + time.Minute)
			synctest.Wait()
			w.check(last.store)
			last.stop()
			faults = w.faults
		})
		if len(faults) > 0 {
			r.Fatalf("%d faults:\n%s", len(faults), faults[0])
		}
	})
}
