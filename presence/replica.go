package presence

import (
	"cmp"
	"slices"
	"time"
)

// The state is a map from node to row. Only its own node changes a row, so rows of one
// node are ordered by (incarnation, seq) and the merge of two is the greater: that is
// commutative, associative and idempotent, with neither tombstones nor vector clocks.
// Deltas are the δ-mutators of Almeida, Shoker and Baquero, "Delta State Replicated
// Data Types" (2018), and a delta is applied only to a state it follows.

// row is what one node says about its users.
type row struct {
	node    string
	inc     uint64 // incarnation: each start of a node has a greater one
	seq     uint64 // how many changes there were in this incarnation
	entries map[Ref]entry
	up      bool // a filter of this node alone, never replicated
	heard   time.Time
	askAt   time.Time // not before this is it asked for what is missing
	partial *partial
}

// entry is one tracked key of one connection.
type entry struct {
	place
	meta string
	seq  uint64 // of the change that wrote it
}

// change is the step of a row from one seq to the next.
type change struct {
	ref   Ref
	set   bool // else the entry is removed
	entry entry
}

// partial is a snapshot of which some parts have come.
type partial struct {
	seq   uint64
	parts map[int][]change
	of    int
}

// fence keeps late gossip of a node that said bye from bringing it back.
type fence struct {
	inc  uint64
	till time.Time
}

// apply makes the next change of a row.
func (p *Presence) apply(r *row, c change) {
	r.seq++
	old, had := r.entries[c.ref]
	if had && r.up {
		p.hide(r.node, c.ref, old)
	}
	if !c.set {
		delete(r.entries, c.ref)
		return
	}
	c.entry.seq = r.seq
	r.entries[c.ref] = c.entry
	if r.up {
		p.show(r.node, c.ref, c.entry)
	}
}

// accept merges a frame of another node.
func (p *Presence) accept(f *frame, now time.Time) {
	if f.node == p.self {
		if f.inc != p.inc {
			p.log.Warn("presence: another node has this node's name, or did until now")
		}
		return
	}
	if f.kind == kindRequest {
		if f.wantInc != p.inc {
			f.have = 0
		}
		p.work.answer[f.node] = f.have
		return
	}
	r := p.rows[f.node]
	if gone, ok := p.fences[f.node]; ok && f.inc <= gone.inc || r != nil && f.inc < r.inc {
		return
	}
	if f.kind == kindBye {
		p.drop(r, "it said bye")
		p.fences[f.node] = fence{f.inc, now.Add(p.opts.PermDown)}
		p.wake(p.fences[f.node].till)
		return
	}
	if r == nil || f.inc > r.inc {
		p.drop(r, "it was restarted")
		r = &row{node: f.node, inc: f.inc, up: true, entries: map[Ref]entry{}}
		p.rows[f.node] = r
		p.work.greet[f.node] = true
		p.log.Debug("presence: another node is up", "other", f.node)
	}
	r.heard = now
	p.wake(now.Add(p.opts.Down))
	if !r.up {
		r.up = true
		for ref, e := range r.entries {
			p.show(r.node, ref, e)
		}
		p.log.Info("presence: another node is heard again", "other", f.node)
	}
	if f.kind == kindSnapshot {
		p.assemble(r, f)
		return
	}
	if f.lo > r.seq {
		if !now.Before(r.askAt) {
			r.askAt = now.Add(p.opts.Heartbeat)
			p.work.ask[r.node] = true
		}
		return
	}
	for i, c := range f.changes {
		if f.lo+uint64(i)+1 > r.seq {
			p.apply(r, c)
		}
	}
	if r.partial != nil && r.partial.seq < r.seq {
		r.partial = nil
	}
}

// assemble collects the parts of a snapshot and merges it when all have come. Parts
// of two answers may be mixed: those of one seq are always cut in the same way.
func (p *Presence) assemble(r *row, f *frame) {
	if f.hi < r.seq || r.partial != nil && f.hi < r.partial.seq {
		return
	}
	if r.partial == nil || r.partial.seq != f.hi || r.partial.of != f.parts {
		r.partial = &partial{seq: f.hi, of: f.parts, parts: map[int][]change{}}
	}
	r.partial.parts[f.part] = f.changes
	if len(r.partial.parts) < f.parts {
		return
	}
	entries := map[Ref]entry{}
	for _, part := range r.partial.parts {
		for _, c := range part {
			entries[c.ref] = c.entry
		}
	}
	for ref, old := range r.entries {
		if e, ok := entries[ref]; !ok || e != old {
			p.hide(r.node, ref, old)
		}
	}
	for ref, e := range entries {
		if old, ok := r.entries[ref]; !ok || e != old {
			p.show(r.node, ref, e)
		}
	}
	r.entries, r.seq, r.partial = entries, f.hi, nil
}

// drop forgets a node.
func (p *Presence) drop(r *row, why string) {
	if r == nil {
		return
	}
	p.hideAll(r)
	delete(p.rows, r.node)
	p.log.Debug("presence: another node is forgotten", "other", r.node, "why", why)
}

// hideAll takes the users of a node for gone and keeps its row.
func (p *Presence) hideAll(r *row) {
	if !r.up {
		return
	}
	for ref, e := range r.entries {
		p.hide(r.node, ref, e)
	}
	r.up = false
}

// silence hides and forgets the nodes that have not been heard for too long.
func (p *Presence) silence(now time.Time) {
	for node, r := range p.rows {
		if node == p.self {
			continue
		}
		if quiet := now.Sub(r.heard); quiet >= p.opts.PermDown {
			p.drop(r, "it was silent")
		} else if quiet >= p.opts.Down && r.up {
			p.hideAll(r)
			p.log.Info("presence: another node is silent", "other", node, "entries", len(r.entries))
		}
	}
	for node, f := range p.fences {
		if !now.Before(f.till) {
			delete(p.fences, node)
		}
	}
}

// snapshot returns the own row sorted by ref, so that it is always cut into the same parts.
func (p *Presence) snapshot() []change {
	own := p.rows[p.self]
	all := make([]change, 0, len(own.entries))
	for ref, e := range own.entries {
		all = append(all, change{ref: ref, set: true, entry: e})
	}
	slices.SortFunc(all, func(a, b change) int { return cmp.Compare(string(a.ref[:]), string(b.ref[:])) })
	return all
}
