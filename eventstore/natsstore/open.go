package natsstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// Options configures a store. A nil *Options means the defaults.
type Options struct {
	// Store configures the portable store that Open returns.
	Store eventstore.Options
	// Name is that of the JetStream stream that is the log, and the first token
	// of its subjects: letters, digits, dashes and underscores, at most 32, and
	// neither "ps" nor "pr", on whose subjects the transports of pubsub and presence are. Several
	// stores may share an account under different names. The default is "levada".
	Name string
	// Replicas is how many servers keep the log: 1, 3 or 5. It counts when the
	// store is created; a store that is there with another number is refused. Zero
	// takes what is there, and creates with 3 where the servers form a cluster of
	// which the connection knows three or more, else with 1.
	Replicas int
	// Durability says what an acknowledged event survives. The default is Quorum.
	// See the type for what of it can be verified.
	Durability Durability
	// Timeout is how long one call may take, whatever its ctx allows, and so how
	// long an append of which the outcome is not known is pursued. A leader that
	// was killed is replaced within 9 s. The default is 20 s, the least 1 s.
	Timeout time.Duration

	// For tests.
	recycle func(name string) // called by Close
	sending time.Duration     // the constant's
}

// Durability says when an append is acknowledged.
type Durability int

const (
	// Quorum acknowledges when a majority of the replicas has the events, in the
	// page cache of its operating system: they survive the end of any process, and
	// the loss of a minority of the machines. A server flushes them to its disk
	// within its sync_interval, which is two minutes by default. The last of them
	// may be lost if a majority of the machines loses power at once. With one
	// replica, one machine is the majority.
	Quorum Durability = iota
	// Fsync acknowledges when the events are flushed to disk as well. It is a
	// setting of the servers, sync_interval: always, and not of a connection.
	// OpenEmbedded makes it. Open and OpenURL cannot: no request that an account
	// may make tells a server's sync_interval. They verify only that the log is on
	// files and is not persisted asynchronously; that every server has
	// sync_interval: always, the caller asserts by asking for Fsync.
	Fsync
)

func (d Durability) String() string {
	if d == Fsync {
		return "fsync"
	}
	return "quorum"
}

// Limits of one piece.
const (
	maxNameBytes   = 255
	maxAppendBytes = 16 << 20
	// A sixteenth of what a message may have is for what comes to an event's own
	// bytes: names of headers, back pointers, and the lengths of many texts.
	overhead     = 16
	leastPayload = 64 << 10
	// recordOverhead is what comes to a record of a bucket.
	recordOverhead = 4096
)

const (
	defaultName    = "levada"
	defaultTimeout = 20 * time.Second
)

// Open opens the store on a connection, and creates it if there is none: a
// JetStream stream. The connection is the caller's, who closes it after the
// store; it should reconnect for ever.
//
// A stream of that name that is there is checked, not changed: ErrConfig,
// ErrNotStore, ErrNewerFormat. The servers must be of version 2.12 or later.
// While a cluster has no leader, or not enough servers for the replicas, Open
// tries again until ctx is done or Options.Timeout has passed. A user who may not
// read or write the log gets nats.ErrPermissionViolation, with the subject.
func Open(ctx context.Context, nc *nats.Conn, opt *Options) (*eventstore.Store, error) {
	return portable(opt)(OpenDriver(ctx, nc, opt))
}

// OpenURL is Open on a connection of the store's own, which reconnects for ever
// and is closed with the store. The URL may name several servers, separated by
// commas: nats://a,nats://b.
func OpenURL(ctx context.Context, url string, opt *Options) (*eventstore.Store, error) {
	return portable(opt)(openURL(ctx, url, opt))
}

func portable(opt *Options) func(driver.Store, error) (*eventstore.Store, error) {
	return func(d driver.Store, err error) (*eventstore.Store, error) {
		if err != nil {
			return nil, err
		}
		var o eventstore.Options
		if opt != nil {
			o = opt.Store
		}
		return eventstore.New(d, &o), nil
	}
}

