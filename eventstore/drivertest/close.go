package drivertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testClose(g *group) {
	g.test("every call of a closed store says so", func(f *fixture) {
		f.fill("s-1", 1)
		require.NoError(f, f.d.Close())
		for name, call := range calls(f.d) {
			require.ErrorIs(f, call(f.ctx), driver.ErrClosed, name)
		}
	})

	g.test("every call heeds ctx", func(f *fixture) {
		f.fill("s-1", 1)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		for name, call := range calls(f.d) {
			if name == "AppendBatch" || name == "AppendWith" {
				continue // a batch may be written all the same
			}
			require.ErrorIs(f, call(ctx), context.Canceled, name)
		}
	})

	g.test("closing again is no error", func(f *fixture) {
		require.NoError(f, f.d.Close())
		require.NoError(f, f.d.Close())
		together(4, func(int) {
			if err := f.d.Close(); err != nil {
				f.Error(err)
			}
		})
	})

	g.test("closing waits for calls under way", func(f *fixture) {
		var closed atomic.Bool
		var done, late atomic.Int64
		acknowledged := make([]uint64, 8)
		var running sync.WaitGroup
		for i := range acknowledged {
			running.Go(func() {
				for {
					after := closed.Load()
					r := f.d.Append(f.ctx, driver.Append{Stream: fmt.Sprintf("s-%d", i), Events: events(1)})
					if r.Err == nil {
						done.Add(1)
						if after {
							late.Add(1)
						}
						acknowledged[i] = r.Version
						continue
					}
					if !errors.Is(r.Err, driver.ErrClosed) {
						f.Errorf("want ErrClosed, have %v", r.Err)
					}
					return
				}
			})
		}
		f.eventually("some were acknowledged", func() bool { return done.Load() >= 50 })
		require.NoError(f, f.d.Close())
		closed.Store(true)
		running.Wait()
		require.Zero(f, late.Load(), "appends succeeded after Close had returned")
		if f.h.Reopen == nil {
			return
		}
		f.reopen()
		for i, version := range acknowledged {
			require.GreaterOrEqual(f, f.info(fmt.Sprintf("s-%d", i)).Version, version, "an acknowledged event is gone")
		}
	})
}

// calls is every call that can fail, by name, for the interfaces that d has.
func calls(d driver.Store) map[string]func(context.Context) error {
	m := map[string]func(context.Context) error{
		"Append": func(ctx context.Context) error {
			return d.Append(ctx, driver.Append{Stream: "s-1", Events: events(1)}).Err
		},
		"ReadStream": func(ctx context.Context) error {
			_, err := d.ReadStream(ctx, "s-1", 0, driver.Forward, 1)
			return err
		},
		"ReadAll": func(ctx context.Context) error {
			_, _, err := d.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 1)
			return err
		},
		"Wait":   func(ctx context.Context) error { return d.Wait(ctx, 0) },
		"Head":   func(ctx context.Context) error { _, err := d.Head(ctx); return err },
		"Stream": func(ctx context.Context) error { _, err := d.Stream(ctx, "s-1"); return err },
	}
	if d, ok := as[driver.Batcher](d); ok {
		m["AppendBatch"] = func(ctx context.Context) error {
			return d.AppendBatch(ctx, []driver.Append{{Stream: "s-1", Events: events(1)}})[0].Err
		}
	}
	if d, ok := as[driver.Inliner](d); ok {
		m["AppendWith"] = func(ctx context.Context) error {
			return d.AppendWith(ctx, []driver.Append{{Stream: "s-1", Events: events(1)}},
				func(any, []driver.Recorded) error { return nil })[0].Err
		}
	}
	if d, ok := as[driver.Atomic](d); ok {
		m["AppendAtomic"] = func(ctx context.Context) error {
			_, err := d.AppendAtomic(ctx, []driver.Append{to("s-1", driver.Any, 1), to("s-2", driver.Any, 1)}, nil)
			return err
		}
	}
	if d, ok := as[driver.Lister](d); ok {
		m["Streams"] = func(ctx context.Context) error { _, err := d.Streams(ctx, "", "", 1); return err }
		m["Categories"] = func(ctx context.Context) error { _, err := d.Categories(ctx); return err }
	}
	if d, ok := as[driver.Deleter](d); ok {
		m["Truncate"] = func(ctx context.Context) error { return d.Truncate(ctx, "s-1", 1) }
		m["Delete"] = func(ctx context.Context) error { return d.Delete(ctx, "s-2", driver.Any) }
		m["Purge"] = func(ctx context.Context) error { return d.Purge(ctx, "s-3") }
	}
	if d, ok := as[driver.Dater](d); ok {
		m["PositionAt"] = func(ctx context.Context) error { _, err := d.PositionAt(ctx, time.Now()); return err }
	}
	if d, ok := as[driver.Snapshotter](d); ok {
		m["SaveSnapshot"] = func(ctx context.Context) error {
			return d.SaveSnapshot(ctx, "s-1", driver.Snapshot{Version: 1, Data: []byte("x")})
		}
		m["LoadSnapshot"] = func(ctx context.Context) error { _, _, err := d.LoadSnapshot(ctx, "s-1"); return err }
		m["DeleteSnapshot"] = func(ctx context.Context) error { return d.DeleteSnapshot(ctx, "s-1") }
	}
	if d, ok := as[driver.Checkpointer](d); ok {
		m["SaveCheckpoint"] = func(ctx context.Context) error {
			return d.SaveCheckpoint(ctx, "new", nil, driver.Checkpoint{Position: 1})
		}
		m["LoadCheckpoint"] = func(ctx context.Context) error { _, _, err := d.LoadCheckpoint(ctx, "c"); return err }
		m["DeleteCheckpoint"] = func(ctx context.Context) error { return d.DeleteCheckpoint(ctx, "c") }
		m["Checkpoints"] = func(ctx context.Context) error { _, err := d.Checkpoints(ctx, ""); return err }
	}
	if d, ok := as[driver.Leaser](d); ok {
		m["Acquire"] = func(ctx context.Context) error { _, _, err := d.Acquire(ctx, "l", "me", time.Second); return err }
		m["Release"] = func(ctx context.Context) error { return d.Release(ctx, "l", "me", 1) }
		m["Leases"] = func(ctx context.Context) error { _, err := d.Leases(ctx, ""); return err }
	}
	if d, ok := as[driver.Conditional](d); ok {
		m["AppendIf"] = func(ctx context.Context) error {
			return d.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "s-1", Event: event("t", "")}}, nil).Err
		}
		m["Query"] = func(ctx context.Context) error { _, _, err := d.Query(ctx, nil, 0, 1); return err }
	}
	return m
}
