package pgstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
)

// inlineSlot is the lock, beside those of the types of events, that AppendWith has for itself before
// its events take their positions, so that a model that is written in the order of commits is written in that of positions.
const inlineSlot = typeSlots + 1

// AppendWith implements [driver.Inliner]. The handle is a pgx.Tx at a savepoint,
// which fn may use as it likes but must neither commit nor roll back. The events have
// taken their positions by then, so that readers of the log wait for the end of the
// transaction, and so do appends to the same streams.
func (s *store) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	ctx = context.WithoutCancel(ctx)
	if err := s.enter(ctx); err != nil {
		return all(as, err)
	}
	defer s.exit()
	results := make([]driver.Result, len(as))
	b := newBatch(len(as))
	b.inline = true
	for i := range as {
		if results[i].Err = s.fits(&as[i]); results[i].Err == nil {
			b.add(i, &as[i])
		}
	}
	if len(b.appends) == 0 {
		return results
	}
	if err := s.inline(ctx, b, as, results, fn); err != nil && !errors.Is(err, errNone) {
		appends.Fail(as, results, err)
		return results
	}
	s.watch.appended()
	return results
}

// errNone ends a transaction in which no append was made.
var errNone = errors.New("pgstore: no append was made")

// What is said between the appends of a transaction, of which each is at a savepoint.
var (
	savepoint = []*statement{newStatement("SAVEPOINT levada_append")}
	keep      = []*statement{newStatement("RELEASE SAVEPOINT levada_append")}
	withdraw  = []*statement{newStatement("ROLLBACK TO SAVEPOINT levada_append"), newStatement("RELEASE SAVEPOINT levada_append")}
)

// inline runs the appends of a batch one by one in a transaction, in one round trip each. An error
// concerns those that have none of their own.
func (s *store) inline(ctx context.Context, b *batch, as []driver.Append, results []driver.Result, fn func(tx any, events []driver.Recorded) error) error {
	return s.transact(ctx, func(tx pgx.Tx) error {
		// First all that the appends lock, in the order in which everybody does.
		b.streams.sort()
		b.tags.sort()
		first := []*statement{newStatement(s.sql.lock).ints(b.locks()).texts(b.tags.names).texts(b.streams.names)}
		state, made := &inlineState{}, false
		for _, i := range b.appends {
			if err := s.inlineOne(ctx, tx, first, state, as[i:i+1], results[i:i+1], fn); err != nil {
				return err
			}
			if first = keep; results[i].Err != nil {
				first = withdraw
			}
			made = made || results[i].Err == nil
		}
		if !made {
			return errNone
		}
		if results[b.appends[len(b.appends)-1]].Err == nil {
			return nil // the commit keeps it
		}
		return s.fault(pipeline(ctx, tx.Conn().PgConn(), first, nil))
	})
}

// inlineOne is one append of AppendWith, after statements that settle the one before it. An error ends
// them all.
func (s *store) inlineOne(ctx context.Context, tx pgx.Tx, first []*statement, state *inlineState, as []driver.Append, results []driver.Result, fn func(tx any, events []driver.Recorded) error) error {
	b := newBatch(1)
	b.add(0, &as[0])
	st := newStatement(s.sql.append)
	b.addTo(st)
	var out outcome
	sts := slices.Concat(first, savepoint, []*statement{st})
	err := pipeline(ctx, tx.Conn().PgConn(), sts, func(i int, row [][]byte) error {
		if i < len(sts)-1 {
			return nil
		}
		return out.read(row)
	})
	if err != nil {
		return s.fault(err) // nothing was committed
	}
	r := &results[0]
	if b.settle(&out, results, nil); r.Err != nil || len(as[0].Events) == 0 {
		return nil
	}
	failed := fn(&appendTx{guest{tx}, r.Positions[0], state}, recorded(as, results))
	switch err := whole(tx); {
	case failed != nil:
		*r = driver.Result{Err: failed}
	case errors.Is(err, errBroken):
		*r = driver.Result{Err: err}
	case err != nil:
		return err
	default:
		state.keep(r.Positions)
	}
	return nil
}

// An appendTx is the transaction of an append, as funcs of AppendWith get it: a pgx.Tx.
type appendTx struct {
	guest
	first uint64 // position of the append's first event
	whole *inlineState
}

// An inlineState is what is known of the appends of a transaction.
type inlineState struct {
	firsts []uint64 // of those that were made
	mine   []int64  // all positions of these
	// covered are those, by their first position, that a projection has handled.
	covered map[projected]map[uint64]bool
}

// projected is a projection of a model.
type projected struct {
	*ReadModel
	name string
}

// keep notes an append that was made.
func (s *inlineState) keep(positions []uint64) {
	s.firsts = append(s.firsts, positions[0])
	for _, p := range positions {
		s.mine = append(s.mine, int64(p))
	}
}

// cover notes that a projection has handled an append.
func (s *inlineState) cover(p projected, first uint64) {
	if s.covered == nil {
		s.covered = map[projected]map[uint64]bool{}
	}
	if s.covered[p] == nil {
		s.covered[p] = map[uint64]bool{}
	}
	s.covered[p][first] = true
}

// covers reports whether a projection has handled all appends so far.
func (s *inlineState) covers(p projected) bool {
	for _, first := range s.firsts {
		if !s.covered[p][first] {
			return false
		}
	}
	return true
}

