package kurrentstore

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/freeport"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if name := os.Getenv(childEnv); name != "" {
		os.Exit(children[name]())
	}
	if raceEnabled && !soak() {
		// Each history is some hundred calls over gRPC, which the race detector makes six times as long.
		set := false
		flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
		if !set {
			flag.Set("rapid.checks", "15")
		}
	}
	os.Exit(m.Run())
}

func soak() bool { return os.Getenv("LEVADA_SOAK") != "" }

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
	require.NoError(t, freeport.Start(server.Start))
	t.Cleanup(func() { server.Close() })
	return server
}

func openDriver(t testing.TB, url string, opt *Options) *store {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	d, err := OpenDriver(ctx, url, opt)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d.(*store)
}

func TestConformance(t *testing.T) {
	again := func(t testing.TB, d driver.Store) driver.Store {
		return openDriver(t, "esdb://"+d.(*store).g.conf.Address+"?tls=false", nil)
	}
	h := drivertest.Harness{
		LooseDelete: true, // of two processes: see doc.go
		Open: func(t testing.TB) driver.Store {
			return openDriver(t, serve(t, nil).URL(), nil)
		},
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			require.NoError(t, d.Close())
			return again(t, d)
		},
	}
	if !raceEnabled || soak() { // it doubles the time
		h.Peer = again
	}
	drivertest.Run(t, h)
}
