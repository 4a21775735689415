package pgstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/internal/postgrestest"
)

// A Posted is an event of a chat room.
type Posted struct {
	By   string `json:"by"`
	Text string `json:"text"`
}

// Two processes write to one store, and anybody can read it with SQL.
func Example() {
	url, drop := postgrestest.ExampleURL() // "postgres://app:secret@db/app"
	defer drop()
	ctx := context.Background()

	open := func() *eventstore.Store {
		store, err := pgstore.OpenURL(ctx, url, nil)
		if err != nil {
			log.Fatal(err)
		}
		if err := store.Types.Register("room.posted", Posted{}); err != nil {
			log.Fatal(err)
		}
		return store
	}
	here, there := open(), open()
	defer here.Close()
	defer there.Close()

	for i, p := range []Posted{{"ann", "hello"}, {"bob", "hi ann"}, {"ann", "bye"}} {
		store := []*eventstore.Store{here, there}[i%2]
		if _, err := store.Append(ctx, "room-lobby", eventstore.Any, eventstore.Event{Data: p}); err != nil {
			log.Fatal(err)
		}
	}

	var at pgstore.Place
	here.As(&at)
	rows, err := at.Pool.Query(ctx, `SELECT data ->> 'by', count(*) FROM levada.event_log WHERE type = 'room.posted' GROUP BY 1 ORDER BY 1`)
	if err != nil {
		log.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var by string
		var n int
		if err := rows.Scan(&by, &n); err != nil {
			log.Fatal(err)
		}
		fmt.Println(by, "posted", n)
	}
	if err := rows.Err(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// ann posted 2
	// bob posted 1
}
