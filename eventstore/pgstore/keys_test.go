package pgstore

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/internal/postgrestest"
)

// Memory and PostgreSQL must do the same.
func TestKeyStoresKeepOneKeyASubjectUntilItIsShredded(t *testing.T) {
	t.Parallel()
	table, err := OpenKeys(t.Context(), newPool(t, postgrestest.URL(t), 8), `Key "ring"`)
	require.NoError(t, err)
	for name, keys := range map[string]shred.Keys{"memory": &shred.Memory{}, "table": table} {
		ctx := t.Context()
		_, err := keys.Find(ctx, "ann")
		require.ErrorIs(t, err, eventstore.ErrErased, name)
		var wg sync.WaitGroup
		made := make([][]byte, 8)
		for i := range made {
			wg.Go(func() {
				key, err := keys.Make(ctx, "ann")
				if err != nil {
					t.Error(err)
				}
				made[i] = key
			})
		}
		wg.Wait()
		for _, key := range made {
			require.Len(t, key, shred.KeyBytes)
			require.Equal(t, made[0], key, name)
		}
		other, err := keys.Make(ctx, "'; DROP TABLE subject_keys")
		require.NoError(t, err)
		require.NotEqual(t, made[0], other)
		found, err := keys.Find(ctx, "ann")
		require.NoError(t, err)
		require.Equal(t, made[0], found)
		for range 2 {
			require.NoError(t, keys.Shred(ctx, "ann"))
			_, err = keys.Find(ctx, "ann")
			require.ErrorIs(t, err, eventstore.ErrErased, name)
			_, err = keys.Make(ctx, "ann")
			require.ErrorIs(t, err, eventstore.ErrErased, name)
		}
		require.NoError(t, keys.Shred(ctx, "bob"))
		_, err = keys.Make(ctx, "bob")
		require.ErrorIs(t, err, eventstore.ErrErased, "shredded before it had a key")
		_, err = keys.Find(ctx, "'; DROP TABLE subject_keys")
		require.NoError(t, err, name)
	}
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
