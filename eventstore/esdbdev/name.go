package esdbdev

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/levada-go/levada/eventstore"
)

// Names of streams. Clients may use names that a store refuses: with control
// characters, of any length, in no encoding, or starting with "$". The mapping is
// injective:
//
//	client                            store
//	orders-1                          orders-1
//	$$orders-1                        $esdb-$$orders-1
//	a, newline, b                     $esdb-a%0Ab
//	one that is too long for these    $esdb-~ and its SHA-256
//	the tombstone of a stream         $esdb.tombstone- and the SHA-256 of its name
//
// Where the name is a hash the events have it in their metadata. Other streams of
// the store that start with "$" are its own: no client sees them.
const (
	ownPrefix  = "$esdb-"
	tombPrefix = "$esdb.tombstone-"
	hashMark   = "~"

	// maxName bounds the name of a stream and of a type, in bytes.
	maxName = 16 << 10
	// plainType is the length up to which a store takes the name of a type.
	plainType = 255
)

// Keys of metadata that are this package's own.
const (
	metaPrefix = "$esdb."
	metaStream = metaPrefix + "stream" // the client's name of the stream, where the store's is a hash
	metaType   = metaPrefix + "type"   // the same of the type
	metaText   = metaPrefix + "metadata"
	metaBytes  = metaPrefix + "metadata64"
)

// storedStream returns where a client's stream is stored, given the longest name
// that the store takes. full is to be kept with each event, unless it is empty.
func storedStream(name string, limit int) (stored eventstore.StreamName, full string) {
	limit = min(limit, plainType)
	if len(name) <= limit && name[0] != '$' && plain(name) {
		return eventstore.StreamName(name), ""
	}
	if esc := ownPrefix + escape(name); len(esc) <= limit {
		return eventstore.StreamName(esc), ""
	}
	return eventstore.StreamName(ownPrefix + hashMark + hash(name)), name
}

// tombstoneStream returns the stream whose only event is the tombstone of a client's stream.
func tombstoneStream(name string) eventstore.StreamName {
	return eventstore.StreamName(tombPrefix + hash(name))
}

// clientStream returns the client's name of an event's stream. ok is false for
// streams that are the store's own; tomb says that the event is a tombstone.
func clientStream(stored eventstore.StreamName, meta map[string]string) (name string, tomb, ok bool) {
	s := string(stored)
	if s == "" || s[0] != '$' {
		return s, false, s != ""
	}
	if strings.HasPrefix(s, tombPrefix) {
		name = meta[metaStream]
		return name, true, name != ""
	}
	rest, own := strings.CutPrefix(s, ownPrefix)
	if !own {
		return "", false, false
	}
	if strings.HasPrefix(rest, hashMark) {
		name = meta[metaStream]
		return name, false, name != ""
	}
	name, ok = unescape(rest)
	return name, false, ok && (name[0] == '$' || !plain(name)) // others are stored as they are
}

// storedType is storedStream for the name of an event's type.
func storedType(name string) (stored, full string) {
	if len(name) <= plainType && !strings.HasPrefix(name, ownPrefix) && plain(name) {
		return name, ""
	}
	if esc := ownPrefix + escape(name); len(esc) <= plainType {
		return esc, ""
	}
	return ownPrefix + hashMark + hash(name), name
}

// clientType is the reverse of storedType.
func clientType(stored string, meta map[string]string) string {
	rest, own := strings.CutPrefix(stored, ownPrefix)
	if !own {
		return stored
	}
	if strings.HasPrefix(rest, hashMark) {
		return meta[metaType]
	}
	if name, ok := unescape(rest); ok {
		return name
	}
	return stored
}

// plain reports whether a store takes s as a name: see eventstore.StreamName.
func plain(s string) bool {
	if s == "" || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return false
		}
	}
	return true
}

// escape replaces what plain refuses, byte by byte, and what would be ambiguous.
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		bad := r == utf8.RuneError && n == 1 || r < 0x20 || r >= 0x7f && r < 0xa0 || r == '%' || i == 0 && r == '~'
		if bad {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// unescape is the reverse of escape; ok is false for what escape never gives.
func unescape(s string) (_ string, ok bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			out = append(out, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", false
		}
		c, err := hex.DecodeString(s[i+1 : i+3])
		if err != nil {
			return "", false
		}
		out = append(out, c[0])
		i += 2
	}
	return string(out), escape(string(out)) == s && len(out) > 0
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
