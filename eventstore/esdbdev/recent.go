package esdbdev

import (
	"context"
	"sync"

	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
)

// recentEvents is how many ids are remembered.
const recentEvents = 8192

// recents remembers the ids of the latest events and where they went, so that an
// append that expects no revision can be repeated without harm.
type recents struct {
	mu     sync.Mutex
	loaded bool
	byID   map[uuid.UUID]place
	ring   []uuid.UUID
	next   int
}

// A place is where an event stands. Its position is that of the last event of the
// append, which is what the append was answered with, as far as that is known.
type place struct {
	stream   eventstore.StreamName
	version  eventstore.Version
	position eventstore.Position
}

// load reads the latest events of the store, once: they are recent after a restart, too.
func (r *recents) load(ctx context.Context, store *eventstore.Store) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loaded {
		return nil
	}
	var found []*eventstore.Recorded
	for e, err := range store.ReadAllBackward(raw(ctx), eventstore.Filter{System: true}, 0) {
		if err != nil {
			return err
		}
		if found = append(found, e); len(found) == recentEvents {
			break
		}
	}
	for i := len(found) - 1; i >= 0; i-- {
		r.put(found[i].ID, place{found[i].Stream, found[i].Version, found[i].Position})
	}
	r.loaded = true
	return nil
}

// add remembers an append.
func (r *recents) add(stream eventstore.StreamName, events []eventstore.Event, at eventstore.Appended) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return // what is loaded later has it
	}
	first := at.Version - eventstore.Version(len(events)) + 1
	for i := range events {
		r.put(events[i].ID, place{stream, first + eventstore.Version(i), at.Position})
	}
}

func (r *recents) put(id uuid.UUID, p place) {
	if r.byID == nil {
		r.byID = make(map[uuid.UUID]place, recentEvents)
		r.ring = make([]uuid.UUID, recentEvents)
	}
	if _, ok := r.byID[id]; !ok {
		delete(r.byID, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % recentEvents
	}
	r.byID[id] = p
}

// find looks for events that were appended to a stream together and in this order.
// all says that they were; some that one of them was, to that stream.
func (r *recents) find(stream eventstore.StreamName, events []eventstore.Event) (at eventstore.Appended, all, some bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all = true
	for i := range events {
		p, ok := r.byID[events[i].ID]
		if !ok || p.stream != stream {
			all = false
			continue
		}
		some = true
		if i > 0 && p.version != at.Version+1 {
			all = false
		}
		at = eventstore.Appended{Version: p.version, Position: p.position}
	}
	return at, all && some, some
}
