package web

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/live/livetest"
)

type flag struct {
	On bool `json:"on"`
}

func TestTwoPeopleTalk(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob := livetest.Open(t, c, "/lobby"), livetest.Open(t, c, "/lobby")
		require.Contains(t, ann.Text("#log"), "Welcome to the lobby")
		call(ann, "Ann")
		before := ann.Attr("#composer input[name=id]", "value")
		say(ann, "hello **there**\n\nsee https://go.dev")
		require.NotEqual(t, before, ann.Attr("#composer input[name=id]", "value"))
		for _, p := range []*livetest.Page{ann, bob} {
			p.WaitFor("#log .msg:contains('hello there')")
			require.Contains(t, p.HTML("#log li:last-child .text"), "hello <strong>there</strong>\n\nsee <a href=\"https://go.dev\"")
			require.Equal(t, "Ann", p.Text("#log li:last-child .head"))
		}
		require.True(t, ann.Has("#log li:last-child.mine"))
		require.False(t, bob.Has("#log .mine"))
		pass(time.Second)
		say(ann, "and again")
		bob.WaitFor("#log .msg.follows:contains('and again')")
		require.False(t, bob.Has("#log li:last-child .head"), "who goes on writing is not named again")
		pass(10 * time.Minute)
		say(ann, "much later")
		bob.WaitFor("#log .msg:contains('much later')")
		require.True(t, bob.Has("#log li:last-child .head"))
		require.Equal(t, time.Now().UTC().Format("2006-01-02T15:04:05Z"), bob.Attr("#log li:last-child time", "datetime"))
	})
}

func TestWhatIsWrongStandsAtTheField(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann := livetest.Open(t, c, "/lobby")
		say(ann, " \n ")
		require.Equal(t, "Write something first.", ann.Text("#text-error"))
		require.Equal(t, "true", ann.Attr("#text", "aria-invalid"))
		say(ann, strings.Repeat("a", room.MaxText+1))
		require.Equal(t, "A message has at most 2000 characters.", ann.Text("#text-error"))
		for i := range room.Burst {
			say(ann, fmt.Sprint("message ", i))
			require.False(t, ann.Has("#text-error"))
		}
		say(ann, "one more")
		require.Equal(t, "That was a lot at once; go on in 1 s.", ann.Text("#text-error"))
		require.Equal(t, room.Burst+1, ann.Count("#log li"))
		ann.Submit("#rename", "nickname", "\u202e")
		require.Equal(t, "A name has 1 to 24 visible characters.", ann.Text("#nickname-error"))
		pass(2 * time.Second)
		say(ann, "one more")
		require.False(t, ann.Has("#text-error"))
	})
}

func TestTypingIsSeenByOthersForAWhile(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob := livetest.Open(t, c, "/lobby"), livetest.Open(t, c, "/lobby")
		call(ann, "Ann")
		ann.Hook("#pulse", "typing", flag{true})
		bob.WaitFor("#typing:contains('Ann is typing…')")
		require.True(t, bob.Has("#people small:contains('typing')"))
		require.Equal(t, "", ann.Text("#typing"))
		pass(typingFor - time.Second)
		require.Equal(t, "Ann is typing…", bob.Text("#typing"))
		pass(2 * time.Second)
		require.Equal(t, "", bob.Text("#typing"))
		ann.Hook("#pulse", "typing", flag{true})
		bob.WaitFor("#typing:contains('Ann is typing…')")
		say(ann, "done")
		bob.WaitFor("#log li:contains('done')")
		pass(100 * time.Millisecond)
		require.Equal(t, "", bob.Text("#typing"), "who has sent it has written it")
	})
}

