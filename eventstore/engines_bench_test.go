package eventstore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/kurrentstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/natsstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/internal/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// engines are all that a program can run on, each with a server of its own where it needs one.
var engines = []struct {
	name string
	open func(b *testing.B) (*eventstore.Store, error)
}{
	{"memory", func(*testing.B) (*eventstore.Store, error) { return memstore.Open(nil), nil }},
	{"sqlite", func(b *testing.B) (*eventstore.Store, error) {
		return sqlitestore.Open(filepath.Join(b.TempDir(), "events.db"), nil)
	}},
	{"postgres", func(b *testing.B) (*eventstore.Store, error) {
		return pgstore.OpenURL(b.Context(), postgrestest.URL(b), nil)
	}},
	{"esdbdev", func(b *testing.B) (*eventstore.Store, error) {
		server, err := esdbdev.New(memstore.Open(nil), nil)
		require.NoError(b, err)
		b.Cleanup(func() { server.Close() })
		require.NoError(b, server.Start("127.0.0.1:0"))
		return kurrentstore.Open(b.Context(), server.URL(), nil)
	}},
	{"nats-1", func(b *testing.B) (*eventstore.Store, error) {
		return natsstore.OpenURL(b.Context(), natstest.Run(b).URL(), nil)
	}},
	{"nats-3", func(b *testing.B) (*eventstore.Store, error) {
		return natsstore.OpenURL(b.Context(), natstest.Cluster(b, 3).URL(), nil)
	}},
}

// BenchmarkEngines is one program on every engine: b.N events are appended by one caller,
// by 64, and by one caller in batches of a hundred; read, all of them and by streams of twenty; and appended one a
// millisecond while somebody follows, which tells the time from the answer of the append to the delivery.
func BenchmarkEngines(b *testing.B) {
	for _, e := range engines {
		b.Run(e.name, func(b *testing.B) {
			s, err := e.open(b)
			require.NoError(b, err)
			b.Cleanup(func() { s.Close() })
			require.NoError(b, s.Types.Register("ordered", Ordered{}))
			var streams atomic.Int64
			stream := func() eventstore.StreamName { return eventstore.Stream("order", fmt.Sprint(streams.Add(1))) }
			appends := func(b *testing.B, stream eventstore.StreamName, events ...eventstore.Event) {
				if _, err := s.Append(context.Background(), stream, eventstore.Any, events...); err != nil {
					b.Error(err)
				}
			}
			for _, callers := range []int{1, 64} {
				b.Run(fmt.Sprintf("append/callers=%d", callers), func(b *testing.B) {
					var wg sync.WaitGroup
					for c := range callers {
						wg.Go(func() {
							name := stream()
							for i := c; i < b.N; i += callers {
								appends(b, name, eventstore.Event{Data: ordered(i)})
							}
						})
					}
					wg.Wait()
					rate(b, b.N)
				})
			}
			b.Run("append/batch=100", func(b *testing.B) {
				name := stream()
				var events []eventstore.Event
				for i := range b.N {
					if events = append(events, eventstore.Event{Data: ordered(i)}); len(events) == 100 || i == b.N-1 {
						appends(b, name, events...)
						events = nil
					}
				}
				rate(b, b.N)
			})
			b.Run("load=20", func(b *testing.B) {
				names := make([]eventstore.StreamName, 50)
				for i := range names {
					names[i] = stream()
				}
				for n := range 20 {
					for _, name := range names {
						appends(b, name, eventstore.Event{Data: ordered(n)})
					}
				}
				b.ResetTimer()
				for i := range b.N {
					n := 0
					for _, err := range s.ReadStream(b.Context(), names[i%len(names)], 0) {
						require.NoError(b, err)
						n++
					}
					require.Equal(b, 20, n)
				}
			})
			b.Run("readall", func(b *testing.B) {
				n := 0
				for n < b.N {
					before := n
					for _, err := range s.ReadAll(b.Context(), eventstore.Filter{}, 0) {
						require.NoError(b, err)
						if n++; n == b.N {
							break
						}
					}
					require.Greater(b, n, before)
				}
				rate(b, b.N)
			})
			b.Run("delivered", func(b *testing.B) {
				name := stream()
				sub, err := eventstore.Subscribe(b.Context(), s, eventstore.Transient[int]{
					Filter: eventstore.Filter{Streams: []eventstore.StreamName{name}},
					Map:    func(r *eventstore.Recorded) int { return r.Data.(Ordered).UnitPrice },
				})
				require.NoError(b, err)
				begin := time.Now()
				answered, took := make([]time.Duration, b.N), make([]time.Duration, b.N)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for n := 0; n < b.N; {
						batch := <-sub.C
						for _, i := range batch.Events {
							took[i] = time.Since(begin)
							n++
						}
					}
				}()
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for i := range b.N {
					e := ordered(i)
					e.UnitPrice = i
					appends(b, name, eventstore.Event{Data: e})
					answered[i] = time.Since(begin)
					<-tick.C
				}
				<-done
				for i := range took {
					took[i] = max(0, took[i]-answered[i])
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
			})
		})
	}
}
