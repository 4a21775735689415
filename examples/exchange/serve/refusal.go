package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// A refusal says, for people and for programs, why a request is not carried out.
// Nothing has changed then, but where its code is "outcome_unknown".
type refusal struct {
	status int    // of HTTP
	code   string // for programs; listed in docs/exchange-api.md
	detail string // for people
}

func (e *refusal) Error() string { return e.detail }

var (
	errUnknownSymbol = &refusal{http.StatusNotFound, "unknown_symbol", "there is no such symbol"}
	errTooMany       = &refusal{http.StatusUnprocessableEntity, "too_many_orders", "you have as many open orders as one may"}
	errRate          = &refusal{http.StatusTooManyRequests, "rate_limited", "too many requests; wait a moment"}
	errInternal      = &refusal{http.StatusInternalServerError, "internal", "something went wrong here; it has been logged"}
	errClosing       = &refusal{http.StatusServiceUnavailable, "closing", "the exchange is closing"}
	errUnknown       = &refusal{http.StatusServiceUnavailable, "outcome_unknown", "it is not known whether this was carried out; look at your orders"}
	errGone          = &refusal{http.StatusServiceUnavailable, "cancelled", "the request was withdrawn before it was carried out"}
)

func badRequest(err error) *refusal {
	return &refusal{http.StatusBadRequest, "bad_request", err.Error()}
}

// refusalOf returns what to tell of an error. Those that are this server's fault
// and say too much of its inside become errInternal, and known is false.
func refusalOf(err error) (r *refusal, known bool) {
	var reason book.Reason
	switch {
	case errors.As(err, &r):
		return r, true
	case errors.Is(err, book.ErrUnknownOrder):
		return &refusal{http.StatusNotFound, "unknown_order", "you have no such open order"}, true
	case errors.As(err, &reason):
		// The texts of reasons never change, so they can be codes.
		code := strings.NewReplacer(" ", "_", "-", "_").Replace(reason.Error())
		return &refusal{http.StatusUnprocessableEntity, code, reason.Error()}, true
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		return errUnknown, true
	case errors.Is(err, eventstore.ErrClosed):
		return errClosing, true
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return errGone, true
	}
	return errInternal, false
}

// A problem is the body of an HTTP error, as RFC 9457 has it.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

func writeProblem(w http.ResponseWriter, e *refusal) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(e.status)
	json.NewEncoder(w).Encode(problem{"about:blank", http.StatusText(e.status), e.status, e.code, e.detail})
}
