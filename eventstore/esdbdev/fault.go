package esdbdev

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
	"google.golang.org/grpc/metadata"
)

// A Method is a call that a [Fault] may strike.
type Method string

// Methods. A subscription is a Read of the protocol, but not here.
const (
	MethodAppend              Method = "Append"
	MethodBatchAppend         Method = "BatchAppend" // struck once for each append
	MethodRead                Method = "Read"
	MethodSubscribe           Method = "Subscribe"
	MethodDelete              Method = "Delete"
	MethodTombstone           Method = "Tombstone"
	MethodPersistentSubscribe Method = "PersistentSubscribe"
	MethodPersistentManage    Method = "PersistentManage" // create, update, delete, list, info, replay, restart
	MethodGossip              Method = "Gossip"
	MethodFeatures            Method = "Features"
)

// A When says at which moment a [Fault] strikes.
type When uint8

const (
	// BeforeCommit is when the request has been received whole and nothing was done.
	BeforeCommit When = iota
	// AfterCommit is when everything was done but the answer: it is lost.
	AfterCommit
	// Early is as soon as the call begins, while an append may still be sending
	// its events, as a server does that refuses too much. Clients tend to lose
	// such an answer.
	Early
)

// A Fault is something that goes wrong on purpose. The zero Fault fails every call
// as unavailable.
type Fault struct {
	Method Method // empty strikes all
	Stream string // empty strikes all; reads of everything have the stream "$all"
	Times  int    // how often it strikes; 0 is until it is removed
	When   When
	// Events is how many events a read or a subscription delivers before the fault
	// strikes; When does not matter then.
	Events int
	// Delay and Until make the answer late: it waits that long, and until Until is
	// closed, or the client has gone. It is then as usual, unless Err is set.
	Delay time.Duration
	Until <-chan struct{}
	// Err is the answer: an error of package status, or one of this package. It is
	// Unavailable() if the fault does not make the answer late.
	Err error
}

// faults are those that are set.
type faults struct {
	mu   sync.Mutex
	list []*Fault
}

// Inject sets a fault. Several are tried in the order in which they were set; only
// the first that fits strikes. Remove may be called more than once.
func (s *Server) Inject(f Fault) (remove func()) {
	p := &f
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, p)
	return func() { s.faults.remove(p) }
}

func (fs *faults) remove(p *Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.list = slices.DeleteFunc(fs.list, func(f *Fault) bool { return f == p })
}

// moments is a set of the moments at which a call stands.
type moments uint8

const (
	late   moments = 1 << BeforeCommit
	after  moments = 1 << AfterCommit
	early  moments = 1 << Early
	midway moments = 1 << 7
)

// take returns a copy of the first fault that strikes a call, if one does.
func (fs *faults) take(m Method, stream string, at moments, events int) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if f.Method != "" && f.Method != m || f.Stream != "" && f.Stream != stream {
			continue
		}
		if f.Events > 0 {
			if at != midway || f.Events != events {
				continue
			}
		} else if at&(1<<f.When) == 0 {
			continue
		}
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				fs.list = slices.DeleteFunc(fs.list, func(x *Fault) bool { return x == f })
			}
		}
		return *f, true
	}
	return Fault{}, false
}

// A call is one that faults may strike.
type call struct {
	s      *Server
	ctx    context.Context
	method Method
	stream string
	events int
}

func (s *Server) call(ctx context.Context, m Method, stream string) *call {
	return &call{s: s, ctx: ctx, method: m, stream: stream}
}

// begin is called before anything is done.
func (c *call) begin(at moments) error { return c.strike(at) }

// end is called when everything is done but the answer.
func (c *call) end() error { return c.strike(after) }

// delivered is called after each event of a read.
func (c *call) delivered() error {
	c.events++
	return c.strike(midway)
}

func (c *call) strike(at moments) error {
	f, ok := c.s.faults.take(c.method, c.stream, at, c.events)
	if !ok {
		return nil
	}
	if f.Delay > 0 {
		timer := time.NewTimer(f.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			return storeError(c.stream, c.ctx.Err())
		}
	}
	if f.Until != nil {
		select {
		case <-f.Until:
		case <-c.ctx.Done():
			return storeError(c.stream, c.ctx.Err())
		}
	}
	if f.Err == nil && f.Delay == 0 && f.Until == nil {
		return Unavailable()
	}
	return f.Err
}

// A Role is a server's part in a cluster that clients are made to see. The zero
// Role is a leader, alone.
type Role struct {
	// Leader is the address of the leader, host and port, where that is another
	// server. This one is a follower then: it carries out writes for the leader,
	// which in this cluster means that it makes them in its own store, unless the
	// client insists on the leader; persistent subscriptions it refuses.
	Leader string
	// Followers are the addresses of other followers, for gossip.
	Followers []string
	// Lag makes reads and subscriptions end at the last event there is when the
	// role is set, as if nothing appended since had been replicated. It does
	// nothing to clients that insist on the leader, who are sent there.
	Lag bool
}

// A part is a Role that has been set.
type part struct {
	Role
	upTo eventstore.Position
}

// SetRole gives the server a part in a cluster: a follower that does not lag, or
// that no longer does, shows all there is.
func (s *Server) SetRole(ctx context.Context, r Role) error {
	p := &part{Role: r, upTo: everything}
	p.Followers = slices.Clone(r.Followers)
	if r.Lag {
		head, err := s.store.Head(ctx)
		if err != nil {
			return err
		}
		p.upTo = head
	}
	s.part.Store(p)
	s.hub.wakeAll()
	return nil
}

// leads returns the error of a follower that is asked for what only a leader does.
func (s *Server) leads(ctx context.Context, forwards bool) error {
	p := s.part.Load()
	if p.Leader == "" || forwards && !requiresLeader(ctx) {
		return nil
	}
	return NotLeader(p.Leader)
}

func requiresLeader(ctx context.Context) bool {
	md, _ := metadata.FromIncomingContext(ctx)
	v := md.Get("requires-leader")
	return len(v) > 0 && (v[0] == "true" || v[0] == "True")
}

// DropSubscriptions ends all subscriptions, persistent ones too, with err, or with
// Unavailable() if it is nil. Clients may subscribe again at once.
func (s *Server) DropSubscriptions(err error) {
	if err == nil {
		err = Unavailable()
	}
	s.hub.drop(err)
}
