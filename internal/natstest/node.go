package natstest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/freeport"
)

// patience is how long a server or a cluster may take to be ready. It is far
// more than either needs, for the sake of busy machines.
const patience = 60 * time.Second

// Run starts a server with JetStream in this process. Each change is applied to
// its options. The server is stopped when the test ends.
func Run(t testing.TB, change ...func(*server.Options)) *Node {
	t.Helper()
	return Cluster(t, 1, change...).Node(0)
}

// Cluster starts n servers in this process and waits until they are one
// JetStream cluster that has a leader and can place streams on all n. They are
// stopped when the test ends. A cluster of one is a server without routes.
func Cluster(t testing.TB, n int, change ...func(*server.Options)) *Nodes {
	t.Helper()
	c, err := start(tempDir(t), n, func(s spec) *Node { return &Node{spec: s, change: change, log: &logs{}} })
	require.NoError(t, err)
	t.Cleanup(func() { c.end(t) })
	return c
}

// Nodes are the servers of a cluster.
type Nodes struct{ list []*Node }

// A Node is one server.
type Node struct {
	spec   spec
	change []func(*server.Options)
	log    *logs

	mu      sync.Mutex
	server  *server.Server // in this process
	process *process       // in its own
	own     bool           // it is to run in its own
}

// A spec is what makes a server the same one when it is started again.
type spec struct {
	Name, Dir     string
	Port, Cluster int
	Routes        []int // the cluster ports of all
	SyncAlways    bool
}

// start starts the servers of a cluster in dir. Other programs look for free
// ports, too, so that it may need several goes.
func start(dir string, n int, node func(spec) *Node) (*Nodes, error) {
	var failed error
	for try := range 5 {
		c := &Nodes{}
		ports, err := freeport.Take(2 * n)
		if err != nil {
			return nil, err
		}
		for i := range n {
			s := spec{Name: fmt.Sprintf("n%d", i+1), Dir: filepath.Join(dir, fmt.Sprintf("try%d-n%d", try, i+1)), Port: ports[i]}
			if n > 1 {
				s.Cluster, s.Routes = ports[n+i], ports[n:]
			}
			c.list = append(c.list, node(s))
		}
		if failed = c.begin(); failed == nil {
			return c, nil
		}
		for _, n := range c.list {
			failed = fmt.Errorf("%w\n%s", failed, n.log.text())
		}
		c.stop()
	}
	return nil, failed
}

func (c *Nodes) begin() error {
	errs := make([]error, len(c.list))
	var all sync.WaitGroup
	for i, n := range c.list {
		all.Go(func() { errs[i] = n.start() })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.placed(ctx)
}

// placed waits until a stream can be placed on all servers. Until then the
// cluster says that it has no leader, or, with code 10005, that it has no
// suitable peers.
func (c *Nodes) placed(ctx context.Context) error {
	nc, err := nats.Connect(c.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	return retry(ctx, func(ctx context.Context) error {
		probe := jetstream.StreamConfig{Name: "natstest-probe", Subjects: []string{"natstest.probe"}, Replicas: len(c.list), Storage: jetstream.MemoryStorage}
		if _, err := js.CreateOrUpdateStream(ctx, probe); err != nil {
			return err
		}
		if _, err := js.Publish(ctx, "natstest.probe", nil); err != nil {
			return err
		}
		return js.DeleteStream(ctx, probe.Name)
	})
}

// retry calls f, with 2 seconds each time, until it succeeds or ctx is done.
func retry(ctx context.Context, f func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := f(once)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// stop stops all servers at once.
func (c *Nodes) stop() {
	var all sync.WaitGroup
	for _, n := range c.list {
		all.Go(n.stop)
	}
	all.Wait()
}

// end stops all servers and, if the test has failed, shows their logs.
func (c *Nodes) end(t testing.TB) {
	c.stop()
	c.show(t, nil)
}

// show shows what the servers logged since marks, if the test has failed.
func (c *Nodes) show(t testing.TB, marks []int) {
	if !t.Failed() {
		return
	}
	for i, n := range c.list {
		mark := 0
		if marks != nil {
			mark = marks[i]
		}
		t.Logf("log of %s:\n%s", n.spec.Name, n.log.since(mark))
	}
}

// Len returns how many servers there are.
func (c *Nodes) Len() int { return len(c.list) }

// Node returns the server with index i, from 0.
func (c *Nodes) Node(i int) *Node { return c.list[i] }

// Named returns the server of a name, as JetStream gives it for a leader.
func (c *Nodes) Named(name string) *Node {
	for _, n := range c.list {
		if n.spec.Name == name {
			return n
		}
	}
	return nil
}

// URL returns the URLs of all servers, separated by commas.
func (c *Nodes) URL() string {
	text := ""
	for i, n := range c.list {
		if i > 0 {
			text += ","
		}
		text += n.URL()
	}
	return text
}

// Connect connects to any of the servers. The connection reconnects for ever and
// is closed when the test ends.
func (c *Nodes) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, c.URL(), opts)
}

// Wait waits until streams can be placed on all servers: after one was started
// again.
func (c *Nodes) Wait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, c.placed(ctx))
}

