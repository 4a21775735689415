package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/markup"
	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/presence"
)

// RoomPage is the state of a page that shows a room.
type RoomPage struct {
	live.Page
	Me     Somebody
	Path   string
	Title  string
	Direct *Somebody
	Rooms  []Entry // that the person has been to

	Log   *live.Stream[Line]
	Empty bool
	Older string // where what was written before stands; "" if that is all
	Newer string // where what was written after stands; "" if that is what is written now
	Past  bool   // it shows a part of the history, not the newest
	Draft string // the id of the next message

	Query string
	Found []Hit
	Full  bool // there is more

	Here    []Guest
	Present int
	More    int // how many are not listed
	Typing  string

	chat *Chat
	id   string // of the room
	conn *presence.Conn

	stopTyping func()

	// The stream shows the messages with the numbers first to last, without a gap, as they were at a change of the room.
	first, last uint64
	change      uint64
	before      uint64 // the query of the URL
	began       bool

	editing   string // the id of a message
	editText  string
	editError string

	known    bool   // the person has been here before
	looking  bool   // the page is in front of the user
	read     uint64 // up to which number
	stored   uint64 // up to which number that is known to be kept
	firstNew uint64 // the first that was unread when the page was opened
	titled   string
	stale    bool // the list of rooms is to be refreshed
	marking  bool // reading is to be kept
}

// Hit is a message that was searched for.
type Hit struct {
	ID, Name, Text, Path string
	At                   Moment
}

const (
	pageSize  = 50  // messages
	maxShown  = 500 // messages that a page holds
	maxHits   = 50
	maxQuery  = 100 // characters
	sideRooms = 30
	markEvery = 2 * time.Second // how often reading is kept
)

// errNoRoom is for rooms that cannot be, and for those of others alike: nobody learns who talks with whom.
var errNoRoom = &live.Error{Status: http.StatusNotFound, Text: "There is no such room."}

func (c *Chat) roomView() *live.View[RoomPage] {
	v := &live.View[RoomPage]{Template: pages.Lookup("room"), Mount: c.mountRoom, Params: c.showRoom, Leave: (*RoomPage).leave}
	live.On(v, "send", c.send)
	live.On(v, "edit", c.edit)
	live.On(v, "act", c.act)
	live.On(v, "rename", func(ctx *live.Ctx, p *RoomPage, in struct{ Nickname string }) error {
		if err := c.rename(ctx, p.Me.ID, in.Nickname); err != nil {
			return err
		}
		p.learn(ctx)
		return nil
	})
	live.On(v, "older", c.older)
	live.On(v, "search", func(ctx *live.Ctx, p *RoomPage, in struct{ Q string }) error {
		to := p.Path
		if q := query(in.Q); q != "" {
			to += "?" + url.Values{"q": {q}}.Encode()
		}
		ctx.Replace(to)
		return nil
	})
	// From the page's own script.
	live.On(v, "looking", func(ctx *live.Ctx, p *RoomPage, in struct {
		On bool `json:"on"`
	}) error {
		p.looking = in.On
		p.mark(ctx)
		return nil
	})
	live.On(v, "typing", func(ctx *live.Ctx, p *RoomPage, in struct {
		On bool `json:"on"`
	}) error {
		p.typing(ctx, in.On)
		return nil
	})
	// For those without it.
	live.On(v, "seen", func(ctx *live.Ctx, p *RoomPage, _ struct{}) error {
		return c.do(ctx, person.See{Person: p.Me.ID, Room: p.id, Upto: p.last})
	})
	return v
}

func (c *Chat) mountRoom(ctx *live.Ctx, p *RoomPage) error {
	p.chat = c
	p.Me.ID = visitor(ctx)
	id, err := roomAt(ctx)
	if err != nil {
		return err
	}
	if p.id = id; ctx.URL().EscapedPath() != pathOf(id) {
		ctx.Redirect(pathOf(id))
		return nil
	}
	if a, b, direct := room.Members(id); direct && a != p.Me.ID && b != p.Me.ID {
		return errNoRoom
	}
	p.Path = pathOf(p.id)
	p.Draft = newID()
	p.Log = live.NewStream(ctx, Line.Key)
	if ctx.Connected() {
		if err := p.connect(ctx); err != nil {
			return err
		}
	}
	c.model.View(func(m *Model, _ eventstore.Position) {
		p.Me.Name = m.nameOf(p.Me.ID)
		p.Title, p.Direct = m.titleOf(p.id, p.Me.ID)
		last := m.rooms[p.id].last()
		p.read = last
		if t := m.rooms[p.id]; t != nil {
			if unread, been := m.unread(t, p.Me.ID); been {
				p.known, p.read = true, last-unread
			}
		}
		p.stored = p.read
		if p.read > 0 && p.read < last {
			p.firstNew = p.read + 1
		}
	})
	if ctx.Connected() {
		if err := p.attend(ctx); err != nil {
			return err
		}
	}
	p.look()
	p.list()
	return nil
}

