package serve

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// A browser is a headless Chromium that shows one page, driven over its DevTools
// protocol.
type browser struct {
	t    *testing.T
	conn *websocket.Conn

	mu       sync.Mutex
	lastID   int
	answers  map[int]chan json.RawMessage
	requests []string // URLs that the page asked for
	faults   []string // exceptions, errors on the console, violations of the policy
}

// newBrowser starts Chromium, or skips the test where there is none. With CI=true
// it must be there.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if path, err = exec.LookPath("chromium-browser"); err != nil {
			require.NotEqual(t, "true", os.Getenv("CI"), "chromium is missing")
			t.Skip("chromium is not installed: the page is not tested in a browser")
		}
	}
	dir, err := os.MkdirTemp("", "exchange-browser")
	require.NoError(t, err)
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+dir,
		"--remote-debugging-port=0", "--window-size=1400,900", "about:blank")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		// Its own processes end a moment after it and write until then.
		require.Eventually(t, func() bool { return os.RemoveAll(dir) == nil }, 30*time.Second, 20*time.Millisecond)
	})
	var port string
	require.Eventually(t, func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		port, _, _ = strings.Cut(string(b), "\n")
		return err == nil && port != ""
	}, 60*time.Second, 20*time.Millisecond)
	var pages []struct{ Type, WebSocketDebuggerURL string }
	require.Eventually(t, func() bool {
		res, err := http.Get("http://127.0.0.1:" + port + "/json/list")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return json.NewDecoder(res.Body).Decode(&pages) == nil && len(pages) > 0 && pages[0].Type == "page"
	}, 60*time.Second, 20*time.Millisecond)
	conn, _, err := websocket.DefaultDialer.Dial(pages[0].WebSocketDebuggerURL, nil)
	require.NoError(t, err)
	b := &browser{t: t, conn: conn, answers: map[int]chan json.RawMessage{}}
	t.Cleanup(func() { conn.Close() })
	go b.listen()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		b.call(domain+".enable", nil)
	}
	return b
}

func (b *browser) listen() {
	for {
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  json.RawMessage
		}
		if b.conn.ReadJSON(&m) != nil {
			return
		}
		b.mu.Lock()
		switch m.Method {
		case "":
			if m.Error != nil {
				m.Result = m.Error
			}
			b.answers[m.ID] <- m.Result
		case "Network.requestWillBeSent":
			var p struct{ Request struct{ URL string } }
			_ = json.Unmarshal(m.Params, &p)
			b.requests = append(b.requests, p.Request.URL)
		case "Runtime.exceptionThrown":
			b.faults = append(b.faults, string(m.Params))
		case "Log.entryAdded", "Runtime.consoleAPICalled":
			// That the socket could not connect while the exchange was closed is said here too.
			if s := string(m.Params); !strings.Contains(s, "ERR_CONNECTION_REFUSED") {
				b.faults = append(b.faults, s)
			}
		}
		b.mu.Unlock()
	}
}

func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	b.mu.Lock()
	b.lastID++
	id, answer := b.lastID, make(chan json.RawMessage, 1)
	b.answers[id] = answer
	err := b.conn.WriteJSON(map[string]any{"id": id, "method": method, "params": params})
	b.mu.Unlock()
	require.NoError(b.t, err)
	select {
	case r := <-answer:
		return r
	case <-time.After(60 * time.Second):
		b.t.Fatalf("the browser does not answer %s %v", method, params)
		return nil
	}
}

// eval evaluates an expression in the page, waits for it if it is a promise, and
// returns its value as JSON.
func (b *browser) eval(expression string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	require.NoError(b.t, json.Unmarshal(b.call("Runtime.evaluate", map[string]any{
		"expression": expression, "awaitPromise": true, "returnByValue": true}), &r))
	require.Nil(b.t, r.ExceptionDetails, "%s: %s", expression, r.ExceptionDetails)
	return string(r.Result.Value)
}

// until waits until an expression is true.
func (b *browser) until(expression string) {
	b.t.Helper()
	got := b.eval(`new Promise((resolve) => {
		const end = Date.now() + 30000;
		(function look() {
			let now = false;
			try { now = (` + expression + `); } catch {}
			if (now || Date.now() > end) resolve(Boolean(now)); else setTimeout(look, 10);
		})();
	})`)
	require.Equal(b.t, "true", got, "%s; the page says: %s", expression, b.eval("document.body.innerText"))
}

// key presses a key where the focus is.
func (b *browser) key(key, text string, code int) {
	for _, kind := range []string{"keyDown", "keyUp"} {
		p := map[string]any{"type": kind, "key": key, "windowsVirtualKeyCode": code}
		if text != "" && kind == "keyDown" {
			p["text"] = text
		}
		b.call("Input.dispatchKeyEvent", p)
	}
}

func (b *browser) enter() { b.key("Enter", "\r", 13) }

func (b *browser) write(selector, text string) {
	b.eval(fmt.Sprintf(`document.querySelector(%q).focus(), document.querySelector(%q).select()`, selector, selector))
	b.call("Input.insertText", map[string]any{"text": text})
}

