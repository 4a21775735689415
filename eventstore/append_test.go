package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
)

type (
	Unknown  struct{}
	Floating struct{ F float64 }
	Panicky  struct{ X int }
)

func (Panicky) MarshalJSON() ([]byte, error) { panic("no") }
func (*Panicky) UnmarshalJSON([]byte) error  { return nil }

type Lossy struct{ X int }

func (l Lossy) MarshalJSON() ([]byte, error) { return []byte("{}"), nil }
func (*Lossy) UnmarshalJSON([]byte) error    { return nil }

func TestWhatCannotBeAppendedIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	d := &batchDriver{Store: memstore.NewDriver(), limits: driver.Limits{AppendEvents: 4, AppendBytes: 4000, EventBytes: 2000, NameBytes: 20}}
	s := open(t, d, nil)
	require.NoError(t, s.Types.Register("floating", Floating{}))
	require.NoError(t, s.Types.Register("panicky", Panicky{}))
	require.NoError(t, s.Types.Register("lossy", Lossy{}))
	require.NoError(t, s.Types.Add(eventstore.UpcastFrom("old", func(o struct{ Was int }) Deposited { return Deposited{o.Was} })))
	id := eventstore.NewID()
	ev := func(data any) eventstore.Event { return eventstore.Event{Data: data} }
	cases := []struct {
		name     string
		stream   eventstore.StreamName
		expected eventstore.Expected
		events   []eventstore.Event
		is       error
	}{
		{"no events", "a-1", eventstore.Any, nil, eventstore.ErrNoEvents},
		{"an empty name", "", eventstore.Any, deposits(1), eventstore.ErrInvalid},
		{"a long name", eventstore.StreamName("a-" + strings.Repeat("x", 254)), eventstore.Any, deposits(1), eventstore.ErrInvalid},
		{"a name longer than the driver takes", "a-123456789012345678901", eventstore.Any, deposits(1), eventstore.ErrInvalid},
		{"a control character", "a-\x01", eventstore.Any, deposits(1), eventstore.ErrInvalid},
		{"a reserved name", "$x", eventstore.Any, deposits(1), eventstore.ErrInvalid},
		{"an impossible version", "a-1", eventstore.Exactly(math.MaxInt64 + 1), deposits(1), eventstore.ErrInvalid},
		{"an unregistered type", "a-1", eventstore.Any, []eventstore.Event{ev(Unknown{})}, eventstore.ErrUnregistered},
		{"a pointer", "a-1", eventstore.Any, []eventstore.Event{ev(&Deposited{})}, eventstore.ErrUnregistered},
		{"an old form", "a-1", eventstore.Any, []eventstore.Event{ev(struct{ Was int }{1})}, eventstore.ErrUnregistered},
		{"another type name", "a-1", eventstore.Any, []eventstore.Event{{Type: "noted", Data: Deposited{1}}}, eventstore.ErrInvalid},
		{"not a number", "a-1", eventstore.Any, []eventstore.Event{ev(Floating{math.NaN()})}, eventstore.ErrCodec},
		{"a panic in a marshaller", "a-1", eventstore.Any, []eventstore.Event{ev(Panicky{})}, eventstore.ErrCodec},
		{"data that does not survive", "a-1", eventstore.Any, []eventstore.Event{ev(Lossy{1})}, eventstore.ErrCodec},
		{"neither data nor raw", "a-1", eventstore.Any, []eventstore.Event{{Type: "x"}}, eventstore.ErrInvalid},
		{"raw without a type", "a-1", eventstore.Any, []eventstore.Event{{Raw: []byte("{}")}}, eventstore.ErrInvalid},
		{"an id twice", "a-1", eventstore.Any, []eventstore.Event{{ID: id, Data: Deposited{1}}, {ID: id, Data: Deposited{2}}}, eventstore.ErrDuplicate},
		{"too many events", "a-1", eventstore.Any, deposits(1, 2, 3, 4, 5), eventstore.ErrTooLarge},
		{"a large event", "a-1", eventstore.Any, []eventstore.Event{ev(Noted{[]string{strings.Repeat("x", 2000)}})}, eventstore.ErrTooLarge},
		{"a large append", "a-1", eventstore.Any, []eventstore.Event{ev(Noted{[]string{strings.Repeat("x", 1500)}}), ev(Noted{[]string{strings.Repeat("x", 1500)}}), ev(Noted{[]string{strings.Repeat("x", 1500)}})}, eventstore.ErrTooLarge},
		{"large metadata", "a-1", eventstore.Any, []eventstore.Event{{Data: Deposited{1}, Metadata: map[string]string{"k": strings.Repeat("x", 2000)}}}, eventstore.ErrTooLarge},
		{"a reserved metadata key", "a-1", eventstore.Any, []eventstore.Event{{Data: Deposited{1}, Metadata: map[string]string{"$k": "v"}}}, eventstore.ErrInvalid},
		{"an empty metadata key", "a-1", eventstore.Any, []eventstore.Event{{Data: Deposited{1}, Metadata: map[string]string{"": "v"}}}, eventstore.ErrInvalid},
		{"metadata that is not UTF-8", "a-1", eventstore.Any, []eventstore.Event{{Data: Deposited{1}, Metadata: map[string]string{"k": "\xff"}}}, eventstore.ErrInvalid},
		{"an empty tag", "a-1", eventstore.Any, []eventstore.Event{{Data: Deposited{1}, Tags: []string{""}}}, eventstore.ErrInvalid},
		{"a tag twice", "a-1", eventstore.Any, []eventstore.Event{{Data: Deposited{1}, Tags: []string{"x", "x"}}}, eventstore.ErrInvalid},
		{"a stream that must exist", "a-1", eventstore.StreamExists, deposits(1), eventstore.ErrConflict},
		{"a version that is not there", "a-1", eventstore.Exactly(1), deposits(1), eventstore.ErrConflict},
		{"a bad event behind a good one", "a-1", eventstore.Any, append(deposits(1), ev(Unknown{})), eventstore.ErrUnregistered},
	}
	for _, c := range cases {
		_, err := s.Append(t.Context(), c.stream, c.expected, c.events...)
		require.ErrorIs(t, err, c.is, c.name)
		head, err := s.Head(t.Context())
		require.NoError(t, err)
		require.Zero(t, head, c.name)
	}
	var conflict *eventstore.ConflictError
	_, err := s.Append(t.Context(), "a-1", eventstore.StreamExists, deposits(1)...)
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, eventstore.ConflictError{Stream: "a-1", Expected: eventstore.StreamExists}, *conflict)
}

