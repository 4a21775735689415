package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
)

// Chromium takes a second to start, so all tests of a binary share one.
var process struct {
	main   bool // whether Main runs the tests, and will end Chromium
	start  sync.Once
	ctx    context.Context
	cancel []context.CancelFunc
	err    error
}

// Main runs the tests of a package and exits: it is the body of TestMain. It ends the Chromium that they used, and calls after.
func Main(m *testing.M, after ...func()) {
	process.main = true
	code := m.Run()
	for _, f := range after {
		f()
	}
	for _, cancel := range process.cancel {
		cancel()
	}
	os.Exit(code)
}

// find returns the path of Chromium, "" without.
func find() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func start(path string) {
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.WindowSize(1280, 900),
	}
	for _, name := range []string{
		"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync",
		"disable-extensions", "disable-default-apps", "disable-breakpad", "disable-dev-shm-usage",
		// A window that is behind another must not be slowed down.
		"disable-background-timer-throttling", "disable-backgrounding-occluded-windows", "disable-renderer-backgrounding",
	} {
		flags = append(flags, chromedp.Flag(name, true))
	}
	alloc, end := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, cancel := chromedp.NewContext(alloc)
	process.ctx, process.cancel = ctx, []context.CancelFunc{cancel, end}
	process.err = chromedp.Do(ctx)
}

// Window is a browser of one person: its tabs share cookies, which no other window sees.
type Window struct {
	t   testing.TB
	ctx context.Context
}

// New returns a window for t that is closed when t ends. Tests in other goroutines may have windows at the same time;
// one window and its tabs belong to one goroutine.
func New(t testing.TB) *Window {
	t.Helper()
	if !process.main {
		t.Fatal("browsertest: the package has no TestMain that calls browsertest.Main")
	}
	path := find()
	if path == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("browsertest: chromium is missing")
		}
		t.Skip("chromium is not installed: pages are not tested in a browser")
	}
	process.start.Do(func() { start(path) })
	if process.err != nil {
		t.Fatalf("browsertest: chromium does not start: %v", process.err)
	}
	// The context of the window holds a blank tab, which keeps the cookies of those that come and go.
	ctx, cancel := chromedp.NewContext(process.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("browsertest: %v", fmt.Errorf("new window: %w", err))
	}
	return &Window{t: t, ctx: ctx}
}
