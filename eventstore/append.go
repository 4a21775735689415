package eventstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// An Appended says where an append ended.
type Appended struct {
	Version  Version  // of the stream, after the last event
	Position Position // of the last event
}

// Append appends events to stream, all or none. When it returns nil they are
// durable to the degree that the driver documents.
//
// If the stream is not as expected it returns a *[ConflictError] and nothing
// was written; unless expected is an exact version or NoStream and the very
// same events, by their IDs, stand at that place already: then it returns what
// the append that wrote them returned. If only some of them do, it is
// ErrDuplicate. That an ID is used in another stream or at another place is not
// detected. If it cannot be read what stands there, the error is ErrOutcomeUnknown:
// an earlier append of these events may have been made.
//
// It returns ErrNoEvents for no events, ErrInvalid for names that cannot be
// stored, ErrUnregistered for Data without a stored name, ErrCodec for Data that
// cannot be encoded, ErrTooLarge over one of the store's [Limits], ErrDuplicate
// for the same ID twice, ErrStreamDeleted for a purged stream, and ErrClosed
// after Close. In all these cases nothing was written.
//
// If ctx ends while the append waits for its turn, it is withdrawn and nothing
// is written. If ctx ends later, Append returns at once an error that is both
// ctx's and ErrOutcomeUnknown, and the commit goes on.
func (s *Store) Append(ctx context.Context, stream StreamName, expected Expected, events ...Event) (Appended, error) {
	if s.opt.Trace.AppendStart != nil {
		ctx = s.opt.Trace.AppendStart(ctx, AppendInfo{Stream: stream, Expected: expected, Events: len(events)})
	}
	at, err := s.append(ctx, stream, expected, events)
	if s.opt.Trace.AppendEnd != nil {
		s.opt.Trace.AppendEnd(ctx, at, err)
	}
	return at, err
}

func (s *Store) append(ctx context.Context, stream StreamName, expected Expected, events []Event) (Appended, error) {
	err := s.admits(len(events))
	var a prepared
	if err == nil {
		var size int
		a, err = s.prepare(ctx, stream, expected, events, &size)
	}
	if err == nil {
		err = distinct(len(events), func(i int) [16]byte { return a.Events[i].ID })
	}
	if err != nil {
		return Appended{}, fmt.Errorf("eventstore: append to %.80q: %w", string(stream), err)
	}
	if err := ctx.Err(); err != nil {
		return Appended{}, err
	}
	var res driver.Result
	if s.writer != nil {
		res = s.writer.append(ctx, a)
	} else {
		res = s.appendDirect(ctx, a)
	}
	if res.Err == nil {
		return Appended{Version(res.Version), Position(res.Last)}, nil
	}
	if c, ok := errors.AsType[*driver.ConflictError](res.Err); ok {
		conflict := &ConflictError{stream, expected, Version(c.Actual)}
		return s.appendedBefore(ctx, a.Append, conflict)
	}
	return Appended{}, fmt.Errorf("eventstore: append to %s: %w", stream, res.Err)
}

// A prepared append has its events encoded; data keeps their values for
// subscribers in this process, if there are any.
type prepared struct {
	driver.Append
	data  []any
	bytes int
}

// admits refuses appends of no events, or of more than the store takes, or once it is closed.
func (s *Store) admits(events int) error {
	switch {
	case s.closing.Load():
		return ErrClosed
	case events == 0:
		return ErrNoEvents
	case events > s.limits.AppendEvents:
		return fmt.Errorf("%w: %d events in one append: more than %d", ErrTooLarge, events, s.limits.AppendEvents)
	}
	return nil
}

