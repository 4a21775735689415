package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"unicode/utf8"
)

// Message is a frame of the client.
type Message struct {
	Ref     uint64
	Kind    Kind
	Name    string          // of an [Event] or a [Region]
	Type    string          // of an [Event], such as "click"
	URL     string          // of a [Join], a [Patch] or a [Navigate]
	Values  url.Values      // of an [Event], but of a hook
	Payload json.RawMessage // of the [Event] of a hook
	View    uint64          // of an [Event]: how many views the page had gone to by then
	Join    *JoinValues     // of a [Join]
}

// JoinValues are what a page tells when it joins.
type JoinValues struct {
	Token    string
	Params   map[string]string
	Position uint64 // 0 when the client was told none
	Joins    int    // how often the page has joined before
}

// Kind is the kind of a [Message], the letter it has in the frame.
type Kind byte

const (
	Join      Kind = 'j'
	Event     Kind = 'e'
	Patch     Kind = 'p'
	Navigate  Kind = 'n'
	Region    Kind = 'g'
	Heartbeat Kind = 'h'
)

// Bounds of what [Decode] accepts, besides the size of the frame, which is up to the connection.
const (
	MaxRef   = 1<<53 - 1 // the largest whole number that a browser can count to
	MaxName  = 256       // bytes in the name of an event or a region
	MaxDepth = 32        // arrays and objects within one another in the payload of a hook
)

// ErrMessage is wrapped by every error of [Decode].
var ErrMessage = errors.New("wire: the frame is not understood")

// Decode reads a frame of the client. It accepts exactly what docs/live-protocol.md describes: anything unknown, missing,
// doubled or left over is an error that wraps [ErrMessage]. The message does not refer to the frame.
func Decode(frame []byte) (m Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			reason, ok := p.(misfit)
			if !ok {
				panic(p)
			}
			m, err = Message{}, fmt.Errorf("%w: %s", ErrMessage, string(reason))
		}
	}()
	if !utf8.Valid(frame) {
		fail("it is not UTF-8")
	}
	s := scanner{rest: frame}
	s.expect('[')
	m.Ref = s.number(MaxRef)
	if m.Ref == 0 {
		fail("the ref is 0")
	}
	s.expect(',')
	kind := s.string()
	if len(kind) != 1 {
		fail("no kind is called %.20q", kind)
	}
	switch m.Kind = Kind(kind[0]); m.Kind {
	case Join:
		s.expect(',')
		m.Join = &JoinValues{}
		s.join(&m)
	case Event:
		s.expect(',')
		m.Name = s.name()
		s.expect(',')
		m.Type = s.string()
		s.expect(',')
		s.event(&m)
		if s.peek() == ',' {
			s.expect(',')
			m.View = s.number(MaxRef)
		}
	case Patch, Navigate:
		s.expect(',')
		m.URL = s.string()
	case Region:
		s.expect(',')
		m.Name = s.name()
	case Heartbeat:
	default:
		fail("no kind is called %q", kind)
	}
	s.expect(']')
	if s.space(); len(s.rest) > 0 {
		fail("something follows")
	}
	return m, nil
}

// misfit is what the methods of scanner panic with; Decode makes it an error.
type misfit string

func fail(format string, args ...any) { panic(misfit(fmt.Sprintf(format, args...))) }

// scanner reads JSON from the front of a frame.
type scanner struct{ rest []byte }

func (s *scanner) join(m *Message) {
	var seen [5]bool
	s.object(func(key string) {
		i := bytes.IndexByte([]byte("tupvn"), firstByte(key))
		if len(key) != 1 || i < 0 {
			fail("a join has no %.20q", key)
		}
		if seen[i] {
			fail("%q comes twice", key)
		}
		seen[i] = true
		switch key {
		case "t":
			m.Join.Token = s.string()
		case "u":
			m.URL = s.string()
		case "p":
			m.Join.Params = make(map[string]string)
			s.object(func(key string) {
				if _, ok := m.Join.Params[key]; ok {
					fail("a param comes twice")
				}
				m.Join.Params[key] = s.string()
			})
		case "v":
			digits := s.string()
			position, err := strconv.ParseUint(digits, 10, 64)
			if err != nil || digits[0] == '+' {
				fail("%.20q is no position", digits)
			}
			m.Join.Position = position
		case "n":
			m.Join.Joins = int(s.number(1<<31 - 1))
		}
	})
	if !seen[0] || !seen[1] {
		fail("a join without a token or a URL")
	}
}

