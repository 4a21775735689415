package eventstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

func TestNamesAndTypesClash(t *testing.T) {
	t.Parallel()
	var types eventstore.Types
	require.NoError(t, types.Register("deposited", Deposited{}))
	require.NoError(t, types.Register("deposited", Deposited{}), "the same again")
	require.ErrorIs(t, types.Register("deposited", Noted{}), eventstore.ErrInvalid)
	require.ErrorIs(t, types.Register("deposited.2", Deposited{}), eventstore.ErrInvalid)
	require.ErrorIs(t, types.Register("", Noted{}), eventstore.ErrInvalid)
	require.ErrorIs(t, types.Register("x", nil), eventstore.ErrInvalid)
	require.ErrorIs(t, types.Register("x", &Noted{}), eventstore.ErrInvalid)
	name, ok := types.Name(Deposited{})
	require.True(t, ok)
	require.Equal(t, "deposited", name)
	name, ok = eventstore.NameOf[Deposited](&types)
	require.True(t, ok)
	require.Equal(t, "deposited", name)
	_, ok = types.Name(Noted{})
	require.False(t, ok)
	_, ok = types.Name(nil)
	require.False(t, ok)
}

type embedded struct{ X int }

func TestTypesThatTheCodecWouldChangeAreRefused(t *testing.T) {
	t.Parallel()
	type node struct {
		Next *node
		X    int
	}
	for name, good := range map[string]any{
		"plain":      Deposited{},
		"references": Noted{},
		"time":       struct{ T time.Time }{},
		"uuid":       struct{ ID uuid.UUID }{},
		"raw":        struct{ R json.RawMessage }{},
		"left out": struct {
			X func() `json:"-"`
		}{},
		"embedded":     struct{ embedded }{},
		"recursive":    node{},
		"string map":   struct{ M map[string]int }{},
		"int map":      struct{ M map[int]string }{},
		"uuid map":     struct{ M map[uuid.UUID]string }{},
		"own encoding": Lossy{},
		"not a struct": 7,
	} {
		var types eventstore.Types
		require.NoError(t, types.Register("x", good), name)
	}
	for name, bad := range map[string]any{
		"unexported": struct{ x int }{},
		"deep": struct {
			A []struct{ B map[string]struct{ c int } }
		}{},
		"channel":           struct{ C chan int }{},
		"func":              struct{ F func() }{},
		"interface":         struct{ A any }{},
		"complex":           struct{ C complex128 }{},
		"struct map":        struct{ M map[struct{ X int }]int }{},
		"embedded pointer":  struct{ *embedded }{},
		"element":           struct{ A [2]chan int }{},
		"pointer":           struct{ P *any }{},
		"encoding only out": onlyOut{},
	} {
		var types eventstore.Types
		require.ErrorIs(t, types.Register("x", bad), eventstore.ErrCodec, name)
	}
}

type onlyOut struct{ x int }

func (o onlyOut) MarshalJSON() ([]byte, error) { return json.Marshal(o.x) }

func TestAnUnknownTypeNeverFailsAReader(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	newer := open(t, d, nil)
	require.NoError(t, newer.Types.Register("unknown", Unknown{}))
	_, err := newer.Append(t.Context(), "a-1", eventstore.Any, eventstore.Event{Data: Unknown{}}, deposits(1)[0])
	require.NoError(t, err)
	older := open(t, d, nil)
	var got []*eventstore.Recorded
	for r, err := range older.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		got = append(got, r)
	}
	require.Len(t, got, 2)
	require.Nil(t, got[0].Data)
	require.NoError(t, got[0].Err)
	require.Equal(t, "unknown", got[0].Type)
	require.JSONEq(t, `{}`, string(got[0].Raw))
	require.Equal(t, Deposited{1}, got[1].Data)
}

