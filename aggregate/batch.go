package aggregate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/system"
)

// A decision is what a command would lead to, on the state left by those before it.
type decision[S any] struct {
	events  []Event[S]
	tags    [][]string // of events; nil without Type.Tags
	refusal error
	own     bool             // refusal is what Execute returned
	end     int              // events of the batch up to and including the command's
	key     eventstore.KeyAt // where the command with the same key ended, if it is repeated
	first   *op[S]           // the command of the same batch with the same key
}

// A batch is what a holder decides and appends at once. It is scratch space.
type batch[S any] struct {
	ops    []*op[S] // decided, in order
	views  []*op[S]
	events []eventstore.Event
	first  map[string]*op[S] // by key
	before S                 // the state before the first event
	copied bool              // before is set
	dirty  bool              // events were applied to the state
	now    *op[S]            // being decided
}

// How often, and how soon, a command is decided again when others append first.
const (
	attempts     = 8
	firstBackoff = 2 * time.Millisecond // doubles
)

// batch decides what waits for in and appends it, once. It reports whether the
// caller still holds in; if not, the callers of views do, or another goroutine.
func (r *Repository[S]) batch(in *instance[S]) (held bool) {
	b := r.scratch.Get().(*batch[S])
	finished := false
	defer func() {
		if finished {
			return
		}
		if v := recover(); v != nil { // of a Sealer, say
			r.broken(in, b, command.NewPanicError(v))
			held = true
			return
		}
		// Code of the command called runtime.Goexit, as t.FailNow does.
		r.broken(in, b, command.NewPanicError(errExited))
		go r.work(in)
	}()
	held = r.run(in, b)
	finished = true
	b.reset()
	r.scratch.Put(b)
	return held
}

func (b *batch[S]) reset() {
	clear(b.ops)
	clear(b.views)
	clear(b.events)
	clear(b.first)
	*b = batch[S]{ops: b.ops[:0], views: b.views[:0], events: b.events[:0], first: b.first}
}

func (r *Repository[S]) run(in *instance[S], b *batch[S]) (held bool) {
	if in.backoff > 0 {
		time.Sleep(in.backoff)
		in.backoff = 0
	}
	if in.crowd > 1 {
		// Those just answered are about to send their next commands. They are let
		// run first, so that they share this append and do not wait for the next.
		runtime.Gosched()
	}
	in.crowd = 0
	// Nobody is taken before the state is there: they may leave until then.
	o := in.first()
	if o == nil {
		return true
	}
	ctx := o.ctx
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	if err := r.current(ctx, in); err != nil {
		r.fail(in, err)
		return true
	}
	if !r.decideAll(in, b) {
		return true
	}
	switch {
	case len(b.events) > 0:
		if !r.append(ctx, in, b) {
			in.again(b.views)
			return true
		}
	case len(b.ops)+len(b.views) > 0:
		if !r.confirm(ctx, in, b) {
			return true
		}
		r.publish(in, b, in.version, 0)
	}
	return !in.grant(b.views)
}

// decideAll decides what waits, as far as it fits one append. If it returns
// false the batch came to nothing.
func (r *Repository[S]) decideAll(in *instance[S], b *batch[S]) bool {
	limit := r.t.Queue
	if in.limit > 0 {
		limit = in.limit
	}
	for len(b.ops)+len(b.views) < limit {
		o := in.take()
		if o == nil {
			break
		}
		if o.view {
			b.views = append(b.views, o)
			continue
		}
		if !r.decide(in, b, o) {
			in.again([]*op[S]{o})
			break
		}
		if len(o.events) == 0 {
			b.add(o)
			continue
		}
		b.now = o
		err := r.apply(in, b, o.events)
		b.now = nil
		if err != nil {
			// The state is half changed. Those before o are decided again.
			r.discard(in, b)
			in.commanded = true
			o.answer(command.Result{Stream: in.stream, Version: in.version}, err)
			in.again(append(b.ops, b.views...))
			return false
		}
		b.add(o)
		b.fill(o)
	}
	return true
}

// decide finds out what o leads to on the speculative state. It reports false if
// o does not fit the batch.
func (r *Repository[S]) decide(in *instance[S], b *batch[S], o *op[S]) bool {
	version := in.version + eventstore.Version(len(b.events))
	if o.e.Expected != eventstore.Any && in.version == 0 && len(b.events) > 0 {
		// If the stream was deleted, its versions go on from where they stood, and
		// only the append will tell.
		return false
	}
	if key := o.e.Key; key != "" {
		var known bool
		if o.key, known = in.keys.find(key); known {
			return true
		}
		if o.first = b.first[key]; o.first != nil {
			return true
		}
	}
	if !o.e.Expected.Holds(version) {
		o.refusal = &eventstore.ConflictError{Stream: in.stream, Expected: o.e.Expected, Actual: version}
		return true
	}
	b.now = o
	events, err := execute(o.c, in.state)
	b.now = nil
	_, panicked := errors.AsType[*command.PanicError](err)
	o.own = err != nil && !panicked
	if err == nil {
		err = r.valid(in, o, events)
	}
	var tags [][]string
	if err == nil && r.t.Tags != nil {
		tags, err = r.tag(in, b, o, events)
	}
	if err != nil {
		o.refusal = err
		return true
	}
	if len(b.events)+len(events) > r.limits.AppendEvents {
		return false
	}
	o.events, o.tags = events, tags
	return true
}

