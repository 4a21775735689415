package room_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/examples/chat/room"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func post(id, by, text string) room.Post {
	return room.Post{Room: "lobby", ID: id, By: by, Name: by, Text: text, At: noon}
}

func posted(id, by, text string) room.Posted {
	return room.Posted{ID: id, By: by, Name: by, Text: text, At: noon}
}

func TestARoomIsOpenedByItsFirstMessage(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, room.Type).
		When(post("1", "ann", "hi")).Then(room.Opened{}, posted("1", "ann", "hi")).
		When(post("2", "bob", "hello")).Then(posted("2", "bob", "hello")).
		When(room.Open{Room: "lobby", By: "ann"}).ThenNothing()
}

func TestARoomIsOpenedOnceWithAWelcome(t *testing.T) {
	t.Parallel()
	open := room.Open{Room: "lobby", By: "host", Name: "host", Welcome: "hi", At: noon}
	aggregatetest.Given(t, room.Type).
		When(open).Then(room.Opened{}, posted("welcome", "host", "hi")).
		When(open).ThenNothing()
	aggregatetest.Given(t, room.Type).When(room.Open{Room: "x"}).Then(room.Opened{})
	aggregatetest.Given(t, room.Type).When(room.Open{Room: "X"}).ThenError(room.ErrNoRoom)
}

func TestAMessageThatIsSentAgainIsThereOnce(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, room.Type, room.Opened{}, posted("1", "ann", "hi")).
		When(post("1", "ann", "hi")).ThenNothing().
		When(post("1", "bob", "hi")).ThenError(room.ErrBadID)
}

func TestWhatCannotBePosted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*room.Post)
		want   error
	}{
		"nothing":              {func(p *room.Post) { p.Text = " \n\t\u200b\n" }, room.ErrEmpty},
		"too much":             {func(p *room.Post) { p.Text = strings.Repeat("ü", room.MaxText+1) }, room.ErrTooLong},
		"very much":            {func(p *room.Post) { p.Text = strings.Repeat(" ", 1<<20) }, room.ErrTooLong},
		"too many lines":       {func(p *room.Post) { p.Text = strings.Repeat("a\n", room.MaxLines) + "a" }, room.ErrLines},
		"control characters":   {func(p *room.Post) { p.Text = "a\x1b[31m" }, room.ErrNotText},
		"bytes":                {func(p *room.Post) { p.Text = "\xff" }, room.ErrNotText},
		"without an id":        {func(p *room.Post) { p.ID = "" }, room.ErrBadID},
		"with an id of markup": {func(p *room.Post) { p.ID = `"><b>` }, room.ErrBadID},
		"with a long id":       {func(p *room.Post) { p.ID = strings.Repeat("a", 41) }, room.ErrBadID},
		"by nobody":            {func(p *room.Post) { p.By = "" }, room.ErrNoPerson},
		"without a name":       {func(p *room.Post) { p.Name = "" }, room.ErrNoPerson},
		"nowhere":              {func(p *room.Post) { p.Room = "a b" }, room.ErrNoRoom},
		"in a room of others":  {func(p *room.Post) { p.Room = "@bob.cid" }, room.ErrNotMember},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := post("1", "ann", "hi")
			c.change(&p)
			aggregatetest.Given(t, room.Type).When(p).ThenError(c.want)
		})
	}
	full := strings.Repeat("ü", room.MaxText)
	aggregatetest.Given(t, room.Type, room.Opened{}).When(post("1", "ann", full)).Then(posted("1", "ann", full))
}

func TestTextsKeepTheirLines(t *testing.T) {
	t.Parallel()
	aggregatetest.Given(t, room.Type, room.Opened{}).
		When(post("1", "ann", "\r\n  a\r\n\r\n\tb \r\n\n")).Then(posted("1", "ann", "  a\n\n\tb"))
}

func TestOnlyTheAuthorChangesAMessage(t *testing.T) {
	t.Parallel()
	edit := func(id, by, text string) room.Edit {
		return room.Edit{Room: "lobby", ID: id, By: by, Text: text, At: noon}
	}
	del := func(id, by string) room.Delete { return room.Delete{Room: "lobby", ID: id, By: by, At: noon} }
	aggregatetest.Given(t, room.Type, room.Opened{}, posted("1", "ann", "hi")).
		When(edit("1", "bob", "ho")).ThenError(room.ErrNotYours).
		When(edit("2", "ann", "ho")).ThenError(room.ErrNoMessage).
		When(edit("1", "ann", " ")).ThenError(room.ErrEmpty).
		When(edit("1", "ann", "hi")).ThenNothing().
		When(edit("1", "ann", "ho")).Then(room.Edited{ID: "1", By: "ann", Text: "ho", At: noon}).
		When(del("1", "bob")).ThenError(room.ErrNotYours).
		When(del("1", "ann")).Then(room.Deleted{ID: "1", By: "ann", At: noon}).
		When(del("1", "ann")).ThenNothing().
		When(edit("1", "ann", "hu")).ThenError(room.ErrDeleted).
		When(post("1", "ann", "hi")).ThenNothing()
}

