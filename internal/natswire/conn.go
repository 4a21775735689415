package natswire

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

// Config says how a Conn works. All fields must be set.
type Config struct {
	Package         string // of whoever uses it, for errors and the log
	MaxBytes        int    // of a message
	PendingMessages int    // that wait in one subscription
	PendingBytes    int    // that wait in one subscription
	Logger          *slog.Logger
}

// A Conn sends and receives messages of up to MaxBytes over a NATS connection,
// which remains the caller's. It is safe for concurrent use.
type Conn struct {
	nc      *nats.Conn
	config  Config
	id      string // of the sender of parts
	dropped atomic.Uint64

	mu   sync.Mutex // held while the parts of one message are sent
	last uint64     // the number of the message that was cut last
}

// New returns a Conn over nc.
func New(nc *nats.Conn, config Config) *Conn {
	return &Conn{nc: nc, config: config, id: uuid.NewString()}
}

// ErrTooLarge reports a message over Config.MaxBytes, or a server whose
// max_payload leaves no room for parts.
var ErrTooLarge = errors.New("message too large")

const (
	nameHeader = "Levada-Name" // the escaped name, where the subject has a hash
	partHeader = "Levada-Part" // sender, number of the message, index of the part, number of parts
)

// Publish sends message, in parts if it must, and does not keep it. carried is
// what Token returned.
func (c *Conn) Publish(subject, carried string, message []byte) error {
	if len(message) > c.config.MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(message), c.config.MaxBytes)
	}
	limit := int(c.nc.MaxPayload())
	if limit <= 0 {
		limit = 1 << 20 // the default of a server that has not been reached yet
	}
	m := &nats.Msg{Subject: subject, Data: message}
	if carried != "" {
		m.Header = nats.Header{nameHeader: {carried}}
	}
	if len(message)+overhead(carried, 0) <= limit {
		return c.nc.PublishMsg(m)
	}
	// The header of a part is longest with the greatest numbers.
	room := limit - overhead(carried, len(c.id)+3*len(" 18446744073709551615"))
	if room <= 0 {
		return fmt.Errorf("%w: the server takes %d bytes, which leaves no room for a part", ErrTooLarge, limit)
	}
	parts := (len(message) + room - 1) / room
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	for i := range parts {
		m := &nats.Msg{Subject: subject, Data: message[i*room : min((i+1)*room, len(message))]}
		m.Header = nats.Header{partHeader: {fmt.Sprintf("%s %d %d %d", c.id, c.last, i, parts)}}
		if carried != "" {
			m.Header[nameHeader] = []string{carried}
		}
		if err := c.nc.PublishMsg(m); err != nil {
			return err
		}
	}
	return nil
}

// overhead is how many bytes of max_payload the headers take.
func overhead(carried string, part int) int {
	n := 0
	if carried != "" {
		n += len(nameHeader+": \r\n") + len(carried)
	}
	if part > 0 {
		n += len(partHeader+": \r\n") + part
	}
	if n > 0 {
		n += len("NATS/1.0\r\n\r\n")
	}
	return n
}

// Subscribe has deliver called for each message to subject that carries the name
// it should, one at a time. Whether the server knows of it is another matter: see
// Flush. What arrives while PendingMessages or PendingBytes wait is dropped.
//
// No call of deliver begins after unsubscribe has returned, which does not wait
// for one under way.
func (c *Conn) Subscribe(subject, carried string, deliver func(message []byte)) (unsubscribe func(), err error) {
	s := &subscription{conn: c, receiver: Receiver{Carried: carried, MaxBytes: c.config.MaxBytes}, deliver: deliver}
	sub, err := c.nc.Subscribe(subject, s.take)
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(c.config.PendingMessages, c.config.PendingBytes); err != nil {
		s.ended.Store(true)
		_ = sub.Unsubscribe()
		return nil, err
	}
	return func() {
		s.ended.Store(true)
		_ = sub.Unsubscribe() // fails when the connection is closed, and then there is nothing to end
	}, nil
}

type subscription struct {
	conn     *Conn
	receiver Receiver
	deliver  func([]byte)
	ended    atomic.Bool
	late     int // how many the connection dropped, as last seen
}

func (s *subscription) take(m *nats.Msg) {
	if s.ended.Load() {
		return
	}
	if n, err := m.Sub.Dropped(); err == nil && n > s.late {
		s.conn.lose(uint64(n-s.late), m.Subject, errSlow)
		s.late = n
	}
	message, err := s.receiver.Take(m.Header, m.Data)
	if err != nil {
		s.conn.lose(1, m.Subject, err)
	}
	if message != nil {
		s.deliver(message)
	}
}

var errSlow = errors.New("the receiver is too slow")

// Dropped returns how many messages were lost here: because a receiver was slow,
// because parts of them did not come, or because they were malformed.
func (c *Conn) Dropped() uint64 { return c.dropped.Load() }

// lose counts. The log gets a record whenever the number has another power of
// two: a flood must not become one of log records.
func (c *Conn) lose(n uint64, subject string, err error) {
	after := c.dropped.Add(n)
	if bits.Len64(after) != bits.Len64(after-n) {
		c.config.Logger.Warn(c.config.Package+": messages dropped", "subject", subject, "error", err, "dropped", after)
	}
}

// Flush returns when the server has taken all that was handed to the connection
// before, subscriptions included. It waits for a lost connection to be back, as
// long as ctx lasts, which must have a deadline.
func Flush(ctx context.Context, nc *nats.Conn) error {
	for {
		err := nc.FlushWithContext(ctx)
		// The flush of a connection that is lost meanwhile fails as if it were closed.
		if !errors.Is(err, nats.ErrConnectionClosed) || nc.IsClosed() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Refused returns the error of a server that does not permit the subscription to
// subject; nil if it was not heard of one before the last Flush returned.
func Refused(nc *nats.Conn, subject string) error {
	err := nc.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`) {
		return err
	}
	return nil
}
