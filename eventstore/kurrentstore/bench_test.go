package kurrentstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// These measure the development server on a store in memory, and gRPC, as much as the driver: they
// are for comparing the driver with itself.

func benchEvents(n int) []driver.Event {
	list := make([]driver.Event, n)
	for i := range list {
		list[i] = driver.Event{
			ID: uuid.New(), Type: "account.deposited", ContentType: wireJSON,
			Data:     []byte(`{"account":"6f1c7a52-0d34-4b6e-9f5f-0a1b2c3d4e5f","amount":12345,"currency":"EUR","text":"a deposit at the counter, as they say"}`),
			Metadata: map[string]string{"user": "ann", "trace": "00-4bf92f3577b34da6a3ce929d0e0e4736"},
		}
	}
	return list
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ callers, batch int }{{1, 1}, {16, 1}, {256, 1}, {1, 10}, {1, 100}} {
		b.Run(fmt.Sprintf("c%d/b%d", c.callers, c.batch), func(b *testing.B) { benchAppend(b, c.callers, c.batch, false) })
		b.Run(fmt.Sprintf("c%d/b%d/waiting", c.callers, c.batch), func(b *testing.B) { benchAppend(b, c.callers, c.batch, true) })
	}
}

// benchAppend measures appends, with somebody who waits for events or without.
func benchAppend(b *testing.B, callers, batch int, waiting bool) {
	d := openDriver(b, serve(b, nil).URL(), nil)
	if waiting {
		watched(b, d)
	}
	var next atomic.Int64
	done := make(chan error, callers)
	b.ResetTimer()
	for i := range callers {
		go func() {
			name, at := fmt.Sprintf("account-%d", i), driver.NoStream
			for next.Add(1) <= int64(b.N) {
				r := d.Append(b.Context(), driver.Append{Stream: name, Expected: at, Events: benchEvents(batch)})
				if r.Err != nil {
					done <- r.Err
					return
				}
				at = int64(r.Version)
			}
			done <- nil
		}()
	}
	for range callers {
		require.NoError(b, <-done)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
}

func benchLog(b *testing.B, streams, each int) *store {
	b.Helper()
	d := openDriver(b, serve(b, nil).URL(), nil)
	for i := range streams {
		for k := 0; k < each; k += 100 {
			require.NoError(b, d.Append(b.Context(), driver.Append{Stream: fmt.Sprintf("account-%d", i), Events: benchEvents(min(100, each-k))}).Err)
		}
	}
	return d
}

func BenchmarkReadAll(b *testing.B) {
	const streams, each = 200, 100
	d := benchLog(b, streams, each)
	for _, f := range []struct {
		name   string
		filter driver.Filter
	}{{"everything", driver.Filter{}}, {"a category", driver.Filter{Categories: []string{"account"}}}, {"a stream", driver.Filter{Streams: []string{"account-7"}}}} {
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				for from := uint64(0); ; {
					_, scanned, err := d.ReadAll(b.Context(), f.filter, from, driver.Forward, 512)
					require.NoError(b, err)
					if scanned == from {
						break
					}
					from = scanned
				}
			}
			b.ReportMetric(float64(b.N*streams*each)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkReadStream(b *testing.B) {
	for _, each := range []int{10, 1000} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			d := benchLog(b, 20, each)
			i := 0
			for b.Loop() {
				list, err := d.ReadStream(b.Context(), fmt.Sprintf("account-%d", i%20), 0, driver.Forward, each+1)
				require.NoError(b, err)
				require.Len(b, list, each)
				i++
			}
			b.ReportMetric(float64(b.N*each)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

func BenchmarkStream(b *testing.B) {
	d := benchLog(b, 1, 10)
	for b.Loop() {
		_, err := d.Stream(b.Context(), "account-0")
		require.NoError(b, err)
	}
}
