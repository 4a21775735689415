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
//	subscription ──┐
//	own appends ───┼──► known ──► changed
//	reads ─────────┘
type watch struct {
	d *store

	mu      sync.Mutex
	known   uint64        // an event was seen at this position
	changed chan struct{} // closed when known rises
	waiting int
	running bool
	idle    *time.Timer // ends the subscription
	made    int         // subscriptions, for tests
}

const (
	watchIdle = 30 * time.Second
	minDrop   = 20 * time.Millisecond // before a subscription is made again
	maxDrop   = 5 * time.Second
)

func (w *watch) init(d *store) { w.d, w.changed = d, make(chan struct{}) }

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
	return w.d.g.subscribe(leaderOnly(sub), n, func() {
		ok()
		w.mu.Lock()
		w.made++
		w.mu.Unlock()
		// What was appended before it began.
		w.d.findHead(sub)
	}, func(e *recorded) {
		if _, ok := visible(e); ok {
			w.tell(e.GetCommitPosition())
		}
	})
}
