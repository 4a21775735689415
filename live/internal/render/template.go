package render

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"
	"text/template/parse"
)

// Template is an html/template prepared for change tracking. It is safe for concurrent use.
type Template struct {
	plain  *template.Template // as the author wrote it
	split  *template.Template // with markers; nil when the whole page is one dynamic
	events map[*byte]event    // by the first byte of a static text or a marker
	bodies []*body
	seed   maphash.Seed
	pool   sync.Pool // of *recorder
}

// New prepares t. It works on a copy, so that t stays as it is and may be executed afterwards. It fails when
// t has been executed before, is empty, or does not escape; the error is the one of html/template, wrapped. It
// also fails when an element with live-update="stream" has no fixed id, or one that comes more than once; holds
// anything but white space and one range, without else, break or continue, whose rows are one element with an
// id each; stands in a range, in a template element, an svg or a math; or stands behind elements that one branch
// of an action leaves open and another does not.
func New(t *template.Template) (*Template, error) {
	return newTemplate(t, canSplit())
}

func newTemplate(t *template.Template, split bool) (*Template, error) {
	if t == nil || t.Tree == nil || t.Tree.Root == nil {
		return nil, errors.New("render: the template is empty")
	}
	plain, err := escaped(t)
	if err != nil {
		return nil, err
	}
	p := &Template{plain: plain, events: map[*byte]event{}, seed: maphash.MakeSeed()}
	p.pool.New = func() any { return &recorder{t: p} }
	if !split {
		page := &body{statics: []string{"", ""}, slots: []slotKind{leafSlot}, key: -1, flat: true}
		page.sent = page.encode(0, &finding{})
		p.bodies = []*body{page}
		return p, nil
	}
	if p.split, err = escaped(t); err != nil {
		return nil, err
	}
	w := weaver{t: p, roots: map[string]int{}, lists: map[*parse.ListNode]int{}}
	w.template(p.split.Name())
	if err := w.shapes(); err != nil {
		return nil, err
	}
	for id, b := range p.bodies {
		b.streams = slices.ContainsFunc(p.reach(id), func(id int) bool {
			return slices.Contains(p.bodies[id].slots, streamSlot)
		})
		b.key = -1
		if !b.streams { // a row that goes on as another would lose its stream
			b.key = w.keyOf(b, nil)
		}
	}
	return p, nil
}

// Execute writes the whole page for data to w, byte for byte as html/template does.
func (t *Template) Execute(w io.Writer, data any) error {
	return t.plain.Execute(w, data)
}

// NewView returns the view of a client that has been sent nothing yet.
func (t *Template) NewView() *View {
	return &View{t: t, sent: make([]bool, len(t.bodies))}
}

var errStop = errors.New("stop")

type stopWriter struct{}

func (stopWriter) Write([]byte) (int, error) { return 0, errStop }

// escaped returns a copy of t whose tree has been escaped, without running any of its actions: a text
// in front makes the execution fail at once. Escaping starts at the root, since a template that is only
// whole inside another one cannot be escaped by itself.
func escaped(t *template.Template) (*template.Template, error) {
	c, err := t.Clone()
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	root := c.Tree.Root
	front := &parse.TextNode{NodeType: parse.NodeText, Text: []byte(" ")}
	root.Nodes = append([]parse.Node{front}, root.Nodes...)
	if err := c.Execute(stopWriter{}, nil); !errors.Is(err, errStop) {
		return nil, fmt.Errorf("render: %w", err)
	}
	root.Nodes = root.Nodes[1:]
	return c, nil
}

// body is one list of nodes.
type body struct {
	statics []string // one more than there are slots
	slots   []slotKind
	inner   []int  // the bodies that its groups and streams may hold
	reach   []int  // of a row of a stream: the body, and what it may hold at any depth
	sent    []byte // the statics as they stand in a frame
	key     int    // the word of a row that identifies it, -1 when there is none
	flat    bool   // no slot holds a group
	streams bool   // there is a stream in it, or in what it holds; it has one row at most then
	idSlot  int    // the slot inside the id of the first tag, -1 when there is none
	first   string // the template that is called before anything is printed, if any
}

type slotKind byte

const (
	leafSlot   slotKind = iota // one word: a hash
	groupSlot                  // a header, then rows
	streamSlot                 // one word, see [View.Ops]
)

// The kinds of writes. The zero kind is a dynamic: its slice is none of the tree's.
const (
	writesDynamic = iota
	writesStatic
	writesEnter  // a body begins
	writesOpen   // a control action begins
	writesOpaque // a control action begins that is one dynamic
	writesStream // a range begins that is a stream
	writesClose  // a control action ends
)

type event struct {
	kind int
	body int // of writesEnter and writesStream
}

// weaver puts markers between the nodes of an escaped tree.
type weaver struct {
	t     *Template
	roots map[string]int // the bodies of templates
	lists map[*parse.ListNode]int
}

