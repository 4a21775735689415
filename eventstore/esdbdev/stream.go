package esdbdev

import (
	"context"
	"errors"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/system"
)

// A stream is where one of a client's streams stands.
//
// Deletion is kept as EventStoreDB keeps it: a deleted stream has a $tb of 2^63-1
// in its metadata stream, $$ and its name, and goes on at its next revision when it
// is appended to; a tombstone is an event in a stream of its own. So any store will
// do, one without a driver.Deleter too, and $all shows what was deleted, as a
// server does that has not been scavenged.
type stream struct {
	name    string
	stored  eventstore.StreamName
	full    string             // the name, where stored is a hash
	version eventstore.Version // of the last event, 0 if there is none
	// first is the version of the first event that can be read.
	first      eventstore.Version
	retention  retention
	metadata   []byte              // the latest, as written
	changed    eventstore.Position // when that was
	writable   eventstore.Expected // where the next metadata are expected
	tombstoned bool
	removed    bool // the store itself has deleted it, through its own API
}

// deleted reports whether the stream was deleted, but for ever.
func (st *stream) deleted() bool { return st.removed || st.retention.before == deletedBefore }

// last returns the revision of the last event, -1 if there is none.
func (st *stream) last() int64 { return int64(st.version) - 1 }

// readable returns why the stream cannot be read: not at all with found false, or
// not any more with an error.
func (st *stream) readable() (found bool, err error) {
	if st.tombstoned {
		return false, streamDeleted(st.name)
	}
	return st.version > 0 && !st.deleted(), nil
}

// expired reports whether r is too old to be read.
func (st *stream) expired(r *eventstore.Recorded, now time.Time) bool {
	return st.retention.maxAge > 0 && now.Sub(r.Time) > st.retention.maxAge
}

// metastream reports whether name is of a stream's metadata, and whose.
func metastream(name string) (base string, ok bool) { return strings.CutPrefix(name, "$$") }

// raw returns a context for the store's own side: reads give events as stored, and
// names that start with $ may be written.
func raw(ctx context.Context) context.Context { return system.Raw(system.Context(ctx)) }

// stream looks a stream up as it stands at a position of the store; a follower that
// lags sees an old one.
func (s *Server) stream(ctx context.Context, name string, upTo eventstore.Position) (*stream, error) {
	ctx = raw(ctx)
	st := &stream{name: name}
	st.stored, st.full = storedStream(name, s.nameBytes)
	base, meta := metastream(name)
	if !meta {
		base = name
	}
	tomb, err := s.store.Stream(ctx, tombstoneStream(base))
	if err != nil {
		return nil, storeError(name, err)
	}
	st.tombstoned = tomb.Version > 0 && (upTo == everything || s.visibleVersion(ctx, tomb.Name, upTo) > 0)
	info, err := s.store.Stream(ctx, st.stored)
	if errors.Is(err, eventstore.ErrStreamDeleted) {
		st.tombstoned = true // purged through the store's own API
		return st, nil
	}
	if err != nil {
		return nil, storeError(name, err)
	}
	st.version, st.first, st.removed = info.Version, max(info.First, 1), info.Deleted
	if upTo != everything {
		st.version = s.visibleVersion(ctx, st.stored, upTo)
	}
	if meta {
		st.retention.maxCount = 1 // of metadata only the latest counts
	} else if err := s.readMetadata(ctx, st, upTo); err != nil {
		return nil, err
	}
	if n := st.retention.maxCount; n > 0 && uint64(st.version) > n {
		st.first = max(st.first, st.version-eventstore.Version(n)+1)
	}
	if before := st.retention.before; before < deletedBefore {
		st.first = max(st.first, eventstore.Version(before)+1)
	}
	return st, nil
}

// everything as a position has no bound.
const everything = eventstore.Position(1<<64 - 1)

// visibleVersion returns the version at which a stream stood at a position.
func (s *Server) visibleVersion(ctx context.Context, stored eventstore.StreamName, upTo eventstore.Position) eventstore.Version {
	for r, err := range s.store.ReadStreamBackward(ctx, stored, 0) {
		if err != nil {
			return 0
		}
		if r.Position <= upTo {
			return r.Version
		}
	}
	return 0
}

// readMetadata reads the latest metadata of a stream, if it has any.
func (s *Server) readMetadata(ctx context.Context, st *stream, upTo eventstore.Position) error {
	stored, _ := storedStream("$$"+st.name, s.nameBytes)
	st.writable = eventstore.NoStream
	info, err := s.store.Stream(ctx, stored)
	if err != nil || info.Version == 0 || info.Deleted {
		return storeError(st.name, err)
	}
	st.writable = eventstore.Exactly(info.Version)
	for r, err := range s.store.ReadStreamBackward(ctx, stored, 0) {
		if err != nil {
			return storeError(st.name, err)
		}
		if r.Position <= upTo {
			st.metadata, st.changed, st.retention = r.Raw, r.Position, parseRetention(r.Raw)
			st.writable = eventstore.Exactly(max(info.Version, r.Version))
			break
		}
	}
	return nil
}

// locks keep what looks at a stream and then changes it apart from others that do,
// one for each stream, its metadata, and theirs, or a few.
type locks [256]sync.Mutex

func (l *locks) lock(name string) (unlock func()) {
	for base, ok := metastream(name); ok; base, ok = metastream(base) {
		name = base
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	m := &l[h.Sum32()%uint32(len(l))]
	m.Lock()
	return m.Unlock
}
