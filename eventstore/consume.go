package eventstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"
)

// A Consumer describes a persistent subscription: one with a name, whose
// progress the store remembers and whose work may be shared.
type Consumer struct {
	// Name is UTF-8 of 1 to 150 bytes without control characters and slashes.
	Name   string
	Filter Filter
	// From is where it begins the first time that anyone consumes under the name;
	// later it is not looked at. Zero is the head.
	From Start

	// Partitions is how many members may work at once, up to 1,024. It is fixed when the
	// consumer is created; 0 means what was stored, and 8 the first time. Another
	// number than the stored one is ErrPartitions: see [Store.Repartition].
	Partitions int
	// By gives an event's key: events of one key are in one partition, and delivered in order.
	// Nil means its stream. It must always return the same key for the same event.
	By func(*Recorded) string
	// Keys is for events that belong to several keys, or to none and are then passed over; By must be nil with it.
	// An event is delivered in each of the partitions that its keys are in, see [PartitionOf], and is acknowledged
	// in each of them.
	Keys func(*Recorded) []string
	// Progress, if set, is told in order up to which position everything has been dealt with, as long as this
	// member has all partitions. It must be quick and must not call the store.
	Progress func(Position)

	// Batch bounds the events of one delivery. Default 256.
	Batch int
	// InFlight is how many deliveries of a partition may wait to be acknowledged. They
	// never have a key in common. Default 1.
	InFlight int
	// Lease is for how long a member that is not heard from keeps its partitions: a crash
	// is noticed after it. Default 10 s, at least 1 s.
	Lease time.Duration
}

// Errors of consuming.
var (
	// ErrPartitions reports a Consumer with another number of partitions than the one stored.
	ErrPartitions = errors.New("eventstore: another number of partitions")
	// ErrNoConsumer reports a name under which nothing was consumed yet, or a consumer that was deleted.
	ErrNoConsumer = errors.New("eventstore: no such consumer")
)

// Limits of consumers.
const (
	maxPartitions     = 1024
	defaultPartitions = 8
	defaultLease      = 10 * time.Second
	defaultDelivery   = 256
	consumerNameBytes = 150
)

// A Delivery is a batch that waits to be acknowledged. Its methods may be called by any goroutine.
type Delivery struct {
	// Events are those of one partition, in order, never none. Position is that of the last one.
	Batch[*Recorded]
	Partition int
	// Attempt counts the deliveries of the first event, 1 for the first one, since this member has the partition.
	Attempt int

	p     *partition
	items []*item // none once it is acknowledged or given back
	back  bool    // it was given back
}

// Ack records that the delivery has been dealt with. When it returns nil that is durable: no event of it is
// delivered again, to anyone. It does not say anything about other deliveries, earlier or later. The consumer's
// position is that of the last event before the first one not acknowledged; if all are, it passes over what the
// filter leaves out, and is stored after a second or 10,000 positions of that, or
// sooner while a lease named "$wait-" plus the consumer's name and a slash says that somebody waits.
//
// After an error of the store the delivery counts as dealt with for as long as this
// member has the partition, and Ack may be called again. An ErrMoved says
// that the partition was lost in the meantime, because the store was not reachable for longer than the lease,
// or the consumer was reset: whoever has it now gets the events again. So it does if the delivery was given back
// by [Delivery.Retry].
func (d *Delivery) Ack(ctx context.Context) error {
	if err := d.p.ack(ctx, d); err != nil {
		return fmt.Errorf("eventstore: ack: %w", err)
	}
	return nil
}

// Retry gives the delivery back: its events will be delivered again, after a time, to this
// member as long as it has the partition, perhaps in other batches. Until then no later event of
// the same keys is delivered. Retry after Ack does nothing.
func (d *Delivery) Retry(after time.Duration) { d.p.retry(d, after) }

// Consume joins the persistent subscription c and returns its share of the
// deliveries. Call it from as many goroutines and processes as should compete: the
// partitions are leased out among them in equal shares, and move when members join and leave. At the same time one
// member at most has a partition; an acknowledgement by who had it before fails.
//
// Every event that c selects is delivered at least once, those of one key in
// order. What is not acknowledged is delivered again when its member leaves, or is not
// heard from for the time of the lease, to whoever has the partition next, before anything newer of its key. A delivery
// that is neither acknowledged nor given back by [Delivery.Retry] holds up its keys, and with InFlight 1 its partition.
//
// The sequence ends after yielding ctx's error, ErrClosed, ErrPartitions, ErrNoConsumer if the
// consumer is deleted, or an ErrUnsupported or ErrInvalid for what cannot be; whatever else happens to the
// store is waited for. Leaving the loop gives the partitions to the others at once. Events that cannot be
// decoded are among the rest, with Err set.
func (s *Store) Consume(ctx context.Context, c Consumer) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		m, err := s.joinConsumer(ctx, c)
		if err != nil {
			yield(nil, fmt.Errorf("eventstore: consume %q: %w", c.Name, err))
			return
		}
		defer m.leave()
		for {
			d, err := m.next()
			if err != nil {
				yield(nil, fmt.Errorf("eventstore: consume %q: %w", c.Name, err))
				return
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

// complete checks c and fills in the defaults.
func (c *Consumer) complete() error {
	if err := consumerName(c.Name); err != nil {
		return err
	}
	switch {
	case c.Partitions < 0 || c.Partitions > maxPartitions:
		return fmt.Errorf("%w: %d partitions", ErrInvalid, c.Partitions)
	case c.By != nil && c.Keys != nil:
		return fmt.Errorf("%w: both By and Keys", ErrInvalid)
	case c.Batch < 0 || c.InFlight < 0:
		return fmt.Errorf("%w: Batch %d, InFlight %d", ErrInvalid, c.Batch, c.InFlight)
	case c.Lease != 0 && c.Lease < time.Second:
		return fmt.Errorf("%w: a lease of %v: less than a second", ErrInvalid, c.Lease)
	}
	if c.By == nil && c.Keys == nil {
		c.By = func(r *Recorded) string { return string(r.Stream) }
	}
	if c.Batch == 0 {
		c.Batch = defaultDelivery
	}
	if c.InFlight == 0 {
		c.InFlight = 1
	}
	if c.Lease == 0 {
		c.Lease = defaultLease
	}
	return nil
}

func consumerName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: a consumer without a name", ErrInvalid)
	case len(name) > consumerNameBytes:
		return fmt.Errorf("%w: a consumer's name of %d bytes: more than %d", ErrInvalid, len(name), consumerNameBytes)
	case strings.Contains(name, "/"):
		return fmt.Errorf("%w: consumer's name %.40q contains a slash", ErrInvalid, name)
	}
	return validText("consumer's name", name)
}

// PartitionOf returns the partition that a key is in: its FNV-1a hash of 64 bits modulo the number of partitions, for ever.
func PartitionOf(key string, partitions int) int {
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return int(h % uint64(partitions))
}

func (m *member) log() *slog.Logger { return m.s.opt.Logger.With("consumer", m.c.Name, "member", m.id) }
