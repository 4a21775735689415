package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// A step is what one instance does about one event. It is the same whether it runs for
// the first time, again after a crash, or in a test without a store.
type step[S any] struct {
	d  *definition[S]
	id string

	// How things stand, and after run, how they stand then.
	begun  bool
	state  S
	timers []timer

	known map[string]*Sent // outcomes by path, from an earlier run that was cut short
	sent  []Sent

	// dispatch sends a command; key is the same in every run.
	dispatch func(r *eventstore.Recorded, c command.Command, key string) (command.Result, error)
	// save makes sent durable, before anything is done that follows from an outcome that nobody else remembers.
	save func() error
	// observe, if set, is shown every command and timer that is returned and not left out.
	observe func(c command.Command)
	// attempt counts the attempts at a path.
	attempt func(path string) int
	// owners, if set, tells whose data a command is.
	owners func(name string, c command.Command) []string
	// repeating is set where the state is made anew of what is left of the events: what is known of commands
	// counts only for the same ones.
	repeating bool

	touched bool // the instance is concerned
	ended   bool
	unsaved bool
	event   *eventstore.Recorded
	source  string // of the keys: the event's, or the timer's, ID
}

// A verdict ends a step before its end.
type verdict struct {
	Action
	Failure
}

func (v *verdict) Error() string { return v.Err.Error() }
func (v *verdict) Unwrap() error { return v.Err }

// run handles an event, which comes in parts where an upcast split it.
func (st *step[S]) run(parts []*eventstore.Recorded) error {
	for _, r := range parts {
		st.event, st.source = r, r.ID.String()
		path := strconv.Itoa(r.Part)
		rt, mine, err := st.d.concerns(r, st.id)
		if err == nil && !mine {
			continue
		}
		if err == nil {
			switch {
			case rt.strict && rt.kind == startRoute && st.begun:
				err = ErrStarted
			case rt.strict && rt.kind != startRoute && !st.begun:
				err = ErrNotStarted
			case rt.kind != startRoute && !st.begun:
				continue
			}
			if err != nil {
				err = fmt.Errorf("%w: %s at %s version %d", err, r.Type, r.Stream, r.Version)
			}
		}
		before, _ := json.Marshal(&st.state) // it came from there
		begun, touched, ended := st.begun, st.touched, st.ended
		var cmds []command.Command
		if err == nil {
			st.begun, st.touched, st.ended = true, true, false
			cmds, err = guard(func() []command.Command { return rt.handle(&st.state, r) })
		}
		if err != nil {
			var fresh S
			st.state, st.begun, st.touched, st.ended = fresh, begun, touched, ended
			_ = json.Unmarshal(before, &st.state)
			if err := st.failed(err, path); err != nil {
				return err
			}
			continue
		}
		if err := st.sendAll(cmds, path); err != nil {
			return err
		}
		if rt.kind == endRoute {
			st.end()
		}
	}
	return nil
}

// fire sends the command of a timer.
func (st *step[S]) fire(t timer, due *eventstore.Recorded) error {
	st.event, st.source, st.touched = due, "timer/"+t.ID, true
	st.timers = slices.DeleteFunc(slices.Clone(st.timers), func(x timer) bool { return x.ID == t.ID })
	if t.erased {
		st.sent = append(st.sent, Sent{Path: "0", Type: st.d.commands.Type(t.Command), Outcome: Skipped, Error: erasedText, Erased: true})
		return nil
	}
	c, err := st.d.commands.Decode(t.Command, t.Data)
	if err != nil {
		return st.failed(err, "0")
	}
	return st.sendAll([]command.Command{c}, "0")
}

func (st *step[S]) end() {
	var fresh S
	st.begun, st.ended, st.state, st.timers = false, true, fresh, nil
}

// sendAll sends commands in order.
func (st *step[S]) sendAll(cmds []command.Command, path string) error {
	for i, c := range cmds {
		if c == nil {
			continue
		}
		at := path + "." + strconv.Itoa(i)
		rest, err := st.send(c, at, cmds[i+1:])
		if err != nil || rest {
			return err
		}
	}
	return nil
}

