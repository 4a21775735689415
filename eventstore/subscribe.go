package eventstore

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"time"
)

// A Transient describes a transient subscription: one that needs no
// acknowledgement and is forgotten when it ends.
type Transient[T any] struct {
	Filter Filter
	From   Start                // zero: the head
	Select func(*Recorded) bool // nil selects all that Filter does
	Map    func(*Recorded) T    // required
	Buffer int                  // values held for a slow receiver; default 1024
	OnLag  OnLag                // what to do when they are more
	// Progress delivers a batch without events when the filter has passed more
	// than 10,000 positions, or one second, without a match.
	Progress bool

	eager bool // deliver every position
}

// OnLag says what becomes of a subscriber that is more than its Buffer behind.
type OnLag uint8

const (
	// CatchUp reads on from the store until the subscriber has caught up: nothing
	// is lost, memory stays bounded, and no writer waits.
	CatchUp OnLag = iota
	// Latest keeps the newest Buffer values and drops older ones.
	Latest
	// Fail ends the subscription with ErrLagged.
	Fail
)

func (o OnLag) String() string {
	switch o {
	case CatchUp:
		return "CatchUp"
	case Latest:
		return "Latest"
	case Fail:
		return "Fail"
	}
	return fmt.Sprintf("OnLag(%d)", uint8(o))
}

// A Subscription delivers what a Transient describes. Values are batched: all
// that arrived since the last receive come together.
type Subscription[T any] struct {
	// C delivers the batches. It is closed when the subscription ends; Err
	// then says why.
	C <-chan Batch[T]

	t    *tail
	sub  *subscriber
	stop func() bool
}

// Err returns nil while the subscription runs and after Close; else the
// context's error, ErrLagged, ErrClosed after the store was closed, or that
// Select or Map panicked.
func (s *Subscription[T]) Err() error {
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	return s.sub.err
}

// Close ends the subscription. It may be called more than once, from anywhere.
func (s *Subscription[T]) Close() {
	s.stop()
	s.t.end(s.sub, nil)
}

