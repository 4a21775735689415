package projection_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// failing returns a projection whose handler fails with errs[n] for as long as that is not nil.
func failing(target projection.Target[*Log], fail func(n int) error, onError func(projection.Failure) projection.Action) *projection.Projection[*Log] {
	return &projection.Projection[*Log]{
		Name: "log", Target: target, OnError: onError,
		Handlers: []projection.Handler[*Log]{projection.On(func(_ context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
			l.Seen = append(l.Seen, e.N)
			return fail(e.N)
		})},
	}
}

func failOn(bad ...int) func(int) error {
	return func(n int) error {
		for _, b := range bad {
			if n == b {
				return errBoom
			}
		}
		return nil
	}
}

func TestRetryIsTheDefaultAndPausesUpToAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m projection.Memory[Log]
		var tried []time.Time
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error {
			if tried = append(tried, time.Now()); len(tried) <= 16 {
				return errBoom
			}
			return nil
		}, nil)))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		want := 10 * time.Millisecond
		for i := 1; i < len(tried); i++ {
			require.Equal(t, want, tried[i].Sub(tried[i-1]), "after attempt %d", i)
			want = min(2*want, time.Minute)
		}
		require.Equal(t, time.Minute, tried[16].Sub(tried[15]))
		require.Equal(t, []int{1}, seen(&m))
	})
}

func TestTheZeroActionPausesLikeRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m projection.Memory[Log]
		var tried []time.Time
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error {
			if tried = append(tried, time.Now()); len(tried) <= 2 {
				return errBoom
			}
			return nil
		}, func(projection.Failure) projection.Action { return projection.Action{} })))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, 10*time.Millisecond, tried[1].Sub(tried[0]))
		require.Equal(t, 20*time.Millisecond, tried[2].Sub(tried[1]))
	})
}

func TestOnErrorIsToldProjectionEventErrorAndAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m projection.Memory[Log]
		var told []projection.Failure
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, failOn(1), func(f projection.Failure) projection.Action {
			if told = append(told, f); f.Attempt == 3 {
				return projection.Skip()
			}
			return projection.RetryAfter(time.Minute)
		})))
		start(t, g)
		before := time.Now()
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, 2*time.Minute, time.Since(before))
		require.Len(t, told, 3)
		for i, f := range told {
			require.Equal(t, "log", f.Projection)
			require.Equal(t, Added{1}, f.Event.Data)
			require.ErrorIs(t, f.Err, errBoom)
			require.Equal(t, i+1, f.Attempt)
		}
	})
}

func TestTheGroupsOnErrorIsForThoseWithoutTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var a, b projection.Memory[Log]
		g := newGroup(s)
		g.OnError = func(projection.Failure) projection.Action { return projection.Skip() }
		general := failing(&a, failOn(1), nil)
		special := failing(&b, failOn(1), func(projection.Failure) projection.Action { return projection.Stop() })
		special.Name = "special"
		require.NoError(t, g.Add(general, special))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at, "log"))
		var stopped *projection.StoppedError
		require.ErrorAs(t, g.Wait(t.Context(), at, "special"), &stopped)
	})
}

func TestAfterSkipTheOthersOfTheBatchAreHandledInOneTransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2, 3, 4, 5)
		var m projection.Memory[Log]
		target := &tap[*Log]{Target: &m}
		g := newGroup(s)
		require.NoError(t, g.Add(failing(target, failOn(2, 4), func(projection.Failure) projection.Action { return projection.Skip() })))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 3, 5}, seen(&m))
		require.Equal(t, []update{{0, at}}, target.written())
		st := status(t, g, "log")
		require.EqualValues(t, 3, st.Handled)
		require.EqualValues(t, 2, st.Skipped)
		require.NoError(t, st.LastError)
	})
}

func TestABatchOfWhichAllIsSkippedMovesThePosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 2, 4)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, failOn(2, 4), func(projection.Failure) projection.Action { return projection.Skip() })))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Empty(t, seen(&m))
		require.Equal(t, at, position(&m))
	})
}

