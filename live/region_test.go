package live

import (
	"fmt"
	"iter"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/live/internal/wire"
	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

type board struct {
	Region Shown
	ctx    *Ctx
	N      int
}

const bookTemplate = `{{range .}}<p id="{{.}}">{{.}}{{if eq . "deep"}}<b>{{.}}</b>{{end}}</p>{{else}}none{{end}}`

// newBook returns a region and a site with a view that shows it.
func newBook(t testing.TB, interval time.Duration) (*Region[[]string], *Site) {
	t.Helper()
	r, err := NewRegion[[]string]("book", parse(bookTemplate), interval)
	require.NoError(t, err)
	site := quietSite(t, nil)
	v := &View[board]{Template: parse(`<main>{{.N}}{{.Region.HTML}}</main>`)}
	v.Mount = func(ctx *Ctx, s *board) error {
		s.Region, s.ctx = r.Show(ctx), ctx
		return nil
	}
	On(v, "hide", func(ctx *Ctx, s *board, _ struct{}) error { ctx.Hide(s.Region); ctx.Hide(s.Region); return nil })
	On(v, "show", func(ctx *Ctx, s *board, _ struct{}) error { s.Region = r.Show(ctx); s.Region = r.Show(ctx); return nil })
	On(v, "add", func(_ *Ctx, s *board, _ struct{}) error { s.N++; return nil })
	Handle(site, "/", v)
	return r, site
}

func (p *tab) region(name string) string {
	if r := p.regions[name]; r != nil {
		return r.client.HTML()
	}
	return "-"
}

func TestNewRegionRefuses(t *testing.T) {
	t.Parallel()
	for name, region := range map[string]string{"": "x", strings.Repeat("x", wire.MaxName+1): "x", "broken": `<a href="{{if .}}">{{end}}`} {
		_, err := NewRegion[int](name, parse(region), 0)
		require.Error(t, err)
	}
}

func TestARegionIsTheSameFrameForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		a := join(t, site, "/")
		require.Equal(t, `<main>0<div id="region-book" live-region="book"></div></main>`, a.html())
		require.Equal(t, "-", a.region("book"), "before the first Set it is empty")
		book.Set(10, []string{"a", "b"})
		a.drain()
		require.Equal(t, `<p id="a">a</p><p id="b">b</p>`, a.region("book"))
		b := join(t, site, "/")
		require.Equal(t, a.region("book"), b.region("book"))
		mounts := a.mounts
		book.Set(11, []string{"b", "c", "deep"})
		a.drain()
		b.drain()
		require.Equal(t, `<p id="b">b</p><p id="c">c</p><p id="deep">deep<b>deep</b></p>`, a.region("book"))
		require.Equal(t, a.last, b.last)
		require.Contains(t, a.last, `["g","book",1,2,`)
		require.Equal(t, mounts, a.mounts)
		// Who comes now knows the texts of all bodies that may come again.
		book.Set(12, []string{"x"})
		c := join(t, site, "/")
		book.Set(13, []string{"x", "deep"})
		for _, p := range []*tab{a, b, c} {
			p.drain()
			require.Equal(t, `<p id="x">x</p><p id="deep">deep<b>deep</b></p>`, p.region("book"))
			p.close()
		}
		require.Empty(t, book.followers)
	})
}

// sharing remembers the shared frames that it was given.
type sharing struct {
	*wiretest.Conn
	got []*wire.Shared
}

func (s *sharing) WriteShared(frame *wire.Shared) error {
	s.got = append(s.got, frame)
	return s.Conn.WriteShared(frame)
}

func TestAFrameOfARegionIsMadeOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		come := func() *sharing {
			p := load(t, site, "/")
			s := &sharing{Conn: wiretest.NewConn(9)}
			p.connect(s.Conn, s)
			p.join(0)
			synctest.Wait()
			return s
		}
		book.Set(1, []string{"a"})
		synctest.Wait()
		book.Set(2, []string{"b"})
		synctest.Wait()
		a, b := come(), come()
		require.Len(t, a.got, 1, "the whole")
		require.Same(t, a.got[0], b.got[0])
		book.Set(3, []string{"c"})
		synctest.Wait()
		require.Len(t, a.got, 2, "what changed")
		require.Same(t, a.got[1], b.got[1])
		c := come()
		require.NotSame(t, a.got[0], c.got[0], "the whole of another version")
		for _, s := range []*sharing{a, b, c} {
			s.Close(1000, "")
		}
	})
}

