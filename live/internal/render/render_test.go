package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var pool = []string{
	`<p>{{.S}}</p>`,
	`only text`,
	`<a href="/q?x={{.S}}&y={{.S}}" title='{{.S}}' onclick="f({{.S}})">{{.S}}</a><img src={{.S}}>`,
	"<script>var x={{.S}}; /* c */ // d\n f(\"{{.S}}\"); `t`</script><style>p{color:{{.S}}}</style>",
	`{{if .B}}<b>{{.S}}</b>{{else}}<i>{{.T}}</i>{{end}}-{{if .B}}x{{end}}`,
	`<input value="{{.S}}" {{if .B}}disabled{{end}} class="a {{if .B}}{{.S}}{{else}}off{{end}}">`,
	`{{range .L}}<li id="r-{{.K}}">{{.V}}{{if .B}}<b>{{$.S}}</b>{{end}}</li>{{else}}none {{.T}}{{end}}`,
	`{{range $i, $e := .L}}{{$i}}:{{$e.V}};{{end}}`,
	`{{range .L}}{{if .B}}{{continue}}{{end}}<q>{{.V}}</q>{{end}}|{{range .L}}<q>{{.V}}{{if .B}}{{break}}{{end}}</q>{{end}}`,
	`{{range .L}}{{range $.L}}{{if .B}}{{break}}{{end}}{{.V}}{{end}}<i id='{{.K}}'>{{.V}}</i>{{end}}`,
	`{{with .S}}<u>{{.}}</u>{{else with .T}}{{.}}{{else}}empty{{end}}{{with $x := .T}}{{$x}}{{end}}`,
	`{{$v := .S}}a{{$v}}b{{$v = .T}}c{{$v}}<!-- gone {{.S}} -->d`,
	`{{.S}}<!-- gone -->{{.T}}{{if .B}}<!-- gone -->{{end}}`,
	`{{define "row"}}<tr id="c{{.K}}"><td>{{.V}}{{if .B}}!{{end}}</td></tr>{{end}}<table>{{range .L}}{{template "row" .}}{{end}}</table>`,
	`{{define "att"}}x {{.}}{{if .}}y{{end}}{{end}}<div class="{{template "att" .S}}">{{template "att" .S}}</div><script>var z="{{template "att" .S}}"</script>`,
	`{{define "tree"}}<ul>{{range .C}}<li id="n{{.K}}">{{.V}}{{template "tree" .}}</li>{{end}}</ul>{{end}}{{template "tree" .N}}`,
	`{{define "t"}}{{range .C}}{{if .B}}{{break}}{{end}}{{.V}}{{template "t" .}}{{end}}{{end}}{{template "t" .N}}`,
	`{{.H}}<p title="{{.H}}">{{printf "%s-%d" .S 3 | html}}</p>{{block "foot" .}}<f>{{.T}}</f>{{end}}`,
	`{{define "open"}}<div class="{{end}}{{define "js"}}<script>var q={{.S}};{{end}}{{template "open"}}{{.S}}">{{.T}}</div>{{template "js" .}} f({{.T}})</script>{{.S}}`,
	`{{range .L}}{{range $.L}}<s id="z{{.K}}">{{.V}}</s>{{end}}{{end}}`,
	`{{range .L}}<div class="{{.V}}" id="{{.K}}">{{range .C}}<p id="{{.K}}">{{.V}}</p>{{else}}leaf{{end}}</div>{{end}}`,
	`{{range .Seq}}<li id="s{{.K}}">{{.V}}</li>{{else}}none{{end}}{{range $i, $n := .Seq2}}{{$i}}{{$n.V}};{{end}}{{range $n := .Seq}}{{range .C}}{{.V}}{{else}}-{{$n.K}}{{end}}{{else}}none{{end}}`,
	`{{range 3}}{{.}}{{end}}{{range $i := len .L}}<b id="i{{$i}}">{{$i}}</b>{{else}}{{$.S}}{{end}}`,
	`<ol id="ch">{{range .Chan}}<li id="c-{{.K}}">{{.V}}</li>{{end}}</ol><dl id="map">{{range $k, $v := .Map}}<dt id="k{{$k}}">{{$v}}</dt>{{else}}empty{{end}}</dl>`,
	`<button id="go" live-click="{{.S}}" live-value-x='{{.T}}' live-keydown={{.S}} live-update="{{.T}}" live-debounce="{{len .L}}" {{if .B}}live-hook="{{.S}}"{{end}}>{{.T}}</button>`,
	`<input {{if .B}}disabled{{end}} id="in" {{if .S}}title="{{.S}}"{{else if .T}}title='{{.T}}'{{else}}hidden{{end}}{{range .L}} data-{{.K}}="{{.V}}"{{end}} value={{.S}}>`,
	"a \n {{- .S -}} \n b {{- if .B -}} x {{- else if .S -}} {{/* c */ -}} y {{- else}}{{end -}} \n <p id=\"p\"> {{- with .T}} {{.}} {{- else}} none {{end -}} </p>",
	`{{define "head"}}<main id="main"><section id="{{.S}}">{{end}}{{define "foot"}}</section>{{.T}}</main>{{end}}{{template "head" .}}<p id="in">{{.S}}</p>{{if .B}}<i>{{.T}}{{else}}<i class="x">{{end}}</i>{{template "foot" .}}`,
	`{{if .B}}<div id="x">{{end}}{{.S}}{{if .B}}</div>{{end}}<p id="y">{{.T}}</p>`,
	`{{range .L}}{{range .C}}{{range .C}}{{.V}}{{else}}<i>{{.K}}</i>{{end}}{{else}}{{.V}}{{end}}{{else}}{{with .S}}{{.}}{{else}}{{range .N.C}}{{.V}}{{else}}!{{end}}{{end}}{{end}}`,
	`{{block "a" .}}<ul id="u">{{block "b" .L}}{{range .}}{{block "c" .}}<li id="{{.K}}">{{.V}}</li>{{end}}{{end}}{{end}}</ul>{{end}}`,
	`{{$n := 0}}{{range $i, $e := .L}}{{if $e.B}}{{$n = $i}}{{end}}<b>{{$n}}</b>{{end}}{{$n}}{{with $x := .S}}{{$x}}{{$x = "y"}}{{$x}}{{end}}`,
	`<div id="{{.S}}">{{/* c */}}{{- .T -}}   </div>{{if and .B (gt (len .L) 2)}}many{{else if .B}}few{{else}}no{{end}}`,
}

