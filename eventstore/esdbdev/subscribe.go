package esdbdev

import (
	"context"
	"iter"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"google.golang.org/protobuf/encoding/protowire"
)

// behindAfter is how many events a subscription that was live may find waiting
// before it tells its client that it fell behind.
const behindAfter = 500

// A subscription reads page after page and, between them, waits to be woken:
//
//	┌──► read what is there ──► none left? ──► checkpoint, caught up ──► wait ──┐
//	└───────────────────────────────────────────────────────────────────────────┘
type subscription struct {
	*reading
	cursor   cursor
	live     bool
	passed   int                 // events examined since the last checkpoint
	examined eventstore.Position // the last event examined
	marked   eventstore.Position // the last checkpoint sent
}

// A cursor is how far a subscription has come: a version for one to a stream, else
// a position.
type cursor uint64

// follow is a subscription, from its confirmation until the client or somebody else
// ends it.
func (r *reading) follow(ctx context.Context) error {
	var watched []eventstore.StreamName // nil is all
	if r.name != "" {
		watched = r.s.watched(r.name)
	}
	w, ctx, err := r.s.hub.watch(ctx, watched...)
	if err != nil {
		return err
	}
	defer w.close()
	sub := &subscription{reading: r}
	if err := sub.begin(ctx); err != nil {
		return err
	}
	err = r.send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{
		Confirmation: &streams.ReadResp_SubscriptionConfirmation{SubscriptionId: uuid.NewString()}}})
	for err == nil {
		if err = sub.pass(ctx); err == nil {
			err = w.wait(ctx)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // whatever failed because of that
	}
	return err
}

// watched returns where what clients can read of a stream is decided: a stream that was
// deleted goes on only when its metadata says so.
func (s *Server) watched(name string) []eventstore.StreamName {
	base, ok := metastream(name)
	if !ok {
		base = name
	}
	stored, _ := storedStream(name, s.nameBytes)
	metadata, _ := storedStream("$$"+base, s.nameBytes)
	return []eventstore.StreamName{stored, metadata, tombstoneStream(base)}
}

// begin sets the cursor to where the client wants to begin: what it names has been
// seen.
func (sub *subscription) begin(ctx context.Context) error {
	upTo := sub.s.part.Load().upTo
	if sub.name == "" {
		switch sub.from.kind {
		case fromHere:
			sub.cursor = cursor(sub.from.at)
		case fromEnd:
			head, err := sub.s.store.Head(ctx)
			if err != nil {
				return err
			}
			sub.cursor = cursor(min(head, upTo))
		}
		return nil
	}
	st, err := sub.s.stream(ctx, sub.name, upTo)
	if err != nil {
		return err
	}
	if st.tombstoned {
		return streamDeleted(sub.name)
	}
	switch sub.from.kind {
	case fromHere:
		sub.cursor = cursor(sub.from.at) + 1
	case fromEnd:
		sub.cursor = cursor(st.version)
	}
	return nil
}

// pass delivers what there is after the cursor.
func (sub *subscription) pass(ctx context.Context) error {
	waiting := 0
	for rec, err := range sub.next(ctx) {
		if err != nil {
			return err
		}
		if waiting++; sub.live && waiting > behindAfter {
			sub.live = false
			if err := sub.send(&streams.ReadResp{Content: &streams.ReadResp_FellBehind_{FellBehind: sub.fellBehind()}}); err != nil {
				return err
			}
		}
		if sub.filter.match(rec) {
			if err := sub.event(ctx, rec); err != nil {
				return err
			}
		}
		sub.examined = rec.position
		if sub.filter != nil {
			if sub.passed++; sub.passed >= sub.filter.every {
				if err := sub.checkpoint(); err != nil {
					return err
				}
			}
		}
	}
	if sub.live {
		return nil
	}
	sub.live = true
	if sub.filter != nil && sub.examined > sub.marked {
		if err := sub.checkpoint(); err != nil {
			return err
		}
	}
	return sub.send(&streams.ReadResp{Content: &streams.ReadResp_CaughtUp_{CaughtUp: sub.caughtUp()}})
}

