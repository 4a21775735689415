package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A worker is a member of a consumer whose deliveries a test takes one by one.
type worker struct {
	c    chan *eventstore.Delivery
	err  chan error
	more chan bool
	stop context.CancelFunc
}

// work joins c. The member waits with each delivery until the test wants the next one.
func work(t *testing.T, s *eventstore.Store, c eventstore.Consumer) *worker {
	w := &worker{c: make(chan *eventstore.Delivery), err: make(chan error, 1), more: make(chan bool)}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(t.Context())
	go func() {
		defer close(w.c)
		for d, err := range s.Consume(ctx, c) {
			if err != nil {
				w.err <- err
				return
			}
			select {
			case w.c <- d:
			case <-ctx.Done():
			}
		}
	}()
	return w
}

// next returns the next delivery, or nil if there is none within a minute.
func (w *worker) next() *eventstore.Delivery {
	select {
	case d := <-w.c:
		return d
	case <-time.After(time.Minute):
		return nil
	}
}

// leave ends the member and waits until it has.
func (w *worker) leave() {
	w.stop()
	for range w.c {
	}
}

// ended waits until the member ends, whatever it delivers before.
func (w *worker) ended(t *testing.T) error {
	limit := time.After(time.Minute)
	c := w.c
	for {
		select {
		case err := <-w.err:
			return err
		case _, ok := <-c:
			if !ok {
				c = nil
			}
		case <-limit:
			require.FailNow(t, "the member goes on")
		}
	}
}

// counts returns the data of a delivery, one letter a stream and its number: "a1 a2 b1".
func counts(d *eventstore.Delivery) string {
	if d == nil {
		return ""
	}
	var out []string
	for _, r := range d.Events {
		out = append(out, r.Stream.ID()+fmt.Sprint(r.Data.(Counted).N))
	}
	return strings.Join(out, " ")
}

func openConsume(t *testing.T) *eventstore.Store {
	s := memstore.Open(&memstore.Options{Store: eventstore.Options{Logger: quiet}})
	s.Types.Register("counted", Counted{})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// count appends events written as counts reads them.
func count(t *testing.T, s *eventstore.Store, events string) (last eventstore.Position) {
	for e := range strings.FieldsSeq(events) {
		at, err := s.Append(t.Context(), eventstore.Stream("key", e[:1]), eventstore.Any, eventstore.Event{Data: Counted{int(e[1] - '0')}})
		require.NoError(t, err)
		last = at.Position
	}
	return last
}

func one() eventstore.Consumer {
	return eventstore.Consumer{Name: "c", From: eventstore.Origin(), Partitions: 1, Batch: 1}
}

func with(change func(*eventstore.Consumer)) eventstore.Consumer {
	c := one()
	change(&c)
	return c
}

func ack(t *testing.T, d *eventstore.Delivery) *eventstore.Delivery {
	require.NotNil(t, d)
	require.NoError(t, d.Ack(t.Context()))
	return d
}

func reached(t *testing.T, s *eventstore.Store) eventstore.Position {
	list, err := s.Consumers(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	return list[0].Position
}

func TestWhatIsNotAcknowledgedIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 b1 a2 b2")
		w := work(t, s, one())
		require.Equal(t, "a1", counts(ack(t, w.next())))
		d := ack(t, w.next())
		require.Equal(t, "b1", counts(d))
		require.NoError(t, d.Ack(t.Context()), "again")
		require.Equal(t, "a2", counts(w.next()))
		w.leave()
		require.ErrorIs(t, w.ended(t), context.Canceled)
		require.EqualValues(t, 2, reached(t, s))
		w = work(t, s, one())
		require.Equal(t, "a2", counts(ack(t, w.next())))
		require.Equal(t, "b2", counts(ack(t, w.next())))
		require.Nil(t, w.next())
		require.EqualValues(t, 4, reached(t, s))
		count(t, s, "c1")
		require.Equal(t, "c1", counts(ack(t, w.next())))
	})
}

func TestFromCountsTheFirstTimeOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		from eventstore.Start
		want string
	}{
		"origin": {eventstore.Origin(), "a1"},
		"after":  {eventstore.After(1), "a2"},
		"time":   {eventstore.AtTime(time.Date(2000, 1, 1, 0, 1, 30, 0, time.UTC)), "a3"},
		"head":   {eventstore.Start{}, "a4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := openConsume(t)
				for _, e := range []string{"a1", "a2", "a3"} {
					count(t, s, e)
					time.Sleep(time.Minute)
				}
				config := with(func(x *eventstore.Consumer) { x.From = c.from })
				w := work(t, s, config)
				synctest.Wait()
				count(t, s, "a4")
				require.Equal(t, c.want, counts(ack(t, w.next())))
				w.leave()
				for _, from := range []eventstore.Start{{}, eventstore.Origin(), eventstore.After(99)} {
					config.From = from
					w = work(t, s, config)
					count(t, s, "a5")
					require.NotEqual(t, c.want, counts(ack(t, w.next())))
					w.leave()
				}
			})
		})
	}
}

func TestPositionCoversWhatTheFilterLeavesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		config := with(func(c *eventstore.Consumer) { c.Filter.Streams = []eventstore.StreamName{"key-a"} })
		count(t, s, "b1 a1 b2 b3 a2 b4")
		w := work(t, s, config)
		ack(t, w.next())
		require.EqualValues(t, 2, reached(t, s))
		d := w.next()
		count(t, s, "b5 b6")
		time.Sleep(time.Minute)
		require.EqualValues(t, 2, reached(t, s))
		ack(t, d)
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 8, reached(t, s), "to the head")
		last := count(t, s, "b7")
		time.Sleep(2 * time.Second)
		require.Equal(t, last, reached(t, s), "while nothing is delivered")
		last = count(t, s, "b8")
		synctest.Wait()
		w.leave()
		require.Equal(t, last, reached(t, s), "when the member leaves")
	})
}

func TestAcknowledgementsOutOfOrderWaitForTheGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 b1 c1 d1 e1 f1")
		config := with(func(c *eventstore.Consumer) { c.InFlight = 6 })
		w := work(t, s, config)
		var d []*eventstore.Delivery
		for range 6 {
			d = append(d, w.next())
		}
		for _, i := range []int{0, 1, 2, 5, 4} {
			ack(t, d[i])
			require.EqualValues(t, min(i+1, 3), reached(t, s))
		}
		w.leave()
		require.ErrorIs(t, d[3].Ack(t.Context()), eventstore.ErrMoved, "who left has nothing to say")
		w = work(t, s, config)
		require.Equal(t, "d1", counts(ack(t, w.next())), "what was acknowledged beyond the gap does not come again")
		require.EqualValues(t, 6, reached(t, s))
		require.Nil(t, w.next())
	})
}

func TestDeliveriesUnderWayHaveNoKeyInCommon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 a2 b1 a3 b2 c1")
		w := work(t, s, with(func(c *eventstore.Consumer) { c.InFlight, c.Batch = 3, 2 }))
		first := w.next()
		require.Equal(t, "a1 a2", counts(first))
		second := w.next()
		require.Equal(t, "b1 b2", counts(second), "a3 waits for a2")
		third := w.next()
		require.Equal(t, "c1", counts(third))
		require.Nil(t, w.next())
		ack(t, second)
		require.Nil(t, w.next())
		ack(t, first)
		require.Equal(t, "a3", counts(w.next()))
	})
}

func TestOneDeliveryOfAPartitionAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 b1")
		w := work(t, s, one())
		d := w.next()
		require.Nil(t, w.next())
		ack(t, d)
		require.Equal(t, "b1", counts(w.next()))
	})
}

func TestRetryDeliversAgainAfterItsTimeBeforeWhatFollows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 a2 b1")
		w := work(t, s, one())
		d := w.next()
		require.Equal(t, 1, d.Attempt)
		d.Retry(30 * time.Second)
		d.Retry(0) // it was given back
		began := time.Now()
		require.Equal(t, "b1", counts(ack(t, w.next())), "another key goes on")
		require.Zero(t, time.Since(began))
		require.EqualValues(t, 0, reached(t, s))
		d = w.next()
		require.Equal(t, 30*time.Second, time.Since(began))
		require.Equal(t, "a1", counts(d))
		require.Equal(t, 2, d.Attempt)
		ack(t, d).Retry(0)
		require.Equal(t, "a2", counts(ack(t, w.next())), "acknowledged is acknowledged")
	})
}

func TestMembersShareThePartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		config := with(func(c *eventstore.Consumer) { c.Partitions = 7 })
		owned := func() (n []int) {
			list, err := s.Consumers(t.Context())
			require.NoError(t, err)
			by := map[string]int{}
			for _, p := range list[0].Partitions {
				if p.Owner != "" {
					by[p.Owner]++
				}
			}
			for _, k := range by {
				n = append(n, k)
			}
			slices.Sort(n)
			return n
		}
		a := work(t, s, config)
		time.Sleep(time.Second)
		require.Equal(t, []int{7}, owned())
		b := work(t, s, config)
		time.Sleep(time.Second)
		require.Equal(t, []int{3, 4}, owned())
		c := work(t, s, config)
		time.Sleep(time.Second)
		require.Equal(t, []int{2, 2, 3}, owned())
		b.leave()
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, []int{3, 4}, owned(), "at once")
		a.leave()
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, []int{7}, owned())
		c.leave()
		require.Empty(t, owned())
		list, err := s.Consumers(t.Context())
		require.NoError(t, err)
		require.Zero(t, list[0].Members)
	})
}

func TestAPartitionIsGivenUpBetweenDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		config := with(func(c *eventstore.Consumer) { c.Partitions, c.Lease = 2, 5*time.Second })
		count(t, s, "a1 b1 a2 b2")
		old := work(t, s, config)
		d, e := old.next(), old.next()
		require.NotEqual(t, d.Partition, e.Partition)
		other := work(t, s, config)
		require.Nil(t, other.next(), "what is under way is not taken away, however long it takes")
		ack(t, d)
		ack(t, e)
		next, began := other.next(), time.Now()
		require.NotNil(t, next)
		require.Less(t, time.Since(began), time.Second)
		rest := old.next()
		require.NotEqual(t, next.Partition, rest.Partition)
		require.NoError(t, next.Ack(t.Context()))
		require.NoError(t, rest.Ack(t.Context()))
	})
}

func TestAMemberThatIsNotHeardFromLosesItsPartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := memstore.NewDriver().(engine)
		line := newCable(t, e)
		there := eventstore.New(line, &eventstore.Options{Logger: quiet})
		here := eventstore.New(e, &eventstore.Options{Logger: quiet})
		for _, s := range []*eventstore.Store{there, here} {
			require.NoError(t, s.Types.Register("counted", Counted{}))
		}
		config := with(func(c *eventstore.Consumer) { c.Lease = 5 * time.Second })
		count(t, here, "a1 b1")
		old := work(t, there, config)
		d := old.next()
		heir := work(t, here, config)
		require.Nil(t, heir.next())
		line.cut(true, false)
		cut := time.Now()
		next := heir.next()
		require.Equal(t, "a1", counts(next), "again, since it was not acknowledged")
		require.Less(t, time.Since(cut), 6*time.Second)
		require.Error(t, d.Ack(t.Context()))
		line.cut(false, false)
		require.ErrorIs(t, d.Ack(t.Context()), eventstore.ErrMoved)
		ack(t, next)
		require.Equal(t, "b1", counts(ack(t, heir.next())))
		old.leave()
		heir.leave()
		require.NoError(t, there.Close())
		require.NoError(t, here.Close())
	})
}

// Nothing is delivered by a member from the moment on at which another may have its partition, even before it knows.
func TestAPartitionIsNotDeliveredFromAfterItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		line := newCable(t, memstore.NewDriver().(engine))
		s := eventstore.New(line, &eventstore.Options{Logger: quiet})
		require.NoError(t, s.Types.Register("counted", Counted{}))
		count(t, s, "a1 a2 a3")
		w := work(t, s, with(func(c *eventstore.Consumer) { c.Lease = 5 * time.Second }))
		d := w.next()
		line.cut(true, false)
		time.Sleep(5*time.Second + time.Nanosecond)
		require.Error(t, d.Ack(t.Context()))
		require.Nil(t, w.next())
		line.cut(false, false)
		require.Equal(t, "a1", counts(w.next()), "when it has the partition again")
		w.leave()
		require.NoError(t, s.Close())
	})
}

