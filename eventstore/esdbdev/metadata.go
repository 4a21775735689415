package esdbdev

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
)

// Keys of an event's metadata that clients know.
const (
	correlationKey = "$correlationId"
	causationKey   = "$causationId"
	tagsKey        = "$tags"
)

// setMetadata puts a client's custom metadata, which may be anything, into e so
// that customMetadata gives back the very same bytes. A JSON object of strings
// becomes the event's metadata wherever that is possible, so that programs that use
// the store itself can read it; everything else is kept as it is under a key of
// this package's own.
func setMetadata(e *eventstore.Event, custom []byte) {
	if len(custom) == 0 {
		return
	}
	if fields, ok := stringFields(custom); ok {
		e.Correlation, e.Causation = takeID(fields, correlationKey), takeID(fields, causationKey)
		plain := eventstore.Event{Metadata: fields, Correlation: e.Correlation, Causation: e.Causation}
		if bytes.Equal(customMetadata(&plain), custom) {
			e.Metadata = fields
			return
		}
	}
	if utf8.Valid(custom) {
		e.Metadata = map[string]string{metaText: string(custom)}
	} else {
		e.Metadata = map[string]string{metaBytes: base64.StdEncoding.EncodeToString(custom)}
	}
}

// stringFields returns the fields of a JSON object of strings, but for those that
// are not strings. ok is false for what cannot be metadata of a store.
func stringFields(custom []byte) (_ map[string]string, ok bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(custom, &raw) != nil {
		return nil, false
	}
	fields := make(map[string]string, len(raw))
	for k, v := range raw {
		if k == "" || strings.HasPrefix(k, metaPrefix) {
			return nil, false
		}
		var s string
		if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &s) == nil {
			fields[k] = s
		}
	}
	return fields, true
}

// takeID removes an id from fields, if there is one in its usual form.
func takeID(fields map[string]string, key string) eventstore.ID {
	id, err := uuid.Parse(fields[key])
	if err != nil || id.String() != fields[key] {
		return eventstore.ID{}
	}
	delete(fields, key)
	return id
}

// customMetadata returns what clients see as an event's metadata: what a client
// wrote, byte for byte, or for other events a JSON object, empty if there is nothing
// to say.
func customMetadata(e *eventstore.Event) []byte {
	if text, ok := e.Metadata[metaText]; ok {
		return []byte(text)
	}
	if b64, ok := e.Metadata[metaBytes]; ok {
		if custom, err := base64.StdEncoding.DecodeString(b64); err == nil {
			return custom
		}
	}
	fields := make(map[string]any, len(e.Metadata)+3)
	for k, v := range e.Metadata {
		if !strings.HasPrefix(k, metaPrefix) {
			fields[k] = v
		}
	}
	if e.Correlation != (eventstore.ID{}) {
		fields[correlationKey] = e.Correlation.String()
	}
	if e.Causation != (eventstore.ID{}) {
		fields[causationKey] = e.Causation.String()
	}
	if len(e.Tags) > 0 {
		fields[tagsKey] = e.Tags
	}
	if len(fields) == 0 {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // as clients in other languages write it
	if err := enc.Encode(fields); err != nil {
		return nil // strings can be encoded
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// Keys of a stream's metadata that the server acts upon. Everything else in it,
// $acl and $cacheControl among it, is kept for clients.
const (
	keyMaxCount = "$maxCount"
	keyMaxAge   = "$maxAge"
	keyBefore   = "$tb"

	// deletedBefore as $tb marks a stream as deleted.
	deletedBefore = math.MaxInt64
)

// A retention is what of a stream's metadata limits what can be read of it. Its
// zero value limits nothing.
type retention struct {
	maxCount uint64        // the newest events; 0 is all
	maxAge   time.Duration // 0 is any
	before   uint64        // revisions below this are gone
}

// parseRetention reads a stream's metadata. What is not as it should be is ignored,
// as if it were not there.
func parseRetention(data []byte) (r retention) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return retention{}
	}
	if n, ok := positive(fields[keyMaxCount]); ok {
		r.maxCount = n
	}
	if n, ok := positive(fields[keyMaxAge]); ok {
		r.maxAge = time.Duration(min(n, uint64(math.MaxInt64/time.Second))) * time.Second
	}
	if n, ok := positive(fields[keyBefore]); ok {
		r.before = n
	}
	return r
}

// positive parses a whole number from 1 to 2^63-1.
func positive(raw json.RawMessage) (uint64, bool) {
	n, err := strconv.ParseUint(string(raw), 10, 63)
	return n, err == nil && n > 0
}

// withBefore returns a stream's metadata with another $tb.
func withBefore(data []byte, before uint64) []byte {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil || fields == nil {
		fields = map[string]json.RawMessage{}
	}
	fields = maps.Clone(fields)
	fields[keyBefore] = json.RawMessage(strconv.FormatUint(before, 10))
	out, err := json.Marshal(fields)
	if err != nil {
		return []byte(`{}`) // raw messages that were decoded can be encoded
	}
	return out
}
