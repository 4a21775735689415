// Package engines has a store of each engine, for the tests of the examples.
//
//	func TestMain(m *testing.M) { os.Exit(engines.Main(m)) }
package engines

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/internal/postgrestest"
)

// Main runs the tests of a binary, stops the servers that they share, and returns what to exit with.
func Main(m *testing.M) int { return postgrestest.Main(m) }

// Each runs a test with the URL of a fresh store of each engine that keeps what a program has left in it. Where an
// engine is missing its test is skipped.
func Each(t *testing.T, test func(t *testing.T, url string)) {
	for _, e := range []struct {
		name string
		url  func(t *testing.T) string
	}{
		{"sqlite", func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "new", "events.db") }},
		{"postgres", func(t *testing.T) string { return postgrestest.URL(t) }},
		{"esdb", esdb},
		{"nats", func(t *testing.T) string { return natstest.Run(t).URL() }},
		{"nats+embedded", func(t *testing.T) string { return "nats+embedded:" + filepath.Join(t.TempDir(), "nats") }},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			test(t, e.url(t))
		})
	}
}

// esdb starts a server that speaks the protocol of EventStoreDB.
func esdb(t *testing.T) string {
	store := memstore.Open(nil)
	t.Cleanup(func() { _ = store.Close() })
	server, err := esdbdev.New(store, nil)
	require.NoError(t, err)
	require.NoError(t, server.Start("127.0.0.1:0"))
	t.Cleanup(func() { _ = server.Close() })
	return server.URL()
}

// Shared reports whether several processes may have a store at the same time.
func Shared(url string) bool {
	return !strings.HasPrefix(url, "sqlite:") && !strings.HasPrefix(url, "nats+embedded:")
}
