package serve

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/exchange/book"
	"github.com/levada-go/levada/live/livetest"
)

// quiet is a kit without a network, which may be in a bubble.
func quiet(t *testing.T, change ...func(*limits)) *kit {
	t.Helper()
	k := &kit{t: t, store: memstore.Open(nil), log: &lockedBuffer{}}
	log := slog.New(slog.NewTextHandler(k.log, nil))
	x, err := Open(k.store, Symbols(), log)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = x.Run(ctx) })
	require.NoError(t, x.Ready(ctx))
	l := free()
	for _, c := range change {
		c(&l)
	}
	k.x = x
	k.server, err = newServer(x, []string{"levada.test"}, nil, log, l)
	require.NoError(t, err)
	running.Go(func() { _ = k.server.Run(ctx) })
	t.Cleanup(func() {
		closing, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		require.NoError(t, k.server.Shutdown(closing))
		cancel()
		running.Wait()
		require.NoError(t, k.store.Shutdown(closing))
		require.NotContains(t, k.log.String(), "level=ERROR")
	})
	return k
}

// order places an order of one who only buys or one who only sells, and waits until it is shown.
func (k *kit) order(symbol string, side book.Side, qty, price int64) {
	k.t.Helper()
	c := book.Command{Op: book.Place, Side: side, ID: k.x.newID(), Owner: 100 + uint64(side), Qty: qty, Price: price}
	out, err := k.x.execute(context.Background(), k.x.symbol(symbol), &c)
	require.NoError(k.t, err)
	require.NoError(k.t, k.x.caughtUp(context.Background(), out.Position))
}

func TestWhenPlacingIsAnsweredTheOrderIsShown(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	p := livetest.Open(t, k.server, "/")
	require.Equal(t, "levada exchange", p.Title())
	require.Contains(t, p.Text("#list"), "No open orders.")
	for i := range 8 {
		p.Submit("#ticket", "side", "buy", "type", "limit", "price", strconv.Itoa(1000+i), "quantity", "0.5")
		require.Equal(t, "The order is in the book.", p.Text("#answer"))
		require.Equal(t, i+1, p.Count("#orders tr"))
		require.Contains(t, p.Texts("#orders tr")[0], "1,0"+strconv.Itoa(100 + i)[1:]+".00", "the newest first")
	}
	p.WaitFor("#bids button[value='1007.00']")
	require.Contains(t, p.Attr("#mine", "data-rests"), "bid-1007.00")
	for i := range 8 {
		p.Click("#orders tr:first-child .cancel")
		require.Equal(t, "The order was cancelled.", p.Text("#answer"))
		require.Equal(t, 7-i, p.Count("#orders tr"))
	}
	p.WaitUntil(func() bool { return !p.Has("#bids .row") })
	require.Empty(t, p.Attr("#mine", "data-rests"))
}

func TestWhatIsWrongWithAnOrderIsToldAtItsField(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	k.order("BTC-USD", book.Sell, 1_000_000, 100_00)
	for name, c := range map[string]struct {
		form []string
		at   string
		says string
	}{
		"no price":          {[]string{"quantity", "1"}, "#wrong-price", "The price is a number such as 1.5."},
		"no quantity":       {[]string{"price", "1"}, "#wrong-quantity", "The quantity is a number such as 1.5."},
		"a word":            {[]string{"price", "1", "quantity", "many"}, "#wrong-quantity", "The quantity is a number such as 1.5."},
		"too exact":         {[]string{"price", "1.001", "quantity", "1"}, "#wrong-price", "The price is more exact than the step of 0.01."},
		"zero":              {[]string{"price", "1", "quantity", "0"}, "#wrong-quantity", "The quantity is not positive."},
		"no stop price":     {[]string{"type", "stop", "quantity", "1"}, "#wrong-stop", "The stop price is a number such as 1.5."},
		"a price of others": {[]string{"type", "market", "price", "nonsense", "quantity", "-"}, "#wrong-quantity", "The quantity is a number such as 1.5."},
		"by the engine":     {[]string{"price", "100", "quantity", "1", "post_only", "on"}, "#answer", "The post-only order would trade."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := livetest.Open(t, k.server, "/")
			p.Submit("#ticket", c.form...)
			require.Equal(t, c.says, p.Text(c.at))
			told := 0
			for _, at := range []string{"#wrong-stop", "#wrong-price", "#wrong-quantity", "#answer"} {
				if p.Text(at) != "" {
					told++
				}
			}
			require.Equal(t, 1, told, "it is told once")
			for i := 0; i < len(c.form); i += 2 {
				if field := "#ticket :not(button)[name=" + c.form[i] + "]"; c.form[i] != "post_only" {
					require.Equal(t, c.form[i+1], p.Value(field), "what was typed stays")
				}
			}
			require.Zero(t, p.Count("#orders tr"))
			// Set right it is placed, and nothing is wrong any more.
			p.Submit("#ticket", "type", "limit", "price", "1,000", "quantity", "0,5", "post_only", "")
			require.Equal(t, "Done: 0.5000 BTC traded.", p.Text("#answer"))
			for _, at := range []string{"#wrong-stop", "#wrong-price", "#wrong-quantity"} {
				require.Empty(t, p.Text(at))
			}
		})
	}
}

