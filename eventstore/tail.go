package eventstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A tail offers each event of the store once to all subscribers of the process.
// Its goroutine runs while there is a subscriber.
//
//	commit ──► inbox ──┐ what this process appended, if it follows on
//	                   ├──► entries ──► index ──► subscribers at the tail
//	driver ──► read ───┘ everything else
//
// A subscriber is either at the tail, in the index, and then the tail is the
// only sender on its channel; or it is behind, and then a goroutine of its own is. It
// changes sides only under the tail's lock.
type tail struct {
	s      *Store
	active atomic.Bool   // there is a subscriber: commits feed the inbox
	wake   chan struct{} // something may have been appended

	mu     sync.Mutex
	pos    Position // everything up to here has been offered
	recent recent   // the last of it
	index  index
	subs   map[*subscriber]struct{} // all, at the tail or behind
	stop   context.CancelFunc
	ended  bool // the store is closed

	in       inbox
	catchUps catchUps
}

const (
	keepEvents = 4096     // events the tail keeps for subscribers that come back
	keepBytes  = 16 << 20 // and their bytes, whichever is less
	inboxLimit = 2 * keepEvents
	minPoll    = 5 * time.Millisecond
	maxPoll    = 250 * time.Millisecond
	maxBackoff = 5 * time.Second // between reads that fail
)

func (t *tail) init(s *Store) {
	t.s = s
	t.wake = make(chan struct{}, 1)
	t.catchUps.init(s)
	t.subs = map[*subscriber]struct{}{}
}

// An entry is an event on the tail. It is decoded when first somebody wants it.
type entry struct {
	Recorded
	events  []*Recorded // what it reads as
	decoded bool
}

func (t *tail) decode(e *entry) []*Recorded {
	if !e.decoded {
		e.decoded = true
		if e.Data != nil { // it came from this process, with its value
			e.events = []*Recorded{&e.Recorded}
		} else {
			e.events = t.s.decoder.event(context.Background(), t.s.Types.load(), &e.Recorded, nil)
		}
	}
	return e.events
}

// An inbox holds what this process has appended until the tail gets to it.
type inbox struct {
	mu     sync.Mutex
	local  []local
	events int
}

type local struct {
	stream string
	events []driver.Event
	data   []any // their values, nil if nobody listened when they were appended
	res    driver.Result
}

// appended is told of an append by this process, once it is durable. It must be
// quick: it runs on the writer's path.
func (t *tail) appended(a *prepared, res *driver.Result) {
	if !t.active.Load() {
		return
	}
	if len(res.Positions) == len(a.Events) {
		t.in.mu.Lock()
		if t.in.events += len(a.Events); t.in.events > inboxLimit {
			// The tail is busy. It will read what is dropped here.
			t.in.local, t.in.events = nil, 0
		} else {
			t.in.local = append(t.in.local, local{a.Stream, a.Events, a.data, *res})
		}
		t.in.mu.Unlock()
	}
	t.poke()
}

// poke tells the tail to look.
func (t *tail) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// take empties the inbox and returns those of its events that follow on after
// directly. The rest, if any, must be read.
func (t *tail) take(after Position) []*entry {
	t.in.mu.Lock()
	list := t.in.local
	t.in.local, t.in.events = nil, 0
	t.in.mu.Unlock()
	var out []*entry
	types := t.s.Types.load()
	for _, l := range list {
		if Position(l.res.Positions[len(l.res.Positions)-1]) <= after {
			continue // read already
		}
		block := make([]entry, len(l.events))
		first := l.res.Version - uint64(len(l.events)) + 1
		for i := range l.events {
			pos := Position(l.res.Positions[i])
			if pos != after+1 {
				return out
			}
			after = pos
			e := &block[i]
			fill(&e.Recorded, &driver.Recorded{Event: l.events[i], Stream: l.stream,
				Version: first + uint64(i), Position: uint64(pos), Time: l.res.Time})
			if info := types.byName[e.Type]; l.data != nil && info != nil && info.shareable && !info.old {
				e.Data = l.data[i]
			}
			out = append(out, e)
		}
	}
	return out
}

