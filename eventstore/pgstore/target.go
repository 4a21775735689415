package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// A Model says what a read model is made of.
type Model struct {
	// Tables names the tables, views and materialized views of the model as
	// PostgreSQL keeps them: in lower case, unless Schema quotes them. Reset drops
	// them. At least one must be given, and no two models may share one.
	Tables []string
	// Schema is the SQL that makes them, of any number of statements. It runs when none of
	// them is there.
	Schema string
	// Init, if it is set, runs after Schema, in the same transaction.
	Init func(ctx context.Context, tx pgx.Tx) error
	// In is the schema of PostgreSQL in which the tables are, as it is: it need not be
	// quoted. It is made if there is none, and is the first on the search path for Schema, Init and
	// all who write and read the model. The default of Target is the store's with "_read" after it,
	// that of TargetIn the one in which the user of the pool makes tables, public as a rule. It cannot be
	// the store's own.
	In string
	// Isolation is that of the transactions in which handlers run. The default is
	// READ COMMITTED. What PostgreSQL refuses to serialize is done again.
	Isolation pgx.TxIsoLevel
}

// A ReadModel is where projections keep a model together with the position they
// have reached: it is a projection.Target[pgx.Tx]. Handlers write through the
// transaction that they are given, and must not end it; queries use Read, or any
// connection to the database. Its methods are safe for concurrent use, also by several processes: of
// several that run the same projection one moves it, the others get driver.ErrMoved, before
// their handlers run. Partitions are handled at the same time, each on a connection of its own.
//
// Handlers use prepared statements as the pool is configured. Behind a pooler that loses them, as PgBouncer before
// 1.21 does in transaction mode, give its URL default_query_exec_mode=exec.
//
//	balances, err := pgstore.Target(ctx, store, pgstore.Model{
//		Tables: []string{"balances"},
//		Schema: `CREATE TABLE balances(account text PRIMARY KEY, cents bigint NOT NULL)`,
//	})
//	p := &projection.Projection[pgx.Tx]{Name: "balances", Target: balances, …}
type ReadModel struct {
	model Model
	pool  *pgxpool.Pool
	key   string // what the model's tables are called, for its positions
	path  string // the schema of the model, quoted
	ask   bool   // it is on the search path only if it is put there
	store *Place // of the store that the model shares a database with, or nil
	sql   modelStatements

	lockTimeout time.Duration
}

type modelStatements struct{ load, begin, move, forget, forgetAll, enlist, lock, busy, hidden string }

// Target keeps a read model in the database of the store, so that one query, or an
// inline projection, sees both. Handlers and appends do not wait for each other. A handler may be
// called again for events whose transaction was undone, after a deadlock for instance.
//
// A store of another kind is errors.ErrUnsupported; use [TargetIn] for it.
func Target(ctx context.Context, store *eventstore.Store, m Model) (*ReadModel, error) {
	var at Place
	if !store.As(&at) {
		return nil, fmt.Errorf("pgstore: the store is of another kind: %w", errors.ErrUnsupported)
	}
	return newReadModel(ctx, at.Pool, m, &at)
}

// TargetIn keeps a read model in any database, for a store of any kind. The pool is the
// caller's.
func TargetIn(ctx context.Context, pool *pgxpool.Pool, m Model) (*ReadModel, error) {
	return newReadModel(ctx, pool, m, nil)
}

func newReadModel(ctx context.Context, pool *pgxpool.Pool, m Model, store *Place) (*ReadModel, error) {
	m.Tables = slices.Clone(m.Tables)
	if m.Isolation == "" {
		m.Isolation = pgx.ReadCommitted
	}
	if len(m.Tables) == 0 {
		return nil, errors.New("pgstore: a Model needs Tables")
	}
	for i, t := range m.Tables {
		if t == "" || len(t) >= nameData || t == positionsTable || slices.Contains(m.Tables[:i], t) {
			return nil, fmt.Errorf("pgstore: a Model cannot have a table %q: empty, too long, given twice, or not its own", t)
		}
	}
	if m.In == "" && store != nil {
		m.In = store.Schema + "_read"
	}
	if len(m.In) >= nameData || store != nil && m.In == store.Schema {
		return nil, fmt.Errorf("pgstore: a Model cannot be in a schema %q: too long, or the store's own: set Model.In", m.In)
	}
	key := slices.Clone(m.Tables)
	slices.Sort(key)
	r := &ReadModel{model: m, pool: pool, key: strings.Join(key, " "), ask: m.In != "", store: store, lockTimeout: lockTimeout}
	if err := r.open(ctx); err != nil {
		return nil, fmt.Errorf("pgstore: read model %s: %w", strings.Join(m.Tables, ", "), unmark(err))
	}
	return r, nil
}

