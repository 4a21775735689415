package pgstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
)

// AppendAtomic implements [driver.Atomic] with one statement, in one round trip. With fn
// there is one more for the transaction's beginning and one for its end; fn has the handle that
// AppendWith gives.
func (s *store) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	return s.appendWhole(ctx, as, fn, func(b *batch) *statement {
		st := newStatement(s.sql.appendAtomic)
		b.addTo(st)
		return st
	}, func(out *outcome) error {
		switch {
		case out.conflict == 0:
			return nil
		case out.conflict > int64(len(as)) || len(out.before) != 1 || len(out.actual) != 1:
			return errWire
		case out.before[0] == -2:
			return driver.ErrStreamDeleted
		}
		return &driver.ConflictError{Stream: as[out.conflict-1].Stream, Actual: uint64(out.actual[0])}
	})
}

// appendWhole makes all of as or none. makes returns the statement for a batch, judge why it
// wrote nothing.
func (s *store) appendWhole(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error,
	makes func(*batch) *statement, judge func(*outcome) error,
) ([]driver.Result, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.exit()
	if err := s.holds(as); err != nil {
		return nil, err
	}
	b := newBatch(len(as))
	b.inline = fn != nil
	for i := range as {
		if err := s.fits(&as[i]); err != nil {
			return nil, err
		}
		b.add(i, &as[i])
	}
	st := makes(b)
	results := make([]driver.Result, len(as))
	settle := func(out *outcome) error {
		if err := judge(out); err != nil {
			return err
		}
		b.settle(out, results, nil)
		for i := range results {
			if err := results[i].Err; err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	if fn == nil {
		var out outcome
		if err = s.write(ctx, func(c *pgconn.PgConn) error { return query(ctx, c, st, out.read) }); err == nil {
			err = settle(&out)
		}
	} else {
		err = s.inlineWhole(ctx, st, settle, as, results, fn)
	}
	if err != nil {
		return nil, err
	}
	if b.events != nil {
		s.watch.appended()
	}
	return results, nil
}

// inlineWhole runs a statement that makes appends, and fn after it, in a transaction.
func (s *store) inlineWhole(ctx context.Context, st *statement, settle func(*outcome) error, as []driver.Append, results []driver.Result, fn func(tx any, events []driver.Recorded) error) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		var out outcome
		if err := query(ctx, tx.Conn().PgConn(), st, out.read); err != nil {
			return s.fault(err)
		}
		if err := settle(&out); err != nil {
			return err
		}
		events := recorded(as, results)
		if len(events) == 0 {
			return nil
		}
		if err := fn(&appendTx{guest{tx}, events[0].Position, &inlineState{}}, events); err != nil {
			return err
		}
		return whole(tx)
	})
}

// transact runs fn in a transaction, which is committed if fn returns nil.
func (s *store) transact(ctx context.Context, fn func(tx pgx.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return s.fault(err)
	}
	defer func() { // fn may panic
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(ctx) // nothing, after a commit
	}()
	if err := fn(tx); err != nil {
		return err
	}
	err = tx.Commit(ctx)
	if err == nil && s.opt.committed != nil {
		err = s.opt.committed()
	}
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	return s.outcome(err)
}

// whole returns an error if a transaction cannot go on after an inline func.
func whole(tx pgx.Tx) error {
	if err := unended(tx); err != nil {
		return fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, err)
	}
	if tx.Conn().PgConn().TxStatus() == 'E' {
		return errBroken
	}
	return nil
}

var errBroken = errors.New("pgstore: inline: the function went on after a statement had failed")

// recorded returns the events of appends as readers will see them.
func recorded(as []driver.Append, results []driver.Result) []driver.Recorded {
	events := appends.Recorded(as, results)
	for i := range events {
		if len(events[i].Data) == 0 {
			events[i].Data = nil
		}
	}
	return events
}
