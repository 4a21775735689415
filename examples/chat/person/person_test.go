package person_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/examples/chat/person"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func TestAPersonIsRenamed(t *testing.T) {
	t.Parallel()
	rename := func(name string, at time.Time) person.Rename {
		return person.Rename{Person: "p", Name: name, At: at}
	}
	later := noon.Add(person.RenameEvery)
	aggregatetest.Given(t, person.Type).
		When(rename(person.FirstName("p"), noon)).ThenNothing().
		When(rename("  Ann   B. ", noon)).Then(person.Renamed{Name: "Ann B.", At: noon}).
		When(rename("Ann B.", noon)).ThenNothing().
		When(rename("Cid", later.Add(-time.Millisecond))).ThenError(person.ErrTooSoon).
		When(rename("Cid", later)).Then(person.Renamed{Name: "Cid", At: later}).
		When(rename("", later)).ThenError(person.ErrNoName)
}

func TestNamesThatAreKept(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Ann", "<b>Ann</b>", "Zoë 🎉", "👩‍🚀", "d'Ann \"x\""} {
		_, ok := person.CheckName(name)
		require.True(t, ok, name)
	}
	for _, name := range []string{"", " ", "\u200d", "a\u202eb", "a\x00b", "\xff", strings.Repeat("a", 25), strings.Repeat(" ", 1<<20),
		"a" + strings.Repeat("\u0301", 4)} {
		_, ok := person.CheckName(name)
		require.False(t, ok, "%.40q", name)
	}
	rapid.Check(t, func(t *rapid.T) {
		name, ok := person.CheckName(rapid.String().Draw(t, "name"))
		if ok {
			again, ok := person.CheckName(name)
			require.True(t, ok)
			require.Equal(t, name, again)
		}
	})
}

func TestTheFirstNameFollowsFromTheSession(t *testing.T) {
	t.Parallel()
	id := person.ID("secret")
	require.Equal(t, id, person.ID("secret"))
	require.Regexp(t, `^[a-z2-7]{16}$`, id)
	require.Equal(t, person.FirstName(id), person.FirstName(id))
	seen := map[string]bool{}
	for i := range 2000 {
		name := person.FirstName(person.ID(fmt.Sprint(i)))
		require.Regexp(t, `^[a-z]+-[a-z]+$`, name)
		_, ok := person.CheckName(name)
		require.True(t, ok, name)
		seen[name] = true
	}
	require.Greater(t, len(seen), 1400, "of 4096 names, 2000 people should have some 1580")
}

func TestWhatIsReadStaysRead(t *testing.T) {
	t.Parallel()
	see := func(room string, upto uint64) person.See {
		return person.See{Person: "p", Room: room, Upto: upto}
	}
	aggregatetest.Given(t, person.Type).
		When(see("lobby", 0)).Then(person.Read{Room: "lobby"}).
		When(see("lobby", 7)).Then(person.Read{Room: "lobby", Upto: 7}).
		When(see("lobby", 7)).ThenNothing().
		When(see("lobby", 3)).ThenNothing().
		When(see("den", 1)).Then(person.Read{Room: "den", Upto: 1}).
		ThenState(func(p person.Person) { require.Equal(t, map[string]uint64{"lobby": 7, "den": 1}, p.Read) })
	var p person.Person
	for i := range person.MaxRooms + 10 {
		events, err := see(fmt.Sprint("r", i), 1).Execute(p)
		require.NoError(t, err)
		p = aggregate.Fold(p, events...)
	}
	require.Len(t, p.Read, person.MaxRooms)
	events, err := see("r0", 2).Execute(p)
	require.NoError(t, err)
	require.Len(t, events, 1)
}
