package livetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/andybalholm/cascadia"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// document is the page as a browser has it: what came over HTTP, the view in it, the regions in that.
type document struct {
	root *html.Node
	live *html.Node // the element that holds the view; nil when the page is none of a view
}

func parse(page string) *document {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		// The parser takes any text; only its reader can fail, and a string does not.
		panic(err)
	}
	return &document{root: root, live: find(root, func(n *html.Node) bool { return has(n, "data-live") })}
}

// show puts html into an element, in place of what it holds.
func show(in *html.Node, text string) {
	for in.FirstChild != nil {
		in.RemoveChild(in.FirstChild)
	}
	nodes, err := html.ParseFragment(strings.NewReader(text), &html.Node{Type: html.ElementNode, Data: in.Data, DataAtom: in.DataAtom})
	if err != nil {
		panic(err) // as in parse
	}
	for _, n := range nodes {
		in.AppendChild(n)
	}
}

// all calls yield for n and what is in it, in the order of the page, until yield returns false.
func all(n *html.Node, yield func(*html.Node) bool) bool {
	if !yield(n) {
		return false
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		if !all(c, yield) {
			return false
		}
	}
	return true
}

// find returns the first element for which is reports true, or nil.
func find(n *html.Node, is func(*html.Node) bool) (found *html.Node) {
	all(n, func(n *html.Node) bool {
		if n.Type == html.ElementNode && is(n) {
			found = n
		}
		return found == nil
	})
	return found
}

// up returns the nearest element for which is reports true, n included, or nil.
func up(n *html.Node, is func(*html.Node) bool) *html.Node {
	for ; n != nil; n = n.Parent {
		if n.Type == html.ElementNode && is(n) {
			return n
		}
	}
	return nil
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Namespace == "" && a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

func has(n *html.Node, name string) bool { _, ok := attr(n, name); return ok }

func get(n *html.Node, name string) string { v, _ := attr(n, name); return v }

func setAttr(n *html.Node, name, value string) {
	for i, a := range n.Attr {
		if a.Namespace == "" && a.Key == name {
			n.Attr[i].Val = value
			return
		}
	}
	n.Attr = append(n.Attr, html.Attribute{Key: name, Val: value})
}

func delAttr(n *html.Node, name string) {
	n.Attr = slices.DeleteFunc(n.Attr, func(a html.Attribute) bool { return a.Namespace == "" && a.Key == name })
}

func is(n *html.Node, tags ...atom.Atom) bool {
	return n.Type == html.ElementNode && slices.Contains(tags, n.DataAtom)
}

// text returns the text of an element, its white space squeezed to single spaces, without scripts and styles.
func text(n *html.Node) string {
	var b strings.Builder
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		switch {
		case n.Type == html.TextNode:
			b.WriteString(n.Data)
		case is(n, atom.Script, atom.Style, atom.Template):
		default:
			if is(n, atom.Br) {
				b.WriteByte(' ')
			}
			for c := n.FirstChild; c != nil; c = c.NextSibling {
				walk(c)
			}
			// Words of two cells or paragraphs are not one word.
			if n.Type == html.ElementNode && !inline[n.DataAtom] {
				b.WriteByte(' ')
			}
		}
	}
	walk(n)
	return strings.Join(strings.Fields(b.String()), " ")
}

var inline = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.B: true, atom.Bdi: true, atom.Cite: true, atom.Code: true, atom.Data: true, atom.Del: true,
	atom.Em: true, atom.I: true, atom.Ins: true, atom.Kbd: true, atom.Label: true, atom.Mark: true, atom.Q: true, atom.S: true,
	atom.Samp: true, atom.Small: true, atom.Span: true, atom.Strong: true, atom.Sub: true, atom.Sup: true, atom.Time: true,
	atom.U: true, atom.Var: true, atom.Wbr: true, atom.Font: true,
}

func outerHTML(n *html.Node) string {
	var b strings.Builder
	if err := html.Render(&b, n); err != nil {
		return err.Error() // only a tree that no parser makes
	}
	return b.String()
}

