package serve

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// load sends n commands to a market from many callers.
func load(b *testing.B, x *Exchange, n int) {
	var all sync.WaitGroup
	const callers = 256
	for w := range callers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(w)))
			for range n / callers {
				c := book.Command{Op: book.Place, Side: book.Side(1 + rng.IntN(2)), ID: x.newID(), Owner: uint64(1 + w),
					Qty: int64(1 + rng.IntN(50)), Price: int64(9_000_000 + rng.IntN(200)), STP: book.STPCancelOldest}
				if _, err := x.execute(context.Background(), &x.symbols[0], &c); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkStart measures how long an exchange takes to open on 50,000 events:
// from the events alone, and from the snapshot that it left when it was closed.
func BenchmarkStart(b *testing.B) {
	const events = 50_000
	file := filepath.Join(b.TempDir(), "exchange.db")
	log := slog.New(slog.DiscardHandler)
	store, err := sqlitestore.Open(file, &sqlitestore.Options{Synchronous: sqlitestore.Normal})
	require.NoError(b, err)
	x, err := Open(store, Symbols(), log)
	require.NoError(b, err)
	load(b, x, events)
	require.NoError(b, store.Close())
	open := func(run func(*Exchange, context.Context) error) {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(b, err)
		x, err := Open(store, Symbols(), log)
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = run(x, ctx) })
		require.NoError(b, x.Ready(ctx))
		cancel()
		running.Wait()
		require.NoError(b, store.Close())
	}
	b.Run("events", func(b *testing.B) {
		for b.Loop() {
			open(func(x *Exchange, ctx context.Context) error { return x.app.Run(ctx) }) // saves nothing
		}
		b.ReportMetric(events*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
	open((*Exchange).Run)
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			open((*Exchange).Run)
		}
	})
}

// BenchmarkFrames measures what it costs to make the frame of one event, which all
// who follow the book share.
func BenchmarkFrames(b *testing.B) {
	store := memstore.Open(nil)
	defer store.Close()
	x, err := Open(store, Symbols(), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	s := &x.symbols[0]
	m := newMarket()
	var bk book.Book
	var e book.Event
	n := 0
	for b.Loop() {
		n++
		bk.Do(book.Command{Op: book.Place, Side: book.Side(1 + n%2), ID: uint64(n), Qty: int64(1 + n%9), Price: int64(1000 + n%7)}, &e)
		d := decision{eventstore.Version(n), eventstore.Position(n), time.UnixMilli(int64(n)), &e.Command, e.Effects}
		before := m.lastBook
		m.apply(&d)
		changes, _ := m.since(before, (*change).beforeBook)
		f := dataFrame{Type: "update", Channel: channelBook, Symbol: s.Name, Prev: &before, Seq: m.lastBook}
		s.mergeLevels(&f, changes)
		_ = encode(f)
	}
}

// BenchmarkFanOut measures how long it takes from placing an order until 200
// sockets have the update of the book, with server and clients in one process.
func BenchmarkFanOut(b *testing.B) {
	const sockets = 200
	store := memstore.Open(nil)
	log := slog.New(slog.DiscardHandler)
	x, err := Open(store, Symbols(), log)
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = x.Run(ctx) })
	server, err := newServer(x, nil, nil, log, free())
	require.NoError(b, err)
	server.callers = buckets{rate: 1e6, burst: 1e6}
	web := httptest.NewServer(server)
	defer func() {
		require.NoError(b, server.Shutdown(context.Background()))
		web.Close()
		cancel()
		running.Wait()
		require.NoError(b, store.Close())
	}()
	var began, updated sync.WaitGroup
	for range sockets {
		conn, _, err := websocket.DefaultDialer.Dial(strings.Replace(web.URL, "http", "ws", 1)+"/ws", nil)
		require.NoError(b, err)
		defer conn.Close()
		require.NoError(b, conn.WriteMessage(websocket.TextMessage, []byte(`{"op":"subscribe","channel":"book","symbol":"BTC-USD"}`)))
		began.Add(1)
		go func() {
			for {
				_, data, err := conn.ReadMessage()
				switch {
				case err != nil:
					return
				case bytes.HasPrefix(data, []byte(`{"type":"snapshot"`)):
					began.Done()
				case bytes.HasPrefix(data, []byte(`{"type":"update"`)):
					updated.Done()
				}
			}
		}()
	}
	began.Wait()
	n := int64(0)
	for b.Loop() {
		n++
		updated.Add(sockets)
		c := book.Command{Op: book.Place, Side: book.Buy, ID: x.newID(), Owner: 1, Qty: 1, Price: 1 + n%50}
		if _, err := x.execute(ctx, &x.symbols[0], &c); err != nil {
			b.Fatal(err)
		}
		updated.Wait()
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/sockets, "µs/frame")
}

// BenchmarkPages measures how long it takes from a trade until the charts of 200 pages are told of it, while their boards show
// it too, with server and clients in one process.
func BenchmarkPages(b *testing.B) {
	const pages = 200
	store := memstore.Open(nil)
	log := slog.New(slog.DiscardHandler)
	x, err := Open(store, Symbols(), log)
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = x.Run(ctx) })
	server, err := newServer(x, nil, nil, log, free())
	require.NoError(b, err)
	server.callers = buckets{rate: 1e6, burst: 1e6}
	running.Go(func() { _ = server.Run(ctx) })
	web := httptest.NewServer(server)
	defer func() {
		require.NoError(b, server.Shutdown(context.Background()))
		web.Close()
		cancel()
		running.Wait()
		require.NoError(b, store.Close())
	}()
	var joined, updated sync.WaitGroup
	var sent atomic.Int64
	for range pages {
		jar, err := cookiejar.New(nil)
		require.NoError(b, err)
		res, err := (&http.Client{Jar: jar}).Get(web.URL)
		require.NoError(b, err)
		html, err := io.ReadAll(res.Body)
		require.NoError(b, err)
		token := regexp.MustCompile(`data-token="([^"]+)"`).FindSubmatch(html)[1]
		d := websocket.Dialer{Jar: jar}
		conn, _, err := d.Dial(strings.Replace(web.URL, "http", "ws", 1)+"/_live/socket", http.Header{"Origin": {web.URL}})
		require.NoError(b, err)
		defer conn.Close()
		require.NoError(b, conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `[1,"j",{"t":%q,"u":%q,"p":{},"n":0}]`, token, web.URL+"/")))
		joined.Add(1)
		go func() {
			for n := 0; ; n++ {
				_, data, err := conn.ReadMessage()
				if err != nil {
					return
				}
				sent.Add(int64(len(data)))
				if n == 0 {
					joined.Done()
				} else if bytes.Contains(data, []byte(`["candle",`)) {
					updated.Done()
				}
			}
		}()
	}
	joined.Wait()
	sent.Store(0)
	n := int64(0)
	for b.Loop() {
		n++
		for side := range 2 {
			c := book.Command{Op: book.Place, Side: book.Side(1 + side), ID: x.newID(), Owner: uint64(1 + side), Qty: 1, Price: 1000 + n%50}
			if side == 1 {
				updated.Add(pages)
			}
			if _, err := x.execute(ctx, &x.symbols[0], &c); err != nil {
				b.Fatal(err)
			}
		}
		updated.Wait()
	}
	b.ReportMetric(b.Elapsed().Seconds()*1e6/float64(b.N)/pages, "µs/page")
	b.ReportMetric(float64(sent.Load())/float64(b.N)/pages, "B/page")
}