const (
	// nameData is the size of a name in PostgreSQL, with a zero.
	nameData = 64

	positionsTable = "projection_positions"

	// modelLock is the class of the advisory locks that guard the making of models: "lvdr".
	modelLock = 0x6c766472
)

// open makes the tables of the model, if none of them is there.
func (r *ReadModel) open(ctx context.Context) error {
	return r.again(ctx, func() error {
		return r.within(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if r.model.In == "" {
				var in *string
				if err := tx.QueryRow(ctx, "SELECT current_schema()").Scan(&in); err != nil {
					return err
				}
				if in == nil {
					return errors.New("there is no schema on the search path: set Model.In")
				}
				r.model.In = *in
			}
			r.expand()
			// Several processes may be about to do the same.
			if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", modelLock, r.model.In); err != nil {
				return err
			}
			if err := r.furnish(ctx, tx); err != nil {
				return err
			}
			missing, err := r.missing(ctx, tx)
			switch {
			case err != nil || len(missing) == 0:
				return err
			case len(missing) < len(r.model.Tables):
				return fmt.Errorf("%s: no such table, while others of the model are there", strings.Join(missing, ", "))
			}
			return r.build(ctx, tx)
		})
	})
}

// furnish makes the schema and the table of positions, if they are not there: who has been
// given both need not be allowed to.
func (r *ReadModel) furnish(ctx context.Context, tx pgx.Tx) error {
	var schema, table bool
	err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.' || $2) IS NOT NULL", r.path, positionsTable).Scan(&schema, &table)
	if err == nil && !schema {
		_, err = tx.Exec(ctx, "CREATE SCHEMA "+r.path)
	}
	if err == nil && !table {
		_, err = tx.Exec(ctx, "CREATE TABLE "+r.path+"."+positionsTable+
			` (name text COLLATE "C" PRIMARY KEY, position bigint NOT NULL, tables text NOT NULL) WITH (fillfactor = 50)`)
	}
	return err
}

// expand makes the statements.
func (r *ReadModel) expand() {
	r.path = pgx.Identifier{r.model.In}.Sanitize()
	positions := r.path + "." + positionsTable
	r.sql = modelStatements{
		load: "SELECT position FROM " + positions + " WHERE name = $1",
		// Compare-and-set of a projection that has never run: it has no row.
		begin: "INSERT INTO " + positions + " AS p (name, position, tables) VALUES ($1, $3, $4)" +
			" ON CONFLICT (name) DO UPDATE SET position = excluded.position, tables = excluded.tables WHERE p.position = $2",
		move:      "UPDATE " + positions + " SET position = $3, tables = $4 WHERE name = $1 AND position = $2",
		forget:    "DELETE FROM " + positions + " WHERE name = $1 OR starts_with(name, $1 || '/')",
		forgetAll: "DELETE FROM " + positions + " WHERE tables = $1",
		enlist:    "INSERT INTO " + positions + " (name, position, tables) VALUES ($1, 0, $2) ON CONFLICT (name) DO NOTHING",
		lock:      "SELECT position FROM " + positions + " WHERE name = $1 FOR UPDATE",
	}
	if r.store != nil {
		r.sql.busy, r.sql.hidden = inlineStatements(r.store.Schema)
	}
}

// build makes the tables. The positions of an earlier life do not count.
func (r *ReadModel) build(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, r.sql.forgetAll, r.key); err != nil {
		return err
	}
	if r.ask {
		if _, err := tx.Exec(ctx, searchPath, r.path); err != nil {
			return err
		}
	}
	if _, err := tx.Conn().PgConn().Exec(ctx, r.model.Schema).ReadAll(); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if err := unended(tx); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if r.model.Init != nil {
		if err := r.model.Init(ctx, guest{tx}); err != nil {
			return err
		}
	}
	missing, err := r.missing(ctx, tx)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("the schema does not make %s", strings.Join(missing, ", "))
	}
	return err
}

// searchPath lets names be looked for in a schema first, until the transaction ends.
const searchPath = "SELECT set_config('search_path', concat_ws(', ', $1::text, nullif(current_setting('search_path'), '')), true)"

