package router_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/router"
)

// A Lamp is on or off.
type Lamp struct{ On bool }

// Lit is what happens to it.
type Lit struct{}

func (Lit) Apply(l *Lamp) { l.On = true }

// Light lights a lamp.
type Light struct{ Lamp string }

func (c Light) AggregateID() string { return c.Lamp }

func (c Light) Execute(l Lamp) ([]aggregate.Event[Lamp], error) {
	if l.On {
		return nil, nil
	}
	return []aggregate.Event[Lamp]{Lit{}}, nil
}

// Greet is a command that no aggregate executes.
type Greet struct{ Name string }

func (c Greet) AggregateID() string { return c.Name }

// Commands that arrive as bytes find their types by name and their handlers by type.
func Example() {
	lamps, err := aggregate.New(memstore.Open(nil), &aggregate.Type[Lamp]{
		Name: "lamp", Events: aggregate.Events[Lamp]{"lamp.lit": Lit{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	var r router.Router
	r.Handle(lamps, router.Func(func(_ context.Context, c Greet, _ *command.Envelope) (command.Result, error) {
		fmt.Println("hello,", c.Name)
		return command.Result{}, nil
	}))
	var names router.Names
	if err := errors.Join(names.Register("light", Light{}), names.Register("greet", Greet{}), r.Check(names.Commands()...)); err != nil {
		log.Fatal(err)
	}

	for _, m := range []struct{ name, body string }{
		{"light", `{"Lamp":"porch"}`},
		{"greet", `{"Name":"ann"}`},
		{"light", `{"Lamp":"porch","Colour":"red"}`},
		{"dance", `{}`},
	} {
		c, err := names.Decode(m.name, []byte(m.body))
		if err != nil {
			fmt.Println(err)
			continue
		}
		res, err := command.Dispatch(context.Background(), &r, c)
		if err != nil {
			log.Fatal(err)
		}
		if len(res.Events) > 0 {
			fmt.Println(res.Stream, res.Version)
		}
	}
	// Output:
	// lamp-porch 1
	// hello, ann
	// router: malformed command: light: json: unknown field "Colour"
	// router: command: no handler: no command is named "dance"
}
