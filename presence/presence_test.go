package presence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func alone(t *testing.T) *Presence {
	t.Helper()
	p, err := New(&Options{Node: "a", Logger: quiet})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func join(t *testing.T, n *network, name string, o Options) *Presence {
	t.Helper()
	o.Node, o.Logger, o.Transport = name, quiet, n.port(name)
	p, err := New(&o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func track(t *testing.T, c *Conn, key string) {
	t.Helper()
	_, err := c.Track("t", key, nil)
	require.NoError(t, err)
}

func keys(p *Presence) []string {
	var keys []string
	for _, k := range p.List("t") {
		keys = append(keys, k.Key)
	}
	return keys
}

func TestWhatIsOutsideItsLimitsIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	p := alone(t)
	c := p.Connect()
	long := strings.Repeat("x", MaxNameBytes+1)
	for name, try := range map[string]struct {
		topic, key string
		meta       any
	}{
		"empty topic": {"", "k", 1}, "empty key": {"t", "", 1}, "long topic": {long, "k", 1}, "long key": {"t", long, 1},
		"control": {"t", "a\nb", 1}, "not UTF-8": {"t", "\xff", 1}, "no JSON": {"t", "k", func() {}}, "large meta": {"t", "k", strings.Repeat("x", 4<<10)},
	} {
		_, err := c.Track(try.topic, try.key, try.meta)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	require.Empty(t, p.topics)
	_, err := p.Diffs("")
	require.ErrorIs(t, err, ErrInvalid)
	for name, o := range map[string]Options{
		"Down": {Down: time.Second}, "PermDown": {PermDown: time.Second}, "Flush": {Flush: -1}, "MetaBytes": {MetaBytes: MaxMetaBytes + 1},
		"FrameBytes": {FrameBytes: 100}, "Log": {Log: -1}, "Node": {Node: long},
	} {
		_, err := New(&o)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
}

func TestAConnectionTracksAKeyOnceAndOthersAddMetas(t *testing.T) {
	t.Parallel()
	p := alone(t)
	one, two := p.Connect(), p.Connect()
	track(t, one, "ann")
	_, err := one.Track("t", "ann", 2)
	require.ErrorIs(t, err, ErrTracked)
	track(t, two, "ann")
	ann, ok := p.GetByKey("t", "ann")
	require.True(t, ok)
	require.Len(t, ann.Metas, 2)
	require.ErrorIs(t, one.Update("t", "bob", 1), ErrNotTracked)
	require.ErrorIs(t, one.Untrack("t", "bob"), ErrNotTracked)
	require.NoError(t, one.Update("t", "ann", map[string]int{"N": 3}))
	ann, _ = p.GetByKey("t", "ann")
	var got struct{ N int }
	require.NoError(t, ann.Metas[0].Decode(&got))
	require.Equal(t, 3, got.N)
	require.NoError(t, one.Untrack("t", "ann"))
	two.UntrackAll()
	_, ok = p.GetByKey("t", "ann")
	require.False(t, ok)
	require.Empty(t, p.topics, "nothing is kept of an empty topic")
}

func TestASlowSubscriberGetsOneDiffOfWhatIsLeftOfTheChanges(t *testing.T) {
	t.Parallel()
	p := alone(t)
	c := p.Connect()
	track(t, c, "ann")
	d, err := p.Diffs("t")
	require.NoError(t, err)
	defer d.Close()
	_, ok := d.Take()
	require.True(t, ok, "the first diff holds all who are present")
	for i := range 1000 {
		require.NoError(t, c.Update("t", "ann", i))
		track(t, c, "bob")
		require.NoError(t, c.Untrack("t", "bob"))
	}
	require.Len(t, d.pending, 1)
	diff, ok := d.Take()
	require.True(t, ok)
	require.Equal(t, "null", diff.Leaves[0].Metas[0].JSON)
	require.Equal(t, "999", diff.Joins[0].Metas[0].JSON)
	require.Equal(t, diff.Leaves[0].Metas[0].Ref, diff.Joins[0].Metas[0].Ref)
	require.Empty(t, diff.Joined)
	require.Empty(t, diff.Left)
	_, ok = d.Take()
	require.False(t, ok)
}

func TestGraceKeepsTheEntryForItsSuccessorAndEndsOnTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := alone(t)
		first := p.Connect()
		track(t, first, "ann")
		d, err := p.Diffs("t")
		require.NoError(t, err)
		d.Take()
		first.Close()
		_, err = first.Track("t", "ann", nil)
		require.ErrorIs(t, err, ErrClosed)
		time.Sleep(1900 * time.Millisecond)
		second := p.Connect()
		track(t, second, "ann")
		time.Sleep(time.Minute)
		synctest.Wait()
		_, ok := d.Take()
		require.False(t, ok, "nobody saw it leave")
		second.Close()
		time.Sleep(1999 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []string{"ann"}, keys(p))
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Empty(t, keys(p))
		require.Empty(t, p.tracked)
		require.Empty(t, p.orphans)
	})
}

func TestCloseEndsSubscriptionsAndRefusesChanges(t *testing.T) {
	t.Parallel()
	p := alone(t)
	c := p.Connect()
	d, err := p.Diffs("t")
	require.NoError(t, err)
	track(t, c, "ann")
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	diff, err := d.Next(ctx)
	require.NoError(t, err, "what was there to take is taken")
	require.Equal(t, []string{"ann"}, diff.Joined)
	_, err = d.Next(ctx)
	require.ErrorIs(t, err, ErrClosed)
	_, err = c.Track("t", "bob", nil)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, c.Update("t", "ann", 1), ErrClosed)
	_, err = p.Diffs("t")
	require.ErrorIs(t, err, ErrClosed)
	require.Equal(t, []string{"ann"}, keys(p))
	cancel()
	other, err := alone(t).Diffs("t")
	require.NoError(t, err)
	_, err = other.Next(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

func TestChangesReachOtherNodesWithinTheFlushTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := join(t, n, "a", Options{}), join(t, n, "b", Options{})
		n.run(time.Second)
		c := a.Connect()
		track(t, c, "ann")
		n.run(100 * time.Millisecond)
		require.Equal(t, []string{"ann"}, keys(b))
		c.UntrackAll()
		n.run(100 * time.Millisecond)
		require.Empty(t, keys(b))
	})
}

