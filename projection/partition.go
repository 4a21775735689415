package projection

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// ErrPartitions reports that a read model is filled by another number of partitions
// than Projection.Partitions; only Reset changes it. It is the same value as
// eventstore.ErrPartitions.
var ErrPartitions = eventstore.ErrPartitions

// maxPartitions bounds Projection.Partitions.
const maxPartitions = 256

// partitionName is the name under which the target keeps the position of a partition. That
// of the projection itself holds their number, with the mark parking, which no place
// without the number of a life has otherwise.
func partitionName(name string, i int) string { return fmt.Sprintf("%s/%d", name, i) }

// clash reports whether the places of a projection named longer could be taken for some of
// name's.
func clash(name, longer string) bool {
	rest, ok := strings.CutPrefix(longer, name+"/")
	return ok && rest != "" && (rest[0] == '$' || strings.Trim(rest, "0123456789") == "")
}

// counted finds out from the place of the projection whether its number of partitions is what is
// wanted, and sets it where nothing is there yet.
func (w *worker[T]) counted(ctx context.Context) error {
	want := parking | place(w.partitions)
	at, err := w.loadCell(ctx, w.base)
	if err == nil && at == 0 {
		return again(w.move(ctx, w.base, 0, want))
	}
	if err == nil && at != want {
		err = fmt.Errorf("projection %s: %w: want %d", w.base, ErrPartitions, w.partitions)
	}
	return err
}

// single refuses the place of a projection that has partitions.
func single(at place) error {
	if at&parking != 0 && at&numbered == 0 {
		return fmt.Errorf("%w: it has %d", ErrPartitions, at&^parking)
	}
	return nil
}

// A crew is the workers of a projection's partitions. The group's lock guards what it
// knows of them.
type crew struct {
	g        *Group
	m        *member
	at       []eventstore.Position
	errs     []error
	standing []bool
	reader   *reader
}

