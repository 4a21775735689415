package levada_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/natsstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// open is all of a program that knows which engines there are: it links those that it names.
func open(ctx context.Context, url string, o eventstore.Options) (*eventstore.Store, error) {
	switch kind, rest, _ := strings.Cut(url, ":"); kind {
	case "memory":
		return memstore.Open(&memstore.Options{Store: o}), nil
	case "sqlite":
		return sqlitestore.Open(rest, &sqlitestore.Options{Store: o})
	case "postgres":
		return pgstore.OpenURL(ctx, url, &pgstore.Options{Store: o})
	case "nats":
		return natsstore.OpenURL(ctx, url, &natsstore.Options{Store: o})
	default:
		return nil, fmt.Errorf("no store %q", url)
	}
}

// The store is a flag of the program. What a store may lack is asked for when the program starts.
func Example_stores() {
	dir, err := os.MkdirTemp("", "stores")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	for _, url := range []string{"memory:", "sqlite:" + filepath.Join(dir, "events.db")} {
		store, err := open(context.Background(), url, eventstore.Options{})
		if err != nil {
			fmt.Println(err)
			return
		}
		defer store.Close()
		if _, err := store.Tags(); errors.Is(err, eventstore.ErrUnsupported) {
			fmt.Println("no boundaries on this store:", err)
		}
		_, err = sqlitestore.TargetIn(store, sqlitestore.Model{Tables: []string{"names"}, Schema: "CREATE TABLE names(name TEXT PRIMARY KEY)"})
		fmt.Println("a model in the store's file:", !errors.Is(err, eventstore.ErrUnsupported))
	}
	// Output:
	// a model in the store's file: false
	// a model in the store's file: true
}
