package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// started runs the command until the returned func is called, which returns its status and what it complained about.
func started(t *testing.T, args ...string) (address string, stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errs bytes.Buffer
	var status int
	var running sync.WaitGroup
	running.Go(func() {
		status = chat.Run(ctx, args, in, &errs)
		in.Close()
	})
	stop = func() (int, string) {
		cancel()
		running.Wait()
		return status, errs.String()
	}
	t.Cleanup(func() { stop() })
	said := make([]byte, 1000)
	n, _ := out.Read(said)
	go io.Copy(io.Discard, out)
	address = regexp.MustCompile(`http://\S+/`).FindString(string(said[:n]))
	require.NotEmpty(t, address, "%s %s", said[:n], &errs)
	return address, stop
}

func TestASecondStartOnTheSameFileKeepsEverything(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "new", "chat.db")
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	page := func(res *http.Response, err error) string {
		t.Helper()
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode, string(body))
		return string(body)
	}
	address, stop := started(t, "-addr", "localhost:0", "-db", file)
	page(browser.PostForm(address+"den", url.Values{"_event": {"rename"}, "nickname": {"Ann"}}))
	require.Contains(t, page(browser.PostForm(address+"den", url.Values{"_event": {"send"}, "id": {"1"}, "text": {"hello"}})), "hello")

	var errs bytes.Buffer
	require.Equal(t, 1, chat.Run(t.Context(), []string{"-addr", "localhost:0", "-db", file}, io.Discard, &errs))
	require.Contains(t, errs.String(), "another chat uses "+file)

	status, complaints := stop()
	require.Zero(t, status, complaints)
	again, stop := started(t, "-addr", strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/"), "-db", file)
	require.Equal(t, address, again)
	den := page(browser.Get(again + "den"))
	require.Contains(t, den, "hello")
	require.Contains(t, den, "<bdi>Ann</bdi>")
	require.Equal(t, 1, strings.Count(page(browser.Get(again+"lobby")), "m-welcome"))
	require.Equal(t, "ok\n", page(browser.Get(again+"healthz")))
	status, complaints = stop()
	require.Zero(t, status, complaints)
}
