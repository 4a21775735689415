package render

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strings"
	"text/template/parse"
)

// markup follows the HTML that a template can print, action by action, to find its scopes, shapes and streams.
//
// It is a tokenizer of the HTML standard (section 13.2.5) with a stack of open elements, which runs over the
// texts of the escaped tree. An action in the text stands for something that leaves the tokenizer as it is:
// html/template sees to that. A branch runs on a copy and must come out like the others; a template that is
// called runs in line. Where the standard lets a parser do other than push and pop (close an element by itself,
// move or drop a tag), the elements concerned are marked as bad. Where markup cannot follow, it is lost, and
// finds nothing more. HTML in the data is taken to be whole, and to be allowed where it stands.
type markup struct {
	split  *Template
	lists  map[*parse.ListNode]int // the bodies
	found  map[int]*finding        // by body
	calls  []string                // the templates that are being followed
	loops  map[string]bool         // the templates that call themselves
	known  map[string]*visit       // by template and open elements
	ranges []state                 // what is open around the ranges that are being followed
	visits int
	blind  strings.Builder // the texts that were met when lost
	held   []*element      // the containers of streams
	marks  map[*element]*parse.TextNode
	ids    map[string]int // how often a fixed id is on the page, at most
	err    error
}

// maxVisits bounds the time for templates that call each other in very many ways.
const maxVisits = 20_000

// finding is what is known of a body, in all the places where it is printed.
type finding struct {
	shape  bool
	scopes []scope
}

// scope is an element of a body. The offsets are in bytes.
type scope struct {
	id             string
	text, at       int
	endText, endAt int
}

// visit is one walk through a list of nodes.
type visit struct {
	body     int // -1 when it is none
	template string
	text, at int // where the next text node begins
	base     int // how many elements are open around it
	elements int // at the base
	groups   int // at the base
	other    bool
	whole    bool // the element at the base has an id and is closed, or so has each row of the group
	first    *element
	scopes   []scope
	ids      map[string]int // how often a fixed id is printed, at most
}

func (v *visit) shape() bool { return !v.other && v.elements+v.groups == 1 && v.whole }

func (v *visit) add(ids map[string]int, times int) {
	for id, n := range ids {
		v.ids[id] += n * times
	}
}

// element is an open element.
type element struct {
	name     string
	in       *visit // where its tag begins
	text, at int
	id       string // when it is fixed
	rawID    string
	emptyID  bool
	tagEnd   int // where its tag ends
	hasID    bool
	bad      string // why a parser may see it otherwise, empty when it does not
	hidden   bool   // it is in an svg, a math, a template or a head
	never    bool   // it is no scope for other reasons
	stream   bool
	slots    []int // the ranges inside a stream
}

// alien reports whether scripts cannot treat what is in e as HTML of the page.
func (e *element) alien() bool { return e.hidden || among(e.name, aliens) }

// The states of the tokenizer. States inside a tag that differ only in what follows an attribute are one.
const (
	inData = iota
	inTagName
	inTag
	inName
	inAfterName
	inValue
	inDouble
	inSingle
	inUnquoted
	inRaw
)

type tag struct {
	element
	end      bool
	unsureID bool // an attribute in front may be the id
}

type attribute struct {
	in          *visit
	name, value []byte
	unsure      bool // the name
	dynamic     bool // the value
}

// state is that of the tokenizer and the parser.
type state struct {
	in     int
	lost   bool
	stack  []*element
	tag    *tag
	attr   attribute
	broken bool // the name before may go on
	naming bool // and that name may be the tag's
	slash  bool // the last byte of the tag was one
	raw    string
}

func (s state) clone() state {
	s.stack = slices.Clone(s.stack)
	s.attr.name = slices.Clone(s.attr.name)
	s.attr.value = slices.Clone(s.attr.value)
	return s
}

// open returns what decides how the HTML that follows is read.
func (s *state) open() string {
	var b strings.Builder
	for _, e := range s.stack {
		fmt.Fprintf(&b, "%s %t %t,", e.name, e.hidden, e.bad != "")
	}
	return b.String()
}

func (s *state) top() *element {
	if len(s.stack) == 0 {
		return nil
	}
	return s.stack[len(s.stack)-1]
}

