// Package sealing keeps copies of the data of events and commands as the store's Sealer keeps the
// originals, so that they are erased with them.
package sealing

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/levada-go/levada/eventstore"
)

const contentType = "application/json"

// Copies seals and opens copies. The zero Copies leaves all of them in the clear.
type Copies struct {
	seal eventstore.Sealer
	by   eventstore.SubjectSealer // if it is one
}

// Of returns the Copies of what a store seals.
func Of(s *eventstore.Store) Copies {
	c := Copies{seal: s.Sealer()}
	c.by, _ = c.seal.(eventstore.SubjectSealer)
	return c
}

// Sealed reports whether copies are sealed at all.
func (c Copies) Sealed() bool { return c.seal != nil }

// Subjects returns whose data e holds; none if that is not known.
func (c Copies) Subjects(e *eventstore.Event) []string {
	if c.by == nil || e == nil {
		return nil
	}
	return c.by.Subjects(e)
}

// Owners returns whose data a value of a stored type is by itself, as Subjects of an event with it.
func (c Copies) Owners(typ string, value any) []string {
	if c.by == nil {
		return nil
	}
	return c.by.Subjects(&eventstore.Event{Type: typ, Data: value, ContentType: contentType})
}

// Readable reports whether what was sealed for subject can be opened.
func (c Copies) Readable(ctx context.Context, subject string) (bool, error) {
	if c.by == nil {
		return true, nil
	}
	return c.by.Readable(ctx, subject)
}

// Check reports what is wrong with the tags of a type, by its zero value.
func (c Copies) Check(typ string, zero any) error {
	if c.by == nil {
		return nil
	}
	data, err := json.Marshal(zero)
	if err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrCodec, err)
	}
	_, err = c.Seal(context.Background(), eventstore.ID{}, typ, zero, data, nil)
	return err
}

// Place names where a copy is kept, so that what is sealed cannot be moved elsewhere.
func Place(parts ...string) (id eventstore.ID) {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d/%s", len(p), p)
	}
	copy(id[:], h.Sum(nil))
	return id
}

// Seal returns JSON to keep instead of data, the JSON of value, or nil if data is to be kept as it is. What the Sealer would
// seal of value by itself is sealed; if there is nothing, all of it is for the subjects.
func (c Copies) Seal(ctx context.Context, place eventstore.ID, typ string, value any, data []byte, subjects []string) (json.RawMessage, error) {
	return c.box(ctx, &eventstore.Event{ID: place, Type: typ, Data: value, ContentType: contentType}, data, subjects)
}

// SealWhole is Seal, but all of data is for the subjects.
func (c Copies) SealWhole(ctx context.Context, place eventstore.ID, typ string, value any, data []byte, subjects []string) (json.RawMessage, error) {
	e := &eventstore.Event{ID: place, Type: typ, ContentType: contentType}
	if c.by == nil { // it may look at it
		e.Data = value
	}
	return c.box(ctx, e, data, subjects)
}

func (c Copies) box(ctx context.Context, e *eventstore.Event, data []byte, subjects []string) (json.RawMessage, error) {
	if c.seal == nil {
		return nil, nil
	}
	var out []byte
	var err error
	if c.by != nil {
		if out, err = c.by.SealFor(ctx, e, data, subjects); err == nil && bytes.Equal(out, data) {
			return nil, nil
		}
	} else if out, err = c.seal.Seal(ctx, e, data); errors.Is(err, eventstore.ErrErased) {
		out, err = nil, nil // it is erased as soon as it is kept
	}
	if err != nil {
		return nil, fmt.Errorf("%w: seal %s: %w", eventstore.ErrCodec, e.Type, err)
	}
	if json.Valid(out) && bytes.HasPrefix(out, []byte("{")) {
		return out, nil
	}
	return json.Marshal(out) // base64
}

// Open returns what Seal was given, an ErrErased if that is gone, and an ErrCodec for what no Seal of this store can have
// returned. All other errors are the Sealer's.
func (c Copies) Open(ctx context.Context, place eventstore.ID, typ string, box json.RawMessage) ([]byte, error) {
	data := slices.Clone([]byte(box))
	if !bytes.HasPrefix(data, []byte("{")) {
		var raw []byte
		if err := json.Unmarshal(box, &raw); err != nil {
			return nil, fmt.Errorf("%w: a sealed %s: %w", eventstore.ErrCodec, typ, err)
		}
		if data = raw; len(data) == 0 {
			return nil, eventstore.ErrErased
		}
	}
	if c.seal == nil {
		return nil, fmt.Errorf("%w: a sealed %s, and a store without a Sealer", eventstore.ErrCodec, typ)
	}
	r := &eventstore.Recorded{Event: eventstore.Event{ID: place, Type: typ, Raw: data, ContentType: contentType}}
	data, err := c.seal.Open(ctx, r, data)
	if err != nil {
		return nil, fmt.Errorf("a sealed %s: %w", typ, err)
	}
	return data, nil
}

// Kept returns whose a sealed copy is.
func (c Copies) Kept(box json.RawMessage) []string {
	if c.by == nil || box == nil {
		return nil
	}
	return c.by.Subjects(&eventstore.Event{Raw: box})
}

// Union returns all subjects of lists, each once.
func Union(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return slices.Compact(all)
}
