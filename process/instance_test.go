package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
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

func TestEventsAreRoutedToTheirInstances(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		l.happen(Went{"1", "too early"}, Ended{"1"}, Began{"", []string{"nobody"}}, Met{nil})
		require.Empty(t, w.did())
		require.Empty(t, l.history("1"), "what passes over leaves nothing behind")

		l.happen(Began{"1", nil}, Began{"1", nil}, Went{"1", "a"}, Began{"2", nil}, Met{[]string{"1", "2", "1", "3", ""}})
		require.JSONEq(t, `{"Log":["began","began","went a","met"]}`, string(l.read("1").State))
		require.JSONEq(t, `{"Log":["began","met"]}`, string(l.read("2").State))
		require.Zero(t, l.read("3").Version)

		l.happen(Ended{"1"}, Went{"1", "too late"}, Ended{"1"})
		require.Equal(t, []string{"a", "end"}, w.did())
		require.Equal(t, []string{"handled", "handled", "handled", "handled", "ended"}, l.history("1"))
		in := l.read("1")
		require.Equal(t, process.Ended, in.Status)
		require.Nil(t, in.State)

		l.happen(Began{"1", nil})
		require.JSONEq(t, `{"Log":["began"]}`, string(l.read("1").State), "it begins anew")
	})
}

func TestCommandsContinueTheConversationWithAKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		var seen []*command.Envelope
		w.sees = func(ctx context.Context, e *command.Envelope) { seen = append(seen, e) }
		l := job(t, jobs(), w)
		w.fail("b", false, errBroken)
		l.happen(Began{"1", []string{"a", "b"}})
		time.Sleep(time.Second)
		synctest.Wait()
		var r *eventstore.Recorded
		for e, err := range l.store.ReadStream(t.Context(), "source-1", 0) {
			require.NoError(t, err)
			r = e
		}
		require.Len(t, seen, 4, "a and b, and both again")
		for i, e := range seen {
			require.Equal(t, r.ID, e.Causation)
			require.Equal(t, r.ID, e.Correlation)
			require.Equal(t, fmt.Sprintf("process/job/1/%s/0.%d", r.ID, i%2), e.Key)
		}
		for e, err := range l.store.ReadStream(t.Context(), "$process.job-1", 0) {
			require.NoError(t, err)
			require.Equal(t, r.ID, e.Causation)
		}
		long := strings.Repeat("x", 200)
		l.happen(Began{long, []string{"a"}})
		require.LessOrEqual(t, len(seen[4].Key), 255)
		require.NotEmpty(t, seen[4].Key)
		require.Equal(t, process.Running, l.read(long).Status)
	})
}

func TestHandlersMayKnowWhenItHappened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		note := func(s *Job, r *eventstore.Recorded) []command.Command {
			times = append(times, r.Time)
			return nil
		}
		typ := &process.Type[Job]{Name: "job", Logger: quiet, Routes: []process.Route[Job]{
			process.StartRecorded(func(e Began) string { return e.ID }, func(s *Job, e Began, r *eventstore.Recorded) []command.Command { return note(s, r) }),
			process.OnRecorded(func(e Met) []string { return e.IDs }, func(s *Job, e Met, r *eventstore.Recorded) []command.Command { return note(s, r) }),
			process.EndRecorded(func(e Ended) string { return e.ID }, func(s *Job, e Ended, r *eventstore.Recorded) []command.Command { return note(s, r) }),
		}}
		l := job(t, typ, &world{})
		began := time.Now()
		l.happen(Began{"1", nil})
		time.Sleep(time.Minute)
		synctest.Wait()
		l.happen(Met{[]string{"1"}}, Ended{"1"})
		require.Len(t, times, 3)
		for i, want := range []time.Duration{0, time.Minute, time.Minute} {
			require.WithinDuration(t, began.Add(want), times[i], time.Millisecond)
		}
	})
}

