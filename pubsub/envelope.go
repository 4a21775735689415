package pubsub

import (
	"encoding/binary"
	"errors"

	"github.com/google/uuid"
)

// A message is an envelope and an encoded value:
//
//	 0        1            17           25
//	┌────────┬────────────┬────────────┬─────────
//	│ 1      │ node, UUID │ number, BE │ value …
//	└────────┴────────────┴────────────┴─────────
//
// The first byte is the version of the layout. The numbers of one node and topic
// start above zero and increase, with gaps.
const (
	envelopeVersion = 1
	envelopeBytes   = 1 + 16 + 8
)

var errEnvelope = errors.New("pubsub: not a message of this version")

func appendEnvelope(b []byte, node uuid.UUID, number uint64) []byte {
	b = append(b, envelopeVersion)
	b = append(b, node[:]...)
	return binary.BigEndian.AppendUint64(b, number)
}

// parseEnvelope returns the parts of a message; payload is part of it.
func parseEnvelope(message []byte) (node uuid.UUID, number uint64, payload []byte, err error) {
	if len(message) < envelopeBytes || message[0] != envelopeVersion {
		return uuid.Nil, 0, nil, errEnvelope
	}
	copy(node[:], message[1:])
	number = binary.BigEndian.Uint64(message[17:])
	if number == 0 {
		return uuid.Nil, 0, nil, errEnvelope
	}
	return node, number, message[envelopeBytes:], nil
}
