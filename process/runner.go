package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// A runner runs the instances of a type.
type runner[S any] struct {
	t *Type[S]
	h command.Handler
}

// Task implements projection.Runner.
func (rn *runner[S]) Task(g *projection.Group) (projection.Task, error) {
	d, err := rn.t.define()
	if err != nil {
		return projection.Task{}, err
	}
	types, err := d.types(&g.Store.Types)
	if rn.h == nil {
		err = errors.Join(err, fmt.Errorf("process %s: no handler for its commands", d.Name))
	}
	if _, e := g.Store.Checkpoints(); e != nil {
		err = errors.Join(err, fmt.Errorf("process %s: %w", d.Name, e))
	}
	if _, e := g.Store.Leases(); e != nil {
		err = errors.Join(err, fmt.Errorf("process %s: %w", d.Name, e))
	}
	var fresh S
	if e := sealing.Of(g.Store).Check(pieceType(pieceState), fresh); e != nil {
		err = errors.Join(err, fmt.Errorf("process %s: the state: %w", d.Name, e))
	}
	if err != nil {
		return projection.Task{}, err
	}
	return projection.Task{
		Name:     d.Name,
		Needs:    schedule.Provided,
		Stuck:    (&count{s: g.Store, name: d.Name}).stuck,
		Consumer: consumer(d.Name),
		Run:      func(ctx context.Context) error { return newWorker(d, rn.h, g, types).run(ctx) },
		Load:     func(ctx context.Context) (eventstore.Position, error) { return position(ctx, g.Store, d.Name) },
		Reset:    func(ctx context.Context) error { return reset(ctx, g.Store, d.Name, *d.From) },
		Remove:   func(ctx context.Context) error { return remove(ctx, g.Store, d.Name) },
	}, nil
}

// position returns up to where everything has been handled, by whichever node.
func position(ctx context.Context, s *eventstore.Store, name string) (eventstore.Position, error) {
	list, err := s.Consumers(ctx)
	if err != nil {
		return 0, fmt.Errorf("process %s: %w", name, err)
	}
	for _, c := range list {
		if c.Name == consumer(name) {
			return c.Position, nil
		}
	}
	return 0, nil
}

func reset(ctx context.Context, s *eventstore.Store, name string, from eventstore.Start) error {
	err := s.ResetConsumer(ctx, consumer(name), from)
	if errors.Is(err, eventstore.ErrNoConsumer) {
		return nil
	}
	return err
}

// remove forgets up to where everything was handled, and how far the sweeper is.
func remove(ctx context.Context, s *eventstore.Store, name string) error {
	if err := s.DeleteConsumer(ctx, consumer(name)); err != nil {
		return err
	}
	points, err := s.Checkpoints()
	if err != nil {
		return err
	}
	return points.DeleteCheckpoint(ctx, string(inbox(name)))
}

// A worker is one run of a process on one node.
type worker[S any] struct {
	d     *definition[S]
	h     command.Handler
	g     *projection.Group
	s     *eventstore.Store
	types []string
	log   *slog.Logger
	cache cache

	copies sealing.Copies

	end context.CancelFunc // takes no more

	mu     sync.Mutex
	told   eventstore.Position // by the consumer, while this node has all partitions
	stop   error               // that OnError said Stop because of
	ending bool
	fails  map[string]failing // instances that try again
}

// A failing is why an instance does not get on, and until when it is to be heard of it again: another node may have it then.
type failing struct {
	err   error
	until time.Time
}

// heardOf is by how much an instance that is to try again may be late.
const heardOf = time.Minute

// note keeps why an instance does not get on, or with nil that it does, and returns why some instance does not.
func (w *worker[S]) note(id string, err error, again time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	delete(w.fails, id)
	if err != nil {
		if w.fails == nil {
			w.fails = map[string]failing{}
		}
		w.fails[id] = failing{fmt.Errorf("instance %q: %w", id, err), now.Add(again + heardOf)}
		return w.fails[id].err
	}
	for id, f := range w.fails {
		if now.Before(f.until) {
			return f.err
		}
		delete(w.fails, id)
	}
	return nil
}

func newWorker[S any](d *definition[S], h command.Handler, g *projection.Group, types []string) *worker[S] {
	log := d.Logger
	if log == nil {
		log = g.Logger
	}
	if log == nil {
		log = slog.Default()
	}
	w := &worker[S]{d: d, h: h, g: g, s: g.Store, types: types, log: log.With("process", d.Name), copies: sealing.Of(g.Store)}
	w.cache.init(g.Store, d.Name, d.Cached)
	return w
}

// lookEvery is how often a node that does not have all partitions looks how far the others are.
const lookEvery = 100 * time.Millisecond

// run handles deliveries until ctx ends, and finishes those it has.
func (w *worker[S]) run(ctx context.Context) error {
	defer w.s.Watch(category(w.d.Name), w.cache.appended)()
	ctx, w.end = context.WithCancel(ctx)
	defer w.end()
	// The consumer keeps its partitions until what was begun is finished.
	cctx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	var under sync.WaitGroup
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		w.mu.Lock()
		w.ending = true // nothing is begun from here on
		w.mu.Unlock()
		under.Wait()
		leave()
	}()
	defer func() {
		w.end()
		<-stopped
	}()
	var beside sync.WaitGroup
	beside.Go(func() { w.watch(cctx) })
	if w.d.KeepEnded > 0 {
		sw := &sweeper{s: w.s, name: w.d.Name, keep: w.d.KeepEnded, log: w.log, id: eventstore.NewID().String()}
		beside.Go(func() { sw.run(ctx) })
	}
	defer func() {
		w.end()
		leave()
		beside.Wait()
	}()

	c := eventstore.Consumer{
		Name: consumer(w.d.Name), From: *w.d.From, Partitions: w.d.Partitions,
		Filter: eventstore.Filter{Types: append([]string{dueType(w.d.Name), askType(w.d.Name)}, w.types...), System: true},
		Keys:   w.keys, Progress: w.progress, Batch: 1, InFlight: w.d.InFlight, Lease: w.d.Lease,
	}
	for d, err := range w.s.Consume(cctx, c) {
		if err != nil {
			w.mu.Lock()
			stop := w.stop
			w.mu.Unlock()
			switch {
			case stop != nil:
				return stop
			case ctx.Err() != nil && !errors.Is(err, eventstore.ErrClosed):
				return nil
			}
			return err
		}
		w.mu.Lock()
		begin := !w.ending
		if begin {
			under.Add(1)
		}
		w.mu.Unlock()
		if begin { // or it will be delivered again, elsewhere
			go func() {
				defer under.Done()
				w.deliver(context.WithoutCancel(ctx), d)
			}()
		}
	}
	return nil
}

