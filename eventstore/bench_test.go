package eventstore_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// Ordered is about 150 bytes of JSON.
type Ordered struct {
	OrderID, Customer, SKU string
	Quantity, UnitPrice    int
	Currency, Note         string
}

func ordered(i int) Ordered {
	return Ordered{fmt.Sprintf("%016x", i*7919), fmt.Sprint("cust-", i%9973), "SKU-12345", i%9 + 1, i % 100_000, "EUR", "gift wrapped, leave at the door"}
}

// stores opens one of each engine for a benchmark.
func stores(b *testing.B, run func(b *testing.B, s *eventstore.Store, d driver.Store)) {
	b.Run("memstore", func(b *testing.B) {
		d := memstore.NewDriver()
		run(b, benchStore(b, d), d)
	})
	b.Run("sqlitestore", func(b *testing.B) {
		d, err := sqlitestore.OpenDriver(filepath.Join(b.TempDir(), "events.db"), nil)
		require.NoError(b, err)
		run(b, benchStore(b, d), d)
	})
}

func benchStore(b *testing.B, d driver.Store) *eventstore.Store {
	s := eventstore.New(d, nil)
	b.Cleanup(func() { s.Close() })
	require.NoError(b, s.Types.Register("ordered", Ordered{}))
	return s
}

func rate(b *testing.B, n int) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppend shows the portable store's share of a durable append: one
// event by each of so many callers.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			stores(b, func(b *testing.B, s *eventstore.Store, _ driver.Store) {
				b.ReportAllocs()
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						stream := eventstore.Stream("order", fmt.Sprint(c))
						for i := c; i < b.N; i += callers {
							if _, err := s.Append(context.Background(), stream, eventstore.Any, eventstore.Event{Data: ordered(i)}); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				rate(b, b.N)
			})
		})
	}
}

const history = 200_000

func preload(b *testing.B, s *eventstore.Store, streams int) {
	b.Helper()
	for i := 0; i < history; i += 1000 {
		var events []eventstore.Event
		for j := range 1000 {
			events = append(events, eventstore.Event{Data: ordered(i + j), Metadata: map[string]string{"user": "user-1234"}})
		}
		_, err := s.Append(context.Background(), eventstore.Stream("order", fmt.Sprint(i/1000%streams)), eventstore.Any, events...)
		require.NoError(b, err)
	}
}

// BenchmarkSeveralStreams shows what an append to two streams costs, with an event for each,
// next to two appends, which may be committed together with those of others.
func BenchmarkSeveralStreams(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			stores(b, func(b *testing.B, s *eventstore.Store, _ driver.Store) {
				a := atomicOf(b, s)
				for _, how := range []string{"together", "apart"} {
					b.Run(how, func(b *testing.B) {
						b.ReportAllocs()
						var wg sync.WaitGroup
						for c := range callers {
							wg.Go(func() {
								ctx := context.Background()
								x, y := eventstore.Stream("order", fmt.Sprint("x", c)), eventstore.Stream("order", fmt.Sprint("y", c))
								for i := c; i < b.N; i += callers {
									events := []eventstore.Event{{Data: ordered(i)}}
									if how == "together" {
										if _, err := a.Append(ctx, eventstore.Part{Stream: x, Events: events}, eventstore.Part{Stream: y, Events: events}); err != nil {
											b.Error(err)
										}
										continue
									}
									for _, name := range []eventstore.StreamName{x, y} {
										if _, err := s.Append(ctx, name, eventstore.Any, events...); err != nil {
											b.Error(err)
										}
									}
								}
							})
						}
						wg.Wait()
						rate(b, 2*b.N)
					})
				}
			})
		})
	}
}

