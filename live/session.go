package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/live/internal/wire"
)

const (
	// mailboxSize is how many funcs may wait for a page before Post waits, and how many run at most before a frame.
	mailboxSize = 32
	// pace is the least time between two frames of a page that nobody asked for. What the user does is
	// answered at once.
	pace = 16 * time.Millisecond
	// joinWait is for how long a connection may be without a page.
	joinWait = 10 * time.Second
	// A page that panics more than maxPanics times within panicWindow is sent away, for awayFor on average.
	maxPanics   = 3
	panicWindow = 30 * time.Second
	awayFor     = 10 * time.Second
	// ageSpread is the part of MaxAge by which connections end at different times.
	ageSpread = 10
)

// closeBroken is the code of WebSocket for a page that keeps panicking.
const closeBroken = 1011

// session is a connection and the page it shows. Everything in it belongs to the goroutine of run, but for the
// channels and what is said to be otherwise.
//
//	reader ── in ──► run ──► writer, while there is a frame to write
//	others ── box ─►     ◄── wrote
type session struct {
	site    *Site
	conn    wire.Conn
	request *http.Request // of the upgrade
	ctx     context.Context
	cancel  context.CancelFunc // called by the reader, too

	in     chan *wire.Message
	box    chan job
	own    []job         // taken from the box, which was full when a func of the view posted another
	signal chan struct{} // a region that the page shows has changed
	wrote  chan error
	id     string // of the goroutine

	// The page that is shown; c and instance are nil without one.
	c        *Ctx
	instance instance
	page     page
	began    bool             // Mount was done
	release  func()           // undoes Site.enter; nil before the first join
	name     string           // of the browser's session
	joined   *wire.JoinValues // of the last join
	moves    int              // from one URL to the next without a frame
	views    uint64           // how many views the browser was told to go to since it has joined

	// What the browser is to be told.
	pending  bool   // a mount, for mountRef
	mountRef uint64 // 0 for a mount that nobody asked for
	isJoin   bool   // mountRef is that of a join, which nothing else answers
	dirty    bool   // the state may have changed
	asked    bool   // the user waits for it
	funcs    int    // that ran since the last frame
	acks     []uint64
	beats    []uint64 // refs of heartbeats
	pushes   []push
	replies  []wire.Reply
	url      string // of the page, when the browser does not know it
	replace  bool
	last     []byte // a frame to go with the next: leave, stale
	title    string // that the browser has
	told     uint64 // the position that the browser has

	batch    []outgoing
	writing  bool
	overflow bool // more events were pushed than may wait
	paced    time.Time
	panics   []time.Time
	heard    uint64 // the last ref
	active   time.Time
	expires  time.Time // by MaxAge; zero means never
	joinBy   time.Time // zero while there is a page
	timer    *time.Timer
	alarm    time.Time // when timer fires; zero when it does not

	over  bool
	bye   []byte // the last frame, after which the connection is closed
	code  int
	cause string
}

// job is a func of the view.
type job struct {
	ctx *Ctx
	fn  func()
}

// run serves a connection until it ends; r is the request that it was opened with.
func (s *Site) run(conn wire.Conn, r *http.Request) {
	x := &session{
		site: s, conn: conn, request: r,
		in: make(chan *wire.Message, 2), box: make(chan job, mailboxSize), signal: make(chan struct{}, 1), wrote: make(chan error, 1),
		id: goroutineID(), joinBy: time.Now().Add(joinWait),
	}
	x.ctx, x.cancel = context.WithCancel(r.Context())
	if s.options.MaxAge > 0 {
		age := s.options.MaxAge
		x.expires = time.Now().Add(age - rand.N(age/ageSpread+1))
	}
	var reader sync.WaitGroup
	reader.Go(x.read)
	defer reader.Wait()
	defer x.end()
	x.loop()
}

