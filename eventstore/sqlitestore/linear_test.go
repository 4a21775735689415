package sqlitestore

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/stacktest"
)

// Commits whose answers are lost, and merges of the indexes under way, are the faults; two readers
// follow as other processes would.
func TestItIsLinearizableWhereAnswersAreLostAndForReaders(t *testing.T) {
	t.Parallel()
	var lose atomic.Int64
	var lost atomic.Int64
	w := openTest(t, &Options{Synchronous: Normal, unmerged: 50, slice: 20, committed: func() error {
		if lose.Add(-1) == 0 {
			lost.Add(1)
			return errors.New("the answer was lost")
		}
		return nil
	}})
	readers := []driver.Store{openAt(t, w.path, &Options{ReadOnly: true}), openAt(t, w.path, &Options{ReadOnly: true})}
	drivertest.Linearize(t, drivertest.LinearOptions{
		Stores: []driver.Store{w}, Readers: readers, Deletes: true,
		Fault: func(ctx context.Context) {
			for range 20 {
				lose.Store(3)
				pause, cancel := context.WithTimeout(ctx, 40*time.Millisecond)
				<-pause.Done()
				cancel()
			}
			lose.Store(0)
		},
	})
	require.Positive(t, lost.Load())
}

// The file has one writer, so all handles are on it.
func TestEverythingAboveTheStore(t *testing.T) {
	t.Parallel()
	opt := &Options{Synchronous: Normal, unmerged: 50, slice: 20}
	d := openTest(t, opt)
	duration := 2 * time.Second
	if os.Getenv("LEVADA_SOAK") != "" {
		duration = time.Minute
	}
	stacktest.Run(t, stacktest.Options{Duration: duration, Open: func(t testing.TB) driver.Store { return eventstoretest.Share(t, d) }})
}
