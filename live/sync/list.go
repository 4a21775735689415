package sync

import (
	"slices"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// A list is all values of a source.
type list[K comparable, V any] struct {
	seen     bool
	keys     []K // in order
	items    []V // in the same order; never written to once they are set
	index    map[K]V
	node     *node[V]
	err      error
	at       eventstore.Position // while it is stale or being read
	stale    bool                // it is to be read as a whole
	reading  bool
	attempts int
	due      time.Time
	out      map[K]struct{} // keys whose entries are to be brought in
	watches  map[*watch]struct{}
}

// A node is a state of a list, as seen from the one before: who stands at one gets to the newest by
// the ops of those that follow.
type node[V any] struct {
	seq  uint64
	next *node[V] // nil for the newest
	ops  []op[V]  // from this one to the next
	all  bool     // there are no ops: show the list anew
}

type opKind uint8

const (
	deleteOp opKind = iota
	insertOp
	updateOp
)

type op[V any] struct {
	kind opKind
	at   int // of an insert, after the ops before
	v    V   // as it was, for a delete
}

// joinList makes w a watch of the list.
func (h *hub[K, V]) joinList(w *watch) *list[K, V] {
	h.begin()
	if h.list == nil {
		h.list = &list[K, V]{stale: true, node: &node[V]{}, out: map[K]struct{}{}, watches: map[*watch]struct{}{}}
	}
	h.list.watches[w] = struct{}{}
	h.watches++
	h.schedule()
	return h.list
}

func (h *hub[K, V]) leaveList(w *watch) {
	if h.list == nil {
		return
	}
	if _, ok := h.list.watches[w]; !ok {
		return
	}
	delete(h.list.watches, w)
	h.watches--
	if len(h.list.watches) == 0 {
		out := h.list.out
		h.list = nil
		for key := range out {
			if e := h.entries[key]; e != nil {
				h.drop(key, e)
			}
		}
	}
	h.end()
}

// listAsOf returns up to which position the list reflects every event.
func (h *hub[K, V]) listAsOf() eventstore.Position {
	l := h.list
	if l.stale || l.reading || !l.seen {
		return l.at
	}
	at := h.pos
	for key := range l.out {
		if e := h.entries[key]; e != nil {
			at = min(at, h.asOf(e))
		}
	}
	return at
}

// readList begins to read the list as a whole.
func (h *hub[K, V]) readList(now time.Time) {
	l := h.list
	l.stale, l.reading = false, true
	l.due = now.Add(max(h.c.Interval, 0))
	// What is out is in what is read now; what changes from here on is brought in after it.
	clear(l.out)
	h.reads++
	go func(r *run, from, floor eventstore.Position) {
		m, at, err := h.c.safely(r.ctx, nil)
		err = aged(at, floor, err)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.run != r {
			return
		}
		h.reads--
		if h.list == l {
			h.finishList(from, m, at, err)
		}
		h.schedule()
	}(h.run, h.from(), h.high)
}

func (h *hub[K, V]) finishList(from eventstore.Position, m map[K]V, at eventstore.Position, err error) {
	l := h.list
	l.reading = false
	h.high = max(h.high, at)
	if err != nil {
		h.c.Logger.Warn("sync: cannot read a list", "err", err)
		l.attempts++
		l.due = time.Now().Add(pause(l.attempts))
		l.stale = true
		clear(l.out)
		if l.err == nil || l.err.Error() != err.Error() {
			l.err = err
			wake(l.watches)
		}
		return
	}
	// From here on entries may be brought in, if they are read after this.
	h.clock++
	for key := range l.out {
		h.soil(key, h.entries[key])
	}
	failed := l.err != nil
	l.err, l.attempts, l.at = nil, 0, from
	changes := map[K]change[V]{}
	for key := range l.index {
		if _, ok := m[key]; !ok {
			changes[key] = change[V]{}
		}
	}
	for key, v := range m {
		changes[key] = change[V]{v, true}
	}
	first := !l.seen
	l.seen = true
	if l.apply(changes, h.c.Compare, h.c.Equal) || first || failed {
		wake(l.watches)
	}
	wakeUntil(l.watches, h.listAsOf())
}

// patch brings entries into the list.
func (h *hub[K, V]) patch(entries map[K]*entry[V]) {
	l := h.list
	if l.reading || !l.seen {
		return // what is being read may be older; they are brought in after it
	}
	changes := make(map[K]change[V], len(entries))
	for key, e := range entries {
		changes[key] = change[V]{e.value, e.ok}
		if !e.dirty {
			delete(l.out, key)
		}
	}
	if l.apply(changes, h.c.Compare, h.c.Equal) {
		wake(l.watches)
	}
	wakeUntil(l.watches, h.listAsOf())
}

type change[V any] struct {
	v  V
	ok bool // false: it is gone
}

// apply makes the changes that are some, and reports whether there were any.
func (l *list[K, V]) apply(changes map[K]change[V], compare func(a, b V) int, equal func(a, b V) bool) bool {
	var ops []op[V]
	updates := map[K]V{}
	gone := map[K]bool{}
	var added []K
	for key, c := range changes {
		old, had := l.index[key]
		switch {
		case !had && !c.ok, had && c.ok && equal(old, c.v):
		case had && c.ok && compare(old, c.v) == 0:
			updates[key] = c.v
		default:
			if had {
				gone[key] = true
			}
			if c.ok {
				added = append(added, key)
			}
		}
	}
	if len(updates)+len(gone)+len(added) == 0 {
		return false
	}
	if l.index == nil {
		l.index = map[K]V{}
	}
	slices.SortStableFunc(added, func(a, b K) int { return compare(changes[a].v, changes[b].v) })
	n := len(l.keys) - len(gone) + len(added)
	keys, items := make([]K, 0, n), make([]V, 0, n)
	var inserts []op[V]
	add := func() {
		key := added[0]
		added = added[1:]
		v := changes[key].v
		inserts = append(inserts, op[V]{insertOp, len(keys), v})
		keys, items = append(keys, key), append(items, v)
	}
	for i, key := range l.keys {
		v := l.items[i]
		if gone[key] {
			ops = append(ops, op[V]{deleteOp, 0, v})
			continue
		}
		for len(added) > 0 && compare(changes[added[0]].v, v) < 0 {
			add()
		}
		if new, ok := updates[key]; ok {
			v = new
			ops = append(ops, op[V]{updateOp, 0, v})
		}
		keys, items = append(keys, key), append(items, v)
	}
	for len(added) > 0 {
		add()
	}
	// Updates may stand among the deletes: they name no index. Inserts come last, ascending.
	ops = append(ops, inserts...)
	for key := range gone {
		delete(l.index, key)
	}
	for i, key := range keys {
		l.index[key] = items[i]
	}
	l.keys, l.items = keys, items
	next := &node[V]{seq: l.node.seq + 1}
	l.node.next = next
	if len(ops) > len(items)/2+8 {
		l.node.all = true
	} else {
		l.node.ops = ops
	}
	l.node = next
	return true
}
