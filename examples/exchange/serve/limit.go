package serve

import (
	"net"
	"sync"
	"time"
)

// A bucket limits a rate: it holds up to burst tokens and gains rate of them a
// second. Its zero value is empty; newBucket makes a full one.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

func newBucket(rate float64, burst int, now time.Time) bucket {
	return bucket{rate, float64(burst), float64(burst), now}
}

// take takes a token and reports whether there was one.
func (b *bucket) take(now time.Time) bool {
	if d := now.Sub(b.at).Seconds(); d > 0 {
		b.tokens = min(b.burst, b.tokens+d*b.rate)
		b.at = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// buckets limits a rate for each of many keys.
type buckets struct {
	rate  float64
	burst int

	mu sync.Mutex
	by map[string]*bucket
}

// maxBuckets bounds the keys that are told apart. When there are more, those that
// are full again are forgotten, which changes nothing for them; if none is, all are.
const maxBuckets = 4096

func (b *buckets) take(key string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.by[key]
	if k == nil {
		if len(b.by) >= maxBuckets {
			b.forget(now)
		}
		if b.by == nil {
			b.by = map[string]*bucket{}
		}
		n := newBucket(b.rate, b.burst, now)
		k = &n
		b.by[key] = k
	}
	return k.take(now)
}

func (b *buckets) forget(now time.Time) {
	for key, k := range b.by {
		if k.tokens+now.Sub(k.at).Seconds()*k.rate >= k.burst {
			delete(b.by, key)
		}
	}
	if len(b.by) >= maxBuckets {
		clear(b.by)
	}
}

// limitListener is a listener with at most cap(slots) connections open: beyond
// them it does not accept.
type limitListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newLimitListener(l net.Listener, most int) *limitListener {
	return &limitListener{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: c, release: func() { <-l.slots }}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *limitConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
