package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// A Model says what a read model is made of.
type Model struct {
	// Tables names the tables, and views, of the model. Reset drops them. At
	// least one must be given, and no two models may share one.
	Tables []string
	// Schema is the SQL that makes them. It runs when none of them is there.
	Schema string
	// Init, if it is set, runs after Schema, in the same transaction.
	Init func(*sqlite.Conn) error
}

// A ReadModel is where projections keep a model together with the position they
// have reached: it is a projection.Target[*sqlite.Conn]. Handlers write through
// the connection that they are given, inside a transaction that they must not
// end; queries use Read. Its methods are safe for concurrent use, also by several
// processes; only one of several that run the same projection moves it, the
// others get driver.ErrMoved.
//
//	balances, err := sqlitestore.Target(store, sqlitestore.Model{
//		Tables: []string{"balances"},
//		Schema: `CREATE TABLE balances(account TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT`,
//	})
//	p := &projection.Projection[*sqlite.Conn]{Name: "balances", Target: balances, …}
type ReadModel struct {
	model Model
	home  home
	key   string // what the model's tables are called, for its positions
	hold  time.Duration
	batch int
}

// A home is a file in which models live.
type home interface {
	// write runs fn in a transaction, both or neither.
	write(ctx context.Context, fn func(c *conn) error) error
	lend(ctx context.Context, fn func(c *sqlite.Conn) error) error
	close() error
	// taken returns the names of tables that are not a model's.
	taken() []string
}

// Target keeps a read model in a file of its own beside the log: that of
// events.db is in events-read.db, together with those of all other projections
// of the store. Handlers and appends do not wait for each other. The file belongs
// to the store and is closed with it.
//
// The file can be deleted while nothing is running: the projections then start
// from the first event. A loss of power may take the last batches with it, model
// and position together, and they are done again. If the log itself was opened
// with Normal, a loss of power may take events away that the model has seen;
// Reset the projection then.
//
// A store of another kind is errors.ErrUnsupported; use [TargetFile] for it.
func Target(store *eventstore.Store, m Model) (*ReadModel, error) {
	db, err := dbOf(store)
	if err != nil {
		return nil, err
	}
	path := readPath(db.Path())
	f, err := db.file(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read models in %s: %w", path, err)
	}
	return newReadModel(f, m)
}

// TargetFile keeps a read model in any SQLite file of its own, for a store of
// any kind. The file is created if there is none. Close the model when done.
func TargetFile(path string, m Model) (*ReadModel, error) {
	f, err := openModelFile(path)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read models in %s: %w", path, err)
	}
	r, err := newReadModel(f, m)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return r, nil
}

// TargetIn keeps a read model in the store's own file, so that one SQL query, or
// an inline projection, sees both. Its transactions go through the writer of the
// store: appends wait while handlers run, and each batch costs a commit as
// durable as an append. [ReadModel.BatchLimit] tells a projection to keep its
// batches short. Prefer [Target] unless the model must be in the file. A handler
// must not append to the same store, nor dispatch a command that does: it would
// wait for itself.
//
// A store opened with Options.ReadOnly can read the model, but not update it.
func TargetIn(store *eventstore.Store, m Model) (*ReadModel, error) {
	db, err := dbOf(store)
	if err != nil {
		return nil, err
	}
	r, err := newReadModel(inStore{db.store}, m)
	if err != nil {
		return nil, err
	}
	r.batch, r.hold = 512, 20*time.Millisecond
	return r, nil
}

func dbOf(store *eventstore.Store) (*DB, error) {
	var db *DB
	if !store.As(&db) {
		return nil, fmt.Errorf("sqlitestore: the store is of another kind, for which there is TargetFile: %w", errors.ErrUnsupported)
	}
	return db, nil
}

// readPath returns where the read models of the log at path are.
func readPath(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + "-read.db"
}

