package live

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"html/template"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

func TestOptionsOutOfBoundsAreNamed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		options Options
		want    string
	}{
		{Options{Secret: make([]byte, 31)}, "live: Options.Secret has 31 bytes; it needs 32 random ones at least"},
		{Options{Secret: []byte{}}, "live: Options.Secret has 0 bytes; it needs 32 random ones at least"},
		{Options{MaxFrame: -1}, "live: Options.MaxFrame must not be negative"},
		{Options{MaxFrame: 8191}, "live: Options.MaxFrame is 8191 bytes, which is less than the 8192 that a page may need to connect"},
		{Options{EventRate: -1}, "live: Options.EventRate must not be negative"},
		{Options{EventRate: math.NaN()}, "live: Options.EventRate must not be negative"},
		{Options{EventRate: math.Inf(1)}, "live: Options.EventRate must be finite"},
		{Options{EventBurst: -1}, "live: Options.EventBurst must not be negative"},
		{Options{MaxPushes: -1}, "live: Options.MaxPushes must not be negative"},
		{Options{MaxPages: -1}, "live: Options.MaxPages must not be negative"},
		{Options{HoldTimeout: -1}, "live: Options.HoldTimeout must not be negative"},
		{Options{WriteWait: -1}, "live: Options.WriteWait must not be negative"},
		{Options{TokenAge: -1}, "live: Options.TokenAge must not be negative"},
		{Options{Idle: -1}, "live: Options.Idle must not be negative"},
		{Options{MaxAge: -1}, "live: Options.MaxAge must not be negative"},
		{Options{Origins: []string{"example.com"}}, `live: Options.Origins: invalid origin "example.com": scheme is required`},
		{Options{Origins: []string{"https://example.com/"}}, `live: Options.Origins: invalid origin "https://example.com/": path, query, and fragment are not allowed`},
		{Options{Layout: template.Must(template.New("x").Parse("{{.Title}} {{.Head}}"))}, `live: Options.Layout: the layout "x" does not show {{.Body}} as it is`},
		{Options{Layout: template.Must(template.New("x").Parse("{{.Title}} {{.Body}}"))}, `live: Options.Layout: the layout "x" does not show {{.Head}} as it is`},
		{Options{Layout: template.Must(template.New("x").Parse("{{.Head}}{{.Body}}{{.Foot}}"))}, `live: Options.Layout: template: x:1`},
	} {
		t.Run(row.want, func(t *testing.T) {
			t.Parallel()
			_, err := NewSite(&row.options)
			require.ErrorContains(t, err, row.want)
		})
	}
}

func TestNilOptionsAreTheDefaults(t *testing.T) {
	t.Parallel()
	site, err := NewSite(nil)
	require.NoError(t, err)
	o := site.options
	require.Equal(t, []any{64 << 10, 50.0, 100, 256, 100_000}, []any{o.MaxFrame, o.EventRate, o.EventBurst, o.MaxPushes, o.MaxPages})
	require.Equal(t, []time.Duration{5 * time.Second, 10 * time.Second, 24 * time.Hour, 0, 0}, []time.Duration{o.HoldTimeout, o.WriteWait, o.TokenAge, o.Idle, o.MaxAge})
}

func TestHandlePanicsOnWhatCannotBeServed(t *testing.T) {
	t.Parallel()
	type state struct{ X string }
	ok := func() *View[state] {
		return &View[state]{Template: template.Must(template.New("ok").Parse("{{.X}}"))}
	}
	for _, row := range []struct {
		name, pattern string
		view          *View[state]
		want          string
	}{
		{"a nil view", "/a", nil, "nil"},
		{"a method", "GET /a", ok(), "method"},
		{"the path of the client", "/_live/x", ok(), "/_live/"},
		{"the path of the client without a slash", "/_live", ok(), "/_live/"},
		{"the path of the client at a host", "example.com/_live/{x}", ok(), "/_live/"},
		{"a pattern that is none", "a", ok(), "a"},
		{"a pattern that is taken", "/taken", ok(), "/taken"},
		{"no template", "/a", &View[state]{}, "Template"},
		{"a template that does not escape", "/a", &View[state]{Template: template.Must(template.New("bad").Parse(`<a href={{if .X}}"{{end}}x>`))}, "bad"},
		{"a layout without a body", "/a", &View[state]{Template: ok().Template, Layout: template.Must(template.New("l").Parse("{{.Head}}"))}, "Body"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			site := newTestSite(t, Options{})
			Handle(site, "/taken", ok())
			defer func() { require.Contains(t, fmt.Sprint(recover()), row.want) }()
			Handle(site, row.pattern, row.view)
		})
	}
}

