package web

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/quotes/quote"
	"github.com/levada-go/levada/examples/quotes/shelf"
	"github.com/levada-go/levada/live/livetest"
)

// A world is a site with the first quotes, and everything that it needs.
type world struct {
	*Site
	t     *testing.T
	store *eventstore.Store
	stop  func()
}

func newWorld(t *testing.T, store *eventstore.Store) *world {
	log := slog.New(slog.DiscardHandler)
	s, err := shelf.Open(store, log)
	require.NoError(t, err)
	site, err := New(s, &Options{Logger: log})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	require.NoError(t, s.Ready(ctx))
	require.NoError(t, s.Seed(ctx))
	return &world{site, t, store, func() {
		closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.NoError(t, site.Shutdown(closing))
		stop()
		require.NoError(t, <-over)
		require.NoError(t, store.Close())
	}}
}

// inBubble runs a test on a world in memory, in which time passes at once.
func inBubble(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, memstore.Open(nil))
		defer w.stop()
		fn(t, w)
	})
}

func (w *world) like(id string) {
	_, err := w.shelf.Dispatch(context.Background(), quote.Like{ID: id})
	require.NoError(w.t, err)
}

const likes = "#like-shown .count"

func TestAllTabsShowTheFavouriteInStep(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ann, bob := livetest.Open(t, w, "/"), livetest.Open(t, w, "/")
		defer ann.Close()
		defer bob.Close()
		require.Contains(t, ann.Text("#shown-content"), "thousand miles")
		require.Equal(t, "5", ann.Text(likes))

		ann.Submit("#like-shown")
		require.Equal(t, "6", ann.Text(likes), "an acknowledged like is shown")
		bob.WaitFor(likes + `:contains("6")`)
		require.Equal(t, "6", bob.Text("#like-steps .count"), "in the collection too")
		require.Contains(t, bob.Text(".asof"), "version 7")
		require.NotEmpty(t, bob.Pushed("changed"))

		bob.Submit("#another")
		require.NotContains(t, bob.Text("#shown-content"), "thousand miles")
		ann.WaitUntil(func() bool { return ann.Text("#shown-content") == bob.Text("#shown-content") })

		w.like("steps")
		ann.WaitFor("#like-steps .count:contains(\"7\")")
	})
}

func TestTheURLSaysWhichQuoteIsShownAndWhatBelongsToItFollows(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := livetest.Open(t, w, "/")
		defer p.Close()
		require.Equal(t, 2, p.Count(".remarks li"))
		p.Click("#row-shakespeare-brevity a")
		require.Equal(t, "/?id=shakespeare-brevity", p.URL())
		require.Equal(t, "Brevity is the soul of wit.", p.Text("#shown-content"))
		require.Equal(t, []string{"Says Polonius, who goes on and on."}, p.Texts(".remarks li p:first-child"))

		other := livetest.Open(t, w, "/?id=shakespeare-brevity")
		defer other.Close()
		other.Submit("#say", "text", "Ironic.")
		require.Equal(t, "Ironic.", other.Texts(".remarks li p:first-child")[0])
		p.WaitFor(".remarks li:contains(\"Ironic\")")
		require.Contains(t, p.Text(".asof"), "1 more person looks at it")

		w.like("steps")
		p.Submit("#like-shown")
		require.Equal(t, "2", p.Text(likes))
		p.Submit("#favour")
		require.Equal(t, "/", p.URL())
		require.Equal(t, "Brevity is the soul of wit.", p.Text("#shown-content"))
		p.Back()
		require.Equal(t, "/?id=shakespeare-brevity", p.URL())
	})
}

func TestTheCollectionIsLive(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ann, bob := livetest.Open(t, w, "/"), livetest.Open(t, w, "/")
		defer ann.Close()
		defer bob.Close()
		ann.Fill("#add", "content", "ab")
		require.Contains(t, ann.Text("#content-error"), "too short")
		ann.Submit("#add", "content", "Well begun is half done.", "author", "Proverb")
		require.Equal(t, 11, ann.Count("#rows li"))
		bob.WaitFor("#rows li:contains(\"Well begun\")")
		require.Contains(t, bob.Text("#rows li:first-child"), "Well begun", "the newest is on top")

		bob.Submit("#rows li:first-child form[id^=like]")
		ann.WaitFor("#rows li:first-child .count:contains(\"1\")")
		before := ann.Traffic()
		bob.Submit("#rows li:first-child form[id^=remove]")
		ann.WaitUntil(func() bool { return ann.Count("#rows li") == 10 })
		require.False(t, bob.Has("#rows li:contains(\"Well begun\")"))
		require.NotEqual(t, before, ann.Traffic())
	})
}

