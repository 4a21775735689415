package aggregate_test

import (
	"context"
	"strings"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// tagged are accounts whose events say whose they are and of what kind; deposits of 13 are bad luck.
func tagged() *aggregate.Type[account] {
	typ := accounts()
	typ.Tags = func(id string, e event) []string {
		tags := []string{"account:" + id}
		if d, ok := e.(deposited); ok {
			switch d.Amount {
			case 13:
				panic("bad luck")
			case 14:
				return append(tags, "")
			}
			tags = append(tags, "deposit")
		}
		return tags
	}
	return typ
}

func selected(t *testing.T, s *eventstore.Store, tags ...string) (data []any) {
	t.Helper()
	ts, err := s.Tags()
	require.NoError(t, err)
	for b, err := range ts.Read(t.Context(), eventstore.Query{{Tags: tags}}, 0) {
		require.NoError(t, err)
		for _, r := range b.Events {
			data = append(data, r.Data)
		}
	}
	return data
}

func TestEventsAreStoredWithTheTagsOfTheType(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, tagged())
	for _, c := range []aggregate.Command[account]{deposit{"a", 5}, deposit{"b", 6}, withdraw{"a", 2}} {
		_, err := r.Execute(t.Context(), c)
		require.NoError(t, err)
	}
	require.Equal(t, []any{deposited{5}, withdrawn{2}}, selected(t, s, "account:a"))
	require.Equal(t, []any{deposited{5}, deposited{6}}, selected(t, s, "deposit"))
	require.Equal(t, []any{deposited{6}}, selected(t, s, "deposit", "account:b"))
}

func TestTagsThatCannotBeStoredFailOnlyTheirCommand(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, tagged())
	var pending []*command.Pending
	require.NoError(t, r.View(t.Context(), "a", func(*account, eventstore.Version) {
		// While the account is looked at, commands gather for one append.
		for _, amount := range []int{1, 14, 2, 13, 3} {
			pending = append(pending, r.Submit(context.Background(), deposit{"a", amount}))
		}
	}))
	for i, p := range pending {
		res, err := p.Wait(t.Context())
		require.False(t, res.Refused)
		switch i {
		case 1:
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			require.ErrorContains(t, err, "empty tag")
		case 3:
			var panicked *command.PanicError
			require.ErrorAs(t, err, &panicked)
			require.Equal(t, "bad luck", panicked.Value)
		default:
			require.NoError(t, err)
		}
	}
	require.Equal(t, []any{deposited{1}, deposited{2}, deposited{3}}, selected(t, s, "account:a"))
}

func TestATypeRegistersItsEventsForThoseWhoOnlyRead(t *testing.T) {
	t.Parallel()
	typ := accounts()
	type old struct{ Cents int }
	typ.Upcasts = []eventstore.Upcast{eventstore.UpcastFrom("paid in", func(o old) deposited { return deposited{o.Cents / 100} })}
	s := memstore.Open(nil)
	require.NoError(t, typ.Register(&s.Types))
	require.NoError(t, typ.Register(&s.Types), "again is no error")
	name, ok := s.Types.Name(deposited{})
	require.True(t, ok)
	require.Equal(t, "deposited", name)
	_, err := s.Append(t.Context(), "account-a", eventstore.Any,
		eventstore.Event{Type: "paid in", ContentType: "application/json", Raw: []byte(`{"Cents":700}`)})
	require.NoError(t, err)
	for r, err := range s.ReadStream(t.Context(), "account-a", 0) {
		require.NoError(t, err)
		require.Equal(t, deposited{7}, r.Data)
	}

	clash := memstore.Open(nil)
	require.NoError(t, clash.Types.Register("deposited", withdrawn{}))
	err = typ.Register(&clash.Types)
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.True(t, strings.HasPrefix(err.Error(), "aggregate account:"), err)
}
