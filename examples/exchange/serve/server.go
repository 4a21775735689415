package serve

import (
	"context"
	"encoding/json"
	"errors"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/levada-go/levada/examples/internal/asset"
	"github.com/levada-go/levada/live"
)

// A Server is the exchange's page and its API over HTTP and WebSocket. It is an
// http.Handler.
type Server struct {
	exchange *Exchange
	log      *slog.Logger
	hosts    []string // the names it may be called by; none: any
	limits   limits
	now      func() time.Time
	hello    []byte
	handler  http.Handler
	site     *live.Site // of the page
	boards   []*board   // by symbol
	upgrader websocket.Upgrader
	callers  buckets // of HTTP requests, by address

	ctx    context.Context // done when sessions are to end
	cancel context.CancelFunc

	mu       sync.Mutex
	closing  bool
	sessions int
	running  sync.WaitGroup
}

// limits are what one client, and all together, may use.
type limits struct {
	sessions      int           // WebSockets of the API, and pages besides
	subscriptions int           // of one WebSocket
	frameBytes    int64         // of a frame, or of a body, that a client of the API sends
	pageBytes     int           // of a frame, or of a form, that a page sends
	requestRate   float64       // requests a second of a WebSocket, or by HTTP from an address
	requestBurst  int           //
	orderRate     float64       // orders, changes and cancellations among them
	orderBurst    int           //
	excess        int           // requests beyond the rate that are answered before the socket is closed
	buffer        int           // events that a subscription holds for a slow client
	lag           int           // events behind which a client is too slow
	pingEvery     time.Duration //
	readTimeout   time.Duration // without a frame or a pong
	writeTimeout  time.Duration // of one frame
	closeTimeout  time.Duration // for the client to answer a close frame
}

var defaultLimits = limits{
	sessions: 1000, subscriptions: 32, frameBytes: 4096, pageBytes: 8192,
	requestRate: 20, requestBurst: 60, orderRate: 10, orderBurst: 20, excess: 100,
	buffer: 512, lag: 20_000,
	pingEvery: 20 * time.Second, readTimeout: 50 * time.Second, writeTimeout: 10 * time.Second, closeTimeout: time.Second,
}

// NewServer returns the server of an exchange. It answers only requests that name
// one of the hosts, without their ports, if there are any: a page elsewhere whose
// name was made to point here cannot use it.
//
// A secret signs the pages, for processes that share it; see [live.Options]. Pages stand still unless Run runs.
func NewServer(x *Exchange, hosts []string, secret []byte, log *slog.Logger) (*Server, error) {
	return newServer(x, hosts, secret, log, defaultLimits)
}

func newServer(x *Exchange, hosts []string, secret []byte, log *slog.Logger, l limits) (*Server, error) {
	s := &Server{exchange: x, hosts: hosts, log: log, limits: l, now: time.Now,
		callers: buckets{rate: l.requestRate, burst: l.requestBurst},
		upgrader: websocket.Upgrader{
			HandshakeTimeout: 10 * time.Second,
			CheckOrigin:      func(*http.Request) bool { return true }, // socket has checked it
			WriteBufferPool:  &sync.Pool{},
			Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
				writeProblem(w, &refusal{status, "bad_handshake", reason.Error()})
			},
		}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	names := make([]string, len(intervals))
	for i, v := range intervals {
		names[i] = v.name
	}
	s.hello = encode(helloFrame{"hello", x.symbols, names, []string{channelBook, channelTrades, channelCandles, channelOrders}})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", s.socket)
	mux.HandleFunc("GET /api/symbols", s.getSymbols)
	mux.HandleFunc("GET /api/book", s.getChannel(channelBook))
	mux.HandleFunc("GET /api/trades", s.getChannel(channelTrades))
	mux.HandleFunc("GET /api/candles", s.getChannel(channelCandles))
	mux.HandleFunc("GET /api/orders", s.getOrders)
	mux.HandleFunc("POST /api/orders", s.postOrder)
	mux.HandleFunc("PATCH /api/orders/{id}", s.patchOrder)
	mux.HandleFunc("DELETE /api/orders/{id}", s.deleteOrder)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &refusal{http.StatusNotFound, "not_found", "there is nothing here; see docs/exchange-api.md"})
	})
	mux.HandleFunc("GET /healthz", s.health)
	mux.Handle("GET /assets/", asset.New(files))
	if err := s.openSite(secret); err != nil {
		return nil, err
	}
	mux.Handle("/{$}", owned(s.site))
	mux.Handle("/_live/", owned(s.site))
	mux.Handle("/", s.site) // which says that there is nothing
	mux.Handle("GET /favicon.ico", http.RedirectHandler("/assets/icon.svg", http.StatusFound))

	cross := http.NewCrossOriginProtection()
	cross.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeProblem(w, errOrigin) }))
	s.handler = s.guard(cross.Handler(mux))
	return s, nil
}

