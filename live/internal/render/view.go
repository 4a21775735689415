package render

import (
	"errors"
	"slices"
	"strconv"
	"unicode/utf8"
)

// View remembers what one client was last told of one template, as one hash of 64 bits for each dynamic, and one of
// 63 for each stream. A change goes unnoticed with a probability of 2⁻⁶⁴ or 2⁻⁶³. A View must not be used by two goroutines at the same time.
type View struct {
	t     *Template
	words []uint64 // of the last frame
	begun bool     // whether there was one
	sent  []bool   // by body: whether the client has its texts

	rendering *recorder // while Frame or Full executes the template
}

// Frame renders data and appends to dst the frame that brings the client from the last frame to data. It
// appends nothing when nothing changed. The caller must deliver the frames in order and all of them, or call
// [View.Reset]. When the template fails, the error is the one of html/template and the view stays as it was.
func (v *View) Frame(dst []byte, data any) ([]byte, error) {
	r := v.t.pool.Get().(*recorder)
	defer v.t.pool.Put(r)
	var old []uint64
	if v.begun {
		old = v.words
	}
	if err := v.record(r, data, old); err != nil {
		return dst, err
	}
	if v.begun && slices.Equal(v.words, r.words) {
		return dst, nil
	}
	e := encoder{t: v.t, full: !v.begun, old: v.words, new: r, sent: v.sent, dst: dst}
	e.frame()
	if cap(v.words) < len(r.words) || cap(v.words) > 2*len(r.words) {
		v.words = make([]uint64, 0, len(r.words))
	}
	v.words = append(v.words[:0], r.words...)
	v.begun = true
	return e.dst, nil
}

// Full renders data, which must be what was last passed to [View.Frame], and appends to dst a full frame for
// another client that follows the view from here on: the frames to come fit both. For it holds the texts of all
// bodies that were ever sent through the view. The view stays as it was. It is an error when there was no Frame,
// and when data renders differently from then; what streams hold is not compared.
func (v *View) Full(dst []byte, data any) ([]byte, error) {
	if !v.begun {
		return dst, errors.New("render: no frame was rendered that another client could follow")
	}
	r := v.t.pool.Get().(*recorder)
	defer v.t.pool.Put(r)
	if err := v.record(r, data, nil); err != nil {
		return dst, err
	}
	for _, s := range r.streams {
		if s.place < len(v.words) {
			r.words[s.place] = v.words[s.place]
		}
	}
	if !slices.Equal(v.words, r.words) {
		return dst, errors.New("render: the data renders differently from the last frame")
	}
	e := encoder{t: v.t, full: true, new: r, sent: v.sent, dst: dst} // what it needs was sent
	for id, sent := range v.sent {
		if sent {
			e.need = append(e.need, id)
		}
	}
	e.frame()
	return e.dst, nil
}

// record renders data for a client that has old.
func (v *View) record(r *recorder, data any, old []uint64) error {
	r.old, v.rendering = old, r
	defer func() { r.old, v.rendering = nil, nil }()
	return r.record(data)
}

// Reset forgets what the client was told, so that the next frame is a full one.
func (v *View) Reset() {
	v.begun = false
	clear(v.sent)
}

// encoder writes one frame.
type encoder struct {
	t    *Template
	full bool
	old  []uint64
	new  *recorder
	sent []bool
	need []int // the bodies whose texts this frame has to bring
	dst  []byte
}

func (e *encoder) frame() {
	start := len(e.dst)
	if e.full {
		e.require(0)
		e.dst = append(e.dst, `{"d":`...)
		e.row(0, 0)
	} else {
		e.dst = append(e.dst, `{"p":`...)
		e.patch(0, 0, 0)
		if len(e.need) == 0 {
			e.dst = append(e.dst[:start], e.dst[start+len(`{"p":`):]...)
			return
		}
	}
	e.dst = append(e.dst, `,"s":[`...)
	for i, id := range e.need {
		e.comma(i)
		e.dst = append(e.dst, e.t.bodies[id].sent...)
	}
	e.dst = append(e.dst, ']', '}')
}

func (e *encoder) int(n int) { e.dst = strconv.AppendInt(e.dst, int64(n), 10) }

func (e *encoder) comma(i int) {
	if i > 0 {
		e.dst = append(e.dst, ',')
	}
}

