package presence

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// network is a simulated one: frames wait in it until the test delivers them.
type network struct {
	mu    sync.Mutex
	ports map[string]*port
	queue []packet
	cut   map[[2]string]bool
}

type packet struct {
	from, to string
	frame    []byte
}

// port is the Transport of one node.
type port struct {
	net     *network
	node    string
	dead    bool
	receive func([]byte)
	link    func(bool)
}

func (n *network) port(name string) *port { return &port{net: n, node: name} }

func (p *port) Start(node string, receive func([]byte), link func(bool)) error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.receive, p.link = receive, link
	p.net.ports[node] = p
	return nil
}

func (p *port) Broadcast(frame []byte) error {
	p.net.mu.Lock()
	to := slices.Sorted(maps.Keys(p.net.ports))
	p.net.mu.Unlock()
	for _, name := range to {
		if name != p.node {
			_ = p.Send(name, frame)
		}
	}
	return nil
}

func (p *port) Send(node string, frame []byte) error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	if !p.dead && !p.net.cut[[2]string{p.node, node}] {
		p.net.queue = append(p.net.queue, packet{p.node, node, frame})
	}
	return nil
}

func (p *port) Stop() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.dead = true
	if p.net.ports[p.node] == p {
		delete(p.net.ports, p.node)
	}
	return nil
}

func (n *network) kill(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[name].dead = true
}

// sever loses what is sent from one node to another from now on.
func (n *network) sever(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = true
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

func newNetwork() *network {
	return &network{ports: map[string]*port{}, cut: map[[2]string]bool{}}
}

// deliver delivers the i-th waiting frame, and tells to whom.
func (n *network) deliver(i int, keep bool) string {
	n.mu.Lock()
	pk := n.queue[i]
	if !keep {
		n.queue = slices.Delete(n.queue, i, i+1)
	}
	to := n.ports[pk.to]
	if to != nil && to.dead {
		to = nil
	}
	n.mu.Unlock()
	if to == nil {
		return ""
	}
	to.receive(pk.frame)
	return pk.to
}

func (n *network) lose(i int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.queue = slices.Delete(n.queue, i, i+1)
}

func (n *network) waiting() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.queue)
}

// run lets time pass on a network without faults.
func (n *network) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		synctest.Wait()
		for n.waiting() > 0 {
			n.deliver(0, false)
			synctest.Wait()
		}
		time.Sleep(25 * time.Millisecond)
	}
	synctest.Wait()
}

// fold is a list kept by diffs alone.
type fold struct {
	diffs *Diffs
	metas map[string]map[id]Meta
}

func (f *fold) take(t require.TestingT) {
	d, ok := f.diffs.Take()
	if !ok {
		return
	}
	gone := map[Meta]bool{}
	before := map[string]bool{}
	for key := range f.metas {
		before[key] = true
	}
	for _, l := range d.Leaves {
		for _, m := range l.Metas {
			have, ok := f.metas[l.Key][id{m.Node, m.Ref}]
			require.True(t, ok, "I3: leave of %v in %s, who is absent", m, l.Key)
			require.Equal(t, have, m, "I3: leave with another meta")
			delete(f.metas[l.Key], id{m.Node, m.Ref})
			gone[m] = true
		}
		if len(f.metas[l.Key]) == 0 {
			delete(f.metas, l.Key)
		}
	}
	for _, j := range d.Joins {
		for _, m := range j.Metas {
			require.NotContains(t, f.metas[j.Key], id{m.Node, m.Ref}, "I3: join of who is present")
			require.False(t, gone[m], "I3: join of what left, unchanged, in the same diff")
			if f.metas[j.Key] == nil {
				f.metas[j.Key] = map[id]Meta{}
			}
			f.metas[j.Key][id{m.Node, m.Ref}] = m
		}
	}
	var joined, left []string
	for key := range f.metas {
		if !before[key] {
			joined = append(joined, key)
		}
	}
	for key := range before {
		if f.metas[key] == nil {
			left = append(left, key)
		}
	}
	slices.Sort(joined)
	slices.Sort(left)
	require.Equal(t, joined, d.Joined, "I3: keys from 0 to 1")
	require.Equal(t, left, d.Left, "I3: keys from 1 to 0")
}

func (f *fold) list() []Present {
	var list []Present
	for _, key := range slices.Sorted(maps.Keys(f.metas)) {
		list = append(list, present(key, f.metas[key]))
	}
	return list
}

// member is one incarnation of a node under test.
type member struct {
	*Presence
	port        *port
	conns       []*Conn
	eager, lazy map[string]*fold
}

type moment struct {
	node     string
	inc, seq uint64
}

// cluster is the system under test and what is known about it.
type cluster struct {
	t       *rapid.T
	net     *network
	nodes   map[string]*member
	history map[moment]map[Ref]entry
	known   map[moment]uint64 // greatest seq recorded of node and inc
	seen    map[*row]uint64   // greatest seq of each copy
	log     int
}

