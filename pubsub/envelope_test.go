package pubsub

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{envelopeVersion})
	f.Add(append(appendEnvelope(nil, uuid.UUID{1, 2, 3}, 7), "value"...))
	f.Fuzz(func(t *testing.T, message []byte) {
		node, number, payload, err := parseEnvelope(message)
		if err != nil {
			require.Empty(t, payload)
			return
		}
		require.NotZero(t, number)
		require.Equal(t, message, append(appendEnvelope(nil, node, number), payload...), "what is read is what was written")
	})
}

func TestAGroupForgetsTheNodeNotHeardOfForLongest(t *testing.T) {
	t.Parallel()
	var g group[int]
	first, second := uuid.New(), uuid.New()
	g.hear(first, 1)
	g.hear(second, 1)
	for range maxNodes - 2 {
		g.hear(uuid.New(), 1)
	}
	g.hear(first, 2)
	require.Len(t, g.last, maxNodes)
	g.hear(uuid.New(), 1)
	require.Len(t, g.last, maxNodes)
	require.Contains(t, g.last, first)
	require.NotContains(t, g.last, second)
}
