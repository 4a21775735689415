package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
)

// What an instance keeps of people's data is sealed as the events are that it comes from: the state, commands and what
// became of them, timers' commands, and the reason why it is stuck. Each is a piece by itself, in record.Sealed, under
// one of these names. A piece that does not change is carried from record to record as it is.
//
// A state that carries the Sealer's own tags is sealed by them. One without is for the subjects of all events that the instance has handled
// since it began, and when one of them is erased, so is the state: then it is made anew of what is left of the events.
// Commands are always sealed as a whole, for the subjects that they name by tags, or else for those of the state and the event.

const (
	pieceState = "state"
	pieceError = "error"
	pieceSent  = "sent/"  // and the path
	pieceTimer = "timer/" // and the timer's ID
)

// erasedText is what stands for an error that was erased.
var erasedText = eventstore.ErrErased.Error()

// A secret is what is sealed of a Sent.
type secret struct {
	Command json.RawMessage `json:"command,omitempty"`
	Error   string          `json:"error,omitempty"`
	Causes  []cause         `json:"causes,omitempty"`
}

// place says where a piece belongs.
func (r *record) place(stream eventstore.StreamName, name string) eventstore.ID {
	parts := []string{"process", string(stream), name}
	if strings.HasPrefix(name, pieceSent) && r.Event != nil {
		parts = append(parts, r.Event.ID.String())
	}
	return sealing.Place(parts...)
}

func pieceType(name string) string {
	kind, _, _ := strings.Cut(name, "/")
	return "$process." + kind
}

// opened returns r with its sealed pieces opened, and those marked that were erased.
func (r record) opened(ctx context.Context, c sealing.Copies, stream eventstore.StreamName) (record, error) {
	if len(r.Sealed) == 0 {
		return r, nil
	}
	open := func(name string) (data []byte, sealed, erased bool, err error) {
		box, sealed := r.Sealed[name]
		if !sealed {
			return nil, false, false, nil
		}
		data, err = c.Open(ctx, r.place(stream, name), pieceType(name), box)
		if errors.Is(err, eventstore.ErrErased) {
			return nil, true, true, nil
		}
		return data, true, false, err
	}
	fail := func(err error) (record, error) { return r, fmt.Errorf("process: %s: %w", stream, err) }

	if data, sealed, erased, err := open(pieceState); err != nil {
		return fail(err)
	} else if sealed {
		r.State, r.erased = data, erased
	}
	if data, sealed, erased, err := open(pieceError); err != nil {
		return fail(err)
	} else if erased {
		r.Error = erasedText
	} else if sealed {
		if err := json.Unmarshal(data, &r.Error); err != nil {
			return fail(err)
		}
	}
	r.Sent, r.Timers = slices.Clone(r.Sent), slices.Clone(r.Timers)
	for i := range r.Sent {
		s := &r.Sent[i]
		data, sealed, erased, err := open(pieceSent + s.Path)
		switch {
		case err != nil:
			return fail(err)
		case erased:
			s.Erased = true
			if s.Outcome == Refuse || s.Outcome == Skipped || s.Outcome == Replaced {
				s.Error, s.Causes = erasedText, []cause{causeOf(eventstore.ErrErased)}
			}
		case sealed:
			var v secret
			if err := json.Unmarshal(data, &v); err != nil {
				return fail(err)
			}
			s.Command, s.Error, s.Causes = v.Command, v.Error, v.Causes
		}
	}
	for i := range r.Timers {
		t := &r.Timers[i]
		data, sealed, erased, err := open(pieceTimer + t.ID)
		if err != nil {
			return fail(err)
		}
		if sealed {
			t.Data, t.erased = data, erased
		}
	}
	return r, nil
}

// sealed returns r as it is to be stored. Pieces that before, the record from which r follows, has are carried: but for the
// state, if a new one is given, and the error.
func (r record) sealed(ctx context.Context, c sealing.Copies, stream eventstore.StreamName, before *record, state any, subjects, reason []string) (record, error) {
	r.Sealed = nil
	if !c.Sealed() {
		return r, nil
	}
	boxes := map[string]json.RawMessage{}
	carry := func(name string) bool {
		box, ok := before.Sealed[name]
		if ok {
			boxes[name] = box
		}
		return ok
	}
	put := func(name string, value any, data []byte, owners []string) (bool, error) {
		seal := c.SealWhole
		if name == pieceState {
			seal = c.Seal
		}
		box, err := seal(ctx, r.place(stream, name), pieceType(name), value, data, owners)
		if err == nil && box != nil {
			boxes[name] = box
		}
		return box != nil, err
	}

	switch {
	case state == nil:
		if carry(pieceState) {
			r.State = nil
		}
	case len(r.State) > 0:
		if ok, err := put(pieceState, state, r.State, subjects); err != nil {
			return r, err
		} else if ok {
			r.State = nil
		}
	}
	if r.Error != "" {
		text, err := json.Marshal(r.Error)
		if err != nil {
			return r, err
		}
		if ok, err := put(pieceError, r.Error, text, reason); err != nil {
			return r, err
		} else if ok {
			r.Error = ""
		}
	}
	same := before.Event != nil && r.Event != nil && before.Event.ID == r.Event.ID
	r.Sent, r.Timers = slices.Clone(r.Sent), slices.Clone(r.Timers)
	for i := range r.Sent {
		s := &r.Sent[i]
		name := pieceSent + s.Path
		hide := same && !s.fresh && carry(name)
		if !hide && s.fresh && (s.Command != nil || s.Error != "") {
			v := secret{s.Command, s.Error, s.Causes}
			data, err := json.Marshal(v)
			if err == nil {
				hide, err = put(name, v, data, or(s.owners, subjects))
			}
			if err != nil {
				return r, err
			}
		}
		if hide {
			s.Command, s.Error, s.Causes, s.Erased = nil, "", nil, false
		}
		s.fresh, s.owners = false, nil
	}
	for i := range r.Timers {
		t := &r.Timers[i]
		name := pieceTimer + t.ID
		hide := carry(name)
		if !hide && t.fresh {
			var err error
			if hide, err = put(name, t.Data, t.Data, or(t.owners, subjects)); err != nil {
				return r, err
			}
		}
		if hide {
			t.Data = nil
		}
		t.fresh, t.erased, t.owners = false, false, nil
	}
	if r.erased = false; len(boxes) > 0 {
		r.Sealed = boxes
	}
	return r, nil
}

