package projection_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// tables returns the names of the tables in the store's file that begin so.
func tables(t testing.TB, s *eventstore.Store, prefix string) (names []string) {
	var db *sqlitestore.DB
	require.True(t, s.As(&db))
	require.NoError(t, db.Read(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE ? || '%' ORDER BY name", &sqlitex.ExecOptions{
			Args:       []any{prefix},
			ResultFunc: func(st *sqlite.Stmt) error { names = append(names, st.ColumnText(0)); return nil },
		})
	}))
	return names
}

func TestAnInlineProjectionCanBeRemoved(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprint("running ", running), func(t *testing.T) {
			t.Parallel()
			s := openFile(t)
			m := openRows(t, s, sqlitestore.TargetIn)
			g := newGroup(s)
			p := m.projection()
			require.NoError(t, g.Add(p))
			at := put(t, s, "a", 1)
			stop := func() error { return nil }
			if running {
				stop = start(t, g)
				wait(t, g, at)
			}
			require.NoError(t, g.Remove(t.Context(), "rows"))
			m.bad.put(2)
			at = put(t, s, "a", 2)
			require.Empty(t, tables(t, s, "rows"), "nothing is left of it, and nobody writes to it")
			place, err := m.Load(t.Context(), "rows")
			require.NoError(t, err)
			require.Zero(t, place)
			err = g.Wait(t.Context(), at, "rows")
			stopped, ok := errors.AsType[*projection.StoppedError](err)
			require.True(t, ok)
			require.Empty(t, stopped.State)
			require.NoError(t, g.Wait(t.Context(), at), "nobody else waits for it")
			require.ErrorAs(t, g.Remove(t.Context(), "rows"), &stopped)
			list, err := g.Status(t.Context())
			require.NoError(t, err)
			require.Empty(t, list)

			// Under its name another can begin.
			require.NoError(t, stop())
			m = openRows(t, s, sqlitestore.TargetIn)
			require.NoError(t, g.Add(m.projection()))
			put(t, s, "a", 3)
			require.Equal(t, []int{1, 2, 3}, m.list(t))
		})
	}
}

func TestAppendsGoOnWhileAnInlineProjectionIsRemoved(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	start(t, g)
	var writers sync.WaitGroup
	end := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				_, err := s.Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(w)), eventstore.Any, eventstore.Event{Data: Put{"k", n}})
				require.NoError(t, err)
			}
		})
	}
	for range 3 {
		require.Eventually(t, func() bool { at, err := m.Load(t.Context(), "rows"); return err == nil && at > 10 }, 10*time.Second, time.Millisecond)
		require.NoError(t, g.Reset(t.Context(), "rows"))
	}
	require.NoError(t, g.Remove(t.Context(), "rows"))
	close(end)
	writers.Wait()
	require.Empty(t, tables(t, s, "rows"))
}

func TestAppendsGoOnWithoutAnInlineProjectionThatIsPaused(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	start(t, g)
	wait(t, g, put(t, s, "a", 1))
	require.NoError(t, g.Pause(t.Context(), "rows"))
	m.bad.put(2)
	at := put(t, s, "a", 2)
	require.Equal(t, []int{1}, m.list(t))
	m.bad.cure()
	require.NoError(t, g.Resume("rows"))
	wait(t, g, at)
	put(t, s, "a", 3)
	require.Equal(t, []int{1, 2, 3}, m.list(t))
}

func TestAProjectionIsRemovedWithItsDeadLetters(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.Target)
	m.bad.put(1)
	g := newGroup(s)
	p := m.projection()
	p.Inline, p.OnError = false, projection.ParkAfter(1)
	require.NoError(t, g.Add(p))
	stop := start(t, g)
	wait(t, g, put(t, s, "a", 1, 2))
	parked, err := g.Parked(t.Context(), "rows")
	require.NoError(t, err)
	require.Len(t, parked, 1)
	require.NoError(t, g.Remove(t.Context(), "rows"))
	for r, err := range s.ReadStream(t.Context(), "$parked.rows-shelf-a", 0) {
		require.NoError(t, err)
		t.Fatalf("%+v is left", r)
	}
	require.NoError(t, stop())
	m.bad.cure()
	m2 := openRows(t, s, sqlitestore.Target)
	require.NoError(t, g.Add(m2.projection2(false)))
	start(t, g)
	at, err := s.Head(t.Context())
	require.NoError(t, err)
	wait(t, g, at)
	require.Equal(t, []int{1, 2}, m2.list(t))
	parked, err = g.Parked(t.Context(), "rows")
	require.NoError(t, err)
	require.Empty(t, parked)
}

