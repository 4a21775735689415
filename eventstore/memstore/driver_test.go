package memstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
)

func open() *store { return NewDriver().(*store) }

// A memory does not outlive its process. To show that what a closed store held
// is the truth, and that nothing of it lies elsewhere, it is opened again here
// with what it remembers.
func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Open: func(t testing.TB) driver.Store { return NewDriver() },
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			require.NoError(t, d.Close())
			old := d.(*store)
			s := open()
			s.log, s.streams, s.categories, s.types, s.tags, s.all = old.log, old.streams, old.categories, old.types, old.tags, old.all
			s.snapshots, s.checkpoints, s.leases = old.snapshots, old.checkpoints, old.leases
			return s
		},
	})
}

func TestOpenReturnsAStoreOnTheDriver(t *testing.T) {
	t.Parallel()
	for _, opt := range []*Options{nil, {}, {Store: eventstore.Options{PageSize: 7}}} {
		s := Open(opt)
		var d driver.Store
		require.True(t, s.As(&d))
		require.IsType(t, &store{}, d)
		var other *store
		require.False(t, s.As(&other))
		require.NoError(t, s.Close())
	}
}

func events(typ string, n int, tags ...string) []driver.Event {
	list := make([]driver.Event, n)
	for i := range list {
		list[i] = driver.Event{Type: typ, Data: fmt.Append(nil, i), Tags: tags}
	}
	return list
}

func put(t require.TestingT, d *store, stream string, list ...driver.Event) driver.Result {
	r := d.Append(context.Background(), driver.Append{Stream: stream, Events: list})
	require.NoError(t, r.Err)
	return r
}

// The conformance suite's histories end before the log has a second chunk. In
// these, appends and removals cross the borders of chunks.
func TestLargeRemovalsLeaveTheLogAndItsIndexesRight(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		d := open()
		var log []driver.Recorded // what must be left
		left := func(keep func(driver.Recorded) bool) []uint64 {
			var ps []uint64
			for _, r := range log {
				if keep(r) {
					ps = append(ps, r.Position)
				}
			}
			return ps
		}
		// paged reads the whole log in pages.
		paged := func(dir driver.Direction, read func(from uint64) ([]driver.Recorded, uint64, error)) []uint64 {
			var ps []uint64
			for from := uint64(0); ; {
				page, scanned, err := read(from)
				require.NoError(t, err)
				for _, r := range page {
					ps = append(ps, r.Position)
				}
				if scanned == 0 || scanned == from || dir == driver.Forward && scanned >= d.log.last && len(page) == 0 {
					return ps
				}
				from = scanned
			}
		}
		names := []string{"a-1", "a-2", "b-1", "c"}
		types := []string{"x", "y"}
		var last uint64
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "stream")
				if s := d.streams[name]; s != nil && s.purged {
					return
				}
				list := events(rapid.SampledFrom(types).Draw(t, "type"), rapid.IntRange(1, 2*chunkSize).Draw(t, "events"), name[:1], "all", "all")
				r := put(t, d, name, list...)
				require.Equal(t, last+uint64(len(list)), r.Last, "positions are dense")
				last = r.Last
				page, err := d.ReadStream(ctx, name, r.Version-uint64(len(list)), driver.Forward, len(list))
				require.NoError(t, err)
				require.Len(t, page, len(list))
				log = append(log, page...)
			},
			"truncate": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "stream")
				s := d.streams[name]
				if s == nil || s.purged {
					return
				}
				before := rapid.Uint64Range(1, s.version+1).Draw(t, "before")
				require.NoError(t, d.Truncate(ctx, name, before))
				log = slices.DeleteFunc(log, func(r driver.Recorded) bool { return r.Stream == name && r.Version < before })
			},
			"delete": func(t *rapid.T) {
				name := rapid.SampledFrom(names[1:]).Draw(t, "stream")
				if d.streams[name] == nil {
					return
				}
				require.NoError(t, d.Delete(ctx, name, driver.Any))
				log = slices.DeleteFunc(log, func(r driver.Recorded) bool { return r.Stream == name })
			},
			"purge": func(t *rapid.T) {
				require.NoError(t, d.Purge(ctx, "a-1"))
				log = slices.DeleteFunc(log, func(r driver.Recorded) bool { return r.Stream == "a-1" })
			},
			"read": func(t *rapid.T) {
				limit := rapid.SampledFrom([]int{100, 10_000}).Draw(t, "limit")
				for _, c := range []struct {
					filter driver.Filter
					items  []driver.QueryItem
					keep   func(driver.Recorded) bool
				}{
					{driver.Filter{}, nil, func(driver.Recorded) bool { return true }},
					{driver.Filter{Categories: []string{"a"}}, []driver.QueryItem{{Tags: []string{"a", "all"}}}, func(r driver.Recorded) bool { return r.Stream[0] == 'a' }},
					{driver.Filter{Types: []string{"x"}}, []driver.QueryItem{{Types: []string{"x"}}}, func(r driver.Recorded) bool { return r.Type == "x" }},
					{driver.Filter{Streams: []string{"b-1", "a-2"}, Types: []string{"y"}}, []driver.QueryItem{{Types: []string{"y"}, Tags: []string{"none"}}}, nil},
				} {
					keep := c.keep
					if keep == nil {
						keep = func(r driver.Recorded) bool { return (r.Stream == "b-1" || r.Stream == "a-2") && r.Type == "y" }
					}
					for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
						want := left(keep)
						if dir == driver.Backward {
							slices.Reverse(want)
						}
						require.Equal(t, want, paged(dir, func(from uint64) ([]driver.Recorded, uint64, error) {
							return d.ReadAll(ctx, c.filter, from, dir, limit)
						}))
					}
					want := left(keep)
					if c.keep == nil {
						want = nil
					}
					require.Equal(t, want, paged(driver.Forward, func(from uint64) ([]driver.Recorded, uint64, error) {
						return d.Query(ctx, c.items, from, limit)
					}))
				}
			},
			"": func(t *rapid.T) {
				var head uint64
				if len(log) > 0 {
					head = log[len(log)-1].Position
				}
				have, err := d.Head(ctx)
				require.NoError(t, err)
				require.Equal(t, head, have, "the last event that was not removed")
				for i, r := range log {
					if i%97 != 0 {
						continue
					}
					p, err := d.PositionAt(ctx, r.Time)
					require.NoError(t, err)
					first := slices.IndexFunc(log, func(l driver.Recorded) bool { return !l.Time.Before(r.Time) })
					page, _, err := d.ReadAll(ctx, driver.Filter{}, p, driver.Forward, 1)
					require.NoError(t, err)
					if len(page) > 0 { // else there are more holes than one call examines
						require.Equal(t, log[first].Position, page[0].Position)
					}
				}
				bounded(t, d)
			},
		})
	})
}

