package drivertest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// A tagged is an event of the log that the tag tests read.
type tagged struct {
	stream, typ string
	tags        []string
}

// taggedSample is a log in which types and tags meet in every way.
func taggedSample() []tagged {
	return []tagged{
		{"user-1", "named", []string{"user:1", "name:ann"}},
		{"user-2", "named", []string{"user:2", "name:bob"}},
		{"course-1", "opened", []string{"course:1"}},
		{"user-1", "enrolled", []string{"user:1", "course:1"}},
		{"user-2", "enrolled", []string{"course:1", "user:2"}},
		{"user-1", "named", []string{"name:cid", "user:1"}},
		{"other-1", "named", nil},
		{"other-1", "opened", nil},
		{"course-2", "opened", []string{"course:2"}},
		{"user-1", "enrolled", []string{"user:1", "course:2"}},
		{"course-1", "closed", []string{"course:1"}},
		{"other-2", "Named", []string{"User:1"}},
		{"other-2", "named", []string{"user:10", "user:1 "}},
	}
}

// matchItems is the definition of a query, written once more, without the
// driver's own code.
func matchItems(items []driver.QueryItem, stream, typ string, tags []string) bool {
	if len(items) == 0 {
		return stream[0] != '$'
	}
	for _, item := range items {
		ok := len(item.Types) == 0 || slices.Contains(item.Types, typ)
		for _, tag := range item.Tags {
			ok = ok && slices.Contains(tags, tag)
		}
		if ok {
			return true
		}
	}
	return false
}

