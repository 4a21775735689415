package pubsubtest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/levada-go/levada/pubsub"
)

// A Network connects buses of one process. The zero Network is ready for use and
// has no faults. It must not be copied, and is safe for concurrent use.
type Network struct {
	// Copies, if set, returns how often a message is delivered to each subscription:
	// 0 loses it, 2 duplicates it. It is set before the first use.
	Copies func(topic string, message []byte) int

	mu   sync.Mutex
	subs map[string][]*subscription // by topic; the slices are never changed
}

// Connect returns a new connection to the network. Messages are delivered to other
// connections only, in the goroutine of the publisher, before Publish returns.
func (n *Network) Connect() pubsub.Transport { return &connection{network: n} }

// Subscriptions returns how many subscriptions to a topic the connections of the
// network have.
func (n *Network) Subscriptions(topic string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.subs[topic])
}

type connection struct{ network *Network }

type subscription struct {
	of      *connection
	mu      sync.Mutex // one call of deliver at a time
	deliver func([]byte)
	ended   atomic.Bool
}

func (c *connection) Publish(ctx context.Context, topic string, message []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := c.network
	copies := 1
	if n.Copies != nil {
		copies = n.Copies(topic, message)
	}
	n.mu.Lock()
	subs := n.subs[topic]
	n.mu.Unlock()
	for _, s := range subs {
		if s.of == c {
			continue
		}
		for range copies {
			s.take(slices.Clone(message))
		}
	}
	return nil
}

func (s *subscription) take(message []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended.Load() {
		s.deliver(message)
	}
	for i := range message { // so that whoever keeps it is found out
		message[i] = 0xff
	}
}

func (c *connection) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &subscription{of: c, deliver: deliver}
	n := c.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = map[string][]*subscription{}
	}
	n.subs[topic] = append(slices.Clip(n.subs[topic]), s)
	return func() {
		s.ended.Store(true)
		n.mu.Lock()
		defer n.mu.Unlock()
		left := slices.DeleteFunc(slices.Clone(n.subs[topic]), func(o *subscription) bool { return o == s })
		if n.subs[topic] = left; len(left) == 0 {
			delete(n.subs, topic)
		}
	}, nil
}
