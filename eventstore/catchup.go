package eventstore

import (
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// CatchUps are the subscribers that are behind the tail: members of consumers, projections, pages. Each has a
// cursor and a goroutine of its own. Those that read the same (a filter, and as much at a time) are often near each
// other; what one of them has read and decoded the others find here.
//
//	                 ┌───────── stretches kept ─────────┐
//	··· ─────────────┤  after…next │ after…next │ after… ├◄── read, decode ◄── driver
//	        ▲        └───▲──────────▲────────────▲──────┘
//	  far behind:     behind: finds what it wants   ahead: begins the next read
//	  reads alone
//
// Nobody waits for who is slower. That they stay together needs no rule: who is ahead waits for the
// store, who is behind does not, and catches up. One whose handlers are what takes the time falls out of what is kept,
// and reads for itself, as one that comes later does until it is there.
type catchUps struct {
	s     *Store
	slots chan struct{} // of reads under way

	mu      sync.Mutex
	readers map[string]int // subscribers, by what they read
	kept    []*stretch     // the last ones that several may want, in the order in which their reads began
	bytes   int            // of them
	reads   uint64         // begun so far
}

const (
	maxCatchUps   = 8                // reads at once
	keepStretches = 32               // and at most keepBytes
	shareTime     = 10 * time.Second // for which a read of somebody else is waited for
)

// A stretch is a page of the log that somebody who is behind reads.
type stretch struct {
	what   string
	number uint64
	by     *catchUp
	after  Position

	read  chan struct{} // closed when what follows is known
	next  Position      // it reaches up to here; before it is read, the least to expect
	more  bool          // there seems to be more
	bytes int

	done   chan struct{} // closed when what follows is known
	events []*Recorded
	err    error
}

// A catchUp is what one subscriber that is behind reads.
type catchUp struct {
	c      *catchUps
	sub    *subscriber
	filter driver.Filter
	what   string   // the same for all that can share
	ahead  *stretch // that comes next, if it was begun
}

func (c *catchUps) init(s *Store) {
	c.s = s
	c.slots = make(chan struct{}, maxCatchUps)
	c.readers = map[string]int{}
}

func (c *catchUps) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}

// catchUp feeds a subscriber that is behind from the store until it can join
// the tail again.
func (t *tail) catchUp(sub *subscriber) {
	backoff := minPoll
	var r *catchUp
	for {
		t.mu.Lock()
		joined := t.join(sub)
		ended := sub.ended
		if ended {
			// The end was declared while this goroutine was the sender.
			sub.close()
		}
		t.mu.Unlock()
		if joined || ended {
			return
		}
		if r == nil {
			r = t.catchUps.add(sub)
			defer t.catchUps.remove(r)
		}
		b, err := r.next(sub.after)
		if err != nil {
			if sub.ctx.Err() != nil {
				continue
			}
			t.s.opt.Logger.Warn("eventstore: a subscription cannot read", "err", err, "retry", backoff)
			sleep(sub.ctx, backoff)
			backoff = min(2*backoff, maxBackoff)
			continue
		}
		backoff = minPoll
		if b.Position == sub.after && len(b.Events) == 0 {
			// The tail is ahead of what the driver shows: rare, and over soon.
			sleep(sub.ctx, minPoll)
			continue
		}
		if err := sub.send(b.Events, b.Position); err != nil {
			t.end(sub, err)
		}
	}
}

func (c *catchUps) add(sub *subscriber) *catchUp {
	r := &catchUp{c: c, sub: sub, filter: c.s.driverFilter(sub.filter)}
	f := sub.filter
	r.what = fmt.Sprintf("%d %t %t %q %q %q %q", sub.page(c.s), system.IsRaw(sub.ctx), f.System, f.Streams, f.Categories, f.Types, r.filter.Types)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readers[r.what]++
	return r
}

func (c *catchUps) remove(r *catchUp) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.readers[r.what]--; c.readers[r.what] > 0 {
		return
	}
	delete(c.readers, r.what)
	for _, p := range slices.Clone(c.kept) {
		if p.what == r.what {
			c.drop(p)
		}
	}
}

