package sqlitestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/filelock"
	"zombiezen.com/go/sqlite"
)

// Options configures a store. A nil *Options means the defaults.
type Options struct {
	// Store configures the portable store that Open returns.
	Store eventstore.Options
	// ReadOnly opens the store of another process, or of none, for reading. It
	// follows what the other writes. Writes give driver.ErrReadOnly. The file
	// must be there, and be of the newest schema.
	ReadOnly bool
	// Synchronous says what survives a loss of power. The default is Full.
	Synchronous Synchronous
	// EventBytes is the size limit of one event. The default is 1 MiB.
	EventBytes int
	// Readers is how many reads may be under way at once; others wait. The
	// default is twice GOMAXPROCS, but at least 4.
	Readers int

	// What follows is for tests: zero is what the constants below say.

	clock         func() time.Time
	unmerged      int          // events in a segment before it is merged
	slice         int          // rows merged in one transaction when all are
	heads         int          // of streams remembered between transactions
	copyPages     int          // of the write-ahead log, before it is copied
	leaveUnmerged bool         // at Close, as a crash would
	committed     func() error // the outcome of a commit that succeeded, as if its answer were lost
	merging       func()       // called before a commit that merges a slice
	viewed        func()       // called between a view and the transaction that reads by it
}

// Synchronous says when an append is reported as durable.
type Synchronous int

const (
	// Full waits until the disk has the events: what was acknowledged survives
	// the loss of power.
	Full Synchronous = iota
	// Normal waits until the operating system has them: what was acknowledged
	// survives the end of the process, however it ends, but the last of it may
	// be lost with the power. What is lost is always an end of the log; the rest
	// stays consistent. Readers, and read models, may have seen what was lost.
	Normal
)

func (s Synchronous) String() string {
	switch s {
	case Full:
		return "Full"
	case Normal:
		return "Normal"
	}
	return fmt.Sprintf("Synchronous(%d)", int(s))
}

// Errors of Open, found with errors.Is.
var (
	// ErrLocked reports a store that another process, or another Open of this
	// one, has open for writing. The message names the process if it is known.
	ErrLocked = errors.New("sqlitestore: locked")
	// ErrNotStore reports a file that is something else: it was not touched.
	ErrNotStore = errors.New("sqlitestore: not an event store")
	// ErrNewerSchema reports a store that was written by a later version of
	// this package. It was not touched.
	ErrNewerSchema = errors.New("sqlitestore: newer schema")
	// ErrOlderSchema reports a store that must be opened for writing once, to be
	// migrated, before it can be opened with Options.ReadOnly.
	ErrOlderSchema = errors.New("sqlitestore: older schema")
)

// Limits of one piece, besides Options.EventBytes.
const (
	defaultEventBytes = 1 << 20
	maxAppendEvents   = 65536
	maxAppendBytes    = 64 << 20
	maxBatchEvents    = 4096
	maxBatchBytes     = 4 << 20
	maxNameBytes      = 1024
)

// Defaults of what only tests set otherwise.
const (
	defaultUnmerged = 65536
	defaultSlice    = 32768
)

// Open opens the store in the file at path and creates it if there is none; the
// directory must be there. Besides the file there will be FILE-wal and FILE-shm,
// which belong to it, and FILE.lock.
//
// One process can have a store open for writing: a second one gets ErrLocked. A
// file that is not a store gives ErrNotStore, one of a later version of this
// package ErrNewerSchema; one of an earlier version is migrated. After a crash
// Open brings the store in order, which takes about as long as reading what was
// appended since the indexes were last merged, at most some 130,000 events.
func Open(path string, opt *Options) (*eventstore.Store, error) {
	d, err := OpenDriver(path, opt)
	if err != nil {
		return nil, err
	}
	var o eventstore.Options
	if opt != nil {
		o = opt.Store
	}
	return eventstore.New(d, &o), nil
}

// OpenDriver is Open without the portable store, for tests and measurements.
func OpenDriver(path string, opt *Options) (driver.Store, error) {
	s, err := open(path, opt)
	if err != nil {
		return nil, fmt.Errorf("sqlitestore: open %s: %w", path, err)
	}
	return s, nil
}

func open(path string, opt *Options) (_ *store, err error) {
	s := &store{done: make(chan struct{}), wake: make(chan struct{}), turn: make(chan struct{}, 1)}
	if opt != nil {
		s.opt = *opt
	}
	s.setDefaults()
	exists := true
	if s.path, exists, err = resolve(path); err != nil {
		return nil, err
	}
	if exists {
		if err := checkHeader(s.path); err != nil {
			return nil, err
		}
	} else if s.opt.ReadOnly {
		return nil, fs.ErrNotExist
	}
	defer func() {
		if err != nil {
			s.abandon()
		}
	}()
	s.db = &DB{store: s, files: make(map[string]*modelFile)}
	s.pool = newPool(s.opt.Readers, s.openReader)
	if s.opt.ReadOnly {
		err = s.openForReading()
	} else {
		err = s.openForWriting()
	}
	return s, notStore(err)
}

