package natsstore

import (
	"slices"
	"strings"

	"github.com/levada-go/levada/eventstore/driver"
)

// A space is the subjects of one store. There is one subject for each stream of
// events:
//
//	<store>.u.<category>.<rest>    of users
//	<store>.s.<category>.<rest>    of the system, whose names start with "$"
//
// where rest is the name from its first dash on. The category is a token of its
// own so that the server can select by it; it is a function of the name, so that
// a name has one subject.
type space string

const (
	users  = "u"
	system = "s"
	// nothing stands for an empty token. No escape yields it.
	nothing = "="
)

// of returns the subject of a stream.
func (s space) of(stream string) string {
	category := driver.Category(stream)
	return s.prefix(category) + token(stream[len(category):])
}

// prefix returns what the subjects of a category begin with.
func (s space) prefix(category string) string {
	kind := users
	if strings.HasPrefix(category, "$") {
		kind = system
	}
	return string(s) + "." + kind + "." + token(category) + "."
}

// category returns the pattern of a category's subjects.
func (s space) category(category string) string { return s.prefix(category) + "*" }

// all returns the pattern of all subjects, users' or not.
func (s space) all() string { return string(s) + ".>" }

// ofUsers returns the pattern of the subjects of users.
func (s space) ofUsers() string { return string(s) + "." + users + ".>" }

// stream returns the name of the stream of a subject, and whether it is one of
// this space's.
func (s space) stream(subject string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, string(s)+".")
	if !ok {
		return "", false
	}
	list := strings.Split(rest, ".")
	if len(list) != 3 {
		return "", false
	}
	category, ok1 := untoken(list[1])
	tail, ok2 := untoken(list[2])
	return category + tail, ok1 && ok2 && s.of(category+tail) == subject
}

// mostPatterns is how many patterns are read at once. A filter with more streams
// or categories is applied to all events by the reader.
const mostPatterns = 16

// patterns returns patterns that every event selected by f has a subject of, no
// subject matching two. None at all say that f selects nothing. exact says that f
// selects every event with such a subject.
func (s space) patterns(f *driver.Filter) (list []string, exact bool) {
	exact = len(f.Types) == 0
	switch {
	case len(f.Streams) > 0:
		byName := driver.Filter{Streams: f.Streams, Categories: f.Categories}
		for _, stream := range f.Streams {
			if byName.Match(stream, "") {
				list = append(list, s.of(stream))
			}
		}
	case len(f.Categories) > 0:
		for _, category := range f.Categories {
			list = append(list, s.category(category))
		}
	case f.System:
		return []string{s.all()}, exact
	default:
		return []string{s.ofUsers()}, exact
	}
	slices.Sort(list)
	if list = slices.Compact(list); len(list) > mostPatterns {
		return []string{s.all()}, false
	}
	return list, exact
}

// cover returns a pattern that matches whatever one of the list does.
func (s space) cover(patterns []string) string {
	for _, p := range patterns {
		if !strings.HasPrefix(p, string(s)+"."+users+".") {
			return s.all()
		}
	}
	return s.ofUsers()
}

const digits = "0123456789ABCDEF"

// token makes any text one token of a subject, and one key of a bucket: letters,
// digits, dash and underscore stay, every other byte becomes =XX.
func token(text string) string {
	if text == "" {
		return nothing
	}
	plain := true
	for i := 0; i < len(text) && plain; i++ {
		plain = isPlain(text[i])
	}
	if plain {
		return text
	}
	var b strings.Builder
	b.Grow(3 * len(text))
	for i := range len(text) {
		if c := text[i]; isPlain(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('=')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// untoken is the inverse of token; ok is false for what token never returns.
func untoken(t string) (text string, ok bool) {
	if t == nothing {
		return "", true
	}
	if t == "" {
		return "", false
	}
	b := make([]byte, 0, len(t))
	for i := 0; i < len(t); i++ {
		if t[i] != '=' {
			if !isPlain(t[i]) {
				return "", false
			}
			b = append(b, t[i])
			continue
		}
		if i+2 >= len(t) {
			return "", false
		}
		high, low := strings.IndexByte(digits, t[i+1]), strings.IndexByte(digits, t[i+2])
		if high < 0 || low < 0 || isPlain(byte(high<<4|low)) {
			return "", false
		}
		b = append(b, byte(high<<4|low))
		i += 2
	}
	return string(b), true
}
