package projection

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// Memory is a Target in memory: a value guarded by a lock, for one projection.
// It starts as the zero M at position 0 and is filled from the events whenever
// the process starts. The zero Memory is ready to use; it must not be copied.
//
// When a handler fails, what the batch did to the model is undone: by
// assignment if M holds no references (pointers, maps, slices, channels, funcs,
// interfaces), else from a copy if M has a method Clone() M, which is then
// called before every batch. A model that can be neither assigned nor cloned is
// dropped and built again from the first event, and View shows it growing
// meanwhile. Give a small model a Clone, and leave it out where a copy before
// every batch costs more than an occasional rebuild.
type Memory[M any] struct {
	mu    sync.RWMutex
	model M
	at    eventstore.Position
	name  string                         // of the one projection
	cells map[string]eventstore.Position // of names below it
	box   memoryLetters
}

// View calls fn with the model and the position it stands at: it reflects every
// event up to there, and none after it, but for what other partitions have handled. fn must neither modify nor retain the
// model, nor call a method of m. Handlers wait while fn runs.
func (m *Memory[M]) View(fn func(model *M, at eventstore.Position)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	fn(&m.model, m.position())
}

// position returns up to where everything has been handled.
func (m *Memory[M]) position() eventstore.Position {
	if single(m.at) == nil {
		return positionOf(m.at)
	}
	var least eventstore.Position
	for i := range int(m.at &^ parking) {
		if at := positionOf(m.cells[partitionName(m.name, i)]); i == 0 || at < least {
			least = at
		}
	}
	return least
}

// Load implements Target.
func (m *Memory[M]) Load(_ context.Context, name string) (eventstore.Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.claim(name); err != nil {
		return 0, err
	}
	if name != m.name {
		return m.cells[name], nil
	}
	return m.at, nil
}

// Update implements Target. View waits while fn runs, so that fn must not call it.
func (m *Memory[M]) Update(_ context.Context, name string, from, to eventstore.Position, fn func(*M) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.claim(name); err != nil {
		return err
	}
	at := m.at
	if name != m.name {
		at = m.cells[name]
	}
	if at != from {
		return ErrMoved
	}
	undo, done := m.save(), false
	defer func() { // fn may panic
		if !done {
			undo()
		}
	}()
	if err := fn(&m.model); err != nil {
		return err
	}
	done = true
	if name == m.name {
		m.at = to
		return nil
	}
	if m.cells == nil {
		m.cells = map[string]eventstore.Position{}
	}
	m.cells[name] = to
	return nil
}

// Reset implements Target.
func (m *Memory[M]) Reset(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.claim(name); err != nil {
		return err
	}
	m.drop()
	return nil
}

func (m *Memory[M]) drop() {
	var zero M
	m.model, m.at, m.cells = zero, 0, nil
}

// letters returns where the dead letters of the model are kept. They are no more than
// the model is: those of an earlier life count no longer.
func (m *Memory[M]) letters() letterbox { return &m.box }

// save returns what brings back the model as it is now.
func (m *Memory[M]) save() (undo func()) {
	if plain(reflect.TypeFor[M]()) {
		old := m.model
		return func() { m.model = old }
	}
	if c, ok := any(&m.model).(interface{ Clone() M }); ok {
		old := c.Clone()
		return func() { m.model = old }
	}
	return m.drop
}

// claim refuses a second projection, which would share the position.
func (m *Memory[M]) claim(name string) error {
	switch m.name {
	case "":
		m.name = name
	case name:
	default:
		if strings.HasPrefix(name, m.name+"/") {
			return nil
		}
		return fmt.Errorf("projection: %s: the Memory belongs to the projection %s", name, m.name)
	}
	return nil
}

// plain reports whether assignment copies all of a value of type t.
func plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Chan, reflect.Func, reflect.Interface, reflect.UnsafePointer:
		return false
	case reflect.Array:
		return plain(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() { // its location is never modified
			return true
		}
		for f := range t.Fields() {
			if !plain(f.Type) {
				return false
			}
		}
	}
	return true
}