// An append that is made again may conflict with itself. Where that cannot be
// seen, it must not be told that nothing was written.
func TestAConflictThatCannotBeLookedIntoIsNoConflict(t *testing.T) {
	t.Parallel()
	d, faults := eventstoretest.Faulty(t, memstore.NewDriver())
	s := open(t, d, nil)
	ctx, cut := t.Context(), errors.New("the line is cut")
	events := deposits(1, 2)
	events[0].ID, events[1].ID = eventstore.NewID(), eventstore.NewID()
	first, err := s.Append(ctx, "a-1", eventstore.NoStream, events...)
	require.NoError(t, err)
	for _, op := range []eventstoretest.Op{eventstoretest.OpStream, eventstoretest.OpReadStream} {
		faults.Before(op, 1, cut)
		_, err = s.Append(ctx, "a-1", eventstore.NoStream, events...)
		require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown, op)
		require.ErrorIs(t, err, cut, op)
		require.False(t, errors.As(err, new(*eventstore.ConflictError)), op)
		again, err := s.Append(ctx, "a-1", eventstore.NoStream, events...)
		require.NoError(t, err)
		require.Equal(t, first, again)
	}
	faults.Before(eventstoretest.OpReadStream, 1, driver.ErrStreamDeleted) // in the meantime
	_, err = s.Append(ctx, "a-1", eventstore.NoStream, events...)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
}