func TestAnInstanceThatIsStuckHoldsUpNobodyAndGoesOnInOrder(t *testing.T) {
	t.Parallel()
	tests := []struct {
		ask     func(context.Context, *eventstore.Store, string, string) (eventstore.Position, error)
		did     []string
		history []string
		status  process.Status
		state   string
	}{
		{process.RetryStuck, []string{"other", "a", "b", "c", "d", "e"},
			[]string{"handled", "parked", "waiting", "waiting", "handled", "handled", "handled", "handled"}, process.Running, `{"Log":["began","went b","went c","met","went e"]}`},
		{process.SkipStuck, []string{"other", "a", "c", "d", "e"},
			[]string{"handled", "parked", "waiting", "waiting", "skipped", "handled", "handled", "handled"}, process.Running, `{"Log":["began","went c","met","went e"]}`},
		{process.CancelStuck, []string{"other", "a", "d"},
			[]string{"handled", "parked", "waiting", "waiting", "cancelled"}, process.Ended, ``},
	}
	for i, tt := range tests {
		t.Run([]string{"retry", "skip", "cancel"}[i], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				l := job(t, jobs(), w)
				w.fail("b", true, errRefused)
				l.happen(Began{"2", []string{"other"}}, Began{"1", []string{"a"}}, Went{"1", "b"}, Went{"1", "c"}, Met{[]string{"1", "2"}}, Ended{"3"})
				require.ElementsMatch(t, []string{"other", "a"}, w.did())
				require.JSONEq(t, `{"Log":["began","met"]}`, string(l.read("2").State))
				in := l.read("1")
				require.Equal(t, process.Stuck, in.Status)
				require.Equal(t, 2, in.Waiting)
				require.Equal(t, "went", in.Event.Type)
				require.Contains(t, in.Error, "it says no")
				require.NoError(t, l.stop()) // nothing is lost with the node
				l.run()

				_, err := tt.ask(t.Context(), l.store, "job", "2")
				require.NoError(t, err, "who is not stuck passes over it")
				at, err := tt.ask(t.Context(), l.store, "job", "1")
				require.NoError(t, err)
				require.NoError(t, l.group.Wait(t.Context(), at, "job"))
				l.happen(Began{"4", []string{"d"}}, Went{"1", "e"})
				require.ElementsMatch(t, tt.did, w.did())
				require.Equal(t, tt.history, l.history("1"))
				in = l.read("1")
				require.Equal(t, tt.status, in.Status)
				if tt.state == "" {
					require.Nil(t, in.State)
				} else {
					require.JSONEq(t, tt.state, string(in.State))
				}
				_, err = tt.ask(t.Context(), l.store, "job", "1")
				require.NoError(t, err)
				synctest.Wait()
				require.Equal(t, tt.history, l.history("1"))
			})
		})
	}
}

func TestAnInstanceMayGetStuckAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		w.fail("a", true, times(2, errRefused)...)
		w.fail("b", true, errRefused)
		l.happen(Began{"1", nil}, Went{"1", "a"}, Went{"1", "b"}, Went{"1", "c"})
		require.Equal(t, 2, l.read("1").Waiting)
		l.happen(Went{"1", "d"})
		_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, process.Stuck, l.read("1").Status, "refused again")
		require.Equal(t, 3, l.read("1").Waiting)
		for range 2 {
			_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
			require.NoError(t, err)
			synctest.Wait()
		}
		require.Equal(t, process.Running, l.read("1").Status)
		require.Equal(t, []string{"a", "b", "c", "d"}, w.did(), "in order, whatever happened")
	})
}

