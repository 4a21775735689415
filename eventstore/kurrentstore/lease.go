package kurrentstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore/driver"
)

// The leases of a group, those whose names are alike up to the first slash, are
// one table: the last event of a stream, written anew at its exact revision by whoever changes
// it. A fence is the version of the stream at which a lease was granted, so
// it is greater than every one before, whoever has forgotten what.
//
// Time is the server's. It does not tell it, but what it writes has the time at
// which it did. So a lease that was granted or renewed by an event lasts its ttl from the time of that
// event, and whoever wants to know whether it is over knows from an event of his own what
// the server's time was at least, and counts on from there with a clock that only measures how long. No machine's time of day
// is looked at but the leader's.
const typeLeases = "levada.leases"

type storedLease struct {
	Owner string `json:"owner"`
	Fence uint64 `json:"fence"`
	// Until is when the lease ends, in microseconds since 1970. It is 0 if the
	// lease was renewed by the very event that says so: then it lasts TTL from the time of that.
	Until int64 `json:"until,omitempty"`
	TTL   int64 `json:"ttl,omitempty"` // in microseconds
}

// A leaseTable is what a group's stream holds.
type leaseTable struct {
	version uint64
	leases  map[string]storedLease
}

// leaseGroup returns the group of a lease.
func leaseGroup(name string) string {
	group, _, _ := strings.Cut(name, "/")
	return group
}

func (d *store) loadLeases(ctx context.Context, group string) (leaseTable, error) {
	c, err := d.loadCell(ctx, leasePrefix+group)
	if err != nil || c.event == nil {
		return leaseTable{version: c.version, leases: map[string]storedLease{}}, err
	}
	t := leaseTable{version: c.version}
	if err := json.Unmarshal(c.event.GetData(), &t.leases); err != nil {
		return t, fmt.Errorf("%w: leases of %q: %w", ErrServer, group, err)
	}
	if t.leases == nil {
		t.leases = map[string]storedLease{}
	}
	created, err := createdAt(c.event)
	if err != nil {
		return t, err
	}
	for name, l := range t.leases {
		if l.Until == 0 {
			l.Until, l.TTL = created.UnixMicro()+l.TTL, 0
			t.leases[name] = l
		}
	}
	return t, nil
}

// saveLeases writes a table, without what has ended, and sees the time in passing.
func (d *store) saveLeases(ctx context.Context, group string, t leaseTable) error {
	now, known := d.clock.now()
	for name, l := range t.leases {
		if known && l.Until > 0 && l.Until < now {
			delete(t.leases, name)
		}
	}
	data, err := json.Marshal(t.leases)
	if err != nil {
		return err
	}
	if t.version == 0 {
		if err := d.set(ctx, &d.leases, group, true); err != nil {
			return err
		}
		if err := d.keepOne(ctx, leasePrefix+group); err != nil {
			return err
		}
	}
	_, err = d.put(ctx, leasePrefix+group, t.version, driver.Event{ID: uuid.New(), Type: typeLeases, ContentType: wireJSON, Data: data})
	return err
}

// Acquire grants or renews a lease.
func (d *store) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return 0, false, err
	}
	defer done()
	if ttl <= 0 {
		return 0, false, fmt.Errorf("kurrentstore: a lease of %v", ttl)
	}
	err = d.changeLeases(ctx, leaseGroup(name), func(t *leaseTable) (bool, error) {
		l, held := t.leases[name]
		if held && l.Owner != owner {
			now, err := d.now(ctx)
			if err != nil {
				return false, err
			}
			if ok = now >= l.Until; !ok {
				return false, nil
			}
			held = false
		}
		if !held {
			l = storedLease{Owner: owner, Fence: t.version + 1}
		}
		l.Until, l.TTL = 0, max(1, ttl.Microseconds())
		t.leases[name] = l
		fence, ok = l.Fence, true
		return true, nil
	})
	if err != nil || !ok {
		return 0, false, err
	}
	return fence, true, nil
}

