package render

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"pgregory.net/rapid"
)

// parseIn parses markup as the content of an element, and returns that element.
func parseIn(t require.TestingT, markup string, in atom.Atom) *html.Node {
	root := &html.Node{Type: html.ElementNode, Data: in.String(), DataAtom: in}
	nodes, err := html.ParseFragment(strings.NewReader(markup), root)
	require.NoError(t, err)
	for _, n := range nodes {
		root.AppendChild(n)
	}
	return root
}

func withID(n *html.Node, id string) (found []*html.Node) {
	for c := range n.Descendants() {
		if c.Type != html.ElementNode {
			continue
		}
		for _, a := range c.Attr {
			if a.Key == "id" && a.Val == id {
				found = append(found, c)
			}
		}
	}
	return found
}

func serial(t require.TestingT, n *html.Node) string {
	var b strings.Builder
	require.NoError(t, html.Render(&b, n))
	return b.String()
}

// rows calls visit for each row of the page that is no row of a stream.
func (c *Client) rows(r *clientRow, visit func(*clientRow)) {
	visit(r)
	for _, d := range r.dyns {
		if g, ok := d.(*clientGroup); ok {
			for _, row := range g.rows {
				c.rows(row, visit)
			}
		}
	}
}

// cutOut returns the markup of a scope.
func (c *Client) cutOut(r *clientRow, s scope) string {
	b := c.statics[r.body]
	var out strings.Builder
	for i := s.text; i < s.endText; i++ {
		from := 0
		if i == s.text {
			from = s.at
		}
		out.WriteString(b.texts[i][from:])
		switch d := r.dyns[i].(type) {
		case string:
			out.WriteString(d)
		case *clientGroup:
			for _, row := range d.rows {
				c.print(&out, row)
			}
		case *clientStream:
			for _, row := range d.rows {
				out.WriteString(row.html)
			}
		}
	}
	from := 0
	if s.text == s.endText {
		from = s.at
	}
	out.WriteString(b.texts[s.endText][from:s.endAt])
	return out.String()
}

// checkShapes tests that a browser that parses the whole page sees the same elements as one that parses
// the scopes and the rows alone.
func checkShapes(t require.TestingT, c *Client) (scopes, wholes int) {
	page := parseIn(t, c.HTML(), atom.Div)
	c.rows(c.root, func(r *clientRow) {
		b := c.statics[r.body]
		for _, s := range b.scopes {
			scopes++
			there := withID(page, s.id)
			require.Len(t, there, 1, "elements with the id %q in %s", s.id, c.HTML())
			alone := parseIn(t, c.cutOut(r, s), atom.Template)
			require.NotNil(t, alone.FirstChild)
			require.Nil(t, alone.FirstChild.NextSibling, "more than #%s in %s", s.id, c.HTML())
			require.Equal(t, serial(t, there[0]), serial(t, alone.FirstChild), "#%s in %s", s.id, c.HTML())
		}
		if !b.whole {
			return
		}
		wholes++
		var element *html.Node
		for n := range parseIn(t, c.rowHTML(r), atom.Template).ChildNodes() {
			if n.Type == html.TextNode && strings.TrimSpace(n.Data) == "" {
				continue
			}
			require.Nil(t, element, "a row is one element: %s", c.rowHTML(r))
			element = n
		}
		require.NotNil(t, element, c.rowHTML(r))
		require.Equal(t, html.ElementNode, element.Type)
		for _, a := range element.Attr {
			if a.Key == "id" {
				there := withID(page, a.Val)
				require.NotEmpty(t, there, "%s in %s", c.rowHTML(r), c.HTML())
				if len(there) == 1 { // the data may bring an id twice
					require.Equal(t, serial(t, there[0]), serial(t, element), "in %s", c.HTML())
				}
				return
			}
		}
		require.Fail(t, "a row without an id", c.rowHTML(r))
	})
	return scopes, wholes
}