func TestAnAcknowledgementThatCouldNotBeStoredCanBeRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		line := newCable(t, memstore.NewDriver().(engine))
		s := eventstore.New(line, &eventstore.Options{Logger: quiet})
		require.NoError(t, s.Types.Register("counted", Counted{}))
		count(t, s, "a1 b1")
		w := work(t, s, one())
		d := w.next()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, d.Ack(ctx), context.Canceled)
		require.EqualValues(t, 0, reached(t, s))
		line.cut(true, false)
		require.ErrorIs(t, d.Ack(t.Context()), errCut)
		line.cut(false, false)
		require.NoError(t, d.Ack(t.Context()))
		require.EqualValues(t, 1, reached(t, s))
		require.Equal(t, "b1", counts(w.next()))
		w.leave()
		require.NoError(t, s.Close())
	})
}

func TestAConsumerCanBePausedResetAndDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, ctx := openConsume(t), t.Context()
		require.ErrorIs(t, s.PauseConsumer(ctx, "c"), eventstore.ErrNoConsumer)
		require.ErrorIs(t, s.ResetConsumer(ctx, "c", eventstore.Origin()), eventstore.ErrNoConsumer)
		require.ErrorIs(t, s.Repartition(ctx, "c", 2), eventstore.ErrNoConsumer)
		require.NoError(t, s.DeleteConsumer(ctx, "c"))
		require.ErrorIs(t, s.DeleteConsumer(ctx, "a/b"), eventstore.ErrInvalid)
		count(t, s, "a1 a2 a3")
		w := work(t, s, one())
		d := w.next()
		require.NoError(t, s.PauseConsumer(ctx, "c"))
		require.NoError(t, s.PauseConsumer(ctx, "c"))
		synctest.Wait()
		ack(t, d)
		require.Nil(t, w.next())
		list, err := s.Consumers(ctx)
		require.NoError(t, err)
		require.True(t, list[0].Paused)
		require.EqualValues(t, 2, list[0].Lag)
		require.NoError(t, s.ResumeConsumer(ctx, "c"))
		d = w.next()
		require.Equal(t, "a2", counts(d))

		require.NoError(t, s.ResetConsumer(ctx, "c", eventstore.Origin()))
		synctest.Wait()
		require.ErrorIs(t, d.Ack(ctx), eventstore.ErrMoved)
		require.Equal(t, "a1", counts(ack(t, w.next())))
		require.NoError(t, s.ResetConsumer(ctx, "c", eventstore.Start{}))
		synctest.Wait()
		count(t, s, "b9")
		for d = w.next(); counts(d) != "b9"; d = w.next() {
			// What was under way when it was reset.
			require.Equal(t, "a2", counts(d))
		}

		require.NoError(t, s.DeleteConsumer(ctx, "c"))
		require.ErrorIs(t, w.ended(t), eventstore.ErrNoConsumer)
		list, err = s.Consumers(ctx)
		require.NoError(t, err)
		require.Empty(t, list)
		w = work(t, s, one())
		require.Equal(t, "a1", counts(w.next()), "as the first one")
		w.leave()
	})
}

