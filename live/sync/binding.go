package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/live"
)

// ErrLate reports a field that is not yet as new as the page has shown before, or has no value yet, though binding
// it has waited for that. It takes on what is newer as soon as it is there.
var ErrLate = errors.New("sync: not current yet")

// One binds field to the value of a key: it is read, and then kept current until the page is gone, the field is bound
// again, or [Binding.Stop] is called. It is the zero V while there is no such value. What it refers to is
// shared with other pages and must not be modified.
func One[K comparable, V any](ctx *live.Ctx, field *V, src *Source[K, V], key K) *Binding {
	return one(pageOf(ctx), field, src, key)
}

// Many binds field to the values of keys, in their order, leaving out those that are not there. Each is followed
// by itself. Called again with other keys, it keeps what stays and reads only what is new; funcs that OnChange was
// given before are not called any more. The slice is the page's, what its items refer to is shared.
func Many[K comparable, V any](ctx *live.Ctx, field *[]V, src *Source[K, V], keys []K) *Binding {
	return many(pageOf(ctx), field, src, keys)
}

// All binds field to all values of a source that has a list, in its order. The slice is shared with other
// pages and must not be modified.
func All[K comparable, V any](ctx *live.Ctx, field *[]V, src *Source[K, V]) *Binding {
	return all(pageOf(ctx), field, src)
}

// Stream keeps a stream of the page as [All] keeps a field: what is put in, changed and taken out in the list is in the
// stream, and nothing else is sent. Id must return the id of an item's element, as for [live.NewStream].
func Stream[K comparable, V any](ctx *live.Ctx, stream *live.Stream[V], src *Source[K, V], id func(V) string) *Binding {
	return flow(pageOf(ctx), stream, src, id)
}

// A Binding ties a field of a page to a source.
type Binding struct {
	p     *page
	field any
	kind  any // what only One, Many, All and Stream know
	at    eventstore.Position
	floor eventstore.Position // what it waited for when it was bound
	late  bool                // it has waited long enough
	seq   uint64
	on    []func()
	err   atomic.Pointer[error]
	ended atomic.Bool

	refresh func() (changed bool) // sets the field to what is there
	watch   *watch
	again   func(eventstore.Position) bool // over HTTP: reads the field again
	leave   func()                         // ends the interest in the source
}

// Err returns why the field is not current, or nil. It may be called by any goroutine.
func (b *Binding) Err() error {
	if e := b.err.Load(); e != nil {
		return *e
	}
	return nil
}

// Stop leaves the field as it is from now on.
func (b *Binding) Stop() { b.p.unbind(b) }

// OnChange calls fn, a func of the view, now and whenever the field has another value. It may bind other fields to what
// follows from this one. It returns b.
func (b *Binding) OnChange(fn func()) *Binding {
	b.on = append(b.on, fn)
	fn()
	return b
}

func (b *Binding) changed() {
	for _, fn := range b.on {
		fn()
	}
}

func (b *Binding) fail(err error) {
	if err == nil {
		b.err.Store(nil)
		return
	}
	b.err.Store(&err)
}

// until asks for the page to be woken when the source has got to a position. Who asks looks at the source after that.
func (b *Binding) until(pos eventstore.Position) { b.watch.until.Store(uint64(pos)) }

// end ends the interest in the source. It is called by any goroutine, any number of times.
func (b *Binding) end() {
	if !b.ended.Swap(true) && b.leave != nil {
		b.leave()
	}
}

// standing records where the field stands, and why it is no further.
func (b *Binding) standing(at eventstore.Position, seen bool, err error) {
	b.at = at
	if seen && at >= b.floor {
		b.late = false
	}
	if err == nil && b.late {
		err = ErrLate
	}
	b.fail(err)
}

func one[K comparable, V any](p *page, field *V, src *Source[K, V], key K) *Binding {
	b := &Binding{p: p, field: field}
	set := func(v V, ok bool) {
		if !ok {
			v = *new(V)
		}
		*field = v
	}
	if !p.host.Connected() {
		b.plain(src.c.Wait, func(ctx context.Context, pos eventstore.Position) (bool, error) {
			m, err := src.once(ctx, []K{key}, pos)
			if err != nil {
				return false, err
			}
			v, ok := m[key]
			set(v, ok)
			return true, nil
		})
		return b
	}
	h := &src.hub
	w := newWatch(p)
	h.mu.Lock()
	e := h.join(key, w.watch)
	h.mu.Unlock()
	b.watch = w.watch
	b.leave = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.leave(key, w.watch)
	}
	b.refresh = func() (changed bool) {
		h.mu.RLock()
		defer h.mu.RUnlock()
		b.standing(h.asOf(e), e.seen, either(e.err, h.err))
		if changed = e.seen && e.seq != b.seq; changed {
			b.seq = e.seq
			set(e.value, e.ok)
		}
		return changed
	}
	set(*new(V), false)
	p.bind(b)
	b.await(w, src.c.Wait, p.floor(src.c.Store), func(floor eventstore.Position) bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		return h.ready(e, floor)
	})
	return b
}

