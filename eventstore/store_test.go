package eventstore_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

// Events of these tests: Deposited is plain and shared as it is, Noted is decoded.
type (
	Deposited struct{ Amount int }
	Noted     struct{ Words []string }
)

func open(t testing.TB, d driver.Store, opt *eventstore.Options) *eventstore.Store {
	t.Helper()
	if opt == nil {
		opt = &eventstore.Options{Verify: true}
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	s := eventstore.New(d, opt)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("deposited", Deposited{}))
	require.NoError(t, s.Types.Register("noted", Noted{}))
	return s
}

func deposits(amounts ...int) []eventstore.Event {
	out := make([]eventstore.Event, len(amounts))
	for i, a := range amounts {
		out[i].Data = Deposited{a}
	}
	return out
}

func amounts(t testing.TB, s *eventstore.Store, stream eventstore.StreamName) []int {
	t.Helper()
	var out []int
	for r, err := range s.ReadStream(t.Context(), stream, 0) {
		require.NoError(t, err)
		out = append(out, r.Data.(Deposited).Amount)
	}
	return out
}

// plainDriver hides what a driver can do beyond driver.Store.
type plainDriver struct{ driver.Store }

// batchDriver is a driver whose commits a test can watch and hold up.
type batchDriver struct {
	driver.Store
	limits driver.Limits
	// commit surrounds every Append and AppendBatch.
	commit func(as []driver.Append, next func() []driver.Result) []driver.Result
}

func (d *batchDriver) Limits() driver.Limits { return d.limits }

func (d *batchDriver) Append(ctx context.Context, a driver.Append) driver.Result {
	return d.AppendBatch(ctx, []driver.Append{a})[0]
}

func (d *batchDriver) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	next := func() []driver.Result { return d.Store.(driver.Batcher).AppendBatch(ctx, as) }
	if d.commit == nil {
		return next()
	}
	return d.commit(as, next)
}

// held is a batchDriver whose commits announce themselves and wait.
type held struct {
	batchDriver
	entered chan []driver.Append
	release chan struct{}
	last    []driver.Result // of the last commit, once the store is closed
}

func newHeld() *held {
	d := &held{entered: make(chan []driver.Append), release: make(chan struct{})}
	d.Store = memstore.NewDriver()
	d.commit = func(as []driver.Append, next func() []driver.Result) []driver.Result {
		d.entered <- as
		<-d.release
		d.last = next()
		return d.last
	}
	return d
}

func TestStreamNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, eventstore.StreamName("room-a-b"), eventstore.Stream("room", "a-b"))
	require.Equal(t, "room", eventstore.StreamName("room-a-b").Category())
	require.Equal(t, "a-b", eventstore.StreamName("room-a-b").ID())
	require.Equal(t, "room", eventstore.StreamName("room").Category())
	require.Equal(t, "", eventstore.StreamName("room").ID())
	require.Equal(t, "", eventstore.StreamName("-x").Category())
	require.Panics(t, func() { eventstore.Stream("", "x") })
	require.Panics(t, func() { eventstore.Stream("a-b", "x") })
	for name, bad := range map[string]eventstore.StreamName{
		"empty": "", "long": eventstore.StreamName(strings.Repeat("x", 256)), "control": "a\x00b", "newline": "a\nb",
		"delete": "a\x7fb", "C1 control": "a\u0085b", "not UTF-8": "a\xffb", "control after a letter": "é\n",
	} {
		require.ErrorIs(t, bad.Validate(), eventstore.ErrInvalid, name)
	}
	for _, good := range []eventstore.StreamName{"a", "ä-ö", "a b", "room-🙂", eventstore.StreamName(strings.Repeat("x", 255))} {
		require.NoError(t, good.Validate())
	}
}

func TestIDsAreOrderedUUIDs(t *testing.T) {
	t.Parallel()
	before := time.Now().Add(-time.Millisecond)
	seen := map[eventstore.ID]bool{}
	for range 1000 {
		id := eventstore.NewID()
		require.EqualValues(t, 7, id.Version())
		require.Equal(t, "RFC4122", id.Variant().String())
		require.False(t, seen[id])
		seen[id] = true
		sec, nsec := id.Time().UnixTime()
		at := time.Unix(sec, nsec)
		require.WithinRange(t, at, before, time.Now().Add(time.Millisecond))
	}
	synctest.Test(t, func(t *testing.T) {
		var last string
		for range 100 {
			time.Sleep(time.Microsecond)
			id := eventstore.NewID().String()
			require.Greater(t, id, last)
			last = id
		}
	})
}

func TestExpectedHolds(t *testing.T) {
	t.Parallel()
	require.Equal(t, eventstore.NoStream, eventstore.Exactly(0))
	for _, c := range []struct {
		x     eventstore.Expected
		holds []eventstore.Version
	}{
		{eventstore.Any, []eventstore.Version{0, 1, 2, 3}},
		{eventstore.NoStream, []eventstore.Version{0}},
		{eventstore.StreamExists, []eventstore.Version{1, 2, 3}},
		{eventstore.Exactly(2), []eventstore.Version{2}},
		{eventstore.Exactly(1 << 63), nil},
	} {
		var holds []eventstore.Version
		for v := range eventstore.Version(4) {
			if c.x.Holds(v) {
				holds = append(holds, v)
			}
		}
		require.Equal(t, c.holds, holds, c.x)
	}
}