func TestAnEventThatFailsForOneOfSeveralDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.Partitions = 1
		typ.Routes[2] = process.On(func(e Met) []string { return e.IDs }, func(j *Job, e Met) []command.Command {
			j.Log = append(j.Log, "met")
			if j.Log[0] == "began" && len(j.Log) == 2 {
				return []command.Command{Do{"1", "b"}}
			}
			return nil
		})
		l := job(t, typ, w)
		w.fail("b", false, times(3, errBroken)...)
		l.happen(Began{"1", nil}, Began{"2", nil}, Went{"2", "x"}, Met{[]string{"1", "2"}}, Went{"2", "c"}, Went{"1", "d"})
		require.Equal(t, []string{"x", "c"}, w.did(), "2 goes on at once")
		require.Equal(t, process.Stuck, l.read("1").Status)
		require.False(t, l.read("1").Again.IsZero())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"x", "c", "b", "d"}, w.did(), "and 1 by itself")
		require.JSONEq(t, `{"Log":["began","met","went d"]}`, string(l.read("1").State))

		w.fail("b", false, times(20, errBroken)...)
		l.happen(Began{"3", nil}, Met{[]string{"3", "2"}})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, process.Stuck, l.read("3").Status, "not for ever")
		require.True(t, l.read("3").Again.IsZero())
	})
}

func TestEventsThatNobodyCanSayWhomTheyConcernAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		var mu sync.Mutex
		broken := true
		typ := jobs()
		typ.Routes[1] = process.On(func(e Went) string {
			mu.Lock()
			defer mu.Unlock()
			if broken && e.ID == "2" {
				panic(errBroken)
			}
			return e.ID
		}, (*Job).went)
		l := job(t, typ, w)
		l.happen(Began{"1", nil}, Began{"2", nil}, Went{"2", "a"}, Went{"1", "b"}, Began{"bad\nid", nil})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"b"}, w.did())
		in := l.read("")
		require.Equal(t, process.Stuck, in.Status)
		require.Contains(t, in.Error, "it is broken")
		require.Equal(t, 1, in.Waiting)

		mu.Lock()
		broken = false
		mu.Unlock()
		_, err := process.RetryStuck(t.Context(), l.store, "job", "")
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"b", "a"}, w.did(), "who it concerns has got it")
		require.JSONEq(t, `{"Log":["began","went a"]}`, string(l.read("2").State))
		require.Contains(t, l.read("").Error, "control character")
		_, err = process.SkipStuck(t.Context(), l.store, "job", "")
		require.NoError(t, err)
		synctest.Wait()
		require.NotEqual(t, process.Stuck, l.read("").Status)
	})
}

func TestAnEventThatIsGoneCanBeSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		w.fail("a", true, errRefused)
		l.happen(Began{"1", nil}, Went{"1", "a"}, Went{"1", "b"})
		require.NoError(t, l.store.Truncate(t.Context(), "source-1", 3))
		_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Contains(t, l.read("1").Error, "is gone")
		_, err = process.SkipStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{"b"}, w.did())
	})
}

func TestInstancesAreListedByStatus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		w.fail("x", true, errRefused)
		l.happen(Began{"run", nil}, Began{"stuck", []string{"x"}}, Began{"end", nil}, Ended{"end"})
		list := func(s *eventstore.Store, status process.Status) (ids []string) {
			for in, err := range process.Instances(t.Context(), s, "job", status) {
				require.NoError(t, err)
				ids = append(ids, in.ID)
			}
			return ids
		}
		for status, want := range map[process.Status][]string{
			process.All: {"end", "run", "stuck"}, process.Running: {"run"}, process.Stuck: {"stuck"}, process.Ended: {"end"},
		} {
			require.ElementsMatch(t, want, list(l.store, status), status)
		}
		for _, err := range process.Instances(t.Context(), l.store, "no-such", process.All) {
			require.ErrorIs(t, err, eventstore.ErrInvalid)
		}
		_, err := process.RetryStuck(t.Context(), l.store, "job", "bad\nid")
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		in, err := process.Read(t.Context(), l.store, "job", "none")
		require.NoError(t, err)
		require.Equal(t, process.Instance{ID: "none", Status: process.Ended}, in)
	})
}