func TestAnEventThatCannotBeDecodedIsDeliveredWithItsError(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any,
		eventstore.Event{Type: "deposited", Raw: []byte(`{"Amount":"x"}`), ContentType: "application/json"},
		eventstore.Event{Type: "deposited", Raw: []byte{1}, ContentType: "application/x-strange"},
		deposits(1)[0])
	require.NoError(t, err)
	var got []*eventstore.Recorded
	for r, err := range s.ReadStream(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		got = append(got, r)
	}
	require.Len(t, got, 3)
	for _, r := range got[:2] {
		require.Nil(t, r.Data)
		require.ErrorIs(t, r.Err, eventstore.ErrCodec)
		require.NotEmpty(t, r.Raw)
	}
	require.ErrorContains(t, got[0].Err, "a-1 version 1, a deposited")
	require.NoError(t, got[2].Err)
	sub, err := eventstore.SubscribeTo[Deposited](t.Context(), s, eventstore.Filter{}, eventstore.Origin())
	require.NoError(t, err)
	require.Equal(t, []Deposited{{1}}, (<-sub.C).Events, "subscriptions pass over it")
}

type (
	depositedV1 struct{ Cents string }
	depositedV2 struct{ Cents int }
	transferred struct{ In, Out int }
	forgotten   struct{ X int }
	looping     struct{ X int }
	looping2    struct{ X int }
	exploding   struct{ X int }
)

func upcasts(t testing.TB, s *eventstore.Store) {
	t.Helper()
	require.NoError(t, s.Types.Add(
		eventstore.UpcastFrom("deposited.v1", func(o depositedV1) depositedV2 { var d depositedV2; fmt.Sscan(o.Cents, &d.Cents); return d }),
		eventstore.UpcastFrom("deposited.v2", func(o depositedV2) Deposited { return Deposited{o.Cents} }),
		eventstore.UpcastSplit("transferred", func(o transferred) []any { return []any{Deposited{o.In}, Noted{[]string{"out"}}, depositedV2{o.Out}} }),
		eventstore.UpcastSplit("forgotten", func(forgotten) []any { return nil }),
		eventstore.UpcastFrom("looping", func(o looping) looping2 { return looping2(o) }),
		eventstore.UpcastFrom("looping2", func(o looping2) looping { return looping(o) }),
		eventstore.UpcastFrom("exploding", func(o exploding) Deposited { panic("boom") }),
	))
}

func old(name, json string) eventstore.Event {
	return eventstore.Event{Type: name, Raw: []byte(json), ContentType: "application/json"}
}

func TestUpcasts(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	upcasts(t, s)
	ctx := t.Context()
	_, err := s.Append(ctx, "a-1", eventstore.Any,
		old("deposited.v1", `{"Cents":"12"}`), old("forgotten", `{}`), old("transferred", `{"In":1,"Out":2}`), deposits(5)[0], old("forgotten", `{}`))
	require.NoError(t, err)
	type seen struct {
		Data    any
		Version eventstore.Version
		Part    int
		Type    string
	}
	read := func(seq func(func(*eventstore.Recorded, error) bool)) (out []seen) {
		for r, err := range seq {
			require.NoError(t, err)
			out = append(out, seen{r.Data, r.Version, r.Part, r.Type})
		}
		return out
	}
	want := []seen{
		{Deposited{12}, 1, 0, "deposited"},
		{Deposited{1}, 3, 0, "deposited"}, {Noted{[]string{"out"}}, 3, 1, "noted"}, {Deposited{2}, 3, 2, "deposited"},
		{Deposited{5}, 4, 0, "deposited"},
	}
	require.Equal(t, want, read(s.ReadStream(ctx, "a-1", 0)))
	back := []seen{want[4], want[3], want[2], want[1], want[0]}
	require.Equal(t, back, read(s.ReadStreamBackward(ctx, "a-1", 0)))
	require.Equal(t, back, read(s.ReadAllBackward(ctx, eventstore.Filter{}, 0)))
	require.Equal(t, []seen{want[0], want[1], want[3], want[4]},
		read(s.ReadAll(ctx, eventstore.Filter{Types: []string{"deposited"}}, 0)), "a filter by type finds its old forms")
	require.Equal(t, []seen{want[0]},
		read(s.ReadAll(ctx, eventstore.Filter{Types: []string{"deposited.v1"}}, 0)), "and old forms by their own names")
	for p, err := range s.ReadStreamPages(ctx, "a-1", 0) {
		require.NoError(t, err)
		require.EqualValues(t, 1, p.First)
		require.EqualValues(t, 5, p.Last, "what an upcast left nothing of counts")
		require.Len(t, p.Events, 5)
	}
	for _, from := range []eventstore.Start{eventstore.Origin(), eventstore.After(2)} {
		sub, err := eventstore.SubscribeTo[Deposited](ctx, s, eventstore.Filter{}, from)
		require.NoError(t, err)
		b := <-sub.C
		require.Equal(t, []Deposited{{1}, {2}, {5}}, b.Events[len(b.Events)-3:])
		require.EqualValues(t, 5, b.Position)
	}
	sub, err := eventstore.SubscribeTo[Deposited](ctx, s, eventstore.Filter{}, eventstore.Start{})
	require.NoError(t, err)
	_, err = s.Append(ctx, "a-2", eventstore.Any, old("transferred", `{"In":8,"Out":9}`))
	require.NoError(t, err)
	require.Equal(t, []Deposited{{8}, {9}}, (<-sub.C).Events, "live ones too")
}

