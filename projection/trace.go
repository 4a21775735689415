package projection

import (
	"context"

	"github.com/levada-go/levada/eventstore"
)

// A Trace is told what a Group does, for logs, metrics and traces. Nil funcs are
// not called. Funcs are called from many goroutines and must be quick. The
// context that a Start func returns is passed on to what is traced and to the End func.
type Trace struct {
	// BatchStart and BatchEnd surround one Target.Update, successful or not.
	BatchStart func(ctx context.Context, b BatchInfo) context.Context
	BatchEnd   func(ctx context.Context, err error)
	// HandleStart and HandleEnd surround one call of a handler.
	HandleStart func(ctx context.Context, projection string, r *eventstore.Recorded) context.Context
	HandleEnd   func(ctx context.Context, err error)
	// WaitStart and WaitEnd surround one Group.Wait.
	WaitStart func(ctx context.Context, w WaitInfo) context.Context
	WaitEnd   func(ctx context.Context, err error)
}

// A BatchInfo describes a batch about to be handled. Events is 0 where only the
// position is written.
type BatchInfo struct {
	Projection string
	Events     int
	From, To   eventstore.Position
}

// A WaitInfo describes a call of Group.Wait. No Names are all.
type WaitInfo struct {
	Position eventstore.Position
	Names    []string
}

func (t *Trace) batchStart(ctx context.Context, b BatchInfo) context.Context {
	if t != nil && t.BatchStart != nil {
		return t.BatchStart(ctx, b)
	}
	return ctx
}

func (t *Trace) batchEnd(ctx context.Context, err error) {
	if t != nil && t.BatchEnd != nil {
		t.BatchEnd(ctx, err)
	}
}

func (t *Trace) handleStart(ctx context.Context, projection string, r *eventstore.Recorded) context.Context {
	if t != nil && t.HandleStart != nil {
		return t.HandleStart(ctx, projection, r)
	}
	return ctx
}

func (t *Trace) handleEnd(ctx context.Context, err error) {
	if t != nil && t.HandleEnd != nil {
		t.HandleEnd(ctx, err)
	}
}

func (t *Trace) waitStart(ctx context.Context, w WaitInfo) context.Context {
	if t != nil && t.WaitStart != nil {
		return t.WaitStart(ctx, w)
	}
	return ctx
}

func (t *Trace) waitEnd(ctx context.Context, err error) {
	if t != nil && t.WaitEnd != nil {
		t.WaitEnd(ctx, err)
	}
}
