package drivertest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// Drivers differ in what the contracts leave open. The suite must not mind.
func TestSoundDriversPass(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() driver.Store{
		"one that does only what every driver must": func() driver.Store {
			return struct{ driver.Store }{memstore.NewDriver()}
		},
		"one that tells only the last position of an append": lastOnly,
		"one whose positions have gaps":                      gaps,
		"one that examines three events in a call":           shortSighted,
		"one whose Wait often ends for nothing":              fidgety,
		"one with limits":                                    limited(driver.Limits{EventBytes: 8 << 10, AppendEvents: 300, AppendBytes: 64 << 10, BatchEvents: 500, BatchBytes: 1 << 20, NameBytes: 120, Writers: 1}),
		"one with small limits":                              limited(driver.Limits{EventBytes: 1 << 10, AppendEvents: 10, AppendBytes: 3000, NameBytes: 100}),
		"one that leaves deleted events in its log":          lazy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drivertest.Run(t, drivertest.Harness{Open: func(testing.TB) driver.Store { return open() }})
		})
	}
	t.Run("one that several processes share", func(t *testing.T) {
		t.Parallel()
		drivertest.Run(t, drivertest.Harness{
			Open: func(t testing.TB) driver.Store { return eventstoretest.Share(t, gaps()) },
			Peer: func(t testing.TB, d driver.Store) driver.Store { return eventstoretest.Share(t, d) },
		})
	})
}

func newMutant() *mutant { return &mutant{full: memstore.NewDriver().(full)} }

// results changes the result of every kind of append.
func (m *mutant) results(change func(*driver.Result)) {
	m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
		r := m.full.Append(ctx, a)
		change(&r)
		return r
	}
	m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
		list := m.full.AppendBatch(ctx, as)
		for i := range list {
			change(&list[i])
		}
		return list
	}
	m.onWith = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
		list := m.full.AppendWith(ctx, as, fn)
		for i := range list {
			change(&list[i])
		}
		return list
	}
	m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
		r := m.full.AppendIf(ctx, items, after, events, fn)
		change(&r)
		return r
	}
	m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
		list, err := m.full.AppendAtomic(ctx, as, fn)
		for i := range list {
			change(&list[i])
		}
		return list, err
	}
}

func lastOnly() driver.Store {
	m := newMutant()
	m.results(func(r *driver.Result) { r.Positions = nil })
	return m
}

// gaps multiplies all positions that come out by ten, and divides those that
// go in.
func gaps() driver.Store {
	m := newMutant()
	out := func(list []driver.Recorded) []driver.Recorded {
		for i := range list {
			list[i].Position *= 10
		}
		return list
	}
	m.results(func(r *driver.Result) {
		r.Last *= 10
		ps := make([]uint64, len(r.Positions))
		for i, p := range r.Positions {
			ps[i] = p * 10
		}
		r.Positions = ps
	})
	told := func(fn func(any, []driver.Recorded) error) func(any, []driver.Recorded) error {
		if fn == nil {
			return nil
		}
		return func(tx any, list []driver.Recorded) error { return fn(tx, out(list)) }
	}
	with, atomic, appendIf := m.onWith, m.onAtomic, m.onAppendIf
	m.onWith = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
		return with(ctx, as, told(fn))
	}
	m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
		return atomic(ctx, as, told(fn))
	}
	m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
		r := appendIf(ctx, items, after/10, events, told(fn))
		var conflict *driver.ConflictError
		if errors.As(r.Err, &conflict) {
			r.Err = &driver.ConflictError{Actual: conflict.Actual * 10}
		}
		return r
	}
	m.onQuery = func(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
		list, scanned, err := m.full.Query(ctx, items, after/10, limit)
		return out(list), scanned * 10, err
	}
	m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
		list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
		return out(list), err
	}
	m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
		list, scanned, err := m.full.ReadAll(ctx, f, from/10, dir, limit)
		return out(list), scanned * 10, err
	}
	m.onWait = func(ctx context.Context, after uint64) error { return m.full.Wait(ctx, after/10) }
	m.onHead = func(ctx context.Context) (uint64, error) {
		head, err := m.full.Head(ctx)
		return head * 10, err
	}
	m.onPositionAt = func(ctx context.Context, t time.Time) (uint64, error) {
		p, err := m.full.PositionAt(ctx, t)
		return p * 10, err
	}
	return m
}

