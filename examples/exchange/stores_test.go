package main

import (
	"bufio"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/internal/engines"
)

// served runs the command as a process of its own until the returned func is called.
func served(t *testing.T, args string) (address string, stop func()) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("signals cannot be sent to a process here")
	}
	c := command(t, args)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	})
	lines := bufio.NewScanner(out)
	for address == "" && lines.Scan() {
		address = regexp.MustCompile(`http://\S+/`).FindString(lines.Text())
	}
	if address == "" {
		_ = c.Wait()
		require.FailNow(t, "it does not open", errs.String())
	}
	go func() {
		for lines.Scan() {
			continue
		}
	}()
	return address, func() {
		t.Helper()
		ended = true
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		require.NoError(t, c.Wait(), errs.String())
	}
}

func page(t *testing.T, res *http.Response, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Less(t, res.StatusCode, 300, string(b))
	return string(b)
}

func order(t *testing.T, address, side, price string) {
	t.Helper()
	body := `{"symbol":"SOL-USD","side":"` + side + `","quantity":"1","price":"` + price + `"}`
	res, err := http.Post(address+"api/orders", "application/json", strings.NewReader(body))
	page(t, res, err)
}

func book(t *testing.T, address string) string {
	t.Helper()
	res, err := http.Get(address + "api/book?symbol=SOL-USD")
	return page(t, res, err)
}

func TestAnOrderIsInTheBookAfterARestartOnEveryStore(t *testing.T) {
	t.Parallel()
	engines.Each(t, func(t *testing.T, store string) {
		args := "-demo=0 -addr localhost:0 -store " + store
		address, stop := served(t, args)
		order(t, address, "buy", "5")
		var before string
		require.Eventually(t, func() bool { before = book(t, address); return strings.Contains(before, `"5.`) }, 20*time.Second, 10*time.Millisecond)
		stop()
		address, stop = served(t, args)
		require.JSONEq(t, before, book(t, address))
		stop()
	})
}

// Orders go to two processes on one store; they meet in one book.
func TestOrdersOfTwoProcessesOnOneStoreMeet(t *testing.T) {
	t.Parallel()
	engines.Each(t, func(t *testing.T, store string) {
		if !engines.Shared(store) {
			t.Skip("it is for one process")
		}
		args := "-demo=0 -addr localhost:0 -store " + store
		here, _ := served(t, args)
		there, _ := served(t, args)
		for range 5 {
			order(t, here, "buy", "5")
			order(t, there, "sell", "5")
		}
		for _, address := range []string{here, there} {
			require.Eventually(t, func() bool {
				res, err := http.Get(address + "api/trades?symbol=SOL-USD")
				return strings.Count(page(t, res, err), `"price"`) == 5
			}, 20*time.Second, 10*time.Millisecond)
			require.NotContains(t, book(t, address), `"5.`)
		}
	})
}

// Bots have a lease where others may have the store: two processes that may let them trade are one market.
func TestBotsTradeOnEveryStore(t *testing.T) {
	t.Parallel()
	engines.Each(t, func(t *testing.T, store string) {
		args := "-seed 7 -addr localhost:0 -store " + store
		here, stop := served(t, args)
		if engines.Shared(store) {
			served(t, args)
		}
		require.Eventually(t, func() bool {
			res, err := http.Get(here + "api/trades?symbol=SOL-USD")
			return strings.Contains(page(t, res, err), `"price"`)
		}, time.Minute, 50*time.Millisecond)
		stop()
	})
}

func TestMatchKeepsItsRunInEveryStore(t *testing.T) {
	t.Parallel()
	engines.Each(t, func(t *testing.T, store string) {
		const input = `{"op":"new","id":1,"side":"buy","type":"limit","tif":"gtc","qty":100,"price":1250,"owner":"a"}
{"op":"new","id":2,"side":"sell","type":"limit","tif":"gtc","qty":40,"price":1250,"owner":"b"}
{"op":"book","depth":10}
`
		match := func(args string) (string, error) {
			c := command(t, "match -store "+store+args)
			c.Stdin = strings.NewReader(input)
			out, err := c.Output()
			return string(out), err
		}
		if strings.HasPrefix(store, "sqlite:") {
			t.Skip("its own tests do")
		}
		first, err := match("")
		require.NoError(t, err, "%s", first)
		require.Contains(t, first, `"qty":40`)
		_, err = match("")
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Contains(t, string(exit.Stderr), "the store already holds a run")
		again, err := match(" -resume")
		require.NoError(t, err, "%s", again)
		require.Equal(t, first, again, "what happened is not done again, but told again")
	})
}
