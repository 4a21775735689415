package natsstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/natstest"
)

// benchmarked runs a benchmark on one server and on a cluster of three, all in
// this process, with and without flushing every write. Their files are in the
// usual temporary directory.
func benchmarked(b *testing.B, f func(b *testing.B, open func() *store)) {
	for _, c := range []struct {
		name  string
		nodes int
		sync  bool
	}{{"R1", 1, false}, {"R3", 3, false}, {"R1-always", 1, true}, {"R3-always", 3, true}} {
		b.Run(c.name, func(b *testing.B) {
			nodes := natstest.Cluster(b, c.nodes, func(o *server.Options) { o.SyncAlways = c.sync })
			f(b, func() *store {
				s, err := open(b.Context(), nodes.Connect(b), &Options{Name: fresh(), Replicas: c.nodes, Timeout: time.Minute})
				require.NoError(b, err)
				b.Cleanup(func() { _ = s.Close() })
				return s
			})
		})
	}
}

// benchEvents returns events of 100 bytes with metadata.
func benchEvents(n int) []driver.Event {
	list := newEvents(n)
	for i := range list {
		list[i].Type, list[i].ContentType = "bench.happened", "application/json"
		list[i].Data = []byte(fmt.Sprintf(`{"n":%6d,"text":"%s"}`, i, "0123456789012345678901234567890123456789012345678901234567890123456789012345"))
		list[i].Metadata = map[string]string{"user": "somebody"}
	}
	return list
}

func eventsPerSecond(b *testing.B, n int) {
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkAppend(b *testing.B) {
	benchmarked(b, func(b *testing.B, open func() *store) {
		for _, writers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("c%d", writers), func(b *testing.B) {
				s := open()
				var next atomic.Int64
				var all sync.WaitGroup
				b.ResetTimer()
				for w := range writers {
					all.Go(func() {
						stream, at := fmt.Sprintf("s-%d", w), driver.NoStream
						for next.Add(1) <= int64(b.N) {
							r := s.Append(context.Background(), driver.Append{Stream: stream, Expected: at, Events: benchEvents(1)})
							if r.Err != nil {
								b.Error(r.Err)
								return
							}
							at = int64(r.Version)
						}
					})
				}
				all.Wait()
				b.StopTimer()
				eventsPerSecond(b, b.N)
			})
		}
		for _, n := range []int{2, 10, 100, 1000} {
			b.Run(fmt.Sprintf("b%d", n), func(b *testing.B) {
				s := open()
				at := driver.NoStream
				for b.Loop() {
					r := s.Append(context.Background(), driver.Append{Stream: "s-1", Expected: at, Events: benchEvents(n)})
					require.NoError(b, r.Err)
					at = int64(r.Version)
				}
				eventsPerSecond(b, b.N*n)
			})
		}
	})
}

// fillLog appends n events to streams of 20, whose events lie far apart.
func fillLog(b *testing.B, s *store, n int) (streams int) {
	b.Helper()
	streams = n / 20
	var all sync.WaitGroup
	var next atomic.Int64
	for range 32 {
		all.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if r := s.Append(context.Background(), driver.Append{Stream: fmt.Sprintf("s-%d", i%streams), Events: benchEvents(1)}); r.Err != nil {
					b.Error(r.Err)
					return
				}
			}
		})
	}
	all.Wait()
	return streams
}

func BenchmarkRead(b *testing.B) {
	benchmarked(b, func(b *testing.B, open func() *store) {
		if b.Name() == "BenchmarkRead/R1-always" || b.Name() == "BenchmarkRead/R3-always" {
			b.Skip("reads flush nothing")
		}
		s := open()
		const events = 50_000
		streams := fillLog(b, s, events)
		b.Run("stream of 20 by back pointers", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				list, err := s.ReadStream(b.Context(), fmt.Sprintf("s-%d", i*7919%streams), 0, driver.Forward, 100)
				require.NoError(b, err)
				require.Len(b, list, 20)
			}
		})
		b.Run("version of a stream by the leader", func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				_, err := s.Stream(b.Context(), fmt.Sprintf("s-%d", i*7919%streams))
				require.NoError(b, err)
			}
		})
		b.Run("all in pages of 512", func(b *testing.B) {
			n := 0
			for b.Loop() {
				for from := uint64(0); from < events; {
					list, scanned, err := s.ReadAll(b.Context(), driver.Filter{}, from, driver.Forward, 512)
					require.NoError(b, err)
					n, from = n+len(list), scanned
				}
			}
			eventsPerSecond(b, n)
		})
	})
}

