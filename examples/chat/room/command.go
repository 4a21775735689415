package room

import (
	"errors"
	"slices"
	"time"
)

// Errors that a command may be refused with. See also the errors of [CheckText], and [TooFastError].
var (
	ErrNoRoom     = errors.New("there cannot be a room of this name")
	ErrNotMember  = errors.New("this room is for two others")
	ErrBadID      = errors.New("the message has no proper id")
	ErrNoPerson   = errors.New("nobody said that")
	ErrNoMessage  = errors.New("there is no such message")
	ErrTooOld     = errors.New("the message is too old to be changed")
	ErrNotYours   = errors.New("only its author may change a message")
	ErrDeleted    = errors.New("the message was deleted")
	ErrNoReaction = errors.New("one cannot react with that")
)

// Reactions are what one can react with. They must not be changed once they are in use, but for new ones behind
// the last, up to eight.
var Reactions = []string{"👍", "❤️", "😂", "🎉", "😮", "😢"}

func bit(emoji string) uint8 {
	if i := slices.Index(Reactions, emoji); i >= 0 {
		return 1 << i
	}
	return 0
}

// Open makes sure that a room exists. With a Welcome, that is its first message, by the person By.
type Open struct {
	Room              string
	By, Name, Welcome string
	At                time.Time
}

func (c Open) AggregateID() string { return c.Room }

func (c Open) Execute(r Room) ([]Event, error) {
	if !Valid(c.Room) {
		return nil, ErrNoRoom
	}
	if a, b, direct := Members(c.Room); direct && c.By != a && c.By != b {
		return nil, ErrNotMember
	}
	switch {
	case r.Opened:
		return nil, nil
	case c.Welcome == "":
		return []Event{Opened{}}, nil
	}
	return []Event{Opened{}, Posted{ID: "welcome", By: c.By, Name: c.Name, Text: c.Welcome, At: stamp(c.At)}}, nil
}

// Post says something. The room is opened if it is not yet. A Post of an id that is there already, by the same person, does nothing.
type Post struct {
	Room, ID, By, Name, Text string
	At                       time.Time
}

func (c Post) AggregateID() string { return c.Room }

func (c Post) Execute(r Room) ([]Event, error) {
	if err := admit(c.Room, c.By); err != nil {
		return nil, err
	}
	if !validID(c.ID) {
		return nil, ErrBadID
	}
	if c.Name == "" {
		return nil, ErrNoPerson
	}
	if m, ok := r.Messages[c.ID]; ok {
		if m.By != c.By {
			return nil, ErrBadID
		}
		return nil, nil
	}
	text, err := CheckText(c.Text)
	if err != nil {
		return nil, err
	}
	if err := r.allow(c.By, c.At); err != nil {
		return nil, err
	}
	posted := Posted{ID: c.ID, By: c.By, Name: c.Name, Text: text, At: stamp(c.At)}
	if !r.Opened {
		return []Event{Opened{}, posted}, nil
	}
	return []Event{posted}, nil
}

// Edit changes the text of one's own message.
type Edit struct {
	Room, ID, By, Text string
	At                 time.Time
}

func (c Edit) AggregateID() string { return c.Room }

func (c Edit) Execute(r Room) ([]Event, error) {
	m, err := r.find(c.Room, c.ID, c.By)
	switch {
	case err != nil:
		return nil, err
	case m.By != c.By:
		return nil, ErrNotYours
	case m.Deleted:
		return nil, ErrDeleted
	}
	text, err := CheckText(c.Text)
	if err != nil {
		return nil, err
	}
	if text == m.Text {
		return nil, nil
	}
	if err := r.allow(c.By, c.At); err != nil {
		return nil, err
	}
	return []Event{Edited{ID: c.ID, By: c.By, Text: text, At: stamp(c.At)}}, nil
}

// Delete takes one's own message back. Deleting it again does nothing.
type Delete struct {
	Room, ID, By string
	At           time.Time
}

func (c Delete) AggregateID() string { return c.Room }

func (c Delete) Execute(r Room) ([]Event, error) {
	m, err := r.find(c.Room, c.ID, c.By)
	switch {
	case err != nil:
		return nil, err
	case m.By != c.By:
		return nil, ErrNotYours
	case m.Deleted:
		return nil, nil
	}
	return []Event{Deleted{ID: c.ID, By: c.By, At: stamp(c.At)}}, nil
}

// React puts one of [Reactions] under a message or, if the person has done so before, takes it away.
type React struct {
	Room, ID, By, Emoji string
	At                  time.Time
}

func (c React) AggregateID() string { return c.Room }

func (c React) Execute(r Room) ([]Event, error) {
	m, err := r.find(c.Room, c.ID, c.By)
	switch {
	case err != nil:
		return nil, err
	case m.Deleted:
		return nil, ErrDeleted
	case bit(c.Emoji) == 0:
		return nil, ErrNoReaction
	case m.Reacted[c.By]&bit(c.Emoji) != 0:
		return []Event{Unreacted{ID: c.ID, By: c.By, Emoji: c.Emoji, At: stamp(c.At)}}, nil
	}
	if err := r.allow(c.By, c.At); err != nil {
		return nil, err
	}
	return []Event{Reacted{ID: c.ID, By: c.By, Emoji: c.Emoji, At: stamp(c.At)}}, nil
}

// admit says whether by may do anything in the room.
func admit(room, by string) error {
	if !Valid(room) {
		return ErrNoRoom
	}
	if by == "" {
		return ErrNoPerson
	}
	if a, b, direct := Members(room); direct && by != a && by != b {
		return ErrNotMember
	}
	return nil
}

func (r *Room) find(room, id, by string) (Message, error) {
	if err := admit(room, by); err != nil {
		return Message{}, err
	}
	m, ok := r.Messages[id]
	switch {
	case ok:
		return m, nil
	case len(r.Order) == Window && validID(id):
		return m, ErrTooOld
	}
	return m, ErrNoMessage
}

// validID says whether id can be the id of a message: 1 to 40 letters, digits, dashes and underscores.
func validID(id string) bool {
	if id == "" || len(id) > 40 {
		return false
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// stamp is a time as it is stored: a replay gives the same.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
