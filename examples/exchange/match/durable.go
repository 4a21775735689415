package match

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync/atomic"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/examples/exchange/orderbook"
	"github.com/levada-go/levada/internal/storeurl"
)

// symbol is the market whose book a run is about: there is one.
const symbol = "match"

var stream = eventstore.Stream(orderbook.Books.Name, symbol)

// maxEvent bounds the event of one command, in bytes, where the store is a file; others
// have bounds of their own. One order can take a whole side of a book.
const maxEvent = 32 << 20

// A durable is the engine that has every command stored as an event. One
// goroutine, that of run.lines, submits commands; another waits for them in
// order and writes their results.
type durable struct {
	*run
	ctx   context.Context // of commands, which are finished even if the run ends early
	store *eventstore.Store
	books *aggregate.Repository[orderbook.Book]
	notes *notes

	slots  chan struct{} // one for each command under way
	queue  chan flight
	done   chan struct{}
	failed atomic.Pointer[error] // the first failure of the results goroutine

	// The run that is continued.
	old      orderbook.Mark // of its last durable command
	commands eventstore.Version
	written  uint64 // the line up to which its results were written
	seen     eventstore.Version
	verified bool // that the input is the same as far as old
	replay   *replay
}

// A flight is a command under way or, without one, a mark in the queue.
type flight struct {
	line    uint64
	pending *command.Pending
	reached chan struct{}
}

var (
	errNotEmpty = errors.New("the store already holds a run: continue it with -resume, or name another file")
	errOther    = errors.New("the input or -stp is not that of the run in the store")
)

// openDurable opens the store that r names and finds out what of an earlier run
// is in it.
func openDurable(r *run) (_ *durable, err error) {
	d := &durable{run: r, ctx: context.Background(), slots: make(chan struct{}, r.inflight),
		queue: make(chan flight, r.inflight), done: make(chan struct{})}
	path, file := strings.CutPrefix(r.store, "sqlite:")
	options := eventstore.Options{Codecs: []eventstore.Codec{orderbook.Codec}}
	if file {
		d.store, err = sqlitestore.Open(path, &sqlitestore.Options{EventBytes: maxEvent, Store: options})
	} else {
		d.store, err = storeurl.Open(d.ctx, r.store, &options)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.notes.close()
			d.store.Close()
		}
	}()
	if d.books, err = aggregate.New(d.store, orderbook.Books); err != nil {
		return nil, err
	}
	if err := d.books.View(d.ctx, symbol, func(b *orderbook.Book, v eventstore.Version) { d.old, d.commands = b.Mark(), v }); err != nil {
		return nil, err
	}
	head, err := d.store.Head(d.ctx)
	switch {
	case err != nil:
		return nil, err
	case head > 0 && d.commands == 0:
		return nil, fmt.Errorf("the store in %s holds something else", strings.TrimPrefix(storeurl.Describe(r.store), "sqlite:"))
	case head > 0 && !r.resume:
		return nil, errNotEmpty
	}
	if file {
		if d.notes, err = openNotes(path+".out", d.commands > 0); err != nil {
			return nil, err
		}
		d.written = d.notes.line
		r.out.done = d.notes.write
	}
	d.verified = d.commands == 0
	r.reported = d.old.Line
	go d.results()
	return d, nil
}

func (d *durable) do(q *request) error {
	if err := d.failed.Load(); err != nil {
		return *err
	}
	c, ref := d.command(q)
	mark := orderbook.Mark{Line: d.in.line, Sum: d.in.sum}
	if mark.Line <= d.old.Line {
		return d.again(mark)
	}
	if !d.verified {
		return errOther
	}
	var cmd aggregate.Command[orderbook.Book]
	switch c.Op {
	case book.Place:
		cmd = orderbook.Place{Symbol: symbol, Mark: mark, Ref: ref, ID: c.ID, Owner: c.Owner, Side: c.Side, Type: c.Type,
			TIF: c.TIF, STP: c.STP, PostOnly: c.PostOnly, Qty: c.Qty, Price: c.Price, Stop: c.Stop}
	case book.Cancel:
		cmd = orderbook.Cancel{Symbol: symbol, Mark: mark, Ref: ref, ID: c.ID, Owner: c.Owner}
	default:
		cmd = orderbook.Modify{Symbol: symbol, Mark: mark, Ref: ref, ID: c.ID, Owner: c.Owner, Fields: c.Fields,
			Qty: c.Qty, Price: c.Price, Stop: c.Stop}
	}
	d.slots <- struct{}{}
	d.queue <- flight{line: mark.Line, pending: d.books.Submit(d.ctx, cmd)}
	return nil
}

// results writes what became of the commands, in order. After a failure it only
// waits for them.
func (d *durable) results() {
	defer close(d.done)
	fail := func(err error) {
		if err != nil && d.failed.Load() == nil {
			d.failed.Store(&err)
		}
	}
	for f := range d.queue {
		if f.pending == nil {
			close(f.reached)
			continue
		}
		res, err := f.pending.Wait(d.ctx)
		<-d.slots
		switch {
		case d.failed.Load() != nil:
		case err != nil:
			fail(fmt.Errorf("line %d: %w", f.line, err))
		default:
			fail(d.out.decided(res.Events[0].(orderbook.Decided)))
			if len(d.queue) == 0 {
				fail(d.out.flush())
			}
		}
	}
}