// query returns the elements that match a CSS selector.
func (d *document) query(selector string) ([]*html.Node, error) {
	s, err := cascadia.ParseGroup(selector)
	if err != nil {
		return nil, fmt.Errorf("%q is no CSS selector: %w", selector, err)
	}
	return cascadia.QueryAll(d.root, s), nil
}

// check returns what is wrong with a page that a browser would bear, and that goes wrong later.
func (d *document) check() error {
	ids := map[string]*html.Node{}
	var err error
	all(d.root, func(n *html.Node) bool {
		if n.Type != html.ElementNode {
			return true
		}
		if id, ok := attr(n, "id"); ok {
			if first := ids[id]; first != nil {
				err = fmt.Errorf("two elements have the id %q: %s and %s", id, tag(first), tag(n))
			}
			ids[id] = n
		} else {
			for _, a := range []string{"live-hook", "live-update"} {
				if has(n, a) {
					err = fmt.Errorf("an element with %s must have an id: %s", a, tag(n))
				}
			}
			if is(n, atom.Form) && has(n, "live-change") {
				err = fmt.Errorf("a form with live-change must have an id, or what was typed is lost when the page reconnects: %s", tag(n))
			}
		}
		return err == nil
	})
	return err
}

// tag returns the start tag of an element.
func tag(n *html.Node) string {
	copy := &html.Node{Type: n.Type, Data: n.Data, DataAtom: n.DataAtom, Attr: n.Attr}
	s := outerHTML(copy)
	if i := strings.LastIndex(s, "</"); i > 0 {
		s = s[:i]
	}
	return s
}

// concealed returns why nobody can see or use an element, "" when one can.
func concealed(n *html.Node) string {
	if up(n, func(n *html.Node) bool { return has(n, "hidden") }) != nil {
		return "is hidden"
	}
	if up(n, func(n *html.Node) bool { return has(n, "inert") }) != nil {
		return "is inert"
	}
	if up(n, func(n *html.Node) bool { return hidesByStyle(get(n, "style")) }) != nil {
		return "is hidden by its style"
	}
	if up(n, func(n *html.Node) bool { return is(n, atom.Dialog) && !has(n, "open") }) != nil {
		return "is in a dialog that is not open"
	}
	if up(n, func(n *html.Node) bool { return is(n, atom.Template) }) != nil {
		return "is in a template"
	}
	if is(n, atom.Input) && strings.EqualFold(get(n, "type"), "hidden") {
		return "is a hidden field"
	}
	if isDisabled(n) {
		return "is disabled"
	}
	if b := up(n, func(n *html.Node) bool { return is(n, atom.Button) }); b != nil && isDisabled(b) {
		return "is in a button that is disabled"
	}
	return ""
}

func hidesByStyle(style string) bool {
	for rule := range strings.SplitSeq(style, ";") {
		name, value, _ := strings.Cut(rule, ":")
		value = strings.TrimSpace(strings.ToLower(strings.TrimSuffix(strings.TrimSpace(value), "!important")))
		switch strings.TrimSpace(strings.ToLower(name)) {
		case "display":
			if value == "none" {
				return true
			}
		case "visibility":
			if value == "hidden" || value == "collapse" {
				return true
			}
		}
	}
	return false
}

// isDisabled reports whether a control is disabled, by itself or by a fieldset around it.
func isDisabled(n *html.Node) bool {
	if !is(n, atom.Button, atom.Input, atom.Select, atom.Textarea, atom.Option, atom.Optgroup, atom.Fieldset) {
		return false
	}
	if has(n, "disabled") {
		return true
	}
	for child, set := n, n.Parent; set != nil; child, set = set, set.Parent {
		if !is(set, atom.Fieldset) || !has(set, "disabled") {
			continue
		}
		legend := find(set, func(l *html.Node) bool { return is(l, atom.Legend) && l.Parent == set })
		if legend == nil || child != legend {
			return true
		}
	}
	return false
}
