package projection

import (
	"context"
	"time"
)

// Handling returns a context for what the named task does about an event: a
// Wait called with it, or with one made of it, passes over the task, which cannot be
// done with the event before. It is called by what a Task runs.
func (g *Group) Handling(ctx context.Context, name string) context.Context {
	return g.inHandler(ctx, name)
}

// Handled records that the named task got on: it handled n events and left out
// skipped others. Status tells. It is called by what a Task runs.
func (g *Group) Handled(name string, n, skipped int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.byName[name]; m != nil {
		m.err = nil
		m.handled += uint64(n)
		m.skipped += uint64(skipped)
		m.rate.add(time.Now(), n)
	}
}

// Failing records why the named task, or part of it, does not get on. It is called
// by what a Task runs.
func (g *Group) Failing(name string, err error) {
	if m := g.member(name); m != nil {
		g.failing(m, err)
	}
}
