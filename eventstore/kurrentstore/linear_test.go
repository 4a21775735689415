package kurrentstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/stacktest"
)

// long multiplies how often something goes wrong, in tests that may take long.
func long(n int) int {
	if soak() {
		return 20 * n
	}
	return n
}

// rest lets the clients work for a while.
func rest(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

func TestItIsLinearizableThoughAnswersAreLostAndTheServerStops(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: []driver.Store{openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)}, Deletes: true, LooseDelete: true,
		Fault: func(ctx context.Context) {
			for i := range long(6) {
				for _, f := range []esdbdev.Fault{
					{Method: esdbdev.MethodAppend, Times: 1 + i%3, When: esdbdev.AfterCommit},
					{Method: esdbdev.MethodAppend, Times: 1 + i%2, When: esdbdev.BeforeCommit},
					{Method: esdbdev.MethodRead, Times: 1 + i%3, Events: 1},
					{Method: esdbdev.MethodDelete, Times: 1, When: esdbdev.AfterCommit},
					{Method: esdbdev.MethodAppend, Times: 1, When: esdbdev.AfterCommit, Delay: 50 * time.Millisecond},
				} {
					remove := server.Inject(f)
					rest(ctx, 30*time.Millisecond)
					remove()
				}
				if i%2 == 1 {
					addr := server.Addr()
					server.Stop()
					rest(ctx, 20*time.Millisecond)
					require.NoError(t, server.Start(addr))
				}
			}
		},
	})
}

// The leader changes over and over, and the one before shows nothing of what comes
// after it.
func TestItIsLinearizableThoughTheLeaderChanges(t *testing.T) {
	t.Parallel()
	a, b := cluster(t)
	url := "esdb://" + a.Addr() + "," + b.Addr() + "?tls=false"
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: []driver.Store{openDriver(t, url, nil), openDriver(t, url, nil)}, Deletes: true, LooseDelete: true,
		Fault: func(ctx context.Context) {
			for i := range long(6) {
				rest(ctx, 100*time.Millisecond)
				require.NoError(t, b.SetRole(ctx, esdbdev.Role{Followers: []string{a.Addr()}}))
				require.NoError(t, a.SetRole(ctx, esdbdev.Role{Leader: b.Addr(), Lag: true}))
				if i%2 == 1 {
					addr := a.Addr()
					a.Stop()
					rest(ctx, 50*time.Millisecond)
					require.NoError(t, a.Start(addr))
				}
				a, b = b, a
			}
		},
	})
}

func TestAggregatesOfTwoProcessesAreAsOne(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	aggregatetest.Shared(t, func(t testing.TB) (a, b *eventstore.Store) {
		return eventstore.New(openDriver(t, server.URL(), nil), nil), eventstore.New(openDriver(t, server.URL(), nil), nil)
	})
}

func TestEverythingAboveTheStoreWhileTheServerStops(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	stacktest.Run(t, stacktest.Options{
		Open: func(t testing.TB) driver.Store { return openDriver(t, server.URL(), nil) },
		Fault: func(ctx context.Context) {
			for range long(3) {
				rest(ctx, 600*time.Millisecond)
				addr := server.Addr()
				server.Stop()
				rest(ctx, 50*time.Millisecond)
				require.NoError(t, server.Start(addr))
			}
		},
	})
}
