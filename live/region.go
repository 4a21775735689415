package live

import (
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/levada-go/levada/live/internal/render"
	"github.com/levada-go/levada/live/internal/wire"
)

// Region is a part of pages that is the same for all who see it: an order book, a list of the latest trades. It is
// rendered and compared once for all of them, and sent as one frame. Its methods may be called by any goroutine,
// but for Show.
type Region[T any] struct {
	feed
	template *render.Template
	interval time.Duration
	closed   chan struct{}

	newest struct { // what Set said last
		sync.Mutex
		version uint64
		data    T
		any     bool // Set was called
		waits   bool // and no frame was made of it
		running bool // a goroutine makes frames
		closed  bool
	}
	made struct { // what the last frame was made of
		sync.Mutex
		view *render.View
		data T
		full *wire.Shared // the region as a whole, once somebody needed it
	}
}

// defaultInterval is the time between two frames of a region at least.
const defaultInterval = 50 * time.Millisecond

// NewRegion returns a region with a name that is unique among those that one page shows. The template is executed
// with a T; it must not have been executed before. Before the first Set the region is empty. At most one frame is
// made in interval, with what is newest; 0 means 50 ms, less than 0 no limit. The error is that of a template that
// is empty or does not escape, or of a name that is empty or longer than 256 bytes.
//
// A goroutine makes the frames, while there are any to make.
func NewRegion[T any](name string, t *template.Template, interval time.Duration) (*Region[T], error) {
	if name == "" || len(name) > wire.MaxName {
		return nil, errors.New("live: the name of a region must have 1 to 256 bytes")
	}
	compiled, err := render.New(t)
	if err != nil {
		return nil, fmt.Errorf("live: the region %q: %w", name, err)
	}
	if interval == 0 {
		interval = defaultInterval
	}
	r := &Region[T]{template: compiled, interval: interval, closed: make(chan struct{})}
	r.name, r.whole = name, r.full
	r.made.view = compiled.NewView()
	return r, nil
}

// Set shows data from now on. Version must rise: older or equal ones are ignored, but for the first, which may be
// 0. What data refers to must not be changed any more. Set does not wait for anyone. A template that fails is
// logged and leaves the region as it was. After Close it does nothing.
func (r *Region[T]) Set(version uint64, data T) {
	n := &r.newest
	n.Lock()
	defer n.Unlock()
	if n.closed || n.any && version <= n.version {
		return
	}
	n.version, n.data, n.any, n.waits = version, data, true, true
	if !n.running {
		n.running = true
		go r.run()
	}
}

// Close ends the region; pages keep what they show.
func (r *Region[T]) Close() {
	n := &r.newest
	n.Lock()
	defer n.Unlock()
	if !n.closed {
		n.closed = true
		close(r.closed)
	}
}

// Show makes the page follow the region until it is gone or [Ctx.Hide] is called; the page may show a region once.
// The [Shown] belongs into the state and its HTML into the template, where it must stand in the page as long as the
// region is shown.
func (r *Region[T]) Show(ctx *Ctx) Shown {
	name := template.HTMLEscapeString(r.name)
	var b strings.Builder
	b.WriteString(`<div id="region-` + name + `" live-region="` + name + `">`)
	if ctx.session == nil {
		r.print(&b)
	} else if ctx.following(r.name) == nil {
		ctx.follows = append(ctx.follows, &follow{feed: &r.feed})
		r.add(ctx.session)
	}
	b.WriteString(`</div>`)
	return Shown{name: r.name, html: template.HTML(b.String())}
}

// Shown is a region as a page has it.
type Shown struct {
	name string
	html template.HTML
}

// HTML returns the element that holds the region, with the id "region-NAME". Over HTTP it has the content; when the
// page is connected the browser keeps what it has, and the content follows.
func (s Shown) HTML() template.HTML { return s.html }

// Hide ends what Show began.
func (c *Ctx) Hide(s Shown) {
	for i, f := range c.follows {
		if f.name == s.name {
			f.remove(c.session)
			c.follows = append(c.follows[:i], c.follows[i+1:]...)
			return
		}
	}
}

// run makes frames until there are none to make.
func (r *Region[T]) run() {
	n := &r.newest
	for {
		n.Lock()
		if !n.waits || n.closed {
			n.running = false
			n.Unlock()
			return
		}
		data := n.data
		n.waits = false
		n.Unlock()
		r.frame(data)
		if r.interval > 0 {
			timer := time.NewTimer(r.interval)
			select {
			case <-timer.C:
			case <-r.closed:
				timer.Stop()
			}
		}
	}
}

