package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/projection"
)

func TestAModelIsUpdatedWithinAnAppendOrNotAtAll(t *testing.T) {
	t.Parallel()
	pool := newPool(t, postgrestest.URL(t), 8)
	s := openStore(t, pool)
	model := Model{Tables: []string{"counts"}, Schema: "CREATE TABLE counts(n int)"}
	m, err := Target(t.Context(), s, model)
	require.NoError(t, err)
	require.True(t, m.Shares(s))
	model.In = "beside"
	beside, err := TargetIn(t.Context(), pool, model)
	require.NoError(t, err)
	require.False(t, beside.Shares(s))
	other := openStore(t, newPool(t, postgrestest.URL(t), 4))
	elsewhere, err := Target(t.Context(), other, model)
	require.NoError(t, err)
	require.False(t, elsewhere.Shares(s))
	require.True(t, elsewhere.Shares(other))
	boom := errors.New("boom")
	var fail, ignore bool
	_, err = s.Inline(func(ctx context.Context, tx any, events []*eventstore.Recorded) error {
		none := func(pgx.Tx, eventstore.Position) (eventstore.Position, error) { return 0, nil }
		require.ErrorIs(t, beside.UpdateIn(ctx, tx, "c", none), errors.ErrUnsupported)
		require.ErrorIs(t, elsewhere.UpdateIn(ctx, tx, "c", none), errors.ErrUnsupported)
		require.ErrorIs(t, m.UpdateIn(ctx, nil, "c", none), errors.ErrUnsupported)
		require.Error(t, tx.(pgx.Tx).Commit(ctx))
		err := m.UpdateIn(ctx, tx, "c", func(tx pgx.Tx, _ eventstore.Position) (eventstore.Position, error) {
			_, err := tx.Exec(ctx, "INSERT INTO counts VALUES(1)")
			if err == nil && fail {
				err = boom
			}
			return events[len(events)-1].Position, err
		})
		var path string
		require.NoError(t, tx.(pgx.Tx).QueryRow(ctx, "SHOW search_path").Scan(&path))
		require.NotContains(t, path, "levada_read", "others find what they look for")
		if ignore {
			return nil
		}
		return err
	})
	require.NoError(t, err)
	add := func() error {
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, eventstore.Event{Type: "x", Raw: []byte("1")})
		return err
	}
	check := func(rows int, events int) {
		t.Helper()
		require.NoError(t, m.Read(t.Context(), func(tx pgx.Tx) error {
			var n int
			require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM counts").Scan(&n))
			require.Equal(t, rows, n)
			return nil
		}))
		info, err := s.Stream(t.Context(), "a-1")
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(events), info.Version)
	}
	at := func() eventstore.Position {
		at, err := m.Load(t.Context(), "c")
		require.NoError(t, err)
		return at
	}
	head := func() eventstore.Position {
		at, err := s.Head(t.Context())
		require.NoError(t, err)
		return at
	}
	require.NoError(t, add())
	check(1, 1)
	require.Equal(t, head(), at())
	fail = true
	require.ErrorIs(t, add(), boom)
	check(1, 1)
	require.Equal(t, head(), at())
	ignore = true
	require.NoError(t, add(), "the append goes on without")
	check(1, 2)
	require.Less(t, at(), head())
	fail = false
	require.NoError(t, add())
	check(2, 3)
	require.Equal(t, head(), at())
}

// openInline opens a store whose appends fill m, of which the tables may be shared with others.
func openInline(t testing.TB, url string, conns int) (*eventstore.Store, *shelf, *projection.Group) {
	t.Helper()
	s := openStore(t, newPool(t, url, conns))
	m := openShelf(t, s)
	g := &projection.Group{Store: s, Logger: discard}
	p := m.projection()
	p.Inline = true
	require.NoError(t, g.Add(p))
	return s, m, g
}

