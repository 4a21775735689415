package esdbdev

import (
	"context"
	"sync"

	"github.com/levada-go/levada/eventstore"
)

// A hub tells subscriptions that there may be something new for them. It follows
// the store while there is one.
type hub struct {
	store *eventstore.Store

	mu       sync.Mutex
	watchers map[*watcher]struct{}
	stop     context.CancelFunc // of the goroutine that follows
	stopped  chan struct{}      // closed when it has ended
}

// A watcher is woken when something was appended to one of its streams.
type watcher struct {
	h       *hub
	streams []eventstore.StreamName // nil for all
	wake    chan struct{}           // has one slot
	cancel  context.CancelCauseFunc
}

// watch starts a watcher, and gives a context that ends when the watcher is dropped.
// It must be closed.
func (h *hub) watch(ctx context.Context, streams ...eventstore.StreamName) (*watcher, context.Context, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watcher{h: h, streams: streams, wake: make(chan struct{}, 1), cancel: cancel}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers == nil {
		h.watchers = map[*watcher]struct{}{}
	}
	if len(h.watchers) == 0 {
		head, err := h.store.Head(ctx)
		if err != nil {
			cancel(nil)
			return nil, nil, err
		}
		follow, stop := context.WithCancel(context.Background())
		h.stop, h.stopped = stop, make(chan struct{})
		go h.follow(follow, head, h.stopped)
	}
	h.watchers[w] = struct{}{}
	return w, ctx, nil
}

func (w *watcher) close() {
	w.cancel(nil)
	w.h.mu.Lock()
	delete(w.h.watchers, w)
	var stopped chan struct{}
	if len(w.h.watchers) == 0 && w.h.stop != nil {
		w.h.stop()
		w.h.stop, stopped = nil, w.h.stopped
	}
	w.h.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
}

func (h *hub) follow(ctx context.Context, after eventstore.Position, done chan struct{}) {
	defer close(done)
	for b, err := range h.store.Follow(ctx, eventstore.Filter{System: true}, after) {
		if err != nil {
			if ctx.Err() == nil {
				h.drop(storeError("", err)) // the store is closed
			}
			return
		}
		h.appended(b, after)
		after = b.Position
	}
}

// appended wakes those who watch the streams of a batch, or all of them, if there is
// something in it that cannot be seen: events may be upcast into nothing.
func (h *hub) appended(b eventstore.Batch[*eventstore.Recorded], before eventstore.Position) {
	touched := make(map[eventstore.StreamName]struct{}, len(b.Events))
	positions, last := 0, before
	for _, r := range b.Events {
		touched[r.Stream] = struct{}{}
		if r.Position != last {
			positions, last = positions+1, r.Position
		}
	}
	all := uint64(b.Position-before) > uint64(positions)
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		if all || w.wants(touched) {
			w.poke()
		}
	}
}

func (w *watcher) wants(touched map[eventstore.StreamName]struct{}) bool {
	if w.streams == nil {
		return true
	}
	for _, s := range w.streams {
		if _, ok := touched[s]; ok {
			return true
		}
	}
	return false
}

func (w *watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.poke()
	}
}

// drop ends the contexts of all watchers with err.
func (h *hub) drop(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.cancel(err)
	}
}

// wait blocks until the watcher is woken or ctx, which watch gave, is done. It
// returns what the client is to be told.
func (w *watcher) wait(ctx context.Context) error {
	select {
	case <-w.wake:
		return nil
	case <-ctx.Done():
		return storeError("", context.Cause(ctx))
	}
}