func (s *state) lose(why string) {
	s.lost = true
	s.poison(0, why)
}

// poison marks the open elements from index from on.
func (s *state) poison(from int, why string) {
	for _, e := range s.stack[from:] {
		if e.bad == "" {
			e.bad = why
		}
	}
}

// index returns the innermost open element with one of the names, or -1. It stops at those in until.
func (s *state) index(names, until string) int {
	for i := len(s.stack) - 1; i >= 0; i-- {
		if among(s.stack[i].name, names) {
			return i
		}
		if among(s.stack[i].name, until) {
			return -1
		}
	}
	return -1
}

// among reports whether list, which has a space around each name, holds name.
func among(name, list string) bool { return list != "" && strings.Contains(list, " "+name+" ") }

const (
	voidNames = " area base br col embed hr img input link meta param source track wbr "
	rawNames  = " script style textarea title xmp iframe noembed noframes noscript "
	// paragraphEnders close an open p.
	paragraphEnders = " address article aside blockquote center details dialog dir div dl fieldset figcaption figure footer form" +
		" header hgroup hr listing main menu nav ol p pre search section summary table ul xmp h1 h2 h3 h4 h5 h6 li dd dt "
	headings   = " h1 h2 h3 h4 h5 h6 "
	impliedEnd = " dd dt li optgroup option p rb rp rt rtc "
	// closers close what stands in impliedEnd inside them.
	closers = " address article aside blockquote button center details dialog dir div dl fieldset figcaption figure footer form" +
		" header hgroup listing main menu nav ol pre search section summary ul li dd dt h1 h2 h3 h4 h5 h6" + tableParts + "table "
	tableParts = " caption colgroup tbody thead tfoot tr td th "
	tableNames = " table tbody thead tfoot tr colgroup "
	// boundaries end the search for an open element.
	boundaries = " applet caption html table td th marquee object template "
	// breakouts end svg and math.
	breakouts = " b big blockquote body br center code dd div dl dt em embed font h1 h2 h3 h4 h5 h6 head hr i img li listing" +
		" menu meta nobr ol p pre ruby s small span strike strong sub sup table tt u ul var "
	integration = " svg math foreignobject desc title annotation-xml mi mo mn ms mtext "
	aliens      = " svg math template head "
	supporters  = " script style template "
)

func (m *markup) fail(v *visit, format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf("render: template %q: %s", v.template, fmt.Sprintf(format, args...))
	}
}

// leaf is a printed action.
func (m *markup) leaf(s *state, v *visit) {
	if s.lost {
		return
	}
	s.slash = false
	switch s.in {
	case inData:
		m.content(s, v)
	case inTagName:
		s.lose("a tag whose name is not fixed")
	case inTag, inName, inAfterName:
		if s.naming {
			s.lose("a tag whose name is not fixed")
			return
		}
		s.in, s.broken = inTag, true
		s.tag.unsureID = true
	case inValue, inUnquoted:
		s.in = inUnquoted
		s.attr.dynamic = true
	case inDouble, inSingle:
		s.attr.dynamic = true
	}
}

// content is text, other than white space, where elements may stand.
func (m *markup) content(s *state, v *visit) {
	if len(s.stack) == v.base {
		v.other = true
	}
	top := s.top()
	if top == nil {
		return
	}
	if top.stream && top.in == v {
		m.fail(v, "the stream in #%s holds other things than one range", top.id)
	}
	if among(top.name, tableNames) {
		s.poison(max(s.index(" table ", ""), 0), "text in a <"+top.name+">")
	}
}

