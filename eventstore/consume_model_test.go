package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A cable is one process's way to a shared store, which can be cut.
type cable struct {
	driver.Store
	driver.Checkpointer
	driver.Leaser
	faults *eventstoretest.Faults
}

// A line leaves the engine open when it is closed, which is everybody's.
type line struct{ engine }

func (line) Close() error { return nil }

type engine = eventstoretest.Engine

// A slow engine takes its time to read the log, so that several are behind at once.
type slow struct{ engine }

func (s slow) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, n int) ([]driver.Recorded, uint64, error) {
	time.Sleep(20 * time.Millisecond)
	return s.engine.ReadAll(ctx, f, from, dir, n)
}

var quiet = slog.New(slog.DiscardHandler)

var errCut = errors.New("the cable is cut")

func newCable(t testing.TB, e engine) *cable {
	d, faults := eventstoretest.Faulty(t, line{e})
	return &cable{d, d.(driver.Checkpointer), d.(driver.Leaser), faults}
}

// cut ends all contact, or begins it again. What the process writes may still get through, so that only the answer is lost.
func (c *cable) cut(cut, through bool) {
	c.faults.Heal()
	if !cut {
		return
	}
	for _, op := range []eventstoretest.Op{
		eventstoretest.OpReadAll, eventstoretest.OpHead, eventstoretest.OpLoadCheckpoint, eventstoretest.OpSaveCheckpoint,
		eventstoretest.OpAcquire, eventstoretest.OpRelease, eventstoretest.OpLeases,
	} {
		if through && (op == eventstoretest.OpSaveCheckpoint || op == eventstoretest.OpAcquire) {
			c.faults.After(op, -1, errCut)
		} else {
			c.faults.Before(op, -1, errCut)
		}
	}
}

// A consuming is members of one consumer that come, go and fail, and what became of every event.
type consuming struct {
	t       *testing.T
	engine  engine
	store   *eventstore.Store // to append by
	rand    *rand.Rand
	config  eventstore.Consumer
	page    int // of their stores
	members []*consumingMember

	mu     sync.Mutex
	faults []string
	keys   map[string][]eventstore.Position // what was appended
	state  map[eventstore.Position]*fate
	fences map[int]uint64
}

type fate struct {
	key       string
	delivered int
	attempted bool // an acknowledgement was tried
	acked     bool // and succeeded
}

type consumingMember struct {
	*process
	stop context.CancelFunc
	done chan struct{}
}

// A process ends with its last member.
type process struct {
	cable   *cable
	store   *eventstore.Store
	members atomic.Int32
}

// begin adds a member, unless the process has ended.
func (p *process) begin() bool {
	for {
		n := p.members.Load()
		if n == 0 || p.members.CompareAndSwap(n, n+1) {
			return n > 0
		}
	}
}

func (p *process) end() {
	if p.members.Add(-1) == 0 {
		p.store.Close()
	}
}

