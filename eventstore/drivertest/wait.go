package drivertest

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// prompt is how long a call may take that has nothing to wait for. It is far
// more than any store needs, for the sake of busy machines.
const prompt = 10 * time.Second

// waitUntil waits in an empty store until that fails, and returns why. It may
// end early for nothing, but no more once over.
func (f *fixture) waitUntil(ctx context.Context, over func() bool) error {
	for {
		last := over()
		if err := f.d.Wait(ctx, 0); err != nil || last {
			return err
		}
	}
}

func testWait(g *group) {
	g.test("returns at once if there is an event above", func(f *fixture) {
		f.fill("s-1", 3)
		ps := positions(f.stream("s-1"))
		ctx, cancel := context.WithTimeout(f.ctx, prompt)
		defer cancel()
		require.NoError(f, f.d.Wait(ctx, 0))
		require.NoError(f, f.d.Wait(ctx, ps[0]))
		require.NoError(f, f.d.Wait(ctx, ps[1]))
	})

	g.test("ends with an append, for everyone who waits", func(f *fixture) {
		f.fill("s-1", 1)
		ctx, cancel := context.WithTimeout(f.ctx, prompt)
		defer cancel()
		head, err := f.d.Head(ctx)
		require.NoError(f, err)
		const waiters = 8
		done := make(chan error, waiters)
		for range waiters {
			go func() {
				for {
					if err := f.d.Wait(ctx, head); err != nil {
						done <- err
						return
					}
					if now, err := f.d.Head(ctx); err != nil || now > head {
						done <- err
						return
					}
				}
			}()
		}
		f.fill("s-1", 1)
		for range waiters {
			require.NoError(f, <-done)
		}
	})

	g.test("misses no append of many", func(f *fixture) {
		ctx, cancel := context.WithTimeout(f.ctx, prompt)
		defer cancel()
		const n = 100
		go func() {
			for range n {
				if r := f.d.Append(ctx, driver.Append{Stream: "s-1", Events: events(1)}); r.Err != nil {
					return
				}
			}
		}()
		seen := 0
		for from := uint64(0); seen < n; {
			require.NoError(f, f.d.Wait(ctx, from))
			list, scanned, err := f.d.ReadAll(ctx, driver.Filter{}, from, driver.Forward, n)
			require.NoError(f, err)
			seen, from = seen+len(list), scanned
		}
		require.Equal(f, n, seen)
	})

	g.test("blocks for as long as there is nothing", func(f *fixture) {
		f.fill("s-1", 1)
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		ctx, cancel := context.WithTimeout(f.ctx, 100*time.Millisecond)
		defer cancel()
		// Returning early is allowed, but not all the time.
		for early := 0; ; early++ {
			require.Less(f, early, 100, "Wait does not wait")
			if err := f.d.Wait(ctx, head); err != nil {
				require.ErrorIs(f, err, context.DeadlineExceeded)
				return
			}
		}
	})

	g.test("ends when ctx is cancelled", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.ctx)
		done := make(chan error, 1)
		go func() { done <- f.waitUntil(ctx, func() bool { return ctx.Err() != nil }) }()
		cancel()
		require.ErrorIs(f, <-done, context.Canceled)
		require.ErrorIs(f, f.d.Wait(ctx, 0), context.Canceled)
	})

	g.test("ends when the store is closed", func(f *fixture) {
		const waiters = 4
		done := make(chan error, waiters)
		var closed atomic.Bool
		for range waiters {
			go func() { done <- f.waitUntil(f.ctx, closed.Load) }()
		}
		require.NoError(f, f.d.Close())
		closed.Store(true)
		for range waiters {
			require.ErrorIs(f, <-done, driver.ErrClosed)
		}
	})

	g.test("a conflict leaves those who wait waiting", func(f *fixture) {
		f.fill("s-1", 1)
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		f.conflicts(f.try("s-1", 9, events(1)...).Err)
		now, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		require.Equal(f, head, now)
	})
}
