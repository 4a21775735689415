package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/levada-go/levada/eventstore/driver"
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

func (s *store) append(ctx context.Context, as []driver.Append, fn func(any, []driver.Recorded) error) []driver.Result {
	rs := make([]driver.Result, len(as))
	events := 0
	for i := range as {
		rs[i].Err = s.check(&as[i])
		events += len(as[i].Events)
	}
	if err := s.acquire(ctx); err != nil {
		return failed(rs, err)
	}
	defer s.release()
	if err := s.begin(); err != nil {
		return failed(rs, err)
	}
	done := false
	defer func() {
		if !done { // fn panicked
			s.rollback()
			s.forget()
		}
	}()
	w := s.writing(events)
	var err error
	for i := range as {
		if rs[i].Err != nil {
			continue
		}
		if err = s.appendOne(w, &as[i], &rs[i], fn); err != nil {
			break
		}
	}
	done = true
	if err == nil {
		err = s.finish(w)
	} else {
		s.rollback()
		s.forget()
	}
	if err != nil {
		return failed(unsettled(as, rs), err)
	}
	return rs
}

// unsettled takes back the conflicts of a batch that came to nothing, or may have,
// with appends of the same batch: what they conflicted with may not be there.
func unsettled(as []driver.Append, rs []driver.Result) []driver.Result {
	wrote := map[string]bool{}
	for i := range as {
		switch {
		case rs[i].Err == nil:
			wrote[as[i].Stream] = true
		case wrote[as[i].Stream] && errors.As(rs[i].Err, new(*driver.ConflictError)):
			rs[i].Err = nil
		}
	}
	return rs
}

// failed gives err to every append that has not failed by itself.
func failed(rs []driver.Result, err error) []driver.Result {
	for i := range rs {
		if rs[i].Err == nil {
			rs[i] = driver.Result{Err: err}
		}
	}
	return rs
}

// check refuses an append that no state of the store could take.
func (s *store) check(a *driver.Append) error {
	if a.Expected < driver.StreamExists {
		return fmt.Errorf("sqlitestore: expected version %d", a.Expected)
	}
	if err := s.checkStream(a.Stream); err != nil {
		return err
	}
	if n := len(a.Events); n > s.limits.AppendEvents {
		return fmt.Errorf("%w: %d events in one append, the limit is %d", driver.ErrTooLarge, n, s.limits.AppendEvents)
	}
	total := 0
	for i := range a.Events {
		n, err := s.checkEvent(&a.Events[i])
		if err != nil {
			return err
		}
		total += n
	}
	return s.checkTotal(total)
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
	return size, checkText(e.Metadata, e.Tags)
}

func (s *store) checkTotal(bytes int) error {
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
	s.entries, s.names, s.catNames = s.entries[:0], s.names[:0], s.catNames[:0]
	return &writing{
		view: s.current(), time: s.now(), last: s.last, lastID: s.lastStream,
		positions: make([]uint64, 0, events),
	}
}

// appendOne decides and writes one append. What is wrong with the append goes
// into r; an error ends the batch.
func (s *store) appendOne(w *writing, a *driver.Append, r *driver.Result, fn func(any, []driver.Recorded) error) error {
	h, err := s.head(w, a.Stream)
	if err != nil {
		return err
	}
	if r.Err = h.expect(a.Expected); r.Err != nil {
		return nil
	}
	before, at := *h, *w
	entries, names, catNames := len(s.entries), len(s.names), len(s.catNames)
	if fn != nil {
		if err := s.w.exec(stSavepoint); err != nil {
			return err
		}
	}
	if err := s.insert(w, h, a.Stream, a.Events); err != nil {
		return err
	}
	if fn != nil && len(a.Events) > 0 {
		refused := fn(s.w.Conn, recorded(w, h, a))
		if s.w.AutocommitEnabled() {
			return fmt.Errorf("sqlitestore: the function ended the transaction: %w", refused)
		}
		if refused != nil {
			if err := s.w.exec(stRollbackTo); err != nil {
				return err
			}
			s.unbind() // the stream's id may now go to another
			for _, n := range s.catNames[catNames:] {
				delete(s.categories, n.name)
			}
			s.entries, s.names, s.catNames = s.entries[:entries], s.names[:names], s.catNames[:catNames]
			*h, *w = before, at
			r.Err = refused
		}
	}
	if fn != nil {
		if err := s.w.exec(stRelease); err != nil {
			return err
		}
	}
	if r.Err == nil {
		r.Version = h.version
		r.Positions = w.positions[len(at.positions):len(w.positions):len(w.positions)]
		if n := len(r.Positions); n > 0 {
			r.Last = r.Positions[n-1]
			r.Time = time.UnixMicro(w.time).UTC()
		}
	}
	return nil
}

// recorded returns the events of the append just written, as readers will see
// them.
func recorded(w *writing, h *head, a *driver.Append) []driver.Recorded {
	rec := make([]driver.Recorded, len(a.Events))
	n := uint64(len(rec))
	for i := range rec {
		rec[i] = driver.Recorded{
			Event: a.Events[i], Stream: a.Stream,
			Version: h.version - n + uint64(i) + 1, Position: w.last - n + uint64(i) + 1,
			Time: time.UnixMicro(w.time).UTC(),
		}
	}
	return rec
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
			s.json = appendArray(s.json[:0], e.Tags)
			st.BindText(11, view2string(s.json))
		} else {
			st.BindNull(11)
		}
	}
	if len(e.Metadata) > 0 || b.hasMetadata {
		if b.hasMetadata = len(e.Metadata) > 0; b.hasMetadata {
			s.json = appendObject(s.json[:0], e.Metadata)
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
	if len(s.heads) >= maxHeads {
		n := 0
		for k := range s.heads {
			delete(s.heads, k)
			if n++; n == maxHeads/8 {
				break
			}
		}
	}
	s.heads[stream] = h
	return h, nil
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
	if len(s.categories) >= maxHeads {
		clear(s.categories)
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
