package form

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode"
)

// plan is how the fields of a struct are decoded. It is made once for a type and not changed then.
type plan struct {
	fields []field
}

// field is a field of a struct, or of one embedded in it.
type field struct {
	name  string
	index []int
	json  bool // its name in JSON is given, so that the one in forms does not count there
	set   setter
}

// of returns the field in a struct, making the structs that lead there.
func (f *field) of(v reflect.Value) reflect.Value {
	for i, at := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(at)
	}
	return v
}

var (
	timeType     = reflect.TypeFor[time.Time]()
	durationType = reflect.TypeFor[time.Duration]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonType     = reflect.TypeFor[json.Unmarshaler]()
)

var plans sync.Map // of *plan or error by reflect.Type

// planOf returns the plan of a struct type.
func planOf(t reflect.Type) (*plan, error) {
	known, ok := plans.Load(t)
	if !ok {
		p, err := newPlan(t)
		if err != nil {
			known, _ = plans.LoadOrStore(t, err)
		} else {
			known, _ = plans.LoadOrStore(t, p)
		}
	}
	if err, ok := known.(error); ok {
		return nil, err
	}
	return known.(*plan), nil
}

// newPlan looks at the fields of a struct, those of embedded structs after its own: a name that is taken
// by an outer field hides the inner one, as in Go.
func newPlan(t reflect.Type) (*plan, error) {
	type level struct {
		t     reflect.Type
		index []int
	}
	p := new(plan)
	depths := make(map[string]int) // at which each name was found
	seen := map[reflect.Type]bool{t: true}
	for depth, current := 0, []level{{t: t}}; len(current) > 0; depth++ {
		var next []level
		for _, l := range current {
			for i := range l.t.NumField() {
				sf := l.t.Field(i)
				name, tagged := sf.Tag.Lookup("live")
				index := append(l.index[:len(l.index):len(l.index)], i)
				if inner, ok := embedded(sf); ok && !tagged {
					if !seen[inner] {
						seen[inner] = true
						next = append(next, level{inner, index})
					}
					continue
				}
				if !sf.IsExported() || name == "-" {
					continue
				}
				if name == "" {
					name = snake(sf.Name)
				}
				if at, taken := depths[name]; taken {
					if at == depth {
						return nil, fmt.Errorf("form: two fields of %s have the name %q", t, name)
					}
					continue
				}
				depths[name] = depth
				_, tagJSON := sf.Tag.Lookup("json")
				p.fields = append(p.fields, field{name: name, index: index, json: tagJSON, set: setterOf(sf.Type)})
			}
		}
		current = next
	}
	return p, nil
}

// embedded returns the struct whose fields count as those of the one that it is embedded in.
func embedded(sf reflect.StructField) (reflect.Type, bool) {
	if !sf.Anonymous {
		return nil, false
	}
	t := sf.Type
	if t.Kind() == reflect.Pointer {
		if !sf.IsExported() {
			return nil, false // cannot be made
		}
		t = t.Elem()
	}
	return t, isForm(t)
}

// snake returns the name of a Go field in snake case: StopPrice is stop_price, UserID is user_id, HTTPPort is http_port.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) {
			previous := runes[i-1]
			begins := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if begins && runes[i+1] == 's' && (i+2 == len(runes) || unicode.IsUpper(runes[i+2])) {
				begins = false // the plural of an abbreviation, as in UserIDs
			}
			if previous != '_' && (!unicode.IsUpper(previous) || begins) {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