func TestARegionOverHTTPHasItsContent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, time.Hour)
		get := func() string {
			w := httptest.NewRecorder()
			site.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			return w.Body.String()
		}
		require.Contains(t, get(), `<div id="region-book" live-region="book"></div>`)
		book.Set(1, []string{"<x>"})
		book.Set(2, []string{"<y>"})
		require.Contains(t, get(), `<div id="region-book" live-region="book"><p id="&lt;y&gt;">&lt;y&gt;</p></div>`)
		book.Close()
	})
}

func TestVersionsOfARegionMustRise(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		p := join(t, site, "/")
		for _, set := range []struct {
			version uint64
			show    string
			want    string
		}{{0, "a", "a"}, {0, "b", "a"}, {7, "c", "c"}, {6, "d", "c"}, {7, "e", "c"}, {8, "f", "f"}} {
			book.Set(set.version, []string{set.show})
			p.drain()
			require.Contains(t, p.region("book"), set.want)
		}
		book.Close()
		book.Close()
		book.Set(9, []string{"g"})
		p.drain()
		require.Contains(t, p.region("book"), "f", "pages keep what they show")
		p.close()
	})
}

func TestARegionIsSentAtItsInterval(t *testing.T) {
	t.Parallel()
	for interval, want := range map[time.Duration]int{0: 20, 100 * time.Millisecond: 10, -1: 1000} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				book, site := newBook(t, interval)
				p := join(t, site, "/")
				frames := 0
				for i := range 1000 {
					book.Set(uint64(i), []string{fmt.Sprint(i)})
					time.Sleep(time.Millisecond)
					synctest.Wait()
					for frame := p.conn.TryReceive(); frame != nil; frame = p.conn.TryReceive() {
						p.take(frame)
						frames++
					}
				}
				require.InDelta(t, want, frames, 1)
				time.Sleep(time.Second)
				p.drain()
				require.Equal(t, `<p id="999">999</p>`, p.region("book"), "the newest is shown in the end")
				p.close()
			})
		})
	}
}

func TestASlowPageDoesNotHoldUpARegion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		fast := join(t, site, "/")
		slow := slow(t, site)
		set := func(from, to int) {
			for i := from; i <= to; i++ {
				book.Set(uint64(i), []string{"x", fmt.Sprint(i)})
				fast.drain()
				require.Contains(t, fast.region("book"), fmt.Sprint(i))
			}
		}
		set(1, maxRecent)
		frames := func() (n int) {
			for {
				synctest.Wait()
				frame := slow.conn.TryReceive()
				if frame == nil {
					return n
				}
				slow.take(frame)
				n++
			}
		}
		require.Equal(t, maxRecent, frames(), "the first on its way, and those it missed")
		require.Equal(t, fast.region("book"), slow.region("book"))
		set(100, 100)
		set(101, 200)
		require.Equal(t, 2, frames(), "the one on its way, and the whole")
		require.Contains(t, slow.last, `["g","book",0,`)
		require.Equal(t, fast.region("book"), slow.region("book"))
		set(201, 201)
		require.Equal(t, 1, frames())
		require.Equal(t, fast.region("book"), slow.region("book"))
		fast.close()
		slow.close()
	})
}

func TestAPageMayAskForTheWholeRegion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		book.Set(1, []string{"a"})
		p := join(t, site, "/")
		book.Set(2, []string{"b"})
		p.drain()
		p.regions = map[string]*regionCopy{}
		last := p.last
		p.say(`"g","other"`)
		p.drain()
		require.Equal(t, last, p.last, "only regions that the page shows are answered")
		p.say(`"g","book"`)
		p.drain()
		require.Contains(t, p.last, `["g","book",0,2,`)
		require.Equal(t, `<p id="b">b</p>`, p.region("book"))
		require.Equal(t, []uint64{1}, p.acks)
		p.close()
	})
}

func TestAPageMayHideARegion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		p := join(t, site, "/")
		p.click("hide")
		p.drain()
		require.Empty(t, book.followers)
		book.Set(1, []string{"a"})
		p.drain()
		require.Equal(t, "-", p.region("book"))
		p.click("show")
		p.drain()
		require.Equal(t, `<p id="a">a</p>`, p.region("book"))
		require.Len(t, book.followers, 1)
		p.say(`"n","/?again"`)
		p.drain()
		require.Len(t, book.followers, 1)
		book.Set(2, []string{"b"})
		p.drain()
		require.Equal(t, `<p id="b">b</p>`, p.region("book"))
		p.close()
	})
}

