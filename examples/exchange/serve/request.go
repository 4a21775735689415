package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/levada-go/levada/examples/exchange/book"
)

// A request is what a client asks for in one frame, or in one HTTP body.
// Fields that its operation does not have are zero.
type request struct {
	op       string
	id       int64 // echoed in the answer; 0 if there was none
	channel  string
	symbol   string
	interval string
	order    string
	side     string
	typ      string
	tif      string
	stp      string
	quantity string
	price    string
	stop     string
	postOnly bool
	key      string
}

// maxID is the largest id of a request: what every JSON reader keeps exact.
const maxID = 1<<53 - 1

// A fieldsOf tells which fields an operation needs and which it may have beside them.
type fieldsOf struct{ needs, may []string }

// operations lists the fields that each operation needs and may have.
var operations = map[string]fieldsOf{
	"ping":        {},
	"subscribe":   {needs: []string{"channel", "symbol"}, may: []string{"interval"}},
	"unsubscribe": {needs: []string{"channel", "symbol"}, may: []string{"interval"}},
	"place": {needs: []string{"symbol", "side", "quantity"},
		may: []string{"type", "tif", "stp", "price", "stop_price", "post_only", "key"}},
	"modify": {needs: []string{"symbol", "order"}, may: []string{"quantity", "price", "stop_price"}},
	"cancel": {needs: []string{"symbol", "order"}},
}

// bodies does so for the bodies of HTTP requests, whose path says the rest.
var bodies = map[string]fieldsOf{
	"place":  operations["place"],
	"modify": {may: []string{"symbol", "quantity", "price", "stop_price"}},
}

// decodeFrame reads a frame, which names its operation itself. What can be read
// of op and id is returned beside an error, so that the answer can name them.
func decodeFrame(data []byte) (request, error) {
	var r request
	seen, err := r.fields(data)
	if err != nil {
		return r, err
	}
	if r.op == "" {
		return r, errors.New(`no "op"`)
	}
	seen = slices.DeleteFunc(seen, func(f string) bool { return f == "op" || f == "id" })
	return r, r.check(operations, seen)
}

// decodeBody reads the body of an HTTP request for an operation.
func decodeBody(op string, data []byte) (request, error) {
	var r request
	seen, err := r.fields(data)
	if err != nil {
		return r, err
	}
	r.op = op
	return r, r.check(bodies, seen)
}

// check returns why the fields are not those of the operation.
func (r *request) check(all map[string]fieldsOf, seen []string) error {
	op, ok := all[r.op]
	if !ok {
		return fmt.Errorf("unknown op %.40q", r.op)
	}
	for _, f := range seen {
		if !slices.Contains(op.needs, f) && !slices.Contains(op.may, f) {
			return fmt.Errorf("%s has no field %.40q", r.op, f)
		}
	}
	for _, f := range op.needs {
		if !slices.Contains(seen, f) {
			return fmt.Errorf("%s needs the field %q", r.op, f)
		}
	}
	return nil
}

// fields reads one flat JSON object and nothing after it. Names are matched
// exactly and may occur once, values must be of the right type, and text must be
// UTF-8: a frame means one thing or it is refused.
func (r *request) fields(data []byte) (seen []string, err error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		name, _ := t.(string)
		if slices.Contains(seen, name) {
			return nil, fmt.Errorf("the field %.40q occurs twice", name)
		}
		seen = append(seen, name)
		v, err := dec.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		if err := r.set(name, v); err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, errors.New("not a JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON object")
	}
	return seen, nil
}

