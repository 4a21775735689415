package program

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/presence"
)

func TestAStoreWithoutANetworkHasNone(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	require.Equal(t, &Network{}, network("test", store, nil))
}

func TestProcessesOnOneNATSStoreHaveTheirPeopleInCommon(t *testing.T) {
	t.Parallel()
	place, err := ParsePlace("", natstest.Run(t).URL(), nil)
	require.NoError(t, err)
	nodes := map[string]*presence.Presence{}
	for _, node := range []string{"a", "b", "another program"} {
		store, err := place.Open(t.Context(), "test", nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = store.Close() })
		name := "test"
		if len(node) > 1 {
			name = node
		}
		nodes[node], err = presence.New(&presence.Options{Node: node, Transport: network(name, store, nil).Presence})
		require.NoError(t, err)
		t.Cleanup(func() { _ = nodes[node].Close() })
	}
	diffs, err := nodes["b"].Diffs("room")
	require.NoError(t, err)
	defer diffs.Close()
	for _, node := range []string{"another program", "a"} {
		_, err := nodes[node].Connect().Track("room", "user of "+node, nil)
		require.NoError(t, err)
	}
	diff, err := diffs.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"user of a"}, diff.Joined)
}

func TestTheSecretIsThatOfTheEnvironment(t *testing.T) {
	p := (&app{}).program()
	start := p.Start
	var got *Network
	p.Start = func(ctx context.Context, s *eventstore.Store, n *Network) (*App, error) {
		got = n
		return start(ctx, s, n)
	}
	run := func() (int, string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var errs bytes.Buffer
		status := p.Run(ctx, []string{"-addr", "localhost:0", "-store", "memory:"}, &first{stop: func(string) { cancel() }}, &errs)
		return status, errs.String()
	}
	secret := strings.Repeat("s", minSecret)
	t.Setenv(secretVariable, secret)
	status, errs := run()
	require.Zero(t, status, errs)
	require.Equal(t, secret, string(got.Secret))
	t.Setenv(secretVariable, "short")
	status, errs = run()
	require.Equal(t, 1, status)
	require.Contains(t, errs, "LEVADA_SECRET has 5 bytes")
	require.NotContains(t, errs, "short")
}
