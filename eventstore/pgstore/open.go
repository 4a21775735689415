package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// DefaultSchema is the schema of a store for which Options.Schema names no other.
const DefaultSchema = "levada"

// Options configures a store. A nil *Options means the defaults.
type Options struct {
	// Store configures the portable store that Open returns.
	Store eventstore.Options
	// Schema is the schema of the store's tables, any name that PostgreSQL takes, as
	// it is: it need not be quoted. Stores in different schemas of a database have
	// nothing to do with each other. The default is DefaultSchema.
	Schema string
	// CheckOnly lets Open refuse a schema that is not there with ErrNotStore, and one
	// of an earlier version with ErrOlderSchema, instead of migrating it. Use it
	// where the store's user must not create tables, and Migrate elsewhere.
	CheckOnly bool
	// Writers is how many batches of appends may be under way at once. Each takes
	// a connection. The default is 4, but not more than half of the pool's.
	Writers int
	// EventBytes is the size limit of one event. The default is 1 MiB.
	EventBytes int
	// NoListen lets the store do without LISTEN and NOTIFY, and so without a
	// connection of its own: what other processes append is then found by looking
	// for it, every 5 to 250 ms. It is the default, whatever is said here, where
	// notifications turn out not to arrive, as through PgBouncer.
	NoListen bool

	// What follows is for tests.

	committed func() error // the outcome of an append that succeeded, as if its answer were lost
}

// Errors of Open, found with errors.Is.
var (
	// ErrNotStore reports a schema that holds no store: nothing, with
	// Options.CheckOnly, or something else. It was not touched.
	ErrNotStore = errors.New("pgstore: not an event store")
	// ErrNewerSchema reports a store that was migrated by a later version of this
	// package. It was not touched.
	ErrNewerSchema = errors.New("pgstore: newer schema")
	// ErrOlderSchema reports a store that must be migrated before it can be opened
	// with Options.CheckOnly.
	ErrOlderSchema = errors.New("pgstore: older schema")
	// ErrUnsuitable reports a server or a connection on which a store cannot keep what it
	// promises. The message says what to change.
	ErrUnsuitable = errors.New("pgstore: unsuitable server")
)

// Limits of one piece, besides Options.EventBytes.
const (
	defaultEventBytes = 1 << 20
	maxAppendEvents   = 65536
	maxAppendBytes    = 64 << 20
	maxBatchEvents    = 4096
	maxBatchBytes     = 4 << 20
	maxNameBytes      = 1024 // of streams, types and tags, which are in indexes

	defaultWriters = 4
)

// Open opens the store in a database, and creates or migrates its schema first
// unless Options.CheckOnly says otherwise. Any number of processes may have a
// store open at once, and migrate it.
//
// The pool is the caller's, and is not closed with the store. It must not be
// closed before.
func Open(ctx context.Context, pool *pgxpool.Pool, opt *Options) (*eventstore.Store, error) {
	d, err := OpenDriver(ctx, pool, opt)
	if err != nil {
		return nil, err
	}
	return portable(d, opt), nil
}

// OpenURL is Open with a pool of the store's own, which is closed with it. The URL
// is what [pgxpool.ParseConfig] takes, for example
// "postgres://user:password@host/database?pool_max_conns=16".
func OpenURL(ctx context.Context, url string, opt *Options) (*eventstore.Store, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("pgstore: open: %w", err) // pgx leaves the password out
	}
	s, err := open(ctx, pool, opt)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("pgstore: open: %w", err)
	}
	s.owned = true
	return portable(s, opt), nil
}

// OpenDriver is Open without the portable store, for tests and measurements.
func OpenDriver(ctx context.Context, pool *pgxpool.Pool, opt *Options) (driver.Store, error) {
	s, err := open(ctx, pool, opt)
	if err != nil {
		return nil, fmt.Errorf("pgstore: open: %w", err)
	}
	return s, nil
}

func portable(d driver.Store, opt *Options) *eventstore.Store {
	var o eventstore.Options
	if opt != nil {
		o = opt.Store
	}
	return eventstore.New(d, &o)
}

func open(ctx context.Context, pool *pgxpool.Pool, opt *Options) (*store, error) {
	s := &store{pool: pool, done: make(chan struct{})}
	if opt != nil {
		s.opt = *opt
	}
	s.setDefaults()
	names, err := namesOf(s.opt.Schema)
	if err != nil {
		return nil, err
	}
	s.sql = statementsFor(names)
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	if s.opt.CheckOnly {
		err = checkSchema(ctx, pool, names)
	} else {
		err = migrate(ctx, pool, names)
	}
	if err != nil {
		return nil, err
	}
	s.watch.start(s)
	return s, nil
}

func (s *store) setDefaults() {
	o := &s.opt
	if o.Schema == "" {
		o.Schema = DefaultSchema
	}
	if o.EventBytes <= 0 {
		o.EventBytes = defaultEventBytes
	}
	if o.Writers <= 0 {
		o.Writers = max(1, min(defaultWriters, int(s.pool.Config().MaxConns)/2))
	}
	s.log = o.Store.Logger
	if s.log == nil {
		s.log = slog.Default()
	}
	s.limits = driver.Limits{
		EventBytes:   o.EventBytes,
		AppendEvents: maxAppendEvents,
		AppendBytes:  max(maxAppendBytes, o.EventBytes),
		BatchEvents:  maxBatchEvents,
		BatchBytes:   max(maxBatchBytes, o.EventBytes),
		NameBytes:    maxNameBytes,
		Writers:      o.Writers,
	}
}

// check refuses connections on which a store would not work.
func (s *store) check(ctx context.Context) error {
	const query = `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
		current_setting('default_transaction_isolation'), current_setting('fsync'), current_setting('full_page_writes')`
	var version int
	var encoding, isolation, fsync, pages string
	err := s.pool.QueryRow(ctx, query, pgx.QueryExecModeExec).Scan(&version, &encoding, &isolation, &fsync, &pages)
	switch {
	case err != nil:
		return err
	case version < minVersion:
		return fmt.Errorf("%w: its version is %d, want %d or later", ErrUnsuitable, version, minVersion)
	case encoding != "UTF8":
		return fmt.Errorf("%w: the encoding of the database is %s, want UTF8", ErrUnsuitable, encoding)
	case isolation != "read committed":
		return fmt.Errorf("%w: default_transaction_isolation is %q, want %q; set it for the store's user, or in the URL of its pool",
			ErrUnsuitable, isolation, "read committed")
	}
	if fsync != "on" || pages != "on" {
		s.log.WarnContext(ctx, "pgstore: the server does not protect what it acknowledges from a loss of power", "fsync", fsync, "full_page_writes", pages)
	}
	return nil
}

// minVersion is the first version whose features the schema uses.
const minVersion = 120000
