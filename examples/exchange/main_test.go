package main

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/internal/engines"
)

// TestMain lets the test's own binary be the command.
func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv("LEVADA_EXCHANGE_ARGS"); ok {
		os.Exit(run(strings.Fields(args)))
	}
	os.Exit(engines.Main(m))
}

func command(t *testing.T, args string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := exec.Command(self)
	c.Env = append(os.Environ(), "LEVADA_EXCHANGE_ARGS="+args)
	return c
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"-h":             {0, "exchange match"},
		"help":           {0, "exchange match"},
		"serve -h":       {0, "-addr"},
		"match -h":       {0, "exchange match"},
		"dance":          {2, `unknown command "dance"`},
		"-store nowhere": {2, `-store "nowhere" is not one of memory:, sqlite:FILE`},
		"serve one":      {2, "unexpected argument"},
		"match -unheard": {2, "not defined"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			c := command(t, args)
			c.Stdin = strings.NewReader("")
			out, _ := c.CombinedOutput()
			require.Equal(t, want.status, c.ProcessState.ExitCode(), string(out))
			require.Contains(t, string(out), want.says)
		})
	}
}

// start starts an exchange and connects a client that answers nothing, so that it
// takes its time to close.
func start(t *testing.T) *exec.Cmd {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("signals cannot be sent to a process here")
	}
	c := command(t, "-addr localhost:0 -store memory: -demo=0")
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() { _ = c.Process.Kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url := regexp.MustCompile(`http://\S+/`).FindString(lines.Text()); url != "" {
			conn, _, err := websocket.DefaultDialer.Dial(strings.Replace(url, "http", "ws", 1)+"ws", nil)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			break
		}
	}
	require.NoError(t, lines.Err())
	go func() {
		for lines.Scan() {
		}
	}()
	return c
}

func TestASignalClosesCleanly(t *testing.T) {
	t.Parallel()
	c := start(t)
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	require.NoError(t, c.Wait(), "exit status 0")
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t)
	// It is not known when the first has been taken; sent again and again, one is
	// the second, or the process has closed by itself, which takes longer.
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = c.Process.Signal(syscall.SIGTERM)
		case err := <-ended:
			require.Error(t, err, "it closed cleanly all the same")
			require.Equal(t, syscall.SIGTERM, c.ProcessState.Sys().(syscall.WaitStatus).Signal())
			return
		}
	}
}
