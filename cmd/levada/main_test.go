package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestMain is levada itself where a test wants a process of it.
func TestMain(m *testing.M) {
	if os.Getenv("LEVADA_TEST_RUN") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestAWrongCommandLineEndsWithASentenceAndStatusTwo(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"no command":                {nil, "levada esdb"},
		"an unknown command":        {[]string{"serve"}, `there is no command "serve"`},
		"an unknown flag":           {[]string{"esdb", "-port", "1"}, "-port"},
		"a word":                    {[]string{"esdb", "memory:"}, `"memory:" is not a flag`},
		"version takes none":        {[]string{"version", "1"}, `"1" is not a flag`},
		"an address without a port": {[]string{"esdb", "-addr", "localhost"}, "no HOST:PORT"},
		"an unknown store":          {[]string{"esdb", "-store", "mysql://ann:hush@x"}, "mysql://ann:***@x"},
		"a certificate, no key":     {[]string{"esdb", "-tls-cert", "x"}, "go together"},
		"two certificates":          {[]string{"esdb", "-tls-self", "-tls-cert", "x", "-tls-key", "y"}, "give one of them"},
		"a user, no password":       {[]string{"esdb", "-tls-self", "-user", "ann"}, "go together"},
		"a password in plain text":  {[]string{"esdb", "-user", "ann", "-password", "x"}, "needs TLS"},
		"plain text for everybody":  {[]string{"esdb", "-addr", "0.0.0.0:0"}, "-insecure"},
		"the same, all interfaces":  {[]string{"esdb", "-addr", ":0"}, "-insecure"},
		"no bytes":                  {[]string{"esdb", "-max-append", "0"}, "no number of bytes"},
		"a wrong advertisement":     {[]string{"esdb", "-advertise", "x"}, "no HOST:PORT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			require.Equal(t, 2, run(t.Context(), row.args, &out, &errs))
			require.Contains(t, errs.String(), row.says)
			require.NotContains(t, errs.String(), "hush")
			require.Empty(t, out.String())
		})
	}
}

func TestHelpGoesToTheOutput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"help"}, {"-h"}, {"esdb", "-h"}, {"version", "-h"}} {
		var out, errs bytes.Buffer
		require.Zero(t, run(t.Context(), args, &out, &errs))
		require.Contains(t, out.String(), "levada ")
		require.Empty(t, errs.String())
	}
}

func TestVersionSaysOne(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"version"}, &out, io.Discard))
	require.Regexp(t, `^levada .*go1\.`, out.String())
}

// A running command.
type running struct {
	url    string // what it prints first
	end    context.CancelFunc
	status chan int
	errs   *bytes.Buffer
}

// begin runs levada until the test ends, or end is called, and waits for its connection string.
func begin(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{end: cancel, status: make(chan int, 1), errs: &bytes.Buffer{}}
	in, out := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.status <- run(ctx, args, out, r.errs)
		out.Close()
	}()
	t.Cleanup(func() { cancel(); <-done })
	lines := bufio.NewReader(in)
	line, err := lines.ReadString('\n')
	require.NoError(t, err, "it ended: %s", r.errs)
	r.url = strings.TrimSpace(line)
	go io.Copy(io.Discard, lines)
	return r
}

// use appends an event and reads it back.
func use(t *testing.T, url string) {
	t.Helper()
	cfg, err := client.ParseConnectionString(url)
	require.NoError(t, err)
	cfg.Logger = client.NoopLogging()
	c, err := client.NewClient(cfg)
	require.NoError(t, err)
	defer c.Close()
	_, err = c.AppendToStream(t.Context(), "s-1", client.AppendToStreamOptions{ExpectedRevision: client.NoStream{}},
		client.EventData{EventID: uuid.New(), EventType: "a", ContentType: client.ContentTypeJson, Data: []byte(`{}`)})
	require.NoError(t, err)
	s, err := c.ReadStream(t.Context(), "s-1", client.ReadStreamOptions{}, 1)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Recv()
	require.NoError(t, err)
}

func TestESDBServesAStoreUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "events.db")
	for range 2 {
		r := begin(t, "esdb", "-addr", "127.0.0.1:0", "-store", "sqlite:"+file)
		require.Regexp(t, `^esdb://127\.0\.0\.1:\d+\?tls=false$`, r.url)
		r.end() // and lets go of the file
		require.Zero(t, <-r.status, "%s", r.errs)
	}
	r := begin(t, "esdb", "-addr", "127.0.0.1:0", "-store", "sqlite:"+file)
	use(t, r.url)
}

func TestESDBWithTLSAsksForThePassword(t *testing.T) {
	t.Parallel()
	r := begin(t, "esdb", "-addr", "127.0.0.1:0", "-tls-self", "-user", "ann", "-password", "hush")
	url, note, _ := strings.Cut(r.url, " ")
	require.Equal(t, "(*** is the password)", note)
	use(t, strings.Replace(url, "***", "hush", 1))
	cfg, err := client.ParseConnectionString(strings.Replace(url, "***", "wrong", 1))
	require.NoError(t, err)
	cfg.Logger = client.NoopLogging()
	c, err := client.NewClient(cfg)
	require.NoError(t, err)
	defer c.Close()
	s, err := c.ReadStream(t.Context(), "s-1", client.ReadStreamOptions{}, 1)
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Recv()
	require.ErrorContains(t, err, "Unauthenticated")
}

func TestESDBTakesACertificate(t *testing.T) {
	t.Parallel()
	cert, key, ca := certificate(t)
	r := begin(t, "esdb", "-addr", "127.0.0.1:0", "-tls-cert", cert, "-tls-key", key)
	use(t, r.url+"&tlsCaFile="+ca)

	var errs bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"esdb", "-addr", "127.0.0.1:0", "-tls-cert", cert, "-tls-key", cert}, io.Discard, &errs))
	require.Contains(t, errs.String(), "certificate")
}

func TestESDBOnEveryInterfaceTellsALocalAddress(t *testing.T) {
	t.Parallel()
	r := begin(t, "esdb", "-addr", "0.0.0.0:0", "-insecure")
	require.Regexp(t, `^esdb://localhost:\d+\?tls=false$`, r.url)
	use(t, r.url)
}

func TestESDBSaysWhyItCannotBegin(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	for name, row := range map[string]struct {
		args []string
		says string
	}{
		"the address is taken": {[]string{"esdb", "-addr", ln.Addr().String()}, "-addr takes another address"},
		"the store is not to be had": {[]string{"esdb", "-addr", "127.0.0.1:0", "-store",
			"sqlite:" + filepath.Join(t.TempDir(), "no", "dir.db")}, "dir.db"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var errs bytes.Buffer
			require.Equal(t, 1, run(t.Context(), row.args, io.Discard, &errs))
			require.Contains(t, errs.String(), row.says)
		})
	}
}

func TestAnInterruptEndsTheProcessCleanly(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted by another there")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "esdb", "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "LEVADA_TEST_RUN=1")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var errs lockedBuffer
	cmd.Stderr = &errs
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	use(t, strings.TrimSpace(line))
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	timer := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_, _ = io.Copy(io.Discard, lines)
	require.NoError(t, cmd.Wait())
	require.Empty(t, errs.String())
}

// A lockedBuffer may be written to while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