// next returns what comes after a position. While it is decoded and sent, what comes
// after that is read, if there seems to be more.
func (r *catchUp) next(after Position) (Batch[*Recorded], error) {
	p := r.ahead
	r.ahead = nil
	for ; ; p = nil {
		if p == nil {
			p = r.c.stretch(r, after)
		}
		came := r.wait(p, p.read)
		if came && p.next <= after && p.by != r {
			continue // it is shorter than was expected
		}
		var ahead *stretch
		if came && p.more {
			ahead = r.c.stretch(r, p.next)
		}
		switch {
		case came && r.wait(p, p.done) && p.err == nil:
			r.ahead = ahead
			n := sort.Search(len(p.events), func(i int) bool { return p.events[i].Position > after })
			return Batch[*Recorded]{p.events[n:], p.next}, nil
		case r.sub.ctx.Err() != nil:
			return Batch[*Recorded]{}, r.sub.ctx.Err()
		case p.by == r:
			return Batch[*Recorded]{}, p.err
		}
		// Somebody else's read failed, perhaps because that one has left, or takes too long.
		r.c.forget(p)
	}
}

// wait waits for a part of a stretch.
func (r *catchUp) wait(p *stretch, part <-chan struct{}) bool {
	var limit <-chan time.Time
	if p.by != r {
		timer := time.NewTimer(shareTime)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case <-part:
		return true
	case <-r.sub.ctx.Done():
	case <-limit:
	}
	return false
}

// stretch returns what has the first event after a position, which others may have read or be about to read.
func (c *catchUps) stretch(r *catchUp, after Position) *stretch {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.kept {
		// What was read before the subscription began may be older than what its user knows of.
		if p.what == r.what && p.number > r.sub.since && p.has(after) {
			return p
		}
	}
	c.reads++
	p := &stretch{what: r.what, number: c.reads, by: r, after: after, read: make(chan struct{}), done: make(chan struct{})}
	p.next = after + Position(r.sub.page(c.s))
	if c.readers[r.what] > 1 {
		c.keep(p)
	}
	go c.fill(p)
	return p
}

func (c *catchUps) fill(p *stretch) {
	defer close(p.done)
	ctx := p.by.sub.ctx
	stored, err := c.read(p)
	close(p.read)
	if err == nil {
		p.events = c.s.matching(p.by.sub.filter, c.s.decodePage(ctx, stored, driver.Forward))
		err = ctx.Err() // decoding may have failed because of it
	}
	if p.err = err; err != nil {
		c.forget(p)
	}
}

// read reads a page when it is its turn.
func (c *catchUps) read(p *stretch) (stored []driver.Recorded, err error) {
	sub := p.by.sub
	found := page{next: uint64(p.after)}
	select {
	case c.slots <- struct{}{}:
		found, err = c.s.readAll(sub.ctx, sub.filter, p.by.filter, found.next, driver.Forward, sub.page(c.s))
		<-c.slots
	case <-sub.ctx.Done():
		err = sub.ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.next = Position(found.next)
	p.more = len(found.stored) == sub.page(c.s)
	for i := range found.stored {
		p.bytes += len(found.stored[i].Data)
	}
	if slices.Contains(c.kept, p) {
		c.bytes += p.bytes
		c.trim()
	}
	return found.stored, nil
}

// has reports whether p holds what comes after a position. It is called with the lock held.
func (p *stretch) has(after Position) bool {
	return p.after <= after && after < p.next
}

// keep lets others find p. It is called with the lock held, as are those that follow.
func (c *catchUps) keep(p *stretch) {
	c.kept = append(c.kept, p)
	c.trim()
}

func (c *catchUps) trim() {
	for len(c.kept) > keepStretches || c.bytes > keepBytes {
		c.drop(c.kept[0])
	}
}

func (c *catchUps) drop(p *stretch) {
	if i := slices.Index(c.kept, p); i >= 0 {
		c.kept = slices.Delete(c.kept, i, i+1)
		c.bytes -= p.bytes
	}
}

func (c *catchUps) forget(p *stretch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(p)
}
