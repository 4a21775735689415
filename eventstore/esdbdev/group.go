package esdbdev

import (
	"context"
	"strconv"
	"strings"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"google.golang.org/grpc/codes"
)

// A group is one persistent subscription. While it has consumers a session of it is
// at work.
type group struct {
	s        *Server
	key      groupKey
	config   groupSettings
	settings string // key of config

	life    sync.Mutex // of what follows, and of starting and ending sessions
	session *session
	gone    error // why it takes no consumers any more
	// wanted says that parked messages are to be replayed to the first consumer.
	wanted      bool
	wantedLimit int64
}

func newGroup(s *Server, k groupKey, c groupSettings) *group {
	return &group{s: s, key: k, config: c, settings: c.key()}
}

func (g *group) checkpointStream() string { return groupPrefix + g.key.String() + checkpointSuffix }
func (g *group) parkedStream() string     { return groupPrefix + g.key.String() + parkedSuffix }

// all reports whether the group is of everything.
func (g *group) all() bool { return g.key.stream == allStream }

// cursorText is a cursor as clients see it: a revision, or a position.
func (g *group) cursorText(c cursor) string {
	switch {
	case c == 0:
		return ""
	case g.all():
		return positionText(eventstore.Position(c))
	}
	return strconv.FormatUint(uint64(c)-1, 10)
}

// parseCursor is the reverse of cursorText.
func (g *group) parseCursor(text string) (cursor, bool) {
	text = strings.Trim(text, `"`)
	if g.all() {
		commit, _, ok := strings.Cut(strings.TrimPrefix(text, "C:"), "/")
		n, err := strconv.ParseUint(commit, 10, 64)
		p, known := storePosition(n)
		return cursor(p), ok && err == nil && known && p > 0
	}
	n, err := strconv.ParseUint(text, 10, 63)
	return cursor(n) + 1, err == nil
}

// attach adds a consumer, starting a session if it is the first.
func (g *group) attach(ctx context.Context, c *consumer) (*session, error) {
	g.life.Lock()
	defer g.life.Unlock()
	if g.gone != nil {
		return nil, g.gone
	}
	if g.session != nil {
		if err := g.session.over(); err != nil {
			g.session.close(err)
			g.session = nil
		}
	}
	if g.session == nil {
		saved, err := g.checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		if g.session, err = newSession(g, saved); err != nil {
			return nil, err
		}
	}
	if !g.session.add(c) {
		return nil, groupError(codes.FailedPrecondition, "maximum-subscribers-reached", g.key, "has as many consumers as it may")
	}
	if g.wanted {
		g.wanted = false
		if err := g.session.replay(ctx, g.wantedLimit); err != nil {
			g.s.opt.Logger.Warn("esdbdev: parked messages are not replayed", "group", g.key.String(), "err", err)
		}
	}
	return g.session, nil
}

// detach removes a consumer; the session ends with the last.
func (g *group) detach(ses *session, c *consumer) {
	g.life.Lock()
	defer g.life.Unlock()
	if left := ses.remove(c); left == 0 && g.session == ses {
		g.session = nil
		ses.close(nil)
	}
}

// end drops all consumers with err and takes no more.
func (g *group) end(_ context.Context, err error) {
	g.life.Lock()
	defer g.life.Unlock()
	g.gone = err
	if g.session != nil {
		g.session.close(err)
		g.session = nil
	}
}

// checkpoint returns the last one saved, 0 if there is none.
func (g *group) checkpoint(ctx context.Context) (cursor, error) {
	st, err := g.s.stream(ctx, g.checkpointStream(), everything)
	if err != nil {
		return 0, err
	}
	if found, err := st.readable(); !found || err != nil {
		return 0, err
	}
	for r, err := range g.s.readStream(ctx, st, start{kind: fromEnd}, true) {
		if err != nil {
			return 0, storeError(st.name, err)
		}
		if c, ok := g.parseCursor(string(r.Raw)); ok {
			return c, nil
		}
		break
	}
	return 0, nil
}

// saveCheckpoint appends a checkpoint.
func (g *group) saveCheckpoint(ctx context.Context, c cursor) error {
	_, err := g.s.append(ctx, g.checkpointStream(), expectation{kind: expectAny}, []eventstore.Event{{
		ID: uuid.New(), Type: checkpointType, Raw: []byte(strconv.Quote(g.cursorText(c))), ContentType: typeJSON}})
	return err
}

// own reports whether a record of $all was written on behalf of groups of $all:
// they would follow themselves for ever.
func (g *group) own(r *record) bool {
	return g.all() && strings.HasPrefix(r.stream, groupPrefix+allStream+"::")
}

// lastKnown returns the last event that the group can come to, as text.
func (g *group) lastKnown(ctx context.Context) (string, error) {
	if !g.all() {
		st, err := g.s.stream(ctx, g.key.stream, everything)
		if err != nil {
			return "", err
		}
		return g.cursorText(cursor(st.version)), nil
	}
	for r, err := range g.s.readAll(ctx, start{kind: fromEnd}, true) {
		if err != nil {
			return "", storeError(allStream, err)
		}
		if !g.own(r) {
			return positionText(r.position), nil
		}
	}
	return "", nil
}

// info tells of the group.
func (g *group) info(ctx context.Context) (*persistent.SubscriptionInfo, error) {
	c := &g.config
	info := &persistent.SubscriptionInfo{
		EventSource: g.key.stream, GroupName: g.key.name, Status: "Live", StartFrom: c.From.Text,
		ResolveLinkTos: c.ResolveLinks, ExtraStatistics: c.Statistics, MessageTimeoutMilliseconds: c.Timeout,
		MaxRetryCount: c.MaxRetries, LiveBufferSize: c.LiveBuffer, BufferSize: c.HistoryBuffer, ReadBatchSize: c.ReadBatch,
		CheckPointAfterMilliseconds: c.CheckpointMs, MinCheckPointCount: c.MinCheckpoint, MaxCheckPointCount: c.MaxCheckpoint,
		NamedConsumerStrategy: c.Strategy, MaxSubscriberCount: c.MaxConsumers,
	}
	var err error
	if info.LastKnownEventPosition, err = g.lastKnown(ctx); err != nil {
		return nil, err
	}
	g.life.Lock()
	defer g.life.Unlock()
	var replayed eventstore.Version
	if g.session != nil {
		replayed = g.session.describe(info)
	}
	if info.ParkedMessageCount, err = g.parked(ctx, replayed); err != nil {
		return nil, err
	}
	if g.session == nil {
		saved, err := g.checkpoint(ctx)
		if err != nil {
			return nil, err
		}
		info.LastCheckpointedEventPosition = g.cursorText(saved)
	}
	return info, nil
}
