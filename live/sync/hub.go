package sync

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/eventstore"
)

const (
	maxReads   = 4   // that one source has under way
	maxKeys    = 256 // of one read
	minPause   = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	startPause = 250 * time.Millisecond // for which a source waits for its projection before it reads anyway
)

// errRebuilt reports a read model that stands before where it was already seen.
var errRebuilt = errors.New("sync: the read model is being built anew")

// A hub is what a Source knows while somebody looks at it.
//
//	follow ──► moved: keys are dirty ──► queue ──► reads, maxReads at a time ──► finish: wake the watches
//
// No key is read twice at the same time, so that a value never goes back in time.
type hub[K comparable, V any] struct {
	c     *Config[K, V]
	watch func(changed func(K)) (stop func()) // tells of changes that are no events; may be nil

	mu      sync.RWMutex // pages read under it, all at once
	run     *run         // nil while nobody looks
	started bool         // pos counts
	early   bool         // reads need not wait for started
	pos     eventstore.Position
	high    eventstore.Position // of the read model, when it was read
	err     error               // why pos does not move
	entries map[K]*entry[V]
	list    *list[K, V] // nil while nobody looks at the list
	queue   []K         // dirty, and not being read
	reads   int
	watches int
	clock   uint64 // counts full reads of the list
}

// A run is one time of following, from the first to look to the last.
type run struct {
	ctx   context.Context
	stop  context.CancelFunc
	timer *time.Timer // for what is queued and not due
	start *time.Timer // ends the wait for the projection
}

// An entry is a value that somebody looks at.
type entry[V any] struct {
	value    V
	ok       bool // there is one
	seen     bool // it was read
	err      error
	seq      uint64              // rises with each change of the above
	at       eventstore.Position // it reflects every event up to here, while it is dirty or being read
	dirty    bool
	reading  bool
	began    uint64 // the clock when the read under way, or the last, began
	queued   bool
	attempts int       // that failed in a row
	due      time.Time // not to be read before
	watches  map[*watch]struct{}
}

// A watch is a field's interest in entries or the list.
type watch struct {
	wake  func()        // never blocks
	until atomic.Uint64 // the position to wake at, though nothing has changed; 0 for none
}

// asOf returns up to which position e reflects every event.
func (h *hub[K, V]) asOf(e *entry[V]) eventstore.Position {
	if e.dirty || e.reading || !e.seen {
		return e.at
	}
	return h.pos
}

// join makes w a watch of key.
func (h *hub[K, V]) join(key K, w *watch) *entry[V] {
	h.begin()
	e := h.entry(key)
	e.watches[w] = struct{}{}
	h.watches++
	if !e.seen && !e.reading {
		h.soil(key, e)
	}
	h.schedule()
	return e
}

// entry returns the entry of key; a new one is not yet read.
func (h *hub[K, V]) entry(key K) *entry[V] {
	e := h.entries[key]
	if e == nil {
		e = &entry[V]{watches: map[*watch]struct{}{}}
		h.entries[key] = e
	}
	return e
}

// leave ends a watch of key.
func (h *hub[K, V]) leave(key K, w *watch) {
	e := h.entries[key]
	if e == nil {
		return
	}
	if _, ok := e.watches[w]; !ok {
		return
	}
	delete(e.watches, w)
	h.watches--
	h.drop(key, e)
	h.end()
}

// drop forgets an entry that nobody needs.
func (h *hub[K, V]) drop(key K, e *entry[V]) {
	if len(e.watches) > 0 || h.entries[key] != e {
		return
	}
	if h.list != nil {
		if _, ok := h.list.out[key]; ok {
			return
		}
	}
	delete(h.entries, key)
}

// begin starts following if this is the first to look.
func (h *hub[K, V]) begin() {
	if h.run != nil {
		return
	}
	r := &run{}
	r.ctx, r.stop = context.WithCancel(context.Background())
	h.run, h.entries, h.started, h.early, h.pos, h.err = r, map[K]*entry[V]{}, false, false, 0, nil
	r.timer = time.AfterFunc(time.Hour, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.run == r {
			h.schedule()
		}
	})
	r.timer.Stop()
	r.start = time.AfterFunc(startPause, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.run == r {
			h.early = true
			h.schedule()
		}
	})
	go h.follow(r)
}

// end stops following if nobody looks any more.
func (h *hub[K, V]) end() {
	if h.watches > 0 || h.run == nil {
		return
	}
	h.run.stop()
	h.run.timer.Stop()
	h.run.start.Stop()
	h.run, h.entries, h.list, h.queue, h.reads = nil, nil, nil, nil, 0
}

