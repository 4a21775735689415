// Command chat is a chat with live pages: rooms, people, history. See README.md.
package main

import (
	"context"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/chat/web"
	"github.com/levada-go/levada/examples/internal/program"
)

var chat = program.Program{
	Name:  "chat",
	About: "Chat serves a chat with live pages.",
	Addr:  "localhost:8081",
	Keeps: "all that was ever said",
	Start: func(ctx context.Context, store *eventstore.Store, net *program.Network) (*program.App, error) {
		c, err := web.Open(ctx, store, &web.Options{Presence: net.Presence, Secret: net.Secret})
		if err != nil {
			return nil, err
		}
		return &program.App{Handler: c, Run: c.Run, Ready: c.Ready, Shutdown: c.Shutdown}, nil
	},
}

func main() { chat.Main() }
