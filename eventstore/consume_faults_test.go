package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

func cabled(t *testing.T) (*eventstore.Store, *cable) {
	line := newCable(t, memstore.NewDriver().(engine))
	s := eventstore.New(line, &eventstore.Options{Logger: quiet})
	require.NoError(t, s.Types.Register("counted", Counted{}))
	return s, line
}

// persist acknowledges until that is durable, as long as the store only fails.
func persist(ctx context.Context, d *eventstore.Delivery) error {
	for {
		err := d.Ack(ctx)
		if err == nil || errors.Is(err, eventstore.ErrMoved) || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// A book notes what was delivered and what was acknowledged, in order.
type book struct {
	mu        sync.Mutex
	delivered []string
	acked     []string
	moved     int
	ended     []error
}

// keep consumes c until stop is called.
func (b *book) keep(t *testing.T, s *eventstore.Store, c eventstore.Consumer) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for d, err := range s.Consume(ctx, c) {
			b.mu.Lock()
			if err != nil {
				b.ended = append(b.ended, err)
				b.mu.Unlock()
				return
			}
			events := strings.Fields(counts(d))
			b.delivered = append(b.delivered, events...)
			b.mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			err = persist(context.WithoutCancel(ctx), d)
			b.mu.Lock()
			if err == nil {
				b.acked = append(b.acked, events...)
			} else {
				b.moved++
			}
			b.mu.Unlock()
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// once requires that exactly events were noted, each once, and those of a key in order.
func once(t *testing.T, want string, got []string, why ...any) {
	t.Helper()
	of := func(list []string) map[string]string {
		by := map[string]string{}
		for _, e := range list {
			by[e[:1]] += " " + e
		}
		return by
	}
	require.Equal(t, of(strings.Fields(want)), of(got), why...)
}

func (b *book) take() (delivered, acked []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delivered, acked = b.delivered, b.acked
	b.delivered, b.acked = nil, nil
	return delivered, acked
}

func TestAnAcknowledgementWhoseAnswerWasLostIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, line := cabled(t)
		count(t, s, "a1 b1 c1")
		w := work(t, s, with(func(c *eventstore.Consumer) { c.InFlight = 2 }))
		a, b := w.next(), w.next()
		line.faults.After(eventstoretest.OpSaveCheckpoint, 1, errCut)
		require.ErrorIs(t, a.Ack(t.Context()), errCut)
		require.EqualValues(t, 1, reached(t, s), "it was stored")
		require.NoError(t, b.Ack(t.Context()), "another one")
		require.NoError(t, a.Ack(t.Context()), "again")
		require.EqualValues(t, 2, reached(t, s))
		require.Equal(t, "c1", counts(w.next()))
		require.Nil(t, w.next(), "nothing twice")
		w.leave()
		require.NoError(t, s.Close())
	})
}

// A store that fails for less than a lease costs time, and delivers nothing twice.
func TestConsumersGetOverWhatFailsForAWhile(t *testing.T) {
	t.Parallel()
	for _, op := range []eventstoretest.Op{
		eventstoretest.OpReadAll, eventstoretest.OpHead, eventstoretest.OpLoadCheckpoint, eventstoretest.OpSaveCheckpoint,
		eventstoretest.OpAcquire, eventstoretest.OpRelease, eventstoretest.OpLeases,
	} {
		for _, n := range []int{1, 2, 7} {
			for name, fail := range map[string]func(*eventstoretest.Faults){
				"before": func(f *eventstoretest.Faults) { f.Before(op, n, errCut) },
				"after":  func(f *eventstoretest.Faults) { f.After(op, n, errCut) },
			} {
				t.Run(fmt.Sprintf("%d × %s/%s", n, op, name), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						s, line := cabled(t)
						var b book
						config := with(func(c *eventstore.Consumer) { c.Partitions = 3 })
						count(t, s, "a1 b1 c1 a2")
						fail(line.faults) // when it begins
						stop := b.keep(t, s, config)
						time.Sleep(8 * time.Second)
						fail(line.faults) // while it works
						count(t, s, "a3 b2 b3")
						time.Sleep(8 * time.Second)
						fail(line.faults) // while another one joins, and has its share
						also := b.keep(t, s, config)
						time.Sleep(12 * time.Second)
						count(t, s, "a4 c2")
						time.Sleep(8 * time.Second)
						fail(line.faults) // when it leaves
						stop()
						line.faults.Heal()
						time.Sleep(12 * time.Second) // a lease that could not be given up
						count(t, s, "a5 b4 c3")
						time.Sleep(time.Second)
						delivered, acked := b.take()
						once(t, "a1 b1 c1 a2 a3 b2 b3 a4 c2 a5 b4 c3", delivered)
						once(t, "a1 b1 c1 a2 a3 b2 b3 a4 c2 a5 b4 c3", acked)
						list, err := s.Consumers(t.Context())
						require.NoError(t, err)
						require.Zero(t, list[0].Lag)
						require.Equal(t, 1, list[0].Members)
						also()
						require.NoError(t, s.Close())
					})
				})
			}
		}
	}
}

