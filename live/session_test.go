package live

import (
	"context"
	"errors"
	"fmt"
	"html"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/internal/render"
	"github.com/levada-go/levada/live/internal/wire"
	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

func parse(text string) *template.Template { return template.Must(template.New("page").Parse(text)) }

func quietSite(t testing.TB, o *Options) *Site {
	t.Helper()
	if o == nil {
		o = &Options{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	s, err := NewSite(o)
	require.NoError(t, err)
	return s
}

func textLogger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// tab is a page in a browser. It takes frames only when it is told to.
type tab struct {
	t       testing.TB
	site    *Site
	conn    *wiretest.Conn
	done    chan struct{} // closed when the server has let go of the connection
	path    string
	token   string
	cookies []*http.Cookie
	ref     int

	client  render.Client
	mounts  int
	joined  uint64 // the ref of the last join
	gone    int    // the views that were gone to since
	acks    []uint64
	title   string
	url     string
	replace bool
	at      uint64
	pushed  []string // "before name payload" and "name payload"
	replies []string
	leaves  []string // URLs to load over HTTP
	regions map[string]*regionCopy
	last    string // the last frame as it came
}

type regionCopy struct {
	client  render.Client
	version uint64
}

var tokenPattern = regexp.MustCompile(`data-token="([^"]*)"`)

// load gets a page over HTTP.
func load(t testing.TB, site *Site, path string) *tab {
	t.Helper()
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	p := &tab{t: t, site: site, path: path, cookies: w.Result().Cookies(), regions: map[string]*regionCopy{}}
	m := tokenPattern.FindStringSubmatch(w.Body.String())
	require.NotNil(t, m, w.Body.String())
	p.token = html.UnescapeString(m[1])
	return p
}

// open loads a page and connects it, over a connection that holds a number of frames, without joining.
func open(t testing.TB, site *Site, path string, buffer int) *tab {
	t.Helper()
	p := load(t, site, path)
	p.connect(wiretest.NewConn(buffer), nil)
	return p
}

func (p *tab) connect(conn *wiretest.Conn, as wire.Conn) {
	p.conn, p.done, p.gone = conn, make(chan struct{}), 0
	p.t.Cleanup(func() { conn.Close(1000, "") })
	if as == nil {
		as = conn
	}
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/_live/socket", nil)
	for _, c := range p.cookies {
		r.AddCookie(c)
	}
	done := p.done
	go func() {
		defer close(done)
		p.site.Connect(as, r)
	}()
}

// join opens a page, joins, and takes the answer.
func join(t testing.TB, site *Site, path string) *tab {
	t.Helper()
	p := open(t, site, path, 16)
	p.join(0)
	p.drain()
	return p
}

func (p *tab) say(format string, args ...any) uint64 {
	p.t.Helper()
	p.ref++
	if strings.HasPrefix(format, `"j"`) {
		p.joined = uint64(p.ref)
	}
	require.NoError(p.t, p.conn.Send(fmt.Sprintf("[%d,", p.ref)+format+"]", args...))
	return uint64(p.ref)
}

func (p *tab) join(joins int) uint64 {
	p.t.Helper()
	return p.say(`"j",{"t":%q,"u":%q,"n":%d}`, p.token, p.path, joins)
}

// view is what an event says of the view that it is for.
func (p *tab) view() string {
	if p.gone == 0 {
		return ""
	}
	return fmt.Sprintf(",%d", p.gone)
}

// click sends an event with values that alternate between name and value.
func (p *tab) click(event string, values ...string) uint64 {
	p.t.Helper()
	var b strings.Builder
	for i := 0; i < len(values); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%q", values[i], values[i+1])
	}
	return p.say(`"e",%q,"click",{%s}%s`, event, b.String(), p.view())
}

func (p *tab) submit(event string, values url.Values) uint64 {
	p.t.Helper()
	return p.say(`"e",%q,"submit",%q%s`, event, values.Encode(), p.view())
}

// drain waits until the server has nothing more to do and takes all frames. It works in a bubble only.
func (p *tab) drain() {
	p.t.Helper()
	for {
		synctest.Wait()
		frame := p.conn.TryReceive()
		if frame == nil {
			return
		}
		p.take(frame)
	}
}

// take applies a frame.
func (p *tab) take(raw []byte) wiretest.Frame {
	p.t.Helper()
	p.last = string(raw)
	f, err := wiretest.Parse(raw)
	require.NoError(p.t, err)
	p.acks = append(p.acks, f.Acks...)
	if f.Kind == "g" {
		r := p.regions[f.Region]
		if r == nil {
			r = &regionCopy{}
			p.regions[f.Region] = r
		}
		if f.From != 0 {
			require.Equal(p.t, r.version, f.From, "a frame of a region that does not fit")
		}
		require.NoError(p.t, r.client.Apply(f.Diff))
		r.version = f.To
		return f
	}
	if f.Kind == "l" {
		p.leaves = append(p.leaves, f.URL)
	}
	b := f.Body
	for _, e := range b.Before {
		p.pushed = append(p.pushed, "before "+e.Event+" "+string(e.Payload))
	}
	if f.Kind == "j" {
		p.mounts++
		switch {
		case f.Ref == p.joined:
			p.gone = 0
		case f.Ref != 0 || b.URL != "":
			p.gone++
		}
		if f.Ref != 0 {
			p.acks = append(p.acks, f.Ref)
		}
		require.Contains(p.t, string(b.Frame), `"d":`, "a mount must be a full frame")
	}
	if len(b.Frame) > 0 {
		require.NoError(p.t, p.client.Apply(b.Frame), "%s", raw)
	}
	for _, e := range b.After {
		p.pushed = append(p.pushed, e.Event+" "+string(e.Payload))
	}
	for _, r := range b.Replies {
		p.replies = append(p.replies, fmt.Sprintf("%d %s", r.Ref, r.Value))
	}
	if b.Title != nil {
		p.title = *b.Title
	}
	if b.URL != "" {
		p.url, p.replace = b.URL, b.Replace
	}
	if b.Position != 0 {
		p.at = b.Position
	}
	return f
}

func (p *tab) html() string { return p.client.HTML() }

// close closes the connection and waits until the server has let go of it.
func (p *tab) close() {
	p.conn.Close(1000, "")
	<-p.done
}

type counter struct {
	Page
	N int
}

func counterView() *View[counter] {
	v := &View[counter]{Template: parse(`<b>{{.N}}</b>`)}
	On(v, "add", func(_ *Ctx, s *counter, in struct{ By int }) error {
		s.N += in.By
		return nil
	})
	return v
}

func TestAnEventChangesThePageAndIsAcknowledgedWithTheFrameThatShowsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", counterView())
		p := join(t, site, "/")
		require.Equal(t, []uint64{1}, p.acks)
		require.Equal(t, "<b>0</b>", p.html())
		p.click("add", "by", "2")
		p.drain()
		require.Equal(t, "<b>2</b>", p.html())
		require.Equal(t, `[2,{"d":[0,"2"]}]`, p.last)
		p.close()
	})
}