func TestSeveralTabsAreOnePerson(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		browser := livetest.NewBrowser(t, c)
		one, two := browser.Open("/lobby"), browser.Open("/lobby")
		bob := livetest.Open(t, c, "/lobby")
		pass(time.Second)
		require.Equal(t, 2, bob.Count("#people li"))
		require.Equal(t, 2, one.Count("#people li"))
		call(one, "Ann")
		two.WaitFor("#me bdi:contains('Ann')")
		bob.WaitFor("#people bdi:contains('Ann')")
		one.Close()
		pass(10 * time.Second)
		require.Equal(t, 2, bob.Count("#people li"))
		two.Close()
		pass(10 * time.Second)
		require.Equal(t, 1, bob.Count("#people li"))
	})
}

func TestHistoryComesByPages(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", 120)
		ann := livetest.Open(t, c, "/den")
		require.Equal(t, 50, ann.Count("#log li"))
		require.Equal(t, "message 71", ann.Text("#log li:first-child .text"))
		ann.Click("#older")
		require.Equal(t, 100, ann.Count("#log li"))
		require.Equal(t, "message 21", ann.Text("#log li:first-child .text"))
		say(ann, "meanwhile")
		ann.Click("#older")
		require.Equal(t, 121, ann.Count("#log li"))
		require.False(t, ann.Has("#older"))
		require.True(t, ann.Has(".begin"))
		for i, text := range ann.Texts("#log .text")[:120] {
			require.Equal(t, fmt.Sprint("message ", i+1), text)
		}
	})
}

func TestHistoryIsReadWhileOthersGoOn(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", 120)
		ann, bob := livetest.Open(t, c, "/den?before=61"), livetest.Open(t, c, "/den")
		require.Equal(t, "message 60", ann.Text("#log li:last-child .text"))
		require.True(t, ann.Has("#past"))
		ann.Click("#newer")
		require.Equal(t, "message 110", ann.Text("#log li:last-child .text"))
		require.False(t, ann.Has("#newer"))
		ann.Back()
		require.Equal(t, "message 60", ann.Text("#log li:last-child .text"))
		say(bob, "news")
		pass(time.Second)
		require.Equal(t, 50, ann.Count("#log li"))
		ann.Click("#past a:contains('Back')")
		require.Equal(t, "news", ann.Text("#log li:last-child .text"))
		require.False(t, ann.Has("#past"))
		ann.Visit("/den?before=61")
		say(ann, "and I")
		require.Equal(t, "/den", ann.URL())
		require.Equal(t, "and I", ann.Text("#log li:last-child .text"))
	})
}

func TestAPageHoldsABoundedNumberOfMessages(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", maxShown+200)
		ann := livetest.Open(t, c, "/den")
		for range maxShown/pageSize - 1 {
			ann.Click("#older")
		}
		require.Equal(t, maxShown, ann.Count("#log li"))
		say(ann, "one more")
		require.Equal(t, maxShown, ann.Count("#log li"))
		require.Equal(t, "message 202", ann.Text("#log li:first-child .text"))
		ann.Click("#older")
		require.Equal(t, "/den?before=202", ann.URL())
		require.Equal(t, "message 201", ann.Text("#log li:last-child .text"))
	})
}

func TestMessagesAreChangedByTheirAuthors(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob := livetest.Open(t, c, "/den"), livetest.Open(t, c, "/den")
		say(ann, "helo")
		bob.WaitFor("#log li:contains('helo')")
		id := ann.Attr("#log li .acts input[name=id]", "value")
		require.False(t, bob.Has("#log a:contains('Edit')"))
		require.False(t, bob.Has("#log button:contains('Delete')"))
		bob.Forge("edit", "id", id, "edited", "hacked")
		bob.Forge("act", "id", id, "do", "delete")
		require.Equal(t, "Only its author may change a message.", bob.Text("#act-error"))
		require.Equal(t, []string{"helo"}, ann.Texts("#log .text"))

		ann.Click("#log a:contains('Edit')")
		require.Equal(t, "helo", ann.Value("#edited"))
		ann.Submit("#edit", "edited", "   ")
		require.Equal(t, "Write something first.", ann.Text("#edit-error"))
		require.False(t, ann.Has("#text-error"))
		ann.Submit("#edit", "edited", "hello")
		require.False(t, ann.Has("#edit"))
		require.Equal(t, "/den", ann.URL())
		for _, p := range []*livetest.Page{ann, bob} {
			p.WaitFor("#log .text:contains('hello')")
			require.Equal(t, "edited", p.Text("#log .edited"))
		}
		ann.Click("#log a:contains('Edit')")
		ann.Click("#cancel")
		require.False(t, ann.Has("#edit"))
		ann.Click("#log button:contains('Delete')")
		for _, p := range []*livetest.Page{ann, bob} {
			p.WaitFor("#log .gone:contains('This message was deleted.')")
			require.False(t, p.Has("#log .acts"))
		}
		ann.Visit("/den?edit=" + id)
		require.False(t, ann.Has("#edit"))
	})
}

