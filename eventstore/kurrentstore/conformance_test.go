package kurrentstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
)

// serve starts a server on a store in memory.
func serve(t testing.TB, opt *esdbdev.Options) *esdbdev.Server {
	t.Helper()
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	return serveStore(t, s, opt)
}

func serveStore(t testing.TB, s *eventstore.Store, opt *esdbdev.Options) *esdbdev.Server {
	t.Helper()
	server, err := esdbdev.New(s, opt)
	require.NoError(t, err)
	require.NoError(t, server.Start("127.0.0.1:0"))
	t.Cleanup(func() { server.Close() })
	return server
}

func openDriver(t testing.TB, url string, opt *Options) *store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d, err := OpenDriver(ctx, url, opt)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d.(*store)
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Open: func(t testing.TB) driver.Store {
			return openDriver(t, serve(t, nil).URL(), nil)
		},
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			addr := d.(*store).g.conf.Address
			require.NoError(t, d.Close())
			return openDriver(t, "esdb://"+addr+"?tls=false", nil)
		},
	})
}
