package book

// A ladder keeps the price levels of one side, sorted by key: the greater the
// key, the better the price (see keyOf). It is a list of chunks of sorted keys.
// Nearly all that happens in a book happens near the best price, which is the
// last key of the last chunk: there, adding or removing a level moves a few
// words; far away it moves no more than a chunk.
type ladder struct {
	chunks []*chunk // none is empty
	spare  []*chunk
}

type chunk struct {
	n      int
	keys   [chunkSize]uint32
	levels [chunkSize]uint32
}

const chunkSize = 128

// A level is a FIFO queue of orders at one price.
type level struct {
	qty        int64 // sum of the open quantities
	head, tail uint32
	count      uint32
	key        uint32
}

// A rung is a place in a ladder.
type rung struct{ chunk, at int }

// best returns the last rung; its chunk is -1 if there is none.
func (l *ladder) best() rung {
	c := len(l.chunks) - 1
	if c < 0 {
		return rung{chunk: -1}
	}
	return rung{c, l.chunks[c].n - 1}
}

// worse returns the rung below r; its chunk is -1 if there is none.
func (l *ladder) worse(r rung) rung {
	if r.at--; r.at < 0 {
		if r.chunk--; r.chunk >= 0 {
			r.at = l.chunks[r.chunk].n - 1
		}
	}
	return r
}

func (l *ladder) key(r rung) uint32   { return l.chunks[r.chunk].keys[r.at] }
func (l *ladder) level(r rung) uint32 { return l.chunks[r.chunk].levels[r.at] }

// bestKey returns the best key, or 0, which is no key.
func (l *ladder) bestKey() uint32 {
	c := len(l.chunks) - 1
	if c < 0 {
		return 0
	}
	last := l.chunks[c]
	return last.keys[last.n-1]
}

// find returns the rung of key and true, or where it belongs and false.
func (l *ladder) find(key uint32) (rung, bool) {
	c := len(l.chunks) - 1
	if c < 0 {
		return rung{}, false
	}
	if key < l.chunks[c].keys[0] {
		// The last chunk that begins at or below key, or the first.
		lo, hi := 0, c
		for lo < hi {
			if mid := (lo + hi) / 2; l.chunks[mid].keys[0] <= key {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if c = lo - 1; c < 0 {
			c = 0
		}
	}
	at, ok := l.chunks[c].find(key)
	return rung{c, at}, ok
}

func (c *chunk) find(key uint32) (int, bool) {
	if last := c.keys[c.n-1]; key >= last {
		if key == last {
			return c.n - 1, true
		}
		return c.n, false
	}
	lo := 0
	// A binary search without branches: which way it goes cannot be predicted.
	for n := c.n; n > 1; {
		half := n / 2
		at := (lo + half - 1) & (chunkSize - 1)
		less := int(int64(c.keys[at])-int64(key)) >> 63 // -1 or 0
		lo += half & less
		n -= half
	}
	return lo, c.keys[lo] == key
}

// insert adds a level at the rung that find gave for key.
func (l *ladder) insert(r rung, key, lv uint32) {
	if len(l.chunks) == 0 {
		l.chunks = append(l.chunks, l.fresh())
	}
	c := l.chunks[r.chunk]
	if c.n == chunkSize {
		// Split in half; when filling at the very end, as a price that runs
		// away does, start a new chunk and leave the old one full.
		keep := chunkSize / 2
		if r.chunk == len(l.chunks)-1 && r.at == chunkSize {
			keep = chunkSize
		}
		d := l.fresh()
		d.n = copy(d.keys[:], c.keys[keep:])
		copy(d.levels[:], c.levels[keep:])
		c.n = keep
		l.chunks = append(l.chunks, nil)
		copy(l.chunks[r.chunk+2:], l.chunks[r.chunk+1:])
		l.chunks[r.chunk+1] = d
		if r.at > keep || keep == chunkSize {
			r.at -= keep
			c = d
		}
	}
	copy(c.keys[r.at+1:c.n+1], c.keys[r.at:c.n])
	copy(c.levels[r.at+1:c.n+1], c.levels[r.at:c.n])
	c.keys[r.at], c.levels[r.at] = key, lv
	c.n++
}

// remove takes out a rung.
func (l *ladder) remove(r rung) {
	c := l.chunks[r.chunk]
	c.n--
	if c.n == 0 {
		copy(l.chunks[r.chunk:], l.chunks[r.chunk+1:])
		l.chunks = l.chunks[:len(l.chunks)-1]
		l.spare = append(l.spare, c)
		return
	}
	copy(c.keys[r.at:c.n], c.keys[r.at+1:c.n+1])
	copy(c.levels[r.at:c.n], c.levels[r.at+1:c.n+1])
}

func (l *ladder) fresh() *chunk {
	if n := len(l.spare); n > 0 {
		c := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return c
	}
	return new(chunk)
}

func (l *ladder) reset() {
	for _, c := range l.chunks {
		c.n = 0
		l.spare = append(l.spare, c)
	}
	l.chunks = l.chunks[:0]
}

// The ladders of a book.
const (
	bids    = iota // key: price
	asks           // key: complement of the price, so that the lowest is best
	falling        // waiting for a fall; key: stop price, the highest is next
	rises          // waiting for a rise; key: its complement, the lowest is next
	ladders
)

// keyOf turns a price into its key in a ladder, and back. Prices being positive
// and below 1<<31, no key is 0.
func keyOf(ladder int, price uint32) uint32 {
	return price ^ -uint32(ladder&1)
}

// resting is the ladder on which orders of a side rest.
func resting(s Side) int { return int(s - Buy) }

// waiting is the ladder on which a stop waits.
func waiting(s Side, t Type) int {
	if rising(s, t) {
		return rises
	}
	return falling
}