// tag returns the tags of events. A panic becomes an error.
func (r *Repository[S]) tag(in *instance[S], b *batch[S], o *op[S], events []Event[S]) (tags [][]string, err error) {
	b.now = o
	defer func() {
		b.now = nil
		if v := recover(); v != nil {
			tags, err = nil, command.NewPanicError(v)
		}
	}()
	tags = make([][]string, len(events))
	for i, ev := range events {
		tags[i] = r.t.Tags(in.id, ev)
	}
	return tags, nil
}

// valid returns why events cannot be appended at all.
func (r *Repository[S]) valid(in *instance[S], o *op[S], events []Event[S]) error {
	if n := len(events); n > r.limits.AppendEvents {
		return fmt.Errorf("aggregate %s: %w: %T returned %d events: more than %d", in.stream, eventstore.ErrTooLarge, o.c, n, r.limits.AppendEvents)
	}
	for i, ev := range events {
		if ev == nil {
			return fmt.Errorf("aggregate %s: %w: %T returned a nil event, number %d", in.stream, eventstore.ErrInvalid, o.c, i)
		}
	}
	return nil
}

// add makes o part of the batch.
func (b *batch[S]) add(o *op[S]) {
	o.end = len(b.events) + len(o.events)
	b.ops = append(b.ops, o)
	if o.e.Key != "" && len(o.events) > 0 {
		if b.first == nil {
			b.first = map[string]*op[S]{}
		}
		b.first[o.e.Key] = o
	}
}

// fill adds the events of o as they are to be appended.
func (b *batch[S]) fill(o *op[S]) {
	e := o.e
	cause := e.ID
	if cause == (eventstore.ID{}) {
		cause = eventstore.NewID() // tells the events of one command from those of the next
	}
	for i, ev := range o.events {
		meta := e.Metadata
		if i == 0 && e.Key != "" {
			meta = make(map[string]string, len(e.Metadata)+1)
			for k, v := range e.Metadata {
				meta[k] = v
			}
			meta[keyMeta] = e.Key
		}
		event := eventstore.Event{Data: ev, Metadata: meta, Correlation: e.Correlation, Causation: cause}
		if o.tags != nil {
			event.Tags = o.tags[i]
		}
		b.events = append(b.events, event)
	}
}

// execute calls c.Execute and turns a panic into an error.
func execute[S any](c Command[S], state S) (events []Event[S], err error) {
	defer func() {
		if v := recover(); v != nil {
			events, err = nil, command.NewPanicError(v)
		}
	}()
	return c.Execute(state)
}

// apply folds events into the speculative state, having kept the one before if
// that is possible. A panic becomes an error.
func (r *Repository[S]) apply(in *instance[S], b *batch[S], events []Event[S]) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = command.NewPanicError(v)
		}
	}()
	if !b.dirty {
		if r.plain {
			b.before, b.copied = in.state, true
		} else if r.clones {
			b.before, b.copied = any(&in.state).(cloner[S]).Clone(), true
		}
		b.dirty = true
	}
	for _, ev := range events {
		ev.Apply(&in.state)
	}
	return nil
}

// discard throws the speculative state away.
func (r *Repository[S]) discard(in *instance[S], b *batch[S]) {
	switch {
	case !b.dirty:
	case b.copied:
		in.state = b.before
	default:
		in.loaded = false // it is read again when it is needed
	}
	b.dirty, b.copied = false, false
}

// append makes the batch's events durable. If it returns false, those of its
// commands that are not answered are to be decided again.
func (r *Repository[S]) append(ctx context.Context, in *instance[S], b *batch[S]) bool {
	if len(b.first) > 0 {
		ctx = system.Context(ctx) // for keyMeta
	}
	at, err := r.store.Append(ctx, in.stream, eventstore.Exactly(in.version), b.events...)
	if err == nil {
		if in.limit > 0 { // what was too much has passed
			in.limit *= 2
			if in.limit >= r.t.Queue {
				in.limit = 0
			}
		}
		r.publish(in, b, at.Version, at.Position)
		return true
	}
	r.discard(in, b)
	in.suspect = true
	switch {
	case errors.Is(err, eventstore.ErrConflict):
		r.retry(in, b.ops, err)
	case b.commands() > 1 && separable(err):
		// It may be the fault of one of them. They are tried by halves until it
		// stands alone, so that it fails alone.
		in.limit = max(1, len(b.ops)/2)
		in.again(b.ops)
	default:
		r.failed(in, b, err)
	}
	return false
}

// commands returns how many commands have events in b.
func (b *batch[S]) commands() int {
	n := 0
	for _, o := range b.ops {
		if len(o.events) > 0 {
			n++
		}
	}
	return n
}