func TestWhatIsRemovedIsGoneFromThePagesThatShowIt(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := livetest.Open(t, w, "/")
		defer p.Close()
		p.Submit("#remove-steps")
		require.True(t, p.Has("#another-gone"))
		require.False(t, p.Has("#shown-content"))
		p.Submit("#another-gone")
		require.True(t, p.Has("#shown-content"))
	})
}

func TestTheHistoryShowsTheQuoteAtAnyVersion(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		_, err := w.shelf.Dispatch(t.Context(), quote.Reword{ID: "steps", Author: "Laozi", Content: "A journey of a thousand li begins with one step."})
		require.NoError(t, err)
		p := livetest.Open(t, w, "/")
		defer p.Close()
		require.Equal(t, "7", p.Value("#scrub"))
		p.Fill("#scrubber", "v", "6")
		require.Contains(t, p.Text("#shown-content"), "thousand miles")
		require.Equal(t, "/?id=steps&v=6", p.URL())
		require.Contains(t, p.Text("#then"), "liked")
		p.Fill("#scrubber", "v", "1")
		require.Contains(t, p.Text("#then"), "added")
		require.Equal(t, "5", p.Text(likes), "the likes are those of now")
		p.Reload()
		require.Contains(t, p.Text("#then"), "added")
		p.Fill("#scrubber", "v", "7")
		require.Contains(t, p.Text("#shown-content"), "thousand li")
		require.Equal(t, "now", p.Text("#then"))
	})
}

func TestALikeFromTheOutboxCountsOnceHoweverOftenItIsSent(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := livetest.Open(t, w, "/")
		defer p.Close()
		send := func(id string) (a answer) {
			require.NoError(t, json.Unmarshal(p.Hook("#outbox", "like", map[string]string{"id": id, "key": "k1"}), &a))
			return a
		}
		require.True(t, send("steps").OK)
		require.Equal(t, "6", p.Text(likes))
		p.Disconnect()
		w.like("steps")
		p.Reconnect()
		require.Equal(t, "7", p.Text(likes))
		require.True(t, send("steps").OK)
		require.Equal(t, "7", p.Text(likes))
		require.Contains(t, send("nothing").Refused, "no longer there")
	})
}

func TestReadersSeeEachOther(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b := livetest.NewBrowser(t, w)
		ann, again := b.Open("/"), b.Open("/")
		require.Equal(t, 1, ann.Count(".people li"), "two tabs are one reader")
		bob := livetest.Open(t, w, "/admin")
		ann.WaitUntil(func() bool { return ann.Count(".people li") == 2 })
		bob.Close()
		time.Sleep(3 * time.Second)
		ann.WaitUntil(func() bool { return ann.Count(".people li") == 1 })
		again.Close()
		ann.Close()
	})
}

func TestAFormKeepsWhatIsBegunAndShowsWhatOthersDid(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		ann, bob := livetest.Open(t, w, "/admin"), livetest.Open(t, w, "/admin")
		defer ann.Close()
		defer bob.Close()
		ann.Fill("#edit-hands", "content", "Many hands make the work light.")
		require.Contains(t, ann.Text("#edit-hands .tag"), "not saved")
		w.like("hands")
		ann.WaitFor("#edit-hands .likes:contains(\"1\")")
		require.Equal(t, "Many hands make the work light.", ann.Value("#content-hands"))

		bob.Fill("#edit-hands", "content", "")
		require.Contains(t, bob.Text("#wrong-content-hands"), "missing")
		require.False(t, bob.Has("#wrong-content-tree"), "errors stand in the form that they are of")
		bob.Fill("#edit-hands", "content", "Many hands, light work.")
		bob.Submit("#edit-hands")
		require.False(t, bob.Has("#edit-hands .tag"))

		ann.WaitFor("#edit-hands .theirs")
		require.Contains(t, ann.Text("#edit-hands .theirs"), "Many hands, light work.")
		require.Equal(t, "Many hands make the work light.", ann.Value("#content-hands"))
		ann.Click("#edit-hands button[value=mine]")
		require.False(t, ann.Has("#edit-hands .theirs"))
		bob.WaitUntil(func() bool { return bob.Value("#content-hands") == "Many hands make the work light." })
	})
}

