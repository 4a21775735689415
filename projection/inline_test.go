package projection_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// rows is a model in the store's file: what was put.
type rows struct {
	*sqlitestore.ReadModel
	bad poison
}

func openRows(t testing.TB, s *eventstore.Store, in func(*eventstore.Store, sqlitestore.Model) (*sqlitestore.ReadModel, error)) *rows {
	m, err := in(s, sqlitestore.Model{Tables: []string{"rows"},
		Schema: `CREATE TABLE rows(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, position INTEGER NOT NULL UNIQUE) STRICT`})
	require.NoError(t, err)
	return &rows{ReadModel: m}
}

func (m *rows) projection() *projection.Projection[*sqlite.Conn] {
	return &projection.Projection[*sqlite.Conn]{
		Name: "rows", Target: m.ReadModel, Inline: true,
		Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Put, r *eventstore.Recorded) error {
			err := sqlitex.Execute(c, "INSERT INTO rows(n, position) VALUES(?, ?)", &sqlitex.ExecOptions{Args: []any{e.N, int64(r.Position)}})
			if err == nil && m.bad.in(e.N) {
				return errBoom
			}
			return err
		})},
	}
}

func (m *rows) list(t testing.TB) (ns []int) {
	require.NoError(t, m.Read(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "SELECT n FROM rows ORDER BY id", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			ns = append(ns, st.ColumnInt(0))
			return nil
		}})
	}))
	return ns
}

func openFile(t testing.TB) *eventstore.Store {
	s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), &sqlitestore.Options{Store: eventstore.Options{Logger: quiet}})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	register(t, s)
	require.NoError(t, s.Types.Register("put", Put{}))
	return s
}

func TestAnInlineModelHasTheEventWhenTheAppendReturns(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	at := put(t, s, "a", 1, 2)
	require.Equal(t, []int{1, 2}, m.list(t), "although the group does not run")
	require.NoError(t, g.Wait(t.Context(), at))
	start(t, g)
	at = note(t, s, 3)
	require.NoError(t, g.Wait(t.Context(), at))
	require.Equal(t, at, status(t, g, "rows").Position, "events that it does not handle move it too")

	m.bad.put(4)
	_, err := s.Append(t.Context(), "shelf-b", eventstore.Any, eventstore.Event{Data: Put{"b", 3}}, eventstore.Event{Data: Put{"b", 4}})
	require.ErrorIs(t, err, errBoom)
	info, err := s.Stream(t.Context(), "shelf-b")
	require.NoError(t, err)
	require.Zero(t, info.Version, "nothing of it was written")
	require.Equal(t, []int{1, 2}, m.list(t))
	put(t, s, "b", 5)
	require.Equal(t, []int{1, 2, 5}, m.list(t))
}

func TestInlineAppendsOfManyFailAlone(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	start(t, g)
	for n := 0; n < 200; n += 9 {
		m.bad.put(n)
	}
	var wg sync.WaitGroup
	errs := make([]error, 200)
	for n := range errs {
		wg.Go(func() {
			_, errs[n] = s.Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(n%7)), eventstore.Any, eventstore.Event{Data: Put{"k", n}})
		})
	}
	wg.Wait()
	var want, got []int
	for n, err := range errs {
		require.Equal(t, n%9 == 0, errors.Is(err, errBoom), "%d: %v", n, err)
	}
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		want = append(want, r.Data.(Put).N)
	}
	got = m.list(t)
	require.Len(t, got, 177)
	require.Equal(t, want, got, "in the order of the events")
}