func TestADeadNodeIsShownUntilDownAndForgottenAfterPermDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := join(t, n, "a", Options{}), join(t, n, "b", Options{})
		track(t, a.Connect(), "ann")
		n.run(5 * time.Second)
		n.kill("a") // it may have been silent for almost five seconds
		n.run(4 * time.Second)
		require.Equal(t, []string{"ann"}, keys(b))
		n.run(7 * time.Second)
		require.Empty(t, keys(b))
		require.Contains(t, b.rows, "a")
		n.run(5 * time.Minute)
		require.NotContains(t, b.rows, "a")
	})
}

func TestByeTakesUsersAwayAtOnceAndFencesLateGossip(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b, l := join(t, n, "a", Options{}), join(t, n, "b", Options{}), join(t, n, "l", Options{Linger: true})
		track(t, a.Connect(), "ann")
		track(t, l.Connect(), "lin")
		n.run(time.Second)
		late := frame{kind: kindDelta, node: "a", inc: a.inc, lo: 1, hi: 1}
		require.NoError(t, a.Close())
		require.NoError(t, l.Close())
		n.run(50 * time.Millisecond)
		require.Equal(t, []string{"lin"}, keys(b), "who lingers stays")
		b.receive(late.encode())
		require.NotContains(t, b.rows, "a")
		n.run(6 * time.Minute)
		require.Empty(t, b.fences)
		require.Empty(t, keys(b))
	})
}

func TestARestartReplacesTheOldSelfBeforeItIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := join(t, n, "a", Options{}), join(t, n, "b", Options{})
		track(t, a.Connect(), "ghost")
		n.run(time.Second)
		n.kill("a")
		again := join(t, n, "a", Options{})
		track(t, again.Connect(), "ann")
		n.run(time.Second)
		require.Equal(t, []string{"ann"}, keys(b))
	})
}

func TestALostTransportShowsLocalUsersOnlyAndTellsSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		a, b := join(t, n, "a", Options{}), join(t, n, "b", Options{})
		track(t, a.Connect(), "ann")
		track(t, b.Connect(), "bob")
		n.run(time.Second)
		empty, err := a.Diffs("elsewhere")
		require.NoError(t, err)
		a.opts.Transport.(*port).link(false)
		require.True(t, a.Degraded())
		require.Equal(t, []string{"ann"}, keys(a))
		diff, err := empty.Next(t.Context())
		require.NoError(t, err)
		require.True(t, diff.Degraded)
		a.opts.Transport.(*port).link(true)
		n.run(5 * time.Second)
		diff, ok := empty.Take()
		require.True(t, ok)
		require.False(t, diff.Degraded)
		require.Equal(t, []string{"ann", "bob"}, keys(a))
	})
}

func TestALargeNodeIsLearntInPartsAndBadFramesAreDropped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		o := Options{MetaBytes: 64, FrameBytes: 64 + 2<<10, Log: 10}
		a := join(t, n, "a", o)
		c := a.Connect()
		for i := range 300 {
			track(t, c, fmt.Sprint(i))
		}
		n.run(time.Second)
		b := join(t, n, "b", o)
		b.receive([]byte("nonsense"))
		n.run(2 * time.Second)
		require.Len(t, keys(b), 300)
		require.Nil(t, b.rows["a"].partial)
	})
}

type broken struct{ port }

func (*broken) Start(string, func([]byte), func(bool)) error { return errBroken }

var errBroken = errors.New("broken")

func TestNewReportsATransportThatDoesNotStart(t *testing.T) {
	t.Parallel()
	_, err := New(&Options{Transport: &broken{}})
	require.ErrorIs(t, err, errBroken)
}
