package natsstore

import (
	"context"
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
	list, err := s.append(ctx, []driver.Append{a}, func(_ string, err error) error { return err })
	if err != nil {
		return driver.Result{Err: err}
	}
	return list[0]
}

// AppendAtomic implements [driver.Atomic]: one batch over the subjects of all
// streams. The first message on each subject has an expectation, so that the
// server refuses all if one stream is not as its versions were derived. Otherwise
// it is as Append, and whichever stream shows the append shows that all have it.
func (s *store) AppendAtomic(ctx context.Context, as []driver.Append, _ func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	return s.append(ctx, as, func(stream string, err error) error {
		if c, ok := err.(*driver.ConflictError); ok {
			return &driver.ConflictError{Actual: c.Actual, Stream: stream}
		}
		return fmt.Errorf("natsstore: %s: %w", stream, err)
	})
}

// append appends to streams, all or none. The error of a stream that does not
// admit it is what refusal makes of it.
func (s *store) append(ctx context.Context, as []driver.Append, refusal func(stream string, err error) error) ([]driver.Result, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.fits(as); err != nil {
		return nil, err
	}
	w := write{s: s, nonce: newNonce()}
	for i := range as {
		a := &as[i]
		t := &target{stream: a.Stream, count: len(a.Events)}
		t.admits = func(st *state) error {
			if err := st.admits(a.Expected); err != nil {
				return refusal(a.Stream, err)
			}
			return nil
		}
		t.messages = func(st *state) ([]*nats.Msg, error) {
			list := st.messages(s.space.of(a.Stream), w.nonce, a.Events)
			for _, m := range list {
				if n := headerSize(m.Header) + len(m.Data); n > s.payload-serverHeaderBytes {
					return nil, fmt.Errorf("%w: an event of %d bytes with its headers, of %d", driver.ErrTooLarge, n, s.payload-serverHeaderBytes)
				}
			}
			return list, nil
		}
		t.after = func(st *state) state {
			n := *st
			n.version += uint64(len(a.Events))
			return n
		}
		w.targets = append(w.targets, t)
	}
	if err := w.do(ctx); err != nil {
		return nil, err
	}
	s.wake.tell(w.targets[len(w.targets)-1].at.seq)
	times := w.times(ctx)
	results := make([]driver.Result, len(as))
	for i, t := range w.targets {
		r := driver.Result{Version: t.at.version, Last: t.at.seq, Time: times[i], Positions: make([]uint64, t.count)}
		for k := range r.Positions {
			r.Positions[k] = t.at.seq - uint64(t.count-1-k)
		}
		results[i] = r
	}
	return results, nil
}

// times returns when the write was stored in each of its streams.
func (w *write) times(ctx context.Context) []time.Time {
	times := make([]time.Time, len(w.targets))
	for low := 0; low < len(times); low += together {
		var seqs []uint64
		for _, t := range w.targets[low:min(low+together, len(times))] {
			seqs = append(seqs, t.at.seq)
		}
		list, err := w.s.log.direct(ctx, seqs)
		for i, m := range list {
			if err != nil || m == nil {
				// It is written; only its time is not to be had.
				times[low+i] = time.Now().UTC()
			} else {
				times[low+i] = m.time
			}
		}
	}
	return times
}

// serverHeaderBytes is room for what a batch and its expectations add.
const serverHeaderBytes = 512

// fits checks an append against the limits, which count all its streams together.
func (s *store) fits(as []driver.Append) error {
	events, total := 0, 0
	for i := range as {
		a := &as[i]
		if err := s.name(a.Stream); err != nil {
			return err
		}
		events += len(a.Events)
		for k := range a.Events {
			n := a.Events[k].Size()
			if n > s.limits.EventBytes {
				return fmt.Errorf("%w: an event of %d bytes, of %d", driver.ErrTooLarge, n, s.limits.EventBytes)
			}
			total += n
		}
	}
	if events > s.limits.AppendEvents {
		return fmt.Errorf("%w: %d events in one append, of %d", driver.ErrTooLarge, events, s.limits.AppendEvents)
	}
	if total > s.limits.AppendBytes {
		return fmt.Errorf("%w: %d bytes in one append, of %d", driver.ErrTooLarge, total, s.limits.AppendBytes)
	}
	return nil
}