// read hands frames over, one by one, so that a page that is busy slows its client down.
func (s *session) read() {
	defer s.cancel()
	for {
		frame, err := s.conn.Read()
		if err != nil {
			return
		}
		m, err := wire.Decode(frame)
		if err != nil {
			s.site.log.Debug("live: a frame was refused", slog.Any("error", err))
			s.conn.Close(closeBad, "the frame is none of the protocol")
			return
		}
		select {
		case s.in <- &m:
		case <-s.ctx.Done():
			// The connection is closed; what still comes is read until it says so itself.
		}
	}
}

func (s *session) loop() {
	for !s.over {
		if len(s.own) == 0 && !s.wait() {
			return
		}
		// What else is there already is done before a frame is made of it.
		for n := 1; n < mailboxSize && !s.over && s.next(); n++ {
		}
		s.flush()
	}
}

// wait waits for something and does it. It reports whether the connection is still there.
func (s *session) wait() bool {
	s.arm()
	var alarm <-chan time.Time
	if s.timer != nil {
		alarm = s.timer.C
	}
	select {
	case <-s.ctx.Done():
		return false
	case <-s.site.draining:
		s.finish(wire.AppendBye(nil, s.site.bye()), closeShutdown, "the server shuts down")
	case m := <-s.in:
		s.hear(m)
	case j := <-s.box:
		s.do(j)
	case err := <-s.wrote:
		s.sent(err)
	case <-s.signal: // what is new in the region is sent by flush
	case <-alarm:
		s.alarm = time.Time{}
		s.expire(time.Now())
	}
	return true
}

// next does what waits, without waiting. It reports whether there was something.
func (s *session) next() bool {
	if len(s.own) > 0 {
		j := s.own[0]
		s.own = slices.Delete(s.own, 0, 1)
		s.do(j)
		return true
	}
	select {
	case m := <-s.in:
		s.hear(m)
	case j := <-s.box:
		s.do(j)
	default:
		return false
	}
	return true
}

// end closes the connection and leaves the page.
func (s *session) end() {
	s.cancel()
	s.drop()
	if s.release != nil {
		s.release()
	}
	if s.timer != nil {
		s.timer.Stop()
	}
	if len(s.bye) > 0 && s.settle() {
		_ = s.conn.Write(s.bye)
	}
	if s.code == 0 {
		s.code = closeShutdown
	}
	s.conn.Close(s.code, s.cause)
	if s.writing {
		<-s.wrote
	}
}

// settle waits for the frame that is being written, for as long as a client may take no byte. It reports whether
// the connection can take another.
func (s *session) settle() bool {
	if !s.writing {
		return true
	}
	timeout := time.NewTimer(s.site.options.WriteWait)
	defer timeout.Stop()
	select {
	case err := <-s.wrote:
		s.writing = false
		return err == nil
	case <-timeout.C:
		return false
	}
}

// finish ends the session with a last frame, if any, and a code of WebSocket. The first one counts.
func (s *session) finish(bye []byte, code int, cause string) {
	if !s.over {
		s.over, s.bye, s.code, s.cause = true, bye, code, cause
	}
}

// Time

// arm sets the timer to the next moment at which something is due, if there is any.
func (s *session) arm() {
	var next time.Time
	soonest := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	soonest(s.expires)
	soonest(s.joinBy)
	if s.site.options.Idle > 0 && s.instance != nil {
		soonest(s.active.Add(s.site.options.Idle))
	}
	if s.instance != nil {
		for _, h := range s.c.holds {
			soonest(h.until)
		}
		if s.dirty && !s.writing && len(s.c.holds) == 0 {
			soonest(s.paced)
		}
	}
	switch {
	case next.Equal(s.alarm):
		return
	case next.IsZero():
		s.timer.Stop()
	case s.timer == nil:
		s.timer = time.NewTimer(time.Until(next))
	default:
		s.timer.Reset(time.Until(next))
	}
	s.alarm = next
}

// expire ends a session whose time is over.
func (s *session) expire(now time.Time) {
	idle := s.site.options.Idle
	switch {
	case !s.joinBy.IsZero() && !now.Before(s.joinBy):
		s.finish(nil, closeBad, "the page did not join")
	case !s.expires.IsZero() && !now.Before(s.expires):
		s.finish(wire.AppendBye(nil, 0), closeShutdown, "the connection is too old")
	case idle > 0 && s.instance != nil && !now.Before(s.active.Add(idle)):
		s.finish(wire.AppendBye(nil, idle), closeShutdown, "nobody was there")
	case s.instance != nil && len(s.c.holds) > 0:
		s.askHolds()
	}
}

