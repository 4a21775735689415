package presencetest

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/presence"
)

// patience is how long a frame, or agreement, may take.
const patience = 20 * time.Second

// Run proves that a transport keeps what [presence.Transport] promises. Each call of
// connect returns n transports, not started, of a fresh, healthy network, and has t
// clean up what they need. Run stops the transports. Between them no frame may be
// lost while Run runs.
func Run(t *testing.T, connect func(t *testing.T, n int) []presence.Transport) {
	tests := []struct {
		name string
		test func(t *testing.T, a, b, c presence.Transport)
	}{
		{"ABroadcastReachesAllOthersAndWhatIsSentOneNode", testReach},
		{"NodesOfAllNamesAreDifferent", testNames},
		{"FramesAreDeliveredAsTheyWereSent", testBytes},
		{"FramesMayBeSentFromWithinReceive", testWithin},
		{"SendingToNobodyHarmsNothing", testNobody},
		{"StopSendsWhatWasHandedOverBeforeAndEndsTheTransport", testStop},
		{"NodesAgreeOnWhoIsWhere", testAgree},
		{"ANodeThatClosesTakesItsUsersAlongAtOnce", testBye},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			all := connect(t, 3)
			test.test(t, all[0], all[1], all[2])
		})
	}
}

// start starts a transport and returns what it receives.
func start(t *testing.T, tr presence.Transport, node string) <-chan string {
	t.Helper()
	got := make(chan string, 10_000)
	err := tr.Start(node, func(frame []byte) { got <- string(frame) }, func(up bool) {
		if !up {
			t.Error("the link of a healthy network is down")
		}
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tr.Stop() })
	return got
}

// next returns what is received, but for what came back to its sender.
func next(t *testing.T, got <-chan string, own ...string) string {
	t.Helper()
	for end := time.After(patience); ; {
		select {
		case f := <-got:
			if !slices.Contains(own, f) {
				return f
			}
		case <-end:
			require.FailNow(t, "a frame was not delivered")
		}
	}
}

// reachable waits until frames of from arrive, broadcast and sent: a network need not
// know of all nodes at once.
func reachable(t *testing.T, from presence.Transport, to map[string]<-chan string) {
	t.Helper()
	for node, got := range to {
		for _, hello := range []func() error{
			func() error { return from.Send(node, []byte("hello")) },
			func() error { return from.Broadcast([]byte("hello")) },
		} {
			require.Eventually(t, func() bool {
				_ = hello() // fails, perhaps, as long as the node is not there
				select {
				case <-got:
					return true
				case <-time.After(20 * time.Millisecond):
					return false
				}
			}, patience, time.Millisecond)
		}
	}
	for node, got := range to {
		require.NoError(t, from.Send(node, []byte("end of hello")))
		for next(t, got, "hello") != "end of hello" {
			continue
		}
	}
}

func testReach(t *testing.T, a, b, c presence.Transport) {
	ga, gb, gc := start(t, a, "a"), start(t, b, "b"), start(t, c, "c")
	reachable(t, a, map[string]<-chan string{"b": gb, "c": gc})
	require.NoError(t, a.Broadcast([]byte("to all")))
	require.Equal(t, "to all", next(t, gb, "hello"))
	require.Equal(t, "to all", next(t, gc, "hello"))
	require.NoError(t, a.Send("b", []byte("to b")))
	require.Equal(t, "to b", next(t, gb))
	require.NoError(t, a.Broadcast([]byte("the end")))
	require.Equal(t, "the end", next(t, gb))
	require.Equal(t, "the end", next(t, gc), "what is sent to one goes to no other")
	require.NoError(t, c.Send("a", []byte("back")))
	require.Equal(t, "back", next(t, ga, "hello", "end of hello", "to all", "the end"))
}

func testNames(t *testing.T, a, b, c presence.Transport) {
	long := strings.Repeat("🦆", presence.MaxNameBytes/4)
	start(t, a, "a")
	gb, gc := start(t, b, long), start(t, c, ".*.> ")
	reachable(t, a, map[string]<-chan string{long: gb, ".*.> ": gc})
	for _, other := range []string{"x", "*", ">", ".>", ".*.>", long[4:], strings.Repeat("x", presence.MaxNameBytes)} {
		_ = a.Send(other, []byte("to another"))
	}
	require.NoError(t, a.Send(long, []byte("long")))
	require.NoError(t, a.Send(".*.> ", []byte("odd")))
	require.Equal(t, "long", next(t, gb, "hello"))
	require.Equal(t, "odd", next(t, gc, "hello"))
}

