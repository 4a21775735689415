package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

func TestThePageLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	status, html, h := p.do("GET", "/", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'; script-src 'self'; style-src 'self'")
	require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe")
	require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
	require.NotRegexp(t, `(?i)<script(>|[^>]*[^r]>)[^<]`, html, "inline script")
	require.NotRegexp(t, `(?i) (on[a-z]+|style)=`, html, "inline handler or style")
	require.NotRegexp(t, `(src|<link[^>]*href)="(https?:)?//`, html)
	require.Contains(t, html, `href="https://www.tradingview.com/"`, "the attribution its licence asks for")
	require.Contains(t, html, "TradingView Lightweight Charts")
	for _, path := range []string{"style.css", "theme.js", "app.js", "chart.js", "icon.svg", "charts/lightweight-charts.js", "charts/LICENSE"} {
		status, body, h := p.do("GET", "/assets/"+path, "")
		require.Equal(t, http.StatusOK, status, path)
		require.NotEmpty(t, h.Get("ETag"))
		require.NotEmpty(t, h.Get("Content-Type"))
		if !strings.HasPrefix(path, "charts/") && path != "icon.svg" {
			require.NotRegexp(t, `https?://`, body, path)
		}
		status, _, _ = p.do("GET", "/assets/"+path, "", "If-None-Match", h.Get("ETag"))
		require.Equal(t, http.StatusNotModified, status, path)
	}
	for _, path := range []string{"/assets/", "/assets/page.html", "/assets/update.sh", "/assets/../main.go", "/nothing"} {
		status, _, _ := p.do("GET", path, "")
		require.Equal(t, http.StatusNotFound, status, path)
	}
}

func TestOrdersOverHTTP(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p, q := k.person(), k.person()
	ask := p.place(`{"symbol":"BTC-USD","side":"sell","quantity":"0.5","price":"100.25"}`)
	require.Equal(t, outcome{Order: ask.Order, Symbol: "BTC-USD", Status: "open", Open: "0.5000", Filled: "0.0000", Fills: []fillJSON{}, Seq: 1, Position: 1}, ask)
	bid := q.place(`{"symbol":"BTC-USD","side":"buy","quantity":"0.7","price":"101","tif":"gtc"}`)
	require.Equal(t, outcome{Order: bid.Order, Symbol: "BTC-USD", Status: "open", Open: "0.2000", Filled: "0.5000",
		Fills: []fillJSON{{"100.25", "0.5000"}}, Seq: 2, Position: 2}, bid)
	stop := q.place(`{"symbol":"BTC-USD","side":"sell","type":"stop","quantity":"0.1","stop_price":"90"}`)
	require.Equal(t, "waiting", stop.Status)
	taken := p.place(`{"symbol":"BTC-USD","side":"sell","type":"market","quantity":"1","tif":"ioc"}`)
	require.Equal(t, []string{"cancelled", "0.2000", "0.8000"}, []string{taken.Status, taken.Filled, taken.Open})
	done := p.place(`{"symbol":"ETH-USD","side":"sell","quantity":"1","price":"5"}`)
	filled := q.place(`{"symbol":"ETH-USD","side":"buy","quantity":"1","price":"5"}`)
	require.Equal(t, "filled", filled.Status)
	require.NotEqual(t, done.Order, filled.Order)

	var f dataFrame
	_, body, _ := q.do("GET", "/api/orders?symbol=BTC-USD", "")
	require.NoError(t, json.Unmarshal([]byte(body), &f))
	require.Len(t, *f.Orders, 1)
	require.Equal(t, stop.Order, (*f.Orders)[0].Order)

	// A change of the stop price, and the end.
	status, body, _ := q.do("PATCH", "/api/orders/"+stop.Order, `{"quantity":"0.05"}`)
	require.Equal(t, http.StatusOK, status, body)
	require.NotContains(t, body, "status", "it waits as before")
	status, body, _ = q.do("PATCH", "/api/orders/"+stop.Order, `{"stop_price":"91"}`)
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, `"status":"waiting"`)
	status, body, _ = q.do("DELETE", "/api/orders/"+stop.Order, "")
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, `"status":"cancelled","open":"0.0500"`)
	require.Equal(t, "unknown_order", q.refused(404, "DELETE", "/api/orders/"+stop.Order, ""))
	require.Equal(t, "unknown_order", q.refused(404, "DELETE", "/api/orders/"+stop.Order+"?symbol=BTC-USD", ""))

	_, body, _ = p.do("GET", "/api/trades?symbol=BTC-USD", "")
	require.NoError(t, json.Unmarshal([]byte(body), &f))
	require.Len(t, *f.Trades, 2)
	require.Equal(t, "buy", (*f.Trades)[0].Side)
	_, body, _ = p.do("GET", "/api/candles?symbol=BTC-USD&interval=1d", "")
	require.NoError(t, json.Unmarshal([]byte(body), &f))
	require.NotEmpty(t, *f.Candles)
	status, body, _ = p.do("GET", "/api/symbols", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, `{"symbol":"BTC-USD","base":"BTC","quote":"USD","price_decimals":2,"quantity_decimals":4}`)
	status, _, _ = p.do("GET", "/healthz", "")
	require.Equal(t, http.StatusOK, status)
}

