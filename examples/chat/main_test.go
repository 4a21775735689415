package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	neturl "net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/chat/web"
	"github.com/levada-go/levada/examples/internal/engines"
)

func TestMain(m *testing.M) { os.Exit(engines.Main(m)) }

// started runs the command until the returned func is called, which returns its status and what it complained about.
func started(t *testing.T, args ...string) (address string, stop func() (int, string)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errs bytes.Buffer
	var status int
	var running sync.WaitGroup
	running.Go(func() {
		status = web.Program.Run(ctx, args, in, &errs)
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

// person has a browser of their own.
type person struct {
	t       *testing.T
	browser http.Client
}

func newPerson(t *testing.T) *person {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &person{t, http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (p *person) page(res *http.Response, err error) string {
	p.t.Helper()
	require.NoError(p.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, 200, res.StatusCode, string(body))
	return string(body)
}

func (p *person) get(url string) string { p.t.Helper(); return p.page(p.browser.Get(url)) }

func (p *person) post(url, event string, values ...string) string {
	p.t.Helper()
	form := neturl.Values{"_event": {event}}
	for i := 0; i < len(values); i += 2 {
		form.Set(values[i], values[i+1])
	}
	return p.page(p.browser.PostForm(url, form))
}

func TestASecondStartOnTheSameStoreKeepsEverything(t *testing.T) {
	t.Parallel()
	engines.Each(t, func(t *testing.T, store string) {
		ann := newPerson(t)
		address, stop := started(t, "-addr", "localhost:0", "-store", store)
		ann.post(address+"den", "rename", "nickname", "Ann")
		require.Contains(t, ann.post(address+"den", "send", "id", "1", "text", "hello"), "hello")
		if !engines.Shared(store) {
			var errs bytes.Buffer
			require.Equal(t, 1, web.Program.Run(t.Context(), []string{"-addr", "localhost:0", "-store", store}, io.Discard, &errs))
			if file, ok := strings.CutPrefix(store, "sqlite:"); ok {
				require.Contains(t, errs.String(), "another chat uses "+file)
			}
		}
		status, complaints := stop()
		require.Zero(t, status, complaints)

		again, stop := started(t, "-addr", "localhost:0", "-store", store)
		den := ann.get(again + "den")
		require.Contains(t, den, "hello")
		require.Contains(t, den, "<bdi>Ann</bdi>")
		require.Equal(t, 1, strings.Count(ann.get(again+"lobby"), "m-welcome"))
		require.Equal(t, "ok\n", ann.get(again+"healthz"))
		status, complaints = stop()
		require.Zero(t, status, complaints)
	})
}

// Two processes have one store: whoever is on one sees what is said on the other, once and in one order.
func TestTwoProcessesOnOneStoreAreOneChat(t *testing.T) {
	t.Parallel()
	engines.Each(t, func(t *testing.T, store string) {
		if !engines.Shared(store) {
			t.Skip("it is for one process")
		}
		here, _ := started(t, "-addr", "localhost:0", "-store", store)
		there, _ := started(t, "-addr", "localhost:0", "-store", store)
		const each = 5 // as many as one may send at once
		var all sync.WaitGroup
		for i, address := range []string{here, there} {
			all.Go(func() {
				who := newPerson(t)
				for n := range each {
					form := neturl.Values{"_event": {"send"}, "id": {fmt.Sprintf("m%d-%d", i, n)}, "text": {fmt.Sprintf("said-%d-%d.", i, n)}}
					res, err := who.browser.PostForm(address+"den", form)
					if err != nil || res.StatusCode != 200 {
						t.Error(err, res)
						return
					}
					res.Body.Close()
				}
			})
		}
		all.Wait()
		said := regexp.MustCompile(`said-\d-\d\.`)
		reader := newPerson(t)
		var seen [2][]string
		for i, address := range []string{here, there} {
			require.Eventually(t, func() bool {
				seen[i] = said.FindAllString(reader.get(address+"den"), -1)
				return len(seen[i]) == 2*each
			}, 20*time.Second, 20*time.Millisecond)
		}
		require.Equal(t, seen[0], seen[1])
		for i := range 2 {
			for n := range each {
				require.Equal(t, 1, strings.Count(strings.Join(seen[0], ""), fmt.Sprintf("said-%d-%d.", i, n)))
			}
		}
	})
}
