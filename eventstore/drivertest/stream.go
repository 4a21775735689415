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

// info returns where a stream stands.
func (f *fixture) info(stream string) driver.StreamInfo {
	f.Helper()
	info, err := f.d.Stream(f.ctx, stream)
	require.NoError(f, err)
	return info
}

func testStream(g *group) {
	g.test("there is none: all is zero but the name", func(f *fixture) {
		f.fill("s-10", 1)
		require.Equal(f, driver.StreamInfo{Name: "s-1"}, f.info("s-1"))
	})

	g.test("a stream begins at version 1 and is at its last", func(f *fixture) {
		for n := range 5 {
			f.fill("s-1", 1)
			f.fill("s-2", 2)
			require.Equal(f, driver.StreamInfo{Name: "s-1", Version: uint64(n + 1), First: 1}, f.info("s-1"))
		}
	})

	g.test("a conflict creates no stream", func(f *fixture) {
		f.conflicts(f.try("s-1", 1, events(1)...).Err)
		f.conflicts(f.try("s-1", driver.StreamExists, events(1)...).Err)
		require.Equal(f, driver.StreamInfo{Name: "s-1"}, f.info("s-1"))
	})

	g.test("the head is the last position, whatever the stream", func(f *fixture) {
		for _, name := range []string{"a-1", "b-1", "$sys-1", "a-1"} {
			last := f.append(name, driver.Any, events(2)...).Last
			head, err := f.d.Head(f.ctx)
			require.NoError(f, err)
			require.Equal(f, last, head)
		}
	})

	g.test("calls whose ctx has ended say so", func(f *fixture) {
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		_, err := f.d.Stream(ctx, "s-1")
		require.ErrorIs(f, err, context.Canceled)
		_, err = f.d.Head(ctx)
		require.ErrorIs(f, err, context.Canceled)
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
	if d, ok := d.(driver.Batcher); ok {
		m["AppendBatch"] = func(ctx context.Context) error {
			return d.AppendBatch(ctx, []driver.Append{{Stream: "s-1", Events: events(1)}})[0].Err
		}
	}
	if d, ok := d.(driver.Inliner); ok {
		m["AppendWith"] = func(ctx context.Context) error {
			return d.AppendWith(ctx, []driver.Append{{Stream: "s-1", Events: events(1)}},
				func(any, []driver.Recorded) error { return nil })[0].Err
		}
	}
	if d, ok := d.(driver.Lister); ok {
		m["Streams"] = func(ctx context.Context) error { _, err := d.Streams(ctx, "", "", 1); return err }
		m["Categories"] = func(ctx context.Context) error { _, err := d.Categories(ctx); return err }
	}
	if d, ok := d.(driver.Deleter); ok {
		m["Truncate"] = func(ctx context.Context) error { return d.Truncate(ctx, "s-1", 1) }
		m["Delete"] = func(ctx context.Context) error { return d.Delete(ctx, "s-2", driver.Any) }
		m["Purge"] = func(ctx context.Context) error { return d.Purge(ctx, "s-3") }
	}
	if d, ok := d.(driver.Dater); ok {
		m["PositionAt"] = func(ctx context.Context) error { _, err := d.PositionAt(ctx, time.Now()); return err }
	}
	if d, ok := d.(driver.Snapshotter); ok {
		m["SaveSnapshot"] = func(ctx context.Context) error {
			return d.SaveSnapshot(ctx, "s-1", driver.Snapshot{Version: 1, Data: []byte("x")})
		}
		m["LoadSnapshot"] = func(ctx context.Context) error { _, _, err := d.LoadSnapshot(ctx, "s-1"); return err }
		m["DeleteSnapshot"] = func(ctx context.Context) error { return d.DeleteSnapshot(ctx, "s-1") }
	}
	if d, ok := d.(driver.Checkpointer); ok {
		m["SaveCheckpoint"] = func(ctx context.Context) error {
			return d.SaveCheckpoint(ctx, "new", nil, driver.Checkpoint{Position: 1})
		}
		m["LoadCheckpoint"] = func(ctx context.Context) error { _, _, err := d.LoadCheckpoint(ctx, "c"); return err }
		m["DeleteCheckpoint"] = func(ctx context.Context) error { return d.DeleteCheckpoint(ctx, "c") }
		m["Checkpoints"] = func(ctx context.Context) error { _, err := d.Checkpoints(ctx, ""); return err }
	}
	if d, ok := d.(driver.Leaser); ok {
		m["Acquire"] = func(ctx context.Context) error { _, _, err := d.Acquire(ctx, "l", "me", time.Second); return err }
		m["Release"] = func(ctx context.Context) error { return d.Release(ctx, "l", "me", 1) }
		m["Leases"] = func(ctx context.Context) error { _, err := d.Leases(ctx, ""); return err }
	}
	if d, ok := d.(driver.Conditional); ok {
		m["AppendIf"] = func(ctx context.Context) error {
			return d.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "s-1", Event: event("t", "")}}).Err
		}
		m["Query"] = func(ctx context.Context) error { _, _, err := d.Query(ctx, nil, 0, 1); return err }
	}
	return m
}

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

