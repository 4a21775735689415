package esdbdev

import (
	"regexp"
	"strings"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// A filter selects events of $all by the name of their stream or type. A nil
// filter selects everything.
type filter struct {
	byType   bool
	regex    *regexp.Regexp
	prefixes []string
	every    int // events examined between checkpoints
}

// defaultWindow is the search window where a client wants none.
const defaultWindow = 32

// A wireExpression is part of the requests of two services, which have a type for it each.
type wireExpression interface {
	GetRegex() string
	GetPrefix() []string
}

// newFilter checks a client's filter. window is 0 where it wants none.
func newFilter(byType bool, x wireExpression, window, multiplier uint32) (*filter, error) {
	f := &filter{byType: byType, prefixes: x.GetPrefix()}
	if expr := x.GetRegex(); expr != "" {
		var err error
		if f.regex, err = regexp.Compile(expr); err != nil {
			return nil, invalidArgument("the filter's regular expression is none that Go knows (no look-around, no back references): %v", err)
		}
	}
	if f.regex == nil && len(f.prefixes) == 0 {
		return nil, invalidArgument("a filter needs a regular expression or prefixes")
	}
	if window == 0 {
		window = defaultWindow
	}
	f.every = int(min(uint64(window)*uint64(max(multiplier, 1)), 1<<31-1))
	return f, nil
}

// readFilter returns the filter of a read, nil if it has none.
func readFilter(o *streams.ReadReq_Options) (*filter, error) {
	f := o.GetFilter()
	if f == nil {
		return nil, nil
	}
	var window uint32
	if w, ok := f.GetWindow().(*streams.ReadReq_Options_FilterOptions_Max); ok {
		if window = w.Max; window == 0 {
			return nil, invalidArgument("a filter's search window must be above 0")
		}
	}
	if x := f.GetEventType(); x != nil {
		return newFilter(true, x, window, f.GetCheckpointIntervalMultiplier())
	}
	if x := f.GetStreamIdentifier(); x != nil {
		return newFilter(false, x, window, f.GetCheckpointIntervalMultiplier())
	}
	return nil, invalidArgument("a filter needs a stream identifier or an event type")
}

// match reports whether f selects r.
func (f *filter) match(r *record) bool {
	if f == nil {
		return true
	}
	s := r.stream
	if f.byType {
		s = r.typ
	}
	for _, p := range f.prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return f.regex != nil && f.regex.MatchString(s)
}

// nameOf returns the name in an identifier, or an error if it cannot name a stream.
func nameOf(id *shared.StreamIdentifier) (string, error) {
	name := string(id.GetStreamName())
	switch {
	case name == "":
		return "", invalidArgument("a stream must have a name")
	case len(name) > maxName:
		return "", invalidArgument("the name of a stream has %d bytes: more than %d", len(name), maxName)
	}
	return name, nil
}
