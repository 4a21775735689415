package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/projection/projectiontest"
)

var (
	_ projection.InlineTarget[pgx.Tx] = (*ReadModel)(nil)
	_ projection.Limiter              = (*ReadModel)(nil)
)

var countModel = Model{
	Tables: []string{"counts", "many"},
	Schema: `CREATE TABLE counts(name text PRIMARY KEY, n int NOT NULL);
		CREATE VIEW many AS SELECT name FROM counts WHERE n > 1;`,
	Init: func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO counts VALUES('start', 0)")
		return err
	},
}

func count(ctx context.Context, name string) func(pgx.Tx) error {
	return func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO counts VALUES($1, 1) ON CONFLICT (name) DO UPDATE SET n = counts.n + 1", name)
		return err
	}
}

func counts(t testing.TB, m *ReadModel) map[string]int {
	t.Helper()
	all := map[string]int{}
	require.NoError(t, m.Read(t.Context(), func(tx pgx.Tx) error {
		rows, err := tx.Query(t.Context(), "SELECT name, n FROM counts")
		require.NoError(t, err)
		var name string
		var n int
		_, err = pgx.ForEachRow(rows, []any{&name, &n}, func() error {
			all[name] = n
			return nil
		})
		return err
	}))
	return all
}

func newPool(t testing.TB, url string, conns int) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.MaxConns = int32(conns)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

var discard = slog.New(slog.DiscardHandler)

func openPortable(t testing.TB, pool *pgxpool.Pool) *eventstore.Store {
	t.Helper()
	s, err := Open(t.Context(), pool, &Options{Store: eventstore.Options{Logger: discard}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// homes are the places where a read model can be.
var homes = map[string]func(t testing.TB, pool *pgxpool.Pool, m Model) (*ReadModel, error){
	"in the store's database": func(t testing.TB, pool *pgxpool.Pool, m Model) (*ReadModel, error) {
		return Target(t.Context(), openPortable(t, pool), m)
	},
	"in a schema of its own": func(t testing.TB, pool *pgxpool.Pool, m Model) (*ReadModel, error) {
		m.In = `Read "models"`
		return TargetIn(t.Context(), pool, m)
	},
	"in any database": func(t testing.TB, pool *pgxpool.Pool, m Model) (*ReadModel, error) {
		return TargetIn(t.Context(), pool, m)
	},
}

func inEveryHome(t *testing.T, f func(t *testing.T, pool *pgxpool.Pool, open func(Model) (*ReadModel, error))) {
	t.Parallel()
	for name, home := range homes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newPool(t, postgrestest.URL(t), 10)
			f(t, pool, func(m Model) (*ReadModel, error) { return home(t, pool, m) })
		})
	}
}

func TestModelAndPositionMoveTogether(t *testing.T) {
	inEveryHome(t, func(t *testing.T, pool *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		ctx := t.Context()
		m, err := open(countModel)
		require.NoError(t, err)
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
		require.NoError(t, m.Update(ctx, "p", 0, 5, count(ctx, "a")))
		require.NoError(t, m.Update(ctx, "p", 5, 9, count(ctx, "a")))

		boom := errors.New("boom")
		require.ErrorIs(t, m.Update(ctx, "p", 9, 12, func(tx pgx.Tx) error {
			require.NoError(t, count(ctx, "a")(tx))
			return boom
		}), boom)
		never := func(pgx.Tx) error { panic("not called") }
		require.ErrorIs(t, m.Update(ctx, "p", 5, 12, never), driver.ErrMoved)
		require.ErrorIs(t, m.Update(ctx, "p", 0, 12, never), driver.ErrMoved)
		require.ErrorIs(t, m.Update(ctx, "q", 5, 12, never), driver.ErrMoved)
		require.PanicsWithValue(t, "oops", func() {
			_ = m.Update(ctx, "p", 9, 12, func(tx pgx.Tx) error {
				require.NoError(t, count(ctx, "a")(tx))
				panic("oops")
			})
		})
		require.Error(t, m.Update(ctx, "p", 9, 12, func(tx pgx.Tx) error {
			_, _ = tx.Exec(ctx, "SELECT 1/0")
			return nil
		}), "a fault that fn did not tell of")
		require.Error(t, m.Update(ctx, "p", 9, 12, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "ROLLBACK")
			return err
		}))
		require.Error(t, m.Update(ctx, "p", 9, 12, func(tx pgx.Tx) error { return tx.Commit(ctx) }))
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, m.Update(canceled, "p", 9, 12, count(ctx, "a")), context.Canceled)

		at, err = m.Load(ctx, "p")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(9), at)
		require.Equal(t, map[string]int{"start": 0, "a": 2}, counts(t, m))

		m, err = open(countModel)
		require.NoError(t, err)
		at, err = m.Load(ctx, "p")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(9), at)
		require.Equal(t, map[string]int{"start": 0, "a": 2}, counts(t, m))
		pool.Close()
		require.ErrorIs(t, m.Update(ctx, "p", 9, 12, count(ctx, "a")), driver.ErrClosed)
		_, err = m.Load(ctx, "p")
		require.ErrorIs(t, err, driver.ErrClosed)
	})
}

