package natsstore

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"

	"github.com/levada-go/levada/eventstore/driver"
)

// Snapshots are kept in the bucket <name>-snap. One that is larger than a message
// may be is cut into pieces, under keys of their own, which are written with it
// in one atomic batch, so that they lie right before it:
//
//	<stream>.1 <stream>.2 … <stream>
const (
	headerSnapshot = "Levada-Snapshot" // version of the stream
	headerSchema   = "Levada-Schema"
	headerPieces   = "Levada-Pieces" // how many lie before
	headerPurged   = "Levada-Purged" // the stream was purged, and there will never be one
)

// maxSnapshotBytes bounds a snapshot; more is ErrTooLarge.
const maxSnapshotBytes = 64 << 20

// SaveSnapshot implements [driver.Snapshotter]. A snapshot may have 64 MiB.
func (s *store) SaveSnapshot(ctx context.Context, stream string, snap driver.Snapshot) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := s.name(stream); err != nil {
		return err
	}
	b := &s.snapshots
	size := b.payload - recordOverhead
	if n := len(snap.Data); n > min(maxSnapshotBytes, size*(maxBatch-1)) {
		return fmt.Errorf("%w: a snapshot of %d bytes, of %d", driver.ErrTooLarge, n, min(maxSnapshotBytes, size*(maxBatch-1)))
	}
	key := token(stream)
	for {
		it, err := b.get(ctx, key)
		if err != nil {
			return err
		}
		if it.found {
			if it.header.Get(headerPurged) != "" {
				return driver.ErrStreamDeleted
			}
			have, _, err := parseSnapshot(it)
			if err != nil {
				return err
			}
			if have.Version > snap.Version {
				return nil
			}
		}
		// Purge marks the log first and this key then: whichever is overlooked here is
		// found by the next try, because the revision has moved.
		t, err := s.leader(ctx, stream)
		if err != nil {
			return err
		}
		if t.purged {
			return driver.ErrStreamDeleted
		}
		rest := snap.Data
		var list []*nats.Msg
		for len(rest) > size {
			list = append(list, b.value(key+"."+strconv.Itoa(len(list)+1), nil, rest[:size]))
			rest = rest[size:]
		}
		header := nats.Header{
			headerSnapshot: {strconv.FormatUint(snap.Version, 10)},
			headerSchema:   {strconv.Itoa(snap.Schema)},
		}
		if n := len(list); n > 0 {
			header[headerPieces] = []string{strconv.Itoa(n)}
		}
		list = append(list, b.value(key, header, rest))
		_, ok, err := b.put(ctx, it.revision, list...)
		if err != nil {
			return err
		}
		if ok {
			return b.dropPieces(ctx, key, len(list)-1, it)
		}
	}
}

// dropPieces removes the pieces of the snapshot before, in it, that the new one
// with n pieces has not replaced.
func (b *bucket) dropPieces(ctx context.Context, key string, n int, it item) error {
	if !it.found {
		return nil
	}
	_, had, err := parseSnapshot(it)
	for i := n + 1; err == nil && i <= had; i++ {
		err = b.link.purge(ctx, b.subject(key+"."+strconv.Itoa(i)), it.revision)
	}
	return err
}

// parseSnapshot returns a snapshot, with the last of its data, and the number of
// pieces that lie before.
func parseSnapshot(it item) (snap driver.Snapshot, pieces int, err error) {
	bad := func(name string) error {
		return fmt.Errorf("%w: the snapshot %s has a header %s of %.100q", ErrNotStore, it.key, name, it.header.Get(name))
	}
	if snap.Version, err = strconv.ParseUint(it.header.Get(headerSnapshot), 10, 64); err != nil {
		return snap, 0, bad(headerSnapshot)
	}
	if snap.Schema, err = strconv.Atoi(it.header.Get(headerSchema)); err != nil {
		return snap, 0, bad(headerSchema)
	}
	if text := it.header.Get(headerPieces); text != "" {
		if pieces, err = strconv.Atoi(text); err != nil || pieces < 1 || pieces >= maxBatch || uint64(pieces) >= it.revision {
			return snap, 0, bad(headerPieces)
		}
	}
	snap.Data = bytes.Clone(it.value)
	return snap, pieces, nil
}

// LoadSnapshot implements [driver.Snapshotter].
func (s *store) LoadSnapshot(ctx context.Context, stream string) (driver.Snapshot, bool, error) {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return driver.Snapshot{}, false, err
	}
	defer leave()
	b := &s.snapshots
	for {
		it, err := b.get(ctx, token(stream))
		if err != nil || !it.found || it.header.Get(headerPurged) != "" {
			return driver.Snapshot{}, false, err
		}
		snap, pieces, err := parseSnapshot(it)
		if err != nil || pieces == 0 {
			return snap, err == nil, err
		}
		seqs := make([]uint64, pieces)
		for i := range seqs {
			seqs[i] = it.revision - uint64(pieces-i)
		}
		list, err := b.link.direct(ctx, seqs)
		if err != nil {
			return driver.Snapshot{}, false, err
		}
		var data []byte
		whole := true
		for i, m := range list {
			if whole = whole && m != nil && m.subject == b.subject(token(stream)+"."+strconv.Itoa(i+1)); whole {
				data = append(data, m.data...)
			}
		}
		if whole {
			snap.Data = append(data, snap.Data...)
			return snap, true, nil
		}
		// Another has replaced it meanwhile, or somebody has removed a piece.
		if again, err := b.get(ctx, token(stream)); err != nil || again.revision == it.revision {
			return driver.Snapshot{}, false, err
		}
	}
}

// DeleteSnapshot implements [driver.Snapshotter].
func (s *store) DeleteSnapshot(ctx context.Context, stream string) error {
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return s.replaceSnapshot(ctx, stream, nats.Header{headerOperation: {operationDelete}})
}

// forgetSnapshot removes the snapshot of a purged stream, for good.
func (s *store) forgetSnapshot(ctx context.Context, stream string) error {
	return s.replaceSnapshot(ctx, stream, nats.Header{headerPurged: {"1"}})
}

// replaceSnapshot puts a message without data in the place of a snapshot.
func (s *store) replaceSnapshot(ctx context.Context, stream string, header nats.Header) error {
	b, key := &s.snapshots, token(stream)
	for {
		it, err := b.get(ctx, key)
		if err != nil {
			return err
		}
		purged := it.found && it.header.Get(headerPurged) != ""
		deletes := header.Get(headerOperation) != ""
		if purged || deletes && !it.found {
			return nil
		}
		_, ok, err := b.put(ctx, it.revision, b.value(key, header, nil))
		if err != nil {
			return err
		}
		if ok {
			return b.dropPieces(ctx, key, 0, it)
		}
	}
}
