package esdbdev_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// TestTheOfficialNodeClientsAgree runs interop/interop.mjs, with plain text, where the
// clients append many batches on one call, and with TLS and a password, where they make
// a call for each append.
func TestTheOfficialNodeClientsAgree(t *testing.T) {
	t.Parallel()
	dir := nodeModules(t)
	for name, secure := range map[string]bool{"plain text": false, "with a password": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := memstore.Open(nil)
			t.Cleanup(func() { store.Close() })
			var url string
			if secure {
				config, pem, err := esdbdev.SelfSigned("localhost", "127.0.0.1")
				require.NoError(t, err)
				ca := filepath.Join(t.TempDir(), "ca.crt")
				require.NoError(t, os.WriteFile(ca, pem, 0o600))
				s := serve(t, store, &esdbdev.Options{TLS: config, User: "admin", Password: "changeit"})
				url = strings.Replace(s.URL(), "esdb://", "esdb://admin:changeit@", 1) + "&tlsCaFile=" + filepath.ToSlash(ca)
			} else {
				url = serve(t, store, nil).URL()
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "node", "interop.mjs")
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "ESDB_URL="+url)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Equal(t, 30, strings.Count(string(out), "ok    "), "%s", out)
		})
	}
}

// TestTheScriptOfThePageRuns runs the example for Node in docs/esdbdev.md.
func TestTheScriptOfThePageRuns(t *testing.T) {
	t.Parallel()
	dir := nodeModules(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "esdbdev.md"))
	require.NoError(t, err)
	_, script, ok := strings.Cut(string(page), "```js\n")
	require.True(t, ok)
	script, _, _ = strings.Cut(script, "```")
	store := memstore.Open(nil)
	t.Cleanup(func() { store.Close() })
	const there = "esdb://127.0.0.1:2113?tls=false"
	require.Contains(t, script, there)
	file, err := os.CreateTemp(filepath.Join(dir, "node_modules"), "page-*.mjs")
	require.NoError(t, err)
	t.Cleanup(func() { os.Remove(file.Name()) })
	_, err = file.WriteString(strings.Replace(script, there, serve(t, store, nil).URL(), 1))
	require.NoError(t, err)
	require.NoError(t, file.Close())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", file.Name()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "placed { total: 7 }\n", string(out))
}

var installing sync.Mutex

// nodeModules returns a folder with the script and what it needs: the one in the
// repository, where what npm fetched stays for the next time, else a copy.
func nodeModules(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("there is no %s, and CI=true", program)
			}
			t.Skipf("there is no %s: the Node clients are not tried", program)
		}
	}
	installing.Lock()
	defer installing.Unlock()
	lock, err := os.ReadFile(filepath.Join("interop", "package-lock.json"))
	require.NoError(t, err)
	sum := sha256.Sum256(lock)
	want := hex.EncodeToString(sum[:])
	marker := filepath.Join("interop", "node_modules", ".levada")
	if have, err := os.ReadFile(marker); err == nil && string(have) == want {
		return "interop"
	}

	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", "interop.mjs"} {
		data, err := os.ReadFile(filepath.Join("interop", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("npm cannot fetch the clients, so they are not tried: %v\n%s", err, out)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node_modules", ".levada"), []byte(want), 0o600))
	old := filepath.Join("interop", "node_modules")
	if os.RemoveAll(old) == nil && os.Rename(filepath.Join(dir, "node_modules"), old) == nil {
		return "interop"
	}
	return dir // it is on another disk
}
