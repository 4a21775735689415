package sqlitestore

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func size(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Size()
}

// The log is copied while others append and read, and begins anew.
func TestTheWriteAheadLogStaysShort(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{Synchronous: Normal, copyPages: 40, unmerged: 500})
	ctx := t.Context()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for from := uint64(0); ; {
			select {
			case <-stop:
				return
			default:
			}
			_, scanned, err := s.ReadAll(ctx, driver.Filter{}, from, driver.Forward, 100)
			if err != nil {
				t.Error(err)
				return
			}
			from = scanned
		}
	})
	data := make([]byte, 2000)
	appends := 3000
	if raceEnabled {
		appends = 1000
	}
	for i := range appends {
		a := driver.Append{Stream: fmt.Sprintf("a-%d", i%50), Events: []driver.Event{{Type: "t", Data: data}}}
		require.NoError(t, s.Append(ctx, a).Err)
		if i%10 == 0 {
			require.NoError(t, s.SaveCheckpoint(ctx, fmt.Sprint("p", i), nil, driver.Checkpoint{}))
		}
	}
	close(stop)
	wg.Wait()
	require.Greater(t, size(t, s.path), int64(appends*1500), "nothing was copied")
	header := make([]byte, 16)
	f, err := os.Open(s.path + "-wal")
	require.NoError(t, err)
	defer f.Close()
	_, err = io.ReadFull(f, header)
	require.NoError(t, err)
	// The file format counts how often the log has begun.
	require.Greater(t, binary.BigEndian.Uint32(header[12:]), uint32(5), "the log did not begin anew")
	checkIndexes(t, s)
}

func TestPurgeWaitsForTheCopyUnderWay(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{Synchronous: Normal, copyPages: 1})
	ctx := t.Context()
	for i := range 30 {
		name := fmt.Sprintf("a-%d", i)
		secret := fmt.Sprintf("the secret of %d.", i)
		require.NoError(t, s.Append(ctx, driver.Append{Stream: name, Events: []driver.Event{{Type: "t", Data: []byte(secret)}}}).Err)
		require.NoError(t, s.Purge(ctx, name))
		require.Empty(t, holds(t, s.path, secret))
	}
}
