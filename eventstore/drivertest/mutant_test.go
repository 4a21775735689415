package drivertest_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
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

// full is everything that a driver can do.
type full = eventstoretest.Engine

// A mutant is a sound driver of which some calls go elsewhere.
type mutant struct {
	full
	onAppend         func(context.Context, driver.Append) driver.Result
	onBatch          func(context.Context, []driver.Append) []driver.Result
	onWith           func(context.Context, []driver.Append, func(any, []driver.Recorded) error) []driver.Result
	onReadStream     func(context.Context, string, uint64, driver.Direction, int) ([]driver.Recorded, error)
	onReadAll        func(context.Context, driver.Filter, uint64, driver.Direction, int) ([]driver.Recorded, uint64, error)
	onWait           func(context.Context, uint64) error
	onHead           func(context.Context) (uint64, error)
	onStream         func(context.Context, string) (driver.StreamInfo, error)
	onLimits         func() driver.Limits
	onClose          func() error
	onStreams        func(context.Context, string, string, int) ([]driver.StreamInfo, error)
	onCategories     func(context.Context) ([]string, error)
	onTruncate       func(context.Context, string, uint64) error
	onDelete         func(context.Context, string, int64) error
	onPurge          func(context.Context, string) error
	onPositionAt     func(context.Context, time.Time) (uint64, error)
	onSaveSnapshot   func(context.Context, string, driver.Snapshot) error
	onSaveCheckpoint func(context.Context, string, *driver.Checkpoint, driver.Checkpoint) error
	onCheckpoints    func(context.Context, string) (map[string]driver.Checkpoint, error)
	onAcquire        func(context.Context, string, string, time.Duration) (uint64, bool, error)
	onRelease        func(context.Context, string, string, uint64) error
	onAppendIf       func(context.Context, []driver.QueryItem, uint64, []driver.StreamEvent, func(any, []driver.Recorded) error) driver.Result
	onAtomic         func(context.Context, []driver.Append, func(any, []driver.Recorded) error) ([]driver.Result, error)
	onQuery          func(context.Context, []driver.QueryItem, uint64, int) ([]driver.Recorded, uint64, error)
	onAs             func(any) bool
}

func (m *mutant) Append(ctx context.Context, a driver.Append) driver.Result {
	if m.onAppend != nil {
		return m.onAppend(ctx, a)
	}
	return m.full.Append(ctx, a)
}

func (m *mutant) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	if m.onBatch != nil {
		return m.onBatch(ctx, as)
	}
	return m.full.AppendBatch(ctx, as)
}

func (m *mutant) AppendWith(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
	if m.onWith != nil {
		return m.onWith(ctx, as, fn)
	}
	return m.full.AppendWith(ctx, as, fn)
}

func (m *mutant) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	if m.onReadStream != nil {
		return m.onReadStream(ctx, stream, from, dir, limit)
	}
	return m.full.ReadStream(ctx, stream, from, dir, limit)
}

func (m *mutant) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	if m.onReadAll != nil {
		return m.onReadAll(ctx, f, from, dir, limit)
	}
	return m.full.ReadAll(ctx, f, from, dir, limit)
}

func (m *mutant) Wait(ctx context.Context, after uint64) error {
	if m.onWait != nil {
		return m.onWait(ctx, after)
	}
	return m.full.Wait(ctx, after)
}

func (m *mutant) Head(ctx context.Context) (uint64, error) {
	if m.onHead != nil {
		return m.onHead(ctx)
	}
	return m.full.Head(ctx)
}

func (m *mutant) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	if m.onStream != nil {
		return m.onStream(ctx, stream)
	}
	return m.full.Stream(ctx, stream)
}

func (m *mutant) Limits() driver.Limits {
	if m.onLimits != nil {
		return m.onLimits()
	}
	return m.full.Limits()
}

func (m *mutant) Close() error {
	if m.onClose != nil {
		return m.onClose()
	}
	return m.full.Close()
}

func (m *mutant) Streams(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
	if m.onStreams != nil {
		return m.onStreams(ctx, category, after, limit)
	}
	return m.full.Streams(ctx, category, after, limit)
}

func (m *mutant) Categories(ctx context.Context) ([]string, error) {
	if m.onCategories != nil {
		return m.onCategories(ctx)
	}
	return m.full.Categories(ctx)
}

func (m *mutant) Truncate(ctx context.Context, stream string, before uint64) error {
	if m.onTruncate != nil {
		return m.onTruncate(ctx, stream, before)
	}
	return m.full.Truncate(ctx, stream, before)
}

func (m *mutant) Delete(ctx context.Context, stream string, expected int64) error {
	if m.onDelete != nil {
		return m.onDelete(ctx, stream, expected)
	}
	return m.full.Delete(ctx, stream, expected)
}

func (m *mutant) Purge(ctx context.Context, stream string) error {
	if m.onPurge != nil {
		return m.onPurge(ctx, stream)
	}
	return m.full.Purge(ctx, stream)
}

func (m *mutant) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	if m.onPositionAt != nil {
		return m.onPositionAt(ctx, t)
	}
	return m.full.PositionAt(ctx, t)
}

func (m *mutant) SaveSnapshot(ctx context.Context, stream string, s driver.Snapshot) error {
	if m.onSaveSnapshot != nil {
		return m.onSaveSnapshot(ctx, stream, s)
	}
	return m.full.SaveSnapshot(ctx, stream, s)
}

func (m *mutant) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	if m.onSaveCheckpoint != nil {
		return m.onSaveCheckpoint(ctx, name, from, to)
	}
	return m.full.SaveCheckpoint(ctx, name, from, to)
}

func (m *mutant) Checkpoints(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
	if m.onCheckpoints != nil {
		return m.onCheckpoints(ctx, prefix)
	}
	return m.full.Checkpoints(ctx, prefix)
}

func (m *mutant) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	if m.onAcquire != nil {
		return m.onAcquire(ctx, name, owner, ttl)
	}
	return m.full.Acquire(ctx, name, owner, ttl)
}

func (m *mutant) Release(ctx context.Context, name, owner string, fence uint64) error {
	if m.onRelease != nil {
		return m.onRelease(ctx, name, owner, fence)
	}
	return m.full.Release(ctx, name, owner, fence)
}

func (m *mutant) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	if m.onAppendIf != nil {
		return m.onAppendIf(ctx, items, after, events, fn)
	}
	return m.full.AppendIf(ctx, items, after, events, fn)
}

func (m *mutant) AppendAtomic(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
	if m.onAtomic != nil {
		return m.onAtomic(ctx, as, fn)
	}
	return m.full.AppendAtomic(ctx, as, fn)
}

func (m *mutant) Query(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
	if m.onQuery != nil {
		return m.onQuery(ctx, items, after, limit)
	}
	return m.full.Query(ctx, items, after, limit)
}

