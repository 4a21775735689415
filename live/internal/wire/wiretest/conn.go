// Package wiretest holds a connection without a network, and reads what a server says over it.
package wiretest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/levada-go/levada/live/internal/wire"
)

// Conn is a [wire.Conn] in memory, and the browser at its other end. What the server writes waits in a buffer of a
// fixed number of frames; when that is full, Write waits until the browser takes one, as long as it may take. All
// waiting is on channels, so that it may be used in the bubble of testing/synctest. It is safe for concurrent use.
type Conn struct {
	up, down chan []byte
	closed   chan struct{}
	once     sync.Once
	code     int
	reason   string
}

var _ wire.Conn = (*Conn)(nil)

// ErrClosed is what all methods return after the connection was closed.
var ErrClosed = errors.New("wiretest: the connection is closed")

// NewConn returns a connection that holds up to buffer frames which the browser has not taken yet. With 0
// a Write lasts until the browser takes the frame.
func NewConn(buffer int) *Conn {
	return &Conn{up: make(chan []byte), down: make(chan []byte, buffer), closed: make(chan struct{})}
}

// Read implements [wire.Conn].
func (c *Conn) Read() ([]byte, error) {
	select {
	case frame := <-c.up:
		return frame, nil
	case <-c.closed:
		return nil, ErrClosed
	}
}

// Write implements [wire.Conn]. The frame is copied.
func (c *Conn) Write(frame []byte) error { return c.write(append([]byte(nil), frame...)) }

// WriteShared implements [wire.Conn].
func (c *Conn) WriteShared(frame *wire.Shared) error { return c.write(frame.Bytes) }

func (c *Conn) write(frame []byte) error {
	select {
	case <-c.closed:
		return ErrClosed
	default:
	}
	select {
	case c.down <- frame:
		return nil
	case <-c.closed:
		return ErrClosed
	}
}

// Close implements [wire.Conn]. The first code counts.
func (c *Conn) Close(code int, reason string) {
	c.once.Do(func() {
		c.code, c.reason = code, reason
		close(c.closed)
	})
}

// Send is the browser saying a frame. It waits until the server reads it.
func (c *Conn) Send(format string, args ...any) error {
	frame := []byte(format)
	if len(args) > 0 {
		frame = fmt.Appendf(nil, format, args...)
	}
	select {
	case <-c.closed:
		return ErrClosed
	default:
	}
	select {
	case c.up <- frame:
		return nil
	case <-c.closed:
		return ErrClosed
	}
}

// Receive is the browser taking the next frame. It waits for one; frames that were written before the connection was
// closed still come. The frame must not be changed.
func (c *Conn) Receive() ([]byte, error) {
	select {
	case frame := <-c.down:
		return frame, nil
	default:
	}
	select {
	case frame := <-c.down:
		return frame, nil
	case <-c.closed:
		select {
		case frame := <-c.down:
			return frame, nil
		default:
			return nil, ErrClosed
		}
	}
}

// TryReceive is Receive for a frame that is there already, nil without.
func (c *Conn) TryReceive() []byte {
	select {
	case frame := <-c.down:
		return frame
	default:
		return nil
	}
}

// Closed is closed when the connection is.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Code returns what the connection was closed with; it waits for that.
func (c *Conn) Code() (code int, reason string) {
	<-c.closed
	return c.code, c.reason
}

// Observed is a Conn that is a [wire.Observer].
type Observed struct {
	*Conn
	// Seen is called with what Rendered gets.
	Seen func(html []byte)
}

var _ wire.Observer = (*Observed)(nil)

// Rendered implements [wire.Observer].
func (o *Observed) Rendered(html []byte) { o.Seen(html) }
