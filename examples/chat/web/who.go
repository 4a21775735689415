package web

import (
	"context"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/pubsub"
)

// meta is what a page says about its person to the presence of a room. The key is the person, so that one with several pages
// is one person with several metas.
type meta struct {
	Name   string `json:"n"`
	Typing bool   `json:"t,omitempty"`
}

// typingFor is for how long a person types who was last seen to.
const typingFor = 5 * time.Second

// shownPeople bounds the list of who is here.
const shownPeople = 40

// Guest is somebody who is in the room.
type Guest struct {
	Somebody
	Me     bool
	Typing bool
	Path   string // where one talks with them alone
}

// attend makes the page one of those that are in the room.
func (p *RoomPage) attend(ctx *live.Ctx) error {
	conn := p.chat.presence.Connect()
	context.AfterFunc(ctx, conn.Close)
	if _, err := conn.Track(p.topic(), p.Me.ID, meta{Name: p.Me.Name}); err != nil {
		return err
	}
	diffs, err := p.chat.presence.Diffs(p.topic())
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, diffs.Close)
	p.conn = conn
	live.Receive(ctx, diffs.Ready(), func(struct{}) {
		if _, changed := diffs.Take(); changed {
			p.look()
		}
	})
	return nil
}

func (p *RoomPage) topic() string { return roomTopic(p.id) }

// roomTopic is where presence knows who is in a room.
func roomTopic(id string) string { return "room-" + id }

// look sees who is here.
func (p *RoomPage) look() {
	all := p.chat.presence.List(p.topic())
	p.Here, p.Typing, p.More = nil, "", 0
	var typing []string
	for _, one := range all {
		g := Guest{Somebody: Somebody{ID: one.Key}, Me: one.Key == p.Me.ID, Path: pathOf(room.Direct(p.Me.ID, one.Key))}
		for _, m := range one.Metas {
			var of meta
			if m.Decode(&of) == nil {
				g.Name, g.Typing = of.Name, g.Typing || of.Typing
			}
		}
		if g.Typing && !g.Me {
			typing = append(typing, g.Name)
		}
		switch {
		case g.Me:
			p.Here = append([]Guest{g}, p.Here...)
		case len(p.Here) < shownPeople:
			p.Here = append(p.Here, g)
		}
	}
	p.Present = len(all)
	p.More = len(all) - len(p.Here)
	switch len(typing) {
	case 0:
	case 1:
		p.Typing = typing[0] + " is typing…"
	case 2:
		p.Typing = typing[0] + " and " + typing[1] + " are typing…"
	default:
		p.Typing = "Several people are typing…"
	}
}

// typing says whether the person types in this page, and stops saying so after a while.
func (p *RoomPage) typing(ctx *live.Ctx, now bool) {
	if p.conn == nil {
		return // over HTTP
	}
	if p.stopTyping != nil {
		p.stopTyping()
		p.stopTyping = nil
	}
	if now {
		p.stopTyping = ctx.After(typingFor, func() { p.typing(ctx, false) })
	}
	_ = p.conn.Update(p.topic(), p.Me.ID, meta{p.Me.Name, now}) // fails when the page is gone
}

// follow calls fn, as a func of the page, soon after a change of a topic.
func (c *Chat) follow(ctx *live.Ctx, name string, fn func()) error {
	sub, err := pubsub.Topic[struct{}]{Name: name}.Subscribe(ctx, c.bus, &pubsub.Mailbox[struct{}]{Buffer: 1})
	if err != nil {
		return err
	}
	live.Receive(ctx, sub.C, func([]struct{}) { fn() })
	return nil
}

// rename gives a person another name.
func (c *Chat) rename(ctx *live.Ctx, who, name string) error {
	return atField("nickname", c.do(ctx, person.Rename{Person: who, Name: name, At: time.Now()}))
}

func personStream(id string) eventstore.StreamName { return eventstore.Stream(person.Type.Name, id) }