func isSpace(c byte) bool  { return c == ' ' || c == '\n' || c == '\t' || c == '\f' || c == '\r' }
func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// feed runs over a text.
func (m *markup) feed(s *state, v *visit, b []byte) {
	if bytes.IndexByte(b, 0) >= 0 {
		s.lose("a NUL")
	}
	for i := 0; i < len(b) && !s.lost; {
		c := b[i]
		switch s.in {
		case inData:
			i = m.data(s, v, b, i)
			continue
		case inRaw:
			i = m.rawText(s, v, b, i)
			continue
		case inTagName:
			if isSpace(c) || c == '/' || c == '>' {
				s.in = inTag
				continue
			}
			if s.tag.in != v {
				s.lose("a tag whose name is not fixed")
				continue
			}
			s.tag.name += string(lower(c))
		case inTag:
			if s.naming && !isSpace(c) && c != '/' && c != '>' {
				s.lose("a tag whose name is not fixed")
				continue
			}
			s.naming = false
			switch {
			case isSpace(c):
				s.broken, s.slash = false, false
			case c == '/':
				s.broken, s.slash = false, true
			case c == '>':
				m.close(s, v, v.at+i+1)
			case c == '=': // of a name that an action ended, or the first byte of a name
				s.attr = attribute{in: v, unsure: true}
				s.in, s.slash = inValue, false
			default:
				s.attr = attribute{in: v, unsure: s.broken}
				s.in, s.slash, s.broken = inName, false, false
				continue
			}
		case inName, inAfterName:
			switch {
			case c == '=':
				s.in = inValue
			case isSpace(c):
				s.in = inAfterName
			case s.in == inAfterName, c == '/', c == '>':
				m.attribute(s, v)
				continue
			default:
				s.attr.name = append(s.attr.name, lower(c))
			}
		case inValue:
			switch {
			case isSpace(c):
			case c == '"':
				s.in = inDouble
			case c == '\'':
				s.in = inSingle
			case c == '>':
				m.attribute(s, v)
				continue
			default:
				s.in = inUnquoted
				continue
			}
		case inDouble, inSingle:
			if s.in == inDouble && c == '"' || s.in == inSingle && c == '\'' {
				m.attribute(s, v)
				break
			}
			s.attr.value = append(s.attr.value, c)
		case inUnquoted:
			if isSpace(c) || c == '>' {
				m.attribute(s, v)
				continue
			}
			s.attr.value = append(s.attr.value, c)
		}
		i++
	}
	if s.lost {
		m.blind.Write(b)
	}
}

// data reads one piece of text, or the beginning of a tag, at index i, and returns the index behind it.
func (m *markup) data(s *state, v *visit, b []byte, i int) int {
	rest := b[i:]
	switch {
	case rest[0] != '<':
		if !isSpace(rest[0]) {
			m.content(s, v)
		}
		return i + 1
	case len(rest) == 1 || rest[1] == '/' && (len(rest) == 2 || !isLetter(rest[2])):
		s.lose("a < that is none")
	case isLetter(rest[1]):
		s.tag = &tag{element: element{in: v, text: v.text, at: v.at + i}}
		s.in, s.broken, s.slash = inTagName, false, false
		return i + 1
	case rest[1] == '/':
		s.tag = &tag{element: element{in: v, text: v.text, at: v.at + i}, end: true}
		s.in, s.broken, s.slash = inTagName, false, false
		return i + 2
	case bytes.HasPrefix(rest, []byte("<!--")):
		end := bytes.Index(rest[4:], []byte("-->"))
		if end < 0 || bytes.Contains(rest[4:4+end], []byte("--!>")) || bytes.HasPrefix(rest[4:], []byte(">")) || bytes.HasPrefix(rest[4:], []byte("->")) {
			s.lose("a comment that is not closed")
			return len(b)
		}
		if top := s.top(); top != nil && top.stream && top.in == v {
			m.fail(v, "the stream in #%s holds other things than one range", top.id)
		}
		if len(s.stack) == v.base {
			v.other = true
		}
		return i + 4 + end + 3
	case rest[1] == '!' || rest[1] == '?':
		end := bytes.IndexByte(rest, '>')
		if end < 0 || rest[1] == '?' || bytes.HasPrefix(rest, []byte("<![")) {
			s.lose("a declaration")
			return len(b)
		}
		if len(s.stack) == v.base {
			v.other = true
		}
		return i + end + 1
	default:
		m.content(s, v)
	}
	return i + 1
}

