package kurrentstore

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

var (
	idA = uuid.MustParse("6f1c7a52-0d34-4b6e-9f5f-0a1b2c3d4e5f")
	idB = uuid.MustParse("00000000-0000-0000-0000-000000000001")
)

// onServer is an event as the server would send it back.
func onServer(t testing.TB, e *driver.Event) *recorded {
	t.Helper()
	p, _, err := encode(e)
	require.NoError(t, err)
	meta := maps.Clone(p.Metadata)
	meta[wireCreated] = "17637408001234567"
	return &recorded{
		Id: p.Id, Metadata: meta, CustomMetadata: p.CustomMetadata, Data: p.Data,
		StreamRevision: 6, CommitPosition: 901, PreparePosition: 901,
	}
}

func TestAnEventIsStoredAsTheServersToolsExpectIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		event    driver.Event
		wire     string // content type
		metadata string
	}{
		{"JSON", driver.Event{ContentType: "application/json", Data: []byte(`{"a": 1}`)}, wireJSON, ``},
		{"JSON of a kind of its own", driver.Event{ContentType: "application/vnd.room+json", Data: []byte(`1`)}, wireJSON, `{"$contentType":"application/vnd.room+json"}`},
		{"what says it is JSON, but is not", driver.Event{ContentType: "application/json", Data: []byte{1, 2}}, wireBinary, `{"$contentType":"application/json"}`},
		{"bytes", driver.Event{ContentType: "application/octet-stream", Data: []byte(`{}`)}, wireBinary, ``},
		{"bytes of a type", driver.Event{ContentType: "application/protobuf", Data: []byte{8}}, wireBinary, `{"$contentType":"application/protobuf"}`},
		{"bytes of no type", driver.Event{Data: []byte{8}}, wireBinary, `{"$contentType":""}`},
		{"conversation", driver.Event{ContentType: "application/octet-stream", Correlation: idA, Causation: idB}, wireBinary,
			`{"$causationId":"00000000-0000-0000-0000-000000000001","$correlationId":"6f1c7a52-0d34-4b6e-9f5f-0a1b2c3d4e5f"}`},
		{"metadata and tags", driver.Event{ContentType: "application/octet-stream", Tags: []string{"b", "a"}, Metadata: map[string]string{"user": "ann <x>", "$key": "k"}}, wireBinary,
			`{"$key":"k","$tags":["b","a"],"user":"ann <x>"}`},
		{"metadata with names that are taken", driver.Event{ContentType: "application/octet-stream", Metadata: map[string]string{"$tags": "x", "k": "v"}}, wireBinary,
			`{"$metadata":{"$tags":"x"},"k":"v"}`},
	} {
		c.event.ID, c.event.Type = idA, "opened"
		p, size, err := encode(&c.event)
		require.NoError(t, err, c.name)
		require.Equal(t, map[string]string{"type": "opened", "content-type": c.wire}, p.Metadata, c.name)
		require.Equal(t, c.metadata, string(p.CustomMetadata), c.name)
		require.Equal(t, len(p.Data)+len(p.CustomMetadata)+2*len("opened"), size, c.name)
		r, err := decode(onServer(t, &c.event), "s-1")
		require.NoError(t, err, c.name)
		if c.event.Data == nil {
			c.event.Data = []byte{}
		}
		require.Equal(t, driver.Recorded{Event: c.event, Stream: "s-1", Version: 7, Position: 901,
			Time: time.Date(2025, 11, 21, 16, 0, 0, 123456700, time.UTC)}, r, c.name)
	}
}

