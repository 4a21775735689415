package program

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
)

var errDone = errors.New("done")

// app is one that does nothing, and remembers what was done to it.
type app struct {
	mu    sync.Mutex
	did   []string
	run   error
	ready error
}

func (a *app) note(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.did = append(a.did, what)
}

func (a *app) program() *Program {
	return &Program{
		Name: "test", About: "Test tests.", Addr: "localhost:8099", Keeps: "all",
		Start: func(_ context.Context, s *eventstore.Store, _ *Network) (*App, error) {
			return &App{
				Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") }),
				Run: func(ctx context.Context) error {
					if a.run != nil {
						return a.run
					}
					<-ctx.Done()
					_, err := s.Head(context.Background())
					a.note("run ended")
					return err // the store is still open
				},
				Ready: func(ctx context.Context) error {
					if a.run != nil {
						<-ctx.Done()
						return ctx.Err()
					}
					return a.ready
				},
				Shutdown: func(context.Context) error { a.note("pages ended"); return nil },
			}, nil
		},
	}
}

func TestTheCommandLine(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	t.Cleanup(func() { busy.Close() })
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"-h":                           {0, "Test tests. It prints the address"},
		"-help":                        {0, "keeps all; by default levada/test.db"},
		"-h -h":                        {0, "memory:, sqlite:FILE, postgres://USER:PASSWORD@HOST/DATABASE,\n"},
		"lobby":                        {2, `unexpected argument "lobby"`},
		"-unheard":                     {2, "Run test -h for help"},
		"-store nowhere":               {2, `-store "nowhere" is not one of memory:, sqlite:FILE`},
		"-store sqlite:":               {2, "is not one of"},
		"-store mysql://a:hush@b/c":    {2, `-store "mysql://a:***@b/c" is not`},
		"-store memory: -db x":         {2, "-db and -store say the same"},
		"-addr nowhere":                {2, `-addr "nowhere" is not HOST:PORT, such as localhost:8099`},
		"-store memory: -addr BUSY":    {1, "is in use; -addr takes another address"},
		"-addr localhost:0 -db FOLDER": {1, "cannot open"},
		"-addr localhost:0 -db FILE/x": {1, "cannot make the folder"},
		"-addr 192.0.2.1:0":            {1, "cannot listen"},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			line := strings.NewReplacer("BUSY", busy.Addr().String(), "FOLDER", t.TempDir(), "FILE", "/dev/null").Replace(args)
			var out, errs bytes.Buffer
			require.Equal(t, want.status, (&app{}).program().Run(t.Context(), strings.Fields(line), &out, &errs), errs.String())
			require.Contains(t, out.String()+errs.String(), want.says)
			if want.status == 0 {
				require.Empty(t, errs.String())
			} else {
				require.Empty(t, out.String())
			}
		})
	}
}

// first cuts the context off when the first line was written.
type first struct {
	bytes.Buffer
	stop func(said string)
}

func (f *first) Write(b []byte) (int, error) {
	n, err := f.Buffer.Write(b)
	f.stop(string(b))
	return n, err
}

func TestItServesUntilItIsToldToEndAndThenInOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{}
	file := filepath.Join(t.TempDir(), "new", "test.db")
	out := &first{stop: func(said string) {
		url, rest, _ := strings.Cut(said, "\n")
		require.Contains(t, rest, file)
		res, err := http.Get(url)
		require.NoError(t, err)
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, "here", string(b))
		var errs bytes.Buffer
		require.Equal(t, 1, (&app{}).program().Run(ctx, []string{"-addr", "localhost:0", "-db", file}, io.Discard, &errs))
		require.Contains(t, errs.String(), "another test uses "+file)
		cancel()
	}}
	var errs bytes.Buffer
	require.Zero(t, a.program().Run(ctx, []string{"-addr", "localhost:0", "-db", file}, out, &errs), errs.String())
	require.Equal(t, []string{"pages ended", "run ended"}, a.did)
	require.Empty(t, errs.String())
}

func TestAnAppThatFailsEndsTheCommand(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*app{"run": {run: errDone}, "ready": {ready: errDone}} {
		var out, errs bytes.Buffer
		require.Equal(t, 1, a.program().Run(t.Context(), []string{"-addr", "localhost:0", "-store", "memory:"}, &out, &errs), name)
		require.Equal(t, "test: done\n", errs.String(), name)
		require.Empty(t, out.String(), "it was never open")
	}
}

func TestACommandThatIsToldToEndBeforeItIsReadyEndsWell(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	p := (&app{}).program()
	start := p.Start
	p.Start = func(ctx context.Context, s *eventstore.Store, n *Network) (*App, error) {
		a, err := start(ctx, s, n)
		a.Ready = func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}
		return a, err
	}
	var errs bytes.Buffer
	require.Zero(t, p.Run(ctx, []string{"-addr", "localhost:0", "-store", "memory:"}, io.Discard, &errs), errs.String())
}