// roomAt returns the id of the room at the URL of the page, or errNoRoom.
func roomAt(ctx *live.Ctx) (string, error) {
	r := ctx.Request()
	if pair := r.PathValue("pair"); pair != "" {
		if id := "@" + pair; room.Valid(id) {
			return id, nil
		}
		return "", errNoRoom
	}
	id, ok := room.Slug(r.PathValue("room"))
	if !ok {
		return "", errNoRoom
	}
	return id, nil
}

// connect follows what the page shows, before it looks for the first time.
func (p *RoomPage) connect(ctx *live.Ctx) error {
	follow := func(name string, fn func()) error { return p.chat.follow(ctx, name, fn) }
	learn := func() { p.learn(ctx) }
	err := errors.Join(
		follow(changesOf(eventstore.Stream(room.Type.Name, p.id)).Name, func() { p.pull(ctx) }),
		follow(changesOf(personStream(p.Me.ID)).Name, learn),
		follow(anyRoom.Name, func() {
			if !p.stale {
				p.stale = true
				ctx.After(refreshEvery, func() { p.stale = false; p.list() })
			}
		}),
	)
	if a, b, direct := room.Members(p.id); direct {
		for _, who := range []string{a, b} {
			if who != p.Me.ID {
				err = errors.Join(err, follow(changesOf(personStream(who)).Name, learn))
			}
		}
	} else {
		p.chat.later(room.Open{Room: p.id, By: p.Me.ID, At: time.Now()}) // a room for two begins with what is said there
	}
	return err
}

// showRoom shows what the URL asks for: the newest messages or those before a number, one of them to be changed, what is
// searched for.
func (c *Chat) showRoom(ctx *live.Ctx, p *RoomPage) error {
	if p.Log == nil {
		return nil // on the way to somewhere else
	}
	if id, err := roomAt(ctx); err != nil || id != p.id {
		// The user went back to another room: to the browser that is another URL of the same view.
		ctx.Navigate(ctx.URL().String())
		return nil
	}
	q := ctx.URL().Query()
	before, _ := strconv.ParseUint(q.Get("before"), 10, 64)
	p.Query = query(q.Get("q"))
	c.model.View(func(m *Model, _ eventstore.Position) {
		t := m.rooms[p.id]
		if edit := q.Get("edit"); !p.began || before != p.before {
			p.began, p.before, p.editing, p.editText, p.editError = true, before, edit, "", ""
			p.load(t)
		} else if edit != p.editing {
			was := p.editing
			p.editing, p.editText, p.editError = edit, "", ""
			p.redraw(t, was)
			p.redraw(t, edit)
		}
		p.find(t)
	})
	p.mark(ctx)
	return nil
}

// url is that of what the page shows, with one more value if it has a name.
func (p *RoomPage) url(name, value string) string {
	q := url.Values{}
	if p.before > 0 {
		q.Set("before", strconv.FormatUint(p.before, 10))
	}
	if name != "" {
		q.Set(name, value)
	}
	if len(q) == 0 {
		return p.Path
	}
	return p.Path + "?" + q.Encode()
}

// load fills the stream with one page of messages. t is nil for a room that nobody has opened.
func (p *RoomPage) load(t *talk) {
	p.Log.Reset()
	p.last = t.last()
	if p.before > 0 {
		p.last = min(p.before-1, p.last)
	}
	p.first = max(p.last, pageSize) - pageSize + 1
	p.Past, p.Newer = p.last < t.last(), ""
	if p.last+pageSize < t.last() {
		p.Newer = p.Path + "?before=" + strconv.FormatUint(p.last+pageSize+1, 10)
	}
	p.Empty = t.last() == 0
	p.change = 0
	if t != nil {
		p.change = t.changes
		p.Log.Append(p.lines(t, p.first, p.last)...)
	}
	p.linkOlder()
}

// lines returns the messages with the numbers from first to last.
func (p *RoomPage) lines(t *talk, first, last uint64) []Line {
	var lines []Line
	for n := first; n <= last; n++ {
		lines = append(lines, p.line(t, int(n-1)))
	}
	return lines
}

func (p *RoomPage) linkOlder() {
	p.Older = ""
	if p.first > 1 {
		p.Older = p.Path + "?before=" + strconv.FormatUint(p.first, 10)
	}
}

// redraw shows a message anew if it is shown.
func (p *RoomPage) redraw(t *talk, id string) {
	if t == nil || id == "" {
		return
	}
	if i, ok := t.byID[id]; ok && p.shows(i) {
		p.Log.Update(p.line(t, i))
	}
}

func (p *RoomPage) shows(i int) bool { return p.first <= uint64(i+1) && uint64(i+1) <= p.last }

