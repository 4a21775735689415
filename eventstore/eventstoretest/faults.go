package eventstoretest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// An Op is something that a store asks of its driver.
type Op string

// The operations that can go wrong.
const (
	OpAppend         Op = "append" // in any way; each append of a batch by itself, one to several streams as one
	OpReadStream     Op = "read stream"
	OpReadAll        Op = "read all"
	OpQuery          Op = "query"
	OpHead           Op = "head"
	OpStream         Op = "stream"
	OpSaveSnapshot   Op = "save snapshot"
	OpLoadSnapshot   Op = "load snapshot"
	OpSaveCheckpoint Op = "save checkpoint"
	OpLoadCheckpoint Op = "load checkpoint" // one or many
	OpAcquire        Op = "acquire"
	OpRelease        Op = "release"
	OpLeases         Op = "leases"
)

// Faults is what goes wrong with a driver; none at first. Its methods may be called at any time by any goroutine, and
// count for operations that begin later.
type Faults struct {
	mu     sync.Mutex
	faults map[Op]*fault
	deaf   bool
	twice  bool
}

type fault struct {
	before, after   error
	nBefore, nAfter int // how many are still to fail; less than 0: all
	delay           time.Duration
	calls           int
}

// Faulty returns a driver that does what d does, but for what its Faults say. It is given to eventstore.New, and shows what the code
// on top of a store does when the store fails:
//
//	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
//	store := eventstore.New(d, nil)
//	faults.After(eventstoretest.OpAppend, 1, io.ErrUnexpectedEOF) // stored, but nobody can know
//
// It has the capabilities that d has. To hide some, embed the result as the interfaces that are wanted.
func Faulty(t testing.TB, d driver.Store) (driver.Store, *Faults) {
	t.Helper()
	f := &Faults{faults: map[Op]*fault{}}
	return like(t, &faulty{engineOf(d), f}, d), f
}

// Before makes the next n calls of op fail with err before anything is done; all, if n is less than 0.
func (f *Faults) Before(op Op, n int, err error) {
	f.set(op, func(x *fault) { x.before, x.nBefore = err, n })
}

// After makes the next n calls of op do what they should, and fail with err all the same, as when the connection breaks before the answer;
// all, if n is less than 0. Appends that conflict are not counted.
func (f *Faults) After(op Op, n int, err error) {
	f.set(op, func(x *fault) { x.after, x.nAfter = err, n })
}

// Delay makes every call of op take longer, unless its context ends. 0 ends that.
func (f *Faults) Delay(op Op, d time.Duration) { f.set(op, func(x *fault) { x.delay = d }) }

// Deaf drops all notifications of new events, or no longer: readers find them by polling.
func (f *Faults) Deaf(deaf bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = deaf
}

// Twice makes every read of all events begin one event too early, or no longer, so that events are read that were read before.
// No driver may do that; code that follows a store passes over what it has seen.
func (f *Faults) Twice(twice bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.twice = twice
}

// Heal ends all faults.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.faults {
		*x = fault{calls: x.calls}
	}
	f.deaf, f.twice = false, false
}

// Calls returns how often op was called, whatever became of it.
func (f *Faults) Calls(op Op) int {
	n := 0
	f.set(op, func(x *fault) { n = x.calls })
	return n
}

func (f *Faults) set(op Op, fn func(*fault)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x := f.faults[op]
	if x == nil {
		x = &fault{}
		f.faults[op] = x
	}
	fn(x)
}

// begin is called at the beginning of an operation. The func that it returns is called at the end, if all went well.
func (f *Faults) begin(ctx context.Context, op Op) (end func() error, err error) {
	var delay time.Duration
	f.set(op, func(x *fault) {
		x.calls++
		delay = x.delay
		err = take(&x.nBefore, x.before)
	})
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() (err error) {
		f.set(op, func(x *fault) { err = take(&x.nAfter, x.after) })
		return err
	}, err
}

func take(n *int, err error) error {
	if *n == 0 {
		return nil
	}
	if *n > 0 {
		*n--
	}
	return err
}

// do surrounds an operation.
func (f *Faults) do(ctx context.Context, op Op, fn func() error) error {
	end, err := f.begin(ctx, op)
	if err == nil {
		err = fn()
	}
	if err == nil {
		err = end()
	}
	return err
}

// append surrounds an append.
func (f *Faults) append(ctx context.Context, fn func() driver.Result) (r driver.Result) {
	err := f.do(ctx, OpAppend, func() error {
		r = fn()
		return r.Err
	})
	if err != nil && r.Err == nil {
		return driver.Result{Err: err}
	}
	return r
}

// faulty is an engine with faults. What is not here does not fail: closing, limits, lists and deletions.
type faulty struct {
	Engine
	f *Faults
}

func (d *faulty) Append(ctx context.Context, a driver.Append) driver.Result {
	return d.f.append(ctx, func() driver.Result { return d.Engine.Append(ctx, a) })
}

// AppendBatch keeps what the engine does with a batch: those that do not fail before are committed together.
func (d *faulty) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	return d.batch(ctx, as, d.Engine.AppendBatch)
}

// AppendWith is AppendBatch with more in each transaction.
func (d *faulty) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	return d.batch(ctx, as, func(ctx context.Context, as []driver.Append) []driver.Result { return d.Engine.AppendWith(ctx, as, fn) })
}

func (d *faulty) batch(ctx context.Context, as []driver.Append, commit func(context.Context, []driver.Append) []driver.Result) []driver.Result {
	results := make([]driver.Result, len(as))
	ends := make([]func() error, len(as))
	var good []driver.Append
	for i, a := range as {
		if ends[i], results[i].Err = d.f.begin(ctx, OpAppend); results[i].Err == nil {
			good = append(good, a)
		}
	}
	if len(good) == 0 {
		return results
	}
	done := commit(ctx, good)
	for i := range results {
		if results[i].Err != nil {
			continue
		}
		results[i], done = done[0], done[1:]
		if results[i].Err == nil {
			if err := ends[i](); err != nil {
				results[i] = driver.Result{Err: err}
			}
		}
	}
	return results
}