// OpenDriver is Open without the portable store, for tests and measurements.
func OpenDriver(ctx context.Context, nc *nats.Conn, opt *Options) (driver.Store, error) {
	s, err := open(ctx, nc, opt)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openURL(ctx context.Context, text string, opt *Options) (driver.Store, error) {
	nc, err := connect(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("natsstore: connect to %s: %w", redact(text), err)
	}
	s, err := open(ctx, nc, opt)
	if err != nil {
		nc.Close()
		return nil, err
	}
	s.closers = append(s.closers, func() error { nc.Close(); return nil })
	return s, nil
}

// connect connects within ctx.
func connect(ctx context.Context, text string) (*nats.Conn, error) {
	opts := []nats.Option{nats.Name("levada"), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond)}
	if deadline, ok := ctx.Deadline(); ok {
		opts = append(opts, nats.Timeout(max(time.Until(deadline), time.Millisecond)))
	}
	type result struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan result, 1)
	go func() {
		nc, err := nats.Connect(text, opts...)
		done <- result{nc, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && strings.Contains(r.err.Error(), "@") {
			return nil, errors.New("natsstore: malformed URL") // its text may hold a password
		}
		return r.nc, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// redact removes names, passwords and tokens from a list of URLs.
func redact(text string) string {
	list := strings.Split(text, ",")
	for i, t := range list {
		if u, err := url.Parse(strings.TrimSpace(t)); err == nil && u.Host != "" {
			list[i] = u.Scheme + "://" + u.Host
		} else {
			_, list[i], _ = cutLast(t, "@")
		}
	}
	return strings.Join(list, ",")
}

func cutLast(text, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return "", text, false
}

var validName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

func (o *Options) setDefaults() error {
	if o.Name == "" {
		o.Name = defaultName
	}
	if o.Name == "ps" || o.Name == "pr" {
		return fmt.Errorf("natsstore: name %q: its subjects are those of pubsub and presence", o.Name)
	}
	if !validName.MatchString(o.Name) {
		return fmt.Errorf("natsstore: name %.40q: want at most 32 letters, digits, dashes and underscores", o.Name)
	}
	if o.Replicas != 0 && o.Replicas != 1 && o.Replicas != 3 && o.Replicas != 5 {
		return fmt.Errorf("natsstore: %d replicas: want 1, 3 or 5", o.Replicas)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Timeout < time.Second {
		return fmt.Errorf("natsstore: a timeout of %v: want 1 s or more", o.Timeout)
	}
	return nil
}

func open(ctx context.Context, nc *nats.Conn, opt *Options) (*store, error) {
	s := &store{batches: make(chan struct{}, openBatches), tails: tails{atMost: rememberedTails}}
	s.life, s.die = context.WithCancel(context.Background())
	if opt != nil {
		s.opt = *opt
	}
	if err := s.opt.setDefaults(); err != nil {
		return nil, err
	}
	name := s.opt.Name
	to := func(stream string) link { return link{nc: nc, stream: stream, sending: cmp.Or(s.opt.sending, sending)} }
	s.log = to(name)
	s.space = space(name)
	// No store has such subjects: its name, which they begin with, has no "=".
	s.wake = wake{nc: nc, subject: "levada=appended." + name}
	ctx, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	defer cancel()
	replicas, message, err := s.log.prepare(ctx, s.opt.Replicas)
	if err != nil {
		return nil, fmt.Errorf("natsstore: open %s: %w", name, err)
	}
	s.replicas = replicas
	s.payload = int(nc.MaxPayload())
	if message > 0 {
		s.payload = min(s.payload, message)
	}
	if s.payload < leastPayload {
		return nil, fmt.Errorf("natsstore: open %s: %w: messages of %d bytes (max_payload, max_msg_size); want %d or more", name, ErrConfig, s.payload, leastPayload)
	}
	s.limits = driver.Limits{
		EventBytes:   s.payload - s.payload/overhead,
		AppendEvents: maxBatch,
		AppendBytes:  max(maxAppendBytes, s.payload),
		NameBytes:    maxNameBytes,
	}
	s.snapshots = bucket{link: to("KV_" + name + "-snap"), replicas: replicas, payload: s.payload}
	s.checkpoints = bucket{link: to("KV_" + name + "-cp"), replicas: replicas, payload: s.payload}
	s.leases = bucket{link: to("KV_" + name + "-lease"), replicas: replicas, payload: s.payload}
	s.closers = append(s.closers, s.wake.close)
	if s.opt.recycle != nil {
		s.closers = append(s.closers, func() error { s.opt.recycle(name); return nil })
	}
	return s, nil
}
