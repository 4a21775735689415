package natsstore

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

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
	// leastPage is what is read of each of several patterns beyond its share.
	leastPage = 16
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

// A cursor is how far a read of the log has come with the messages that match one
// pattern.
type cursor struct {
	pattern string
	at      uint64     // up to which it has read
	list    []*message // read, and not taken yet
	// more is how many messages the replica had above at when it was last asked: it
	// says how dense those of this pattern are, compared with those of the others.
	more uint64
}

// bound is the sequence up to which it is known that there is nothing to take.
func (c *cursor) bound() uint64 {
	if len(c.list) > 0 {
		return c.list[0].seq - 1
	}
	return c.at
}

// fill reads one page, of at most n messages, from any replica. A replica may be
// behind: what it has is a prefix, and when it has no more the leader says whether
// that was all, up to last.
func (s *store) fill(ctx context.Context, c *cursor, last uint64, n int) error {
	p, err := s.log.page(ctx, c.at+1, c.pattern, n)
	if err != nil {
		return err
	}
	c.list, c.more = p.list, p.more
	if k := len(p.list); k > 0 {
		c.at = p.list[k-1].seq
	}
	if p.full || c.at >= last {
		return nil
	}
	m, err := s.log.next(ctx, c.at+1, c.pattern)
	switch {
	case err != nil:
		return err
	case m != nil:
		c.list, c.at = append(c.list, m), m.seq
	default:
		c.at = last
	}
	return nil
}

// fillAll fills those of some cursors that have nothing left, at once, with n
// messages together or a little more. Each gets a share by what it has yet to come,
// and as little as makes no difference as long as that is not known: messages of a
// sparse pattern lie far ahead, and those that are not taken are read again.
func (s *store) fillAll(ctx context.Context, list []*cursor, last uint64, n int) error {
	if len(list) == 1 {
		return s.fill(ctx, list[0], last, n)
	}
	total := uint64(0)
	for _, c := range list {
		total += c.more
	}
	begun := 0
	errs := make(chan error, len(list))
	for _, c := range list {
		if len(c.list) > 0 || c.at >= last {
			continue
		}
		share := leastPage
		if c.more > 0 {
			share += int(float64(n) * float64(c.more) / float64(total))
		}
		begun++
		go func() { errs <- s.fill(ctx, c, last, min(n, share)) }()
	}
	var failed error
	for range begun {
		if err := <-errs; failed == nil {
			failed = err
		}
	}
	return failed
}

// cursors returns a cursor for each pattern, or one for all together if most
// messages match one of them.
func (s *store) cursors(patterns []string, from uint64) []*cursor {
	if len(patterns) > 1 && s.crowds.has(patterns) {
		patterns = []string{s.space.cover(patterns)}
	}
	list := make([]*cursor, len(patterns))
	for i, p := range patterns {
		list[i] = &cursor{pattern: p, at: from}
	}
	return list
}

// forward reads until it has limit events, has examined enough, or is at what was
// the leader's last message when it began. The messages of several patterns are
// merged by their sequences: one is taken when all others are known that might
// come before it.
func (s *store) forward(ctx context.Context, f driver.Filter, from uint64, limit int) (events []driver.Recorded, scanned uint64, err error) {
	patterns, exact := s.space.patterns(&f)
	last, gone, err := s.look(ctx)
	if err != nil {
		return nil, 0, err
	}
	if len(patterns) == 0 || last <= from || limit <= 0 {
		return nil, max(from, last), nil
	}
	cursors := s.cursors(patterns, from)
	scanned = from
	var list []*message // selected
	for examined := 0; scanned < last && len(list) < limit && examined < examine; {
		n := pageEvents
		if exact {
			n = min(n, limit-len(list)+1) // one more may be a marker
		}
		if err := s.fillAll(ctx, cursors, last, n); err != nil {
			return nil, 0, err
		}
		if len(cursors) > 1 && scanned == from && s.crowds.crowded(cursors, last-from) {
			// All is read in fewer requests, and most of it is wanted.
			cursors, exact = s.cursors(patterns, from), false
			continue
		}
		for len(list) < limit {
			c := slices.MinFunc(cursors, func(a, b *cursor) int { return cmp.Compare(a.bound(), b.bound()) })
			if len(c.list) == 0 || c.list[0].seq > last {
				scanned = min(c.bound(), last)
				break
			}
			m := c.list[0]
			c.list, scanned = c.list[1:], m.seq
			if examined++; s.selected(m, &f, gone) {
				list = append(list, m)
			}
		}
		examined++
	}
	events, err = s.events(ctx, list)
	if err != nil {
		return nil, 0, err
	}
	return events, scanned, nil
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
	patterns, _ := s.space.patterns(&f)
	if len(patterns) == 0 {
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
		window, whole, err := s.windows(ctx, patterns, low, scanned)
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

// windows is window for several patterns, of which no message matches two.
func (s *store) windows(ctx context.Context, patterns []string, low, high uint64) (list []*message, whole bool, err error) {
	if len(patterns) == 1 {
		return s.window(ctx, patterns[0], low, high)
	}
	type result struct {
		list  []*message
		whole bool
		err   error
	}
	results := make(chan result, len(patterns))
	for _, p := range patterns {
		go func() {
			list, whole, err := s.window(ctx, p, low, high)
			results <- result{list, whole, err}
		}()
	}
	whole = true
	for range patterns {
		r := <-results
		list, whole = append(list, r.list...), whole && r.whole
		if r.err != nil {
			err = r.err
		}
	}
	slices.SortFunc(list, func(a, b *message) int { return cmp.Compare(a.seq, b.seq) })
	return list, whole, err
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

// A crowds remembers sets of patterns that so much of the log matches that it is
// quicker to read all. It is about speed only: what is read is the same.
type crowds struct {
	mu   sync.Mutex
	sets map[string]time.Time // until when
}

const (
	// keepCrowd is for how long a set is not looked at again.
	keepCrowd = time.Minute
	mostSets  = 1000
	// crowd is what part of the messages makes it not worth while to have the server
	// choose: one in so many.
	crowd = 3
	// fewMessages are read one way as quickly as the other.
	fewMessages = 256
)

func (c *crowds) has(patterns []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Before(c.sets[strings.Join(patterns, " ")])
}

// crowded reports whether the cursors, after their first page, show that their
// patterns are crowded, among the next n messages, and remembers it.
func (c *crowds) crowded(list []*cursor, n uint64) bool {
	match := uint64(0)
	patterns := make([]string, len(list))
	for i, x := range list {
		match += x.more + uint64(len(x.list))
		patterns[i] = x.pattern
	}
	if n < fewMessages || match < n/crowd {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets == nil || len(c.sets) >= mostSets {
		c.sets = make(map[string]time.Time)
	}
	c.sets[strings.Join(patterns, " ")] = time.Now().Add(keepCrowd)
	return true
}