func TestWithoutJavaScriptOneCanTrade(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	k.order("BTC-USD", book.Sell, 10_000, 100_00)
	k.order("BTC-USD", book.Buy, 20_000, 90_00)
	k.order("ETH-USD", book.Sell, 1_000, 50_00)
	b := livetest.NewBrowser(t, k.server, livetest.WithoutJavaScript())
	p := b.Open("/")
	require.Equal(t, []string{"Ask 100.00size 1.0000total 1.0000"}, p.Texts("#asks .row"))
	require.Equal(t, []string{"Bid 90.00size 2.0000total 2.0000"}, p.Texts("#bids .row"))
	require.Equal(t, "10.00", p.Text("#spread"))

	// A price is taken out of the book into the form.
	p.Visit("/?symbol=BTC-USD&bid=90.00")
	require.Equal(t, "90.00", p.Value("#ticket [name=price]"))
	require.Equal(t, "sell", p.Value("[name=side]:checked"))

	// What is wrong is told, and what was typed stays.
	p.Submit("#ticket", "side", "sell", "price", "90", "quantity", "x", "tif", "ioc", "post_only", "on")
	require.Equal(t, http.StatusUnprocessableEntity, p.Status())
	require.Equal(t, "The quantity is a number such as 1.5.", p.Text("#wrong-quantity"))
	require.Equal(t, []string{"90", "x", "ioc", "sell", "on"}, []string{p.Value("#ticket [name=price]"), p.Value("#ticket input[name=quantity]"), p.Value("[name=tif]"),
		p.Value("[name=side]:checked"), p.Value("[name=post_only]")})

	// It trades: the page that follows shows it, with the tape and the list.
	p.Submit("#ticket", "quantity", "0.5", "tif", "gtc", "post_only", "")
	require.Equal(t, http.StatusOK, p.Status())
	require.Equal(t, "Done: 0.5000 BTC traded.", p.Text("#answer"))
	require.Len(t, p.Texts("#tape li"), 1)
	require.Contains(t, p.Text("#tape li"), "90.000.5000")
	require.Equal(t, "90.00", p.Text("#mid"))
	require.Equal(t, []string{"Bid 90.00size 1.5000total 1.5000"}, p.Texts("#bids .row"))
	p.Click("#list-trades")
	require.Equal(t, 1, p.Count("#fills tr"))
	require.Contains(t, p.Text("#fills tr"), "Sell Taker 90.00 0.5000 BTC 45.00 USD")
	p.Reload()
	require.Empty(t, p.Text("#answer"), "it is told once")

	// What rests can be cancelled.
	p.Click("#list-orders")
	p.Submit("#ticket", "side", "sell", "price", "101", "quantity", "2")
	require.Equal(t, 1, p.Count("#orders tr"))
	require.Equal(t, 2, p.Count("#asks .row"))
	p.Click("#orders .cancel")
	require.Equal(t, "The order was cancelled.", p.Text("#answer"))
	require.Zero(t, p.Count("#orders tr"))
	require.Equal(t, 1, p.Count("#asks .row"))

	// Another market is a link, and another step of the book a form.
	p.Click("#market-ETH-USD")
	require.Equal(t, []string{"Ask 50.00size 1.000total 1.000"}, p.Texts("#asks .row"))
	p.Submit("#grouping", "group", "1000")
	require.Contains(t, p.URL(), "symbol=ETH-USD")
	require.Equal(t, "1000", p.Value("#grouping select"))
}

