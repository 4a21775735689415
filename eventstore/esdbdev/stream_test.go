package esdbdev_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

func TestAnEventIsReadAsItWasAppended(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	before := time.Now().Add(-time.Second)
	e := event("opened")
	r := f.must(t, "account-1", esdb.NoStream{}, e)
	require.Zero(t, r.NextExpectedVersion, "the revision of the last event")
	require.Equal(t, r.CommitPosition, r.PreparePosition)
	got := f.read(t, "account-1")
	require.Len(t, got, 1)
	require.Nil(t, got[0].Link)
	ev := got[0].Event
	require.Equal(t, e.EventID, ev.EventID)
	require.Equal(t, "opened", ev.EventType)
	require.Equal(t, "application/json", ev.ContentType)
	require.Equal(t, "account-1", ev.StreamID)
	require.Zero(t, ev.EventNumber)
	require.Equal(t, e.Data, ev.Data)
	require.Equal(t, e.Metadata, ev.UserMetadata)
	require.Equal(t, esdb.Position{Commit: r.CommitPosition, Prepare: r.PreparePosition}, ev.Position)
	require.Equal(t, r.CommitPosition, *got[0].Commit)
	require.WithinRange(t, ev.CreatedDate, before, time.Now().Add(time.Second))
}

func TestAppendsAreDecidedByTheExpectedRevision(t *testing.T) {
	t.Parallel()
	states := map[string]func(t *testing.T, f *fixture){
		"missing": func(*testing.T, *fixture) {},
		"at 1":    func(t *testing.T, f *fixture) { f.must(t, "s-1", esdb.NoStream{}, events("a", "b")...) },
		"deleted at 1": func(t *testing.T, f *fixture) {
			f.must(t, "s-1", esdb.NoStream{}, events("a", "b")...)
			_, err := f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: exactly(1)})
			require.NoError(t, err)
		},
		"tombstoned": func(t *testing.T, f *fixture) {
			f.must(t, "s-1", esdb.NoStream{}, events("a", "b")...)
			_, err := f.TombstoneStream(t.Context(), "s-1", esdb.TombstoneStreamOptions{ExpectedRevision: exactly(1)})
			require.NoError(t, err)
		},
	}
	const wrong, gone = -1, -2
	type row map[esdb.ExpectedRevision]int // the revision after it
	for state, want := range map[string]row{
		"missing":      {esdb.Any{}: 0, esdb.NoStream{}: 0, esdb.StreamExists{}: wrong, exactly(0): wrong, exactly(1): wrong},
		"at 1":         {esdb.Any{}: 2, esdb.NoStream{}: wrong, esdb.StreamExists{}: 2, exactly(0): wrong, exactly(1): 2, exactly(2): wrong, exactly(1<<63 - 1): wrong, exactly(1<<64 - 1): wrong},
		"deleted at 1": {esdb.Any{}: 2, esdb.NoStream{}: 2, esdb.StreamExists{}: wrong, exactly(0): wrong, exactly(1): 2, exactly(2): wrong},
		"tombstoned":   {esdb.Any{}: gone, esdb.NoStream{}: gone, esdb.StreamExists{}: gone, exactly(0): gone, exactly(1): gone},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			for x, revision := range want {
				f := start(t, nil)
				states[state](t, f)
				r, err := f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: x}, event("c"))
				switch revision {
				case wrong:
					require.Equal(t, esdb.ErrorCodeWrongExpectedVersion, code(err), "%T %v: %v", x, x, err)
				case gone:
					require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err), "%T %v: %v", x, x, err)
				default:
					require.NoError(t, err, "%T %v", x, x)
					require.EqualValues(t, revision, r.NextExpectedVersion, "%T %v", x, x)
				}
			}
		})
	}
}

func TestAConflictTellsWhereTheStreamStands(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
	_, err := f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: exactly(0)}, event("d"))
	require.ErrorContains(t, err, "expecting '0' but got '2'")
	_, err = f.AppendToStream(t.Context(), "none-1", esdb.AppendToStreamOptions{ExpectedRevision: exactly(0)}, event("d"))
	require.ErrorContains(t, err, "expecting '0' but got 'no_stream'")
	_, err = f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event("d"))
	require.ErrorContains(t, err, "expecting 'no_stream' but got '2'")
}

