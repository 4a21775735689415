package esdbdev

import (
	"context"
	"errors"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
)

// An expectation is where a client expects a stream.
type expectation struct {
	kind     expectedKind
	revision uint64
}

type expectedKind uint8

const (
	expectAny expectedKind = iota
	expectNoStream
	expectExists
	expectRevision
)

// number is the expectation as older parts of the protocol have it.
func (x expectation) number() int64 {
	switch x.kind {
	case expectNoStream:
		return -1
	case expectAny:
		return -2
	case expectExists:
		return -4
	}
	return int64(x.revision)
}

// holds reports whether a stream is as expected. A deleted stream is still where
// its last event was, and it is also none.
func (x expectation) holds(st *stream) bool {
	switch x.kind {
	case expectNoStream:
		return st.version == 0 || st.deleted()
	case expectExists:
		return st.version > 0 && !st.deleted()
	case expectRevision:
		return st.version > 0 && uint64(st.version)-1 == x.revision
	}
	return true
}

// An outcome is what became of an append.
type outcome struct {
	wrong    bool  // the stream was not as expected; nothing was written
	revision int64 // of the stream's last event, -1 if it has none
	position eventstore.Position
}

// append appends events to a stream as a client expects it. Whatever happens to the
// client meanwhile, it goes through.
func (s *Server) append(ctx context.Context, name string, x expectation, events []eventstore.Event) (outcome, error) {
	if err := s.writable(name); err != nil {
		return outcome{}, err
	}
	ctx = raw(context.WithoutCancel(ctx))
	defer s.locks.lock(name)()
	for attempt := 0; ; attempt++ {
		st, err := s.stream(ctx, name, everything)
		if err != nil {
			return outcome{}, err
		}
		if st.tombstoned {
			return outcome{}, streamDeleted(name)
		}
		out, again, err := s.appendTo(ctx, st, x, events)
		if !again || attempt == maxAttempts {
			return out, err
		}
	}
}

// maxAttempts is how often an append is made again because somebody who is not a
// client of this server wrote to the stream at the same time.
const maxAttempts = 100

func (s *Server) appendTo(ctx context.Context, st *stream, x expectation, events []eventstore.Event) (out outcome, again bool, err error) {
	for i := range events {
		if st.full != "" {
			if events[i].Metadata == nil {
				events[i].Metadata = map[string]string{}
			}
			events[i].Metadata[metaStream] = st.full
		}
	}
	reopens := st.deleted() && x.holds(st)
	// The store recognises an append that is repeated at the same revision. What has
	// none is recognised by the ids it uses, if they are recent.
	if x.kind == expectAny || x.kind == expectExists || reopens {
		out, found, err := s.appendedBefore(ctx, st, x, events)
		if found || err != nil {
			return out, false, err
		}
	}
	if len(events) == 0 {
		return outcome{wrong: !x.holds(st), revision: st.last()}, false, nil
	}
	expected := eventstore.Any
	switch {
	case reopens && st.removed:
		expected = eventstore.NoStream
	case reopens:
		expected = eventstore.Exactly(st.version)
	case x.kind == expectNoStream:
		expected = eventstore.NoStream
	case x.kind == expectExists:
		if expected = eventstore.StreamExists; !x.holds(st) {
			return outcome{wrong: true, revision: st.last()}, false, nil
		}
	case x.kind == expectRevision:
		if x.revision >= tombstoneRevision {
			return outcome{wrong: true, revision: st.last()}, false, nil
		}
		expected = eventstore.Exactly(eventstore.Version(x.revision) + 1)
	}
	at, err := s.store.Append(ctx, st.stored, expected, events...)
	conflict, _ := errors.AsType[*eventstore.ConflictError](err)
	switch {
	case conflict != nil:
		if x.kind == expectNoStream && !reopens {
			// It may have been appended to a stream that was deleted then.
			if out, found, err := s.appendedBefore(ctx, st, x, events); found || err != nil {
				return out, false, err
			}
		}
		return outcome{wrong: true, revision: int64(conflict.Actual) - 1}, reopens, nil
	case errors.Is(err, eventstore.ErrDuplicate):
		return outcome{wrong: true, revision: st.last()}, false, nil // a part of it is there already
	case errors.Is(err, eventstore.ErrTooLarge):
		return outcome{}, false, TooLarge(s.opt.MaxAppendSize)
	case err != nil:
		return outcome{}, false, storeError(st.name, err)
	}
	s.recent.add(st.stored, events, at)
	if reopens {
		if err := s.reopen(ctx, st, at, len(events)); err != nil {
			return outcome{}, false, err
		}
	}
	return outcome{revision: int64(at.Version) - 1, position: at.Position}, false, nil
}