func TestAFailingEventHoldsUpOnlyThoseAfterIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		add(t, s, 1, 2)
		before := note(t, s, 1)
		at := add(t, s, 3, 4)
		var m projection.Memory[Log]
		healed := false
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(n int) error {
			if n == 3 && !healed {
				return errBoom
			}
			return nil
		}, func(projection.Failure) projection.Action { return projection.RetryAfter(time.Minute) })))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), before-1))
		require.Equal(t, []int{1, 2}, seen(&m))
		synctest.Wait()
		st := status(t, g, "log")
		require.Equal(t, projection.Running, st.State)
		require.ErrorIs(t, st.LastError, errBoom)
		healed = true
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2, 3, 4}, seen(&m))
		require.NoError(t, status(t, g, "log").LastError)
	})
}

func TestAPanicIsAFailureWithItsStack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2)
		var m projection.Memory[Log]
		var told error
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(n int) error {
			if n == 1 {
				panic(errBoom)
			}
			return nil
		}, func(f projection.Failure) projection.Action {
			told = f.Err
			return projection.Skip()
		})))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{2}, seen(&m))
		var p *projection.PanicError
		require.ErrorAs(t, told, &p)
		require.ErrorIs(t, told, errBoom)
		require.Contains(t, string(p.Stack), "failure_test.go")
		require.EqualError(t, told, "projection: panic: boom")
	})
}

func TestAHandlerThatEndsItsGoroutineStopsItsProjectionAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m, other projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error { exit(); return nil }, nil), logged("other", &other)))
		stop := start(t, g)
		require.ErrorContains(t, g.Wait(t.Context(), at, "log"), "Goexit")
		require.NoError(t, g.Wait(t.Context(), at, "other"))
		require.Empty(t, seen(&m))
		require.NoError(t, stop())
	})
}

func TestAnOnErrorThatPanicsRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m projection.Memory[Log]
		n := 0
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(int) error {
			if n++; n < 3 {
				return errBoom
			}
			return nil
		}, func(projection.Failure) projection.Action { panic("no") })))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1}, seen(&m))
	})
}

func TestStopEndsThatProjectionOnlyAndResumeRestartsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2, 3)
		var m, other projection.Memory[Log]
		var healed atomic.Bool
		var attempts []int
		g := newGroup(s)
		require.NoError(t, g.Add(failing(&m, func(n int) error {
			if n == 2 && !healed.Load() {
				return errBoom
			}
			return nil
		}, func(f projection.Failure) projection.Action {
			attempts = append(attempts, f.Attempt)
			return projection.Stop()
		}), logged("other", &other)))
		stop := start(t, g)
		err := g.Wait(t.Context(), at, "log")
		var stopped *projection.StoppedError
		require.ErrorAs(t, err, &stopped)
		require.Equal(t, &projection.StoppedError{Name: "log", State: projection.Stopped, Err: stopped.Err}, stopped)
		require.ErrorIs(t, err, errBoom)
		require.Equal(t, []int{1}, seen(&m), "what comes before the event is committed")
		st := status(t, g, "log")
		require.Equal(t, projection.Stopped, st.State)
		require.ErrorIs(t, st.LastError, errBoom)

		last := add(t, s, 4)
		require.NoError(t, g.Wait(t.Context(), last, "other"))

		require.NoError(t, g.Resume("log"))
		require.ErrorAs(t, g.Wait(t.Context(), last, "log"), &stopped, "it fails again")
		healed.Store(true)
		require.NoError(t, g.Resume("log"))
		require.NoError(t, g.Wait(t.Context(), last))
		require.Equal(t, []int{1, 2, 3, 4}, seen(&m))
		require.Equal(t, []int{1, 1}, attempts)
		require.Equal(t, projection.Running, status(t, g, "log").State)
		require.NoError(t, status(t, g, "log").LastError)
		require.NoError(t, stop())
	})
}

