package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/shred"
)

// Keys holds the keys of subjects for a [shred.Sealer], in a SQLite file of its own, which only its owner can
// read. Keep that file out of the backups that hold the events, or keep few of them: a key that is in a backup is
// not destroyed. The bytes of a shredded key are overwritten in the file; what a file system or a disk keeps of
// them is beyond this package.
//
// Its methods are safe for concurrent use, also by several processes.
type Keys struct {
	mu sync.Mutex
	c  *conn // nil once closed
}

var _ shred.Keys = (*Keys)(nil)

const keysSchema = `CREATE TABLE IF NOT EXISTS subject_keys(
	subject TEXT PRIMARY KEY,
	key BLOB -- NULL when it was shredded
) STRICT, WITHOUT ROWID;
`

// OpenKeys opens the file, which is created if there is none. Close it when done.
func OpenKeys(path string) (*Keys, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: keys: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("sqlitestore: keys: %w", err)
	}
	// Neither a write-ahead log, in which keys would stay for long, nor pages that keep what was deleted.
	c, err := openConn(path, sqlite.OpenReadWrite, "journal_mode=TRUNCATE", "synchronous=FULL", "secure_delete=ON")
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: keys in %s: %w", path, err)
	}
	if err := sqlitex.ExecuteScript(c.Conn, keysSchema, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("sqlitestore: keys in %s: %w", path, err), c.Close())
	}
	return &Keys{c: c}, nil
}

// Make implements [shred.Keys].
func (k *Keys) Make(ctx context.Context, subject string) (key []byte, err error) {
	if key, err = k.Find(ctx, subject); err == nil {
		return key, nil
	}
	if !errors.Is(err, eventstore.ErrErased) {
		return nil, err
	}
	err = k.do(ctx, "INSERT INTO subject_keys(subject, key) VALUES (?, ?) ON CONFLICT DO NOTHING", nil, subject, shred.NewKey())
	if err != nil {
		return nil, err
	}
	return k.Find(ctx, subject) // another process may have come first, or shredded it
}

// Find implements [shred.Keys].
func (k *Keys) Find(ctx context.Context, subject string) (key []byte, err error) {
	err = k.do(ctx, "SELECT key FROM subject_keys WHERE subject = ? AND key IS NOT NULL", func(s *sqlite.Stmt) error {
		key = make([]byte, s.ColumnLen(0))
		s.ColumnBytes(0, key)
		return nil
	}, subject)
	if err == nil && key == nil {
		err = fmt.Errorf("sqlitestore: keys: %w", eventstore.ErrErased)
	}
	return key, err
}

// Shred implements [shred.Keys].
func (k *Keys) Shred(ctx context.Context, subject string) error {
	return k.do(ctx, "INSERT INTO subject_keys(subject, key) VALUES (?, NULL) ON CONFLICT DO UPDATE SET key = NULL", nil, subject)
}

// Close closes the file. Closing again is a no-op.
func (k *Keys) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c == nil {
		return nil
	}
	err := k.c.Close()
	k.c = nil
	return err
}

// do runs a statement.
func (k *Keys) do(ctx context.Context, sql string, row func(*sqlite.Stmt) error, args ...any) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c == nil {
		return driver.ErrClosed
	}
	if err := sqlitex.Execute(k.c.Conn, sql, &sqlitex.ExecOptions{Args: args, ResultFunc: row}); err != nil {
		return fmt.Errorf("sqlitestore: keys: %w", err)
	}
	return nil
}
