package pgstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// Whatever an inline func does with the transaction, of its append there is all or nothing, and the
// next one finds everything in order.
func TestAnInlineFuncLeavesNoTraceUnlessItsAppendIsMade(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	s := b.open(t, Options{NoListen: true})
	ctx := t.Context()
	_, err := b.pool.Exec(ctx, "CREATE TABLE notes (n int)")
	require.NoError(t, err)
	note := func(tx pgx.Tx) { _, _ = tx.Exec(ctx, "INSERT INTO notes VALUES (1)") }
	boom := errors.New("boom")
	funcs := []struct {
		name string
		fn   func(tx pgx.Tx) error
		made bool
		err  func(t *testing.T, err error)
	}{
		{"good", func(tx pgx.Tx) error { note(tx); return nil }, true, nil},
		{"nested", func(tx pgx.Tx) error {
			note(tx)
			for _, keep := range []bool{false, true} {
				point, err := tx.Begin(ctx)
				if err != nil {
					return err
				}
				if note(point); keep {
					continue // it is left to the transaction
				}
				if err := point.Rollback(ctx); err != nil {
					return err
				}
			}
			_, err := tx.Exec(ctx, "DELETE FROM notes WHERE ctid = (SELECT min(ctid) FROM notes)")
			return err
		}, true, nil},
		{"commits", func(tx pgx.Tx) error { note(tx); return tx.Commit(ctx) }, false, func(t *testing.T, err error) { require.ErrorIs(t, err, errEnds) }},
		{"fails", func(tx pgx.Tx) error { note(tx); return boom }, false, func(t *testing.T, err error) { require.ErrorIs(t, err, boom) }},
		{"fails after a statement has", func(tx pgx.Tx) error {
			note(tx)
			_, err := tx.Exec(ctx, "SELECT 1/0")
			return err
		}, false, func(t *testing.T, err error) { require.ErrorAs(t, err, new(*pgconn.PgError)) }},
		{"goes on after a statement has failed", func(tx pgx.Tx) error {
			note(tx)
			_, _ = tx.Exec(ctx, "SELECT 1/0")
			return nil
		}, false, func(t *testing.T, err error) { require.ErrorIs(t, err, errBroken) }},
		{"ends the transaction", func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "ROLLBACK")
			return err
		}, false, func(t *testing.T, err error) { require.ErrorIs(t, err, driver.ErrOutcomeUnknown) }},
		{"panics", func(tx pgx.Tx) error { note(tx); panic("boom") }, false, nil},
	}
	ways := []struct {
		name   string
		events int
		append func(fn func(any, []driver.Recorded) error) error
	}{
		{"one", 1, func(fn func(any, []driver.Recorded) error) error {
			return s.AppendWith(ctx, []driver.Append{one("a-1", driver.Any, "x")}, fn)[0].Err
		}},
		{"first of two", 1, func(fn func(any, []driver.Recorded) error) error {
			calls := 0
			rs := s.AppendWith(ctx, []driver.Append{one("a-1", driver.Any, "x"), one("b-1", 1<<40)}, func(tx any, events []driver.Recorded) error {
				calls++
				return fn(tx, events)
			})
			require.Equal(t, 1, calls)
			return rs[0].Err
		}},
		{"several streams", 2, func(fn func(any, []driver.Recorded) error) error {
			_, err := s.AppendAtomic(ctx, []driver.Append{one("a-1", driver.Any, "x"), one("b-1", driver.Any)}, fn)
			return err
		}},
		{"under a condition", 2, func(fn func(any, []driver.Recorded) error) error {
			return s.AppendIf(ctx, []driver.QueryItem{{Tags: []string{"y"}}}, 0, []driver.StreamEvent{{Stream: "a-1", Event: event("t", "1", "x")}, {Stream: "b-1", Event: event("t", "2")}}, fn).Err
		}},
	}
	events, notes := 0, 0
	for _, w := range ways {
		for _, f := range funcs {
			t.Run(fmt.Sprintf("%s, the func %s", w.name, f.name), func(t *testing.T) {
				fn := func(tx any, list []driver.Recorded) error {
					require.Len(t, list, w.events)
					return f.fn(tx.(pgx.Tx))
				}
				if f.name == "panics" {
					require.Panics(t, func() { _ = w.append(fn) })
				} else if err := w.append(fn); f.err == nil {
					require.NoError(t, err)
				} else {
					f.err(t, err)
				}
				if f.made {
					events, notes = events+w.events, notes+1
				}
				list, _, err := s.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 1000)
				require.NoError(t, err)
				require.Len(t, list, events)
				var n int
				require.NoError(t, b.pool.QueryRow(ctx, "SELECT count(*) FROM notes").Scan(&n))
				require.Equal(t, notes, n)
			})
		}
	}
}