// next yields what is after the cursor and moves it.
func (sub *subscription) next(ctx context.Context) iter.Seq2[*record, error] {
	return func(yield func(*record, error) bool) {
		upTo := sub.s.part.Load().upTo
		if sub.name == "" {
			for r, err := range sub.s.store.ReadAll(raw(ctx), eventstore.Filter{System: true}, eventstore.Position(sub.cursor)) {
				if err != nil {
					yield(nil, err)
					return
				}
				if r.Position > upTo {
					return
				}
				sub.cursor = cursor(r.Position)
				if rec, ok := newRecord(r); ok && !yield(rec, nil) {
					return
				}
			}
			return
		}
		st, err := sub.s.stream(ctx, sub.name, upTo)
		if err == nil && st.tombstoned {
			err = streamDeleted(sub.name)
		}
		if err != nil {
			yield(nil, err)
			return
		}
		if st.deleted() {
			return // where it goes on is told when it does
		}
		now := time.Now()
		for r, err := range sub.s.readStream(ctx, st, start{fromHere, uint64(sub.cursor)}, false) {
			if err != nil {
				yield(nil, err)
				return
			}
			sub.cursor = cursor(r.Version)
			if st.expired(r, now) {
				continue
			}
			if rec, ok := newRecord(r); ok && !yield(rec, nil) {
				return
			}
		}
	}
}

// checkpoint tells a client with a filter how far it has come, though nothing may
// have been for it.
func (sub *subscription) checkpoint() error {
	sub.passed, sub.marked = 0, sub.examined
	p := wirePosition(sub.examined)
	c := &streams.ReadResp_Checkpoint{CommitPosition: p, PreparePosition: p}
	c.ProtoReflect().SetUnknown(appendTimestamp(nil, 3, time.Now()))
	return sub.send(&streams.ReadResp{Content: &streams.ReadResp_Checkpoint_{Checkpoint: c}})
}

func (sub *subscription) caughtUp() *streams.ReadResp_CaughtUp {
	m := &streams.ReadResp_CaughtUp{}
	m.ProtoReflect().SetUnknown(sub.standing())
	return m
}

func (sub *subscription) fellBehind() *streams.ReadResp_FellBehind {
	m := &streams.ReadResp_FellBehind{}
	m.ProtoReflect().SetUnknown(sub.standing())
	return m
}

// standing has the fields of newer clients' messages CaughtUp and FellBehind, which
// the stubs do not know: a time (1), and either a revision (2) or a position (3).
func (sub *subscription) standing() []byte {
	b := appendTimestamp(nil, 1, time.Now())
	switch {
	case sub.name != "" && sub.cursor > 0:
		b = protowire.AppendTag(b, 2, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(sub.cursor)-1)
	case sub.name == "" && sub.examined > 0:
		p := wirePosition(sub.examined)
		var pos []byte
		pos = protowire.AppendTag(pos, 1, protowire.VarintType)
		pos = protowire.AppendVarint(pos, p)
		pos = protowire.AppendTag(pos, 2, protowire.VarintType)
		pos = protowire.AppendVarint(pos, p)
		b = protowire.AppendTag(b, 3, protowire.BytesType)
		b = protowire.AppendBytes(b, pos)
	}
	return b
}

// appendTimestamp appends a google.protobuf.Timestamp as field n.
func appendTimestamp(b []byte, n protowire.Number, t time.Time) []byte {
	var ts []byte
	ts = protowire.AppendTag(ts, 1, protowire.VarintType)
	ts = protowire.AppendVarint(ts, uint64(t.Unix()))
	ts = protowire.AppendTag(ts, 2, protowire.VarintType)
	ts = protowire.AppendVarint(ts, uint64(t.Nanosecond()))
	b = protowire.AppendTag(b, n, protowire.BytesType)
	return protowire.AppendBytes(b, ts)
}
