package projection

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/system"
)

// A StoppedError reports that something will not be handled, however long one
// waits: the projection is paused or stopped, or there is none of that name.
type StoppedError struct {
	Name  string
	State State // Paused or Stopped; empty if there is no such projection
	Err   error // what it was stopped with, if it was
}

func (e *StoppedError) Error() string {
	switch {
	case e.State == "":
		return fmt.Sprintf("projection: there is no %q", e.Name)
	case e.Err != nil:
		return fmt.Sprintf("projection: %s is %s: %v", e.Name, e.State, e.Err)
	}
	return fmt.Sprintf("projection: %s is %s", e.Name, e.State)
}

// Unwrap returns what the projection was stopped with.
func (e *StoppedError) Unwrap() error { return e.Err }

const (
	// A waiter looks at a durable position between every pollMin and every pollMax.
	pollMin = 10 * time.Millisecond
	pollMax = time.Second
	// After announceAfter a waiter tells other processes that it waits.
	announceAfter = 50 * time.Millisecond
	// An announcement that is not renewed ends after announceTTL.
	announceTTL = 10 * time.Second
)

// Wait returns when the named projections, or all of the group, have handled
// everything up to pos. A name that is not in the group, or whose projection is
// paused or stopped short of pos, is a *StoppedError at once, also if it is
// stopped while Wait waits. When ctx ends first, the error Is ctx.Err().
//
// Called with the context of a handler, Wait passes over the projection that
// the handler belongs to: it cannot be done with an event before its handler
// is. For the same reason it passes over those of the group whose own handlers
// wait for that one. When the handler's group ends, and what it waits for no
// longer runs here, the error Is context.Canceled.
//
// Where the projection runs in this process, Wait looks at what was handled;
// otherwise it polls the position in the target, first every 10 milliseconds,
// later every second, and tells the other processes through a lease named
// "$wait-" plus the projection's name, if the store has leases, so that they write
// positions without delay.
//
// A projection that was replaced is waited for in its successor.
func (g *Group) Wait(ctx context.Context, pos eventstore.Position, names ...string) error {
	ctx = g.Trace.waitStart(ctx, WaitInfo{pos, names})
	err := g.wait(ctx, pos, names)
	g.Trace.waitEnd(ctx, err)
	return err
}

// A waiter is one call of Wait. The group's lock guards it.
type waiter struct {
	pos     eventstore.Position
	ms      []*member     // what it waits for
	from    *handler      // that calls, or nil
	callers []*member     // whose handlers from and its outer ones are
	woken   chan struct{} // one slot
	polls   []*poll
}

func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (g *Group) wait(ctx context.Context, pos eventstore.Position, names []string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	ms, err := g.awaited(ctx, names)
	if err != nil {
		return err
	}
	w := &waiter{pos: pos, ms: ms, from: handlerOf(ctx)}
	if behind, err := g.first(w); behind == nil || err != nil {
		return err
	}
	w.woken = make(chan struct{}, 1)
	g.join(w)
	defer g.leave(ctx, w)
	began := time.Now()
	for {
		behind, err := g.first(w)
		if behind == nil || err != nil {
			return err
		}
		g.share(w)
		at := behind.at
		g.mu.Unlock()
		err = g.sleep(ctx, w, began)
		g.mu.Lock()
		if err != nil {
			where := ""
			if behind.state == StandBy {
				where = " and does not run in this process"
			}
			return fmt.Errorf("projection: waiting for %s to reach %d, it is at %d%s: %w", behind.task.Name, pos, at, where, err)
		}
	}
}

// awaited returns the members to wait for.
func (g *Group) awaited(ctx context.Context, names []string) ([]*member, error) {
	var ms []*member
	if len(names) == 0 {
		for _, m := range g.members {
			if !g.handles(ctx, m.task.Name) {
				ms = append(ms, m)
			}
		}
		return ms, nil
	}
	for _, name := range names {
		m := g.byName[name]
		switch {
		case m == nil:
			return nil, &StoppedError{Name: name}
		case !slices.Contains(ms, m) && !g.handles(ctx, name):
			ms = append(ms, m)
		}
	}
	return ms, nil
}

