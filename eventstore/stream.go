package eventstore

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/levada-go/levada/eventstore/driver"
)

// A StreamName names a stream: a category, a dash and an id, as "room-lobby".
// The category ends at the first dash, so the id may contain dashes. A name
// without a dash is its own category, and its id is empty.
//
// A name is valid UTF-8 of 1 to 255 bytes without control characters. Names
// that start with "$" are the library's own: they can be read by name, but not appended to.
type StreamName string

// Stream returns the name of the stream id in category. It panics if category
// is empty or contains a dash, since another category's streams would be hit.
func Stream(category, id string) StreamName {
	if category == "" || strings.Contains(category, "-") {
		panic(fmt.Sprintf("eventstore: bad category %q: want one without a dash", category))
	}
	return StreamName(category + "-" + id)
}

// Category returns the part of n before the first dash.
func (n StreamName) Category() string { return driver.Category(string(n)) }

// ID returns the part of n after the first dash, empty if there is none.
func (n StreamName) ID() string { _, id, _ := strings.Cut(string(n), "-"); return id }

const nameBytes = 255

// Validate returns an ErrInvalid that says why n cannot name a stream.
func (n StreamName) Validate() error { return validName("stream name", string(n)) }

func validName(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%w: empty %s", ErrInvalid, what)
	case len(s) > nameBytes:
		return fmt.Errorf("%w: %s %.40q… of %d bytes: more than %d", ErrInvalid, what, s, len(s), nameBytes)
	}
	return validText(what, s)
}

// validText refuses what engines and their tools cannot show alike.
func validText(what, s string) error {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < 0x20 || c == 0x7f {
			return fmt.Errorf("%w: %s %.40q contains a control character", ErrInvalid, what, s)
		}
		if c >= utf8.RuneSelf {
			if !utf8.ValidString(s) {
				return fmt.Errorf("%w: %s %.40q is not valid UTF-8", ErrInvalid, what, s)
			}
			for _, r := range s[i:] {
				if r >= 0x80 && r < 0xa0 {
					return fmt.Errorf("%w: %s %.40q contains a control character", ErrInvalid, what, s)
				}
			}
			for j := i; j < len(s); j++ {
				if s[j] < 0x20 || s[j] == 0x7f {
					return fmt.Errorf("%w: %s %.40q contains a control character", ErrInvalid, what, s)
				}
			}
			return nil
		}
	}
	return nil
}

// A Version counts the events of a stream: 0 is a stream that does not exist,
// and the first event has version 1. Versions are dense and never used again.
type Version uint64

// A Position orders all events of a store. It increases, with gaps; 0 comes
// before the first event.
type Position uint64

// Expected says at which version an append must find its stream.
type Expected int64

const (
	Any          Expected = Expected(driver.Any)          // no check
	NoStream     Expected = Expected(driver.NoStream)     // the stream must not exist
	StreamExists Expected = Expected(driver.StreamExists) // any version but 0
)

// Exactly expects the stream at v. Exactly(0) is NoStream. A version above
// math.MaxInt64 cannot occur; an append that expects one is refused.
func Exactly(v Version) Expected {
	switch {
	case v == 0:
		return NoStream
	case v > math.MaxInt64:
		return invalidExpected
	}
	return Expected(v)
}

const invalidExpected Expected = math.MinInt64

func (x Expected) String() string {
	switch x {
	case NoStream:
		return "no stream"
	case Any:
		return "any version"
	case StreamExists:
		return "an existing stream"
	}
	if x < 0 {
		return "an impossible version"
	}
	return fmt.Sprintf("version %d", int64(x))
}

// Holds reports whether a stream at v is as x expects.
func (x Expected) Holds(v Version) bool {
	switch x {
	case Any:
		return true
	case NoStream:
		return v == 0
	case StreamExists:
		return v > 0
	}
	return x > 0 && Version(x) == v
}

// A StreamInfo tells where a stream stands.
type StreamInfo struct {
	Name    StreamName
	Version Version // of its last event, deleted or not; 0 if there never was one
	First   Version // of its first readable event; Version+1 if there is none left
	Deleted bool    // it was deleted, and not appended to since
	Origin  Version // where it stood when it was last deleted; 0 if it never was
}
