// Package wire holds what a live session says and hears: the connection it talks over, the frames of the client
// decoded, and the frames of the server encoded. docs/live-protocol.md describes them.
package wire

import "sync"

// Conn is a connection that carries whole text frames. One goroutine may read and another may write at the
// same time.
type Conn interface {
	// Read waits for a frame. After an error the connection is of no use any more.
	Read() ([]byte, error)
	// Write sends a frame and waits until the connection can take the next. It gives up at the write deadline.
	Write(frame []byte) error
	// WriteShared is Write for a frame that many connections send.
	WriteShared(frame *Shared) error
	// Close ends the connection with a code of WebSocket. It may be called at any time and again.
	Close(code int, reason string)
}

// Observer is a Conn that wants to check every frame of a view: Rendered is called right before the frame that
// brings the client to html is written, with the page as a fresh rendering has it.
type Observer interface {
	Conn
	Rendered(html []byte)
}

// Witness is a Conn that wants to know of what is wrong with a view and not with the user.
type Witness interface {
	Conn
	// Unknown is called when an event came that the view does not know.
	Unknown(event string)
	// Panicked is called when a func of the view panicked, with what is logged.
	Panicked(err error)
}

// Shared is a frame that many connections send. Prepared holds what a transport made of Bytes.
type Shared struct {
	Bytes    []byte
	once     sync.Once
	prepared any
}

// Prepared returns what the first call of prepare made of the bytes.
func (s *Shared) Prepared(prepare func([]byte) any) any {
	s.once.Do(func() { s.prepared = prepare(s.Bytes) })
	return s.prepared
}