func TestOneViewMayBeServedAtSeveralPatterns(t *testing.T) {
	t.Parallel()
	type state struct{ At string }
	v := &View[state]{
		Template: template.Must(template.New("v").Parse("at {{.At}}")),
		Mount:    func(ctx *Ctx, s *state) error { s.At = ctx.URL().Path; return nil },
	}
	site := newTestSite(t, Options{})
	Handle(site, "/{$}", v)
	Handle(site, "/x/", v)
	Handle(site, "other.test/x/", v)
	b := newBrowser(t, site)
	_, page := b.get("/")
	require.Contains(t, page, "at /<")
	_, page = b.get("/x/y/z")
	require.Contains(t, page, "at /x/y/z<")
}

func TestAURLIsResolvedToItsView(t *testing.T) {
	t.Parallel()
	type state struct{}
	view := func() *View[state] {
		return &View[state]{Template: template.Must(template.New("v").Parse("x"))}
	}
	site := newTestSite(t, Options{})
	rooms, home := view(), view()
	Handle(site, "/rooms/{room}", rooms)
	Handle(site, "/home/{$}", home)
	type key struct{}
	r := httptest.NewRequest("POST", "https://site.test"+socketPath+"?x=y", strings.NewReader("body"))
	r.Header.Set("User-Agent", "a browser")
	r.PostForm = url.Values{"old": {"1"}}
	r = r.WithContext(context.WithValue(r.Context(), key{}, "middleware"))

	for _, row := range []struct {
		url, pattern, room, query string
	}{
		{"/rooms/a", "/rooms/{room}", "a", ""},
		{"/rooms/a?b=c&d", "/rooms/{room}", "a", "b=c&d"},
		{"/rooms/a%2Fb#part", "/rooms/{room}", "a/b", ""},
		{"https://site.test/rooms/a?b", "/rooms/{room}", "a", "b"},
		{"https://SITE.test/home/", "/home/{$}", "", ""},
		{"//site.test/home/", "/home/{$}", "", ""},
	} {
		t.Run(row.url, func(t *testing.T) {
			t.Parallel()
			p, pattern, req, err := site.resolve(r, row.url)
			require.NoError(t, err)
			require.Equal(t, row.pattern, pattern)
			require.Equal(t, row.pattern, req.Pattern)
			if row.room != "" {
				require.Same(t, rooms, p)
			} else {
				require.Same(t, home, p)
			}
			require.Equal(t, row.room, req.PathValue("room"))
			require.Equal(t, row.query, req.URL.RawQuery)
			require.Empty(t, req.URL.Host+req.URL.Scheme+req.URL.Fragment)
			require.Equal(t, "GET", req.Method)
			require.Equal(t, "site.test", req.Host)
			require.Equal(t, "a browser", req.UserAgent())
			require.Equal(t, "middleware", req.Context().Value(key{}))
			require.Nil(t, req.Context().Value(slotKey{}))
			require.Empty(t, req.FormValue("old"))
		})
	}
	for _, bad := range []string{
		"", "rooms/a", "?a=b", "#a", "/", "/rooms", "/rooms/", "/rooms/a/b", "/home", "//rooms/a", "/rooms/../rooms/a", "/rooms//a", "/\\rooms/a",
		"https://other.test/rooms/a", "//other.test/rooms/a", "https:/rooms/a", "///rooms/a", "https:///rooms/a", "javascript:alert(1)", "mailto:a@b",
		"https://me@site.test/rooms/a", "/rooms/%zz", "/rooms/a\n", "/_live/socket", "/rooms/" + strings.Repeat("a", maxURL),
	} {
		_, _, _, err := site.resolve(r, bad)
		require.ErrorIs(t, err, errNotLive, bad)
	}
	Handle(site, "/", view())
	_, _, _, err := site.resolve(r, "/anything")
	require.NoError(t, err)
	_, _, _, err = site.resolve(r, socketPath)
	require.ErrorIs(t, err, errNotLive)
	require.Equal(t, socketPath, r.URL.Path, "the request is as it was")
	require.Equal(t, "POST", r.Method)
}

