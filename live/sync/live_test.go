package sync_test

import (
	"cmp"
	"fmt"
	"html/template"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/livetest"
	"github.com/levada-go/levada/live/sync"
)

// house is a page with all kinds of bindings, on the real thing.
type house struct {
	Hall   bool
	Some   []lampRow
	All    []lampRow
	Stream *live.Stream[lampRow]
}

type lampRow struct {
	ID string
	On bool
}

const houseHTML = `<p id="hall">{{.Hall}}</p>
<ul id="some">{{range .Some}}<li id="some-{{.ID}}">{{.ID}} {{.On}}</li>{{end}}</ul>
<ul id="all">{{range .All}}<li id="all-{{.ID}}">{{.ID}} {{.On}}</li>{{end}}</ul>
<ul id="stream" live-update="stream">{{range .Stream.Items}}<li id="stream-{{.ID}}">{{.ID}} {{.On}}</li>{{end}}</ul>
<form id="switch" live-submit="switch"><input name="lamp"><button>Switch</button></form>`

func TestBoundFieldsOfRealPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.Open(nil)
		defer store.Close()
		commands, err := aggregate.New(store, Lamps)
		require.NoError(t, err)
		rows, err := sync.Aggregates(store, Lamps, func(l *Lamp, at sync.At) (lampRow, bool) { return lampRow{at.ID, l.On}, true },
			func(a, b lampRow) int { return cmp.Compare(a.ID, b.ID) })
		require.NoError(t, err)
		view := &live.View[house]{
			Template: template.Must(template.New("house").Parse(houseHTML)),
			Mount: func(ctx *live.Ctx, s *house) error {
				var hall lampRow
				sync.One(ctx, &hall, rows, "hall").OnChange(func() { s.Hall = hall.On })
				sync.Many(ctx, &s.Some, rows, []string{"hall", "attic"})
				sync.All(ctx, &s.All, rows)
				id := func(r lampRow) string { return "stream-" + r.ID }
				s.Stream = live.NewStream(ctx, id)
				sync.Stream(ctx, s.Stream, rows, id)
				return nil
			},
		}
		live.On(view, "switch", func(ctx *live.Ctx, s *house, in struct{ Lamp string }) error {
			_, err := sync.Dispatch(ctx, commands, Switch{in.Lamp})
			return err
		})
		site, err := live.NewSite(&live.Options{Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, err)
		live.Handle(site, "/", view)

		on := map[string]bool{}
		check := func(p *livetest.Page) {
			require.Equal(t, fmt.Sprint(on["hall"]), p.Text("#hall"))
			for _, list := range []string{"all", "stream"} {
				require.Equal(t, len(on), p.Count("#"+list+" li"))
				for id, is := range on {
					require.Equal(t, fmt.Sprint(id, " ", is), p.Text("#"+list+"-"+id))
				}
			}
			for _, id := range []string{"hall", "attic"} {
				if is, ok := on[id]; ok {
					require.Equal(t, fmt.Sprint(id, " ", is), p.Text("#some-"+id))
				}
			}
		}
		all := []*livetest.Page{livetest.Open(t, site, "/"), livetest.Open(t, site, "/"), livetest.Open(t, site, "/")}
		for i, id := range strings.Fields("hall attic cellar hall attic attic kitchen hall bath cellar") {
			pages := all
			switch {
			case i == 4:
				all[2].Disconnect()
				fallthrough
			case i > 4 && i < 7:
				pages = all[:2]
			case i == 7:
				all[2].Reconnect()
				check(all[2])
			}
			on[id] = !on[id]
			p := pages[i%len(pages)]
			p.Submit("#switch", "lamp", id)
			check(p) // who has switched sees it when the event is acknowledged
			for _, p := range pages {
				p.WaitFor(fmt.Sprintf("#stream-%s:contains(%q)", id, fmt.Sprint(on[id])))
				p.WaitFor(fmt.Sprintf("#all-%s:contains(%q)", id, fmt.Sprint(on[id])))
			}
		}
		require.NoError(t, store.Delete(t.Context(), "lamp-bath", eventstore.Any))
		delete(on, "bath")
		for _, p := range all {
			p.WaitUntil(func() bool { return !p.Has("#all-bath") && !p.Has("#stream-bath") })
			check(p)
			p.Close()
		}
	})
}
