package drivertest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testDurable(g *group) {
	g.test("events outlive the process", func(f *fixture) {
		e := event("kind", "a\x00\xff", "tag:1", "tag:2")
		e.Metadata = map[string]string{"k": "v"}
		e.Correlation, e.Causation = [16]byte{1}, [16]byte{2}
		for i := range 50 {
			f.append(fmt.Sprintf("s-%d", i%5), driver.Any, events(1+i%4)...)
		}
		f.append("s-9", driver.NoStream, e)
		f.fill("$sys-1", 3)
		log, system := f.all(driver.Filter{}), f.stream("$sys-1")
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		for range 2 {
			f.reopen()
			require.Equal(f, log, f.all(driver.Filter{}))
			require.Equal(f, system, f.stream("$sys-1"))
			same(f, e, f.stream("s-9")[0])
			have, err := f.d.Head(f.ctx)
			require.NoError(f, err)
			require.Equal(f, head, have)
			require.Equal(f, len(log)-1, len(f.all(driver.Filter{Types: []string{"t"}})))
			require.Len(f, f.all(driver.Filter{Categories: []string{"$sys"}}), 3)
		}
	})

	g.test("expectations are checked against what is there", func(f *fixture) {
		f.fill("s-1", 3)
		last := f.append("s-1", 3, events(1)...).Last
		f.reopen()
		f.conflict(f.try("s-1", driver.NoStream, events(1)...).Err, 4)
		f.conflict(f.try("s-1", 3, events(1)...).Err, 4)
		f.conflict(f.try("s-2", driver.StreamExists, events(1)...).Err, 0)
		r := f.append("s-1", 4, events(1)...)
		require.Equal(f, uint64(5), r.Version)
		require.Greater(f, r.Last, last, "positions go on")
		require.Equal(f, upTo(5), versions(f.stream("s-1")))
	})

	g.test("batches outlive the process", func(f *fixture) {
		b := can[driver.Batcher](f)
		for i := range 20 {
			for _, r := range b.AppendBatch(f.ctx, []driver.Append{
				{Stream: fmt.Sprintf("s-%d", i%3), Events: events(2)},
				{Stream: "s-x", Expected: 1 << 40, Events: events(1)},
				{Stream: fmt.Sprintf("s-%d", i%3), Events: events(1)},
			}) {
				if r.Err != nil {
					f.conflict(r.Err, 0)
				}
			}
		}
		log := f.all(driver.Filter{})
		require.Len(f, log, 60)
		f.reopen()
		require.Equal(f, log, f.all(driver.Filter{}))
	})

	g.test("lists of streams outlive the process", func(f *fixture) {
		l := can[driver.Lister](f)
		for i := range 20 {
			f.fill(fmt.Sprintf("c%d-%d", i%3, i), 1)
		}
		streams, err := l.Streams(f.ctx, "", "", 100)
		require.NoError(f, err)
		require.Len(f, streams, 20)
		f.reopen()
		l = can[driver.Lister](f)
		have, err := l.Streams(f.ctx, "", "", 100)
		require.NoError(f, err)
		require.Equal(f, streams, have)
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Equal(f, []string{"c0", "c1", "c2"}, categories)
	})

	g.test("removals outlive the process", func(f *fixture) {
		d := can[driver.Deleter](f)
		for _, name := range []string{"cut-1", "deleted-1", "again-1", "purged-1"} {
			f.fill(name, 6)
		}
		require.NoError(f, d.Truncate(f.ctx, "cut-1", 4))
		require.NoError(f, d.Delete(f.ctx, "deleted-1", 6))
		require.NoError(f, d.Delete(f.ctx, "again-1", 6))
		f.append("again-1", driver.NoStream, events(2)...)
		require.NoError(f, d.Purge(f.ctx, "purged-1"))
		require.NoError(f, d.Purge(f.ctx, "never-1"))
		f.reopen()
		f.readable("cut-1", false, 4, 5, 6)
		f.readable("deleted-1", true)
		f.readable("again-1", true, 7, 8)
		f.logged("purged-1", false)
		require.Equal(f, driver.StreamInfo{Name: "cut-1", Version: 6, First: 4}, f.info("cut-1"))
		require.Equal(f, driver.StreamInfo{Name: "deleted-1", Version: 6, First: 7, Deleted: true, Origin: 6}, f.info("deleted-1"))
		require.Equal(f, driver.StreamInfo{Name: "again-1", Version: 8, First: 7, Origin: 6}, f.info("again-1"))
		for _, name := range []string{"purged-1", "never-1"} {
			require.ErrorIs(f, f.try(name, driver.Any, events(1)...).Err, driver.ErrStreamDeleted)
		}
		require.Equal(f, uint64(7), f.append("cut-1", 6, events(1)...).Version)
		require.Equal(f, uint64(7), f.append("deleted-1", driver.NoStream, events(1)...).Version)
	})

	g.test("positions by time outlive the process", func(f *fixture) {
		d := can[driver.Dater](f)
		f.fill("s-1", 5)
		log := f.all(driver.Filter{})
		want, err := d.PositionAt(f.ctx, log[3].Time)
		require.NoError(f, err)
		f.reopen()
		have, err := can[driver.Dater](f).PositionAt(f.ctx, log[3].Time)
		require.NoError(f, err)
		require.Equal(f, want, have)
		require.False(f, f.append("s-1", driver.Any, events(1)...).Time.Before(log[4].Time))
	})

	g.test("snapshots outlive the process", func(f *fixture) {
		d := can[driver.Snapshotter](f)
		want := driver.Snapshot{Version: 3, Schema: 2, Data: []byte("a\x00b")}
		require.NoError(f, d.SaveSnapshot(f.ctx, "s-1", want))
		require.NoError(f, d.SaveSnapshot(f.ctx, "s-2", want))
		require.NoError(f, d.DeleteSnapshot(f.ctx, "s-2"))
		f.reopen()
		d = can[driver.Snapshotter](f)
		have, ok, err := d.LoadSnapshot(f.ctx, "s-1")
		require.NoError(f, err)
		require.True(f, ok)
		require.Equal(f, want, have)
		_, ok, err = d.LoadSnapshot(f.ctx, "s-2")
		require.NoError(f, err)
		require.False(f, ok)
		require.NoError(f, d.SaveSnapshot(f.ctx, "s-1", driver.Snapshot{Version: 2}))
		have, _, err = d.LoadSnapshot(f.ctx, "s-1")
		require.NoError(f, err)
		require.Equal(f, want, have)
	})

	g.test("checkpoints outlive the process", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		a, b := driver.Checkpoint{Position: 5, Fence: 2, Data: []byte("a\x00")}, driver.Checkpoint{}
		require.NoError(f, d.SaveCheckpoint(f.ctx, "a", nil, driver.Checkpoint{Position: 1}))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "a", &driver.Checkpoint{Position: 1}, a))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "b", nil, b))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, b))
		require.NoError(f, d.DeleteCheckpoint(f.ctx, "c"))
		f.reopen()
		d = can[driver.Checkpointer](f)
		all, err := d.Checkpoints(f.ctx, "")
		require.NoError(f, err)
		require.Len(f, all, 2)
		require.Equal(f, a, all["a"])
		require.Zero(f, all["b"].Position)
		require.ErrorIs(f, d.SaveCheckpoint(f.ctx, "a", &driver.Checkpoint{Position: 1}, a), driver.ErrMoved)
		require.ErrorIs(f, d.SaveCheckpoint(f.ctx, "b", nil, a), driver.ErrMoved)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "a", &a, driver.Checkpoint{Position: 6, Fence: 2}))
	})

	g.test("fences outlive the process", func(f *fixture) {
		d := can[driver.Leaser](f)
		old, ok, err := d.Acquire(f.ctx, "l", "a", time.Hour)
		require.NoError(f, err)
		require.True(f, ok)
		require.NoError(f, d.Release(f.ctx, "l", "a", old))
		f.reopen()
		fence, ok, err := can[driver.Leaser](f).Acquire(f.ctx, "l", "b", time.Hour)
		require.NoError(f, err)
		require.True(f, ok)
		require.Greater(f, fence, old)
	})

	g.test("tags outlive the process", func(f *fixture) {
		c := can[driver.Conditional](f)
		last := f.append("a-1", driver.Any, event("t", "1", "x"), event("t", "2", "y"), event("t", "3", "x")).Last
		r := c.AppendIf(f.ctx, []driver.QueryItem{{Tags: []string{"x"}}}, last, []driver.StreamEvent{{Stream: "b-1", Event: event("t", "4", "x")}}, nil)
		require.NoError(f, r.Err)
		f.reopen()
		c = can[driver.Conditional](f)
		list, _, err := c.Query(f.ctx, []driver.QueryItem{{Tags: []string{"x"}}}, 0, 10)
		require.NoError(f, err)
		require.Equal(f, []string{"1", "3", "4"}, data(list))
		f.conflict(c.AppendIf(f.ctx, []driver.QueryItem{{Tags: []string{"x"}}}, last, []driver.StreamEvent{{Stream: "b-1", Event: event("t", "5")}}, nil).Err, r.Last)
	})

	g.test("appends to several streams outlive the process", func(f *fixture) {
		can[driver.Atomic](f)
		f.fill("b-1", 2)
		as := []driver.Append{to("a-1", driver.NoStream, 2), to("b-1", 2, 3), to("c-1", driver.Any, 1)}
		results, err := f.atomically(as...)
		require.NoError(f, err)
		log := f.all(driver.Filter{})
		f.reopen()
		require.Equal(f, log, f.all(driver.Filter{}))
		_, err = f.atomically(to("c-1", 1, 1), to("b-1", 4, 1), to("a-1", 2, 1))
		f.conflictIn(err, "b-1", 5)
		again, err := f.atomically(to("c-1", 1, 1), to("b-1", 5, 1), to("a-1", 2, 1))
		require.NoError(f, err)
		require.Greater(f, again[0].Last, results[2].Last, "positions go on")
	})
}
