// Package form decodes what comes with an event of a page, the values of a form or the JSON of a hook, into a Go value.
//
//	symbol=BTC&qty=3&limit=on          {"symbol":"BTC","qty":3}
//	        │                                  │
//	        └── a field by its name ──┬────────┘
//	                                  ▼
//	      struct{ Symbol string; Qty int; Limit bool }
package form

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// Bounds of the values that Decode takes. What a connection and a body may hold bounds them, too.
const (
	MaxValues = 1000    // values in a form
	MaxName   = 200     // bytes of a name
	MaxValue  = 1 << 20 // bytes of a value
)

var (
	// ErrTooLarge says that values are over the bounds.
	ErrTooLarge = errors.New("form: too many values, or too long ones")
	// ErrPayload says that the JSON does not parse, or is missing, or is there where values should be.
	ErrPayload = errors.New("form: the payload does not fit")
)

// Decode sets the value that into points to.
//
//   - A struct, or a pointer to one, takes each exported field from the value of its name: that in the tag `live:"name"`, else its
//     own in snake case. Fields of embedded structs count as its own. `live:"-"` leaves a field out. Values without a field are ignored,
//     and fields without a value, or with an empty one, stay as they are; of several values the last counts.
//     From JSON the same names count, besides those of encoding/json, and any type of field will do.
//   - [url.Values] takes all values as they are.
//   - Everything else takes the JSON of the payload.
//
// Fields may be strings, which must be valid UTF-8, bools ("on", "true", "yes", "1" and their opposites), integers,
// finite floats, [time.Time] (RFC 3339, or what inputs of the types date and datetime-local send, as UTC),
// [time.Duration], byte slices, all that implement [encoding.TextUnmarshaler], pointers to these, which stay nil without
// a value, and slices of these, which take all values of the name.
//
// The map says in words for the user what is wrong with which field, by its name; the rest of the struct is set all the same. The
// error is for what no user can mend: it wraps ErrTooLarge or ErrPayload, or is that of Check.
// Decode may be called by any number of goroutines.
func Decode(values url.Values, payload json.RawMessage, into any) (map[string]string, error) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil, fmt.Errorf("form: %T is not a pointer to decode into", into)
	}
	v = v.Elem()
	if err := bounded(values); err != nil {
		return nil, err
	}
	if all, ok := into.(*url.Values); ok {
		if payload != nil {
			return nil, fmt.Errorf("%w: JSON where the values of a form are expected", ErrPayload)
		}
		*all = make(url.Values, len(values))
		for name, list := range values {
			(*all)[name] = slices.Clone(list)
		}
		return nil, nil
	}
	if v.Kind() == reflect.Pointer && isForm(v.Type().Elem()) {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if !isForm(v.Type()) {
		return decodeJSON(payload, v)
	}
	p, err := planOf(v.Type())
	if err != nil {
		return nil, err
	}
	if payload != nil {
		return p.fromJSON(payload, v)
	}
	return p.fromValues(values, v), nil
}

// Check reports whether Decode can decode into a type: not if two fields of a struct have the same name.
func Check(t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !isForm(t) {
		return nil
	}
	_, err := planOf(t)
	return err
}

// isForm reports whether the fields of a type are those of a form.
func isForm(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != timeType && !reflect.PointerTo(t).Implements(textType) && !reflect.PointerTo(t).Implements(jsonType)
}

func bounded(values url.Values) error {
	n := 0
	for name, list := range values {
		if n += len(list); n > MaxValues || len(name) > MaxName {
			return ErrTooLarge
		}
		for _, value := range list {
			if len(value) > MaxValue {
				return ErrTooLarge
			}
		}
	}
	return nil
}

// decodeJSON decodes what is no form.
func decodeJSON(payload json.RawMessage, v reflect.Value) (map[string]string, error) {
	if payload == nil {
		switch v.Kind() {
		case reflect.Interface, reflect.Pointer, reflect.Map, reflect.Slice:
			return nil, nil // there is a value for nothing
		}
		return nil, fmt.Errorf("%w: there is none for a %s", ErrPayload, v.Type())
	}
	return misfit("", json.Unmarshal(payload, v.Addr().Interface()))
}

// misfit tells what the user can mend from what he cannot.
func misfit(name string, err error) (map[string]string, error) {
	if err == nil {
		return nil, nil
	}
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		if name == "" {
			name = wrong.Field
		}
		return map[string]string{name: expected(wrong.Type)}, nil
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return nil, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	return map[string]string{name: notValid}, nil // of a method UnmarshalJSON or UnmarshalText
}

// fromValues sets the fields that have values.
func (p *plan) fromValues(values url.Values, v reflect.Value) map[string]string {
	var wrong map[string]string
	for _, f := range p.fields {
		list := values[f.name]
		if len(list) == 0 || f.set == nil {
			continue
		}
		if problem := f.set(f.of(v), list); problem != "" {
			if wrong == nil {
				wrong = make(map[string]string)
			}
			wrong[f.name] = problem
		}
	}
	return wrong
}

// fromJSON sets the fields that an object has, by the names of encoding/json and then by those of forms.
func (p *plan) fromJSON(payload json.RawMessage, v reflect.Value) (map[string]string, error) {
	wrong, err := misfit("", json.Unmarshal(payload, v.Addr().Interface()))
	if err != nil {
		return nil, err
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(payload, &object) != nil {
		return wrong, nil // no object: that is what is wrong
	}
	for _, f := range p.fields {
		raw, ok := object[f.name]
		if !ok || f.json {
			continue
		}
		more, err := misfit(f.name, json.Unmarshal(raw, f.of(v).Addr().Interface()))
		if err != nil {
			return nil, err
		}
		if len(more) > 0 {
			if wrong == nil {
				wrong = make(map[string]string)
			}
			// encoding/json may have said the same about the name of the field in Go.
			maps.DeleteFunc(wrong, func(name, _ string) bool { return strings.EqualFold(name, f.name) })
			maps.Copy(wrong, more)
		}
	}
	return wrong, nil
}
