package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore"
)

// A Middleware wraps a Handler. It may refuse a command by not calling the
// handler it wraps, and change it by passing on a changed copy.
type Middleware func(Handler) Handler

// Chain wraps h so that the first middleware is outermost.
//
// The result is a Submitter if h is one. Middleware need not know of that: for a
// submitted command it runs on a goroutine of its own, and Submit returns as soon
// as h has given the command its place, so that the order of submitted commands is
// kept through any middleware that hands a command on once and in its envelope or a copy.
func Chain(h Handler, mw ...Middleware) Handler {
	if s, ok := h.(Submitter); ok && len(mw) > 0 {
		h = innermost{s}
	}
	for i := len(mw) - 1; i >= 0; i-- {
		inner := h
		h = mw[i](inner)
		_, before := inner.(Submitter)
		if _, after := h.(Submitter); before && !after {
			h = detached{h}
		}
	}
	return h
}

// innermost is what the middleware of a chain ends at.
type innermost struct{ Submitter }

func (h innermost) HandleCommand(ctx context.Context, e *Envelope) (Result, error) {
	if e.placed == nil {
		return h.Submitter.HandleCommand(ctx, e)
	}
	p := h.SubmitCommand(ctx, e)
	e.placed.settle()
	// What ctx does to the command is up to the Submitter, which has it too.
	<-p.done
	return p.res, p.err
}

// detached is a Handler whose middleware knows nothing of submitting.
type detached struct{ Handler }

func (h detached) SubmitCommand(ctx context.Context, e *Envelope) *Pending {
	outer := *e
	outer.placed = &placing{settled: make(chan struct{})}
	p := run(ctx, h.Handler, &outer)
	select {
	case <-outer.placed.settled:
	case <-p.done:
	}
	return p
}

// A Waiter knows how far event handlers have come. *projection.Group is one.
// With the context of an event handler it must leave out that handler, which
// would wait for itself. One that has a method Has(name string) bool too, as a Group does,
// is asked beforehand whether it knows the names.
type Waiter interface {
	Wait(ctx context.Context, pos eventstore.Position, names ...string) error
}

// Awaiting is the middleware that honours [Wait]. A command that is to wait for a name that
// w is known not to have is refused with an eventstore.ErrInvalid and not executed. If
// waiting fails, the error is both w's and ErrNotAwaited, and the Result is that of the
// command, whose events are stored.
func Awaiting(w Waiter) Middleware {
	return func(next Handler) Handler {
		a := awaiting{next, w}
		if s, ok := next.(Submitter); ok {
			return awaitingSubmitter{a, s, detached{awaiting{innermost{s}, w}}}
		}
		return a
	}
}

type awaiting struct {
	next Handler
	w    Waiter
}

func (a awaiting) HandleCommand(ctx context.Context, e *Envelope) (Result, error) {
	if e.Await == nil {
		return a.next.HandleCommand(ctx, e)
	}
	if known, ok := a.w.(interface{ Has(name string) bool }); ok {
		for _, name := range e.Await.Names {
			if !known.Has(name) {
				return Result{}, fmt.Errorf("command: %w: Wait: there is no projection or process %q", eventstore.ErrInvalid, name)
			}
		}
	}
	inner := *e
	inner.Await = nil // it is taken care of
	res, err := a.next.HandleCommand(ctx, &inner)
	if err == nil && res.Position > 0 {
		if err = a.w.Wait(ctx, res.Position, e.Await.Names...); err != nil {
			err = fmt.Errorf("%w: %w", ErrNotAwaited, err)
		}
	}
	return res, err
}

// awaitingSubmitter needs a goroutine only for commands that wait.
type awaitingSubmitter struct {
	awaiting
	atOnce   Submitter
	detached detached
}

func (a awaitingSubmitter) SubmitCommand(ctx context.Context, e *Envelope) *Pending {
	if e.Await == nil {
		return a.atOnce.SubmitCommand(ctx, e)
	}
	return a.detached.SubmitCommand(ctx, e)
}

// A Trace is told what becomes of commands, for logs, metrics and traces. Nil
// funcs are not called. Funcs are called from many goroutines and must be quick.
type Trace struct {
	// CommandStart and CommandEnd surround one command, from its arrival to its
	// outcome. The context that CommandStart returns is passed on to the handler
	// and to CommandEnd, which is called even if the handler panics, with a *PanicError.
	CommandStart func(ctx context.Context, e *Envelope) context.Context
	CommandEnd   func(ctx context.Context, e *Envelope, res Result, err error)
}

// Tracing is the middleware that tells t. Put it outermost to see the whole.
func Tracing(t *Trace) Middleware {
	return func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, e *Envelope) (res Result, err error) {
			if t.CommandStart != nil {
				ctx = t.CommandStart(ctx, e)
			}
			if t.CommandEnd == nil {
				return next.HandleCommand(ctx, e)
			}
			err = errExited
			defer func() {
				v := recover()
				if v != nil {
					err = NewPanicError(v)
				}
				t.CommandEnd(ctx, e, res, err)
				if v != nil {
					panic(v)
				}
			}()
			res, err = next.HandleCommand(ctx, e)
			return res, err
		})
	}
}

// errExited is the outcome of a handler whose goroutine ended in it.
var errExited = errors.New("command: the handler's goroutine exited")