func TestReactionsComeAndGo(t *testing.T) {
	t.Parallel()
	react := func(by, emoji string) room.React {
		return room.React{Room: "lobby", ID: "1", By: by, Emoji: emoji, At: noon}
	}
	aggregatetest.Given(t, room.Type, room.Opened{}, posted("1", "ann", "hi")).
		When(react("bob", "👍")).Then(room.Reacted{ID: "1", By: "bob", Emoji: "👍", At: noon}).
		When(react("ann", "👍")).Then(room.Reacted{ID: "1", By: "ann", Emoji: "👍", At: noon}).
		When(react("bob", "🎉")).Then(room.Reacted{ID: "1", By: "bob", Emoji: "🎉", At: noon}).
		When(react("bob", "👍")).Then(room.Unreacted{ID: "1", By: "bob", Emoji: "👍", At: noon}).
		When(react("bob", "🎉")).Then(room.Unreacted{ID: "1", By: "bob", Emoji: "🎉", At: noon}).
		When(react("bob", "<b>")).ThenError(room.ErrNoReaction).
		When(room.Delete{Room: "lobby", ID: "1", By: "ann", At: noon}).Then(room.Deleted{ID: "1", By: "ann", At: noon}).
		When(react("bob", "👍")).ThenError(room.ErrDeleted)
}

func TestARoomForTwoIsForTwo(t *testing.T) {
	t.Parallel()
	id := room.Direct("bob", "ann")
	require.Equal(t, "@ann.bob", id)
	p := room.Post{Room: id, ID: "1", By: "bob", Name: "bob", Text: "psst", At: noon}
	s := aggregatetest.Given(t, room.Type).
		When(p).Then(room.Opened{}, room.Posted{ID: "1", By: "bob", Name: "bob", Text: "psst", At: noon})
	for _, c := range []aggregate.Command[room.Room]{
		room.Open{Room: id, By: "cid"},
		room.Post{Room: id, ID: "2", By: "cid", Name: "cid", Text: "me too", At: noon},
		room.Edit{Room: id, ID: "1", By: "cid", Text: "x", At: noon},
		room.Delete{Room: id, ID: "1", By: "cid", At: noon},
		room.React{Room: id, ID: "1", By: "cid", Emoji: "👍", At: noon},
	} {
		s.When(c).ThenError(room.ErrNotMember)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"lobby": "lobby", "  The Red  Room! ": "the-red-room", "Café №9": "café-9", "../../etc": "etc", "日本": "日本",
	} {
		got, ok := room.Slug(name)
		require.True(t, ok, name)
		require.Equal(t, want, got)
		require.True(t, room.Valid(got))
	}
	for _, name := range []string{"", " ", "!!", strings.Repeat("a", 41), strings.Repeat(" ", 1<<20), "\xff"} {
		_, ok := room.Slug(name)
		require.False(t, ok, "%.50q", name)
	}
	for _, id := range []string{"Lobby", "a b", "-a", "@", "@a", "@a.", "@b.a", "@a.b.c", "@a.b-c", "@A.b"} {
		require.False(t, room.Valid(id), id)
	}
	require.True(t, room.Valid("@a.b"))
	require.True(t, room.Valid("@a.a"))
	rapid.Check(t, func(t *rapid.T) {
		s, ok := room.Slug(rapid.String().Draw(t, "name"))
		if ok {
			require.True(t, room.Valid(s), "%q", s)
		}
	})
}

// execute runs a command as a repository would.
func execute(t require.TestingT, state *room.Room, c aggregate.Command[room.Room]) ([]room.Event, error) {
	events, err := c.Execute(*state)
	if err != nil {
		require.Empty(t, events)
	}
	*state = aggregate.Fold(*state, events...)
	return events, err
}

// In whatever rhythm people write, nobody gets more than Burst messages and one more every Interval into
// any span of time, and who waits as long as told is heard.
func TestNobodyIsFasterThanAllowed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var state room.Room
		now := noon
		taken := map[string][]time.Time{}
		for i := range rapid.IntRange(1, 80).Draw(t, "messages") {
			now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "pause")) * time.Millisecond)
			by := rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "by")
			c := post(fmt.Sprint(i), by, "x")
			c.At = now
			_, err := execute(t, &state, c)
			if err == nil {
				taken[by] = append(taken[by], now)
				continue
			}
			var fast *room.TooFastError
			require.ErrorAs(t, err, &fast)
			require.Positive(t, fast.Wait)
			require.LessOrEqual(t, fast.Wait, room.Interval)
			c.At = now.Add(fast.Wait)
			events, err := c.Execute(state)
			require.NoError(t, err)
			require.NotEmpty(t, events)
		}
		for by, times := range taken {
			for i := range times {
				for j := i; j < len(times); j++ {
					most := room.Burst + int(times[j].Sub(times[i])/room.Interval)
					require.LessOrEqual(t, j-i+1, most, by)
				}
			}
		}
	})
}

