package process

import (
	"context"
	"fmt"
	"sync"

	"github.com/levada-go/levada/eventstore"
)

// A count knows how many instances of a process are stuck and wait for a decision, and which event is needed first when they, or
// those that will try again by themselves, go on. What it costs grows with how many
// are, and not with how many there ever were.
type count struct {
	s    *eventstore.Store
	name string

	mu   sync.Mutex
	at   eventstore.Position // up to here it is known who got stuck
	open map[string]bool     // and may still be
}

func (c *count) stuck(ctx context.Context) (n int, first eventstore.Position, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[string]bool{}
	}
	head, err := c.s.Head(ctx)
	if err != nil {
		return 0, 0, err
	}
	parked := eventstore.Filter{Categories: []string{category(c.name)}, Types: []string{typeParked}}
	for r, err := range c.s.ReadAll(ctx, parked, c.at) {
		if err != nil {
			return 0, 0, fmt.Errorf("process %s: %w", c.name, err)
		}
		c.open[r.Stream.ID()] = true
	}
	c.at = max(c.at, head)
	for id := range c.open {
		rec, _, _, err := last(ctx, c.s, eventstore.Stream(category(c.name), id))
		switch {
		case err != nil:
			return 0, 0, err
		case rec.Status != Stuck:
			delete(c.open, id)
			continue
		case rec.Again.IsZero():
			n++
		}
		if rec.Event != nil && (first == 0 || rec.Event.Position < first) {
			first = rec.Event.Position
		}
	}
	return n, first, nil
}
