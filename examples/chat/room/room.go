package room

import (
	"maps"
	"slices"

	"github.com/levada-go/levada/aggregate"
)

// Window is how many of its latest messages a room can change. Older ones stay as they are.
const Window = 5000

// Room is what a room must remember to decide. It is bounded: by [Window], and by those who
// have lately been busy.
type Room struct {
	Opened   bool
	Messages map[string]Message // the latest Window of them, by id
	Order    []string           // their ids, oldest first
	Pace     map[string]int64   // by person; see pace.go
}

// Message is what a room remembers of a message.
type Message struct {
	By      string
	Text    string
	Deleted bool
	Reacted map[string]uint8 // by person: a bit for each of Reactions
}

// Event is an event of a Room.
type Event = aggregate.Event[Room]

// Type keeps rooms in streams named "room-" and the id of the room.
var Type = &aggregate.Type[Room]{
	Name: "room",
	Events: aggregate.Events[Room]{
		"room.opened":    Opened{},
		"room.posted":    Posted{},
		"room.edited":    Edited{},
		"room.deleted":   Deleted{},
		"room.reacted":   Reacted{},
		"room.unreacted": Unreacted{},
	},
	SnapshotEvery:  2000,
	SnapshotSchema: 1,
	Cached:         256,
}

// change replaces a message by what fn makes of it. One that is no longer in the window is left alone.
func (r *Room) change(id string, fn func(*Message)) {
	if m, ok := r.Messages[id]; ok {
		m.Reacted = maps.Clone(m.Reacted)
		fn(&m)
		r.Messages[id] = m
	}
}

// add puts a new message into the window, and the oldest out of it.
func (r *Room) add(id string, m Message) {
	if r.Messages == nil {
		r.Messages = map[string]Message{}
	}
	r.Messages[id] = m
	r.Order = append(r.Order, id)
	if over := len(r.Order) - Window; over > 0 {
		for _, old := range r.Order[:over] {
			delete(r.Messages, old)
		}
		r.Order = slices.Delete(r.Order, 0, over)
	}
}
