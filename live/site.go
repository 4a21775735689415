package live

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/live/internal/wire"
)

// Options change how a [Site] works. The zero Options are the defaults.
type Options struct {
	// Layout is the document around every view, executed with a *[Document]. Nil means a plain one in English.
	Layout *template.Template
	// Error is the view of what cannot be shown, such as a URL without a view, in the Layout: executed with an *[Error]
	// whose Text is never empty, for a browser that takes HTML. Nil means a line of text.
	Error *template.Template
	// Secret signs what ties a connection to the page it belongs to, at least 32 bytes. All processes that serve
	// one site must have the same. Nil means a random one: pages then renew theirs when the process has restarted.
	Secret []byte
	// Explain returns the text for the user of an error that the func of an event returned, or "" for those that
	// are none of the user's business, which are logged.
	Explain func(error) string
	// Origins are the origins besides the site's own that may connect and send forms, as "https://example.com". A
	// proxy that passes on another Host than the browser asked for makes the site's own origin one of these.
	Origins []string
	// Logger is told of panics and failures. Nil means [slog.Default].
	Logger *slog.Logger
	// Trace is called when something happens. Nil means nothing.
	Trace *Trace

	MaxFrame    int           // of a frame from the browser and of a form without JavaScript, in bytes, at least 8 KiB; 0 means 64 KiB
	EventRate   float64       // events a second that one page may send; 0 means 50
	EventBurst  int           // that may come at once; 0 means 100
	MaxPushes   int           // pushed events that may wait; 0 means 256
	MaxPages    int           // pages that may be connected; 0 means 100,000
	HoldTimeout time.Duration // see [Ctx.Hold]; 0 means 5 s
	WriteWait   time.Duration // for how long a client may take no byte; 0 means 10 s
	SessionAge  time.Duration // for how long a browser keeps its session after the last page; 0 means until it is closed
	TokenAge    time.Duration // for how long a page may wait before it connects; 0 means 24 h
	Idle        time.Duration // without an event from the user, after which a page is disconnected for as long again; 0 means never
	MaxAge      time.Duration // after which a page must connect anew, spread by a tenth; 0 means never
}

// minFrame is the least MaxFrame, in bytes: room for a token with a flash and a long URL.
const minFrame = 8 << 10

