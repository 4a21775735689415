package shred

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// Options change how a [Sealer] works. The zero Options are the defaults.
type Options struct {
	// Subject returns whose event it is, for events that are to be sealed as a whole, else "". Nil means none are.
	Subject func(*eventstore.Event) string
	// Remember is for how long keys are kept in memory. After Shred in another process events can still be read here for that
	// time. Default one minute; negative: not at all.
	Remember time.Duration
}

// A Sealer is an [eventstore.Sealer] that encrypts with the keys of subjects. It works with JSON only. It is safe
// for concurrent use.
type Sealer struct {
	keys Keys
	opt  Options

	types sync.Map // reflect.Type → *sealedType

	mu     sync.Mutex
	known  map[string]remembered
	shreds int // how many subjects were shredded
}

type remembered struct {
	aead  cipher.AEAD
	until time.Time
}

// maxRemembered is how many keys are kept in memory.
const maxRemembered = 4096

// ErrSealed reports sealed data that has been tampered with or was sealed in another way; it is not [eventstore.ErrErased].
var ErrSealed = errors.New("shred: sealed data cannot be opened")

// New returns a Sealer that takes its keys from keys. Nil options are the defaults.
func New(keys Keys, o *Options) *Sealer {
	s := &Sealer{keys: keys, known: map[string]remembered{}}
	if o != nil {
		s.opt = *o
	}
	if s.opt.Remember == 0 {
		s.opt.Remember = time.Minute
	}
	return s
}

