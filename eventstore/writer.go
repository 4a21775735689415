package eventstore

import (
	"context"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// A writer commits appends in groups. While a commit runs, appends queue; the
// next commit takes as many as fit.
//
// There is no goroutine of its own: the first append that finds a free slot
// leads, commits a batch for everyone in it, and hands the lead to the first
// append that is still waiting. So a lone append costs no hand-off, and none
// serves others for more than one batch.
type writer struct {
	s     *Store
	d     driver.Batcher
	space chan struct{} // bounds the queue

	requests, groups sync.Pool

	mu      sync.Mutex
	queue   []*request
	leads   int             // batches under way, or about to be
	streams map[string]bool // streams in a batch under way, where several may be
	refused bool            // no more appends
	idle    chan struct{}   // closed when refused and nothing is left
}

// queueLength is how many appends may wait; more block their callers.
const queueLength = 8192

// A group is what one commit takes.
type group struct {
	requests []*request
	appends  []driver.Append
	lone     [1]driver.Result // of a group of one
}

// A request is an append on its way through the queue.
type request struct {
	prepared
	ctx    context.Context
	state  requestState
	since  time.Time // zero unless commits are traced
	res    driver.Result
	signal chan struct{} // receives once a lead is handed over, and once when done
}

type requestState uint8

const (
	waiting requestState = iota
	leading              // it was told to lead, and still stands in the queue
	taken                // in a batch under way
	done
)

func newWriter(s *Store, d driver.Batcher) *writer {
	w := &writer{s: s, d: d, space: make(chan struct{}, queueLength), streams: map[string]bool{}, idle: make(chan struct{})}
	w.requests.New = func() any { return &request{signal: make(chan struct{}, 2)} }
	w.groups.New = func() any { return &group{} }
	return w
}

func (w *writer) append(ctx context.Context, a prepared) driver.Result {
	select {
	case w.space <- struct{}{}:
	default:
		select {
		case w.space <- struct{}{}:
		case <-ctx.Done():
			return driver.Result{Err: ctx.Err()}
		}
	}
	r := w.requests.Get().(*request)
	r.prepared, r.ctx, r.state = a, ctx, waiting
	if w.s.opt.Trace.CommitStart != nil {
		r.since = time.Now()
	}
	w.mu.Lock()
	if w.refused {
		w.mu.Unlock()
		<-w.space
		return driver.Result{Err: ErrClosed}
	}
	w.queue = append(w.queue, r)
	if w.leads < w.s.limits.Writers && !w.streams[r.Stream] {
		w.leads++
		w.lead(r) // unlocks
	} else {
		w.mu.Unlock()
	}
	return w.wait(r)
}

// wait returns r's result, leading a batch if r is told to.
func (w *writer) wait(r *request) driver.Result {
	for {
		select {
		case <-r.signal:
			w.mu.Lock()
			switch r.state {
			case done:
				w.mu.Unlock()
				res := r.res
				r.prepared, r.ctx, r.res = prepared{}, nil, driver.Result{}
				w.requests.Put(r) // nobody else has it, and its signals are received
				return res
			case leading:
				w.lead(r) // unlocks
			default:
				w.mu.Unlock()
			}
		case <-r.ctx.Done():
			return w.leave(r, r.ctx.Err(), unknown(r.ctx))
		case <-w.s.gone:
			return w.leave(r, ErrClosed, errGone)
		}
	}
}

// leave withdraws r with the error early, or, if it is too late for that, leaves
// it to the commit with the error late.
func (w *writer) leave(r *request, early, late error) driver.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch r.state {
	case done:
		return r.res
	case taken:
		return driver.Result{Err: late}
	}
	w.remove(r)
	if r.state == leading {
		w.promote()
	}
	r.state = done
	<-w.space
	w.rest()
	return driver.Result{Err: early}
}

func (w *writer) remove(r *request) {
	for i, q := range w.queue {
		if q == r {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			return
		}
	}
}

// lead takes a batch and commits it. It is called with the lock held and
// releases it. The commit runs on the leader's goroutine unless its context may
// end, since then the leader must be able to leave.
func (w *writer) lead(r *request) {
	r.state = waiting
	g := w.groups.Get().(*group)
	w.take(g)
	if len(g.requests) == 0 { // everybody left, or waits for a stream in another batch
		w.promote()
		w.mu.Unlock()
		return
	}
	w.mu.Unlock()
	if r.ctx.Done() == nil {
		w.commit(g)
	} else {
		go w.commit(g)
	}
}

