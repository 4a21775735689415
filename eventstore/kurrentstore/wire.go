package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// What goes over the wire is, request for request, what esdb.Client sends.

// An expectation is the revision at which a stream must stand: none, or an exact one.
type expectation struct {
	none     bool
	revision uint64
}

// at is the expectation of a stream at a version.
func at(version uint64) expectation {
	if version == 0 {
		return expectation{none: true}
	}
	return expectation{revision: version - 1}
}

type (
	proposed = streams.AppendReq_ProposedMessage
	recorded = streams.ReadResp_ReadEvent_RecordedEvent
	readReq  = streams.ReadReq_Options
)

// An ack is the answer to an append.
type ack struct {
	version uint64 // of the stream, after the last event
	commit  uint64
}

// append makes one attempt at an append.
func (g *guard) append(ctx context.Context, n *node, stream string, exp expectation, events []*proposed) (ack, error) {
	ctx, cancel := context.WithTimeout(ctx, g.attempt)
	defer cancel()
	s, err := streams.NewStreamsClient(n.conn).Append(ctx, g.call...)
	if err != nil {
		return ack{}, fault(err, nil)
	}
	opt := &streams.AppendReq_Options{StreamIdentifier: identifier(stream)}
	if exp.none {
		opt.ExpectedStreamRevision = &streams.AppendReq_Options_NoStream{NoStream: &shared.Empty{}}
	} else {
		opt.ExpectedStreamRevision = &streams.AppendReq_Options_Revision{Revision: exp.revision}
	}
	err = s.Send(&streams.AppendReq{Content: &streams.AppendReq_Options_{Options: opt}})
	for i := 0; err == nil && i < len(events); i++ {
		err = s.Send(&streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: events[i]}})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return ack{}, fault(err, nil)
	}
	// After io.EOF the server has answered already: this is where it says why.
	resp, err := s.CloseAndRecv()
	if err != nil {
		return ack{}, fault(err, s.Trailer())
	}
	if w := resp.GetWrongExpectedVersion(); w != nil {
		e := &errWrongVersion{}
		if r, ok := w.GetCurrentRevisionOption().(*streams.AppendResp_WrongExpectedVersion_CurrentRevision); ok {
			e.version = r.CurrentRevision + 1
		}
		return ack{}, e
	}
	ok := resp.GetSuccess()
	return ack{version: ok.GetCurrentRevision() + 1, commit: ok.GetPosition().GetCommitPosition()}, nil
}

// errEnough ends a read whose reader has what it wants.
var errEnough = errors.New("enough")

// read makes one attempt at a read, and calls each with every event until that fails or the end is reached.
func (g *guard) read(ctx context.Context, n *node, opt *readReq, each func(*recorded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := streams.NewStreamsClient(n.conn).Read(ctx, &streams.ReadReq{Options: opt}, g.call...)
	if err != nil {
		return fault(err, nil)
	}
	for {
		resp, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fault(err, s.Trailer())
		}
		switch c := resp.GetContent().(type) {
		case *streams.ReadResp_Event:
			if err := each(c.Event.GetEvent()); errors.Is(err, errEnough) {
				return nil
			} else if err != nil {
				return err
			}
		case *streams.ReadResp_StreamNotFound_:
			return errNoStream
		}
	}
}

// subscribe calls live when a subscription to everything from now on is made,
// and each with every event, until ctx ends or the subscription does.
func (g *guard) subscribe(ctx context.Context, n *node, live func(), each func(*recorded)) error {
	opt := readOptions(0, false)
	opt.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	opt.FilterOption = &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}}
	opt.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{
		AllOption: &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}},
	}}
	s, err := streams.NewStreamsClient(n.conn).Read(ctx, &streams.ReadReq{Options: opt}, g.call...)
	if err != nil {
		return fault(err, nil)
	}
	for {
		resp, err := s.Recv()
		if err != nil {
			return fault(err, s.Trailer())
		}
		switch c := resp.GetContent().(type) {
		case *streams.ReadResp_Confirmation:
			live()
		case *streams.ReadResp_Event:
			each(c.Event.GetEvent())
		}
	}
}

// delete makes one attempt at a soft delete of a stream that must stand at version.
func (g *guard) delete(ctx context.Context, n *node, stream string, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, g.attempt)
	defer cancel()
	var trailer metadata.MD
	_, err := streams.NewStreamsClient(n.conn).Delete(ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{
		StreamIdentifier:       identifier(stream),
		ExpectedStreamRevision: &streams.DeleteReq_Options_Revision{Revision: version - 1},
	}}, g.calls(&trailer)...)
	return fault(err, trailer)
}