// bounded checks that no list is much longer than what it lists.
func bounded(t require.TestingT, d *store) {
	check := func(p *posting) {
		live := 0
		for _, at := range p.positions {
			if d.log.at(at) != nil {
				live++
			}
		}
		require.Equal(t, len(p.positions)-live, p.dead)
		require.LessOrEqual(t, p.dead, max(32, live))
	}
	for _, c := range d.categories {
		check(&c.posting)
	}
	for _, x := range []index{d.types, d.tags} {
		for name, p := range x {
			require.NotEmpty(t, p.positions, "%q should have been forgotten", name)
			check(p)
		}
	}
	for _, c := range d.log.chunks {
		live := 0
		for _, r := range c.events {
			if r.Version > 0 {
				live++
			}
		}
		require.Equal(t, live, c.live)
		require.False(t, live == 0 && c.events != nil, "an empty chunk should have been given up")
	}
}

func TestRemovedEventsAreGivenBack(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := open()
	for i := range 10 * chunkSize {
		put(t, d, fmt.Sprintf("s-%d", i%2), events("t", 1, fmt.Sprint("tag ", i%2))...)
	}
	require.NoError(t, d.Purge(ctx, "s-0"))
	require.Len(t, d.tags, 1)
	for _, c := range d.log.chunks {
		for _, r := range c.events {
			if r.Version == 0 {
				require.Equal(t, driver.Recorded{Time: r.Time}, r, "a removed event keeps nothing but when it was")
			}
		}
	}
	require.NoError(t, d.Truncate(ctx, "s-1", 5*chunkSize+1))
	require.Empty(t, d.tags)
	require.Empty(t, d.types)
	require.Empty(t, d.streams["s-1"].positions)
	for _, c := range d.log.chunks {
		require.Nil(t, c.events)
	}
	require.Equal(t, uint64(10*chunkSize+1), put(t, d, "s-1", events("t", 1)...).Last)
	require.Equal(t, uint64(5*chunkSize+1), put(t, d, "s-1", events("t", 0)...).Version)
	put(t, d, "s-2", events("t", 1000)...)
	put(t, d, "s-2", events("t", 1)...) // grows what is nearly full
	require.NoError(t, d.Truncate(ctx, "s-2", 1000))
	require.Less(t, cap(d.streams["s-2"].positions), 10)
}

