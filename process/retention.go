package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/system"
)

// How what is kept of a process stays bounded.
//
// An instance that ended long ago is reduced to a stub: one record, of type $process.trimmed, that says up to which position
// everything has come to the instance, and nothing else. It is appended at the very version of the last record,
// so that an instance that begins anew meanwhile is left alone, and then the stream is truncated before it. The stub
// stays, since it is all that keeps an event that is delivered again, after a crash or from the beginning after a
// reset, from beginning the instance once more. A stub that was appended by who then died is found by its record.
//
// The inbox is truncated up to where everything has been dealt with in all partitions.

const (
	sweepLeast = time.Second // between sweeps
	sweepMost  = time.Hour
	sweepFirst = time.Minute // after the start, at most
	sweepLease = time.Minute
	sweepSave  = 64 // instances between two notes of how far a sweep is
)

// A sweeper removes what nobody needs any more of what is kept of a process. One node at a time sweeps.
type sweeper struct {
	s    *eventstore.Store
	name string
	keep time.Duration
	log  *slog.Logger
	id   string
}

// run sweeps until ctx ends, or the driver turns out to remove nothing.
func (sw *sweeper) run(ctx context.Context) {
	every := min(max(sw.keep/4, sweepLeast), sweepMost)
	for pause := min(every, sweepFirst); sleep(ctx, pause); pause = every {
		err := sw.once(ctx)
		switch {
		case ctx.Err() != nil, errors.Is(err, eventstore.ErrClosed):
			return
		case errors.Is(err, eventstore.ErrUnsupported):
			sw.log.DebugContext(ctx, "process: the store cannot remove what is kept of instances that have ended")
			return
		case err != nil:
			sw.log.WarnContext(ctx, "process: what is kept of instances that have ended is not removed, it will be tried again", "pause", every, "err", err)
		}
	}
}

// once sweeps, unless another node does.
func (sw *sweeper) once(ctx context.Context) error {
	leases, err := sw.s.Leases()
	if err != nil {
		return err
	}
	lease := string(inbox(sw.name))
	fence, ok, err := leases.Acquire(ctx, lease, sw.id, sweepLease)
	if err != nil || !ok {
		return err
	}
	renewed := time.Now()
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepLease)
		defer cancel()
		_ = leases.Release(ctx, lease, sw.id, fence) // or else it ends
	}()
	held := func() (bool, error) {
		if time.Since(renewed) < sweepLease/3 {
			return true, nil
		}
		renewed = time.Now()
		_, ok, err := leases.Acquire(ctx, lease, sw.id, sweepLease)
		return ok, err
	}
	// Nothing changes; it is to see whether the driver can.
	if err := sw.s.Truncate(system.Context(ctx), inbox(sw.name), 1); errors.Is(err, eventstore.ErrUnsupported) {
		return err
	}
	before := time.Now().Add(-sw.keep)
	if err := sw.inbox(ctx, before); err != nil {
		return err
	}
	return sw.instances(ctx, before, held)
}

// inbox truncates the inbox before what is not dealt with, or not old enough. The last event of those stays.
func (sw *sweeper) inbox(ctx context.Context, before time.Time) error {
	dealt, err := position(ctx, sw.s, sw.name)
	if err != nil {
		return err
	}
	stream := inbox(sw.name)
	var cut eventstore.Version
	for r, err := range sw.s.ReadStream(ctx, stream, 0) {
		if err != nil {
			return err
		}
		if r.Position > dealt || !r.Time.Before(before) {
			break
		}
		cut = r.Version
	}
	info, err := sw.s.Stream(ctx, stream)
	if err != nil || info.First >= cut {
		return err
	}
	return sw.s.Truncate(system.Context(ctx), stream, cut)
}

// instances trims those that ended before a time. How far it has come is kept in a checkpoint, so that every end is
// looked at once.
func (sw *sweeper) instances(ctx context.Context, before time.Time, held func() (bool, error)) error {
	points, err := sw.s.Checkpoints()
	if err != nil {
		return err
	}
	name := string(inbox(sw.name))
	saved, ok, err := points.LoadCheckpoint(ctx, name)
	if err != nil {
		return err
	}
	head, err := sw.s.Head(ctx)
	if err != nil {
		return err
	}
	at := saved.Position
	save := func() error {
		if ok && at == saved.Position {
			return nil
		}
		from := &saved
		if !ok {
			from = nil
		}
		to := driver.Checkpoint{Position: at, Fence: saved.Fence}
		err := points.SaveCheckpoint(ctx, name, from, to)
		saved, ok = to, true
		return err
	}
	filter := eventstore.Filter{Categories: []string{category(sw.name)}, Types: []string{typeEnded, typeSkipped, typeCancelled}}
	looked := 0
	for r, err := range sw.s.ReadAll(ctx, filter, eventstore.Position(at)) {
		if err != nil {
			return err
		}
		if r.Position > head || !r.Time.Before(before) {
			head = min(head, r.Position-1)
			break
		}
		began := time.Now()
		trimmed, err := sw.trim(ctx, r.Stream, before)
		if err != nil {
			return err
		}
		at = uint64(r.Position)
		if looked++; looked%sweepSave == 0 {
			if err := save(); err != nil {
				return err
			}
		}
		if yes, err := held(); err != nil || !yes {
			return errors.Join(err, save())
		}
		// The store is for others at least half of the time.
		if trimmed && !sleep(ctx, time.Since(began)) {
			return save()
		}
	}
	at = max(at, uint64(head))
	return save()
}

// trim reduces an instance to a stub, if it ended before a time and nothing is left to be done.
func (sw *sweeper) trim(ctx context.Context, stream eventstore.StreamName, before time.Time) (bool, error) {
	ctx = system.Context(ctx)
	var last *eventstore.Recorded
	for r, err := range sw.s.ReadStreamBackward(ctx, stream, 0) {
		if errors.Is(err, eventstore.ErrStreamDeleted) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		last = r
		break
	}
	if last == nil {
		return false, nil
	}
	rec, err := parse(last)
	if err != nil {
		return false, err
	}
	version := last.Version
	switch {
	case last.Type == typeTrimmed:
	case rec.Status != Ended || !last.Time.Before(before):
		return false, nil
	default:
		if rec.Left > 0 {
			waiting, err := waitingIn(ctx, sw.s, stream, rec.Left, 0)
			if err != nil || len(waiting) > 0 {
				return false, err
			}
		}
		stub := record{Position: rec.Position, Status: Ended, Ended: last.Time}
		e, err := stub.event(typeTrimmed)
		if err != nil {
			return false, err
		}
		at, err := sw.s.Append(ctx, stream, expected(version), e)
		if errors.Is(err, eventstore.ErrConflict) { // it began anew
			return false, nil
		}
		if err != nil {
			return false, err
		}
		version = at.Version
	}
	info, err := sw.s.Stream(ctx, stream)
	if err != nil || info.First >= version {
		return false, err
	}
	if err := sw.s.Truncate(ctx, stream, version); err != nil {
		return false, fmt.Errorf("process %s: %w", sw.name, err)
	}
	return true, nil
}