// What the browser says

func (s *session) hear(m *wire.Message) {
	if m.Ref <= s.heard {
		s.finish(nil, closeBad, "the refs do not rise")
		return
	}
	s.heard, s.moves = m.Ref, 0
	switch {
	case m.Kind == wire.Join:
		s.join(m)
		return
	case s.release == nil:
		s.finish(nil, closeBad, "the page has not joined")
		return
	case m.Kind == wire.Heartbeat:
		s.beats = append(s.beats, m.Ref)
		return
	case m.Kind == wire.Region:
		if s.instance != nil {
			if f := s.c.following(m.Name); f != nil {
				f.has = 0
			}
		}
		return
	}
	s.active = time.Now()
	s.asked = true
	switch {
	case s.instance == nil: // the page is on its way to another
		s.acks = append(s.acks, m.Ref)
	case m.Kind == wire.Event:
		s.event(m)
	case m.Kind == wire.Patch:
		s.goes(move{kind: patches, to: m.URL}, m.Ref, nil)
	case m.Kind == wire.Navigate:
		s.goes(move{kind: navigates, to: m.URL}, m.Ref, nil)
	}
}

func (s *session) join(m *wire.Message) {
	name, flash, err := s.site.verify(m.Join.Token, s.request)
	if err != nil {
		s.site.log.Debug("live: a token was refused", slog.Any("error", err))
		s.gone(wire.AppendStale(nil))
		return
	}
	if s.release != nil {
		s.release()
	}
	s.release = s.site.enter(name, s.conn)
	s.name, s.joined, s.active = name, m.Join, time.Now()
	if m.Join.Joins > 0 {
		flash = nil // the user has seen it
	}
	s.drop()
	s.unmount()
	s.title, s.url, s.last, s.views = "", "", nil, 0
	p, pattern, r, err := s.site.resolve(s.request, m.URL)
	if err != nil {
		s.gone(s.leaveFor(m.URL, flash))
		return
	}
	s.mount(p, pattern, r, m.Ref, s.joined, flash)
}

// handled is the answer to a form that was dealt with without an error: the browser shows in it what is rendered.
var handled = json.RawMessage("1")

func (s *session) event(m *wire.Message) {
	s.acks = append(s.acks, m.Ref)
	if m.View != s.views || s.pending && s.goesOn() {
		s.site.log.Debug("live: an event came for a view that is gone", slog.String("pattern", s.c.pattern), slog.String("event", m.Name))
		return
	}
	in := input{event: m.Name, kind: m.Type, form: m.Values, payload: m.Payload}
	if in.kind == "hook" {
		s.c.hook = m.Ref
	}
	err, changed := s.c.dispatch(s.instance, in)
	s.c.hook = 0
	var fields Errors
	switch {
	case errors.Is(err, errNoEvent):
		s.site.log.Debug("live: the view has no such event", slog.String("pattern", s.c.pattern), slog.String("event", in.event))
		if w, ok := s.conn.(wire.Witness); ok {
			w.Unknown(in.event)
		}
	case isPanic(err):
		s.broken()
		return
	case err != nil && !errors.As(err, &fields):
		text, known := s.site.explain(err)
		if !known {
			s.site.log.Error("live: an event failed", slog.String("pattern", s.c.pattern), slog.String("event", in.event), slog.Any("error", err))
		}
		s.c.setFlash("error", text)
	case err == nil && in.kind == "submit":
		s.replies = append(s.replies, wire.Reply{Ref: m.Ref, Value: handled})
	}
	if changed {
		s.ran()
	}
}

// do runs a func of the view, if its page is still there.
func (s *session) do(j job) {
	if j.ctx.Err() != nil {
		return
	}
	s.moves = 0
	if err := s.c.guard(func() error { j.fn(); return nil }); err != nil {
		s.broken()
		return
	}
	s.ran()
}

