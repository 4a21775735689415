package pubsub

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/bits"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// A Bus delivers what is published to the subscriptions of its process, and
// through its [Transport], if it has one, to those of other processes. Make one
// with [Local] or [New], usually one a process. It is safe for concurrent use.
type Bus struct {
	node      uuid.UUID
	transport Transport // nil: there are no others
	max       int
	log       *slog.Logger

	ctx      context.Context // ends with the bus
	end      context.CancelCauseFunc
	rejected atomic.Uint64

	seed   maphash.Seed
	shards [shards]shard
}

// shards is how many parts the topics are spread over, so that topics seldom
// wait for each other.
const shards = 64

// A shard holds the topics whose names hash to it.
type shard struct {
	mu     sync.RWMutex
	groups map[string]member // topics with subscriptions
	closed bool

	// What goes to the transport is numbered and handed over in one step, so that
	// numbers arrive in order. The numbers of a topic increase, with gaps: counting
	// by shard needs no memory of topics. A channel of one is a lock that heeds ctx.
	send chan struct{}
	sent uint64
}

// A member of a shard is a *group[T] of any T.
type member interface{ close(err error) }

// Options change how a Bus works. The zero Options are the defaults.
type Options struct {
	// MaxBytes limits the size in bytes of what is handed to the transport: the
	// encoded value and an envelope of 25 bytes. Zero means 1 MiB. Larger values
	// are refused with ErrTooLarge, larger messages of others are rejected.
	MaxBytes int
	// Logger is told of rejected messages, at level Warn. Nil means slog.Default().
	Logger *slog.Logger
}

// DefaultMaxBytes is the size limit of a Bus whose Options set none: 1 MiB.
const DefaultMaxBytes = 1 << 20

// Local returns a bus for a single process. Values are never encoded.
func Local() *Bus { return New(nil, nil) }

// New returns a bus that reaches, through transport, the other buses of the same
// network. Without a transport it is like [Local]. The transport remains the
// caller's to close, after the bus. Nil options are the defaults; New panics on a
// MaxBytes that is negative or leaves no room for a value.
func New(transport Transport, opt *Options) *Bus {
	var o Options
	if opt != nil {
		o = *opt
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.MaxBytes <= envelopeBytes {
		panic(fmt.Sprintf("pubsub: MaxBytes is %d, must be more than the %d of an envelope", o.MaxBytes, envelopeBytes))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	b := &Bus{node: uuid.New(), transport: transport, max: o.MaxBytes, log: o.Logger, seed: maphash.MakeSeed()}
	b.ctx, b.end = context.WithCancelCause(context.Background())
	for i := range b.shards {
		b.shards[i].groups = map[string]member{}
		b.shards[i].send = make(chan struct{}, 1)
	}
	return b
}

// Node returns the ID that tells this bus from the others of its network. It is
// random: a restarted process is another node.
func (b *Bus) Node() uuid.UUID { return b.node }

// Rejected returns how many messages of other nodes were thrown away because they
// were malformed, too large, or could not be decoded. The 1st, 2nd, 4th, 8th and so
// on are logged.
func (b *Bus) Rejected() uint64 { return b.rejected.Load() }

// Close ends all subscriptions with ErrClosed: what is in a mailbox can still be
// received, then C is closed. Publishing and subscribing fail with ErrClosed from
// now on. Close does not close the transport. It always returns nil, and may be
// called again.
func (b *Bus) Close() error {
	b.end(ErrClosed)
	for i := range b.shards {
		sh := &b.shards[i]
		sh.mu.Lock()
		sh.closed = true
		groups := make([]member, 0, len(sh.groups))
		for _, g := range sh.groups {
			groups = append(groups, g)
		}
		sh.mu.Unlock()
		for _, g := range groups {
			g.close(ErrClosed)
		}
	}
	return nil
}

// Errors of publishing and subscribing; test with errors.Is.
var (
	// ErrClosed reports a bus that was closed.
	ErrClosed = errors.New("pubsub: the bus is closed")
	// ErrName reports a topic whose name is not 1 to 255 bytes of valid UTF-8
	// without control characters.
	ErrName = errors.New("pubsub: bad topic name")
	// ErrTooLarge reports a value whose encoding is over Options.MaxBytes.
	ErrTooLarge = errors.New("pubsub: message too large")
	// ErrType reports a topic that has subscriptions of another type of values.
	ErrType = errors.New("pubsub: the topic is subscribed to with another type")
	// ErrLagged is the end of a subscription whose mailbox was full, with Fail.
	ErrLagged = errors.New("pubsub: the subscriber was too slow")
)

// A PanicError is a panic of a codec, of a Mailbox's Key, or of what is given to
// [SubscribeRead]. It is found with errors.As.
type PanicError struct {
	Value any    // what the code panicked with
	Stack []byte // as formatted by debug.Stack
}

func (e *PanicError) Error() string { return fmt.Sprintf("pubsub: panic: %v", e.Value) }

// Unwrap returns Value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// guard, deferred, turns a panic into an error.
func guard(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

func (b *Bus) shard(topic string) *shard {
	return &b.shards[maphash.String(b.seed, topic)%shards]
}

// check says why nothing can be done with a topic.
func (b *Bus) check(ctx context.Context, topic string) error {
	if err := checkName(topic); err != nil {
		return err
	}
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}

func checkName(topic string) error {
	switch {
	case topic == "" || len(topic) > 255:
		return fmt.Errorf("%w: %d bytes, must be 1 to 255", ErrName, len(topic))
	case !utf8.ValidString(topic):
		return fmt.Errorf("%w: %q is not UTF-8", ErrName, topic)
	}
	for _, r := range topic {
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: %q has a control character", ErrName, topic)
		}
	}
	return nil
}

// transmit hands payload to the transport, in the order of its calls for the topic.
func (b *Bus) transmit(ctx context.Context, topic string, payload []byte) error {
	message := make([]byte, 0, envelopeBytes+len(payload))
	sh := b.shard(topic)
	select {
	case sh.send <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-sh.send }()
	sh.sent++
	message = appendEnvelope(message, b.node, sh.sent)
	return b.transport.Publish(ctx, topic, append(message, payload...))
}

// reject counts a message of another node that nobody gets, and why.
func (b *Bus) reject(topic string, err error) {
	if n := b.rejected.Add(1); bits.OnesCount64(n) == 1 { // a flood of them must not become one of log records
		b.log.Warn("pubsub: message rejected", "topic", topic, "error", err, "rejected", n)
	}
}
