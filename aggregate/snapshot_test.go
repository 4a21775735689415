package aggregate_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// awaitSnapshot waits for the snapshot of stream at version v.
func awaitSnapshot(t testing.TB, s *eventstore.Store, stream eventstore.StreamName, v eventstore.Version) (snap eventstore.Snapshot) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		snap, err = s.LoadSnapshot(context.Background(), stream)
		return err == nil && snap.Version == v
	}, 10*time.Second, time.Millisecond)
	return snap
}

func TestSnapshotEveryTen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := memstore.Open(nil)
		typ := accounts()
		typ.SnapshotEvery = 10
		r := open(t, s, typ)
		for i := 1; i <= 25; i++ {
			_, err := r.Execute(t.Context(), deposit{"a", 1})
			require.NoError(t, err)
			synctest.Wait()
			snap, err := s.LoadSnapshot(t.Context(), "account-a")
			require.NoError(t, err)
			require.Equal(t, eventstore.Version(i/10*10), snap.Version, "after %d events", i)
			if snap.Version > 0 {
				require.JSONEq(t, fmt.Sprintf(`{"Balance":%d,"Count":%[1]d}`, snap.Version), string(snap.Data))
			}
		}
	})
}

func TestSnapshotAndTheEventsAfterItAreCombined(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	typ := accounts()
	typ.SnapshotEvery = 10
	var log bytes.Buffer
	typ.Logger = slog.New(slog.NewTextHandler(&log, nil))
	r := open(t, s, typ)
	for range 13 {
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	}
	awaitSnapshot(t, s, "account-a", 10)
	// A snapshot that tells another story shows that it is used, and when not.
	require.NoError(t, s.SaveSnapshot(t.Context(), "account-a", eventstore.Snapshot{Version: 10, Data: []byte(`{"Balance":1000}`)}))

	sum, v := balance(t, open(t, s, typ), "a")
	require.Equal(t, 1003, sum)
	require.Equal(t, eventstore.Version(13), v)

	t.Run("unless it is of another schema", func(t *testing.T) {
		next := accounts()
		next.SnapshotEvery, next.SnapshotSchema = 10, 2
		sum, _ := balance(t, open(t, s, next), "a")
		require.Equal(t, 13, sum)
	})
	t.Run("unless snapshots are disabled", func(t *testing.T) {
		sum, _ := balance(t, open(t, s, accounts()), "a")
		require.Equal(t, 13, sum)
	})
	t.Run("unless it cannot be decoded", func(t *testing.T) {
		require.NoError(t, s.SaveSnapshot(t.Context(), "account-a", eventstore.Snapshot{Version: 11, Data: []byte(`{"Balance":1000,"Count":"many"}`)}))
		sum, _ := balance(t, open(t, s, typ), "a")
		require.Equal(t, 13, sum)
		require.Contains(t, log.String(), "account-a")
	})
	t.Run("unless it is ahead of the stream", func(t *testing.T) {
		require.NoError(t, s.SaveSnapshot(t.Context(), "account-a", eventstore.Snapshot{Version: 99, Data: []byte(`{"Balance":5}`)}))
		sum, v := balance(t, open(t, s, typ), "a")
		require.Equal(t, 13, sum)
		require.Equal(t, eventstore.Version(13), v)
	})
}

func TestSnapshotThatIsUpToDateNeedsNoEvents(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	typ := accounts()
	typ.SnapshotEvery = 2
	r := open(t, s, typ)
	for range 2 {
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	}
	awaitSnapshot(t, s, "account-a", 2)
	f.counts()
	sum, _ := balance(t, open(t, s, typ), "a")
	require.Equal(t, 2, sum)
	_, reads := f.counts()
	require.Zero(t, reads)
}

func TestSnapshotOfADeletedStreamIsNotUsed(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	typ := accounts()
	typ.SnapshotEvery = 2
	r := open(t, s, typ)
	for range 2 {
		_, err := r.Execute(t.Context(), deposit{"a", 10})
		require.NoError(t, err)
	}
	snap := awaitSnapshot(t, s, "account-a", 2)
	require.NoError(t, s.Delete(t.Context(), "account-a", eventstore.Any))
	// As if it had been on its way all the time.
	require.NoError(t, s.SaveSnapshot(t.Context(), "account-a", snap))
	sum, v := balance(t, r, "a")
	require.Zero(t, sum)
	require.Zero(t, v)
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	sum, v = balance(t, open(t, s, typ), "a")
	require.Equal(t, 1, sum)
	require.Equal(t, eventstore.Version(3), v)
}

