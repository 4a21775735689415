package eventstore_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// Renamed has had this shape since 2025; renamedV1 is what was stored before.
type (
	Renamed   struct{ First, Last string }
	renamedV1 struct{ Name string }
)

// Old events are read in the form of today. They stay as they are in the store.
func ExampleUpcastFrom() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("user.renamed.2", Renamed{})
	store.Types.Add(eventstore.UpcastFrom("user.renamed", func(o renamedV1) (r Renamed) {
		fmt.Sscan(o.Name, &r.First, &r.Last)
		return r
	}))

	store.Append(ctx, "user-1", eventstore.Any,
		eventstore.Event{Type: "user.renamed", Raw: []byte(`{"Name":"Ada Byron"}`), ContentType: "application/json"},
		eventstore.Event{Data: Renamed{"Ada", "Lovelace"}})
	for r, err := range store.ReadAll(ctx, eventstore.Filter{Types: []string{"user.renamed.2"}}, 0) {
		fmt.Printf("%+v %s %v\n", r.Data, r.Raw, err)
	}
	// Output:
	// {First:Ada Last:Byron} {"Name":"Ada Byron"} <nil>
	// {First:Ada Last:Lovelace} {"First":"Ada","Last":"Lovelace"} <nil>
}