func testBytes(t *testing.T, a, b, c presence.Transport) {
	start(t, a, "a")
	gb, gc := start(t, b, "b"), start(t, c, "c")
	reachable(t, a, map[string]<-chan string{"b": gb, "c": gc})
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, frame := range [][]byte{{0}, []byte("\r\n"), all, bytes.Repeat(all, presence.MaxFrameBytes/256)} {
		before := bytes.Clone(frame)
		require.NoError(t, a.Broadcast(frame))
		require.NoError(t, a.Send("b", frame))
		for _, got := range []<-chan string{gb, gb, gc} {
			require.True(t, string(before) == next(t, got, "hello"), "%d bytes", len(frame))
		}
		require.True(t, bytes.Equal(before, frame), "a frame must not be changed")
	}
}

func testWithin(t *testing.T, a, b, c presence.Transport) {
	ga := start(t, a, "a")
	require.NoError(t, b.Start("b", func(frame []byte) {
		if string(frame) == "ping" {
			_ = b.Send("a", []byte("pong"))
			_ = b.Broadcast([]byte("pongs"))
		}
	}, func(bool) {}))
	t.Cleanup(func() { _ = b.Stop() })
	gc := start(t, c, "c")
	reachable(t, b, map[string]<-chan string{"a": ga, "c": gc})
	require.Eventually(t, func() bool {
		_ = a.Send("b", []byte("ping"))
		select {
		case f := <-ga:
			return f == "pong" || f == "pongs"
		case <-time.After(20 * time.Millisecond):
			return false
		}
	}, patience, time.Millisecond)
	require.Equal(t, "pongs", next(t, gc, "hello"))
}

func testNobody(t *testing.T, a, b, c presence.Transport) {
	start(t, a, "a")
	gb := start(t, b, "b")
	reachable(t, a, map[string]<-chan string{"b": gb})
	_ = a.Send("nobody", []byte("x"))
	_ = a.Send("a", []byte("x"))
	_ = c.Send("b", []byte("hello")) // from one that was not started
	require.NoError(t, a.Send("b", []byte("y")))
	require.Equal(t, "y", next(t, gb, "hello"))
}

func testStop(t *testing.T, a, b, c presence.Transport) {
	ga, gb := start(t, a, "a"), start(t, b, "b")
	reachable(t, a, map[string]<-chan string{"b": gb})
	reachable(t, b, map[string]<-chan string{"a": ga})
	for len(gb) > 0 {
		<-gb
	}
	for i := range 100 {
		require.NoError(t, a.Broadcast(fmt.Append(nil, i)))
	}
	require.NoError(t, a.Stop())
	got := map[string]bool{}
	for range 100 {
		got[next(t, gb, "hello", "end of hello")] = true
	}
	require.Len(t, got, 100)
	for len(ga) > 0 {
		<-ga
	}
	gc := start(t, c, "c")
	reachable(t, b, map[string]<-chan string{"c": gc})
	_ = b.Send("a", []byte("late"))
	require.NoError(t, b.Broadcast([]byte("late")))
	require.Equal(t, "late", next(t, gc, "hello"))
	require.NotContains(t, drained(ga), "late")
}

func drained(c <-chan string) (all []string) {
	for len(c) > 0 {
		all = append(all, <-c)
	}
	return all
}

// Options returns options of a node that is quick to tell and to notice, for tests.
func Options(node string, transport presence.Transport) *presence.Options {
	return &presence.Options{
		Node: node, Transport: transport, Logger: slog.New(slog.DiscardHandler),
		Flush: 5 * time.Millisecond, Heartbeat: 100 * time.Millisecond, Idle: 300 * time.Millisecond, Down: 1500 * time.Millisecond,
		Grace: -1, MetaBytes: 64, FrameBytes: 64 + 2<<10, Log: 8,
	}
}

