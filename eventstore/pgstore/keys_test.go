package pgstore

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/keystest"
	"github.com/levada-go/levada/internal/postgrestest"
)

func TestKeyStoresKeepOneKeyASubjectUntilItIsShredded(t *testing.T) {
	t.Parallel()
	table, err := OpenKeys(t.Context(), newPool(t, postgrestest.URL(t), 8), `Key "ring"`)
	require.NoError(t, err)
	keystest.Run(t, table)
}

func TestKeysAreThereForEveryProcessAndAfterwards(t *testing.T) {
	t.Parallel()
	url := postgrestest.URL(t)
	var wg sync.WaitGroup
	opened := make([]*Keys, 6)
	for i := range opened {
		pool := newPool(t, url, 2)
		wg.Go(func() {
			keys, err := OpenKeys(t.Context(), pool, "")
			if err != nil {
				t.Error(err)
			}
			opened[i] = keys
		})
	}
	wg.Wait()
	require.NotContains(t, opened, (*Keys)(nil))
	made := map[string][]byte{}
	for i, keys := range opened {
		subject := fmt.Sprint("s", i)
		key, err := keys.Make(t.Context(), subject)
		require.NoError(t, err)
		made[subject] = key
	}
	require.NoError(t, opened[0].Shred(t.Context(), "s1"))
	pool := newPool(t, url, 2)
	again, err := OpenKeys(t.Context(), pool, DefaultKeys)
	require.NoError(t, err)
	for subject, key := range made {
		found, err := again.Find(t.Context(), subject)
		if subject == "s1" {
			require.ErrorIs(t, err, eventstore.ErrErased)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, key, found)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, again.Shred(ctx, "s2"), context.Canceled)
	pool.Close()
	_, err = again.Find(t.Context(), "s2")
	require.ErrorIs(t, err, driver.ErrClosed)
	_, err = OpenKeys(t.Context(), pool, "")
	require.ErrorIs(t, err, driver.ErrClosed)
}

func TestAShreddedKeyIsDurableWhateverTheServersDefaultIs(t *testing.T) {
	t.Parallel()
	s := postgrestest.Start(t, "synchronous_commit=off", "wal_writer_delay=10s")
	url := s.URL(t)
	keys, err := OpenKeys(t.Context(), newPool(t, url, 2), "")
	require.NoError(t, err)
	key, err := keys.Make(t.Context(), "ann")
	require.NoError(t, err)
	_, err = keys.Make(t.Context(), "bob")
	require.NoError(t, err)
	require.NoError(t, keys.Shred(t.Context(), "bob"))
	s.Kill()
	s.Restart(t)
	keys, err = OpenKeys(t.Context(), newPool(t, url, 2), "")
	require.NoError(t, err)
	found, err := keys.Find(t.Context(), "ann")
	require.NoError(t, err)
	require.Equal(t, key, found)
	_, err = keys.Find(t.Context(), "bob")
	require.ErrorIs(t, err, eventstore.ErrErased)
}
