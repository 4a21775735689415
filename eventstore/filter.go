package eventstore

import (
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
)

// A Filter selects events: those that match one of each non-empty field. The
// zero Filter selects all of them, but for the library's own streams, whose
// names start with "$": those are selected only by name or category, or with System.
type Filter struct {
	Streams    []StreamName // these streams only
	Categories []string     // streams of these categories only
	Types      []string     // events with these stored names only
	System     bool         // streams whose names start with "$" too
}

// Match reports whether f selects an event of a stream and stored type.
func (f *Filter) Match(stream StreamName, typ string) bool {
	if len(f.Types) > 0 && !slices.Contains(f.Types, typ) {
		return false
	}
	if len(f.Streams) > 0 && !slices.Contains(f.Streams, stream) {
		return false
	}
	if len(f.Categories) > 0 && !slices.Contains(f.Categories, stream.Category()) {
		return false
	}
	return stream == "" || stream[0] != '$' || f.System || len(f.Streams) > 0 || len(f.Categories) > 0
}

func (f *Filter) driver() driver.Filter {
	d := driver.Filter{Categories: f.Categories, Types: f.Types, System: f.System}
	if len(f.Streams) > 0 {
		d.Streams = make([]string, len(f.Streams))
		for i, s := range f.Streams {
			d.Streams[i] = string(s)
		}
	}
	return d
}

// matchType reports whether f selects r, which was read because it might become
// one of f's types, by its type, as stored or as read. Nobody can say what one
// that could not be decoded would have become, so it is selected.
func (f *Filter) matchType(r *Recorded) bool {
	return len(f.Types) == 0 || r.Err != nil || slices.Contains(f.Types, r.Type) || r.stored != "" && slices.Contains(f.Types, r.stored)
}
