package livetest_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/live/livetest"
)

// inRapid is a testing.TB whose failures are those of a rapid check, so that they shrink.
type inRapid struct {
	testing.TB
	t *rapid.T
}

func (r inRapid) Helper()                           {}
func (r inRapid) Cleanup(f func())                  { r.t.Cleanup(f) }
func (r inRapid) Fatalf(format string, args ...any) { r.t.Fatalf(format, args...) }
func (r inRapid) Errorf(format string, args ...any) { r.t.Errorf(format, args...) }

// Whatever two people do on pages with lists, streams, regions and forms, each page is after each frame what a fresh
// rendering is: livetest itself would fail otherwise.
func TestPagesStayWhatAFreshRenderingIs(t *testing.T) {
	t.Parallel()
	// A bubble knows no deadline, which rapid would ask a *testing.T for.
	synctest.Test(t, func(t *testing.T) { rapid.Check(struct{ testing.TB }{t}, twoPeople(t)) })
}

func twoPeople(t *testing.T) func(*rapid.T) {
	return func(rt *rapid.T) {
		tb := inRapid{t, rt}
		site, w := newSite(tb, nil)
		pages := []*livetest.Page{livetest.Open(tb, site, "/boards/a"), livetest.Open(tb, site, "/boards/b")}
		var page *livetest.Page
		atBoard := func() {
			if !page.Has("#post") {
				rt.Skip("another view")
			}
		}
		version := uint64(0)
		drafts := map[*livetest.Page]string{}
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) {
				page = pages[rapid.IntRange(0, 1).Draw(rt, "page")]
				if draft, ok := drafts[page]; ok && page.Has("#post") {
					require.Equal(rt, draft, page.Value("[name=text]"))
				}
			},
			"add": func(*rapid.T) { atBoard(); page.Click("#inc") },
			"fill": func(rt *rapid.T) {
				atBoard()
				drafts[page] = rapid.StringMatching(`[a-c<&"' ]{0,5}`).Draw(rt, "text")
				page.Fill("#post", "text", drafts[page], "colour", rapid.SampledFrom([]string{"red", "green"}).Draw(rt, "colour"))
			},
			"send": func(rt *rapid.T) {
				atBoard()
				text := rapid.StringMatching(`[a-c<&"' ]{1,5}`).Draw(rt, "text")
				n := page.Count("#posts li")
				page.Submit("#post", "text", text)
				require.Equal(rt, n+1, page.Count("#posts li"))
				drafts[page] = page.Value("[name=text]")
			},
			"box":  func(*rapid.T) { atBoard(); page.Click("#loud") },
			"menu": func(*rapid.T) { atBoard(); page.Click("#menu") },
			"tab":  func(*rapid.T) { atBoard(); page.Click("#tab-b") },
			"push": func(*rapid.T) { atBoard(); page.Click("#tick") },
			"region": func(rt *rapid.T) {
				version++
				w.tape.Set(version, rapid.SliceOfNDistinct(rapid.IntRange(0, 9), 0, 5, rapid.ID).Draw(rt, "tape"))
			},
			"look": func(rt *rapid.T) {
				atBoard()
				last := fmt.Sprint(w.now())
				page.WaitUntil(func() bool { return page.Text("#count") == last })
			},
			"reconnect": func(*rapid.T) { page.Reconnect() },
			"reload":    func(*rapid.T) { page.Reload(); delete(drafts, page) },
			"away and back": func(*rapid.T) {
				if page.Has("#post") {
					page.Click("#other")
				} else {
					page.Click("#back")
				}
				delete(drafts, page)
			},
		})
	}
}
