package orderbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook/scan"
)

// MarshalJSON returns the event as an object:
//
//	{"op":"new","id":4,"ref":"x","owner":7,"side":"buy","type":"stop_limit","tif":"gtc","stp":"decrement",
//	 "post_only":true,"qty":100,"price":1251,"stop":1260,"line":9,"sum":123,"reason":"…","effects":[…]}
//
// in which what is zero, or the first of its constants, is left out; a "modify"
// has those of qty, price and stop that it gives. An effect is an array:
//
//	["rest",side,id,owner,price,qty]                                  also wait, trigger, fill, cancel, amend, requeue
//	["trade",side,id,owner,price,qty,maker,maker_owner,left]          also decrement
//
// Values of a command that stand for nothing and were refused are numbers.
func (d Decided) MarshalJSON() ([]byte, error) {
	return d.AppendJSON(make([]byte, 0, 96+64*len(d.Effects))), nil
}

// AppendJSON appends what MarshalJSON returns.
func (d *Decided) AppendJSON(b []byte) []byte {
	c := &d.Command
	b = append(b, `{"op":`...)
	b = appendName(b, c.Op, book.ParseOp)
	b = append(b, `,"id":`...)
	b = strconv.AppendUint(b, c.ID, 10)
	if d.Ref != "" {
		ref, _ := json.Marshal(d.Ref) // a string cannot fail
		b = append(append(b, `,"ref":`...), ref...)
	}
	b = appendUint(b, `,"owner":`, c.Owner)
	if c.Side != 0 {
		b = appendName(append(b, `,"side":`...), c.Side, book.ParseSide)
	}
	if c.Type != 0 {
		b = appendName(append(b, `,"type":`...), c.Type, book.ParseType)
	}
	if c.TIF != 0 {
		b = appendName(append(b, `,"tif":`...), c.TIF, book.ParseTIF)
	}
	if c.STP != 0 {
		b = appendName(append(b, `,"stp":`...), c.STP, book.ParseSTP)
	}
	if c.PostOnly {
		b = append(b, `,"post_only":true`...)
	}
	b = appendField(b, `,"qty":`, c.Qty, c, book.FieldQty)
	b = appendField(b, `,"price":`, c.Price, c, book.FieldPrice)
	b = appendField(b, `,"stop":`, c.Stop, c, book.FieldStop)
	b = appendUint(b, `,"line":`, d.Mark.Line)
	b = appendUint(b, `,"sum":`, uint64(d.Mark.Sum))
	if d.Reason != 0 {
		b = append(b, `,"reason":`...)
		b = append(append(append(b, '"'), d.Reason.Error()...), '"')
	}
	if len(d.Effects) > 0 {
		b = append(b, `,"effects":[`...)
		for i := range d.Effects {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendEffect(b, &d.Effects[i])
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendEffect(b []byte, f *book.Effect) []byte {
	b = append(b, `["`...)
	b = append(b, f.Kind.String()...)
	b = append(b, `","`...)
	b = append(b, f.Side.String()...)
	b = append(b, `",`...)
	b = strconv.AppendUint(b, f.ID, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, f.Owner, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, f.Price, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, f.Qty, 10)
	if hasMaker(f.Kind) {
		b = append(b, ',')
		b = strconv.AppendUint(b, f.Maker, 10)
		b = append(b, ',')
		b = strconv.AppendUint(b, f.MakerOwner, 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, f.Left, 10)
	}
	return append(b, ']')
}

func hasMaker(k book.Kind) bool { return k == book.Trade || k == book.Decrement }

// appendName appends a constant by its name, or by its number if it has none.
func appendName[T interface {
	~uint8
	String() string
}](b []byte, v T, parse func(string) (T, bool)) []byte {
	name := v.String()
	if got, ok := parse(name); !ok || got != v {
		return strconv.AppendUint(b, uint64(v), 10)
	}
	return append(append(append(b, '"'), name...), '"')
}

func appendUint(b []byte, name string, v uint64) []byte {
	if v == 0 {
		return b
	}
	return strconv.AppendUint(append(b, name...), v, 10)
}

func appendField(b []byte, name string, v int64, c *book.Command, f book.Fields) []byte {
	if v == 0 && c.Fields&f == 0 {
		return b
	}
	return strconv.AppendInt(append(b, name...), v, 10)
}

// ErrFormat is wrapped by the errors of UnmarshalJSON.
var ErrFormat = errors.New("orderbook: malformed")

// UnmarshalJSON reads what MarshalJSON wrote, in any order of the fields. It
// accepts nothing else.
func (d *Decided) UnmarshalJSON(data []byte) error {
	*d = Decided{}
	s := scan.Scanner{In: data}
	if err := d.read(&s); err != nil {
		return fmt.Errorf("%w event at byte %d: %w", ErrFormat, s.At, err)
	}
	return nil
}

func (d *Decided) read(s *scan.Scanner) error {
	c := &d.Command
	var given book.Fields
	var sum uint64
	seen := uint32(0)
	err := object(s, func(name []byte) (err error) {
		field := slices.IndexFunc(decidedFields, func(f string) bool { return f == string(name) })
		if field < 0 || seen&(1<<field) != 0 {
			return errors.New("is unknown or given twice")
		}
		seen |= 1 << field
		switch string(name) {
		case "op":
			c.Op, err = readName(s, book.ParseOp)
		case "id":
			c.ID, err = s.Uint()
		case "ref":
			var tok []byte
			if tok, err = s.String(); err == nil {
				err = json.Unmarshal(tok, &d.Ref)
			}
		case "owner":
			c.Owner, err = s.Uint()
		case "side":
			c.Side, err = readName(s, book.ParseSide)
		case "type":
			c.Type, err = readName(s, book.ParseType)
		case "tif":
			c.TIF, err = readName(s, book.ParseTIF)
		case "stp":
			c.STP, err = readName(s, book.ParseSTP)
		case "post_only":
			c.PostOnly, err = s.Bool()
		case "qty":
			c.Qty, err = s.Int()
			given |= book.FieldQty
		case "price":
			c.Price, err = s.Int()
			given |= book.FieldPrice
		case "stop":
			c.Stop, err = s.Int()
			given |= book.FieldStop
		case "line":
			d.Mark.Line, err = s.Uint()
		case "sum":
			if sum, err = s.Uint(); err == nil && sum > math.MaxUint32 {
				err = scan.ErrRange
			}
			d.Mark.Sum = uint32(sum)
		case "reason":
			d.Reason, err = readText(s, book.ParseReason)
		case "effects":
			err = d.readEffects(s)
		}
		return err
	})
	if c.Op == book.Modify {
		c.Fields = given
	}
	switch {
	case err != nil:
		return err
	case !s.End():
		return errors.New("text after the object")
	case seen&3 != 3:
		return errors.New("no op or no id")
	case d.Reason != 0 && len(d.Effects) > 0:
		return errors.New("effects of a refused command")
	}
	return nil
}

var decidedFields = []string{"op", "id", "ref", "owner", "side", "type", "tif", "stp", "post_only", "qty", "price", "stop",
	"line", "sum", "reason", "effects"}

func (d *Decided) readEffects(s *scan.Scanner) error {
	return array(s, func(int) error {
		d.Effects = append(d.Effects, book.Effect{})
		f := &d.Effects[len(d.Effects)-1]
		n := 0
		err := array(s, func(i int) (err error) {
			n = i + 1
			switch i {
			case 0:
				f.Kind, err = readText(s, book.ParseKind)
			case 1:
				f.Side, err = readText(s, book.ParseSide)
			case 2:
				f.ID, err = s.Uint()
			case 3:
				f.Owner, err = s.Uint()
			case 4:
				f.Price, err = readBounded(s, book.MaxPrice)
			case 5:
				f.Qty, err = readBounded(s, book.MaxQty)
			case 6:
				f.Maker, err = s.Uint()
			case 7:
				f.MakerOwner, err = s.Uint()
			case 8:
				f.Left, err = readBounded(s, book.MaxQty)
			}
			return err
		})
		if err == nil && (hasMaker(f.Kind) && n != 9 || !hasMaker(f.Kind) && n != 6) {
			err = fmt.Errorf("effect %s of %d parts", f.Kind, n)
		}
		return err
	})
}

// object reads an object; value reads the value of a field.
func object(s *scan.Scanner, value func(name []byte) error) error {
	if !s.Next('{') {
		return errors.New("not an object")
	}
	if s.Next('}') {
		return nil
	}
	for {
		tok, err := s.String()
		if err != nil {
			return fmt.Errorf("field name %w", err)
		}
		if !s.Next(':') {
			return errors.New("no colon")
		}
		if err := value(tok[1 : len(tok)-1]); err != nil {
			return fmt.Errorf("field %s %w", tok, err)
		}
		if s.Next('}') {
			return nil
		}
		if !s.Next(',') {
			return errors.New("no comma")
		}
	}
}

// array reads an array; value reads its element i.
func array(s *scan.Scanner, value func(i int) error) error {
	if !s.Next('[') {
		return errors.New("is not an array")
	}
	if s.Next(']') {
		return nil
	}
	for i := 0; ; i++ {
		if err := value(i); err != nil {
			return err
		}
		if s.Next(']') {
			return nil
		}
		if !s.Next(',') {
			return errors.New("has no comma")
		}
	}
}

// readName reads a constant by its name or number.
func readName[T ~uint8](s *scan.Scanner, parse func(string) (T, bool)) (T, error) {
	if s.Peek() == '"' {
		return readText(s, parse)
	}
	n, err := s.Uint()
	if err == nil && n > math.MaxUint8 {
		err = scan.ErrRange
	}
	return T(n), err
}

func readText[T ~uint8](s *scan.Scanner, parse func(string) (T, bool)) (T, error) {
	tok, err := s.String()
	if err != nil {
		return 0, err
	}
	name, ok := words[string(tok[1:len(tok)-1])]
	if !ok {
		name = string(tok[1 : len(tok)-1])
	}
	v, ok := parse(name)
	if !ok {
		return 0, fmt.Errorf("has the unknown value %s", tok)
	}
	return v, nil
}

// words holds the names of constants, so that reading one makes no new string.
var words = func() map[string]string {
	m := map[string]string{}
	addNames(m, book.ParseOp)
	addNames(m, book.ParseSide)
	addNames(m, book.ParseType)
	addNames(m, book.ParseTIF)
	addNames(m, book.ParseSTP)
	addNames(m, book.ParseKind)
	return m
}()

func addNames[T interface {
	~uint8
	String() string
}](m map[string]string, parse func(string) (T, bool)) {
	for v := range 256 {
		if name := T(v).String(); name != "" {
			if _, ok := parse(name); ok {
				m[name] = name
			}
		}
	}
}

// readBounded reads a number between 0 and most.
func readBounded(s *scan.Scanner, most int64) (int64, error) {
	n, err := s.Int()
	if err == nil && (n < 0 || n > most) {
		err = scan.ErrRange
	}
	return n, err
}

// MarshalJSON returns the state as an object:
//
//	{"last":1251,"line":9,"sum":123,"orders":[["buy","limit","gtc","none",false,false,id,owner,qty,price,stop],…]}
//
// in which last is the price of the last trade, and the two booleans of an order
// tell whether it is post-only and whether it waits for its stop price. First
// come the waiting orders, then the bids and the asks; each in their order.
func (b Book) MarshalJSON() ([]byte, error) {
	st := b.state()
	bk := &st.book
	last, _ := bk.Last()
	out := make([]byte, 0, 64+64*bk.Len())
	out = append(out, `{"last":`...)
	out = strconv.AppendInt(out, last, 10)
	out = append(out, `,"line":`...)
	out = strconv.AppendUint(out, st.mark.Line, 10)
	out = append(out, `,"sum":`...)
	out = strconv.AppendUint(out, uint64(st.mark.Sum), 10)
	out = append(out, `,"orders":[`...)
	first := true
	for _, list := range []func(func(book.Order) bool){bk.Waiting(), bk.Resting(book.Buy), bk.Resting(book.Sell)} {
		for o := range list {
			if !first {
				out = append(out, ',')
			}
			first = false
			out = appendOrder(out, &o)
		}
	}
	return append(out, "]}"...), nil
}

func appendOrder(b []byte, o *book.Order) []byte {
	b = append(b, `["`...)
	b = append(b, o.Side.String()...)
	b = append(b, `","`...)
	b = append(b, o.Type.String()...)
	b = append(b, `","`...)
	b = append(b, o.TIF.String()...)
	b = append(b, `","`...)
	b = append(b, o.STP.String()...)
	b = append(b, `",`...)
	b = strconv.AppendBool(b, o.PostOnly)
	b = append(b, ',')
	b = strconv.AppendBool(b, o.Waiting)
	b = append(b, ',')
	b = strconv.AppendUint(b, o.ID, 10)
	b = append(b, ',')
	b = strconv.AppendUint(b, o.Owner, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, o.Qty, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, o.Price, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, o.Stop, 10)
	return append(b, ']')
}

// UnmarshalJSON reads what MarshalJSON wrote and refuses what no book could
// hold.
func (b *Book) UnmarshalJSON(data []byte) error {
	s := scan.Scanner{In: data}
	var orders []book.Order
	var last int64
	st := new(state)
	err := object(&s, func(name []byte) (err error) {
		switch string(name) {
		case "last":
			last, err = s.Int()
		case "line":
			st.mark.Line, err = s.Uint()
		case "sum":
			var sum uint64
			if sum, err = s.Uint(); err == nil && sum > math.MaxUint32 {
				err = scan.ErrRange
			}
			st.mark.Sum = uint32(sum)
		case "orders":
			err = array(&s, func(int) error {
				o, err := readOrder(&s)
				orders = append(orders, o)
				return err
			})
		default:
			err = errors.New("is unknown")
		}
		return err
	})
	if err == nil && !s.End() {
		err = errors.New("text after the object")
	}
	if err == nil {
		err = st.book.Restore(last, slices.Values(orders))
	}
	if err != nil {
		return fmt.Errorf("%w state at byte %d: %w", ErrFormat, s.At, err)
	}
	b.s = st
	return nil
}

func readOrder(s *scan.Scanner) (o book.Order, err error) {
	n := 0
	err = array(s, func(i int) (err error) {
		n = i + 1
		switch i {
		case 0:
			o.Side, err = readText(s, book.ParseSide)
		case 1:
			o.Type, err = readText(s, book.ParseType)
		case 2:
			o.TIF, err = readText(s, book.ParseTIF)
		case 3:
			o.STP, err = readText(s, book.ParseSTP)
		case 4:
			o.PostOnly, err = s.Bool()
		case 5:
			o.Waiting, err = s.Bool()
		case 6:
			o.ID, err = s.Uint()
		case 7:
			o.Owner, err = s.Uint()
		case 8:
			o.Qty, err = s.Int()
		case 9:
			o.Price, err = s.Int()
		case 10:
			o.Stop, err = s.Int()
		}
		return err
	})
	if err == nil && n != 11 {
		err = fmt.Errorf("order of %d parts", n)
	}
	return o, err
}

// Codec is eventstore.JSON for a store that holds books: it writes the same
// bytes, but spares Decided the checks that encoding/json makes of what a
// MarshalJSON returns and of what an UnmarshalJSON is given, which take longer
// than all the rest.
var Codec eventstore.Codec = codec{}

type codec struct{}

func (codec) ContentType() string { return eventstore.JSON.ContentType() }

func (codec) Marshal(v any) ([]byte, error) {
	if d, ok := v.(Decided); ok {
		return d.MarshalJSON()
	}
	return eventstore.JSON.Marshal(v)
}

func (codec) Unmarshal(data []byte, v any) error {
	if d, ok := v.(*Decided); ok {
		return d.UnmarshalJSON(data)
	}
	return eventstore.JSON.Unmarshal(data, v)
}