// settle waits until the results of all commands so far have been written, or
// writing has failed.
func (d *durable) settle() error {
	reached := make(chan struct{})
	d.queue <- flight{reached: reached}
	<-reached
	if err := d.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (d *durable) book(depth int) error {
	if err := d.settle(); err != nil {
		return err
	}
	switch {
	case d.in.line <= d.written:
		return nil
	case d.in.line < d.old.Line:
		return d.replayed().book(depth)
	}
	return d.show(depth)
}

func (d *durable) final() error {
	if err := d.settle(); err != nil {
		return err
	}
	if !d.verified && d.in.line < d.old.Line {
		return fmt.Errorf("%w: it ends before line %d", errOther, d.old.Line)
	}
	return d.show(0)
}

// show writes the book as it is now.
func (d *durable) show(depth int) error {
	if !d.verified {
		return errOther
	}
	var err error
	view := d.books.View(d.ctx, symbol, func(b *orderbook.Book, _ eventstore.Version) {
		err = d.out.book(d.in.line, b.Live(), depth)
	})
	if view != nil {
		return view
	}
	if err != nil {
		return err
	}
	return d.out.flush()
}

// idle has nothing to do once commands are being submitted: results flushes when
// it has written all there is.
func (d *durable) idle() error {
	if d.in.line <= d.old.Line {
		return d.out.flush()
	}
	return nil
}

func (d *durable) finish() error {
	if err := d.settle(); err != nil {
		return err
	}
	return d.out.flush()
}

func (d *durable) close() error {
	close(d.queue)
	<-d.done
	if d.replay != nil {
		d.replay.stop()
	}
	return errors.Join(d.notes.close(), d.store.Close())
}

// decided writes the results of a stored command.
func (o *output) decided(d orderbook.Decided) error {
	o.stored = book.Event{Command: d.Command, Reason: d.Reason, Effects: d.Effects}
	return o.event(d.Mark.Line, &o.stored)
}

// again deals with a command that an earlier run has executed.
func (d *durable) again(m orderbook.Mark) error {
	d.seen++
	if m.Line == d.old.Line {
		if d.verified = m == d.old && d.seen == d.commands; !d.verified {
			return errOther
		}
	}
	if m.Line <= d.written {
		return nil
	}
	return d.replayed().event(m)
}

func (d *durable) replayed() *replay {
	if d.replay == nil {
		d.replay = &replay{durable: d, stop: func() {}}
	}
	return d.replay
}

// A replay writes the results of commands that an earlier run has executed. As
// every command has one event, the number of the command is the version of its
// event.
type replay struct {
	*durable
	next func() (*eventstore.Recorded, error, bool)
	stop func()
	now  *orderbook.Book // nil until it is asked for
}

// event writes the results of the latest command seen.
func (r *replay) event(m orderbook.Mark) error {
	if r.next == nil {
		r.next, r.stop = iter.Pull2(r.store.ReadStream(r.ctx, stream, r.seen-1))
	}
	rec, err, ok := r.next()
	if err != nil {
		return err
	}
	if !ok {
		return errOther
	}
	e, ok := rec.Data.(orderbook.Decided)
	if !ok || e.Mark != m {
		return errOther
	}
	if r.now != nil {
		e.Apply(r.now)
	}
	return r.out.decided(e)
}

// book writes the book behind the latest command seen.
func (r *replay) book(depth int) error {
	if r.now == nil {
		r.now = new(orderbook.Book)
		for rec, err := range r.store.ReadStream(r.ctx, stream, 0) {
			if err != nil {
				return err
			}
			if rec.Version > r.seen {
				break
			}
			e, ok := rec.Data.(orderbook.Decided)
			if !ok {
				return errOther
			}
			e.Apply(r.now)
		}
	}
	return r.out.book(r.in.line, r.now.Live(), depth)
}

// notes remembers, in a file beside the store, up to which line all results have
// been written. It is written after every write of results, without waiting for
// the disk: it survives the end of the process.
type notes struct {
	f    *os.File
	line uint64
}

// openNotes opens the notes of a run, and begins new ones unless keep is set.
func openNotes(path string, keep bool) (*notes, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	n := &notes{f: f}
	if !keep {
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
		return n, nil
	}
	var b [8]byte
	switch _, err := f.ReadAt(b[:], 0); err {
	case nil:
		n.line = binary.LittleEndian.Uint64(b[:])
	case io.EOF: // the run ended before it wrote anything
	default:
		f.Close()
		return nil, err
	}
	return n, nil
}

func (n *notes) write(line uint64) error {
	if line <= n.line {
		return nil
	}
	n.line = line
	_, err := n.f.WriteAt(binary.LittleEndian.AppendUint64(nil, line), 0)
	return err
}

func (n *notes) close() error {
	if n == nil {
		return nil
	}
	return n.f.Close()
}
