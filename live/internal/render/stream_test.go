package render

import (
	"fmt"
	"html/template"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const streamPage = `<h1>{{.Title}}</h1>{{if .Show}}<section id="box-{{.Title}}">
  <ul id="items" live-update="stream">
    {{range .Items}}<li id="item-{{.ID}}">{{.Text}}{{if .Done}}<b>done</b>{{else}}<i title="{{.Text}}">{{$.Title}}</i>{{end}}</li>{{end}}
  </ul></section>{{end}}<p>{{.Title}}</p>`

type streamItem struct {
	ID   string
	Text string
	Done bool
}

// feed is a stream as a page has it: it tells the view what is new, and yields everything to all others.
type feed struct {
	view *View
	all  []streamItem
	ops  []Op
	rows []streamItem
}

func (f *feed) Rows() iter.Seq[streamItem] {
	return func(yield func(streamItem) bool) {
		rows := f.all
		if f.view != nil && f.view.Known() {
			f.view.Ops(f.ops)
			rows = f.rows
		}
		for _, r := range rows {
			if !yield(r) {
				return
			}
		}
	}
}

type streamData struct {
	Title string
	Show  bool
	feed  *feed
}

func (d streamData) Items() iter.Seq[streamItem] { return d.feed.Rows() }

func TestStreamsFollowANaiveModelWhateverHappensToTheirElement(t *testing.T) {
	t.Parallel()
	tmpl := build(t, streamPage)
	rapid.Check(t, func(t *rapid.T) {
		view, client := tmpl.NewView(), &Client{}
		f := &feed{view: view}
		data := streamData{feed: f, Show: true}
		late := []*Client{}
		apply := func(frame []byte) {
			if len(frame) == 0 {
				return
			}
			require.NoError(t, client.Apply(frame), "%s", frame)
			if frame[0] == '{' && strings.HasPrefix(string(frame), `{"d"`) {
				late = nil
			}
			for _, c := range late {
				require.NoError(t, c.Apply(frame), "%s", frame)
			}
		}
		for range rapid.IntRange(1, 10).Draw(t, "frames") {
			f.ops, f.rows = nil, nil
			for range rapid.IntRange(0, 4).Draw(t, "ops") {
				f.draw(t)
			}
			data.Title = rapid.SampledFrom(nasty).Draw(t, "title")
			data.Show = rapid.IntRange(0, 3).Draw(t, "show") > 0
			if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
				view.Reset()
			}
			frame, err := view.Frame(nil, data)
			require.NoError(t, err)
			apply(frame)
			want := htmlOfItems(f.all)
			if !data.Show {
				want = ""
			}
			require.Equal(t, want, client.streamHTML("items"), "%s", frame)
			f.ops, f.rows = nil, nil
			frame, err = view.Frame(nil, data)
			require.NoError(t, err)
			require.Empty(t, frame, "nothing changed")
			if rapid.IntRange(0, 3).Draw(t, "join") == 0 {
				full, err := view.Full(nil, data)
				require.NoError(t, err)
				c := &Client{}
				require.NoError(t, c.Apply(full), "%s", full)
				late = append(late, c)
			}
			for _, c := range late {
				require.Equal(t, client.ids("items"), c.ids("items"))
			}
		}
	})
}

// draw draws an op and changes the rows as it says.
func (f *feed) draw(t *rapid.T) {
	item := func(id int) streamItem {
		return streamItem{"n" + strconv.Itoa(id), rapid.SampledFrom(nasty).Draw(t, "text"), rapid.Bool().Draw(t, "done")}
	}
	index := func(id string) int { return slices.IndexFunc(f.all, func(i streamItem) bool { return i.ID == id }) }
	f.all = slices.Clone(f.all)
	switch kind := rapid.IntRange(0, 7).Draw(t, "op"); kind {
	case 0:
		f.ops, f.all = append(f.ops, Op{Kind: StreamReset}), nil
	case 1:
		op := Op{Kind: StreamDelete}
		for range rapid.IntRange(0, 3).Draw(t, "deletes") {
			id := "n" + strconv.Itoa(rapid.IntRange(0, 12).Draw(t, "id"))
			op.IDs = append(op.IDs, "item-"+id)
			if i := index(id); i >= 0 {
				f.all = slices.Delete(f.all, i, i+1)
			}
		}
		f.ops = append(f.ops, op)
	case 2:
		op := Op{Kind: StreamUpdate}
		for id := range 12 {
			if rapid.IntRange(0, 4).Draw(t, "update") == 0 {
				row := item(id)
				op.Rows++
				f.rows = append(f.rows, row)
				if i := index(row.ID); i >= 0 {
					f.all[i] = row
				}
			}
		}
		f.ops = append(f.ops, op)
	default:
		op := Op{Kind: StreamInsert, At: rapid.IntRange(-1, 6).Draw(t, "at"), Limit: rapid.IntRange(-9, 9).Draw(t, "limit")}
		at := op.At
		if at < 0 || at > len(f.all) {
			at = len(f.all)
		}
		for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(0, 12), 0, 4, rapid.ID).Draw(t, "rows") {
			row := item(id)
			op.Rows++
			f.rows = append(f.rows, row)
			if i := index(row.ID); i >= 0 {
				f.all[i] = row
				continue
			}
			f.all = slices.Insert(f.all, at, row)
			at++
		}
		if op.Limit > 0 {
			f.all = f.all[:min(len(f.all), op.Limit)]
		}
		if op.Limit < 0 {
			f.all = f.all[max(0, len(f.all)+op.Limit):]
		}
		f.ops = append(f.ops, op)
	}
}

