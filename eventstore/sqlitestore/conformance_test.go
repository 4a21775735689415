package sqlitestore

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
)

// openTest opens a store in a directory of its own and closes it with the test.
func openTest(t testing.TB, opt *Options) *store {
	t.Helper()
	dir := testDir(t)
	if _, ok := t.(*testing.B); ok {
		dir = t.TempDir()
	}
	return openAt(t, filepath.Join(dir, "events.db"), opt)
}

func openAt(t testing.TB, path string, opt *Options) *store {
	t.Helper()
	s, err := open(path, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func harness(opt Options) drivertest.Harness {
	return drivertest.Harness{
		Open: func(t testing.TB) driver.Store { return openTest(t, &opt) },
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			require.NoError(t, d.Close())
			return openAt(t, d.(*store).path, &opt)
		},
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]Options{
		"everything in the tail":              {Synchronous: Normal},
		"indexes merged at every opportunity": {Synchronous: Normal, unmerged: 5, slice: 3},
		"the tail rebuilt at every opening":   {Synchronous: Normal, unmerged: 13, leaveUnmerged: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if raceEnabled && opt.slice == 0 {
				t.Skip("the race detector sees more where the indexes are merged")
			}
			drivertest.Run(t, harness(opt))
		})
	}
}
