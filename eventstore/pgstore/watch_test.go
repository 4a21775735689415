package pgstore

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func (w *watcher) listens() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hears
}

func TestALostListenerComesBackByItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	s := b.open(t, Options{})
	peer := b.openAt(t, Options{Schema: s.opt.Schema})
	ctx := t.Context()
	var last uint64
	follow := func() {
		r := peer.Append(ctx, one("s-1", driver.Any))
		require.NoError(t, r.Err)
		require.NoError(t, s.Wait(ctx, last))
		agree(t, s, r.Last)
		last = r.Last
	}
	follow()
	for range 2 {
		require.Eventually(t, s.watch.listens, time.Minute, time.Millisecond)
		follow()
		var n int
		require.NoError(t, b.pool.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query = 'LISTEN ' || $1", s.watch.channel).Scan(&n))
		require.Equal(t, 1, n, "one connection listens, however many wait")
		require.Eventually(t, func() bool { return !s.watch.listens() }, time.Minute, time.Microsecond)
		follow()
	}
	require.Eventually(t, s.watch.listens, time.Minute, time.Millisecond)
}

func TestAStoreOfWhichTheEndWasRemovedWaitsForWhatComes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	s := b.open(t, Options{NoListen: true})
	ctx := t.Context()
	first := s.Append(ctx, one("s-1", driver.Any))
	require.NoError(t, first.Err)
	require.NoError(t, s.Append(ctx, one("s-2", driver.Any)).Err)
	require.NoError(t, s.Wait(ctx, first.Last))
	require.NoError(t, s.Purge(ctx, "s-2"))
	early := 0
	for until := time.Now().Add(100 * time.Millisecond); time.Now().Before(until); early++ {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		_ = s.Wait(short, first.Last)
		cancel()
	}
	require.Less(t, early, 50, "it does not return at once for ever")
	done := make(chan error, 1)
	go func() { done <- s.Wait(ctx, first.Last+1) }()
	require.NoError(t, s.Append(ctx, one("s-1", driver.Any)).Err)
	require.NoError(t, <-done)
}
