package book

import (
	"math/bits"
	"math/rand/v2"
)

// An index finds the slots of live orders by id. It is a hash table with open
// addressing and linear probing, at most half full; deletion shifts the run back
// (Knuth, TAOCP 3, 6.4, algorithm R), so there are no tombstones to sweep.
// Ids that follow one another, as most do, share a cache line of the table: only
// what is above an id's last three bits is hashed. The hash has a seed of its own
// per table, since ids are chosen by the book's users.
type index struct {
	cells []cell // a power of two
	shift uint   // 32 - log2(len(cells)/line)
	n     int
	seed  uint64
}

// A cell holds a slot (0: the cell is free) and the tag of its id: its hash, from
// which follows where in the table it belongs. Most mismatches, and all moves,
// need no look at the order.
type cell struct{ tag, slot uint32 }

const firstCells = 1 << 8

const line = 8 // cells of 64 bytes

func (x *index) tag(id uint64) uint32 {
	hi, lo := bits.Mul64(id/line^x.seed, 0x9e3779b97f4a7c15)
	return uint32(hi^lo)&^(line-1) | uint32(id%line)
}

// home is the cell where an id with the given tag belongs.
func (x *index) home(tag uint32) uint32 { return tag>>(x.shift&31)*line | tag%line }

// find returns the slot of id, or 0.
func (x *index) find(orders []order, id uint64) uint32 {
	if x.n == 0 {
		return 0
	}
	tag := x.tag(id)
	mask := uint32(len(x.cells) - 1)
	for i := x.home(tag); ; i++ {
		c := x.cells[i&mask]
		if c.slot == 0 {
			return 0
		}
		if c.tag == tag && orders[c.slot].id == id {
			return c.slot
		}
	}
}

// add adds an id that is not there.
func (x *index) add(id uint64, slot uint32) {
	if 2*(x.n+1) > len(x.cells) {
		x.grow()
	}
	x.n++
	x.put(cell{x.tag(id), slot})
}

func (x *index) put(c cell) {
	mask := uint32(len(x.cells) - 1)
	i := x.home(c.tag)
	for x.cells[i&mask].slot != 0 {
		i++
	}
	x.cells[i&mask] = c
}

func (x *index) grow() {
	old := x.cells
	if old == nil {
		x.seed = rand.Uint64()
		x.cells = make([]cell, firstCells)
	} else {
		x.cells = make([]cell, 2*len(old))
	}
	x.shift = uint(32 - bits.TrailingZeros(uint(len(x.cells)/line)))
	for _, c := range old {
		if c.slot != 0 {
			x.put(c)
		}
	}
}

// remove removes an id that is there in the given slot.
func (x *index) remove(id uint64, slot uint32) {
	mask := uint32(len(x.cells) - 1)
	i := x.home(x.tag(id))
	for i &= mask; x.cells[i].slot != slot; {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; x.cells[j].slot != 0; j = (j + 1) & mask {
		// The cell at j may move to the hole at i unless it belongs cyclically
		// in (i, j].
		if (j-x.home(x.cells[j].tag))&mask >= (j-i)&mask {
			x.cells[i] = x.cells[j]
			i = j
		}
	}
	x.cells[i] = cell{}
	x.n--
}

func (x *index) reset() {
	clear(x.cells)
	x.n = 0
}