// ready reports whether there is nothing to be gained by waiting for e.
func (h *hub[K, V]) ready(e *entry[V], floor eventstore.Position) bool {
	return e.seen && (h.asOf(e) >= floor || h.err != nil) || e.err != nil
}

// a manyKind is what Many knows of its keys.
type manyKind[K comparable, V any] struct {
	src     *Source[K, V]
	w       waiter
	keys    []K
	entries map[K]*entry[V]
}

func many[K comparable, V any](p *page, field *[]V, src *Source[K, V], keys []K) *Binding {
	keys = slices.Clone(keys)
	if !p.host.Connected() {
		b := &Binding{p: p, field: field}
		b.plain(src.c.Wait, func(ctx context.Context, pos eventstore.Position) (bool, error) {
			if len(keys) == 0 {
				*field = nil
				return true, nil
			}
			m, err := src.once(ctx, keys, pos)
			if err != nil {
				return false, err
			}
			values := make([]V, 0, len(m))
			for _, key := range keys {
				if v, ok := m[key]; ok {
					values = append(values, v)
				}
			}
			*field = values
			return true, nil
		})
		return b
	}
	b := p.bound(field)
	var m *manyKind[K, V]
	if b != nil {
		m, _ = b.kind.(*manyKind[K, V])
	}
	if m == nil || m.src != src {
		b, m = newMany(p, field, src)
		*field = nil
		p.bind(b)
	}
	b.on = nil
	m.become(keys)
	if b.ended.Load() { // the page ended meanwhile
		b.leave()
		return b
	}
	b.seq = 0 // the keys may be others
	b.await(m.w, src.c.Wait, p.floor(src.c.Store), func(floor eventstore.Position) bool {
		h := &src.hub
		h.mu.RLock()
		defer h.mu.RUnlock()
		for _, e := range m.entries {
			if !h.ready(e, floor) {
				return false
			}
		}
		return true
	})
	return b
}

func newMany[K comparable, V any](p *page, field *[]V, src *Source[K, V]) (*Binding, *manyKind[K, V]) {
	m := &manyKind[K, V]{src: src, w: newWatch(p), entries: map[K]*entry[V]{}}
	b := &Binding{p: p, field: field, kind: m, watch: m.w.watch}
	h := &src.hub
	b.leave = func() { m.become(nil) }
	b.refresh = func() bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		seen, at, err := true, eventstore.Position(0), error(nil)
		stamp, n := uint64(1), 0 // each seq only rises, and so does their sum
		for _, e := range m.entries {
			if as := h.asOf(e); n == 0 || as < at {
				at = as
			}
			n++
			seen = seen && e.seen
			stamp += e.seq
			err = either(err, e.err)
		}
		if n == 0 {
			at = max(b.at, p.min, b.floor) // nothing is as new as can be
		} else {
			err = either(err, h.err)
		}
		b.standing(at, seen, err)
		if stamp == b.seq {
			return false
		}
		b.seq = stamp
		values := make([]V, 0, len(m.keys))
		for _, key := range m.keys {
			if e := m.entries[key]; e != nil && e.ok {
				values = append(values, e.value)
			}
		}
		*field = values
		return true
	}
	return b, m
}

// become makes keys what is watched.
func (m *manyKind[K, V]) become(keys []K) {
	h := &m.src.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	old := m.entries
	m.keys, m.entries = keys, make(map[K]*entry[V], len(keys))
	for _, key := range keys {
		switch {
		case m.entries[key] != nil: // twice
		case old[key] != nil:
			m.entries[key] = old[key]
		default:
			m.entries[key] = h.join(key, m.w.watch)
		}
	}
	for key := range old {
		if m.entries[key] == nil {
			h.leave(key, m.w.watch)
		}
	}
}

func all[K comparable, V any](p *page, field *[]V, src *Source[K, V]) *Binding {
	var at *node[V]
	return listed(p, field, src, func(items []V) { *field = items[:len(items):len(items)] }, func(l *list[K, V]) bool {
		if l.node == at {
			return false
		}
		at = l.node
		*field = l.items[:len(l.items):len(l.items)]
		return true
	})
}

// maxOps is how many changes of a list a page may be behind to be told of each.
const maxOps = 256

// A streamer is a live.Stream.
type streamer[V any] interface {
	Reset()
	Append(items ...V)
	Insert(at int, items ...V)
	Update(items ...V)
	Delete(ids ...string)
}