// separable reports whether an append was refused for what was in it, with
// nothing written.
func separable(err error) bool {
	for _, target := range []error{eventstore.ErrCodec, eventstore.ErrUnregistered, eventstore.ErrTooLarge, eventstore.ErrInvalid, eventstore.ErrDuplicate} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// failed gives err to every command of b that has events, or repeats one that
// has. The others are decided again, since they were decided on what did not happen.
func (r *Repository[S]) failed(in *instance[S], b *batch[S], err error) {
	var rest []*op[S]
	for _, o := range b.ops {
		if o.first != nil || len(o.events) > 0 {
			r.refuse(in, o, err)
		} else {
			rest = append(rest, o)
		}
	}
	in.again(rest)
}

// retry has ops decided again, but for those that have been often enough.
func (r *Repository[S]) retry(in *instance[S], ops []*op[S], err error) {
	var rest []*op[S]
	most := 0
	for _, o := range ops {
		if o.attempts++; o.attempts < attempts {
			rest = append(rest, o)
			most = max(most, o.attempts)
			continue
		}
		r.refuse(in, o, fmt.Errorf("aggregate %s: gave up after %d attempts: %w", in.stream, attempts, err))
	}
	if most > 0 {
		in.backoff = rand.N(firstBackoff << (most - 1))
	}
	in.again(rest)
}

// refuse answers o with an error that is not its own.
func (r *Repository[S]) refuse(in *instance[S], o *op[S], err error) {
	if !o.view {
		in.commanded = true
		o.answer(command.Result{Stream: in.stream, Version: in.version}, err)
	} else if o.state.CompareAndSwap(opQueued, opTaken) {
		o.answer(command.Result{}, err)
	}
}

// confirm makes sure that a batch without events was decided on the latest state.
// If it returns false, those of its ops that are not answered are to be decided again.
func (r *Repository[S]) confirm(ctx context.Context, in *instance[S], b *batch[S]) bool {
	all := append(b.ops, b.views...)
	actual := eventstore.Version(in.latest.Load())
	if !r.limits.Exclusive {
		info, err := r.store.Stream(ctx, in.stream)
		if err != nil {
			err = fmt.Errorf("aggregate %s: %w", in.stream, err)
			for _, o := range all {
				r.refuse(in, o, err)
			}
			return false
		}
		if actual = seen(info); actual != in.version {
			in.suspect = true
		}
	}
	if !in.stale() {
		return true
	}
	r.retry(in, all, &eventstore.ConflictError{Stream: in.stream, Expected: eventstore.Exactly(in.version), Actual: actual})
	return false
}

// publish settles a batch that is durable: it ends at version v and position p.
func (r *Repository[S]) publish(in *instance[S], b *batch[S], v eventstore.Version, p eventstore.Position) {
	before := in.version
	start := v - eventstore.Version(len(b.events))
	in.version = v
	if r.seals() {
		for i := range b.events {
			in.owners.add(r.copies.Subjects(&b.events[i]))
		}
	}
	// A caller may send its next command as soon as it is answered, and its op may
	// be used again. So all outcomes are known before the first is told.
	in.crowd = len(b.ops)
	for _, o := range b.ops {
		in.commanded = true
		res := command.Result{Stream: in.stream, Version: start + eventstore.Version(o.end), Refused: o.own}
		if o.end == 0 {
			res.Version = before
		}
		switch {
		case o.key.Key != "":
			res.Version, res.Position, res.Repeated = o.key.Version, o.key.Position, true
		case o.first != nil:
			res.Version, res.Position, res.Repeated = o.first.res.Version, o.first.res.Position, true
		case len(o.events) > 0:
			res.Position = p
			res.Events = make([]any, len(o.events))
			for i, ev := range o.events {
				res.Events[i] = ev
			}
			if o.e.Key != "" {
				in.keys.add(eventstore.KeyAt{Key: o.e.Key, Version: res.Version, Position: p}, r.t.Keys)
			}
		}
		o.res = res
	}
	for i, o := range b.ops {
		b.ops[i] = nil
		o.answer(o.res, o.refusal)
	}
	if n := eventstore.Version(max(r.t.SnapshotEvery, 0)); n > 0 && before/n != v/n {
		r.snapshot(in)
	}
}

// fail gives err to everything that waits for in at this moment: what could not
// be read for one cannot be read for the next.
func (r *Repository[S]) fail(in *instance[S], err error) {
	in.mu.Lock()
	n := len(in.todo) - in.at + len(in.queue)
	in.mu.Unlock()
	for range n {
		o := in.take()
		if o == nil {
			return
		}
		r.refuse(in, o, err)
	}
}

// broken cleans up after code that did not return. If that was deciding a
// command, the command fails and the others are decided again; otherwise there is no
// telling whose fault it was, and all fail.
func (r *Repository[S]) broken(in *instance[S], b *batch[S], err error) {
	r.discard(in, b)
	in.loaded = false
	all := append(b.ops, b.views...)
	if b.now != nil {
		r.refuse(in, b.now, err)
		in.again(all)
		return
	}
	for _, o := range all {
		if o != nil {
			r.refuse(in, o, err)
		}
	}
	r.fail(in, err)
}

var errExited = errors.New("aggregate: the command's code ended its goroutine")

// A cloner is a state that can be copied.
type cloner[S any] interface{ Clone() S }
