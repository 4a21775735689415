package presence

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Conn is one connection of a user, such as a WebSocket, and holds what it tracks.
// It is safe for concurrent use.
type Conn struct {
	p       *Presence
	tracked map[place]*local
	closed  bool
}

// Connect returns a connection that tracks nothing yet. It costs nothing until it does.
func (p *Presence) Connect() *Conn {
	return &Conn{p: p, tracked: map[place]*local{}}
}

// Track says that key is present in topic, with what the JSON of meta says about it.
// Any number of connections may track the same key; each adds a meta of its own.
//
// If an entry of the same topic and key is in its time of grace, because its
// connection was closed less than Options.Grace ago, it is taken over: nobody sees a
// leave, and an update only if meta differs.
//
// Track fails with ErrTracked if this connection tracks the key in the topic already,
// with ErrInvalid for a bad name or a meta that is too large or has no JSON, and with
// ErrClosed. After an error nothing has changed.
func (c *Conn) Track(topic, key string, meta any) (Ref, error) {
	if err := checkName("topic", topic); err != nil {
		return Ref{}, err
	}
	if err := checkName("key", key); err != nil {
		return Ref{}, err
	}
	text, err := c.p.encode(meta)
	if err != nil {
		return Ref{}, err
	}
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.closed || p.closed {
		return Ref{}, fmt.Errorf("track %q in %q: %w", key, topic, ErrClosed)
	}
	at := place{topic, key}
	if c.tracked[at] != nil {
		return Ref{}, fmt.Errorf("%w: %q in %q", ErrTracked, key, topic)
	}
	l := p.adopt(at)
	if l == nil {
		ref, err := uuid.NewV7()
		if err != nil {
			return Ref{}, fmt.Errorf("presence: make a ref: %w", err)
		}
		l = &local{place: at, ref: Ref(ref)}
		p.tracked[l.ref] = l
	}
	c.tracked[at] = l
	p.put(l, text)
	return l.ref, nil
}

// Update replaces the meta of a tracked key. Subscribers see it as one diff with
// the old meta among the leaves and the new one among the joins, under the same Ref;
// a meta with the same JSON changes nothing. It fails with ErrNotTracked, ErrInvalid
// or ErrClosed, and then nothing has changed.
func (c *Conn) Update(topic, key string, meta any) error {
	text, err := c.p.encode(meta)
	if err != nil {
		return err
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	l, err := c.find(topic, key)
	if err != nil {
		return err
	}
	c.p.put(l, text)
	return nil
}

// Untrack takes the key out of the topic at once. It fails with ErrNotTracked or ErrClosed.
func (c *Conn) Untrack(topic, key string) error {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	l, err := c.find(topic, key)
	if err != nil {
		return err
	}
	delete(c.tracked, l.place)
	c.p.remove(l)
	return nil
}

// UntrackAll takes all that the connection tracks out at once, without a time of
// grace: the user said goodbye. The connection can go on to track.
func (c *Conn) UntrackAll() {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if c.p.closed {
		return
	}
	for at, l := range c.tracked {
		delete(c.tracked, at)
		c.p.remove(l)
	}
}

// Close ends the connection. What it tracks leaves after Options.Grace, unless
// another connection of this node tracks the same key in the same topic by then.
// Closing again is a no-op.
func (c *Conn) Close() {
	p := c.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.closed || p.closed {
		return
	}
	c.closed = true
	for at, l := range c.tracked {
		delete(c.tracked, at)
		if p.opts.Grace < 0 {
			p.remove(l)
			continue
		}
		l.until = time.Now().Add(p.opts.Grace)
		p.orphans[at] = append(p.orphans[at], l)
		p.queue = append(p.queue, leaving{l, l.until})
		p.wake(l.until)
	}
}

// place is where an entry is shown.
type place struct{ topic, key string }

// local is an entry of a connection of this node.
type local struct {
	place
	ref   Ref
	until time.Time // the end of its time of grace, if it is in one
}

// leaving is the end of a time of grace; void if the entry was taken over since.
type leaving struct {
	*local
	at time.Time
}

func (c *Conn) find(topic, key string) (*local, error) {
	if c.closed || c.p.closed {
		return nil, fmt.Errorf("%q in %q: %w", key, topic, ErrClosed)
	}
	l := c.tracked[place{topic, key}]
	if l == nil {
		return nil, fmt.Errorf("%w: %q in %q", ErrNotTracked, key, topic)
	}
	return l, nil
}

func (p *Presence) encode(meta any) (string, error) {
	b, err := json.Marshal(meta)
	if err != nil {
		return "", fmt.Errorf("%w: meta: %w", ErrInvalid, err)
	}
	if len(b) > p.opts.MetaBytes {
		return "", fmt.Errorf("%w: meta of %d bytes, limit %d", ErrInvalid, len(b), p.opts.MetaBytes)
	}
	return string(b), nil
}

// adopt takes the oldest orphan of the place, if there is one.
func (p *Presence) adopt(at place) *local {
	waiting := p.orphans[at]
	if len(waiting) == 0 {
		return nil
	}
	l := waiting[0]
	p.forsake(l)
	return l
}

// forsake ends a time of grace.
func (p *Presence) forsake(l *local) {
	l.until = time.Time{}
	rest := slices.DeleteFunc(p.orphans[l.place], func(o *local) bool { return o == l })
	if len(rest) == 0 {
		delete(p.orphans, l.place)
		return
	}
	p.orphans[l.place] = rest
}

// graceOver lets those leave whose connection did not come back.
func (p *Presence) graceOver(now time.Time) {
	for len(p.queue) > 0 && !p.queue[0].at.After(now) {
		first := p.queue[0]
		p.queue[0] = leaving{}
		p.queue = p.queue[1:]
		if first.until.Equal(first.at) {
			p.forsake(first.local)
			p.remove(first.local)
		}
	}
}

// put makes the own row say meta for l.
func (p *Presence) put(l *local, meta string) {
	own := p.rows[p.self]
	if have, ok := own.entries[l.ref]; ok && have.meta == meta {
		return
	}
	p.commit(change{ref: l.ref, set: true, entry: entry{place: l.place, meta: meta}})
}

// remove takes l out of the own row.
func (p *Presence) remove(l *local) {
	delete(p.tracked, l.ref)
	p.commit(change{ref: l.ref})
}

// commit applies a change to the own row and lets the others know within Options.Flush.
func (p *Presence) commit(c change) {
	own := p.rows[p.self]
	p.apply(own, c)
	if p.opts.Transport == nil {
		return
	}
	p.changes = append(p.changes, c)
	if over := len(p.changes) - p.opts.Log; over > 0 {
		clear(p.changes[:over]) // lets go of the metas
		p.changes = p.changes[over:]
	}
	if p.flushAt.IsZero() {
		p.flushAt = time.Now().Add(p.opts.Flush)
		p.wake(p.flushAt)
	}
}
