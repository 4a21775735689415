package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/levada-go/levada/eventstore"
)

// Codes with which a WebSocket is closed, beside those of RFC 6455.
const (
	closeSlow = 4008 // the client does not take its frames
	closeRate = 4029 // the client went on after it was told that it sends too much
)

// A session is one WebSocket.
//
//	socket ─► read: one request at a time ──answer──┐
//	                                                ├─► out ─► write ─► socket
//	store ─► subscription ─► pump, one for each ────┘
//
// Nothing is queued here: out has no room, so that whoever has a frame waits
// until the socket takes it. What a pump cannot pass on meanwhile stays in its
// subscription, which holds a bounded number of events and beyond that leaves
// them in the store. A client that reads slowly thus costs no memory; one that
// does not read at all is closed.
type session struct {
	s     *Server
	conn  *websocket.Conn
	owner uint64
	log   *slog.Logger

	ctx    context.Context // done when the session is to end
	cancel context.CancelFunc
	out    chan []byte

	closing   sync.Once
	closeCode int
	closeText string

	reading sync.Mutex // guards the deadline for reading, which is final once left is set
	left    bool

	// Of the reading goroutine.
	subs     map[channelKey]*subscription
	requests bucket
	orders   bucket
	excess   int                 // requests beyond the limit
	done     eventstore.Position // of the latest event that the client was told of in a result
	pumps    sync.WaitGroup
}

func newSession(s *Server, conn *websocket.Conn, owner uint64) *session {
	now := s.now()
	ss := &session{s: s, conn: conn, owner: owner, log: s.log, out: make(chan []byte), subs: map[channelKey]*subscription{},
		requests: newBucket(s.limits.requestRate, s.limits.requestBurst, now),
		orders:   newBucket(s.limits.orderRate, s.limits.orderBurst, now)}
	ss.ctx, ss.cancel = context.WithCancel(s.ctx)
	return ss
}

// run serves the socket until either end is done with it.
func (ss *session) run() {
	defer ss.conn.Close()
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer ss.contain()
		ss.write()
	}()
	func() {
		defer ss.contain()
		ss.read()
	}()
	ss.close(websocket.CloseNormalClosure, "")
	<-written
	for _, sub := range ss.subs {
		sub.cancel()
	}
	ss.pumps.Wait()
}

// close ends the session; the client is told the first code that is given.
func (ss *session) close(code int, text string) {
	ss.closing.Do(func() {
		ss.closeCode, ss.closeText = code, text
		ss.cancel()
	})
}

// contain keeps a panic to its session.
func (ss *session) contain() {
	if p := recover(); p != nil {
		ss.log.Error("exchange: a session panicked", "panic", p, "stack", string(debug.Stack()))
		ss.close(websocket.CloseInternalServerErr, "")
	}
}

// send passes a frame to the socket. It returns false if ctx or the session ended first.
func (ss *session) send(ctx context.Context, frame []byte) bool {
	select {
	case ss.out <- frame:
		return true
	case <-ctx.Done():
	case <-ss.ctx.Done():
	}
	return false
}

func (ss *session) write() {
	ping := time.NewTicker(ss.s.limits.pingEvery)
	defer ping.Stop()
	for {
		var err error
		select {
		case frame := <-ss.out:
			ss.conn.SetWriteDeadline(time.Now().Add(ss.s.limits.writeTimeout))
			err = ss.conn.WriteMessage(websocket.TextMessage, frame)
		case <-ping.C:
			err = ss.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(ss.s.limits.writeTimeout))
		case <-ss.ctx.Done():
			ss.leave()
			return
		}
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				ss.log.Info("exchange: a client that does not read was closed", "remote", ss.conn.RemoteAddr())
			}
			ss.close(closeSlow, "too slow") // nobody will read it
			ss.conn.Close()
			return
		}
	}
}

