package pgstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
)

// A held append is in a transaction that has not ended.
type held struct {
	tx     pgx.Tx
	stream string
	first  uint64 // position
}

// hold appends as the store does, with the same function of the schema, and leaves
// the transaction open.
func hold(t require.TestingT, s *store, as ...driver.Append) *held {
	ctx := context.Background()
	tx, err := s.pool.Begin(ctx)
	require.NoError(t, err)
	if c, ok := t.(interface{ Cleanup(func()) }); ok {
		c.Cleanup(func() { _ = tx.Rollback(ctx) })
	}
	return holdIn(t, s, tx, as...)
}

// holdIn is hold in a transaction that was begun.
func holdIn(t require.TestingT, s *store, tx pgx.Tx, as ...driver.Append) *held {
	ctx := context.Background()
	b := newBatch(len(as))
	for i := range as {
		b.add(i, &as[i])
	}
	st := newStatement(s.sql.append)
	b.addTo(st)
	var out outcome
	require.NoError(t, query(ctx, tx.Conn().PgConn(), st, out.read))
	require.NotZero(t, out.first)
	return &held{tx, as[0].Stream, out.first}
}

func (h *held) end(t require.TestingT, commit bool) {
	if commit {
		require.NoError(t, h.tx.Commit(context.Background()))
	} else {
		require.NoError(t, h.tx.Rollback(context.Background()))
	}
}

// views are all ways to see how far the log goes.
func views(t require.TestingT, s *store, from uint64) map[string]uint64 {
	ctx := context.Background()
	m := map[string]uint64{}
	var err error
	m["head"], err = s.Head(ctx)
	require.NoError(t, err)
	m["date"], err = s.PositionAt(ctx, time.Now().Add(time.Hour))
	require.NoError(t, err)
	last := func(name string, list []driver.Recorded, scanned uint64, err error) {
		require.NoError(t, err)
		m[name] = scanned
		for _, r := range list {
			require.LessOrEqual(t, r.Position, m["head"], name)
		}
	}
	for name, f := range map[string]driver.Filter{"all": {System: true}, "category": {Categories: []string{"s"}}, "type": {Types: []string{"t"}}, "streams": {Streams: []string{"s-1", "s-2", "held-1"}}} {
		list, scanned, err := s.ReadAll(ctx, f, from, driver.Forward, 1000)
		last(name, list, scanned, err)
	}
	for name, items := range map[string][]driver.QueryItem{"query": nil, "tag": {{Tags: []string{"x"}}}, "query type": {{Types: []string{"t"}}}} {
		list, scanned, err := s.Query(ctx, items, from, 1000)
		last(name, list, scanned, err)
	}
	list, _, err := s.ReadAll(ctx, driver.Filter{System: true}, 0, driver.Backward, 1000)
	require.NoError(t, err)
	if len(list) > 0 {
		m["backward"] = list[0].Position
	}
	return m
}

func agree(t require.TestingT, s *store, want uint64) {
	agreeAfter(t, s, 0, want)
}

func agreeAfter(t require.TestingT, s *store, from, want uint64) {
	for name, have := range views(t, s, from) {
		require.Equal(t, want, have, name)
	}
}

func TestNothingIsShownAboveWhatIsInFlight(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	for _, commit := range []bool{true, false} {
		for _, batch := range []int{1, 40} { // more than PostgreSQL logs of a sequence at once
			t.Run(fmt.Sprintf("commit %v, %d events", commit, batch), func(t *testing.T) {
				t.Parallel()
				s := b.open(t, Options{})
				ctx := t.Context()
				before := s.Append(ctx, one("s-1", driver.NoStream, "x"))
				require.NoError(t, before.Err)
				a := driver.Append{Stream: "held-1", Events: slices.Repeat([]driver.Event{event("t", "held", "y")}, batch)}
				h := hold(t, s, a)
				after := s.Append(ctx, one("s-2", driver.NoStream, "x"))
				require.NoError(t, after.Err, "it does not wait for the other")
				require.Greater(t, after.Last, h.first)
				agree(t, s, before.Last)
				mine, err := s.ReadStream(ctx, "s-2", 0, driver.Forward, 10)
				require.NoError(t, err)
				require.Len(t, mine, 1, "in its own stream what was acknowledged is there")
				waiting, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				require.ErrorIs(t, s.Wait(waiting, before.Last), context.DeadlineExceeded, "there is nothing to be had")
				woken := make(chan error, 1)
				go func() { woken <- s.Wait(ctx, before.Last) }()
				h.end(t, commit)
				require.NoError(t, <-woken, "without another append")
				agree(t, s, after.Last)
				list, _, err := s.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 1000)
				require.NoError(t, err)
				if commit {
					require.Len(t, list, 2+batch)
				} else {
					require.Len(t, list, 2)
				}
			})
		}
	}
}

func TestAConnectionThatDiesHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	s := b.open(t, Options{})
	h := hold(t, s, one("held-1", driver.Any))
	r := s.Append(t.Context(), one("s-1", driver.Any))
	require.NoError(t, r.Err)
	agree(t, s, 0)
	_, err := b.pool.Exec(t.Context(), "SELECT pg_terminate_backend($1)", h.tx.Conn().PgConn().PID())
	require.NoError(t, err)
	require.NoError(t, s.Wait(t.Context(), 0))
	agree(t, s, r.Last)
	_ = h.tx.Rollback(context.Background())
}

func TestForeignTransactionsAndLocksHoldNobodyBack(t *testing.T) {
	t.Parallel()
	b := newBench(t, 12)
	s, other := b.open(t, Options{}), b.open(t, Options{})
	ctx := t.Context()
	// Another store of the same database, a transaction with a snapshot and one with an
	// id, and advisory locks of every kind.
	h := hold(t, other, one("held-1", driver.Any))
	defer h.end(t, false)
	tx, err := b.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(ctx, `SELECT pg_current_xact_id(), pg_advisory_lock(1), pg_advisory_lock_shared(0), pg_advisory_xact_lock(0, 0), pg_advisory_xact_lock_shared(1, 1)`)
	require.NoError(t, err)
	for i := range 3 {
		r := s.Append(ctx, one(fmt.Sprint("s-", i), driver.NoStream, "x"))
		require.NoError(t, r.Err)
		agree(t, s, r.Last)
	}
	agree(t, other, 0)
	_, err = tx.Exec(ctx, "SELECT pg_advisory_unlock_all()")
	require.NoError(t, err)
}

func TestPositionsBeyondTheHalfOfALockAreOrdered(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	for _, start := range []int64{1<<31 - 3, 1<<32 - 3, 1<<40 + 1<<31 - 3, 1<<62 - 3} {
		t.Run(fmt.Sprint(start), func(t *testing.T) {
			t.Parallel()
			s := b.open(t, Options{})
			require.NoError(t, s.run(t.Context(), newStatement(s.sql.expand("SELECT setval(@positions@, $1, true)")).int(start), nil))
			first := s.Append(t.Context(), one("s-1", driver.Any))
			require.NoError(t, first.Err)
			last := first.Last
			for i := range 8 {
				h := hold(t, s, one("held-1", driver.Any))
				r := s.Append(t.Context(), one("s-1", driver.Any))
				require.NoError(t, r.Err)
				agreeAfter(t, s, first.Last, last)
				h.end(t, i%2 == 0)
				last = r.Last
				agreeAfter(t, s, first.Last, last)
			}
			require.Greater(t, last, uint64(start))
		})
	}
}

// A follower reads the log along, one of the ways in which it can be read, and
// checks that it is what was committed, in order.
type follower struct {
	read func(from uint64) ([]driver.Recorded, uint64, error)
	from uint64
	seen []uint64
}

func (f *follower) step(t require.TestingT) {
	list, scanned, err := f.read(f.from)
	require.NoError(t, err)
	for _, r := range list {
		require.Greater(t, r.Position, f.from)
		f.from = r.Position
		f.seen = append(f.seen, r.Position)
	}
	require.GreaterOrEqual(t, scanned, f.from)
	f.from = scanned
}

func followers(s *store) map[string]*follower {
	ctx := context.Background()
	all := func(f driver.Filter, limit int) *follower {
		return &follower{read: func(from uint64) ([]driver.Recorded, uint64, error) {
			return s.ReadAll(ctx, f, from, driver.Forward, limit)
		}}
	}
	return map[string]*follower{
		"all":      all(driver.Filter{}, 1000),
		"slow":     all(driver.Filter{}, 2),
		"category": all(driver.Filter{Categories: []string{"s"}}, 3),
		"type":     all(driver.Filter{Types: []string{"t"}}, 7),
		"tag": {read: func(from uint64) ([]driver.Recorded, uint64, error) {
			return s.Query(ctx, []driver.QueryItem{{Tags: []string{"x"}}}, from, 5)
		}},
	}
}

