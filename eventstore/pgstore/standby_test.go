package pgstore

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/postgrestest"
)

func TestAHotStandbyShowsStreamsButNotTheLog(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	url := server.URL(t)
	connect := func(checkOnly bool) (*store, func()) {
		b := &bench{pool: newPool(t, url, 4)}
		s, err := open(t.Context(), b.pool, &Options{NoListen: true, CheckOnly: checkOnly})
		require.NoError(t, err)
		return s, func() {
			require.NoError(t, s.Close())
			b.pool.Close()
		}
	}
	ctx := t.Context()
	s, done := connect(false)
	r := s.Append(ctx, one("s-1", driver.NoStream, "x"))
	require.NoError(t, r.Err)
	require.NoError(t, s.SaveSnapshot(ctx, "s-1", driver.Snapshot{Version: 1, Data: []byte("state")}))
	require.NoError(t, s.SaveCheckpoint(ctx, "c", nil, driver.Checkpoint{Position: 1}))
	done()

	server.Stop()
	signal := filepath.Join(server.Dir(), "standby.signal")
	require.NoError(t, os.WriteFile(signal, nil, 0o644))
	server.Restart(t)
	for _, checkOnly := range []bool{false, true} {
		s, done = connect(checkOnly)
		list, err := s.ReadStream(ctx, "s-1", 0, driver.Forward, 10)
		require.NoError(t, err)
		require.Len(t, list, 1)
		info, err := s.Stream(ctx, "s-1")
		require.NoError(t, err)
		require.Equal(t, uint64(1), info.Version)
		_, ok, err := s.LoadSnapshot(ctx, "s-1")
		require.NoError(t, err)
		require.True(t, ok)
		_, ok, err = s.LoadCheckpoint(ctx, "c")
		require.NoError(t, err)
		require.True(t, ok)

		_, err = s.Head(ctx)
		require.ErrorIs(t, err, ErrUnsuitable)
		_, _, err = s.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 10)
		require.ErrorIs(t, err, ErrUnsuitable)
		_, _, err = s.ReadAll(ctx, driver.Filter{}, 0, driver.Backward, 10)
		require.ErrorIs(t, err, ErrUnsuitable)
		_, err = s.PositionAt(ctx, time.Now())
		require.ErrorIs(t, err, ErrUnsuitable)
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		require.ErrorIs(t, s.Wait(short, 0), context.DeadlineExceeded)
		cancel()

		require.ErrorIs(t, s.Append(ctx, one("s-1", driver.Any)).Err, driver.ErrReadOnly)
		require.ErrorIs(t, s.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "s-1", Event: event("t", "e")}}, nil).Err, driver.ErrReadOnly)
		require.ErrorIs(t, s.AppendWith(ctx, []driver.Append{one("s-1", driver.Any)}, func(any, []driver.Recorded) error { return nil })[0].Err, driver.ErrReadOnly)
		require.ErrorIs(t, s.SaveSnapshot(ctx, "s-1", driver.Snapshot{}), driver.ErrReadOnly)
		require.ErrorIs(t, s.SaveCheckpoint(ctx, "d", nil, driver.Checkpoint{}), driver.ErrReadOnly)
		require.ErrorIs(t, s.Purge(ctx, "s-1"), driver.ErrReadOnly)
		_, _, err = s.Acquire(ctx, "l", "me", time.Second)
		require.ErrorIs(t, err, driver.ErrReadOnly)
		done()
	}

	server.Stop()
	require.NoError(t, os.Remove(signal))
	server.Restart(t)
	s, done = connect(false)
	defer done()
	agree(t, s, r.Last)
}
