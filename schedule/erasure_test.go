package schedule_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// A Congratulate says by its tag whose it is.
type Congratulate struct {
	User string
	Name string `shred:"User"`
}

func (c Congratulate) AggregateID() string { return c.User }

// A Joined is an event about somebody.
type Joined struct {
	User string
	Name string `shred:"User"`
}

// A memory is what commands come to when their time has come.
type memory struct {
	mu   sync.Mutex
	got  []command.Command
	fail func(command.Command) (command.Result, error)
}

func (r *memory) HandleCommand(_ context.Context, e *command.Envelope) (command.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, e.Command)
	if r.fail != nil {
		return r.fail(e.Command)
	}
	return command.Result{}, nil
}

func (r *memory) all() []command.Command {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// A mind keeps commands on a store that seals.
type mind struct {
	*node
	sealer *shred.Sealer
}

func remember(t *testing.T, d driver.Store, keys shred.Keys, h command.Handler) *mind {
	m := &mind{sealer: shred.New(keys, &shred.Options{Remember: -1})}
	m.node = &node{store: eventstore.New(d, &eventstore.Options{Logger: quiet, Seal: m.sealer})}
	require.NoError(t, m.store.Types.Register("joined", Joined{}))
	m.group = &projection.Group{Store: m.store, Logger: quiet}
	timers := &schedule.Timers{Commands: map[string]command.Command{"remind": Remind{}, "congratulate": Congratulate{}}, Handler: h}
	m.router.Handle(timers)
	require.NoError(t, m.group.Add(timers))
	m.begin()
	t.Cleanup(func() { m.stop() })
	return m
}

func (m *mind) status(t *testing.T) projection.Status {
	list, err := m.group.Status(t.Context())
	require.NoError(t, err)
	return list[0]
}

// kept returns what is stored about timers.
func (m *mind) kept(t *testing.T) string {
	var all strings.Builder
	for r, err := range m.store.ReadStream(t.Context(), "$timer", 0) {
		require.NoError(t, err)
		all.WriteString(r.Type + " " + string(r.Raw) + "\n")
	}
	return all.String()
}

func TestACommandThatIsErasedBeforeItsTimeIsLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var got memory
		m := remember(t, memstore.NewDriver(), &shred.Memory{}, &got)
		for _, c := range []command.Command{Congratulate{"ann", "Ann Lee"}, Congratulate{"bob", "Bob Kay"}, Remind{"x", "the party"}} {
			_, err := command.DispatchAfter(ctx, &m.router, time.Minute, c)
			require.NoError(t, err)
		}
		// What has no tag is for the subjects of the event in whose handling it is given.
		_, err := m.store.Append(ctx, "user-ann", eventstore.Any, eventstore.Event{Data: Joined{"ann", "Ann Lee"}})
		require.NoError(t, err)
		for r, err := range m.store.ReadStream(ctx, "user-ann", 0) {
			require.NoError(t, err)
			_, err = command.DispatchAfter(eventstore.NewContext(ctx, r), &m.router, time.Minute, Remind{"y", "of Ann Lee"})
			require.NoError(t, err)
		}
		require.NotContains(t, m.kept(t), "Ann")
		require.NotContains(t, m.kept(t), "Bob")
		require.Contains(t, m.kept(t), "the party")
		require.NoError(t, m.sealer.Shred(ctx, "ann"))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ElementsMatch(t, []command.Command{Congratulate{"bob", "Bob Kay"}, Remind{"x", "the party"}}, got.all())
		s := m.status(t)
		require.EqualValues(t, 2, s.Handled)
		require.EqualValues(t, 2, s.Skipped, "which says that two were left out")
		require.Equal(t, 2, strings.Count(m.kept(t), `erased"`), "and so does the stream")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, got.all(), 2, "they do not come again")

		_, err = command.DispatchAfter(ctx, &m.router, time.Minute, Congratulate{"ann", "Ann Lee"})
		require.ErrorIs(t, err, eventstore.ErrErased, "nothing new is kept")
	})
}

func TestWhyACommandFailedIsErasedWithIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		m := remember(t, memstore.NewDriver(), &shred.Memory{}, &memory{fail: func(c command.Command) (command.Result, error) {
			return command.Result{Refused: true}, errors.New("we do not like " + c.(Congratulate).Name)
		}})
		_, err := command.DispatchAfter(ctx, &m.router, time.Minute, Congratulate{"ann", "Ann Lee"})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Contains(t, m.kept(t), "$timer.done")
		require.NotContains(t, m.kept(t), "Ann")
	})
}

