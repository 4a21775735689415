package shred_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
)

type Registered struct {
	User  string
	Email string   `shred:"User" json:"email"`
	Likes []string `shred:"User"`
	Plan  string
}

type Noted struct{ User, Text string }

type Moved struct {
	ID   int
	City string `shred:"ID" json:",omitempty"`
}

func open(t testing.TB, keys shred.Keys, o *shred.Options) (*eventstore.Store, *shred.Sealer) {
	sealer := shred.New(keys, o)
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: sealer}})
	t.Cleanup(func() { _ = store.Close() })
	for name, e := range map[string]any{"registered": Registered{}, "noted": Noted{}, "moved": Moved{}, "free": map[string]string{}} {
		require.NoError(t, store.Types.Register(name, e))
	}
	return store, sealer
}

func add(t testing.TB, store *eventstore.Store, data any) error {
	_, err := store.Append(t.Context(), "user-1", eventstore.Any, eventstore.Event{Data: data})
	return err
}

func read(t testing.TB, store *eventstore.Store) (list []*eventstore.Recorded) {
	for r, err := range store.ReadStream(t.Context(), "user-1", 0) {
		require.NoError(t, err)
		list = append(list, r)
	}
	return list
}

var ann = Registered{"ann", "ann@example.com", []string{"tea"}, "free"}

func TestSealedFieldsReadAsTheyWereUntilTheirSubjectIsShredded(t *testing.T) {
	t.Parallel()
	store, sealer := open(t, &shred.Memory{}, nil)
	bob := Registered{"bob", "bob@example.com", nil, "paid"}
	require.NoError(t, add(t, store, ann))
	require.NoError(t, add(t, store, bob))
	require.NoError(t, add(t, store, Moved{7, ""}))
	require.NoError(t, add(t, store, Noted{"ann", "hi"}))
	list := read(t, store)
	require.Equal(t, ann, list[0].Data)
	require.Equal(t, bob, list[1].Data)
	require.Equal(t, Moved{7, ""}, list[2].Data)
	require.JSONEq(t, `{"User":"ann","Text":"hi"}`, string(list[3].Raw))
	for _, secret := range []string{"ann@example.com", "tea", "bob@example.com"} {
		for _, r := range list {
			require.NotContains(t, string(r.Raw), secret)
		}
	}
	var object map[string]any
	require.NoError(t, json.Unmarshal(list[0].Raw, &object), "what is stored is JSON that tools can read")
	require.Equal(t, "free", object["Plan"])

	require.NoError(t, sealer.Shred(t.Context(), "ann"))
	require.NoError(t, sealer.Shred(t.Context(), "ann"), "again")
	list = read(t, store)
	require.Equal(t, Registered{User: "ann", Plan: "free"}, list[0].Data)
	require.NoError(t, list[0].Err)
	require.Equal(t, bob, list[1].Data, "nobody else is concerned")
	require.Equal(t, Noted{"ann", "hi"}, list[3].Data, "nor what was not sealed")
	require.ErrorIs(t, add(t, store, ann), eventstore.ErrErased, "nothing new is learnt")
	require.NoError(t, sealer.Shred(t.Context(), "cid"))
	require.ErrorIs(t, add(t, store, Registered{User: "cid"}), eventstore.ErrErased, "nor of one that had no key yet")
}

func TestWholeEventsReadAsErased(t *testing.T) {
	t.Parallel()
	store, sealer := open(t, &shred.Memory{}, &shred.Options{Subject: func(e *eventstore.Event) string {
		if n, ok := e.Data.(Noted); ok {
			return n.User
		}
		return ""
	}})
	require.NoError(t, add(t, store, Noted{"ann", "hi"}))
	require.NoError(t, add(t, store, Noted{"", "nobody's"}))
	list := read(t, store)
	require.Equal(t, Noted{"ann", "hi"}, list[0].Data)
	require.NotContains(t, string(list[0].Raw), "hi")
	require.NoError(t, sealer.Shred(t.Context(), "ann"))
	list = read(t, store)
	require.Equal(t, eventstore.Erased{}, list[0].Data)
	require.NoError(t, list[0].Err)
	require.Equal(t, Noted{"", "nobody's"}, list[1].Data)
}

