package serve

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/browsertest"
)

func TestMain(m *testing.M) { browsertest.Main(m) }

// write puts a text into a field in place of what stands there.
func write(tab *browsertest.Tab, field, text string) {
	tab.WaitFor(field)
	tab.Run(fmt.Sprintf(`document.querySelector(%q).select()`, field))
	tab.Run(fmt.Sprintf(`document.querySelector(%q).focus()`, field))
	tab.Press(text)
}

// choose chooses an option of a select, as a person does.
func choose(tab *browsertest.Tab, field, value string) {
	tab.WaitFor(field)
	tab.Run(fmt.Sprintf(`(e => { e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); e.dispatchEvent(new Event("change", {bubbles: true})) })(document.querySelector(%q))`, value, field))
}

// shoot keeps a picture of the page if LEVADA_SCREENSHOTS names a folder for it.
func shoot(tab *browsertest.Tab, name string, width, height int) {
	if dir := os.Getenv("LEVADA_SCREENSHOTS"); dir != "" {
		tab.Resize(width, height)
		tab.Run(`new Promise((r) => setTimeout(r, 400))`) // for the eye: transitions end
		tab.Screenshot(filepath.Join(dir, name+".png"))
	}
}

const connected = `document.documentElement.classList.contains("live-connected")`

// openPage opens a page and waits until it is connected.
func openPage(w *browsertest.Window, url string) *browsertest.Tab {
	tab := w.Open(url)
	tab.Resize(1400, 900)
	tab.Wait(connected)
	return tab
}

