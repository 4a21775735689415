package aggregate

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// An op is a command, or a view, on its way through the queue of its aggregate.
type op[S any] struct {
	ctx context.Context
	c   Command[S]
	e   *command.Envelope
	in  *instance[S]

	view    bool
	pending *command.Pending // of a submitted command
	stop    atomic.Pointer[func() bool]
	signal  chan signal // to the caller that waits, if there is no pending

	state    atomic.Int32
	counted  bool          // it takes up one of the queue's places; guarded by in.mu
	admitted chan struct{} // closed when it gets one, if it was submitted to a full queue

	decision[S]
	attempts int
	res      command.Result
	err      error
}

// States of an op. Whoever takes it out of opQueued settles who answers it.
const (
	opQueued int32 = iota
	opTaken        // being decided or appended, or its view is granted
	opLeft         // its caller has left; it is passed over
	opDone         // res and err are set
)

// A signal to the caller of an op.
type signal uint8

const (
	signalLead signal = iota // hold the aggregate for a batch
	signalDone               // the outcome is known, or the view is granted
)

// An instance is an aggregate in memory.
//
// It is held by at most one: a caller or a goroutine that works on a batch, or
// all the callers of granted views together. Only the holder touches what is below
// held, and callers of views read it.
type instance[S any] struct {
	id     string
	stream eventstore.StreamName

	// Guarded by Repository.mu: the place in Repository.resting, and since when no
	// command came.
	prev, next *instance[S]
	listed     bool
	idle       time.Time

	// What Watch tells. latest is the highest version that any append of this
	// process has reached; forget says that the state is not to be trusted at all.
	latest atomic.Uint64
	forget atomic.Bool

	mu       sync.Mutex
	queue    []*op[S] // in order; some may have left
	places   int      // taken by ops in queue
	blocked  []*op[S] // of queue, those that have no place yet, in order
	left     int      // ops in queue that have left
	held     bool
	saving   bool      // a snapshot is being written
	snapshot *snapshot // the next one to write

	readers atomic.Int64 // views granted and not yet over

	state     S
	version   eventstore.Version
	keys      keyMemory
	owners    owners // if snapshots are sealed
	loaded    bool
	suspect   bool     // an append has failed: the stream may have moved
	todo      []*op[S] // taken from queue, still to be decided from at on
	at        int
	limit     int           // ops that may go into one batch; 0 is as many as there are
	backoff   time.Duration // before the next batch
	crowd     int           // commands answered by the batch before
	commanded bool          // a command was answered since it was last at rest
}

func (r *Repository[S]) op(ctx context.Context, c Command[S], e *command.Envelope) *op[S] {
	o := r.ops.Get().(*op[S])
	o.ctx, o.c, o.e = ctx, c, e
	return o
}

// enqueue puts o into the queue of the aggregate id. If lead is true nobody held
// the aggregate, and the caller does now.
func (r *Repository[S]) enqueue(id string, o *op[S]) (in *instance[S], lead bool, err error) {
	r.mu.Lock()
	in = r.instances[id]
	if in == nil {
		if in, err = r.open(id); err != nil {
			r.mu.Unlock()
			return nil, false, err
		}
	}
	if in.listed {
		r.resting.remove(in)
	}
	in.mu.Lock()
	r.mu.Unlock()
	o.in = in
	in.queue = append(in.queue, o)
	if in.places < r.t.Queue {
		in.places++
		o.counted = true
	} else {
		if o.pending != nil {
			o.admitted = make(chan struct{})
		}
		in.blocked = append(in.blocked, o)
	}
	lead = !in.held
	in.held = true
	in.mu.Unlock()
	return in, lead, nil
}

// open adds an instance, with mu held.
func (r *Repository[S]) open(id string) (*instance[S], error) {
	if id == "" {
		return nil, fmt.Errorf("aggregate %s: %w: empty id", r.t.Name, eventstore.ErrInvalid)
	}
	in := &instance[S]{id: id, stream: eventstore.Stream(r.t.Name, id)}
	if err := in.stream.Validate(); err != nil {
		return nil, fmt.Errorf("aggregate %s: %w", r.t.Name, err)
	}
	if len(in.stream) > r.limits.NameBytes {
		return nil, fmt.Errorf("aggregate %s: %w: stream name of %d bytes: more than %d", r.t.Name, eventstore.ErrInvalid, len(in.stream), r.limits.NameBytes)
	}
	r.instances[id] = in
	return in, nil
}

// begin is called by the caller of o, which has become the holder. It works on
// the caller's goroutine unless the caller must be able to leave.
func (r *Repository[S]) begin(in *instance[S], o *op[S]) {
	if o.ctx.Done() != nil {
		go r.work(in)
		return
	}
	r.lead(in)
}

// lead works on one batch on a caller's goroutine.
func (r *Repository[S]) lead(in *instance[S]) {
	if r.batch(in) {
		r.pass(in)
	}
}

// work is lead on a goroutine that serves the aggregate until it is at rest.
func (r *Repository[S]) work(in *instance[S]) {
	for r.batch(in) {
		if r.rest(in) {
			return
		}
	}
}

// pass lets go of the aggregate, or hands it to the first waiter.
func (r *Repository[S]) pass(in *instance[S]) {
	if r.rest(in) {
		return
	}
	if o := in.first(); o != nil && o.pending == nil && o.ctx.Done() == nil {
		o.signal <- signalLead // it cannot leave
		return
	}
	go r.work(in)
}

