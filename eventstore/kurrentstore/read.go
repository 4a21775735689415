package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/levada-go/levada/eventstore/driver"
)

const (
	examine      = 2000    // events that a read with a filter looks at
	examineBytes = 8 << 20 // and their bytes, whichever is less
	spare        = 8       // events that a read without one may have to leave out

	typeTombstone = "$streamDeleted" // the last event of a purged stream
)

// ReadStream reads a stream as the leader has it.
func (d *store) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	name, err := serverName(stream)
	if err != nil || limit <= 0 {
		return nil, err
	}
	var opt *readReq
	switch {
	case dir == driver.Forward:
		if from >= impossible {
			return nil, nil
		}
		opt = readStream(name, from+1, uint64(limit), false)
	case from == 1:
		return nil, d.alive(ctx, name)
	case from == 0 || from > impossible:
		opt = readStream(name, 0, uint64(limit), true)
	default:
		opt = readStream(name, from-1, uint64(limit), true)
	}
	var list []driver.Recorded
	err = d.g.page(ctx, opt, func() { list = nil }, func(e *recorded) error {
		if e.GetStreamRevision() == math.MaxInt64 || len(list) == limit {
			return nil
		}
		r, err := decode(e, stream)
		list = append(list, r)
		return err
	})
	if errors.Is(err, errNoStream) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return list, nil
}

// alive returns ErrStreamDeleted for a stream that was purged.
func (d *store) alive(ctx context.Context, name string) error {
	_, err := d.g.one(ctx, readStream(name, 0, 1, true))
	if errors.Is(err, errNoStream) {
		return nil
	}
	return err
}

// ReadAll reads the log as the leader has it, and filters it here: the client's interface has no filter for reads.
// What the driver keeps for itself does not move scanned while nothing else
// follows, or every saved checkpoint would be news that moves a checkpoint.
func (d *store) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return nil, from, err
	}
	defer done()
	if limit <= 0 {
		return nil, from, nil
	}
	budget := limit + spare
	if len(f.Streams)+len(f.Categories)+len(f.Types) > 0 {
		budget = max(budget, examine)
	}
	if dir == driver.Backward {
		return d.readBackward(ctx, f, from, limit, budget)
	}
	return d.readForward(ctx, f, from, limit, budget)
}

// A scan is one attempt at a page of the log.
type scan struct {
	list     []driver.Recorded
	seen     int    // events
	bytes    int    // of them
	last     uint64 // the position of the last event
	moved    uint64 // and of the last that is not the driver's own
	cut      bool   // it ended before the log
	backward bool
	gone     gone // what it has seen of removals
}

func (s *scan) look(f *driver.Filter, e *recorded, limit int) error {
	if err := placed(e); err != nil {
		return err
	}
	s.seen++
	s.bytes += len(e.GetData()) + len(e.GetCustomMetadata())
	s.last = e.GetCommitPosition()
	name := string(e.GetStreamIdentifier().GetStreamName())
	if !isSelf(name) {
		s.moved = s.last
	}
	s.gone.look(name, e, s.backward)
	if stream, ok := visible(e); ok && f.Match(stream, e.GetMetadata()[wireType]) {
		r, err := decode(e, stream)
		if err != nil {
			return err
		}
		s.list = append(s.list, r)
	}
	if len(s.list) == limit || s.bytes >= examineBytes {
		s.cut = true
		return errEnough
	}
	return nil
}

// visible returns what the driver calls the stream of an event of the log; ok is
// false for events that are nobody's to read.
func visible(e *recorded) (stream string, ok bool) {
	if e.GetMetadata()[wireType] == typeTombstone {
		return "", false
	}
	return streamName(string(e.GetStreamIdentifier().GetStreamName()))
}

// placed returns why the place of an event in the log is not one position.
func placed(e *recorded) error {
	if c, p := e.GetCommitPosition(), e.GetPreparePosition(); c != p {
		return fmt.Errorf("%w: in %s, committed at %d, prepared at %d", ErrTransaction, e.GetStreamIdentifier().GetStreamName(), c, p)
	}
	return nil
}

