package livetest

import (
	"bytes"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live"
)

// witness is a testing.TB that hears of failures instead of failing.
type witness struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (w *witness) Helper()          {}
func (w *witness) Cleanup(f func()) { w.cleanups = append(w.cleanups, f) }

func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

func (w *witness) Fatalf(format string, args ...any) {
	w.Errorf(format, args...)
	runtime.Goexit()
}

// failures runs a test and returns how it fails.
func failures(t *testing.T, test func(t testing.TB)) []string {
	w := &witness{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(w.cleanups) - 1; i >= 0; i-- {
				w.cleanups[i]()
			}
		}()
		test(w)
	}()
	<-done
	return w.failures
}

type shop struct {
	live.Page
	N    int
	Rows []int
}

func shopSite(t testing.TB, body string) *live.Site {
	site, err := live.NewSite(&live.Options{Logger: slog.New(slog.DiscardHandler), HoldTimeout: time.Hour})
	require.NoError(t, err)
	v := &live.View[shop]{Template: template.Must(template.New("").Parse(`<p id="n">{{.N}}</p>` +
		`<button id="inc" live-click="inc">+</button><ul>{{range .Rows}}<li id="r{{.}}">{{.}}</li>{{end}}</ul>` + body))}
	live.On(v, "inc", func(_ *live.Ctx, s *shop, _ struct{}) error {
		s.N++
		s.Rows = append(s.Rows, s.N)
		return nil
	})
	live.On(v, "panic", func(*live.Ctx, *shop, struct{}) error { panic("on purpose") })
	live.On(v, "late", func(ctx *live.Ctx, _ *shop, _ struct{}) error {
		ctx.Post(func() { panic("in the background") })
		return nil
	})
	live.On(v, "flood", func(ctx *live.Ctx, _ *shop, _ struct{}) error {
		for i := range 300 {
			ctx.Push("n", i)
		}
		return nil
	})
	live.On(v, "hold", func(ctx *live.Ctx, _ *shop, _ struct{}) error { ctx.Hold(func() bool { return false }); return nil })
	live.Handle(site, "/", v)
	return site
}