func TestReactionsAreCounted(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob := livetest.Open(t, c, "/lobby"), livetest.Open(t, c, "/lobby")
		ann.Click("#m-welcome .menu button:contains('🎉')")
		bob.WaitFor("#m-welcome .chip:contains('🎉 1')")
		require.Equal(t, "true", ann.Attr("#m-welcome .chip", "aria-pressed"))
		require.Equal(t, "false", bob.Attr("#m-welcome .chip", "aria-pressed"))
		bob.Click("#m-welcome .chip")
		ann.WaitFor("#m-welcome .chip:contains('🎉 2')")
		ann.Click("#m-welcome .chip")
		bob.WaitFor("#m-welcome .chip:contains('🎉 1')")
		bob.Click("#m-welcome .chip")
		pass(time.Second)
		require.False(t, ann.Has(".chip"))
		ann.Forge("act", "id", "welcome", "do", "react <script>")
		require.Equal(t, "One cannot react with that.", ann.Text("#act-error"))
	})
}

func TestAMessageIsSentAgainAfterALostConnection(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann := livetest.Open(t, c, "/den")
		message := map[string]string{"id": newID(), "text": "are you there?"}
		require.JSONEq(t, `{"ok":true}`, string(ann.Hook("#pending", "send", message)))
		ann.Disconnect()
		ann.Reconnect()
		require.JSONEq(t, `{"ok":true}`, string(ann.Hook("#pending", "send", message)))
		require.Equal(t, []string{"are you there?"}, ann.Texts("#log .text"))
		var answer struct{ Error string }
		require.NoError(t, json.Unmarshal(ann.Hook("#pending", "send", map[string]string{"id": newID()}), &answer))
		require.Equal(t, "Write something first.", answer.Error)
		bob := livetest.Open(t, c, "/den")
		require.NoError(t, json.Unmarshal(bob.Hook("#pending", "send", message), &answer))
		require.Equal(t, "The message has no proper id.", answer.Error, "an id belongs to who used it first")
		require.Equal(t, 1, bob.Count("#log li"))
	})
}

func TestARoomForTwoIsNobodyElses(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob, cid := livetest.Open(t, c, "/lobby"), livetest.Open(t, c, "/lobby"), livetest.Open(t, c, "/lobby")
		call(ann, "Ann")
		call(bob, "Bob")
		ann.WaitFor("#people bdi:contains('Bob')")
		ann.Click("#people a:contains('Bob')")
		require.Equal(t, "Bob", ann.Text(".talk h1 bdi"))
		require.Contains(t, ann.Text("#empty"), "Nobody but you and Bob can read this.")
		private := ann.URL()
		say(ann, "a secret")

		pass(2 * time.Second)
		require.Equal(t, "Ann", bob.Text("#nav a.unread bdi"))
		require.Equal(t, "1 unread", bob.Text("#nav a.unread .badge"))
		bob.Click("#nav a.unread")
		require.Equal(t, private, bob.URL())
		require.Equal(t, "a secret", bob.Text("#log .text"))

		for _, to := range []string{private, "/dm/x", "/dm/@", "/dm/a.b"} {
			cid.Visit(to)
			require.NotContains(t, cid.HTML("body"), "secret", to)
			require.Equal(t, 404, cid.Status(), to)
		}
		cid.Visit(strings.Replace(private, "/dm/", "/@", 1))
		require.True(t, cid.Has("#empty"), "that is a room for all, of another name")
		cid.Visit("/")
		pass(2 * time.Second)
		require.NotContains(t, cid.HTML("body"), "secret")
		require.NotContains(t, cid.HTML("body"), "Bob")
		require.Contains(t, bob.Text("#nav"), "Ann")
	})
}

