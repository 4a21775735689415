package browsertest

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { Main(m) }

func serve(t *testing.T, body string) string {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/favicon.ico" {
			return
		}
		if strings.HasPrefix(r.URL.Path, "/cookie/") {
			http.SetCookie(w, &http.Cookie{Name: "name", Value: strings.TrimPrefix(r.URL.Path, "/cookie/"), Path: "/"})
		}
		c, _ := r.Cookie("name")
		name := "nobody"
		if c != nil {
			name = c.Value
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>t</title><p id="who">%s</p><p id="path">%s %s</p>%s`, name, r.Method, r.URL.Path, body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestWindowsHaveCookiesOfTheirOwnAndTabsShareThem(t *testing.T) {
	t.Parallel()
	url := serve(t, "")
	ann, bob := New(t), New(t)
	require.Equal(t, "nobody", ann.Open(url+"/cookie/ann").Text("#who"))
	require.Equal(t, "ann", ann.Open(url).Text("#who"))
	require.Equal(t, "nobody", bob.Open(url).Text("#who"))
}

func TestATabDoesWhatAPersonDoes(t *testing.T) {
	t.Parallel()
	url := serve(t, `<form action="/next"><input id="in" value="a"><button>Go</button></form>
<output id="out"></output><script>document.querySelector("#in").oninput = e => setTimeout(() => document.querySelector("#out").textContent = e.target.value, 20)</script>`)
	tab := New(t).Open(url)
	tab.Type("#in", "bc")
	tab.WaitText("#out", "abc")
	require.Equal(t, "abc", tab.Value("#in"))
	require.Equal(t, 1, tab.Count("form"))
	tab.Click("button")
	tab.WaitText("#path", "GET /next")
	tab.Back()
	tab.Wait(`location.pathname == "/"`)
	tab.Forward()
	tab.Wait(`location.pathname == "/next"`)
	tab.Reload()
	tab.Resize(400, 300)
	require.Equal(t, 400, Eval[int](tab, "innerWidth"))
	for _, scheme := range []string{"dark", "light"} {
		tab.Prefer(scheme)
		require.True(t, Eval[bool](tab, `matchMedia("(prefers-color-scheme: `+scheme+`)").matches`))
	}
	path := filepath.Join(t.TempDir(), "shot.png")
	tab.Screenshot(path)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	img, err := png.DecodeConfig(bytes.NewReader(b))
	require.NoError(t, err)
	require.Equal(t, 400, img.Width)
}

func TestAKeyThatThePagePreventsTypesNothing(t *testing.T) {
	t.Parallel()
	tab := New(t).Open(serve(t, `<textarea id="in"></textarea><script>
let prevented = 0;
document.querySelector("#in").onkeydown = e => { if (e.key == "Enter" || e.key == "x") { e.preventDefault(); prevented++ } }
</script>`))
	tab.Type("#in", "Axb \rÿ7?")
	tab.Wait("prevented == 2")
	require.Equal(t, "Ab ÿ7?", tab.Value("#in"))
}

func TestWithoutScriptsAPageStandsAsItCame(t *testing.T) {
	t.Parallel()
	tab := New(t).Open("")
	tab.NoScript()
	tab.Visit(serve(t, `<i>plain</i><form method="post" action="/posted"><button>Go</button></form><script>document.querySelector("i").textContent = "script"</script>`))
	require.Equal(t, "plain", tab.Text("i"))
	tab.Click("button")
	tab.WaitText("#path", "POST /posted")
}

func TestFaultsOfThePageAreFound(t *testing.T) {
	t.Parallel()
	tab := New(t).Open(serve(t, `<script>console.error("first fault"); console.log("no fault"); setTimeout(() => { throw new Error("second fault") })</script><img src="http://127.0.0.1:9999/none">`))
	require.Eventually(t, func() bool { return len(tab.Faults()) == 3 }, patience, interval)
	faults := strings.Join(tab.Faults(), "\n")
	require.Contains(t, faults, "first fault")
	require.Contains(t, faults, "second fault")
	require.Contains(t, faults, "9999/none")
	for _, text := range []string{"first fault", "second fault", "none"} {
		tab.Tolerate(text)
	}
	require.Empty(t, tab.Faults())
}

func TestWhatAPolicyForbidsIsAFault(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		w.Header().Set("Content-Type", "text/html")
		if r.URL.Path == "/" {
			fmt.Fprint(w, `<script>inline = true</script>`)
		}
	}))
	defer srv.Close()
	tab := New(t).Open(srv.URL)
	require.Eventually(t, func() bool { return len(tab.Faults()) == 1 }, patience, interval)
	require.Contains(t, tab.Faults()[0], "Content Security Policy")
	tab.Tolerate("Content Security Policy")
}

func TestOfflineCutsTheTabOff(t *testing.T) {
	t.Parallel()
	url := serve(t, "")
	tab := New(t).Open(url)
	tab.Tolerate("ERR_INTERNET_DISCONNECTED")
	fetch := `fetch("/").then(() => true, () => false)`
	require.True(t, Eval[bool](tab, fetch))
	tab.Offline(true)
	require.False(t, Eval[bool](tab, fetch))
	tab.Offline(false)
	require.True(t, Eval[bool](tab, fetch))
}

func TestARelayDelaysAndBreaksWebSockets(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			fmt.Fprint(w, "<p>page</p>")
			return
		}
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, b, err := conn.ReadMessage()
			if err != nil || conn.WriteMessage(kind, b) != nil {
				return
			}
		}
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	relay := NewRelay(t, addr)
	tab := New(t).Open(relay.URL)
	tab.Tolerate("WebSocket")
	tab.Run(`new Promise(ok => { window.ws = new WebSocket("/ws"); ws.onopen = ok; ws.onclose = () => window.gone = true })`)
	echo := `new Promise(ok => { const t = performance.now(); ws.onmessage = () => ok(performance.now() - t); ws.send("x") })`
	relay.Delay(100 * time.Millisecond)
	require.GreaterOrEqual(t, Eval[float64](tab, echo), 199.0)
	relay.Delay(0)
	require.Less(t, Eval[float64](tab, echo), 199.0)
	relay.Down()
	tab.Wait("window.gone")
	require.False(t, Eval[bool](tab, `fetch("/").then(() => true, () => false)`))
	tab.Tolerate("ERR_")
	relay.Up(addr)
	require.True(t, Eval[bool](tab, `fetch("/").then(() => true, () => false)`))
}

// witness is a testing.TB that hears of failures instead of failing.
type witness struct {
	testing.TB
	errors []string
}

func (w *witness) Errorf(format string, args ...any) {
	w.errors = append(w.errors, fmt.Sprintf(format, args...))
}

func TestATestEndsWithWhatItsPageComplainedOf(t *testing.T) {
	t.Parallel()
	window := New(t)
	w := &witness{TB: t}
	window.t = w
	tab := window.Open(serve(t, `<script>console.error("a fault")</script>`))
	tab.Wait("true")
	require.Eventually(t, func() bool { return len(tab.Faults()) == 1 }, patience, interval)
	tab.end()
	require.Len(t, w.errors, 1)
	require.Contains(t, w.errors[0], "a fault")
	tab.Tolerate("a fault") // it ends once more with the test
}