var nasty = []string{"", "a", "b", `<script>alert(1)</script>`, `"><img src=x onerror=1>`, `javascript:alert(1)`, "\x00", "\x00\x01",
	"</script>", "a&b;c", "日本", "`${x}`", "{{.S}}", "-->", "\\u003c", "]]>", "\n\r\t", "\u2028", "O'Reilly & \"co\""}

type node struct {
	K, V string
	B    bool
	C    []node
}

type pageData struct {
	S, T string
	B    bool
	H    template.HTML
	L    []node
	N    node
}

// The methods are what else a template can range over.

func (p pageData) Seq() iter.Seq[node]        { return slices.Values(p.L) }
func (p pageData) Seq2() iter.Seq2[int, node] { return slices.All(p.L) }

func (p pageData) Chan() <-chan node {
	c := make(chan node, len(p.L))
	for _, n := range p.L {
		c <- n
	}
	close(c)
	return c
}

func (p pageData) Map() map[string]string {
	m := map[string]string{}
	for _, n := range p.L {
		m[n.K] = n.V
	}
	return m
}

func drawNode(t *rapid.T, depth int) node {
	n := node{
		K: strconv.Itoa(rapid.IntRange(0, 7).Draw(t, "key")),
		V: rapid.SampledFrom(nasty).Draw(t, "value"),
		B: rapid.IntRange(0, 3).Draw(t, "bool") == 0,
	}
	if depth > 0 {
		for range rapid.IntRange(0, 3).Draw(t, "children") {
			n.C = append(n.C, drawNode(t, depth-1))
		}
	}
	return n
}

func drawPage(t *rapid.T) pageData {
	p := pageData{
		S: rapid.SampledFrom(nasty).Draw(t, "s"),
		T: rapid.SampledFrom(nasty).Draw(t, "t"),
		B: rapid.Bool().Draw(t, "b"),
		H: template.HTML(rapid.SampledFrom([]string{"<b>x</b>", ""}).Draw(t, "h")),
		N: drawNode(t, 2),
	}
	for range rapid.IntRange(0, 6).Draw(t, "rows") { // keys may come twice
		p.L = append(p.L, drawNode(t, 1))
	}
	return p
}