func TestAClockThatWasSetBackSilencesNobody(t *testing.T) {
	t.Parallel()
	var state room.Room
	for i := range room.Burst {
		_, err := execute(t, &state, post(fmt.Sprint(i), "ann", "x"))
		require.NoError(t, err)
	}
	c := post("late", "ann", "x")
	_, err := execute(t, &state, c)
	require.Equal(t, &room.TooFastError{Wait: room.Interval}, err)
	require.EqualError(t, err, "that was a lot at once; go on in 1 s")
	c.At = noon.Add(-time.Hour)
	_, err = execute(t, &state, c)
	require.NoError(t, err)
}

// A model that remembers everything agrees with the room on who may do what, whatever is tried in whatever order,
// and however often commands arrive twice.
func TestTheRoomAgreesWithASimpleModel(t *testing.T) {
	t.Parallel()
	type message struct {
		by, text string
		deleted  bool
		reacted  map[string]bool
	}
	people := []string{"ann", "bob", "cid"}
	rapid.Check(t, func(t *rapid.T) {
		var state room.Room
		model := map[string]*message{}
		now := noon
		id := rapid.SampledFrom([]string{"1", "2", "3", "4"})
		by := rapid.SampledFrom(people)
		text := rapid.SampledFrom([]string{"a", "b", " "})
		step := func(t *rapid.T) (string, string) {
			now = now.Add(room.Interval)
			return id.Draw(t, "id"), by.Draw(t, "by")
		}
		agree := func(t *rapid.T, allowed bool, c aggregate.Command[room.Room]) {
			_, err := execute(t, &state, c)
			require.Equal(t, allowed, err == nil, "%#v: %v", c, err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"post": func(t *rapid.T) {
				id, by := step(t)
				text := text.Draw(t, "text")
				m := model[id]
				allowed := m == nil && text != " " || m != nil && m.by == by
				c := post(id, by, text)
				c.At = now
				agree(t, allowed, c)
				if allowed && m == nil {
					model[id] = &message{by: by, text: text, reacted: map[string]bool{}}
				}
			},
			"edit": func(t *rapid.T) {
				id, by := step(t)
				text := text.Draw(t, "text")
				m := model[id]
				allowed := m != nil && m.by == by && !m.deleted && text != " "
				agree(t, allowed, room.Edit{Room: "lobby", ID: id, By: by, Text: text, At: now})
				if allowed {
					m.text = text
				}
			},
			"delete": func(t *rapid.T) {
				id, by := step(t)
				m := model[id]
				allowed := m != nil && m.by == by
				agree(t, allowed, room.Delete{Room: "lobby", ID: id, By: by, At: now})
				if allowed {
					m.deleted, m.text, m.reacted = true, "", map[string]bool{}
				}
			},
			"react": func(t *rapid.T) {
				id, by := step(t)
				emoji := rapid.SampledFrom(room.Reactions).Draw(t, "emoji")
				m := model[id]
				allowed := m != nil && !m.deleted
				agree(t, allowed, room.React{Room: "lobby", ID: id, By: by, Emoji: emoji, At: now})
				if allowed {
					m.reacted[by+emoji] = !m.reacted[by+emoji]
				}
			},
			"": func(t *rapid.T) {
				require.Len(t, state.Messages, len(model))
				for id, m := range model {
					got := state.Messages[id]
					require.Equal(t, m.by, got.By)
					require.Equal(t, m.text, got.Text)
					require.Equal(t, m.deleted, got.Deleted)
					for _, by := range people {
						for i, emoji := range room.Reactions {
							require.Equal(t, m.reacted[by+emoji], got.Reacted[by]>>i&1 == 1)
						}
					}
				}
			},
		})
	})
}

func TestARoomRemembersABoundedNumberOfMessages(t *testing.T) {
	t.Parallel()
	var state room.Room
	at := noon
	for i := range room.Window + 300 {
		at = at.Add(time.Millisecond)
		by := fmt.Sprintf("p%d", i)
		state = aggregate.Fold(state, room.Event(room.Posted{ID: fmt.Sprint("m", i), By: by, Name: by, Text: "x", At: at}))
	}
	require.Len(t, state.Messages, room.Window)
	require.Len(t, state.Order, room.Window)
	require.Less(t, len(state.Pace), 2000, "those who were silent for long are forgotten")
	_, err := room.Edit{Room: "lobby", ID: "m0", By: "p0", Text: "y", At: at}.Execute(state)
	require.True(t, errors.Is(err, room.ErrTooOld))
	_, err = room.Edit{Room: "lobby", ID: "m300", By: "p300", Text: "y", At: at}.Execute(state)
	require.NoError(t, err)
}
