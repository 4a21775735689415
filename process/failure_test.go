package process_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// times returns n errors.
func times(n int, err error) []error {
	list := make([]error, n)
	for i := range list {
		list[i] = err
	}
	return list
}

func TestWhatBecomesOfACommandThatFails(t *testing.T) {
	t.Parallel()
	act := func(a process.Action) func(process.Failure) process.Action {
		return func(process.Failure) process.Action { return a }
	}
	tests := []struct {
		name     string
		refused  bool
		errs     []error // of command b, of a, b and c
		onError  func(process.Failure) process.Action
		did      []string
		outcomes []string
		status   process.Status
		takes    time.Duration
	}{
		{"what is refused is parked by default", true, times(1, errRefused), nil,
			[]string{"a"}, []string{"0.0 done"}, process.Stuck, 0},
		{"what fails is tried again by default", false, times(5, errBroken), nil,
			[]string{"a", "b", "c"}, []string{"0.0 done", "0.1 done", "0.2 done"}, process.Running, 310 * time.Millisecond},
		{"what fails for long is parked by default", false, times(20, errBroken), nil,
			[]string{"a"}, []string{"0.0 done"}, process.Stuck, 441_910 * time.Millisecond},
		{"a panic is a failure", false, times(20, &command.PanicError{Value: "oh"}), nil,
			[]string{"a"}, []string{"0.0 done"}, process.Stuck, 441_910 * time.Millisecond},
		{"the zero action is the default's", true, times(1, errRefused), act(process.Action{}),
			[]string{"a"}, []string{"0.0 done"}, process.Stuck, 0},
		{"retry a refusal", true, times(2, errRefused), process.Retry,
			[]string{"a", "b", "c"}, []string{"0.0 done", "0.1 done", "0.2 done"}, process.Running, 30 * time.Millisecond},
		{"retry later", false, times(1, errBroken), act(process.RetryAfter(time.Minute)),
			[]string{"a", "b", "c"}, []string{"0.0 done", "0.1 done", "0.2 done"}, process.Running, time.Minute},
		{"skip", true, times(1, errRefused), act(process.Skip()),
			[]string{"a", "c"}, []string{"0.0 done", "0.1 skipped", "0.2 done"}, process.Running, 0},
		{"skip what is broken", false, times(1, errBroken), act(process.Skip()),
			[]string{"a", "c"}, []string{"0.0 done", "0.1 skipped", "0.2 done"}, process.Running, 0},
		{"discard", true, times(1, errRefused), act(process.Discard()),
			[]string{"a"}, []string{"0.0 done", "0.1 discarded", "0.2 discarded"}, process.Running, 0},
		{"instead", true, times(1, errRefused), act(process.Instead(Do{"1", "x"}, Do{"1", "y"})),
			[]string{"a", "x", "y"}, []string{"0.0 done", "0.1 replaced", "0.2 discarded", "0.1.0 done", "0.1.1 done"}, process.Running, 0},
		{"instead, with what was pending", true, times(1, errRefused), func(f process.Failure) process.Action { return process.Instead(f.Pending...) },
			[]string{"a", "c"}, []string{"0.0 done", "0.1 replaced", "0.2 discarded", "0.1.0 done"}, process.Running, 0},
		{"park", false, times(1, errBroken), act(process.Park()),
			[]string{"a"}, []string{"0.0 done"}, process.Stuck, 0},
		{"a panic of OnError decides nothing", true, times(1, errRefused), func(process.Failure) process.Action { panic("oh") },
			[]string{"a"}, []string{"0.0 done"}, process.Stuck, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				typ := jobs()
				typ.OnError = tt.onError
				l := job(t, typ, w)
				w.fail("b", tt.refused, tt.errs...)
				began := time.Now()
				l.happen(Began{"1", []string{"a", "b", "c"}}, Began{"2", []string{"other"}})
				require.Contains(t, w.did(), "other", "nobody else waits")
				time.Sleep(tt.takes)
				synctest.Wait()
				if tt.takes > time.Second {
					time.Sleep(time.Minute)
				} else {
					time.Sleep(10 * time.Millisecond)
				}
				synctest.Wait()
				var did []string
				for _, what := range w.did() {
					if what != "other" {
						did = append(did, what)
					}
				}
				require.Equal(t, tt.did, did)
				require.Equal(t, tt.outcomes, l.outcomes("1"))
				in := l.read("1")
				require.Equal(t, tt.status, in.Status)
				require.InDelta(t, tt.takes, in.Since.Sub(began), float64(20*time.Millisecond))
				if in.Status == process.Stuck {
					require.Contains(t, in.Error, tt.errs[0].Error())
					require.Empty(t, in.State, "as before")
				} else {
					require.JSONEq(t, `{"Log":["began"]}`, string(in.State))
				}
			})
		})
	}
}