// An uncertain clock is that of a store's leases, which jumps.
type uncertain struct {
	engine
	mu     sync.Mutex
	jumped time.Duration
	fence  uint64
	leases map[string]driver.Lease
}

func (u *uncertain) jump(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.jumped += d
}

func (u *uncertain) Acquire(_ context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now().Add(u.jumped)
	l, held := u.leases[name]
	if held = held && now.Before(l.Expires); held && l.Owner != owner {
		return 0, false, nil
	}
	if !held {
		u.fence++
		l = driver.Lease{Name: name, Owner: owner, Fence: u.fence}
	}
	l.Expires = now.Add(ttl)
	u.leases[name] = l
	return l.Fence, true, nil
}

func (u *uncertain) Release(_ context.Context, name, owner string, fence uint64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if l := u.leases[name]; l.Owner == owner && l.Fence == fence {
		delete(u.leases, name)
	}
	return nil
}

func (u *uncertain) Leases(_ context.Context, prefix string) (held []driver.Lease, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, l := range u.leases {
		if strings.HasPrefix(l.Name, prefix) && time.Now().Add(u.jumped).Before(l.Expires) {
			held = append(held, l)
		}
	}
	return held, nil
}

// When the store's clock jumps, partitions may be lost to others too early, or be given up too late by the dead, but
// what was acknowledged stays so, nothing is lost, and soon everybody has an equal share again.
func TestAClockThatJumpsLosesNothing(t *testing.T) {
	t.Parallel()
	for _, jump := range []time.Duration{5 * time.Second, time.Hour, -time.Second, -time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := &uncertain{engine: memstore.NewDriver().(engine), leases: map[string]driver.Lease{}}
				config := with(func(c *eventstore.Consumer) { c.Partitions = 4 })
				var b book
				var stores []*eventstore.Store
				var stops []func()
				for range 2 {
					s := eventstore.New(line{u}, &eventstore.Options{Logger: quiet})
					require.NoError(t, s.Types.Register("counted", Counted{}))
					stores = append(stores, s)
					stops = append(stops, b.keep(t, s, config))
				}
				time.Sleep(time.Second)
				want := ""
				for i := range 9 {
					if i == 4 {
						u.jump(jump)
					}
					for _, key := range "abcdefgh" {
						event := fmt.Sprintf("%c%d", key, i+1)
						count(t, stores[0], event)
						want += " " + event
						time.Sleep(7 * time.Millisecond)
					}
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(15 * time.Second)
				_, acked := b.take()
				once(t, want, acked, "no acknowledgement counts twice")
				list, err := stores[0].Consumers(t.Context())
				require.NoError(t, err)
				require.Zero(t, list[0].Lag)
				shares := map[string]int{}
				for _, p := range list[0].Partitions {
					shares[p.Owner]++
				}
				require.Len(t, shares, 2, "%v", shares)
				require.Equal(t, 2, shares[list[0].Partitions[0].Owner])
				stops[0]()
				count(t, stores[0], "a1 b1 c1 d1 e1 f1 g1 h1")
				time.Sleep(time.Second)
				_, acked = b.take()
				once(t, "a1 b1 c1 d1 e1 f1 g1 h1", acked, "who leaves gives up its leases by any clock")
				stops[1]()
				for _, s := range stores {
					require.NoError(t, s.Close())
				}
			})
		})
	}
}

