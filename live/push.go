package live

import (
	"encoding/json"
	"log/slog"

	"github.com/levada-go/levada/live/internal/wire"
)

// PushOption says how an event waits for the connection; see [Keep], [Latest], [Drop] and [Before].
type PushOption struct {
	kind pushKind
	key  string
}

type pushKind int

const (
	keep pushKind = iota
	latest
	drop
	before
)

// Keep is the default: the event waits. When more than [Options].MaxPushes wait, the connection is closed as too
// slow, and the page comes back and is mounted again.
func Keep() PushOption { return PushOption{kind: keep} }

// Latest puts the event in the place of the one with the same name and key that still waits; without one it is like
// [Keep].
func Latest(key string) PushOption { return PushOption{kind: latest, key: key} }

// Drop drops the event if the connection cannot take it now, because a frame is being sent or MaxPushes events wait.
func Drop() PushOption { return PushOption{kind: drop} }

// Before hands the event out before the frame that comes with it is applied, not after. It goes together with the
// others.
func Before() PushOption { return PushOption{kind: before} }

// Push sends an event to the page, where hooks and live.on hear it, together with the next frame. The payload is
// encoded as JSON at once; one that cannot be encoded is logged and not sent. The options are one of [Keep],
// [Latest] and [Drop] and, if wanted, [Before]. Over HTTP it does nothing.
func (c *Ctx) Push(event string, payload any, opts ...PushOption) {
	if c.session == nil {
		return
	}
	value, err := json.Marshal(payload)
	if err != nil {
		c.site.log.Error("live: a pushed event is no JSON", slog.String("pattern", c.pattern), slog.String("event", event), slog.Any("error", err))
		return
	}
	p := push{Push: wire.Push{Event: event, Payload: value}}
	for _, o := range opts {
		if o.kind == before {
			p.before = true
		} else {
			p.PushOption = o
		}
	}
	c.session.push(p)
}

// push is an event that waits for the connection.
type push struct {
	wire.Push
	PushOption
	before bool
}

func (s *session) push(p push) {
	switch p.kind {
	case latest:
		for i, q := range s.pushes {
			if q.kind == latest && q.Event == p.Event && q.key == p.key {
				s.pushes[i] = p
				return
			}
		}
	case drop:
		if s.writing || len(s.pushes) >= s.site.options.MaxPushes {
			return
		}
	}
	if len(s.pushes) >= s.site.options.MaxPushes {
		s.overflow = true
		return
	}
	s.pushes = append(s.pushes, p)
}
