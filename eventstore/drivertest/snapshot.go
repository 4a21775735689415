package drivertest

import (
	"bytes"
	"fmt"

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
		large := 1 << 20
		if l := f.d.Limits().EventBytes; l > 0 {
			large = min(large, l)
		}
		for i, s := range []driver.Snapshot{
			{Version: 1, Data: []byte("state")},
			{Version: 2, Schema: 7, Data: []byte("a\x00b\xff")},
			{Version: 3, Schema: -1, Data: nil},
			{Version: 4, Schema: 1 << 30, Data: bytes.Repeat([]byte("x"), large)},
			{Version: 5, Data: []byte{}},
			{Version: 1<<63 - 1, Data: []byte("last")},
		} {
			save(f, "s-1", s)
			has(f, "s-1", &s)
			has(f, fmt.Sprint("s-1", i), nil)
		}
	})

	g.test("streams whose names are alike have snapshots of their own", func(f *fixture) {
		for i, name := range oddNames {
			save(f, name, driver.Snapshot{Version: uint64(i + 1), Data: []byte(name)})
		}
		for i, name := range oddNames {
			has(f, name, &driver.Snapshot{Version: uint64(i + 1), Data: []byte(name)})
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
