package projection

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/levada-go/levada/eventstore"
)

const (
	// A position moved by events that the filter left out is written after
	// writeAfter, or as soon as it has moved by writeEvery.
	writeAfter = time.Second
	writeEvery = 10_000

	// Who stands by looks every standByPoll whether the other process still gets
	// on. It is longer than writeAfter, within which a living one must write.
	standByPoll = 2 * time.Second

	// After commitFaults refusals in a row to commit a batch, its events are
	// committed one by one, to find the one to blame.
	commitFaults = 3

	// What was skipped is remembered, lest a target that starts over fails on it
	// again, up to this many events.
	maxSkipped = 1 << 16

	// A projection that is to replace another looks where that is every heedEvery, at least.
	heedEvery = time.Second

	// writing the last position must not hold up the end for longer.
	lastWrite = 10 * time.Second
)

// A worker runs a projection once, from start to end. Only its own goroutine uses it.
type worker[T any] struct {
	plan[T]
	base    string // the projection's name
	name    string // of its position in the target
	target  Target[T]
	by      func(*eventstore.Recorded) string
	onError func(Failure) Action
	inline  bool
	g       *Group
	m       *member
	log     *slog.Logger

	partitions int
	index      int   // of its own, if there are several
	crew       *crew // of them, nil if there are not

	old    *member             // that it is to replace, or nil
	mark   eventstore.Position // where that is, or ended
	frozen bool                // whether that has ended

	desk *desk // of what is parked

	life    uint64              // of the model; 0 if nothing was parked in it
	durable eventstore.Position // in the target
	at      eventstore.Position // handled; beyond durable only filtered events lie
	since   time.Time           // when at left durable
	unsure  eventstore.Position // the target may have committed up to here, though it said it failed

	evaded int // how often in a row another process was in the way

	limit   limit
	trials  map[eventKey]*trial
	skipped map[eventKey]struct{}
}

// A trial is what is known of an event that has failed.
type trial struct {
	event    *eventstore.Recorded
	err      error
	attempts int
	until    time.Time // not to be tried before
	stop     bool      // not to be tried
}

type eventKey struct {
	position eventstore.Position
	part     int
}

func key(r *eventstore.Recorded) eventKey { return eventKey{r.Position, r.Part} }

// errAgain ends a follow that is to be begun again from the durable position.
var errAgain = errors.New("projection: again")

