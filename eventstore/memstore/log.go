package memstore

import (
	"sort"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// chunkSize is the number of events in a chunk of the log: small enough that a
// store for one test is cheap, large enough that the list of chunks is short.
const chunkSize = 256

// A log holds every event in the order of positions: position p is event p-1.
// It grows by chunks, so that appending never moves what is there already.
type log struct {
	chunks []*chunk
	last   uint64    // position of the last event ever appended
	head   uint64    // position of the last event that is still there
	now    time.Time // when that event was recorded
}

// A chunk is a piece of the log. Its events are given up together, once all of
// them were removed.
type chunk struct {
	events []driver.Recorded
	live   int       // events not removed
	end    time.Time // when the last one was recorded
}

// at returns the event at position p, or nil if it was removed.
func (l *log) at(p uint64) *driver.Recorded {
	c := l.chunks[(p-1)/chunkSize]
	if c.live == 0 {
		return nil
	}
	r := &c.events[(p-1)%chunkSize]
	if r.Version == 0 {
		return nil
	}
	return r
}

// push appends r, whose position must be the one after the last.
func (l *log) push(r *driver.Recorded) {
	i := int(l.last / chunkSize)
	if i == len(l.chunks) {
		size := chunkSize
		if i == 0 {
			size = 8 // most stores of tests are tiny
		}
		l.chunks = append(l.chunks, &chunk{events: make([]driver.Recorded, 0, size)})
	}
	c := l.chunks[i]
	if c.events == nil {
		// Unreachable positions of a chunk in which all were removed, and which
		// is not full yet: they must keep their places.
		c.events = make([]driver.Recorded, l.last%chunkSize, chunkSize)
	}
	c.events = append(c.events, *r)
	c.live++
	c.end = r.Time
	l.last++
	l.head = l.last
	l.now = r.Time
}

// remove forgets the event at position p, but for when it was.
func (l *log) remove(p uint64) {
	c := l.chunks[(p-1)/chunkSize]
	r := &c.events[(p-1)%chunkSize]
	*r = driver.Recorded{Time: r.Time}
	c.live--
	if c.live == 0 {
		c.events = nil
	}
	for l.head > 0 && l.at(l.head) == nil {
		if l.chunks[(l.head-1)/chunkSize].live == 0 {
			l.head = (l.head - 1) / chunkSize * chunkSize
		} else {
			l.head--
		}
	}
}

// before returns the greatest position recorded before t, passing over events
// that share a chunk in which none is left.
func (l *log) before(t time.Time) uint64 {
	i := sort.Search(len(l.chunks), func(i int) bool { return !l.chunks[i].end.Before(t) })
	if i == len(l.chunks) {
		return l.last
	}
	events := l.chunks[i].events
	// A removed event still says when it was, except in a chunk that was given
	// up and begun again: there it counts as the oldest, which is as good.
	j := sort.Search(len(events), func(j int) bool { return !events[j].Time.Before(t) })
	return uint64(i*chunkSize + j)
}