func TestAnAppendMadeAgainGivesTheOldResult(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]esdb.ExpectedRevision{
		"no stream": esdb.NoStream{}, "any": esdb.Any{}, "exists": esdb.StreamExists{}, "revision": exactly(0),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, nil)
			first := uint64(0)
			if name == "exists" || name == "revision" {
				f.must(t, "s-1", esdb.NoStream{}, event("first"))
				first = 1
			}
			list := events("a", "b")
			r := f.must(t, "s-1", x, list...)
			require.Equal(t, first+1, r.NextExpectedVersion)
			f.must(t, "other-1", esdb.Any{}, event("x"))
			require.Equal(t, r, f.must(t, "s-1", x, list...))
			f.must(t, "s-1", esdb.Any{}, event("after"))
			require.Equal(t, r, f.must(t, "s-1", x, list...))
			require.Len(t, f.read(t, "s-1"), int(first)+3)
			// Only a part of it is no repetition.
			_, err := f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: x}, list[1], event("new"))
			require.Equal(t, esdb.ErrorCodeWrongExpectedVersion, code(err))
		})
	}
}

func TestTheSameIDsInAnotherStreamAreNoRepetition(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	list := events("a", "b")
	f.must(t, "s-1", esdb.Any{}, list...)
	r := f.must(t, "s-2", esdb.Any{}, list...)
	require.EqualValues(t, 1, r.NextExpectedVersion)
	require.Len(t, f.read(t, "s-2"), 2)
}

func TestReadsOfAStream(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c", "d", "e")...)
	for _, row := range []struct {
		name  string
		dir   esdb.Direction
		from  esdb.StreamPosition
		count uint64
		want  string
	}{
		{"forwards from the start", esdb.Forwards, esdb.Start{}, 10, "a b c d e"},
		{"forwards, some", esdb.Forwards, esdb.Start{}, 2, "a b"},
		{"forwards from a revision, that included", esdb.Forwards, esdb.Revision(2), 10, "c d e"},
		{"forwards from the last", esdb.Forwards, esdb.Revision(4), 10, "e"},
		{"forwards from beyond", esdb.Forwards, esdb.Revision(5), 10, ""},
		{"forwards from the end", esdb.Forwards, esdb.End{}, 10, ""},
		{"backwards from the end", esdb.Backwards, esdb.End{}, 10, "e d c b a"},
		{"backwards, some", esdb.Backwards, esdb.End{}, 2, "e d"},
		{"backwards from a revision, that included", esdb.Backwards, esdb.Revision(2), 10, "c b a"},
		{"backwards from beyond", esdb.Backwards, esdb.Revision(99), 10, "e d c b a"},
		{"backwards from the start", esdb.Backwards, esdb.Start{}, 10, "a"},
		{"none", esdb.Forwards, esdb.Start{}, 0, ""},
		{"as many as can be", esdb.Forwards, esdb.Start{}, 1<<64 - 1, "a b c d e"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			list, err := collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{Direction: row.dir, From: row.from}, row.count))
			require.NoError(t, err)
			require.Equal(t, row.want, types(list))
		})
	}
}

func TestReadsOfEverything(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	for _, typ := range []string{"a", "b", "c", "d"} {
		f.must(t, "s-"+typ, esdb.Any{}, event(typ))
	}
	list := f.readAll(t)
	require.Equal(t, "a b c d", types(list))
	at := func(i int) esdb.Position { return list[i].Event.Position }
	for _, row := range []struct {
		name string
		dir  esdb.Direction
		from esdb.AllPosition
		want string
	}{
		{"forwards from the start", esdb.Forwards, esdb.Start{}, "a b c d"},
		{"forwards from a position, that included", esdb.Forwards, at(1), "b c d"},
		{"forwards from the end", esdb.Forwards, esdb.End{}, ""},
		{"backwards from the end", esdb.Backwards, esdb.End{}, "d c b a"},
		{"backwards from a position, without it", esdb.Backwards, at(2), "b a"},
		{"backwards from the first", esdb.Backwards, at(0), ""},
		{"backwards from the start", esdb.Backwards, esdb.Start{}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			list, err := collect(f.ReadAll(t.Context(), esdb.ReadAllOptions{Direction: row.dir, From: row.from}, 10))
			require.NoError(t, err)
			require.Equal(t, row.want, types(list))
		})
	}
}

