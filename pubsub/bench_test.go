package pubsub_test

import (
	"fmt"
	"testing"

	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/pubsubtest"
)

// BenchmarkPublish publishes to subscribers who receive, and to such who do not.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1, 1000, 10_000} {
		for _, slow := range []bool{false, true} {
			if n == 0 && slow {
				continue
			}
			b.Run(fmt.Sprintf("subscribers=%d/slow=%v", n, slow), func(b *testing.B) {
				bus := pubsub.Local()
				subs := make([]*pubsub.Subscription[int], n)
				for i := range subs {
					subs[i] = subscribe(b, bus, numbers, nil)
				}
				ctx := b.Context()
				b.ReportAllocs()
				for b.Loop() {
					if err := numbers.Publish(ctx, bus, 1); err != nil {
						b.Fatal(err)
					}
					if !slow {
						for _, s := range subs {
							<-s.C
						}
					}
				}
			})
		}
	}
}

// BenchmarkPublishToANode is a value's way to a subscriber of another node, but
// for the network.
func BenchmarkPublishToANode(b *testing.B) {
	var n pubsubtest.Network
	here, there := pubsub.New(n.Connect(), nil), pubsub.New(n.Connect(), nil)
	s := subscribe(b, there, numbers, nil)
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		if err := numbers.Publish(ctx, here, 1); err != nil {
			b.Fatal(err)
		}
		<-s.C
	}
}

// BenchmarkSubscribe is the beginning and end of one of many subscriptions.
func BenchmarkSubscribe(b *testing.B) {
	bus := pubsub.Local()
	for range 10_000 {
		subscribe(b, bus, numbers, nil)
	}
	b.ReportAllocs()
	for b.Loop() {
		s, err := numbers.Subscribe(b.Context(), bus, nil)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