func (m *mutant) As(target any) bool {
	if m.onAs != nil {
		return m.onAs(target)
	}
	return m.full.As(target)
}

// written changes every event on its way into the log.
func (m *mutant) written(change func(*driver.Event)) {
	m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
		a.Events = slices.Clone(a.Events)
		for i := range a.Events {
			change(&a.Events[i])
		}
		return m.full.Append(ctx, a)
	}
}

// selected changes the filter of every read.
func (m *mutant) selected(change func(*driver.Filter)) {
	m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
		change(&f)
		return m.full.ReadAll(ctx, f, from, dir, limit)
	}
}

// scan changes scanned of every read.
func (m *mutant) scan(change func(list []driver.Recorded, scanned, from uint64, dir driver.Direction) uint64) {
	m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
		list, scanned, err := m.full.ReadAll(ctx, f, from, dir, limit)
		return list, change(list, scanned, from, dir), err
	}
}

// dawdle gives others the time to append something.
func (m *mutant) dawdle() {
	head, _ := m.full.Head(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	m.full.Wait(ctx, head)
}

// oneByOne appends to one stream after the other.
func (m *mutant) oneByOne(ctx context.Context, as []driver.Append) (list []driver.Result, err error) {
	for _, a := range as {
		r := m.full.Append(ctx, a)
		if conflict := (*driver.ConflictError)(nil); errors.As(r.Err, &conflict) {
			return nil, &driver.ConflictError{Stream: a.Stream, Actual: conflict.Actual}
		}
		if r.Err != nil {
			return nil, r.Err
		}
		list = append(list, r)
		m.dawdle()
	}
	return list, nil
}

// anyway is as without the expectations.
func anyway(as []driver.Append) []driver.Append {
	as = slices.Clone(as)
	for i := range as {
		as[i].Expected = driver.Any
	}
	return as
}

// late is fn whose error comes too late.
func late(fn func(any, []driver.Recorded) error, refused *error) func(any, []driver.Recorded) error {
	if fn == nil {
		return nil
	}
	return func(tx any, list []driver.Recorded) error {
		*refused = fn(tx, list)
		return nil
	}
}

// singly calls fn for each event.
func singly(fn func(any, []driver.Recorded) error) func(any, []driver.Recorded) error {
	if fn == nil {
		return nil
	}
	return func(tx any, list []driver.Recorded) error {
		for i := range list {
			if err := fn(tx, list[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
}

func conflicted(err error) bool {
	var conflict *driver.ConflictError
	return errors.As(err, &conflict)
}

const model = "Model/a random history leaves the driver as it leaves a plain model"

// mutants are drivers with one fault each, and the subtests that must find it.
var mutants = []struct {
	name   string
	caught []string
	make   func(*mutant)
}{
	// Appending
	{"a conflict is written all the same", []string{"Append/a stream at 3 refuses version 2", "Append/a conflict uses up no version", model}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			if conflicted(r.Err) {
				a.Expected = driver.Any
				m.full.Append(ctx, a)
			}
			return r
		}
	}},
	{"a conflict does not say where the stream is", []string{"Append/a stream at 3 refuses NoStream", model}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			if conflicted(r.Err) {
				r.Err = &driver.ConflictError{Actual: 1}
			}
			return r
		}
	}},
	{"StreamExists is taken for Any", []string{"Append/a new stream refuses StreamExists", model}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			if a.Expected == driver.StreamExists {
				a.Expected = driver.Any
			}
			return m.full.Append(ctx, a)
		}
	}},
	{"a version is checked, and then written without the check", []string{"Concurrent/of 16 who expect the same version one wins"}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			info, _ := m.full.Stream(ctx, a.Stream)
			if a.Expected > 0 && uint64(a.Expected) != info.Version || a.Expected == driver.NoStream && info.Version > 0 {
				return driver.Result{Err: &driver.ConflictError{Actual: info.Version}}
			}
			m.dawdle()
			a.Expected = driver.Any
			return m.full.Append(ctx, a)
		}
	}},
	{"a stream is at the version of a while ago", []string{"Linearizable/appends and reads of clients at once are in one order a stream"}, func(m *mutant) {
		var mu sync.Mutex
		last := map[string]driver.StreamInfo{}
		m.onStream = func(ctx context.Context, stream string) (driver.StreamInfo, error) {
			info, err := m.full.Stream(ctx, stream)
			mu.Lock()
			defer mu.Unlock()
			old, ok := last[stream]
			if last[stream] = info; ok && err == nil {
				return old, nil
			}
			return info, err
		}
	}},
	{"events of an append are written one by one", []string{"Concurrent/a reader never sees part of an append"}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) (r driver.Result) {
			var ps []uint64
			for _, e := range a.Events {
				if r = m.full.Append(ctx, driver.Append{Stream: a.Stream, Expected: a.Expected, Events: []driver.Event{e}}); r.Err != nil {
					return r
				}
				ps, a.Expected = append(ps, r.Last), driver.Any
				time.Sleep(10 * time.Microsecond)
			}
			r.Positions = ps
			return r
		}
	}},
	{"the result has another time", []string{"Append/the result says what readers will see", model}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			r.Time = r.Time.Add(time.Microsecond)
			return r
		}
	}},
	{"the result has the first position for the last", []string{"Append/the result says what readers will see", model}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			if r.Err == nil {
				r.Last = r.Positions[0]
			}
			return r
		}
	}},
	{"limits are told and not kept", []string{"Append/as many events as are allowed are one append in order", "Append/a name over the limit is too large", "Append/one event over the limit is too large and nothing is written", "Append/more bytes than an append may have are too large and nothing is written"}, func(m *mutant) {
		m.onLimits = func() driver.Limits {
			return driver.Limits{AppendEvents: 100, NameBytes: 100, EventBytes: 1 << 16, AppendBytes: 1 << 20}
		}
	}},
	{"data ends at the first NUL", []string{"Append/every part of an event reads as it was written", model}, func(m *mutant) {
		m.written(func(e *driver.Event) { e.Data, _, _ = bytes.Cut(e.Data, []byte{0}) })
	}},
	{"tags are sorted", []string{"Append/every part of an event reads as it was written"}, func(m *mutant) {
		m.written(func(e *driver.Event) { e.Tags = slices.Sorted(slices.Values(e.Tags)) })
	}},
	{"metadata without a value is dropped", []string{"Append/every part of an event reads as it was written"}, func(m *mutant) {
		m.written(func(e *driver.Event) {
			kept := map[string]string{}
			for k, v := range e.Metadata {
				if v != "" {
					kept[k] = v
				}
			}
			e.Metadata = kept
		})
	}},
	{"the correlation is dropped", []string{"Append/every part of an event reads as it was written"}, func(m *mutant) {
		m.written(func(e *driver.Event) { e.Correlation = [16]byte{} })
	}},
	{"the content type is dropped", []string{"Append/every part of an event reads as it was written", model}, func(m *mutant) {
		m.written(func(e *driver.Event) { e.ContentType = "" })
	}},
	{"stream names differ in case only", []string{"Append/names that are alike are different streams"}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			a.Stream = strings.ToLower(a.Stream)
			return m.full.Append(ctx, a)
		}
	}},
	{"times are whole milliseconds", []string{"Append/times are UTC, to the microsecond at least, and about now"}, func(m *mutant) {
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			r.Time = r.Time.Truncate(time.Millisecond)
			// So that the subtest need not ask for ever.
			if info, _ := m.full.Stream(ctx, a.Stream); info.Version > 50 {
				r.Err = errors.New("that's enough")
			}
			return r
		}
	}},
	{"the caller's slices are kept", []string{"Append/what is passed in is neither modified nor kept"}, func(m *mutant) {
		var mu sync.Mutex
		kept := map[[16]byte]driver.Event{}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range a.Events {
				kept[e.ID] = e
			}
			return m.full.Append(ctx, a)
		}
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			mu.Lock()
			defer mu.Unlock()
			for i := range list {
				list[i].Event = kept[list[i].ID]
			}
			return list, err
		}
	}},
	{"a page is used for the next one too", []string{"Append/what was returned is not modified later"}, func(m *mutant) {
		var pages [][]driver.Recorded
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			pages = append(pages, list)
			return list, err
		}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			for _, list := range pages {
				clear(list)
			}
			return m.full.Append(ctx, a)
		}
	}},

	// Batches
	{"a conflict ends the batch", []string{"Batch/one that conflicts fails alone", model}, func(m *mutant) {
		m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
			results := make([]driver.Result, len(as))
			for i, a := range as {
				if i > 0 && conflicted(results[i-1].Err) {
					results[i].Err = results[i-1].Err
				} else {
					results[i] = m.full.Append(ctx, a)
				}
			}
			return results
		}
	}},
	{"a conflict undoes the batch", []string{"Batch/one that conflicts fails alone", model}, func(m *mutant) {
		m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
			results := make([]driver.Result, len(as))
			for _, a := range as {
				info, _ := m.full.Stream(ctx, a.Stream)
				if a.Expected > 0 && uint64(a.Expected) != info.Version {
					for i := range results {
						results[i] = driver.Result{Err: &driver.ConflictError{Actual: info.Version}}
					}
					return results
				}
			}
			return m.full.AppendBatch(ctx, as)
		}
	}},
	{"a batch is written last first", []string{"Batch/each append sees those before it", "Batch/there is one result an append, in order", model}, func(m *mutant) {
		m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
			as = slices.Clone(as)
			slices.Reverse(as)
			results := m.full.AppendBatch(ctx, as)
			slices.Reverse(results)
			return results
		}
	}},
	{"conflicts have no result", []string{"Batch/one that conflicts fails alone"}, func(m *mutant) {
		m.onBatch = func(ctx context.Context, as []driver.Append) []driver.Result {
			results := m.full.AppendBatch(ctx, as)
			for i := range results {
				if conflicted(results[i].Err) {
					results[i] = driver.Result{}
				}
			}
			return results
		}
	}},
	{"what fn refuses is written", []string{"Inline/a failing fn fails its own append alone", "Inline/a rolled back append leaves no trace", model}, func(m *mutant) {
		m.onWith = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
			refused := make([]error, len(as))
			i := 0
			results := m.full.AppendWith(ctx, as, func(tx any, list []driver.Recorded) error {
				for as[i].Events[0].ID != list[0].ID {
					i++
				}
				refused[i] = fn(tx, list)
				return nil
			})
			for i, err := range refused {
				if err != nil {
					results[i] = driver.Result{Err: err}
				}
			}
			return results
		}
	}},
	{"what fn refuses fails all after it", []string{"Inline/a failing fn fails its own append alone", model}, func(m *mutant) {
		m.onWith = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
			var refused error
			return m.full.AppendWith(ctx, as, func(tx any, list []driver.Recorded) error {
				if refused == nil {
					refused = fn(tx, list)
				}
				return refused
			})
		}
	}},

	// Reading
	{"going backward from is included", []string{"ReadStream/backward begins with the event below from", "ReadStream/pages of any size make up the stream, both ways", model}, func(m *mutant) {
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			if dir == driver.Backward && from > 0 {
				from++
			}
			return m.full.ReadStream(ctx, stream, from, dir, limit)
		}
	}},
	{"going backward the first event is left out", []string{"ReadStream/backward ends with the first event", model}, func(m *mutant) {
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			if n := len(list); dir == driver.Backward && n > 0 && list[n-1].Version == 1 {
				list = list[:n-1]
			}
			return list, err
		}
	}},
	{"a stream that does not exist is an error", []string{"ReadStream/a stream that does not exist is empty"}, func(m *mutant) {
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			if info, err := m.full.Stream(ctx, stream); err == nil && info.Version == 0 {
				return nil, errors.New("no such stream")
			}
			return m.full.ReadStream(ctx, stream, from, dir, limit)
		}
	}},
	{"the log going backward includes from", []string{"ReadAll/from every position, both ways, with every limit", model}, func(m *mutant) {
		m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
			if dir == driver.Backward && from > 0 {
				from++
			}
			return m.full.ReadAll(ctx, f, from, dir, limit)
		}
	}},
	{"scanned is always the head", []string{"ReadAll/scanned stays below what a full page left out", "ReadAll/selects one stream", model}, func(m *mutant) {
		m.scan(func(_ []driver.Recorded, scanned, _ uint64, dir driver.Direction) uint64 {
			if dir == driver.Forward {
				scanned, _ = m.full.Head(context.Background())
			}
			return scanned
		})
	}},
	{"scanned is one too far", []string{"ReadAll/selects everything but the streams of the system", model}, func(m *mutant) {
		m.scan(func(_ []driver.Recorded, scanned, _ uint64, dir driver.Direction) uint64 {
			if dir == driver.Forward {
				scanned++
			}
			return scanned
		})
	}},
	{"scanned is the last event that was selected", []string{"ReadAll/selects one stream", "ReadAll/selects a type that does not exist", model}, func(m *mutant) {
		m.scan(func(list []driver.Recorded, scanned, from uint64, dir driver.Direction) uint64 {
			if dir == driver.Backward {
				return scanned
			}
			if n := len(list); n > 0 {
				return list[n-1].Position
			}
			return from
		})
	}},
	{"backward, the beginning is always reached", []string{"ReadAll/backward, scanned is 0 only at the beginning", model}, func(m *mutant) {
		m.scan(func(_ []driver.Recorded, scanned, _ uint64, dir driver.Direction) uint64 {
			if dir == driver.Backward {
				return 0
			}
			return scanned
		})
	}},
	{"every other event can be seen only later", []string{"Concurrent/nothing appears late: readers who page along have the whole log"}, func(m *mutant) {
		var late atomic.Uint64
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			if r.Err == nil && r.Last%2 == 0 {
				late.Store(r.Last)
				time.Sleep(10 * time.Microsecond)
			}
			late.CompareAndSwap(r.Last, 0)
			return r
		}
		m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
			before := late.Load()
			list, scanned, err := m.full.ReadAll(ctx, f, from, dir, limit)
			list = slices.DeleteFunc(list, func(r driver.Recorded) bool { return r.Position == late.Load() || r.Position == before })
			return list, scanned, err
		}
	}},
	{"a category is a prefix", []string{"ReadAll/selects a category up to the first dash", model}, func(m *mutant) {
		m.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
			if len(f.Categories) == 1 && len(f.Streams) == 0 {
				all, _ := m.full.Streams(ctx, "", "", 1000)
				for _, s := range all {
					if strings.HasPrefix(s.Name, f.Categories[0]) {
						f.Streams = append(f.Streams, s.Name)
					}
				}
				if len(f.Streams) > 0 {
					f.Categories = nil
				}
			}
			return m.full.ReadAll(ctx, f, from, dir, limit)
		}
	}},
	{"types are not looked at within a stream", []string{"ReadAll/selects a type within a stream", model}, func(m *mutant) {
		m.selected(func(f *driver.Filter) {
			if len(f.Streams) > 0 {
				f.Types = nil
			}
		})
	}},
	{"streams of the system are in the log of all", []string{"ReadAll/selects everything but the streams of the system", model}, func(m *mutant) {
		m.selected(func(f *driver.Filter) { f.System = true })
	}},
	{"streams of the system are never in the log of all", []string{"ReadAll/selects everything with the streams of the system", model}, func(m *mutant) {
		m.selected(func(f *driver.Filter) { f.System = false })
	}},
	{"the head ignores streams of the system", []string{"Stream/the head is the last position, whatever the stream", model}, func(m *mutant) {
		m.onHead = func(ctx context.Context) (uint64, error) {
			list, _, err := m.full.ReadAll(ctx, driver.Filter{}, 0, driver.Backward, 1)
			if len(list) == 0 {
				return 0, err
			}
			return list[0].Position, nil
		}
	}},
	{"ctx is not looked at", []string{"Close/every call heeds ctx", "ReadStream/a read whose ctx has ended says so", "Append/an append whose ctx has ended writes nothing"}, func(m *mutant) {
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			return m.full.ReadStream(context.WithoutCancel(ctx), stream, from, dir, limit)
		}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			return m.full.Append(context.WithoutCancel(ctx), a)
		}
	}},

	// Waiting and closing
	{"Wait does not notice appends", []string{"Wait/ends with an append, for everyone who waits"}, func(m *mutant) {
		m.onWait = func(ctx context.Context, after uint64) error {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // so that the subtest need not wait that long
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		}
	}},
	{"Wait does not wait", []string{"Wait/blocks for as long as there is nothing"}, func(m *mutant) {
		m.onWait = func(ctx context.Context, _ uint64) error { return ctx.Err() }
	}},
	{"Wait does not look at ctx", []string{"Wait/ends when ctx is cancelled"}, func(m *mutant) {
		m.onWait = func(ctx context.Context, after uint64) error {
			if err := m.full.Wait(ctx, after); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		}
	}},
	{"Wait ends without an error when the store is closed", []string{"Wait/ends when the store is closed", "Close/every call of a closed store says so"}, func(m *mutant) {
		m.onWait = func(ctx context.Context, after uint64) error {
			if err := m.full.Wait(ctx, after); !errors.Is(err, driver.ErrClosed) {
				return err
			}
			return nil
		}
	}},
	{"a closed store still tells its head", []string{"Close/every call of a closed store says so"}, func(m *mutant) {
		m.onHead = func(ctx context.Context) (uint64, error) {
			head, err := m.full.Head(ctx)
			if errors.Is(err, driver.ErrClosed) {
				err = nil
			}
			return head, err
		}
	}},
	{"closing twice is an error", []string{"Close/closing again is no error"}, func(m *mutant) {
		closed := false
		m.onClose = func() error {
			if closed {
				return driver.ErrClosed
			}
			closed = true
			return m.full.Close()
		}
	}},
	{"closing does not wait", []string{"Close/closing waits for calls under way"}, func(m *mutant) {
		m.onClose = func() error { return nil }
		n := atomic.Int64{}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			if n.Add(1) > 2000 {
				return driver.Result{Err: driver.ErrClosed}
			}
			time.Sleep(10 * time.Microsecond)
			return m.full.Append(ctx, a)
		}
	}},

	// Listing
	{"streams are sorted without regard to case", []string{"List/streams are listed bytewise by name, in pages, without those of the system"}, func(m *mutant) {
		m.onStreams = func(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
			list, err := m.full.Streams(ctx, category, "", 1000)
			slices.SortFunc(list, func(a, b driver.StreamInfo) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
			list = slices.DeleteFunc(list, func(s driver.StreamInfo) bool { return strings.ToLower(s.Name) <= strings.ToLower(after) })
			return list[:min(limit, len(list))], err
		}
	}},
	{"the stream that a list begins after is in it", []string{"List/streams are listed bytewise by name, in pages, without those of the system", model}, func(m *mutant) {
		m.onStreams = func(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
			list, err := m.full.Streams(ctx, category, "", 1000)
			list = slices.DeleteFunc(list, func(s driver.StreamInfo) bool { return s.Name < after })
			if len(list) > limit {
				list = list[:limit]
			}
			return list, err
		}
	}},
	{"deleted streams are not listed", []string{"List/deleted streams are listed as such, purged ones are left out", model}, func(m *mutant) {
		m.onStreams = func(ctx context.Context, category, after string, limit int) ([]driver.StreamInfo, error) {
			list, err := m.full.Streams(ctx, category, after, 1000)
			list = slices.DeleteFunc(list, func(s driver.StreamInfo) bool { return s.Deleted })
			return list[:min(limit, len(list))], err
		}
	}},
	{"categories of the system are listed", []string{"List/categories are sorted, without those of the system", model}, func(m *mutant) {
		m.onCategories = func(ctx context.Context) ([]string, error) {
			list, err := m.full.Categories(ctx)
			if s, _ := m.full.Streams(ctx, "$sys", "", 1); len(s) > 0 {
				list = append([]string{"$sys"}, list...)
			}
			return list, err
		}
	}},

	// Removing
	{"deleting a stream begins its versions again", []string{"Delete/a deleted stream takes NoStream", "Delete/a stream can be deleted over and over", model}, func(m *mutant) {
		var mu sync.Mutex
		base := map[string]uint64{}
		m.onDelete = func(ctx context.Context, stream string, expected int64) error {
			err := m.full.Delete(ctx, stream, expected)
			if info, e := m.full.Stream(ctx, stream); err == nil && e == nil {
				mu.Lock()
				defer mu.Unlock()
				base[stream] = info.Version
			}
			return err
		}
		m.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
			r := m.full.Append(ctx, a)
			mu.Lock()
			defer mu.Unlock()
			r.Version -= min(r.Version, base[a.Stream])
			return r
		}
	}},
	{"a deleted stream is still there for expectations", []string{"Delete/a deleted stream takes NoStream", "Delete/a deleted stream refuses StreamExists", model}, func(m *mutant) {
		m.onDelete = func(ctx context.Context, stream string, expected int64) error {
			info, err := m.full.Stream(ctx, stream)
			if err != nil {
				return err
			}
			return m.full.Truncate(ctx, stream, info.Version+1)
		}
	}},
	{"Delete does not look at the expectation", []string{"Delete/a stream is deleted not at a lower version", model}, func(m *mutant) {
		m.onDelete = func(ctx context.Context, stream string, _ int64) error { return m.full.Delete(ctx, stream, driver.Any) }
	}},
	{"a deleted stream does not say so", []string{"Delete/a stream is deleted at any version", model}, func(m *mutant) {
		m.onStream = func(ctx context.Context, stream string) (driver.StreamInfo, error) {
			info, err := m.full.Stream(ctx, stream)
			info.Deleted = false
			return info, err
		}
	}},
	{"what is truncated stays in the log", []string{"Delete/a stream truncated before 5 of 10 begins there, for every reader", model}, func(m *mutant) {
		var mu sync.Mutex
		first := map[string]uint64{}
		m.onTruncate = func(ctx context.Context, stream string, before uint64) error {
			info, err := m.full.Stream(ctx, stream)
			if err != nil || info.Version == 0 || before > info.Version+1 {
				return cmp.Or(err, errors.New("past the end"))
			}
			mu.Lock()
			defer mu.Unlock()
			first[stream] = max(first[stream], before, info.First)
			return nil
		}
		m.onStream = func(ctx context.Context, stream string) (driver.StreamInfo, error) {
			info, err := m.full.Stream(ctx, stream)
			mu.Lock()
			defer mu.Unlock()
			info.First = max(info.First, first[stream])
			return info, err
		}
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			mu.Lock()
			defer mu.Unlock()
			if dir == driver.Forward {
				from = max(from, max(first[stream], 1)-1)
			}
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			return slices.DeleteFunc(list, func(r driver.Recorded) bool { return r.Version < first[stream] }), err
		}
	}},
	{"truncating past the end empties the stream", []string{"Delete/truncating past the end is an error that changes nothing", model}, func(m *mutant) {
		m.onTruncate = func(ctx context.Context, stream string, before uint64) error {
			info, err := m.full.Stream(ctx, stream)
			if err != nil {
				return err
			}
			return m.full.Truncate(ctx, stream, min(before, info.Version+1))
		}
	}},
	{"truncating begins one too late", []string{"Delete/a stream truncated before 2 of 10 begins there, for every reader", model}, func(m *mutant) {
		m.onTruncate = func(ctx context.Context, stream string, before uint64) error {
			info, _ := m.full.Stream(ctx, stream)
			if before > 0 && before <= info.Version {
				before++
			}
			return m.full.Truncate(ctx, stream, before)
		}
	}},
	{"a purged stream can begin anew", []string{"Delete/a purged stream is gone for every reader, and for good", "Batch/one for a purged stream fails alone", model}, func(m *mutant) {
		m.onPurge = func(ctx context.Context, stream string) error { return m.full.Delete(ctx, stream, driver.Any) }
	}},
	{"purging leaves the snapshot", []string{"Snapshot/purging a stream removes its snapshot, and none can be saved again", model}, func(m *mutant) {
		var mu sync.Mutex
		kept := map[string]driver.Snapshot{}
		m.onPurge = func(ctx context.Context, stream string) error {
			if s, ok, _ := m.full.LoadSnapshot(ctx, stream); ok {
				mu.Lock()
				kept[stream] = s
				mu.Unlock()
			}
			return m.full.Purge(ctx, stream)
		}
		m.onSaveSnapshot = func(ctx context.Context, stream string, s driver.Snapshot) error {
			mu.Lock()
			defer mu.Unlock()
			if _, ok := kept[stream]; ok {
				return nil
			}
			return m.full.SaveSnapshot(ctx, stream, s)
		}
	}},
	{"the position at a time includes what was recorded then", []string{"Date/reading after the position begins with the first event at or after the time", "Date/before everything it is 0, after everything the head"}, func(m *mutant) {
		m.onPositionAt = func(ctx context.Context, t time.Time) (uint64, error) { return m.full.PositionAt(ctx, t.Add(1)) }
	}},

	// What is kept beside the log
	{"an older snapshot replaces a newer", []string{"Snapshot/a lower version does nothing", model}, func(m *mutant) {
		m.onSaveSnapshot = func(ctx context.Context, stream string, s driver.Snapshot) error {
			m.full.DeleteSnapshot(ctx, stream)
			return m.full.SaveSnapshot(ctx, stream, s)
		}
	}},
	{"the same version does not replace a snapshot", []string{"Snapshot/a higher or equal version replaces the one before", model}, func(m *mutant) {
		m.onSaveSnapshot = func(ctx context.Context, stream string, s driver.Snapshot) error {
			if old, ok, _ := m.full.LoadSnapshot(ctx, stream); ok && old.Version == s.Version {
				return nil
			}
			return m.full.SaveSnapshot(ctx, stream, s)
		}
	}},
	{"a checkpoint is saved wherever it is", []string{"Checkpoint/saved: from a lower position", "Checkpoint/saved: one, from none", "Checkpoint/of many who save from the same place one wins", model}, func(m *mutant) {
		m.onSaveCheckpoint = func(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
			m.full.DeleteCheckpoint(ctx, name)
			return m.full.SaveCheckpoint(ctx, name, nil, to)
		}
	}},
	{"a checkpoint is saved under a lower fence", []string{"Checkpoint/saved: to a lower fence", model}, func(m *mutant) {
		m.onSaveCheckpoint = func(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
			old, ok, _ := m.full.LoadCheckpoint(ctx, name)
			if ok && from != nil && old.Position == from.Position && old.Fence == from.Fence && to.Fence < old.Fence {
				m.full.DeleteCheckpoint(ctx, name)
				from = nil
			}
			return m.full.SaveCheckpoint(ctx, name, from, to)
		}
	}},
	{"a checkpoint's fence is not compared", []string{"Checkpoint/saved: from another fence, the lower", model}, func(m *mutant) {
		m.onSaveCheckpoint = func(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
			if old, ok, _ := m.full.LoadCheckpoint(ctx, name); ok && from != nil {
				from = &driver.Checkpoint{Position: from.Position, Fence: old.Fence}
			}
			return m.full.SaveCheckpoint(ctx, name, from, to)
		}
	}},
	{"a checkpoint at 0 is none", []string{"Checkpoint/saved: none, from one at position 0", model}, func(m *mutant) {
		m.onSaveCheckpoint = func(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
			if _, ok, _ := m.full.LoadCheckpoint(ctx, name); !ok && from != nil && from.Position == 0 {
				from = nil
			}
			return m.full.SaveCheckpoint(ctx, name, from, to)
		}
	}},
	{"a prefix of checkpoints is a pattern", []string{"Checkpoint/those whose names start with a prefix are listed"}, func(m *mutant) {
		m.onCheckpoints = func(ctx context.Context, prefix string) (map[string]driver.Checkpoint, error) {
			return m.full.Checkpoints(ctx, strings.TrimRight(prefix, "%_"))
		}
	}},
	{"the fence of a lease does not grow", []string{"Lease/an expired lease goes to whoever comes, under a greater fence", "Lease/a released lease goes to whoever comes, under a greater fence"}, func(m *mutant) {
		m.onAcquire = func(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
			_, ok, err := m.full.Acquire(ctx, name, owner, ttl)
			return 1, ok, err
		}
		m.onRelease = func(ctx context.Context, name, owner string, _ uint64) error {
			held, _ := m.full.Leases(ctx, name)
			return m.full.Release(ctx, name, owner, held[0].Fence)
		}
	}},
	{"renewing a lease changes its fence", []string{"Lease/the holder renews and keeps the fence"}, func(m *mutant) {
		m.onAcquire = func(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
			fence, ok, err := m.full.Acquire(ctx, name, owner, ttl)
			if ok {
				m.full.Release(ctx, name, owner, fence)
				fence, ok, err = m.full.Acquire(ctx, name, owner, ttl)
			}
			return fence, ok, err
		}
	}},
	{"whoever comes has the lease", []string{"Lease/a free lease is granted, a held one is not", "Lease/of 16 who come at once one is granted"}, func(m *mutant) {
		m.onAcquire = func(ctx context.Context, name, _ string, ttl time.Duration) (uint64, bool, error) {
			return m.full.Acquire(ctx, name, "everyone", ttl)
		}
	}},
	{"whoever knows the owner can release", []string{"Lease/releasing what one does not hold is a no-op"}, func(m *mutant) {
		m.onRelease = func(ctx context.Context, name, owner string, fence uint64) error {
			held, err := m.full.Leases(ctx, name)
			for _, l := range held {
				err = m.full.Release(ctx, name, owner, l.Fence)
			}
			return err
		}
	}},

	// Tags
	{"a condition does not look at tags", []string{"Conditional/a condition refuses by one tag", "Conditional/boundaries that have nothing in common do not conflict", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			items = slices.Clone(items)
			for i := range items {
				items[i].Tags = nil
			}
			return m.full.AppendIf(ctx, items, after, events, fn)
		}
	}},
	{"a condition is not looked at", []string{"Conditional/a condition refuses by one type", "Conditional/of 16 with the same boundary one wins", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, _ []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			return m.full.AppendIf(ctx, nil, after, events, fn)
		}
	}},
	{"a condition is checked, and then written without the check", []string{"Conditional/of 16 with the same boundary one wins", "Conditional/no event ever lies between a boundary and what was appended under it"}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			if list, _, _ := m.full.Query(ctx, items, after, 1); len(items) > 0 && len(list) > 0 {
				return driver.Result{Err: &driver.ConflictError{Actual: list[0].Position}}
			}
			m.dawdle()
			return m.full.AppendIf(ctx, nil, after, events, fn)
		}
	}},
	{"a condition includes the event at after", []string{"Conditional/a condition refuses by one tag", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			return m.full.AppendIf(ctx, items, max(after, 1)-1, events, fn)
		}
	}},
	{"a condition is on the first item only", []string{"Conditional/a condition refuses by one item or another", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			return m.full.AppendIf(ctx, items[:min(1, len(items))], after, events, fn)
		}
	}},
	{"one of the tags is enough", []string{"Conditional/a query selects by all of two tags", model}, func(m *mutant) {
		m.onQuery = func(ctx context.Context, items []driver.QueryItem, after uint64, limit int) ([]driver.Recorded, uint64, error) {
			var any []driver.QueryItem
			for _, item := range items {
				if len(item.Tags) == 0 {
					any = append(any, item)
				}
				for _, tag := range item.Tags {
					any = append(any, driver.QueryItem{Types: item.Types, Tags: []string{tag}})
				}
			}
			return m.full.Query(ctx, any, after, limit)
		}
	}},
	{"a query returns item by item", []string{"Conditional/a query selects by one item or another, the later events first", model}, func(m *mutant) {
		m.onQuery = func(ctx context.Context, items []driver.QueryItem, after uint64, limit int) (list []driver.Recorded, scanned uint64, err error) {
			if len(items) < 2 {
				return m.full.Query(ctx, items, after, limit)
			}
			for i := range items {
				var some []driver.Recorded
				some, scanned, err = m.full.Query(ctx, items[i:i+1], after, limit)
				list = append(list, some...)
			}
			return list[:min(limit, len(list))], scanned, err
		}
	}},
	{"half of the events are written though one is refused", []string{"Conditional/it is all or none"}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) (r driver.Result) {
			for i := range events {
				if r = m.full.AppendIf(ctx, items, after, events[i:i+1], fn); r.Err != nil {
					return r
				}
				items = nil
			}
			return r
		}
	}},
	{"what fn refuses under a condition is written", []string{"Conditional/nothing is written if fn fails, and its error is returned", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			var refused error
			r := m.full.AppendIf(ctx, items, after, events, late(fn, &refused))
			if refused != nil {
				return driver.Result{Err: refused}
			}
			return r
		}
	}},
	{"fn is asked before the condition", []string{"Conditional/fn is not called where the condition does not hold", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			if fn == nil {
				return m.full.AppendIf(ctx, items, after, events, nil)
			}
			var seen []driver.Recorded
			m.full.AppendIf(ctx, nil, 0, events, func(_ any, list []driver.Recorded) error { seen = list; return errEnough })
			if seen != nil {
				if err := fn(nil, seen); err != nil {
					return driver.Result{Err: err}
				}
			}
			return m.full.AppendIf(ctx, items, after, events, nil)
		}
	}},
	{"fn is called for each event of a conditional append", []string{"Conditional/fn has all events as they are recorded, once", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(any, []driver.Recorded) error) driver.Result {
			return m.full.AppendIf(ctx, items, after, events, singly(fn))
		}
	}},
	{"fn is never called for a conditional append", []string{"Conditional/fn has all events as they are recorded, once", "Conditional/nothing is written if fn fails, and its error is returned", model}, func(m *mutant) {
		m.onAppendIf = func(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, _ func(any, []driver.Recorded) error) driver.Result {
			return m.full.AppendIf(ctx, items, after, events, nil)
		}
	}},

	// Several streams
	{"streams are appended to one after the other", []string{"Atomic/nothing is written where one stream is at 3 and expected at 2", "Atomic/nothing is written where one stream was purged", "Atomic/a reader of the log never sees a part", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			return m.oneByOne(ctx, as)
		}
	}},
	{"all streams are checked, and then appended to one after the other", []string{"Atomic/a reader of the log never sees a part", "Atomic/a reader who has seen an event of one stream sees those of the others"}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			if _, err := m.full.AppendAtomic(ctx, as, func(any, []driver.Recorded) error { return errEnough }); !errors.Is(err, errEnough) {
				return nil, err
			}
			return m.oneByOne(ctx, as)
		}
	}},
	{"all streams are checked, and then written without the check", []string{"Atomic/of 16 over streams that overlap, named in any order, one wins", "Atomic/it and appends to its streams exclude each other"}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			if _, err := m.full.AppendAtomic(ctx, as, func(any, []driver.Recorded) error { return errEnough }); !errors.Is(err, errEnough) {
				return nil, err
			}
			m.dawdle()
			return m.full.AppendAtomic(ctx, anyway(as), fn)
		}
	}},
	{"streams are locked in the order in which they are named", []string{"Atomic/with Any all succeed, in whatever order they name their streams", "Atomic/of 16 over streams that overlap, named in any order, one wins"}, func(m *mutant) {
		var mu sync.Mutex
		held := map[string]*sync.Mutex{}
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			for _, a := range as {
				mu.Lock()
				lock := held[a.Stream]
				if lock == nil {
					lock = &sync.Mutex{}
					held[a.Stream] = lock
				}
				mu.Unlock()
				for deadline := time.Now().Add(20 * time.Millisecond); !lock.TryLock(); time.Sleep(100 * time.Microsecond) {
					if time.Now().After(deadline) {
						return nil, errors.New("deadlock")
					}
				}
				defer lock.Unlock()
				m.dawdle()
			}
			return m.full.AppendAtomic(ctx, as, fn)
		}
	}},
	{"the last of several conflicts is told", []string{"Atomic/of several that cannot be made the first is told", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			for i := len(as) - 1; i >= 0; i-- {
				if _, err := m.full.AppendAtomic(ctx, as[i:i+1], func(any, []driver.Recorded) error { return errEnough }); !errors.Is(err, errEnough) {
					return nil, err
				}
			}
			return m.full.AppendAtomic(ctx, as, fn)
		}
	}},
	{"a conflict does not name its stream", []string{"Atomic/nothing is written where one stream does not exist and is expected to", "Atomic/a single stream is an append", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			list, err := m.full.AppendAtomic(ctx, as, fn)
			if conflict := (*driver.ConflictError)(nil); errors.As(err, &conflict) {
				err = &driver.ConflictError{Actual: conflict.Actual}
			}
			return list, err
		}
	}},
	{"streams are sorted", []string{"Atomic/every stream has its events, as its result says", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			as = slices.Clone(as)
			slices.SortFunc(as, func(a, b driver.Append) int { return cmp.Compare(a.Stream, b.Stream) })
			return m.full.AppendAtomic(ctx, as, fn)
		}
	}},
	{"positions between two streams are left out", []string{"Atomic/positions are dense where they are so of appends"}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			if len(as) < 2 {
				return m.full.AppendAtomic(ctx, as, fn)
			}
			gap := driver.Append{Stream: "$gap", Events: []driver.Event{{ID: [16]byte{1}}}}
			list, err := m.full.AppendAtomic(ctx, slices.Insert(slices.Clone(as), 1, gap), fn)
			if err == nil {
				list = slices.Delete(list, 1, 2)
			}
			return list, err
		}
	}},
	{"an expectation of several is taken for Any", []string{"Atomic/nothing is written where one stream was deleted and is expected at its version", "Atomic/of 16 over streams that overlap, named in any order, one wins", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			return m.full.AppendAtomic(ctx, anyway(as), fn)
		}
	}},
	{"limits are of each stream", []string{"Atomic/together they keep within the limits of one append"}, func(m *mutant) {
		limits := driver.Limits{AppendEvents: 50, EventBytes: 1 << 10, AppendBytes: 1 << 20, NameBytes: 200}
		m.onLimits = func() driver.Limits { return limits }
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			for _, a := range as {
				if len(a.Events) > limits.AppendEvents {
					return nil, driver.ErrTooLarge
				}
			}
			return m.full.AppendAtomic(ctx, as, fn)
		}
	}},
	{"the size of an event of several streams is not looked at", []string{"Atomic/an event over the limit is too large and nothing is written"}, func(m *mutant) {
		m.onLimits = func() driver.Limits { return driver.Limits{EventBytes: 1 << 10} }
	}},
	{"results of several streams have no version", []string{"Atomic/every stream has its events, as its result says", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			list, err := m.full.AppendAtomic(ctx, as, fn)
			for i := range list {
				list[i].Version = list[0].Version
			}
			return list, err
		}
	}},
	{"what several streams tag is no boundary", []string{"Atomic/what it tags moves a boundary", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			as = slices.Clone(as)
			for i := range as {
				as[i].Events = slices.Clone(as[i].Events)
				for k := range as[i].Events {
					as[i].Events[k].Tags = nil
				}
			}
			return m.full.AppendAtomic(ctx, as, fn)
		}
	}},
	{"what fn refuses of several streams is written", []string{"Atomic/nothing is written if fn fails, and its error is returned", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			var refused error
			list, err := m.full.AppendAtomic(ctx, as, late(fn, &refused))
			return list, cmp.Or(refused, err)
		}
	}},
	{"fn is called for each event of several streams", []string{"Atomic/fn has all events as they are recorded, once", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			return m.full.AppendAtomic(ctx, as, singly(fn))
		}
	}},
	{"fn is asked before the streams are looked at", []string{"Atomic/fn is not called where one stream is not as expected", model}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			if fn == nil {
				return m.full.AppendAtomic(ctx, as, nil)
			}
			var seen []driver.Recorded
			m.full.AppendAtomic(ctx, anyway(as), func(_ any, list []driver.Recorded) error { seen = list; return errEnough })
			if seen != nil {
				if err := fn(nil, seen); err != nil {
					return nil, err
				}
			}
			return m.full.AppendAtomic(ctx, as, nil)
		}
	}},
	{"a closed store still appends to several streams", []string{"Close/every call of a closed store says so"}, func(m *mutant) {
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			list, err := m.full.AppendAtomic(ctx, as, fn)
			if errors.Is(err, driver.ErrClosed) {
				return make([]driver.Result, len(as)), nil
			}
			return list, err
		}
	}},
	{"the slices of an append to several streams are kept", []string{"Atomic/what is passed in is not kept"}, func(m *mutant) {
		var mu sync.Mutex
		kept := map[[16]byte]driver.Event{}
		m.onAtomic = func(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) ([]driver.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range as[0].Events {
				kept[e.ID] = e
			}
			return m.full.AppendAtomic(ctx, as, fn)
		}
		m.onReadStream = func(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
			list, err := m.full.ReadStream(ctx, stream, from, dir, limit)
			mu.Lock()
			defer mu.Unlock()
			for i := range list {
				if e, ok := kept[list[i].ID]; ok {
					list[i].Event = e
				}
			}
			return list, err
		}
	}},
	{"every handle is there", []string{"View/a handle that the engine does not have is refused"}, func(m *mutant) {
		m.onAs = func(any) bool { return true }
	}},
}