func newReadModel(h home, m Model) (*ReadModel, error) {
	if len(m.Tables) == 0 {
		return nil, errors.New("sqlitestore: a Model needs Tables")
	}
	for i, t := range m.Tables {
		same := func(o string) bool { return strings.EqualFold(o, t) }
		if t == "" || slices.ContainsFunc(m.Tables[:i], same) || slices.ContainsFunc(h.taken(), same) ||
			strings.HasPrefix(strings.ToLower(t), "sqlite_") {
			return nil, fmt.Errorf("sqlitestore: a Model cannot have a table %q: empty, given twice, or not its own", t)
		}
	}
	key := slices.Clone(m.Tables)
	slices.Sort(key)
	r := &ReadModel{model: m, home: h, key: strings.ToLower(strings.Join(key, " "))}
	err := h.write(context.Background(), r.prepare)
	if errors.Is(err, driver.ErrReadOnly) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: read model %s: %w", strings.Join(m.Tables, ", "), err)
	}
	return r, nil
}

const modelSchema = `CREATE TABLE IF NOT EXISTS projection_positions(
	name TEXT PRIMARY KEY, position INTEGER NOT NULL, tables TEXT NOT NULL) STRICT;
`

const positionsTable = "projection_positions"

// prepare makes the tables of the model, if none of them is there.
func (r *ReadModel) prepare(c *conn) error {
	missing, err := r.missing(c)
	switch {
	case err != nil || len(missing) == 0:
		return err
	case len(missing) < len(r.model.Tables):
		return fmt.Errorf("%s: no such table, while others of the model are there", strings.Join(missing, ", "))
	}
	return r.build(c)
}

// build makes the tables. The positions of an earlier life do not count.
func (r *ReadModel) build(c *conn) error {
	if err := sqlitex.Execute(c.Conn, "DELETE FROM projection_positions WHERE tables = ?", &sqlitex.ExecOptions{Args: []any{r.key}}); err != nil {
		return err
	}
	if err := sqlitex.ExecuteScript(c.Conn, r.model.Schema, nil); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if r.model.Init != nil {
		if err := r.model.Init(c.Conn); err != nil {
			return err
		}
	}
	missing, err := r.missing(c)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("the schema does not make %s", strings.Join(missing, ", "))
	}
	return err
}

// kind returns whether name is a table or a view, "" if it is neither.
func (c *conn) kind(name string) (kind string, err error) {
	err = sqlitex.Execute(c.Conn, "SELECT type FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view')", &sqlitex.ExecOptions{
		Args:       []any{name},
		ResultFunc: func(st *sqlite.Stmt) error { kind = st.ColumnText(0); return nil },
	})
	return kind, err
}

func (r *ReadModel) missing(c *conn) (names []string, err error) {
	for _, t := range r.model.Tables {
		kind, err := c.kind(t)
		if err != nil {
			return nil, err
		}
		if kind == "" {
			names = append(names, t)
		}
	}
	return names, nil
}

// Load returns the position that the named projection has reached, 0 if it has
// never run.
func (r *ReadModel) Load(ctx context.Context, name string) (at eventstore.Position, err error) {
	err = r.home.lend(ctx, func(c *sqlite.Conn) error {
		at, err = loadPosition(c, name)
		return err
	})
	return at, err
}

func loadPosition(c *sqlite.Conn, name string) (at eventstore.Position, err error) {
	err = sqlitex.Execute(c, "SELECT position FROM projection_positions WHERE name = ?", &sqlitex.ExecOptions{
		Args:       []any{name},
		ResultFunc: func(st *sqlite.Stmt) error { at = eventstore.Position(st.ColumnInt64(0)); return nil },
	})
	return at, err
}

// Update calls fn and moves the named projection from one position to another, in
// one transaction. If it is not at from Update does nothing and returns
// driver.ErrMoved; if fn fails it changes nothing and returns that error. The
// connection is fn's only until it returns. When ctx ends, so does the statement
// under way.
func (r *ReadModel) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(*sqlite.Conn) error) error {
	return r.home.write(ctx, func(c *conn) error {
		at, err := loadPosition(c.Conn, name)
		if err != nil {
			return err
		}
		if at != from {
			return driver.ErrMoved
		}
		if err := c.guest(ctx, fn); err != nil {
			return err
		}
		return sqlitex.Execute(c.Conn, "INSERT OR REPLACE INTO projection_positions(name, position, tables) VALUES(?, ?, ?)",
			&sqlitex.ExecOptions{Args: []any{name, int64(to), r.key}})
	})
}