// pull takes what has changed in the room since the page last looked.
func (p *RoomPage) pull(ctx *live.Ctx) {
	p.chat.model.View(func(m *Model, _ eventstore.Position) {
		t := m.rooms[p.id]
		if t == nil {
			return
		}
		changed, ok := t.since(p.change)
		if !ok {
			p.load(t)
			return
		}
		p.change = t.changes
		for _, i := range changed {
			switch n := uint64(i + 1); {
			case p.shows(i):
				p.Log.Update(p.line(t, i))
			case n != p.last+1 || p.Past:
				p.Past = p.Past || n > p.last
			default:
				p.Log.Limit(-maxShown)
				p.Log.Append(p.line(t, i))
				p.last, p.Empty = n, false
				if p.last-p.first >= maxShown {
					p.first = p.last - maxShown + 1
					p.linkOlder()
				}
				if t.messages[i].by == p.Me.ID { // who writes has read
					p.read, p.stored = n, n
				}
			}
		}
	})
	p.mark(ctx)
}

// older puts a page of older messages in front.
func (c *Chat) older(ctx *live.Ctx, p *RoomPage, _ struct{}) error {
	switch {
	case p.Older == "":
		return nil
	case p.last-p.first+1+pageSize > maxShown:
		ctx.Patch(p.Older)
		return nil
	}
	c.model.View(func(m *Model, _ eventstore.Position) {
		first := max(p.first, pageSize+1) - pageSize
		p.Log.Limit(maxShown)
		p.Log.Prepend(p.lines(m.rooms[p.id], first, p.first-1)...)
		p.first = first
	})
	p.linkOlder()
	return nil
}

// find searches for Query.
func (p *RoomPage) find(t *talk) {
	p.Found, p.Full = nil, false
	if p.Query == "" || t == nil {
		return
	}
	for _, i := range t.search(p.Query, maxHits) {
		m := &t.messages[i]
		h := Hit{ID: "hit-" + m.id, Name: m.name, Text: snippet(markup.Plain(m.text), 160), At: Moment{m.at}, Path: p.Path + "#" + Line{ID: m.id}.Key()}
		if n := uint64(i + 1); n+pageSize/2 <= t.last() {
			h.Path = fmt.Sprintf("%s?before=%d#%s", p.Path, n+pageSize/2, Line{ID: m.id}.Key())
		}
		p.Found = append(p.Found, h)
	}
	p.Full = len(p.Found) == maxHits
}

// query returns what is searched for, bounded.
func query(q string) string { return snippet(q, maxQuery) }

// list shows the rooms that the person has been to, and this one.
func (p *RoomPage) list() {
	p.chat.model.View(func(m *Model, _ eventstore.Position) {
		p.Rooms = m.visited(p.Me.ID, sideRooms)
	})
	here := Entry{ID: "in-" + p.id, Path: p.Path, Title: p.Title, Direct: p.Direct, Open: true}
	i := slices.IndexFunc(p.Rooms, func(e Entry) bool { return e.Path == p.Path })
	if i < 0 {
		p.Rooms = append(p.Rooms, here)
		return
	}
	p.Rooms[i] = here
}

// learn takes what has changed about the person, perhaps by another of the person's pages.
func (p *RoomPage) learn(ctx *live.Ctx) {
	name := p.Me.Name
	p.chat.model.View(func(m *Model, _ eventstore.Position) {
		p.Me.Name = m.nameOf(p.Me.ID)
		p.Title, p.Direct = m.titleOf(p.id, p.Me.ID)
		if t := m.rooms[p.id]; t != nil && !p.Past {
			if unread, been := m.unread(t, p.Me.ID); been {
				p.read = max(p.read, t.last()-unread)
				p.stored = max(p.stored, p.read)
			}
		}
	})
	if p.Me.Name != name {
		p.typing(ctx, false) // tells the others the name
	}
	p.list()
	p.retitle(ctx)
}

// mark remembers what was read, if somebody looks at it, and keeps it after a while.
func (p *RoomPage) mark(ctx *live.Ctx) {
	if p.looking && !p.Past {
		p.read = max(p.read, p.last)
		switch {
		case !p.known:
			p.keep()
		case p.read > p.stored && !p.marking:
			p.marking = true
			ctx.After(markEvery, func() { p.marking = false; p.keep() })
		}
	}
	p.retitle(ctx)
}

func (p *RoomPage) keep() {
	if p.known && p.read <= p.stored {
		return
	}
	p.known, p.stored = true, p.read
	p.chat.later(person.See{Person: p.Me.ID, Room: p.id, Upto: p.read})
}

// leave keeps what was read when the page is gone.
func (p *RoomPage) leave() {
	if p.chat != nil && p.looking {
		p.keep()
	}
}

// retitle says in the title how much is unread.
func (p *RoomPage) retitle(ctx *live.Ctx) {
	title := p.Title
	if p.last > p.read && !p.Past {
		title = "(" + count(p.last-p.read) + ") " + title
	}
	if title != p.titled {
		p.titled = title
		ctx.Title(title)
	}
}

// count is a number as it is shown where there is little room.
func count(n uint64) string {
	if n > 99 {
		return "99+"
	}
	return strconv.FormatUint(n, 10)
}
