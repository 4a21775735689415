package eventstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// A member is one call of Consume. It runs the goroutine of the caller, who takes deliveries; one that sees to the
// leases; and one that reads events.
//
//	Follow ──► feed ──► windows ──next──► deliveries ──► caller
//	             ▲         ▲                               │ Ack
//	             │         └───────── base, done ◄─────────┘──► checkpoint, by compare-and-set under the fence
//	leases ──► partitions
//
// What several members of a process read is read once, see [tail] and [catchUps]; each has its own cursor.
type member struct {
	s           *Store
	c           Consumer
	id          string
	checkpoints driver.Checkpointer
	leases      driver.Leaser
	room        int // items that a window holds before reading for it pauses

	ctx    context.Context // ends when the member does
	cancel context.CancelFunc
	wg     sync.WaitGroup
	poke   chan struct{} // something may have happened to the leases

	mu      sync.Mutex
	changed sync.Cond // whenever something may be delivered, or read
	group   settings
	parts   map[int]*partition
	saving  map[int]int // saves under way, by partition, also of those that are lost
	ready   bool        // the member has tried to get its share
	order   []int       // the partitions, sorted
	turn    int         // the index in order of the one to be asked next
	cursor  Position    // of the feed
	told    Position    // by progress
	feeding bool
	err     error

	fence  uint64    // of the member's own lease
	seen   time.Time // when it was last acquired
	parted sync.Once
}

// tickTime is how often a member looks whether others came or left, at least.
const tickTime = 300 * time.Millisecond

func (s *Store) joinConsumer(ctx context.Context, c Consumer) (*member, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	checkpoints, err := s.Checkpoints()
	if err != nil {
		return nil, err
	}
	leases, err := s.Leases()
	if err != nil {
		return nil, err
	}
	g, err := s.consumerGroup(ctx, checkpoints, &c)
	for pause := minPoll; err != nil; pause = min(2*pause, maxBackoff) {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case isFinal(err):
			return nil, err
		}
		s.opt.Logger.WarnContext(ctx, "eventstore: a consumer cannot begin", "consumer", c.Name, "err", err, "retry", pause)
		sleep(ctx, pause)
		g, err = s.consumerGroup(ctx, checkpoints, &c)
	}
	m := &member{
		s: s, c: c, id: NewID().String(), checkpoints: checkpoints, leases: leases, group: g,
		room: max(1024, 2*c.Batch*c.InFlight), parts: map[int]*partition{}, saving: map[int]int{}, poke: make(chan struct{}, 1),
	}
	m.changed.L = &m.mu
	m.ctx, m.cancel = context.WithCancel(ctx)
	context.AfterFunc(m.ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changed.Broadcast()
	})
	if !s.consumers.add(m) {
		m.cancel()
		return nil, ErrClosed
	}
	m.wg.Go(m.coordinate)
	m.wg.Go(m.feed)
	return m, nil
}

// isFinal reports whether waiting does not help against an error.
func isFinal(err error) bool {
	for _, e := range []error{ErrClosed, ErrInvalid, ErrPartitions, ErrUnsupported, ErrReadOnly, errSettings} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// leave gives up everything and waits until nothing of the member runs.
func (m *member) leave() {
	m.parted.Do(func() {
		m.cancel()
		m.wg.Wait()
		m.mu.Lock()
		parts := slices.Collect(maps.Values(m.parts))
		for _, p := range parts {
			if uint64(p.window.base) != p.stored.Position {
				p.saveLocked()
			}
		}
		for len(m.saving) > 0 {
			m.changed.Wait()
		}
		for _, p := range parts {
			m.lose(p)
		}
		m.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), m.c.Lease)
		defer cancel()
		for _, p := range parts {
			if err := m.leases.Release(ctx, m.leaseOf(p.index), m.id, p.fence); err != nil {
				m.log().Warn("eventstore: a partition could not be given up, its lease will end", "partition", p.index, "err", err)
			}
		}
		if !m.seen.IsZero() {
			_ = m.leases.Release(ctx, m.memberLease(), m.id, m.fence) // or else it ends
		}
		m.s.consumers.remove(m)
	})
}

// fail ends the member with an error. The first one counts.
func (m *member) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
	}
	m.changed.Broadcast()
}

// wake makes the member look at its leases now.
func (m *member) wake() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// next waits for something to deliver.
func (m *member) next() (*Delivery, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		if m.err != nil {
			return nil, m.err
		}
		if err := m.ctx.Err(); err != nil {
			return nil, err
		}
		d, later := m.take(time.Now())
		if d != nil {
			return d, nil
		}
		var timer *time.Timer
		if later > 0 {
			timer = time.AfterFunc(later, func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.changed.Broadcast()
			})
		}
		m.changed.Wait()
		if timer != nil {
			timer.Stop()
		}
	}
}

