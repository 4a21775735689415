package shred_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

type Messaged struct{ From, To, Text string }

// Messages are sealed as a whole, with the key of who wrote them. The keys are in a file of their own.
func ExampleOptions() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	keys, err := sqlitestore.OpenKeys(filepath.Join(dir, "keys.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	sealer := shred.New(keys, &shred.Options{
		Subject: func(e *eventstore.Event) string {
			if m, ok := e.Data.(Messaged); ok {
				return m.From
			}
			return ""
		},
	})
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer}})
	defer store.Close()
	store.Types.Register("messaged", Messaged{})
	for _, m := range []Messaged{{"ann", "bob", "hi"}, {"bob", "ann", "oh, hi"}} {
		if _, err := store.Append(ctx, "chat-1", eventstore.Any, eventstore.Event{Data: m}); err != nil {
			log.Fatal(err)
		}
	}
	if err := sealer.Shred(ctx, "ann"); err != nil {
		log.Fatal(err)
	}
	for r, err := range store.ReadStream(ctx, "chat-1", 0) {
		if err != nil {
			log.Fatal(err)
		}
		switch data := r.Data.(type) {
		case eventstore.Erased:
			fmt.Println(r.Version, "a message that was erased")
		case Messaged:
			fmt.Println(r.Version, data.Text)
		}
	}
	// Output:
	// 1 a message that was erased
	// 2 oh, hi
}
