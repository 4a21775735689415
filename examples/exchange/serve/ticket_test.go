package serve

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live"
)

func TestNumbersAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"1.5":               "1.5",
		" 7 ":               "7",
		"90,000.5":          "90000.5",
		"1,234":             "1234",
		"1,234,567":         "1234567",
		"97 250.25":         "97250.25",
		"97\u00a0250,25":    "97\u00a0250.25", // refused: which of the two is the point?
		"97\u202f250":       "97250",
		"1,5":               "1.5",
		"0,125":             "0.125", // not a hundred and twenty-five
		"12,34":             "12.34",
		"1234,567":          "1234.567",
		"1,2,3":             "1.2,3",
		"":                  "",
		"-1":                "-1",
		"1,234,56":          "1.234,56",
		"１,000":             "１.000",
		"999,999,999,999.9": "999999999999.9",
	} {
		require.Equal(t, want, plain(text), text)
	}
}

func TestATicketAsksForWhatItsTypeHas(t *testing.T) {
	t.Parallel()
	s := &Symbols()[0]
	all := ticket{Side: "sell", Price: "1", StopPrice: "2", Quantity: "3", TIF: "gtc", PostOnly: true, Key: "k"}
	for typ, want := range map[string]request{
		"limit":             {price: "1", postOnly: true},
		"market":            {},
		"stop":              {stop: "2"},
		"stop_limit":        {price: "1", stop: "2", postOnly: true},
		"take_profit":       {stop: "2"},
		"take_profit_limit": {price: "1", stop: "2", postOnly: true},
	} {
		in := all
		in.Type = typ
		want.op, want.symbol, want.side, want.typ, want.tif, want.quantity, want.key = "place", "BTC-USD", "sell", typ, "gtc", "3", "k"
		r, err := in.request(s)
		require.NoError(t, err)
		require.Equal(t, want, *r)
		_, err = r.placing(s)
		require.NoError(t, err, typ)

		in.Quantity, in.Price, in.StopPrice = "0", "", "x"
		_, err = in.request(s)
		var wrong live.Errors
		require.ErrorAs(t, err, &wrong)
		require.Contains(t, wrong, "quantity")
		require.Equal(t, want.price != "", wrong["price"] != "", typ)
		require.Equal(t, want.stop != "", wrong["stop_price"] != "", typ)
	}
	all.Type, all.TIF = "limit", "ioc"
	r, err := all.request(s)
	require.NoError(t, err)
	require.False(t, r.postOnly, "the form does not show it")
}

func TestARefusalIsToldAtTheFieldItIsAbout(t *testing.T) {
	t.Parallel()
	for reason, field := range map[book.Reason]string{
		book.ErrPriceTooLarge: "price", book.ErrQtyTooLarge: "quantity", book.ErrStopTooLarge: "stop_price", book.ErrFull: "",
	} {
		r, _ := refusalOf(reason)
		require.Equal(t, field, fieldOf(r.code), r.code)
	}
	require.Equal(t, "The book is full.", sentence("the book is full"))
}
