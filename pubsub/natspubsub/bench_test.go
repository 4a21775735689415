package natspubsub_test

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/natswire/natswiretest"
	"github.com/levada-go/levada/pubsub"
)

// BenchmarkPublish sends 128 bytes from a node to another whose connection is to
// another server: as many as go, and one after the other.
func BenchmarkPublish(b *testing.B) {
	sa, sb, _ := natswiretest.Pair(b)
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	ta, tb := pair(b, natswiretest.Connect(b, sa), natswiretest.Connect(b, sb, quiet), nil)
	here, there := bus(b, ta), bus(b, tb)
	value := string(make([]byte, 20)) // JSON makes 6 bytes of each
	b.Run("throughput", func(b *testing.B) {
		topic := pubsub.Topic[string]{Name: b.Name()}
		s, err := topic.Subscribe(b.Context(), there, &pubsub.Mailbox[string]{Buffer: 1 << 20})
		require.NoError(b, err)
		defer s.Close()
		const most = 10_000 // on the way, so that none is lost
		got := 0
		b.ReportAllocs()
		for sent := 0; b.Loop(); sent++ {
			require.NoError(b, topic.Publish(b.Context(), here, value))
			for sent-got >= most {
				got += len(<-s.C)
			}
		}
		for got < b.N {
			got += len(<-s.C)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
	b.Run("latency", func(b *testing.B) {
		topic := pubsub.Topic[string]{Name: b.Name()}
		s, err := topic.Subscribe(b.Context(), there, nil)
		require.NoError(b, err)
		defer s.Close()
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			require.NoError(b, topic.Publish(b.Context(), here, value))
			<-s.C
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	})
}

// BenchmarkSubscribe is the beginning and end of a subscription that two servers
// know of.
func BenchmarkSubscribe(b *testing.B) {
	sa, sb, _ := natswiretest.Pair(b)
	_, tb := pair(b, natswiretest.Connect(b, sa), natswiretest.Connect(b, sb), nil)
	there := bus(b, tb)
	b.ReportAllocs()
	for b.Loop() {
		s, err := words.Subscribe(b.Context(), there, nil)
		require.NoError(b, err)
		s.Close()
	}
}
