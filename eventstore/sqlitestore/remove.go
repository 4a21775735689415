package sqlitestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/levada-go/levada/eventstore/driver"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Truncate removes the events of stream below version before from the log and
// from all indexes, in one transaction. Versions are the stream's; before may be
// at most the version after its last event. What was removed is overwritten in
// the file.
func (s *store) Truncate(ctx context.Context, stream string, before uint64) error {
	return s.remove(ctx, stream, func(h *head) (bool, error) {
		switch {
		case h.purged:
			return false, driver.ErrStreamDeleted
		case h.version == 0:
			return false, fmt.Errorf("sqlitestore: truncate %q: there is no such stream", stream)
		case before > h.version+1:
			return false, fmt.Errorf("sqlitestore: truncate %q at %d: its last version is %d", stream, before, h.version)
		case before <= h.first:
			return false, nil
		}
		h.first = before
		return true, nil
	})
}

// Delete removes all events of stream and lets expectations count it as absent.
func (s *store) Delete(ctx context.Context, stream string, expected int64) error {
	return s.remove(ctx, stream, func(h *head) (bool, error) {
		if h.purged {
			return false, driver.ErrStreamDeleted
		}
		if h.version > 0 && h.deletedAt == h.version {
			return false, nil
		}
		if err := h.expect(expected); err != nil || h.version == 0 {
			return false, err
		}
		h.first, h.deletedAt = h.version+1, h.version
		return true, nil
	})
}

// Purge removes all events of stream and its snapshot, and remembers only that
// there was one. The bytes are overwritten in the database file and the
// write-ahead log is emptied, unless another process is reading it: then what it
// holds of the stream goes when the log is next used from its beginning.
func (s *store) Purge(ctx context.Context, stream string) error {
	return s.remove(ctx, stream, func(h *head) (bool, error) {
		if h.purged {
			return false, nil
		}
		h.first, h.purged = h.version+1, true
		return true, nil
	})
}

// remove lets decide change what is known of a stream and, if it reports true,
// removes its events below first.
func (s *store) remove(ctx context.Context, stream string, decide func(*head) (bool, error)) error {
	if err := s.checkStream(stream); err != nil {
		return err
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	defer s.release()
	v := s.current()
	h, err := s.lookupHead(s.w, &v, stream)
	if err != nil {
		return err
	}
	if ok, err := decide(h); err != nil || !ok {
		return err
	}
	// The tables must tell all there is, so that they and the log can be
	// changed together.
	if err := s.mergeAll(); err != nil {
		return err
	}
	v = s.current()
	if err := sqlitex.ExecuteTransient(s.w.Conn, "PRAGMA secure_delete = ON", nil); err != nil {
		return err
	}
	defer sqlitex.ExecuteTransient(s.w.Conn, "PRAGMA secure_delete = OFF", nil)
	if err := s.removeBelow(&v, stream, h); err != nil {
		return err
	}
	if h.purged {
		// No reader of this process is inside, so that only one of another can
		// be in the way.
		return s.emptyLog()
	}
	return nil
}

func (s *store) removeBelow(v *view, stream string, h *head) error {
	if err := s.begin(); err != nil {
		return err
	}
	err := s.removeRows(v, stream, h)
	var head uint64
	if err == nil {
		err = s.w.row(stLast, func(st *sqlite.Stmt) { head = uint64(st.ColumnInt64(0)) })
	}
	if err != nil {
		s.rollback()
		return err
	}
	if err := s.commit(); err != nil {
		return err
	}
	s.forget()
	s.lastStream = max(s.lastStream, h.id)
	s.mu.Lock()
	s.view.head = head
	s.growing().lastStream = s.lastStream
	s.mu.Unlock()
	return nil
}

func (s *store) removeRows(v *view, stream string, h *head) error {
	c := s.w
	known := h.id != 0
	if !known { // purged before it ever was
		h.id = s.lastStream + 1
		if err := c.exec(stSetMark, int64(s.last), h.id); err != nil {
			return err
		}
		k := 1
		if err := c.mergeNames(stMergeName, []began{{stream, h.id}}, new(int), &k); err != nil {
			return err
		}
	}
	if known {
		category, err := s.categoryID(c, v, driver.Category(stream))
		if err != nil {
			return err
		}
		below := int64(h.first)
		if err := c.exec(stRemoveTags, h.id, below); err != nil {
			return err
		}
		if err := c.exec(stRemoveCategory, h.id, below, category); err != nil {
			return err
		}
		if err := c.exec(stRemoveEvents, h.id, below); err != nil {
			return err
		}
		if err := c.exec(stRemoveStream, h.id, below); err != nil {
			return err
		}
	}
	st, err := c.stmt(stSetState)
	if err != nil {
		return err
	}
	st.BindInt64(1, h.id)
	st.BindText(2, stream)
	st.BindInt64(3, int64(h.first))
	st.BindInt64(4, int64(h.version))
	st.BindInt64(5, int64(h.deletedAt))
	st.BindBool(6, h.purged)
	if err := finish(st); err != nil {
		return err
	}
	if h.purged {
		if err := c.execText(stDeleteSnapshot, stream); err != nil {
			return err
		}
	}
	return c.exec(stRemoved)
}

// execText runs a statement that gives no rows, with one text argument.
func (c *conn) execText(s statement, arg string) error {
	st, err := c.stmt(s)
	if err != nil {
		return err
	}
	st.BindText(1, arg)
	return finish(st)
}

var errNoName = errors.New("sqlitestore: a stream needs a name")
