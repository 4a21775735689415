package sqlitestore

import (
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// SQLite's write-ahead log must be copied into the database from time to time.
// The commit that finds it long would do that, and all that wait for it would
// wait for the disk. Instead a connection of its own copies most of it beside the
// appends, and then one commit copies what has come since, which is little, so
// that the log starts again from its beginning.
//
//	commits ──┬────────┬────────┬────────┬──┐ the rest   ┌───────
//	          └─ copying beside them ───────┘            └ the log begins anew

// A copying is of the write-ahead log.
type copying struct {
	pages int           // written since the log was last copied, by estimate
	conn  *conn         // nil until it is needed
	done  chan struct{} // closed when the copying under way is done; nil if there is none
}

const (
	// defaultCopyPages is how long the log gets before it is copied.
	defaultCopyPages = 4000
	// mergedPerPage and commitPages are for the estimate: rows of indexes that
	// share a page, and pages that every commit writes.
	mergedPerPage = 8
	commitPages   = 3
)

// wrote counts what a commit has written, and copies the log if it is long. The
// caller has the turn.
func (s *store) wrote(bytes, merged int) {
	k := &s.copying
	k.pages += commitPages + bytes/4096 + merged/mergedPerPage
	if k.done == nil {
		if k.pages >= s.opt.copyPages {
			s.copyBeside()
		}
		return
	}
	select {
	case <-k.done:
	default:
		return
	}
	k.done, k.pages = nil, 0
	// If this fails the log only stays long until the next time.
	_ = s.endLog("RESTART")
}

func (s *store) copyBeside() {
	k := &s.copying
	if k.conn == nil {
		c, err := openConn(s.path, sqlite.OpenReadWrite, s.synchronous(), "wal_autocheckpoint = 0")
		if err != nil {
			k.pages = 0 // and SQLite's own limit takes over
			return
		}
		k.conn = c
	}
	done := make(chan struct{})
	k.done = done
	go func() {
		defer close(done)
		_ = sqlitex.ExecuteTransient(k.conn.Conn, "PRAGMA wal_checkpoint(PASSIVE)", nil)
	}()
}

// settle waits for the copying under way. The caller has the turn, or is the
// last one.
func (k *copying) settle() {
	if k.done != nil {
		<-k.done
		k.done = nil
	}
}

func (k *copying) close() error {
	k.settle()
	if k.conn == nil {
		return nil
	}
	return k.conn.Close()
}

// emptyLog copies all of the write-ahead log and cuts it to nothing. The caller
// has the turn.
func (s *store) emptyLog() error {
	s.copying.settle()
	s.copying.pages = 0
	return s.endLog("TRUNCATE")
}

// endLog copies what is left in the write-ahead log, so that it begins anew. The
// short reads of this process are kept out meanwhile, since a log that is being
// read cannot begin anew; that somebody else reads from it is not an error.
func (s *store) endLog(mode string) error {
	s.reading.Lock()
	defer s.reading.Unlock()
	s.w.SetBusyTimeout(0)
	defer s.w.SetBusyTimeout(busyTimeout)
	err := sqlitex.ExecuteTransient(s.w.Conn, "PRAGMA wal_checkpoint("+mode+")", nil)
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultBusy {
		return nil
	}
	return err
}