// leave sends the close frame and gives the client a moment to answer it, so that
// it does not find the connection reset before it has read why.
func (ss *session) leave() {
	ss.closing.Do(func() { ss.closeCode = websocket.CloseGoingAway }) // the server's context ended
	deadline := time.Now().Add(ss.s.limits.closeTimeout)
	ss.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(ss.closeCode, ss.closeText), deadline)
	ss.reading.Lock()
	defer ss.reading.Unlock()
	ss.left = true
	ss.conn.SetReadDeadline(deadline)
}

// alive puts off the end of a client that is heard of.
func (ss *session) alive(string) error {
	ss.reading.Lock()
	defer ss.reading.Unlock()
	if ss.left {
		return nil
	}
	return ss.conn.SetReadDeadline(time.Now().Add(ss.s.limits.readTimeout))
}

func (ss *session) read() {
	ss.conn.SetReadLimit(ss.s.limits.frameBytes)
	ss.alive("")
	ss.conn.SetPongHandler(ss.alive)
	if !ss.send(ss.ctx, ss.s.hello) {
		ss.drain()
		return
	}
	for {
		kind, data, err := ss.conn.ReadMessage()
		switch {
		case err != nil:
			if errors.Is(err, websocket.ErrReadLimit) {
				ss.close(websocket.CloseMessageTooBig, "frames have at most 4096 bytes")
			}
			return
		case ss.ctx.Err() != nil:
			continue // only the answer to our close frame is waited for
		case kind != websocket.TextMessage:
			ss.close(websocket.CloseUnsupportedData, "frames are text")
			continue
		}
		ss.alive("")
		ss.handle(data)
	}
}

// drain reads until the client has answered the close frame.
func (ss *session) drain() {
	for {
		if _, _, err := ss.conn.NextReader(); err != nil {
			return
		}
	}
}

// handle carries out one request and answers it.
func (ss *session) handle(data []byte) {
	now := ss.s.now()
	r, err := decodeFrame(data)
	if !ss.requests.take(now) {
		if ss.excess++; ss.excess > ss.s.limits.excess {
			ss.close(closeRate, "too many requests")
			return
		}
		err = errRate
	} else if err == nil {
		var answer any
		if answer, err = ss.carryOut(&r, now); err == nil {
			if answer != nil {
				ss.send(ss.ctx, encode(answer))
			}
			return
		}
	} else {
		err = badRequest(err)
	}
	e, known := refusalOf(err)
	if !known {
		ss.log.Error("exchange: a request failed", "op", r.op, "err", err)
	}
	ss.send(ss.ctx, encode(errorFrame{"error", r.id, r.op, e.code, e.detail}))
}

// carryOut returns the answer to a request, nil if it was sent already.
func (ss *session) carryOut(r *request, now time.Time) (any, error) {
	if r.op == "ping" {
		return pongFrame{"pong", r.id, now.UnixMilli()}, nil
	}
	x := ss.s.exchange
	s := x.symbol(r.symbol)
	if s == nil {
		return nil, errUnknownSymbol
	}
	switch r.op {
	case "subscribe":
		return nil, ss.subscribe(r, s)
	case "unsubscribe":
		return ss.unsubscribe(r)
	}
	if !ss.orders.take(now) {
		return nil, errRate
	}
	var done outcome
	var err error
	defer func() { ss.done = max(ss.done, done.Position) }()
	switch r.op {
	case "place":
		done, err = x.place(ss.ctx, ss.owner, s, r)
	case "modify":
		done, err = x.modify(ss.ctx, ss.owner, s, r)
	default:
		done, err = x.cancel(ss.ctx, ss.owner, s, r)
	}
	if err != nil {
		return nil, err
	}
	return resultFrame{Type: "result", ID: r.id, Op: r.op, outcome: done}, nil
}

type errorFrame struct {
	Type    string `json:"type"` // "error"
	ID      int64  `json:"id,omitempty"`
	Op      string `json:"op,omitempty"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type pongFrame struct {
	Type string `json:"type"` // "pong"
	ID   int64  `json:"id,omitempty"`
	Time int64  `json:"time"`
}

type resultFrame struct {
	Type string `json:"type"` // "result"
	ID   int64  `json:"id,omitempty"`
	Op   string `json:"op"`
	outcome
}