func TestHistoryTellsWhatHappened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.Routes[1] = process.On(func(e Went) string { return e.ID }, func(j *Job, e Went) []command.Command {
			return []command.Command{process.After(time.Minute, Do{e.ID, "later"}), Do{e.ID, "now"}}
		})
		l := job(t, typ, w)
		w.fail("now", true, errRefused)
		l.happen(Began{"1", []string{"a"}}, Went{"1", ""})
		var list []process.Entry
		for e, err := range process.History(t.Context(), l.store, "job", "1") {
			require.NoError(t, err)
			list = append(list, e)
		}
		require.Len(t, list, 2)
		e := list[0]
		require.Equal(t, "$process.handled", e.What)
		require.Equal(t, "began", e.Event.Type)
		require.EqualValues(t, "source-1", e.Event.Stream)
		require.EqualValues(t, 1, e.Event.Version)
		require.Equal(t, process.Running, e.Status)
		require.Equal(t, process.Done, e.Sent[0].Outcome)
		require.Equal(t, "process_test.Do", e.Sent[0].Type)
		require.Equal(t, "1", e.Sent[0].Aggregate)
		require.JSONEq(t, `{"ID":"1","What":"a"}`, string(e.Sent[0].Command))
		require.EqualValues(t, "work-1", e.Sent[0].Stream)
		e = list[1]
		require.Equal(t, "$process.parked", e.What)
		require.Equal(t, process.Stuck, e.Status)
		require.Equal(t, "it says no", e.Error)
		require.Empty(t, e.Timers, "it is as it was before")

		_, err := process.RetryStuck(t.Context(), l.store, "job", "1")
		require.NoError(t, err)
		synctest.Wait()
		timers := l.read("1").Timers
		require.Len(t, timers, 1)
		require.Equal(t, "do", timers[0].Command)
		require.JSONEq(t, `{"ID":"1","What":"later"}`, string(timers[0].Data))
	})
}

func TestAProcessIsARunner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		l.happen(Began{"1", []string{"a"}}, Went{"1", "b"})
		head, err := l.store.Head(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.group.Wait(t.Context(), head))
		s := l.status("job")
		require.Equal(t, projection.Running, s.State)
		require.Equal(t, head, s.Position)
		require.EqualValues(t, 2, s.Handled)

		require.NoError(t, l.group.Pause(t.Context(), "job"))
		l.happen(Went{"1", "c"})
		require.Equal(t, []string{"a", "b"}, w.did())
		require.NoError(t, l.group.Resume("job"))
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "c"}, w.did())

		require.NoError(t, l.group.Reset(t.Context(), "job"))
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "c"}, w.did(), "every event comes again, and nothing happens again")
		require.Equal(t, []string{"a", "b", "c"}, w.asked)
		require.Equal(t, []string{"handled", "handled", "handled"}, l.history("1"))
	})
}

func TestAProcessBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, from := range []*eventstore.Start{nil, new(eventstore.Start{}), new(eventstore.After(1))} {
			s := memstore.Open(nil)
			for name, e := range map[string]any{"began": Began{}, "went": Went{}, "met": Met{}, "ended": Ended{}} {
				require.NoError(t, s.Types.Register(name, e))
			}
			for _, id := range []string{"1", "2"} {
				_, err := s.Append(t.Context(), "source-1", eventstore.Any, eventstore.Event{Data: Began{id, []string{id}}})
				require.NoError(t, err)
			}
			w := &world{}
			typ := jobs()
			typ.From = from
			g := &projection.Group{Store: s, Logger: quiet}
			require.NoError(t, g.Add(typ.Open(w), &schedule.Timers{}))
			ctx, cancel := context.WithCancel(t.Context())
			go func() { _ = g.Run(ctx) }()
			synctest.Wait()
			_, err := s.Append(t.Context(), "source-1", eventstore.Any, eventstore.Event{Data: Began{"3", []string{"3"}}})
			require.NoError(t, err)
			synctest.Wait()
			switch {
			case from == nil:
				require.ElementsMatch(t, []string{"1", "2", "3"}, w.did())
			case *from == eventstore.Start{}:
				require.Equal(t, []string{"3"}, w.did())
			default:
				require.ElementsMatch(t, []string{"2", "3"}, w.did())
			}
			cancel()
			synctest.Wait()
			require.NoError(t, s.Close())
		}
	})
}

func TestWhatIsWrongWithATypeIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	start := process.Start(func(e Began) string { return e.ID }, (*Job).began)
	routes := []process.Route[Job]{start}
	tests := []struct {
		name string
		typ  process.Opener
		want string
	}{
		{"no name", &process.Type[Job]{Routes: routes}, "a name of 0 bytes"},
		{"a long name", &process.Type[Job]{Name: strings.Repeat("x", 101), Routes: routes}, "a name of 101 bytes"},
		{"a dash", &process.Type[Job]{Name: "a-b", Routes: routes}, "dash"},
		{"a slash", &process.Type[Job]{Name: "a/b", Routes: routes}, "slash"},
		{"reserved", &process.Type[Job]{Name: "$a", Routes: routes}, "starts with $"},
		{"control", &process.Type[Job]{Name: "a\n", Routes: routes}, "control character"},
		{"no routes", &process.Type[Job]{Name: "a"}, "no Start route"},
		{"a zero route", &process.Type[Job]{Name: "a", Routes: []process.Route[Job]{start, {}}}, "Routes[1]"},
		{"a nil func", &process.Type[Job]{Name: "a", Routes: []process.Route[Job]{start, process.On(func(e Went) string { return "" }, (func(*Job, Went) []command.Command)(nil))}}, "Routes[1]"},
		{"two routes", &process.Type[Job]{Name: "a", Routes: []process.Route[Job]{start, start.Strict()}}, "two routes for process_test.Began"},
		{"two refusals", &process.Type[Job]{Name: "a", Routes: []process.Route[Job]{start,
			process.Refused(func(*Job, Do, error) []command.Command { return nil }),
			process.Refused(func(*Job, Do, error) []command.Command { return nil })}}, "two routes for process_test.Do"},
		{"a strict refusal", &process.Type[Job]{Name: "a", Routes: []process.Route[Job]{start,
			process.Refused(func(*Job, Do, error) []command.Command { return nil }).Strict()}}, "cannot be Strict"},
		{"a nil command", &process.Type[Job]{Name: "a", Routes: routes, Commands: map[string]command.Command{"x": nil}}, `command "x"`},
		{"a command with two names", &process.Type[Job]{Name: "a", Routes: routes, Commands: map[string]command.Command{"x": Do{}, "y": Do{}}}, `both "x" and "y"`},
		{"a command that JSON loses", &process.Type[Job]{Name: "a", Routes: routes, Commands: map[string]command.Command{"x": lossy{}}}, "would be lost"},
		{"an event that is not registered", &process.Type[Job]{Name: "a", Routes: []process.Route[Job]{process.Start(func(int) string { return "" }, func(*Job, int) []command.Command { return nil })}}, "unregistered"},
		{"a state that JSON loses", &process.Type[lossy]{Name: "a", Routes: []process.Route[lossy]{process.Start(func(e Began) string { return e.ID }, func(*lossy, Began) []command.Command { return nil })}}, "would be lost"},
		{"negative partitions", &process.Type[Job]{Name: "a", Routes: routes, Partitions: -1}, "negative"},
		{"a nil type", (*process.Type[Job])(nil), "nil Type"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := memstore.Open(nil)
			t.Cleanup(func() { s.Close() })
			require.NoError(t, s.Types.Register("began", Began{}))
			require.NoError(t, s.Types.Register("went", Went{}))
			g := &projection.Group{Store: s}
			require.ErrorContains(t, g.Add(tt.typ.Open(&world{})), tt.want)
		})
	}
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("began", Began{}))
	g := &projection.Group{Store: s}
	good := &process.Type[Job]{Name: "a", Routes: routes}
	require.ErrorContains(t, g.Add(good.Open(nil)), "no handler")
	require.ErrorContains(t, g.Add(good.Open(&world{})), "a needs a schedule.Timers in its Group")
	require.NoError(t, g.Add(&schedule.Timers{}))
	require.NoError(t, g.Add(good.Open(&world{})), "they are there already")
	require.ErrorContains(t, g.Add(good.Open(&world{})), "two are named")
}

