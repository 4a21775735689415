package command

import (
	"context"
	"fmt"
	"sync"
)

// A Submitter is a Handler that can take a command now and answer it later.
// Repositories, routers and chains of middleware around them are Submitters.
type Submitter interface {
	Handler
	// SubmitCommand gives the command its place in the order of its aggregate and
	// returns. It blocks only while there is no place, heeding ctx; if ctx ends
	// before the command is executed, it is not executed. Commands that one
	// goroutine submits to one aggregate must be decided in that order. Whatever
	// is wrong is told by the Pending.
	SubmitCommand(ctx context.Context, e *Envelope) *Pending
}

// Submit hands cmd to h without waiting for what becomes of it. Commands
// submitted by one goroutine to one aggregate are decided in that order if h is a
// [Submitter]; otherwise each is dispatched on a goroutine of its own.
//
// ctx counts until the command is decided: if it ends before, the command is
// not executed. Options, conversations and errors are as with Dispatch.
func Submit(ctx context.Context, h Handler, cmd Command, opts ...Option) *Pending {
	e, err := New(ctx, cmd, opts...)
	if err != nil {
		return Resolved(Result{}, err)
	}
	return SubmitEnvelope(ctx, h, e)
}

// SubmitEnvelope is Submit for a command in its envelope. It is for handlers
// that pass commands on.
func SubmitEnvelope(ctx context.Context, h Handler, e *Envelope) *Pending {
	if s, ok := h.(Submitter); ok {
		return s.SubmitCommand(ctx, e)
	}
	return run(ctx, h, e)
}

// run handles e on a goroutine.
func run(ctx context.Context, h Handler, e *Envelope) *Pending {
	p := NewPending()
	go func() {
		res, err := Result{}, errExited
		defer func() {
			if v := recover(); v != nil {
				err = NewPanicError(v)
			}
			p.Resolve(res, err)
		}()
		res, err = h.HandleCommand(ctx, e)
	}()
	return p
}

// A Pending is a command under way. It is safe for concurrent use, and asking it
// is optional.
type Pending struct {
	once sync.Once
	done chan struct{}
	res  Result
	err  error
}

// NewPending returns a Pending whose maker calls Resolve. It is for Submitters.
func NewPending() *Pending { return &Pending{done: make(chan struct{})} }

// Resolved returns a Pending of a command whose outcome is known.
func Resolved(res Result, err error) *Pending {
	p := NewPending()
	p.Resolve(res, err)
	return p
}

// Resolve settles what became of the command. Only the first call counts.
func (p *Pending) Resolve(res Result, err error) {
	p.once.Do(func() {
		p.res, p.err = res, err
		close(p.done)
	})
}

// Wait returns what became of the command, as Dispatch would have. If ctx ends
// first its error is both ctx's and ErrOutcomeUnknown; the command goes on, and
// Wait may be called again.
func (p *Pending) Wait(ctx context.Context) (Result, error) {
	select {
	case <-p.done:
		return p.res, p.err
	default:
	}
	select {
	case <-p.done:
		return p.res, p.err
	case <-ctx.Done():
		return Result{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
	}
}

// Done returns a channel that is closed once the outcome is known, for callers
// that must select. Wait then returns at once.
func (p *Pending) Done() <-chan struct{} { return p.done }

// A placing is settled once, however often a command is handed on.
type placing struct {
	once    sync.Once
	settled chan struct{}
}

func (p *placing) settle() { p.once.Do(func() { close(p.settled) }) }
