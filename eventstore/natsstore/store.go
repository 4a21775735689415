package natsstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore/driver"
)

// A store is the driver.
type store struct {
	opt      Options
	log      link
	space    space
	limits   driver.Limits
	replicas int // of the log
	payload  int // bytes that a message may have, with its headers
	tails    tails
	wake     wake
	names    names
	crowds   crowds

	batches chan struct{} // bounds the batches under way

	snapshots, checkpoints, leases bucket
	saved                          revisions

	closers []func() error // after all calls have ended

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
	life   context.Context // ends when the store is closed
	die    context.CancelFunc
	end    sync.Once
	endErr error
}

// enter begins a call: it checks ctx and that the store is open, and bounds the
// call by Options.Timeout. The call must end with leave.
func (s *store) enter(ctx context.Context) (bounded context.Context, leave func(), err error) {
	if err := s.begin(ctx); err != nil {
		return nil, nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, s.opt.Timeout)
	return bounded, func() { cancel(); s.calls.Done() }, nil
}

func (s *store) begin(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return driver.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.calls.Add(1)
	return nil
}

// Close implements [driver.Store].
func (s *store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end.Do(func() {
		s.die()
		s.calls.Wait()
		var errs []error
		for _, f := range s.closers {
			errs = append(errs, f())
		}
		s.endErr = errors.Join(errs...)
	})
	return s.endErr
}

// Limits implements [driver.Store].
func (s *store) Limits() driver.Limits { return s.limits }

// As gives the *nats.Conn.
func (s *store) As(target any) bool {
	nc, ok := target.(**nats.Conn)
	if ok {
		*nc = s.log.nc
	}
	return ok
}

// leader returns how a stream stands, as the leader says.
func (s *store) leader(ctx context.Context, stream string) (state, error) {
	m, err := s.log.last(ctx, s.space.of(stream))
	if err != nil {
		return state{}, err
	}
	if m == nil {
		// What was remembered is gone with the whole log.
		s.tails.drop(stream)
		return state{}, nil
	}
	t, err := m.state()
	if err != nil {
		return state{}, err
	}
	s.tails.put(stream, t)
	return t, nil
}

// Stream implements [driver.Store]: the leader says it.
func (s *store) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return driver.StreamInfo{}, err
	}
	defer leave()
	t, err := s.leader(ctx, stream)
	if err != nil {
		return driver.StreamInfo{}, err
	}
	if t.purged {
		return driver.StreamInfo{}, driver.ErrStreamDeleted
	}
	return t.info(stream), nil
}

// lastSeq returns the sequence of the last message that the leader has, and that
// message if it is still there.
func (s *store) lastSeq(ctx context.Context) (uint64, *message, error) {
	m, err := s.log.last(ctx, ">")
	if err != nil {
		return 0, nil, err
	}
	if m != nil {
		return m.seq, m, nil
	}
	info, err := s.log.info(ctx, "", 0)
	if err != nil {
		return 0, nil, err
	}
	if info.State.Msgs == 0 {
		return 0, nil, nil
	}
	return info.State.LastSeq, nil, nil
}

// Head implements [driver.Store]: the leader says it.
func (s *store) Head(ctx context.Context) (uint64, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	last, m, err := s.lastSeq(ctx)
	if err != nil || m != nil && !m.marker() {
		return last, err
	}
	return s.below(ctx, last)
}

// below returns the position of the last event at or below a sequence, 0 if
// there is none.
func (s *store) below(ctx context.Context, seq uint64) (uint64, error) {
	all := driver.Filter{System: true}
	gone, err := s.removed(ctx)
	if err != nil {
		return 0, err
	}
	for from := seq + 1; from > 1; {
		list, scanned, err := s.backward(ctx, all, gone, from, 1)
		if err != nil {
			return 0, err
		}
		if len(list) > 0 {
			return list[0].Position, nil
		}
		from = scanned
	}
	return 0, nil
}

// name checks the name of a stream that is to be written.
func (s *store) name(stream string) error {
	if n := len(stream); n > s.limits.NameBytes {
		return fmt.Errorf("%w: a stream name of %d bytes, of %d", driver.ErrTooLarge, n, s.limits.NameBytes)
	}
	return nil
}

// events returns the events of messages that are in the order of their
// sequences, either way, without markers. All events that an append has in one
// stream have the time of the last of them.
func (s *store) events(ctx context.Context, list []*message) ([]driver.Recorded, error) {
	out := make([]driver.Recorded, 0, len(list))
	times := make(map[uint64]time.Time)
	for _, m := range list {
		times[m.seq] = m.time
	}
	for _, m := range list {
		if m.marker() {
			continue
		}
		stream, ok := s.space.stream(m.subject)
		if !ok {
			return nil, fmt.Errorf("%w: message %d is on %s", ErrNotStore, m.seq, m.subject)
		}
		r, err := m.recorded(stream)
		if err != nil {
			return nil, err
		}
		p, err := m.part()
		if err != nil {
			return nil, err
		}
		if later := p.later(); later > 0 {
			last := m.seq + later
			t, ok := times[last]
			if !ok {
				if t, err = s.timeOf(ctx, last, m.time); err != nil {
					return nil, err
				}
				times[last] = t
			}
			r.Time = t
		}
		out = append(out, r)
	}
	return out, nil
}

// timeOf returns the time of a message, or def if somebody has removed it.
func (s *store) timeOf(ctx context.Context, seq uint64, def time.Time) (time.Time, error) {
	list, err := s.log.direct(ctx, []uint64{seq})
	if err != nil {
		return time.Time{}, err
	}
	if list[0] == nil {
		return def, nil
	}
	return list[0].time, nil
}
