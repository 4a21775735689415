package drivertest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// every returns a func that says yes each nth time.
func every(n int64) func() bool {
	var calls atomic.Int64
	return func() bool { return calls.Add(1)%n == 0 }
}

// In these drivers a call now and then goes wrong as it does where an engine is
// spread over machines. Some are wrong only while others work.
func TestHistoriesThatNoLogCouldTellAreFound(t *testing.T) {
	t.Parallel()
	const (
		noOrder = "there is no order"
		theLog  = "the log"
	)
	for name, tt := range map[string]struct {
		make func(m *mutant)
		want string
	}{
		"versions are those of a replica that lags": {func(m *mutant) {
			var mu sync.Mutex
			last := map[string]driver.StreamInfo{}
			m.onStream = func(ctx context.Context, stream string) (driver.StreamInfo, error) {
				info, err := m.full.Stream(ctx, stream)
				mu.Lock()
				defer mu.Unlock()
				old, ok := last[stream]
				if last[stream] = info; ok {
					return old, err
				}
				return info, err
			}
		}, noOrder},
		"pages are those of a replica that lags": {func(m *mutant) {
			stale := every(10)
			m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
				list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
				if len(list) > 0 && stale() {
					if dir == driver.Backward {
						return list[1:], err
					}
					return list[:len(list)-1], err
				}
				return list, err
			}
		}, noOrder},
		"a page is cut by a time-out and nobody says so": {func(m *mutant) {
			cut := every(7)
			m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
				list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
				if cut() {
					list = nil
				}
				return list, err
			}
		}, noOrder},
		"an acknowledged append is lost": {func(m *mutant) {
			lost := every(40)
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				if !lost() {
					return m.full.Append(ctx, a)
				}
				info, _ := m.full.Stream(ctx, a.Stream)
				head, err := m.full.Head(ctx)
				n := uint64(len(a.Events))
				return driver.Result{Version: info.Version + n, Last: head + n, Time: time.Now(), Err: err}
			}
		}, theLog},
		"an append is applied twice": {func(m *mutant) {
			twice := every(40)
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				r := m.full.Append(ctx, a)
				if r.Err == nil && twice() {
					m.full.Append(ctx, driver.Append{Stream: a.Stream, Events: a.Events})
				}
				return r
			}
		}, "twice"},
		"a conflict tells the version of before": {func(m *mutant) {
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				r := m.full.Append(ctx, a)
				var conflict *driver.ConflictError
				if errors.As(r.Err, &conflict) && conflict.Actual > 2 {
					r.Err = &driver.ConflictError{Actual: conflict.Actual - 1}
				}
				return r
			}
		}, noOrder},
		"a conflict where there is none": {func(m *mutant) {
			spurious := every(25)
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				if info, _ := m.full.Stream(ctx, a.Stream); a.Expected > 0 && uint64(a.Expected) == info.Version && spurious() {
					return driver.Result{Err: &driver.ConflictError{Actual: info.Version}}
				}
				return m.full.Append(ctx, a)
			}
		}, noOrder},
		"a conflict that was written all the same": {func(m *mutant) {
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				r := m.full.Append(ctx, a)
				if conflicted(r.Err) {
					m.full.Append(ctx, driver.Append{Stream: a.Stream, Events: a.Events})
				}
				return r
			}
		}, "wrote nothing"},
		"a version is checked, and then written without the check": {func(m *mutant) {
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				info, _ := m.full.Stream(ctx, a.Stream)
				if a.Expected > 0 && uint64(a.Expected) == info.Version {
					m.dawdle()
					a.Expected = driver.Any
				}
				return m.full.Append(ctx, a)
			}
		}, noOrder},
		"an append of several events is written in two parts": {func(m *mutant) {
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				if len(a.Events) < 2 {
					return m.full.Append(ctx, a)
				}
				if r := m.full.Append(ctx, driver.Append{Stream: a.Stream, Expected: a.Expected, Events: a.Events[:1]}); r.Err != nil {
					return r
				}
				m.dawdle()
				return m.full.Append(ctx, driver.Append{Stream: a.Stream, Events: a.Events[1:]})
			}
		}, theLog},
		"one of two streams is appended to although the other is not as expected": {func(m *mutant) {
			m.onAtomic = func(ctx context.Context, as []driver.Append, _ func(any, []driver.Recorded) error) ([]driver.Result, error) {
				return m.oneByOne(ctx, as)
			}
		}, theLog},
		"a reader finds one of two streams as it was before": {func(m *mutant) {
			var mu sync.Mutex // of writers
			m.onAtomic = func(ctx context.Context, as []driver.Append, _ func(any, []driver.Recorded) error) ([]driver.Result, error) {
				mu.Lock()
				defer mu.Unlock()
				if _, err := m.full.AppendAtomic(ctx, as, func(any, []driver.Recorded) error { return errEnough }); !errors.Is(err, errEnough) {
					return nil, err
				}
				return m.oneByOne(context.WithoutCancel(ctx), as)
			}
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				mu.Lock()
				defer mu.Unlock()
				return m.full.Append(ctx, a)
			}
			m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
				mu.Lock()
				defer mu.Unlock()
				return m.full.AppendBatch(ctx, as)
			}
		}, noOrder},
		"of two conflicts the second is told": {func(m *mutant) {
			m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
				if _, err := m.full.AppendAtomic(ctx, as[1:], func(any, []driver.Recorded) error { return errEnough }); !errors.Is(err, errEnough) {
					return nil, err
				}
				return m.full.AppendAtomic(ctx, as, fn)
			}
		}, noOrder},
		"a conflict with a stream that is only named": {func(m *mutant) {
			m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
				list, err := m.full.AppendAtomic(ctx, as, fn)
				if conflict := (*driver.ConflictError)(nil); errors.As(err, &conflict) {
					info, _ := m.full.Stream(ctx, as[1].Stream)
					return nil, &driver.ConflictError{Stream: as[1].Stream, Actual: info.Version}
				}
				return list, err
			}
		}, noOrder},
		"two streams have their positions the other way round": {func(m *mutant) {
			m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
				as = slices.Clone(as)
				slices.Reverse(as)
				list, err := m.full.AppendAtomic(ctx, as, fn)
				slices.Reverse(list)
				return list, err
			}
		}, "after what follows on it"},
		"an acknowledged append to two streams is lost for one": {func(m *mutant) {
			m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
				info, _ := m.full.Stream(ctx, as[1].Stream)
				list, err := m.full.AppendAtomic(ctx, as[:1], fn)
				if err != nil {
					return nil, err
				}
				n := uint64(len(as[1].Events))
				return append(list, driver.Result{Version: info.Version + n, Last: list[0].Last + n, Time: list[0].Time}), nil
			}
		}, theLog},
		"an error although it is written": {func(m *mutant) {
			m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				r := m.full.Append(ctx, a)
				if r.Err == nil && len(a.Events) == 3 {
					return driver.Result{Err: errors.New("broken pipe")}
				}
				return r
			}
		}, "without a fault no call may fail"},
		"a deletion is forgotten": {func(m *mutant) {
			m.onDelete = func(context.Context, string, int64) error { return nil }
		}, noOrder},
		"the log shows two events in another order": {func(m *mutant) {
			m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
				list, scanned, err := m.full.ReadAll(ctx, f, from, dir, limit)
				if n := len(list); n > 5 {
					list[2], list[4] = list[4], list[2]
				}
				return list, scanned, err
			}
		}, theLog},
		"a position is told that is another's": {func(m *mutant) {
			m.results(func(r *driver.Result) { r.Positions, r.Last = nil, r.Last+1 })
		}, "was told to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMutant()
			tt.make(m)
			opt := drivertest.LinearOptions{Stores: []driver.Store{m}, Deletes: name == "a deletion is forgotten"}
			if m.onAtomic != nil {
				opt.Ops = 500 // few of which are appends to two streams
			}
			err := drivertest.Linearized(t.Context(), opt)
			require.ErrorContains(t, err, tt.want)
			forget(t, err)
		})
	}
}

