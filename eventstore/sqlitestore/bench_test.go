package sqlitestore

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/internal/workload"
)

// A batcher commits what its callers append while it is busy, as the portable
// store does, so that the driver is measured as it is used.
type batcher struct {
	d    driver.Batcher
	jobs chan *job
}

type job struct {
	a    driver.Append
	done chan error
}

func (b *batcher) run() {
	var jobs []*job
	var as []driver.Append
	for j := range b.jobs {
		jobs, as = append(jobs[:0], j), append(as[:0], j.a)
	more:
		for len(jobs) < maxBatchEvents {
			select {
			case j, ok := <-b.jobs:
				if !ok {
					break more
				}
				jobs, as = append(jobs, j), append(as, j.a)
			default:
				break more
			}
		}
		for i, r := range b.d.AppendBatch(context.Background(), as) {
			jobs[i].done <- r.Err
		}
	}
}

// BenchmarkAppend appends events one by one from n callers at once, or from one
// caller in batches of n. An operation is one event.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := openTest(b, nil)
			batch := &batcher{d: s, jobs: make(chan *job, maxBatchEvents)}
			go batch.run()
			b.ReportAllocs()
			b.ResetTimer()
			var mu sync.Mutex
			var waits []time.Duration
			var wg sync.WaitGroup
			for c := range callers {
				n := b.N / callers
				if c < b.N%callers {
					n++
				}
				wg.Go(func() {
					w := workload.New(uint64(c))
					j := &job{done: make(chan error, 1)}
					events := make([]driver.Event, 1)
					mine := make([]time.Duration, 0, n)
					for range n {
						j.a = w.Next(events)
						begin := time.Now()
						batch.jobs <- j
						if err := <-j.done; err != nil {
							b.Error(err)
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
			close(batch.jobs)
			workload.Rate(b)
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-µs")
		})
	}
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			s := openTest(b, nil)
			w := workload.New(1)
			events := make([]driver.Event, n)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				require.NoError(b, s.Append(context.Background(), w.Next(events)).Err)
			}
			b.StopTimer()
			workload.Rate(b)
		})
	}
}

// BenchmarkStore appends as BenchmarkAppend does, but through the portable store,
// so that the difference is its share.
func BenchmarkStore(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			store := portable(b, filepath.Join(b.TempDir(), "events.db"), nil)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					w := workload.New(uint64(c))
					events := make([]driver.Event, 1)
					for i := c; i < b.N; i += callers {
						a := w.Next(events)
						e := eventstore.Event{Type: events[0].Type, Raw: events[0].Data, ContentType: jsonContent, Metadata: events[0].Metadata}
						if _, err := store.Append(context.Background(), eventstore.StreamName(a.Stream), eventstore.Expected(a.Expected), e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			workload.Rate(b)
		})
	}
}

// BenchmarkRead reads a store of 200,000 events. An operation is one event.
func BenchmarkRead(b *testing.B) {
	s := openTest(b, &Options{Synchronous: Normal})
	workload.Read(b, s, workload.Preload(b, s, 200_000))
}

// BenchmarkAtomic appends to two streams, at once and one after the other. An operation
// is both, four events.
func BenchmarkAtomic(b *testing.B) { workload.Atomic(b, openTest(b, nil)) }

// BenchmarkTarget appends from 256 callers while a projection follows, which
// counts events by type: without one, with its model beside the log, and with its
// model in the log's file. An operation is one event appended.
func BenchmarkTarget(b *testing.B) {
	for _, where := range []string{"none", "beside", "in"} {
		b.Run(where, func(b *testing.B) {
			store := portable(b, filepath.Join(b.TempDir(), "events.db"), nil)
			var db *DB
			require.True(b, store.As(&db))
			s := db.store
			var m *ReadModel
			var err error
			switch where {
			case "beside":
				m, err = Target(store, countModel)
			case "in":
				m, err = TargetIn(store, countModel)
			}
			require.NoError(b, err)
			ctx, cancel := context.WithCancel(context.Background())
			var at atomic.Uint64
			var follower sync.WaitGroup
			if m != nil {
				follower.Go(func() { project(ctx, b, s, m, &at) })
			}
			batch := &batcher{d: s, jobs: make(chan *job, maxBatchEvents)}
			go batch.run()
			b.ResetTimer()
			const callers = 256
			var wg sync.WaitGroup
			for c := range callers {
				wg.Go(func() {
					w := workload.New(uint64(c))
					j := &job{done: make(chan error, 1)}
					events := make([]driver.Event, 1)
					for i := c; i < b.N; i += callers {
						j.a = w.Next(events)
						batch.jobs <- j
						if err := <-j.done; err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			workload.Rate(b)
			b.ReportMetric(float64(at.Load())/b.Elapsed().Seconds(), "projected/s")
			cancel()
			follower.Wait()
			close(batch.jobs)
		})
	}
}

func project(ctx context.Context, b *testing.B, s *store, m *ReadModel, at *atomic.Uint64) {
	for ctx.Err() == nil {
		from := at.Load()
		events, scanned, err := s.ReadAll(ctx, driver.Filter{}, from, driver.Forward, 512)
		if err == nil && len(events) == 0 {
			err = s.Wait(ctx, from)
		}
		if err == nil && scanned > from {
			err = m.Update(ctx, "p", eventstore.Position(from), eventstore.Position(scanned), func(c *sqlite.Conn) error {
				for i := range events {
					if err := count(events[i].Type)(c); err != nil {
						return err
					}
				}
				return nil
			})
			at.Store(scanned)
		}
		if err != nil && ctx.Err() == nil {
			b.Error(err)
			return
		}
	}
}