// reopen makes a deleted stream readable from the first of n events that have been
// appended to it since, the last of them at a place. Another server may write metadata meanwhile; these are kept.
func (s *Server) reopen(ctx context.Context, st *stream, at eventstore.Appended, n int) error {
	for attempt := 0; ; attempt++ {
		if st.retention.before != deletedBefore {
			return nil // the store deleted it and has taken it back by itself, or somebody else has
		}
		if st.changed > at.Position {
			return nil // it was deleted once more
		}
		_, err := s.setStreamMetadata(ctx, st, withBefore(st.metadata, uint64(at.Version)-uint64(n)))
		if !errors.Is(err, eventstore.ErrConflict) || attempt == maxAttempts {
			return storeError(st.name, err)
		}
		if st, err = s.stream(ctx, st.name, everything); err != nil {
			return err
		}
	}
}

// appendedBefore finds an append again whose expectation does not tell where.
func (s *Server) appendedBefore(ctx context.Context, st *stream, x expectation, events []eventstore.Event) (out outcome, found bool, err error) {
	if len(events) == 0 {
		return outcome{}, false, nil
	}
	if err := s.recent.load(ctx, s.store); err != nil {
		return outcome{}, false, storeError(st.name, err)
	}
	at, all, some := s.recent.find(st.stored, events)
	switch {
	case all && st.deleted() && at.Position > st.changed:
		// It was made to reopen the stream, and that was cut short.
		err := s.reopen(ctx, st, at, len(events))
		return outcome{revision: int64(at.Version) - 1, position: at.Position}, true, err
	case all && st.deleted() && x.kind == expectNoStream:
		return outcome{}, false, nil // deleted since: these are new events
	case all:
		return outcome{revision: int64(at.Version) - 1, position: at.Position}, true, nil
	case some && x.kind != expectNoStream:
		return outcome{wrong: true, revision: st.last()}, true, nil
	}
	return outcome{}, false, nil
}

// setStreamMetadata replaces the metadata that st has, or returns an
// eventstore.ErrConflict if it has others by now. The caller has locked the stream, which keeps apart
// those who use this server.
func (s *Server) setStreamMetadata(ctx context.Context, st *stream, data []byte) (eventstore.Position, error) {
	stored, full := storedStream("$$"+st.name, s.nameBytes)
	e := eventstore.Event{ID: uuid.New(), Type: metadataType, Raw: data, ContentType: typeJSON}
	if full != "" {
		e.Metadata = map[string]string{metaStream: full}
	}
	at, err := s.store.Append(ctx, stored, st.writable, e)
	return at.Position, err
}

// remove deletes a stream, for ever or until it is appended to.
func (s *Server) remove(ctx context.Context, name string, x expectation, forever bool) (eventstore.Position, error) {
	if err := s.writable(name); err != nil {
		return 0, err
	}
	ctx = raw(context.WithoutCancel(ctx))
	defer s.locks.lock(name)()
	for attempt := 0; ; attempt++ {
		st, err := s.stream(ctx, name, everything)
		switch {
		case err != nil:
			return 0, err
		case st.tombstoned:
			return 0, streamDeleted(name)
		case !x.holds(st):
			return 0, wrongVersion(name, x, st.last())
		case forever:
			return s.bury(ctx, name)
		}
		p, err := s.setStreamMetadata(ctx, st, withBefore(st.metadata, deletedBefore))
		if !errors.Is(err, eventstore.ErrConflict) || attempt == maxAttempts {
			return p, storeError(name, err)
		}
	}
}

// bury writes the tombstone of a stream.
func (s *Server) bury(ctx context.Context, name string) (eventstore.Position, error) {
	at, err := s.store.Append(ctx, tombstoneStream(name), eventstore.NoStream, eventstore.Event{
		ID: uuid.New(), Type: tombstoneType, Raw: []byte{}, ContentType: typeBinary, Metadata: map[string]string{metaStream: name},
	})
	if errors.Is(err, eventstore.ErrConflict) {
		return 0, streamDeleted(name)
	}
	return at.Position, storeError(name, err)
}