func (c *Client) streamRowsOf(id string) []streamRow {
	for _, r := range c.root.dyns {
		g, ok := r.(*clientGroup)
		if !ok || len(g.rows) == 0 {
			continue
		}
		for _, d := range g.rows[0].dyns {
			if s, ok := d.(*clientStream); ok {
				return s.rows
			}
		}
	}
	return nil
}

func (c *Client) ids(id string) (ids []string) {
	for _, r := range c.streamRowsOf(id) {
		ids = append(ids, r.id)
	}
	return ids
}

// streamHTML is what the rows say, without the title, which rows show as it was when they were sent.
func (c *Client) streamHTML(id string) string {
	var b strings.Builder
	for _, r := range c.streamRowsOf(id) {
		html, _, _ := strings.Cut(r.html, "<b>")
		html, _, _ = strings.Cut(html, "<i")
		b.WriteString(html)
	}
	return b.String()
}

func htmlOfItems(items []streamItem) string {
	var b strings.Builder
	for _, i := range items {
		fmt.Fprintf(&b, `<li id="item-%s">%s`, i.ID, strings.ReplaceAll(template.HTMLEscapeString(i.Text), "+", "&#43;"))
	}
	return b.String()
}

func TestNewRefusesStreamsThatAClientCouldNotFollow(t *testing.T) {
	t.Parallel()
	const row = `<li id="{{.K}}">{{.V}}</li>`
	const rows = `{{range .L}}` + row + `{{end}}`
	for _, test := range []struct{ name, text, want string }{
		{"no id", `<ul live-update="stream">` + rows + `</ul>`, "needs a fixed id"},
		{"an id with a slot", `<ul id="x{{.S}}" live-update="stream">` + rows + `</ul>`, "needs a fixed id"},
		{"text besides", `<ul id="x" live-update="stream">y` + rows + `</ul>`, "holds other things"},
		{"a dynamic besides", `<ul id="x" live-update="stream">` + rows + `{{.S}}</ul>`, "holds other things"},
		{"an element besides", `<ul id="x" live-update="stream"><li id="first"></li>` + rows + `</ul>`, "holds other things"},
		{"two ranges", `<ul id="x" live-update="stream">` + rows + rows + `</ul>`, "holds other things"},
		{"nothing", `<ul id="x" live-update="stream"> </ul>`, "holds other things"},
		{"a condition", `<ul id="x" live-update="stream">{{if .B}}` + rows + `{{end}}</ul>`, "holds a condition"},
		{"a template", `{{define "l"}}` + rows + `{{end}}<ul id="x" live-update="stream">{{template "l" .}}</ul>`, "holds a template"},
		{"in a range", `{{range .L}}<ul id="x" live-update="stream">` + rows + `</ul>{{end}}`, "stands in a range"},
		{"in a template that a range calls", `{{define "u"}}<ul id="x" live-update="stream">{{range .C}}` + row + `{{end}}</ul>{{end}}{{range .L}}{{template "u" .}}{{end}}`, "stands in a range"},
		{"in a row of a stream", `<ul id="x" live-update="stream">{{range .L}}<li id="{{.K}}"><ul id="y" live-update="stream">{{range .C}}` + row + `{{end}}</ul></li>{{end}}</ul>`, "stands in a range"},
		{"an else", `<ul id="x" live-update="stream">{{range .L}}` + row + `{{else}}none{{end}}</ul>`, "has an else"},
		{"a break", `<ul id="x" live-update="stream">{{range .L}}{{if .B}}{{break}}{{end}}` + row + `{{end}}</ul>`, "breaks or continues"},
		{"rows without an id", `<ul id="x" live-update="stream">{{range .L}}<li>{{.V}}</li>{{end}}</ul>`, "is not one element with an id"},
		{"rows of two elements", `<ul id="x" live-update="stream">{{range .L}}` + row + row + `{{end}}</ul>`, "is not one element with an id"},
		{"rows of text", `<ul id="x" live-update="stream">{{range .L}}{{.V}}{{end}}</ul>`, "is not one element with an id"},
		{"an attribute that is there or not", `<ul id="x" {{if .B}}live-update="stream"{{end}}>` + rows + `</ul>`, "decides whether"},
		{"the id twice", `<i id="x">y</i><ul id="x" live-update="stream">` + rows + `</ul>`, "more than once"},
		{"the template twice", `{{define "u"}}<ul id="x" live-update="stream">` + rows + `</ul>{{end}}{{template "u" .}}{{template "u" .}}`, "more than once"},
		{"in a select", `<select><ul id="x" live-update="stream">` + rows + `</ul></select>`, "a <ul> in a <select>"},
		{"in a template element", `<template><ul id="x" live-update="stream">` + rows + `</ul></template>`, "in a <template>"},
		{"an svg", `<svg id="x" live-update="stream">{{range .L}}<path id="{{.K}}"/>{{end}}</svg>`, "in a <template>, <svg>"},
		{"no end tag", `<ul id="x" live-update="stream">` + rows, "not well formed"},
		{"behind what markup cannot follow", `{{if .B}}<b>{{end}}<ul id="x" live-update="stream">` + rows + `</ul>`, "different branches"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := New(template.Must(template.New("page").Parse(test.text)))
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, `render: template "`)
		})
	}
}