func TestPositionsAreNotNumbersToCountWith(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	for range 50 {
		f.must(t, "s-1", esdb.Any{}, event("a"))
	}
	list := f.readAll(t)
	gaps := map[uint64]bool{}
	for i := 1; i < len(list); i++ {
		gap := list[i].Event.Position.Commit - list[i-1].Event.Position.Commit
		require.Positive(t, int64(gap))
		gaps[gap] = true
	}
	require.Greater(t, len(gaps), 10, "irregular")
	p := list[3].Event.Position
	_, err := collect(f.ReadAll(t.Context(), esdb.ReadAllOptions{From: esdb.Position{Commit: p.Commit + 1, Prepare: p.Commit + 1}}, 1))
	require.ErrorContains(t, err, "not a position")
}

func TestAStreamThatIsNotThereIsNotFound(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	_, err := collect(f.ReadStream(t.Context(), "none", esdb.ReadStreamOptions{}, 1))
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err))
}

func TestADeletedStreamGoesOnAtItsNextRevision(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	d, err := f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	require.Positive(t, d.Position.Commit)
	_, err = collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{}, 1))
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err))
	require.Equal(t, "a b $metadata", types(f.readAll(t)), "nothing was scavenged")

	list := events("c", "d")
	r := f.must(t, "s-1", esdb.NoStream{}, list...)
	require.EqualValues(t, 3, r.NextExpectedVersion)
	got := f.read(t, "s-1")
	require.Equal(t, "c d", types(got))
	require.EqualValues(t, 2, got[0].Event.EventNumber)
	meta, err := f.GetStreamMetadata(t.Context(), "s-1", esdb.ReadStreamOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 2, *meta.TruncateBefore())
	require.Equal(t, r, f.must(t, "s-1", esdb.NoStream{}, list...), "the same again")
	back, err := collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 10))
	require.NoError(t, err)
	require.Equal(t, "d c", types(back))
}

func TestATombstoneIsForEver(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	d, err := f.TombstoneStream(t.Context(), "s-1", esdb.TombstoneStreamOptions{ExpectedRevision: exactly(0)})
	require.NoError(t, err)
	_, err = collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{}, 1))
	require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
	_, err = f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
	_, err = f.TombstoneStream(t.Context(), "s-1", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
	all := f.readAll(t)
	require.Equal(t, "a $streamDeleted", types(all))
	last := all[1].Event
	require.Equal(t, "s-1", last.StreamID)
	require.EqualValues(t, 1<<63-1, last.EventNumber)
	require.Equal(t, d.Position, last.Position)
}

func TestDeletingExpectsARevision(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	for _, x := range []esdb.ExpectedRevision{exactly(1), esdb.NoStream{}} {
		_, err := f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: x})
		require.ErrorContains(t, err, "WrongExpectedVersion")
		_, err = f.TombstoneStream(t.Context(), "s-1", esdb.TombstoneStreamOptions{ExpectedRevision: x})
		require.ErrorContains(t, err, "WrongExpectedVersion")
	}
	_, err := f.DeleteStream(t.Context(), "none", esdb.DeleteStreamOptions{ExpectedRevision: esdb.StreamExists{}})
	require.ErrorContains(t, err, "WrongExpectedVersion")
}

