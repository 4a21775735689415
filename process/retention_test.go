package process_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

const day = 24 * time.Hour

// keeping keeps what has ended for a day.
func keeping() *process.Type[Job] {
	typ := jobs()
	typ.KeepEnded = day
	return typ
}

func (l *lab) stream(name eventstore.StreamName) eventstore.StreamInfo {
	l.t.Helper()
	info, err := l.store.Stream(l.t.Context(), name)
	require.NoError(l.t, err)
	return info
}

// pass lets time pass while nothing runs, and then what is to be done after a start be done.
func (l *lab) pass(d time.Duration) {
	l.t.Helper()
	require.NoError(l.t, l.stop())
	time.Sleep(d)
	l.run()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
}

func TestWhatIsKeptOfAnInstanceThatEndedIsAStub(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, keeping(), w)
		l.happen(Began{"1", []string{"a", "b"}}, Went{"1", "c"}, Ended{"1"}, Began{"2", []string{"d"}})
		ended := l.read("1").Since
		require.Equal(t, []string{"handled", "handled", "ended"}, l.history("1"))
		l.pass(day - 3*time.Minute)
		require.Len(t, l.history("1"), 3, "not before its time")
		l.pass(time.Minute)
		require.Equal(t, []string{"trimmed"}, l.history("1"))
		in := l.read("1")
		require.Equal(t, process.Ended, in.Status)
		require.Equal(t, ended, in.Since, "when it ended, and not when it was trimmed")
		for r, err := range l.store.ReadStream(t.Context(), "$process.job-1", 0) {
			require.NoError(t, err)
			require.Less(t, len(r.Raw), 150)
			require.NotContains(t, string(r.Raw), "What", "nothing of its commands")
		}
		require.Equal(t, []string{"handled"}, l.history("2"), "it has not ended")
		before := l.stream("$process.job-1")
		l.pass(30 * day)
		require.Equal(t, before, l.stream("$process.job-1"), "once is enough")
		require.Equal(t, []string{"handled"}, l.history("2"))
	})
}

// Everything is delivered anew, and nothing begins anew but for what happens anew.
func TestAnEventThatIsDeliveredAgainDoesNotBeginATrimmedInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := keeping()
		for i, r := range typ.Routes {
			typ.Routes[i] = r.Strict()
		}
		var failed []error
		typ.OnError = func(f process.Failure) process.Action {
			failed = append(failed, f.Err)
			return process.Skip()
		}
		l := job(t, typ, w)
		l.happen(Began{"1", []string{"a"}}, Ended{"1"})
		l.pass(2 * day)
		require.Equal(t, []string{"trimmed"}, l.history("1"))
		require.NoError(t, l.group.Reset(t.Context(), "job"))
		l.pass(day)
		require.Zero(t, l.status("job").Lag)
		require.Equal(t, []string{"a", "end"}, w.asked, "nothing is asked again, not even with the same keys")
		require.Equal(t, []string{"trimmed"}, l.history("1"))
		require.Empty(t, failed)

		l.happen(Went{"1", "b"})
		require.Len(t, failed, 1)
		require.ErrorIs(t, failed[0], process.ErrNotStarted, "it has ended, as before it was trimmed")
		l.happen(Began{"1", []string{"c"}})
		require.Equal(t, []string{"a", "end", "c"}, w.did(), "and can begin anew")
		require.Equal(t, process.Running, l.read("1").Status)
		l.pass(30 * day)
		require.JSONEq(t, `{"Log":["began"]}`, string(l.read("1").State), "and is then left alone")
	})
}

func TestWhatIsNotOverIsNotTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, keeping(), w)
		l.happen(Began{"again", nil}, Ended{"again"}, Began{"again", nil})
		w.fail("x", true, errRefused)
		l.happen(Began{"stuck", []string{"x"}}, Ended{"stuck"})
		w.fail("y", true, errRefused)
		l.happen(Began{"cancelled", []string{"y"}}, Went{"cancelled", "z"})
		_, err := process.CancelStuck(t.Context(), l.store, "job", "cancelled")
		require.NoError(t, err)
		synctest.Wait()
		l.pass(3 * day)
		require.Equal(t, []string{"handled", "ended", "handled"}, l.history("again"))
		require.Equal(t, []string{"parked", "waiting"}, l.history("stuck"))
		require.Equal(t, []string{"trimmed"}, l.history("cancelled"))

		_, err = process.RetryStuck(t.Context(), l.store, "job", "stuck")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, process.Ended, l.read("stuck").Status, "what waited was its end")
		l.happen(Ended{"again"})
		l.pass(3 * day)
		require.Equal(t, []string{"trimmed"}, l.history("stuck"))
		require.Equal(t, []string{"trimmed"}, l.history("again"))
		require.Equal(t, []string{"x", "end"}, w.did()[len(w.did())-3:][:2])
	})
}