// openSite makes the page, and a board for each market.
func (s *Server) openSite(secret []byte) error {
	layout, err := template.ParseFS(templates, "assets/layout.html")
	if err != nil {
		return err
	}
	lost, err := template.ParseFS(templates, "assets/error.html")
	if err != nil {
		return err
	}
	s.site, err = live.NewSite(&live.Options{
		Layout: layout, Error: lost, Secret: secret, Logger: s.log, MaxPages: s.limits.sessions, MaxFrame: s.limits.pageBytes,
		EventRate: s.limits.requestRate, EventBurst: s.limits.requestBurst, WriteWait: s.limits.writeTimeout,
		Explain: func(err error) string {
			if e, known := refusalOf(err); known {
				return sentence(e.detail)
			}
			return ""
		},
	})
	if err != nil {
		return err
	}
	for i := range s.exchange.symbols {
		b, err := newBoard(s.exchange, &s.exchange.symbols[i])
		if err != nil {
			return err
		}
		s.boards = append(s.boards, b)
	}
	view, err := deskView(s)
	if err != nil {
		return err
	}
	live.Handle(s.site, "/{$}", view)
	return nil
}

// Run keeps the boards of the markets moving until ctx ends. It returns an error only if they
// cannot go on.
func (s *Server) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	errs := make([]error, len(s.boards))
	for i, b := range s.boards {
		running.Go(func() {
			if errs[i] = b.run(ctx); errs[i] != nil {
				cancel() // the others
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

var (
	errOrigin = &refusal{http.StatusForbidden, "wrong_origin", "pages of other sites may not do this"}
	errHost   = &refusal{http.StatusMisdirectedRequest, "wrong_host", "this exchange does not go by that name; see the flag -host"}
	errFull   = &refusal{http.StatusServiceUnavailable, "too_many_connections", "too many connections; try again later"}
)

type helloFrame struct {
	Type      string   `json:"type"` // "hello"
	Symbols   []Symbol `json:"symbols"`
	Intervals []string `json:"intervals"`
	Channels  []string `json:"channels"`
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// comeBack is over how long pages are spread that come back to an exchange that was closed.
const comeBack = time.Second

// Shutdown ends all WebSockets, tells their clients that the server goes away, and
// returns when they have gone or ctx ends. New ones are refused.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	s.cancel()
	done := make(chan struct{})
	pages := make(chan error, 1)
	go func() { pages <- s.site.Shutdown(ctx, comeBack) }()
	go func() {
		s.running.Wait()
		close(done)
	}()
	if err := <-pages; err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Watched returns the number of open WebSockets, those of pages too.
func (s *Server) Watched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions + s.site.Stats().Connected
}

// enter counts a session in, unless there are enough or the server is closing.
func (s *Server) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return errClosing
	case s.sessions >= s.limits.sessions:
		return errFull
	}
	s.sessions++
	s.running.Add(1)
	return nil
}

func (s *Server) leave() {
	s.mu.Lock()
	s.sessions--
	s.mu.Unlock()
	s.running.Done()
}

// policy is what the page may do: load what this server has, and talk to it.
// Nothing is inline, nothing comes from elsewhere, and no site may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// guard is around everything.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.log.Error("exchange: a request panicked", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				panic(http.ErrAbortHandler) // ends the connection, without logging it once more
			}
		}()
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !s.known(r.Host) {
			writeProblem(w, errHost)
			return
		}
		if !s.callers.take(address(r), s.now()) {
			writeProblem(w, errRate)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) known(host string) bool {
	if len(s.hosts) == 0 {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return slices.Contains(s.hosts, strings.ToLower(strings.Trim(host, "[]")))
}

func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// socket serves a WebSocket.
func (s *Server) socket(w http.ResponseWriter, r *http.Request) {
	// The upgrader compares Origin with Host; a browser that says more is heard.
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		writeProblem(w, errOrigin)
		return
	}
	if !sameOrigin(r) {
		writeProblem(w, errOrigin)
		return
	}
	if err := s.enter(); err != nil {
		e, _ := refusalOf(err)
		writeProblem(w, e)
		return
	}
	defer s.leave()
	owner, cookie := ownerOf(r)
	h := http.Header{}
	if cookie != nil {
		h.Set("Set-Cookie", cookie.String())
	}
	conn, err := s.upgrader.Upgrade(w, r, h)
	if err != nil {
		return // answered
	}
	newSession(s, conn, owner).run()
}

// sameOrigin reports whether a handshake comes from a page of this server, or from
// a program: browsers always name the origin.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Values("Origin")
	if len(origin) == 0 {
		return true
	}
	_, host, ok := strings.Cut(origin[0], "://")
	return len(origin) == 1 && ok && strings.EqualFold(host, r.Host)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(body)
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if err := s.exchange.Ready(r.Context()); err != nil {
		s.log.Error("exchange: not healthy", "err", err)
		writeProblem(w, &refusal{http.StatusServiceUnavailable, "unhealthy", "the exchange cannot serve"})
		return
	}
	body, _ := json.Marshal(map[string]any{"status": "ok", "connections": s.Watched()})
	writeJSON(w, http.StatusOK, body)
}