func TestTwoPeopleSeeTheSameMarketAndTheirOwnOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t)
		ann, bob := livetest.Open(t, k.server, "/"), livetest.Open(t, k.server, "/")
		ann.Submit("#ticket", "side", "sell", "price", "100", "quantity", "1")
		for _, p := range []*livetest.Page{ann, bob} {
			p.WaitFor("#asks button[value='100.00']")
		}
		require.Equal(t, []int{1, 0}, []int{ann.Count("#orders tr"), bob.Count("#orders tr")})
		bob.Submit("#ticket", "side", "buy", "price", "100", "quantity", "0.25")
		ann.WaitFor(".toast")
		require.Equal(t, "Sold0.2500 BTC at 100.00 USD", ann.Text(".toast"))
		require.Equal(t, "Bought0.2500 BTC at 100.00 USD", bob.Text(".toast"))
		require.Contains(t, ann.Text("#orders tr"), "0.7500 BTC 0.2500")
		bob.Click("#list-trades")
		ann.Click("#list-trades")
		require.Contains(t, bob.Text("#fills tr"), "Buy Taker 100.00")
		require.Contains(t, ann.Text("#fills tr"), "Sell Maker 100.00")
		for _, p := range []*livetest.Page{ann, bob} {
			p.WaitUntil(func() bool { return p.Count("#tape li") == 1 })
			p.WaitUntil(func() bool { return p.Text("#last") == "100.00" && p.Text("#market-BTC-USD .num") == "100.00" })
			require.Equal(t, "100.00 BTC-USD · levada exchange", p.Title())
		}
		time.Sleep(toastStays)
		require.Zero(t, ann.Count(".toast"))

		// Nobody else cancels an order, whatever is sent.
		ann.Click("#list-orders")
		id := ann.Attr("#orders [name=order]", "value")
		bob.Forge("cancel", "order", id)
		require.Equal(t, "You have no such open order.", bob.Text("#answer"))
		bob.Forge("cancel", "order", "nonsense")
		require.Contains(t, bob.Text("#answer"), "is not the id of an order")
		require.Equal(t, 1, ann.Count("#orders tr"))
		ann.Click("#orders .cancel")
		require.Zero(t, ann.Count("#orders tr"))
	})
}

func TestAnOrderOfAMarketThatIsNotShownIsCancelledAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t)
		p := livetest.Open(t, k.server, "/")
		p.Submit("#ticket", "side", "sell", "price", "100", "quantity", "1")
		id := p.Attr("#orders [name=order]", "value")
		p.Click("#market-ETH-USD")
		require.Zero(t, p.Count("#orders tr"))
		before := time.Now()
		p.Forge("cancel", "order", id)
		require.Equal(t, "The order was cancelled.", p.Text("#answer"))
		require.Zero(t, time.Since(before), "nothing was waited for")
		p.Click("#market-BTC-USD")
		require.Zero(t, p.Count("#orders tr"))
	})
}

func TestWindowsOfOneBrowserAreOneOwner(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	b := livetest.NewBrowser(t, k.server)
	one, other := b.Open("/"), b.Open("/")
	one.Submit("#ticket", "side", "sell", "price", "100", "quantity", "1")
	other.WaitFor("#orders tr")
	other.Click("#orders .cancel")
	one.WaitUntil(func() bool { return !one.Has("#orders tr") })
	require.NotEmpty(t, b.Cookie(ownerCookie))
}

func TestTheFormTellsWhatAnOrderIsWorth(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	k.order("BTC-USD", book.Sell, 10_000, 100_00)
	k.order("BTC-USD", book.Sell, 10_000, 110_00)
	p := livetest.Open(t, k.server, "/")
	for _, c := range []struct {
		form  []string
		label string
		says  string
	}{
		{[]string{"quantity", "1"}, "Total", "–"},
		{[]string{"price", "12,345.5"}, "Total", "12,345.50 USD"},
		{[]string{"type", "stop", "stop_price", "10"}, "About", "10.00 USD"},
		{[]string{"type", "market"}, "About", "100.00 USD"},
		{[]string{"quantity", "1.5"}, "About", "155.00 USD"},
		{[]string{"quantity", "2.5"}, "About", "–"},
		{[]string{"quantity", "1", "side", "sell"}, "About", "–"},
	} {
		p.Fill("#ticket", c.form...)
		require.Equal(t, c.label+" "+c.says, p.Text("#ticket .total"), "%v", c.form)
	}
}