// BenchmarkReadCategories reads a log of which two events in a hundred are of the
// three categories that are selected: as the store does, page by page for each
// category, and as it would if a reader looked at all events.
func BenchmarkReadCategories(b *testing.B) {
	benchmarked(b, func(b *testing.B, open func() *store) {
		if strings.HasSuffix(b.Name(), "-always") {
			b.Skip("reads flush nothing")
		}
		s := open()
		const events = 30_000
		for n := 0; n < events; n += 100 {
			as := []driver.Append{to("other-1", driver.Any, 98), to(fmt.Sprintf("c%d-1", n/100%3), driver.Any, 2)}
			for i := range as {
				as[i].Events = benchEvents(len(as[i].Events))
			}
			mustAll(b, s, as...)
		}
		whole := func(b *testing.B, f driver.Filter) {
			for b.Loop() {
				n := 0
				for from := uint64(0); from < events; {
					list, scanned, err := s.ReadAll(b.Context(), f, from, driver.Forward, 512)
					require.NoError(b, err)
					for _, e := range list {
						if e.Stream != "other-1" {
							n++
						}
					}
					from = scanned
				}
				require.Equal(b, events/50, n)
			}
		}
		b.Run("by the server", func(b *testing.B) { whole(b, driver.Filter{Categories: []string{"c0", "c1", "c2"}}) })
		b.Run("by the reader", func(b *testing.B) { whole(b, driver.Filter{}) })
		b.Run("all selected by name", func(b *testing.B) { whole(b, driver.Filter{Categories: []string{"c0", "c1", "c2", "other"}}) })
	})
}

// BenchmarkAppendAtomic is one event to each of two streams, in one append and in
// two.
func BenchmarkAppendAtomic(b *testing.B) {
	benchmarked(b, func(b *testing.B, open func() *store) {
		for _, writers := range []int{1, 16} {
			for _, together := range []bool{true, false} {
				name := "two appends"
				if together {
					name = "one append to two streams"
				}
				b.Run(fmt.Sprintf("c%d/%s", writers, name), func(b *testing.B) {
					s := open()
					var next atomic.Int64
					var all sync.WaitGroup
					b.ResetTimer()
					for w := range writers {
						all.Go(func() {
							for next.Add(1) <= int64(b.N) {
								as := []driver.Append{to(fmt.Sprintf("a-%d", w), driver.Any, 0), to(fmt.Sprintf("b-%d", w), driver.Any, 0)}
								for i := range as {
									as[i].Events = benchEvents(1)
								}
								if together {
									if _, err := s.AppendAtomic(context.Background(), as, nil); err != nil {
										b.Error(err)
									}
									continue
								}
								for _, a := range as {
									if r := s.Append(context.Background(), a); r.Err != nil {
										b.Error(r.Err)
									}
								}
							}
						})
					}
					all.Wait()
				})
			}
		}
	})
}

type happened struct{ N int }

// BenchmarkAppendToDelivery is the time from the call of Append to the event in a
// subscription of another connection.
func BenchmarkAppendToDelivery(b *testing.B) {
	benchmarked(b, func(b *testing.B, begin func() *store) {
		d := begin()
		other, err := open(b.Context(), natsConn(b, d), &Options{Name: d.opt.Name})
		require.NoError(b, err)
		writer, reader := eventstore.New(d, nil), eventstore.New(other, nil)
		defer reader.Close()
		for _, s := range []*eventstore.Store{writer, reader} {
			require.NoError(b, s.Types.Register("happened", happened{}))
		}
		sub, err := eventstore.SubscribeTo[happened](b.Context(), reader, eventstore.Filter{}, eventstore.Origin())
		require.NoError(b, err)
		for i := 0; b.Loop(); i++ {
			_, err := writer.Append(b.Context(), eventstore.Stream("s", fmt.Sprint(i%10)), eventstore.Any, eventstore.Event{Data: happened{i}})
			require.NoError(b, err)
			for got := (<-sub.C).Events; got[len(got)-1].N != i; got = (<-sub.C).Events {
			}
		}
	})
}

// natsConn is another connection to the servers of s.
func natsConn(b *testing.B, s *store) *nats.Conn {
	nc, err := nats.Connect(s.log.nc.ConnectedUrl())
	require.NoError(b, err)
	b.Cleanup(nc.Close)
	return nc
}
