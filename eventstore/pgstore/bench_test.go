package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/workload"
)

// BenchmarkAppend appends events one by one from n callers at once through the
// portable store, which groups them, or from one caller in batches of n. An operation
// is one event.
func BenchmarkAppend(b *testing.B) {
	be := newBench(b, 16)
	for _, callers := range []int{1, 16, 256, 1024} {
		for _, writers := range []int{1, 2, 4, 8} {
			if callers == 1 && writers > 1 {
				continue
			}
			b.Run(fmt.Sprintf("callers=%d/writers=%d", callers, writers), func(b *testing.B) {
				s := be.open(b, Options{Writers: writers})
				store := eventstore.New(s, nil)
				b.ResetTimer()
				var mu sync.Mutex
				var waits []time.Duration
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						w := workload.New(uint64(c))
						var mine []time.Duration
						for i := c; i < b.N; i += callers {
							a := w.Next(make([]driver.Event, 1))
							e := &a.Events[0]
							begin := time.Now()
							_, err := store.Append(context.Background(), eventstore.StreamName(a.Stream), eventstore.Expected(a.Expected),
								eventstore.Event{Type: e.Type, Raw: e.Data, ContentType: e.ContentType, Metadata: e.Metadata})
							if err != nil {
								b.Error(err)
								return
							}
							mine = append(mine, time.Since(begin))
						}
						mu.Lock()
						defer mu.Unlock()
						waits = append(waits, mine...)
					})
				}
				wg.Wait()
				b.StopTimer()
				workload.Rate(b)
				slices.Sort(waits)
				if len(waits) > 0 {
					b.ReportMetric(float64(waits[len(waits)/2].Microseconds()), "p50-µs")
					b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-µs")
				}
			})
		}
	}
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			s := be.open(b, Options{})
			w := workload.New(1)
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				require.NoError(b, s.Append(context.Background(), w.Next(make([]driver.Event, n))).Err)
			}
			b.StopTimer()
			workload.Rate(b)
		})
	}
}

// BenchmarkConditional appends under conditions on tags that have nothing in common,
// from n callers at once, each as a transaction of its own. An operation is one event.
func BenchmarkConditional(b *testing.B) {
	be := newBench(b, 20)
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := be.open(b, Options{})
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					w := workload.New(uint64(c))
					tag := fmt.Sprint("seat:", c)
					var after uint64
					for i := c; i < b.N; i += callers {
						var e driver.Event
						w.Fill(&e)
						e.Tags = []string{tag, "tenant:1"}
						r := s.AppendIf(context.Background(), []driver.QueryItem{{Tags: e.Tags}}, after, []driver.StreamEvent{{Stream: "seat-" + strconv.Itoa(c), Event: e}}, nil)
						if r.Err != nil {
							b.Error(r.Err)
							return
						}
						after = r.Last
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			workload.Rate(b)
		})
	}
}

// BenchmarkRead reads a store of 100,000 events. An operation is one event.
func BenchmarkRead(b *testing.B) {
	s := newBench(b, 8).open(b, Options{})
	long := workload.Preload(b, s, 100_000)
	_, err := s.pool.Exec(context.Background(), s.sql.expand("VACUUM ANALYZE @schema@.events"))
	require.NoError(b, err)
	workload.Read(b, s, long)
}

// BenchmarkAtomic appends to two streams, at once and one after the other. An operation
// is both, four events.
func BenchmarkAtomic(b *testing.B) {
	workload.Atomic(b, newBench(b, 8).open(b, Options{NoListen: true}))
}

// BenchmarkHead asks for the head, as one who waits does: where nothing was
// appended since, and where something was.
func BenchmarkHead(b *testing.B) {
	s := newBench(b, 8).open(b, Options{})
	ctx := context.Background()
	require.NoError(b, s.Append(ctx, one("s-1", driver.Any)).Err)
	for _, known := range []bool{true, false} {
		b.Run(fmt.Sprintf("known=%v", known), func(b *testing.B) {
			for range b.N {
				if !known {
					s.watch.forget()
				}
				_, err := s.head(ctx)
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkInline appends from one caller: alone, with a func that does nothing in the
// transaction, and with one that moves a projection of a model. An operation is one append.
func BenchmarkInline(b *testing.B) {
	be := newBench(b, 8)
	ctx := context.Background()
	store := eventstore.New(be.open(b, Options{NoListen: true}), nil)
	m, err := Target(ctx, store, Model{Tables: []string{"counts"}, Schema: "CREATE TABLE counts(n bigint); INSERT INTO counts VALUES(0)"})
	require.NoError(b, err)
	seed := uint64(1)
	for _, f := range []struct {
		name string
		fn   func(tx any, events []*eventstore.Recorded) error
	}{
		{"alone", nil},
		{"nothing", func(any, []*eventstore.Recorded) error { return nil }},
		{"model", func(tx any, events []*eventstore.Recorded) error {
			return m.UpdateIn(ctx, tx, "p", func(tx pgx.Tx, _ eventstore.Position) (eventstore.Position, error) {
				_, err := tx.Exec(ctx, "UPDATE counts SET n = n + 1")
				return events[0].Position, err
			})
		}},
	} {
		b.Run(f.name, func(b *testing.B) {
			if f.fn != nil {
				stop, err := store.Inline(func(_ context.Context, tx any, events []*eventstore.Recorded) error { return f.fn(tx, events) })
				require.NoError(b, err)
				defer stop()
			}
			w := workload.New(seed)
			seed++
			b.ResetTimer()
			for range b.N {
				a := w.Next(make([]driver.Event, 1))
				e := &a.Events[0]
				_, err := store.Append(ctx, eventstore.StreamName(a.Stream), eventstore.Expected(a.Expected),
					eventstore.Event{Type: e.Type, Raw: e.Data, ContentType: e.ContentType, Metadata: e.Metadata})
				require.NoError(b, err)
			}
		})
	}
}
