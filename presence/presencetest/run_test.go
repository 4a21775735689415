package presencetest_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/levada-go/levada/presence"
	"github.com/levada-go/levada/presence/presencetest"
)

// network delivers at once, in the goroutine of the sender.
type network struct {
	mu    sync.Mutex
	nodes map[string]func([]byte)
}

type port struct {
	net  *network
	node string
}

func (p *port) Start(node string, receive func([]byte), _ func(bool)) error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.node, p.net.nodes[node] = node, receive
	return nil
}

func (p *port) Broadcast(frame []byte) error {
	p.net.mu.Lock()
	var to []func([]byte)
	for node, receive := range p.net.nodes {
		if node != p.node {
			to = append(to, receive)
		}
	}
	p.net.mu.Unlock()
	for _, receive := range to {
		receive(frame)
	}
	return nil
}

var errNobody = errors.New("nobody is there")

func (p *port) Send(node string, frame []byte) error {
	p.net.mu.Lock()
	receive := p.net.nodes[node]
	p.net.mu.Unlock()
	if receive == nil {
		return errNobody
	}
	receive(frame)
	return nil
}

func (p *port) Stop() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	delete(p.net.nodes, p.node)
	return nil
}

func TestRunAcceptsATransportThatDeliversAtOnce(t *testing.T) {
	t.Parallel()
	presencetest.Run(t, func(_ *testing.T, n int) []presence.Transport {
		net := &network{nodes: map[string]func([]byte){}}
		var all []presence.Transport
		for range n {
			all = append(all, &port{net: net})
		}
		return all
	})
}
