package sqlitestore

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// Some tests need processes that can be killed. They are this test binary,
// started again with the name of a function in its environment.
const childEnv = "LEVADA_SQLITESTORE_CHILD"

var children = map[string]func(path string, args []string) error{
	"appender": appender,
	"follower": follower,
	"holder":   holder,
	"loader":   loader,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := children[name](os.Args[1], os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, name+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if raceEnabled {
		// SQLite in Go is some ten times slower under the race detector.
		if err := flag.Set("rapid.checks", "10"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// testDir returns a directory for a test, in memory if the system has a place for
// that: many tests write, and few care about the disk.
func testDir(t testing.TB) string {
	t.Helper()
	const memory = "/dev/shm"
	dir, err := os.MkdirTemp(memory, "levada")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// A child is a process under test. Its standard output is read by lines.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	once  sync.Once
}

func start(t testing.TB, name, path string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], append([]string{path}, args...)...)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+name)
	c.cmd.Stderr = os.Stderr
	in, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.in, c.lines = in, bufio.NewScanner(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() { c.kill() })
	return c
}

// kill ends the process as a crash does, and returns what it still had to say.
func (c *child) kill() (rest []string) {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill()
		for c.lines.Scan() {
			rest = append(rest, c.lines.Text())
		}
		_ = c.cmd.Wait()
	})
	return rest
}

// next returns the next line, which there must be.
func (c *child) next(t testing.TB) string {
	t.Helper()
	require.True(t, c.lines.Scan(), "the process ended: %v", c.lines.Err())
	return c.lines.Text()
}

// finish lets the process end by itself, and requires that it did so well.
func (c *child) finish(t testing.TB) (rest []string) {
	t.Helper()
	require.NoError(t, c.in.Close())
	c.once.Do(func() {
		for c.lines.Scan() {
			rest = append(rest, c.lines.Text())
		}
		require.NoError(t, c.cmd.Wait())
	})
	return rest
}