func TestGoingBackLeadsToTheRoomThatWasLeft(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", 3)
		ann := livetest.Open(t, c, "/den")
		ann.Click("#in-lobby a")
		require.Contains(t, ann.Text("#log"), "Welcome")
		ann.Back()
		require.Equal(t, "/den", ann.URL())
		require.Equal(t, 3, ann.Count("#log li"))
		require.Equal(t, "den", ann.Text(".talk h1 bdi"))
		ann.Forward()
		require.Equal(t, "/lobby", ann.URL())
		require.Contains(t, ann.Text("#log"), "Welcome")
	})
}

func TestUnreadMessagesAreCounted(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		browser := livetest.NewBrowser(t, c)
		ann, bob := browser.Open("/den"), livetest.Open(t, c, "/den")
		require.Equal(t, "den", ann.Title())
		say(bob, "one")
		ann.WaitFor("#log li:contains('one')")
		require.Equal(t, "(1) den", ann.Title(), "nobody looks")
		ann.Hook("#pulse", "looking", flag{true})
		require.Equal(t, "den", ann.Title())
		say(bob, "two")
		pass(3 * time.Second)
		require.Equal(t, "den", ann.Title())
		ann.Hook("#pulse", "looking", flag{})
		say(bob, "three")
		say(bob, "four")
		ann.WaitFor("#log li:contains('four')")
		require.Equal(t, "(2) den", ann.Title())
		home := browser.Open("/")
		require.Equal(t, "2 unread", home.Text("#in-den .badge"))
		require.Contains(t, home.Text("#in-den .last"), ": four")
		other := browser.Open("/lobby")
		require.Equal(t, "2 unread", other.Text("#nav .badge"))
		say(bob, "five")
		pass(2 * time.Second)
		require.Equal(t, "3 unread", home.Text("#in-den .badge"))
		require.Equal(t, "3 unread", other.Text("#nav .badge"))
		require.Contains(t, home.Text("#in-den .last"), ": five")

		again := browser.Open("/den")
		require.Equal(t, "three", again.Text("#log .new .text"), "where one stopped reading")
		again.Hook("#pulse", "looking", flag{true})
		pass(3 * time.Second)
		require.Equal(t, "den", ann.Title(), "what one tab has read, the person has read")
		require.False(t, home.Has("#in-den .badge"))
		require.False(t, bob.Has("#nav .badge"))
		say(ann, "six")
		pass(3 * time.Second)
		require.False(t, home.Has("#in-den .badge"), "who writes has read")
		require.Contains(t, home.Text("#in-den .last"), "You: six")
	})
}

func TestWhatIsReadIsKeptWhenThePageIsLeft(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		browser := livetest.NewBrowser(t, c)
		ann, bob := browser.Open("/den"), livetest.Open(t, c, "/den")
		ann.Hook("#pulse", "looking", flag{true})
		say(bob, "one")
		ann.WaitFor("#log li:contains('one')")
		ann.Close()
		pass(time.Second)
		require.False(t, browser.Open("/").Has("#in-den .badge"))
		say(bob, "two")
		require.Equal(t, "1 unread", browser.Open("/").Text("#in-den .badge"))
	})
}

