package serve

import (
	"cmp"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live"
)

// What the template of a desk asks it for.

// A choice is one of several links or options.
type choice struct {
	Name    string
	Text    string
	URL     string
	Current string // "page" of the one that is chosen, else "false": the values of aria-current
	Count   int    // of the rows of a list
}

// Chosen reports whether it is the one.
func (c choice) Chosen() bool { return c.Current == "page" }

func (d *desk) choice(name, text, key string, chosen bool) choice {
	c := choice{Name: name, Text: text, URL: d.link(key, name), Current: "false"}
	if chosen {
		c.Current = "page"
	}
	return c
}

// link returns the URL of this page, but for one value.
func (d *desk) link(key, value string) string {
	q := url.Values{"symbol": {d.Market.Name}}
	if d.Chosen != "" {
		q.Set("interval", d.Chosen)
	}
	if key != "symbol" {
		q.Set("group", strconv.FormatInt(d.Group, 10))
	}
	q.Set("list", d.list)
	q.Set("chart", d.Chart)
	q.Set(key, value)
	for key, usual := range map[string]string{"list": listOrders, "chart": chartPrice, "group": "1"} {
		if q.Get(key) == usual {
			q.Del(key)
		}
	}
	return "/?" + q.Encode()
}

// Kept is what the page keeps for the next time.
func (d *desk) Kept() string {
	return url.Values{"symbol": {d.Market.Name}, "interval": {d.Chosen}}.Encode()
}

// A marketTab is a market with its price.
type marketTab struct {
	choice
	Price live.Shown
}

// choices sets what there is to choose from. It all follows from the URL, so it is made when that changes and not for
// each rendering.
func (d *desk) choices() {
	d.Markets, d.Intervals, d.Groups = nil, nil, nil
	for i, b := range d.s.boards {
		name := b.symbol.Name
		d.Markets = append(d.Markets, marketTab{d.choice(name, name, "symbol", b.symbol == d.Market), d.prices[i]})
	}
	d.Charts = []choice{d.choice(chartPrice, "Price", "chart", d.Chart == chartPrice), d.choice(chartDepth, "Depth", "chart", d.Chart == chartDepth)}
	for i, v := range intervals {
		d.Intervals = append(d.Intervals, d.choice(v.name, v.name, "interval", i == d.interval))
	}
	for _, g := range groups {
		d.Groups = append(d.Groups, d.choice(strconv.FormatInt(g, 10), d.Market.Price(g), "group", g == d.Group))
	}
	d.listed = [2]choice{d.choice(listOrders, "My open orders", "list", d.list == listOrders), d.choice(listFills, "My trades", "list", d.list == listFills)}
}

// Lists returns the lists of what is the owner's.
func (d *desk) Lists() [2]choice {
	lists := d.listed
	lists[0].Count, lists[1].Count = len(d.resting), len(d.filled)
	return lists
}

// ShowsFills reports whether the list is that of the owner's trades.
func (d *desk) ShowsFills() bool { return d.list == listFills }

// Presets returns usual quantities.
func (s *Symbol) Presets() []string {
	var all []string
	for _, n := range []int64{1, 5, 10, 50} {
		all = append(all, strings.TrimRight(strings.TrimRight(s.Qty(n*s.preset), "0"), "."))
	}
	return all
}

// An option is a value of a select.
type option struct {
	Value, Text string
	Current     bool
}

func (d *desk) options(field string, all []option) []option {
	for i := range all {
		all[i].Current = all[i].Value == d.Value(field)
	}
	return all
}

// Types returns the types of orders.
func (d *desk) Types() []option {
	return d.options("type", []option{{Value: "limit", Text: "Limit"}, {Value: "market", Text: "Market"}, {Value: "stop", Text: "Stop"},
		{Value: "stop_limit", Text: "Stop limit"}, {Value: "take_profit", Text: "Take profit"}, {Value: "take_profit_limit", Text: "Take-profit limit"}})
}

