package aggregate_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// loads reports whether a command to id reads its events.
func loads(t testing.TB, f *faulty, r *aggregate.Repository[account], id string) bool {
	t.Helper()
	f.counts()
	_, err := r.Execute(context.Background(), deposit{id, 1})
	require.NoError(t, err)
	_, reads := f.counts()
	return reads > 0
}

func TestLeastRecentlyCommandedAggregateIsEvictedFirst(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	typ := accounts()
	typ.Cached = 2
	r := open(t, eventstore.New(f, nil), typ)
	require.True(t, loads(t, f, r, "a"))
	require.True(t, loads(t, f, r, "b"))
	require.False(t, loads(t, f, r, "a"))
	require.True(t, loads(t, f, r, "c"), "evicts b")
	require.False(t, loads(t, f, r, "a"))
	require.True(t, loads(t, f, r, "b"), "evicts c")
	require.True(t, loads(t, f, r, "c"))
}

func TestNegativeCachedKeepsNothing(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	typ := accounts()
	typ.Cached = -1
	r := open(t, eventstore.New(f, nil), typ)
	for i := range 3 {
		require.True(t, loads(t, f, r, "a"))
		sum, _ := balance(t, r, "a")
		require.Equal(t, i+1, sum)
	}
}

func TestIdleAggregateIsEvicted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFaulty()
		typ := accounts()
		typ.Idle = time.Minute
		r := open(t, eventstore.New(f, nil), typ)
		require.True(t, loads(t, f, r, "a"))
		time.Sleep(50 * time.Second)
		require.False(t, loads(t, f, r, "a"), "a command counts")
		time.Sleep(50 * time.Second)
		require.False(t, loads(t, f, r, "a"))
		require.True(t, loads(t, f, r, "b"))
		time.Sleep(50 * time.Second)
		balance(t, r, "a") // a view does not count
		require.False(t, loads(t, f, r, "b"))
		time.Sleep(20 * time.Second)
		require.False(t, loads(t, f, r, "b"))
		require.True(t, loads(t, f, r, "a"))
	})
}

func TestAggregateInUseIsNeverEvictedOrLoadedTwice(t *testing.T) {
	t.Parallel()
	// Eviction is as eager as can be, and every withdrawal must find the deposit
	// before it. A second instance would conflict, or refuse.
	for _, cached := range []int{-1, 1, 3} {
		t.Run(fmt.Sprint(cached), func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			typ := accounts()
			typ.Cached, typ.SnapshotEvery, typ.Idle = cached, 7, time.Millisecond
			r := open(t, eventstore.New(f, nil), typ)
			var wg sync.WaitGroup
			for w := range 16 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(w), 0))
					for range 100 {
						id := fmt.Sprint(rnd.IntN(5))
						ctx := context.Background()
						if rnd.IntN(2) == 0 {
							ctx = t.Context()
						}
						switch rnd.IntN(4) {
						case 0:
							if err := r.View(ctx, id, func(a *account, v eventstore.Version) {
								if a.Count != int(v) {
									t.Errorf("version %d shows %d events", v, a.Count)
								}
							}); err != nil {
								t.Error(err)
							}
						case 1:
							r.Submit(ctx, deposit{id, 1})
							if _, err := r.Submit(ctx, withdraw{id, 1}).Wait(ctx); err != nil {
								t.Error(err)
							}
						default:
							if _, err := r.Execute(ctx, deposit{id, 1}); err != nil {
								t.Error(err)
							}
							if _, err := r.Execute(ctx, withdraw{id, 1}); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			wg.Wait()
			for id := range 5 {
				sum, _ := balance(t, r, fmt.Sprint(id))
				require.Zero(t, sum)
			}
			f.set(func(f *faulty) {
				versions := map[string]int64{}
				for _, a := range f.appends {
					require.Equal(t, max(versions[a.Stream], -1), max(a.Expected, 0), "an append that conflicts")
					versions[a.Stream] += int64(len(a.Events))
				}
			})
		})
	}
}

func TestTypeThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(*aggregate.Type[account])
	}{
		{"no name", func(t *aggregate.Type[account]) { t.Name = "" }},
		{"dash", func(t *aggregate.Type[account]) { t.Name = "bank-account" }},
		{"reserved", func(t *aggregate.Type[account]) { t.Name = "$account" }},
		{"control character", func(t *aggregate.Type[account]) { t.Name = "a\nb" }},
		{"no events", func(t *aggregate.Type[account]) { t.Events = nil }},
		{"nil event", func(t *aggregate.Type[account]) { t.Events["x"] = nil }},
		{"pointer event", func(t *aggregate.Type[account]) { t.Events["x"] = &deposited{} }},
		{"one type twice", func(t *aggregate.Type[account]) { t.Events["x"] = deposited{} }},
		{"empty event name", func(t *aggregate.Type[account]) { t.Events[""] = bomb{} }},
		{"negative queue", func(t *aggregate.Type[account]) { t.Queue = -1 }},
		{"negative keys", func(t *aggregate.Type[account]) { t.Keys = -1 }},
		{"half a codec", func(t *aggregate.Type[account]) { t.Snapshot = &aggregate.SnapshotCodec[account]{} }},
		{"upcast of nothing", func(t *aggregate.Type[account]) { t.Upcasts = []eventstore.Upcast{{}} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			typ := accounts()
			tt.change(typ)
			_, err := aggregate.New(memstore.Open(nil), typ)
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			target, err := typ.Open(memstore.Open(nil))
			require.Error(t, err)
			require.Nil(t, target)
		})
	}
}
