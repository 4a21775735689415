package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
	"github.com/levada-go/levada/internal/system"
)

// An Instance tells how one instance of a process is doing.
type Instance struct {
	ID      string
	Status  Status
	Version eventstore.Version // of its stream
	Since   time.Time          // when it came to stand so
	Event   *Ref               // what it handled last, or is stuck at; nil once it is trimmed, see Type.KeepEnded
	State   json.RawMessage    // nil if it has not begun, or has ended
	Timers  []Timer            // that it waits for
	// Erased says that the state was erased with somebody whose data it held. The instance goes on, with the next event, from a
	// state that is made anew of what is left of its events.
	Erased bool

	// Of one that is stuck: why, when it tries again by itself, zero if it does not, and how many events wait.
	Error   string
	Again   time.Time
	Waiting int
}

// A Timer is a command that an instance sends when its time has come.
type Timer struct {
	At      time.Time
	Command string // its stored name
	Data    json.RawMessage
	Erased  bool // Data is nil, and the command will be left out
}

func timersOf(list []timer) (out []Timer) {
	for _, t := range list {
		out = append(out, Timer{t.At, t.Command, t.Data, t.erased})
	}
	return out
}

// All, as a filter of Instances, selects those of every status.
const All Status = ""

// Instances returns the instances of the named process that have the given status, or All, by
// id. The instance whose id is empty has the events of which nobody can say whom they concern. It reads the end of every
// instance's stream; where the driver does not list streams, all of them.
func Instances(ctx context.Context, s *eventstore.Store, name string, status Status) iter.Seq2[Instance, error] {
	return func(yield func(Instance, error) bool) {
		if err := validName(name); err != nil {
			yield(Instance{}, err)
			return
		}
		for info, err := range streams(ctx, s, category(name)) {
			var in Instance
			if err == nil {
				if info.First > info.Version { // cut off to its end
					continue
				}
				in, err = Read(ctx, s, name, info.Name.ID())
			}
			if err != nil {
				yield(Instance{}, err)
				return
			}
			if (status == All || in.Status == status) && in.Version > 0 && !yield(in, nil) {
				return
			}
		}
	}
}

