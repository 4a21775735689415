package pubsubtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/pubsub"
)

// patience is how long a message may take.
const patience = 10 * time.Second

// Run proves that a transport keeps what [pubsub.Transport] promises. Each call of
// connect returns two connections to a fresh, healthy network, and has t clean
// up. Between them no message may be lost while Run runs.
func Run(t *testing.T, connect func(t *testing.T) (a, b pubsub.Transport)) {
	tests := []struct {
		name string
		test func(t *testing.T, a, b pubsub.Transport)
	}{
		{"EverySubscriptionOfOtherConnectionsIsDeliveredTo", testEverySubscription},
		{"NoOtherTopicIsDelivered", testTopics},
		{"OrderOfAPublisherIsKept", testOrder},
		{"BytesAreDeliveredAsTheyWerePublished", testBytes},
		{"PublishDoesNotKeepTheMessage", testNotKept},
		{"DeliverIsCalledOneAtATime", testOneAtATime},
		{"WhatIsPublishedAfterSubscribeReturnedIsDelivered", testSubscribed},
		{"NothingIsDeliveredAfterUnsubscribe", testUnsubscribe},
		{"UnsubscribeMayBeCalledFromWithinDeliver", testUnsubscribeWithin},
		{"AnEndedContextIsAnError", testContext},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a, b := connect(t)
			test.test(t, a, b)
		})
	}
}

// subscribe returns a channel of copies of what is delivered.
func subscribe(t *testing.T, c pubsub.Transport, topic string) (<-chan []byte, func()) {
	t.Helper()
	got := make(chan []byte, 10_000)
	unsubscribe, err := c.Subscribe(t.Context(), topic, func(message []byte) { got <- bytes.Clone(message) })
	require.NoError(t, err)
	once := sync.OnceFunc(unsubscribe)
	t.Cleanup(once)
	return got, once
}

func publish(t *testing.T, c pubsub.Transport, topic, message string) {
	t.Helper()
	require.NoError(t, c.Publish(t.Context(), topic, []byte(message)))
}

func receive(t *testing.T, got <-chan []byte) string {
	t.Helper()
	select {
	case m := <-got:
		return string(m)
	case <-time.After(patience):
		require.FailNow(t, "a message was not delivered")
		return ""
	}
}

func testEverySubscription(t *testing.T, a, b pubsub.Transport) {
	one, _ := subscribe(t, b, "prices")
	two, _ := subscribe(t, b, "prices")
	back, _ := subscribe(t, a, "answers")
	publish(t, a, "prices", "hello")
	publish(t, b, "answers", "yes")
	require.Equal(t, "hello", receive(t, one))
	require.Equal(t, "hello", receive(t, two))
	require.Equal(t, "yes", receive(t, back))
}

func testTopics(t *testing.T, a, b pubsub.Transport) {
	topics := []string{
		"a", "A", "a.b", "a.*", "a.>", ">", "*", ".", "..", "a..b", ".a", "a.", " ", "a b", "a ", "$SYS", "_INBOX.x", "%", "%2A", "=2A", "_2A", "#", "+", "a/b", "/",
		"\u00e9", "e\u0301", "名", "🦆", strings.Repeat("x", 254), strings.Repeat("x", 255), strings.Repeat("🦆", 63) + "xyz", strings.Repeat("*", 255),
	}
	got := make([]<-chan []byte, len(topics))
	for i, topic := range topics {
		got[i], _ = subscribe(t, b, topic)
	}
	for _, topic := range topics {
		publish(t, a, topic, topic)
	}
	for _, topic := range topics {
		publish(t, a, topic, "end")
	}
	for i, topic := range topics {
		require.Equal(t, topic, receive(t, got[i]))
		require.Equal(t, "end", receive(t, got[i]), "after what was published to %q", topic)
	}
}

func testOrder(t *testing.T, a, b pubsub.Transport) {
	got, _ := subscribe(t, b, "ticks")
	const n = 2000
	for i := range n {
		publish(t, a, "ticks", fmt.Sprint(i))
	}
	for i := range n {
		require.Equal(t, fmt.Sprint(i), receive(t, got))
	}
}