func (m *rows) projection2(inline bool) *projection.Projection[*sqlite.Conn] {
	p := m.projection()
	p.Inline = inline
	return p
}

func TestEveryTargetForgetsWhatIsRemoved(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	var memory projection.Memory[Log]
	g := newGroup(s)
	p := &projection.Projection[struct{}]{Name: "sink", Target: projection.Checkpointed(s), Handlers: []projection.Handler[struct{}]{
		projection.On(func(context.Context, struct{}, Added, *eventstore.Recorded) error { return nil }),
	}}
	require.NoError(t, g.Add(logged("log", &memory), p))
	start(t, g)
	wait(t, g, add(t, s, 1, 2))
	points, err := s.Checkpoints()
	require.NoError(t, err)
	_, ok, err := points.LoadCheckpoint(t.Context(), "$projection.sink")
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, g.Remove(t.Context(), "log"))
	require.NoError(t, g.Remove(t.Context(), "sink"))
	require.Empty(t, seen(&memory))
	_, ok, err = points.LoadCheckpoint(t.Context(), "$projection.sink")
	require.NoError(t, err)
	require.False(t, ok)
}

// still is what cannot be forgotten.
type still struct{}

func (still) Task(*projection.Group) (projection.Task, error) {
	return projection.Task{Name: "still", Run: func(ctx context.Context) error { <-ctx.Done(); return nil }}, nil
}

func TestWhatCannotBeForgottenIsNotRemoved(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	g := newGroup(s)
	var memory projection.Memory[Log]
	broken := &projection.Projection[*Log]{Name: "log", Target: unforgetting{&memory}, Handlers: []projection.Handler[*Log]{projection.On(added)}}
	require.NoError(t, g.Add(still{}, broken))
	start(t, g)
	require.ErrorIs(t, g.Remove(t.Context(), "still"), errors.ErrUnsupported)
	require.ErrorIs(t, g.Remove(t.Context(), "log"), errBoom)
	at := add(t, s, 1)
	require.NoError(t, g.Wait(t.Context(), at, "log"), "it goes on")
}

type unforgetting struct{ *projection.Memory[Log] }

func (unforgetting) Remove(context.Context, string) error { return errBoom }

// next is a version of the model of rows in a table of its own, which holds twice what was put.
func openNext(t testing.TB, s *eventstore.Store, in func(*eventstore.Store, sqlitestore.Model) (*sqlitestore.ReadModel, error)) *rows {
	m, err := in(s, sqlitestore.Model{Tables: []string{"rows2"},
		Schema: `CREATE TABLE rows2(id INTEGER PRIMARY KEY, n INTEGER NOT NULL, position INTEGER NOT NULL UNIQUE) STRICT`})
	require.NoError(t, err)
	return &rows{ReadModel: m}
}

func (m *rows) next(replaying *counts) *projection.Projection[*sqlite.Conn] {
	p := m.projection()
	p.Name, p.Replaces = "rows2", "rows"
	p.Handlers = []projection.Handler[*sqlite.Conn]{projection.On(func(ctx context.Context, c *sqlite.Conn, e Put, r *eventstore.Recorded) error {
		err := sqlitex.Execute(c, "INSERT INTO rows2(n, position) VALUES(?, ?)", &sqlitex.ExecOptions{Args: []any{2 * e.N, int64(r.Position)}})
		if err == nil && m.bad.in(e.N) {
			return errBoom
		}
		replaying.note(r.Position, projection.Replaying(ctx))
		return err
	})}
	return p
}