// shortSighted reads three events of the log, and returns those it wants.
func shortSighted() driver.Store {
	m := newMutant()
	page := func(ctx context.Context, from uint64, dir driver.Direction, limit int, match func(*driver.Recorded) bool) ([]driver.Recorded, uint64, error) {
		list, scanned, err := m.full.ReadAll(ctx, driver.Filter{System: true}, from, dir, min(limit, 3))
		var some []driver.Recorded
		for _, r := range list {
			if match(&r) {
				some = append(some, r)
			}
		}
		return some, scanned, err
	}
	m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
		return page(ctx, from, dir, limit, func(r *driver.Recorded) bool { return f.Match(r.Stream, r.Type) })
	}
	m.onQuery = func(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
		return page(ctx, after, driver.Forward, limit, func(r *driver.Recorded) bool {
			for _, item := range items {
				if item.Match(r.Type, r.Tags) {
					return true
				}
			}
			return len(items) == 0 && r.Stream[0] != '$'
		})
	}
	return m
}

func fidgety() driver.Store {
	m := newMutant()
	m.onWait = func(ctx context.Context, after uint64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		if err := m.full.Wait(short, after); !errors.Is(err, short.Err()) || ctx.Err() != nil {
			return err
		}
		return nil
	}
	return m
}

// limited keeps its limits.
func limited(limits driver.Limits) func() driver.Store {
	return func() driver.Store { return limitedTo(limits) }
}

func limitedTo(limits driver.Limits) driver.Store {
	m := newMutant()
	m.onLimits = func() driver.Limits { return limits }
	fit := func(as ...driver.Append) bool {
		events, size := 0, 0
		for _, a := range as {
			for i := range a.Events {
				n := a.Events[i].Size()
				if n > limits.EventBytes {
					return false
				}
				size += n
			}
			events += len(a.Events)
			if len(a.Stream) > limits.NameBytes {
				return false
			}
		}
		return events <= limits.AppendEvents && size <= limits.AppendBytes
	}
	m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
		if !fit(a) {
			return driver.Result{Err: driver.ErrTooLarge}
		}
		return m.full.Append(ctx, a)
	}
	m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
		if !fit(as...) {
			return nil, driver.ErrTooLarge
		}
		return m.full.AppendAtomic(ctx, as, fn)
	}
	return m
}

var errEnough = errors.New("that is enough")

