package serve

import (
	"errors"
	"fmt"
	"strings"

	"github.com/levada-go/levada/examples/exchange/book"
)

// A Symbol is a market: what is traded for what, and in which steps. The engine
// counts whole ticks and whole lots; decimals exist only at the edge.
type Symbol struct {
	Name          string `json:"symbol"` // "BTC-USD"; the id of the aggregate
	Base          string `json:"base"`
	Quote         string `json:"quote"`
	PriceDecimals int    `json:"price_decimals"`    // a tick is 10^-PriceDecimals of Quote
	QtyDecimals   int    `json:"quantity_decimals"` // a lot is 10^-QtyDecimals of Base

	start  int64   // where the demonstration begins, in ticks
	spread int64   // what its market makers want to earn, in ticks
	size   int64   // its usual order, in lots
	preset int64   // the least quantity that the form offers, in lots
	sigma  float64 // its volatility, in ticks a step
}

// Symbols returns the markets of the exchange.
func Symbols() []Symbol {
	return []Symbol{
		{Name: "BTC-USD", Base: "BTC", Quote: "USD", PriceDecimals: 2, QtyDecimals: 4,
			start: 97_250_00, spread: 4_00, size: 1500, preset: 100, sigma: 9_00},
		{Name: "ETH-USD", Base: "ETH", Quote: "USD", PriceDecimals: 2, QtyDecimals: 3,
			start: 3_480_00, spread: 30, size: 9_000, preset: 100, sigma: 36},
		{Name: "SOL-USD", Base: "SOL", Quote: "USD", PriceDecimals: 2, QtyDecimals: 2,
			start: 182_50, spread: 4, size: 12_000, preset: 100, sigma: 3},
	}
}

// Price formats ticks as a decimal of the quote currency.
func (s *Symbol) Price(ticks int64) string { return decimal(ticks, s.PriceDecimals) }

// Qty formats lots as a decimal of the base currency.
func (s *Symbol) Qty(lots int64) string { return decimal(lots, s.QtyDecimals) }

// ParsePrice returns a decimal price in ticks: from one tick to [book.MaxPrice].
func (s *Symbol) ParsePrice(text string) (int64, error) {
	return parseDecimal(text, s.PriceDecimals, book.MaxPrice)
}

// ParseQty returns a decimal quantity in lots: from one lot to [book.MaxQty].
func (s *Symbol) ParseQty(text string) (int64, error) {
	return parseDecimal(text, s.QtyDecimals, book.MaxQty)
}

func decimal(v int64, decimals int) string {
	sign := ""
	if v < 0 {
		sign, v = "-", -v
	}
	if decimals == 0 {
		return fmt.Sprintf("%s%d", sign, v)
	}
	digits := fmt.Sprintf("%0*d", decimals+1, v)
	cut := len(digits) - decimals
	return sign + digits[:cut] + "." + digits[cut:]
}

// thousands sets the digits of a decimal's whole part apart in threes, for people.
func thousands(text string) string {
	whole, fraction, point := strings.Cut(text, ".")
	var b strings.Builder
	for i, r := range whole {
		if left := len(whole) - i; i > 0 && left%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	if point {
		b.WriteByte('.')
		b.WriteString(fraction)
	}
	return b.String()
}

var errDecimal = errors.New("not a plain decimal number such as 12.5")

// parseDecimal reads digits with at most one point between them. It takes no
// sign, exponent, space or separator, nor a digit other than 0 below the last
// decimal: an order is never rounded.
func parseDecimal(text string, decimals int, most int64) (int64, error) {
	whole, fraction, point := strings.Cut(text, ".")
	if whole == "" || point && fraction == "" || len(text) > 40 {
		return 0, errDecimal
	}
	for _, r := range whole + fraction {
		if r < '0' || r > '9' {
			return 0, errDecimal
		}
	}
	if len(fraction) > decimals {
		if strings.Trim(fraction[decimals:], "0") != "" {
			return 0, fmt.Errorf("more exact than the step of %s", decimal(1, decimals))
		}
		fraction = fraction[:decimals]
	}
	v := int64(0)
	for _, r := range whole + fraction + strings.Repeat("0", decimals-len(fraction)) {
		if v = v*10 + int64(r-'0'); v > most {
			return 0, fmt.Errorf("above %s", decimal(most, decimals))
		}
	}
	if v == 0 {
		return 0, errors.New("not positive")
	}
	return v, nil
}
