package kurrentstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// An event's system metadata on the wire.
const (
	wireType        = "type"
	wireContentType = "content-type"
	wireCreated     = "created" // in units of 100 ns since 1970
	wireJSON        = "application/json"
	wireBinary      = "application/octet-stream"
)

// What an event has besides its data is one JSON object, the event's metadata
// as the server and its tools know it. The user's own metadata are its members,
// so that a person finds them; what else there is has these keys. The first two
// are a convention of EventStoreDB, which its tools and projections follow.
const (
	keyCorrelation = "$correlationId"
	keyCausation   = "$causationId"
	keyTags        = "$tags"        // an array of strings
	keyContentType = "$contentType" // if the server's two cannot say it
	keyNoID        = "$noId"        // true if the event had no id: the server wants one
	keyMetadata    = "$metadata"    // an object: metadata whose keys are among these
	keyRaw         = "$raw"         // read: metadata that is no JSON object, as text
	keyRawBytes    = "$rawBase64"   // read: metadata that is not even text
)

func reserved(key string) bool {
	switch key {
	case keyCorrelation, keyCausation, keyTags, keyContentType, keyNoID, keyMetadata, keyRaw, keyRawBytes:
		return true
	}
	return false
}

// encode makes what is sent of an event, and what it counts for the server's limit.
func encode(e *driver.Event) (*proposed, int, error) {
	if !utf8.ValidString(e.Type) || !utf8.ValidString(e.ContentType) {
		return nil, 0, fmt.Errorf("%w: type %.40q or content type %.40q is not valid UTF-8", eventstore.ErrInvalid, e.Type, e.ContentType)
	}
	id := uuid.UUID(e.ID)
	if id == uuid.Nil {
		id = uuid.New()
	}
	wire := wireBinary
	if isJSON(e.ContentType) && json.Valid(e.Data) {
		wire = wireJSON
	}
	meta, err := encodeMetadata(e, wire)
	if err != nil {
		return nil, 0, err
	}
	data := e.Data
	if data == nil {
		data = []byte{}
	}
	return &proposed{
		Id: &shared.UUID{Value: &shared.UUID_Structured_{Structured: &shared.UUID_Structured{
			MostSignificantBits:  int64(binary.BigEndian.Uint64(id[:8])),
			LeastSignificantBits: int64(binary.BigEndian.Uint64(id[8:])),
		}}},
		Metadata:       map[string]string{wireType: e.Type, wireContentType: wire},
		CustomMetadata: meta,
		Data:           data,
	}, len(data) + len(meta) + 2*len(e.Type), nil
}

func isJSON(contentType string) bool {
	return contentType == wireJSON || strings.HasSuffix(contentType, "+json")
}

