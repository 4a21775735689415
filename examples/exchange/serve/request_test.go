package serve

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/exchange/book"
)

// badFrames are refused, each with a word that says why.
var badFrames = map[string]string{
	``:                                      "not a JSON object",
	`null`:                                  "not a JSON object",
	`[]`:                                    "not a JSON object",
	`"op"`:                                  "not a JSON object",
	`{`:                                     "not a JSON object",
	`{"op"`:                                 "not a JSON object",
	`{"op":"ping"`:                          "not a JSON object",
	`{"op":"ping",}`:                        "not a JSON object",
	`{"op":"ping"}}`:                        "more than one",
	`{"op":"ping"} {"op":"ping"}`:           "more than one",
	`{op:"ping"}`:                           "not a JSON object",
	`{}`:                                    `no "op"`,
	`{"id":1}`:                              `no "op"`,
	`{"op":""}`:                             "not a text",
	`{"op":"PING"}`:                         "unknown op",
	`{"op":"ping","op":"ping"}`:             "twice",
	`{"Op":"ping"}`:                         "unknown field",
	`{"op":1}`:                              "not a text",
	`{"op":null}`:                           "not a text",
	`{"op":{"a":1}}`:                        "not a text",
	`{"op":"ping","id":0}`:                  "the id",
	`{"op":"ping","id":-1}`:                 "the id",
	`{"op":"ping","id":1.5}`:                "the id",
	`{"op":"ping","id":"1"}`:                "the id",
	`{"op":"ping","id":9007199254740992}`:   "the id",
	`{"op":"ping","id":null}`:               "the id",
	`{"op":"ping","id":[1]}`:                "the id",
	`{"op":"ping","symbol":"BTC-USD"}`:      "has no field",
	`{"op":"subscribe","symbol":"BTC-USD"}`: `needs the field "channel"`,
	`{"op":"subscribe","channel":"book","symbol":""}`:                                 "not a text",
	`{"op":"subscribe","channel":["book"],"symbol":1}`:                                "not a text",
	`{"op":"place","symbol":"BTC-USD","side":"buy"}`:                                  `needs the field "quantity"`,
	`{"op":"place","symbol":"BTC-USD","side":"buy","quantity":1}`:                     "not a text",
	`{"op":"place","symbol":"BTC-USD","side":"buy","quantity":"1","post_only":"yes"}`: "true or false",
	`{"op":"place","symbol":"BTC-USD","side":"buy","quantity":"1","owner":"7"}`:       "unknown field",
	`{"op":"cancel","symbol":"BTC-USD","order":"1","quantity":"1"}`:                   "has no field",
	"{\"op\":\"\xff\"}":       "UTF-8",
	"\x00":                    "not a JSON object",
	strings.Repeat("[", 4000): "not a JSON object",
}

func TestFramesThatMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	for frame, why := range badFrames {
		_, err := decodeFrame([]byte(frame))
		require.ErrorContains(t, err, why, "%.80s", frame)
	}
}

func TestARefusedFrameIsStillKnownByItsID(t *testing.T) {
	t.Parallel()
	r, err := decodeFrame([]byte(`{"id":7,"op":"place","side":4}`))
	require.Error(t, err)
	require.EqualValues(t, 7, r.id)
	require.Equal(t, "place", r.op)
}

func TestOrdersAreReadAsTheyAreMeant(t *testing.T) {
	t.Parallel()
	s := &Symbols()[0]
	r, err := decodeFrame([]byte(` {"op":"place","id":3,"symbol":"BTC-USD","side":"sell","type":"stop_limit","tif":"ioc",
		"stp":"decrement","quantity":"0.25","price":"97000.5","stop_price":"97100","post_only":false,"key":"k"} `))
	require.NoError(t, err)
	c, err := r.placing(s)
	require.NoError(t, err)
	require.Equal(t, book.Command{Op: book.Place, Side: book.Sell, Type: book.StopLimit, TIF: book.IOC, STP: book.STPDecrement,
		Qty: 2500, Price: 9700050, Stop: 9710000}, c)

	r, err = decodeFrame([]byte(`{"op":"modify","symbol":"BTC-USD","order":"12","price":"5"}`))
	require.NoError(t, err)
	c, err = r.modifying(s)
	require.NoError(t, err)
	require.Equal(t, book.Command{Op: book.Modify, Fields: book.FieldPrice, Price: 500}, c)
	id, err := r.orderID()
	require.NoError(t, err)
	require.EqualValues(t, 12, id)

	for _, bad := range []request{
		{side: "BUY"}, {side: "buy", typ: "x"}, {side: "buy", tif: "day"}, {side: "buy", stp: "x"},
		{side: "buy", quantity: "0"}, {side: "buy", quantity: "1", price: "x"}, {side: "buy", quantity: "1", stop: "-1"},
		{side: "buy", key: strings.Repeat("k", maxKey+1)},
	} {
		_, err := bad.placing(s)
		require.Error(t, err, "%+v", bad)
	}
	_, err = (&request{}).modifying(s)
	require.Error(t, err)
	for _, bad := range []string{"", "0", "-1", "+1", "01", "1.0", "x", "18446744073709551616"} {
		_, err := parseOrderID(bad)
		require.Error(t, err, bad)
	}
}

func FuzzFrame(f *testing.F) {
	for frame := range badFrames {
		f.Add([]byte(frame))
	}
	f.Add([]byte(`{"op":"place","id":3,"symbol":"BTC-USD","side":"sell","quantity":"0.25","price":"97000.5"}`))
	f.Add([]byte(`{"op":"subscribe","channel":"candles","symbol":"BTC-USD","interval":"1m"}`))
	s := &Symbols()[0]
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeFrame(data)
		if err != nil {
			return
		}
		if _, ok := operations[r.op]; !ok {
			t.Fatalf("accepted the op %q", r.op)
		}
		var c book.Command
		switch r.op {
		case "place":
			c, err = r.placing(s)
		case "modify":
			c, err = r.modifying(s)
		default:
			return
		}
		if err != nil {
			var bad *refusal
			if errors.As(err, &bad) && bad.status != 400 {
				t.Fatalf("refused with %d", bad.status)
			}
			return
		}
		if c.Qty < 0 || c.Qty > book.MaxQty || c.Price < 0 || c.Price > book.MaxPrice || c.Stop < 0 || c.Stop > book.MaxPrice {
			t.Fatalf("out of bounds: %+v", c)
		}
	})
}
