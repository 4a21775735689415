package pgstore

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
	"github.com/levada-go/levada/eventstore/internal/attributes"
)

// Append implements [driver.Store]. If ctx ends while the server is at it, the
// outcome is unknown.
func (s *store) Append(ctx context.Context, a driver.Append) driver.Result {
	if err := s.enter(ctx); err != nil {
		return driver.Result{Err: err}
	}
	defer s.exit()
	return s.appendBatch(ctx, []driver.Append{a})[0]
}

// AppendBatch implements [driver.Batcher] with one statement, in one round trip.
func (s *store) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	ctx = context.WithoutCancel(ctx)
	if err := s.enter(ctx); err != nil {
		return all(as, err)
	}
	defer s.exit()
	return s.appendBatch(ctx, as)
}

// all is the same error for every append.
func all(as []driver.Append, err error) []driver.Result {
	results := make([]driver.Result, len(as))
	for i := range results {
		results[i].Err = err
	}
	return results
}

func (s *store) appendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	results := make([]driver.Result, len(as))
	b := newBatch(len(as))
	for i := range as {
		if results[i].Err = s.fits(&as[i]); results[i].Err == nil {
			b.add(i, &as[i])
		}
	}
	if len(b.appends) == 0 {
		return results
	}
	st := newStatement(s.sql.append)
	b.addTo(st)
	var out outcome
	err := s.write(ctx, func(c *pgconn.PgConn) error { return query(ctx, c, st, out.read) })
	b.settle(&out, results, err)
	if err == nil && out.first > 0 {
		s.watch.appended()
	}
	return results
}

// write runs fn, which writes in a transaction of its own, and marks an error after
// which nobody knows whether it has.
func (s *store) write(ctx context.Context, fn func(c *pgconn.PgConn) error) error {
	c, err := s.pool.Acquire(ctx)
	if err != nil {
		return s.fault(err)
	}
	defer c.Release()
	err = fn(c.Conn().PgConn())
	if err == nil && s.opt.committed != nil {
		err = s.opt.committed()
	}
	return s.outcome(err)
}

// outcome marks an error after which nobody knows what was committed.
func (s *store) outcome(err error) error {
	if err == nil || refused(err) {
		return s.fault(err)
	}
	return fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, err)
}

// fits returns why an append can be no part of a batch.
func (s *store) fits(a *driver.Append) error {
	if len(a.Stream) > maxNameBytes {
		return fmt.Errorf("%w: stream name of %d bytes: more than %d", driver.ErrTooLarge, len(a.Stream), maxNameBytes)
	}
	if err := checkText(a.Stream); err != nil {
		return err
	}
	for i := range a.Events {
		if err := s.takes(&a.Events[i]); err != nil {
			return err
		}
	}
	return s.holds([]driver.Append{*a})
}

// holds returns why appends are too much for one.
func (s *store) holds(as []driver.Append) error {
	events, size := appends.Events(as), 0
	for i := range as {
		for k := range as[i].Events {
			size += as[i].Events[k].Size()
		}
	}
	switch {
	case events > maxAppendEvents:
		return fmt.Errorf("%w: %d events in one append: more than %d", driver.ErrTooLarge, events, maxAppendEvents)
	case size > s.limits.AppendBytes:
		return fmt.Errorf("%w: an append of %d bytes: more than %d", driver.ErrTooLarge, size, s.limits.AppendBytes)
	}
	return nil
}

// takes returns why an event cannot be stored.
func (s *store) takes(e *driver.Event) error {
	if n := e.Size(); n > s.limits.EventBytes {
		return fmt.Errorf("%w: an event of %d bytes: more than %d", driver.ErrTooLarge, n, s.limits.EventBytes)
	}
	if len(e.Type) > maxNameBytes {
		return fmt.Errorf("%w: type of %d bytes: more than %d", driver.ErrTooLarge, len(e.Type), maxNameBytes)
	}
	if err := errors.Join(checkText(e.Type), checkText(e.ContentType)); err != nil {
		return err
	}
	for _, t := range e.Tags {
		if len(t) > maxNameBytes {
			return fmt.Errorf("%w: tag of %d bytes: more than %d", driver.ErrTooLarge, len(t), maxNameBytes)
		}
	}
	return attributes.Check(e.Metadata, e.Tags)
}