func TestTheFirstFrameMustJoin(t *testing.T) {
	t.Parallel()
	for name, say := range map[string]func(p *tab){
		"nonsense":              func(p *tab) { _ = p.conn.Send(`{}`) },
		"an event":              func(p *tab) { p.click("add") },
		"a heartbeat":           func(p *tab) { p.say(`"h"`) },
		"nothing":               func(p *tab) { time.Sleep(joinWait) },
		"nonsense later":        func(p *tab) { p.join(0); _ = p.conn.Send(`[2,"x"]`) },
		"a ref again":           func(p *tab) { p.join(0); p.ref = 0; p.say(`"h"`) },
		"a join and an old ref": func(p *tab) { p.ref = 8; p.join(0); p.ref = 3; p.click("add") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site := quietSite(t, nil)
				Handle(site, "/", counterView())
				p := open(t, site, "/", 9)
				say(p)
				synctest.Wait()
				select {
				case <-p.conn.Closed():
				default:
					t.Fatal("the connection is still open")
				}
				code, _ := p.conn.Code()
				require.Equal(t, closeBad, code)
				<-p.done
			})
		})
	}
}

func TestAStaleTokenMayBeRenewedOnTheSameConnection(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/", counterView())
		p := open(t, site, "/", 9)
		good := p.token
		p.token = "stale"
		p.join(0)
		p.drain()
		require.Equal(t, `["s"]`, p.last)
		require.Zero(t, site.Stats().Connected)
		p.token = good
		p.join(0)
		p.drain()
		require.Equal(t, "<b>0</b>", p.html())
		require.Equal(t, 1, site.Stats().Connected)
		p.join(1) // again, as a page that has lost its way may do
		p.drain()
		require.Equal(t, 2, p.mounts)
		require.Equal(t, 1, site.Stats().Connected)
		p.close()
		require.Zero(t, site.Stats().Connected)
	})
}