// Subscribe starts a transient subscription. When it returns, every event
// after t.From that t selects will be delivered, once and in order, until ctx
// is done or the subscription is closed.
//
// To show a read model and keep it current, load the model, note the position
// it stands at, and subscribe [After] that: nothing is missed or seen twice.
//
// A subscription never waits for its receiver and, but for OnLag, never drops
// anything. Select and Map run on the store's time: they must be quick, must
// not block, must not call the subscription or the store, and may be called
// again for an event that is read again. A subscription whose Select or Map
// panics is ended. Events that cannot be decoded are passed over, with a log
// record.
func Subscribe[T any](ctx context.Context, s *Store, t Transient[T]) (*Subscription[T], error) {
	if t.Map == nil {
		return nil, fmt.Errorf("eventstore: subscribe: %w: no Map", ErrInvalid)
	}
	if t.Buffer < 0 || t.OnLag > Fail {
		return nil, fmt.Errorf("eventstore: subscribe: %w: Buffer %d, OnLag %v", ErrInvalid, t.Buffer, t.OnLag)
	}
	if t.Buffer == 0 {
		t.Buffer = 1024
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := make(chan Batch[T], 1)
	sub := &subscriber{s: s, filter: t.Filter, types: s.Types.load().sources(t.Filter.Types),
		buffer: t.Buffer, onLag: t.OnLag, progress: t.Progress, eager: t.eager, delivered: time.Now(),
		out: &outlet[T]{c: c, selects: t.Select, maps: t.Map, buffer: t.Buffer, latest: t.OnLag == Latest}}
	sub.ctx, sub.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.tail.add(ctx, sub, t.From); err != nil {
		sub.cancel()
		return nil, fmt.Errorf("eventstore: subscribe: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { s.tail.end(sub, ctx.Err()) })
	return &Subscription[T]{C: c, t: &s.tail, sub: sub, stop: stop}, nil
}

// SubscribeTo is Subscribe for the data of events of one type.
func SubscribeTo[E any](ctx context.Context, s *Store, f Filter, from Start) (*Subscription[E], error) {
	if name, ok := NameOf[E](&s.Types); ok && len(f.Types) == 0 {
		f.Types = []string{name}
	}
	return Subscribe(ctx, s, Transient[E]{
		Filter: f,
		From:   from,
		Select: func(r *Recorded) bool { _, ok := r.Data.(E); return ok },
		Map:    func(r *Recorded) E { return r.Data.(E) },
	})
}

// Follow returns the events f selects after a position: first history, then,
// for as long as ctx lives, whatever is appended. A batch may be empty: then
// only Position moved. Events that cannot be decoded are among the rest, with
// Err set. The sequence ends after yielding ctx's error or ErrClosed. A slow
// user is fed from the store, as a subscription is.
func (s *Store) Follow(ctx context.Context, f Filter, after Position) iter.Seq2[Batch[*Recorded], error] {
	return func(yield func(Batch[*Recorded], error) bool) {
		sub, err := Subscribe(ctx, s, Transient[*Recorded]{
			Filter: f, From: After(after), Map: func(r *Recorded) *Recorded { return r }, eager: true,
		})
		if err != nil {
			yield(Batch[*Recorded]{}, err)
			return
		}
		defer sub.Close()
		for b := range sub.C {
			if !yield(b, nil) {
				return
			}
		}
		yield(Batch[*Recorded]{}, sub.Err())
	}
}

// A subscriber is a subscription as the tail sees it. Its fields are guarded by
// the tail's lock, but for after and delivered, which belong to whoever sends.
type subscriber struct {
	s        *Store
	filter   Filter
	types    []string // stored names that may become one of filter's
	buffer   int
	onLag    OnLag
	progress bool
	eager    bool
	out      sender

	ctx    context.Context // done when the subscription has ended
	cancel context.CancelFunc

	after     Position  // everything up to here has been put into the channel, or was not wanted
	told      Position  // the last position put into the channel
	delivered time.Time // when that was
	pending   []*Recorded
	behind    bool   // a goroutine of its own sends
	since     uint64 // the reads of those that are behind, when it began
	ended     bool
	err       error
}

// A sender puts events into a channel of some type.
type sender interface {
	// put adds to the batch that was not received yet. It never blocks.
	put(events []*Recorded, pos Position) outcome
	// send waits until there is room or ctx is done.
	send(ctx context.Context, events []*Recorded, pos Position) outcome
	close()
}

type outcome uint8

const (
	sent     outcome = iota
	rejected         // the selector wants none of the events: nothing was sent
	full             // it would be more than the buffer: nothing was sent
)

// page returns how many events to read at once for sub.
func (sub *subscriber) page(s *Store) int { return min(s.opt.PageSize, sub.buffer) }

const (
	progressPositions = 10_000
	progressTime      = time.Second
)

// wants reports whether e may be one that sub has not seen and selects.
func (sub *subscriber) wants(e *entry) bool {
	if e.Position <= sub.after {
		return false
	}
	f := sub.filter
	f.Types = sub.types
	return f.Match(e.Stream, e.Type)
}

// match appends to out those of events that sub's filter selects.
func (sub *subscriber) match(events []*Recorded, out []*Recorded) []*Recorded {
	for _, r := range events {
		if sub.filter.matchType(r) {
			out = append(out, r)
		}
	}
	return out
}

// due reports whether sub wants to be told of a position without events.
func (sub *subscriber) due(pos Position) bool {
	if sub.eager {
		return true
	}
	return sub.progress && pos > sub.told && (pos-sub.told > progressPositions || time.Since(sub.delivered) >= progressTime)
}

// put is called by the tail, with its lock held. It reports whether there was room.
func (sub *subscriber) put(events []*Recorded, pos Position) (ok bool, err error) {
	defer sub.contain(&err)
	if len(events) == 0 && !sub.due(pos) {
		sub.after = pos
		return true, nil
	}
	return sub.moved(sub.out.put(sub.decoded(events), pos), pos), nil
}

// send is called by sub's own goroutine.
func (sub *subscriber) send(events []*Recorded, pos Position) (err error) {
	defer sub.contain(&err)
	if events = sub.decoded(events); len(events) > 0 {
		sub.moved(sub.out.send(sub.ctx, events, pos), pos)
	} else {
		_, err = sub.put(nil, pos)
	}
	return err
}

func (sub *subscriber) moved(o outcome, pos Position) bool {
	if o == full {
		return false
	}
	sub.after = pos
	if o == sent {
		sub.told = pos
		if sub.progress {
			sub.delivered = time.Now()
		}
	}
	return true
}

// decoded drops events that cannot be decoded, unless the subscriber is one that
// deals with them.
func (sub *subscriber) decoded(events []*Recorded) []*Recorded {
	if sub.eager {
		return events
	}
	for i, r := range events {
		if r.Err == nil {
			continue
		}
		out := append([]*Recorded{}, events[:i]...)
		for _, r := range events[i:] {
			if r.Err == nil {
				out = append(out, r)
				continue
			}
			sub.s.opt.Logger.Error("eventstore: a subscription passes over an event", "err", r.Err, "position", r.Position)
		}
		return out
	}
	return events
}

func (sub *subscriber) close() { sub.out.close() }

// contain turns a panic of Select or Map into an error.
func (sub *subscriber) contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("eventstore: subscriber panicked: %v\n%s", p, debug.Stack())
	}
}

// An outlet is a sender of values of type T. Its channel has one slot. Whoever
// sends is the only one who does, so that after taking back an unreceived batch
// there is room for it.
type outlet[T any] struct {
	c       chan Batch[T]
	selects func(*Recorded) bool
	maps    func(*Recorded) T
	buffer  int
	latest  bool
}

func (o *outlet[T]) values(events []*Recorded) []T {
	if len(events) == 0 {
		return nil
	}
	out := make([]T, 0, len(events))
	for _, r := range events {
		if o.selects == nil || o.selects(r) {
			out = append(out, o.maps(r))
		}
	}
	return out
}

func (o *outlet[T]) put(events []*Recorded, pos Position) outcome {
	values := o.values(events)
	if len(values) == 0 && len(events) > 0 {
		return rejected
	}
	b := Batch[T]{values, pos}
	select {
	case old := <-o.c:
		if !o.latest && len(values) > 0 && len(old.Events)+len(values) > o.buffer {
			o.c <- old
			return full
		}
		b.Events = append(old.Events, values...)
	default:
		// What does not fit by itself is fed from the store in smaller pieces.
		if !o.latest && len(values) > o.buffer {
			return full
		}
	}
	if o.latest && len(b.Events) > o.buffer {
		b.Events = append([]T{}, b.Events[len(b.Events)-o.buffer:]...)
	}
	o.c <- b
	return sent
}

func (o *outlet[T]) send(ctx context.Context, events []*Recorded, pos Position) outcome {
	values := o.values(events)
	if len(values) == 0 {
		return rejected
	}
	select {
	case o.c <- Batch[T]{values, pos}:
	case <-ctx.Done():
	}
	return sent
}

func (o *outlet[T]) close() { close(o.c) }
