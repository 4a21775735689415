package book_test

import (
	"fmt"

	"github.com/levada-go/levada/examples/exchange/book"
)

func Example() {
	var b book.Book
	var e book.Event // used again for every command
	for _, c := range []book.Command{
		{Op: book.Place, ID: 1, Side: book.Sell, Qty: 100, Price: 1251},
		{Op: book.Place, ID: 2, Side: book.Sell, Qty: 100, Price: 1252},
		{Op: book.Place, ID: 3, Side: book.Buy, Qty: 150, Price: 1251},
		{Op: book.Cancel, ID: 1},
	} {
		b.Decide(c, &e) // the event may be stored here
		b.Apply(&e)
		if err := e.Err(); err != nil {
			fmt.Printf("order %d: %v\n", c.ID, err)
		}
		for _, f := range e.Effects {
			switch f.Kind {
			case book.Trade:
				fmt.Printf("order %d takes %d from order %d at %d\n", f.ID, f.Qty, f.Maker, f.Price)
			default:
				fmt.Printf("order %d: %v %d\n", f.ID, f.Kind, f.Qty)
			}
		}
	}
	bid, _ := b.Best(book.Buy)
	ask, _ := b.Best(book.Sell)
	fmt.Printf("%d for %d, %d for %d\n", bid.Qty, bid.Price, ask.Qty, ask.Price)
	// Output:
	// order 1: rest 100
	// order 2: rest 100
	// order 3 takes 100 from order 1 at 1251
	// order 3: rest 50
	// order 1: unknown order
	// 50 for 1251, 100 for 1252
}
