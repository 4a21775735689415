package esdbdev

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPositionsIncreaseAndCanBeDecoded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := eventstore.Position(rapid.Uint64Range(0, 1<<57-2).Draw(t, "position"))
		c := wirePosition(p)
		require.Less(t, c, wirePosition(p+1))
		require.LessOrEqual(t, wirePosition(p+1), uint64(math.MaxInt64), "it is a signed number elsewhere")
		back, ok := storePosition(c)
		require.True(t, ok)
		require.Equal(t, p, back)
		_, ok = storePosition(c + 1)
		require.False(t, ok, "one more is none")
	})
	for p := range eventstore.Position(1 << 16) {
		require.Less(t, wirePosition(p)+1, wirePosition(p+1))
	}
	require.Zero(t, wirePosition(0))
	require.Equal(t, []uint64{64 + 44, 128 + 39, 192 + 14}, []uint64{wirePosition(1), wirePosition(2), wirePosition(3)}, "for ever: clients have stored them")
}

func FuzzStorePosition(f *testing.F) {
	f.Add(uint64(0))
	f.Add(uint64(104))
	f.Add(uint64(math.MaxUint64))
	f.Fuzz(func(t *testing.T, c uint64) {
		if p, ok := storePosition(c); ok {
			require.Equal(t, c, wirePosition(p))
		}
	})
}

func FuzzStreamNames(f *testing.F) {
	for _, s := range []string{"a", "$$a", "a\nb", "\xff", "~", "%", strings.Repeat("x", 300), "$esdb-a", "$esdb.tombstone-a"} {
		f.Add(s, "a", 255)
	}
	f.Fuzz(func(t *testing.T, a, b string, limit int) {
		if a == "" || b == "" || limit < 100 || len(a)+len(b) > 2*maxName {
			t.Skip()
		}
		stored, full := storedStream(a, limit)
		require.NoError(t, stored.Validate())
		require.LessOrEqual(t, len(stored), limit)
		meta := map[string]string{}
		if full != "" {
			meta[metaStream] = full
		}
		name, tomb, ok := clientStream(stored, meta)
		require.True(t, ok)
		require.False(t, tomb)
		require.Equal(t, a, name)
		other, _ := storedStream(b, limit)
		require.Equal(t, a == b, stored == other, "injective")

		typ, full := storedType(a)
		require.NoError(t, eventstore.StreamName(typ).Validate(), "a type has the same rules")
		meta = map[string]string{}
		if full != "" {
			meta[metaType] = full
		}
		require.Equal(t, a, clientType(typ, meta))
		otherType, _ := storedType(b)
		require.Equal(t, a == b, typ == otherType)
	})
}

func FuzzClientStream(f *testing.F) {
	f.Add("$esdb-%41")
	f.Add("$esdb-~x")
	f.Add("$esdb-0")
	f.Add("$snapshot-a")
	f.Add("account-1")
	f.Fuzz(func(t *testing.T, stored string) {
		if stored == "" || len(stored) > 200 || eventstore.StreamName(stored).Validate() != nil {
			t.Skip()
		}
		name, _, ok := clientStream(eventstore.StreamName(stored), nil)
		if !ok {
			require.Equal(t, byte('$'), stored[0])
			return
		}
		back, _ := storedStream(name, 255)
		require.Equal(t, stored, string(back), "no two streams of a store have one name")
	})
}

func TestTheStoresOwnStreamsAreNobodysElse(t *testing.T) {
	t.Parallel()
	for _, s := range []eventstore.StreamName{"$snapshot-a", "$dead", "$esdb-", "$esdb-%4", "$esdb-%zz", "$esdb-%41", "$esdb-~x", "$esdb.tombstone-x", ""} {
		_, _, ok := clientStream(s, nil)
		require.False(t, ok, "%s", s)
	}
	name, tomb, ok := clientStream(tombstoneStream("a"), map[string]string{metaStream: "a"})
	require.True(t, ok && tomb)
	require.Equal(t, "a", name)
}

func FuzzCustomMetadata(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":"b"}`, `{"a":1}`, "\xff", `{"$correlationId":"9f2a0f4e-7c3f-4c8a-9a57-1b4b7f5d8f10"}`, `{"$esdb.metadata":"x"}`, `{"a":"\ud800"}`, `{"":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, custom []byte) {
		var e eventstore.Event
		setMetadata(&e, custom)
		require.Equal(t, string(custom), string(customMetadata(&e)))
		for k, v := range e.Metadata {
			require.NotEmpty(t, k)
			require.True(t, utf8.ValidString(k) && utf8.ValidString(v), "a store takes it")
		}
	})
}

