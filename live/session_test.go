package live

import (
	"context"
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
	acks    []uint64
	title   string
	url     string
	replace bool
	at      uint64
	pushed  []string // "before name payload" and "name payload"
	replies []string
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
	p.conn, p.done = conn, make(chan struct{})
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
	require.NoError(p.t, p.conn.Send(fmt.Sprintf("[%d,", p.ref)+format+"]", args...))
	return uint64(p.ref)
}

func (p *tab) join(joins int) uint64 {
	p.t.Helper()
	return p.say(`"j",{"t":%q,"u":%q,"n":%d}`, p.token, p.path, joins)
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
	return p.say(`"e",%q,"click",{%s}`, event, b.String())
}

func (p *tab) submit(event string, values url.Values) uint64 {
	p.t.Helper()
	return p.say(`"e",%q,"submit",%q`, event, values.Encode())
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
	b := f.Body
	for _, e := range b.Before {
		p.pushed = append(p.pushed, "before "+e.Event+" "+string(e.Payload))
	}
	if f.Kind == "j" {
		p.mounts++
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
