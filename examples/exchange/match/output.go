package match

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/levada-go/levada/examples/exchange/book"
)

// An output collects lines and writes them in large pieces that end where the
// results of a command end.
type output struct {
	w     io.Writer
	names *names
	buf   []byte
	err   error // the first of w

	// done is called after each write with the line of input up to which all
	// results have been written.
	done func(line uint64) error
	line uint64

	trades uint64
	volume uint64 // lots
	events uint64
	quiet  bool // count only

	stored book.Event // see decided
}

const outputSize = 64 << 10

// event writes the results of the command in a line of input.
func (o *output) event(line uint64, e *book.Event) error {
	o.events++
	if o.quiet {
		for i := range e.Effects {
			if f := &e.Effects[i]; f.Kind == book.Trade {
				o.trade(f)
			}
		}
		return o.end(line)
	}
	if e.Reason != 0 {
		o.order(line, e.Command.ID, `,"status":"rejected","reason":"`+e.Reason.Error()+"\"}}\n")
		return o.end(line)
	}
	for i := range e.Effects {
		f := &e.Effects[i]
		switch f.Kind {
		case book.Trade:
			o.trade(f)
			b := append(o.buf, `{"trade":{"maker":`...)
			b = o.names.append(b, f.Maker)
			b = append(b, `,"taker":`...)
			b = o.names.append(b, f.ID)
			b = append(b, `,"price":`...)
			b = strconv.AppendInt(b, f.Price, 10)
			b = append(b, `,"qty":`...)
			b = strconv.AppendInt(b, f.Qty, 10)
			o.buf = append(b, "}}\n"...)
			if f.Left == 0 {
				o.order(line, f.Maker, filled)
			}
		case book.Decrement:
			if f.Left == 0 {
				o.order(line, f.Maker, cancelled)
			}
		case book.Rest, book.Wait, book.Amend:
			o.order(line, f.ID, open)
		case book.Fill:
			o.order(line, f.ID, filled)
		case book.Drop:
			o.order(line, f.ID, cancelled)
		}
	}
	return o.end(line)
}

const (
	open      = `,"status":"open"}}` + "\n"
	filled    = `,"status":"filled"}}` + "\n"
	cancelled = `,"status":"cancelled"}}` + "\n"
)

func (o *output) trade(f *book.Effect) {
	o.trades++
	o.volume += uint64(f.Qty)
}

func (o *output) order(line, id uint64, status string) {
	b := append(o.buf, `{"order":{"line":`...)
	b = strconv.AppendUint(b, line, 10)
	b = append(b, `,"id":`...)
	b = o.names.append(b, id)
	o.buf = append(b, status...)
}

// book writes the depth best levels of a book, all if depth is 0.
func (o *output) book(line uint64, bk *book.Book, depth int) error {
	if !o.quiet {
		b := append(o.buf, `{"book":{"bids":[`...)
		b = o.side(b, bk, book.Buy, depth)
		b = append(b, `],"asks":[`...)
		b = o.side(b, bk, book.Sell, depth)
		o.buf = append(b, "]}}\n"...)
	}
	return o.end(line)
}

func (o *output) side(b []byte, bk *book.Book, s book.Side, depth int) []byte {
	levels := 0
	for level := range bk.Levels(s) {
		if levels++; depth > 0 && levels > depth {
			break
		}
		if levels > 1 {
			b = append(b, ',')
		}
		b = append(b, `{"price":`...)
		b = strconv.AppendInt(b, level.Price, 10)
		b = append(b, `,"qty":`...)
		b = strconv.AppendInt(b, level.Qty, 10)
		b = append(b, `,"orders":[`...)
		first := true
		for order := range bk.Queue(s, level.Price) {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, `{"id":`...)
			b = o.names.append(b, order.ID)
			b = append(b, `,"qty":`...)
			b = strconv.AppendInt(b, order.Qty, 10)
			b = append(b, '}')
		}
		b = append(b, "]}"...)
	}
	return b
}

// end notes that the results up to a line of input are complete, and writes if
// there are many.
func (o *output) end(line uint64) error {
	o.line = line
	if len(o.buf) >= outputSize {
		return o.flush()
	}
	return o.err
}

// flush writes what has been collected.
func (o *output) flush() error {
	if o.err != nil {
		return o.err
	}
	if len(o.buf) > 0 {
		if _, err := o.w.Write(o.buf); err != nil {
			o.err = fmt.Errorf("output: %w", err)
			return o.err
		}
		o.buf = o.buf[:0]
	}
	if o.done != nil {
		o.err = o.done(o.line)
	}
	return o.err
}

// summary writes the totals.
func (o *output) summary(took time.Duration) error {
	s := max(took.Seconds(), 1e-9)
	o.buf = fmt.Appendf(o.buf, `{"commands":%d,"trades":%d,"volume":%d,"events":%d,"seconds":%.6f,"commands_per_second":%.0f}`+"\n",
		o.events, o.trades, o.volume, o.events, s, float64(o.events)/s)
	return o.flush()
}
