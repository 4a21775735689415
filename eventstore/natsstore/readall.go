package natsstore

import (
	"context"
	"slices"

	"github.com/levada-go/levada/eventstore/driver"
)

const (
	// examine is how many messages a read of the log looks at before it returns
	// with what it has found.
	examine = 4096
	// pageEvents is how many messages one page has, at most.
	pageEvents = 1000
	// The reads backward look at windows of the log, since the server reads only
	// forward. A window with little in it is followed by a larger one.
	leastWindow = 64
	mostWindow  = 1 << 22
)

// ReadAll implements [driver.Store].
func (s *store) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer leave()
	if dir == driver.Forward {
		return s.forward(ctx, f, from, limit)
	}
	last, gone, err := s.look(ctx)
	if err != nil || last == 0 {
		return nil, 0, err
	}
	if from == 0 {
		from = last + 1
	}
	return s.backward(ctx, f, gone, from, limit)
}

// forward reads pages from any replica, until it has limit events, has examined
// enough, or is at what was the leader's last message when it began. A replica
// may be behind: what it has is a prefix, and when it has no more the leader says
// whether that was all.
func (s *store) forward(ctx context.Context, f driver.Filter, from uint64, limit int) (events []driver.Recorded, scanned uint64, err error) {
	pattern, none := s.space.pattern(&f)
	last, gone, err := s.look(ctx)
	if err != nil {
		return nil, 0, err
	}
	if none || last <= from || limit <= 0 {
		return nil, max(from, last), nil
	}
	scanned = from
	var list []*message // selected
	for examined := 0; scanned < last && len(list) < limit && examined < examine; {
		n := pageEvents
		if selects(&f) {
			n = min(n, limit-len(list)+1) // one more may be a marker
		}
		p, err := s.log.page(ctx, scanned+1, pattern, n)
		if err != nil {
			return nil, 0, err
		}
		if !p.full {
			seen := scanned
			if k := len(p.list); k > 0 {
				seen = max(seen, p.list[k-1].seq)
			}
			if seen < last {
				// Is there really no more, or is the replica behind?
				m, err := s.log.next(ctx, seen+1, pattern)
				if err != nil {
					return nil, 0, err
				}
				if m != nil {
					p.list, p.full = append(p.list, m), true
				}
			}
		}
		examined += max(len(p.list), 1)
		taken := false
		for _, m := range p.list {
			if len(list) == limit {
				taken = true
				break
			}
			if scanned = m.seq; s.selected(m, &f, gone) {
				list = append(list, m)
			}
		}
		if !p.full && !taken {
			scanned = max(scanned, last)
		}
	}
	events, err = s.events(ctx, list)
	if err != nil {
		return nil, 0, err
	}
	return events, scanned, nil
}

// selects reports whether f selects every event that matches its pattern.
func selects(f *driver.Filter) bool {
	return len(f.Types) == 0 && len(f.Streams) <= 1 && len(f.Categories) <= 1 && (len(f.Streams) == 0 || len(f.Categories) == 0)
}

// selected reports whether m is an event that f selects.
func (s *store) selected(m *message, f *driver.Filter, gone removed) bool {
	if m.marker() || gone.has(m) {
		return false
	}
	stream, ok := s.space.stream(m.subject)
	typ, _ := unescapeHeader(m.header.Get(headerType))
	return !ok || f.Match(stream, typ) // what is not of a store is an error, later
}

// backward reads windows below from, which is not 0. The last windows may have
// begun below what is returned: scanned is where the next read goes on.
func (s *store) backward(ctx context.Context, f driver.Filter, gone removed, from uint64, limit int) (events []driver.Recorded, scanned uint64, err error) {
	pattern, none := s.space.pattern(&f)
	if none {
		return nil, 0, nil
	}
	scanned = from
	var list []*message // selected, descending
	size, shrunk := uint64(max(leastWindow, min(2*limit, pageEvents))), false
	for examined := 0; scanned > 1 && len(list) < limit && examined < examine; {
		low := uint64(1)
		if scanned > size {
			low = scanned - size
		}
		window, whole, err := s.window(ctx, pattern, low, scanned)
		if err != nil {
			return nil, 0, err
		}
		examined += max(len(window), 1)
		if !whole {
			size, shrunk = size/8, true // a window of examine messages is never too much
			continue
		}
		if !shrunk && uint64(len(window)) < size/8 {
			size = min(8*size, mostWindow)
		}
		rest := scanned
		scanned = low
		for _, m := range slices.Backward(window) {
			if len(list) == limit {
				scanned = rest // it goes on below what was taken last
				break
			}
			if rest = m.seq; s.selected(m, &f, gone) {
				list = append(list, m)
			}
		}
	}
	if scanned == 1 {
		scanned = 0
	}
	if events, err = s.events(ctx, list); err != nil {
		return nil, 0, err
	}
	return events, scanned, nil
}

// window returns all messages from sequence low up to high, without high, whose
// subjects match a pattern. If they are far too many it gives up: whole is false.
func (s *store) window(ctx context.Context, pattern string, low, high uint64) (list []*message, whole bool, err error) {
	for low < high && len(list) <= examine {
		p, err := s.log.page(ctx, low, pattern, int(min(high-low+1, pageEvents)))
		if err != nil {
			return nil, false, err
		}
		if !p.full {
			// Is there really no more, or is the replica behind?
			seen := low
			if k := len(p.list); k > 0 {
				seen = p.list[k-1].seq + 1
			}
			if seen < high {
				m, err := s.log.next(ctx, seen, pattern)
				if err != nil {
					return nil, false, err
				}
				if m != nil {
					p.list, p.full = append(p.list, m), true
				}
			}
		}
		for _, m := range p.list {
			if m.seq >= high {
				return list, true, nil
			}
			list = append(list, m)
			low = m.seq + 1
		}
		if !p.full {
			return list, true, nil
		}
	}
	return list, low >= high, nil
}