// rawText looks for the end of a script and the like from index i on.
func (m *markup) rawText(s *state, v *visit, b []byte, i int) int {
	rest := b[i:]
	lt := bytes.IndexByte(rest, '<')
	if lt < 0 {
		return len(b)
	}
	rest = rest[lt:]
	n := 2 + len(s.raw)
	if len(rest) >= 2 && rest[1] == '/' && strings.EqualFold(string(rest[2:min(n, len(rest))]), s.raw) {
		if len(rest) == n {
			s.lose("an end tag that is not closed")
			return len(b)
		}
		if isSpace(rest[n]) || rest[n] == '/' || rest[n] == '>' {
			s.tag = &tag{element: element{in: v, text: v.text, at: v.at + i + lt, name: s.raw}, end: true}
			s.in, s.raw, s.broken, s.slash = inTag, "", false, false
			return i + lt + n
		}
	}
	if s.foreign(1) || s.raw == "script" && bytes.HasPrefix(rest, []byte("<!--")) {
		s.lose("a < in a <" + s.raw + ">")
		return len(b)
	}
	return i + lt + 1
}

// foreign reports whether tags stand in an svg or a math, when the innermost elements, so many, are left out.
func (s *state) foreign(without int) bool {
	for i := len(s.stack) - 1 - without; i >= 0; i-- {
		if among(s.stack[i].name, integration) {
			return s.stack[i].name == "svg" || s.stack[i].name == "math"
		}
	}
	return false
}

// attribute ends one.
func (m *markup) attribute(s *state, v *visit) {
	t, a := s.tag, &s.attr
	s.in = inTag
	value := string(a.value)
	name := string(a.name)
	switch {
	case t.end:
	case a.unsure || a.in != v:
		t.unsureID = true
	case name == "id":
		if !a.dynamic && value != "" {
			v.ids[html.UnescapeString(value)]++
		}
		if t.hasID || t.unsureID {
			break
		}
		if v != t.element.in || value == "" && !a.dynamic {
			t.unsureID, t.emptyID = true, v == t.element.in
			break
		}
		t.hasID, t.rawID = true, value
		if !a.dynamic && !strings.Contains(value, "&") {
			t.id = value
		}
	case name == "live-update" && !a.dynamic && value == "stream":
		if v != t.element.in {
			m.fail(v, "an action decides whether there is a stream")
		}
		t.stream = true
	}
	s.attr = attribute{}
}

// close ends a tag; the text goes on at offset end.
func (m *markup) close(s *state, v *visit, end int) {
	t := s.tag
	s.tag, s.in = nil, inData
	if t.end {
		m.endTag(s, v, t.name, end)
		return
	}
	e := &t.element
	if v != e.in {
		e.never = true // an action ends the tag
	}
	if len(s.stack) == v.base {
		v.elements++
	}
	if v.first == nil {
		v.first = e
	}
	e.tagEnd = end
	top := s.top()
	if top != nil && top.stream && top.in == v {
		m.fail(v, "the stream in #%s holds other things than one range", top.id)
	}
	foreign := s.foreign(0)
	m.nest(s, e)
	if e.stream {
		switch {
		case len(m.ranges) > 0:
			m.fail(v, "a stream stands in a range")
		case e.id == "":
			m.fail(v, "an element with live-update=\"stream\" needs a fixed id")
		}
	}
	if s.lost {
		return
	}
	if !foreign && among(e.name, voidNames) || s.slash && (foreign || e.name == "svg" || e.name == "math") {
		m.done(s, v, e, end)
		return
	}
	s.stack = append(s.stack, e)
	if among(e.name, rawNames) {
		s.in, s.raw = inRaw, e.name
	}
}