func TestALikeMeanwhileDoesNotStandInTheWayOfAnEdit(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		p := livetest.Open(t, w, "/admin")
		defer p.Close()
		p.Fill("#edit-tree", "author", "Lucy Larcom")
		w.like("tree")
		p.Submit("#edit-tree")
		require.False(t, p.Has("#edit-tree .tag"))
		require.Equal(t, "Lucy Larcom", p.Value("#author-tree"))
		p.Fill("#edit-tree", "author", "Somebody else")
		p.Click("#edit-tree button[value=theirs]")
		require.False(t, p.Has("#edit-tree .tag"))
		p.Reload()
		require.Equal(t, "Lucy Larcom", p.Value("#author-tree"))
		p.Click("#edit-tree button[value=remove]")
		require.False(t, p.Has("#edit-tree"))
	})
}

func TestItWorksWithoutJavaScript(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		b := livetest.NewBrowser(t, w, livetest.WithoutJavaScript())
		p := b.Open("/")
		require.Equal(t, 10, p.Count("#rows li"))
		p.Click("#like-shown button")
		require.Equal(t, "6", p.Text(likes))
		p.Submit("#say", "text", "Without a script.")
		require.True(t, p.Has(".remarks li:contains(\"Without\")"))
		p.Submit("#add", "content", "x", "author", "y")
		require.Contains(t, p.Text("#content-error"), "too short")
		require.Equal(t, "x", p.Value("#add-content"))
		p.Visit("/?id=steps&v=1")
		require.Contains(t, p.Text("#then"), "added")

		stale := b.Open("/admin")
		p.Visit("/admin")
		p.Submit("#edit-hands", "content", "Many hands!")
		require.Equal(t, "Many hands!", p.Value("#content-hands"))
		stale.Submit("#edit-hands", "content", "Hands!")
		require.Contains(t, stale.Text("#edit-hands .theirs"), "Many hands!")
		stale.Click("#edit-hands button[value=mine]")
		require.Equal(t, "Hands!", stale.Value("#content-hands"))
	})
}

func TestARestartOnTheSameFileKeepsAll(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "quotes.db")
	open := func() *world {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(t, err)
		return newWorld(t, store)
	}
	w := open()
	p := livetest.Open(t, w, "/")
	p.Submit("#like-shown")
	p.Submit("#say", "text", "Still here?")
	p.Submit("#add", "content", "Better late than never.", "author", "Proverb")
	p.Submit("#remove-hands")
	p.Submit("#another")
	chosen, rows := p.Text("#shown-content"), p.Texts("#rows li q")
	p.Close()
	w.stop()

	w = open()
	p = livetest.Open(t, w, "/")
	require.Equal(t, chosen, p.Text("#shown-content"))
	require.Equal(t, rows, p.Texts("#rows li q"))
	require.Equal(t, "6", p.Text("#like-steps .count"))
	p.Visit("/?id=steps")
	require.True(t, p.Has(".remarks li:contains(\"Still\")"))
	p.Close()
	w.stop()
}

func TestNamesSayNothingOfTheSession(t *testing.T) {
	t.Parallel()
	require.Equal(t, nameOf("a"), nameOf("a"))
	require.Len(t, strings.Fields(nameOf("secret")), 2)
}

func TestManyQuotesAreShownAFewAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		const many = 10_000
		for i := range many {
			_, err := w.shelf.Dispatch(t.Context(), quote.Add{ID: fmt.Sprint("q", i), Content: fmt.Sprintf("Number %d.", i)})
			require.NoError(t, err)
		}
		require.NoError(t, w.shelf.Ready(t.Context()))
		require.Greater(t, w.shelf.Count(), many)

		ann := livetest.Open(t, w, "/")
		ann.WaitFor("#rows li:first-child:contains(\"Number 9999.\")")
		require.Equal(t, maxRows, ann.Count("#rows li"))
		require.True(t, ann.Has(".more a[href='/admin?page=2']"))
		_, err := w.shelf.Dispatch(t.Context(), quote.Add{ID: "newest", Content: "The newest."})
		require.NoError(t, err)
		ann.WaitFor("#rows li:first-child:contains(\"newest\")")
		require.Equal(t, maxRows, ann.Count("#rows li"))

		bob := livetest.Open(t, w, "/admin?page=2")
		require.Equal(t, pageSize, bob.Count("form.edit"))
		bob.Click(".pages a:contains(\"Older\")")
		require.Contains(t, bob.Text(".pages"), "Page 3 of 334")
		bob = livetest.Open(t, w, "/admin?page=334")
		require.Equal(t, (many+1+10)%pageSize, bob.Count("form.edit"))
		require.False(t, bob.Has(".pages a:contains(\"Older\")"))
		bob = livetest.Open(t, w, "/admin?page=999")
		require.Zero(t, bob.Count("form.edit"))
		require.True(t, bob.Has(".none"))
		bob.Click(".pages a:contains(\"Newer\")")
		require.Contains(t, bob.Text(".pages"), "Page 334 of 334")
	})
}