func flow[K comparable, V any](p *page, stream streamer[V], src *Source[K, V], id func(V) string) *Binding {
	var at *node[V]
	fill := func(items []V) {
		stream.Reset()
		stream.Append(items...)
	}
	return listed(p, stream, src, fill, func(l *list[K, V]) bool {
		if l.node == at {
			return false
		}
		anew := at == nil || l.node.seq-at.seq > maxOps
		for n := at; !anew && n != l.node; n = n.next {
			anew = n.all
		}
		if anew {
			fill(l.items)
		}
		for n := at; !anew && n != l.node; n = n.next {
			for _, o := range n.ops {
				switch o.kind {
				case deleteOp:
					stream.Delete(id(o.v))
				case insertOp:
					stream.Insert(o.at, o.v)
				case updateOp:
					stream.Update(o.v)
				}
			}
		}
		at = l.node
		return true
	})
}

// listed binds a field to the list of src: fill sets it at once, step brings it to where the list is.
func listed[K comparable, V any](p *page, field any, src *Source[K, V], fill func([]V), step func(*list[K, V]) bool) *Binding {
	b := &Binding{p: p, field: field}
	if src.c.All == nil {
		b.fail(errNoList)
		b.ended.Store(true)
		return b
	}
	if !p.host.Connected() {
		b.plain(src.c.Wait, func(ctx context.Context, pos eventstore.Position) (bool, error) {
			m, err := src.once(ctx, nil, pos)
			if err != nil {
				return false, err
			}
			fill(src.c.sorted(m))
			return true, nil
		})
		return b
	}
	h := &src.hub
	w := newWatch(p)
	h.mu.Lock()
	l := h.joinList(w.watch)
	h.mu.Unlock()
	b.watch = w.watch
	b.leave = func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.leaveList(w.watch)
	}
	b.refresh = func() bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		if h.list != l {
			return false // it has ended
		}
		b.standing(h.listAsOf(), l.seen, either(l.err, h.listErr()))
		return l.seen && step(l)
	}
	fill(nil)
	p.bind(b)
	b.await(w, src.c.Wait, p.floor(src.c.Store), func(floor eventstore.Position) bool {
		h.mu.RLock()
		defer h.mu.RUnlock()
		return h.list != l || l.seen && (h.listAsOf() >= floor || h.err != nil) || l.err != nil
	})
	return b
}

// listErr returns why the list is not current, though it was read.
func (h *hub[K, V]) listErr() error {
	for key := range h.list.out {
		if e := h.entries[key]; e != nil && e.err != nil {
			return e.err
		}
	}
	return h.err
}

// once reads keys, or all if they are nil, after what must have been handled is. What pages share is taken if
// it is as new as the store.
func (s *Source[K, V]) once(ctx context.Context, keys []K, pos eventstore.Position) (map[K]V, error) {
	if keys != nil {
		if head, err := s.c.Store.Head(ctx); err == nil && head >= pos {
			if m, ok := s.hub.shared(keys, head); ok {
				return m, nil
			}
		}
	}
	if pos > 0 {
		if err := s.c.await(ctx, pos); err != nil {
			return nil, fmt.Errorf("sync: %w", err)
		}
	}
	return s.c.read(ctx, keys)
}

// shared returns the values of keys if all of them are known as of a position.
func (h *hub[K, V]) shared(keys []K, at eventstore.Position) (map[K]V, bool) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	m := make(map[K]V, len(keys))
	for _, key := range keys {
		e := h.entries[key]
		if e == nil || !e.seen || e.err != nil || h.asOf(e) < at || !h.started {
			return nil, false
		}
		if e.ok {
			m[key] = e.value
		}
	}
	return m, true
}

// plain reads a field over HTTP.
func (b *Binding) plain(wait time.Duration, read func(ctx context.Context, pos eventstore.Position) (bool, error)) {
	b.again = func(pos eventstore.Position) bool {
		ctx, cancel := context.WithTimeout(b.p.host, wait)
		defer cancel()
		changed, err := read(ctx, pos)
		if err != nil && pos > 0 {
			// Better what there is than nothing, with the error beside it.
			again, cancel := context.WithTimeout(b.p.host, wait)
			defer cancel()
			changed, _ = read(again, 0)
		}
		b.fail(err)
		return changed
	}
	b.p.bind(b)
	b.again(0)
}

// await waits until ready, and brings the field up to date.
func (b *Binding) await(w waiter, wait time.Duration, floor eventstore.Position, ready func(floor eventstore.Position) bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	b.floor = floor
	b.until(floor)
	for !ready(floor) && !b.ended.Load() {
		select {
		case <-w.woken:
			b.until(floor)
			continue
		case <-timer.C:
			b.late = true
		case <-b.p.host.Done():
		}
		break
	}
	if !b.ended.Load() {
		b.refresh()
		b.p.position()
	}
}

// A waiter is a watch that can be waited for.
type waiter struct {
	*watch
	woken chan struct{}
}

func newWatch(p *page) waiter {
	w := waiter{&watch{}, make(chan struct{}, 1)}
	w.wake = func() {
		select {
		case w.woken <- struct{}{}:
		default:
		}
		p.signal()
	}
	return w
}

func either(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