var errText = errors.New("pgstore: names and types must be valid UTF-8 without NUL")

// checkText refuses what PostgreSQL cannot have as text.
func checkText(v string) error {
	if !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
		return errText
	}
	return nil
}

// A batch is the parameters of the function append, in the making. Numbers begin
// at 1. See migrations/0001_store.sql for what they mean.
type batch struct {
	appends []int // which of the caller's these are
	counts  []int

	streams numbered
	tags    numbered
	slots   map[int32]bool
	inline  bool // inline funcs take part: see inlineSlot

	appendStream []int32
	expected     []int64
	eventAppend  []int32
	eventNumber  []int32
	events       []*driver.Event
	markEvent    []int32
	markTag      []int32
}

func newBatch(n int) *batch {
	return &batch{appends: make([]int, 0, n), slots: map[int32]bool{}}
}

// batchParameters is how many addTo adds.
const batchParameters = 18

// typeSlots is how many locks the types of events share.
const typeSlots = 32

// typeSlot returns the lock of a type. It must be the same in every process.
func typeSlot(typ string) int32 {
	h := fnv.New32a()
	h.Write([]byte(typ))
	return int32(h.Sum32()%typeSlots) + 1
}

// add adds an append, whose number the caller gives.
func (b *batch) add(number int, a *driver.Append) {
	b.appends = append(b.appends, number)
	b.counts = append(b.counts, len(a.Events))
	b.appendStream = append(b.appendStream, b.streams.number(a.Stream))
	b.expected = append(b.expected, a.Expected)
	for i := range a.Events {
		e := &a.Events[i]
		b.events = append(b.events, e)
		b.eventAppend = append(b.eventAppend, int32(len(b.appends)))
		b.eventNumber = append(b.eventNumber, int32(i+1))
		b.slots[typeSlot(e.Type)] = true
		for k, t := range e.Tags {
			if slices.Contains(e.Tags[:k], t) {
				continue
			}
			b.markEvent = append(b.markEvent, int32(len(b.events)))
			b.markTag = append(b.markTag, b.tags.number(t))
		}
	}
}

// addTo adds the parameters to a statement.
func (b *batch) addTo(st *statement) {
	// What is locked must be in the order in which everybody locks it.
	streams, tags := b.streams.sort(), b.tags.sort()
	n := len(b.appends)
	at, expected, count := newArray(pgtype.Int4OID, n), newArray(pgtype.Int8OID, n), newArray(pgtype.Int4OID, n)
	for i := range n {
		at.int4(streams[b.appendStream[i]-1])
		expected.int8(b.expected[i])
		count.int4(int32(b.counts[i]))
	}
	n = len(b.events)
	id, correlation, causation := newArray(pgtype.UUIDOID, n), newArray(pgtype.UUIDOID, n), newArray(pgtype.UUIDOID, n)
	typ, content, metadata, tag := newArray(pgtype.TextOID, n), newArray(pgtype.TextOID, n), newArray(pgtype.TextOID, n), newArray(pgtype.TextOID, n)
	data := newArray(pgtype.ByteaOID, n)
	size := 0
	for _, e := range b.events {
		size += len(e.Data) + 4
	}
	data.b = slices.Grow(data.b, size)
	var none [16]byte
	uuid := func(a *array, v *[16]byte) {
		if *v == none {
			a.null()
		} else {
			a.bytes(v[:])
		}
	}
	var json []byte
	for _, e := range b.events {
		id.bytes(e.ID[:])
		uuid(correlation, &e.Correlation)
		uuid(causation, &e.Causation)
		typ.text(e.Type)
		content.text(e.ContentType)
		if len(e.Metadata) == 0 {
			metadata.null()
		} else {
			json = attributes.AppendMetadata(json[:0], e.Metadata)
			metadata.bytes(json)
		}
		if len(e.Tags) == 0 {
			tag.null()
		} else {
			json = attributes.AppendTags(json[:0], e.Tags)
			tag.bytes(json)
		}
		data.bytes(e.Data)
	}
	marks := make([]int32, len(b.markTag))
	for i, t := range b.markTag {
		marks[i] = tags[t-1]
	}
	st.texts(b.streams.names).ints(b.locks()).texts(b.tags.names)
	st.add(pgtype.Int4ArrayOID, at.done()).add(pgtype.Int8ArrayOID, expected.done()).add(pgtype.Int4ArrayOID, count.done())
	st.ints(b.eventAppend).ints(b.eventNumber)
	st.add(pgtype.UUIDArrayOID, id.done()).add(pgtype.UUIDArrayOID, correlation.done()).add(pgtype.UUIDArrayOID, causation.done())
	st.add(pgtype.TextArrayOID, typ.done()).add(pgtype.TextArrayOID, content.done())
	st.add(pgtype.TextArrayOID, metadata.done()).add(pgtype.TextArrayOID, tag.done()).add(pgtype.ByteaArrayOID, data.done())
	st.ints(b.markEvent).ints(marks)
}