func TestScopesAreTheElementsWithAFixedIDThatHoldASlot(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		want       string // the shape of the root
	}{
		{"one element", `<div id="a">{{.S}}</div>`, `[1,["a",0,0,1,6]]`},
		{"white space around it", " \n<div id=a>{{.S}}</div> ", `[1,["a",0,2,1,6]]`},
		{"text behind it", `<div id="a">{{.S}}</div>.`, `[0,["a",0,0,1,6]]`},
		{"no slot", `<div id="a">x</div>`, `1`},
		{"outer before inner", `<div id="a"><p id="b">{{.S}}</p>{{.T}}</div>`, `[1,["a",0,0,2,6],["b",0,12,1,4]]`},
		{"units of UTF-16", `é😀<div id="a">{{.S}}</div>`, `[0,["a",0,3,1,6]]`},
		{"a slot in the tag", `<input class="{{.S}}" id="a">`, `[1,["a",0,0,1,9]]`},
		{"an attribute that is there or not", `<input {{if .B}}disabled{{end}} id="a">`, `[1,["a",0,0,1,8]]`},
		{"an attribute behind the tag's name", `<input{{if .B}} disabled{{end}} id="a">`, `[1,["a",0,0,1,8]]`},
		{"two behind the tag's name", `<input{{if .B}} disabled{{end}}{{if .S}} hidden{{else}} lang="x"{{end}} id="a">`, `[1,["a",0,0,2,8]]`},
		{"a tag's name that goes on", `<b{{if .B}} x{{end}}r id="a">{{.S}}</b>`, `0`},
		{"a tag's name that may go on", `<b{{if .B}}r x{{end}} id="a">{{.S}}</b>`, `0`},
		{"an attribute that may be the id", `<input {{if .B}}id="x"{{end}} id="a">`, `0`},
		{"an attribute that is an empty id", `<input {{if .B}}id{{end}} id="a">`, `0`},
		{"an attribute of any name", `<input {{.S}} id="a">`, `0`},
		{"a name that goes on", `<input {{if .B}}da{{end}}id="a">`, `0`},
		{"an id that is put together", `<input {{if .B}}i{{end}}d="a">`, `0`},
		{"an id with a slot", `<div id="a{{.S}}">{{.T}}</div>`, `1`},
		{"an id with an entity", `<div id="a&amp;b">{{.S}}</div>`, `1`},
		{"an empty id", `<div id="">{{.S}}</div>`, `0`},
		{"the first id counts", `<div id="a" id="b">{{.S}}</div>`, `[1,["a",0,0,1,6]]`},
		{"an id without quotes", `<div id=a/>{{.S}}</div>`, `[1,["a/",0,0,1,6]]`},
		{"letters in upper case", `<DIV ID="a">{{.S}}</Div >`, `[1,["a",0,0,1,7]]`},
		{"a > in an attribute", `<div title=">" id="a">{{.S}}</div>`, `[1,["a",0,0,1,6]]`},
		{"a textarea", `<textarea id="a"><b>{{.S}}</b></textarea>`, `[1,["a",0,0,1,18]]`},
		{"a script", `<div id="a"><script>if (a<b) f("</div>", {{.S}})</script>{{.T}}</div>`, `[1,["a",0,0,2,6]]`},
		{"a style", `<style id="a">p{color:{{.S}}}</style>`, `[1,["a",0,0,1,9]]`},
		{"an unknown element", `<my-box id="a">{{.S}}</my-box>`, `[1,["a",0,0,1,9]]`},
		{"no end tag of li", `<ul id="a"><li>{{.S}}<li>{{.T}}</ul>`, `[1,["a",0,0,2,5]]`},
		{"no end tag of the element", `<p id="a">{{.S}}<div>x</div>`, `0`},
		{"a div ends a p", `<p id="a"><b id="b">{{.S}}</b><div>{{.T}}</div></p>`, `[0,["b",0,10,1,4]]`},
		{"an li ends an li", `<ul id="u"><li id="a"><li id="b">{{.S}}</li></li></ul>`, `[1,["u",0,0,1,15]]`},
		{"a form in a form", `<form id="a"><form id="b">{{.S}}</form></form>`, `0`},
		{"tags that cross", `<div id="a"><b>{{.S}}</div></b>`, `0`},
		{"an end tag too many", `<div id="a">{{.S}}</div></div>`, `[0,["a",0,0,1,6]]`},
		{"a div in a table", `<div id="o"><table id="a"><div id="b">{{.S}}</div></table></div>`, `[1,["o",0,0,1,20]]`},
		{"text in a table", `<table id="a"><tr>{{.S}}</tr></table>`, `0`},
		{"a table", `<table id="a"><tr id="r"><td id="c">{{.S}}</td></tr></table>`, `[1,["a",0,0,1,18],["r",0,14,1,10],["c",0,25,1,5]]`},
		{"tags in a select", `<select id="a"><b id="b">{{.S}}</b></select>`, `0`},
		{"an svg", `<svg id="a"><path id="b" d="{{.S}}"/></svg>`, `[1,["a",0,0,1,9]]`},
		{"an svg that a div ends", `<svg id="a"><div id="b">{{.S}}</div></svg>`, `0`},
		{"a template", `<template id="a"><p id="b">{{.S}}</p></template>`, `[1,["a",0,0,1,15]]`},
		{"a slash means nothing", `<div id="a"/>{{.S}}`, `0`},
		{"a branch that opens an element", `<div id="a">{{if .B}}<b>{{end}}{{.S}}</div>`, `0`},
		{"branches that open the same element", `<p id="o">{{if .B}}<b>{{else}}<b class=x>{{end}}{{.S}}</b></p>`, `[1,["o",0,0,2,8]]`},
		{"a template that opens an element", `{{define "o"}}<div id="x">{{end}}{{template "o"}}<p id="a">{{.S}}</p></div>`, `[0,["a",1,0,2,4]]`},
		{"a template that is opened elsewhere", `{{define "o"}}<p class="{{end}}{{template "o"}}{{.S}}" id="x">{{.T}}</p><p id="a">{{.S}}</p>`, `[0,["a",3,4,4,4]]`},
		{"the same id twice", `<p id="a">{{.S}}</p><p id="a">{{.T}}</p>`, `0`},
		{"the same id in both branches", `<p id="b">{{if .B}}<i id="a">{{.S}}</i>{{else}}<i id="a">{{.T}}</i>{{end}}</p>`, `[1,["b",0,0,1,4]]`},
		{"an id that a range repeats", `<p id="a">{{.S}}</p>{{range .L}}<p id="a">{{.V}}</p>{{end}}`, `0`},
		{"an id in a range", `{{range .L}}<p id="a">{{.V}}</p>{{end}}`, `0`},
		{"an id where nothing is known", `<p id="a">{{.S}}</p>{{if .B}}<b>{{end}}<p id="a">{{.T}}</p>`, `0`},
		{"an end tag that is void before a p", `<span id="a"><p>{{.S}}</span>x`, `0`},
		{"a button in a button", `<button id="a"><button id="b">{{.S}}</button></button>`, `0`},
		{"a link in a link", `<a id="a"><a id="b">{{.S}}</a></a>`, `0`},
		{"a heading in a heading", `<h1 id="a"><h2 id="b">{{.S}}</h2></h1>`, `0`},
		{"a template that ends each p", `{{define "d"}}<div></div>{{end}}<p id="a">{{template "d"}}{{.S}}</p><p id="b">{{template "d"}}{{.S}}</p>`, `0`},
		{"a template that is allowed in one place", `{{define "x"}}<tr id="x"><td>{{.}}</td></tr>{{end}}<i>{{if .B}}<table>{{template "x" .S}}</table>{{else}}{{template "x" .T}}{{end}}</i>`, `0`},
		{"a row that is allowed in one place", `{{define "r"}}<tr id="{{.}}"><td></td></tr>{{end}}<table>{{template "r" .S}}</table>{{template "r" .T}}`, `0`},
		{"a template that calls itself", `{{define "t"}}<ul id="x{{.V}}"><li>{{.K}}{{range .C}}{{template "t" .}}{{end}}</li></ul>{{end}}<p id="a">{{template "t" .N}}</p>`, `0`},
		{"a template that calls itself in a div", `{{define "t"}}<ul id="x{{.V}}"><li>{{.K}}{{range .C}}{{template "t" .}}{{end}}</li></ul>{{end}}<div id="a">{{template "t" .N}}</div>`, `[1,["a",0,0,1,6]]`},
		{"a template that opens more and more", `{{define "t"}}<b>{{range .C}}{{template "t" .}}{{end}}{{end}}<div id="a">{{template "t" .N}}{{.S}}</div>`, `0`},
		{"a range that is left early", `<p id="a">{{range .L}}{{if .B}}{{continue}}{{end}}<b>{{.V}}</b>{{end}}</p>`, `[1,["a",0,0,1,4]]`},
		{"a range that is left in an element", `<p id="a">{{range .L}}<b>{{if .B}}{{break}}{{end}}</b>{{end}}</p>`, `0`},
		{"a call", `{{define "r"}}<p id="{{.}}"></p>{{end}}{{template "r" .S}}`, `1`},
		{"a choice of elements", `{{if .B}}<p id="x"></p>{{else if .S}}<p id="y"></p>{{else}}<b id="z"></b>{{end}}`, `1`},
		{"an element or nothing", `{{if .B}}<p id="x"></p>{{end}}`, `0`},
		{"a range", `{{range .L}}<p id="{{.K}}"></p>{{end}}`, `0`},
		{"two elements", `<p id="x"></p><p id="{{.S}}"></p>`, `0`},
		{"an element without an id", `<p>{{.S}}</p>`, `0`},
		{"a void element", ` <img src="{{.S}}" id="a"> `, `[1,["a",0,1,1,9]]`},
		{"a comment goes", `<!-- x --><p id="a">{{.S}}</p>`, `[1,["a",0,0,1,4]]`},
		{"a name that is no tag", `<p id="a">1 < 2 <3 {{.S}}</p>`, `[1,["a",0,0,1,4]]`},
		{"a page", `<!DOCTYPE html><html><head><title>{{.S}}</title><script>if (a<b) {}</script></head><body><p id="a">{{.S}}</p></body></html>`, `[0,["a",1,49,2,4]]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tmpl := build(t, test.text)
			got, _, _ := strings.Cut(strings.TrimPrefix(string(tmpl.bodies[0].sent), "[0,"), `,"`)
			if test.want[0] == '[' {
				got = string(tmpl.bodies[0].sent)[len("[0,") : len("[0,")+min(len(test.want), len(tmpl.bodies[0].sent)-3)]
			}
			require.Equal(t, test.want, got, "%s", tmpl.bodies[0].sent)
			for _, b := range []bool{true, false} {
				client := &Client{}
				data := pageData{S: "s", T: "t", B: b, L: []node{{K: "1", V: "v"}, {K: "2", V: "w", B: true}}}
				frame, err := tmpl.NewView().Frame(nil, data)
				require.NoError(t, err)
				require.NoError(t, client.Apply(frame), "%s", frame)
				checkShapes(t, client)
			}
		})
	}
}