func TestANodeThatGoesOnTrimsFromTimeToTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		typ := jobs()
		typ.KeepEnded = time.Minute
		l := job(t, typ, &world{})
		for range 3 {
			l.happen(Began{"1", nil}, Ended{"1"})
			time.Sleep(59 * time.Second)
			synctest.Wait()
			require.Equal(t, "ended", l.history("1")[len(l.history("1"))-1])
			time.Sleep(16 * time.Second)
			synctest.Wait()
			require.Equal(t, []string{"trimmed"}, l.history("1"))
		}
	})
}

func TestTheLastEndCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := job(t, keeping(), &world{})
		l.happen(Began{"1", nil}, Ended{"1"})
		l.pass(day / 2)
		l.happen(Began{"1", nil}, Ended{"1"})
		l.pass(day / 2)
		require.Len(t, l.history("1"), 4, "it ended again half a day ago")
		l.pass(day / 2)
		require.Equal(t, []string{"trimmed"}, l.history("1"))
	})
}

func TestWhatNeverBeganIsTrimmedToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := keeping()
		typ.Routes[1] = typ.Routes[1].Strict()
		typ.OnError = func(f process.Failure) process.Action { return process.Instead(Do{"1", "instead"}) }
		l := job(t, typ, w)
		l.happen(Went{"1", "a"})
		require.Equal(t, []string{"instead"}, w.did())
		require.Len(t, l.history("1"), 1)
		l.pass(2 * day)
		require.Equal(t, []string{"trimmed"}, l.history("1"))
	})
}

// An instance that ended while others of its events waited, by a node that died before it came to those.
func TestAnInstanceWithEventsThatWaitIsNotTrimmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, keeping(), w)
		l.happen(Began{"other", nil}, Began{"1", []string{"waited"}})
		var begin *eventstore.Recorded
		for r, err := range l.store.ReadStream(t.Context(), "source-1", 1) {
			require.NoError(t, err)
			begin = r
		}
		require.NoError(t, l.stop())
		ref, err := json.Marshal(process.Ref{ID: begin.ID, Type: begin.Type, Stream: begin.Stream, Version: begin.Version, Position: begin.Position, Time: begin.Time})
		require.NoError(t, err)
		add := func(typ, data string) {
			_, err := l.store.Append(system.Context(t.Context()), "$process.job-2", eventstore.Any,
				eventstore.Event{Type: typ, Raw: []byte(data), ContentType: "application/json"})
			require.NoError(t, err)
		}
		add("$process.parked", `{"position":1,"status":"stuck","left":1}`)
		add("$process.waiting", `{"event":`+string(ref)+`,"position":2,"status":"stuck","parked":1}`)
		add("$process.ended", `{"position":2,"status":"ended","left":1}`)
		l.pass(2 * day)
		require.Equal(t, []string{"parked", "waiting", "ended"}, l.history("2"))
	})
}

// soon is a process whose Began sets timers of a second.
func soon() *process.Type[Job] {
	typ := keeping()
	typ.Routes[0] = process.Start(func(e Began) string { return e.ID }, func(j *Job, e Began) (cmds []command.Command) {
		for _, what := range e.Do {
			cmds = append(cmds, process.After(time.Second, Do{e.ID, what}))
		}
		return cmds
	})
	return typ
}

func TestTheInboxIsCutOffOnceItIsDealtWith(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := soon()
		l := job(t, typ, w)
		for _, id := range []string{"1", "2", "3"} {
			l.happen(Began{id, []string{"a", "b", "c"}})
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 9, l.stream("$process-job").Version, "a timer each")
		require.NoError(t, l.stop())
		_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		time.Sleep(3 * day)
		require.EqualValues(t, 1, l.stream("$process-job").First)
		l.run()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		info := l.stream("$process-job")
		require.EqualValues(t, 10, info.Version)
		require.EqualValues(t, 10, info.First)
		require.NoError(t, l.group.Reset(t.Context(), "job"))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, w.asked, 9)
	})
}

// What is not dealt with stays, however old it is.
func TestTheInboxIsNotCutOffBeforeItIsDealtWith(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := soon()
		l := job(t, typ, w)
		l.happen(Began{"1", []string{"a"}})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.NoError(t, l.store.PauseConsumer(t.Context(), "process.job"))
		for range 3 {
			_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
			require.NoError(t, err)
		}
		l.pass(3 * day)
		info := l.stream("$process-job")
		require.EqualValues(t, 4, info.Version)
		require.LessOrEqual(t, info.First, eventstore.Version(2))
		require.NoError(t, l.store.ResumeConsumer(t.Context(), "process.job"))
		synctest.Wait()
		l.pass(time.Second)
		require.EqualValues(t, 4, l.stream("$process-job").First)
	})
}

