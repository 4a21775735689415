package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/chat/room"
)

// Who takes what has changed since the last look, however long ago, has what the room has.
func TestWhatChangedSinceIsAllThatChanged(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var m Model
		var copied []message
		seen := uint64(0)
		for i := range rapid.IntRange(1, 3*keptChanges).Draw(t, "changes") {
			if n := len(copied); n == 0 || i%3 > 0 {
				m.posted("den", room.Posted{ID: fmt.Sprint("m", i), By: "ann", Text: fmt.Sprint(i)}, "")
			} else {
				id := copied[rapid.IntRange(0, n-1).Draw(t, "message")].id
				m.change("den", id, func(msg *message) { msg.text, msg.edited = fmt.Sprint(i), true })
			}
			talk := m.rooms["den"]
			if rapid.IntRange(0, 99).Draw(t, "look") > 0 && len(copied) > 0 {
				continue
			}
			changed, ok := talk.since(seen)
			if !ok {
				require.Greater(t, talk.changes-seen, uint64(keptChanges))
				copied = slices.Clone(talk.messages)
			}
			for _, i := range changed {
				if i == len(copied) {
					copied = append(copied, talk.messages[i])
				} else {
					copied[i] = talk.messages[i]
				}
			}
			seen = talk.changes
			require.Equal(t, talk.messages, copied)
		}
	})
}

func TestAnIDThatIsThereAlreadyIsNoSecondMessage(t *testing.T) {
	t.Parallel()
	var m Model
	m.posted("den", room.Posted{ID: "x", By: "ann", Text: "first"}, "")
	m.posted("den", room.Posted{ID: "x", By: "bob", Text: "second"}, "")
	require.Len(t, m.rooms["den"].messages, 1)
	require.Equal(t, "first", m.rooms["den"].messages[0].text)
}

// A room of 10,000 messages opens as quickly as one of 100, since a page shows 50 of either.
func TestALongTalkOpensAsQuicklyAsAShortOne(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	c, _ := start(t, store)
	fill(t, c, "short", 100)
	fill(t, c, "long", 10_000)
	quickest := func(path string) time.Duration {
		var took []time.Duration
		for range 20 {
			w := httptest.NewRecorder()
			began := time.Now()
			c.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			took = append(took, time.Since(began))
			require.Equal(t, pageSize, strings.Count(w.Body.String(), `<li id="m-`))
		}
		return slices.Min(took)
	}
	short, long := quickest("/short"), quickest("/long")
	t.Logf("%v and %v", short, long)
	require.Less(t, long, 3*short)
}

// BenchmarkStart measures how long a chat takes to be ready on 100,000 messages, and BenchmarkSearch how long it looks
// for a text that none of 10,000 messages has.
func BenchmarkStart(b *testing.B) {
	store := memstore.Open(nil)
	defer store.Close()
	c, stop := start(b, store)
	fill(b, c, "den", 100_000)
	stop()
	for b.Loop() {
		_, stop := start(b, store)
		stop()
	}
}

func BenchmarkSearch(b *testing.B) {
	store := memstore.Open(nil)
	defer store.Close()
	c, _ := start(b, store)
	fill(b, c, "den", 10_000)
	for b.Loop() {
		c.model.View(func(m *Model, _ eventstore.Position) { m.rooms["den"].search("nobody says that", maxHits) })
	}
}
