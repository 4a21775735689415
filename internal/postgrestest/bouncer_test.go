package postgrestest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestABouncerLendsConnectionsForATransaction(t *testing.T) {
	t.Parallel()
	s := Start(t)
	b := StartBouncer(t, s, "default_pool_size = 1")
	address := b.Through(s.URL(t))
	one, other := connect(t, address), connect(t, address)
	const pid = "SELECT pg_backend_pid()"
	require.Equal(t, ask[int](t, one, pid), ask[int](t, other, pid))
}
