package kurrentstore

import (
	"context"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A watch tells those who wait that something was appended, by a subscription
// to everything. It runs while somebody waits, and for a while after that. It is
// a hint: while the subscription is broken nobody is told.
//
//	subscription ──┬──► wanted: when an append under way was recorded
//	               │
//	own appends ───┼──► known ──► changed
//	reads ─────────┘
type watch struct {
	d *store

	mu      sync.Mutex
	known   uint64        // an event was seen at this position
	changed chan struct{} // closed when known rises
	waiting int
	running bool
	live    bool        // it was confirmed
	idle    *time.Timer // ends the subscription
	made    int         // subscriptions, for tests

	wanted map[spot]chan *recorded // by appends that are under way
	slow   time.Time               // until then it is not expected to tell in time
}

// A spot is a place in a stream, named as on the server.
type spot struct {
	stream   string
	revision uint64
}

const (
	lateFor   = time.Second
	watchIdle = 30 * time.Second
	minDrop   = 20 * time.Millisecond // before a subscription is made again
	maxDrop   = 5 * time.Second
)

func (w *watch) init(d *store) {
	w.d, w.changed, w.wanted = d, make(chan struct{}), map[spot]chan *recorded{}
}

// tell is told of an event that can be read.
func (w *watch) tell(p uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p > w.known {
		w.known = p
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// expect has the subscription give the event at a revision of a stream, which is about to be appended,
// to a channel. It is nil where there is no subscription, or it was late a moment ago. drop must be called in the end.
func (w *watch) expect(stream string, revision uint64) (told <-chan *recorded, drop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.live || time.Now().Before(w.slow) {
		return nil, func() {}
	}
	at, c := spot{stream, revision}, make(chan *recorded, 1)
	w.wanted[at] = c
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.wanted, at)
	}
}

// late notes that the subscription did not tell of an event soon.
func (w *watch) late() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.slow = time.Now().Add(lateFor)
}

// give gives an event to who expects it.
func (w *watch) give(e *recorded) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wanted) == 0 {
		return
	}
	at := spot{string(e.GetStreamIdentifier().GetStreamName()), e.GetStreamRevision()}
	if c := w.wanted[at]; c != nil {
		c <- e
		delete(w.wanted, at)
	}
}

// Wait waits for a subscription to tell of an event.
func (d *store) Wait(ctx context.Context, after uint64) error {
	caller := ctx
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	w := &d.watch
	w.enter()
	defer w.leave()
	for {
		w.mu.Lock()
		known, changed := w.known, w.changed
		w.mu.Unlock()
		if known > after {
			return nil
		}
		select {
		case <-changed:
		case <-d.g.closing:
			return driver.ErrClosed
		case <-ctx.Done():
			if err := caller.Err(); err != nil {
				return err
			}
			return driver.ErrClosed
		}
	}
}

// enter starts the subscription, if there is none.
func (w *watch) enter() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting++
	if w.running {
		return
	}
	ctx, done, err := w.d.g.begin(context.Background())
	if err != nil {
		return // closing
	}
	w.running = true
	ctx, stop := context.WithCancel(ctx)
	idle := time.AfterFunc(watchIdle, func() { w.rest(stop) })
	w.idle = idle
	go func() {
		defer done()
		defer stop()
		w.run(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		idle.Stop()
		if w.idle == idle {
			w.running = false
		}
	}()
	go func() { // Close does not wait for it
		select {
		case <-w.d.g.closing:
			stop()
		case <-ctx.Done():
		}
	}()
}

func (w *watch) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
	if w.running {
		w.idle.Reset(watchIdle)
	}
}

// rest ends the subscription, unless somebody waits.
func (w *watch) rest(stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting > 0 {
		w.idle.Reset(watchIdle)
		return
	}
	w.running = false
	stop()
}

// run subscribes until ctx ends, again and again.
func (w *watch) run(ctx context.Context) {
	g := w.d.g
	for pause := minDrop; ctx.Err() == nil; pause = min(2*pause, maxDrop) {
		n, err := g.acquire(ctx)
		if err == nil {
			err = w.follow(ctx, n, func() { pause = minDrop })
			if ctx.Err() == nil {
				g.judge(ctx, n, err)
			}
			g.release(n)
		}
		if ctx.Err() == nil {
			g.log.DebugContext(ctx, "kurrentstore: the subscription ended", "err", err, "again", pause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// follow is one subscription to one node.
func (w *watch) follow(ctx context.Context, n *node, ok func()) error {
	sub, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // who is no leader any more may be behind
		select {
		case <-n.gone:
			cancel()
		case <-sub.Done():
		}
	}()
	defer w.confirm(false)
	return w.d.g.subscribe(leaderOnly(sub), n, func() {
		ok()
		// What was appended before it began. Until that is known it tells of nothing else.
		w.d.findHead(sub)
		w.confirm(true)
	}, func(e *recorded) {
		if _, ok := visible(e); ok {
			w.tell(e.GetCommitPosition())
		}
		w.give(e)
	})
}

// confirm notes that there is a subscription, or that it has ended.
func (w *watch) confirm(live bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live = live
	if live {
		w.made++
	}
}