func TestRequestsOverHTTPThatAreRefused(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	good := p.place(`{"symbol":"BTC-USD","side":"sell","quantity":"0.5","price":"100"}`)
	order := func(fields string) string { return `{"symbol":"BTC-USD","side":"buy",` + fields + `}` }
	before, err := k.store.Head(context.Background())
	require.NoError(t, err)
	for _, c := range []struct {
		status             int
		code, method, path string
		body               string
		headers            []string
	}{
		{400, "bad_request", "POST", "/api/orders", `{`, nil},
		{400, "bad_request", "POST", "/api/orders", `{"op":"place"}`, nil},
		{400, "bad_request", "POST", "/api/orders", order(`"quantity":"1","price":"1","x":"y"`), nil},
		{400, "bad_request", "POST", "/api/orders", order(`"price":"1"`), nil},
		{400, "bad_quantity", "POST", "/api/orders", order(`"quantity":"0","price":"1"`), nil},
		{400, "bad_quantity", "POST", "/api/orders", order(`"quantity":"0.00001","price":"1"`), nil},
		{400, "bad_price", "POST", "/api/orders", order(`"quantity":"1","price":"-1"`), nil},
		{400, "bad_stop_price", "POST", "/api/orders", order(`"quantity":"1","type":"stop","stop_price":"x"`), nil},
		{400, "bad_request", "POST", "/api/orders", order(`"quantity":"1","price":"1","tif":"x"`), nil},
		{400, "bad_request", "POST", "/api/orders?x=1", order(`"quantity":"1","price":"1"`), nil},
		{400, "bad_request", "POST", "/api/orders", order(`"quantity":"1","price":"1","key":"a"`), []string{"Idempotency-Key", "b"}},
		{404, "unknown_symbol", "POST", "/api/orders", `{"symbol":"X","side":"buy","quantity":"1","price":"1"}`, nil},
		{413, "too_large", "POST", "/api/orders", order(`"quantity":"1","price":"` + strings.Repeat("1", 5000) + `"`), nil},
		{415, "not_json", "POST", "/api/orders", order(`"quantity":"1","price":"1"`), []string{"Content-Type", "text/plain"}},
		{415, "not_json", "POST", "/api/orders", order(`"quantity":"1","price":"1"`), []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{400, "bad_request", "DELETE", "/api/orders/x", "", nil},
		{400, "bad_request", "DELETE", "/api/orders/0?symbol=BTC-USD", "", nil},
		{404, "unknown_order", "DELETE", "/api/orders/77", "", nil},
		{400, "bad_request", "DELETE", "/api/orders/" + good.Order + "?symbol=BTC-USD&symbol=ETH-USD", "", nil},
		{400, "bad_request", "PATCH", "/api/orders/" + good.Order, `{}`, nil},
		{400, "bad_request", "PATCH", "/api/orders/" + good.Order, `{"side":"buy"}`, nil},
		{404, "unknown_symbol", "GET", "/api/book?symbol=btc-usd", "", nil},
		{404, "unknown_symbol", "GET", "/api/book", "", nil},
		{400, "bad_request", "GET", "/api/book?symbol=BTC-USD&interval=1s", "", nil},
		{400, "unknown_interval", "GET", "/api/candles?symbol=BTC-USD", "", nil},
		{400, "unknown_interval", "GET", "/api/candles?symbol=BTC-USD&interval=2s", "", nil},
		{404, "unknown_symbol", "GET", "/api/orders", "", nil},
		{400, "bad_request", "GET", "/api/symbols?x", "", nil},
		{404, "not_found", "GET", "/api/x", "", nil},
		{403, "wrong_origin", "POST", "/api/orders", order(`"quantity":"1","price":"1"`), []string{"Origin", "https://evil.example"}},
		{403, "wrong_origin", "POST", "/api/orders", order(`"quantity":"1","price":"1"`), []string{"Sec-Fetch-Site", "cross-site"}},
		{403, "wrong_origin", "POST", "/api/orders", order(`"quantity":"1","price":"1"`), []string{"Sec-Fetch-Site", "same-site"}},
		{403, "wrong_origin", "DELETE", "/api/orders/" + good.Order, "", []string{"Origin", "null"}},
		{421, "wrong_host", "GET", "/", "", []string{"Host", "evil.example"}},
		{421, "wrong_host", "GET", "/api/book?symbol=BTC-USD", "", []string{"Host", "evil.example:80"}},
	} {
		require.Equal(t, c.code, p.refused(c.status, c.method, c.path, c.body, c.headers...), "%s %s %s", c.method, c.path, c.body)
	}
	after, err := k.store.Head(context.Background())
	require.NoError(t, err)
	require.Equal(t, before, after, "none of them was recorded")

	// These the engine refuses.
	for fields, code := range map[string]string{
		`"quantity":"1"`: "price_is_not_positive",
		`"quantity":"1","price":"100","post_only":true`:               "the_post_only_order_would_trade",
		`"quantity":"1","type":"market","price":"1"`:                  "a_market_order_has_no_price",
		`"quantity":"1","type":"market","post_only":true,"tif":"ioc"`: "a_market_order_cannot_be_post_only",
		`"quantity":"1","price":"1","stop_price":"1"`:                 "the_order_has_no_stop_price",
		`"quantity":"1","price":"1","post_only":true,"tif":"ioc"`:     "an_immediate_order_cannot_be_post_only",
	} {
		require.Equal(t, code, p.refused(422, "POST", "/api/orders", order(fields)), fields)
	}
	require.Equal(t, "not_found", p.refused(404, "PUT", "/api/book", ""))
}

func TestNobodyCancelsOrChangesSomebodyElsesOrder(t *testing.T) {
	t.Parallel()
	k := serve(t)
	ann, eve := k.person(), k.person()
	mine := ann.place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`)
	require.Equal(t, "unknown_order", eve.refused(404, "DELETE", "/api/orders/"+mine.Order, ""))
	require.Equal(t, "unknown_order", eve.refused(404, "DELETE", "/api/orders/"+mine.Order+"?symbol=BTC-USD", ""))
	require.Equal(t, "unknown_order", eve.refused(404, "PATCH", "/api/orders/"+mine.Order, `{"symbol":"BTC-USD","price":"1"}`))
	e := eve.dial()
	require.Equal(t, "unknown_order", e.ask(`{"op":"cancel","id":1,"symbol":"BTC-USD","order":"`+mine.Order+`"}`).Code)
	require.Equal(t, "unknown_order", e.ask(`{"op":"modify","id":1,"symbol":"BTC-USD","order":"`+mine.Order+`","price":"1"}`).Code)
	e.send(`{"op":"subscribe","channel":"orders","symbol":"BTC-USD"}`)
	require.Equal(t, "subscribed", e.next().Type)
	require.Empty(t, *e.next().Orders)
	_, body, _ := eve.do("GET", "/api/orders?symbol=BTC-USD", "")
	require.Contains(t, body, `"orders":[]`)
	// Her socket is hers.
	a := ann.dial()
	f := a.ask(`{"op":"cancel","id":2,"symbol":"BTC-USD","order":"` + mine.Order + `"}`)
	require.Equal(t, []any{"result", int64(2), "cancelled", mine.Order}, []any{f.Type, f.ID, f.Status, f.Order})
}

func TestASnapshotShowsWhatAResultBeforeItToldOf(t *testing.T) {
	t.Parallel()
	k := serve(t)
	e := k.person().dial()
	for range 100 {
		order := e.ask(`{"op":"place","id":1,"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`).Order
		require.Equal(t, "subscribed", e.ask(`{"op":"subscribe","id":2,"channel":"orders","symbol":"BTC-USD"}`).Type)
		f := e.next()
		require.Equal(t, "snapshot", f.Type)
		require.Equal(t, order, (*f.Orders)[0].Order)
		require.Equal(t, "unsubscribed", e.ask(`{"op":"unsubscribe","id":3,"channel":"orders","symbol":"BTC-USD"}`).Type)
		require.Equal(t, "result", e.ask(`{"op":"cancel","id":4,"symbol":"BTC-USD","order":"`+order+`"}`).Type)
	}
}

func TestTheCookieIsASecretOfTheBrowser(t *testing.T) {
	t.Parallel()
	k := serve(t)
	_, _, h := k.person().do("GET", "/", "")
	c, err := http.ParseSetCookie(h.Get("Set-Cookie"))
	require.NoError(t, err)
	require.True(t, c.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, c.SameSite)
	require.Len(t, c.Value, 32)
	p := k.person()
	p.do("GET", "/", "")
	_, _, h = p.do("GET", "/", "")
	require.Empty(t, h.Get("Set-Cookie"), "it is kept")
	for _, forged := range []string{"", "x", "1", strings.Repeat("A", 31), strings.Repeat("A", 33), strings.Repeat("!", 32)} {
		_, _, h := k.person().do("GET", "/", "", "Cookie", ownerCookie+"="+forged)
		require.NotEmpty(t, h.Get("Set-Cookie"), forged)
	}
	require.GreaterOrEqual(t, ownerNumber(make([]byte, tokenBytes)), uint64(firstOwner))
	require.Less(t, uint64(lastOwner), uint64(firstOwner), "nobody is a bot")
	// The socket gives it too.
	e, res, err := k.person().tryDial()
	require.NoError(t, err)
	require.Contains(t, res.Header.Get("Set-Cookie"), ownerCookie)
	require.Equal(t, "hello", e.next().Type)
}

func TestPagesOfOtherSitesGetNoSocket(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	for _, h := range [][]string{
		{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://127.0.0.1:1"},
		{"Origin", k.web.URL + ".evil.example"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"},
	} {
		_, res, err := p.tryDial(h...)
		require.Error(t, err)
		require.Equal(t, http.StatusForbidden, res.StatusCode, h)
	}
	p.dial("Origin", k.web.URL)
	p.dial("Origin", k.web.URL, "Sec-Fetch-Site", "same-origin")
	require.Equal(t, "bad_handshake", p.refused(400, "GET", "/ws", ""))
}

func TestBadFramesAreAnsweredAndTheSocketLives(t *testing.T) {
	t.Parallel()
	k := serve(t)
	e := k.person().dial()
	for frame := range badFrames {
		if strings.Contains(frame, "\xff") {
			continue // the protocol itself forbids it
		}
		f := e.ask(frame)
		require.Equal(t, []string{"error", "bad_request"}, []string{f.Type, f.Code}, "%.60s", frame)
		require.NotEmpty(t, f.Message)
	}
	for frame, code := range map[string]string{
		`{"op":"subscribe","id":1,"channel":"x","symbol":"BTC-USD"}`:                        "unknown_channel",
		`{"op":"subscribe","id":1,"channel":"book","symbol":"X"}`:                           "unknown_symbol",
		`{"op":"subscribe","id":1,"channel":"book","symbol":"BTC-USD","interval":"1m"}`:     "bad_request",
		`{"op":"subscribe","id":1,"channel":"candles","symbol":"BTC-USD"}`:                  "unknown_interval",
		`{"op":"unsubscribe","id":1,"channel":"candles","symbol":"BTC-USD"}`:                "unknown_interval",
		`{"op":"cancel","id":1,"symbol":"BTC-USD","order":"x"}`:                             "bad_request",
		`{"op":"cancel","id":1,"symbol":"BTC-USD","order":"5"}`:                             "unknown_order",
		`{"op":"modify","id":1,"symbol":"BTC-USD","order":"5"}`:                             "bad_request",
		`{"op":"place","id":1,"symbol":"BTC-USD","side":"buy","quantity":"1"}`:              "price_is_not_positive",
		`{"op":"place","id":1,"symbol":"BTC-USD","side":"x","quantity":"1"}`:                "bad_request",
		`{"op":"place","id":1,"symbol":"BTC-USD","side":"buy","quantity":"1","price":"1x"}`: "bad_price",
	} {
		f := e.ask(frame)
		require.Equal(t, []any{"error", code, int64(1)}, []any{f.Type, f.Code, f.ID}, frame)
	}
	require.Equal(t, "pong", e.ask(`{"op":"ping"}`).Type)

	e.send("{\"op\":\"\xff\"}")
	require.Equal(t, "bad_request", e.next().Code)
	require.NoError(t, e.conn.WriteMessage(websocket.BinaryMessage, []byte(`{"op":"ping"}`)))
	require.Equal(t, websocket.CloseUnsupportedData, e.closed())

	e = k.person().dial()
	e.send(`{"op":"` + strings.Repeat("x", 5000) + `"}`)
	require.Equal(t, websocket.CloseMessageTooBig, e.closed())
}

func TestLimits(t *testing.T) {
	t.Parallel()
	k := serve(t, func(l *limits) {
		l.sessions, l.subscriptions, l.requestBurst, l.requestRate, l.orderBurst, l.orderRate, l.excess = 2, 2, 8, 1e-9, 2, 1e-9, 3
	})
	k.server.callers = buckets{rate: 1e6, burst: 1e6}
	p := k.person()
	e := p.dial()
	other := p.dial()
	_, res, err := p.tryDial()
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	require.NotEmpty(t, res.Header.Get("Retry-After"))

	e.ask(`{"op":"subscribe","channel":"book","symbol":"BTC-USD"}`)
	e.ask(`{"op":"subscribe","channel":"book","symbol":"ETH-USD"}`)
	require.Equal(t, "too_many_subscriptions", e.ask(`{"op":"subscribe","channel":"book","symbol":"SOL-USD"}`).Code)
	for range 2 {
		require.Equal(t, "unknown_order", e.ask(`{"op":"cancel","symbol":"BTC-USD","order":"5"}`).Code)
	}
	require.Equal(t, "rate_limited", e.ask(`{"op":"cancel","symbol":"BTC-USD","order":"5"}`).Code)
	require.Equal(t, "pong", e.ask(`{"op":"ping"}`).Type)
	require.Equal(t, "pong", e.ask(`{"op":"ping"}`).Type)
	for range 3 {
		require.Equal(t, "rate_limited", e.ask(`{"op":"ping"}`).Code)
	}
	e.send(`{"op":"ping"}`)
	require.Equal(t, closeRate, e.closed())
	// Its place is free again, and the other was not touched.
	require.Eventually(t, func() bool { return k.server.Watched() == 1 }, 10*time.Second, time.Millisecond)
	p.dial()
	require.Equal(t, "pong", other.ask(`{"op":"ping"}`).Type)
}

func TestCallersOverHTTPAreLimitedByAddress(t *testing.T) {
	t.Parallel()
	k := serve(t)
	now := time.Unix(1000, 0)
	b := buckets{rate: 2, burst: 3}
	for range 3 {
		require.True(t, b.take("a", now))
	}
	require.False(t, b.take("a", now))
	require.True(t, b.take("b", now))
	require.True(t, b.take("a", now.Add(time.Second/2)))
	require.False(t, b.take("a", now.Add(time.Second/2)))
	require.False(t, b.take("a", now), "a clock that goes back gives nothing")
	for i := range 3 * maxBuckets {
		b.take(fmt.Sprint(i), now)
		require.LessOrEqual(t, len(b.by), maxBuckets)
	}
	k.server.callers = buckets{rate: 1e-9, burst: 1}
	p := k.person()
	status, _, _ := p.do("GET", "/", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "rate_limited", p.refused(429, "GET", "/", ""))
}

func TestAnOwnerHasSoManyOpenOrdersAtMost(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	for i := range maxOwnOrders {
		p.place(fmt.Sprintf(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"%d"}`, i+1))
	}
	one := `{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"1"}`
	require.Equal(t, "too_many_orders", p.refused(422, "POST", "/api/orders", one))
	k.person().place(one)
}

func TestTheSameKeyPlacesOneOrder(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	body := `{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10"}`
	p.do("GET", "/", "")
	var first, second outcome
	status, answer, _ := p.do("POST", "/api/orders", body, "Idempotency-Key", "a")
	require.Equal(t, http.StatusCreated, status)
	require.NoError(t, json.Unmarshal([]byte(answer), &first))
	status, answer, _ = p.do("POST", "/api/orders", body, "Idempotency-Key", "a")
	require.Equal(t, http.StatusOK, status)
	require.NoError(t, json.Unmarshal([]byte(answer), &second))
	require.True(t, second.Repeated)
	second.Repeated = false
	require.Equal(t, first, second)
	f := p.dial().ask(`{"op":"place","symbol":"BTC-USD","side":"buy","quantity":"1","price":"10","key":"a"}`)
	require.Equal(t, []any{true, first.Order}, []any{f.Repeated, f.Order})
	// Another owner's key is another key.
	require.NotEqual(t, first.Order, k.person().place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"10","key":"a"}`).Order)
}

func TestAPanicEndsOneSessionOnly(t *testing.T) {
	t.Parallel()
	k := &kit{}
	ok := t.Run("exchange", func(t *testing.T) {
		k = serve(t)
		p := k.person()
		other, e := p.dial(), p.dial()
		var once sync.Once
		k.server.now = func() time.Time {
			once.Do(func() { panic("broken clock") })
			return time.Now()
		}
		e.send(`{"op":"ping"}`)
		require.Equal(t, websocket.CloseInternalServerErr, e.closed())
		require.Equal(t, "pong", other.ask(`{"op":"ping"}`).Type)
		require.Contains(t, k.log.String(), "broken clock")
		k.log.reset() // it is meant to be there
	})
	require.True(t, ok)
}

func TestClosingTellsClientsAndLeavesNobodyBehind(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	idle, busy := p.dial(), p.dial()
	busy.send(`{"op":"subscribe","channel":"trades","symbol":"BTC-USD"}`)
	require.Equal(t, "subscribed", busy.next().Type)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error)
	go func() { done <- k.server.Shutdown(ctx) }()
	require.Equal(t, websocket.CloseGoingAway, idle.closed())
	require.Equal(t, websocket.CloseGoingAway, busy.closed())
	require.NoError(t, <-done)
	require.Zero(t, k.server.Watched())
	_, res, err := p.tryDial()
	require.Error(t, err)
	require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
}

func TestAClientThatIsGoneIsNoticed(t *testing.T) {
	t.Parallel()
	k := serve(t, func(l *limits) { l.pingEvery, l.readTimeout = 5*time.Millisecond, 100*time.Millisecond })
	p := k.person()
	e := p.dial()
	silent := p.dial()
	silent.conn.SetPingHandler(func(string) error { return nil }) // reads, and never answers
	go func() {
		for {
			if _, _, err := silent.conn.ReadMessage(); err != nil {
				return
			}
		}
	}()
	pings := make(chan struct{}, 1)
	pong := e.conn.PingHandler()
	e.conn.SetPingHandler(func(d string) error {
		select {
		case pings <- struct{}{}:
		default:
		}
		return pong(d)
	})
	go func() { e.read() }()
	require.Eventually(t, func() bool { return k.server.Watched() == 1 }, 10*time.Second, time.Millisecond)
	<-pings
	require.Equal(t, 1, k.server.Watched(), "who answers stays")
}

func TestARestartContinuesFromTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "exchange.db")
	var p *person
	paths := []string{"/api/book?symbol=BTC-USD", "/api/trades?symbol=BTC-USD", "/api/candles?symbol=BTC-USD&interval=1s",
		"/api/orders?symbol=BTC-USD", "/api/orders?symbol=ETH-USD"}
	before := map[string]string{}
	var kept, again outcome
	t.Run("first", func(t *testing.T) {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(t, err)
		k := serveStore(t, store)
		p = k.person()
		kept = p.place(`{"symbol":"ETH-USD","side":"buy","quantity":"1","price":"10","key":"once"}`)
		p.place(`{"symbol":"BTC-USD","side":"buy","type":"stop","quantity":"1","stop_price":"500"}`)
		k.load(5, 400)
		require.NoError(t, k.x.Ready(context.Background()))
		for _, path := range paths {
			_, before[path], _ = p.do("GET", path, "")
		}
	})
	t.Run("second", func(t *testing.T) {
		store, err := sqlitestore.Open(file, nil)
		require.NoError(t, err)
		k := serveStore(t, store)
		q := k.person()
		token := ""
		for _, c := range p.client.Jar.Cookies(mustURL(p.k.web.URL)) {
			token = c.Name + "=" + c.Value
		}
		for _, path := range paths {
			_, after, _ := q.do("GET", path, "", "Cookie", token)
			require.JSONEq(t, before[path], after, path)
		}
		_, answer, _ := q.do("POST", "/api/orders", `{"symbol":"ETH-USD","side":"buy","quantity":"1","price":"10","key":"once"}`, "Cookie", token)
		require.NoError(t, json.Unmarshal([]byte(answer), &again))
		require.Equal(t, kept.Order, again.Order, "keys outlive the process")
		require.True(t, again.Repeated)
		status, _, _ := q.do("DELETE", "/api/orders/"+kept.Order, "", "Cookie", token)
		require.Equal(t, http.StatusOK, status)
		first := q.place(`{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"1"}`)
		require.Greater(t, first.Order, kept.Order)
		require.Greater(t, first.Position, eventstore.Position(400))
	})
}

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}
