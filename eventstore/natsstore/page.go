package natsstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// errCut reports a page that ended without its end marker. What was received is
// a part of it, and says nothing of what follows.
var errCut = errors.New("natsstore: a page was cut off")

// A page is what a replica has, from a sequence on. It is a prefix of the truth:
// the replica may be behind, so that the end of a page that is not full is not
// the end of the log.
type page struct {
	list []*message
	full bool   // the replica was asked for no more
	more uint64 // how many it has after these
}

// pageBytes bounds what a replica sends for one page, a little more or less.
const pageBytes = 8 << 20

// page asks any replica for at most n messages at or above a sequence whose
// subjects match a pattern. A page without an end marker is an error, whatever
// was received: a server that stops in the middle, or a connection that is lost,
// must not look like the end of the log.
func (l *link) page(ctx context.Context, from uint64, pattern string, n int) (page, error) {
	return persistently(ctx, func(ctx context.Context) (page, error) { return l.pageOnce(ctx, from, pattern, n) })
}

func (l *link) pageOnce(ctx context.Context, from uint64, pattern string, n int) (p page, err error) {
	// A channel for one page: those that the client makes have room for half a
	// million messages, 4 MB.
	inbox, answers := l.nc.NewRespInbox(), make(chan *nats.Msg, n+2)
	sub, err := l.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return page{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	request, err := json.Marshal(getRequest{Seq: max(from, 1), NextBy: pattern, Batch: n, MaxBytes: pageBytes})
	if err != nil {
		return page{}, err
	}
	if err := l.nc.PublishRequest("$JS.API.DIRECT.GET."+l.stream, inbox, request); err != nil {
		return page{}, err
	}
	for {
		m, err := nextOf(ctx, answers, closed)
		if err != nil {
			if errors.Is(err, nats.ErrConnectionClosed) {
				return page{}, err
			}
			return page{}, fmt.Errorf("%w after %d messages: %w", errCut, len(p.list), err)
		}
		switch status := m.Header.Get("Status"); status {
		case "":
		case "204":
			p.more, _ = strconv.ParseUint(m.Header.Get("Nats-Num-Pending"), 10, 64) // an estimate
			p.full = len(p.list) == n || m.Header.Get("Nats-Num-Pending") != "0" && len(p.list) > 0
			return p, nil
		case "503":
			return page{}, nats.ErrNoResponders
		case "404":
			if len(p.list) > 0 {
				return page{}, fmt.Errorf("%w after %d messages: %s", errCut, len(p.list), status)
			}
			return p, nil
		default:
			return page{}, fmt.Errorf("natsstore: page: %s %s", status, m.Header.Get("Description"))
		}
		x, err := fromDirect(m)
		if err != nil {
			return page{}, err
		}
		if k := len(p.list); x.seq < from || k > 0 && x.seq <= p.list[k-1].seq {
			return page{}, fmt.Errorf("natsstore: page: message %d is out of order", x.seq)
		}
		p.list = append(p.list, x)
	}
}

// nextOf waits for the next message of a page. A page may take long over a slow
// network, but not from one message to the next.
func nextOf(ctx context.Context, answers <-chan *nats.Msg, closed <-chan struct{}) (*nats.Msg, error) {
	select {
	case m := <-answers:
		return m, nil // most are there already
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	select {
	case m := <-answers:
		return m, nil
	case <-closed:
		return nil, nats.ErrConnectionClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fromDirect returns the message in an answer to a direct get.
func fromDirect(m *nats.Msg) (*message, error) {
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil || seq == 0 {
		return nil, fmt.Errorf("natsstore: an answer without a sequence: %.100q", m.Header.Get("Nats-Sequence"))
	}
	t, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return nil, fmt.Errorf("natsstore: an answer without a time: %w", err)
	}
	return &message{subject: m.Header.Get("Nats-Subject"), seq: seq, time: t.UTC(), header: m.Header, data: m.Data}, nil
}
