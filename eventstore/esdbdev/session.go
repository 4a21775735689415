package esdbdev

import (
	"cmp"
	"context"
	"encoding/json"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/levada-go/levada/eventstore"
)

// A session is a group at work, while it has consumers:
//
//	store ──► buffer ──┐                       ┌──► consumer ── ack ──► settled ──► checkpoint
//	                   ├──► strategy picks ────┼──► consumer ── nack, time-out ──┐
//	parked ──► again ──┘                       └──► …                            │
//	             ▲                                                               │
//	             └───────────────────────────────────────────────────────────────┴──► parked
type session struct {
	g      *group
	ctx    context.Context // done when the session is over, or was dropped
	cancel context.CancelFunc
	work   sync.WaitGroup

	saving sync.Mutex // held while a checkpoint is written

	mu        sync.Mutex
	closed    bool
	failed    error // why it goes on no more, though it is not closed
	consumers []*consumer
	turn      int        // of RoundRobin and DispatchToSingle
	buffer    []*message // in the order of the source
	again     []*message // goes first
	window    []*message // those of the source that are not settled, or behind one that is not
	replays   []*message // the same of the parked stream
	settled   cursor     // everything up to here is done
	saved     cursor     // the last checkpoint
	since     int        // messages settled since then
	savedAt   time.Time
	reached   eventstore.Version // of the parked stream, up to which it was replayed
	emptied   eventstore.Version // of the parked stream, up to which that is done
	total     int64

	room chan struct{} // has one slot: the buffer may be filled
	due  chan struct{} // has one slot: a checkpoint may be saved
}

// A message is an event on its way to a consumer.
type message struct {
	*resolved
	at       cursor             // in the source; 0 for one that was parked
	parkedAt eventstore.Version // in the parked stream; 0 for others
	retries  int
	attempt  int       // counts deliveries and their ends, to know late ones
	consumer *consumer // who has it
	timer    *time.Timer
	done     bool
}

func newSession(g *group, saved cursor) (*session, error) {
	f, err := g.config.Filter.compile()
	if err != nil {
		return nil, err
	}
	begin := saved
	if begin == 0 {
		begin = cursor(g.config.From.After)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ses := &session{g: g, cancel: cancel, settled: saved, saved: saved, savedAt: time.Now(),
		room: make(chan struct{}, 1), due: make(chan struct{}, 1)}
	var watched []eventstore.StreamName
	name := ""
	if !g.all() {
		name = g.key.stream
		watched = g.s.watched(name)
	}
	w, ctx, err := g.s.hub.watch(ctx, watched...)
	if err != nil {
		cancel()
		return nil, storeError(name, err)
	}
	ses.ctx = ctx
	source := &subscription{reading: &reading{s: g.s, name: name}, cursor: begin}
	ses.work.Go(func() {
		defer w.close()
		ses.feed(ctx, w, source, f)
	})
	ses.work.Go(func() { ses.keep(ctx) })
	return ses, nil
}

// close ends the session, its consumers with err, and saves how far it is.
func (ses *session) close(err error) {
	ses.mu.Lock()
	ses.closed = true
	for _, c := range ses.consumers {
		c.cancel(err)
	}
	for _, m := range ses.window {
		m.stop()
	}
	for _, m := range ses.replays {
		m.stop()
	}
	ses.mu.Unlock()
	ses.cancel()
	ses.work.Wait()
	ses.save(context.Background())
}

// add adds a consumer, unless there are as many as may be.
func (ses *session) add(c *consumer) bool {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if n := int(ses.g.config.MaxConsumers); n > 0 && len(ses.consumers) >= n {
		return false
	}
	ses.consumers = append(ses.consumers, c)
	ses.dispatch()
	return true
}

// over returns why the session goes on no more.
func (ses *session) over() error {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if ses.failed == nil && ses.ctx.Err() != nil {
		return storeError(ses.g.key.stream, context.Cause(ses.ctx))
	}
	return ses.failed
}

// remove takes a consumer out; what it had goes to others, before anything else and
// in order.
func (ses *session) remove(c *consumer) (left int) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	i := slices.Index(ses.consumers, c)
	if i < 0 {
		return len(ses.consumers)
	}
	ses.consumers = slices.Delete(ses.consumers, i, i+1)
	if ses.closed {
		return len(ses.consumers)
	}
	var back []*message
	for _, list := range c.has {
		for _, m := range list {
			m.release()
			back = append(back, m)
		}
	}
	clear(c.has)
	slices.SortFunc(back, byOrder)
	ses.again = append(back, ses.again...)
	ses.dispatch()
	return len(ses.consumers)
}

