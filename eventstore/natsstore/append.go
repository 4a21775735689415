package natsstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore/driver"
)

// Append implements [driver.Store].
//
// An append is written with an expectation: the sequence of the last message on
// the stream's subject, from which its versions were derived. So the server
// decides, and what this process believes of the stream only has to be right,
// not known to be. If the server refuses, or does not answer, the leader is
// asked how the stream stands:
//
//	our own append is there     it was written, and its answer was lost
//	the stream is as it was     nobody has written: try again
//	the stream has moved        what is expected is looked at again
//
// To try again is safe even if the first try is still on its way, since both
// have the same expectation and only one of them can hold.
func (s *store) Append(ctx context.Context, a driver.Append) driver.Result {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return driver.Result{Err: err}
	}
	defer leave()
	if err := s.fits(&a); err != nil {
		return driver.Result{Err: err}
	}
	w := write{s: s, stream: a.Stream, count: len(a.Events)}
	w.admits = func(t *state) error { return t.admits(a.Expected) }
	w.messages = func(t *state) ([]*nats.Msg, error) {
		list := t.messages(s.space.of(a.Stream), w.nonce, a.Events)
		for _, m := range list {
			if n := headerSize(m.Header) + len(m.Data); n > s.payload-serverHeaderBytes {
				return nil, fmt.Errorf("%w: an event of %d bytes with its headers, of %d", driver.ErrTooLarge, n, s.payload-serverHeaderBytes)
			}
		}
		return list, nil
	}
	w.after = func(t *state) state {
		n := *t
		n.version += uint64(len(a.Events))
		return n
	}
	t, err := w.do(ctx)
	if err != nil {
		return driver.Result{Err: err}
	}
	s.wake.tell(t.seq)
	r := driver.Result{Version: t.version, Last: t.seq, Positions: make([]uint64, len(a.Events))}
	for i := range r.Positions {
		r.Positions[i] = t.seq - uint64(len(a.Events)-1-i)
	}
	if r.Time, err = s.timeOf(ctx, t.seq, time.Time{}); err != nil || r.Time.IsZero() {
		// It is written; only its time is not to be had.
		r.Time = time.Now().UTC()
	}
	return r
}

// serverHeaderBytes is room for what a batch and its expectations add.
const serverHeaderBytes = 512

// fits checks an append against the limits.
func (s *store) fits(a *driver.Append) error {
	if err := s.name(a.Stream); err != nil {
		return err
	}
	if n := len(a.Events); n > s.limits.AppendEvents {
		return fmt.Errorf("%w: %d events in one append, of %d", driver.ErrTooLarge, n, s.limits.AppendEvents)
	}
	total := 0
	for i := range a.Events {
		n := a.Events[i].Size()
		if n > s.limits.EventBytes {
			return fmt.Errorf("%w: an event of %d bytes, of %d", driver.ErrTooLarge, n, s.limits.EventBytes)
		}
		total += n
	}
	if total > s.limits.AppendBytes {
		return fmt.Errorf("%w: %d bytes in one append, of %d", driver.ErrTooLarge, total, s.limits.AppendBytes)
	}
	return nil
}

// A write writes messages behind a stream's last, once.
type write struct {
	s        *store
	stream   string
	nonce    string                            // in each of the messages
	count    int                               // by how many versions the stream grows
	admits   func(*state) error                // why a stream that stands so may not be written to
	messages func(*state) ([]*nats.Msg, error) // to be written behind it
	after    func(*state) state                // how it stands then, but for what do fills in
}

// do returns how the stream stands behind what it has written. It refuses only by
// a state that the leader has told.
func (w *write) do(ctx context.Context) (state, error) {
	w.nonce = newNonce()
	t, known := w.s.tails.get(w.stream)
	fresh := false   // t is from the leader
	unknown := false // a try, behind t, may have been written
	for wait := time.Millisecond; ; {
		if !known {
			now, err := w.s.leader(ctx, w.stream)
			if err != nil {
				return state{}, outcome(unknown, err)
			}
			if done, ok, err := w.written(ctx, &t, &now, unknown); err != nil || ok {
				return done, outcome(unknown, err)
			}
			if now.seq != t.seq {
				unknown = false // the expectation of every try is broken for good
			}
			t, known, fresh = now, true, true
		}
		if err := w.admits(&t); err != nil {
			if !fresh {
				known = false
				continue
			}
			return state{}, outcome(unknown, err)
		}
		list, err := w.messages(&t)
		if err != nil {
			return state{}, outcome(unknown, err)
		}
		seq, err := w.send(ctx, list)
		if err == nil {
			return w.landed(&t, seq), nil
		}
		v := judge(err)
		switch {
		case v == doubtful || v == lost:
			unknown, known = true, false
		case v == moved:
			known = false
		}
		if v == refused || v == lost || ctx.Err() != nil {
			return state{}, outcome(unknown, ended(ctx, err))
		}
		if v == moved && !fresh {
			continue // what was remembered was old
		}
		if pause(ctx, wait) != nil {
			return state{}, outcome(unknown, ended(ctx, err))
		}
		wait = min(2*wait, 64*time.Millisecond)
	}
}

