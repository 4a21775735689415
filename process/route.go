package process

import (
	"reflect"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// A Route sends events of one type to the instances they concern, or refusals of
// commands of one type to the instance that sent them.
//
// The func of a route updates the state and returns what to do next. It must be
// deterministic, and depend on nothing but the state and the event: after a crash it may be called
// again, and must then return the same. What it does to the state counts only once the commands have
// been dealt with.
type Route[S any] struct {
	kind    routeKind
	strict  bool
	event   reflect.Type
	command reflect.Type
	name    func(*eventstore.Types) (string, bool)
	ids     func(data any) []string
	handle  func(s *S, r *eventstore.Recorded) []command.Command
	refused func(s *S, c command.Command, err error) []command.Command
}

type routeKind uint8

const (
	startRoute routeKind = iota + 1
	onRoute
	endRoute
	refusedRoute
)

// IDs is what tells the instances that an event of type E concerns. Those named "" are passed over, and one that
// is named twice counts once.
type IDs[E any] interface {
	func(E) string | func(E) []string
}

// Start routes events that begin an instance, or continue one that has begun; see
// [Route.Strict]. An instance that had ended begins anew.
func Start[S, E any, I IDs[E]](ids I, fn func(s *S, e E) []command.Command) Route[S] {
	return route(startRoute, ids, plain(fn))
}

// On routes events to instances that have begun and not ended; others pass over.
func On[S, E any, I IDs[E]](ids I, fn func(s *S, e E) []command.Command) Route[S] {
	return route(onRoute, ids, plain(fn))
}

// End routes events that end an instance: when the commands have been dealt with, its state and
// its timers are gone. Instances that have not begun pass over.
func End[S, E any, I IDs[E]](ids I, fn func(s *S, e E) []command.Command) Route[S] {
	return route(endRoute, ids, plain(fn))
}

// StartRecorded is Start for a func that needs to know the event's time, stream or metadata.
// That is the time to go by: the present one is another when the func is called again.
func StartRecorded[S, E any, I IDs[E]](ids I, fn func(s *S, e E, r *eventstore.Recorded) []command.Command) Route[S] {
	return route(startRoute, ids, fn)
}

// OnRecorded is On for a func that needs to know the event's time, stream or metadata.
func OnRecorded[S, E any, I IDs[E]](ids I, fn func(s *S, e E, r *eventstore.Recorded) []command.Command) Route[S] {
	return route(onRoute, ids, fn)
}

// EndRecorded is End for a func that needs to know the event's time, stream or metadata.
func EndRecorded[S, E any, I IDs[E]](ids I, fn func(s *S, e E, r *eventstore.Recorded) []command.Command) Route[S] {
	return route(endRoute, ids, fn)
}

// Refused handles the refusal of a command of type C that an instance had sent, at once or
// by a timer: fn returns what to do instead of it and of those commands that were still to be sent
// after it. With that the refusal is dealt with.
//
// err is a [*Refusal]: it has the text of what the aggregate returned, and errors.Is finds in it
// what it found there. The rest is not kept.
func Refused[S any, C command.Command](fn func(s *S, c C, err error) []command.Command) Route[S] {
	if fn == nil {
		return Route[S]{}
	}
	return Route[S]{
		kind: refusedRoute, command: reflect.TypeFor[C](),
		refused: func(s *S, c command.Command, err error) []command.Command { return fn(s, c.(C), err) },
	}
}

// Strict returns r as a route that fails instead of making the best of it: a Start if the instance has begun already
// (ErrStarted), an On or End if it has not, or has ended (ErrNotStarted). Type.OnError decides.
func (r Route[S]) Strict() Route[S] {
	r.strict = true
	return r
}

func plain[S, E any](fn func(*S, E) []command.Command) func(*S, E, *eventstore.Recorded) []command.Command {
	if fn == nil {
		return nil
	}
	return func(s *S, e E, _ *eventstore.Recorded) []command.Command { return fn(s, e) }
}

func route[S, E any, I IDs[E]](kind routeKind, ids I, fn func(*S, E, *eventstore.Recorded) []command.Command) Route[S] {
	r := Route[S]{kind: kind, event: reflect.TypeFor[E](), name: eventstore.NameOf[E]}
	switch f := any(ids).(type) {
	case func(E) string:
		if f != nil {
			r.ids = func(data any) []string { return []string{f(data.(E))} }
		}
	case func(E) []string:
		if f != nil {
			r.ids = func(data any) []string { return f(data.(E)) }
		}
	}
	if fn == nil || r.ids == nil {
		return Route[S]{}
	}
	r.handle = func(s *S, rec *eventstore.Recorded) []command.Command { return fn(s, rec.Data.(E), rec) }
	return r
}
