//go:build !race

package examples_test

import (
	_ "embed"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/browsertest"
)

//go:embed testdata/audit.js
var audit string

// maxWeight is what a page may take over the wire the first time, with all that it loads, in bytes.
const maxWeight = 150 << 10

// Contrast, sizes and names as WCAG 2.2 AA wants them, on all pages, in both themes and on a telephone; no page complains
// in its console, and none is heavy.
func TestPagesAreForEverybody(t *testing.T) {
	t.Parallel()
	pages := map[string][]string{
		"exchange": {"/", "/?chart=depth", "/?list=fills", "/nowhere", "/?symbol=NONE"},
		"chat":     {"/", "/lobby", "/empty", "/lobby?q=welcome", "/a/b/c"},
		"quotes":   {"/", "/?id=none", "/admin", "/nowhere"},
	}
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := start(t, name)
			tab := browsertest.New(t).Open("")
			tab.Tolerate("status of 404")
			tab.Resize(390, 844)
			for i, path := range pages[name] {
				tab.Visit(url + path)
				tab.Wait(`document.readyState == "complete" && (!document.querySelector("[data-live]") || window.live?.connected)`)
				if i == 0 {
					weight := browsertest.Eval[int](tab, `performance.getEntries().reduce((sum, e) => sum + (e.transferSize || 0), 0)`)
					t.Logf("%s weighs %d bytes", name, weight)
					require.Less(t, weight, maxWeight)
				}
				for _, scheme := range []string{"light", "dark"} {
					tab.Prefer(scheme)
					tab.Wait(`!document.getAnimations().some(a => a.playState == "running" && a.effect.getTiming().iterations != Infinity)`)
					require.Empty(t, browsertest.Eval[[]string](tab, audit), "%s in %s", path, scheme)
				}
			}
		})
	}
}