func TestAppendFillsInAndReadsBack(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	full := eventstore.Event{ID: eventstore.NewID(), Data: Noted{[]string{"a", "ä"}}, Metadata: map[string]string{"user": "ann"},
		Tags: []string{"x:1", "y:2"}, Correlation: eventstore.NewID(), Causation: eventstore.NewID()}
	at, err := s.Append(ctx, "a-1", eventstore.NoStream, deposits(7)[0], full,
		eventstore.Event{Type: "from.elsewhere", Raw: []byte{0, 1, 255}, ContentType: "application/octet-stream"})
	require.NoError(t, err)
	require.Equal(t, eventstore.Appended{Version: 3, Position: 3}, at)
	full.Metadata["user"] = "changed by the caller later"
	full.Tags[0] = "changed"
	var got []*eventstore.Recorded
	for r, err := range s.ReadStream(ctx, "a-1", 0) {
		require.NoError(t, err)
		got = append(got, r)
	}
	require.Len(t, got, 3)
	require.Equal(t, Deposited{7}, got[0].Data)
	require.Equal(t, "deposited", got[0].Type)
	require.Equal(t, "application/json", got[0].ContentType)
	require.JSONEq(t, `{"Amount":7}`, string(got[0].Raw))
	require.NotZero(t, got[0].ID)
	require.Equal(t, full.ID, got[1].ID)
	require.Equal(t, full.Data, got[1].Data)
	require.Equal(t, map[string]string{"user": "ann"}, got[1].Metadata)
	require.Equal(t, []string{"x:1", "y:2"}, got[1].Tags)
	require.Equal(t, full.Correlation, got[1].Correlation)
	require.Equal(t, full.Causation, got[1].Causation)
	require.Nil(t, got[2].Data)
	require.NoError(t, got[2].Err)
	require.Equal(t, []byte{0, 1, 255}, got[2].Raw)
	require.Equal(t, "application/octet-stream", got[2].ContentType)
	require.False(t, got[0].Time.IsZero())
}

func TestAppendInAHandlerContinuesTheConversation(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	cause := &eventstore.Recorded{Event: eventstore.Event{ID: eventstore.NewID(), Correlation: eventstore.NewID()}}
	_, err := s.Append(eventstore.NewContext(t.Context(), cause), "a-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	for r, err := range s.ReadStream(t.Context(), "a-1", 0) {
		require.NoError(t, err)
		require.Equal(t, cause.ID, r.Causation)
		require.Equal(t, cause.Correlation, r.Correlation)
	}
}

func TestTheSystemMayUseReservedNames(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	_, err := s.Append(system.Context(ctx), "$x-1", eventstore.Any, eventstore.Event{Data: Deposited{1}, Metadata: map[string]string{"$k": "v"}})
	require.NoError(t, err)
	count := func(f eventstore.Filter) (n int) {
		for _, err := range s.ReadAll(ctx, f, 0) {
			require.NoError(t, err)
			n++
		}
		return n
	}
	require.Zero(t, count(eventstore.Filter{}))
	require.Zero(t, count(eventstore.Filter{Types: []string{"deposited"}}))
	require.Equal(t, 1, count(eventstore.Filter{Streams: []eventstore.StreamName{"$x-1"}}))
	require.Equal(t, 1, count(eventstore.Filter{Categories: []string{"$x"}}))
	require.ErrorIs(t, s.Delete(ctx, "$x-1", eventstore.Any), eventstore.ErrInvalid)
}

func TestRepeatedAppendReturnsTheOriginal(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]driver.Store{"batched": memstore.NewDriver(), "direct": plainDriver{memstore.NewDriver()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, d, nil)
			ctx := t.Context()
			events := deposits(1, 2)
			more := deposits(3, 4)
			for i := range events {
				events[i].ID, more[i].ID = eventstore.NewID(), eventstore.NewID()
			}
			first, err := s.Append(ctx, "a-1", eventstore.NoStream, events...)
			require.NoError(t, err)
			second, err := s.Append(ctx, "a-1", eventstore.Exactly(2), more...)
			require.NoError(t, err)

			again, err := s.Append(ctx, "a-1", eventstore.NoStream, events...)
			require.NoError(t, err)
			require.Equal(t, first, again)
			again, err = s.Append(ctx, "a-1", eventstore.Exactly(2), more...)
			require.NoError(t, err)
			require.Equal(t, second, again)

			_, err = s.Append(ctx, "a-1", eventstore.NoStream, events[0], deposits(9)[0])
			require.ErrorIs(t, err, eventstore.ErrDuplicate, "only some are stored")
			_, err = s.Append(ctx, "a-1", eventstore.NoStream, events[1], events[0])
			require.ErrorIs(t, err, eventstore.ErrDuplicate, "in another order")
			_, err = s.Append(ctx, "a-1", eventstore.Exactly(2), append(more, deposits(5)...)...)
			require.ErrorIs(t, err, eventstore.ErrDuplicate, "more than was stored")
			_, err = s.Append(ctx, "a-1", eventstore.NoStream, deposits(1)...)
			require.ErrorIs(t, err, eventstore.ErrConflict)
			_, err = s.Append(ctx, "a-1", eventstore.Exactly(7), events...)
			require.ErrorIs(t, err, eventstore.ErrConflict, "not at the place where they stand")
			require.Equal(t, []int{1, 2, 3, 4}, amounts(t, s, "a-1"))
		})
	}
}