// forget removes the picture that err tells of, which must be there.
func forget(t *testing.T, err error) {
	if path := regexp.MustCompile(`\S+levada-linear-\S+\.html`).FindString(err.Error()); path != "" {
		require.NoError(t, os.Remove(path))
	}
}

var errLine = errors.New("the line is cut")

// torn cuts the line to a store now and then for as long as a run takes: calls
// fail before they were heard, and appends after they were done.
func torn(faults *eventstoretest.Faults, after error) func(context.Context) {
	return func(ctx context.Context) {
		for i := range 12 {
			faults.Before(eventstoretest.OpStream, 1+i%3, errLine)
			faults.Before(eventstoretest.OpReadStream, 1+i%3, errLine)
			faults.Before(eventstoretest.OpAppend, 1+i%4, errLine)
			breathe(ctx)
			faults.After(eventstoretest.OpAppend, 1+i%4, after)
			breathe(ctx)
			faults.Delay(eventstoretest.OpStream, time.Millisecond)
			breathe(ctx)
			faults.Heal()
		}
	}
}

// breathe lets clients work for a moment.
func breathe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	<-ctx.Done()
}

func TestAnswersThatAreLostMakeNoFault(t *testing.T) {
	t.Parallel()
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: []driver.Store{d}, Deletes: true,
		Fault: torn(faults, fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, errLine)),
	})
	require.Greater(t, faults.Calls(eventstoretest.OpAppend), 100)
}

