package livetest_test

import (
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/livetest"
)

// board is a page that has what pages have: a counter for all who look, a form, a list, a stream and links.
type board struct {
	live.Page
	Count   int
	Name    string
	Draft   string
	Colour  string
	Posts   []string
	Log     *live.Stream[string]
	Tab     string
	Open    bool
	Keys    []string
	Joins   int
	Place   string
	Param   string
	Tape    live.Shown
	Trigger bool

	Connected bool
}

const boardHTML = `<h1>Board of {{.Name}}</h1>
<p id="flash">{{.Flash "info"}}{{.Flash "error"}}</p>
<output id="count">{{.Count}}</output><output id="joins">{{.Joins}}</output><output id="param">{{.Param}}</output>
<button id="inc" live-click="add" live-value-by="2" value="7"><b>Add</b></button>
<button id="off" disabled live-click="add">Off</button>
<button id="gone" live-click="nothing">Gone</button>
<button id="dead">Dead</button>
<button id="panic" live-click="panic">Panic</button>
<button id="leave" live-click="leave">Leave</button>
<button id="away" live-click="away">Away</button>
<button id="to-plain" live-click="to-plain">Plain</button>
<button id="tick" live-click="tick">Tick</button>
<button id="later" live-click="later">Later</button>
<button id="menu" live-click="open">Menu</button>
{{if .Open}}<div id="menu-items" live-click-away="close"><a id="item">item</a></div>{{end}}
<a id="tab-b" href="?tab=b" live-patch>B</a> <a id="other" href="/other" live-navigate>Other</a> <a id="plain" href="/plain">Plain</a>
<p id="tab">{{.Tab}}</p>
<form id="post" live-submit="post" live-change="draft" method="post">
<input name="text" value="{{.Draft}}"><span id="why">{{.Error "text"}}</span>
<select name="colour">{{range .Colours}}<option{{if eq . $.Colour}} selected{{end}}>{{.}}</option>{{end}}</select>
<label id="loud">Loud <input type="checkbox" name="loud" value="yes"></label>
<button id="send" name="_event" value="post">Send</button>
</form>
<p id="draft">{{.Draft}}</p>
<ul id="posts">{{range $i, $p := .Posts}}<li id="post-{{$i}}">{{$p}}</li>{{end}}</ul>
<ul id="log" live-update="stream">{{range .Log.Items}}<li id="log-{{.}}">{{.}}</li>{{end}}</ul>
<input id="keys" live-keydown="key" live-key="Enter" live-focus="focus" live-blur="blur"><p id="keyed">{{range .Keys}}{{.}} {{end}}</p>
<i live-window-keyup="key"></i>
<canvas id="chart" live-hook="Chart" live-update="ignore"></canvas>
{{if .Trigger}}<form id="login" method="post" action="/login" live-trigger-action><input type="hidden" name="user" value="ann"></form>{{end}}
{{.Tape.HTML}}`

func (b *board) Colours() []string { return []string{"red", "green"} }

type add struct{ By, Value int }

type post struct {
	Text   string
	Colour string
	Loud   bool
}

func (p *post) Validate() error {
	if p.Text == "" {
		return live.Errors{"text": "must not be empty"}
	}
	return nil
}

// world is what all pages of a site share.
type world struct {
	mu     sync.Mutex
	count  int
	pages  map[chan int]bool
	left   int
	tape   *live.Region[[]int]
	events []string // that forms sent, as encoded by the page
}

func (w *world) add(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count += n
	for ch := range w.pages {
		select {
		case <-ch:
		default:
		}
		ch <- w.count
	}
}

func (w *world) now() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count
}