// byOrder puts what was parked first, which is older.
func byOrder(a, b *message) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.parkedAt, b.parkedAt))
}

// release ends a delivery.
func (m *message) release() {
	m.stop()
	m.attempt++
	m.consumer = nil
}

func (m *message) stop() {
	if m.timer != nil {
		m.timer.Stop()
	}
}

// feed fills the buffer.
func (ses *session) feed(ctx context.Context, w *watcher, source *subscription, f *filter) {
	size := max(int(ses.g.config.HistoryBuffer), 1)
	for ctx.Err() == nil {
		ses.mu.Lock()
		space := size - len(ses.buffer)
		ses.mu.Unlock()
		more, err := false, error(nil)
		if space > 0 {
			more, err = ses.fill(ctx, source, f, space)
		}
		if err != nil && ctx.Err() == nil {
			// The source has gone, or the store cannot be read.
			ses.drop(storeError(ses.g.key.stream, err))
			return
		}
		if more {
			continue
		}
		wake := w.wake
		if space <= 0 {
			wake = nil
		}
		select {
		case <-wake:
		case <-ses.room:
		case <-ctx.Done():
		}
	}
	if cause := context.Cause(ctx); cause != context.Canceled {
		ses.drop(cause)
	}
}

// drop ends all consumers, and with the last, or the next that comes, the session.
func (ses *session) drop(err error) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.failed = err
	for _, c := range ses.consumers {
		c.cancel(err)
	}
}

// fill reads up to space messages. more says that there may be others.
func (ses *session) fill(ctx context.Context, source *subscription, f *filter, space int) (more bool, err error) {
	for rec, err := range source.next(ctx) {
		if err != nil {
			return false, err
		}
		if ses.g.own(rec) || !f.match(rec) {
			continue
		}
		res, err := ses.g.s.resolve(ctx, rec, ses.g.config.ResolveLinks)
		if err != nil {
			return false, err
		}
		m := &message{resolved: res, at: source.cursor}
		ses.mu.Lock()
		ses.buffer = append(ses.buffer, m)
		ses.window = append(ses.window, m)
		ses.dispatch()
		ses.mu.Unlock()
		if space--; space == 0 {
			return true, nil
		}
	}
	return false, nil
}

