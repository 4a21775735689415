package eventstore

import (
	"context"
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
)

// A Codec turns event data into bytes and back. Its methods are called from
// many goroutines. A Codec may also have a method
//
//	Lossless(t reflect.Type) error
//
// which Register asks whether values of t survive it; without it, the rules for
// JSON are applied.
type Codec interface {
	// ContentType is stored with each event and selects the codec that reads it.
	ContentType() string
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, a pointer. It must not keep data.
	Unmarshal(data []byte, v any) error
}

// A Sealer transforms encoded data on its way to the store and back, to encrypt
// or compress it. It is called from many goroutines.
type Sealer interface {
	// Seal returns what to store for data. The event is about to be appended.
	Seal(ctx context.Context, e *Event, data []byte) ([]byte, error)
	// Open returns what Seal was given. If that is no longer possible, because the key
	// was destroyed on purpose, it returns an ErrErased.
	Open(ctx context.Context, r *Recorded, data []byte) ([]byte, error)
}

// JSON is the default codec.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) ContentType() string                { return "application/json" }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

func lossless(c Codec, t reflect.Type) error {
	if l, ok := c.(interface{ Lossless(reflect.Type) error }); ok {
		return l.Lossless(t)
	}
	return jsonLossless(t, t.String(), map[reflect.Type]bool{})
}

var (
	jsonMarshaler   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textMarshaler   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// jsonLossless reports the first part of t that JSON would drop or not restore.
func jsonLossless(t reflect.Type, path string, seen map[reflect.Type]bool) error {
	if seen[t] {
		return nil
	}
	seen[t] = true
	p := reflect.PointerTo(t)
	if p.Implements(jsonMarshaler) && p.Implements(jsonUnmarshaler) || p.Implements(textMarshaler) && p.Implements(textUnmarshaler) {
		return nil
	}
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.Interface, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer, reflect.Uintptr:
		return fmt.Errorf("%w: %s, a %v, would be lost", ErrCodec, path, t)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return jsonLossless(t.Elem(), path+"[]", seen)
	case reflect.Map:
		k := t.Key()
		switch {
		case reflect.PointerTo(k).Implements(textUnmarshaler) && k.Implements(textMarshaler):
		case k.Kind() == reflect.String, k.Kind() >= reflect.Int && k.Kind() <= reflect.Uint64:
		default:
			return fmt.Errorf("%w: %s has keys of %v", ErrCodec, path, k)
		}
		return jsonLossless(t.Elem(), path+"[]", seen)
	case reflect.Struct:
		for f := range t.Fields() {
			name := path + "." + f.Name
			if f.Tag.Get("json") == "-" {
				continue // left out on purpose
			}
			if !f.IsExported() {
				// The exported fields of an embedded struct count as t's own.
				if !f.Anonymous || f.Type.Kind() != reflect.Struct {
					return fmt.Errorf("%w: the unexported field %s would be lost", ErrCodec, name)
				}
			}
			if err := jsonLossless(f.Type, name, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

// shareable reports whether a value of t may be handed to readers as it was
// appended: it is equal to what decoding its bytes gives, and nobody can change it.
func shareable(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	if p.Implements(jsonMarshaler) || p.Implements(jsonUnmarshaler) || p.Implements(textMarshaler) || p.Implements(textUnmarshaler) {
		return false
	}
	switch t.Kind() {
	case reflect.Bool, reflect.String,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return true
	case reflect.Array:
		return shareable(t.Elem())
	case reflect.Struct:
		for f := range t.Fields() {
			if !f.IsExported() || f.Tag.Get("json") == "-" || !shareable(f.Type) {
				return false
			}
		}
		return true
	}
	return false
}
