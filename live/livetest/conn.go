package livetest

import (
	"bytes"
	"net"
	"sync"

	"github.com/levada-go/levada/live/internal/wire"
)

// conn is a connection in memory, as the server has it. What the server writes is taken by the page at once, by the
// server's goroutine, so that a page needs none of its own.
type conn struct {
	page *Page
	up   chan []byte   // from the browser
	gone chan struct{} // closed when either side has closed
	done chan struct{} // closed when the server has let go of it

	once   sync.Once
	code   int // set before gone is closed
	reason string
}

var (
	_ wire.Observer = (*conn)(nil)
	_ wire.Witness  = (*conn)(nil)
)

func newConn(p *Page) *conn {
	return &conn{page: p, up: make(chan []byte), gone: make(chan struct{}), done: make(chan struct{})}
}

func (c *conn) Read() ([]byte, error) {
	select {
	case frame := <-c.up:
		return frame, nil
	case <-c.gone:
		return nil, net.ErrClosed
	}
}

func (c *conn) Write(frame []byte) error {
	select {
	case <-c.gone:
		return net.ErrClosed
	default:
	}
	c.page.receive(c, bytes.Clone(frame))
	return nil
}

func (c *conn) WriteShared(frame *wire.Shared) error { return c.Write(frame.Bytes) }

// Close is the server's. The page is told when the connection is gone.
func (c *conn) Close(code int, reason string) { c.end(code, reason) }

func (c *conn) Rendered(html []byte) { c.page.rendered(c, html) }

func (c *conn) Unknown(event string) { c.page.unknown(c, event) }

func (c *conn) Panicked(err error) { c.page.broken(c, err) }

func (c *conn) end(code int, reason string) {
	c.once.Do(func() {
		c.code, c.reason = code, reason
		close(c.gone)
		c.page.wake()
	})
}

// hangUp is the browser's. It tells the server nothing but that.
func (c *conn) hangUp() { c.once.Do(func() { close(c.gone) }) }

// isGone reports whether either side has closed.
func (c *conn) isGone() bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}
