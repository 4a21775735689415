package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/shred"
)

// Keys holds the keys of subjects for a [shred.Sealer], in a table of PostgreSQL.
//
// A key is destroyed for all who ask the database. What PostgreSQL itself keeps of it is beyond this
// package: its bytes stay in the table's file until vacuum lets others take their place, and in the
// write-ahead log, its archive and every backup for as long as these are kept. So keep the keys in
// a server, or at least a database, of their own, leave it out of the backups that hold the
// events, and keep few backups and archives of it.
//
// Its methods are safe for concurrent use, also by several processes.
type Keys struct {
	pool              *pgxpool.Pool
	find, add, remove string
}

var _ shred.Keys = (*Keys)(nil)

// OpenKeys opens the table subject_keys in a schema of the database, as it is: it need not be
// quoted. Schema and table are made if they are not there. An empty schema means
// DefaultKeys. The pool is the caller's.
func OpenKeys(ctx context.Context, pool *pgxpool.Pool, schema string) (*Keys, error) {
	if schema == "" {
		schema = DefaultKeys
	}
	in := pgx.Identifier{schema}.Sanitize()
	table := in + ".subject_keys"
	k := &Keys{
		pool:   pool,
		find:   "SELECT key FROM " + table + " WHERE subject = $1 AND key IS NOT NULL",
		add:    "INSERT INTO " + table + " (subject, key) VALUES ($1, $2) ON CONFLICT (subject) DO NOTHING",
		remove: "INSERT INTO " + table + " (subject, key) VALUES ($1, NULL) ON CONFLICT (subject) DO UPDATE SET key = NULL",
	}
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		// Several processes may be about to do the same. Who has been given both need not be allowed to.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1, hashtext($2))", modelLock, schema); err != nil {
			return err
		}
		var there, made bool
		err := tx.QueryRow(ctx, "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL", in, table).Scan(&there, &made)
		if err == nil && !there {
			_, err = tx.Exec(ctx, "CREATE SCHEMA "+in)
		}
		if err == nil && !made {
			_, err = tx.Exec(ctx, "CREATE TABLE "+table+` (subject text COLLATE "C" PRIMARY KEY, key bytea)`) // NULL when it was shredded
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("pgstore: keys in %s: %w", schema, keysFault(err))
	}
	return k, nil
}

// DefaultKeys is the schema of keys for which OpenKeys is told no other.
const DefaultKeys = "levada_keys"

// Make implements [shred.Keys].
func (k *Keys) Make(ctx context.Context, subject string) (key []byte, err error) {
	if key, err = k.Find(ctx, subject); err == nil || !errors.Is(err, eventstore.ErrErased) {
		return key, err
	}
	if err := k.exec(ctx, k.add, subject, shred.NewKey()); err != nil {
		return nil, err
	}
	return k.Find(ctx, subject) // another process may have come first, or shredded it
}

// Find implements [shred.Keys].
func (k *Keys) Find(ctx context.Context, subject string) (key []byte, err error) {
	err = k.pool.QueryRow(ctx, k.find, subject).Scan(&key)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, fmt.Errorf("pgstore: keys: %w", eventstore.ErrErased)
	case err != nil:
		return nil, fmt.Errorf("pgstore: keys: %w", keysFault(err))
	}
	return key, nil
}

// Shred implements [shred.Keys].
func (k *Keys) Shred(ctx context.Context, subject string) error {
	return k.exec(ctx, k.remove, subject)
}

// exec runs a statement that is durable when it returns, whatever the default of the server is.
func (k *Keys) exec(ctx context.Context, sql string, args ...any) error {
	b := &pgx.Batch{} // one transaction
	b.Queue("SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'")
	b.Queue(sql, args...)
	if err := k.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("pgstore: keys: %w", keysFault(err))
	}
	return nil
}

func keysFault(err error) error {
	if errors.Is(err, puddle.ErrClosedPool) {
		return fmt.Errorf("%w: %w", driver.ErrClosed, err)
	}
	return err
}