// nest marks what a parser does not just push.
func (m *markup) nest(s *state, e *element) {
	name, parent := e.name, ""
	if top := s.top(); top != nil {
		parent = top.name
		e.hidden = top.alien()
		e.bad = top.bad
	}
	why := "a <" + name + "> in a <" + parent + ">"
	mark := func(from int) {
		if from < 0 {
			from = 0
		}
		s.poison(from, why)
		if e.bad == "" {
			e.bad = why
		}
	}
	if s.foreign(0) {
		if among(name, breakouts) {
			s.lose(why)
		}
		return
	}
	switch name {
	case "html", "head", "body":
		e.never = true
		if parent != "" && (parent != "html" || name == "html") {
			s.lose(why)
			return
		}
	case "frameset", "frame", "plaintext", "image", "isindex":
		s.lose("a <" + name + ">")
		return
	case "li":
		if i := s.index(" li ", " ul ol menu dir table td th caption template section article main aside nav header footer body "); i >= 0 {
			mark(i)
		}
	case "dd", "dt":
		if i := s.index(" dd dt ", " dl ul ol table td th caption template section article main aside nav header footer body "); i >= 0 {
			mark(i)
		}
	case "a", "nobr":
		if s.index(" a nobr ", "") >= 0 {
			mark(0)
		}
	case "button":
		if i := s.index(" button ", boundaries); i >= 0 {
			mark(i)
		}
	case "form":
		if i := s.index(" form ", ""); i >= 0 {
			mark(i)
		}
	case "option", "optgroup":
		if parent == "option" || parent == "optgroup" && name == "optgroup" {
			mark(len(s.stack) - 1)
		}
	case "rb", "rp", "rt", "rtc":
		if among(parent, impliedEnd) {
			mark(s.index(" ruby ", "")) // it is closed if there is a ruby
		}
	case "caption", "colgroup", "tbody", "thead", "tfoot":
		if parent != "table" {
			mark(0)
		}
	case "tr":
		if !among(parent, " table tbody thead tfoot ") {
			mark(0)
		}
	case "td", "th":
		if parent != "tr" {
			mark(0)
		}
	case "col":
		if parent != "colgroup" {
			mark(0)
		}
	}
	if among(name, paragraphEnders) {
		if i := s.index(" p ", boundaries+" button "); i >= 0 {
			mark(i)
		}
	}
	if among(name, headings) && among(parent, headings) {
		mark(len(s.stack) - 1)
	}
	if i := s.index(" select ", ""); i >= 0 {
		allowed := " script template "
		switch parent {
		case "select":
			allowed += "option optgroup hr "
		case "optgroup":
			allowed += "option "
		}
		if !among(name, allowed) {
			mark(i)
		}
	}
	if parent == "head" && !among(name, " title meta link base script style noscript template ") {
		mark(0)
	}
	allowed := ""
	switch parent {
	case "table":
		allowed = " caption colgroup tbody thead tfoot tr" + supporters
	case "tbody", "thead", "tfoot":
		allowed = " tr" + supporters
	case "tr":
		allowed = " td th" + supporters
	case "colgroup":
		allowed = " col template "
	}
	if allowed != "" && !among(name, allowed) {
		mark(s.index(" table ", ""))
	}
}

// endTag closes the innermost element of the name.
func (m *markup) endTag(s *state, v *visit, name string, end int) {
	i := s.index(" "+name+" ", "")
	if i < 0 {
		s.lose("an end tag </" + name + "> without an element")
		return
	}
	for _, e := range s.stack[i+1:] {
		implied := among(e.name, impliedEnd) && among(name, closers) || among(e.name, tableParts) && (name == "table" || among(name, tableParts))
		if !implied || s.foreign(0) {
			s.lose("an end tag </" + name + "> before </" + e.name + ">")
			return
		}
		if e.stream {
			m.fail(v, "the element #%s of a stream has no end tag", e.id)
		}
	}
	e := s.stack[i]
	s.stack = s.stack[:i]
	m.done(s, v, e, end)
}

// done takes note of an element that its own tag closed.
func (m *markup) done(s *state, v *visit, e *element, end int) {
	if e.stream && len(e.slots) != 1 {
		m.fail(v, "the stream in #%s holds other things than one range", e.id)
	}
	if e.stream && e.in != v {
		m.fail(v, "the element #%s of a stream is closed elsewhere", e.id)
	}
	if e.in != v || e.hidden || e.never || e.bad != "" {
		return
	}
	if e.hasID && len(s.stack) == v.base {
		v.whole = true
	}
	if e.id != "" && v.text > e.text {
		v.scopes = append(v.scopes, scope{id: e.id, text: e.text, at: e.at, endText: v.text, endAt: end})
	}
}