// BenchmarkReadAll reads a history: as the driver gives it, as JSON is decoded
// from memory, and typed, one event after another and as a subscription does.
func BenchmarkReadAll(b *testing.B) {
	stores(b, func(b *testing.B, s *eventstore.Store, d driver.Store) {
		preload(b, s, 10)
		var raw [][]byte
		b.Run("raw", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				raw = raw[:0]
				for from := uint64(0); ; {
					events, scanned, err := d.ReadAll(b.Context(), driver.Filter{}, from, driver.Forward, 512)
					require.NoError(b, err)
					if scanned == from {
						break
					}
					for i := range events {
						raw = append(raw, events[i].Data)
					}
					from = scanned
				}
			}
			require.Len(b, raw, history)
			rate(b, b.N*history)
		})
		b.Run("json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for _, data := range raw {
					var o Ordered
					if err := json.Unmarshal(data, &o); err != nil {
						b.Fatal(err)
					}
				}
			}
			rate(b, b.N*history)
		})
		b.Run("typed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for r, err := range s.ReadAll(b.Context(), eventstore.Filter{}, 0) {
					if _, ok := r.Data.(Ordered); !ok || err != nil {
						b.Fatal(err)
					}
					n++
				}
				require.Equal(b, history, n)
			}
			rate(b, b.N*history)
		})
		b.Run("followed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for batch, err := range s.Follow(b.Context(), eventstore.Filter{}, 0) {
					require.NoError(b, err)
					if n += len(batch.Events); n == history {
						break
					}
				}
			}
			rate(b, b.N*history)
		})
	})
}

// BenchmarkReadStream rehydrates one stream of 20,000 events.
func BenchmarkReadStream(b *testing.B) {
	stores(b, func(b *testing.B, s *eventstore.Store, d driver.Store) {
		preload(b, s, 10)
		const n = history / 10
		var raw []driver.Recorded
		b.Run("raw", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				raw = raw[:0]
				for from := uint64(0); from < n; from = raw[len(raw)-1].Version {
					page, err := d.ReadStream(b.Context(), "order-3", from, driver.Forward, 512)
					require.NoError(b, err)
					raw = append(raw, page...)
				}
			}
			rate(b, b.N*n)
		})
		b.Run("json", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range raw {
					var o Ordered
					if err := json.Unmarshal(raw[i].Data, &o); err != nil {
						b.Fatal(err)
					}
				}
			}
			rate(b, b.N*n)
		})
		b.Run("typed", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				got := 0
				for p, err := range s.ReadStreamPages(b.Context(), "order-3", 0) {
					require.NoError(b, err)
					got += len(p.Events)
				}
				require.Equal(b, n, got)
			}
			rate(b, b.N*n)
		})
	})
}

// BenchmarkFanOut measures from the return of an append to its delivery, with
// 10,000 subscribers on 10,000 streams, while ten callers append an event every
// millisecond each.
func BenchmarkFanOut(b *testing.B) {
	const streams, callers = 10_000, 10
	stores(b, func(b *testing.B, s *eventstore.Store, _ driver.Store) {
		begin := time.Now()
		committed, delivered := make([]time.Duration, b.N), make([]time.Duration, b.N)
		var arrived, wg sync.WaitGroup
		arrived.Add(b.N)
		for i := range streams {
			sub, err := eventstore.Subscribe(b.Context(), s, eventstore.Transient[int]{
				Filter: eventstore.Filter{Streams: []eventstore.StreamName{eventstore.Stream("order", fmt.Sprint(i))}},
				Map:    func(r *eventstore.Recorded) int { return r.Data.(Ordered).UnitPrice },
			})
			require.NoError(b, err)
			go func() {
				for batch := range sub.C {
					for _, i := range batch.Events {
						delivered[i] = time.Since(begin)
						arrived.Done()
					}
				}
			}()
		}
		b.ResetTimer()
		for c := range callers {
			wg.Go(func() {
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for i := c; i < b.N; i += callers {
					e := ordered(i)
					e.UnitPrice = i
					_, err := s.Append(context.Background(), eventstore.Stream("order", fmt.Sprint(i*7919%streams)), eventstore.Any, eventstore.Event{Data: e})
					committed[i] = time.Since(begin)
					if err != nil {
						b.Error(err)
					}
					<-tick.C
				}
			})
		}
		wg.Wait()
		arrived.Wait()
		b.StopTimer()
		rate(b, b.N)
		took := make([]time.Duration, b.N)
		for i := range took {
			took[i] = max(0, delivered[i]-committed[i])
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
		b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
	})
}
