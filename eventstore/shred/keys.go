package shred

import (
	"bytes"
	"context"
	"crypto/rand"
	"sync"

	"github.com/levada-go/levada/eventstore"
)

// KeyBytes is the length of a key.
const KeyBytes = 32

// Keys holds a key for each subject. It is safe for concurrent use, also by several processes.
type Keys interface {
	// Make returns the key of a subject, which is made if there never was one. If it was
	// shredded the error is an eventstore.ErrErased.
	Make(ctx context.Context, subject string) ([]byte, error)
	// Find returns the key of a subject. If it was shredded, or there never was one, the error is an eventstore.ErrErased.
	Find(ctx context.Context, subject string) ([]byte, error)
	// Shred destroys the key of a subject for ever, durably when it returns nil; from then on the subject can have no other. It is a
	// no-op for one that was shredded, and works for one that has no key yet.
	Shred(ctx context.Context, subject string) error
}

// Memory is [Keys] in memory, for tests. The zero Memory has none. It must not be copied.
type Memory struct {
	mu   sync.Mutex
	keys map[string][]byte // nil for those that were shredded
}

// Make implements [Keys].
func (m *Memory) Make(_ context.Context, subject string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, ok := m.keys[subject]
	if !ok {
		key = NewKey()
		m.put(subject, key)
	}
	if key == nil {
		return nil, eventstore.ErrErased
	}
	return bytes.Clone(key), nil
}

// Find implements [Keys].
func (m *Memory) Find(_ context.Context, subject string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key := m.keys[subject]; key != nil {
		return bytes.Clone(key), nil
	}
	return nil, eventstore.ErrErased
}

// Shred implements [Keys].
func (m *Memory) Shred(_ context.Context, subject string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.keys[subject])
	m.put(subject, nil)
	return nil
}

func (m *Memory) put(subject string, key []byte) {
	if m.keys == nil {
		m.keys = map[string][]byte{}
	}
	m.keys[subject] = key
}

// NewKey returns a random key.
func NewKey() []byte {
	key := make([]byte, KeyBytes)
	rand.Read(key) // never fails
	return key
}