func TestARenamedPersonKeepsTheNameOfOldMessages(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob := livetest.Open(t, c, "/den"), livetest.Open(t, c, "/den")
		call(ann, "Ann")
		say(ann, "hi")
		pass(10 * time.Second)
		call(ann, "Anna")
		say(ann, "hi")
		bob.WaitFor("#log b:contains('Anna')")
		require.Equal(t, []string{"Ann", "Anna"}, bob.Texts("#log b"))
		require.True(t, bob.Has("#people bdi:contains('Anna')"))
		ann.Submit("#rename", "nickname", "Annabel")
		ann.Submit("#rename", "nickname", "Bel")
		require.Equal(t, "You have just changed your name; wait a few seconds.", ann.Text("#nickname-error"))
	})
}

func TestHostileTextsAndNamesStayText(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		ann, bob := livetest.Open(t, c, "/den"), livetest.Open(t, c, "/den")
		const name, text = `<img src=x>"'`, `</li></ol><script>alert(1)</script><style>*{display:none}</style>{{.}}`
		ann.Submit("#rename", "nickname", name)
		say(ann, text)
		bob.WaitFor("#log li:contains('alert')")
		require.Equal(t, text, bob.Text("#log .text"))
		require.Equal(t, name, bob.Text("#log b"))
		require.Equal(t, []string{name}, bob.Texts("#people a bdi"))
		for _, p := range []*livetest.Page{ann, bob} {
			require.False(t, p.Has("#live img[src=x], #live script, #live style"))
		}
		home := livetest.Open(t, c, "/")
		require.Contains(t, home.Text("#in-den .last"), "</li></ol><script>")
		home.Visit("/den?q=" + url.QueryEscape("<script>"))
		require.Equal(t, 1, home.Count("#found li"))
		require.False(t, home.Has("#live script"))
		home.Visit("/%3Cscript%3E")
		require.Equal(t, "/script", home.URL())
	})
}

func TestMessagesAreFound(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", 120)
		ann := livetest.Open(t, c, "/den")
		say(ann, "where is the Zebra?")
		ann.Fill("#search", "q", "zebra")
		require.Equal(t, "/den?q=zebra", ann.URL())
		require.Equal(t, []string{"where is the Zebra?"}, ann.Texts("#found li .last"))
		ann.Fill("#search", "q", "message 33")
		require.Equal(t, 1, ann.Count("#found li"))
		ann.Click("#found li a")
		require.True(t, ann.Has("#m-f33"))
		require.False(t, ann.Has("#found"))
		ann.Fill("#search", "q", "message")
		require.Equal(t, maxHits, ann.Count("#found li"))
		require.Contains(t, ann.Text("#found .bar"), "The newest 50 messages")
		ann.Fill("#search", "q", "nothing of it")
		require.Contains(t, ann.Text("#found .bar"), "No message says “nothing of it”.")
		ann.Click("#found .bar a")
		require.False(t, ann.Has("#found"))
	})
}

func TestARoomIsThereWhenItIsVisited(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		home := livetest.Open(t, c, "/")
		home.Submit("#enter", "room", "!!")
		require.Equal(t, "A room's name has 1 to 40 letters or digits.", home.Text("#room-error"))
		require.False(t, home.Has("#nickname-error"))
		home.Submit("#enter", "room", "The Garden")
		require.Equal(t, "/the-garden", home.URL())
		require.Contains(t, home.Text("#empty"), "You are the first one here.")
		pass(time.Second)
		other := livetest.Open(t, c, "/")
		require.Equal(t, "Nobody has said anything yet", other.Text("#in-the-garden .last"))
		require.Equal(t, "1 here", other.Text("#in-the-garden .here"))
		require.Equal(t, 200, livetest.Open(t, c, "/somewhere").Status())
		require.Equal(t, 404, livetest.Open(t, c, "/!").Status())
		require.Equal(t, "/cafe-9", livetest.Open(t, c, "/Cafe%209").URL())
		tokyo := livetest.Open(t, c, "/%E6%9D%B1%E4%BA%AC")
		say(tokyo, "こんにちは")
		require.Equal(t, "東京", tokyo.Text(".talk h1 bdi"))
	})
}

func TestAllIsThereAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.Open(nil)
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		first, stop := start(t, store)
		browser := livetest.NewBrowser(t, first)
		ann, bob := livetest.Open(t, first, "/den"), browser.Open("/den")
		call(ann, "Ann")
		say(ann, "one")
		ann.Click("#log button:contains('👍')")
		say(ann, "two")
		bob.Hook("#pulse", "looking", flag{true})
		pass(3 * time.Second)
		bob.Hook("#pulse", "looking", flag{})
		say(ann, "three")
		ann.Click("#log li:last-child button:contains('Delete')")
		pass(time.Second)
		want := bob.Texts("#log .text, #log .chip, #log time")
		ann.Close()
		secret := browser.Cookie(visitorCookie)
		bob.Close()
		stop()

		second, _ := start(t, store)
		again := livetest.NewBrowser(t, second, livetest.WithCookie(visitorCookie, secret))
		page := again.Open("/den")
		require.Equal(t, want, page.Texts("#log .text, #log .chip, #log time"))
		require.Equal(t, "1 unread", again.Open("/").Text("#in-den .badge"))
		require.Equal(t, 1, page.Count("#log .msg.new"))
		require.Equal(t, 1, again.Open("/lobby").Count("#log li"), "one is welcomed once")
	})
}

func TestEverythingWorksWithoutJavaScript(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", 60)
		browser := livetest.NewBrowser(t, c, livetest.WithoutJavaScript())
		ann := browser.Open("/den")
		bob := livetest.Open(t, c, "/den")
		say(ann, "hello\nthere")
		require.Contains(t, ann.HTML("#log li:last-child .text"), "hello\nthere")
		bob.WaitFor("#log li:contains('hello')")
		say(ann, " ")
		require.Equal(t, "Write something first.", ann.Text("#text-error"))
		require.Equal(t, 50, ann.Count("#log li"))
		ann.Visit("/den")
		ann.Click("#log li:last-child .menu button:contains('😂')")
		require.Equal(t, "😂 1", ann.Text("#log li:last-child .chip"))
		ann.Click("#log a:contains('Edit')")
		ann.Submit("#edit", "edited", " ")
		require.Equal(t, "Write something first.", ann.Text("#edit-error"))
		ann.Submit("#edit", "edited", "hello again")
		require.Equal(t, "hello again", ann.Text("#log li:last-child .text"))
		require.False(t, ann.Has("#edit"))
		bob.WaitFor("#log li:contains('hello again')")
		ann.Click("#log li:last-child button:contains('Delete')")
		require.True(t, ann.Has("#log li:last-child .gone"))

		ann.Submit("#rename", "nickname", "")
		require.Equal(t, "A name has 1 to 24 visible characters.", ann.Text("#nickname-error"))
		ann.Submit("#rename", "nickname", "Ann")
		require.Equal(t, "Ann", ann.Text("#me bdi"))
		ann.Click("#older")
		require.Equal(t, "message 1", ann.Text("#log li:first-child .text"))
		require.Equal(t, 11, ann.Count("#log li"))
		ann.Click("#past a:contains('Back')")
		require.Equal(t, 50, ann.Count("#log li"))
		ann.Submit("#search", "q", "message 7")
		require.Equal(t, 1, ann.Count("#found li"))
		ann.Click("#found li a")
		require.True(t, ann.Has("#m-f7"))

		say(bob, "news")
		ann.Visit("/")
		require.Equal(t, "1 unread", ann.Text("#in-den .badge"))
		ann.Click("#in-den a")
		ann.Submit(".scriptless")
		ann.Visit("/")
		require.False(t, ann.Has("#in-den .badge"))
		ann.Submit("#enter", "room", "?")
		require.Equal(t, "A room's name has 1 to 40 letters or digits.", ann.Text("#room-error"))
		ann.Submit("#enter", "room", "Attic")
		require.Equal(t, "/attic", ann.URL())
		say(ann, "dusty here")
		require.Equal(t, 1, ann.Count("#log li"))
	})
}