func newSite(t testing.TB, o *live.Options) (*live.Site, *world) {
	if o == nil {
		o = &live.Options{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	site, err := live.NewSite(o)
	require.NoError(t, err)
	tape, err := live.NewRegion[[]int]("tape", template.Must(template.New("").Parse(
		`<ol>{{range .}}<li id="trade-{{.}}">{{.}}</li>{{end}}</ol>`)), -1)
	require.NoError(t, err)
	t.Cleanup(tape.Close)
	w := &world{pages: map[chan int]bool{}, tape: tape}
	v := &live.View[board]{
		Template: template.Must(template.New("").Parse(boardHTML)),
		Mount: func(ctx *live.Ctx, s *board) error {
			s.Name = ctx.Request().PathValue("name")
			if s.Name == "secret" {
				return &live.Error{Status: http.StatusForbidden, Text: "not for you"}
			}
			ctx.Title("Board " + s.Name)
			s.Log = live.NewStream(ctx, func(s string) string { return "log-" + s })
			s.Joins, s.Param = ctx.Joins(), ctx.Param("zone")
			s.Tape = tape.Show(ctx)
			w.mu.Lock()
			s.Count = w.count
			if s.Connected = ctx.Connected(); s.Connected {
				ch := make(chan int, 1)
				w.pages[ch] = true
				live.Receive(ctx, ch, func(n int) { s.Count = n })
			}
			w.mu.Unlock()
			return nil
		},
		Params: func(ctx *live.Ctx, s *board) error {
			s.Tab = ctx.URL().Query().Get("tab")
			return nil
		},
		Leave: func(s *board) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if s.Connected {
				w.left++
			}
		},
	}
	live.On(v, "add", func(ctx *live.Ctx, s *board, in add) error {
		w.add(in.By + in.Value - 7)
		s.Log.Append(fmt.Sprint(s.Count))
		return nil
	})
	live.On(v, "post", func(ctx *live.Ctx, s *board, in post) error {
		if in.Text == "forbidden" {
			return errors.New("internal")
		}
		if in.Loud {
			in.Text += "!"
		}
		s.Posts = append(s.Posts, in.Colour+" "+in.Text)
		s.Draft = ""
		ctx.Flash("info", "posted")
		return nil
	})
	live.On(v, "draft", func(ctx *live.Ctx, s *board, in url.Values) error {
		w.mu.Lock()
		w.events = append(w.events, fmt.Sprint(in))
		w.mu.Unlock()
		s.Draft, s.Colour = in["text"][0], in["colour"][0]
		return nil
	})
	live.On(v, "panic", func(*live.Ctx, *board, struct{}) error { panic("on purpose") })
	live.On(v, "leave", func(ctx *live.Ctx, _ *board, _ struct{}) error { ctx.Navigate("/other"); return nil })
	live.On(v, "away", func(ctx *live.Ctx, _ *board, _ struct{}) error { ctx.Redirect("https://example.com/x"); return nil })
	live.On(v, "to-plain", func(ctx *live.Ctx, _ *board, _ struct{}) error { ctx.Redirect("/plain"); return nil })
	live.On(v, "login", func(_ *live.Ctx, s *board, _ struct{}) error { s.Trigger = true; return nil })
	live.On(v, "open", func(_ *live.Ctx, s *board, _ struct{}) error { s.Open = true; return nil })
	live.On(v, "close", func(_ *live.Ctx, s *board, _ struct{}) error { s.Open = false; return nil })
	live.On(v, "tick", func(ctx *live.Ctx, s *board, _ struct{}) error { ctx.Push("tick", s.Count); return nil })
	live.On(v, "later", func(ctx *live.Ctx, s *board, _ struct{}) error {
		ctx.After(time.Hour, func() { s.Tab = "later"; ctx.Push("tick", "late") })
		return nil
	})
	live.On(v, "key", func(_ *live.Ctx, s *board, in struct{ Key, Value string }) error {
		s.Keys = append(s.Keys, in.Key)
		return nil
	})
	for _, kind := range []string{"focus", "blur"} {
		live.On(v, kind, func(_ *live.Ctx, s *board, _ struct{}) error { s.Keys = append(s.Keys, kind); return nil })
	}
	live.On(v, "zoom", func(ctx *live.Ctx, s *board, in []int) error {
		s.Count = in[0]
		ctx.Reply(map[string]int{"to": in[0]})
		ctx.Position(uint64(in[0]))
		return nil
	})
	live.Handle(site, "/boards/{name}", v)

	other := &live.View[struct{ live.Page }]{Template: template.Must(template.New("").Parse(`<h1>Other</h1><a id="back" href="/boards/a" live-navigate>back</a>`))}
	live.Handle(site, "/other", other)
	return site, w
}

func TestClicksReachTheViewAndAllWhoLook(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	bob := livetest.Open(t, site, "/boards/a")
	require.Equal(t, "0", ann.Text("#count"))
	ann.Click("#inc b")
	bob.WaitUntil(func() bool { return bob.Text("#count") == "2" })
	require.Equal(t, "Board a", ann.Title())
	require.Equal(t, "Board of a", ann.Text("h1"))
	require.Equal(t, []string{"0"}, ann.Texts("#log li"))
}

func TestInABubbleNobodyWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site, w := newSite(t, nil)
		ann := livetest.Open(t, site, "/boards/a")
		bob := livetest.Open(t, site, "/boards/a")
		ann.Click("#inc")
		time.Sleep(time.Second)
		require.Equal(t, "2", bob.Text("#count"))
		w.add(5)
		time.Sleep(time.Second)
		require.Equal(t, "7", bob.Text("#count"))
		ann.Click("#later")
		started := time.Now()
		require.JSONEq(t, `"late"`, string(ann.WaitForPush("tick")))
		require.Equal(t, time.Hour, time.Since(started).Round(time.Second))
		require.Equal(t, "later", ann.Text("#tab"))
	})
}