// prepare encodes what one stream gets of an append, whose size grows by it.
func (s *Store) prepare(ctx context.Context, stream StreamName, expected Expected, events []Event, size *int) (prepared, error) {
	var a prepared
	if err := s.writable(ctx, stream); err != nil {
		return a, err
	}
	if expected < StreamExists {
		return a, fmt.Errorf("%w: expected version is none (%d): want at most %d", ErrInvalid, int64(expected), int64(math.MaxInt64))
	}
	a.Append = driver.Append{Stream: string(stream), Expected: int64(expected), Events: make([]driver.Event, len(events))}
	if s.tail.active.Load() {
		a.data = make([]any, len(events))
	}
	before := *size
	for i := range events {
		if err := s.encodeSized(ctx, &events[i], &a.Events[i], size); err != nil {
			return a, err
		}
		if a.data != nil {
			a.data[i] = events[i].Data
		}
	}
	a.bytes = *size - before
	return a, nil
}

// writable refuses stream names that users may not append to.
func (s *Store) writable(ctx context.Context, stream StreamName) error {
	if err := stream.Validate(); err != nil {
		return err
	}
	if len(stream) > s.limits.NameBytes {
		return fmt.Errorf("%w: stream name of %d bytes: more than %d", ErrInvalid, len(stream), s.limits.NameBytes)
	}
	if stream[0] == '$' && !system.Is(ctx) {
		return fmt.Errorf("%w: names that start with $ are reserved", ErrInvalid)
	}
	return nil
}

// distinct refuses an append of n events of which two have the same id.
func distinct(n int, id func(i int) [16]byte) error {
	if n <= 8 {
		for i := range n {
			for j := range i {
				if id(i) == id(j) {
					return fmt.Errorf("%w: %s twice in one append", ErrDuplicate, ID(id(i)))
				}
			}
		}
		return nil
	}
	seen := make(map[[16]byte]struct{}, n)
	for i := range n {
		if seen[id(i)] = struct{}{}; len(seen) != i+1 {
			return fmt.Errorf("%w: %s twice in one append", ErrDuplicate, ID(id(i)))
		}
	}
	return nil
}

// encodeSized encodes an event of an append, whose size grows by it.
func (s *Store) encodeSized(ctx context.Context, e *Event, out *driver.Event, size *int) error {
	if err := s.encode(ctx, e, out); err != nil {
		return err
	}
	n := out.Size()
	if n > s.limits.EventBytes {
		return fmt.Errorf("%w: a %s of %d bytes: more than %d", ErrTooLarge, out.Type, n, s.limits.EventBytes)
	}
	if *size += n; *size > s.limits.AppendBytes {
		return fmt.Errorf("%w: an append of more than %d bytes", ErrTooLarge, s.limits.AppendBytes)
	}
	return nil
}

func (s *Store) encode(ctx context.Context, e *Event, out *driver.Event) error {
	// The engine and readers in this process keep what they are given, while the
	// caller may go on writing to its own.
	*out = driver.Event{ID: e.ID, Type: e.Type, Correlation: e.Correlation, Causation: e.Causation}
	if len(e.Metadata) > 0 {
		out.Metadata = maps.Clone(e.Metadata)
	}
	if len(e.Tags) > 0 {
		out.Tags = slices.Clone(e.Tags)
	}
	if out.ID == (ID{}) {
		out.ID = NewID()
	}
	if e.Correlation == (ID{}) && e.Causation == (ID{}) { // it says nothing of where it comes from, so ctx does
		if r := FromContext(ctx); r != nil {
			out.Correlation, out.Causation = r.Correlation, r.ID
		}
		out.Metadata = traced(ctx, out.Metadata)
	}
	if err := s.labels(ctx, e); err != nil {
		return err
	}
	if e.Data == nil {
		return encodeRaw(e, out)
	}
	info := s.Types.load().byType[reflect.TypeOf(e.Data)]
	switch {
	case info == nil:
		if reflect.TypeOf(e.Data).Kind() == reflect.Pointer {
			return fmt.Errorf("%w %T: Data is a value, not a pointer to one", ErrUnregistered, e.Data)
		}
		return fmt.Errorf("%w %T: list it among an aggregate's Events, or give it a name by Store.Types.Register", ErrUnregistered, e.Data)
	case info.old:
		return fmt.Errorf("%w %T: it is an old form, kept for reading", ErrUnregistered, e.Data)
	case e.Type != "" && e.Type != info.name:
		return fmt.Errorf("%w: %T is stored as %q, not %q", ErrInvalid, e.Data, info.name, e.Type)
	}
	out.Type = info.name
	codec := s.opt.Codecs[0]
	out.ContentType = codec.ContentType()
	data, err := marshal(codec, e.Data)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCodec, info.name, err)
	}
	if s.opt.Verify {
		if err := verify(codec, info, e.Data, data); err != nil {
			return err
		}
	}
	if s.opt.Seal != nil {
		sealing := Event{ID: out.ID, Type: out.Type, Data: e.Data, Metadata: out.Metadata, Tags: out.Tags,
			Correlation: out.Correlation, Causation: out.Causation, ContentType: out.ContentType}
		if data, err = s.opt.Seal.Seal(ctx, &sealing, data); err != nil {
			return fmt.Errorf("%w: seal %s: %w", ErrCodec, info.name, err)
		}
		out.Metadata, out.Tags = sealing.Metadata, sealing.Tags
	}
	out.Data = data
	return nil
}

