package esdbdev

import (
	"context"
	"iter"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/levada-go/levada/eventstore"
)

// Read is the call of that name: reads that end, and subscriptions, which do not.
func (v *streamsService) Read(req *streams.ReadReq, call streams.Streams_ReadServer) error {
	ctx := call.Context()
	r, err := newReading(v.s, req.GetOptions(), call.Send)
	if err == nil {
		err = r.run(ctx)
	}
	return answer(ctx, err)
}

// A reading is one read or subscription.
type reading struct {
	s         *Server
	send      func(*streams.ReadResp) error
	name      string // of the stream; empty for $all
	from      start
	backward  bool
	subscribe bool
	count     uint64
	resolve   bool
	stringIDs bool
	filter    *filter
	modern    bool // the client knows messages about the ends of streams
	call      *call
}

// A start is where a reading begins: at one of the ends, or at a revision or position.
type start struct {
	kind startKind
	at   uint64
}

type startKind uint8

const (
	fromStart startKind = iota
	fromEnd
	fromHere
)

func newReading(s *Server, o *streams.ReadReq_Options, send func(*streams.ReadResp) error) (*reading, error) {
	r := &reading{
		s: s, send: send, backward: o.GetReadDirection() == streams.ReadReq_Options_Backwards,
		resolve: o.GetResolveLinks(), stringIDs: o.GetUuidOption().GetString_() != nil,
		modern: o.GetControlOption().GetCompatibility() >= 1,
	}
	switch c := o.GetCountOption().(type) {
	case *streams.ReadReq_Options_Count:
		r.count = c.Count
	case *streams.ReadReq_Options_Subscription:
		if r.subscribe = true; r.backward {
			return nil, invalidArgument("subscriptions go forwards")
		}
	default:
		return nil, invalidArgument("neither a count nor a subscription")
	}
	var err error
	if r.filter, err = readFilter(o); err != nil {
		return nil, err
	}
	switch x := o.GetStreamOption().(type) {
	case *streams.ReadReq_Options_Stream:
		if r.filter != nil {
			return nil, invalidArgument("only $all can be filtered")
		}
		if r.name, err = nameOf(x.Stream.GetStreamIdentifier()); err != nil {
			return nil, err
		}
		r.from = streamStart(x.Stream)
	case *streams.ReadReq_Options_All:
		if r.from, err = allStart(x.All); err != nil {
			return nil, err
		}
	default:
		return nil, invalidArgument("neither a stream nor $all")
	}
	return r, nil
}

func streamStart(o *streams.ReadReq_Options_StreamOptions) start {
	switch x := o.GetRevisionOption().(type) {
	case *streams.ReadReq_Options_StreamOptions_Revision:
		if x.Revision >= tombstoneRevision {
			return start{kind: fromEnd}
		}
		return start{fromHere, x.Revision}
	case *streams.ReadReq_Options_StreamOptions_End:
		return start{kind: fromEnd}
	}
	return start{}
}

// allStart returns where a read of everything begins; its position is the store's.
func allStart(o *streams.ReadReq_Options_AllOptions) (start, error) {
	switch x := o.GetAllOption().(type) {
	case *streams.ReadReq_Options_AllOptions_Position:
		return positionStart(x.Position.GetCommitPosition(), x.Position.GetPreparePosition())
	case *streams.ReadReq_Options_AllOptions_End:
		return start{kind: fromEnd}, nil
	}
	return start{}, nil
}

// positionStart refuses what this server has not given out: positions are not
// numbers to count with.
func positionStart(commit, prepare uint64) (start, error) {
	switch {
	case commit == endPosition:
		return start{kind: fromEnd}, nil
	case commit == 0:
		return start{}, nil
	}
	p, ok := storePosition(commit)
	if !ok || prepare != commit {
		return start{}, invalidArgument("C:%d/P:%d is not a position that an event has here", commit, prepare)
	}
	return start{fromHere, uint64(p)}, nil
}

func (r *reading) run(ctx context.Context) error {
	m, name := MethodRead, r.name
	if r.subscribe {
		m = MethodSubscribe
	}
	if name == "" {
		name = "$all"
	}
	r.call = r.s.call(ctx, m, name)
	if err := r.call.begin(early | late); err != nil {
		return err
	}
	if err := r.s.leads(ctx, true); err != nil {
		return err
	}
	var err error
	switch {
	case r.subscribe:
		err = r.follow(ctx)
	case r.name == "":
		err = r.all(ctx)
	default:
		err = r.stream(ctx)
	}
	if err == nil {
		err = r.call.end()
	}
	return storeError(r.name, err)
}

// event sends one event.
func (r *reading) event(ctx context.Context, rec *record) error {
	e, err := r.s.resolve(ctx, rec, r.resolve)
	if err != nil {
		return err
	}
	if err := r.send(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: e.wire(r.stringIDs)}}); err != nil {
		return err
	}
	return r.call.delivered()
}