func TestAPageAtAURLOfNoViewIsLoadedOverHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		Handle(site, "/{$}", counterView())
		p := open(t, site, "/", 9)
		p.path = "/nothing"
		p.join(0)
		p.drain()
		require.Equal(t, `["l","/nothing"]`, p.last)
		p.close()

		p = join(t, site, "/")
		p.say(`"n","/nothing"`)
		p.drain()
		require.Equal(t, `["l","/nothing"]`, p.last)
		require.Equal(t, []uint64{1, 2}, p.acks)
		p.say(`"n","javascript:alert(1)"`)
		p.drain()
		require.Equal(t, `["l","/"]`, p.last)
		p.close()
	})
}

func TestRefsOfAPageThatIsGoneAreAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		v := counterView()
		v.Params = func(ctx *Ctx, _ *counter) error {
			if ctx.URL().Path == "/gone" {
				return &Error{Status: 404, Text: "gone"}
			}
			return nil
		}
		Handle(site, "/", v)
		p := join(t, site, "/")
		p.say(`"p","/gone"`)
		p.drain()
		require.Equal(t, `["l","/gone"]`, p.last)
		p.click("add", "by", "1")
		p.say(`"h"`)
		p.drain()
		require.Equal(t, []uint64{1, 2, 3, 4}, p.acks)
		time.Sleep(joinWait)
		<-p.done
	})
}

type place struct {
	Page
	Path, Query string
	calls       *[]string
}

// placeView tells what is called, and goes where the query says.
func placeView(name string, calls *[]string) *View[place] {
	call := func(what string) { *calls = append(*calls, name+" "+what) }
	v := &View[place]{Template: parse(`` + name + ` {{.Path}} {{.Query}} {{.Flash "info"}}`)}
	lead := func(ctx *Ctx, at string) {
		q := ctx.URL().Query()
		if q.Get("when") != at {
			return
		}
		if f := q.Get("flash"); f != "" {
			ctx.Flash("info", f)
		}
		switch to := q.Get("to"); q.Get("how") {
		case "patch":
			ctx.Patch(to)
		case "replace":
			ctx.Replace(to)
		case "navigate":
			ctx.Navigate(to)
		case "redirect":
			ctx.Redirect(to)
		}
	}
	v.Mount = func(ctx *Ctx, s *place) error {
		call("mount " + ctx.URL().String())
		s.calls = calls
		ctx.Title(name)
		lead(ctx, "mount")
		return nil
	}
	v.Params = func(ctx *Ctx, s *place) error {
		call("params " + ctx.URL().String())
		s.Path, s.Query = ctx.Request().PathValue("at"), ctx.URL().RawQuery
		lead(ctx, "params")
		return nil
	}
	v.Leave = func(*place) { call("leave") }
	On(v, "go", func(ctx *Ctx, _ *place, in struct{ How, To, Flash string }) error {
		if in.Flash != "" {
			ctx.Flash("info", in.Flash)
		}
		switch in.How {
		case "patch":
			ctx.Patch(in.To)
		case "replace":
			ctx.Replace(in.To)
		case "navigate":
			ctx.Navigate(in.To)
		case "redirect":
			ctx.Redirect(in.To)
		}
		return nil
	})
	return v
}

// twoPlaces is a site with the views a and b.
func twoPlaces(t testing.TB) (*Site, *[]string) {
	site, calls := quietSite(t, nil), new([]string)
	a := placeView("a", calls)
	Handle(site, "/a", a)
	Handle(site, "/a/{at}", a)
	Handle(site, "/b/{at}", placeView("b", calls))
	return site, calls
}

// takeCalls returns what was called since it was called last.
func takeCalls(calls *[]string) []string {
	c := *calls
	*calls = nil
	return c
}

func TestALinkWithinTheViewCallsParams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, calls := twoPlaces(t)
		p := join(t, site, "/a?x=1")
		require.Equal(t, "a  x=1 ", p.html())
		require.Equal(t, "a", p.title)
		takeCalls(calls)
		p.say(`"p","/a/there?y#part"`)
		p.drain()
		require.Equal(t, []string{"a params /a/there?y"}, takeCalls(calls))
		require.Equal(t, "a there y ", p.html())
		require.Equal(t, []uint64{1, 2}, p.acks)
		require.Empty(t, p.url, "the browser knows where it is")
		require.Equal(t, 1, p.mounts)
		p.close()
	})
}

func TestThePageMayPatchItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, calls := twoPlaces(t)
		p := join(t, site, "/a?x=1")
		takeCalls(calls)
		p.click("go", "how", "patch", "to", "?x=2", "flash", "hi")
		p.drain()
		require.Equal(t, "a  x=2 hi", p.html())
		require.Equal(t, "/a?x=2", p.url)
		require.False(t, p.replace)
		p.click("go", "how", "replace", "to", "/a/z")
		p.drain()
		require.Equal(t, "a z  ", p.html(), "messages stay until the URL changes")
		require.Equal(t, "/a/z", p.url)
		require.True(t, p.replace)
		require.Equal(t, []string{"a params /a?x=2", "a params /a/z"}, takeCalls(calls))
		p.close()
	})
}

func TestAURLOfAnotherViewMountsIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		say  func(p *tab)
		told string // the URL that the browser is told
	}{
		"a link that navigates":  {func(p *tab) { p.say(`"n","/b/x"`) }, ""},
		"a link that patches":    {func(p *tab) { p.say(`"p","/b/x"`) }, ""},
		"a page that navigates":  {func(p *tab) { p.click("go", "how", "navigate", "to", "/b/x") }, "/b/x"},
		"a page that patches":    {func(p *tab) { p.click("go", "how", "patch", "to", "b/x") }, "/b/x"},
		"a link with the origin": {func(p *tab) { p.say(`"n","http://example.com/b/x"`) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site, calls := twoPlaces(t)
				p := join(t, site, "/a")
				takeCalls(calls)
				test.say(p)
				p.drain()
				require.Equal(t, "b x  ", p.html())
				require.Equal(t, "b", p.title)
				require.Equal(t, []string{"a leave", "b mount /b/x", "b params /b/x"}, takeCalls(calls))
				require.Equal(t, 2, p.mounts)
				require.Equal(t, []uint64{1, 2}, p.acks)
				require.Equal(t, test.told, p.url)
				require.False(t, p.replace)
				p.close()
				require.Equal(t, []string{"b leave"}, takeCalls(calls))
			})
		})
	}
}

func TestNavigatingToTheSameViewMountsItAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, calls := twoPlaces(t)
		p := join(t, site, "/a")
		takeCalls(calls)
		p.say(`"n","/a/x"`)
		p.drain()
		require.Equal(t, []string{"a leave", "a mount /a/x", "a params /a/x"}, takeCalls(calls))
		require.Equal(t, 2, p.mounts)
		p.close()
	})
}

func TestMessagesGoAlongToTheNextPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, _ := twoPlaces(t)
		p := join(t, site, "/a")
		p.click("go", "how", "navigate", "to", "/b/x", "flash", "welcome")
		p.drain()
		require.Equal(t, "b x  welcome", p.html())
		p.say(`"p","/b/y"`)
		p.drain()
		require.Equal(t, "b y  ", p.html())
		p.click("go", "how", "redirect", "to", "/elsewhere", "flash", "bye")
		p.drain()
		require.Contains(t, p.last, `["l","/_live/`, "the way over HTTP leads over a cookie")
		p.close()
	})
}

func TestARedirectLoadsTheURL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, _ := twoPlaces(t)
		p := join(t, site, "/a")
		p.click("go", "how", "redirect", "to", "https://example.com/x?y#z")
		p.drain()
		require.Equal(t, `["l","https://example.com/x?y#z"]`, p.last)
		require.Equal(t, []uint64{1, 2}, p.acks)
		p.close()
	})
}

func TestAPageGoesNowhereUnsafe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, calls := twoPlaces(t)
		p := join(t, site, "/a")
		takeCalls(calls)
		for _, how := range []string{"patch", "replace", "navigate"} {
			for _, to := range []string{"//evil.example/", "https://evil.example/", "javascript:alert(1)", "mailto:x@y", "%zz"} {
				p.click("go", "how", how, "to", to)
			}
		}
		for _, to := range []string{"javascript:alert(1)", "data:text/html,x", "http:evil", "file:///etc/passwd"} {
			p.click("go", "how", "redirect", "to", to)
		}
		p.drain()
		require.Empty(t, takeCalls(calls))
		require.Empty(t, p.url)
		require.Equal(t, 1, p.mounts)
		require.Empty(t, p.leaves)
		p.close()
	})
}

func TestAConnectedMountMayLeadElsewhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		path    string
		html    string
		url     string
		calls   []string
		leaving string
	}{
		"patch": {
			"/a?when=mount&how=patch&to=/a/x&flash=hi", "a x  hi", "/a/x",
			[]string{"a mount /a?when=mount&how=patch&to=/a/x&flash=hi", "a params /a/x"}, "",
		},
		"navigate": {
			"/a?when=mount&how=navigate&to=/b/x&flash=hi", "b x  hi", "/b/x",
			[]string{"a mount /a?when=mount&how=navigate&to=/b/x&flash=hi", "a leave", "b mount /b/x", "b params /b/x"}, "",
		},
		"params navigates": {
			"/a?when=params&how=navigate&to=/b/x&flash=hi", "b x  hi", "/b/x",
			[]string{"a mount /a?when=params&how=navigate&to=/b/x&flash=hi", "a params /a?when=params&how=navigate&to=/b/x&flash=hi", "a leave", "b mount /b/x", "b params /b/x"}, "",
		},
		"redirect": {
			"/a?when=mount&how=redirect&to=/x", "a   ", "",
			[]string{"a mount /a?when=mount&how=redirect&to=/x"}, "/x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				site, calls := twoPlaces(t)
				p := join(t, site, "/a")
				p.close()
				takeCalls(calls)
				p = open(t, site, "/a", 9)
				takeCalls(calls)
				p.path = test.path
				p.join(0)
				p.drain()
				require.Equal(t, test.calls, takeCalls(calls))
				require.Equal(t, test.html, p.html())
				require.Equal(t, test.url, p.url)
				if test.url != "" {
					require.True(t, p.replace, "the URL that leads on is none to come back to")
				}
				if test.leaving != "" {
					require.Equal(t, `["l","`+test.leaving+`"]`, p.last)
				}
				require.Contains(t, p.acks, uint64(1))
				p.close()
			})
		})
	}
}

func TestAPageThatLeadsInCirclesIsLoadedOverHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		for _, at := range []string{"/a", "/b"} {
			v := &View[counter]{Template: parse("x")}
			v.Mount = func(ctx *Ctx, _ *counter) error {
				if ctx.URL().RawQuery == "" {
					return nil
				}
				ctx.Navigate(map[string]string{"/a": "/b?x", "/b": "/a?x"}[at])
				return nil
			}
			Handle(site, at, v)
		}
		p := join(t, site, "/a")
		p.say(`"n","/b?x"`)
		p.drain()
		require.Contains(t, p.last, `["l","/`)
		p.close()
	})
}

func TestWhoLeavesAPageThatNobodySawIsAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, _ := twoPlaces(t)
		p := open(t, site, "/a", 0) // takes nothing for now
		p.join(0)
		for range 3 {
			p.say(`"n","/b/x"`)
			synctest.Wait()
			p.say(`"p","/b/y"`)
		}
		p.drain()
		require.Equal(t, "b y  ", p.html())
		require.Equal(t, 2, p.mounts, "the first was on its way, the last took the place of those between")
		require.ElementsMatch(t, []uint64{1, 2, 3, 4, 5, 6, 7}, p.acks)
		p.close()
	})
}

func TestTheErrorOfMountIsShownOverHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var failure error
		v := counterView()
		left := 0
		v.Mount = func(*Ctx, *counter) error { return failure }
		v.Leave = func(*counter) { left++ }
		Handle(site, "/", v)
		p := open(t, site, "/", 9)
		require.Equal(t, 1, left, "the page over HTTP")
		failure = &Error{Status: 403, Text: "not for you"}
		p.join(0)
		p.drain()
		require.Equal(t, `["l","/"]`, p.last)
		require.Equal(t, 1, left, "what was not mounted is not left")
		p.close()

		failure = nil
		p = open(t, site, "/", 9)
		failure = errors.New("no database")
		p.join(2)
		p.drain()
		require.Equal(t, `["l","/"]`, p.last)
		p.close()

		// The page was served a moment ago: loading it again at once might go on for ever.
		failure = nil
		p = open(t, site, "/", 9)
		failure = errors.New("no database")
		p.join(0)
		<-p.done
		p.drain()
		require.Contains(t, p.last, `["b",`)
	})
}