var (
	clusterNodes  = []string{"a", "b", "c"}
	clusterTopics = []string{"lobby", "round"}
)

func (c *cluster) start(name string) {
	m := &member{port: c.net.port(name), eager: map[string]*fold{}, lazy: map[string]*fold{}}
	seed := rapid.Uint64().Draw(c.t, "seed")
	p, err := open(&Options{
		Node: name, Transport: m.port, Logger: quiet, Grace: 300 * time.Millisecond,
		Idle: time.Second, Down: 4 * time.Second, PermDown: 12 * time.Second,
		MetaBytes: 64, FrameBytes: 64 + 2<<10, Log: c.log,
	}, func() uint64 { seed = seed*6364136223846793005 + 1442695040888963407; return seed })
	require.NoError(c.t, err)
	m.Presence = p
	for range 3 {
		m.conns = append(m.conns, p.Connect())
	}
	for _, topic := range clusterTopics {
		for _, folds := range []map[string]*fold{m.eager, m.lazy} {
			d, err := p.Diffs(topic)
			require.NoError(c.t, err)
			folds[topic] = &fold{diffs: d, metas: map[string]map[id]Meta{}}
		}
	}
	c.nodes[name] = m
}

// check holds at every moment on every node.
func (c *cluster) check(m *member) {
	for _, topic := range clusterTopics {
		f := m.eager[topic]
		f.take(c.t)
		want := m.List(topic)
		require.ElementsMatch(c.t, want, f.list(), "I2: fold of the diffs is not the list of %s", m.self)
	}
	c.record(m)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rows {
		want, ok := c.history[moment{r.node, r.inc, r.seq}]
		if ok || c.log >= 32 {
			require.True(c.t, maps.Equal(want, r.entries), "I4: %s's copy of %s@%d is\n%v, not\n%v", m.self, r.node, r.seq, r.entries, want)
		}
		require.GreaterOrEqual(c.t, r.seq, c.seen[r], "I4: the copy went back")
		c.seen[r] = r.seq
	}
}

// record adds to the history what the node did since it was recorded last.
func (c *cluster) record(m *member) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := m.rows[m.self]
	at := moment{m.self, m.inc, 0}
	c.history[at] = map[Ref]entry{}
	if first := own.seq - uint64(len(m.changes)); c.known[at] >= first {
		state := maps.Clone(c.history[moment{m.self, m.inc, c.known[at]}])
		for seq := c.known[at]; seq < own.seq; seq++ {
			ch := m.changes[seq-first]
			if delete(state, ch.ref); ch.set {
				ch.entry.seq = seq + 1
				state[ch.ref] = ch.entry
			}
			c.history[moment{m.self, m.inc, seq + 1}] = maps.Clone(state)
		}
	} else {
		require.Less(c.t, c.log, 32, "the history is complete")
	}
	c.history[moment{m.self, m.inc, own.seq}] = maps.Clone(own.entries)
	c.known[at] = own.seq
}

func (c *cluster) checkAll() {
	synctest.Wait()
	for _, m := range c.nodes {
		c.record(m) // all before the first copy is compared
	}
	for _, name := range slices.Sorted(maps.Keys(c.nodes)) {
		c.check(c.nodes[name])
	}
}

// pass delivers a random part of what waits, in any order, with losses and repeats.
func (c *cluster) pass() {
	for n := min(c.net.waiting(), rapid.IntRange(0, 12).Draw(c.t, "frames")); n > 0 && c.net.waiting() > 0; n-- {
		i := rapid.IntRange(0, c.net.waiting()-1).Draw(c.t, "frame")
		fate := rapid.IntRange(0, 9).Draw(c.t, "fate")
		if fate == 0 {
			c.net.lose(i)
			continue
		}
		if to := c.net.deliver(i, fate == 1); to != "" {
			c.check(c.nodes[to])
		}
	}
	for c.net.waiting() > 200 {
		c.net.lose(0)
	}
}

