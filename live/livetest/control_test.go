package livetest_test

import (
	"context"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/livetest"
)

// panel shows what the server was told last.
type panel struct {
	live.Page
	Event string
	Got   string
	Left  *atomic.Int32
}

// newPanel serves a page with a body, whose events "a" and "b" show what came with them.
func newPanel(t testing.TB, body string) (*live.Site, *atomic.Int32) {
	site, err := live.NewSite(&live.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	left := &atomic.Int32{}
	v := &live.View[panel]{
		Template: template.Must(template.New("").Parse(`<p id="event">{{.Event}}</p><p id="got">{{.Got}}</p>` + body)),
		Mount: func(ctx *live.Ctx, s *panel) error {
			if ctx.Connected() {
				s.Left = left
			}
			return nil
		},
		Leave: func(s *panel) {
			if s.Left != nil {
				s.Left.Add(1)
			}
		},
	}
	for _, name := range []string{"a", "b"} {
		live.On(v, name, func(_ *live.Ctx, s *panel, in url.Values) error {
			s.Event, s.Got = name, in.Encode()
			return nil
		})
	}
	live.Handle(site, "/", v)
	return site, left
}

func TestControlsDoWhatTheyDoInABrowser(t *testing.T) {
	t.Parallel()
	const form = `<form id="f" live-change="a" live-submit="b">
<label id="l1"><input type="radio" name="side" value="buy" checked> Buy</label> <label id="l2" for="r2">Sell</label><input id="r2" type="radio" name="side" value="sell">
<label id="l3">Box <input type="checkbox" name="box"></label> <label id="l4">Text <input name="text"></label>
<button id="s1" name="how" value="1">1</button><button id="s2" name="how" value="2">2</button><button type="button" id="s3">3</button></form>`
	for _, c := range []struct {
		name, body string
		do         func(p *livetest.Page)
		event, got string
	}{
		{"a label", form, func(p *livetest.Page) { p.Click("#l2") }, "a", "_target=side&_unused_box=&_unused_text=&side=sell&text="},
		{"a radio button", form, func(p *livetest.Page) { p.Click("#r2"); p.Click("#l1") }, "a", "_target=side&_unused_box=&_unused_text=&side=buy&text="},
		{"a box twice", form, func(p *livetest.Page) { p.Click("#l3"); p.Click("#l3 input") }, "a", "_target=box&_unused_side=&_unused_text=&side=buy&text="},
		{"a button", form, func(p *livetest.Page) { p.Click("#s2") }, "b", "how=2&side=buy&text="},
		{"Enter", form, func(p *livetest.Page) { p.Fill("#f", "box", "on", "text", "x"); p.Key("#l4 input", "Enter") }, "b", "box=on&how=1&side=buy&text=x"},
		{"a field with its own change", `<form id="f" live-change="a"><input name="x" live-change="b"></form>`,
			func(p *livetest.Page) { p.Fill("#f", "x", "1") }, "b", "_target=x&x=1"},
		{"a field without a form", `<input id="q" name="q" live-change="a">`, func(p *livetest.Page) { p.Fill("#q", "q", "1") }, "a", "_target=q&q=1"},
		{"a box without a form", `<input id="q" type="checkbox" name="q" checked live-change="a">`, func(p *livetest.Page) { p.Click("#q") }, "a", "_target=q"},
		{"a click with values", `<button id="b" live-click="a" value="7" live-value-x="8">`, func(p *livetest.Page) { p.Click("#b") }, "a", "value=7&x=8"},
		{"a click on a box", `<input type="checkbox" id="b" live-click="a" live-value-x="8">`, func(p *livetest.Page) { p.Click("#b") }, "a", "value=on&x=8"},
		{"a box that is emptied", `<input type="checkbox" checked id="b" live-click="a" live-value-x="8">`, func(p *livetest.Page) { p.Click("#b") }, "a", "x=8"},
		{"a link that is an event", `<a id="b" href="/nowhere" live-click="a"></a>`, func(p *livetest.Page) { p.Click("#b") }, "a", ""},
		{"a button that is an event and sends", `<form live-submit="b"><button id="b" live-click="a">`, func(p *livetest.Page) { p.Click("#b") }, "b", ""},
		{"a form whose button says the event", `<form id="f" live-submit><button name="_event" value="b">`, func(p *livetest.Page) { p.Submit("#f") }, "b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			site, _ := newPanel(t, c.body)
			p := livetest.Open(t, site, "/")
			c.do(p)
			require.Equal(t, c.event, p.Text("#event"))
			if c.got != "" {
				want, err := url.ParseQuery(c.got)
				require.NoError(t, err)
				got, err := url.ParseQuery(p.Text("#got"))
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		})
	}
}

func TestFormsThatGoOverHTTP(t *testing.T) {
	t.Parallel()
	site, left := newPanel(t, `<form id="f" action="/find#part"><input name="q"><button>Find</button><button id="other" formmethod="post" formaction="/post"></button></form>
<a id="part" href="#event">part</a><a id="out" href="https://example.com/">out</a>`)
	mux := http.NewServeMux()
	mux.Handle("/", site)
	mux.HandleFunc("/find", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.URL.RawQuery)) })
	mux.HandleFunc("POST /post", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.PostFormValue("q"))) })
	p := livetest.Open(t, mux, "/")
	p.Click("#part")
	require.True(t, p.Connected())
	require.Equal(t, "event", p.Attr("#event", "id"))
	require.Equal(t, `<p id="event"></p>`, p.HTML("#event"))
	p.Submit("#f", "q", "a&b")
	require.Equal(t, "q=a%26b", p.Text("body"))
	require.Equal(t, "/find?q=a%26b", p.URL())
	require.EqualValues(t, 1, left.Load())
	p.Back()
	p.Submit("#other", "q", "x")
	require.Equal(t, "x", p.Text("body"))
	p.Back()
	p.Click("#out")
	require.Equal(t, "https://example.com/", p.URL())
	require.False(t, p.Connected())
}