// streams lists the streams of a category, however the driver can.
func streams(ctx context.Context, s *eventstore.Store, category string) iter.Seq2[eventstore.StreamInfo, error] {
	return func(yield func(eventstore.StreamInfo, error) bool) {
		listed := true
		for info, err := range s.Streams(ctx, category) {
			if listed = !errors.Is(err, eventstore.ErrUnsupported); !listed {
				break
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
		if listed {
			return
		}
		seen := map[eventstore.StreamName]bool{}
		for r, err := range s.ReadAll(ctx, eventstore.Filter{Categories: []string{category}}, 0) {
			if err != nil {
				yield(eventstore.StreamInfo{}, err)
				return
			}
			if seen[r.Stream] {
				continue
			}
			seen[r.Stream] = true
			if !yield(eventstore.StreamInfo{Name: r.Stream, Version: r.Version, First: 1}, nil) {
				return
			}
		}
	}
}

// Read returns how one instance stands. One that is not known has Version 0 and is Ended.
func Read(ctx context.Context, s *eventstore.Store, name, id string) (Instance, error) {
	stream, err := streamOf(name, id)
	if err != nil {
		return Instance{}, err
	}
	in := Instance{ID: id, Status: Ended}
	copies := sealing.Of(s)
	for r, err := range s.ReadStreamBackward(ctx, stream, 0) {
		if err != nil {
			return in, fmt.Errorf("process %s: %w", name, err)
		}
		rec, err := parse(r)
		if err != nil {
			return in, err
		}
		if in.Version == 0 {
			in.Version, in.Status = r.Version, rec.Status
		}
		if rec.Parked > 0 {
			in.Waiting++
			continue
		}
		if rec, err = rec.opened(ctx, copies, stream); err != nil {
			return in, err
		}
		in.Since, in.Event, in.State, in.Error, in.Again = r.Time, rec.Event, rec.State, rec.Error, rec.Again
		in.Erased, in.Timers = rec.erased, timersOf(rec.Timers)
		if !rec.Ended.IsZero() {
			in.Since = rec.Ended
		}
		if rec.Left > 0 && rec.Left < r.Version {
			earlier, err := waitingIn(ctx, s, stream, rec.Left, r.Version)
			if err != nil {
				return in, fmt.Errorf("process %s: %w", name, err)
			}
			in.Waiting += len(earlier)
		}
		break
	}
	return in, nil
}

// An Entry is something that happened to an instance.
type Entry struct {
	Version eventstore.Version
	Time    time.Time
	// What is the type of the stored event: $process.handled, ended, refused, parked, waiting, skipped, cancelled or trimmed.
	What   string
	Event  *Ref   // what came in, or what it was stuck at
	Sent   []Sent // the commands, and what became of them
	Status Status
	State  json.RawMessage // after it; nil if it has not begun, or has ended
	Timers []Timer         // after it
	Error  string          // why it got stuck
	Erased bool            // the state was erased with somebody whose data it held
}

// History returns what happened to an instance, in order. What was erased with somebody is left out, and said to be.
func History(ctx context.Context, s *eventstore.Store, name, id string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		stream, err := streamOf(name, id)
		if err != nil {
			yield(Entry{}, err)
			return
		}
		copies := sealing.Of(s)
		for r, err := range s.ReadStream(ctx, stream, 0) {
			var rec record
			if err == nil {
				rec, err = parse(r)
			}
			if err == nil {
				rec, err = rec.opened(ctx, copies, stream)
			}
			if err != nil {
				yield(Entry{}, fmt.Errorf("process %s: %w", name, err))
				return
			}
			e := Entry{Version: r.Version, Time: r.Time, What: r.Type, Event: rec.Event, Sent: rec.Sent, Status: rec.Status, State: rec.State, Error: rec.Error}
			e.Timers, e.Erased = timersOf(rec.Timers), rec.erased
			if !yield(e, nil) {
				return
			}
		}
	}
}

// RetryStuck has an instance that is stuck try again: first the event it is stuck at, of which it sends only those
// commands that were not executed or refused before, and then all that came after. It returns as soon as that is
// durable, with a position to wait for, as by projection.Group.Wait. An instance that is not stuck then passes
// over it.
func RetryStuck(ctx context.Context, s *eventstore.Store, name, id string) (eventstore.Position, error) {
	return ask(ctx, s, name, message{Instance: id, Ask: askRetry})
}

// SkipStuck has an instance that is stuck leave out the event it is stuck at, as if it had not come, and go on
// with what came after. Commands that were executed remain so. See RetryStuck.
func SkipStuck(ctx context.Context, s *eventstore.Store, name, id string) (eventstore.Position, error) {
	return ask(ctx, s, name, message{Instance: id, Ask: askSkip})
}

// CancelStuck ends an instance that is stuck, with its timers, and forgets what came after the event it is stuck
// at. See RetryStuck.
func CancelStuck(ctx context.Context, s *eventstore.Store, name, id string) (eventstore.Position, error) {
	return ask(ctx, s, name, message{Instance: id, Ask: askCancel})
}

func ask(ctx context.Context, s *eventstore.Store, name string, m message) (eventstore.Position, error) {
	if _, err := streamOf(name, m.Instance); err != nil {
		return 0, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return 0, err
	}
	at, err := s.Append(system.Context(ctx), inbox(name), eventstore.Any, eventstore.Event{Type: askType(name), Raw: data, ContentType: contentType})
	if err != nil {
		return 0, fmt.Errorf("process %s: %w", name, err)
	}
	return at.Position, nil
}

func streamOf(name, id string) (eventstore.StreamName, error) {
	if err := validName(name); err != nil {
		return "", err
	}
	if err := validID(name, id); err != nil {
		return "", err
	}
	return eventstore.Stream(category(name), id), nil
}