func TestResetMakesTheModelAnew(t *testing.T) {
	inEveryHome(t, func(t *testing.T, pool *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		ctx := t.Context()
		m, err := open(countModel)
		require.NoError(t, err)
		other, err := open(Model{Tables: []string{"other"}, Schema: "CREATE TABLE other(x int)"})
		require.NoError(t, err)
		require.NoError(t, other.Update(ctx, "other", 0, 3, func(pgx.Tx) error { return nil }))
		for _, name := range []string{"p", "p/1", "p_", "twin"} {
			require.NoError(t, m.Update(ctx, name, 0, 5, count(ctx, "a")))
		}
		require.NoError(t, m.Reset(ctx, "p"))
		for _, name := range []string{"p", "p/1", "twin"} {
			at, err := m.Load(ctx, name)
			require.NoError(t, err)
			require.Zero(t, at, name)
		}
		at, err := other.Load(ctx, "other")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(3), at)
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
		require.NoError(t, m.Update(ctx, "p", 0, 5, count(ctx, "b")))
		require.Equal(t, map[string]int{"start": 0, "b": 1}, counts(t, m))

		// A changed schema comes into force with a reset.
		changed := countModel
		changed.Schema = `CREATE TABLE counts(n bigint NOT NULL, name text PRIMARY KEY, note text); CREATE VIEW many AS SELECT note FROM counts;`
		changed.Init = nil
		c, err := open(changed)
		require.NoError(t, err)
		require.Equal(t, map[string]int{"start": 0, "b": 1}, counts(t, c))
		all := func(tx pgx.Tx) error {
			rows, err := tx.Query(ctx, "SELECT * FROM counts")
			if err == nil {
				rows.Close()
				err = rows.Err()
			}
			return err
		}
		require.NoError(t, m.Update(ctx, "p", 5, 6, all))
		require.NoError(t, c.Reset(ctx, "p"))
		for i := range eventstore.Position(10) { // on every connection, which knows the statement of before
			require.NoError(t, m.Update(ctx, "p", i, i+1, all))
		}
		require.NoError(t, c.Read(ctx, func(tx pgx.Tx) error { _, err := tx.Exec(ctx, "SELECT note FROM many"); return err }))

		// What depends on a model, and is not part of it, is not dropped with it.
		_, err = pool.Exec(ctx, "CREATE VIEW public.mine AS SELECT name FROM "+m.path+".counts")
		require.NoError(t, err)
		require.Error(t, m.Reset(ctx, "p"))
		at, err = m.Load(ctx, "p")
		require.NoError(t, err)
		require.Equal(t, eventstore.Position(10), at)
	})
}

func TestTablesThatWereDroppedByHandStartFromTheFirstEvent(t *testing.T) {
	inEveryHome(t, func(t *testing.T, pool *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		ctx := t.Context()
		m, err := open(countModel)
		require.NoError(t, err)
		require.NoError(t, m.Update(ctx, "p", 0, 5, count(ctx, "a")))
		_, err = pool.Exec(ctx, "DROP TABLE "+m.path+".counts CASCADE")
		require.NoError(t, err)
		m, err = open(countModel)
		require.NoError(t, err)
		at, err := m.Load(ctx, "p")
		require.NoError(t, err)
		require.Zero(t, at)
		require.Equal(t, map[string]int{"start": 0}, counts(t, m))
	})
}