func TestKeysAreRememberedForATime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		remember time.Duration
		after    time.Duration
		erased   bool
	}{
		"before":     {time.Minute, 59 * time.Second, false},
		"after":      {time.Minute, time.Minute, true},
		"default":    {0, time.Minute, true},
		"not at all": {-1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				keys := &shred.Memory{}
				store, _ := open(t, keys, &shred.Options{Remember: c.remember})
				require.NoError(t, add(t, store, ann))
				require.NoError(t, keys.Shred(t.Context(), "ann")) // in another process
				time.Sleep(c.after)
				require.Equal(t, c.erased, read(t, store)[0].Data.(Registered).Email == "")
			})
		})
	}
}

// slow lets a test shred while a key is on its way.
type slow struct {
	shred.Keys
	found chan func()
}

func (s slow) Find(ctx context.Context, subject string) ([]byte, error) {
	key, err := s.Keys.Find(ctx, subject)
	key = bytes.Clone(key)
	(<-s.found)()
	return key, err
}

func TestAKeyThatWasOnItsWayIsNotRemembered(t *testing.T) {
	t.Parallel()
	keys := &shred.Memory{}
	writer, _ := open(t, keys, nil)
	require.NoError(t, add(t, writer, Moved{7, "Rome"}))
	stored := read(t, writer)[0]
	s := slow{keys, make(chan func(), 2)}
	sealer := shred.New(s, nil)
	s.found <- func() { require.NoError(t, sealer.Shred(t.Context(), "7")) }
	data, err := sealer.Open(t.Context(), stored, stored.Raw)
	require.NoError(t, err)
	require.JSONEq(t, `{"ID":7,"City":"Rome"}`, string(data), "it was asked for before")
	s.found <- func() {}
	data, err = sealer.Open(t.Context(), stored, stored.Raw)
	require.NoError(t, err)
	require.JSONEq(t, `{"ID":7}`, string(data))
}

