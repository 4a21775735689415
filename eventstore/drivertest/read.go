package drivertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testReadStream(g *group) {
	for _, c := range []struct {
		name  string
		from  uint64
		dir   driver.Direction
		limit int
		want  []uint64
	}{
		{"forward from 0 begins with the first event", 0, driver.Forward, 3, []uint64{1, 2, 3}},
		{"forward begins with the event above from", 4, driver.Forward, 3, []uint64{5, 6, 7}},
		{"forward ends with the last event", 8, driver.Forward, 5, []uint64{9, 10}},
		{"forward from the last event has none", 10, driver.Forward, 5, nil},
		{"forward from beyond the end has none", 99, driver.Forward, 5, nil},
		{"forward takes the whole stream if the limit is its length", 0, driver.Forward, 10, upTo(10)},
		{"forward takes the whole stream if the limit is larger", 0, driver.Forward, 1000, upTo(10)},
		{"forward takes one event if that is the limit", 5, driver.Forward, 1, []uint64{6}},
		{"backward from 0 begins with the last event", 0, driver.Backward, 3, []uint64{10, 9, 8}},
		{"backward begins with the event below from", 7, driver.Backward, 3, []uint64{6, 5, 4}},
		{"backward ends with the first event", 3, driver.Backward, 5, []uint64{2, 1}},
		{"backward from the first event has none", 1, driver.Backward, 5, nil},
		{"backward from beyond the end begins with the last event", 99, driver.Backward, 2, []uint64{10, 9}},
		{"backward from one beyond the end begins with the last event", 11, driver.Backward, 2, []uint64{10, 9}},
		{"backward takes the whole stream if the limit is its length", 0, driver.Backward, 10, downFrom(10)},
		{"backward takes the whole stream if the limit is larger", 0, driver.Backward, 1000, downFrom(10)},
		{"backward takes one event if that is the limit", 5, driver.Backward, 1, []uint64{4}},
	} {
		g.test(c.name, func(f *fixture) {
			for i := range 10 {
				f.append("s-1", driver.Any, event("t", fmt.Sprint(i+1)))
				f.fill("s-10", 1)
				f.fill("s-2", 2)
			}
			list, err := f.d.ReadStream(f.ctx, "s-1", c.from, c.dir, c.limit)
			require.NoError(f, err)
			require.Equal(f, c.want, nilIfEmpty(versions(list)))
			for _, r := range list {
				require.Equal(f, "s-1", r.Stream)
				require.Equal(f, fmt.Sprint(r.Version), string(r.Data))
			}
		})
	}

	g.test("a stream that does not exist is empty", func(f *fixture) {
		f.fill("s-1", 1)
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			for _, from := range []uint64{0, 1, 7} {
				list, err := f.d.ReadStream(f.ctx, "s-2", from, dir, 10)
				require.NoError(f, err)
				require.Empty(f, list)
			}
		}
	})

	g.test("pages of any size make up the stream, both ways", func(f *fixture) {
		f.appendAll("s-1", events(20)...)
		f.fill("s-1", 3)
		for _, limit := range []int{1, 2, 7, 22, 23, 24} {
			for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
				want := upTo(23)
				if dir == driver.Backward {
					want = downFrom(23)
				}
				var have []uint64
				for from := uint64(0); ; {
					page, err := f.d.ReadStream(f.ctx, "s-1", from, dir, limit)
					require.NoError(f, err)
					have = append(have, versions(page)...)
					if len(page) < limit {
						break
					}
					from = have[len(have)-1]
					require.LessOrEqual(f, len(have), len(want), "pages of %d", limit)
				}
				require.Equal(f, want, have, "pages of %d", limit)
			}
		}
	})

	g.test("a page that is not full ends with the last event, however long the stream", func(f *fixture) {
		const n = 2000
		f.appendAll("s-1", events(n)...)
		f.fill("s-2", 1)
		for _, limit := range []int{n, n + 1, 10 * n} {
			list, err := f.d.ReadStream(f.ctx, "s-1", 0, driver.Forward, limit)
			require.NoError(f, err)
			require.Equal(f, upTo(n), versions(list), "%d at once", limit)
			list, err = f.d.ReadStream(f.ctx, "s-1", 0, driver.Backward, limit)
			require.NoError(f, err)
			require.Equal(f, downFrom(n), versions(list), "%d at once", limit)
		}
		list, err := f.d.ReadStream(f.ctx, "s-1", n-700, driver.Forward, n)
		require.NoError(f, err)
		require.Equal(f, upTo(n)[n-700:], versions(list))
	})

	g.test("a page that is not full has all that was acknowledged before", func(f *fixture) {
		const n = 60
		var acknowledged atomic.Uint64
		var writing sync.WaitGroup
		defer writing.Wait()
		writing.Go(func() {
			defer acknowledged.Store(1 << 32)
			for range n {
				r := f.d.Append(f.ctx, driver.Append{Stream: "s-1", Events: events(10)})
				if r.Err != nil {
					f.Error(r.Err)
					return
				}
				acknowledged.Store(r.Version)
			}
		})
		for last := false; !last; {
			before := acknowledged.Load()
			if last = before == 1<<32; last {
				before = 10 * n
			}
			list, err := f.d.ReadStream(f.ctx, "s-1", 0, driver.Forward, 100*n)
			require.NoError(f, err)
			require.GreaterOrEqual(f, uint64(len(list)), before)
			require.Equal(f, upTo(len(list)), versions(list))
			list, err = f.d.ReadStream(f.ctx, "s-1", 0, driver.Backward, 3)
			require.NoError(f, err)
			if before > 0 {
				require.NotEmpty(f, list)
				require.GreaterOrEqual(f, list[0].Version, before)
			}
		}
	})

	g.test("an event has the same position in its stream as in the log", func(f *fixture) {
		for i := range 12 {
			f.fill(fmt.Sprintf("s-%d", i%3), 1)
		}
		log := f.all(driver.Filter{})
		var streams []driver.Recorded
		for i := range 3 {
			streams = append(streams, f.stream(fmt.Sprintf("s-%d", i))...)
		}
		slices.SortFunc(streams, func(a, b driver.Recorded) int { return int(a.Position) - int(b.Position) })
		require.Equal(f, log, streams)
	})

	g.test("a read whose ctx has ended says so", func(f *fixture) {
		f.fill("s-1", 1)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		_, err := f.d.ReadStream(ctx, "s-1", 0, driver.Forward, 10)
		require.ErrorIs(f, err, context.Canceled)
	})
}

