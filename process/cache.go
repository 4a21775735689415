package process

import (
	"sync"

	"github.com/levada-go/levada/eventstore"
)

// A cache has the instances that are under way, and some that were.
type cache struct {
	s    *eventstore.Store
	name string
	max  int

	mu sync.Mutex
	by map[string]*instance
}

// An instance is what is known of one. Its lock is held by who works on it, but for users and seen, which
// the cache's guards.
type instance struct {
	mu     sync.Mutex
	id     string
	stream eventstore.StreamName

	users int
	seen  eventstore.Version // appended by this process, or 0
	stale bool               // the stream was cut or deleted

	loaded      bool
	version     eventstore.Version // of the stream
	record      record             // the last one; while it is stuck that of where it got stuck
	stuckAt     eventstore.Version // where that is
	trial       trial
	askedBy     eventstore.ID // the last event by which a person decided
	storeFaults int
}

// A trial counts attempts at what fails.
type trial struct {
	source, path string
	attempts     int
}

func (c *cache) init(s *eventstore.Store, name string, max int) {
	c.s, c.name, c.max, c.by = s, name, max, map[string]*instance{}
}

// take returns an instance, locked.
func (c *cache) take(id string) *instance {
	c.mu.Lock()
	in := c.by[id]
	if in == nil {
		in = &instance{id: id, stream: eventstore.Stream(category(c.name), id)}
		c.by[id] = in
	}
	in.users++
	c.mu.Unlock()
	in.mu.Lock()
	return in
}

// put gives an instance back. Of those that nobody uses some are kept, whichever.
func (c *cache) put(in *instance) {
	in.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	in.users--
	for id, other := range c.by {
		if len(c.by) <= c.max {
			return
		}
		// A trial is kept, since it counts.
		if other.users == 0 && (other.trial == trial{} || len(c.by) > 2*c.max) {
			delete(c.by, id)
		}
	}
}

// appended is told by the store of appends of this process.
func (c *cache) appended(stream eventstore.StreamName, v eventstore.Version) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if in := c.by[stream.ID()]; in != nil {
		in.seen = max(in.seen, v)
		in.stale = in.stale || v == 0
	}
}

// fresh reports whether nothing is known that an instance does not show.
func (c *cache) fresh(in *instance) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	stale := in.stale || in.seen > in.version
	in.stale = false
	return in.loaded && !stale
}
