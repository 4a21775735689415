package drivertest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// A pair is a fixture and the same store under another handle.
type pair struct {
	*fixture
	a, b driver.Store
}

// sides runs f twice, with the handles changed over the second time.
func (p *pair) sides(f func(name string, a, b driver.Store)) {
	f("1", p.a, p.b)
	f("2", p.b, p.a)
}

func testPeers(g *group) {
	test := func(name string, f func(p *pair)) {
		g.test(name, func(x *fixture) { f(&pair{x, x.d, g.h.Peer(x.T, x.d)}) })
	}

	test("no handle is exclusive, and all have the same limits", func(p *pair) {
		require.False(p, p.a.Limits().Exclusive, "what this process remembers is not the truth")
		require.Equal(p, p.a.Limits(), p.b.Limits())
	})

	test("the version of a stream is never older than an append that anybody was told of", func(p *pair) {
		var version uint64
		for i := range 100 {
			a, b := p.a, p.b
			if i%3 == 1 {
				a, b = b, a
			}
			r := a.Append(p.ctx, driver.Append{Stream: "s-1", Expected: driver.Any, Events: events(1 + i%2)})
			require.NoError(p, r.Err)
			version = r.Version
			info, err := b.Stream(p.ctx, "s-1")
			require.NoError(p, err)
			require.Equal(p, version, info.Version, "after %d appends", i+1)
			page, err := b.ReadStream(p.ctx, "s-1", 0, driver.Backward, 1)
			require.NoError(p, err)
			require.Equal(p, []uint64{version}, versions(page), "after %d appends", i+1)
			page, err = b.ReadStream(p.ctx, "s-1", version-1, driver.Forward, 10)
			require.NoError(p, err)
			require.Equal(p, []uint64{version}, versions(page), "after %d appends", i+1)
		}
	})

	test("expectations are checked against what the other has appended", func(p *pair) {
		p.sides(func(side string, a, b driver.Store) {
			name := "s-" + side
			try := func(d driver.Store, expected int64) driver.Result {
				return d.Append(p.ctx, driver.Append{Stream: name, Expected: expected, Events: events(1)})
			}
			require.NoError(p, try(a, driver.NoStream).Err)
			p.conflict(try(b, driver.NoStream).Err, 1)
			require.NoError(p, try(b, driver.StreamExists).Err)
			p.conflict(try(a, 1).Err, 2)
			for version := int64(2); version < 30; version++ {
				d := a
				if version%2 == 0 {
					d = b
				}
				require.NoError(p, try(d, version).Err, "at %d", version)
			}
		})
	})

	test("one handle's appends in a row never conflict with themselves", func(p *pair) {
		p.sides(func(side string, a, _ driver.Store) {
			expected := driver.NoStream
			for range 200 {
				r := a.Append(p.ctx, driver.Append{Stream: "s-" + side, Expected: expected, Events: events(1)})
				require.NoError(p, r.Err, "expecting %d", expected)
				expected = int64(r.Version)
			}
		})
	})

	test("Wait ends with the other's append", func(p *pair) {
		p.sides(func(side string, a, b driver.Store) {
			ctx, cancel := context.WithTimeout(p.ctx, prompt)
			defer cancel()
			head, err := b.Head(ctx)
			require.NoError(p, err)
			done := make(chan error, 1)
			go func() {
				for {
					err := b.Wait(ctx, head)
					if now, _ := b.Head(ctx); err != nil || now > head {
						done <- err
						return
					}
				}
			}()
			r := a.Append(ctx, driver.Append{Stream: "s-" + side, Events: events(1)})
			require.NoError(p, r.Err)
			require.NoError(p, <-done)
			list, _, err := b.ReadAll(ctx, driver.Filter{}, head, driver.Forward, 10)
			require.NoError(p, err)
			require.Equal(p, []uint64{r.Last}, positions(list))
		})
	})

	test("times are in the order of positions, whoever appends", func(p *pair) {
		together(4, func(i int) {
			for range 20 {
				d := p.a
				if i%2 == 0 {
					d = p.b
				}
				if r := d.Append(p.ctx, driver.Append{Stream: fmt.Sprintf("s-%d", i%3), Events: events(1)}); r.Err != nil {
					p.Error(r.Err)
				}
			}
		})
		if _, ok := as[driver.Dater](p.a); !ok {
			p.Skip("positions cannot be found by time")
		}
		log := p.all(driver.Filter{})
		for i := 1; i < len(log); i++ {
			require.False(p, log[i].Time.Before(log[i-1].Time), "event %d was recorded before that below it", i)
		}
	})

	test("what one removes is gone for the other", func(p *pair) {
		can[driver.Deleter](p.fixture)
		p.sides(func(side string, a, b driver.Store) {
			cut, deleted, purged := "cut-"+side, "deleted-"+side, "purged-"+side
			for _, name := range []string{cut, deleted, purged} {
				for _, d := range []driver.Store{a, b} {
					require.NoError(p, d.Append(p.ctx, driver.Append{Stream: name, Events: events(3)}).Err)
				}
			}
			require.NoError(p, a.(driver.Deleter).Truncate(p.ctx, cut, 5))
			require.NoError(p, a.(driver.Deleter).Delete(p.ctx, deleted, 6))
			require.NoError(p, a.(driver.Deleter).Purge(p.ctx, purged))
			page, err := b.ReadStream(p.ctx, cut, 0, driver.Forward, 10)
			require.NoError(p, err)
			require.Equal(p, []uint64{5, 6}, versions(page))
			info, err := b.Stream(p.ctx, deleted)
			require.NoError(p, err)
			require.Equal(p, driver.StreamInfo{Name: deleted, Version: 6, First: 7, Deleted: true, Origin: 6}, info)
			p.conflict(b.Append(p.ctx, driver.Append{Stream: deleted, Expected: 6, Events: events(1)}).Err, 0)
			r := b.Append(p.ctx, driver.Append{Stream: deleted, Expected: driver.NoStream, Events: events(1)})
			require.NoError(p, r.Err)
			require.Equal(p, uint64(7), r.Version)
			require.NoError(p, a.Append(p.ctx, driver.Append{Stream: deleted, Expected: 7, Events: events(1)}).Err)
			_, err = b.ReadStream(p.ctx, purged, 0, driver.Forward, 10)
			require.ErrorIs(p, err, driver.ErrStreamDeleted)
			require.ErrorIs(p, b.Append(p.ctx, driver.Append{Stream: purged, Events: events(1)}).Err, driver.ErrStreamDeleted)
		})
	})

	test("a checkpoint that one has moved cannot be saved by the other", func(p *pair) {
		can[driver.Checkpointer](p.fixture)
		p.sides(func(side string, a, b driver.Store) {
			x, y := a.(driver.Checkpointer), b.(driver.Checkpointer)
			one, two := driver.Checkpoint{Position: 1, Data: []byte("1")}, driver.Checkpoint{Position: 2, Data: []byte("2")}
			require.NoError(p, x.SaveCheckpoint(p.ctx, side, nil, one))
			have, ok, err := y.LoadCheckpoint(p.ctx, side)
			require.NoError(p, err)
			require.True(p, ok)
			require.Equal(p, one, have)
			require.ErrorIs(p, y.SaveCheckpoint(p.ctx, side, nil, two), driver.ErrMoved)
			require.NoError(p, y.SaveCheckpoint(p.ctx, side, &one, two))
			require.ErrorIs(p, x.SaveCheckpoint(p.ctx, side, &one, two), driver.ErrMoved)
			all, err := x.Checkpoints(p.ctx, side)
			require.NoError(p, err)
			require.Equal(p, map[string]driver.Checkpoint{side: two}, all)
			require.NoError(p, x.DeleteCheckpoint(p.ctx, side))
			require.ErrorIs(p, y.SaveCheckpoint(p.ctx, side, &two, one), driver.ErrMoved)
		})
	})

	test("a lease that one holds is not granted to the other", func(p *pair) {
		can[driver.Leaser](p.fixture)
		p.sides(func(side string, a, b driver.Store) {
			x, y := a.(driver.Leaser), b.(driver.Leaser)
			fence, ok, err := x.Acquire(p.ctx, side, "x", time.Hour)
			require.NoError(p, err)
			require.True(p, ok)
			_, ok, err = y.Acquire(p.ctx, side, "y", time.Hour)
			require.NoError(p, err)
			require.False(p, ok)
			again, ok, err := y.Acquire(p.ctx, side, "x", time.Hour)
			require.NoError(p, err)
			require.True(p, ok, "the owner is who holds it, not the handle")
			require.Equal(p, fence, again)
			held, err := y.Leases(p.ctx, side)
			require.NoError(p, err)
			require.Len(p, held, 1)
			require.NoError(p, y.Release(p.ctx, side, "x", fence))
			higher, ok, err := y.Acquire(p.ctx, side, "y", time.Hour)
			require.NoError(p, err)
			require.True(p, ok)
			require.Greater(p, higher, fence)
			_, ok, err = x.Acquire(p.ctx, side, "x", time.Hour)
			require.NoError(p, err)
			require.False(p, ok)
		})
	})

	test("a snapshot that one has saved is the other's, too", func(p *pair) {
		can[driver.Snapshotter](p.fixture)
		p.sides(func(side string, a, b driver.Store) {
			x, y := a.(driver.Snapshotter), b.(driver.Snapshotter)
			want := driver.Snapshot{Version: 7, Data: []byte("7")}
			require.NoError(p, x.SaveSnapshot(p.ctx, "s-"+side, want))
			require.NoError(p, y.SaveSnapshot(p.ctx, "s-"+side, driver.Snapshot{Version: 5, Data: []byte("5")}))
			for _, d := range []driver.Snapshotter{x, y} {
				have, ok, err := d.LoadSnapshot(p.ctx, "s-"+side)
				require.NoError(p, err)
				require.True(p, ok)
				require.Equal(p, want, have)
			}
			require.NoError(p, y.DeleteSnapshot(p.ctx, "s-"+side))
			_, ok, err := x.LoadSnapshot(p.ctx, "s-"+side)
			require.NoError(p, err)
			require.False(p, ok)
		})
	})

	test("a boundary that one has moved stops the other", func(p *pair) {
		can[driver.Conditional](p.fixture)
		p.sides(func(side string, a, b driver.Store) {
			boundary := []driver.QueryItem{{Tags: []string{"seat:" + side}}}
			take := func(d driver.Store, after uint64) driver.Result {
				return d.(driver.Conditional).AppendIf(p.ctx, boundary, after, []driver.StreamEvent{{Stream: "s-" + side, Event: event("t", "", "seat:"+side)}}, nil)
			}
			first := take(a, 0)
			require.NoError(p, first.Err)
			p.conflict(take(b, 0).Err, first.Last)
			second := take(b, first.Last)
			require.NoError(p, second.Err)
			p.conflict(take(a, first.Last).Err, second.Last)
			list, _, err := a.(driver.Conditional).Query(p.ctx, boundary, 0, 10)
			require.NoError(p, err)
			require.Equal(p, []uint64{first.Last, second.Last}, positions(list))
		})
	})

	test("an append to several streams is the other's to build on", func(p *pair) {
		can[driver.Atomic](p.fixture)
		p.sides(func(side string, a, b driver.Store) {
			x, y := "x-"+side, "y-"+side
			for i := range 10 {
				d, other := a, b
				if i%2 == 1 {
					d, other = b, a
				}
				expected := int64(2 * i)
				if i == 0 {
					expected = driver.NoStream
				}
				_, err := d.(driver.Atomic).AppendAtomic(p.ctx, []driver.Append{to(x, expected, 1), to(y, expected, 1)}, nil)
				require.NoError(p, err)
				for _, name := range []string{x, y} {
					info, err := other.Stream(p.ctx, name)
					require.NoError(p, err)
					require.Equal(p, uint64(2*i+1), info.Version)
				}
				_, err = other.(driver.Atomic).AppendAtomic(p.ctx, []driver.Append{to(y, driver.Any, 1), to(x, expected, 1)}, nil)
				p.conflictIn(err, x, uint64(2*i+1))
				require.NoError(p, other.Append(p.ctx, to(x, int64(2*i+1), 1)).Err)
				require.NoError(p, other.Append(p.ctx, to(y, int64(2*i+1), 1)).Err)
			}
		})
	})

	test("closing one leaves the other", func(p *pair) {
		p.fill("s-1", 3)
		require.NoError(p, p.a.Close())
		_, err := p.a.Head(p.ctx)
		require.ErrorIs(p, err, driver.ErrClosed)
		r := p.b.Append(p.ctx, driver.Append{Stream: "s-1", Expected: 3, Events: events(1)})
		require.NoError(p, r.Err)
		head, err := p.b.Head(p.ctx)
		require.NoError(p, err)
		require.Equal(p, r.Last, head)
	})
}