func TestStreamsMayStandInBranchesAndTemplates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`<ul id="x" live-update="stream">{{range .L}}<li id="{{.K}}">{{.V}}</li>{{end}}</ul>`,
		`<ul live-update=stream id=x> {{range .L}} <li id="{{.K}}">{{.V}}</li> {{end}} </ul>`,
		`{{define "r"}}<li id="{{.K}}">{{.V}}</li>{{end}}<ul id="x" live-update="stream">{{range .L}}{{template "r" .}}{{end}}</ul>`,
		`<ul id="x" live-update="stream">{{range .L}}{{if .B}}<li id="{{.K}}">!</li>{{else}}<li id="{{.K}}">{{.V}}</li>{{end}}{{end}}</ul>`,
		`{{if .B}}<ul id="x" live-update="stream">{{range .L}}<li id="{{.K}}">{{.V}}</li>{{end}}</ul>{{else}}` +
			`<ol id="x" live-update="stream">{{range .L}}<li id="{{.K}}">{{.V}}</li>{{end}}</ol>{{end}}`,
		`{{define "u"}}<table><tbody id="x" live-update="stream">{{range .L}}<tr id="{{.K}}"><td>{{.V}}</td></tr>{{end}}</tbody></table>{{end}}` +
			`{{if .B}}{{template "u" .}}{{else}}<div>{{template "u" .}}</div>{{end}}`,
		`<button{{if .B}} disabled{{end}}>{{.S}}</button><ul id="x" live-update="stream">{{range .L}}<li id="{{.K}}">{{.V}}</li>{{end}}</ul>`,
		`<div id="{{.S}}">{{if .S}}<b id="{{.T}}"><ul id="x" live-update="stream">{{range .L}}<img id="{{.K}}" src="{{.V}}">{{end}}</ul></b>{{end}}</div>`,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			tmpl := build(t, text)
			rapid.Check(t, func(t *rapid.T) {
				checkPages(t, tmpl, func(p *pageData) {
					keys := map[string]bool{"": true}
					p.L = slices.DeleteFunc(p.L, func(n node) bool {
						seen := keys[n.K]
						keys[n.K] = true
						return seen
					})
				})
			})
		})
	}
}

func TestStreamThatIsToldNoOpsIsSentWholeWheneverItDiffers(t *testing.T) {
	t.Parallel()
	view := build(t, `<ul id="x" live-update="stream">{{range .}}<li id="{{.ID}}">{{.Text}}</li>{{end}}</ul>`).NewView()
	for _, step := range []struct {
		data []item
		want string
	}{
		{nil, `{"d":[{"o":[[2]]}],"s":[[0,[1,["x",0,0,1,5]],"<ul id=\"x\" live-update=\"stream\">","</ul>"],[1,1,"<li id=\"","\">","</li>"]]}`},
		{nil, ``},
		{[]item{{1, "a"}, {2, "b"}}, `[0,{"o":[[2],[1,1,-1,0,["1","a"],["2","b"]]]}]`},
		{[]item{{1, "a"}, {2, "b"}}, ``},
		{[]item{{2, "b"}}, `[0,{"o":[[2],[1,1,-1,0,["2","b"]]]}]`},
		{nil, `[0,{"o":[[2]]}]`},
	} {
		frame, err := view.Frame(nil, step.data)
		require.NoError(t, err)
		require.Equal(t, step.want, string(frame))
	}
}