func FuzzResolve(f *testing.F) {
	type state struct{}
	site := newTestSite(f, Options{})
	Handle(site, "/rooms/{room}", &View[state]{Template: template.Must(template.New("v").Parse("x"))})
	r := httptest.NewRequest("GET", "https://site.test"+socketPath, nil)
	f.Add("/rooms/a?b#c")
	f.Add("https://site.test/rooms/a")
	f.Add("//x/rooms/%2e%2e")
	f.Fuzz(func(t *testing.T, raw string) {
		_, _, req, err := site.resolve(r, raw)
		if err != nil {
			require.ErrorIs(t, err, errNotLive)
			return
		}
		require.True(t, strings.HasPrefix(req.URL.Path, "/rooms/"))
		require.NotEmpty(t, req.PathValue("room"))
		again, err := url.ParseRequestURI(req.RequestURI)
		require.NoError(t, err)
		require.Equal(t, req.URL.Path, again.Path)
	})
}

func TestDisconnectEndsTheConnectionsOfOneSession(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	conns := make(map[string]*quiet)
	for _, name := range []string{"alice 1", "alice 2", "bob"} {
		conns[name] = &quiet{closed: make(chan int, 1)}
		require.True(t, site.admit(conns[name]))
	}
	leave := site.enter(alice, conns["alice 1"])
	site.enter(alice, conns["alice 2"])
	site.enter(bob, conns["bob"])
	require.Equal(t, Stats{Connected: 3}, site.Stats())
	site.Disconnect(alice)
	require.Equal(t, closeSession, <-conns["alice 1"].closed)
	require.Equal(t, closeSession, <-conns["alice 2"].closed)
	require.Empty(t, conns["bob"].closed)

	leave()
	leave() // again is nothing
	require.Equal(t, Stats{Connected: 2}, site.Stats())
	site.Disconnect(alice)
	require.Empty(t, conns["alice 1"].closed, "it has left")
	require.Equal(t, closeSession, <-conns["alice 2"].closed)
	site.Disconnect("nobody")
}

func TestNothingIsRememberedOfWhoHasLeft(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	for range 3 {
		a, b := &quiet{closed: make(chan int, 1)}, &quiet{closed: make(chan int, 1)}
		site.admit(a)
		site.admit(b)
		first, second := site.enter(alice, a), site.enter(alice, b)
		first()
		second()
		site.dismiss(a)
		site.dismiss(b)
	}
	require.Empty(t, site.sessions)
	require.Empty(t, site.conns)
	require.Zero(t, site.joined)
}

func TestShutdownSpreadsThePagesEvenly(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	var conns []*quiet
	for range 4 {
		c := &quiet{closed: make(chan int, 1)}
		site.admit(c)
		site.enter(alice, c)
		conns = append(conns, c)
	}
	done := make(chan error, 1)
	go func() { done <- site.Shutdown(context.Background(), 8*time.Second) }()
	<-site.draining
	for i := range 4 {
		require.Equal(t, time.Duration(i)*2*time.Second, site.bye())
	}
	require.False(t, site.admit(&quiet{}), "new ones are refused")
	for _, c := range conns {
		require.Empty(t, done)
		site.dismiss(c)
	}
	require.NoError(t, <-done)
	require.NoError(t, site.Shutdown(context.Background(), 0), "again waits for nothing")
}

