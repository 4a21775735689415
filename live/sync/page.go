package sync

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/live"
)

// Wrote tells that what this page does now has been written up to a position of the store. The acknowledgement of
// the event that is being handled, and rendering, wait until all that the page is bound to has come as far, or
// [live.Options].HoldTimeout has passed. Over HTTP it returns when that is so. What is bound to a projection that
// is stopped, or cannot be read, is not waited for. 0 waits for nothing.
func Wrote(ctx *live.Ctx, pos eventstore.Position) { pageOf(ctx).wrote(pos) }

// Dispatch is [command.Dispatch] from a page, followed by [Wrote]: the event that is being handled is acknowledged
// when the page shows what the command did.
func Dispatch(ctx *live.Ctx, h command.Handler, cmd command.Command, opts ...command.Option) (command.Result, error) {
	res, err := command.Dispatch(ctx, h, cmd, opts...)
	if err == nil || errors.Is(err, command.ErrNotAwaited) {
		Wrote(ctx, res.Position)
	}
	return res, err
}

// host is what is needed of a live.Ctx.
type host interface {
	context.Context
	Connected() bool
	Hold(reached func() bool)
	Position(p uint64)
	LastPosition() uint64
}

// A page is what is known of one page: its bindings. Its funcs are called as funcs of the view.
type page struct {
	host    host
	wake    chan struct{} // one slot
	receive func()        // begins to call apply for what comes from wake

	mu       sync.Mutex // guards bindings against close
	bindings []*Binding // in the order in which they were made
	closed   bool

	min      eventstore.Position // nothing older is to be shown
	checked  bool                // min holds what was shown before
	told     eventstore.Position
	applying bool
}

// pages holds the pages that have bindings. A view is only known by its Ctx here.
var pages sync.Map // *live.Ctx → *page

func pageOf(ctx *live.Ctx) *page {
	if p, ok := pages.Load(ctx); ok {
		return p.(*page)
	}
	p := newPage(ctx)
	p.receive = func() { live.Receive(ctx, p.wake, func(struct{}) { p.apply() }) }
	pages.Store(ctx, p)
	context.AfterFunc(ctx, func() {
		pages.Delete(ctx)
		p.close()
	})
	return p
}

func newPage(h host) *page {
	return &page{host: h, wake: make(chan struct{}, 1)}
}

// close ends all bindings. It is called by any goroutine.
func (p *page) close() {
	p.mu.Lock()
	bindings := p.bindings
	p.bindings, p.closed = nil, true
	p.mu.Unlock()
	for _, b := range bindings {
		b.end()
	}
}

// bind puts b in place of what its field was bound to.
func (p *page) bind(b *Binding) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		b.end()
		b.fail(context.Cause(p.host))
		return
	}
	old := p.find(b.field)
	p.bindings = append(slices.DeleteFunc(p.bindings, func(o *Binding) bool { return o == old }), b)
	begin := p.receive
	if begin != nil && p.host.Connected() {
		p.receive = nil
	} else {
		begin = nil
	}
	p.mu.Unlock()
	if old != nil {
		old.end()
	}
	if begin != nil {
		begin()
	}
}

// bound returns what the field is bound to, or nil.
func (p *page) bound(field any) *Binding {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.find(field)
}

func (p *page) find(field any) *Binding {
	for _, b := range p.bindings {
		if b.field == field {
			return b
		}
	}
	return nil
}

func (p *page) unbind(b *Binding) {
	p.mu.Lock()
	p.bindings = slices.DeleteFunc(p.bindings, func(o *Binding) bool { return o == b })
	p.mu.Unlock()
	b.end()
}

func (p *page) list() []*Binding {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.bindings)
}

// signal makes the page apply what has changed. It never blocks.
func (p *page) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// apply brings the fields up to date.
func (p *page) apply() {
	if p.applying {
		return // called by an OnChange: what is outer goes on
	}
	p.applying = true
	defer func() { p.applying = false }()
	for _, b := range p.list() {
		if !b.ended.Load() && b.refresh() {
			b.changed()
		}
	}
	p.position()
}

// position tells the client up to where the page is current.
func (p *page) position() {
	first := true
	var at eventstore.Position
	for _, b := range p.list() {
		if first || b.at < at {
			at, first = b.at, false
		}
	}
	if at > p.told {
		p.told = at
		p.host.Position(uint64(at))
	}
}

// floor returns the position that what is shown must not be older than.
func (p *page) floor(store *eventstore.Store) eventstore.Position {
	if !p.checked {
		p.checked = true
		if last := eventstore.Position(p.host.LastPosition()); last > p.min {
			// A store that is not there yet is another one than the page was shown, such as one in
			// memory after a restart.
			if head, err := store.Head(p.host); err != nil || last <= head {
				p.min = last
			}
		}
	}
	return p.min
}

func (p *page) wrote(pos eventstore.Position) {
	if pos == 0 {
		return
	}
	p.min = max(p.min, pos)
	if !p.host.Connected() {
		for _, b := range p.list() {
			if b.again(pos) {
				b.changed()
			}
		}
		return
	}
	if !p.reached(pos) {
		p.host.Hold(func() bool { return p.reached(pos) })
	}
}

// reached reports whether the fields show everything up to pos.
func (p *page) reached(pos eventstore.Position) bool {
	all := true
	for _, b := range p.list() {
		if b.ended.Load() || b.at >= pos || b.Err() != nil {
			continue
		}
		b.until(pos)
		if b.refresh() { // it may have got there before it was asked to tell
			b.changed()
		}
		if b.at < pos && b.Err() == nil {
			all = false
		}
	}
	p.position()
	return all
}