// A logged is an event of the log that the reading tests read.
type logged struct{ stream, typ string }

// match is the definition of Filter, written once more: by sets, and without
// the driver's own code.
func match(filter driver.Filter, e logged) bool {
	category := e.stream
	for i, c := range e.stream {
		if c == '-' {
			category = e.stream[:i]
			break
		}
	}
	selects := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	if e.stream[0] == '$' && !filter.System && len(filter.Streams)+len(filter.Categories) == 0 {
		return false
	}
	return selects(filter.Streams, e.stream) && selects(filter.Categories, category) && selects(filter.Types, e.typ)
}

// sample is a log with a bit of everything.
func sample() []logged {
	var list []logged
	streams := []string{"a-1", "a-2", "b-1", "$sys-1", "a", "b-1-x", "ab-1", "$snap", "c-1"}
	types := []string{"opened", "closed", "opened.v2", "Opened"}
	for i := range 60 {
		list = append(list, logged{streams[(i*i+i/7)%len(streams)], types[(i/2+i%5)%len(types)]})
	}
	return list
}

// write appends list, an append an event.
func (f *fixture) write(list []logged) {
	f.Helper()
	for i, e := range list {
		f.append(e.stream, driver.Any, event(e.typ, fmt.Sprint(i)))
	}
}

