package memstore_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

func event() driver.Event {
	return driver.Event{ID: [16]byte{1}, Type: "account.deposited", ContentType: "application/json", Data: make([]byte, 150)}
}

// fill appends n events to 100 streams of 10 categories.
func fill(b *testing.B, n int) driver.Store {
	d := memstore.NewDriver()
	for i := range n {
		r := d.Append(context.Background(), driver.Append{
			Stream: fmt.Sprintf("c%d-%d", i%10, i%100),
			Events: []driver.Event{event()},
		})
		if r.Err != nil {
			b.Fatal(r.Err)
		}
	}
	return d
}

// BenchmarkAppendBatch shows what an event costs, for batches of one append up
// to a thousand.
func BenchmarkAppendBatch(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d := memstore.NewDriver()
			batch := make([]driver.Append, size)
			for i := range batch {
				batch[i] = driver.Append{Stream: fmt.Sprintf("account-%d", i), Events: []driver.Event{event()}}
			}
			b.ReportAllocs()
			for n := 0; n < b.N; n += size {
				for _, r := range d.(driver.Batcher).AppendBatch(context.Background(), batch) {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
		})
	}
}

type deposited struct {
	Account string
	Amount  int64
}

// BenchmarkStoreAppend shows what the portable store adds to an append by one
// caller, most of it encoding.
func BenchmarkStoreAppend(b *testing.B) {
	store := memstore.Open(nil)
	defer store.Close()
	store.Types.Register("account.deposited", deposited{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.Append(context.Background(), "account-1", eventstore.Any, eventstore.Event{Data: deposited{"account-1", 7}}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadStream reads a stream of 1,000 events in one page.
func BenchmarkReadStream(b *testing.B) {
	d := fill(b, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 1000 {
		events, err := d.ReadStream(context.Background(), "c3-33", 0, driver.Forward, 1000)
		if err != nil || len(events) != 1000 {
			b.Fatal(len(events), err)
		}
	}
}

// BenchmarkReadAll shows what an event costs, by what selects it.
func BenchmarkReadAll(b *testing.B) {
	d := fill(b, 100_000)
	for name, f := range map[string]driver.Filter{
		"everything": {},
		"category":   {Categories: []string{"c3"}},
		"streams":    {Streams: []string{"c3-33", "c4-34"}},
		"type":       {Types: []string{"account.deposited"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var from uint64
			for n := 0; n < b.N; {
				events, scanned, err := d.ReadAll(context.Background(), f, from, driver.Forward, 512)
				if err != nil {
					b.Fatal(err)
				}
				if n, from = n+len(events), scanned; len(events) == 0 {
					from = 0
				}
			}
		})
	}
}
