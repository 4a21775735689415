package natsstore

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/levada-go/levada/internal/natstest"
)

func TestMain(m *testing.M) {
	if serveChild() {
		return
	}
	flag.Parse()
	// Each history needs servers in this process, which the race detector slows
	// down most of all.
	asked := slices.ContainsFunc(os.Args, func(s string) bool { return strings.Contains(s, "rapid.checks") })
	if raceEnabled && !asked && !soak() {
		_ = flag.Set("rapid.checks", "15")
	}
	os.Exit(natstest.Main(m))
}

// soak says that tests may take long.
func soak() bool { return os.Getenv("LEVADA_SOAK") == "1" }
