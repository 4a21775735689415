package schedule

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/sealing"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/projection"
)

const (
	// The lease of who fires lasts leaseTTL; it is renewed, and others look whether it is free, so often.
	leaseTTL   = 5 * time.Second
	leaseRenew = leaseTTL / 3
	leaseLook  = time.Second

	// One append takes up to maxBatch alarms, and up to maxDispatches commands are under way.
	maxBatch      = 256
	maxDispatches = 64

	// What cannot be dispatched for a reason that time may not cure is given up after maxAttempts.
	maxAttempts = 20
	firstPause  = 10 * time.Millisecond
	maxPause    = time.Minute

	// The stream is cut when it is longer than this, and than so many times what is pending.
	shortStream = 4096
	longStream  = 4
)

// A keeper is one run of Timers. Only its own goroutine uses its fields.
type keeper struct {
	t   *Timers
	g   *projection.Group
	s   *eventstore.Store
	log *slog.Logger
	id  string // of this keeper among all

	copies sealing.Copies

	loading bool
	gone    gone
	pending map[string]*alarm
	due     map[eventstore.Version]*alarm
	queue   queue
	void    []entry            // ends to be told again
	version eventstore.Version // of the stream, taken in
	low     eventstore.Version // up to here the stream is cut off

	leases driver.Leaser
	fence  uint64
	until  time.Time // the lease is certain until then
	look   time.Time // when to see to the lease again
	rest   time.Time // after a failure, nothing is tried before
	pause  time.Duration

	under int
	wg    sync.WaitGroup
	sent  chan outcome
}

// An outcome is what became of dispatching a command.
type outcome struct {
	a       *alarm
	err     error
	refused bool
	erased  bool // the command was
}

func newKeeper(t *Timers, g *projection.Group) *keeper {
	return &keeper{
		t: t, g: g, s: t.Store, log: t.Logger.With("timers", t.Name), id: eventstore.NewID().String(),
		pending: map[string]*alarm{}, due: map[eventstore.Version]*alarm{}, sent: make(chan outcome, maxDispatches),
	}
}

func (k *keeper) run(ctx context.Context) error {
	var err error
	if k.leases, err = k.s.Leases(); err != nil {
		return err
	}
	k.copies = sealing.Of(k.s)
	after, err := k.load(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	k.g.Moved(k.t.Name, after) // there may be nothing to follow
	defer k.leave(ctx)
	defer k.wg.Wait()

	fctx, cancel := context.WithCancel(ctx)
	batches := make(chan eventstore.Batch[*eventstore.Recorded])
	var ended error // of the follower; read when batches is closed
	go func() {
		defer close(batches)
		ended = k.follow(fctx, after, batches)
	}()
	defer func() {
		cancel()
		for range batches { // the follower has ended when it closes them
		}
	}()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return k.finish(ctx)
		case b, ok := <-batches:
			if !ok {
				if ctx.Err() != nil {
					return k.finish(ctx)
				}
				return ended
			}
			for _, r := range b.Events {
				k.fold(r)
			}
			k.g.Moved(k.t.Name, b.Position)
		case o := <-k.sent:
			k.landed(ctx, o)
		case <-timer.C:
		}
		if err := k.act(ctx); errors.Is(err, eventstore.ErrClosed) {
			return err
		}
		timer.Reset(time.Until(k.next()))
	}
}

// load takes in what the stream has, and returns the position after which it goes on.
func (k *keeper) load(ctx context.Context) (eventstore.Position, error) {
	start, err := k.start(ctx)
	if err != nil {
		return 0, err
	}
	k.low, k.version = start, start
	k.loading, k.gone = true, gone{map[string]bool{}, map[eventstore.Version]bool{}}
	var at eventstore.Position
	for r, err := range k.s.ReadStream(ctx, stream, start) {
		if err != nil {
			return 0, fmt.Errorf("schedule: %w", err)
		}
		if at == 0 {
			k.low = r.Version - 1
		}
		k.fold(r)
		at = r.Position
	}
	k.loading, k.gone = false, gone{}
	return at, nil
}

