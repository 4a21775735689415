package sqlitestore

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
)

// A workload makes events of about 150 bytes of JSON and 60 of metadata, for
// streams that live for about ten events.
type workload struct {
	r       *rand.Rand
	stream  string
	version int64
	left    int
}

func newWorkload(seed uint64) *workload { return &workload{r: rand.New(rand.NewPCG(seed, 77))} }

var benchTypes = []string{"OrderPlaced.v1", "OrderLineItemAdded", "OrderPaymentTaken.v2", "OrderShipmentCreated", "OrderAddressChanged", "CustomerRelocated", "InvoiceIssued", "InventoryItemReserved", "InventoryItemReleased", "OrderCompleted"}

func (w *workload) fill(e *driver.Event) {
	a, b := w.r.Uint64(), w.r.Uint64()
	binary.LittleEndian.PutUint64(e.ID[:8], a)
	binary.LittleEndian.PutUint64(e.ID[8:], b)
	e.Type = benchTypes[a%uint64(len(benchTypes))]
	e.ContentType = jsonContent
	d := append(e.Data[:0], `{"orderId":"`...)
	d = strconv.AppendUint(d, a, 16)
	d = append(d, `","customer":"cust-`...)
	d = strconv.AppendUint(d, b%10_000_000, 10)
	d = append(d, `","sku":"SKU-`...)
	d = strconv.AppendUint(d, (b>>24)%100_000, 10)
	d = append(d, `","quantity":`...)
	d = strconv.AppendUint(d, b%9+1, 10)
	d = append(d, `,"unitPrice":`...)
	d = strconv.AppendUint(d, (b>>40)%100_000, 10)
	e.Data = append(d, `,"currency":"EUR","note":"gift wrapped, leave at the door"}`...)
	if e.Metadata == nil {
		e.Metadata = make(map[string]string)
	}
	e.Metadata["corr"] = strconv.FormatUint(a^b, 16)
	e.Metadata["user"] = "user-" + strconv.FormatUint(b%100000, 10)
	e.Metadata["src"] = "web"
}

// next returns the next append of n events.
func (w *workload) next(events []driver.Event) driver.Append {
	for i := range events {
		w.fill(&events[i])
	}
	if w.left == 0 {
		w.stream = fmt.Sprintf("order-%016x%07d", w.r.Uint64(), w.r.IntN(1e7))
		w.version = driver.NoStream
		w.left = 5 + w.r.IntN(11)
	}
	w.left--
	a := driver.Append{Stream: w.stream, Expected: w.version, Events: events}
	w.version = max(w.version, 0) + int64(len(events))
	return a
}

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
					w := newWorkload(uint64(c))
					j := &job{done: make(chan error, 1)}
					events := make([]driver.Event, 1)
					mine := make([]time.Duration, 0, n)
					for range n {
						j.a = w.next(events)
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
			rate(b)
			slices.Sort(waits)
			b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds()), "p99-µs")
		})
	}
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			s := openTest(b, nil)
			w := newWorkload(1)
			events := make([]driver.Event, n)
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				require.NoError(b, s.Append(context.Background(), w.next(events)).Err)
			}
			b.StopTimer()
			rate(b)
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
					w := newWorkload(uint64(c))
					events := make([]driver.Event, 1)
					for i := c; i < b.N; i += callers {
						a := w.next(events)
						e := eventstore.Event{Type: events[0].Type, Raw: events[0].Data, ContentType: jsonContent, Metadata: events[0].Metadata}
						if _, err := store.Append(context.Background(), eventstore.StreamName(a.Stream), eventstore.Expected(a.Expected), e); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			rate(b)
		})
	}
}

func rate(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }

// preload fills a store with n events of 100 long streams and many short ones.
func preload(b testing.TB, s *store, n int) (long []string) {
	b.Helper()
	w := newWorkload(7)
	for i := range 100 {
		long = append(long, fmt.Sprintf("long-%03d", i))
	}
	as := make([]driver.Append, 0, 1000)
	for i := 0; i < n; {
		as = as[:0]
		for ; len(as) < cap(as) && i < n; i++ {
			a := w.next(make([]driver.Event, 1))
			if i%10 == 0 {
				w.version, w.left = w.version-1, w.left+1
				if w.version == 0 {
					w.left = 0
				}
				a.Stream, a.Expected = long[i/10%100], driver.Any
			}
			as = append(as, a)
		}
		for _, r := range s.AppendBatch(context.Background(), as) {
			require.NoError(b, r.Err)
		}
	}
	return long
}

// BenchmarkRead reads a store of 200,000 events. An operation is one event.
func BenchmarkRead(b *testing.B) {
	s := openTest(b, &Options{Synchronous: Normal})
	long := preload(b, s, 200_000)
	ctx := context.Background()
	all := func(b *testing.B, f driver.Filter) {
		b.ReportAllocs()
		for n := 0; n < b.N; {
			for from := uint64(0); n < b.N; {
				events, scanned, err := s.ReadAll(ctx, f, from, driver.Forward, 512)
				require.NoError(b, err)
				if n += len(events); scanned == from {
					break
				}
				from = scanned
			}
		}
		rate(b)
	}
	b.Run("all", func(b *testing.B) { all(b, driver.Filter{}) })
	b.Run("category", func(b *testing.B) { all(b, driver.Filter{Categories: []string{"order"}}) })
	b.Run("type", func(b *testing.B) { all(b, driver.Filter{Types: benchTypes[:1]}) })
	b.Run("streams", func(b *testing.B) { all(b, driver.Filter{Streams: long[:8]}) })
	b.Run("stream", func(b *testing.B) {
		b.ReportAllocs()
		for n, i := 0, 0; n < b.N; i++ {
			events, err := s.ReadStream(ctx, long[i%len(long)], 0, driver.Forward, 512)
			require.NoError(b, err)
			n += len(events)
		}
		rate(b)
	})
}

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
					w := newWorkload(uint64(c))
					j := &job{done: make(chan error, 1)}
					events := make([]driver.Event, 1)
					for i := c; i < b.N; i += callers {
						j.a = w.next(events)
						batch.jobs <- j
						if err := <-j.done; err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			rate(b)
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
