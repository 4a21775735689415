package room

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName bounds the name of a room, in characters.
const MaxName = 40

// Slug returns what a room is called whose name somebody wrote: lower case letters and digits, and a
// dash where something else was. It reports false if nothing is left or that is too long. The id of a room for all is
// its slug.
func Slug(name string) (string, bool) {
	if len(name) > 16*MaxName || !utf8.ValidString(name) {
		return "", false
	}
	var b strings.Builder
	gap := false
	for _, c := range name {
		c = unicode.ToLower(c)
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			gap = b.Len() > 0
			continue
		}
		if gap {
			b.WriteByte('-')
			gap = false
		}
		b.WriteRune(c)
	}
	s := b.String()
	return s, s != "" && utf8.RuneCountInString(s) <= MaxName
}

// Direct returns the id of the room of two people, in whatever order they are named.
func Direct(a, b string) string { return "@" + min(a, b) + "." + max(a, b) }

// Members returns the two people whose room it is, and false for a room that is for all.
func Members(id string) (a, b string, direct bool) {
	rest, ok := strings.CutPrefix(id, "@")
	if !ok {
		return "", "", false
	}
	a, b, _ = strings.Cut(rest, ".")
	return a, b, true
}

// Valid says whether there can be a room with this id.
func Valid(id string) bool {
	if a, b, direct := Members(id); direct {
		return validPerson(a) && validPerson(b) && a <= b
	}
	s, ok := Slug(id)
	return ok && s == id
}

func validPerson(id string) bool {
	if id == "" || len(id) > 32 {
		return false
	}
	for _, c := range []byte(id) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return true
}
