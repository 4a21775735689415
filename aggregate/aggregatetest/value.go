package aggregatetest

import (
	"fmt"
	"reflect"
	"time"
	"unsafe"
)

// clone returns a copy of v that shares nothing with it that could be changed,
// unexported fields included. Channels and funcs are shared.
func clone(v reflect.Value) reflect.Value {
	return (&cloner{map[visit]reflect.Value{}}).clone(v)
}

// A visit is a reference that was followed, so that cycles end and what is shared
// stays shared.
type visit struct {
	p   unsafe.Pointer
	len int
	t   reflect.Type
}

type cloner struct{ seen map[visit]reflect.Value }

func (c *cloner) clone(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	if leaf(v.Type()) {
		out.Set(v)
		return out
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return out
		}
		at := visit{v.UnsafePointer(), 0, v.Type()}
		if done, ok := c.seen[at]; ok {
			return done
		}
		p := reflect.New(v.Type().Elem())
		c.seen[at] = p.Convert(v.Type())
		p.Elem().Set(c.clone(readable(v.Elem())))
		return c.seen[at]
	case reflect.Interface:
		if !v.IsNil() {
			out.Set(c.clone(addressable(v.Elem())))
		}
		return out
	case reflect.Slice:
		if v.IsNil() {
			return out
		}
		at := visit{v.UnsafePointer(), v.Len(), v.Type()}
		if done, ok := c.seen[at]; ok && v.Len() > 0 {
			return done
		}
		s := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		c.seen[at] = s
		for i := range v.Len() {
			s.Index(i).Set(c.clone(readable(v.Index(i))))
		}
		return s
	case reflect.Map:
		if v.IsNil() {
			return out
		}
		at := visit{v.UnsafePointer(), 0, v.Type()}
		if done, ok := c.seen[at]; ok {
			return done
		}
		m := reflect.MakeMapWithSize(v.Type(), v.Len())
		c.seen[at] = m
		for it := v.MapRange(); it.Next(); {
			m.SetMapIndex(c.clone(addressable(it.Key())), c.clone(addressable(it.Value())))
		}
		return m
	case reflect.Array:
		for i := range v.Len() {
			out.Index(i).Set(c.clone(readable(v.Index(i))))
		}
		return out
	case reflect.Struct:
		for i := range v.NumField() {
			readable(out.Field(i)).Set(c.clone(readable(v.Field(i))))
		}
		return out
	}
	out.Set(v)
	return out
}

// leaf reports whether values of t are taken as they are: nobody changes a time,
// and time zones are shared by all.
func leaf(t reflect.Type) bool {
	return t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[*time.Location]()
}

// readable returns v, which is addressable, without the mark of an unexported field.
func readable(v reflect.Value) reflect.Value {
	return reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
}

// addressable returns a shallow copy of v that has an address.
func addressable(v reflect.Value) reflect.Value {
	p := reflect.New(v.Type()).Elem()
	p.Set(v)
	return p
}

// equal reports whether a and b hold the same.
func equal(a, b reflect.Value) bool { return diff(addressable(a), addressable(b), "") == "" }

// diff returns where a and b, both addressable, differ first, and how; empty if they
// hold the same. Unlike reflect.DeepEqual it takes NaN for equal to itself, a nil
// slice for equal to an empty one and times for equal that are the same instant, and
// compares funcs by identity. A nil map is not an empty one: writing to it panics.
func diff(a, b reflect.Value, path string) string {
	return differ{}.diff(a, b, path)
}

type differ map[[2]visit]bool

func (d differ) diff(a, b reflect.Value, path string) string {
	if a.Type() != b.Type() {
		return fmt.Sprintf("%s was a %v and is a %v", path, a.Type(), b.Type())
	}
	if t, ok := a.Interface().(time.Time); ok {
		if t.Equal(b.Interface().(time.Time)) {
			return ""
		}
		return changed(a, b, path)
	}
	if z, ok := a.Interface().(*time.Location); ok {
		if z.String() == b.Interface().(*time.Location).String() {
			return ""
		}
		return changed(a, b, path)
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Interface, reflect.Func:
		if a.IsNil() && !b.IsNil() {
			return path + " was nil and is not"
		}
		if !a.IsNil() && b.IsNil() {
			return path + " is nil and was not"
		}
		if a.IsNil() {
			return ""
		}
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if a.Kind() != reflect.Pointer && a.Len() != b.Len() {
			return changed(a, b, path)
		}
		at := [2]visit{{a.UnsafePointer(), 0, a.Type()}, {b.UnsafePointer(), 0, b.Type()}}
		if d[at] && a.Kind() != reflect.Slice {
			return ""
		}
		d[at] = true
	}
	switch a.Kind() {
	case reflect.Pointer:
		return d.diff(readable(a.Elem()), readable(b.Elem()), path)
	case reflect.Interface:
		return d.diff(addressable(a.Elem()), addressable(b.Elem()), path)
	case reflect.Slice, reflect.Array:
		for i := range a.Len() {
			if s := d.diff(readable(a.Index(i)), readable(b.Index(i)), fmt.Sprintf("%s[%d]", path, i)); s != "" {
				return s
			}
		}
		return ""
	case reflect.Map:
		return d.maps(a, b, path)
	case reflect.Struct:
		for i := range a.NumField() {
			if s := d.diff(readable(a.Field(i)), readable(b.Field(i)), path+"."+a.Type().Field(i).Name); s != "" {
				return s
			}
		}
		return ""
	case reflect.Func:
		if a.Pointer() == b.Pointer() {
			return ""
		}
	case reflect.Float32, reflect.Float64:
		if x, y := a.Float(), b.Float(); x == y || x != x && y != y {
			return ""
		}
	default:
		if a.Equal(b) {
			return ""
		}
	}
	return changed(a, b, path)
}

func (d differ) maps(a, b reflect.Value, path string) string {
	for it := a.MapRange(); it.Next(); {
		k := it.Key()
		at := fmt.Sprintf("%s[%v]", path, k)
		v := b.MapIndex(k)
		if !v.IsValid() {
			if !comparable(k) {
				continue // its copy is another key
			}
			return at + " is gone"
		}
		if s := d.diff(addressable(it.Value()), addressable(v), at); s != "" {
			return s
		}
	}
	return ""
}

// comparable reports whether a copy of the key k finds what k finds: not if it
// contains a pointer, or NaN.
func comparable(k reflect.Value) bool {
	switch k.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Chan, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Array:
		return k.Len() == 0 || comparable(k.Index(0))
	case reflect.Struct:
		for i := range k.NumField() {
			if !comparable(k.Field(i)) {
				return false
			}
		}
	}
	return true
}

func changed(a, b reflect.Value, path string) string {
	return fmt.Sprintf("%s was %+v and is %+v", path, a, b)
}
