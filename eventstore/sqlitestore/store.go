package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/filelock"
	"zombiezen.com/go/sqlite"
)

// A store is the driver. In a process that writes, whoever has the turn owns
// the writing connection and all that is remembered of streams; readers share
// only what mu guards. In a process that reads, there is no turn, and readers
// bring what mu guards up to date themselves.
type store struct {
	path   string // of the database file, without symbolic links
	opt    Options
	limits driver.Limits
	lock   *filelock.Lock // nil if read-only
	db     *DB
	pool   *pool
	gate   gate
	done   chan struct{} // closed by Close

	// Of the one who has the turn.
	turn       chan struct{} // holds one value while somebody has it
	w          *conn
	last       uint64 // the last position given out
	lastStream int64  // the highest stream id given out
	lastTime   int64  // the time of the last event
	heads      map[string]*head
	categories map[string]int64
	merge      *merge // of the frozen segment; nil if there is none
	stale      bool   // memory may differ from the file: an outcome is unknown
	entries    []entry
	names      []began
	catNames   []began
	json       []byte
	bound      bound
	copying    copying

	mu      sync.RWMutex
	view    view
	waiting int
	wake    chan struct{} // closed, if anybody waits, when head has moved
	probing sync.Mutex    // guards probe and dataVer
	probe   *conn         // looks for changes in a reader process
	dataVer int64         // the change counter up to which nothing was found
	reading sync.RWMutex  // held shared by short reads, and to end the write-ahead log
	catchUp sync.Mutex    // held to extend the view in a reader process
}

// Capabilities beyond driver.Store.
var (
	_ driver.Store        = (*store)(nil)
	_ driver.Batcher      = (*store)(nil)
	_ driver.Inliner      = (*store)(nil)
	_ driver.Atomic       = (*store)(nil)
	_ driver.Lister       = (*store)(nil)
	_ driver.Deleter      = (*store)(nil)
	_ driver.Dater        = (*store)(nil)
	_ driver.Snapshotter  = (*store)(nil)
	_ driver.Checkpointer = (*store)(nil)
	_ driver.Leaser       = (*store)(nil)
	_ driver.Conditional  = (*store)(nil)
	_ driver.Viewer       = (*store)(nil)
)

// A head is what the writer remembers of a stream.
type head struct {
	id, category int64
	version      uint64
	first        uint64 // first version that can be read
	deletedAt    uint64 // the version at which it was deleted
	purged       bool
}

func (h *head) exists() bool { return h.version > 0 && h.version != h.deletedAt && !h.purged }

// maxHeads bounds the heads remembered between transactions; beyond it some are forgotten.
const maxHeads = 1 << 18

// began is a stream, or a category, that begins in the batch at hand.
type began struct {
	name string
	id   int64
}

func (s *store) Limits() driver.Limits { return s.limits }

