package program

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

func TestAStoreWithoutANetworkHasNone(t *testing.T) {
	t.Setenv(secretVariable, "")
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	n, err := network("test", store)
	require.NoError(t, err)
	require.Equal(t, &Network{}, n)
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
