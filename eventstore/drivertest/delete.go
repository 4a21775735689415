package drivertest

import (
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// readable checks that readers of every kind see just the given versions of a
// stream. If loose, readers of the log may still see others.
func (f *fixture) readable(stream string, loose bool, want ...uint64) {
	f.Helper()
	want = nilIfEmpty(want)
	require.Equal(f, want, nilIfEmpty(versions(f.stream(stream))), "forward")
	for _, limit := range []int{1, 2, 100} {
		var have []uint64
		for from := uint64(0); ; {
			page, err := f.d.ReadStream(f.ctx, stream, from, driver.Backward, limit)
			require.NoError(f, err)
			have = append(have, versions(page)...)
			if len(page) < limit {
				break
			}
			from = have[len(have)-1]
			require.LessOrEqual(f, len(have), len(want), "backward, %d at once", limit)
		}
		slices.Reverse(have)
		require.Equal(f, want, nilIfEmpty(have), "backward, %d at once", limit)
	}
	f.logged(stream, loose, want...)
}

// logged checks that readers of the log see just the given versions of a
// stream, or, if loose, at least these.
func (f *fixture) logged(stream string, loose bool, want ...uint64) {
	f.Helper()
	want = nilIfEmpty(want)
	filters := []driver.Filter{{Streams: []string{stream}}, {Categories: []string{driver.Category(stream)}}, {Types: []string{"t"}}, {}}
	reads := map[string][]driver.Recorded{}
	for i, filter := range filters {
		for _, limit := range []int{1, 3, 100} {
			reads[fmt.Sprintf("filter %d, forward, %d at once", i, limit)] = f.allBy(filter, driver.Forward, limit)
			back := f.allBy(filter, driver.Backward, limit)
			slices.Reverse(back)
			reads[fmt.Sprintf("filter %d, backward, %d at once", i, limit)] = back
		}
	}
	if c, ok := as[driver.Conditional](f.d); ok {
		for i, items := range [][]driver.QueryItem{nil, {{Types: []string{"t"}}}} {
			reads[fmt.Sprint("query ", i)] = f.pages(driver.Forward, 3, func(from uint64) ([]driver.Recorded, uint64, error) {
				return c.Query(f.ctx, items, from, 3)
			})
		}
	}
	for name, list := range reads {
		list = slices.DeleteFunc(slices.Clone(list), func(r driver.Recorded) bool {
			return r.Stream != stream || loose && !slices.Contains(want, r.Version)
		})
		require.Equal(f, want, nilIfEmpty(versions(list)), name)
	}
}

func testDelete(g *group) {
	// fill appends ten events to a-1 and to others around it.
	fill := func(f *fixture) driver.Deleter {
		d := can[driver.Deleter](f)
		for range 5 {
			f.fill("a-1", 2)
			f.fill("a-10", 1)
			f.fill("b-1", 1)
		}
		return d
	}

	for _, before := range []uint64{2, 5, 10, 11} {
		g.test(fmt.Sprintf("a stream truncated before %d of 10 begins there, for every reader", before), func(f *fixture) {
			d := fill(f)
			require.NoError(f, d.Truncate(f.ctx, "a-1", before))
			f.readable("a-1", false, upTo(10)[before-1:]...)
			f.readable("a-10", false, upTo(5)...)
			require.Equal(f, driver.StreamInfo{Name: "a-1", Version: 10, First: before}, f.info("a-1"))
			for _, from := range []uint64{0, 1, before - 1} {
				list, err := f.d.ReadStream(f.ctx, "a-1", from, driver.Forward, 2)
				require.NoError(f, err)
				require.Equal(f, upTo(12)[before-1:][:len(list)], versions(list), "forward from %d", from)
				require.Len(f, list, min(2, 11-int(before)))
			}
			list, err := f.d.ReadStream(f.ctx, "a-1", before, driver.Backward, 10)
			require.NoError(f, err)
			require.Empty(f, list)
			// A truncated stream still is at its version.
			f.conflict(f.try("a-1", driver.NoStream, events(1)...).Err, 10)
			f.conflict(f.try("a-1", 9, events(1)...).Err, 10)
			require.Equal(f, uint64(11), f.append("a-1", 10, events(1)...).Version)
			require.Equal(f, uint64(12), f.append("a-1", driver.StreamExists, events(1)...).Version)
			f.readable("a-1", false, upTo(12)[before-1:]...)
		})
	}

	g.test("truncating less than before is a no-op", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Truncate(f.ctx, "a-1", 6))
		for _, before := range []uint64{0, 1, 5, 6} {
			require.NoError(f, d.Truncate(f.ctx, "a-1", before))
			f.readable("a-1", false, upTo(10)[5:]...)
		}
	})

	g.test("truncating step by step adds up", func(f *fixture) {
		d := fill(f)
		for before := uint64(1); before <= 11; before += 2 {
			require.NoError(f, d.Truncate(f.ctx, "a-1", before))
			f.readable("a-1", false, upTo(10)[before-1:]...)
		}
	})

	g.test("truncating past the end is an error that changes nothing", func(f *fixture) {
		d := fill(f)
		f.unchanged([]string{"a-1"}, func() {
			require.Error(f, d.Truncate(f.ctx, "a-1", 12))
			require.Error(f, d.Truncate(f.ctx, "a-1", 1<<62))
		})
	})

	g.test("truncating a stream that does not exist is an error that changes nothing", func(f *fixture) {
		d := fill(f)
		f.unchanged([]string{"none-1"}, func() {
			require.Error(f, d.Truncate(f.ctx, "none-1", 1))
			require.Error(f, d.Truncate(f.ctx, "none-1", 5))
		})
		require.Equal(f, driver.StreamInfo{Name: "none-1"}, f.info("none-1"))
	})

	for _, c := range []struct {
		name     string
		stream   string
		expected int64
		actual   int // of the conflict; -1 is none
	}{
		{"at any version", "a-1", driver.Any, -1},
		{"at its version", "a-1", 10, -1},
		{"if it exists", "a-1", driver.StreamExists, -1},
		{"not at a lower version", "a-1", 9, 10},
		{"not at a higher version", "a-1", 11, 10},
		{"not if it must not exist", "a-1", driver.NoStream, 10},
		{"not if it must exist and does not", "none-1", driver.StreamExists, 0},
		{"not at a version if it does not exist", "none-1", 3, 0},
	} {
		g.test("a stream is deleted "+c.name, func(f *fixture) {
			d := fill(f)
			if c.actual >= 0 {
				f.unchanged([]string{"a-1", "none-1"}, func() {
					f.conflict(d.Delete(f.ctx, c.stream, c.expected), uint64(c.actual))
				})
				return
			}
			require.NoError(f, d.Delete(f.ctx, c.stream, c.expected))
			f.readable("a-1", true)
			f.readable("a-10", false, upTo(5)...)
			require.Equal(f, driver.StreamInfo{Name: "a-1", Version: 10, First: 11, Deleted: true, Origin: 10}, f.info("a-1"))
		})
	}

	for _, c := range []struct {
		name     string
		expected int64
		ok       bool
	}{
		{"takes Any", driver.Any, true},
		{"takes NoStream", driver.NoStream, true},
		{"refuses its last version", 10, false},
		{"refuses StreamExists", driver.StreamExists, false},
		{"refuses a lower version", 9, false},
		{"refuses a higher version", 11, false},
	} {
		g.test("a deleted stream "+c.name, func(f *fixture) {
			d := fill(f)
			require.NoError(f, d.Delete(f.ctx, "a-1", driver.Any))
			if !c.ok {
				f.unchanged([]string{"a-1"}, func() {
					f.conflict(f.try("a-1", c.expected, events(2)...).Err, 0)
				})
				return
			}
			require.Equal(f, uint64(12), f.append("a-1", c.expected, events(2)...).Version, "versions are never used again")
			f.readable("a-1", true, 11, 12)
			require.Equal(f, driver.StreamInfo{Name: "a-1", Version: 12, First: 11, Origin: 10}, f.info("a-1"))
			f.conflict(f.try("a-1", driver.NoStream, events(1)...).Err, 12)
			require.Equal(f, uint64(13), f.append("a-1", driver.StreamExists, events(1)...).Version)
		})
	}

	g.test("deleting what is deleted is a no-op", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Delete(f.ctx, "a-1", driver.Any))
		f.unchanged([]string{"a-1"}, func() {
			require.NoError(f, d.Delete(f.ctx, "a-1", driver.Any))
		})
	})

	g.test("a stream can be deleted over and over", func(f *fixture) {
		d := can[driver.Deleter](f)
		for round := range 4 {
			require.Equal(f, uint64(3*round+3), f.append("a-1", driver.NoStream, events(3)...).Version)
			f.readable("a-1", true, upTo(3*round + 3)[3*round:]...)
			require.Equal(f, uint64(3*round), f.info("a-1").Origin, "where it stood when it was last deleted")
			require.NoError(f, d.Delete(f.ctx, "a-1", int64(3*round+3)))
			f.readable("a-1", true)
		}
	})

	g.test("a deleted stream is truncated to its end", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Delete(f.ctx, "a-1", driver.Any))
		require.NoError(f, d.Truncate(f.ctx, "a-1", 5))
		require.NoError(f, d.Truncate(f.ctx, "a-1", 11))
		require.Error(f, d.Truncate(f.ctx, "a-1", 12))
		require.Equal(f, driver.StreamInfo{Name: "a-1", Version: 10, First: 11, Deleted: true, Origin: 10}, f.info("a-1"))
	})

	g.test("a purged stream is gone for every reader, and for good", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			for _, from := range []uint64{0, 3, 99} {
				list, err := f.d.ReadStream(f.ctx, "a-1", from, dir, 10)
				require.ErrorIs(f, err, driver.ErrStreamDeleted)
				require.Empty(f, list)
			}
		}
		_, err := f.d.Stream(f.ctx, "a-1")
		require.ErrorIs(f, err, driver.ErrStreamDeleted)
		f.logged("a-1", false)
		f.readable("a-10", false, upTo(5)...)
		f.readable("b-1", false, upTo(5)...)
		f.unchanged([]string{"a-1"}, func() {
			for _, expected := range []int64{driver.Any, driver.NoStream, driver.StreamExists, 10, 1} {
				require.ErrorIs(f, f.try("a-1", expected, events(1)...).Err, driver.ErrStreamDeleted, "expecting %d", expected)
			}
		})
	})

	g.test("purging twice is a no-op", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		f.unchanged([]string{"a-1"}, func() { require.NoError(f, d.Purge(f.ctx, "a-1")) })
	})

	g.test("what does not exist can be purged", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Purge(f.ctx, "none-1"))
		require.ErrorIs(f, f.try("none-1", driver.NoStream, events(1)...).Err, driver.ErrStreamDeleted)
		_, err := f.d.ReadStream(f.ctx, "none-1", 0, driver.Forward, 1)
		require.ErrorIs(f, err, driver.ErrStreamDeleted)
	})

	g.test("what is truncated or deleted can be purged", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Truncate(f.ctx, "a-1", 4))
		require.NoError(f, d.Delete(f.ctx, "b-1", driver.Any))
		for _, name := range []string{"a-1", "b-1"} {
			require.NoError(f, d.Purge(f.ctx, name))
			f.logged(name, false)
			require.ErrorIs(f, f.try(name, driver.Any, events(1)...).Err, driver.ErrStreamDeleted)
		}
	})

	g.test("what is purged can be neither truncated nor deleted", func(f *fixture) {
		d := fill(f)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		require.ErrorIs(f, d.Truncate(f.ctx, "a-1", 5), driver.ErrStreamDeleted)
		require.ErrorIs(f, d.Delete(f.ctx, "a-1", driver.Any), driver.ErrStreamDeleted)
	})

	g.test("a hole in the log does not stop readers", func(f *fixture) {
		d := can[driver.Deleter](f)
		f.fill("b-1", 3)
		f.fill("a-1", 200)
		f.fill("b-1", 3)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			for _, limit := range []int{1, 4, 100} {
				require.Len(f, f.allBy(driver.Filter{}, dir, limit), 6, "%d at once", limit)
			}
		}
	})

	g.test("positions are never used again", func(f *fixture) {
		d := can[driver.Deleter](f)
		f.fill("b-1", 1)
		last := f.append("a-1", driver.Any, events(3)...).Last
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		require.Greater(f, f.append("b-1", driver.Any, events(1)...).Last, last)
		last = f.append("c-1", driver.Any, events(3)...).Last
		require.NoError(f, d.Truncate(f.ctx, "c-1", 4))
		require.Greater(f, f.append("b-1", driver.Any, events(1)...).Last, last)
		last = f.append("e-1", driver.Any, events(3)...).Last
		require.NoError(f, d.Delete(f.ctx, "e-1", driver.Any))
		if f.h.Reopen != nil {
			f.reopen()
		}
		require.Greater(f, f.append("b-1", driver.Any, events(1)...).Last, last)
	})

	g.test("a cursor at an event that is gone goes on with the next", func(f *fixture) {
		d := can[driver.Deleter](f)
		f.fill("b-1", 2)
		f.fill("a-1", 3)
		gone := f.stream("a-1")[1].Position
		f.fill("b-1", 2)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		list, _, err := f.d.ReadAll(f.ctx, driver.Filter{}, gone, driver.Forward, 10)
		require.NoError(f, err)
		require.Equal(f, []uint64{3, 4}, versions(list))
		list, _, err = f.d.ReadAll(f.ctx, driver.Filter{}, gone, driver.Backward, 10)
		require.NoError(f, err)
		require.Equal(f, []uint64{2, 1}, versions(list))
	})

	g.test("a store of which everything was purged is empty and can be used", func(f *fixture) {
		d := can[driver.Deleter](f)
		f.fill("a-1", 5)
		f.fill("a-2", 5)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		require.NoError(f, d.Purge(f.ctx, "a-2"))
		require.Empty(f, f.all(driver.Filter{}))
		require.Empty(f, f.allBy(driver.Filter{}, driver.Backward, 10))
		f.fill("a-3", 2)
		require.Equal(f, upTo(2), versions(f.all(driver.Filter{})))
	})
}
