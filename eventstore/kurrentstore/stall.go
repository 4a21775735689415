package kurrentstore

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A stall ends a read to which nothing comes for too long: a server may hang
// while its machine answers pings.
type stall struct {
	after time.Duration
	timer *time.Timer
	over  atomic.Bool
}

func newStall(after time.Duration, cancel context.CancelFunc) *stall {
	s := &stall{after: after}
	s.timer = time.AfterFunc(after, func() {
		s.over.Store(true)
		cancel()
	})
	return s
}

func (s *stall) reset() { s.timer.Reset(s.after) }
func (s *stall) stop()  { s.timer.Stop() }

// why returns err, or that the read stalled if that was its reason.
func (s *stall) why(err error) error {
	if err != nil && s.over.Load() {
		return status.Errorf(codes.DeadlineExceeded, "the server sent nothing for %v", s.after)
	}
	return err
}