// tombstone makes one attempt at a delete for ever.
func (g *guard) tombstone(ctx context.Context, n *node, stream string) error {
	ctx, cancel := context.WithTimeout(ctx, g.attempt)
	defer cancel()
	var trailer metadata.MD
	_, err := streams.NewStreamsClient(n.conn).Tombstone(ctx, &streams.TombstoneReq{Options: &streams.TombstoneReq_Options{
		StreamIdentifier:       identifier(stream),
		ExpectedStreamRevision: &streams.TombstoneReq_Options_Any{Any: &shared.Empty{}},
	}}, g.calls(&trailer)...)
	return fault(err, trailer)
}

func (g *guard) calls(trailer *metadata.MD) []grpc.CallOption {
	return append([]grpc.CallOption{grpc.Trailer(trailer)}, g.call...)
}

func identifier(stream string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(stream)}
}

func readOptions(count uint64, backward bool) *readReq {
	opt := &readReq{
		CountOption:  &streams.ReadReq_Options_Count{Count: count},
		FilterOption: &streams.ReadReq_Options_NoFilter{},
		UuidOption:   &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_Structured{}},
	}
	if backward {
		opt.ReadDirection = streams.ReadReq_Options_Backwards
	}
	return opt
}

// readStream asks for count events of a stream, beginning with that of a version; 0 is the start, or the end going backward.
func readStream(stream string, version, count uint64, backward bool) *readReq {
	opt := readOptions(count, backward)
	from := &streams.ReadReq_Options_StreamOptions{StreamIdentifier: identifier(stream)}
	switch {
	case version > 0:
		from.RevisionOption = &streams.ReadReq_Options_StreamOptions_Revision{Revision: version - 1}
	case backward:
		from.RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}}
	default:
		from.RevisionOption = &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}}
	}
	opt.StreamOption = &streams.ReadReq_Options_Stream{Stream: from}
	return opt
}

// readAll asks for count events of everything: forward beginning with that at a position, backward with the one before it. 0 is the start, or the end.
func readAll(position, count uint64, backward bool) *readReq {
	opt := readOptions(count, backward)
	from := &streams.ReadReq_Options_AllOptions{}
	switch {
	case position > 0:
		from.AllOption = &streams.ReadReq_Options_AllOptions_Position{
			Position: &streams.ReadReq_Options_Position{CommitPosition: position, PreparePosition: position},
		}
	case backward:
		from.AllOption = &streams.ReadReq_Options_AllOptions_End{End: &shared.Empty{}}
	default:
		from.AllOption = &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}
	}
	opt.StreamOption = &streams.ReadReq_Options_All{All: from}
	return opt
}

// searchWindow is how many events the server looks at in one piece for those that a filter selects.
const searchWindow = 2000

// readNamed is readAll, forward, of the streams whose names on the server begin with a prefix; where
// that is empty, of all but the server's own. The server's answer does not say how far it looked.
func readNamed(prefix string, position, count uint64) *readReq {
	names := &streams.ReadReq_Options_FilterOptions_Expression{}
	if prefix != "" {
		names.Prefix = []string{prefix}
	} else {
		names.Regex = `^[^$]`
	}
	opt := readAll(position, count, false)
	opt.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter:                       &streams.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: names},
		Window:                       &streams.ReadReq_Options_FilterOptions_Max{Max: searchWindow},
		CheckpointIntervalMultiplier: 1,
	}}
	return opt
}

// page makes attempts at a read until one has succeeded, and returns what each
// made of it. fresh begins anew, for an attempt that ended in the middle.
func (g *guard) page(ctx context.Context, opt *readReq, fresh func(), each func(*recorded) error) error {
	_, err := g.do(ctx, func(ctx context.Context, n *node) error {
		fresh()
		return g.lively(ctx, n, opt, each)
	})
	return err
}

// lively is read, but that it may not take too long between events.
func (g *guard) lively(ctx context.Context, n *node, opt *readReq, each func(*recorded) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stalled := newStall(g.attempt, cancel)
	defer stalled.stop()
	err := g.read(ctx, n, opt, func(e *recorded) error {
		stalled.reset()
		return each(e)
	})
	return stalled.why(err)
}

// one returns the first event of a read, nil if it has none.
func (g *guard) one(ctx context.Context, opt *readReq) (first *recorded, err error) {
	err = g.page(ctx, opt, func() { first = nil }, func(e *recorded) error {
		first = e
		return errEnough
	})
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return first, nil
}