func TestStreamMetadataLimitsWhatIsRead(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	set := func(stream string, change func(m *esdb.StreamMetadata)) {
		var m esdb.StreamMetadata
		change(&m)
		_, err := f.SetStreamMetadata(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, m)
		require.NoError(t, err)
	}
	f.must(t, "count-1", esdb.Any{}, events("a", "b", "c")...)
	set("count-1", func(m *esdb.StreamMetadata) { m.SetMaxCount(2); m.AddCustomProperty("owner", "ann") })
	require.Equal(t, "b c", types(f.read(t, "count-1")))
	f.must(t, "count-1", esdb.Any{}, event("d"))
	require.Equal(t, "c d", types(f.read(t, "count-1")))
	back, err := collect(f.ReadStream(t.Context(), "count-1", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 10))
	require.NoError(t, err)
	require.Equal(t, "d c", types(back))
	m, err := f.GetStreamMetadata(t.Context(), "count-1", esdb.ReadStreamOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 2, *m.MaxCount())
	require.Equal(t, "ann", m.CustomProperty("owner"))

	f.must(t, "before-1", esdb.Any{}, events("a", "b", "c")...)
	set("before-1", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(1) })
	require.Equal(t, "b c", types(f.read(t, "before-1")))
	set("before-1", func(m *esdb.StreamMetadata) { m.SetTruncateBefore(99) })
	require.Empty(t, f.read(t, "before-1"), "empty, but found")

	f.must(t, "age-1", esdb.Any{}, events("a", "b")...)
	set("age-1", func(m *esdb.StreamMetadata) { m.SetMaxAge(time.Hour) })
	require.Equal(t, "a b", types(f.read(t, "age-1")))
	set("age-1", func(m *esdb.StreamMetadata) { m.SetMaxAge(time.Second) })
	eventually(t, "they are too old", func() bool { return len(f.read(t, "age-1")) == 0 })
	f.must(t, "age-1", esdb.Any{}, event("c"))
	sub, err := f.SubscribeToStream(t.Context(), "age-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "c", "caught up")

	// Of metadata itself only the latest can be read, from either end.
	require.Len(t, f.read(t, "$$before-1"), 1)
	set("acl-1", func(m *esdb.StreamMetadata) {
		var acl esdb.Acl
		acl.AddReadRoles("admin")
		m.SetAcl(acl)
	})
	m, err = f.GetStreamMetadata(t.Context(), "acl-1", esdb.ReadStreamOptions{})
	require.NoError(t, err)
	require.Equal(t, []string{"admin"}, m.StreamAcl().ReadRoles())
	require.Contains(t, types(f.readAll(t)), "$metadata", "metadata is part of everything")
}

func TestDeletingKeepsTheRestOfTheMetadata(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	var m esdb.StreamMetadata
	m.SetMaxCount(7)
	m.AddCustomProperty("owner", "ann")
	_, err := f.SetStreamMetadata(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, m)
	require.NoError(t, err)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	_, err = f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	got, err := f.GetStreamMetadata(t.Context(), "s-1", esdb.ReadStreamOptions{})
	require.NoError(t, err)
	require.EqualValues(t, 7, *got.MaxCount())
	require.Equal(t, "ann", got.CustomProperty("owner"))
	require.EqualValues(t, uint64(1<<63), *got.TruncateBefore(), "2^63-1, as the client rounds it")
}

// Two servers of one store have no lock in common: what one writes of a stream while
// the other brings it back or deletes it is not lost.
func TestMetadataThatAnotherServerWritesMeanwhileAreKept(t *testing.T) {
	t.Parallel()
	const deleted = `{"$tb":9223372036854775807,"owner":"ann"}`
	for _, c := range []struct {
		name  string
		hook  eventstore.StreamName // meanwhile is before this is appended to
		other string                // the metadata that the other server writes then
		do    func(t *testing.T, f *fixture)
		want  string
	}{
		{"while a stream is brought back", "s-1", deleted, func(t *testing.T, f *fixture) {
			f.must(t, "s-1", esdb.NoStream{}, event("c"))
			require.Equal(t, "c", types(f.read(t, "s-1")))
		}, `{"$tb":2,"owner":"ann"}`},
		{"between the events and the note that it is back", "$esdb-$$s-1", deleted, func(t *testing.T, f *fixture) {
			f.must(t, "s-1", esdb.Any{}, event("c"))
			_, err := collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{}, 10))
			require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err), "the other server deletes it once more")
		}, deleted},
		{"while a stream is deleted", "$esdb-$$s-1", `{"owner":"ann"}`, func(t *testing.T, f *fixture) {
			_, err := f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: exactly(1)})
			require.NoError(t, err)
		}, deleted},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var meanwhile atomic.Pointer[func()]
			store := memstore.Open(&memstore.Options{Store: eventstore.Options{Trace: &eventstore.Trace{
				AppendStart: func(ctx context.Context, i eventstore.AppendInfo) context.Context {
					if i.Stream == c.hook {
						if do := meanwhile.Swap(nil); do != nil {
							(*do)()
						}
					}
					return ctx
				},
			}}})
			t.Cleanup(func() { store.Close() })
			s := serve(t, store, nil)
			f := &fixture{connect(t, s.URL()), s, store}
			other := connect(t, serve(t, store, nil).URL())
			f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
			if c.other == deleted {
				_, err := f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
				require.NoError(t, err)
			}
			do := func() {
				_, err := other.AppendToStream(t.Context(), "$$s-1", esdb.AppendToStreamOptions{}, esdb.EventData{
					EventType: "$metadata", ContentType: esdb.ContentTypeJson, Data: []byte(c.other)})
				require.NoError(t, err)
			}
			meanwhile.Store(&do)
			c.do(t, f)
			require.Nil(t, meanwhile.Load())
			list := f.read(t, "$$s-1")
			require.JSONEq(t, c.want, string(list[len(list)-1].Event.Data))
		})
	}
}