func (d *store) readForward(ctx context.Context, f driver.Filter, from uint64, limit, budget int) ([]driver.Recorded, uint64, error) {
	start := d.head.skip(from)
	count := budget
	if start > 0 {
		count++ // the first is the one that was read last, if it is still there
	}
	var s scan
	err := d.g.page(ctx, readAll(start, uint64(count), false), func() { s = scan{last: start, moved: from} }, func(e *recorded) error {
		if e.GetCommitPosition() <= start && start > 0 {
			return nil
		}
		return s.look(&f, e, limit)
	})
	if err != nil {
		return nil, from, err
	}
	if n := len(s.list); n > 0 {
		d.watch.tell(s.list[n-1].Position)
	}
	if s.cut || s.seen >= budget {
		list, err := d.withoutRemoved(ctx, s.list)
		return list, max(from, s.last), err
	}
	if s.last > s.moved {
		d.head.hide(s.moved, s.last)
	}
	return s.gone.without(s.list), max(from, s.moved), nil
}

func (d *store) readBackward(ctx context.Context, f driver.Filter, from uint64, limit, budget int) ([]driver.Recorded, uint64, error) {
	var s scan
	err := d.g.page(ctx, readAll(from, uint64(budget), true), func() { s = scan{backward: true} }, func(e *recorded) error {
		if from > 0 && e.GetCommitPosition() >= from {
			return nil
		}
		return s.look(&f, e, limit)
	})
	if err != nil {
		return nil, from, err
	}
	scanned := s.last
	if !s.cut && s.seen < budget {
		scanned = 0
	}
	if from == 0 {
		return s.gone.without(s.list), scanned, nil
	}
	list, err := d.withoutRemoved(ctx, s.list)
	return list, scanned, err
}

// A head remembers what is at the end of the log, so that what nobody may read
// there is not read again and again.
type head struct {
	mu      sync.Mutex
	end     uint64 // the position of an event at the end,
	visible uint64 // and of the last one at or before it that can be read
	removed uint64 // counts removals by this process: what was visible may not be any more
	after   uint64 // between after and until there is nothing but the driver's own
	until   uint64
}

// forget is called when events were removed.
func (h *head) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end, h.visible, h.after, h.until = 0, 0, 0, 0
	h.removed++
}

// hide notes that there is nothing to read above after, up to until.
func (h *head) hide(after, until uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until > h.until {
		h.after, h.until = after, until
	}
}

// skip returns the position to read after instead of from.
func (h *head) skip(from uint64) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if from >= h.after && from < h.until {
		return h.until
	}
	return from
}

// Head returns the position of the last event that can be read, as the leader has it.
func (d *store) Head(ctx context.Context) (uint64, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	return d.findHead(ctx)
}

func (d *store) findHead(ctx context.Context) (uint64, error) {
	h := &d.head
	h.mu.Lock()
	end, known, removed := h.end, h.visible, h.removed
	h.mu.Unlock()
	var first, found uint64
	for from, count := uint64(0), 2; ; count = min(4*count, examine) {
		var seen int
		at := from
		err := d.g.page(ctx, readAll(from, uint64(count), true), func() { at, seen, found = from, 0, 0 }, func(e *recorded) error {
			if err := placed(e); err != nil {
				return err
			}
			seen++
			at = e.GetCommitPosition()
			if first == 0 {
				first = at
			}
			if _, ok := visible(e); ok {
				found = at
				return errEnough
			}
			if at == end {
				found = known
				return errEnough
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		if found > 0 || seen < count || at == end {
			break
		}
		from = at
	}
	h.mu.Lock()
	if h.removed == removed && first > h.end {
		h.end, h.visible = first, found
	}
	h.mu.Unlock()
	d.watch.tell(found)
	return found, nil
}
