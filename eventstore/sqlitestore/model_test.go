package sqlitestore

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/projection"
)

var _ projection.Target[*sqlite.Conn] = (*ReadModel)(nil)

var countModel = Model{
	Tables: []string{"counts", "many"},
	Schema: `CREATE TABLE counts(name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT;
		CREATE VIEW many AS SELECT name FROM counts WHERE n > 1;`,
	Init: func(c *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(c, "INSERT INTO counts VALUES('start', 0)", nil)
	},
}

func count(name string) func(*sqlite.Conn) error {
	return func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "INSERT INTO counts VALUES(?, 1) ON CONFLICT(name) DO UPDATE SET n = n + 1", &sqlitex.ExecOptions{Args: []any{name}})
	}
}

func counts(t testing.TB, m *ReadModel) map[string]int {
	t.Helper()
	all := map[string]int{}
	require.NoError(t, m.Read(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "SELECT name, n FROM counts", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			all[st.ColumnText(0)] = st.ColumnInt(1)
			return nil
		}})
	}))
	return all
}

func portable(t testing.TB, path string, opt *Options) *eventstore.Store {
	t.Helper()
	store, err := Open(path, opt)
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// homes are the places where a read model can be.
var homes = map[string]func(t testing.TB, path string, m Model) (*ReadModel, func()){
	"beside the log": func(t testing.TB, path string, m Model) (*ReadModel, func()) {
		store := portable(t, path, nil)
		r, err := Target(store, m)
		require.NoError(t, err)
		return r, func() { require.NoError(t, store.Close()) }
	},
	"in the log's file": func(t testing.TB, path string, m Model) (*ReadModel, func()) {
		store := portable(t, path, nil)
		r, err := TargetIn(store, m)
		require.NoError(t, err)
		return r, func() { require.NoError(t, store.Close()) }
	},
	"in any file": func(t testing.TB, path string, m Model) (*ReadModel, func()) {
		r, err := TargetFile(path, m)
		require.NoError(t, err)
		t.Cleanup(func() { _ = r.Close() })
		return r, func() { require.NoError(t, r.Close()) }
	},
}

func inEveryHome(t *testing.T, f func(t *testing.T, open func(Model) (*ReadModel, func()))) {
	t.Parallel()
	for name, home := range homes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(testDir(t), "events.db")
			f(t, func(m Model) (*ReadModel, func()) { return home(t, path, m) })
		})
	}
}

func TestModelAndPositionMoveTogether(t *testing.T) {
	inEveryHome(t, func(t *testing.T, open func(Model) (*ReadModel, func())) {
		ctx := t.Context()
		m, closeAll := open(countModel)
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
		require.NoError(t, m.Update(ctx, "p", 0, 5, count("a")))
		require.NoError(t, m.Update(ctx, "p", 5, 9, count("a")))

		boom := errors.New("boom")
		require.ErrorIs(t, m.Update(ctx, "p", 9, 12, func(c *sqlite.Conn) error {
			require.NoError(t, count("a")(c))
			return boom
		}), boom)
		require.ErrorIs(t, m.Update(ctx, "p", 5, 12, func(*sqlite.Conn) error { panic("not called") }), driver.ErrMoved)
		require.ErrorIs(t, m.Update(ctx, "q", 5, 12, func(*sqlite.Conn) error { panic("not called") }), driver.ErrMoved)
		require.PanicsWithValue(t, "oops", func() {
			_ = m.Update(ctx, "p", 9, 12, func(c *sqlite.Conn) error {
				require.NoError(t, count("a")(c))
				panic("oops")
			})
		})
		for _, end := range []string{"COMMIT", "ROLLBACK"} {
			require.Error(t, m.Update(ctx, "p", 9, 12, func(c *sqlite.Conn) error { return sqlitex.ExecuteTransient(c, end, nil) }))
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, m.Update(canceled, "p", 9, 12, count("a")), context.Canceled)

		at, err = m.Load(ctx, "p")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(9), at)
		require.Equal(t, map[string]int{"start": 0, "a": 2}, counts(t, m))
		closeAll()
		require.ErrorIs(t, m.Update(ctx, "p", 9, 12, count("a")), driver.ErrClosed)

		m, _ = open(countModel)
		at, err = m.Load(ctx, "p")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(9), at)
		require.Equal(t, map[string]int{"start": 0, "a": 2}, counts(t, m))
	})
}

