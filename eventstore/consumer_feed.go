package eventstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"
)

// feed reads events for all partitions at once.
func (m *member) feed() {
	m.mu.Lock()
	for (len(m.parts) == 0 || !m.ready) && m.ctx.Err() == nil {
		m.changed.Wait()
	}
	start := Position(0)
	for i, index := range m.order {
		if seen := m.parts[index].window.seen; i == 0 || seen < start {
			start = seen
		}
	}
	m.cursor, m.feeding = start, true
	m.mu.Unlock()
	m.follow(m.ctx, start, func(b Batch[*Recorded]) bool {
		for p := range m.attached() {
			m.put(p, b)
		}
		m.cursor = b.Position
		for m.crowded() && m.ctx.Err() == nil {
			m.changed.Wait()
		}
		return true
	})
}

// attached goes through the partitions that the feed feeds.
func (m *member) attached() func(func(*partition) bool) {
	return func(yield func(*partition) bool) {
		for _, index := range m.order {
			if p := m.parts[index]; p.attached && !yield(p) {
				return
			}
		}
	}
}

// crowded reports whether the feed must wait because a partition is full. If meanwhile another has nothing left to
// do, the full ones are fed by themselves from here on.
func (m *member) crowded() bool {
	var full []*partition
	dry := false
	for p := range m.attached() {
		if p.full() {
			full = append(full, p)
		}
		dry = dry || len(p.window.items) == 0
	}
	if len(full) > 0 && dry {
		for _, p := range full {
			p.attached = false
			m.wg.Go(func() { m.catchUp(p) })
		}
		return false
	}
	return len(full) > 0
}

// catchUp reads for one partition until it is where the feed is.
func (m *member) catchUp(p *partition) {
	m.mu.Lock()
	for p.full() && p.ctx.Err() == nil {
		m.changed.Wait()
	}
	start := p.window.seen
	m.mu.Unlock()
	m.follow(p.ctx, start, func(b Batch[*Recorded]) bool {
		m.put(p, b)
		for p.full() && p.ctx.Err() == nil {
			m.changed.Wait()
		}
		p.attached = p.window.seen >= m.cursor
		return !p.attached
	})
}

// follow hands batches to fn with the lock held, until ctx ends or fn has enough, whatever happens to the store.
func (m *member) follow(ctx context.Context, after Position, fn func(Batch[*Recorded]) bool) {
	defer func() {
		if p := recover(); p != nil {
			m.fail(fmt.Errorf("the consumer's By or Keys panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	for pause := tickTime; ; pause = min(2*pause, m.c.Lease) {
		var last error
		for b, err := range m.s.Follow(ctx, m.c.Filter, after) {
			if last = err; err != nil {
				break
			}
			after, pause = b.Position, tickTime
			if !m.locked(func() bool { return fn(b) }) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(last, ErrClosed) {
			m.fail(last)
			return
		}
		m.log().Warn("eventstore: a consumer cannot read", "err", last)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (m *member) locked(fn func() bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return fn()
}

// put gives a partition its own of a batch.
func (m *member) put(p *partition, b Batch[*Recorded]) {
	if b.Position <= p.window.seen {
		return
	}
	for i := 0; i < len(b.Events); {
		n := i + 1
		for n < len(b.Events) && b.Events[n].Position == b.Events[i].Position {
			n++
		}
		if keys := m.keysIn(p, b.Events[i:n]); len(keys) > 0 {
			p.window.add(keys, b.Events[i:n:n])
		}
		i = n
	}
	p.window.pass(b.Position)
	m.progress()
	m.changed.Broadcast()
}

// keysIn returns the keys of an event, given in its parts, that belong to a partition. By is asked about the first part.
func (m *member) keysIn(p *partition, parts []*Recorded) []string {
	if m.c.By != nil {
		if key := m.c.By(parts[0]); PartitionOf(key, m.group.Partitions) == p.index {
			return []string{key}
		}
		return nil
	}
	var keys []string
	for _, r := range parts {
		for _, key := range m.c.Keys(r) {
			if PartitionOf(key, m.group.Partitions) == p.index && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// progress tells how far the member's partitions are, if it has all of them. It is called with the lock held.
func (m *member) progress() {
	if m.c.Progress == nil || len(m.parts) != m.group.Partitions {
		return
	}
	var least Position
	for i, index := range m.order {
		if base := m.parts[index].window.base; i == 0 || base < least {
			least = base
		}
	}
	if least > m.told {
		m.told = least
		m.c.Progress(least)
	}
}