// start returns the version up to which the stream is of no interest.
func (k *keeper) start(ctx context.Context) (eventstore.Version, error) {
	d, err := k.s.Checkpoints()
	if err != nil {
		return 0, nil // there is no other mark than where the stream begins
	}
	c, _, err := d.LoadCheckpoint(ctx, string(stream))
	if err != nil {
		return 0, fmt.Errorf("schedule: %w", err)
	}
	return eventstore.Version(c.Position), nil
}

// follow hands on the stream's events, whatever happens to the store.
func (k *keeper) follow(ctx context.Context, after eventstore.Position, to chan<- eventstore.Batch[*eventstore.Recorded]) error {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		var last error
		for b, err := range k.s.Follow(ctx, eventstore.Filter{Streams: []eventstore.StreamName{stream}}, after) {
			if last = err; err != nil {
				break
			}
			after, pause = b.Position, firstPause
			select {
			case to <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if ctx.Err() != nil || errors.Is(last, eventstore.ErrClosed) {
			return last
		}
		k.log.Warn("schedule: the stream of timers cannot be followed", "err", last)
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
}

// next returns when there is something to do again.
func (k *keeper) next() time.Time {
	next := k.look
	if k.leads(time.Now()) {
		if len(k.queue) > 0 && k.queue[0].next.Before(next) && k.under < maxDispatches {
			next = k.queue[0].next
		}
	}
	if next.Before(k.rest) {
		next = k.rest
	}
	return next
}

// act does what is to be done now.
func (k *keeper) act(ctx context.Context) error {
	if time.Now().Before(k.rest) {
		return nil
	}
	err := k.lead(ctx)
	if err == nil && k.leads(time.Now()) {
		if err = k.fire(ctx); err == nil {
			err = k.shorten(ctx)
		}
	}
	if err == nil {
		if k.pause > 0 {
			k.pause = 0
			k.g.Failing(k.t.Name, nil)
		}
		return nil
	}
	if ctx.Err() == nil && !errors.Is(err, eventstore.ErrClosed) {
		k.pause = min(max(2*k.pause, firstPause), leaseRenew)
		k.rest = time.Now().Add(k.pause)
		k.g.Failing(k.t.Name, err)
		k.log.Warn("schedule: timers do not get on", "pause", k.pause, "err", err)
	}
	return err
}

// leads reports whether this keeper is the one that fires.
func (k *keeper) leads(now time.Time) bool { return now.Before(k.until) }

// lead sees to the lease.
func (k *keeper) lead(ctx context.Context) error {
	now := time.Now()
	if now.Before(k.look) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	fence, ok, err := k.leases.Acquire(ctx, string(stream), k.id, leaseTTL)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	if !ok {
		k.until, k.look = time.Time{}, now.Add(leaseLook)
		return nil
	}
	if !k.leads(now) && fence != k.fence {
		k.log.Debug("schedule: this node fires the timers", "fence", fence)
	}
	k.fence, k.until, k.look = fence, now.Add(leaseTTL), now.Add(leaseRenew)
	return nil
}

// leave gives up the lease.
func (k *keeper) leave(ctx context.Context) {
	if k.fence == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTTL)
	defer cancel()
	_ = k.leases.Release(ctx, string(stream), k.id, k.fence) // or else it ends
}

// finish waits for the commands under way and notes what became of them.
func (k *keeper) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTTL)
	defer cancel()
	for k.under > 0 {
		k.landed(ctx, <-k.sent)
	}
	return nil
}

// fire does what is due now.
func (k *keeper) fire(ctx context.Context) error {
	for len(k.queue) > 0 {
		now := time.Now()
		var events, commands []*alarm
		for len(k.queue) > 0 && !k.queue[0].next.After(now) && len(events)+len(commands) < maxBatch {
			a := k.queue[0]
			if a.due {
				if k.under == maxDispatches {
					break
				}
				k.queue.pop()
				k.dispatch(ctx, a)
				continue
			}
			k.queue.pop()
			if a.Command != "" {
				commands = append(commands, a)
			} else {
				events = append(events, a)
			}
		}
		if len(events)+len(commands) == 0 {
			return nil
		}
		if err := k.announce(ctx, events, commands); err != nil {
			for _, a := range append(events, commands...) {
				k.again(a, a.At)
			}
			return err
		}
	}
	return nil
}

