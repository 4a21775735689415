package eventstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/levada-go/levada/eventstore/driver"
)

// Types maps stored names to Go types. Names are for ever; Go types may be
// renamed and moved at will. Every Store has its own Types. The zero Types is
// empty and for JSON. It is safe for concurrent use.
type Types struct {
	mu    sync.Mutex                // writers
	table atomic.Pointer[typeTable] // immutable
	codec Codec                     // what Register checks types against
}

type typeTable struct {
	byName  map[string]*typeInfo
	byType  map[reflect.Type]*typeInfo
	upcasts map[reflect.Type]func(any) []any
	targets map[reflect.Type]reflect.Type // what an upcast makes; nil if only its func knows
}

type typeInfo struct {
	name      string
	rt        reflect.Type
	shareable bool
	old       bool // a form that is only read
	scratch   sync.Pool
}

// decode returns a value of the type. It is decoded in place that is used again,
// and copied to where it stays, so that an event costs one allocation and not two.
func (i *typeInfo) decode(c Codec, data []byte) (any, error) {
	p := i.scratch.Get() // a pointer
	if p == nil {
		p = reflect.New(i.rt).Interface()
	}
	if err := c.Unmarshal(data, p); err != nil {
		return nil, err
	}
	e := reflect.ValueOf(p).Elem()
	v := e.Interface()
	e.SetZero() // nothing of this event may show in the next
	i.scratch.Put(p)
	return v, nil
}

var noTypes typeTable

func (t *Types) load() *typeTable {
	if tab := t.table.Load(); tab != nil {
		return tab
	}
	return &noTypes
}

// Register gives the type of prototype, a value and not a pointer, its stored
// name. Registering the same pair again is a no-op; another type for the name,
// or another name for the type, is an error. A type with fields that the
// store's codec would drop (unexported ones, channels, funcs, interfaces) is
// refused with ErrCodec; leave a field out on purpose with the tag `json:"-"`.
func (t *Types) Register(name string, prototype any) error {
	return t.register(name, reflect.TypeOf(prototype), false)
}

