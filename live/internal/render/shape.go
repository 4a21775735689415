package render

import (
	"cmp"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

var streamTag = regexp.MustCompile(`(?i)live-update\s*=\s*["']?stream\b`)

// shapes finds the shape of each body and the streams, and prepares the statics.
func (w *weaver) shapes() error {
	m := &markup{split: w.t, lists: w.lists, found: map[int]*finding{}, loops: map[string]bool{},
		known: map[string]*visit{}, marks: map[*element]*parse.TextNode{}}
	m.root(w.t.split.Name())
	if m.err != nil {
		return m.err
	}
	blind := m.blind.String()
	for id, b := range w.t.bodies {
		f := m.found[id]
		if f == nil || m.visits > maxVisits {
			f = &finding{}
		}
		f.scopes = slices.DeleteFunc(f.scopes, func(s scope) bool {
			return m.ids[s.id] != 1 || strings.Contains(blind, s.id)
		})
		slices.SortFunc(f.scopes, func(x, y scope) int { return cmp.Or(x.text-y.text, x.at-y.at) })
		b.sent = b.encode(id, f)
	}
	for _, e := range m.held {
		if err := w.stream(m, e); err != nil {
			return err
		}
	}
	for _, b := range w.t.bodies {
		if m.visits > maxVisits {
			blind += strings.Join(b.statics, " ")
		}
	}
	if streamTag.MatchString(blind) {
		return fmt.Errorf("render: template %q: a stream stands where elements are opened and closed in different branches",
			w.t.split.Name())
	}
	return nil
}

// root follows the page.
func (m *markup) root(name string) {
	var s state
	m.calls = append(m.calls, name)
	v := m.list(&s, m.split.split.Lookup(name).Tree.Root, name, true)
	m.ids = v.ids
}

// stream turns the slot in a container into one that keeps nothing.
func (w *weaver) stream(m *markup, e *element) error {
	if f := m.found[e.in.body]; f == nil || e.alien() || !slices.ContainsFunc(f.scopes, func(s scope) bool { return s.id == e.id }) {
		why := e.bad
		switch {
		case m.ids[e.id] > 1:
			why = "its id comes more than once"
		case why == "" && e.alien():
			why = "it is in a <template>, <svg>, <math> or <head>"
		case why == "":
			why = "what is around it is not well formed"
		}
		return fmt.Errorf("render: template %q: the stream in #%s cannot be told from the rest of the page: %s", e.in.template, e.id, why)
	}
	slot := e.slots[0]
	w.t.bodies[e.in.body].slots[slot] = streamSlot
	mark := &m.marks[e].Text[0]
	event := w.t.events[mark]
	event.kind = writesStream
	w.t.bodies[event.body].reach = w.t.reach(event.body)
	w.t.events[mark] = event
	return nil
}

// encode returns the statics of the body as they stand in a frame.
func (b *body) encode(id int, f *finding) []byte {
	dst := strconv.AppendInt([]byte{'['}, int64(id), 10)
	dst = append(dst, ',')
	shape := byte('0')
	if f.shape {
		shape = '1'
	}
	if len(f.scopes) == 0 {
		dst = append(dst, shape)
	} else {
		dst = append(dst, '[', shape)
		for _, s := range f.scopes {
			dst = append(dst, ",["...)
			dst = appendString(dst, []byte(s.id))
			for _, n := range []int{s.text, units(b.statics[s.text][:s.at]), s.endText, units(b.statics[s.endText][:s.endAt])} {
				dst = append(dst, ',')
				dst = strconv.AppendInt(dst, int64(n), 10)
			}
			dst = append(dst, ']')
		}
		dst = append(dst, ']')
	}
	for _, s := range b.statics {
		dst = append(dst, ',')
		dst = appendString(dst, []byte(s))
	}
	return append(dst, ']')
}

// units returns how many UTF-16 code units s has once it is sent.
func units(s string) int {
	n := 0
	for _, r := range s {
		n++
		if r > 0xffff {
			n++
		}
	}
	return n
}

// after reports whether the scope ends behind a place.
func (s scope) after(text, at int) bool { return s.endText > text || s.endText == text && s.endAt > at }

// holds reports whether the scope ends no earlier than another.
func (s scope) holds(other scope) bool { return !other.after(s.endText, s.endAt) }

// cut returns the offset in bytes of an offset in UTF-16 code units, which must be in s, and on a rune.
func cut(s string, offset int) int {
	for i, r := range s {
		if offset <= 0 {
			if offset == 0 {
				return i
			}
			break
		}
		offset--
		if r > 0xffff {
			offset--
		}
	}
	if offset != 0 {
		fail("an offset that is not in the text")
	}
	return len(s)
}

// element1 returns the element when the texts, with slots between them, are one element with an id and white space
// around it, else nil. It looks at the first tag and at the last.
func element1(texts ...string) *element {
	m, v, st := &markup{}, &visit{ids: map[string]int{}}, &state{}
	for i, t := range texts {
		if i > 0 && st.in == inValue {
			st.in = inUnquoted // by what is in the slot
		}
		m.feed(st, v, []byte(strings.ReplaceAll(t, "\x00", "?")))
		v.at += len(t)
	}
	all := strings.Trim(strings.Join(texts, ""), spaces)
	e := v.first
	if e == nil || !e.hasID && !e.emptyID || !strings.HasPrefix(all, "<") {
		return nil
	}
	e.id = html.UnescapeString(e.rawID)
	if e.tagEnd >= len(strings.TrimRight(strings.Join(texts, ""), spaces)) && len(st.stack) == 0 {
		return e // void, or closed by itself
	}
	end := all[max(strings.LastIndex(all, "</"), 0):]
	end = strings.TrimPrefix(end, "</")
	if name := strings.IndexAny(end, spaces+"/>"); name < 0 || !strings.HasSuffix(end, ">") || !strings.EqualFold(end[:name], e.name) {
		return nil
	}
	return e
}

const spaces = " \n\t\f\r"
