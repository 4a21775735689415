package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrFrame is wrapped by every error of [Client.Apply].
var ErrFrame = errors.New("render: the frame does not fit")

// Client is a model of the client of one view. The zero Client has been told nothing. It is strict: where a
// browser might get by, it refuses. It must not be used by two goroutines at the same time.
type Client struct {
	statics map[int]*clientBody
	root    *clientRow
	err     error
}

type clientBody struct {
	texts  []string
	whole  bool // each row is one element with an id
	scopes []scope
}

type clientRow struct {
	body int
	dyns []any // string, *clientGroup or *clientStream
}

type clientGroup struct {
	body int // without meaning when there are no rows
	rows []*clientRow
}

type clientStream struct {
	rows []streamRow
}

// streamRow is an element of a stream.
type streamRow struct{ id, html string }

// Apply changes the page as frame says. Any frame that is not exactly of the form in the package documentation,
// or does not fit the page as it is, is an error that wraps [ErrFrame]. After an error the page is no longer
// known: every later Apply returns the same error.
func (c *Client) Apply(frame []byte) (err error) {
	if c.err != nil {
		return c.err
	}
	defer func() {
		if p := recover(); p != nil {
			m, ok := p.(misfit)
			if !ok {
				panic(p)
			}
			err = fmt.Errorf("%w: %s", ErrFrame, string(m))
			c.err = err
		}
	}()
	if !utf8.Valid(frame) {
		fail("bytes that are no UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(frame))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		fail("%v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		fail("something follows the frame")
	}
	switch v := v.(type) {
	case []any:
		c.patchRoot(v)
	case map[string]any:
		full, isFull := v["d"]
		patch, isPatch := v["p"]
		statics, hasStatics := v["s"]
		if len(v) != 2 || !hasStatics || isFull == isPatch {
			fail("an object that is neither a full frame nor a patch with statics")
		}
		if isFull {
			*c = Client{statics: map[int]*clientBody{}}
		}
		if c.statics == nil {
			fail("a patch before the first full frame")
		}
		c.learn(array(statics))
		if isFull {
			c.root = c.row(0, full)
		} else {
			c.patchRoot(array(patch))
		}
	default:
		fail("neither an array nor an object")
	}
	return nil
}

// HTML returns the page, empty before the first frame.
func (c *Client) HTML() string {
	if c.root == nil {
		return ""
	}
	var b strings.Builder
	c.print(&b, c.root)
	return b.String()
}

func (c *Client) print(b *strings.Builder, r *clientRow) {
	texts := c.statics[r.body].texts
	for i, d := range r.dyns {
		b.WriteString(texts[i])
		switch d := d.(type) {
		case string:
			b.WriteString(d)
		case *clientGroup:
			for _, row := range d.rows {
				c.print(b, row)
			}
		case *clientStream:
			for _, row := range d.rows {
				b.WriteString(row.html)
			}
		}
	}
	b.WriteString(texts[len(r.dyns)])
}

// misfit is what the methods below panic with; Apply makes it an error.
type misfit string

func fail(format string, args ...any) { panic(misfit(fmt.Sprintf(format, args...))) }

func array(v any) []any {
	a, ok := v.([]any)
	if !ok {
		fail("%T where an array must be", v)
	}
	return a
}

// number returns v when it is a whole number from 0 to limit.
func number(v any, limit int) int {
	s, ok := v.(json.Number)
	if !ok {
		fail("%T where a number must be", v)
	}
	n, err := strconv.Atoi(s.String())
	if err != nil || n < 0 || n > limit || s.String() != strconv.Itoa(n) {
		fail("%s where a number from 0 to %d must be", s, limit)
	}
	return n
}

const maxBody = 1<<31 - 1

func (c *Client) learn(statics []any) {
	if len(statics) == 0 {
		fail("no statics")
	}
	for _, v := range statics {
		a := array(v)
		if len(a) < 3 {
			fail("a body without a shape or texts")
		}
		id := number(a[0], maxBody)
		if _, ok := c.statics[id]; ok {
			fail("the texts of body %d come again", id)
		}
		b := &clientBody{}
		for _, t := range a[2:] {
			b.texts = append(b.texts, text(t))
		}
		b.shape(a[1])
		c.statics[id] = b
	}
}

func text(v any) string {
	s, ok := v.(string)
	if !ok {
		fail("%T where a text must be", v)
	}
	return s
}

// shape checks a shape against the texts: each scope must begin with a tag with its id, end with its end tag
// or be that tag, hold a slot, and stand inside the scope before or behind it.
func (b *clientBody) shape(v any) {
	scopes := []any{}
	if a, ok := v.([]any); ok {
		if len(a) < 2 {
			fail("a shape without scopes")
		}
		v, scopes = a[0], a[1:]
	}
	b.whole = number(v, 1) == 1
	var around []scope
	for _, v := range scopes {
		a := array(v)
		if len(a) != 5 {
			fail("a scope of %d elements", len(a))
		}
		s := scope{id: text(a[0]), text: number(a[1], len(b.texts)-2), endText: number(a[3], len(b.texts)-1)}
		s.at, s.endAt = cut(b.texts[s.text], number(a[2], maxBody)), cut(b.texts[s.endText], number(a[4], maxBody))
		if s.endText <= s.text {
			fail("the scope %q holds no slot", s.id)
		}
		texts := slices.Clone(b.texts[s.text : s.endText+1])
		texts[0], texts[len(texts)-1] = texts[0][s.at:], texts[len(texts)-1][:s.endAt]
		if e := element1(texts...); e == nil || e.id != s.id || s.id == "" {
			fail("the scope %q is no element with that id", s.id)
		}
		for len(around) > 0 && !around[len(around)-1].after(s.text, s.at) {
			around = around[:len(around)-1]
		}
		if len(around) > 0 && !around[len(around)-1].holds(s) || len(b.scopes) > 0 && !s.after(b.scopes[len(b.scopes)-1].text, b.scopes[len(b.scopes)-1].at) {
			fail("the scope %q crosses another", s.id)
		}
		around = append(around, s)
		b.scopes = append(b.scopes, s)
	}
}

func (c *Client) row(body int, v any) *clientRow {
	a := array(v)
	b, ok := c.statics[body]
	if !ok {
		fail("body %d is not known", body)
	}
	if len(a)+1 != len(b.texts) {
		fail("%d dynamics between %d texts", len(a), len(b.texts))
	}
	r := &clientRow{body: body, dyns: make([]any, len(a))}
	for i, d := range a {
		switch d := d.(type) {
		case string:
			r.dyns[i] = d
		case map[string]any:
			s := &clientStream{}
			c.stream(s, d, true)
			r.dyns[i] = s
		default:
			r.dyns[i] = c.group(d)
		}
	}
	c.check(r)
	return r
}

// check tests that a row is one element with an id if its body says so.
func (c *Client) check(r *clientRow) {
	if c.statics[r.body].whole && element1(c.rowHTML(r)) == nil {
		fail("a row of body %d is not one element with an id: %s", r.body, c.rowHTML(r))
	}
}

func (c *Client) rowHTML(r *clientRow) string {
	var b strings.Builder
	c.print(&b, r)
	return b.String()
}

func (c *Client) group(v any) *clientGroup {
	if _, ok := v.(json.Number); ok {
		number(v, 0)
		return &clientGroup{}
	}
	a := array(v)
	if len(a) < 2 {
		fail("a group of %d elements", len(a))
	}
	g := &clientGroup{body: number(a[0], maxBody)}
	for _, r := range a[1:] {
		g.rows = append(g.rows, c.row(g.body, r))
	}
	return g
}

func (c *Client) patchRoot(patch []any) {
	if c.root == nil {
		fail("a patch before the first full frame")
	}
	c.patch(c.root, patch)
}

func (c *Client) patch(r *clientRow, patch []any) {
	if len(patch) == 0 || len(patch)%2 != 0 {
		fail("a patch of %d elements", len(patch))
	}
	last := -1
	for i := 0; i < len(patch); i += 2 {
		slot := number(patch[i], len(r.dyns)-1)
		if slot <= last {
			fail("slot %d after slot %d", slot, last)
		}
		last = slot
		value := patch[i+1]
		switch d := r.dyns[slot].(type) {
		case string:
			r.dyns[slot] = text(value)
		case *clientStream:
			c.stream(d, value, false)
		case *clientGroup:
			if isEdit(value) {
				c.edit(d, array(value))
			} else {
				r.dyns[slot] = c.group(value)
			}
		}
	}
	c.check(r)
}

func isEdit(v any) bool {
	a, ok := v.([]any)
	if !ok || len(a) == 0 {
		return false
	}
	_, ok = a[0].([]any)
	return ok
}

// edit applies ops, which must come in the order of the documentation.
func (c *Client) edit(g *clientGroup, ops []any) {
	if len(g.rows) == 0 {
		fail("an edit of a group without rows")
	}
	phases := [...]int{opDelete: 0, opMove: 1, opPermute: 1, opInsert: 2, opUpdate: 3}
	last, lastAt := -1, 0
	for _, v := range ops {
		op := array(v)
		if len(op) < 2 {
			fail("an op of %d elements", len(op))
		}
		kind, args := number(op[0], opUpdate), op[1:]
		if last >= 0 {
			alone := kind == opPermute || kind == opUpdate || last == opPermute
			if phases[kind] < phases[last] || phases[kind] == phases[last] && alone {
				fail("op %d after op %d", kind, last)
			}
		}
		at := number(args[0], len(g.rows))
		if kind == last && (kind == opDelete && at >= lastAt || kind == opInsert && at <= lastAt) {
			fail("op %d at %d after %d", kind, at, lastAt)
		}
		last, lastAt = kind, at
		switch kind {
		case opDelete:
			c.delete(g, args)
		case opInsert:
			c.insert(g, args)
		case opMove:
			c.move(g, args)
		case opPermute:
			c.permute(g, args)
		case opUpdate:
			c.update(g, args)
		}
	}
	if len(g.rows) == 0 {
		fail("an edit that leaves no rows")
	}
}

// run returns the optional last number of an op: how many rows it takes, at most limit.
func run(args []any, fixed, limit int) int {
	switch len(args) {
	case fixed:
		if limit < 1 {
			fail("an op beyond the last row")
		}
		return 1
	case fixed + 1:
		n := number(args[fixed], limit)
		if n < 2 {
			fail("a run of %d rows", n)
		}
		return n
	}
	fail("an op with %d arguments", len(args))
	return 0
}

func (c *Client) delete(g *clientGroup, args []any) {
	at := number(args[0], len(g.rows)-1)
	n := run(args, 1, len(g.rows)-at)
	g.rows = slices.Delete(g.rows, at, at+n)
}

func (c *Client) insert(g *clientGroup, args []any) {
	at := number(args[0], len(g.rows))
	if len(args) < 2 {
		fail("an insert without rows")
	}
	rows := make([]*clientRow, 0, len(args)-1)
	for _, v := range args[1:] {
		rows = append(rows, c.row(g.body, v))
	}
	g.rows = slices.Insert(g.rows, at, rows...)
}

func (c *Client) move(g *clientGroup, args []any) {
	if len(args) < 2 {
		fail("a move with %d arguments", len(args))
	}
	from := number(args[0], len(g.rows)-1)
	n := run(args, 2, len(g.rows)-from)
	to := number(args[1], len(g.rows)-n)
	if from == to {
		fail("a move to where the rows are")
	}
	moveRun(g.rows, from, to, n)
}

func (c *Client) permute(g *clientGroup, args []any) {
	if len(args) != len(g.rows) {
		fail("a permutation of %d for %d rows", len(args), len(g.rows))
	}
	rows := make([]*clientRow, 0, len(args))
	taken := make([]bool, len(args))
	for _, v := range args {
		i := number(v, len(args)-1)
		if taken[i] {
			fail("a permutation with %d twice", i)
		}
		taken[i] = true
		rows = append(rows, g.rows[i])
	}
	g.rows = rows
}

func (c *Client) update(g *clientGroup, args []any) {
	if len(args)%2 != 0 {
		fail("an update with %d arguments", len(args))
	}
	last := -1
	for i := 0; i < len(args); i += 2 {
		at := number(args[i], len(g.rows)-1)
		if at <= last {
			fail("row %d after row %d", at, last)
		}
		last = at
		c.patch(g.rows[at], array(args[i+1]))
	}
}

// stream applies the ops of a stream, of which the first must remove all when whole.
func (c *Client) stream(s *clientStream, v any, whole bool) {
	m, ok := v.(map[string]any)
	if !ok || len(m) != 1 || m["o"] == nil {
		fail("%T where a stream must be", v)
	}
	ops := array(m["o"])
	if len(ops) == 0 {
		fail("a stream without ops")
	}
	for i, v := range ops {
		op := array(v)
		if len(op) == 0 {
			fail("an op of a stream without elements")
		}
		kind, args := OpKind(number(op[0], int(StreamUpdate))), op[1:]
		if whole && i == 0 && kind != StreamReset {
			fail("a stream that does not begin with remove all")
		}
		switch kind {
		case StreamDelete:
			s.delete(args)
		case StreamInsert:
			c.streamInsert(s, args)
		case StreamReset:
			if len(args) > 0 {
				fail("a remove all with arguments")
			}
			s.rows = nil
		case StreamUpdate:
			if len(args) < 2 {
				fail("an update of a stream without rows")
			}
			for _, row := range c.streamRows(args[0], args[1:]) {
				if at := s.index(row.id); at >= 0 {
					s.rows[at] = row
				}
			}
		}
	}
}

func (s *clientStream) index(id string) int {
	return slices.IndexFunc(s.rows, func(r streamRow) bool { return r.id == id })
}

func (s *clientStream) delete(ids []any) {
	if len(ids) == 0 {
		fail("a delete without ids")
	}
	for _, v := range ids {
		if at := s.index(text(v)); at >= 0 {
			s.rows = slices.Delete(s.rows, at, at+1)
		}
	}
}

func (c *Client) streamInsert(s *clientStream, args []any) {
	if len(args) < 3 {
		fail("an insert into a stream with %d arguments", len(args))
	}
	at, limit := integer(args[1]), integer(args[2])
	if at < -1 {
		fail("an insert into a stream at %d", at)
	}
	if len(args) == 3 && limit == 0 {
		fail("an insert into a stream that does nothing")
	}
	if at < 0 || at > len(s.rows) {
		at = len(s.rows)
	}
	for _, row := range c.streamRows(args[0], args[3:]) {
		if there := s.index(row.id); there >= 0 {
			s.rows[there] = row
			continue
		}
		s.rows = slices.Insert(s.rows, at, row)
		at++
	}
	switch n := len(s.rows); {
	case limit > 0:
		s.rows = s.rows[:min(n, limit)]
	case limit < 0 && -limit < n:
		s.rows = s.rows[n+limit:]
	}
}

// streamRows prints rows; each must have an id, and no two the same.
func (c *Client) streamRows(body any, values []any) []streamRow {
	id := number(body, maxBody)
	if b, ok := c.statics[id]; !ok || !b.whole {
		fail("body %d is not known, or its rows are not elements", id)
	}
	var rows []streamRow
	for _, v := range values {
		row := streamRow{html: c.rowHTML(c.row(id, v))}
		e := element1(row.html)
		if row.id = e.id; row.id == "" {
			fail("a row of a stream without an id: %s", row.html)
		}
		if slices.ContainsFunc(rows, func(r streamRow) bool { return r.id == row.id }) {
			fail("two rows of a stream with the id %q", row.id)
		}
		rows = append(rows, row)
	}
	return rows
}

// integer returns v when it is a whole number.
func integer(v any) int {
	s, ok := v.(json.Number)
	if !ok {
		fail("%T where a number must be", v)
	}
	n, err := strconv.ParseInt(s.String(), 10, 32)
	if err != nil || s.String() != strconv.FormatInt(n, 10) {
		fail("%s where a whole number must be", s)
	}
	return int(n)
}
