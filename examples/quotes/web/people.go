package web

import (
	"hash/fnv"
	"strings"

	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/presence"
)

// people is who is looking, for the template.
type people struct {
	All []person
	// Here is how many others look at the same quote.
	Here int

	Me    string // the name of the reader
	at    string // the quote that this page shows
	conn  *presence.Conn
	diffs *presence.Diffs
	of    *presence.Presence
}

// A person may look with several tabs.
type person struct {
	ID      string
	Name    string
	Initial string
	Hue     int // 0 to 7
	Tabs    int
	Me      bool
}

const room = "readers"

// join makes the page one of those that look, and keeps the list.
func (p *people) join(ctx *live.Ctx, of *presence.Presence) error {
	p.Me, p.of = nameOf(ctx.Session()), of
	if ctx.Connected() {
		p.conn = of.Connect()
		if _, err := p.conn.Track(room, p.Me, ""); err != nil {
			return err
		}
		diffs, err := of.Diffs(room)
		if err != nil {
			return err
		}
		p.diffs = diffs
		live.Receive(ctx, diffs.Ready(), func(struct{}) { p.look() })
	}
	p.look()
	return nil
}

// see tells the others which quote the page shows.
func (p *people) see(id string) {
	p.at = id
	if p.conn != nil {
		// It fails only when the site is being closed.
		_ = p.conn.Update(room, p.Me, id)
	}
	p.look()
}

func (p *people) look() {
	if p.diffs != nil {
		p.diffs.Take() // the list says it all
	}
	p.All, p.Here = nil, 0
	for _, who := range p.of.List(room) {
		me := who.Key == p.Me
		p.All = append(p.All, person{strings.ReplaceAll(who.Key, " ", "-"), who.Key, strings.ToUpper(who.Key[:1]), hueOf(who.Key), len(who.Metas), me})
		for _, m := range who.Metas {
			var at string
			if m.Decode(&at) == nil && at == p.at && !me {
				p.Here++
				break
			}
		}
	}
}

// hueOf is one of the 8 colours, which follows from a name.
func hueOf(name string) int {
	h := fnv.New32a()
	h.Write([]byte(name))
	return int(h.Sum32() % 8)
}

func (p *people) leave() {
	if p.conn != nil {
		p.conn.Close()
	}
	if p.diffs != nil {
		p.diffs.Close()
	}
}
