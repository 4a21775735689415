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

// A write writes messages behind the last ones of some streams, all or none, once.
// They follow each other in the log, in the order of the targets.
type write struct {
	s       *store
	nonce   string // in each of the messages
	targets []*target
	// unknown says that a try, behind the targets as they stand, may have been
	// written, or may be yet.
	unknown bool
}

// A target is one stream of a write, and what is written there.
type target struct {
	stream   string
	count    int                               // by how many versions it grows; 0 for a marker, which is one message
	admits   func(*state) error                // why a stream that stands so may not be written to
	messages func(*state) ([]*nats.Msg, error) // to be written behind it
	after    func(*state) state                // how it stands then, but for what landed fills in

	at    state // how it stands; when all is done, behind the write
	known bool  // at was said by somebody
	fresh bool  // and by the leader
}

// do writes, and leaves in the targets how their streams stand behind it. It
// refuses only by states that the leader has told.
func (w *write) do(ctx context.Context) error {
	for _, t := range w.targets {
		t.at, t.known = w.s.tails.get(t.stream)
	}
	for wait := time.Millisecond; ; {
		if done, err := w.look(ctx); err != nil || done {
			return outcome(w.unknown, err)
		}
		fresh := w.fresh()
		if i, err := w.refused(); err != nil {
			if !fresh {
				w.forget()
				continue
			}
			return outcome(w.unknown, w.first(ctx, i, err))
		}
		var list []*nats.Msg
		for _, t := range w.targets {
			more, err := t.messages(&t.at)
			if err != nil {
				return outcome(w.unknown, err)
			}
			list = append(list, more...)
		}
		seq, err := w.send(ctx, list)
		if err == nil {
			w.landed(seq)
			return nil
		}
		v := judge(err)
		switch v {
		case doubtful, lost:
			w.unknown = true
			w.forget()
		case moved:
			w.forget()
		}
		if v == refused || v == lost || ctx.Err() != nil {
			return outcome(w.unknown, ended(ctx, err))
		}
		if v == moved && !fresh {
			continue // what was remembered was old
		}
		if pause(ctx, wait) != nil {
			return outcome(w.unknown, ended(ctx, err))
		}
		wait = min(2*wait, 64*time.Millisecond)
	}
}

// forget makes the next look ask how all streams stand.
func (w *write) forget() {
	for _, t := range w.targets {
		t.known, t.fresh = false, false
	}
}

// fresh reports whether the leader has told how each stream stands.
func (w *write) fresh() bool {
	for _, t := range w.targets {
		if !t.fresh {
			return false
		}
	}
	return true
}

// look asks the leader how the streams stand of which that is not known, and
// reports whether they show that the write was made.
func (w *write) look(ctx context.Context) (done bool, err error) {
	var asked []*target
	for _, t := range w.targets {
		if !t.known {
			asked = append(asked, t)
		}
	}
	if len(asked) == 0 {
		return false, nil
	}
	now, err := w.ask(ctx, asked)
	if err != nil {
		return false, err
	}
	if seq, ok, err := w.written(ctx, now); err != nil || ok {
		if ok {
			w.landed(seq)
		}
		return ok, err
	}
	for _, t := range asked {
		if n := now[t]; n.seq != t.at.seq {
			w.unknown = false // the expectation of every try is broken for good
		}
		t.at, t.known, t.fresh = now[t], true, true
	}
	return false, nil
}

// ask returns how the streams of some targets stand, as the leader says.
func (w *write) ask(ctx context.Context, list []*target) (map[*target]state, error) {
	now := make(map[*target]state, len(list))
	if len(list) == 1 {
		st, err := w.s.leader(ctx, list[0].stream)
		now[list[0]] = st
		return now, err
	}
	type told struct {
		t   *target
		st  state
		err error
	}
	answers := make(chan told, len(list))
	turns := make(chan struct{}, together)
	for _, t := range list {
		turns <- struct{}{}
		go func() {
			st, err := w.s.leader(ctx, t.stream)
			<-turns
			answers <- told{t, st, err}
		}()
	}
	var failed error
	for range list {
		a := <-answers
		if now[a.t] = a.st; a.err != nil && failed == nil {
			failed = a.err
		}
	}
	return now, failed
}