// Shares reports whether the model is in the file of the store, so that it can be written
// in the transactions of its appends.
func (r *ReadModel) Shares(store *eventstore.Store) bool {
	db, err := dbOf(store)
	h, in := r.home.(inStore)
	return err == nil && in && h.s == db.store
}

// UpdateIn calls fn, with the position that the named projection has reached, inside the transaction of
// an append: tx is what [eventstore.Store.Inline] gives. The projection is moved to what fn
// returns. If fn fails, nothing that it did remains, and UpdateIn returns its error; the append can go
// on all the same. A model that does not share the store's file is errors.ErrUnsupported.
func (r *ReadModel) UpdateIn(ctx context.Context, tx any, name string, fn func(c *sqlite.Conn, at eventstore.Position) (eventstore.Position, error)) (err error) {
	h, in := r.home.(inStore)
	if c, ok := tx.(*sqlite.Conn); !in || !ok || c != h.s.w.Conn {
		return fmt.Errorf("sqlitestore: read model %s: not in the file that is being written: %w", r.key, errors.ErrUnsupported)
	}
	c := h.s.w
	at, err := loadPosition(c.Conn, name)
	if err != nil {
		return err
	}
	defer sqlitex.Save(c.Conn)(&err)
	to := at
	if err := c.guest(ctx, func(c *sqlite.Conn) (failed error) {
		to, failed = fn(c, at)
		return failed
	}); err != nil || to == at {
		return err
	}
	return sqlitex.Execute(c.Conn, "INSERT OR REPLACE INTO projection_positions(name, position, tables) VALUES(?, ?, ?)",
		&sqlitex.ExecOptions{Args: []any{name, int64(to), r.key}})
}

// guest lets fn use the connection in the transaction under way, and tidies up
// after it.
func (c *conn) guest(ctx context.Context, fn func(*sqlite.Conn) error) error {
	defer func() {
		c.SetInterrupt(nil)
		c.resetAll()
	}()
	c.SetInterrupt(ctx.Done())
	err := fn(c.Conn)
	if c.AutocommitEnabled() && err == nil {
		return errors.New("sqlitestore: the function ended the transaction")
	}
	return err
}

// resetAll resets statements that a guest left open: they would hold on to
// their snapshot of the file.
func (c *conn) resetAll() {
	for query := c.CheckReset(); query != ""; query = c.CheckReset() {
		if _, err := c.Prepare(query); err != nil { // which resets it
			return
		}
	}
}

// Reset drops the tables of the model and makes them anew, and sets the position
// of the named projection to 0, and that of any other that shares the Model.
func (r *ReadModel) Reset(ctx context.Context, name string) error {
	return r.home.write(ctx, func(c *conn) error {
		if err := r.drop(c, name); err != nil {
			return err
		}
		return r.build(c)
	})
}

// Remove drops the tables of the model, and forgets the position of the named projection and that of any other that
// shares the Model. Reset makes them anew, and so does who opens the model again.
func (r *ReadModel) Remove(ctx context.Context, name string) error {
	return r.home.write(ctx, func(c *conn) error { return r.drop(c, name) })
}

