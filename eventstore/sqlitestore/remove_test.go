package sqlitestore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// holds reports whether any file of a store has the bytes.
func holds(t testing.TB, path string, secret string) (files []string) {
	t.Helper()
	names, err := filepath.Glob(path + "*")
	require.NoError(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		if bytes.Contains(b, []byte(secret)) {
			files = append(files, filepath.Base(name))
		}
	}
	return files
}

func TestPurgeLeavesNoByteOfTheStream(t *testing.T) {
	t.Parallel()
	for _, unmerged := range []int{5, 10_000} {
		t.Run(fmt.Sprintf("with %d events unmerged", unmerged), func(t *testing.T) {
			t.Parallel()
			s := openTest(t, &Options{unmerged: unmerged})
			ctx := t.Context()
			const secret = "the secret of"
			for i := range 60 {
				e := driver.Event{
					Type: "t", Data: fmt.Appendf(nil, "%s data %d %s", secret, i, strings.Repeat("x", i*i*5)),
					Metadata: map[string]string{"k": secret + " metadata"}, Tags: []string{secret + " tags"},
				}
				other := driver.Event{Type: "t", Data: fmt.Appendf(nil, "no harm %d", i), Tags: []string{"other"}}
				require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Events: []driver.Event{e}}).Err)
				require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-2", Events: []driver.Event{other}}).Err)
			}
			require.NoError(t, s.SaveSnapshot(ctx, "a-1", driver.Snapshot{Version: 60, Data: []byte(secret + " snapshot")}))
			require.NotEmpty(t, holds(t, s.path, secret))
			require.NoError(t, s.Truncate(ctx, "a-1", 10))
			require.NoError(t, s.Purge(ctx, "a-1"))
			require.Empty(t, holds(t, s.path, secret))
			_, ok, err := s.LoadSnapshot(ctx, "a-1")
			require.NoError(t, err)
			require.False(t, ok)
			require.ErrorIs(t, s.SaveSnapshot(ctx, "a-1", driver.Snapshot{Version: 61}), driver.ErrStreamDeleted)
			checkIndexesBut(t, s, "a-1")
		})
	}
}

// checkIndexesBut requires that the tables say nothing of a stream, and of the
// others what the log says.
func checkIndexesBut(t testing.TB, s *store, stream string) {
	t.Helper()
	checkIndexes(t, s)
	for table, query := range map[string]string{
		"stream_index":   "SELECT count(*) FROM stream_index i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.position = i.position)",
		"category_index": "SELECT count(*) FROM category_index i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.position = i.position)",
		"tag_index":      "SELECT count(*) FROM tag_index i WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.position = i.position)",
		"events":         "SELECT count(*) FROM events WHERE stream = '" + stream + "'",
		"all":            "SELECT (SELECT count(*) FROM events) - (SELECT count(*) FROM stream_index WHERE position <= (SELECT position FROM watermark)) - (SELECT count(*) FROM events WHERE position > (SELECT position FROM watermark))",
	} {
		require.Equal(t, []string{"0"}, ask(t, s, query), table)
	}
}

func TestATruncatedStreamIsMergedAndIndexed(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{unmerged: 7, slice: 4})
	ctx := t.Context()
	for v := range 200 {
		e := driver.Event{Type: "t", Tags: []string{"x", fmt.Sprint("y", v%5), "x"}}
		require.NoError(t, s.Append(ctx, driver.Append{Stream: fmt.Sprintf("a-%d", v%4), Events: []driver.Event{e}}).Err)
		if v%20 == 19 {
			require.NoError(t, s.Truncate(ctx, "a-1", uint64(v/8)))
			checkIndexesBut(t, s, "none")
		}
	}
}

// A failed commit of a removal leaves everything as it was.
func TestARemovalIsWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	var lost error
	s := openTest(t, &Options{committed: func() error { return lost }})
	ctx := t.Context()
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Events: make([]driver.Event, 9)}).Err)
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "b-1", Events: make([]driver.Event, 2)}).Err)
	require.NoError(t, s.mergeAll())
	lost = errors.New("lost")
	require.ErrorIs(t, s.Truncate(ctx, "a-1", 4), driver.ErrOutcomeUnknown)
	lost = nil
	// It was written; whoever has the turn next finds out.
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "b-1", Expected: 2, Events: make([]driver.Event, 1)}).Err)
	info, err := s.Stream(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "a-1", Version: 9, First: 4}, info)
	checkIndexesBut(t, s, "none")
}

func TestAReadDuringARemovalIsOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	var between func()
	s := openTest(t, &Options{viewed: func() {
		if f := between; f != nil {
			between = nil
			f()
		}
	}})
	ctx := t.Context()
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Events: make([]driver.Event, 20)}).Err)
	for _, c := range []struct {
		before, first uint64
		n             int
	}{{8, 8, 5}, {18, 18, 3}, {21, 0, 0}} {
		between = func() { require.NoError(t, s.Truncate(ctx, "a-1", c.before)) }
		events, err := s.ReadStream(ctx, "a-1", 0, driver.Forward, 5)
		require.NoError(t, err)
		require.Nil(t, between)
		require.Len(t, events, c.n, "as many as there are, up to the limit")
		if c.n > 0 {
			require.Equal(t, c.first, events[0].Version)
		}
	}
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Events: make([]driver.Event, 20)}).Err)
	between = func() { require.NoError(t, s.Truncate(ctx, "a-1", 30)) }
	var versions []uint64
	for at := uint64(0); at < 40; {
		events, scanned, err := s.ReadAll(ctx, driver.Filter{Categories: []string{"a"}}, at, driver.Forward, 2)
		require.NoError(t, err)
		for i := range events {
			versions = append(versions, events[i].Version)
		}
		require.Greater(t, scanned, at)
		at = scanned
	}
	require.Equal(t, []uint64{30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40}, versions, "what was not looked at is read by the next call")
}

// Readers, removals, merges and appends at once: what a reader gets is always
// one state of the store.
func TestReadersAreNotConfusedByRemovalsAndMerges(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{Synchronous: Normal, unmerged: 50, slice: 20})
	other := openAt(t, s.path, &Options{ReadOnly: true})
	ctx := t.Context()
	rounds := 150
	if raceEnabled {
		rounds = 40
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, r := range []*store{s, s, other} {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				name := fmt.Sprintf("a-%d", i%3)
				dir := driver.Direction(i % 2)
				events, err := r.ReadStream(ctx, name, 0, dir, 1000)
				if err != nil {
					t.Error(err)
					return
				}
				for k := 1; k < len(events); k++ {
					step := events[k].Version - events[k-1].Version
					if dir == driver.Backward {
						step = events[k-1].Version - events[k].Version
					}
					if step != 1 {
						t.Errorf("%s goes from version %d to %d", name, events[k-1].Version, events[k].Version)
					}
				}
				// A truncation leaves at least four events of a stream that was
				// appended to ten at a time.
				if n := len(events); n > 0 && n < 4 {
					t.Errorf("%s has %d events", name, n)
				}
				if events, err = r.ReadStream(ctx, name, 0, dir, 3); err != nil || len(events)%3 != 0 {
					t.Errorf("%d events of %s, as if there were no more: %v", len(events), name, err)
				}
				page, _, err := r.ReadAll(ctx, driver.Filter{Categories: []string{"a"}}, 0, dir, 1000)
				if err != nil {
					t.Error(err)
				}
				seen := map[string]int{}
				for k := range page {
					seen[page[k].Stream]++
				}
				for name, n := range seen {
					if n < 4 {
						t.Errorf("the category has %d events of %s", n, name)
					}
				}
			}
		})
	}
	for i := range rounds {
		name := fmt.Sprintf("a-%d", i%3)
		r := s.Append(ctx, driver.Append{Stream: name, Events: make([]driver.Event, 10)})
		require.NoError(t, r.Err)
		require.NoError(t, s.Truncate(ctx, name, r.Version-5))
	}
	close(done)
	wg.Wait()
	checkIndexesBut(t, s, "none")
}

// A statement that reads a whole table would be slow only once a store is large.
func TestNoStatementScansATable(t *testing.T) {
	t.Parallel()
	s := openTest(t, nil)
	whole := map[statement]string{
		stMark:          "SCAN watermark",
		stSetMark:       "SCAN watermark",
		stRemoved:       "SCAN watermark",
		stLast:          "SEARCH events",
		stLastTime:      "SCAN events", // one row of it
		stCategoryNames: "SCAN category_names",
		stAny:           "SCAN sqlite_schema",
	}
	// What a statement brings along itself.
	small := []string{"SCAN p", "SCAN t VIRTUAL TABLE INDEX 1:", "SCAN 64-ROW VALUES CLAUSE", "SCAN 32-ROW VALUES CLAUSE"}
	for i, query := range statements {
		if strings.HasPrefix(query, "PRAGMA") || !strings.Contains(query, " ") {
			continue
		}
		var plan []string
		st, _, err := s.w.PrepareTransient("EXPLAIN QUERY PLAN " + query)
		require.NoError(t, err)
		require.NoError(t, rows(st, func() bool {
			plan = append(plan, st.ColumnText(3))
			return true
		}), query)
		require.NoError(t, st.Finalize())
		for _, step := range plan {
			if w, ok := whole[statement(i)]; ok {
				require.Contains(t, step, w)
			} else if strings.HasPrefix(step, "SCAN") {
				require.Contains(t, small, step, "%s\n%s", query, strings.Join(plan, "\n"))
			}
		}
	}
}
