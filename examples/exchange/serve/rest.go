package serve

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// fail answers with what is to be told of an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e, known := refusalOf(err)
	if !known {
		s.log.Error("exchange: a request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	writeProblem(w, e)
}

// query returns the parameters of a request, each of which occurs once and is one
// of the names.
func query(r *http.Request, names ...string) (map[string]string, error) {
	all, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest(errors.New("the query cannot be read"))
	}
	q := map[string]string{}
	for k, v := range all {
		if !slices.Contains(names, k) {
			return nil, badRequest(fmt.Errorf("unknown parameter %.40q", k))
		}
		if len(v) != 1 {
			return nil, badRequest(fmt.Errorf("the parameter %q is given more than once", k))
		}
		q[k] = v[0]
	}
	return q, nil
}

func (s *Server) getSymbols(w http.ResponseWriter, r *http.Request) {
	if _, err := query(r); err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, encode(s.exchange.symbols))
}

// getChannel answers with the snapshot frame of a channel.
func (s *Server) getChannel(channel string) http.HandlerFunc {
	names := []string{"symbol"}
	if channel == channelCandles {
		names = append(names, "interval")
	}
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := query(r, names...)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		sym := s.exchange.symbol(q["symbol"])
		if sym == nil {
			s.fail(w, r, errUnknownSymbol)
			return
		}
		k, err := (&request{channel: channel, symbol: q["symbol"], interval: q["interval"]}).subject()
		if err != nil {
			s.fail(w, r, err)
			return
		}
		frame, _, _ := s.exchange.snapshot(sym, k)
		writeJSON(w, http.StatusOK, frame)
	}
}

func (s *Server) getOrders(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "symbol")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	sym := s.exchange.symbol(q["symbol"])
	if sym == nil {
		s.fail(w, r, errUnknownSymbol)
		return
	}
	f, _ := s.exchange.ownOrders(sym, s.owner(w, r))
	writeJSON(w, http.StatusOK, encode(f))
}

// owner returns whose request it is, and sets the cookie of who is new.
func (s *Server) owner(w http.ResponseWriter, r *http.Request) uint64 {
	owner, cookie := ownerOf(r)
	if cookie != nil {
		http.SetCookie(w, cookie)
	}
	return owner
}

// postOrder places an order. Its answer waits for the read model, so that what is
// asked next shows the order.
func (s *Server) postOrder(w http.ResponseWriter, r *http.Request) {
	if _, err := query(r); err != nil {
		s.fail(w, r, err)
		return
	}
	req, err := s.body(w, r, "place")
	if err == nil && r.Header.Get("Idempotency-Key") != "" {
		if req.key != "" {
			err = badRequest(errors.New("the key is given twice"))
		}
		req.key = r.Header.Get("Idempotency-Key")
	}
	s.command(w, r, &req, err, http.StatusCreated)
}

func (s *Server) patchOrder(w http.ResponseWriter, r *http.Request) {
	_, err := query(r)
	var req request
	if err == nil {
		req, err = s.body(w, r, "modify")
	}
	req.order = r.PathValue("id")
	s.command(w, r, &req, err, http.StatusOK)
}

func (s *Server) deleteOrder(w http.ResponseWriter, r *http.Request) {
	q, err := query(r, "symbol")
	s.command(w, r, &request{op: "cancel", symbol: q["symbol"], order: r.PathValue("id")}, err, http.StatusOK)
}

// command carries out a request about an order, unless err is not nil, and answers it.
func (s *Server) command(w http.ResponseWriter, r *http.Request, req *request, err error, status int) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	x, ctx := s.exchange, r.Context()
	owner := s.owner(w, r)
	if req.symbol == "" {
		if req.symbol, err = x.marketOf(owner, req.order); err != nil {
			s.fail(w, r, err)
			return
		}
	}
	sym := x.symbol(req.symbol)
	if sym == nil {
		s.fail(w, r, errUnknownSymbol)
		return
	}
	var done outcome
	switch req.op {
	case "place":
		done, err = x.place(ctx, owner, sym, req)
	case "modify":
		done, err = x.modify(ctx, owner, sym, req)
	default:
		done, err = x.cancel(ctx, owner, sym, req)
	}
	if err == nil {
		err = x.caughtUp(ctx, done.Position)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if done.Repeated {
		status = http.StatusOK
	}
	writeJSON(w, status, encode(done))
}

// marketOf returns the symbol of an owner's live order.
func (x *Exchange) marketOf(owner uint64, order string) (symbol string, err error) {
	id, err := parseOrderID(order)
	if err != nil {
		return "", badRequest(err)
	}
	for i := range x.symbols {
		x.view(&x.symbols[i], func(m *market, _ eventstore.Position) {
			if m.owners[owner][id] != nil {
				symbol = x.symbols[i].Name
			}
		})
	}
	if symbol == "" {
		return "", book.ErrUnknownOrder
	}
	return symbol, nil
}

// body reads the body of a request for an operation.
func (s *Server) body(w http.ResponseWriter, r *http.Request, op string) (request, error) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return request{}, &refusal{http.StatusUnsupportedMediaType, "not_json", "the Content-Type must be application/json"}
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.limits.frameBytes))
	if err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			return request{}, &refusal{http.StatusRequestEntityTooLarge, "too_large", "the body is too large"}
		}
		return request{}, badRequest(errors.New("the body could not be read"))
	}
	req, err := decodeBody(op, data)
	if err != nil {
		return request{}, badRequest(err)
	}
	return req, nil
}
