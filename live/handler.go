package live

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/levada-go/levada/live/internal/wire"
)

// page is a View[S] without its type parameter: what a Site routes to.
type page interface {
	// prepare compiles the template and seals the view; calling it again is a no-op.
	prepare() error
	// open returns a page with a new state, nothing mounted.
	open() instance
	// document returns the layout of the view, nil for that of the site.
	document() *template.Template
}

// instance is the state of one page. Its methods are called by one goroutine at a time, mount before all that run
// funcs of the view.
type instance interface {
	embedded() *Page // the Page in the state, nil when it has none
	mount(ctx *Ctx) error
	params(ctx *Ctx) error
	handle(ctx *Ctx, in input) error  // errNoEvent when the view has none of this name
	execute(w io.Writer) error        // the whole page
	frame(dst []byte) ([]byte, error) // what changed since the last frame
	leave()
}

// input is an event with its values, as they came.
type input struct {
	event   string
	kind    string          // such as "submit", which it is without JavaScript
	form    url.Values      // of forms and of the values of an element
	payload json.RawMessage // of hooks
}

// isForm reports whether the values are those of a form.
func (in *input) isForm() bool { return in.kind == "submit" || in.kind == "change" }

type handler[S any] func(ctx *Ctx, s *S, in input) error

// errNoEvent says that a view has no event of this name.
var errNoEvent = errors.New("live: the view has no such event")

// panicError is what guard makes of a panic in a func of the view.
type panicError struct{ error }

func (e *panicError) Unwrap() error { return e.error }

func isPanic(err error) bool {
	_, ok := err.(*panicError) // not one that the func itself has from elsewhere and wraps
	return ok
}

// errLost is the error of a page that always leads to another.
var errLost = errors.New("live: the page leads from one URL to the next without an end")

// maxMoves is how often a page may lead to another URL before it is shown.
const maxMoves = 8

// outcome is what became of a page over HTTP.
type outcome struct {
	instance instance
	title    string
	to       string            // the URL to go to instead of showing the page, "" without
	flash    map[string]string // what Flash said
	err      error             // of Mount or Params; a panic, already logged, is a *panicError
	failed   error             // of the event
	ctx      *Ctx
	mounted  bool
}

// once runs a page over HTTP: Mount, Params and, when in is not nil, an event, until one of them fails or leads
// elsewhere.
func (s *Site) once(r *http.Request, p page, pattern, session string, flash map[string]string, in *input) *outcome {
	c := newCtx(r.Context(), s, pattern, r, session)
	c.shown.flash = maps.Clone(flash)
	o := &outcome{instance: p.open(), ctx: c}
	o.mounted, o.err = c.begin(o.instance)
	if o.err == nil && in != nil && c.move.kind == stays {
		in.kind = "submit"
		c.shown.values = in.form
		o.failed, _ = c.dispatch(o.instance, *in)
	}
	o.title, o.to, o.flash = c.title, c.move.to, c.said
	return o
}

// setFlash shows a message on the page.
func (o *outcome) setFlash(kind, text string) { o.ctx.setFlash(kind, text) }

// end is called when the page is written.
func (o *outcome) end() { o.ctx.end(o.instance, o.mounted) }

// begin mounts a page and calls Params, unless Mount leads elsewhere. It reports whether the page was mounted, which
// is when it has to be left, whatever the error.
func (c *Ctx) begin(i instance) (mounted bool, err error) {
	start := time.Now()
	defer func() {
		if f := c.site.options.Trace.Mounted; f != nil {
			f(c.pattern, c.Connected(), time.Since(start), err)
		}
	}()
	if err := c.guard(func() error { return i.mount(c) }); err != nil {
		return false, err
	}
	if c.move.kind != stays {
		return true, nil
	}
	return true, c.guard(func() error { return i.params(c) })
}

// dispatch handles an event. Errors are shown on the page. It also reports whether the page may have changed.
func (c *Ctx) dispatch(i instance, in input) (err error, changed bool) {
	if in.event == clearFlash {
		if kind := in.form.Get("kind"); in.form.Has("kind") {
			delete(c.shown.flash, kind)
		} else {
			clear(c.shown.flash)
		}
		return nil, true
	}
	start := time.Now()
	err = c.guard(func() error { return i.handle(c, in) })
	if errors.Is(err, errNoEvent) {
		return err, false
	}
	if f := c.site.options.Trace.Handled; f != nil {
		f(c.pattern, in.event, time.Since(start), err)
	}
	if err != nil {
		c.move = move{}
	}
	var fields Errors
	switch {
	case errors.As(err, &fields):
		c.shown.errors = maps.Clone(fields)
		if in.kind == "change" {
			maps.DeleteFunc(c.shown.errors, func(field, _ string) bool { return field != "" && in.form.Has("_unused_"+field) })
		}
	case in.isForm():
		c.shown.errors = nil
	}
	return err, true
}

// clearFlash is the event that takes messages away.
const clearFlash = ownEvents + "clear-flash"

// guard calls a func of the view. A panic is logged, traced and made a *panicError.
func (c *Ctx) guard(fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{c.panicked(v, debug.Stack())}
		}
	}()
	return fn()
}

// panicked reports a panic and makes an error of it.
func (c *Ctx) panicked(value any, stack []byte) error {
	c.site.log.Error("live: panic", slog.String("pattern", c.pattern), slog.Any("value", value), slog.String("stack", string(stack)))
	if f := c.site.options.Trace.Panicked; f != nil {
		f(c.pattern, value, stack)
	}
	err, ok := value.(error)
	if ok {
		err = fmt.Errorf("live: panic: %w", err)
	} else {
		err = fmt.Errorf("live: panic: %v", value)
	}
	if c.session != nil {
		if w, ok := c.session.conn.(wire.Witness); ok {
			w.Panicked(err)
		}
	}
	return err
}

// end ends the ctx and what works for it, and leaves the page.
func (c *Ctx) end(i instance, mounted bool) {
	c.cancel()
	for t := range c.timers {
		t.timer.Stop()
	}
	for _, f := range c.follows {
		f.remove(c.session)
	}
	c.timers, c.tasks, c.holds, c.follows = nil, nil, nil, nil
	if mounted {
		_ = c.guard(func() error { i.leave(); return nil })
	}
}

func newCtx(parent context.Context, s *Site, pattern string, r *http.Request, session string) *Ctx {
	c := &Ctx{site: s, pattern: pattern, request: r, name: session}
	c.Context, c.cancel = context.WithCancel(parent)
	c.setURL(r)
	return c
}
