package pubsub

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
)

// A group is the subscriptions of one bus to one topic. It begins with the first
// and is thrown away with the last; a later one begins another group, which
// therefore need not wait until the transport has forgotten this one.
type group[T any] struct {
	bus   *Bus
	topic Topic[T] // the first subscriber's, whose codec decodes

	holds int // subscriptions and those who want to be; guarded by the shard

	ready       chan struct{} // closed when the following are set
	unsubscribe func()
	err         error
	gaveUp      bool // err came when the ctx of the one who tried had ended

	mu     sync.Mutex
	subs   []*Subscription[T] // each knows its index
	closed bool
	list   atomic.Pointer[[]*Subscription[T]] // a copy of subs, nil after a change

	in    sync.Mutex // messages of other nodes are taken one at a time
	last  map[uuid.UUID]heard
	clock uint64
}

// heard is what is remembered of a node: its highest number, and when that came.
type heard struct{ number, clock uint64 }

// maxNodes bounds how many nodes a group remembers the last number of. Beyond it
// the one not heard of for longest is forgotten.
const maxNodes = 1024

// start subscribes the bus to the topic, if there are others to hear from.
func (g *group[T]) start(ctx context.Context) {
	defer close(g.ready)
	if g.bus.transport == nil {
		return
	}
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(g.bus.ctx, func() { cancel(ErrClosed) })()
	g.unsubscribe, g.err = g.bus.transport.Subscribe(bounded, g.topic.Name, g.deliver)
	if g.err != nil {
		g.gaveUp = ctx.Err() != nil
		g.forget() // the next one tries again
	}
}

// forget takes the group off the bus.
func (g *group[T]) forget() {
	sh := g.bus.shard(g.topic.Name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.groups[g.topic.Name] == member(g) {
		delete(sh.groups, g.topic.Name)
	}
}

// release ends a hold. The last one ends the group.
func (g *group[T]) release() {
	sh := g.bus.shard(g.topic.Name)
	sh.mu.Lock()
	g.holds--
	last := g.holds == 0
	if last && sh.groups[g.topic.Name] == member(g) {
		delete(sh.groups, g.topic.Name)
	}
	sh.mu.Unlock()
	if last && g.unsubscribe != nil {
		g.unsubscribe()
	}
}

// add makes s a subscription of the group, unless that was closed.
func (g *group[T]) add(s *Subscription[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	s.index = len(g.subs)
	g.subs = append(g.subs, s)
	g.list.Store(nil)
	return true
}

// remove is called once for each s that was added.
func (g *group[T]) remove(s *Subscription[T]) {
	g.mu.Lock()
	end := len(g.subs) - 1
	moved := g.subs[end]
	g.subs[s.index], moved.index = moved, s.index
	g.subs[end] = nil
	g.subs = g.subs[:end]
	g.list.Store(nil)
	g.mu.Unlock()
	g.release()
}

// close ends every subscription with err.
func (g *group[T]) close(err error) {
	g.mu.Lock()
	g.closed = true
	subs := slices.Clone(g.subs)
	g.mu.Unlock()
	for _, s := range subs {
		s.finish(err, false)
	}
}

// members returns the subscriptions, in a slice that is never changed. It is
// copied at the first use after a change, not at each change, so that n
// subscribers who come at once cost n, not n².
func (g *group[T]) members() []*Subscription[T] {
	if l := g.list.Load(); l != nil {
		return *l
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l := slices.Clone(g.subs)
	g.list.Store(&l)
	return l
}

// send puts v into every mailbox but the sender's.
func (g *group[T]) send(v T, sender *Subscription[T]) {
	members := g.members()
	if len(members) == 0 {
		return
	}
	one := []T{v} // shared by all whose mailbox is empty; no room to append
	for _, s := range members {
		if s != sender {
			s.put(one)
		}
	}
}

// deliver takes a message from the transport.
func (g *group[T]) deliver(message []byte) {
	b := g.bus
	if len(message) > b.max {
		b.reject(g.topic.Name, ErrTooLarge)
		return
	}
	node, number, payload, err := parseEnvelope(message)
	if err != nil {
		b.reject(g.topic.Name, err)
		return
	}
	if node == b.node {
		return // delivered when it was published
	}
	g.in.Lock()
	defer g.in.Unlock()
	if number <= g.last[node].number {
		return // a duplicate, or overtaken: at most once, and in order
	}
	g.hear(node, number)
	v, err := unmarshal(g.topic.codec(), payload)
	if err != nil {
		b.reject(g.topic.Name, err)
		return
	}
	g.send(v, nil)
}

// hear remembers the number of a node.
func (g *group[T]) hear(node uuid.UUID, number uint64) {
	if g.last == nil {
		g.last = map[uuid.UUID]heard{}
	}
	g.clock++
	g.last[node] = heard{number: number, clock: g.clock}
	if len(g.last) <= maxNodes {
		return
	}
	oldest, at := node, g.clock
	for n, h := range g.last {
		if h.clock < at {
			oldest, at = n, h.clock
		}
	}
	delete(g.last, oldest)
}
