//go:build !race

package client_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/internal/render"
)

// pages are the templates whose frames the client must follow.
var pages = map[string]string{
	"table": `<h1 id="title">{{.S}}</h1><table><thead><tr><th>a</th></tr></thead><tbody id="rows">{{range .L}}
		<tr id="row-{{.K}}" class="{{if .B}}up{{end}}" live-click="pick"><td>{{.V}}</td><td>{{if .B}}<b id="b-{{.K}}">{{.V}}</b>{{end}}</td></tr>{{end}}
	</tbody></table><p>{{.T}}</p>`,
	"empty list": `<ul id="l">{{range .L}}<li id="i-{{.K}}">{{.V}}</li>{{else}}<li>nothing {{$.S}}</li>{{end}}</ul>{{if .B}}<hr>{{end}}`,
	"no ids":     `<div id="d">{{range .L}}<p>{{.V}}</p>{{end}}</div><ol>{{range $i, $e := .L}}<li>{{$i}} {{$e.V}}</li>{{end}}</ol>`,
	"scopes": `<main id="main" class="{{.S}}"><section id="one"><h2>{{.S}}</h2><div id="in" title="{{.T}}">{{if .B}}<i>{{.S}}</i>{{else}}none{{end}}</div></section>
		<button id="go" live-click="go">{{.T}}</button><form id="f" live-change="c"><span id="err">{{.S}}</span><button type="button" live-click="x">{{.T}}</button></form></main>{{.T}}`,
	"nested lists": `<div id="all">{{range .L}}<section id="s-{{.K}}" live-click="pick"><h3>{{.V}}</h3><ul id="u-{{.K}}">{{range .C}}<li id="c-{{.K}}">{{.V}}</li>{{end}}</ul></section>{{end}}</div>`,
	"templates": `{{define "row"}}<li id="r-{{.K}}"{{if .B}} hidden{{end}}>{{.V}}{{template "more" .}}</li>{{end}}{{define "more"}}{{range .C}}<em>{{.V}}</em>{{end}}{{end}}
		<ul id="l">{{range .L}}{{template "row" .}}{{end}}</ul>{{with .S}}<u>{{.}}</u>{{else}}empty{{end}}`,
	"options": `<form id="f" live-change="c"><select name="s" id="sel">{{range .L}}<option value="{{.K}}"{{if .B}} selected{{end}}>{{.V}}</option>{{end}}</select>
		<input name="i" value="{{.S}}"{{if .B}} disabled{{end}}><textarea name="t">{{.T}}</textarea><input type="checkbox" name="c"{{if .B}} checked{{end}}></form>`,
	"vector": `<svg id="svg" viewBox="0 0 9 9"><g id="dots">{{range .L}}<circle id="dot-{{.K}}" r="{{.V}}"></circle>{{end}}</g><text>{{.S}}</text></svg>`,
	"stream": `<h1 id="h">{{.S}}</h1>{{if .B}}<div id="chat"><ul id="feed" live-update="stream">{{range .F.Rows}}<li id="m-{{.K}}">{{.V}}{{if .B}}<b>!</b>{{end}}</li>{{end}}</ul><p id="p">{{.T}}</p>` +
		`<button id="go" live-click="go">{{.T}}</button></div>{{end}}<i>{{.T}}</i>`,
	"open tags": `{{if .B}}<div id="x">{{end}}{{.S}}{{if .B}}</div>{{end}}<p id="y" data-s="{{.S}}" data-{{len .L}}="1">{{.T}}</p>`,
	"early":     `<ul id="l">{{range .L}}{{if .B}}{{break}}{{end}}<li id="i-{{.K}}">{{.V}}</li>{{end}}</ul><a href="/q?x={{.S}}" onclick="f({{.T}})">{{.S}}</a>`,
}

type row struct {
	K string
	V string
	B bool
	C []row
}

type data struct {
	S, T string
	B    bool
	L    []row
	F    *feed
}

// feed is a stream: what the template sees of it is what the view wants to be told.
type feed struct {
	view *render.View // nil to print all
	all  []row
	ops  []render.Op
	rows []row // of ops
}

func (f *feed) Rows() iter.Seq[row] {
	return func(yield func(row) bool) {
		rows := f.all
		if f.view != nil && f.view.Known() {
			f.view.Ops(f.ops)
			rows = f.rows
		} else if f.view != nil {
			f.view.Ops([]render.Op{{Kind: render.StreamInsert, Rows: len(rows), At: -1}})
		}
		for _, r := range rows {
			if !yield(r) {
				return
			}
		}
	}
}

var texts = []string{"", "a", "b", "c d", "7", `<script>alert(1)</script>`, `"><img src=x>`, "a&b;c", "日本 𝄞", "O'Reilly", "</li></ul>", "  x  "}