// first returns a member that is to be waited for, or nil; and an error if it
// will never get there.
func (g *Group) first(w *waiter) (behind *member, err error) {
	for _, m := range w.ms {
		m = m.latest()
		switch {
		case m.removed:
			return m, &StoppedError{Name: m.task.Name}
		case m.at >= w.pos:
		case m.state == Paused, m.state == Stopped:
			return m, &StoppedError{m.task.Name, m.state, m.err}
		case w.from != nil && g.waitsFor(m, w.from, nil):
		case m.state == StandBy && w.from.ending():
			return m, fmt.Errorf("projection: waiting for %s, which ended: %w", m.task.Name, context.Canceled)
		default:
			behind = m
		}
	}
	return behind, nil
}

// latest is m, or what has replaced it.
func (m *member) latest() *member {
	for m.state == Replaced && m.next != nil {
		m = m.next
	}
	return m
}

// waitsFor reports whether a handler of m waits for one of those that h is, or is
// called by, or for one that waits for them.
func (g *Group) waitsFor(m *member, h *handler, seen []*member) bool {
	for _, w := range m.calls {
		for _, x := range w.ms {
			if x.at >= w.pos || slices.Contains(seen, x) {
				continue
			}
			for o := h; o != nil; o = o.outer {
				if o.store == g.Store && o.name == x.task.Name {
					return true
				}
			}
			if g.waitsFor(x, h, append(seen, x)) {
				return true
			}
		}
	}
	return false
}

// sleep returns when something may have changed, or ctx's error when it has ended.
func (g *Group) sleep(ctx context.Context, w *waiter, began time.Time) error {
	var timer <-chan time.Time
	next, failed := g.look(ctx, w, began)
	if next > 0 {
		t := time.NewTimer(next)
		defer t.Stop()
		timer = t.C
	}
	var ending <-chan struct{}
	if w.from != nil && !w.from.ending() {
		ending = w.from.run.Done()
	}
	select {
	case <-w.woken:
	case <-timer:
	case <-ending:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), failed)
	}
	return nil
}

// join begins a call of Wait that has to wait.
func (g *Group) join(w *waiter) {
	for _, m := range w.ms {
		m.waiters = append(m.waiters, w)
	}
	for h := w.from; h != nil; h = h.outer {
		if m := g.byName[h.name]; m != nil && h.store == g.Store {
			m.calls = append(m.calls, w)
			w.callers = append(w.callers, m)
		}
	}
}

// without returns list without one w.
func without(list []*waiter, w *waiter) []*waiter {
	i, last := slices.Index(list, w), len(list)-1
	list[i], list[last] = list[last], nil
	return list[:last]
}

// leave ends a call of Wait.
func (g *Group) leave(ctx context.Context, w *waiter) {
	for _, m := range w.ms {
		m.waiters = without(m.waiters, w)
	}
	for _, m := range w.callers {
		m.calls = without(m.calls, w)
	}
	var unheard []*poll
	for _, p := range w.polls {
		if p.m.poller == w {
			p.m.handOver()
		}
		if p.announced && len(p.m.waiters) == 0 {
			unheard = append(unheard, p)
		}
	}
	if len(unheard) == 0 {
		return
	}
	g.mu.Unlock()
	defer g.mu.Lock()
	for _, p := range unheard {
		g.withdraw(ctx, p)
	}
}

// A poll is one waiter's looking at the durable position of a member that does
// not run here, for all that wait for it.
type poll struct {
	m         *member
	due       time.Time
	interval  time.Duration
	announced bool
	renew     time.Time
	fence     uint64
}

