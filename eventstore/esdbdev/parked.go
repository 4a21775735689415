package esdbdev

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
)

// A parkedReason is the metadata of a link in a parked stream.
type parkedReason struct {
	Added  time.Time `json:"added"`
	Reason string    `json:"reason"`
}

// park appends a link to what a consumer could not do to the parked stream.
func (g *group) park(ctx context.Context, r *record, reason string) error {
	meta, err := json.Marshal(parkedReason{time.Now().UTC(), reason})
	if err != nil {
		return err
	}
	e := eventstore.Event{ID: uuid.New(), Type: linkType, ContentType: typeBinary,
		Raw: []byte(strconv.FormatUint(r.revision, 10) + "@" + r.stream)}
	setMetadata(&e, meta)
	_, err = g.s.append(ctx, g.parkedStream(), expectation{kind: expectAny}, []eventstore.Event{e})
	return err
}

// parked counts what is parked after a version of the parked stream.
func (g *group) parked(ctx context.Context, after eventstore.Version) (int64, error) {
	st, err := g.s.stream(ctx, g.parkedStream(), everything)
	if err != nil {
		return 0, err
	}
	if found, err := st.readable(); !found || err != nil {
		return 0, err
	}
	return max(0, int64(st.version)-int64(max(st.first-1, after))), nil
}

// emptyParked makes the parked stream begin after a version.
func (g *group) emptyParked(ctx context.Context, upTo eventstore.Version) error {
	name := g.parkedStream()
	ctx = raw(context.WithoutCancel(ctx))
	defer g.s.locks.lock(name)()
	for attempt := 0; ; attempt++ {
		st, err := g.s.stream(ctx, name, everything)
		if err != nil || st.deleted() {
			return err
		}
		_, err = g.s.setStreamMetadata(ctx, st, withBefore(st.metadata, uint64(upTo)))
		if !errors.Is(err, eventstore.ErrConflict) || attempt == maxAttempts {
			return storeError(name, err)
		}
	}
}

// replay gives out again what is parked, the oldest first; no more than limit if it
// is above 0. Where there is no consumer the first that comes gets it.
func (g *group) replay(ctx context.Context, limit int64) error {
	g.life.Lock()
	defer g.life.Unlock()
	if g.session == nil {
		g.wanted, g.wantedLimit = true, limit
		return nil
	}
	return g.session.replay(ctx, limit)
}

func (ses *session) replay(ctx context.Context, limit int64) error {
	g := ses.g
	st, err := g.s.stream(ctx, g.parkedStream(), everything)
	if err != nil {
		return err
	}
	if found, err := st.readable(); !found || err != nil {
		return err
	}
	ses.mu.Lock()
	from := start{fromHere, uint64(max(ses.reached, st.first-1))}
	ses.mu.Unlock()
	var list []*message
	for r, err := range g.s.readStream(ctx, st, from, false) {
		if err != nil {
			return storeError(st.name, err)
		}
		rec, ok := newRecord(r)
		if !ok {
			continue
		}
		res, err := g.s.resolve(ctx, rec, true)
		if err != nil {
			return err
		}
		m := &message{resolved: res, parkedAt: r.Version}
		if m.event == nil {
			m.done = true // what it led to is gone
		} else if !g.config.ResolveLinks || m.event.typ != linkType {
			m.link = nil // the group's source has the event itself
		}
		if list = append(list, m); limit > 0 && int64(len(list)) == limit {
			break
		}
	}
	ses.mu.Lock()
	defer ses.mu.Unlock()
	for _, m := range list {
		ses.replays = append(ses.replays, m)
		ses.reached = m.parkedAt
		if m.done {
			ses.settle(m)
		} else {
			ses.again = append(ses.again, m)
		}
	}
	ses.dispatch()
	return nil
}
