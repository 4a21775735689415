package process_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

var quiet = slog.New(slog.DiscardHandler)

// What comes in.
type (
	Began struct {
		ID string
		Do []string // what is to be done
	}
	Went  struct{ ID, Do string }
	Met   struct{ IDs []string }
	Ended struct{ ID string }
)

// What goes out.
type (
	Do     struct{ ID, What string }
	Report struct{ ID string } // never listed in Commands
)

func (c Do) AggregateID() string     { return c.ID }
func (c Report) AggregateID() string { return c.ID }

// A Job is the state: what came in.
type Job struct{ Log []string }

func (j *Job) began(e Began) (cmds []command.Command) {
	j.Log = append(j.Log, "began")
	for _, what := range e.Do {
		cmds = append(cmds, Do{e.ID, what})
	}
	return cmds
}

func (j *Job) went(e Went) []command.Command {
	if e.Do == "panic" {
		j.Log = nil
		panic(errBroken)
	}
	j.Log = append(j.Log, "went "+e.Do)
	if e.Do == "" {
		return nil
	}
	return []command.Command{Do{e.ID, e.Do}}
}

func (j *Job) met(e Met) []command.Command {
	j.Log = append(j.Log, "met")
	return nil
}

func (j *Job) ended(e Ended) []command.Command { return []command.Command{Do{e.ID, "end"}} }

var (
	errRefused = errors.New("it says no")
	errBroken  = errors.New("it is broken")
)

func jobs() *process.Type[Job] {
	return &process.Type[Job]{
		Name: "job",
		Routes: []process.Route[Job]{
			process.Start(func(e Began) string { return e.ID }, (*Job).began),
			process.On(func(e Went) string { return e.ID }, (*Job).went),
			process.On(func(e Met) []string { return e.IDs }, (*Job).met),
			process.End(func(e Ended) string { return e.ID }, (*Job).ended),
		},
		Commands: map[string]command.Command{"do": Do{}},
		Logger:   quiet,
	}
}

// A world executes commands as it is told, and keeps which. Like aggregates, it executes those with one key once.
type world struct {
	mu    sync.Mutex
	asked []string            // all
	done  []string            // executed
	keys  map[string]bool     // of those
	fails map[string][]result // by what is to be done, one for each time
	sees  func(ctx context.Context, e *command.Envelope)
}

type result struct {
	err     error
	refused bool
}

func (w *world) fail(what string, refused bool, errs ...error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails == nil {
		w.fails = map[string][]result{}
	}
	for _, err := range errs {
		w.fails[what] = append(w.fails[what], result{err, refused})
	}
}

func (w *world) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := e.Command.(Do)
	if !ok {
		return command.Result{}, fmt.Errorf("%w for %T", command.ErrUnrouted, e.Command)
	}
	w.asked = append(w.asked, c.What)
	if w.sees != nil {
		w.sees(ctx, e)
	}
	if list := w.fails[c.What]; len(list) > 0 {
		w.fails[c.What] = list[1:]
		return command.Result{Refused: list[0].refused}, list[0].err
	}
	if w.keys[e.Key] {
		return command.Result{Repeated: true}, nil
	}
	if w.keys == nil {
		w.keys = map[string]bool{}
	}
	w.keys[e.Key] = true
	w.done = append(w.done, c.What)
	return command.Result{Stream: "work-" + eventstore.StreamName(c.ID), Version: 1}, nil
}

func (w *world) did() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string{}, w.done...)
}

// A lab runs processes on a store, as the test says.
type lab struct {
	t     *testing.T
	store *eventstore.Store
	group *projection.Group
	stop  func() error
}

// begin runs runners on d, or a new store, until the test or stop ends them.
func begin(t *testing.T, d driver.Store, runners func(s *eventstore.Store) []projection.Runner) *lab {
	t.Helper()
	if d == nil {
		d = memstore.NewDriver()
	}
	l := &lab{t: t, store: eventstore.New(d, &eventstore.Options{Logger: quiet})}
	for name, e := range map[string]any{"began": Began{}, "went": Went{}, "met": Met{}, "ended": Ended{}} {
		require.NoError(t, l.store.Types.Register(name, e))
	}
	l.group = &projection.Group{Store: l.store, Logger: quiet}
	require.NoError(t, l.group.Add(runners(l.store)...))
	l.run()
	return l
}

// job runs one process, with timers.
func job(t *testing.T, typ *process.Type[Job], w *world) *lab {
	t.Helper()
	return begin(t, nil, func(*eventstore.Store) []projection.Runner {
		return []projection.Runner{typ.Open(w), &schedule.Timers{}}
	})
}

func (l *lab) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = l.group.Run(ctx)
	}()
	l.stop = func() error {
		cancel()
		<-ended
		return err
	}
	stop := l.stop
	l.t.Cleanup(func() { _ = stop() })
}

// happen appends events, each to a stream of its own kind, and waits until everybody is idle.
func (l *lab) happen(events ...any) {
	l.t.Helper()
	for _, e := range events {
		_, err := l.store.Append(l.t.Context(), "source-1", eventstore.Any, eventstore.Event{Data: e})
		require.NoError(l.t, err)
	}
	synctest.Wait()
}

func (l *lab) read(id string) process.Instance {
	l.t.Helper()
	in, err := process.Read(l.t.Context(), l.store, "job", id)
	require.NoError(l.t, err)
	return in
}

// history returns what happened to an instance, without the prefix that all have.
func (l *lab) history(id string) (what []string) {
	l.t.Helper()
	for e, err := range process.History(l.t.Context(), l.store, "job", id) {
		require.NoError(l.t, err)
		what = append(what, e.What[len("$process."):])
	}
	return what
}

// outcomes returns what became of the commands of the last event that an instance handled.
func (l *lab) outcomes(id string) (list []string) {
	l.t.Helper()
	for e, err := range process.History(l.t.Context(), l.store, "job", id) {
		require.NoError(l.t, err)
		list = nil
		for _, s := range e.Sent {
			list = append(list, fmt.Sprintf("%s %s", s.Path, s.Outcome))
		}
	}
	return list
}

func (l *lab) status(name string) projection.Status {
	l.t.Helper()
	list, err := l.group.Status(l.t.Context())
	require.NoError(l.t, err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	l.t.Fatalf("no %s", name)
	return projection.Status{}
}

// A driver that several stores share is not closed by one of them, and not written by one alone.
type shared struct{ everything }

type everything interface {
	driver.Store
	driver.Batcher
	driver.Checkpointer
	driver.Leaser
	driver.Lister
	driver.Deleter
}

func (shared) Close() error { return nil }

func (s shared) Limits() driver.Limits {
	l := s.everything.Limits()
	l.Exclusive = false
	return l
}
