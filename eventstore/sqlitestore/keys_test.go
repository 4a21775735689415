package sqlitestore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/shred"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// Memory and file must do the same.
func TestKeyStoresKeepOneKeyASubjectUntilItIsShredded(t *testing.T) {
	t.Parallel()
	file, err := sqlitestore.OpenKeys(filepath.Join(t.TempDir(), "keys.db"))
	require.NoError(t, err)
	defer file.Close()
	for name, keys := range map[string]shred.Keys{"memory": &shred.Memory{}, "file": file} {
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

func TestShreddedKeysAreNotInTheFileAnyMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	keys, err := sqlitestore.OpenKeys(path)
	require.NoError(t, err)
	holds := func(key []byte) bool {
		files, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(dir, f.Name()))
			require.NoError(t, err)
			if bytes.Contains(b, key) {
				return true
			}
		}
		return false
	}
	var made [][]byte
	for _, subject := range strings.Split("abcdefghij", "") {
		key, err := keys.Make(t.Context(), subject)
		require.NoError(t, err)
		require.True(t, holds(key))
		made = append(made, key)
	}
	require.NoError(t, keys.Shred(t.Context(), "c"))
	for i, key := range made {
		require.Equal(t, i != 2, holds(key), "%d", i)
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o077, "for its owner only")

	require.NoError(t, keys.Close())
	require.NoError(t, keys.Close())
	_, err = keys.Find(t.Context(), "a")
	require.ErrorIs(t, err, driver.ErrClosed)
	again, err := sqlitestore.OpenKeys(path)
	require.NoError(t, err)
	defer again.Close()
	key, err := again.Find(t.Context(), "a")
	require.NoError(t, err)
	require.Equal(t, made[0], key)
	_, err = again.Make(t.Context(), "c")
	require.ErrorIs(t, err, eventstore.ErrErased)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, again.Shred(ctx, "a"), context.Canceled)
}

func TestAFileThatHoldsNoKeysIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.db")
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("no database ", 100)), 0o600))
	_, err := sqlitestore.OpenKeys(path)
	require.ErrorContains(t, err, "keys.db")
	_, err = sqlitestore.OpenKeys(filepath.Join(path, "in a file"))
	require.Error(t, err)
}