func testBytes(t *testing.T, a, b pubsub.Transport) {
	got, _ := subscribe(t, b, "bytes")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, m := range []string{"x", "\r\n", "\x00", string(all), strings.Repeat(string(all), 1<<20/256)} {
		publish(t, a, "bytes", m)
		require.True(t, m == receive(t, got), "a message of %d bytes", len(m))
	}
}

func testNotKept(t *testing.T, a, b pubsub.Transport) {
	got, _ := subscribe(t, b, "kept")
	message := make([]byte, 8)
	const n = 500
	for i := range uint64(n) {
		binary.BigEndian.PutUint64(message, i)
		require.NoError(t, a.Publish(t.Context(), "kept", message))
	}
	for i := range uint64(n) {
		require.Equal(t, i, binary.BigEndian.Uint64([]byte(receive(t, got))))
	}
}

func testOneAtATime(t *testing.T, a, b pubsub.Transport) {
	const publishers, each = 4, 200
	var running, most, calls atomic.Int32
	done := make(chan struct{})
	unsubscribe, err := b.Subscribe(t.Context(), "busy", func([]byte) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		if calls.Add(1) == publishers*each {
			close(done)
		}
	})
	require.NoError(t, err)
	defer unsubscribe()
	for range publishers {
		go func() {
			for range each {
				_ = a.Publish(t.Context(), "busy", []byte("x")) // a loss shows below
			}
		}()
	}
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, "messages were not delivered", "%d of %d", calls.Load(), publishers*each)
	}
	require.EqualValues(t, 1, most.Load())
}

func testSubscribed(t *testing.T, a, b pubsub.Transport) {
	for i := range 100 {
		topic := fmt.Sprint("fresh-", i)
		got, _ := subscribe(t, b, topic)
		publish(t, a, topic, topic)
		require.Equal(t, topic, receive(t, got))
	}
}

func testUnsubscribe(t *testing.T, a, b pubsub.Transport) {
	ended, unsubscribe := subscribe(t, b, "news")
	stays, _ := subscribe(t, b, "news")
	publish(t, a, "news", "1")
	require.Equal(t, "1", receive(t, ended))
	require.Equal(t, "1", receive(t, stays))
	unsubscribe()
	publish(t, a, "news", "2")
	require.Equal(t, "2", receive(t, stays))
	again, _ := subscribe(t, b, "news")
	publish(t, a, "news", "3")
	require.Equal(t, "3", receive(t, again), "a later subscription")
	require.Equal(t, "3", receive(t, stays))
	require.Empty(t, ended)
}

func testUnsubscribeWithin(t *testing.T, a, b pubsub.Transport) {
	hold := make(chan struct{})
	done := make(chan struct{})
	var unsubscribe func()
	var err error
	unsubscribe, err = b.Subscribe(t.Context(), "once", func([]byte) {
		<-hold
		unsubscribe()
		close(done) // a second call would panic
	})
	require.NoError(t, err)
	close(hold)
	publish(t, a, "once", "1")
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, "unsubscribe, called from within deliver, does not return")
	}
	stays, _ := subscribe(t, b, "once")
	publish(t, a, "once", "2")
	require.Equal(t, "2", receive(t, stays))
}

func testContext(t *testing.T, a, b pubsub.Transport) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, a.Publish(ended, "late", []byte("x")))
	_, err := b.Subscribe(ended, "late", func([]byte) { t.Error("delivered to a subscription that failed") })
	require.Error(t, err)
	got, _ := subscribe(t, b, "late")
	publish(t, a, "late", "y")
	require.Equal(t, "y", receive(t, got))

	// The end of the context of Subscribe does not end the subscription.
	short, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{}, 1)
	unsubscribe, err := b.Subscribe(short, "short", func([]byte) { arrived <- struct{}{} })
	require.NoError(t, err)
	defer unsubscribe()
	cancel()
	publish(t, a, "short", "x")
	select {
	case <-arrived:
	case <-time.After(patience):
		require.FailNow(t, "the subscription ended with the context of Subscribe")
	}
}