func TestAnyInterleavingOfTransactionsIsReadInOrder(t *testing.T) {
	t.Parallel()
	b := newBench(t, 16)
	rapid.Check(t, func(rt *rapid.T) {
		schema := b.schema(t)
		s, err := open(context.Background(), b.pool, &Options{Schema: schema, NoListen: true})
		require.NoError(rt, err)
		defer func() {
			require.NoError(rt, s.Close())
			b.give(t, schema)
		}()
		var open []*held
		defer func() {
			for _, h := range open {
				_ = h.tx.Rollback(context.Background())
			}
		}()
		// Whoever uses a tag first keeps it from others until it has committed.
		first := s.Append(context.Background(), one("s-0", driver.NoStream, "x"))
		require.NoError(rt, first.Err)
		committed := first.Positions
		next := 0
		readers := followers(s)
		rt.Repeat(map[string]func(*rapid.T){
			"begin": func(rt *rapid.T) {
				if len(open) == 6 {
					rt.Skip("enough")
				}
				next++ // a stream of its own, so that none waits for another
				n := rapid.IntRange(1, 3).Draw(rt, "events")
				open = append(open, hold(rt, s, driver.Append{Stream: fmt.Sprint("s-", next), Events: slices.Repeat([]driver.Event{event("t", "e", "x")}, n)}))
			},
			"end": func(rt *rapid.T) {
				if len(open) == 0 {
					rt.Skip("none")
				}
				i := rapid.IntRange(0, len(open)-1).Draw(rt, "which")
				commit := rapid.Bool().Draw(rt, "commit")
				h := open[i]
				h.end(rt, commit)
				open = slices.Delete(open, i, i+1)
				if commit {
					list, err := s.ReadStream(context.Background(), h.stream, 0, driver.Forward, 10)
					require.NoError(rt, err)
					for _, r := range list {
						committed = append(committed, r.Position)
					}
				}
			},
			"append": func(rt *rapid.T) {
				next++
				r := s.Append(context.Background(), one(fmt.Sprint("s-", next), driver.NoStream, "x"))
				require.NoError(rt, r.Err)
				committed = append(committed, r.Positions...)
			},
			"read": func(rt *rapid.T) {
				for _, name := range []string{"all", "slow", "category", "type", "tag"} {
					if rapid.Bool().Draw(rt, name) {
						readers[name].step(rt)
					}
				}
			},
			"": func(rt *rapid.T) {
				low := uint64(1) << 62
				for _, h := range open {
					low = min(low, h.first)
				}
				head, err := s.Head(context.Background())
				require.NoError(rt, err)
				var want uint64
				for _, p := range committed {
					if p < low {
						want = max(want, p)
					}
				}
				require.Equal(rt, want, head, "all that is below what is in flight, and no more")
				for name, f := range readers {
					require.Less(rt, f.from, low, name)
				}
			},
		})
		for _, h := range open {
			h.end(rt, false)
		}
		open = nil
		slices.Sort(committed)
		for name, f := range readers {
			for range len(committed) + 1 {
				f.step(rt)
			}
			require.Equal(rt, committed, slices.Concat([]uint64{}, f.seen), name)
		}
	})
}

func TestReadersSeeEverythingOnceWhileManyCommitLate(t *testing.T) {
	t.Parallel()
	b := newBench(t, 24)
	a := b.open(t, Options{})
	peer := b.openAt(t, Options{Schema: a.opt.Schema, NoListen: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const writers, each = 8, 25
	var mu sync.Mutex
	var committed []uint64
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range writers {
		writing.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			s := []*store{a, peer}[w%2]
			for i := range each {
				events := slices.Repeat([]driver.Event{event("t", "e", "x", fmt.Sprint("w:", w))}, 1+r.IntN(4))
				// Some streams are shared, so that writers wait for each other.
				ap := driver.Append{Stream: fmt.Sprint("s-", (w*each+i)%40), Events: events}
				if r.IntN(2) == 0 {
					h := hold(t, s, ap)
					timer := time.NewTimer(time.Duration(r.IntN(4000)) * time.Microsecond)
					<-timer.C // the test is of what happens meanwhile
					commit := r.IntN(4) > 0
					h.end(t, commit)
					if !commit {
						continue
					}
					mu.Lock()
					for k := range events {
						committed = append(committed, h.first+uint64(k))
					}
					mu.Unlock()
					continue
				}
				res := s.AppendBatch(ctx, []driver.Append{ap})[0]
				if res.Err != nil {
					t.Error(res.Err)
					return
				}
				mu.Lock()
				committed = append(committed, res.Positions...)
				mu.Unlock()
			}
		})
	}
	var all []*follower
	for _, s := range []*store{a, peer} {
		for _, f := range followers(s) {
			all = append(all, f)
			reading.Go(func() {
				for last := false; ; {
					before := f.from
					f.step(t)
					if f.from == before {
						if last {
							return
						}
						select {
						case <-done:
							last = true
						default:
							waiting, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
							_ = s.Wait(waiting, f.from)
							cancel()
						}
					}
				}
			})
		}
	}
	writing.Wait()
	close(done)
	reading.Wait()
	slices.Sort(committed)
	for _, f := range all {
		require.Equal(t, committed, f.seen)
	}
}