// first returns the op that is next.
func (in *instance[S]) first() *op[S] {
	if in.at < len(in.todo) {
		return in.todo[in.at]
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) == 0 {
		return nil
	}
	return in.queue[0]
}

// take returns the next op to be decided, nil if there is none or it comes too late.
func (in *instance[S]) take() *op[S] {
	for {
		for in.at < len(in.todo) {
			o := in.todo[in.at]
			in.todo[in.at] = nil
			in.at++
			if err := o.ctx.Err(); err != nil {
				if o.state.CompareAndSwap(opQueued, opTaken) {
					o.answer(command.Result{}, err)
				}
				continue
			}
			if o.view || o.state.CompareAndSwap(opQueued, opTaken) {
				return o
			}
		}
		in.mu.Lock()
		if len(in.queue) == 0 {
			in.mu.Unlock()
			return nil
		}
		in.todo, in.queue, in.at = in.queue, in.todo[:0], 0
		for _, o := range in.todo {
			o.counted = false
		}
		for i, o := range in.blocked {
			o.admit()
			in.blocked[i] = nil
		}
		in.places, in.left, in.blocked = 0, 0, in.blocked[:0]
		in.mu.Unlock()
	}
}

// again puts ops, in order, before everything that is still to be decided.
func (in *instance[S]) again(ops []*op[S]) {
	if len(ops) == 0 {
		return
	}
	for _, o := range ops {
		o.decision = decision[S]{}
		if !o.view {
			o.state.Store(opQueued)
		}
	}
	if in.at >= len(ops) {
		in.at -= len(ops)
		copy(in.todo[in.at:], ops)
		return
	}
	rest := in.todo[in.at:]
	in.todo, in.at = append(append(make([]*op[S], 0, len(ops)+len(rest)), ops...), rest...), 0
}

// admit tells a Submit that it may return.
func (o *op[S]) admit() {
	if o.admitted != nil {
		close(o.admitted)
	}
}

// wait returns the outcome of o to its caller, who leads if told to. A view's
// outcome is nil when it is granted.
func (r *Repository[S]) wait(o *op[S]) (command.Result, error) {
	done := o.ctx.Done()
	if done == nil { // it need not select
		for <-o.signal == signalLead {
			r.lead(o.in)
		}
		return r.outcome(o)
	}
	select {
	case <-o.signal: // one whose context may end never leads
		return r.outcome(o)
	case <-done:
	}
	switch {
	case r.leave(o):
		return command.Result{}, o.ctx.Err()
	case o.view || o.state.Load() == opDone:
		<-o.signal
		return r.outcome(o)
	}
	return command.Result{}, fmt.Errorf("%w: %w", command.ErrOutcomeUnknown, o.ctx.Err())
}

// outcome returns what became of o and makes it ready for another command.
func (r *Repository[S]) outcome(o *op[S]) (command.Result, error) {
	res, err := o.res, o.err
	o.ctx, o.c, o.e, o.in, o.view, o.counted = nil, nil, nil, nil, false, false
	o.state.Store(opQueued)
	o.decision = decision[S]{}
	o.attempts, o.res, o.err = 0, command.Result{}, nil
	r.ops.Put(o)
	return res, err
}

// leave withdraws o, which is not executed then, unless it is too late for that.
func (r *Repository[S]) leave(o *op[S]) bool {
	if !o.state.CompareAndSwap(opQueued, opLeft) {
		return false
	}
	if o.pending != nil {
		o.pending.Resolve(command.Result{}, o.ctx.Err())
	}
	in := o.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if o.counted {
		o.counted = false
		in.places--
		in.fill()
	}
	// The queue is cleared of those who left when they are many.
	if in.left++; in.left > 32 && in.left > len(in.queue)/2 {
		in.queue, in.left = present(in.queue), 0
		in.blocked = present(in.blocked)
	}
	return true
}

// fill gives a free place to the first op that has none, with mu held.
func (in *instance[S]) fill() {
	for i, o := range in.blocked {
		if o.state.Load() != opLeft {
			o.counted = true
			in.places++
			o.admit()
			in.blocked = append(in.blocked[:0], in.blocked[i+1:]...)
			return
		}
	}
	in.blocked = in.blocked[:0]
}

func present[S any](ops []*op[S]) []*op[S] {
	rest := ops[:0]
	for _, o := range ops {
		if o.state.Load() != opLeft {
			rest = append(rest, o)
		}
	}
	clear(ops[len(rest):])
	return rest
}

// answer settles the outcome of o, which the holder has taken. The holder must
// not touch o afterwards.
func (o *op[S]) answer(res command.Result, err error) {
	o.res, o.err = res, err
	o.state.Store(opDone)
	if o.pending == nil {
		o.signal <- signalDone
		return
	}
	o.pending.Resolve(res, err)
	if stop := o.stop.Load(); stop != nil {
		(*stop)()
	}
}

// grant lets the callers of views read the state, all at once. It reports whether
// there are any: then they hold the aggregate. views is cleared.
func (in *instance[S]) grant(views []*op[S]) bool {
	in.readers.Store(1) // nobody passes the aggregate on before all are told
	for i, o := range views {
		views[i] = nil
		if o.state.CompareAndSwap(opQueued, opTaken) {
			in.readers.Add(1)
			o.signal <- signalDone
		}
	}
	return in.readers.Add(-1) > 0
}

// viewed is called when a view is over. The last one passes the aggregate on.
func (r *Repository[S]) viewed(in *instance[S]) {
	if in.readers.Add(-1) == 0 {
		r.pass(in)
	}
}
