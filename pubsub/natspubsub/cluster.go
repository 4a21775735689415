package natspubsub

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/internal/natswire"
)

// Subjects of what transports tell each other. No topic has such a token: "=" is
// followed by two hex digits there.
const (
	helloSubject  = "=hello" // to all: the ID of the sender's server
	serverSubject = "=at."   // and the ID of a server: to one of the transports there
)

// Times of what transports tell each other.
const (
	helloEvery = 10 * time.Second // between hellos, in the long run
	answerTime = time.Second      // for which a server is waited for
	silence    = 5 * time.Minute  // after which a server is forgotten
)

// earlyHellos follow the first. Two transports that begin at the same time may
// miss each other's first.
var earlyHellos = []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, time.Second}

// begin has the others know of the transport, and the transport of them.
func (t *Transport) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for subject, take := range map[string]nats.MsgHandler{t.node: t.heard, t.prefix + helloSubject: t.greeted} {
		if sub, err := t.nc.Subscribe(subject, take); err == nil { // else the connection is closed, as Subscribe will say
			t.ends = append(t.ends, func() { _ = sub.Unsubscribe() })
		}
	}
	t.settleDown()
	t.hello(true)
	t.timer = time.AfterFunc(earlyHellos[0], t.tick)
	t.unwatch = natswire.Watch(t.nc, 0, func(up bool) {
		if up {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.settleDown()
			t.hello(true)
		}
	})
}

// tick says hello, again and again.
func (t *Transport) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.nc.IsClosed() {
		return
	}
	t.settleDown()
	t.hellos++
	next := helloEvery
	if t.hellos < len(earlyHellos) {
		next = earlyHellos[t.hellos]
	}
	t.hello(t.hellos <= len(earlyHellos))
	for server, at := range t.others {
		if time.Since(at) > silence {
			delete(t.others, server)
		}
	}
	t.timer.Reset(next)
}

// settleDown answers for the server that the connection is to, if that is another than before.
func (t *Transport) settleDown() {
	server := t.nc.ConnectedServerId()
	if t.closed || server == "" || server == t.home {
		return
	}
	if t.leave != nil {
		t.leave()
	}
	t.home, t.leave = server, nil
	delete(t.others, server)
	if sub, err := t.nc.QueueSubscribe(t.prefix+serverSubject+server, "one", func(m *nats.Msg) {
		// One that is connected to another server meanwhile proves nothing.
		if t.nc.ConnectedServerId() == server {
			_ = m.Respond([]byte(server))
		}
	}); err == nil {
		t.leave = func() { _ = sub.Unsubscribe() }
	}
}

// hello tells others where this transport is. Asked to, they answer.
func (t *Transport) hello(ask bool) {
	if t.home == "" || t.closed {
		return
	}
	reply := ""
	if ask {
		reply = t.node
	}
	// What is lost is said again.
	_ = t.nc.PublishRequest(t.prefix+helloSubject, reply, []byte(t.home))
}

// greeted takes the hello of another transport, or of this one.
func (t *Transport) greeted(m *nats.Msg) {
	t.heard(m)
	t.mu.Lock()
	home := t.home
	t.mu.Unlock()
	if m.Reply != "" && home != "" && home != string(m.Data) {
		_ = m.Respond([]byte(home))
	}
}

// heard takes down where another transport is.
func (t *Transport) heard(m *nats.Msg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if server := string(m.Data); server != "" && server != t.home && len(server) <= 64 {
		t.others[server] = time.Now()
	}
}

// round is one proof that the servers know of all subscriptions that were made
// before it began. Many who subscribe at the same time share it.
type round struct {
	done chan struct{}
	err  error
}

// settle waits for a round that begins now or later.
func (t *Transport) settle(ctx context.Context) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return ErrClosed
	}
	r := t.waiting
	if r == nil {
		r = &round{done: make(chan struct{})}
		t.waiting = r
	}
	if !t.settling {
		t.settling = true
		go t.rounds()
	}
	t.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rounds runs as long as somebody waits.
func (t *Transport) rounds() {
	for {
		t.mu.Lock()
		r := t.waiting
		t.waiting = nil
		if r == nil {
			t.settling = false
			t.mu.Unlock()
			return
		}
		t.settleDown() // in case the connection has just changed servers
		others := slices.Collect(maps.Keys(t.others))
		t.mu.Unlock()
		r.err = t.ask(others)
		close(r.done)
	}
}

// ask returns when the own server has taken all that was handed to the connection, and
// others have answered or are not worth waiting for.
func (t *Transport) ask(others []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), t.timeout)
	defer cancel()
	if err := natswire.Flush(ctx, t.nc); errors.Is(err, context.DeadlineExceeded) {
		return nats.ErrTimeout
	} else if err != nil {
		return err
	}
	var asked sync.WaitGroup
	for _, server := range others {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			if _, err := t.nc.RequestWithContext(ctx, t.prefix+serverSubject+server, nil); err != nil {
				t.forget(server)
			}
		})
	}
	asked.Wait()
	return nil
}

func (t *Transport) forget(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.others, server)
}
