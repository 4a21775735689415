package livetest

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// entry is a name and a value that a form sends.
type entry struct{ name, value string }

// encode writes entries in the form encoding, in their order.
func encode(entries []entry) string {
	var b strings.Builder
	for i, e := range entries {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(e.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(e.value))
	}
	return b.String()
}

// controls returns what belongs to a form, in the order of the page.
func controls(root, form *html.Node) []*html.Node {
	var list []*html.Node
	all(root, func(n *html.Node) bool {
		if is(n, atom.Input, atom.Select, atom.Textarea, atom.Button) && formOf(root, n) == form {
			list = append(list, n)
		}
		return true
	})
	return list
}

// formOf returns the form that a control belongs to, or nil.
func formOf(root, n *html.Node) *html.Node {
	if id, ok := attr(n, "form"); ok {
		return find(root, func(f *html.Node) bool { return is(f, atom.Form) && get(f, "id") == id })
	}
	return up(n, func(f *html.Node) bool { return is(f, atom.Form) })
}

func kind(n *html.Node) string {
	switch n.DataAtom {
	case atom.Input:
		if t := strings.ToLower(get(n, "type")); t != "" {
			return t
		}
		return "text"
	case atom.Button:
		switch t := strings.ToLower(get(n, "type")); t {
		case "reset", "button":
			return t
		}
		return "submit"
	}
	return n.Data // select and textarea
}

func isSubmitter(n *html.Node) bool {
	return is(n, atom.Input, atom.Button) && (kind(n) == "submit" || kind(n) == "image")
}

// isField reports whether a control is one to enter something into, no button.
func isField(n *html.Node) bool {
	if !is(n, atom.Input, atom.Select, atom.Textarea) {
		return false
	}
	switch kind(n) {
	case "submit", "image", "button", "reset":
		return false
	}
	return true
}

// entries returns what a form sends: its successful controls, and the button that sends it, if any.
func entries(root, form, button *html.Node) []entry {
	var list []entry
	for _, n := range controls(root, form) {
		name := get(n, "name")
		if name == "" || isDisabled(n) || up(n, func(n *html.Node) bool { return is(n, atom.Datalist) }) != nil {
			continue
		}
		if !isField(n) {
			if n == button {
				list = append(list, entry{name, get(n, "value")})
			}
			continue
		}
		for _, v := range values(n) {
			list = append(list, entry{name, v})
		}
	}
	return list
}

// values returns what a field sends.
func values(n *html.Node) []string {
	switch kind(n) {
	case "checkbox", "radio":
		if !has(n, "checked") {
			return nil
		}
		return []string{boxValue(n)}
	case "select":
		var list []string
		for _, o := range options(n) {
			if has(o, "selected") && !isOff(o) {
				list = append(list, optionValue(o))
			}
		}
		return list
	case "textarea":
		return []string{content(n)}
	}
	return []string{get(n, "value")}
}

func boxValue(n *html.Node) string {
	if v, ok := attr(n, "value"); ok {
		return v
	}
	return "on"
}

func content(n *html.Node) string {
	var b strings.Builder
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		b.WriteString(c.Data)
	}
	return b.String()
}

func options(sel *html.Node) []*html.Node {
	var list []*html.Node
	all(sel, func(n *html.Node) bool {
		if is(n, atom.Option) {
			list = append(list, n)
		}
		return true
	})
	return list
}

func optionValue(o *html.Node) string {
	if v, ok := attr(o, "value"); ok {
		return v
	}
	return text(o)
}

// isOff reports whether an option cannot be chosen.
func isOff(o *html.Node) bool {
	return has(o, "disabled") || up(o, func(n *html.Node) bool { return is(n, atom.Optgroup) && has(n, "disabled") }) != nil
}

// choose makes a select without a choice show its first option, as browsers do, and one with several the last.
func choose(sel *html.Node) {
	if has(sel, "multiple") {
		return
	}
	var first, last *html.Node
	for _, o := range options(sel) {
		if first == nil && !isOff(o) {
			first = o
		}
		if has(o, "selected") {
			last = o
		}
	}
	if last == nil {
		if last = first; last == nil || get(sel, "size") > "1" {
			return
		}
	}
	for _, o := range options(sel) {
		delAttr(o, "selected")
	}
	setAttr(last, "selected", "")
}

