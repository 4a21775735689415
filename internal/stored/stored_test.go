package stored_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/stored"
)

type value struct{ ID string }

func (v value) AggregateID() string { return v.ID }

type pointer struct{ ID string }

func (p *pointer) AggregateID() string { return p.ID }

type strange struct{ Fn func() }

func (strange) AggregateID() string { return "" }

func TestCommandsSurviveBeingStored(t *testing.T) {
	t.Parallel()
	c, err := stored.New(map[string]command.Command{"v": value{}, "p": &pointer{}})
	require.NoError(t, err)
	for name, cmd := range map[string]command.Command{"v": value{"1"}, "p": &pointer{"2"}} {
		got, data, err := c.Encode(cmd)
		require.NoError(t, err)
		require.Equal(t, name, got)
		back, err := c.Decode(name, data)
		require.NoError(t, err)
		require.Equal(t, cmd, back)
	}
	back, err := c.Decode("v", []byte(`{"ID":"1","Gone":7}`))
	require.NoError(t, err, "fields may go")
	require.Equal(t, value{"1"}, back)
}

func TestCommandsThatCannotBeStoredAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]command.Command{"": value{}, "nil": nil, "strange": strange{}} {
		_, err := stored.New(map[string]command.Command{name: c})
		require.Error(t, err, name)
	}
	_, err := stored.New(map[string]command.Command{"a": value{}, "b": value{}})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	c, err := stored.New(map[string]command.Command{"v": value{}})
	require.NoError(t, err)
	_, _, err = c.Encode(&pointer{})
	require.ErrorIs(t, err, stored.ErrUnnamed)
	_, err = c.Decode("p", []byte(`{}`))
	require.ErrorIs(t, err, stored.ErrUnnamed)
	_, err = c.Decode("v", []byte(`[]`))
	require.ErrorIs(t, err, eventstore.ErrCodec)
}
