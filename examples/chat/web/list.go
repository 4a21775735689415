package web

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/levada-go/levada/examples/chat/markup"
	"github.com/levada-go/levada/examples/chat/room"
)

// Entry is a room in a list of rooms.
type Entry struct {
	ID     string // of its element
	Path   string
	Title  string
	Direct *Somebody // whom one talks with
	Unread uint64
	Here   int  // how many people look at it
	Open   bool // it is the one that the page shows

	HasLast bool
	By      string
	Last    string
	At      Moment
}

// Count is the number of unread messages as it is shown.
func (e Entry) Count() string { return count(e.Unread) }

// pathOf returns the address of a room.
func pathOf(id string) string {
	if pair, ok := strings.CutPrefix(id, "@"); ok {
		return "/dm/" + pair
	}
	return (&url.URL{Path: "/" + id}).EscapedPath()
}

// titleOf returns what a room is called for a person, and with whom it is shared if it is for two.
func (m *Model) titleOf(id, who string) (string, *Somebody) {
	a, b, direct := room.Members(id)
	if !direct {
		return id, nil
	}
	other := a
	if a == who {
		other = b
	}
	name := m.nameOf(other)
	if other == who {
		name = "Notes to yourself"
	}
	return name, &Somebody{other, name}
}

func (m *Model) entry(t *talk, who string) Entry {
	e := Entry{ID: "in-" + t.id, Path: pathOf(t.id)}
	e.Title, e.Direct = m.titleOf(t.id, who)
	e.Unread, _ = m.unread(t, who)
	if n := len(t.messages); n > 0 {
		last := &t.messages[n-1]
		e.HasLast, e.By, e.Last, e.At = true, last.name, snippet(markup.Plain(last.text), 80), Moment{last.at}
		if last.by == who {
			e.By = "You"
		}
		if last.deleted {
			e.Last = "deleted a message"
		}
	}
	return e
}

// visited returns the rooms that a person has been to or was written to in, that with the newest message first, at most n.
// The lobby is always among them.
func (m *Model) visited(who string, n int) []Entry {
	var talks []*talk
	if h := m.people[who]; h != nil {
		for id := range h.read {
			if t := m.rooms[id]; t != nil && id != Lobby {
				talks = append(talks, t)
			}
		}
	}
	slices.SortFunc(talks, func(a, b *talk) int {
		return cmp.Or(b.newest().Compare(a.newest()), cmp.Compare(a.id, b.id))
	})
	if t := m.rooms[Lobby]; t != nil {
		talks = slices.Insert(talks, 0, t)
	}
	entries := make([]Entry, 0, min(len(talks), n))
	for _, t := range talks[:min(len(talks), n)] {
		entries = append(entries, m.entry(t, who))
	}
	return entries
}

// public returns the rooms for all, that with the newest message first, at most n.
func (m *Model) public(who string, n int) []Entry {
	var entries []Entry
	for e := m.recent.Front(); e != nil && len(entries) < n; e = e.Next() {
		t := e.Value.(*talk)
		if _, _, direct := room.Members(t.id); !direct {
			entries = append(entries, m.entry(t, who))
		}
	}
	return entries
}