// ran is called after a func of the view that did not panic.
func (s *session) ran() {
	s.dirty = true
	s.funcs++
	if s.overflow {
		if f := s.site.options.Trace.TooSlow; f != nil {
			f(s.c.pattern)
		}
		s.finish(nil, closeSlow, "too many events wait")
		return
	}
	m, said := s.c.take()
	if m.kind != stays {
		if s.pending { // what a page that is not shown would have shown is for the next one
			said = s.c.shown.flash
		}
		s.tell(m, said)
	}
	if s.instance != nil && len(s.c.holds) > 0 {
		s.askHolds()
	}
}

// goesOn reports whether the mount that the browser is to be told of is that of another view for it, and not the
// same one again.
func (s *session) goesOn() bool { return !s.isJoin && (s.mountRef != 0 || s.url != "") }

func (s *session) askHolds() {
	if err := s.c.askHolds(time.Now()); err != nil {
		s.broken()
	}
}

// Where the page goes

// tell goes where a func of the view wanted to go, and tells the browser.
func (s *session) tell(m move, said map[string]string) {
	if s.moves++; s.moves > maxMoves {
		s.failed(errLost)
		return
	}
	if m.kind == redirects {
		s.last = s.leaveFor(m.to, said)
		return
	}
	// The URL that leads on must not be one to come back to.
	replace := m.replace || s.moves > 1 || s.pending
	if s.url != "" {
		replace = replace && s.replace
	}
	url := s.url
	s.url, s.replace = m.to, replace
	if !s.goes(m, 0, said) {
		s.url = url
	}
}

// goes patches or navigates. It reports whether the page did so; otherwise the browser goes by itself.
func (s *session) goes(m move, ref uint64, said map[string]string) bool {
	p, pattern, r, err := s.site.resolve(s.request, m.to)
	if err != nil {
		s.last = s.leaveFor(m.to, said)
		s.ack(ref)
		return false
	}
	if m.kind == navigates || p != s.page {
		s.mount(p, pattern, r, ref, &wire.JoinValues{Params: s.joined.Params}, said)
		return true
	}
	s.ack(ref)
	s.c.pattern = pattern
	s.c.setURL(r)
	s.c.shown.flash = maps.Clone(said)
	if err := s.c.guard(func() error { return s.instance.params(s.c) }); err != nil {
		s.failed(err)
		return true
	}
	s.ran()
	return true
}

func (s *session) ack(ref uint64) {
	if ref != 0 {
		s.acks = append(s.acks, ref)
	}
}

// mount leaves the page and shows another one.
func (s *session) mount(p page, pattern string, r *http.Request, ref uint64, join *wire.JoinValues, flash map[string]string) {
	s.drop()
	switch {
	case !s.pending:
		s.pending, s.mountRef, s.isJoin = true, ref, join == s.joined
	case ref == 0: // what was asked for leads here
	case s.isJoin:
		s.ack(ref)
	default:
		s.ack(s.mountRef) // of a mount that nobody saw
		s.mountRef = ref
	}
	s.joinBy, s.told = time.Time{}, 0
	c := newCtx(s.ctx, s.site, pattern, r, s.name)
	c.session, c.join = s, join
	_, c.keeps = s.conn.(wire.Observer)
	c.shown.flash = maps.Clone(flash)
	s.c, s.page, s.instance = c, p, p.open()
	var err error
	if s.began, err = c.begin(s.instance); err != nil {
		s.failed(err)
		return
	}
	s.asked = true
	s.ran()
}

// failed is called when Mount or Params returned an error: the browser loads the page over HTTP, so that the user
// sees what is wrong.
func (s *session) failed(err error) {
	if isPanic(err) {
		s.broken()
		return
	}
	var told *Error
	if !errors.As(err, &told) {
		s.site.log.Error("live: a page failed", slog.String("pattern", s.c.pattern), slog.Any("error", err))
		if s.isJoin && s.pending && s.joined.Joins == 0 {
			// The page was served over HTTP a moment ago; loading it again at once could go on for ever.
			s.away("the page failed")
			return
		}
	}
	s.gone(s.leaveFor(s.c.shown.url.String(), nil))
}

