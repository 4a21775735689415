package drivertest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testSnapshot(g *group) {
	// has checks what the snapshot of a stream is; nil is none.
	has := func(f *fixture, stream string, want *driver.Snapshot) {
		f.Helper()
		s, ok, err := can[driver.Snapshotter](f).LoadSnapshot(f.ctx, stream)
		require.NoError(f, err)
		require.Equal(f, want != nil, ok)
		if ok {
			require.Equal(f, want.Version, s.Version)
			require.Equal(f, want.Schema, s.Schema)
			require.True(f, bytes.Equal(want.Data, s.Data), "data: want %q, have %q", want.Data, s.Data)
		}
	}
	save := func(f *fixture, stream string, s driver.Snapshot) {
		f.Helper()
		require.NoError(f, can[driver.Snapshotter](f).SaveSnapshot(f.ctx, stream, s))
	}

	g.test("there is none until one is saved", func(f *fixture) {
		has(f, "s-1", nil)
		f.fill("s-1", 3)
		save(f, "s-10", driver.Snapshot{Version: 1})
		has(f, "s-1", nil)
	})

	g.test("one reads as it was saved", func(f *fixture) {
		f.fill("s-1", 3)
		for i, s := range []driver.Snapshot{
			{Version: 1, Data: []byte("state")},
			{Version: 2, Schema: 7, Data: []byte("a\x00b\xff")},
			{Version: 3, Schema: -1, Data: nil},
			{Version: 4, Schema: 1 << 30, Data: bytes.Repeat([]byte("x"), 1<<20)},
			{Version: 5, Data: []byte{}},
			{Version: 1<<63 - 1, Data: []byte("last")},
		} {
			save(f, "s-1", s)
			has(f, "s-1", &s)
			has(f, fmt.Sprint("s-1", i), nil)
		}
	})

	g.test("a higher or equal version replaces the one before", func(f *fixture) {
		for _, s := range []driver.Snapshot{{Version: 3, Data: []byte("3")}, {Version: 7, Data: []byte("7")}, {Version: 7, Schema: 2, Data: []byte("again")}} {
			save(f, "s-1", s)
			has(f, "s-1", &s)
		}
	})

	g.test("a lower version does nothing", func(f *fixture) {
		want := driver.Snapshot{Version: 7, Schema: 1, Data: []byte("7")}
		save(f, "s-1", want)
		for _, version := range []uint64{0, 1, 6} {
			save(f, "s-1", driver.Snapshot{Version: version, Schema: 2, Data: []byte("old")})
			has(f, "s-1", &want)
		}
	})

	g.test("one that was deleted is gone, and any version may follow", func(f *fixture) {
		d := can[driver.Snapshotter](f)
		save(f, "s-1", driver.Snapshot{Version: 7, Data: []byte("7")})
		save(f, "s-2", driver.Snapshot{Version: 7, Data: []byte("other")})
		require.NoError(f, d.DeleteSnapshot(f.ctx, "s-1"))
		require.NoError(f, d.DeleteSnapshot(f.ctx, "s-1"), "there is none to forget")
		has(f, "s-1", nil)
		has(f, "s-2", &driver.Snapshot{Version: 7, Data: []byte("other")})
		save(f, "s-1", driver.Snapshot{Version: 2, Data: []byte("2")})
		has(f, "s-1", &driver.Snapshot{Version: 2, Data: []byte("2")})
	})

	g.test("purging a stream removes its snapshot, and none can be saved again", func(f *fixture) {
		d := can[driver.Deleter](f)
		f.fill("s-1", 3)
		save(f, "s-1", driver.Snapshot{Version: 3, Data: []byte("3")})
		save(f, "s-2", driver.Snapshot{Version: 3, Data: []byte("other")})
		require.NoError(f, d.Purge(f.ctx, "s-1"))
		has(f, "s-1", nil)
		has(f, "s-2", &driver.Snapshot{Version: 3, Data: []byte("other")})
		require.ErrorIs(f, can[driver.Snapshotter](f).SaveSnapshot(f.ctx, "s-1", driver.Snapshot{Version: 9}), driver.ErrStreamDeleted)
		has(f, "s-1", nil)
	})

	g.test("what is passed in is not kept", func(f *fixture) {
		buf := []byte("mine")
		save(f, "s-1", driver.Snapshot{Version: 1, Data: buf})
		copy(buf, "????")
		has(f, "s-1", &driver.Snapshot{Version: 1, Data: []byte("mine")})
	})

	g.test("saving one changes no stream", func(f *fixture) {
		can[driver.Snapshotter](f)
		f.fill("s-1", 2)
		f.unchanged([]string{"s-1", "s-2"}, func() {
			save(f, "s-1", driver.Snapshot{Version: 2, Data: []byte("2")})
			save(f, "s-2", driver.Snapshot{Version: 2, Data: []byte("2")})
		})
	})

	g.test("of many saved at once the highest version stays", func(f *fixture) {
		d := can[driver.Snapshotter](f)
		together(16, func(i int) {
			if err := d.SaveSnapshot(f.ctx, "s-1", driver.Snapshot{Version: uint64(i + 1), Data: []byte(fmt.Sprint(i + 1))}); err != nil {
				f.Error(err)
			}
		})
		has(f, "s-1", &driver.Snapshot{Version: 16, Data: []byte("16")})
	})
}