func TestMetadataOfOtherProgramsIsReadAsItIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, stored string
		want         driver.Event
	}{
		{"none", ``, driver.Event{}},
		{"an empty object", `{}`, driver.Event{}},
		{"null", `null`, driver.Event{Metadata: map[string]string{"$raw": "null"}}},
		{"strings", `{"a":"b", "c": ""}`, driver.Event{Metadata: map[string]string{"a": "b", "c": ""}}},
		{"other values are their text", `{"n": 1.50, "b": true, "o": {"x" : [1, null]}, "z": null}`,
			driver.Event{Metadata: map[string]string{"n": "1.50", "b": "true", "o": `{"x" : [1, null]}`, "z": "null"}}},
		{"an array", `[1,2]`, driver.Event{Metadata: map[string]string{"$raw": "[1,2]"}}},
		{"text", `hello`, driver.Event{Metadata: map[string]string{"$raw": "hello"}}},
		{"a cut object", `{"a":`, driver.Event{Metadata: map[string]string{"$raw": `{"a":`}}},
		{"bytes", "\xff\x00", driver.Event{Metadata: map[string]string{"$rawBase64": "/wA="}}},
		{"ids by the convention", `{"$correlationId":"6f1c7a52-0d34-4b6e-9f5f-0a1b2c3d4e5f","$causationId":"00000000-0000-0000-0000-000000000001"}`,
			driver.Event{Correlation: idA, Causation: idB}},
		{"ids that are none of ours", `{"$correlationId":"order 7","$causationId":12}`,
			driver.Event{Metadata: map[string]string{"$correlationId": "order 7", "$causationId": "12"}}},
		{"tags that are none", `{"$tags":["a",1]}`, driver.Event{Metadata: map[string]string{"$tags": `["a",1]`}}},
		{"no id", `{"$noId":true}`, driver.Event{}},
		{"members that are reserved, of another form", `{"$contentType":7,"$metadata":[],"$noId":1}`,
			driver.Event{Metadata: map[string]string{"$contentType": "7", "$metadata": "[]", "$noId": "1"}}},
	} {
		var e driver.Event
		decodeMetadata(&e, []byte(c.stored))
		require.Equal(t, c.want, e, c.name)
	}
}

func TestEveryEventReadsAsItWasWritten(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "$correlationId", "$tags", "$metadata", "$raw", "$noId", "\x00", "é\u2028<&>"}))
	id := rapid.Custom(func(t *rapid.T) [16]byte {
		return [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	})
	rapid.Check(t, func(t *rapid.T) {
		e := driver.Event{
			ID: id.Draw(t, "id"), Type: text.Draw(t, "type"),
			ContentType: rapid.OneOf(text, rapid.SampledFrom([]string{"application/json", "application/octet-stream", "x+json"})).Draw(t, "content type"),
			Data:        rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.SampledFrom([][]byte{{}, []byte("{}"), []byte("[1]")})).Draw(t, "data"),
			Metadata:    rapid.MapOfN(text, text, 0, 5).Draw(t, "metadata"),
			Tags:        rapid.SliceOfN(text, 0, 3).Draw(t, "tags"),
			Correlation: id.Draw(t, "correlation"), Causation: id.Draw(t, "causation"),
		}
		if len(e.Metadata) == 0 {
			e.Metadata = nil
		}
		if len(e.Tags) == 0 {
			e.Tags = nil
		}
		if len(e.Data) == 0 {
			e.Data = []byte{}
		}
		p, _, err := encode(&e)
		require.NoError(t, err)
		r, err := decode(&recorded{Id: p.Id, Metadata: map[string]string{wireType: e.Type, wireContentType: p.Metadata[wireContentType], wireCreated: "1"},
			CustomMetadata: p.CustomMetadata, Data: p.Data, CommitPosition: 1, PreparePosition: 1}, "s")
		require.NoError(t, err)
		require.Equal(t, e, r.Event)
	})
}

func TestWhatCannotBeSentIsRefusedBefore(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]driver.Event{
		"type":         {Type: "\xff"},
		"content type": {Type: "t", ContentType: "\xff"},
		"key":          {Type: "t", Metadata: map[string]string{"\xff": ""}},
		"value":        {Type: "t", Metadata: map[string]string{"k": "\xff"}},
		"tag":          {Type: "t", Tags: []string{"\xff"}},
	} {
		_, _, err := encode(&e)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
}

func TestAnEventThatCannotBePlacedIsAClearError(t *testing.T) {
	t.Parallel()
	good := func() *recorded { return onServer(t, &driver.Event{ID: idA, Type: "t"}) }
	_, err := decode(good(), "s")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		spoil func(*recorded)
		want  error
		says  string
	}{
		"a transaction":            {func(e *recorded) { e.PreparePosition = 900 }, ErrTransaction, "committed at 901, prepared at 900"},
		"no position":              {func(e *recorded) { e.CommitPosition, e.PreparePosition = math.MaxUint64, math.MaxUint64 }, ErrServer, "at which position"},
		"no time":                  {func(e *recorded) { delete(e.Metadata, wireCreated) }, ErrServer, "created"},
		"a time that is no number": {func(e *recorded) { e.Metadata[wireCreated] = "now" }, ErrServer, "now"},
		"no id":                    {func(e *recorded) { e.Id = nil }, ErrServer, "the id"},
		"an id that is none":       {func(e *recorded) { e.Id = &shared.UUID{Value: &shared.UUID_String_{String_: "x"}} }, ErrServer, "the id"},
	} {
		e := good()
		c.spoil(e)
		_, err := decode(e, "s")
		require.ErrorIs(t, err, c.want, name)
		require.ErrorContains(t, err, c.says, name)
	}
	e := good()
	e.Id = &shared.UUID{Value: &shared.UUID_String_{String_: idB.String()}}
	r, err := decode(e, "s")
	require.NoError(t, err)
	require.Equal(t, [16]byte(idB), r.ID, "an id as text")
}

