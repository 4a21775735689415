package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// together runs f n times at once and waits for all.
func together(n int, f func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}

func testConcurrent(g *group) {
	g.test("of 16 who expect the same version one wins", func(f *fixture) {
		for round := range 10 {
			expected := int64(round)
			if round == 0 {
				expected = driver.NoStream
			}
			results := make([]driver.Result, 16)
			together(len(results), func(i int) {
				results[i] = f.d.Append(f.ctx, driver.Append{Stream: "s-1", Expected: expected, Events: []driver.Event{event("t", fmt.Sprint(i))}})
			})
			winner := -1
			for i, r := range results {
				if r.Err != nil {
					f.conflict(r.Err, uint64(round)+1)
					continue
				}
				require.Negative(f, winner, "both %d and %d have won", winner, i)
				require.Equal(f, uint64(round)+1, r.Version)
				winner = i
			}
			require.GreaterOrEqual(f, winner, 0, "nobody has won")
			list := f.stream("s-1")
			require.Len(f, list, round+1)
			require.Equal(f, fmt.Sprint(winner), string(list[round].Data))
		}
	})

	g.test("appends with Any to a new stream all succeed, with dense versions", func(f *fixture) {
		const writers, each = 8, 20
		versions := make([][]uint64, writers)
		together(writers, func(i int) {
			for n := range each {
				r := f.d.Append(f.ctx, driver.Append{Stream: "s-1", Events: events(1 + n%3)})
				if r.Err != nil {
					f.Error(r.Err)
					return
				}
				for k := range 1 + n%3 {
					versions[i] = append(versions[i], r.Version-uint64(k))
				}
			}
		})
		have := slices.Concat(versions...)
		slices.Sort(have)
		require.Equal(f, upTo(len(have)), have, "versions told to the writers")
		require.Len(f, f.stream("s-1"), len(have))
	})

	g.test("writers who conflict and try again lose nothing", func(f *fixture) {
		const writers, each = 4, 10
		together(writers, func(i int) {
			for n := range each {
				for at := uint64(0); ; {
					expected := int64(at)
					if at == 0 {
						expected = driver.NoStream
					}
					r := f.d.Append(f.ctx, driver.Append{Stream: "s-1", Expected: expected, Events: []driver.Event{event("t", fmt.Sprintf("%d/%d", i, n))}})
					var conflict *driver.ConflictError
					if errors.As(r.Err, &conflict) {
						at = conflict.Actual
						continue
					}
					if r.Err != nil {
						f.Error(r.Err)
						return
					}
					break
				}
			}
		})
		have := data(f.stream("s-1"))
		require.Len(f, have, writers*each)
		slices.Sort(have)
		require.Len(f, slices.Compact(have), writers*each, "each event once")
	})

	g.test("nothing appears late: readers who page along have the whole log", func(f *fixture) {
		const writers, each = 8, 40
		total := 0
		for n := range each {
			total += writers * (1 + n%3)
		}
		readers := map[string]func(from uint64) ([]driver.Recorded, uint64, error){
			"all": func(from uint64) ([]driver.Recorded, uint64, error) {
				return f.d.ReadAll(f.ctx, driver.Filter{}, from, driver.Forward, 7)
			},
			"category": func(from uint64) ([]driver.Recorded, uint64, error) {
				return f.d.ReadAll(f.ctx, driver.Filter{Categories: []string{"w"}}, from, driver.Forward, 3)
			},
			"type": func(from uint64) ([]driver.Recorded, uint64, error) {
				return f.d.ReadAll(f.ctx, driver.Filter{Types: []string{"t"}}, from, driver.Forward, 1000)
			},
		}
		if c, ok := as[driver.Conditional](f.d); ok {
			readers["tag"] = func(from uint64) ([]driver.Recorded, uint64, error) {
				return c.Query(f.ctx, []driver.QueryItem{{Tags: []string{"all"}}}, from, 5)
			}
		}
		var written atomic.Bool
		var reading sync.WaitGroup
		var mu sync.Mutex
		seen := map[string][]driver.Recorded{}
		for name, read := range readers {
			reading.Go(func() {
				var list []driver.Recorded
				for from := uint64(0); len(list) < total; {
					last, start := written.Load(), from
					page, scanned, err := read(from)
					if err != nil {
						f.Errorf("%s: %v", name, err)
						return
					}
					for _, r := range page {
						if r.Position <= from {
							f.Errorf("%s: position %d was not above %d", name, r.Position, from)
							return
						}
						from = r.Position
					}
					list = append(list, page...)
					if scanned < from {
						f.Errorf("%s: scanned only up to %d, with an event at %d", name, scanned, from)
						return
					}
					if scanned == start && last {
						f.Errorf("%s: has %d of %d events, and there are no more at %d", name, len(list), total, from)
						return
					}
					if from = scanned; len(page) == 0 && len(list) < total {
						// A lost wake-up costs a poll interval, never an event.
						ctx, cancel := context.WithTimeout(f.ctx, 250*time.Millisecond)
						f.d.Wait(ctx, from)
						cancel()
						if f.ctx.Err() != nil {
							f.Errorf("%s: has %d of %d events, at %d", name, len(list), total, from)
							return
						}
					}
				}
				mu.Lock()
				defer mu.Unlock()
				seen[name] = list
			})
		}
		together(writers, func(i int) {
			for n := range each {
				list := events(1 + n%3)
				for k := range list {
					list[k].Tags = []string{"all", fmt.Sprint("writer:", i)}
				}
				a := driver.Append{Stream: fmt.Sprintf("w-%d", (i+n)%5), Events: list}
				var r driver.Result
				if b, ok := as[driver.Batcher](f.d); ok && n%2 == 1 {
					r = b.AppendBatch(f.ctx, []driver.Append{a})[0]
				} else {
					r = f.d.Append(f.ctx, a)
				}
				if r.Err != nil {
					f.Error(r.Err)
				}
			}
		})
		written.Store(true)
		reading.Wait()
		log := f.all(driver.Filter{})
		require.Len(f, log, total)
		for name := range readers {
			require.Equal(f, positions(log), positions(seen[name]), name)
		}
	})

	g.test("as many batches as are allowed can be under way at once", func(f *fixture) {
		b := can[driver.Batcher](f)
		writers := max(f.d.Limits().Writers, 1)
		const each = 20
		together(writers, func(i int) {
			mine, other := fmt.Sprintf("mine-%d", i), fmt.Sprintf("other-%d", i)
			for n := range each {
				at := int64(n)
				if n == 0 {
					at = driver.NoStream
				}
				for k, r := range b.AppendBatch(f.ctx, []driver.Append{
					{Stream: mine, Expected: at, Events: events(1)},
					{Stream: mine, Expected: at, Events: events(5)}, // at n+1 by then
					{Stream: other, Events: events(2)},
				}) {
					if conflict := (*driver.ConflictError)(nil); errors.As(r.Err, &conflict) != (k == 1) {
						f.Errorf("append %d of batch %d: %v", k, n, r.Err)
						return
					}
				}
			}
		})
		for i := range writers {
			require.Len(f, f.stream(fmt.Sprintf("mine-%d", i)), each)
			require.Len(f, f.stream(fmt.Sprintf("other-%d", i)), 2*each)
		}
		require.Len(f, f.all(driver.Filter{}), writers*each*3)
	})

	g.test("a reader never sees part of an append", func(f *fixture) {
		var written atomic.Bool
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			defer written.Store(true)
			for range 60 {
				if r := f.d.Append(f.ctx, driver.Append{Stream: "s-1", Events: events(5)}); r.Err != nil {
					f.Error(r.Err)
					return
				}
			}
		})
		for last := false; !last; {
			last = written.Load()
			list, err := f.d.ReadStream(f.ctx, "s-1", 0, driver.Forward, 1000)
			require.NoError(f, err)
			require.Zero(f, len(list)%5, "%d events of appends of 5", len(list))
		}
	})
}
