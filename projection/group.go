package projection

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore"
)

// A Group runs projections on a store, and knows how far each has come. Its
// fields are set before Add. Its methods are safe for concurrent use.
type Group struct {
	Store  *eventstore.Store
	Logger *slog.Logger // default slog.Default()
	Trace  *Trace

	// OnError is for projections that have none of their own; nil means Retry.
	OnError func(Failure) Action

	mu      sync.Mutex
	id      string             // of this group among all processes
	ctx     context.Context    // of Run; nil when it does not run
	fault   context.CancelFunc // ends Run
	err     error              // what Run is to return
	tasks   sync.WaitGroup
	members []*member
	byName  map[string]*member

	listeners listeners
}

// A Runner is a *Projection[T] for some T, or something else that follows a
// store and is to be run, watched and waited for like one.
type Runner interface {
	// Task returns what g is to run.
	Task(g *Group) (Task, error)
}

// A Task is a named loop that calls Group.Moved as it goes.
type Task struct {
	Name string

	// Run handles events until ctx ends; what was begun is finished first. It
	// returns nil then, an error that Is eventstore.ErrClosed if the store was
	// closed, and any other error to be stopped with it. It may be called again.
	Run func(ctx context.Context) error

	// Load returns the durable position. Nil means that there is none: only
	// where the task runs can it be waited for.
	Load func(ctx context.Context) (eventstore.Position, error)

	// Consumer is the name of the consumer whose position Load returns, if it is that of one: its members
	// write the position without delay while Wait waits for it in another process.
	Consumer string

	// Reset starts over from position 0. It is called while Run does not run.
	// Nil means that the task cannot be reset.
	Reset func(ctx context.Context) error

	// Stuck, if set, counts what the task cannot get over by itself, which Status has, and returns the position of the
	// first event that is still needed for it or for what the task will try again by itself, 0 if there is none. It should
	// be cheap, and is called by several goroutines.
	Stuck func(ctx context.Context) (n int, first eventstore.Position, err error)

	// Remove forgets everything that the task keeps to get on, its position too. It is called while Run does not run. Nil means that Reset
	// does; without either the task cannot be removed.
	Remove func(ctx context.Context) error

	// Needs names what another task has to provide, and Provides what this one does. Add refuses a task whose
	// need neither the Group meets nor what is added with it.
	Needs, Provides string

	lane lane // nil if the task parks nothing

	inline   func(ctx context.Context, tx any, events []*eventstore.Recorded) error // nil if it is not
	inlineAt func(ctx context.Context, tx any, move func(at place) place) (called bool, err error)
	replaces string
	ended    func(ctx context.Context) (mark eventstore.Position, yes bool, err error)
	freeze   func(ctx context.Context) (mark eventstore.Position, err error) // nil if it cannot be replaced
}

// announce is the name under which those who write the position look who waits for it.
func (t *Task) announce() string { return cmp.Or(t.Consumer, t.Name) }

// A member is a task of a group. The group's lock guards it.
type member struct {
	task      Task
	state     State
	at        eventstore.Position // handled up to here
	err       error               // why it does not get on
	handled   uint64
	skipped   uint64
	rate      rate
	stop      context.CancelFunc // of the run under way; nil if there is none
	ended     chan struct{}      // closed when the run under way has ended
	told      bool               // the run under way was told to end
	paused    bool
	resets    int // under way: the task must not run
	waiters   []*waiter
	calls     []*waiter // of its own handler
	old       *member   // that it replaces, or is to
	next      *member   // that replaces it, or is to
	succeeded bool      // next is the one to read from
	taken     bool      // it has taken over from old, which ended at mark
	mark      eventstore.Position
	removed   bool
	unhook    func()  // from the appends, if it is inline
	pace      rate    // of positions
	crew      *crew   // of its partitions, while they run
	poller    *waiter // looks at the durable position for all waiters, where the task does not run here
}

