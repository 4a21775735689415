package natspubsub_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/natspubsub"
)

// hidden hides that it is a *testing.T, of which rapid would ask the deadline.
type hidden struct{ testing.TB }

// listener is a subscription of the model, and what it is to receive.
type listener struct {
	bus   int
	topic string
	sub   *pubsub.Subscription[string]
	want  map[int][]string // by publisher, in order
}

// Three buses on three servers: random subscriptions and publications, one after the other. On a healthy network every
// subscription receives all that was published after it, the values of each publisher in order and once.
func TestThreeNodesReceiveWhatIsPublishedWhileTheyListen(t *testing.T) {
	t.Parallel()
	cluster := natstest.Shared(t, 3)
	var transports []*natspubsub.Transport
	var buses []*pubsub.Bus
	for i := range 3 {
		transports = append(transports, open(t, cluster.Node(i).Connect(t), &natspubsub.Options{Namespace: "model"}))
		buses = append(buses, bus(t, transports[i]))
	}
	acquainted(t, transports...)
	rounds := 0
	rapid.Check(hidden{t}, func(r *rapid.T) {
		if rounds++; rounds > 25 {
			return // each takes as long as the network does
		}
		var all []*listener
		published := map[string]map[int][]string{} // by topic and publisher
		topics := []string{fmt.Sprint("a.b ", rounds), fmt.Sprint("a.* ", rounds), fmt.Sprint("b ", rounds)}
		for n := range rapid.IntRange(1, 60).Draw(r, "steps") {
			at := rapid.IntRange(0, 2).Draw(r, "bus")
			name := rapid.SampledFrom(topics).Draw(r, "topic")
			topic := pubsub.Topic[string]{Name: name}
			switch op := rapid.IntRange(0, 9).Draw(r, "op"); {
			case op < 3:
				sub, err := topic.Subscribe(t.Context(), buses[at], &pubsub.Mailbox[string]{Buffer: 1000})
				require.NoError(r, err)
				all = append(all, &listener{at, name, sub, map[int][]string{}})
			case op == 3 && len(all) > 0:
				i := rapid.IntRange(0, len(all)-1).Draw(r, "listener")
				all[i].sub.Close()
				all = slices.Delete(all, i, i+1)
			default:
				value := fmt.Sprintf("%d of %d", n, at)
				require.NoError(r, topic.Publish(t.Context(), buses[at], value))
				if published[name] == nil {
					published[name] = map[int][]string{}
				}
				published[name][at] = append(published[name][at], value)
				for _, l := range all {
					if l.topic == name {
						l.want[at] = append(l.want[at], value)
					}
				}
			}
		}
		for _, l := range all {
			got := map[int][]string{}
			complete := func() bool {
				for from, values := range l.want {
					if !slices.Contains(got[from], values[len(values)-1]) {
						return false
					}
				}
				return true
			}
			for end := time.After(patience); !complete(); {
				select {
				case values := <-l.sub.C:
					for _, v := range values {
						var n, from int
						_, err := fmt.Sscanf(v, "%d of %d", &n, &from)
						require.NoError(r, err)
						got[from] = append(got[from], v)
					}
				case <-end:
					require.Equal(r, l.want, got, "bus %d lost something of %q", l.bus, l.topic)
				}
			}
			for from, values := range l.want {
				// What was under way when it subscribed may come as well, if its bus had subscribed before.
				early := len(got[from]) - len(values)
				require.GreaterOrEqual(r, early, 0, "bus %d, topic %q", l.bus, l.topic)
				require.Equal(r, values, got[from][early:], "bus %d, topic %q", l.bus, l.topic)
				sent := published[l.topic][from]
				require.Equal(r, sent[len(sent)-len(got[from]):], got[from], "bus %d, topic %q", l.bus, l.topic)
			}
			require.Zero(r, l.sub.Dropped())
			l.sub.Close()
		}
	})
}