// dispatch gives out what it can. It is called with the lock held.
func (ses *session) dispatch() {
	if ses.closed {
		return
	}
	before := len(ses.buffer)
	ses.again = ses.deliver(ses.again)
	if len(ses.again) == 0 || ses.byKey() {
		ses.buffer = ses.deliver(ses.buffer)
	}
	if len(ses.buffer) < before {
		signal(ses.room)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// byKey reports whether the strategy wants a certain consumer for each message.
func (ses *session) byKey() bool {
	return ses.g.config.Strategy == pinned || ses.g.config.Strategy == pinnedByCorrelation
}

// deliver gives out messages in order and returns those that nobody can take. A
// message whose consumer is busy does not hold up those of others.
func (ses *session) deliver(list []*message) []*message {
	rest := list[:0]
	for i, m := range list {
		c := ses.pick(m)
		if c == nil {
			if !ses.byKey() {
				rest = append(rest, list[i:]...)
				break
			}
			rest = append(rest, m)
			continue
		}
		m.consumer = c
		m.attempt++
		ses.total++
		c.give(m)
		if ms := ses.g.config.Timeout; ms > 0 {
			attempt := m.attempt
			m.timer = time.AfterFunc(time.Duration(ms)*time.Millisecond, func() { ses.timeout(m, attempt) })
		}
	}
	clear(list[len(rest):])
	return rest
}

// pick returns the consumer for a message, nil if it, or everybody, is busy.
func (ses *session) pick(m *message) *consumer {
	n := len(ses.consumers)
	switch {
	case n == 0:
		return nil
	case ses.byKey():
		c := ses.pin(m)
		if c.free() == 0 {
			return nil
		}
		return c
	}
	single := ses.g.config.Strategy == dispatchToSingle
	for i := range n {
		k := (ses.turn + i) % n
		if c := ses.consumers[k]; c.free() > 0 {
			if ses.turn = k; !single {
				ses.turn = k + 1
			}
			return c
		}
	}
	return nil
}

// pin returns the consumer that a message's stream, or correlation, belongs to, by
// rendezvous hashing (Thaler and Ravishankar, 1998): when a consumer comes or goes,
// only what it has or had moves.
func (ses *session) pin(m *message) *consumer {
	key := pinKey(m, ses.g.config.Strategy == pinnedByCorrelation)
	var best *consumer
	var most uint64
	for _, c := range ses.consumers {
		h := fnv.New64a()
		h.Write([]byte(c.id))
		h.Write([]byte(key))
		if sum := mix(h.Sum64()); best == nil || sum > most {
			best, most = c, sum
		}
	}
	return best
}

func pinKey(m *message, byCorrelation bool) string {
	r := m.event
	if r == nil {
		r = m.link
	}
	if byCorrelation {
		var meta map[string]json.RawMessage
		if json.Unmarshal(r.custom, &meta) == nil && meta[correlationKey] != nil {
			return string(meta[correlationKey])
		}
	}
	return r.stream
}

// acknowledge settles what a consumer has done with.
func (ses *session) acknowledge(c *consumer, ids []id) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	for _, id := range ids {
		if m := c.take(id); m != nil {
			m.release()
			ses.settle(m)
		}
	}
	ses.dispatch()
}

// settle marks a message as done. It is called with the lock held.
func (ses *session) settle(m *message) {
	m.done = true
	if m.parkedAt > 0 {
		for len(ses.replays) > 0 && ses.replays[0].done {
			ses.emptied = ses.replays[0].parkedAt
			ses.replays = ses.replays[1:]
		}
		signal(ses.due)
		return
	}
	for len(ses.window) > 0 && ses.window[0].done {
		ses.settled = ses.window[0].at
		ses.window = ses.window[1:]
		ses.since++
	}
	c := &ses.g.config
	after := time.Duration(c.CheckpointMs) * time.Millisecond
	if ses.since >= max(int(c.MaxCheckpoint), 1) || ses.since >= max(int(c.MinCheckpoint), 1) && time.Since(ses.savedAt) >= after {
		signal(ses.due)
	}
}

// refuse deals with what a consumer could not do.
func (ses *session) refuse(ctx context.Context, c *consumer, ids []id, action persistent.ReadReq_Nack_Action, reason string) {
	for _, id := range ids {
		ses.mu.Lock()
		m := c.take(id)
		if m == nil {
			ses.mu.Unlock()
			continue
		}
		m.release()
		switch action {
		case persistent.ReadReq_Nack_Skip:
			ses.settle(m)
			ses.dispatch()
			ses.mu.Unlock()
		case persistent.ReadReq_Nack_Park:
			ses.mu.Unlock()
			ses.park(ctx, m, reason)
		case persistent.ReadReq_Nack_Stop:
			// The consumer wants no more; the message is for another.
			ses.again = append([]*message{m}, ses.again...)
			ses.mu.Unlock()
			c.cancel(dropped(ses.g.key))
			return
		default: // to retry, or the server decides
			ses.retry(ctx, m, reason) // unlocks
		}
	}
}

// retry gives a message out again, or parks it if that was done often enough. It is
// called with the lock held and releases it.
func (ses *session) retry(ctx context.Context, m *message, reason string) {
	if m.retries >= int(ses.g.config.MaxRetries) {
		ses.mu.Unlock()
		ses.park(ctx, m, reason)
		return
	}
	m.retries++
	ses.again = append(ses.again, m)
	ses.dispatch()
	ses.mu.Unlock()
}

// timeout takes a message back from a consumer that has had it for too long.
func (ses *session) timeout(m *message, attempt int) {
	ses.mu.Lock()
	if ses.closed || m.attempt != attempt || m.consumer == nil {
		ses.mu.Unlock()
		return
	}
	m.consumer.forget(m)
	m.release()
	ses.work.Add(1) // close waits for what it writes
	defer ses.work.Done()
	ses.retry(context.Background(), m, "message timed out") // unlocks
}

// park moves a message to the parked stream.
func (ses *session) park(ctx context.Context, m *message, reason string) {
	err := ses.g.park(ctx, m.original(), reason)
	ses.mu.Lock()
	defer ses.mu.Unlock()
	if err != nil {
		ses.g.s.opt.Logger.Warn("esdbdev: a message cannot be parked, so it is retried", "group", ses.g.key.String(), "err", err)
		ses.again = append(ses.again, m)
	} else {
		ses.settle(m)
	}
	ses.dispatch()
}

// defaultCheckpoint is the time between checkpoints where a client sets none.
const defaultCheckpoint = 2 * time.Second

// keep saves checkpoints when they are due.
func (ses *session) keep(ctx context.Context) {
	every := time.Duration(ses.g.config.CheckpointMs) * time.Millisecond
	if every == 0 {
		every = defaultCheckpoint
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ses.due:
		case <-tick.C:
		}
		ses.save(ctx)
	}
}

