package book

import (
	"math/bits"
	"math/rand/v2"
)

// An index finds the slots of live orders by id. It is a hash table with open
// addressing and linear probing, at most half full; deletion shifts the run back
// (Knuth, TAOCP 3, 6.4, algorithm R), so there are no tombstones to sweep. The
// hash is seeded per table because ids are chosen by the book's users.
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

func (x *index) hash(id uint64) uint64 {
	hi, lo := bits.Mul64(id^x.seed, 0x9e3779b97f4a7c15)
	return (hi ^ lo) * 0xd6e8feb86659fd93
}

// find returns the slot of id, or 0.
func (x *index) find(orders []order, id uint64) uint32 {
	if x.n == 0 {
		return 0
	}
	h := x.hash(id)
	mask := uint64(len(x.cells) - 1)
	for i := h >> x.shift; ; i++ {
		c := x.cells[i&mask]
		if c.slot == 0 {
			return 0
		}
		if c.tag == uint32(h) && orders[c.slot].id == id {
			return c.slot
		}
	}
}

// add adds an id that is not there.
func (x *index) add(id uint64, slot uint32, orders []order) {
	if 2*(x.n+1) > len(x.cells) {
		x.grow(orders)
	}
	x.n++
	x.put(x.hash(id), slot)
}

func (x *index) put(h uint64, slot uint32) {
	mask := uint64(len(x.cells) - 1)
	i := h >> x.shift & mask
	for x.cells[i].slot != 0 {
		i = (i + 1) & mask
	}
	x.cells[i] = cell{uint32(h), slot}
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
			x.put(x.hash(orders[c.slot].id), c.slot)
		}
	}
}

// remove removes an id that is there in the given slot.
func (x *index) remove(id uint64, slot uint32, orders []order) {
	mask := uint64(len(x.cells) - 1)
	i := x.hash(id) >> x.shift & mask
	for x.cells[i].slot != slot {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; x.cells[j].slot != 0; j = (j + 1) & mask {
		// The cell at j may move to the hole at i unless its home lies
		// cyclically in (i, j].
		home := x.hash(orders[x.cells[j].slot].id) >> x.shift & mask
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