func TestUpcastsThatGoWrong(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	upcasts(t, s)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, old("looping", `{}`), old("exploding", `{}`), deposits(1)[0])
	require.NoError(t, err)
	n := 0
	for r, err := range s.ReadStream(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		if n++; n < 3 {
			require.ErrorIs(t, r.Err, eventstore.ErrCodec)
			require.Nil(t, r.Data)
		}
	}
	require.Equal(t, 3, n)
	require.ErrorIs(t, s.Types.Add(eventstore.UpcastFrom("same", func(o forgotten) forgotten { return o })), eventstore.ErrInvalid)
	require.ErrorIs(t, s.Types.Add(eventstore.UpcastFrom("deposited", func(o forgotten) Deposited { return Deposited{} })), eventstore.ErrInvalid)
	require.ErrorIs(t, s.Types.Add(eventstore.Upcast{}), eventstore.ErrInvalid)
	require.NoError(t, s.Types.Add(eventstore.UpcastSplit("forgotten", func(forgotten) []any { return []any{Deposited{9}} })), "the last func counts")
}

// reverse is a codec that is not JSON.
type reverse struct{}

func (reverse) ContentType() string { return "application/x-esrever" }
func (reverse) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return flip(b), err
}
func (reverse) Unmarshal(b []byte, v any) error { return json.Unmarshal(flip(b), v) }
func (reverse) Lossless(t reflect.Type) error {
	if t == reflect.TypeFor[Unknown]() {
		return fmt.Errorf("%w: not this one", eventstore.ErrCodec)
	}
	return nil
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[len(b)-1-i] = c
	}
	return out
}

func TestTheFirstCodecWritesAndTheContentTypeChoosesTheReader(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	before := open(t, d, nil)
	_, err := before.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	s := open(t, d, &eventstore.Options{Codecs: []eventstore.Codec{reverse{}, eventstore.JSON}, Verify: true})
	require.ErrorIs(t, s.Types.Register("unknown", Unknown{}), eventstore.ErrCodec, "the codec is asked")
	require.NoError(t, s.Types.Register("opaque", struct{ x int }{}), "and what it says counts")
	_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(2)...)
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, amounts(t, s, "a-1"))
	for r, err := range s.ReadStream(t.Context(), "a-1", 1) {
		require.NoError(t, err)
		require.Equal(t, `}2:"tnuomA"{`, string(r.Raw))
		require.Equal(t, "application/x-esrever", r.ContentType)
	}
}

// shredder seals with a key an event's stream, and can forget it.
type shredder struct{ forgotten map[string]bool }

func (z shredder) Seal(_ context.Context, e *eventstore.Event, data []byte) ([]byte, error) {
	if e.Data == (Deposited{13}) {
		return nil, errors.New("no key")
	}
	if e.Metadata == nil {
		e.Metadata = map[string]string{}
	}
	e.Metadata["key"] = fmt.Sprint("k", e.Data.(Deposited).Amount)
	return flip(data), nil
}

func (z shredder) Open(_ context.Context, r *eventstore.Recorded, data []byte) ([]byte, error) {
	if z.forgotten[r.Metadata["key"]] {
		return nil, fmt.Errorf("key %s: %w", r.Metadata["key"], eventstore.ErrErased)
	}
	if r.Metadata["key"] == "k4" {
		return nil, errors.New("vault unreachable")
	}
	return flip(data), nil
}

