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

const streamPage = `<h1>{{.Title}}</h1>{{if .Show}}<section id="box">
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
