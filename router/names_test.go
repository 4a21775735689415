package router_test

import (
	"encoding/json"
	"testing"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/router"
	"github.com/stretchr/testify/require"
)

type order struct {
	ID    string
	Lines []line
	Tags  map[string]int
	Note  *string `json:",omitempty"`
}

type line struct {
	Item string `json:"item"`
	N    int    `json:"n"`
}

func (o order) AggregateID() string { return o.ID }

type renamed struct{ ID string }

func (r *renamed) AggregateID() string { return r.ID }

type secretive struct{ id string }

func (s secretive) AggregateID() string { return s.id }

type grumpy struct{}

func (grumpy) AggregateID() string          { return "" }
func (*grumpy) UnmarshalJSON([]byte) error  { panic("no") }
func (grumpy) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }

func names(t testing.TB) *router.Names {
	t.Helper()
	var n router.Names
	require.NoError(t, n.Register("order.place", order{}))
	require.NoError(t, n.Register("order.rename", &renamed{}))
	require.NoError(t, n.Register("grumpy", grumpy{}))
	return &n
}

func TestCommandsThatArriveAsBytes(t *testing.T) {
	t.Parallel()
	n := names(t)
	c, err := n.Decode("order.place", []byte(` {"ID":"7","Lines":[{"item":"tea","n":2},{"item":"tea","n":2}],"Tags":{"a":1,"A":2}} `))
	require.NoError(t, err)
	require.Equal(t, order{ID: "7", Lines: []line{{"tea", 2}, {"tea", 2}}, Tags: map[string]int{"a": 1, "A": 2}}, c)
	c, err = n.Decode("order.rename", []byte(`{"ID":"7"}`))
	require.NoError(t, err)
	require.Equal(t, &renamed{"7"}, c)
	c, err = n.Decode("order.place", []byte(`{}`))
	require.NoError(t, err)
	require.Equal(t, order{}, c)

	name, data, err := n.Encode(&renamed{"8"})
	require.NoError(t, err)
	require.Equal(t, "order.rename", name)
	require.Equal(t, `{"ID":"8"}`, string(data))
	_, _, err = n.Encode(renamedByValue{})
	require.ErrorIs(t, err, command.ErrUnrouted)
	require.Equal(t, []command.Command{grumpy{}, order{}, &renamed{}}, n.Commands())
}

type renamedByValue struct{}

func (renamedByValue) AggregateID() string { return "" }

func TestMalformedCommandsAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	n := names(t)
	tests := []struct{ name, data, says string }{
		{"nothing", ``, "unexpected end"},
		{"space", ` `, "unexpected end"},
		{"null", `null`, "want an object"},
		{"array", `[]`, "want an object"},
		{"number", `1`, "want an object"},
		{"cut off", `{"ID":"7"`, "unexpected end"},
		{"syntax", `{"ID":}`, "at byte 7"},
		{"unknown field", `{"ID":"7","Colour":"red"}`, `"Colour"`},
		{"unknown field below", `{"Lines":[{"price":1}]}`, `"price"`},
		{"field twice", `{"ID":"7","ID":"8"}`, `"ID" occurs twice`},
		{"field twice below", `{"Lines":[{"n":1},{"n":1,"n":2}]}`, `"Lines.n" occurs twice`},
		{"wrong type", `{"ID":7}`, "ID"},
		{"fraction", `{"Lines":[{"n":1.5}]}`, "n"},
		{"too large", `{"Lines":[{"n":1e99}]}`, "n"},
		{"two values", `{}{}`, "after top-level value"},
		{"rubbish behind", `{"ID":"7"}x`, "after top-level value"},
		{"not UTF-8", "{\"ID\":\"\xff\"}", "UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := n.Decode("order.place", []byte(tt.data))
			require.ErrorIs(t, err, router.ErrMalformed)
			require.ErrorContains(t, err, "order.place")
			require.ErrorContains(t, err, tt.says)
		})
	}
	_, err := n.Decode("order.cancel", []byte(`{}`))
	require.ErrorIs(t, err, command.ErrUnrouted)
	require.ErrorContains(t, err, "order.cancel")
	_, err = n.Decode("grumpy", []byte(`{}`))
	require.ErrorIs(t, err, router.ErrMalformed)
	var p *command.PanicError
	require.ErrorAs(t, err, &p)
	var empty router.Names
	_, err = empty.Decode("x", nil)
	require.ErrorIs(t, err, command.ErrUnrouted)
}

func TestNamesThatClashAreRefused(t *testing.T) {
	t.Parallel()
	n := names(t)
	require.NoError(t, n.Register("order.place", order{}), "the same again")
	require.ErrorIs(t, n.Register("order.place", invite{}), eventstore.ErrInvalid)
	require.ErrorIs(t, n.Register("order.put", order{}), eventstore.ErrInvalid)
	require.ErrorIs(t, n.Register("", invite{}), eventstore.ErrInvalid)
	require.ErrorIs(t, n.Register("x", nil), eventstore.ErrInvalid)
	require.ErrorIs(t, n.Register("secret", secretive{}), eventstore.ErrCodec)
}

func FuzzNamesDecode(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"ID":"7","Lines":[{"item":"tea","n":2}],"Tags":{"a":1},"Note":"x"}`, `{"ID":"7","ID":"8"}`,
		`{"id":"7"}`, `[`, `{"Lines":null,"Tags":null}`, `{"ID":"\ud800"}`, `{"Lines":[[[[[[[[[[`, "\xff", `{"":1}`,
	} {
		f.Add("order.place", []byte(s))
	}
	n := names(f)
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		c, err := n.Decode(name, data)
		if err != nil {
			require.Nil(t, c)
			return
		}
		require.True(t, json.Valid(data))
		again, data, err := n.Encode(c)
		require.NoError(t, err)
		require.Equal(t, name, again)
		d, err := n.Decode(name, data)
		require.NoError(t, err)
		_, twice, err := n.Encode(d)
		require.NoError(t, err)
		require.Equal(t, string(data), string(twice))
	})
}
