package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
)

// Append appends events in one atomic write of the server. It takes three round
// trips: where the stream stands, the write at that exact revision, and when the
// server recorded it. An exact revision is what makes it possible to write again
// when an answer was lost. The third is spared while somebody waits for
// events: the subscription tells.
func (d *store) Append(ctx context.Context, a driver.Append) driver.Result {
	ctx, done, err := d.g.begin(ctx)
	if err != nil {
		return driver.Result{Err: err}
	}
	defer done()
	name, err := serverName(a.Stream)
	if err != nil {
		return driver.Result{Err: err}
	}
	events, err := d.encodeAll(a.Events)
	if err != nil || len(events) == 0 {
		return driver.Result{Err: err}
	}
	leave, err := d.turns.take(ctx, name)
	if err != nil {
		return driver.Result{Err: err}
	}
	defer leave()
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		p, err := d.find(ctx, name)
		if err != nil {
			return driver.Result{Err: err}
		}
		if !holds(a.Expected, &p) {
			c := &driver.ConflictError{}
			if !p.absent() {
				c.Actual = p.version
			}
			return driver.Result{Err: c}
		}
		var told <-chan *recorded
		drop := func() {}
		if !p.deleted { // a stream that comes back can be read a moment later
			told, drop = d.watch.expect(name, p.version+uint64(len(events))-1)
		}
		began := time.Now()
		ack, err := d.send(ctx, name, at(p.version), events)
		if err == nil && told != nil {
			if r, ok := d.told(ctx, told, time.Since(began)); ok {
				drop()
				return driver.Result{Version: ack.version, Last: r.Position, Time: r.Time}
			}
		}
		drop()
		if err == nil {
			return d.result(ctx, name, ack)
		}
		var wrong *errWrongVersion
		if !errors.As(err, &wrong) {
			return driver.Result{Err: err}
		}
		// Somebody was quicker. Nothing of ours was written, so it is decided anew.
		if err := d.pause(ctx, pause); err != nil {
			return driver.Result{Err: err}
		}
	}
}

// pause waits for about as long, unless ctx or the store ends.
func (d *store) pause(ctx context.Context, about time.Duration) error {
	timer := time.NewTimer(rand.N(about))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-d.g.closing:
		return driver.ErrClosed
	}
}

// holds reports whether a stream is as expected.
func holds(expected int64, p *place) bool {
	switch expected {
	case driver.Any:
		return true
	case driver.NoStream:
		return p.absent()
	case driver.StreamExists:
		return !p.absent()
	}
	return expected > 0 && !p.absent() && p.version == uint64(expected)
}

// encodeAll makes what is sent, unless it is more than the server takes.
func (d *store) encodeAll(list []driver.Event) ([]*proposed, error) {
	events := make([]*proposed, len(list))
	sum, sent := 0, 0
	for i := range list {
		n := list[i].Size()
		if n > d.limits.EventBytes {
			return nil, fmt.Errorf("%w: an event of %d bytes: more than %d", driver.ErrTooLarge, n, d.limits.EventBytes)
		}
		if sum += n; sum > d.limits.AppendBytes {
			return nil, fmt.Errorf("%w: an append of more than %d bytes", driver.ErrTooLarge, d.limits.AppendBytes)
		}
		p, size, err := encode(&list[i])
		if err != nil {
			return nil, err
		}
		if sent += size; sent > d.bytes {
			return nil, fmt.Errorf("%w: with its metadata as JSON an append of more than %d bytes", driver.ErrTooLarge, d.bytes)
		}
		events[i] = p
	}
	return events, nil
}

// told returns the last event of an append that was acknowledged, as the subscription tells
// of it. That is at about the time at which the acknowledgement comes; ok is false if it does not within the time that the
// append took: then asking is as quick.
func (d *store) told(ctx context.Context, told <-chan *recorded, took time.Duration) (r driver.Recorded, ok bool) {
	timer := time.NewTimer(min(took, maxTold))
	defer timer.Stop()
	select {
	case e := <-told:
		r, err := decode(e, "")
		return r, err == nil
	case <-timer.C:
		d.watch.late()
	case <-ctx.Done():
	}
	return driver.Recorded{}, false
}

// maxTold bounds how long an append waits for the subscription.
const maxTold = 10 * time.Millisecond

// result completes the answer to an append by what only a reader is told: when
// the last event was recorded, and where. An append to a deleted stream can be
// acknowledged a moment before the stream can be read again.
func (d *store) result(ctx context.Context, name string, a ack) driver.Result {
	res := driver.Result{Version: a.version, Last: a.commit}
	for end := time.Now().Add(d.g.patience); ; {
		e, err := d.g.one(ctx, readStream(name, a.version, 1, false))
		if err == nil && e != nil {
			// What readers could not make use of, they will say.
			if r, err := decode(e, name); err == nil {
				res.Last, res.Time = r.Position, r.Time
			}
			break
		}
		if err != nil && !errors.Is(err, errNoStream) || time.Now().After(end) || d.pause(ctx, 2*minRetry) != nil {
			// The events are written, which is what matters: the time stays unknown.
			break
		}
	}
	d.watch.tell(res.Last)
	return res
}
