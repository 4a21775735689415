package pgstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func TestAnAnswerThatIsLostLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	var lost error
	s := b.open(t, Options{committed: func() error { return lost }})
	ctx := t.Context()
	lost = errors.New("connection reset")
	as := []driver.Append{one("s-1", driver.NoStream), one("s-1", driver.NoStream), one("s-2", 7)}
	for i, r := range s.AppendBatch(ctx, as) {
		require.ErrorIs(t, r.Err, driver.ErrOutcomeUnknown, "append %d", i)
	}
	results := s.AppendWith(ctx, []driver.Append{one("s-3", driver.NoStream), one("s-3", driver.NoStream), one("s-4", 7)}, func(any, []driver.Recorded) error { return nil })
	require.ErrorIs(t, results[0].Err, driver.ErrOutcomeUnknown)
	require.ErrorIs(t, results[1].Err, driver.ErrOutcomeUnknown, "it conflicts with what may not be there")
	var conflict *driver.ConflictError
	require.ErrorAs(t, results[2].Err, &conflict)
	require.ErrorIs(t, s.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "s-5", Event: event("t", "e")}}, nil).Err, driver.ErrOutcomeUnknown)
	lost = nil
	require.Equal(t, uint64(2), s.Append(ctx, one("s-1", 1)).Version, "it was written")
}

// blocked runs fn while its statement waits for a stream that somebody else has
// locked, calls then with its process, and returns what fn returns.
func blocked(t *testing.T, s *store, stream string, fn func() error, then func(pid int)) error {
	ctx := t.Context()
	require.NoError(t, s.Append(ctx, one(stream, driver.Any)).Err)
	tx, err := s.pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(ctx, s.sql.expand("SELECT FROM @schema@.streams WHERE name = $1 FOR UPDATE"), stream)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- fn() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
		}
		var pid int
		err := s.pool.QueryRow(ctx, "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))", int32(tx.Conn().PgConn().PID())).Scan(&pid)
		if err == nil {
			then(pid)
			return <-done
		}
		require.ErrorIs(t, err, pgx.ErrNoRows)
	}
}

func TestErrorsSayWhetherAnythingMayHaveBeenWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	s := b.open(t, Options{NoListen: true})
	ctx := t.Context()
	do := func(sql string) func(pid int) {
		return func(pid int) {
			_, err := b.pool.Exec(ctx, sql, pid)
			require.NoError(t, err)
		}
	}
	add := func() error { return s.Append(ctx, one("s-1", driver.Any)).Err }

	err := blocked(t, s, "s-1", add, do("SELECT pg_cancel_backend($1)"))
	require.Equal(t, "57014", sqlState(err))
	require.NotErrorIs(t, err, driver.ErrOutcomeUnknown, "the server has refused the statement")

	err = blocked(t, s, "s-1", add, do("SELECT pg_terminate_backend($1)"))
	require.ErrorIs(t, err, driver.ErrOutcomeUnknown, "the server may have committed before it ended the connection")

	ending, cancel := context.WithCancel(ctx)
	defer cancel()
	err = blocked(t, s, "s-1", func() error { return s.Append(ending, one("s-1", driver.Any)).Err }, func(int) { cancel() })
	require.ErrorIs(t, err, driver.ErrOutcomeUnknown)
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, add(), "the pool is as good as before")
}

func TestWhatTheServerSaysOfAnOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		severity, code string
		refused        bool
	}{
		{"ERROR", "23505", true},
		{"ERROR", "40P01", true},
		{"ERROR", "57014", true},
		{"ERROR", "25006", true},
		{"ERROR", "08P01", false},
		{"ERROR", "57P01", false},
		{"ERROR", "40003", false},
		{"ERROR", "", false},
		{"FATAL", "57P01", false},
		{"FATAL", "25006", false},
		{"PANIC", "XX000", false},
	} {
		err := fmt.Errorf("wrapped: %w", &pgconn.PgError{SeverityUnlocalized: c.severity, Code: c.code})
		require.Equal(t, c.refused, refused(err), "%s %s", c.severity, c.code)
	}
	require.False(t, refused(errors.New("connection reset")))
}

