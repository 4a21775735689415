package shred

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// Options change how a [Sealer] works. The zero Options are the defaults.
type Options struct {
	// Subject returns whose event it is, for events that are to be sealed as a whole, else "". Nil means none are. It
	// is asked about commands that wait, and about the states of processes and aggregates, in the same way, as the Data of
	// an Event: see [eventstore.SubjectSealer].
	Subject func(*eventstore.Event) string
	// Remember is for how long keys are kept in memory. After Shred in another process events can still be read here for that
	// time. Default one minute; negative: not at all.
	Remember time.Duration
}

// A Sealer is an [eventstore.SubjectSealer] that encrypts with the keys of subjects. It works with JSON only. It is safe
// for concurrent use.
type Sealer struct {
	keys Keys
	opt  Options

	types sync.Map // reflect.Type → *sealedType

	mu     sync.Mutex
	known  map[string]remembered
	shreds int // how many subjects were shredded
}

var _ eventstore.SubjectSealer = (*Sealer)(nil)

type remembered struct {
	key   []byte
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
	Subject  string   `json:"s,omitempty"`
	Subjects []string `json:"ss,omitempty"` // if there are several, sorted
	Data     []byte   `json:"d,omitempty"`  // nonce and ciphertext; none if a subject was shredded before
}

func (v *sealed) subjects() []string {
	if v.Subjects != nil {
		return v.Subjects
	}
	return []string{v.Subject}
}

// mark is the member of a stored object that holds what is sealed, by field; "" is the event as a whole.
const mark = "$sealed"

// Seal implements [eventstore.Sealer]. It fails with an eventstore.ErrErased for subjects that were shredded:
// nothing new must be known of them.
func (s *Sealer) Seal(ctx context.Context, e *eventstore.Event, data []byte) ([]byte, error) {
	j := sealing{s: s, ctx: ctx, id: e.ID}
	return j.event(e, data)
}

// SealFor implements [eventstore.SubjectSealer].
func (s *Sealer) SealFor(ctx context.Context, e *eventstore.Event, data []byte, subjects []string) ([]byte, error) {
	subjects = slices.Compact(slices.Sorted(slices.Values(subjects)))
	j := sealing{s: s, ctx: ctx, id: e.ID, lenient: true, of: subjects}
	if e.Data == nil {
		return j.rest(e, data)
	}
	return j.event(e, data)
}

// A sealing is what one event, or copy, is sealed by.
type sealing struct {
	s   *Sealer
	ctx context.Context
	id  eventstore.ID

	lenient bool     // leaves out what belongs to those who were shredded
	of      []string // whose is what nothing else is known of
}

// event seals what Options and tags say.
func (j *sealing) event(e *eventstore.Event, data []byte) ([]byte, error) {
	t, err := j.s.typeOf(e.Data)
	if err != nil {
		return nil, err
	}
	if j.s.opt.Subject != nil {
		if subject := j.s.opt.Subject(e); subject != "" {
			return j.whole(data, subject)
		}
	}
	if len(t.fields) == 0 {
		return j.rest(e, data)
	}
	if e.ContentType != eventstore.JSON.ContentType() {
		return nil, fmt.Errorf("shred: fields of %s cannot be sealed in %s", e.Type, e.ContentType)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("shred: %s is no JSON object: %w", e.Type, err)
	}
	if _, ok := object[mark]; ok {
		return nil, fmt.Errorf("shred: %s has a member %q of its own", e.Type, mark)
	}
	return j.fields(e, t, object, data)
}

// rest seals what has no tags.
func (j *sealing) rest(e *eventstore.Event, data []byte) ([]byte, error) {
	if len(j.of) > 0 {
		return j.whole(data, j.of...)
	}
	if bytes.Contains(data, []byte(mark)) {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(data, &object); err != nil {
			return data, nil // no object, so it cannot be taken for a sealed one
		}
		if _, ok := object[mark]; ok {
			return nil, fmt.Errorf("shred: %s has a member %q of its own", e.Type, mark)
		}
	}
	return data, nil
}

// whole seals all of data.
func (j *sealing) whole(data []byte, subjects ...string) ([]byte, error) {
	v, err := j.value("", data, subjects...)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{mark: map[string]sealed{"": v}})
}

// fields seals those that have a tag.
func (j *sealing) fields(e *eventstore.Event, t *sealedType, object map[string]json.RawMessage, data []byte) ([]byte, error) {
	value := reflect.Indirect(reflect.ValueOf(e.Data))
	out, changed := map[string]sealed{}, false
	for _, f := range t.fields {
		raw, ok := object[f.name]
		if !ok {
			continue // omitted
		}
		subjects := j.of
		if subject := subjectOf(value, f); subject != "" {
			subjects = []string{subject}
		} else if j.lenient && value.FieldByIndex(f.index).IsZero() {
			continue // a state that does not know yet whose it is
		}
		if len(subjects) == 0 {
			return nil, fmt.Errorf("shred: %s has no subject for %s", e.Type, f.name)
		}
		v, err := j.value(f.name, raw, subjects...)
		if err != nil {
			return nil, err
		}
		changed = true
		delete(object, f.name)
		if v.Data != nil {
			out[f.name] = v
		}
	}
	if !changed {
		return data, nil
	}
	if len(out) > 0 {
		var err error
		if object[mark], err = json.Marshal(out); err != nil {
			return nil, err
		}
	}
	return json.Marshal(object)
}