// Leader returns the server that leads a JetStream stream. It waits until there
// is one.
func (c *Nodes) Leader(t testing.TB, stream string) *Node {
	t.Helper()
	nc := c.Connect(t)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var leader *Node
	require.NoError(t, retry(ctx, func(ctx context.Context) error {
		s, err := js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		info := s.CachedInfo()
		if info.Cluster == nil || len(c.list) == 1 {
			leader = c.list[0]
			return nil
		}
		if leader = c.Named(info.Cluster.Leader); leader == nil {
			return fmt.Errorf("natstest: %s has no leader", stream)
		}
		return nil
	}))
	return leader
}

// Other returns a server other than n.
func (c *Nodes) Other(n *Node) *Node {
	for _, other := range c.list {
		if other != n {
			return other
		}
	}
	return nil
}

// Name returns the server's name.
func (n *Node) Name() string { return n.spec.Name }

// Dir returns the directory in which JetStream keeps its files.
func (n *Node) Dir() string { return n.spec.Dir }

// URL returns where the server listens.
func (n *Node) URL() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.spec.Port) }

// Server returns the running server; nil if it has a process of its own.
func (n *Node) Server() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server
}

// Connect connects to this server only. The connection reconnects for ever and
// is closed when the test ends.
func (n *Node) Connect(t testing.TB, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, n.URL(), append([]nats.Option{nats.IgnoreDiscoveredServers()}, opts...))
}

func connect(t testing.TB, url string, opts []nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// Stop stops the server in good order, as a rolling restart does.
func (n *Node) Stop(t testing.TB) {
	t.Helper()
	n.stop()
}

// Kill ends the server's process at once, by SIGKILL where there are signals.
func (n *Node) Kill(t testing.TB) {
	t.Helper()
	require.True(t, n.own, "only a server in a process of its own can be killed")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.process.kill()
	n.process = nil
}

// Start starts a stopped or killed server again, on the same ports and
// directory, and waits until it takes connections.
func (n *Node) Start(t testing.TB) {
	t.Helper()
	require.NoError(t, n.start())
}

func (n *Node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.own {
		p, err := startProcess(n.spec, n.log)
		n.process = p
		return err
	}
	opt := n.spec.options()
	for _, change := range n.change {
		change(opt)
	}
	s, err := run(opt, n.log)
	n.server = s
	return err
}

func (n *Node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
	if n.process != nil {
		n.process.stop()
		n.process = nil
	}
}

func (s spec) options() *server.Options {
	opt := &server.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: s.Port, NoSigs: true,
		JetStream: true, StoreDir: s.Dir, SyncAlways: s.SyncAlways,
		JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 16 << 30,
	}
	if s.Cluster > 0 {
		opt.Cluster = server.ClusterOpts{Name: "natstest", Host: "127.0.0.1", Port: s.Cluster}
		for _, port := range s.Routes {
			if port != s.Cluster {
				opt.Routes = append(opt.Routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprintf("127.0.0.1:%d", port)})
			}
		}
	}
	return opt
}

// run starts a server and waits until it takes connections.
func run(opt *server.Options, l *logs) (*server.Server, error) {
	s, err := server.NewServer(opt)
	if err != nil {
		return nil, err
	}
	s.SetLoggerV2(l, false, false, false)
	s.Start()
	if !s.ReadyForConnections(patience) {
		s.Shutdown()
		s.WaitForShutdown()
		return nil, fmt.Errorf("natstest: %s does not take connections", opt.ServerName)
	}
	return s, nil
}
