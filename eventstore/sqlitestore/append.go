package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/appends"
	"github.com/levada-go/levada/eventstore/internal/attributes"
	"zombiezen.com/go/sqlite"
)

func (s *store) Append(ctx context.Context, a driver.Append) driver.Result {
	return s.append(ctx, []driver.Append{a}, nil)[0]
}

// AppendBatch commits once for all of as.
func (s *store) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	return s.append(ctx, as, nil)
}

// AppendWith is AppendBatch with fn called inside the transaction; tx is a
// *sqlite.Conn. fn must neither commit nor roll back, nor touch the tables of
// the store.
func (s *store) AppendWith(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) []driver.Result {
	return s.append(ctx, as, fn)
}

// AppendAtomic commits once for all of as; tx of fn is what it is for AppendWith.
func (s *store) AppendAtomic(ctx context.Context, as []driver.Append, fn func(tx any, events []driver.Recorded) error) ([]driver.Result, error) {
	total := 0
	for i := range as {
		n, err := s.check(&as[i])
		if err != nil {
			return nil, err
		}
		total += n
	}
	if err := s.checkWhole(appends.Events(as), total); err != nil {
		return nil, err
	}
	return s.appendWhole(ctx, as, fn, func(w *writing) (refused, err error) {
		for i := range as {
			h, err := s.head(w, as[i].Stream)
			if err != nil {
				return nil, err
			}
			if err := h.expect(as[i].Expected); err != nil {
				var conflict *driver.ConflictError
				if errors.As(err, &conflict) {
					conflict.Stream = as[i].Stream
				}
				return err, nil
			}
		}
		return nil, nil
	})
}

func (s *store) append(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
	rs := make([]driver.Result, len(as))
	for i := range as {
		_, rs[i].Err = s.check(&as[i])
	}
	err := s.appending(ctx, appends.Events(as), func(w *writing) error {
		for i := range as {
			if rs[i].Err != nil {
				continue
			}
			h, err := s.head(w, as[i].Stream)
			if err != nil {
				return err
			}
			if rs[i].Err = h.expect(as[i].Expected); rs[i].Err != nil {
				continue
			}
			refused, err := s.insertWith(w, as[i:i+1], rs[i:i+1], fn)
			if err != nil {
				return err
			}
			if refused != nil {
				rs[i] = driver.Result{Err: refused}
			}
		}
		return nil
	})
	if err != nil {
		appends.Fail(as, rs, err)
	}
	return rs
}