// Add adds runners. It reports everything that is wrong with any of them, and
// then adds none. Runners cannot be added while Run runs.
func (g *Group) Add(rs ...Runner) error {
	if g.Store == nil {
		return errors.New("projection: a Group without a Store")
	}
	var faults []error
	var tasks []Task
	names := map[string]bool{}
	for _, r := range rs {
		if r == nil {
			faults = append(faults, errors.New("projection: a nil Runner"))
			continue
		}
		t, err := r.Task(g)
		switch {
		case err != nil:
			faults = append(faults, err)
		case names[t.Name]:
			faults = append(faults, fmt.Errorf("projection: two are named %q", t.Name))
		default:
			tasks = append(tasks, t)
		}
		names[t.Name] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx != nil {
		faults = append(faults, errors.New("projection: Add while the Group runs"))
	}
	for _, t := range tasks {
		if g.byName[t.Name] != nil {
			faults = append(faults, fmt.Errorf("projection: two are named %q", t.Name))
		}
		for _, m := range g.members {
			if clash(t.Name, m.task.Name) || clash(m.task.Name, t.Name) {
				faults = append(faults, fmt.Errorf("projection: of %q and %q one could be a part of the other", t.Name, m.task.Name))
			}
		}
		for _, o := range tasks {
			if clash(o.Name, t.Name) {
				faults = append(faults, fmt.Errorf("projection: %q could be a part of %q", t.Name, o.Name))
			}
		}
	}
	faults = append(faults, g.link(tasks, func(name string) *Task {
		for i := range tasks {
			if tasks[i].Name == name {
				return &tasks[i]
			}
		}
		if m := g.byName[name]; m != nil {
			return &m.task
		}
		return nil
	}))
	faults = append(faults, g.unmet(tasks))
	if err := errors.Join(faults...); err != nil {
		return err
	}
	unhook, err := g.hook(tasks)
	if err != nil {
		return err
	}
	if g.byName == nil {
		g.byName, g.id = map[string]*member{}, uuid.NewString()
	}
	for _, t := range tasks {
		m := &member{task: t, state: StandBy, unhook: unhook[t.Name]}
		g.members, g.byName[t.Name] = append(g.members, m), m
	}
	for _, t := range tasks {
		if old := g.byName[t.replaces]; old != nil {
			m := g.byName[t.Name]
			m.old, old.next = old, m
		}
	}
	return nil
}

// hook lets those tasks that are inline take part in appends, a predecessor before its successor, and returns by name what
// ends that.
func (g *Group) hook(tasks []Task) (map[string]func(), error) {
	byName, unhook := map[string]*Task{}, map[string]func(){}
	for i := range tasks {
		byName[tasks[i].Name] = &tasks[i]
	}
	var hook func(t *Task) error
	hook = func(t *Task) error {
		if t == nil || t.inline == nil || unhook[t.Name] != nil {
			return nil
		}
		if err := hook(byName[t.replaces]); err != nil {
			return err
		}
		stop, err := g.Store.Inline(t.inline)
		if err != nil {
			return fmt.Errorf("projection %s: %w", t.Name, err)
		}
		unhook[t.Name] = stop
		return nil
	}
	for i := range tasks {
		if err := hook(&tasks[i]); err != nil {
			for _, stop := range unhook {
				stop()
			}
			return nil, err
		}
	}
	return unhook, nil
}

// unmet reports what tasks need and neither they nor the group provide. The caller holds g.mu.
func (g *Group) unmet(tasks []Task) error {
	provided := map[string]bool{"": true}
	for _, m := range g.members {
		provided[m.task.Provides] = true
	}
	for _, t := range tasks {
		provided[t.Provides] = true
	}
	var faults []error
	for _, t := range tasks {
		if !provided[t.Needs] {
			faults = append(faults, fmt.Errorf("projection: %s needs %s in its Group: add that with it, or before", t.Name, t.Needs))
		}
	}
	return errors.Join(faults...)
}

// Run runs everything until ctx ends, lets the batches under way be finished,
// and returns nil. The store stays open: it belongs to whoever opened it. If
// the store or a target is closed under a projection, Run ends everything and
// returns an error that Is eventstore.ErrClosed. A projection that fails or
// stops does not end Run. Run may be called again after it has returned, but
// not while it runs.
func (g *Group) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g.mu.Lock()
	if g.ctx != nil {
		g.mu.Unlock()
		return errors.New("projection: the Group runs already")
	}
	g.ctx, g.fault, g.err = ctx, cancel, nil
	for _, m := range g.members {
		g.start(m)
	}
	g.mu.Unlock()

	<-ctx.Done()
	g.mu.Lock()
	g.ctx = nil // from here nothing is started
	g.mu.Unlock()
	g.tasks.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.members {
		if m.state == Running || m.state == StandBy {
			g.setState(m, StandBy, m.err)
		}
	}
	return g.err
}