func plainHTML(t require.TestingT, tmpl *Template, data any) string {
	var b bytes.Buffer
	require.NoError(t, tmpl.Execute(&b, data))
	return b.String()
}

func build(t require.TestingT, text string) *Template {
	parsed, err := template.New("page").Parse(text)
	require.NoError(t, err)
	tmpl, err := New(parsed)
	require.NoError(t, err)
	return tmpl
}

func checkConvergence(t *rapid.T, tmpl *Template) { checkPages(t, tmpl, func(*pageData) {}) }

// checkPages draws pages and checks that a view which renders all of them, another one that leaves some out, and
// clients that begin to follow the first one late, all show what html/template prints, and that scopes and rows
// are elements of that page.
func checkPages(t *rapid.T, tmpl *Template, mend func(*pageData)) {
	view, client := tmpl.NewView(), &Client{}
	lazy, patient := tmpl.NewView(), &Client{}
	var late []*Client
	apply := func(c *Client, frame []byte) {
		if len(frame) > 0 {
			require.NoError(t, c.Apply(frame), "%s", frame)
		}
	}
	for range rapid.IntRange(1, 6).Draw(t, "frames") {
		if rapid.IntRange(0, 9).Draw(t, "reset") == 0 {
			view.Reset()
			late = nil
		}
		data := drawPage(t)
		mend(&data)
		want := plainHTML(t, tmpl, data)
		frame, err := view.Frame(nil, data)
		require.NoError(t, err)
		apply(client, frame)
		require.Equal(t, want, client.HTML(), "%s", frame)
		checkShapes(t, client)
		again, err := view.Frame(nil, data)
		require.NoError(t, err)
		require.Empty(t, again, "nothing changed")
		for _, c := range late {
			apply(c, frame)
			require.Equal(t, want, c.HTML(), "%s", frame)
		}
		if rapid.Bool().Draw(t, "render") {
			skipped, err := lazy.Frame(nil, data)
			require.NoError(t, err)
			apply(patient, skipped)
			require.Equal(t, want, patient.HTML(), "%s", skipped)
		}
		if rapid.IntRange(0, 2).Draw(t, "late") == 0 {
			full, err := view.Full(nil, data)
			require.NoError(t, err)
			c := &Client{}
			apply(c, full)
			require.Equal(t, want, c.HTML(), "%s", full)
			late = append(late, c)
		}
	}
}

func TestEveryFrameBringsTheClientToAFreshRender(t *testing.T) {
	t.Parallel()
	for i, text := range pool {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			tmpl := build(t, text)
			rapid.Check(t, func(t *rapid.T) { checkConvergence(t, tmpl) })
		})
	}
}

// drawText draws the text of a template whose dot is a node.
func drawText(t *rapid.T, depth, blocks *int) string {
	leaves := []string{"", "text", "<b>{{.V}}</b>", `<i title="{{.V}}">{{.K}}</i>`, "{{.V}}{{.K}}", "{{$x := .V}}{{$x}}",
		"<script>f({{.V}})</script>", `<p class="{{if .B}}on {{.V}}{{end}}">`, `<p title="{{template "v" .}}">`, `{{template "v" .}}`}
	if *depth == 0 {
		return rapid.SampledFrom(leaves).Draw(t, "leaf")
	}
	*depth--
	defer func() { *depth++ }()
	inner := func() string { return drawText(t, depth, blocks) }
	switch rapid.IntRange(0, 7).Draw(t, "action") {
	case 0:
		return "{{if .B}}" + inner() + "{{else}}" + inner() + "{{end}}"
	case 1:
		return "{{with .C}}{{range .}}" + inner() + "{{end}}{{end}}"
	case 2:
		return `{{range .C}}<li id="{{.K}}">` + inner() + "</li>{{else}}" + inner() + "{{end}}"
	case 3:
		return "{{range .C}}" + inner() + "{{if .B}}{{continue}}{{end}}" + inner() + "{{end}}"
	case 4:
		*blocks++
		name := *blocks
		return fmt.Sprintf(`{{block "b%d" .}}%s{{end}}`, name, inner())
	case 5:
		return `{{template "row" .}}` + inner()
	case 6:
		return `{{range .C}}{{template "row" .}}{{end}}` + inner()
	default:
		return inner() + inner()
	}
}

const nestedPage = `{{define "v"}}{{.V}}{{if .B}}!{{end}}{{end}}` +
	`{{define "row"}}<li id="r{{.K}}">{{template "v" .}}{{range .C}}{{template "row" .}}{{end}}</li>{{end}}`