// writable refuses streams that are none.
func (s *Server) writable(name string) error {
	if name == "$all" {
		return accessDenied()
	}
	return nil
}

// A proposed event is part of the requests of two calls, which have a type for it each.
type proposed interface {
	GetId() *shared.UUID
	GetMetadata() map[string]string
	GetCustomMetadata() []byte
	GetData() []byte
}

// A proposal collects the events of an append and adds up their size.
type proposal struct {
	limit  int
	size   int
	events []eventstore.Event
	ids    map[uuid.UUID]struct{}
}

func (p *proposal) add(m proposed) error {
	id, err := parseID(m.GetId())
	if err != nil {
		return err
	}
	if id == (uuid.UUID{}) {
		return invalidArgument("an event must have an id")
	}
	if _, twice := p.ids[id]; twice {
		return invalidArgument("event %s is twice in one append", id)
	}
	if p.ids == nil {
		p.ids = map[uuid.UUID]struct{}{}
	}
	p.ids[id] = struct{}{}
	meta := m.GetMetadata()
	typ, ok := meta[keyType]
	if !ok {
		return missingMetadata(keyType)
	}
	if typ == "" || len(typ) > maxName {
		return invalidArgument("the type of an event must have 1 to %d bytes, not %d", maxName, len(typ))
	}
	contentType, ok := meta[keyContentType]
	if !ok {
		return missingMetadata(keyContentType)
	}
	if contentType != typeJSON {
		contentType = typeBinary
	}
	if p.size += len(m.GetData()) + len(m.GetCustomMetadata()) + len(typ); p.size > p.limit {
		return TooLarge(p.limit)
	}
	e := eventstore.Event{ID: id, Raw: m.GetData(), ContentType: contentType}
	if e.Raw == nil {
		e.Raw = []byte{}
	}
	setMetadata(&e, m.GetCustomMetadata())
	var full string
	if e.Type, full = storedType(typ); full != "" {
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		e.Metadata[metaType] = full
	}
	p.events = append(p.events, e)
	return nil
}

// Append is the call of that name.
func (v *streamsService) Append(call streams.Streams_AppendServer) error {
	ctx := call.Context()
	resp, err := v.s.receiveAppend(ctx, call)
	if err != nil {
		return answer(ctx, err)
	}
	return call.SendAndClose(resp)
}

func (s *Server) receiveAppend(ctx context.Context, call streams.Streams_AppendServer) (*streams.AppendResp, error) {
	req, err := call.Recv()
	if err != nil {
		return nil, err
	}
	o := req.GetOptions()
	if o == nil {
		return nil, invalidArgument("an append must begin with its options")
	}
	name, err := nameOf(o.GetStreamIdentifier())
	if err != nil {
		return nil, err
	}
	x, err := appendExpectation(o)
	if err != nil {
		return nil, err
	}
	c := s.call(ctx, MethodAppend, name)
	if err := c.begin(early); err != nil {
		return nil, err
	}
	if err := s.leads(ctx, true); err != nil {
		return nil, err
	}
	p := proposal{limit: s.opt.MaxAppendSize}
	for {
		req, err := call.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		m := req.GetProposedMessage()
		if m == nil {
			return nil, invalidArgument("an append has its options twice")
		}
		// Too much is refused at once, while the client may still be sending.
		if err := p.add(m); err != nil {
			return nil, err
		}
	}
	if err := c.begin(late); err != nil {
		return nil, err
	}
	out, err := s.append(ctx, name, x, p.events)
	if err == nil {
		err = c.end()
	}
	if err != nil {
		return nil, err
	}
	return appendResponse(x, out), nil
}

func appendExpectation(o *streams.AppendReq_Options) (expectation, error) {
	switch v := o.GetExpectedStreamRevision().(type) {
	case *streams.AppendReq_Options_Revision:
		return expectation{expectRevision, v.Revision}, nil
	case *streams.AppendReq_Options_NoStream:
		return expectation{kind: expectNoStream}, nil
	case *streams.AppendReq_Options_Any:
		return expectation{kind: expectAny}, nil
	case *streams.AppendReq_Options_StreamExists:
		return expectation{kind: expectExists}, nil
	}
	return expectation{}, invalidArgument("no expected stream revision")
}