// Release gives up a lease.
func (d *store) Release(ctx context.Context, name, owner string, fence uint64) error {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	return d.changeLeases(ctx, leaseGroup(name), func(t *leaseTable) (bool, error) {
		l, held := t.leases[name]
		if !held || l.Owner != owner || l.Fence != fence {
			return false, nil
		}
		delete(t.leases, name)
		return true, nil
	})
}

// changeLeases changes the table of a group, if change says so, at the version that it saw.
func (d *store) changeLeases(ctx context.Context, group string, change func(*leaseTable) (bool, error)) error {
	leave, err := d.turns.take(ctx, leasePrefix+group)
	if err != nil {
		return err
	}
	defer leave()
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		t, err := d.loadLeases(ctx, group)
		if err != nil {
			return err
		}
		if yes, err := change(&t); err != nil || !yes {
			return err
		}
		err = d.saveLeases(ctx, group, t)
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return err
		}
		if err := d.pause(ctx, pause); err != nil {
			return err
		}
	}
}

// Leases lists those that are held.
func (d *store) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	groups := []string{leaseGroup(prefix)}
	if !strings.Contains(prefix, "/") {
		all, err := d.list(ctx, &d.leases)
		if err != nil {
			return nil, err
		}
		groups = groups[:0]
		for _, group := range all {
			if strings.HasPrefix(group, prefix) {
				groups = append(groups, group)
			}
		}
	}
	tables := make([]leaseTable, len(groups))
	err = each(ctx, len(groups), func(ctx context.Context, i int) (err error) {
		tables[i], err = d.loadLeases(ctx, groups[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	var list []driver.Lease
	var now int64
	for _, t := range tables {
		for name, l := range t.leases {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			if now == 0 {
				if now, err = d.now(ctx); err != nil {
					return nil, err
				}
			}
			if now < l.Until {
				list = append(list, driver.Lease{Name: name, Owner: l.Owner, Fence: l.Fence, Expires: time.UnixMicro(l.Until).UTC()})
			}
		}
	}
	slices.SortFunc(list, func(a, b driver.Lease) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// A clock knows what the leader's time is at least.
type clock struct {
	mu     sync.Mutex
	server int64     // its time in microseconds
	read   time.Time // when it was that at least, by the clock that only measures how long
}

// clockAge is how long one look at the leader's clock counts: another leader may have another time.
const clockAge = 10 * time.Second

// now returns the leader's time, or a little less; false if it was not looked at for too long.
func (c *clock) now() (int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	age := time.Since(c.read)
	if c.read.IsZero() || age > clockAge {
		return 0, false
	}
	return c.server + age.Microseconds(), true
}

// now returns the leader's time in microseconds, or a little less. To see it, it writes an
// event, unless that was done a moment ago.
func (d *store) now(ctx context.Context) (int64, error) {
	if now, ok := d.clock.now(); ok {
		return now, nil
	}
	id := uuid.New()
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		c, err := d.loadCell(ctx, clockStream)
		if err != nil {
			return 0, err
		}
		if c.version == 0 {
			if err := d.keepOne(ctx, clockStream); err != nil {
				return 0, err
			}
		}
		_, err = d.put(ctx, clockStream, c.version, driver.Event{ID: id, Type: "levada.clock", ContentType: wireJSON, Data: []byte("{}")})
		var wrong *errWrongVersion
		if err != nil && !errors.As(err, &wrong) {
			return 0, err
		}
		// Whoever has written the last one: it was after the read above that it was
		// written, or before it, and so its time is not later than now.
		c, err = d.loadCell(ctx, clockStream)
		if err != nil {
			return 0, err
		}
		if c.event != nil {
			created, err := createdAt(c.event)
			if err != nil {
				return 0, err
			}
			read := time.Now()
			d.clock.mu.Lock()
			d.clock.server, d.clock.read = created.UnixMicro(), read
			d.clock.mu.Unlock()
			return created.UnixMicro(), nil
		}
		if err := d.pause(ctx, pause); err != nil {
			return 0, err
		}
	}
}
