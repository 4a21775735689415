package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/schedule"
)

// A job is the handling of one delivered event by one instance, which is locked.
type job[S any] struct {
	w      *worker[S]
	in     *instance
	ctx    context.Context
	shared bool // other instances' events wait for this delivery

	// Of the event that one handles:
	before   *record  // how things stood, opened
	remade   any      // the state, if it was made anew; else nil
	subjects []string // whose data the state and the event hold
}

func (j *job[S]) handle(parts []*eventstore.Recorded) error {
	if err := j.load(); err != nil {
		return err
	}
	in, r := j.in, parts[0]
	var m message
	switch r.Type {
	case dueType(j.w.d.Name), askType(j.w.d.Name):
		if err := json.Unmarshal(r.Raw, &m); err != nil {
			return nil // keys could not read it either
		}
	}
	if r.Position <= in.record.Position {
		return nil // it was handled before, and not acknowledged
	}
	switch m.Ask {
	case askRetry, askSkip, askCancel:
		return j.asked(m.Ask, r)
	}
	ref := refTo(r)
	if m.Timer != "" {
		ref.Timer = m.Timer
	}
	if m.Event != nil {
		ref = *m.Event
		parts = nil
	}
	if in.record.Status == Stuck {
		if ref.Timer == "" && parts != nil && !j.concerned(parts) {
			return nil
		}
		return j.wait(ref, r.Position)
	}
	if err := j.drain(); err != nil {
		return err
	}
	if in.record.Status == Stuck { // again
		return j.wait(ref, r.Position)
	}
	return j.one(ref, parts, r.Position, 0)
}

// concerned reports whether an event that comes while the instance is stuck needs to be remembered.
func (j *job[S]) concerned(parts []*eventstore.Recorded) bool {
	for _, r := range parts {
		if _, mine, _ := j.w.d.concerns(r, j.in.id); mine {
			return true
		}
	}
	return false
}

// load reads the end of the instance's stream, unless it is known.
func (j *job[S]) load() error {
	in, s := j.in, j.w.s
	if j.w.cache.fresh(in) {
		if s.Limits().Exclusive {
			return nil
		}
		info, err := s.Stream(j.ctx, in.stream)
		if err != nil {
			return err
		}
		if info.Version == in.version {
			return nil
		}
	}
	in.loaded = false
	rec, version, stuckAt, err := last(j.ctx, s, in.stream)
	if err != nil {
		return err
	}
	in.record, in.version, in.stuckAt, in.loaded = rec, version, stuckAt, true
	return nil
}

// last returns how an instance stands: its last record or, if that says that it is stuck, the one where it got
// stuck with the position of the last.
func last(ctx context.Context, s *eventstore.Store, stream eventstore.StreamName) (rec record, v, stuckAt eventstore.Version, err error) {
	rec.Status = Ended
	for r, err := range s.ReadStreamBackward(ctx, stream, 0) {
		if err != nil {
			return rec, 0, 0, err
		}
		if rec, err = parse(r); err != nil {
			return rec, 0, 0, err
		}
		v = r.Version
		if rec.Status == Stuck {
			stuckAt = r.Version
		}
		break
	}
	if rec.Parked == 0 {
		return rec, v, stuckAt, nil
	}
	at := rec.Position
	for r, err := range s.ReadStreamBackward(ctx, stream, rec.Parked+1) {
		if err != nil {
			return rec, 0, 0, err
		}
		stuckAt = r.Version
		rec, err = parse(r)
		rec.Position = at
		return rec, v, stuckAt, err
	}
	return rec, 0, 0, fmt.Errorf("process: %s is cut off at version %d, where it got stuck", stream, rec.Parked)
}

// record seals a record, with the state if it is a new one, and adds it. The command is the one that failed.
func (j *job[S]) record(typ string, rec record, state any, failed command.Command, cause *eventstore.Recorded) error {
	reason := j.subjects
	if failed != nil {
		reason = sealing.Union(reason, j.owners(fmt.Sprintf("%T", failed), failed))
	}
	rec, err := rec.sealed(j.ctx, j.w.copies, j.in.stream, j.before, state, j.subjects, reason)
	if err != nil {
		return err
	}
	return j.append(typ, &rec, cause)
}

