package orderbook_test

import (
	"context"
	"fmt"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook"
)

func Example() {
	ctx := context.Background()
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Codecs: []eventstore.Codec{orderbook.Codec}}})
	defer store.Close()
	books, err := aggregate.New(store, orderbook.Books)
	if err != nil {
		panic(err)
	}

	// Ann (1) offers, Bob (2) takes some of it.
	for _, c := range []aggregate.Command[orderbook.Book]{
		orderbook.Place{Symbol: "BTC-USD", ID: 10, Owner: 1, Side: book.Sell, Qty: 5, Price: 64_000},
		orderbook.Place{Symbol: "BTC-USD", ID: 11, Owner: 2, Side: book.Buy, Type: book.Market, Qty: 3},
	} {
		if _, err := books.Execute(ctx, c); err != nil {
			panic(err)
		}
	}
	for r, err := range store.ReadStream(ctx, "book-BTC-USD", 0) {
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d %s %s\n", r.Version, r.Type, r.Raw)
	}
	err = books.View(ctx, "BTC-USD", func(b *orderbook.Book, _ eventstore.Version) {
		ask, _ := b.Live().Best(book.Sell)
		fmt.Printf("%d lots are left at %d\n", ask.Qty, ask.Price)
	})
	if err != nil {
		panic(err)
	}
	// Output:
	// 1 book.decided {"op":"new","id":10,"owner":1,"side":"sell","qty":5,"price":64000,"effects":[["rest","sell",10,1,64000,5]]}
	// 2 book.decided {"op":"new","id":11,"owner":2,"side":"buy","type":"market","qty":3,"effects":[["trade","buy",11,2,64000,3,10,1,2],["fill","buy",11,2,0,0]]}
	// 2 lots are left at 64000
}
