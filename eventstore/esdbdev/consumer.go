package esdbdev

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// An id is that of an event in the source: of the link, where a link led to it.
type id = uuid.UUID

// A consumer is one client of a group. Its fields are guarded by the session's lock,
// but for those of the queue.
type consumer struct {
	id     string
	from   string // its address
	user   string
	name   string // of its connection
	slots  int    // messages it may have at once
	text   bool   // it wants ids as text
	cancel context.CancelCauseFunc
	has    map[id][]*message
	total  int64

	queueing sync.Mutex
	queue    []*persistent.ReadResp
	wake     chan struct{} // has one slot
}

// defaultSlots is what a consumer may have at once if it does not say.
const defaultSlots = 10

// Read is the call of that name: it makes its caller a consumer.
func (v *persistentService) Read(call persistent.PersistentSubscriptions_ReadServer) error {
	return answer(call.Context(), v.s.consume(call))
}

func (s *Server) consume(call persistent.PersistentSubscriptions_ReadServer) error {
	ctx, cancel := context.WithCancelCause(call.Context())
	defer cancel(nil)
	req, err := call.Recv()
	if err != nil {
		return err
	}
	o := req.GetOptions()
	if o == nil {
		return invalidArgument("a persistent subscription must begin with its options")
	}
	k, err := newKey(o.GetAll() != nil, o.GetStreamIdentifier(), o.GetGroupName())
	if err != nil {
		return err
	}
	faults := s.call(ctx, MethodPersistentSubscribe, k.stream)
	if err := faults.begin(early | late); err != nil {
		return err
	}
	if err := s.leads(ctx, false); err != nil {
		return err
	}
	g, err := s.groups.get(ctx, k)
	if err != nil {
		return err
	}
	c := &consumer{id: uuid.NewString(), slots: int(o.GetBufferSize()), text: o.GetUuidOption().GetString_() != nil, cancel: cancel, has: map[id][]*message{}, wake: make(chan struct{}, 1)}
	if c.slots <= 0 {
		c.slots = defaultSlots
	}
	c.who(ctx)
	ses, err := g.attach(ctx, c)
	if err != nil {
		return err
	}
	defer g.detach(ses, c)
	// What it is given by now waits in its queue.
	if err := call.Send(&persistent.ReadResp{Content: &persistent.ReadResp_SubscriptionConfirmation_{
		SubscriptionConfirmation: &persistent.ReadResp_SubscriptionConfirmation{SubscriptionId: k.String()}}}); err != nil {
		return err
	}
	go ses.listen(ctx, call, c)
	for {
		select {
		case <-c.wake:
			for _, resp := range c.queued() {
				if err := call.Send(resp); err != nil {
					return err
				}
				if err := faults.delivered(); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, io.EOF) {
				return storeError(k.stream, cause)
			}
			return nil
		}
	}
}

// who notes what is known of the client.
func (c *consumer) who(ctx context.Context) {
	if p, ok := peer.FromContext(ctx); ok {
		c.from = p.Addr.String()
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("connection-name"); len(v) > 0 {
		c.name = v[0]
	}
	c.user = "anonymous"
	if v := md.Get("authorization"); len(v) > 0 {
		if user, _, ok := basicAuth(v[0]); ok {
			c.user = user
		}
	}
}

// listen hears what the client says of its messages, until it has no more to say.
func (ses *session) listen(ctx context.Context, call persistent.PersistentSubscriptions_ReadServer, c *consumer) {
	for {
		req, err := call.Recv()
		if err != nil {
			c.cancel(err)
			return
		}
		switch x := req.GetContent().(type) {
		case *persistent.ReadReq_Ack_:
			ids, err := parseIDs(x.Ack.GetIds())
			if err != nil {
				c.cancel(err)
				return
			}
			ses.acknowledge(c, ids)
		case *persistent.ReadReq_Nack_:
			ids, err := parseIDs(x.Nack.GetIds())
			if err != nil {
				c.cancel(err)
				return
			}
			ses.refuse(context.WithoutCancel(ctx), c, ids, x.Nack.GetAction(), x.Nack.GetReason())
		default:
			c.cancel(invalidArgument("a persistent subscription has its options twice"))
			return
		}
	}
}

func parseIDs(list []*shared.UUID) ([]id, error) {
	ids := make([]id, len(list))
	for i := range list {
		var err error
		if ids[i], err = parseID(list[i]); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// give queues a message for the client.
func (c *consumer) give(m *message) {
	id := m.original().id
	c.has[id] = append(c.has[id], m)
	c.total++
	e := &persistent.ReadResp_ReadEvent{
		Position: &persistent.ReadResp_ReadEvent_CommitPosition{CommitPosition: wirePosition(m.original().position)},
		Count:    &persistent.ReadResp_ReadEvent_RetryCount{RetryCount: int32(m.retries)},
	}
	if m.event != nil {
		e.Event = m.event.persistent(c.text)
	}
	if m.link != nil {
		e.Link = m.link.persistent(c.text)
	}
	c.queueing.Lock()
	c.queue = append(c.queue, &persistent.ReadResp{Content: &persistent.ReadResp_Event{Event: e}})
	c.queueing.Unlock()
	signal(c.wake)
}

func (r *record) persistent(text bool) *persistent.ReadResp_ReadEvent_RecordedEvent {
	p := wirePosition(r.position)
	return &persistent.ReadResp_ReadEvent_RecordedEvent{
		Id: wireID(r.id, text), StreamIdentifier: identifier(r.stream), StreamRevision: r.revision,
		PreparePosition: p, CommitPosition: p, Metadata: r.system(), CustomMetadata: r.custom, Data: r.data,
	}
}

// queued takes what is to be sent.
func (c *consumer) queued() []*persistent.ReadResp {
	c.queueing.Lock()
	defer c.queueing.Unlock()
	list := c.queue
	c.queue = nil
	return list
}

// take returns the message of an id, which the consumer has done with, nil if it does
// not have it, or not any more. Events of several streams may share an id.
func (c *consumer) take(id id) *message {
	list := c.has[id]
	if len(list) == 0 {
		return nil
	}
	m := list[0]
	if c.has[id] = list[1:]; len(list) == 1 {
		delete(c.has, id)
	}
	return m
}

// forget is take for a message that was given to it for too long.
func (c *consumer) forget(m *message) {
	id := m.original().id
	list := slices.DeleteFunc(c.has[id], func(x *message) bool { return x == m })
	if c.has[id] = list; len(list) == 0 {
		delete(c.has, id)
	}
}

// busy counts the messages it has.
func (c *consumer) busy() int {
	n := 0
	for _, list := range c.has {
		n += len(list)
	}
	return n
}

// free counts those that it could have besides.
func (c *consumer) free() int { return max(0, c.slots-c.busy()) }
