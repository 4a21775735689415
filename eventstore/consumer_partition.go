package eventstore

import (
	"context"
	"errors"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A partition is one that a member has. Its fields are guarded by the member's lock.
type partition struct {
	m     *member
	index int
	fence uint64
	until time.Time // the lease is not certain any more from then on; by this process's clock

	window   window
	attached bool // fed by the member's feed; otherwise by a goroutine of its own
	leaving  bool // no more deliveries: it is given up when those under way are dealt with
	lost     bool
	flights  int // deliveries under way

	ctx    context.Context // ends when the partition is lost
	cancel context.CancelFunc

	name    string            // of the checkpoint
	stored  driver.Checkpoint // what is there
	savedAt time.Time
	saving  bool
	waiters []chan<- error // of the next save
}

// full reports whether nothing more should be read for now.
func (p *partition) full() bool { return len(p.window.items) >= p.m.room }

// ack implements Delivery.Ack.
func (p *partition) ack(ctx context.Context, d *Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m := p.m
	m.mu.Lock()
	if p.lost {
		err := m.err
		m.mu.Unlock()
		if errors.Is(err, ErrClosed) {
			return ErrClosed
		}
		return ErrMoved
	}
	if d.back {
		m.mu.Unlock()
		return ErrMoved
	}
	if d.items != nil {
		p.window.ack(d.items)
		p.landed(d)
	}
	saved := p.saveLocked()
	m.mu.Unlock()
	select {
	case err := <-saved:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retry implements Delivery.Retry.
func (p *partition) retry(d *Delivery, after time.Duration) {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.lost || d.items == nil {
		return
	}
	d.back = true
	p.window.retry(d.items, time.Now().Add(after))
	p.landed(d)
}

// landed notes that a delivery is not under way any more.
func (p *partition) landed(d *Delivery) {
	d.items = nil
	p.flights--
	p.m.changed.Broadcast()
	if p.leaving {
		p.m.wake()
	}
}

// saveLocked sees to it that what is known now becomes durable, and returns where the outcome will come. Saves of many
// acknowledgements are one.
func (p *partition) saveLocked() <-chan error {
	c := make(chan error, 1)
	p.waiters = append(p.waiters, c)
	if !p.saving {
		p.saving = true
		p.m.saving[p.index]++
		go p.save()
	}
	return c
}

func (p *partition) save() {
	m := p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(p.waiters) > 0 {
		waiters := p.waiters
		p.waiters = nil
		from := p.stored
		to := driver.Checkpoint{Position: uint64(p.window.base), Fence: p.fence, Data: p.window.data()}
		m.mu.Unlock()
		// What was acknowledged is saved even if the member leaves meanwhile.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), m.c.Lease)
		err := m.checkpoints.SaveCheckpoint(ctx, p.name, &from, to)
		if errors.Is(err, ErrMoved) {
			// What is there may be this partition's own, of which only the answer was lost.
			if c, ok, _ := m.checkpoints.LoadCheckpoint(ctx, p.name); ok && c.Fence == p.fence {
				err = m.checkpoints.SaveCheckpoint(ctx, p.name, &c, to)
			}
		}
		cancel()
		m.mu.Lock()
		switch {
		case err == nil:
			p.stored, p.savedAt = to, time.Now()
			m.progress()
		case errors.Is(err, ErrMoved):
			m.lose(p)
		}
		for _, c := range waiters {
			c <- err
		}
	}
	p.saving = false
	if m.saving[p.index]--; m.saving[p.index] == 0 {
		delete(m.saving, p.index)
	}
	m.changed.Broadcast()
}

// unsaved reports whether the position is further than what is stored, and nobody is about to save it.
func (p *partition) unsaved() bool { return !p.saving && uint64(p.window.base) != p.stored.Position }

// idle saves a position that was moved by events that nobody had to deal with, now and then.
func (p *partition) idle(now time.Time) {
	if !p.unsaved() {
		return
	}
	if uint64(p.window.base)-p.stored.Position > progressPositions || now.Sub(p.savedAt) >= progressTime {
		p.saveLocked()
	}
}
