package stacktest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/projection"
)

// A process has a store of its own on the log. It is opened again now and then.
type process struct {
	*stack
	id      int
	stopped atomic.Bool // its writers

	mu       sync.Mutex
	run      *run
	restarts int
	model    *projection.Memory[model]        // of the run
	seen     map[string][]eventstore.Position // by who saw it: over all runs
}

// A run is a process between two restarts.
type run struct {
	store  *eventstore.Store
	faults *eventstoretest.Faults
	group  *projection.Group
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// A model is what a projection has counted.
type model struct {
	last   map[eventstore.StreamName]int
	faults []string
}

func newProcess(s *stack, id int) *process {
	p := &process{stack: s, id: id, seen: map[string][]eventstore.Position{"follower": nil, "subscriber": nil}}
	p.open()
	return p
}

// open starts the process.
func (p *process) open() {
	d, faults := eventstoretest.Faulty(p.t, p.opt.Open(p.t))
	r := &run{store: newStore(d), faults: faults}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	m := &projection.Memory[model]{}
	r.group = &projection.Group{Store: r.store, Logger: quiet}
	if err := r.group.Add(&projection.Projection[*model]{
		Name: "count", Target: m, Filter: all, Partitions: 3, Handlers: []projection.Handler[*model]{projection.On(count)},
	}); err != nil {
		p.fault("a projection cannot be added: %v", err)
	}
	p.mu.Lock()
	p.run, p.model = r, m
	p.mu.Unlock()
	r.work.Go(func() {
		if err := r.group.Run(ctx); err != nil && !errors.Is(err, eventstore.ErrClosed) {
			p.fault("process %d: projections end with %v", p.id, err)
		}
	})
	r.work.Go(func() { p.follow(ctx, r.store) })
	r.work.Go(func() { p.subscribe(ctx, r.store) })
	for range 2 {
		r.work.Go(func() { p.consume(ctx, r.store) })
	}
}

// close ends the process, as one that is told to.
func (p *process) close() {
	p.mu.Lock()
	r := p.run
	p.mu.Unlock()
	r.stop()
	r.work.Wait()
	if err := r.store.Close(); err != nil && !errors.Is(err, errCut) {
		p.fault("process %d: closing: %v", p.id, err)
	}
}

func (p *process) current() *run {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.run
}

func (p *process) heal() { p.current().faults.Heal() }

// trouble lets things go wrong until ctx ends.
func (p *process) trouble(ctx context.Context) {
	dice := rand.New(rand.NewPCG(p.opt.Seed, uint64(p.id)))
	for ctx.Err() == nil && !p.stopped.Load() {
		strike(p.current().faults, dice)
		pause(ctx, time.Duration(dice.IntN(100))*time.Millisecond)
		p.heal()
		pause(ctx, time.Duration(dice.IntN(100))*time.Millisecond)
		if dice.IntN(8) == 0 {
			p.close()
			p.restarts++
			p.open()
		}
	}
	p.heal()
}

// write appends to a stream that nobody else writes to. An append whose outcome is
// not known is made again, with the same id, until it is.
func (p *process) write(ctx context.Context, stream eventstore.StreamName, w *written) {
	dice := rand.New(rand.NewPCG(p.opt.Seed, uint64(len(stream))<<32|uint64(p.id)))
	for ctx.Err() == nil {
		if w.id == (eventstore.ID{}) {
			if p.stopped.Load() {
				return
			}
			w.id = eventstore.NewID()
		}
		event := eventstore.Event{ID: w.id, Data: Counted{string(stream), w.n + 1}}
		at, err := p.current().store.Append(ctx, stream, eventstore.Exactly(eventstore.Version(w.n)), event)
		switch {
		case err == nil:
			if int(at.Version) != w.n+1 {
				p.fault("an append to %s at %d ended at %d", stream, w.n, at.Version)
			}
			p.stack.mu.Lock()
			w.n++
			p.stack.mu.Unlock()
			w.id = eventstore.ID{}
		case errors.As(err, new(*eventstore.ConflictError)):
			p.fault("nobody else writes to %s: %v", stream, err)
			return
		}
		pause(ctx, time.Duration(1+dice.IntN(10))*time.Millisecond)
	}
}

// see notes what a follower was given.
func (p *process) see(name string, at eventstore.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.seen[name]
	if n := len(list); n > 0 && at <= list[n-1] {
		p.fault("process %d: the %s was given %d after %d", p.id, name, at, list[n-1])
	}
	p.seen[name] = append(list, at)
}

// last returns the position of the last event that a follower was given.
func (p *process) last(name string) eventstore.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.seen[name]); n > 0 {
		return p.seen[name][n-1]
	}
	return 0
}

