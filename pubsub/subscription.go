package pubsub

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// A Subscription receives what is published to a topic. It is made by
// [Topic.Subscribe] and must be closed, or its ctx ended, when it is no longer
// needed. No goroutine belongs to it.
type Subscription[T any] struct {
	// C delivers the content of the mailbox: all values that arrived since the last
	// receive, oldest first, never none. The slice and what its values refer to are
	// shared with others and must not be changed. C is closed when the subscription
	// ends; Err says why.
	C <-chan []T

	c       chan []T // of one: the mailbox
	box     Mailbox[T]
	group   *group[T]
	index   int // in the group, guarded by it
	dropped atomic.Uint64

	mu    sync.Mutex // held by who puts into c or closes it
	keys  []string   // of what is in c, if there is a Key
	ended bool
	err   error
	stop  func() bool // forgets ctx
}

// A Mailbox holds what a subscriber has not received yet. The zero Mailbox is the
// default one.
type Mailbox[T any] struct {
	// Buffer is how many values the mailbox holds. Zero means 64, and with Key 1,024.
	Buffer int
	// OnFull says what happens when a value arrives at a full mailbox.
	OnFull OnFull
	// Key, if set, coalesces: a value takes the place of the one with the same key
	// that still waits, and moves to the end. That does not count as dropped. Key is called in the
	// goroutine of the publisher and must not use the bus. If it panics
	// the subscription ends with a *PanicError. An arrival costs time in proportion
	// to the values that wait.
	Key func(T) string
}

// OnFull is what happens when a value arrives at a full mailbox. In no case does
// the publisher wait.
type OnFull int

const (
	// Latest drops the oldest value in favour of the new one.
	Latest OnFull = iota
	// Drop drops the new value.
	Drop
	// Fail ends the subscription with ErrLagged. What is in the mailbox can still be
	// received.
	Fail
)

func (o OnFull) String() string {
	switch o {
	case Latest:
		return "Latest"
	case Drop:
		return "Drop"
	case Fail:
		return "Fail"
	}
	return fmt.Sprintf("OnFull(%d)", int(o))
}

const (
	defaultBuffer = 64
	defaultKeys   = 1024
)

// Close ends the subscription: what is in the mailbox is thrown away and C is
// closed. Close may be called again, and at any time, also by another goroutine
// than the receiver's.
func (s *Subscription[T]) Close() { s.finish(nil, true) }

// Err returns why the subscription ended: nil while it has not and after Close,
// the error of its ctx, ErrClosed after [Bus.Close], ErrLagged, or a
// *PanicError of its Key. The first reason stays.
func (s *Subscription[T]) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Dropped returns how many values were lost because the mailbox was full.
func (s *Subscription[T]) Dropped() uint64 { return s.dropped.Load() }

// newSubscription panics on a mailbox that makes no sense.
func newSubscription[T any](mailbox *Mailbox[T]) *Subscription[T] {
	s := &Subscription[T]{c: make(chan []T, 1)}
	if mailbox != nil {
		s.box = *mailbox
	}
	switch {
	case s.box.Buffer < 0:
		panic(fmt.Sprintf("pubsub: Buffer is %d, must not be negative", s.box.Buffer))
	case s.box.OnFull < Latest || s.box.OnFull > Fail:
		panic(fmt.Sprintf("pubsub: no such %v", s.box.OnFull))
	case s.box.Buffer == 0 && s.box.Key != nil:
		s.box.Buffer = defaultKeys
	case s.box.Buffer == 0:
		s.box.Buffer = defaultBuffer
	}
	s.C = s.c
	return s
}

// endWith has s end when ctx does.
func (s *Subscription[T]) endWith(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { s.finish(ctx.Err(), true) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = stop
	if s.ended { // meanwhile, by the bus or a publisher
		stop()
	}
}

// finish ends s, if it has not, and with discard empties the mailbox.
func (s *Subscription[T]) finish(err error, discard bool) {
	s.mu.Lock()
	done := s.finishLocked(err, discard)
	s.mu.Unlock()
	if done {
		s.group.remove(s)
	}
}

// finishLocked reports whether s must be removed from its group, without s.mu.
func (s *Subscription[T]) finishLocked(err error, discard bool) bool {
	if s.ended {
		return false
	}
	s.ended, s.err, s.keys = true, err, nil
	if discard {
		select {
		case <-s.c:
		default:
		}
	}
	close(s.c)
	if s.stop != nil {
		s.stop()
	}
	return true
}

// put adds the value in one, a slice of one that is never changed. It takes back what is
// in c, adds to it and puts it in again; that cannot block, since whoever holds
// s.mu is the only sender.
func (s *Subscription[T]) put(one []T) {
	s.mu.Lock()
	remove := s.putLocked(one)
	s.mu.Unlock()
	if remove {
		s.group.remove(s)
	}
}

// putLocked reports whether s ended.
func (s *Subscription[T]) putLocked(one []T) (remove bool) {
	if s.ended {
		return false
	}
	var key string
	if s.box.Key != nil {
		var err error
		if key, err = s.key(one[0]); err != nil {
			return s.finishLocked(err, false)
		}
	}
	var waiting []T
	select {
	case waiting = <-s.c:
	default:
		s.keys = s.keys[:0]
	}
	if len(waiting) == 0 {
		if s.box.Key != nil {
			s.keys = append(s.keys, key)
		}
		s.c <- one
		return false
	}
	if s.box.Key != nil {
		if i := slices.Index(s.keys, key); i >= 0 {
			s.keys = slices.Delete(s.keys, i, i+1)
			waiting = without(waiting, i)
		}
	}
	if len(waiting) >= s.box.Buffer {
		switch s.box.OnFull {
		case Drop:
			s.dropped.Add(1)
			s.c <- waiting
			return false
		case Fail:
			s.dropped.Add(1)
			s.c <- waiting
			return s.finishLocked(ErrLagged, false)
		}
		s.dropped.Add(1)
		waiting = without(waiting, 0)
		if s.box.Key != nil {
			s.keys = slices.Delete(s.keys, 0, 1)
		}
	}
	if s.box.Key != nil {
		s.keys = append(s.keys, key)
	}
	if len(waiting) == 0 {
		s.c <- one
	} else {
		s.c <- append(waiting, one[0])
	}
	return false
}

// without returns waiting without the value at i. Only a slice of one value may be
// shared with other mailboxes, and that is not changed: append has copied all longer
// ones. The first value is sliced off, which append makes up for by moving the rest
// once in a while.
func without[T any](waiting []T, i int) []T {
	switch {
	case i > 0:
		return slices.Delete(waiting, i, i+1)
	case len(waiting) > 1:
		var none T
		waiting[0] = none // what it refers to may go
	}
	return waiting[1:]
}

func (s *Subscription[T]) key(v T) (key string, err error) {
	defer guard(&err)
	return s.box.Key(v), nil
}
