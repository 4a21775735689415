package projection

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// ErrNotParked reports that nothing of a key is parked.
var ErrNotParked = errors.New("projection: the key is not parked")

// A ParkedKey is a key with events that are parked.
type ParkedKey struct {
	Key    string
	Events int        // how many are parked
	First  DeadLetter // the one that failed; those after it wait behind it
	Since  time.Time  // when the key was parked
}

// Parked returns the keys of which events are parked, in the order in which they were.
// A projection keeps them in the store, in streams of the category "$parked.NAME",
// one for each key; a Memory keeps its own.
func (g *Group) Parked(ctx context.Context, name string) ([]ParkedKey, error) {
	lane, err := g.laneOf(name)
	if err != nil {
		return nil, err
	}
	keys, err := lane.parked(ctx)
	if err != nil {
		return nil, fmt.Errorf("projection: parked of %s: %w", name, err)
	}
	var list []ParkedKey
	for _, k := range keys {
		if k.open && k.live {
			left := k.left()
			p := ParkedKey{Key: k.key, Events: len(left), Since: k.since}
			if len(left) > 0 {
				p.First = left[0]
			}
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(a, b ParkedKey) int { return a.Since.Compare(b.Since) })
	return list, nil
}

// DeadLetters returns the events of a key that are parked, in order.
func (g *Group) DeadLetters(ctx context.Context, name, key string) ([]DeadLetter, error) {
	lane, err := g.laneOf(name)
	if err != nil {
		return nil, err
	}
	keys, err := lane.parked(ctx)
	if err != nil {
		return nil, fmt.Errorf("projection: dead letters of %s: %w", name, err)
	}
	if k := keys[key]; k != nil && k.open && k.live {
		return k.left(), nil
	}
	return nil, nil
}

// Retry handles the parked events of a key, in order, each exactly once, and
// lets the key's later events flow again when all are through; those that arrive
// meanwhile are handled after them. The first that fails again ends it: it and those
// after it stay parked, and the error is the handler's. Meanwhile the projection
// does not run in this process. A key that is not parked is ErrNotParked.
func (g *Group) Retry(ctx context.Context, name, key string) error {
	return g.unpark(ctx, name, key, "retry", false)
}

// Discard gives up the parked events of a key: they are left out of the read model,
// and the key's later events flow again. A key that is not parked is ErrNotParked.
func (g *Group) Discard(ctx context.Context, name, key string) error {
	return g.unpark(ctx, name, key, "discard", true)
}

func (g *Group) unpark(ctx context.Context, name, key, what string, discard bool) error {
	m, err := g.named(ctx, name, what)
	if err != nil {
		return err
	}
	lane, err := g.laneOf(name)
	if err != nil {
		return err
	}
	g.mu.Lock()
	m.resets++
	g.mu.Unlock()
	if err = g.rest(ctx, m); err == nil {
		err = lane.unpark(ctx, key, discard)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m.resets--
	if m.state != Stopped {
		g.start(m)
	}
	if err != nil {
		return fmt.Errorf("projection: %s %s of %s: %w", what, key, name, err)
	}
	return nil
}

func (g *Group) laneOf(name string) (lane, error) {
	m := g.member(name)
	switch {
	case m == nil:
		return nil, &StoppedError{Name: name}
	case m.task.lane == nil:
		return nil, fmt.Errorf("projection: %s parks no events: %w", name, errors.ErrUnsupported)
	}
	return m.task.lane, nil
}

// A lane is where the events of a projection go that are parked.
type lane interface {
	parked(ctx context.Context) (map[string]*parkedKey, error)
	// count is how many keys are parked. What it costs grows with that, and not with how many there ever were.
	count(ctx context.Context) (int, error)
	unpark(ctx context.Context, key string, discard bool) error
}

// How parking counts exactly once.
//
// The position of a projection is the one thing that all processes that run it agree
// about, since it is moved by compare-and-set. To park the event at position p, which
// failed, of a key that is not parked yet:
//
//  1. the position is moved to p with the mark parking: from here it is decided that p is
//     not handled, and whoever finds the mark completes what follows;
//  2. the cell of the key, a position beside that of the projection in the
//     target, is set to p with the mark: the key is parked in this life of the model;
//  3. the dead letter is written to the key's stream;
//  4. the mark is taken from the position.
//
// Later events of the key get their dead letters before the position moves past them, each
// written at the version of the stream at which the key was known to be parked.
//
// To try an event again, its handler runs in the transaction that moves the key's
// cell to the event's position. When no letter is left beyond the cell, the
// release is written, at the version that says so, and the key is not parked any more.
//
// A model that starts over loses its cells with its position, so that nobody takes
// for its own what was parked in an earlier life. From the first parking on, positions and
// cells bear the number of the life, drawn by lot, so that a process that
// has slept through a reset does not find the position where it left it.

// A place is a position as a target keeps it.
type place = eventstore.Position

const (
	// parking marks a position: the event there is being parked; and a key's cell: none
	// of its parked events has been handled.
	parking place = 1 << 62
	// numbered marks a place that bears the number of a life in its bits from lifeBit on.
	numbered place = 1 << 61
	lifeBit        = 48
	lives          = 1 << (60 - lifeBit)
)

// placeOf returns a position as it is kept in a life of the model, where 0 is one in
// which nothing was parked.
func placeOf(life uint64, p eventstore.Position) place {
	if life == 0 {
		return p
	}
	return numbered | place(life)<<lifeBit | p
}

func positionOf(at place) eventstore.Position {
	at &^= parking | replaced
	if at&numbered != 0 {
		at &= 1<<lifeBit - 1
	}
	return at
}

func lifeOf(at place) uint64 {
	if at&numbered == 0 {
		return 0
	}
	return uint64(at&^(parking|numbered|replaced)) >> lifeBit
}

// maxParked is how many keys may be parked at a time. Where more fail it is not the
// events' fault, and the projection retries.
const maxParked = 1000

// A parkedKey is what is known of a key that is, or was, parked.
type parkedKey struct {
	key     string
	version eventstore.Version // of its stream
	open    bool               // parked, as its stream says
	first   eventstore.Position
	last    eventstore.Position // events of the key up to here have letters, or need none
	since   time.Time

	life uint64 // in which it was parked
	cell place  // as the target has it
	live bool   // what its stream says is of this life of the model

	entries []DeadLetter // if they are kept
}

// done returns up to where the events of the key are through.
func (k *parkedKey) done() eventstore.Position {
	if k.cell&parking != 0 {
		return 0
	}
	return positionOf(k.cell)
}

// left returns the letters beyond the cell.
func (k *parkedKey) left() []DeadLetter {
	i, _ := slices.BinarySearchFunc(k.entries, k.done()+1, func(d DeadLetter, p eventstore.Position) int {
		if d.Position < p {
			return -1
		}
		return 1
	})
	return k.entries[i:]
}

// A desk knows which keys are parked, from their dead letters and cells.
type desk struct {
	box  letterbox
	load func(ctx context.Context, key string) (place, error) // a key's cell
	keep bool                                                 // the letters themselves, too

	at    eventstore.Position // letters up to here were read
	keys  map[string]*parkedKey
	fresh map[string]bool // keys whose cells are to be loaded; nil: all
}

// refresh reads what is new. Keys that nobody who stands at position need know of
// any longer are dropped.
func (d *desk) refresh(ctx context.Context, position eventstore.Position) error {
	if d.keys == nil {
		d.keys = map[string]*parkedKey{}
	}
	at, err := d.box.since(ctx, d.at, d.fold)
	if err != nil {
		return err
	}
	d.at = max(d.at, at)
	for name, k := range d.keys {
		if !k.open && k.last <= position {
			delete(d.keys, name)
			continue
		}
		if d.fresh != nil && !d.fresh[name] {
			continue
		}
		cell, err := d.load(ctx, name)
		if err != nil {
			return err
		}
		k.cell = cell
		at := positionOf(cell)
		k.live = cell != 0 && lifeOf(cell) == k.life && (at == k.first || cell&parking == 0 && at > k.first)
	}
	d.fresh = map[string]bool{}
	return nil
}

func (d *desk) fold(s sent) {
	d.at = s.at
	k := d.keys[s.Key]
	if k == nil {
		k = &parkedKey{key: s.Key}
		d.keys[s.Key] = k
	}
	k.version = s.version
	if d.fresh != nil {
		d.fresh[s.Key] = true
	}
	switch s.kind {
	case letterParked:
		if s.Begin {
			k.open, k.life, k.first, k.since, k.entries = true, s.Life, s.Position, s.time, nil
		}
		k.last = s.Position
		if d.keep {
			k.entries = append(k.entries, DeadLetter{s.Position, s.Stream, s.Version, s.ID, s.Type, s.Error, s.Attempts, s.time})
		}
	case letterRetried:
		for i := range k.entries {
			if e := &k.entries[i]; e.Position == s.Position {
				e.Error, e.Attempts = s.Error, s.Attempts
			}
		}
	case letterReleased:
		k.open, k.last, k.entries = false, s.Position, nil
	}
}

// parkedKeys counts the keys that are parked.
func (d *desk) parkedKeys() (n int) {
	for _, k := range d.keys {
		if k.open && k.live {
			n++
		}
	}
	return n
}

// key returns the key of an event, and for the parts of one that was split the key
// of the first.
func (w *worker[T]) keyOf(r *eventstore.Recorded) (key string) {
	if w.by == nil {
		return string(r.Stream)
	}
	defer func() {
		if v := recover(); v != nil || key == "" {
			key = string(r.Stream)
		}
	}()
	return w.by(r)
}

// cell is the name under which the target keeps how far a key's parked events have come.
func (w *worker[T]) cell(key string) string { return w.base + "/$" + digest(key) }

func (w *worker[T]) newDesk(keep bool) *desk {
	d := &desk{keep: keep, load: func(ctx context.Context, key string) (at place, err error) {
		defer recovered(&err)
		return w.target.Load(ctx, w.cell(key))
	}}
	if own, ok := w.target.(interface{ letters() letterbox }); ok {
		d.box = own.letters()
	} else {
		d.box = newStoreLetters(w.g.Store, w.base)
	}
	if keep {
		d.box.legible()
	}
	return d
}

// patiently calls fn until it succeeds, or fails for a reason that does not pass.
func (w *worker[T]) patiently(ctx context.Context, what string, fn func(ctx context.Context) error) error {
	for attempt := 1; ; attempt++ {
		err := fn(ctx)
		if err == nil || errors.Is(err, eventstore.ErrClosed) || errors.Is(err, ErrMoved) || errors.Is(err, errReplaced) || errors.Is(err, ErrPartitions) {
			return err
		}
		if ctx.Err() != nil { // no fault of the target
			return ctx.Err()
		}
		if err := w.pause(ctx, fmt.Errorf("%s: %w", what, err), pause(attempt)); err != nil {
			return err
		}
	}
}

// move moves a position without an event.
func (w *worker[T]) move(ctx context.Context, name string, from, to place) (err error) {
	defer recovered(&err)
	ctx = w.g.inHandler(context.WithoutCancel(ctx), w.base)
	return w.target.Update(ctx, name, from, to, func(T) error { return nil })
}

func (w *worker[T]) loadCell(ctx context.Context, name string) (at place, err error) {
	defer recovered(&err)
	return w.target.Load(ctx, name)
}

// park leaves out an event that failed, and those of its key that come after it. Everything
// before it has been handled.
func (w *worker[T]) park(ctx context.Context, r *eventstore.Recorded, key string, cause error, attempts int) error {
	life := w.life
	if life == 0 {
		life = 1 + rand.Uint64N(lives-1)
	}
	from, marked := placeOf(w.life, w.durable), placeOf(life, r.Position)|parking
	err := w.patiently(ctx, "park", func(ctx context.Context) error {
		err := w.move(ctx, w.name, from, marked)
		if err == nil || errors.Is(err, eventstore.ErrClosed) {
			return err
		}
		// It may have been done all the same, and then ErrMoved is what doing it again gives.
		switch at, lerr := w.loadCell(ctx, w.name); {
		case lerr != nil:
			return lerr
		case at == marked:
			return nil
		case at != from:
			return ErrMoved
		}
		return err
	})
	if err != nil {
		return err
	}
	w.life = life
	l := letterOf(key, r)
	l.because(cause, attempts)
	w.log.WarnContext(ctx, "projection parked an event", because(append(about(r), "key", key), cause)...)
	if err := w.patiently(ctx, "park", func(ctx context.Context) error { return w.complete(ctx, l) }); err != nil {
		return err
	}
	w.durable, w.since, w.unsure, w.evaded = r.Position, time.Time{}, 0, 0
	w.at = max(w.at, r.Position)
	w.forget()
	w.progress(0)
	return nil
}

// complete does what is left to do after the position was marked, whoever marked it. Any of
// it may have been done before.
func (w *worker[T]) complete(ctx context.Context, l letter) error {
	p, cell := l.Position, w.cell(l.Key)
	plain := placeOf(w.life, p)
	marked := plain | parking
	at, err := w.loadCell(ctx, cell)
	if err != nil {
		return err
	}
	// Cells never come back to a value in one life: if the position still has the mark
	// now, only a cell as it was then can be moved.
	if now, err := w.loadCell(ctx, w.name); err != nil {
		return err
	} else if now != marked {
		return w.passed(ctx, now, plain)
	}
	if at != marked && (at&parking != 0 || positionOf(at) < p) { // not done here, nor retried since
		if err := w.move(ctx, cell, at, marked); err != nil {
			return again(err)
		}
	}
	v, err := w.desk.box.version(ctx, l.Key)
	if err != nil {
		return err
	}
	if err := w.desk.refresh(ctx, w.durable); err != nil {
		return err
	}
	// What is found to stand like this now stood like this at version v, or the
	// stream moves on and the letter is not written.
	now, err := w.loadCell(ctx, w.name)
	if err != nil {
		return err
	}
	if now != marked {
		return w.passed(ctx, now, plain)
	}
	if at, err = w.loadCell(ctx, cell); err != nil {
		return err
	}
	if k := w.desk.keys[l.Key]; at == marked && (k == nil || !k.open || !k.live || k.first != p) {
		l.Begin, l.Life = true, w.life
		if err := w.desk.box.send(ctx, l.Key, v, l); err != nil {
			return err
		}
	}
	if err := w.desk.refresh(ctx, w.durable); err != nil {
		return err
	}
	return again(w.move(ctx, w.name, marked, plain))
}

// passed is how complete ends when another process has taken the mark.
func (w *worker[T]) passed(ctx context.Context, now, plain place) error {
	if now != plain {
		return ErrMoved
	}
	return w.desk.refresh(ctx, positionOf(plain))
}

// again turns an ErrMoved, which may come of what one did oneself, into an error to
// look again for.
func again(err error) error {
	if errors.Is(err, ErrMoved) {
		return fmt.Errorf("%s", err)
	}
	return err
}

// resume completes the parking that a process began and could not end, and learns what is parked.
func (w *worker[T]) resume(ctx context.Context) (at eventstore.Position, err error) {
	err = w.patiently(ctx, "load", func(ctx context.Context) error {
		w.desk.fresh = nil
		if w.partitions > 1 {
			if err := w.counted(ctx); err != nil {
				return err
			}
		}
		now, err := w.loadCell(ctx, w.name)
		if err == nil && w.partitions == 1 {
			err = single(now)
		}
		if err != nil {
			return err
		}
		at, w.life = positionOf(now), lifeOf(now)
		if now&replaced != 0 {
			return errReplaced
		}
		if now&parking == 0 {
			return w.desk.refresh(ctx, at)
		}
		var first *eventstore.Recorded
		for r, err := range w.g.Store.ReadAll(ctx, eventstore.Filter{System: true}, at-1) {
			if err != nil {
				return err
			}
			if r.Position == at {
				first = r
			}
			break
		}
		if first == nil { // it has been removed since
			return again(w.move(ctx, w.name, now, now&^parking))
		}
		l := letterOf(w.keyOf(first), first)
		l.because(errUntold, 0)
		return again(w.complete(ctx, l))
	})
	return at, err
}

var errUntold = errors.New("projection: the process ended before it could tell the error")

// divert takes from events those that are parked behind earlier ones of their key, for which it
// writes dead letters, and those that were handled while they were parked.
func (w *worker[T]) divert(ctx context.Context, events []*eventstore.Recorded) (rest []*eventstore.Recorded, err error) {
	if len(w.desk.keys) == 0 {
		return events, nil
	}
	err = w.patiently(ctx, "park", func(ctx context.Context) error {
		rest = nil
		type post struct {
			version eventstore.Version
			letters []letter
		}
		posts := map[string]*post{}
		for i, r := range events {
			first := events[start(events, i)]
			key := w.keyOf(first)
			k := w.desk.keys[key]
			switch {
			case k == nil || !k.live, r.Position > k.done() && (!k.open || r.Position < k.first):
				rest = append(rest, r)
			case k.open && r.Position > k.last && r == first:
				if posts[key] == nil {
					posts[key] = &post{version: k.version}
				}
				posts[key].letters = append(posts[key].letters, letterOf(key, r))
			}
		}
		for key, p := range posts {
			err := w.desk.box.send(ctx, key, p.version, p.letters...)
			if errors.Is(err, eventstore.ErrConflict) {
				err = errBehind
			}
			if rerr := w.desk.refresh(ctx, w.durable); rerr != nil {
				return rerr
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return rest, err
}

var errBehind = errors.New("projection: another process has parked, or released, events")

// A workshop makes the workers of a projection, by the number of their partition.
type workshop[T any] struct {
	worker func(partition int) *worker[T]

	mu      sync.Mutex
	counter *desk // nil before the first count
}

// parked implements lane.
func (s *workshop[T]) parked(ctx context.Context) (map[string]*parkedKey, error) {
	d := s.worker(0).newDesk(true)
	if err := d.refresh(ctx, math.MaxInt64); err != nil {
		return nil, err
	}
	return d.keys, nil
}

// count implements lane.
func (s *workshop[T]) count(ctx context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counter == nil {
		s.counter = s.worker(0).newDesk(false)
	}
	s.counter.fresh = nil // a model that started over has other cells, and nothing says so
	if err := s.counter.refresh(ctx, math.MaxInt64); err != nil {
		return 0, err
	}
	return s.counter.parkedKeys(), nil
}

// unpark implements lane.
func (s *workshop[T]) unpark(ctx context.Context, key string, discard bool) error {
	w := s.worker(0)
	return s.worker(eventstore.PartitionOf(key, w.partitions)).unpark(ctx, key, discard)
}

func (w *worker[T]) unpark(ctx context.Context, key string, discard bool) error {
	w.desk = w.newDesk(true)
	at, err := w.resume(ctx)
	if err != nil {
		return err
	}
	for {
		k := w.desk.keys[key]
		if k == nil || !k.open || !k.live {
			return ErrNotParked
		}
		if discard && k.done() < k.last {
			if err := w.move(ctx, w.cell(key), k.cell, placeOf(k.life, k.last)); err != nil {
				return err
			}
			k.cell = placeOf(k.life, k.last)
		}
		for _, e := range k.left() {
			if err := w.again(ctx, k, e); err != nil {
				return err
			}
			k.cell = placeOf(k.life, e.Position)
		}
		err := w.desk.box.send(ctx, key, k.version, letter{kind: letterReleased, Key: key, Position: max(k.last, k.done())})
		if err == nil || !errors.Is(err, eventstore.ErrConflict) {
			return err
		}
		if err := w.desk.refresh(ctx, at); err != nil {
			return err
		}
	}
}

// again handles an event that was parked.
func (w *worker[T]) again(ctx context.Context, k *parkedKey, e DeadLetter) error {
	var events []*eventstore.Recorded
	for r, err := range w.g.Store.ReadStream(ctx, e.Stream, e.Version-1) {
		if errors.Is(err, eventstore.ErrStreamDeleted) { // nothing is left to handle
			break
		}
		if err != nil {
			return err
		}
		if r.Position != e.Position {
			break
		}
		if w.due(r) {
			events = append(events, r)
		}
	}
	var cause error
	for _, r := range events {
		if r.Err != nil {
			cause = r.Err
		}
	}
	if cause == nil {
		hctx := w.g.inHandler(context.WithoutCancel(ctx), w.base)
		err := func() (err error) {
			defer recovered(&err)
			return w.target.Update(hctx, w.cell(k.key), k.cell, placeOf(k.life, e.Position), func(tx T) error {
				cause = nil
				for _, r := range events {
					if cause = w.call(hctx, tx, r); cause != nil {
						return cause
					}
				}
				return nil
			})
		}()
		if err == nil {
			w.g.Handled(w.base, len(events), 0)
			return nil
		}
		if cause == nil {
			return err
		}
	}
	l := letter{kind: letterRetried, Key: k.key, Position: e.Position, event: events[0]}
	l.because(cause, e.Attempts+1)
	if err := w.desk.box.send(ctx, k.key, k.version, l); err != nil && !errors.Is(err, eventstore.ErrConflict) {
		return errors.Join(cause, err)
	}
	return cause
}