// withDefaults returns the options with every default filled in, or an error that names the field at fault.
func (o Options) withDefaults() (Options, error) {
	for _, f := range []struct {
		name     string
		negative bool
	}{
		{"MaxFrame", o.MaxFrame < 0}, {"EventRate", !(o.EventRate >= 0)}, {"EventBurst", o.EventBurst < 0},
		{"MaxPushes", o.MaxPushes < 0}, {"MaxPages", o.MaxPages < 0}, {"HoldTimeout", o.HoldTimeout < 0},
		{"WriteWait", o.WriteWait < 0}, {"SessionAge", o.SessionAge < 0}, {"TokenAge", o.TokenAge < 0}, {"Idle", o.Idle < 0}, {"MaxAge", o.MaxAge < 0},
	} {
		if f.negative {
			return o, fmt.Errorf("live: Options.%s must not be negative", f.name)
		}
	}
	if o.MaxFrame != 0 && o.MaxFrame < minFrame {
		return o, fmt.Errorf("live: Options.MaxFrame is %d bytes, which is less than the %d that a page may need to connect", o.MaxFrame, minFrame)
	}
	if math.IsInf(o.EventRate, 0) {
		return o, errors.New("live: Options.EventRate must be finite")
	}
	if o.Secret != nil && len(o.Secret) < 32 {
		return o, fmt.Errorf("live: Options.Secret has %d bytes; it needs 32 random ones at least", len(o.Secret))
	}
	orElse(&o.MaxFrame, 64<<10)
	orElse(&o.EventRate, 50)
	orElse(&o.EventBurst, 100)
	orElse(&o.MaxPushes, 256)
	orElse(&o.MaxPages, 100_000)
	orElse(&o.HoldTimeout, 5*time.Second)
	orElse(&o.WriteWait, 10*time.Second)
	orElse(&o.TokenAge, 24*time.Hour)
	if o.Layout == nil {
		o.Layout = plainLayout
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Trace == nil {
		o.Trace = &Trace{}
	}
	return o, nil
}

func orElse[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

// Site serves views. It is an [http.Handler], to be used by any number of goroutines.
type Site struct {
	options Options // with all defaults
	log     *slog.Logger
	mux     *http.ServeMux // finds views: its handlers only fill the slot in the context
	origins map[string]bool
	forms   *http.CrossOriginProtection
	keys    keys
	client  *asset

	draining chan struct{} // closed by Shutdown
	drained  chan struct{} // closed when no connection is left after that

	mu       sync.Mutex
	conns    map[wire.Conn]string // the session each has joined for, "" before it has
	sessions map[string]map[wire.Conn]struct{}
	joined   int
	spread   time.Duration // over which Shutdown spreads the connections
	share    int           // how many connections there were when it began
	byes     int           // how many have been told
}

// NewSite returns a Site without views. Nil options are the defaults. It returns an error when an option is out of
// bounds or the layout does not show the head and the body of a [Document].
func NewSite(o *Options) (*Site, error) {
	if o == nil {
		o = &Options{}
	}
	options, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Site{
		options: options, log: options.Logger, mux: http.NewServeMux(),
		origins: make(map[string]bool), forms: http.NewCrossOriginProtection(),
		keys: newKeys(options.Secret), client: clientAsset(),
		draining: make(chan struct{}), drained: make(chan struct{}),
		conns: make(map[wire.Conn]string), sessions: make(map[string]map[wire.Conn]struct{}),
	}
	for _, origin := range options.Origins {
		if err := s.forms.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("live: Options.Origins: %w", err)
		}
		s.origins[strings.ToLower(origin)] = true
	}
	if err := checkLayout(options.Layout); err != nil {
		return nil, fmt.Errorf("live: Options.Layout: %w", err)
	}
	if options.Error != nil {
		if err := options.Error.Execute(io.Discard, &Error{http.StatusNotFound, "text"}); err != nil {
			return nil, fmt.Errorf("live: Options.Error: %w", err)
		}
	}
	return s, nil
}

// Handle serves a view, given as a *[View], at a pattern of [http.ServeMux] without a method, such as
// "/rooms/{room}". It panics when the pattern is taken, has a method or is below /_live/, or when the view cannot
// be served: no template, one that does not escape, or a layout that does not show the head and the body of a
// [Document].
func Handle[S any](site *Site, pattern string, v *View[S]) {
	if v == nil {
		panic(fmt.Sprintf("live: the view at %q is nil", pattern))
	}
	site.handle(pattern, v)
}

func (s *Site) handle(pattern string, p page) {
	switch slash := strings.IndexByte(pattern, '/'); {
	case strings.ContainsAny(pattern, " \t"):
		panic(fmt.Sprintf("live: the pattern %q has a method; a view answers GET, HEAD and POST", pattern))
	case slash >= 0 && strings.HasPrefix(pattern[slash:]+"/", ownPath):
		panic(fmt.Sprintf("live: the pattern %q is below %s, which is the site's own", pattern, ownPath))
	}
	if err := p.prepare(); err != nil {
		panic(fmt.Sprintf("live: the view at %q: %v", pattern, err))
	}
	if layout := p.document(); layout != nil {
		if err := checkLayout(layout); err != nil {
			panic(fmt.Sprintf("live: the layout of the view at %q: %v", pattern, err))
		}
	}
	s.mux.HandleFunc(pattern, func(_ http.ResponseWriter, r *http.Request) {
		if slot, ok := r.Context().Value(slotKey{}).(*slot); ok {
			*slot = found{page: p, pattern: pattern, request: r}
		}
	})
}

// ServeHTTP serves pages, forms without JavaScript, the client and the WebSocket. It must be served at the root
// of its host: the client and the socket are below /_live/. Middleware may be around it if what it passes on as the
// [http.ResponseWriter] can be hijacked or has a method Unwrap, see [http.ResponseController]. For a WebSocket it returns
// when that is open; the page keeps the values in the context of the request and does not end with it.
//
// The cookies of the site are bound to the host and to TLS if the request came over TLS, or if a proxy says so of it
// with X-Forwarded-Proto.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, ownPath) {
		s.serveOwn(w, r)
		return
	}
	// What the mux says itself is plain.
	if s.options.Error != nil {
		if _, pattern := s.mux.Handler(r); pattern == "" {
			s.fail(w, r, http.StatusNotFound, "")
			return
		}
	}
	var at slot
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), slotKey{}, &at)))
	if at.page == nil {
		return // answered: not found, or a redirect to the clean path
	}
	at.request = at.request.WithContext(r.Context())
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.serveGet(w, &at)
	case http.MethodPost:
		s.servePost(w, &at)
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		s.fail(w, r, http.StatusMethodNotAllowed, "Method not allowed.")
	}
}

