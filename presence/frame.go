package presence

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// A frame is
//
//	version 1 byte, kind 1 byte, node, incarnation, then
//	delta     lo, hi, hi-lo changes: ref, 0 | ref, 1, topic, key, meta
//	snapshot  seq, part, parts, count, entries: ref, seq, topic, key, meta
//	request   incarnation wanted, seq the sender has
//	bye       nothing
//
// where numbers are unsigned varints, strings have their length before them and
// refs are 16 bytes. The changes of a delta are those that made seq lo+1, lo+2 … hi.
const frameVersion = 1

const (
	kindDelta byte = iota + 1
	kindSnapshot
	kindRequest
	kindBye
)

// maxParts bounds the parts of a snapshot, and thereby what a partial one may hold.
const maxParts = 4096

var errFrame = errors.New("presence: bad frame")

type frame struct {
	kind          byte
	node          string
	inc           uint64
	lo, hi        uint64   // delta; a snapshot has hi only
	changes       []change // delta and snapshot
	part, parts   int      // snapshot
	wantInc, have uint64   // request
}

func (f *frame) encode() []byte {
	b := []byte{frameVersion, f.kind}
	b = appendString(b, f.node)
	b = binary.AppendUvarint(b, f.inc)
	switch f.kind {
	case kindDelta:
		b = binary.AppendUvarint(b, f.lo)
		b = binary.AppendUvarint(b, f.hi)
	case kindSnapshot:
		b = binary.AppendUvarint(b, f.hi)
		b = binary.AppendUvarint(b, uint64(f.part))
		b = binary.AppendUvarint(b, uint64(f.parts))
		b = binary.AppendUvarint(b, uint64(len(f.changes)))
	case kindRequest:
		b = binary.AppendUvarint(b, f.wantInc)
		b = binary.AppendUvarint(b, f.have)
	}
	for _, c := range f.changes {
		b = append(b, c.ref[:]...)
		switch {
		case f.kind == kindSnapshot:
			b = binary.AppendUvarint(b, c.entry.seq)
		case c.set:
			b = append(b, 1)
		default:
			b = append(b, 0)
			continue
		}
		b = appendString(b, c.entry.topic)
		b = appendString(b, c.entry.key)
		b = appendString(b, c.entry.meta)
	}
	return b
}

// cut encodes f with the changes in as many frames as it takes for none to be
// longer than limit. There is always at least one.
func (f frame) cut(changes []change, limit int) [][]byte {
	const overhead = 2 + MaxNameBytes + 6*binary.MaxVarintLen64 // of a frame without changes
	var groups [][]change
	start, size := 0, overhead
	for i, c := range changes {
		n := len(c.ref) + 4*binary.MaxVarintLen64 + len(c.entry.topic) + len(c.entry.key) + len(c.entry.meta)
		if size+n > limit {
			groups = append(groups, changes[start:i])
			start, size = i, overhead
		}
		size += n
	}
	groups = append(groups, changes[start:])
	out := make([][]byte, 0, len(groups))
	f.parts = len(groups)
	for i, group := range groups {
		f.part, f.changes = i, group
		if f.kind == kindDelta {
			f.hi = f.lo + uint64(len(group))
		}
		out = append(out, f.encode())
		f.lo = f.hi
	}
	return out
}

// decode returns the frame or an error that says what is wrong with it. It allocates
// in proportion to the length of b, whatever b claims to hold.
func decode(b []byte) (*frame, error) {
	if len(b) > MaxFrameBytes {
		return nil, fmt.Errorf("%w: longer than %d bytes", errFrame, MaxFrameBytes)
	}
	r := reader{b: b}
	if v := r.byte(); r.err == nil && v != frameVersion {
		return nil, fmt.Errorf("%w: version %d, want %d", errFrame, v, frameVersion)
	}
	f := &frame{kind: r.byte(), node: r.name("node"), inc: r.uint()}
	switch f.kind {
	case kindDelta:
		f.lo, f.hi = r.uint(), r.uint()
		if f.lo > f.hi {
			r.fail("delta from %d to %d", f.lo, f.hi)
		}
		for seq := f.lo; seq < f.hi && r.err == nil; seq++ {
			c := change{ref: r.ref()}
			switch flag := r.byte(); flag {
			case 0:
			case 1:
				c.set, c.entry = true, r.entry()
			default:
				r.fail("change with flag %d", flag)
			}
			f.changes = append(f.changes, c)
		}
	case kindSnapshot:
		f.hi = r.uint()
		part, parts, n := r.uint(), r.uint(), r.uint()
		if parts > maxParts || part >= parts {
			r.fail("part %d of %d", part, parts)
		}
		f.part, f.parts = int(part), int(parts)
		seen := map[Ref]bool{}
		for ; n > 0 && r.err == nil; n-- {
			c := change{ref: r.ref(), set: true}
			seq := r.uint()
			c.entry = r.entry()
			c.entry.seq = seq
			if seq == 0 || seq > f.hi || seen[c.ref] {
				r.fail("entry %v of seq %d in a snapshot of %d", c.ref, seq, f.hi)
			}
			seen[c.ref] = true
			f.changes = append(f.changes, c)
		}
	case kindRequest:
		f.wantInc, f.have = r.uint(), r.uint()
	case kindBye:
	default:
		r.fail("kind %d", f.kind)
	}
	if len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	return f, nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// reader reads what is left of a frame; after an error everything is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: "+format, append([]any{errFrame}, args...)...)
	}
	r.b = nil
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("it ends early")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) ref() (ref Ref) {
	copy(ref[:], r.take(uint64(len(ref))))
	return ref
}

func (r *reader) name(what string) string {
	s := string(r.take(r.uint()))
	if r.err == nil {
		if err := checkName(what, s); err != nil {
			r.fail("%w", err)
		}
	}
	return s
}

func (r *reader) entry() (e entry) {
	e.topic, e.key = r.name("topic"), r.name("key")
	meta := r.take(r.uint())
	if r.err == nil && (len(meta) > MaxMetaBytes || !json.Valid(meta)) {
		r.fail("meta of %d bytes is too long or no JSON", len(meta))
	}
	e.meta = string(meta)
	return e
}