func TestShutdownCutsOffWhoDoesNotLeave(t *testing.T) {
	t.Parallel()
	site := newTestSite(t, Options{})
	c := &quiet{closed: make(chan int, 1)}
	site.admit(c)
	site.enter(alice, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, site.Shutdown(ctx, 0), context.Canceled)
	require.Equal(t, closeShutdown, <-c.closed)
}

// clicker is a view over a WebSocket.
type clicker struct {
	Page
	N int
}

func clickerView() *View[clicker] {
	v := &View[clicker]{
		Template: template.Must(template.New("clicker").Parse(`<output>{{.N}}</output>{{with .Flash "info"}}<p>{{.}}</p>{{end}}<button live-click="up">Up</button>`)),
	}
	On(v, "up", func(_ *Ctx, s *clicker, in struct{ By int }) error { s.N += max(in.By, 1); return nil })
	On(v, "leave", func(ctx *Ctx, _ *clicker, _ struct{}) error {
		ctx.Flash("info", "Left")
		ctx.Redirect("/")
		return nil
	})
	return v
}

// visitor is a browser that connects.
type visitor struct {
	*browser
	token  string
	conn   *websocket.Conn
	answer *http.Response
	ref    int
}

var tokenOf = regexp.MustCompile(`data-token="([\w-]+)"`)

// visit loads a page and opens a WebSocket for it.
func visit(t *testing.T, b *browser, path string, header http.Header) *visitor {
	t.Helper()
	v := &visitor{browser: b}
	_, page := b.get(path)
	match := tokenOf.FindStringSubmatch(page)
	require.NotNil(t, match, page)
	v.token = match[1]
	v.dial(header)
	return v
}

func (v *visitor) dial(header http.Header) {
	v.t.Helper()
	transport, _ := v.client.Transport.(*http.Transport)
	dialer := websocket.Dialer{Jar: v.client.Jar}
	if transport != nil {
		dialer.TLSClientConfig = transport.TLSClientConfig.Clone()
		if dialer.TLSClientConfig != nil {
			dialer.TLSClientConfig.NextProtos = nil
		}
		dialer.NetDialContext = transport.DialContext
	}
	if header == nil {
		header = http.Header{"Origin": {v.base}}
	}
	var err error
	v.conn, v.answer, err = dialer.Dial("ws"+strings.TrimPrefix(v.base, "http")+socketPath, header)
	require.NoError(v.t, err)
	v.t.Cleanup(func() { v.conn.Close() })
}

func (v *visitor) send(parts ...any) {
	v.t.Helper()
	v.ref++
	require.NoError(v.t, v.conn.WriteJSON(append([]any{v.ref}, parts...)))
}

func (v *visitor) join(path string) string {
	v.t.Helper()
	v.send("j", map[string]any{"t": v.token, "u": path, "p": map[string]string{}, "n": 0})
	return v.next()
}

func (v *visitor) next() string {
	v.t.Helper()
	_, frame, err := v.conn.ReadMessage()
	require.NoError(v.t, err)
	return string(frame)
}

func clickerSite(t *testing.T, o Options) *Site {
	site := newTestSite(t, o)
	Handle(site, "/", clickerView())
	return site
}