func TestAnInlineModelHasTheEventWhenTheAppendReturns(t *testing.T) {
	t.Parallel()
	s, m, g := openInline(t, postgrestest.URL(t), 8)
	at := put(t, s, "a", 1, 2)
	require.Equal(t, []int{1, 2}, m.list(t), "although the group does not run")
	waitFor(t, g, at)
	startGroup(t, g)
	noted, err := s.Append(t.Context(), "note-1", eventstore.Any, eventstore.Event{Data: Noted{"x"}})
	require.NoError(t, err)
	waitFor(t, g, noted.Position)

	m.spoil(4, true)
	_, err = s.Append(t.Context(), "shelf-b", eventstore.Any, eventstore.Event{Data: Put{"b", 3}}, eventstore.Event{Data: Put{"b", 4}})
	require.ErrorIs(t, err, errBoom)
	info, err := s.Stream(t.Context(), "shelf-b")
	require.NoError(t, err)
	require.Zero(t, info.Version, "nothing of it was written")
	require.Equal(t, []int{1, 2}, m.list(t))
	put(t, s, "b", 5)
	require.Equal(t, []int{1, 2, 5}, m.list(t))
}

func TestInlineAppendsOfManyProcessesAreInTheOrderOfTheirPositions(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	var stores []*eventstore.Store
	var models []*shelf
	for range 3 {
		s, m, _ := openInline(t, url, 8)
		for n := 0; n < 200; n += 9 {
			m.spoil(n, true)
		}
		stores, models = append(stores, s), append(models, m)
	}
	var wg sync.WaitGroup
	errs := make([]error, 200)
	for n := range errs {
		wg.Go(func() {
			_, errs[n] = stores[n%3].Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(n%7)), eventstore.Any, eventstore.Event{Data: Put{"k", n}})
		})
	}
	wg.Wait()
	var want []int
	for n, err := range errs {
		require.Equal(t, n%9 == 0, errors.Is(err, errBoom), "%d: %v", n, err)
	}
	for r, err := range stores[0].ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		want = append(want, r.Data.(Put).N)
	}
	require.Len(t, want, 177)
	require.Equal(t, want, models[1].list(t), "all of them, although no group runs")
}

// An event that is in flight below an inline append would be passed over if that moved the position beyond it.
func TestWhatIsInFlightBelowAnInlineAppendIsNotPassedOver(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	s, m, g := openInline(t, url, 8)
	put(t, s, "a", 1)

	// An append of a process without the projection, that has its positions and is slow to commit.
	slow, err := newPool(t, url, 1).Begin(t.Context())
	require.NoError(t, err)
	_, err = slow.Exec(t.Context(), "SELECT levada.take(1)")
	require.NoError(t, err)
	put(t, s, "b", 2)
	require.Equal(t, []int{1}, m.list(t), "it was left to the group")
	require.NoError(t, slow.Rollback(t.Context()))
	at := put(t, s, "a", 3)
	startGroup(t, g)
	waitFor(t, g, at)
	require.Equal(t, []int{1, 2, 3}, m.list(t))
}

