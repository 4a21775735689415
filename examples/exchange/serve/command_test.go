package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// main runs Main and returns its status and what it printed.
func runMain(ctx context.Context, args ...string) (status int, stdout, stderr string) {
	var out, errs lockedBuffer
	status = Main(ctx, args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestHelpExplainsEveryFlag(t *testing.T) {
	t.Parallel()
	status, help, errs := runMain(context.Background(), "-h")
	require.Equal(t, 0, status)
	for _, flag := range []string{"-addr", "-db", "-store", "-host", "-demo", "-seed"} {
		require.Regexp(t, `(?m)^  `+flag+`\b`, help)
	}
	require.Empty(t, errs)
	require.Contains(t, help, "localhost:8080")
	require.Contains(t, help, filepath.Join("levada", "exchange.db"))
	require.Contains(t, help, "exchange match")
}

func TestWrongFlagsAreExplained(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why  string
		args []string
	}{
		{"not defined", []string{"-port", "1"}},
		{"invalid", []string{"-demo=maybe"}},
		{"invalid", []string{"-seed", "-1"}},
		{"unexpected argument", []string{"now"}},
		{"not host:port", []string{"-addr", "8080"}},
		{"not host:port", []string{"-addr", "localhost:http-but-not-really"}},
		{"not host:port", []string{"-addr", "localhost:99999"}},
		{"not one of memory:, sqlite:FILE", []string{"-store", "mysql://localhost/x"}},
		{"not one of", []string{"-store", "sqlite:"}},
		{"not one of", []string{"-store", "memory:x"}},
		{"give one of them", []string{"-store", "memory:", "-db", "x"}},
	} {
		status, out, errs := runMain(context.Background(), c.args...)
		require.Equal(t, 2, status, c.args)
		require.Contains(t, errs, c.why, c.args)
		require.Equal(t, 2, strings.Count(errs, "\n"), "a line, and where there is help: %s", errs)
		require.Empty(t, out)
	}
}

// An opened exchange was started by Main.
type opened struct {
	t      *testing.T
	url    string
	cancel context.CancelFunc
	status chan int
	errs   *lockedBuffer
	out    *lockedBuffer
}

var printedURL = regexp.MustCompile(`http://\S+/`)

func openMain(t *testing.T, args ...string) *opened {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	o := &opened{t: t, cancel: cancel, status: make(chan int, 1), errs: &lockedBuffer{}, out: &lockedBuffer{}}
	go func() {
		o.status <- Main(ctx, args, w, o.errs)
		w.Close()
	}()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		o.out.Write(append(lines.Bytes(), '\n'))
		if o.url = printedURL.FindString(lines.Text()); o.url != "" {
			break
		}
	}
	go io.Copy(o.out, r)
	t.Cleanup(cancel)
	require.NotEmpty(t, o.url, o.errs.String())
	return o
}

// end asks it to close, and returns its status.
func (o *opened) end() int {
	o.cancel()
	select {
	case s := <-o.status:
		return s
	case <-time.After(20 * time.Second):
		o.t.Fatal("it does not close")
		return 0
	}
}

func (o *opened) get(path string) string {
	o.t.Helper()
	res, err := http.Get(strings.TrimSuffix(o.url, "/") + path)
	require.NoError(o.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(o.t, err)
	require.Equal(o.t, http.StatusOK, res.StatusCode, string(b))
	return string(b)
}

func TestTheExchangeOpensClosesAndOpensAgain(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "folder", "not there", "exchange.db")
	first := openMain(t, "-addr", "localhost:0", "-db", file, "-demo=0")
	require.Contains(t, first.out.String(), file)
	body := `{"symbol":"SOL-USD","side":"buy","quantity":"1","price":"5"}`
	res, err := http.Post(first.url+"api/orders", "application/json", strings.NewReader(body))
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusCreated, res.StatusCode)
	book := first.get("/api/book?symbol=SOL-USD")

	// A second one on the same file, or the same port, is told why not.
	status, _, errs := runMain(context.Background(), "-addr", "localhost:0", "-db", file)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "another exchange uses "+file)
	_, port, err := net.SplitHostPort(strings.TrimSuffix(strings.TrimPrefix(first.url, "http://"), "/"))
	require.NoError(t, err)
	status, _, errs = runMain(context.Background(), "-addr", "localhost:"+port, "-store", "memory:")
	require.Equal(t, 1, status)
	require.Contains(t, errs, "is in use")
	require.Contains(t, errs, "-addr localhost:0")

	// A client is connected when it closes.
	conn, _, err := websocket.DefaultDialer.Dial(strings.Replace(first.url, "http", "ws", 1)+"ws", nil)
	require.NoError(t, err)
	defer conn.Close()
	_, _, err = conn.ReadMessage()
	require.NoError(t, err)
	first.cancel()
	_, _, err = conn.ReadMessage()
	require.True(t, websocket.IsCloseError(err, websocket.CloseGoingAway), "%v", err)
	conn.Close()
	require.Equal(t, 0, first.end(), first.errs.String())
	require.Empty(t, first.errs.String())

	second := openMain(t, "-addr", "localhost:0", "-store", "sqlite:"+file, "-demo=0")
	require.JSONEq(t, book, second.get("/api/book?symbol=SOL-USD"))
	require.Equal(t, 0, second.end(), second.errs.String())
}

func TestTheDemonstrationTradesAndGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "exchange.db")
	o := openMain(t, "-addr", "localhost:0", "-db", file, "-seed", "7")
	var f dataFrame
	require.Eventually(t, func() bool {
		f = dataFrame{}
		require.NoError(t, json.Unmarshal([]byte(o.get("/api/trades?symbol=SOL-USD")), &f))
		return len(*f.Trades) >= 5
	}, 20*time.Second, 100*time.Millisecond) // more often is refused
	require.Equal(t, 0, o.end(), o.errs.String())
	require.Empty(t, o.errs.String())
	again := openMain(t, "-addr", "localhost:0", "-db", file)
	var g dataFrame
	require.NoError(t, json.Unmarshal([]byte(again.get("/api/book?symbol=SOL-USD")), &g))
	require.GreaterOrEqual(t, len(*g.Bids), makerLevels/2)
	require.GreaterOrEqual(t, g.Seq, f.Seq)
	require.Equal(t, 0, again.end(), again.errs.String())
}

func TestAFolderThatCannotBeMadeIsExplained(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("not a folder"), 0o600))
	status, _, errs := runMain(context.Background(), "-addr", "localhost:0", "-db", filepath.Join(file, "x.db"))
	require.Equal(t, 1, status)
	require.Contains(t, errs, "-db names another file")
	status, _, errs = runMain(context.Background(), "-addr", "localhost:0", "-db", file)
	require.Equal(t, 1, status)
	require.Contains(t, errs, "cannot open "+file)
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "not a folder", string(data), "it is left alone")
}

func TestTheDefaultFileIsInTheFolderForData(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", dir)
	got, err := defaultFile()
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "levada", "exchange.db"), got)
	t.Setenv("XDG_DATA_HOME", "not/absolute")
	got, err = defaultFile()
	require.NoError(t, err)
	require.True(t, filepath.IsAbs(got))
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "")
	t.Setenv("LocalAppData", "")
	status, _, errs := runMain(context.Background())
	require.Equal(t, 2, status)
	require.Contains(t, errs, "name a file with -db")
}

func TestOnAnAddressOfThisMachineOnlyItsNamesAreServed(t *testing.T) {
	t.Parallel()
	hosts := func(args ...string) []string {
		c, err := parse(append(args, "-store", "memory:"), io.Discard, io.Discard)
		require.NoError(t, err)
		return c.hosts
	}
	require.Equal(t, []string{"localhost", "127.0.0.1", "::1", "localhost"}, hosts())
	require.Contains(t, hosts("-addr", "127.0.0.2:80"), "127.0.0.2")
	require.Contains(t, hosts("-host", "a.example, B.example"), "b.example")
	require.Empty(t, hosts("-addr", ":8080"))
	require.Equal(t, []string{"a.example"}, hosts("-addr", ":8080", "-host", "a.example"))
}

func TestTheURLIsOneThatABrowserCanOpen(t *testing.T) {
	t.Parallel()
	at := &net.TCPAddr{IP: net.IPv6unspecified, Port: 81}
	for addr, want := range map[string]string{
		"localhost:81": "http://localhost:81/", ":81": "http://localhost:81/", "0.0.0.0:81": "http://localhost:81/",
		"[::1]:81": "http://[::1]:81/", "[::]:81": "http://localhost:81/", "example.org:0": "http://example.org:81/",
	} {
		require.Equal(t, want, pageURL(addr, at), addr)
	}
}