func TestAnErrorThatSaysTooMuchIsFound(t *testing.T) {
	t.Parallel()
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	err := drivertest.Linearized(t.Context(), drivertest.LinearOptions{Stores: []driver.Store{d}, Fault: torn(faults, errLine)})
	require.ErrorContains(t, err, "wrote nothing", "an error that is not ErrOutcomeUnknown says that nothing was written")
}

func TestAWriteThatIsRepeatedAfterItsAnswerWasLostIsFound(t *testing.T) {
	t.Parallel()
	inner, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	m := newMutant()
	m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
		r := inner.Append(ctx, a)
		if errors.Is(r.Err, errLine) && a.Expected == driver.Any {
			r = inner.Append(ctx, a)
		}
		if errors.Is(r.Err, errLine) {
			r.Err = fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, r.Err)
		}
		return r
	}
	m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
		results := make([]driver.Result, len(as))
		for i, a := range as {
			results[i] = m.onAppend(ctx, a)
		}
		return results
	}
	m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
		list, err := inner.(full).AppendAtomic(ctx, as, fn)
		if errors.Is(err, errLine) {
			err = fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, err)
		}
		return list, err
	}
	m.full = inner.(full)
	err := drivertest.Linearized(t.Context(), drivertest.LinearOptions{Stores: []driver.Store{m}, Fault: torn(faults, errLine)})
	require.ErrorContains(t, err, "twice")
}

// A driver whose engine deletes without regard to appends says so.
func TestAnAppendThatADeletionDidNotSeeIsAllowedWhereTheDriverSaysSo(t *testing.T) {
	t.Parallel()
	loose := func() driver.Store {
		m := newMutant()
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			if info, err := m.full.Stream(ctx, a.Stream); err == nil && info.Deleted && a.Expected > 0 && uint64(a.Expected) == info.Version {
				a.Expected = driver.NoStream
			}
			return m.full.Append(ctx, a)
		}
		m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
			results := make([]driver.Result, len(as))
			for i, a := range as {
				results[i] = m.onAppend(ctx, a)
			}
			return results
		}
		return m
	}
	opt := drivertest.LinearOptions{Stores: []driver.Store{loose()}, Deletes: true, Ops: 200}
	err := drivertest.Linearized(t.Context(), opt)
	require.ErrorContains(t, err, "there is no order")
	forget(t, err)
	opt.Stores, opt.LooseDelete = []driver.Store{loose()}, true
	drivertest.Linearize(t, opt)
}

func TestAHistoryThatIsWrongIsDrawn(t *testing.T) {
	t.Parallel()
	m := newMutant()
	m.onStream = func(context.Context, string) (driver.StreamInfo, error) { return driver.StreamInfo{}, nil }
	err := drivertest.Linearized(t.Context(), drivertest.LinearOptions{Stores: []driver.Store{m}, Seed: 1})
	require.ErrorContains(t, err, ".html")
	forget(t, err)
}