func TestWhatWasDeliveredBeforeTheLeaseEndedIsNotAcknowledgedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, line := cabled(t)
		count(t, s, "a1 a2")
		w := work(t, s, one())
		old := w.next()
		line.cut(true, false)
		time.Sleep(30 * time.Second)
		line.cut(false, false)
		d := w.next()
		require.Equal(t, "a1", counts(d), "by the same member")
		require.Equal(t, 1, d.Attempt)
		require.ErrorIs(t, old.Ack(t.Context()), eventstore.ErrMoved)
		old.Retry(0)
		require.EqualValues(t, 0, reached(t, s))
		ack(t, d)
		require.Equal(t, "a2", counts(w.next()))
		w.leave()
		require.NoError(t, s.Close())
	})
}

func TestAcknowledgingTwiceAtOnceIsOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 a2 a3")
		w := work(t, s, one())
		d := w.next()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := d.Ack(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, "a2", counts(w.next()))
		require.Nil(t, w.next(), "one delivery under way, as before")
		require.EqualValues(t, 1, reached(t, s))
		w.leave()
	})
}

func TestWhatWasGivenBackIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 a2")
		w := work(t, s, one())
		old := w.next()
		old.Retry(0)
		require.ErrorIs(t, old.Ack(t.Context()), eventstore.ErrMoved)
		again := w.next()
		require.Equal(t, "a1", counts(again))
		require.ErrorIs(t, old.Ack(t.Context()), eventstore.ErrMoved)
		old.Retry(0)
		require.Nil(t, w.next(), "that one is under way")
		ack(t, again)
		require.ErrorIs(t, old.Ack(t.Context()), eventstore.ErrMoved)
		require.Equal(t, "a2", counts(w.next()))
		w.leave()
	})
}

// What a late member of a deleted consumer still stores is not that of the next one of the name.
func TestAConsumerOfADeletedOnesNameBeginsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, ctx := openConsume(t), t.Context()
		c, err := s.Checkpoints()
		require.NoError(t, err)
		count(t, s, "a1 a2 a3")
		w := work(t, s, one())
		ack(t, w.next())
		ack(t, w.next())
		stored, err := c.Checkpoints(ctx, "$consumer-c/")
		require.NoError(t, err)
		require.Len(t, stored, 1)
		require.NoError(t, s.DeleteConsumer(ctx, "c"))
		require.ErrorIs(t, w.ended(t), eventstore.ErrNoConsumer)
		for name, late := range stored {
			require.NoError(t, c.SaveCheckpoint(ctx, name, nil, late))
		}
		w = work(t, s, one())
		require.Equal(t, "a1", counts(ack(t, w.next())))
		require.NoError(t, s.DeleteConsumer(ctx, "c"))
		stored, err = c.Checkpoints(ctx, "$consumer-")
		require.NoError(t, err)
		require.Empty(t, stored, "what was late is gone, too")
	})
}

func TestFromBeyondWhatIsThere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		count(t, s, "a1 a2")
		later := with(func(c *eventstore.Consumer) { c.From = eventstore.After(4) })
		w := work(t, s, later)
		require.Nil(t, w.next())
		list, err := s.Consumers(t.Context())
		require.NoError(t, err)
		require.Zero(t, list[0].Lag)
		count(t, s, "a3 a4 a5")
		require.Equal(t, "a5", counts(ack(t, w.next())))
		require.EqualValues(t, 5, reached(t, s))
		w.leave()

		s0 := memstore.NewDriver().(engine)
		plain := eventstore.New(struct {
			driver.Store
			driver.Checkpointer
			driver.Leaser
		}{s0, s0, s0}, nil) // without driver.Dater
		for _, err := range plain.Consume(t.Context(), with(func(c *eventstore.Consumer) { c.From = eventstore.AtTime(time.Now()) })) {
			require.ErrorIs(t, err, eventstore.ErrUnsupported)
		}
		list, err = plain.Consumers(t.Context())
		require.NoError(t, err)
		require.Empty(t, list, "nothing was created")
	})
}
