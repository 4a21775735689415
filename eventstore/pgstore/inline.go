package pgstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/levada-go/levada/eventstore"
)

// inlineSlot is the lock, beside those of the types of events, that AppendWith has for itself before
// its events take their positions, so that a model that is written in the order of commits is written in that of positions.
const inlineSlot = typeSlots + 1

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
// positions, by all processes. Others, by a process that has none or under a condition, may
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
	low, ok, err := r.calm(ctx, t)
	if err != nil || !ok {
		return err
	}
	return r.again(ctx, func() error { return r.updateIn(ctx, t, low, name, fn) })
}

func (r *ReadModel) updateIn(ctx context.Context, t *appendTx, low uint64, name string, fn func(tx pgx.Tx, at eventstore.Position) (eventstore.Position, error)) error {
	point, err := t.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = point.Rollback(ctx) }() // fn may panic; nothing, after a commit
	var at int64
	var path string
	b := &pgx.Batch{}
	b.Queue(r.sql.enlist, name, r.key)
	b.Queue(r.sql.lock, name).QueryRow(func(row pgx.Row) error { return row.Scan(&at) })
	b.Queue("SELECT current_setting('search_path')").QueryRow(func(row pgx.Row) error { return row.Scan(&path) })
	if r.ask {
		b.Queue(searchPath, r.path)
	}
	if err := point.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	// What others have written above the point up to which readers may go is hidden from fn.
	var hidden bool
	err = point.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+pgx.Identifier{r.store.Schema, "events"}.Sanitize()+
		" WHERE position > $1 AND position < $2 AND position <> ALL ($3))", int64(low), int64(t.first), append([]int64{}, t.whole.mine...)).Scan(&hidden)
	if err != nil || hidden {
		return err
	}
	to, err := fn(guest{point}, eventstore.Position(at))
	if err == nil {
		err = unended(point)
	}
	if err != nil {
		return err
	}
	b = &pgx.Batch{}
	if r.ask {
		b.Queue("SELECT set_config('search_path', $1, true)", path)
	}
	if int64(to) != at {
		b.Queue(r.sql.move, name, at, int64(to), r.key)
	}
	if b.Len() > 0 {
		if err := point.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
	}
	if err := point.Commit(ctx); err != nil {
		return err
	}
	if int64(to) != at {
		t.whole.cover(projected{r, name}, t.first)
	}
	return nil
}

// Waiting for what is in flight below an append.
const (
	calmAfter = 100 * time.Millisecond
	calmPoll  = time.Millisecond
)

// calm waits until nothing is in flight below an append but itself, and returns the position up to which readers may go
// meanwhile: its own registration holds them up.
func (r *ReadModel) calm(ctx context.Context, t *appendTx) (low uint64, ok bool, err error) {
	schema := pgx.Identifier{r.store.Schema}.Sanitize()
	// As in the schema's horizon.
	query := `SELECT coalesce(bool_or(low < $1::bigint) FILTER (WHERE NOT own), false), coalesce(min(low) FILTER (WHERE own), $1::bigint - 1)
		FROM (SELECT $1::bigint + ` + schema + `.low32(objid::bigint - $1::bigint) AS low, pid = pg_backend_pid() AS own
			FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND mode = 'ShareLock' AND granted
			AND classid = to_regclass($2) AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS l`
	for until := time.Now().Add(calmAfter); ; {
		var busy bool
		var own int64
		if err := t.QueryRow(ctx, query, int64(t.first), schema+".positions").Scan(&busy, &own); err != nil {
			return 0, false, err
		}
		if !busy {
			return uint64(max(own, 0)), true, nil
		}
		if time.Now().After(until) || !wait(ctx, calmPoll) {
			return 0, false, ctx.Err()
		}
	}
}
