package drivertest_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// shared are drivers of several processes that have a fault as long as another
// process works, too, and the subtests that must find it. make is called for
// each process.
var shared = []struct {
	name   string
	caught []string
	make   func(*mutant)
}{
	{"a process remembers where streams are", []string{"Peers/the version of a stream is never older than an append that anybody was told of", "Peers/Linearizable"}, func(m *mutant) {
		var mu sync.Mutex
		known := map[string]driver.StreamInfo{}
		m.onStream = func(ctx context.Context, stream string) (driver.StreamInfo, error) {
			mu.Lock()
			defer mu.Unlock()
			if info, ok := known[stream]; ok {
				return info, nil
			}
			info, err := m.full.Stream(ctx, stream)
			if err == nil && info.Version > 0 {
				known[stream] = info
			}
			return info, err
		}
	}},
	{"a process remembers how streams end", []string{"Peers/the version of a stream is never older than an append that anybody was told of", "Peers/Linearizable"}, func(m *mutant) {
		var mu sync.Mutex
		known := map[string][]driver.Recorded{}
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			mu.Lock()
			defer mu.Unlock()
			if dir == driver.Backward && from == 0 && len(known[stream]) >= limit {
				return known[stream][:limit], nil
			}
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			if dir == driver.Backward && from == 0 {
				known[stream] = list
			}
			return list, err
		}
	}},
	{"a process checks what it remembers of others", []string{"Peers/expectations are checked against what the other has appended"}, func(m *mutant) {
		var mu sync.Mutex
		known := map[string]uint64{}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			mu.Lock()
			defer mu.Unlock()
			if at := known[a.Stream]; at > 0 && a.Expected > 0 && uint64(a.Expected) != at {
				return driver.Result{Err: &driver.ConflictError{Actual: at}}
			}
			r := m.full.Append(ctx, a)
			if r.Err == nil {
				known[a.Stream] = r.Version
			}
			return r
		}
	}},
	{"a process checks several streams by what it remembers of them", []string{"Peers/an append to several streams is the other's to build on", "Peers/Atomic"}, func(m *mutant) {
		var mu sync.Mutex
		known := map[string]uint64{}
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, a := range as {
				if at := known[a.Stream]; at > 0 && a.Expected > 0 && uint64(a.Expected) != at {
					return nil, &driver.ConflictError{Stream: a.Stream, Actual: at}
				}
			}
			list, err := m.full.AppendAtomic(ctx, as, fn)
			for i := range list {
				known[as[i].Stream] = list[i].Version
			}
			return list, err
		}
	}},
	{"a process that hears nothing gives up", []string{"Peers/Wait ends with the other's append"}, func(m *mutant) {
		m.onWait = func(ctx context.Context, after uint64) error {
			ctx, cancel := context.WithTimeout(ctx, time.Nanosecond)
			defer cancel()
			return m.full.Wait(ctx, after)
		}
	}},
	{"a process lists what it knew", []string{"Peers/List"}, func(m *mutant) {
		var mu sync.Mutex
		var known []string
		m.onCategories = func(ctx context.Context) (list []string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if known == nil {
				known, err = m.full.Categories(ctx)
			}
			return known, err
		}
		m.onStreams = func(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
			list, err := m.full.Streams(ctx, category, after, limit)
			return list[:len(list)-len(list)/2], err
		}
	}},
	{"leases are each process's own", []string{"Peers/a lease that one holds is not granted to the other", "Peers/Lease"}, func(m *mutant) {
		own := memstore.NewDriver().(full)
		m.onAcquire, m.onRelease = own.Acquire, own.Release
	}},
	{"the clocks of processes differ by a day", []string{"Peers/Lease"}, func(m *mutant) {
		var mu sync.Mutex
		late := map[string]string{}
		m.onAcquire = func(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
			mu.Lock()
			defer mu.Unlock()
			if held, _ := m.full.Leases(ctx, name); len(held) > 0 && held[0].Owner != owner && late[name] != held[0].Owner {
				m.full.Release(ctx, name, held[0].Owner, held[0].Fence)
			}
			late[name] = owner
			return m.full.Acquire(ctx, name, owner, ttl)
		}
	}},
	{"checkpoints are compared with what the process saved last", []string{"Peers/a checkpoint that one has moved cannot be saved by the other", "Peers/Checkpoint"}, func(m *mutant) {
		var mu sync.Mutex
		known := map[string]driver.Checkpoint{}
		m.onSaveCheckpoint = func(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
			mu.Lock()
			defer mu.Unlock()
			if old, ok := known[name]; ok && from != nil && from.Position == old.Position && from.Fence == old.Fence {
				m.full.DeleteCheckpoint(ctx, name)
				from = nil
			}
			err := m.full.SaveCheckpoint(ctx, name, from, to)
			if err == nil {
				known[name] = to
			}
			return err
		}
	}},
	{"snapshots are each process's own", []string{"Peers/a snapshot that one has saved is the other's, too"}, func(m *mutant) {
		own := memstore.NewDriver().(full)
		m.onSaveSnapshot = func(ctx context.Context, stream string, s driver.Snapshot) error {
			if err := own.SaveSnapshot(ctx, stream, s); err != nil {
				return err
			}
			s, _, err := own.LoadSnapshot(ctx, stream)
			if err != nil {
				return err
			}
			m.full.DeleteSnapshot(ctx, stream)
			return m.full.SaveSnapshot(ctx, stream, s)
		}
	}},
	{"a condition is on what the process appended itself", []string{"Peers/a boundary that one has moved stops the other", "Peers/Conditional"}, func(m *mutant) {
		var mu sync.Mutex
		var last uint64
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			mu.Lock()
			defer mu.Unlock()
			if last <= after {
				items = nil
			}
			r := m.full.AppendIf(ctx, items, after, events, fn)
			last = max(last, r.Last)
			return r
		}
	}},
	{"a process remembers which streams were purged", []string{"Peers/what one removes is gone for the other"}, func(m *mutant) {
		var mu sync.Mutex
		purged, read := map[string]bool{}, map[string][]driver.Recorded{}
		m.onPurge = func(ctx context.Context, stream string) error {
			mu.Lock()
			defer mu.Unlock()
			purged[stream] = true
			return m.full.Purge(ctx, stream)
		}
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				read[stream] = list
			} else if !purged[stream] {
				return read[stream], nil
			}
			return list, err
		}
	}},
	{"a process says that it is alone", []string{"Peers/no handle is exclusive, and all have the same limits"}, func(m *mutant) {
		m.onLimits = func() driver.Limits {
			l := m.full.Limits()
			l.Exclusive = true
			return l
		}
	}},
	{"whoever closes closes for all", []string{"Peers/closing one leaves the other"}, func(m *mutant) {
		m.onClose = func() error {
			everybody.Store(true)
			return m.full.Close()
		}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			if everybody.Load() {
				return driver.Result{Err: driver.ErrClosed}
			}
			return m.full.Append(ctx, a)
		}
	}},
}

// everybody says that one of the processes of a child process was closed.
var everybody atomic.Bool

// sharing returns a harness of processes that share a store, with the fault of that name, if there is one.
func sharing(name string) drivertest.Harness {
	process := func(d driver.Store) driver.Store {
		m := &mutant{full: d.(full)}
		for _, c := range shared {
			if c.name == name {
				c.make(m)
			}
		}
		return m
	}
	return drivertest.Harness{
		Open: func(t testing.TB) driver.Store { return process(eventstoretest.Share(t, memstore.NewDriver())) },
		Peer: func(t testing.TB, d driver.Store) driver.Store {
			return process(eventstoretest.Share(t, d.(*mutant).full))
		},
	}
}
