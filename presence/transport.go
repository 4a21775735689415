package presence

import "time"

// Transport carries frames between nodes. It may lose, repeat, reorder and delay
// them; it must not change them. Its methods must not block for long and must be
// safe for concurrent use. Frames are at most MaxFrameBytes long.
type Transport interface {
	// Start makes the node reachable under its name. From then on the transport calls
	// receive with each frame for it, and link when the others become unreachable (false) and
	// reachable again (true); it should ride out short interruptions by itself. Both may be
	// called by any goroutine, even from within Broadcast and Send, and keep
	// nothing of the frame when they return. The link is taken to be up at first.
	Start(node string, receive func(frame []byte), link func(up bool)) error
	// Broadcast sends a frame to all other nodes. The frame must not be changed. It may
	// come back to its sender, who ignores it.
	Broadcast(frame []byte) error
	// Send sends a frame to one node. To one that is not there it is a no-op or an error.
	Send(node string, frame []byte) error
	// Stop sends what was handed over before and ends the transport.
	Stop() error
}

// work is what others are to be told. It holds no frames, so that it stays small
// however slow the transport is.
type work struct {
	flush, head, bye bool
	greet            map[string]bool   // nodes to be told the own seq
	ask              map[string]bool   // nodes to be asked for what is missing
	answer           map[string]uint64 // nodes that asked, and the seq they have
}

func (w *work) clear() {
	*w = work{greet: map[string]bool{}, ask: map[string]bool{}, answer: map[string]uint64{}}
}

// letter is a frame with its address; everybody if that is empty.
type letter struct {
	to    string
	frame []byte
}

func (p *Presence) receive(b []byte) {
	f, err := decode(b)
	if err != nil {
		p.log.Warn("presence: a bad frame was dropped", "error", err, "bytes", len(b))
		return
	}
	p.mu.Lock()
	// What comes after the link was lost is late: it would bring back users who are not shown.
	if !p.closed && !p.degraded {
		p.accept(f, time.Now())
	}
	p.mu.Unlock()
	p.send()
}

func (p *Presence) link(up bool) {
	p.mu.Lock()
	if p.closed || p.degraded == !up {
		p.mu.Unlock()
		return
	}
	p.degraded = !up
	if up {
		p.work.head = true
		p.log.Info("presence: the transport is back")
	} else {
		for node, r := range p.rows {
			if node != p.self {
				p.hideAll(r)
			}
		}
		p.log.Warn("presence: the transport is lost, only users of this node are shown")
	}
	for _, t := range p.topics {
		for d := range t.diffs {
			d.signal()
		}
	}
	p.mu.Unlock()
	p.send()
}

// jitter returns the time to the next heartbeat: nodes started together drift apart.
func (p *Presence) jitter() time.Duration {
	part := float64(p.rand()>>11) / (1 << 53) // 0 ≤ part < 1
	return time.Duration(float64(p.opts.Heartbeat) * (0.75 + part/2))
}

// wake makes the timer fire at t if it would do so later.
func (p *Presence) wake(t time.Time) {
	if !p.closed && (p.next.IsZero() || t.Before(p.next)) {
		p.next = t
		p.timer.Reset(time.Until(t))
	}
}

// tick does what is due.
func (p *Presence) tick() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	now := time.Now()
	p.next = time.Time{}
	p.graceOver(now)
	p.silence(now)
	if !p.flushAt.IsZero() && !p.flushAt.After(now) {
		p.work.flush = true
	}
	if !p.beatAt.IsZero() && !p.beatAt.After(now) {
		seq := p.rows[p.self].seq
		p.work.head = p.work.head || seq != p.beaten || now.Sub(p.spoke) >= p.opts.Idle
		p.beaten = seq
		p.beatAt = now.Add(p.jitter())
	}
	p.plan(now)
	p.mu.Unlock()
	p.send()
}

// plan sets the timer to the next thing that will be due.
func (p *Presence) plan(now time.Time) {
	// What is due by now has been done; it must not make the timer fire again and again.
	at := func(t time.Time) {
		if t.After(now) {
			p.wake(t)
		}
	}
	if len(p.queue) > 0 {
		at(p.queue[0].at)
	}
	at(p.flushAt)
	at(p.beatAt)
	for node, r := range p.rows {
		switch {
		case node == p.self:
		case r.up:
			at(r.heard.Add(p.opts.Down))
		default:
			at(r.heard.Add(p.opts.PermDown))
		}
	}
	for _, f := range p.fences {
		at(f.till)
	}
}

// send hands over what there is to tell. One goroutine at a time does it, for all, and
// without the lock: a transport may call back.
func (p *Presence) send() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sending {
		return
	}
	p.sending = true
	for letters := p.letters(); len(letters) > 0; letters = p.letters() {
		p.mu.Unlock()
		for _, l := range letters {
			var err error
			if l.to == "" {
				err = p.opts.Transport.Broadcast(l.frame)
			} else {
				err = p.opts.Transport.Send(l.to, l.frame)
			}
			if err != nil {
				// It is as good as lost, and what is lost is asked for.
				p.log.Debug("presence: a frame was not sent", "to", l.to, "error", err)
			}
		}
		p.mu.Lock()
	}
	p.sending = false
	p.idle.Broadcast()
}

// letters turns the work into frames.
func (p *Presence) letters() []letter {
	w := p.work
	p.work.clear()
	if w.flush {
		p.flushAt = time.Time{}
	}
	if p.degraded || p.opts.Transport == nil {
		return nil
	}
	var out []letter
	own := p.rows[p.self]
	head := frame{kind: kindDelta, node: p.self, inc: p.inc, lo: own.seq, hi: own.seq}
	if w.flush && p.sent < own.seq {
		for _, b := range p.since(p.sent) {
			out = append(out, letter{frame: b})
		}
		w.head = false
	} else if w.head {
		out = append(out, letter{frame: head.encode()})
	}
	if len(out) > 0 {
		p.sent, p.spoke = own.seq, time.Now()
	}
	for node := range w.greet {
		out = append(out, letter{node, head.encode()})
	}
	for node := range w.ask {
		if r := p.rows[node]; r != nil {
			f := frame{kind: kindRequest, node: p.self, inc: p.inc, wantInc: r.inc, have: r.seq}
			out = append(out, letter{node, f.encode()})
		}
	}
	for node, have := range w.answer {
		for _, b := range p.since(have) {
			out = append(out, letter{node, b})
		}
	}
	if w.bye {
		f := frame{kind: kindBye, node: p.self, inc: p.inc}
		out = append(out, letter{frame: f.encode()})
	}
	return out
}

// since returns frames that bring a copy of the own row from seq have to now: deltas
// if the log reaches back that far, else a snapshot.
func (p *Presence) since(have uint64) [][]byte {
	own := p.rows[p.self]
	first := own.seq - uint64(len(p.changes))
	f := frame{kind: kindDelta, node: p.self, inc: p.inc, lo: have, hi: own.seq}
	if have > own.seq {
		have = own.seq
		f.lo = have
	}
	if have >= first {
		return f.cut(p.changes[have-first:], p.opts.FrameBytes)
	}
	f = frame{kind: kindSnapshot, node: p.self, inc: p.inc, hi: own.seq}
	return f.cut(p.snapshot(), p.opts.FrameBytes)
}
