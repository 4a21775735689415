package book

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestLadderIsASortedMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Runs of adjacent keys, far keys, and rising and falling prices fill,
		// split and empty chunks in all ways.
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		spread := []uint32{200, 3000, 1 << 31}[r.IntN(3)]
		drift := []uint32{0, 1, ^uint32(0)}[r.IntN(3)]
		var l ladder
		model := map[uint32]uint32{}
		centre := uint32(1 << 31)
		for step := range uint32(2000) {
			centre += drift
			key := centre - spread/2 + r.Uint32N(spread) | 1
			at, ok := l.find(key)
			_, known := model[key]
			require.Equal(t, known, ok)
			switch {
			case ok && r.IntN(3) > 0:
				require.Equal(t, model[key], l.level(at))
				l.remove(at)
				delete(model, key)
			case !ok:
				l.insert(at, key, step)
				model[key] = step
			}
			if r.IntN(40) == 0 {
				for len(model) > 0 && r.IntN(30) > 0 {
					best := l.best()
					delete(model, l.key(best))
					l.remove(best)
				}
			}
		}
		n, above := 0, uint64(1<<32)
		for at := l.best(); at.chunk >= 0; at = l.worse(at) {
			require.Less(t, uint64(l.key(at)), above)
			above = uint64(l.key(at))
			require.Equal(t, model[l.key(at)], l.level(at))
			n++
		}
		require.Len(t, model, n)
	})
}

func TestIndexFindsWhatWasAddedAndNotRemoved(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	var x index
	orders := make([]order, 1)
	model := map[uint64]uint32{}
	for step := range 20_000 {
		id := r.Uint64N(3000)
		if step%2 == 0 {
			id <<= 52 // ids that differ in their high bits only
		}
		slot, known := model[id]
		require.Equal(t, slot, x.find(orders, id))
		if !known {
			orders = append(orders, order{id: id})
			slot = uint32(len(orders) - 1)
			x.add(id, slot)
			model[id] = slot
		} else if r.IntN(2) == 0 {
			x.remove(id, slot)
			delete(model, id)
		}
	}
	require.Equal(t, len(model), x.n)
	for id, slot := range model {
		require.Equal(t, slot, x.find(orders, id))
		x.remove(id, slot)
	}
	for _, c := range x.cells {
		require.Zero(t, c)
	}
}

func TestManyLevelsFarFromTheTouchStayQuick(t *testing.T) {
	t.Parallel()
	// Each order opens a level that is worse than all others: a list of levels
	// that moves them all would move hundreds of millions of them.
	var b Book
	var e Event
	for i := range uint64(30_000) {
		b.Do(Command{Op: Place, ID: i, Side: Buy, Qty: 1, Price: int64(1_000_000 - i)}, &e)
		require.Zero(t, e.Reason)
	}
	for i := range uint64(30_000) {
		b.Do(Command{Op: Cancel, ID: 29_999 - i}, &e)
	}
	require.Zero(t, b.Len())
	require.Empty(t, flaw(&b))
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	cs := workload(30_000)
	var b Book
	var e Event
	for range 2 {
		for _, c := range cs {
			b.Do(c, &e)
		}
		b.Reset()
	}
	i := 0
	require.Zero(t, testing.AllocsPerRun(len(cs)-1, func() {
		b.Do(cs[i%len(cs)], &e)
		i++
	}))
}
