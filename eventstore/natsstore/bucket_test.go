package natsstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/natstest"
)

func openFresh(t testing.TB) *store {
	t.Helper()
	s, err := open(t.Context(), natstest.Shared(t, 1).Connect(t), &Options{Name: fresh()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// TestLeasesRunByTheClockOfTheServer: nothing that a client believes of the time
// goes into a lease or out of it.
func TestLeasesRunByTheClockOfTheServer(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	fence, ok, err := s.Acquire(t.Context(), "l", "a", time.Hour)
	require.NoError(t, err)
	require.True(t, ok)
	it, err := s.leases.get(t.Context(), token("l"))
	require.NoError(t, err)
	list, err := s.Leases(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, []driver.Lease{{Name: "l", Owner: "a", Fence: fence, Expires: it.time.Add(time.Hour)}}, list)

	// A client whose clock is wrong would see another time than the server: such a
	// server stands in here, an hour ahead, and half an hour behind.
	for _, skew := range []time.Duration{59 * time.Minute, 61 * time.Minute, -30 * time.Minute} {
		r := newRelay(t)
		x, err := open(t.Context(), r.far, &Options{Name: s.opt.Name})
		require.NoError(t, err)
		r.play(skewed(skew))
		list, err := x.Leases(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, list, map[bool]int{true: 0, false: 1}[skew > time.Hour])
		if skew < time.Hour {
			_, ok, err := x.Acquire(t.Context(), "l", "b", time.Hour)
			require.NoError(t, err)
			require.False(t, ok, "by the server's clock it has not expired")
		}
		require.NoError(t, x.Close())
	}
	r := newRelay(t)
	x, err := open(t.Context(), r.far, &Options{Name: s.opt.Name})
	require.NoError(t, err)
	defer x.Close()
	r.play(skewed(61 * time.Minute))
	next, ok, err := x.Acquire(t.Context(), "l", "b", time.Hour)
	require.NoError(t, err)
	require.True(t, ok, "by the server's clock it has expired")
	require.Greater(t, next, fence)
}

func TestFencesRiseWhateverBecomesOfTheKey(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	js, err := jetstream.New(s.log.nc)
	require.NoError(t, err)
	var last uint64
	take := func(name, owner string) {
		t.Helper()
		fence, ok, err := s.Acquire(t.Context(), name, owner, time.Hour)
		require.NoError(t, err)
		require.True(t, ok)
		if name == "l/1" {
			require.Greater(t, fence, last)
			last = fence
		}
	}
	take("l/1", "a")
	kv, err := js.KeyValue(t.Context(), s.opt.Name+"-lease")
	require.NoError(t, err, "it is a bucket like any other")
	for range 3 {
		take("other", "a")
		require.NoError(t, kv.Delete(t.Context(), token("l/1")))
		take("l/1", "b")
		require.NoError(t, kv.Purge(t.Context(), token("l/1")))
		take("l/1", "c")
		take("other", "a")
		require.NoError(t, s.leases.link.purge(t.Context(), s.leases.subject(token("l/1")), 0))
		take("l/1", "a")
		require.NoError(t, s.Release(t.Context(), "l/1", "a", last))
		take("l/1", "d")
		require.NoError(t, s.Release(t.Context(), "l/1", "d", last))
	}
}

func TestABucketIsMadeWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	js, err := jetstream.New(s.log.nc)
	require.NoError(t, err)
	_, ok, err := s.LoadCheckpoint(t.Context(), "c")
	require.NoError(t, err)
	require.False(t, ok)
	list, err := s.Leases(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, list)
	for _, b := range []string{"-snap", "-cp", "-lease"} {
		info, err := lookUp(t.Context(), js, "KV_"+s.opt.Name+b)
		require.NoError(t, err)
		require.Nil(t, info, "reading makes none")
	}
	require.NoError(t, s.SaveCheckpoint(t.Context(), "c", nil, driver.Checkpoint{Position: 7}))
	kv, err := js.KeyValue(t.Context(), s.opt.Name+"-cp")
	require.NoError(t, err)
	e, err := kv.Get(t.Context(), "c")
	require.NoError(t, err)
	require.Len(t, e.Value(), 16)
	// One that would forget is refused.
	other := openFresh(t)
	_, err = js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: other.opt.Name + "-cp", TTL: time.Hour})
	require.NoError(t, err)
	require.ErrorIs(t, other.SaveCheckpoint(t.Context(), "c", nil, driver.Checkpoint{}), ErrConfig)
}

// pattern returns n bytes of which no two parts are alike, nor for two versions.
func pattern(version uint64, n int) []byte {
	b := make([]byte, 0, n+16)
	for i := uint64(0); len(b) < n; i++ {
		b = binary.BigEndian.AppendUint64(b, version)
		b = binary.BigEndian.AppendUint64(b, i)
	}
	return b[:n]
}

