package esdbdev

import (
	"math"

	"github.com/levada-go/levada/eventstore"
)

// Positions on the wire are far apart and not evenly so, as byte offsets are, so
// that a client that adds one to a position, or counts with them, fails here as it
// would fail elsewhere:
//
//	bit 63        6 5       0
//	┌──────────────┬─────────┐
//	│   position   │ jitter  │   jitter is a hash of the position
//	└──────────────┴─────────┘
//
// The mapping is a function of the position alone: it is the same after a restart,
// it increases strictly, and of 64 numbers one is a position. Commit and prepare
// position of an event are the same number.
const jitterBits = 6

// endPosition is what clients send for the end of everything.
const endPosition = math.MaxUint64

// wirePosition returns p as clients see it. That of 0, before the first event, is 0.
func wirePosition(p eventstore.Position) uint64 {
	if p == 0 {
		return 0
	}
	return uint64(p)<<jitterBits | jitter(uint64(p))
}

// storePosition returns the position that c is on the wire; ok is false if it is none.
func storePosition(c uint64) (p eventstore.Position, ok bool) {
	p = eventstore.Position(c >> jitterBits)
	return p, wirePosition(p) == c
}

// jitter is never the greatest, after which the next position could come at once.
func jitter(x uint64) uint64 { return min(mix(x)&(1<<jitterBits-1), 1<<jitterBits-2) }

// mix is the finalizer of MurmurHash3: every bit of x has a say in every bit of it.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