func TestAnEventThatCannotBeDecodedGoesThroughOnError(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		healAfter int
		action    func(projection.Failure) projection.Action
		want      []int
		asked     int
	}{
		"skipped":                 {0, func(projection.Failure) projection.Action { return projection.Skip() }, []int{1, 3}, 1},
		"retried until it can be": {3, projection.Retry, []int{1, 2, 3}, 3},
		"retried at once":         {3, func(projection.Failure) projection.Action { return projection.RetryAfter(0) }, []int{1, 2, 3}, 3},
		"retried for a while at all": {0, func(f projection.Failure) projection.Action {
			if f.Attempt == 5 {
				return projection.Skip()
			}
			return projection.Retry(f)
		}, []int{1, 3}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				codec := &moody{Codec: eventstore.JSON}
				s := newStoreWith(t, eventstore.Options{Codecs: []eventstore.Codec{codec}})
				add(t, s, 1)
				bad := add(t, s, 2)
				at := add(t, s, 3)
				codec.spoil.Store(2)
				var m projection.Memory[Bag]
				var order []int
				asked := 0
				g := newGroup(s)
				require.NoError(t, g.Add(&projection.Projection[*Bag]{
					Name: "bag", Target: &m,
					Handlers: []projection.Handler[*Bag]{projection.On(func(_ context.Context, b *Bag, e Added, _ *eventstore.Recorded) error {
						order = append(order, e.N)
						return nil
					})},
					OnError: func(f projection.Failure) projection.Action {
						asked++
						require.Equal(t, asked, f.Attempt)
						require.Equal(t, bad, f.Event.Position)
						require.ErrorIs(t, f.Err, eventstore.ErrCodec)
						require.Equal(t, f.Event.Err, f.Err)
						require.Nil(t, f.Event.Data)
						if asked == tt.healAfter {
							codec.spoil.Store(0)
						}
						return tt.action(f)
					},
				}))
				start(t, g)
				require.NoError(t, g.Wait(t.Context(), at))
				require.Equal(t, tt.want, order, "no handler is called twice for nothing")
				require.Equal(t, tt.asked, asked)
			})
		})
	}
}

// moody is a codec that cannot read the Added of one number.
type moody struct {
	eventstore.Codec
	spoil atomic.Int64
}

func (c *moody) Unmarshal(data []byte, v any) error {
	if bytes.Contains(data, fmt.Appendf(nil, `"N":%d}`, c.spoil.Load())) {
		return errBoom
	}
	return c.Codec.Unmarshal(data, v)
}

func TestAModelThatCannotBeUndoneIsBuiltAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		action func(projection.Failure) projection.Action
		want   map[int]int
		asked  int
		err    bool
	}{
		"and retried": {projection.Retry, map[int]int{1: 1, 2: 1, 3: 1, 4: 1}, 4, false},
		"and skipped": {func(projection.Failure) projection.Action { return projection.Skip() }, map[int]int{1: 1, 3: 1}, 2, false},
		"and stopped": {func(projection.Failure) projection.Action { return projection.Stop() }, map[int]int{1: 1}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				at := add(t, s, 1, 2, 3, 4)
				var m projection.Memory[Bag]
				tries, asked := map[int]int{}, 0
				g := newGroup(s)
				require.NoError(t, g.Add(&projection.Projection[*Bag]{
					Name: "bag", Target: &m,
					OnError: func(f projection.Failure) projection.Action {
						asked++
						return tt.action(f)
					},
					Handlers: []projection.Handler[*Bag]{projection.On(func(_ context.Context, b *Bag, e Added, _ *eventstore.Recorded) error {
						if b.N == nil {
							b.N = map[int]int{}
						}
						b.N[e.N]++
						if tries[e.N]++; tries[e.N] <= 2 && e.N%2 == 0 {
							return errBoom
						}
						return nil
					})},
				}))
				start(t, g)
				err := g.Wait(t.Context(), at)
				require.Equal(t, tt.err, err != nil, "%v", err)
				require.Equal(t, tt.asked, asked, "what is decided is not asked again")
				m.View(func(b *Bag, _ eventstore.Position) { require.Equal(t, tt.want, b.N) })
			})
		})
	}
}

func TestATargetThatFailsIsTriedAgainWithoutBlamingAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2)
		var m projection.Memory[Log]
		loads, begins := 0, 0
		target := &tap[*Log]{Target: &m,
			load: func() error {
				if loads++; loads == 2 {
					panic("load")
				} else if loads < 5 {
					return errBoom
				}
				return nil
			},
			before: func(eventstore.Position) error {
				if begins++; begins == 2 {
					panic("begin")
				} else if begins < 8 {
					return errBoom
				}
				return nil
			},
		}
		g := newGroup(s)
		require.NoError(t, g.Add(failing(target, failOn(), func(f projection.Failure) projection.Action {
			t.Errorf("blamed %+v", f)
			return projection.Skip()
		})))
		start(t, g)
		synctest.Wait()
		require.ErrorIs(t, status(t, g, "log").LastError, errBoom)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 2}, seen(&m))
		require.NoError(t, status(t, g, "log").LastError)
	})
}