// What a message costs each who sees it: one frame, of no more than a few hundred bytes beyond its text.
func TestAMessageIsOneSmallFrame(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		fill(t, c, "den", 1000)
		ann, bob := livetest.Open(t, c, "/den"), livetest.Open(t, c, "/den")
		call(ann, "Ann")
		ann.Hook("#pulse", "looking", flag{true})
		bob.Hook("#pulse", "looking", flag{true})
		pass(5 * time.Second)
		bob.Traffic()
		for _, text := range []string{"hello", "hello again"} {
			say(ann, text)
			bob.WaitFor("#log li:last-child:contains('" + text + "')")
			traffic := bob.Traffic()
			require.Equal(t, 1, traffic.Frames)
			require.Less(t, traffic.Bytes, 220+len(text))
			t.Logf("%q: %d bytes", text, traffic.Bytes)
			pass(5 * time.Second)
			require.Zero(t, bob.Traffic().Frames, "nothing comes behind it")
		}
		ann.Click("#log li:last-child .menu button:contains('👍')")
		bob.WaitFor("#log li:last-child .chip")
		t.Logf("a reaction: %d bytes", bob.Traffic().Bytes)
		ann.Hook("#pulse", "typing", flag{true})
		bob.WaitFor("#typing:contains('typing')")
		t.Logf("typing: %d bytes", bob.Traffic().Bytes)
	})
}

// Whatever people do, and whenever pages look, all pages show what one shows that is opened afterwards.
func TestPagesAgreeWhateverHappens(t *testing.T) {
	inChat(t, func(t *testing.T, c *Chat) {
		rng := rand.New(rand.NewPCG(1, 2))
		browsers := []*livetest.Browser{livetest.NewBrowser(t, c), livetest.NewBrowser(t, c)}
		fill(t, c, "den", 60)
		pages := []*livetest.Page{browsers[0].Open("/den"), browsers[1].Open("/den"), browsers[1].Open("/den")}
		some := func(p *livetest.Page, selector string) (string, bool) {
			n := p.Count(selector)
			if n == 0 {
				return "", false
			}
			ids := p.Count("#log li")
			for range 100 {
				one := fmt.Sprintf("#log li:nth-child(%d) %s", 1+rng.IntN(ids), selector)
				if p.Count(one) == 1 {
					return one, true
				}
			}
			return "", false
		}
		for step := range 100 {
			p := pages[rng.IntN(len(pages))]
			switch rng.IntN(8) {
			case 0, 1, 2:
				say(p, fmt.Sprint("step ", step))
			case 3:
				if edit, ok := some(p, "a:contains('Edit')"); ok {
					p.Click(edit)
					p.Submit("#edit", "edited", fmt.Sprint("edited at ", step))
				}
			case 4:
				if del, ok := some(p, "button:contains('Delete')"); ok {
					p.Click(del)
				}
			case 5:
				if react, ok := some(p, ".menu button:contains('"+room.Reactions[rng.IntN(len(room.Reactions))]+"')"); ok {
					p.Click(react)
				}
			case 6:
				if p.Has("#older") {
					p.Click("#older")
				}
			case 7:
				p.Reconnect()
			}
			pass(time.Duration(rng.IntN(1500)) * time.Millisecond)
		}
		pass(5 * time.Second)
		const shown = "#log .text, #log .chip, #log .edited"
		for i, p := range pages {
			fresh := browsers[min(i, 1)].Open("/den")
			for _, q := range []*livetest.Page{p, fresh} {
				for q.Has("#older") {
					q.Click("#older")
				}
			}
			require.Equal(t, fresh.Texts(shown), p.Texts(shown), "page %d", i)
			require.Greater(t, len(p.Texts("#log li")), 60)
		}
	})
}
