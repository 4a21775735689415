package esdbdev_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
)

// An official client appends to, and reads from, a store in memory.
func Example() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	server, err := esdbdev.New(store, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Start("127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	config, err := esdb.ParseConnectionString(server.URL())
	if err != nil {
		log.Fatal(err)
	}
	client, err := esdb.NewClient(config)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	result, err := client.AppendToStream(ctx, "order-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}},
		esdb.EventData{EventType: "placed", ContentType: esdb.ContentTypeJson, Data: []byte(`{"total":7}`)},
		esdb.EventData{EventType: "shipped", ContentType: esdb.ContentTypeJson, Data: []byte(`{}`)})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("at revision", result.NextExpectedVersion)

	stream, err := client.ReadStream(ctx, "order-1", esdb.ReadStreamOptions{}, 10)
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	for {
		e, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(e.Event.EventNumber, e.Event.EventType, string(e.Event.Data))
	}
	// Output:
	// at revision 1
	// 0 placed {"total":7}
	// 1 shipped {}
}

// A server that loses the answer to an append: the client makes it again.
func ExampleServer_Inject() {
	ctx := context.Background()
	store := memstore.Open(nil)
	defer store.Close()
	server, err := esdbdev.New(store, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Start("127.0.0.1:0"); err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	config, err := esdb.ParseConnectionString(server.URL())
	if err != nil {
		log.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Times: 1, When: esdbdev.AfterCommit})
	placed := esdb.EventData{EventID: [16]byte{1}, EventType: "placed", ContentType: esdb.ContentTypeJson, Data: []byte(`{}`)}
	for {
		result, err := client.AppendToStream(ctx, "order-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, placed)
		if err == nil {
			fmt.Println("at revision", result.NextExpectedVersion)
			break
		}
		fmt.Println("no answer")
	}
	// Output:
	// no answer
	// at revision 0
}