func TestRepeatedAppendAfterADeletion(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	_, err := s.Append(ctx, "a-1", eventstore.NoStream, deposits(1, 2)...)
	require.NoError(t, err)
	require.NoError(t, s.Delete(ctx, "a-1", eventstore.Exactly(2)))
	events := deposits(3)
	events[0].ID = eventstore.NewID()
	first, err := s.Append(ctx, "a-1", eventstore.NoStream, events...)
	require.NoError(t, err)
	require.EqualValues(t, 3, first.Version)
	again, err := s.Append(ctx, "a-1", eventstore.NoStream, events...)
	require.NoError(t, err)
	require.Equal(t, first, again)
}

func TestAppendsQueuedDuringACommitShareTheNext(t *testing.T) {
	t.Parallel()
	d := newHeld()
	s := open(t, d, nil)
	ctx := t.Context()
	var wg sync.WaitGroup
	add := func(stream eventstore.StreamName, x eventstore.Expected, want error) {
		queued := s.Queued()
		wg.Go(func() {
			_, err := s.Append(ctx, stream, x, deposits(1)...)
			require.ErrorIs(t, err, want)
		})
		eventually(t, func() bool { return s.Queued() == queued+1 || queued == 0 })
	}
	add("a-1", eventstore.NoStream, nil)
	require.Len(t, <-d.entered, 1)
	for i := range 3 {
		queued := i
		wg.Go(func() {
			// Each sees what those before it in the batch wrote; one conflict fails alone.
			_, err := s.Append(ctx, "a-1", eventstore.Exactly(eventstore.Version(1)), deposits(1)...)
			require.True(t, err == nil || errors.Is(err, eventstore.ErrConflict))
		})
		eventually(t, func() bool { return s.Queued() == queued+1 })
	}
	d.release <- struct{}{}
	batch := <-d.entered
	require.Len(t, batch, 3)
	d.release <- struct{}{}
	wg.Wait()
	require.Len(t, amounts(t, s, "a-1"), 2)
}

func TestABatchTakesQueuedAppendsInOrderUpToItsLimits(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]driver.Limits{
		"events": {BatchEvents: 4}, "bytes": {BatchBytes: 4 * 85},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newHeld()
			d.limits = limits
			s := open(t, d, nil)
			var wg sync.WaitGroup
			sizes := []int{1, 3, 1, 1, 5, 1} // 5 is over the limit, and goes alone
			for i, n := range sizes {
				wg.Go(func() {
					_, err := s.Append(t.Context(), eventstore.Stream("a", fmt.Sprint(i)), eventstore.Any, deposits(make([]int, n)...)...)
					require.NoError(t, err)
				})
				if i == 0 {
					require.Len(t, <-d.entered, 1)
				} else {
					eventually(t, func() bool { return s.Queued() == i })
				}
			}
			var got [][]string
			d.release <- struct{}{}
			for len(got) < 4 {
				var batch []string
				for _, a := range <-d.entered {
					batch = append(batch, a.Stream)
				}
				got = append(got, batch)
				d.release <- struct{}{}
			}
			wg.Wait()
			require.Equal(t, [][]string{{"a-1", "a-2"}, {"a-3"}, {"a-4"}, {"a-5"}}, got)
		})
	}
}

func TestALoneAppendCommitsOnItsCallersGoroutine(t *testing.T) {
	t.Parallel()
	d := &batchDriver{Store: memstore.NewDriver()}
	var stack string
	d.commit = func(_ []driver.Append, next func() []driver.Result) []driver.Result {
		buf := make([]byte, 1<<16)
		stack = string(buf[:runtime.Stack(buf, false)])
		return next()
	}
	s := open(t, d, nil)
	_, err := s.Append(context.WithoutCancel(t.Context()), "a-1", eventstore.Any, deposits(1)...)
	require.NoError(t, err)
	require.Contains(t, stack, "TestALoneAppendCommitsOnItsCallersGoroutine")
}