func (s *store) Close() error {
	first := s.gate.close()
	if first {
		close(s.done)
	}
	s.gate.in.Wait()
	if !first {
		return nil
	}
	var errs []error
	if s.w != nil {
		if !s.opt.leaveUnmerged {
			errs = append(errs, s.mergeAll())
		}
	}
	if s.probe != nil {
		errs = append(errs, s.probe.Close())
	}
	errs = append(errs, s.copying.close(), s.pool.close(), s.db.close())
	if s.w != nil {
		errs = append(errs, s.w.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
	}
	return errors.Join(errs...)
}

func (s *store) Head(ctx context.Context) (head uint64, err error) {
	if !s.opt.ReadOnly {
		if err := s.gate.enter(); err != nil {
			return 0, err
		}
		defer s.gate.leave()
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.view.head, ctx.Err()
	}
	err = s.read(ctx, func(_ *conn, v *view) error {
		head = v.head
		return nil
	})
	return head, err
}

// Wait returns when the head is above after. In a process that writes it is
// woken by the append; in one that reads it looks at the file's change counter
// every few milliseconds, and all that wait share the look.
func (s *store) Wait(ctx context.Context, after uint64) error {
	select {
	case <-s.done:
		return driver.ErrClosed
	default:
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.opt.ReadOnly {
		return s.waitFile(ctx, after)
	}
	s.mu.Lock()
	if s.view.head > after {
		s.mu.Unlock()
		return nil
	}
	s.waiting++
	wake := s.wake
	s.mu.Unlock()
	select {
	case <-wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return driver.ErrClosed
	}
}

// wakeAll wakes all that wait. mu is held.
func (s *store) wakeAll() {
	if s.waiting > 0 {
		s.waiting = 0
		close(s.wake)
		s.wake = make(chan struct{})
	}
}

// How often a reader process looks for what the writer has written.
const (
	minProbe = time.Millisecond
	maxProbe = 25 * time.Millisecond
)

func (s *store) waitFile(ctx context.Context, after uint64) error {
	timer := time.NewTimer(minProbe)
	defer timer.Stop()
	for pause := minProbe; ; pause = min(2*pause, maxProbe) {
		moved, err := s.moved(after)
		if err != nil || moved {
			return err
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.done:
			return driver.ErrClosed
		}
	}
}

// moved reports whether the file may hold an event above after.
func (s *store) moved(after uint64) (bool, error) {
	if err := s.gate.enter(); err != nil {
		return false, err
	}
	defer s.gate.leave()
	s.mu.RLock()
	head := s.view.head
	s.mu.RUnlock()
	if head > after {
		return true, nil
	}
	s.probing.Lock()
	defer s.probing.Unlock()
	if s.probe == nil {
		c, err := s.openReader()
		if err != nil {
			return false, err
		}
		s.probe, s.dataVer = c, -1
	}
	var version int64
	if err := s.probe.row(stDataVersion, func(st *sqlite.Stmt) { version = st.ColumnInt64(0) }); err != nil {
		return false, err
	}
	if version == s.dataVer {
		return false, nil
	}
	var last uint64
	if err := s.probe.row(stLast, func(st *sqlite.Stmt) { last = uint64(st.ColumnInt64(0)) }); err != nil {
		return false, err
	}
	if last > after {
		return true, nil // the version stays as it was: others may wait for less
	}
	s.dataVer = version
	return false, nil
}

func (s *store) As(target any) bool {
	if p, ok := target.(**DB); ok {
		*p = s.db
		return true
	}
	return false
}

// acquire takes the turn to write. It fails if the store is closed or only
// reads, or if ctx ends first.
func (s *store) acquire(ctx context.Context) error {
	if err := s.gate.enter(); err != nil {
		return err
	}
	err := ctx.Err()
	if err == nil && s.opt.ReadOnly {
		err = driver.ErrReadOnly
	}
	if err == nil {
		select {
		case s.turn <- struct{}{}:
		default:
			select {
			case s.turn <- struct{}{}:
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
	}
	if err != nil {
		s.gate.leave()
		return err
	}
	if s.stale {
		if err := s.reload(); err != nil {
			s.release()
			return fmt.Errorf("sqlitestore: reading %s anew: %w", s.path, err)
		}
	}
	return nil
}

func (s *store) release() {
	<-s.turn
	s.gate.leave()
}

// begin opens a transaction for writing. The caller has the turn.
func (s *store) begin() error { return s.w.exec(stBeginWrite) }

// rollback withdraws the transaction under way, if there is one.
func (s *store) rollback() {
	if !s.w.AutocommitEnabled() {
		if err := s.w.exec(stRollback); err != nil {
			s.stale = true
		}
	}
	if s.merge != nil {
		s.merge.restart()
	}
}

// forget drops what is remembered of streams, because it tells of events that
// were not written after all.
func (s *store) forget() {
	clear(s.heads)
	clear(s.categories)
	s.unbind()
}

// commit ends the transaction. If that fails nothing is known to be written, and
// the error is the engine's, or it is not known whether it was, and the error
// Is driver.ErrOutcomeUnknown; memory is then read anew before the next write.
func (s *store) commit() error {
	err := s.w.exec(stCommit)
	if err == nil && s.opt.committed != nil {
		err = s.opt.committed()
	}
	if err == nil {
		return nil
	}
	s.rollback()
	s.forget()
	// A write that was refused cannot have left the last page of the
	// transaction, without which SQLite's recovery ignores all the others. Of
	// anything later, such as a failed fsync, nobody can say what a restart
	// will find.
	switch code := sqlite.ErrCode(err); code {
	case sqlite.ResultFull, sqlite.ResultIOErrWrite, sqlite.ResultBusy:
		return err
	}
	s.stale = true
	return fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, err)
}

// transact runs fn in a transaction of its own. The caller has the turn.
func (s *store) transact(fn func(c *conn) error) error {
	if err := s.begin(); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed {
			s.rollback()
		}
	}()
	if err := fn(s.w); err != nil {
		return err
	}
	committed = true // or rolled back by commit itself
	err := s.commit()
	if err == nil {
		s.wrote(0, 0)
	}
	return err
}

// write takes the turn and runs fn in a transaction.
func (s *store) write(ctx context.Context, fn func(c *conn) error) error {
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	return s.transact(fn)
}

// now returns the time for the next event: the clock's, but never before the
// last one's.
func (s *store) now() int64 { return max(s.opt.clock().UnixMicro(), s.lastTime) }

// current is the view of one who has the turn, inside or outside of a
// transaction of the writing connection.
func (s *store) current() view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := s.view
	v.head = s.last
	return v
}

// reload reads what is remembered from the file: at Open, and after an outcome
// that is not known. The caller has the turn.
func (s *store) reload() error {
	s.forget()
	s.merge = nil
	v := view{}
	if err := s.w.row(stMark, func(st *sqlite.Stmt) {
		v.mark, s.lastStream = uint64(st.ColumnInt64(0)), st.ColumnInt64(1)
	}); err != nil {
		return err
	}
	if err := s.w.row(stLast, func(st *sqlite.Stmt) { v.head = uint64(st.ColumnInt64(0)) }); err != nil {
		return err
	}
	if err := s.w.row(stLastTime, func(st *sqlite.Stmt) { s.lastTime = max(s.lastTime, st.ColumnInt64(0)) }); err != nil {
		return err
	}
	g := newSegment()
	category := func(name string, first int64) (int64, error) {
		if id, ok := g.catNames[name]; ok {
			return id, nil
		}
		id, err := s.w.lookup(stCategoryID, name)
		if id == 0 && err == nil {
			id = first
			g.catNames[name] = id
		}
		return id, err
	}
	err := s.w.readUnmerged(v.mark, v.head, category, func(e *entry, name string, began bool) error {
		if began {
			g.names[name] = e.stream
			s.lastStream = max(s.lastStream, e.stream)
		}
		g.add(e)
		return nil
	})
	if err != nil {
		return err
	}
	// Positions are never given out again, though the last events may be gone.
	s.last = max(v.head, v.mark)
	g.lastStream = s.lastStream
	v.segments = []*segment{g}
	s.mu.Lock()
	s.view = v
	s.wakeAll()
	s.mu.Unlock()
	s.stale = false
	return nil
}