// take goes round the partitions.
func (m *member) take(now time.Time) (d *Delivery, later time.Duration) {
	if m.group.Paused {
		return nil, 0
	}
	for i := range m.order {
		at := (m.turn + i) % len(m.order)
		p := m.parts[m.order[at]]
		if p.leaving || p.flights >= m.c.InFlight || !now.Before(p.until) {
			continue
		}
		items, wait := p.window.take(m.c.Batch, now)
		if len(items) == 0 {
			if wait > 0 && (later == 0 || wait < later) {
				later = wait
			}
			continue
		}
		m.turn = at + 1
		p.flights++
		d := &Delivery{Partition: p.index, Attempt: items[0].attempts, p: p, items: items}
		for _, it := range items {
			d.Events = append(d.Events, it.events...)
		}
		d.Position = items[len(items)-1].pos
		m.changed.Broadcast() // there may be room
		return d, 0
	}
	return nil, later
}

// lose ends what the member has of a partition. It is called with the lock held.
func (m *member) lose(p *partition) {
	if p.lost {
		return
	}
	p.lost = true
	p.cancel()
	if m.parts[p.index] == p {
		delete(m.parts, p.index)
		m.order = slices.Sorted(maps.Keys(m.parts))
	}
	m.changed.Broadcast()
}

func (m *member) leaseOf(index int) string {
	return consumerPrefix + m.c.Name + "/p/" + strconv.Itoa(index)
}

func (m *member) memberLease() string { return consumerPrefix + m.c.Name + "/m/" + m.id }

