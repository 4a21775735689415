package pubsub_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/pubsubtest"
)

// tap is a transport whose messages the test sees and makes.
type tap struct {
	mu        sync.Mutex
	sent      [][]byte
	deliver   map[string]func([]byte)
	publish   error
	subscribe func(ctx context.Context) error
	ended     int
}

func (p *tap) Publish(ctx context.Context, _ string, m []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent = append(p.sent, bytes.Clone(m))
	return p.publish
}

func (p *tap) Subscribe(ctx context.Context, topic string, deliver func([]byte)) (func(), error) {
	if p.subscribe != nil {
		if err := p.subscribe(ctx); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deliver == nil {
		p.deliver = map[string]func([]byte){}
	}
	p.deliver[topic] = deliver
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ended++
	}, nil
}

// message returns the bytes of a message of another node.
func message(node uuid.UUID, number byte, value string) []byte {
	m := append([]byte{1}, node[:]...)
	return append(append(m, 0, 0, 0, 0, 0, 0, 0, number), value...)
}

func TestTheEchoOfANodeIsDropped(t *testing.T) {
	t.Parallel()
	var p tap
	b := quiet(&p)
	s := subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 1)
	p.deliver["numbers"](p.sent[0])
	require.Equal(t, []int{1}, waiting(s))
	require.Zero(t, b.Rejected())
}

func TestDuplicatesAndLateMessagesAreDropped(t *testing.T) {
	t.Parallel()
	var p tap
	b := quiet(&p)
	s := subscribe(t, b, numbers, nil)
	x, y := uuid.New(), uuid.New()
	for _, m := range [][]byte{message(x, 3, "1"), message(x, 3, "2"), message(x, 2, "3"), message(y, 2, "4"), message(x, 9, "5")} {
		p.deliver["numbers"](m)
	}
	require.Equal(t, []int{1, 4, 5}, waiting(s))
}

func TestBadMessagesAreRejectedAndHarmNothing(t *testing.T) {
	t.Parallel()
	var p tap
	var log bytes.Buffer
	b := pubsub.New(&p, &pubsub.Options{MaxBytes: 100, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	topic := pubsub.Topic[int]{Name: "numbers", Codec: panicky{}}
	s := subscribe(t, b, topic, nil)
	x := uuid.New()
	version2 := message(x, 1, "1")
	version2[0] = 2
	bad := [][]byte{nil, []byte("x"), version2, message(x, 0, "1"), message(x, 1, `"a"`), message(x, 2, "13"), message(x, 3, strings.Repeat("1", 100))}
	for i, m := range bad {
		p.deliver["numbers"](m)
		require.EqualValues(t, i+1, b.Rejected())
	}
	p.deliver["numbers"](message(x, 4, "1"))
	require.Equal(t, []int{1}, waiting(s))
	require.Equal(t, 3, strings.Count(log.String(), "message rejected"), "the 1st, 2nd and 4th")

	var pe *pubsub.PanicError
	require.ErrorAs(t, topic.Publish(t.Context(), b, 13), &pe)
	require.Empty(t, waiting(s), "what cannot be encoded is not half published")
	publish(t, b, topic, 14)
	require.Equal(t, []int{14}, waiting(s))
}

// panicky is the JSON codec for whoever does not fear 13.
type panicky struct{ pubsub.JSON[int] }

func (c panicky) Marshal(v int) ([]byte, error) {
	if v == 13 {
		panic("13")
	}
	return c.JSON.Marshal(v)
}

func (c panicky) Unmarshal(data []byte) (int, error) {
	if string(data) == "13" {
		panic("13")
	}
	return c.JSON.Unmarshal(data)
}

func TestAMessageOverTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	var p tap
	b := pubsub.New(&p, nil)
	topic := pubsub.Topic[string]{Name: "words"}
	s := subscribe(t, b, topic, nil)
	fits := pubsub.DefaultMaxBytes - 25 - len(`""`)
	publish(t, b, topic, strings.Repeat("x", fits))
	require.Len(t, p.sent[0], pubsub.DefaultMaxBytes)
	require.Len(t, waiting(s), 1)
	require.ErrorIs(t, topic.Publish(t.Context(), b, strings.Repeat("x", fits+1)), pubsub.ErrTooLarge)
	require.Empty(t, waiting(s))
	require.Len(t, p.sent, 1)
}

func TestAnErrorOfTheTransportLeavesLocalSubscribersTheValue(t *testing.T) {
	t.Parallel()
	p := tap{publish: errors.New("cable cut")}
	b := quiet(&p)
	s := subscribe(t, b, numbers, nil)
	require.ErrorIs(t, numbers.Publish(t.Context(), b, 1), p.publish)
	require.Equal(t, []int{1}, waiting(s))
}

func TestTheTransportIsSubscribedToOnceForAll(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	b := quiet(n.Connect())
	require.Zero(t, n.Subscriptions("numbers"))
	var subs []*pubsub.Subscription[int]
	for range 3 {
		subs = append(subs, subscribe(t, b, numbers, nil))
		require.Equal(t, 1, n.Subscriptions("numbers"))
	}
	for i, s := range subs {
		require.Equal(t, 1, n.Subscriptions("numbers"), "before closing %d", i)
		s.Close()
		s.Close()
	}
	require.Zero(t, n.Subscriptions("numbers"))
	subscribe(t, b, numbers, nil)
	require.Equal(t, 1, n.Subscriptions("numbers"))
}

func TestASubscriberMayFailWithinADelivery(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	a, b := quiet(n.Connect()), quiet(n.Connect())
	s := subscribe(t, b, numbers, &pubsub.Mailbox[int]{Buffer: 1, OnFull: pubsub.Fail})
	publish(t, a, numbers, 1, 2, 3)
	require.ErrorIs(t, s.Err(), pubsub.ErrLagged)
	require.Zero(t, n.Subscriptions("numbers"))
}

func TestATransportThatCannotSubscribeIsAskedAgainByTheNext(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	var tries atomic.Int32
	p := tap{subscribe: func(context.Context) error {
		if tries.Add(1) == 1 {
			return down
		}
		return nil
	}}
	b := quiet(&p)
	_, err := numbers.Subscribe(t.Context(), b, nil)
	require.ErrorIs(t, err, down)
	s := subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 1)
	require.Equal(t, []int{1}, waiting(s))
}