// Of appends that are made one by one in a transaction each settles the one before it.
func TestEachOfSeveralInlineAppendsStandsForItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, 2)
	s := b.open(t, Options{NoListen: true})
	ctx := context.Background()
	refused := errors.New("refused")
	for pattern := range 1 << 5 {
		stream := func(i int) string { return fmt.Sprintf("p%d-%d", pattern, i) }
		var as []driver.Append
		for i := range 4 {
			as = append(as, one(stream(i), driver.NoStream), one(stream(i), 1+int64(pattern>>i&1)))
		}
		as = append(as, one(stream(4), driver.NoStream))
		results := s.AppendWith(ctx, as, func(_ any, events []driver.Recorded) error {
			for i := range 5 {
				if events[0].Stream == stream(i) && pattern>>i&1 == 1 {
					return refused
				}
			}
			return nil
		})
		last, err := s.ReadStream(ctx, stream(4), 0, driver.Forward, 10)
		require.NoError(t, err)
		require.Len(t, last, 1-pattern>>4)
		for i := range 4 {
			want := 2
			if pattern>>i&1 == 1 {
				want = 0
				require.ErrorIs(t, results[2*i].Err, refused)
				require.ErrorAs(t, results[2*i+1].Err, new(*driver.ConflictError))
			} else {
				require.NoError(t, results[2*i].Err)
				require.NoError(t, results[2*i+1].Err)
			}
			list, err := s.ReadStream(ctx, stream(i), 0, driver.Forward, 10)
			require.NoError(t, err)
			require.Len(t, list, want)
		}
	}
}

// A refused append to several streams takes no positions.
func TestARefusedAppendToSeveralStreamsLeavesNoGap(t *testing.T) {
	t.Parallel()
	s := newBench(t, 2).open(t, Options{NoListen: true})
	ctx := t.Context()
	for i := range 3 {
		results, err := s.AppendAtomic(ctx, []driver.Append{one("a-1", driver.Any, "x"), one("b-1", driver.Any)}, nil)
		require.NoError(t, err)
		require.Equal(t, []uint64{uint64(2*i + 1), uint64(2*i + 2)}, []uint64{results[0].Last, results[1].Last})
		for _, fn := range []func(any, []driver.Recorded) error{nil, func(any, []driver.Recorded) error { return nil }} {
			_, err = s.AppendAtomic(ctx, []driver.Append{one("a-1", driver.Any, "x"), one("b-1", driver.NoStream)}, fn)
			require.Equal(t, &driver.ConflictError{Stream: "b-1", Actual: uint64(i + 1)}, err)
		}
	}
	require.NoError(t, s.Purge(ctx, "b-1"))
	_, err := s.AppendAtomic(ctx, []driver.Append{one("a-1", driver.Any, "x"), one("b-1", driver.Any)}, nil)
	require.ErrorIs(t, err, driver.ErrStreamDeleted)
	require.Equal(t, uint64(7), s.Append(ctx, one("a-1", 3)).Last)
}