// announce appends the events that are due, each where it belongs, and says so.
func (k *keeper) announce(ctx context.Context, events, commands []*alarm) error {
	by := map[eventstore.StreamName][]eventstore.Event{}
	var notes []eventstore.Event
	note := func(a *alarm, typ string) error {
		e, err := (&entry{Key: a.Key, Of: a.version}).event(typ)
		notes = append(notes, e)
		return err
	}
	for _, a := range events {
		by[a.Stream] = append(by[a.Stream], eventstore.Event{
			Type: a.Type, Raw: a.Data, ContentType: contentType,
			Correlation: a.setBy.Correlation, Causation: a.setBy.ID, Metadata: a.setBy.Metadata,
		})
		if err := note(a, typeDone); err != nil {
			return err
		}
	}
	for _, a := range commands {
		if err := note(a, typeDue); err != nil {
			return err
		}
	}
	ctx = system.Context(ctx)
	for name, list := range by {
		if _, err := k.s.Append(ctx, name, eventstore.Any, list...); refused(err) {
			k.log.Error("schedule: events that are due cannot be stored, and are given up", "stream", name, "events", len(list), "err", err)
		} else if err != nil {
			return err
		}
	}
	_, err := k.s.Append(ctx, stream, eventstore.Any, notes...)
	return err
}

// refused reports that an append will never be possible.
func refused(err error) bool {
	return errors.Is(err, eventstore.ErrTooLarge) || errors.Is(err, eventstore.ErrInvalid) || errors.Is(err, eventstore.ErrStreamDeleted)
}

// dispatch sends the command of a.
func (k *keeper) dispatch(ctx context.Context, a *alarm) {
	a.attempts++
	k.under++
	ctx = k.g.Handling(context.WithoutCancel(ctx), k.t.Name)
	ctx = eventstore.NewContext(ctx, a.setBy)
	k.wg.Go(func() {
		o := outcome{a: a, err: errExited}
		defer func() {
			if v := recover(); v != nil {
				o.err = command.NewPanicError(v)
			}
			k.sent <- o
		}()
		data, err := a.open(ctx, k.copies)
		if err != nil {
			o.err, o.erased = err, errors.Is(err, eventstore.ErrErased)
			return
		}
		cmd, err := k.t.commands.Decode(a.Command, data)
		if err != nil {
			o.err = err
			return
		}
		opts := []command.Option{command.Once(a.onceKey())}
		for key, value := range a.Metadata {
			opts = append(opts, command.Meta(key, value))
		}
		var res command.Result
		res, o.err = command.Dispatch(ctx, k.t.Handler, cmd, opts...)
		o.refused = res.Refused
	})
}

var errExited = errors.New("schedule: the command's handler ended its goroutine")

// onceKey is the idempotency key of an alarm's command: the same for every attempt of every node.
func (a *alarm) onceKey() string {
	key := "timer/" + a.Key + "@" + strconv.FormatInt(a.At.UnixNano(), 10)
	if len(key) > 255 {
		sum := sha256.Sum256([]byte(key))
		key = "timer/" + hex.EncodeToString(sum[:])
	}
	return key
}

