package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/levada-go/levada/eventstore/driver"
)

// Capabilities beyond driver.Store.
var (
	_ driver.Store        = (*store)(nil)
	_ driver.Batcher      = (*store)(nil)
	_ driver.Inliner      = (*store)(nil)
	_ driver.Atomic       = (*store)(nil)
	_ driver.Conditional  = (*store)(nil)
	_ driver.Lister       = (*store)(nil)
	_ driver.Deleter      = (*store)(nil)
	_ driver.Dater        = (*store)(nil)
	_ driver.Snapshotter  = (*store)(nil)
	_ driver.Checkpointer = (*store)(nil)
	_ driver.Leaser       = (*store)(nil)
	_ driver.Viewer       = (*store)(nil)
)

// A store is the driver.
type store struct {
	pool   *pgxpool.Pool
	owned  bool // the pool is closed with the store
	opt    Options
	limits driver.Limits
	log    *slog.Logger
	sql    statements
	watch  watcher

	mu     sync.Mutex // guards what follows, but not the wait
	closed bool
	calls  sync.WaitGroup
	done   chan struct{} // closed by Close before it waits for calls
	gone   chan struct{} // closed by Close when it has
}

// Limits says that other processes may write too.
func (s *store) Limits() driver.Limits { return s.limits }

// As gives the pool, as a *pgxpool.Pool, and the [Place] of the store's tables.
func (s *store) As(target any) bool {
	switch t := target.(type) {
	case **pgxpool.Pool:
		*t = s.pool
	case *Place:
		*t = Place{Pool: s.pool, Schema: s.opt.Schema}
	default:
		return false
	}
	return true
}

// A Place says where a store is. A store of this package gives its own:
//
//	var at pgstore.Place
//	if store.As(&at) { … }
type Place struct {
	Pool   *pgxpool.Pool
	Schema string // as it is, not quoted
}

// Close waits for calls under way. It may be called more than once.
func (s *store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.gone
		return nil
	}
	s.closed = true
	s.gone = make(chan struct{})
	close(s.done)
	s.mu.Unlock()
	s.watch.stop()
	s.calls.Wait()
	if s.owned {
		s.pool.Close()
	}
	close(s.gone)
	return nil
}

// enter begins a call, which exit ends, unless it cannot be served.
func (s *store) enter(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return driver.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.calls.Add(1)
	return nil
}

func (s *store) exit() { s.calls.Done() }

// Head implements [driver.Store].
func (s *store) Head(ctx context.Context) (uint64, error) {
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.exit()
	return s.head(ctx)
}

func (s *store) head(ctx context.Context) (head uint64, err error) {
	err = s.run(ctx, s.askHead(), func(row [][]byte) error {
		head = s.watch.readHead(row)
		return nil
	})
	return head, err
}

// askHead is the statement whose result watcher.readHead reads.
func (s *store) askHead() *statement { return newStatement(s.sql.head).position(s.watch.settled()) }

// run runs a statement, as a transaction of its own, and calls row for each row of
// the result, whose bytes are good until row returns.
func (s *store) run(ctx context.Context, st *statement, row func(row [][]byte) error) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.fault(err)
	}
	defer c.Release()
	return s.fault(query(ctx, c.Conn().PgConn(), st, row))
}

// query is run on a connection.
func query(ctx context.Context, c *pgconn.PgConn, st *statement, row func(row [][]byte) error) (err error) {
	r := c.ExecParams(ctx, st.sql, st.values, st.oids, binaryFormat, binaryFormat)
	return rows(r, row)
}

func rows(r *pgconn.ResultReader, row func(row [][]byte) error) (err error) {
	for r.NextRow() {
		if err == nil && row != nil {
			err = row(r.Values())
		}
	}
	if _, closing := r.Close(); closing != nil {
		return closing
	}
	return err
}

// together runs statements in one round trip, and in one transaction in which each
// sees what was committed before it.
func (s *store) together(ctx context.Context, sts []*statement, row func(i int, row [][]byte) error) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.fault(err)
	}
	defer c.Release()
	return s.fault(pipeline(ctx, c.Conn().PgConn(), sts, row))
}

// pipeline runs statements on a connection in one round trip. Unless it is in a transaction, they
// are one.
func pipeline(ctx context.Context, c *pgconn.PgConn, sts []*statement, row func(i int, row [][]byte) error) (err error) {
	var b pgconn.Batch
	for _, st := range sts {
		b.ExecParams(st.sql, st.values, st.oids, binaryFormat, binaryFormat)
	}
	m := c.ExecBatch(ctx, &b)
	for i := 0; m.NextResult(); i++ {
		if rowErr := rows(m.ResultReader(), func(values [][]byte) error { return row(i, values) }); rowErr != nil && err == nil {
			err = rowErr
		}
	}
	if closing := m.Close(); closing != nil {
		err = closing
	}
	return err
}

// SQLSTATEs that mean something here. Those that begin with LV are the schema's own.
const (
	statePurged   = "LV001"
	stateReadOnly = "25006" // read_only_sql_transaction
)

// fault marks the errors of the server that have a meaning to the portable store.
func (s *store) fault(err error) error {
	if err == nil {
		return nil
	}
	switch sqlState(err) {
	case "":
		s.watch.forget()
	case statePurged:
		return driver.ErrStreamDeleted
	case stateReadOnly:
		return fmt.Errorf("%w: %w", driver.ErrReadOnly, err)
	}
	return err
}

// refused reports whether err says that nothing of a statement was done: it never
// left, or the server has answered with an error, which ends its transaction. If the
// connection ended, whoever says so, it may have been committed before.
func refused(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return pgconn.SafeToRetry(err)
	}
	switch {
	case e.SeverityUnlocalized != "ERROR", len(e.Code) != 5:
		return false
	case e.Code[:2] == "08", e.Code[:3] == "57P", e.Code == "40003":
		return false // poolers say these of a server that they have lost
	}
	return true
}
