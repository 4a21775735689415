package web

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/internal/browsertest"
)

func TestMain(m *testing.M) { browsertest.Main(m) }

// serve serves a chat on a port of this machine.
func serve(t *testing.T) (c *Chat, address string) {
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	c, address, _ = serveOn(t, store)
	return c, address
}

func serveOn(t *testing.T, store *eventstore.Store) (c *Chat, address string, stop func()) {
	c, end := start(t, store)
	server := httptest.NewServer(c)
	stop = sync.OnceFunc(func() {
		end()
		server.Close()
	})
	t.Cleanup(stop)
	return c, strings.TrimPrefix(server.URL, "http://"), stop
}

// connected waits until a page is live.
func connected(tab *browsertest.Tab) { tab.Wait(`window.live?.connected`) }

func TestMessagesAreWrittenAndSeenInABrowser(t *testing.T) {
	t.Parallel()
	_, address := serve(t)
	ann, bob := browsertest.New(t).Open("http://"+address+"/den"), browsertest.New(t).Open("http://"+address+"/den")
	connected(ann)
	connected(bob)
	ann.WaitText("#people", "you")
	ann.Type("#text", "hello")
	bob.WaitText("#typing", "is typing…")
	const enter = `document.getElementById("text").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, shiftKey: %v }))`
	require.True(t, browsertest.Eval[bool](ann, fmt.Sprintf(enter, true)), "Shift-Enter begins a line")
	require.Zero(t, ann.Count(".log li"))
	require.False(t, browsertest.Eval[bool](ann, fmt.Sprintf(enter, false)), "Enter sends")
	bob.WaitText("#log", "hello")
	ann.Wait(`document.querySelectorAll("#log li").length == 1 && !document.querySelector("#pending li")`)
	require.Empty(t, ann.Value("#text"))
	require.NotContains(t, ann.Text("#log time"), "UTC")
	require.Equal(t, "Today", browsertest.Eval[string](bob, `document.querySelector("#log li").dataset.day || "Today"`))

	// The form for the name stays open while others write, and closes with the new name.
	ann.Click("#me summary")
	ann.Type("#nickname", " the First")
	bob.Type("#text", "hi ann\r")
	ann.WaitText("#log li:last-child", "hi ann")
	require.True(t, browsertest.Eval[bool](ann, `document.getElementById("me").open`))
	ann.Run(`nickname.value = "Ann"`)
	ann.Click("#rename button")
	bob.WaitText("#people", "Ann")
	ann.Wait(`!document.getElementById("me").open`)

	// The menu of a message closes with a choice, and gives the focus back.
	ann.Click("#log .mine details.more summary")
	ann.Click("#log .mine .menu button")
	bob.WaitFor("#log .chip")
	ann.WaitFor("#log .chip")
	ann.Wait(`!document.querySelector("#log .more[open], .live-loading") && document.activeElement.localName == "summary"`)

	// What is deleted is asked for twice.
	ann.Run(`document.querySelector("#log .mine details.more").open = true`)
	ann.Click(`#log button[value=delete]`)
	ann.WaitText(`#log button[value=delete]`, "Really delete?")
	ann.Click(`#log button[value=delete]`)
	bob.WaitText("#log", "This message was deleted.")

	// Going to another room takes along nothing of this one.
	ann.Type("#text", "a draft")
	ann.Click("#in-lobby a")
	ann.WaitText("#log", "Welcome")
	require.Empty(t, ann.Value("#text"))
	require.Zero(t, ann.Count("#pending li"))
	ann.Back()
	ann.Wait(`location.pathname == "/den" && document.getElementById("text").value == "a draft"`)
}