func TestAnAppendWhoseContextEndsWhileItIsQueuedIsNotMade(t *testing.T) {
	t.Parallel()
	d := newHeld()
	s := open(t, d, nil)
	done := make(chan error, 2)
	go func() {
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
		done <- err
	}()
	<-d.entered
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := s.Append(ctx, "a-2", eventstore.Any, deposits(1)...)
		done <- err
	}()
	eventually(t, func() bool { return s.Queued() == 1 })
	cancel()
	err := <-done
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	d.release <- struct{}{}
	require.NoError(t, <-done)
	require.Empty(t, amounts(t, s, "a-2"))
	go func() { <-d.entered; d.release <- struct{}{} }()
	_, err = s.Append(t.Context(), "a-3", eventstore.Any, deposits(1)...)
	require.NoError(t, err, "the lead went on")
}

func TestAnAppendWhoseContextEndsInTheDriverIsUnknownAndGoesOn(t *testing.T) {
	t.Parallel()
	for name, direct := range map[string]bool{"batched": false, "direct": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHeld()
			var d driver.Store = h
			if direct {
				d = heldDirect{h}
			}
			s := open(t, d, nil)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(1)...)
				done <- err
			}()
			<-h.entered
			cancel()
			err := <-done
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
			h.release <- struct{}{}
			require.NoError(t, s.Close())
			require.NoError(t, h.last[0].Err)
			require.EqualValues(t, 1, h.last[0].Last)
		})
	}
}

// heldDirect is a held driver that commits each append by itself.
type heldDirect struct{ h *held }

func (d heldDirect) Append(ctx context.Context, a driver.Append) driver.Result {
	return d.h.commit([]driver.Append{a}, func() []driver.Result { return []driver.Result{d.h.Store.Append(ctx, a)} })[0]
}
func (d heldDirect) ReadStream(ctx context.Context, s string, from uint64, dir driver.Direction, n int) ([]driver.Recorded, error) {
	return d.h.ReadStream(ctx, s, from, dir, n)
}
func (d heldDirect) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, n int) ([]driver.Recorded, uint64, error) {
	return d.h.ReadAll(ctx, f, from, dir, n)
}
func (d heldDirect) Wait(ctx context.Context, after uint64) error { return d.h.Wait(ctx, after) }
func (d heldDirect) Head(ctx context.Context) (uint64, error)     { return d.h.Head(ctx) }
func (d heldDirect) Limits() driver.Limits                        { return driver.Limits{} }
func (d heldDirect) Close() error                                 { return d.h.Close() }
func (d heldDirect) Stream(ctx context.Context, s string) (driver.StreamInfo, error) {
	return d.h.Stream(ctx, s)
}

func TestACommitThatFailsFailsItsWholeBatch(t *testing.T) {
	t.Parallel()
	d := &batchDriver{Store: memstore.NewDriver()}
	fail := errors.Join(driver.ErrOutcomeUnknown, errDisk)
	d.commit = func(as []driver.Append, next func() []driver.Result) []driver.Result {
		if fail == nil {
			return next()
		}
		out := make([]driver.Result, len(as))
		for i := range out {
			out[i].Err = fail
		}
		return out
	}
	s := open(t, d, nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
	require.ErrorIs(t, err, eventstore.ErrOutcomeUnknown)
	require.ErrorIs(t, err, errDisk, "the driver's own error can be reached")
	fail = nil
	_, err = s.Append(t.Context(), "a-1", eventstore.NoStream, deposits(1)...)
	require.NoError(t, err)
}

func TestAppendsToOneStreamAreNeverInTwoBatches(t *testing.T) {
	t.Parallel()
	d := &batchDriver{Store: memstore.NewDriver(), limits: driver.Limits{Writers: 4, BatchEvents: 3}}
	var mu sync.Mutex
	busy := map[string]int{}
	most, now := 0, 0
	d.commit = func(as []driver.Append, next func() []driver.Result) []driver.Result {
		mu.Lock()
		streams := map[string]bool{}
		for _, a := range as {
			streams[a.Stream] = true
		}
		for s := range streams {
			if busy[s]++; busy[s] > 1 {
				t.Errorf("%s is in two batches", s)
			}
		}
		now++
		most = max(most, now)
		mu.Unlock()
		runtime.Gosched()
		res := next()
		mu.Lock()
		for s := range streams {
			busy[s]--
		}
		now--
		mu.Unlock()
		return res
	}
	s := open(t, d, nil)
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					go cancel()
				}
				_, err := s.Append(ctx, eventstore.Stream("a", fmt.Sprint((w+i)%9)), eventstore.Any, deposits(w)...)
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	mu.Lock()
	require.LessOrEqual(t, most, 4)
	require.Greater(t, most, 1)
	mu.Unlock()
	_, err := s.Append(t.Context(), "a-x", eventstore.Any, deposits(1)...)
	require.NoError(t, err, "no lead was lost")
	for i := range 9 {
		stream := eventstore.Stream("a", fmt.Sprint(i))
		v := eventstore.Version(0)
		for r, err := range s.ReadStream(t.Context(), stream, 0) {
			require.NoError(t, err)
			v++
			require.Equal(t, v, r.Version)
		}
	}
}