func TestAFailureTellsEverything(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		var got []process.Failure
		typ.OnError = func(f process.Failure) process.Action {
			got = append(got, f)
			return process.Retry(f)
		}
		l := job(t, typ, w)
		w.fail("b", true, fmt.Errorf("b: %w", errRefused), errRefused)
		l.happen(Began{"1", []string{"a", "b", "c"}})
		time.Sleep(time.Second)
		synctest.Wait()
		require.Len(t, got, 2)
		for i, f := range got {
			require.Equal(t, "job", f.Process)
			require.Equal(t, "1", f.Instance)
			require.Equal(t, Began{"1", []string{"a", "b", "c"}}, f.Event.Data)
			require.Equal(t, Do{"1", "b"}, f.Command)
			require.Equal(t, []command.Command{Do{"1", "c"}}, f.Pending)
			require.Equal(t, Job{[]string{"began"}}, f.State)
			require.True(t, f.Refused)
			require.ErrorIs(t, f.Err, errRefused)
			require.NotErrorIs(t, f.Err, errBroken)
			require.Equal(t, i+1, f.Attempt)
		}
		require.EqualError(t, got[0].Err, "b: it says no")
	})
}

func TestRefusedRoutesCompensate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.Routes = append(typ.Routes, process.Refused(func(j *Job, c Do, err error) []command.Command {
			require.ErrorIs(t, err, errRefused)
			var r *process.Refusal
			require.ErrorAs(t, err, &r)
			j.Log = append(j.Log, c.What+": "+err.Error())
			return []command.Command{Do{c.ID, "not " + c.What}, Do{c.ID, "tell"}}
		}))
		l := job(t, typ, w)
		w.fail("b", true, errRefused)
		w.fail("not b", true, errRefused)
		l.happen(Began{"1", []string{"a", "b", "c"}})
		require.Equal(t, []string{"a", "not not b", "tell"}, w.did())
		require.Equal(t, []string{"0.0 done", "0.1 refused", "0.2 discarded", "0.1.0 refused", "0.1.1 discarded", "0.1.0.0 done", "0.1.0.1 done"}, l.outcomes("1"))
		require.Equal(t, []string{"refused", "refused", "handled"}, l.history("1"), "what nobody else remembers is recorded before anything follows from it")
		require.JSONEq(t, `{"Log":["began","b: it says no","not b: it says no"]}`, string(l.read("1").State))
	})
}

