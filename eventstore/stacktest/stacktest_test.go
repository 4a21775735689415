package stacktest_test

import (
	"context"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/stacktest"
)

func TestEverythingOverAStoreInMemory(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	duration := 2 * time.Second
	if os.Getenv("LEVADA_SOAK") != "" {
		duration = time.Minute
	}
	stacktest.Run(t, stacktest.Options{Duration: duration, Open: func(t testing.TB) driver.Store { return eventstoretest.Share(t, d) }})
}

// A broken driver does some things otherwise.
type broken struct {
	eventstoretest.Engine
	onAppend         func(context.Context, driver.Append) driver.Result
	onReadAll        func(context.Context, driver.Filter, uint64, driver.Direction, int) ([]driver.Recorded, uint64, error)
	onSaveCheckpoint func(context.Context, string, *driver.Checkpoint, driver.Checkpoint) error
}

func (b *broken) Append(ctx context.Context, a driver.Append) driver.Result {
	if b.onAppend == nil {
		return b.Engine.Append(ctx, a)
	}
	return b.onAppend(ctx, a)
}

func (b *broken) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	list := make([]driver.Result, len(as))
	for i, a := range as {
		list[i] = b.Append(ctx, a)
	}
	return list
}

func (b *broken) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	if b.onReadAll == nil {
		return b.Engine.ReadAll(ctx, f, from, dir, limit)
	}
	return b.onReadAll(ctx, f, from, dir, limit)
}

func (b *broken) SaveCheckpoint(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
	if b.onSaveCheckpoint == nil {
		return b.Engine.SaveCheckpoint(ctx, name, from, to)
	}
	return b.onSaveCheckpoint(ctx, name, from, to)
}

// every returns a func that says yes each nth time.
func every(n int64) func() bool {
	var calls atomic.Int64
	return func() bool { return calls.Add(1)%n == 0 }
}

func TestWhatADriverDoesWrongIsFound(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		make func(b *broken)
		want string
	}{
		"an acknowledged event is lost": {func(b *broken) {
			lost := every(50)
			b.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				if a.Stream[0] == '$' || !lost() {
					return b.Engine.Append(ctx, a)
				}
				head, err := b.Head(ctx)
				return driver.Result{Version: uint64(max(a.Expected, 0)) + 1, Last: head + 1, Time: time.Now(), Err: err}
			}
		}, "nobody else writes"},
		"an append that is made again is appended again": {func(b *broken) {
			b.onAppend = func(ctx context.Context, a driver.Append) driver.Result {
				a.Expected = driver.Any
				return b.Engine.Append(ctx, a)
			}
		}, "ended at"},
		"an event appears late": {func(b *broken) {
			late := every(20)
			b.onReadAll = func(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
				list, scanned, err := b.Engine.ReadAll(ctx, f, from, dir, limit)
				if n := len(list); n > 0 && dir == driver.Forward && late() {
					list = list[:n-1]
				}
				return list, scanned, err
			}
		}, "other events than the log holds"},
		"a checkpoint is not saved": {func(b *broken) {
			lost := every(10)
			b.onSaveCheckpoint = func(ctx context.Context, name string, from *driver.Checkpoint, to driver.Checkpoint) error {
				if from != nil && lost() {
					return nil
				}
				return b.Engine.SaveCheckpoint(ctx, name, from, to)
			}
		}, "acknowledged twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &broken{Engine: memstore.NewDriver().(eventstoretest.Engine)}
			tt.make(b)
			faults := stacktest.Faults(t, stacktest.Options{
				Open: func(t testing.TB) driver.Store { return eventstoretest.Share(t, b) }, Sound: name == "an acknowledged event is lost",
			}, 3*time.Second)
			require.Contains(t, strings.Join(faults, "\n"), tt.want)
		})
	}
}
