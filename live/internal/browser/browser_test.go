package browser_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/browsertest"
)

func TestTwoWindowsSeeWhatTheOtherDoes(t *testing.T) {
	t.Parallel()
	url := serve(t, &world{}) + "/room"
	ann, bob := open(t, url), open(t, url)
	ann.Type("#text", "hello")
	ann.WaitText("#draft", "hello")
	ann.Press("\r")
	bob.WaitText("#posts", "hello")
	bob.Type("#text", "hi\r")
	ann.WaitText("#post-2", "hi")
	require.Equal(t, 2, ann.Count("#posts li"))
	require.Equal(t, "Room", browsertest.Eval[string](ann, "document.title"))
}

func TestTheFieldIsEmptyAfterItWasSent(t *testing.T) {
	t.Parallel()
	ann := open(t, serve(t, &world{})+"/room")
	ann.Type("#text", "hello")
	ann.WaitText("#draft", "hello")
	ann.Press("\r")
	ann.WaitText("#posts", "hello")
	ann.Wait(`document.querySelector("#text").value == ""`)
	require.Equal(t, "text", browsertest.Eval[string](ann, "document.activeElement.id"))
	ann.Press("again\r")
	ann.WaitText("#post-2", "again")
}

func TestThePageComesBackWhenTheServerRestarts(t *testing.T) {
	t.Parallel()
	w := &world{}
	first := httptest.NewServer(newSite(t, w))
	relay := browsertest.NewRelay(t, address(first.URL))
	ann := open(t, relay.URL+"/room")
	ann.Tolerate("WebSocket")
	ann.Tolerate("ERR_")
	ann.Type("#text", "half a sen")
	ann.WaitText("#draft", "half a sen")
	relay.Down()
	ann.Wait("!live.connected")
	first.CloseClientConnections()
	first.Close()
	ann.Press("tence")
	// The new process knows neither the page nor its token.
	relay.Up(address(serve(t, w)))
	connected(ann)
	ann.WaitText("#draft", "half a sentence")
	require.Equal(t, "half a sentence", ann.Value("#text"))
	require.Equal(t, "text", browsertest.Eval[string](ann, "document.activeElement.id"))
	ann.Press("\r")
	ann.WaitText("#posts", "half a sentence")
}

func TestFocusAndSelectionStayWhileRowsArrive(t *testing.T) {
	t.Parallel()
	w := &world{}
	url := serve(t, w) + "/room"
	w.post("first")
	ann := open(t, url)
	ann.Type("#note-1", "my note")
	ann.Run(`note = document.querySelector("#note-1"); note.setSelectionRange(1, 4); 0`)
	for _, text := range []string{"a", "b", "c"} {
		w.post(text)
		ann.WaitText("#posts li:first-child", text)
	}
	require.Equal(t, "note-1 1 4 my note true", browsertest.Eval[string](ann,
		`(e => [e.id, e.selectionStart, e.selectionEnd, e.value, e === note].join(" "))(document.activeElement)`))
}

func TestNobodyWritesInAFieldButTheUser(t *testing.T) {
	t.Parallel()
	ann := open(t, serve(t, &world{})+"/room")
	ann.Type("#text", "up:abc")
	ann.Run(`text.setSelectionRange(1, 2)`)
	ann.WaitText("#draft", "UP:ABC")
	ann.Wait(`!document.querySelector(".live-loading")`)
	require.Equal(t, "up:abc 1 2", browsertest.Eval[string](ann, `[text.value, text.selectionStart, text.selectionEnd].join(" ")`))
}

// While a click is on its way, the page gets frames that know nothing of it. They must not show on the button.
func TestALockedElementDoesNotFlickerBack(t *testing.T) {
	t.Parallel()
	w := &world{}
	url := serve(t, w)
	relay := browsertest.NewRelay(t, address(url))
	ann := open(t, relay.URL+"/clock")
	relay.Delay(150 * time.Millisecond) // 300 ms there and back
	w.tick(t, 20*time.Millisecond, 0)
	ann.Wait(`+document.querySelector("#ticks").textContent > 0`)
	ann.Run(`seen = []; new MutationObserver(() => seen.push(inc.textContent)).observe(inc, { subtree: true, childList: true, characterData: true }); 0`)
	ann.Run(`before = +ticks.textContent; inc.click()`)
	ann.Wait(`inc.textContent.startsWith("1 at")`)
	seen := browsertest.Eval[[]string](ann, "seen")
	sent := false
	for _, text := range seen {
		if text == "sent" {
			sent = true
		} else if sent {
			require.Regexp(t, "^1 at", text, "after what the user saw, what was before: %q", seen)
		}
	}
	require.True(t, sent)
	require.Greater(t, browsertest.Eval[int](ann, "+ticks.textContent - before"), 3, "the rest of the page went on")
	ann.Wait(`!inc.className && !inc.disabled`)

	// A form that is on its way takes nothing more, and its button says so.
	ann.Run(`document.querySelector("#save").click()`)
	require.Equal(t, "Saving true true", browsertest.Eval[string](ann, `[save.textContent, save.disabled, document.querySelector("#name").readOnly].join(" ")`))
	ann.Wait(`!save.disabled`)
	require.Regexp(t, `^Save \d+$`, ann.Text("#save"))
	require.Equal(t, "101", ann.Value("#name"))
}