func TestAPageConnectsAndIsClicked(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{})
	for name, wrap := range map[string]func(t *testing.T) *browser{
		"over HTTP": func(t *testing.T) *browser { return newBrowser(t, site) },
		"over TLS": func(t *testing.T) *browser {
			server := httptest.NewTLSServer(site)
			t.Cleanup(server.Close)
			b := newBrowser(t, site)
			transport := server.Client().Transport.(*http.Transport)
			b.client.Transport, b.base = transport, server.URL
			return b
		},
		"behind middleware": func(t *testing.T) *browser {
			return newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { site.ServeHTTP(&unwrappable{w}, r) }))
		},
		"behind middleware that limits the time of requests": func(t *testing.T) *browser {
			return newBrowser(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ctx, cancel := context.WithCancel(r.Context())
				defer cancel()
				site.ServeHTTP(w, r.WithContext(ctx))
			}))
		},
		"behind a mux": func(t *testing.T) *browser {
			mux := http.NewServeMux()
			mux.Handle("/", site)
			return newBrowser(t, mux)
		},
		"behind a proxy that ends TLS": func(t *testing.T) *browser {
			server := httptest.NewServer(site)
			t.Cleanup(server.Close)
			target, err := url.Parse(server.URL)
			require.NoError(t, err)
			proxy := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.SetXForwarded()
				r.Out.Host = r.In.Host
				if r.In.URL.Path == socketPath {
					r.Out.Header.Del("X-Forwarded-Proto") // as some forget
				}
			}})
			t.Cleanup(proxy.Close)
			b := newBrowser(t, site)
			b.client.Transport, b.base = proxy.Client().Transport, proxy.URL
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := visit(t, wrap(t), "/", nil)
			require.Contains(t, v.join("/"), `["j",1,{"d":`)
			v.send("e", "up", "click", map[string]string{"by": "3"})
			require.Contains(t, v.next(), `"3"`)
			require.GreaterOrEqual(t, site.Stats().Connected, 1)
		})
	}
}

// unwrappable hides all but the methods of a ResponseWriter, as middleware does.
type unwrappable struct{ inner http.ResponseWriter }

func (u *unwrappable) Header() http.Header         { return u.inner.Header() }
func (u *unwrappable) Write(b []byte) (int, error) { return u.inner.Write(b) }
func (u *unwrappable) WriteHeader(status int)      { u.inner.WriteHeader(status) }
func (u *unwrappable) Unwrap() http.ResponseWriter { return u.inner }

func TestATrustedOriginConnects(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, clickerSite(t, Options{Origins: []string{"https://Trusted.test"}}))
	for _, origin := range []string{"https://trusted.test", ""} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		require.Contains(t, visit(t, b, "/", header).join("/"), `["j",1,`)
	}
}

func TestAJoinWithABadTokenIsStale(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{})
	for name, token := range map[string]func(v *visitor) string{
		"tampered":           func(v *visitor) string { return "A" + v.token[1:] + "A" },
		"of another session": func(*visitor) string { return site.token(alice, nil) },
		"expired": func(v *visitor) string {
			u, _ := url.Parse(v.base)
			return site.keys.join.seal(v.client.Jar.Cookies(u)[0].Value, time.Now().Add(-25*time.Hour), nil)
		},
		"empty": func(*visitor) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := visit(t, newBrowser(t, site), "/", nil)
			good := v.token
			v.token = token(v)
			require.Equal(t, `["s"]`, v.join("/"))
			v.token = good // as the client gets a new one
			require.Contains(t, v.join("/"), `["j",2,`)
		})
	}
	t.Run("without the cookie", func(t *testing.T) {
		t.Parallel()
		v := visit(t, newBrowser(t, site), "/", nil)
		v.conn.Close()
		v.client.Jar = nil
		v.dial(nil)
		require.Equal(t, `["s"]`, v.join("/"))
	})
}

func TestAFlashOfTheFirstRenderingStaysWhenThePageConnects(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{})
	v := visit(t, newBrowser(t, site), "/", nil)
	v.join("/")
	v.send("e", "leave", "click", map[string]string{})
	frame := v.next()
	var leave []any
	for { // the acknowledgement may come before
		require.NoError(t, json.Unmarshal([]byte(frame), &leave))
		if leave[0] == "l" {
			break
		}
		frame = v.next()
	}
	answer, _ := v.get(leave[1].(string))
	require.Equal(t, 303, answer.StatusCode)
	require.Equal(t, "/", answer.Header.Get("Location"))
	_, page := v.get("/")
	require.Contains(t, page, "<p>Left</p>")
	v.token = tokenOf.FindStringSubmatch(page)[1]
	v.conn.Close()
	v.dial(nil)
	v.ref = 0
	require.Contains(t, v.join("/"), "Left")
}