func TestACallExaminesABoundedNumberOfEvents(t *testing.T) {
	t.Parallel()
	d := open()
	put(t, d, "a-1", events("x", 3*examine)...)
	put(t, d, "b-1", events("y", 1)...)
	// No index helps here: both lists are as long as the log.
	f := driver.Filter{Categories: []string{"a", "b"}, Types: []string{"y"}}
	d.types["y"].positions = append(slices.Clone(d.types["x"].positions), d.types["y"].positions...)
	pages := 0
	for from := uint64(0); from < d.log.last; pages++ {
		_, scanned, err := d.ReadAll(context.Background(), f, from, driver.Forward, 10)
		require.NoError(t, err)
		require.Greater(t, scanned, from)
		require.LessOrEqual(t, scanned-from, uint64(examine))
		from = scanned
	}
	require.GreaterOrEqual(t, pages, 3)
}

func TestReadsFollowTheShortestList(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := open()
	put(t, d, "a-1", events("x", 3*examine, "all")...)
	put(t, d, "a-2", events("y", 1, "all", "one")...)
	put(t, d, "b-1", events("x", 3*examine, "all")...)
	for _, f := range []driver.Filter{
		{Categories: []string{"a"}, Types: []string{"y"}},
		{Categories: []string{"a", "b"}, Types: []string{"x"}, Streams: []string{"a-2"}},
	} {
		_, scanned, err := d.ReadAll(ctx, f, 0, driver.Forward, 10)
		require.NoError(t, err)
		require.Equal(t, d.log.last, scanned, "one call examines all that may match")
	}
	for _, item := range []driver.QueryItem{{Tags: []string{"all", "one"}}, {Tags: []string{"one", "all"}}, {Types: []string{"x"}, Tags: []string{"one"}}, {Types: []string{"y"}, Tags: []string{"all"}}} {
		_, scanned, err := d.Query(ctx, []driver.QueryItem{item}, 0, 10)
		require.NoError(t, err)
		require.Equal(t, d.log.last, scanned, "one call examines all that may match %v", item)
	}
}

func TestReadingTheLogFromBeyondItsEnd(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := open()
	put(t, d, "a-1", events("t", 10)...)
	list, scanned, err := d.ReadAll(ctx, driver.Filter{}, 99, driver.Backward, 3)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, uint64(10), list[0].Position, "going backward it is the end")
	require.Equal(t, uint64(8), scanned)
	list, scanned, err = d.ReadAll(ctx, driver.Filter{}, 99, driver.Forward, 3)
	require.NoError(t, err)
	require.Empty(t, list)
	require.Equal(t, uint64(99), scanned, "a cursor never goes back")
	require.NoError(t, d.Truncate(ctx, "a-1", 8))
	require.NoError(t, d.Delete(ctx, "a-1", driver.Any))
	_, scanned, err = d.ReadAll(ctx, driver.Filter{}, 10, driver.Forward, 3)
	require.NoError(t, err)
	require.Equal(t, uint64(10), scanned, "nor because events were removed")
}

func TestALimitOf0ExaminesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := open()
	put(t, d, "a-1", events("t", 10)...)
	for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
		list, scanned, err := d.ReadAll(ctx, driver.Filter{}, 5, dir, 0)
		require.NoError(t, err)
		require.Empty(t, list)
		require.Equal(t, uint64(5), scanned)
		list, err = d.ReadStream(ctx, "a-1", 0, dir, 0)
		require.NoError(t, err)
		require.Empty(t, list)
	}
	_, scanned, err := d.ReadAll(ctx, driver.Filter{}, 0, driver.Backward, 0)
	require.NoError(t, err)
	require.Equal(t, uint64(11), scanned, "0 would be the beginning")
}