// Shred destroys the key of a subject, here and in Keys. When it returns nil no data of the subject can be read
// through this Sealer any more.
func (s *Sealer) Shred(ctx context.Context, subject string) error {
	if err := s.keys.Shred(ctx, subject); err != nil {
		return fmt.Errorf("shred: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, subject)
	s.shreds++
	return nil
}

// sealed is a value as it is stored.
type sealed struct {
	Subject string `json:"s"`
	Data    []byte `json:"d"` // nonce and ciphertext
}

// mark is the member of a stored object that holds what is sealed, by field; "" is the event as a whole.
const mark = "$sealed"

// Seal implements [eventstore.Sealer]. It fails with an eventstore.ErrErased for subjects that were shredded:
// nothing new must be known of them.
func (s *Sealer) Seal(ctx context.Context, e *eventstore.Event, data []byte) ([]byte, error) {
	t, err := s.typeOf(e.Data)
	if err != nil {
		return nil, err
	}
	subject := ""
	if s.opt.Subject != nil {
		subject = s.opt.Subject(e)
	}
	if subject != "" {
		v, err := s.seal(ctx, e.ID, "", subject, data)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{mark: map[string]sealed{"": v}})
	}
	if len(t.fields) == 0 && !bytes.Contains(data, []byte(mark)) {
		return data, nil
	}
	if len(t.fields) > 0 && e.ContentType != eventstore.JSON.ContentType() {
		return nil, fmt.Errorf("shred: fields of %s cannot be sealed in %s", e.Type, e.ContentType)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		if len(t.fields) == 0 {
			return data, nil // no object, so it cannot be taken for a sealed one
		}
		return nil, fmt.Errorf("shred: %s is no JSON object: %w", e.Type, err)
	}
	if _, ok := object[mark]; ok {
		return nil, fmt.Errorf("shred: %s has a member %q of its own", e.Type, mark)
	}
	if len(t.fields) == 0 {
		return data, nil
	}
	value := reflect.Indirect(reflect.ValueOf(e.Data))
	out := map[string]sealed{}
	for _, f := range t.fields {
		raw, ok := object[f.name]
		if !ok {
			continue // omitted
		}
		subject := ""
		if v, err := value.FieldByIndexErr(f.subject); err == nil {
			subject = fmt.Sprint(v.Interface())
		}
		if subject == "" {
			return nil, fmt.Errorf("shred: %s has no subject for %s", e.Type, f.name)
		}
		if out[f.name], err = s.seal(ctx, e.ID, f.name, subject, raw); err != nil {
			return nil, err
		}
		delete(object, f.name)
	}
	if len(out) == 0 {
		return data, nil
	}
	if object[mark], err = json.Marshal(out); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

// Open implements [eventstore.Sealer].
func (s *Sealer) Open(ctx context.Context, r *eventstore.Recorded, data []byte) ([]byte, error) {
	if !bytes.Contains(data, []byte(`"`+mark+`"`)) {
		return data, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil || object[mark] == nil {
		return data, nil
	}
	var fields map[string]sealed
	if err := json.Unmarshal(object[mark], &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if whole, ok := fields[""]; ok {
		return s.open(ctx, r.ID, "", whole)
	}
	delete(object, mark)
	for name, v := range fields {
		raw, err := s.open(ctx, r.ID, name, v)
		if errors.Is(err, eventstore.ErrErased) {
			continue // the field reads as its zero value
		}
		if err != nil {
			return nil, err
		}
		object[name] = raw
	}
	return json.Marshal(object)
}

func (s *Sealer) seal(ctx context.Context, id eventstore.ID, field, subject string, data []byte) (sealed, error) {
	aead, err := s.cipher(ctx, subject, s.keys.Make)
	if err != nil {
		return sealed{}, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(data)+aead.Overhead())
	rand.Read(nonce)
	return sealed{subject, aead.Seal(nonce, nonce, data, place(id, field))}, nil
}

func (s *Sealer) open(ctx context.Context, id eventstore.ID, field string, v sealed) ([]byte, error) {
	aead, err := s.cipher(ctx, v.Subject, s.keys.Find)
	if err != nil {
		return nil, err
	}
	if len(v.Data) < aead.NonceSize() {
		return nil, ErrSealed
	}
	data, err := aead.Open(nil, v.Data[:aead.NonceSize()], v.Data[aead.NonceSize():], place(id, field))
	if err != nil {
		return nil, ErrSealed
	}
	return data, nil
}

// place is what is authenticated with a value: where it belongs.
func place(id eventstore.ID, field string) []byte { return append(id[:], field...) }

func (s *Sealer) cipher(ctx context.Context, subject string, get func(context.Context, string) ([]byte, error)) (cipher.AEAD, error) {
	now := time.Now()
	s.mu.Lock()
	k, ok := s.known[subject]
	shreds := s.shreds
	s.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.aead, nil
	}
	key, err := get(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("shred: the key of a subject: %w", err)
	}
	if len(key) != KeyBytes {
		return nil, fmt.Errorf("shred: a key of %d bytes, not %d", len(key), KeyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if s.opt.Remember > 0 {
		s.remember(subject, remembered{aead, now.Add(s.opt.Remember)}, shreds)
	}
	return aead, nil
}

// remember keeps a key, unless a subject was shredded since the key was asked for: it might be this one.
func (s *Sealer) remember(subject string, k remembered, shreds int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shreds != shreds {
		return
	}
	if len(s.known) >= maxRemembered {
		clear(s.known)
	}
	s.known[subject] = k
}

// A sealedType says which fields of a type are sealed.
type sealedType struct {
	fields []sealedField
	err    error
}

type sealedField struct {
	name    string // in JSON
	subject []int  // the index of the field that holds the subject
}

func (s *Sealer) typeOf(data any) (*sealedType, error) {
	rt := reflect.TypeOf(data)
	if t, ok := s.types.Load(rt); ok {
		return t.(*sealedType), t.(*sealedType).err
	}
	t := &sealedType{}
	t.fields, t.err = fieldsOf(rt)
	s.types.Store(rt, t)
	return t, t.err
}

// Check reports what is wrong with the tags of events, so that it is known before the first append: a tag on a
// field of a struct inside an event, one that names no field, or a subject that is itself sealed or neither a
// string, a number nor an [fmt.Stringer].
func Check(events ...any) error {
	var faults []error
	for _, e := range events {
		if _, err := fieldsOf(reflect.TypeOf(e)); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

const tag = "shred"

func fieldsOf(rt reflect.Type) ([]sealedField, error) {
	for rt != nil && rt.Kind() == reflect.Pointer {
		rt = rt.Elem()
	}
	if rt == nil || rt.Kind() != reflect.Struct {
		return nil, nil
	}
	var fields []sealedField
	for i := range rt.NumField() {
		f := rt.Field(i)
		owner, ok := f.Tag.Lookup(tag)
		if !ok {
			if inner := nested(f.Type, map[reflect.Type]bool{rt: true}); inner != "" {
				return nil, fmt.Errorf("shred: %v.%s: only fields of the event itself can be sealed, not %s inside of it", rt, f.Name, inner)
			}
			continue
		}
		subject, ok := rt.FieldByName(owner)
		if !ok {
			return nil, fmt.Errorf("shred: %v.%s: there is no field %q that could hold its subject", rt, f.Name, owner)
		}
		if _, sealed := subject.Tag.Lookup(tag); sealed {
			return nil, fmt.Errorf("shred: %v.%s: its subject %s is sealed itself", rt, f.Name, owner)
		}
		if !names(subject.Type) {
			return nil, fmt.Errorf("shred: %v.%s: a %v cannot name a subject", rt, f.Name, subject.Type)
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-" || !f.IsExported():
			return nil, fmt.Errorf("shred: %v.%s is not stored", rt, f.Name)
		case name == "" && f.Anonymous:
			return nil, fmt.Errorf("shred: %v.%s: an embedded field cannot be sealed", rt, f.Name)
		case name == "":
			name = f.Name
		}
		fields = append(fields, sealedField{name, subject.Index})
	}
	return fields, nil
}

// nested returns the name of a tagged field inside a type, "" if there is none.
func nested(rt reflect.Type, seen map[reflect.Type]bool) string {
	for rt.Kind() == reflect.Pointer || rt.Kind() == reflect.Slice || rt.Kind() == reflect.Array || rt.Kind() == reflect.Map {
		rt = rt.Elem()
	}
	if rt.Kind() != reflect.Struct || seen[rt] {
		return ""
	}
	seen[rt] = true
	for i := range rt.NumField() {
		f := rt.Field(i)
		if _, ok := f.Tag.Lookup(tag); ok {
			return rt.String() + "." + f.Name
		}
		if inner := nested(f.Type, seen); inner != "" {
			return inner
		}
	}
	return ""
}

var stringer = reflect.TypeFor[fmt.Stringer]()

func names(rt reflect.Type) bool {
	k := rt.Kind()
	return rt.Implements(stringer) || k == reflect.String || k >= reflect.Int && k <= reflect.Uint64
}