func TestALargeSnapshotIsKeptInPieces(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	size := s.payload - recordOverhead
	must(t, s, "a-1", driver.NoStream, 1)
	version := uint64(0)
	for _, n := range []int{0, 1, size, size + 1, 3*size + 5, 2 * size, 10, 4 * size, 100} {
		version++
		want := driver.Snapshot{Version: version, Schema: 3, Data: pattern(version, n)}
		require.NoError(t, s.SaveSnapshot(t.Context(), "a-1", want))
		have, ok, err := s.LoadSnapshot(t.Context(), "a-1")
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, bytes.Equal(want.Data, have.Data), "%d bytes", n)
		info, err := s.snapshots.link.info(t.Context(), "", 0)
		require.NoError(t, err)
		require.Equal(t, uint64(max(1, (n+size-1)/size)), info.State.Msgs, "no piece is left behind, after %d bytes", n)
	}
	require.ErrorIs(t, s.SaveSnapshot(t.Context(), "a-1", driver.Snapshot{Version: 99, Data: make([]byte, maxSnapshotBytes+1)}), driver.ErrTooLarge)
	require.NoError(t, s.SaveSnapshot(t.Context(), "a-1", driver.Snapshot{Version: 99, Data: make([]byte, 3*size)}))
	require.NoError(t, s.Purge(t.Context(), "a-1"))
	info, err := s.snapshots.link.info(t.Context(), "", 0)
	require.NoError(t, err)
	require.Equal(t, uint64(1), info.State.Msgs, "only that it was purged is left")
}

func TestASnapshotIsReadWholeWhileItIsReplaced(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	size := s.payload - recordOverhead
	save := func(v uint64) error {
		return s.SaveSnapshot(t.Context(), "a-1", driver.Snapshot{Version: v, Data: pattern(v, 2*size+int(v))})
	}
	require.NoError(t, save(1))
	var saving sync.WaitGroup
	for w := range 2 {
		saving.Go(func() {
			for v := uint64(2 + w); v < 20; v += 2 {
				if err := save(v); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { saving.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		snap, ok, err := s.LoadSnapshot(t.Context(), "a-1")
		require.NoError(t, err)
		require.True(t, ok)
		require.True(t, bytes.Equal(pattern(snap.Version, 2*size+int(snap.Version)), snap.Data))
	}
	snap, _, err := s.LoadSnapshot(t.Context(), "a-1")
	require.NoError(t, err)
	require.Equal(t, uint64(19), snap.Version)
}

func TestACheckpointIsSavedOnceWhenTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	require.NoError(t, s.SaveCheckpoint(t.Context(), "c", nil, driver.Checkpoint{Position: 1}))
	for i := range uint64(3) {
		r.play(losing("$KV." + s.opt.Name + "-cp."))
		require.NoError(t, s.SaveCheckpoint(t.Context(), "c", &driver.Checkpoint{Position: i + 1}, driver.Checkpoint{Position: i + 2}))
		c, ok, err := s.LoadCheckpoint(t.Context(), "c")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, i+2, c.Position)
	}
	other, err := open(t.Context(), r.real, &Options{Name: s.opt.Name})
	require.NoError(t, err)
	defer other.Close()
	require.NoError(t, other.SaveCheckpoint(t.Context(), "c", &driver.Checkpoint{Position: 4}, driver.Checkpoint{Position: 9}))
	require.ErrorIs(t, s.SaveCheckpoint(t.Context(), "c", &driver.Checkpoint{Position: 4}, driver.Checkpoint{Position: 5}), driver.ErrMoved, "what it remembers is old")
	big := driver.Checkpoint{Data: make([]byte, s.payload)}
	require.ErrorIs(t, s.SaveCheckpoint(t.Context(), "big", nil, big), driver.ErrTooLarge)
}

func TestTheHeadIsAnEventAlthoughMarkersFollow(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	head := func() uint64 {
		t.Helper()
		h, err := s.Head(t.Context())
		require.NoError(t, err)
		return h
	}
	require.Zero(t, head())
	kept := must(t, s, "kept-1", driver.NoStream, 1).Last
	for i := range 300 {
		must(t, s, fmt.Sprintf("gone-%d", i%3), driver.Any, 7)
	}
	for i := range 3 {
		require.NoError(t, s.Purge(t.Context(), fmt.Sprintf("gone-%d", i)))
	}
	require.Equal(t, kept, head(), "over two thousand that are gone")
	require.NoError(t, s.Purge(t.Context(), "kept-1"))
	require.Zero(t, head())
	at := must(t, s, "new-1", driver.NoStream, 1)
	require.Equal(t, at.Last, head())
	require.Greater(t, at.Last, kept)
	// Somebody removes the very last message.
	require.NoError(t, s.log.api(t.Context(), "MSG.DELETE", map[string]uint64{"seq": must(t, s, "new-1", 1, 1).Last}, &answer{}))
	require.Equal(t, at.Last, head())
}

func TestNamesAreKeptUntilThereIsAnother(t *testing.T) {
	t.Parallel()
	s := openFresh(t)
	names := func() (list []string) {
		t.Helper()
		infos, err := s.Streams(t.Context(), "", "", 100)
		require.NoError(t, err)
		for _, i := range infos {
			list = append(list, i.Name)
		}
		return list
	}
	for i := range 5 {
		must(t, s, fmt.Sprintf("a-%d", i), driver.NoStream, 1)
	}
	require.Len(t, names(), 5)
	requests := func() uint64 { return s.log.nc.Stats().OutMsgs }
	before := requests()
	require.Len(t, names(), 5)
	require.LessOrEqual(t, requests()-before, uint64(6), "one to see that there are no more, and one a stream")
	require.NoError(t, s.Purge(t.Context(), "a-2"))
	require.Equal(t, []string{"a-0", "a-1", "a-3", "a-4"}, names())
	must(t, s, "b-1", driver.NoStream, 1)
	require.Len(t, names(), 5)
}
