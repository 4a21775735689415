package web

import (
	"strings"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/live"
)

// What people do in a room. Each may come from a form, with or without JavaScript, or from the page's script.

// sent answers the script that sent a message.
type sent struct {
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func (c *Chat) send(ctx *live.Ctx, p *RoomPage, in struct {
	ID   string `json:"id" live:"id"`
	Text string `json:"text" live:"text"`
}) error {
	p.typing(ctx, false)
	err := c.do(ctx, room.Post{Room: p.id, ID: in.ID, By: p.Me.ID, Name: p.Me.Name, Text: in.Text, At: time.Now()})
	if err != nil {
		text := refusal(err)
		if text == "" {
			text = "Something went wrong."
		}
		ctx.Reply(sent{Error: text})
		return atField("text", err)
	}
	ctx.Reply(sent{OK: true})
	if in.ID == p.Draft {
		p.Draft = newID()
	}
	if p.Past || p.Query != "" {
		ctx.Patch(p.Path) // where the message is
	}
	p.pull(ctx)
	return nil
}

func (c *Chat) edit(ctx *live.Ctx, p *RoomPage, in struct {
	ID     string `live:"id"`
	Edited string `live:"edited"`
}) error {
	err := c.do(ctx, room.Edit{Room: p.id, ID: in.ID, By: p.Me.ID, Text: in.Edited, At: time.Now()})
	if err != nil {
		err = atField("edited", err)
		if wrong, ok := err.(live.Errors); ok { // it is shown in the line, which is drawn by itself
			c.model.View(func(m *Model, _ eventstore.Position) {
				p.editing, p.editText, p.editError = in.ID, in.Edited, wrong["edited"]
				p.redraw(m.rooms[p.id], in.ID)
			})
		}
		return err
	}
	ctx.Replace(p.url("", ""))
	p.pull(ctx)
	return nil
}

// act does what a button below a message says: "delete", or "react" and one of [room.Reactions].
func (c *Chat) act(ctx *live.Ctx, p *RoomPage, in struct {
	ID string `live:"id"`
	Do string `live:"do"`
}) error {
	var cmd command.Command = room.Delete{Room: p.id, ID: in.ID, By: p.Me.ID, At: time.Now()}
	if emoji, ok := strings.CutPrefix(in.Do, "react "); ok {
		cmd = room.React{Room: p.id, ID: in.ID, By: p.Me.ID, Emoji: emoji, At: time.Now()}
	} else if in.Do != "delete" {
		return &live.Error{Status: 400, Text: "There is no such button."}
	}
	if err := c.do(ctx, cmd); err != nil {
		return atField("", err)
	}
	p.pull(ctx)
	return nil
}