func TestSealedEvents(t *testing.T) {
	t.Parallel()
	z := shredder{map[string]bool{}}
	s := open(t, memstore.NewDriver(), &eventstore.Options{Seal: z})
	events := deposits(1, 2, 4)
	events[0].Metadata = map[string]string{"user": "ann"}
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, events...)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"user": "ann"}, events[0].Metadata, "the caller's map is its own")
	_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(13)...)
	require.ErrorContains(t, err, "no key")
	z.forgotten["k2"] = true
	var got []*eventstore.Recorded
	for r, err := range s.ReadStream(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		got = append(got, r)
	}
	require.Len(t, got, 3)
	require.Equal(t, Deposited{1}, got[0].Data)
	require.Equal(t, `}1:"tnuomA"{`, string(got[0].Raw))
	require.Equal(t, map[string]string{"user": "ann", "key": "k1"}, got[0].Metadata)
	require.Equal(t, eventstore.Erased{}, got[1].Data)
	require.NoError(t, got[1].Err)
	require.Nil(t, got[2].Data)
	require.ErrorContains(t, got[2].Err, "vault unreachable")
}

func TestSnapshots(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]driver.Store{"kept by the driver": memstore.NewDriver(), "kept in a stream": plainDriver{memstore.NewDriver()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, d, nil)
			ctx := t.Context()
			got, err := s.LoadSnapshot(ctx, "a-1")
			require.NoError(t, err)
			require.Zero(t, got)
			json := eventstore.Snapshot{Version: 3, Schema: 2, Data: []byte(`{"x":1}`), Keys: []eventstore.KeyAt{{Key: "k", Version: 2, Position: 9}}}
			require.NoError(t, s.SaveSnapshot(ctx, "a-1", json))
			got, err = s.LoadSnapshot(ctx, "a-1")
			require.NoError(t, err)
			require.Equal(t, json, got)
			older := json
			older.Version = 2
			require.NoError(t, s.SaveSnapshot(ctx, "a-1", older), "a lower version is a no-op")
			got, err = s.LoadSnapshot(ctx, "a-1")
			require.NoError(t, err)
			require.Equal(t, json, got)
			binary := eventstore.Snapshot{Version: 4, Data: []byte{0, 255, '{'}}
			require.NoError(t, s.SaveSnapshot(ctx, "a-1", binary))
			got, err = s.LoadSnapshot(ctx, "a-1")
			require.NoError(t, err)
			require.Equal(t, binary, got)
			require.ErrorIs(t, s.SaveSnapshot(ctx, "", binary), eventstore.ErrInvalid)
		})
	}
}

func TestDeletingAStreamTakesItsSnapshotAlong(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	for _, remove := range []func(eventstore.StreamName) error{
		func(n eventstore.StreamName) error { return s.Delete(ctx, n, eventstore.Exactly(1)) },
		func(n eventstore.StreamName) error { return s.Purge(ctx, n) },
	} {
		name := eventstore.Stream("a", eventstore.NewID().String())
		_, err := s.Append(ctx, name, eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		require.NoError(t, s.SaveSnapshot(ctx, name, eventstore.Snapshot{Version: 1, Data: []byte("1")}))
		require.NoError(t, remove(name))
		got, err := s.LoadSnapshot(ctx, name)
		if err == nil {
			require.Zero(t, got)
		} else {
			require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
		}
	}
}

func FuzzStreamNameValidate(f *testing.F) {
	for _, s := range []string{"", "a-b", "\x00", "é\n", "\xff", "a\u0085"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ok := len(s) >= 1 && len(s) <= 255 && utf8.ValidString(s)
		for _, r := range s {
			if r < 0x20 || r >= 0x7f && r < 0xa0 {
				ok = false
			}
		}
		require.Equal(t, ok, eventstore.StreamName(s).Validate() == nil, "%q", s)
	})
}

