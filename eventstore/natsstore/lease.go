package natsstore

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// Leases are kept in the bucket <name>-lease. The time is the server's: a lease
// runs from when the leader stored it, and whether it has run out is asked of the
// leader, whose answers tell its time. No clock of a client matters.
//
// A fence is one more than the revision that the key had, or, if there was none,
// than every revision of the bucket. A revision is never used again, so that a
// fence is greater than every earlier one, even if keys were removed by other
// means.
type grant struct {
	Owner string        `json:"owner"` // empty if it was released
	TTL   time.Duration `json:"ttl"`   // in nanoseconds, from the time of the revision
	Fence uint64        `json:"fence"`
}

func parseGrant(it item) (grant, error) {
	var g grant
	if err := json.Unmarshal(it.value, &g); err != nil {
		return grant{}, fmt.Errorf("%w: the lease %s: %w", ErrNotStore, it.key, err)
	}
	return g, nil
}

// Acquire implements [driver.Leaser].
func (s *store) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (fence uint64, ok bool, err error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return 0, false, err
	}
	defer leave()
	b := &s.leases
	for {
		it, err := b.get(ctx, token(name))
		if err != nil {
			return 0, false, err
		}
		g := grant{Owner: owner, TTL: ttl, Fence: it.revision + 1}
		switch {
		case it.found:
			have, err := parseGrant(it)
			if err != nil {
				return 0, false, err
			}
			switch have.Owner {
			case owner:
				g.Fence = have.Fence // nobody else has had it meanwhile
			case "":
			default:
				info, err := b.link.info(ctx, "", 0)
				if err != nil {
					return 0, false, err
				}
				if info.TimeStamp.Before(it.time.Add(have.TTL)) {
					return 0, false, nil
				}
			}
		case it.revision == 0:
			if err := b.prepare(ctx); err != nil {
				return 0, false, err
			}
			info, err := b.link.info(ctx, "", 0)
			if err != nil {
				return 0, false, err
			}
			g.Fence = info.State.LastSeq + 1
		}
		value, err := json.Marshal(g)
		if err != nil {
			return 0, false, err
		}
		if _, put, err := b.put(ctx, it.revision, b.value(token(name), nil, value)); err != nil || put {
			return g.Fence, err == nil, err
		}
	}
}

// Release implements [driver.Leaser].
func (s *store) Release(ctx context.Context, name, owner string, fence uint64) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	b := &s.leases
	for {
		it, err := b.get(ctx, token(name))
		if err != nil || !it.found {
			return err
		}
		have, err := parseGrant(it)
		if err != nil || have.Owner != owner || have.Fence != fence {
			return err
		}
		value, err := json.Marshal(grant{Fence: fence})
		if err != nil {
			return err
		}
		if _, put, err := b.put(ctx, it.revision, b.value(token(name), nil, value)); err != nil || put {
			return err
		}
	}
}

// Leases implements [driver.Leaser].
func (s *store) Leases(ctx context.Context, prefix string) ([]driver.Lease, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	list, now, err := s.leases.list(ctx, hasPrefix(prefix))
	if err != nil {
		return nil, err
	}
	var leases []driver.Lease
	for _, it := range list {
		g, err := parseGrant(it)
		if err != nil {
			return nil, err
		}
		expires := it.time.Add(g.TTL)
		if g.Owner == "" || !now.Before(expires) {
			continue
		}
		name, _ := untoken(it.key)
		leases = append(leases, driver.Lease{Name: name, Owner: g.Owner, Fence: g.Fence, Expires: expires})
	}
	sort.Slice(leases, func(i, j int) bool { return leases[i].Name < leases[j].Name })
	return leases, nil
}
