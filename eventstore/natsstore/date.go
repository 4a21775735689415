package natsstore

import (
	"context"
	"math"
	"time"
)

// PositionAt implements [driver.Dater]. Times are the server's, of its clock when
// it stored the events; all that an append has in one stream have the time of
// the last.
func (s *store) PositionAt(ctx context.Context, t time.Time) (uint64, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, err
	}
	defer leave()
	last, _, err := s.lastSeq(ctx)
	if err != nil || last == 0 || t.Before(time.Unix(0, 1)) {
		return 0, err
	}
	if t.After(time.Unix(0, math.MaxInt64)) {
		return s.below(ctx, last)
	}
	m, err := s.log.since(ctx, t)
	if err != nil {
		return 0, err
	}
	if m == nil {
		return s.below(ctx, last)
	}
	// If it is one of an append whose last has that time, so have those before it.
	p, err := m.part()
	if err != nil {
		return 0, err
	}
	return s.below(ctx, m.seq-uint64(p.index)-1)
}