// coordinate sees to the leases until the member ends.
func (m *member) coordinate() {
	pause := time.Duration(0)
	for {
		err := m.tick()
		switch {
		case m.ctx.Err() != nil:
			return
		case errors.Is(err, ErrClosed) || errors.Is(err, ErrNoConsumer) || errors.Is(err, ErrPartitions):
			m.fail(err)
			return
		case err != nil:
			if pause == 0 {
				m.log().Warn("eventstore: the leases of a consumer cannot be seen to", "err", err)
			}
			pause = min(max(2*pause, tickTime), m.c.Lease/3)
		default:
			pause = 0
		}
		timer := time.NewTimer(max(pause, min(tickTime, m.c.Lease/3)))
		select {
		case <-timer.C:
		case <-m.poke:
			timer.Stop()
		case <-m.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// tick looks at the consumer, keeps the member's leases, and gives up or takes partitions, so that everybody has
// an equal share.
func (m *member) tick() error {
	now := time.Now()
	m.expire(now)
	ctx, cancel := context.WithTimeout(m.ctx, m.c.Lease)
	defer cancel()
	if err := m.look(ctx); err != nil {
		return err
	}
	if now.Sub(m.seen) >= m.c.Lease/3 {
		fence, ok, err := m.leases.Acquire(ctx, m.memberLease(), m.id, m.c.Lease)
		if err != nil {
			return err
		}
		if ok {
			m.seen, m.fence = now, fence
		}
	}
	if err := m.renew(ctx); err != nil {
		return err
	}
	held, err := m.leases.Leases(ctx, consumerPrefix+m.c.Name+"/")
	if err != nil {
		return err
	}
	if err := m.hurry(ctx); err != nil {
		return err
	}
	members, owners := m.parse(held)
	m.giveUp(m.share(members))
	if err := m.acquire(ctx, m.share(members), owners); err != nil {
		return err
	}
	if err := m.release(ctx, owners); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.ready {
		m.ready = true
		m.changed.Broadcast()
	}
	return nil
}

// expire loses partitions whose lease may have ended.
func (m *member) expire(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if !now.Before(p.until) {
			m.log().Warn("eventstore: a partition is lost: its lease was not renewed in time", "partition", p.index)
			m.lose(p)
			continue
		}
		p.idle(now)
	}
}

// hurry saves positions that were moved by events that nobody had to deal with, if another process waits for them.
func (m *member) hurry(ctx context.Context) error {
	m.mu.Lock()
	var unsaved bool
	for _, p := range m.parts {
		unsaved = unsaved || p.unsaved()
	}
	m.mu.Unlock()
	if !unsaved {
		return nil
	}
	waiting, err := m.leases.Leases(ctx, system.Waiting+m.c.Name+"/")
	if err != nil || len(waiting) == 0 {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if p.unsaved() {
			p.saveLocked()
		}
	}
	return nil
}

// look reads what is stored of the consumer, and starts over if it was reset or repartitioned.
func (m *member) look(ctx context.Context) error {
	g, ok, err := loadGroup(ctx, m.checkpoints, m.c.Name)
	if err != nil {
		return err
	}
	if !ok {
		return ErrNoConsumer
	}
	if m.c.Partitions != 0 && g.Partitions != m.c.Partitions {
		return fmt.Errorf("%w: %d are stored, not %d", ErrPartitions, g.Partitions, m.c.Partitions)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.Generation != m.group.Generation {
		for _, p := range m.parts {
			// The lease stays this member's, and is acquired again or released below.
			m.lose(p)
		}
	}
	if g != m.group {
		if g.Generation != m.group.Generation {
			m.told = 0
		}
		m.group = g
		m.changed.Broadcast()
	}
	return nil
}

// renew keeps the partitions' leases.
func (m *member) renew(ctx context.Context) error {
	m.mu.Lock()
	parts := slices.Collect(maps.Values(m.parts))
	m.mu.Unlock()
	for _, p := range parts {
		now := time.Now()
		if p.until.Sub(now) > m.c.Lease*2/3 {
			continue
		}
		fence, ok, err := m.leases.Acquire(ctx, m.leaseOf(p.index), m.id, m.c.Lease)
		if err != nil {
			return err
		}
		m.mu.Lock()
		if ok && fence == p.fence {
			p.until = now.Add(m.c.Lease)
		} else {
			m.log().Warn("eventstore: a partition is lost: another member has it", "partition", p.index)
			m.lose(p)
		}
		m.mu.Unlock()
	}
	return nil
}

// parse returns the members that are there, sorted, this one among them, and who has which partition.
func (m *member) parse(held []driver.Lease) (members []string, owners map[int]driver.Lease) {
	prefix := consumerPrefix + m.c.Name + "/"
	members, owners = []string{m.id}, map[int]driver.Lease{}
	for _, l := range held {
		name := strings.TrimPrefix(l.Name, prefix)
		if id, ok := strings.CutPrefix(name, "m/"); ok && id != m.id {
			members = append(members, id)
		} else if n, ok := strings.CutPrefix(name, "p/"); ok {
			if index, err := strconv.Atoi(n); err == nil {
				owners[index] = l
			}
		}
	}
	slices.Sort(members)
	return members, owners
}

// share is how many partitions this one of the members should have.
func (m *member) share(members []string) int {
	n := m.group.Partitions / len(members)
	if slices.Index(members, m.id) < m.group.Partitions%len(members) {
		n++
	}
	return n
}

// giveUp loses what the member has beyond its share, between deliveries.
func (m *member) giveUp(share int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	surplus := len(m.parts) - share
	// Those that wait for nothing first, else the last ones.
	for _, busy := range []bool{false, true} {
		for _, index := range slices.Backward(m.order) {
			p := m.parts[index]
			if (p.flights > 0) != busy {
				continue
			}
			p.leaving = surplus > 0
			surplus--
			if p.leaving && !busy && !p.saving {
				m.lose(p) // no acknowledgement can come any more
			}
		}
	}
	m.changed.Broadcast()
}

// release gives up the leases of partitions that the member does not have: any more, or since the consumer was reset.
func (m *member) release(ctx context.Context, owners map[int]driver.Lease) error {
	for index, l := range owners {
		m.mu.Lock()
		has := m.parts[index] != nil || m.saving[index] > 0
		m.mu.Unlock()
		if has || l.Owner != m.id {
			continue
		}
		if err := m.leases.Release(ctx, l.Name, m.id, l.Fence); err != nil {
			return err
		}
		m.s.consumers.poke(m.c.Name, m)
	}
	return nil
}

// acquire takes partitions that nobody has, up to the share.
func (m *member) acquire(ctx context.Context, share int, owners map[int]driver.Lease) error {
	for index := range m.group.Partitions {
		m.mu.Lock()
		n, has := len(m.parts), m.parts[index] != nil || m.saving[index] > 0
		m.mu.Unlock()
		if n >= share {
			return nil
		}
		if owner := owners[index].Owner; has || owner != "" && owner != m.id {
			continue
		}
		before := time.Now()
		fence, ok, err := m.leases.Acquire(ctx, m.leaseOf(index), m.id, m.c.Lease)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := m.restore(ctx, index, fence, before.Add(m.c.Lease)); err != nil {
			return err
		}
	}
	return nil
}

// restore takes over a partition whose lease this member has. Its checkpoint is marked with the new fence first,
// so that who had it before can save nothing any more.
func (m *member) restore(ctx context.Context, index int, fence uint64, until time.Time) error {
	name := m.group.checkpoint(m.c.Name, index)
	var stored driver.Checkpoint
	for {
		c, ok, err := m.checkpoints.LoadCheckpoint(ctx, name)
		if err != nil {
			return err
		}
		from := &c
		if !ok {
			from, c = nil, driver.Checkpoint{Position: uint64(m.group.Start)}
		}
		stored = driver.Checkpoint{Position: c.Position, Fence: fence, Data: c.Data}
		err = m.checkpoints.SaveCheckpoint(ctx, name, from, stored)
		if err == nil {
			break
		}
		if !errors.Is(err, ErrMoved) || ok && c.Fence > fence {
			return err
		}
	}
	w, err := newWindow(Position(stored.Position), stored.Data)
	if err != nil {
		return fmt.Errorf("partition %d: %w", index, err)
	}
	p := &partition{m: m, index: index, fence: fence, until: until, window: w, name: name, stored: stored, savedAt: time.Now()}
	p.ctx, p.cancel = context.WithCancel(m.ctx)
	context.AfterFunc(p.ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changed.Broadcast()
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts[index] = p
	m.order = slices.Sorted(maps.Keys(m.parts))
	switch {
	case !m.feeding || p.window.seen >= m.cursor:
		p.attached = true // the feed begins with the earliest
	default:
		m.wg.Go(func() { m.catchUp(p) })
	}
	m.changed.Broadcast()
	return nil
}
