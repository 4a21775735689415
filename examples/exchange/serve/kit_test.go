package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A kit is an exchange served over a real socket.
type kit struct {
	t      *testing.T
	store  *eventstore.Store
	x      *Exchange
	server *Server
	web    *httptest.Server
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *lockedBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Reset()
}

// free are limits that do not get in the way, however busy the machine is.
func free() limits {
	l := defaultLimits
	l.requestRate, l.requestBurst, l.orderRate, l.orderBurst = 1e6, 1e6, 1e6, 1e6
	l.writeTimeout = time.Minute
	return l
}

func serve(t *testing.T, change ...func(*limits)) *kit {
	t.Helper()
	return serveStore(t, memstore.Open(nil), change...)
}

func serveStore(t *testing.T, store *eventstore.Store, change ...func(*limits)) *kit {
	t.Helper()
	k := &kit{t: t, store: store, log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(k.log, nil))
	x, err := Open(store, Symbols(), log)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = x.Run(ctx) })
	require.NoError(t, x.Ready(ctx))
	l := free()
	for _, c := range change {
		c(&l)
	}
	k.x = x
	k.server, err = newServer(x, []string{"127.0.0.1"}, nil, log, l)
	require.NoError(t, err)
	running.Go(func() { _ = k.server.Run(ctx) })
	k.web = httptest.NewUnstartedServer(k.server)
	k.web.Listener = smallBuffers{k.web.Listener}
	k.web.Start()
	t.Cleanup(func() {
		closing, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		require.NoError(t, k.server.Shutdown(closing))
		k.web.Close()
		cancel()
		running.Wait()
		require.NoError(t, store.Shutdown(closing))
		require.NotContains(t, k.log.String(), "level=ERROR")
	})
	return k
}

// smallBuffers makes connections that hold little, so that a client that does not
// read is noticed soon.
type smallBuffers struct{ net.Listener }

func (l smallBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	return c, err
}

// A person is a browser with its cookies.
type person struct {
	k      *kit
	client *http.Client
}

func (k *kit) person() *person {
	jar, err := cookiejar.New(nil)
	require.NoError(k.t, err)
	return &person{k, &http.Client{Jar: jar, Timeout: 10 * time.Second}}
}

// do sends a request and returns the status, the answer, and its headers.
func (p *person) do(method, path, body string, headers ...string) (int, string, http.Header) {
	p.k.t.Helper()
	r, err := http.NewRequest(method, p.k.web.URL+path, strings.NewReader(body))
	require.NoError(p.k.t, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	res, err := p.client.Do(r)
	require.NoError(p.k.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(p.k.t, err)
	return res.StatusCode, string(b), res.Header
}

// place places an order over HTTP and returns what became of it.
func (p *person) place(body string) outcome {
	p.k.t.Helper()
	status, answer, _ := p.do("POST", "/api/orders", body)
	require.Equal(p.k.t, http.StatusCreated, status, answer)
	var out outcome
	require.NoError(p.k.t, json.Unmarshal([]byte(answer), &out))
	return out
}

// refused sends a request that must be refused, and returns the code.
func (p *person) refused(status int, method, path, body string, headers ...string) string {
	p.k.t.Helper()
	got, answer, h := p.do(method, path, body, headers...)
	require.Equal(p.k.t, status, got, answer)
	require.Equal(p.k.t, "application/problem+json", h.Get("Content-Type"), answer)
	var pr problem
	require.NoError(p.k.t, json.Unmarshal([]byte(answer), &pr))
	require.Equal(p.k.t, status, pr.Status)
	require.NotEmpty(p.k.t, pr.Detail)
	require.NotEmpty(p.k.t, pr.Title)
	return pr.Code
}

// An end is the client's end of a WebSocket.
type end struct {
	t    testing.TB
	conn *websocket.Conn
}

// A gotFrame is any frame of the server.
type gotFrame struct {
	dataFrame
	Interval string   `json:"interval"`
	ID       int64    `json:"id"`
	Op       string   `json:"op"`
	Code     string   `json:"code"`
	Message  string   `json:"message"`
	Order    string   `json:"order"`
	Status   string   `json:"status"`
	Open     string   `json:"open"`
	Filled   string   `json:"filled"`
	Repeated bool     `json:"repeated"`
	Symbols  []Symbol `json:"symbols"`
	raw      string
}

func (p *person) dial(headers ...string) *end {
	p.k.t.Helper()
	e, res, err := p.tryDial(headers...)
	require.NoError(p.k.t, err)
	require.Equal(p.k.t, http.StatusSwitchingProtocols, res.StatusCode)
	require.Equal(p.k.t, "hello", e.next().Type)
	return e
}

func (p *person) tryDial(headers ...string) (*end, *http.Response, error) {
	h := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
	d := websocket.Dialer{Jar: p.client.Jar, HandshakeTimeout: 10 * time.Second,
		NetDial: func(network, addr string) (net.Conn, error) {
			c, err := net.Dial(network, addr)
			if err == nil {
				err = c.(*net.TCPConn).SetReadBuffer(4096)
			}
			return c, err
		}}
	conn, res, err := d.Dial(strings.Replace(p.k.web.URL, "http", "ws", 1)+"/ws", h)
	if err != nil {
		return nil, res, err
	}
	p.k.t.Cleanup(func() { conn.Close() })
	return &end{p.k.t, conn}, res, nil
}

func (e *end) send(frame string) {
	e.t.Helper()
	require.NoError(e.t, e.conn.WriteMessage(websocket.TextMessage, []byte(frame)))
}

func (e *end) next() gotFrame {
	e.t.Helper()
	f, err := e.read()
	require.NoError(e.t, err)
	return f
}

func (e *end) read() (gotFrame, error) {
	_ = e.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, data, err := e.conn.ReadMessage()
	if err != nil {
		return gotFrame{}, err
	}
	f := gotFrame{raw: string(data)}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, err
	}
	return f, nil
}

// ask sends a frame and returns its answer, passing over channel data.
func (e *end) ask(frame string) gotFrame {
	e.t.Helper()
	e.send(frame)
	for {
		if f := e.next(); f.Type != "snapshot" && f.Type != "update" {
			return f
		}
	}
}

// closed reads until the server closes, and returns the code.
func (e *end) closed() int {
	e.t.Helper()
	for {
		if _, err := e.read(); err != nil {
			ce, ok := err.(*websocket.CloseError)
			require.True(e.t, ok, "%v", err)
			return ce.Code
		}
	}
}
