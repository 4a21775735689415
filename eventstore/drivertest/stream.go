package drivertest

import (
	"context"

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