// Disconnect ends all connections of a session ([Ctx.Session]) to this process, as when the user has logged out: their pages
// are loaded anew. It does not wait until they have ended.
func (s *Site) Disconnect(session string) {
	s.mu.Lock()
	conns := make([]wire.Conn, 0, len(s.sessions[session]))
	for conn := range s.sessions[session] {
		conns = append(conns, conn)
	}
	s.mu.Unlock()
	for _, conn := range conns {
		go conn.Close(closeSession, "the session has ended") // which waits for a client that takes nothing
	}
}

// Shutdown tells all pages to come back later, spread evenly over spread, and waits until they are disconnected or
// ctx ends; then it cuts the rest off and returns the error of ctx. New connections are refused with status 503 from
// the beginning; pages over HTTP are still served. Calling it again waits, too.
//
// [http.Server.Shutdown] knows nothing of WebSockets: call both.
func (s *Site) Shutdown(ctx context.Context, spread time.Duration) error {
	s.mu.Lock()
	select {
	case <-s.draining:
	default:
		s.spread, s.share = max(spread, 0), max(len(s.conns), 1)
		close(s.draining)
		if len(s.conns) == 0 {
			close(s.drained)
		}
	}
	s.mu.Unlock()

	select {
	case <-s.drained:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		go conn.Close(closeShutdown, "the server shuts down")
	}
	return ctx.Err()
}

// Stats says how many pages are connected now.
func (s *Site) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Connected: s.joined}
}

// Stats is what a [Site] counts.
type Stats struct{ Connected int }

// Trace is told what a Site does. Any func may be nil; they are called by the goroutine that does it and must be quick.
type Trace struct {
	Mounted   func(pattern string, connected bool, took time.Duration, err error)
	Handled   func(pattern, event string, took time.Duration, err error)
	Rendered  func(pattern string, took time.Duration, bytes int)
	Conflated func(pattern string, funcs int) // funcs of the view ran before one frame, more than one
	TooSlow   func(pattern string)            // closed because its pushed events overflowed
	Panicked  func(pattern string, value any, stack []byte)
}

// Codes of WebSocket that a connection is closed with, see docs/live-protocol.md.
const (
	closeShutdown = 1001
	closeBinary   = 1003
	closeBad      = 4400
	closeSession  = 4401
	closeSlow     = 4408
)

// ownPath is where the client, the socket and what else is the site's own are.
const ownPath = "/_live/"

const (
	socketPath = ownPath + "socket"
	leavePath  = ownPath + "leave"
)

// serveOwn serves what is below ownPath.
func (s *Site) serveOwn(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == socketPath:
		s.serveSocket(w, r)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		plain(w, http.StatusMethodNotAllowed, "Method not allowed.")
	case r.URL.Path == leavePath:
		s.serveLeave(w, r)
	case strings.HasSuffix(r.URL.Path, clientName):
		s.client.serve(w, r)
	default:
		plain(w, http.StatusNotFound, "Not found.")
	}
}

