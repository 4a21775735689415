package pubsub

import (
	"context"
	"fmt"
)

// A Topic is a name under which values of type T are published. It is a plain
// value, usually a package variable; nothing need be registered. Within a network
// all topics of one name must have the same T and an equivalent Codec.
type Topic[T any] struct {
	// Name is 1 to 255 bytes of valid UTF-8 without control characters.
	Name string
	// Codec encodes values for other processes. Nil means [JSON]. A bus without
	// transport does not use it.
	Codec Codec[T]
}

// Publish puts v into the mailbox of every subscription to the topic on b, and
// sends it to the other nodes. It never waits for a subscriber.
//
// Subscribers of this process receive v itself, not a copy: what v refers to
// must not be changed any more, by anyone.
//
// ErrClosed, ErrName, ErrType, ErrTooLarge, an error or panic of the codec and the
// end of ctx before the call mean that nobody received v. Any other error is the
// transport's: the subscribers of this process have v, others perhaps not.
func (t Topic[T]) Publish(ctx context.Context, b *Bus, v T) error {
	return t.publish(ctx, b, nil, v, true)
}

// PublishFrom is Publish on behalf of a subscriber, who does not receive v through
// its subscription sender. With nil it is Publish.
func (t Topic[T]) PublishFrom(ctx context.Context, b *Bus, sender *Subscription[T], v T) error {
	return t.publish(ctx, b, sender, v, true)
}

// PublishLocal is Publish to the subscribers of this process alone.
func (t Topic[T]) PublishLocal(ctx context.Context, b *Bus, v T) error {
	return t.publish(ctx, b, nil, v, false)
}

func (t Topic[T]) publish(ctx context.Context, b *Bus, sender *Subscription[T], v T, everywhere bool) error {
	if err := b.check(ctx, t.Name); err != nil {
		return err
	}
	sh := b.shard(t.Name)
	sh.mu.RLock()
	m := sh.groups[t.Name]
	sh.mu.RUnlock()
	g, ok := m.(*group[T])
	if m != nil && !ok {
		return fmt.Errorf("%w: topic %q, publishing %T", ErrType, t.Name, v)
	}
	everywhere = everywhere && b.transport != nil
	var payload []byte
	if everywhere { // encoded first: a value that cannot be sent is not half published
		var err error
		if payload, err = marshal(t.codec(), v); err != nil {
			return fmt.Errorf("pubsub: encoding for topic %q: %w", t.Name, err)
		}
		if n := envelopeBytes + len(payload); n > b.max {
			return fmt.Errorf("%w: topic %q, %d bytes, at most %d", ErrTooLarge, t.Name, n, b.max)
		}
	}
	if g != nil {
		g.send(v, sender)
	}
	if everywhere {
		if err := b.transmit(ctx, t.Name, payload); err != nil {
			return fmt.Errorf("pubsub: sending to topic %q: %w", t.Name, err)
		}
	}
	return nil
}

// Subscribe begins to receive what is published to the topic on b, by any node,
// from now on: whatever is published after Subscribe returned is put into the
// mailbox, or counted as dropped. What was published before is gone. A nil mailbox
// is the default one.
//
// The subscription ends when ctx does, so ctx must be the subscriber's, not that
// of one request. Subscribe fails with ErrClosed, ErrName, ErrType, the error
// of ctx, or the transport's.
func (t Topic[T]) Subscribe(ctx context.Context, b *Bus, mailbox *Mailbox[T]) (*Subscription[T], error) {
	if err := b.check(ctx, t.Name); err != nil {
		return nil, err
	}
	s := newSubscription(mailbox)
	for {
		g, err := t.join(ctx, b)
		if err != nil {
			return nil, err
		}
		if g == nil { // who was subscribing the bus to the topic gave up
			continue
		}
		s.group = g
		if !g.add(s) {
			g.release()
			return nil, ErrClosed
		}
		s.endWith(ctx)
		return s, nil
	}
}

// SubscribeRead subscribes to the topic and then calls read, so that nothing
// published in between is missed: what changes while read runs is both in what it
// returns and in the mailbox, or only in the mailbox. Who must not handle a change
// twice compares positions: the value published says at which position things
// changed, the one read says up to which it knows.
//
// If read fails or panics its error, or a *PanicError, is returned and the
// subscription is closed. ctx is that of [Topic.Subscribe], and is passed to read.
func SubscribeRead[T, S any](ctx context.Context, b *Bus, t Topic[T], mailbox *Mailbox[T], read func(context.Context) (S, error)) (*Subscription[T], S, error) {
	var none S
	s, err := t.Subscribe(ctx, b, mailbox)
	if err != nil {
		return nil, none, err
	}
	state, err := guarded(ctx, read)
	if err != nil {
		s.Close()
		return nil, none, err
	}
	return s, state, nil
}

func guarded[S any](ctx context.Context, read func(context.Context) (S, error)) (state S, err error) {
	defer guard(&err)
	return read(ctx)
}

func (t Topic[T]) codec() Codec[T] {
	if t.Codec == nil {
		return JSON[T]{}
	}
	return t.Codec
}

// join returns the topic's group, held for the caller, when the bus is subscribed
// to the topic; or nil if that failed because another caller's ctx ended.
func (t Topic[T]) join(ctx context.Context, b *Bus) (*group[T], error) {
	sh := b.shard(t.Name)
	sh.mu.Lock()
	if sh.closed {
		sh.mu.Unlock()
		return nil, ErrClosed
	}
	m := sh.groups[t.Name]
	g, ok := m.(*group[T])
	if m != nil && !ok {
		sh.mu.Unlock()
		var v T
		return nil, fmt.Errorf("%w: topic %q, subscribing to %T", ErrType, t.Name, v)
	}
	first := g == nil
	if first {
		g = &group[T]{bus: b, topic: t, ready: make(chan struct{})}
		sh.groups[t.Name] = g
	}
	g.holds++
	sh.mu.Unlock()

	if first {
		g.start(ctx)
	} else {
		select {
		case <-g.ready:
		case <-ctx.Done():
			g.release()
			return nil, ctx.Err()
		}
	}
	switch {
	case g.err == nil:
		return g, nil
	case b.ctx.Err() != nil:
		g.release()
		return nil, ErrClosed
	case g.gaveUp && !first:
		g.release()
		return nil, nil
	default:
		g.release()
		return nil, fmt.Errorf("pubsub: subscribing to topic %q: %w", t.Name, g.err)
	}
}
