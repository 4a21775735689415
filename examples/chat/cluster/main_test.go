package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/browsertest"
	"github.com/levada-go/levada/internal/filelock"
)

// TestMain lets the test's own binary be the processes of the cluster.
func TestMain(m *testing.M) {
	if job, ok := os.LookupEnv(jobVariable); ok {
		os.Exit(work(job))
	}
	browsertest.Main(m)
}

// patience is how long a part of the cluster may take.
const patience = time.Minute

// output is what the cluster says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// cluster is one that runs.
type cluster struct {
	t         *testing.T
	out, errs *output
	addresses []string
	processes map[string]int // by name
	stop      func() int
}

func open(t *testing.T) *cluster {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("processes are killed by their numbers")
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &cluster{t: t, out: &output{}, errs: &output{}, processes: map[string]int{}}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"-addr", "localhost:0", "-dir", t.TempDir()}, c.out, c.errs) }()
	c.stop = sync.OnceValue(func() int {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		c.stop()
		if t.Failed() {
			t.Logf("%s\n%s", c.out, c.errs)
		}
	})
	require.Eventually(t, func() bool { return strings.Contains(c.out.String(), "Ctrl-C") || len(ended) > 0 }, startTime, 10*time.Millisecond)
	for _, line := range regexp.MustCompile(`(?m)^(.*): (\S+)  \(process (\d+)\)$`).FindAllStringSubmatch(c.out.String(), -1) {
		c.processes[line[1]], _ = strconv.Atoi(line[3])
		if strings.HasPrefix(line[1], "chat") {
			c.addresses = append(c.addresses, line[2])
		}
	}
	require.Len(t, c.addresses, size)
	require.Len(t, c.processes, 2*size)
	return c
}

// kill kills a process as kill -9 does.
func (c *cluster) kill(name string) {
	c.t.Helper()
	p, err := os.FindProcess(c.processes[name])
	require.NoError(c.t, err)
	require.NoError(c.t, p.Kill())
	require.Eventually(c.t, func() bool { return strings.Contains(c.out.String(), name+" has ended") }, patience, 10*time.Millisecond)
}

// A chat and a NATS server are killed at once. The people of the chat leave, the others go on, and nothing that was said
// is lost.
func TestTheOthersGoOnWhenAChatAndAServerAreKilled(t *testing.T) {
	t.Parallel()
	c := open(t)
	var tabs []*browsertest.Tab
	for _, address := range c.addresses {
		tab := browsertest.New(t).Open(address + "den")
		tab.Tolerate("WebSocket")
		tab.Tolerate("ERR_")
		tab.Wait(`window.live?.connected`)
		tabs = append(tabs, tab)
	}
	ann, bob, cid := tabs[0], tabs[1], tabs[2]
	until := func(tab *browsertest.Tab, expression string) {
		t.Helper()
		require.Eventually(t, func() bool { return browsertest.Eval[bool](tab, expression) }, patience, 20*time.Millisecond, expression)
	}
	const here = `document.querySelectorAll("#people li").length`
	for _, tab := range tabs {
		until(tab, here+` == 3`)
	}
	name := bob.Text("#me bdi")
	bob.Type("#text", "is anybody")
	until(ann, `document.getElementById("typing").textContent.includes("typing")`)
	bob.Type("#text", " there?\r")
	ann.Type("#text", "I am\r")
	cid.Type("#text", "me too\r")
	const said = `[...document.querySelectorAll("#log li .text")].map(e => e.textContent.trim()).sort().join("|")`
	for _, tab := range tabs {
		until(tab, said+` == "I am|is anybody there?|me too"`)
	}

	c.kill("chat 2")
	c.kill("NATS 2")
	ann.Type("#text", "where is bob?\r")
	cid.Type("#text", "gone\r")
	for _, tab := range []*browsertest.Tab{ann, cid} {
		until(tab, said+` == "I am|gone|is anybody there?|me too|where is bob?"`)
		until(tab, here+` == 2`)
		require.NotContains(t, tab.Text("#people"), name)
	}

	// Bob finds all of it at another address, under the name that his browser knows.
	bob.Visit(c.addresses[0] + "den")
	until(bob, `window.live?.connected && `+said+` == "I am|gone|is anybody there?|me too|where is bob?"`)
	require.Equal(t, name, bob.Text("#me bdi"))
	until(cid, here+` == 3`)
	require.Zero(t, c.stop(), c.errs)
}

func TestEverythingEndsWithTheCluster(t *testing.T) {
	t.Parallel()
	c := open(t)
	require.Zero(t, c.stop(), c.errs)
	require.Empty(t, c.errs.String())
	for name, id := range c.processes {
		p, err := os.FindProcess(id)
		if err == nil {
			require.Error(t, alive(p), name)
		}
	}
}

func TestTheCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := filelock.Acquire(filepath.Join(dir, "lock"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, lock.Release()) })
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"-dir USED":             {1, "another cluster uses " + dir + "; -dir names another folder\n"},
		"-dir /dev/null/x":      {1, "cannot make the folder: mkdir /dev/null: not a directory; -dir names another\n"},
		"-h":                    {0, "three NATS servers"},
		"-unheard":              {2, "not defined"},
		"now":                   {2, "unexpected argument"},
		"-addr nowhere":         {2, "is not HOST:PORT"},
		"-addr localhost:65535": {2, "is not HOST:PORT"},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, want.status, run(t.Context(), strings.Fields(strings.ReplaceAll(args, "USED", dir)), &out, &errs), args)
		require.Contains(t, out.String()+errs.String(), want.says, args)
	}
	all, err := addresses(":8081")
	require.NoError(t, err)
	require.Equal(t, []string{":8081", ":8082", ":8083"}, all)
}
