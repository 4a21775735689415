package natsstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/stacktest"
	"github.com/levada-go/levada/internal/natstest"
)

// process opens a store through a connection of its own, as another process would.
func process(t testing.TB, nodes *natstest.Nodes, name string, replicas int) *store {
	t.Helper()
	s, err := open(t.Context(), nodes.Connect(t), &Options{Name: name, Replicas: replicas, Timeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// rest lets the clients work for a while.
func rest(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// ends has two processes work while servers of a cluster end, in turn the leader and another,
// and come back.
func ends(t *testing.T, times int, end func(*natstest.Node)) {
	nodes := natstest.Processes(t, 3, false)
	name := fresh()
	stores := []driver.Store{process(t, nodes, name, 3), process(t, nodes, name, 3)}
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: stores, Deletes: true, Timeout: 30 * time.Second,
		Fault: func(ctx context.Context) {
			for i := range times {
				rest(ctx, 500*time.Millisecond)
				victim := nodes.Leader(t, name)
				if i%2 == 1 {
					victim = nodes.Other(victim)
				}
				end(victim)
				rest(ctx, time.Second)
				victim.Start(t)
				nodes.Wait(t)
			}
			rest(ctx, 500*time.Millisecond)
		},
	})
}

func TestItIsLinearizableThoughServersAreKilled(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the leader of three servers is killed")
	}
	times := 2
	if soak() {
		times = 20
	}
	ends(t, times, func(n *natstest.Node) { n.Kill(t) })
}

func TestItIsLinearizableThoughServersAreRestarted(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("three servers are restarted")
	}
	times := 2
	if soak() {
		times = 20
	}
	ends(t, times, func(n *natstest.Node) { n.Stop(t) })
}

func TestAggregatesOfTwoProcessesAreAsOne(t *testing.T) {
	t.Parallel()
	nodes := natstest.Shared(t, 3)
	name := fresh()
	aggregatetest.Shared(t, func(t testing.TB) (a, b *eventstore.Store) {
		return eventstore.New(process(t, nodes, name, 3), nil), eventstore.New(process(t, nodes, name, 3), nil)
	})
}

func TestEverythingAboveTheStoreWhileServersEnd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("the leader of three servers is killed")
	}
	// One leader after the other, but with time between them in which a process can begin and end.
	times, between := 1, time.Second
	if soak() {
		times, between = 20, 5*time.Second
	}
	nodes := natstest.Processes(t, 3, false)
	name := fresh()
	process(t, nodes, name, 3)
	stacktest.Run(t, stacktest.Options{
		Open: func(t testing.TB) driver.Store {
			nc := nodes.Connect(t)
			for {
				// What an append waits at most is less than a store takes to close.
				s, err := open(t.Context(), nc, &Options{Name: name, Replicas: 3, Timeout: 5 * time.Second})
				if errors.Is(err, context.DeadlineExceeded) && t.Context().Err() == nil {
					continue // there is no leader yet
				}
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, s.Close()) })
				return s
			}
		},
		Fault: func(ctx context.Context) {
			for range times {
				rest(ctx, between)
				leader := nodes.Leader(t, name)
				leader.Kill(t)
				rest(ctx, time.Second)
				leader.Start(t)
				nodes.Wait(t)
			}
			rest(ctx, time.Second)
		},
	})
}