func TestFramesConvergeWhenTemplatesAreNestedAtRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		depth, blocks := 4, 0
		text := drawText(t, &depth, &blocks)
		checkConvergence(t, build(t, nestedPage+"{{with .N}}"+text+"{{end}}"))
	})
}

const listPage = `<ul>{{range .}}<li id="{{.ID}}">{{.Text}}</li>{{end}}</ul>`

type item struct {
	ID   int
	Text string
}

func TestKeyedListsFollowANaiveModelAndNeverOutgrowTheWholeList(t *testing.T) {
	t.Parallel()
	tmpl := build(t, listPage)
	rapid.Check(t, func(t *rapid.T) {
		view, client := tmpl.NewView(), &Client{}
		var model []item
		next := 0
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				if len(model) > 0 {
					model = rapid.Permutation(model).Draw(t, "order")
				}
			case 1:
				for range rapid.IntRange(1, 12).Draw(t, "inserts") {
					at := rapid.IntRange(0, len(model)).Draw(t, "at")
					model = slices.Insert(slices.Clone(model), at, item{next, strconv.Itoa(next * 7)})
					next++
				}
			case 2:
				for range rapid.IntRange(0, len(model)).Draw(t, "deletes") {
					at := rapid.IntRange(0, len(model)-1).Draw(t, "at")
					model = slices.Delete(slices.Clone(model), at, at+1)
				}
			case 3:
				if len(model) > 0 {
					model = slices.Clone(model)
					model[rapid.IntRange(0, len(model)-1).Draw(t, "at")].Text += "!"
				}
			}
			if rapid.Bool().Draw(t, "rotate") && len(model) > 0 {
				at := rapid.IntRange(0, len(model)-1).Draw(t, "start")
				model = append(slices.Clone(model[at:]), model[:at]...)
			}
			frame, err := view.Frame(nil, model)
			require.NoError(t, err)
			if len(frame) == 0 {
				require.Equal(t, plainHTML(t, tmpl, model), client.HTML())
				continue
			}
			require.NoError(t, client.Apply(frame), "%s", frame)
			var want strings.Builder
			whole := []any{1}
			want.WriteString("<ul>")
			for _, m := range model {
				fmt.Fprintf(&want, `<li id="%d">%s</li>`, m.ID, m.Text)
				whole = append(whole, []string{strconv.Itoa(m.ID), m.Text})
			}
			want.WriteString("</ul>")
			require.Equal(t, want.String(), client.HTML(), "%s", frame)
			if frame[0] == '[' {
				size, err := json.Marshal([]any{0, whole})
				require.NoError(t, err)
				if len(model) > 0 {
					require.LessOrEqual(t, len(frame), len(size), "%s", frame)
				}
			}
		}
	})
}