func TestSnapshotsAreWrittenInTheBackgroundOneAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		var mu sync.Mutex
		var versions []uint64
		writing := 0
		release := make(chan struct{})
		f.snap = func(s driver.Snapshot) error {
			mu.Lock()
			writing++
			versions = append(versions, s.Version)
			if writing > 1 {
				t.Error("two at a time")
			}
			mu.Unlock()
			<-release
			mu.Lock()
			writing--
			mu.Unlock()
			return nil
		}
		s := eventstore.New(f, nil)
		typ := accounts()
		typ.SnapshotEvery = 1
		typ.Cached = -1 // not even eviction makes it two
		r := open(t, s, typ)
		for range 5 {
			_, err := r.Execute(t.Context(), deposit{"a", 1})
			require.NoError(t, err)
			synctest.Wait()
		}
		close(release)
		synctest.Wait()
		require.Equal(t, []uint64{1, 5}, versions, "what came meanwhile is overtaken by the latest")
		snap, err := s.LoadSnapshot(t.Context(), "account-a")
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(5), snap.Version)
	})
}

func TestFailureToWriteASnapshotIsLoggedAndFailsNoCommand(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"driver", "encode", "panic"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFaulty()
				var buf bytes.Buffer
				typ := accounts()
				typ.SnapshotEvery = 1
				typ.Logger = slog.New(slog.NewTextHandler(&buf, nil))
				switch name {
				case "driver":
					f.snap = func(driver.Snapshot) error { return errDisk }
				default:
					typ.Snapshot = &aggregate.SnapshotCodec[account]{
						Encode: func(*account) ([]byte, error) {
							if name == "panic" {
								panic("disk full")
							}
							return nil, errDisk
						},
						Decode: func([]byte, *account) error { return errDisk },
					}
				}
				r := open(t, eventstore.New(f, nil), typ)
				_, err := r.Execute(t.Context(), deposit{"a", 1})
				require.NoError(t, err)
				synctest.Wait()
				require.Contains(t, buf.String(), "disk full")
				require.Contains(t, buf.String(), "account-a")
				_, err = r.Execute(t.Context(), deposit{"a", 1})
				require.NoError(t, err)
			})
		})
	}
}

func TestASnapshotThatComesTooLateForAClosedStoreIsNoFault(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		f.snap = func(driver.Snapshot) error { return driver.ErrClosed }
		var buf bytes.Buffer
		typ := accounts()
		typ.SnapshotEvery = 1
		typ.Logger = slog.New(slog.NewTextHandler(&buf, nil))
		_, err := open(t, eventstore.New(f, nil), typ).Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, buf.String())
	})
}

func TestSnapshotCodecReplacesJSON(t *testing.T) {
	t.Parallel()
	type hidden = hiddenState
	s := memstore.Open(nil)
	typ := &aggregate.Type[hidden]{
		Name: "hidden", Events: aggregate.Events[hidden]{"poked": poked{}}, SnapshotEvery: 2,
		Snapshot: &aggregate.SnapshotCodec[hidden]{
			Encode: func(h *hidden) ([]byte, error) { return []byte(strings.Repeat("\xff", h.pokes)), nil },
			Decode: func(data []byte, h *hidden) error { h.pokes = len(data); return nil },
		},
	}
	r, err := aggregate.New(s, typ)
	require.NoError(t, err)
	for range 3 {
		_, err := r.Execute(t.Context(), poke{"a"})
		require.NoError(t, err)
	}
	snap := awaitSnapshot(t, s, "hidden-a", 2)
	require.Equal(t, "\xff\xff", string(snap.Data))
	r, err = aggregate.New(s, typ)
	require.NoError(t, err)
	require.NoError(t, r.View(t.Context(), "a", func(h *hidden, v eventstore.Version) {
		require.Equal(t, 3, h.pokes)
	}))

	t.Run("which would lose unexported fields", func(t *testing.T) {
		_, err := aggregate.New(memstore.Open(nil), &aggregate.Type[hidden]{Name: "hidden", Events: typ.Events, SnapshotEvery: 2})
		require.ErrorIs(t, err, eventstore.ErrCodec)
		require.ErrorContains(t, err, "pokes")
	})
}

// A hiddenState is one that JSON cannot keep.
type hiddenState struct{ pokes int }

type poked struct{}

func (poked) Apply(h *hiddenState) { h.pokes++ }

type poke struct{ ID string }

func (c poke) AggregateID() string { return c.ID }

func (poke) Execute(hiddenState) ([]aggregate.Event[hiddenState], error) {
	return []aggregate.Event[hiddenState]{poked{}}, nil
}
