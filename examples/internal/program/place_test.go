package program

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAPlaceSaysWhereThingsAreAndHidesPasswords(t *testing.T) {
	t.Parallel()
	file := func() (string, error) { return "default.db", nil }
	for _, c := range []struct{ db, store, says string }{
		{"", "", "default.db"},
		{"a.db", "", "a.db"},
		{"", "sqlite:b.db", "b.db"},
		{"", "memory:", "memory, and forgotten at the end"},
		{"", "nats+embedded:c", "nats+embedded:c"},
		{"", "postgres://ann:hush@localhost/x", "postgres://ann:***@localhost/x"},
		{"", "nats://ann:hush@a,nats://ann:hush@b", "nats://ann:***@a,nats://ann:***@b"},
	} {
		p, err := ParsePlace(c.db, c.store, file)
		require.NoError(t, err)
		require.Equal(t, c.says, p.String())
	}
	_, err := ParsePlace("", "", func() (string, error) { return "", errors.New("no home") })
	require.ErrorContains(t, err, "there is no folder for data (no home); name a file with -db")
	_, err = ParsePlace("", "mysql://ann:hush@b", file)
	require.ErrorContains(t, err, `-store "mysql://ann:***@b" is not one of memory:`)
}

func TestAStoreThatDoesNotAnswerIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://ann:hush@127.0.0.1:1/x", "nats://ann:hush@127.0.0.1:1", "esdb://ann:hush@127.0.0.1:1?tls=false", "kurrentdb://ann:hush@127.0.0.1:1?tls=false"} {
		t.Run(url[:4], func(t *testing.T) {
			t.Parallel()
			p, err := ParsePlace("", url, nil)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err = p.Open(ctx, "test", nil)
			require.ErrorContains(t, err, "cannot open "+p.String())
			require.NotContains(t, err.Error(), "hush")
		})
	}
}