// enter makes those of the controls that have a name show values. It returns them.
func enter(controls []*html.Node, name string, vs []string) ([]*html.Node, error) {
	var fields []*html.Node
	var names []string
	for _, n := range controls {
		if !isField(n) {
			continue
		}
		if get(n, "name") == name {
			fields = append(fields, n)
		}
		if got := get(n, "name"); got != "" && !slices.Contains(names, got) {
			names = append(names, got)
		}
	}
	if len(fields) == 0 {
		return nil, fmt.Errorf("there is no field %q, only %s", name, strings.Join(names, ", "))
	}
	for _, n := range fields {
		if why := concealed(n); why != "" && (len(fields) == 1 || kind(n) != "hidden") {
			return nil, fmt.Errorf("nobody can change the field %q: it %s", name, why)
		}
		if has(n, "readonly") {
			return nil, fmt.Errorf("nobody can change the field %q: it is readonly", name)
		}
	}
	// A hidden field in front of a checkbox sends a value for the box that is not checked.
	fields = slices.DeleteFunc(fields, func(n *html.Node) bool { return kind(n) == "hidden" })
	switch first := fields[0]; kind(first) {
	case "radio":
		return fields, enterBoxes(name, fields, vs[len(vs)-1:])
	case "checkbox":
		return fields, enterBoxes(name, fields, slices.DeleteFunc(slices.Clone(vs), func(v string) bool { return v == "" }))
	case "select":
		return fields, enterSelect(name, first, vs)
	case "file":
		return nil, fmt.Errorf("the field %q is for files, which no event carries", name)
	}
	if len(vs) > len(fields) {
		return nil, fmt.Errorf("%d values for %d fields %q", len(vs), len(fields), name)
	}
	for i, v := range vs {
		if fields[i].DataAtom == atom.Textarea {
			fields[i].FirstChild, fields[i].LastChild = nil, nil
			fields[i].AppendChild(&html.Node{Type: html.TextNode, Data: v})
		} else if strings.ContainsAny(v, "\r\n") {
			return nil, fmt.Errorf("the field %q takes one line, not %q", name, v)
		} else {
			setAttr(fields[i], "value", v)
		}
	}
	return fields, nil
}

// enterBoxes checks the boxes with values and no others.
func enterBoxes(name string, boxes []*html.Node, vs []string) error {
	for _, v := range vs {
		if !slices.ContainsFunc(boxes, func(n *html.Node) bool { return boxValue(n) == v }) {
			var have []string
			for _, n := range boxes {
				have = append(have, strconv.Quote(boxValue(n)))
			}
			return fmt.Errorf("the field %q cannot be %q, only %s", name, v, strings.Join(have, ", "))
		}
	}
	for _, n := range boxes {
		if delAttr(n, "checked"); slices.Contains(vs, boxValue(n)) {
			setAttr(n, "checked", "")
		}
	}
	return nil
}

func enterSelect(name string, sel *html.Node, vs []string) error {
	if !has(sel, "multiple") && len(vs) > 1 {
		return fmt.Errorf("%d values for the field %q, which takes one", len(vs), name)
	}
	var chosen []*html.Node
	for _, v := range vs {
		if v == "" && has(sel, "multiple") {
			continue // none
		}
		i := slices.IndexFunc(options(sel), func(o *html.Node) bool { return optionValue(o) == v && !isOff(o) })
		if i < 0 {
			var have []string
			for _, o := range options(sel) {
				if !isOff(o) {
					have = append(have, strconv.Quote(optionValue(o)))
				}
			}
			return fmt.Errorf("the field %q cannot be %q, only %s", name, v, strings.Join(have, ", "))
		}
		chosen = append(chosen, options(sel)[i])
	}
	for _, o := range options(sel) {
		if delAttr(o, "selected"); slices.Contains(chosen, o) {
			setAttr(o, "selected", "")
		}
	}
	return nil
}

// typed is what the user has entered into one field, over what the server has rendered for it.
type typed struct {
	shown    string // what the field shows, as state has it
	rendered string // what the server had rendered when it was entered
}

// state returns what a field shows, as a string: its value, or what is checked or selected.
func state(n *html.Node) string {
	switch kind(n) {
	case "checkbox", "radio":
		return strconv.FormatBool(has(n, "checked"))
	case "select":
		var on []string
		for _, o := range options(n) {
			if has(o, "selected") {
				on = append(on, optionValue(o))
			}
		}
		return encodeList(on)
	case "textarea":
		return content(n)
	}
	return get(n, "value")
}

func encodeList(list []string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(strconv.Quote(s))
		b.WriteByte(',')
	}
	return b.String()
}

// restore makes a field show a state.
func restore(n *html.Node, s string) {
	switch kind(n) {
	case "checkbox", "radio":
		if delAttr(n, "checked"); s == "true" {
			setAttr(n, "checked", "")
		}
	case "select":
		for _, o := range options(n) {
			if delAttr(o, "selected"); strings.Contains(","+s, ","+strconv.Quote(optionValue(o))+",") {
				setAttr(o, "selected", "")
			}
		}
	case "textarea":
		n.FirstChild, n.LastChild = nil, nil
		n.AppendChild(&html.Node{Type: html.TextNode, Data: s})
	default:
		setAttr(n, "value", s)
	}
}

// keysOf names every field of a document so that the same field has the same name after a change of the page.
func keysOf(root *html.Node) map[*html.Node]string {
	keys := map[*html.Node]string{}
	count := map[string]int{}
	all(root, func(n *html.Node) bool {
		if n.Type != html.ElementNode || !isField(n) {
			return true
		}
		key := get(n, "id")
		if key == "" {
			form := ""
			if f := formOf(root, n); f != nil {
				form = get(f, "id")
			}
			key = form + "\x00" + get(n, "name")
			if k := kind(n); k == "radio" || k == "checkbox" {
				key += "\x00" + boxValue(n)
			}
			count[key]++
			key += "\x00" + strconv.Itoa(count[key])
		}
		keys[n] = key
		return true
	})
	return keys
}
