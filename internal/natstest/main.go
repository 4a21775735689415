package natstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// begun says that the binary's tests run under Main.
var begun bool

// Main runs the tests of a binary, or the server that the binary was started
// again to be, and returns the code to exit with. It stops what is shared.
func Main(m *testing.M) int {
	if text := os.Getenv(specVariable); text != "" {
		return serve(text)
	}
	begun = true
	defer func() {
		for _, s := range shared.clusters {
			if s.nodes != nil {
				s.nodes.stop()
			}
		}
		if shared.dir != "" {
			_ = os.RemoveAll(shared.dir)
		}
	}()
	return m.Run()
}

func needMain(t testing.TB) {
	t.Helper()
	require.True(t, begun, "the binary's TestMain must call natstest.Main")
}

// Shared returns a cluster of n servers in this process that all tests of the
// binary share; it is started at its first use. Tests must use names of their
// own in it, and must not stop its servers.
func Shared(t testing.TB, n int) *Nodes {
	t.Helper()
	needMain(t)
	s := sharedCluster(n)
	s.once.Do(func() {
		s.nodes, s.err = start(s.dir, n, func(s spec) *Node { return &Node{spec: s, log: &logs{}} })
	})
	require.NoError(t, s.err)
	marks := make([]int, n)
	for i, node := range s.nodes.list {
		marks[i] = node.log.mark()
	}
	t.Cleanup(func() { s.nodes.show(t, marks) })
	return s.nodes
}

var shared struct {
	mu       sync.Mutex
	dir      string
	clusters map[int]*sharedNodes
}

type sharedNodes struct {
	once  sync.Once
	dir   string
	nodes *Nodes
	err   error
}

func sharedCluster(n int) *sharedNodes {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if s := shared.clusters[n]; s != nil {
		return s
	}
	s := &sharedNodes{}
	if shared.dir == "" {
		if shared.dir, s.err = os.MkdirTemp(memoryDir(), "natstest-"); s.err != nil {
			s.once.Do(func() { s.err = fmt.Errorf("natstest: %w", s.err) })
		}
		shared.clusters = map[int]*sharedNodes{}
	}
	s.dir = filepath.Join(shared.dir, strconv.Itoa(n))
	shared.clusters[n] = s
	return s
}
