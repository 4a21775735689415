package sqlitestore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/keystest"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

func TestKeyStoresKeepOneKeyASubjectUntilItIsShredded(t *testing.T) {
	t.Parallel()
	file, err := sqlitestore.OpenKeys(filepath.Join(t.TempDir(), "keys.db"))
	require.NoError(t, err)
	defer file.Close()
	keystest.Run(t, file)
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
