package esdbdev

import (
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A patient registrar has a call with one request wait until the client has ended its
// side of it, however early the answer is known. The server of gRPC resets the stream
// of a call that it answers before; HTTP/2 allows that (RFC 9113, 8.1), yet clients
// built on the h2 library of Rust may drop the answer they have and report the server
// as unavailable.
type patient struct{ grpc.ServiceRegistrar }

// RegisterService registers all methods as streams: those with one answer, too, whose
// handlers would else not see where the request ends.
func (p patient) RegisterService(desc *grpc.ServiceDesc, impl any) {
	d := *desc
	d.Methods, d.Streams = nil, nil
	for _, m := range desc.Methods {
		d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: m.MethodName, Handler: unaryHandler(m)})
	}
	for _, m := range desc.Streams {
		if handle := m.Handler; !m.ClientStreams {
			m.Handler = func(srv any, call grpc.ServerStream) error { return handle(srv, oneRequest{call}) }
		}
		d.Streams = append(d.Streams, m)
	}
	p.ServiceRegistrar.RegisterService(&d, impl)
}

func unaryHandler(m grpc.MethodDesc) grpc.StreamHandler {
	return func(srv any, call grpc.ServerStream) error {
		res, err := m.Handler(srv, call.Context(), oneRequest{call}.RecvMsg, nil)
		if err != nil {
			return err
		}
		return call.SendMsg(res)
	}
}

// oneRequest is a call whose client sends one message.
type oneRequest struct{ grpc.ServerStream }

// RecvMsg returns when the client has ended its side of the call.
func (o oneRequest) RecvMsg(m any) error {
	if err := o.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	switch err := o.ServerStream.RecvMsg(new(emptypb.Empty)); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return status.Error(codes.InvalidArgument, "a second message in a call that takes one")
}

// unknown answers calls of what there is not, projections among them, all of which
// have one request.
func unknown(_ any, call grpc.ServerStream) error {
	if err := (oneRequest{call}).RecvMsg(new(emptypb.Empty)); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(call)
	return status.Errorf(codes.Unimplemented, "unknown method %s", method)
}

// streaming looks at every call first.
func (s *Server) streaming(srv any, call grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	err := s.admit(call.Context(), info.FullMethod)
	if err == nil {
		return handle(srv, call)
	}
	if !info.IsClientStream {
		// What it asks does not matter any more, only where it ends.
		_ = oneRequest{call}.RecvMsg(new(emptypb.Empty))
	}
	return answer(call.Context(), err)
}
