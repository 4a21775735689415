package schedule

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"time"

	"github.com/levada-go/levada/eventstore"
)

type rawJSON = json.RawMessage

const contentType = "application/json"

func (e *entry) event(typ string) (eventstore.Event, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return eventstore.Event{}, fmt.Errorf("schedule: %w: %w", eventstore.ErrCodec, err)
	}
	return eventstore.Event{Type: typ, Raw: data, ContentType: contentType}, nil
}

// An alarm is one that is pending, or a command that is due and not done with.
type alarm struct {
	entry
	version  eventstore.Version   // that set it, by which due and done name it
	written  eventstore.Version   // where all of it is: there, or where it was carried to
	setBy    *eventstore.Recorded // of which only what a conversation needs is kept
	due      bool
	attempts int       // to dispatch it
	next     time.Time // when there is something to do
	index    int       // in the queue, -1 if it is not there
}

// fold takes in an event of the stream.
func (k *keeper) fold(r *eventstore.Recorded) {
	if r.Version <= k.version {
		return
	}
	k.version = r.Version
	var e entry
	if err := json.Unmarshal(r.Raw, &e); err != nil || e.Key == "" {
		k.log.Error("schedule: an event of timers cannot be read", "version", r.Version, "type", r.Type, "err", err)
		return
	}
	a := k.pending[e.Key]
	switch r.Type {
	case typeSet:
		k.drop(a)
		k.add(&alarm{entry: e, version: r.Version, written: r.Version, setBy: origin(r), next: e.At})
	case typeCancelled:
		k.drop(a)
		k.gone.note(e.Key, 0)
	case typeDue:
		if a != nil && a.version == e.Of {
			k.drop(a)
			a.due, a.next = true, time.Time{}
			k.add(a)
		}
	case typeDone:
		if a != nil && a.version == e.Of {
			k.drop(a)
		}
		k.drop(k.due[e.Of])
		k.gone.note(e.Key, e.Of)
	case typeCarried:
		k.carried(r, &e, a)
	}
}

// carried takes in what was pending or due before, and stands here now, since what set it may be cut off.
func (k *keeper) carried(r *eventstore.Recorded, e *entry, a *alarm) {
	if e.Due {
		a = k.due[e.Of]
	}
	switch {
	case a != nil && a.version == e.Of:
		a.written = r.Version
	case k.loading && a == nil && (e.Due || !k.gone.keys[e.Key]) && !k.gone.versions[e.Of]:
		c := &alarm{entry: *e, version: e.Of, written: r.Version, setBy: e.SetBy.recorded(), due: e.Due, next: e.At}
		if c.entry.Of, c.entry.SetBy = 0, nil; c.due {
			c.next = time.Time{}
		}
		k.add(c)
	case !k.loading:
		// It came to an end before it was carried: who begins to read between must be told again.
		k.void = append(k.void, entry{Key: e.Key, Of: e.Of})
	}
}

// gone is what ended among the events that were read to begin with.
type gone struct {
	keys     map[string]bool
	versions map[eventstore.Version]bool
}

func (g *gone) note(key string, v eventstore.Version) {
	if g.keys != nil {
		g.keys[key] = true
		if v > 0 {
			g.versions[v] = true
		}
	}
}

func (k *keeper) add(a *alarm) {
	a.index = -1
	if a.due {
		k.due[a.version] = a
	} else {
		k.pending[a.Key] = a
	}
	heap.Push(&k.queue, a)
}

// drop forgets an alarm; nil is none.
func (k *keeper) drop(a *alarm) {
	if a == nil {
		return
	}
	if a.due {
		delete(k.due, a.version)
	} else if k.pending[a.Key] == a {
		delete(k.pending, a.Key)
	}
	if a.index >= 0 {
		heap.Remove(&k.queue, a.index)
	}
}

// again puts an alarm back into the queue, unless it was dropped meanwhile.
func (k *keeper) again(a *alarm, at time.Time) {
	if a.index < 0 && (a.due && k.due[a.version] == a || !a.due && k.pending[a.Key] == a) {
		a.next = at
		heap.Push(&k.queue, a)
	}
}

// A cause is what a conversation needs of the event that set an alarm.
type cause struct {
	ID          eventstore.ID     `json:"id"`
	Correlation eventstore.ID     `json:"correlation"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

func (c *cause) recorded() *eventstore.Recorded {
	if c == nil {
		return &eventstore.Recorded{}
	}
	return &eventstore.Recorded{Event: eventstore.Event{ID: c.ID, Correlation: c.Correlation, Metadata: c.Metadata}}
}

func causeOf(r *eventstore.Recorded) *cause { return &cause{r.ID, r.Correlation, r.Metadata} }

func origin(r *eventstore.Recorded) *eventstore.Recorded { return causeOf(r).recorded() }

// A queue has the alarms in the order of when there is something to do.
type queue []*alarm

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].next.Before(q[j].next) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}
func (q *queue) Push(x any) {
	a := x.(*alarm)
	a.index = len(*q)
	*q = append(*q, a)
}
func (q *queue) Pop() any {
	old := *q
	a := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	a.index = -1
	return a
}

func (q *queue) pop() { heap.Pop(q) }
