package browsertest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Relay is a network between a browser and a server: it hands bytes on, late if wished, and breaks when told
// to. Chromium can delay requests by itself, but not the frames of a WebSocket.
type Relay struct {
	URL string // where the browser finds the server, "http://127.0.0.1:PORT"

	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	target string
	delay  time.Duration
	conns  map[net.Conn]bool
	down   bool
}

// NewRelay returns a relay to a server that listens at the address target, "HOST:PORT". It ends with t.
func NewRelay(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("browsertest: relay: %v", err)
	}
	r := &Relay{URL: "http://" + l.Addr().String(), listener: l, target: target, conns: map[net.Conn]bool{}}
	r.wg.Go(r.accept)
	t.Cleanup(func() {
		_ = l.Close()
		r.Down()
		r.wg.Wait()
	})
	return r
}

// Delay makes every byte take d in each direction from now on.
func (r *Relay) Delay(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = d
}

// Down breaks all connections and every new one, until [Relay.Up].
func (r *Relay) Down() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	for c := range r.conns {
		_ = c.Close()
	}
}

// Up lets connections through again, to the server at the address target.
func (r *Relay) Up(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down, r.target = false, target
}

func (r *Relay) accept() {
	for {
		browser, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(browser) })
	}
}

// keep remembers a connection that Down has to break.
func (r *Relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		_ = c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *Relay) drop(c net.Conn) {
	_ = c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *Relay) serve(browser net.Conn) {
	defer r.drop(browser)
	if !r.keep(browser) {
		return
	}
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer r.drop(server)
	if !r.keep(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { r.copy(server, browser) })
	both.Go(func() { r.copy(browser, server) })
	both.Wait()
}

type chunk struct {
	due   time.Time
	bytes []byte
}

// copy hands on what comes from one side; when that ends, both do.
func (r *Relay) copy(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	late := make(chan chunk, 1024)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(late)
	wg.Go(func() {
		for c := range late {
			time.Sleep(time.Until(c.due)) // the time that the bytes are under way
			if _, err := to.Write(c.bytes); err != nil {
				_ = from.Close()
				_, _ = io.Copy(io.Discard, from)
			}
		}
	})
	for {
		buf := make([]byte, 16<<10)
		n, err := from.Read(buf)
		if n > 0 {
			r.mu.Lock()
			due := time.Now().Add(r.delay)
			r.mu.Unlock()
			late <- chunk{due, buf[:n]}
		}
		if err != nil {
			return
		}
	}
}
