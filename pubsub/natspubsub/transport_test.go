package natspubsub_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/internal/natswire/natswiretest"
	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/natspubsub"
	"github.com/levada-go/levada/pubsub/pubsubtest"
)

func TestMain(m *testing.M) { os.Exit(natstest.Main(m)) }

// patience is how long anything may take on a busy machine.
const patience = 20 * time.Second

func open(t testing.TB, nc *nats.Conn, opt *natspubsub.Options) *natspubsub.Transport {
	t.Helper()
	c := natspubsub.New(nc, opt)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// pair returns transports that know of each other's server.
func pair(t testing.TB, na, nb *nats.Conn, opt *natspubsub.Options) (a, b *natspubsub.Transport) {
	t.Helper()
	a, b = open(t, na, opt), open(t, nb, opt)
	acquainted(t, a, b)
	return a, b
}

func acquainted(t testing.TB, transports ...*natspubsub.Transport) {
	t.Helper()
	for _, c := range transports {
		for _, other := range transports {
			require.Eventually(t, func() bool { return c.Knows(other) }, patience, time.Millisecond)
		}
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	cluster := natstest.Shared(t, 3)
	one := natswiretest.Run(t, server.Options{})
	small := natswiretest.Run(t, server.Options{MaxPayload: 1 << 12})
	a, b, link := natswiretest.Pair(t)
	link.Delay(3 * time.Millisecond)
	for name, connect := range map[string]func(t *testing.T) (na, nb *nats.Conn){
		"one server": func(t *testing.T) (na, nb *nats.Conn) {
			return natswiretest.Connect(t, one), natswiretest.Connect(t, one)
		},
		"one connection": func(t *testing.T) (na, nb *nats.Conn) { nc := natswiretest.Connect(t, one); return nc, nc },
		"no echo": func(t *testing.T) (na, nb *nats.Conn) {
			return natswiretest.Connect(t, one, nats.NoEcho()), natswiretest.Connect(t, one, nats.NoEcho())
		},
		"small payload": func(t *testing.T) (na, nb *nats.Conn) {
			return natswiretest.Connect(t, small), natswiretest.Connect(t, small)
		},
		"cluster":                 func(t *testing.T) (na, nb *nats.Conn) { return cluster.Node(0).Connect(t), cluster.Node(1).Connect(t) },
		"servers with a long way": func(t *testing.T) (na, nb *nats.Conn) { return natswiretest.Connect(t, a), natswiretest.Connect(t, b) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pubsubtest.Run(t, func(t *testing.T) (pubsub.Transport, pubsub.Transport) {
				na, nb := connect(t)
				a, b := pair(t, na, nb, &natspubsub.Options{Namespace: t.Name()[max(0, len(t.Name())-64):]})
				return a, b
			})
		})
	}
}

var words = pubsub.Topic[string]{Name: "words"}

func bus(t testing.TB, c pubsub.Transport) *pubsub.Bus {
	t.Helper()
	b := pubsub.New(c, &pubsub.Options{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func receive(t testing.TB, s *pubsub.Subscription[string]) []string {
	t.Helper()
	select {
	case got := <-s.C:
		return got
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
		return nil
	}
}

// arrives publishes until something arrives: messages may be lost before.
func arrives(t testing.TB, from *pubsub.Bus, s *pubsub.Subscription[string]) {
	t.Helper()
	end := time.After(patience)
	for i := 0; ; i++ {
		_ = words.Publish(t.Context(), from, fmt.Sprint(i)) // while the connection is down it may fail
		select {
		case <-s.C:
			return
		case <-end:
			require.FailNow(t, "nothing arrives any more")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestABusHasOneSubscriptionATopicHoweverManyListen(t *testing.T) {
	t.Parallel()
	s := natswiretest.Run(t, server.Options{})
	c := open(t, natswiretest.Connect(t, s), nil)
	b := bus(t, c)
	count := func() int { return int(s.NumSubscriptions()) }
	before := -1
	require.Eventually(t, func() bool { same := count() == before; before = count(); return same }, patience, 50*time.Millisecond)
	var subs []*pubsub.Subscription[string]
	for range 100 {
		sub, err := words.Subscribe(t.Context(), b, nil)
		require.NoError(t, err)
		subs = append(subs, sub)
	}
	require.Equal(t, before+1, count())
	for _, sub := range subs {
		sub.Close()
	}
	require.Eventually(t, func() bool { return count() == before }, patience, time.Millisecond)
}

func TestNamespacesDoNotMeet(t *testing.T) {
	t.Parallel()
	nc := natswiretest.Connect(t, natswiretest.Run(t, server.Options{}))
	a, b, same := open(t, nc, &natspubsub.Options{Namespace: "a"}), open(t, nc, &natspubsub.Options{Namespace: "*"}), open(t, nc, &natspubsub.Options{Namespace: "a"})
	got := make(chan string, 10)
	for name, c := range map[string]*natspubsub.Transport{"b": b, "same": same} {
		_, err := c.Subscribe(t.Context(), "x", func([]byte) { got <- name })
		require.NoError(t, err)
	}
	require.NoError(t, a.Publish(t.Context(), "x", []byte("1")))
	require.NoError(t, b.Publish(t.Context(), "x", []byte("1")))
	require.ElementsMatch(t, []string{"b", "same"}, []string{<-got, <-got})
	require.Empty(t, got)
}

// The way between the servers is so long that whoever does not wait loses.
func TestSubscribeWaitsUntilTheOtherServersKnow(t *testing.T) {
	t.Parallel()
	sa, sb, link := natswiretest.Pair(t)
	a, b := pair(t, natswiretest.Connect(t, sa), natswiretest.Connect(t, sb), nil)
	link.Delay(30 * time.Millisecond)
	for i := range 20 {
		topic := fmt.Sprint("topic ", i)
		got := make(chan struct{}, 1)
		began := time.Now()
		_, err := b.Subscribe(t.Context(), topic, func([]byte) { got <- struct{}{} })
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(began), 60*time.Millisecond)
		require.NoError(t, a.Publish(t.Context(), topic, []byte("x")))
		select {
		case <-got:
		case <-time.After(patience):
			require.FailNow(t, "a message was lost")
		}
	}
}

func TestManyWhoSubscribeAtOnceShareTheWait(t *testing.T) {
	t.Parallel()
	sa, sb, link := natswiretest.Pair(t)
	a, b := pair(t, natswiretest.Connect(t, sa), natswiretest.Connect(t, sb), nil)
	link.Delay(50 * time.Millisecond)
	const n = 200
	asked := natspubsub.CountQuestions(a)
	got, done := make(chan int, n), make(chan error, n)
	for i := range n {
		go func() {
			topic := fmt.Sprint("topic ", i)
			_, err := b.Subscribe(t.Context(), topic, func([]byte) { got <- i })
			if err == nil {
				err = a.Publish(t.Context(), topic, []byte("x"))
			}
			done <- err
		}()
	}
	for range n {
		require.NoError(t, <-done)
	}
	seen := map[int]bool{}
	for range n {
		select {
		case i := <-got:
			seen[i] = true
		case <-time.After(patience):
			require.FailNow(t, "messages were lost", "%d of %d", n-len(seen), n)
		}
	}
	require.Len(t, seen, n)
	require.LessOrEqual(t, asked(), int32(20))
}

func TestAServerThatIsGoneIsNotWaitedForAgain(t *testing.T) {
	t.Parallel()
	sa, sb, link := natswiretest.Pair(t)
	a, b := pair(t, natswiretest.Connect(t, sa), natswiretest.Connect(t, sb), nil)
	link.Split(t, sa, sb)
	_, err := b.Subscribe(t.Context(), "first", func([]byte) {})
	require.NoError(t, err, "the own server knows")
	require.False(t, b.Knows(a))
	got := make(chan string, 10_000)
	_, err = b.Subscribe(t.Context(), "second", func(m []byte) { got <- string(m) })
	require.NoError(t, err)
	link.Heal(t, sa, sb)
	require.Eventually(t, func() bool {
		require.NoError(t, a.Publish(t.Context(), "second", []byte("healed")))
		select {
		case <-got:
			return true
		default:
			return false
		}
	}, patience, 5*time.Millisecond)
}

func TestTheNetworkIsWholeAgainAfterASplit(t *testing.T) {
	t.Parallel()
	sa, sb, link := natswiretest.Pair(t)
	ta, tb := pair(t, natswiretest.Connect(t, sa), natswiretest.Connect(t, sb), nil)
	a, b := bus(t, ta), bus(t, tb)
	s, err := words.Subscribe(t.Context(), b, nil)
	require.NoError(t, err)
	here, err := words.Subscribe(t.Context(), a, nil)
	require.NoError(t, err)
	require.NoError(t, words.Publish(t.Context(), a, "before"))
	require.Equal(t, []string{"before"}, receive(t, s))
	require.Equal(t, []string{"before"}, receive(t, here))
	link.Split(t, sa, sb)
	require.NoError(t, words.Publish(t.Context(), a, "lost"))
	require.Equal(t, []string{"lost"}, receive(t, here), "each side goes on")
	link.Heal(t, sa, sb)
	arrives(t, a, s)
	arrives(t, b, here)
}

func TestSubscriptionsAreBackAfterTheServerWas(t *testing.T) {
	t.Parallel()
	node := natstest.Run(t)
	ta, tb := open(t, node.Connect(t), nil), open(t, node.Connect(t), nil)
	a, b := bus(t, ta), bus(t, tb)
	s, err := words.Subscribe(t.Context(), b, nil)
	require.NoError(t, err)
	node.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = pubsub.Topic[string]{Name: "other"}.Subscribe(ctx, b, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded, "while there is no server")
	waits := make(chan error, 1)
	go func() {
		_, err := pubsub.Topic[string]{Name: "third"}.Subscribe(t.Context(), b, nil)
		waits <- err
	}()
	node.Start(t)
	require.NoError(t, <-waits, "it is waited for")
	arrives(t, a, s)
}

func TestSubscribeGivesUpWithoutAServer(t *testing.T) {
	t.Parallel()
	s := natswiretest.Run(t, server.Options{})
	c := open(t, natswiretest.Connect(t, s), &natspubsub.Options{Timeout: 50 * time.Millisecond})
	s.Shutdown()
	_, err := c.Subscribe(t.Context(), "x", func([]byte) { t.Error("delivered to a subscription that failed") })
	require.ErrorIs(t, err, nats.ErrTimeout)
}

func TestTheOthersGoOnWhenAServerIsKilled(t *testing.T) {
	t.Parallel()
	cluster := natstest.Processes(t, 3, false)
	var buses []*pubsub.Bus
	var subs []*pubsub.Subscription[string]
	var transports []*natspubsub.Transport
	urls := cluster.URL()
	for i := range 3 {
		nc, err := nats.Connect(cluster.Node(i).URL()+","+urls, nats.DontRandomize(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		transports = append(transports, open(t, nc, nil))
		buses = append(buses, bus(t, transports[i]))
	}
	acquainted(t, transports...)
	for _, b := range buses {
		s, err := words.Subscribe(t.Context(), b, nil)
		require.NoError(t, err)
		subs = append(subs, s)
	}
	cluster.Node(1).Kill(t)
	for i, s := range subs {
		arrives(t, buses[(i+1)%3], s)
		arrives(t, buses[(i+2)%3], s)
	}
	acquainted(t, transports...) // the one that lost its server says where it is now
	for i, b := range buses {
		topic := pubsub.Topic[string]{Name: fmt.Sprint("after ", i)}
		s, err := topic.Subscribe(t.Context(), b, nil)
		require.NoError(t, err)
		require.NoError(t, topic.Publish(t.Context(), buses[(i+1)%3], "x"))
		require.Equal(t, []string{"x"}, receive(t, s))
	}
}

func TestASlowTopicLosesItsOwnMessagesOnly(t *testing.T) {
	t.Parallel()
	s := natswiretest.Run(t, server.Options{})
	var log bytes.Buffer
	opt := &natspubsub.Options{PendingMessages: 5, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	a, b := pair(t, natswiretest.Connect(t, s), natswiretest.Connect(t, s, quiet), opt)
	hold := make(chan struct{})
	var delivered atomic.Int32
	_, err := b.Subscribe(t.Context(), "slow", func([]byte) { <-hold; delivered.Add(1) })
	require.NoError(t, err)
	quick := make(chan struct{}, 1)
	_, err = b.Subscribe(t.Context(), "quick", func([]byte) { quick <- struct{}{} })
	require.NoError(t, err)
	for range 1000 {
		require.NoError(t, a.Publish(t.Context(), "slow", []byte("x")))
	}
	require.NoError(t, a.Publish(t.Context(), "quick", []byte("x")))
	<-quick
	close(hold)
	require.Eventually(t, func() bool { return delivered.Load() == 5 }, patience, time.Millisecond)
	require.NoError(t, a.Publish(t.Context(), "slow", []byte("x")))
	require.Eventually(t, func() bool { return delivered.Load() == 6 }, patience, time.Millisecond)
	require.EqualValues(t, 995, b.Dropped())
	require.Zero(t, a.Dropped())
	require.Contains(t, log.String(), "natspubsub: messages dropped")
	require.Contains(t, log.String(), "ps.levada.slow")
}

func TestALongTopicIsCheckedAgainstItsName(t *testing.T) {
	t.Parallel()
	nc := natswiretest.Connect(t, natswiretest.Run(t, server.Options{}))
	a, b := pair(t, nc, nc, &natspubsub.Options{Logger: slog.New(slog.DiscardHandler)})
	got := make(chan string, 10)
	long := strings.Repeat("*", 255)
	_, err := b.Subscribe(t.Context(), long, func(m []byte) { got <- string(m) })
	require.NoError(t, err)
	forged := &nats.Msg{Subject: natspubsub.Subject(a, long), Data: []byte("forged")}
	require.Less(t, len(forged.Subject), 100)
	require.NoError(t, nc.PublishMsg(forged))
	forged.Header = nats.Header{"Levada-Name": {"other"}}
	require.NoError(t, nc.PublishMsg(forged))
	require.NoError(t, a.Publish(t.Context(), long, []byte("genuine")))
	require.Equal(t, "genuine", <-got)
	require.EqualValues(t, 2, b.Dropped())
}

func TestWhatTheServerDoesNotPermitIsAnError(t *testing.T) {
	t.Parallel()
	s := natswiretest.Run(t, server.Options{Users: []*server.User{{
		Username: "u", Password: "secret", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Allow: []string{"ps.mine.>", "_INBOX.>"}},
		},
	}}})
	quiet := nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})
	nc := natswiretest.Connect(t, s, nats.UserInfo("u", "secret"), quiet)
	_, err := open(t, nc, &natspubsub.Options{Namespace: "mine"}).Subscribe(t.Context(), "x", func([]byte) {})
	require.NoError(t, err)
	_, err = open(t, nc, &natspubsub.Options{Namespace: "theirs"}).Subscribe(t.Context(), "x", func([]byte) {})
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
	require.NotContains(t, err.Error(), "secret")
}

func TestAClosedTransportSubscribesToNothingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := natswiretest.Run(t, server.Options{})
	nc := natswiretest.Connect(t, s)
	before := nc.NumSubscriptions()
	c := natspubsub.New(nc, nil)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	_, err := c.Subscribe(t.Context(), "x", func([]byte) {})
	require.ErrorIs(t, err, natspubsub.ErrClosed)
	require.Equal(t, before, nc.NumSubscriptions())
	nc.Close()
	require.Error(t, c.Publish(t.Context(), "x", []byte("x")))
	_, err = natspubsub.New(nc, nil).Subscribe(t.Context(), "x", func([]byte) {})
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
}

func TestOptionsThatMakeNoSensePanic(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]natspubsub.Options{
		"Namespace": {Namespace: strings.Repeat("x", 65)}, "MaxBytes": {MaxBytes: -1}, "PendingMessages": {PendingMessages: -1},
		"PendingBytes": {PendingBytes: 1 << 10}, "Timeout": {Timeout: -1},
	} {
		require.Panics(t, func() { natspubsub.New(nil, &o) }, name)
	}
}
