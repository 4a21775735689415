// Package workload is what the drivers of databases are measured with: the same events, and
// the same ways to append and to read them.
package workload

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// A Workload makes events of about 150 bytes of JSON and 60 of metadata, for
// streams that live for about ten events. It is used by one goroutine at a time.
type Workload struct {
	r       *rand.Rand
	stream  string
	version int64
	left    int
}

// New returns a Workload that is the same for the same seed.
func New(seed uint64) *Workload { return &Workload{r: rand.New(rand.NewPCG(seed, 77))} }

// Types are those of the events.
var Types = []string{"OrderPlaced.v1", "OrderLineItemAdded", "OrderPaymentTaken.v2", "OrderShipmentCreated", "OrderAddressChanged", "CustomerRelocated", "InvoiceIssued", "InventoryItemReserved", "InventoryItemReleased", "OrderCompleted"}

// Fill makes e the next event. What e has of memory is used again.
func (w *Workload) Fill(e *driver.Event) {
	a, b := w.r.Uint64(), w.r.Uint64()
	binary.LittleEndian.PutUint64(e.ID[:8], a)
	binary.LittleEndian.PutUint64(e.ID[8:], b)
	e.Type = Types[a%uint64(len(Types))]
	e.ContentType = "application/json"
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

// Next fills events and returns the next append, which has them.
func (w *Workload) Next(events []driver.Event) driver.Append {
	for i := range events {
		w.Fill(&events[i])
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

// Preload fills a store with n events of 100 long streams, which it returns, and many short ones.
func Preload(b testing.TB, d driver.Batcher, n int) (long []string) {
	b.Helper()
	w := New(7)
	for i := range 100 {
		long = append(long, fmt.Sprintf("long-%03d", i))
	}
	as := make([]driver.Append, 0, 1000)
	for i := 0; i < n; {
		as = as[:0]
		for ; len(as) < cap(as) && i < n; i++ {
			a := w.Next(make([]driver.Event, 1))
			if i%10 == 0 {
				w.version, w.left = w.version-1, w.left+1
				if w.version == 0 {
					w.left = 0
				}
				a.Stream, a.Expected = long[i/10%100], driver.Any
			}
			as = append(as, a)
		}
		for _, r := range d.AppendBatch(context.Background(), as) {
			require.NoError(b, r.Err)
		}
	}
	return long
}

// Rate reports how many operations, which are events, were done a second.
func Rate(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s") }

// Read reads what Preload wrote, in every way. An operation is one event.
func Read(b *testing.B, d driver.Store, long []string) {
	ctx := context.Background()
	for _, f := range []struct {
		name string
		driver.Filter
	}{
		{"all", driver.Filter{}},
		{"category", driver.Filter{Categories: []string{"order"}}},
		{"type", driver.Filter{Types: Types[:1]}},
		{"streams", driver.Filter{Streams: long[:8]}},
	} {
		b.Run(f.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; {
				for from := uint64(0); n < b.N; {
					events, scanned, err := d.ReadAll(ctx, f.Filter, from, driver.Forward, 512)
					require.NoError(b, err)
					if n += len(events); scanned == from {
						break
					}
					from = scanned
				}
			}
			Rate(b)
		})
	}
	b.Run("stream", func(b *testing.B) {
		b.ReportAllocs()
		for n, i := 0, 0; n < b.N; i++ {
			events, err := d.ReadStream(ctx, long[i%len(long)], 0, driver.Forward, 512)
			require.NoError(b, err)
			n += len(events)
		}
		Rate(b)
	})
}

// Atomic appends an event to each of two streams, in turn both at once and one after the other, and
// reports the median of each in microseconds. An operation is both, four events.
func Atomic(b *testing.B, d driver.Store) {
	ctx := context.Background()
	v, w := New(1000), New(1001)
	next := func() []driver.Append {
		return []driver.Append{v.Next(make([]driver.Event, 1)), w.Next(make([]driver.Event, 1))}
	}
	var once, after []time.Duration
	for range b.N {
		as := next()
		begin := time.Now()
		_, err := d.(driver.Atomic).AppendAtomic(ctx, as, nil)
		once = append(once, time.Since(begin))
		require.NoError(b, err)
		as = next()
		begin = time.Now()
		for _, a := range as {
			require.NoError(b, d.Append(ctx, a).Err)
		}
		after = append(after, time.Since(begin))
	}
	for name, list := range map[string][]time.Duration{"at-once-µs": once, "one-after-the-other-µs": after} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds()), name)
	}
}