// unmount forgets a mount that nobody saw.
func (s *session) unmount() {
	if !s.isJoin {
		s.ack(s.mountRef)
	}
	s.pending, s.mountRef = false, 0
}

// gone is called when there is no page to show any more: the browser has to go somewhere else, as the frame says.
func (s *session) gone(frame []byte) {
	s.drop()
	s.unmount()
	s.last, s.url = frame, ""
	s.joinBy = time.Now().Add(joinWait)
}

// broken is called when a func of the view panicked: the page is mounted again where it was.
func (s *session) broken() {
	now := time.Now()
	s.panics = slices.DeleteFunc(s.panics, func(t time.Time) bool { return now.Sub(t) > panicWindow })
	if s.panics = append(s.panics, now); len(s.panics) > maxPanics {
		s.away("the page keeps failing")
		return
	}
	join := &wire.JoinValues{Params: s.joined.Params, Joins: s.joined.Joins, Position: s.c.position}
	if s.c.join != nil {
		join.Position = max(join.Position, s.c.join.Position)
	}
	s.overflow = false
	s.mount(s.page, s.c.pattern, s.c.request, 0, join, nil)
}

// away ends the connection of a page that cannot be shown now.
func (s *session) away(cause string) {
	s.finish(wire.AppendBye(nil, awayFor/2+rand.N(awayFor)), closeBroken, cause)
}

// drop leaves the page.
func (s *session) drop() {
	if s.instance == nil {
		return
	}
	s.c.end(s.instance, s.began)
	s.c, s.instance, s.page, s.began = nil, nil, nil, false
	s.dirty, s.funcs = false, 0
}

// leaveFor returns the frame that makes the browser load a URL.
func (s *session) leaveFor(target string, flash map[string]string) []byte {
	u, err := url.Parse(target)
	if err != nil || u.Opaque != "" || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" {
		target = "/" // the browser itself has said it
	}
	return wire.AppendLeave(nil, s.site.leaveURL(s.name, target, flash))
}

// What the browser is told

// flush sends what is new, if the connection can take it and nothing holds it back.
func (s *session) flush() {
	for !s.writing && !s.over {
		batch, err := s.frames(time.Now())
		if err != nil {
			if !isPanic(err) {
				s.site.log.Error("live: a page cannot be rendered", slog.String("pattern", s.c.pattern), slog.Any("error", err))
			}
			s.broken()
			continue
		}
		if s.batch = batch; len(batch) > 0 {
			s.writing = true
			go s.write(batch)
		}
		return
	}
}

