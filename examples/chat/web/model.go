package web

import (
	"container/list"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/levada-go/levada/examples/chat/person"
	"github.com/levada-go/levada/examples/chat/room"
)

// Model is what the pages show. It is kept in memory and filled from the events when the chat starts.
type Model struct {
	rooms  map[string]*talk
	people map[string]*human
	recent list.List // of *talk, that with the newest message first
}

// talk is a room.
type talk struct {
	id       string
	messages []message // message i has the number i+1
	byID     map[string]int
	place    *list.Element

	// Changes count up. The last of them are kept, so that a page that has seen the room at a change
	// gets what came after it, and nothing else.
	changes uint64
	latest  []int // which message each of the last changes was about
}

// keptChanges is how many changes of a room a page may be behind; one that is further behind begins anew.
const keptChanges = 512

// message is one of a room. Its strings are shared with all who show it.
type message struct {
	id, by, name, text string
	html               template.HTML
	at                 time.Time
	edited, deleted    bool
	reactions          [][]string // by room.Reactions: who
}

// human is a person.
type human struct {
	name string            // "" for the first one
	read map[string]uint64 // by room: up to which number
}

func (m *Model) room(id string) *talk {
	t := m.rooms[id]
	if t == nil {
		if m.rooms == nil {
			m.rooms = map[string]*talk{}
		}
		t = &talk{id: id, byID: map[string]int{}}
		t.place = m.recent.PushFront(t)
		m.rooms[id] = t
	}
	return t
}

func (m *Model) person(id string) *human {
	h := m.people[id]
	if h == nil {
		if m.people == nil {
			m.people = map[string]*human{}
		}
		h = &human{read: map[string]uint64{}}
		m.people[id] = h
	}
	return h
}

// nameOf returns what a person is called.
func (m *Model) nameOf(id string) string {
	if h := m.people[id]; h != nil && h.name != "" {
		return h.name
	}
	if id == hostID {
		return hostName
	}
	return person.FirstName(id)
}

// last returns the number of the newest message, 0 if there is none. It may be called of a nil talk, as of
// a room that does not exist.
func (t *talk) last() uint64 {
	if t == nil {
		return 0
	}
	return uint64(len(t.messages))
}

// newest returns when the newest message was written.
func (t *talk) newest() time.Time {
	if n := len(t.messages); n > 0 {
		return t.messages[n-1].at
	}
	return time.Time{}
}

func (t *talk) changed(i int) {
	t.changes++
	if len(t.latest) == 2*keptChanges {
		t.latest = slices.Delete(t.latest, 0, keptChanges)
	}
	t.latest = append(t.latest, i)
}

// since returns which messages, by their indexes, have changed after a change, in order and each once, or false if that is
// too long ago to tell.
func (t *talk) since(change uint64) ([]int, bool) {
	n := t.changes - change
	if change > t.changes || n > uint64(len(t.latest)) {
		return nil, false
	}
	all := slices.Clone(t.latest[len(t.latest)-int(n):])
	slices.Sort(all)
	return slices.Compact(all), true
}

// unread returns how many messages of t a person has not read, and whether the person was ever there.
func (m *Model) unread(t *talk, who string) (n uint64, been bool) {
	h := m.people[who]
	if h == nil {
		return 0, false
	}
	upto, been := h.read[t.id]
	if !been {
		return 0, false
	}
	return t.last() - min(upto, t.last()), true
}

// search returns the indexes of the newest messages that hold a text, newest first, at most n.
func (t *talk) search(text string, n int) []int {
	text = strings.ToLower(text)
	var found []int
	for i := len(t.messages) - 1; i >= 0 && len(found) < n; i-- {
		if m := &t.messages[i]; !m.deleted && strings.Contains(strings.ToLower(m.text), text) {
			found = append(found, i)
		}
	}
	return found
}

// What follows is what events do to the model.

func (m *Model) posted(id string, e room.Posted, html template.HTML) {
	t := m.room(id)
	if _, ok := t.byID[e.ID]; ok {
		return // of a message so old that the room has forgotten it; two cannot be told apart
	}
	t.byID[e.ID] = len(t.messages)
	t.messages = append(t.messages, message{id: e.ID, by: e.By, name: e.Name, text: e.Text, html: html, at: e.At})
	t.changed(len(t.messages) - 1)
	m.recent.MoveToFront(t.place)
	m.person(e.By).read[id] = t.last() // who writes has read
}

func (m *Model) change(roomID, messageID string, fn func(*message)) {
	t := m.room(roomID)
	i, ok := t.byID[messageID]
	if !ok {
		return
	}
	fn(&t.messages[i])
	t.changed(i)
}

func (msg *message) react(emoji, by string, on bool) {
	i := slices.Index(room.Reactions, emoji)
	if i < 0 {
		return
	}
	all := make([][]string, len(room.Reactions))
	copy(all, msg.reactions)
	who := slices.DeleteFunc(slices.Clone(all[i]), func(p string) bool { return p == by })
	if on {
		who = append(who, by)
	}
	all[i] = who
	msg.reactions = all
}

// opened makes a room known to the people whose own it is.
func (m *Model) opened(id string) {
	m.room(id)
	if a, b, direct := room.Members(id); direct {
		for _, p := range []string{a, b} {
			if h := m.person(p); h.read[id] == 0 {
				h.read[id] = 0
			}
		}
	}
}
