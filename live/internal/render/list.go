package render

import (
	"slices"
	"sort"
)

// The ops of an edit.
const (
	opDelete = iota
	opInsert
	opMove
	opPermute
	opUpdate
)

// edit writes the ops that make the rows of the old group at o those of the new group at n. Both have rows, of
// the same body. It takes time in proportion to the rows, and to the rows times the moves when rows move.
func (e *encoder) edit(o, n int) {
	id := bodyOf(e.new.words[n])
	olds := e.t.rowStarts(e.old, o)
	news := e.t.rowStarts(e.new.words, n)
	from := e.match(id, olds, news)
	w := editWriter{encoder: e}
	e.dst = append(e.dst, '[')

	rank := make([]int, len(olds)-1) // of each old row among those that stay, -1 for the others
	for i := range rank {
		rank[i] = -1
	}
	for _, f := range from {
		if f >= 0 {
			rank[f] = 0
		}
	}
	w.deletes(rank)
	var order []int // the ranks of the rows that stay, in the new order
	stay := 0
	for i := range rank {
		if rank[i] == 0 {
			rank[i] = stay
			stay++
		}
	}
	for _, f := range from {
		if f >= 0 {
			order = append(order, rank[f])
		}
	}
	w.reorder(order)
	w.inserts(id, from, news)
	w.updates(id, from, olds, news)
	e.dst = append(e.dst, ']')
}

// rowStarts returns where each row of the group at pos begins, and at last where the group ends.
func (t *Template) rowStarts(words []uint64, pos int) []int {
	h := words[pos]
	starts := make([]int, 0, rowsOf(h)+1)
	pos++
	for range rowsOf(h) {
		starts = append(starts, pos)
		pos = t.rowEnd(words, pos, bodyOf(h))
	}
	return append(starts, pos)
}

// match returns for each new row the old row it continues, or -1. No old row is continued twice: of rows with
// the same key, the later ones are new.
func (e *encoder) match(id int, olds, news []int) []int {
	from := make([]int, len(news)-1)
	key := e.t.bodies[id].key
	if key < 0 {
		for i := range from {
			from[i] = i
			if i >= len(olds)-1 {
				from[i] = -1
			}
		}
		return from
	}
	oldKey := func(i int) uint64 { return e.old[olds[i]+key] }
	newKey := func(i int) uint64 { return e.new.words[news[i]+key] }
	// Most changes leave the rows at both ends where they are.
	lo, oHi, nHi := 0, len(olds)-1, len(from)
	for lo < oHi && lo < nHi && oldKey(lo) == newKey(lo) {
		from[lo] = lo
		lo++
	}
	for lo < oHi && lo < nHi && oldKey(oHi-1) == newKey(nHi-1) {
		oHi--
		nHi--
		from[nHi] = oHi
	}
	index := make(map[uint64]int, oHi-lo)
	for i := oHi - 1; i >= lo; i-- {
		index[oldKey(i)] = i
	}
	for i := lo; i < nHi; i++ {
		f, ok := index[newKey(i)]
		if !ok {
			from[i] = -1
			continue
		}
		from[i] = f
		delete(index, newKey(i))
	}
	return from
}

// editWriter writes the ops of one edit.
type editWriter struct {
	*encoder
	ops int
}

func (w *editWriter) op(numbers ...int) {
	w.comma(w.ops)
	w.ops++
	w.dst = append(w.dst, '[')
	for i, n := range numbers {
		w.comma(i)
		w.int(n)
	}
}

func (w *editWriter) end() { w.dst = append(w.dst, ']') }

// deletes writes the runs of rows that have no rank, from the last to the first.
func (w *editWriter) deletes(rank []int) {
	for i := len(rank); i > 0; {
		if rank[i-1] >= 0 {
			i--
			continue
		}
		end := i
		for i > 0 && rank[i-1] < 0 {
			i--
		}
		w.op(opDelete, i)
		if end-i > 1 {
			w.dst = append(w.dst, ',')
			w.int(end - i)
		}
		w.end()
	}
}

// reorder writes how rows in the order 0, 1, 2, … come into the given order: as moves of the runs outside a
// longest increasing subsequence, which is the least number of rows to move, or as one permutation when that
// is shorter.
func (w *editWriter) reorder(order []int) {
	if slices.IsSorted(order) {
		return
	}
	start, ops := len(w.dst), w.ops
	w.op(append([]int{opPermute}, order...)...)
	w.end()
	permuted := slices.Clone(w.dst[start:])
	w.dst, w.ops = w.dst[:start], ops

	rests := increasing(order)
	rows := make([]int, len(order)) // as they stand after the moves so far
	for i := range rows {
		rows[i] = i
	}
	for i := 0; i < len(order); {
		if rests[order[i]] {
			i++
			continue
		}
		from := slices.Index(rows, order[i])
		n := 1
		for i+n < len(order) && from+n < len(rows) && rows[from+n] == order[i+n] && !rests[order[i+n]] {
			n++
		}
		to := 0
		if i > 0 {
			to = slices.Index(rows, order[i-1]) + 1 // that row stands where it belongs
		}
		if from < to {
			to -= n
		}
		if from != to {
			w.op(opMove, from, to)
			if n > 1 {
				w.dst = append(w.dst, ',')
				w.int(n)
			}
			w.end()
			if len(w.dst)-start >= len(permuted) {
				w.dst = append(w.dst[:start], permuted...)
				w.ops = ops + 1
				return
			}
			moveRun(rows, from, to, n)
		}
		i += n
	}
}

// moveRun takes n elements out from index from and puts them back at index to of the rest.
func moveRun[T any](s []T, from, to, n int) {
	run := slices.Clone(s[from : from+n])
	if from < to {
		copy(s[from:], s[from+n:to+n])
	} else {
		copy(s[to+n:], s[to:from])
	}
	copy(s[to:], run)
}

// increasing marks the values of a longest increasing subsequence of a permutation, by patience sorting
// (Fredman, "On computing the length of longest increasing subsequences", 1975).
func increasing(order []int) []bool {
	var tops []int // by length: the index of the least value that ends a subsequence so long
	before := make([]int, len(order))
	for i, v := range order {
		k := sort.Search(len(tops), func(k int) bool { return order[tops[k]] >= v })
		before[i] = -1
		if k > 0 {
			before[i] = tops[k-1]
		}
		if k == len(tops) {
			tops = append(tops, i)
		} else {
			tops[k] = i
		}
	}
	marks := make([]bool, len(order))
	for i := tops[len(tops)-1]; i >= 0; i = before[i] {
		marks[order[i]] = true
	}
	return marks
}

// inserts writes the runs of rows that continue no old one.
func (w *editWriter) inserts(id int, from, news []int) {
	for i := 0; i < len(from); {
		if from[i] >= 0 {
			i++
			continue
		}
		w.op(opInsert, i)
		for i < len(from) && from[i] < 0 {
			w.dst = append(w.dst, ',')
			w.row(news[i], id)
			i++
		}
		w.end()
	}
}

// updates writes the patches of the rows that stay.
func (w *editWriter) updates(id int, from, olds, news []int) {
	written := 0
	for i, f := range from {
		if f < 0 || slices.Equal(w.old[olds[f]:olds[f+1]], w.new.words[news[i]:news[i+1]]) {
			continue
		}
		if written == 0 {
			w.op(opUpdate)
		}
		written++
		w.dst = append(w.dst, ',')
		w.int(i)
		w.dst = append(w.dst, ',')
		w.patch(olds[f], news[i], id)
	}
	if written > 0 {
		w.end()
	}
}
