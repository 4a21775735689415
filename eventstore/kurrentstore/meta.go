package kurrentstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"

	"github.com/google/uuid"

	"github.com/levada-go/levada/eventstore/driver"
)

// A streamMeta is the metadata that the server keeps of a stream, in a stream
// beside it: $maxCount, $tb and so on, and whatever else somebody put there.
// What is not this driver's is kept as it is.
type streamMeta struct {
	version uint64 // of the stream of metadata, 0 if there are none
	members map[string]json.RawMessage
}

const (
	metaTruncate = "$tb" // the first revision that can be read
	metaMaxCount = "$maxCount"
	typeMetadata = "$metadata"
	softDeleted  = math.MaxInt64 // as $tb

	// What this driver notes: the version at which a stream was last deleted; the
	// one at which it is being deleted, and by which call. The server does not say the first when a stream has come back.
	metaOrigin   = "levada.origin"
	metaDeleting = "levada.deleting"
	metaDeleter  = "levada.deleter"
)

func metaName(name string) string { return "$$" + name }

// number returns a member that is a whole number.
func (m *streamMeta) number(key string) (uint64, bool) {
	n, err := strconv.ParseUint(string(m.members[key]), 10, 64)
	return n, err == nil
}

// truncateBefore is the first revision that can be read, so far as $tb says.
func (m *streamMeta) truncateBefore() uint64 {
	n, _ := m.number(metaTruncate)
	return n
}

// deleted reports whether the stream is deleted so that it may come back.
func (m *streamMeta) deleted() bool { return m.truncateBefore() == softDeleted }

// origin is the version at which the stream was last deleted, so far as this
// driver did it. A stream that comes back begins where the deletion was.
func (m *streamMeta) origin() uint64 {
	if n, ok := m.number(metaDeleting); ok && n > 0 && n == m.truncateBefore() {
		return n
	}
	n, _ := m.number(metaOrigin)
	return n
}

func (m *streamMeta) deleter() string {
	var id string
	if json.Unmarshal(m.members[metaDeleter], &id) != nil {
		return ""
	}
	return id
}

// with returns m with a member changed, or removed if n is 0.
func (m *streamMeta) with(key string, n uint64) *streamMeta {
	out := m.clone()
	if delete(out.members, key); n > 0 {
		out.members[key] = strconv.AppendUint(nil, n, 10)
	}
	return out
}

func (m *streamMeta) clone() *streamMeta {
	out := &streamMeta{version: m.version, members: maps.Clone(m.members)}
	if out.members == nil {
		out.members = map[string]json.RawMessage{}
	}
	return out
}

// deleting returns m with the note that a call is about to delete the stream at a version.
func (m *streamMeta) deleting(version uint64, call string) *streamMeta {
	out := m.with(metaOrigin, m.origin()).with(metaDeleting, version)
	out.members[metaDeleter], _ = json.Marshal(call) // a string cannot fail
	return out
}

func (d *store) loadMeta(ctx context.Context, name string) (*streamMeta, error) {
	e, err := d.g.one(ctx, readStream(metaName(name), 0, 1, true))
	if errors.Is(err, errNoStream) || err == nil && e == nil {
		return &streamMeta{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	m := &streamMeta{version: e.GetStreamRevision() + 1}
	if len(e.GetData()) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(e.GetData(), &m.members); err != nil {
		return nil, fmt.Errorf("%w: the metadata of %s: %w", ErrServer, name, err)
	}
	return m, nil
}

// saveMeta replaces the metadata of a stream, if they are as they were when m was loaded; else it
// returns an *errWrongVersion.
func (d *store) saveMeta(ctx context.Context, name string, m *streamMeta) error {
	data, err := json.Marshal(m.members)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	_, err = d.put(ctx, metaName(name), m.version, driver.Event{ID: uuid.New(), Type: typeMetadata, ContentType: wireJSON, Data: data})
	return err
}

// put appends one event at an exact version, 0 for none, and returns the version
// that the stream is then at. Like every append it is repeated until its outcome
// is known, or reported as ErrOutcomeUnknown.
func (d *store) put(ctx context.Context, name string, version uint64, e driver.Event) (uint64, error) {
	p, size, err := encode(&e)
	if err != nil {
		return 0, err
	}
	if size > d.bytes {
		return 0, fmt.Errorf("%w: %d bytes in one append: more than %d", driver.ErrTooLarge, size, d.bytes)
	}
	a, err := d.send(ctx, name, at(version), []*proposed{p})
	return a.version, err
}

// send appends events, at an exact revision, so that the server recognises by
// their ids that it has them already when it is asked again.
func (d *store) send(ctx context.Context, name string, exp expectation, events []*proposed) (a ack, err error) {
	unsure, err := d.g.do(ctx, func(ctx context.Context, n *node) (err error) {
		a, err = d.g.append(ctx, n, name, exp, events)
		return err
	})
	var wrong *errWrongVersion
	if err == nil || errors.As(err, &wrong) {
		return a, err // decided: at this revision stand our events, or others for ever
	}
	if unsure {
		err = fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, err)
	}
	return a, err
}
