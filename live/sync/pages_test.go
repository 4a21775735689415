package sync_test

import (
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"regexp"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/internal/wire"
	"github.com/levada-go/levada/live/sync"
)

// A wireless connection joins, and then counts the frames it is sent.
type wireless struct {
	join   []byte
	said   bool
	closed chan struct{}
	frames *atomic.Int64
}

func (c *wireless) Read() ([]byte, error) {
	if !c.said {
		c.said = true
		return c.join, nil
	}
	<-c.closed
	return nil, errors.New("closed")
}

func (c *wireless) Write([]byte) error             { c.frames.Add(1); return nil }
func (c *wireless) WriteShared(*wire.Shared) error { c.frames.Add(1); return nil }

func (c *wireless) Close(int, string) {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
}

var tokenOf = regexp.MustCompile(`data-token="([^"]+)"`)

// One command, until the frames that show it have been written to so many real pages, rendering and comparing included.
func BenchmarkPages(b *testing.B) {
	for _, pages := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(pages), func(b *testing.B) {
			store := memstore.Open(nil)
			defer store.Close()
			commands, err := aggregate.New(store, Lamps)
			require.NoError(b, err)
			lamps, err := sync.Aggregates(store, Lamps, func(l *Lamp, _ sync.At) (Lamp, bool) { return *l, true }, nil)
			require.NoError(b, err)
			view := &live.View[room]{
				Template: template.Must(template.New("room").Parse(`<p>The lamp is {{if .Lamp.On}}on{{else}}off{{end}}.</p>`)),
				Mount: func(ctx *live.Ctx, s *room) error {
					return sync.One(ctx, &s.Lamp, lamps, "hall").Err()
				},
			}
			site, err := live.NewSite(nil)
			require.NoError(b, err)
			live.Handle(site, "/", view)
			w := httptest.NewRecorder()
			site.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://lamp.test/", nil))
			token := tokenOf.FindStringSubmatch(w.Body.String())[1]
			cookie := w.Result().Cookies()[0]

			var frames, ended atomic.Int64
			wait := func(n int64) {
				for frames.Load() < n {
					time.Sleep(20 * time.Microsecond)
				}
			}
			conns := make([]*wireless, pages)
			for i := range conns {
				conns[i] = &wireless{closed: make(chan struct{}), frames: &frames,
					join: fmt.Appendf(nil, `[1,"j",{"t":%q,"u":"http://lamp.test/","p":{},"n":0}]`, token)}
				r := httptest.NewRequest(http.MethodGet, "http://lamp.test/_live/socket", nil)
				r.AddCookie(cookie)
				go func() {
					site.Connect(conns[i], r)
					ended.Add(1)
				}()
			}
			wait(int64(pages))
			time.Sleep(50 * time.Millisecond)
			frames.Store(0)
			n := 0
			for b.Loop() {
				n++
				_, err := command.Dispatch(b.Context(), commands, Switch{"hall"})
				require.NoError(b, err)
				wait(int64(n * pages))
			}
			for _, c := range conns {
				c.Close(0, "")
			}
			for ended.Load() < int64(pages) {
				time.Sleep(time.Millisecond)
			}
		})
	}
}