func TestAServerThatHasForgottenThePageGetsANewToken(t *testing.T) {
	t.Parallel()
	body := `<form id="f" live-change="a"><input name="x"></form><form id="g" live-change="a" live-auto-recover="b"><input name="y"></form>` +
		`<form id="h" live-change="a" live-auto-recover="ignore"><input name="z"></form>`
	old, _ := newPanel(t, body)
	var now atomic.Pointer[live.Site]
	now.Store(old)
	p := livetest.Open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }), "/")
	p.Fill("#h", "z", "1")
	p.Fill("#g", "y", "2")
	p.Disconnect()
	site, _ := newPanel(t, body) // another secret
	now.Store(site)
	p.Reconnect()
	require.Equal(t, "b", p.Text("#event"))
	require.Equal(t, "_target=&y=2", p.Text("#got"))
	require.Equal(t, "1", p.Value("#h input"))
}

func TestAServerThatShutsDownIsNoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, left := newPanel(t, `<button live-click="a">`)
		p := livetest.Open(t, site, "/")
		require.NoError(t, site.Shutdown(context.Background(), time.Minute))
		p.WaitUntil(func() bool { return !p.Connected() })
		require.EqualValues(t, 1, left.Load())
	})
}

// Going back over a navigation shows the view anew, since what it showed was for another URL, even if it is the same view.
func TestGoingBackOverANavigationMountsAnew(t *testing.T) {
	t.Parallel()
	type state struct{ Mounted, Now string }
	site, err := live.NewSite(nil)
	require.NoError(t, err)
	view := &live.View[state]{
		Template: template.Must(template.New("room").Parse(`<p id="p">{{.Mounted}} {{.Now}}</p>
<a id="n" href="/b" live-navigate>b</a><a id="q" href="?q" live-patch>q</a><button id="c" live-click="c">c</button>`)),
		Mount: func(ctx *live.Ctx, s *state) error {
			s.Mounted = ctx.Request().PathValue("room")
			return nil
		},
		Params: func(ctx *live.Ctx, s *state) error {
			s.Now = ctx.URL().String()
			return nil
		},
	}
	live.On(view, "c", func(ctx *live.Ctx, _ *state, _ struct{}) error {
		ctx.Navigate("/c")
		return nil
	})
	live.Handle(site, "/{room}", view)
	p := livetest.Open(t, site, "/a")
	p.Click("#n")
	require.Equal(t, "b /b", p.Text("#p"))
	p.Click("#q")
	p.Click("#c")
	require.Equal(t, "c /c", p.Text("#p"))
	for _, want := range []string{"b /b?q", "b /b", "a /a"} {
		p.Back()
		require.Equal(t, want, p.Text("#p"))
	}
	p.Forward()
	require.Equal(t, "b /b", p.Text("#p"))
}
