package sqlitestore

import (
	"context"
	"errors"
	"sync"

	"zombiezen.com/go/sqlite"
)

// A DB is the store's own file, for those who want more of it than the portable
// type gives. Ask for it with As:
//
//	var db *sqlitestore.DB
//	if store.As(&db) {
//		err := db.Read(ctx, func(c *sqlite.Conn) error { … SELECT … FROM event_log … })
//	}
type DB struct {
	store *store

	mu    sync.Mutex
	files map[string]*modelFile // read models beside the log, by path
}

// Path returns the path of the database file.
func (db *DB) Path() string { return db.store.path }

// Read calls fn with a connection that can only read, in one read transaction.
// The views event_log, stream_list, category_list, lease_list and store_info
// are made to be read; the tables may change from one version to the next.
// c must not be used after fn has returned, nor its transaction be ended. A
// transaction that is open for long keeps the write-ahead log from being emptied.
// When ctx ends, so does the statement under way.
func (db *DB) Read(ctx context.Context, fn func(c *sqlite.Conn) error) error {
	if err := db.store.gate.enter(); err != nil {
		return err
	}
	defer db.store.gate.leave()
	return db.store.pool.lend(ctx, fn)
}

// lend calls fn in a read transaction of a connection that can only read.
func (p *pool) lend(ctx context.Context, fn func(c *sqlite.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c, err := p.get(ctx)
	if err != nil {
		return err
	}
	sound := false
	defer func() {
		if sound && (c.AutocommitEnabled() || c.exec(stRollback) == nil) {
			p.put(c)
		} else { // fn panicked, say
			p.drop(c)
		}
	}()
	if err := c.exec(stBegin); err != nil {
		return err
	}
	// Without a read the transaction would begin with the first of fn's.
	if err := c.row(stAny, func(*sqlite.Stmt) {}); err != nil {
		return err
	}
	err = c.guest(ctx, fn)
	sound = true
	return err
}

// file returns the file of read models at path, which it opens the first time.
func (db *DB) file(path string) (*modelFile, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if f := db.files[path]; f != nil {
		return f, nil
	}
	if err := db.store.gate.enter(); err != nil {
		return nil, err
	}
	defer db.store.gate.leave()
	f, err := openModelFile(path)
	if err != nil {
		return nil, err
	}
	f.shared = true
	db.files[path] = f
	return f, nil
}

// close closes the files of read models.
func (db *DB) close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	var errs []error
	for _, f := range db.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}
