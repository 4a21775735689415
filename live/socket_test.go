package live

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/internal/wire"
)

// line is a network in memory, so that its deadlines follow the clock of synctest.
type line struct {
	ends chan net.Conn
	gone chan struct{}
}

func newLine() *line { return &line{make(chan net.Conn), make(chan struct{})} }

func (l *line) Accept() (net.Conn, error) {
	select {
	case end := <-l.ends:
		return end, nil
	case <-l.gone:
		return nil, net.ErrClosed
	}
}

func (l *line) dial() net.Conn {
	here, there := net.Pipe()
	l.ends <- there
	return here
}

func (l *line) Close() error   { close(l.gone); return nil }
func (l *line) Addr() net.Addr { return &net.UnixAddr{Name: "line", Net: "pipe"} }

// accepted opens a WebSocket over a line. It returns both ends and waits at the end of the test until the server has let go.
func accepted(t *testing.T, o Options) (*socket, *websocket.Conn) {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	site, err := NewSite(&o)
	require.NoError(t, err)
	got, done := make(chan *socket, 1), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		so := site.accept(w, r)
		got <- so
		<-done
		so.end()
	})}
	l := newLine()
	go server.Serve(l)
	dialer := websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) { return l.dial(), nil }}
	conn, _, err := dialer.Dial("ws://site.test"+socketPath, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		conn.Close()
		close(done)
		synctest.Wait()
		server.Close()
	})
	return <-got, conn
}

// closeCode reads until the server closes the connection and returns the code.
func closeCode(t *testing.T, conn *websocket.Conn) int {
	t.Helper()
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			var closed *websocket.CloseError
			require.ErrorAs(t, err, &closed)
			return closed.Code
		}
	}
}

func TestASocketCarriesTextBothWays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{})
		go conn.WriteMessage(websocket.TextMessage, []byte(`[1,"h"]`))
		frame, err := so.Read()
		require.NoError(t, err)
		require.Equal(t, `[1,"h"]`, string(frame))

		shared := &wire.Shared{Bytes: []byte(`["g","book",0,1,[]]`)}
		large := strings.Repeat("x", 100_000)
		go func() {
			so.Write([]byte("[1]"))
			so.WriteShared(shared)
			so.WriteShared(shared)
			so.Write([]byte(large))
		}()
		for _, want := range []string{"[1]", string(shared.Bytes), string(shared.Bytes), large} {
			kind, got, err := conn.ReadMessage()
			require.NoError(t, err)
			require.Equal(t, websocket.TextMessage, kind)
			require.Equal(t, want, string(got))
		}
	})
}

func TestASocketRefusesBadFrames(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		kind int
		data string
		code int
		err  error
	}{
		{"too large", websocket.TextMessage, strings.Repeat("x", minFrame+1), websocket.CloseMessageTooBig, errTooBig},
		{"much too large", websocket.TextMessage, strings.Repeat("x", 10*minFrame), websocket.CloseMessageTooBig, errTooBig},
		{"binary", websocket.BinaryMessage, "[1]", websocket.CloseUnsupportedData, errBinary},
		{"not UTF-8", websocket.TextMessage, "\xff", websocket.CloseInvalidFramePayloadData, errNotUTF8},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				so, conn := accepted(t, Options{MaxFrame: minFrame})
				conn.SetCloseHandler(func(int, string) error { return nil }) // it sends to the end
				failed := make(chan error, 1)
				go func() {
					_, err := so.Read()
					failed <- err
				}()
				sent := make(chan error, 1)
				go func() { sent <- conn.WriteMessage(row.kind, []byte(row.data)) }()
				require.Equal(t, row.code, closeCode(t, conn))
				require.NoError(t, <-sent, "it is not cut off while it sends")
				require.ErrorIs(t, <-failed, row.err)
			})
		})
	}
}

func TestAFrameOfTheGreatestSizeIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{MaxFrame: minFrame})
		go conn.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", minFrame)))
		frame, err := so.Read()
		require.NoError(t, err)
		require.Len(t, frame, minFrame)
	})
}

func TestASilentClientIsLetGo(t *testing.T) {
	t.Parallel()
	t.Run("after two heartbeats", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			so, conn := accepted(t, Options{})
			go conn.WriteMessage(websocket.TextMessage, []byte("[1]"))
			_, err := so.Read()
			require.NoError(t, err)
			start := time.Now()
			_, err = so.Read()
			require.ErrorIs(t, err, errSilent)
			require.GreaterOrEqual(t, time.Since(start), 2*heartbeat)
			require.LessOrEqual(t, time.Since(start), 2*heartbeat+closeWrite)
		})
	})
	t.Run("but not while it sends heartbeats or pongs", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			so, conn := accepted(t, Options{})
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := range 10 {
					if i%2 == 0 {
						conn.WriteMessage(websocket.TextMessage, []byte("[1]"))
					} else {
						conn.WriteControl(websocket.PongMessage, nil, time.Now().Add(time.Second))
					}
					time.Sleep(heartbeat + 20*time.Second)
				}
			}()
			for range 5 {
				_, err := so.Read()
				require.NoError(t, err)
			}
			go so.Read() // the last pong
			<-sent
		})
	})
}

func TestAFloodIsReadNoFasterThanTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{EventRate: 10, EventBurst: 5})
		go func() {
			for conn.WriteMessage(websocket.TextMessage, []byte("[1]")) == nil {
			}
		}()
		start := time.Now()
		for range 5 {
			_, err := so.Read()
			require.NoError(t, err)
		}
		require.Zero(t, time.Since(start), "a burst is read at once")
		for range 100 {
			_, err := so.Read()
			require.NoError(t, err)
		}
		require.InDelta(t, 10, time.Since(start).Seconds(), 0.2)

		time.Sleep(time.Hour) // the allowance does not grow without bounds
		start = time.Now()
		for range 25 {
			_, err := so.Read()
			require.NoError(t, err)
		}
		require.InDelta(t, 2, time.Since(start).Seconds(), 0.2)
	})
}

func TestAFloodOfPingsIsSlowedDownToo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{EventRate: 10, EventBurst: 5})
		go conn.ReadMessage() // the pongs
		start := time.Now()
		go func() {
			for range 105 {
				conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(time.Hour))
			}
			conn.WriteMessage(websocket.TextMessage, []byte("[1]"))
		}()
		_, err := so.Read()
		require.NoError(t, err)
		require.InDelta(t, 10, time.Since(start).Seconds(), 0.3)
	})
}

func TestAClientThatTakesNothingIsLetGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, _ := accepted(t, Options{WriteWait: 3 * time.Second})
		start := time.Now()
		require.Error(t, so.Write([]byte("[0]")))
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Error(t, so.Write([]byte("[0]")), "it is gone for good")
		_, err := so.Read()
		require.Error(t, err)
	})
}

func TestAClientThatTakesALargeFrameSlowlyIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{WriteWait: 3 * time.Second})
		large := strings.Repeat("x", 20*piece)
		written := make(chan error, 1)
		start := time.Now()
		go func() { written <- so.Write([]byte(large)) }()
		taken := 0
		b := make([]byte, 4096) // of the whole frame, with its head
		for taken < len(large) {
			time.Sleep(500 * time.Millisecond)
			n, err := conn.NetConn().Read(b)
			require.NoError(t, err)
			taken += n
		}
		go io.Copy(io.Discard, conn.NetConn())
		require.NoError(t, <-written)
		require.Greater(t, time.Since(start), 30*time.Second)
	})
}

func TestCloseTellsTheBrowserWhyAndWaitsForItsAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{})
		read := make(chan error, 1)
		go func() {
			_, err := so.Read()
			read <- err
		}()
		go func() {
			so.Close(closeSession, "the session has ended")
			so.Close(closeBad, "a second time")
		}()
		require.Equal(t, closeSession, closeCode(t, conn)) // which answers
		require.Error(t, <-read)
		require.Error(t, so.Write([]byte("[0]")))
	})
}

func TestAClosedConnectionStaysUntilTheBrowserAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{})
		conn.SetCloseHandler(func(int, string) error { return nil }) // not at once
		go so.Close(closeSession, "")
		require.Equal(t, closeSession, closeCode(t, conn))
		read := make(chan error, 1)
		go func() {
			_, err := so.Read()
			read <- err
		}()
		require.NoError(t, conn.WriteMessage(websocket.TextMessage, []byte("[1]")), "what was on its way")
		require.Empty(t, read)
		require.NoError(t, conn.WriteControl(websocket.CloseMessage, nil, time.Now().Add(time.Second)))
		require.ErrorIs(t, <-read, net.ErrClosed, "and the frame is not handed out")
	})
}

func TestACloseThatNobodyAnswersEndsAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{})
		go func() { // goes on sending and never closes
			for conn.WriteMessage(websocket.TextMessage, []byte("[1]")) == nil {
			}
		}()
		go io.Copy(io.Discard, conn.NetConn())
		so.Close(closeSlow, "too slow")
		_, err := so.Read()
		require.ErrorIs(t, err, net.ErrClosed)
	})
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{}) // it does nothing any more
		go io.Copy(io.Discard, conn.NetConn())
		start := time.Now()
		so.Close(closeSlow, "too slow")
		_, err := so.Read()
		require.ErrorIs(t, err, net.ErrClosed)
		require.LessOrEqual(t, time.Since(start), closeWrite+closeWait)
	})
	synctest.Test(t, func(t *testing.T) {
		so, _ := accepted(t, Options{}) // it does not even take the closing frame
		start := time.Now()
		so.Close(closeSlow, "too slow")
		_, err := so.Read()
		require.ErrorIs(t, err, net.ErrClosed)
		require.LessOrEqual(t, time.Since(start), closeWrite+closeWait)
	})
}

func TestCloseWakesAReaderThatIsHeldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{EventRate: 0.001, EventBurst: 1})
		go conn.WriteMessage(websocket.TextMessage, []byte("[1]"))
		_, err := so.Read()
		require.NoError(t, err)
		go closeCode(t, conn)
		time.AfterFunc(time.Second, func() { so.Close(closeSession, "") })
		start := time.Now()
		_, err = so.Read()
		require.Error(t, err)
		require.LessOrEqual(t, time.Since(start), 2*time.Second)
	})
}

func TestNothingIsLeftOfAClientThatVanishes(t *testing.T) {
	t.Parallel()
	// synctest fails if a goroutine is left.
	synctest.Test(t, func(t *testing.T) {
		so, conn := accepted(t, Options{})
		read := make(chan error, 1)
		go func() {
			for {
				if _, err := so.Read(); err != nil {
					read <- err
					return
				}
			}
		}()
		conn.WriteMessage(websocket.TextMessage, []byte("[1]"))
		conn.NetConn().Close() // without a closing frame
		require.Error(t, <-read)
		so.end()
	})
}

// refusals are over a real network, since no WebSocket comes to be.
func TestTheUpgradeIsRefused(t *testing.T) {
	t.Parallel()
	newSite := func(t *testing.T, o Options) *Site {
		o.Logger = slog.New(slog.DiscardHandler)
		site, err := NewSite(&o)
		require.NoError(t, err)
		return site
	}
	upgrade := http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	for _, row := range []struct {
		name    string
		options Options
		set     map[string]string
		prepare func(t *testing.T, s *Site)
		status  int
		text    string
	}{
		{name: "from another origin", set: map[string]string{"Origin": "https://evil.test"}, status: 403, text: "This origin may not connect."},
		{name: "from an origin that only begins like ours", set: map[string]string{"Origin": "http://site.test.evil.test"}, status: 403},
		{name: "from no origin", set: map[string]string{"Origin": "null"}, status: 403},
		{name: "from an origin that is none", set: map[string]string{"Origin": "://"}, status: 403},
		{name: "from an origin like a listed one", options: Options{Origins: []string{"https://other.test"}}, set: map[string]string{"Origin": "http://other.test"}, status: 403},
		{name: "not a WebSocket", set: map[string]string{"Upgrade": "h2c"}, status: 426, text: "This is a WebSocket."},
		{name: "of another version", set: map[string]string{"Sec-Websocket-Version": "8"}, status: 400},
		{name: "without a key", set: map[string]string{"Sec-Websocket-Key": ""}, status: 400},
		{name: "over the number of pages", options: Options{MaxPages: 1}, status: 503, text: "No room for more pages now.",
			prepare: func(t *testing.T, s *Site) { require.True(t, s.admit(&quiet{})) }},
		{name: "after Shutdown", status: 503, prepare: func(t *testing.T, s *Site) { require.NoError(t, s.Shutdown(t.Context(), 0)) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			site := newSite(t, row.options)
			if row.prepare != nil {
				row.prepare(t, site)
			}
			r := httptest.NewRequest("GET", "http://site.test"+socketPath, nil)
			r.Header = upgrade.Clone()
			r.Header.Set("Origin", "http://site.test")
			for name, value := range row.set {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			site.ServeHTTP(w, r)
			require.Equal(t, row.status, w.Code)
			require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
			require.Contains(t, w.Body.String(), row.text)
			if row.status == 503 {
				require.NotEmpty(t, w.Header().Get("Retry-After"))
			}
		})
	}
	t.Run("when the connection cannot be hijacked", func(t *testing.T) {
		t.Parallel()
		r := httptest.NewRequest("GET", "http://site.test"+socketPath, nil)
		r.Header = upgrade.Clone()
		w := httptest.NewRecorder() // cannot
		newSite(t, Options{}).ServeHTTP(w, r)
		require.Equal(t, 500, w.Code)
	})
}

// quiet is a connection on which nothing happens.
type quiet struct{ closed chan int }

func (q *quiet) Read() ([]byte, error)          { return nil, errors.New("quiet") }
func (q *quiet) Write([]byte) error             { return nil }
func (q *quiet) WriteShared(*wire.Shared) error { return nil }
func (q *quiet) Close(code int, reason string) {
	if q.closed != nil {
		q.closed <- code
	}
}

func TestTheBucketHoldsNoMoreThanABurst(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	b := bucket{rate: 2, burst: 3, tokens: 3, last: now}
	for range 3 {
		require.Zero(t, b.take(now))
	}
	require.Equal(t, 500*time.Millisecond, b.take(now))
	require.Equal(t, time.Second, b.take(now))
	now = now.Add(time.Hour)
	for range 3 {
		require.Zero(t, b.take(now))
	}
	require.Equal(t, 500*time.Millisecond, b.take(now))
}