func TestMessagesWaitForTheConnection(t *testing.T) {
	t.Parallel()
	_, address := serve(t)
	relay := browsertest.NewRelay(t, address)
	ann, bob := browsertest.New(t).Open(relay.URL+"/den"), browsertest.New(t).Open("http://"+address+"/den")
	ann.Tolerate("WebSocket")
	ann.Tolerate("ERR_")
	connected(ann)
	connected(bob)
	relay.Down()
	ann.Wait(`!live.connected`)
	ann.Type("#text", "are you there?\r")
	ann.WaitText("#pending .waiting", "are you there?")
	ann.Wait(`!document.getElementById("banner").hidden`)
	relay.Up(address)
	bob.WaitText("#log", "are you there?")
	ann.Wait(`document.querySelectorAll("#log li").length == 1 && !document.querySelector("#pending li")`)
	ann.Wait(`document.getElementById("banner").hidden`)
	require.Equal(t, 1, bob.Count("#log li"))

	// What was refused can be sent again.
	const more = room.Burst + 4
	ann.Run(fmt.Sprintf(`for (let i = 0; i < %d; i++) {
		document.getElementById("text").value = "message " + i;
		document.getElementById("composer").requestSubmit();
	}`, more))
	ann.WaitText("#pending .failed", "That was a lot at once")
	require.Contains(t, ann.Text("#text-error"), "That was a lot at once")
	ann.Wait(fmt.Sprintf(`[...document.querySelectorAll("#pending .failed button")].filter((b) => b.textContent == "Try again").forEach((b) => b.click()),
		document.querySelectorAll("#log li").length == %d && !document.querySelector("#pending li")`, more+1))
}

func TestMessagesWaitForAServerThatIsStartedAgain(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	_, address, stop := serveOn(t, store)
	relay := browsertest.NewRelay(t, address)
	ann := browsertest.New(t).Open(relay.URL + "/den")
	ann.Tolerate("WebSocket")
	ann.Tolerate("ERR_")
	connected(ann)
	ann.Type("#text", "before\r")
	ann.WaitText("#log", "before")
	me := ann.Text("#me bdi")
	relay.Down()
	stop()
	ann.Wait(`!live.connected`)
	ann.Type("#text", "meanwhile\r")
	ann.Type("#text", "a draft")
	ann.WaitFor("#pending .waiting")
	_, address, _ = serveOn(t, store)
	relay.Up(address)
	ann.WaitText("#log", "meanwhile")
	ann.Wait(`document.querySelectorAll("#log li").length == 2 && !document.querySelector("#pending li")`)
	require.Equal(t, "a draft", strings.TrimSpace(ann.Value("#text")))
	require.Equal(t, me, ann.Text("#me bdi"))
	ann.Reload()
	connected(ann)
	ann.Wait(`document.querySelectorAll("#log li").length == 2 && document.getElementById("text").value.trim() == "a draft"`)
}

func TestTheLogScrollsAsOneReads(t *testing.T) {
	t.Parallel()
	c, address := serve(t)
	fill(t, c, "den", 200)
	ann, bob := browsertest.New(t).Open("http://"+address+"/den"), browsertest.New(t).Open("http://"+address+"/den")
	connected(ann)
	connected(bob)
	const visible = `((id) => { const b = document.getElementById("scroll").getBoundingClientRect(), r = document.getElementById(id).getBoundingClientRect();
		return r.top < b.bottom && r.bottom > b.top; })`
	ann.Wait(visible + `("m-f200")`)
	bob.Type("#text", "one\r")
	ann.WaitText("#log li:last-child", "one")
	ann.Wait(visible + `(document.getElementById("log").lastElementChild.id)`)
	require.True(t, browsertest.Eval[bool](ann, `document.getElementById("jump").hidden`))

	// Further up, what one reads stays where it is when something comes.
	ann.Run(`document.getElementById("scroll").scrollTop = -500`)
	ann.Wait(`document.getElementById("scroll").scrollTop < -400`)
	ann.Run(`{
		const box = document.getElementById("scroll").getBoundingClientRect().top;
		window.read = [...document.querySelectorAll("#log li")].find((li) => li.getBoundingClientRect().top > box + 10);
		window.place = read.getBoundingClientRect().top;
	}`)
	bob.Type("#text", "two\r")
	ann.Wait(`!document.getElementById("jump").hidden`)
	require.Less(t, browsertest.Eval[float64](ann, `Math.abs(read.getBoundingClientRect().top - place)`), 2.0, "pixels")
	ann.Click("#jump")
	ann.Wait(visible + `(document.getElementById("log").lastElementChild.id)`)
	ann.Wait(`document.getElementById("jump").hidden`)

	// At the top older messages come, and what one reads stays again.
	ann.Run(`document.getElementById("scroll").scrollTop = -1e6`)
	ann.Wait(`document.querySelectorAll("#log li").length > 52`)
	ann.Wait(visible + `("m-f151") || ` + visible + `("m-f152")`)
}

