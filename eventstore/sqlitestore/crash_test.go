package sqlitestore

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/workload"
)

// A ledger is what must be in a store that an appender filled.
type ledger struct {
	acked   map[uint64]ack // by position
	checked uint64         // the log is known to be right up to here
	streams map[string]uint64
}

// check reads what is new in the log: every append that was acknowledged is
// there, no append is there in part, and versions and positions are dense.
func (l *ledger) check(t testing.TB, s *store) {
	t.Helper()
	ctx := context.Background()
	type content struct {
		Stream        string
		Version, K, N int
	}
	var before content
	for {
		events, scanned, err := s.ReadAll(ctx, driver.Filter{}, l.checked, driver.Forward, 500)
		require.NoError(t, err)
		for i := range events {
			e := &events[i]
			require.Equal(t, l.checked+1, e.Position)
			l.checked++
			require.Equal(t, l.streams[e.Stream]+1, e.Version, "of %s", e.Stream)
			l.streams[e.Stream] = e.Version
			var c content
			require.NoError(t, json.Unmarshal(e.Data, &c), "%s", e.Data)
			require.Equal(t, content{e.Stream, int(e.Version), c.K, c.N}, c)
			require.Equal(t, crashEvent(e.Stream, int(e.Version), c.K, c.N), e.Event)
			if before.K+1 < before.N {
				require.Equal(t, [2]int{before.K + 1, before.N}, [2]int{c.K, c.N}, "an append is there whole, in one piece")
			} else {
				require.Zero(t, c.K, "an append is there without its beginning")
			}
			before = c
			if a, ok := l.acked[e.Position]; ok {
				require.Equal(t, a, ack{e.Stream, e.Version, e.Position, c.N})
				delete(l.acked, e.Position)
			}
		}
		if scanned == l.checked && len(events) == 0 {
			break
		}
	}
	require.GreaterOrEqual(t, before.K+1, before.N, "an append is there without its end")
	require.Empty(t, l.acked, "an append was acknowledged and is not there")
}

// checkIndexes reads by every index and compares with the log.
func checkIndexes(t require.TestingT, s *store) {
	ctx := context.Background()
	streams, categories, tags := map[string][]uint64{}, map[string][]uint64{}, map[string][]uint64{}
	var names []string
	for at := uint64(0); ; {
		events, scanned, err := s.ReadAll(ctx, driver.Filter{}, at, driver.Forward, 500)
		require.NoError(t, err)
		for i := range events {
			e := &events[i]
			if streams[e.Stream] == nil {
				names = append(names, e.Stream)
			}
			streams[e.Stream] = append(streams[e.Stream], e.Position)
			c := driver.Category(e.Stream)
			categories[c] = append(categories[c], e.Position)
			for k, tag := range e.Tags {
				if slices.Contains(e.Tags[:k], tag) {
					continue
				}
				tags[tag] = append(tags[tag], e.Position)
			}
		}
		if at = scanned; len(events) < 500 {
			break
		}
	}
	positions := func(events []driver.Recorded) (list []uint64) {
		for i := range events {
			list = append(list, events[i].Position)
		}
		return list
	}
	for _, name := range names {
		events, err := s.ReadStream(ctx, name, 0, driver.Forward, 1<<20)
		require.NoError(t, err)
		require.Equal(t, streams[name], positions(events), name)
	}
	all := func(read func(at uint64) ([]driver.Recorded, uint64, error)) (list []uint64) {
		for at := uint64(0); ; {
			events, scanned, err := read(at)
			require.NoError(t, err)
			list = append(list, positions(events)...)
			if scanned == at {
				return list
			}
			at = scanned
		}
	}
	for c, want := range categories {
		require.Equal(t, want, all(func(at uint64) ([]driver.Recorded, uint64, error) {
			return s.ReadAll(ctx, driver.Filter{Categories: []string{c}}, at, driver.Forward, 500)
		}), "category %s", c)
	}
	for tag, want := range tags {
		require.Equal(t, want, all(func(at uint64) ([]driver.Recorded, uint64, error) {
			return s.Query(ctx, []driver.QueryItem{{Tags: []string{tag}}}, at, 500)
		}), "tag %s", tag)
	}
	infos, err := s.Streams(ctx, "", "", 1<<20)
	require.NoError(t, err)
	require.Len(t, infos, len(streams))
	cats, err := s.Categories(ctx)
	require.NoError(t, err)
	require.Len(t, cats, len(categories))
}

func TestWhatWasAcknowledgedSurvivesTheKillOfTheProcess(t *testing.T) {
	t.Parallel()
	rounds := 20
	if testing.Short() || raceEnabled {
		rounds = 5
	}
	for _, unmerged := range []int{50, 700} {
		t.Run(fmt.Sprintf("with %d events unmerged", unmerged), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(testDir(t), "events.db")
			l := &ledger{acked: map[uint64]ack{}, streams: map[string]uint64{}}
			r := rand.New(rand.NewPCG(uint64(unmerged), 2))
			for round := range rounds {
				c := start(t, "appender", path, strconv.Itoa(unmerged), "30", fmt.Sprint("r", round%3))
				lines := []string{}
				for range 1 + r.IntN(400) {
					lines = append(lines, c.next(t))
				}
				lines = append(lines, c.kill()...)
				for i, line := range lines {
					if f := strings.Fields(line); len(f) == 4 || i < len(lines)-1 { // the last may be cut off
						a := parseAck(t, line)
						l.acked[a.position] = a
					}
				}
				s, err := open(path, &Options{unmerged: unmerged, slice: 30, leaveUnmerged: round%2 == 0})
				require.NoError(t, err)
				l.check(t, s)
				if round%5 == 4 {
					checkIndexes(t, s)
				}
				require.NoError(t, s.Close())
			}
		})
	}
}

func TestReadersInOtherProcessesSeeEveryEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	s, err := open(path, nil)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	readers := []*child{start(t, "follower", path), start(t, "follower", path)}
	acked := map[uint64]ack{}
	for round := range 4 {
		w := start(t, "appender", path, "300", "64", "w")
		var lines []string
		for range 150 + 100*round {
			lines = append(lines, w.next(t))
		}
		lines = append(lines, w.kill()...)
		for i, line := range lines {
			if f := strings.Fields(line); len(f) == 4 || i < len(lines)-1 {
				a := parseAck(t, line)
				acked[a.position] = a
			}
		}
	}
	s = openAt(t, path, nil)
	head, err := s.Head(context.Background())
	require.NoError(t, err)
	for i, c := range readers {
		seen := map[uint64]string{}
		for at := uint64(0); at < head; {
			line := c.next(t)
			f := strings.SplitN(line, " ", 4)
			at++
			require.Equal(t, fmt.Sprint(at), f[2], "reader %d: positions are read once and in order", i)
			seen[at] = f[0] + " " + f[1]
		}
		for p, a := range acked {
			require.Equal(t, fmt.Sprintf("%s %d", a.stream, a.version), seen[p])
		}
		require.Empty(t, c.finish(t))
	}
}

// A crash between the slices of a merge leaves rows in the tables above the
// watermark.
func TestACrashInTheMiddleOfAMergeIsRepairedByMergingAgain(t *testing.T) {
	t.Parallel()
	dir := testDir(t)
	var copies []string
	s, err := open(filepath.Join(dir, "events.db"), &Options{Synchronous: Normal, unmerged: 300, merging: func() {
		// What is on disk now is what a crash before the commit leaves.
		if len(copies) < 4 {
			name := filepath.Join(dir, fmt.Sprintf("copy%d.db", len(copies)))
			copyStore(t, filepath.Join(dir, "events.db"), name)
			copies = append(copies, name)
		}
	}})
	require.NoError(t, err)
	l := &ledger{acked: map[uint64]ack{}, streams: map[string]uint64{}}
	for v := 0; v < 200 || len(copies) < 4; v++ {
		for i := range 3 {
			name := fmt.Sprintf("c%d-%d", i, v/10)
			r := s.Append(context.Background(), driver.Append{Stream: name, Events: []driver.Event{crashEvent(name, v%10+1, 0, 1)}})
			require.NoError(t, r.Err)
		}
	}
	l.check(t, s)
	checkIndexes(t, s)
	require.NoError(t, s.Close())
	require.Len(t, copies, 4)
	partly := false
	for _, name := range copies {
		s := openAt(t, name, &Options{unmerged: 100, slice: 50})
		mark, err := queryInt(s.w.Conn, "SELECT position FROM watermark")
		require.NoError(t, err)
		last, err := queryInt(s.w.Conn, "SELECT coalesce(max(position), 0) FROM stream_index")
		require.NoError(t, err)
		partly = partly || last > mark
		l := &ledger{acked: map[uint64]ack{}, streams: map[string]uint64{}}
		l.check(t, s)
		checkIndexes(t, s)
		for i := range 200 {
			name := fmt.Sprintf("d-%d", i)
			require.NoError(t, s.Append(context.Background(), driver.Append{Stream: name, Events: []driver.Event{crashEvent(name, 1, 0, 1)}}).Err)
		}
		l.check(t, s)
		checkIndexes(t, s)
	}
	require.True(t, partly, "no copy was made in the middle of a merge")
}

// copyStore copies the files of a store as they are on disk.
func copyStore(t testing.TB, from, to string) {
	for _, ext := range []string{"", "-wal"} {
		b, err := os.ReadFile(from + ext)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(to+ext, b, 0o600))
	}
}

// loader appends so many events that two whole segments are unmerged, and waits
// to be killed.
func loader(path string, args []string) error {
	n := atoi(args[0])
	s, err := open(path, &Options{Synchronous: Normal, unmerged: 2 * n})
	if err != nil {
		return err
	}
	w := workload.New(1)
	as := make([]driver.Append, 0, 4096)
	for done := 0; done < n; done += len(as) {
		as = as[:0]
		for len(as) < min(cap(as), n-done) {
			as = append(as, w.Next(make([]driver.Event, 1)))
		}
		for _, r := range s.AppendBatch(context.Background(), as) {
			if r.Err != nil {
				return r.Err
			}
		}
	}
	fmt.Println("done")
	select {}
}

func TestOpenAfterAKillRebuildsTheTail(t *testing.T) {
	t.Parallel()
	n := 131072
	if testing.Short() || raceEnabled {
		n = 8192
	}
	path := filepath.Join(testDir(t), "events.db")
	c := start(t, "loader", path, strconv.Itoa(n))
	require.Equal(t, "done", c.next(t))
	c.kill()
	begin := time.Now()
	s := openAt(t, path, nil)
	t.Logf("opened with %d unmerged events in %v", n, time.Since(begin))
	mark, err := queryInt(s.w.Conn, "SELECT position FROM watermark")
	require.NoError(t, err)
	require.Zero(t, mark)
	head, err := s.Head(context.Background())
	require.NoError(t, err)
	require.Equal(t, uint64(n), head)
	w := workload.New(1)
	for range 1000 {
		a := w.Next(make([]driver.Event, 1))
		at := uint64(max(a.Expected, 0))
		events, err := s.ReadStream(context.Background(), a.Stream, at, driver.Forward, 1)
		require.NoError(t, err)
		require.Len(t, events, 1)
		require.Equal(t, a.Events[0], events[0].Event)
	}
}
