package web

import (
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/live"
)

// HomePage is the state of the list of rooms.
type HomePage struct {
	live.Page
	Me     Somebody
	Direct []Entry
	Rooms  []Entry

	stale bool // a refresh is due
}

// shownRooms bounds the list of rooms.
const shownRooms = 100

// refreshEvery bounds how often lists of rooms follow what happens in them.
const refreshEvery = time.Second

func (c *Chat) homeView() *live.View[HomePage] {
	v := &live.View[HomePage]{
		Template: pages.Lookup("home"),
		Mount: func(ctx *live.Ctx, p *HomePage) error {
			p.Me.ID = visitor(ctx)
			ctx.Title("Rooms")
			refresh := func() {
				p.stale = false
				p.refresh(c)
			}
			if ctx.Connected() {
				for _, t := range []string{anyRoom.Name, changesOf(personStream(p.Me.ID)).Name} {
					err := c.follow(ctx, t, func() {
						if !p.stale {
							p.stale = true
							ctx.After(refreshEvery, refresh)
						}
					})
					if err != nil {
						return err
					}
				}
				ctx.Every(5*refreshEvery, refresh) // people come and go
			}
			refresh()
			return nil
		},
	}
	live.On(v, "enter", func(ctx *live.Ctx, p *HomePage, in struct{ Room string }) error {
		slug, ok := room.Slug(in.Room)
		if !ok {
			return live.Errors{"room": "A room's name has 1 to 40 letters or digits."}
		}
		ctx.Navigate(pathOf(slug))
		return nil
	})
	live.On(v, "rename", func(ctx *live.Ctx, p *HomePage, in struct{ Nickname string }) error {
		if err := c.rename(ctx, p.Me.ID, in.Nickname); err != nil {
			return err
		}
		p.refresh(c)
		return nil
	})
	return v
}

func (p *HomePage) refresh(c *Chat) {
	c.model.View(func(m *Model, _ eventstore.Position) {
		p.Me.Name = m.nameOf(p.Me.ID)
		p.Rooms = m.public(p.Me.ID, shownRooms)
		p.Direct = nil
		for _, e := range m.visited(p.Me.ID, person.MaxRooms) {
			if e.Direct != nil {
				p.Direct = append(p.Direct, e)
			}
		}
	})
	for i := range p.Rooms {
		p.Rooms[i].Here = len(c.presence.List(roomTopic(p.Rooms[i].Title)))
	}
}