func TestFormsAreFilledAndSent(t *testing.T) {
	t.Parallel()
	site, w := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	ann.Fill("#post", "text", "hel")
	require.Equal(t, "hel", ann.Text("#draft"))
	ann.Fill("#post input[name=text]", "text", "hello", "colour", "green")
	require.Equal(t, "green", ann.Value("select"))
	require.Equal(t, "hello", ann.Value("[name=text]"))
	ann.Click("#loud")
	require.Equal(t, "yes", ann.Value("[name=loud]"))
	ann.Submit("#post")
	require.Equal(t, []string{"green hello!"}, ann.Texts("#posts li"))
	require.Equal(t, "posted", ann.Text("#flash"))
	require.Equal(t, "", ann.Value("[name=text]"), "the server has rendered something else than before")
	require.Equal(t, []string{
		"map[_target:[text] _unused_colour:[] _unused_loud:[] colour:[red] text:[hel]]",
		"map[_target:[text] _unused_colour:[] _unused_loud:[] colour:[red] text:[hello]]",
		"map[_target:[colour] _unused_loud:[] colour:[green] text:[hello]]",
		"map[_target:[loud] colour:[green] loud:[yes] text:[hello]]",
	}, w.events)

	ann.Submit("#send", "text", "", "loud", "")
	require.Equal(t, "must not be empty", ann.Text("#why"))
	ann.Submit("#post", "text", "forbidden")
	require.Contains(t, ann.Text("#flash"), "Something went wrong.")
	ann.Fill("#post", "text", "enter")
	ann.Key("#post input[name=text]", "Enter")
	require.Len(t, ann.Texts("#posts li"), 2)
}

func TestWithoutJavaScriptFormsAndLinksGoOverHTTP(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a", livetest.WithoutJavaScript())
	require.False(t, ann.Connected())
	ann.Click("#tab-b")
	require.Equal(t, "b", ann.Text("#tab"))
	require.Equal(t, "/boards/a?tab=b", ann.URL())
	ann.Submit("#post", "text", "")
	require.Equal(t, http.StatusUnprocessableEntity, ann.Status())
	require.Equal(t, "must not be empty", ann.Text("#why"))
	ann.Submit("#send", "text", "hi")
	require.Equal(t, http.StatusOK, ann.Status())
	require.Equal(t, "posted", ann.Text("#flash"))
	require.Equal(t, livetest.Traffic{}, ann.Traffic())
}

