package drivertest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

func testDate(g *group) {
	// at returns what lies after PositionAt(t).
	at := func(f *fixture, t time.Time) []driver.Recorded {
		f.Helper()
		p, err := can[driver.Dater](f).PositionAt(f.ctx, t)
		require.NoError(f, err)
		head, err := f.d.Head(f.ctx)
		require.NoError(f, err)
		var list []driver.Recorded
		for {
			page, scanned, err := f.d.ReadAll(f.ctx, driver.Filter{}, p, driver.Forward, 100)
			require.NoError(f, err)
			list = append(list, page...)
			if p = scanned; p >= head {
				return list
			}
		}
	}
	// fill appends events at ten different times, some of them more at once.
	fill := func(f *fixture) []driver.Recorded {
		f.Helper()
		can[driver.Dater](f)
		for i := range 10 {
			t := f.append(fmt.Sprintf("s-%d", i%3), driver.Any, events(1+i%2)...).Time
			f.eventually("another time", func() bool { return time.Now().After(t.Add(time.Microsecond)) })
		}
		return f.all(driver.Filter{})
	}

	g.test("times are in the order of positions", func(f *fixture) {
		log := fill(f)
		for i := 1; i < len(log); i++ {
			require.False(f, log[i].Time.Before(log[i-1].Time), "event %d was recorded before that below it", i)
		}
	})

	g.test("reading after the position begins with the first event at or after the time", func(f *fixture) {
		log := fill(f)
		for _, r := range log {
			for _, t := range []time.Time{r.Time, r.Time.Add(-time.Microsecond), r.Time.Add(time.Microsecond)} {
				want := slices.IndexFunc(log, func(r driver.Recorded) bool { return !r.Time.Before(t) })
				if want < 0 {
					want = len(log)
				}
				require.Equal(f, positions(log[want:]), positions(at(f, t)))
			}
		}
	})

	g.test("the position is that of the last event before the time", func(f *fixture) {
		log := fill(f)
		for i, r := range log {
			p, err := can[driver.Dater](f).PositionAt(f.ctx, r.Time.Add(time.Microsecond))
			require.NoError(f, err)
			last := i
			for last+1 < len(log) && log[last+1].Time.Before(r.Time.Add(time.Microsecond)) {
				last++
			}
			require.Equal(f, log[last].Position, p)
		}
	})

	g.test("before everything it is 0, after everything the head", func(f *fixture) {
		d := can[driver.Dater](f)
		for _, t := range []time.Time{{}, time.Now().Add(24 * time.Hour)} {
			p, err := d.PositionAt(f.ctx, t)
			require.NoError(f, err)
			require.Zero(f, p, "the log is empty")
		}
		log := fill(f)
		p, err := d.PositionAt(f.ctx, log[0].Time)
		require.NoError(f, err)
		require.Zero(f, p)
		p, err = d.PositionAt(f.ctx, time.Unix(0, 0))
		require.NoError(f, err)
		require.Zero(f, p)
		p, err = d.PositionAt(f.ctx, log[len(log)-1].Time.Add(24*time.Hour))
		require.NoError(f, err)
		require.Equal(f, log[len(log)-1].Position, p)
	})

	g.test("holes do not matter", func(f *fixture) {
		d := can[driver.Deleter](f)
		log := fill(f)
		require.NoError(f, d.Purge(f.ctx, "s-1"))
		left := f.all(driver.Filter{})
		for _, r := range log {
			want := slices.IndexFunc(left, func(l driver.Recorded) bool { return !l.Time.Before(r.Time) })
			if want < 0 {
				want = len(left)
			}
			require.Equal(f, positions(left[want:]), positions(at(f, r.Time)))
		}
	})
}
