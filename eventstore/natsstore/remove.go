package natsstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore/driver"
)

// What Truncate, Delete and Purge do is said by a marker, a message behind the
// stream's last that is no event. It is written first, with an expectation like
// every event; then the events are purged from the server. The marker stays, so
// that the version does. Whoever is interrupted in between can do it again.

// errNothing says that there is nothing to mark.
var errNothing = errors.New("nothing to do")

var errNoStream = errors.New("there is no such stream")

// Truncate implements [driver.Deleter].
func (s *store) Truncate(ctx context.Context, stream string, before uint64) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.mark(ctx, stream, kindMoved, func(t *state) error {
		switch {
		case t.purged:
			return driver.ErrStreamDeleted
		case t.version == 0:
			return fmt.Errorf("natsstore: truncate %s: %w", stream, errNoStream)
		case before > t.version+1:
			return fmt.Errorf("natsstore: truncate %s before %d: it ends at version %d", stream, before, t.version)
		case before <= t.first:
			return errNothing
		}
		return nil
	}, func(t *state) { t.first = before })
}

// Delete implements [driver.Deleter].
func (s *store) Delete(ctx context.Context, stream string, expected int64) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.mark(ctx, stream, kindMoved, func(t *state) error {
		if err := t.admits(expected); err != nil {
			return err
		}
		if !t.exists() {
			return errNothing
		}
		return nil
	}, func(t *state) { t.first, t.origin = t.version+1, t.version })
}

// Purge implements [driver.Deleter].
func (s *store) Purge(ctx context.Context, stream string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.name(stream); err != nil {
		return err
	}
	err = s.mark(ctx, stream, kindPurged, func(t *state) error {
		if t.purged {
			return errNothing
		}
		return nil
	}, func(t *state) { t.first, t.origin, t.purged = t.version+1, t.version, true })
	if err != nil {
		return err
	}
	return s.forgetSnapshot(ctx, stream)
}

// mark writes a marker that changes how a stream stands, unless admits says why
// not, and purges what can no longer be read.
func (s *store) mark(ctx context.Context, stream, kind string, admits func(*state) error, change func(*state)) error {
	subject := s.space.of(stream)
	g := &target{stream: stream, admits: admits}
	w := write{s: s, nonce: newNonce(), targets: []*target{g}}
	g.after = func(t *state) state {
		n := *t
		change(&n)
		n.history = n.history.from(n.first)
		return n
	}
	g.messages = func(t *state) ([]*nats.Msg, error) {
		n := g.after(t)
		return []*nats.Msg{n.marker(subject, kind, w.nonce)}, nil
	}
	err := w.do(ctx)
	t := g.at
	if errors.Is(err, errNothing) {
		// Perhaps an earlier attempt was interrupted before it could purge.
		t, err = s.leader(ctx, stream)
	}
	if err != nil {
		return err
	}
	return s.sweep(ctx, stream, &t)
}

// sweep purges the events of a stream that can no longer be read.
func (s *store) sweep(ctx context.Context, stream string, t *state) error {
	subject := s.space.of(stream)
	m, err := s.log.next(ctx, 1, subject)
	if err != nil || m == nil {
		return err
	}
	below := t.seq // of the marker, or of the last event: it must stay
	if t.first <= t.version {
		list, err := s.load(ctx, stream, t, t.first, t.first)
		if errors.Is(err, errGone) {
			return nil // somebody else has truncated more
		}
		if err != nil {
			return err
		}
		below = list[0].seq
	}
	if m.seq >= below {
		return nil
	}
	if err := s.announce(ctx, subject, below); err != nil {
		return err
	}
	return s.log.purge(ctx, subject, below)
}
