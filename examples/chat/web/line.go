package web

import (
	"html/template"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/levada-go/levada/examples/chat/room"
)

// Line is a message as one person sees it.
type Line struct {
	ID      string
	Number  uint64
	By      Somebody
	At      Moment
	HTML    template.HTML
	Mine    bool
	Follows bool // the line before it, by the same person, soon after
	New     bool // is the first one that was not read yet
	Edited  bool
	Deleted bool

	Reactions []Reaction

	Change string // where the author changes it

	// The author changes it now.
	Editing bool
	Text    string
	Error   string
	Cancel  string
}

// Class is how the line looks.
func (l Line) Class() string {
	class := "msg"
	for _, c := range []struct {
		is   bool
		name string
	}{{l.Mine, " mine"}, {l.Follows, " follows"}, {l.New, " new"}, {l.Editing, " editing"}} {
		if c.is {
			class += c.name
		}
	}
	return class
}

// Key is the id of the line's element.
func (l Line) Key() string { return "m-" + l.ID }

// Reaction is how often people reacted with something.
type Reaction struct {
	Emoji string
	Count int
	Mine  bool
}

// Somebody is a person as others see one.
type Somebody struct {
	ID, Name string
}

// Initial is the first letter of the name.
func (s Somebody) Initial() string {
	for _, c := range s.Name {
		if unicode.IsLetter(c) || unicode.IsDigit(c) {
			return string(unicode.ToUpper(c))
		}
	}
	return "·"
}

// Hue is one of 12 colours, which follows from the id: two people of one name are not of one colour, most of the time.
func (s Somebody) Hue() int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(s.ID) {
		h = (h ^ uint32(s.ID[i])) * 16777619
	}
	return int(h % 12)
}

// Moment is a time as pages have it: in UTC, until the browser shows it in its own zone.
type Moment struct{ time.Time }

// ISO is the time for machines.
func (m Moment) ISO() string { return m.UTC().Format("2006-01-02T15:04:05Z") }

// Text is the time for those without JavaScript.
func (m Moment) Text() string { return m.UTC().Format("2 Jan 15:04") + " UTC" }

// followsWithin is for how long a person who goes on writing is not named again.
const followsWithin = 5 * time.Minute

// line returns message i of a room as the page shows it.
func (p *RoomPage) line(t *talk, i int) Line {
	m := &t.messages[i]
	l := Line{
		ID: m.id, Number: uint64(i + 1), By: Somebody{m.by, m.name}, At: Moment{m.at}, HTML: m.html,
		Mine: m.by == p.Me.ID, Edited: m.edited, Deleted: m.deleted, New: uint64(i+1) == p.firstNew,
	}
	if i > 0 {
		before := &t.messages[i-1]
		l.Follows = !l.New && before.by == m.by && before.name == m.name && m.at.Sub(before.at) < followsWithin
	}
	for k, who := range m.reactions {
		if len(who) > 0 {
			l.Reactions = append(l.Reactions, Reaction{room.Reactions[k], len(who), slices.Contains(who, p.Me.ID)})
		}
	}
	if l.Mine && !l.Deleted {
		l.Change = p.url("edit", m.id)
	}
	if l.Mine && !l.Deleted && m.id == p.editing {
		l.Editing, l.Text, l.Error, l.Cancel = true, m.text, p.editError, p.url("", "")
		if p.editText != "" {
			l.Text = p.editText
		}
	}
	return l
}

// snippet returns the beginning of a text on one line, of n characters at most.
func snippet(text string, n int) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}
