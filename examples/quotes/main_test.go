package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A screen is what a command has printed so far.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start runs the command until stop is called, which returns its status.
func start(t *testing.T, args ...string) (url string, s *screen, stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	s = &screen{}
	status := make(chan int, 1)
	go func() { status <- quotes.Run(ctx, args, s, s) }()
	t.Cleanup(cancel)
	found := regexp.MustCompile(`http://\S+`)
	require.Eventually(t, func() bool { return found.MatchString(s.String()) }, 20*time.Second, 5*time.Millisecond, s)
	return found.FindString(s.String()), s, func() int {
		cancel()
		return <-status
	}
}

func get(t *testing.T, url string) string {
	r, err := http.Get(url)
	require.NoError(t, err)
	defer r.Body.Close()
	require.Equal(t, http.StatusOK, r.StatusCode)
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(b)
}

func TestItServesEndsAndGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "folder", "quotes.db")
	url, s, stop := start(t, "-addr", "localhost:0", "-db", file)
	require.Contains(t, s.String(), file)
	require.Contains(t, get(t, url), "thousand miles")
	require.Contains(t, get(t, url+"admin"), "Correct the quotes")

	var second screen
	require.Equal(t, 1, quotes.Run(t.Context(), []string{"-addr", "localhost:0", "-db", file}, &second, &second))
	require.Contains(t, second.String(), "another quotes uses")

	require.Zero(t, stop())
	url, _, stop = start(t, "-addr", "localhost:0", "-store", "sqlite:"+file)
	require.Contains(t, get(t, url), "thousand miles")
	require.Zero(t, stop())
}