// step changes d a little.
func step(r *rand.Rand, d *data, next *int) {
	text := func() string { return texts[r.IntN(len(texts))] }
	fresh := func() row {
		*next++
		out := row{K: strconv.Itoa(*next), V: text(), B: r.IntN(3) == 0}
		for range r.IntN(4) {
			*next++
			out.C = append(out.C, row{K: strconv.Itoa(*next), V: text()})
		}
		return out
	}
	d.L = slices.Clone(d.L)
	for range 1 + r.IntN(3) {
		n := len(d.L)
		switch kind := r.IntN(12); {
		case kind == 0:
			d.S = text()
		case kind == 1:
			d.T = text()
		case kind == 2:
			d.B = !d.B
		case kind == 3 || n == 0:
			for range 1 + r.IntN(4) {
				d.L = slices.Insert(d.L, r.IntN(len(d.L)+1), fresh())
			}
		case kind == 4:
			at := r.IntN(n)
			d.L = slices.Delete(d.L, at, at+1+r.IntN(n-at))
		case kind == 5:
			r.Shuffle(n, func(i, j int) { d.L[i], d.L[j] = d.L[j], d.L[i] })
		case kind == 6:
			at, to := r.IntN(n), r.IntN(n)
			moved := d.L[at]
			d.L = slices.Insert(slices.Delete(d.L, at, at+1), to, moved)
		case kind == 7:
			d.L[r.IntN(n)].B = r.IntN(2) == 0
		case kind == 8:
			i := r.IntN(n)
			d.L[i].C = append(slices.Clone(d.L[i].C), fresh())
		default:
			d.L[r.IntN(n)].V = text()
		}
	}
	stepFeed(r, d.F, fresh)
}

func stepFeed(r *rand.Rand, f *feed, fresh func() row) {
	f.ops, f.rows = nil, nil
	index := func(k string) int { return slices.IndexFunc(f.all, func(x row) bool { return x.K == k }) }
	for range r.IntN(4) {
		n := len(f.all)
		switch kind := r.IntN(6); {
		case kind < 3:
			op := render.Op{Kind: render.StreamInsert, At: r.IntN(n+2) - 1, Rows: 1 + r.IntN(2)}
			at := op.At
			if at < 0 || at > n {
				at = n
			}
			for range op.Rows {
				x := fresh()
				if n > 0 && r.IntN(4) == 0 { // one that is there
					x.K = f.all[r.IntN(n)].K
					if slices.ContainsFunc(f.rows[max(0, len(f.rows)-1):], func(y row) bool { return y.K == x.K }) {
						x = fresh()
					}
				}
				f.rows = append(f.rows, x)
				if i := index(x.K); i >= 0 {
					f.all[i] = x
				} else {
					f.all = slices.Insert(f.all, at, x)
					at++
				}
			}
			if r.IntN(3) == 0 {
				op.Limit = 1 + r.IntN(5)
				f.all = f.all[:min(op.Limit, len(f.all))]
			} else if r.IntN(3) == 0 {
				op.Limit = -1 - r.IntN(5)
				f.all = f.all[max(0, len(f.all)+op.Limit):]
			}
			f.all = slices.Clone(f.all)
			f.ops = append(f.ops, op)
		case kind == 3 && n > 0:
			k := f.all[r.IntN(n)].K
			f.all = slices.Delete(slices.Clone(f.all), index(k), index(k)+1)
			f.ops = append(f.ops, render.Op{Kind: render.StreamDelete, IDs: []string{"m-" + k, "m-none"}})
		case kind == 4 && n > 0:
			x := fresh()
			x.K = f.all[r.IntN(n)].K
			f.all = slices.Clone(f.all)
			f.all[index(x.K)] = x
			f.rows = append(f.rows, x)
			f.ops = append(f.ops, render.Op{Kind: render.StreamUpdate, Rows: 1})
		case kind == 5 && r.IntN(3) == 0:
			f.all = nil
			f.ops = append(f.ops, render.Op{Kind: render.StreamReset})
		}
	}
}

// A page of the corpus is what came over HTTP and each frame with the HTML that html/template prints for it.
type page struct {
	Name  string  `json:"name"`
	HTML  string  `json:"html"`
	Steps []frame `json:"steps"`
}

type frame struct {
	Frame json.RawMessage `json:"frame"`
	HTML  string          `json:"html"`
}

func TestClientShowsWhatTheTemplatesPrint(t *testing.T) {
	t.Parallel()
	run := node(t)
	var corpus []page
	for name, text := range pages {
		parsed, err := template.New("page").Parse(text)
		require.NoError(t, err)
		tmpl, err := render.New(parsed)
		require.NoError(t, err, name)
		for seed := range uint64(4) {
			corpus = append(corpus, follow(t, tmpl, fmt.Sprintf("%s %d", name, seed), seed))
		}
	}
	file := filepath.Join(t.TempDir(), "corpus.json")
	out, err := json.Marshal(corpus)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, out, 0o644))
	if keep := os.Getenv("LEVADA_CORPUS"); keep != "" {
		require.NoError(t, os.WriteFile(keep, out, 0o644))
	}
	run("node", "test/corpus.mjs", file)
}

func follow(t *testing.T, tmpl *render.Template, name string, seed uint64) page {
	r := rand.New(rand.NewPCG(seed, 7))
	view := tmpl.NewView()
	next := 0
	d := data{S: "s", T: "t", B: seed%2 == 0, F: &feed{}}
	html := func() string {
		var b bytes.Buffer
		d.F.view = nil
		require.NoError(t, tmpl.Execute(&b, d))
		return b.String()
	}
	step(r, &d, &next)
	p := page{Name: name, HTML: html()}
	for range 16 {
		d.F.view = view
		body, err := view.Frame(nil, d)
		require.NoError(t, err, name)
		if len(body) > 0 {
			p.Steps = append(p.Steps, frame{body, html()})
		}
		if r.IntN(12) == 0 {
			view.Reset()
		}
		step(r, &d, &next)
	}
	return p
}