func (c *consuming) fault(format string, args ...any) {
	c.faults = append(c.faults, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (c *consuming) append(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, err := c.store.Append(c.t.Context(), eventstore.Stream("key", key), eventstore.Any, eventstore.Event{Data: Counted{1}})
	if err != nil {
		c.fault("append: %v", err)
		return
	}
	c.keys[key] = append(c.keys[key], at.Position)
	c.state[at.Position] = &fate{key: key}
}

// join adds a member: of the process that another one is in, or of one of its own.
func (c *consuming) join(perfect bool, beside *consumingMember) {
	m := &consumingMember{done: make(chan struct{})}
	if beside != nil && beside.begin() {
		m.process = beside.process
	} else { // or that one has ended
		m.process = &process{cable: newCable(c.t, c.engine)}
		m.store = eventstore.New(m.cable, &eventstore.Options{Logger: quiet, PageSize: c.page})
		m.store.Types.Register("counted", Counted{})
		m.members.Store(1)
	}
	var ctx context.Context
	ctx, m.stop = context.WithCancel(c.t.Context())
	c.members = append(c.members, m)
	go func() {
		defer close(m.done)
		defer m.end()
		for d, err := range m.store.Consume(ctx, c.config) {
			if err != nil {
				if !errors.Is(err, context.Canceled) && !errors.Is(err, errCut) {
					c.mu.Lock()
					c.fault("consume: %v", err)
					c.mu.Unlock()
				}
				return
			}
			c.deliver(ctx, d, perfect)
		}
	}()
}

func (c *consuming) deliver(ctx context.Context, d *eventstore.Delivery, perfect bool) {
	c.mu.Lock()
	if d.Fence() < c.fences[d.Partition] {
		c.fault("partition %d was delivered under fence %d after %d", d.Partition, d.Fence(), c.fences[d.Partition])
	}
	c.fences[d.Partition] = d.Fence()
	own := map[eventstore.Position]bool{}
	for _, r := range d.Events {
		f := c.state[r.Position]
		f.delivered++
		if f.acked {
			c.fault("%d was delivered again after it was acknowledged", r.Position)
		}
		for _, pos := range c.keys[f.key] {
			if pos < r.Position && !own[pos] && !c.state[pos].attempted {
				c.fault("%d was delivered before %d of its key was dealt with", r.Position, pos)
			}
		}
		own[r.Position] = true
	}
	what, pause := c.rand.IntN(10), time.Duration(c.rand.IntN(4000))*time.Millisecond
	c.mu.Unlock()
	switch {
	case perfect || what < 5:
		c.ack(ctx, d)
	case what < 7: // somebody else acknowledges it, later
		go func() {
			time.Sleep(pause)
			c.ack(context.WithoutCancel(ctx), d)
		}()
	case what < 8:
		time.Sleep(pause)
		c.ack(ctx, d)
	case what < 9:
		d.Retry(pause)
	default: // forgotten for a long time
		go func() {
			time.Sleep(20 * pause)
			d.Retry(0)
		}()
	}
}

func (c *consuming) ack(ctx context.Context, d *eventstore.Delivery) {
	c.mu.Lock()
	for _, r := range d.Events {
		c.state[r.Position].attempted = true
	}
	c.mu.Unlock()
	err := d.Ack(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		return
	}
	if d.Fence() != c.fences[d.Partition] {
		c.fault("partition %d was acknowledged under fence %d after a delivery under %d", d.Partition, d.Fence(), c.fences[d.Partition])
	}
	for _, r := range d.Events {
		f := c.state[r.Position]
		if f.acked {
			c.fault("%d was acknowledged twice", r.Position)
		}
		f.acked = true
	}
}

// Members that join, leave, crash, lose their connection and acknowledge late, out of order or never lose no event, keep
// the order of keys, and never have a partition at the same time.
func TestConsumersLoseNothingWhateverTheirMembersDo(t *testing.T) {
	t.Parallel()
	type step struct {
		kind  int
		index int
		wait  time.Duration
	}
	rapid.Check(t, func(r *rapid.T) {
		config := eventstore.Consumer{
			Name: "c", From: eventstore.Origin(), Filter: eventstore.Filter{Categories: []string{"key"}},
			Partitions: rapid.IntRange(1, 4).Draw(r, "partitions"),
			Batch:      rapid.IntRange(1, 4).Draw(r, "batch"),
			InFlight:   rapid.IntRange(1, 3).Draw(r, "in flight"),
			Lease:      3 * time.Second,
		}
		page := rapid.SampledFrom([]int{1, 2, 512}).Draw(r, "page")
		seed := rapid.Uint64().Draw(r, "seed")
		steps := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) step {
			return step{
				rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 6, 7, 8, 8, 9}).Draw(r, "kind"), rapid.IntRange(0, 7).Draw(r, "index"),
				time.Duration(rapid.IntRange(0, 5000).Draw(r, "wait")) * time.Millisecond,
			}
		}), 1, 30).Draw(r, "steps")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			e := memstore.NewDriver().(engine)
			c := &consuming{
				t: t, engine: slow{e}, store: eventstore.New(e, &eventstore.Options{Logger: quiet}), rand: rand.New(rand.NewPCG(seed, 0)), config: config, page: page,
				keys: map[string][]eventstore.Position{}, state: map[eventstore.Position]*fate{}, fences: map[int]uint64{},
			}
			c.store.Types.Register("counted", Counted{})
			member := func(i int) *consumingMember {
				if len(c.members) == 0 {
					c.join(false, nil)
				}
				return c.members[i%len(c.members)]
			}
			for _, s := range steps {
				switch s.kind {
				case 0:
					for i := range 1 + s.index {
						c.append(string(rune('a' + (s.index+i)%5)))
					}
				case 1: // in a process of its own
					c.join(false, nil)
				case 2: // leaves
					member(s.index).stop()
				case 3: // crashes
					m := member(s.index)
					m.cable.cut(true, false)
					m.stop()
				case 4: // cannot reach the store
					member(s.index).cable.cut(true, s.index%2 == 0)
				case 5:
					member(s.index).cable.cut(false, false)
				case 6:
					time.Sleep(s.wait)
				case 8: // in the same process as another
					c.join(false, member(s.index))
				case 9: // all of a process leave but one
					m := member(s.index)
					for _, other := range c.members {
						if other.process == m.process && other != m {
							other.stop()
						}
					}
				case 7: // events that nobody wants
					for range s.index {
						_, err := c.store.Append(t.Context(), "other", eventstore.Any, eventstore.Event{Data: Counted{1}})
						if err != nil {
							t.Error(err)
						}
					}
				}
			}
			for _, m := range c.members {
				m.stop()
			}
			for _, m := range c.members {
				<-m.done
			}
			time.Sleep(time.Hour) // for leases of the dead, and acknowledgements by others
			c.join(true, nil)
			last := c.members[len(c.members)-1]
			time.Sleep(time.Minute)
			synctest.Wait()
			infos, err := c.store.Consumers(t.Context())
			if err != nil || len(infos) != 1 || infos[0].Lag != 0 || infos[0].Members != 1 {
				c.fault("in the end: %+v, %v", infos, err)
			}
			for pos, f := range c.state {
				if !f.attempted {
					c.fault("%d was lost", pos)
				}
			}
			last.stop()
			<-last.done
			infos, err = c.store.Consumers(t.Context())
			if err != nil || infos[0].Members != 0 || slices.ContainsFunc(infos[0].Partitions, func(p eventstore.PartitionInfo) bool { return p.Owner != "" }) {
				c.fault("after leaving: %+v, %v", infos, err)
			}
			if err := c.store.Close(); err != nil {
				t.Error(err)
			}
			faults = c.faults
		})
		if len(faults) > 0 {
			r.Fatalf("%d faults:\n%s", len(faults), faults[0])
		}
	})
}
