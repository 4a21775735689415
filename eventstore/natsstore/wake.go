package natsstore

import (
	"context"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore/driver"
)

// A wake spreads the word that something was appended: a plain message with the
// position, sent after each append and kept by nobody. It is a hint. One that is
// lost, because a connection was, or that was never sent, because the appender
// died, costs a poll interval. The connection renews the subscription by itself.
type wake struct {
	nc      *nats.Conn
	subject string

	mu      sync.Mutex
	sub     *nats.Subscription
	changed chan struct{} // closed at each word
	last    uint64        // the highest position heard of
}

func (w *wake) tell(position uint64) {
	_ = w.nc.Publish(w.subject, strconv.AppendUint(nil, position, 10))
	w.heard(position)
}

func (w *wake) heard(position uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = max(w.last, position)
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// listen subscribes, the first time, and returns a channel that is closed at the
// next word, and the highest position heard of so far.
func (w *wake) listen() (next <-chan struct{}, last uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sub == nil {
		sub, err := w.nc.Subscribe(w.subject, func(m *nats.Msg) {
			if p, err := strconv.ParseUint(string(m.Data), 10, 64); err == nil {
				w.heard(p)
			}
		})
		if err != nil {
			return nil, 0, err
		}
		w.sub = sub
	}
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed, w.last, nil
}

func (w *wake) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sub != nil {
		_ = w.sub.Unsubscribe() // the connection may be closed
	}
	return nil
}

// Wait implements [driver.Store].
func (s *store) Wait(ctx context.Context, after uint64) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.calls.Done()
	asking, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.life, stop)()
	for {
		changed, last, err := s.wake.listen()
		if err == nil && last <= after {
			// What was appended before the subscription was there is found here.
			last, _, _ = s.lastSeq(asking)
		}
		if last > after {
			return nil
		}
		select {
		case <-changed:
		case <-s.life.Done():
			return driver.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
