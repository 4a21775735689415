package render

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
)

// ErrOps is wrapped by the errors of [View.Frame] and [View.Full] that a wrong use of [View.Ops] causes.
var ErrOps = errors.New("render: the ops of a stream do not fit")

// OpKind is what an [Op] does.
type OpKind int

// The kinds of ops of a stream, by their number in a frame.
const (
	StreamDelete OpKind = iota // takes out the elements IDs
	StreamInsert               // puts in the next Rows rows of the range before the child at index At
	StreamReset                // takes out all elements
	StreamUpdate               // replaces the elements of the next Rows rows of the range that are there
)

// Op is one change of a stream.
type Op struct {
	Kind OpKind
	// IDs are the ids of the elements to delete; elements that are not there are no error.
	IDs []string
	// Rows is how many of the rows that follow belong to an insert or an update. No two may have the same id.
	Rows int
	// At is where an insert puts its rows: 0 is in front of all, -1 or anything beyond the last behind all.
	// A row whose id is there already replaces that element where it stands.
	At int
	// Limit is how many children an insert leaves: the first Limit, the last -Limit, or all if it is 0.
	Limit int
}

// Ops says what the rows are for that the range yields from now on: those of the first insert or update first. It
// must be called by the value that a range in a live-update="stream" element is over, before it yields the first
// row, while [View.Frame] or [View.Full] executes the template. The range must yield exactly the rows that ops
// name. No ops and no rows leave the stream as it is. The view copies what it needs of ops at once.
//
// A stream whose range does not call Ops is reset and has all its rows appended whenever they differ from those
// of the last frame. It must be called so once [View.Known] is false, or the client only has what ops say.
//
// Calls at other times make the rendering fail with [ErrOps], or do nothing when there is none.
func (v *View) Ops(ops []Op) {
	r := v.rendering
	if r == nil {
		return
	}
	if !r.inStream() || r.said {
		r.fail("ops are told elsewhere than before the first row of a stream")
		return
	}
	r.said = true
	s := &r.streams[len(r.streams)-1]
	for _, op := range ops {
		takesRows := op.Kind == StreamInsert || op.Kind == StreamUpdate
		if op.Rows < 0 || op.Rows > 0 && !takesRows || op.Kind < StreamDelete || op.Kind > StreamUpdate {
			r.fail("an op of kind %d with %d rows", op.Kind, op.Rows)
			return
		}
		switch op.Kind {
		case StreamDelete:
			if len(op.IDs) == 0 {
				continue
			}
			op.IDs = slices.Clone(op.IDs)
		case StreamInsert:
			if op.Rows == 0 && op.Limit == 0 {
				continue
			}
		case StreamUpdate:
			if op.Rows == 0 {
				continue
			}
		}
		s.ops = append(s.ops, op)
	}
}

// Known reports whether the client has the list of the stream that the template ranges over at this moment. It
// is false when the client is about to get the stream whole: in a full frame, and when the element of the stream
// comes onto the page; and at all times when no stream is rendered.
func (v *View) Known() bool {
	r := v.rendering
	return r != nil && r.inStream() && r.before() >= 0
}

// stream is one rendering of a stream. Its rows are in the recorder of rows.
type stream struct {
	body  int // of the rows
	at    int // the header of the rows
	place int // the word of the stream
	ops   []Op
}

// The word of a stream is a hash of all its rows with the top bit clear, or, once ops were told, a count with the
// top bit set, that tells a frame with ops from the one before.
const toldOps = 1 << 63

// inStream reports whether a stream was opened and has no rows yet.
func (r *recorder) inStream() bool {
	return r.rows != nil && len(r.rows.open) == 1 && r.streaming && rowsOf(r.rows.words[r.rows.open[0]]) == 0
}

func (r *recorder) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrOps, fmt.Sprintf(format, args...))
	}
}

// openStream begins to record rows elsewhere.
func (r *recorder) openStream(body int) {
	if r.rows == nil {
		r.rows = &recorder{t: r.t}
	}
	r.streaming, r.said = true, false
	r.streams = append(r.streams, stream{body: body, at: len(r.rows.words)})
	r.rows.openGroup()
}