// list2 is list for the next version.
func (m *rows) list2(t testing.TB) (ns []int) {
	require.NoError(t, m.Read(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "SELECT n FROM rows2 ORDER BY position", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			ns = append(ns, st.ColumnInt(0))
			return nil
		}})
	}))
	return ns
}

// counts knows for which positions side effects were held back.
type counts struct {
	mu   sync.Mutex
	back map[eventstore.Position]bool
}

func (c *counts) note(at eventstore.Position, back bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.back == nil {
		c.back = map[eventstore.Position]bool{}
	}
	c.back[at] = back
}

func TestAnInlineModelIsReplacedSideBySide(t *testing.T) {
	t.Parallel()
	for name, inline := range map[string][2]bool{"both inline": {true, true}, "then inline": {false, true}, "then not": {true, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openFile(t)
			first := openRows(t, s, sqlitestore.TargetIn)
			g := newGroup(s)
			require.NoError(t, g.Add(first.projection2(inline[0])))
			stop := start(t, g)
			var want []int
			ns := make([]int, 300)
			for i := range ns {
				ns[i] = i + 1
				want = append(want, 2*(i+1))
			}
			wait(t, g, put(t, s, "a", ns...))
			require.NoError(t, stop())

			g = newGroup(s)
			second := openNext(t, s, sqlitestore.TargetIn)
			var held counts
			next := second.next(&held)
			next.Inline = inline[1]
			require.NoError(t, g.Add(next, first.projection2(inline[0]))) // in whatever order
			name, err := g.Current(t.Context(), "rows")
			require.NoError(t, err)
			require.Equal(t, "rows", name)
			if inline[0] {
				put(t, s, "a", 301)
				want = append(want, 602)
				require.Len(t, first.list(t), 301, "the first one answers")
			}
			stop = start(t, g)
			require.Eventually(t, func() bool {
				n, err := g.Current(t.Context(), "rows")
				return err == nil && n == "rows2"
			}, 10*time.Second, time.Millisecond)
			switched := len(want)
			at := put(t, s, "a", 302)
			want = append(want, 604)
			if inline[1] {
				require.Equal(t, want, second.list2(t), "it has the event when the append returns")
			}
			require.NoError(t, g.Wait(t.Context(), at, "rows"), "who waits for the old name waits for the new one")
			require.Equal(t, want, second.list2(t))
			require.Len(t, first.list(t), switched, "the first one has ended")
			held.mu.Lock()
			require.Len(t, held.back, len(want))
			back := 0
			for _, b := range held.back {
				if b {
					back++
				}
			}
			held.mu.Unlock()
			require.Equal(t, switched, back, "side effects are held back up to the switch, and no further")
			require.Eventually(t, func() bool { return status(t, g, "rows").State == projection.Replaced }, 10*time.Second, time.Millisecond)
			require.ErrorIs(t, g.Remove(t.Context(), "rows2"), eventstore.ErrInvalid, "nobody would be there")
			require.NoError(t, g.Remove(t.Context(), "rows"))
			require.Equal(t, []string{"rows2"}, tables(t, s, "rows"))
			live := projection.Live[*rows]{Group: g, Models: map[string]*rows{"rows": first, "rows2": second}}
			for range 10 { // in whatever order it looks
				model, err := live.Model(t.Context())
				require.NoError(t, err)
				require.Same(t, second, model)
			}
			put(t, s, "a", 303)
			name, err = g.Current(t.Context(), "rows2")
			require.NoError(t, err)
			require.Equal(t, "rows2", name)

			// The program that comes next knows the first one no more.
			require.NoError(t, stop())
			g = newGroup(s)
			last := second.next(&held)
			last.Replaces, last.Inline = "", inline[1]
			require.NoError(t, g.Add(last))
			start(t, g)
			wait(t, g, put(t, s, "a", 304))
			require.Equal(t, append(want, 606, 608), second.list2(t))
		})
	}
}

