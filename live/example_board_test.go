package live_test

import (
	"context"
	"fmt"
	"html/template"
	"time"

	"github.com/levada-go/levada/live"
)

// Board is the state of a page that shows the news of a topic as they come.
type Board struct {
	live.Page
	Topic   string
	News    *live.Stream[Item]
	Weather string
	Now     time.Time
}

// Item is a row of the page.
type Item struct {
	ID   int
	Text string
}

// Key is the id of the element that shows the item.
func (i Item) Key() string { return fmt.Sprintf("item-%d", i.ID) }

var board = template.Must(template.New("board").Parse(`
<h1>{{.Topic}} <time>{{.Now.Format "15:04"}}</time></h1>
<nav><a href="?topic=sport" live-patch>Sport</a> <a href="/ticket" live-navigate>Buy</a></nav>
<p id="weather" live-hook="Weather">{{.Weather}}</p>
<ul id="news" live-update="stream">{{range .News.Items}}<li id="{{.Key}}">{{.Text}}
<button live-click="hide" live-value-key="{{.Key}}">×</button></li>{{end}}</ul>
`))

// A newsroom has what pages show.
type newsroom interface {
	Latest(topic string) []Item
	Follow(ctx context.Context) <-chan Item
	Weather(ctx context.Context) (string, error)
}

func boardView(room newsroom) *live.View[Board] {
	v := &live.View[Board]{Template: board}
	v.Mount = func(ctx *live.Ctx, s *Board) error {
		s.News, s.Now = live.NewStream(ctx, Item.Key), time.Now()
		s.News.Limit(100)
		// These do nothing over HTTP, and end with the page.
		live.Receive(ctx, room.Follow(ctx), func(i Item) { s.News.Prepend(i) })
		ctx.Every(time.Minute, func() { s.Now = time.Now() })
		live.Async(ctx, "weather", room.Weather, func(weather string, err error) {
			if err != nil {
				weather = "unknown"
			}
			s.Weather = weather
			ctx.Push("weather", weather, live.Latest("weather"))
		})
		return nil
	}
	v.Params = func(ctx *live.Ctx, s *Board) error {
		topic := ctx.URL().Query().Get("topic")
		if topic == "" {
			topic = "world"
		}
		s.Topic = topic
		ctx.Title("News: " + topic)
		s.News.Reset()
		s.News.Append(room.Latest(topic)...)
		return nil
	}
	live.On(v, "hide", func(ctx *live.Ctx, s *Board, in struct{ Key string }) error {
		s.News.Delete(in.Key)
		return nil
	})
	return v
}
