package web

import (
	"context"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/markup"
	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/pubsub"
)

// modelName is what commands wait for before their page goes on.
const modelName = "chat"

// projection keeps the model.
func (c *Chat) projection() projection.Runner {
	return &projection.Projection[*Model]{
		Name:   modelName,
		Target: &c.model,
		Filter: eventstore.Filter{Categories: []string{room.Type.Name, person.Type.Name}},
		Handlers: []projection.Handler[*Model]{
			on(c, func(m *Model, id string, _ room.Opened) { m.opened(id) }),
			on(c, func(m *Model, id string, e room.Posted) { m.posted(id, e, markup.HTML(e.Text)) }),
			on(c, func(m *Model, id string, e room.Edited) {
				m.change(id, e.ID, func(msg *message) { msg.text, msg.html, msg.edited = e.Text, markup.HTML(e.Text), true })
			}),
			on(c, func(m *Model, id string, e room.Deleted) {
				m.change(id, e.ID, func(msg *message) { msg.text, msg.html, msg.reactions, msg.deleted = "", "", nil, true })
			}),
			on(c, func(m *Model, id string, e room.Reacted) {
				m.change(id, e.ID, func(msg *message) { msg.react(e.Emoji, e.By, true) })
			}),
			on(c, func(m *Model, id string, e room.Unreacted) {
				m.change(id, e.ID, func(msg *message) { msg.react(e.Emoji, e.By, false) })
			}),
			on(c, func(m *Model, id string, e person.Renamed) { m.person(id).name = e.Name }),
			on(c, func(m *Model, id string, e person.Read) {
				h := m.person(id)
				h.read[e.Room] = max(h.read[e.Room], e.Upto)
			}),
		},
	}
}

// on handles events of a type, which happened to the room or the person with an id, and wakes who shows it. A page that is
// woken looks into the model, which it gets to see when the batch is done.
func on[E any](c *Chat, fn func(m *Model, id string, e E)) projection.Handler[*Model] {
	return projection.On(func(_ context.Context, m *Model, e E, r *eventstore.Recorded) error {
		fn(m, r.Stream.ID(), e)
		c.wake(changesOf(r.Stream))
		if r.Stream.Category() == room.Type.Name {
			c.wake(anyRoom)
		}
		return nil
	})
}

// Topics say that something has changed, not what.

// anyRoom is for those who show all rooms.
var anyRoom = pubsub.Topic[struct{}]{Name: "rooms"}

// changesOf is for those who show one room or one person, by the name of their stream.
func changesOf(s eventstore.StreamName) pubsub.Topic[struct{}] {
	return pubsub.Topic[struct{}]{Name: "changes of " + string(s)}
}

func (c *Chat) wake(t pubsub.Topic[struct{}]) {
	_ = t.Publish(context.Background(), c.bus, struct{}{}) // fails when the chat has been closed: nobody looks any more
}