// start runs m's task, unless it runs, must not, or the group does not run. The
// caller holds g.mu.
func (g *Group) start(m *member) {
	if g.ctx == nil || g.ctx.Err() != nil || m.stop != nil || m.paused || m.removed || m.resets > 0 {
		return
	}
	ctx, stop := context.WithCancel(g.ctx)
	m.stop, m.ended, m.told = stop, make(chan struct{}), false
	g.setState(m, Running, nil)
	g.tasks.Go(func() {
		err := errGoexit
		defer func() {
			stop()
			g.end(m, err)
		}()
		err = run(ctx, m.task)
	})
}

func run(ctx context.Context, t Task) (err error) {
	defer recovered(&err)
	return t.Run(ctx)
}

var errGoexit = errors.New("projection: a handler ended its goroutine (runtime.Goexit)")

// end records how a run of m's task ended.
func (g *Group) end(m *member, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(m.ended)
	m.stop = nil
	var stopped *stopError
	switch {
	case errors.As(err, &stopped):
		g.setState(m, Stopped, stopped.err)
	case errors.Is(err, errReplaced):
		g.setState(m, Replaced, nil)
	case m.told && m.paused:
		g.setState(m, Paused, nil)
	case errors.Is(err, eventstore.ErrClosed):
		g.setState(m, StandBy, err)
		if g.err == nil {
			g.err = fmt.Errorf("projection %s: %w", m.task.Name, err)
		}
		g.fault()
	case err == nil && (m.told || g.ctx == nil || g.ctx.Err() != nil):
		g.setState(m, StandBy, nil)
		g.start(m)
	default:
		if err == nil {
			err = errors.New("projection: the task ended by itself")
		}
		g.logger().Error("projection stopped", "projection", m.task.Name, "err", err)
		g.setState(m, Stopped, err)
	}
}

// Pause lets the named projection finish its batch and then rest until Resume,
// in this process: one that stands by elsewhere may take over, and the appends of this process go on without one that is inline. If ctx ends before
// the batch does, Pause returns its error, and the projection rests all the same.
func (g *Group) Pause(ctx context.Context, name string) error {
	m, err := g.named(ctx, name, "pause")
	if err != nil {
		return err
	}
	g.mu.Lock()
	m.paused = true
	if m.stop == nil {
		g.setState(m, Paused, nil)
	}
	g.mu.Unlock()
	if err := g.rest(ctx, m); err != nil {
		return fmt.Errorf("projection: pause %s: %w", name, err)
	}
	return nil
}

