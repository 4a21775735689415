package drivertest

import (
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testList(g *group) {
	names := []string{"a-1", "a-10", "a-2", "a", "ab-1", "b-x-y", "B-1", "b-x", "$sys-1", "$alone", "é-1", "z-1"}
	// As bytes sort, without those of the system.
	sorted := []string{"B-1", "a", "a-1", "a-10", "a-2", "ab-1", "b-x", "b-x-y", "z-1", "é-1"}
	list := func(f *fixture, category string, limit int) []string {
		f.Helper()
		l := can[driver.Lister](f)
		var have []string
		for after := ""; ; {
			page, err := l.Streams(f.ctx, category, after, limit)
			require.NoError(f, err)
			require.LessOrEqual(f, len(page), limit)
			for _, info := range page {
				require.Greater(f, info.Name, after, "names sort after after")
				require.Equal(f, f.info(info.Name), info)
				have = append(have, info.Name)
			}
			if len(page) < limit {
				return have
			}
			after = have[len(have)-1]
		}
	}

	g.test("an empty store has no streams and no categories", func(f *fixture) {
		l := can[driver.Lister](f)
		require.Empty(f, list(f, "", 10))
		require.Empty(f, list(f, "a", 10))
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Empty(f, categories)
	})

	g.test("streams are listed bytewise by name, in pages, without those of the system", func(f *fixture) {
		can[driver.Lister](f)
		for i, name := range names {
			f.fill(name, 1+i%3)
		}
		for _, limit := range []int{1, 2, 3, len(sorted), 100} {
			require.Equal(f, sorted, list(f, "", limit), "%d at once", limit)
		}
	})

	g.test("streams of a category are listed", func(f *fixture) {
		can[driver.Lister](f)
		for _, name := range names {
			f.fill(name, 1)
		}
		for category, want := range map[string][]string{
			"a":      {"a", "a-1", "a-10", "a-2"},
			"ab":     {"ab-1"},
			"b":      {"b-x", "b-x-y"},
			"b-x":    nil,
			"$sys":   {"$sys-1"},
			"$alone": {"$alone"},
			"none":   nil,
		} {
			for _, limit := range []int{1, 3, 100} {
				require.Equal(f, want, list(f, category, limit), "category %q, %d at once", category, limit)
			}
		}
	})

	g.test("a list begins after any name, whether there is such a stream or not", func(f *fixture) {
		l := can[driver.Lister](f)
		for _, name := range names {
			f.fill(name, 1)
		}
		page, err := l.Streams(f.ctx, "", "a-11", 2)
		require.NoError(f, err)
		require.Equal(f, "a-2", page[0].Name)
		require.Equal(f, "ab-1", page[1].Name)
		page, err = l.Streams(f.ctx, "", "é-1", 2)
		require.NoError(f, err)
		require.Empty(f, page)
	})

	g.test("a stream that is created between two pages is listed if it sorts after the first", func(f *fixture) {
		l := can[driver.Lister](f)
		f.fill("s-2", 1)
		f.fill("s-4", 1)
		page, err := l.Streams(f.ctx, "s", "", 1)
		require.NoError(f, err)
		require.Equal(f, "s-2", page[0].Name)
		f.fill("s-1", 1)
		f.fill("s-3", 1)
		page, err = l.Streams(f.ctx, "s", "s-2", 10)
		require.NoError(f, err)
		require.Len(f, page, 2)
		require.Equal(f, "s-3", page[0].Name)
		require.Equal(f, "s-4", page[1].Name)
		require.Equal(f, []string{"s-1", "s-2", "s-3", "s-4"}, list(f, "", 2))
	})

	g.test("categories are sorted, without those of the system", func(f *fixture) {
		l := can[driver.Lister](f)
		for _, name := range names {
			f.fill(name, 2)
		}
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Equal(f, []string{"B", "a", "ab", "b", "z", "é"}, categories)
	})

	g.test("deleted streams are listed as such, purged ones are left out", func(f *fixture) {
		l, d := can[driver.Lister](f), can[driver.Deleter](f)
		for _, name := range []string{"a-1", "a-2", "a-3", "b-1", "c-1"} {
			f.fill(name, 3)
		}
		require.Len(f, list(f, "", 10), 5)
		require.Len(f, list(f, "a", 10), 3)
		require.NoError(f, d.Delete(f.ctx, "a-2", driver.Any))
		require.NoError(f, d.Purge(f.ctx, "a-3"))
		require.NoError(f, d.Purge(f.ctx, "b-1"))
		require.NoError(f, d.Delete(f.ctx, "c-1", driver.Any))
		require.NoError(f, d.Purge(f.ctx, "never-1"))
		for _, limit := range []int{1, 2, 10} {
			require.Equal(f, []string{"a-1", "a-2", "c-1"}, list(f, "", limit))
			require.Equal(f, []string{"a-1", "a-2"}, list(f, "a", limit))
			require.Empty(f, list(f, "b", limit))
		}
		page, err := l.Streams(f.ctx, "a", "a-1", 1)
		require.NoError(f, err)
		require.Equal(f, []driver.StreamInfo{{Name: "a-2", Version: 3, First: 4, Deleted: true, Origin: 3}}, page)
		categories, err := l.Categories(f.ctx)
		require.NoError(f, err)
		require.Equal(f, []string{"a", "c"}, categories)
	})
}