func TestNamesThatAStoreRefusesAreNamesAllTheSame(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	names := []string{"$system", "$ce-account", "a\nb", "\x00", "\xff\xfe", "~", "$", "$$", "%41", "$esdb-x", "ä ö", "a\u0085",
		strings.Repeat("long", 100), strings.Repeat("long", 100) + "!", strings.Repeat("\x01", 250), strings.Repeat("x", 255), strings.Repeat("x", 256)}
	for i, name := range names {
		r := f.must(t, name, esdb.NoStream{}, event("e"))
		require.Zero(t, r.NextExpectedVersion, "%d: %q", i, name)
	}
	var seen []string
	for _, e := range f.readAll(t) {
		seen = append(seen, e.Event.StreamID)
	}
	require.Equal(t, names, seen)
	for _, name := range names {
		got := f.read(t, name)
		require.Len(t, got, 1, "%q", name)
		require.Equal(t, name, got[0].Event.StreamID)
	}
}

func TestTypesAndMetadataOfAnyKindAreKept(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	for i, typ := range []string{"plain", "a\nb", "$esdb-x", "$>?", strings.Repeat("long", 100), "ä"} {
		for j, custom := range []string{"", `{"a":"b"}`, `{"b":"1","a":"2"}`, `{ "a" : "b" }`, `{"a":1}`, "\xff\x00", `[]`, `{}`, `null`,
			`{"$correlationId":"9f2a0f4e-7c3f-4c8a-9a57-1b4b7f5d8f10","x":"<&>"}`, `{"$correlationId":"9F2A"}`, `{"$esdb.metadata":"x"}`, `{"a":"b","a":"c"}`} {
			e := esdb.EventData{EventID: uuid.New(), EventType: typ, ContentType: esdb.ContentTypeBinary, Data: []byte{0, 255}, Metadata: []byte(custom)}
			f.must(t, "s-1", esdb.Any{}, e)
			list, err := collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1))
			require.NoError(t, err)
			got := list[0].Event
			require.Equal(t, typ, got.EventType, "%d", i)
			require.Equal(t, custom, string(got.UserMetadata), "%d", j)
			require.Equal(t, "application/octet-stream", got.ContentType)
			require.Equal(t, []byte{0, 255}, got.Data)
		}
	}
}

func TestAnAppendThatIsTooLargeWritesNothing(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	big := event("big")
	big.Data = make([]byte, 1<<20)
	_, err := f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, big)
	require.Error(t, err)
	require.Empty(t, f.readAll(t))
	big.Data = make([]byte, 1<<20-100)
	f.must(t, "s-1", esdb.Any{}, big)
}

func TestLinksAreResolvedWhereTheyLeadSomewhere(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	link := func(data string) esdb.EventData {
		return esdb.EventData{EventID: uuid.New(), EventType: "$>", ContentType: esdb.ContentTypeBinary, Data: []byte(data)}
	}
	f.must(t, "links", esdb.Any{}, link("1@s-1"), link("9@s-1"), link("0@none"), link("nonsense"))
	list, err := collect(f.ReadStream(t.Context(), "links", esdb.ReadStreamOptions{ResolveLinkTos: true}, 10))
	require.NoError(t, err)
	require.Len(t, list, 4)
	require.Equal(t, "b", list[0].Event.EventType)
	require.Equal(t, "links", list[0].Link.StreamID)
	require.Nil(t, list[1].Event)
	require.EqualValues(t, 1, list[1].Link.EventNumber)
	require.Nil(t, list[2].Event)
	require.Nil(t, list[3].Link, "a link that is none is an event")
	list, err = collect(f.ReadStream(t.Context(), "links", esdb.ReadStreamOptions{}, 10))
	require.NoError(t, err)
	require.Equal(t, "$> $> $> $>", types(list))
}