// reopened are drivers that lose something when they are opened again.
var reopened = []struct {
	name   string
	caught []string
	reopen func(full) full
}{
	{"everything is lost", []string{"Durable/events outlive the process", "Durable/expectations are checked against what is there", "Durable/fences outlive the process", "Durable/tags outlive the process", "Durable/snapshots outlive the process", "Durable/checkpoints outlive the process", "Durable/removals outlive the process", "Durable/lists of streams outlive the process", "Durable/batches outlive the process", "Durable/positions by time outlive the process", "Durable/appends to several streams outlive the process"},
		func(full) full { return memstore.NewDriver().(full) }},
	{"the last event is lost", []string{"Durable/events outlive the process", "Durable/batches outlive the process", model}, func(d full) full {
		list, _, _ := d.ReadAll(context.Background(), driver.Filter{}, 0, driver.Backward, 1)
		for _, r := range list {
			return copied(d, r.Position)
		}
		return d
	}},
	{"checkpoints are lost", []string{"Durable/checkpoints outlive the process", model}, func(d full) full {
		all, _ := d.Checkpoints(context.Background(), "")
		for name := range all {
			d.DeleteCheckpoint(context.Background(), name)
		}
		return d
	}},
	{"snapshots are lost", []string{"Durable/snapshots outlive the process", model}, func(d full) full {
		for _, name := range []string{"s-1", "a-1", "a-2", "a"} {
			d.DeleteSnapshot(context.Background(), name)
		}
		return d
	}},
	{"removed events come back", []string{"Durable/removals outlive the process"}, func(d full) full { return copied(d, 1<<62) }},
}

