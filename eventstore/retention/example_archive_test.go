package retention_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/retention"
)

// An old year's ledger goes into a file and out of the store, once the report has seen it.
func Example() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("noted", Noted{})
	if _, err := store.Append(ctx, "ledger-2019", eventstore.NoStream, eventstore.Event{Data: Noted{"opened"}}, eventstore.Event{Data: Noted{"closed"}}); err != nil {
		fmt.Println(err)
	}
	report := at{"report": 1}
	keeper := &retention.Keeper{Store: store, Readers: []retention.Reader{report}}

	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "ledger-2019.jsonl")
	fmt.Println(retention.ArchiveFile(ctx, store, "ledger-2019", file))
	fmt.Println(keeper.Purge(ctx, "ledger-2019"))
	report["report"] = 2
	fmt.Println(keeper.Purge(ctx, "ledger-2019"))
	// Output:
	// 2 <nil>
	// retention: ledger-2019: report is at position 1 and has yet to see what is at 2
	// <nil>
}

// What was archived comes back into a stream that is not there.
func ExampleRestore() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("noted", Noted{})
	if _, err := store.Append(ctx, "ledger-2019", eventstore.NoStream, eventstore.Event{Data: Noted{"opened"}}, eventstore.Event{Data: Noted{"closed"}}); err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ledger-2019.jsonl")
	if _, err := retention.ArchiveFile(ctx, store, "ledger-2019", path); err != nil {
		log.Fatal(err)
	}
	if err := store.Delete(ctx, "ledger-2019", eventstore.Exactly(2)); err != nil { // it may come back
		log.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	at, err := retention.Restore(ctx, store, "ledger-2019", file)
	fmt.Println("up to version", at.Version, err)
	for r, err := range store.ReadStream(ctx, "ledger-2019", 0) {
		fmt.Println(r.Version, r.Data.(Noted).Text, err)
	}
	// Output:
	// up to version 4 <nil>
	// 3 opened <nil>
	// 4 closed <nil>
}