func TestTheURLSaysWhatIsShown(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	k.order("ETH-USD", book.Buy, 1_000, 50_04)
	k.order("ETH-USD", book.Buy, 2_000, 50_01)
	p := livetest.Open(t, k.server, "/?symbol=ETH-USD&interval=5m&group=10&list=trades")
	require.Equal(t, "page", p.Attr("#market-ETH-USD", "aria-current"))
	require.Equal(t, "page", p.Attr("#interval-5m", "aria-current"))
	require.Equal(t, "page", p.Attr("#list-trades", "aria-current"))
	p.WaitFor("#bids .row")
	require.Equal(t, []string{"Bid 50.00size 3.000total 3.000"}, p.Texts("#bids .row"))
	p.Fill("#grouping", "group", "1")
	p.WaitUntil(func() bool { return p.Count("#bids .row") == 2 })
	require.Equal(t, "/?interval=5m&list=trades&symbol=ETH-USD", p.URL())
	p.Click("#market-SOL-USD")
	require.Equal(t, "/?interval=5m&list=trades&symbol=SOL-USD", p.URL())
	p.WaitUntil(func() bool { return !p.Has("#bids .row") })
	require.Equal(t, "Buy SOLSell SOL", p.Text("#submit"))
	p.Back()
	p.WaitUntil(func() bool { return p.Count("#bids .row") == 2 })
	// What no market can show is as if it had not been asked for, but for a market that is not there.
	p.Visit("/?symbol=ETH-USD&interval=7m&group=3&list=all")
	require.Equal(t, "page", p.Attr("#list-orders", "aria-current"))
	require.Equal(t, "1", p.Value("#grouping select"))
	p.Visit("/?symbol=NO-NE")
	require.Equal(t, http.StatusNotFound, p.Status())
}

func TestTheDepthChartFollowsTheBook(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	k.order("BTC-USD", book.Buy, 10, 100_00)
	k.order("BTC-USD", book.Sell, 10, 101_00)
	p := livetest.Open(t, k.server, "/")
	require.False(t, p.Has("#depths *"))
	p.Click("#chart-depth")
	require.Equal(t, "depth", p.Attr("#panel-chart", "data-chart"))
	p.WaitFor("#depths .bids[d^=M]")
	require.Equal(t, "100.50", p.Text("#depths .axis b"))
	before := p.Attr("#depths .asks", "d")
	k.order("BTC-USD", book.Sell, 30, 101_50)
	p.WaitUntil(func() bool { return p.Attr("#depths .asks", "d") != before })
	require.Equal(t, "0.0040 BTC", p.Text("#depths .most"))
	p.Click("#market-ETH-USD")
	p.WaitFor("#depths .axis b:contains(" + none + ")")
	p.Click("#chart-price")
	require.False(t, p.Has("#depths *"))
	require.Equal(t, "/?symbol=ETH-USD", p.URL())
}

func TestABrowserComesBackToTheMarketItShowedLast(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	shows := func(kept, url, market, interval string) {
		p := livetest.Open(t, k.server, url, livetest.WithCookie(keptCookie, kept))
		require.Equal(t, "page", p.Attr("#market-"+market, "aria-current"), kept)
		require.Equal(t, "page", p.Attr("#interval-"+interval, "aria-current"), kept)
	}
	p := livetest.Open(t, k.server, "/?symbol=SOL-USD&interval=15m")
	shows(p.Attr("#mine", "data-kept"), "/", "SOL-USD", "15m")
	shows("symbol=ETH-USD&interval=1h", "/", "ETH-USD", "1h")
	shows("symbol=ETH-USD&interval=1h", "/?symbol=BTC-USD", "BTC-USD", "1s")
	shows("symbol=NO-NE&interval=1h", "/", "BTC-USD", "1s")
	shows("symbol=%zz", "/", "BTC-USD", "1s")
}