func TestTheContextOfAPage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var ctxs []*Ctx
		v := counterView()
		v.Mount = func(ctx *Ctx, _ *counter) error {
			ctxs = append(ctxs, ctx)
			return nil
		}
		Handle(site, "/rooms/{room}", v)
		p := open(t, site, "/rooms/7?x=y", 9)
		h := ctxs[0]
		require.False(t, h.Connected())
		require.Error(t, h.Err(), "the page over HTTP is written")
		require.Equal(t, "7", h.Request().PathValue("room"))
		require.Equal(t, "/rooms/7?x=y", h.URL().String())
		require.NotEmpty(t, h.Session())
		require.False(t, h.Post(func() {}))
		require.Zero(t, h.LastPosition())
		require.Empty(t, h.Param("zone"))
		require.Zero(t, h.Joins())
		h.Push("x", nil)
		h.Reply(1)
		h.Hold(func() bool { return false })
		h.After(time.Second, func() { t.Error("a timer over HTTP") })()
		h.Every(time.Second, func() { t.Error("a timer over HTTP") })
		Receive(h, make(chan int), func(int) {})
		Async(h, "", func(context.Context) (int, error) { panic("work over HTTP") }, nil)
		h.Cancel("")

		p.say(`"j",{"t":%q,"u":%q,"p":{"zone":"UTC"},"v":"41","n":3}`, p.token, p.path)
		p.drain()
		c := ctxs[1]
		require.True(t, c.Connected())
		require.Equal(t, "7", c.Request().PathValue("room"))
		require.Equal(t, "/rooms/7?x=y", c.URL().String())
		require.Equal(t, "GET", c.Request().Method)
		require.Equal(t, h.Session(), c.Session())
		require.Equal(t, "UTC", c.Param("zone"))
		require.Empty(t, c.Param("other"))
		require.Equal(t, 3, c.Joins())
		require.Equal(t, uint64(41), c.LastPosition())

		p.say(`"n","/rooms/8"`)
		p.drain()
		n := ctxs[2]
		require.Error(t, c.Err(), "another page took its place")
		require.Equal(t, "8", n.Request().PathValue("room"))
		require.Equal(t, "UTC", n.Param("zone"))
		require.Zero(t, n.Joins())
		require.Zero(t, n.LastPosition())
		require.NoError(t, n.Err())
		p.close()
		require.Error(t, n.Err())
		require.False(t, n.Post(func() {}))
	})
}

func TestMessagesOfThePageOverHTTPAreThereWhenItConnectsAtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, _ := twoPlaces(t)
		p := open(t, site, "/a", 9)
		// The token that a page with a message has.
		r := httptest.NewRequest("GET", "/", nil)
		for _, c := range p.cookies {
			r.AddCookie(c)
		}
		session, _, err := site.verify(p.token, r)
		require.NoError(t, err)
		p.token = site.token(session, map[string]string{"info": "saved"})
		p.join(0)
		p.drain()
		require.Equal(t, "a   saved", p.html())
		p.close()
		p.ref = 0
		p.connect(wiretest.NewConn(9), nil)
		p.join(1)
		p.drain()
		require.Equal(t, "a   ", p.html())
		p.close()
		p.ref = 0
		p.connect(wiretest.NewConn(9), nil)
		p.path = "/a?when=mount&how=patch&to=?x"
		p.join(0)
		p.drain()
		require.Equal(t, "a  x saved", p.html(), "what was not seen goes on to where the page leads")
		p.close()
	})
}

// An event that was on its way when the page went to another view must not do anything there.
func TestAnEventForAViewThatIsGoneDoesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		deleted := []string{}
		newView := func(name string) *View[struct{}] {
			v := &View[struct{}]{Template: parse(`<i>` + name + `</i>`)}
			On(v, "delete", func(ctx *Ctx, _ *struct{}, _ struct{}) error {
				deleted = append(deleted, name)
				ctx.Navigate("/list")
				return nil
			})
			return v
		}
		Handle(site, "/item", newView("item"))
		Handle(site, "/list", newView("list"))
		p := join(t, site, "/item")
		// A double click: both are for the item.
		first, second := p.click("delete"), p.click("delete")
		p.drain()
		require.Equal(t, []string{"item"}, deleted)
		require.Subset(t, p.acks, []uint64{first, second})
		require.Equal(t, "<i>list</i>", p.html())
		p.click("delete")
		p.drain()
		require.Equal(t, []string{"item", "list"}, deleted, "the same view anew is another one, too")
		p.say(`"e","delete","click",{},7`)
		p.drain()
		require.Len(t, deleted, 2)
		p.close()
	})
}