func (p *process) follow(ctx context.Context, s *eventstore.Store) {
	for ctx.Err() == nil {
		for b, err := range s.Follow(ctx, all, p.last("follower")) {
			if err != nil {
				break // and begin again where it was
			}
			for _, r := range b.Events {
				p.see("follower", r.Position)
			}
		}
		pause(ctx, time.Millisecond)
	}
}

func (p *process) subscribe(ctx context.Context, s *eventstore.Store) {
	for ctx.Err() == nil {
		sub, err := eventstore.Subscribe(ctx, s, eventstore.Transient[eventstore.Position]{
			Filter: all, From: eventstore.After(p.last("subscriber")), Buffer: 16,
			Map: func(r *eventstore.Recorded) eventstore.Position { return r.Position },
		})
		if err != nil {
			pause(ctx, time.Millisecond)
			continue
		}
		for open := true; open; {
			select {
			case b, ok := <-sub.C:
				for _, at := range b.Events {
					p.see("subscriber", at)
				}
				open = ok
			case <-ctx.Done():
				open = false
			}
		}
		sub.Close()
	}
}

// consume is a member of the consumer that all processes share.
func (p *process) consume(ctx context.Context, s *eventstore.Store) {
	for ctx.Err() == nil {
		for d, err := range s.Consume(ctx, eventstore.Consumer{
			Name: "stack", Filter: all, From: eventstore.Origin(), Partitions: 4, Batch: 8, Lease: time.Second,
		}) {
			if err != nil {
				// Joining may fail as the store does, and is tried again.
				for _, never := range []error{eventstore.ErrPartitions, eventstore.ErrNoConsumer, eventstore.ErrInvalid, eventstore.ErrUnsupported} {
					if errors.Is(err, never) {
						p.fault("process %d: consuming: %v", p.id, err)
					}
				}
				break
			}
			p.deliver(ctx, d)
		}
		pause(ctx, time.Millisecond)
	}
}

// deliver checks a delivery, and acknowledges it or gives it back.
func (p *process) deliver(ctx context.Context, d *eventstore.Delivery) {
	p.stack.mu.Lock()
	own := map[eventstore.Position]bool{}
	for _, r := range d.Events {
		own[r.Position] = true
		f := p.fates[r.Position]
		if f == nil {
			e, _ := r.Data.(Counted)
			f = &fate{stream: r.Stream, n: e.N}
			p.fates[r.Position] = f
		}
		for at, other := range p.fates {
			if other.stream == f.stream && other.n < f.n && !other.tried && !own[at] {
				p.faults = append(p.faults, fmt.Sprintf("the consumer was given event %d of %s before event %d was dealt with", f.n, f.stream, other.n))
			}
		}
	}
	again := !p.stopped.Load() && rand.IntN(8) == 0
	if !again {
		for _, r := range d.Events {
			p.fates[r.Position].tried = true
		}
	}
	p.stack.mu.Unlock()
	if again {
		d.Retry(time.Duration(rand.IntN(30)) * time.Millisecond)
		return
	}
	if d.Ack(ctx) != nil {
		return
	}
	p.stack.mu.Lock()
	defer p.stack.mu.Unlock()
	for _, r := range d.Events {
		if p.fates[r.Position].acked {
			p.faults = append(p.faults, fmt.Sprintf("%d was acknowledged twice", r.Position))
		}
		p.fates[r.Position].acked = true
	}
}

// count is the handler of the projection.
func count(_ context.Context, m *model, e Counted, r *eventstore.Recorded) error {
	if m.last == nil {
		m.last = map[eventstore.StreamName]int{}
	}
	if e.N != m.last[r.Stream]+1 {
		m.faults = append(m.faults, fmt.Sprintf("event %d of %s came after event %d", e.N, r.Stream, m.last[r.Stream]))
	}
	m.last[r.Stream] = e.N
	return nil
}

// projected returns how far the projection has come.
func (p *process) projected() (at eventstore.Position) {
	p.mu.Lock()
	m := p.model
	p.mu.Unlock()
	m.View(func(_ *model, pos eventstore.Position) { at = pos })
	return at
}
