package projection_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// limited is a target that asks for short transactions.
type limited struct {
	*tap[*Log]
	events int
	hold   time.Duration
}

func (l limited) BatchLimit() (int, time.Duration) { return l.events, l.hold }

func TestALimiterGetsShortTransactions(t *testing.T) {
	t.Parallel()
	numbers := make([]int, 500)
	for i := range numbers {
		numbers[i] = i
	}
	t.Run("by events", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			at := add(t, s, numbers...)
			var m projection.Memory[Log]
			target := limited{tap: &tap[*Log]{Target: &m}, events: 200}
			g := newGroup(s)
			require.NoError(t, g.Add(logged("log", target)))
			start(t, g)
			require.NoError(t, g.Wait(t.Context(), at))
			require.Equal(t, numbers, seen(&m))
			require.Equal(t, []update{{0, 200}, {200, 400}, {400, 500}}, target.written())
		})
	})
	t.Run("by time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			at := add(t, s, numbers...)
			var m projection.Memory[Log]
			target := limited{tap: &tap[*Log]{Target: &m}, hold: 20 * time.Millisecond}
			g := newGroup(s)
			pace := 100 * time.Microsecond
			require.NoError(t, g.Add(failing(target, func(n int) error {
				if n == 300 {
					pace = 15 * time.Millisecond
				}
				time.Sleep(pace)
				return nil
			}, nil)))
			start(t, g)
			require.NoError(t, g.Wait(t.Context(), at))
			require.Equal(t, numbers, seen(&m))
			var sizes []int
			for _, u := range target.written() {
				sizes = append(sizes, int(u.to-u.from))
			}
			// Quick events fill ever longer transactions, slow ones shrink them.
			require.Equal(t, []int{16, 32, 64, 128, 128, 64, 32, 16, 8, 4, 2}, sizes[:11])
			for _, n := range sizes[11:] {
				require.Equal(t, 1, n)
			}
		})
	})
	t.Run("with the parts of an event together", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t)
			require.NoError(t, s.Types.Add(eventstore.UpcastSplit("added.old", func(o addedOld) []any {
				return []any{Added{1}, Added{2}, Added{3}}
			})))
			old := eventstore.Event{Type: "added.old", Raw: []byte(`{"M":5}`), ContentType: eventstore.JSON.ContentType()}
			at, err := s.Append(t.Context(), "sum-1", eventstore.Any, old, old)
			require.NoError(t, err)
			var m projection.Memory[Log]
			target := limited{tap: &tap[*Log]{Target: &m}, events: 2}
			g := newGroup(s)
			require.NoError(t, g.Add(logged("log", target)))
			start(t, g)
			require.NoError(t, g.Wait(t.Context(), at.Position))
			require.Equal(t, []update{{0, 1}, {1, 2}}, target.written())
			require.Equal(t, []int{1, 2, 3, 1, 2, 3}, seen(&m))
		})
	})
}

func TestATargetThatIsClosedEndsRunWithAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		add(t, s, 1)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &tap[*Log]{Target: &m, before: func(eventstore.Position) error {
			return fmt.Errorf("update: %w", eventstore.ErrClosed)
		}})))
		require.ErrorIs(t, g.Run(t.Context()), eventstore.ErrClosed)
	})
}