// slowest is how many bytes a second a connection is expected to take at least.
const slowest = 1 << 20

// send writes the messages, and fails if one of them may not have been.
func (w *write) send(ctx context.Context, list []*nats.Msg) (uint64, error) {
	size := 0
	for _, m := range list {
		size += len(m.Data)
	}
	ctx, cancel := context.WithTimeout(ctx, w.s.log.sending+time.Duration(size)*time.Second/slowest)
	defer cancel()
	if len(list) == 1 {
		return w.s.log.publish(ctx, list[0])
	}
	select {
	case w.s.batches <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", errBeforeCommit, ctx.Err())
	}
	defer func() { <-w.s.batches }()
	return w.s.log.publishBatch(ctx, list)
}

// landed returns how the stream stands behind the messages written behind t, of
// which the last is at seq.
func (w *write) landed(t *state, seq uint64) state {
	n := w.after(t)
	n.seq, n.nonce = seq, w.nonce
	if w.count > 0 {
		n.history = t.history.pushAll(seq-uint64(w.count)+1, w.count)
	}
	w.s.tails.put(w.stream, n)
	return n
}

// written reports whether a stream that stands as now, and stood as t when it was
// tried to be written behind, has what was to be written. If unknown is false no
// try can have been written but by being sent twice: then only a look at the last
// message is worth it.
func (w *write) written(ctx context.Context, t, now *state, unknown bool) (state, bool, error) {
	if now.nonce == w.nonce {
		return w.landed(t, now.seq), true, nil
	}
	version := t.version + uint64(w.count)
	if !unknown || w.count == 0 || now.version < version {
		return state{}, false, nil
	}
	if version < now.first {
		return state{}, false, errors.New("what became of it was truncated")
	}
	list, err := w.s.load(ctx, w.stream, now, version, version)
	if err != nil {
		return state{}, false, err
	}
	if list[0].header.Get(headerAppend) != w.nonce {
		return state{}, false, nil
	}
	return w.landed(t, list[0].seq), true, nil
}

// A verdict is what the error of a try says of it.
type verdict int

const (
	doubtful verdict = iota // it may have been written, or may be yet
	lost                    // so it may, and nothing more can be asked
	refused                 // it was not written and never will be
	moved                   // it was not written: the stream seems not to be as expected
	busy                    // it was not written: the server cannot just now
)

func judge(err error) verdict {
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrHeadersNotSupported):
		return refused
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining), errors.Is(err, nats.ErrInvalidConnection):
		if errors.Is(err, errBeforeCommit) {
			return refused
		}
		return lost
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrReconnectBufExceeded):
		return busy
	}
	switch code(err) {
	case 0:
		if errors.Is(err, errBeforeCommit) {
			return busy
		}
		return doubtful
	case codeWrongSequence, codeInProcess, codeBatchDuplicate:
		return moved
	case codeNotReady, codeTooMany, codeTooManyBatches, codeBatchPartial:
		return busy
	}
	if unanswered(err) {
		return busy
	}
	return refused
}

// outcome marks the error of a write that may have been made all the same.
func outcome(unknown bool, err error) error {
	switch {
	case err == nil:
		return nil
	case unknown:
		return fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, err)
	case errors.Is(err, nats.ErrMaxPayload), code(err) == codeBatchLarge:
		return fmt.Errorf("%w: %w", driver.ErrTooLarge, err)
	}
	return err
}

// newNonce returns a text that no other append has.
func newNonce() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it cannot fail
	return hex.EncodeToString(b[:])
}
