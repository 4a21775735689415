package drivertest

import (
	"context"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testBatch(g *group) {
	one := func(stream string, expected int64, n int) driver.Append {
		return driver.Append{Stream: stream, Expected: expected, Events: events(n)}
	}

	g.test("there is one result an append, in order", func(f *fixture) {
		b := can[driver.Batcher](f)
		f.fill("b-1", 2)
		as := []driver.Append{one("a-1", driver.NoStream, 1), one("b-1", 2, 3), one("c-1", driver.Any, 2), one("d-1", driver.Any, 1)}
		results := b.AppendBatch(f.ctx, as)
		require.Len(f, results, len(as))
		var last uint64
		for i, want := range []uint64{1, 5, 2, 1} {
			r := results[i]
			require.NoError(f, r.Err)
			checkResult(f, r, len(as[i].Events))
			require.Equal(f, want, r.Version)
			if r.Positions != nil {
				require.Greater(f, r.Positions[0], last, "positions increase over the batch")
			}
			require.Greater(f, r.Last, last, "positions increase over the batch")
			last = r.Last
			read := f.stream(as[i].Stream)
			read = read[len(read)-len(as[i].Events):]
			for k, e := range as[i].Events {
				same(f, e, read[k])
				require.True(f, r.Time.Equal(read[k].Time))
			}
			require.Equal(f, r.Last, read[len(read)-1].Position)
			if r.Positions != nil {
				require.Equal(f, r.Positions, positions(read))
			}
		}
	})

	g.test("each append sees those before it", func(f *fixture) {
		b := can[driver.Batcher](f)
		results := b.AppendBatch(f.ctx, []driver.Append{
			one("a-1", driver.NoStream, 2),
			one("a-1", 2, 1),
			one("b-1", driver.Any, 1),
			one("a-1", driver.StreamExists, 1),
			one("a-1", driver.Any, 1),
			one("a-1", 5, 1),
		})
		for i, r := range results {
			require.NoError(f, r.Err, "append %d", i)
		}
		require.Equal(f, uint64(6), results[5].Version)
		require.Equal(f, upTo(6), versions(f.stream("a-1")))
		require.Equal(f, upTo(1), versions(f.stream("b-1")))
	})

	g.test("one that conflicts fails alone", func(f *fixture) {
		b := can[driver.Batcher](f)
		f.fill("b-1", 3)
		results := b.AppendBatch(f.ctx, []driver.Append{
			one("a-1", driver.NoStream, 1),
			one("b-1", 2, 4), // at 3
			one("a-1", driver.NoStream, 4),
			one("c-1", driver.StreamExists, 4),
			one("b-1", 3, 1),
			one("a-1", 1, 1),
			one("a-1", 1, 4), // at 2 by then
			one("c-1", driver.NoStream, 1),
		})
		for i, actual := range map[int]uint64{1: 3, 2: 1, 3: 0, 6: 2} {
			f.conflict(results[i].Err, actual)
		}
		for i, version := range map[int]uint64{0: 1, 4: 4, 5: 2, 7: 1} {
			require.NoError(f, results[i].Err, "append %d", i)
			require.Equal(f, version, results[i].Version, "append %d", i)
		}
		require.Equal(f, upTo(2), versions(f.stream("a-1")))
		require.Equal(f, upTo(4), versions(f.stream("b-1")))
		require.Equal(f, upTo(1), versions(f.stream("c-1")))
		require.Len(f, f.all(driver.Filter{}), 7)
	})

	g.test("one for a purged stream fails alone", func(f *fixture) {
		b, d := can[driver.Batcher](f), can[driver.Deleter](f)
		require.NoError(f, d.Purge(f.ctx, "p-1"))
		results := b.AppendBatch(f.ctx, []driver.Append{one("a-1", driver.Any, 1), one("p-1", driver.Any, 1), one("a-1", 1, 1)})
		require.NoError(f, results[0].Err)
		require.ErrorIs(f, results[1].Err, driver.ErrStreamDeleted)
		require.NoError(f, results[2].Err)
		require.Len(f, f.all(driver.Filter{}), 2)
	})

	g.test("a batch in which all conflict writes nothing", func(f *fixture) {
		b := can[driver.Batcher](f)
		f.fill("a-1", 2)
		f.unchanged([]string{"a-1", "b-1"}, func() {
			for _, r := range b.AppendBatch(f.ctx, []driver.Append{one("a-1", 1, 1), one("b-1", 1, 1), one("a-1", driver.NoStream, 1)}) {
				f.conflicts(r.Err)
			}
		})
	})

	g.test("an empty batch has no results", func(f *fixture) {
		b := can[driver.Batcher](f)
		require.Empty(f, b.AppendBatch(f.ctx, nil))
	})

	g.test("batches and single appends agree on where a stream is", func(f *fixture) {
		b := can[driver.Batcher](f)
		for i := range 10 {
			at := int64(2 * i)
			if i == 0 {
				at = driver.NoStream
			}
			f.append("a-1", at, events(1)...)
			r := b.AppendBatch(f.ctx, []driver.Append{one("a-1", int64(2*i+1), 1), one("a-1", int64(2*i+1), 1)})
			require.NoError(f, r[0].Err)
			f.conflict(r[1].Err, uint64(2*i+2))
		}
		require.Equal(f, upTo(20), versions(f.stream("a-1")))
	})

	g.test("a large batch is written whole", func(f *fixture) {
		b := can[driver.Batcher](f)
		n := 1500
		if l := f.d.Limits().BatchEvents; l > 0 {
			n = min(n, l)
		}
		as := make([]driver.Append, n)
		for i := range as {
			as[i] = one(fmt.Sprintf("s-%d", i%40), driver.Any, 1)
		}
		for i, r := range b.AppendBatch(f.ctx, as) {
			require.NoError(f, r.Err)
			require.Equal(f, uint64(i/40+1), r.Version)
		}
		require.Len(f, f.all(driver.Filter{}), n)
	})

	g.test("a batch whose ctx has ended is written whole or not at all", func(f *fixture) {
		b := can[driver.Batcher](f)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		results := b.AppendBatch(ctx, []driver.Append{one("a-1", driver.Any, 1), one("b-1", driver.Any, 1)})
		written := len(f.all(driver.Filter{}))
		for _, r := range results {
			if r.Err == nil {
				require.Equal(f, 2, written)
			} else {
				require.ErrorIs(f, r.Err, context.Canceled)
				require.Zero(f, written)
			}
		}
	})

	g.test("what is passed in is not kept", func(f *fixture) {
		b := can[driver.Batcher](f)
		e := event("t", "data", "tag")
		want := event("t", "data", "tag")
		want.ID = e.ID
		require.NoError(f, b.AppendBatch(f.ctx, []driver.Append{{Stream: "a-1", Events: []driver.Event{e}}})[0].Err)
		copy(e.Data, "????")
		e.Tags[0] = "?"
		same(f, want, f.stream("a-1")[0])
	})
}