func TestListChangesAreTheOpsThatTheDocumentationNames(t *testing.T) {
	t.Parallel()
	items := func(ids ...int) []item {
		var list []item
		for _, id := range ids {
			list = append(list, item{id, "some text that is long enough " + strconv.Itoa(id)})
		}
		return list
	}
	changed := items(1, 2, 3)
	changed[1].Text = "x"
	for _, test := range []struct {
		name     string
		old, new []item
		want     string
	}{
		{"a run is deleted", items(1, 2, 3, 4), items(1, 4), `[0,[[0,1,2]]]`},
		{"one row moves to the front", items(1, 2, 3, 4), items(4, 1, 2, 3), `[0,[[2,3,0]]]`},
		{"two runs swap", items(1, 2, 3, 4, 5, 6), items(5, 6, 1, 2, 3, 4), `[0,[[2,4,0,2]]]`},
		{"a run moves to the end", items(1, 2, 3, 4, 5, 6), items(3, 4, 5, 6, 1, 2), `[0,[[2,0,4,2]]]`},
		{"all turn around", items(1, 2, 3, 4), items(4, 3, 2, 1), `[0,[[3,3,2,1,0]]]`},
		{"one cell changes", items(1, 2, 3), changed, `[0,[[4,1,[1,"x"]]]]`},
		{"all are deleted", items(1, 2), nil, `[0,0]`},
		{"rows are inserted", items(1), append([]item{{7, "a"}, {8, "b"}}, items(1)...), `[0,[[1,0,["7","a"],["8","b"]]]]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			view, client := build(t, listPage).NewView(), &Client{}
			first, err := view.Frame(nil, test.old)
			require.NoError(t, err)
			require.NoError(t, client.Apply(first))
			frame, err := view.Frame(nil, test.new)
			require.NoError(t, err)
			require.Equal(t, test.want, string(frame))
			require.NoError(t, client.Apply(frame))
		})
	}
}

func TestRowsKeepTheirIdentityByTheIDOfTheirFirstTag(t *testing.T) {
	t.Parallel()
	const filler = ` class="long enough to make an edit the shorter form"`
	for _, test := range []struct {
		name, row string
		keyed     bool
	}{
		{"double quotes", `<li id="x-{{.ID}}">{{.Text}}</li>`, true},
		{"single quotes", `<li id='{{.ID}}'>{{.Text}}</li>`, true},
		{"after another attribute", `<li` + filler + ` id="{{.ID}}">{{.Text}}</li>`, true},
		{"after another dynamic", `<li class="{{.Text}}" id="{{.ID}}"></li>`, true},
		{"in a called template", ` {{template "row" .}}`, true},
		{"two calls deep", `{{template "outer" .}}`, true},
		{"another attribute", `<li data-id="{{.ID}}">{{.Text}}</li>`, false},
		{"second tag", `<li><b id="{{.ID}}">{{.Text}}</b></li>`, false},
		{"id without a dynamic", `<li id="x">{{.ID}}{{.Text}}</li>`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tmpl := build(t, `{{define "outer"}}{{template "row" .}}{{end}}{{define "row"}}<li id="{{.ID}}">{{.Text}}</li>{{end}}`+
				`{{range .}}`+test.row+`{{end}}`)
			view := tmpl.NewView()
			list := []item{{1, strings.Repeat("a", 50)}, {2, strings.Repeat("b", 50)}, {3, strings.Repeat("c", 50)}}
			_, err := view.Frame(nil, list)
			require.NoError(t, err)
			frame, err := view.Frame(nil, list[1:])
			require.NoError(t, err)
			if test.keyed {
				require.Equal(t, `[0,[[0,0]]]`, string(frame))
			} else {
				require.NotEqual(t, `[0,[[0,0]]]`, string(frame))
			}
		})
	}
}

func TestViewKeepsNoMoreThanSixteenBytesForADynamic(t *testing.T) {
	t.Parallel()
	view := build(t, tradePage).NewView()
	_, err := view.Frame(nil, makeTrades(100))
	require.NoError(t, err)
	require.LessOrEqual(t, 8*cap(view.words)+cap(view.sent), 8000, "for 500 dynamics in rows")
}

// tradePage is a counter and a table of trades with five dynamics in a row.
const tradePage = `<div class="page">
  <h1>Trades</h1>
  <span id="count">{{.Count}}</span>
  <table><tbody id="trades">{{range .Rows}}<tr id="trades-{{.ID}}">
  <td class="sym">{{.Sym}}</td>
  <td class="px">{{.Px}}</td>
  <td class="qty">{{.Qty}}</td>
  <td class="ts">{{.TS}}</td>
</tr>{{end}}</tbody></table>
  <button live-click="inc">+</button>
</div>`

type trade struct {
	ID               int
	Sym, Px, Qty, TS string
}

type tradeData struct {
	Count int
	Rows  []trade
}

func makeTrade(i int) trade {
	return trade{i, "BTC-USD", fmt.Sprintf("%.2f", 67000+float64(i)*0.37), fmt.Sprintf("%.4f", 0.01*float64(i%50+1)),
		fmt.Sprintf("22:%02d:%02d", i/60%60, i%60)}
}

func makeTrades(n int) tradeData {
	var p tradeData
	for i := range n {
		p.Rows = append(p.Rows, makeTrade(i))
	}
	return p
}

func TestFramesAreNoLargerThanThoseOfLiveView(t *testing.T) {
	t.Parallel()
	const envelope = 18 // what carries a frame on the wire, at most
	for i, u := range updates {
		t.Run(u.name, func(t *testing.T) {
			t.Parallel()
			rows, stream := len(frameOf(t, i, false)), 0
			require.LessOrEqual(t, rows+envelope, u.keyed)
			if u.streamed > 0 {
				stream = len(frameOf(t, i, true))
				require.LessOrEqual(t, stream+envelope, u.streamed)
			}
			t.Logf("%d bytes, LiveView %d; as a stream %d, LiveView %d", rows, u.keyed, stream, u.streamed)
		})
	}
}

func TestTextsAreSentOnceInTheFirstFrameThatNeedsThem(t *testing.T) {
	t.Parallel()
	view := build(t, `{{if .}}<b>{{.}}</b>{{end}}`).NewView()
	for _, step := range []struct{ data, want string }{
		{"", `{"d":[0],"s":[[0,0,"",""]]}`},
		{"x", `{"p":[0,[1,["x"]]],"s":[[1,0,"\u003cb>","\u003c/b>"]]}`},
		{"", `[0,0]`},
		{"y", `[0,[1,["y"]]]`},
	} {
		frame, err := view.Frame(nil, step.data)
		require.NoError(t, err)
		require.JSONEq(t, step.want, string(frame))
	}
	before, err := view.Frame([]byte("kept"), "y")
	require.NoError(t, err)
	require.Equal(t, "kept", string(before))
}

func TestErrorOfATemplateLeavesTheViewAsItWas(t *testing.T) {
	t.Parallel()
	tmpl := build(t, `{{.A}}{{index .L 0}}`)
	view, client := tmpl.NewView(), &Client{}
	type data struct {
		A string
		L []string
	}
	frame, err := view.Frame(nil, data{"a", []string{"x"}})
	require.NoError(t, err)
	require.NoError(t, client.Apply(frame))
	_, err = view.Frame(nil, data{"b", nil})
	require.Error(t, err)
	frame, err = view.Frame(nil, data{"a", []string{"y"}})
	require.NoError(t, err)
	require.Equal(t, `[1,"y"]`, string(frame))
}

func TestNewLeavesTheTemplateAsItIs(t *testing.T) {
	t.Parallel()
	parsed := template.Must(template.New("page").Parse(listPage))
	_, err := New(parsed)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, parsed.Execute(&b, []item{{1, "x"}}))
	require.Equal(t, `<ul><li id="1">x</li></ul>`, b.String())
	_, err = New(parsed)
	require.Error(t, err, "it has been executed")
	_, err = New(template.New("empty"))
	require.Error(t, err)
	_, err = New(template.Must(template.New("bad").Parse(`<a href="`)))
	var escape *template.Error
	require.ErrorAs(t, err, &escape)
}

type copyingWriter struct{ w io.Writer }

func (c copyingWriter) Write(p []byte) (int, error) { return c.w.Write(bytes.Clone(p)) }

type halvingWriter struct{ w io.Writer }

func (c halvingWriter) Write(p []byte) (int, error) {
	if len(p) > 1 {
		if _, err := c.w.Write(p[:1]); err != nil {
			return 0, err
		}
		return c.w.Write(p[1:])
	}
	return c.w.Write(p)
}

func TestSelfTestNoticesOtherWaysOfWriting(t *testing.T) {
	t.Parallel()
	require.True(t, canSplit())
	require.False(t, splits(func(w io.Writer) io.Writer { return copyingWriter{w} }))
	require.False(t, splits(func(w io.Writer) io.Writer { return halvingWriter{w} }))
}

func TestWholePagesConvergeWhenTheSelfTestFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parsed := template.Must(template.New("page").Parse(rapid.SampledFrom(pool).Draw(t, "template")))
		tmpl, err := newTemplate(parsed, false)
		require.NoError(t, err)
		checkConvergence(t, tmpl)
	})
}