func TestWhatFailsATest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		do         func(p *Page)
		want       string
	}{
		{"an element that is not there", "", func(p *Page) { p.Click("#none") }, "no element matches #none"},
		{"an element of several", "<b>1</b><b>2</b>", func(p *Page) { p.Text("b") }, "2 elements match b: <b> <b>"},
		{"no selector", "", func(p *Page) { p.Has("p[") }, `"p[" is no CSS selector`},
		{"a click that does nothing", "", func(p *Page) { p.Click("#n") }, `a click on <p id="n"> does nothing`},
		{"a click on what is disabled", `<button id="b" live-click="inc" disabled>`, func(p *Page) { p.Click("#b") }, "is disabled"},
		{"a click in a disabled button", `<button live-click="inc" disabled><i>x</i></button>`, func(p *Page) { p.Click("i") }, "is in a button that is disabled"},
		{"a click on what is hidden", `<div hidden><button id="b" live-click="inc">`, func(p *Page) { p.Click("#b") }, "is hidden"},
		{"a click without a name", `<button id="b" live-click>`, func(p *Page) { p.Click("#b") }, "names no event in live-click"},
		{"an event that the view does not know", `<button id="b" live-click="nothing">`, func(p *Page) { p.Click("#b") }, `the view has no event "nothing"`},
		{"a forged event that the view does not know", "", func(p *Page) { p.Forge("nothing") }, `the view has no event "nothing"`},
		{"a panic", `<button id="b" live-click="panic">`, func(p *Page) { p.Click("#b") }, "a func of the view has panicked: live: panic: on purpose"},
		{"a panic in the background", `<button id="b" live-click="late">`, func(p *Page) { p.Click("#b"); p.WaitFor("#never") }, "panic: in the background"},
		{"two elements with one id", `{{if .N}}<i id="n"></i>{{end}}`, func(p *Page) { p.Click("#inc") }, `two elements have the id "n"`},
		{"a form that would lose what was typed", `<form live-change="inc"></form>`, func(*Page) {}, "a form with live-change must have an id"},
		{"a hook without an id", `<i live-hook="x"></i>`, func(*Page) {}, "an element with live-hook must have an id"},
		{"a field that is not there", `<form id="f"><input name="a"></form>`, func(p *Page) { p.Fill("#f", "b", "1") }, `there is no field "b", only a`},
		{"names without values", `<form id="f"><input name="a"></form>`, func(p *Page) { p.Fill("#f", "a") }, "names and values must come in pairs"},
		{"a form with a disabled button", `<form id="f" live-submit="inc"><button disabled></form>`, func(p *Page) { p.Submit("#f") }, "its button is disabled"},
		{"a form that names no event", `<form id="f" live-submit><button></form>`, func(p *Page) { p.Submit("#f") }, "names no event in live-submit"},
		{"what is no form", "", func(p *Page) { p.Submit("#n") }, "is no form, no field and no button"},
		{"a key that nothing waits for", `<input id="i" live-keydown="inc" live-key="Enter">`, func(p *Page) { p.Key("#i", "a") }, `the key "a" does nothing`},
		{"a key of the window that nothing waits for", "", func(p *Page) { p.WindowKey("a") }, `nothing waits for the key "a"`},
		{"focus", "", func(p *Page) { p.Focus("#n") }, "has no live-focus"},
		{"blur", "", func(p *Page) { p.Blur("#n") }, "has no live-blur"},
		{"a click away", "", func(p *Page) { p.ClickAway("#n") }, "has no live-click-away"},
		{"an element without a hook", "", func(p *Page) { p.Hook("#n", "inc", nil) }, "has no live-hook"},
		{"a link to another tab", `<a id="a" href="/" target="_blank"></a>`, func(p *Page) { p.Click("#a") }, "opens another tab"},
		{"history", "", func(p *Page) { p.Back() }, "entry 1 of 1"},
		{"a page that is not connected", "", func(p *Page) { p.Disconnect(); p.Click("#inc") }, "the page is not connected"},
		{"what never comes", "", func(p *Page) { p.WaitFor("#never") }, "in vain for an element that matches #never"},
		{"an event that is never pushed", "", func(p *Page) { p.WaitForPush("tick") }, `in vain for the server to push "tick"`},
		{"an event that is never acknowledged", `<button id="b" live-click="hold">`, func(p *Page) { p.Click("#b") }, "in vain for a click on #b to be acknowledged"},
		{"a connection that the server closes", `<button id="b" live-click="flood">`, func(p *Page) { p.Click("#b") },
			"the server has closed the connection instead of acknowledging a click on #b: 4408"},
		{"a page after its connection", `<button id="b" live-click="flood">`, func(p *Page) {
			p.say("e", "flood", "click", map[string]string{})
			p.WaitUntil(func() bool { return !p.Connected() })
			p.Click("#inc")
		}, "nothing happens: the server has closed the connection: 4408"},
		{"the value of what is no field", "", func(p *Page) { p.Value("#n") }, "is no field"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := failures(t, func(tb testing.TB) {
				c.do(Open(tb, shopSite(t, c.body), "/", WithTimeout(200*time.Millisecond)))
			})
			require.Len(t, got, 1)
			require.Contains(t, got[0], c.want)
			require.Contains(t, got[0], `<p id="n">`, "the message shows the page")
		})
	}
}