func TestRefusalsThatWereRecordedAreNotAskedAgain(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"route", "instead", "skip", "discard"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				typ := jobs()
				switch by {
				case "route":
					typ.Routes = append(typ.Routes, process.Refused(func(j *Job, c Do, err error) []command.Command {
						require.ErrorIs(t, err, errRefused)
						return []command.Command{Do{c.ID, "x"}}
					}))
				default:
					typ.OnError = func(f process.Failure) process.Action {
						if errors.Is(f.Err, errBroken) {
							return process.Retry(f)
						}
						require.ErrorIs(t, f.Err, errRefused)
						require.Equal(t, 1, f.Attempt)
						switch by {
						case "skip":
							return process.Skip()
						case "discard":
							return process.Discard()
						}
						return process.Instead(Do{"1", "x"})
					}
				}
				l := job(t, typ, w)
				w.fail("b", true, errRefused)
				after := map[string]string{"route": "x", "instead": "x", "skip": "c", "discard": "z"}[by]
				w.fail(after, false, times(8, errBroken)...)
				what := []string{"a", "b", "c"}
				l.happen(Began{"1", what}, Went{"1", "z"})
				require.NoError(t, l.stop()) // in the middle of it
				l.run()
				time.Sleep(time.Minute)
				synctest.Wait()
				want := map[string][]string{"route": {"a", "x", "z"}, "instead": {"a", "x", "z"}, "skip": {"a", "c", "z"}, "discard": {"a", "z"}}[by]
				require.Equal(t, want, w.did())
				n := 0
				for _, what := range w.asked {
					if what == "b" {
						n++
					}
				}
				require.Equal(t, 1, n, "b would be executed now")
			})
		})
	}
}

// A pointer whose methods panic when it is nil.
type fragile struct{ ID string }

func (c *fragile) AggregateID() string { return c.ID }

func TestACommandThatPanicsByItselfFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		typ := jobs()
		typ.Routes[0] = process.Start(func(e Began) string { return e.ID }, func(*Job, Began) []command.Command {
			return []command.Command{(*fragile)(nil), Do{"1", "b"}}
		})
		typ.OnError = func(f process.Failure) process.Action {
			var p *command.PanicError
			require.ErrorAs(t, f.Err, &p)
			return process.Skip()
		}
		w := &world{}
		h := command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			e.Command.AggregateID()
			return w.HandleCommand(ctx, e)
		})
		l := begin(t, nil, func(*eventstore.Store) []projection.Runner {
			return []projection.Runner{typ.Open(h), &schedule.Timers{}}
		})
		l.happen(Began{"1", nil})
		require.Equal(t, []string{"b"}, w.did())
		require.Equal(t, []string{"0.0 skipped", "0.1 done"}, l.outcomes("1"))
	})
}

func TestCompensationsThatGoRoundAreParked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.Routes = append(typ.Routes, process.Refused(func(_ *Job, c Do, _ error) []command.Command { return []command.Command{c} }))
		l := job(t, typ, w)
		w.fail("a", true, times(100, errRefused)...)
		l.happen(Began{"1", []string{"a"}})
		require.Len(t, w.asked, 32)
		require.Equal(t, process.Stuck, l.read("1").Status)
		require.Contains(t, l.read("1").Error, "in a row")
	})
}

func TestStopEndsTheProcessInFrontOfTheEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.OnError = func(process.Failure) process.Action { return process.Stop() }
		l := job(t, typ, w)
		w.fail("b", true, errRefused)
		l.happen(Began{"1", []string{"a", "b"}}, Went{"1", "c"})
		s := l.status("job")
		require.Equal(t, projection.Stopped, s.State)
		require.ErrorIs(t, s.LastError, errRefused)
		require.ErrorContains(t, s.LastError, `instance "1"`)
		head, err := l.store.Head(t.Context())
		require.NoError(t, err)
		var stopped *projection.StoppedError
		require.ErrorAs(t, l.group.Wait(t.Context(), head, "job"), &stopped)
		require.Empty(t, l.history("1"))

		require.NoError(t, l.group.Resume("job"))
		require.NoError(t, l.group.Wait(t.Context(), head, "job"))
		require.Equal(t, []string{"a", "b", "c"}, w.did())
		require.NoError(t, l.status("job").LastError)
	})
}

