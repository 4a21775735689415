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
)

// ErrFrame is wrapped by every error of [Client.Apply].
var ErrFrame = errors.New("render: the frame does not fit")

// Client is a model of the client of one view. The zero Client has been told nothing. It is strict: where a
// browser might get by, it refuses. It must not be used by two goroutines at the same time.
type Client struct {
	statics map[int][]string
	root    *clientRow
	err     error
}

type clientRow struct {
	body int
	dyns []any // string or *clientGroup
}

type clientGroup struct {
	body int // without meaning when there are no rows
	rows []*clientRow
}

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
			*c = Client{statics: map[int][]string{}}
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
	texts := c.statics[r.body]
	for i, d := range r.dyns {
		b.WriteString(texts[i])
		switch d := d.(type) {
		case string:
			b.WriteString(d)
		case *clientGroup:
			for _, row := range d.rows {
				c.print(b, row)
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
	if err != nil || n < 0 || n > limit {
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
		if len(a) < 2 {
			fail("a body without texts")
		}
		id := number(a[0], maxBody)
		if _, ok := c.statics[id]; ok {
			fail("the texts of body %d come again", id)
		}
		texts := make([]string, 0, len(a)-1)
		for _, t := range a[1:] {
			s, ok := t.(string)
			if !ok {
				fail("%T where a text must be", t)
			}
			texts = append(texts, s)
		}
		c.statics[id] = texts
	}
}

func (c *Client) row(body int, v any) *clientRow {
	a := array(v)
	texts, ok := c.statics[body]
	if !ok {
		fail("body %d is not known", body)
	}
	if len(a)+1 != len(texts) {
		fail("%d dynamics between %d texts", len(a), len(texts))
	}
	r := &clientRow{body: body, dyns: make([]any, len(a))}
	for i, d := range a {
		if s, ok := d.(string); ok {
			r.dyns[i] = s
		} else {
			r.dyns[i] = c.group(d)
		}
	}
	return r
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
		s, isString := patch[i+1].(string)
		g, isGroup := r.dyns[slot].(*clientGroup)
		switch {
		case isString == isGroup:
			fail("slot %d changes its kind", slot)
		case isString:
			r.dyns[slot] = s
		case isEdit(patch[i+1]):
			c.edit(g, array(patch[i+1]))
		default:
			r.dyns[slot] = c.group(patch[i+1])
		}
	}
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