// appendWhole makes all of as or none, in a transaction of its own. judge, called inside of it,
// says whether they are refused.
func (s *store) appendWhole(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error, judge func(*writing) (refused, err error)) ([]driver.Result, error) {
	rs := make([]driver.Result, len(as))
	var refused error
	err := s.appending(ctx, appends.Events(as), func(w *writing) (err error) {
		if refused, err = judge(w); refused == nil && err == nil {
			refused, err = s.insertWith(w, as, rs, fn)
		}
		return err
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	return rs, nil
}

// appending runs fn, which appends, in a transaction. If fn or the commit fails, what is
// remembered of streams is forgotten with what was written.
func (s *store) appending(ctx context.Context, events int, fn func(w *writing) error) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	if err := s.begin(); err != nil {
		return err
	}
	good := false
	defer func() {
		if !good { // fn panicked, too
			s.rollback()
			s.forget()
		}
	}()
	w := s.writing(events)
	if err := fn(w); err != nil {
		return err
	}
	good = true
	return s.finish(w)
}

// check refuses an append that no state of the store could take.
func (s *store) check(a *driver.Append) (size int, err error) {
	if a.Expected < driver.StreamExists {
		return 0, fmt.Errorf("sqlitestore: expected version %d", a.Expected)
	}
	if err := s.checkStream(a.Stream); err != nil {
		return 0, err
	}
	for i := range a.Events {
		n, err := s.checkEvent(&a.Events[i])
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, s.checkWhole(len(a.Events), size)
}

func (s *store) checkStream(name string) error {
	if name == "" {
		return errNoName
	}
	if len(name) > s.limits.NameBytes {
		return fmt.Errorf("%w: a stream name of %d bytes, the limit is %d", driver.ErrTooLarge, len(name), s.limits.NameBytes)
	}
	return nil
}

func (s *store) checkEvent(e *driver.Event) (size int, err error) {
	size = e.Size()
	if size > s.limits.EventBytes {
		return 0, fmt.Errorf("%w: an event of %d bytes, the limit is %d", driver.ErrTooLarge, size, s.limits.EventBytes)
	}
	return size, attributes.Check(e.Metadata, e.Tags)
}

// checkWhole refuses what is too much for one append.
func (s *store) checkWhole(events, bytes int) error {
	if events > s.limits.AppendEvents {
		return fmt.Errorf("%w: %d events in one append, the limit is %d", driver.ErrTooLarge, events, s.limits.AppendEvents)
	}
	if bytes > s.limits.AppendBytes {
		return fmt.Errorf("%w: an append of %d bytes, the limit is %d", driver.ErrTooLarge, bytes, s.limits.AppendBytes)
	}
	return nil
}

// A writing is a transaction that appends. What it will add to memory once it
// is durable is in the store's entries, names and catNames.
type writing struct {
	view      view
	time      int64
	last      uint64
	lastID    int64
	bytes     int
	positions []uint64 // of all events of the batch
	insert    *sqlite.Stmt
}

func (s *store) writing(events int) *writing {
	s.trim()
	s.entries, s.names, s.catNames = s.entries[:0], s.names[:0], s.catNames[:0]
	return &writing{
		view: s.current(), time: s.now(), last: s.last, lastID: s.lastStream,
		positions: make([]uint64, 0, events),
	}
}

// insertWith writes appends, whose expectations hold, and calls fn, if there is one, with all of
// their events. refused is the error of fn: then everything is as it was before. err ends the
// transaction.
func (s *store) insertWith(w *writing, as []driver.Append, rs []driver.Result, fn func(any, []driver.Recorded) error) (refused, err error) {
	if fn == nil {
		return nil, s.insertAll(w, as, rs)
	}
	undo, err := s.undo(w, as)
	if err != nil {
		return nil, err
	}
	if err := s.w.exec(stSavepoint); err != nil {
		return nil, err
	}
	if err := s.insertAll(w, as, rs); err != nil {
		return nil, err
	}
	if events := appends.Recorded(as, rs); len(events) > 0 {
		refused = fn(s.w.Conn, events)
		if s.w.AutocommitEnabled() {
			s.stale = true // it may have committed
			return nil, fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, errors.Join(errEnded, refused))
		}
		if refused != nil {
			if err := s.w.exec(stRollbackTo); err != nil {
				return nil, err
			}
			undo()
		}
	}
	return refused, s.w.exec(stRelease)
}

var errEnded = errors.New("sqlitestore: the function ended the transaction")

// undo returns a func that makes what is remembered as it is now, after appends.
func (s *store) undo(w *writing, as []driver.Append) (func(), error) {
	at, entries, names, catNames := *w, len(s.entries), len(s.names), len(s.catNames)
	before := make([]head, len(as))
	heads := make([]*head, len(as))
	for i := range as {
		h, err := s.head(w, as[i].Stream)
		if err != nil {
			return nil, err
		}
		heads[i], before[i] = h, *h
	}
	return func() {
		s.unbind() // the id of a stream may now go to another
		for _, n := range s.catNames[catNames:] {
			delete(s.categories, n.name)
		}
		s.entries, s.names, s.catNames = s.entries[:entries], s.names[:names], s.catNames[:catNames]
		*w = at
		for i, h := range heads {
			*h = before[i]
		}
	}, nil
}

// insertAll writes appends.
func (s *store) insertAll(w *writing, as []driver.Append, rs []driver.Result) error {
	for i := range as {
		h, err := s.head(w, as[i].Stream)
		if err != nil {
			return err
		}
		from := len(w.positions)
		if err := s.insert(w, h, as[i].Stream, as[i].Events); err != nil {
			return err
		}
		r := driver.Result{Version: h.version, Positions: w.positions[from:len(w.positions):len(w.positions)]}
		if n := len(r.Positions); n > 0 {
			r.Last = r.Positions[n-1]
			r.Time = time.UnixMicro(w.time).UTC()
		}
		rs[i] = r
	}
	return nil
}

// expect returns nil if a stream is as it is expected.
func (h *head) expect(expected int64) error {
	if h.purged {
		return driver.ErrStreamDeleted
	}
	var at uint64 // a deleted stream counts as absent
	if h.exists() {
		at = h.version
	}
	switch {
	case expected == driver.Any,
		expected == driver.NoStream && at == 0,
		expected == driver.StreamExists && at > 0,
		expected > 0 && uint64(expected) == at:
		return nil
	}
	return &driver.ConflictError{Actual: at}
}

// insert writes events at the end of a stream.
func (s *store) insert(w *writing, h *head, stream string, events []driver.Event) error {
	if len(events) == 0 {
		return nil
	}
	if h.id == 0 {
		w.lastID++
		h.id = w.lastID
		s.names = append(s.names, began{stream, h.id})
	}
	if h.category == 0 {
		name := driver.Category(stream)
		id, err := s.category(w, name)
		if err != nil {
			return err
		}
		if id == 0 {
			id = h.id
			s.categories[name] = id
			s.catNames = append(s.catNames, began{name, id})
		}
		h.category = id
	}
	if w.insert == nil {
		st, err := s.w.stmt(stInsertEvent)
		if err != nil {
			return err
		}
		w.insert = st
	}
	s.bound.bindTime(w.insert, w.time)
	for i := range events {
		e := &events[i]
		w.last++
		h.version++
		if err := s.insertEvent(w.insert, w.last, h, stream, e); err != nil {
			return err
		}
		w.bytes += e.Size() + len(stream)
		w.positions = append(w.positions, w.last)
		s.entries = append(s.entries, entry{position: w.last, version: h.version, stream: h.id, category: h.category, tags: e.Tags})
	}
	return nil
}

// bound is what is bound to the insert statement: values that repeat from one
// event to the next are not bound again.
type bound struct {
	time                   int64
	stream                 int64
	typ, contentType       string
	hasType, hasContent    bool
	correlation, causation [16]byte
	hasTags, hasMetadata   bool
}

func (b *bound) bindTime(st *sqlite.Stmt, t int64) {
	if b.time != t {
		st.BindInt64(4, t)
		b.time = t
	}
}

// unbind forgets what is bound to the insert statement.
func (s *store) unbind() {
	if st := s.w.stmts[stInsertEvent]; st != nil {
		_ = st.ClearBindings()
	}
	s.bound = bound{}
}

const jsonContent = "application/json"

func (s *store) insertEvent(st *sqlite.Stmt, position uint64, h *head, stream string, e *driver.Event) error {
	b := &s.bound
	st.BindInt64(1, int64(position))
	if b.stream != h.id {
		st.BindInt64(2, h.id)
		st.BindText(6, stream)
		b.stream = h.id
	}
	st.BindInt64(3, int64(h.version))
	st.BindBytes(5, e.ID[:])
	if !b.hasType || b.typ != e.Type {
		st.BindText(7, e.Type)
		b.typ, b.hasType = e.Type, true
	}
	if !b.hasContent || b.contentType != e.ContentType {
		if e.ContentType == jsonContent {
			st.BindNull(8)
		} else {
			st.BindText(8, e.ContentType)
		}
		b.contentType, b.hasContent = e.ContentType, true
	}
	bindID(st, 9, &b.correlation, &e.Correlation)
	bindID(st, 10, &b.causation, &e.Causation)
	if len(e.Tags) > 0 || b.hasTags {
		if b.hasTags = len(e.Tags) > 0; b.hasTags {
			s.json = attributes.AppendTags(s.json[:0], e.Tags)
			st.BindText(11, view2string(s.json))
		} else {
			st.BindNull(11)
		}
	}
	if len(e.Metadata) > 0 || b.hasMetadata {
		if b.hasMetadata = len(e.Metadata) > 0; b.hasMetadata {
			s.json = attributes.AppendMetadata(s.json[:0], e.Metadata)
			st.BindText(12, view2string(s.json))
		} else {
			st.BindNull(12)
		}
	}
	switch {
	case e.Data == nil:
		st.BindNull(13)
	case isText(e.Data):
		st.BindText(13, view2string(e.Data))
	default:
		st.BindBytes(13, e.Data)
	}
	return finish(st)
}

// bindID binds an id, NULL if it is zero; a statement begins with all NULL.
func bindID(st *sqlite.Stmt, param int, bound, id *[16]byte) {
	if *bound == *id {
		return
	}
	if *id == [16]byte{} {
		st.BindNull(param)
	} else {
		st.BindBytes(param, id[:])
	}
	*bound = *id
}

// isText reports whether data may be stored as TEXT and read back as it was.
func isText(data []byte) bool {
	for _, c := range data {
		if c == 0 {
			return false
		}
	}
	return utf8.Valid(data)
}

// view2string returns b as a string that is valid until b is modified: BindText
// copies it.
func view2string(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// head returns what is known of a stream; the zero head if there is none.
func (s *store) head(w *writing, stream string) (*head, error) {
	if h := s.heads[stream]; h != nil {
		return h, nil
	}
	h, err := s.lookupHead(s.w, &w.view, stream)
	if err != nil {
		return nil, err
	}
	s.heads[stream] = h
	return h, nil
}

// trim forgets some of what is remembered of streams, if that is too much. It must not be
// done within a transaction: what that has written is remembered nowhere else.
func (s *store) trim() {
	if n := len(s.heads) - s.opt.heads; n >= 0 {
		n += s.opt.heads / 8
		for k := range s.heads {
			delete(s.heads, k)
			if n--; n < 0 {
				break
			}
		}
	}
	if len(s.categories) >= s.opt.heads {
		clear(s.categories)
	}
}

// lookupHead reads what a view tells of a stream. It leaves the category out.
func (s *store) lookupHead(c *conn, v *view, stream string) (*head, error) {
	h := &head{first: 1}
	id, err := s.streamID(c, v, stream)
	if err != nil || id == 0 {
		return h, err
	}
	h.id = id
	first, pos := s.tailStream(v, id)
	if len(pos) > 0 {
		h.version = first + uint64(len(pos)) - 1
		if first == 1 {
			return h, nil // it began in the tail: nothing of it was ever removed
		}
	}
	err = c.row(stState, func(st *sqlite.Stmt) {
		h.first = uint64(st.ColumnInt64(0))
		h.version = max(h.version, uint64(st.ColumnInt64(1)))
		h.deletedAt = uint64(st.ColumnInt64(2))
		h.purged = st.ColumnInt64(3) != 0
	}, id)
	if err != nil {
		return nil, err
	}
	if len(pos) == 0 {
		err = c.row(stVersion, func(st *sqlite.Stmt) { h.version = max(h.version, uint64(st.ColumnInt64(0))) }, id)
	}
	return h, err
}

// category returns the id of a category, 0 if it has none yet.
func (s *store) category(w *writing, name string) (int64, error) {
	if id, ok := s.categories[name]; ok {
		return id, nil
	}
	id, err := s.categoryID(s.w, &w.view, name)
	if err != nil || id == 0 {
		return 0, err
	}
	s.categories[name] = id
	return id, nil
}

// finish merges a slice, commits, and shows the events to readers.
func (s *store) finish(w *writing) error {
	if len(s.entries) == 0 {
		// Nothing to write but, with AppendWith, what fn wrote for no event.
		return s.endEmpty()
	}
	merged, err := s.mergeSome(len(s.entries))
	if err != nil {
		s.rollback()
		s.forget()
		return err
	}
	if err := s.commit(); err != nil {
		return err
	}
	s.last, s.lastStream, s.lastTime = w.last, w.lastID, w.time
	s.mu.Lock()
	s.retire()
	g := s.growing()
	for i := range s.entries {
		g.add(&s.entries[i])
	}
	for _, n := range s.names {
		g.names[n.name] = n.id
	}
	for _, n := range s.catNames {
		g.catNames[n.name] = n.id
	}
	g.lastStream = w.lastID
	s.view.head = s.last
	if g.events >= s.opt.unmerged && s.merge == nil {
		s.freeze()
	}
	s.wakeAll()
	s.mu.Unlock()
	clear(s.entries) // lets go of the tags
	s.wrote(w.bytes, merged)
	return nil
}

// endEmpty ends a transaction that wrote nothing.
func (s *store) endEmpty() error {
	err := s.w.exec(stRollback)
	if err != nil {
		s.rollback()
		s.forget()
	}
	return err
}