// copied returns a store with what can be read of d below a position, and
// nothing of what was removed.
func copied(d full, below uint64) full {
	ctx := context.Background()
	list, _, _ := d.ReadAll(ctx, driver.Filter{System: true}, 0, driver.Forward, 10_000)
	fresh := memstore.NewDriver().(full)
	for _, r := range list {
		if r.Position < below {
			fresh.Append(ctx, driver.Append{Stream: r.Stream, Events: []driver.Event{r.Event}})
		}
	}
	return fresh
}

// env names the mutant that a child process is to test.
const env = "LEVADA_DRIVERTEST_MUTANT"

// TestMutant is the suite run against the mutant that env names. It does
// nothing unless it runs in a child process of TestEveryFaultIsFound.
func TestMutant(t *testing.T) {
	name := os.Getenv(env)
	if name == "" {
		t.Skip("it runs in a child process only")
	}
	h := drivertest.Harness{Open: func(testing.TB) driver.Store {
		m := &mutant{full: memstore.NewDriver().(full)}
		for _, c := range mutants {
			if c.name == name {
				c.make(m)
			}
		}
		return m
	}}
	for _, c := range shared {
		if c.name == name {
			h = sharing(name)
		}
	}
	if name == soundShared {
		h = sharing(name)
	}
	outlives := name == soundReopened
	for _, c := range reopened {
		outlives = outlives || c.name == name
	}
	if outlives {
		h.Reopen = func(t testing.TB, d driver.Store) driver.Store {
			inner := d.(*mutant).full
			for _, c := range reopened {
				if c.name == name {
					inner = c.reopen(inner)
				}
			}
			return &mutant{full: inner}
		}
	}
	drivertest.Run(t, h)
}