// list follows a list of nodes.
func (m *markup) list(s *state, l *parse.ListNode, template string, tracked bool) *visit {
	v := &visit{body: -1, template: template, base: len(s.stack), ids: map[string]int{}}
	if id, ok := m.lists[l]; ok && tracked {
		v.body = id
	}
	if m.visits++; m.visits > maxVisits {
		s.lose("templates call each other in too many ways")
		return v
	}
	start := s.clone()
	tracked = tracked && v.body >= 0
	var mark *parse.TextNode // in front of the action
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			if len(n.Text) == 0 {
				continue
			}
			if e, ok := m.split.events[&n.Text[0]]; ok && e.kind != writesStatic {
				mark = n
				continue
			}
			if s.lost {
				m.blind.Write(n.Text)
			} else {
				m.feed(s, v, n.Text)
			}
			v.at += len(n.Text)
			continue
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 {
				continue
			}
			m.leaf(s, v)
		case *parse.IfNode:
			m.branches(s, v, tracked, n.List, n.ElseList)
		case *parse.WithNode:
			m.branches(s, v, tracked, n.List, n.ElseList)
		case *parse.RangeNode:
			m.repeat(s, v, tracked, n, mark)
		case *parse.TemplateNode:
			m.call(s, v, tracked, n.Name)
		case *parse.BreakNode, *parse.ContinueNode:
			if !s.lost && !same(&m.ranges[len(m.ranges)-1], s) {
				s.lose("a row is left while an element is open")
			}
			continue
		default: // a comment
			continue
		}
		v.text, v.at = v.text+1, 0
	}
	if v.body >= 0 {
		shape := v.shape() && !s.lost && start.in == inData && same(&start, s)
		if top := s.top(); top != nil && top.alien() {
			shape = false
		}
		v.whole = shape
		m.note(v)
	}
	return v
}

// note keeps what holds in all visits of a body.
func (m *markup) note(v *visit) {
	f := m.found[v.body]
	if f == nil {
		m.found[v.body] = &finding{shape: v.shape(), scopes: v.scopes}
		return
	}
	f.shape = f.shape && v.shape()
	f.scopes = slices.DeleteFunc(f.scopes, func(s scope) bool { return !slices.Contains(v.scopes, s) })
}

// same reports whether nothing is open at b that is not open at a.
func same(a, b *state) bool {
	return a.in == b.in && a.tag == b.tag && a.raw == b.raw && slices.Equal(a.stack, b.stack)
}

// enterGroup takes note of a group at the base.
func (m *markup) enterGroup(s *state, v *visit) (atBase bool) {
	s.slash = false
	if s.lost || s.in != inData || len(s.stack) != v.base {
		return false
	}
	v.groups++
	return true
}

func (m *markup) notInStream(s *state, v *visit, what string) {
	if top := s.top(); s.in == inData && !s.lost && top != nil && top.stream && top.in == v {
		m.fail(v, "the stream in #%s holds %s besides one range", top.id, what)
	}
}

func (m *markup) branches(s *state, v *visit, tracked bool, then, otherwise *parse.ListNode) {
	m.notInStream(s, v, "a condition")
	atBase := m.enterGroup(s, v)
	ends := []state{}
	most := map[string]int{}
	shape := true
	for _, l := range []*parse.ListNode{then, otherwise} {
		c := s.clone()
		if l == nil {
			shape = false
			ends = append(ends, c)
			continue
		}
		child := m.list(&c, l, v.template, tracked)
		shape = shape && child.shape()
		for id, n := range child.ids {
			most[id] = max(most[id], n)
		}
		ends = append(ends, c)
	}
	v.add(most, 1)
	if atBase && shape {
		v.whole = true
	}
	m.join(s, ends)
}

func (m *markup) repeat(s *state, v *visit, tracked bool, n *parse.RangeNode, mark *parse.TextNode) {
	atBase := m.enterGroup(s, v)
	if atBase {
		v.other = true // rows may be none or many
	}
	_, rows := m.lists[n.List]
	var container *element
	if top := s.top(); s.in == inData && !s.lost && top != nil && top.stream {
		container = top
		switch {
		case top.in != v:
			m.fail(v, "the stream in #%s holds other things than one range", top.id)
		case n.ElseList != nil:
			m.fail(v, "the range of the stream in #%s has an else", top.id)
		case !rows || !tracked:
			m.fail(v, "the range of the stream in #%s breaks or continues", top.id)
		}
		top.slots = append(top.slots, v.text)
		if len(top.slots) == 1 {
			m.held = append(m.held, top)
			m.marks[top] = mark
		}
	}
	ends := []state{s.clone()}
	c := s.clone()
	m.ranges = append(m.ranges, s.clone())
	body := m.list(&c, n.List, v.template, tracked)
	m.ranges = m.ranges[:len(m.ranges)-1]
	if !c.lost && !same(s, &c) && c.in != inName && c.in != inAfterName && c.in != inTag {
		c.lose("a range that leaves elements open")
	}
	if container != nil && !body.shape() && container.bad == "" && !container.alien() {
		m.fail(v, "a row of the stream in #%s is not one element with an id", container.id)
	}
	ends = append(ends, c)
	v.add(body.ids, 2)
	if n.ElseList != nil {
		c := s.clone()
		v.add(m.list(&c, n.ElseList, v.template, tracked).ids, 1)
		ends = append(ends, c)
	}
	m.join(s, ends)
}