// TIFs returns how long an order can be in force.
func (d *desk) TIFs() []option {
	return d.options("tif", []option{{Value: "gtc", Text: "Till cancelled"}, {Value: "ioc", Text: "Immediate or cancel"}, {Value: "fok", Text: "Fill or kill"}})
}

// Sells, Price and Quantity are what the form begins with: what was sent in vain, without JavaScript, or what was taken out
// of the book.
func (d *desk) Sells() bool {
	return d.Value("side") == book.Sell.String() || d.Value("side") == "" && d.asked.Has("bid")
}

func (d *desk) Price() string {
	return cmp.Or(d.Value("price"), d.asked.Get("ask"), d.asked.Get("bid"))
}

func (d *desk) Quantity() string { return cmp.Or(d.Value("quantity"), d.asked.Get("quantity")) }

// Wrong reports whether something is wrong with a field.
func (d *desk) Wrong(field string) bool { return d.Error(field) != "" }

// An answer is what is said of the order that was sent last.
type answer struct{ Tone, Text string }

func (d *desk) Answer() answer {
	for _, field := range []string{"", "stop_price", "price", "quantity"} {
		if d.Wrong(field) {
			return answer{"bad", d.Error("")} // those of a field stand there
		}
	}
	for _, tone := range []string{"good", "bad"} {
		if text := d.Flash(tone); text != "" {
			return answer{tone, text}
		}
	}
	return answer{"bad", d.Flash("error")}
}

// An orderRow is an open order of the owner.
type orderRow struct {
	ID, Side, Tone, Type, Price, Stop, Open, Filled string

	Name string // for who does not see the row
	Time stamp
}

// Orders returns the owner's open orders, the newest first.
func (d *desk) Orders() []orderRow {
	s := d.Market
	rows := make([]orderRow, 0, len(d.resting))
	for i := range slices.Backward(d.resting) {
		o := &d.resting[i]
		r := orderRow{ID: orderID(o.id), Type: strings.ReplaceAll(o.typ.String(), "_", " "), Price: s.shownPrice(o.price), Stop: s.shownPrice(o.stop),
			Open: s.Qty(o.open) + " " + s.Base, Filled: s.Qty(o.filled), Time: stamp(o.ms)}
		r.Side, r.Tone = sided(o.side)
		if o.post {
			r.Type += ", post only"
		}
		if !o.resting {
			r.Type += ", waiting"
		}
		r.Name = o.side.String() + " order of " + r.Open
		if o.price != 0 {
			r.Name += " at " + r.Price
		}
		rows = append(rows, r)
	}
	return rows
}

// Rests returns the ids of the rungs of the ladder that orders of the owner are part of.
func (d *desk) Rests() string {
	var ids []string
	for _, o := range d.resting {
		if o.resting {
			ids = append(ids, rungID(o.side, d.Market.Price(rounded(o.side, o.price, d.Group))))
		}
	}
	return strings.Join(ids, " ")
}

// A fillRow is a trade of the owner.
type fillRow struct {
	ID, Side, Tone, Role, Price, Size, Value string
	Time                                     stamp
}

// Fills returns the owner's latest trades, the newest first.
func (d *desk) Fills() []fillRow {
	s := d.Market
	rows := make([]fillRow, 0, len(d.filled))
	for i := range d.filled {
		f := &d.filled[i]
		r := fillRow{ID: f.id(), Role: "Taker", Price: thousands(s.Price(f.price)), Size: s.Qty(f.qty) + " " + s.Base,
			Value: s.money(float64(f.price) * float64(f.qty)), Time: stamp(f.ms)}
		r.Side, r.Tone = sided(f.side)
		if f.maker { // who trades with himself is both
			r.ID, r.Role = r.ID+".maker", "Maker"
		}
		rows = append(rows, r)
	}
	return rows
}

func sided(side book.Side) (text, tone string) {
	if side == book.Sell {
		return "Sell", "down"
	}
	return "Buy", "up"
}

func (s *Symbol) shownPrice(ticks int64) string {
	if ticks == 0 {
		return none
	}
	return thousands(s.Price(ticks))
}
