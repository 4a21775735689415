package livetest_test

import (
	"html/template"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/livetest"
	"github.com/levada-go/levada/pubsub"
)

// Chat is the state of a page on which people talk.
type Chat struct {
	live.Page
	Said []string
}

type say struct{ Text string }

func (s *say) Validate() error {
	if s.Text == "" {
		return live.Errors{"text": "say something"}
	}
	return nil
}

// newChat returns a site with one room, which is told of what was said.
func newChat(t *testing.T) http.Handler {
	site, err := live.NewSite(nil)
	require.NoError(t, err)
	bus, topic := pubsub.Local(), pubsub.Topic[string]{Name: "lobby"}
	var mu sync.Mutex
	var history []string
	said := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(history)
	}
	view := &live.View[Chat]{
		Template: template.Must(template.New("chat").Parse(`
<ul id="said">{{range .Said}}<li>{{.}}</li>{{end}}</ul>
<form id="post" method="post" live-submit="say">
<input name="text"> <span id="error">{{.Error "text"}}</span> <button name="_event" value="say">Say</button>
</form>`)),
		Mount: func(ctx *live.Ctx, s *Chat) error {
			if ctx.Connected() {
				news, err := topic.Subscribe(ctx, bus, nil)
				if err != nil {
					return err
				}
				live.Receive(ctx, news.C, func([]string) { s.Said = said() })
			}
			s.Said = said()
			return nil
		},
	}
	live.On(view, "say", func(ctx *live.Ctx, s *Chat, in say) error {
		mu.Lock()
		history = append(history, in.Text)
		mu.Unlock()
		return topic.Publish(ctx, bus, in.Text)
	})
	live.Handle(site, "/rooms/lobby", view)
	return site
}

func TestTwoPeopleTalk(t *testing.T) {
	t.Parallel()
	site := newChat(t)
	ann := livetest.Open(t, site, "/rooms/lobby")
	bob := livetest.Open(t, site, "/rooms/lobby")

	ann.Submit("#post", "text", "hello")
	bob.WaitFor("#said li:contains(hello)")

	bob.Submit("#post")
	require.Equal(t, "say something", bob.Text("#error"))

	bob.Disconnect()
	ann.Submit("#post", "text", "are you there?")
	bob.Reconnect()
	require.Equal(t, []string{"hello", "are you there?"}, bob.Texts("#said li"))
}

func TestTheChatNeedsNoJavaScript(t *testing.T) {
	t.Parallel()
	ann := livetest.Open(t, newChat(t), "/rooms/lobby", livetest.WithoutJavaScript())
	ann.Submit("#post", "text", "hello")
	require.Equal(t, []string{"hello"}, ann.Texts("#said li"))
}