// share makes w look at those members that do not run here and that nobody else
// looks at, and leaves to others those that w need not look at any longer.
func (g *Group) share(w *waiter) {
	for _, m := range w.ms {
		m = m.latest()
		// A consumer may run here and have partitions elsewhere.
		needed := m.at < w.pos && m.task.Load != nil && (m.state == StandBy || m.task.Consumer != "")
		switch {
		case m.poller == nil && needed:
			m.poller = w
			p := &poll{m: m}
			if m.state != StandBy {
				p.due = time.Now().Add(announceAfter) // most likely it all happens here
			}
			w.polls = append(w.polls, p)
		case m.poller == w && !needed:
			m.handOver()
		}
	}
}

// handOver lets another waiter look at m.
func (m *member) handOver() {
	m.poller = nil
	m.wake(math.MaxUint64)
}

// look loads the positions that are due and returns when to look again, 0 if
// there is nothing to look at. A position that cannot be loaded is tried again
// like one that has not moved.
func (g *Group) look(ctx context.Context, w *waiter, began time.Time) (next time.Duration, failed error) {
	for _, p := range w.polls {
		g.mu.Lock()
		mine := p.m.poller == w
		g.mu.Unlock()
		if !mine {
			continue
		}
		if now := time.Now(); !now.Before(p.due) {
			if now.Sub(began) >= announceAfter && !now.Before(p.renew) {
				g.announce(ctx, p)
			}
			at, err := p.m.task.Load(ctx)
			if err != nil {
				failed = err
			} else {
				g.seen(p.m, at)
			}
			p.interval = min(max(2*p.interval, pollMin), pollMax)
			p.due = time.Now().Add(p.interval)
		}
		// A due time that has just passed still is a time to look at.
		if d := max(time.Until(p.due), 1); next == 0 || d < next {
			next = d
		}
	}
	return next, failed
}

// seen records the durable position of a member, unless it runs here by now and
// knows better.
func (g *Group) seen(m *member, at eventstore.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case m.state == StandBy:
		if m.crew != nil {
			m.crew.seen(at)
		}
		g.moved(m, at)
	case m.task.Consumer != "" && at > m.at:
		g.moved(m, at)
	}
}

// announce tells other processes that this one waits for p's member. It is only
// to make them quicker, so that failing does not matter.
func (g *Group) announce(ctx context.Context, p *poll) {
	leases, err := g.Store.Leases()
	if err != nil {
		return
	}
	p.renew = time.Now().Add(announceTTL / 2)
	if fence, ok, err := leases.Acquire(ctx, g.announcement(p), g.id, announceTTL); ok && err == nil {
		p.announced, p.fence = true, fence
	}
}

func (g *Group) withdraw(ctx context.Context, p *poll) {
	leases, err := g.Store.Leases()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	leases.Release(ctx, g.announcement(p), g.id, p.fence) // or else it expires
}

func (g *Group) announcement(p *poll) string {
	return system.Waiting + p.m.task.announce() + "/" + g.id
}

// lookEvery is how often a group looks who waits elsewhere, at most.
const lookEvery = 100 * time.Millisecond

// listeners is what a group knows of the waiters of other processes.
type listeners struct {
	mu     sync.Mutex
	looked time.Time
	names  []string // of leases
}

// awaitedElsewhere reports whether another process waits for the named
// projection's position; and whether there is a way to know.
func (g *Group) awaitedElsewhere(ctx context.Context, name string) (yes, known bool) {
	leases, err := g.Store.Leases()
	if err != nil {
		return false, false
	}
	l := &g.listeners
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.looked) >= lookEvery {
		l.looked = now
		l.names = l.names[:0]
		held, err := leases.Leases(ctx, system.Waiting)
		if err != nil {
			return false, true
		}
		for _, lease := range held {
			l.names = append(l.names, lease.Name)
		}
	}
	return slices.ContainsFunc(l.names, func(lease string) bool {
		return strings.HasPrefix(lease, system.Waiting+name+"/")
	}), true
}