func TestDisconnectTellsTheBrowser(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{})
	b := newBrowser(t, site)
	v := visit(t, b, "/", nil)
	v.join("/")
	u, _ := url.Parse(v.base)
	site.Disconnect(v.client.Jar.Cookies(u)[0].Value)
	require.Equal(t, closeSession, closeCode(t, v.conn))
	require.Eventually(t, func() bool { return site.Stats().Connected == 0 }, 5*time.Second, time.Millisecond)
}

func TestShutdownTellsAllPages(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{})
	b := newBrowser(t, site)
	var visitors []*visitor
	for range 3 {
		v := visit(t, b, "/", nil)
		v.join("/")
		visitors = append(visitors, v)
	}
	visitors = append(visitors, visit(t, b, "/", nil)) // has not joined
	require.Eventually(t, func() bool { site.mu.Lock(); defer site.mu.Unlock(); return len(site.conns) == 4 }, 5*time.Second, time.Millisecond)
	done := make(chan error, 1)
	go func() { done <- site.Shutdown(t.Context(), 400*time.Millisecond) }()
	var byes []string
	for _, v := range visitors {
		byes = append(byes, v.next())
	}
	require.ElementsMatch(t, []string{`["b",0]`, `["b",100]`, `["b",200]`, `["b",300]`}, byes)
	for _, v := range visitors {
		require.Equal(t, closeShutdown, closeCode(t, v.conn))
	}
	require.NoError(t, <-done)
	require.Zero(t, site.Stats().Connected)
	answer, _ := b.get("/")
	require.Equal(t, 200, answer.StatusCode, "pages are still served")
}

func TestOnlySoManyPagesConnect(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{MaxPages: 1})
	b := newBrowser(t, site)
	v := visit(t, b, "/", nil)
	v.join("/")
	_, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(b.base, "http")+socketPath, nil)
	require.Error(t, err)
	require.Equal(t, 503, answer.StatusCode)
	v.conn.Close()
	require.Eventually(t, func() bool { return !site.full() }, 5*time.Second, time.Millisecond)
	require.Contains(t, visit(t, b, "/", nil).join("/"), `["j",1,`)

	refused := &quiet{closed: make(chan int, 1)}
	site.Connect(refused, withSession(alice, false))
	require.Equal(t, closeShutdown, <-refused.closed)
}

func TestAFrameThatIsNotUnderstoodEndsTheConnection(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, clickerSite(t, Options{MaxFrame: minFrame}))
	for name, row := range map[string]struct {
		frame string
		code  int
	}{
		"no JSON":   {"nonsense", closeBad},
		"too large": {`[2,"h"` + strings.Repeat(" ", minFrame) + "]", websocket.CloseMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := visit(t, b, "/", nil)
			v.join("/")
			require.NoError(t, v.conn.WriteMessage(websocket.TextMessage, []byte(row.frame)))
			require.Equal(t, row.code, closeCode(t, v.conn))
		})
	}
}

func TestAConnectionThatDoesNotJoinIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := clickerSite(t, Options{})
		server := &http.Server{Handler: site}
		l := newLine()
		go server.Serve(l)
		dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil }}
		conn, _, err := dialer.Dial("ws://site.test"+socketPath, nil)
		require.NoError(t, err)
		start := time.Now()
		require.Equal(t, closeBad, closeCode(t, conn))
		require.Equal(t, joinWait, time.Since(start))
		conn.Close()
		server.Close()
		synctest.Wait()
		require.Empty(t, site.conns)
	})
}

