package esdbdev_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// BenchmarkAppend appends one event at a time to a store in memory, by the official
// client and over a real connection: alone, and by 64 callers to a stream each.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			f := start(b, nil)
			var n atomic.Int64
			b.SetParallelism(callers)
			body := func(next func() bool) {
				stream := fmt.Sprint("s-", n.Add(1))
				for next() {
					if _, err := f.AppendToStream(context.Background(), stream, esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("a")); err != nil {
						b.Error(err)
						return
					}
				}
			}
			b.ResetTimer()
			if callers == 1 {
				body(b.Loop)
				return
			}
			b.RunParallel(func(pb *testing.PB) { body(pb.Next) })
		})
	}
}

// BenchmarkRead reads a stream of 10,000 events; an operation is one event.
func BenchmarkRead(b *testing.B) {
	f := start(b, nil)
	var list []esdb.EventData
	for range 2500 {
		list = append(list, event("a"))
	}
	for range 4 {
		f.must(b, "s-1", esdb.Any{}, fresh(list)...)
	}
	n := 0
	for b.Loop() {
		if n--; n >= 0 {
			continue
		}
		got, err := collect(f.ReadStream(b.Context(), "s-1", esdb.ReadStreamOptions{}, 10_000))
		if err != nil || len(got) != 10_000 {
			b.Fatal(len(got), err)
		}
		n = len(got) - 1
	}
}

// fresh returns events with ids of their own.
func fresh(list []esdb.EventData) []esdb.EventData {
	out := make([]esdb.EventData, len(list))
	for i := range list {
		out[i] = event(list[i].EventType)
	}
	return out
}
