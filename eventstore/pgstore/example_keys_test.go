package pgstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/internal/postgrestest"
)

// The keys under which personal data is sealed are in a database of their own, from which they can be destroyed.
func ExampleOpenKeys() {
	ctx := context.Background()
	url, drop := postgrestest.ExampleURL() // not the database of the events
	defer drop()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	keys, err := pgstore.OpenKeys(ctx, pool, "")
	if err != nil {
		log.Fatal(err)
	}
	key, err := keys.Make(ctx, "ann")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(key), "bytes")
	if err := keys.Shred(ctx, "ann"); err != nil {
		log.Fatal(err)
	}
	_, err = keys.Find(ctx, "ann")
	fmt.Println(err)
	// Output:
	// 32 bytes
	// pgstore: keys: eventstore: erased
}
