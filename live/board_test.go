package live_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live"
	"github.com/levada-go/levada/live/livetest"
)

type desk struct{ wire chan Item }

func (d desk) Latest(topic string) []Item { return []Item{{1, topic + " at peace"}, {2, "rain"}} }

func (d desk) Follow(context.Context) <-chan Item { return d.wire }

func (d desk) Weather(ctx context.Context) (string, error) {
	time.Sleep(time.Second)
	return "sunny", nil
}

// The board of the documentation does what is said of it.
func TestTheBoardShowsNewsAsTheyCome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := desk{make(chan Item)}
		site, err := live.NewSite(nil)
		require.NoError(t, err)
		live.Handle(site, "/", boardView(d))
		live.Handle(site, "/ticket", newCounter())

		page := livetest.Open(t, site, "/")
		require.Equal(t, "News: world", page.Title())
		require.True(t, page.Has("#news #item-1 + #item-2"))
		d.wire <- Item{3, "snow"}
		page.WaitFor("#news li:first-child:contains(snow)")
		page.Click("#item-1 button")
		require.Equal(t, 2, page.Count("#news li"))
		page.WaitFor("#weather:contains(sunny)")
		require.Len(t, page.Pushed("weather"), 1)
		page.Click("nav a:first-child")
		require.Equal(t, "News: sport", page.Title())
		require.Equal(t, "/?topic=sport", page.URL())
		require.Equal(t, 2, page.Count("#news li"))
		page.Click("nav a:last-child")
		require.Equal(t, "/ticket", page.URL())
	})
}