// closeStream puts one word where the stream is.
func (r *recorder) closeStream() {
	s := &r.streams[len(r.streams)-1]
	r.streaming = false
	s.place = len(r.words)
	rows := r.rows.words[s.at:]
	var word uint64
	switch {
	case r.said:
		want := 0
		for _, op := range s.ops {
			want += op.Rows
		}
		if got := rowsOf(rows[0]); got != want {
			r.fail("they want %d rows and the range yields %d", want, got)
		}
		word = toldOps
		if old := r.before(); old >= 0 {
			word = r.old[old]
			if len(s.ops) > 0 {
				word = toldOps | (word+1)&^toldOps
			}
		}
	default:
		r.scratch = r.scratch[:0]
		for _, w := range rows {
			r.scratch = binary.LittleEndian.AppendUint64(r.scratch, w)
		}
		word = maphash.Bytes(r.t.seed, r.scratch) &^ toldOps
		s.ops = append(s.ops, Op{Kind: StreamReset})
		if n := rowsOf(rows[0]); n > 0 {
			s.ops = append(s.ops, Op{Kind: StreamInsert, Rows: n, At: -1})
		}
	}
	r.words = append(r.words, word)
	r.ends = append(r.ends, len(r.arena))
}

// before returns where the client's last frame has the stream that comes next in this rendering, or -1. No stream
// is in a range, so that the groups around it have one row at most.
func (r *recorder) before() int {
	if r.old == nil {
		return -1
	}
	o, n, id := 0, 0, 0
	for depth := 0; ; depth++ {
		here := len(r.words)
		if depth < len(r.open) {
			here = r.open[depth]
		}
		for _, kind := range r.t.bodies[id].slots {
			if n == here {
				break
			}
			if kind == groupSlot {
				o, n = r.t.groupEnd(r.old, o), r.t.groupEnd(r.words, n)
			} else {
				o, n = o+1, n+1
			}
		}
		if depth == len(r.open) {
			return o
		}
		if rowsOf(r.old[o]) != 1 || bodyOf(r.old[o]) != bodyOf(r.words[n]) {
			return -1
		}
		id = bodyOf(r.words[n])
		o, n = o+1, n+1
	}
}

// stream writes the ops of the stream of the new rendering at pos.
func (e *encoder) stream(pos int, whole bool) {
	s := e.new.streamAt(pos)
	// Whoever begins to follow later may get rows in a full frame that have other bodies inside.
	for _, id := range e.t.bodies[s.body].reach {
		e.require(id)
	}
	rows := *e
	rows.new = e.new.rows
	rows.dst = append(rows.dst, `{"o":[`...)
	at := s.at + 1
	first := true
	open := func(kind OpKind) {
		if !first {
			rows.dst = append(rows.dst, ',')
		}
		first = false
		rows.dst = append(rows.dst, '[')
		rows.int(int(kind))
	}
	if whole && (len(s.ops) == 0 || s.ops[0].Kind != StreamReset) {
		open(StreamReset)
		rows.dst = append(rows.dst, ']')
	}
	for _, op := range s.ops {
		open(op.Kind)
		switch op.Kind {
		case StreamDelete:
			for _, id := range op.IDs {
				rows.dst = appendString(append(rows.dst, ','), []byte(id))
			}
		case StreamInsert:
			for _, n := range []int{s.body, max(op.At, -1), op.Limit} {
				rows.dst = append(rows.dst, ',')
				rows.int(n)
			}
		case StreamUpdate:
			rows.dst = append(rows.dst, ',')
			rows.int(s.body)
		}
		for range op.Rows {
			rows.dst = append(rows.dst, ',')
			at = rows.row(at, s.body)
		}
		rows.dst = append(rows.dst, ']')
	}
	e.dst, e.need = append(rows.dst, "]}"...), rows.need
}

// reach returns the body and all that its rows may hold.
func (t *Template) reach(id int) []int {
	all := []int{id}
	for i := 0; i < len(all); i++ {
		for _, inner := range t.bodies[all[i]].inner {
			if !slices.Contains(all, inner) {
				all = append(all, inner)
			}
		}
	}
	return all
}

func (r *recorder) streamAt(place int) *stream {
	i, _ := slices.BinarySearchFunc(r.streams, place, func(s stream, place int) int { return s.place - place })
	return &r.streams[i]
}