// Pictures of the pages in all their states, for people to look at: LEVADA_SCREENSHOTS says where to.
func TestPictures(t *testing.T) {
	dir := os.Getenv("LEVADA_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	c, address := serve(t)
	fill(t, c, "den", 200)
	bob := browsertest.New(t).Open("http://" + address + "/lobby")
	connected(bob)
	bob.Type("#text", "Morning everyone\r")
	bob.Type("#text", "Did the **release** go out? The notes are at https://example.com/releases\r")
	bob.Wait(`document.querySelectorAll("#log li").length == 3`)
	tab := browsertest.New(t).Open("http://" + address + "/lobby")
	connected(tab)
	tab.Type("#text", "It did, with `Append` as discussed\r")
	tab.Wait(`document.querySelectorAll("#log li").length == 4`)
	bob.Type("#text", "so")
	tab.WaitText("#typing", "typing")
	shoot := func(name string) {
		tab.Run(`document.getElementById("text")?.setRangeText("", 0, 99)`)
		for _, width := range []int{1400, 400} {
			tab.Resize(width, 900)
			for _, scheme := range []string{"light", "dark"} {
				tab.Prefer(scheme)
				tab.Screenshot(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)))
			}
		}
		tab.Resize(1400, 900)
	}
	shoot("room")
	tab.Run(`document.querySelector("#log li:last-child details.more").open = true`)
	shoot("menu")
	tab.Click("#log a[href*=edit]")
	tab.WaitFor("#edit")
	shoot("edit")
	tab.Click("#cancel")
	bob.Resize(1400, 900)
	bob.Click("#people a.guest")
	bob.WaitFor("#empty")
	bob.Type("#text", "Just between us\r")
	bob.WaitText("#log", "between us")
	bob.Visit("http://" + address + "/den")
	connected(bob)
	bob.Type("#text", "anyone?\r")
	bob.WaitText("#log", "anyone?")
	bob.Visit("http://" + address + "/lobby")
	connected(bob)
	tab.WaitFor("#nav .badge")
	tab.Run(`location.hash = "people"`)
	shoot("people")
	tab.Run(`location.hash = ""`)
	tab.Run(`document.getElementById("me").open = true`)
	tab.Run(`for (let i = 0; i < 14; i++) {
		document.getElementById("text").value = "message " + i;
		document.getElementById("composer").requestSubmit();
	}`)
	tab.WaitFor("#pending .failed")
	tab.Run(`document.getElementById("banner").hidden = false`)
	shoot("failed")
	tab.Run(`sessionStorage.clear()`)
	tab.Click("#nav a.unread")
	tab.WaitText("#log", "between us")
	shoot("direct")
	tab.Visit("http://" + address + "/den?q=message+11")
	tab.WaitFor("#found li")
	shoot("search")
	tab.Visit("http://" + address + "/den?before=100")
	shoot("past")
	tab.Visit("http://" + address + "/new-room")
	shoot("empty")
	tab.Visit("http://" + address + "/")
	shoot("home")
}
