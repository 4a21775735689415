package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore/driver"
)

func parts(names ...string) (as []driver.Append) {
	for _, name := range names {
		as = append(as, driver.Append{Stream: name, Expected: driver.Any, Events: []driver.Event{{Type: "t", Data: []byte("1")}, {Type: "t", Data: []byte("2")}}})
	}
	return as
}

// Whatever is refused at whatever point, what is remembered is what is in the file.
func TestWhatIsRefusedLeavesNoTraceInMemory(t *testing.T) {
	t.Parallel()
	dir, runs := testDir(t), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		s, err := open(filepath.Join(dir, fmt.Sprint(runs, ".db")), &Options{Synchronous: Normal, unmerged: rapid.IntRange(3, 40).Draw(t, "unmerged"), slice: 5, heads: rapid.IntRange(1, 6).Draw(t, "heads")})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()
		ctx := context.Background()
		_, err = s.AppendAtomic(ctx, parts("table-1"), func(tx any, _ []driver.Recorded) error {
			return sqlitex.ExecuteTransient(tx.(*sqlite.Conn), "CREATE TABLE notes(n INTEGER) STRICT", nil)
		})
		require.NoError(t, err)
		versions := map[string]uint64{"table-1": 2}
		var log []string
		log = append(log, "table-1", "table-1")
		notes := int64(0)
		refused := errors.New("refused")
		name := rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("c%d-%d", rapid.IntRange(0, 5).Draw(t, "category"), rapid.IntRange(0, 3).Draw(t, "stream"))
		})
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			names := rapid.SliceOfNDistinct(name, 1, 5, rapid.ID[string]).Draw(t, "streams")
			as := parts(names...)
			var stale string
			for i := range as {
				v := versions[as[i].Stream]
				switch rapid.IntRange(0, 9).Draw(t, "expected") {
				case 0:
					as[i].Expected = int64(v) + 1
					if stale == "" {
						stale = as[i].Stream
					}
				case 1, 2, 3:
					if as[i].Expected = int64(v); v == 0 {
						as[i].Expected = driver.NoStream
					}
				}
			}
			var fails, called bool
			fn := func(tx any, events []driver.Recorded) error {
				called = true
				require.NoError(t, sqlitex.ExecuteTransient(tx.(*sqlite.Conn), "INSERT INTO notes VALUES(1)", nil))
				if fails {
					return refused
				}
				return nil
			}
			if rapid.Bool().Draw(t, "without fn") {
				fn = nil
			} else {
				fails = rapid.IntRange(0, 2).Draw(t, "fails") == 0
			}
			made := as
			switch kind := rapid.SampledFrom([]string{"atomic", "conditional", "batch"}).Draw(t, "kind"); kind {
			case "atomic":
				rs, err := s.AppendAtomic(ctx, as, fn)
				var conflict *driver.ConflictError
				switch {
				case stale != "":
					require.ErrorAs(t, err, &conflict)
					require.Equal(t, &driver.ConflictError{Stream: stale, Actual: versions[stale]}, conflict)
					require.False(t, called)
					made = nil
				case fails:
					require.ErrorIs(t, err, refused)
					made = nil
				default:
					require.NoError(t, err)
					for i := range rs {
						require.Equal(t, versions[as[i].Stream]+2, rs[i].Version)
						require.Equal(t, []uint64{uint64(len(log) + 2*i + 1), uint64(len(log) + 2*i + 2)}, rs[i].Positions)
					}
				}
			case "conditional":
				var events []driver.StreamEvent
				for k := range 2 { // streams come again
					for i := range as {
						events = append(events, driver.StreamEvent{Stream: as[i].Stream, Event: as[i].Events[k]})
					}
				}
				var items []driver.QueryItem
				met := rapid.Bool().Draw(t, "conflict")
				if met {
					items = []driver.QueryItem{{Types: []string{"t"}}}
				}
				r := s.AppendIf(ctx, items, 0, events, fn)
				made = nil
				switch {
				case met:
					require.Equal(t, &driver.ConflictError{Actual: 1}, r.Err)
				case fails:
					require.ErrorIs(t, r.Err, refused)
				default:
					require.NoError(t, r.Err)
					require.Len(t, r.Positions, len(events))
					for _, e := range events {
						log = append(log, e.Stream)
						versions[e.Stream]++
					}
					if called {
						notes++
					}
				}
			case "batch":
				made = nil
				var rs []driver.Result
				if fn == nil {
					rs = s.AppendBatch(ctx, as)
				} else {
					rs = s.AppendWith(ctx, as, fn)
				}
				for i := range rs {
					var conflict *driver.ConflictError
					switch {
					case rs[i].Err == nil:
						made = append(made, as[i])
						if fn != nil {
							notes++
						}
					case fails:
						require.True(t, errors.Is(rs[i].Err, refused) || errors.As(rs[i].Err, &conflict))
					default:
						require.ErrorAs(t, rs[i].Err, &conflict)
					}
				}
				called = false // counted
			}
			if called && len(made) > 0 {
				notes++
			}
			for i := range made {
				log = append(log, made[i].Stream, made[i].Stream)
				versions[made[i].Stream] += 2
			}
		}
		all, _, err := s.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 1000)
		require.NoError(t, err)
		at := map[string]uint64{}
		var have []string
		for i := range all {
			require.Equal(t, uint64(i+1), all[i].Position)
			at[all[i].Stream]++
			require.Equal(t, at[all[i].Stream], all[i].Version)
			have = append(have, all[i].Stream)
		}
		require.Equal(t, log, have)
		n, err := queryInt(s.w.Conn, "SELECT count(*) FROM notes")
		require.NoError(t, err)
		require.Equal(t, uint64(notes), uint64(n))
		checkIndexes(t, s)
	})
}

