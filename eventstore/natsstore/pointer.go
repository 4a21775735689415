package natsstore

import (
	"errors"
	"math/bits"
	"strconv"
	"strings"
)

// A history tells where earlier events of a stream lie in the log, so that a
// stream is loaded without the server searching the log for its subject. Every
// message has the history before it in its headers.
//
//	near   the last 16 versions: top, top-1, top-2 …
//	far    of the versions at or below top that are multiples of 32 the last,
//	       of 64 the last, of 128 the last …, each once
//
// The far ones make it a skip list: with them, reading any n events of a stream
// of m takes about log(m) + log(n) round trips, not n/16. The history after an
// event follows from the event's own alone, so that an appender needs no other
// message than the stream's last.
type history struct {
	top  uint64 // the version that near begins with; 0 if there is none
	near []uint64
	far  []pointer // descending; each is a multiple of a higher power of 2 than the one before
}

// A pointer is the position of an event of a known version.
type pointer struct{ version, seq uint64 }

const (
	nearPointers = 16
	farEvery     = 32
)

// push returns the history after the event of version h.top+1 at seq.
func (h history) push(seq uint64) history {
	v := h.top + 1
	near := make([]uint64, 0, nearPointers)
	near = append(near, seq)
	near = append(near, h.near[:min(len(h.near), nearPointers-1)]...)
	return history{top: v, near: near, far: pushFar(h.far, pointer{v, seq})}
}

// pushFar adds a pointer to the far ones if it is one. Those that are multiples
// of no higher power of 2 are no longer the last of any.
func pushFar(far []pointer, p pointer) []pointer {
	if p.version%farEvery != 0 {
		return far
	}
	zeros := bits.TrailingZeros64(p.version)
	list := []pointer{p}
	for i, q := range far {
		if bits.TrailingZeros64(q.version) > zeros && q.version < p.version {
			return append(list, far[i:]...)
		}
	}
	return list
}

// pushAll returns the history after n events that lie at seq, seq+1 ….
func (h history) pushAll(seq uint64, n int) history {
	top := h.top + uint64(n)
	near := make([]uint64, 0, nearPointers)
	for i := n - 1; i >= 0 && len(near) < nearPointers; i-- {
		near = append(near, seq+uint64(i))
	}
	near = append(near, h.near[:min(len(h.near), nearPointers-len(near))]...)
	far := h.far
	for v := (h.top/farEvery + 1) * farEvery; v <= top; v += farEvery {
		far = pushFar(far, pointer{v, seq + v - h.top - 1})
	}
	return history{top: top, near: near, far: far}
}

// from drops the pointers to versions below first.
func (h history) from(first uint64) history {
	if first > h.top {
		return history{top: h.top}
	}
	if keep := h.top - first + 1; uint64(len(h.near)) > keep {
		h.near = h.near[:keep]
	}
	for i, p := range h.far {
		if p.version < first {
			h.far = h.far[:i:i]
			break
		}
	}
	return h
}

// each calls f with every pointer.
func (h history) each(f func(pointer)) {
	for i, seq := range h.near {
		f(pointer{h.top - uint64(i), seq})
	}
	for _, p := range h.far {
		f(p)
	}
}

// text encodes h but for its top: near as a number and the differences from each
// to the next, far as version.number.
func (h history) text() string {
	if len(h.near) == 0 && len(h.far) == 0 {
		return ""
	}
	b := make([]byte, 0, 128)
	for i, seq := range h.near {
		if i > 0 {
			b = append(b, ' ')
			seq = h.near[i-1] - seq
		}
		b = strconv.AppendUint(b, seq, 10)
	}
	b = append(b, ';')
	for i, p := range h.far {
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, p.version, 10)
		b = append(b, '.')
		b = strconv.AppendUint(b, p.seq, 10)
	}
	return string(b)
}

var errPointers = errors.New("malformed back pointers")

// parseHistory is the inverse of text.
func parseHistory(top uint64, text string) (history, error) {
	h := history{top: top}
	if text == "" {
		return h, nil
	}
	near, far, ok := strings.Cut(text, ";")
	if !ok {
		return history{}, errPointers
	}
	if near != "" {
		for t := range strings.SplitSeq(near, " ") {
			n, err := strconv.ParseUint(t, 10, 64)
			if last := len(h.near); last > 0 {
				if n >= h.near[last-1] {
					return history{}, errPointers
				}
				n = h.near[last-1] - n
			}
			if err != nil || n == 0 || len(h.near) == nearPointers || uint64(len(h.near)) == top || len(h.near) > 0 && n >= h.near[len(h.near)-1] {
				return history{}, errPointers
			}
			h.near = append(h.near, n)
		}
	}
	if far != "" {
		for t := range strings.SplitSeq(far, " ") {
			v, s, ok := strings.Cut(t, ".")
			version, err1 := strconv.ParseUint(v, 10, 64)
			seq, err2 := strconv.ParseUint(s, 10, 64)
			if !ok || err1 != nil || err2 != nil || version == 0 || version > top || version%farEvery != 0 || seq == 0 || len(h.far) == 64 {
				return history{}, errPointers
			}
			h.far = append(h.far, pointer{version, seq})
		}
	}
	return h, nil
}
