package process_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// planning is a process whose Began sets timers, and whose Went cancels one or sets it anew.
func planning() *process.Type[Job] {
	typ := jobs()
	typ.Routes[0] = process.Start(func(e Began) string { return e.ID }, func(j *Job, e Began) (cmds []command.Command) {
		for _, what := range e.Do {
			cmds = append(cmds, process.After(time.Minute, Do{e.ID, what}))
		}
		return cmds
	})
	typ.Routes[1] = process.On(func(e Went) string { return e.ID }, func(j *Job, e Went) []command.Command {
		if e.Do == "again" {
			return []command.Command{process.After(time.Minute, Do{e.ID, "a"})}
		}
		return []command.Command{process.Cancel(Do{e.ID, e.Do}), process.Cancel(Do{e.ID, "never set"})}
	})
	return typ
}

func TestTimersFireOnceAtTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, planning(), w)
		l.happen(Began{"1", []string{"a", "b"}})
		require.Len(t, l.read("1").Timers, 2)
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		require.Empty(t, w.did(), "not before")
		time.Sleep(time.Second)
		synctest.Wait()
		require.ElementsMatch(t, []string{"a", "b"}, w.did())
		require.Empty(t, l.read("1").Timers)
		require.Equal(t, []string{"handled", "handled", "handled"}, l.history("1"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Len(t, w.asked, 2)
	})
}

func TestTimersSurviveRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, planning(), w)
		l.happen(Began{"1", []string{"a"}})
		require.NoError(t, l.stop())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Empty(t, w.did())
		l.run()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"a"}, w.did(), "what came due meanwhile is sent at once")
		require.NoError(t, l.stop())
		l.run()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"a"}, w.asked)
	})
}

func TestTimersAreTakenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, planning(), w)
		l.happen(Began{"1", []string{"a", "b"}}, Began{"2", []string{"c"}}, Began{"3", []string{"a"}})
		l.happen(Went{"1", "a"}, Ended{"2"})
		time.Sleep(time.Minute / 2)
		synctest.Wait()
		l.happen(Went{"3", "again"})
		time.Sleep(time.Minute/2 + time.Second)
		synctest.Wait()
		require.ElementsMatch(t, []string{"end", "b"}, w.did(), "a was cancelled, c ended with its instance, 3 was put off")
		time.Sleep(time.Minute / 2)
		synctest.Wait()
		require.ElementsMatch(t, []string{"end", "b", "a"}, w.did())
	})
}

func TestWhatBecomesOfATimersCommand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := planning()
		typ.Routes = append(typ.Routes, process.Refused(func(j *Job, c Do, err error) []command.Command {
			return []command.Command{Do{c.ID, "instead"}, process.After(time.Minute, Do{c.ID, "later"})}
		}))
		l := job(t, typ, w)
		w.fail("a", true, errRefused)
		w.fail("b", false, errBroken)
		l.happen(Began{"1", []string{"a", "b"}})
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		require.ElementsMatch(t, []string{"instead", "b"}, w.did())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ElementsMatch(t, []string{"instead", "b", "later"}, w.did())
	})
}

func TestATimerComesDueWhileTheInstanceIsStuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := planning()
		typ.Routes[2] = process.On(func(e Met) []string { return e.IDs }, func(*Job, Met) []command.Command { return []command.Command{Do{"1", "x"}} })
		l := job(t, typ, w)
		w.fail("x", true, errRefused)
		l.happen(Began{"1", []string{"a"}}, Met{[]string{"1"}})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Empty(t, w.did())
		require.Equal(t, 1, l.read("1").Waiting)
		_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{"x", "a"}, w.did())
		require.Zero(t, l.read("1").Waiting)
	})
}

func TestTimersOfCommandsWithoutANameAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []command.Command{process.After(1, Report{"1"}), process.Cancel(Report{"1"}), process.After(1, nil), process.After(1, process.After(1, Do{"1", "x"}))} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{}
			typ := jobs()
			typ.Routes[1] = process.On(func(e Went) string { return e.ID }, func(*Job, Went) []command.Command { return []command.Command{Do{"1", "a"}, c, Do{"1", "b"}} })
			var seen error
			typ.OnError = func(f process.Failure) process.Action {
				seen = f.Err
				return process.Default(f)
			}
			l := job(t, typ, w)
			l.happen(Began{"1", nil}, Went{"1", ""})
			require.ErrorIs(t, seen, eventstore.ErrInvalid)
			if errors.Is(seen, schedule.ErrUnnamed) {
				require.ErrorContains(t, seen, "process_test.Report")
				require.ErrorContains(t, seen, "Type.Commands")
			}
			require.Equal(t, process.Stuck, l.read("1").Status)
			require.Equal(t, []string{"a"}, w.did())
		})
	}
}

func TestTimersOfSeveralNodesFireOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		d := memstore.NewDriver()
		nodes := func(*eventstore.Store) []projection.Runner {
			return []projection.Runner{planning().Open(w), &schedule.Timers{}}
		}
		a := begin(t, shared{d.(everything)}, nodes)
		b := begin(t, shared{d.(everything)}, nodes)
		time.Sleep(10 * time.Second) // to share the work
		synctest.Wait()
		var want []string
		for _, id := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"} {
			a.happen(Began{id, []string{id}})
			want = append(want, id)
		}
		head, err := a.store.Head(t.Context())
		require.NoError(t, err)
		for _, l := range []*lab{a, b} {
			require.NoError(t, l.group.Wait(t.Context(), head), "either knows when both have handled everything")
		}
		require.NoError(t, a.stop())
		time.Sleep(time.Minute + 10*time.Second)
		synctest.Wait()
		require.ElementsMatch(t, want, w.did(), "b took over")
		require.Len(t, w.asked, 9)
	})
}
