package natstest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// fill makes a stream on all servers of c and writes n messages to it.
func fill(t *testing.T, c *Nodes, n int) {
	t.Helper()
	js := stream(t, c)
	for i := range n {
		_, err := js.Publish(t.Context(), "kept.x", fmt.Append(nil, i))
		require.NoError(t, err)
	}
}

func stream(t *testing.T, c *Nodes) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(c.Connect(t))
	require.NoError(t, err)
	_, err = js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "KEPT", Subjects: []string{"kept.>"}, Replicas: c.Len(), Storage: jetstream.FileStorage})
	require.NoError(t, err)
	return js
}

// kept returns how many messages the stream has.
func kept(t *testing.T, c *Nodes) uint64 {
	t.Helper()
	js, err := jetstream.New(c.Connect(t))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var n uint64
	require.NoError(t, retry(ctx, func(ctx context.Context) error {
		s, err := js.Stream(ctx, "KEPT")
		if err == nil {
			n = s.CachedInfo().State.Msgs
		}
		return err
	}))
	return n
}

func TestOneServerKeepsWhatItHadWhenItIsStartedAgain(t *testing.T) {
	t.Parallel()
	n := Run(t, func(o *server.Options) { o.MaxPayload = 1 << 16 })
	c := &Nodes{[]*Node{n}}
	fill(t, c, 10)
	nc := n.Connect(t)
	require.EqualValues(t, 1<<16, nc.MaxPayload(), "options can be changed")
	url := n.URL()
	n.Stop(t)
	require.Nil(t, n.Server())
	n.Start(t)
	require.Equal(t, url, n.URL())
	require.EqualValues(t, 10, kept(t, c))
	require.Eventually(t, nc.IsConnected, patience, time.Millisecond, "connections heal")
}

func TestAClusterPlacesStreamsOnAllOfItsServers(t *testing.T) {
	t.Parallel()
	c := Shared(t, 3)
	require.Same(t, c, Shared(t, 3), "it is started once")
	fill(t, c, 10)
	leader := c.Leader(t, "KEPT")
	require.Contains(t, c.list, leader)
	other := c.Other(leader)
	require.NotSame(t, leader, other)
	js, err := jetstream.New(other.Connect(t))
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), "KEPT")
	require.NoError(t, err)
	require.Len(t, s.CachedInfo().Cluster.Replicas, 2)
	require.Equal(t, leader.Name(), s.CachedInfo().Cluster.Leader)
}

func TestAKilledProcessKeepsWhatItHad(t *testing.T) {
	t.Parallel()
	c := Processes(t, 1, true)
	fill(t, c, 10)
	n := c.Leader(t, "KEPT")
	n.Kill(t)
	n.Start(t)
	require.EqualValues(t, 10, kept(t, c))
	n.Stop(t)
	n.Start(t)
	require.EqualValues(t, 10, kept(t, c))
}

func TestAStoppedServerOfAClusterComesBack(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("an election takes seconds")
	}
	c := Cluster(t, 3)
	fill(t, c, 5)
	n := c.Other(c.Leader(t, "KEPT"))
	n.Stop(t)
	js, err := jetstream.New(c.Connect(t))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, retry(ctx, func(ctx context.Context) error {
		_, err := js.Publish(ctx, "kept.x", nil, jetstream.WithMsgID("once"))
		return err
	}), "two of three are enough")
	n.Start(t)
	c.Wait(t)
	require.EqualValues(t, 6, kept(t, c))
}

func TestTheLogKeepsItsLastLines(t *testing.T) {
	t.Parallel()
	l := &logs{}
	for i := range 3 * logLines {
		l.Noticef("line %d", i)
	}
	mark := l.mark()
	l.Errorf("the last")
	require.Contains(t, l.since(mark), "the last")
	require.NotContains(t, l.since(mark), "line")
	require.Contains(t, l.text(), fmt.Sprintf("line %d", 3*logLines-1))
	require.NotContains(t, l.text(), "line 0\n")
	require.LessOrEqual(t, len(l.lines), 2*logLines)
}