// run offers what is appended until ctx is done.
func (t *tail) run(ctx context.Context) {
	defer t.poke() // what it was told of is for the next run
	poll, backoff := minPoll, minPoll
	early := false // the driver's last Wait returned for nothing
	for ctx.Err() == nil {
		moved, err := t.advance(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, ErrClosed):
			return
		case err != nil:
			t.s.opt.Logger.WarnContext(ctx, "eventstore: the tail cannot read", "err", err, "retry", backoff)
			sleep(ctx, backoff)
			backoff = min(2*backoff, maxBackoff)
			continue
		case moved:
			poll, early = minPoll, false
		default:
			early = t.wait(ctx, poll, early)
			poll = min(2*poll, maxPoll)
		}
		backoff = minPoll
	}
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// wait blocks until there may be something to read, at most for poll, and
// reports whether the driver said so.
func (t *tail) wait(ctx context.Context, poll time.Duration, early bool) bool {
	ctx, cancel := context.WithTimeout(ctx, poll)
	defer cancel()
	var hint chan struct{}
	// Where all appends are this process's own, the inbox tells of them.
	if !t.s.limits.Exclusive && !early {
		hint = make(chan struct{})
		after := uint64(t.position())
		go func() {
			if t.s.d.Wait(ctx, after) == nil {
				close(hint)
			}
		}()
	}
	select {
	case <-t.wake:
	case <-hint:
		return true
	case <-ctx.Done():
	}
	return false
}

func (t *tail) position() Position {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pos
}

// advance offers the next events, if there are any.
func (t *tail) advance(ctx context.Context) (moved bool, err error) {
	after := t.position()
	entries := t.take(after)
	if len(entries) > 0 {
		t.offer(ctx, entries, entries[len(entries)-1].Position)
		return true, nil
	}
	p, err := t.s.readAll(ctx, Filter{}, driver.Filter{System: true}, uint64(after), driver.Forward, t.s.opt.PageSize)
	if err != nil {
		return false, err
	}
	block := make([]entry, len(p.stored))
	entries = make([]*entry, len(p.stored))
	for i := range p.stored {
		fill(&block[i].Recorded, &p.stored[i])
		entries[i] = &block[i]
	}
	next := Position(p.next)
	t.offer(ctx, entries, max(after, next))
	return next > after, nil
}

// offer gives entries to the subscribers at the tail and moves it to pos.
func (t *tail) offer(ctx context.Context, entries []*entry, pos Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil {
		return // the last subscriber has left; another run may be on its way
	}
	before := t.pos
	t.pos = pos
	t.recent.add(entries)
	var touched []*subscriber
	for _, e := range entries {
		t.index.each(e, func(sub *subscriber) {
			if !sub.wants(e) {
				return
			}
			n := len(sub.pending)
			sub.pending = sub.match(t.decode(e), sub.pending)
			if n == 0 && len(sub.pending) > 0 {
				touched = append(touched, sub)
			}
		})
	}
	for _, sub := range touched {
		events := sub.pending
		sub.pending = nil
		t.give(sub, events, before, pos)
	}
	for sub := range t.index.progress {
		if sub.told < pos && sub.due(pos) {
			t.give(sub, nil, before, pos)
		}
	}
}

// give puts events from between two positions of the tail into the channel of a
// subscriber there, which must leave the tail if they do not fit. It is called
// with the lock held.
func (t *tail) give(sub *subscriber, events []*Recorded, before, pos Position) {
	ok, err := sub.put(events, pos)
	switch {
	case err != nil:
		t.endLocked(sub, err)
	case ok:
	case sub.onLag == Fail:
		t.endLocked(sub, ErrLagged)
	default:
		t.index.remove(sub)
		sub.behind = true
		sub.after = max(sub.after, before)
		if t.s.opt.Trace.Lagging != nil {
			t.s.opt.Trace.Lagging(sub.filter, pos-sub.after)
		}
		go t.catchUp(sub)
	}
}

// add makes sub a subscriber from start on.
func (t *tail) add(ctx context.Context, sub *subscriber, start Start) error {
	from, err := t.s.position(ctx, start)
	if err != nil {
		return err
	}
	head := from
	if start.kind != atHead {
		if head, err = t.s.Head(ctx); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return ErrClosed
	}
	if len(t.subs) == 0 {
		// What is appended from here on is fed to the inbox; what was appended since
		// the head was read is found by the first read.
		t.pos, t.recent = head, recent{floor: head}
		run, stop := context.WithCancel(context.Background())
		t.stop = stop
		t.active.Store(true)
		go t.run(run)
	}
	t.subs[sub] = struct{}{}
	sub.after, sub.told, sub.behind = from, from, true
	sub.since = t.catchUps.now()
	if !t.join(sub) {
		go t.catchUp(sub)
	}
	return nil
}