func testList(g *group) {
	names := []string{"a-1", "a-10", "a-2", "a", "ab-1", "b-x-y", "B-1", "b-x", "$sys-1", "$alone", "é-1", "z-1"}
	// As bytes sort, without those of the system.
	sorted := []string{"B-1", "a", "a-1", "a-10", "a-2", "ab-1", "b-x", "b-x-y", "z-1", "é-1"}
	list := func(f *fixture, category string, limit int) []string {
		f.Helper()
		l := can[driver.Lister](f)
		var have []string
		for after := ""; ; {
			page, err := l.Streams(f.ctx, category, after, limit)
			require.NoError(f, err)
			require.LessOrEqual(f, len(page), limit)
			for _, info := range page {
				require.Greater(f, info.Name, after, "names sort after after")
				require.Equal(f, f.info(info.Name), info)
				have = append(have, info.Name)
			}
			if len(page) < limit {
				return have
			}
			after = have[len(have)-1]
		}
	}

	g.test("an empty store has no streams and no categories", func(f *fixture) {
		l := can[driver.Lister](f)
		require.Empty(f, list(f, "", 10))
		require.Empty(f, list(f, "a", 10))
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Empty(f, categories)
	})

	g.test("streams are listed bytewise by name, in pages, without those of the system", func(f *fixture) {
		can[driver.Lister](f)
		for i, name := range names {
			f.fill(name, 1+i%3)
		}
		for _, limit := range []int{1, 2, 3, len(sorted), 100} {
			require.Equal(f, sorted, list(f, "", limit), "%d at once", limit)
		}
	})

	g.test("streams of a category are listed", func(f *fixture) {
		can[driver.Lister](f)
		for _, name := range names {
			f.fill(name, 1)
		}
		for category, want := range map[string][]string{
			"a":      {"a", "a-1", "a-10", "a-2"},
			"ab":     {"ab-1"},
			"b":      {"b-x", "b-x-y"},
			"b-x":    nil,
			"$sys":   {"$sys-1"},
			"$alone": {"$alone"},
			"none":   nil,
		} {
			for _, limit := range []int{1, 3, 100} {
				require.Equal(f, want, list(f, category, limit), "category %q, %d at once", category, limit)
			}
		}
	})

	g.test("a list begins after any name, whether there is such a stream or not", func(f *fixture) {
		l := can[driver.Lister](f)
		for _, name := range names {
			f.fill(name, 1)
		}
		page, err := l.Streams(f.ctx, "", "a-11", 2)
		require.NoError(f, err)
		require.Equal(f, "a-2", page[0].Name)
		require.Equal(f, "ab-1", page[1].Name)
		page, err = l.Streams(f.ctx, "", "é-1", 2)
		require.NoError(f, err)
		require.Empty(f, page)
	})

	g.test("a stream that is created between two pages is listed if it sorts after the first", func(f *fixture) {
		l := can[driver.Lister](f)
		f.fill("s-2", 1)
		f.fill("s-4", 1)
		page, err := l.Streams(f.ctx, "s", "", 1)
		require.NoError(f, err)
		require.Equal(f, "s-2", page[0].Name)
		f.fill("s-1", 1)
		f.fill("s-3", 1)
		page, err = l.Streams(f.ctx, "s", "s-2", 10)
		require.NoError(f, err)
		require.Len(f, page, 2)
		require.Equal(f, "s-3", page[0].Name)
		require.Equal(f, "s-4", page[1].Name)
		require.Equal(f, []string{"s-1", "s-2", "s-3", "s-4"}, list(f, "", 2))
	})

	g.test("categories are sorted, without those of the system", func(f *fixture) {
		l := can[driver.Lister](f)
		for _, name := range names {
			f.fill(name, 2)
		}
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Equal(f, []string{"B", "a", "ab", "b", "z", "é"}, categories)
	})

	g.test("deleted streams are listed as such, purged ones are left out", func(f *fixture) {
		l, d := can[driver.Lister](f), can[driver.Deleter](f)
		for _, name := range []string{"a-1", "a-2", "a-3", "b-1", "c-1"} {
			f.fill(name, 3)
		}
		require.Len(f, list(f, "", 10), 5)
		require.Len(f, list(f, "a", 10), 3)
		require.NoError(f, d.Delete(f.ctx, "a-2", driver.Any))
		require.NoError(f, d.Purge(f.ctx, "a-3"))
		require.NoError(f, d.Purge(f.ctx, "b-1"))
		require.NoError(f, d.Delete(f.ctx, "c-1", driver.Any))
		require.NoError(f, d.Purge(f.ctx, "never-1"))
		for _, limit := range []int{1, 2, 10} {
			require.Equal(f, []string{"a-1", "a-2", "c-1"}, list(f, "", limit))
			require.Equal(f, []string{"a-1", "a-2"}, list(f, "a", limit))
			require.Empty(f, list(f, "b", limit))
		}
		page, err := l.Streams(f.ctx, "a", "a-1", 1)
		require.NoError(f, err)
		require.Equal(f, []driver.StreamInfo{{Name: "a-2", Version: 3, First: 4, Deleted: true, Origin: 3}}, page)
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Equal(f, []string{"a", "c"}, categories)
	})
}

func testView(g *group) {
	g.test("a handle that the engine does not have is refused", func(f *fixture) {
		v := can[driver.Viewer](f)
		type unheard struct{ of int }
		target := unheard{7}
		require.False(f, v.As(&target))
		require.Equal(f, unheard{7}, target)
	})
}
