package room

import "time"

// Opened: the room exists.
type Opened struct{}

func (Opened) Apply(r *Room) { r.Opened = true }

// Posted: By said Text, under the name that By had then.
type Posted struct {
	ID   string    `json:"id"`
	By   string    `json:"by"`
	Name string    `json:"name"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

func (e Posted) Apply(r *Room) {
	r.add(e.ID, Message{By: e.By, Text: e.Text})
	r.spend(e.By, e.At)
}

// Edited: the author changed the text of a message.
type Edited struct {
	ID   string    `json:"id"`
	By   string    `json:"by"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

func (e Edited) Apply(r *Room) {
	r.change(e.ID, func(m *Message) { m.Text = e.Text })
	r.spend(e.By, e.At)
}

// Deleted: the author took a message back.
type Deleted struct {
	ID string    `json:"id"`
	By string    `json:"by"`
	At time.Time `json:"at"`
}

func (e Deleted) Apply(r *Room) {
	r.change(e.ID, func(m *Message) { m.Text, m.Deleted, m.Reacted = "", true, nil })
}

// Reacted: By put one of [Reactions] under a message.
type Reacted struct {
	ID    string    `json:"id"`
	By    string    `json:"by"`
	Emoji string    `json:"emoji"`
	At    time.Time `json:"at"`
}

func (e Reacted) Apply(r *Room) {
	r.change(e.ID, func(m *Message) {
		if m.Reacted == nil {
			m.Reacted = map[string]uint8{}
		}
		m.Reacted[e.By] |= bit(e.Emoji)
	})
	r.spend(e.By, e.At)
}

// Unreacted: By took a reaction back.
type Unreacted struct {
	ID    string    `json:"id"`
	By    string    `json:"by"`
	Emoji string    `json:"emoji"`
	At    time.Time `json:"at"`
}

func (e Unreacted) Apply(r *Room) {
	r.change(e.ID, func(m *Message) {
		if m.Reacted[e.By] &^= bit(e.Emoji); m.Reacted[e.By] == 0 {
			delete(m.Reacted, e.By)
		}
		if len(m.Reacted) == 0 {
			m.Reacted = nil
		}
	})
}