// Shares reports whether the model is in the database of the store, so that it can be written
// in the transactions of its appends.
func (r *ReadModel) Shares(store *eventstore.Store) bool {
	var at Place
	if r.store == nil || !store.As(&at) || at.Schema != r.store.Schema {
		return false
	}
	return at.Pool == r.pool || sameDatabase(at.Pool.Config().ConnConfig, r.pool.Config().ConnConfig)
}

func sameDatabase(a, b *pgx.ConnConfig) bool {
	return a.Host == b.Host && a.Port == b.Port && a.Database == b.Database
}

// UpdateIn calls fn, with the position that the named projection has reached, inside the transaction of
// an append: tx is what [eventstore.Store.Inline] gives. The projection is moved to what fn
// returns. If fn fails, nothing that it did remains, and UpdateIn returns its error; the append can go
// on all the same. A model that does not share the store's database is errors.ErrUnsupported.
//
// Appends that take inline funcs along are made one after another, in the order of their
// positions, by all processes. Those of a process that has no inline funcs may
// be in flight with lower positions. UpdateIn waits a little for their end. If they have
// not ended then, or fn could not see what they wrote, it does not call fn and returns nil: the
// events are left to those who follow the log.
func (r *ReadModel) UpdateIn(ctx context.Context, tx any, name string, fn func(tx pgx.Tx, at eventstore.Position) (eventstore.Position, error)) error {
	t, ok := tx.(*appendTx)
	if !ok || r.store == nil || !sameDatabase(t.Conn().Config(), r.pool.Config().ConnConfig) {
		return fmt.Errorf("pgstore: read model %s: not in the database that is being written: %w", r.key, errors.ErrUnsupported)
	}
	if !t.whole.covers(projected{r, name}) {
		return nil // fn could not see the others before they are committed
	}
	until := time.Now().Add(calmAfter)
	return r.again(ctx, func() error {
		for {
			busy, err := r.updateIn(ctx, t, name, fn)
			if err != nil || !busy {
				return err
			}
			if time.Now().After(until) || !wait(ctx, calmPoll) {
				return ctx.Err()
			}
		}
	})
}

// Waiting for what is in flight below an append.
const (
	calmAfter = 100 * time.Millisecond
	calmPoll  = time.Millisecond
)

// updateIn is one attempt, in a round trip before fn and one after it. It does nothing if something is in flight below
// the append.
func (r *ReadModel) updateIn(ctx context.Context, t *appendTx, name string, fn func(tx pgx.Tx, at eventstore.Position) (eventstore.Position, error)) (busy bool, err error) {
	kept := false
	defer func() { // fn may panic
		if !kept {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			_, _ = t.Exec(ctx, "ROLLBACK TO SAVEPOINT levada_model; RELEASE SAVEPOINT levada_model")
		}
	}()
	var at int64
	var path string
	var hidden bool
	b := &pgx.Batch{}
	b.Queue("SAVEPOINT levada_model")
	b.Queue(r.sql.enlist, name, r.key)
	b.Queue(r.sql.lock, name).QueryRow(func(row pgx.Row) error { return row.Scan(&at) })
	// In this order: what was in flight when hidden looks was so before, too.
	b.Queue(r.sql.busy, int64(t.first)).QueryRow(func(row pgx.Row) error { return row.Scan(&busy, nil) })
	b.Queue(r.sql.hidden, int64(t.first), append([]int64{}, t.whole.mine...)).QueryRow(func(row pgx.Row) error { return row.Scan(&hidden) })
	b.Queue("SELECT current_setting('search_path')").QueryRow(func(row pgx.Row) error { return row.Scan(&path) })
	if r.ask {
		b.Queue(searchPath, r.path)
	}
	if err := t.SendBatch(ctx, b).Close(); err != nil || busy || hidden {
		return busy, err
	}
	to, err := fn(guest{t.Tx}, eventstore.Position(at))
	if err == nil {
		err = unended(t)
	}
	if err != nil {
		return false, err
	}
	b = &pgx.Batch{}
	if r.ask {
		b.Queue("SELECT set_config('search_path', $1, true)", path)
	}
	if int64(to) != at {
		b.Queue(r.sql.move, name, at, int64(to), r.key)
	}
	b.Queue("RELEASE SAVEPOINT levada_model")
	if err := t.SendBatch(ctx, b).Close(); err != nil {
		return false, err
	}
	kept = true
	if int64(to) != at {
		t.whole.cover(projected{r, name}, t.first)
	}
	return false, nil
}

// inlineStatements returns the statements of a model that shares a database with a store.
func inlineStatements(schema string) (busy, hidden string) {
	schema = pgx.Identifier{schema}.Sanitize()
	// Whether anything else is in flight below an append, as the schema's head asks, and, kept for the
	// other statement, the position up to which readers may go meanwhile: the append's own registration
	// holds them up.
	busy = `SELECT coalesce(bool_or(low < $1::bigint) FILTER (WHERE NOT own), false),
			set_config('levada.low', coalesce(min(low) FILTER (WHERE own), $1::bigint - 1)::text, true)
		FROM (SELECT $1::bigint + ` + schema + `.low32(objid::bigint - $1::bigint) AS low, pid = pg_backend_pid() AS own
			FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
			AND classid = to_regclass(` + literal(schema+".positions") + `) AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS l`
	// Whether others have written above that, which fn could not read.
	hidden = `SELECT EXISTS (SELECT FROM ` + schema + `.events
		WHERE position > current_setting('levada.low')::bigint AND position < $1 AND position <> ALL ($2))`
	return busy, hidden
}