func or(owners, subjects []string) []string {
	if len(owners) > 0 {
		return owners
	}
	return subjects
}

// without returns r without what became of its event.
func (r record) without() record {
	r.Sent, r.Error = nil, ""
	r.Sealed = maps.Clone(r.Sealed)
	maps.DeleteFunc(r.Sealed, func(name string, _ json.RawMessage) bool {
		return name == pieceError || strings.HasPrefix(name, pieceSent)
	})
	return r
}

// owners returns whose data a command is by itself.
func (j *job[S]) owners(name string, c command.Command) []string { return j.w.copies.Owners(name, c) }

// rebuilt returns the state of the instance made anew of what is left of the events that it has handled since it began, after
// the state that was kept was erased. What was sent then is not sent again, and what was refused is again known to have been. An event
// that is gone or erased passes over, and one that the route now fails on leaves the state as it was.
//
// It also returns whose data the state holds.
func (j *job[S]) rebuilt() (state S, subjects []string, err error) {
	in, s, c := j.in, j.w.s, j.w.copies
	var start eventstore.Version // the last record of an earlier life
	for r, err := range s.ReadStreamBackward(j.ctx, in.stream, 0) {
		if err != nil {
			return state, nil, err
		}
		rec, err := parse(r)
		if err != nil {
			return state, nil, err
		}
		if !rec.Begun {
			start = r.Version
			break
		}
	}
	before := record{Status: Ended}
	gone := map[string]bool{}
	for r, err := range s.ReadStream(j.ctx, in.stream, start) {
		if err != nil {
			return state, nil, err
		}
		if r.Type != typeHandled {
			continue
		}
		rec, err := parse(r)
		if err == nil {
			rec, err = rec.opened(j.ctx, c, in.stream)
		}
		if err != nil {
			return state, nil, err
		}
		if rec.Event != nil {
			owners, err := j.again(&state, &before, &rec, gone)
			if err != nil {
				return state, nil, err
			}
			subjects = sealing.Union(subjects, owners)
		}
		before = rec
	}
	return state, subjects, nil
}

// again changes state as rec's event did, without its effects, and returns whose data that brought into it.
func (j *job[S]) again(state *S, before, rec *record, gone map[string]bool) (subjects []string, err error) {
	var parts []*eventstore.Recorded
	timer, _ := find(before.Timers, rec.Event.Timer)
	if rec.Event.Timer != "" {
		subjects = j.w.copies.Kept(before.Sealed[pieceTimer+timer.ID])
		if timer.erased {
			subjects = nil
		}
	} else {
		if parts, err = j.parts(*rec.Event); err != nil && !errors.Is(err, eventstore.ErrStreamDeleted) {
			return nil, err
		}
		if parts, subjects, err = j.left(*rec.Event, parts, gone); err != nil {
			return nil, err
		}
	}

	work, err := copied(*state)
	if err != nil {
		return nil, err
	}
	st := &step[S]{
		d: j.w.d, id: j.in.id, begun: before.Begun, state: work, timers: before.Timers, known: map[string]*Sent{}, repeating: true,
		attempt: func(string) int { return 1 },
		save:    func() error { return nil },
		dispatch: func(*eventstore.Recorded, command.Command, string) (command.Result, error) {
			return command.Result{}, nil
		},
	}
	for i := range rec.Sent {
		st.known[rec.Sent[i].Path] = &rec.Sent[i]
	}
	switch {
	case rec.Event.Timer == "":
		err = st.run(parts)
	case timer.ID != "":
		err = st.fire(timer, rec.Event.recorded())
	}
	if err != nil {
		return subjects, nil
	}
	if work, err = copied(st.state); err == nil {
		*state = work
	}
	return subjects, nil
}

// left returns what is left of an event that was read, and whose data that is. Gone are those who could not be read some time before.
func (j *job[S]) left(ref Ref, parts []*eventstore.Recorded, gone map[string]bool) (_ []*eventstore.Recorded, subjects []string, err error) {
	owners := func() (list []string) {
		for _, r := range parts {
			list = sealing.Union(list, j.w.copies.Subjects(&r.Event))
		}
		return list
	}
	all, lost := owners(), false
	for _, subject := range all {
		if !gone[subject] {
			yes, err := j.w.copies.Readable(j.ctx, subject)
			if err != nil {
				return nil, nil, err
			}
			gone[subject] = !yes
		}
		lost = lost || gone[subject]
	}
	if !lost {
		return parts, all, nil
	}
	// The event may have been read when they still could be. From here it cannot show anything of them.
	if parts, err = j.parts(ref); err != nil && !errors.Is(err, eventstore.ErrStreamDeleted) {
		return nil, nil, err
	}
	for _, subject := range owners() {
		if !gone[subject] {
			subjects = append(subjects, subject)
		}
	}
	return parts, subjects, nil
}
