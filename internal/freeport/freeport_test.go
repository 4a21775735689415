package freeport_test

import (
	"errors"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/freeport"
)

func TestPortsAreFreeAndDifferent(t *testing.T) {
	t.Parallel()
	ports, err := freeport.Take(20)
	require.NoError(t, err)
	require.Len(t, ports, 20)
	for _, port := range ports {
		require.Less(t, port, 32768, "below those that Linux hands out")
		l, err := net.Listen("tcp", freeport.Addr(port))
		require.NoError(t, err, "or it is there twice")
		defer l.Close()
	}
}

func TestStartGoesOnUntilAPortWillDo(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	seen := map[string]bool{}
	start := func(last int) func(string) error {
		return func(addr string) error {
			seen[addr] = true
			if len(seen) < last {
				return bad
			}
			return nil
		}
	}
	require.NoError(t, freeport.Start(start(3)))
	require.Len(t, seen, 3)
	clear(seen)
	require.ErrorIs(t, freeport.Start(start(100)), bad)
	require.Len(t, seen, 10)
}