func TestResetMakesTheModelAnew(t *testing.T) {
	inEveryHome(t, func(t *testing.T, open func(Model) (*ReadModel, func())) {
		ctx := t.Context()
		m, closeAll := open(countModel)
		require.NoError(t, m.Update(ctx, "p", 0, 5, count("a")))
		require.NoError(t, m.Reset(ctx, "p"))
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
		require.NoError(t, m.Update(ctx, "p", 0, 5, count("b")))
		require.Equal(t, map[string]int{"start": 0, "b": 1}, counts(t, m))
		closeAll()

		// A changed schema comes into force with a reset.
		changed := countModel
		changed.Schema += "CREATE TABLE more(a) STRICT;"
		changed.Schema = `CREATE TABLE counts(name TEXT PRIMARY KEY, n INTEGER NOT NULL, note TEXT) STRICT; CREATE VIEW many AS SELECT note FROM counts;`
		changed.Init = nil
		m, _ = open(changed)
		require.Equal(t, map[string]int{"start": 0, "b": 1}, counts(t, m))
		require.NoError(t, m.Reset(ctx, "p"))
		require.NoError(t, m.Read(ctx, func(c *sqlite.Conn) error { return sqlitex.ExecuteTransient(c, "SELECT note FROM many", nil) }))
	})
}

func TestRemoveLeavesNothingOfTheModel(t *testing.T) {
	inEveryHome(t, func(t *testing.T, open func(Model) (*ReadModel, func())) {
		ctx := t.Context()
		m, _ := open(countModel)
		require.NoError(t, m.Update(ctx, "p", 0, 5, count("a")))
		require.NoError(t, m.Remove(ctx, "p"))
		require.NoError(t, m.Remove(ctx, "p"), "again")
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		require.ErrorContains(t, m.Read(ctx, func(c *sqlite.Conn) error { return sqlitex.ExecuteTransient(c, "SELECT * FROM counts", nil) }), "no such table")
		require.NoError(t, m.Reset(ctx, "p"))
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
	})
}

func TestTablesThatWereDroppedByHandStartFromTheFirstEvent(t *testing.T) {
	inEveryHome(t, func(t *testing.T, open func(Model) (*ReadModel, func())) {
		ctx := t.Context()
		m, closeAll := open(countModel)
		require.NoError(t, m.Update(ctx, "p", 0, 5, count("a")))
		require.NoError(t, m.home.write(ctx, func(c *conn) error {
			return sqlitex.ExecuteScript(c.Conn, "DROP VIEW many; DROP TABLE counts;", nil)
		}))
		closeAll()
		m, _ = open(countModel)
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
	})
}

func TestReadersOfAModelSeeWholeBatches(t *testing.T) {
	inEveryHome(t, func(t *testing.T, open func(Model) (*ReadModel, func())) {
		ctx := t.Context()
		m, _ := open(countModel)
		require.NoError(t, m.Update(ctx, "p", 0, 1, func(c *sqlite.Conn) error {
			require.NoError(t, count("a")(c))
			require.Equal(t, map[string]int{"start": 0}, counts(t, m), "what is not committed cannot be seen")
			// A statement left open does no harm.
			st, _, err := c.PrepareTransient("SELECT * FROM counts")
			require.NoError(t, err)
			require.NoError(t, st.Finalize())
			open, err := c.Prepare("SELECT * FROM counts")
			require.NoError(t, err)
			row, err := open.Step()
			require.True(t, row)
			return err
		}))
		require.NoError(t, m.Read(ctx, func(c *sqlite.Conn) error {
			require.Error(t, count("a")(c), "a reader cannot write")
			require.NoError(t, m.Update(ctx, "p", 1, 2, count("a")))
			n, err := queryInt(c, "SELECT n FROM counts WHERE name = 'a'")
			require.NoError(t, err)
			require.Equal(t, int64(1), n, "a reader stays at its position")
			return nil
		}))
		require.Equal(t, 2, counts(t, m)["a"])
	})
}

