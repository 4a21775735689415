package aggregate

import "time"

// keepQueue is how much room of a queue an aggregate at rest keeps.
const keepQueue = 256

// rest lets go of in if nothing waits for it, and reports whether it did. It is
// called by the holder, who holds it no longer then.
func (r *Repository[S]) rest(in *instance[S]) bool {
	if in.at < len(in.todo) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) > 0 {
		return false
	}
	in.held = false
	if cap(in.queue)+cap(in.todo) > keepQueue {
		in.queue, in.todo, in.at = nil, nil, 0
	}
	if r.t.Idle > 0 && (in.commanded || in.idle.IsZero()) {
		in.idle = time.Now()
	}
	in.commanded = false
	r.settle(in)
	return true
}

// settle makes in, if nobody uses it, one that may be evicted, and evicts what
// is too much. It is called with both locks held. An instance can come into use
// again only with the repository's lock held, which takes it off the list, so
// that none is ever evicted, or loaded a second time, while somebody has it.
func (r *Repository[S]) settle(in *instance[S]) {
	if in.held || in.saving || in.listed {
		return
	}
	r.resting.pushFront(in)
	for len(r.instances) > max(r.t.Cached, 0) && r.resting.last != nil {
		r.evict(r.resting.last)
	}
	if r.t.Idle > 0 && in.listed && r.sweeper == nil {
		r.sweeper = time.AfterFunc(r.t.Idle, r.sweep)
	}
}

func (r *Repository[S]) evict(in *instance[S]) {
	r.resting.remove(in)
	delete(r.instances, in.id)
}

// sweep evicts what has been idle for too long. There is one timer for all.
func (r *Repository[S]) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweeper = nil
	now := time.Now()
	next := r.t.Idle
	for in := r.resting.last; in != nil; {
		older := in
		in = in.prev
		if left := r.t.Idle - now.Sub(older.idle); left > 0 {
			next = min(next, left)
		} else {
			r.evict(older)
		}
	}
	if r.resting.last != nil {
		// Not for every instance by itself: a sweep looks at all of them.
		r.sweeper = time.AfterFunc(max(next, r.t.Idle/8), r.sweep)
	}
}

// A list is a doubly linked list of instances.
type list[S any] struct{ first, last *instance[S] }

func (l *list[S]) pushFront(in *instance[S]) {
	in.listed = true
	in.prev, in.next = nil, l.first
	if l.first == nil {
		l.last = in
	} else {
		l.first.prev = in
	}
	l.first = in
}

func (l *list[S]) remove(in *instance[S]) {
	in.listed = false
	if in.prev == nil {
		l.first = in.next
	} else {
		in.prev.next = in.next
	}
	if in.next == nil {
		l.last = in.prev
	} else {
		in.next.prev = in.prev
	}
	in.prev, in.next = nil, nil
}