func TestHooksHearAndSpeak(t *testing.T) {
	t.Parallel()
	ann := open(t, serve(t, &world{})+"/room")
	pixel := `[...chart.getContext("2d").getImageData(5, 5, 1, 1).data].join()`
	require.Equal(t, "0,0,0,0", browsertest.Eval[string](ann, pixel))
	ann.Type("#text", "x\r")
	ann.Wait(pixel + ` == "255,0,0,255"`)
	ann.Click("#chart")
	ann.Wait(`chart.dataset.zoomed == "7"`)
	ann.Type("#text", "y\r")
	ann.WaitText("#posts", "y")
	require.Equal(t, "255,0,0,255", browsertest.Eval[string](ann, pixel), "what a hook has drawn stays")
}

// What is open, scrolled, selected, dragged and played belongs to the browser, though all around it is drawn again.
func TestWhatTheUserDidToThePageStays(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := open(t, serve(t, w)+"/things")
	ann.Click("#sum")
	ann.Run(`(async () => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync("#box { height: 50px; overflow: auto }");
  document.adoptedStyleSheets = [sheet];
  box.scrollTop = 123;
  wide.style.height = "222px";
  pick.value = "b";
  getSelection().setBaseAndExtent(words.firstChild, 5, words.firstChild, 10);
  sound.muted = true;
  sound.currentTime = 3;
  await sound.play();
})()`)
	looks := func() string {
		return browsertest.Eval[string](ann, `JSON.stringify([more.open, box.scrollTop, wide.style.height, pick.value,
  "" + getSelection(), sound.paused, sound.currentTime >= 3])`)
	}
	const did = `[true,123,"222px","b","words",false,true]`
	require.Equal(t, did, looks())
	for i := range 3 {
		w.change(func() { w.ticks++ })
		ann.WaitText("#ticks", fmt.Sprint(i+1))
		ann.Wait(fmt.Sprintf(`box.firstChild.textContent == "%[1]d" && ask.className == "n%[1]d"`, i+1))
		require.Equal(t, did, looks())
	}
	// A modal dialog is still one, with a button that can be clicked, and Escape ends it for good.
	ann.Run("ask.showModal()")
	w.change(func() { w.ticks++ })
	ann.WaitText("#ask", "4")
	require.True(t, browsertest.Eval[bool](ann, `ask.matches(":modal")`))
	ann.Click("#done")
	ann.Press("\x1b")
	ann.Wait(`!ask.open`)
	w.change(func() { w.ticks++ })
	ann.WaitText("#ask", "5")
	require.True(t, browsertest.Eval[bool](ann, `!ask.open && more.open`))
}

func TestTheServerTakesOverWhatIsOpen(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := open(t, serve(t, w)+"/things")
	ann.Click("#expand")
	ann.Wait("more.open")
	ann.Click("#sum")
	ann.Wait("!more.open")
	w.change(func() { w.ticks++ })
	ann.WaitText("#sum", "1")
	require.False(t, browsertest.Eval[bool](ann, "more.open"), "the server has rendered nothing new")
	ann.Click("#expand")
	ann.Wait(`!document.querySelector(".live-loading")`)
	ann.Click("#expand")
	ann.Wait("more.open")

	// A dialog that is there only while it is open, with a hook that shows it.
	ann.Click("#show")
	ann.Wait(`document.querySelector("#modal")?.matches(":modal")`)
	w.change(func() { w.ticks++ })
	ann.WaitText("#modal", "2")
	require.True(t, browsertest.Eval[bool](ann, `modal.matches(":modal")`))
	ann.Click("#shut")
	ann.Wait(`!document.querySelector("#modal")`)
	ann.Click("#expand")
	ann.Wait("!more.open")
}