func testConditional(g *group) {
	type (
		q = []driver.QueryItem
		s = []string
	)
	queries := []struct {
		name  string
		items q
	}{
		{"no items", nil},
		{"one type", q{{Types: s{"named"}}}},
		{"one of several types", q{{Types: s{"closed", "opened"}}}},
		{"a type that does not occur", q{{Types: s{"none"}}}},
		{"one tag", q{{Tags: s{"user:1"}}}},
		{"all of two tags", q{{Tags: s{"course:1", "user:1"}}}},
		{"all of two tags that never meet", q{{Tags: s{"course:1", "name:ann"}}}},
		{"all of two tags of which one does not occur", q{{Tags: s{"user:1", "none"}}}},
		{"a tag that does not occur", q{{Tags: s{"none"}}}},
		{"a tag that is a prefix of another", q{{Tags: s{"user:"}}}},
		{"a type with a tag", q{{Types: s{"enrolled"}, Tags: s{"course:1"}}}},
		{"types with a tag", q{{Types: s{"closed", "enrolled"}, Tags: s{"course:1"}}}},
		{"types with tags", q{{Types: s{"named", "enrolled"}, Tags: s{"course:2", "user:1"}}}},
		{"a type whose tag is that of another type", q{{Types: s{"opened"}, Tags: s{"user:1"}}}},
		{"one item or another", q{{Types: s{"opened"}}, {Tags: s{"user:2"}}}},
		{"one item or another, the later events first", q{{Types: s{"closed"}}, {Tags: s{"user:2"}}, {Types: s{"named"}, Tags: s{"name:ann"}}}},
		{"items that overlap", q{{Tags: s{"user:1"}}, {Types: s{"enrolled"}}, {Tags: s{"course:1"}}}},
		{"items of which one matches nothing", q{{Tags: s{"none"}}, {Types: s{"closed"}}}},
		{"an item twice", q{{Types: s{"opened"}}, {Types: s{"opened"}}}},
		{"tags that differ in case", q{{Tags: s{"User:1"}}}},
	}
	write := func(f *fixture) (driver.Conditional, []driver.Recorded) {
		f.Helper()
		c := can[driver.Conditional](f)
		for i, e := range taggedSample() {
			f.append(e.stream, driver.Any, event(e.typ, fmt.Sprint(i), e.tags...))
		}
		return c, f.all(driver.Filter{})
	}
	query := func(f *fixture, c driver.Conditional, items q, after uint64, limit int) []driver.Recorded {
		f.Helper()
		return f.pages(driver.Forward, limit, func(from uint64) ([]driver.Recorded, uint64, error) {
			return c.Query(f.ctx, items, max(from, after), limit)
		})
	}
	to := func(stream string, tags ...string) []driver.StreamEvent {
		return []driver.StreamEvent{{Stream: stream, Event: event("new", "new", tags...)}}
	}

	for _, t := range queries {
		g.test("a query selects by "+t.name, func(f *fixture) {
			c, log := write(f)
			for _, limit := range []int{1, 3, 100} {
				for _, after := range append([]uint64{0}, positions(log)...) {
					want := slices.DeleteFunc(slices.Clone(log), func(r driver.Recorded) bool {
						return r.Position <= after || !matchItems(t.items, r.Stream, r.Type, r.Tags)
					})
					require.Equal(f, nilIfEmpty(want), nilIfEmpty(query(f, c, t.items, after, limit)), "after %d, %d at once", after, limit)
				}
			}
		})
	}

	for _, t := range queries[1:] {
		g.test("a condition refuses by "+t.name, func(f *fixture) {
			c, log := write(f)
			for _, after := range append([]uint64{0}, positions(log)...) {
				first := slices.IndexFunc(log, func(r driver.Recorded) bool {
					return r.Position > after && matchItems(t.items, r.Stream, r.Type, r.Tags)
				})
				if first >= 0 {
					r := c.AppendIf(f.ctx, t.items, after, to("x-1"), nil)
					f.conflict(r.Err, log[first].Position)
				}
			}
			require.Equal(f, log, f.all(driver.Filter{}), "a refusal writes nothing")
			require.Equal(f, driver.StreamInfo{Name: "x-1"}, f.info("x-1"))
			// What is appended here matches none of the conditions.
			n := 0
			for _, after := range append([]uint64{0}, positions(log)...) {
				if !slices.ContainsFunc(log, func(r driver.Recorded) bool {
					return r.Position > after && matchItems(t.items, r.Stream, r.Type, r.Tags)
				}) {
					r := c.AppendIf(f.ctx, t.items, after, to("x-1"), nil)
					require.NoError(f, r.Err, "after %d", after)
					n++
				}
			}
			require.NotZero(f, n, "after the head every condition holds")
			require.Equal(f, upTo(n), versions(f.stream("x-1")))
		})
	}

	g.test("no items mean no condition", func(f *fixture) {
		c, _ := write(f)
		require.NoError(f, c.AppendIf(f.ctx, nil, 0, to("x-1"), nil).Err)
		require.NoError(f, c.AppendIf(f.ctx, q{}, 0, to("x-1"), nil).Err)
		require.Len(f, f.stream("x-1"), 2)
	})

	g.test("a condition on an empty log holds", func(f *fixture) {
		c := can[driver.Conditional](f)
		require.NoError(f, c.AppendIf(f.ctx, q{{Tags: s{"a"}}}, 0, to("x-1", "a"), nil).Err)
		f.conflicts(c.AppendIf(f.ctx, q{{Tags: s{"a"}}}, 0, to("x-1", "a"), nil).Err)
	})

	g.test("events go to the ends of their own streams", func(f *fixture) {
		c := can[driver.Conditional](f)
		f.fill("a-1", 2)
		list := []driver.StreamEvent{
			{Stream: "a-1", Event: event("t", "1", "x")},
			{Stream: "b-1", Event: event("t", "2", "y")},
			{Stream: "a-1", Event: event("t", "3")},
			{Stream: "c-1", Event: event("t", "4", "x", "y")},
		}
		r := c.AppendIf(f.ctx, q{{Tags: s{"x"}}}, 0, list, nil)
		require.NoError(f, r.Err)
		checkResult(f, r, 4)
		require.Equal(f, upTo(4), versions(f.stream("a-1")))
		require.Equal(f, upTo(1), versions(f.stream("b-1")))
		require.Equal(f, upTo(1), versions(f.stream("c-1")))
		log := f.all(driver.Filter{})[2:]
		for i, e := range list {
			same(f, e.Event, log[i])
			require.Equal(f, e.Stream, log[i].Stream)
			require.True(f, r.Time.Equal(log[i].Time))
		}
		require.Equal(f, r.Last, log[3].Position)
		if r.Positions != nil {
			require.Equal(f, r.Positions, positions(log))
		}
		require.Equal(f, uint64(5), f.append("a-1", 4, events(1)...).Version)
		require.Equal(f, uint64(2), f.append("b-1", 1, events(1)...).Version)
	})

	g.test("it is all or none", func(f *fixture) {
		c, d := can[driver.Conditional](f), can[driver.Deleter](f)
		f.fill("a-1", 2)
		require.NoError(f, d.Purge(f.ctx, "gone-1"))
		f.unchanged([]string{"a-1", "b-1"}, func() {
			r := c.AppendIf(f.ctx, nil, 0, []driver.StreamEvent{
				{Stream: "a-1", Event: event("t", "")}, {Stream: "b-1", Event: event("t", "")}, {Stream: "gone-1", Event: event("t", "")},
			}, nil)

			require.ErrorIs(f, r.Err, driver.ErrStreamDeleted)
		})
	})

	list := func() []driver.StreamEvent {
		return []driver.StreamEvent{
			{Stream: "a-1", Event: event("t", "1", "x")}, {Stream: "b-1", Event: event("t", "2", "y", "z")}, {Stream: "a-1", Event: event("u", "3")},
		}
	}
	g.test("fn has all events as they are recorded, once", func(f *fixture) {
		c, log := write(f)
		can[driver.Inliner](f)
		f.fill("a-1", 2)
		var calls [][]driver.Recorded
		r := c.AppendIf(f.ctx, q{{Tags: s{"x"}}}, 0, list(), func(_ any, list []driver.Recorded) error {
			calls = append(calls, slices.Clone(list))
			return nil
		})
		require.NoError(f, r.Err)
		require.Len(f, calls, 1)
		require.Equal(f, f.all(driver.Filter{})[len(log)+2:], calls[0])
	})

	g.test("nothing is written if fn fails, and its error is returned", func(f *fixture) {
		c, _ := write(f)
		can[driver.Inliner](f)
		f.fill("a-1", 2)
		refused := errors.New("refused")
		f.unchanged(s{"a-1", "b-1"}, func() {
			r := c.AppendIf(f.ctx, q{{Tags: s{"x"}}}, 0, list(), func(any, []driver.Recorded) error { return refused })
			require.ErrorIs(f, r.Err, refused)
		})
		require.NoError(f, c.AppendIf(f.ctx, q{{Tags: s{"x"}}}, 0, list(), nil).Err)
		require.Equal(f, upTo(4), versions(f.stream("a-1")))
	})

	g.test("fn is not called where the condition does not hold", func(f *fixture) {
		c, log := write(f)
		can[driver.Inliner](f)
		r := c.AppendIf(f.ctx, q{{Types: s{"closed"}}}, 0, list(), func(any, []driver.Recorded) error {
			f.Error("fn was called")
			return nil
		})
		f.conflict(r.Err, log[10].Position)
	})

	g.test("what an ordinary append tags moves the boundary", func(f *fixture) {
		c := can[driver.Conditional](f)
		at := f.append("a-1", driver.Any, event("t", "", "x")).Last
		boundary := q{{Tags: s{"x"}}}
		f.append("b-1", driver.Any, event("t", "", "y"))
		require.NoError(f, c.AppendIf(f.ctx, boundary, at, to("c-1"), nil).Err)
		moved := f.append("b-1", driver.Any, event("t", "", "y", "x")).Last
		f.conflict(c.AppendIf(f.ctx, boundary, at, to("c-1"), nil).Err, moved)
		require.NoError(f, c.AppendIf(f.ctx, boundary, moved, to("c-1"), nil).Err)
	})

	g.test("a boundary between events of one append is seen", func(f *fixture) {
		c := can[driver.Conditional](f)
		f.append("a-1", driver.Any, event("t", "", "x"), event("t", "", "y"), event("t", "", "x"))
		ps := positions(f.stream("a-1"))
		f.conflict(c.AppendIf(f.ctx, q{{Tags: s{"x"}}}, ps[1], to("b-1"), nil).Err, ps[2])
		require.NoError(f, c.AppendIf(f.ctx, q{{Tags: s{"y"}}}, ps[1], to("b-1"), nil).Err)
	})

	g.test("scanned reaches the head", func(f *fixture) {
		c, _ := write(f)
		last := f.appendAll("other-9", events(20)...).Last
		for _, items := range []q{{{Tags: s{"none"}}}, {{Types: s{"none"}}}, {{Tags: s{"user:1"}}}, nil} {
			var scanned uint64
			f.eventually("scanned is at the head", func() bool {
				from := scanned
				var err error
				_, scanned, err = c.Query(f.ctx, items, from, 1000)
				require.NoError(f, err)
				require.GreaterOrEqual(f, scanned, from)
				return scanned >= last
			})
		}
	})

	g.test("scanned stays below what a full page left out", func(f *fixture) {
		c, log := write(f)
		list, scanned, err := c.Query(f.ctx, q{{Tags: s{"user:1"}}}, 0, 2)
		require.NoError(f, err)
		require.LessOrEqual(f, len(list), 2)
		require.Less(f, scanned, log[5].Position)
	})

	g.test("a query without items leaves out streams of the system", func(f *fixture) {
		c := can[driver.Conditional](f)
		f.fill("$sys-1", 3)
		f.fill("a-1", 2)
		f.fill("$sys-1", 3)
		require.Equal(f, upTo(2), versions(query(f, c, nil, 0, 2)))
	})

	g.test("what was removed no longer matches", func(f *fixture) {
		c, d := can[driver.Conditional](f), can[driver.Deleter](f)
		list := []driver.Event{event("t", "1", "x"), event("t", "2", "x"), event("t", "3", "y")}
		f.append("a-1", driver.Any, list...)
		f.append("b-1", driver.Any, event("t", "4", "y"))
		require.NoError(f, d.Truncate(f.ctx, "a-1", 3))
		require.Empty(f, query(f, c, q{{Tags: s{"x"}}}, 0, 10))
		require.Equal(f, []string{"3", "4"}, data(query(f, c, q{{Tags: s{"y"}}}, 0, 10)))
		require.NoError(f, c.AppendIf(f.ctx, q{{Tags: s{"x"}}}, 0, to("c-1"), nil).Err)
		require.NoError(f, d.Purge(f.ctx, "a-1"))
		require.Equal(f, []string{"4"}, data(query(f, c, q{{Tags: s{"y"}}}, 0, 10)))
	})

	g.test("of 16 with the same boundary one wins", func(f *fixture) {
		c := can[driver.Conditional](f)
		boundary := q{{Tags: s{"seat:1"}}}
		var after uint64
		for round := range 5 {
			results := make([]driver.Result, 16)
			together(len(results), func(i int) {
				results[i] = c.AppendIf(f.ctx, boundary, after, to(fmt.Sprintf("u-%d", i), "seat:1"), nil)
			})
			wins := 0
			for _, r := range results {
				if r.Err == nil {
					wins++
					after = r.Last
				} else {
					f.conflicts(r.Err)
				}
			}
			require.Equal(f, 1, wins)
			require.Len(f, query(f, c, boundary, 0, 100), round+1)
		}
	})

	g.test("of two with boundaries that overlap one wins", func(f *fixture) {
		c := can[driver.Conditional](f)
		var after uint64
		for range 10 {
			results := make([]driver.Result, 2)
			together(2, func(i int) {
				mine, both := fmt.Sprint("mine:", i), "both"
				results[i] = c.AppendIf(f.ctx, q{{Tags: s{mine}}, {Types: s{"new"}, Tags: s{both}}}, after, to("a-1", mine, both), nil)
			})
			require.NotEqual(f, results[0].Err == nil, results[1].Err == nil, "%v, %v", results[0].Err, results[1].Err)
			after = max(results[0].Last, results[1].Last)
		}
	})

	g.test("no event ever lies between a boundary and what was appended under it", func(f *fixture) {
		c := can[driver.Conditional](f)
		boundary := q{{Tags: s{"x"}}}
		var mu sync.Mutex
		under := map[uint64]uint64{} // by position: the boundary
		var done atomic.Int32
		turns := make(chan struct{}, 2)
		together(6, func(i int) {
			if i < 2 {
				// Whenever one is about to append under the boundary, another
				// appends what the boundary is about.
				for range turns {
					if r := f.d.Append(f.ctx, driver.Append{Stream: fmt.Sprint("plain-", i), Events: []driver.Event{event("t", "", "x")}}); r.Err != nil {
						f.Error(r.Err)
						return
					}
				}
				return
			}
			defer func() {
				if done.Add(1) == 4 {
					close(turns)
				}
			}()
			var after uint64
			for n := range 25 {
				select {
				case turns <- struct{}{}:
				default:
				}
				r := c.AppendIf(f.ctx, boundary, after, to(fmt.Sprint("under-", i), fmt.Sprint("n:", n), "x"), nil)
				var conflict *driver.ConflictError
				switch {
				case r.Err == nil:
					mu.Lock()
					under[r.Last] = after
					mu.Unlock()
					after = r.Last
				case errors.As(r.Err, &conflict):
					after = max(after, conflict.Actual)
				default:
					f.Error(r.Err)
					return
				}
			}
		})
		for _, r := range query(f, c, boundary, 0, 100) {
			for last, after := range under {
				require.False(f, r.Position > after && r.Position < last, "%d lies between the boundary %d and %d", r.Position, after, last)
			}
		}
	})

	g.test("boundaries that have nothing in common do not conflict", func(f *fixture) {
		c := can[driver.Conditional](f)
		const writers, each = 8, 10
		together(writers, func(i int) {
			tag := fmt.Sprint("seat:", i)
			var after uint64
			for range each {
				r := c.AppendIf(f.ctx, q{{Tags: s{tag}}, {Types: s{tag}}}, after, to("a-1", tag), nil)
				if r.Err != nil {
					f.Error(r.Err)
					return
				}
				after = r.Last
			}
		})
		require.Equal(f, upTo(writers*each), versions(f.stream("a-1")))
	})
}
