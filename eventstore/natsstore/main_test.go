package natsstore

import (
	"flag"
	"os"
	"runtime"
	"slices"
	"strconv"
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
	asked := func(name string) bool {
		return slices.ContainsFunc(os.Args, func(s string) bool { return strings.Contains(s, name) })
	}
	if raceEnabled && !asked("rapid.checks") && !soak() {
		_ = flag.Set("rapid.checks", "15")
	}
	// Many tests do nothing but wait, for elections and for answers that do not come.
	if !asked("test.parallel") {
		_ = flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0))))
	}
	os.Exit(natstest.Main(m))
}

// soak says that tests may take long.
func soak() bool { return os.Getenv("LEVADA_SOAK") == "1" }