// Resume starts the named projection again after Pause or Stop. It is a no-op
// for one that runs.
func (g *Group) Resume(name string) error {
	m := g.member(name)
	if m == nil {
		return &StoppedError{Name: name}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m.paused = false
	if m.stop == nil {
		g.setState(m, StandBy, nil)
	}
	g.start(m)
	return nil
}

// Reset lets the named projection finish its batch, empties its read model, and
// starts it again, even if it was paused or stopped: every event is handled
// anew. Processes that run the same projection on the same target start over,
// too. When Reset returns the model is empty and being filled; Wait says when it has
// caught up. If the target cannot be reset, the projection goes on where it was.
func (g *Group) Reset(ctx context.Context, name string) error {
	m, err := g.named(ctx, name, "reset")
	if err != nil {
		return err
	}
	if m.task.Reset == nil {
		return fmt.Errorf("projection: reset %s: %w", name, errors.ErrUnsupported)
	}
	g.mu.Lock()
	m.resets++
	g.mu.Unlock()
	var gone bool
	if err = g.rest(ctx, m); err == nil && m.next != nil {
		_, gone, err = m.task.ended(ctx)
	}
	if err == nil {
		err = m.task.Reset(ctx)
	}
	if err == nil && gone { // it stays replaced
		_, err = m.task.freeze(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m.resets--
	if err == nil {
		m.paused = false
		if m.old != nil { // the predecessor answers until it is there again
			m.old.succeeded = false
		}
		g.setState(m, StandBy, nil)
		g.moved(m, 0)
	}
	if m.state != Stopped {
		g.start(m)
	}
	if err != nil {
		return fmt.Errorf("projection: reset %s: %w", name, err)
	}
	return nil
}

// Remove lets the named projection finish its batch, takes it out of the group, and empties and forgets its read model, its
// position and its dead letters: with an InlineTarget, a Checkpointed or a Memory nothing of it is left. Whoever waits for it
// is told that there is none of the name, which can then be added again. Remove is for the last process that has the projection:
// others would fill the model anew, or fail on it.
//
// Of a projection that replaces another only the other can be removed, once it has been replaced; before that, only the
// one that is to replace it. A process is taken out with its position; what its instances keep stays. What keeps something else
// that cannot be forgotten, such as schedule.Timers, is errors.ErrUnsupported. If an error is returned the projection goes on.
func (g *Group) Remove(ctx context.Context, name string) error {
	m, err := g.named(ctx, name, "remove")
	if err != nil {
		return err
	}
	forget := m.task.Remove
	if forget == nil {
		forget = m.task.Reset
	}
	if forget == nil {
		return fmt.Errorf("projection: remove %s: %w", name, errors.ErrUnsupported)
	}
	g.mu.Lock()
	old, next := m.old, m.next
	m.resets++
	m.removed = true // appends leave it alone
	g.mu.Unlock()
	if err = g.rest(ctx, m); err == nil {
		err = g.removable(ctx, m, old, next)
	}
	if err == nil {
		err = forget(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m.resets--
	switch {
	case g.byName[name] != m: // somebody else was faster
		return &StoppedError{Name: name}
	case err != nil:
		if m.removed = false; m.state != Stopped {
			g.start(m)
		}
		return fmt.Errorf("projection: remove %s: %w", name, err)
	}
	if m.unhook != nil {
		m.unhook()
	}
	delete(g.byName, name)
	g.members = slices.DeleteFunc(slices.Clone(g.members), func(o *member) bool { return o == m })
	if next != nil {
		next.old = nil
	}
	if old != nil {
		old.next = nil
	}
	m.wake(math.MaxUint64)
	return nil
}

// removable returns why m cannot be removed because of what it replaces, or what replaces it.
func (g *Group) removable(ctx context.Context, m, old, next *member) error {
	if next != nil {
		if done, err := g.succeeded(ctx, m); err != nil {
			return err
		} else if !done {
			return fmt.Errorf("%w: %s is to replace it, and has not yet", eventstore.ErrInvalid, next.task.Name)
		}
	}
	if old != nil {
		if _, ended, err := old.task.ended(ctx); err != nil {
			return err
		} else if ended {
			return fmt.Errorf("%w: it has replaced %s: remove that before", eventstore.ErrInvalid, old.task.Name)
		}
	}
	return nil
}

// partaking returns the named member if it takes part in appends now.
func (g *Group) partaking(name string) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.byName[name]; m != nil && !m.paused && !m.removed {
		return m
	}
	return nil
}

// named returns the member to do something to that it must not do to itself.
func (g *Group) named(ctx context.Context, name, what string) (*member, error) {
	m := g.member(name)
	if m == nil {
		return nil, &StoppedError{Name: name}
	}
	if g.handles(ctx, name) {
		return nil, fmt.Errorf("projection: %s %s: called by its own handler", what, name)
	}
	return m, nil
}

// rest ends the run of m's task that is under way, if there is one.
func (g *Group) rest(ctx context.Context, m *member) error {
	g.mu.Lock()
	if m.stop == nil {
		g.mu.Unlock()
		return nil
	}
	m.told = true
	m.stop()
	ended := m.ended
	g.mu.Unlock()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Moved records that the named runner has handled everything up to pos. It is
// called by what a Task runs.
func (g *Group) Moved(name string, pos eventstore.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.byName[name]; m != nil {
		g.moved(m, pos)
	}
}

func (g *Group) moved(m *member, pos eventstore.Position) {
	if pos > m.at {
		m.pace.add(time.Now(), int(pos-m.at))
	}
	m.at = pos
	m.wake(pos)
}

// wake wakes those that wait for m, or for what it replaces, to come to a position up to pos.
func (m *member) wake(pos eventstore.Position) {
	for ; m != nil; m = m.old {
		for _, w := range m.waiters {
			if w.pos <= pos {
				w.wake()
			}
		}
	}
}

// progress records that n events of m were handled, all up to pos.
func (g *Group) progress(m *member, pos eventstore.Position, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.err = nil
	m.handled += uint64(n)
	m.rate.add(time.Now(), n)
	g.moved(m, pos)
}

// skip records that an event of m was left out.
func (g *Group) skip(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.skipped++
}

// failing records why m does not get on, or with nil that it does.
func (g *Group) failing(m *member, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.err = err
}

// standing records whether m's run leaves the work to another process.
func (g *Group) standing(m *member, by bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if by {
		g.setState(m, StandBy, m.err)
	} else {
		g.setState(m, Running, m.err)
	}
}

// setState tells everyone who waits, since a state decides how to wait.
func (g *Group) setState(m *member, s State, err error) {
	m.err = err
	if m.state == s {
		return
	}
	m.state = s
	m.wake(math.MaxUint64)
}

func (g *Group) member(name string) *member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byName[name]
}

func (g *Group) logger() *slog.Logger {
	if g.Logger != nil {
		return g.Logger
	}
	return slog.Default()
}

// handling is the context key for which projections' handlers a call comes from.
type handling struct{}

type handler struct {
	store *eventstore.Store
	name  string
	run   context.Context // of the group whose handler it is
	outer *handler
}

// inHandler returns a context for the handlers of the named projection.
func (g *Group) inHandler(ctx context.Context, name string) context.Context {
	g.mu.Lock()
	run := g.ctx
	g.mu.Unlock()
	if run == nil {
		run = over
	}
	return context.WithValue(ctx, handling{}, &handler{g.Store, name, run, handlerOf(ctx)})
}

// handlerOf returns the handler that ctx comes from, or nil.
func handlerOf(ctx context.Context) *handler {
	h, _ := ctx.Value(handling{}).(*handler)
	return h
}

// over is the context of a Run that has ended.
var over = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// ending reports whether the group of the handler ends.
func (h *handler) ending() bool { return h != nil && h.run.Err() != nil }

// handles reports whether ctx comes from a handler of the named projection.
func (g *Group) handles(ctx context.Context, name string) bool {
	for h := handlerOf(ctx); h != nil; h = h.outer {
		if h.store == g.Store && h.name == name {
			return true
		}
	}
	return false
}
