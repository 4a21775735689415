package aggregate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
)

// ErrTruncated reports an aggregate whose earliest events are gone, and which has
// no snapshot from which the rest could be folded.
var ErrTruncated = errors.New("aggregate: the stream is truncated")

// A Repository runs the aggregates of one type. It is a command.Target and a
// command.Submitter, and safe for concurrent use. Commands to one aggregate are
// decided one at a time, in the order in which they came.
type Repository[S any] struct {
	t       *Type[S]
	store   *eventstore.Store
	limits  eventstore.Limits
	plain   bool // S holds no references, so that assignment copies it
	clones  bool // S has Clone
	copies  sealing.Copies
	ops     sync.Pool
	scratch sync.Pool

	mu        sync.Mutex
	instances map[string]*instance[S]
	resting   list[S]     // the instances that may be evicted, the latest used first
	sweeper   *time.Timer // runs while there is something to evict for idleness
}

// New returns a repository of type t on s, and registers t's events with s. It
// fails with an eventstore.ErrInvalid, or ErrCodec, if t cannot work: a name
// with a dash, events that clash with registered ones or would lose fields, or
// a state that its snapshot would not restore. A repository lives as long as
// its store; there is nothing to close.
func New[S any](s *eventstore.Store, t *Type[S]) (*Repository[S], error) {
	t, err := t.check()
	if err != nil {
		return nil, err
	}
	if err := t.Register(&s.Types); err != nil {
		return nil, err
	}
	r := &Repository[S]{
		t:         t,
		store:     s,
		limits:    s.Limits(),
		copies:    sealing.Of(s),
		plain:     !references(reflect.TypeFor[S]()),
		instances: map[string]*instance[S]{},
	}
	_, r.clones = any(new(S)).(cloner[S])
	r.ops.New = func() any { return &op[S]{signal: make(chan signal, 2)} }
	r.scratch.New = func() any { return &batch[S]{} }
	s.Watch(t.Name, r.appended)
	return r, nil
}

// references reports whether a copy of a t shares anything that can change.
func references(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return t.Len() > 0 && references(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if references(f.Type) {
				return true
			}
		}
		return false
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Chan, reflect.Func, reflect.UnsafePointer:
		return true
	}
	return false
}

// Category returns the category of the streams of the repository's aggregates.
func (r *Repository[S]) Category() string { return r.t.Name }

// Handles reports whether c is a command of this type's aggregates.
func (r *Repository[S]) Handles(c command.Command) bool { _, ok := c.(Command[S]); return ok }

// Execute runs a command and returns when its events are durable. The compiler
// checks that it is one of S's.
//
// The error is what the command's Execute returned, if that refused it, and
// otherwise: an eventstore.ErrInvalid for a command that cannot be carried; a
// *command.PanicError; a *eventstore.ConflictError for a version that is not as
// command.At asks for, or after eight attempts to append against other writers; an
// error of reading or appending. If ctx ends while the command waits, it is
// ctx.Err() and the command is not executed; if ctx ends later, it is also
// command.ErrOutcomeUnknown.
func (r *Repository[S]) Execute(ctx context.Context, c Command[S], opts ...command.Option) (command.Result, error) {
	e, err := command.New(ctx, c, opts...)
	if err != nil {
		return command.Result{}, err
	}
	return r.execute(ctx, c, e)
}

// Submit is Execute without waiting for the outcome. Commands that one goroutine
// submits to one aggregate are decided in that order. It blocks only while the
// aggregate's queue is full, heeding ctx.
func (r *Repository[S]) Submit(ctx context.Context, c Command[S], opts ...command.Option) *command.Pending {
	e, err := command.New(ctx, c, opts...)
	if err != nil {
		return command.Resolved(command.Result{}, err)
	}
	return r.submit(ctx, c, e)
}

// HandleCommand is Execute for a command in its envelope, which must be a
// Command[S]; otherwise the error is a command.ErrUnrouted. An Await that
// command.Awaiting has not taken care of is refused with command.ErrNoWaiter.
func (r *Repository[S]) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	c, err := r.accept(e)
	if err != nil {
		return command.Result{}, err
	}
	return r.execute(ctx, c, e)
}

// SubmitCommand is Submit for a command in its envelope; see HandleCommand.
func (r *Repository[S]) SubmitCommand(ctx context.Context, e *command.Envelope) *command.Pending {
	c, err := r.accept(e)
	if err != nil {
		return command.Resolved(command.Result{}, err)
	}
	return r.submit(ctx, c, e)
}

// View calls fn with the latest state of the aggregate id, and its version. fn must
// neither modify nor retain the state. It holds up the aggregate's commands for as
// long as it runs, and so must not execute one itself. Views wait for the append under
// way and never see what is not durable. An aggregate without events has the zero
// state and version 0. If ctx ends before, View returns its error and fn is not
// called.
//
// What a caller has been answered, and what its own process appended before View was
// called, is in the state. A subscription can be a moment ahead of it: the tail may read an
// event before the one who appended it has been answered. Who is handed an event and then
// looks, as live/sync does, compares versions and looks again.
func (r *Repository[S]) View(ctx context.Context, id string, fn func(state *S, v eventstore.Version)) error {
	o := r.op(ctx, nil, nil)
	o.view = true
	in, lead, err := r.enqueue(id, o)
	if err != nil {
		return err
	}
	if lead {
		r.begin(in, o)
	}
	if _, err := r.wait(o); err != nil {
		return err
	}
	defer r.viewed(in)
	fn(&in.state, in.version)
	return nil
}

func (r *Repository[S]) accept(e *command.Envelope) (Command[S], error) {
	if err := e.Validate(); err != nil {
		return nil, err
	}
	c, ok := e.Command.(Command[S])
	if !ok {
		return nil, fmt.Errorf("aggregate %s: %w for %T", r.t.Name, command.ErrUnrouted, e.Command)
	}
	return c, nil
}

func (r *Repository[S]) execute(ctx context.Context, c Command[S], e *command.Envelope) (command.Result, error) {
	if e.Await != nil {
		return command.Result{}, fmt.Errorf("aggregate %s: %T: %w", r.t.Name, c, command.ErrNoWaiter)
	}
	o := r.op(ctx, c, e)
	in, lead, err := r.enqueue(c.AggregateID(), o)
	if err != nil {
		return command.Result{}, err
	}
	if lead {
		r.begin(in, o)
	}
	return r.wait(o)
}

func (r *Repository[S]) submit(ctx context.Context, c Command[S], e *command.Envelope) *command.Pending {
	if e.Await != nil {
		return command.Resolved(command.Result{}, fmt.Errorf("aggregate %s: %T: %w", r.t.Name, c, command.ErrNoWaiter))
	}
	p := command.NewPending()
	o := &op[S]{ctx: ctx, c: c, e: e, pending: p}
	in, lead, err := r.enqueue(c.AggregateID(), o)
	if err != nil {
		p.Resolve(command.Result{}, err)
		return p
	}
	if lead {
		go r.work(in)
	}
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { r.leave(o) })
		o.stop.Store(&stop)
		if o.state.Load() == opDone {
			stop()
		}
	}
	if o.admitted != nil {
		select {
		case <-o.admitted:
		case <-p.Done():
		}
	}
	return p
}
