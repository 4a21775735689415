package eventstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

// watched is a driver that notes what is read.
type watched struct {
	driver.Store
	mu     sync.Mutex
	limits []int        // of each read
	events atomic.Int32 // read from the log
	now    atomic.Int32
	most   atomic.Int32 // reads of the log at once
	hold   func()
}

func (d *watched) ReadStream(ctx context.Context, s string, from uint64, dir driver.Direction, n int) ([]driver.Recorded, error) {
	d.note(n)
	return d.Store.ReadStream(ctx, s, from, dir, n)
}

func (d *watched) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, n int) ([]driver.Recorded, uint64, error) {
	d.note(n)
	now := d.now.Add(1)
	defer d.now.Add(-1)
	for most := d.most.Load(); now > most && !d.most.CompareAndSwap(most, now); most = d.most.Load() {
	}
	if d.hold != nil {
		d.hold()
	}
	events, scanned, err := d.Store.ReadAll(ctx, f, from, dir, n)
	d.events.Add(int32(len(events)))
	return events, scanned, err
}

func (d *watched) note(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limits = append(d.limits, n)
}

func (d *watched) taken() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.limits
	d.limits = nil
	return out
}

func TestBackwardReadsBeginWithFewEventsAndDouble(t *testing.T) {
	t.Parallel()
	d := &watched{Store: memstore.NewDriver()}
	s := open(t, plainDriver{d}, &eventstore.Options{PageSize: 100})
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(make([]int, 300)...)...)
	require.NoError(t, err)
	for name, seq := range map[string]func(func(*eventstore.Recorded, error) bool){
		"stream": s.ReadStreamBackward(t.Context(), "a-1", 0),
		"all":    s.ReadAllBackward(t.Context(), eventstore.Filter{}, 0),
	} {
		d.taken()
		want := eventstore.Version(300)
		for r, err := range seq {
			require.NoError(t, err)
			require.Equal(t, want, r.Version, name)
			want--
		}
		require.Zero(t, want)
		require.Equal(t, []int{16, 32, 64, 100}, d.taken()[:4], name)
	}
	for r, err := range s.ReadStreamBackward(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		require.EqualValues(t, 300, r.Version)
		break
	}
	require.Equal(t, []int{16}, d.taken(), "who wants one reads one page")
	for r, err := range s.ReadStreamBackward(t.Context(), "a-1", 3) {
		require.NoError(t, err)
		require.EqualValues(t, 2, r.Version)
		break
	}
	for r, err := range s.ReadAllBackward(t.Context(), eventstore.Filter{}, 3) {
		require.NoError(t, err)
		require.EqualValues(t, 2, r.Position)
		break
	}
}

func TestReadsPageByPage(t *testing.T) {
	t.Parallel()
	for _, page := range []int{1, 2, 7, 100, 1000} {
		s := open(t, memstore.NewDriver(), &eventstore.Options{PageSize: page})
		const n = 100
		for i := range n {
			_, err := s.Append(t.Context(), eventstore.Stream("a", fmt.Sprint(i%2)), eventstore.Any, deposits(i)...)
			require.NoError(t, err)
		}
		for after := 0; after <= n; after += 9 {
			next := after
			for r, err := range s.ReadAll(t.Context(), eventstore.Filter{}, eventstore.Position(after)) {
				require.NoError(t, err)
				require.Equal(t, next, amount(r))
				next++
			}
			require.Equal(t, n, next)
		}
		next := eventstore.Version(4)
		for p, err := range s.ReadStreamPages(t.Context(), "a-1", 4) {
			require.NoError(t, err)
			require.Equal(t, next+1, p.First)
			require.Len(t, p.Events, int(p.Last-p.First)+1)
			next = p.Last
		}
		require.EqualValues(t, n/2, next)
		for range s.ReadStream(t.Context(), "none", 0) {
			t.Fatal("an event of a stream that does not exist")
		}
	}
}

func TestReadAllEndsAtTheHeadOfItsFirstStep(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), &eventstore.Options{PageSize: 2})
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1, 2, 3)...)
	require.NoError(t, err)
	n := 0
	for _, err := range s.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		n++
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(4)...)
		require.NoError(t, err)
	}
	require.Equal(t, 3, n)
}