func (t *Types) register(name string, rt reflect.Type, old bool) error {
	if err := validName("type name", name); err != nil {
		return err
	}
	if rt == nil || rt.Kind() == reflect.Pointer {
		return fmt.Errorf("%w: register %q: want a value, not %v", ErrInvalid, name, rt)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	tab := t.load()
	if have := tab.byName[name]; have != nil {
		if have.rt == rt && have.old == old {
			return nil
		}
		return fmt.Errorf("%w: register %q: it already names %v", ErrInvalid, name, have.rt)
	}
	if have := tab.byType[rt]; have != nil {
		return fmt.Errorf("%w: register %q: %v is already named %q", ErrInvalid, name, rt, have.name)
	}
	codec := t.codec
	if codec == nil {
		codec = JSON
	}
	if err := lossless(codec, rt); err != nil {
		return fmt.Errorf("eventstore: register %q: %w", name, err)
	}
	info := &typeInfo{name: name, rt: rt, shareable: shareable(rt), old: old}
	next := tab.clone()
	next.byName[name], next.byType[rt] = info, info
	t.table.Store(next)
	return nil
}

func (tab *typeTable) clone() *typeTable {
	next := &typeTable{maps.Clone(tab.byName), maps.Clone(tab.byType), maps.Clone(tab.upcasts), maps.Clone(tab.targets)}
	if next.byName == nil {
		next.byName, next.byType = map[string]*typeInfo{}, map[reflect.Type]*typeInfo{}
	}
	if next.upcasts == nil {
		next.upcasts, next.targets = map[reflect.Type]func(any) []any{}, map[reflect.Type]reflect.Type{}
	}
	return next
}

// Name returns the stored name of data's type.
func (t *Types) Name(data any) (string, bool) { return t.nameOf(reflect.TypeOf(data)) }

// NameOf returns the stored name of type E.
func NameOf[E any](t *Types) (string, bool) { return t.nameOf(reflect.TypeFor[E]()) }

func (t *Types) nameOf(rt reflect.Type) (string, bool) {
	info := t.load().byType[rt]
	if info == nil || info.old {
		return "", false
	}
	return info.name, true
}

// An Upcast rewrites an old form of an event as it is read.
type Upcast struct {
	name     string
	from, to reflect.Type // to is nil if only fn knows
	fn       func(any) []any
}

// UpcastFrom reads events stored as name into From and delivers what fn makes
// of them, which may itself be upcast. Events in the old form can no longer be
// appended. fn must be pure; if it panics the event is delivered with Err.
func UpcastFrom[From, To any](name string, fn func(From) To) Upcast {
	return Upcast{name, reflect.TypeFor[From](), reflect.TypeFor[To](), func(v any) []any { return []any{fn(v.(From))} }}
}

// UpcastSplit is UpcastFrom for an event that has become several, or none. All
// have the version and position of the one stored; Recorded.Part numbers them.
func UpcastSplit[From any](name string, fn func(From) []any) Upcast {
	return Upcast{name, reflect.TypeFor[From](), nil, func(v any) []any { return fn(v.(From)) }}
}

// Add registers upcasts. Adding one again, for the same name and form, replaces its func.
func (t *Types) Add(ups ...Upcast) error {
	for _, u := range ups {
		if u.fn == nil {
			return fmt.Errorf("%w: an Upcast that UpcastFrom did not make", ErrInvalid)
		}
		if u.from == u.to {
			return fmt.Errorf("%w: upcast of %q: from %v to itself", ErrInvalid, u.name, u.from)
		}
		if err := t.register(u.name, u.from, true); err != nil {
			return err
		}
		t.mu.Lock()
		next := t.load().clone()
		next.upcasts[u.from], next.targets[u.from] = u.fn, u.to
		t.table.Store(next)
		t.mu.Unlock()
	}
	return nil
}

// maxUpcasts bounds a chain of upcasts, which might otherwise go round.
const maxUpcasts = 64

func (tab *typeTable) upcast(v any, depth int, out []any) ([]any, error) {
	up := tab.upcasts[reflect.TypeOf(v)]
	if up == nil {
		return append(out, v), nil
	}
	if depth == maxUpcasts {
		return nil, fmt.Errorf("%w: more than %d upcasts in a row, now at %T", ErrCodec, maxUpcasts, v)
	}
	for _, next := range up(v) {
		var err error
		if out, err = tab.upcast(next, depth+1, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// safeUpcast is upcast, turning a panic into an error.
func (tab *typeTable) safeUpcast(v any) (values []any, err error) {
	defer func() {
		if p := recover(); p != nil {
			values, err = nil, fmt.Errorf("%w: upcast of %T: panic: %v", ErrCodec, v, p)
		}
	}()
	return tab.upcast(v, 0, nil)
}

// sources returns names and the stored names of old forms that may become one of them.
func (tab *typeTable) sources(names []string) []string {
	if len(names) == 0 || len(tab.upcasts) == 0 {
		return names
	}
	out := slices.Clone(names)
	for name, info := range tab.byName {
		if info.old && !slices.Contains(out, name) && tab.becomes(info.rt, names, 0) {
			out = append(out, name)
		}
	}
	return out
}

// becomes reports whether the form rt may be read as one of names. Where only a
// func knows what an old form becomes, it may.
func (tab *typeTable) becomes(rt reflect.Type, names []string, depth int) bool {
	to, old := tab.targets[rt]
	switch {
	case !old:
		info := tab.byType[rt]
		return info != nil && slices.Contains(names, info.name)
	case to == nil, depth == maxUpcasts:
		return true
	}
	return tab.becomes(to, names, depth+1)
}

// decoder turns stored events into Recorded ones.
type decoder struct {
	types  *Types
	codecs []Codec
	seal   Sealer
}

func (d *decoder) codec(contentType string) Codec {
	for _, c := range d.codecs {
		if c.ContentType() == contentType {
			return c
		}
	}
	return nil
}

// page appends what stored events read as: usually one each.
func (d *decoder) page(ctx context.Context, stored []driver.Recorded, out []*Recorded) []*Recorded {
	if len(stored) == 0 {
		return out
	}
	tab := d.types.load()
	block := make([]Recorded, len(stored)) // one allocation for the page
	for i := range stored {
		r := &block[i]
		fill(r, &stored[i])
		out = d.event(ctx, tab, r, out)
	}
	return out
}

func fill(r *Recorded, e *driver.Recorded) {
	r.ID, r.Type, r.Metadata, r.Tags = e.ID, e.Type, e.Metadata, e.Tags
	r.Correlation, r.Causation, r.Raw, r.ContentType = e.Correlation, e.Causation, e.Data, e.ContentType
	r.Stream, r.Version, r.Position, r.Time = StreamName(e.Stream), Version(e.Version), Position(e.Position), e.Time
}

// event decodes r in place and appends it, or its parts.
func (d *decoder) event(ctx context.Context, tab *typeTable, r *Recorded, out []*Recorded) []*Recorded {
	info := tab.byName[r.Type]
	if info == nil {
		return append(out, r)
	}
	v, err := d.value(ctx, info, r)
	if err != nil {
		if errors.Is(err, ErrErased) {
			r.Data = Erased{}
		} else {
			r.Err = fmt.Errorf("eventstore: %s version %d, a %s: %w", r.Stream, r.Version, r.Type, err)
		}
		return append(out, r)
	}
	if !info.old {
		r.Data = v
		return append(out, r)
	}
	return d.parts(tab, v, r, out)
}

func (d *decoder) value(ctx context.Context, info *typeInfo, r *Recorded) (any, error) {
	codec := d.codec(r.ContentType)
	if codec == nil {
		return nil, fmt.Errorf("%w: none for content type %q", ErrCodec, r.ContentType)
	}
	raw := r.Raw
	if d.seal != nil {
		var err error
		if raw, err = d.seal.Open(ctx, r, raw); err != nil {
			return nil, err
		}
	}
	v, err := info.decode(codec, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCodec, err)
	}
	return v, nil
}

func (d *decoder) parts(tab *typeTable, v any, r *Recorded, out []*Recorded) []*Recorded {
	values, err := tab.safeUpcast(v)
	if err != nil {
		r.Err = fmt.Errorf("eventstore: %s version %d, a %s: %w", r.Stream, r.Version, r.Type, err)
		return append(out, r)
	}
	whole := *r
	for i, v := range values {
		part := r
		if i > 0 {
			c := whole
			part = &c
		}
		part.Data, part.Part = v, i
		if info := tab.byType[reflect.TypeOf(v)]; info != nil {
			part.Type, part.stored = info.name, whole.Type
		}
		out = append(out, part)
	}
	return out
}
