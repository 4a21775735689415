package wire

import (
	"encoding/json"
	"strconv"
	"time"
)

// Body is what an update or a mount tells the page. Its zero value says nothing.
type Body struct {
	Frame    []byte // of the view, see package render; empty without
	Before   []Push // handed out before the frame is applied
	After    []Push // handed out after it
	Replies  []Reply
	Title    *string
	URL      string // what the URL of the page is now, "" when it stays
	Replace  bool   // the URL is put in place of the newest in the history
	Position uint64 // 0 without
}

// Empty reports whether the body says nothing.
func (b *Body) Empty() bool {
	return len(b.Frame) == 0 && len(b.Before) == 0 && len(b.After) == 0 && len(b.Replies) == 0 &&
		b.Title == nil && b.URL == "" && b.Position == 0
}

// Push is an event for the page.
type Push struct {
	Event   string
	Payload json.RawMessage
}

// Reply is the answer to the event of a hook.
type Reply struct {
	Ref   uint64
	Value json.RawMessage
}

// AppendUpdate appends an update that acknowledges refs.
func AppendUpdate(dst []byte, acks []uint64, b *Body) []byte {
	dst = append(dst, '[')
	switch len(acks) {
	case 0:
		dst = append(dst, '0')
	case 1:
		dst = strconv.AppendUint(dst, acks[0], 10)
	default:
		dst = append(dst, '[')
		for i, ack := range acks {
			dst = comma(dst, i)
			dst = strconv.AppendUint(dst, ack, 10)
		}
		dst = append(dst, ']')
	}
	end := len(dst)
	dst = append(dst, ',', '{')
	start := len(dst)
	if dst = b.appendTo(dst); len(dst) == start {
		return append(dst[:end], ']')
	}
	return append(dst, '}', ']')
}

// AppendMount appends that a view was mounted, for the join or the navigation ref, or for 0.
func AppendMount(dst []byte, ref uint64, b *Body) []byte {
	dst = append(dst, `["j",`...)
	dst = strconv.AppendUint(dst, ref, 10)
	dst = append(dst, ',', '{')
	dst = b.appendTo(dst)
	return append(dst, '}', ']')
}

// AppendRegion appends what brings a region from one version to another, from 0 a full frame.
func AppendRegion(dst []byte, name string, from, to uint64, frame []byte) []byte {
	dst = append(dst, `["g",`...)
	dst = appendString(dst, name)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, from, 10)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, to, 10)
	dst = append(dst, ',')
	dst = append(dst, frame...)
	return append(dst, ']')
}

// AppendLeave appends that the page must load a URL over HTTP.
func AppendLeave(dst []byte, url string) []byte {
	return append(appendString(append(dst, `["l",`...), url), ']')
}

// AppendStale appends that the token of a join is not accepted.
func AppendStale(dst []byte) []byte { return append(dst, `["s"]`...) }

// AppendBye appends that the connection ends and when the client may come back, rounded up to milliseconds.
func AppendBye(dst []byte, after time.Duration) []byte {
	dst = append(dst, `["b",`...)
	dst = strconv.AppendInt(dst, int64((max(after, 0)+time.Millisecond-1)/time.Millisecond), 10)
	return append(dst, ']')
}

// appendTo appends the members of the body, without braces.
func (b *Body) appendTo(dst []byte) []byte {
	n := 0
	key := func(k string) {
		dst = comma(dst, n)
		n++
		dst = append(dst, '"')
		dst = append(dst, k...)
		dst = append(dst, '"', ':')
	}
	if len(b.Frame) > 0 {
		key("d")
		dst = append(dst, b.Frame...)
	}
	for _, pushes := range []struct {
		key  string
		list []Push
	}{{"f", b.Before}, {"e", b.After}} {
		for i, p := range pushes.list {
			if i == 0 {
				key(pushes.key)
				dst = append(dst, '[')
			}
			dst = comma(dst, i)
			dst = appendString(append(dst, '['), p.Event)
			dst = append(dst, ',')
			dst = append(dst, p.Payload...)
			dst = append(dst, ']')
			if i == len(pushes.list)-1 {
				dst = append(dst, ']')
			}
		}
	}
	for i, r := range b.Replies {
		if i == 0 {
			key("r")
			dst = append(dst, '[')
		}
		dst = comma(dst, i)
		dst = strconv.AppendUint(append(dst, '['), r.Ref, 10)
		dst = append(dst, ',')
		dst = append(dst, r.Value...)
		dst = append(dst, ']')
		if i == len(b.Replies)-1 {
			dst = append(dst, ']')
		}
	}
	if b.Title != nil {
		key("t")
		dst = appendString(dst, *b.Title)
	}
	if b.URL != "" {
		key("u")
		dst = appendString(append(dst, '['), b.URL)
		dst = append(dst, ',', '0', ']')
		if b.Replace {
			dst[len(dst)-2] = '1'
		}
	}
	if b.Position > 0 {
		key("v")
		dst = strconv.AppendUint(append(dst, '"'), b.Position, 10)
		dst = append(dst, '"')
	}
	return dst
}

func comma(dst []byte, i int) []byte {
	if i > 0 {
		return append(dst, ',')
	}
	return dst
}

// appendString appends s as a JSON string, with U+FFFD for each byte that is not UTF-8.
func appendString(dst []byte, s string) []byte {
	quoted, _ := json.Marshal(s) // a string is never an error
	return append(dst, quoted...)
}
