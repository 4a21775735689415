package live

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/levada-go/levada/live/internal/wire"
)

const (
	// heartbeat is after how much silence a client says that it is there.
	heartbeat = 30 * time.Second
	// closeWait is for how long a closed connection waits for the browser to agree.
	closeWait = 2 * time.Second
	// closeWrite is for how long the closing frame may wait for the connection to take it.
	closeWrite = time.Second
	// drainFrames and drainBytes are how much of a closed connection is read to no purpose.
	drainFrames = 1000
	drainBytes  = 1 << 20
	// readBuffer is the size of the buffer that a connection keeps for reading, in bytes.
	readBuffer = 512
	// writeBuffer is the size of a buffer for writing, which a connection has only while it writes.
	writeBuffer = 4 << 10
)

var writeBuffers sync.Pool

var (
	errSilent  = errors.New("live: the client was silent for too long")
	errBinary  = errors.New("live: the client sent a binary frame")
	errNotUTF8 = errors.New("live: the client sent a frame that is not UTF-8")
	errTooBig  = errors.New("live: the client sent a frame that is too large")
)

// serveSocket opens a WebSocket and leaves it to a goroutine of its own, which ends with it. So the server lets go
// of what it keeps for a request, some 13 kB, and middleware that limits the time of requests does not end pages.
// The context of the request goes on with its values and without its end.
func (s *Site) serveSocket(w http.ResponseWriter, r *http.Request) {
	if conn := wire.FromContext(r.Context()); conn != nil { // of a test, in place of an upgrade
		s.Connect(conn, r)
		return
	}
	so := s.accept(w, r)
	if so == nil {
		return
	}
	r = r.WithContext(context.WithoutCancel(r.Context()))
	go func() {
		defer func() { // as net/http does for those it has started
			if v := recover(); v != nil {
				s.log.Error("live: panic", "value", v, "stack", string(debug.Stack()))
			}
		}()
		defer so.end()
		s.Connect(so, r)
	}()
}

// accept opens a WebSocket, or refuses it over HTTP and returns nil.
//
// Frames are not compressed: what is sent mostly has a few hundred bytes; and what is compressed together with
// text that others have written tells by its length what it holds.
func (s *Site) accept(w http.ResponseWriter, r *http.Request) *socket {
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		plain(w, http.StatusUpgradeRequired, "This is a WebSocket.")
		return nil
	}
	if !s.sameOrigin(r) {
		plain(w, http.StatusForbidden, "This origin may not connect.")
		return nil
	}
	if s.full() {
		w.Header().Set("Retry-After", "5")
		plain(w, http.StatusServiceUnavailable, "No room for more pages now.")
		return nil
	}
	upgrader := websocket.Upgrader{
		ReadBufferSize: readBuffer, WriteBufferSize: writeBuffer, WriteBufferPool: &writeBuffers,
		HandshakeTimeout: s.options.WriteWait,
		CheckOrigin:      func(*http.Request) bool { return true }, // checked above
		Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
			text := "This is not a handshake of WebSocket 13."
			if status >= http.StatusInternalServerError { // as when middleware hides the connection
				s.log.Error("live: a WebSocket could not be opened", "error", err)
				text = "A WebSocket cannot be opened here."
			}
			plain(w, status, text)
		},
	}
	conn, err := upgrader.Upgrade(hijacker{w, http.NewResponseController(w)}, r, nil)
	if err != nil {
		return nil // refused, or the browser has gone
	}
	return newSocket(conn, &s.options)
}

// sameOrigin reports whether a WebSocket may be opened by the page that asks for it. A browser always says which origin
// that has; who says none is no browser, and has no cookies of somebody else.
func (s *Site) sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || s.origins[strings.ToLower(origin)] {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// hijacker finds the method Hijack below the wrappers of middleware.
type hijacker struct {
	http.ResponseWriter
	controller *http.ResponseController
}

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := h.controller.Hijack()
	if err != nil {
		return nil, nil, err
	}
	return &patient{Conn: conn}, rw, nil
}

// patient is a connection whose write deadline is not for all that is written but for each piece of it: it gives up on
// who takes nothing, not on who takes a large frame over a slow line.
type patient struct {
	net.Conn
	wait time.Duration // for each piece; set by who writes, one at a time
}

// piece is what a slow line must take in the time of the deadline, in bytes.
const piece = 16 << 10

func (p *patient) SetWriteDeadline(t time.Time) error {
	p.wait = 0
	if !t.IsZero() {
		p.wait = time.Until(t)
	}
	return p.Conn.SetWriteDeadline(t)
}

func (p *patient) Write(b []byte) (n int, err error) {
	for first := true; first || len(b) > 0; first = false {
		if p.wait > 0 {
			if err := p.Conn.SetWriteDeadline(time.Now().Add(p.wait)); err != nil {
				return n, err
			}
		}
		m, err := p.Conn.Write(b[:min(piece, len(b))])
		if n += m; err != nil {
			return n, err
		}
		b = b[m:]
	}
	return n, nil
}

// socket is a WebSocket as a [wire.Conn]. It keeps the limits of the [Options]: it closes a connection that
// sends a frame that is too large or no text, or that is silent, and it reads no faster than events may come.
type socket struct {
	conn    *websocket.Conn
	options *Options

	read sync.Mutex // held by Read
	rate bucket

	closing chan struct{} // closed by Close
	mu      sync.Mutex    // guards closed, and the read deadline against it
	closed  bool
}

