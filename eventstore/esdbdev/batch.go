package esdbdev

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A batch is one append among those of a BatchAppend call. Its events may come in
// several messages.
type batch struct {
	id       *shared.UUID
	stream   *shared.StreamIdentifier
	name     string
	x        expectation
	deadline time.Time // zero is none
	proposal proposal
	err      error // why it is refused
}

// batchWorkers is how many appends of one call are under way at once. Those to one
// stream are made in the order in which they came.
const batchWorkers = 8

// batchQueue bounds what waits for a worker; then the client must wait.
const batchQueue = 64

// BatchAppend is the call of that name: many appends, to many streams, on one call.
func (v *streamsService) BatchAppend(call streams.Streams_BatchAppendServer) error {
	ctx := call.Context()
	if err := v.s.leads(ctx, true); err != nil {
		return answer(ctx, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		sending sync.Mutex
		workers sync.WaitGroup
		queues  [batchWorkers]chan *batch
	)
	for i := range queues {
		queues[i] = make(chan *batch, batchQueue)
		workers.Go(func() {
			for b := range queues[i] {
				resp, err := v.s.appendBatch(ctx, b)
				if err != nil {
					cancel(err)
					continue
				}
				sending.Lock()
				err = call.Send(resp)
				sending.Unlock()
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	err := v.s.receiveBatches(ctx, call, func(b *batch) {
		h := fnv.New32a()
		h.Write([]byte(b.name))
		select {
		case queues[h.Sum32()%batchWorkers] <- b:
		case <-ctx.Done():
		}
	})
	for _, q := range queues {
		close(q)
	}
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // an answer that was lost on purpose
	}
	return answer(call.Context(), err)
}

// receiveBatches puts batches together until the client has no more.
func (s *Server) receiveBatches(ctx context.Context, call streams.Streams_BatchAppendServer, ready func(*batch)) error {
	open := map[uuid.UUID]*batch{}
	received := make(chan *streams.BatchAppendReq)
	failed := make(chan error, 1)
	go func() {
		for {
			req, err := call.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case received <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		var req *streams.BatchAppendReq
		select {
		case req = <-received:
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		id, err := parseID(req.GetCorrelationId())
		if err != nil {
			return err
		}
		b := open[id]
		if b == nil {
			b = s.newBatch(req)
			open[id] = b
		}
		for _, m := range req.GetProposedMessages() {
			if b.err == nil {
				b.err = b.proposal.add(m)
			}
		}
		if req.GetIsFinal() {
			delete(open, id)
			ready(b)
		}
	}
}

func (s *Server) newBatch(req *streams.BatchAppendReq) *batch {
	o := req.GetOptions()
	b := &batch{id: req.GetCorrelationId(), stream: o.GetStreamIdentifier(), proposal: proposal{limit: s.opt.MaxAppendSize}}
	if o == nil {
		b.err = invalidArgument("an append must begin with its options")
		return b
	}
	if b.name, b.err = nameOf(b.stream); b.err != nil {
		return b
	}
	switch v := o.GetExpectedStreamPosition().(type) {
	case *streams.BatchAppendReq_Options_StreamPosition:
		b.x = expectation{expectRevision, v.StreamPosition}
	case *streams.BatchAppendReq_Options_NoStream:
		b.x.kind = expectNoStream
	case *streams.BatchAppendReq_Options_StreamExists:
		b.x.kind = expectExists
	case *streams.BatchAppendReq_Options_Any:
		b.x.kind = expectAny
	default:
		b.err = invalidArgument("no expected stream position")
	}
	switch d := o.GetDeadlineOption().(type) {
	case *streams.BatchAppendReq_Options_Deadline:
		b.deadline = time.Now().Add(d.Deadline.AsDuration())
	case *streams.BatchAppendReq_Options_Deadline_21_10_0:
		b.deadline = d.Deadline_21_10_0.AsTime()
	}
	return b
}

// appendBatch makes one append. Its error is one of the whole call; what becomes of
// the append is in the answer.
func (s *Server) appendBatch(ctx context.Context, b *batch) (*streams.BatchAppendResp, error) {
	resp := &streams.BatchAppendResp{CorrelationId: b.id, StreamIdentifier: b.stream}
	c := s.call(ctx, MethodBatchAppend, b.name)
	if err := c.begin(early | late); err != nil {
		return nil, err
	}
	var (
		out outcome
		err = b.err
	)
	if err == nil && !b.deadline.IsZero() && time.Now().After(b.deadline) {
		err = context.DeadlineExceeded
	}
	if err == nil {
		out, err = s.append(ctx, b.name, b.x, b.proposal.events)
	}
	if err := c.end(); err != nil {
		return nil, err
	}
	switch {
	case err != nil:
		resp.Result = &streams.BatchAppendResp_Error{Error: s.batchError(b, err)}
	case out.wrong:
		resp.Result = &streams.BatchAppendResp_Error{Error: batchStatus(codes.FailedPrecondition,
			"Append failed due to WrongExpectedVersion", batchWrongVersion(b.x, out))}
	default:
		resp.Result = &streams.BatchAppendResp_Success_{Success: batchSuccess(out)}
	}
	switch b.x.kind {
	case expectRevision:
		resp.ExpectedStreamPosition = &streams.BatchAppendResp_StreamPosition{StreamPosition: b.x.revision}
	case expectNoStream:
		resp.ExpectedStreamPosition = &streams.BatchAppendResp_NoStream{NoStream: &emptypb.Empty{}}
	case expectExists:
		resp.ExpectedStreamPosition = &streams.BatchAppendResp_StreamExists{StreamExists: &emptypb.Empty{}}
	case expectAny:
		resp.ExpectedStreamPosition = &streams.BatchAppendResp_Any{Any: &emptypb.Empty{}}
	}
	return resp, nil
}

func batchSuccess(out outcome) *streams.BatchAppendResp_Success {
	success := &streams.BatchAppendResp_Success{}
	if out.revision >= 0 {
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_CurrentRevision{CurrentRevision: uint64(out.revision)}
	} else {
		success.CurrentRevisionOption = &streams.BatchAppendResp_Success_NoStream{NoStream: &emptypb.Empty{}}
	}
	if p := wirePosition(out.position); p > 0 {
		success.PositionOption = &streams.BatchAppendResp_Success_Position{Position: &shared.AllStreamPosition{CommitPosition: p, PreparePosition: p}}
	} else {
		success.PositionOption = &streams.BatchAppendResp_Success_NoPosition{NoPosition: &emptypb.Empty{}}
	}
	return success
}

func batchWrongVersion(x expectation, out outcome) *shared.WrongExpectedVersion {
	w := &shared.WrongExpectedVersion{}
	if out.revision >= 0 {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: uint64(out.revision)}
	} else {
		w.CurrentStreamRevisionOption = &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}}
	}
	switch x.kind {
	case expectRevision:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: x.revision}
	case expectNoStream:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedNoStream{ExpectedNoStream: &emptypb.Empty{}}
	case expectExists:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}
	case expectAny:
		w.ExpectedStreamPositionOption = &shared.WrongExpectedVersion_ExpectedAny{ExpectedAny: &emptypb.Empty{}}
	}
	return w
}

// batchError tells of an error by a message, since there are no trailers for one
// append among many.
func (s *Server) batchError(b *batch, err error) *status.Status {
	var e *exception
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return batchStatus(codes.DeadlineExceeded, "Timeout", &shared.Timeout{})
	case !errors.As(err, &e):
		return batchStatus(codes.Unknown, err.Error(), &shared.Unknown{})
	case e.code == codes.PermissionDenied:
		return batchStatus(codes.PermissionDenied, e.message, &shared.AccessDenied{})
	case e.code == codes.FailedPrecondition:
		return batchStatus(codes.FailedPrecondition, e.message, &shared.StreamDeleted{StreamIdentifier: b.stream})
	case len(e.trailers) > 0 && e.trailers[1] == exceptionTooLarge:
		return batchStatus(codes.InvalidArgument, e.message, &shared.MaximumAppendSizeExceeded{MaxAppendSize: uint32(s.opt.MaxAppendSize)})
	case e.code == codes.Aborted:
		return batchStatus(codes.Aborted, e.message, &shared.Timeout{})
	case e.code == codes.InvalidArgument:
		return batchStatus(codes.InvalidArgument, e.message, &shared.BadRequest{Message: e.message})
	}
	return batchStatus(e.code, e.message, &shared.Unknown{})
}

func batchStatus(c codes.Code, message string, detail proto.Message) *status.Status {
	d, err := anypb.New(detail)
	if err != nil {
		return &status.Status{Code: int32(c), Message: message}
	}
	return &status.Status{Code: int32(c), Message: message, Details: []*anypb.Any{d}}
}
