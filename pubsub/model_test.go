package pubsub_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/pubsub"
)

// A post is what the nodes of the model publish; N counts by node and topic.
type post struct{ Node, Topic, N int }

var posts = []pubsub.Topic[post]{{Name: "a"}, {Name: "b"}}

// A wire carries messages when the test says so, as often as it says, in any order.
type wire struct {
	nodes []*wireNode
	air   []flying
}

type flying struct {
	to      *wireSub
	message []byte
	value   post
}

type wireSub struct {
	topic   string
	deliver func([]byte)
}

type wireNode struct {
	wire *wire
	subs []*wireSub
	now  post // what is being published
}

func (n *wireNode) Publish(_ context.Context, topic string, m []byte) error {
	for _, o := range n.wire.nodes { // the echo too
		for _, s := range o.subs {
			if s.topic == topic {
				n.wire.air = append(n.wire.air, flying{s, slices.Clone(m), n.now})
			}
		}
	}
	return nil
}

func (n *wireNode) Subscribe(_ context.Context, topic string, deliver func([]byte)) (func(), error) {
	s := &wireSub{topic, deliver}
	n.subs = append(n.subs, s)
	return func() { n.subs = slices.DeleteFunc(n.subs, func(o *wireSub) bool { return o == s }) }, nil
}

// reader is a subscription beside what it should hold.
type reader struct {
	node, topic int
	sub         *pubsub.Subscription[post]
	box         pubsub.Mailbox[post]
	queue       []post
	dropped     uint64
	err         error
	ended       bool
	last        map[int]int // by node
}

func (r *reader) expect(v post) {
	if r.ended {
		return
	}
	if r.box.Key != nil {
		r.queue = slices.DeleteFunc(r.queue, func(o post) bool { return r.box.Key(o) == r.box.Key(v) })
	}
	if len(r.queue) < r.box.Buffer {
		r.queue = append(r.queue, v)
		return
	}
	r.dropped++
	switch r.box.OnFull {
	case pubsub.Latest:
		r.queue = append(r.queue[1:], v)
	case pubsub.Fail:
		r.ended, r.err = true, pubsub.ErrLagged
	}
}

func TestBusesDoAsTheModelOverALossyNetwork(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &wire{}
		buses := make([]*pubsub.Bus, 2)
		for i := range buses {
			w.nodes = append(w.nodes, &wireNode{wire: w})
			buses[i] = quiet(w.nodes[i])
		}
		closed := [2]bool{}
		var count [2][2]int
		var readers []*reader
		newest := map[*wireSub]map[int]int{} // by node, of what was delivered
		pick := func(label string) int { return rapid.IntRange(0, 1).Draw(t, label) }

		t.Repeat(map[string]func(*rapid.T){
			"subscribe": func(t *rapid.T) {
				r := &reader{node: pick("node"), topic: pick("topic"), last: map[int]int{}}
				r.box = pubsub.Mailbox[post]{Buffer: rapid.IntRange(1, 4).Draw(t, "buffer"), OnFull: pubsub.OnFull(rapid.IntRange(0, 2).Draw(t, "on full"))}
				if rapid.Bool().Draw(t, "keyed") {
					r.box.Key = func(p post) string { return string(rune('a' + p.N%3)) }
				}
				var err error
				r.sub, err = posts[r.topic].Subscribe(context.Background(), buses[r.node], &r.box)
				if closed[r.node] {
					require.ErrorIs(t, err, pubsub.ErrClosed)
					return
				}
				require.NoError(t, err)
				readers = append(readers, r)
			},
			"publish": func(t *rapid.T) {
				node, topic := pick("node"), pick("topic")
				count[node][topic]++
				v := post{node, topic, count[node][topic]}
				w.nodes[node].now = v
				var sender *reader
				if len(readers) > 0 && rapid.Bool().Draw(t, "from a subscriber") {
					sender = rapid.SampledFrom(readers).Draw(t, "sender")
				}
				var err error
				if sender == nil {
					err = posts[topic].Publish(context.Background(), buses[node], v)
				} else {
					err = posts[topic].PublishFrom(context.Background(), buses[node], sender.sub, v)
				}
				if closed[node] {
					require.ErrorIs(t, err, pubsub.ErrClosed)
					return
				}
				require.NoError(t, err)
				for _, r := range readers {
					if r.node == node && r.topic == topic && r != sender {
						r.expect(v)
					}
				}
			},
			"deliver": func(t *rapid.T) {
				if len(w.air) == 0 {
					t.Skip("nothing in the air")
				}
				i := rapid.IntRange(0, len(w.air)-1).Draw(t, "which")
				f := w.air[i]
				if !rapid.Bool().Draw(t, "and again") {
					w.air = slices.Delete(w.air, i, i+1)
				}
				node := slices.IndexFunc(w.nodes, func(n *wireNode) bool { return slices.Contains(n.subs, f.to) })
				if node < 0 {
					return // unsubscribed
				}
				f.to.deliver(f.message)
				if newest[f.to] == nil {
					newest[f.to] = map[int]int{}
				}
				if f.value.Node == node || f.value.N <= newest[f.to][f.value.Node] {
					return // an echo, a duplicate, or late
				}
				newest[f.to][f.value.Node] = f.value.N
				for _, r := range readers {
					if r.node == node && r.topic == f.value.Topic {
						r.expect(f.value)
					}
				}
			},
			"lose": func(t *rapid.T) {
				if len(w.air) == 0 {
					t.Skip("nothing in the air")
				}
				i := rapid.IntRange(0, len(w.air)-1).Draw(t, "which")
				w.air = slices.Delete(w.air, i, i+1)
			},
			"receive": func(t *rapid.T) {
				if len(readers) == 0 {
					t.Skip("no reader")
				}
				r := rapid.SampledFrom(readers).Draw(t, "reader")
				got := waiting(r.sub)
				require.True(t, slices.Equal(r.queue, got), "want %v, got %v", r.queue, got)
				for _, v := range got {
					require.Equal(t, r.topic, v.Topic)
					require.Greater(t, v.N, r.last[v.Node], "at most once, in order")
					r.last[v.Node] = v.N
				}
				r.queue = nil
			},
			"close a subscription": func(t *rapid.T) {
				if len(readers) == 0 {
					t.Skip("no reader")
				}
				r := rapid.SampledFrom(readers).Draw(t, "reader")
				r.sub.Close()
				if !r.ended {
					r.ended, r.queue = true, nil
				}
			},
			"close a bus": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "one in ten") > 0 {
					t.Skip("not now")
				}
				node := pick("node")
				require.NoError(t, buses[node].Close())
				closed[node] = true
				for _, r := range readers {
					if r.node == node && !r.ended {
						r.ended, r.err = true, pubsub.ErrClosed
					}
				}
			},
			"": func(t *rapid.T) {
				open := map[[2]int]bool{}
				for _, r := range readers {
					require.Equal(t, r.dropped, r.sub.Dropped())
					require.ErrorIs(t, r.sub.Err(), r.err)
					if !r.ended {
						open[[2]int{r.node, r.topic}] = true
					}
				}
				var subs int
				for _, n := range w.nodes {
					subs += len(n.subs)
				}
				require.Equal(t, len(open), subs, "the bus subscribes once to each topic with subscribers")
			},
		})
	})
}