// Whoever sweeps dies at each of its writes in turn, and another goes on.
func TestASweepMayEndAnywhere(t *testing.T) {
	t.Parallel()
	for _, silent := range []bool{true, false} {
		for writes := int64(1); ; writes++ {
			died := false
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				d := memstore.NewDriver().(everything)
				way := &mortal{shared: shared{d}, silent: silent}
				way.writes.Store(-1)
				node := func(d driver.Store) *lab {
					return begin(t, d, func(*eventstore.Store) []projection.Runner {
						return []projection.Runner{keeping().Open(w), &schedule.Timers{}}
					})
				}
				l := node(way)
				l.happen(Began{"1", []string{"a"}})
				l.happen(Ended{"1"})
				l.happen(Began{"2", []string{"b"}})
				l.happen(Ended{"2"})
				require.NoError(t, l.stop())
				time.Sleep(2 * day)
				l.run()
				synctest.Wait()
				time.Sleep(sweepFirst - time.Second)
				synctest.Wait()
				way.writes.Store(writes)
				time.Sleep(2 * time.Second)
				synctest.Wait()
				died = way.dead.Load()
				way.dead.Store(true)
				require.NoError(t, l.stop())
				l = node(shared{d})
				time.Sleep(sweepFirst + time.Second)
				synctest.Wait()
				require.Equal(t, []string{"trimmed"}, l.history("1"), "at write %d", writes)
				require.Equal(t, []string{"trimmed"}, l.history("2"), "at write %d", writes)
				require.Equal(t, []string{"a", "end", "b", "end"}, w.asked, "at write %d", writes)
				require.NoError(t, l.stop())
			})
			if !died || t.Failed() {
				require.Greater(t, writes, int64(4), "it dies at something")
				break
			}
		}
	}
}

const sweepFirst = time.Minute

func TestEndedInstancesAreKeptForEverWhereTheDriverOrTheTypeSaysSo(t *testing.T) {
	t.Parallel()
	type plain struct {
		driver.Store
		driver.Checkpointer
		driver.Leaser
	}
	for name, keep := range map[string]time.Duration{"driver": day, "type": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				typ := jobs()
				typ.KeepEnded = keep
				m := memstore.NewDriver().(everything)
				var d driver.Store = m
				if name == "driver" {
					d = plain{m, m, m}
				}
				l := begin(t, d, func(*eventstore.Store) []projection.Runner {
					return []projection.Runner{typ.Open(w), &schedule.Timers{}}
				})
				l.happen(Began{"1", nil}, Ended{"1"})
				l.pass(100 * day)
				require.Equal(t, []string{"handled", "ended"}, l.history("1"))
			})
		})
	}
}

func TestEndedInstancesAreKeptForAMonthUnlessSaidOtherwise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := job(t, jobs(), &world{})
		l.happen(Began{"1", nil}, Ended{"1"})
		l.pass(30*day - 3*time.Minute)
		require.Len(t, l.history("1"), 2)
		l.pass(time.Minute)
		require.Equal(t, []string{"trimmed"}, l.history("1"))
	})
}

// Two nodes sweep at the same time, as they may for a moment; nothing is trimmed twice.
func TestNodesShareTheSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		d := shared{memstore.NewDriver().(everything)}
		node := func() *lab {
			return begin(t, d, func(*eventstore.Store) []projection.Runner {
				return []projection.Runner{keeping().Open(w), &schedule.Timers{}}
			})
		}
		l, other := node(), node()
		for _, id := range []string{"1", "2", "3"} {
			l.happen(Began{id, nil}, Ended{id})
		}
		require.NoError(t, other.stop())
		require.NoError(t, l.stop())
		time.Sleep(2 * day)
		l.run()
		other.run()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for _, id := range []string{"1", "2", "3"} {
			require.Equal(t, []string{"trimmed"}, l.history(id))
			require.EqualValues(t, 3, l.stream(eventstore.Stream("$process.job", id)).Version)
		}
		l.happen(Began{"1", []string{"x"}})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, process.Running, other.read("1").Status)
	})
}