// marshal turns a panic in a user's marshaller into an error, so that it fails
// one append and not a whole queue.
func marshal(c Codec, v any) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			data, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return c.Marshal(v)
}

func verify(c Codec, info *typeInfo, v any, data []byte) error {
	got, err := info.decode(c, data)
	if err != nil {
		return fmt.Errorf("%w: %s does not survive encoding: %w", ErrCodec, info.name, err)
	}
	if !reflect.DeepEqual(got, v) {
		return fmt.Errorf("%w: %s does not survive encoding: %+v became %+v", ErrCodec, info.name, v, got)
	}
	return nil
}

func encodeRaw(e *Event, out *driver.Event) error {
	if e.Raw == nil {
		return fmt.Errorf("%w: an event with neither Data nor Raw", ErrInvalid)
	}
	if err := validName("type", e.Type); err != nil {
		return err
	}
	if err := validText("content type", e.ContentType); err != nil {
		return err
	}
	out.Data, out.ContentType = append([]byte{}, e.Raw...), e.ContentType
	return nil
}

// labels checks what is stored beside the data.
func (s *Store) labels(ctx context.Context, e *Event) error {
	for k, v := range e.Metadata {
		switch {
		case k == "" || !utf8.ValidString(k) || !utf8.ValidString(v):
			return fmt.Errorf("%w: metadata %.40q: want a key that is not empty, and valid UTF-8", ErrInvalid, k)
		case k[0] == '$' && !system.Is(ctx):
			return fmt.Errorf("%w: metadata %.40q: keys that start with $ are reserved", ErrInvalid, k)
		}
	}
	for i, t := range e.Tags {
		if err := validName("tag", t); err != nil {
			return err
		}
		for _, u := range e.Tags[:i] {
			if t == u {
				return fmt.Errorf("%w: tag %.40q twice on one event", ErrInvalid, t)
			}
		}
	}
	return nil
}

// appendedBefore decides whether a conflict is the echo of the same append.
func (s *Store) appendedBefore(ctx context.Context, a driver.Append, conflict *ConflictError) (Appended, error) {
	if !placed(a.Expected) || uint64(conflict.Actual) <= uint64(max(a.Expected, 0)) {
		return Appended{}, conflict
	}
	at, have, err := s.inPlace(ctx, a)
	switch {
	case err != nil:
		return Appended{}, undecided(conflict, err)
	case have == allOfIt:
		return at, nil
	case have == someOfIt:
		return Appended{}, fmt.Errorf("eventstore: append to %s: %w: some of its events are stored already", a.Stream, ErrDuplicate)
	}
	return Appended{}, conflict
}

// placed reports whether an expectation says at which versions the events will be.
func placed(expected int64) bool { return expected > 0 || expected == driver.NoStream }

// A standing says how much of an append is stored.
type standing uint8

const (
	noneOfIt standing = iota
	someOfIt
	allOfIt
)