// drop forgets the model and its positions.
func (r *ReadModel) drop(c *conn, name string) error {
	for _, t := range r.model.Tables {
		kind, err := c.kind(t)
		if err != nil {
			return err
		}
		if kind == "" {
			continue
		}
		if err := sqlitex.ExecuteTransient(c.Conn, "DROP "+kind+" "+quote(t), nil); err != nil {
			return err
		}
	}
	return sqlitex.Execute(c.Conn, "DELETE FROM projection_positions WHERE name = ? OR tables = ?", &sqlitex.ExecOptions{Args: []any{name, r.key}})
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// Read calls fn with a connection that can only read, in one read transaction:
// all that fn reads is of the same position. The connection is fn's only until it
// returns. When ctx ends, so does the statement under way.
func (r *ReadModel) Read(ctx context.Context, fn func(*sqlite.Conn) error) error {
	return r.home.lend(ctx, fn)
}

// BatchLimit tells how much one Update should do so that appends do not wait
// long for it: at most so many events, and no more once they have taken so long.
// Zero is no limit. It is 512 events and 20 ms for a model made by TargetIn.
func (r *ReadModel) BatchLimit() (events int, hold time.Duration) { return r.batch, r.hold }

// Close closes the file of a model made by TargetFile. Models of a store are
// closed with the store, and Close does nothing.
func (r *ReadModel) Close() error {
	if f, ok := r.home.(*modelFile); ok && !f.shared {
		return f.close()
	}
	return nil
}

// inStore is the store's own file as a home.
type inStore struct{ s *store }

func (h inStore) write(ctx context.Context, fn func(c *conn) error) error { return h.s.write(ctx, fn) }

func (h inStore) lend(ctx context.Context, fn func(c *sqlite.Conn) error) error {
	return h.s.db.Read(ctx, fn)
}

func (h inStore) close() error { return nil }

func (h inStore) taken() []string {
	return []string{"events", "stream_names", "stream_index", "category_names", "category_index", "tag_index", "watermark",
		"stream_state", "snapshots", "checkpoints", "leases", "event_log", "stream_list", "category_list", "lease_list", "store_info", positionsTable}
}

// A modelFile is a file of read models. Other processes may have it open, too;
// SQLite's own locks order them.
type modelFile struct {
	gate   gate
	turn   chan struct{}
	w      *conn
	pool   *pool
	shared bool // with all models of a store, which closes it
}

// modelID is the application id of a file of read models: "lvdr".
const modelID = 0x6c766472

func openModelFile(path string) (_ *modelFile, err error) {
	path, _, err = resolve(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	m := &modelFile{turn: make(chan struct{}, 1)}
	if m.w, err = openConn(path, sqlite.OpenReadWrite, "cache_size = -16384"); err != nil {
		return nil, notStore(err)
	}
	m.pool = newPool(0, func() (*conn, error) {
		return openConn(path, sqlite.OpenReadOnly, "query_only = ON", "cache_size = -8192")
	})
	if err := m.claim(); err != nil {
		return nil, errors.Join(notStore(err), m.w.Close())
	}
	return m, nil
}

// claim marks an empty file as ours, and refuses one that is not.
func (m *modelFile) claim() error {
	id, err := queryInt(m.w.Conn, "PRAGMA application_id")
	if err != nil {
		return err
	}
	if id != 0 && id != modelID {
		return fmt.Errorf("%w: it holds no read models, its application id is %#x", ErrNotStore, uint32(id))
	}
	if id == 0 {
		n, err := queryInt(m.w.Conn, "SELECT count(*) FROM sqlite_schema")
		if err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("%w: it is another application's database", ErrNotStore)
		}
	}
	if err := m.w.pragmas("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 4000", walBytes); err != nil || id != 0 {
		return err
	}
	// Another process may do the same at the same time.
	return sqlitex.ExecuteScript(m.w.Conn, modelSchema+fmt.Sprintf("PRAGMA application_id = %d;", modelID), nil)
}

func (m *modelFile) write(ctx context.Context, fn func(c *conn) error) error {
	if err := m.gate.enter(); err != nil {
		return err
	}
	defer m.gate.leave()
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.turn }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.w.exec(stBeginWrite); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed && !m.w.AutocommitEnabled() {
			_ = m.w.exec(stRollback)
		}
	}()
	if err := fn(m.w); err != nil {
		return err
	}
	if err := m.w.exec(stCommit); err != nil {
		return err
	}
	committed = true
	return nil
}

func (m *modelFile) lend(ctx context.Context, fn func(c *sqlite.Conn) error) error {
	if err := m.gate.enter(); err != nil {
		return err
	}
	defer m.gate.leave()
	return m.pool.lend(ctx, fn)
}

func (m *modelFile) taken() []string { return []string{positionsTable} }

func (m *modelFile) close() error {
	if !m.gate.close() {
		return nil
	}
	m.gate.in.Wait()
	return errors.Join(m.pool.close(), m.w.Close())
}
