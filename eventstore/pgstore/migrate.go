package pgstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Beginner begins transactions: a *pgxpool.Pool, a *pgx.Conn, or a pgx.Tx.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Migrate creates the store in a schema, or brings it to the version that this
// package needs, in one transaction. If it is there already nothing happens. Of
// several callers at once one does it and the others wait. An empty schema means
// DefaultSchema. A schema of a later version is ErrNewerSchema, and one with tables
// that are no store's is ErrNotStore; neither is touched.
func Migrate(ctx context.Context, db Beginner, schema string) error {
	names, err := namesOf(schema)
	if err == nil {
		err = migrate(ctx, db, names)
	}
	if err != nil {
		return fmt.Errorf("pgstore: migrate: %w", err)
	}
	return nil
}

// Migrations returns the SQL that Migrate runs in a schema where there is nothing,
// for people who would rather read it, or run it themselves in one transaction.
func Migrations(schema string) (string, error) {
	names, err := namesOf(schema)
	if err != nil {
		return "", fmt.Errorf("pgstore: migrations: %w", err)
	}
	var b strings.Builder
	b.WriteString(names.expand(createMigrations))
	for i, sql := range scripts {
		b.WriteString(names.expand(sql))
		b.WriteString(names.expand(recordMigration(i + 1)))
	}
	return b.String(), nil
}

//go:embed migrations/*.sql
var migrationFiles embed.FS

// scripts has the migrations in order: the first makes version 1. A script that
// was released is never changed; what is to change goes into another.
var scripts = func() (list []string) {
	entries, err := fs.Glob(migrationFiles, "migrations/*.sql") // sorted
	if err != nil {
		panic(err)
	}
	for _, name := range entries {
		sql, err := migrationFiles.ReadFile(name)
		if err != nil {
			panic(err)
		}
		list = append(list, string(sql))
	}
	return list
}()

const createMigrations = `CREATE SCHEMA IF NOT EXISTS @schema@;
CREATE TABLE IF NOT EXISTS @schema@.migrations (
    version int PRIMARY KEY,
    applied timestamptz NOT NULL DEFAULT now()
);
`

func recordMigration(version int) string {
	return fmt.Sprintf("INSERT INTO @schema@.migrations (version) VALUES (%d);\n", version)
}

// names are those of a schema, ready to stand in SQL.
type names struct {
	schema  string // as it is
	quoted  string // as an identifier
	literal string // as a string
	expand  func(sql string) string
}

// maxIdentifier is what PostgreSQL keeps of a name, unless it was built otherwise.
const maxIdentifier = 63

func namesOf(schema string) (*names, error) {
	if schema == "" {
		schema = DefaultSchema
	}
	if len(schema) > maxIdentifier || strings.ContainsRune(schema, 0) {
		return nil, fmt.Errorf("schema %.80q: want at most %d bytes, and none of them NUL", schema, maxIdentifier)
	}
	n := &names{schema: schema, quoted: pgx.Identifier{schema}.Sanitize(), literal: literal(schema)}
	quote := "$fn$"
	for strings.Contains(n.quoted, quote) || strings.Contains(n.literal, quote) {
		quote = "$" + strings.Trim(quote, "$") + "_$"
	}
	n.expand = strings.NewReplacer(
		"@schema@", n.quoted,
		"@literal@", n.literal,
		"@positions@", literal(n.quoted+".positions"),
		"@events@", literal(n.quoted+".events"),
		"$fn$", quote,
	).Replace
	return n, nil
}

// literal returns v as a string in SQL, whatever standard_conforming_strings says.
func literal(v string) string {
	v = strings.ReplaceAll(v, "'", "''")
	if strings.Contains(v, `\`) {
		return ` E'` + strings.ReplaceAll(v, `\`, `\\`) + `'`
	}
	return "'" + v + "'"
}

// migrate brings a schema to the version that this package needs.
func migrate(ctx context.Context, db Beginner, n *names) (err error) {
	// A look first: to open a store that is up to date needs no lock, nor the right
	// to create anything, and works on a server that takes no writes.
	err = checkSchema(ctx, db, n)
	if !errors.Is(err, errNothing) && !errors.Is(err, ErrOlderSchema) {
		return err
	}
	return inTx(ctx, db, func(tx pgx.Tx) error {
		// The key is the same for all stores of all databases with this schema name.
		_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('levada migrate ' || "+n.literal+", 0))", pgx.QueryExecModeExec)
		if err != nil {
			return err
		}
		version, err := schemaVersion(ctx, tx, n)
		switch {
		case errors.Is(err, errNothing):
			err = script(ctx, tx, n.expand(createMigrations))
		case err == nil && version > len(scripts):
			err = newer(version)
		}
		for i := version; err == nil && i < len(scripts); i++ {
			if err = script(ctx, tx, n.expand(scripts[i])); err == nil {
				err = script(ctx, tx, n.expand(recordMigration(i+1)))
			}
			if err != nil {
				err = fmt.Errorf("to version %d: %w", i+1, err)
			}
		}
		return err
	})
}

// checkSchema returns nil if a schema has the version that this package needs.
func checkSchema(ctx context.Context, db Beginner, n *names) error {
	return inTx(ctx, db, func(tx pgx.Tx) error {
		version, err := schemaVersion(ctx, tx, n)
		switch {
		case err != nil:
			return err
		case version > len(scripts):
			return newer(version)
		case version < len(scripts):
			return fmt.Errorf("%w: the store has version %d, and this program needs %d: migrate it", ErrOlderSchema, version, len(scripts))
		}
		return nil
	})
}

func newer(version int) error {
	return fmt.Errorf("%w: the store was migrated to version %d, and this program knows none after %d: run a later one", ErrNewerSchema, version, len(scripts))
}

// errNothing is the ErrNotStore of a schema that is not there, or empty.
var errNothing = fmt.Errorf("%w: the schema is empty", ErrNotStore)

// schemaVersion returns the version of the store in a schema.
func schemaVersion(ctx context.Context, tx pgx.Tx, n *names) (version int, err error) {
	const look = `SELECT count(*), count(*) FILTER (WHERE c.relname = 'migrations'), count(*) FILTER (WHERE c.relname IN ('streams', 'events'))
		FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = `
	var all, migrations, tables int
	if err := tx.QueryRow(ctx, look+n.literal, pgx.QueryExecModeExec).Scan(&all, &migrations, &tables); err != nil {
		return 0, err
	}
	switch {
	case all == 0:
		return 0, errNothing
	case migrations == 0 || tables != 2:
		return 0, fmt.Errorf("%w: schema %q has tables of something else", ErrNotStore, n.schema)
	}
	err = tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+n.quoted+".migrations", pgx.QueryExecModeExec).Scan(&version)
	return version, err
}

// script runs SQL of several statements.
func script(ctx context.Context, tx pgx.Tx, sql string) error {
	_, err := tx.Conn().PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// inTx runs fn in a transaction.
func inTx(ctx context.Context, db Beginner, fn func(pgx.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // which does nothing after a commit
	if err := fn(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// sqlState returns the code of an error that the server sent, "" for any other.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
