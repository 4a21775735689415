package web

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/browsertest"
)

func TestMain(m *testing.M) { browsertest.Main(m) }

const connected = `document.documentElement.classList.contains("live-connected")`

// shoot keeps a picture of the page if LEVADA_SCREENSHOTS names a folder for it.
func shoot(tab *browsertest.Tab, name string, width, height int, scheme string) {
	if dir := os.Getenv("LEVADA_SCREENSHOTS"); dir != "" {
		tab.Resize(width, height)
		tab.Prefer(scheme)
		tab.Run(`new Promise((r) => setTimeout(r, 400))`) // for the eye: transitions end
		tab.Screenshot(filepath.Join(dir, name+".png"))
	}
}

func TestThePagesInABrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t, memstore.Open(nil))
	t.Cleanup(w.stop)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	relay := browsertest.NewRelay(t, server.Listener.Addr().String())
	ann := browsertest.New(t).Open(relay.URL + "/")
	bob := browsertest.New(t).Open(server.URL + "/")
	ann.Resize(1400, 900)
	bob.Resize(1400, 900)
	ann.Wait(connected)
	bob.Wait(connected)

	// A like shows at both, and says how long it took.
	ann.Click("#like-shown button")
	ann.WaitText("#like-shown .count", "6")
	ann.WaitText("#meter", "from click to screen")
	bob.WaitText("#like-shown .count", "6")
	bob.WaitText("#meter", "from store to screen")
	require.Equal(t, 2, bob.Count(".people li"))

	// Likes without a connection show at once, wait, and count once each when it is back.
	ann.Tolerate("WebSocket")
	ann.Tolerate("ERR_")
	relay.Down()
	ann.WaitFor(".banner:not([hidden])")
	ann.Click("#like-shown button")
	ann.Click("#like-shown button")
	ann.Click("#like-tree button")
	ann.WaitText("#like-shown .count", "8")
	ann.WaitText("#outbox", "3 likes wait")
	shoot(ann, "lost", 1400, 700, "light")
	require.Equal(t, "6", bob.Text("#like-shown .count"))
	relay.Up(server.Listener.Addr().String())
	bob.WaitText("#like-shown .count", "8")
	ann.Wait(`document.querySelector("#outbox").textContent === "" && !document.querySelector(".waiting")`)
	require.Equal(t, "8", ann.Text("#like-shown .count"))
	require.Equal(t, "6", bob.Text("#like-tree .count"))

	// What the server refuses is taken back.
	bob.Click("#remove-hands button")
	ann.Wait(`!document.querySelector("#row-hands")`)
	ann.Run(`outbox.add("hands")`)
	ann.WaitText(".flash", "no longer there")
	ann.Wait(`!outbox.items.length`)

	// The scrubber follows the hand.
	ann.Run(`(e => { e.value = 1; e.dispatchEvent(new Event("input", {bubbles: true})) })(document.querySelector("#scrub"))`)
	ann.WaitText("#then", "added")
	ann.Wait(`location.search === "?id=steps&v=1"`)
	bob.Click("#like-shown button")
	ann.WaitText("#like-shown .count", "9")
	require.Contains(t, ann.Text("#then"), "added", "it stays in the past")
	shoot(ann, "past", 1400, 900, "light")
	ann.Run(`(e => { e.value = e.max; e.dispatchEvent(new Event("input", {bubbles: true})) })(document.querySelector("#scrub"))`)
	ann.WaitText("#then", "now")

	// A remark and a quote.
	ann.Type("#say-text", "Small steps are steps.")
	ann.Press("\r")
	bob.WaitText(".remarks", "Small steps are steps.")
	ann.Wait(`document.querySelector("#say-text").value === ""`)
	ann.Type("#add-content", "ab")
	ann.WaitText("#content-error", "too short")
	shoot(ann, "wrong", 1400, 1200, "dark")
	ann.Type("#add-content", "c: all good things come in threes.")
	ann.Wait(`!document.querySelector("#content-error")`)
	ann.Click("#add button")
	bob.WaitText("#rows li:first-child", "all good things")
	ann.Wait(`document.querySelector("#add-content").value === ""`)

	// Two correct the same quote.
	ann.Click("nav a[href='/admin']")
	bob.Click("nav a[href='/admin']")
	bob.WaitFor("#edit-tree")
	ann.WaitFor("#edit-tree")
	ann.Type("#author-tree", "!")
	ann.WaitText("#edit-tree .tag", "not saved")
	bob.Type("#author-tree", "?")
	bob.Click("#edit-tree button[value=save]")
	ann.WaitText("#edit-tree .theirs", "?")
	require.Contains(t, ann.Value("#author-tree"), "!")
	shoot(ann, "clash", 1400, 1300, "light")
	shoot(ann, "clash-narrow-dark", 400, 900, "dark")
	ann.Click("#edit-tree button[value=theirs]")
	ann.Wait(`!document.querySelector("#edit-tree .tag") && document.querySelector("#author-tree").value.includes("?")`)

	bob.Click("nav a[href='/']")
	bob.WaitFor("#shown-content")
	shoot(bob, "home-light", 1400, 1500, "light")
	shoot(bob, "home-dark", 1400, 1500, "dark")
	shoot(bob, "home-narrow", 400, 1500, "light")
	shoot(bob, "home-narrow-dark", 400, 1500, "dark")
}

func TestThePageIsCompleteWithoutAScript(t *testing.T) {
	t.Parallel()
	w := newWorld(t, memstore.Open(nil))
	t.Cleanup(w.stop)
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	tab := browsertest.New(t).Open("about:blank")
	tab.NoScript()
	tab.Visit(server.URL + "/")
	require.Equal(t, 10, tab.Count("#rows li"))
	tab.Click("#like-shown button")
	tab.WaitText("#like-shown .count", "6")
}