func TestAReadWhoseContextEndsDoesNotBreakThePool(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	s := b.open(t, Options{NoListen: true})
	ctx := t.Context()
	require.NoError(t, s.Append(ctx, one("s-1", driver.Any)).Err)
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(context.Background())
	_, err = tx.Exec(ctx, s.sql.expand("LOCK TABLE @schema@.events IN ACCESS EXCLUSIVE MODE"))
	require.NoError(t, err)
	for range 8 { // more than there are connections
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		_, err := s.ReadStream(short, "s-1", 0, driver.Forward, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, _, err = s.ReadAll(short, driver.Filter{}, 0, driver.Forward, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()
	}
	require.NoError(t, tx.Rollback(ctx))
	list, _, err := s.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 1)
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestAppendsOfSeveralNodesNeverDeadlock(t *testing.T) {
	t.Parallel()
	b := newBench(t, 16)
	a := b.open(t, Options{NoListen: true})
	peer := b.openAt(t, Options{Schema: a.opt.Schema, NoListen: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			s := []*store{a, peer}[w%2]
			r := rand.New(rand.NewPCG(uint64(w), 3))
			pick := func(kind string, n int) string { return fmt.Sprint(kind, r.IntN(n)) }
			for range 20 {
				var as []driver.Append
				for range 1 + r.IntN(8) {
					// A few of each, so that they meet, and new ones all the time.
					e := event(pick("type", 5), "e", pick("tag:", 6), pick("new:", 1000)+"x")
					as = append(as, driver.Append{Stream: pick("s-", 8), Events: []driver.Event{e}})
				}
				var fn func(any, []driver.Recorded) error
				if r.IntN(2) == 0 {
					fn = func(tx any, _ []driver.Recorded) error {
						_, err := tx.(pgx.Tx).Exec(ctx, "SELECT 1")
						return err
					}
				}
				var errs []error
				switch r.IntN(6) {
				case 0:
					items := []driver.QueryItem{{Tags: []string{pick("tag:", 6), pick("tag:", 6)}}, {Types: []string{pick("type", 5)}}, {Tags: []string{pick("tag:", 6)}}}
					var events []driver.StreamEvent
					for _, a := range as {
						events = append(events, driver.StreamEvent{Stream: a.Stream, Event: a.Events[0]})
					}
					errs = append(errs, s.AppendIf(ctx, items, uint64(r.IntN(2)<<40), events, fn).Err)
				case 1:
					// Each stream once, named in any order.
					var parts []driver.Append
					for i := range as {
						if !slices.ContainsFunc(as[:i], func(a driver.Append) bool { return a.Stream == as[i].Stream }) {
							parts = append(parts, as[i])
						}
					}
					_, err := s.AppendAtomic(ctx, parts, fn)
					errs = append(errs, err)
				case 2:
					for _, res := range s.AppendWith(ctx, as, func(any, []driver.Recorded) error { return nil }) {
						errs = append(errs, res.Err)
					}
				default:
					for _, res := range s.AppendBatch(ctx, as) {
						errs = append(errs, res.Err)
					}
				}
				for _, err := range errs {
					if conflict := (*driver.ConflictError)(nil); err != nil && !errors.As(err, &conflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// holdIf is hold for an append under a condition on what lies above position 2.
func holdIf(t *testing.T, s *store, items []driver.QueryItem, e driver.StreamEvent) *held {
	ctx := context.Background()
	tx, err := s.pool.Begin(ctx)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(ctx) })
	var out outcome
	b := newBatch(1)
	b.add(0, &driver.Append{Stream: e.Stream, Events: []driver.Event{e.Event}})
	st := conditional(s, items, 2, b)
	require.NoError(t, query(ctx, tx.Conn().PgConn(), st, out.read))
	require.Zero(t, out.conflict)
	return &held{tx, e.Stream, out.first}
}

func TestConditionsKeepOnlyThoseWaitingWhomTheyConcern(t *testing.T) {
	t.Parallel()
	b := newBench(t, 40)
	type items = []driver.QueryItem
	tag := func(tags ...string) driver.QueryItem { return driver.QueryItem{Tags: tags} }
	typ := func(types ...string) driver.QueryItem { return driver.QueryItem{Types: types} }
	to := func(stream, typ string, tags ...string) driver.StreamEvent {
		return driver.StreamEvent{Stream: stream, Event: event(typ, "e", tags...)}
	}
	// Types that share no lock, also with "t".
	var types []string
	slots := map[int32]bool{typeSlot("t"): true}
	for i := 0; len(types) < 3; i++ {
		if name := fmt.Sprint("type", i); !slots[typeSlot(name)] {
			slots[typeSlot(name)] = true
			types = append(types, name)
		}
	}
	t1, t2, t9 := types[0], types[1], types[2]
	for _, c := range []struct {
		name  string
		items items
		event driver.StreamEvent
		waits map[string]bool // by append below
	}{
		{"on a tag", items{tag("a")}, to("held-1", t1, "a"), map[string]bool{"tag a": true, "tags a and b": true, "if tag a": true}},
		{"on two tags together", items{tag("a", "b")}, to("held-1", t1, "c"), map[string]bool{"tags a and b": true, "if tags a and b": true}},
		{"on a type", items{typ(t2)}, to("held-1", t1, "c"), map[string]bool{"type t2": true, "if type t2": true}},
		{"on everything", items{{}}, to("held-1", t1, "c"), map[string]bool{"tag a": true, "tags a and b": true, "if tag a": true, "if tags a and b": true, "type t2": true, "if type t2": true, "tag d": true, "if tag d": true, "nothing": true, "if nothing": true}},
		{"on nothing", nil, to("held-1", t1, "c"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := b.open(t, Options{NoListen: true})
			ctx := t.Context()
			// The tags are known, and b is the quieter one of a and b.
			require.NoError(t, s.Append(ctx, one("s-1", driver.Any, "a", "b", "c", "d")).Err)
			after := s.Append(ctx, one("s-1", driver.Any, "a")).Last
			do := map[string]func(stream string) error{
				"tag a":        func(n string) error { return s.Append(ctx, one(n, driver.Any, "a")).Err },
				"tags a and b": func(n string) error { return s.Append(ctx, one(n, driver.Any, "b", "a")).Err },
				"tag d":        func(n string) error { return s.Append(ctx, one(n, driver.Any, "d")).Err },
				"nothing":      func(n string) error { return s.Append(ctx, one(n, driver.Any)).Err },
				"type t2": func(n string) error {
					return s.Append(ctx, driver.Append{Stream: n, Events: []driver.Event{event(t2, "e")}}).Err
				},
				"if tag a": func(n string) error {
					return s.AppendIf(ctx, items{tag("a")}, after, []driver.StreamEvent{to(n, t9)}, nil).Err
				},
				"if tags a and b": func(n string) error {
					return s.AppendIf(ctx, items{tag("b", "a")}, after, []driver.StreamEvent{to(n, t9)}, nil).Err
				},
				"if tag d": func(n string) error {
					return s.AppendIf(ctx, items{tag("d")}, after, []driver.StreamEvent{to(n, t9)}, nil).Err
				},
				"if type t2": func(n string) error {
					return s.AppendIf(ctx, items{typ(t2)}, after, []driver.StreamEvent{to(n, t9)}, nil).Err
				},
				"if nothing": func(n string) error { return s.AppendIf(ctx, nil, after, []driver.StreamEvent{to(n, t9)}, nil).Err },
			}
			h := holdIf(t, s, c.items, c.event)
			done := map[string]chan error{}
			for i, name := range sortedNames(do) {
				if !c.waits[name] {
					require.NoError(t, do[name](fmt.Sprint("free-", i)), name)
					continue
				}
				answer := make(chan error, 1)
				done[name] = answer
				go func() { answer <- do[name](fmt.Sprint("late-", i)) }()
			}
			// Those that wait are waiting, all of them.
			require.Eventually(t, func() bool {
				var n int
				require.NoError(t, b.pool.QueryRow(ctx, s.sql.expand("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND position($1 in query) > 0"), s.sql.expand("@schema@")).Scan(&n))
				return n == len(c.waits)
			}, time.Minute, time.Millisecond)
			h.end(t, true)
			for name := range c.waits {
				err := <-done[name]
				if conflict := (*driver.ConflictError)(nil); err != nil {
					require.ErrorAs(t, err, &conflict, name)
				}
			}
		})
	}
}

func sortedNames[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestTextThatPostgreSQLCannotHaveFailsItsAppendAlone(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	s := b.open(t, Options{NoListen: true})
	long := string(make([]byte, maxNameBytes+1))
	bad := []driver.Append{
		one("s-\x00", driver.Any), one("s-\xff", driver.Any), one("s-1", driver.Any, "nul\x00"), one("s-1", driver.Any, "\xff"), one("s-1", driver.Any, long),
		{Stream: "s-1", Events: []driver.Event{{Type: "\xff"}}}, {Stream: "s-1", Events: []driver.Event{{Type: long}}},
		{Stream: "s-1", Events: []driver.Event{{Type: "t", ContentType: "\x00"}}}, {Stream: "s-1", Events: []driver.Event{{Type: "t", Metadata: map[string]string{"k": "\xff"}}}},
	}
	as := append(slices.Clone(bad), one("s-1", driver.NoStream))
	results := s.AppendBatch(t.Context(), as)
	for i := range bad {
		require.Error(t, results[i].Err, "append %d", i)
		require.NotErrorIs(t, results[i].Err, driver.ErrOutcomeUnknown)
	}
	require.NoError(t, results[len(bad)].Err)
	require.NoError(t, s.Append(t.Context(), one("s9", driver.Any)).Err)
	for _, name := range []string{"s-\x00", "s-\xff"} {
		list, err := s.ReadStream(t.Context(), name, 0, driver.Forward, 1)
		require.NoError(t, err)
		require.Empty(t, list)
		info, err := s.Stream(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, driver.StreamInfo{Name: name}, info)
		list, _, err = s.ReadAll(t.Context(), driver.Filter{Streams: []string{name}}, 0, driver.Forward, 1)
		require.NoError(t, err)
		require.Empty(t, list)
		list, _, err = s.Query(t.Context(), []driver.QueryItem{{Tags: []string{name}}, {Types: []string{name}}}, 0, 1)
		require.NoError(t, err)
		require.Empty(t, list)
		infos, err := s.Streams(t.Context(), "", name, 1)
		require.NoError(t, err)
		require.Len(t, infos, 1)
		require.Equal(t, map[string]string{"s-\x00": "s-1", "s-\xff": "s9"}[name], infos[0].Name, "as bytes sort")
		require.NoError(t, s.AppendIf(t.Context(), []driver.QueryItem{{Tags: []string{name}}, {Types: []string{name}}}, 0, []driver.StreamEvent{{Stream: "s-2", Event: event("t", "e")}}, nil).Err)
		require.Error(t, s.Purge(t.Context(), name))
		_, _, err = s.LoadCheckpoint(t.Context(), name)
		require.Error(t, err)
	}
}