func TestAnInlineModelCatchesUpWithWhatItMissed(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	var want []int
	for n := range 10 {
		put(t, s, "a", n)
		want = append(want, n)
	}
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	put(t, s, "a", 10)
	want = append(want, 10)
	require.Equal(t, want, m.list(t), "a few by the append itself")
	require.NoError(t, m.Reset(t.Context(), "rows"))
	ns := make([]int, 200)
	for i := range ns {
		ns[i] = 100 + i
	}
	want = append(want, ns...)
	put(t, s, "a", ns...)
	require.NoError(t, m.Reset(t.Context(), "rows"))
	m.bad.put(100)
	at := put(t, s, "a", 11)
	want = append(want, 11)
	require.Empty(t, m.list(t), "many it leaves to the group")
	start(t, g)
	time.Sleep(time.Millisecond)
	at = max(at, put(t, s, "a", 12))
	want = append(want, 12)
	m.bad.cure()
	wait(t, g, at)
	require.Equal(t, want, m.list(t))
	// From here it is with the appends again.
	put(t, s, "a", 13)
	require.Equal(t, append(want, 13), m.list(t))
}

func TestAnOldEventThatFailsIsNoAppendsFault(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	put(t, s, "a", 1)
	put(t, s, "a", 2)
	m.bad.put(2)
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	at := put(t, s, "a", 3)
	require.Empty(t, m.list(t), "nor is anything of it left")
	start(t, g)
	m.bad.cure()
	wait(t, g, at)
	require.Equal(t, []int{1, 2, 3}, m.list(t))
}

func TestInlineNeedsTheStoresOwnDatabase(t *testing.T) {
	t.Parallel()
	s, other := openFile(t), openFile(t)
	for name, m := range map[string]*rows{
		"beside the log": openRows(t, s, sqlitestore.Target),
		"another store":  openRows(t, other, sqlitestore.TargetIn),
	} {
		require.Error(t, newGroup(s).Add(m.projection()), name)
	}
	p := logged("log", &projection.Memory[Log]{})
	p.Inline = true
	require.Error(t, newGroup(newStore(t)).Add(p), "memory")
	p2 := openRows(t, s, sqlitestore.TargetIn).projection()
	p2.Partitions = 2
	require.Error(t, newGroup(s).Add(p2))
}

func TestLoadMakesAModelOnDemand(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	p := logged("log", nil)
	m, at, err := projection.Load(t.Context(), s, p)
	require.NoError(t, err)
	require.Empty(t, m.Seen)
	require.Zero(t, at)
	add(t, s, 1, 2)
	last := note(t, s, 1)
	m, at, err = projection.Load(t.Context(), s, p)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, m.Seen)
	require.Equal(t, last, at)
	p.Filter.Streams = []eventstore.StreamName{"none-1"}
	m, _, err = projection.Load(t.Context(), s, p)
	require.NoError(t, err)
	require.Empty(t, m.Seen)

	p = logged("log", nil)
	p.Handlers[0] = projection.On(func(context.Context, *Log, Added, *eventstore.Recorded) error { return errBoom })
	_, _, err = projection.Load(t.Context(), s, p)
	require.ErrorIs(t, err, errBoom)
	p.Handlers = nil
	_, _, err = projection.Load(t.Context(), s, p)
	require.Error(t, err)
	p = logged("log", nil)
	p.Handlers[0] = projection.On(func(context.Context, *Log, Added, *eventstore.Recorded) error { panic("boom") })
	_, _, err = projection.Load(t.Context(), s, p)
	var panicked *projection.PanicError
	require.ErrorAs(t, err, &panicked)
}

func TestWhatAnInlineModelLeavesItDoesNotPassOver(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	old := put(t, s, "a", 0)
	p := m.projection()
	var calls atomic.Int64
	p.Handlers = []projection.Handler[*sqlite.Conn]{projection.On(func(ctx context.Context, c *sqlite.Conn, e Put, r *eventstore.Recorded) error {
		// The event from before fails now and then, so that some appends of a transaction are left and later ones are not.
		if r.Position == old && calls.Add(1)%3 != 0 {
			return errBoom
		}
		return insert(c, e.N, r.Position)
	})}
	g := newGroup(s)
	require.NoError(t, g.Add(p))
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			_, err := s.Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(n)), eventstore.Any, eventstore.Event{Data: Put{"k", n + 1}})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	start(t, g)
	wait(t, g, put(t, s, "a", 41))
	got := m.list(t)
	slices.Sort(got)
	want := make([]int, 42)
	for i := range want {
		want[i] = i
	}
	require.Equal(t, want, got)
}