func FuzzMetadata(f *testing.F) {
	for _, s := range []string{``, `{}`, `null`, `{"a":"b"}`, `{"a":1,"$tags":["x"],"$correlationId":"x"}`, `[`, "\xff", `{"$metadata":{"$raw":"x"}}`, `{"a":"\ud800"}`, "{\"\xff\":\"\xff\"}", `{"a":{"b":` + "\"\xff\"" + `}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e driver.Event
		decodeMetadata(&e, data)
		for k, v := range e.Metadata {
			require.True(t, utf8.ValidString(k) && utf8.ValidString(v), "%q: %q", k, v)
		}
		if len(data) > 0 && !json.Valid(data) {
			require.Len(t, e.Metadata, 1, "nothing is lost")
		}
		// What was read can be written, and reads the same.
		e.ID, e.Type = idA, "t"
		if !utf8.ValidString(e.ContentType) {
			return
		}
		r, err := decode(onServer(t, &e), "s")
		require.NoError(t, err)
		require.Equal(t, e.Metadata, r.Metadata)
		require.Equal(t, e.Tags, r.Tags)
	})
}

func TestStreamsHaveNamesOfTheirOwnOnTheServer(t *testing.T) {
	t.Parallel()
	for stream, server := range map[string]string{
		"room-1": "room-1", "$snapshot-room-1": "levada.sys.snapshot-room-1", "$": "levada.sys.", "levada.system": "levada.system", "a$$b": "a$$b",
		strings.Repeat("x", 255): strings.Repeat("x", 255),
	} {
		name, err := serverName(stream)
		require.NoError(t, err, stream)
		require.Equal(t, server, name)
		back, ok := streamName(name)
		require.True(t, ok)
		require.Equal(t, stream, back)
	}
	for name, c := range map[string]struct {
		stream string
		err    error
	}{
		"empty":                  {"", eventstore.ErrInvalid},
		"the library's prefix":   {"levada.sys.x", eventstore.ErrInvalid},
		"the driver's own":       {"levada.sys.$clock", eventstore.ErrInvalid},
		"the server's metadata":  {"$$room-1", eventstore.ErrInvalid},
		"what is not text":       {"a\xff", eventstore.ErrInvalid},
		"one that is too long":   {strings.Repeat("x", 256), driver.ErrTooLarge},
		"one of the library's,…": {"$" + strings.Repeat("x", 255), driver.ErrTooLarge},
	} {
		_, err := serverName(c.stream)
		require.ErrorIs(t, err, c.err, name)
	}
	for _, server := range []string{"", "$stats-0.0.0.0:2113", "$$room-1", "$ce-room", clockStream, checkpointPrefix + "x", "$$" + leasePrefix + "x"} {
		_, ok := streamName(server)
		require.False(t, ok, server)
	}
	require.True(t, isSelf(clockStream) && isSelf("$$"+clockStream))
	require.False(t, isSelf("levada.sys.x") || isSelf("$$room-1") || isSelf("room-1"))
}

func TestMetadataOfAStreamKeepWhatOthersPutThere(t *testing.T) {
	t.Parallel()
	m := &streamMeta{version: 3, members: map[string]json.RawMessage{"$acl": json.RawMessage(`{"$r":["a","b"]}`), "big": json.RawMessage("12345678901234567890")}}
	n := m.with(metaTruncate, 7)
	text, err := json.Marshal(n.members)
	require.NoError(t, err)
	require.JSONEq(t, `{"$acl":{"$r":["a","b"]},"$tb":7,"big":12345678901234567890}`, string(text))
	require.Equal(t, uint64(7), n.truncateBefore())
	require.NotContains(t, m.members, metaTruncate)
	require.Equal(t, strconv.FormatUint(uint64(math.MaxInt64), 10), string(n.with(metaTruncate, softDeleted).members[metaTruncate]))
}
