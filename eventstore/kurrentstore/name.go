package kurrentstore

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// On the server, names that start with "$" are its own: only administrators may
// write there. So the library's streams have other names:
//
//	room-1           room-1                        a stream of the user
//	$snapshot-room   levada.sys.snapshot-room      a stream of the library
//	–                levada.sys.$checkpoint-NAME   what the driver keeps for itself: no stream to anybody
//	–                $…                            the server's own
const (
	sysPrefix  = "levada.sys."
	selfPrefix = sysPrefix + "$"
	nameBytes  = 255
)

// serverName returns what a stream is called on the server.
func serverName(stream string) (string, error) {
	switch {
	case stream == "":
		return "", fmt.Errorf("%w: a stream without a name", eventstore.ErrInvalid)
	case len(stream) > nameBytes:
		return "", fmt.Errorf("%w: stream name of %d bytes: more than %d", driver.ErrTooLarge, len(stream), nameBytes)
	case !utf8.ValidString(stream):
		return "", fmt.Errorf("%w: stream name %.40q is not valid UTF-8", eventstore.ErrInvalid, stream)
	case strings.HasPrefix(stream, sysPrefix):
		return "", fmt.Errorf("%w: stream name %.40q: names that start with %s are reserved", eventstore.ErrInvalid, stream, sysPrefix)
	case strings.HasPrefix(stream, "$$"):
		return "", fmt.Errorf("%w: stream name %.40q: names that start with $$ are reserved", eventstore.ErrInvalid, stream)
	case stream[0] == '$':
		return sysPrefix + stream[1:], nil
	}
	return stream, nil
}

// streamName is the inverse of serverName; ok is false for what is no stream of
// ours to read: the server's own, and the driver's.
func streamName(server string) (stream string, ok bool) {
	switch {
	case server == "" || server[0] == '$' || isSelf(server):
		return "", false
	case strings.HasPrefix(server, sysPrefix):
		return "$" + server[len(sysPrefix):], true
	}
	return server, true
}

// isSelf reports whether a stream of the server is the driver's own.
func isSelf(server string) bool {
	return strings.HasPrefix(server, selfPrefix) || strings.HasPrefix(server, "$$"+selfPrefix)
}