// inPlace reports how much of an append stands where its expectation, which is placed, would
// put it, and where it ends if it is all of it.
func (s *Store) inPlace(ctx context.Context, a driver.Append) (at Appended, have standing, err error) {
	after := uint64(max(a.Expected, 0))
	if a.Expected == driver.NoStream {
		// What there is now began after the last deletion.
		info, err := s.d.Stream(ctx, a.Stream)
		if err != nil {
			return Appended{}, noneOfIt, err
		}
		after = info.Origin
	}
	events, err := s.d.ReadStream(ctx, a.Stream, after, driver.Forward, len(a.Events))
	if err != nil {
		return Appended{}, noneOfIt, err
	}
	stored := make(map[[16]byte]int, len(events))
	for i := range events {
		stored[events[i].ID] = i
	}
	same, some := len(events) == len(a.Events), false
	for i := range a.Events {
		j, ok := stored[a.Events[i].ID]
		some = some || ok
		same = same && ok && i == j
	}
	switch {
	case same:
		last := events[len(events)-1]
		return Appended{Version(last.Version), Position(last.Position)}, allOfIt, nil
	case some:
		return Appended{}, someOfIt, nil
	}
	return Appended{}, noneOfIt, nil
}

// undecided is the error of an append that conflicted, perhaps with itself: what
// stands in its place could not be read, because of err. It is no conflict, which
// would say that nothing was written.
func undecided(conflict *ConflictError, err error) error {
	if errors.Is(err, ErrStreamDeleted) {
		return fmt.Errorf("eventstore: append to %s: %w", conflict.Stream, err)
	}
	return fmt.Errorf("eventstore: append to %s: %w: it is at version %d: %w", conflict.Stream, ErrOutcomeUnknown, conflict.Actual, err)
}

// appendDirect appends on a driver that commits each append by itself.
func (s *Store) appendDirect(ctx context.Context, a prepared) driver.Result {
	return s.alone(ctx, func(ctx context.Context) driver.Result {
		var res driver.Result
		if fn := s.takingPart(); fn != nil {
			res = s.d.(driver.Inliner).AppendWith(ctx, []driver.Append{a.Append}, fn)[0]
		} else {
			res = s.d.Append(ctx, a.Append)
		}
		s.appended(&a, &res)
		return res
	})
}

// alone runs commit, an append that is committed by itself: not once the store is closing, which
// waits for it, nor once ctx has ended. The commit goes on when ctx ends later.
func (s *Store) alone(ctx context.Context, commit func(context.Context) driver.Result) driver.Result {
	s.direct.RLock()
	err := ctx.Err()
	if s.closing.Load() {
		err = ErrClosed
	}
	if err != nil {
		s.direct.RUnlock()
		return driver.Result{Err: err}
	}
	return s.await(ctx, func(ctx context.Context) driver.Result {
		defer s.direct.RUnlock()
		return commit(ctx)
	})
}

// await runs fn, which must not be interrupted, so that a caller whose ctx ends, or whose store
// is closed without waiting for it, is told at once: on the caller's goroutine if ctx cannot
// end, else on another.
func (s *Store) await(ctx context.Context, fn func(context.Context) driver.Result) driver.Result {
	if ctx.Done() == nil {
		return fn(ctx)
	}
	through := context.WithoutCancel(ctx)
	done := make(chan driver.Result, 1)
	go func() { done <- fn(through) }()
	select {
	case res := <-done:
		return res
	case <-ctx.Done():
		return driver.Result{Err: unknown(ctx)}
	case <-s.gone:
		return driver.Result{Err: errGone}
	}
}

// errGone is the error of a caller whose append was in the driver when the store was closed
// without waiting for it.
var errGone = fmt.Errorf("%w: %w", ErrOutcomeUnknown, ErrClosed)

// unknown is the error of a caller that left while its append was in the driver.
func unknown(ctx context.Context) error {
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, ctx.Err())
}

// appended spreads the news of an append that the driver has made.
func (s *Store) appended(a *prepared, res *driver.Result) {
	if res.Err != nil {
		return
	}
	if n := len(res.Positions); n > 0 {
		res.Last = res.Positions[n-1]
	}
	s.changed(StreamName(a.Stream), Version(res.Version))
	s.tail.appended(a, res)
}
