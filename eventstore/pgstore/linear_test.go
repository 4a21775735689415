package pgstore

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/stacktest"
	"github.com/levada-go/levada/internal/postgrestest"
)

// process opens the store of a database as another process would: with a pool of its own.
func process(t testing.TB, url string) *store {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	require.NoError(t, err)
	config.MaxConns = 8
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	var s *store
	for range 100 { // its connections may be cut, too
		if s, err = open(t.Context(), pool, nil); err == nil {
			break
		}
		rest(t.Context(), 20*time.Millisecond)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// long multiplies how often something goes wrong, in tests that may take long.
func long(n int) int {
	if os.Getenv("LEVADA_SOAK") != "" {
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

func TestItIsLinearizableThoughConnectionsAreCut(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	stores := []driver.Store{process(t, url), process(t, url)}
	admin, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close(context.Background()) })
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: stores, Deletes: true,
		Fault: func(ctx context.Context) {
			for range long(12) {
				rest(ctx, 100*time.Millisecond)
				_, err := admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
				require.NoError(t, err)
			}
		},
	})
}

func TestItIsLinearizableThoughTheServerIsKilled(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	url := server.URL(t)
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: []driver.Store{process(t, url), process(t, url)}, Deletes: true,
		Fault: func(ctx context.Context) {
			for range long(2) {
				rest(ctx, 600*time.Millisecond)
				server.Kill()
				server.Restart(t)
			}
			rest(ctx, 300*time.Millisecond)
		},
	})
}

func TestAggregatesOfTwoProcessesAreAsOne(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	aggregatetest.Shared(t, func(t testing.TB) (a, b *eventstore.Store) {
		return eventstore.New(process(t, url), nil), eventstore.New(process(t, url), nil)
	})
}

func TestEverythingAboveTheStoreWhileConnectionsAreCut(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	admin, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close(context.Background()) })
	stacktest.Run(t, stacktest.Options{
		Open: func(t testing.TB) driver.Store { return process(t, url) },
		Fault: func(ctx context.Context) {
			for range long(4) {
				rest(ctx, 500*time.Millisecond)
				_, err := admin.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
				require.NoError(t, err)
			}
		},
	})
}