// runAll runs a worker for each partition until ctx ends, or one of them fails.
func runAll[T any](ctx context.Context, workers []*worker[T]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := workers[0]
	if err := w.patiently(ctx, "load", w.counted); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	c := &crew{
		g: w.g, m: w.m, at: make([]eventstore.Position, len(workers)), errs: make([]error, len(workers)), standing: make([]bool, len(workers)),
		reader: &reader{
			store: w.g.Store, filter: w.filter,
			of:     func(r *eventstore.Recorded) int { return eventstore.PartitionOf(w.keyOf(r), w.partitions) },
			seats:  make([]*seat, len(workers)),
			ctx:    ctx,
			absent: len(workers),
			ready:  make(chan struct{}),
		},
	}
	w.g.mu.Lock()
	w.m.crew = c
	w.g.mu.Unlock()
	errs := make([]error, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		w.crew, w.index = c, i
		wg.Go(func() {
			errs[i] = errGoexit
			defer cancel()
			errs[i] = w.run(ctx)
		})
	}
	wg.Wait()
	w.g.mu.Lock()
	w.m.crew = nil
	w.g.mu.Unlock()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// least tells the group up to where all have come. The caller holds the group's lock.
func (c *crew) least() { c.g.moved(c.m, slices.Min(c.at)) }

// troubled tells the group why one of them does not get on. The caller holds its lock.
func (c *crew) troubled() {
	c.m.err = nil
	for _, err := range c.errs {
		if err != nil {
			c.m.err = err
			break
		}
	}
}

// moved records that everything up to pos has been handled.
func (w *worker[T]) moved(pos eventstore.Position) {
	if w.crew == nil {
		w.g.Moved(w.base, pos)
		return
	}
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.crew.at[w.index] = pos
	w.crew.least()
}

// progress records that n events were handled, all up to w.at.
func (w *worker[T]) progress(n int) {
	if w.crew == nil {
		w.g.progress(w.m, w.at, n)
		return
	}
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.crew.errs[w.index], w.crew.at[w.index] = nil, w.at
	w.crew.troubled()
	w.m.handled += uint64(n)
	w.m.rate.add(time.Now(), n)
	w.crew.least()
}

// failing records why w does not get on.
func (w *worker[T]) failing(err error) {
	if w.crew == nil {
		w.g.failing(w.m, err)
		return
	}
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.crew.errs[w.index] = err
	w.crew.troubled()
}

// standBys records whether w leaves the work to another process. The projection stands by if
// one of its partitions does, so that those who wait look at the positions in the target.
func (w *worker[T]) standBys(by bool) {
	if w.crew == nil {
		w.g.standing(w.m, by)
		return
	}
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	w.crew.standing[w.index] = by
	s := Running
	if slices.Contains(w.crew.standing, true) {
		s = StandBy
	}
	w.g.setState(w.m, s, w.m.err)
}

// seen records that the target has all of them at pos, at least.
func (c *crew) seen(pos eventstore.Position) {
	for i, by := range c.standing {
		if by {
			c.at[i] = max(c.at[i], pos)
		}
	}
}

const (
	// A partition may be so many batches behind the reader.
	seatBatches = 4
	// A partition that keeps all others waiting for seatPatience reads for itself from there on.
	seatPatience = time.Second
)

// A reader reads the store once for all partitions. It starts where the first of them
// is, once all are there, or the first has waited for seatPatience. Who comes later,
// or is late, reads for itself.
type reader struct {
	store  *eventstore.Store
	filter eventstore.Filter
	of     func(r *eventstore.Recorded) int
	ctx    context.Context

	mu      sync.Mutex
	seats   []*seat // nil for who reads for itself
	absent  int     // how many have not come yet
	started bool
	ready   chan struct{} // closed when there are no more to come
}

// A seat is where a partition gets its batches.
type seat struct {
	from    eventstore.Position
	batches chan delivery // closed when the partition is to read for itself
	gone    chan struct{} // closed when the partition is no longer there
}

type delivery struct {
	batch eventstore.Batch[*eventstore.Recorded]
	err   error
}

// follow yields the events of a partition after from.
func (r *reader) follow(ctx context.Context, i int, from eventstore.Position) iter.Seq2[eventstore.Batch[*eventstore.Recorded], error] {
	return func(yield func(eventstore.Batch[*eventstore.Recorded], error) bool) {
		if s := r.take(i, from); s != nil {
			defer close(s.gone)
			for open := true; open; {
				select {
				case d, ok := <-s.batches:
					if open = ok; !ok {
						break
					}
					n := 0
					for n < len(d.batch.Events) && d.batch.Events[n].Position <= from {
						n++
					}
					d.batch.Events = d.batch.Events[n:]
					if d.err == nil && d.batch.Position <= from {
						continue
					}
					if !yield(d.batch, d.err) || d.err != nil {
						return
					}
					from = d.batch.Position
				case <-ctx.Done():
					yield(eventstore.Batch[*eventstore.Recorded]{}, ctx.Err())
					return
				}
			}
		}
		for b, err := range r.store.Follow(ctx, r.filter, from) {
			b.Events = r.split(b.Events, i, nil)
			if !yield(b, err) {
				return
			}
		}
	}
}

// take gives partition i its seat, if it comes in time and for the first time.
func (r *reader) take(i int, from eventstore.Position) *seat {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started || r.seats[i] != nil {
		return nil
	}
	s := &seat{from, make(chan delivery, seatBatches), make(chan struct{})}
	r.seats[i] = s
	if r.absent == len(r.seats) {
		go r.run()
	}
	if r.absent--; r.absent == 0 {
		close(r.ready)
	}
	return s
}

// split returns the events of partition i, or puts those of all into parts.
func (r *reader) split(events []*eventstore.Recorded, i int, parts [][]*eventstore.Recorded) (mine []*eventstore.Recorded) {
	p := 0
	for n, e := range events {
		if n == 0 || e.Position != events[n-1].Position { // parts of one event stay together
			p = r.of(e)
		}
		switch {
		case parts != nil:
			parts[p] = append(parts[p], e)
		case p == i:
			mine = append(mine, e)
		}
	}
	return mine
}

func (r *reader) run() {
	timer := time.NewTimer(seatPatience)
	defer timer.Stop()
	select {
	case <-r.ready:
	case <-timer.C:
	case <-r.ctx.Done():
	}
	r.mu.Lock()
	r.started = true
	seats := slices.Clone(r.seats)
	r.mu.Unlock()
	from := eventstore.Position(0)
	first := true
	for _, s := range seats {
		if s != nil && (first || s.from < from) {
			from, first = s.from, false
		}
	}
	defer func() {
		for _, s := range seats {
			if s != nil {
				close(s.batches)
			}
		}
	}()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	for b, err := range r.store.Follow(ctx, r.filter, from) {
		parts := make([][]*eventstore.Recorded, len(seats))
		r.split(b.Events, 0, parts)
		left := false
		for i, s := range seats {
			if s == nil {
				continue
			}
			if !r.give(s, delivery{eventstore.Batch[*eventstore.Recorded]{Events: parts[i], Position: b.Position}, err}) {
				close(s.batches)
				seats[i] = nil
				continue
			}
			left = true
		}
		if !left {
			return
		}
	}
}

// give reports whether s takes d in time.
func (r *reader) give(s *seat, d delivery) bool {
	select {
	case <-s.gone:
		return false
	default:
	}
	select {
	case s.batches <- d:
		return true
	default:
	}
	timer := time.NewTimer(seatPatience)
	defer timer.Stop()
	select {
	case s.batches <- d:
		return true
	case <-s.gone:
	case <-timer.C:
	case <-r.ctx.Done():
	}
	return false
}
