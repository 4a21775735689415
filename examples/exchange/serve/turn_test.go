package serve

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

// shared is a driver that others may write to, too, and whose leases can fail.
type shared struct {
	driver.Store
	driver.Leaser
	cut *atomic.Bool
}

func (s shared) Limits() driver.Limits {
	l := s.Store.Limits()
	l.Exclusive = false
	return l
}

var errCut = errors.New("cut off")

func (s shared) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	if s.cut.Load() {
		return 0, false, errCut
	}
	return s.Leaser.Acquire(ctx, name, owner, ttl)
}

func TestOneProcessAtATimeHasItsTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := memstore.NewDriver()
		cut := [2]*atomic.Bool{{}, {}}
		var stores [2]*eventstore.Store
		for i := range stores {
			stores[i] = eventstore.New(shared{d, d.(driver.Leaser), cut[i]}, nil)
		}
		var running, most atomic.Int32
		var mu sync.Mutex
		var turns []int
		var all sync.WaitGroup
		ctx := [2]context.Context{}
		end := [2]context.CancelFunc{}
		for i, store := range stores {
			ctx[i], end[i] = context.WithCancel(t.Context())
			all.Go(func() {
				if err := inTurn(ctx[i], store, "bots", 15*time.Second, func(ctx context.Context) {
					mu.Lock()
					turns = append(turns, i)
					mu.Unlock()
					most.Store(max(most.Load(), running.Add(1)))
					<-ctx.Done()
					running.Add(-1)
				}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []int{0}, turns, "it keeps its turn")
		cut[0].Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []int{0, 1}, turns, "it cannot renew, so it is another's turn")
		cut[0].Store(false)
		time.Sleep(time.Hour)
		end[1]()
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Equal(t, []int{0, 1, 0}, turns, "whoever ends gives it back at once")
		end[0]()
		all.Wait()
		require.EqualValues(t, 1, most.Load())
	})
}

func TestTurnsEndWithTheirFunc(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	for name, store := range map[string]*eventstore.Store{
		"exclusive": memstore.Open(nil),
		"shared":    eventstore.New(shared{d, d.(driver.Leaser), new(atomic.Bool)}, nil),
	} {
		ran := 0
		require.NoError(t, inTurn(t.Context(), store, "bots", time.Minute, func(context.Context) { ran++ }), name)
		require.Equal(t, 1, ran, name)
	}
}
