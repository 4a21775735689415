package projection

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/levada-go/levada/eventstore"
)

// A Projection maintains a read model that is written through a T. It must not
// be modified once it was added to a Group.
type Projection[T any] struct {
	// Name is unique among those of the target, and for ever: the position is
	// kept under it. It is UTF-8 of 1 to 200 bytes without control characters
	// and does not start with "$".
	Name   string
	Target Target[T]

	// Handlers are made by On, one for each type of event. They are called one
	// at a time, in the order of the events; with Partitions, those of one key are.
	Handlers []Handler[T]

	// Filter narrows what the handlers get to some streams or categories. Its
	// Types must be empty: they are filled in from Handlers.
	Filter eventstore.Filter

	// Replaces is the name of another projection of the Group that this one is to
	// take the place of: the next version of a read model, with a name and a target,
	// or tables, of its own. It handles the whole history beside the other, which is
	// read from meanwhile, and then takes over: the other ends, for good, in the
	// state Replaced, and can be emptied by Group.Reset and dropped from the program,
	// together with this field. Both go on where they were when the process ends and
	// starts again; a Memory, which starts anew, is replaced at once. If this one is
	// reset, the other answers again until it is there. See Live, Replaying and
	// Group.Current. Neither of them may have Partitions.
	Replaces string

	// Key returns what an event belongs to, for those things that go by key: when an event
	// is parked, so are later ones with its key. Nil means the event's stream. It must be
	// the same for ever, and for all parts that an upcast made of one event; Data is
	// nil where an event could not be decoded. An empty key, or a panic, means the
	// stream. With Partitions it is called from several goroutines at a time.
	Key func(r *eventstore.Recorded) string

	// Partitions, if it is more than 1 (at most 256), is among how many workers the
	// events are divided by their key: those of one key are handled in order, those
	// of different keys at the same time, each partition in transactions and at a
	// position of its own, named Name/0 and so on in the target. The store is read,
	// and events are decoded, once for all of them, but for a partition that falls
	// behind, which then reads for itself. The hash is eventstore.PartitionOf. Wait
	// and Status tell of the least. The number is stored with the read model when it
	// is first filled; another one stops the projection with ErrPartitions until
	// Reset. How much the partitions do at the same time is up to the target: a
	// Memory, and an SQLite file, let one write at a time.
	Partitions int

	// Inline has the events handled in the transaction of the append itself, by
	// whichever process appends: the read model is never behind, an event that cannot
	// be handled fails its append, with the handler's error, and appends wait for the
	// handlers, which must not append. The Target must be an InlineTarget that shares
	// the store's database, as sqlitestore.TargetIn makes it. It holds from Group.Add
	// on. What is in the store already, and what is appended by a process that has no
	// such projection, is handled by Group.Run as ever, with OnError, which does not
	// park then; in between the state is StandBy. While more than a few events are missing, or one of them fails, appends go on without
	// the projection, so as to keep the order; and so they do while it is paused.
	//
	// One that Replaces another that is inline, too, is filled beside it by Group.Run, and takes over in the
	// transaction of an append, so that there is none that neither of them takes part in.
	Inline bool

	// OnError decides what to do about an event that could not be handled. Nil
	// means the Group's OnError, and if that is nil too, Retry. It is called
	// from one goroutine at a time; if it panics, the event is retried.
	OnError func(Failure) Action
}

// A Handler handles the events of one type.
type Handler[T any] struct {
	event  reflect.Type
	name   func(*eventstore.Types) (string, bool)
	handle func(ctx context.Context, tx T, r *eventstore.Recorded) error
}

// On makes a Handler of a func. E is an event type, as the aggregate returns it
// and the store's Types know it.
//
// The func writes through tx and nothing else if it is to count exactly once.
// Its context carries the event, so that what is dispatched or appended with it
// continues the event's conversation; it does not end when the Group's does,
// since a batch that was begun is finished. r must not be modified.
func On[T, E any](fn func(ctx context.Context, tx T, e E, r *eventstore.Recorded) error) Handler[T] {
	h := Handler[T]{event: reflect.TypeFor[E](), name: eventstore.NameOf[E]}
	if fn != nil {
		h.handle = func(ctx context.Context, tx T, r *eventstore.Recorded) error {
			return fn(ctx, tx, r.Data.(E), r)
		}
	}
	return h
}