func TestAFormWithoutJavaScript(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := browsertest.New(t).Open("")
	ann.NoScript()
	ann.Tolerate("422") // the status of a form that was refused
	ann.Visit(serve(t, w) + "/room")
	ann.Click("#send")
	ann.WaitText("#why", "must not be empty")
	ann.Type("#text", "plain")
	ann.Click("#send")
	ann.WaitText("#posts", "plain")
	ann.WaitText("#flash", "posted")
	require.Len(t, w.posts, 1)
	ann.Click("#b")
	ann.WaitText("#tab", "b")
}

func TestWhatPeopleWriteStaysText(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := open(t, serve(t, w)+"/room")
	attacks := []string{
		`<img src=x onerror="pwned=1">`, `"><script>pwned=1</script>`, `' onmouseover='pwned=1`, `javascript:pwned=1`,
		`</li></ul><iframe srcdoc="<script>parent.pwned=1</script>">`, `{{.}}<!-- --><svg onload=pwned=1>`, "\u2028</script><script>pwned=1//",
	}
	for i, attack := range attacks {
		if i%2 == 0 {
			w.post(attack)
			w.tape.Set(uint64(i+1), []item{{i, attack}})
		} else {
			ann.Type("#text", attack)
			ann.Wait(`document.querySelector("#draft").textContent == text.value`)
			ann.Press("\r")
		}
		ann.Wait(fmt.Sprintf(`document.querySelectorAll("#posts li").length == %d`, i+1))
		require.Equal(t, attack, browsertest.Eval[string](ann, `document.querySelector("#posts li a").textContent`))
		require.Equal(t, attack, browsertest.Eval[string](ann, `document.querySelector("#posts li").title`))
		require.Equal(t, attack, browsertest.Eval[string](ann, `document.querySelector("#log li:last-child").textContent`))
	}
	ann.Wait(`document.querySelector("#region-tape li")`)
	ann.Run(`for (const a of document.querySelectorAll("#posts a")) if (a.protocol == "javascript:") a.click()`)
	require.False(t, browsertest.Eval[bool](ann, `"pwned" in window`))
	require.Zero(t, ann.Count("#live script, #live img, #live iframe, #live svg"))
	ann.Reload()
	connected(ann)
	require.Equal(t, len(attacks), ann.Count("#posts li"))
	require.False(t, browsertest.Eval[bool](ann, `"pwned" in window`))
	require.Zero(t, ann.Count("#live script, #live img, #live iframe, #live svg"))
}

// A thousand rows of which fifty change twenty times a second, and all move, while the user writes in one of them.
func TestALargeTableMovesUnderTheUser(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := open(t, serve(t, w)+"/table")
	require.Equal(t, 1000, ann.Count("#rows tr"))
	stop := w.tick(t, 50*time.Millisecond, 60)
	ann.Type("#in-500", "abc")
	ann.Run(`field = document.querySelector("#in-500"); field.setSelectionRange(1, 2); mark = document.querySelector("#row-3"); 0`)
	ann.Wait(`+ticks.textContent >= 20`)
	require.Equal(t, "in-500 abc 1 2 true", browsertest.Eval[string](ann,
		`(e => [e.id, e.value, e.selectionStart, e.selectionEnd, e === field].join(" "))(document.activeElement)`))
	ann.Wait(`+ticks.textContent >= 40`)
	stop()
	w.change(func() { w.ticks = 1000 })
	ann.Wait(`ticks.textContent == "1000"`)
	require.True(t, browsertest.Eval[bool](ann, `mark.isConnected && mark.id == "row-3"`), "rows are moved, not made anew")
	require.Equal(t, 1000, browsertest.Eval[int](ann, `new Set([...document.querySelectorAll("#rows tr")].map(r => r.id)).size`))
	require.Equal(t, "in-500", browsertest.Eval[string](ann, "document.activeElement.id"))
	require.Equal(t, "abc", ann.Value("#in-500"))
}

func TestStreamsAndRegionsInTheDocument(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := open(t, serve(t, w)+"/room")
	ann.Run(`log = document.querySelector("#log"); texts = e => [...e.querySelectorAll("li")].map(l => l.textContent).join(); 0`)
	for i, text := range []string{"a", "b", "c", "d"} {
		w.post(text)
		w.tape.Set(uint64(i+1), w.posts)
		ann.WaitText("#log", text)
		if i == 1 {
			ann.Run(`kept = document.querySelector("#log-2"); trade = document.querySelector("#region-tape #trade-1"); 0`)
			ann.Wait(`document.querySelector("#region-tape #trade-2")`)
			ann.Run(`trade = document.querySelector("#region-tape #trade-1"); 0`)
		}
	}
	require.Equal(t, "b,c,d", browsertest.Eval[string](ann, "texts(log)"))
	require.True(t, browsertest.Eval[bool](ann, "kept.isConnected"))
	ann.Wait(`texts(document.querySelector("#region-tape")) == "d,c,b,a"`)
	require.True(t, browsertest.Eval[bool](ann, "trade.isConnected"))

	// Who comes later, and who comes back, sees the same.
	bob := open(t, browsertest.Eval[string](ann, "location.href"))
	bob.Wait(`document.querySelectorAll("#region-tape li").length == 4`)
	ann.Click("#far")
	ann.WaitText("h1", "Other")
	ann.Click("#back")
	ann.Wait(`texts(document.querySelector("#region-tape")) == "d,c,b,a"`)
	w.tape.Set(5, w.posts[:1])
	ann.Wait(`texts(document.querySelector("#region-tape")) == "d"`)
}