type lossy struct{ Hidden chan int }

func (lossy) AggregateID() string { return "" }

func TestAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		l := job(t, typ, w)
		l.happen(Began{"1", nil})
		require.NoError(t, l.stop())
		other := jobs()
		other.Partitions = 3
		g := &projection.Group{Store: l.store, Logger: quiet}
		require.NoError(t, g.Add(other.Open(w), &schedule.Timers{}))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = g.Run(ctx) }()
		synctest.Wait()
		list, err := g.Status(t.Context())
		require.NoError(t, err)
		require.ErrorIs(t, list[0].LastError, eventstore.ErrPartitions)
		require.NoError(t, l.store.Repartition(t.Context(), "process.job", 3))
		require.NoError(t, g.Resume("job"))
		l.happen(Went{"1", "a"})
		require.Equal(t, []string{"a"}, w.did())
	})
}

func TestASplitEventIsHandledWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		type old struct{ A, B string }
		l := begin(t, nil, func(s *eventstore.Store) []projection.Runner {
			require.NoError(t, s.Types.Add(eventstore.UpcastSplit("old", func(o old) []any {
				return []any{Began{o.A, []string{"a"}}, Went{o.A, "b"}, Began{o.B, []string{"c"}}}
			})))
			typ := jobs()
			typ.Partitions = 16
			return []projection.Runner{typ.Open(w), &schedule.Timers{}}
		})
		for i := range 20 {
			data, err := json.Marshal(old{fmt.Sprintf("a%d", i), fmt.Sprintf("b%d", i)})
			require.NoError(t, err)
			_, err = l.store.Append(t.Context(), "source-1", eventstore.Any, eventstore.Event{Type: "old", Raw: data, ContentType: "application/json"})
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Len(t, w.did(), 60)
		for i := range 20 {
			require.Equal(t, []string{"handled"}, l.history(fmt.Sprintf("a%d", i)), "one record for all parts")
			require.JSONEq(t, `{"Log":["began","went b"]}`, string(l.read(fmt.Sprintf("a%d", i)).State))
			require.JSONEq(t, `{"Log":["began"]}`, string(l.read(fmt.Sprintf("b%d", i)).State))
		}
	})
}

func TestWaitPassesOverTheProcessWhoseCommandWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l *lab
		waited := errors.New("not called")
		h := command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			head, err := l.store.Head(ctx)
			require.NoError(t, err)
			waited = l.group.Wait(ctx, head)
			return command.Result{}, nil
		})
		l = begin(t, nil, func(*eventstore.Store) []projection.Runner {
			return []projection.Runner{jobs().Open(h), &schedule.Timers{}}
		})
		l.happen(Began{"1", []string{"a"}})
		require.NoError(t, waited)
	})
}

func TestAProcessThatIsRemovedLeavesItsRecords(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		l := job(t, jobs(), w)
		l.happen(Began{"1", []string{"a"}})
		require.ErrorIs(t, l.group.Remove(t.Context(), "timers"), errors.ErrUnsupported)
		require.NoError(t, l.group.Remove(t.Context(), "job"))
		l.happen(Began{"2", []string{"b"}})
		require.Equal(t, []string{"a"}, w.did())
		require.Equal(t, []string{"handled"}, l.history("1"), "which tells what was")
		list, err := l.store.Consumers(t.Context())
		require.NoError(t, err)
		require.Empty(t, list, "but nothing waits for it")
		require.NoError(t, l.stop())

		// One that begins under its name begins where it is told, and does nothing again.
		require.NoError(t, l.group.Add(jobs().Open(w)))
		l.run()
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, w.did())
		require.Equal(t, []string{"handled"}, l.history("1"))
	})
}