// save saves a checkpoint, and empties the parked stream of what was replayed, if
// there is something new.
func (ses *session) save(ctx context.Context) {
	ses.saving.Lock()
	defer ses.saving.Unlock()
	ses.mu.Lock()
	settled, saved, since, emptied := ses.settled, ses.saved, ses.since, ses.emptied
	ses.mu.Unlock()
	if emptied > 0 {
		if err := ses.g.emptyParked(ctx, emptied); err != nil {
			ses.g.s.opt.Logger.Warn("esdbdev: replayed messages remain parked", "group", ses.g.key.String(), "err", err)
		} else {
			ses.mu.Lock()
			if ses.emptied == emptied {
				ses.emptied = 0
			}
			ses.mu.Unlock()
		}
	}
	if settled == saved {
		return
	}
	if err := ses.g.saveCheckpoint(ctx, settled); err != nil {
		ses.g.s.opt.Logger.Warn("esdbdev: a checkpoint was not saved", "group", ses.g.key.String(), "err", err)
		return
	}
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.saved, ses.since, ses.savedAt = settled, ses.since-since, time.Now()
}

// describe fills in what only a session knows, and returns up to which version of the
// parked stream it has replayed.
func (ses *session) describe(info *persistent.SubscriptionInfo) eventstore.Version {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	info.LastCheckpointedEventPosition = ses.g.cursorText(ses.saved)
	info.TotalItems = ses.total
	info.ReadBufferCount = int32(len(ses.buffer))
	info.RetryBufferCount = int32(len(ses.again))
	for _, c := range ses.consumers {
		n := c.busy()
		info.TotalInFlightMessages += int32(n)
		info.Connections = append(info.Connections, &persistent.SubscriptionInfo_ConnectionInfo{
			From: c.from, Username: c.user, ConnectionName: c.name, TotalItems: c.total,
			AvailableSlots: int32(c.free()), InFlightMessages: int32(n),
		})
	}
	info.OutstandingMessagesCount = info.TotalInFlightMessages
	return ses.reached
}