// found is the view that a request is for.
type found struct {
	page    page
	pattern string
	request *http.Request // with the values of the pattern's wildcards
}

// A slot in the context is filled by the handler that the mux finds.
type (
	slot    = found
	slotKey struct{}
)

// errNotLive says that a URL is that of no view.
var errNotLive = errors.New("live: no view at this URL")

// maxURL is the length of the longest URL that a client may name, in bytes.
const maxURL = 8 << 10

// resolve finds the view at a URL of this site, which is a path with a query, or whole with the host of the
// request r. The request it returns is r as if it were for that URL. It returns errNotLive when the URL is
// that of no view or not of this site, also when HTTP would redirect it to a view.
func (s *Site) resolve(r *http.Request, rawURL string) (p page, pattern string, req *http.Request, err error) {
	u, err := localURL(r, rawURL)
	if err != nil {
		return nil, "", nil, err
	}
	var at slot
	req = r.WithContext(context.WithValue(r.Context(), slotKey{}, &at))
	req.Method, req.URL, req.RequestURI = http.MethodGet, u, u.RequestURI()
	req.Body, req.ContentLength, req.Form, req.PostForm, req.MultipartForm = http.NoBody, 0, nil, nil, nil
	s.mux.ServeHTTP(nowhere{}, req)
	if at.page == nil || strings.HasPrefix(u.Path, ownPath) {
		return nil, "", nil, errNotLive
	}
	return at.page, at.pattern, at.request.WithContext(r.Context()), nil
}

// localURL parses a URL that a client has named and makes it one of this site: path and query.
func localURL(r *http.Request, rawURL string) (*url.URL, error) {
	if len(rawURL) > maxURL {
		return nil, errNotLive
	}
	u, err := url.Parse(rawURL)
	if err != nil || u.Opaque != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") {
		return nil, errNotLive
	}
	if u.Host != "" && !strings.EqualFold(u.Host, r.Host) || u.Host == "" && u.Scheme != "" {
		return nil, errNotLive
	}
	u.Scheme, u.Host, u.Fragment, u.RawFragment = "", "", "", ""
	return u, nil
}

// nowhere is the ResponseWriter of a request that only looks for a view.
type nowhere struct{}

func (nowhere) Header() http.Header         { return make(http.Header) }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// admit counts a connection in, before it has joined. It reports whether there is room for it.
func (s *Site) admit(conn wire.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.options.MaxPages || s.isDraining() {
		return false
	}
	s.conns[conn] = ""
	return true
}

// full reports whether admit would refuse, so that the refusal can be one of HTTP.
func (s *Site) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns) >= s.options.MaxPages || s.isDraining()
}

func (s *Site) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// dismiss undoes admit.
func (s *Site) dismiss(conn wire.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	if len(s.conns) == 0 && s.isDraining() {
		select {
		case <-s.drained:
		default:
			close(s.drained)
		}
	}
}

// enter says that a connection has joined for a session; leave undoes it.
func (s *Site) enter(session string, conn wire.Conn) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = session
	of := s.sessions[session]
	if of == nil {
		of = make(map[wire.Conn]struct{}, 1)
		s.sessions[session] = of
	}
	of[conn] = struct{}{}
	s.joined++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.joined--
		delete(of, conn)
		if len(of) == 0 && len(s.sessions[session]) == 0 {
			delete(s.sessions, session)
		}
		if _, ok := s.conns[conn]; ok {
			s.conns[conn] = ""
		}
	})
}

// bye returns after which time the next page shall come back, once draining is closed.
func (s *Site) bye() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.byes % s.share
	s.byes++
	return time.Duration(float64(s.spread) * float64(i) / float64(s.share))
}

// Connect serves a connection that is already there, for a request that stands for the one that opened it, until it
// ends. It is for the tests of views: no package outside of live can have a [wire.Conn].
func (s *Site) Connect(conn wire.Conn, r *http.Request) {
	if !s.admit(conn) {
		conn.Close(closeShutdown, "no room for more pages")
		return
	}
	defer s.dismiss(conn)
	s.run(conn, r)
}