// A stream that was appended to in a batch is remembered until its end, however many there are.
func TestManyStreamsInABatchAreNotMixedUp(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{Synchronous: Normal, heads: 8})
	var as []driver.Append
	for round := range 3 {
		for i := range 50 {
			as = append(as, driver.Append{Stream: fmt.Sprintf("c%d-%d", i%20, i), Expected: int64(round), Events: []driver.Event{{Type: "t"}}})
		}
	}
	for _, r := range s.AppendBatch(t.Context(), as) {
		require.NoError(t, r.Err)
	}
	for i := range 50 {
		list, err := s.ReadStream(t.Context(), fmt.Sprintf("c%d-%d", i%20, i), 0, driver.Forward, 10)
		require.NoError(t, err)
		require.Len(t, list, 3)
	}
	s.trim()
	require.Less(t, len(s.heads), 8)
	checkIndexes(t, s)
}

// A func must not end the transaction; if it does so all the same, what is there is found out.
func TestAFuncThatEndsTheTransactionDoesNotMixUpTheStore(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"COMMIT", "ROLLBACK"} {
		for name, add := range map[string]func(s *store, as []driver.Append, fn func(any, []driver.Recorded) error) error{
			"one": func(s *store, as []driver.Append, fn func(any, []driver.Recorded) error) error {
				return s.AppendWith(context.Background(), as[:1], fn)[0].Err
			},
			"several": func(s *store, as []driver.Append, fn func(any, []driver.Recorded) error) error {
				_, err := s.AppendAtomic(context.Background(), as, fn)
				return err
			},
		} {
			t.Run(end+" "+name, func(t *testing.T) {
				t.Parallel()
				s := openTest(t, &Options{Synchronous: Normal})
				for range 2 {
					err := add(s, parts("a-1", "b-1"), func(tx any, _ []driver.Recorded) error {
						return sqlitex.ExecuteTransient(tx.(*sqlite.Conn), end, nil)
					})
					require.ErrorIs(t, err, driver.ErrOutcomeUnknown)
					require.NoError(t, add(s, parts("a-1", "c-1"), func(any, []driver.Recorded) error { return nil }))
				}
				checkIndexes(t, s)
				l := map[string]uint64{}
				list, _, err := s.ReadAll(t.Context(), driver.Filter{}, 0, driver.Forward, 100)
				require.NoError(t, err)
				for i := range list {
					l[list[i].Stream]++
					require.Equal(t, uint64(i+1), list[i].Position)
					require.Equal(t, l[list[i].Stream], list[i].Version)
				}
			})
		}
	}
}