func pushed[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(raw, &v))
	return v
}

func TestTheChartIsDrawnAndThenMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t)
		trade := func(price int64) {
			k.order("BTC-USD", book.Sell, 10, price)
			k.order("BTC-USD", book.Buy, 10, price)
		}
		trade(100_00)
		first := time.Now().Unix()
		p := livetest.Open(t, k.server, "/?symbol=BTC-USD&interval=1s")
		init := pushed[chartInit](t, p.WaitForPush("candles:init"))
		require.Equal(t, chartInit{"BTC-USD", "1s", 2, 4, []bar{{first, 10000, 10000, 10000, 10000, 10}}, []mark{}}, init)
		trade(101_00)
		c := pushed[chartBar](t, p.WaitForPush("candle"))
		require.Equal(t, bar{first, 10000, 10100, 10000, 10100, 20}, c.Bar)
		time.Sleep(2 * time.Second)
		p.Pushed("candle")
		trade(99_00)
		require.Equal(t, bar{first + 2, 9900, 9900, 9900, 9900, 10}, pushed[chartBar](t, last(t, p.Pushed("candle"))).Bar)

		// Own trades are marked.
		k.order("BTC-USD", book.Sell, 10_000, 100_00)
		p.Submit("#ticket", "price", "100", "quantity", "1")
		marks := pushed[chartMarks](t, p.WaitForPush("candles:marks"))
		require.Equal(t, chartMarks{"BTC-USD", []mark{{first + 2, 1, 10000, 10000}}}, marks)

		// Who was away gets all of it again: what happened meanwhile is in it.
		p.Disconnect()
		time.Sleep(time.Second)
		trade(98_00)
		p.Pushed("candle")
		p.Reconnect()
		again := pushed[chartInit](t, p.WaitForPush("candles:init"))
		require.Equal(t, first+3, again.Bars[len(again.Bars)-1][0])
		require.Equal(t, marks.Marks, again.Marks)
		require.Empty(t, p.Pushed("candle"))

		// Another interval and another market are other charts.
		p.Click("#interval-1d")
		day := pushed[chartInit](t, p.WaitForPush("candles:init"))
		require.Equal(t, "1d", day.Interval)
		require.Len(t, day.Bars, 1)
		p.Click("#market-ETH-USD")
		require.Equal(t, "ETH-USD", pushed[chartInit](t, p.WaitForPush("candles:init")).Symbol)
		trade(97_00)
		require.Empty(t, p.Pushed("candle"), "of the market before")
		p.Click("#list-trades")
		require.Empty(t, p.Pushed("candles:init"), "the chart is the same")
	})
}

func TestAPageHearsOfOthersNowAndThenAndOfItsOwnAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := k.x.symbol("BTC-USD")
		news, err := k.x.news(ctx, s, firstOwner, 0, 16)
		require.NoError(t, err)
		var heard, own atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := range news {
				heard.Add(1)
				own.Add(int64(len(n)))
			}
		}()
		for range 200 { // two seconds of trades
			k.order("BTC-USD", book.Sell, 1, 100_00)
			k.order("BTC-USD", book.Buy, 1, 100_00)
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		require.InDelta(t, 2*time.Second/boardEvery, heard.Load(), 2)
		time.Sleep(boardEvery)
		synctest.Wait()
		heard.Store(0)
		k.order("BTC-USD", book.Sell, 1, 100_00)
		k.order("BTC-USD", book.Buy, 1, 100_00)
		synctest.Wait()
		require.EqualValues(t, 1, heard.Load())
		for i := range int64(3) {
			c := book.Command{Op: book.Place, Side: book.Buy, ID: k.x.newID(), Owner: firstOwner, Qty: 1, Price: 1}
			_, err := k.x.execute(ctx, s, &c)
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, []int64{2 + i, 1 + i}, []int64{heard.Load(), own.Load()}, "at once")
		}
		k.order("BTC-USD", book.Sell, 1, 100_00)
		k.order("BTC-USD", book.Buy, 1, 100_00)
		synctest.Wait()
		require.EqualValues(t, 4, heard.Load())
		time.Sleep(boardEvery)
		synctest.Wait()
		require.EqualValues(t, 5, heard.Load(), "what others do is told in the end")
		cancel()
		<-done
	})
}