// A stopError is an OnError's decision to stop.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// run handles events until ctx ends.
func (w *worker[T]) run(ctx context.Context) error {
	var from eventstore.Position
	var err error
	for err == nil {
		if from, err = w.resume(ctx); err != nil {
			break
		}
		err = w.follow(ctx, from)
		var stopped *stopError
		switch {
		case errors.As(err, &stopped): // with whatever error
			return err
		case errors.Is(err, errAgain):
			err = nil
		case errors.Is(err, ErrMoved):
			_, err = w.evade(ctx)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// load returns the durable position, however long it takes.
func (w *worker[T]) load(ctx context.Context) (eventstore.Position, error) {
	for attempt := 1; ; attempt++ {
		from, err := w.loadCell(ctx, w.name)
		if err == nil && from&replaced != 0 {
			return 0, errReplaced
		}
		if err == nil || errors.Is(err, eventstore.ErrClosed) {
			return positionOf(from), err
		}
		if ctx.Err() != nil { // no fault of the target
			return 0, ctx.Err()
		}
		if err := w.pause(ctx, fmt.Errorf("load: %w", err), pause(attempt)); err != nil {
			return 0, err
		}
	}
}

// evade decides what to do after another process has moved the projection, and
// returns the position to go on from.
func (w *worker[T]) evade(ctx context.Context) (eventstore.Position, error) {
	if w.evaded++; w.evaded > 1 {
		if err := sleep(ctx, pause(w.evaded-1)); err != nil {
			return 0, err
		}
	}
	at, err := w.load(ctx)
	if err != nil {
		return 0, err
	}
	if at <= w.durable || at == w.unsure {
		// The model starts over, or it was this very worker that moved it, in a
		// commit whose outcome was lost.
		return at, nil
	}
	why := "another process runs it"
	if w.inline {
		why = "it is handled with the appends"
	}
	w.log.InfoContext(ctx, "projection stands by: "+why, "position", at)
	return w.standBy(ctx, at)
}

// standBy returns when the process that has the projection no longer gets on: when for
// a whole interval events lay beyond the position and it did not move.
func (w *worker[T]) standBy(ctx context.Context, at eventstore.Position) (eventstore.Position, error) {
	w.standBys(true)
	w.moved(at)
	defer w.standBys(false)
	var head eventstore.Position
	for {
		if w.old != nil && !w.frozen { // it may have happened with an append, or elsewhere
			if mark, frozen, err := w.old.task.ended(ctx); err == nil && frozen {
				w.mark, w.frozen = mark, true
				w.g.tookOver(w.m, mark)
				w.g.retire(w.old)
			}
		}
		if err := sleep(ctx, standByPoll); err != nil {
			return 0, err
		}
		now, err := w.load(ctx)
		if err != nil {
			return 0, err
		}
		if now == at && head > at {
			w.log.InfoContext(ctx, "projection taken over", "position", at)
			return at, nil
		}
		w.moved(now)
		at = now
		if head, err = w.g.Store.Head(ctx); errors.Is(err, eventstore.ErrClosed) {
			return 0, err
		}
	}
}

// follow handles what the store has after from.
func (w *worker[T]) follow(ctx context.Context, from eventstore.Position) error {
	w.durable, w.at, w.since = from, from, time.Time{}
	w.moved(from)

	type item struct {
		batch eventstore.Batch[*eventstore.Recorded]
		err   error
	}
	items := make(chan item)
	fctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for range items { // the feeder has ended when it closes items
		}
	}()
	go func() {
		defer close(items)
		events := w.g.Store.Follow(fctx, w.filter, from)
		if w.crew != nil {
			events = w.crew.reader.follow(fctx, w.index, from)
		}
		for b, err := range events {
			select {
			case items <- item{b, err}:
			case <-fctx.Done():
				return
			}
		}
	}()

	var look <-chan time.Time
	if _, bounded, err := w.behind(ctx); err != nil {
		return w.last(ctx, err)
	} else if bounded {
		ticker := time.NewTicker(heedEvery)
		defer ticker.Stop()
		look = ticker.C
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	timer.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return w.last(ctx, ctx.Err())
		default:
		}
		select {
		case <-ctx.Done():
			return w.last(ctx, ctx.Err())
		case it, ok := <-items:
			if !ok {
				it.err = errors.New("projection: the store's events ended")
			}
			switch {
			case ctx.Err() != nil:
				return w.last(ctx, ctx.Err())
			case errors.Is(it.err, eventstore.ErrClosed):
				return w.last(ctx, it.err)
			case it.err != nil:
				if err := w.pause(ctx, it.err, time.Second); err != nil {
					return w.last(ctx, err)
				}
				return errAgain
			}
			err = w.batch(ctx, it.batch)
		case <-timer.C:
		case <-look:
			_, _, err = w.behind(ctx)
		}
		if err == nil {
			err = w.settle(ctx, timer)
		}
		if err != nil {
			return w.last(ctx, err)
		}
	}
}

// batch handles a batch.
func (w *worker[T]) batch(ctx context.Context, b eventstore.Batch[*eventstore.Recorded]) error {
	b, err := w.heed(ctx, b)
	if err == nil {
		err = w.handleBatch(ctx, b)
	}
	if err == nil {
		_, _, err = w.behind(ctx)
	}
	return err
}

func (w *worker[T]) handleBatch(ctx context.Context, b eventstore.Batch[*eventstore.Recorded]) error {
	var due []*eventstore.Recorded
	for _, r := range b.Events {
		if w.due(r) {
			due = append(due, r)
		}
	}
	if len(due) > 0 {
		return w.handle(ctx, due, b.Position)
	}
	if w.since.IsZero() {
		w.since = time.Now()
	}
	w.at = b.Position
	w.moved(w.at)
	return nil
}

// due reports whether r is to be handled: not what was skipped, nor what has no
// handler, such as erased data and some parts of an event that was split.
func (w *worker[T]) due(r *eventstore.Recorded) bool {
	if _, skipped := w.skipped[key(r)]; skipped {
		return false
	}
	if r.Err != nil {
		return true
	}
	_, ok := w.handlers[reflect.TypeOf(r.Data)]
	return ok
}

// handle handles events, in one transaction if all goes well, and moves the
// position to to.
func (w *worker[T]) handle(ctx context.Context, events []*eventstore.Recorded, to eventstore.Position) error {
	faults, alone := 0, false
	events, err := w.divert(ctx, events)
	if err != nil {
		return err
	}
	for w.durable < to {
		if i, t := w.held(events); t != nil {
			// What comes before it need not wait with it.
			if before := start(events, i); before > 0 {
				if err := w.handle(ctx, events[:before], events[before-1].Position); err != nil {
					return err
				}
				events = events[before:]
			}
			if err := w.wait(ctx, t); err != nil {
				return err
			}
			continue
		}
		n := w.limit.cut(len(events))
		if alone {
			n = min(n, 1)
		}
		end := to
		if n = whole(events, n); n < len(events) {
			end = events[n-1].Position
		}
		failed, refused, err := w.update(ctx, events[:n], end)
		if err == nil {
			events, faults = events[n:], 0
			continue
		}
		if failed == nil {
			if errors.Is(err, ErrMoved) || errors.Is(err, eventstore.ErrClosed) {
				return err
			}
			faults++
			if !refused || !alone || n == 0 {
				// The target cannot be reached, or some event of the batch does not
				// go down with it.
				alone = alone || refused && faults >= commitFaults
				if err := w.pause(ctx, err, pause(faults)); err != nil {
					return err
				}
				continue
			}
			failed = events[0]
		}
		if ctx.Err() != nil {
			// It may have failed because everything ends. It will be met again.
			return ctx.Err()
		}
		switch action := w.decide(ctx, failed, err); {
		case action == park:
			i := start(events, slices.Index(events, failed))
			// What comes before it need not wait with it, nor be undone again.
			if i > 0 {
				if err := w.handle(ctx, events[:i], events[i-1].Position); err != nil {
					return err
				}
			}
			if events, err = w.divert(ctx, events[i:]); err != nil {
				return err
			}
			if len(events) == 0 || events[0].Position != failed.Position {
				continue // it went behind another of its key, just now
			}
			t := w.trials[key(failed)]
			if err := w.park(ctx, failed, w.keyOf(events[0]), t.err, t.attempts); err != nil {
				return err
			}
			if events, err = w.divert(ctx, events[whole(events, 1):]); err != nil {
				return err
			}
		case action == skip:
			events = slices.DeleteFunc(slices.Clone(events), func(r *eventstore.Recorded) bool { return !w.due(r) })
		default:
			if at, err := w.loadCell(ctx, w.name); err == nil && positionOf(at) < w.durable {
				return ErrMoved // the target starts over, and must not wait for that
			}
		}
	}
	return nil
}

// held returns the first event that is not to be tried now.
func (w *worker[T]) held(events []*eventstore.Recorded) (int, *trial) {
	if len(w.trials) == 0 {
		return 0, nil
	}
	for i, r := range events {
		if t := w.trials[key(r)]; t != nil && (t.stop || r.Err != nil && t.event == r || time.Now().Before(t.until)) {
			return i, t
		}
	}
	return 0, nil
}

// wait returns when the event of t may be tried, with an error if it must be
// read again to be decoded again, or never may.
func (w *worker[T]) wait(ctx context.Context, t *trial) error {
	w.failing(t.err)
	if t.stop {
		w.log.ErrorContext(ctx, "projection stopped", because(about(t.event), t.err)...)
		return &stopError{t.err}
	}
	if err := sleep(ctx, time.Until(t.until)); err != nil {
		return err
	}
	if t.event.Err != nil {
		t.event = nil
		return errAgain
	}
	return nil
}

// start returns the index of the first part of the event that events[i] is a part of.
func start(events []*eventstore.Recorded, i int) int {
	for i > 0 && events[i-1].Position == events[i].Position {
		i--
	}
	return i
}

// whole returns how many events to take if they are to be n, without leaving
// behind parts of the last one.
func whole(events []*eventstore.Recorded, n int) int {
	for n > 0 && n < len(events) && events[n].Position == events[n-1].Position {
		n++
	}
	return n
}

// update handles events and moves the position to to, in one transaction. If that
// fails, failed is the event it failed at, and without one refused says that
// the handlers were done and the target would not commit.
func (w *worker[T]) update(ctx context.Context, events []*eventstore.Recorded, to eventstore.Position) (failed *eventstore.Recorded, refused bool, err error) {
	for _, r := range events {
		if r.Err != nil { // no need to begin
			return r, false, r.Err
		}
	}
	ctx = w.g.inHandler(context.WithoutCancel(ctx), w.base)
	ctx = w.g.Trace.batchStart(ctx, BatchInfo{w.base, len(events), w.durable, to})
	var cause error
	var took time.Duration
	err = w.commit(ctx, to, func(tx T) error {
		failed, cause, refused = nil, nil, false
		began := time.Now()
		defer func() { took = time.Since(began) }()
		for _, r := range events {
			if cause = w.call(ctx, tx, r); cause != nil {
				failed = r
				return cause
			}
		}
		refused = true
		return nil
	})
	if failed != nil {
		err = cause
	}
	w.g.Trace.batchEnd(ctx, err)
	if err != nil {
		if refused && !errors.Is(err, ErrMoved) {
			w.unsure = to
		}
		return failed, refused, err
	}
	w.limit.took(len(events), took)
	w.durable, w.since, w.unsure, w.evaded = to, time.Time{}, 0, 0
	w.at = max(w.at, to)
	w.forget()
	w.progress(len(events))
	return nil, false, nil
}

func (w *worker[T]) commit(ctx context.Context, to eventstore.Position, fn func(T) error) (err error) {
	defer recovered(&err)
	return w.target.Update(ctx, w.name, placeOf(w.life, w.durable), placeOf(w.life, to), fn)
}

func (w *worker[T]) call(ctx context.Context, tx T, r *eventstore.Recorded) (err error) {
	if w.old != nil && (!w.frozen || r.Position <= w.mark) {
		ctx = context.WithValue(ctx, replaying{}, true)
	}
	ctx = w.g.Trace.handleStart(eventstore.NewContext(ctx, r), w.base, r)
	defer func() { w.g.Trace.handleEnd(ctx, err) }()
	defer recovered(&err)
	return w.handlers[reflect.TypeOf(r.Data)].handle(ctx, tx, r)
}

// decide asks what to do about an event that failed, notes it, and reports whether the
// event is left out: skip, or park, which is still to be done.
func (w *worker[T]) decide(ctx context.Context, r *eventstore.Recorded, err error) actionKind {
	t := w.trials[key(r)]
	if t == nil {
		t = &trial{}
		w.trials[key(r)] = t
	}
	t.event, t.err = r, err
	t.attempts++
	f := Failure{w.base, r, err, t.attempts}
	action := w.ask(ctx, f)
	if action.kind == park && (w.inline || w.desk.parkedKeys() >= maxParked || r.Position >= 1<<lifeBit) {
		action = Retry(f)
	}
	switch action.kind {
	case park:
		return park
	case skip:
		w.log.WarnContext(ctx, "projection skipped an event", because(about(r), err)...)
		w.skipped[key(r)] = struct{}{}
		w.g.skip(w.m)
		return skip
	case stop:
		t.stop = true
	default:
		d := action.pause(t.attempts)
		t.until = time.Now().Add(d)
		w.trouble(ctx, err, d, about(r)...)
	}
	return retry
}

func (w *worker[T]) ask(ctx context.Context, f Failure) (action Action) {
	defer func() {
		if v := recover(); v != nil {
			w.log.ErrorContext(ctx, "projection retries: its OnError panicked", "panic", v)
			action = Retry(f)
		}
	}()
	return w.onError(f)
}

// forget drops what was remembered of events that are done with. What was skipped is
// kept for a while: a target that starts over meets it again.
func (w *worker[T]) forget() {
	for k := range w.trials {
		if k.position <= w.durable {
			delete(w.trials, k)
		}
	}
	if len(w.skipped) > maxSkipped {
		for k := range w.skipped {
			if k.position <= w.durable {
				delete(w.skipped, k)
			}
		}
	}
}

// settle writes a position that filtered events have moved, if it is time to,
// or sets the timer for when to look at it again.
func (w *worker[T]) settle(ctx context.Context, timer *time.Timer) error {
	if w.at == w.durable {
		timer.Stop()
		return nil
	}
	wait := writeAfter - time.Since(w.since)
	awaited, known := w.g.awaitedElsewhere(ctx, w.base)
	if awaited || wait <= 0 || w.at-w.durable >= writeEvery {
		_, _, err := w.update(ctx, nil, w.at)
		switch {
		case err == nil:
			timer.Stop()
			return nil
		case errors.Is(err, ErrMoved), errors.Is(err, eventstore.ErrClosed):
			return err
		}
		w.trouble(ctx, fmt.Errorf("write position: %w", err), writeAfter)
		w.since = time.Now()
		wait, known = writeAfter, false
	}
	if known {
		wait = min(wait, lookEvery)
	}
	timer.Reset(wait)
	return nil
}

// last writes the position when a follow ends because of err, which it returns.
func (w *worker[T]) last(ctx context.Context, err error) error {
	if w.at <= w.durable || errors.Is(err, ErrMoved) {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
	defer cancel()
	from, to := w.durable, w.at
	ctx = w.g.inHandler(ctx, w.base)
	if werr := w.commit(ctx, to, func(T) error { return nil }); errors.Is(werr, ErrMoved) {
		return err // whoever moved it knows
	} else if werr != nil {
		w.log.WarnContext(ctx, "projection ended without writing its position", "from", from, "to", to, "err", werr)
	} else {
		w.durable = to
	}
	return err
}

// A limit keeps transactions short for a Limiter. The zero limit is none.
type limit struct {
	events int
	hold   time.Duration
	next   int // how many events are expected to fit into hold
}

// firstEvents is how many events to handle before it is known how long one takes.
const firstEvents = 16

func limitOf(target any) limit {
	l, ok := target.(Limiter)
	if !ok {
		return limit{}
	}
	events, hold := l.BatchLimit()
	return limit{events, hold, firstEvents}
}

// cut returns how many of n events to handle in one transaction.
func (l *limit) cut(n int) int {
	if l.events > 0 {
		n = min(n, l.events)
	}
	if l.hold > 0 {
		n = min(n, l.next)
	}
	return n
}

// took learns from a transaction: one that took too long halves the next, one
// that was full and took at most half as long as it might doubles it.
func (l *limit) took(n int, d time.Duration) {
	switch {
	case l.hold <= 0 || n == 0:
	case d > l.hold:
		l.next = max(1, min(l.next, n)/2)
	case d <= l.hold/2 && n >= l.next:
		l.next *= 2
	}
}

// pause says why the projection does not get on, and waits. It returns an error
// only when ctx ends.
func (w *worker[T]) pause(ctx context.Context, err error, d time.Duration, about ...any) error {
	w.trouble(ctx, err, d, about...)
	return sleep(ctx, d)
}

func (w *worker[T]) trouble(ctx context.Context, err error, d time.Duration, about ...any) {
	w.failing(err)
	w.log.WarnContext(ctx, "projection retries", because(append(about, "pause", d), err)...)
}

// about describes an event to a log.
func about(r *eventstore.Recorded) []any {
	return []any{"stream", r.Stream, "version", r.Version, "type", r.Type, "position", r.Position}
}

// because adds why to what a log is told.
func because(about []any, err error) []any {
	about = append(about, "err", err)
	var p *PanicError
	if errors.As(err, &p) {
		about = append(about, "stack", string(p.Stack))
	}
	return about
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