func TestOpsOfAStreamAreWhatTheDocumentationNames(t *testing.T) {
	t.Parallel()
	view, f := build(t, `<ul id="x" live-update="stream">{{range .}}<li id="{{.ID}}">{{.Text}}</li>{{end}}</ul>`).NewView(), &feed{}
	f.view = view
	frame, err := view.Frame(nil, f.Rows())
	require.NoError(t, err)
	require.Contains(t, string(frame), `{"d":[{"o":[[2]]}]`)
	a, b, c := streamItem{ID: "a", Text: "1"}, streamItem{ID: "b", Text: "2"}, streamItem{ID: "c", Text: "3"}
	for _, step := range []struct {
		name string
		ops  []Op
		rows []streamItem
		want string
	}{
		{"nothing", nil, nil, ``},
		{"ops that do nothing", []Op{{Kind: StreamInsert}, {Kind: StreamDelete}, {Kind: StreamUpdate}}, nil, ``},
		{"append", []Op{{Kind: StreamInsert, At: -1, Rows: 1}}, []streamItem{a}, `[0,{"o":[[1,1,-1,0,["a","1"]]]}]`},
		{"append the same again", []Op{{Kind: StreamInsert, At: -1, Rows: 1}}, []streamItem{a}, `[0,{"o":[[1,1,-1,0,["a","1"]]]}]`},
		{"prepend and limit", []Op{{Kind: StreamInsert, Rows: 2, Limit: 2}}, []streamItem{b, c}, `[0,{"o":[[1,1,0,2,["b","2"],["c","3"]]]}]`},
		{"only limit", []Op{{Kind: StreamInsert, Limit: -1}}, nil, `[0,{"o":[[1,1,0,-1]]}]`},
		{"far below zero is behind all", []Op{{Kind: StreamInsert, At: -7, Rows: 1}}, []streamItem{a}, `[0,{"o":[[1,1,-1,0,["a","1"]]]}]`},
		{"delete", []Op{{Kind: StreamDelete, IDs: []string{"a", `"`}}}, nil, `[0,{"o":[[0,"a","\""]]}]`},
		{"update", []Op{{Kind: StreamUpdate, Rows: 1}}, []streamItem{b}, `[0,{"o":[[3,1,["b","2"]]]}]`},
		{"several", []Op{{Kind: StreamReset}, {Kind: StreamInsert, Rows: 1}, {Kind: StreamUpdate, Rows: 1}}, []streamItem{a, b}, `[0,{"o":[[2],[1,1,0,0,["a","1"]],[3,1,["b","2"]]]}]`},
	} {
		f.ops, f.rows = step.ops, step.rows
		frame, err := view.Frame(nil, f.Rows())
		require.NoError(t, err, step.name)
		require.Equal(t, step.want, string(frame), step.name)
		require.Len(t, view.words, 1, "one word for a stream, whatever its size")
	}
	view.Ops([]Op{{Kind: StreamReset}}) // nobody renders
	require.False(t, view.Known())
	require.Nil(t, view.rendering, "it belongs to others now")

	ids := []string{"a"}
	frame, err = view.Frame(nil, iter.Seq[streamItem](func(func(streamItem) bool) {
		view.Ops([]Op{{Kind: StreamDelete, IDs: ids}})
		ids[0] = "changed"
	}))
	require.NoError(t, err)
	require.Equal(t, `[0,{"o":[[0,"a"]]}]`, string(frame))

	view.Reset()
	frame, err = view.Frame(nil, iter.Seq[streamItem](func(yield func(streamItem) bool) {
		view.Ops([]Op{{Kind: StreamInsert, Rows: 1}})
		yield(a)
	}))
	require.NoError(t, err)
	require.Contains(t, string(frame), `{"o":[[2],[1,1,0,0,["a","1"]]]}`)
}