func encodeMetadata(e *driver.Event, wire string) ([]byte, error) {
	m := map[string]any{}
	var hidden map[string]string
	for k, v := range e.Metadata {
		switch {
		case !utf8.ValidString(k) || !utf8.ValidString(v):
			return nil, fmt.Errorf("%w: metadata %.40q is not valid UTF-8", eventstore.ErrInvalid, k)
		case reserved(k):
			if hidden == nil {
				hidden = map[string]string{}
			}
			hidden[k] = v
		default:
			m[k] = v
		}
	}
	if hidden != nil {
		m[keyMetadata] = hidden
	}
	if e.Correlation != [16]byte{} {
		m[keyCorrelation] = uuid.UUID(e.Correlation).String()
	}
	if e.Causation != [16]byte{} {
		m[keyCausation] = uuid.UUID(e.Causation).String()
	}
	if len(e.Tags) > 0 {
		for _, t := range e.Tags {
			if !utf8.ValidString(t) {
				return nil, fmt.Errorf("%w: tag %.40q is not valid UTF-8", eventstore.ErrInvalid, t)
			}
		}
		m[keyTags] = e.Tags
	}
	if e.ContentType != wire {
		m[keyContentType] = e.ContentType
	}
	if e.ID == [16]byte{} {
		m[keyNoID] = true
	}
	if len(m) == 0 {
		return []byte{}, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeMetadata sets the parts of e that metadata holds. It takes whatever a
// program may have written: members that are no strings become their JSON text,
// and what is no object becomes one member, keyRaw.
func decodeMetadata(e *driver.Event, data []byte) {
	if len(data) == 0 {
		return
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil || m == nil {
		if utf8.Valid(data) {
			e.Metadata = map[string]string{keyRaw: string(data)}
		} else {
			text, _ := json.Marshal(data) // bytes in base64, in quotes
			e.Metadata = map[string]string{keyRawBytes: strings.Trim(string(text), `"`)}
		}
		return
	}
	put := func(k, v string) {
		if e.Metadata == nil {
			e.Metadata = make(map[string]string, len(m))
		}
		e.Metadata[k] = v
	}
	var hidden map[string]string
	for k, v := range m {
		switch {
		case k == keyCorrelation && parseID(v, &e.Correlation),
			k == keyCausation && parseID(v, &e.Causation),
			k == keyTags && parseStrings(v, &e.Tags),
			k == keyContentType && parseText(v, &e.ContentType),
			k == keyMetadata && parseObject(v, &hidden):
		case k == keyNoID && string(v) == "true":
			e.ID = [16]byte{}
		default:
			var text string
			if !parseText(v, &text) {
				text = strings.ToValidUTF8(string(v), "\uFFFD")
			}
			put(k, text)
		}
	}
	if e.Metadata == nil {
		e.Metadata = hidden
	} else {
		maps.Copy(e.Metadata, hidden)
	}
	if len(e.Metadata) == 0 {
		e.Metadata = nil
	}
}

func parseText(v json.RawMessage, to *string) bool {
	return len(v) > 0 && v[0] == '"' && json.Unmarshal(v, to) == nil
}

func parseID(v json.RawMessage, to *[16]byte) bool {
	var text string
	if !parseText(v, &text) {
		return false
	}
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil {
		return false
	}
	*to = id
	return true
}

func parseStrings(v json.RawMessage, to *[]string) bool {
	var list []*string
	if json.Unmarshal(v, &list) != nil || len(list) == 0 {
		return false
	}
	tags := make([]string, len(list))
	for i, s := range list {
		if s == nil {
			return false
		}
		tags[i] = *s
	}
	*to = tags
	return true
}

func parseObject(v json.RawMessage, to *map[string]string) bool {
	var m map[string]*string
	if json.Unmarshal(v, &m) != nil || len(m) == 0 {
		return false
	}
	out := make(map[string]string, len(m))
	for k, s := range m {
		if s == nil {
			return false
		}
		out[k] = *s
	}
	*to = out
	return true
}

// Errors of events that a server can send and this driver cannot place.
var (
	// ErrTransaction reports an event of a transaction of the TCP interface of old
	// servers: its place in the log is a pair of positions. A store with such
	// events cannot be read through this driver.
	ErrTransaction = errors.New("kurrentstore: an event of an explicit transaction")
	// ErrServer reports an answer that cannot be used. Servers that are too old
	// do not tell the positions of events of a stream.
	ErrServer = errors.New("kurrentstore: an answer that cannot be used")
)

// decode makes an event of what was read. stream is what the driver calls its stream.
func decode(e *recorded, stream string) (driver.Recorded, error) {
	r := driver.Recorded{Stream: stream, Version: e.GetStreamRevision() + 1, Position: e.GetCommitPosition()}
	switch {
	case e.GetCommitPosition() == math.MaxUint64 || e.GetCommitPosition() == 0:
		return r, fmt.Errorf("%w: it does not say at which position version %d of %s is", ErrServer, r.Version, stream)
	case e.GetPreparePosition() != e.GetCommitPosition():
		return r, fmt.Errorf("%w: version %d of %s, committed at %d, prepared at %d", ErrTransaction, r.Version, stream, e.GetCommitPosition(), e.GetPreparePosition())
	}
	created, err := createdAt(e)
	if err != nil {
		return r, err
	}
	r.Time = created
	if s := e.GetId().GetStructured(); s != nil {
		binary.BigEndian.PutUint64(r.ID[:8], uint64(s.MostSignificantBits))
		binary.BigEndian.PutUint64(r.ID[8:], uint64(s.LeastSignificantBits))
	} else {
		id, err := uuid.Parse(e.GetId().GetString_())
		if err != nil {
			return r, fmt.Errorf("%w: the id of version %d of %s: %w", ErrServer, r.Version, stream, err)
		}
		r.ID = id
	}
	r.Type = e.GetMetadata()[wireType]
	r.ContentType = e.GetMetadata()[wireContentType]
	r.Data = e.GetData()
	decodeMetadata(&r.Event, e.GetCustomMetadata())
	return r, nil
}

// createdAt returns when the server recorded an event.
func createdAt(e *recorded) (time.Time, error) {
	ticks, err := strconv.ParseInt(e.GetMetadata()[wireCreated], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: when an event was created: %q", ErrServer, e.GetMetadata()[wireCreated])
	}
	return time.Unix(ticks/1e7, ticks%1e7*100).UTC(), nil
}
