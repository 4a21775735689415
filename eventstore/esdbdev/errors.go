package esdbdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/levada-go/levada/eventstore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// An exception is an error as clients of the protocol expect it: a gRPC status,
// and trailers that name the exception and its details.
type exception struct {
	code     codes.Code
	message  string
	trailers []string // pairs
}

func (e *exception) Error() string { return e.message }

// GRPCStatus makes status.FromError work.
func (e *exception) GRPCStatus() *status.Status { return status.New(e.code, e.message) }

const exceptionTooLarge = "maximum-append-size-exceeded"

// NotLeader is the error of a node that is asked for what only the leader, at
// address, does. It is meant for a [Fault].
func NotLeader(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return &exception{codes.NotFound, "leader info available: " + address,
		[]string{"exception", "not-leader", "leader-endpoint-host", host, "leader-endpoint-port", port}}
}

// TooLarge is the error of an append of more than limit bytes. It is meant for a [Fault].
func TooLarge(limit int) error {
	return &exception{codes.InvalidArgument, fmt.Sprintf("Maximum Append Size of %d Exceeded.", limit),
		[]string{"exception", exceptionTooLarge, "maximum-append-size", strconv.Itoa(limit)}}
}

// Unavailable is the error of a server that is not ready, or about to stop. It is
// meant for a [Fault].
func Unavailable() error { return &exception{code: codes.Unavailable, message: "Server Is Not Ready"} }

func invalidArgument(format string, args ...any) error {
	return &exception{code: codes.InvalidArgument, message: fmt.Sprintf(format, args...)}
}

func accessDenied() error {
	return &exception{codes.PermissionDenied, "Access Denied", []string{"exception", "access-denied"}}
}

func streamDeleted(name string) error {
	return &exception{codes.FailedPrecondition, fmt.Sprintf("Event stream '%s' is deleted.", name),
		[]string{"exception", "stream-deleted", "stream-name", name}}
}

func missingMetadata(key string) error {
	return &exception{codes.InvalidArgument, "Required Metadata Property '" + key + "' is missing",
		[]string{"exception", "missing-required-metadata-property", "required-metadata-properties", key}}
}

// wrongVersion is the error where the answer has no place of its own for it.
func wrongVersion(name string, x expectation, current int64) error {
	e := &exception{codes.FailedPrecondition,
		fmt.Sprintf("Operation failed due to WrongExpectedVersion. Stream: %s, Expected version: %d, Actual version: %d", name, x.number(), current),
		[]string{"exception", "wrong-expected-version", "stream-name", name, "expected-version", strconv.FormatInt(x.number(), 10)}}
	if current >= 0 {
		e.trailers = append(e.trailers, "actual-version", strconv.FormatInt(current, 10))
	}
	return e
}

// storeError turns an error of the store into one for clients.
func storeError(name string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*exception)):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	case errors.Is(err, eventstore.ErrStreamDeleted):
		return streamDeleted(name)
	case errors.Is(err, eventstore.ErrTooLarge), errors.Is(err, eventstore.ErrInvalid):
		return invalidArgument("%v", err)
	case errors.Is(err, eventstore.ErrOutcomeUnknown):
		return &exception{code: codes.Aborted, message: "Operation timed out"}
	case errors.Is(err, eventstore.ErrReadOnly):
		return accessDenied()
	case errors.Is(err, eventstore.ErrClosed):
		return Unavailable()
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}

// answer sets the trailers of err and returns it as gRPC wants it.
func answer(ctx context.Context, err error) error {
	var e *exception
	if !errors.As(err, &e) {
		return err
	}
	if len(e.trailers) > 0 {
		md := metadata.MD{}
		for i := 0; i+1 < len(e.trailers); i += 2 {
			md.Set(e.trailers[i], headerText(e.trailers[i+1]))
		}
		// It fails only where there is no call to answer.
		_ = grpc.SetTrailer(ctx, md)
	}
	return status.Error(e.code, e.message)
}

// headerText replaces what HTTP/2 refuses in a header.
func headerText(s string) string {
	out := []byte(s)
	for i, c := range out {
		if c < 0x20 || c > 0x7e {
			out[i] = '?'
		}
	}
	return string(out)
}