func TestAModelSaysWhatIsWrongWithIt(t *testing.T) {
	inEveryHome(t, func(t *testing.T, open func(Model) (*ReadModel, func())) {
		good, _ := open(countModel)
		for name, m := range map[string]Model{
			"no tables":                 {Schema: "CREATE TABLE x(a)"},
			"an empty name":             {Tables: []string{""}},
			"a table given twice":       {Tables: []string{"x", "X"}, Schema: "CREATE TABLE x(a)"},
			"one of SQLite's":           {Tables: []string{"sqlite_schema"}},
			"one of the package's":      {Tables: []string{"Projection_Positions"}},
			"a schema that fails":       {Tables: []string{"x"}, Schema: "CREATE TABLE"},
			"a schema that lacks one":   {Tables: []string{"x", "y"}, Schema: "CREATE TABLE x(a)"},
			"one table there, one not":  {Tables: []string{"counts", "y"}, Schema: "CREATE TABLE y(a)"},
			"an Init that fails":        {Tables: []string{"x"}, Schema: "CREATE TABLE x(a)", Init: func(*sqlite.Conn) error { return errors.New("no") }},
			"a schema that ends itself": {Tables: []string{"z"}, Schema: "CREATE TABLE z(a); COMMIT;"},
		} {
			_, err := newReadModel(good.home, m)
			require.Error(t, err, name)
			require.ErrorContains(t, err, "sqlitestore", name)
		}
		require.NoError(t, good.Update(t.Context(), "p", 0, 1, count("a")))
	})
}

func TestTargetInCannotTakeTheLogsTables(t *testing.T) {
	t.Parallel()
	store := portable(t, filepath.Join(testDir(t), "events.db"), nil)
	var db *DB
	require.True(t, store.As(&db))
	for _, name := range ask(t, db.store, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')") {
		_, err := TargetIn(store, Model{Tables: []string{name}, Schema: "SELECT 1"})
		require.Error(t, err, name)
	}
}

func TestModelsOfOneStoreShareAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	store := portable(t, path, nil)
	a, err := Target(store, countModel)
	require.NoError(t, err)
	b, err := Target(store, Model{Tables: []string{"other"}, Schema: "CREATE TABLE other(x)"})
	require.NoError(t, err)
	require.Same(t, a.home, b.home)
	require.FileExists(t, filepath.Join(filepath.Dir(path), "events-read.db"))
	require.NoError(t, a.Update(t.Context(), "a", 0, 5, count("a")))
	require.NoError(t, b.Reset(t.Context(), "b"))
	at, err := a.Load(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(5), at)
	require.NoError(t, a.Close(), "does nothing: the store closes it")
	require.NoError(t, a.Update(t.Context(), "a", 5, 6, count("a")))
}

func TestOnlyOneOfTwoProcessesMovesAModel(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "models.db")
	a, err := TargetFile(path, countModel)
	require.NoError(t, err)
	defer a.Close()
	b, err := TargetFile(path, countModel)
	require.NoError(t, err)
	defer b.Close()
	won := 0
	for at := range eventstore.Position(20) {
		errs := make(chan error, 2)
		for _, m := range []*ReadModel{a, b} {
			go func() { errs <- m.Update(t.Context(), "p", at, at+1, count("a")) }()
		}
		for range 2 {
			if err := <-errs; err == nil {
				won++
			} else {
				require.ErrorIs(t, err, driver.ErrMoved)
			}
		}
	}
	require.Equal(t, 20, won)
	require.Equal(t, 20, counts(t, a)["a"])
}

func TestTargetsTellHowMuchToDoAtOnce(t *testing.T) {
	t.Parallel()
	store := portable(t, filepath.Join(testDir(t), "events.db"), nil)
	in, err := TargetIn(store, countModel)
	require.NoError(t, err)
	events, hold := in.BatchLimit()
	require.Equal(t, 512, events)
	require.NotZero(t, hold)
	beside, err := Target(store, countModel)
	require.NoError(t, err)
	events, hold = beside.BatchLimit()
	require.Zero(t, events)
	require.Zero(t, hold)
}

func TestTargetNeedsASQLiteStore(t *testing.T) {
	t.Parallel()
	other := eventstore.New(blind{openTest(t, nil)}, nil)
	_, err := Target(other, countModel)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	_, err = TargetIn(other, countModel)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// blind is a store of which nothing can be seen.
type blind struct{ driver.Store }