// send sends a command. It reports whether those that are pending are dealt with, too.
func (st *step[S]) send(c command.Command, path string, pending []command.Command) (rest bool, err error) {
	if st.observe != nil {
		st.observe(c)
	}
	if t, ok := c.(timerCommand); ok {
		if err := st.setTimer(t, path); err != nil {
			return st.ask(Failure{Command: t.Command, Pending: pending, Err: err, Refused: true}, path, nil)
		}
		return false, nil
	}
	if k := st.known[path]; k != nil && !(st.repeating && k.Type != reflect.TypeOf(c).String()) {
		st.sent = append(st.sent, *k)
		if k.Outcome == Done {
			return false, nil
		}
		f := Failure{Command: c, Pending: pending, Err: &Refusal{k.Error, k.Causes}, Refused: k.Refused, Attempt: k.Attempt}
		if k.Outcome == Refuse {
			return true, st.compensate(c, f.Err, path, pending)
		}
		return st.ask(f, path, k)
	}
	if strings.Count(path, ".") > maxDepth {
		return true, &verdict{Park(), Failure{Process: st.d.Name, Instance: st.id, Event: st.event, Command: c, Pending: pending, State: st.state, Err: errDepth, Attempt: 1}}
	}
	if st.unsaved {
		if err := st.save(); err != nil {
			return true, err
		}
		st.unsaved = false
	}
	res, err := st.dispatch(st.event, c, key(st.d.Name, st.id, st.source, path))
	if err == nil {
		s := st.noted(path, c, Done)
		s.Stream, s.Version, s.Position = res.Stream, res.Version, res.Position
		st.sent = append(st.sent, s)
		return false, nil
	}
	f := Failure{Command: c, Pending: pending, Err: err, Refused: res.Refused, Attempt: st.attempt(path)}
	if !f.Refused {
		return st.ask(f, path, nil)
	}
	f.Err = refusal(err)
	if st.d.refused[reflect.TypeOf(c)] == nil {
		return st.ask(f, path, nil)
	}
	st.note(f, path, Refuse)
	return true, st.compensate(c, f.Err, path, pending)
}

// maxDepth is how often in a row something may be sent instead of what was refused or failed.
const maxDepth = 32

var errDepth = fmt.Errorf("process: more than %d commands in a row were sent instead of one another", maxDepth)

// note keeps an outcome that nobody else remembers.
func (st *step[S]) note(f Failure, path string, o Outcome) {
	s := st.noted(path, f.Command, o)
	r := refusal(f.Err)
	s.Error, s.Causes, s.Refused, s.Attempt = r.Text, r.causes, f.Refused, f.Attempt
	st.sent = append(st.sent, s)
	st.unsaved = true
}

// compensate does what the route for refusals of c says, instead of c and what was pending.
func (st *step[S]) compensate(c command.Command, err error, path string, pending []command.Command) error {
	st.leaveOut(pending, path)
	rt := st.d.refused[reflect.TypeOf(c)]
	if rt == nil { // there was one when it was refused
		return nil
	}
	cmds, perr := guard(func() []command.Command { return rt.refused(&st.state, c, err) })
	if perr != nil {
		return st.verdict(Failure{Err: perr, Attempt: st.attempt(path + "!")}, path+"!")
	}
	return st.sendAll(cmds, path)
}

// leaveOut notes that what was pending after path is not sent.
func (st *step[S]) leaveOut(pending []command.Command, path string) {
	dot := strings.LastIndexByte(path, '.')
	n, _ := strconv.Atoi(path[dot+1:])
	for i, c := range pending {
		if _, ok := c.(timerCommand); ok || c == nil {
			continue
		}
		p := path[:dot+1] + strconv.Itoa(n+1+i)
		if st.known[p] == nil {
			st.sent = append(st.sent, st.noted(p, c, Discarded))
		}
	}
}

// ask lets OnError decide about a command. With again, it did so before.
func (st *step[S]) ask(f Failure, path string, again *Sent) (rest bool, err error) {
	if f.Attempt == 0 {
		f.Attempt = st.attempt(path)
	}
	a := st.decide(&f)
	if again != nil {
		// Only what to send instead is to be found out; without it, all of that is left out.
		switch {
		case again.Outcome == Skipped:
			a = Skip()
		case again.Outcome == Discarded || a.kind != instead:
			a = Discard()
		}
	}
	note := func(o Outcome) {
		if again == nil {
			st.note(f, path, o)
		}
	}
	switch a.kind {
	case skip:
		note(Skipped)
		return false, nil
	case discard:
		note(Discarded)
		st.leaveOut(f.Pending, path)
		return true, nil
	case instead:
		note(Replaced)
		st.leaveOut(f.Pending, path)
		return true, st.sendAll(a.cmds, path)
	}
	return true, &verdict{a, f}
}