func TestARegionComesAfterTheFrameThatHasItsElement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, site := newBook(t, -1)
		book.Set(1, []string{"a"})
		p := open(t, site, "/", 9)
		p.join(0)
		synctest.Wait()
		require.Contains(t, string(p.conn.TryReceive()), `["j",1,`)
		require.Contains(t, string(p.conn.TryReceive()), `["g","book",0,1,`)
		p.close()
	})
}

func TestATemplateThatFailsLeavesTheRegionAsItWas(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, err := NewRegion[[]int]("r", parse(`{{index . 1}}`), -1)
		require.NoError(t, err)
		site := quietSite(t, nil)
		Handle(site, "/", &View[board]{Template: parse(`{{.Region.HTML}}`), Mount: func(ctx *Ctx, s *board) error {
			s.Region = r.Show(ctx)
			return nil
		}})
		p := join(t, site, "/")
		r.Set(1, []int{1, 2})
		p.drain()
		r.Set(2, []int{1})
		p.drain()
		require.Equal(t, "2", p.region("r"))
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		require.Contains(t, w.Body.String(), `live-region="r">2</div>`)
		q := join(t, site, "/")
		require.Equal(t, "2", q.region("r"))
		r.Set(3, []int{1, 3})
		for _, p := range []*tab{p, q} {
			p.drain()
			require.Equal(t, "3", p.region("r"))
			p.close()
		}
	})
}

// TestAllPagesSeeTheRegionWhateverTheirSpeed lets pages of any speed come and go while a region changes, and holds
// what they see in the end to the data.
func TestAllPagesSeeTheRegionWhateverTheirSpeed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			book, site := newBook(t, rapid.SampledFrom([]time.Duration{-1, 0, 10 * time.Millisecond}).Draw(rt, "interval"))
			var pages []*tab
			version := uint64(0)
			var want []string
			rt.Repeat(map[string]func(*rapid.T){
				"set": func(rt *rapid.T) {
					version++
					want = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "deep", "e"}), 0, 4, rapid.ID[string]).Draw(rt, "data")
					book.Set(version, want)
				},
				"come": func(rt *rapid.T) {
					p := open(t, site, "/", rapid.IntRange(0, 3).Draw(rt, "buffer"))
					p.join(0)
					pages = append(pages, p)
				},
				"take": func(rt *rapid.T) {
					synctest.Wait()
					for _, p := range pages {
						if rapid.Bool().Draw(rt, "reads") {
							if frame := p.conn.TryReceive(); frame != nil {
								p.take(frame)
							}
						}
					}
				},
				"click": func(rt *rapid.T) {
					for _, p := range pages {
						p.click(rapid.SampledFrom([]string{"add", "show"}).Draw(rt, "event"))
					}
				},
				"sleep": func(rt *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(1, 60).Draw(rt, "ms")) * time.Millisecond) },
			})
			time.Sleep(time.Second)
			for _, p := range pages {
				p.drain()
				time.Sleep(pace)
				p.drain()
				if version > 0 {
					var b strings.Builder
					require.NoError(t, parse(bookTemplate).Execute(&b, want))
					require.Equal(t, b.String(), p.region("book"))
				}
				p.close()
			}
			require.Empty(t, book.followers)
		})
	})
}

type loud struct{ N int }

func (l loud) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		if l.N == 2 {
			panic("boom")
		}
		yield(l.N)
	}
}

func TestAPanicInTheDataOfARegionIsNoPanicOfTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, err := NewRegion[loud]("r", parse(`{{range .All}}{{.}}{{end}}`), -1)
		require.NoError(t, err)
		site := quietSite(t, nil)
		Handle(site, "/", &View[board]{Template: parse(`{{.Region.HTML}}`), Mount: func(ctx *Ctx, s *board) error {
			s.Region = r.Show(ctx)
			return nil
		}})
		for i, want := range []string{"1", "1", "3"} {
			r.Set(uint64(i), loud{i + 1})
			p := join(t, site, "/")
			require.Equal(t, want, p.region("r"))
			p.close()
		}
	})
}

func TestManyMaySetAndShowARegion(t *testing.T) {
	t.Parallel()
	book, site := newBook(t, -1)
	var wait sync.WaitGroup
	for i := range 4 {
		wait.Go(func() {
			for v := range 50 {
				book.Set(uint64(v*4+i), []string{fmt.Sprint(v*4 + i)})
			}
		})
		wait.Go(func() {
			p := load(t, site, "/")
			p.connect(wiretest.NewConn(1), nil)
			p.join(0)
			for range 3 {
				frame, err := p.conn.Receive()
				require.NoError(t, err)
				p.take(frame)
				if strings.Contains(p.region("book"), "199") {
					break
				}
			}
			p.close()
		})
	}
	wait.Wait()
	book.Close()
}