// soup writes templates of elements that parsers treat in their own ways.
type soup struct {
	*rapid.T
	b           strings.Builder
	ids, blocks int
}

var soupNames = []string{"div", "span", "p", "b", "a", "ul", "li", "ol", "table", "tbody", "tr", "td", "th", "thead", "caption", "colgroup", "col",
	"form", "button", "select", "option", "optgroup", "input", "br", "img", "h1", "h2", "textarea", "title", "script", "style", "svg", "path", "g", "math",
	"dl", "dd", "dt", "section", "template", "noscript", "pre", "label", "ruby", "rt", "body", "html", "head", "foreignObject", "hr", "nobr", "object", "iframe", "x-y", "details"}

// usual children make soup that a parser takes as it is.
var soupChildren = map[string][]string{
	"ul": {"li"}, "ol": {"li"}, "table": {"tbody", "thead", "tr", "caption", "colgroup"}, "tbody": {"tr"}, "thead": {"tr"}, "tr": {"td", "th"},
	"colgroup": {"col"}, "select": {"option", "optgroup"}, "optgroup": {"option"}, "svg": {"g", "path", "foreignObject"}, "g": {"path"}, "dl": {"dd", "dt"},
}

func (s *soup) one(n int) bool { return rapid.IntRange(1, n).Draw(s.T, "chance") == 1 }

