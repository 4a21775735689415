package book

import (
	"math/bits"
	"math/rand/v2"
)

// An index finds the slots of live orders by id. It is a hash table with open
// addressing and linear probing, at most
// three quarters full; deletion shifts the run back
// (Knuth, TAOCP 3, 6.4, algorithm R), so there are no tombstones to sweep. Eight
// consecutive ids share a line of eight cells, since most ids are given out one
// after the other; the lines are scattered by a hash with a seed of its own per
// table, since ids are chosen by the book's users.
type index struct {
	cells []cell // a power of two
	shift uint   // 64 - log2(len(cells))
	n     int
	seed  uint64
}

// A cell holds a slot (0: the cell is free) and part of the hash of its id, so
// that most mismatches need no look at the order.
type cell struct{ tag, slot uint32 }

const firstCells = 1 << 8

// hash returns the home of id, to be masked, and its tag.
func (x *index) hash(id uint64) (home uint64, tag uint32) {
	hi, lo := bits.Mul64(id>>3^x.seed, 0x9e3779b97f4a7c15)
	h := (hi ^ lo) * 0xd6e8feb86659fd93
	return h>>x.shift&^7 | id&7, uint32(h)<<3 | uint32(id&7)
}

// find returns the slot of id, or 0.
func (x *index) find(orders []order, id uint64) uint32 {
	if x.n == 0 {
		return 0
	}
	i, tag := x.hash(id)
	mask := uint64(len(x.cells) - 1)
	for ; ; i++ {
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
func (x *index) add(id uint64, slot uint32, orders []order) {
	if 4*(x.n+1) > 3*len(x.cells) {
		x.grow(orders)
	}
	x.n++
	x.put(id, slot)
}

func (x *index) put(id uint64, slot uint32) {
	mask := uint64(len(x.cells) - 1)
	i, tag := x.hash(id)
	for x.cells[i&mask].slot != 0 {
		i++
	}
	x.cells[i&mask] = cell{tag, slot}
}

func (x *index) grow(orders []order) {
	old := x.cells
	if old == nil {
		x.seed = rand.Uint64()
		x.cells = make([]cell, firstCells)
	} else {
		x.cells = make([]cell, 2*len(old))
	}
	x.shift = uint(64 - bits.TrailingZeros(uint(len(x.cells))))
	for _, c := range old {
		if c.slot != 0 {
			x.put(orders[c.slot].id, c.slot)
		}
	}
}

// remove removes an id that is there in the given slot.
func (x *index) remove(id uint64, slot uint32, orders []order) {
	mask := uint64(len(x.cells) - 1)
	i, _ := x.hash(id)
	for i &= mask; x.cells[i].slot != slot; {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; x.cells[j].slot != 0; j = (j + 1) & mask {
		// The cell at j may move to the hole at i unless its home lies
		// cyclically in (i, j].
		home, _ := x.hash(orders[x.cells[j].slot].id)
		if (j-home)&mask >= (j-i)&mask {
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
