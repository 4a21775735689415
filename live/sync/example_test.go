package sync_test

import (
	"context"
	"fmt"
	"html/template"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/sync"
)

// A Lamp is an aggregate.
type Lamp struct{ On bool }

type Switched struct{ On bool }

func (e Switched) Apply(l *Lamp) { l.On = e.On }

type Switch struct{ Lamp string }

func (c Switch) AggregateID() string { return c.Lamp }

func (c Switch) Execute(l Lamp) ([]aggregate.Event[Lamp], error) {
	return []aggregate.Event[Lamp]{Switched{!l.On}}, nil
}

var Lamps = &aggregate.Type[Lamp]{Name: "lamp", Events: aggregate.Events[Lamp]{"lamp.switched": Switched{}}}

// A room is the state of a page: one lamp, the same on all pages.
type room struct{ Lamp Lamp }

// A whole site: a lamp that all who look at it can switch.
func Example() {
	store := memstore.Open(nil)
	defer store.Close()
	commands, err := aggregate.New(store, Lamps)
	if err != nil {
		log.Fatal(err)
	}
	lamps, err := sync.Aggregates(store, Lamps, func(l *Lamp, _ sync.At) (Lamp, bool) { return *l, true }, nil)
	if err != nil {
		log.Fatal(err)
	}

	view := &live.View[room]{
		Template: template.Must(template.New("room").Parse(
			`<p>The lamp is {{if .Lamp.On}}on{{else}}off{{end}}.</p><button live-click="switch">Switch</button>`)),
		Mount: func(ctx *live.Ctx, s *room) error {
			sync.One(ctx, &s.Lamp, lamps, "hall")
			return nil
		},
	}
	live.On(view, "switch", func(ctx *live.Ctx, s *room, _ struct{}) error {
		_, err := sync.Dispatch(ctx, commands, Switch{"hall"})
		return err
	})
	site, err := live.NewSite(nil)
	if err != nil {
		log.Fatal(err)
	}
	live.Handle(site, "/", view)

	for range 2 {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		_, page, _ := strings.Cut(w.Body.String(), "<p>")
		page, _, _ = strings.Cut(page, "</p>")
		fmt.Println(page)
		if _, err := command.Dispatch(context.Background(), commands, Switch{"hall"}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// The lamp is off.
	// The lamp is on.
}