func TestFramesThatABrowserCouldNotUseFailATest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		tamper func(frame []byte) []byte // of the second frame
		want   string
	}{
		{"none", func(f []byte) []byte { return f }, ""},
		{"no JSON", func(f []byte) []byte { return f[:len(f)-1] }, "unexpected end of JSON"},
		{"an empty array", func([]byte) []byte { return []byte("[]") }, "an empty array"},
		{"an unknown kind", func([]byte) []byte { return []byte(`["x"]`) }, `no frame is called "x"`},
		{"an unknown key", func([]byte) []byte { return []byte(`[2,{"x":1}]`) }, `unknown field "x"`},
		{"a ref that nothing waits for", func(f []byte) []byte { return bytes.Replace(f, []byte("[2,"), []byte("[9,"), 1) }, "the ref 9 is acknowledged"},
		{"a ref twice", func(f []byte) []byte { return bytes.Replace(f, []byte("[2,"), []byte("[[2,2],"), 1) }, "the ref 2 is acknowledged"},
		{"a slot that is not there", func([]byte) []byte { return []byte(`[2,{"d":[99,"x"]}]`) }, "the frame does not fit"},
		{"another value than the fresh rendering has", func(f []byte) []byte { return bytes.Replace(f, []byte(`"1"`), []byte(`"7"`), 1) }, "the page is not what a fresh rendering is"},
		{"a change that is left out", func([]byte) []byte { return []byte(`[2]`) }, "the page is not what a fresh rendering is"},
		{"a mount without a frame", func([]byte) []byte { return []byte(`["j",2,{}]`) }, "mounted without a frame"},
		{"a region that begins later", func([]byte) []byte { return []byte(`["g","x",3,4,[0,"x"]]`) }, `the region "x" from version 3`},
		{"a region that goes back", func([]byte) []byte { return []byte(`["g","x",0,0,[0,"x"]]`) }, `the region "x" from version 0 to 0`},
		{"a URL that replaces something else", func(f []byte) []byte { return bytes.Replace(f, []byte("{"), []byte(`{"u":["/",2],`), 1) }, "a URL that replaces 2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			tamper := func(b *Browser) {
				b.tamper = func(f []byte) []byte {
					if n++; n == 2 {
						return c.tamper(f)
					}
					return f
				}
			}
			got := failures(t, func(tb testing.TB) {
				Open(tb, shopSite(t, ""), "/", tamper, WithTimeout(time.Second)).Click("#inc")
			})
			if c.want == "" {
				require.Empty(t, got)
				return
			}
			require.Len(t, got, 1)
			require.Contains(t, got[0], c.want)
		})
	}
}

func TestWhatWasNotLookedAtIsToldWhenTheTestEnds(t *testing.T) {
	t.Parallel()
	n := 0
	tamper := func(b *Browser) {
		b.tamper = func(f []byte) []byte {
			if n++; n == 2 {
				return []byte("broken")
			}
			return f
		}
	}
	var site *live.Site
	got := failures(t, func(tb testing.TB) {
		site = shopSite(t, "")
		p := Open(tb, site, "/", tamper)
		p.say("e", "inc", "click", map[string]string{})
		p.mu.Lock()
		changed := p.changed
		seen := p.fault != nil
		p.mu.Unlock()
		if !seen {
			<-changed
		}
	})
	require.Len(t, got, 1)
	require.Contains(t, got[0], "a frame that a browser could not use")
	require.Zero(t, site.Stats().Connected, "the page is closed with its test")
}

func TestPanicsMayBeExpected(t *testing.T) {
	t.Parallel()
	p := Open(t, shopSite(t, `<button id="b" live-click="panic">`), "/", WithPanics())
	p.Click("#inc")
	p.Click("#b")
	require.Equal(t, "0", p.Text("#n"))
	p.Click("#inc")
	require.Equal(t, "1", p.Text("#n"))
}

func TestPagesThatCannotConnectFailATest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		handler func(site http.Handler) http.HandlerFunc
		want    string
	}{
		{"the socket is not served", func(site http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/_live/") {
					http.NotFound(w, r)
					return
				}
				site.ServeHTTP(w, r)
			}
		}, "the server does not let the page join: 404 404 page not found"},
		{"no token", func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, `<div data-live="/_live/socket"></div>`)
			}
		}, "has no token"},
		{"no client", func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, `<div data-live="/_live/socket" data-token="x"></div>`)
			}
		}, "does not load the client"},
		{"redirects without an end", func(http.Handler) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusSeeOther) }
		}, "redirects more than 10 times"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := failures(t, func(tb testing.TB) { Open(tb, c.handler(shopSite(t, "")), "/") })
			require.Len(t, got, 1)
			require.Contains(t, got[0], c.want)
		})
	}
}