func open(t *testing.T, node string, transport presence.Transport) *presence.Presence {
	t.Helper()
	p, err := presence.New(Options(node, transport))
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// id tells metas apart.
type id struct {
	key, node string
	ref       presence.Ref
}

// flat is a list as a map.
func flat(list []presence.Present) map[id]string {
	all := map[id]string{}
	for _, p := range list {
		for _, m := range p.Metas {
			all[id{p.Key, m.Node, m.Ref}] = m.JSON
		}
	}
	return all
}

func testAgree(t *testing.T, a, b, c presence.Transport) {
	nodes := []*presence.Presence{open(t, "a", a), open(t, "b", b), open(t, "c", c)}
	const topic = "t"
	var conns []*presence.Conn
	var diffs []*presence.Diffs
	var folds []map[id]string
	for _, p := range nodes {
		for range 3 {
			conns = append(conns, p.Connect())
		}
		d, err := p.Diffs(topic)
		require.NoError(t, err)
		t.Cleanup(d.Close)
		diffs, folds = append(diffs, d), append(folds, map[id]string{})
	}
	tracked := make([]map[string]int, len(conns))
	for i := range tracked {
		tracked[i] = map[string]int{}
	}
	rounds := 0
	rapid.Check(hidden{t}, func(r *rapid.T) {
		if rounds++; rounds > 10 {
			return // each takes as long as the network does
		}
		for range rapid.IntRange(1, 60).Draw(r, "changes") {
			i := rapid.IntRange(0, len(conns)-1).Draw(r, "conn")
			key := rapid.SampledFrom([]string{"ann", "bob", "cid", "dan"}).Draw(r, "key")
			meta := rapid.IntRange(0, 99).Draw(r, "meta")
			_, had := tracked[i][key]
			switch op := rapid.IntRange(0, 9).Draw(r, "op"); {
			case op < 5 && !had:
				_, err := conns[i].Track(topic, key, meta)
				require.NoError(r, err)
				tracked[i][key] = meta
			case op < 8 && had:
				require.NoError(r, conns[i].Update(topic, key, meta))
				tracked[i][key] = meta
			case op == 8 && had:
				require.NoError(r, conns[i].Untrack(topic, key))
				delete(tracked[i], key)
			case op == 9:
				conns[i].UntrackAll()
				clear(tracked[i])
			}
		}
		want := map[string][]string{}
		for _, keys := range tracked {
			for key, meta := range keys {
				want[key] = append(want[key], fmt.Sprint(meta))
			}
		}
		for key := range want {
			slices.Sort(want[key])
		}
		for i, p := range nodes {
			end := time.Now().Add(patience)
			for {
				got := map[string][]string{}
				for _, k := range p.List(topic) {
					for _, m := range k.Metas {
						got[k.Key] = append(got[k.Key], m.JSON)
					}
					slices.Sort(got[k.Key])
				}
				if maps.EqualFunc(want, got, slices.Equal) {
					break
				}
				if time.Now().After(end) {
					require.Equal(r, want, got, "node %d does not list the union", i)
				}
				time.Sleep(time.Millisecond)
			}
			d, _ := diffs[i].Take()
			for at, meta := range flat(d.Leaves) {
				require.Equal(r, meta, folds[i][at], "a leave of what was not there")
				delete(folds[i], at)
			}
			maps.Copy(folds[i], flat(d.Joins))
			require.Equal(r, flat(p.List(topic)), folds[i], "the fold of the diffs of node %d", i)
		}
	})
}

// hidden hides that it is a *testing.T, which rapid would give each round a subtest of.
type hidden struct{ testing.TB }

func testBye(t *testing.T, a, b, c presence.Transport) {
	// Long times: what is seen is the farewell, not silence.
	slow := func(node string, tr presence.Transport) *presence.Presence {
		o := Options(node, tr)
		o.Down, o.PermDown, o.Idle = time.Hour, 2*time.Hour, 10*time.Minute
		p, err := presence.New(o)
		require.NoError(t, err)
		t.Cleanup(func() { _ = p.Close() })
		return p
	}
	pa, pb, pc := slow("a", a), slow("b", b), slow("c", c)
	_, err := pa.Connect().Track("t", "ann", nil)
	require.NoError(t, err)
	_, err = pb.Connect().Track("t", "bob", nil)
	require.NoError(t, err)
	here := func(p *presence.Presence, keys ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			var got []string
			for _, k := range p.List("t") {
				got = append(got, k.Key)
			}
			return slices.Equal(keys, got)
		}, patience, time.Millisecond)
	}
	here(pb, "ann", "bob")
	here(pc, "ann", "bob")
	require.NoError(t, pa.Close())
	here(pb, "bob")
	here(pc, "bob")
}