func (e *encoder) require(id int) {
	if !e.sent[id] {
		e.sent[id] = true
		e.need = append(e.need, id)
	}
}

// forget takes back what was written and required since a mark.
func (e *encoder) forget(dst, need int) {
	e.dst = e.dst[:dst]
	for _, id := range e.need[need:] {
		e.sent[id] = false
	}
	e.need = e.need[:need]
}

// row writes the row of the new rendering at pos and returns where the next one begins.
func (e *encoder) row(pos, id int) int {
	e.dst = append(e.dst, '[')
	for i, kind := range e.t.bodies[id].slots {
		e.comma(i)
		switch kind {
		case leafSlot:
			e.dst = appendString(e.dst, e.new.text(pos))
			pos++
		case groupSlot:
			pos = e.group(pos)
		case streamSlot:
			e.stream(pos, true)
			pos++
		}
	}
	e.dst = append(e.dst, ']')
	return pos
}

// group writes the group of the new rendering at pos and returns the position behind it.
func (e *encoder) group(pos int) int {
	h := e.new.words[pos]
	pos++
	if rowsOf(h) == 0 {
		e.dst = append(e.dst, '0')
		return pos
	}
	e.require(bodyOf(h))
	e.dst = append(e.dst, '[')
	e.int(bodyOf(h))
	for range rowsOf(h) {
		e.dst = append(e.dst, ',')
		pos = e.row(pos, bodyOf(h))
	}
	e.dst = append(e.dst, ']')
	return pos
}

// patch writes how the old row at o became the new row at n.
func (e *encoder) patch(o, n, id int) {
	e.dst = append(e.dst, '[')
	written := 0
	for i, kind := range e.t.bodies[id].slots {
		oEnd, nEnd := o+1, n+1
		if kind == groupSlot {
			oEnd, nEnd = e.t.groupEnd(e.old, o), e.t.groupEnd(e.new.words, n)
		}
		if !slices.Equal(e.old[o:oEnd], e.new.words[n:nEnd]) {
			e.comma(written)
			written++
			e.int(i)
			e.dst = append(e.dst, ',')
			switch oh, nh := e.old[o], e.new.words[n]; {
			case kind == leafSlot:
				e.dst = appendString(e.dst, e.new.text(n))
			case kind == streamSlot:
				e.stream(n, false)
			case rowsOf(oh) == 0 || rowsOf(nh) == 0 || bodyOf(oh) != bodyOf(nh):
				e.group(n)
			default:
				e.change(o, n)
			}
		}
		o, n = oEnd, nEnd
	}
	e.dst = append(e.dst, ']')
}

// change writes how the rows of a group changed, as an edit or, when that is shorter, as the group itself.
func (e *encoder) change(o, n int) {
	dst, need := len(e.dst), len(e.need)
	e.edit(o, n)
	end := e.t.groupEnd(e.new.words, n)
	size := len(e.dst) - dst
	// A group would begin the streams in it anew. No group is shorter than the bytes of its leaves.
	if e.t.bodies[bodyOf(e.new.words[n])].streams || size <= e.new.ends[end-1]-e.new.ends[n] {
		return
	}
	edited := string(e.dst[dst:])
	edits := slices.Clone(e.need[need:])
	e.forget(dst, need)
	e.group(n)
	if len(e.dst)-dst < size {
		return
	}
	e.forget(dst, need)
	for _, id := range edits {
		e.require(id)
	}
	e.dst = append(e.dst, edited...)
}

// groupEnd returns the position behind the group at pos.
func (t *Template) groupEnd(words []uint64, pos int) int {
	h := words[pos]
	pos++
	if b := t.bodies[bodyOf(h)]; b.flat {
		return pos + rowsOf(h)*len(b.slots)
	}
	for range rowsOf(h) {
		pos = t.rowEnd(words, pos, bodyOf(h))
	}
	return pos
}

// rowEnd returns the position behind the row at pos.
func (t *Template) rowEnd(words []uint64, pos, id int) int {
	b := t.bodies[id]
	if b.flat {
		return pos + len(b.slots)
	}
	for _, kind := range b.slots {
		if kind == groupSlot {
			pos = t.groupEnd(words, pos)
		} else {
			pos++
		}
	}
	return pos
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, with U+FFFD for each byte that is not UTF-8. It escapes nothing that
// JSON does not require, since a frame is parsed as JSON and never stands in a page.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}
