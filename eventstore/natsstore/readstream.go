package natsstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
)

const (
	// together is how many messages a read asks for at once.
	together = 64
	// restarts is how often a read begins again because the stream was truncated
	// meanwhile.
	restarts = 5
)

// ReadStream implements [driver.Store]. The leader says where the stream ends;
// the events are read by their positions, from any replica.
func (s *store) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.readStream(ctx, stream, from, dir, limit)
}

func (s *store) readStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	for range restarts {
		t, err := s.leader(ctx, stream)
		if err != nil {
			return nil, err
		}
		if t.purged {
			return nil, driver.ErrStreamDeleted
		}
		low, high := wanted(&t, from, dir, limit)
		if low > high {
			return nil, nil
		}
		messages, err := s.load(ctx, stream, &t, low, high)
		if errors.Is(err, errGone) {
			if again, e := s.leader(ctx, stream); e == nil && again.seq == t.seq {
				return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		list, err := s.events(ctx, messages)
		if err != nil {
			return nil, err
		}
		if dir == driver.Backward {
			slices.Reverse(list)
		}
		return list, nil
	}
	return nil, fmt.Errorf("natsstore: %s changes faster than it can be read", stream)
}

// wanted returns the versions that a read of a stream returns; low is above high
// if none.
func wanted(t *state, from uint64, dir driver.Direction, limit int) (low, high uint64) {
	if t.version < t.first || t.version == 0 || limit <= 0 {
		return 1, 0
	}
	n := uint64(limit)
	if dir == driver.Forward {
		if from >= t.version {
			return 1, 0
		}
		low = max(from+1, t.first)
		return low, min(t.version, low+n-1)
	}
	high = t.version
	if from > 0 {
		high = min(high, from-1)
	}
	if high < t.first {
		return 1, 0
	}
	if low = t.first; high-low >= n {
		low = high - n + 1
	}
	return low, high
}

// errGone reports an event that its stream says is there.
var errGone = errors.New("an event is missing")

// load returns the messages of a stream's events from version low to version high, by back
// pointers from t, how the stream stands. It never looks for the subject.
func (s *store) load(ctx context.Context, stream string, t *state, low, high uint64) ([]*message, error) {
	known := make(map[uint64]uint64) // sequences by version
	found := make(map[uint64]*message)
	have := uint64(0) // of those that are wanted
	above := pointer{}
	learn := func(h history) {
		h.each(func(p pointer) {
			if p.version < low {
				return
			}
			if p.version > high {
				// The nearest one above leads to those that are wanted.
				if above.version == 0 || p.version < above.version {
					above = p
				}
				return
			}
			known[p.version] = p.seq
		})
	}
	learn(t.history)
	for have < high-low+1 {
		var versions, seqs []uint64
		for v, seq := range known {
			if found[v] == nil {
				versions, seqs = append(versions, v), append(seqs, seq)
			}
		}
		if len(versions) == 0 || above.version > 0 && known[high] == 0 {
			if above.version == 0 || found[above.version] != nil {
				return nil, fmt.Errorf("%w: %s: no event points to those from %d to %d", errGone, stream, low, high)
			}
			versions, seqs = append(versions, above.version), append(seqs, above.seq)
		}
		if len(versions) > together {
			versions, seqs = versions[:together], seqs[:together]
		}
		list, err := s.log.direct(ctx, seqs)
		if err != nil {
			return nil, err
		}
		subject := s.space.of(stream)
		for i, m := range list {
			if m == nil {
				return nil, fmt.Errorf("%w: %s: version %d at position %d", errGone, stream, versions[i], seqs[i])
			}
			if v, err := m.number(headerVersion, 0); err != nil || m.subject != subject || v != versions[i] || m.marker() {
				return nil, fmt.Errorf("%w: %s: position %d is not its version %d", errGone, stream, seqs[i], versions[i])
			}
			h, err := m.before()
			if err != nil {
				return nil, err
			}
			found[versions[i]] = m
			if versions[i] <= high {
				have++
			}
			learn(h)
		}
	}
	list := make([]*message, 0, have)
	for v := low; v <= high; v++ {
		list = append(list, found[v])
	}
	return list, nil
}