// append adds a record to the instance's stream.
func (j *job[S]) append(typ string, rec *record, cause *eventstore.Recorded) error {
	in := j.in
	e, err := rec.event(typ)
	if err != nil {
		return err
	}
	ctx := system.Context(j.ctx)
	if cause != nil {
		ctx = eventstore.NewContext(ctx, cause)
	}
	at, err := j.w.s.Append(ctx, in.stream, expected(in.version), e)
	if err != nil {
		in.loaded = false
		return err
	}
	in.version = at.Version
	switch {
	case rec.Parked > 0:
		in.record.Position = rec.Position
	default:
		in.record = *rec
		in.stuckAt = 0
		if rec.Status == Stuck {
			in.stuckAt = at.Version
		}
	}
	in.storeFaults = 0
	return nil
}

func expected(v eventstore.Version) eventstore.Expected { return eventstore.Exactly(v) }

// wait remembers an event that came while the instance is stuck.
func (j *job[S]) wait(ref Ref, pos eventstore.Position) error {
	return j.append(typeWaiting, &record{
		Event: &ref, Position: max(pos, j.in.record.Position), Status: Stuck, Begun: j.in.record.Begun, Parked: j.in.stuckAt,
	}, ref.recorded())
}

// asked does what a person decided about an instance that is stuck; or what is left of it.
func (j *job[S]) asked(ask string, r *eventstore.Recorded) error {
	in := j.in
	if in.record.Status != Stuck {
		return j.drain()
	}
	if in.record.Event == nil {
		return fmt.Errorf("process: %s does not say what it is stuck at", in.stream)
	}
	if ask == askCancel {
		timers := in.record.Timers
		rec := record{Event: in.record.Event, Position: max(r.Position, in.record.Position), Status: Ended}
		if err := j.append(typeCancelled, &rec, r); err != nil {
			return err
		}
		j.disarm(timers, nil)
		in.trial = trial{}
		return nil
	}
	if in.record.Again.IsZero() && in.askedBy != r.ID {
		in.trial = trial{} // somebody believes that it will go well now
	}
	in.askedBy = r.ID
	if ask == askSkip {
		rec := in.record.without()
		rec.Again, rec.Status = time.Time{}, statusOf(rec.Begun)
		if err := j.append(typeSkipped, &rec, r); err != nil {
			return err
		}
	} else if err := j.one(*in.record.Event, nil, in.record.Position, in.record.Left); err != nil {
		return err
	}
	return j.drain()
}

func statusOf(begun bool) Status {
	if begun {
		return Running
	}
	return Ended
}

// A waiting is an event that came while an instance was stuck, and where that is recorded.
type waiting struct {
	Ref
	at eventstore.Version
}

// waitingIn reads what waited after a version of a stream, before another; 0 is the end.
func waitingIn(ctx context.Context, s *eventstore.Store, stream eventstore.StreamName, after, before eventstore.Version) ([]waiting, error) {
	var list []waiting
	for r, err := range s.ReadStream(ctx, stream, after) {
		if err != nil {
			return nil, err
		}
		if before > 0 && r.Version >= before {
			break
		}
		if r.Type != typeWaiting {
			continue
		}
		rec, err := parse(r)
		if err != nil {
			return nil, err
		}
		if rec.Event != nil {
			list = append(list, waiting{*rec.Event, r.Version})
		}
	}
	return list, nil
}

// drain handles what came while the instance was stuck, until it is stuck again.
func (j *job[S]) drain() error {
	in := j.in
	if in.record.Left == 0 || in.record.Status == Stuck {
		return nil
	}
	list, err := waitingIn(j.ctx, j.w.s, in.stream, in.record.Left, 0)
	if err != nil {
		return err
	}
	for _, e := range list {
		if err := j.one(e.Ref, nil, in.record.Position, e.at); err != nil {
			return err
		}
		if in.record.Status == Stuck {
			return nil
		}
	}
	in.record.Left = 0
	return nil
}

// errGone reports an event that an instance is stuck at and that is not there any more.
var errGone = errors.New("process: the event is gone from its stream")

// parts reads an event again.
func (j *job[S]) parts(ref Ref) (parts []*eventstore.Recorded, err error) {
	for r, err := range j.w.s.ReadStream(j.ctx, ref.Stream, ref.Version-1) {
		if err != nil {
			return nil, err
		}
		if r.Version != ref.Version {
			break
		}
		parts = append(parts, r)
	}
	return parts, nil
}

