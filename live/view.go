package live

import (
	"fmt"
	"html/template"
	"io"
	"reflect"
	"strings"
	"sync"

	"github.com/levada-go/levada/live/internal/form"
	"github.com/levada-go/levada/live/internal/render"
)

// View is a kind of page with a state of type S. One View serves all who look at it: its funcs get the state of the
// page that they run for, from one goroutine at a time. A View must not be changed after it was given to a [Site].
//
// The template is executed with a *S. When S embeds a [Page], the template also has the flash, the errors of forms and
// the URL.
type View[S any] struct {
	// Template shows the state. It is an ordinary html/template, which must not have been executed before.
	// Either Template or Render must be set.
	Template *template.Template
	// Render shows the state by a component instead; the page is then compared as a whole.
	Render func(s *S) Component
	// Layout is the document around the view, executed with a *[Document]. Nil means that of the [Site].
	Layout *template.Template
	// Mount begins the state, for the page over HTTP and again when the page has connected. Its error ends the
	// page: see [Error] for what the browser is told.
	Mount func(ctx *Ctx, s *S) error
	// Params is called after Mount and whenever the URL changes within the view. Its error is like that of Mount.
	Params func(ctx *Ctx, s *S) error
	// Leave is called once when a page that Mount began without an error is gone, also one over HTTP. The ctx of
	// the page has ended by then.
	Leave func(s *S)

	mu       sync.Mutex
	events   map[string]handler[S]
	compiled *render.Template // not nil once the view is sealed
}

// On registers what to do when the event name comes from the page: by a live-click, a live-submit,
// a hook and so on. The values that come with it are decoded into an In:
//
//   - a struct: each exported field from the value of its name in snake case (StopPrice from stop_price) or
//     in its tag `live:"name"`; strings, bools, numbers, [encoding.TextUnmarshaler], pointers to and slices of these;
//     values without a field are ignored, fields without a value stay zero;
//   - [net/url.Values] for all of a form as it is; any other type from the JSON of a hook's payload.
//
// Values that do not fit are [Errors], and fn is not called; when *In has a method Validate() error, it is called
// first, and its error is like that of fn. A func that fails goes nowhere: what it asked of [Ctx.Patch],
// [Ctx.Navigate] and the like is not done.
//
// On panics if the name is empty or taken, begins with "live:", or the view is being served, or if two fields of In
// have the same name.
func On[S, In any](v *View[S], name string, fn func(ctx *Ctx, s *S, in In) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case name == "":
		panic("live: an event without a name")
	case strings.HasPrefix(name, ownEvents):
		panic(fmt.Sprintf("live: names of events must not begin with %q, as %q does", ownEvents, name))
	case v.events[name] != nil:
		panic(fmt.Sprintf("live: the event %q is there already", name))
	case v.compiled != nil:
		panic(fmt.Sprintf("live: the event %q comes too late, the view is being served", name))
	}
	if err := form.Check(reflect.TypeFor[In]()); err != nil {
		panic(fmt.Sprintf("live: the event %q: %v", name, err))
	}
	if v.events == nil {
		v.events = make(map[string]handler[S])
	}
	v.events[name] = func(ctx *Ctx, s *S, in input) error {
		var values In
		fields, err := form.Decode(in.form, in.payload, &values)
		if err != nil {
			return err
		}
		if len(fields) > 0 {
			return Errors(fields)
		}
		if v, ok := any(&values).(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				return err
			}
		}
		return fn(ctx, s, values)
	}
}

// ownEvents is how the names of events begin that the package itself handles.
const ownEvents = "live:"

// whole is the template of views that are shown by a component.
var whole = template.Must(template.New("component").Parse(`{{.}}`))

func (v *View[S]) prepare() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.compiled != nil {
		return nil
	}
	if (v.Template == nil) == (v.Render == nil) {
		return fmt.Errorf("live: a view needs a Template or a Render, and not both")
	}
	t := v.Template
	if t == nil {
		t = template.Must(whole.Clone())
	}
	compiled, err := render.New(t)
	if err != nil {
		return fmt.Errorf("live: the template of the view: %w", err)
	}
	v.compiled = compiled
	return nil
}

func (v *View[S]) document() *template.Template { return v.Layout }

func (v *View[S]) open() instance { return &screen[S]{view: v} }

// screen is the state of one page.
type screen[S any] struct {
	view  *View[S]
	ctx   *Ctx // since mount
	state S
	sent  *render.View // since the first frame
}

func (p *screen[S]) embedded() *Page {
	if e, ok := any(&p.state).(interface{ page() *Page }); ok {
		return e.page()
	}
	return nil
}

// attach gives the embedded Page what it shows, again and again, since a func of the view may have replaced the
// whole state.
func (p *screen[S]) attach() {
	if e := p.embedded(); e != nil {
		e.shown = &p.ctx.shown
	}
}

func (p *screen[S]) mount(ctx *Ctx) error {
	p.ctx = ctx
	p.attach()
	if p.view.Mount == nil {
		return nil
	}
	return p.view.Mount(ctx, &p.state)
}

func (p *screen[S]) params(ctx *Ctx) error {
	if p.view.Params == nil {
		return nil
	}
	p.attach()
	return p.view.Params(ctx, &p.state)
}

func (p *screen[S]) handle(ctx *Ctx, in input) error {
	h, ok := p.view.events[in.event]
	if !ok {
		return errNoEvent
	}
	p.attach()
	return h(ctx, &p.state, in)
}

func (p *screen[S]) execute(w io.Writer) error {
	data, err := p.data()
	if err != nil {
		return err
	}
	return p.view.compiled.Execute(w, data)
}

func (p *screen[S]) frame(dst []byte) ([]byte, error) {
	data, err := p.data()
	if err != nil {
		return dst, err
	}
	if p.sent == nil {
		p.sent = p.view.compiled.NewView()
	}
	p.ctx.rendering = p.sent
	defer func() { p.ctx.rendering = nil }()
	if dst, err = p.sent.Frame(dst, data); err != nil {
		return dst, err
	}
	for _, s := range p.ctx.streams {
		s.sent()
	}
	return dst, nil
}

// data returns what the template is executed with.
func (p *screen[S]) data() (any, error) {
	p.attach()
	if p.view.Render == nil {
		return &p.state, nil
	}
	return componentHTML(p.ctx, p.view.Render(&p.state))
}

func (p *screen[S]) leave() {
	if p.view.Leave != nil {
		p.view.Leave(&p.state)
	}
}
