package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A Page of a wiki.
type Page struct{ Text string }

// Edited is what happens to it.
type Edited struct{ Text string }

func (e Edited) Apply(p *Page) { p.Text = e.Text }

// Edit replaces a page's text.
type Edit struct{ Title, Text string }

func (c Edit) AggregateID() string { return c.Title }

func (c Edit) Execute(Page) ([]aggregate.Event[Page], error) {
	return []aggregate.Event[Page]{Edited{c.Text}}, nil
}

// Two people edit the page that they have read. The second one must not undo what
// the first one wrote without having seen it.
func Example_at() {
	ctx := context.Background()
	pages, err := aggregate.New(memstore.Open(nil), &aggregate.Type[Page]{
		Name:   "page",
		Events: aggregate.Events[Page]{"page.edited": Edited{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	read, err := pages.Execute(ctx, Edit{"levada", "A channel."})
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"A water channel.", "A channel in Madeira."} {
		_, err := pages.Execute(ctx, Edit{"levada", text}, command.At(eventstore.Exactly(read.Version)))
		if conflict, ok := errors.AsType[*eventstore.ConflictError](err); ok {
			fmt.Println("edited meanwhile: version", conflict.Actual)
		} else if err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// edited meanwhile: version 2
}