// join goes on from where several ways meet.
func (m *markup) join(s *state, ends []state) {
	before := *s
	loops := true
	ended := slices.ContainsFunc(ends, func(e state) bool { return e.in != inTagName })
	for i := range ends {
		e := &ends[i]
		if e.lost {
			s.lose("what a branch leaves open")
			return
		}
		if e.in == inName || e.in == inAfterName {
			// What follows may belong to the name.
			if name := string(e.attr.name); e.attr.unsure || strings.HasPrefix("id", name) {
				e.tag.unsureID = true
			}
			e.in, e.broken = inTag, true
		}
		if e.in == inTagName && ended { // as in <option{{if .On}} selected{{end}}>
			e.in, e.naming = inTag, true
		}
		loops = loops && e.in == ends[0].in && e.tag == ends[0].tag && e.raw == ends[0].raw && sameNames(e.stack, ends[0].stack)
	}
	if !loops {
		s.lose("branches that leave different elements open")
		return
	}
	for _, e := range ends[1:] {
		for i, other := range e.stack {
			if one := ends[0].stack[i]; one != other {
				one.never, other.never = true, true
				if one.stream || other.stream {
					one.bad, other.bad = "a branch opens it", "a branch opens it"
				}
			}
		}
		ends[0].broken = ends[0].broken || e.broken
		ends[0].naming = ends[0].naming || e.naming
	}
	*s = ends[0]
	if s.in >= inValue && s.in <= inUnquoted {
		if s.in != before.in || s.tag != before.tag {
			s.attr.unsure = true
		}
		s.attr.dynamic = true
	}
}

func sameNames(a, b []*element) bool {
	return slices.EqualFunc(a, b, func(x, y *element) bool { return x.name == y.name })
}

// call follows a template in line.
func (m *markup) call(s *state, v *visit, tracked bool, name string) {
	m.notInStream(s, v, "a template")
	base, _, derived := strings.Cut(name, "$htmltemplate_")
	if derived {
		tracked = false
	}
	t := m.split.split.Lookup(base)
	if t == nil || t.Tree == nil || t.Tree.Root == nil {
		s.lose("a template that is not there")
		return
	}
	atBase := m.enterGroup(s, v)
	depth := 0
	for _, c := range m.calls {
		if c == base {
			depth++
		}
	}
	if depth > 0 {
		m.loops[base] = true
	}
	if depth > 1 {
		return // nothing new can come of it; below, it is made sure that it leaves nothing open
	}
	key := fmt.Sprint(base, tracked, s.lost, s.in, len(m.ranges) > 0, m.calls, s.open())
	if child, ok := m.known[key]; ok && s.in == inData {
		v.add(child.ids, 1)
		v.whole = v.whole || atBase && child.shape()
		return
	}
	before, open := s.clone(), s.open()
	m.calls = append(m.calls, base)
	child := m.list(s, t.Tree.Root, base, tracked)
	m.calls = m.calls[:len(m.calls)-1]
	neutral := !s.lost && same(&before, s)
	if m.loops[base] && !neutral {
		s.lose("a template that calls itself and leaves elements open")
	}
	v.add(child.ids, 1)
	if atBase && child.shape() {
		v.whole = true
	}
	if neutral && s.in == inData && s.open() == open {
		m.known[key] = child
	}
	if s.in >= inTag && s.in <= inUnquoted {
		ends := []state{*s}
		m.join(s, ends)
	}
}