func TestASequenceEndsAfterAnError(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, seq := range map[string]func(func(*eventstore.Recorded, error) bool){
		"stream":          s.ReadStream(ctx, "a-1", 0),
		"stream backward": s.ReadStreamBackward(ctx, "a-1", 0),
		"all":             s.ReadAll(ctx, eventstore.Filter{}, 0),
		"all backward":    s.ReadAllBackward(ctx, eventstore.Filter{}, 0),
		"bad name":        s.ReadStream(t.Context(), "", 0),
	} {
		n := 0
		for r, err := range seq {
			require.Error(t, err, name)
			require.Nil(t, r)
			n++
		}
		require.Equal(t, 1, n, name)
	}
}

func TestWhatThisProcessAppendsReachesSubscribersWithoutARead(t *testing.T) {
	t.Parallel()
	d := &watched{Store: memstore.NewDriver()}
	s := open(t, plainDriver{d}, nil)
	sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount})
	require.NoError(t, err)
	for i := range 100 {
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
		require.NoError(t, err)
	}
	receive(t, sub.C, 100)
	require.Less(t, d.events.Load(), int32(100), "most came from the appends themselves")
}

func TestAtMostEightCatchUpReadsRunAtOnce(t *testing.T) {
	t.Parallel()
	d := &watched{Store: memstore.NewDriver()}
	s := open(t, plainDriver{d}, nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(make([]int, 10)...)...)
	require.NoError(t, err)
	release := make(chan struct{})
	d.hold = func() { <-release }
	var subs []*eventstore.Subscription[int]
	for i := range 50 {
		sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{From: eventstore.Origin(), Map: amount, Buffer: 5,
			Filter: eventstore.Filter{Categories: []string{"a", fmt.Sprint("other", i)}}}) // or they would share reads
		require.NoError(t, err)
		subs = append(subs, sub)
	}
	eventually(t, func() bool { return d.now.Load() >= 8 })
	close(release)
	for _, sub := range subs {
		receive(t, sub.C, 10)
	}
	require.LessOrEqual(t, d.most.Load(), int32(8+1), "and the tail's own")
}

func TestStreamsAndTheirRemoval(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), &eventstore.Options{PageSize: 3})
	ctx := t.Context()
	var want []eventstore.StreamName
	for i := range 10 {
		name := eventstore.Stream("a", fmt.Sprint(i))
		_, err := s.Append(ctx, name, eventstore.NoStream, deposits(1, 2, 3)...)
		require.NoError(t, err)
		want = append(want, name)
	}
	_, err := s.Append(ctx, "b-1", eventstore.NoStream, deposits(1)...)
	require.NoError(t, err)
	list := func(category string) (names []eventstore.StreamName) {
		for i, err := range s.Streams(ctx, category) {
			require.NoError(t, err)
			names = append(names, i.Name)
		}
		return names
	}
	require.Equal(t, want, list("a"))
	require.Equal(t, append(want, "b-1"), list(""))
	cats, err := s.Categories(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, cats)

	require.NoError(t, s.Truncate(ctx, "a-0", 3))
	require.Error(t, s.Truncate(ctx, "a-0", 9), "past the end")
	info, err := s.Stream(ctx, "a-0")
	require.NoError(t, err)
	require.Equal(t, eventstore.StreamInfo{Name: "a-0", Version: 3, First: 3}, info)
	require.Equal(t, []int{3}, amounts(t, s, "a-0"))

	var conflict *eventstore.ConflictError
	require.ErrorAs(t, s.Delete(ctx, "a-1", eventstore.Exactly(2)), &conflict)
	require.EqualValues(t, 3, conflict.Actual)
	require.NoError(t, s.Delete(ctx, "a-1", eventstore.Exactly(3)))
	info, err = s.Stream(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, eventstore.StreamInfo{Name: "a-1", Version: 3, First: 4, Deleted: true, Origin: 3}, info)
	_, err = s.Append(ctx, "a-1", eventstore.Exactly(3), deposits(4)...)
	require.ErrorIs(t, err, eventstore.ErrConflict, "who still has the old state must decide again")
	at, err := s.Append(ctx, "a-1", eventstore.NoStream, deposits(4)...)
	require.NoError(t, err)
	require.EqualValues(t, 4, at.Version)
	require.Equal(t, []int{4}, amounts(t, s, "a-1"))

	require.NoError(t, s.Purge(ctx, "a-2"))
	_, err = s.Append(ctx, "a-2", eventstore.Any, deposits(1)...)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	for _, err := range s.ReadStream(ctx, "a-2", 0) {
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	}
	require.NotContains(t, list("a"), eventstore.StreamName("a-2"))
	_, err = s.Stream(ctx, "")
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}