func firstByte(s string) byte {
	if s == "" {
		return 0
	}
	return s[0]
}

func (s *scanner) event(m *Message) {
	switch m.Type {
	case "submit", "change":
		values, err := url.ParseQuery(s.string())
		if err != nil {
			fail("the values of a form: %v", err)
		}
		m.Values = values
	case "click", "keydown", "keyup", "focus", "blur":
		m.Values = make(url.Values)
		s.object(func(key string) {
			if m.Values.Has(key) {
				fail("a value comes twice")
			}
			m.Values.Set(key, s.string())
		})
	case "hook":
		s.space()
		start := s.rest
		s.skip(MaxDepth)
		m.Payload = bytes.Clone(start[:len(start)-len(s.rest)])
		if !json.Valid(m.Payload) {
			fail("the payload is not JSON")
		}
	default:
		fail("no event is a %.20q", m.Type)
	}
}

func (s *scanner) space() {
	for len(s.rest) > 0 {
		switch s.rest[0] {
		case ' ', '\t', '\n', '\r':
			s.rest = s.rest[1:]
		default:
			return
		}
	}
}

// peek returns the next byte that is no space, 0 at the end.
func (s *scanner) peek() byte {
	if s.space(); len(s.rest) == 0 {
		return 0
	}
	return s.rest[0]
}

func (s *scanner) expect(c byte) {
	if s.peek() != c {
		fail("%q is missing", c)
	}
	s.rest = s.rest[1:]
}

func (s *scanner) number(limit uint64) uint64 {
	s.space()
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	v, err := strconv.ParseUint(string(s.rest[:n]), 10, 64)
	if err != nil || v > limit || n > 1 && s.rest[0] == '0' {
		fail("a whole number from 0 to %d is missing", limit)
	}
	s.rest = s.rest[n:]
	return v
}

func (s *scanner) name() string {
	name := s.string()
	if name == "" || len(name) > MaxName {
		fail("a name of %d bytes", len(name))
	}
	return name
}

func (s *scanner) string() string {
	raw := s.rawString()
	if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 {
		return string(plain)
	}
	var v string
	if err := json.Unmarshal(raw, &v); err != nil {
		fail("a string is broken")
	}
	return v
}

// rawString takes a string with its quotes; its escapes are not checked.
func (s *scanner) rawString() []byte {
	if s.peek() != '"' {
		fail("a string is missing")
	}
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			raw := s.rest[:i+1]
			s.rest = s.rest[i+1:]
			return raw
		case c == '\\':
			i++
		case c < ' ':
			fail("a string with a control character")
		}
	}
	fail("a string without an end")
	return nil
}

// object calls value for each key, to take its value.
func (s *scanner) object(value func(key string)) {
	s.expect('{')
	if s.peek() == '}' {
		s.rest = s.rest[1:]
		return
	}
	for {
		key := s.string()
		s.expect(':')
		value(key)
		if s.peek() != ',' {
			break
		}
		s.rest = s.rest[1:]
	}
	s.expect('}')
}

// skip takes a value of any kind without looking at more of it than where it ends and how deep it is.
func (s *scanner) skip(depth int) {
	for open := 0; ; {
		switch c := s.peek(); c {
		case 0:
			fail("a value is missing")
		case '"':
			s.rawString()
		case '[', '{':
			if open++; open > depth {
				fail("a payload of more than %d levels", depth)
			}
			s.rest = s.rest[1:]
			continue
		case ']', '}':
			if open == 0 {
				fail("a value is missing")
			}
			open--
			s.rest = s.rest[1:]
		case ',', ':':
			if open == 0 {
				fail("a value is missing")
			}
			s.rest = s.rest[1:]
			continue
		default:
			n := bytes.IndexAny(s.rest, " \t\r\n,:[]{}\"")
			if n < 0 {
				n = len(s.rest)
			}
			s.rest = s.rest[n:]
		}
		if open == 0 {
			return
		}
	}
}
