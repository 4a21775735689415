package natstest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// memoryDir returns a directory that is kept in memory, where there is one: what
// tests look at is what servers do, not how long a disk takes to flush. It outlives
// processes like any other. Benchmarks get the usual temporary directory.
func memoryDir() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err == nil && info.IsDir() && roomy(shared) {
		return shared
	}
	return ""
}

// tempDir returns a directory for the files of a server, removed with the test.
func tempDir(t testing.TB) string {
	t.Helper()
	if _, ok := t.(*testing.B); ok {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memoryDir(), "natstest-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}
