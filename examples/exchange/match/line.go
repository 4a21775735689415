package match

import (
	"errors"
	"fmt"
	"math"

	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook/scan"
)

// MaxLine is the length of the longest line of input, in bytes, without its
// newline.
const MaxLine = 64 << 10

// A request is a line of input that was understood. Its tokens are parts of the
// line.
type request struct {
	show    bool // op book; everything else is a command
	depth   int
	id      []byte // a JSON number or string
	owner   []byte // a JSON string, or nil
	command book.Command
}

// The fields of a line, as bits.
const (
	fOp = 1 << iota
	fID
	fSide
	fType
	fTIF
	fQty
	fPrice
	fStop
	fOwner
	fPostOnly
	fDepth
)

var fieldNames = [...]string{"op", "id", "side", "type", "tif", "qty", "price", "stop", "owner", "post_only", "depth"}

// What operations need and may have.
var opFields = [...]struct{ needs, mayHave int }{
	0:           {fOp, fDepth},
	book.Place:  {fOp | fID | fSide, fType | fTIF | fQty | fPrice | fStop | fOwner | fPostOnly},
	book.Cancel: {fOp | fID, fOwner},
	book.Modify: {fOp | fID, fQty | fPrice | fStop | fOwner},
}

// parseLine reads a line. Its errors say what is wrong with the line, not where
// it is.
func parseLine(line []byte) (request, error) {
	var r request
	s := scan.Scanner{In: line}
	if !s.Next('{') {
		return r, errors.New("not a JSON object")
	}
	seen := 0
	for first := true; ; first = false {
		if first && s.Next('}') {
			break
		}
		name, err := s.String()
		if err != nil {
			return r, fmt.Errorf("a field name %w", err)
		}
		if !s.Next(':') {
			return r, fmt.Errorf("no colon after %.80s", name)
		}
		f := fieldOf(name)
		if f == 0 {
			return r, fmt.Errorf("unknown field %.80s", name)
		}
		if seen&f != 0 {
			return r, fmt.Errorf("field %s is given twice", name)
		}
		seen |= f
		if err := readField(&s, f, &r); err != nil {
			return r, fmt.Errorf("%s %w", name, err)
		}
		if s.Next('}') {
			break
		}
		if !s.Next(',') {
			return r, fmt.Errorf("neither a comma nor the end of the object after %s", name)
		}
	}
	if !s.End() {
		return r, errors.New("text after the object")
	}
	if seen&fOp == 0 {
		return r, errors.New(`no field "op"`)
	}
	set := opFields[r.command.Op]
	for i, name := range fieldNames {
		if f := 1 << i; set.needs&f != 0 && seen&f == 0 {
			return r, fmt.Errorf("no field %q", name)
		} else if seen&f != 0 && (set.needs|set.mayHave)&f == 0 {
			return r, fmt.Errorf("field %q does not belong to this operation", name)
		}
	}
	if r.command.Op == book.Modify {
		if seen&fQty != 0 {
			r.command.Fields |= book.FieldQty
		}
		if seen&fPrice != 0 {
			r.command.Fields |= book.FieldPrice
		}
		if seen&fStop != 0 {
			r.command.Fields |= book.FieldStop
		}
	}
	return r, nil
}

func fieldOf(quoted []byte) int {
	switch string(quoted[1 : len(quoted)-1]) {
	case "op":
		return fOp
	case "id":
		return fID
	case "side":
		return fSide
	case "type":
		return fType
	case "tif":
		return fTIF
	case "qty":
		return fQty
	case "price":
		return fPrice
	case "stop":
		return fStop
	case "owner":
		return fOwner
	case "post_only":
		return fPostOnly
	case "depth":
		return fDepth
	}
	return 0
}

var errID = errors.New("is neither a number nor a string")

// readField reads the value of a field.
func readField(s *scan.Scanner, f int, r *request) (err error) {
	c := &r.command
	switch f {
	case fID:
		if s.Peek() == '"' {
			r.id, err = s.String()
		} else if r.id, err = s.Number(); err != nil {
			err = errID
		}
	case fOwner:
		r.owner, err = s.String()
	case fQty:
		c.Qty, err = s.Int()
	case fPrice:
		c.Price, err = s.Int()
	case fStop:
		c.Stop, err = s.Int()
	case fPostOnly:
		c.PostOnly, err = s.Bool()
	case fDepth:
		var n int64
		if n, err = s.Int(); err == nil && n < 0 {
			err = errors.New("is negative")
		}
		r.depth = int(min(n, math.MaxInt32))
	default:
		var tok []byte
		if tok, err = s.String(); err != nil {
			return err
		}
		word, ok := string(tok[1:len(tok)-1]), false
		switch f {
		case fOp:
			if word == "book" {
				r.show, ok = true, true
			} else {
				c.Op, ok = book.ParseOp(word)
			}
		case fSide:
			c.Side, ok = book.ParseSide(word)
		case fType:
			c.Type, ok = book.ParseType(word)
		case fTIF:
			c.TIF, ok = book.ParseTIF(word)
		}
		if !ok {
			err = fmt.Errorf("has the unknown value %.80s", tok)
		}
	}
	return err
}