func last(t *testing.T, all []json.RawMessage) json.RawMessage {
	require.NotEmpty(t, all)
	return all[len(all)-1]
}

func TestAMarketShowsTheCandlesItHasEnoughOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t)
		shown := func() string {
			p := livetest.Open(t, k.server, "/")
			defer p.Close()
			return pushed[chartInit](t, p.WaitForPush("candles:init")).Interval
		}
		for _, want := range []struct {
			interval string
			minutes  int
		}{{"1s", 0}, {"5s", 10}, {"1m", 30}} {
			for range want.minutes {
				k.order("BTC-USD", book.Sell, 1, 100_00)
				k.order("BTC-USD", book.Buy, 1, 100_00)
				time.Sleep(time.Minute)
			}
			require.Equal(t, want.interval, shown())
		}
	})
}

func TestAnOrderThatIsSentTwiceIsPlacedOnce(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	p := livetest.Open(t, k.server, "/")
	key := p.Attr("[name=key]", "value")
	form := []string{"side", "buy", "price", "10", "quantity", "1", "key", key}
	p.Forge("place", form...)
	require.NotEqual(t, key, p.Attr("[name=key]", "value"), "the next order is another")
	p.Forge("place", form...)
	require.Equal(t, 1, p.Count("#orders tr"))
	// A refusal is no order that could be repeated.
	p.Submit("#ticket", "price", "1", "quantity", "x")
	p.Submit("#ticket", "price", "11", "quantity", "1")
	require.Equal(t, 2, p.Count("#orders tr"))
}

func TestAPageMaySendSoManyOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t, func(l *limits) { l.orderRate, l.orderBurst = 1, 2 })
		p := livetest.Open(t, k.server, "/")
		place := func() string {
			p.Submit("#ticket", "price", "10", "quantity", "1")
			return p.Text("#answer")
		}
		require.Equal(t, "The order is in the book.", place())
		require.Equal(t, "The order is in the book.", place())
		require.Equal(t, "Too many requests; wait a moment.", place())
		p.Click("#orders tr:first-child .cancel")
		require.Equal(t, "Too many requests; wait a moment.", p.Text("#answer"))
		time.Sleep(time.Second)
		require.Equal(t, "The order is in the book.", place())
		require.Equal(t, 3, p.Count("#orders tr"))
	})
}

// What is shown after a storm is what is there: whatever was left out on the way.
func TestAPageThatFollowsAStormShowsWhatIsThere(t *testing.T) {
	t.Parallel()
	k := quiet(t)
	b := livetest.NewBrowser(t, k.server)
	p := b.Open("/?symbol=BTC-USD")
	p.Submit("#ticket", "side", "buy", "price", "90", "quantity", "1")
	k.load(3, 600)
	require.NoError(t, k.x.Ready(context.Background()))
	p.WaitUntil(func() bool {
		plain := b.Open("/?symbol=BTC-USD")
		defer plain.Close()
		for _, part := range []string{"#asks", "#bids", "#tape", ".stats", "#position"} {
			if plain.Text(part) != p.Text(part) {
				return false
			}
		}
		return true
	})
}

func TestABoardDrawsOnlyWhatSomebodySees(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := quiet(t)
		pages := func() (all []int) {
			for _, b := range k.server.boards {
				all = append(all, b.price.pages, b.tape.pages, b.books[0].pages, b.books[2].pages, b.depth.pages)
			}
			return all
		}
		p := livetest.Open(t, k.server, "/")
		require.Equal(t, []int{1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0}, pages())
		p.Fill("#grouping", "group", "100")
		p.Click("#chart-depth")
		require.Equal(t, []int{1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0}, pages())
		p.Click("#market-SOL-USD")
		require.Equal(t, []int{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 1}, pages())
		p.Click("#chart-price")
		require.Equal(t, []int{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0}, pages())
		p.Close()
		synctest.Wait()
		require.Equal(t, make([]int, 15), pages())
		k.order("SOL-USD", book.Buy, 1, 10)
		synctest.Wait()
		require.EqualValues(t, 0, k.server.boards[2].books[0].at)
		livetest.Open(t, k.server, "/?symbol=SOL-USD").WaitFor("#bids .row")
	})
}