// subjectOf returns whose a field is, "" if that is not said.
func subjectOf(value reflect.Value, f sealedField) string {
	if v, err := value.FieldByIndexErr(f.subject); err == nil {
		return fmt.Sprint(v.Interface())
	}
	return ""
}

// value seals one value.
func (j *sealing) value(field string, data []byte, subjects ...string) (sealed, error) {
	v := sealed{Subjects: subjects}
	if len(subjects) == 1 {
		v = sealed{Subject: subjects[0]}
	}
	aead, err := j.s.cipher(j.ctx, subjects, j.s.keys.Make)
	if j.lenient && errors.Is(err, eventstore.ErrErased) {
		return v, nil
	}
	if err != nil {
		return sealed{}, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(data)+aead.Overhead())
	rand.Read(nonce)
	v.Data = aead.Seal(nonce, nonce, data, place(j.id, field))
	return v, nil
}

// Subjects implements [eventstore.SubjectSealer].
func (s *Sealer) Subjects(e *eventstore.Event) []string {
	var list []string
	if fields, err := sealedIn(e.Raw); err == nil {
		for _, v := range fields {
			list = append(list, v.subjects()...)
		}
	}
	if _, erased := e.Data.(eventstore.Erased); e.Data != nil && !erased {
		if s.opt.Subject != nil {
			list = append(list, s.opt.Subject(e))
		}
		if t, err := s.typeOf(e.Data); err == nil && len(t.fields) > 0 {
			value := reflect.Indirect(reflect.ValueOf(e.Data))
			for _, f := range t.fields {
				if value.IsValid() && !value.FieldByIndex(f.index).IsZero() {
					list = append(list, subjectOf(value, f))
				}
			}
		}
	}
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	if len(list) > 0 && list[0] == "" {
		list = list[1:]
	}
	return list
}

// Readable implements [eventstore.SubjectSealer].
func (s *Sealer) Readable(ctx context.Context, subject string) (bool, error) {
	_, err := s.key(ctx, subject, s.keys.Find)
	if errors.Is(err, eventstore.ErrErased) {
		return false, nil
	}
	return err == nil, err
}

// sealedIn returns what is sealed of stored data, by field; nil if nothing is.
func sealedIn(data []byte) (map[string]sealed, error) {
	if !bytes.Contains(data, []byte(`"`+mark+`"`)) {
		return nil, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil || object[mark] == nil {
		return nil, nil
	}
	var fields map[string]sealed
	if err := json.Unmarshal(object[mark], &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return fields, nil
}

// Open implements [eventstore.Sealer].
func (s *Sealer) Open(ctx context.Context, r *eventstore.Recorded, data []byte) ([]byte, error) {
	fields, err := sealedIn(data)
	if err != nil {
		return nil, err
	}
	if fields == nil {
		return data, nil
	}
	if whole, ok := fields[""]; ok {
		return s.open(ctx, r.ID, "", whole)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(data, &object); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
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

func (s *Sealer) open(ctx context.Context, id eventstore.ID, field string, v sealed) ([]byte, error) {
	if v.Data == nil {
		return nil, fmt.Errorf("shred: %w before it was sealed", eventstore.ErrErased)
	}
	aead, err := s.cipher(ctx, v.subjects(), s.keys.Find)
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

// getter is Keys.Make or Keys.Find.
type getter = func(ctx context.Context, subject string) ([]byte, error)

// cipher returns what seals for subjects: with the key of one, or with a key derived from those of all, so that each is needed.
func (s *Sealer) cipher(ctx context.Context, subjects []string, get getter) (cipher.AEAD, error) {
	if len(subjects) == 1 {
		k, err := s.key(ctx, subjects[0], get)
		return k.aead, err
	}
	var keys, names []byte
	for _, subject := range subjects {
		k, err := s.key(ctx, subject, get)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k.key...)
		names = append(binary.AppendUvarint(names, uint64(len(subject))), subject...)
	}
	key, err := hkdf.Key(sha256.New, keys, nil, "levada shred "+string(names), KeyBytes)
	if err != nil {
		return nil, err
	}
	return newAEAD(key)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// key returns the key of a subject.
func (s *Sealer) key(ctx context.Context, subject string, get getter) (remembered, error) {
	now := time.Now()
	s.mu.Lock()
	k, ok := s.known[subject]
	shreds := s.shreds
	s.mu.Unlock()
	if ok && now.Before(k.until) {
		return k, nil
	}
	key, err := get(ctx, subject)
	if err != nil {
		return k, fmt.Errorf("shred: the key of a subject: %w", err)
	}
	if len(key) != KeyBytes {
		return k, fmt.Errorf("shred: a key of %d bytes, not %d", len(key), KeyBytes)
	}
	aead, err := newAEAD(key)
	if err != nil {
		return k, err
	}
	k = remembered{key, aead, now.Add(s.opt.Remember)}
	if s.opt.Remember > 0 {
		s.remember(subject, k, shreds)
	}
	return k, nil
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
	index   []int
	subject []int // the index of the field that holds the subject
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
		fields = append(fields, sealedField{name, f.Index, subject.Index})
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
