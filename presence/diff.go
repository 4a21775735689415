package presence

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Diff is what changed in a topic. To keep a list by diffs, take out the Leaves by
// their Node and Ref first, then add the Joins: an update is in both. All slices are
// sorted and are the receiver's.
type Diff struct {
	Topic  string
	Joins  []Present // metas that were added
	Leaves []Present // metas that were taken away, as they were last told
	Joined []string  // keys that had no meta before and have one now
	Left   []string  // keys that had a meta before and have none now
	// Degraded is what Presence.Degraded said when the diff was taken. A diff without
	// joins and leaves is there to tell that it changed.
	Degraded bool
}

// Diffs is a subscription to one topic. What its owner has not taken is merged
// into one Diff, in which joins and leaves that undo each other cancel out. So a slow
// subscriber holds up nobody and costs no more memory than the list it has and
// the list it will have. It is safe for concurrent use.
type Diffs struct {
	p        *Presence
	topic    string
	pending  map[string]*keyDiff
	degraded bool // as last told
	ready    chan struct{}
	done     chan struct{}
	ended    bool
}

// Diffs subscribes to a topic. The first diff holds all who are present, if any, so
// that the fold of all diffs taken is at every moment what List said when the last one
// was taken. It fails with ErrInvalid for a bad topic and with ErrClosed. The owner
// must Close it.
func (p *Presence) Diffs(topic string) (*Diffs, error) {
	if err := checkName("topic", topic); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("diffs of %q: %w", topic, ErrClosed)
	}
	d := &Diffs{p: p, topic: topic, pending: map[string]*keyDiff{}, ready: make(chan struct{}, 1), done: make(chan struct{})}
	t := p.topic(topic)
	for key, metas := range t.keys {
		for _, m := range metas {
			d.joined(key, 0, m)
		}
	}
	t.diffs[d] = struct{}{}
	if p.degraded {
		d.signal()
	}
	return d, nil
}

// Ready receives when there may be a diff to Take, for use in a select.
func (d *Diffs) Ready() <-chan struct{} { return d.ready }

// Take returns what changed since the last Take, and whether anything did. It does not block.
func (d *Diffs) Take() (Diff, bool) {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if len(d.pending) == 0 && d.degraded == d.p.degraded {
		return Diff{}, false
	}
	diff := Diff{Topic: d.topic, Degraded: d.p.degraded}
	for _, key := range slices.Sorted(maps.Keys(d.pending)) {
		k := d.pending[key]
		if len(k.leaves) > 0 {
			diff.Leaves = append(diff.Leaves, present(key, k.leaves))
		}
		if len(k.joins) > 0 {
			diff.Joins = append(diff.Joins, present(key, k.joins))
		}
		switch after := k.before - len(k.leaves) + len(k.joins); {
		case k.before == 0 && after > 0:
			diff.Joined = append(diff.Joined, key)
		case k.before > 0 && after == 0:
			diff.Left = append(diff.Left, key)
		}
	}
	d.pending = map[string]*keyDiff{}
	d.degraded = d.p.degraded
	return diff, true
}

// Next waits for a diff and takes it. It returns the error of ctx when that ends and
// ErrClosed once the subscription or the Presence is closed and nothing is left to take.
func (d *Diffs) Next(ctx context.Context) (Diff, error) {
	for {
		if diff, ok := d.Take(); ok {
			return diff, nil
		}
		select {
		case <-d.ready:
		case <-d.done:
			if diff, ok := d.Take(); ok {
				return diff, nil
			}
			return Diff{}, fmt.Errorf("diffs of %q: %w", d.topic, ErrClosed)
		case <-ctx.Done():
			return Diff{}, ctx.Err()
		}
	}
}

// Close ends the subscription. Closing again is a no-op.
func (d *Diffs) Close() {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	if t := d.p.topics[d.topic]; t != nil {
		delete(t.diffs, d)
		d.p.tidy(d.topic, t)
	}
	d.pending = map[string]*keyDiff{}
	d.degraded = d.p.degraded
	d.end()
}

// id tells metas apart even if nodes should make the same ref.
type id struct {
	node string
	ref  Ref
}

// keyDiff is what a subscriber has yet to be told of one key.
type keyDiff struct {
	before        int // how many metas the subscriber knows of
	joins, leaves map[id]Meta
}

// topic is what List answers from: the union of the entries of all nodes that are up.
type topic struct {
	keys  map[string]map[id]Meta
	diffs map[*Diffs]struct{}
}

func (p *Presence) topic(name string) *topic {
	t := p.topics[name]
	if t == nil {
		t = &topic{keys: map[string]map[id]Meta{}, diffs: map[*Diffs]struct{}{}}
		p.topics[name] = t
	}
	return t
}

func (p *Presence) tidy(name string, t *topic) {
	if len(t.keys) == 0 && len(t.diffs) == 0 {
		delete(p.topics, name)
	}
}

// show adds an entry of a node to its topic.
func (p *Presence) show(node string, ref Ref, e entry) {
	t := p.topic(e.topic)
	m := Meta{Ref: ref, Node: node, JSON: e.meta}
	for d := range t.diffs {
		d.joined(e.key, len(t.keys[e.key]), m)
	}
	if t.keys[e.key] == nil {
		t.keys[e.key] = map[id]Meta{}
	}
	t.keys[e.key][id{node, ref}] = m
}

// hide takes an entry of a node out of its topic.
func (p *Presence) hide(node string, ref Ref, e entry) {
	t := p.topic(e.topic)
	metas := t.keys[e.key]
	for d := range t.diffs {
		d.left(e.key, len(metas), Meta{Ref: ref, Node: node, JSON: e.meta})
	}
	delete(metas, id{node, ref})
	if len(metas) == 0 {
		delete(t.keys, e.key)
	}
	p.tidy(e.topic, t)
}

func (d *Diffs) joined(key string, before int, m Meta) {
	k, at := d.of(key, before), id{m.Node, m.Ref}
	if was, ok := k.leaves[at]; ok && was == m {
		delete(k.leaves, at) // gone and back as it was
	} else {
		k.joins[at] = m
	}
	d.settle(key, k)
}

func (d *Diffs) left(key string, before int, m Meta) {
	k, at := d.of(key, before), id{m.Node, m.Ref}
	if _, ok := k.joins[at]; ok {
		delete(k.joins, at) // never told
	} else {
		k.leaves[at] = m
	}
	d.settle(key, k)
}

func (d *Diffs) of(key string, before int) *keyDiff {
	k := d.pending[key]
	if k == nil {
		k = &keyDiff{before: before, joins: map[id]Meta{}, leaves: map[id]Meta{}}
		d.pending[key] = k
	}
	return k
}

func (d *Diffs) settle(key string, k *keyDiff) {
	if len(k.joins)+len(k.leaves) == 0 {
		delete(d.pending, key)
		return
	}
	d.signal()
}

func (d *Diffs) signal() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

func (d *Diffs) end() {
	if !d.ended {
		d.ended = true
		close(d.done)
	}
}
