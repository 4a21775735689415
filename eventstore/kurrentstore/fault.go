package kurrentstore

import (
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/levada-go/levada/eventstore/driver"
)

// errNoStream reports a stream that does not exist, or was deleted so that it may come back.
var errNoStream = errors.New("no such stream")

// errWrongVersion reports that the server found a stream at another revision
// than expected, and wrote nothing.
type errWrongVersion struct {
	version uint64 // that it stands at; 0 if there is none, or if it is not told
}

func (e *errWrongVersion) Error() string {
	return fmt.Sprintf("the stream is at version %d", e.version)
}

// notLeader reports a server that is not the leader, and did nothing.
type notLeader struct{ addr string } // of the leader, empty if it is not told

func (e *notLeader) Error() string { return "not the leader: that is " + e.addr }

// fault makes an error of what a server answered. The reasons of servers are in
// the trailer "exception".
func fault(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	first := func(key string) string {
		if v := trailer.Get(key); len(v) > 0 {
			return v[0]
		}
		return ""
	}
	switch first("exception") {
	case "not-leader":
		e := &notLeader{}
		if host := first("leader-endpoint-host"); host != "" {
			e.addr = net.JoinHostPort(host, first("leader-endpoint-port"))
		}
		return e
	case "stream-deleted":
		return driver.ErrStreamDeleted
	case "stream-not-found":
		return errNoStream
	case "wrong-expected-version":
		return &errWrongVersion{}
	case "maximum-append-size-exceeded":
		return fmt.Errorf("%w: the server takes at most %s bytes in one append", driver.ErrTooLarge, first("maximum-append-size"))
	}
	if status.Code(err) == codes.ResourceExhausted {
		return fmt.Errorf("%w: %w", driver.ErrTooLarge, err)
	}
	return err
}
