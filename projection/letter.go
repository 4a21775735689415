package projection

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/sealing"
	"github.com/levada-go/levada/internal/system"
)

// A DeadLetter is an event that is parked: it is left out of the read model until
// Group.Retry handles it or Group.Discard gives it up.
type DeadLetter struct {
	Position eventstore.Position
	Stream   eventstore.StreamName
	Version  eventstore.Version
	ID       eventstore.ID
	Type     string

	// Error is why it could not be handled, the last time that it was tried; empty for an
	// event that was never tried, because an earlier one of its key is parked. It is sealed for those whose data the event holds,
	// and that of eventstore.ErrErased when one of them is erased.
	Error    string
	Attempts int
	Since    time.Time // when it was parked
}

// What is written to the stream of a key, as types of events.
const (
	letterParked   = "$parked"   // an event is left out
	letterRetried  = "$retried"  // it was tried again, in vain
	letterReleased = "$released" // everything up to Position is through, or given up
)

// errorBytes bounds how much of an error a letter keeps.
const errorBytes = 4 << 10

// A letter is a record in the dead letter stream of a key.
type letter struct {
	kind string

	Key      string                `json:"key"`
	Begin    bool                  `json:"begin,omitempty"` // the key was not parked before
	Life     uint64                `json:"life,omitempty"`  // of the model, in which it begins
	Position eventstore.Position   `json:"position"`
	Stream   eventstore.StreamName `json:"stream,omitempty"`
	Version  eventstore.Version    `json:"version,omitempty"`
	ID       eventstore.ID         `json:"id,omitzero"`
	Type     string                `json:"type,omitempty"`
	Error    string                `json:"error,omitempty"`
	Attempts int                   `json:"attempts,omitempty"`

	Sealed json.RawMessage      `json:"sealed,omitempty"` // instead of Error
	event  *eventstore.Recorded // that Error is about
}

func letterOf(key string, r *eventstore.Recorded) letter {
	return letter{kind: letterParked, event: r, Key: key, Position: r.Position, Stream: r.Stream, Version: r.Version, ID: r.ID, Type: r.Type}
}

func (l *letter) because(err error, attempts int) {
	l.Error = strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(l.Error) > errorBytes {
		l.Error = strings.ToValidUTF8(l.Error[:errorBytes], "") + "…"
	}
	l.Attempts = attempts
}

// A sent letter is one that lies in a box.
type sent struct {
	letter
	version eventstore.Version // of the key's stream
	at      eventstore.Position
	time    time.Time
}

// A letterbox keeps the dead letters of one projection, a stream a key.
type letterbox interface {
	// send appends letters of one key, unless its stream is not at version after:
	// then the error Is eventstore.ErrConflict.
	send(ctx context.Context, key string, after eventstore.Version, letters ...letter) error
	// since calls fn with the letters after a position, in order, and returns up to where there are no others.
	since(ctx context.Context, after eventstore.Position, fn func(sent)) (eventstore.Position, error)
	// version returns that of the key's stream.
	version(ctx context.Context, key string) (eventstore.Version, error)
	// legible has since tell errors, too.
	legible()
	// burn removes all letters, as far as the store can.
	burn(ctx context.Context) error
}

// storeLetters keeps dead letters in the store, in streams of category "$parked.NAME".
type storeLetters struct {
	store    *eventstore.Store
	category string
	open     bool // sealed errors
}

func (b *storeLetters) legible() { b.open = true }

// newStoreLetters keeps apart names that differ, though a category has no dash.
func newStoreLetters(s *eventstore.Store, name string) *storeLetters {
	plain := strings.NewReplacer("%", "%25", "-", "%2D").Replace(name)
	if len(plain) > nameBytes {
		plain = "$" + digest(name)
	}
	return &storeLetters{store: s, category: "$parked." + plain}
}

// plainKeyBytes is how long a key may be to stand in its stream's name as it is.
const plainKeyBytes = 64

func (b *storeLetters) stream(key string) eventstore.StreamName {
	if len(key) <= plainKeyBytes && !strings.HasPrefix(key, "$") {
		if s := eventstore.StreamName(b.category + "-" + key); key != "" && s.Validate() == nil {
			return s
		}
	}
	return eventstore.StreamName(b.category + "-$" + digest(key))
}

func digest(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

func (b *storeLetters) send(ctx context.Context, key string, after eventstore.Version, letters ...letter) error {
	events := make([]eventstore.Event, len(letters))
	for i, l := range letters {
		if err := b.seal(ctx, &l); err != nil {
			return err
		}
		raw, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("projection: dead letter: %w", err)
		}
		events[i] = eventstore.Event{Type: l.kind, Raw: raw, ContentType: "application/json"}
	}
	_, err := b.store.Append(system.Context(ctx), b.stream(key), eventstore.Exactly(after), events...)
	return err
}

