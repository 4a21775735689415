//go:build !race

// Package examples_test runs the examples as a newcomer does, and looks at their pages in a browser.
// With LEVADA_SCREENSHOTS set to a folder the pictures go there: see "make screenshots". What has race detectors
// is tested beside the code.
package examples_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/browsertest"
)

var examples = []string{"exchange", "chat", "quotes"} // those with pages

func TestMain(m *testing.M) {
	browsertest.Main(m, func() { os.RemoveAll(folder) })
}

// programs builds all examples, once.
var programs = sync.OnceValue(func() (err error) {
	if folder, err = os.MkdirTemp("", "examples-"); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-o", folder, "./bank", "./chat", "./exchange", "./quotes").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
})

var folder string // that they are in

// built returns an example as a program.
func built(t *testing.T, name string) string {
	t.Helper()
	require.NoError(t, programs())
	return filepath.Join(folder, name)
}

// start runs an example on a free port, with more in its environment, and returns its address.
func start(t *testing.T, name string, env ...string) string {
	cmd := exec.Command(built(t, name), "-store", "memory:", "-addr", "localhost:0")
	cmd.Env = append(os.Environ(), env...)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	address := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if url := regexp.MustCompile(`http://\S+`).FindString(lines.Text()); url != "" {
				address <- url
			}
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait(), "Ctrl-C ends it cleanly")
	})
	select {
	case url := <-address:
		return strings.TrimSuffix(url, "/")
	case <-time.After(20 * time.Second):
		require.FailNow(t, "it does not print its address")
		return ""
	}
}

// pictures takes a page in light and dark, wide and narrow.
func pictures(t *testing.T, tab *browsertest.Tab, name string) {
	dir := os.Getenv("LEVADA_SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{1400, 400} {
			tab.Prefer(scheme)
			tab.Resize(width, 900)
			tab.Wait("document.documentElement.scrollWidth <= innerWidth + 1") // nothing sticks out
			tab.Wait("document.getAnimations().every(a => a.playState != 'running' || a.effect.getTiming().iterations == Infinity)")
			path := filepath.Join(dir, name+"-"+scheme+"-"+strconv.Itoa(width)+".png")
			tab.Screenshot(path)
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Greater(t, info.Size(), int64(8<<10), "%s shows something", path)
		}
	}
	tab.Resize(1400, 900)
	tab.Prefer("light")
}

func TestExchangeIsSomethingToLookAt(t *testing.T) {
	url := start(t, "exchange")
	tab := browsertest.New(t).Open(url)
	tab.WaitFor("#asks .row:nth-child(10)")
	tab.WaitFor("#chart canvas")
	tab.Wait("document.querySelectorAll('#tape .row, #tape tr, #tape li, .trades .row').length > 10 || document.querySelector('#last').textContent.length > 3")
	if os.Getenv("LEVADA_SCREENSHOTS") != "" {
		for _, ms := range []string{"15000", "30000", "45000"} { // for a chart with something on it
			tab.Wait("performance.now() > " + ms)
		}
	}
	pictures(t, tab, "exchange")
}

func TestChatIsSomethingToLookAt(t *testing.T) {
	url := start(t, "chat")
	ann, bob := browsertest.New(t).Open(url+"/lobby"), browsertest.New(t).Open(url+"/lobby")
	for i, said := range []string{
		"Has anybody walked the **Levada do Caldeirão Verde**?",
		"Yes, last spring. Take a *torch*: there are four tunnels.",
		"And a coat, it drips. https://example.com/levadas has the maps.",
		"Thank you! Who is in for Saturday?",
	} {
		from, to := ann, bob
		if i%2 == 1 {
			from, to = bob, ann
		}
		from.Type("#text", said+"\r")
		to.WaitText("main", strings.Fields(said)[0])
	}
	bob.Type("#text", "Me")
	pictures(t, ann, "chat")
	ann.Visit(url + "/")
	pictures(t, ann, "chat-rooms")
}

func TestQuotesAreSomethingToLookAt(t *testing.T) {
	url := start(t, "quotes")
	tab := browsertest.New(t).Open(url)
	tab.WaitFor("html.live-connected, #live.live-connected")
	tab.Click("#like-shown button")
	tab.WaitText("#said", "")
	pictures(t, tab, "quotes")
	tab.Visit(url + "/admin")
	tab.WaitFor("form.edit")
	pictures(t, tab, "quotes-admin")
}