func TestPartitionsAreKeptUntilRepartition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, ctx := openConsume(t), t.Context()
		four := with(func(c *eventstore.Consumer) { c.Partitions = 4 })
		any := with(func(c *eventstore.Consumer) { c.Partitions = 0 })
		count(t, s, "a1 b1 c1 d1 e1 f1")
		w := work(t, s, four)
		for range 3 {
			ack(t, w.next())
		}
		adopts := work(t, s, any)
		require.ErrorIs(t, work(t, s, one()).ended(t), eventstore.ErrPartitions)
		require.ErrorIs(t, s.Repartition(ctx, "c", 0), eventstore.ErrInvalid)
		require.NoError(t, s.Repartition(ctx, "c", 1))
		require.ErrorIs(t, w.ended(t), eventstore.ErrPartitions)
		adopts.leave()
		w = work(t, s, one())
		seen := map[string]bool{}
		for d := w.next(); d != nil; d = w.next() {
			seen[counts(ack(t, d))] = true
		}
		require.GreaterOrEqual(t, len(seen), 3, "nothing is lost")
		require.True(t, seen["f1"])
		require.EqualValues(t, 6, reached(t, s))
		w.leave()
		list, err := s.Consumers(ctx)
		require.NoError(t, err)
		require.Len(t, list[0].Partitions, 1)
		c, err := s.Checkpoints()
		require.NoError(t, err)
		stored, err := c.Checkpoints(ctx, "$consumer-")
		require.NoError(t, err)
		require.Len(t, stored, 2, "nothing is left of the old ones: %v", stored)
	})
}

func TestAConsumerThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	s := openConsume(t)
	for name, c := range map[string]eventstore.Consumer{
		"no name":        {},
		"slash":          {Name: "a/b"},
		"long name":      {Name: strings.Repeat("n", 151)},
		"control":        {Name: "a\n"},
		"not UTF-8":      {Name: "a\xff"},
		"partitions":     {Name: "c", Partitions: -1},
		"too many":       {Name: "c", Partitions: 1025},
		"batch":          {Name: "c", Batch: -1},
		"in flight":      {Name: "c", InFlight: -1},
		"by and keys":    {Name: "c", By: func(*eventstore.Recorded) string { return "" }, Keys: func(*eventstore.Recorded) []string { return nil }},
		"lease":          {Name: "c", Lease: time.Millisecond},
		"negative lease": {Name: "c", Lease: -time.Second},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		for _, err := range s.Consume(ctx, c) {
			require.ErrorIs(t, err, eventstore.ErrInvalid, name)
		}
		cancel()
	}
	bare := eventstore.New(struct{ driver.Store }{memstore.NewDriver()}, nil)
	for _, err := range bare.Consume(t.Context(), one()) {
		require.ErrorIs(t, err, eventstore.ErrUnsupported)
	}
	_, err := bare.Consumers(t.Context())
	require.ErrorIs(t, err, eventstore.ErrUnsupported)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range s.Consume(ctx, one()) {
		require.ErrorIs(t, err, context.Canceled)
	}
	list, err := s.Consumers(t.Context())
	require.NoError(t, err)
	require.Empty(t, list)
}

func TestClosingTheStoreEndsConsumersAndGivesUpTheirLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := memstore.NewDriver().(engine)
		s := eventstore.New(newCable(t, e), nil) // closing it leaves the engine open
		require.NoError(t, s.Types.Register("counted", Counted{}))
		count(t, s, "a1 a2")
		w := work(t, s, one())
		d := w.next()
		require.NoError(t, s.Close())
		require.ErrorIs(t, w.ended(t), eventstore.ErrClosed)
		require.ErrorIs(t, d.Ack(t.Context()), eventstore.ErrClosed)
		leases, err := e.Leases(t.Context(), "")
		require.NoError(t, err)
		require.Empty(t, leases)
		for _, err := range s.Consume(t.Context(), one()) {
			require.ErrorIs(t, err, eventstore.ErrClosed)
		}
	})
}

func TestEventsThatCannotBeDecodedAreDelivered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		_, err := s.Append(t.Context(), "key-a", eventstore.Any, eventstore.Event{Type: "counted", Raw: []byte("!"), ContentType: "application/json"})
		require.NoError(t, err)
		count(t, s, "b1")
		w := work(t, s, one())
		d := ack(t, w.next())
		require.Error(t, d.Events[0].Err)
		require.Equal(t, "b1", counts(ack(t, w.next())))
	})
}

func TestThePartsOfAnEventAreDeliveredTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		require.NoError(t, s.Types.Add(eventstore.UpcastSplit("opened", func(Opened) []any {
			return []any{Counted{1}, Counted{2}, Counted{3}}
		})))
		_, err := s.Append(t.Context(), "key-a", eventstore.Any, eventstore.Event{Type: "opened", Raw: []byte("{}"), ContentType: "application/json"})
		require.NoError(t, err)
		d := ack(t, work(t, s, one()).next())
		require.Equal(t, "a1 a2 a3", counts(d), "more than Batch")
		require.EqualValues(t, 1, reached(t, s))
	})
}

