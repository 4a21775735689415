package pgstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/levada-go/levada/eventstore/driver"
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
	switch {
	case len(a.Stream) > maxNameBytes:
		return fmt.Errorf("%w: stream name of %d bytes: more than %d", driver.ErrTooLarge, len(a.Stream), maxNameBytes)
	case len(a.Events) > maxAppendEvents:
		return fmt.Errorf("%w: %d events in one append: more than %d", driver.ErrTooLarge, len(a.Events), maxAppendEvents)
	}
	if err := checkText(a.Stream); err != nil {
		return err
	}
	size := 0
	for i := range a.Events {
		if err := s.takes(&a.Events[i]); err != nil {
			return err
		}
		size += a.Events[i].Size()
	}
	if size > s.limits.AppendBytes {
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
		if err := checkText(t); err != nil {
			return err
		}
	}
	for k, v := range e.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) { // a NUL is escaped
			return errText
		}
	}
	return nil
}

var errText = errors.New("pgstore: names, types, tags and metadata must be valid UTF-8, and all but metadata without NUL")

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
	for _, e := range b.events {
		id.bytes(e.ID[:])
		uuid(correlation, &e.Correlation)
		uuid(causation, &e.Causation)
		typ.text(e.Type)
		content.text(e.ContentType)
		if len(e.Metadata) == 0 {
			metadata.null()
		} else {
			metadata.bytes(toJSON(e.Metadata))
		}
		if len(e.Tags) == 0 {
			tag.null()
		} else {
			tag.bytes(toJSON(e.Tags))
		}
		data.bytes(e.Data)
	}
	marks := make([]int32, len(b.markTag))
	for i, t := range b.markTag {
		marks[i] = tags[t-1]
	}
	st.texts(b.streams.names).ints(sortedKeys(b.slots)).texts(b.tags.names)
	st.add(pgtype.Int4ArrayOID, at.done()).add(pgtype.Int8ArrayOID, expected.done()).add(pgtype.Int4ArrayOID, count.done())
	st.ints(b.eventAppend).ints(b.eventNumber)
	st.add(pgtype.UUIDArrayOID, id.done()).add(pgtype.UUIDArrayOID, correlation.done()).add(pgtype.UUIDArrayOID, causation.done())
	st.add(pgtype.TextArrayOID, typ.done()).add(pgtype.TextArrayOID, content.done())
	st.add(pgtype.TextArrayOID, metadata.done()).add(pgtype.TextArrayOID, tag.done()).add(pgtype.ByteaArrayOID, data.done())
	st.ints(b.markEvent).ints(marks)
}

// toJSON encodes metadata, or tags.
func toJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return b
}

