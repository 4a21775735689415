package web

import (
	"context"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/internal/program"
)

// Program is the chat as a command. Processes that have one NATS store see each other's people; on any other store that
// several may have, they are one chat in which each shows its own.
var Program = program.Program{
	Name:  "chat",
	About: "Chat serves a chat with live pages.",
	Addr:  "localhost:8081",
	Keeps: "all that was ever said",
	Start: func(ctx context.Context, store *eventstore.Store, net *program.Network) (*program.App, error) {
		c, err := Open(ctx, store, &Options{Presence: net.Presence, Secret: net.Secret})
		if err != nil {
			return nil, err
		}
		return &program.App{Handler: c, Run: c.Run, Ready: c.Ready, Shutdown: c.Shutdown}, nil
	},
}