// locks returns the type slots that the appends lock, in their order: those of their events shared.
func (b *batch) locks() []int32 {
	list := make([]int32, 0, len(b.slots)+1)
	for k := range b.slots {
		list = append(list, k)
	}
	return b.inOrder(list)
}

// inOrder sorts slots, of which those marked by a minus are locked alone. The turn of inline funcs
// comes before them.
func (b *batch) inOrder(list []int32) []int32 {
	slices.SortFunc(list, func(x, y int32) int { return int(max(x, -x) - max(y, -y)) })
	if b.inline {
		list = slices.Insert(list, 0, int32(-inlineSlot))
	}
	return list
}

// numbered gives numbers to distinct names, from 1 on.
type numbered struct {
	names []string
	by    map[string]int32
}

func (n *numbered) number(name string) int32 {
	if i, ok := n.by[name]; ok {
		return i
	}
	if n.by == nil {
		n.by = make(map[string]int32)
	}
	n.names = append(n.names, name)
	n.by[name] = int32(len(n.names))
	return n.by[name]
}

// sort sorts the names bytewise, and returns their new numbers by the old ones.
func (n *numbered) sort() []int32 {
	slices.Sort(n.names)
	moved := make([]int32, len(n.names))
	for i, name := range n.names {
		moved[n.by[name]-1] = int32(i + 1)
		n.by[name] = int32(i + 1)
	}
	return moved
}

// An outcome is what the function append returns.
type outcome struct {
	before, actual []int64
	first          uint64
	time           time.Time
	conflict       int64 // of append_if; of append_atomic the append that failed
}

func (o *outcome) read(row [][]byte) (err error) {
	if o.before, err = readInts(row[0]); err != nil {
		return err
	}
	if o.actual, err = readInts(row[1]); err != nil {
		return err
	}
	o.first = uint64(readInt(row[2]))
	o.time = readTime(row[3])
	if len(row) > 4 {
		o.conflict = readInt(row[4])
	}
	return nil
}

// settle says in results what became of the appends.
func (b *batch) settle(o *outcome, results []driver.Result, err error) {
	if err == nil && (len(o.before) != len(b.appends) || len(o.actual) != len(b.appends)) {
		err = fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, errWire)
	}
	positions := make([]uint64, len(b.events))
	for i := range positions {
		positions[i] = o.first + uint64(i)
	}
	for i, number := range b.appends {
		r, n := &results[number], b.counts[i]
		switch {
		case err != nil:
			r.Err = err
		case o.before[i] == -2:
			r.Err = driver.ErrStreamDeleted
		case o.before[i] == -1:
			r.Err = &driver.ConflictError{Actual: uint64(o.actual[i])}
		default:
			r.Version, r.Time = uint64(o.before[i])+uint64(n), o.time
			if n > 0 {
				r.Positions, positions = positions[:n:n], positions[n:]
				r.Last = r.Positions[n-1]
			}
		}
	}
}
