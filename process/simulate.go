package process

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// A Simulation runs the instances of a type without a store, for tests and for tools; see package
// processtest. It is not safe for concurrent use.
type Simulation[S any] struct {
	// Execute says what becomes of a command. Nil executes all.
	Execute func(instance string, c command.Command) (command.Result, error)
	// Observe, if it is set, is shown each command before it is executed, and what After, At and Cancel made.
	Observe func(instance string, c command.Command)

	d         *definition[S]
	now       time.Time
	instances map[string]*simulated[S]
	count     uint64
}

type simulated[S any] struct {
	begun  bool
	state  S
	timers []timer
}

// Simulate returns a Simulation of t in which nothing has happened yet, or what is wrong with t.
func Simulate[S any](t *Type[S], now time.Time) (*Simulation[S], error) {
	d, err := t.define()
	if err != nil {
		return nil, err
	}
	return &Simulation[S]{d: d, now: now, instances: map[string]*simulated[S]{}}, nil
}

// Clone returns a Simulation that goes on from the same state by itself.
func (m *Simulation[S]) Clone() (*Simulation[S], error) {
	c := *m
	c.instances = make(map[string]*simulated[S], len(m.instances))
	for id, in := range m.instances {
		state, err := copied(in.state)
		if err != nil {
			return nil, err
		}
		c.instances[id] = &simulated[S]{in.begun, state, slices.Clone(in.timers)}
	}
	return &c, nil
}

// Now returns the time of the simulation.
func (m *Simulation[S]) Now() time.Time { return m.now }

// State returns the state of an instance, and whether it has begun and not ended.
func (m *Simulation[S]) State(id string) (state S, begun bool) {
	if in := m.instances[id]; in != nil {
		return in.state, in.begun
	}
	return state, false
}

// Handle lets the instances that data, an event, concerns handle it. The error is that of a Failure about which the type
// says Retry, Park or Stop; the instance then is as it was before. An event without a route is an
// eventstore.ErrInvalid.
func (m *Simulation[S]) Handle(data any) error {
	if m.d.routes[reflect.TypeOf(data)] == nil {
		return fmt.Errorf("process %s: %w: no route for %T", m.d.Name, eventstore.ErrInvalid, data)
	}
	r := m.record(eventstore.Event{Data: data, Type: fmt.Sprintf("%T", data)})
	_, ids, err := m.d.route(r)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, m.step(id, r, func(st *step[S]) error { return st.run([]*eventstore.Recorded{r}) }))
	}
	return errors.Join(errs...)
}

// Pass lets time pass, and the timers come due in it, in order.
func (m *Simulation[S]) Pass(d time.Duration) error {
	end := m.now.Add(d)
	var errs []error
	for {
		id, t, ok := m.next(end)
		if !ok {
			m.now = end
			return errors.Join(errs...)
		}
		m.now = t.At
		r := m.record(eventstore.Event{Type: dueType(m.d.Name)})
		err := m.step(id, r, func(st *step[S]) error { return st.fire(t, r) })
		if err != nil {
			in := m.instances[id] // it would be stuck at the timer
			in.timers = slices.DeleteFunc(in.timers, func(x timer) bool { return x.ID == t.ID })
			errs = append(errs, err)
		}
	}
}

// next returns the first timer that comes due until end.
func (m *Simulation[S]) next(end time.Time) (id string, first timer, ok bool) {
	for instance, in := range m.instances {
		for _, t := range in.timers {
			if !t.At.After(end) && (!ok || t.At.Before(first.At) || t.At.Equal(first.At) && instance < id) {
				id, first, ok = instance, t, true
			}
		}
	}
	return id, first, ok
}

func (m *Simulation[S]) record(e eventstore.Event) *eventstore.Recorded {
	m.count++
	e.ID = eventstore.NewID()
	return &eventstore.Recorded{Event: e, Stream: "test", Version: eventstore.Version(m.count), Position: eventstore.Position(m.count), Time: m.now}
}

func (m *Simulation[S]) step(id string, r *eventstore.Recorded, run func(*step[S]) error) error {
	in := m.instances[id]
	if in == nil {
		in = &simulated[S]{}
		m.instances[id] = in
	}
	st := &step[S]{
		observe: func(c command.Command) {
			if m.Observe != nil {
				m.Observe(id, c)
			}
		},
		d: m.d, id: id, begun: in.begun, timers: in.timers,
		attempt: func(string) int { return 1 },
		save:    func() error { return nil },
		dispatch: func(_ *eventstore.Recorded, c command.Command, _ string) (command.Result, error) {
			if m.Execute == nil {
				return command.Result{}, nil
			}
			return m.Execute(id, c)
		},
	}
	var err error
	if st.state, err = copied(in.state); err != nil {
		return err
	}
	if err := run(st); err != nil {
		return err
	}
	in.begun, in.timers = st.begun, st.timers
	in.state, err = copied(st.state)
	return err
}
