package browser_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/browsertest"
	"github.com/levada-go/levada/live"
)

func TestMain(m *testing.M) { browsertest.Main(m) }

// world is what all pages of a stage show, and tells them when it changes.
type world struct {
	mu    sync.Mutex
	posts []item // the newest first
	ticks int
	pages map[chan struct{}]bool
	tape  *live.Region[[]item]

	site    *live.Site // the newest
	session string     // of the page that was opened last
}

type item struct {
	ID   int
	Text string
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	for ch := range w.pages {
		select {
		case ch <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func (w *world) post(text string) {
	w.change(func() { w.posts = append([]item{{len(w.posts) + 1, text}}, w.posts...) })
}

// follow calls look now and whenever the world changes.
func (w *world) follow(ctx *live.Ctx, look func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	look()
	if !ctx.Connected() {
		return
	}
	ch := make(chan struct{}, 1)
	w.pages[ch] = true
	live.Receive(ctx, ch, func(struct{}) {
		w.mu.Lock()
		defer w.mu.Unlock()
		look()
	})
}

const script = `
live.hook("Chart", {
  mounted() {
    this.handle("price", p => { const c = this.el.getContext("2d"); c.fillStyle = p.colour; c.fillRect(0, 0, 10, 10); });
    this.el.onclick = () => this.push("zoom", { to: 7 }, r => { this.el.dataset.zoomed = r.to });
  },
});
live.hook("Modal", { mounted() { this.el.showModal() } });
live.hook("Hurry", { mounted() { this.el.addEventListener("click", () => { this.el.textContent = "sent" }) } });
`

var layout = template.Must(template.New("layout").Parse(
	`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title>{{.Head}}<script defer src="/hooks.js"></script></head><body>{{.Body}}</body></html>`))

func parse(text string) *template.Template { return template.Must(template.New("view").Parse(text)) }

type room struct {
	live.Page
	Posts []item
	Draft string
	Ticks int
	N     int
	Tab   string
	Log   *live.Stream[item]
	Tape  live.Shown
	Rows  []item
}

// newSite returns a site with pages for the tests. Nothing but what it serves itself may run or load in its pages.
func newSite(t *testing.T, w *world) http.Handler {
	if w.pages == nil {
		w.pages = map[chan struct{}]bool{}
		tape, err := live.NewRegion[[]item]("tape", parse(`<ol>{{range .}}<li id="trade-{{.ID}}">{{.Text}}</li>{{end}}</ol>`), -1)
		require.NoError(t, err)
		t.Cleanup(tape.Close)
		w.tape = tape
	}
	site, err := live.NewSite(&live.Options{Layout: layout, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	w.site = site

	board := &live.View[room]{
		Template: parse(`<h1>Room</h1><p id="flash">{{.Flash "info"}}</p><p id="tab">{{.Tab}}</p>
<form id="post" method="post" live-submit="post" live-change="draft"><input id="text" name="text" value="{{.Draft}}"><b id="why">{{.Error "text"}}</b>
<button id="send" name="_event" value="post">Send</button></form><p id="draft">{{.Draft}}</p>
<a id="b" href="?tab=b" live-patch>b</a> <a id="far" href="/other" live-navigate>far</a> <button id="leave" live-click="leave">leave</button>
<canvas id="chart" width="10" height="10" live-hook="Chart" live-update="ignore"></canvas>
<ul id="posts">{{range .Posts}}<li id="post-{{.ID}}" title="{{.Text}}"><a href="{{.Text}}">{{.Text}}</a><input id="note-{{.ID}}"></li>{{end}}</ul>
<ul id="log" live-update="stream">{{range .Log.Items}}<li id="log-{{.ID}}">{{.Text}}</li>{{end}}</ul>{{.Tape.HTML}}`),
		Mount: func(ctx *live.Ctx, s *room) error {
			ctx.Title("Room")
			w.mu.Lock()
			w.session = ctx.Session()
			w.mu.Unlock()
			s.Log = live.NewStream(ctx, func(i item) string { return fmt.Sprintf("log-%d", i.ID) })
			s.Log.Limit(-3)
			s.Tape = w.tape.Show(ctx)
			w.follow(ctx, func() {
				if len(w.posts) > len(s.Posts) && len(w.posts) > 0 {
					s.Log.Append(w.posts[0])
				}
				s.Posts = w.posts
			})
			return nil
		},
		Params: func(ctx *live.Ctx, s *room) error { s.Tab = ctx.URL().Query().Get("tab"); return nil },
	}
	live.On(board, "post", func(ctx *live.Ctx, s *room, in struct{ Text string }) error {
		if in.Text == "" {
			return live.Errors{"text": "must not be empty"}
		}
		w.post(in.Text)
		s.Draft = ""
		ctx.Flash("info", "posted")
		ctx.Push("price", map[string]string{"colour": "#ff0000", "text": in.Text})
		return nil
	})
	live.On(board, "draft", func(_ *live.Ctx, s *room, in struct{ Text string }) error {
		if s.Draft = in.Text; strings.HasPrefix(in.Text, "up:") {
			s.Draft = strings.ToUpper(in.Text)
		}
		return nil
	})
	live.On(board, "zoom", func(ctx *live.Ctx, _ *room, in struct{ To int }) error {
		ctx.Reply(map[string]int{"to": in.To})
		return nil
	})
	live.On(board, "leave", func(ctx *live.Ctx, _ *room, _ struct{}) error { ctx.Navigate("/other"); return nil })
	live.Handle(site, "/room", board)

	live.Handle(site, "/other", &live.View[room]{
		Template: parse(`<h1>Other</h1><a id="back" href="/room" live-navigate>back</a>`),
		Mount:    func(ctx *live.Ctx, _ *room) error { ctx.Title("Other"); return nil },
	})

	clock := &live.View[room]{
		Template: parse(`<p id="ticks">{{.Ticks}}</p><button id="inc" live-click="inc" live-hook="Hurry">{{.N}} at {{.Ticks}}</button>
<form id="f" live-submit="save"><input id="name" name="name" value="{{.N}}"><button id="save" live-disable-with="Saving">Save {{.Ticks}}</button></form>`),
		Mount: func(ctx *live.Ctx, s *room) error {
			w.follow(ctx, func() { s.Ticks = w.ticks })
			return nil
		},
	}
	live.On(clock, "inc", func(_ *live.Ctx, s *room, _ struct{}) error { s.N++; return nil })
	live.On(clock, "save", func(_ *live.Ctx, s *room, in struct{ Name string }) error { s.N += 100; return nil })
	live.Handle(site, "/clock", clock)

	live.Handle(site, "/table", &live.View[room]{
		Template: parse(`<p id="ticks">{{.Ticks}}</p><table><tbody id="rows">{{range .Rows}}<tr id="row-{{.ID}}"><td>{{.ID}}</td><td>{{.Text}}</td><td><input id="in-{{.ID}}"></td></tr>{{end}}</tbody></table>`),
		Mount: func(ctx *live.Ctx, s *room) error {
			for i := range 1000 {
				s.Rows = append(s.Rows, item{i, "0"})
			}
			w.follow(ctx, func() {
				s.Ticks = w.ticks
				for i := range 50 { // every tick changes cells all over the table, and what is first and last
					s.Rows[(w.ticks*7+i*20)%1000].Text = fmt.Sprint(w.ticks)
				}
				s.Rows = append(s.Rows[999:1000:1000], s.Rows[:999]...)
			})
			return nil
		},
	})

	things := &live.View[room]{
		Template: parse(`<div id="things" title="{{.Ticks}}"><p id="ticks">{{.Ticks}}</p><p id="words">some words to select</p>
<details id="more"{{if .N}} open{{end}}><summary id="sum">More {{.Ticks}}</summary>of it</details>
<dialog id="ask" class="n{{.Ticks}}">{{.Ticks}} <button id="done" live-click="done">Done</button></dialog>
<div id="box" class="n{{.Ticks}}"><p>{{.Ticks}}</p>{{range .Rows}}<p id="line-{{.ID}}">{{.Text}}</p>{{end}}</div>
<textarea id="wide" class="n{{.Ticks}}"></textarea><audio id="sound" class="n{{.Ticks}}" src="/sound.wav" loop></audio>
<select id="pick" class="n{{.Ticks}}"><option>a</option><option>b</option></select></div>
{{if .Tab}}<dialog id="modal" live-hook="Modal">{{.Ticks}} <button id="shut" live-click="shut">Shut</button></dialog>{{end}}
<button id="expand" live-click="expand">expand</button> <button id="show" live-click="show">show</button>`),
		Mount: func(ctx *live.Ctx, s *room) error {
			for i := range 100 {
				s.Rows = append(s.Rows, item{i, "line"})
			}
			w.follow(ctx, func() { s.Ticks = w.ticks })
			return nil
		},
	}
	live.On(things, "expand", func(_ *live.Ctx, s *room, _ struct{}) error { s.N = 1 - s.N; return nil })
	live.On(things, "show", func(_ *live.Ctx, s *room, _ struct{}) error { s.Tab = "shown"; return nil })
	live.On(things, "shut", func(_ *live.Ctx, s *room, _ struct{}) error { s.Tab = ""; return nil })
	live.On(things, "done", func(_ *live.Ctx, s *room, _ struct{}) error { return nil })
	live.Handle(site, "/things", things)

	mux := http.NewServeMux()
	mux.Handle("/", site)
	mux.HandleFunc("/sound.wav", func(rw http.ResponseWriter, r *http.Request) {
		http.ServeContent(rw, r, "sound.wav", time.Time{}, bytes.NewReader(silence(10)))
	})
	login := &live.View[room]{
		Template: parse(`<button id="in" live-click="in">in</button>{{if .N}}<form id="login" method="post" action="/login" live-trigger-action><input type="hidden" name="user" value="ann"></form>{{end}}`),
	}
	live.On(login, "in", func(_ *live.Ctx, s *room, _ struct{}) error { s.N = 1; return nil })
	live.Handle(site, "/login-page", login)
	mux.HandleFunc("POST /login", func(rw http.ResponseWriter, r *http.Request) {
		http.SetCookie(rw, &http.Cookie{Name: "user", Value: r.PostFormValue("user"), Path: "/"})
		http.Redirect(rw, r, "/plain", http.StatusSeeOther)
	})
	mux.HandleFunc("/plain", func(rw http.ResponseWriter, r *http.Request) {
		user, err := r.Cookie("user")
		rw.Header().Set("Content-Type", "text/html")
		if err == nil {
			fmt.Fprintf(rw, "<h1>Plain, %s</h1>", user.Value)
			return
		}
		fmt.Fprint(rw, "<h1>Plain</h1>")
	})
	mux.HandleFunc("/favicon.ico", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hooks.js", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(rw, script)
	})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Security-Policy", "default-src 'self'")
		mux.ServeHTTP(rw, r)
	})
}

// silence returns a WAV file of so many seconds.
func silence(seconds uint32) []byte {
	const rate = 8000
	var b bytes.Buffer
	for _, part := range []any{
		[]byte("RIFF"), 36 + rate*seconds, []byte("WAVEfmt "), uint32(16),
		uint16(1), uint16(1), uint32(rate), uint32(rate), uint16(1), uint16(8), // PCM, mono, a byte each
		[]byte("data"), rate * seconds, bytes.Repeat([]byte{128}, int(rate*seconds)),
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a buffer takes all
	}
	return b.Bytes()
}

// serve serves a new site and returns its URL.
func serve(t *testing.T, w *world) string {
	srv := httptest.NewServer(newSite(t, w))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL
}

func address(url string) string { return strings.TrimPrefix(url, "http://") }

// open opens a page in a window of its own and waits until it is connected.
func open(t *testing.T, url string) *browsertest.Tab {
	tab := browsertest.New(t).Open(url)
	connected(tab)
	return tab
}

func connected(tab *browsertest.Tab) { tab.Wait("window.live?.connected") }

// tick makes the world tick every d until the test or stop ends it, or it has ticked most times, if that is not 0: a
// browser on a busy machine has to get to the end of it.
func (w *world) tick(t *testing.T, d time.Duration, most int) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(d)
		defer ticker.Stop()
		for n := 1; most == 0 || n <= most; n++ {
			select {
			case <-ticker.C:
				w.change(func() { w.ticks++ })
			case <-done:
				return
			}
		}
	})
	stop = sync.OnceFunc(func() { close(done); wg.Wait() })
	t.Cleanup(stop)
	return stop
}
