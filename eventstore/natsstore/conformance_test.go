package natsstore

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/internal/natstest"
)

// A yard makes stores on one server or cluster. A store that was closed is
// emptied and used again, since to make a JetStream stream takes longer than most
// tests: an election.
type yard struct {
	prefix string

	mu     sync.Mutex
	made   int
	closed []string // the longest closed first
	empty  []string // the longest empty first
}

// spare is how many closed stores are left alone, so that what a test has just
// closed it can open again, and how many empty ones, so that their replicas are
// empty, too.
const spare = 8

var yards sync.Map // by cluster

func yardOf(nodes *natstest.Nodes) *yard {
	y, _ := yards.LoadOrStore(nodes, &yard{prefix: "t"})
	return y.(*yard)
}

// name returns the name of a store that is empty, or that is not there.
func (y *yard) name(t testing.TB, nc *nats.Conn) string {
	y.mu.Lock()
	defer y.mu.Unlock()
	for len(y.closed) > spare {
		clear(t, nc, y.closed[0])
		y.closed, y.empty = y.closed[1:], append(y.empty, y.closed[0])
	}
	if len(y.empty) > spare {
		name := y.empty[0]
		y.empty = y.empty[1:]
		return name
	}
	y.made++
	return fmt.Sprintf("%s%d", y.prefix, y.made)
}

// clear empties the log and the buckets of a store.
func clear(t testing.TB, nc *nats.Conn, name string) {
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, stream := range []string{name, "KV_" + name + "-snap", "KV_" + name + "-cp", "KV_" + name + "-lease"} {
		info, err := lookUp(ctx, js, stream)
		require.NoError(t, err)
		if info != nil && info.State.Msgs > 0 {
			// A bound, since a request that was made again may be heard twice, late.
			require.NoError(t, (&link{nc: nc, stream: stream}).purge(ctx, ">", info.State.LastSeq+1))
		}
	}
}

func (y *yard) recycle(name string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.closed = append(y.closed, name)
}

// again takes back the name of a store that is to be opened again.
func (y *yard) again(name string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.closed = slices.DeleteFunc(y.closed, func(n string) bool { return n == name })
}

// openOn opens a new store through a connection.
func openOn(t testing.TB, nodes *natstest.Nodes, nc *nats.Conn, replicas int) *store {
	t.Helper()
	y := yardOf(nodes)
	s, err := open(t.Context(), nc, &Options{Name: y.name(t, nc), Replicas: replicas, Timeout: time.Minute, recycle: y.recycle})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func openTest(t testing.TB) *store {
	t.Helper()
	nodes := natstest.Shared(t, 1)
	return openOn(t, nodes, nodes.Connect(t), 1)
}

func harness(connect func(testing.TB) (*natstest.Nodes, *nats.Conn), replicas int) drivertest.Harness {
	return drivertest.Harness{
		Open: func(t testing.TB) driver.Store {
			nodes, nc := connect(t)
			return openOn(t, nodes, nc, replicas)
		},
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			require.NoError(t, d.Close())
			nodes, nc := connect(t)
			y, name := yardOf(nodes), d.(*store).opt.Name
			y.again(name)
			s, err := open(t.Context(), nc, &Options{Name: name, Timeout: time.Minute, recycle: y.recycle})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		},
		Peer: func(t testing.TB, d driver.Store) driver.Store {
			_, nc := connect(t)
			peer, err := nats.Connect(strings.Join(nc.Servers(), ","), nats.MaxReconnects(-1))
			require.NoError(t, err)
			t.Cleanup(peer.Close)
			s, err := open(t.Context(), peer, &Options{Name: d.(*store).opt.Name, Timeout: time.Minute})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close()) })
			return s
		},
	}
}

func TestConformanceOnOneServer(t *testing.T) {
	t.Parallel()
	nodes := natstest.Shared(t, 1)
	nc := nodes.Connect(t)
	drivertest.Run(t, harness(func(testing.TB) (*natstest.Nodes, *nats.Conn) { return nodes, nc }, 1))
}

func TestConformanceOnACluster(t *testing.T) {
	t.Parallel()
	if raceEnabled && !soak() {
		t.Skip("the race detector makes three servers in one process take minutes (LEVADA_SOAK=1); one has the same clients")
	}
	nodes := natstest.Shared(t, 3)
	nc := nodes.Connect(t)
	drivertest.Run(t, harness(func(testing.TB) (*natstest.Nodes, *nats.Conn) { return nodes, nc }, 3))
}

// TestConformanceOnAnExternalServer runs against the servers of LEVADA_NATS_URL,
// where it makes JetStream streams named levadatest… and removes them.
func TestConformanceOnAnExternalServer(t *testing.T) {
	t.Parallel()
	url := os.Getenv("LEVADA_NATS_URL")
	if url == "" {
		t.Skip("LEVADA_NATS_URL is not set")
	}
	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	external := &natstest.Nodes{}
	yards.Store(external, &yard{prefix: "levadatest" + newNonce()[:8]})
	t.Cleanup(func() {
		y := yardOf(external)
		for i := range y.made {
			name := fmt.Sprintf("%s%d", y.prefix, i+1)
			for _, stream := range []string{name, "KV_" + name + "-snap", "KV_" + name + "-cp", "KV_" + name + "-lease"} {
				_ = js.DeleteStream(context.Background(), stream)
			}
		}
	})
	drivertest.Run(t, harness(func(testing.TB) (*natstest.Nodes, *nats.Conn) { return external, nc }, 0))
}
