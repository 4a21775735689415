package memstore

import (
	"slices"
	"sort"

	"github.com/levada-go/levada/eventstore/driver"
)

// A posting is the list of the positions of all events that have something in
// common, in order. Removed events stay in it until they outnumber the others.
type posting struct {
	name      string
	positions []uint64
	dead      int
}

func (p *posting) add(position uint64) { p.positions = append(p.positions, position) }

// drop notes that one event of the list was removed from l.
func (p *posting) drop(l *log) {
	p.dead++
	if p.dead == len(p.positions) {
		p.positions, p.dead = nil, 0
		return
	}
	if p.dead < 32 || p.dead*2 < len(p.positions) {
		return
	}
	left := make([]uint64, 0, len(p.positions)-p.dead)
	for _, at := range p.positions {
		if l.at(at) != nil {
			left = append(left, at)
		}
	}
	p.positions, p.dead = left, 0
}

// An index finds postings by name.
type index map[string]*posting

// get returns the posting of name, which it creates if need be.
func (x index) get(name string) *posting {
	p := x[name]
	if p == nil {
		p = &posting{name: name}
		x[name] = p
	}
	return p
}

// drop notes that one event of the named posting was removed from l. A posting
// that is left empty is forgotten.
func (x index) drop(name string, l *log) {
	p := x[name]
	p.drop(l)
	if p.positions == nil {
		delete(x, name)
	}
}

// lists returns the positions of all postings in names, and how many they are.
func (x index) lists(names []string) (lists [][]uint64, total int) {
	for _, name := range names {
		if p := x[name]; p != nil {
			lists = append(lists, p.positions)
			total += len(p.positions)
		}
	}
	return lists, total
}

// A walk goes through the positions that a read has to examine, in order and
// each once: those of some lists, or all.
type walk struct {
	back  bool
	lists [][]uint64 // a heap by next position, unless all
	all   bool
	next  uint64 // if all: the next position; 0 is none
	last  uint64 // if all: the last position of the log
}

// newWalk returns a walk over lists, or over all positions of the log, from
// the one beyond from on; from 0 going back is the end.
func newWalk(lists [][]uint64, all bool, from uint64, dir driver.Direction, last uint64) *walk {
	w := &walk{back: dir == driver.Backward, all: all, last: last}
	if w.back && (from == 0 || from > last) {
		from = last + 1
	}
	if all {
		w.next = from + 1
		if w.back {
			w.next = from - 1
		}
		return w
	}
	for _, list := range lists {
		if w.back {
			list = list[:sort.Search(len(list), func(i int) bool { return list[i] >= from })]
		} else {
			list = list[sort.Search(len(list), func(i int) bool { return list[i] > from }):]
		}
		if len(list) > 0 {
			w.lists = append(w.lists, list)
		}
	}
	for i := len(w.lists)/2 - 1; i >= 0; i-- {
		w.sift(i)
	}
	return w
}

// step returns the next position, 0 at the end.
func (w *walk) step() uint64 {
	if w.all {
		p := w.next
		if p == 0 || p > w.last {
			return 0
		}
		if w.back {
			w.next--
		} else {
			w.next++
		}
		return p
	}
	if len(w.lists) == 0 {
		return 0
	}
	p := w.head(0)
	// Several lists may hold the same position.
	for len(w.lists) > 0 && w.head(0) == p {
		w.advance()
	}
	return p
}

// size returns how many steps are left at most.
func (w *walk) size() int {
	if w.all && w.back {
		return int(w.next)
	}
	if w.all {
		return int(max(w.last+1, w.next) - w.next)
	}
	n := 0
	for _, list := range w.lists {
		n += len(list)
	}
	return n
}

func (w *walk) head(i int) uint64 {
	if list := w.lists[i]; w.back {
		return list[len(list)-1]
	}
	return w.lists[i][0]
}

// advance takes the head off the first list and restores the heap.
func (w *walk) advance() {
	if list := w.lists[0]; w.back {
		w.lists[0] = list[:len(list)-1]
	} else {
		w.lists[0] = list[1:]
	}
	if len(w.lists[0]) == 0 {
		end := len(w.lists) - 1
		w.lists[0] = w.lists[end]
		w.lists = w.lists[:end]
	}
	w.sift(0)
}

func (w *walk) sift(i int) {
	for {
		least := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(w.lists) && (w.head(child) < w.head(least)) != w.back && w.head(child) != w.head(least) {
				least = child
			}
		}
		if least == i {
			return
		}
		w.lists[i], w.lists[least] = w.lists[least], w.lists[i]
		i = least
	}
}

// A directory is a set of streams that is listed by name. Sorting waits until
// somebody asks, so that a new stream costs no search.
type directory struct {
	sorted []*stream
	fresh  []*stream // not yet in sorted
	count  int       // of those not purged
}

func (x *directory) add(s *stream) {
	x.fresh = append(x.fresh, s)
	x.count++
}

// list returns the streams by name.
func (x *directory) list() []*stream {
	if len(x.fresh) == 0 {
		return x.sorted
	}
	byName := func(a, b *stream) bool { return a.name < b.name }
	sort.Slice(x.fresh, func(i, j int) bool { return byName(x.fresh[i], x.fresh[j]) })
	merged := make([]*stream, 0, len(x.sorted)+len(x.fresh))
	old, fresh := x.sorted, x.fresh
	for len(old) > 0 && len(fresh) > 0 {
		if byName(old[0], fresh[0]) {
			merged, old = append(merged, old[0]), old[1:]
		} else {
			merged, fresh = append(merged, fresh[0]), fresh[1:]
		}
	}
	merged = append(append(merged, old...), fresh...)
	// Purged streams are never listed again.
	x.sorted = slices.DeleteFunc(merged, func(s *stream) bool { return s.purged })
	x.fresh = nil
	return x.sorted
}
