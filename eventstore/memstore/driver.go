package memstore

import (
	"context"
	"errors"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// NewDriver returns a new, empty driver. It implements every optional
// interface of package driver. Most callers want [Open].
func NewDriver() driver.Store {
	return &store{
		streams:     map[string]*stream{},
		categories:  map[string]*category{},
		types:       index{},
		tags:        index{},
		snapshots:   map[string]driver.Snapshot{},
		checkpoints: map[string]driver.Checkpoint{},
		leases:      map[string]*driver.Lease{},
		done:        make(chan struct{}),
	}
}

// A store is the driver. Writers hold write for as long as they are at it, so
// that a func that takes part in an append may read; mu is held only to look at or
// change what is below it. write is taken before mu.
type store struct {
	write sync.Mutex

	mu          sync.RWMutex
	closed      bool
	log         log
	streams     map[string]*stream
	categories  map[string]*category
	types, tags index
	all         directory // but for the streams that start with "$"
	snapshots   map[string]driver.Snapshot
	checkpoints map[string]driver.Checkpoint
	leases      map[string]*driver.Lease // expired ones too, for their fences
	grown       chan struct{}            // closed by the next append; nil if nobody waits

	done chan struct{} // closed by Close
}

// A stream knows where its events are.
type stream struct {
	name     string
	category *category
	version  uint64 // of the last event ever appended
	// positions has the events that are left: those of the versions up to version.
	positions []uint64
	origin    uint64 // the version at the last deletion
	deleted   bool
	purged    bool
}

// first returns the version of the first event that is left.
func (s *stream) first() uint64 { return s.version - uint64(len(s.positions)) + 1 }

// A category has the events and the names of its streams.
type category struct {
	posting
	directory
}

// Limits says that this process is the only one that writes. Memory is the
// only limit.
func (d *store) Limits() driver.Limits {
	return driver.Limits{EventBytes: math.MaxInt, AppendBytes: math.MaxInt, Writers: 1, Exclusive: true}
}

// As gives the driver itself, as a [driver.Store].
func (d *store) As(target any) bool {
	if t, ok := target.(*driver.Store); ok {
		*t = d
		return true
	}
	return false
}

// Close forgets nothing, but refuses every later call. It may be called more
// than once.
func (d *store) Close() error {
	d.write.Lock()
	defer d.write.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.closed = true
		close(d.done)
	}
	return nil
}

// ready returns why a call cannot be served, with mu held.
func (d *store) ready(ctx context.Context) error {
	if d.closed {
		return driver.ErrClosed
	}
	return ctx.Err()
}

// lock takes both locks for a change, unless the call cannot be served.
func (d *store) lock(ctx context.Context) error {
	d.write.Lock()
	d.mu.Lock()
	if err := d.ready(ctx); err != nil {
		d.unlock()
		return err
	}
	return nil
}

func (d *store) unlock() {
	d.mu.Unlock()
	d.write.Unlock()
}

// Append appends a.Events to a.Stream. It copies them. Without events it only
// tells whether the stream is as expected.
func (d *store) Append(ctx context.Context, a driver.Append) driver.Result {
	if err := d.lock(ctx); err != nil {
		return driver.Result{Err: err}
	}
	defer d.unlock()
	r := d.append(&a, d.clock())
	d.wake()
	return r
}

// AppendBatch appends each of as in turn. No reader sees part of the batch.
func (d *store) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	results := make([]driver.Result, len(as))
	if err := d.lock(ctx); err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	defer d.unlock()
	now := d.clock()
	for i := range as {
		results[i] = d.append(&as[i], now)
	}
	d.wake()
	return results
}

// AppendWith calls fn before each append can be seen. There is no transaction
// to take part in, so tx is nil. fn may read the store, which stands as the
// appends before this one left it, but must not write to it. If fn panics, the
// appends before that one stand.
func (d *store) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	results := make([]driver.Result, len(as))
	d.write.Lock()
	defer d.write.Unlock()
	err := d.serves(ctx)
	for i := range as {
		if results[i].Err = err; err != nil {
			continue
		}
		a := &as[i]
		check := func() error { return d.check(d.streams[a.Stream], a.Expected) }
		if err := d.decide(check, each(as[i:i+1]), fn, func(now time.Time) { results[i] = d.append(a, now) }); err != nil {
			results[i].Err = err
		}
	}
	return results
}

