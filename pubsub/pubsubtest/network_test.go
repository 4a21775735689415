package pubsubtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/pubsubtest"
)

func TestNetworkIsATransport(t *testing.T) {
	t.Parallel()
	pubsubtest.Run(t, func(*testing.T) (a, b pubsub.Transport) {
		var n pubsubtest.Network
		return n.Connect(), n.Connect()
	})
}

func TestNetworkLosesAndDuplicatesAsTold(t *testing.T) {
	t.Parallel()
	copies := map[string]int{"lost": 0, "once": 1, "twice": 2}
	n := pubsubtest.Network{Copies: func(topic string, _ []byte) int { return copies[topic] }}
	a, b := n.Connect(), n.Connect()
	got := map[string]int{}
	for topic := range copies {
		_, err := b.Subscribe(t.Context(), topic, func([]byte) { got[topic]++ })
		require.NoError(t, err)
		require.Equal(t, 1, n.Subscriptions(topic))
		require.NoError(t, a.Publish(t.Context(), topic, []byte("x")))
	}
	require.Equal(t, map[string]int{"once": 1, "twice": 2}, got)
}

func TestNetworkFindsOutWhoKeepsAMessage(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	var kept []byte
	_, err := n.Connect().Subscribe(t.Context(), "x", func(m []byte) { kept = m })
	require.NoError(t, err)
	require.NoError(t, n.Connect().Publish(t.Context(), "x", []byte("hello")))
	require.NotContains(t, string(kept), "h")
}