// AppendAtomic is one append, to however many streams.
func (d *faulty) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) (list []driver.Result, err error) {
	err = d.f.do(ctx, OpAppend, func() error {
		list, err = d.Engine.AppendAtomic(ctx, as, fn)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (d *faulty) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	return d.f.append(ctx, func() driver.Result { return d.Engine.AppendIf(ctx, items, after, events, fn) })
}

func (d *faulty) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) (events []driver.Recorded, err error) {
	err = d.f.do(ctx, OpReadStream, func() error {
		events, err = d.Engine.ReadStream(ctx, stream, from, dir, limit)
		return err
	})
	return events, err
}

func (d *faulty) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) (events []driver.Recorded, scanned uint64, err error) {
	err = d.f.do(ctx, OpReadAll, func() error {
		events, scanned, err = d.Engine.ReadAll(ctx, f, from, dir, limit)
		return err
	})
	d.f.mu.Lock()
	twice := d.f.twice
	d.f.mu.Unlock()
	if err == nil && twice && dir == driver.Forward && from > 0 {
		if seen := d.lastTo(ctx, f, from); seen != nil {
			events = append(seen, events...)
		}
	}
	return events, scanned, err
}

// lastTo returns the last event that f selects at or below a position. It asks only for positions that the engine gave
// out, since others may mean nothing to it.
func (d *faulty) lastTo(ctx context.Context, f driver.Filter, position uint64) []driver.Recorded {
	below, _, err := d.Engine.ReadAll(ctx, f, position, driver.Backward, 1)
	if err != nil {
		return nil
	}
	var from uint64
	if len(below) > 0 {
		from = below[0].Position
	}
	at, _, err := d.Engine.ReadAll(ctx, f, from, driver.Forward, 1)
	if err == nil && len(at) > 0 && at[0].Position <= position {
		return at[:1:1]
	}
	return below[:len(below):len(below)]
}

func (d *faulty) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) (events []driver.Recorded, scanned uint64, err error) {
	err = d.f.do(ctx, OpQuery, func() error {
		events, scanned, err = d.Engine.Query(ctx, items, after, limit)
		return err
	})
	return events, scanned, err
}

func (d *faulty) Wait(ctx context.Context, after uint64) error {
	d.f.mu.Lock()
	deaf := d.f.deaf
	d.f.mu.Unlock()
	if deaf {
		<-ctx.Done()
		return ctx.Err()
	}
	return d.Engine.Wait(ctx, after)
}

func (d *faulty) Head(ctx context.Context) (head uint64, err error) {
	err = d.f.do(ctx, OpHead, func() error {
		head, err = d.Engine.Head(ctx)
		return err
	})
	return head, err
}

func (d *faulty) Stream(ctx context.Context, stream string) (info driver.StreamInfo, err error) {
	err = d.f.do(ctx, OpStream, func() error {
		info, err = d.Engine.Stream(ctx, stream)
		return err
	})
	return info, err
}

func (d *faulty) SaveSnapshot(ctx context.Context, stream string, s driver.Snapshot) error {
	return d.f.do(ctx, OpSaveSnapshot, func() error { return d.Engine.SaveSnapshot(ctx, stream, s) })
}

func (d *faulty) LoadSnapshot(ctx context.Context, stream string) (s driver.Snapshot, ok bool, err error) {
	err = d.f.do(ctx, OpLoadSnapshot, func() error {
		s, ok, err = d.Engine.LoadSnapshot(ctx, stream)
		return err
	})
	return s, ok, err
}

func (d *faulty) LoadCheckpoint(ctx context.Context, name string) (c driver.Checkpoint, ok bool, err error) {
	err = d.f.do(ctx, OpLoadCheckpoint, func() error {
		c, ok, err = d.Engine.LoadCheckpoint(ctx, name)
		return err
	})
	return c, ok, err
}

func (d *faulty) Checkpoints(ctx context.Context, prefix string) (list map[string]driver.Checkpoint, err error) {
	err = d.f.do(ctx, OpLoadCheckpoint, func() error {
		list, err = d.Engine.Checkpoints(ctx, prefix)
		return err
	})
	return list, err
}

func (d *faulty) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	return d.f.do(ctx, OpSaveCheckpoint, func() error { return d.Engine.SaveCheckpoint(ctx, name, from, to) })
}

func (d *faulty) DeleteCheckpoint(ctx context.Context, name string) error {
	return d.f.do(ctx, OpSaveCheckpoint, func() error { return d.Engine.DeleteCheckpoint(ctx, name) })
}

func (d *faulty) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	err = d.f.do(ctx, OpAcquire, func() error {
		fence, ok, err = d.Engine.Acquire(ctx, name, owner, ttl)
		return err
	})
	if err != nil {
		return 0, false, err
	}
	return fence, ok, nil
}

func (d *faulty) Release(ctx context.Context, name, owner string, fence uint64) error {
	return d.f.do(ctx, OpRelease, func() error { return d.Engine.Release(ctx, name, owner, fence) })
}

func (d *faulty) Leases(ctx context.Context, prefix string) (list []driver.Lease, err error) {
	err = d.f.do(ctx, OpLeases, func() error {
		list, err = d.Engine.Leases(ctx, prefix)
		return err
	})
	return list, err
}

// As gives what the engine does.
func (d *faulty) As(target any) bool { return viewer{d.Engine}.As(target) }