func TestLinksAndHistory(t *testing.T) {
	t.Parallel()
	site, w := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	ann.Click("#tab-b")
	require.Equal(t, "b", ann.Text("#tab"))
	ann.Click("#other")
	require.Equal(t, "Other", ann.Text("h1"))
	require.Equal(t, "/other", ann.URL())
	require.Equal(t, 1, w.left)
	ann.Back()
	require.Equal(t, "/boards/a?tab=b", ann.URL())
	require.Equal(t, "b", ann.Text("#tab"))
	ann.Back()
	require.Equal(t, "", ann.Text("#tab"))
	ann.Forward()
	require.Equal(t, "b", ann.Text("#tab"))
	ann.Fill("#post", "text", "left behind")
	ann.Click("#leave")
	require.Equal(t, "/other", ann.URL())
	ann.Click("#back")
	require.Equal(t, "", ann.Value("[name=text]"))
	require.Equal(t, "Board of a", ann.Text("h1"))
	require.Equal(t, "0", ann.Text("#joins"))

	ann.Click("#plain")
	require.Equal(t, http.StatusNotFound, ann.Status())
	require.False(t, ann.Connected())
	ann.Back()
	require.True(t, ann.Connected())
	require.Equal(t, "Board of a", ann.Text("h1"))
	ann.Forward()
	require.Equal(t, http.StatusNotFound, ann.Status())
	ann.Visit("/boards/b?tab=x")
	require.Equal(t, "Board of b", ann.Text("h1"))
	ann.Reload()
	require.Equal(t, "x", ann.Text("#tab"))
}

func TestAPageFollowsWhereTheServerSendsIt(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	ann.Click("#to-plain")
	require.Contains(t, ann.Redirected(), "plain")
	require.Equal(t, "/plain", ann.URL())
	require.Equal(t, http.StatusNotFound, ann.Status())

	bob := livetest.Open(t, site, "/boards/a")
	bob.Click("#away")
	require.Equal(t, "https://example.com/x", bob.URL())
	require.False(t, bob.Connected())

	require.Equal(t, http.StatusForbidden, livetest.Open(t, site, "/boards/secret").Status())
	require.Contains(t, livetest.Open(t, site, "/boards/secret").Text("body"), "not for you")
}

func TestReconnectingRecoversWhatWasTyped(t *testing.T) {
	t.Parallel()
	site, w := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	ann.Fill("#post", "text", "half a sen")
	ann.Hook("#chart", "zoom", []int{9})
	ann.Disconnect()
	require.False(t, ann.Connected())
	require.Equal(t, 1, w.left)
	w.add(3)
	require.Equal(t, "9", ann.Text("#count"))
	ann.Reconnect()
	require.Equal(t, "3", ann.Text("#count"))
	require.Equal(t, "1", ann.Text("#joins"))
	require.Equal(t, "half a sen", ann.Value("[name=text]"))
	require.Equal(t, "half a sen", ann.Text("#draft"), "the new view was told")
	ann.Reconnect()
	require.Equal(t, "2", ann.Text("#joins"))
	ann.Close()
	require.Equal(t, 3, w.left)
}

func TestKeysFocusAndClicksAway(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	ann.Key("#keys", "Enter")
	require.Equal(t, "Enter Enter", ann.Text("#keyed"), "once in the field and once in the window")
	ann.Key("#keys", "a")
	ann.WindowKey("Escape")
	ann.Focus("#keys")
	ann.Blur("#keys")
	require.Equal(t, "Enter Enter a Escape focus blur", ann.Text("#keyed"))
	ann.Click("#menu")
	require.True(t, ann.Has("#menu-items"))
	ann.ClickAway("#menu-items")
	require.False(t, ann.Has("#menu-items"))
	ann.Click("#menu")
	ann.Click("#inc")
	require.False(t, ann.Has("#menu-items"))
}

func TestHooksAndPushes(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a", livetest.WithParam("zone", "Europe/Vienna"))
	require.Equal(t, "Europe/Vienna", ann.Text("#param"))
	require.JSONEq(t, `{"to":5}`, string(ann.Hook("#chart", "zoom", []int{5})))
	ann.Click("#tick")
	ann.Hook("#chart", "zoom", []int{6})
	ann.Click("#tick")
	require.JSONEq(t, `5`, string(ann.WaitForPush("tick")))
	require.Len(t, ann.Pushed("tick"), 1)
	require.Empty(t, ann.Pushed("tick"))
}