// landed notes what became of a command.
func (k *keeper) landed(ctx context.Context, o outcome) {
	k.under--
	a := o.a
	if o.err != nil && !k.hopeless(o) {
		d := min(maxPause, firstPause<<min(a.attempts-1, 16))
		k.log.WarnContext(ctx, "schedule: a command will be dispatched again", "command", a.Command, "key", a.Key, "attempt", a.attempts, "pause", d, "err", o.err)
		k.again(a, time.Now().Add(d))
		return
	}
	e := entry{Key: a.Key, Of: a.version}
	switch {
	case o.erased:
		e.failed(ctx, k.copies, a, o.err)
		k.g.Handled(k.t.Name, 0, 1)
		k.log.WarnContext(ctx, "schedule: a command that is due was erased, and is left out", "command", a.Command, "key", a.Key)
	case o.err != nil:
		e.failed(ctx, k.copies, a, o.err)
		k.log.ErrorContext(ctx, "schedule: a command is given up", "command", a.Command, "key", a.Key, "refused", o.refused, "attempt", a.attempts, "err", o.err)
	default:
		k.g.Handled(k.t.Name, 1, 0)
	}
	if _, err := appendEntry(context.WithoutCancel(ctx), k.s, typeDone, &e); err != nil {
		// The command's key is known to its aggregate.
		k.again(a, time.Now().Add(firstPause))
	}
}

// hopeless reports whether to give up a command that failed.
func (k *keeper) hopeless(o outcome) bool {
	panicked, _ := errors.AsType[*command.PanicError](o.err)
	lasting := panicked != nil || errors.Is(o.err, command.ErrUnrouted) || errors.Is(o.err, ErrUnnamed) ||
		errors.Is(o.err, eventstore.ErrInvalid) || errors.Is(o.err, eventstore.ErrCodec)
	return o.refused || errors.Is(o.err, eventstore.ErrErased) || lasting && o.a.attempts >= maxAttempts
}

// shorten cuts off the beginning of the stream when it is long, and carries what is pending there to the end.
func (k *keeper) shorten(ctx context.Context) error {
	ctx = system.Context(ctx)
	if len(k.void) > 0 {
		if err := k.carry(ctx, typeDone, k.void); err != nil {
			return err
		}
		k.void = nil
	}
	limit := eventstore.Version(max(shortStream, longStream*(len(k.pending)+len(k.due))))
	if k.version-k.low <= limit {
		return nil
	}
	cut := k.version - limit/2
	var old []entry
	for _, list := range k.all() {
		if list.written <= cut {
			e := list.entry
			e.Of, e.Due, e.SetBy = list.version, list.due, causeOf(list.setBy)
			old = append(old, e)
		}
	}
	if err := k.carry(ctx, typeCarried, old); err != nil {
		return err
	}
	err := k.s.Truncate(ctx, stream, cut+1)
	if errors.Is(err, eventstore.ErrUnsupported) {
		err = k.mark(ctx, cut)
	}
	if err != nil {
		return err
	}
	k.low = cut
	return nil
}

func (k *keeper) all() []*alarm {
	list := make([]*alarm, 0, len(k.pending)+len(k.due))
	for _, a := range k.pending {
		list = append(list, a)
	}
	for _, a := range k.due {
		list = append(list, a)
	}
	return list
}

func (k *keeper) carry(ctx context.Context, typ string, list []entry) error {
	for len(list) > 0 {
		n := min(len(list), maxBatch)
		events := make([]eventstore.Event, n)
		for i := range events {
			var err error
			if events[i], err = list[i].event(typ); err != nil {
				return err
			}
		}
		if _, err := k.s.Append(ctx, stream, eventstore.Any, events...); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

// mark notes where to begin reading on a driver that cannot cut streams.
func (k *keeper) mark(ctx context.Context, cut eventstore.Version) error {
	d, err := k.s.Checkpoints()
	if errors.Is(err, eventstore.ErrUnsupported) {
		return nil
	}
	for {
		c, ok, err := d.LoadCheckpoint(ctx, string(stream))
		if err != nil || ok && c.Position >= uint64(cut) {
			return err
		}
		from := &c
		if !ok {
			from = nil
		}
		err = d.SaveCheckpoint(ctx, string(stream), from, driver.Checkpoint{Position: uint64(cut), Fence: c.Fence})
		if !errors.Is(err, eventstore.ErrMoved) {
			return err
		}
	}
}

// sleep reports whether d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