func TestWaitingForTheTransport(t *testing.T) {
	t.Parallel()
	type result struct {
		sub *pubsub.Subscription[int]
		err error
	}
	// begin starts n subscribers, of which only the first can end by cancel, while
	// the transport waits.
	begin := func(t *testing.T, p *tap, n int) (b *pubsub.Bus, cancel func(), results []chan result) {
		b = quiet(p)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range n {
			c := make(chan result, 1)
			results = append(results, c)
			go func() {
				ctx := ctx
				if i > 0 {
					ctx = t.Context()
				}
				s, err := numbers.Subscribe(ctx, b, nil)
				c <- result{s, err}
			}()
			synctest.Wait() // the first is the one who tries
		}
		return b, cancel, results
	}
	hang := func(ctx context.Context) error {
		<-ctx.Done()
		return fmt.Errorf("waiting: %w", ctx.Err())
	}
	t.Run("whoever waits with one that gives up tries itself", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var tries atomic.Int32
			p := &tap{subscribe: func(ctx context.Context) error {
				if tries.Add(1) == 1 {
					return hang(ctx)
				}
				return nil
			}}
			_, cancel, results := begin(t, p, 3)
			cancel()
			require.ErrorIs(t, (<-results[0]).err, context.Canceled)
			synctest.Wait() // or one would end before the other has begun
			for _, c := range results[1:] {
				r := <-c
				require.NoError(t, r.err)
				r.sub.Close()
			}
			require.EqualValues(t, 2, tries.Load())
			require.Equal(t, 1, p.ended)
		})
	})
	t.Run("closing the bus ends the wait", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			b, cancel, results := begin(t, &tap{subscribe: hang}, 3)
			defer cancel()
			require.NoError(t, b.Close())
			for _, c := range results {
				require.ErrorIs(t, (<-c).err, pubsub.ErrClosed)
			}
		})
	})
	t.Run("a failure is everyone's", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			down, fail := errors.New("down"), make(chan struct{})
			_, cancel, results := begin(t, &tap{subscribe: func(context.Context) error { <-fail; return down }}, 3)
			defer cancel()
			close(fail)
			for _, c := range results {
				require.ErrorIs(t, (<-c).err, down)
			}
		})
	})
}

func TestNumbersOfConcurrentPublishersReachTheTransportInOrder(t *testing.T) {
	t.Parallel()
	var p tap
	b := quiet(&p)
	var publishers sync.WaitGroup
	const n, each = 4, 1000
	for range n {
		publishers.Go(func() {
			for i := range each {
				if err := numbers.Publish(t.Context(), b, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishers.Wait()
	require.Len(t, p.sent, n*each)
	var last uint64
	for _, m := range p.sent {
		number := binary.BigEndian.Uint64(m[17:])
		require.Greater(t, number, last)
		last = number
	}
}

func TestATransportThatDeliversAtOnceStillDeliversAtMostOnce(t *testing.T) {
	t.Parallel()
	var p tap
	b := quiet(&p)
	s := subscribe(t, b, numbers, &pubsub.Mailbox[int]{Buffer: 10_000})
	x := uuid.New()
	var couriers sync.WaitGroup
	for range 4 {
		couriers.Go(func() {
			for i := range 200 {
				p.deliver["numbers"](message(x, byte(i+1), fmt.Sprint(i)))
			}
		})
	}
	couriers.Wait()
	require.Equal(t, upTo(200), waiting(s))
}
