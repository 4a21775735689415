package serve

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A transcript is what went over the wire, made the same in every run.
type transcript struct {
	lines []string
	ids   map[string]string
}

var (
	anyTime   = regexp.MustCompile(`"time":\d+`)
	anyCandle = regexp.MustCompile(`\[\[\d{13},`)
	anyOrder  = regexp.MustCompile(`\b\d{18}\b`)
)

func (tr *transcript) add(line string) {
	line = anyTime.ReplaceAllString(line, `"time":1767225600123`)
	line = anyCandle.ReplaceAllString(line, `[[1767225600000,`)
	line = anyOrder.ReplaceAllStringFunc(line, func(id string) string {
		if tr.ids[id] == "" {
			tr.ids[id] = "45241058131" + strings.Repeat("0", 6) + string(rune('1'+len(tr.ids)))
		}
		return tr.ids[id]
	})
	tr.lines = append(tr.lines, line)
}

// Every line of JSON in the documentation is one that this conversation has.
func TestTheDocumentedMessagesAreTheRealOnes(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p, other := k.person(), k.person()
	tr := &transcript{ids: map[string]string{}}
	hello, _, err := p.tryDial()
	require.NoError(t, err)
	tr.add(hello.next().raw)
	e := hello
	ask := func(frame string, more int) gotFrame {
		e.send(frame)
		tr.add(frame)
		f := e.next()
		tr.add(f.raw)
		for range more {
			tr.add(e.next().raw)
		}
		return f
	}
	next := func(n int) {
		for range n {
			tr.add(e.next().raw)
		}
	}
	post := func(q *person, body string) outcome {
		status, answer, _ := q.do("POST", "/api/orders", body)
		tr.add(body)
		tr.add(answer)
		require.Less(t, status, 300, answer)
		return outcome{}
	}

	ask(`{"op":"ping","id":1}`, 0)
	maker := other.place(`{"symbol":"BTC-USD","side":"sell","quantity":"0.5","price":"97250.25"}`)
	other.place(`{"symbol":"BTC-USD","side":"buy","quantity":"1.2","price":"97240"}`)
	ask(`{"op":"subscribe","id":2,"channel":"book","symbol":"BTC-USD"}`, 1)
	post(other, `{"symbol":"BTC-USD","side":"buy","quantity":"0.25","price":"97241.5","post_only":true}`)
	next(1)
	ask(`{"op":"unsubscribe","id":3,"channel":"book","symbol":"BTC-USD"}`, 0)
	other.place(`{"symbol":"BTC-USD","side":"buy","type":"limit","tif":"ioc","quantity":"0.1","price":"97250.25","stp":"none"}`)
	ask(`{"op":"subscribe","id":4,"channel":"trades","symbol":"BTC-USD"}`, 1)
	other.place(`{"symbol":"BTC-USD","side":"buy","type":"limit","tif":"ioc","quantity":"0.05","price":"97250.25","stp":"none"}`)
	next(1)
	ask(`{"op":"unsubscribe","id":5,"channel":"trades","symbol":"BTC-USD"}`, 0)
	ask(`{"op":"subscribe","id":6,"channel":"candles","symbol":"BTC-USD","interval":"1d"}`, 1)
	other.place(`{"symbol":"BTC-USD","side":"buy","type":"limit","tif":"ioc","quantity":"0.05","price":"97250.25","stp":"none"}`)
	next(1)
	ask(`{"op":"unsubscribe","id":7,"channel":"candles","symbol":"BTC-USD","interval":"1d"}`, 0)
	order := ask(`{"op":"place","id":8,"symbol":"BTC-USD","side":"buy","type":"limit","tif":"gtc","quantity":"0.4","price":"97250.25","key":"8c1e"}`, 0)
	require.Equal(t, "0.3000", order.Filled)
	ask(`{"op":"subscribe","id":9,"channel":"orders","symbol":"BTC-USD"}`, 1)
	other.place(`{"symbol":"BTC-USD","side":"sell","quantity":"0.04","price":"97250.25"}`)
	next(1)
	ask(`{"op":"unsubscribe","id":10,"channel":"orders","symbol":"BTC-USD"}`, 0)
	ask(`{"op":"modify","id":11,"symbol":"BTC-USD","order":"`+order.Order+`","price":"97245"}`, 0)
	ask(`{"op":"cancel","id":12,"symbol":"BTC-USD","order":"`+order.Order+`"}`, 0)
	ask(`{"op":"cancel","id":13,"symbol":"BTC-USD","order":"`+maker.Order+`"}`, 0)
	post(p, `{"symbol":"BTC-USD","side":"sell","type":"stop_limit","quantity":"0.1","price":"97000","stop_price":"97100"}`)
	_, problem, _ := p.do("POST", "/api/orders", `{"symbol":"BTC-USD","side":"buy","quantity":"0.00001","price":"97000"}`)
	tr.add(strings.TrimSpace(problem))
	_, symbols, _ := p.do("GET", "/api/symbols", "")
	tr.add(symbols)

	doc, err := os.ReadFile(filepath.FromSlash("../../../docs/exchange-api.md"))
	require.NoError(t, err)
	if os.Getenv("LEVADA_TRANSCRIPT") != "" {
		t.Log("\n" + strings.Join(tr.lines, "\n"))
	}
	shown := 0
	in := false
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			in = line == "```json"
		case in && line != "":
			require.Contains(t, tr.lines, line)
			shown++
		}
	}
	require.Greater(t, shown, 20)
	for _, code := range []string{"bad_request", "bad_price", "bad_quantity", "bad_stop_price", "bad_handshake", "cancelled", "closing",
		"internal", "not_found", "not_json", "not_subscribed", "outcome_unknown", "rate_limited", "too_large", "too_many_connections",
		"too_many_orders", "too_many_subscriptions", "unhealthy", "unknown_channel", "unknown_interval", "unknown_order", "unknown_symbol",
		"wrong_host", "wrong_origin", "price_is_not_positive", "the_post_only_order_would_trade", "the_book_is_full", "4008", "4029"} {
		require.Contains(t, string(doc), "`"+code+"`")
	}
}
