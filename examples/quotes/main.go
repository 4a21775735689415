// Command quotes shows how pages are bound to events: a favourite quote, a collection, and what people say about
// them, the same on every screen. See README.md.
package main

import (
	"context"
	"errors"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/internal/program"
	"github.com/levada-go/levada/examples/quotes/shelf"
	"github.com/levada-go/levada/examples/quotes/web"
)

var quotes = program.Program{
	Name:  "quotes",
	About: "Quotes shows a favourite quote that all who look at it see change at once.",
	Addr:  "localhost:8082",
	Keeps: "the events",
	Start: func(_ context.Context, store *eventstore.Store, net *program.Network) (*program.App, error) {
		s, err := shelf.Open(store, nil)
		if err != nil {
			return nil, err
		}
		site, err := web.New(s, &web.Options{Presence: net.Presence, Secret: net.Secret})
		if err != nil {
			return nil, err
		}
		return &program.App{
			Handler: site, Run: s.Run, Shutdown: site.Shutdown,
			Ready: func(ctx context.Context) error { return errors.Join(s.Ready(ctx), s.Seed(ctx)) },
		}, nil
	},
}

func main() { quotes.Main() }
