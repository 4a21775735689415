package drivertest

import (
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testLease(g *group) {
	const long, short = time.Hour, 20 * time.Millisecond
	acquire := func(f *fixture, name, owner string, ttl time.Duration) (uint64, bool) {
		f.Helper()
		fence, ok, err := can[driver.Leaser](f).Acquire(f.ctx, name, owner, ttl)
		require.NoError(f, err)
		return fence, ok
	}
	held := func(f *fixture, prefix string) []driver.Lease {
		f.Helper()
		list, err := can[driver.Leaser](f).Leases(f.ctx, prefix)
		require.NoError(f, err)
		return list
	}
	expires := func(f *fixture, name string) time.Time {
		f.Helper()
		list := held(f, name)
		require.Len(f, list, 1)
		return list[0].Expires
	}

	g.test("a free lease is granted, a held one is not", func(f *fixture) {
		fence, ok := acquire(f, "l", "a", long)
		require.True(f, ok)
		require.NotZero(f, fence)
		for _, owner := range []string{"b", "c", "A"} {
			_, ok = acquire(f, "l", owner, long)
			require.False(f, ok, "held by a")
		}
		_, ok = acquire(f, "other", "b", long)
		require.True(f, ok, "another lease")
	})

	g.test("the holder renews and keeps the fence", func(f *fixture) {
		fence, ok := acquire(f, "l", "a", long)
		require.True(f, ok)
		until := expires(f, "l")
		for range 3 {
			again, ok := acquire(f, "l", "a", 2*long)
			require.True(f, ok)
			require.Equal(f, fence, again)
		}
		require.True(f, expires(f, "l").After(until), "the lease is longer than it was")
		acquire(f, "l", "b", long)
		again, ok := acquire(f, "l", "a", long)
		require.True(f, ok)
		require.Equal(f, fence, again, "a refusal changes nothing")
	})

	g.test("renewal keeps a short lease alive", func(f *fixture) {
		fence, ok := acquire(f, "l", "a", short)
		require.True(f, ok)
		again, ok := acquire(f, "l", "a", long)
		require.True(f, ok)
		require.GreaterOrEqual(f, again, fence)
		start := time.Now()
		f.eventually("the first ttl is over", func() bool { return time.Since(start) > 2*short })
		_, ok = acquire(f, "l", "b", long)
		require.False(f, ok)
	})

	g.test("an expired lease goes to whoever comes, under a greater fence", func(f *fixture) {
		var last uint64
		for _, owner := range []string{"a", "b", "c", "a", "b"} {
			var fence uint64
			f.eventually("the lease has expired", func() (ok bool) {
				fence, ok = acquire(f, "l", owner, short)
				return ok
			})
			require.Greater(f, fence, last)
			last = fence
		}
	})

	g.test("a released lease goes to whoever comes, under a greater fence", func(f *fixture) {
		d := can[driver.Leaser](f)
		var last uint64
		for _, owner := range []string{"a", "b", "a", "c", "a"} {
			fence, ok := acquire(f, "l", owner, long)
			require.True(f, ok)
			require.Greater(f, fence, last)
			require.NoError(f, d.Release(f.ctx, "l", owner, fence))
			require.Empty(f, held(f, ""))
			last = fence
		}
	})

	g.test("releasing what one does not hold is a no-op", func(f *fixture) {
		d := can[driver.Leaser](f)
		require.NoError(f, d.Release(f.ctx, "l", "a", 1), "there is no such lease")
		old, ok := acquire(f, "l", "a", long)
		require.True(f, ok)
		require.NoError(f, d.Release(f.ctx, "l", "a", old))
		fence, ok := acquire(f, "l", "b", long)
		require.True(f, ok)
		require.NoError(f, d.Release(f.ctx, "l", "a", old), "a's is over")
		require.NoError(f, d.Release(f.ctx, "l", "a", fence), "not a's")
		require.NoError(f, d.Release(f.ctx, "l", "b", old), "not b's fence")
		require.NoError(f, d.Release(f.ctx, "l", "b", fence+1), "not b's fence")
		require.NoError(f, d.Release(f.ctx, "l2", "b", fence), "another lease")
		_, ok = acquire(f, "l", "c", long)
		require.False(f, ok, "b holds it")
		again, ok := acquire(f, "l", "b", long)
		require.True(f, ok)
		require.Equal(f, fence, again)
	})

	g.test("leases that are held are listed by name", func(f *fixture) {
		d := can[driver.Leaser](f)
		require.Empty(f, held(f, ""))
		start := time.Now()
		fences := map[string]uint64{}
		for _, name := range []string{"p/2", "q/1", "p/1", "p%", "P/1", "p/3"} {
			fence, ok := acquire(f, name, "owner of "+name, long)
			require.True(f, ok)
			fences[name] = fence
		}
		require.NoError(f, d.Release(f.ctx, "p/3", "owner of p/3", fences["p/3"]))
		acquire(f, "p/4", "x", short)
		f.eventually("p/4 has expired", func() bool { return len(held(f, "p/4")) == 0 })
		for prefix, want := range map[string][]string{
			"":     {"P/1", "p%", "p/1", "p/2", "q/1"},
			"p/":   {"p/1", "p/2"},
			"p":    {"p%", "p/1", "p/2"},
			"p%":   {"p%"},
			"none": nil,
		} {
			var names []string
			for _, l := range held(f, prefix) {
				names = append(names, l.Name)
				require.Equal(f, "owner of "+l.Name, l.Owner)
				require.Equal(f, fences[l.Name], l.Fence)
				// The clock is the store's, which may be another machine's.
				require.WithinDuration(f, start.Add(long), l.Expires, time.Hour/2)
			}
			require.Equal(f, want, names, "prefix %q", prefix)
		}
	})

	g.test("names that are alike are different leases", func(f *fixture) {
		can[driver.Leaser](f)
		for _, name := range oddNames {
			_, ok := acquire(f, name, "owner of "+name, long)
			require.True(f, ok, "%q", name)
		}
		list := held(f, "")
		require.Len(f, list, len(oddNames))
		for _, l := range list {
			require.Contains(f, oddNames, l.Name)
			require.Equal(f, "owner of "+l.Name, l.Owner)
		}
	})

	g.test("of 16 who come at once one is granted", func(f *fixture) {
		d := can[driver.Leaser](f)
		for round := range 5 {
			var mu sync.Mutex
			var winners []string
			together(16, func(i int) {
				owner := fmt.Sprint("owner ", i)
				_, ok, err := d.Acquire(f.ctx, fmt.Sprint("l", round), owner, long)
				if err != nil {
					f.Error(err)
				}
				if ok {
					mu.Lock()
					defer mu.Unlock()
					winners = append(winners, owner)
				}
			})
			require.Len(f, winners, 1)
			list := held(f, fmt.Sprint("l", round))
			require.Len(f, list, 1)
			require.Equal(f, winners[0], list[0].Owner)
		}
	})
}