// shoot keeps a picture of the page if LEVADA_SCREENSHOTS names a folder for it.
func (b *browser) shoot(name string, width, height int) {
	dir := os.Getenv("LEVADA_SCREENSHOTS")
	if dir == "" {
		return
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
	b.eval(`new Promise((r) => setTimeout(r, 300))`) // for the eye: transitions end
	var r struct{ Data string }
	require.NoError(b.t, json.Unmarshal(b.call("Page.captureScreenshot", nil), &r))
	png, err := base64.StdEncoding.DecodeString(r.Data)
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
	b.call("Emulation.clearDeviceMetricsOverride", nil)
}

func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	file := filepath.Join(t.TempDir(), "exchange.db")
	o := openMain(t, "-addr", "localhost:0", "-db", file, "-seed", "3")
	b.call("Page.navigate", map[string]any{"url": o.url})

	// It lives.
	b.until(`document.getElementById("link").dataset.state === "live"`)
	b.until(`document.querySelectorAll("#asks .row").length > 4 && document.querySelectorAll("#bids .row").length > 4`)
	b.until(`document.querySelectorAll("#tape li").length >= 12`)
	b.until(`document.querySelectorAll("#chart canvas").length > 0 && document.getElementById("legend").textContent.includes("O ")`)
	b.until(`/^[\d,]+\.\d\d BTC-USD/.test(document.title)`)
	b.until(`document.querySelectorAll("#markets button").length === 3`)
	before := b.eval(`document.getElementById("position").textContent`)
	b.until(`document.getElementById("position").textContent !== ` + before) // it moves by itself

	// The keyboard takes a price of the book into the form.
	b.eval(`document.querySelector("#asks .row[tabindex='0']").focus()`)
	b.key("ArrowDown", "", 40)
	b.until(`document.activeElement.closest("#bids")`)
	b.enter()
	b.until(`document.activeElement.name === "quantity" && document.querySelector("[name=side]:checked").value === "sell"`)
	b.until(`/^\d+\.\d\d$/.test(document.querySelector("[name=price]").value)`)

	// An order that rests, seen in the book, and cancelled.
	b.eval(`document.querySelector("[name=side][value=buy]").click()`)
	b.write("[name=price]", "90,000.5")
	b.write("[name=quantity]", "0.02")
	b.until(`document.getElementById("total").textContent === "1,800.01 USD"`)
	b.enter()
	b.until(`document.getElementById("answer").textContent === "The order is in the book."`)
	b.until(`document.querySelectorAll("#orders tr").length === 1`)
	b.until(`document.querySelector("#orders tr").innerText.includes("90,000.50")`)
	b.until(`document.getElementById("orders-count").textContent === "1"`)

	// A market order trades: a toast says so.
	b.eval(`(() => { const f = document.getElementById("ticket"); f.elements.type.value = "market"; f.dispatchEvent(new Event("input")); })()`)
	b.until(`document.getElementById("field-price").hidden`)
	b.write("[name=quantity]", "0.0001")
	b.enter()
	b.until(`document.getElementById("answer").textContent.startsWith("Done: 0.0001 BTC")`)
	b.until(`[...document.querySelectorAll(".toast")].some((t) => t.textContent.startsWith("Bought0.0001 BTC at "))`)

	// What makes no sense is explained, at the field.
	b.write("[name=quantity]", "many")
	b.enter()
	b.until(`document.getElementById("answer").className.includes("bad") && document.activeElement.name === "quantity"`)
	b.write("[name=quantity]", "0.00001")
	b.enter()
	b.until(`document.getElementById("answer").textContent.includes("more exact than the step of 0.0001")`)

	// Nothing came from elsewhere, and nothing was refused by the policy.
	b.mu.Lock()
	for _, u := range b.requests {
		require.True(t, strings.HasPrefix(u, o.url) || strings.HasPrefix(u, strings.Replace(o.url, "http", "ws", 1)) || u == "about:blank", u)
	}
	require.GreaterOrEqual(t, len(b.requests), 6)
	b.mu.Unlock()

	b.shoot("wide-dark", 1400, 900)
	b.eval(`document.getElementById("theme").click()`)
	b.until(`document.documentElement.dataset.theme`)
	b.shoot("wide-light", 1400, 900)
	b.shoot("middle", 900, 1500)
	b.shoot("narrow", 390, 2300)
	for _, width := range []int{320, 390, 700, 820, 1080, 1200, 1340} {
		b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
		// The chart follows a moment after the window.
		b.until(fmt.Sprintf(`innerWidth === %d && document.documentElement.scrollWidth <= innerWidth &&
			![...document.querySelectorAll("main *, header *, footer *")].some((e) =>
				e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .markets, canvas, .hidden, [hidden]"))`, width))
	}
	b.call("Emulation.clearDeviceMetricsOverride", nil)

	// The exchange closes: the page says so. It opens again: the page goes on, and
	// the order is still there.
	at, err := url.Parse(o.url)
	require.NoError(t, err)
	require.Equal(t, 0, o.end(), o.errs.String())
	b.until(`!document.getElementById("banner").hidden && document.getElementById("banner-text").textContent.includes("lost")`)
	b.until(`document.getElementById("submit").disabled`)
	b.shoot("lost", 1400, 900)
	again := openMain(t, "-addr", at.Host, "-db", file)
	b.until(`document.getElementById("banner-text").textContent.startsWith("Connected again")`)
	b.until(`document.querySelector("#orders tr").innerText.includes("90,000.50")`)
	b.eval(`document.querySelector("#orders .cancel").click()`)
	b.until(`document.querySelectorAll("#orders tr").length === 0 && !document.getElementById("orders-none").hidden`)

	// Another market.
	b.eval(`document.querySelector("[data-symbol='ETH-USD']").click()`)
	b.until(`document.title.includes("ETH-USD") && document.querySelectorAll("#bids .row").length > 4`)
	b.eval(`document.querySelector("[data-interval='15m']").click()`)
	b.until(`document.querySelector("[data-interval='15m']").getAttribute("aria-checked") === "true" && document.getElementById("legend").textContent.includes("O ")`)
	b.until(`document.querySelector("#markets [data-symbol='BTC-USD'] .num").textContent !== "–"`)
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(t, b.faults)
	require.Equal(t, 0, again.end(), again.errs.String())
}