func TestCloseEndsEverythingWithErrClosed(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	sub, err := eventstore.SubscribeTo[Deposited](ctx, s, eventstore.Filter{}, eventstore.Start{})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, open := <-sub.C
	require.False(t, open)
	require.ErrorIs(t, sub.Err(), eventstore.ErrClosed)
	_, err = s.Append(ctx, "a-1", eventstore.Any, deposits(1)...)
	require.ErrorIs(t, err, eventstore.ErrClosed)
	_, err = eventstore.SubscribeTo[Deposited](ctx, s, eventstore.Filter{}, eventstore.Start{})
	require.ErrorIs(t, err, eventstore.ErrClosed)
	_, err = s.Head(ctx)
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.NoError(t, s.Close())
}

func TestShutdownCommitsTheQueue(t *testing.T) {
	t.Parallel()
	d := newHeld()
	s := open(t, d, nil)
	ctx := t.Context()
	results := make(chan error, 3)
	for i := range 3 {
		go func() {
			_, err := s.Append(ctx, eventstore.Stream("a", string(rune('a'+i))), eventstore.Any, deposits(1)...)
			results <- err
		}()
		if i == 0 {
			<-d.entered
		}
	}
	eventually(t, func() bool { return s.Queued() == 2 })
	down := make(chan error)
	go func() { down <- s.Shutdown(ctx) }()
	eventually(t, s.Closing)
	_, err := s.Append(ctx, "a-x", eventstore.Any, deposits(1)...)
	require.ErrorIs(t, err, eventstore.ErrClosed)
	d.release <- struct{}{}
	require.Len(t, <-d.entered, 2)
	d.release <- struct{}{}
	for range 3 {
		require.NoError(t, <-results)
	}
	require.NoError(t, <-down)
}

func TestShutdownGivesUpWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	d := newHeld()
	s := open(t, d, nil)
	ctx := t.Context()
	inDriver, queued := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(1)...)
		inDriver <- err
	}()
	<-d.entered
	go func() {
		_, err := s.Append(ctx, "a-2", eventstore.Any, deposits(1)...)
		queued <- err
	}()
	eventually(t, func() bool { return s.Queued() == 1 })
	limited, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.Shutdown(limited), context.Canceled)
	err := <-inDriver
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	err = <-queued
	require.ErrorIs(t, err, eventstore.ErrClosed)
	require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	d.release <- struct{}{}
	require.NoError(t, s.Close()) // the commit went on, and the driver is closed after it
	_, err = d.Head(ctx)
	require.ErrorIs(t, err, driver.ErrClosed)
}

func TestWatchersHearOfAppendsBeforeTheirCallers(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	type news struct {
		stream eventstore.StreamName
		v      eventstore.Version
	}
	var mu sync.Mutex
	var heard []news
	stop := s.Watch("a", func(stream eventstore.StreamName, v eventstore.Version) {
		mu.Lock()
		defer mu.Unlock()
		heard = append(heard, news{stream, v})
	})
	got := func() []news {
		mu.Lock()
		defer mu.Unlock()
		out := slices.Clone(heard)
		heard = nil
		return out
	}
	_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(1, 2)...)
	require.NoError(t, err)
	require.Equal(t, []news{{"a-1", 2}}, got())
	_, err = s.Append(ctx, "b-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	_, err = s.Append(ctx, "a-1", eventstore.NoStream, deposits(1)...)
	require.ErrorIs(t, err, eventstore.ErrConflict)
	require.Empty(t, got())
	require.NoError(t, s.Truncate(ctx, "a-1", 2))
	require.NoError(t, s.Delete(ctx, "a-1", eventstore.Any))
	require.NoError(t, s.Purge(ctx, "a-1"))
	require.Equal(t, []news{{"a-1", 0}, {"a-1", 0}, {"a-1", 0}}, got())
	tags, err := s.Tags()
	require.NoError(t, err)
	_, err = tags.Append(ctx, nil, 0, eventstore.To{Stream: "a-2", Event: deposits(1)[0]})
	require.NoError(t, err)
	require.Equal(t, []news{{"a-2", 0}}, got())
	stop()
	_, err = s.Append(ctx, "a-3", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	require.Empty(t, got())
}

func TestAsGivesTheDriver(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	s := open(t, d, nil)
	var got driver.Store
	require.True(t, s.As(&got))
	require.Same(t, d, got)
	require.False(t, open(t, plainDriver{memstore.NewDriver()}, nil).As(&got))
}

func TestCapabilitiesThatADriverLacksShowAtStartup(t *testing.T) {
	t.Parallel()
	s := open(t, plainDriver{memstore.NewDriver()}, nil)
	ctx := t.Context()
	_, err := s.Tags()
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	_, err = s.Checkpoints()
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	_, err = s.Leases()
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	_, err = s.Categories(ctx)
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	for _, err := range s.Streams(ctx, "") {
		require.ErrorIs(t, err, eventstore.ErrUnsupported)
	}
	require.ErrorIs(t, s.Truncate(ctx, "a-1", 1), eventstore.ErrUnsupported)
	require.ErrorIs(t, s.Delete(ctx, "a-1", eventstore.Any), eventstore.ErrUnsupported)
	require.ErrorIs(t, s.Purge(ctx, "a-1"), eventstore.ErrUnsupported)
	_, err = eventstore.Subscribe(ctx, s, eventstore.Transient[int]{From: eventstore.AtTime(time.Now()), Map: func(*eventstore.Recorded) int { return 0 }})
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	full := open(t, memstore.NewDriver(), nil)
	_, err = full.Checkpoints()
	require.NoError(t, err)
	_, err = full.Leases()
	require.NoError(t, err)
}

// eventually waits for what other goroutines are about to do, where there is
// nothing to receive from.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, time.Millisecond)
}

var errDisk = errors.New("disk on fire")
