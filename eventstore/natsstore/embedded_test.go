package natsstore

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

func openDir(t testing.TB, dir string, opt *Options) *store {
	t.Helper()
	d, err := openEmbedded(t.Context(), dir, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d.(*store)
}

func newEvents(n int) []driver.Event {
	list := make([]driver.Event, n)
	for i := range list {
		list[i] = driver.Event{ID: eventstore.NewID(), Type: "t", ContentType: "text/plain", Data: fmt.Append(nil, i+1)}
	}
	return list
}

// must appends n events in one append.
func must(t testing.TB, d driver.Store, stream string, expected int64, n int) driver.Result {
	t.Helper()
	r := d.Append(t.Context(), driver.Append{Stream: stream, Expected: expected, Events: newEvents(n)})
	require.NoError(t, r.Err)
	return r
}

func TestAnEmbeddedStoreOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "events")
	for _, durability := range []Durability{Quorum, Fsync} {
		s, err := OpenEmbedded(t.Context(), dir, &Options{Durability: durability})
		require.NoError(t, err)
		var nc *nats.Conn
		require.True(t, s.As(&nc))
		require.True(t, nc.IsConnected())
		require.NoError(t, s.Close())
		require.True(t, nc.IsClosed(), "the server and its connection end with the store")
	}
	s := openDir(t, dir, nil)
	must(t, s, "a-1", driver.NoStream, 1)
	must(t, s, "a-1", 1, 3)
	require.NoError(t, s.Close())
	s = openDir(t, dir, nil)
	list, err := s.ReadStream(t.Context(), "a-1", 0, driver.Forward, 10)
	require.NoError(t, err)
	require.Len(t, list, 4)
	require.Equal(t, uint64(5), must(t, s, "a-1", 4, 1).Version)
}

func TestAnEmbeddedServerListensOnNoPort(t *testing.T) {
	t.Parallel()
	n, err := startNode(t.Context(), t.TempDir(), Quorum, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer func() { require.NoError(t, n.stop()) }()
	require.Nil(t, n.server.Addr())
	_, err = net.DialTimeout("tcp", n.nc.ConnectedUrl(), time.Second)
	require.Error(t, err)
}

func TestADirectoryIsOpenOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openDir(t, dir, nil)
	_, err := OpenEmbedded(t.Context(), dir, nil)
	require.ErrorIs(t, err, ErrLocked)
	require.ErrorContains(t, err, fmt.Sprint(os.Getpid()), "the holder is named")
	link := filepath.Join(t.TempDir(), "link")
	if os.Symlink(dir, link) == nil {
		_, err = OpenEmbedded(t.Context(), link, nil)
		require.ErrorIs(t, err, ErrLocked, "whatever the path")
	}
	require.NoError(t, s.Close())
	openDir(t, dir, nil)
}

func TestOneNodeHasOneReplica(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := OpenEmbedded(t.Context(), dir, &Options{Replicas: 3})
	require.ErrorContains(t, err, "3 replicas")
	_, err = OpenEmbedded(t.Context(), "", nil)
	require.Error(t, err)
	openDir(t, dir, &Options{Replicas: 1}) // nothing is left locked
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = OpenEmbedded(ctx, t.TempDir(), nil)
	require.ErrorIs(t, err, context.Canceled)
}

// childVariable makes the test binary open the directory and append for ever, one
// line an acknowledged append.
const childVariable = "LEVADA_NATSSTORE_CHILD"

// serveChild is the main function of such a process.
func serveChild() bool {
	dir := os.Getenv(childVariable)
	if dir == "" {
		return false
	}
	d, err := openEmbedded(context.Background(), dir, nil)
	if err != nil {
		fmt.Println("failed", err)
		return true
	}
	for i := 0; ; i++ {
		stream := fmt.Sprintf("s-%d", i%7)
		r := d.Append(context.Background(), driver.Append{Stream: stream, Events: newEvents(1 + i%4)})
		if r.Err != nil {
			fmt.Println("failed", r.Err)
			return true
		}
		fmt.Println(stream, r.Version, r.Last)
	}
}

func TestWhatAnEmbeddedStoreAcknowledgedSurvivesSIGKILL(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	versions := map[string]uint64{}
	rounds := 3
	for range rounds {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), childVariable+"="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			f := strings.Fields(lines.Text())
			var version, last uint64
			_, err := fmt.Sscan(strings.Join(f[1:], " "), &version, &last)
			require.NoError(t, err, lines.Text())
			require.Greater(t, version, versions[f[0]])
			versions[f[0]] = version
			if n == 40 {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
	}
	s := openDir(t, dir, nil)
	for stream, version := range versions {
		list, err := s.ReadStream(t.Context(), stream, 0, driver.Forward, 10_000)
		require.NoError(t, err)
		require.GreaterOrEqual(t, uint64(len(list)), version, "an acknowledged event is gone")
		for i, r := range list {
			require.Equal(t, uint64(i+1), r.Version)
		}
	}
	seen := map[string]bool{}
	whole := map[string]int{} // appends are there whole or not at all
	all := scan(t, s)
	for _, m := range all {
		p, err := m.part()
		require.NoError(t, err)
		whole[m.header.Get(headerAppend)] += 1
		require.LessOrEqual(t, whole[m.header.Get(headerAppend)], p.count)
		seen[m.header.Get(headerID)] = true
	}
	for _, m := range all {
		p, _ := m.part()
		require.Equal(t, p.count, whole[m.header.Get(headerAppend)], "a part of an append, at position %d", m.seq)
	}
	require.Len(t, seen, len(all))
}

// scan returns all messages of the log but markers, by a full scan.
func scan(t testing.TB, s *store) []*message {
	t.Helper()
	last, _, err := s.lastSeq(t.Context())
	require.NoError(t, err)
	list, whole, err := s.window(t.Context(), s.space.all(), 1, last+1)
	require.NoError(t, err)
	for !whole {
		at := list[len(list)-1].seq + 1
		more, w, err := s.window(t.Context(), s.space.all(), at, last+1)
		require.NoError(t, err)
		list, whole = append(list, more...), w
	}
	var events []*message
	for _, m := range list {
		if !m.marker() {
			events = append(events, m)
		}
	}
	return events
}