func TestFiltersAgreeWithTheDrivers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SampledFrom([]string{"a-1", "a-2", "b-1", "a", "$s-1", "$s"})
		cats := rapid.SampledFrom([]string{"a", "b", "$s"})
		types := rapid.SampledFrom([]string{"x", "y"})
		df := driver.Filter{
			Streams:    rapid.SliceOfN(names, 0, 2).Draw(t, "streams"),
			Categories: rapid.SliceOfN(cats, 0, 2).Draw(t, "categories"),
			Types:      rapid.SliceOfN(types, 0, 2).Draw(t, "types"),
		}
		f := eventstore.Filter{Categories: df.Categories, Types: df.Types}
		for _, s := range df.Streams {
			f.Streams = append(f.Streams, eventstore.StreamName(s))
		}
		stream, typ := names.Draw(t, "stream"), types.Draw(t, "type")
		require.Equal(t, df.Match(stream, typ), f.Match(eventstore.StreamName(stream), typ))
	})
}

func TestNothingOfOneEventShowsInTheNext(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(5)[0], old("deposited", `{}`),
		eventstore.Event{Data: Noted{[]string{"a", "b"}}}, old("noted", `{}`))
	require.NoError(t, err)
	var got []any
	for r, err := range s.ReadStream(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		got = append(got, r.Data)
	}
	require.Equal(t, []any{Deposited{5}, Deposited{}, Noted{[]string{"a", "b"}}, Noted{}}, got)
}

type (
	partly struct {
		Kept int
		Left string `json:"-"`
	}
	dated  struct{ At time.Time }
	nested struct {
		In  [2]Deposited
		Ref *int
	}
)

// Whether a subscriber gets the value that was appended or one that was decoded,
// it is what a later reader gets.
func TestSubscribersAndReadersGetTheSameValues(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), &eventstore.Options{})
	n := 7
	events := []eventstore.Event{
		{Data: Deposited{1}}, {Data: Noted{[]string{"x"}}}, {Data: partly{1, "not stored"}},
		{Data: dated{time.Now()}}, {Data: nested{[2]Deposited{{1}, {2}}, &n}}, {Data: Lossy{3}},
	}
	for i, e := range events[2:] {
		require.NoError(t, s.Types.Register(fmt.Sprint("t", i), e.Data))
	}
	sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[any]{Map: func(r *eventstore.Recorded) any { return r.Data }})
	require.NoError(t, err)
	_, err = s.Append(t.Context(), "a-1", eventstore.Any, events...)
	require.NoError(t, err)
	live := receive(t, sub.C, len(events))
	n = 8 // the caller's own
	i := 0
	for r, err := range s.ReadStream(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		require.Equal(t, r.Data, live[i])
		i++
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"deposited", "noted", "deposited.v1", "transferred", "exploding", "unknown"} {
		f.Add(name, []byte(`{"Amount":1,"Words":["x"],"Cents":"2"}`))
	}
	s := open(f, memstore.NewDriver(), &eventstore.Options{})
	upcasts(f, s)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		stream := eventstore.Stream("a", eventstore.NewID().String())
		_, err := s.Append(context.Background(), stream, eventstore.Any, eventstore.Event{Type: name, Raw: data, ContentType: "application/json"})
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			return
		}
		for r, err := range s.ReadStream(context.Background(), stream, 0) {
			require.NoError(t, err)
			require.True(t, r.Data == nil || r.Err == nil)
			require.Equal(t, string(data), string(r.Raw))
		}
	})
}

func FuzzLoadSnapshot(f *testing.F) {
	f.Add([]byte(`{"state":{},"keys":[{"key":"k","version":1}]}`))
	f.Add([]byte(`{"bytes":"AAEC"}`))
	d := memstore.NewDriver()
	s := open(f, d, nil)
	f.Fuzz(func(t *testing.T, data []byte) {
		require.NoError(t, d.(driver.Snapshotter).SaveSnapshot(context.Background(), "a-1", driver.Snapshot{Version: 1, Data: data}))
		snap, err := s.LoadSnapshot(context.Background(), "a-1")
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrCodec)
			return
		}
		require.EqualValues(t, 1, snap.Version)
		require.NoError(t, s.SaveSnapshot(context.Background(), "a-2", eventstore.Snapshot{Version: 1, Data: snap.Data, Keys: snap.Keys}))
	})
}