func TestRegionsStandWhereTheyBelong(t *testing.T) {
	t.Parallel()
	site, w := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	w.tape.Set(1, []int{1, 2})
	ann.WaitFor("#region-tape #trade-2")
	w.tape.Set(2, []int{2, 3})
	ann.WaitFor("#trade-3")
	require.Equal(t, "2 3", ann.Text("#region-tape"))
	bob := livetest.Open(t, site, "/boards/a")
	bob.WaitFor("#trade-3")
	ann.Reconnect()
	ann.WaitFor("#trade-3")
	ann.Click("#other")
	ann.Click("#back")
	ann.WaitFor("#trade-3")
}

func TestTabsOfOneBrowserShareTheirCookies(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	mux := http.NewServeMux()
	mux.Handle("/", site)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "user", Value: r.PostFormValue("user"), Path: "/"})
		http.Redirect(w, r, "/boards/home", http.StatusSeeOther)
	})
	var seen sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie("user"); err == nil {
			seen.Store(r.URL.Path+" "+r.Header.Get("X-Test"), c.Value)
		}
		mux.ServeHTTP(w, r)
	})
	ann := livetest.NewBrowser(t, handler, livetest.WithHeader("X-Test", "yes"), livetest.WithCookie("other", "x"))
	first := ann.Open("/boards/a")
	require.Equal(t, "", ann.Cookie("user"))
	first.Forge("login")
	require.Equal(t, "Board of home", first.Text("h1"), "the form was sent by itself")
	require.Equal(t, "ann", ann.Cookie("user"))
	require.Equal(t, "x", ann.Cookie("other"))
	second := ann.Open("/boards/b")
	second.Click("#inc")
	for _, path := range []string{"/boards/home", "/_live/socket", "/boards/b"} {
		who, ok := seen.Load(path + " yes")
		require.True(t, ok, path)
		require.Equal(t, "ann", who)
	}
}

func TestTrafficIsCounted(t *testing.T) {
	t.Parallel()
	site, _ := newSite(t, nil)
	ann := livetest.Open(t, site, "/boards/a")
	ann.Traffic()
	ann.Click("#tick")
	got := ann.Traffic()
	require.Equal(t, 1, got.SentFrames)
	require.Equal(t, 1, got.Frames)
	require.Equal(t, len(`[2,"e","tick","click",{}]`), got.SentBytes)
	require.Equal(t, len(`[2,{"e":[["tick",0]]}]`), got.Bytes)
}

func TestASessionThatEndsLoadsThePageAnew(t *testing.T) {
	t.Parallel()
	site, err := live.NewSite(&live.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	type page struct{ Session string }
	v := &live.View[page]{
		Template: template.Must(template.New("").Parse(`<p id="s">{{.Session}}</p>`)),
		Mount:    func(ctx *live.Ctx, s *page) error { s.Session = ctx.Session(); return nil },
	}
	live.Handle(site, "/", v)
	ann := livetest.Open(t, site, "/")
	first := ann.Text("#s")
	site.Disconnect(first)
	require.True(t, func() bool {
		ann.WaitUntil(func() bool { return ann.Connected() && site.Stats().Connected == 1 })
		return true
	}())
	require.Equal(t, first, ann.Text("#s"))
}

func TestWhereALinkLeadsOnIsOneEntryOfTheHistory(t *testing.T) {
	t.Parallel()
	site, err := live.NewSite(&live.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	v := &live.View[struct{ live.Page }]{
		Template: template.Must(template.New("").Parse(`<p>{{.URL}}</p><a id="old" href="/?at=old" live-patch>old</a><button live-click="go">go</button>`)),
		Params: func(ctx *live.Ctx, _ *struct{ live.Page }) error {
			if ctx.URL().Query().Get("at") == "old" {
				ctx.Patch("/?at=new")
			}
			return nil
		},
	}
	live.On(v, "go", func(ctx *live.Ctx, _ *struct{ live.Page }, _ struct{}) error { ctx.Navigate("/?at=far"); return nil })
	live.Handle(site, "/", v)
	ann := livetest.Open(t, site, "/")
	ann.Click("#old")
	require.Equal(t, "/?at=new", ann.URL())
	ann.Click("button")
	require.Equal(t, "/?at=far", ann.Text("p"))
	ann.Back()
	require.Equal(t, "/?at=new", ann.Text("p"))
	ann.Back()
	require.Equal(t, "/", ann.Text("p"))
}