func testReadAll(g *group) {
	type s = []string
	for _, c := range []struct {
		name   string
		filter driver.Filter
	}{
		{"everything but the streams of the system", driver.Filter{}},
		{"everything with the streams of the system", driver.Filter{System: true}},
		{"a type with the streams of the system", driver.Filter{Types: s{"opened"}, System: true}},
		{"one stream, whether those of the system are asked for or not", driver.Filter{Streams: s{"a-1"}, System: true}},
		{"one category, whether those of the system are asked for or not", driver.Filter{Categories: s{"a"}, System: true}},
		{"one stream", driver.Filter{Streams: s{"a-1"}}},
		{"several streams", driver.Filter{Streams: s{"b-1", "a-2", "c-1"}}},
		{"a stream named twice", driver.Filter{Streams: s{"a-1", "a-1"}}},
		{"a stream that does not exist", driver.Filter{Streams: s{"zzz-1"}}},
		{"a stream that does not exist and one that does", driver.Filter{Streams: s{"zzz-1", "a-1"}}},
		{"a stream of the system by its name", driver.Filter{Streams: s{"$sys-1"}}},
		{"a stream of the system and another", driver.Filter{Streams: s{"$sys-1", "b-1"}}},
		{"a category up to the first dash", driver.Filter{Categories: s{"a"}}},
		{"a category whose ids have dashes", driver.Filter{Categories: s{"b"}}},
		{"a category is not a prefix", driver.Filter{Categories: s{"ab"}}},
		{"several categories", driver.Filter{Categories: s{"c", "ab"}}},
		{"a category named twice", driver.Filter{Categories: s{"c", "c"}}},
		{"a category that does not exist", driver.Filter{Categories: s{"zzz"}}},
		{"a category that is part of a name but no category", driver.Filter{Categories: s{"b-1"}}},
		{"a category of the system by its name", driver.Filter{Categories: s{"$sys"}}},
		{"a stream of the system that is its own category", driver.Filter{Categories: s{"$snap"}}},
		{"one type", driver.Filter{Types: s{"opened"}}},
		{"several types", driver.Filter{Types: s{"Opened", "closed"}}},
		{"a type named twice", driver.Filter{Types: s{"closed", "closed"}}},
		{"a type that does not exist", driver.Filter{Types: s{"zzz"}}},
		{"a type within a stream", driver.Filter{Types: s{"opened"}, Streams: s{"a-1"}}},
		{"types within a category", driver.Filter{Types: s{"opened", "closed"}, Categories: s{"a"}}},
		{"a stream within its category", driver.Filter{Streams: s{"a-1"}, Categories: s{"a"}}},
		{"a stream outside of the category", driver.Filter{Streams: s{"b-1"}, Categories: s{"a"}}},
		{"types within streams within categories", driver.Filter{Types: s{"opened", "closed"}, Streams: s{"b-1", "a-1", "c-1"}, Categories: s{"a", "b"}}},
		{"types within a category of the system", driver.Filter{Types: s{"opened"}, Categories: s{"$sys"}}},
	} {
		g.test("selects "+c.name, func(f *fixture) {
			list := sample()
			f.write(list)
			var want []string
			for i, e := range list {
				if match(c.filter, e) {
					want = append(want, fmt.Sprint(i))
				}
			}
			for _, limit := range []int{1, 4, 1000} {
				require.Equal(f, want, nilIfEmpty(data(f.allBy(c.filter, driver.Forward, limit))), "forward, %d at once", limit)
				back := data(f.allBy(c.filter, driver.Backward, limit))
				slices.Reverse(back)
				require.Equal(f, want, nilIfEmpty(back), "backward, %d at once", limit)
			}
		})
	}

	g.test("what a filter names is no pattern", func(f *fixture) {
		odd := []string{"a", "A", "ab", "a.b", "*", ">", "a*", "a.*", "%", "_", "a_", ".", "a b", "(a)", "^a", "=", "=61"}
		for i, name := range odd {
			f.append(name+"-1", driver.Any, event(name, fmt.Sprint(i)))
			f.append(name, driver.Any, event("other", fmt.Sprint(i)))
		}
		for i, name := range odd {
			want := []string{fmt.Sprint(i)}
			require.Equal(f, want, data(f.all(driver.Filter{Types: []string{name}})), "type %q", name)
			require.Equal(f, want, data(f.all(driver.Filter{Streams: []string{name}})), "stream %q", name)
			require.Equal(f, append(want, want...), data(f.all(driver.Filter{Categories: []string{name}})), "category %q", name)
		}
	})

	g.test("an empty log is at 0", func(f *fixture) {
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			list, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{}, 0, dir, 10)
			require.NoError(f, err)
			require.Empty(f, list)
			require.Zero(f, scanned)
		}
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		require.Zero(f, head)
	})

	g.test("from every position, both ways, with every limit", func(f *fixture) {
		f.write(sample()[:18])
		log := f.all(driver.Filter{})
		for i, r := range log {
			for _, limit := range []int{1, 2, 3, len(log)} {
				forward, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{}, r.Position, driver.Forward, limit)
				require.NoError(f, err)
				checkPage(f, forward, scanned, r.Position, driver.Forward, limit)
				require.Equal(f, log[i+1:][:len(forward)], nonNil(forward))
				backward, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{}, r.Position, driver.Backward, limit)
				require.NoError(f, err)
				checkPage(f, backward, scanned, r.Position, driver.Backward, limit)
				slices.Reverse(backward)
				require.Equal(f, log[i-len(backward):i], nonNil(backward))
			}
		}
	})

	g.test("scanned passes over events that were filtered", func(f *fixture) {
		f.fill("a-1", 3)
		f.fill("b-1", 50)
		last := f.appendAll("$sys-1", events(20)...).Last
		for _, filter := range []driver.Filter{{}, {Streams: []string{"a-1"}}, {Categories: []string{"a"}}, {Types: []string{"none"}}, {Streams: []string{"none"}}} {
			var scanned uint64
			f.eventually("scanned is at the head", func() bool {
				from := scanned
				var err error
				_, scanned, err = f.d.ReadAll(f.ctx, filter, from, driver.Forward, 1000)
				require.NoError(f, err)
				require.GreaterOrEqual(f, scanned, from, "scanned never goes back")
				return scanned >= last
			})
		}
	})

	g.test("scanned stays below what a full page left out", func(f *fixture) {
		f.fill("a-1", 1)
		f.fill("b-1", 3)
		f.fill("a-1", 2)
		f.fill("b-1", 3)
		left := f.stream("a-1")[1].Position
		list, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{Categories: []string{"a"}}, 0, driver.Forward, 1)
		require.NoError(f, err)
		require.LessOrEqual(f, len(list), 1)
		require.Less(f, scanned, left)
	})

	g.test("backward, scanned is 0 only at the beginning", func(f *fixture) {
		f.fill("a-1", 9)
		for limit := range 8 {
			list, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{}, 0, driver.Backward, limit+1)
			require.NoError(f, err)
			require.NotZero(f, scanned, "%d events were left out", 9-len(list))
		}
	})

	g.test("a cursor that has reached the end gets what is appended later", func(f *fixture) {
		f.fill("a-1", 3)
		f.fill("b-1", 3)
		filter := driver.Filter{Categories: []string{"a"}}
		var from uint64
		for round := range 5 {
			var have []string
			f.eventually("the cursor is at the head", func() bool {
				list, scanned, err := f.d.ReadAll(f.ctx, filter, from, driver.Forward, 2)
				require.NoError(f, err)
				have, from = append(have, data(list)...), scanned
				head, err := f.d.Head(f.ctx)
				require.NoError(f, err)
				return from >= head
			})
			if round == 0 {
				require.Len(f, have, 3)
			} else {
				require.Equal(f, []string{fmt.Sprint("round ", round-1)}, have)
			}
			f.fill("b-2", 2)
			f.append("a-2", driver.Any, event("t", fmt.Sprint("round ", round)))
			f.fill("c-2", 1)
		}
	})

	g.test("the events of one append lie in order", func(f *fixture) {
		f.append("a-1", driver.Any, events(10)...)
		require.Equal(f, upTo(10), versions(f.all(driver.Filter{})))
	})

	g.test("a long log reads whole, both ways", func(f *fixture) {
		const n = 3000
		for i := range n / 100 {
			f.appendAll(fmt.Sprintf("a-%d", i%7), events(100)...)
		}
		f.fill("b-1", 1)
		for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
			require.Len(f, f.allBy(driver.Filter{}, dir, 500), n+1)
			require.Len(f, f.allBy(driver.Filter{}, dir, 2*n), n+1)
			require.Len(f, f.allBy(driver.Filter{Categories: []string{"a"}}, dir, 1000), n)
			require.Len(f, f.allBy(driver.Filter{Categories: []string{"b"}}, dir, 10), 1)
		}
	})

	g.test("a read whose ctx has ended says so", func(f *fixture) {
		f.fill("s-1", 1)
		ctx, cancel := context.WithCancel(f.ctx)
		cancel()
		_, _, err := f.d.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 10)
		require.ErrorIs(f, err, context.Canceled)
	})
}

// nilIfEmpty makes what has no elements equal to nil.
func nilIfEmpty[E any](list []E) []E {
	if len(list) == 0 {
		return nil
	}
	return list
}

// nonNil makes nil equal to what has no elements.
func nonNil[E any](list []E) []E {
	if list == nil {
		return []E{}
	}
	return list
}