func TestBackAndForward(t *testing.T) {
	t.Parallel()
	ann := open(t, serve(t, &world{})+"/room")
	ann.Run("document.same = true")
	ann.Click("#b")
	ann.WaitText("#tab", "b")
	ann.Click("#far")
	ann.WaitText("h1", "Other")
	require.Equal(t, "Other", browsertest.Eval[string](ann, "document.title"))
	ann.Back()
	ann.WaitText("#tab", "b")
	ann.Back()
	ann.Wait(`document.querySelector("#tab")?.textContent == "" && location.search == ""`)
	ann.Forward()
	ann.WaitText("#tab", "b")
	// Where the server sends the page is an entry of its own.
	ann.Click("#leave")
	ann.WaitText("h1", "Other")
	require.Equal(t, "/other", browsertest.Eval[string](ann, "location.pathname"))
	ann.Back()
	ann.WaitText("#tab", "b")
	require.True(t, browsertest.Eval[bool](ann, "document.same"), "nothing was loaded")
}

func TestNothingIsDoneTwice(t *testing.T) {
	t.Parallel()
	w := &world{}
	url := serve(t, w)
	relay := browsertest.NewRelay(t, address(url))
	ann := open(t, relay.URL+"/clock")
	relay.Delay(50 * time.Millisecond)
	ann.Run(`inc.click(); inc.click(); inc.click()`)
	ann.Wait(`inc.textContent.startsWith("1 at") && !inc.className`)
	ann.Run(`document.querySelector("#save").click(); document.querySelector("#f").requestSubmit()`)
	ann.Wait(`document.querySelector("#name").value == "101"`)
	ann.Run(`inc.click()`)
	ann.Wait(`inc.textContent.startsWith("102 at")`)
}

func TestComingBackFromAnotherPageConnectsAgain(t *testing.T) {
	t.Parallel()
	w := &world{}
	url := serve(t, w)
	ann := open(t, url+"/room")
	ann.Type("#text", "typed")
	ann.WaitText("#draft", "typed")
	ann.Visit(url + "/plain")
	ann.WaitText("h1", "Plain")
	require.Eventually(t, func() bool { return w.site.Stats().Connected == 0 }, 20*time.Second, 10*time.Millisecond)
	ann.Back()
	ann.WaitText("h1", "Room")
	connected(ann)
	require.Equal(t, 1, w.site.Stats().Connected)
	w.post("news")
	ann.WaitText("#posts", "news")
}

func TestASessionThatEndsLoadsItsPagesAnew(t *testing.T) {
	t.Parallel()
	w := &world{}
	ann := open(t, serve(t, w)+"/room")
	ann.Run("document.same = true")
	w.mu.Lock()
	session := w.session
	w.mu.Unlock()
	w.site.Disconnect(session)
	ann.Wait("!document.same && window.live?.connected")
}

func TestPagesMoveToTheNextServer(t *testing.T) {
	t.Parallel()
	w := &world{}
	first := httptest.NewServer(newSite(t, w))
	defer first.Close()
	old := w.site
	relay := browsertest.NewRelay(t, address(first.URL))
	ann := open(t, relay.URL+"/room")
	ann.Run("document.same = true")
	ann.Type("#text", "kept")
	ann.WaitText("#draft", "kept")
	relay.Up(address(serve(t, w)))
	first.CloseClientConnections() // of HTTP; WebSockets are none of them
	require.NoError(t, old.Shutdown(t.Context(), 0))
	require.Eventually(t, func() bool { return w.site.Stats().Connected == 1 }, 20*time.Second, 10*time.Millisecond)
	ann.WaitText("#draft", "kept")
	connected(ann)
	require.True(t, browsertest.Eval[bool](ann, "document.same"))
}

func TestAFormMayBeSentByTheServersWish(t *testing.T) {
	t.Parallel()
	ann := open(t, serve(t, &world{})+"/login-page")
	ann.Click("#in")
	ann.WaitText("h1", "Plain, ann")
}