func TestNothingIsLeftOfABrowserThatVanished(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		every time.Duration // the page changes by itself
		gone  time.Duration // when the site must know
	}{
		"in silence":             {0, 2 * heartbeat},
		"while it is written to": {time.Second, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // fails if a goroutine is left
				left := make(chan time.Time, 2)
				site := newTestSite(t, Options{})
				Handle(site, "/", &View[clicker]{
					Template: template.Must(template.New("x").Parse(`<p>{{.N}}</p>`)),
					Mount: func(ctx *Ctx, s *clicker) error {
						if row.every > 0 {
							ctx.Every(row.every, func() { s.N++ })
						}
						return nil
					},
					Leave: func(*clicker) { left <- time.Now() },
				})
				server := &http.Server{Handler: site}
				l := newLine()
				go server.Serve(l)
				dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil }}
				conn, _, err := dialer.Dial("ws://site.test"+socketPath, http.Header{"Cookie": {"live=" + alice}})
				require.NoError(t, err)
				go conn.WriteJSON([]any{1, "j", map[string]any{"t": site.token(alice, nil), "u": "/", "p": map[string]string{}, "n": 0}})
				_, frame, err := conn.ReadMessage()
				require.NoError(t, err)
				require.True(t, bytes.HasPrefix(frame, []byte(`["j",1,`)))
				require.Equal(t, 1, site.Stats().Connected)

				start := time.Now() // the line stays open, and nobody is at its end
				require.LessOrEqual(t, (<-left).Sub(start), row.gone+closeWrite+closeWait)
				time.Sleep(closeWrite + closeWait)
				synctest.Wait()
				require.Empty(t, site.conns)
				require.Empty(t, site.sessions)
				conn.Close()
				server.Close()
			})
		})
	}
}

func TestManyPagesComeAndGo(t *testing.T) {
	t.Parallel()
	site := clickerSite(t, Options{})
	b := newBrowser(t, site)
	_, page := b.get("/")
	token := tokenOf.FindStringSubmatch(page)[1]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				dialer := websocket.Dialer{Jar: b.client.Jar}
				conn, _, err := dialer.Dial("ws"+strings.TrimPrefix(b.base, "http")+socketPath, nil)
				if err != nil {
					t.Error(err)
					return
				}
				conn.WriteJSON([]any{1, "j", map[string]any{"t": token, "u": "/", "n": 0}})
				if _, frame, err := conn.ReadMessage(); err != nil || !bytes.HasPrefix(frame, []byte(`["j",1,`)) {
					t.Errorf("%s, %v", frame, err)
				}
				if i%2 == 0 {
					conn.WriteControl(websocket.CloseMessage, nil, time.Now().Add(time.Second))
				}
				conn.Close()
			}
		})
	}
	wg.Wait()
	require.Eventually(t, func() bool { site.mu.Lock(); defer site.mu.Unlock(); return len(site.conns) == 0 }, 5*time.Second, time.Millisecond)
	require.Zero(t, site.Stats().Connected)
	require.Empty(t, site.sessions)
}

func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	site := clickerSite(t, Options{Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	v := visit(t, newBrowser(t, site), "/", nil)
	u, _ := url.Parse(v.base)
	session := v.client.Jar.Cookies(u)[0].Value
	v.token += "A"
	v.join("/")
	v.conn.WriteMessage(websocket.TextMessage, []byte(`nonsense with `+v.token))
	closeCode(t, v.conn)
	require.Eventually(t, func() bool { site.mu.Lock(); defer site.mu.Unlock(); return len(site.conns) == 0 }, 5*time.Second, time.Millisecond)
	require.NotContains(t, log.String(), session)
	require.NotContains(t, log.String(), v.token[:20])
}

func TestASecureCookieIsAskedForOverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(clickerSite(t, Options{}))
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}}
	answer, err := client.Get(server.URL)
	require.NoError(t, err)
	answer.Body.Close()
	require.Regexp(t, `^__Host-live=[A-Z2-7]{26}; Path=/; HttpOnly; Secure; SameSite=Lax$`, answer.Header.Get("Set-Cookie"))
}
