package pgstore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/postgrestest"
)

func TestAHotStandbyCanBeReadAndNotWritten(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	url := server.URL(t)
	connect := func(checkOnly bool) (*store, func()) {
		b := &bench{pool: newPool(t, url, 4)}
		s, err := open(t.Context(), b.pool, &Options{NoListen: true, CheckOnly: checkOnly})
		require.NoError(t, err)
		return s, func() {
			require.NoError(t, s.Close())
			b.pool.Close()
		}
	}
	ctx := t.Context()
	s, done := connect(false)
	r := s.Append(ctx, one("s-1", driver.NoStream, "x"))
	require.NoError(t, r.Err)
	require.NoError(t, s.SaveSnapshot(ctx, "s-1", driver.Snapshot{Version: 1, Data: []byte("state")}))
	require.NoError(t, s.SaveCheckpoint(ctx, "c", nil, driver.Checkpoint{Position: 1}))
	done()

	server.Stop()
	signal := filepath.Join(server.Dir(), "standby.signal")
	require.NoError(t, os.WriteFile(signal, nil, 0o644))
	server.Restart(t)
	for _, checkOnly := range []bool{false, true} {
		s, done = connect(checkOnly)
		list, err := s.ReadStream(ctx, "s-1", 0, driver.Forward, 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		info, err := s.Stream(ctx, "s-1")
		require.NoError(t, err)
		require.Equal(t, uint64(1), info.Version)
		_, ok, err := s.LoadSnapshot(ctx, "s-1")
		require.NoError(t, err)
		require.True(t, ok)
		_, ok, err = s.LoadCheckpoint(ctx, "c")
		require.NoError(t, err)
		require.True(t, ok)

		agree(t, s, r.Last)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		require.ErrorIs(t, s.Wait(short, r.Last), context.DeadlineExceeded)
		cancel()

		require.ErrorIs(t, s.Append(ctx, one("s-1", driver.Any)).Err, driver.ErrReadOnly)
		require.ErrorIs(t, s.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "s-1", Event: event("t", "e")}}, nil).Err, driver.ErrReadOnly)
		_, err = s.AppendAtomic(ctx, []driver.Append{one("s-1", driver.Any), one("s-2", driver.Any)}, nil)
		require.ErrorIs(t, err, driver.ErrReadOnly)
		require.ErrorIs(t, s.AppendWith(ctx, []driver.Append{one("s-1", driver.Any)}, func(any, []driver.Recorded) error { return nil })[0].Err, driver.ErrReadOnly)
		require.ErrorIs(t, s.SaveSnapshot(ctx, "s-1", driver.Snapshot{}), driver.ErrReadOnly)
		require.ErrorIs(t, s.SaveCheckpoint(ctx, "d", nil, driver.Checkpoint{}), driver.ErrReadOnly)
		require.ErrorIs(t, s.Purge(ctx, "s-1"), driver.ErrReadOnly)
		_, _, err = s.Acquire(ctx, "l", "me", time.Second)
		require.ErrorIs(t, err, driver.ErrReadOnly)
		done()
	}

	server.Stop()
	require.NoError(t, os.Remove(signal))
	server.Restart(t)
	s, done = connect(false)
	defer done()
	agree(t, s, r.Last)
}

// replicated returns the URLs of a database on a server and on its standby.
func replicated(t *testing.T) (primary, standby string) {
	server := postgrestest.Start(t)
	primary = server.URL(t)
	follower := server.Standby(t)
	return primary, follower.Twin(primary)
}

