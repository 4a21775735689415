package retention

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/system"
)

// ErrArchive reports what is no archive, or one that is damaged or incomplete.
var ErrArchive = errors.New("retention: no sound archive")

// An archive is lines of JSON: a header, the events, and a trailer with the SHA-256 of all lines before it.

type header struct {
	Archive int                   `json:"levada_archive"` // the version of the format
	Stream  eventstore.StreamName `json:"stream"`
}

type trailer struct {
	Events int    `json:"events"`
	SHA256 string `json:"sha256"`
}

type line struct {
	Version     eventstore.Version  `json:"version"`
	Position    eventstore.Position `json:"position"`
	Time        time.Time           `json:"time"`
	ID          eventstore.ID       `json:"id"`
	Type        string              `json:"type"`
	Correlation eventstore.ID       `json:"correlation,omitzero"`
	Causation   eventstore.ID       `json:"causation,omitzero"`
	Metadata    map[string]string   `json:"metadata,omitempty"`
	Tags        []string            `json:"tags,omitempty"`
	ContentType string              `json:"content_type"`
	JSON        json.RawMessage     `json:"data,omitempty"`
	Bytes       []byte              `json:"bytes,omitempty"` // when the data is no JSON, or not in its shortest form
}

const (
	format  = 1
	maxLine = 96 << 20 // above what any store takes in one event
)

// Archive writes the events of a stream, as they are stored, to w, and returns how many there are. Sealed events
// stay sealed.
func Archive(ctx context.Context, store *eventstore.Store, stream eventstore.StreamName, w io.Writer) (events int, err error) {
	a := writer{to: bufio.NewWriter(w), sum: sha256.New()}
	if err := a.write(header{format, stream}); err != nil {
		return 0, err
	}
	for r, err := range store.ReadStream(system.Raw(ctx), stream, 0) {
		if err != nil {
			return 0, fmt.Errorf("retention: archive %s: %w", stream, err)
		}
		l := line{
			Version: r.Version, Position: r.Position, Time: r.Time, ID: r.ID, Type: r.Type, Correlation: r.Correlation, Causation: r.Causation,
			Metadata: r.Metadata, Tags: r.Tags, ContentType: r.ContentType,
		}
		if compact(r.Raw) {
			l.JSON = r.Raw
		} else {
			l.Bytes = r.Raw
		}
		if err := a.write(l); err != nil {
			return 0, err
		}
		events++
	}
	if err := a.write(trailer{events, hex.EncodeToString(a.sum.Sum(nil))}); err != nil {
		return 0, err
	}
	return events, a.to.Flush()
}

// compact reports whether data comes out of an encoder as it is.
func compact(data []byte) bool {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	return e.Encode(json.RawMessage(data)) == nil && bytes.Equal(bytes.TrimSuffix(b.Bytes(), []byte("\n")), data)
}

type writer struct {
	to  *bufio.Writer
	sum hash.Hash
}

func (w *writer) write(v any) error {
	e := json.NewEncoder(io.MultiWriter(w.to, w.sum))
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("retention: archive: %w", err)
	}
	return nil
}

// ArchiveFile is [Archive] to a file that must not be there yet. When it returns nil the file is complete and
// durable; otherwise there is none.
func ArchiveFile(ctx context.Context, store *eventstore.Store, stream eventstore.StreamName, path string) (events int, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".archive-*")
	if err != nil {
		return 0, fmt.Errorf("retention: archive: %w", err)
	}
	defer os.Remove(f.Name())
	events, err = Archive(ctx, store, stream, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename, it never replaces a file
		return 0, fmt.Errorf("retention: archive: %w", err)
	}
	return events, syncDir(filepath.Dir(path))
}

// syncDir makes the name of a new file durable, where directories can be.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return nil
	}
	_ = d.Sync()
	return d.Close()
}

// Read returns the events of an archive in order, as they were recorded, without Data. The sequence ends after
// yielding an [ErrArchive], or what r fails with. That the archive is complete is known when the sequence has
// ended without.
func Read(r io.Reader) iter.Seq2[*eventstore.Recorded, error] {
	return func(yield func(*eventstore.Recorded, error) bool) {
		s := bufio.NewScanner(r)
		s.Buffer(nil, maxLine)
		sum := sha256.New()
		bad := func(what string) { yield(nil, fmt.Errorf("%w: %s", ErrArchive, what)) }
		var h header
		if !s.Scan() || json.Unmarshal(s.Bytes(), &h) != nil || h.Archive == 0 {
			bad("there is no header")
			return
		}
		if h.Archive != format {
			bad(fmt.Sprintf("its format is %d", h.Archive))
			return
		}
		sum.Write(append(s.Bytes(), '\n'))
		events := 0
		for s.Scan() {
			var t trailer
			if json.Unmarshal(s.Bytes(), &t) == nil && t.SHA256 != "" {
				switch {
				case t.SHA256 != hex.EncodeToString(sum.Sum(nil)) || t.Events != events:
					bad("its sum is another")
				case s.Scan():
					bad("something follows the end")
				}
				return
			}
			var l line
			if err := json.Unmarshal(s.Bytes(), &l); err != nil || l.Type == "" || l.Version == 0 {
				bad(fmt.Sprintf("line %d is no event", events+2))
				return
			}
			sum.Write(append(s.Bytes(), '\n'))
			events++
			data := []byte(l.JSON)
			if data == nil {
				data = l.Bytes
			}
			rec := &eventstore.Recorded{
				Event: eventstore.Event{
					ID: l.ID, Type: l.Type, Metadata: l.Metadata, Tags: l.Tags, Correlation: l.Correlation, Causation: l.Causation,
					Raw: append([]byte{}, data...), ContentType: l.ContentType,
				},
				Stream: h.Stream, Version: l.Version, Position: l.Position, Time: l.Time,
			}
			if !yield(rec, nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			yield(nil, fmt.Errorf("retention: read: %w", err))
			return
		}
		bad("it has no end")
	}
}

// Restore appends the events of an archive to a stream that must not be there, all or none, with the ids, types,
// metadata and tags that they had. Versions begin with 1, positions and times are new. It returns an [ErrArchive]
// for an archive that is not sound, and eventstore.ErrTooLarge for one that the store cannot take at once.
func Restore(ctx context.Context, store *eventstore.Store, stream eventstore.StreamName, r io.Reader) (eventstore.Appended, error) {
	if len(stream) > 0 && stream[0] == '$' {
		return eventstore.Appended{}, fmt.Errorf("retention: restore %s: %w: names that start with $ are reserved", stream, eventstore.ErrInvalid)
	}
	var events []eventstore.Event
	for rec, err := range Read(r) {
		if err != nil {
			return eventstore.Appended{}, err
		}
		events = append(events, rec.Event)
	}
	at, err := store.Append(system.Context(ctx), stream, eventstore.NoStream, events...) // with the library's own metadata
	if err != nil {
		return at, fmt.Errorf("retention: restore %s: %w", stream, err)
	}
	return at, nil
}
