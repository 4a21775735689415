package natspresence_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/natswire/natswiretest"
	"github.com/levada-go/levada/presence"
	"github.com/levada-go/levada/presence/natspresence"
)

// BenchmarkHeartbeat measures the bytes of a heartbeat, which tells where a node stands,
// whatever the number of its users: of the frame, and with its subject.
func BenchmarkHeartbeat(b *testing.B) {
	s, _, _ := natswiretest.Pair(b)
	nc := natswiretest.Connect(b, s)
	sub, err := nc.SubscribeSync("pr.levada.all")
	require.NoError(b, err)
	require.NoError(b, nc.Flush())
	p, err := presence.New(&presence.Options{Transport: natspresence.New(natswiretest.Connect(b, s), nil), Heartbeat: 10 * time.Millisecond, Idle: 10 * time.Millisecond})
	require.NoError(b, err)
	b.Cleanup(func() { _ = p.Close() })
	var last *nats.Msg
	for b.Loop() {
		last, err = sub.NextMsg(time.Minute)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(len(last.Data)), "frame-B")
	b.ReportMetric(float64(len(last.Data)+len(last.Subject)+len("PUB  00\r\n\r\n")), "wire-B")
}

// BenchmarkTrack is the time from a user who comes to its being listed on a node that is
// connected to another server, without the time for which changes wait for others.
func BenchmarkTrack(b *testing.B) {
	sa, sb, _ := natswiretest.Pair(b)
	open := func(node string, nc *nats.Conn) *presence.Presence {
		p, err := presence.New(&presence.Options{Node: node, Transport: natspresence.New(nc, nil), Flush: time.Nanosecond})
		require.NoError(b, err)
		b.Cleanup(func() { _ = p.Close() })
		return p
	}
	here, there := open("a", natswiretest.Connect(b, sa)), open("b", natswiretest.Connect(b, sb))
	diffs, err := there.Diffs("t")
	require.NoError(b, err)
	defer diffs.Close()
	c := here.Connect()
	for b.Loop() {
		_, err := c.Track("t", "ann", nil)
		require.NoError(b, err)
		_, err = diffs.Next(b.Context())
		require.NoError(b, err)
		require.NoError(b, c.Untrack("t", "ann"))
		_, err = diffs.Next(b.Context())
		require.NoError(b, err)
	}
}