// follow moves pos and marks what changed, until r ends.
func (h *hub[K, V]) follow(r *run) {
	if h.watch != nil {
		stop := h.watch(func(key K) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.run == r {
				h.changed(map[K]struct{}{key: {}}, false)
				h.schedule()
			}
		})
		defer stop()
	}
	for attempt := 1; ; attempt++ {
		moved, err := h.advance(r)
		if r.ctx.Err() != nil {
			return
		}
		if moved {
			attempt = 1
		}
		h.failed(r, err)
		if errors.Is(err, eventstore.ErrClosed) {
			return // for good
		}
		if !sleep(r.ctx, pause(attempt)) {
			return
		}
	}
}

// advance follows until something fails, and reports whether it got anywhere.
func (h *hub[K, V]) advance(r *run) (moved bool, err error) {
	h.mu.Lock()
	started, pos := h.started, h.pos
	h.mu.Unlock()
	head, err := h.c.Store.Head(r.ctx)
	if err != nil {
		return false, err
	}
	if !started {
		pos = head
		if err := h.c.await(r.ctx, pos); err != nil {
			return false, err
		}
		h.start(r, pos)
	} else if head <= pos {
		h.moved(r, pos, nil, false) // there is nothing that would tell of recovery
	}
	for b, err := range h.c.Store.Follow(r.ctx, h.c.Filter, pos) {
		if err != nil {
			return moved, err
		}
		keys, all := h.c.keys(b.Events)
		if err := h.c.await(r.ctx, b.Position); err != nil {
			return moved, err // the events come again
		}
		h.moved(r, b.Position, keys, all)
		moved = true
	}
	return moved, r.ctx.Err()
}

// start makes pos count. What was read before may be older than that.
func (h *hub[K, V]) start(r *run, pos eventstore.Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != r {
		return
	}
	h.started, h.pos = true, pos
	h.recovered()
	for key, e := range h.entries {
		h.soil(key, e)
	}
	if h.list != nil {
		h.list.stale = true
	}
	h.schedule()
}

// moved is told of events up to pos.
func (h *hub[K, V]) moved(r *run, pos eventstore.Position, keys map[K]struct{}, all bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != r {
		return
	}
	h.changed(keys, all)
	h.pos = max(h.pos, pos)
	h.recovered()
	h.schedule()
	h.reached()
}

// changed marks what is to be read again, all of it or what keys name.
func (h *hub[K, V]) changed(keys map[K]struct{}, all bool) {
	switch {
	case all:
		for key, e := range h.entries {
			h.soil(key, e)
		}
		if l := h.list; l != nil {
			if !l.stale && !l.reading {
				l.at = h.listAsOf()
			}
			l.stale = true
		}
	case h.list != nil && !h.list.stale:
		for key := range keys {
			e := h.entry(key)
			if _, ok := h.list.out[key]; !ok {
				if len(e.watches) == 0 && !e.seen {
					e.at = h.pos // the list has it as of now
				}
				h.list.out[key] = struct{}{}
			}
			h.soil(key, e)
		}
	default:
		for key := range keys {
			if e := h.entries[key]; e != nil {
				h.soil(key, e)
			}
		}
	}
}

// soil marks an entry as not current.
func (h *hub[K, V]) soil(key K, e *entry[V]) {
	if !e.dirty && !e.reading && e.seen {
		e.at = h.pos
	}
	e.dirty = true
	if !e.queued && !e.reading {
		e.queued = true
		h.queue = append(h.queue, key)
	}
}

// failed records why pos does not move.
func (h *hub[K, V]) failed(r *run, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != r {
		return
	}
	if h.err == nil || h.err.Error() != err.Error() {
		h.c.Logger.Warn("sync: pages are not kept current", "projection", h.c.Projection, "err", err)
	}
	h.err, h.early = err, true
	h.schedule()
	h.everyone()
}

// recovered records that pos moves.
func (h *hub[K, V]) recovered() {
	if h.err != nil {
		h.err = nil
		h.everyone()
	}
}

func (h *hub[K, V]) everyone() {
	for _, e := range h.entries {
		wake(e.watches)
	}
	if h.list != nil {
		wake(h.list.watches)
	}
}

func wake(watches map[*watch]struct{}) {
	for w := range watches {
		w.wake()
	}
}

// reached wakes those who wait for a position that has been reached.
func (h *hub[K, V]) reached() {
	for _, e := range h.entries {
		wakeUntil(e.watches, h.asOf(e))
	}
	if h.list != nil {
		wakeUntil(h.list.watches, h.listAsOf())
	}
}

func wakeUntil(watches map[*watch]struct{}, at eventstore.Position) {
	for w := range watches {
		if until := w.until.Load(); until > 0 && until <= uint64(at) && w.until.CompareAndSwap(until, 0) {
			w.wake()
		}
	}
}

