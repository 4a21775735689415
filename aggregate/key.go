package aggregate

import "github.com/levada-go/levada/eventstore"

// keyMeta is the metadata of a command's first event that holds its idempotency key.
const keyMeta = "$key"

// A keyMemory holds the latest idempotency keys of an aggregate and where their
// commands ended. The zero keyMemory is empty.
type keyMemory struct {
	ring  []eventstore.KeyAt // once it is full, the oldest is at start
	start int
	index map[string]int // into ring
}

func (m *keyMemory) find(key string) (eventstore.KeyAt, bool) {
	i, ok := m.index[key]
	if !ok {
		return eventstore.KeyAt{}, false
	}
	return m.ring[i], true
}

// add remembers at, and forgets the oldest beyond max. A key that is known
// stays what it is.
func (m *keyMemory) add(at eventstore.KeyAt, max int) {
	if _, ok := m.index[at.Key]; ok {
		return
	}
	if m.index == nil {
		m.index = map[string]int{}
	}
	if len(m.ring) < max {
		m.index[at.Key] = len(m.ring)
		m.ring = append(m.ring, at)
		return
	}
	delete(m.index, m.ring[m.start].Key)
	m.ring[m.start] = at
	m.index[at.Key] = m.start
	m.start = (m.start + 1) % len(m.ring)
}

// extend moves the end of key's command.
func (m *keyMemory) extend(key string, v eventstore.Version, p eventstore.Position) {
	if i, ok := m.index[key]; ok {
		m.ring[i].Version, m.ring[i].Position = v, p
	}
}

// list returns the keys, the oldest first.
func (m *keyMemory) list() []eventstore.KeyAt {
	if len(m.ring) == 0 {
		return nil
	}
	return append(append(make([]eventstore.KeyAt, 0, len(m.ring)), m.ring[m.start:]...), m.ring[:m.start]...)
}