// resolve follows a link, if that is wanted and rec is one.
func (s *Server) resolve(ctx context.Context, rec *record, links bool) (*resolved, error) {
	if !links {
		return &resolved{event: rec}, nil
	}
	name, revision, ok := linkTarget(rec)
	if !ok {
		return &resolved{event: rec}, nil
	}
	st, err := s.stream(ctx, name, s.part.Load().upTo)
	if err != nil {
		return nil, err
	}
	target := &resolved{link: rec}
	if found, err := st.readable(); !found || err != nil || revision+1 < uint64(st.first) || revision >= uint64(st.version) {
		return target, nil // a link may lead nowhere
	}
	for r, err := range s.store.ReadStreamBackward(raw(ctx), st.stored, eventstore.Version(revision)+2) {
		if err != nil {
			return nil, storeError(name, err)
		}
		if uint64(r.Version) == revision+1 {
			target.event, _ = newRecord(r)
		}
		break
	}
	return target, nil
}

// stream is a read of one stream that ends.
func (r *reading) stream(ctx context.Context) error {
	st, err := r.s.stream(ctx, r.name, r.s.part.Load().upTo)
	if err != nil {
		return err
	}
	found, err := st.readable()
	if err != nil {
		return err
	}
	if !found {
		return r.send(&streams.ReadResp{Content: &streams.ReadResp_StreamNotFound_{
			StreamNotFound: &streams.ReadResp_StreamNotFound{StreamIdentifier: identifier(r.name)}}})
	}
	now, left := time.Now(), r.count
	for rec, err := range r.s.readStream(ctx, st, r.from, r.backward) {
		if left == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if st.expired(rec, now) {
			continue
		}
		event, ok := newRecord(rec)
		if !ok {
			continue
		}
		if err := r.event(ctx, event); err != nil {
			return err
		}
		left--
	}
	if !r.modern {
		return nil
	}
	if r.backward {
		return r.send(&streams.ReadResp{Content: &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: uint64(st.first) - 1}})
	}
	return r.send(&streams.ReadResp{Content: &streams.ReadResp_LastStreamPosition{LastStreamPosition: uint64(st.last())}})
}

// readStream yields what can be read of a stream, from a revision on, that included.
func (s *Server) readStream(ctx context.Context, st *stream, from start, backward bool) iter.Seq2[*eventstore.Recorded, error] {
	return func(yield func(*eventstore.Recorded, error) bool) {
		if backward {
			before := st.version + 1
			switch from.kind {
			case fromStart:
				before = 2
			case fromHere:
				before = min(before, eventstore.Version(from.at)+2)
			}
			for r, err := range s.store.ReadStreamBackward(raw(ctx), st.stored, before) {
				if err == nil && r.Version < st.first || !yield(r, err) {
					return
				}
			}
			return
		}
		after := st.first - 1
		switch from.kind {
		case fromEnd:
			return
		case fromHere:
			after = max(after, eventstore.Version(from.at))
		}
		if after >= st.version {
			return
		}
		for r, err := range s.store.ReadStream(raw(ctx), st.stored, after) {
			if err == nil && r.Version > st.version || !yield(r, err) {
				return
			}
		}
	}
}

// all is a read of everything that ends.
func (r *reading) all(ctx context.Context) error {
	left := r.count
	for rec, err := range r.s.readAll(ctx, r.from, r.backward) {
		if left == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if !r.filter.match(rec) {
			continue
		}
		if err := r.event(ctx, rec); err != nil {
			return err
		}
		left--
	}
	return nil
}

// readAll yields the events that clients may see: forwards from a position on, that
// included, and backwards before it.
func (s *Server) readAll(ctx context.Context, from start, backward bool) iter.Seq2[*record, error] {
	upTo := s.part.Load().upTo
	if !backward {
		after := eventstore.Position(0)
		switch from.kind {
		case fromEnd:
			return func(func(*record, error) bool) {}
		case fromHere:
			after = eventstore.Position(from.at) - 1
		}
		return visible(s.store.ReadAll(raw(ctx), eventstore.Filter{System: true}, after), upTo)
	}
	switch from.kind {
	case fromStart:
		return func(func(*record, error) bool) {}
	case fromEnd:
		from.at = 0
	}
	return visible(s.store.ReadAllBackward(raw(ctx), eventstore.Filter{System: true}, eventstore.Position(from.at)), upTo)
}

// visible leaves out the store's own events and those after a position.
func visible(events iter.Seq2[*eventstore.Recorded, error], upTo eventstore.Position) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		for r, err := range events {
			if err != nil {
				yield(nil, err)
				return
			}
			if r.Position > upTo {
				continue
			}
			if rec, ok := newRecord(r); ok && !yield(rec, nil) {
				return
			}
		}
	}
}
