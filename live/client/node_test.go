//go:build !race

// The detector of races finds nothing in node, so these tests run only without it.

package client_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// installed holds what package-lock.json names, in a folder that outlives the tests.
var installed = sync.OnceValues(func() (string, error) {
	lock, err := os.ReadFile("package-lock.json")
	if err != nil {
		return "", err
	}
	// The version that package.json asks for; npm only warns of an older one.
	if out, err := exec.Command("node", "-e", `
const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || major == 20 && minor < 19) { console.log("node " + process.version + " is too old"); process.exit(1) }`).CombinedOutput(); err != nil {
		return "", &os.PathError{Op: "node", Path: strings.TrimSpace(string(out)), Err: err}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "levada", "live-client-"+hex.EncodeToString(sum[:8]))
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "install-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(fresh, name), data, 0o644); err != nil {
			return "", err
		}
	}
	npm := exec.Command("npm", "ci", "--ignore-scripts")
	npm.Dir = fresh
	if out, err := npm.CombinedOutput(); err != nil {
		return "", &os.PathError{Op: "npm ci", Path: strings.TrimSpace(string(out)), Err: err}
	}
	// Another process may have been quicker.
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(modules); there != nil {
			return "", err
		}
	}
	return modules, nil
})

// node returns a func that runs a program of node in a copy of this folder. The test is skipped where there is no
// npm or nothing can be installed, but for the CI, where that is a failure.
func node(t *testing.T) func(name string, args ...string) {
	t.Helper()
	modules, err := installed()
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the tools that build the client cannot be installed: %v", err)
		}
		t.Skipf("not run, since the tools that build the client cannot be installed: %v", err)
	}
	dir := t.TempDir()
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "node_modules":
			return filepath.SkipDir
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(dir, path), 0o755)
		case filepath.Ext(path) == ".go":
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, path), data, 0o644)
	}))
	require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
	return func(name string, args ...string) {
		t.Helper()
		c := exec.Command(name, args...)
		c.Dir = dir
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

func TestClientIsWhatItsSourceBuilds(t *testing.T) {
	t.Parallel()
	run := node(t)
	run("npm", "run", "--silent", "check")
}

func TestClientPassesItsOwnTests(t *testing.T) {
	t.Parallel()
	run := node(t)
	run("npm", "run", "--silent", "test")
}