// one handles one event, up to the record of it. pos is what the instance has then come to, and left is after
// which version what waited is still to be handled. The record is left out if the event does not concern the
// instance and nothing waits.
func (j *job[S]) one(ref Ref, parts []*eventstore.Recorded, pos eventstore.Position, left eventstore.Version) error {
	in, w := j.in, j.w
	before, err := in.record.opened(j.ctx, w.copies, in.stream)
	if err != nil {
		return err
	}
	st := &step[S]{d: w.d, id: in.id, begun: before.Begun, timers: before.Timers, known: map[string]*Sent{}}
	if w.copies.Sealed() {
		st.owners = j.owners
	}
	if before.Event != nil && before.Event.ID == ref.ID {
		for i := range before.Sent {
			st.known[before.Sent[i].Path] = &before.Sent[i]
		}
	}
	at := ref.recorded()
	if parts == nil && ref.Timer == "" {
		if parts, err = j.parts(ref); err != nil {
			return err
		}
	}
	if len(parts) > 0 {
		at = parts[0]
	}
	after := record{Event: &ref, Position: max(pos, before.Position), Left: left}
	subjects := w.copies.Kept(before.Sealed[pieceState])
	if j.remade = nil; before.erased {
		w.log.WarnContext(j.ctx, "process: the state of an instance was erased, and is made anew of what is left of its events", "instance", in.id)
		state, of, err := j.rebuilt()
		if err != nil {
			return err
		}
		if before.State, err = json.Marshal(&state); err != nil {
			return err
		}
		subjects, j.remade = of, state
	}
	if w.copies.Sealed() && ref.Timer == "" && len(parts) > 0 {
		var of []string
		if parts, of, err = j.left(ref, parts, map[string]bool{}); err != nil {
			return err
		}
		subjects = sealing.Union(subjects, of)
	}
	if t, ok := find(before.Timers, ref.Timer); ok && !t.erased {
		subjects = sealing.Union(subjects, w.copies.Kept(before.Sealed[pieceTimer+t.ID]))
	}
	j.before, j.subjects = &before, subjects
	if len(before.State) > 0 {
		if err := json.Unmarshal(before.State, &st.state); err != nil {
			f := Failure{Err: fmt.Errorf("process: the state cannot be read: %w", err), Event: at}
			return j.park(&verdict{Park(), f}, &before, after, st, at)
		}
	}
	st.attempt = func(path string) int {
		if t := &in.trial; t.source == ref.ID.String() && t.path == path {
			t.attempts++
		} else {
			*t = trial{ref.ID.String(), path, 1}
		}
		return in.trial.attempts
	}
	st.dispatch = j.dispatch
	st.save = func() error {
		rec := before
		rec.Event, rec.Sent = &ref, st.sent
		if before.Status != Stuck && before.Status != Running {
			rec.Status = statusOf(before.Begun)
		}
		return j.record(typeRefused, rec, j.remade, nil, at)
	}
	switch t, ok := find(before.Timers, ref.Timer); {
	case ref.Timer != "" && !ok:
		// It was taken back, or has come due before.
	case ref.Timer != "":
		if due := parts; len(due) > 0 {
			at = due[0]
		}
		if t.erased {
			w.log.WarnContext(j.ctx, "process: the command of a timer that is due was erased, and is left out", "instance", in.id, "command", t.Command)
		}
		err = st.fire(t, at)
	case len(parts) == 0:
		st.event, st.source = at, ref.ID.String()
		err = st.failed(errGone, "0")
	case in.id == "":
		err = j.unnamed(st, ref, parts)
	default:
		err = st.run(parts)
	}
	var v *verdict
	if errors.As(err, &v) && (v.kind == park || v.kind == retry && j.shared) {
		return j.park(v, &before, after, st, at)
	}
	if err != nil {
		return err
	}
	if !st.touched && len(st.sent) == 0 && left == 0 {
		in.trial = trial{}
		return nil
	}
	after.Begun, after.Sent, after.Timers = st.begun, st.sent, st.timers
	after.Status = statusOf(st.begun)
	typ := typeHandled
	if !st.begun {
		typ = typeEnded
	}
	if st.begun {
		if after.State, err = json.Marshal(&st.state); err != nil {
			f := Failure{Err: fmt.Errorf("process: the state cannot be kept: %w", err), Event: at}
			return j.park(&verdict{Park(), f}, &before, after, st, at)
		}
	}
	if err := j.alarms(before.Timers, after.Timers, at); err != nil {
		return err
	}
	if err := j.record(typ, after, st.state, nil, at); errors.Is(err, eventstore.ErrTooLarge) {
		in.loaded = true
		return j.park(&verdict{Park(), Failure{Err: err, Event: at}}, &before, after, st, at)
	} else if err != nil {
		return err
	}
	j.disarm(before.Timers, after.Timers)
	in.trial = trial{}
	return nil
}