func (s *soup) pick(list ...string) string { return rapid.SampledFrom(list).Draw(s.T, "pick") }

func (s *soup) content(parent string, depth int) {
	for range rapid.IntRange(0, 3).Draw(s.T, "nodes") {
		switch rapid.IntRange(0, 9).Draw(s.T, "kind") {
		case 0:
			s.b.WriteString(s.pick("text", " ", "\n", "é😀"))
		case 1:
			s.b.WriteString(s.pick("{{.S}}", "{{.T}}"))
		case 2:
			s.group(parent, depth)
		default:
			if depth > 0 {
				s.element(parent, depth)
			}
		}
	}
}

func (s *soup) group(parent string, depth int) {
	if depth <= 0 {
		return
	}
	inner := func() { s.content(parent, depth-1) }
	switch rapid.IntRange(0, 6).Draw(s.T, "action") {
	case 0:
		s.b.WriteString("{{if .B}}")
		inner()
	case 1:
		s.b.WriteString("{{if .B}}")
		inner()
		s.b.WriteString("{{else}}")
		inner()
	case 2:
		s.b.WriteString("{{range .L}}{{with $}}")
		inner()
		s.b.WriteString("{{end}}")
	case 3:
		s.b.WriteString("{{with .S}}{{with $}}")
		inner()
		s.b.WriteString("{{end}}{{else}}")
		inner()
	case 4:
		s.b.WriteString("{{range .L}}" + s.pick("", "<b>") + "{{if .B}}{{break}}{{end}}{{with $}}")
		inner()
		s.b.WriteString("{{end}}")
	case 5:
		s.blocks++
		fmt.Fprintf(&s.b, `{{block "b%d" .}}`, s.blocks)
		inner()
	case 6:
		s.b.WriteString(s.pick(`{{template "open" .}}`, `{{template "close" .}}`, `{{template "leaf" .}}`, `{{template "tree" .}}`))
		return
	}
	s.b.WriteString("{{end}}")
}