func TestWrongUseOfOpsFailsAndLeavesTheViewAsItWas(t *testing.T) {
	t.Parallel()
	tmpl := build(t, `<ul id="x" live-update="stream">{{range .Stream}}<li id="{{.ID}}"></li>{{end}}</ul>{{range .List}}{{.ID}}{{end}}`)
	one := []streamItem{{ID: "a"}}
	type page struct{ Stream, List iter.Seq[streamItem] }
	say := func(view *View, before, within []Op, rows []streamItem) iter.Seq[streamItem] {
		return func(yield func(streamItem) bool) {
			if before != nil {
				view.Ops(before)
			}
			for _, r := range rows {
				if !yield(r) {
					return
				}
				if within != nil {
					view.Ops(within)
				}
			}
		}
	}
	none := func(func(streamItem) bool) {}
	insert := []Op{{Kind: StreamInsert, Rows: 1}}
	for _, test := range []struct {
		name string
		page func(*View) page
	}{
		{"too few rows", func(v *View) page { return page{say(v, insert, nil, nil), none} }},
		{"too many rows", func(v *View) page { return page{say(v, []Op{{Kind: StreamReset}}, nil, one), none} }},
		{"between rows", func(v *View) page { return page{say(v, nil, insert, one), none} }},
		{"twice", func(v *View) page {
			return page{func(yield func(streamItem) bool) { v.Ops(nil); say(v, insert, nil, one)(yield) }, none}
		}},
		{"in a list", func(v *View) page { return page{none, say(v, insert, nil, one)} }},
		{"negative rows", func(v *View) page { return page{say(v, []Op{{Kind: StreamInsert, Rows: -1}}, nil, nil), none} }},
		{"rows of a reset", func(v *View) page { return page{say(v, []Op{{Kind: StreamReset, Rows: 1}}, nil, one), none} }},
		{"no such kind", func(v *View) page { return page{say(v, []Op{{Kind: 4}}, nil, nil), none} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			view := tmpl.NewView()
			_, err := view.Frame(nil, page{none, none})
			require.NoError(t, err)
			frame, err := view.Frame([]byte("kept"), test.page(view))
			require.ErrorIs(t, err, ErrOps)
			require.Equal(t, "kept", string(frame))
			_, err = view.Full(nil, test.page(view))
			require.ErrorIs(t, err, ErrOps)
			frame, err = view.Frame(nil, page{none, none})
			require.NoError(t, err)
			require.Empty(t, frame)
			frame, err = view.Frame(nil, page{say(view, insert, nil, one), none})
			require.NoError(t, err)
			require.NotEmpty(t, frame)
		})
	}
}

func TestStreamsAreWholeWhenTheSelfTestFails(t *testing.T) {
	t.Parallel()
	tmpl, err := newTemplate(template.Must(template.New("page").Parse(streamPage)), false)
	require.NoError(t, err)
	view, client := tmpl.NewView(), &Client{}
	f := &feed{view: view}
	for _, all := range [][]streamItem{{{ID: "a"}}, {{ID: "b"}, {ID: "c"}}, nil} {
		f.all, f.ops = all, []Op{{Kind: StreamReset}}
		frame, err := view.Frame(nil, streamData{Show: true, feed: f})
		require.NoError(t, err)
		require.NoError(t, client.Apply(frame))
		require.Equal(t, plainHTML(t, tmpl, streamData{Show: true, feed: &feed{all: all}}), client.HTML())
	}
}

func TestFullFrameOfAStreamBringsTheTextsThatItsRowsMayNeedLater(t *testing.T) {
	t.Parallel()
	view := build(t, `<ul id="x" live-update="stream">{{range .Items}}<li id="{{.ID}}">{{if $.Show}}<b>{{.Text}}</b>{{end}}</li>{{end}}</ul>`).NewView()
	f := &feed{view: view, all: []streamItem{{ID: "a", Text: "1"}}}
	data := streamData{feed: f}
	first, late := &Client{}, &Client{}
	frame, err := view.Frame(nil, data)
	require.NoError(t, err)
	require.NoError(t, first.Apply(frame))
	data.Show = true // the row stays as it was sent, but not for who comes later
	frame, err = view.Frame(nil, data)
	require.NoError(t, err)
	require.Empty(t, frame)
	frame, err = view.Full(nil, data)
	require.NoError(t, err)
	require.NoError(t, late.Apply(frame))
	require.Equal(t, `<ul id="x" live-update="stream"><li id="a"><b>1</b></li></ul>`, late.HTML())
	f.ops, f.rows = []Op{{Kind: StreamInsert, Rows: 1}}, []streamItem{{ID: "b", Text: "2"}}
	frame, err = view.Frame(nil, data)
	require.NoError(t, err)
	require.NoError(t, first.Apply(frame))
	require.NoError(t, late.Apply(frame))
}
