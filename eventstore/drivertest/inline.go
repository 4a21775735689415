package drivertest

import (
	"errors"
	"slices"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testInline(g *group) {
	g.test("fn has each append's events as they are recorded", func(f *fixture) {
		in := can[driver.Inliner](f)
		f.fill("a-1", 2)
		e := event("t", "data", "tag")
		e.Metadata = map[string]string{"k": "v"}
		var calls [][]driver.Recorded
		results := in.AppendWith(f.ctx, []driver.Append{
			{Stream: "a-1", Expected: 2, Events: append([]driver.Event{e}, events(2)...)},
			{Stream: "b-1", Expected: driver.NoStream, Events: events(1)},
		}, func(_ any, list []driver.Recorded) error {
			calls = append(calls, slices.Clone(list))
			return nil
		})
		require.Len(f, results, 2)
		require.Len(f, calls, 2, "fn is called once an append")
		for i, name := range []string{"a-1", "b-1"} {
			require.NoError(f, results[i].Err)
			read := f.stream(name)
			read = read[len(read)-len(calls[i]):]
			checkResult(f, results[i], len(read))
			require.Equal(f, read, calls[i])
		}
		same(f, e, calls[0][0])
	})

	g.test("a failing fn fails its own append alone", func(f *fixture) {
		in := can[driver.Inliner](f)
		f.fill("a-1", 1)
		refused := errors.New("refused")
		results := in.AppendWith(f.ctx, []driver.Append{
			{Stream: "a-1", Expected: 1, Events: events(1)},
			{Stream: "a-1", Expected: 2, Events: []driver.Event{event("bad", "")}},
			{Stream: "b-1", Expected: driver.NoStream, Events: []driver.Event{event("bad", "")}},
			{Stream: "a-1", Expected: 2, Events: events(1)},
			{Stream: "b-1", Expected: driver.NoStream, Events: events(1)},
		}, func(_ any, list []driver.Recorded) error {
			if list[0].Type == "bad" {
				return refused
			}
			return nil
		})
		require.NoError(f, results[0].Err)
		require.ErrorIs(f, results[1].Err, refused)
		require.ErrorIs(f, results[2].Err, refused)
		require.NoError(f, results[3].Err)
		require.NoError(f, results[4].Err)
		require.Equal(f, uint64(3), results[3].Version)
		require.Equal(f, upTo(3), versions(f.stream("a-1")))
		require.Equal(f, upTo(1), versions(f.stream("b-1")))
		require.Empty(f, f.all(driver.Filter{Types: []string{"bad"}}))
		require.Equal(f, uint64(4), f.append("a-1", 3, events(1)...).Version)
	})

	g.test("a rolled back append leaves no trace", func(f *fixture) {
		in := can[driver.Inliner](f)
		f.fill("a-1", 3)
		f.unchanged([]string{"a-1", "b-1"}, func() {
			results := in.AppendWith(f.ctx, []driver.Append{
				{Stream: "a-1", Events: events(2)},
				{Stream: "b-1", Events: events(2)},
			}, func(any, []driver.Recorded) error { return errors.New("refused") })
			for _, r := range results {
				require.Error(f, r.Err)
			}
		})
		f.append("b-1", driver.NoStream, events(1)...)
		require.Len(f, f.all(driver.Filter{}), 4)
	})

	g.test("fn is not called for an append that conflicts", func(f *fixture) {
		in := can[driver.Inliner](f)
		f.fill("a-1", 3)
		calls := 0
		results := in.AppendWith(f.ctx, []driver.Append{
			{Stream: "a-1", Expected: 2, Events: events(1)},
			{Stream: "b-1", Expected: driver.StreamExists, Events: events(1)},
			{Stream: "a-1", Expected: 3, Events: events(1)},
		}, func(any, []driver.Recorded) error {
			calls++
			return nil
		})
		f.conflict(results[0].Err, 3)
		f.conflict(results[1].Err, 0)
		require.NoError(f, results[2].Err)
		require.Equal(f, 1, calls)
	})
}
