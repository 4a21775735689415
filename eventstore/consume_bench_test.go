package eventstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// BenchmarkConsume delivers and acknowledges a history of 256 streams in 8 partitions, to one member and to several
// that share them. The members have their shares before it begins.
func BenchmarkConsume(b *testing.B) {
	for _, members := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			stores(b, func(b *testing.B, s *eventstore.Store, _ driver.Store) {
				var handled atomic.Int64
				done := make(chan struct{})
				stop := consume(b, s, members, func(d *eventstore.Delivery) {
					if handled.Add(int64(len(d.Events))) == int64(b.N) {
						close(done)
					}
				})
				defer stop()
				require.NoError(b, s.PauseConsumer(b.Context(), "bench"))
				for i := 0; i < b.N; i += 256 {
					var events []eventstore.Event
					for j := range min(256, b.N-i) {
						events = append(events, eventstore.Event{Data: ordered(i + j)})
					}
					_, err := s.Append(b.Context(), eventstore.Stream("order", fmt.Sprint(i/256%256)), eventstore.Any, events...)
					require.NoError(b, err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				require.NoError(b, s.ResumeConsumer(b.Context(), "bench"))
				<-done
				rate(b, b.N)
			})
		})
	}
}

// BenchmarkConsumeLatency is the time from an append's return to its delivery, one event at a time.
func BenchmarkConsumeLatency(b *testing.B) {
	stores(b, func(b *testing.B, s *eventstore.Store, _ driver.Store) {
		at := make(chan time.Time, 1)
		stop := consume(b, s, 1, func(*eventstore.Delivery) { at <- time.Now() })
		defer stop()
		var took []time.Duration
		b.ResetTimer()
		for i := range b.N {
			_, err := s.Append(b.Context(), eventstore.Stream("order", fmt.Sprint(i%256)), eventstore.Any, eventstore.Event{Data: ordered(i)})
			require.NoError(b, err)
			returned := time.Now()
			took = append(took, max(0, (<-at).Sub(returned))) // it may come before
		}
		percentiles(b, "", took)
	})
}

// consume has members handle and acknowledge what comes, as soon as they have their shares.
func consume(b *testing.B, s *eventstore.Store, members int, handle func(*eventstore.Delivery)) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	for range members {
		wg.Go(func() {
			for d, err := range s.Consume(ctx, eventstore.Consumer{Name: "bench", Partitions: 8, From: eventstore.Origin()}) {
				if err != nil {
					return
				}
				handle(d)
				if err := d.Ack(ctx); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			}
		})
	}
	for balanced := false; !balanced; time.Sleep(10 * time.Millisecond) {
		list, err := s.Consumers(ctx)
		require.NoError(b, err)
		shares := map[string]int{}
		for _, c := range list {
			for _, p := range c.Partitions {
				shares[p.Owner]++
			}
		}
		balanced = len(shares) == members && shares[""] == 0
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

func percentiles(b *testing.B, what string, took []time.Duration) {
	slices.Sort(took)
	at := func(p float64) float64 {
		return float64(took[int(p*float64(len(took)-1))].Nanoseconds()) / 1e3
	}
	b.ReportMetric(at(0.5), what+"p50-µs")
	b.ReportMetric(at(0.99), what+"p99-µs")
}