// refused returns the first target that does not admit the write, as it stands,
// and why.
func (w *write) refused() (int, error) {
	for i, t := range w.targets {
		if err := t.admits(&t.at); err != nil {
			return i, err
		}
	}
	return 0, nil
}

// first returns the error of the first target that does not admit the write,
// given that target i does not. Those before it were asked at other moments, so
// they are asked once more: what admits the write before and after a moment did
// so at that moment.
func (w *write) first(ctx context.Context, i int, err error) error {
	for i > 0 {
		now, e := w.ask(ctx, w.targets[:i])
		if e != nil {
			return err
		}
		k := 0
		for ; k < i; k++ {
			t := w.targets[k]
			if st := now[t]; t.admits(&st) != nil {
				err = t.admits(&st)
				break
			}
		}
		if k == i {
			return err
		}
		i = k
	}
	return err
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

// length is how many messages a target gets.
func (t *target) length() uint64 { return uint64(max(t.count, 1)) }

// landed takes it that the messages were written behind the targets as they
// stand, the last of them at seq.
func (w *write) landed(seq uint64) {
	for i := len(w.targets) - 1; i >= 0; i-- {
		t := w.targets[i]
		n := t.after(&t.at)
		n.seq, n.nonce = seq, w.nonce
		if t.count > 0 {
			n.history = t.at.history.pushAll(seq-uint64(t.count)+1, t.count)
		}
		t.at = n
		w.s.tails.put(t.stream, n)
		seq -= t.length()
	}
}

// lastOf returns the sequence of the write's last message, given that of the last
// one of a target.
func (w *write) lastOf(t *target, seq uint64) uint64 {
	for i := len(w.targets) - 1; w.targets[i] != t; i-- {
		seq += w.targets[i].length()
	}
	return seq
}

var errBlurred = errors.New("what became of it was truncated")

// written reports whether the write was made, given how streams stand that stood
// as in the targets when it was tried, and where its last message is. If unknown
// is false no try can have been written but by being sent twice: then only a look
// at the last messages is worth it.
//
// One stream that shows it is enough, and so is one that has moved without it:
// then the expectation is broken for good. A stream that was truncated behind
// where the write would be shows nothing but that it has moved. What the others
// said before that is not enough then, and they are asked again.
func (w *write) written(ctx context.Context, now map[*target]state) (seq uint64, ok bool, err error) {
	for {
		for t, n := range now {
			if n.nonce == w.nonce {
				return w.lastOf(t, n.seq), true, nil
			}
		}
		if !w.unknown {
			return 0, false, nil
		}
		var still []*target // as they were
		blurred := false
		for _, t := range w.targets {
			n := now[t]
			if n.seq == t.at.seq {
				still = append(still, t)
				continue
			}
			version := t.at.version + uint64(t.count)
			if t.count == 0 || n.version < version {
				return 0, false, nil
			}
			if version >= n.first {
				list, err := w.s.load(ctx, t.stream, &n, version, version)
				switch {
				case err == nil && list[0].header.Get(headerAppend) == w.nonce:
					return w.lastOf(t, list[0].seq), true, nil
				case err == nil:
					return 0, false, nil
				case !errors.Is(err, errGone):
					return 0, false, err
				}
			}
			blurred = true
		}
		if !blurred {
			return 0, false, nil
		}
		if len(still) == 0 {
			return 0, false, errBlurred
		}
		again, err := w.ask(ctx, still)
		if err != nil {
			return 0, false, err
		}
		quiet := true
		for t, n := range again {
			now[t] = n
			quiet = quiet && n.seq == t.at.seq
		}
		if quiet {
			return 0, false, nil
		}
	}
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
