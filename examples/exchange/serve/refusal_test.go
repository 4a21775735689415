package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

func TestErrorsAreToldWithoutTheInsideOfTheServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		code   string
		known  bool
	}{
		{fmt.Errorf("book: %w", book.ErrUnknownOrder), 404, "unknown_order", true},
		{fmt.Errorf("book: %w", book.ErrPostOnlyTrades), 422, "the_post_only_order_would_trade", true},
		{book.ErrFull, 422, "the_book_is_full", true},
		{badRequest(errors.New("x")), 400, "bad_request", true},
		{errors.Join(context.Canceled, eventstore.ErrOutcomeUnknown), 503, "outcome_unknown", true},
		{fmt.Errorf("append: %w", eventstore.ErrClosed), 503, "closing", true},
		{context.Canceled, 503, "cancelled", true},
		{context.DeadlineExceeded, 503, "cancelled", true},
		{errors.New("/secret/path: disk I/O error"), 500, "internal", false},
	} {
		r, known := refusalOf(c.err)
		require.Equal(t, c.known, known, c.err)
		require.Equal(t, []any{c.status, c.code}, []any{r.status, r.code})
		require.NotContains(t, r.Error(), "secret")
	}
}

func TestAStoreThatIsClosedEndsWhatFollowsIt(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	e := p.dial()
	require.Equal(t, "subscribed", e.ask(`{"op":"subscribe","channel":"trades","symbol":"BTC-USD"}`).Type)
	require.Equal(t, "snapshot", e.next().Type)
	other := p.dial()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, k.store.Shutdown(ctx))
	require.Equal(t, websocket.CloseGoingAway, e.closed())
	require.Equal(t, "closing", p.refused(503, "POST", "/api/orders", `{"symbol":"BTC-USD","side":"buy","quantity":"1","price":"1"}`))
	require.Equal(t, "closing", other.ask(`{"op":"place","symbol":"BTC-USD","side":"buy","quantity":"1","price":"1"}`).Code)
	require.Equal(t, "unhealthy", p.refused(503, "GET", "/healthz", ""))
	status, body, _ := p.do("GET", "/api/book?symbol=BTC-USD", "")
	require.Equal(t, http.StatusOK, status, "what is known can be read: %s", body)
	k.log.reset() // that it is not healthy was logged
}

func TestAPanicEndsOneRequestOnly(t *testing.T) {
	t.Parallel()
	k := serve(t)
	p := k.person()
	now := k.server.now
	k.server.now = func() time.Time { panic("broken clock") }
	_, err := p.client.Get(k.web.URL + "/")
	require.Error(t, err, "the connection ends")
	require.Contains(t, k.log.String(), "broken clock")
	k.server.now = now
	status, _, _ := p.do("GET", "/", "")
	require.Equal(t, http.StatusOK, status)
	k.log.reset()
}
