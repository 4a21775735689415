package drivertest

import (
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testView(g *group) {
	g.test("a handle that the engine does not have is refused", func(f *fixture) {
		v := can[driver.Viewer](f)
		type unheard struct{ of int }
		target := unheard{7}
		require.False(f, v.As(&target))
		require.Equal(f, unheard{7}, target)
	})
}
