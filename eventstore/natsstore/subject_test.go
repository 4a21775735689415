package natsstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
)

func TestEveryNameHasASubjectOfItsOwn(t *testing.T) {
	t.Parallel()
	sp := space("store")
	seen := map[string]string{}
	for _, name := range []string{
		"a", "a-", "a-1", "A-1", "a--1", "a-.", "a-*", "a->", "a- ", "a-=2D", "a-=", "=", "a=2D1", "-", "-a", "$a", "$a-1", "$", "", "é-é", "a-\xff", "a.b-c",
	} {
		subject := sp.of(name)
		require.Empty(t, seen[subject], "%q and %q", name, seen[subject])
		seen[subject] = name
		require.Len(t, strings.Split(subject, "."), 4)
		require.NotContains(t, strings.TrimPrefix(subject, "store"), " ")
		have, ok := sp.stream(subject)
		require.True(t, ok)
		require.Equal(t, name, have)
	}
	require.Equal(t, "levada.u.room.-42", space("levada").of("room-42"))
	for _, alien := range []string{"store", "store.u.a", "store.x.a.=", "store.u.a.b.c", "store.s.a.=", "other.u.a.=", "store.u.a.=2", "store.u.a.=2d1", "store.u.a.=61", "store.u.a-.b"} {
		_, ok := sp.stream(alien)
		require.False(t, ok, alien)
	}
}

func TestSubjectsAreInvertible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := string(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "name"))
		have, ok := space("x").stream(space("x").of(name))
		require.True(t, ok)
		require.Equal(t, name, have)
		back, ok := untoken(token(name))
		require.True(t, ok)
		require.Equal(t, name, back)
	})
}

func FuzzTokenIsTheOnlyFormOfAText(f *testing.F) {
	for _, s := range []string{"=", "a", "=2E", "=2e", "=6", "==", "a=FFb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if text, ok := untoken(s); ok {
			require.Equal(t, s, token(text))
		}
	})
}

func TestAFilterIsLookedForUnderTheNarrowestPatterns(t *testing.T) {
	t.Parallel()
	type s = []string
	var many s
	for i := range mostPatterns + 1 {
		many = append(many, fmt.Sprintf("c%d", i))
	}
	for pattern, filters := range map[string][]driver.Filter{
		"x.u.>":              {{}, {Types: s{"t"}}},
		"x.>":                {{System: true}, {Streams: many}, {Categories: many}},
		"x.u.a.*":            {{Categories: s{"a"}}, {Categories: s{"a", "a"}}, {Categories: s{"a"}, Types: s{"t"}}, {Categories: s{"a"}, System: true}},
		"x.s.=24b.* x.u.a.*": {{Categories: s{"a", "$b"}}},
		"x.s.=24a.*":         {{Categories: s{"$a"}}},
		"x.u.a.-1":           {{Streams: s{"a-1"}}, {Streams: s{"a-1"}, Categories: s{"a", "b"}}, {Streams: s{"a-1"}, Types: s{"t", "u"}}, {Streams: s{"a-1", "c-1", "a-1"}, Categories: s{"a"}}},
		"x.u.a.-1 x.u.b.-1":  {{Streams: s{"b-1", "a-1"}}, {Streams: append(s{"b-1", "a-1"}, many...), Categories: s{"a", "b"}}},
		"x.s.=24a.=":         {{Streams: s{"$a"}}},
		"":                   {{Streams: s{"a-1"}, Categories: s{"b"}}},
	} {
		for _, f := range filters {
			have, exact := space("x").patterns(&f)
			require.Equal(t, pattern, strings.Join(have, " "), "%+v", f)
			require.Equal(t, len(f.Types) == 0 && !slices.Equal(f.Streams, many) && !slices.Equal(f.Categories, many), exact, "%+v", f)
		}
	}
	require.Len(t, many[:mostPatterns], mostPatterns)
	have, exact := space("x").patterns(&driver.Filter{Categories: many[:mostPatterns]})
	require.Len(t, have, mostPatterns)
	require.True(t, exact)
}
