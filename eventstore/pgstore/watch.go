package pgstore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/levada-go/levada/eventstore/driver"
)

// A watcher tells those who wait that the head has moved. It looks for itself, at
// intervals that grow while nothing happens, and earlier when it is told to: by an
// append of this process, or by a notification of another. So a notification that
// is lost, or a connection, costs an interval and never an event.
//
// NOTIFY in the transaction of an append would let commits go one by one through
// the lock of PostgreSQL's queue. It is sent after the commit instead, on another
// connection, for all appends since the last one together.
type watcher struct {
	s       *store
	channel string
	ctx     context.Context // ends with the store
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	head      uint64
	horizon   uint64        // nothing is in flight at or below it
	grown     chan struct{} // closed when the head moves
	waiters   int
	looking   bool          // a goroutine looks
	listening bool          // a goroutine listens
	hears     bool          // notifications arrive
	sending   bool          // a goroutine notifies
	unsent    bool          // there were appends since
	quick     bool          // something is about to happen: begin with short intervals
	poke      chan struct{} // look now
}

const (
	minPoll = 5 * time.Millisecond
	maxPoll = 250 * time.Millisecond
	// lookTimeout is how long a look may take.
	lookTimeout = 5 * time.Second
	// notifyEvery is the least time between two notifications of a process.
	notifyEvery = 5 * time.Millisecond
	// probeTimeout is how long the notification may take by which a connection is
	// found to keep what was said to it.
	probeTimeout = 2 * time.Second
	// retryDeaf is how long a store does without notifications before it tries again.
	retryDeaf  = 5 * time.Minute
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

func (w *watcher) start(s *store) {
	w.s = s
	h := fnv.New64a()
	h.Write([]byte(s.opt.Schema)) // a channel's name is as short as any
	w.channel = fmt.Sprintf("levada_%016x", h.Sum64())
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.grown, w.poke = make(chan struct{}), make(chan struct{}, 1)
}

func (w *watcher) stop() {
	w.mu.Lock()
	w.cancel() // under the lock, so that nothing is started any more
	w.mu.Unlock()
	w.running.Wait()
}

// begin starts a goroutine unless the store is closed. It is called with the lock held.
func (w *watcher) begin(fn func()) bool {
	if w.ctx.Err() != nil {
		return false
	}
	w.running.Go(fn)
	return true
}

// Wait implements [driver.Store].
func (s *store) Wait(ctx context.Context, after uint64) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.exit()
	return s.watch.wait(ctx, after)
}

func (w *watcher) wait(ctx context.Context, after uint64) error {
	w.mu.Lock()
	w.waiters++
	if !w.looking {
		w.looking = w.begin(w.look)
	}
	if !w.listening && !w.s.opt.NoListen {
		w.listening = w.begin(w.listen)
	}
	grown := w.grown
	head := w.head
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.waiters--
		w.mu.Unlock()
	}()
	if head > after {
		// What was there may have been removed since.
		if now, err := w.s.head(ctx); err == nil {
			w.fell(now)
			head = now
		}
	}
	if head <= after {
		w.wake(false)
	}
	for head <= after {
		select {
		case <-grown:
		case <-ctx.Done():
			return ctx.Err()
		case <-w.s.done:
			return driver.ErrClosed
		}
		w.mu.Lock()
		grown, head = w.grown, w.head
		w.mu.Unlock()
	}
	return nil
}

// wake lets the watcher look at once, and often for a while if that is where an
// event is known to be on its way.
func (w *watcher) wake(quick bool) {
	if quick {
		w.mu.Lock()
		w.quick = true
		w.mu.Unlock()
	}
	select {
	case w.poke <- struct{}{}:
	default:
	}
}

// look follows the head for as long as somebody waits.
func (w *watcher) look() {
	interval := minPoll
	var seen uint64
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.mu.Lock()
		if w.waiters == 0 || w.ctx.Err() != nil {
			w.looking = false
			w.mu.Unlock()
			return
		}
		if w.quick {
			interval, w.quick = minPoll, false
		}
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.ctx, lookTimeout)
		head, err := w.s.head(ctx)
		cancel()
		// Who waits will read, and be told of an error then.
		if err == nil {
			w.fell(head)
		}
		if head > seen {
			interval = minPoll
		}
		seen = max(seen, head)
		timer.Reset(interval)
		select {
		case <-w.poke:
		case <-timer.C:
			interval = min(2*interval, maxPoll)
		case <-w.ctx.Done():
		}
	}
}