func TestReadersOfAModelSeeWholeBatches(t *testing.T) {
	inEveryHome(t, func(t *testing.T, _ *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		ctx := t.Context()
		m, err := open(countModel)
		require.NoError(t, err)
		require.NoError(t, m.Update(ctx, "p", 0, 1, func(tx pgx.Tx) error {
			require.NoError(t, count(ctx, "a")(tx))
			require.Equal(t, map[string]int{"start": 0}, counts(t, m), "what is not committed cannot be seen")
			return nil
		}))
		require.NoError(t, m.Read(ctx, func(tx pgx.Tx) error {
			n := func() (n int) {
				require.NoError(t, tx.QueryRow(ctx, "SELECT n FROM counts WHERE name = 'a'").Scan(&n))
				return n
			}
			require.Equal(t, 1, n())
			require.NoError(t, m.Update(ctx, "p", 1, 2, count(ctx, "a")))
			require.Equal(t, 1, n(), "a reader stays at its position")
			inner, err := tx.Begin(ctx)
			require.NoError(t, err)
			require.Error(t, count(ctx, "a")(inner), "a reader cannot write")
			return inner.Rollback(ctx)
		}))
		require.Equal(t, 2, counts(t, m)["a"])
	})
}

func TestAModelSaysWhatIsWrongWithIt(t *testing.T) {
	inEveryHome(t, func(t *testing.T, _ *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		good, err := open(countModel)
		require.NoError(t, err)
		for name, m := range map[string]Model{
			"no tables":                 {Schema: "CREATE TABLE x(a int)"},
			"an empty name":             {Tables: []string{""}},
			"a name that is too long":   {Tables: []string{strings.Repeat("x", 64)}},
			"a table given twice":       {Tables: []string{"x", "x"}, Schema: "CREATE TABLE x(a int)"},
			"the one of positions":      {Tables: []string{"projection_positions"}},
			"a schema that fails":       {Tables: []string{"x"}, Schema: "CREATE TABLE"},
			"a schema that lacks one":   {Tables: []string{"x", "y"}, Schema: "CREATE TABLE x(a int)"},
			"one table there, one not":  {Tables: []string{"counts", "y"}, Schema: "CREATE TABLE y(a int)"},
			"an Init that fails":        {Tables: []string{"x"}, Schema: "CREATE TABLE x(a int)", Init: func(context.Context, pgx.Tx) error { return errors.New("no") }},
			"a schema that ends itself": {Tables: []string{"z"}, Schema: "CREATE TABLE z(a int); COMMIT;"},
			"another case":              {Tables: []string{"Upper"}, Schema: "CREATE TABLE Upper(a int)"},
		} {
			_, err := open(m)
			require.Error(t, err, name)
			require.ErrorContains(t, err, "pgstore", name)
		}
		require.NoError(t, good.Update(t.Context(), "p", 0, 1, count(t.Context(), "a")))
	})
}

func TestAModelIsBesideTheStoreUnlessItSaysWhere(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["search_path"] = "nowhere"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s := openPortable(t, pool)
	m := countModel
	_, err = TargetIn(t.Context(), pool, m)
	require.ErrorContains(t, err, "Model.In")
	r, err := Target(t.Context(), s, m)
	require.NoError(t, err)
	require.NoError(t, r.Update(t.Context(), "p", 0, 1, count(t.Context(), "a")))
	var n int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT n FROM levada_read.counts WHERE name = 'a'").Scan(&n))
	require.Equal(t, 1, n)
	for _, in := range []string{DefaultSchema, strings.Repeat("x", 64)} {
		m.In = in
		_, err = Target(t.Context(), s, m)
		require.ErrorContains(t, err, "Model.In")
	}
}