func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	w := browsertest.New(t)
	file := filepath.Join(t.TempDir(), "exchange.db")
	o := openMain(t, "-addr", "localhost:0", "-db", file, "-seed", "3")
	tab := openPage(w, o.url)

	// It lives.
	tab.WaitText("#link-text", "Live")
	tab.Wait(`document.querySelectorAll("#asks .row").length > 4 && document.querySelectorAll("#bids .row").length > 4`)
	tab.Wait(`document.querySelectorAll("#tape li").length >= 12`)
	tab.Wait(`document.querySelectorAll("#chart canvas").length > 0 && document.getElementById("legend").textContent.includes("O ")`)
	tab.Wait(`/^[\d,]+\.\d\d BTC-USD/.test(document.title)`)
	require.Equal(t, 3, tab.Count("#markets a"))
	before, legend, trade := tab.Text("#position"), tab.Text("#legend"), browsertest.Eval[string](tab, `document.querySelector("#tape li").id`)
	tab.Wait(fmt.Sprintf(`document.getElementById("position").textContent.trim() !== %q`, before)) // it moves by itself
	tab.Wait(fmt.Sprintf(`document.getElementById("legend").textContent.trim() !== %q`, legend))
	tab.Wait(fmt.Sprintf(`document.querySelector("#tape li").id !== %q`, trade))
	tab.Wait(`document.title.startsWith(document.getElementById("last").textContent)`)

	// The keyboard takes a price of the book into the form.
	tab.Run(`document.querySelector("#asks .row[tabindex='0']").focus()`)
	tab.Run(`document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown", bubbles: true}))`)
	tab.Wait(`document.activeElement.closest("#bids")`)
	tab.Press("\r")
	tab.Wait(`document.activeElement.name === "quantity" && document.querySelector("[name=side]:checked").value === "sell"`)
	tab.Wait(`/^\d+\.\d\d$/.test(document.querySelector("[name=price]").value)`)
	require.Equal(t, "Sell BTC", browsertest.Eval[string](tab, `document.getElementById("submit").innerText`))
	tab.Run(`document.activeElement.blur()`)
	tab.Press("b")
	tab.Wait(`document.activeElement.name === "quantity" && document.querySelector("[name=side]:checked").value === "buy"`)

	// An order that rests, seen in the book.
	write(tab, "[name=price]", "97,000.5")
	write(tab, "[name=quantity]", "0.02")
	tab.WaitText("#total", "1,940.01 USD")
	choose(tab, "#grouping select", "1000")
	tab.Wait(`location.search.includes("group=1000")`)
	tab.Press("\r")
	tab.WaitText("#answer", "The order is in the book.")
	require.Equal(t, 1, tab.Count("#orders tr"), "when it is said the order is in the list")
	tab.WaitText("#orders tr", "97,000.50")
	tab.WaitText("#list-orders .count", "1")

	// A market order trades: a toast says so, the trades list it, and the chart marks it.
	choose(tab, "[name=type]", "market")
	tab.Wait(`getComputedStyle(document.querySelector(".limited")).display === "none"`)
	write(tab, "[name=quantity]", "0.0001")
	tab.Press("\r")
	tab.WaitText("#answer", "Done: 0.0001 BTC")
	tab.Wait(`[...document.querySelectorAll(".toast")].some((t) => t.textContent.startsWith("Bought0.0001 BTC at "))`)
	tab.Click("#list-trades")
	tab.WaitText("#fills tr", "0.0001 BTC")
	tab.WaitText("#fills tr", "Taker")
	tab.Click("#list-orders")
	tab.WaitText("#orders tr", "97,000.50")

	// What makes no sense is explained at its field, which keeps what was typed and has the focus.
	choose(tab, "[name=type]", "limit")
	write(tab, "[name=quantity]", "many")
	tab.Press("\r")
	tab.WaitText("#wrong-quantity", "The quantity is a number such as 1.5.")
	tab.Wait(`document.activeElement.name === "quantity"`)
	require.Equal(t, "many", tab.Value("[name=quantity]"))
	require.Equal(t, "97,000.5", tab.Value("[name=price]"))
	write(tab, "[name=quantity]", "0.00001")
	tab.Press("\r")
	tab.WaitText("#wrong-quantity", "more exact than the step of 0.0001")

	// Nothing came from elsewhere.
	require.True(t, browsertest.Eval[bool](tab, `performance.getEntriesByType("resource").every((e) => e.name.startsWith(location.origin))`))
	require.GreaterOrEqual(t, browsertest.Eval[int](tab, `performance.getEntriesByType("resource").length`), 6)

	shoot(tab, "wide-dark", 1400, 900)
	tab.Click("#theme")
	tab.Wait(`document.documentElement.dataset.theme`)
	shoot(tab, "wide-light", 1400, 900)
	shoot(tab, "middle", 900, 1500)
	shoot(tab, "narrow", 400, 2300)
	for _, width := range []int{320, 390, 700, 820, 1080, 1200, 1340} {
		tab.Resize(width, 900)
		// The chart follows a moment after the window.
		tab.Wait(fmt.Sprintf(`innerWidth === %d && document.documentElement.scrollWidth <= innerWidth &&
			![...document.querySelectorAll("main *, header *, footer *")].some((e) =>
				e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .markets, .depth, canvas, .hidden, [hidden]"))`, width))
	}
	tab.Resize(1400, 900)

	// The exchange closes: the page says so. It opens again: the page goes on, what was typed is still there, and so is
	// the order.
	write(tab, "[name=quantity]", "0.04")
	at, err := url.Parse(o.url)
	require.NoError(t, err)
	tab.Tolerate("ERR_CONNECTION_REFUSED")
	tab.Tolerate("WebSocket")
	require.Equal(t, 0, o.end(), o.errs.String())
	tab.WaitText("#banner-text", "The connection was lost.")
	tab.Wait(`!document.getElementById("banner").hidden && document.getElementById("link-text").textContent === "Offline"`)
	shoot(tab, "lost", 1400, 900)
	again := openMain(t, "-addr", at.Host, "-db", file)
	tab.Wait(connected)
	tab.WaitText("#banner-text", "Connected again")
	require.Equal(t, "0.04", tab.Value("[name=quantity]"))
	tab.WaitText("#total", "3,880.02 USD")
	tab.WaitText("#orders tr", "97,000.50")
	legend = tab.Text("#legend")
	tab.Wait(fmt.Sprintf(`document.getElementById("legend").textContent.trim() !== %q`, legend))
	tab.Click("#orders .cancel")
	tab.WaitText("#answer", "The order was cancelled.")
	require.Zero(t, tab.Count("#orders tr"))

	// Another market, another interval, and back.
	tab.Click("#market-ETH-USD")
	tab.Wait(`document.title.includes("ETH-USD") && document.querySelectorAll("#bids .row").length > 4`)
	tab.Wait(`location.search === "?symbol=ETH-USD"`)
	require.Empty(t, tab.Value("[name=quantity]"), "the form is another")
	tab.Click("#interval-15m")
	tab.WaitFor(`#interval-15m[aria-current=page]`)
	tab.Wait(`document.getElementById("legend").textContent.includes("O ")`)
	tab.Reload()
	tab.Wait(connected)
	tab.WaitFor(`#interval-15m[aria-current=page]`)
	tab.WaitFor(`#market-ETH-USD[aria-current=page]`)
	tab.Back()
	tab.Back()
	tab.WaitFor(`#market-BTC-USD[aria-current=page]`)
	tab.Wait(`document.title.includes("BTC-USD")`)
	// Who comes again sees the market that was shown last.
	tab.Click("#market-SOL-USD")
	tab.Wait(`document.cookie.includes("SOL-USD")`)
	tab.Visit(o.url)
	tab.WaitFor(`#market-SOL-USD[aria-current=page]`)
	require.Equal(t, 0, again.end(), again.errs.String())
}