func TestACommandAboutSomebodyErasedIsGivenUpAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := memory{fail: func(command.Command) (command.Result, error) {
			return command.Result{}, errors.Join(eventstore.ErrCodec, eventstore.ErrErased) // as an append about her fails
		}}
		m := remember(t, memstore.NewDriver(), &shred.Memory{}, &got)
		_, err := command.DispatchAfter(t.Context(), &m.router, time.Minute, Remind{"x", "y"})
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Len(t, got.all(), 1)
	})
}

// A key store that does not answer puts a command off, for however long.
func TestACommandWaitsForItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got memory
		keys := &flaky{Keys: &shred.Memory{}}
		m := remember(t, memstore.NewDriver(), keys, &got)
		_, err := command.DispatchAfter(t.Context(), &m.router, time.Minute, Congratulate{"ann", "Ann Lee"})
		require.NoError(t, err)
		keys.down.Store(true)
		time.Sleep(10 * time.Minute) // more than twenty attempts
		synctest.Wait()
		require.Empty(t, got.all())
		keys.down.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []command.Command{Congratulate{"ann", "Ann Lee"}}, got.all())
	})
}

type flaky struct {
	shred.Keys
	down atomic.Bool
}

func (f *flaky) Find(ctx context.Context, subject string) ([]byte, error) {
	if f.down.Load() {
		return nil, errors.New("the keys are locked away")
	}
	return f.Keys.Find(ctx, subject)
}

// What is carried to the end of the stream, and read by another node, is as it was, and erased as it would have been.
func TestSealedCommandsSurviveBeingCarried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var got memory
		d, keys := memstore.NewDriver().(engine), &shred.Memory{}
		m := remember(t, shared{d}, keys, &got)
		for _, c := range []command.Command{Congratulate{"ann", "Ann Lee"}, Congratulate{"bob", "Bob Kay"}} {
			_, err := command.DispatchAfter(ctx, &m.router, time.Minute, c, command.Once(c.AggregateID()))
			require.NoError(t, err)
		}
		for range 5_000 { // which makes the stream longer than it may be
			_, err := command.DispatchAfter(ctx, &m.router, time.Hour, Remind{"x", "y"}, command.Once("again and again"))
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Equal(t, 2, strings.Count(m.kept(t), "$timer.carried"))
		require.NotContains(t, m.kept(t), "Ann")
		m.stop()
		m = remember(t, shared{d}, keys, &got)
		require.NoError(t, m.sealer.Shred(ctx, "ann"))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []command.Command{Congratulate{"bob", "Bob Kay"}}, got.all())
		require.EqualValues(t, 1, m.status(t).Skipped)
	})
}

// Keys and timers in SQLite, over a restart.
func TestErasureInSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx := t.Context()
	got := make(chan command.Command, 10)
	open := func() (*mind, func()) {
		keys, err := sqlitestore.OpenKeys(filepath.Join(dir, "keys.db"))
		require.NoError(t, err)
		d, err := sqlitestore.OpenDriver(filepath.Join(dir, "log.db"), nil)
		require.NoError(t, err)
		m := remember(t, d, keys, command.HandlerFunc(func(_ context.Context, e *command.Envelope) (command.Result, error) {
			got <- e.Command
			return command.Result{}, nil
		}))
		return m, func() {
			m.stop()
			require.NoError(t, m.store.Close())
			require.NoError(t, keys.Close())
		}
	}
	m, end := open()
	m.stop() // before anything is due
	for _, c := range []command.Command{Congratulate{"ann", "Ann Lee"}, Congratulate{"bob", "Bob Kay"}} {
		_, err := command.DispatchAfter(ctx, &m.router, time.Millisecond, c)
		require.NoError(t, err)
	}
	require.NoError(t, m.sealer.Shred(ctx, "ann"))
	end()
	m, end = open()
	defer end()
	require.Equal(t, Congratulate{"bob", "Bob Kay"}, <-got)
	require.Eventually(t, func() bool { return m.status(t).Skipped == 1 }, 10*time.Second, time.Millisecond)
}