func TestTargetNeedsAPostgreSQLStore(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	defer s.Close()
	_, err := Target(t.Context(), s, countModel)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

func TestManyProcessesMakeAModelOnce(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	made := atomic.Int32{}
	m := countModel
	m.In = "models"
	m.Init = func(context.Context, pgx.Tx) error {
		made.Add(1)
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		pool := newPool(t, url, 2)
		wg.Go(func() { _, errs[i] = TargetIn(t.Context(), pool, m) })
	}
	wg.Wait()
	require.Equal(t, make([]error, 8), errs)
	require.Equal(t, int32(1), made.Load())
}

func TestOnlyOneOfSeveralProcessesMovesAModel(t *testing.T) {
	inEveryHome(t, func(t *testing.T, _ *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		a, err := open(countModel)
		require.NoError(t, err)
		b, err := open(countModel)
		require.NoError(t, err)
		won := 0
		var called atomic.Int32
		for at := range eventstore.Position(20) {
			errs := make(chan error, 4)
			for i := range 4 {
				m := []*ReadModel{a, b}[i%2]
				go func() {
					errs <- m.Update(t.Context(), "p", at, at+1, func(tx pgx.Tx) error {
						called.Add(1)
						return count(t.Context(), "a")(tx)
					})
				}()
			}
			for range 4 {
				if err := <-errs; err == nil {
					won++
				} else {
					require.ErrorIs(t, err, driver.ErrMoved)
				}
			}
		}
		require.Equal(t, 20, won)
		require.Equal(t, int32(20), called.Load(), "the others' handlers were not called")
		require.Equal(t, 20, counts(t, a)["a"])
	})
}

// Two updates lock two rows in different order, until one is chosen to give way.
func TestADeadlockIsDoneAgain(t *testing.T) {
	inEveryHome(t, func(t *testing.T, pool *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		_, err := pool.Exec(t.Context(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = ''20ms''', current_database()); END $$")
		require.NoError(t, err)
		pool.Reset()
		m, err := open(countModel)
		require.NoError(t, err)
		var met sync.WaitGroup
		met.Add(2)
		var calls [2]int
		var wg sync.WaitGroup
		for i, names := range [][]string{{"a", "b"}, {"b", "a"}} {
			wg.Go(func() {
				err := m.Update(t.Context(), fmt.Sprint("p", i), 0, 1, func(tx pgx.Tx) error {
					calls[i]++
					if err := count(t.Context(), names[0])(tx); err != nil {
						return err
					}
					if calls[i] == 1 {
						met.Done()
						met.Wait()
					}
					return count(t.Context(), names[1])(tx)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, map[string]int{"start": 0, "a": 2, "b": 2}, counts(t, m))
		require.GreaterOrEqual(t, calls[0]+calls[1], 3)
	})
}

func TestWhatCannotBeSerializedIsDoneAgain(t *testing.T) {
	inEveryHome(t, func(t *testing.T, pool *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		model := countModel
		model.Isolation = pgx.Serializable
		m, err := open(model)
		require.NoError(t, err)
		calls := 0
		require.NoError(t, m.Update(t.Context(), "p", 0, 1, func(tx pgx.Tx) error {
			calls++
			var n int
			if err := tx.QueryRow(t.Context(), "SELECT n FROM counts WHERE name = 'start'").Scan(&n); err != nil {
				return err
			}
			if calls == 1 {
				_, err := pool.Exec(t.Context(), "UPDATE "+m.path+".counts SET n = n + 10 WHERE name = 'start'")
				require.NoError(t, err)
			}
			_, err := tx.Exec(t.Context(), "UPDATE counts SET n = $1 WHERE name = 'start'", n+1)
			return err
		}))
		require.Equal(t, 2, calls)
		require.Equal(t, 11, counts(t, m)["start"])
		require.ErrorIs(t, m.Update(t.Context(), "p", 0, 1, func(pgx.Tx) error { return nil }), driver.ErrMoved)
		persistent := &pgconn.PgError{Code: "40001"}
		calls = 0
		require.ErrorIs(t, m.Update(t.Context(), "p", 1, 2, func(pgx.Tx) error { calls++; return persistent }), persistent)
		require.Equal(t, attempts, calls)
	})
}

// An append that has the position may be waiting for the connection of who waits for it.
func TestAnUpdateDoesNotWaitForeverForAnInlineAppend(t *testing.T) {
	t.Parallel()
	pool := newPool(t, postgrestest.URL(t), 4)
	m, err := Target(t.Context(), openPortable(t, pool), countModel)
	require.NoError(t, err)
	m.lockTimeout = 20 * time.Millisecond
	require.NoError(t, m.Update(t.Context(), "p", 0, 1, func(tx pgx.Tx) error {
		var limit string
		require.NoError(t, tx.QueryRow(t.Context(), "SHOW lock_timeout").Scan(&limit))
		require.Equal(t, "0", limit, "handlers wait as they like")
		return nil
	}))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), m.sql.lock, "p")
	require.NoError(t, err)
	err = m.Update(t.Context(), "p", 1, 2, func(pgx.Tx) error { panic("not called") })
	var told *pgconn.PgError
	require.True(t, errors.As(err, &told), "%v", err)
	require.Equal(t, "55P03", told.Code)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, m.Update(t.Context(), "p", 1, 2, count(t.Context(), "a")))
}

func TestTargetsTellHowMuchToDoAtOnce(t *testing.T) {
	inEveryHome(t, func(t *testing.T, _ *pgxpool.Pool, open func(Model) (*ReadModel, error)) {
		m, err := open(countModel)
		require.NoError(t, err)
		events, hold := m.BatchLimit()
		if m.store != nil {
			require.Equal(t, 512, events)
			require.Equal(t, 20*time.Millisecond, hold)
		} else {
			require.Equal(t, 4096, events)
			require.Equal(t, time.Second, hold)
		}
	})
}

// Put and Noted are the events of these tests; only what is Put is projected.
type (
	Put struct {
		Key string
		N   int
	}
	Noted struct{ Text string }
)

func register(types *eventstore.Types) error {
	return errors.Join(types.Register("put", Put{}), types.Register("noted", Noted{}))
}

// shelf is a model of what was put, in order.
type shelf struct {
	*ReadModel
	mu  sync.Mutex
	bad map[int]bool
}

var errBoom = errors.New("boom")

const rowsSchema = `CREATE TABLE rows(id bigint GENERATED ALWAYS AS IDENTITY, key text NOT NULL, n int NOT NULL, position bigint PRIMARY KEY)`

func openShelf(t testing.TB, s *eventstore.Store) *shelf {
	t.Helper()
	m, err := Target(t.Context(), s, Model{Tables: []string{"rows"}, Schema: rowsSchema})
	require.NoError(t, err)
	return &shelf{ReadModel: m, bad: map[int]bool{}}
}

func (m *shelf) spoil(n int, bad bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad[n] = bad
}

func (m *shelf) projection() *projection.Projection[pgx.Tx] {
	return &projection.Projection[pgx.Tx]{
		Name: "rows", Target: m.ReadModel,
		Handlers: []projection.Handler[pgx.Tx]{projection.On(func(ctx context.Context, tx pgx.Tx, e Put, r *eventstore.Recorded) error {
			_, err := tx.Exec(ctx, "INSERT INTO rows(key, n, position) VALUES($1, $2, $3)", e.Key, e.N, int64(r.Position))
			m.mu.Lock()
			defer m.mu.Unlock()
			if err == nil && m.bad[e.N] {
				err = errBoom
			}
			return err
		})},
	}
}

// list returns what is in the model, in the order in which it was written.
func (m *shelf) list(t testing.TB) (ns []int) {
	t.Helper()
	require.NoError(t, m.Read(t.Context(), func(tx pgx.Tx) (err error) {
		r, err := tx.Query(t.Context(), "SELECT n FROM rows ORDER BY id")
		if err == nil {
			ns, err = pgx.CollectRows(r, pgx.RowTo[int])
		}
		return err
	}))
	return ns
}

// openStore opens a store with the events of these tests.
func openStore(t testing.TB, pool *pgxpool.Pool) *eventstore.Store {
	t.Helper()
	s := openPortable(t, pool)
	require.NoError(t, register(&s.Types))
	return s
}

func put(t testing.TB, s *eventstore.Store, key string, ns ...int) eventstore.Position {
	t.Helper()
	var events []eventstore.Event
	for _, n := range ns {
		events = append(events, eventstore.Event{Data: Put{key, n}})
	}
	at, err := s.Append(context.Background(), eventstore.Stream("shelf", key), eventstore.Any, events...)
	require.NoError(t, err)
	return at.Position
}

// startGroup runs g until the test ends, or stop is called, which returns Run's error.
func startGroup(t testing.TB, g *projection.Group) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- g.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-result
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

func waitFor(t testing.TB, g *projection.Group, at eventstore.Position, names ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, g.Wait(ctx, at, names...))
}

func TestAProjectionPassesTheChecksOfProjectiontest(t *testing.T) {
	t.Parallel()
	m, err := TargetIn(t.Context(), newPool(t, postgrestest.URL(t), 4), Model{
		Tables: []string{"latest"}, Schema: "CREATE TABLE latest(key text PRIMARY KEY, n int NOT NULL)"})
	require.NoError(t, err)
	h := projectiontest.Given(t, register, projectiontest.In("shelf-a", Put{"a", 1}, Put{"b", 2}), projectiontest.In("shelf-b", Put{"a", 3}))
	p := &projection.Projection[pgx.Tx]{Name: "latest", Target: m,
		Handlers: []projection.Handler[pgx.Tx]{projection.On(func(ctx context.Context, tx pgx.Tx, e Put, _ *eventstore.Recorded) error {
			_, err := tx.Exec(ctx, "INSERT INTO latest VALUES($1, $2) ON CONFLICT (key) DO UPDATE SET n = excluded.n", e.Key, e.N)
			return err
		})}}
	state := func(ctx context.Context, tx pgx.Tx) map[string]int {
		r, err := tx.Query(ctx, "SELECT key, n FROM latest")
		require.NoError(t, err)
		all := map[string]int{}
		var key string
		var n int
		_, err = pgx.ForEachRow(r, []any{&key, &n}, func() error { all[key] = n; return nil })
		require.NoError(t, err)
		return all
	}
	require.NoError(t, m.Update(t.Context(), "latest", 0, 9, func(tx pgx.Tx) error {
		projectiontest.IdempotentThrough(h, p, tx, func() any { return state(t.Context(), tx) })
		return nil
	}))
	require.NoError(t, m.Reset(t.Context(), "latest"))

	// The same from a store of another kind.
	g := &projection.Group{Store: h.Store, Logger: discard}
	require.NoError(t, g.Add(p))
	startGroup(t, g)
	head, err := h.Store.Head(t.Context())
	require.NoError(t, err)
	waitFor(t, g, head)
	require.NoError(t, m.Read(t.Context(), func(tx pgx.Tx) error {
		require.Equal(t, map[string]int{"a": 3, "b": 2}, state(t.Context(), tx))
		return nil
	}))
	again := projection.Group{Store: h.Store, Logger: discard}
	require.NoError(t, again.Add(p))
	require.NoError(t, again.Reset(t.Context(), "latest"))
}

func TestPartitionsAreHandledAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := openStore(t, newPool(t, postgrestest.URL(t), 12))
	m := openShelf(t, s)
	p := m.projection()
	p.Partitions = 4
	var together sync.WaitGroup
	together.Add(2)
	p.Handlers = []projection.Handler[pgx.Tx]{projection.On(func(context.Context, pgx.Tx, Put, *eventstore.Recorded) error {
		together.Done()
		together.Wait() // for ever, if one waited for the other
		return nil
	})}
	g := &projection.Group{Store: s, Logger: discard}
	require.NoError(t, g.Add(p))
	startGroup(t, g)
	first := eventstore.PartitionOf("shelf-0", 4)
	second := 1
	for eventstore.PartitionOf("shelf-"+fmt.Sprint(second), 4) == first {
		second++
	}
	put(t, s, "0", 0)
	waitFor(t, g, put(t, s, fmt.Sprint(second), 1))
}

// Whatever connections are lost when, every event is in the model once, in order.
func TestEveryEventCountsOnceThoughConnectionsAreLost(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	admin := newPool(t, url, 1)
	drop := func(ctx context.Context) {
		_, err := admin.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`)
		require.NoError(t, err)
	}
	source := memstore.Open(&memstore.Options{Store: eventstore.Options{Logger: discard}})
	t.Cleanup(func() { source.Close() })
	require.NoError(t, register(&source.Types))
	var made atomic.Int32
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		run := made.Add(1)
		name := fmt.Sprint("rows", run)
		models := make([]*ReadModel, rapid.IntRange(1, 2).Draw(rt, "groups"))
		var groups []*projection.Group
		var stops []func() error
		key := fmt.Sprint("run", run)
		for i := range models {
			pool := newPool(t, url, 4)
			defer pool.Close()
			var m *ReadModel
			var err error
			for range 20 { // a connection may be lost just then
				if m, err = TargetIn(ctx, pool, Model{Tables: []string{name},
					Schema: strings.Replace(rowsSchema, "rows", name, 1)}); err == nil {
					break
				}
			}
			require.NoError(t, err)
			models[i] = m
			g := &projection.Group{Store: source, Logger: discard}
			require.NoError(t, g.Add(&projection.Projection[pgx.Tx]{
				Name: name, Target: m, Filter: eventstore.Filter{Streams: []eventstore.StreamName{eventstore.Stream("shelf", key)}},
				Handlers: []projection.Handler[pgx.Tx]{projection.On(func(ctx context.Context, tx pgx.Tx, e Put, r *eventstore.Recorded) error {
					_, err := tx.Exec(ctx, "INSERT INTO "+name+"(key, n, position) VALUES($1, $2, $3)", e.Key, e.N, int64(r.Position))
					return err
				})},
			}))
			groups = append(groups, g)
			stops = append(stops, startGroup(t, g))
		}
		var want []int
		var last eventstore.Position
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "drop") {
				drop(ctx)
				continue
			}
			var ns []int
			for range rapid.IntRange(1, 20).Draw(rt, "events") {
				ns = append(ns, len(want))
				want = append(want, len(want))
			}
			last = put(t, source, key, ns...)
		}
		for _, g := range groups {
			waitFor(t, g, last)
		}
		for _, stop := range stops {
			require.NoError(t, stop())
		}
		m := &shelf{ReadModel: models[0]}
		var got []int
		require.NoError(t, m.Read(ctx, func(tx pgx.Tx) error {
			r, err := tx.Query(ctx, "SELECT n FROM "+name+" ORDER BY id")
			if err == nil {
				got, err = pgx.CollectRows(r, pgx.RowTo[int])
			}
			return err
		}))
		if !slices.Equal(want, got) {
			rt.Fatalf("the model has %v, want %v", got, want)
		}
	})
}

func TestReplacingAProjectionWorksInPostgreSQL(t *testing.T) {
	t.Parallel()
	s := openStore(t, newPool(t, postgrestest.URL(t), 10))
	make := func(name string) *shelf {
		m, err := Target(t.Context(), s, Model{In: name, Tables: []string{"rows"}, Schema: rowsSchema})
		require.NoError(t, err)
		return &shelf{ReadModel: m, bad: map[int]bool{}}
	}
	v1, v2 := make("v1"), make("v2")
	p1, p2 := v1.projection(), v2.projection()
	p1.Name, p2.Name, p2.Replaces = "rows-1", "rows-2", "rows-1"
	first := &projection.Group{Store: s, Logger: discard}
	require.NoError(t, first.Add(p1))
	stop := startGroup(t, first)
	var want []int
	for n := range 30 {
		put(t, s, "a", n)
		want = append(want, n)
	}
	waitFor(t, first, put(t, s, "a", 30))
	want = append(want, 30)
	require.NoError(t, stop())
	both := &projection.Group{Store: s, Logger: discard}
	require.NoError(t, both.Add(p1, p2))
	startGroup(t, both)
	at := put(t, s, "a", 31)
	want = append(want, 31)
	waitFor(t, both, at, "rows-2")
	require.Equal(t, want, v2.list(t))
	require.Eventually(t, func() bool {
		name, err := both.Current(t.Context(), "rows-1")
		return err == nil && name == "rows-2"
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, want, slices.Sorted(maps.Keys(func() map[int]bool {
		all := map[int]bool{}
		for _, n := range v2.list(t) {
			all[n] = true
		}
		return all
	}())))
}

func TestWhatIsParkedIsHandledLaterInOrder(t *testing.T) {
	t.Parallel()
	s := openStore(t, newPool(t, postgrestest.URL(t), 10))
	m := openShelf(t, s)
	m.spoil(2, true)
	p := m.projection()
	p.OnError = projection.ParkAfter(1)
	g := &projection.Group{Store: s, Logger: discard}
	require.NoError(t, g.Add(p))
	startGroup(t, g)
	put(t, s, "a", 1)
	put(t, s, "a", 2)
	put(t, s, "b", 3)
	waitFor(t, g, put(t, s, "a", 4))
	require.Equal(t, []int{1, 3}, m.list(t))
	parked, err := g.Parked(t.Context(), "rows")
	require.NoError(t, err)
	require.Len(t, parked, 1)
	m.spoil(2, false)
	require.NoError(t, g.Retry(t.Context(), "rows", "shelf-a"))
	require.Eventually(t, func() bool { return slices.Equal([]int{1, 3, 2, 4}, m.list(t)) }, time.Minute, 10*time.Millisecond)
	require.NoError(t, g.Reset(t.Context(), "rows"))
	waitFor(t, g, put(t, s, "b", 5))
	require.Equal(t, []int{1, 2, 3, 4, 5}, m.list(t))
}
