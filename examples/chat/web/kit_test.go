package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/chat/room"
	"github.com/levada-go/levada/live/livetest"
)

// start runs a chat on a store until the returned func is called, or the test ends.
func start(t testing.TB, store *eventstore.Store) (*Chat, func()) {
	t.Helper()
	c, err := Open(t.Context(), store, &Options{Logger: slog.New(slog.NewTextHandler(logged{t}, nil))})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = c.Run(ctx) })
	stop := sync.OnceFunc(func() {
		late, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		require.NoError(t, c.Shutdown(late))
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	require.NoError(t, c.Ready(t.Context()))
	return c, stop
}

// logged fails the test when the chat has something to complain about.
type logged struct{ t testing.TB }

func (l logged) Write(b []byte) (int, error) {
	if s := string(b); strings.Contains(s, "level=WARN") || strings.Contains(s, "level=ERROR") {
		l.t.Errorf("the chat logged %s", s)
	}
	return len(b), nil
}

var _ io.Writer = logged{}

// inChat runs a test in a bubble in which time passes when nothing else happens.
func inChat(t *testing.T, fn func(t *testing.T, c *Chat)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memstore.Open(&memstore.Options{Store: eventstore.Options{Verify: true}})
		t.Cleanup(func() { require.NoError(t, store.Close()) })
		c, _ := start(t, store)
		fn(t, c)
	})
}

// pass lets time pass, and what is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// say posts a message by its form.
func say(p *livetest.Page, text string) { p.Submit("#composer", "text", text) }

// call gives the person of a page a name.
func call(p *livetest.Page, name string) {
	p.Submit("#rename", "nickname", name)
	p.WaitFor("#me bdi:contains('" + name + "')")
}

// fill puts n messages into a room, as if many people had written them.
func fill(t testing.TB, c *Chat, id string, n int) {
	t.Helper()
	at := time.Now().UTC().Truncate(time.Millisecond)
	const size = 500
	for from := 1; from <= n; from += size {
		var events []eventstore.Event
		for i := from; i < min(from+size, n+1); i++ {
			who := fmt.Sprintf("person%d", i%7)
			events = append(events, eventstore.Event{Data: room.Posted{ID: fmt.Sprintf("f%d", i), By: who, Name: who, Text: fmt.Sprintf("message %d", i), At: at}})
		}
		_, err := c.store.Append(t.Context(), eventstore.Stream(room.Type.Name, id), eventstore.Any, events...)
		require.NoError(t, err)
	}
	require.NoError(t, c.Ready(t.Context()))
}
