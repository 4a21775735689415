package person

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"maps"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/levada-go/levada/aggregate"
)

// Person is what is remembered of a person in order to decide.
type Person struct {
	Name    string            // "" for the first one
	Renamed int64             // when, in Unix milliseconds
	Read    map[string]uint64 // by room: the number of the last message that was read
}

// Event is an event of a Person.
type Event = aggregate.Event[Person]

// Type keeps people in streams named "person-" and the id.
var Type = &aggregate.Type[Person]{
	Name: "person",
	Events: aggregate.Events[Person]{
		"person.renamed": Renamed{},
		"person.read":    Read{},
	},
	SnapshotEvery:  200,
	SnapshotSchema: 1,
}

// Bounds of what a person may do.
const (
	MaxName     = 24              // characters
	RenameEvery = 5 * time.Second // at most
	MaxRooms    = 500             // whose reading is remembered
)

// Errors that a command may be refused with.
var (
	ErrNoName  = errors.New("a name has 1 to 24 visible characters")
	ErrTooSoon = errors.New("you have just changed your name; wait a few seconds")
)

// ID returns the id of the person whose browser keeps a secret. The secret cannot be had from it.
func ID(secret string) string {
	sum := sha256.Sum256([]byte("chat person\n" + secret))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// Rename gives a person another name. The same name again does nothing.
type Rename struct {
	Person, Name string
	At           time.Time
}

func (c Rename) AggregateID() string { return c.Person }

func (c Rename) Execute(p Person) ([]Event, error) {
	name, ok := CheckName(c.Name)
	at := c.At.UTC().Truncate(time.Millisecond)
	switch since := at.UnixMilli() - p.Renamed; {
	case !ok:
		return nil, ErrNoName
	case name == p.Name, p.Name == "" && name == FirstName(c.Person):
		return nil, nil
	case p.Renamed > 0 && since >= 0 && since < RenameEvery.Milliseconds():
		return nil, ErrTooSoon
	}
	return []Event{Renamed{Name: name, At: at}}, nil
}

// See says that a person has read a room up to a message. Saying less than before does nothing.
type See struct {
	Person, Room string
	Upto         uint64
}

func (c See) AggregateID() string { return c.Person }

func (c See) Execute(p Person) ([]Event, error) {
	before, been := p.Read[c.Room]
	if been && c.Upto <= before || !been && len(p.Read) >= MaxRooms {
		return nil, nil
	}
	return []Event{Read{Room: c.Room, Upto: c.Upto}}, nil
}

// Renamed: the person is called Name.
type Renamed struct {
	Name string    `json:"name"`
	At   time.Time `json:"at"`
}

func (e Renamed) Apply(p *Person) { p.Name, p.Renamed = e.Name, e.At.UnixMilli() }

// Read: the person has read Room up to its message with the number Upto.
type Read struct {
	Room string `json:"room"`
	Upto uint64 `json:"upto"`
}

func (e Read) Apply(p *Person) {
	read := maps.Clone(p.Read)
	if read == nil {
		read = map[string]uint64{}
	}
	read[e.Room] = e.Upto
	p.Read = read
}

// Clone returns a Person that shares nothing that Apply changes.
func (p Person) Clone() Person { return p }

// CheckName returns a name as it is kept: without white space around it, and with single spaces inside. It reports false
// for names that are empty, longer than [MaxName] characters, or hold what cannot be seen.
func CheckName(name string) (string, bool) {
	if len(name) > 16*MaxName || !utf8.ValidString(name) {
		return "", false
	}
	name = strings.Join(strings.Fields(name), " ")
	marks, seen := 0, false
	for _, c := range name {
		switch {
		case c == '\u200d' || c == '\ufe0f': // hold emoji together
		case !unicode.IsGraphic(c):
			return "", false
		case unicode.IsMark(c):
			if marks++; marks > 3 { // a pile of marks reaches into other lines
				return "", false
			}
		default:
			marks, seen = 0, seen || !unicode.IsSpace(c)
		}
	}
	return name, seen && utf8.RuneCountInString(name) <= MaxName
}