func TestClosingWaitsForFnOfAppendWith(t *testing.T) {
	t.Parallel()
	d := open()
	var closed atomic.Bool
	done := make(chan error)
	r := d.AppendWith(context.Background(), []driver.Append{{Stream: "a-1", Events: events("t", 1)}}, func(any, []driver.Recorded) error {
		go func() {
			err := d.Close()
			closed.Store(true)
			done <- err
		}()
		for range 1000 {
			runtime.Gosched()
		}
		require.False(t, closed.Load())
		return nil
	})
	require.NoError(t, r[0].Err)
	require.NoError(t, <-done)
}

func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	d := open()
	first := put(t, d, "a-1", events("t", 1)...)
	require.Equal(t, first.Time, d.log.now)
	d.log.now = first.Time.Add(time.Hour) // as if the clock had been set back since
	second := put(t, d, "a-1", events("t", 1)...)
	require.Equal(t, first.Time.Add(time.Hour), second.Time)
}

func TestAStoreWorksInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open()
		ctx, cancel := context.WithCancel(t.Context())
		var seen []uint64
		var ended, failed error
		go func() {
			for from := uint64(0); ; {
				if ended = d.Wait(ctx, from); ended != nil {
					return
				}
				var page []driver.Recorded
				var scanned uint64
				if page, scanned, failed = d.ReadAll(ctx, driver.Filter{}, from, driver.Forward, 10); failed != nil {
					return
				}
				for _, r := range page {
					seen = append(seen, r.Version)
				}
				from = scanned
			}
		}()
		synctest.Wait()
		require.Empty(t, seen)
		start := time.Now()
		for v := range uint64(3) {
			time.Sleep(time.Hour)
			require.True(t, start.Add(time.Duration(v+1)*time.Hour).Equal(put(t, d, "a-1", events("t", 1)...).Time))
			synctest.Wait()
			require.Len(t, seen, int(v)+1)
		}
		p, err := d.PositionAt(ctx, start.Add(2*time.Hour))
		require.NoError(t, err)
		require.Equal(t, uint64(1), p)

		_, ok, err := d.Acquire(ctx, "l", "a", time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		time.Sleep(time.Minute - 1)
		_, ok, _ = d.Acquire(ctx, "l", "b", time.Minute)
		require.False(t, ok)
		time.Sleep(time.Nanosecond)
		_, ok, _ = d.Acquire(ctx, "l", "b", time.Minute)
		require.True(t, ok, "a lease ends when its time is over, not after")

		cancel()
		synctest.Wait()
		require.NoError(t, failed)
		require.ErrorIs(t, ended, context.Canceled)
	})
}

func TestAnExpiredLeaseIsNewEvenToItsOldOwner(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := open()
		ctx := t.Context()
		old, _, _ := d.Acquire(ctx, "l", "a", time.Minute)
		time.Sleep(time.Minute)
		fence, ok, err := d.Acquire(ctx, "l", "a", time.Minute)
		require.NoError(t, err)
		require.True(t, ok)
		require.Greater(t, fence, old)
	})
}

func TestAnAppendOfNothingTellsWhetherTheStreamIsAsExpected(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := open()
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "a-1", Expected: driver.NoStream}).Err)
	info, err := d.Stream(ctx, "a-1")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "a-1"}, info, "nothing was written")
	put(t, d, "a-1", events("t", 2)...)
	r := d.Append(ctx, driver.Append{Stream: "a-1", Expected: 2})
	require.NoError(t, r.Err)
	require.Equal(t, uint64(2), r.Version)
	var conflict *driver.ConflictError
	require.ErrorAs(t, d.Append(ctx, driver.Append{Stream: "a-1", Expected: 1}).Err, &conflict)
}

func TestFnOfAppendWithMayReadTheStore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := open()
	var versions []uint64
	d.AppendWith(ctx, []driver.Append{{Stream: "a-1", Events: events("t", 2)}, {Stream: "a-1", Events: events("t", 1)}},
		func(tx any, list []driver.Recorded) error {
			require.Nil(t, tx)
			info, err := d.Stream(ctx, "a-1")
			require.NoError(t, err)
			versions = append(versions, info.Version)
			return nil
		})
	require.Equal(t, []uint64{0, 2}, versions, "the store stands as the appends before left it")
}

