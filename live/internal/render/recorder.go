package render

import (
	"bytes"
	"errors"
	"hash/maphash"
	"html/template"
	"io"
	"sync"
)

// recorder is the writer that a template executes into. It keeps one rendering as a flat run of words in
// the order of the page: the root row, where a row is one word for each slot, the hash of a leaf, or the
// header of a group followed by its rows. Nothing but the words has to outlive the frame.
type recorder struct {
	t      *Template
	words  []uint64
	ends   []int  // by word: where its bytes end in arena; they begin where those before end
	arena  []byte // the bytes of all leaves
	open   []int  // the headers of the groups that are open
	opaque int    // how many control actions are open inside an opaque one, itself included
	begun  bool
	wrong  bool // a write came that no tree of ours can cause

	old       []uint64 // what the client has, nil when it has nothing
	streams   []stream
	rows      *recorder // the rows of all streams, one group behind the other
	streaming bool      // a stream is open
	said      bool      // it was told ops
	scratch   []byte
	err       error
}

// header packs the body and the number of the rows that follow it.
func header(body, rows int) uint64 { return uint64(body)<<32 | uint64(rows) }

func bodyOf(h uint64) int { return int(h >> 32) }
func rowsOf(h uint64) int { return int(h & (1<<32 - 1)) }

var errShape = errors.New("render: html/template wrote in an unexpected order")

// record executes the template for data.
func (r *recorder) record(data any) error {
	r.words, r.ends, r.arena, r.open = r.words[:0], r.ends[:0], r.arena[:0], r.open[:0]
	r.opaque, r.begun, r.wrong = 0, false, false
	clear(r.streams)
	r.streams, r.streaming, r.said, r.err = r.streams[:0], false, false, nil
	if r.rows != nil {
		r.rows.words, r.rows.ends, r.rows.arena, r.rows.open = r.rows.words[:0], r.rows.ends[:0], r.rows.arena[:0], r.rows.open[:0]
		r.rows.opaque, r.rows.wrong = 0, false
	}
	if r.t.split == nil {
		if err := r.t.plain.Execute(arenaWriter{r}, data); err != nil {
			return err
		}
		r.leaf()
		return r.err
	}
	if err := r.t.split.Execute(r, data); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	if r.wrong || !r.begun || len(r.open) > 0 || r.opaque > 0 {
		return errShape
	}
	return nil
}

// Write takes one write of the template. It never fails.
func (r *recorder) Write(p []byte) (int, error) {
	if r.streaming {
		r.rows.Write(p)
		if len(r.rows.open) == 0 {
			r.wrong = r.wrong || r.rows.wrong
			r.closeStream()
		}
		return len(p), nil
	}
	var e event
	if len(p) > 0 {
		e = r.t.events[&p[0]]
	}
	if r.opaque > 0 {
		r.inside(e, p)
		return len(p), nil
	}
	switch e.kind {
	case writesDynamic:
		r.arena = append(r.arena, p...)
		r.leaf()
	case writesEnter:
		switch {
		case len(r.open) > 0:
			h := &r.words[r.open[len(r.open)-1]]
			*h = header(e.body, rowsOf(*h)+1)
		case r.begun || e.body != 0:
			r.wrong = true
		default:
			r.begun = true
		}
	case writesOpen:
		r.openGroup()
	case writesStream:
		r.openStream(e.body)
	case writesOpaque:
		r.opaque = 1
	case writesClose:
		if len(r.open) == 0 {
			r.wrong = true
			break
		}
		r.open = r.open[:len(r.open)-1]
	}
	return len(p), nil
}

func (r *recorder) openGroup() {
	r.open = append(r.open, len(r.words))
	r.words = append(r.words, 0)
	r.ends = append(r.ends, len(r.arena))
}

// inside takes a write between the markers of an opaque action, where all text is part of one dynamic.
// Templates called in there may bring markers of their own; those are always in pairs.
func (r *recorder) inside(e event, p []byte) {
	switch e.kind {
	case writesDynamic, writesStatic:
		r.arena = append(r.arena, p...)
	case writesOpen, writesOpaque:
		r.opaque++
	case writesClose:
		if r.opaque--; r.opaque == 0 {
			r.leaf()
		}
	}
}

// leaf ends a dynamic with the bytes written since the last one.
func (r *recorder) leaf() {
	r.words = append(r.words, maphash.Bytes(r.t.seed, r.arena[r.end(len(r.words)):]))
	r.ends = append(r.ends, len(r.arena))
}

// end returns where the bytes of word i begin.
func (r *recorder) end(i int) int {
	if i == 0 {
		return 0
	}
	return r.ends[i-1]
}

// text returns the bytes of word i.
func (r *recorder) text(i int) []byte { return r.arena[r.end(i):r.ends[i]] }

// html appends the page that statics and dynamics make up again.
func (r *recorder) html(dst []byte) []byte {
	dst, _ = r.row(dst, 0, 0)
	return dst
}

func (r *recorder) row(dst []byte, pos, id int) ([]byte, int) {
	b := r.t.bodies[id]
	for i, kind := range b.slots {
		dst = append(dst, b.statics[i]...)
		at := pos
		pos++
		if kind == leafSlot {
			dst = append(dst, r.text(at)...)
			continue
		}
		for range rowsOf(r.words[at]) {
			dst, pos = r.row(dst, pos, bodyOf(r.words[at]))
		}
	}
	return append(dst, b.statics[len(b.slots)]...), pos
}

type arenaWriter struct{ r *recorder }

func (w arenaWriter) Write(p []byte) (int, error) {
	w.r.arena = append(w.r.arena, p...)
	return len(p), nil
}

const probe = `{{define "p"}}<q title="{{.}}">{{.}}</q>{{end}}<ul class="a {{template "c" .S}}">{{range $i, $e := .L}}` +
	`<li id="i{{$i}}">{{if $e}}{{template "p" $e}}{{else}}-{{end}}</li>{{else}}none{{end}}</ul>` +
	`{{with .S}}{{.}}{{end}}{{range .L}}{{break}}{{end}}<script>var s = {{.S}}</script>{{define "c"}}{{.}}{{end}}`

// canSplit tests once in the life of the process that html/template writes as this package expects.
var canSplit = sync.OnceValue(func() bool {
	return splits(func(w io.Writer) io.Writer { return w })
})

// splits reports whether a page that reaches the recorder through wrap is split rightly: it must come out
// the same, have the expected number of words, and hold no static text among its dynamics.
func splits(wrap func(io.Writer) io.Writer) (ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	t, err := newTemplate(template.Must(template.New("probe").Parse(probe)), true)
	if err != nil {
		return false
	}
	data := map[string]any{"S": `<"s">`, "L": []string{"x", "", "&"}}
	var want bytes.Buffer
	if err := t.Execute(&want, data); err != nil {
		return false
	}
	r := &recorder{t: t}
	if err := t.split.Execute(wrap(r), data); err != nil || r.wrong || !r.begun || len(r.open) > 0 || r.opaque > 0 {
		return false
	}
	// Five slots of the root; three rows of an id and a branch; in two of them a call and its two leaves, since
	// one element is empty and prints no dynamic; one leaf in the branch of with.
	const words = 5 + 3*2 + 2*(1+2) + 1
	return len(r.words) == words && bytes.Equal(r.html(nil), want.Bytes())
}