func TestStatusCountsStuckInstancesThatWaitForADecision(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		require.Zero(t, l.status("job").Stuck)
		w.fail("x", true, errRefused, errRefused, errRefused)
		l.happen(Began{"1", []string{"x"}}, Began{"2", []string{"x"}}, Began{"3", nil}, Went{"1", "later"})
		require.Equal(t, 2, l.status("job").Stuck)
		require.Zero(t, l.status("timers").Stuck)
		_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 2, l.status("job").Stuck, "again")
		_, err = process.CancelStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, 1, l.status("job").Stuck)
		_, err = process.SkipStuck(t.Context(), l.store, "job", "2")
		require.NoError(t, err)
		synctest.Wait()
		require.Zero(t, l.status("job").Stuck)
		l.happen(Began{"1", []string{"x"}})
		require.Zero(t, l.status("job").Stuck)
	})
}

func TestEndedInstancesAreTrimmedInSQLite(t *testing.T) {
	t.Parallel()
	d, err := sqlitestore.OpenDriver(filepath.Join(t.TempDir(), "events.db"), nil)
	require.NoError(t, err)
	typ := jobs()
	typ.KeepEnded = time.Second
	w := &world{}
	l := &lab{t: t, store: eventstore.New(d, &eventstore.Options{Logger: quiet})}
	t.Cleanup(func() { _ = l.store.Close() })
	require.NoError(t, l.store.Types.Register("began", Began{}))
	require.NoError(t, l.store.Types.Register("went", Went{}))
	require.NoError(t, l.store.Types.Register("met", Met{}))
	require.NoError(t, l.store.Types.Register("ended", Ended{}))
	l.group = &projection.Group{Store: l.store, Logger: quiet}
	require.NoError(t, l.group.Add(typ.Open(w), &schedule.Timers{}))
	l.run()
	for _, e := range []any{Began{"1", []string{"a"}}, Ended{"1"}, Began{"2", nil}} {
		_, err := l.store.Append(t.Context(), "source-1", eventstore.Any, eventstore.Event{Data: e})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return slices.Equal(l.history("1"), []string{"trimmed"}) }, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, []string{"handled"}, l.history("2"))
	require.NoError(t, l.group.Reset(t.Context(), "job"))
	head, err := l.store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, l.group.Wait(t.Context(), head, "job"))
	require.Equal(t, []string{"trimmed"}, l.history("1"))
	require.Equal(t, []string{"a", "end"}, w.did())
	require.NoError(t, l.stop())
}

// An event is needed for as long as an instance is stuck at it.
func TestPositionsStayBehindWhatInstancesAreStuckAt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		w.fail("x", true, errRefused, errRefused)
		l.happen(Began{"1", nil}, Began{"2", []string{"x"}}, Began{"3", []string{"x"}}, Began{"4", nil})
		at := func() eventstore.Position {
			t.Helper()
			all, err := l.group.Positions(t.Context())
			require.NoError(t, err)
			return all["job"]
		}
		second := l.read("2").Event.Position
		require.Equal(t, second-1, at())
		require.Greater(t, l.status("job").Position, second, "it goes on all the same")
		for _, id := range []string{"2", "3"} {
			_, err := process.RetryStuck(t.Context(), l.store, "job", id)
			require.NoError(t, err)
			synctest.Wait()
			require.Greater(t, at(), second-1)
		}
		require.Equal(t, l.status("job").Position, at())
	})
}

// One that will try again by itself needs nobody.
func TestStatusLeavesOutInstancesThatTryAgainByThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.Partitions = 1
		typ.Routes[2] = process.On(func(e Met) []string { return e.IDs }, func(j *Job, e Met) []command.Command {
			return []command.Command{Do{"m", "meet"}}
		})
		typ.OnError = func(f process.Failure) process.Action { return process.RetryAfter(time.Hour) }
		l := job(t, typ, w)
		w.fail("meet", false, errors.New("later"))
		l.happen(Began{"1", nil}, Began{"2", nil}, Met{[]string{"1", "2"}})
		stuck := 0
		for in, err := range process.Instances(t.Context(), l.store, "job", process.Stuck) {
			require.NoError(t, err)
			require.False(t, in.Again.IsZero())
			stuck++
		}
		require.Equal(t, 1, stuck)
		require.Zero(t, l.status("job").Stuck)
	})
}

// A stub is read like every other record.
func TestAStubSaysUpToWhereEverythingCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := job(t, keeping(), &world{})
		l.happen(Began{"1", nil}, Ended{"1"})
		l.pass(2 * day)
		for r, err := range l.store.ReadStream(t.Context(), "$process.job-1", 0) {
			require.NoError(t, err)
			var stub map[string]any
			require.NoError(t, json.Unmarshal(r.Raw, &stub))
			require.EqualValues(t, "ended", stub["status"])
			require.NotZero(t, stub["position"])
			require.Len(t, stub, 3)
		}
	})
}