func TestAFullQueueBlocksHeedingTheContext(t *testing.T) {
	t.Parallel()
	d := newHeld()
	s := open(t, d, nil)
	errs := make(chan error, eventstore.QueueLength)
	for i := range eventstore.QueueLength {
		go func() {
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
			errs <- err
		}()
	}
	<-d.entered
	eventually(t, func() bool { return s.Queued() == eventstore.QueueLength-1 })
	ctx, cancel := context.WithCancel(t.Context())
	blocked := make(chan error)
	go func() {
		_, err := s.Append(ctx, "a-2", eventstore.Any, deposits(1)...)
		blocked <- err
	}()
	cancel()
	require.ErrorIs(t, <-blocked, context.Canceled)
	go func() {
		for range d.entered {
			d.release <- struct{}{}
		}
	}()
	d.release <- struct{}{}
	for range eventstore.QueueLength {
		require.NoError(t, <-errs)
	}
	require.Empty(t, amounts(t, s, "a-2"))
}

func TestALeadIsHandedOnByAnAppendThatLeaves(t *testing.T) {
	t.Parallel()
	for range 200 {
		d := newHeld()
		s := open(t, d, nil)
		done := make(chan error, 3)
		ctx, cancel := context.WithCancel(t.Context())
		for i, ctx := range []context.Context{t.Context(), ctx, t.Context()} {
			go func() {
				_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(i)...)
				done <- err
			}()
			if i == 0 {
				<-d.entered
			} else {
				eventually(t, func() bool { return s.Queued() == i })
			}
		}
		go cancel() // at the moment at which the second may be told to lead
		go func() {
			for range d.entered {
				d.release <- struct{}{}
			}
		}()
		d.release <- struct{}{}
		for range 3 {
			if err := <-done; err != nil {
				require.ErrorIs(t, err, context.Canceled)
			}
		}
		require.NoError(t, s.Close())
		close(d.entered)
	}
}

// Two appends to one stream that are told to lead at the same time, with a third
// behind them, stay in order, and no lead is lost.
func TestSeveralLeadsForOneStream(t *testing.T) {
	t.Parallel()
	d := newHeld()
	d.limits = driver.Limits{Writers: 2}
	s := open(t, d, nil)
	next := 0
	for range 4 { // more often than there are leads to lose
		var wg sync.WaitGroup
		for i := range 4 {
			n := next
			next++
			wg.Go(func() {
				_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(n)...)
				require.NoError(t, err)
			})
			if i == 0 {
				require.Len(t, <-d.entered, 1)
			} else {
				eventually(t, func() bool { return s.Queued() == i })
			}
		}
		d.release <- struct{}{}
		finished := make(chan struct{})
		go func() { wg.Wait(); close(finished) }()
		for open := true; open; {
			select {
			case <-d.entered:
				d.release <- struct{}{}
			case <-finished:
				open = false
			case <-time.After(20 * time.Second):
				t.Fatal("nobody leads")
			}
		}
	}
	var want []int
	for i := range next {
		want = append(want, i)
	}
	require.Equal(t, want, amounts(t, s, "a-1"))
}
