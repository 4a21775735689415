package live

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

// world is what outlives the pages of one test; only the goroutine of the page touches it.
type world struct {
	done  int          // the highest event that was handled
	had   map[int]bool // all of them
	rows  []string
	depth int
	left  int
}

type worldPage struct {
	Page
	W    *world
	Seen int // calls of Params since Mount
	Log  *Stream[entry]
	n    int
}

const worldTemplate = `<i>{{.W.Done}}</i>{{.URL}} {{.Flash "info"}} {{.Seen}}
{{range .W.Rows}}<p id="r{{.}}">{{.}}{{if gt $.W.Depth 1}}<b>{{$.W.Depth}}</b>{{end}}</p>{{end}}
{{if .W.Depth}}<em>{{.W.Depth}}</em>{{else}}none{{end}}
<ul id="log" live-update="stream">{{range .Log.Items}}<li id="log-{{.ID}}">{{.Text}}</li>{{end}}</ul>`

func (w *world) Done() int      { return w.done }
func (w *world) Rows() []string { return w.rows }
func (w *world) Depth() int     { return w.depth }

// TestAPageIsRightWhateverHappens lets a page live: its user clicks, patches and navigates, its funcs change the
// state, post, wait, work and panic, and its connection takes frames whenever it likes, breaks and comes back.
// Each frame must bring the client to what the server has, and each event is acknowledged once, when the page
// shows what it did.
func TestAPageIsRightWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(t *testing.T) {
			site := quietSite(t, &Options{HoldTimeout: 3 * time.Second, MaxPushes: 1000})
			w := &world{rows: strings.Fields("a b c"), had: map[int]bool{}}
			var page *Ctx
			mount := func(ctx *Ctx, s *worldPage) error {
				s.W, s.Log = w, NewStream(ctx, lineID)
				s.Log.Append(texts("x y")...)
				s.Log.Limit(-5)
				if !ctx.Connected() {
					return nil
				}
				page = ctx
				return nil
			}
			params := func(ctx *Ctx, s *worldPage) error {
				s.Seen++
				if ctx.URL().RawQuery == "twice" {
					ctx.Patch("?once")
				}
				return nil
			}
			rows := func(seed int) []string {
				all := strings.Fields("a b c d e f g")
				var l []string
				for i := range seed % 8 {
					if r := all[(seed*7+i*3)%7]; !slices.Contains(l, r) {
						l = append(l, r)
					}
				}
				return l
			}
			newView := func() *View[worldPage] {
				v := &View[worldPage]{Template: parse(worldTemplate), Mount: mount, Params: params}
				v.Leave = func(*worldPage) { w.left++ }
				On(v, "do", func(ctx *Ctx, s *worldPage, in struct {
					ID, Seed int
					What     string
				}) error {
					defer func() { w.done, w.had[in.ID] = max(w.done, in.ID), true }()
					switch in.What {
					case "rows":
						w.rows = rows(in.Seed)
					case "depth":
						w.depth = in.Seed % 3
					case "log":
						s.n++
						s.Log.Append(entry{fmt.Sprint(s.n % 7), fmt.Sprint(in.Seed)})
					case "post":
						for range in.Seed {
							ctx.Post(func() { w.depth++ })
						}
					case "async":
						Async(ctx, "a", func(ctx context.Context) (int, error) {
							time.Sleep(time.Duration(in.Seed) * time.Millisecond)
							return in.Seed, nil
						}, func(n int, _ error) { w.depth = n })
					case "hold":
						at := time.Now().Add(time.Duration(in.Seed) * 100 * time.Millisecond)
						ctx.Hold(func() bool { return !time.Now().Before(at) })
					case "patch":
						ctx.Flash("info", fmt.Sprint(in.Seed))
						ctx.Patch(fmt.Sprint("?", in.Seed))
					case "twice":
						ctx.Patch("?twice")
					case "navigate":
						ctx.Flash("info", fmt.Sprint(in.Seed))
						ctx.Navigate([]string{"/a", "/b"}[in.Seed%2])
					case "panic":
						panic("on purpose")
					case "fail":
						return fmt.Errorf("on purpose")
					}
					return nil
				})
				return v
			}
			Handle(site, "/a", newView())
			Handle(site, "/b", newView())

			p := load(t, site, "/a")
			var seen atomic.Value
			joins := 0
			asked := map[uint64]int{} // what an ack of this ref must show
			gone := map[int]int{}     // by event, the views that the page had gone to when it was sent
			var answered []uint64
			connect := func(rt *rapid.T) {
				conn := wiretest.NewConn(rapid.IntRange(0, 1).Draw(rt, "buffer"))
				p.ref, asked, answered = 0, map[uint64]int{}, nil
				p.connect(conn, &wiretest.Observed{Conn: conn, Seen: func(html []byte) { seen.Store(string(html)) }})
				asked[p.join(joins)] = -1
				joins++
			}
			apply := func(frame []byte) {
				p.acks = nil
				p.take(frame)
				for _, ack := range p.acks {
					id, ok := asked[ack]
					require.True(t, ok, "an ack of nothing: %s", frame)
					require.NotContains(t, answered, ack, "an ack twice")
					answered = append(answered, ack)
					var shown int
					_, err := fmt.Sscanf(p.html(), "<i>%d</i>", &shown)
					require.NoError(t, err)
					if id > 0 && !w.had[id] {
						require.Greater(t, p.gone, gone[id], "an event that was not handled, for the view that is shown")
						continue
					}
					require.GreaterOrEqual(t, shown, id, "an ack before the frame that shows what the event did: %s", frame)
				}
			}
			take := func() bool {
				synctest.Wait()
				select {
				case <-p.conn.Closed():
					return false
				default:
				}
				frame := p.conn.TryReceive()
				if frame == nil {
					return false
				}
				apply(frame)
				return true
			}
			settle := func() {
				for range 100 {
					for take() {
					}
					time.Sleep(100 * time.Millisecond)
				}
				select {
				case <-p.conn.Closed():
					return
				default:
				}
				require.Len(t, answered, len(asked), "events without an answer")
				require.Equal(t, seen.Load(), p.html())
			}
			alive := func() bool {
				select {
				case <-p.conn.Closed():
					return false
				default:
					return true
				}
			}
			id := 0
			connect(rt)
			rt.Repeat(map[string]func(*rapid.T){
				"event": func(rt *rapid.T) {
					synctest.Wait()
					if !alive() {
						return
					}
					id++
					what := rapid.SampledFrom([]string{"rows", "rows", "depth", "log", "log", "post", "async", "hold", "patch", "twice", "navigate", "fail", "panic", "none"}).Draw(rt, "what")
					ref := p.click("do", "id", fmt.Sprint(id), "seed", fmt.Sprint(rapid.IntRange(0, 40).Draw(rt, "seed")), "what", what)
					asked[ref], gone[id] = id, p.gone
				},
				"link": func(rt *rapid.T) {
					synctest.Wait()
					if alive() {
						kind := rapid.SampledFrom([]string{"p", "n"}).Draw(rt, "kind")
						asked[p.say(`%q,%q`, kind, rapid.SampledFrom([]string{"/a", "/b?x", "/a?twice", "/b?twice"}).Draw(rt, "url"))] = -1
					}
				},
				"beat": func(*rapid.T) {
					synctest.Wait()
					if alive() {
						asked[p.say(`"h"`)] = -1
					}
				},
				"unknown": func(*rapid.T) {
					synctest.Wait()
					if alive() {
						asked[p.click("nothing")] = -1
					}
				},
				"post": func(rt *rapid.T) {
					synctest.Wait()
					if page != nil {
						n := rapid.IntRange(0, 3).Draw(rt, "n")
						page.Post(func() { w.depth = n })
					}
				},
				"take":   func(*rapid.T) { take() },
				"sleep":  func(rt *rapid.T) { time.Sleep(time.Duration(rapid.IntRange(1, 400).Draw(rt, "ms")) * time.Millisecond) },
				"settle": func(*rapid.T) { settle() },
				"break": func(rt *rapid.T) {
					if rapid.IntRange(0, 3).Draw(rt, "really") == 0 || !alive() {
						p.close()
						connect(rt)
					}
				},
			})
			settle()
			p.close()
			require.Zero(t, site.Stats().Connected)
		})
	})
}