func TestBadUTF8ArrivesAsReplacementCharacters(t *testing.T) {
	t.Parallel()
	view, client := build(t, `<p>{{.}}</p>`).NewView(), &Client{}
	frame, err := view.Frame(nil, template.HTML("a\xff\xfeb"))
	require.NoError(t, err)
	require.NoError(t, client.Apply(frame))
	require.Equal(t, "<p>a\ufffd\ufffdb</p>", client.HTML())
}

func TestViewsOfOneTemplateRenderAtTheSameTime(t *testing.T) {
	t.Parallel()
	tmpl := build(t, tradePage)
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			view, client, data := tmpl.NewView(), &Client{}, makeTrades(10)
			for n := range 20 {
				data.Count = n + i
				frame, err := view.Frame(nil, data)
				require.NoError(t, err)
				require.NoError(t, client.Apply(frame))
				require.Equal(t, plainHTML(t, tmpl, data), client.HTML())
			}
		})
	}
}

const firstFrame = `{"d":["c",[1,["1","a"],["2","b"],["3","c"]]],"s":[[0,0,"","<ul>","</ul>"],[1,1,"<li id=",">","</li>"]]}`

func TestClientRefusesFramesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{
		``, `null`, `1`, `[]`, `[0]`, `[0,"x"] 1`, `[2,"x"]`, `[-1,"x"]`, `[0.5,"x"]`, `["0","x"]`, `[0,1]`, `[0,[1,["1","a"]]]`, `[1,"x"]`,
		`[0,"x",0,"y"]`, `[1,[2,["x"]]]`, `[1,[1]]`, `[1,[1,["x"]]]`, `[1,[[0,3]]]`, `[1,[[0,0,4]]]`, `[1,[[0,0,1]]]`, `[1,[[0,0,3]]]`,
		`[1,[[1,4,["x","y"]]]]`, `[1,[[1,0]]]`, `[1,[[2,0,0]]]`, `[1,[[2,0,3]]]`, `[1,[[2,0,2,2]]]`, `[1,[[2,0]]]`, `[1,[[3,0,1]]]`,
		`[1,[[3,0,1,1]]]`, `[1,[[4,0]]]`, `[1,[[4,1,[1,"x"],0,[1,"y"]]]]`, `[1,[[5,0]]]`, `[1,[[0]]]`,
		`[1,[[0,0],[0,1]]]`, `[1,[[1,1,["x","y"]],[1,0,["x","y"]]]]`, `[1,[[1,0,["x","y"]],[0,0]]]`, `[1,[[3,2,1,0],[3,2,1,0]]]`,
		`[1,[[2,0,1],[3,2,1,0]]]`, `[1,[[4,0,[1,"x"]],[4,1,[1,"x"]]]]`, `[1,[[3,2,1,0],[2,0,1]]]`, `{"p":[0,"x"]}`,
		`{"p":[0,"x"],"s":[]}`, `{"p":[0,"x"],"s":[[1,0,"a"]]}`, `{"p":[0,"x"],"s":[[2,0]]}`, `{"d":[],"p":[],"s":[]}`, `{"d":["c",0],"s":[[0,0,""]]}`,
		`{"d":["c",0],"s":[[0,0,"","",""]],"x":1}`,
	} {
		t.Run(frame, func(t *testing.T) {
			t.Parallel()
			var client Client
			require.NoError(t, client.Apply([]byte(firstFrame)))
			err := client.Apply([]byte(frame))
			require.ErrorIs(t, err, ErrFrame)
			require.Equal(t, err, client.Apply([]byte(`[0,"x"]`)), "the page is no longer known")
		})
	}
	require.ErrorIs(t, (&Client{}).Apply([]byte(`[0,"x"]`)), ErrFrame)
	var client Client
	require.NoError(t, client.Apply([]byte(firstFrame)))
	require.NoError(t, client.Apply([]byte(`[1,0]`)))
	require.ErrorIs(t, client.Apply([]byte(`[1,[[1,0,["7","z"]]]]`)), ErrFrame, "an edit of a group without rows")
	require.Empty(t, (&Client{}).HTML())
}

