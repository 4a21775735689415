package eventstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A Store is an event store. It is safe for concurrent use.
type Store struct {
	// Types names the events. Aggregates and projections add to it when they
	// are opened.
	Types Types

	d       driver.Store
	opt     Options
	decoder decoder
	limits  Limits
	writer  *writer // nil if the driver commits each append by itself
	tail    tail

	consumers consumers

	inlines struct {
		sync.Mutex // of writers
		list       atomic.Pointer[[]*inline]
	}

	watchers struct {
		sync.RWMutex
		by map[string][]*watcher // by category
	}

	closing atomic.Bool
	direct  sync.RWMutex  // read-locked by appends in a driver that commits each by itself
	gone    chan struct{} // closed when nobody waits for appends any longer
	closed  chan struct{}
	close   sync.Once
	err     error // of closing the driver
}

// Limits are what a store takes in one piece.
type Limits = driver.Limits

// Options configures a Store. A nil *Options means the defaults.
type Options struct {
	Codecs   []Codec      // the first writes; the stored content type chooses the reader; default JSON
	Seal     Sealer       // applied to encoded data; default none
	Logger   *slog.Logger // default slog.Default()
	PageSize int          // events per driver read; default 512
	// Verify decodes every event again before it is appended and fails the append
	// with ErrCodec if that gives another value. It is meant for tests.
	Verify bool
	Trace  *Trace
}

// Limits that hold where a driver has none of its own.
const (
	defaultEventBytes   = 1 << 20
	defaultAppendEvents = 1 << 16
	defaultAppendBytes  = 64 << 20
	defaultBatchEvents  = 4096
	defaultBatchBytes   = 4 << 20
)

// New returns a Store on top of a driver. It is for drivers and for tests;
// applications call a driver's Open.
func New(d driver.Store, opt *Options) *Store {
	s := &Store{d: d, gone: make(chan struct{}), closed: make(chan struct{})}
	if opt != nil {
		s.opt = *opt
	}
	if len(s.opt.Codecs) == 0 {
		s.opt.Codecs = []Codec{JSON}
	}
	if s.opt.Logger == nil {
		s.opt.Logger = slog.Default()
	}
	if s.opt.PageSize <= 0 {
		s.opt.PageSize = 512
	}
	if s.opt.Trace == nil {
		s.opt.Trace = &Trace{}
	}
	s.Types.codec = s.opt.Codecs[0]
	s.decoder = decoder{types: &s.Types, codecs: s.opt.Codecs, seal: s.opt.Seal}
	s.limits = limitsOf(d)
	if b, ok := d.(driver.Batcher); ok {
		s.writer = newWriter(s, b)
	}
	s.tail.init(s)
	return s
}

func limitsOf(d driver.Store) Limits {
	l := d.Limits()
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&l.EventBytes, defaultEventBytes)
	set(&l.AppendEvents, defaultAppendEvents)
	set(&l.AppendBytes, defaultAppendBytes)
	set(&l.BatchEvents, defaultBatchEvents)
	set(&l.BatchBytes, defaultBatchBytes)
	set(&l.NameBytes, nameBytes)
	set(&l.Writers, 1)
	return l
}

// Limits returns what the store takes in one piece; no field but Exclusive is zero.
func (s *Store) Limits() Limits { return s.limits }

// As reports whether the driver is, or can give, a value of *target's type,
// and sets it. It is the way out of the portable API; see each driver.
func (s *Store) As(target any) bool {
	v, ok := s.d.(driver.Viewer)
	return ok && v.As(target)
}

// Head returns the position of the last event, 0 if there is none.
func (s *Store) Head(ctx context.Context) (Position, error) {
	p, err := s.d.Head(ctx)
	if err != nil {
		return 0, fmt.Errorf("eventstore: head: %w", err)
	}
	return Position(p), nil
}

// Checkpoints returns the store's named positions, or an ErrUnsupported.
func (s *Store) Checkpoints() (driver.Checkpointer, error) {
	if c, ok := s.d.(driver.Checkpointer); ok {
		return c, nil
	}
	return nil, fmt.Errorf("eventstore: checkpoints: %w", ErrUnsupported)
}

// Leases returns the store's leases, or an ErrUnsupported.
func (s *Store) Leases() (driver.Leaser, error) {
	if l, ok := s.d.(driver.Leaser); ok {
		return l, nil
	}
	return nil, fmt.Errorf("eventstore: leases: %w", ErrUnsupported)
}

const closeTimeout = 10 * time.Second

// Close is Shutdown with ten seconds. It may be called more than once.
func (s *Store) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return s.Shutdown(ctx)
}

// Shutdown refuses new appends with ErrClosed, commits those that are queued,
// ends all subscriptions and consumers with ErrClosed, gives up the leases of these, and closes the driver. When ctx ends
// first, appends that are still queued get ErrClosed, and those in the driver
// ErrOutcomeUnknown; the driver is closed as soon as it is done with them. Calls
// after the first wait for it and return the same error.
func (s *Store) Shutdown(ctx context.Context) error {
	s.closing.Store(true)
	s.close.Do(func() {
		idle := make(chan struct{})
		go func() {
			if s.writer != nil {
				s.writer.drain()
			}
			s.direct.Lock() // when those under way are done
			close(idle)
			s.direct.Unlock()
		}()
		end := func() {
			s.consumers.close()
			s.tail.close()
			s.err = s.d.Close()
			close(s.closed)
		}
		select {
		case <-idle:
			end()
		case <-ctx.Done():
			close(s.gone)
			s.tail.close()
			go func() {
				<-idle
				end()
			}()
		}
	})
	select {
	case <-s.closed:
		return s.err
	case <-ctx.Done():
		select {
		case <-s.closed:
			return s.err
		default:
			return fmt.Errorf("eventstore: shutdown: %w", ctx.Err())
		}
	}
}

// A watcher is told of appends to the streams of a category.
type watcher struct {
	fn func(stream StreamName, v Version)
}

// Watch calls fn after every append of this process to a stream of category,
// with the version it ended at, before the append's caller is answered; and with
// version 0, which says to forget what is known, after a conditional append and
// after a stream was truncated, deleted or purged. It is how
// repositories learn that what they remember is old. fn must be quick and must
// not call the store. Call stop when done.
func (s *Store) Watch(category string, fn func(stream StreamName, v Version)) (stop func()) {
	w := &watcher{fn}
	s.watchers.Lock()
	defer s.watchers.Unlock()
	if s.watchers.by == nil {
		s.watchers.by = map[string][]*watcher{}
	}
	// Lists are never changed in place, so that changed can range without the lock.
	old := s.watchers.by[category]
	s.watchers.by[category] = append(old[:len(old):len(old)], w)
	return func() {
		s.watchers.Lock()
		defer s.watchers.Unlock()
		var rest []*watcher
		for _, x := range s.watchers.by[category] {
			if x != w {
				rest = append(rest, x)
			}
		}
		s.watchers.by[category] = rest
	}
}

func (s *Store) changed(stream StreamName, v Version) {
	s.watchers.RLock()
	list := s.watchers.by[stream.Category()]
	s.watchers.RUnlock()
	for _, w := range list {
		w.fn(stream, v)
	}
}