func appendResponse(x expectation, out outcome) *streams.AppendResp {
	if out.wrong {
		return &streams.AppendResp{Result: &streams.AppendResp_WrongExpectedVersion_{WrongExpectedVersion: wrongExpectedVersion(x, out)}}
	}
	success := &streams.AppendResp_Success{}
	if out.revision >= 0 {
		success.CurrentRevisionOption = &streams.AppendResp_Success_CurrentRevision{CurrentRevision: uint64(out.revision)}
	} else {
		success.CurrentRevisionOption = &streams.AppendResp_Success_NoStream{NoStream: &shared.Empty{}}
	}
	if p := wirePosition(out.position); p > 0 {
		success.PositionOption = &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: p, PreparePosition: p}}
	} else {
		success.PositionOption = &streams.AppendResp_Success_NoPosition{NoPosition: &shared.Empty{}}
	}
	return &streams.AppendResp{Result: &streams.AppendResp_Success_{Success: success}}
}

// wrongExpectedVersion fills in the fields of both generations of clients.
func wrongExpectedVersion(x expectation, out outcome) *streams.AppendResp_WrongExpectedVersion {
	w := &streams.AppendResp_WrongExpectedVersion{}
	if out.revision >= 0 {
		current := uint64(out.revision)
		w.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_CurrentRevision_20_6_0{CurrentRevision_20_6_0: current}
		w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentRevision{CurrentRevision: current}
	} else {
		w.CurrentRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_NoStream_20_6_0{NoStream_20_6_0: &shared.Empty{}}
		w.CurrentRevisionOption = &streams.AppendResp_WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &shared.Empty{}}
	}
	switch x.kind {
	case expectRevision:
		w.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision_20_6_0{ExpectedRevision_20_6_0: x.revision}
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedRevision{ExpectedRevision: x.revision}
	case expectAny:
		w.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_Any_20_6_0{Any_20_6_0: &shared.Empty{}}
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedAny{ExpectedAny: &shared.Empty{}}
	case expectExists:
		w.ExpectedRevisionOption_20_6_0 = &streams.AppendResp_WrongExpectedVersion_StreamExists_20_6_0{StreamExists_20_6_0: &shared.Empty{}}
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &shared.Empty{}}
	case expectNoStream:
		w.ExpectedRevisionOption = &streams.AppendResp_WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &shared.Empty{}}
	}
	return w
}

// Delete is the call of that name.
func (v *streamsService) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	o := req.GetOptions()
	var x expectation
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.DeleteReq_Options_Revision:
		x = expectation{expectRevision, e.Revision}
	case *streams.DeleteReq_Options_NoStream:
		x.kind = expectNoStream
	case *streams.DeleteReq_Options_StreamExists:
		x.kind = expectExists
	}
	p, err := v.s.callRemove(ctx, MethodDelete, o.GetStreamIdentifier(), x)
	if err != nil {
		return nil, answer(ctx, err)
	}
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{
		Position: &streams.DeleteResp_Position{CommitPosition: p, PreparePosition: p}}}, nil
}

// Tombstone is the call of that name.
func (v *streamsService) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	o := req.GetOptions()
	var x expectation
	switch e := o.GetExpectedStreamRevision().(type) {
	case *streams.TombstoneReq_Options_Revision:
		x = expectation{expectRevision, e.Revision}
	case *streams.TombstoneReq_Options_NoStream:
		x.kind = expectNoStream
	case *streams.TombstoneReq_Options_StreamExists:
		x.kind = expectExists
	}
	p, err := v.s.callRemove(ctx, MethodTombstone, o.GetStreamIdentifier(), x)
	if err != nil {
		return nil, answer(ctx, err)
	}
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{
		Position: &streams.TombstoneResp_Position{CommitPosition: p, PreparePosition: p}}}, nil
}

func (s *Server) callRemove(ctx context.Context, m Method, id *shared.StreamIdentifier, x expectation) (uint64, error) {
	name, err := nameOf(id)
	if err != nil {
		return 0, err
	}
	c := s.call(ctx, m, name)
	if err := c.begin(early | late); err != nil {
		return 0, err
	}
	if err := s.leads(ctx, true); err != nil {
		return 0, err
	}
	p, err := s.remove(ctx, name, x, m == MethodTombstone)
	if err == nil {
		err = c.end()
	}
	if err != nil {
		return 0, err
	}
	return wirePosition(p), nil
}