// On a real database: of two groups that run the same projection one comes and
// goes while events are appended.
func TestEveryEventCountsOnceInSQLite(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]func(*eventstore.Store, sqlitestore.Model) (*sqlitestore.ReadModel, error){
		"beside the log": sqlitestore.Target,
		"in the log":     sqlitestore.TargetIn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "events.db")
			s, err := sqlitestore.Open(path, &sqlitestore.Options{Store: eventstore.Options{Logger: quiet}})
			require.NoError(t, err)
			t.Cleanup(func() { s.Close() })
			register(t, s)
			model, err := target(s, sqlitestore.Model{
				Tables: []string{"seen"},
				Schema: `CREATE TABLE seen(id INTEGER PRIMARY KEY, n INTEGER NOT NULL) STRICT`,
			})
			require.NoError(t, err)
			newTwin := func() *projection.Group {
				g := newGroup(s)
				require.NoError(t, g.Add(&projection.Projection[*sqlite.Conn]{
					Name: "seen", Target: model,
					Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Added, r *eventstore.Recorded) error {
						if err := sqlitex.Execute(c, "INSERT INTO seen(n) VALUES(?)", &sqlitex.ExecOptions{Args: []any{e.N}}); err != nil {
							return err
						}
						if e.N%7 == 0 {
							return errBoom
						}
						return nil
					})},
					OnError: func(f projection.Failure) projection.Action { return projection.Skip() },
				}))
				return g
			}
			a, b := newTwin(), newTwin()
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() {
				for ctx.Err() == nil { // b comes and goes
					turn, end := context.WithTimeout(ctx, 20*time.Millisecond)
					if err := b.Run(turn); err != nil {
						t.Error(err)
					}
					end()
				}
			})
			stop := start(t, a)
			var last eventstore.Position
			var want []int
			for n := 1; n <= 100; n++ {
				last = add(t, s, n)
				if n%3 == 0 {
					last = note(t, s, 1)
				}
				if n%7 != 0 {
					want = append(want, n)
				}
			}
			require.NoError(t, a.Wait(t.Context(), last))
			cancel()
			wg.Wait()
			require.NoError(t, stop())
			read := func() (got []int) {
				require.NoError(t, model.Read(context.Background(), func(c *sqlite.Conn) error {
					return sqlitex.Execute(c, "SELECT n FROM seen ORDER BY id", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
						got = append(got, st.ColumnInt(0))
						return nil
					}})
				}))
				return got
			}
			require.Equal(t, want, read())
			at, err := model.Load(context.Background(), "seen")
			require.NoError(t, err)
			require.Equal(t, last, at)

			require.NoError(t, a.Reset(t.Context(), "seen"))
			require.Empty(t, read())
			start(t, a)
			require.NoError(t, a.Wait(t.Context(), last))
			require.Equal(t, want, read())
		})
	}
}

// A second opening of the file, for reading, is what another process has of it.
func TestAnotherProcessWaitsForAModelInSQLite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.db")
	open := func(readOnly bool) (*eventstore.Store, *sqlitestore.ReadModel, *projection.Group) {
		s, err := sqlitestore.Open(path, &sqlitestore.Options{ReadOnly: readOnly, Store: eventstore.Options{Logger: quiet}})
		require.NoError(t, err)
		t.Cleanup(func() { s.Close() })
		register(t, s)
		model, err := sqlitestore.Target(s, sqlitestore.Model{
			Tables: []string{"sum"},
			Schema: `CREATE TABLE sum(n INTEGER NOT NULL) STRICT; INSERT INTO sum VALUES(0)`,
		})
		require.NoError(t, err)
		g := newGroup(s)
		require.NoError(t, g.Add(&projection.Projection[*sqlite.Conn]{
			Name: "sum", Target: model,
			Handlers: []projection.Handler[*sqlite.Conn]{projection.On(func(_ context.Context, c *sqlite.Conn, e Added, _ *eventstore.Recorded) error {
				return sqlitex.Execute(c, "UPDATE sum SET n = n + ?", &sqlitex.ExecOptions{Args: []any{e.N}})
			})},
		}))
		return s, model, g
	}
	s, _, here := open(false)
	start(t, here)
	_, model, there := open(true)
	for n := 1; n <= 5; n++ {
		at := add(t, s, 1)
		require.NoError(t, there.Wait(t.Context(), at, "sum"))
		require.NoError(t, model.Read(t.Context(), func(c *sqlite.Conn) error {
			got, err := sqlitex.ResultInt(c.Prep("SELECT n FROM sum"))
			require.Equal(t, n, got)
			return err
		}))
	}
	at := note(t, s, 1)
	require.NoError(t, there.Wait(t.Context(), at), "a filtered position is written within a second")
	require.Equal(t, at, status(t, there, "sum").Position)
	require.Equal(t, projection.StandBy, status(t, there, "sum").State)
}