// join puts sub into the index if it has seen, or the tail still keeps and it
// has room for, everything up to the tail's position. It is called with the lock held.
func (t *tail) join(sub *subscriber) bool {
	if sub.ended {
		return false
	}
	if sub.after < t.pos {
		if sub.after < t.recent.floor {
			return false
		}
		var events []*Recorded
		for _, e := range t.recent.after(sub.after) {
			if sub.wants(e) {
				events = sub.match(t.decode(e), events)
			}
		}
		ok, err := sub.put(events, t.pos)
		if err != nil {
			t.endLocked(sub, err)
		}
		if !ok {
			return false
		}
	}
	sub.behind = false
	t.index.add(sub)
	return true
}

// end ends a subscription with err. Ending it twice is a no-op.
func (t *tail) end(sub *subscriber, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(sub, err)
}

func (t *tail) endLocked(sub *subscriber, err error) {
	if sub.ended {
		return
	}
	sub.ended = true
	sub.err = err
	sub.cancel()
	if !sub.behind {
		t.index.remove(sub)
		sub.close()
	}
	if delete(t.subs, sub); len(t.subs) == 0 && t.stop != nil {
		t.active.Store(false)
		t.stop()
		t.stop = nil
		t.recent = recent{}
	}
}

// close ends all subscriptions.
func (t *tail) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	for sub := range t.subs {
		t.endLocked(sub, ErrClosed)
	}
}

// recent is the last part of what the tail has offered: everything above floor.
type recent struct {
	entries []*entry
	floor   Position
	bytes   int
}

func (r *recent) add(entries []*entry) {
	for _, e := range entries {
		r.bytes += len(e.Raw)
	}
	r.entries = append(r.entries, entries...)
	drop := max(0, len(r.entries)-keepEvents)
	for _, e := range r.entries[:drop] {
		r.bytes -= len(e.Raw)
	}
	for drop < len(r.entries) && r.bytes > keepBytes {
		r.bytes -= len(r.entries[drop].Raw)
		drop++
	}
	if drop == 0 {
		return
	}
	r.floor = r.entries[drop-1].Position
	clear(r.entries[:drop]) // the array below outlives the slice
	r.entries = r.entries[drop:]
}

func (r *recent) after(p Position) []*entry {
	lo, hi := 0, len(r.entries)
	for lo < hi {
		if m := (lo + hi) / 2; r.entries[m].Position <= p {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return r.entries[lo:]
}

// An index finds the subscribers that may want an event by the narrowest field
// of their filters.
type index struct {
	byStream   map[StreamName]map[*subscriber]struct{}
	byCategory map[string]map[*subscriber]struct{}
	byType     map[string]map[*subscriber]struct{}
	all        map[*subscriber]struct{}
	progress   map[*subscriber]struct{} // those that want to know of positions, too
}

func (x *index) add(sub *subscriber) {
	x.change(sub, true)
}

func (x *index) remove(sub *subscriber) {
	x.change(sub, false)
}

func (x *index) change(sub *subscriber, in bool) {
	f := &sub.filter
	switch {
	case len(f.Streams) > 0:
		for _, k := range f.Streams {
			x.byStream = change(x.byStream, k, sub, in)
		}
	case len(f.Categories) > 0:
		for _, k := range f.Categories {
			x.byCategory = change(x.byCategory, k, sub, in)
		}
	case len(f.Types) > 0:
		for _, k := range sub.types {
			x.byType = change(x.byType, k, sub, in)
		}
	default:
		x.all = set(x.all, sub, in)
	}
	if sub.progress || sub.eager {
		x.progress = set(x.progress, sub, in)
	}
}

func change[K comparable](m map[K]map[*subscriber]struct{}, k K, sub *subscriber, in bool) map[K]map[*subscriber]struct{} {
	if m == nil {
		m = map[K]map[*subscriber]struct{}{}
	}
	if m[k] = set(m[k], sub, in); len(m[k]) == 0 {
		delete(m, k)
	}
	return m
}

func set(m map[*subscriber]struct{}, sub *subscriber, in bool) map[*subscriber]struct{} {
	if !in {
		delete(m, sub)
		return m
	}
	if m == nil {
		m = map[*subscriber]struct{}{}
	}
	m[sub] = struct{}{}
	return m
}

func (x *index) each(e *entry, fn func(*subscriber)) {
	for sub := range x.byStream[e.Stream] {
		fn(sub)
	}
	if len(x.byCategory) > 0 {
		for sub := range x.byCategory[e.Stream.Category()] {
			fn(sub)
		}
	}
	for sub := range x.byType[e.Type] {
		fn(sub)
	}
	for sub := range x.all {
		fn(sub)
	}
}