func (r *request) set(name string, value json.Token) error {
	texts := map[string]*string{
		"op": &r.op, "channel": &r.channel, "symbol": &r.symbol, "interval": &r.interval, "order": &r.order,
		"side": &r.side, "type": &r.typ, "tif": &r.tif, "stp": &r.stp, "quantity": &r.quantity, "price": &r.price,
		"stop_price": &r.stop, "key": &r.key,
	}
	if p, ok := texts[name]; ok {
		s, ok := value.(string)
		if !ok || s == "" {
			return fmt.Errorf("the field %q is not a text", name)
		}
		*p = s
		return nil
	}
	switch name {
	case "id":
		n, ok := value.(json.Number)
		id, err := strconv.ParseInt(n.String(), 10, 64)
		if !ok || err != nil || id < 1 || id > maxID {
			return fmt.Errorf("the id is not a whole number from 1 to %d", int64(maxID))
		}
		r.id = id
		return nil
	case "post_only":
		b, ok := value.(bool)
		if !ok {
			return errors.New(`the field "post_only" is not true or false`)
		}
		r.postOnly = b
		return nil
	}
	return fmt.Errorf("unknown field %.40q", name)
}

// maxKey bounds the key of a place request, in bytes.
const maxKey = 64

// placing returns the command that a place request asks the engine for.
func (r *request) placing(s *Symbol) (book.Command, error) {
	c := book.Command{Op: book.Place, STP: book.STPCancelNewest, PostOnly: r.postOnly}
	var ok bool
	if c.Side, ok = book.ParseSide(r.side); !ok {
		return c, fmt.Errorf("unknown side %.40q: buy or sell", r.side)
	}
	if r.typ != "" {
		if c.Type, ok = book.ParseType(r.typ); !ok {
			return c, fmt.Errorf("unknown type %.40q: limit, market, stop, stop_limit, take_profit or take_profit_limit", r.typ)
		}
	}
	if r.tif != "" {
		if c.TIF, ok = book.ParseTIF(r.tif); !ok {
			return c, fmt.Errorf("unknown tif %.40q: gtc, ioc or fok", r.tif)
		}
	}
	if r.stp != "" {
		if c.STP, ok = book.ParseSTP(r.stp); !ok {
			return c, fmt.Errorf("unknown stp %.40q: none, cancel_newest, cancel_oldest, cancel_both or decrement", r.stp)
		}
	}
	if len(r.key) > maxKey {
		return c, fmt.Errorf("the key is longer than %d bytes", maxKey)
	}
	return c, r.amounts(s, &c)
}

// modifying returns the command that a modify request asks the engine for.
func (r *request) modifying(s *Symbol) (book.Command, error) {
	c := book.Command{Op: book.Modify}
	if r.quantity != "" {
		c.Fields |= book.FieldQty
	}
	if r.price != "" {
		c.Fields |= book.FieldPrice
	}
	if r.stop != "" {
		c.Fields |= book.FieldStop
	}
	if c.Fields == 0 {
		return c, errors.New("modify needs a quantity, a price or a stop_price")
	}
	return c, r.amounts(s, &c)
}

func (r *request) amounts(s *Symbol, c *book.Command) (err error) {
	if r.quantity != "" {
		if c.Qty, err = s.ParseQty(r.quantity); err != nil {
			return &refusal{http.StatusBadRequest, "bad_quantity", fmt.Sprintf("the quantity %.40q is %v", r.quantity, err)}
		}
	}
	if r.price != "" {
		if c.Price, err = s.ParsePrice(r.price); err != nil {
			return &refusal{http.StatusBadRequest, "bad_price", fmt.Sprintf("the price %.40q is %v", r.price, err)}
		}
	}
	if r.stop != "" {
		if c.Stop, err = s.ParsePrice(r.stop); err != nil {
			return &refusal{http.StatusBadRequest, "bad_stop_price", fmt.Sprintf("the stop_price %.40q is %v", r.stop, err)}
		}
	}
	return nil
}

// orderID returns the number of the order that r names.
func (r *request) orderID() (uint64, error) { return parseOrderID(r.order) }

func parseOrderID(text string) (uint64, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil || id == 0 || strconv.FormatUint(id, 10) != text {
		return 0, fmt.Errorf("%.40q is not the id of an order", text)
	}
	return id, nil
}