func TestWhatFnOfAppendWithChangesIsNotRecorded(t *testing.T) {
	t.Parallel()
	d := open()
	r := d.AppendWith(context.Background(), []driver.Append{{Stream: "a-1", Events: events("t", 1, "tag")}},
		func(_ any, list []driver.Recorded) error {
			list[0].Data[0], list[0].Tags[0], list[0].Type = '?', "?", "?"
			return nil
		})
	require.NoError(t, r[0].Err)
	got, err := d.ReadStream(context.Background(), "a-1", 0, driver.Forward, 1)
	require.NoError(t, err)
	require.Equal(t, "t", got[0].Type)
	require.Equal(t, "0", string(got[0].Data))
	require.Equal(t, []string{"tag"}, got[0].Tags)
}

func TestAPanicInFnOfAppendWithLeavesTheAppendsBeforeIt(t *testing.T) {
	t.Parallel()
	d := open()
	calls := 0
	require.Panics(t, func() {
		d.AppendWith(context.Background(), []driver.Append{{Stream: "a-1", Events: events("t", 1)}, {Stream: "a-1", Events: events("t", 1)}},
			func(any, []driver.Recorded) error {
				if calls++; calls == 2 {
					panic(errors.New("fn is broken"))
				}
				return nil
			})
	})
	require.Equal(t, uint64(2), put(t, d, "a-1", events("t", 1)...).Version)
}

func TestOneWhoWaitsCostsAppendsNothingOnceWoken(t *testing.T) {
	t.Parallel()
	d := open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, d.Wait(ctx, 0), context.Canceled)
	require.Nil(t, d.grown, "nobody waits")
	put(t, d, "a-1", events("t", 1)...)
	require.NoError(t, d.Wait(context.Background(), 0))
	require.Nil(t, d.grown, "nobody had to wait")
}

// recorded is a list of events as "stream@version:position".
func recorded(list []driver.Recorded) (names []string) {
	for _, r := range list {
		names = append(names, fmt.Sprintf("%s@%d:%d", r.Stream, r.Version, r.Position))
	}
	return names
}

func TestWhatTakesPartSeesEventsBeforeTheyCanBeSeen(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for name, do := range map[string]func(d *store, fn func(any, []driver.Recorded) error) error{
		"atomic": func(d *store, fn func(any, []driver.Recorded) error) error {
			_, err := d.AppendAtomic(ctx, []driver.Append{{Stream: "a-1", Expected: 1, Events: events("x", 1)}, {Stream: "b-1", Events: events("x", 1)}, {Stream: "c-1", Events: events("x", 1)}}, fn)
			return err
		},
		"conditional": func(d *store, fn func(any, []driver.Recorded) error) error {
			e := events("x", 1)[0]
			return d.AppendIf(ctx, nil, 0, []driver.StreamEvent{{Stream: "a-1", Event: e}, {Stream: "b-1", Event: e}, {Stream: "a-1", Event: e}}, fn).Err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open()
			put(t, d, "a-1", events("x", 1)...)
			want := []string{"a-1@2:2", "b-1@1:3", map[string]string{"atomic": "c-1@1:4", "conditional": "a-1@3:4"}[name]}
			refused := errors.New("refused")
			fn := func(tx any, list []driver.Recorded) error {
				require.Nil(t, tx)
				require.Equal(t, want, recorded(list))
				head, err := d.Head(ctx)
				require.NoError(t, err)
				require.EqualValues(t, 1, head)
				page, err := d.ReadStream(ctx, "a-1", 0, driver.Forward, 10)
				require.NoError(t, err)
				require.Len(t, page, 1)
				list[0].Data[0] = '?' // it has a copy
				return refused
			}
			require.ErrorIs(t, do(d, fn), refused)
			require.Panics(t, func() { do(d, func(any, []driver.Recorded) error { panic("no") }) })
			require.EqualValues(t, 1, d.log.last, "nothing of it is left")
			refused = nil
			require.NoError(t, do(d, fn))
			page, _, err := d.ReadAll(ctx, driver.Filter{}, 1, driver.Forward, 10)
			require.NoError(t, err)
			require.Equal(t, want, recorded(page))
			require.Equal(t, []byte("0"), page[0].Data)
		})
	}
}
