package router

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// A Router is a command.Handler that finds the handler by the command's type. The
// zero Router has no routes. It is safe for concurrent use; routes are best added
// before first use. A Router must not be copied.
//
// It is also a command.Submitter, and a command.Target, so that routers compose.
type Router struct {
	mu    sync.Mutex // writers
	table atomic.Pointer[table]
}

// A table is never changed but for what known remembers.
type table struct {
	targets []command.Target
	known   sync.Map // reflect.Type → command.Target; the targets' answers
}

// Handle adds targets. It panics on a nil target, and on a router that would come
// to contain itself.
func (r *Router) Handle(targets ...command.Target) {
	for _, t := range targets {
		if t == nil {
			panic("router: nil target")
		}
		if contains(t, r) {
			panic("router: a router cannot be its own target")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.targets()
	r.table.Store(&table{targets: append(old[:len(old):len(old)], targets...)})
}

// Handles reports whether a command is routed, to one target or mistakenly to
// several.
func (r *Router) Handles(c command.Command) bool {
	t, err := r.target(c)
	return t != nil || errors.Is(err, ErrAmbiguous)
}

// HandleCommand passes e to the target that handles its command. If there is none
// the error is a command.ErrUnrouted, if there are several an ErrAmbiguous.
func (r *Router) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	t, err := r.target(e.Command)
	if err != nil {
		return command.Result{}, err
	}
	return t.HandleCommand(ctx, e)
}

// SubmitCommand is HandleCommand that does not wait for the outcome. Targets
// that are no Submitters handle the command on a goroutine, in no order.
func (r *Router) SubmitCommand(ctx context.Context, e *command.Envelope) *command.Pending {
	t, err := r.target(e.Command)
	if err != nil {
		return command.Resolved(command.Result{}, err)
	}
	return command.SubmitEnvelope(ctx, t, e)
}

// ErrAmbiguous reports a command that several targets handle.
var ErrAmbiguous = errors.New("router: several handlers")

// Check finds out before the first command what can be found out: it returns an
// ErrAmbiguous for every command that several targets handle and a command.ErrUnrouted
// for every one that none does, joined. The commands it asks about are the examples,
// of which only the type counts, and those of every Func; see also Names.Commands.
func (r *Router) Check(examples ...command.Command) error {
	var errs []error
	seen := map[reflect.Type]bool{}
	for _, c := range append(r.Commands(), examples...) {
		rt := reflect.TypeOf(c)
		if seen[rt] {
			continue
		}
		seen[rt] = true
		if _, err := r.target(c); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Commands returns an example of each command that targets can name: those of Func.
func (r *Router) Commands() []command.Command {
	var all []command.Command
	for _, t := range r.targets() {
		if l, ok := t.(lister); ok {
			all = append(all, l.Commands()...)
		}
	}
	return all
}

// A lister is a target that can name its commands.
type lister interface{ Commands() []command.Command }

func (r *Router) targets() []command.Target {
	if t := r.table.Load(); t != nil {
		return t.targets
	}
	return nil
}

func (r *Router) target(c command.Command) (command.Target, error) {
	if c == nil {
		return nil, fmt.Errorf("router: %w: nil command", eventstore.ErrInvalid)
	}
	tab := r.table.Load()
	if tab == nil {
		return nil, fmt.Errorf("router: %w for %T", command.ErrUnrouted, c)
	}
	rt := reflect.TypeOf(c)
	if t, ok := tab.known.Load(rt); ok {
		return t.(command.Target), nil
	}
	var found []command.Target
	for _, t := range tab.targets {
		if t.Handles(c) {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("router: %w for %T", command.ErrUnrouted, c)
	case len(found) > 1:
		return nil, fmt.Errorf("%w for %T: %s and %s", ErrAmbiguous, c, describe(found[0]), describe(found[1]))
	}
	if inner := within(found[0]); inner != nil {
		// It may itself be unable to tell.
		if _, err := inner.target(c); err != nil {
			return nil, err
		}
	}
	tab.known.Store(rt, found[0])
	return found[0], nil
}

func describe(t command.Target) string {
	if s, ok := t.(fmt.Stringer); ok {
		return s.String()
	}
	return fmt.Sprintf("%T", t)
}

// contains reports whether r is t or one of the targets below it.
func contains(t command.Target, r *Router) bool {
	inner := within(t)
	if inner == nil || inner == r {
		return inner != nil
	}
	for _, below := range inner.targets() {
		if contains(below, r) {
			return true
		}
	}
	return false
}

// within returns the router that t is, behind whatever middleware, or nil.
func within(t command.Target) *Router {
	for {
		switch u := t.(type) {
		case *Router:
			return u
		case used:
			t = u.t
		default:
			return nil
		}
	}
}
