package natspresence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/internal/natswire"
	"github.com/levada-go/levada/presence"
)

// A Transport is a [presence.Transport] over a NATS connection, for one Presence. It
// is made by [New], and safe for concurrent use.
type Transport struct {
	nc     *nats.Conn
	conn   *natswire.Conn
	prefix string // of all subjects
	opts   Options

	mu      sync.Mutex
	started bool
	ends    []func() // of what Start began
}

// Options change how a Transport works. The zero Options are the defaults.
type Options struct {
	// Namespace tells networks that share a NATS account apart: the nodes of one have the
	// same. Any text of 1 to 64 bytes; the default is "levada".
	Namespace string
	// Patience is for how long a connection may be lost before the Presence is told.
	// Zero means 3 s.
	Patience time.Duration
	// Timeout is how long Start and Stop wait for the server. Zero means 5 s.
	Timeout time.Duration
	// Logger is told of dropped frames, at level Warn, the 1st, and then whenever their
	// number has doubled. Nil means slog.Default().
	Logger *slog.Logger
}

// New returns a transport over nc, which remains the caller's: it needs no other
// options than to reconnect for ever (nats.MaxReconnects(-1)). With nats.NoEcho two
// transports on one connection do not reach each other. New panics on options that are
// negative, and on a Namespace over 64 bytes.
func New(nc *nats.Conn, opt *Options) *Transport {
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.Namespace == "" {
		o.Namespace = "levada"
	}
	if o.Patience == 0 {
		o.Patience = 3 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if len(o.Namespace) > 64 || o.Patience < 0 || o.Timeout < 0 {
		panic(fmt.Sprintf("natspresence: a Namespace of %d bytes, at most 64, Patience %v and Timeout %v, not negative", len(o.Namespace), o.Patience, o.Timeout))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	token, _ := natswire.Token(o.Namespace)
	return &Transport{nc: nc, prefix: "pr." + token + ".", opts: o, conn: natswire.New(nc, natswire.Config{
		Package: "natspresence", MaxBytes: presence.MaxFrameBytes, PendingMessages: 1 << 16, PendingBytes: 64 << 20, Logger: o.Logger,
	})}
}

// ErrStarted reports a transport that was started before.
var ErrStarted = errors.New("natspresence: the transport was started before")

// Start makes the node reachable. It fails when the server does not answer within
// Options.Timeout, when it does not permit the subscriptions, and with ErrStarted.
func (t *Transport) Start(node string, receive func(frame []byte), link func(up bool)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.started {
		return ErrStarted
	}
	t.started = true
	to, carried := t.to(node)
	for subject, carried := range map[string]string{t.prefix + "all": "", to: carried} {
		end, err := t.conn.Subscribe(subject, carried, receive)
		if err == nil {
			t.ends = append(t.ends, end)
			err = t.flush()
		}
		if err == nil {
			err = natswire.Refused(t.nc, subject)
		}
		if err != nil {
			t.end()
			return fmt.Errorf("natspresence: start: %w", err)
		}
	}
	t.ends = append(t.ends, natswire.Watch(t.nc, t.opts.Patience, link))
	return nil
}

// Broadcast hands the frame to the connection, which sends it at once, or when it is
// back, if it was lost. It fails when the connection was closed, and with
// nats.ErrReconnectBufExceeded when it was lost for too long.
func (t *Transport) Broadcast(frame []byte) error {
	if err := t.conn.Publish(t.prefix+"all", "", frame); err != nil {
		return fmt.Errorf("natspresence: broadcast: %w", err)
	}
	return nil
}

// Send is Broadcast to one node.
func (t *Transport) Send(node string, frame []byte) error {
	to, carried := t.to(node)
	if err := t.conn.Publish(to, carried, frame); err != nil {
		return fmt.Errorf("natspresence: send: %w", err)
	}
	return nil
}

// Stop ends what Start began. It returns when the server has what was handed over
// before, or with an error after Options.Timeout. The connection stays open. Stopping
// again, or what was never started, is a no-op.
func (t *Transport) Stop() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.ends) == 0 {
		return nil
	}
	t.end()
	if err := t.flush(); err != nil {
		return fmt.Errorf("natspresence: stop: %w", err)
	}
	return nil
}

// Dropped returns how many frames to this node were lost because it was slow, because
// parts of them did not come, or because they were malformed.
func (t *Transport) Dropped() uint64 { return t.conn.Dropped() }

func (t *Transport) to(node string) (subject, carried string) {
	token, carried := natswire.Token(node)
	return t.prefix + "to." + token, carried
}

func (t *Transport) end() {
	for _, end := range t.ends {
		end()
	}
	t.ends = nil
}

func (t *Transport) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), t.opts.Timeout)
	defer cancel()
	err := natswire.Flush(ctx, t.nc)
	if errors.Is(err, context.DeadlineExceeded) {
		return nats.ErrTimeout
	}
	return err
}
