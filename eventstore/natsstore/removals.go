package natsstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// Where the log has replicas, one of them may still have messages that the leader
// has purged, for moments. So whoever purges says so before, in the bucket
// <name>-cp, and readers of the log drop what they are shown nevertheless. A
// replica that was away for longer answers nothing until it has caught up, so that
// old removals can be forgotten.
type removal struct {
	Subject string    `json:"subject"`
	Below   uint64    `json:"below"`       // messages on the subject below it are gone
	At      time.Time `json:"at,omitzero"` // the server's time, once another removal follows
}

const (
	removalsKey  = "=removals" // no token is like it
	keepRemovals = 10 * time.Minute
	mostRemovals = 500
)

// readRemovals returns the item and the removals in it.
func (s *store) readRemovals(ctx context.Context) (it item, list []removal, err error) {
	it, err = s.checkpoints.get(ctx, removalsKey)
	if err == nil && it.found {
		if e := json.Unmarshal(it.value, &list); e != nil {
			err = fmt.Errorf("%w: the key %s: %w", ErrNotStore, it.key, e)
		}
	}
	return it, list, err
}

// announce says that the messages on a subject below a sequence are to be purged.
func (s *store) announce(ctx context.Context, subject string, below uint64) error {
	if s.replicas <= 1 {
		return nil
	}
	for {
		it, list, err := s.readRemovals(ctx)
		if err != nil {
			return err
		}
		var keep []removal
		for _, r := range list {
			if r.At.IsZero() {
				r.At = it.time
			}
			if r.Subject != subject && it.time.Sub(r.At) < keepRemovals {
				keep = append(keep, r)
			}
		}
		keep = append(keep[max(0, len(keep)+1-mostRemovals):], removal{Subject: subject, Below: below})
		value, err := json.Marshal(keep)
		if err != nil {
			return err
		}
		if len(value) > s.payload-recordOverhead {
			return fmt.Errorf("%w: %d removals at once", driver.ErrTooLarge, len(keep))
		}
		if _, ok, err := s.checkpoints.put(ctx, it.revision, s.checkpoints.value(removalsKey, nil, value)); err != nil || ok {
			return err
		}
	}
}

// A removed says below which sequence the messages of some subjects are gone.
type removed map[string]uint64

func (r removed) has(m *message) bool { return len(r) > 0 && m.seq < r[m.subject] }

// removed returns what readers of the log must drop.
func (s *store) removed(ctx context.Context) (removed, error) {
	if s.replicas <= 1 {
		return nil, nil
	}
	_, list, err := s.readRemovals(ctx)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	r := make(removed, len(list))
	for _, x := range list {
		r[x.Subject] = max(r[x.Subject], x.Below)
	}
	return r, nil
}

// look returns the sequence of the leader's last message, and what readers of the
// log must drop.
func (s *store) look(ctx context.Context) (last uint64, gone removed, err error) {
	if s.replicas <= 1 {
		last, _, err = s.lastSeq(ctx)
		return last, nil, err
	}
	done := make(chan error, 1)
	go func() {
		var err error
		gone, err = s.removed(ctx)
		done <- err
	}()
	last, _, err = s.lastSeq(ctx)
	if e := <-done; err == nil {
		err = e
	}
	return last, gone, err
}