func TestInlineAndOtherAppendsTogetherLoseNothing(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	s, m, g := openInline(t, url, 2) // with nothing to spare for those who wait
	again, _, _ := openInline(t, url, 10)
	plain := openStore(t, newPool(t, url, 10))
	startGroup(t, g)
	stores := []*eventstore.Store{s, again, plain}
	var wg sync.WaitGroup
	for w := range 9 {
		wg.Go(func() {
			for n := range 25 {
				_, err := stores[w%3].Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(w)), eventstore.Any,
					eventstore.Event{Data: Put{"k", 1000*w + n}}, eventstore.Event{Data: Noted{"x"}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	at := put(t, s, "last", -1)
	waitFor(t, g, at)
	var want []int
	for r, err := range plain.ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		want = append(want, r.Data.(Put).N)
	}
	require.Len(t, want, 9*25+1)
	require.Equal(t, want, m.list(t))
}

func TestAnInlineModelCatchesUpWithWhatItMissed(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	plain := openStore(t, newPool(t, url, 4))
	var want []int
	for n := range 10 {
		put(t, plain, "a", n)
		want = append(want, n)
	}
	s, m, g := openInline(t, url, 8)
	put(t, s, "a", 10)
	want = append(want, 10)
	require.Equal(t, want, m.list(t), "a few by the append itself")
	ns := make([]int, 200)
	for i := range ns {
		ns[i] = 100 + i
	}
	put(t, plain, "a", ns...)
	want = append(want, ns...)
	at := put(t, s, "a", 11)
	want = append(want, 11)
	require.Len(t, m.list(t), 11, "many it leaves to the group")
	startGroup(t, g)
	waitFor(t, g, at)
	require.Equal(t, want, m.list(t))
	put(t, s, "a", 13)
	require.Equal(t, append(want, 13), m.list(t), "from here it is with the appends again")
}

// Appends of one transaction are not seen by others before its end: if one was left to the group, so are those behind it.
func TestAnAppendBehindOneThatWasLeftIsLeftToo(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	d := b.open(t, Options{})
	s := eventstore.New(d, &eventstore.Options{Logger: discard})
	m, err := Target(t.Context(), s, Model{Tables: []string{"counts"}, Schema: "CREATE TABLE counts(n int)"})
	require.NoError(t, err)
	left := errors.New("left")
	called := 0
	results := d.AppendWith(t.Context(), []driver.Append{one("a-1", driver.Any), one("b-1", driver.Any), one("c-1", driver.Any)}, func(tx any, events []driver.Recorded) error {
		err := m.UpdateIn(t.Context(), tx, "c", func(pgx.Tx, eventstore.Position) (eventstore.Position, error) {
			called++
			if events[0].Stream == "b-1" {
				return 0, left
			}
			return eventstore.Position(events[0].Position), nil
		})
		if errors.Is(err, left) {
			return nil
		}
		return err
	})
	for _, r := range results {
		require.NoError(t, r.Err)
	}
	require.Equal(t, 2, called)
	at, err := m.Load(t.Context(), "c")
	require.NoError(t, err)
	require.Equal(t, results[0].Last, uint64(at))
}

func TestInlineNeedsTheStoresOwnDatabase(t *testing.T) {
	t.Parallel()
	pool := newPool(t, postgrestest.URL(t), 8)
	s := openStore(t, pool)
	beside, err := TargetIn(t.Context(), pool, Model{In: "beside", Tables: []string{"rows"}, Schema: rowsSchema})
	require.NoError(t, err)
	p := (&shelf{ReadModel: beside}).projection()
	p.Inline = true
	require.Error(t, (&projection.Group{Store: s}).Add(p))
	other := openStore(t, newPool(t, postgrestest.URL(t), 8))
	p = openShelf(t, other).projection()
	p.Inline = true
	require.Error(t, (&projection.Group{Store: s}).Add(p))
}

// What another process has committed above the first append's positions is hidden from the second, until both are committed.
func TestWhatWasCommittedBetweenTwoAppendsOfOneTransactionIsNotPassedOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	d := b.open(t, Options{})
	s := eventstore.New(d, &eventstore.Options{Logger: discard})
	m, err := Target(t.Context(), s, Model{Tables: []string{"counts"}, Schema: "CREATE TABLE counts(n int)"})
	require.NoError(t, err)
	results := d.AppendWith(t.Context(), []driver.Append{one("a-1", driver.Any), one("b-1", driver.Any)}, func(tx any, events []driver.Recorded) error {
		err := m.UpdateIn(t.Context(), tx, "c", func(pgx.Tx, eventstore.Position) (eventstore.Position, error) {
			return eventstore.Position(events[0].Position), nil
		})
		if err == nil && events[0].Stream == "a-1" {
			err = d.Append(t.Context(), one("z-1", driver.Any)).Err
		}
		return err
	})
	require.NoError(t, results[0].Err)
	require.NoError(t, results[1].Err)
	at, err := m.Load(t.Context(), "c")
	require.NoError(t, err)
	require.Equal(t, results[0].Last, uint64(at))
}
