package esdbdev

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
)

// Keys and values of system metadata.
const (
	keyType        = "type"
	keyContentType = "content-type"
	keyCreated     = "created"

	typeJSON   = "application/json"
	typeBinary = "application/octet-stream"

	linkType      = "$>"
	tombstoneType = "$streamDeleted"
	metadataType  = "$metadata"

	// tombstoneRevision is the revision of every tombstone.
	tombstoneRevision = math.MaxInt64
)

// A record is an event as clients see it.
type record struct {
	id       uuid.UUID
	stream   string
	revision uint64
	position eventstore.Position
	typ      string
	json     bool
	created  time.Time
	custom   []byte // metadata
	data     []byte
}

// newRecord returns what clients see of r; ok is false for the store's own events.
func newRecord(r *eventstore.Recorded) (_ *record, ok bool) {
	name, tomb, ok := clientStream(r.Stream, r.Metadata)
	if !ok {
		return nil, false
	}
	rec := &record{
		id: r.ID, stream: name, revision: uint64(r.Version) - 1, position: r.Position,
		typ: clientType(r.Type, r.Metadata), json: r.ContentType == typeJSON, created: r.Time,
		custom: customMetadata(&r.Event), data: r.Raw,
	}
	if tomb {
		rec.revision, rec.typ = tombstoneRevision, tombstoneType
	}
	return rec, true
}

// system returns the system metadata, which clients cannot do without.
func (r *record) system() map[string]string {
	contentType := typeBinary
	if r.json {
		contentType = typeJSON
	}
	return map[string]string{
		keyType:        strings.ToValidUTF8(r.typ, "\uFFFD"),
		keyContentType: contentType,
		// .NET ticks of 100 ns, but since 1970.
		keyCreated: strconv.FormatInt(r.created.UnixNano()/100, 10),
	}
}

func (r *record) wire(stringIDs bool) *streams.ReadResp_ReadEvent_RecordedEvent {
	p := wirePosition(r.position)
	return &streams.ReadResp_ReadEvent_RecordedEvent{
		Id: wireID(r.id, stringIDs), StreamIdentifier: identifier(r.stream), StreamRevision: r.revision,
		PreparePosition: p, CommitPosition: p, Metadata: r.system(), CustomMetadata: r.custom, Data: r.data,
	}
}

// A resolved is an event and the link that led to it, if one did. Where that leads
// nowhere, event is nil.
type resolved struct {
	event, link *record
}

// original returns what stands in the stream that was read.
func (r *resolved) original() *record {
	if r.link != nil {
		return r.link
	}
	return r.event
}

func (r *resolved) wire(stringIDs bool) *streams.ReadResp_ReadEvent {
	e := &streams.ReadResp_ReadEvent{
		Position: &streams.ReadResp_ReadEvent_CommitPosition{CommitPosition: wirePosition(r.original().position)},
	}
	if r.event != nil {
		e.Event = r.event.wire(stringIDs)
	}
	if r.link != nil {
		e.Link = r.link.wire(stringIDs)
	}
	return e
}

// linkTarget returns what a link event points to: its data is a revision, an at
// sign, and a stream.
func linkTarget(r *record) (stream string, revision uint64, ok bool) {
	if r.typ != linkType {
		return "", 0, false
	}
	number, stream, ok := strings.Cut(string(r.data), "@")
	revision, err := strconv.ParseUint(number, 10, 63)
	return stream, revision, ok && err == nil && stream != "" && len(stream) <= maxName
}

func identifier(name string) *shared.StreamIdentifier {
	return &shared.StreamIdentifier{StreamName: []byte(name)}
}

func wireID(id uuid.UUID, text bool) *shared.UUID {
	if text {
		return &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}
	}
	return &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
		MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
		LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
	}}}
}

// parseID returns the UUID that id holds in either form.
func parseID(id *shared.UUID) (uuid.UUID, error) {
	switch v := id.GetValue().(type) {
	case *shared.UUID_String_:
		u, err := uuid.Parse(v.String_)
		if err != nil {
			return u, invalidArgument("%q is no UUID", v.String_)
		}
		return u, nil
	case *shared.UUID_Structured_:
		var u uuid.UUID
		binary.BigEndian.PutUint64(u[:8], uint64(v.Structured.GetMostSignificantBits()))
		binary.BigEndian.PutUint64(u[8:], uint64(v.Structured.GetLeastSignificantBits()))
		return u, nil
	}
	return uuid.UUID{}, invalidArgument("a UUID is missing")
}