// outgoing is a frame to write: one of the page, or one of many.
type outgoing struct {
	own    *[]byte // goes back to buffers
	shared *wire.Shared
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (s *session) write(batch []outgoing) {
	var err error
	for _, f := range batch {
		switch {
		case err != nil:
		case f.shared != nil:
			err = s.conn.WriteShared(f.shared)
		default:
			err = s.conn.Write(*f.own)
		}
		if f.own != nil && cap(*f.own) <= maxBuffer {
			buffers.Put(f.own)
		}
	}
	s.wrote <- err
}

// maxBuffer is the size up to which a buffer is kept for the next frame.
const maxBuffer = 64 << 10

// frames returns what is to be written now.
func (s *session) frames(now time.Time) (batch []outgoing, err error) {
	clear(s.batch)
	batch = s.batch[:0]
	add := func(fill func(dst []byte) []byte) {
		buf := buffers.Get().(*[]byte)
		*buf = fill((*buf)[:0])
		batch = append(batch, outgoing{own: buf})
	}
	held := s.instance != nil && (len(s.c.holds) > 0 || !s.asked && now.Before(s.paced))
	if !held {
		var body wire.Body
		if s.dirty {
			diff := buffers.Get().(*[]byte)
			defer buffers.Put(diff)
			start := time.Now()
			if err = s.c.guard(func() error { *diff, err = s.instance.frame((*diff)[:0]); return err }); err != nil {
				return nil, err
			}
			if f := s.site.options.Trace.Rendered; f != nil {
				f(s.c.pattern, time.Since(start), len(*diff))
			}
			if f := s.site.options.Trace.Conflated; f != nil && s.funcs > 1 {
				f(s.c.pattern, s.funcs)
			}
			body.Frame = *diff
			s.dirty, s.funcs, s.paced = false, 0, now.Add(pace)
			if err := s.observe(); err != nil {
				return nil, err
			}
			for _, f := range s.c.follows {
				f.ready = true
			}
		}
		if s.pending && s.goesOn() {
			s.views++
		}
		s.fill(&body)
		acks := append(s.acks, s.beats...)
		switch {
		case s.pending:
			add(func(dst []byte) []byte { return wire.AppendMount(dst, s.mountRef, &body) })
			if len(acks) > 0 {
				add(func(dst []byte) []byte { return wire.AppendUpdate(dst, acks, &wire.Body{}) })
			}
			s.pending, s.mountRef = false, 0
		case len(acks) > 0 || !body.Empty():
			add(func(dst []byte) []byte { return wire.AppendUpdate(dst, acks, &body) })
		}
		s.acks, s.beats, s.asked = s.acks[:0], s.beats[:0], false
		s.pushes, s.replies = nil, nil
		if s.last != nil {
			last := s.last
			add(func(dst []byte) []byte { return append(dst, last...) })
			s.last = nil
		}
	} else if len(s.beats) > 0 {
		add(func(dst []byte) []byte { return wire.AppendUpdate(dst, s.beats, &wire.Body{}) })
		s.beats = s.beats[:0]
	}
	if s.instance != nil {
		for _, f := range s.c.follows {
			if f.ready {
				batch = f.frames(batch)
			}
		}
	}
	return batch, nil
}

// fill puts everything but the frame into the body.
func (s *session) fill(b *wire.Body) {
	for _, p := range s.pushes {
		if p.before {
			b.Before = append(b.Before, p.Push)
		} else {
			b.After = append(b.After, p.Push)
		}
	}
	b.Replies = s.replies
	b.URL, b.Replace = s.url, s.replace
	s.url = ""
	if s.c == nil {
		return
	}
	if s.c.title != s.title {
		s.title = s.c.title
		b.Title = &s.title
	}
	// A position alone is worth no frame: it goes with the next one.
	if s.c.position > s.told && (!b.Empty() || len(s.acks) > 0 || s.pending) {
		s.told = s.c.position
		b.Position = s.told
	}
}

// observe shows a connection that wants to check frames what the page is after the next one.
func (s *session) observe() error {
	o, ok := s.conn.(wire.Observer)
	if !ok {
		return nil
	}
	var html bytes.Buffer
	if err := s.c.guard(func() error { return s.instance.execute(&html) }); err != nil {
		return err
	}
	o.Rendered(html.Bytes())
	return nil
}

// sent is called when the writer is done.
func (s *session) sent(err error) {
	if s.writing = false; err != nil {
		s.finish(nil, closeShutdown, "the connection is broken")
	}
}

// post puts a func into the mailbox.
func (s *session) post(j job) bool {
	select {
	case s.box <- j:
		return true
	default:
	}
	// A func of the view that waited here would wait for itself.
	if goroutineID() == s.id {
		for {
			select {
			case earlier := <-s.box:
				s.own = append(s.own, earlier)
				continue
			default:
			}
			s.own = append(s.own, j)
			return true
		}
	}
	select {
	case s.box <- j:
		return true
	case <-j.ctx.Done():
		return false
	}
}

// goroutineID returns the number that the trace of the calling goroutine begins with, which is the one way to tell
// goroutines apart.
func goroutineID() string {
	var b [64]byte
	trace := string(b[:runtime.Stack(b[:], false)])
	trace = strings.TrimPrefix(trace, "goroutine ")
	id, _, _ := strings.Cut(trace, " ")
	return strings.Clone(id)
}