func TestAPanicOfByEndsTheMember(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1")
		w := work(t, s, with(func(c *eventstore.Consumer) { c.By = func(*eventstore.Recorded) string { panic("oh") } }))
		require.ErrorContains(t, w.ended(t), "oh")
	})
}

// One key with thousands of events whose handler does not get on must not hold up another partition.
func TestAPartitionThatDoesNotGetOnHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		var events []eventstore.Event
		for range 1000 {
			events = append(events, eventstore.Event{Data: Counted{1}})
		}
		for range 5 {
			_, err := s.Append(t.Context(), "key-a", eventstore.Any, events...)
			require.NoError(t, err)
		}
		count(t, s, "b1")
		w := work(t, s, with(func(c *eventstore.Consumer) { c.Partitions, c.Batch = 2, 100 }))
		var slow *eventstore.Delivery
		for {
			d := w.next()
			require.NotNil(t, d)
			if d.Events[0].Stream == "key-b" {
				require.Equal(t, "b1", counts(ack(t, d)))
				break
			}
			slow = d
		}
		// And it gets on later, without a gap, together with what comes.
		last := count(t, s, "a1 b2")
		n := len(slow.Events)
		ack(t, slow)
		for d := w.next(); d != nil; d = w.next() {
			if d.Events[0].Stream == "key-a" {
				require.EqualValues(t, n+1, d.Events[0].Version)
				n += len(d.Events)
			}
			ack(t, d)
		}
		require.Equal(t, 5001, n)
		require.Equal(t, last, reached(t, s))
	})
}

func TestKeysGoToTheirPartitionForEver(t *testing.T) {
	t.Parallel()
	// FNV-1a of 64 bits; see http://www.isthe.com/chongo/tech/comp/fnv.
	for key, want := range map[string]uint64{"": 0xcbf29ce484222325, "a": 0xaf63dc4c8601ec8c, "foobar": 0x85944171f73967e8} {
		for _, n := range []int{1, 8, 1000} {
			require.Equal(t, int(want%uint64(n)), eventstore.PartitionOf(key, n))
		}
	}
}

func TestAConsumerWhoseSettingsCannotBeReadSaysSo(t *testing.T) {
	t.Parallel()
	s := openConsume(t)
	c, err := s.Checkpoints()
	require.NoError(t, err)
	require.NoError(t, c.SaveCheckpoint(t.Context(), "$consumer-c", nil, driver.Checkpoint{Data: []byte("{")}))
	for _, err := range s.Consume(t.Context(), one()) {
		require.ErrorContains(t, err, "cannot be read")
		require.False(t, errors.Is(err, eventstore.ErrInvalid))
	}
	_, err = s.Consumers(t.Context())
	require.ErrorContains(t, err, "cannot be read")
}

// keysOf are the letters of a stream's id: "key-ab" belongs to a and b, "key-" to nobody.
func keysOf(r *eventstore.Recorded) []string {
	return strings.Split(r.Stream.ID(), "")[:len(r.Stream.ID())]
}

func TestAnEventOfSeveralKeysWaitsForAllOfThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		streams := []eventstore.StreamName{"key-a", "key-ab", "key-b", "key-", "key-c"}
		for _, name := range streams {
			_, err := s.Append(t.Context(), name, eventstore.Any, eventstore.Event{Data: Counted{1}})
			require.NoError(t, err)
		}
		w := work(t, s, with(func(c *eventstore.Consumer) { c.InFlight, c.Keys = 9, keysOf }))
		a := w.next()
		require.Equal(t, "a1", counts(a))
		require.Equal(t, "c1", counts(ack(t, w.next())), "b waits for ab, which waits for a; key- is nobody's")
		require.Nil(t, w.next())
		ack(t, a)
		ab := w.next()
		require.Equal(t, "ab1", counts(ab))
		require.Nil(t, w.next())
		ack(t, ab)
		require.Equal(t, "b1", counts(ack(t, w.next())))
		require.EqualValues(t, 5, reached(t, s))
	})
}

