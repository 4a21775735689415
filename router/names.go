package router

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
)

// Names maps stored names to command types, for commands that arrive as bytes:
// over HTTP, from a queue, out of a file. The zero Names is empty. It is safe for
// concurrent use. Names are for ever; Go types may be renamed and moved at will.
type Names struct {
	mu     sync.RWMutex
	byName map[string]reflect.Type
	byType map[reflect.Type]string
}

// ErrMalformed reports bytes that are no command of the type they claim to be.
var ErrMalformed = errors.New("router: malformed command")

// Register gives the type of prototype, a value or, if its methods need one, a
// pointer, its name. Registering the same pair again is a no-op. Another type for the
// name, another name for the type, and an empty or overlong name are refused with an
// eventstore.ErrInvalid; a type with fields that JSON would drop with an
// eventstore.ErrCodec.
func (n *Names) Register(name string, prototype command.Command) error {
	if prototype == nil {
		return fmt.Errorf("router: register %q: %w: nil command", name, eventstore.ErrInvalid)
	}
	rt := reflect.TypeOf(prototype)
	value := rt
	if rt.Kind() == reflect.Pointer {
		value = rt.Elem()
	}
	// The rules for the names and fields of events hold for commands as well.
	var types eventstore.Types
	if err := types.Register(name, reflect.Zero(value).Interface()); err != nil {
		return fmt.Errorf("router: command %T: %w", prototype, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if have, ok := n.byName[name]; ok && have != rt {
		return fmt.Errorf("router: register %q: %w: it already names %v", name, eventstore.ErrInvalid, have)
	}
	if have, ok := n.byType[rt]; ok && have != name {
		return fmt.Errorf("router: register %q: %w: %v is already named %q", name, eventstore.ErrInvalid, rt, have)
	}
	if n.byName == nil {
		n.byName, n.byType = map[string]reflect.Type{}, map[reflect.Type]string{}
	}
	n.byName[name], n.byType[rt] = rt, name
	return nil
}

// Name returns the name of c's type.
func (n *Names) Name(c command.Command) (string, bool) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	name, ok := n.byType[reflect.TypeOf(c)]
	return name, ok
}

// Commands returns a zero command of every type, by name, for Router.Check.
func (n *Names) Commands() []command.Command {
	n.mu.RLock()
	defer n.mu.RUnlock()
	names := make([]string, 0, len(n.byName))
	for name := range n.byName {
		names = append(names, name)
	}
	slices.Sort(names)
	all := make([]command.Command, len(names))
	for i, name := range names {
		rt := n.byName[name]
		all[i] = commandOf(rt, blank(rt))
	}
	return all
}

// Decode returns the command called name that data, a JSON object, holds. A name that
// is not registered is a command.ErrUnrouted. It is strict: data that is not one JSON
// object in UTF-8, unknown fields, the same field twice, values of another type, and
// anything after the object are ErrMalformed, with an error that says what is wrong
// where. Missing fields are zero. Whoever receives data bounds its size.
func (n *Names) Decode(name string, data []byte) (command.Command, error) {
	n.mu.RLock()
	rt, ok := n.byName[name]
	n.mu.RUnlock()
	if !ok {
		return nil, fmt.Errorf("router: %w: no command is named %.80q", command.ErrUnrouted, name)
	}
	if err := object(data); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	p := blank(rt)
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := decode(dec, p); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	return commandOf(rt, p), nil
}

// Encode returns the name and the JSON of c, as Decode reads them.
func (n *Names) Encode(c command.Command) (name string, data []byte, err error) {
	name, ok := n.Name(c)
	if !ok {
		return "", nil, fmt.Errorf("router: %w: %T has no name", command.ErrUnrouted, c)
	}
	if data, err = json.Marshal(c); err != nil {
		return "", nil, fmt.Errorf("router: %s: %w: %w", name, eventstore.ErrCodec, err)
	}
	return name, data, nil
}

// blank returns a pointer to a zero value of the type that rt, a command type, is or
// points to.
func blank(rt reflect.Type) reflect.Value {
	if rt.Kind() == reflect.Pointer {
		rt = rt.Elem()
	}
	return reflect.New(rt)
}

// commandOf returns the command of type rt that p, made by blank, stands for.
func commandOf(rt reflect.Type, p reflect.Value) command.Command {
	if rt.Kind() != reflect.Pointer {
		p = p.Elem()
	}
	return p.Interface().(command.Command)
}

// decode calls the decoder; a panic of a command's own UnmarshalJSON is an error.
func decode(dec *json.Decoder, p reflect.Value) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = command.NewPanicError(v)
		}
	}()
	return dec.Decode(p.Interface())
}

// object returns why data is not one JSON object whose fields, at any depth, have
// different names. encoding/json takes the last of two and lets much of the rest pass.
func object(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("not valid UTF-8")
	}
	if !json.Valid(data) {
		return syntax(data)
	}
	if first := bytes.TrimLeft(data, " \t\r\n"); first[0] != '{' {
		return fmt.Errorf("want an object, have %.20q", first)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return unique(dec, nil)
}

// syntax returns the decoder's account of what is wrong with data.
func syntax(data []byte) error {
	var v json.RawMessage
	err := json.Unmarshal(data, &v)
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("at byte %d: %w", s.Offset, err)
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// unique reads one value, which is known to be valid, and returns the first field that
// occurs twice.
func unique(dec *json.Decoder, path []string) error {
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	switch tok {
	case json.Delim('{'):
		seen := map[string]bool{}
		for dec.More() {
			tok, err := dec.Token()
			if err != nil {
				return err
			}
			key := tok.(string)
			if seen[key] {
				return fmt.Errorf("field %q occurs twice", strings.Join(append(path, key), "."))
			}
			seen[key] = true
			if err := unique(dec, append(path, key)); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	case json.Delim('['):
		for dec.More() {
			if err := unique(dec, path); err != nil {
				return err
			}
		}
		_, err = dec.Token()
	}
	return err
}