// failed lets OnError decide about the event itself.
func (st *step[S]) failed(err error, path string) error {
	return st.verdict(Failure{
		Err: err, Refused: errors.Is(err, ErrStarted) || errors.Is(err, ErrNotStarted), Attempt: st.attempt(path),
	}, path)
}

func (st *step[S]) verdict(f Failure, path string) error {
	a := st.decide(&f)
	switch a.kind {
	case skip, discard:
		return nil
	case instead:
		st.touched = true
		return st.sendAll(a.cmds, path)
	}
	return &verdict{a, f}
}

// decide asks OnError; what panics or decides nothing is decided by Default.
func (st *step[S]) decide(f *Failure) (a Action) {
	f.Process, f.Instance, f.Event, f.State = st.d.Name, st.id, st.event, st.state
	defer func() {
		if recover() != nil || a.kind == byDefault {
			a = Default(*f)
		}
	}()
	return st.d.OnError(*f)
}

// setTimer sets or takes back a timer.
func (st *step[S]) setTimer(t timerCommand, path string) error {
	if t.Command == nil {
		return fmt.Errorf("process %s: %w: a timer for a nil command", st.d.Name, eventstore.ErrInvalid)
	}
	if _, ok := t.Command.(timerCommand); ok {
		return fmt.Errorf("process %s: %w: a timer for a timer", st.d.Name, eventstore.ErrInvalid)
	}
	name, data, err := st.d.commands.Encode(t.Command)
	if err != nil {
		return fmt.Errorf("process %s: %w: list it in Type.Commands", st.d.Name, err)
	}
	st.timers = slices.DeleteFunc(slices.Clone(st.timers), func(x timer) bool {
		return x.Command == name && string(x.Data) == string(data)
	})
	if !t.cancel {
		set := timer{ID: st.source + "/" + path, At: t.due(st.event.Time), Command: name, Data: data, fresh: true}
		if st.owners != nil {
			set.owners = st.owners(name, t.Command)
		}
		st.timers = append(st.timers, set)
	}
	return nil
}

// guard calls a route.
func guard(fn func() []command.Command) (cmds []command.Command, err error) {
	defer recovered(&err)
	return fn(), nil
}

// concerns returns the route of an event, and whether it concerns the instance id. What nobody can say whom it
// concerns, concerns the instance without a name, with an error.
func (d *definition[S]) concerns(r *eventstore.Recorded, id string) (rt *Route[S], mine bool, err error) {
	rt, ids, err := d.route(r)
	if err != nil {
		if id == "" {
			return nil, true, err
		}
		return nil, false, nil
	}
	return rt, slices.Contains(ids, id), nil
}

// route returns the instances that an event concerns.
func (d *definition[S]) route(r *eventstore.Recorded) (rt *Route[S], ids []string, err error) {
	if r.Err != nil {
		return nil, nil, r.Err
	}
	rt = d.routes[reflect.TypeOf(r.Data)]
	if rt == nil { // erased, or made into something else by an upcast
		return nil, nil, nil
	}
	all, err := routed(rt.ids, r.Data)
	if err != nil {
		return rt, nil, err
	}
	for _, id := range all {
		if id == "" || slices.Contains(ids, id) {
			continue
		}
		if err := validID(d.Name, id); err != nil {
			return rt, nil, err
		}
		ids = append(ids, id)
	}
	return rt, ids, nil
}

func routed(fn func(any) []string, data any) (ids []string, err error) {
	defer recovered(&err)
	return fn(data), nil
}

// validID refuses what cannot name an instance.
func validID(name, id string) error {
	if err := eventstore.Stream(category(name), id).Validate(); err != nil {
		return fmt.Errorf("process %s: instance %.40q: %w", name, id, err)
	}
	return nil
}
