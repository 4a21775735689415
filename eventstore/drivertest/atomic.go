package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// atomically appends to several streams, and checks what holds for every result.
func (f *fixture) atomically(as ...driver.Append) ([]driver.Result, error) {
	f.Helper()
	results, err := can[driver.Atomic](f).AppendAtomic(f.ctx, as, nil)
	if err == nil {
		checkResults(f, results, as)
	}
	return results, err
}

// checkResults checks what every successful atomic append promises.
func checkResults(t require.TestingT, results []driver.Result, as []driver.Append) {
	require.Len(t, results, len(as), "one result an append")
	var last uint64
	for i, r := range results {
		require.NoError(t, r.Err, "Err is not set in any result")
		checkResult(t, r, len(as[i].Events))
		if r.Positions != nil {
			require.Greater(t, r.Positions[0], last, "positions are in the order of the appends")
		}
		require.Greater(t, r.Last, last, "positions are in the order of the appends")
		last = r.Last
	}
}

// conflictIn checks that err is a *ConflictError of a stream at version actual.
func (f *fixture) conflictIn(err error, stream string, actual uint64) {
	f.Helper()
	require.Equal(f, driver.ConflictError{Stream: stream, Actual: actual}, *f.conflicts(err))
}

// to is an append of n events.
func to(stream string, expected int64, n int) driver.Append {
	return driver.Append{Stream: stream, Expected: expected, Events: events(n)}
}

