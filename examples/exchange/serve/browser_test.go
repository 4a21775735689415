package serve

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

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
		time.Sleep(400 * time.Millisecond) // for the eye: transitions end
		tab.Screenshot(filepath.Join(dir, name+".png"))
	}
}

const connected = `document.documentElement.classList.contains("live-connected")`

// unreachable makes it no fault that the exchange cannot be reached.
func unreachable(tab *browsertest.Tab) {
	tab.Tolerate("WebSocket connection to")
	tab.Tolerate("ERR_CONNECTION")
	tab.Tolerate("ERR_EMPTY_RESPONSE")
}

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
	tab.Wait(`(document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown", bubbles: true})), document.activeElement.closest("#bids"))`)
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

	tab.Wait(`(e => e.textContent.includes("V ") && e.scrollWidth <= e.clientWidth)(document.getElementById("legend"))`)
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

	// The depth of the book is drawn here, and the other chart is still there afterwards.
	tab.Click("#chart-depth")
	tab.Wait(`document.querySelector("#depths .asks").getBoundingClientRect().height > 100 && !document.querySelector("#chart").checkVisibility()`)
	shoot(tab, "depth", 1400, 900)
	tab.Click("#chart-price")
	tab.Wait(`document.querySelector("#chart canvas").getBoundingClientRect().height > 100`)

	// The exchange closes: the page says so. It opens again: the page goes on, what was typed is still there, and so is
	// the order.
	write(tab, "[name=quantity]", "0.04")
	at, err := url.Parse(o.url)
	require.NoError(t, err)
	unreachable(tab)
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
	unreachable(tab)
	require.Equal(t, 0, again.end(), again.errs.String())
}

func TestTwoPeopleTradeInTheirBrowsers(t *testing.T) {
	t.Parallel()
	o := openMain(t, "-addr", "localhost:0", "-store", "memory:", "-demo=0")
	ann, bob := browsertest.New(t), browsertest.New(t)
	seller, buyer := openPage(ann, o.url), openPage(bob, o.url)
	other := openPage(ann, o.url) // another window of hers

	choose(seller, "#ticket [name=type]", "limit")
	seller.Click("#ticket .sell")
	write(seller, "#ticket input[name=price]", "250")
	write(seller, "#ticket input[name=quantity]", "2")
	seller.Press("\r")
	seller.WaitText("#answer", "The order is in the book.")
	seller.WaitFor("#ask-250\\.00.mine")
	other.WaitFor("#ask-250\\.00.mine")
	other.WaitText("#orders tr", "2.0000 BTC")

	// He takes it out of the book with a click.
	buyer.WaitFor("#ask-250\\.00:not(.mine)")
	buyer.Click("#ask-250\\.00")
	buyer.Wait(`document.querySelector("#ticket [name=side]:checked").value === "buy" && document.querySelector("#ticket [name=price]").value === "250.00"`)
	buyer.Click(".presets button:nth-child(4)") // 0.5
	require.Equal(t, "0.5", buyer.Value("#ticket input[name=quantity]"))
	buyer.WaitText("#total", "125.00 USD")
	buyer.Click("#submit")
	buyer.WaitText("#answer", "Done: 0.5000 BTC traded.")
	for _, tab := range []*browsertest.Tab{seller, other} {
		tab.WaitText(".toast", "Sold0.5000 BTC at 250.00 USD")
		tab.WaitText("#orders tr", "1.5000 BTC")
	}
	for _, tab := range []*browsertest.Tab{seller, other, buyer} {
		tab.WaitText("#tape li", "250.00")
		tab.WaitText("#ask-250\\.00", "1.5000")
		tab.WaitText("#legend", "C 250.00")
		tab.Wait(`document.getElementById("chart-empty").hidden`)
	}
	// He stands on a row of the book that goes: he stands on the next one then.
	write(seller, "#ticket input[name=price]", "260")
	seller.Press("\r")
	buyer.WaitFor("#ask-260\\.00")
	buyer.Run(`document.getElementById("ask-250.00").focus()`)
	other.Wait(`document.querySelectorAll("#orders tr").length === 2`)
	other.Click("#orders tr:last-child .cancel")
	other.WaitText("#answer", "The order was cancelled.")
	buyer.Wait(`document.activeElement.id === "ask-260.00"`)
	other.Click("#orders .cancel")
	for _, tab := range []*browsertest.Tab{seller, other, buyer} {
		tab.Wait(`document.querySelectorAll("#asks .row").length === 0`)
	}
	seller.Wait(`document.querySelectorAll("#orders tr").length === 0`)

	// What it does not show, an order does not have.
	for typ, shows := range map[string]string{"limit": "price,post", "market": "", "stop": "stop", "stop_limit": "stop,price,post",
		"take_profit": "stop", "take_profit_limit": "stop,price,post"} {
		choose(buyer, "#ticket [name=type]", typ)
		require.Equal(t, shows, browsertest.Eval[string](buyer, `Object.entries({stop: ".stops", price: ".limited", post: ".check"}).filter(
			([, s]) => getComputedStyle(document.querySelector("#ticket " + s)).display !== "none").map(([name]) => name).join()`), typ)
	}
	for _, tab := range []*browsertest.Tab{seller, other, buyer} {
		unreachable(tab)
	}
	require.Equal(t, 0, o.end(), o.errs.String())
}

func TestThePageStandsWithoutScripts(t *testing.T) {
	t.Parallel()
	o := openMain(t, "-addr", "localhost:0", "-store", "memory:", "-seed", "3")
	tab := browsertest.New(t).Open("")
	tab.Tolerate("422") // of the order that is wrong
	tab.NoScript()
	tab.Visit(o.url)
	tab.Resize(1400, 900)
	require.Greater(t, tab.Count("#asks .row"), 4)
	require.Greater(t, tab.Count("#tape li"), 11)
	tab.WaitText(".waiting.plain", "The chart needs JavaScript.")
	tab.Click("#bids .row")
	tab.Wait(`location.search.includes("bid=")`)
	require.Equal(t, "sell", tab.Value("#ticket [name=side]:checked"))
	price := tab.Value("#ticket input[name=price]")
	require.NotEmpty(t, price)
	write(tab, "#ticket input[name=quantity]", "x")
	tab.Click("#submit")
	tab.WaitText("#wrong-quantity", "The quantity is a number such as 1.5.")
	require.Equal(t, []string{price, "x"}, []string{tab.Value("#ticket input[name=price]"), tab.Value("#ticket input[name=quantity]")})
	write(tab, "#ticket input[name=quantity]", "0.0001")
	tab.Click("#submit")
	tab.WaitText("#answer", "0.0001 BTC traded")
	shoot(tab, "plain", 1400, 900)
	tab.Close() // which may still be loading its icon
	require.Equal(t, 0, o.end(), o.errs.String())
}
