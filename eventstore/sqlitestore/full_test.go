//go:build unix

package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/levada-go/levada/eventstore/driver"
)

func init() { children["fulldisk"] = fullDisk }

func TestAFullDiskRefusesAppendsKeepsReadersGoingAndHeals(t *testing.T) {
	t.Parallel()
	path := filepath.Join(testDir(t), "events.db")
	c := start(t, "fulldisk", path)
	c.finish(t)
	// Whatever was refused is not there, also for the next process.
	s := openAt(t, path, nil)
	l := &ledger{acked: map[uint64]ack{}, streams: map[string]uint64{}}
	l.check(t, s)
	checkIndexes(t, s)
	require.Equal(t, uint64(90), l.streams["a-1"])
	require.Equal(t, uint64(0), l.streams["b-1"])
}

// fullDisk is a process of its own because the limit on file sizes, which stands
// in for the disk, is one of the whole process.
func fullDisk(path string, _ []string) error {
	signal.Ignore(unix.SIGXFSZ)
	s, err := open(path, &Options{unmerged: 25})
	if err != nil {
		return err
	}
	ctx := context.Background()
	version := 0
	add := func() error {
		a := driver.Append{Stream: "a-1", Expected: int64(version), Events: []driver.Event{crashEvent("a-1", version+1, 0, 1)}}
		if version == 0 {
			a.Expected = driver.NoStream
		}
		r := s.Append(ctx, a)
		if r.Err == nil {
			version = int(r.Version)
		}
		return r.Err
	}
	readable := func() error {
		for _, read := range []func() ([]driver.Recorded, error){
			func() ([]driver.Recorded, error) { return s.ReadStream(ctx, "a-1", 0, driver.Forward, 1000) },
			func() ([]driver.Recorded, error) {
				events, _, err := s.ReadAll(ctx, driver.Filter{Categories: []string{"a"}}, 0, driver.Forward, 1000)
				return events, err
			},
		} {
			events, err := read()
			if err != nil {
				return err
			}
			if len(events) != version {
				return fmt.Errorf("%d events can be read, not %d", len(events), version)
			}
		}
		return nil
	}
	var free unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &free); err != nil {
		return err
	}
	for round := 1; round <= 3; round++ {
		for version < 30*round {
			if err := add(); err != nil {
				return err
			}
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: free.Max}); err != nil {
			return err
		}
		for range 5 {
			err := add()
			if err == nil {
				return errors.New("an append to a full disk succeeded")
			}
			if errors.Is(err, driver.ErrOutcomeUnknown) {
				return fmt.Errorf("it is known that nothing was written: %w", err)
			}
			rs := s.AppendBatch(ctx, []driver.Append{
				{Stream: "b-1", Events: []driver.Event{crashEvent("b-1", 1, 0, 1)}},
				{Stream: "a-1", Expected: 7, Events: []driver.Event{crashEvent("a-1", 8, 0, 1)}},
			})
			var conflict *driver.ConflictError
			if rs[0].Err == nil || !errors.As(rs[1].Err, &conflict) || conflict.Actual != uint64(version) {
				return fmt.Errorf("on a full disk: %v", rs)
			}
			if err := readable(); err != nil {
				return err
			}
		}
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &free); err != nil {
			return err
		}
	}
	if err := readable(); err != nil {
		return err
	}
	return s.Close()
}
