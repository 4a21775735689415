package aggregate_test

import (
	"sync"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

func TestConcurrentCommandsToOneAggregateAllCount(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	r, err := aggregate.New(store, accounts())
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 100 {
				_, err := r.Execute(t.Context(), deposit{"a", 1})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, r.View(t.Context(), "a", func(a *account, v eventstore.Version) {
		require.Equal(t, 6400, a.Balance)
		require.Equal(t, eventstore.Version(6400), v)
	}))
}