func TestFullFrameBringsALateClientToWhatTheOthersSee(t *testing.T) {
	t.Parallel()
	tmpl := build(t, `{{if .B}}<b>{{.S}}</b>{{else}}<i>{{.T}}</i>{{end}}{{range .L}}<p id="{{.K}}">{{.V}}</p>{{end}}`)
	view := tmpl.NewView()
	_, err := view.Full(nil, pageData{})
	require.Error(t, err, "there was no frame")
	shown := pageData{B: true, S: "s", L: []node{{K: "1"}, {K: "2"}}}
	now := pageData{T: "t"}
	for _, data := range []pageData{shown, now} {
		_, err := view.Frame(nil, data)
		require.NoError(t, err)
	}
	full, err := view.Full([]byte("kept"), now)
	require.NoError(t, err)
	late := &Client{}
	require.NoError(t, late.Apply(bytes.TrimPrefix(full, []byte("kept"))))
	require.Equal(t, plainHTML(t, tmpl, now), late.HTML())
	kept, err := view.Full([]byte("kept"), shown)
	require.ErrorContains(t, err, "differently")
	require.Equal(t, "kept", string(kept))
	frame, err := view.Frame(nil, now)
	require.NoError(t, err)
	require.Empty(t, frame, "the view is as it was")
	frame, err = view.Frame(nil, shown)
	require.NoError(t, err)
	require.NotContains(t, string(frame), `"s"`+":", "all texts were sent before")
	require.NoError(t, late.Apply(frame))
	require.Equal(t, plainHTML(t, tmpl, shown), late.HTML())
}

func TestClientRefusesShapesAndStreamsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, frame := range []string{
		`[2,"x"]`, `[2,0]`, `[2,[1,["7","x"]]]`, `[2,{}]`, `[2,{"o":[]}]`, `[2,{"o":[[2]],"x":1}]`, `[2,{"x":[[2]]}]`, `[2,{"o":[[]]}]`, `[2,{"o":[[4]]}]`, `[2,{"o":[[2,1]]}]`,
		`[2,{"o":[[0]]}]`, `[2,{"o":[[0,7]]}]`, `[2,{"o":[[1,1,-1]]}]`, `[2,{"o":[[1,1,-1,0]]}]`, `[2,{"o":[[1,1,-2,0,["9","z"]]]}]`, `[2,{"o":[[1,1,0.5,0,["9","z"]]]}]`,
		`[2,{"o":[[1,0,0,0,["9","z"]]]}]`, `[2,{"o":[[1,7,0,0,["9","z"]]]}]`, `[2,{"o":[[1,1,0,0,["9"]]]}]`, `[2,{"o":[[1,1,0,0,["9","z"],["9","y"]]]}]`,
		`[2,{"o":[[1,1,0,0,["","z"]]]}]`, `[2,{"o":[[3,1]]}]`, `[2,{"o":[[3,1,["8"]]]}]`, `[2,{"o":[[3,1,["",""]]]}]`, `[0,{"o":[[2]]}]`, `[1,{"o":[[2]]}]`, `[01,0]`, `[-0,"x"]`,
		`{"d":["c",0,{"o":[[0,"x"]]}],"s":[[0,0,"","","",""]]}`,
		`{"p":[0,"x"],"s":[[2,"",""]]}`, `{"p":[0,"x"],"s":[[2,2,""]]}`, `{"p":[0,"x"],"s":[[2,[1],""]]}`, `{"p":[0,"x"],"s":[[2,[1,["a",0,0,1]],"<p id=a>","</p>"]]}`,
		`{"p":[0,"x"],"s":[[2,[1,["a",0,0,0,8]],"<p id=a>","</p>"]]}`, `{"p":[0,"x"],"s":[[2,[1,["b",0,0,1,4]],"<p id=a>","</p>"]]}`,
		`{"p":[0,"x"],"s":[[2,[1,["a",0,1,1,4]],"<p id=a>","</p>"]]}`, `{"p":[0,"x"],"s":[[2,[1,["a",0,0,1,3]],"<p id=a>","</p>"]]}`,
		`{"p":[0,"x"],"s":[[2,[1,["a",0,0,1,5]],"<p id=a>","</p>"]]}`, `{"p":[0,"x"],"s":[[2,[1,["a",0,0,2,4]],"<p id=a>","</p>"]]}`,
		`{"p":[0,"x"],"s":[[2,[1,["",0,0,1,4]],"<p id=\"\">","</p>"]]}`, `{"p":[0,"x"],"s":[[2,[1,["a",0,1,1,4]],"😀<p id=a>","</p>"]]}`,
		`{"p":[0,"x"],"s":[[2,[1,["b",0,8,1,4],["a",0,0,2,4]],"<p id=a><i id=b>","</i>","</p>"]]}`,
		`{"p":[1,[2,["q"]]],"s":[[2,1,"<p>","</p>"]]}`, `{"p":[1,[2,["q"]]],"s":[[2,1,"x<p id=a>","</p>"]]}`, `{"p":[1,[2,["q"]]],"s":[[2,1,"<p id=a>","</p>x"]]}`,
		"[0,\"\xff\"]",
	} {
		t.Run(frame, func(t *testing.T) {
			t.Parallel()
			var client Client
			require.NoError(t, client.Apply([]byte(firstFrameOfAll)))
			require.ErrorIs(t, client.Apply([]byte(frame)), ErrFrame)
		})
	}
	var client Client
	require.NoError(t, client.Apply([]byte(firstFrameOfAll)))
	require.NoError(t, client.Apply([]byte(`{"p":[0,"x"],"s":[[2,[1,["a",0,2,2,4],["b",0,10,1,4]],"😀<p id=a><i id=b>","</i>","</p>"]]}`)))
}
