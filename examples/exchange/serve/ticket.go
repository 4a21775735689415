package serve

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live"
)

// A ticket is the order form as it came.
type ticket struct {
	Side      string
	Type      string
	TIF       string `live:"tif"`
	Price     string
	StopPrice string
	Quantity  string
	PostOnly  bool
	Key       string
}

// limited and stops tell which prices an order of a type has. The form shows fields by the same rule,
// in its style sheet.
func (t *ticket) limited() bool { return t.Type == "" || strings.Contains(t.Type, "limit") }
func (t *ticket) stops() bool {
	return strings.HasPrefix(t.Type, "stop") || strings.HasPrefix(t.Type, "take_profit")
}

// request returns what the form asks for, or what is wrong with its fields. Fields that do not belong to
// the type of the order, and are not to be seen then, do not count.
func (t *ticket) request(s *Symbol) (*request, error) {
	r := &request{op: "place", symbol: s.Name, side: t.Side, typ: t.Type, tif: t.TIF, key: t.Key,
		quantity: plain(t.Quantity), postOnly: t.PostOnly && t.limited() && (t.TIF == "" || t.TIF == "gtc")}
	if t.limited() {
		r.price = plain(t.Price)
	}
	if t.stops() {
		r.stop = plain(t.StopPrice)
	}
	wrong := live.Errors{}
	for _, f := range []struct {
		name, text string
		needed     bool
		parse      func(string) (int64, error)
	}{
		{"quantity", r.quantity, true, s.ParseQty},
		{"price", r.price, t.limited(), s.ParsePrice},
		{"stop_price", r.stop, t.stops(), s.ParsePrice},
	} {
		if !f.needed {
			continue
		}
		label := strings.ReplaceAll(f.name, "_", " ")
		if !number.MatchString(f.text) {
			wrong[f.name] = "The " + label + " is a number such as 1.5."
		} else if _, err := f.parse(f.text); err != nil {
			wrong[f.name] = "The " + label + " is " + err.Error() + "."
		}
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return r, nil
}

var (
	number = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	apart  = regexp.MustCompile(`^[1-9][0-9]{0,2}([, \x{a0}\x{202f}][0-9]{3})+(\.[0-9]+)?$`)
)

// plain makes a plain decimal of what people type or paste. In 90,000.5 the comma sets thousands apart; in 0,125
// it is the point.
func plain(text string) string {
	text = strings.TrimSpace(text)
	if apart.MatchString(text) {
		return strings.NewReplacer(",", "", " ", "", "\u00a0", "", "\u202f", "").Replace(text)
	}
	return strings.Replace(text, ",", ".", 1)
}

// fieldOf returns the field of the form that a refusal with a code is about, "" if it is none.
func fieldOf(code string) string {
	switch {
	case strings.Contains(code, "stop"):
		return "stop_price"
	case strings.Contains(code, "price"):
		return "price"
	case strings.Contains(code, "quantity"):
		return "quantity"
	}
	return ""
}

// sentence makes a sentence of what a refusal says.
func sentence(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[n:] + "."
}

// worth is what an order would cost or bring, as far as one can tell.
type worth struct{ Label, Text string }

// worth walks the book where the ticket has no price.
func (t *ticket) worth(s *Symbol, m *market) worth {
	w := worth{Label: "Total", Text: none}
	if !t.limited() {
		w.Label = "About"
	}
	lots, err := s.ParseQty(plain(t.Quantity))
	if err != nil {
		return w
	}
	value := 0.0
	price := t.Price
	if !t.limited() {
		price = t.StopPrice
	}
	if t.limited() || t.stops() {
		ticks, err := s.ParsePrice(plain(price))
		if err != nil {
			return w
		}
		value = float64(lots) * float64(ticks)
	} else {
		from := book.Sell
		if t.Side == book.Sell.String() {
			from = book.Buy
		}
		for _, l := range m.side(from) {
			q := min(lots, l.qty)
			value += float64(q) * float64(l.price)
			if lots -= q; lots == 0 {
				break
			}
		}
		if lots > 0 {
			return w // there is not as much
		}
	}
	w.Text = s.money(value)
	return w
}

// money formats a value in ticks times lots as a text in the quote currency.
func (s *Symbol) money(value float64) string {
	value /= math.Pow10(s.PriceDecimals + s.QtyDecimals)
	return thousands(strconv.FormatFloat(value, 'f', 2, 64)) + " " + s.Quote
}
