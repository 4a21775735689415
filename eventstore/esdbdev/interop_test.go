package esdbdev_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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
			untried(t, "there is no %s", program)
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
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	if out, err := fetch(ctx, "npm", dir); err != nil {
		untried(t, "npm cannot fetch the clients: %v\n%s", err, out)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "node_modules", ".levada"), []byte(want), 0o600))
	old := filepath.Join("interop", "node_modules")
	if os.RemoveAll(old) == nil && os.Rename(filepath.Join(dir, "node_modules"), old) == nil {
		return "interop"
	}
	return dir // it is on another disk
}

// untried skips a test that needs what is not here, unless everything must be here.
func untried(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and "+format, args...)
	}
	t.Skipf("the Node clients are not tried: "+format, args...)
}

// fetches is how often fetching is tried; npm itself tries each package several times.
const fetches = 3

// fetch installs what a folder's package-lock.json names.
func fetch(ctx context.Context, npm, dir string) (out []byte, err error) {
	for range fetches {
		cmd := exec.CommandContext(ctx, npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=4")
		cmd.Dir = dir
		if out, err = cmd.CombinedOutput(); err == nil || ctx.Err() != nil {
			break
		}
	}
	return out, err
}

func TestFetchingTheNodeClientsIsTriedAgain(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("the npm of this test is a shell script")
	}
	for fails, want := range map[int]bool{0: true, 1: true, fetches - 1: true, fetches: false, fetches + 1: false} {
		dir := t.TempDir()
		npm := filepath.Join(dir, "npm")
		require.NoError(t, os.WriteFile(npm, fmt.Appendf(nil, `#!/bin/sh
echo >> tries
[ "$(wc -l < tries)" -gt %d ]
`, fails), 0o700))
		_, err := fetch(t.Context(), npm, dir)
		require.Equal(t, want, err == nil, "the first %d fail: %v", fails, err)
		tries, err := os.ReadFile(filepath.Join(dir, "tries"))
		require.NoError(t, err)
		require.Len(t, tries, min(fails+1, fetches))
	}
}

// missing is a test that lacks something.
type missing struct {
	testing.TB
	said string
}

func (*missing) Helper()                          {}
func (m *missing) Skipf(format string, _ ...any)  { m.end("skip: " + format) }
func (m *missing) Fatalf(format string, _ ...any) { m.end("fail: " + format) }

func (m *missing) end(what string) {
	if m.said == "" {
		m.said = what
	}
}

func TestWhatIsNotHereFailsOnlyWhereEverythingMustBe(t *testing.T) {
	for ci, want := range map[string]string{"true": "fail", "": "skip"} {
		t.Setenv("CI", ci)
		m := &missing{}
		untried(m, "there is no npm")
		require.Contains(t, m.said, want)
		require.Contains(t, m.said, "there is no npm")
	}
}