// take removes from the queue, in order, what fits one batch. No stream may be in
// two batches at once; appends to one that is stay, and so do later ones to it.
func (w *writer) take(g *group) {
	var (
		events int
		bytes  int
		limits = &w.s.limits
		rest   = w.queue[:0]
		full   bool
		busy   map[string]bool // streams with an append that stays
	)
	for i, r := range w.queue {
		if full {
			rest = append(rest, w.queue[i:]...)
			break
		}
		// One that was told to lead must be there to do so.
		if limits.Writers > 1 && (w.streams[r.Stream] || busy[r.Stream] || r.state == leading) {
			if busy == nil {
				busy = map[string]bool{}
			}
			busy[r.Stream] = true
			rest = append(rest, r)
			continue
		}
		if len(g.requests) > 0 && (events+len(r.Events) > limits.BatchEvents || bytes+r.bytes > limits.BatchBytes) {
			full = true
			rest = append(rest, r)
			continue
		}
		events += len(r.Events)
		bytes += r.bytes
		r.state = taken
		g.requests = append(g.requests, r)
	}
	clear(w.queue[len(rest):])
	w.queue = rest
	if limits.Writers > 1 {
		for _, r := range g.requests {
			w.streams[r.Stream] = true
		}
	}
}

// promote gives a lead that has become free to the first append that can use
// it. It is called with the lock held.
func (w *writer) promote() {
	for _, r := range w.queue {
		if r.state == waiting && !w.streams[r.Stream] {
			r.state = leading
			r.signal <- struct{}{}
			return
		}
	}
	w.leads--
	w.rest()
}

// rest closes idle once nothing is left to do.
func (w *writer) rest() {
	if w.refused && w.leads == 0 && len(w.queue) == 0 {
		select {
		case <-w.idle:
		default:
			close(w.idle)
		}
	}
}

func (w *writer) commit(g *group) {
	events, bytes := 0, 0
	for _, r := range g.requests {
		g.appends = append(g.appends, r.Append)
		events += len(r.Events)
		bytes += r.bytes
	}
	results := w.commitTraced(g, events, bytes)
	for i, r := range g.requests {
		r.res = results[i]
		w.s.appended(&r.prepared, &r.res)
	}
	w.mu.Lock()
	for _, r := range g.requests {
		if w.s.limits.Writers > 1 {
			delete(w.streams, r.Stream)
		}
		r.state = done
		r.signal <- struct{}{}
		<-w.space
	}
	w.promote()
	// Appends that waited for one of these streams may use slots that are free.
	for w.leads < w.s.limits.Writers && len(w.queue) > 0 {
		before := w.leads
		w.leads++
		if w.promote(); w.leads == before {
			break
		}
	}
	w.mu.Unlock()
	clear(g.requests)
	clear(g.appends)
	g.requests, g.appends, g.lone[0] = g.requests[:0], g.appends[:0], driver.Result{}
	w.groups.Put(g)
}

func (w *writer) commitTraced(g *group, events, bytes int) []driver.Result {
	first := g.requests[0]
	ctx := first.ctx
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	t := w.s.opt.Trace
	if t.CommitStart == nil {
		return w.commitGroup(ctx, g)
	}
	start := time.Now()
	ctx = t.CommitStart(ctx, CommitInfo{len(g.appends), events, bytes, start.Sub(first.since)})
	results := w.commitGroup(ctx, g)
	if t.CommitEnd != nil {
		var err error
		for i := range results {
			if results[i].Err != nil {
				err = results[i].Err
			}
		}
		t.CommitEnd(ctx, time.Since(start), err)
	}
	return results
}

func (w *writer) commitGroup(ctx context.Context, g *group) []driver.Result {
	if fn := w.s.takingPart(); fn != nil {
		return w.s.d.(driver.Inliner).AppendWith(ctx, g.appends, fn)
	}
	if len(g.appends) == 1 {
		g.lone[0] = w.s.d.Append(ctx, g.appends[0]) // which spares an allocation
		return g.lone[:]
	}
	return w.d.AppendBatch(ctx, g.appends)
}

// drain refuses new appends and returns when those accepted are done.
func (w *writer) drain() {
	w.mu.Lock()
	w.refused = true
	w.rest()
	w.mu.Unlock()
	<-w.idle
}