func TestMetadataIsSharedWithProgramsThatUseTheStore(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("9f2a0f4e-7c3f-4c8a-9a57-1b4b7f5d8f10")
	var e eventstore.Event
	setMetadata(&e, []byte(`{"$correlationId":"`+id.String()+`","user":"ann"}`))
	require.Equal(t, map[string]string{"user": "ann"}, e.Metadata)
	require.Equal(t, id, e.Correlation)

	e = eventstore.Event{}
	setMetadata(&e, []byte(`{"user":"ann","$causationId":"`+id.String()+`"}`))
	require.Equal(t, id, e.Causation, "though it is kept as text, for its order")

	own := eventstore.Event{Metadata: map[string]string{"user": "<ann>", metaStream: "x"}, Correlation: id, Causation: id, Tags: []string{"a", "b"}}
	require.JSONEq(t, `{"user":"<ann>","$correlationId":"`+id.String()+`","$causationId":"`+id.String()+`","$tags":["a","b"]}`, string(customMetadata(&own)))
	require.Empty(t, customMetadata(&eventstore.Event{Metadata: map[string]string{metaType: "x"}}))
}

func FuzzStreamMetadata(f *testing.F) {
	for _, s := range []string{"", "{}", `{"$maxCount":3}`, `{"$tb":9223372036854775807}`, `{"$maxAge":-1}`, `{"$maxAge":99999999999999}`, "[]", "null", `{"$tb":1,"$tb":2}`} {
		f.Add([]byte(s), uint64(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, before uint64) {
		r := parseRetention(data)
		require.GreaterOrEqual(t, r.maxAge, time.Duration(0))
		if before == 0 || before > math.MaxInt64 {
			t.Skip()
		}
		next := parseRetention(withBefore(data, before))
		require.Equal(t, before, next.before)
		next.before = r.before
		require.Equal(t, r, next, "the rest is as it was")
	})
}

func TestStreamMetadataOfAWrongKindIsIgnored(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]retention{
		`{"$maxCount":3,"$maxAge":60,"$tb":5}`:  {maxCount: 3, maxAge: time.Minute, before: 5},
		`{"$maxCount":"3","$maxAge":1.5}`:       {},
		`{"$maxCount":0,"$maxAge":-60,"$tb":0}`: {},
		`{"$tb":9223372036854775807}`:           {before: deletedBefore},
		`{"$tb":9223372036854775808}`:           {},
		`{"$maxAge":9223372036854775807}`:       {maxAge: math.MaxInt64 / time.Second * time.Second},
		`no JSON`:                               {},
		`[1]`:                                   {},
	} {
		require.Equal(t, want, parseRetention([]byte(text)), text)
	}
}

func FuzzLinkTarget(f *testing.F) {
	f.Add([]byte("1@a"))
	f.Add([]byte("@"))
	f.Add([]byte("18446744073709551615@a@b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		stream, revision, ok := linkTarget(&record{typ: linkType, data: data})
		if ok {
			require.NotEmpty(t, stream)
			require.Less(t, revision, uint64(1<<63))
		}
		_, _, ok = linkTarget(&record{typ: "x", data: data})
		require.False(t, ok)
	})
}

func FuzzBasicAuth(f *testing.F) {
	f.Add("Basic YTpi")
	f.Add("basic YTpiOmM=")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		user, _, ok := basicAuth(header)
		require.False(t, ok && strings.Contains(user, ":"))
	})
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	user, password, ok := basicAuth("basic YTpiOmM=")
	require.True(t, ok)
	require.Equal(t, []string{"a", "b:c"}, []string{user, password})
	for _, h := range []string{"", "Basic", "Basic !", "Bearer YTpi", "Basic YQ=="} {
		_, _, ok := basicAuth(h)
		require.False(t, ok, "%q", h)
	}
}

func TestCursorsOfGroupsAreTextAndBack(t *testing.T) {
	t.Parallel()
	stream := &group{key: groupKey{"s", "g"}}
	all := &group{key: groupKey{allStream, "g"}}
	rapid.Check(t, func(t *rapid.T) {
		c := cursor(rapid.Uint64Range(1, 1<<50).Draw(t, "cursor"))
		for _, g := range []*group{stream, all} {
			back, ok := g.parseCursor(`"` + g.cursorText(c) + `"`)
			require.True(t, ok)
			require.Equal(t, c, back)
		}
	})
	for _, text := range []string{"", `""`, "C:1/P:1", "-1", "x", "C:/P:"} {
		_, ok := all.parseCursor(text)
		require.False(t, ok, "%q", text)
	}
	require.Empty(t, stream.cursorText(0))
}

func TestOnlyTheLatestIDsAreRemembered(t *testing.T) {
	t.Parallel()
	r := recents{loaded: true}
	first := eventstore.Event{ID: uuid.New()}
	r.add("s", []eventstore.Event{first}, eventstore.Appended{Version: 1, Position: 1})
	at, all, some := r.find("s", []eventstore.Event{first})
	require.True(t, all && some)
	require.EqualValues(t, 1, at.Version)
	_, all, some = r.find("t", []eventstore.Event{first})
	require.False(t, all || some, "in another stream")
	for i := range recentEvents {
		r.add("s", []eventstore.Event{{ID: uuid.New()}}, eventstore.Appended{Version: eventstore.Version(i + 2)})
	}
	_, all, _ = r.find("s", []eventstore.Event{first})
	require.False(t, all)
	require.Len(t, r.byID, recentEvents)
}