func sortedKeys(m map[int32]bool) []int32 {
	keys := make([]int32, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
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
	conflict       int64 // of append_if
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

// AppendWith implements [driver.Inliner]. The handle is a pgx.Tx at a savepoint,
// which fn may use as it likes but must neither commit nor roll back. The events have
// taken their positions by then, so that readers of the log wait for the end of the
// transaction, and so do appends to the same streams.
func (s *store) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	ctx = context.WithoutCancel(ctx)
	if err := s.enter(ctx); err != nil {
		return all(as, err)
	}
	defer s.exit()
	results := make([]driver.Result, len(as))
	whole := newBatch(len(as))
	for i := range as {
		if results[i].Err = s.fits(&as[i]); results[i].Err == nil {
			whole.add(i, &as[i])
		}
	}
	if len(whole.appends) == 0 {
		return results
	}
	err := s.inline(ctx, whole, as, results, fn)
	if err != nil {
		undo(as, results, err)
		return results
	}
	s.watch.appended()
	return results
}

// undo gives the error of a commit to the appends that were part of it, and to those
// that conflicted with one of these: they were judged by what may not be there.
func undo(as []driver.Append, results []driver.Result, err error) {
	wrote := map[string]bool{}
	for i := range results {
		var conflict *driver.ConflictError
		switch {
		case results[i].Err == nil:
			wrote[as[i].Stream] = true
			results[i] = driver.Result{Err: err}
		case wrote[as[i].Stream] && errors.As(results[i].Err, &conflict):
			results[i].Err = err
		}
	}
}

// inline runs the appends of a batch one by one in a transaction. An error concerns
// those that have none of their own.
func (s *store) inline(ctx context.Context, whole *batch, as []driver.Append, results []driver.Result, fn func(tx any, events []driver.Recorded) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.ReadCommitted})
	if err != nil {
		return s.fault(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	// All that the appends lock, in the order in which everybody does, and first their turn.
	whole.streams.sort()
	whole.tags.sort()
	slots := append([]int32{-inlineSlot}, sortedKeys(whole.slots)...)
	lock := newStatement(s.sql.lock).ints(slots).texts(whole.tags.names).texts(whole.streams.names)
	if err := query(ctx, tx.Conn().PgConn(), lock, nil); err != nil {
		return s.fault(err)
	}
	state := &inlineState{}
	for _, i := range whole.appends {
		if err := s.inlineOne(ctx, tx, state, &as[i], &results[i], fn); err != nil {
			return s.fault(err) // nothing was committed
		}
	}
	err = tx.Commit(ctx)
	if err == nil && s.opt.committed != nil {
		err = s.opt.committed()
	}
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	return s.outcome(err)
}

// inlineOne is one append of AppendWith. An error ends them all.
func (s *store) inlineOne(ctx context.Context, tx pgx.Tx, state *inlineState, a *driver.Append, r *driver.Result, fn func(tx any, events []driver.Recorded) error) error {
	point, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	b := newBatch(1)
	b.add(0, a)
	st := newStatement(s.sql.append)
	b.addTo(st)
	var out outcome
	if err := query(ctx, point.Conn().PgConn(), st, out.read); err != nil {
		return err
	}
	results := make([]driver.Result, 1)
	b.settle(&out, results, nil)
	*r = results[0]
	if r.Err == nil && len(a.Events) > 0 {
		if err := fn(&appendTx{guest{point}, r.Positions[0], state}, recorded(a, r)); err != nil {
			*r = driver.Result{Err: err}
		}
	}
	if r.Err != nil {
		return point.Rollback(ctx)
	}
	if err := point.Commit(ctx); err != nil {
		// fn went on after one of its statements had failed.
		*r = driver.Result{Err: fmt.Errorf("pgstore: inline: %w", err)}
		return point.Rollback(ctx)
	}
	if len(r.Positions) > 0 {
		state.keep(r.Positions)
	}
	return nil
}

// recorded returns the events of an append as readers will see them.
func recorded(a *driver.Append, r *driver.Result) []driver.Recorded {
	events := make([]driver.Recorded, len(a.Events))
	for i := range a.Events {
		e := a.Events[i]
		if len(e.Data) == 0 {
			e.Data = nil
		}
		if len(e.Metadata) == 0 {
			e.Metadata = nil
		}
		if len(e.Tags) == 0 {
			e.Tags = nil
		}
		events[i] = driver.Recorded{Event: e, Stream: a.Stream, Version: r.Version - uint64(len(a.Events)-1-i), Position: r.Positions[i], Time: r.Time}
	}
	return events
}

// AppendIf implements [driver.Conditional].
func (s *store) AppendIf(ctx context.Context, items []driver.QueryItem, after uint64, events []driver.StreamEvent, fn func(tx any, events []driver.Recorded) error) driver.Result {
	if err := s.enter(ctx); err != nil {
		return driver.Result{Err: err}
	}
	defer s.exit()
	as := runs(events)
	b := newBatch(len(as))
	for i := range as {
		if err := s.fits(&as[i]); err != nil {
			return driver.Result{Err: err}
		}
		b.add(i, &as[i])
	}
	if len(events) > maxAppendEvents {
		return driver.Result{Err: fmt.Errorf("%w: %d events in one append: more than %d", driver.ErrTooLarge, len(events), maxAppendEvents)}
	}
	st := conditional(s, items, after, b)
	var out outcome
	err := s.write(ctx, func(c *pgconn.PgConn) error { return query(ctx, c, st, out.read) })
	if err == nil && out.conflict != 0 {
		return driver.Result{Err: &driver.ConflictError{Actual: uint64(out.conflict)}}
	}
	results := make([]driver.Result, len(as))
	b.settle(&out, results, err)
	var r driver.Result
	for i := range results {
		if results[i].Err != nil {
			return driver.Result{Err: results[i].Err}
		}
		r.Positions = append(r.Positions, results[i].Positions...)
		r.Last, r.Version, r.Time = results[i].Last, results[i].Version, results[i].Time
	}
	if err == nil && len(r.Positions) > 0 {
		s.watch.appended()
	}
	return r
}

// conditional is the statement that appends a batch under a condition.
func conditional(s *store, items []driver.QueryItem, after uint64, b *batch) *statement {
	c := newCondition(items)
	st := newStatement(s.sql.appendIf).add(pgtype.JSONOID, c.json()).position(after).ints(c.slots(b)).texts(c.tags.names)
	b.addTo(st)
	return st
}

// runs makes an append of each run of events of one stream.
func runs(events []driver.StreamEvent) (as []driver.Append) {
	for i := range events {
		e := &events[i]
		if n := len(as); n == 0 || as[n-1].Stream != e.Stream {
			as = append(as, driver.Append{Stream: e.Stream, Expected: driver.Any})
		}
		a := &as[len(as)-1]
		a.Events = append(a.Events, e.Event)
	}
	return as
}

// A condition is the items under which nothing must lie above a position.
type condition struct {
	items []driver.QueryItem
	tags  numbered
	all   bool // one of them selects everything
}

// newCondition leaves out what can select nothing.
func newCondition(items []driver.QueryItem) *condition {
	c := &condition{}
	for _, q := range items {
		if slices.ContainsFunc(q.Tags, func(t string) bool { return !storable(t) }) {
			continue
		}
		if len(q.Types) > 0 {
			q.Types = slices.DeleteFunc(slices.Clone(q.Types), func(t string) bool { return !storable(t) })
			if len(q.Types) == 0 {
				continue
			}
		}
		for _, t := range q.Tags {
			c.tags.number(t)
		}
		c.all = c.all || len(q.Types)+len(q.Tags) == 0
		c.items = append(c.items, q)
	}
	return c
}

// slots returns the type slots that the append locks: those of items without tags
// alone, marked by a minus, those of its events with others, in their order.
func (c *condition) slots(b *batch) []int32 {
	slots := map[int32]int32{}
	for k := range b.slots {
		slots[k] = k
	}
	for _, q := range c.items {
		if len(q.Tags) == 0 {
			for _, t := range q.Types {
				slots[typeSlot(t)] = -typeSlot(t)
			}
		}
	}
	if c.all {
		for k := range int32(typeSlots) {
			slots[k+1] = -(k + 1)
		}
	}
	list := make([]int32, 0, len(slots))
	for _, k := range slots {
		list = append(list, k)
	}
	slices.SortFunc(list, func(x, y int32) int { return int(max(x, -x) - max(y, -y)) })
	return list
}

// json returns the items for the function find.
func (c *condition) json() []byte {
	type item struct {
		Types []string `json:"types,omitempty"`
		Tags  []int32  `json:"tags,omitempty"`
	}
	list := make([]item, len(c.items))
	for i, q := range c.items {
		list[i].Types = q.Types
		for k, t := range q.Tags {
			if !slices.Contains(q.Tags[:k], t) {
				list[i].Tags = append(list[i].Tags, c.tags.number(t))
			}
		}
	}
	return toJSON(list)
}