// missing returns the tables that are not there.
func (r *ReadModel) missing(ctx context.Context, tx pgx.Tx) (names []string, err error) {
	kinds, err := r.kinds(ctx, tx)
	for _, t := range r.model.Tables {
		if kinds[t] == "" {
			names = append(names, t)
		}
	}
	return names, err
}

// kinds returns what the tables are, in the words of DROP.
func (r *ReadModel) kinds(ctx context.Context, tx pgx.Tx) (map[string]string, error) {
	rows, err := tx.Query(ctx, `SELECT c.relname::text, CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname::text = ANY ($2) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')`, r.model.In, r.model.Tables)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{}
	var name, kind string
	_, err = pgx.ForEachRow(rows, []any{&name, &kind}, func() error {
		kinds[name] = kind
		return nil
	})
	return kinds, err
}

// Load returns the position that the named projection has reached, 0 if it has
// never run.
func (r *ReadModel) Load(ctx context.Context, name string) (at eventstore.Position, err error) {
	err = r.again(ctx, func() error {
		err := r.pool.QueryRow(ctx, r.sql.load, name).Scan(&at)
		if errors.Is(err, pgx.ErrNoRows) {
			at, err = 0, nil
		}
		var told *pgconn.PgError
		if err != nil && !errors.As(err, &told) {
			err = &undone{err} // there was nothing to undo
		}
		return err
	})
	return at, err
}

// Update calls fn and moves the named projection from one position to another, in
// one transaction. If it is not at from Update does nothing and returns
// driver.ErrMoved; if fn fails it changes nothing and returns that error. The
// transaction is fn's only until it returns. What was undone because of a deadlock, because it could not be
// serialized, or because the connection was lost is done again, up to five times: fn is called again.
// An error of the commit may mean that it was done all the same: the position tells.
func (r *ReadModel) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(pgx.Tx) error) error {
	return r.again(ctx, func() error {
		return r.within(ctx, pgx.TxOptions{IsoLevel: r.model.Isolation}, func(tx pgx.Tx) error {
			if err := r.move(ctx, tx, name, from, to); err != nil {
				return err
			}
			return fn(guest{tx})
		})
	})
}

// lockTimeout is how long an Update waits for its turn where inline projections may
// be: an append that has the row may be waiting for a connection to read what is missing.
const lockTimeout = 500 * time.Millisecond

// move moves a position, in one round trip. Its row stays locked: who would do the same waits, and is told then.
func (r *ReadModel) move(ctx context.Context, tx pgx.Tx, name string, from, to eventstore.Position) error {
	b := &pgx.Batch{}
	if r.ask {
		b.Queue(searchPath, r.path)
	}
	if r.store != nil {
		b.Queue("SELECT set_config('levada.lock_timeout', current_setting('lock_timeout'), true)")
		b.Queue("SELECT set_config('lock_timeout', $1, true)", fmt.Sprintf("%dms", r.lockTimeout.Milliseconds()))
	}
	sql := r.sql.move
	if from == 0 {
		sql = r.sql.begin
	}
	var moved int64
	b.Queue(sql, name, int64(from), int64(to), r.key).Exec(func(tag pgconn.CommandTag) error {
		moved = tag.RowsAffected()
		return nil
	})
	if r.store != nil {
		b.Queue("SELECT set_config('lock_timeout', current_setting('levada.lock_timeout'), true)")
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if moved == 0 {
		return driver.ErrMoved
	}
	return nil
}

// Reset drops the tables of the model and makes them anew, and sets the position
// of the named projection to 0, and that of any other that shares the Model. It waits for those who
// use the tables, and fails where something that is not the model's depends on them.
func (r *ReadModel) Reset(ctx context.Context, name string) error {
	return r.again(ctx, func() error {
		return r.within(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if err := r.drop(ctx, tx, name); err != nil {
				return err
			}
			return r.build(ctx, tx)
		})
	})
}

// Remove drops the tables of the model, and forgets the position of the named projection and that of any other that
// shares the Model. Reset makes them anew, and so does who opens the model again.
func (r *ReadModel) Remove(ctx context.Context, name string) error {
	return r.again(ctx, func() error {
		return r.within(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, r.sql.forgetAll, r.key); err != nil {
				return err
			}
			return r.drop(ctx, tx, name)
		})
	})
}

