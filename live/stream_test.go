package live

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

type entry struct{ ID, Text string }

func lineID(l entry) string { return "log-" + l.ID }

type logPage struct {
	Log    *Stream[entry]
	Hidden bool
	ctx    *Ctx
}

const logTemplate = `{{if not .Hidden}}<ul id="log" live-update="stream">{{range .Log.Items}}<li id="log-{{.ID}}">{{.Text}}</li>{{end}}</ul>{{end}}`

// logView hands each page that is mounted to use.
func logView(use func(s *logPage)) *View[logPage] {
	return &View[logPage]{Template: parse(logTemplate), Mount: func(ctx *Ctx, s *logPage) error {
		s.ctx = ctx
		s.Log = NewStream(ctx, lineID)
		use(s)
		return nil
	}}
}

var linePattern = regexp.MustCompile(`<li id="log-(\w+)">(\w*)</li>`)

// lines reads the list of a page, as "id=text".
func lines(html string) []string {
	got := []string{}
	for _, m := range linePattern.FindAllStringSubmatch(html, -1) {
		got = append(got, m[1]+"="+m[2])
	}
	return got
}

func texts(of string) (l []entry) {
	for _, id := range strings.Fields(of) {
		l = append(l, entry{id, id})
	}
	return l
}

func TestAStreamSendsEachItemOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var page *logPage
		Handle(site, "/", logView(func(s *logPage) {
			page = s
			s.Log.Append(texts("a b")...)
		}))
		p := join(t, site, "/")
		require.Equal(t, []string{"a=a", "b=b"}, lines(p.html()))
		do := func(fn func(l *Stream[entry])) []string {
			page.ctx.Post(func() { fn(page.Log) })
			time.Sleep(pace)
			p.drain()
			return lines(p.html())
		}
		require.Equal(t, []string{"a=a", "b=b", "c=c"}, do(func(l *Stream[entry]) { l.Append(texts("c")...) }))
		require.NotContains(t, p.last, "log-a")
		require.Contains(t, p.last, `{"o":[[1,2,-1,0,["c","c"]]]}`, "only what is new")
		require.Nil(t, page.Log.rows)
		require.Nil(t, page.Log.all, "the server forgets")
		p.close()
	})
}

func TestAStreamChangesAsItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var page *logPage
		Handle(site, "/", logView(func(s *logPage) { page = s }))
		p := join(t, site, "/")
		for _, step := range []struct {
			do   func(l *Stream[entry])
			want string
		}{
			{func(l *Stream[entry]) { l.Append(texts("a b c")...) }, "a=a b=b c=c"},
			{func(l *Stream[entry]) { l.Prepend(texts("x y")...) }, "x=x y=y a=a b=b c=c"},
			{func(l *Stream[entry]) { l.Insert(1, texts("z")...) }, "x=x z=z y=y a=a b=b c=c"},
			{func(l *Stream[entry]) { l.Insert(99, texts("e")...) }, "x=x z=z y=y a=a b=b c=c e=e"},
			{func(l *Stream[entry]) { l.Delete("log-x", "log-nothing"); l.Delete() }, "z=z y=y a=a b=b c=c e=e"},
			{func(l *Stream[entry]) { l.Update(entry{"y", "Y"}, entry{"q", "Q"}); l.Update() }, "z=z y=Y a=a b=b c=c e=e"},
			{func(l *Stream[entry]) { l.Append(entry{"a", "A"}, entry{"f", "1"}, entry{"f", "2"}) }, "z=z y=Y a=A b=b c=c e=e f=2"},
			{func(l *Stream[entry]) { l.Limit(-3); l.Append(texts("g")...) }, "e=e f=2 g=g"},
			{func(l *Stream[entry]) { l.Limit(2); l.Prepend(texts("h")...) }, "h=h e=e"},
			{func(l *Stream[entry]) { l.Limit(0); l.Append(texts("i j")...) }, "h=h e=e i=i j=j"},
			{func(l *Stream[entry]) { l.Append(texts("k")...); l.Reset(); l.Append(texts("l")...) }, "l=l"},
			{func(l *Stream[entry]) { l.Append() }, "l=l"},
			{func(l *Stream[entry]) { l.Reset() }, ""},
		} {
			page.ctx.Post(func() { step.do(page.Log) })
			time.Sleep(pace)
			p.drain()
			require.Equal(t, step.want, strings.Join(lines(p.html()), " "))
		}
		p.close()
	})
}

func TestAStreamOverHTTPIsWhole(t *testing.T) {
	t.Parallel()
	site := quietSite(t, nil)
	Handle(site, "/", logView(func(s *logPage) {
		s.Log.Limit(-3)
		s.Log.Append(texts("a b c d e")...)
		s.Log.Delete("log-d")
		s.Log.Prepend(entry{"c", "C"}, entry{"x", "x"})
	}))
	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	require.Equal(t, []string{"x=x", "c=C", "e=e"}, lines(w.Body.String()))
}

func TestItemsWaitForTheElement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		site := quietSite(t, nil)
		var page *logPage
		Handle(site, "/", logView(func(s *logPage) {
			page = s
			s.Hidden = true
			s.Log.Append(texts("a")...)
		}))
		p := join(t, site, "/")
		do := func(fn func()) []string {
			page.ctx.Post(fn)
			time.Sleep(pace)
			p.drain()
			return lines(p.html())
		}
		require.Empty(t, lines(p.html()))
		require.Empty(t, do(func() { page.Log.Append(texts("b")...) }))
		require.Equal(t, []string{"a=a", "b=b"}, do(func() { page.Hidden = false }))
		require.Empty(t, do(func() { page.Hidden = true }))
		require.Equal(t, []string{"c=c"}, do(func() { page.Hidden = false; page.Log.Append(texts("c")...) }), "what left the page is gone")
		p.close()
	})
}

func TestAFrameThatFailsLosesNoItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCtx(t.Context(), quietSite(t, nil), "/", httptest.NewRequest("GET", "/", nil), "")
		c.session = &session{site: c.site}
		v := &View[logPage]{Template: parse(logTemplate + `{{.Fail}}`)}
		require.NoError(t, v.prepare())
		s := v.open().(*screen[logPage])
		require.NoError(t, s.mount(c))
		s.state.Log = NewStream(c, lineID)
		s.state.Log.Append(texts("a")...)
		_, err := s.frame(nil)
		require.Error(t, err)
		require.Len(t, s.state.Log.rows, 1)
	})
}

func TestWhoChecksFramesSeesWhatTheBrowserHas(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			site := quietSite(t, nil)
			var page *logPage
			Handle(site, "/", logView(func(s *logPage) { page = s }))
			p := load(t, site, "/")
			var seen atomic.Value
			conn := wiretest.NewConn(0)
			p.connect(conn, &wiretest.Observed{Conn: conn, Seen: func(html []byte) { seen.Store(string(html)) }})
			p.join(0)
			var model []entry
			hidden := false
			n := 0
			some := func(rt *rapid.T) (l []entry) {
				for _, id := range rapid.SliceOfN(rapid.SampledFrom(strings.Fields("a b c d e f g h")), 1, 4).Draw(rt, "ids") {
					n++
					l = append(l, entry{id, fmt.Sprint(n)})
				}
				return l
			}
			limit := 0
			change := func(fn func()) { require.True(t, page.ctx.Post(fn)) }
			put := func(at int, items []entry) {
				// The naive way to say what an insert does.
				var fresh []entry
				for _, item := range items {
					same := func(l entry) bool { return l.ID == item.ID }
					if i := slices.IndexFunc(model, same); i >= 0 {
						model[i] = item
					} else if i := slices.IndexFunc(fresh, same); i >= 0 {
						fresh[i] = item
					} else {
						fresh = append(fresh, item)
					}
				}
				if at < 0 || at > len(model) {
					at = len(model)
				}
				model = slices.Insert(model, at, fresh...)
				if limit > 0 && len(model) > limit {
					model = model[:limit]
				}
				if limit < 0 && len(model) > -limit {
					model = model[len(model)+limit:]
				}
			}
			take := func() {
				synctest.Wait()
				if frame := p.conn.TryReceive(); frame != nil {
					want := seen.Load() // nothing is rendered while a frame is on its way
					p.take(frame)
					require.Equal(t, want, p.html())
				}
			}
			take()
			rt.Repeat(map[string]func(*rapid.T){
				"append":  func(rt *rapid.T) { items := some(rt); change(func() { page.Log.Append(items...) }); put(-1, items) },
				"prepend": func(rt *rapid.T) { items := some(rt); change(func() { page.Log.Prepend(items...) }); put(0, items) },
				"insert": func(rt *rapid.T) {
					items, at := some(rt), rapid.IntRange(-1, 9).Draw(rt, "at")
					change(func() { page.Log.Insert(at, items...) })
					put(at, items)
				},
				"update": func(rt *rapid.T) {
					items := some(rt)
					change(func() { page.Log.Update(items...) })
					for _, item := range items {
						if i := slices.IndexFunc(model, func(l entry) bool { return l.ID == item.ID }); i >= 0 {
							model[i] = item
						}
					}
				},
				"delete": func(rt *rapid.T) {
					id := rapid.SampledFrom(strings.Fields("a b c d e f g h")).Draw(rt, "id")
					change(func() { page.Log.Delete("log-" + id) })
					model = slices.DeleteFunc(model, func(l entry) bool { return l.ID == id })
				},
				"limit": func(rt *rapid.T) {
					limit = rapid.IntRange(-5, 5).Draw(rt, "limit")
					l := limit
					change(func() { page.Log.Limit(l) })
				},
				"reset": func(*rapid.T) { change(func() { page.Log.Reset() }); model = nil },
				"hide": func(*rapid.T) {
					if hidden {
						return // what waits for the element is told below
					}
					time.Sleep(pace)
					for range 3 {
						take()
					}
					change(func() { page.Hidden = true })
					time.Sleep(pace)
					take()
					change(func() { page.Hidden = false })
					time.Sleep(pace)
					take()
					model = nil
				},
				"take":  func(*rapid.T) { take() },
				"sleep": func(*rapid.T) { time.Sleep(pace) },
			})
			for range 3 {
				time.Sleep(pace)
				take()
			}
			want := []string{}
			for _, l := range model {
				want = append(want, l.ID+"="+l.Text)
			}
			require.Equal(t, want, lines(p.html()))
			var fresh bytes.Buffer
			done := make(chan error)
			change(func() { done <- screenOf(page).execute(&fresh) })
			require.NoError(t, <-done)
			require.Equal(t, fresh.String(), p.html())
			p.close()
		})
	})
}

// screenOf returns the instance of a connected page.
func screenOf(s *logPage) instance { return s.ctx.session.instance }

func TestAStreamThatIsFilledSendsNoMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int][]int{3: {0, 1, 2}, -3: {7, 8, 9}, 0: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 20: {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}} {
		s := NewStream(&Ctx{session: &session{}}, func(i int) string { return strconv.Itoa(i) })
		s.Limit(limit)
		s.Reset()
		s.Append(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		require.Equal(t, want, s.rows, limit)
		s.Append(10, 11, 12, 13)
		require.Len(t, s.rows, len(want)+4, "what is there now is the browser's to say")
	}
}
