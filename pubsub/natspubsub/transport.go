package natspubsub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/internal/natswire"
	"github.com/levada-go/levada/pubsub"
)

// A Transport is a [pubsub.Transport] over a NATS connection. It is made by [New],
// and safe for concurrent use.
type Transport struct {
	nc      *nats.Conn
	conn    *natswire.Conn
	prefix  string // of all subjects
	timeout time.Duration
	node    string // where others answer this transport
	unwatch func()

	mu       sync.Mutex
	closed   bool
	ends     []func()             // of what is subscribed to while the transport lives
	home     string               // the server connected to
	leave    func()               // ends what is subscribed to there
	others   map[string]time.Time // servers with other transports, and when they were last heard of
	timer    *time.Timer          // until the next hello
	hellos   int                  // how many were said
	waiting  *round               // the next, if somebody waits for it
	settling bool                 // whether one is under way
}

// Options change how a Transport works. The zero Options are the defaults.
type Options struct {
	// Namespace tells buses that share a NATS account apart: those of one network have the
	// same. Any text of 1 to 64 bytes; the default is "levada".
	Namespace string
	// MaxBytes limits the size of a message. Zero means 1 MiB. It must be at least that of
	// the bus, and the same for all nodes.
	MaxBytes int
	// PendingMessages and PendingBytes limit what waits for one topic in this process, if its
	// codec is slow; more is dropped. Zero means 65,536 and 16 MiB.
	PendingMessages, PendingBytes int
	// Timeout bounds Subscribe where its context does not, and so for how long it
	// waits for a connection that was lost. Zero means 5 s.
	Timeout time.Duration
	// Logger is told of dropped messages, at level Warn, the 1st, and then whenever their
	// number has doubled. Nil means slog.Default().
	Logger *slog.Logger
}

// New returns a transport over nc, which remains the caller's: it needs no other
// options than those to reconnect for ever (nats.MaxReconnects(-1)) and to ride out the start
// (nats.RetryOnFailedConnect). Two transports on one connection reach each
// other, unless it has nats.NoEcho. New does not wait for the server. It panics on
// options that are negative or leave no room for a message.
func New(nc *nats.Conn, opt *Options) *Transport {
	var o Options
	if opt != nil {
		o = *opt
	}
	o.complete()
	token, _ := natswire.Token(o.Namespace)
	t := &Transport{
		nc: nc, prefix: "ps." + token + ".", timeout: o.Timeout, others: map[string]time.Time{},
		conn: natswire.New(nc, natswire.Config{
			Package: "natspubsub", MaxBytes: o.MaxBytes, PendingMessages: o.PendingMessages, PendingBytes: o.PendingBytes, Logger: o.Logger,
		}),
	}
	t.node = t.prefix + "=node." + uuid.NewString()
	t.begin()
	return t
}

func (o *Options) complete() {
	if o.Namespace == "" {
		o.Namespace = "levada"
	}
	if len(o.Namespace) > 64 {
		panic(fmt.Sprintf("natspubsub: the Namespace has %d bytes, at most 64", len(o.Namespace)))
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = pubsub.DefaultMaxBytes
	}
	if o.PendingMessages == 0 {
		o.PendingMessages = 1 << 16
	}
	if o.PendingBytes == 0 {
		o.PendingBytes = max(16<<20, 4*o.MaxBytes)
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.MaxBytes < 0 || o.PendingMessages < 0 || o.Timeout < 0 || o.PendingBytes < o.MaxBytes {
		panic(fmt.Sprintf("natspubsub: MaxBytes %d, PendingMessages %d, PendingBytes %d and Timeout %v must not be negative, nor PendingBytes less than MaxBytes",
			o.MaxBytes, o.PendingMessages, o.PendingBytes, o.Timeout))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// ErrClosed reports a transport that was closed.
var ErrClosed = errors.New("natspubsub: the transport is closed")

// Publish hands message to the connection, which sends it at once, or when it is
// back, if it was lost. It fails with the error of ctx, when the message is over
// Options.MaxBytes, when the connection was closed, and with nats.ErrReconnectBufExceeded when it
// was lost for too long.
func (t *Transport) Publish(ctx context.Context, topic string, message []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	subject, carried := t.subject(topic)
	if err := t.conn.Publish(subject, carried, message); err != nil {
		return fmt.Errorf("natspubsub: publish: %w", err)
	}
	return nil
}

// Subscribe returns when the server and those that other transports are
// connected to know of the subscription (see the package's documentation), but no later than
// ctx ends or Options.Timeout has passed. It fails with the error of ctx, ErrClosed,
// that of the connection, or when the server does not permit it.
func (t *Transport) Subscribe(ctx context.Context, topic string, deliver func(message []byte)) (unsubscribe func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	subject, carried := t.subject(topic)
	unsubscribe, err = t.conn.Subscribe(subject, carried, deliver)
	if err != nil {
		return nil, fmt.Errorf("natspubsub: subscribe: %w", err)
	}
	err = t.settle(ctx)
	if err == nil {
		err = natswire.Refused(t.nc, subject)
	}
	if err != nil {
		unsubscribe()
		return nil, fmt.Errorf("natspubsub: subscribe: %w", err)
	}
	return unsubscribe, nil
}

// Dropped returns how many messages to this process were lost because more than
// Options.PendingMessages or Options.PendingBytes waited, because parts of them did not come, or
// because they were malformed.
func (t *Transport) Dropped() uint64 { return t.conn.Dropped() }

// Close has the transport no longer tell others where it is. It is called after
// the bus was closed, and before the connection is. Subscribing fails with ErrClosed
// from now on. Close always returns nil, and may be called again.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	ends := t.ends
	if t.leave != nil {
		ends = append(ends, t.leave)
	}
	t.mu.Unlock()
	t.unwatch()
	for _, end := range ends {
		end()
	}
	return nil
}

func (t *Transport) subject(topic string) (subject, carried string) {
	token, carried := natswire.Token(topic)
	return t.prefix + token, carried
}