// deferred is a target that checks what was written only when it commits.
type deferred struct {
	*projection.Memory[Log]
	bad     int
	commits int
}

func (d *deferred) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(*Log) error) error {
	return d.Memory.Update(ctx, name, from, to, func(l *Log) error {
		if err := fn(l); err != nil {
			return err
		}
		d.commits++
		for _, n := range l.Seen {
			if n == d.bad {
				return errBoom
			}
		}
		return nil
	})
}

func TestAnEventThatTheTargetNeverCommitsIsFoundAndBlamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2, 3, 4)
		m := &deferred{Memory: &projection.Memory[Log]{}, bad: 3}
		g := newGroup(s)
		var blamed []int
		require.NoError(t, g.Add(failing(m, failOn(), func(f projection.Failure) projection.Action {
			require.ErrorIs(t, f.Err, errBoom)
			blamed = append(blamed, f.Event.Data.(Added).N)
			return projection.Skip()
		})))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{3}, blamed)
		require.Equal(t, []int{1, 2, 4}, seen(m.Memory))
	})
}

func TestErasedDataIsPassedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStoreWith(t, eventstore.Options{Seal: shredder{}})
		at := add(t, s, 1, 2, 3)
		var m projection.Memory[Log]
		g := newGroup(s)
		require.NoError(t, g.Add(logged("log", &m)))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.Equal(t, []int{1, 3}, seen(&m))
		require.NoError(t, status(t, g, "log").LastError)
	})
}

// shredder has lost the key of whatever contains a 2.
type shredder struct{}

func (shredder) Seal(_ context.Context, _ *eventstore.Event, data []byte) ([]byte, error) {
	return data, nil
}

func (shredder) Open(_ context.Context, _ *eventstore.Recorded, data []byte) ([]byte, error) {
	if bytes.Contains(data, []byte("2")) {
		return nil, eventstore.ErrErased
	}
	return data, nil
}

func TestWhatIsSkippedAndStoppedIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1, 2)
		var m projection.Memory[Log]
		var out bytes.Buffer
		g := newGroup(s)
		g.Logger = slog.New(slog.NewTextHandler(&out, nil))
		require.NoError(t, g.Add(failing(&m, failOn(1, 2), func(f projection.Failure) projection.Action {
			if f.Event.Version == 1 {
				return projection.Skip()
			}
			return projection.Stop()
		})))
		stop := start(t, g)
		require.Error(t, g.Wait(t.Context(), at))
		require.NoError(t, stop())
		require.Regexp(t, `level=WARN msg="projection skipped an event" projection=log stream=sum-1 version=1 type=added position=\d+ err=boom`, out.String())
		require.Regexp(t, `level=ERROR msg="projection stopped" projection=log stream=sum-1 version=2 type=added position=\d+ err=boom`, out.String())
	})
}

func TestWhatWasSkippedStaysSkippedWhenAModelIsBuiltAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Bag]
		var asked []int
		g := newGroup(s)
		require.NoError(t, g.Add(&projection.Projection[*Bag]{
			Name: "bag", Target: &m,
			OnError: func(f projection.Failure) projection.Action {
				asked = append(asked, f.Event.Data.(Added).N)
				return projection.Skip()
			},
			Handlers: []projection.Handler[*Bag]{projection.On(func(_ context.Context, _ *Bag, e Added, _ *eventstore.Recorded) error {
				return failOn(2, 4)(e.N)
			})},
		}))
		start(t, g)
		require.NoError(t, g.Wait(t.Context(), add(t, s, 1, 2)))
		require.NoError(t, g.Wait(t.Context(), add(t, s, 3, 4)))
		require.Equal(t, []int{2, 4}, asked)
	})
}