// catchUp waits until the standby has what the primary has written so far.
func catchUp(t *testing.T, primary, standby *pgxpool.Pool) {
	t.Helper()
	var at string
	require.NoError(t, primary.QueryRow(t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&at))
	require.Eventually(t, func() bool {
		var there bool
		require.NoError(t, standby.QueryRow(t.Context(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", at).Scan(&there))
		return there
	}, time.Minute, 2*time.Millisecond)
}

func TestAHotStandbyHoldsBackWhatMayBeOvertaken(t *testing.T) {
	t.Parallel()
	primary, standby := replicated(t)
	s, err := open(t.Context(), newPool(t, primary, 8), &Options{NoListen: true})
	require.NoError(t, err)
	defer s.Close()
	ctx := t.Context()
	r := s.Append(ctx, one("s-1", driver.NoStream, "x"))
	require.NoError(t, r.Err)
	catchUp(t, s.pool, newPool(t, standby, 1))
	d, err := open(ctx, newPool(t, standby, 4), &Options{NoListen: true})
	require.NoError(t, err)
	defer d.Close()
	agree(t, d, r.Last)

	begin := func() pgx.Tx {
		tx, err := s.pool.Begin(ctx)
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(ctx)) })
		return tx
	}
	for _, commit := range []bool{true, false} {
		below := r.Last
		var several []*held
		for i := range 3 { // one of them in a subtransaction, as AppendWith has them
			h := &held{}
			// What overtakes it has a lower number, which no transaction that has ended is above.
			over := begin()
			_, err := over.Exec(ctx, "SELECT txid_current()")
			require.NoError(t, err)
			if i == 1 {
				tx := begin()
				point, err := tx.Begin(ctx)
				require.NoError(t, err)
				h = holdIn(t, s, point, one(fmt.Sprint("held-", i), driver.Any, "x"))
				require.NoError(t, point.Commit(ctx))
				h.tx = tx
			} else {
				h = hold(t, s, one(fmt.Sprint("held-", i), driver.Any, "x"))
			}
			several = append(several, h)
			holdIn(t, s, over, one("s-1", driver.Any, "x")).end(t, true)
		}
		info, err := s.Stream(ctx, "s-1")
		require.NoError(t, err)
		catchUp(t, s.pool, d.pool)
		list, err := d.ReadStream(ctx, "s-1", info.Version-1, driver.Forward, 1)
		require.NoError(t, err)
		require.Len(t, list, 1, "it has been replayed, and its own stream shows it")
		for i, h := range several {
			head, err := d.Head(ctx)
			require.NoError(t, err)
			require.Equal(t, below, head, "%d are in flight", 3-i)
			list, scanned, err := d.ReadAll(ctx, driver.Filter{}, below, driver.Forward, 10)
			require.NoError(t, err)
			require.Empty(t, list)
			require.Equal(t, below, scanned)
			h.end(t, commit)
			catchUp(t, s.pool, d.pool)
		}
		r.Last, err = s.Head(ctx)
		require.NoError(t, err)
		require.Greater(t, r.Last, several[2].first)
		agree(t, d, r.Last)
		log, _, err := d.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 100)
		require.NoError(t, err)
		want, _, err := s.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 100)
		require.NoError(t, err)
		require.Equal(t, want, log)
	}
}

// What writes anything on the primary, and takes long, is waited for: its number may be that of an append.
func TestAHotStandbyWaitsForLongTransactionsOfThePrimary(t *testing.T) {
	t.Parallel()
	primary, standby := replicated(t)
	s, err := open(t.Context(), newPool(t, primary, 4), &Options{NoListen: true})
	require.NoError(t, err)
	defer s.Close()
	ctx := t.Context()
	first := s.Append(ctx, one("s-1", driver.NoStream))
	require.NoError(t, first.Err)
	catchUp(t, s.pool, newPool(t, standby, 1))
	early, err := open(ctx, newPool(t, standby, 2), &Options{NoListen: true})
	require.NoError(t, err)
	defer early.Close()
	agree(t, early, first.Last)

	tx, err := s.pool.Begin(ctx)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, "CREATE TABLE report (n int)")
	require.NoError(t, err)
	second := s.Append(ctx, one("s-1", driver.Any))
	require.NoError(t, second.Err)
	catchUp(t, s.pool, early.pool)
	head, err := early.Head(ctx)
	require.NoError(t, err)
	require.Equal(t, first.Last, head, "what was known stays so")
	late, err := open(ctx, newPool(t, standby, 2), &Options{NoListen: true})
	require.NoError(t, err)
	defer late.Close()
	_, err = late.Head(ctx)
	require.ErrorContains(t, err, "a transaction that writes has been running on the primary")
	require.NoError(t, tx.Commit(ctx))
	catchUp(t, s.pool, early.pool)
	agree(t, early, second.Last)
	agree(t, late, second.Last)
}

func TestAFollowerOfAHotStandbySeesEveryEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	primary, standby := replicated(t)
	nodes := []*eventstore.Store{openStore(t, newPool(t, primary, 12)), openStore(t, newPool(t, primary, 12))}
	catchUp(t, newPool(t, primary, 1), newPool(t, standby, 1))
	reader := openStore(t, newPool(t, standby, 8))
	sub, err := eventstore.Subscribe(t.Context(), reader, eventstore.Transient[eventstore.Position]{From: eventstore.Origin(),
		Map: func(r *eventstore.Recorded) eventstore.Position { return r.Position }})
	require.NoError(t, err)
	defer sub.Close()
	var wg sync.WaitGroup
	for w := range 12 {
		wg.Go(func() {
			s := nodes[w%2]
			several, err := s.Atomic()
			require.NoError(t, err)
			for n := range 40 {
				e := func() []eventstore.Event { return []eventstore.Event{{Type: "x", Raw: []byte("1")}} }
				a, b := eventstore.Stream("s", fmt.Sprint((w+n)%30)), eventstore.Stream("s", fmt.Sprint((w+n+7)%30))
				var err error
				if n%2 == 0 {
					_, err = several.Append(context.Background(), eventstore.Part{Stream: a, Events: e()}, eventstore.Part{Stream: b, Events: e()})
				} else {
					_, err = s.Append(context.Background(), a, eventstore.Any, e()...)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var want []eventstore.Position
	for r, err := range nodes[0].ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		want = append(want, r.Position)
	}
	require.Len(t, want, 12*60)
	var have []eventstore.Position
	for len(have) < len(want) {
		select {
		case b := <-sub.C:
			have = append(have, b.Events...)
		case <-time.After(time.Minute):
			require.Len(t, have, len(want), "it does not get on")
		}
	}
	require.Equal(t, want, have)
}