// appender appends under load until it is killed: in batches, to several streams at
// once and under conditions. It writes a line for each stream of an append that was
// acknowledged: its name, the version and the position of the last event there, and how
// many events the append had. Its arguments are the options unmerged and slice, and the
// prefix of its streams.
func appender(path string, args []string) error {
	opt := &Options{unmerged: atoi(args[0]), slice: atoi(args[1])}
	s, err := open(path, opt)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	ctx := context.Background()
	streams := make(map[string]int)
	// add makes n events of an append of a stream, which are those from k on of all.
	add := func(name string, k, n, all int) (driver.Append, error) {
		if _, ok := streams[name]; !ok {
			info, err := s.Stream(ctx, name)
			if err != nil {
				return driver.Append{}, err
			}
			streams[name] = int(info.Version)
		}
		a := driver.Append{Stream: name, Expected: int64(streams[name])}
		if a.Expected == 0 {
			a.Expected = driver.NoStream
		}
		for i := range n {
			streams[name]++
			a.Events = append(a.Events, crashEvent(name, streams[name], k+i, all))
		}
		return a, nil
	}
	for round := 0; ; round++ {
		var as []driver.Append
		for i := range 1 + round%7*3 {
			name := fmt.Sprintf("%s-%d", args[2], (round*7+i)%97)
			if i%2 == 1 {
				name = fmt.Sprintf("%sodd%d-%d", args[2], i%5, round)
			}
			n := 1 + (round+i)%4
			a, err := add(name, 0, n, n)
			if err != nil {
				return err
			}
			as = append(as, a)
		}
		var last uint64
		for i, r := range s.AppendBatch(ctx, as) {
			if r.Err != nil {
				return r.Err
			}
			last = r.Last
			fmt.Fprintln(out, as[i].Stream, r.Version, r.Last, len(as[i].Events))
		}

		several, n := 2+round%4, 1+round%3
		as = as[:0]
		for i := range several {
			a, err := add(fmt.Sprintf("%s-%d", args[2], (round*11+i)%97), i*n, n, several*n)
			if err != nil {
				return err
			}
			as = append(as, a)
		}
		if round%2 == 0 {
			rs, err := s.AppendAtomic(ctx, as, nil)
			if err != nil {
				return err
			}
			for i, r := range rs {
				fmt.Fprintln(out, as[i].Stream, r.Version, r.Last, several*n)
			}
		} else {
			var events []driver.StreamEvent
			for i := range as {
				for _, e := range as[i].Events {
					events = append(events, driver.StreamEvent{Stream: as[i].Stream, Event: e})
				}
			}
			r := s.AppendIf(ctx, []driver.QueryItem{{Tags: []string{"even"}}}, last, events, nil)
			if r.Err != nil {
				return r.Err
			}
			fmt.Fprintln(out, as[several-1].Stream, r.Version, r.Last, several*n)
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

// crashEvent is an event that tells where it must be: the k-th of n of an append.
func crashEvent(stream string, version, k, n int) driver.Event {
	e := driver.Event{Type: fmt.Sprint("t", version%3), ContentType: jsonContent, Data: fmt.Appendf(nil, `{"stream":%q,"version":%d,"k":%d,"n":%d}`, stream, version, k, n)}
	if version%2 == 0 {
		e.Tags = []string{"even", "of " + stream}
		e.Metadata = map[string]string{"stream": stream}
	}
	return e
}

// follower reads the store of another process from its beginning and writes a
// line for each event, until its standard input is closed.
func follower(path string, _ []string) error {
	s, err := open(path, &Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	out := bufio.NewWriter(os.Stdout)
	for at := uint64(0); ; {
		events, scanned, err := s.ReadAll(ctx, driver.Filter{}, at, driver.Forward, 100)
		if err == nil {
			for i := range events {
				e := &events[i]
				fmt.Fprintln(out, e.Stream, e.Version, e.Position, string(e.Data))
			}
			if len(events) > 0 {
				if err := followOther(ctx, s, &events[len(events)-1]); err != nil {
					return err
				}
			}
			if err := out.Flush(); err != nil {
				return err
			}
			if at = scanned; len(events) < 100 {
				err = s.Wait(ctx, at)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// followOther reads by the indexes what was just read from the log.
func followOther(ctx context.Context, s *store, e *driver.Recorded) error {
	page, err := s.ReadStream(ctx, e.Stream, e.Version-1, driver.Forward, 1)
	if err != nil {
		return err
	}
	if len(page) != 1 || page[0].Position != e.Position {
		return fmt.Errorf("%s at %d is not in its stream: %v", e.Stream, e.Version, page)
	}
	for _, f := range []driver.Filter{{Categories: []string{driver.Category(e.Stream)}}, {Streams: []string{e.Stream}}} {
		page, _, err = s.ReadAll(ctx, f, e.Position-1, driver.Forward, 1)
		if err != nil {
			return err
		}
		if len(page) != 1 || page[0].Position != e.Position {
			return fmt.Errorf("position %d is not found by %v: %v", e.Position, f, page)
		}
	}
	if len(e.Tags) > 0 {
		page, _, err = s.Query(ctx, []driver.QueryItem{{Tags: e.Tags}}, e.Position-1, 1)
		if err != nil {
			return err
		}
		if len(page) != 1 || page[0].Position != e.Position {
			return fmt.Errorf("position %d is not found by tag: %v", e.Position, page)
		}
	}
	infos, err := s.Streams(ctx, driver.Category(e.Stream), "", 1<<20)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if info.Name == e.Stream && info.Version >= e.Version {
			return nil
		}
	}
	return fmt.Errorf("%s is not listed: %v", e.Stream, infos)
}

// holder opens the store for writing, says so, and holds it until its standard
// input is closed.
func holder(path string, _ []string) error {
	s, err := open(path, nil)
	if err != nil {
		return err
	}
	fmt.Println(os.Getpid())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, s.Close())
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// An ack is a line of an appender.
type ack struct {
	stream            string
	version, position uint64
	n                 int
}

func parseAck(t testing.TB, line string) (a ack) {
	t.Helper()
	f := strings.Fields(line)
	require.Len(t, f, 4, line)
	return ack{f[0], uint64(atoi(f[1])), uint64(atoi(f[2])), atoi(f[3])}
}