// schedule begins the reads that are due.
func (h *hub[K, V]) schedule() {
	if h.run == nil || !h.started && !h.early {
		return
	}
	now := time.Now()
	var next time.Time
	later := func(due time.Time) bool {
		if !due.After(now) {
			return false
		}
		if next.IsZero() || due.Before(next) {
			next = due
		}
		return true
	}
	if l := h.list; l != nil && l.stale && !l.reading && h.reads < maxReads && !later(l.due) {
		h.readList(now)
	}
	for h.reads < maxReads && len(h.queue) > 0 {
		var keys []K
		rest := h.queue[:0]
		for i, key := range h.queue {
			e := h.entries[key]
			switch {
			case e == nil || !e.queued: // nobody looks any more
			case len(keys) == maxKeys:
				rest = append(rest, h.queue[i])
			case later(e.due):
				rest = append(rest, key)
			default:
				e.queued, e.dirty, e.reading = false, false, true
				e.began = h.clock
				e.due = now.Add(max(h.c.Interval, 0))
				keys = append(keys, key)
			}
		}
		clear(h.queue[len(rest):])
		h.queue = rest
		if len(keys) == 0 {
			break
		}
		h.reads++
		go h.read(h.run, keys, h.from(), h.high)
	}
	if !next.IsZero() {
		h.run.timer.Reset(time.Until(next))
	}
}

// from returns what a read that begins now reflects at least.
func (h *hub[K, V]) from() eventstore.Position {
	if h.started {
		return h.pos
	}
	return 0
}

// read reads keys, one by one if that fails.
func (h *hub[K, V]) read(r *run, keys []K, from, floor eventstore.Position) {
	m, at, err := h.c.safely(r.ctx, keys)
	if err == nil || len(keys) == 1 {
		h.finish(r, keys, from, m, at, aged(at, floor, err))
	} else {
		for _, key := range keys {
			one := []K{key}
			m, at, err := h.c.safely(r.ctx, one)
			h.finish(r, one, from, m, at, aged(at, floor, err))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run == r {
		h.reads--
		h.schedule()
	}
}

// finish takes what was read of keys.
func (h *hub[K, V]) finish(r *run, keys []K, from eventstore.Position, m map[K]V, at eventstore.Position, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.run != r {
		return
	}
	if err != nil {
		h.c.Logger.Warn("sync: cannot read", "keys", len(keys), "err", err)
	}
	h.high = max(h.high, at)
	listed := map[K]*entry[V]{}
	for _, key := range keys {
		e := h.entries[key]
		if e == nil || !e.reading {
			continue
		}
		e.reading = false
		if err != nil {
			e.attempts++
			e.due = time.Now().Add(pause(e.attempts))
			e.dirty = true
			if e.err == nil || e.err.Error() != err.Error() {
				e.err = err
				wake(e.watches)
				h.tell(key)
			}
		} else {
			v, ok := m[key]
			changed := !e.seen || e.ok != ok || ok && !h.c.Equal(e.value, v)
			if changed {
				e.value, e.ok = v, ok
				e.seq++
			}
			if e.err != nil {
				e.err, changed = nil, true
				h.tell(key)
			}
			e.seen, e.attempts = true, 0
			e.at = from
			if h.list != nil {
				// What was read before the list as a whole may be older than that.
				if _, ok := h.list.out[key]; ok && e.began == h.clock {
					listed[key] = e
				}
			}
			if changed {
				wake(e.watches)
			}
		}
		if e.dirty {
			e.queued = true
			h.queue = append(h.queue, key)
		}
		wakeUntil(e.watches, h.asOf(e))
	}
	if len(listed) > 0 {
		h.patch(listed)
	}
	for _, key := range keys {
		if e := h.entries[key]; e != nil {
			h.drop(key, e)
		}
	}
}

// tell wakes those who look at the list, if the entry of key is to be brought in: it has begun or ceased to fail.
func (h *hub[K, V]) tell(key K) {
	if h.list == nil {
		return
	}
	if _, ok := h.list.out[key]; ok {
		wake(h.list.watches)
	}
}

// aged returns err, or why a read model at a position must not be shown when it
// stood at floor before the read. Of a model that cannot tell, both are 0.
func aged(at, floor eventstore.Position, err error) error {
	if err == nil && at < floor {
		return errRebuilt
	}
	return err
}

// pause returns for how long to wait after so many failures in a row.
func pause(attempts int) time.Duration {
	d := minPause << min(attempts-1, 10)
	d = min(d, maxPause)
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func deepEqual[V any](a, b V) bool { return reflect.DeepEqual(a, b) }
