package kurrentstore

import (
	"context"
	"flag"
	"os"
	"regexp"
	"strings"
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
		set := map[string]bool{}
		flag.Visit(func(f *flag.Flag) { set[f.Name] = true })
		// Each history is some hundred calls over gRPC, which the race detector makes nine times as long.
		if !set["rapid.checks"] {
			flag.Set("rapid.checks", "10")
		}
		if !set["test.run"] && !set["test.skip"] {
			flag.Set("test.skip", quiet())
		}
	}
	os.Exit(m.Run())
}

// alone are the longest tests of the suite of drivers with one goroutine that calls: the race detector
// has nothing to find in them that it does not find in the others, and they run without it.
var alone = map[string][]string{
	"Append": {
		"an event may be as large as is allowed, whatever it consists of", "as many events as are allowed are one append in order",
		"names that are alike are different streams",
	},
	"ReadStream": {"a page that is not full ends with the last event, however long the stream"},
	"ReadAll":    {"a long log reads whole, both ways", "from every position, both ways, with every limit"},
	"Delete": {
		"truncating step by step adds up", "truncating less than before is a no-op", "a stream can be deleted over and over",
		"a hole in the log does not stop readers", "a stream truncated before 2 of 10 begins there, for every reader",
		"a stream truncated before 5 of 10 begins there, for every reader", "a stream truncated before 10 of 10 begins there, for every reader",
	},
}

// quiet is the pattern of their names.
func quiet() string {
	var patterns []string
	for feature, tests := range alone {
		for i, name := range tests {
			tests[i] = regexp.QuoteMeta(strings.ReplaceAll(name, " ", "_"))
		}
		patterns = append(patterns, "^TestConformance$/^"+feature+"$/^("+strings.Join(tests, "|")+")$")
	}
	return strings.Join(patterns, "|")
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