func (w *weaver) template(name string) {
	if _, ok := w.roots[name]; ok {
		return
	}
	w.roots[name] = len(w.t.bodies)
	w.list(w.t.split.Lookup(name).Tree.Root)
}

func (w *weaver) marker(e event) *parse.TextNode {
	text := []byte{0}
	w.t.events[&text[0]] = e
	return &parse.TextNode{NodeType: parse.NodeText, Text: text}
}

// list makes l a body and returns its id, or -1 when there is none.
func (w *weaver) list(l *parse.ListNode) int {
	if l == nil {
		return -1
	}
	id := len(w.t.bodies)
	w.lists[l] = id
	b := &body{idSlot: -1, flat: true}
	w.t.bodies = append(w.t.bodies, b)
	out := []parse.Node{w.marker(event{kind: writesEnter, body: id})}
	var text, head strings.Builder
	slot := func(kind slotKind) {
		b.statics = append(b.statics, text.String())
		b.slots = append(b.slots, kind)
		b.flat = b.flat && kind != groupSlot
		text.Reset()
	}
	control := func(n parse.Node, opaque bool, lists ...*parse.ListNode) {
		e := event{kind: writesOpen}
		if opaque {
			e.kind = writesOpaque
			slot(leafSlot)
		} else {
			slot(groupSlot)
		}
		open := w.marker(event{})
		out = append(out, open, n, w.marker(event{kind: writesClose}))
		for i, l := range lists {
			id := w.list(l)
			if id >= 0 {
				b.inner = append(b.inner, id)
			}
			if i == 0 {
				e.body = id
			}
		}
		w.t.events[&open.Text[0]] = e
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			if len(n.Text) == 0 {
				continue // an empty write would pass for an empty dynamic
			}
			n.Text = bytes.Clone(n.Text) // no other text may begin at the same byte
			w.t.events[&n.Text[0]] = event{kind: writesStatic}
			text.Write(n.Text)
			head.Write(n.Text)
			out = append(out, n)
		case *parse.ActionNode:
			out = append(out, n)
			if len(n.Pipe.Decl) > 0 {
				continue // a declaration prints nothing
			}
			if b.idSlot < 0 && b.flat && insideID(head.String()) {
				b.idSlot = len(b.slots)
			}
			slot(leafSlot)
		case *parse.IfNode:
			control(n, false, n.List, n.ElseList)
		case *parse.WithNode:
			control(n, false, n.List, n.ElseList)
		case *parse.RangeNode:
			// A body that is left early has no fixed number of slots.
			if leavesEarly(n.List) {
				control(n, true)
			} else {
				control(n, false, n.List, n.ElseList)
			}
		case *parse.TemplateNode:
			// A template called inside an attribute or a script is a copy that cannot be reached.
			opaque := strings.Contains(n.Name, "$htmltemplate_")
			if !opaque && len(b.slots) == 0 && strings.TrimSpace(head.String()) == "" {
				b.first = n.Name
			}
			control(n, opaque)
			if !opaque {
				w.template(n.Name)
				b.inner = append(b.inner, w.roots[n.Name])
			}
		default: // comments, break and continue
			out = append(out, n)
		}
	}
	b.statics = append(b.statics, text.String())
	l.Nodes = out
	return id
}

// keyOf returns the word that identifies a row of b: a leaf before which all slots are leaves, or that
// of the template the body calls first, behind the header of its group.
func (w *weaver) keyOf(b *body, seen []*body) int {
	if b.first == "" {
		return b.idSlot
	}
	for _, s := range seen {
		if s == b {
			return -1 // a template that begins by calling itself
		}
	}
	if k := w.keyOf(w.t.bodies[w.roots[b.first]], append(seen, b)); k >= 0 {
		return k + 1
	}
	return -1
}

// insideID reports whether text ends inside the quoted id of the first tag that it opens.
func insideID(text string) bool {
	tag := strings.TrimSpace(text)
	if !strings.HasPrefix(tag, "<") || strings.ContainsAny(tag[1:], "<>") {
		return false
	}
	eq := strings.LastIndexByte(tag, '=')
	if eq < 0 || eq+1 >= len(tag) {
		return false
	}
	quote := tag[eq+1]
	if quote != '"' && quote != '\'' || strings.IndexByte(tag[eq+2:], quote) >= 0 {
		return false
	}
	name := strings.Fields(tag[:eq])
	return len(name) > 1 && strings.EqualFold(name[len(name)-1], "id")
}

// leavesEarly reports whether l holds a break or a continue that acts on the range around l.
func leavesEarly(l *parse.ListNode) bool {
	if l == nil {
		return false
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.BreakNode, *parse.ContinueNode:
			return true
		case *parse.IfNode:
			if leavesEarly(n.List) || leavesEarly(n.ElseList) {
				return true
			}
		case *parse.WithNode:
			if leavesEarly(n.List) || leavesEarly(n.ElseList) {
				return true
			}
		case *parse.RangeNode:
			// What its body holds acts on that range; its else belongs to ours.
			if leavesEarly(n.ElseList) {
				return true
			}
		}
	}
	return false
}