// Mutants without a fault: one whose store ends with its process, one whose
// does not, and one that processes share.
const (
	sound         = "none"
	soundReopened = "none, opened again"
	soundShared   = "none, shared"
)

// child runs the given subtests of the suite against a mutant, in a process of
// its own, since a subtest that fails would fail this one.
func child(t *testing.T, name string, subtests []string) (output string, err error) {
	var features, tests []string
	for _, s := range subtests {
		feature, test, _ := strings.Cut(s, "/")
		features = append(features, feature)
		tests = append(tests, regexp.QuoteMeta(strings.ReplaceAll(test, " ", "_")))
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe, "-test.timeout=60s", "-test.v",
		"-test.run", fmt.Sprintf("^TestMutant$/^(%s)$/^(%s)$", strings.Join(features, "|"), strings.Join(tests, "|")),
		"-rapid.seed=1", "-rapid.checks=400", "-rapid.nofailfile", "-rapid.shrinktime=1ms")
	cmd.Env = append(os.Environ(), env+"="+name, "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// gist returns the lines of a test's output that say what became of it.
func gist(output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		if s := strings.TrimSpace(line); strings.HasPrefix(s, "---") || strings.HasPrefix(s, "panic") || strings.HasPrefix(s, "Error:") {
			lines = append(lines, s)
		}
	}
	return strings.Join(lines, "\n")
}

func TestEveryFaultIsFound(t *testing.T) {
	t.Parallel()
	try := func(name string, caught []string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, err := child(t, name, caught)
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the suite finds no fault")
			for _, c := range caught {
				require.True(t, strings.Contains(output, "--- FAIL: TestMutant/"+strings.ReplaceAll(c, " ", "_")+" "), "%s: finds no fault\n%s", c, gist(output))
			}
			require.False(t, strings.Contains(output, "never came true"), "the fault should be found, not waited for")
		})
	}
	for _, c := range mutants {
		try(c.name, c.caught)
	}
	for _, c := range reopened {
		try(c.name, c.caught)
	}
	for _, c := range shared {
		try(c.name, c.caught)
	}
}

func TestNoFaultIsFoundWhereThereIsNone(t *testing.T) {
	t.Parallel()
	try := func(name string, subtests []string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slices.Sort(subtests)
			subtests = slices.Compact(subtests)
			output, err := child(t, name, subtests)
			require.NoError(t, err, gist(output))
			for _, c := range subtests {
				c = "TestMutant/" + strings.ReplaceAll(c, " ", "_") + " "
				require.True(t, strings.Contains(output, "--- PASS: "+c) || strings.Contains(output, "--- SKIP: "+c), "there is no subtest %q", c)
			}
		})
	}
	var all []string
	for _, c := range mutants {
		all = append(all, c.caught...)
	}
	try(sound, all)
	var again []string
	for _, c := range reopened {
		again = append(again, c.caught...)
	}
	try(soundReopened, again)
	var peers []string
	for _, c := range shared {
		peers = append(peers, c.caught...)
	}
	try(soundShared, peers)
}