func TestAModelIsBuiltAgainAtOnceAndNotAfterThePause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		var m projection.Memory[Bag]
		g := newGroup(s)
		require.NoError(t, g.Add(&projection.Projection[*Bag]{
			Name: "bag", Target: &m,
			OnError: func(projection.Failure) projection.Action { return projection.RetryAfter(time.Minute) },
			Handlers: []projection.Handler[*Bag]{projection.On(func(_ context.Context, b *Bag, e Added, _ *eventstore.Recorded) error {
				if b.N == nil {
					b.N = map[int]int{}
				}
				b.N[e.N]++
				return failOn(2)(e.N)
			})},
		}))
		start(t, g)
		at := add(t, s, 1)
		require.NoError(t, g.Wait(t.Context(), at))
		add(t, s, 2)
		synctest.Wait()
		require.NoError(t, g.Wait(t.Context(), at))
		m.View(func(b *Bag, p eventstore.Position) {
			require.Equal(t, map[int]int{1: 1}, b.N)
			require.Equal(t, at, p)
		})
	})
}

func TestThePanicsStackIsLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t)
		at := add(t, s, 1)
		var m projection.Memory[Log]
		var out bytes.Buffer
		g := newGroup(s)
		g.Logger = slog.New(slog.NewTextHandler(&out, nil))
		require.NoError(t, g.Add(failing(&m, func(int) error { panic("oh") }, func(projection.Failure) projection.Action { return projection.Skip() })))
		stop := start(t, g)
		require.NoError(t, g.Wait(t.Context(), at))
		require.NoError(t, stop())
		require.Regexp(t, `err="projection: panic: oh" stack=".*failure_test.go`, out.String())
	})
}

func TestAnErrorOfAHandlerIsItsOwnWhateverItIs(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{"moved": projection.ErrMoved, "closed": eventstore.ErrClosed, "ended": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newStore(t)
				at := add(t, s, 1)
				var m projection.Memory[Log]
				g := newGroup(s)
				require.NoError(t, g.Add(failing(&m, func(int) error { return cause }, func(f projection.Failure) projection.Action {
					require.Equal(t, cause, f.Err)
					if f.Attempt == 2 {
						return projection.Stop()
					}
					return projection.Retry(f)
				})))
				stop := start(t, g)
				var stopped *projection.StoppedError
				require.ErrorAs(t, g.Wait(t.Context(), at), &stopped)
				require.ErrorIs(t, stopped, cause)
				require.NoError(t, stop())
			})
		})
	}
}

func TestAnOldFormThatCannotBeReadGoesThroughOnErrorToo(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"an upcast that panics": `{"M":5}`, "data that is spoilt": `{"M":`} {
		for _, when := range []string{"from history", "as it comes"} {
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newStore(t)
					require.NoError(t, s.Types.Add(eventstore.UpcastFrom("added.old", func(o addedOld) Added { panic("no") })))
					old := eventstore.Event{Type: "added.old", Raw: []byte(raw), ContentType: eventstore.JSON.ContentType()}
					var m projection.Memory[Log]
					var told []error
					g := newGroup(s)
					require.NoError(t, g.Add(failing(&m, failOn(), func(f projection.Failure) projection.Action {
						told = append(told, f.Err)
						return projection.Skip()
					})))
					if when == "as it comes" {
						start(t, g)
						synctest.Wait()
					}
					_, err := s.Append(t.Context(), "sum-1", eventstore.Any, old)
					require.NoError(t, err)
					at := add(t, s, 1)
					if when == "from history" {
						start(t, g)
					}
					require.NoError(t, g.Wait(t.Context(), at))
					require.Equal(t, []int{1}, seen(&m))
					require.Len(t, told, 1)
					require.ErrorIs(t, told[0], eventstore.ErrCodec)
				})
			})
		}
	}
}

// A slowTarget is told to end while its position is being looked up.
type slowTarget struct {
	projection.Target[*Log]
	asked chan struct{}
}

func (s *slowTarget) Load(ctx context.Context, _ string) (eventstore.Position, error) {
	close(s.asked)
	<-ctx.Done()
	return 0, errBoom
}

func TestAnEndThatComesWhileThePositionIsLookedUpIsNoFailure(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	g := newGroup(newStore(t))
	g.Logger = slog.New(slog.NewTextHandler(&out, nil))
	target := &slowTarget{new(projection.Memory[Log]), make(chan struct{})}
	p := logged("log", new(projection.Memory[Log]))
	p.Target = target
	require.NoError(t, g.Add(p))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	<-target.asked
	cancel()
	require.NoError(t, <-done)
	require.Empty(t, out.String())
}
