// Package attributes keeps the metadata and tags of events as JSON, so that SQL can read
// them. They are written and, in the form in which they are written, read without
// reflection; anything else that is valid JSON is left to encoding/json.
package attributes

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

var errText = errors.New("eventstore: metadata and tags must be valid UTF-8, and tags without NUL")

// Check refuses metadata and tags that JSON, or its functions in SQL, cannot
// represent.
func Check(metadata map[string]string, tags []string) error {
	for k, v := range metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return errText
		}
	}
	for _, t := range tags {
		// SQL would see such a tag only up to the NUL.
		if !utf8.ValidString(t) || strings.IndexByte(t, 0) >= 0 {
			return errText
		}
	}
	return nil
}

// AppendMetadata appends m to b as a JSON object with sorted keys.
func AppendMetadata(b []byte, m map[string]string) []byte {
	var few [16]string
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, m[k])
	}
	return append(b, '}')
}

// AppendTags appends list to b as a JSON array.
func AppendTags(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

const hexDigits = "0123456789abcdef"

func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// Metadata is the inverse of AppendMetadata; an empty object is nil. The strings of the
// result share the memory of s.
func Metadata(s string) (map[string]string, error) {
	if m, ok := scanObject(s); ok {
		return m, nil
	}
	var m map[string]string
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}

func scanObject(s string) (map[string]string, bool) {
	if len(s) < 2 || s[0] != '{' {
		return nil, false
	}
	m := make(map[string]string)
	for s = s[1:]; ; s = s[1:] {
		k, rest, ok := scanString(s)
		if !ok || len(rest) == 0 || rest[0] != ':' {
			return nil, false
		}
		v, rest, ok := scanString(rest[1:])
		if !ok || len(rest) == 0 {
			return nil, false
		}
		m[k] = v
		switch {
		case rest == "}":
			return m, true
		case rest[0] != ',':
			return nil, false
		}
		s = rest
	}
}

// Tags is the inverse of AppendTags; an empty array is nil. The strings of the result
// share the memory of s.
func Tags(s string) ([]string, error) {
	if list, ok := scanArray(s); ok {
		return list, nil
	}
	var list []string
	if err := json.Unmarshal([]byte(s), &list); err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	if len(list) == 0 {
		return nil, nil
	}
	return list, nil
}

func scanArray(s string) ([]string, bool) {
	if len(s) < 2 || s[0] != '[' {
		return nil, false
	}
	list := make([]string, 0, 4)
	for s = s[1:]; ; s = s[1:] {
		t, rest, ok := scanString(s)
		if !ok || len(rest) == 0 {
			return nil, false
		}
		list = append(list, t)
		switch {
		case rest == "]":
			return list, true
		case rest[0] != ',':
			return nil, false
		}
		s = rest
	}
}

// scanString reads a JSON string at the beginning of s, if it is of a form that
// appendString writes.
func scanString(s string) (value, rest string, ok bool) {
	if len(s) < 2 || s[0] != '"' {
		return "", "", false
	}
	s = s[1:]
	i := strings.IndexByte(s, '"')
	if i < 0 {
		return "", "", false
	}
	if strings.IndexByte(s[:i], '\\') < 0 {
		return s[:i], s[i+1:], plain(s[:i])
	}
	return unescape(s)
}

// plain reports whether s may stand in a JSON string as it is.
func plain(s string) bool {
	ascii := true
	for i := range len(s) {
		if s[i] < ' ' {
			return false
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	return ascii || utf8.ValidString(s)
}

func unescape(s string) (value, rest string, ok bool) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			value = string(b)
			return value, s[i+1:], utf8.ValidString(value)
		case c < ' ':
			return "", "", false
		case c != '\\':
			b = append(b, c)
			continue
		}
		if i++; i == len(s) {
			return "", "", false
		}
		switch s[i] {
		case '"', '\\':
			b = append(b, s[i])
		case 'n':
			b = append(b, '\n')
		case 't':
			b = append(b, '\t')
		case 'u':
			if len(s) < i+5 || s[i+1] != '0' || s[i+2] != '0' {
				return "", "", false
			}
			hi, lo := strings.IndexByte(hexDigits, s[i+3]), strings.IndexByte(hexDigits, s[i+4])
			if hi < 0 || lo < 0 || hi > 7 {
				return "", "", false
			}
			b = append(b, byte(hi<<4|lo))
			i += 4
		default:
			return "", "", false
		}
	}
	return "", "", false
}
