package serve

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// turnTime is after how long another process takes its turn when one is gone.
const turnTime = 15 * time.Second

// inTurn runs fn in one process at a time of all that have the store, until ctx ends or
// fn returns, which it does soon after its context has ended. It returns an error only if the store has no leases.
//
//	process a  ─ lease ─ fn ── renew ── renew ── gone
//	process b  ─ asks ──────── asks ──── asks ────────── lease ─ fn ──
//
// A process that is cut off from the store ends fn before its lease is over.
func inTurn(ctx context.Context, store *eventstore.Store, name string, ttl time.Duration, fn func(ctx context.Context)) error {
	if store.Limits().Exclusive {
		fn(ctx)
		return nil
	}
	leases, err := store.Leases()
	if err != nil {
		return fmt.Errorf("exchange: taking turns at %s: %w", name, err)
	}
	owner := uuid.NewString()
	for ctx.Err() == nil {
		asked := time.Now()
		fence, ok, err := leases.Acquire(ctx, name, owner, ttl)
		if err == nil && ok {
			done := whileHeld(ctx, leases, name, owner, asked, ttl, fn)
			release, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
			_ = leases.Release(release, name, owner, fence) // else it expires
			cancel()
			if done {
				return nil
			}
		}
		wait(ctx, ttl/3)
	}
	return nil
}

// whileHeld runs fn and renews the lease, which was asked for at a time, and reports whether fn ended by itself. It gives
// up while there is a third of the lease left, for fn to end in.
func whileHeld(ctx context.Context, leases driver.Leaser, name, owner string, asked time.Time, ttl time.Duration, fn func(ctx context.Context)) bool {
	held, lost := context.WithCancel(ctx)
	defer lost()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		fn(held)
	}()
	for {
		select {
		case <-ended:
			return held.Err() == nil
		case <-time.After(ttl / 3):
		}
		again, last := time.Now(), asked.Add(2*ttl/3)
		asking, cancel := context.WithDeadline(held, last)
		_, ok, err := leases.Acquire(asking, name, owner, ttl)
		cancel()
		switch {
		case err == nil && ok:
			asked = again
		case err == nil || !time.Now().Before(last):
			lost()
			<-ended
			return false
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