func (c *cluster) act() {
	name := rapid.SampledFrom(clusterNodes).Draw(c.t, "node")
	m := c.nodes[name]
	op := rapid.IntRange(0, 39).Draw(c.t, "op")
	if m == nil {
		if op < 20 {
			c.start(name)
		}
		return
	}
	i := rapid.IntRange(0, len(m.conns)-1).Draw(c.t, "conn")
	conn := m.conns[i]
	topic := rapid.SampledFrom(clusterTopics).Draw(c.t, "topic")
	key := rapid.SampledFrom([]string{"ann", "bob", "cid", "dan"}).Draw(c.t, "key")
	meta := strings.Repeat("x", 40) + fmt.Sprint(rapid.IntRange(0, 99).Draw(c.t, "meta"))
	switch {
	case op < 14:
		_, had := conn.tracked[place{topic, key}]
		_, err := conn.Track(topic, key, meta)
		require.Equal(c.t, had, err != nil)
	case op < 19:
		_ = conn.Update(topic, key, meta)
	case op < 25:
		_ = conn.Untrack(topic, key)
	case op < 26:
		conn.UntrackAll()
	case op < 28:
		conn.Close()
		m.conns[i] = m.Connect()
	case op < 30:
		other := rapid.SampledFrom(clusterNodes).Draw(c.t, "other")
		c.net.sever(name, other)
		if rapid.Bool().Draw(c.t, "both ways") {
			c.net.sever(other, name)
		}
	case op < 32:
		c.net.heal()
	case op < 34:
		m.port.link(rapid.Bool().Draw(c.t, "link"))
	case op < 35: // it is killed, and says nothing
		c.net.kill(name)
		require.NoError(c.t, m.Close())
		delete(c.nodes, name)
		return
	case op < 36:
		require.NoError(c.t, m.Close())
		delete(c.nodes, name)
		return
	default:
		for _, f := range m.lazy {
			f.take(c.t)
		}
	}
	c.check(m)
}

// bubble hides that it is a *testing.T, of which rapid would ask the deadline: there
// is none inside synctest.
type bubble struct{ testing.TB }

func TestInvariantsHoldThroughLossReorderingPartitionsAndRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(bubble{t}, func(t *rapid.T) {
			c := &cluster{
				t: t, net: newNetwork(), nodes: map[string]*member{}, history: map[moment]map[Ref]entry{},
				known: map[moment]uint64{}, seen: map[*row]uint64{}, log: rapid.SampledFrom([]int{3, 32}).Draw(t, "log"),
			}
			defer func() {
				for _, m := range c.nodes {
					_ = m.Close()
				}
			}()
			for _, name := range clusterNodes {
				c.start(name)
			}
			for range rapid.IntRange(1, 80).Draw(t, "steps") {
				for range rapid.IntRange(1, 3).Draw(t, "acts") {
					c.act()
				}
				time.Sleep(time.Duration(rapid.SampledFrom([]int{10, 60, 60, 400, 2500}).Draw(t, "ms")) * time.Millisecond)
				c.checkAll()
				c.pass()
			}
			c.net.heal()
			for _, m := range c.nodes {
				m.port.link(true)
			}
			c.net.run(20 * time.Second)
			c.checkAll()
			for _, topic := range clusterTopics {
				union := map[string]map[id]string{}
				for name, m := range c.nodes {
					for ref, e := range m.rows[name].entries {
						if e.topic == topic {
							if union[e.key] == nil {
								union[e.key] = map[id]string{}
							}
							union[e.key][id{name, ref}] = e.meta
						}
					}
				}
				for name, m := range c.nodes {
					got := map[string]map[id]string{}
					for _, p := range m.List(topic) {
						got[p.Key] = map[id]string{}
						for _, meta := range p.Metas {
							got[p.Key][id{meta.Node, meta.Ref}] = meta.JSON
						}
					}
					require.Equal(t, union, got, "I1: %s does not list the union", name)
					m.lazy[topic].take(t)
					require.ElementsMatch(t, m.List(topic), m.lazy[topic].list(), "I2: a slow subscriber of %s", name)
				}
			}
			for name, m := range c.nodes {
				require.Equal(t, slices.Sorted(maps.Keys(c.nodes)), slices.Sorted(maps.Keys(m.rows)), "I5: %s remembers the dead", name)
			}
		})
	})
}

// The merge of what a node ever said, in any order, any number of times, is the
// greatest of it: that is commutativity, associativity and idempotence at once.
func TestMergeOfRowsIsCommutativeAssociativeAndIdempotent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var frames []*frame
		state := map[Ref]entry{}
		inc, seq := uint64(1), uint64(0)
		for range rapid.IntRange(1, 25).Draw(t, "changes") {
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				inc, seq, state = inc+1, 0, map[Ref]entry{}
			}
			seq++
			ref := Ref{byte(rapid.IntRange(1, 4).Draw(t, "ref"))}
			if rapid.Bool().Draw(t, "set") {
				state[ref] = entry{place: place{"t", "k"}, meta: fmt.Sprint(inc, seq), seq: seq}
			} else {
				delete(state, ref)
			}
			f := &frame{kind: kindSnapshot, node: "other", inc: inc, hi: seq, parts: 1}
			for ref, e := range state {
				f.changes = append(f.changes, change{ref: ref, set: true, entry: e})
			}
			frames = append(frames, f)
		}
		frames = append(frames, frames...)
		order := rapid.Permutation(frames).Draw(t, "order")
		p, err := New(&Options{Node: "me", Logger: quiet})
		require.NoError(t, err)
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, f := range order {
			p.accept(f, time.Now())
		}
		require.Equal(t, inc, p.rows["other"].inc)
		require.Equal(t, seq, p.rows["other"].seq)
		require.Equal(t, state, p.rows["other"].entries)
		p.timer.Stop()
	})
}