func (b *storeLetters) burn(ctx context.Context) error {
	ctx = system.Context(ctx)
	var names []eventstore.StreamName
	for info, err := range b.store.Streams(ctx, b.category) {
		if errors.Is(err, eventstore.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
		if info.First <= info.Version {
			names = append(names, info.Name)
		}
	}
	for _, name := range names {
		if err := b.store.Delete(ctx, name, eventstore.Any); err != nil && !errors.Is(err, eventstore.ErrUnsupported) {
			return err
		}
	}
	return nil
}

// typeOfError is that under which errors are sealed.
const typeOfError = "$parked.error"

func (b *storeLetters) place(l *letter) eventstore.ID {
	return sealing.Place("parked", b.category, l.Key, strconv.FormatUint(uint64(l.Position), 10))
}

// seal replaces the error of a letter by what is kept of it.
func (b *storeLetters) seal(ctx context.Context, l *letter) error {
	if l.Error == "" || l.event == nil {
		return nil
	}
	copies := sealing.Of(b.store)
	text, err := json.Marshal(l.Error)
	if err == nil {
		l.Sealed, err = copies.SealWhole(ctx, b.place(l), typeOfError, l.Error, text, copies.Subjects(&l.event.Event))
	}
	if err != nil {
		return fmt.Errorf("projection: dead letter: %w", err)
	}
	if l.Sealed != nil {
		l.Error = ""
	}
	return nil
}

// unseal is the opposite.
func (b *storeLetters) unseal(ctx context.Context, l *letter) error {
	if l.Sealed == nil || !b.open {
		return nil
	}
	text, err := sealing.Of(b.store).Open(ctx, b.place(l), typeOfError, l.Sealed)
	if errors.Is(err, eventstore.ErrErased) {
		l.Error = eventstore.ErrErased.Error()
		return nil
	}
	if err == nil {
		err = json.Unmarshal(text, &l.Error)
	}
	return err
}

func (b *storeLetters) since(ctx context.Context, after eventstore.Position, fn func(sent)) (eventstore.Position, error) {
	head, err := b.store.Head(ctx)
	if err != nil {
		return after, err
	}
	for r, err := range b.store.ReadAll(ctx, eventstore.Filter{Categories: []string{b.category}}, after) {
		if err != nil {
			return after, err
		}
		s := sent{version: r.Version, at: r.Position, time: r.Time}
		if err := json.Unmarshal(r.Raw, &s.letter); err != nil {
			return after, fmt.Errorf("projection: dead letter %s version %d: %w", r.Stream, r.Version, err)
		}
		if err := b.unseal(ctx, &s.letter); err != nil {
			return after, fmt.Errorf("projection: dead letter %s version %d: %w", r.Stream, r.Version, err)
		}
		s.kind = r.Type
		fn(s)
	}
	return head, nil
}

func (b *storeLetters) version(ctx context.Context, key string) (eventstore.Version, error) {
	info, err := b.store.Stream(ctx, b.stream(key))
	return info.Version, err
}

// memoryLetters keeps dead letters with a model in memory, which each process has
// for itself and which ends with it.
type memoryLetters struct {
	mu       sync.Mutex
	list     []sent
	versions map[string]eventstore.Version
	at       eventstore.Position
}

func (b *memoryLetters) legible() {}

func (b *memoryLetters) burn(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = nil
	return nil
}

func (b *memoryLetters) send(_ context.Context, key string, after eventstore.Version, letters ...letter) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := b.versions[key]; v != after {
		return fmt.Errorf("projection: dead letters of %s: %w", key, eventstore.ErrConflict)
	}
	if b.versions == nil {
		b.versions = map[string]eventstore.Version{}
	}
	for _, l := range letters {
		b.at++
		b.versions[key]++
		b.list = append(b.list, sent{l, b.versions[key], b.at, time.Now()})
	}
	return nil
}

func (b *memoryLetters) since(_ context.Context, after eventstore.Position, fn func(sent)) (eventstore.Position, error) {
	b.mu.Lock()
	list, at := b.list, b.at
	b.mu.Unlock()
	for _, s := range list {
		if s.at > after {
			fn(s)
		}
	}
	return at, nil
}

func (b *memoryLetters) version(_ context.Context, key string) (eventstore.Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.versions[key], nil
}
