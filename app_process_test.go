package levada_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// A Chain counts one counter after the other.
type Chain struct{ N int }

func (c *Chain) counted(e Counted) []command.Command {
	c.N = e.N
	if e.N > 3 {
		return nil
	}
	return []command.Command{Count{"a"}, process.After(time.Minute, Count{"b"})}
}

func chains() *process.Type[Chain] {
	return &process.Type[Chain]{
		Name:     "chain",
		Routes:   []process.Route[Chain]{process.Start(func(Counted) string { return "all" }, (*Chain).counted)},
		Commands: map[string]command.Command{"count": Count{}},
		OnError:  func(process.Failure) process.Action { return process.Stop() },
	}
}

func TestAnAppRunsProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Totals]
		var seen atomic.Int64
		count := func(next command.Handler) command.Handler {
			return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
				seen.Add(1)
				return next.HandleCommand(ctx, e)
			})
		}
		app := newApp(t, newStore(t), levada.Config{
			Projections: []projection.Runner{totals(&m)}, Processes: []process.Opener{chains()}, Middleware: []command.Middleware{count},
		})
		stop := run(t, app)
		_, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait("chain", "totals"))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 4, total(&m, "a"))
		require.EqualValues(t, 4, seen.Load(), "its commands pass the middleware, too")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, total(&m, "b"), "the timers' commands are equal, and so it is one timer")
		require.Equal(t, 5, total(&m, "a"), "which led to another")
		list, err := app.Status(t.Context())
		require.NoError(t, err)
		var names []string
		for _, s := range list {
			names = append(names, s.Name)
			require.Equal(t, projection.Running, s.State)
			require.Zero(t, s.Lag, s.Name)
		}
		require.Equal(t, []string{"totals", "chain", "timers"}, names)
		require.NoError(t, app.Healthy(t.Context()))
		require.NoError(t, stop())
	})
}

func TestAProcessThatStoppedIsUnhealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		app := newApp(t, newStore(t), levada.Config{Processes: []process.Opener{chains()}, Middleware: []command.Middleware{
			func(next command.Handler) command.Handler {
				return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
					if e.Causation != e.ID && len(e.Key) > 0 {
						return command.Result{Refused: true}, errFull
					}
					return next.HandleCommand(ctx, e)
				})
			},
		}})
		run(t, app)
		_, err := app.Dispatch(t.Context(), Count{"a"})
		require.NoError(t, err)
		synctest.Wait()
		require.ErrorContains(t, app.Healthy(t.Context()), "full")
		_, err = app.Dispatch(t.Context(), Count{"b"}, command.Wait("chain"))
		require.ErrorIs(t, err, command.ErrNotAwaited)
	})
}

// One definition runs in as many apps as there are stores, and each knows of its own events only.
func TestAppsOnStoresOfTheirOwnShareNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		typ := chains()
		models := make([]projection.Memory[Totals], 2)
		var apps []*levada.App
		for i := range models {
			app := newApp(t, newStore(t), levada.Config{Projections: []projection.Runner{totals(&models[i])}, Processes: []process.Opener{typ}})
			run(t, app)
			apps = append(apps, app)
		}
		_, err := apps[0].Dispatch(t.Context(), Count{"a"}, command.Wait("chain", "totals"))
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 4, total(&models[0], "a"))
		require.Zero(t, total(&models[1], "a"))
		for i, want := range []int{1, 0} {
			n := 0
			for _, err := range process.Instances(t.Context(), apps[i].Store, "chain", process.All) {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, want, n)
		}
		consumers, err := apps[1].Store.Consumers(t.Context())
		require.NoError(t, err)
		require.Zero(t, consumers[0].Position)
	})
}

func TestStuckInstancesMakeAnAppUnhealthy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		typ := chains()
		typ.OnError = func(process.Failure) process.Action { return process.Park() }
		refuse := func(next command.Handler) command.Handler {
			return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
				if e.Causation != e.ID && len(e.Key) > 0 {
					return command.Result{Refused: true}, errFull
				}
				return next.HandleCommand(ctx, e)
			})
		}
		config := levada.Config{Processes: []process.Opener{typ}, Middleware: []command.Middleware{refuse}}
		s := newStore(t)
		app := newApp(t, s, config)
		stop := run(t, app)
		_, err := app.Dispatch(t.Context(), Count{"a"}, command.Wait("chain"))
		require.NoError(t, err)
		require.ErrorContains(t, app.Healthy(t.Context()), "process chain has 1 stuck instances")
		_, err = process.CancelStuck(t.Context(), s, "chain", "all")
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, app.Healthy(t.Context()))
		_, err = app.Dispatch(t.Context(), Count{"a"}, command.Wait("chain"))
		require.NoError(t, err)
		require.Error(t, app.Healthy(t.Context()))
		require.NoError(t, stop())
		for bound, healthy := range map[int]bool{-1: true, 0: false, 1: true} {
			config.MaxStuck = bound
			tolerant := newApp(t, s, config)
			stop := run(t, tolerant)
			require.Equal(t, healthy, tolerant.Healthy(t.Context()) == nil, "up to %d", bound)
			require.NoError(t, stop())
		}
	})
}

func TestAnAppKeepsCommandsForLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m projection.Memory[Totals]
		app := newApp(t, newStore(t), levada.Config{
			Projections: []projection.Runner{totals(&m)}, Commands: map[string]command.Command{"count": Count{}},
		})
		run(t, app)
		_, err := command.DispatchAfter(t.Context(), app, time.Hour, Count{"a"})
		require.NoError(t, err)
		_, err = command.DispatchAfter(t.Context(), app, time.Hour, Count{"a"}, command.Once("k"))
		require.NoError(t, err)
		require.NoError(t, command.CancelScheduled(t.Context(), app, "k"))
		_, err = command.DispatchAfter(t.Context(), app, time.Hour, ghost{})
		require.ErrorIs(t, err, schedule.ErrUnnamed)
		eventstoretest.Settle(t, app.Group, app.Store)
		require.Zero(t, total(&m, "a"))
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		require.Equal(t, 1, total(&m, "a"))

		app = newApp(t, newStore(t), levada.Config{})
		_, err = command.DispatchAfter(t.Context(), app, time.Hour, Count{"a"})
		require.ErrorIs(t, err, command.ErrNoScheduler)
	})
}

type ghost struct{}

func (ghost) AggregateID() string { return "" }

func TestNewReportsWhatIsWrongWithProcessesAndCommands(t *testing.T) {
	t.Parallel()
	other := chains()
	other.Routes = append(other.Routes, process.On(func(int) string { return "" }, func(*Chain, int) []command.Command { return nil }))
	other.Name = "a-b"
	_, err := levada.New(newStore(t), levada.Config{
		Aggregates: []aggregate.Opener{counters()},
		Processes:  []process.Opener{nil, chains(), chains(), other},
		Commands:   map[string]command.Command{"ghost": ghost{}, "nil": nil},
	})
	for _, want := range []string{"Processes[0] is nil", "two are named \"chain\"", "dash", `command "nil"`} {
		require.ErrorContains(t, err, want)
	}
	_, err = levada.New(newStore(t), levada.Config{Commands: map[string]command.Command{"ghost": ghost{}}})
	require.ErrorIs(t, err, command.ErrUnrouted, "nothing would handle it when its time has come")
}
