package natswiretest

import (
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// patience is how long servers may take, on a busy machine.
const patience = 20 * time.Second

// Run starts a server without JetStream, which ends with the test.
func Run(t testing.TB, o server.Options) *server.Server {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, true
	s, err := server.NewServer(&o)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(patience))
	return s
}

// Pair starts two servers, which are one cluster, and returns them with the
// link between them. All end with the test.
func Pair(t testing.TB) (a, b *server.Server, link *Link) {
	t.Helper()
	cluster := server.ClusterOpts{Name: "pair", Host: "127.0.0.1", Port: -1}
	a = Run(t, server.Options{Cluster: cluster})
	link = newLink(t, a.ClusterAddr().String())
	b = Run(t, server.Options{Cluster: cluster, Routes: []*url.URL{{Scheme: "nats-route", Host: link.address}}})
	joined(t, a, b, true)
	return a, b, link
}

// joined waits until the servers have, or have not, routes to each other.
func joined(t testing.TB, a, b *server.Server, yes bool) {
	t.Helper()
	require.Eventually(t, func() bool { return (a.NumRoutes() > 0) == yes && (b.NumRoutes() > 0) == yes }, patience, 5*time.Millisecond)
}

// Connect connects to one of the servers only, until the test ends.
func Connect(t testing.TB, s *server.Server, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(s.ClientURL(), append([]nats.Option{nats.IgnoreDiscoveredServers(), nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// A Link is what the route between two servers goes through.
type Link struct {
	address, target string
	delay           atomic.Int64

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newLink(t testing.TB, target string) *Link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	k := &Link{address: l.Addr().String(), target: target, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close()
		k.Cut()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go k.carry(c)
		}
	}()
	return k
}

// Delay has all that goes over the link take d longer, in both directions.
func (k *Link) Delay(d time.Duration) { k.delay.Store(int64(d)) }

// Cut ends the route, and keeps it from coming back.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	for c := range k.conns {
		_ = c.Close()
	}
	clear(k.conns)
}

// Mend lets the servers find each other again.
func (k *Link) Mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = false
}

// keep reports whether the connections may stay.
func (k *Link) keep(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		if k.cut {
			_ = c.Close()
		} else {
			k.conns[c] = true
		}
	}
	return !k.cut
}

func (k *Link) carry(from net.Conn) {
	if !k.keep(from) {
		return
	}
	to, err := net.Dial("tcp", k.target)
	if err != nil {
		_ = from.Close()
		return
	}
	if k.keep(to) {
		go k.copy(from, to)
		k.copy(to, from)
	}
}

// copy carries bytes one way, each as late as the link is long.
func (k *Link) copy(to, from net.Conn) {
	type piece struct {
		bytes []byte
		due   time.Time
	}
	pieces := make(chan piece, 1<<12)
	go func() {
		defer close(pieces)
		for {
			b := make([]byte, 32<<10)
			n, err := from.Read(b)
			if n > 0 {
				pieces <- piece{b[:n], time.Now().Add(time.Duration(k.delay.Load()))}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		if _, err := to.Write(p.bytes); err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
	for range pieces { // the reader must not be left with a full channel
		continue
	}
}

// Split cuts the link and waits until both servers know.
func (k *Link) Split(t testing.TB, a, b *server.Server) {
	t.Helper()
	k.Cut()
	joined(t, a, b, false)
}

// Heal mends the link and waits until the servers have found each other.
func (k *Link) Heal(t testing.TB, a, b *server.Server) {
	t.Helper()
	k.Mend()
	joined(t, a, b, true)
}