func testAtomic(g *group) {
	g.test("every stream has its events, as its result says", func(f *fixture) {
		can[driver.Atomic](f)
		f.fill("b-1", 2)
		as := []driver.Append{to("a-1", driver.NoStream, 2), to("b-1", 2, 3), to("c", driver.Any, 1), to("$sys-1", driver.NoStream, 2)}
		as[1].Events[1] = event("other", "data\x00", "x", "y")
		as[1].Events[1].Metadata = map[string]string{"k": "v"}
		results, err := f.atomically(as...)
		require.NoError(f, err)
		var list []driver.Recorded
		for i, version := range []uint64{2, 5, 1, 2} {
			r := results[i]
			require.Equal(f, version, r.Version)
			require.False(f, r.Time.Before(results[max(i, 1)-1].Time), "times are in the order of positions")
			read := f.stream(as[i].Stream)
			read = read[len(read)-len(as[i].Events):]
			for k, e := range as[i].Events {
				same(f, e, read[k])
				require.True(f, r.Time.Equal(read[k].Time))
			}
			require.Equal(f, r.Last, read[len(read)-1].Position)
			if r.Positions != nil {
				require.Equal(f, r.Positions, positions(read))
			}
			list = append(list, read...)
		}
		require.True(f, slices.IsSorted(positions(list)), "positions are in the order of the appends")
		log := f.all(driver.Filter{System: true})
		require.Equal(f, list, log[2:])
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		require.Equal(f, results[3].Last, head)
	})

	g.test("positions are dense where they are so of appends", func(f *fixture) {
		can[driver.Atomic](f)
		last := f.append("a-1", driver.Any, events(3)...).Last
		ps := positions(f.stream("a-1"))
		if !f.d.Limits().Exclusive || last != ps[0]+2 || f.append("b-1", driver.Any, events(1)...).Last != last+1 {
			f.Skip("they are not")
		}
		results, err := f.atomically(to("b-1", 1, 2), to("a-1", 3, 1), to("c-1", driver.Any, 2))
		require.NoError(f, err)
		require.Equal(f, []uint64{last + 3, last + 4, last + 6}, []uint64{results[0].Last, results[1].Last, results[2].Last})
	})

	g.test("a single stream is an append", func(f *fixture) {
		for i := range 5 {
			expected := int64(2 * i)
			if i == 0 {
				expected = driver.NoStream
			}
			results, err := f.atomically(to("a-1", expected, 2))
			require.NoError(f, err)
			require.Equal(f, uint64(2*i+2), results[0].Version)
		}
		_, err := f.atomically(to("a-1", 9, 1))
		f.conflictIn(err, "a-1", 10)
	})

	g.test("as many streams as events are allowed", func(f *fixture) {
		can[driver.Atomic](f)
		n, _ := appendEvents(f)
		n = min(n, 200)
		var as []driver.Append
		for i := range n {
			as = append(as, to(fmt.Sprintf("s-%d", n-i), driver.NoStream, 1))
		}
		_, err := f.atomically(as...)
		require.NoError(f, err)
		require.Len(f, f.all(driver.Filter{}), n)
		_, err = f.atomically(append(slices.Clone(as[:n-1]), to("s-1", 2, 1))...)
		f.conflictIn(err, as[0].Stream, 1)
	})

	// What may stand in the way of one of three appends.
	for _, c := range []struct {
		name     string
		expected int64
		prepare  func(f *fixture, stream string)
		actual   uint64
	}{
		{"is at 3 and expected at 2", 2, func(f *fixture, stream string) { f.fill(stream, 3) }, 3},
		{"is at 3 and expected at 4", 4, func(f *fixture, stream string) { f.fill(stream, 3) }, 3},
		{"is at 3 and expected not to exist", driver.NoStream, func(f *fixture, stream string) { f.fill(stream, 3) }, 3},
		{"does not exist and is expected at 1", 1, func(*fixture, string) {}, 0},
		{"does not exist and is expected to", driver.StreamExists, func(*fixture, string) {}, 0},
		{"was deleted and is expected at its version", 3, drop, 0},
		{"was deleted and is expected to exist", driver.StreamExists, drop, 0},
	} {
		g.test("nothing is written where one stream "+c.name, func(f *fixture) {
			can[driver.Atomic](f)
			f.fill("old-1", 2)
			c.prepare(f, "odd-1")
			for i := range 3 {
				as := []driver.Append{to("new-1", driver.NoStream, 2), to("old-1", 2, 1)}
				as = slices.Insert(as, i, to("odd-1", c.expected, 2))
				f.unchanged([]string{"odd-1", "new-1", "old-1"}, func() {
					_, err := f.atomically(as...)
					f.conflictIn(err, "odd-1", c.actual)
				})
			}
			// It uses up no version.
			_, err := f.atomically(to("new-1", driver.NoStream, 1), to("old-1", 2, 1), to("odd-1", driver.Any, 1))
			require.NoError(f, err)
		})
	}

	g.test("nothing is written where one stream was purged", func(f *fixture) {
		can[driver.Atomic](f)
		d := can[driver.Deleter](f)
		f.fill("old-1", 2)
		f.fill("odd-1", 2)
		require.NoError(f, d.Purge(f.ctx, "odd-1"))
		for i := range 3 {
			as := slices.Insert([]driver.Append{to("new-1", driver.NoStream, 2), to("old-1", 2, 1)}, i, to("odd-1", driver.Any, 2))
			f.unchanged([]string{"odd-1", "new-1", "old-1"}, func() {
				_, err := f.atomically(as...)
				require.ErrorIs(f, err, driver.ErrStreamDeleted)
			})
		}
	})

	g.test("of several that cannot be made the first is told", func(f *fixture) {
		can[driver.Atomic](f)
		f.fill("a-1", 1)
		f.fill("b-1", 2)
		for _, order := range [][]string{{"a-1", "b-1", "c-1"}, {"c-1", "b-1", "a-1"}, {"b-1", "a-1", "c-1"}, {"c-1", "a-1", "b-1"}} {
			as := []driver.Append{to("fine-1", driver.Any, 1)}
			for _, name := range order {
				as = append(as, to(name, 7, 1))
			}
			_, err := f.atomically(as...)
			f.conflictIn(err, order[0], map[string]uint64{"a-1": 1, "b-1": 2}[order[0]])
		}
		d := can[driver.Deleter](f)
		require.NoError(f, d.Purge(f.ctx, "c-1"))
		_, err := f.atomically(to("c-1", driver.Any, 1), to("a-1", 7, 1))
		require.ErrorIs(f, err, driver.ErrStreamDeleted)
		_, err = f.atomically(to("a-1", 7, 1), to("c-1", driver.Any, 1))
		f.conflictIn(err, "a-1", 1)
	})

	g.test("every expectation that holds is taken, and versions go on", func(f *fixture) {
		can[driver.Atomic](f)
		drop(f, "gone-1")
		drop(f, "gone-2")
		f.fill("a-1", 2)
		f.fill("b-1", 2)
		f.fill("cut-1", 4)
		require.NoError(f, can[driver.Deleter](f).Truncate(f.ctx, "cut-1", 4))
		results, err := f.atomically(to("gone-1", driver.NoStream, 2), to("a-1", driver.StreamExists, 1), to("gone-2", driver.Any, 1), to("b-1", 2, 2),
			to("new-1", driver.Any, 1), to("cut-1", 4, 1))
		require.NoError(f, err)
		for i, version := range []uint64{5, 3, 4, 4, 1, 5} {
			require.Equal(f, version, results[i].Version)
		}
		require.Equal(f, []uint64{4, 5}, versions(f.stream("gone-1")))
		require.Equal(f, []uint64{4}, versions(f.stream("gone-2")))
		require.Equal(f, []uint64{4, 5}, versions(f.stream("cut-1")))
		require.Equal(f, uint64(6), f.append("gone-1", 5, events(1)...).Version)
	})

	g.test("together they keep within the limits of one append", func(f *fixture) {
		can[driver.Atomic](f)
		n, limited := appendEvents(f)
		if !limited {
			f.Skip("an append may have any number of events")
		}
		f.fill("a-1", 1)
		f.unchanged([]string{"a-1", "b-1"}, func() {
			_, err := f.atomically(to("a-1", 1, n), to("b-1", driver.NoStream, 1))
			require.ErrorIs(f, err, driver.ErrTooLarge)
		})
		_, err := f.atomically(to("a-1", 1, n-1), to("b-1", driver.NoStream, 1))
		require.NoError(f, err)
	})

	g.test("an event over the limit is too large and nothing is written", func(f *fixture) {
		can[driver.Atomic](f)
		n := f.d.Limits().EventBytes
		if n == 0 || n > 64<<20 {
			f.Skip("an event has no limit of the driver's own that could be tried")
		}
		f.fill("a-1", 1)
		over := to("b-1", driver.Any, 2)
		over.Events[1].Data = make([]byte, n+1)
		f.unchanged([]string{"a-1", "b-1"}, func() {
			_, err := f.atomically(to("a-1", 1, 1), over)
			require.ErrorIs(f, err, driver.ErrTooLarge)
		})
	})

	g.test("what is passed in is not kept", func(f *fixture) {
		can[driver.Atomic](f)
		e, want := event("t", "data", "tag"), event("t", "data", "tag")
		want.ID = e.ID
		_, err := f.atomically(driver.Append{Stream: "a-1", Events: []driver.Event{e}}, to("b-1", driver.Any, 1))
		require.NoError(f, err)
		copy(e.Data, "????")
		e.Tags[0] = "?"
		same(f, want, f.stream("a-1")[0])
	})

	g.test("what it tags moves a boundary", func(f *fixture) {
		can[driver.Atomic](f)
		c := can[driver.Conditional](f)
		results, err := f.atomically(to("a-1", driver.Any, 1), driver.Append{Stream: "b-1", Events: []driver.Event{event("t", "", "x")}})
		require.NoError(f, err)
		boundary := []driver.QueryItem{{Tags: []string{"x"}}}
		f.conflict(c.AppendIf(f.ctx, boundary, 0, []driver.StreamEvent{{Stream: "c-1", Event: event("t", "")}}, nil).Err, results[1].Last)
	})

	g.test("fn has all events as they are recorded, once", func(f *fixture) {
		d := can[driver.Atomic](f)
		can[driver.Inliner](f)
		f.fill("b-1", 2)
		as := []driver.Append{to("a-1", driver.NoStream, 2), to("b-1", 2, 1), to("c-1", driver.Any, 3)}
		as[0].Events[1] = event("other", "data", "x")
		as[0].Events[1].Metadata = map[string]string{"k": "v"}
		var calls [][]driver.Recorded
		results, err := d.AppendAtomic(f.ctx, as, func(_ any, list []driver.Recorded) error {
			calls = append(calls, slices.Clone(list))
			return nil
		})
		require.NoError(f, err)
		checkResults(f, results, as)
		require.Len(f, calls, 1)
		require.Equal(f, f.all(driver.Filter{})[2:], calls[0])
	})

	g.test("nothing is written if fn fails, and its error is returned", func(f *fixture) {
		d := can[driver.Atomic](f)
		can[driver.Inliner](f)
		f.fill("a-1", 1)
		refused := errors.New("refused")
		f.unchanged([]string{"a-1", "b-1"}, func() {
			_, err := d.AppendAtomic(f.ctx, []driver.Append{to("a-1", 1, 2), to("b-1", driver.NoStream, 2)}, func(any, []driver.Recorded) error { return refused })
			require.ErrorIs(f, err, refused)
		})
		results, err := f.atomically(to("a-1", 1, 1), to("b-1", driver.NoStream, 1))
		require.NoError(f, err)
		require.Equal(f, uint64(2), results[0].Version)
	})

	g.test("fn is not called where one stream is not as expected", func(f *fixture) {
		d := can[driver.Atomic](f)
		can[driver.Inliner](f)
		f.fill("b-1", 1)
		_, err := d.AppendAtomic(f.ctx, []driver.Append{to("a-1", driver.Any, 1), to("b-1", 3, 1)}, func(any, []driver.Recorded) error {
			f.Error("fn was called")
			return nil
		})
		f.conflictIn(err, "b-1", 1)
	})

	g.test("of 16 over streams that overlap, named in any order, one wins", func(f *fixture) {
		can[driver.Atomic](f)
		names := []string{"a-1", "b-1", "c-1"}
		at := map[string]uint64{}
		expected := func(stream string) int64 {
			if at[stream] == 0 {
				return driver.NoStream
			}
			return int64(at[stream])
		}
		for range 8 {
			requests := make([][]driver.Append, 16)
			for i := range requests {
				// Of three streams any two pairs overlap.
				x, y := names[i%3], names[(i+1+i/3%2)%3]
				requests[i] = []driver.Append{to(x, expected(x), 1), to(y, expected(y), 1+i%2)}
			}
			results, errs := make([][]driver.Result, 16), make([]error, 16)
			together(16, func(i int) { results[i], errs[i] = f.d.(driver.Atomic).AppendAtomic(f.ctx, requests[i], nil) })
			winner := -1
			for i, err := range errs {
				if err != nil {
					conflict := f.conflicts(err)
					require.Greater(f, conflict.Actual, at[conflict.Stream])
					continue
				}
				require.Negative(f, winner, "both %d and %d have won", winner, i)
				checkResults(f, results[i], requests[i])
				winner = i
			}
			require.GreaterOrEqual(f, winner, 0, "nobody has won")
			for k, a := range requests[winner] {
				at[a.Stream] += uint64(len(a.Events))
				require.Equal(f, at[a.Stream], results[winner][k].Version)
			}
		}
		for _, name := range names {
			require.Len(f, f.stream(name), int(at[name]))
		}
	})

	g.test("with Any all succeed, in whatever order they name their streams", func(f *fixture) {
		can[driver.Atomic](f)
		const writers, each = 6, 15
		names := []string{"a-1", "b-1", "c-1", "d-1"}
		together(writers, func(i int) {
			for n := range each {
				as := []driver.Append{to(names[(i+n)%4], driver.Any, 1), to(names[(i+n+1+i%3)%4], driver.Any, 1)}
				if i%2 == 0 {
					slices.Reverse(as)
				}
				if _, err := f.d.(driver.Atomic).AppendAtomic(f.ctx, as, nil); err != nil {
					f.Error(err)
					return
				}
			}
		})
		total := 0
		for _, name := range names {
			total += len(f.stream(name)) // which checks that versions are dense
		}
		require.Equal(f, 2*writers*each, total)
	})

	g.test("it and appends to its streams exclude each other", func(f *fixture) {
		d := can[driver.Atomic](f)
		expected := driver.NoStream
		for round := range 20 {
			var whole error
			var single [2]driver.Result
			together(3, func(i int) {
				switch i {
				case 2:
					_, whole = d.AppendAtomic(f.ctx, []driver.Append{to("a-1", expected, 1), to("b-1", expected, 1)}, nil)
				case 1:
					if b, ok := as[driver.Batcher](f.d); ok {
						single[1] = b.AppendBatch(f.ctx, []driver.Append{to("b-1", expected, 1)})[0]
						return
					}
					fallthrough
				default:
					single[i] = f.d.Append(f.ctx, to([]string{"a-1", "b-1"}[i], expected, 1))
				}
			})
			version := uint64(round + 1)
			for i, name := range []string{"a-1", "b-1"} {
				if whole == nil {
					f.conflict(single[i].Err, version)
				} else {
					require.NoError(f, single[i].Err, "what has lost stands in nobody's way")
				}
				require.Len(f, f.stream(name), int(version))
			}
			if whole != nil {
				require.Equal(f, version, f.conflicts(whole).Actual)
			}
			expected = int64(version)
		}
	})

	g.test("a reader of the log never sees a part", func(f *fixture) {
		d := can[driver.Atomic](f)
		const rounds = 50
		var over atomic.Bool
		var groups [][]driver.Result
		heads := map[uint64]bool{}
		together(4, func(i int) {
			switch i {
			case 0:
				defer over.Store(true)
				for n := range rounds {
					results, err := d.AppendAtomic(f.ctx, []driver.Append{to("a-1", driver.Any, 2), to("b-1", driver.Any, 1), to(fmt.Sprintf("c-%d", n), driver.NoStream, 2)}, nil)
					if err != nil {
						f.Error(err)
						return
					}
					groups = append(groups, results)
				}
			case 1:
				for last := false; !last; {
					last = over.Load()
					head, err := f.d.Head(f.ctx)
					if err != nil {
						f.Error(err)
						return
					}
					heads[head] = true
				}
			default:
				n := 0
				for from := uint64(0); n < 5*rounds && !f.Failed(); {
					page, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{}, from, driver.Forward, 1000)
					if err != nil {
						f.Error(err)
						return
					}
					n, from = n+len(page), scanned
					if len(page) == 0 {
						wait(f, from)
					} else if n%5 != 0 {
						// There must be more that can be read at once.
						if head, err := f.d.Head(f.ctx); err == nil && scanned >= head {
							f.Errorf("the log has %d events of appends of 5, up to %d, and its head is %d", n, scanned, head)
						}
					}
				}
			}
		})
		log := f.all(driver.Filter{})
		for _, results := range groups {
			last := results[2].Last
			end := slices.IndexFunc(log, func(r driver.Recorded) bool { return r.Position == last })
			require.GreaterOrEqual(f, end, 4)
			require.Equal(f, []string{"a-1", "a-1", "b-1"}, []string{log[end-4].Stream, log[end-3].Stream, log[end-2].Stream})
			for _, r := range log[end-4 : end] {
				require.False(f, heads[r.Position], "the head was at %d, within what was appended up to %d", r.Position, last)
			}
		}
	})

	g.test("a reader who has seen an event of one stream sees those of the others", func(f *fixture) {
		d := can[driver.Atomic](f)
		const rounds = 60
		var over atomic.Bool
		together(3, func(i int) {
			if i == 0 {
				defer over.Store(true)
				for range rounds {
					if _, err := d.AppendAtomic(f.ctx, []driver.Append{to("a-1", driver.Any, 1), to("b-1", driver.Any, 1)}, nil); err != nil {
						f.Error(err)
						return
					}
				}
				return
			}
			names := []string{"a-1", "b-1"}
			if i == 2 {
				slices.Reverse(names)
			}
			for last := false; !last; {
				last = over.Load()
				var at [2]uint64
				for k, name := range names {
					page, err := f.d.ReadStream(f.ctx, name, 0, driver.Backward, 1)
					if err != nil {
						f.Error(err)
						return
					}
					if len(page) > 0 {
						at[k] = page[0].Version
					}
				}
				if at[1] < at[0] {
					f.Errorf("%s was at %d, and later %s at %d", names[0], at[0], names[1], at[1])
					return
				}
			}
		})
	})
}

// drop makes a stream that was deleted at version 3.
func drop(f *fixture, stream string) {
	f.Helper()
	d := can[driver.Deleter](f)
	f.fill(stream, 3)
	require.NoError(f, d.Delete(f.ctx, stream, 3))
}

// wait waits for events after a position, but not long.
func wait(f *fixture, after uint64) {
	ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
	defer cancel()
	f.d.Wait(ctx, after)
}
