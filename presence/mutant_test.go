package presence

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Each mutant breaks the package in one place. The tests of the invariants, run on
// the broken source (the compiler's -overlay lays it over the file), must fail.
func TestMutantsAreCaughtByTheInvariants(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("compiles the package once for each mutant")
	}
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("needs the go command")
	}
	for _, m := range []struct{ name, file, old, new string }{
		{"merge applies changes twice", "replica.go", "if f.lo+uint64(i)+1 > r.seq {", "if i >= 0 {"},
		{"merge skips over a gap", "replica.go", "if f.lo > r.seq {", "if false {"},
		{"merge takes an older snapshot", "replica.go", "if f.hi < r.seq || ", "if "},
		{"merge takes an older incarnation", "replica.go", "f.inc <= gone.inc || r != nil && f.inc < r.inc", "f.inc <= gone.inc"},
		{"merge keeps what a snapshot lacks", "replica.go", "!ok || e != old {\n\t\t\tp.hide", "ok && e != old {\n\t\t\tp.hide"},
		{"a restart leaves ghosts", "replica.go", `p.drop(r, "it was restarted")`, ""},
		{"nothing is purged", "replica.go", "quiet >= p.opts.PermDown", "quiet < 0"},
		{"nodes never go down nor away", "transport.go", "p.silence(now)", ""},
		{"a diff tells a leave that was never joined", "diff.go", "delete(k.joins, at) // never told", "delete(k.joins, at); k.leaves[at] = m"},
		{"a diff forgets leaves", "diff.go", "k.leaves[at] = m", "_ = m"},
		{"a diff repeats what is back as it was", "diff.go", "delete(k.leaves, at) // gone and back as it was", "k.joins[at] = m"},
		{"a diff miscounts keys", "diff.go", "case k.before == 0 && after > 0:", "case after > 0:"},
		{"a lost link is told but not heeded", "transport.go", "\t\t\t\tp.hideAll(r)\n", "\t\t\t\tr.up = false\n"},
	} {
		t.Run(m.name, func(t *testing.T) {
			dir := t.TempDir()
			source, err := filepath.Abs(m.file)
			require.NoError(t, err)
			text, err := os.ReadFile(source)
			require.NoError(t, err)
			require.Equal(t, 1, strings.Count(string(text), m.old), "what the mutant replaces is there once")
			broken := filepath.Join(dir, m.file)
			require.NoError(t, os.WriteFile(broken, []byte(strings.Replace(string(text), m.old, m.new, 1)), 0o600))
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: broken}})
			require.NoError(t, err)
			plan := filepath.Join(dir, "overlay.json")
			require.NoError(t, os.WriteFile(plan, overlay, 0o600))

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, tool, "test", "-vet=off", "-overlay", plan, "-run", "TestInvariants|TestMerge", ".",
				"-timeout=40s", "-rapid.nofailfile", "-rapid.shrinktime=0s", "-rapid.checks=300").CombinedOutput()
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit, "the tests pass on the broken source:\n%s", out)
			require.Contains(t, string(out), "--- FAIL: Test", "it compiles and a test fails")
		})
	}
}
