package match_test

import (
	"context"
	"os"
	"strings"

	"github.com/levada-go/levada/examples/exchange/match"
)

func Example() {
	orders := `{"op":"new","id":1,"side":"sell","qty":100,"price":1251}
{"op":"new","id":"x","side":"buy","type":"market","qty":40}
{"op":"cancel","id":2}
`
	// As "exchange match -store memory: < orders" does.
	match.Main(context.Background(), []string{"-store", "memory:"}, strings.NewReader(orders), os.Stdout, os.Stderr)
	// Output:
	// {"order":{"line":1,"id":1,"status":"open"}}
	// {"trade":{"maker":1,"taker":"x","price":1251,"qty":40}}
	// {"order":{"line":2,"id":"x","status":"filled"}}
	// {"order":{"line":3,"id":2,"status":"rejected","reason":"unknown order"}}
	// {"book":{"bids":[],"asks":[{"price":1251,"qty":60,"orders":[{"id":1,"qty":60}]}]}}
}
