package drivertest

import (
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/levada-go/levada/eventstore/driver"
)

// A lineState is a stream of the model that histories are checked against. It is
// never changed: steps share what they have in common.
type lineState struct {
	version, origin uint64
	hash            uint64 // of all ids, in order
	last            *lineEvent
	over            bool // what has not happened never will
}

type lineEvent struct {
	id      eventID
	version uint64
	before  *lineEvent
}

// streamModel says what one stream may tell if it does one thing at a time.
var streamModel = porcupine.Model{
	Init: func() any { return lineState{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(lineState).step(input.(*operation))
		return ok, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(lineState), b.(lineState)
		return x.version == y.version && x.origin == y.origin && x.hash == y.hash && x.over == y.over
	},
	Hash:              func(state any) uint64 { return state.(lineState).hash },
	DescribeOperation: func(input, _ any) string { return input.(*operation).String() },
	DescribeState: func(state any) string {
		s := state.(lineState)
		return fmt.Sprintf("at %d, from %d", s.version, s.origin+1)
	},
}

// A pairState is two streams that were appended to at once, in the order of their names.
type pairState [2]lineState

// pairModel says what two streams may tell if both together do one thing at a time.
var pairModel = porcupine.Model{
	Init: func() any { return pairState{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := state.(pairState).step(input.(*operation))
		return ok, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(pairState), b.(pairState)
		return streamModel.Equal(x[0], y[0]) && streamModel.Equal(x[1], y[1])
	},
	Hash:              func(state any) uint64 { return state.(pairState)[0].hash ^ state.(pairState)[1].hash }, // no id is in both
	DescribeOperation: streamModel.DescribeOperation,
	DescribeState: func(state any) string {
		s := state.(pairState)
		return streamModel.DescribeState(s[0]) + "; " + streamModel.DescribeState(s[1])
	},
}

// step is lineState's. What was told of an append to both must have been so in one moment.
func (s pairState) step(o *operation) (ok bool, next pairState) {
	switch {
	case o.kind == opEnd:
		s[0].over, s[1].over = true, true
		return true, s
	case o.kind != opJoint:
		ok, s[o.second] = s[o.second].step(o)
		return ok, s
	case o.outcome == conflicted:
		for _, part := range o.parts {
			if part.outcome == conflicted {
				ok, _ = s[part.second].step(part)
				return ok, s // what comes after it is not told
			}
			if !s[part.second].holds(part) {
				return false, s // it would have been told
			}
		}
	}
	over := s[0].over
	if over && !slices.ContainsFunc(o.parts, func(part *operation) bool { return part.outcome == done }) {
		return true, s // it never happened
	}
	next = s
	for _, part := range o.parts {
		line := s[part.second]
		line.over = false // what has happened to one stream has to both
		if ok, line = line.step(part); !ok {
			return false, s
		}
		line.over = over
		next[part.second] = line
	}
	return true, next
}

// step reports whether o could have been told in this state, and what it left.
func (s lineState) step(o *operation) (ok bool, next lineState) {
	switch o.kind {
	case opStream:
		want := driver.StreamInfo{Name: o.stream}
		if s.version > 0 {
			want.Version, want.First, want.Origin, want.Deleted = s.version, s.origin+1, s.origin, s.version == s.origin
		}
		return o.info == want, s
	case opRead:
		return s.reads(o), s
	case opDelete:
		return s.delete(o)
	case opEnd:
		s.over = true
		return true, s
	}
	holds := s.holds(o)
	switch o.outcome {
	case done:
		return holds && o.version == s.version+uint64(len(o.ids)), s.append(o.ids)
	case conflicted:
		return !holds && o.version == s.actual(), s
	}
	if s.over {
		return true, s
	}
	return holds && o.taken.free(s.version, len(o.ids)), s.append(o.ids)
}

// holds reports whether the stream is as an append expects it.
func (s lineState) holds(o *operation) bool {
	holds := (&line{version: s.version, origin: s.origin}).holds(o.expected)
	if o.loose && o.outcome != conflicted && s.version == s.origin && s.version > 0 {
		holds = holds || o.expected == int64(s.version) || o.expected == driver.StreamExists
	}
	return holds
}

// actual is the version that a conflict tells.
func (s lineState) actual() uint64 {
	if s.version == s.origin {
		return 0
	}
	return s.version
}

var lineSeed = maphash.MakeSeed()

func (s lineState) append(ids []eventID) lineState {
	for _, id := range ids {
		s.version++
		s.last = &lineEvent{id, s.version, s.last}
		s.hash = maphash.Comparable(lineSeed, [2]uint64{s.hash, uint64(id)})
	}
	return s
}

// reads reports whether a page is what the stream holds there.
func (s lineState) reads(o *operation) bool {
	e := s.last
	if o.dir == driver.Backward {
		for o.from > 0 && e != nil && e.version >= o.from {
			e = e.before
		}
		for i := range o.limit {
			if e == nil || e.version <= s.origin {
				return len(o.page) == i
			}
			if i >= len(o.page) || !o.page[i].is(o.stream, e) {
				return false
			}
			e = e.before
		}
		return len(o.page) == o.limit
	}
	first := max(o.from, s.origin) + 1
	if first > s.version {
		return len(o.page) == 0
	}
	n := int(min(uint64(o.limit), s.version-first+1))
	if len(o.page) != n {
		return false
	}
	for e.version >= first+uint64(n) {
		e = e.before
	}
	for i := n - 1; i >= 0; i-- {
		if !o.page[i].is(o.stream, e) {
			return false
		}
		e = e.before
	}
	return true
}

func (s sight) is(stream string, e *lineEvent) bool {
	return s.strange == "" && s.stream == stream && s.id == e.id && s.version == e.version
}

func (s lineState) delete(o *operation) (ok bool, next lineState) {
	holds := uint64(o.expected) == s.version
	switch {
	case o.outcome == unknown && s.over:
		return true, s
	case s.version == s.origin:
		return o.outcome != unknown, s // what becomes of it, no contract says
	case o.outcome == conflicted:
		return !holds && o.version == s.version, s
	case !holds:
		return false, s
	}
	s.origin = s.version
	return true, s
}