// AppendAtomic calls fn, unless it is nil, as AppendWith does.
func (d *store) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	d.write.Lock()
	defer d.write.Unlock()
	if err := d.serves(ctx); err != nil {
		return nil, err
	}
	results := make([]driver.Result, len(as))
	err := d.decide(func() error {
		for i := range as {
			if err := d.check(d.streams[as[i].Stream], as[i].Expected); err != nil {
				if conflict, ok := errors.AsType[*driver.ConflictError](err); ok {
					conflict.Stream = as[i].Stream
				}
				return err
			}
		}
		return nil
	}, each(as), fn, func(now time.Time) {
		for i := range as {
			results[i] = d.append(&as[i], now)
		}
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

// serves returns why a call cannot be served, with write held alone.
func (d *store) serves(ctx context.Context) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.ready(ctx)
}

// decide calls write, which appends events, with mu held for writing, unless check, which is
// called with mu held for reading, or fn says no. fn may be nil; it is called with neither. The
// caller holds write, so that nobody else can have written since check.
func (d *store) decide(check func() error, events iter.Seq2[string, *driver.Event], fn func(tx any, events []driver.Recorded) error, write func(now time.Time)) error {
	d.mu.RLock()
	now := d.clock()
	err := check()
	var recorded []driver.Recorded
	if err == nil && fn != nil {
		recorded = d.foresee(events, now)
	}
	d.mu.RUnlock()
	if err == nil && fn != nil {
		err = fn(nil, recorded)
	}
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	write(now)
	d.wake()
	return nil
}

// each yields the events of as with their streams.
func each(as []driver.Append) iter.Seq2[string, *driver.Event] {
	return func(yield func(string, *driver.Event) bool) {
		for i := range as {
			for k := range as[i].Events {
				if !yield(as[i].Stream, &as[i].Events[k]) {
					return
				}
			}
		}
	}
}

// foresee returns copies of events as they will be recorded if they are appended next.
func (d *store) foresee(events iter.Seq2[string, *driver.Event], now time.Time) []driver.Recorded {
	versions := map[string]uint64{}
	position := d.log.last
	var list []driver.Recorded
	for stream, e := range events {
		if _, ok := versions[stream]; !ok {
			if s := d.streams[stream]; s != nil {
				versions[stream] = s.version
			}
		}
		versions[stream]++
		position++
		r := driver.Recorded{Event: *e, Stream: stream, Version: versions[stream], Position: position, Time: now}
		own(&r.Event, slices.Clone(e.Data))
		list = append(list, r)
	}
	return list
}

// clock returns when the next events are recorded: now, but never before those
// that are there, so that the order of times is the order of positions.
func (d *store) clock() time.Time {
	now := time.Now().Round(0).UTC()
	if now.Before(d.log.now) {
		return d.log.now
	}
	return now
}

// wake ends every Wait.
func (d *store) wake() {
	if d.grown != nil {
		close(d.grown)
		d.grown = nil
	}
}

// check returns why s, which may be nil, is not as expected.
func (d *store) check(s *stream, expected int64) error {
	var at uint64 // a deleted stream counts as absent
	if s != nil {
		if s.purged {
			return driver.ErrStreamDeleted
		}
		if !s.deleted {
			at = s.version
		}
	}
	switch {
	case expected == driver.Any,
		expected == driver.NoStream && at == 0,
		expected == driver.StreamExists && at > 0,
		expected > 0 && uint64(expected) == at:
		return nil
	}
	return &driver.ConflictError{Actual: at}
}

// append is one append, with mu held for writing.
func (d *store) append(a *driver.Append, now time.Time) driver.Result {
	s := d.streams[a.Stream]
	if err := d.check(s, a.Expected); err != nil {
		return driver.Result{Err: err}
	}
	result := driver.Result{Time: now}
	if len(a.Events) > 0 {
		s = d.open(s, a.Stream)
		size := 0
		for i := range a.Events {
			size += len(a.Events[i].Data)
		}
		data := make([]byte, 0, size)
		for i := range a.Events {
			result.Last, data = d.add(s, &a.Events[i], data, now)
		}
		// Positions are only ever added beyond these, so they can be shared.
		n := len(s.positions)
		result.Positions = s.positions[n-len(a.Events) : n : n]
	}
	if s != nil {
		result.Version = s.version
	}
	return result
}

// open returns s ready for an event. If it is nil, there is no stream of that
// name yet.
func (d *store) open(s *stream, name string) *stream {
	if s == nil {
		s = &stream{name: name}
		d.streams[name] = s
		d.enlist(s)
	}
	s.deleted = false
	return s
}

// enlist makes s known to its category.
func (d *store) enlist(s *stream) {
	name := driver.Category(s.name)
	c := d.categories[name]
	if c == nil {
		c = &category{posting: posting{name: name}}
		d.categories[name] = c
	}
	s.category = c
	c.directory.add(s)
	if !system(s.name) {
		d.all.add(s)
	}
}

// add appends a copy of e to s, its data to buf.
func (d *store) add(s *stream, e *driver.Event, buf []byte, now time.Time) (position uint64, rest []byte) {
	kind := d.types.get(e.Type)
	r := driver.Recorded{Event: *e, Stream: s.name, Version: s.version + 1, Position: d.log.last + 1, Time: now}
	r.Type = kind.name
	start := len(buf)
	buf = append(buf, e.Data...)
	own(&r.Event, buf[start:len(buf):len(buf)])
	d.log.push(&r)
	s.version = r.Version
	s.positions = append(s.positions, r.Position)
	s.category.posting.add(r.Position)
	kind.add(r.Position)
	for i, tag := range r.Tags {
		if !slices.Contains(r.Tags[:i], tag) {
			d.tags.get(tag).add(r.Position)
		}
	}
	return r.Position, buf
}

// own makes e share nothing with its caller, given a copy of its data. What is
// empty becomes nil.
func own(e *driver.Event, data []byte) {
	e.Data = nil
	if len(data) > 0 {
		e.Data = data
	}
	if len(e.Metadata) > 0 {
		e.Metadata = maps.Clone(e.Metadata)
	} else {
		e.Metadata = nil
	}
	if len(e.Tags) > 0 {
		e.Tags = slices.Clone(e.Tags)
	} else {
		e.Tags = nil
	}
}

// system reports whether a stream must be asked for by name.
func system(stream string) bool { return stream != "" && stream[0] == '$' }