func TestASuccessorThatIsGivenUpLeavesNothing(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	first, second := openRows(t, s, sqlitestore.TargetIn), openNext(t, s, sqlitestore.TargetIn)
	g := newGroup(s)
	require.NoError(t, g.Add(first.projection()))
	put(t, s, "a", 1)
	second.bad.put(1, 2) // it fails on everything
	stop := start(t, g)
	require.NoError(t, stop())
	var held counts
	require.NoError(t, g.Add(second.next(&held)))
	start(t, g)
	put(t, s, "a", 2)
	require.Equal(t, []int{1, 2}, first.list(t), "it is no fault of the append")
	require.ErrorIs(t, g.Remove(t.Context(), "rows"), eventstore.ErrInvalid, "there is nothing else to read from")
	require.NoError(t, g.Remove(t.Context(), "rows2"))
	require.Equal(t, []string{"rows"}, tables(t, s, "rows"))
	put(t, s, "a", 3)
	require.Equal(t, []int{1, 2, 3}, first.list(t))
	name, err := g.Current(t.Context(), "rows")
	require.NoError(t, err)
	require.Equal(t, "rows", name)
	require.NoError(t, g.Remove(t.Context(), "rows"))
}

// Whatever is appended while one version takes over from another, by however many and to however many streams at once,
// exactly one of them answers for it at every moment: a rule that both keep is never broken.
func TestNoAppendSlipsThroughBetweenTwoInlineVersions(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	rule := func(name, replaces, table string) *projection.Projection[*sqlite.Conn] {
		m, err := sqlitestore.TargetIn(s, sqlitestore.Model{Tables: []string{table},
			Schema: "CREATE TABLE " + table + "(n INTEGER PRIMARY KEY, position INTEGER NOT NULL UNIQUE) STRICT"})
		require.NoError(t, err)
		return &projection.Projection[*sqlite.Conn]{Name: name, Replaces: replaces, Target: m, Inline: true,
			Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Put, r *eventstore.Recorded) error {
				return sqlitex.Execute(c, "INSERT INTO "+table+"(n, position) VALUES(?, ?)", &sqlitex.ExecOptions{Args: []any{e.N, int64(r.Position)}})
			})}}
	}
	g := newGroup(s)
	require.NoError(t, g.Add(rule("once", "", "once"), rule("once2", "once", "once2"), rule("once3", "once2", "once3")))
	atomic, err := s.Atomic()
	require.NoError(t, err)
	start(t, g)
	var writers sync.WaitGroup
	end := make(chan struct{})
	for w := range 3 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-end:
					return
				default:
				}
				one, two := Put{"k", 2 * n}, Put{"k", 2*n + 1} // each is put by every writer; one may
				var err error
				if w == 0 {
					_, err = atomic.Append(t.Context(), eventstore.Part{Stream: "shelf-x", Expected: eventstore.Any, Events: []eventstore.Event{{Data: one}}},
						eventstore.Part{Stream: "shelf-y", Expected: eventstore.Any, Events: []eventstore.Event{{Data: two}}})
				} else {
					_, err = s.Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(w)), eventstore.Any, eventstore.Event{Data: one}, eventstore.Event{Data: two})
				}
				if err != nil && !strings.Contains(err.Error(), "UNIQUE") {
					t.Errorf("%v", err)
				}
			}
		})
	}
	require.Eventually(t, func() bool {
		n, err := g.Current(t.Context(), "once")
		return err == nil && n == "once3"
	}, 20*time.Second, time.Millisecond)
	more, err := s.Head(t.Context())
	require.NoError(t, err)
	require.Eventually(t, func() bool { at, err := s.Head(t.Context()); return err == nil && at > more+20 }, 20*time.Second, time.Millisecond)
	close(end)
	writers.Wait()
	seen := map[int]bool{}
	var ns []int
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		n := r.Data.(Put).N
		require.False(t, seen[n], "%d was put twice, the second time at %d", n, r.Position)
		seen[n] = true
		ns = append(ns, n)
	}
	var got []int
	var db *sqlitestore.DB
	require.True(t, s.As(&db))
	require.NoError(t, db.Read(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "SELECT n FROM once3 ORDER BY position", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
			got = append(got, st.ColumnInt(0))
			return nil
		}})
	}))
	require.True(t, slices.Equal(ns, got), "the last one has them all")
}