// known returns the greatest head that was seen, 0 if it may not be there any more.
func (w *watcher) known() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head
}

// forget is told that a connection broke: what answers next may be another server,
// which has lost the end of the log.
func (w *watcher) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head, w.horizon = 0, 0
}

// settled returns the greatest horizon that was seen.
func (w *watcher) settled() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.horizon
}

// readHead decodes the horizon and the head, tells who waits, and returns the head.
func (w *watcher) readHead(row [][]byte) uint64 {
	horizon, head := uint64(readInt(row[0])), uint64(readInt(row[1]))
	w.mu.Lock()
	defer w.mu.Unlock()
	w.horizon = max(w.horizon, horizon)
	if head > w.head {
		w.head = head
		close(w.grown)
		w.grown = make(chan struct{})
	}
	return head
}

// fell is told where the head is. It is below where it was if the last events were
// removed, and who waits for others would not wait at all.
func (w *watcher) fell(head uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = min(w.head, head)
}

// appended is told of every append of this process that was committed.
func (w *watcher) appended() {
	w.mu.Lock()
	waiting := w.waiters > 0
	if !w.s.opt.NoListen {
		w.unsent = true
		if !w.sending {
			w.sending = w.begin(w.notify)
		}
	}
	w.mu.Unlock()
	if waiting {
		w.wake(true)
	}
}

// notify tells other processes of appends, until there are no more.
func (w *watcher) notify() {
	st := newStatement("SELECT pg_notify($1, '')::text").text(w.channel)
	timer := time.NewTimer(notifyEvery)
	defer timer.Stop()
	for {
		w.mu.Lock()
		if !w.unsent || w.ctx.Err() != nil {
			w.sending = false
			w.mu.Unlock()
			return
		}
		w.unsent = false
		w.mu.Unlock()
		ctx, cancel := context.WithTimeout(w.ctx, lookTimeout)
		_ = w.s.run(ctx, st, nil) // others find out by themselves
		cancel()
		timer.Reset(notifyEvery)
		select {
		case <-timer.C:
		case <-w.ctx.Done():
		}
	}
}

// errDeaf reports a connection on which no notifications arrive.
var errDeaf = errors.New("pgstore: notifications do not arrive; appends of other processes are found by looking for them")

// listen keeps a connection that notifications of others arrive on.
func (w *watcher) listen() {
	backoff := minBackoff
	for {
		err := w.hear()
		if w.setHears(false) {
			backoff = minBackoff
		}
		w.wake(true) // for what was missed
		pause := backoff
		backoff = min(2*backoff, maxBackoff)
		if errors.Is(err, errDeaf) {
			w.s.log.Info(err.Error(), "retry", retryDeaf)
			pause = retryDeaf
		}
		select {
		case <-time.After(pause):
		case <-w.ctx.Done():
			return
		}
	}
}

func (w *watcher) setHears(hears bool) (did bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	did, w.hears = w.hears, hears
	return did
}

// hear listens until the connection breaks.
func (w *watcher) hear() error {
	config := w.s.pool.Config()
	conn := config.ConnConfig
	heard := make(chan struct{}, 1)
	conn.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {
		select {
		case heard <- struct{}{}:
		default:
		}
	}
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(w.ctx, conn); err != nil {
			return err
		}
	}
	c, err := pgx.ConnectConfig(w.ctx, conn)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		defer cancel()
		_ = c.Close(ctx)
	}()
	if config.AfterConnect != nil {
		if err := config.AfterConnect(w.ctx, c); err != nil {
			return err
		}
	}
	if _, err := c.PgConn().Exec(w.ctx, "LISTEN "+w.channel).ReadAll(); err != nil {
		if sqlState(err) == stateReadOnly {
			return errDeaf // a hot standby
		}
		return err
	}
	// A pooler may have taken the server's side of the connection away again, and
	// with it what was just said. So somebody else calls.
	ctx, cancel := context.WithTimeout(w.ctx, probeTimeout)
	defer cancel()
	if err := w.s.run(ctx, newStatement("SELECT pg_notify($1, 'probe')::text").text(w.channel), nil); err != nil {
		return err
	}
	for {
		select {
		case <-heard:
			w.setHears(true)
			w.wake(true)
			ctx = w.ctx
		default:
		}
		if err := c.PgConn().WaitForNotification(ctx); err != nil {
			if w.ctx.Err() == nil && ctx.Err() != nil {
				return errDeaf
			}
			return err
		}
	}
}