func (s *store) setDefaults() {
	o := &s.opt
	if o.clock == nil {
		o.clock = time.Now
	}
	if o.unmerged <= 0 {
		o.unmerged = defaultUnmerged
	}
	if o.copyPages <= 0 {
		o.copyPages = defaultCopyPages
	}
	if o.slice <= 0 {
		o.slice = defaultSlice
	}
	if o.heads <= 0 {
		o.heads = maxHeads
	}
	if o.EventBytes <= 0 {
		o.EventBytes = defaultEventBytes
	}
	s.limits = driver.Limits{
		EventBytes:   o.EventBytes,
		AppendEvents: maxAppendEvents,
		AppendBytes:  max(maxAppendBytes, o.EventBytes),
		BatchEvents:  maxBatchEvents,
		BatchBytes:   max(maxBatchBytes, o.EventBytes),
		NameBytes:    maxNameBytes,
		Writers:      1,
		Exclusive:    !o.ReadOnly,
	}
	s.heads = make(map[string]*head)
	s.categories = make(map[string]int64)
}

// resolve follows symbolic links, so that one file has one lock.
func resolve(path string) (real string, exists bool, err error) {
	if path == "" {
		return "", false, errors.New("no path")
	}
	real, err = filepath.EvalSymlinks(path)
	if err == nil {
		info, err := os.Stat(real)
		if err != nil {
			return "", false, err
		}
		if !info.Mode().IsRegular() {
			return "", false, fmt.Errorf("%w: it is not a regular file", ErrNotStore)
		}
		real, err = filepath.Abs(real)
		return real, true, err
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", false, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", false, fmt.Errorf("the directory must be there: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", false, err
	}
	return filepath.Join(dir, filepath.Base(path)), false, nil
}

// checkHeader refuses a file that SQLite need not look at. An application id of
// 0 may be that of a store whose first transaction is still in the write-ahead
// log.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, 100)
	n, err := io.ReadFull(f, header)
	if n == 0 && err == io.EOF {
		return nil
	}
	if n < len(header) || !bytes.HasPrefix(header, []byte("SQLite format 3\x00")) {
		return fmt.Errorf("%w: it is not a SQLite database", ErrNotStore)
	}
	id := uint32(header[68])<<24 | uint32(header[69])<<16 | uint32(header[70])<<8 | uint32(header[71])
	if id != 0 && id != applicationID {
		return fmt.Errorf("%w: its application id is %#x, not %#x", ErrNotStore, id, uint32(applicationID))
	}
	return nil
}

const (
	writerCache = "cache_size = -65536" // kibibytes
	readerCache = "cache_size = -16384"
	// So many pages of the write-ahead log make the commit that reaches them
	// copy it into the database. The store does so before, beside its commits.
	checkpointPages = "wal_autocheckpoint = 16000"
	// After a time of many pages the file of the log is cut down to this again.
	walBytes = "journal_size_limit = 67108864"
)

func (s *store) openForWriting() (err error) {
	// The lock is on a file beside the database, because SQLite has locks of its own on
	// that, which it would lose if we opened and closed it.
	s.lock, err = filelock.Acquire(s.path + ".lock")
	switch {
	case errors.Is(err, filelock.ErrHeld):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case err != nil:
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	// Not a pragma of the log's is set before it is known to be ours.
	if s.w, err = openConn(s.path, sqlite.OpenReadWrite, writerCache, "temp_store = MEMORY"); err != nil {
		return err
	}
	if _, _, err := checkSchema(s.w.Conn); err != nil {
		return err
	}
	if err := s.w.pragmas("journal_mode = WAL", s.synchronous(), checkpointPages, walBytes); err != nil {
		return err
	}
	if err := prepareSchema(s.w.Conn); err != nil {
		return err
	}
	return s.reload()
}

func (s *store) synchronous() string {
	if s.opt.Synchronous == Normal {
		return "synchronous = NORMAL"
	}
	return "synchronous = FULL"
}

func (s *store) openForReading() error {
	c, err := s.openReader()
	if err != nil {
		return err
	}
	s.probe, s.dataVer = c, -1
	version, empty, err := checkSchema(c.Conn)
	switch {
	case err != nil:
		return err
	case empty:
		return fmt.Errorf("%w: it is empty", ErrNotStore)
	case version < schemaVersion:
		return fmt.Errorf("%w: %d, while this program knows %d", ErrOlderSchema, version, schemaVersion)
	}
	return s.read(context.Background(), func(*conn, *view) error { return nil })
}

func (s *store) openReader() (*conn, error) {
	return openConn(s.path, sqlite.OpenReadOnly, readerCache, "query_only = ON", "temp_store = MEMORY")
}

// notStore marks the error that SQLite has for a file that only begins like one
// of its own.
func notStore(err error) error {
	if sqlite.ErrCode(err).ToPrimary() == sqlite.ResultNotADB {
		return fmt.Errorf("%w: %w", ErrNotStore, err)
	}
	return err
}

// abandon closes what a failed Open has opened.
func (s *store) abandon() {
	if s.probe != nil {
		_ = s.probe.Close()
	}
	if s.pool != nil {
		_ = s.pool.close()
	}
	if s.w != nil {
		_ = s.w.Close()
	}
	if s.lock != nil {
		_ = s.lock.Release()
	}
}