func newSocket(conn *websocket.Conn, o *Options) *socket {
	s := &socket{
		conn: conn, options: o, closing: make(chan struct{}),
		rate: bucket{rate: o.EventRate, burst: float64(o.EventBurst), tokens: float64(o.EventBurst), last: time.Now()},
	}
	conn.SetReadLimit(int64(o.MaxFrame))
	answer := conn.PingHandler()
	conn.SetPingHandler(func(data string) error {
		if err := s.heard(); err != nil {
			return err
		}
		return answer(data)
	})
	conn.SetPongHandler(func(string) error { return s.heard() })
	return s
}

// heard is called for each ping and pong: they count as frames do.
func (s *socket) heard() error {
	s.wait()
	if err := s.await(2 * heartbeat); err != nil && !s.isClosed() {
		return err
	}
	return nil
}

// Read waits for a frame. It gives up after two heartbeats without one. After Close it waits until the browser has
// closed its side, and returns an error then.
func (s *socket) Read() ([]byte, error) {
	s.read.Lock()
	defer s.read.Unlock()
	s.wait()
	if err := s.await(2 * heartbeat); err != nil {
		return nil, s.drain()
	}
	kind, r, err := s.conn.NextReader()
	if err != nil {
		return nil, s.fail(err)
	}
	if kind != websocket.TextMessage {
		s.Close(closeBinary, "only text is understood")
		s.drain()
		return nil, errBinary
	}
	frame, err := io.ReadAll(r)
	if err != nil {
		return nil, s.fail(err)
	}
	if !utf8.Valid(frame) {
		s.Close(websocket.CloseInvalidFramePayloadData, "text must be UTF-8")
		s.drain()
		return nil, errNotUTF8
	}
	if s.isClosed() {
		return nil, s.drain()
	}
	return frame, nil
}

// fail ends the connection after an error of reading.
func (s *socket) fail(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit): // the library has told the client, and reads no more
		s.Close(websocket.CloseMessageTooBig, "")
		io.CopyN(io.Discard, s.conn.NetConn(), drainBytes)
		err = errTooBig
	case s.isClosed():
	case errors.As(err, &timeout) && timeout.Timeout():
		s.Close(closeBad, "silent for too long")
		err = errSilent
	}
	s.hangUp()
	return err
}

// drain reads on until the browser has closed its side, so that what it is still sending does not reset the
// connection before it has read why it ends. A client that does not stop is not waited for.
func (s *socket) drain() error {
	defer s.hangUp()
	for range drainFrames {
		if _, _, err := s.conn.NextReader(); err != nil {
			break
		}
	}
	return fmt.Errorf("live: the connection is closed: %w", net.ErrClosed)
}

// wait waits until the client may send another frame, or the connection is closed.
func (s *socket) wait() {
	d := s.rate.take(time.Now())
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.closing:
	}
}

// await sets the read deadline, unless the connection is closed, which has one.
func (s *socket) await(d time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	return s.conn.SetReadDeadline(time.Now().Add(d))
}

func (s *socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Write sends a frame. It gives up when the client takes none of it for WriteWait.
func (s *socket) Write(frame []byte) error {
	s.conn.SetWriteDeadline(time.Now().Add(s.options.WriteWait))
	if err := s.conn.WriteMessage(websocket.TextMessage, frame); err != nil {
		s.hangUp()
		return err
	}
	return nil
}

// WriteShared is Write with a frame whose bytes on the wire are made once.
func (s *socket) WriteShared(frame *wire.Shared) error {
	prepared, ok := frame.Prepared(prepare).(*websocket.PreparedMessage)
	if !ok {
		return s.Write(frame.Bytes)
	}
	s.conn.SetWriteDeadline(time.Now().Add(s.options.WriteWait))
	if err := s.conn.WritePreparedMessage(prepared); err != nil {
		s.hangUp()
		return err
	}
	return nil
}

func prepare(frame []byte) any {
	if m, err := websocket.NewPreparedMessage(websocket.TextMessage, frame); err == nil {
		return m
	}
	return nil
}

// Close tells the browser that the connection ends, and why. The connection is gone when the browser has answered,
// after closeWait at the latest.
func (s *socket) Close(code int, reason string) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	close(s.closing)
	s.conn.SetReadDeadline(time.Now().Add(closeWrite + closeWait))
	s.mu.Unlock()
	message := websocket.FormatCloseMessage(code, reason)
	if err := s.conn.WriteControl(websocket.CloseMessage, message, time.Now().Add(closeWrite)); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		s.hangUp()
	}
}

// end is called when nobody uses the connection any more.
func (s *socket) end() {
	s.Close(websocket.CloseNormalClosure, "")
	s.read.Lock()
	defer s.read.Unlock()
	s.drain()
}

func (s *socket) hangUp() { s.conn.Close() }

// bucket holds what a client may send: up to burst frames, refilled with rate a second. It is used by one goroutine.
type bucket struct {
	rate, burst, tokens float64
	last                time.Time
}

// take takes a frame and returns how long to wait before it may be read.
func (b *bucket) take(now time.Time) time.Duration {
	b.tokens = math.Min(b.burst, b.tokens+b.rate*now.Sub(b.last).Seconds())
	b.last = now
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}