// lazy remembers which streams were deleted, and leaves their events where
// they are: those who read the log go on seeing them.
func lazy() driver.Store {
	m := newMutant()
	var mu sync.Mutex
	origin, deleted := map[string]uint64{}, map[string]bool{}
	complete := func(info driver.StreamInfo) driver.StreamInfo {
		info.First = max(info.First, origin[info.Name]+min(info.Version, 1))
		info.Origin, info.Deleted = origin[info.Name], deleted[info.Name]
		return info
	}
	// absent says whether expectations count a stream as absent, and if so,
	// whether one of them holds.
	absent := func(stream string, expected int64) (absent bool, err error) {
		if !deleted[stream] || expected == driver.Any {
			return false, nil
		}
		if _, err := m.full.Stream(context.Background(), stream); err != nil {
			return true, err
		}
		if expected != driver.NoStream {
			return true, &driver.ConflictError{}
		}
		return true, nil
	}
	// expect makes a hold where it is to hold for a deleted stream.
	expect := func(a *driver.Append) error {
		is, err := absent(a.Stream, a.Expected)
		if is {
			a.Expected = driver.Any
		}
		return err
	}
	appended := func(stream string, r driver.Result) driver.Result {
		if r.Err == nil {
			deleted[stream] = false
		}
		return r
	}
	m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
		mu.Lock()
		defer mu.Unlock()
		if err := cmp.Or(ctx.Err(), expect(&a)); err != nil {
			return driver.Result{Err: err}
		}
		return appended(a.Stream, m.full.Append(ctx, a))
	}
	m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
		results := make([]driver.Result, len(as))
		for i, a := range as {
			results[i] = m.onAppend(ctx, a)
		}
		return results
	}
	m.onWith = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
		mu.Lock()
		defer mu.Unlock()
		results := make([]driver.Result, len(as))
		for i, a := range as {
			if results[i].Err = expect(&a); results[i].Err == nil {
				results[i] = appended(a.Stream, m.full.AppendWith(ctx, []driver.Append{a}, fn)[0])
			}
		}
		return results
	}
	m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
		mu.Lock()
		defer mu.Unlock()
		as = slices.Clone(as)
		for i := range as {
			err := expect(&as[i])
			if conflict := (*driver.ConflictError)(nil); errors.As(err, &conflict) {
				// Those before it may stand in the way, too.
				if _, err := m.full.AppendAtomic(ctx, as[:i], func(any, []driver.Recorded) error { return errEnough }); i > 0 && !errors.Is(err, errEnough) {
					return nil, err
				}
				return nil, &driver.ConflictError{Stream: as[i].Stream, Actual: conflict.Actual}
			}
			if err != nil {
				return nil, err
			}
		}
		list, err := m.full.AppendAtomic(ctx, as, fn)
		for i := range list {
			appended(as[i].Stream, list[i])
		}
		return list, err
	}
	m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
		mu.Lock()
		defer mu.Unlock()
		r := m.full.AppendIf(ctx, items, after, events, fn)
		for _, e := range events {
			appended(e.Stream, r)
		}
		return r
	}
	m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
		mu.Lock()
		defer mu.Unlock()
		if dir == driver.Forward {
			from = max(from, origin[stream])
		}
		list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
		return slices.DeleteFunc(list, func(r driver.Recorded) bool { return r.Version <= origin[stream] }), err
	}
	m.onStream = func(ctx context.Context, stream string) (driver.StreamInfo, error) {
		mu.Lock()
		defer mu.Unlock()
		info, err := m.full.Stream(ctx, stream)
		if err != nil {
			return info, err
		}
		return complete(info), nil
	}
	m.onStreams = func(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
		mu.Lock()
		defer mu.Unlock()
		list, err := m.full.Streams(ctx, category, after, limit)
		for i := range list {
			list[i] = complete(list[i])
		}
		return list, err
	}
	m.onTruncate = func(ctx context.Context, stream string, before uint64) error {
		mu.Lock()
		defer mu.Unlock()
		if before <= origin[stream]+1 && before > 0 {
			before = 1
		}
		return m.full.Truncate(ctx, stream, before)
	}
	m.onDelete = func(ctx context.Context, stream string, expected int64) error {
		mu.Lock()
		defer mu.Unlock()
		info, err := m.full.Stream(ctx, stream)
		if err != nil || deleted[stream] {
			return err
		}
		// An append of nothing tells whether the expectation holds.
		if r := m.full.Append(ctx, driver.Append{Stream: stream, Expected: expected}); r.Err != nil || info.Version == 0 {
			return r.Err
		}
		origin[stream], deleted[stream] = info.Version, true
		return nil
	}
	m.onPurge = func(ctx context.Context, stream string) error {
		mu.Lock()
		defer mu.Unlock()
		delete(origin, stream)
		delete(deleted, stream)
		return m.full.Purge(ctx, stream)
	}
	return m
}
