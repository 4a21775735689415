// Package keystest tests stores of the keys of subjects: all must do the same.
package keystest

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/shred"
)

// Run tests an empty store of keys: a subject has one key, whoever makes it, until that is
// shredded, and none ever after.
func Run(t *testing.T, keys shred.Keys) {
	ctx := t.Context()
	_, err := keys.Find(ctx, "ann")
	require.ErrorIs(t, err, eventstore.ErrErased)
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
		require.Equal(t, made[0], key)
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
		require.ErrorIs(t, err, eventstore.ErrErased)
		_, err = keys.Make(ctx, "ann")
		require.ErrorIs(t, err, eventstore.ErrErased)
	}
	require.NoError(t, keys.Shred(ctx, "bob"))
	_, err = keys.Make(ctx, "bob")
	require.ErrorIs(t, err, eventstore.ErrErased, "shredded before it had a key")
	_, err = keys.Find(ctx, "'; DROP TABLE subject_keys")
	require.NoError(t, err)
}
