package eventstoretest_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

var errFault = errors.New("fault")

// every operation, as the driver is asked for it; those that write do it again and again.
func every(d driver.Store) map[eventstoretest.Op]func(context.Context) error {
	a := driver.Append{Stream: "s", Events: []driver.Event{{ID: eventstore.NewID(), Type: "t"}}}
	c, l, s, q := d.(driver.Checkpointer), d.(driver.Leaser), d.(driver.Snapshotter), d.(driver.Conditional)
	return map[eventstoretest.Op]func(context.Context) error{
		eventstoretest.OpAppend: func(ctx context.Context) error {
			a.Events[0].ID = eventstore.NewID()
			return d.Append(ctx, a).Err
		},
		eventstoretest.OpReadStream: func(ctx context.Context) error { _, err := d.ReadStream(ctx, "s", 0, driver.Forward, 1); return err },
		eventstoretest.OpReadAll: func(ctx context.Context) error {
			_, _, err := d.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 1)
			return err
		},
		eventstoretest.OpQuery:  func(ctx context.Context) error { _, _, err := q.Query(ctx, nil, 0, 1); return err },
		eventstoretest.OpHead:   func(ctx context.Context) error { _, err := d.Head(ctx); return err },
		eventstoretest.OpStream: func(ctx context.Context) error { _, err := d.Stream(ctx, "s"); return err },
		eventstoretest.OpSaveSnapshot: func(ctx context.Context) error {
			return s.SaveSnapshot(ctx, "s", driver.Snapshot{Version: 1})
		},
		eventstoretest.OpLoadSnapshot: func(ctx context.Context) error { _, _, err := s.LoadSnapshot(ctx, "s"); return err },
		eventstoretest.OpSaveCheckpoint: func(ctx context.Context) error {
			return errors.Join(c.SaveCheckpoint(ctx, "c", nil, driver.Checkpoint{}), d.(driver.Checkpointer).DeleteCheckpoint(ctx, "c"))
		},
		eventstoretest.OpLoadCheckpoint: func(ctx context.Context) error {
			_, _, err := c.LoadCheckpoint(ctx, "c")
			_, err2 := c.Checkpoints(ctx, "")
			return errors.Join(err, err2)
		},
		eventstoretest.OpAcquire: func(ctx context.Context) error { _, _, err := l.Acquire(ctx, "l", "me", time.Minute); return err },
		eventstoretest.OpRelease: func(ctx context.Context) error { return l.Release(ctx, "l", "me", 1) },
		eventstoretest.OpLeases:  func(ctx context.Context) error { _, err := l.Leases(ctx, ""); return err },
	}
}

func TestEveryOperationFailsWhenToldTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
		for op, call := range every(d) {
			require.NoError(t, call(t.Context()), op)
			calls := faults.Calls(op)
			require.Positive(t, calls, op)
			faults.Before(op, 2*calls, errFault)
			for range 2 {
				require.ErrorIs(t, call(t.Context()), errFault, op)
			}
			require.NoError(t, call(t.Context()), op)
			faults.After(op, -1, errFault)
			for range 3 {
				require.ErrorIs(t, call(t.Context()), errFault, op)
			}
			faults.Heal()
			require.NoError(t, call(t.Context()), op)
			faults.Delay(op, time.Minute)
			began := time.Now()
			require.NoError(t, call(t.Context()), op)
			require.Equal(t, time.Duration(calls)*time.Minute, time.Since(began), op)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, call(ctx), context.DeadlineExceeded, op)
			cancel()
			faults.Delay(op, 0)
		}
	})
}

func TestAnAppendThatFailsBeforeIsNotStoredAndOneThatFailsAfterIs(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() driver.Store{
		"memory": memstore.NewDriver,
		"sqlite": func() driver.Store {
			s, err := sqlitestore.OpenDriver(filepath.Join(t.TempDir(), "events.db"), nil)
			require.NoError(t, err)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, faults := eventstoretest.Faulty(t, open())
			s := eventstore.New(d, nil)
			defer s.Close()
			require.NoError(t, s.Types.Register("lost", Lost{}))
			add := func(n int) error {
				_, err := s.Append(t.Context(), "note-1", eventstore.Any, eventstore.Event{Data: Lost{n}})
				return err
			}
			require.NoError(t, add(1))
			faults.Before(eventstoretest.OpAppend, 1, errFault)
			require.ErrorIs(t, add(2), errFault)
			faults.After(eventstoretest.OpAppend, 1, errFault)
			require.ErrorIs(t, add(3), errFault)
			require.NoError(t, add(4))
			require.Equal(t, []any{Lost{1}, Lost{3}, Lost{4}}, eventstoretest.All(t, s, eventstore.Filter{}))

			// In a batch each by itself.
			faults.Before(eventstoretest.OpAppend, 1, errFault)
			as := make([]driver.Append, 3)
			for i := range as {
				as[i] = driver.Append{Stream: "batch-1", Events: []driver.Event{{ID: eventstore.NewID(), Type: "x"}}}
			}
			as[1].Expected = 7
			faults.After(eventstoretest.OpAppend, 1, errFault)
			rs := d.(driver.Batcher).AppendBatch(t.Context(), as)
			require.ErrorIs(t, rs[0].Err, errFault)
			_, conflict := errors.AsType[*driver.ConflictError](rs[1].Err)
			require.True(t, conflict)
			require.ErrorIs(t, rs[2].Err, errFault, "stored")
			info, err := d.Stream(t.Context(), "batch-1")
			require.NoError(t, err)
			require.EqualValues(t, 1, info.Version)
			faults.Before(eventstoretest.OpAppend, 1, errFault)
			rs = d.(driver.Inliner).AppendWith(t.Context(), as[:1], func(any, []driver.Recorded) error { return nil })
			require.ErrorIs(t, rs[0].Err, errFault)
			var db *sqlitestore.DB
			require.Equal(t, name == "sqlite", s.As(&db), "what the driver gives itself")
		})
	}
}

func TestFollowersLoseNothingAndSeeNothingTwiceWhateverTheirDriverDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
		here, there := eventstore.New(d, nil), eventstore.New(memstoreOf(d), nil)
		for _, s := range []*eventstore.Store{here, there} {
			require.NoError(t, s.Types.Register("lost", Lost{}))
		}
		sub, err := eventstore.SubscribeTo[Lost](t.Context(), here, eventstore.Filter{}, eventstore.Origin())
		require.NoError(t, err)
		faults.Deaf(true)
		faults.Twice(true)
		var got, want []Lost
		for n := range 40 {
			if n == 20 {
				faults.Before(eventstoretest.OpReadAll, 3, errFault)
			}
			want = append(want, Lost{n})
			s := []*eventstore.Store{here, there}[n%2]
			_, err := s.Append(t.Context(), "note-1", eventstore.Any, eventstore.Event{Data: Lost{n}})
			require.NoError(t, err)
			if n%3 == 0 {
				time.Sleep(time.Second)
			}
		}
		for len(got) < len(want) {
			select {
			case b := <-sub.C:
				got = append(got, b.Events...)
			case <-time.After(time.Minute):
				require.FailNow(t, "lost", "%v", got)
			}
		}
		time.Sleep(time.Minute)
		require.Empty(t, sub.C)
		require.Equal(t, want, got)
		require.NoError(t, here.Close())
	})
}

// memstoreOf is another process that writes to the same log, without faults.
func memstoreOf(d driver.Store) driver.Store { return struct{ driver.Store }{d} }
