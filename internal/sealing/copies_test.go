package sealing_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/internal/sealing"
)

type note struct {
	User string
	Text string `shred:"User"`
}

func open(t *testing.T, seal eventstore.Sealer) sealing.Copies {
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Seal: seal}})
	t.Cleanup(func() { _ = s.Close() })
	return sealing.Of(s)
}

func TestACopyIsErasedWithAnyOfItsSubjects(t *testing.T) {
	t.Parallel()
	sealer := shred.New(&shred.Memory{}, nil)
	c := open(t, sealer)
	place := sealing.Place("a", "b")
	box, err := c.SealWhole(t.Context(), place, "x", nil, []byte(`"secret"`), []string{"bob", "ann", "bob"})
	require.NoError(t, err)
	require.NotContains(t, string(box), "secret")
	require.Equal(t, []string{"ann", "bob"}, c.Kept(box))
	data, err := c.Open(t.Context(), place, "x", box)
	require.NoError(t, err)
	require.Equal(t, `"secret"`, string(data))
	_, err = c.Open(t.Context(), sealing.Place("ab"), "x", box)
	require.ErrorIs(t, err, shred.ErrSealed, "elsewhere")
	yes, err := c.Readable(t.Context(), "ann")
	require.NoError(t, err)
	require.True(t, yes)

	require.NoError(t, sealer.Shred(t.Context(), "ann"))
	_, err = c.Open(t.Context(), place, "x", box)
	require.ErrorIs(t, err, eventstore.ErrErased)
	yes, err = c.Readable(t.Context(), "ann")
	require.NoError(t, err)
	require.False(t, yes)
	box, err = c.SealWhole(t.Context(), place, "x", nil, []byte(`"secret"`), []string{"ann", "bob"})
	require.NoError(t, err, "sealing for her is no error")
	require.NotContains(t, string(box), "secret")
	_, err = c.Open(t.Context(), place, "x", box)
	require.ErrorIs(t, err, eventstore.ErrErased)
}

func TestTagsOfACopyCountBeforeItsSubjects(t *testing.T) {
	t.Parallel()
	sealer := shred.New(&shred.Memory{}, nil)
	c := open(t, sealer)
	n := note{"ann", "secret"}
	data, err := json.Marshal(n)
	require.NoError(t, err)
	seal := func() json.RawMessage {
		box, err := c.Seal(t.Context(), eventstore.ID{}, "x", n, data, []string{"bob"})
		require.NoError(t, err)
		require.NotContains(t, string(box), "secret")
		return box
	}
	box := seal()
	require.Equal(t, []string{"ann"}, c.Kept(box))
	require.Equal(t, []string{"ann"}, c.Owners("x", n))
	require.NoError(t, sealer.Shred(t.Context(), "bob"))
	data, err = c.Open(t.Context(), eventstore.ID{}, "x", box)
	require.NoError(t, err)
	require.JSONEq(t, `{"User":"ann","Text":"secret"}`, string(data))
	require.NoError(t, sealer.Shred(t.Context(), "ann"))
	for _, box := range []json.RawMessage{box, seal()} {
		out, err := c.Open(t.Context(), eventstore.ID{}, "x", box)
		require.NoError(t, err)
		require.JSONEq(t, `{"User":"ann"}`, string(out))
	}
	box, err = c.Seal(t.Context(), eventstore.ID{}, "x", note{}, []byte(`{"User":"","Text":""}`), nil)
	require.NoError(t, err)
	require.Nil(t, box, "it does not know yet whose it is, and says nothing")
	require.NoError(t, c.Check("x", note{}))
	require.Error(t, c.Check("x", struct {
		A string `shred:"B"`
	}{}))
}

func TestWithoutSubjectsACopyStaysInTheClear(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]sealing.Copies{"no sealer": open(t, nil), "no subjects": open(t, shred.New(&shred.Memory{}, nil)), "none": {}} {
		box, err := c.SealWhole(t.Context(), eventstore.ID{}, "x", 7, []byte("7"), nil)
		require.NoError(t, err, name)
		require.Nil(t, box, name)
	}
}

// A Sealer that knows no subjects seals every copy.
func TestAnySealerSealsCopies(t *testing.T) {
	t.Parallel()
	f := &flip{}
	c := open(t, f)
	box, err := c.SealWhole(t.Context(), eventstore.ID{}, "x", note{}, []byte(`{}`), nil)
	require.NoError(t, err)
	require.True(t, json.Valid(box))
	data, err := c.Open(t.Context(), eventstore.ID{}, "x", box)
	require.NoError(t, err)
	require.Equal(t, `{}`, string(data))
	f.err = eventstore.ErrErased
	_, err = c.Open(t.Context(), eventstore.ID{}, "x", box)
	require.ErrorIs(t, err, eventstore.ErrErased)
	box, err = c.SealWhole(t.Context(), eventstore.ID{}, "x", note{}, []byte(`{}`), nil)
	require.NoError(t, err)
	f.err = nil
	_, err = c.Open(t.Context(), eventstore.ID{}, "x", box)
	require.ErrorIs(t, err, eventstore.ErrErased, "it was erased before it was sealed")
	_, err = sealing.Copies{}.Open(t.Context(), eventstore.ID{}, "x", json.RawMessage(`{"$sealed":{}}`))
	require.ErrorIs(t, err, eventstore.ErrCodec, "the store has no Sealer any more")
	_, err = c.Open(t.Context(), eventstore.ID{}, "x", json.RawMessage(`7`))
	require.ErrorIs(t, err, eventstore.ErrCodec)
}

type flip struct{ err error }

func (f *flip) Seal(_ context.Context, e *eventstore.Event, data []byte) ([]byte, error) {
	_ = e.Data.(note) // it may look
	return f.turn(data)
}

func (f *flip) Open(_ context.Context, _ *eventstore.Recorded, data []byte) ([]byte, error) {
	return f.turn(data)
}

func (f *flip) turn(data []byte) ([]byte, error) {
	out := make([]byte, len(data))
	for i, b := range data {
		out[i] = ^b
	}
	return out, f.err
}