func TestWhatBecomesOfAnEventThatCannotBeHandled(t *testing.T) {
	t.Parallel()
	act := func(a process.Action) func(process.Failure) process.Action {
		return func(f process.Failure) process.Action {
			var p *process.PanicError
			if !errors.As(f.Err, &p) || !errors.Is(f.Err, errBroken) || f.Command != nil || p.Stack == nil {
				panic("another failure")
			}
			return a
		}
	}
	tests := []struct {
		name    string
		onError func(process.Failure) process.Action
		did     []string
		status  process.Status
	}{
		{"default", nil, []string{}, process.Stuck},
		{"park", act(process.Park()), []string{}, process.Stuck},
		{"skip", act(process.Skip()), []string{"next"}, process.Running},
		{"discard", act(process.Discard()), []string{"next"}, process.Running},
		{"instead", act(process.Instead(Do{"1", "x"})), []string{"x", "next"}, process.Running},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				typ := jobs()
				typ.OnError = tt.onError
				l := job(t, typ, w)
				l.happen(Began{"1", nil}, Went{"1", "panic"}, Went{"1", "next"})
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				require.Equal(t, tt.did, w.did())
				in := l.read("1")
				require.Equal(t, tt.status, in.Status)
				if in.Status == process.Stuck {
					require.Contains(t, in.Error, "it is broken")
					require.JSONEq(t, `{"Log":["began"]}`, string(in.State), "what the route did before it panicked is gone")
					require.Equal(t, 1, in.Waiting)
				} else {
					require.JSONEq(t, `{"Log":["began","went next"]}`, string(in.State))
				}
			})
		})
	}
}

func TestStrictRoutesFail(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		for i := range typ.Routes {
			typ.Routes[i] = typ.Routes[i].Strict()
		}
		l := job(t, typ, w)
		l.happen(Began{"1", nil}, Began{"1", []string{"again"}}, Went{"2", "x"}, Ended{"3"}, Began{"4", nil}, Went{"4", "x"}, Ended{"4"})
		require.Equal(t, []string{"x", "end"}, w.did())
		require.Equal(t, process.Ended, l.read("4").Status)
		require.Contains(t, l.read("1").Error, process.ErrStarted.Error())
		require.Contains(t, l.read("2").Error, process.ErrNotStarted.Error())
		require.Contains(t, l.read("3").Error, process.ErrNotStarted.Error())
		for _, id := range []string{"1", "2", "3"} {
			require.Equal(t, process.Stuck, l.read(id).Status, id)
			_, err := process.SkipStuck(t.Context(), l.store, "job", id)
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Equal(t, process.Running, l.read("1").Status)
		require.Equal(t, process.Ended, l.read("2").Status)
	})
}

func TestACommandThatTakesTooLongFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		slow := 1
		h := command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			if e.Command == (Do{"1", "slow"}) && slow > 0 {
				slow--
				<-ctx.Done()
				return command.Result{}, ctx.Err()
			}
			return w.HandleCommand(ctx, e)
		})
		typ := jobs()
		typ.Timeout = time.Minute
		typ.OnError = func(f process.Failure) process.Action {
			require.ErrorIs(t, f.Err, context.DeadlineExceeded)
			return process.Retry(f)
		}
		l := begin(t, nil, func(*eventstore.Store) []projection.Runner {
			return []projection.Runner{typ.Open(h), &schedule.Timers{}}
		})
		l.happen(Began{"1", []string{"slow"}}, Began{"2", []string{"quick"}})
		require.Equal(t, []string{"quick"}, w.did(), "a slow one holds up nobody else")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"quick", "slow"}, w.did())
	})
}

func TestRefusalFindsWhatTheErrorWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		original := fmt.Errorf("twice: %w", errors.Join(errBroken, fmt.Errorf("deep: %w", errRefused)))
		seen := 0
		typ.OnError = func(f process.Failure) process.Action {
			seen++
			require.ErrorIs(t, f.Err, errRefused)
			require.ErrorIs(t, f.Err, errBroken)
			require.NotErrorIs(t, f.Err, process.ErrStarted)
			require.EqualError(t, f.Err, original.Error())
			return process.Skip()
		}
		l := job(t, typ, w)
		w.fail("a", true, original)
		l.happen(Began{"1", []string{"a"}})
		require.Equal(t, 1, seen)
	})
}