// Task implements Runner. It reports what is missing or contradictory, and
// handlers of types that have no name in the store, all at once.
func (p *Projection[T]) Task(g *Group) (Task, error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("projection %s: "+format, append([]any{p.Name}, args...)...))
	}
	if err := validName(p.Name); err != nil {
		faults = append(faults, err)
	}
	if p.Target == nil {
		fault("no Target")
	}
	if p.Partitions < 0 || p.Partitions > maxPartitions {
		fault("%d Partitions: want at most %d", p.Partitions, maxPartitions)
	}
	if p.Partitions > 1 && p.Replaces != "" {
		fault("Replaces another, with Partitions")
	}
	if p.Inline && p.Partitions > 1 {
		fault("Inline, with Partitions")
	}
	if in, ok := p.Target.(InlineTarget[T]); p.Inline && !(ok && in.Shares(g.Store)) {
		fault("Inline: the Target does not share the database of the store")
	}
	pl, err := p.plan(g.Store)
	if err := errors.Join(append(faults, err)...); err != nil {
		return Task{}, err
	}
	onError := p.OnError
	if onError == nil {
		onError = g.OnError
	}
	if onError == nil {
		onError = Retry
	}
	partitions := max(p.Partitions, 1)
	if partitions > 1 {
		var one sync.Mutex
		ask := onError
		onError = func(f Failure) Action {
			one.Lock()
			defer one.Unlock()
			return ask(f)
		}
	}
	newWorker := func(i int) *worker[T] {
		name := p.Name
		if partitions > 1 {
			name = partitionName(name, i)
		}
		w := &worker[T]{
			name: name, base: p.Name, partitions: partitions, by: p.Key, plan: pl, target: p.Target, onError: onError,
			g: g, m: g.member(p.Name), limit: limitOf(p.Target), log: g.logger().With("projection", p.Name),
			trials: map[eventKey]*trial{}, skipped: map[eventKey]struct{}{},
		}
		w.inline = p.Inline
		w.desk = w.newDesk(false)
		w.old = g.predecessor(w.m)
		return w
	}
	t := Task{
		Name: p.Name,
		Run: func(ctx context.Context) error {
			if partitions == 1 {
				return newWorker(0).run(ctx)
			}
			workers := make([]*worker[T], partitions)
			for i := range workers {
				workers[i] = newWorker(i)
			}
			return runAll(ctx, workers)
		},
		Load: func(ctx context.Context) (least eventstore.Position, err error) {
			defer recovered(&err)
			at, err := p.Target.Load(ctx, p.Name)
			if err != nil || at == 0 || partitions == 1 {
				return positionOf(at), err
			}
			if at != parking|place(partitions) {
				return 0, fmt.Errorf("projection %s: %w", p.Name, ErrPartitions)
			}
			for i := range partitions {
				at, err := p.Target.Load(ctx, partitionName(p.Name, i))
				if err != nil {
					return 0, err
				}
				if at = positionOf(at); i == 0 || at < least {
					least = at
				}
			}
			return least, nil
		},
		Reset: func(ctx context.Context) (err error) {
			defer recovered(&err)
			return p.Target.Reset(ctx, p.Name)
		},
		Remove: func(ctx context.Context) (err error) {
			defer recovered(&err)
			remove := p.Target.Reset
			if r, ok := p.Target.(Remover); ok {
				remove = r.Remove
			}
			if err := remove(ctx, p.Name); err != nil {
				return err
			}
			return newWorker(0).desk.box.burn(ctx)
		},
		lane:     &workshop[T]{worker: newWorker},
		replaces: p.Replaces,
	}
	if partitions == 1 {
		t.ended = func(ctx context.Context) (eventstore.Position, bool, error) { return newWorker(0).ended(ctx) }
		t.freeze = func(ctx context.Context) (eventstore.Position, error) { return newWorker(0).freeze(ctx) }
	}
	if p.Inline {
		w, target := newWorker(0), p.Target.(InlineTarget[T])
		t.inline = func(ctx context.Context, tx any, events []*eventstore.Recorded) error {
			return w.within(ctx, tx, target, events)
		}
		t.inlineAt = func(ctx context.Context, tx any, move func(at place) place) (called bool, err error) {
			err = target.UpdateIn(ctx, tx, p.Name, func(_ T, at place) (place, error) {
				called = true
				return move(at), nil
			})
			return called, err
		}
	}
	return t, nil
}

// A plan is what of a projection its handlers and filter say.
type plan[T any] struct {
	handlers map[reflect.Type]Handler[T]
	filter   eventstore.Filter
}

// plan reports everything that is wrong with handlers and filter.
func (p *Projection[T]) plan(store *eventstore.Store) (plan[T], error) {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("projection %s: "+format, append([]any{p.Name}, args...)...))
	}
	if len(p.Handlers) == 0 {
		fault("no Handlers")
	}
	if len(p.Filter.Types) > 0 {
		fault("Filter.Types must be empty: it is filled in from Handlers")
	}
	for _, stream := range p.Filter.Streams {
		if err := stream.Validate(); err != nil {
			fault("Filter.Streams: %w", err)
		}
	}
	for _, category := range p.Filter.Categories {
		if category == "" || strings.Contains(category, "-") {
			fault("Filter.Categories: %q is no category: empty, or with a dash", category)
		}
	}
	filter := p.Filter
	filter.Types = make([]string, 0, len(p.Handlers))
	handlers := make(map[reflect.Type]Handler[T], len(p.Handlers))
	for _, h := range p.Handlers {
		if h.handle == nil {
			fault("a Handler that On did not make, or made of nil")
			continue
		}
		if _, dup := handlers[h.event]; dup {
			fault("two handlers for %v", h.event)
			continue
		}
		handlers[h.event] = h
		name, ok := h.name(&store.Types)
		if !ok {
			todo := "list it among an aggregate's Events, or give it a name by Store.Types.Register"
			if h.event.Kind() == reflect.Pointer {
				todo = "events are values, not pointers"
			}
			fault("handler for %v: %w: %s", h.event, eventstore.ErrUnregistered, todo)
			continue
		}
		filter.Types = append(filter.Types, name)
	}
	return plan[T]{handlers, filter}, errors.Join(faults...)
}

// nameBytes leaves room in a stream's or lease's name for what goes around it.
const nameBytes = 200

func validName(name string) error {
	switch {
	case name == "", len(name) > nameBytes:
		return fmt.Errorf("projection: a name of %d bytes, want 1 to %d", len(name), nameBytes)
	case !utf8.ValidString(name), strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("projection: name %q: not UTF-8, or a control character", name)
	case name[0] == '$':
		return fmt.Errorf("projection: name %q: reserved", name)
	}
	return nil
}