func TestAnEventIsDeliveredInEachPartitionOfItsKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		_, err := s.Append(t.Context(), "key-abcdefgh", eventstore.Any, eventstore.Event{Data: Counted{1}})
		require.NoError(t, err)
		parts := map[int]bool{}
		for _, key := range strings.Split("abcdefgh", "") {
			parts[eventstore.PartitionOf(key, 3)] = true
		}
		w := work(t, s, with(func(c *eventstore.Consumer) { c.Partitions, c.Keys = 3, keysOf }))
		for range len(parts) {
			d := ack(t, w.next())
			require.True(t, parts[d.Partition])
			delete(parts, d.Partition)
		}
		require.Nil(t, w.next())
		require.EqualValues(t, 1, reached(t, s))
	})
}

func TestProgressTellsWhatIsDealtWithByWhoHasAllPartitions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 b1 c1 d1")
		var told []eventstore.Position
		config := with(func(c *eventstore.Consumer) {
			c.Partitions = 3
			c.Progress = func(p eventstore.Position) { told = append(told, p) }
		})
		w := work(t, s, config)
		for range 4 {
			ack(t, w.next())
		}
		last := count(t, s, "a2")
		ack(t, w.next())
		synctest.Wait()
		require.True(t, slices.IsSorted(told))
		require.Equal(t, last, told[len(told)-1])
		other := work(t, s, with(func(c *eventstore.Consumer) { c.Partitions = 3 }))
		time.Sleep(time.Second)
		n := len(told)
		count(t, s, "a3 b3 c3 d3")
		for d := w.next(); d != nil; d = w.next() {
			ack(t, d)
		}
		require.Len(t, told, n, "another member has some")
		other.leave()
	})
}

func TestFilteredPositionsAreStoredSoonerForWhoWaitsElsewhere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		w := work(t, s, with(func(c *eventstore.Consumer) { c.Filter.Streams = []eventstore.StreamName{"key-a"} }))
		ack(t, func() *eventstore.Delivery { count(t, s, "a1"); return w.next() }())
		leases, err := s.Leases()
		require.NoError(t, err)
		announce := func(name string) func() {
			fence, ok, err := leases.Acquire(t.Context(), "$wait-"+name+"/me", "me", time.Hour)
			require.NoError(t, err)
			require.True(t, ok)
			return func() { require.NoError(t, leases.Release(t.Context(), "$wait-"+name+"/me", "me", fence)) }
		}
		passes := func(n int) time.Duration {
			last := count(t, s, fmt.Sprint("b", n))
			for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
				if reached(t, s) == last {
					return time.Since(began)
				}
			}
		}
		announce("another")
		passes(1)
		require.Greater(t, passes(2), 900*time.Millisecond, "a second after the last time")
		withdraw := announce("c")
		for n := range 5 {
			require.LessOrEqual(t, passes(n), 310*time.Millisecond)
		}
		withdraw()
		require.Greater(t, passes(6), 900*time.Millisecond)
		w.leave()
	})
}

func TestAConsumerBeginsWhenTheStoreCanBeReached(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		line := newCable(t, memstore.NewDriver().(engine))
		s := eventstore.New(line, &eventstore.Options{Logger: quiet})
		require.NoError(t, s.Types.Register("counted", Counted{}))
		count(t, s, "a1")
		line.cut(true, false)
		w := work(t, s, one())
		gone := work(t, s, one())
		time.Sleep(time.Minute)
		gone.stop()
		require.ErrorIs(t, gone.ended(t), context.Canceled, "heeded meanwhile")
		line.cut(false, false)
		require.Equal(t, "a1", counts(w.next()))
		w.leave()

		line.cut(true, false)
		w = work(t, s, with(func(c *eventstore.Consumer) { c.Name = "another" }))
		time.Sleep(time.Minute)
		line.cut(false, false)
		require.NoError(t, s.Close())
		require.ErrorIs(t, w.ended(t), eventstore.ErrClosed)
	})
}