func find(timers []timer, id string) (timer, bool) {
	for _, t := range timers {
		if t.ID == id {
			return t, true
		}
	}
	return timer{}, false
}

// dispatch sends a command in the conversation of an event.
func (j *job[S]) dispatch(r *eventstore.Recorded, c command.Command, key string) (res command.Result, err error) {
	ctx := eventstore.NewContext(j.ctx, r)
	if d := j.w.d.Timeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	defer func() {
		if v := recover(); v != nil {
			res, err = command.Result{}, command.NewPanicError(v)
		}
	}()
	res, err = command.Dispatch(ctx, j.w.h, c, command.Once(key))
	if errors.Is(err, eventstore.ErrErased) {
		j.w.log.WarnContext(j.ctx, "process: a command cannot be executed, it would say something about somebody who was erased", "instance", j.in.id, "command", fmt.Sprintf("%T", c))
	}
	return res, err
}

// park records that the instance is stuck. Where others wait for the delivery, it will be tried again by itself after
// the verdict's pause.
func (j *job[S]) park(v *verdict, before *record, after record, st *step[S], at *eventstore.Recorded) error {
	rec := *before
	rec.Event, rec.Position, rec.Left, rec.Sent = after.Event, after.Position, after.Left, st.sent
	rec.Status, rec.Error, rec.Again = Stuck, v.Err.Error(), time.Time{}
	if v.kind == retry {
		rec.Again = time.Now().Add(v.after).UTC()
		data, err := json.Marshal(message{Instance: j.in.id, Ask: askRetry})
		if err != nil {
			return err
		}
		err = schedule.Set(j.ctx, j.w.s, schedule.Alarm{
			Key: key(j.w.d.Name, j.in.id, "again"), At: rec.Again, Stream: inbox(j.w.d.Name), Type: askType(j.w.d.Name), Data: data,
		})
		if err != nil {
			return err
		}
	}
	if rec.Left == 0 {
		rec.Left = j.in.version + 1 // this very record, after which others will wait
	}
	if err := j.record(typeParked, rec, j.remade, v.Command, at); err != nil {
		return err
	}
	about := []any{"instance", j.in.id, "type", at.Type, "stream", at.Stream, "version", at.Version, "err", v.Err}
	if v.kind == retry {
		j.w.log.WarnContext(j.ctx, "process: an instance is stuck for a time", append(about, "again", rec.Again)...)
	} else {
		j.w.log.ErrorContext(j.ctx, "process: an instance is stuck until RetryStuck, SkipStuck or CancelStuck", about...)
	}
	return nil
}

// alarms sets those timers that are new, before they are recorded.
func (j *job[S]) alarms(before, after []timer, at *eventstore.Recorded) error {
	for _, t := range after {
		if _, ok := find(before, t.ID); ok {
			continue
		}
		data, err := json.Marshal(message{Instance: j.in.id, Timer: t.ID})
		if err != nil {
			return err
		}
		err = schedule.Set(eventstore.NewContext(j.ctx, at), j.w.s, schedule.Alarm{
			Key: j.alarm(t), At: t.At, Stream: inbox(j.w.d.Name), Type: dueType(j.w.d.Name), Data: data,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// disarm takes back the alarms of timers that are gone. One that goes off all the same is passed over.
func (j *job[S]) disarm(before, after []timer) {
	for _, t := range before {
		if _, ok := find(after, t.ID); ok {
			continue
		}
		if err := schedule.Cancel(j.ctx, j.w.s, j.alarm(t)); err != nil {
			j.w.log.WarnContext(j.ctx, "process: a timer that was taken back will come due for nothing", "instance", j.in.id, "err", err)
		}
	}
}

func (j *job[S]) alarm(t timer) string { return key(j.w.d.Name, j.in.id, "timer", t.ID) }

// unnamed handles an event of which nobody could say whom it concerns: now, or when it is tried again, when its
// instances are told.
func (j *job[S]) unnamed(st *step[S], ref Ref, parts []*eventstore.Recorded) error {
	var ids []string
	for _, r := range parts {
		st.event, st.source = r, r.ID.String()
		_, to, err := j.w.d.route(r)
		if err != nil {
			return st.failed(err, "0")
		}
		ids = append(ids, to...)
	}
	for _, id := range ids {
		if _, err := ask(j.ctx, j.w.s, j.w.d.Name, message{Instance: id, Ask: askHandle, Event: &ref}); err != nil {
			return err
		}
	}
	st.touched = true
	return nil
}