func testCheckpoint(g *group) {
	at := func(position, fence uint64) *driver.Checkpoint {
		return &driver.Checkpoint{Position: position, Fence: fence, Data: []byte(fmt.Sprintf("%d under %d", position, fence))}
	}
	has := func(f *fixture, name string, want *driver.Checkpoint) {
		f.Helper()
		c, ok, err := can[driver.Checkpointer](f).LoadCheckpoint(f.ctx, name)
		require.NoError(f, err)
		require.Equal(f, want != nil, ok)
		if ok {
			require.Equal(f, want.Position, c.Position)
			require.Equal(f, want.Fence, c.Fence)
			require.True(f, bytes.Equal(want.Data, c.Data), "data: want %q, have %q", want.Data, c.Data)
		}
	}

	for _, c := range []struct {
		name         string
		stored, from *driver.Checkpoint
		to           *driver.Checkpoint
		moved        bool
	}{
		{"none, from none", nil, nil, at(5, 1), false},
		{"none, from none, at position 0", nil, nil, at(0, 0), false},
		{"none, from one", nil, at(5, 1), at(6, 1), true},
		{"none, from one at position 0", nil, at(0, 0), at(6, 0), true},
		{"from where it is", at(5, 1), at(5, 1), at(6, 1), false},
		{"from position 0, where it is", at(0, 0), at(0, 0), at(6, 0), false},
		{"backward, from where it is", at(5, 1), at(5, 1), at(2, 1), false},
		{"to the same place", at(5, 1), at(5, 1), at(5, 1), false},
		{"one, from none", at(5, 1), nil, at(6, 1), true},
		{"one at position 0, from none", at(0, 0), nil, at(6, 0), true},
		{"from a lower position", at(5, 1), at(4, 1), at(6, 1), true},
		{"from a higher position", at(5, 1), at(6, 1), at(7, 1), true},
		{"from another fence, the lower", at(5, 2), at(5, 1), at(6, 2), true},
		{"from another fence, the higher", at(5, 1), at(5, 2), at(6, 2), true},
		{"to a higher fence", at(5, 1), at(5, 1), at(6, 2), false},
		{"to a higher fence at the same position", at(5, 1), at(5, 1), at(5, 9), false},
		{"to a lower fence", at(5, 2), at(5, 2), at(6, 1), true},
		{"to fence 0", at(5, 2), at(5, 2), at(6, 0), true},
	} {
		g.test("saved: "+c.name, func(f *fixture) {
			d := can[driver.Checkpointer](f)
			if c.stored != nil {
				require.NoError(f, d.SaveCheckpoint(f.ctx, "name", nil, *c.stored))
			}
			require.NoError(f, d.SaveCheckpoint(f.ctx, "name2", nil, *at(1, 1)))
			err := d.SaveCheckpoint(f.ctx, "name", c.from, *c.to)
			if c.moved {
				require.ErrorIs(f, err, driver.ErrMoved)
				has(f, "name", c.stored)
			} else {
				require.NoError(f, err)
				has(f, "name", c.to)
			}
			has(f, "name2", at(1, 1))
		})
	}

	g.test("what from's data was does not matter", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, *at(5, 1)))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", &driver.Checkpoint{Position: 5, Fence: 1, Data: []byte("other")}, *at(6, 1)))
		has(f, "c", at(6, 1))
	})

	g.test("there is none until one is saved, which is not the same as one at position 0", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		has(f, "c", nil)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, driver.Checkpoint{}))
		has(f, "c", &driver.Checkpoint{})
	})

	g.test("one reads as it was saved", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		for i, data := range [][]byte{nil, {}, []byte("text"), []byte("a\x00b\xff"), bytes.Repeat([]byte("x"), 100_000)} {
			c := driver.Checkpoint{Position: 1<<63 - 1, Fence: uint64(i), Data: data}
			name := fmt.Sprintf("name é %% %d", i)
			require.NoError(f, d.SaveCheckpoint(f.ctx, name, nil, c))
			has(f, name, &c)
		}
	})

	g.test("one that was deleted is gone, and another may begin", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, *at(5, 9)))
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c2", nil, *at(5, 9)))
		require.NoError(f, d.DeleteCheckpoint(f.ctx, "c"))
		require.NoError(f, d.DeleteCheckpoint(f.ctx, "c"), "there is none to forget")
		has(f, "c", nil)
		has(f, "c2", at(5, 9))
		require.ErrorIs(f, d.SaveCheckpoint(f.ctx, "c", at(5, 9), *at(6, 9)), driver.ErrMoved)
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, *at(1, 1)))
		has(f, "c", at(1, 1))
	})

	g.test("those whose names start with a prefix are listed", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		names := []string{"p/a", "p/b", "p", "P/a", "q/a", "p%/a", "p_/a", "px/a", "é/a"}
		for i, name := range names {
			require.NoError(f, d.SaveCheckpoint(f.ctx, name, nil, *at(uint64(i), 1)))
		}
		for prefix, want := range map[string][]int{
			"":     {0, 1, 2, 3, 4, 5, 6, 7, 8},
			"p/":   {0, 1},
			"p":    {0, 1, 2, 5, 6, 7},
			"p%":   {5},
			"p_":   {6},
			"P":    {3},
			"é":    {8},
			"none": {},
		} {
			have, err := d.Checkpoints(f.ctx, prefix)
			require.NoError(f, err)
			require.Len(f, have, len(want), "prefix %q: %v", prefix, have)
			for _, i := range want {
				require.Equal(f, *at(uint64(i), 1), have[names[i]], "%q with prefix %q", names[i], prefix)
			}
		}
	})

	g.test("of many who save from the same place one wins", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		var from *driver.Checkpoint
		for round := range 5 {
			var mu sync.Mutex
			var won []driver.Checkpoint
			together(8, func(i int) {
				to := *at(uint64(10*round+i+1), 1)
				err := d.SaveCheckpoint(f.ctx, "c", from, to)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, to)
				} else if !errors.Is(err, driver.ErrMoved) {
					f.Error(err)
				}
			})
			require.Len(f, won, 1)
			has(f, "c", &won[0])
			from = &won[0]
		}
	})

	g.test("what is passed in is not kept", func(f *fixture) {
		d := can[driver.Checkpointer](f)
		c := driver.Checkpoint{Position: 1, Data: []byte("mine")}
		require.NoError(f, d.SaveCheckpoint(f.ctx, "c", nil, c))
		copy(c.Data, "????")
		has(f, "c", &driver.Checkpoint{Position: 1, Data: []byte("mine")})
	})
}

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
		until := held(f, "l")[0].Expires
		for range 3 {
			again, ok := acquire(f, "l", "a", 2*long)
			require.True(f, ok)
			require.Equal(f, fence, again)
		}
		require.True(f, held(f, "l")[0].Expires.After(until), "the lease is longer than it was")
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
			require.Equal(f, winners[0], held(f, fmt.Sprint("l", round))[0].Owner)
		}
	})
}