func TestWhatIsSealedCannotBeMovedOrChanged(t *testing.T) {
	t.Parallel()
	store, sealer := open(t, &shred.Memory{}, nil)
	require.NoError(t, add(t, store, ann))
	require.NoError(t, add(t, store, ann))
	list := read(t, store)
	_, err := sealer.Open(t.Context(), list[1], list[0].Raw)
	require.ErrorIs(t, err, shred.ErrSealed, "to another event")
	var object map[string]json.RawMessage
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(list[0].Raw, &object))
	require.NoError(t, json.Unmarshal(object["$sealed"], &fields))
	for name, change := range map[string]func(){
		"to another field": func() { fields["Plan"] = fields["email"] },
		"changed": func() {
			fields["email"] = json.RawMessage(`{"s":"ann","d":"` + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" + `"}`)
		},
		"short":           func() { fields["email"] = json.RawMessage(`{"s":"ann","d":"AAAA"}`) },
		"of another form": func() { fields["email"] = json.RawMessage(`7`) },
	} {
		require.NoError(t, json.Unmarshal(object["$sealed"], &fields))
		change()
		b, err := json.Marshal(map[string]any{"$sealed": fields})
		require.NoError(t, err)
		_, err = sealer.Open(t.Context(), list[0], b)
		require.ErrorIs(t, err, shred.ErrSealed, name)
	}
}

func TestWhatLooksSealedIsRefused(t *testing.T) {
	t.Parallel()
	store, _ := open(t, &shred.Memory{}, nil)
	require.ErrorContains(t, add(t, store, map[string]string{"$sealed": "x"}), "of its own")
	require.NoError(t, add(t, store, map[string]string{"x": "$sealed", "y": `"$sealed"`}))
	require.Equal(t, map[string]string{"x": "$sealed", "y": `"$sealed"`}, read(t, store)[0].Data)
	require.ErrorContains(t, add(t, store, Registered{Email: "x"}), "no subject")
	require.Len(t, read(t, store), 1)
}

func TestTagsAreChecked(t *testing.T) {
	t.Parallel()
	type inner struct {
		City string `shred:"User"`
	}
	for want, e := range map[string]any{
		"no field": struct {
			A string `shred:"B"`
		}{},
		"sealed itself": struct {
			A string `shred:"B"`
			B string `shred:"C"`
			C string
		}{},
		"cannot name": struct {
			A string `shred:"B"`
			B []int
		}{},
		"not stored": struct {
			A string `shred:"B" json:"-"`
			B string
		}{},
		"of the event itself": struct {
			User string
			In   []*inner
		}{},
		"of the event itself,": struct {
			User string
			In   map[string]inner
		}{},
		"embedded": struct {
			Noted `shred:"B"`
			B     string
		}{},
	} {
		err := shred.Check(e)
		require.Error(t, err, want)
		require.ErrorContains(t, err, want[:min(len(want), 18)])
	}
	require.NoError(t, shred.Check(Registered{}, &Noted{}, Moved{}, 7, nil, struct {
		At  time.Time
		Who eventstore.ID
		A   string `shred:"Who"`
	}{}))
}

func TestAKeyStoreThatFailsFailsTheAppend(t *testing.T) {
	t.Parallel()
	store, sealer := open(t, broken{}, nil)
	require.ErrorIs(t, add(t, store, ann), errBroken)
	require.ErrorIs(t, sealer.Shred(t.Context(), "ann"), errBroken)
	require.Empty(t, read(t, store))
	store, _ = open(t, short{}, nil)
	require.ErrorContains(t, add(t, store, ann), "3 bytes")
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) Make(context.Context, string) ([]byte, error) { return nil, errBroken }
func (broken) Find(context.Context, string) ([]byte, error) { return nil, errBroken }
func (broken) Shred(context.Context, string) error          { return errBroken }

type short struct{ broken }

func (short) Make(context.Context, string) ([]byte, error) { return []byte("abc"), nil }

// Whatever is stored of whomever, readers see what was written but for the fields of those who were shredded since.
func TestReadersSeeAllButTheShredded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		store, sealer := open(t, &shred.Memory{}, nil)
		gone := map[string]bool{}
		var want []Registered
		user := rapid.SampledFrom([]string{"ann", "bob", "cid", `"`, "$sealed"})
		for range rapid.IntRange(1, 20).Draw(r, "steps") {
			who := user.Draw(r, "user")
			if rapid.IntRange(0, 4).Draw(r, "shred") == 0 {
				require.NoError(r, sealer.Shred(t.Context(), who))
				gone[who] = true
				continue
			}
			e := Registered{who, rapid.String().Draw(r, "email"), rapid.SliceOfN(rapid.StringN(0, 5, 20), 1, 2).Draw(r, "likes"), rapid.String().Draw(r, "plan")}
			if b, err := json.Marshal(e); err != nil || json.Unmarshal(b, &e) != nil { // as JSON has it
				r.Fatal(err)
			}
			err := add(t, store, e)
			require.Equal(r, gone[who], errors.Is(err, eventstore.ErrErased), "%v", err)
			if err == nil {
				want = append(want, e)
			}
		}
		list := read(t, store)
		require.Len(r, list, len(want))
		for i, e := range want {
			if gone[e.User] {
				e.Email, e.Likes = "", nil
			}
			require.Equal(r, e, list[i].Data)
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"$sealed":{"":{"s":"a","d":"AAAA"}}}`))
	f.Add([]byte(`{"$sealed":{"x":{"s":"a","d":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}},"y":1}`))
	f.Add([]byte(`{"$sealed":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys := &shred.Memory{}
		_, _ = keys.Make(t.Context(), "a")
		out, err := shred.New(keys, nil).Open(t.Context(), &eventstore.Recorded{}, data)
		if err == nil && !bytes.Equal(out, data) && !json.Valid(out) {
			t.Fatalf("%s became %s", data, out)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	sealer := shred.New(&shred.Memory{}, nil)
	data, _ := json.Marshal(ann)
	e := &eventstore.Event{ID: eventstore.NewID(), Type: "registered", Data: ann, ContentType: "application/json"}
	var stored []byte
	b.Run("seal", func(b *testing.B) {
		for b.Loop() {
			var err error
			if stored, err = sealer.Seal(b.Context(), e, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	r := &eventstore.Recorded{Event: *e}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if _, err := sealer.Open(b.Context(), r, stored); err != nil {
				b.Fatal(err)
			}
		}
	})
}