// frame makes the frame that brings the region to data, and hands it out.
func (r *Region[T]) frame(data T) {
	m := &r.made
	m.Lock()
	defer m.Unlock()
	defer r.report()
	from := r.version()
	diff, err := m.view.Frame(nil, data)
	if err != nil {
		r.fail(err)
		return
	}
	m.data = data
	if len(diff) == 0 {
		return
	}
	m.full = nil
	shared := &wire.Shared{Bytes: wire.AppendRegion(nil, r.name, from, from+1, diff)}
	if from == 0 {
		m.full = shared
	}
	r.publish(shared)
}

// full returns the region as a whole and its version, nil when it cannot be rendered.
func (r *Region[T]) full() (*wire.Shared, uint64) {
	m := &r.made
	m.Lock()
	defer m.Unlock()
	version := r.version()
	if m.full == nil {
		frame, err := m.view.Full(nil, m.data)
		if err != nil {
			r.fail(err)
			return nil, version
		}
		m.full = &wire.Shared{Bytes: wire.AppendRegion(nil, r.name, 0, version, frame)}
	}
	return m.full, version
}

// print writes what Set said last, whether or not a frame was made of it yet: a page over HTTP is never older than
// what happened before it was asked for. If that cannot be shown, it writes what the last frame was made of.
func (r *Region[T]) print(to *strings.Builder) {
	n := &r.newest
	n.Lock()
	data, any := n.data, n.any
	n.Unlock()
	if !any || r.execute(to, data) {
		return
	}
	m := &r.made
	m.Lock()
	data = m.data
	m.Unlock()
	if r.version() > 0 {
		r.execute(to, data)
	}
}

// execute writes the region as it is with data, and reports whether it could.
func (r *Region[T]) execute(to *strings.Builder, data T) (ok bool) {
	defer r.report()
	var b strings.Builder
	if err := r.template.Execute(&b, data); err != nil {
		r.fail(err)
		return false
	}
	to.WriteString(b.String())
	return true
}

// fail logs that the template has failed.
func (f *feed) fail(err error) {
	slog.Error("live: a region cannot be rendered", slog.String("region", f.name), slog.Any("error", err))
}

// report logs a panic in what the template calls.
func (f *feed) report() {
	if v := recover(); v != nil {
		slog.Error("live: panic", slog.String("region", f.name), slog.Any("value", v), slog.String("stack", string(debug.Stack())))
	}
}

// feed is a Region without its type parameter: its frames, and who follows them. The versions of frames are 1, 2, 3, …
type feed struct {
	name  string
	state atomic.Pointer[feedState]
	whole func() (*wire.Shared, uint64) // nil when it cannot be rendered

	mu        sync.Mutex
	followers map[*session]struct{}
}

// feedState is the newest version and the frames that led there: the last one to it, and so on. It is not changed.
type feedState struct {
	version uint64
	recent  []*wire.Shared
}

// maxRecent is how many frames a page may be behind before it is sent the region as a whole.
const maxRecent = 8

func (f *feed) version() uint64 {
	if s := f.state.Load(); s != nil {
		return s.version
	}
	return 0
}

// publish hands out the frame to the next version. It waits for no page.
func (f *feed) publish(frame *wire.Shared) {
	next := &feedState{version: 1}
	if old := f.state.Load(); old != nil {
		next.version = old.version + 1
		next.recent = append(next.recent, old.recent[max(0, len(old.recent)-maxRecent+1):]...)
	}
	next.recent = append(next.recent, frame)
	f.state.Store(next)

	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.followers {
		select {
		case s.signal <- struct{}{}:
		default: // it will look anyway
		}
	}
}

func (f *feed) add(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followers == nil {
		f.followers = make(map[*session]struct{})
	}
	f.followers[s] = struct{}{}
}

func (f *feed) remove(s *session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.followers, s)
}

// follow is a region as one page has it.
type follow struct {
	*feed
	has   uint64 // the version that the browser has; 0 for none
	ready bool   // the browser has the element
}

func (c *Ctx) following(region string) *follow {
	for _, f := range c.follows {
		if f.name == region {
			return f
		}
	}
	return nil
}

// frames appends what brings the browser to the newest version.
func (f *follow) frames(all []outgoing) (batch []outgoing) {
	batch = all
	state := f.state.Load()
	if state == nil || f.has == state.version {
		return batch
	}
	if behind := state.version - f.has; f.has > 0 && behind <= uint64(len(state.recent)) {
		for _, frame := range state.recent[uint64(len(state.recent))-behind:] {
			batch = append(batch, outgoing{shared: frame})
		}
		f.has = state.version
		return batch
	}
	defer f.report()
	if frame, version := f.whole(); frame != nil {
		f.has = version
		batch = append(batch, outgoing{shared: frame})
	}
	return batch
}
