package filelock_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/filelock"
)

func TestOneHasTheLockAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := filelock.Acquire(path)
	require.NoError(t, err)
	_, err = filelock.Acquire(path)
	require.ErrorIs(t, err, filelock.ErrHeld)
	require.ErrorContains(t, err, fmt.Sprint("another, process ", os.Getpid()))
	require.NoError(t, first.Release())
	require.FileExists(t, path)
	second, err := filelock.Acquire(path)
	require.NoError(t, err)
	require.NoError(t, second.Release())
}

func TestAFileThatCannotBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	_, err := filelock.Acquire(filepath.Join(t.TempDir(), "not", "there"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, filelock.ErrHeld)
}