// keys tells the instances that an event concerns. It is called with the consumer's lock held.
func (w *worker[S]) keys(r *eventstore.Recorded) []string {
	if r.Type == dueType(w.d.Name) || r.Type == askType(w.d.Name) {
		var m message
		if err := json.Unmarshal(r.Raw, &m); err != nil {
			return nil
		}
		return []string{m.Instance}
	}
	_, ids, err := w.d.route(r)
	if err != nil {
		return []string{""}
	}
	return ids
}

// progress is called while this node has all partitions.
func (w *worker[S]) progress(at eventstore.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at > w.told {
		w.told = at
		w.g.Moved(w.d.Name, at)
	}
}

// watch tells the group how far all nodes together are, while this one does not have all partitions.
func (w *worker[S]) watch(ctx context.Context) {
	for {
		head, err := w.s.Head(ctx)
		w.mu.Lock()
		told := w.told
		w.mu.Unlock()
		if err == nil && told < head {
			if at, err := position(ctx, w.s, w.d.Name); err == nil {
				w.progress(at)
			}
		}
		if !sleep(ctx, lookEvery) {
			return
		}
	}
}

// A message is an event in the process's inbox: a timer that is due, or what a person decided.
type message struct {
	Instance string `json:"instance"`
	Timer    string `json:"timer,omitempty"`
	Ask      string `json:"ask,omitempty"`
	Event    *Ref   `json:"event,omitempty"` // to be handled now, with askHandle
}

// What an instance may be asked.
const (
	askRetry  = "retry"
	askSkip   = "skip"
	askCancel = "cancel"
	askHandle = "handle" // an event that nobody could say whom it concerns, then
)

// deliver handles an event for all instances that it concerns and that are in the delivery's partition.
func (w *worker[S]) deliver(ctx context.Context, d *eventstore.Delivery) {
	ctx = w.g.Handling(ctx, w.d.Name)
	var ids []string
	for _, r := range d.Events {
		for _, id := range w.keys(r) {
			if eventstore.PartitionOf(id, w.d.Partitions) == d.Partition && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	}
	again := time.Duration(-1)
	var failing error
	for _, id := range ids {
		pause, err := w.handle(ctx, id, d.Events, len(ids) > 1)
		if failing = w.note(id, err, pause); err != nil && (again < 0 || pause < again) {
			again = max(pause, 0)
		}
	}
	w.mu.Lock()
	stop := w.stop
	w.mu.Unlock()
	if again < 0 {
		w.g.Handled(w.d.Name, 1, 0)
	}
	if failing != nil { // this instance, or another one
		w.g.Failing(w.d.Name, failing)
	}
	switch {
	case stop != nil && again >= 0:
		// It is given back when the consumer ends.
	case again >= 0:
		d.Retry(again)
	default:
		if err := d.Ack(ctx); err != nil && !errors.Is(err, eventstore.ErrClosed) {
			w.log.DebugContext(ctx, "process: an acknowledgement failed, the event will be passed over", "position", d.Position, "err", err)
		}
	}
}

// handle handles an event for one instance. An error says that it is to be delivered again after a pause.
func (w *worker[S]) handle(ctx context.Context, id string, parts []*eventstore.Recorded, shared bool) (time.Duration, error) {
	in := w.cache.take(id)
	defer w.cache.put(in)
	j := &job[S]{w: w, in: in, ctx: ctx, shared: shared}
	err := func() (err error) {
		defer recovered(&err)
		return j.handle(parts)
	}()
	if err == nil {
		return 0, nil
	}
	in.loaded = false // what is stored counts
	var v *verdict
	if !errors.As(err, &v) {
		in.storeFaults++
		d := pause(in.storeFaults)
		if !errors.Is(err, eventstore.ErrClosed) {
			w.log.WarnContext(ctx, "process: an instance cannot be read or written, it will be tried again", "instance", id, "pause", d, "err", err)
		}
		return d, err
	}
	about := []any{"instance", id, "type", v.Event.Type, "stream", v.Event.Stream, "version", v.Event.Version, "attempt", v.Attempt, "err", v.Err}
	if v.Command != nil {
		about = append(about, "command", fmt.Sprintf("%T", v.Command))
	}
	if p, ok := errors.AsType[*PanicError](v.Err); ok {
		about = append(about, "stack", string(p.Stack))
	}
	if v.kind == stop {
		w.log.ErrorContext(ctx, "process: stopped", about...)
		w.mu.Lock()
		if w.stop == nil {
			w.stop = fmt.Errorf("process %s: instance %q: %w", w.d.Name, id, v.Err)
		}
		w.mu.Unlock()
		w.end()
		return 0, err
	}
	w.log.WarnContext(ctx, "process: an instance will try again", append(about, "pause", v.after)...)
	return v.after, err
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