// drop forgets the model and its positions.
func (r *ReadModel) drop(ctx context.Context, tx pgx.Tx, name string) error {
	if _, err := tx.Exec(ctx, r.sql.forget, name); err != nil {
		return err
	}
	kinds, err := r.kinds(ctx, tx)
	if err != nil {
		return err
	}
	for _, kind := range []string{"MATERIALIZED VIEW", "VIEW", "FOREIGN TABLE", "TABLE"} {
		var of []string
		for _, t := range r.model.Tables {
			if kinds[t] == kind {
				of = append(of, pgx.Identifier{r.model.In, t}.Sanitize())
			}
		}
		if len(of) == 0 {
			continue
		}
		if _, err := tx.Exec(ctx, "DROP "+kind+" "+strings.Join(of, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// Read calls fn with a transaction that can only read, in which the model is on the search path: all
// that fn reads is of the same position. The transaction is fn's only until it returns.
func (r *ReadModel) Read(ctx context.Context, fn func(pgx.Tx) error) (err error) {
	called := false
	var failed error
	err = r.again(ctx, func() error {
		err := r.within(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if r.ask {
				if _, err := tx.Exec(ctx, searchPath, r.path); err != nil {
					return err
				}
			}
			called = true
			return fn(guest{tx})
		})
		if called { // once is enough
			failed, err = err, nil
		}
		return err
	})
	if called {
		err = unmark(failed)
	}
	return err
}

// BatchLimit tells how much one Update should do: at most so many events, and no more once they have
// taken so long. It is 512 events and 20 ms for a model in the database of the store, where inline
// appends may wait for it, else 4,096 events and a second, so that what is undone is soon done again.
func (r *ReadModel) BatchLimit() (events int, hold time.Duration) {
	if r.store != nil {
		return 512, 20 * time.Millisecond
	}
	return 4096, time.Second
}

// within runs fn in a transaction.
func (r *ReadModel) within(ctx context.Context, opt pgx.TxOptions, fn func(pgx.Tx) error) (err error) {
	tx, err := r.pool.BeginTx(ctx, opt)
	if err != nil {
		return &undone{err}
	}
	defer func() { // fn may panic
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(ctx) // nothing, after a commit
	}()
	if err = fn(tx); err == nil {
		err = unended(tx)
	}
	if err != nil {
		if tx.Conn().IsClosed() {
			err = &undone{err}
		}
		return err
	}
	err = tx.Commit(ctx)
	if err != nil && pgconn.SafeToRetry(err) {
		err = &undone{err}
	}
	return err
}

// A connection that cannot roll back in this time is closed, which does it too.
const rollbackTimeout = 5 * time.Second

// A guest is a transaction that its user must not end.
type guest struct{ pgx.Tx }

var errEnds = errors.New("pgstore: the transaction is ended by who began it")

func (guest) Commit(context.Context) error   { return errEnds }
func (guest) Rollback(context.Context) error { return errEnds }

// unended returns an error if a transaction was ended by SQL.
func unended(tx pgx.Tx) error {
	if !tx.Conn().IsClosed() && tx.Conn().PgConn().TxStatus() == 'I' {
		return errors.New("pgstore: the function ended the transaction")
	}
	return nil
}

// undone marks the error of a transaction of which it is certain that nothing is left.
type undone struct{ err error }

func (e *undone) Error() string { return e.err.Error() }
func (e *undone) Unwrap() error { return e.err }

func unmark(err error) error {
	var e *undone
	if errors.As(err, &e) {
		err = e.err
	}
	if errors.Is(err, puddle.ErrClosedPool) {
		err = fmt.Errorf("%w: %w", driver.ErrClosed, err)
	}
	return err
}

// attempts is how often a transaction is tried that was undone.
const attempts = 5

// again calls fn until what it did is not undone.
func (r *ReadModel) again(ctx context.Context, fn func() error) error {
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil || attempt == attempts || ctx.Err() != nil || !fleeting(err) {
			return unmark(err)
		}
		if !wait(ctx, time.Duration(rand.Int64N(int64(time.Millisecond)<<attempt))) {
			return unmark(err)
		}
	}
}

func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fleeting reports whether what failed may succeed if it is done again.
func fleeting(err error) bool {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		switch told.Code {
		case "40001", "40P01", "55P03": // not serialized, a deadlock, a lock that took too long
			return true
		case "0A000": // a prepared statement of before a Reset; pgx forgets it
			return strings.Contains(told.Message, "cached plan must not change result type")
		}
	}
	var e *undone
	return errors.As(err, &e) && !errors.Is(err, puddle.ErrClosedPool)
}
