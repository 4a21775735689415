package aggregate_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// A faulty driver is memstore with a say in every append.
type faulty struct {
	engine
	shared bool // other processes write too
	limits func(*driver.Limits)

	mu      sync.Mutex
	before  func(a driver.Append) error                          // an error: nothing is written
	after   func(a driver.Append, r driver.Result) driver.Result // after the events are written
	snap    func(s driver.Snapshot) error
	appends []driver.Append
	ctxs    []context.Context
	streams int // calls of Stream
	reads   int // calls of ReadStream
}

// An engine is what a faulty driver passes through.
type engine interface {
	driver.Store
	driver.Batcher
	driver.Snapshotter
	driver.Deleter
}

func newFaulty() *faulty { return &faulty{engine: memstore.NewDriver().(engine)} }

func (f *faulty) Limits() driver.Limits {
	l := f.engine.Limits()
	l.Exclusive = !f.shared
	if f.limits != nil {
		f.limits(&l)
	}
	return l
}

func (f *faulty) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	results := make([]driver.Result, len(as))
	for i, a := range as {
		results[i] = f.Append(ctx, a)
	}
	return results
}

func (f *faulty) Append(ctx context.Context, a driver.Append) driver.Result {
	f.mu.Lock()
	before, after := f.before, f.after
	f.appends = append(f.appends, driver.Append{Stream: a.Stream, Expected: a.Expected, Events: slices.Clone(a.Events)})
	f.ctxs = append(f.ctxs, ctx)
	f.mu.Unlock()
	if before != nil {
		if err := before(a); err != nil {
			return driver.Result{Err: err}
		}
	}
	r := f.engine.Append(ctx, a)
	if after != nil && r.Err == nil {
		r = after(a, r)
	}
	return r
}

func (f *faulty) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	f.mu.Lock()
	f.streams++
	f.mu.Unlock()
	return f.engine.Stream(ctx, stream)
}

func (f *faulty) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	f.mu.Lock()
	f.reads++
	f.mu.Unlock()
	return f.engine.ReadStream(ctx, stream, from, dir, limit)
}

func (f *faulty) SaveSnapshot(ctx context.Context, stream string, s driver.Snapshot) error {
	f.mu.Lock()
	snap := f.snap
	f.mu.Unlock()
	if snap != nil {
		if err := snap(s); err != nil {
			return err
		}
	}
	return f.engine.SaveSnapshot(ctx, stream, s)
}

// set changes the faults.
func (f *faulty) set(fn func(f *faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f)
}

// counts returns how often Stream and ReadStream were called, and forgets it.
func (f *faulty) counts() (streams, reads int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	streams, reads = f.streams, f.reads
	f.streams, f.reads = 0, 0
	return streams, reads
}

// sizes returns how many events each append so far had.
func (f *faulty) sizes() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []int
	for _, a := range f.appends {
		out = append(out, len(a.Events))
	}
	return out
}

// A gate holds up appends until they are let through.
type gate struct {
	arrived chan driver.Append
	pass    chan error // nil lets one through
}

// gated makes every append of f wait for its gate.
func gated(f *faulty) *gate {
	g := &gate{make(chan driver.Append, 1024), make(chan error)}
	f.set(func(f *faulty) {
		f.before = func(a driver.Append) error {
			g.arrived <- a
			return <-g.pass
		}
	})
	return g
}

// open lets everything through from now on.
func (g *gate) open(f *faulty) {
	f.set(func(f *faulty) { f.before = nil })
	close(g.pass)
}

// failing makes the next n appends fail with err, before anything is written.
func failing(f *faulty, n int, err error) {
	f.set(func(f *faulty) {
		f.before = func(driver.Append) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if n--; n >= 0 {
				return err
			}
			return nil
		}
	})
}

// interfering makes somebody else append a deposit of 1 just before each of the
// next n appends.
func interfering(f *faulty, n int) {
	f.set(func(f *faulty) {
		f.before = func(a driver.Append) error {
			f.mu.Lock()
			n--
			left := n
			f.mu.Unlock()
			if left < 0 {
				return nil
			}
			return f.foreign(a.Stream)
		}
	})
}

// foreign appends a deposit of 1 as another process would.
func (f *faulty) foreign(stream string) error {
	return f.engine.Append(context.Background(), driver.Append{
		Stream: stream,
		Events: []driver.Event{{ID: eventstore.NewID(), Type: "deposited", ContentType: "application/json", Data: []byte(`{"Amount":1}`)}},
	}).Err
}

var errDisk = errors.New("disk full")

// balance returns what View shows of account a.
func balance(t testing.TB, r interface {
	View(context.Context, string, func(*account, eventstore.Version)) error
}, id string) (balance int, version eventstore.Version) {
	t.Helper()
	require.NoError(t, r.View(context.Background(), id, func(a *account, v eventstore.Version) {
		balance, version = a.Balance, v
	}))
	return balance, version
}