func (s *soup) element(parent string, depth int) {
	name := rapid.SampledFrom(soupNames).Draw(s.T, "name")
	if usual := soupChildren[parent]; usual != nil && !s.one(6) {
		name = rapid.SampledFrom(usual).Draw(s.T, "child")
	}
	if s.one(12) {
		name = strings.ToUpper(name)
	}
	s.b.WriteString("<" + name)
	attr := func() {
		s.b.WriteString(s.pick("", ` class="{{.S}}"`, ` title='>'`, ` {{if .B}}hidden{{end}}`, `{{if .B}} hidden{{end}}`, ` data-x={{.S}}`, ` {{if .B}}title="x"{{end}}`,
			` data-{{.T}}="x"`, `{{if .B}} id="z"{{end}}`, ` {{.S}}`, "\n", ` title="{{if .B}}a{{else}}{{.T}}{{end}}"`, ` {{range .L}}data-a="{{.V}}"{{end}}`))
	}
	if s.one(3) {
		attr()
	}
	if !s.one(4) {
		s.ids++
		if s.one(10) {
			s.ids = 1
		}
		s.b.WriteString(strings.ReplaceAll(s.pick(` id="u%"`, ` ID='u%'`, ` id = "u%"`), "%", strconv.Itoa(s.ids)))
	}
	if s.one(3) {
		attr()
	}
	s.b.WriteString(s.pick(">", ">", ">", ">", " >", "/>"))
	if among(strings.ToLower(name), voidNames) && !s.one(20) {
		return
	}
	s.content(strings.ToLower(name), depth-1)
	if !s.one(15) {
		s.b.WriteString("</" + name + s.pick(">", ">", ">", " >"))
	}
}

const soupTemplates = `{{define "open"}}<div id="open">{{end}}{{define "close"}}{{.S}}</div>{{end}}{{define "leaf"}}<p id="leaf">{{.S}}</p>{{end}}` +
	`{{define "tree"}}<ul>{{range .N.C}}<li id="{{.K}}">{{.V}}{{if .C}}{{template "sub" .}}{{end}}</li>{{end}}</ul>{{end}}` +
	`{{define "sub"}}<ul class="{{.V}}">{{range .C}}<li>{{template "sub" .}}{{.V}}</li>{{end}}</ul>{{end}}`

func TestScopesAndRowsAreElementsInAnyTagSoup(t *testing.T) {
	t.Parallel()
	var taken, scopes, wholes int
	rapid.Check(t, func(rt *rapid.T) {
		s := &soup{T: rt}
		s.content("div", 5)
		parsed, err := template.New("page").Parse(soupTemplates + s.b.String())
		require.NoError(rt, err)
		tmpl, err := New(parsed)
		if err != nil {
			return // html/template refuses it
		}
		taken++
		view, client := tmpl.NewView(), &Client{}
		for range 3 {
			data := drawPage(rt)
			frame, err := view.Frame(nil, data)
			require.NoError(rt, err)
			if len(frame) > 0 {
				require.NoError(rt, client.Apply(frame), "%s", frame)
			}
			require.Equal(rt, plainHTML(rt, tmpl, data), client.HTML())
			a, b := checkShapes(rt, client)
			scopes, wholes = scopes+a, wholes+b
		}
	})
	t.Logf("%d templates, %d scopes, %d rows", taken, scopes, wholes)
}
