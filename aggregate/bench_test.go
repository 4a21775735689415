package aggregate_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/stretchr/testify/require"
)

func open(t testing.TB, s *eventstore.Store, typ *aggregate.Type[account]) *aggregate.Repository[account] {
	t.Helper()
	r, err := aggregate.New(s, typ)
	require.NoError(t, err)
	return r
}

// BenchmarkDispatch is one caller on a store in memory. Of its allocations two
// are the command's Execute, and one is the command itself.
func BenchmarkDispatch(b *testing.B) {
	ctx := context.Background()
	r := open(b, memstore.Open(nil), accounts())
	b.ReportAllocs()
	n := 1000
	for b.Loop() {
		n++
		if _, err := command.Dispatch(ctx, r, deposit{"a", n}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHotAggregate has many callers on one account, each sending its next command
// when the one before is answered. It is compared with the loop of load, decide,
// append and try again, with its state cached in the loop's favour, and with bare
// appends: to a stream each by as many callers, and all in one AppendBatch.
func BenchmarkHotAggregate(b *testing.B) {
	stores := []struct {
		name string
		open func(b *testing.B) (*eventstore.Store, driver.Batcher)
	}{
		{"memstore", func(b *testing.B) (*eventstore.Store, driver.Batcher) {
			d := memstore.NewDriver()
			return eventstore.New(d, nil), d.(driver.Batcher)
		}},
		{"sqlite", func(b *testing.B) (*eventstore.Store, driver.Batcher) {
			d, err := sqlitestore.OpenDriver(filepath.Join(b.TempDir(), "bench.db"), nil)
			require.NoError(b, err)
			s := eventstore.New(d, nil)
			b.Cleanup(func() { require.NoError(b, s.Close()) })
			return s, d.(driver.Batcher)
		}},
	}
	for _, store := range stores {
		for _, callers := range []int{1, 64, 1024} {
			name := fmt.Sprintf("store=%s/callers=%d/", store.name, callers)
			b.Run(name+"by=Execute", func(b *testing.B) {
				s, _ := store.open(b)
				r := open(b, s, accounts())
				spread(b, callers, func(int) error {
					_, err := r.Execute(context.Background(), deposit{"a", 1})
					return err
				})
			})
			b.Run(name+"by=ExecuteCancellable", func(b *testing.B) {
				s, _ := store.open(b)
				r := open(b, s, accounts())
				spread(b, callers, func(int) error {
					_, err := r.Execute(b.Context(), deposit{"a", 1})
					return err
				})
			})
			b.Run(name+"by=Submit", func(b *testing.B) {
				s, _ := store.open(b)
				r := open(b, s, accounts())
				window := make([]*command.Pending, callers) // by one goroutine
				b.ResetTimer()
				for i := 0; b.Loop(); i++ {
					if p := window[i%callers]; p != nil {
						if _, err := p.Wait(b.Context()); err != nil {
							b.Fatal(err)
						}
					}
					window[i%callers] = r.Submit(context.Background(), deposit{"a", 1})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			})
			b.Run(name+"by=bareAppend", func(b *testing.B) {
				s, _ := store.open(b)
				open(b, s, accounts())
				spread(b, callers, func(w int) error {
					_, err := s.Append(context.Background(), eventstore.StreamName(fmt.Sprintf("bare-%d", w)), eventstore.Any, eventstore.Event{Data: deposited{1}})
					return err
				})
			})
			b.Run(name+"by=AppendBatch", func(b *testing.B) {
				_, d := store.open(b)
				batch := make([]driver.Append, callers)
				for i := range batch {
					batch[i] = driver.Append{Stream: "account-a", Events: make([]driver.Event, 1)}
				}
				b.ResetTimer()
				n := 0
				for ; b.Loop(); n += callers {
					for i := range batch {
						batch[i].Events[0] = driver.Event{ID: eventstore.NewID(), Type: "deposited", ContentType: "application/json", Data: []byte(`{"Amount":1}`), Correlation: [16]byte{1}, Causation: [16]byte{2}}
					}
					if res := d.AppendBatch(context.Background(), batch); res[0].Err != nil {
						b.Fatal(res[0].Err)
					}
				}
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "commands/s")
				b.ReportMetric(b.Elapsed().Seconds()/float64(n)*1e9, "ns/op")
			})
			b.Run(name+"by=retryLoop", func(b *testing.B) {
				s, _ := store.open(b)
				open(b, s, accounts())
				spread(b, callers, func(int) error { return retryLoop(s) })
			})
		}
	}
}

// retryLoop deposits as libraries without a queue do.
func retryLoop(s *eventstore.Store) error {
	for {
		var a account
		var v eventstore.Version
		// Only the latest event is read, as if all before it came from a cache.
		for r, err := range s.ReadStreamBackward(context.Background(), "account-a", 0) {
			if err != nil {
				return err
			}
			r.Data.(event).Apply(&a)
			v = r.Version
			break
		}
		events, err := deposit{"a", 1}.Execute(a)
		if err != nil {
			return err
		}
		_, err = s.Append(context.Background(), "account-a", eventstore.Exactly(v), eventstore.Event{Data: events[0]})
		if !errors.Is(err, eventstore.ErrConflict) {
			return err
		}
	}
}

// spread divides b.N calls among callers.
func spread(b *testing.B, callers int, do func(caller int) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(w); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}
