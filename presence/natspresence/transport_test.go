package natspresence_test

import (
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/internal/natswire/natswiretest"
	"github.com/levada-go/levada/presence"
	"github.com/levada-go/levada/presence/natspresence"
	"github.com/levada-go/levada/presence/presencetest"
)

func TestMain(m *testing.M) { os.Exit(natstest.Main(m)) }

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

func TestTransport(t *testing.T) {
	t.Parallel()
	cluster := natstest.Shared(t, 3)
	one := natswiretest.Run(t, server.Options{})
	small := natswiretest.Run(t, server.Options{MaxPayload: 1 << 10})
	for name, connect := range map[string]func(t *testing.T, i int) *nats.Conn{
		"one server":    func(t *testing.T, _ int) *nats.Conn { return natswiretest.Connect(t, one) },
		"no echo":       func(t *testing.T, _ int) *nats.Conn { return natswiretest.Connect(t, one, nats.NoEcho()) },
		"small payload": func(t *testing.T, _ int) *nats.Conn { return natswiretest.Connect(t, small) },
		"three servers": func(t *testing.T, i int) *nats.Conn { return cluster.Node(i).Connect(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			presencetest.Run(t, func(t *testing.T, n int) (all []presence.Transport) {
				for i := range n {
					all = append(all, natspresence.New(connect(t, i), &natspresence.Options{Namespace: t.Name()[max(0, len(t.Name())-64):]}))
				}
				return all
			})
		})
	}
}

func join(t testing.TB, node string, nc *nats.Conn, opt *natspresence.Options) *presence.Presence {
	t.Helper()
	p, err := presence.New(presencetest.Options(node, natspresence.New(nc, opt)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	_, err = p.Connect().Track("t", "user of "+node, nil)
	require.NoError(t, err)
	return p
}

// lists waits until p lists the users of nodes.
func lists(t testing.TB, p *presence.Presence, nodes ...string) {
	t.Helper()
	var got []string
	require.Eventually(t, func() bool {
		got = nil
		for _, k := range p.List("t") {
			got = append(got, strings.TrimPrefix(k.Key, "user of "))
		}
		return slices.Equal(nodes, got)
	}, patience, 5*time.Millisecond, "%s, not %s", &got, nodes)
}

func TestEachSideOfASplitShowsItsOwnUsersUntilItHeals(t *testing.T) {
	t.Parallel()
	sa, sb, link := natswiretest.Pair(t)
	a, b, c := join(t, "a", natswiretest.Connect(t, sa), nil), join(t, "b", natswiretest.Connect(t, sb), nil), join(t, "c", natswiretest.Connect(t, sb), nil)
	for _, p := range []*presence.Presence{a, b, c} {
		lists(t, p, "a", "b", "c")
	}
	link.Split(t, sa, sb)
	lists(t, a, "a")
	lists(t, b, "b", "c")
	lists(t, c, "b", "c")
	require.False(t, a.Degraded(), "there is still a server")
	require.NoError(t, c.Close())
	lists(t, b, "b")
	link.Heal(t, sa, sb)
	lists(t, a, "a", "b")
	lists(t, b, "a", "b")
}

func TestTheOthersGoOnWhenAServerIsKilled(t *testing.T) {
	t.Parallel()
	cluster := natstest.Processes(t, 3, false)
	var all []*presence.Presence
	names := []string{"a", "b", "c"}
	for i, name := range names {
		nc, err := nats.Connect(cluster.Node(i).URL()+","+cluster.URL(), nats.DontRandomize(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		all = append(all, join(t, name, nc, nil))
	}
	for _, p := range all {
		lists(t, p, names...)
	}
	cluster.Node(1).Kill(t)
	_, err := all[1].Connect().Track("t", "user of d", nil)
	require.NoError(t, err)
	for _, p := range all {
		lists(t, p, "a", "b", "c", "d")
		require.False(t, p.Degraded(), "there was another server soon enough")
	}
}

func TestALostConnectionIsToldAfterAWhileAndWhenItIsBack(t *testing.T) {
	t.Parallel()
	node := natstest.Run(t)
	opt := &natspresence.Options{Patience: 100 * time.Millisecond}
	a, b := join(t, "a", node.Connect(t), opt), join(t, "b", node.Connect(t), &natspresence.Options{Patience: time.Hour})
	lists(t, a, "a", "b")
	lists(t, b, "a", "b")
	node.Stop(t)
	require.Eventually(t, a.Degraded, patience, time.Millisecond)
	lists(t, a, "a")
	require.False(t, b.Degraded(), "it is more patient")
	node.Start(t)
	require.Eventually(t, func() bool { return !a.Degraded() }, patience, time.Millisecond)
	lists(t, a, "a", "b")
	lists(t, b, "a", "b")
}

func TestStartFailsWithoutAServerAndWithoutPermission(t *testing.T) {
	t.Parallel()
	s := natswiretest.Run(t, server.Options{Users: []*server.User{{
		Username: "u", Password: "secret", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"pr.mine.>"}}},
	}}})
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	nc := natswiretest.Connect(t, s, nats.UserInfo("u", "secret"), quiet)
	_, err := presence.New(&presence.Options{Transport: natspresence.New(nc, nil)})
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
	require.Zero(t, nc.NumSubscriptions(), "nothing is left")
	mine := natspresence.New(nc, &natspresence.Options{Namespace: "mine"})
	nothing, never := func([]byte) {}, func(bool) {}
	require.NoError(t, mine.Start("a", nothing, never))
	require.ErrorIs(t, mine.Start("a", nothing, never), natspresence.ErrStarted)
	require.NoError(t, mine.Stop())
	require.NoError(t, mine.Stop())
	require.Zero(t, nc.NumSubscriptions())
	s.Shutdown()
	short := natspresence.New(nc, &natspresence.Options{Timeout: 20 * time.Millisecond})
	require.ErrorIs(t, short.Start("a", nothing, never), nats.ErrTimeout)
	nc.Close()
	require.ErrorIs(t, natspresence.New(nc, nil).Start("a", nothing, never), nats.ErrConnectionClosed)
	require.Error(t, short.Broadcast([]byte("x")))
	require.Error(t, short.Send("a", []byte("x")))
}

func TestFramesThatMakeNoSenseAreCounted(t *testing.T) {
	t.Parallel()
	nc := natswiretest.Connect(t, natswiretest.Run(t, server.Options{}))
	tr := natspresence.New(nc, &natspresence.Options{Logger: slog.New(slog.DiscardHandler)})
	got := make(chan string, 1)
	require.NoError(t, tr.Start("a", func(f []byte) { got <- string(f) }, func(bool) {}))
	require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: "pr.levada.to.a", Header: nats.Header{"Levada-Part": {"nonsense"}}}))
	require.NoError(t, nc.Publish("pr.levada.to.a", []byte("x")))
	require.Equal(t, "x", <-got)
	require.EqualValues(t, 1, tr.Dropped())
	require.NoError(t, tr.Stop())
}

func TestOptionsThatMakeNoSensePanic(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]natspresence.Options{
		"Namespace": {Namespace: strings.Repeat("x", 65)}, "Patience": {Patience: -1}, "Timeout": {Timeout: -1},
	} {
		require.Panics(t, func() { natspresence.New(nil, &o) }, name)
	}
}
