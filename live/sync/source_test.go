package sync

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

func TestOneIsReadAndKeptCurrent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		for _, s := range w.sources() {
			a := open(0)
			var v row
			a.do(func() {
				require.NoError(t, one(a.p, &v, s, "a").Err())
				require.Equal(t, "a", v.ID, "it has its value when One returns")
			})
			for n := range 5 {
				w.write("a", n+1)
				settle()
				a.see(func() { require.Equal(t, row{"a", n + 1}, v) })
			}
			a.leave()
			settle()
		}
		w.close()
	})
}

func TestWhatIsGoneIsZeroAndMayComeBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		a := open(0)
		var v, b row
		a.do(func() {
			one(a.p, &v, w.notes, "a")
			require.NoError(t, one(a.p, &b, w.rows, "a").Err())
		})
		_, err := w.app.Dispatch(t.Context(), Tear{"a"})
		require.NoError(t, err)
		settle()
		a.see(func() { require.Zero(t, v); require.Zero(t, b) })
		w.write("a", 2)
		settle()
		a.see(func() { require.Equal(t, row{"a", 2}, v); require.Equal(t, row{"a", 2}, b) })

		require.NoError(t, w.store.Delete(t.Context(), "note-a", eventstore.Any))
		settle()
		a.see(func() { require.Zero(t, v, "a deleted stream is gone though there is no event") })
		a.leave()
		settle()
		w.close()
	})
}

func TestManyKeepsWhatStaysAndReadsOnlyWhatIsNew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for i, id := range []string{"a", "b", "c"} {
			w.write(id, i+1)
		}
		a := open(0)
		var list []row
		var b *Binding
		a.do(func() { b = many(a.p, &list, w.notes, []string{"c", "x", "a", "c"}) })
		a.see(func() { require.Equal(t, []row{{"c", 3}, {"a", 1}, {"c", 3}}, list) })
		before := w.faults.count()
		a.do(func() { require.Same(t, b, many(a.p, &list, w.notes, []string{"a", "b", "c"})) })
		a.see(func() { require.Equal(t, []row{{"a", 1}, {"b", 2}, {"c", 3}}, list) })
		require.Equal(t, before+1, w.faults.count(), "only b is read")
		w.write("b", 7)
		w.write("x", 8)
		settle()
		a.see(func() { require.Equal(t, []row{{"a", 1}, {"b", 7}, {"c", 3}}, list) })
		a.do(func() { many(a.p, &list, w.notes, nil) })
		a.see(func() { require.Empty(t, list) })
		require.Nil(t, w.notes.hub.run, "nobody looks any more")
		a.leave()
		settle()
		w.close()
	})
}

func TestAllKeepsItsOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		var lists [3][]row
		a := open(0)
		a.do(func() {
			for i, s := range w.sources() {
				require.NoError(t, all(a.p, &lists[i], s).Err())
			}
		})
		for i := range 30 {
			w.write(fmt.Sprint("n", i%7), i+1)
			if i%5 == 4 {
				_, err := w.app.Dispatch(t.Context(), Tear{fmt.Sprint("n", i%7)})
				require.NoError(t, err)
			}
			settle()
			a.see(func() {
				for i, s := range w.sources() {
					require.Equal(t, sorted(t, s), lists[i])
				}
			})
		}
		a.leave()
		settle()
		w.close()
	})
}

// sorted returns what a list of s must be.
func sorted(t require.TestingT, s *Source[string, row]) []row {
	var list []row
	p := get()
	p.do(func() { require.NoError(t, all(p.p, &list, s).Err()) })
	p.leave()
	return list
}

func TestRebindingAFieldEndsWhatItWasBoundTo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		w.write("b", 2)
		a := open(0)
		var v row
		var first *Binding
		calls := 0
		a.do(func() { first = one(a.p, &v, w.notes, "a").OnChange(func() { calls++ }) })
		a.do(func() { one(a.p, &v, w.notes, "b") })
		a.see(func() { require.Equal(t, row{"b", 2}, v); require.True(t, first.ended.Load()) })
		w.write("a", 3)
		settle()
		a.see(func() { require.Equal(t, row{"b", 2}, v); require.Equal(t, 1, calls) })
		a.do(func() { one(a.p, &v, w.rows, "a").Stop() })
		w.write("a", 4)
		settle()
		a.see(func() { require.Equal(t, row{"a", 3}, v, "after Stop it stays") })
		a.leave()
		settle()
		w.close()
	})
}

func TestOneFieldDecidesWhatAnotherIsBoundTo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("lead", 1)
		for i := range 4 {
			w.write(fmt.Sprint(i), 10*i+10)
		}
		a := open(0)
		var lead row
		var list []row
		a.do(func() {
			one(a.p, &lead, w.notes, "lead").OnChange(func() {
				many(a.p, &list, w.rows, []string{fmt.Sprint(lead.N), fmt.Sprint(lead.N + 1)})
			})
		})
		a.see(func() { require.Equal(t, []row{{"1", 20}, {"2", 30}}, list) })
		w.write("lead", 2)
		w.write("3", 5)
		settle()
		a.see(func() { require.Equal(t, []row{{"2", 30}, {"3", 5}}, list) })
		a.leave()
		settle()
		w.close()
	})
}

func TestOverHTTPAFieldIsReadOnceAndNothingIsFollowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		settle()
		a := get()
		var v row
		var m, l []row
		var changes int
		a.do(func() {
			require.NoError(t, one(a.p, &v, w.rows, "a").OnChange(func() { changes++ }).Err())
			require.NoError(t, many(a.p, &m, w.notes, []string{"a", "b"}).Err())
			require.NoError(t, all(a.p, &l, w.blind).Err())
		})
		require.Equal(t, []any{row{"a", 1}, []row{{"a", 1}}, []row{{"a", 1}}, 1}, []any{v, m, l, changes})
		for _, s := range w.sources() {
			require.Nil(t, s.hub.run)
		}
		a.do(func() {
			a.p.wrote(w.write("a", 2).Position)
			require.Equal(t, []any{row{"a", 2}, []row{{"a", 2}}, []row{{"a", 2}}, 2}, []any{v, m, l, changes})
		})
		a.leave()
		settle()
		w.close()
	})
}

func TestOverHTTPTheSharedValueIsTakenOnlyIfItIsAsNewAsTheStore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		a := open(0)
		var v row
		a.do(func() { one(a.p, &v, w.notes, "a") })
		settle()
		before := w.faults.count()
		b := get()
		var now row
		b.do(func() { one(b.p, &now, w.notes, "a") })
		require.Equal(t, before, w.faults.count(), "it was not read again")
		w.notes.hub.mu.Lock() // the hub cannot take notice
		res := w.write("a", 2)
		w.notes.hub.mu.Unlock()
		require.NotZero(t, res.Position)
		b.do(func() { one(b.p, &now, w.notes, "a") })
		require.Equal(t, row{"a", 2}, now)
		a.leave()
		b.leave()
		settle()
		w.close()
	})
}

func TestWroteHoldsUntilThePageShowsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		w.write("b", 1)
		a := open(0)
		var n, r row
		var l []row
		a.do(func() {
			one(a.p, &n, w.notes, "a")
			one(a.p, &r, w.rows, "b")
			all(a.p, &l, w.blind)
		})
		for i := 2; i < 30; i++ {
			a.do(func() {
				a.p.wrote(w.write("a", i).Position)
				a.p.wrote(w.write("b", i).Position)
			})
			released(t, a, func() {
				require.Equal(t, []any{row{"a", i}, row{"b", i}}, []any{n, r})
				require.ElementsMatch(t, []row{{"a", i}, {"b", i}}, l)
			})
		}
		a.see(func() {
			head, err := w.store.Head(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, head, a.at, "the client knows where it stands")
		})
		a.leave()
		settle()
		w.close()
	})
}

// released waits for the holds of a page to end and calls fn at that moment. It does not ask them by itself: that
// the page does, after its funcs.
func released(t require.TestingT, a *tab, fn func()) {
	done := make(chan struct{})
	a.see(func() {
		a.freed = func() {
			defer close(done) // fn may fail
			fn()
		}
		if len(a.holds) == 0 {
			a.held()
		}
	})
	select {
	case <-done:
	case <-time.After(4 * time.Second):
		require.Fail(t, "held for ever")
	}
}

func TestWroteToWhatThePageDoesNotShowIsNotHeldForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		a := open(0)
		var v row
		var none []row
		a.do(func() {
			one(a.p, &v, w.notes, "a")
			many(a.p, &none, w.rows, nil)
		})
		start := time.Now()
		a.do(func() { a.p.wrote(w.write("other", 1).Position) })
		released(t, a, func() {})
		require.Less(t, time.Since(start), 100*time.Millisecond)
		a.leave()
		settle()
		w.close()
	})
}

func TestAPageThatComesBackIsNotShownAnythingOlder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.stuck.Store(true)
		last := w.write("a", 1).Position
		time.AfterFunc(time.Second, func() { w.stuck.Store(false) })
		first, back := open(0), open(uint64(last))
		var early, v, stale row
		first.do(func() {
			require.NoError(t, one(first.p, &early, w.rows, "a").Err())
			require.Zero(t, early, "a new page need not wait")
		})
		back.do(func() {
			require.NoError(t, one(back.p, &v, w.rows, "a").Err())
			require.Equal(t, row{"a", 1}, v, "it has waited for the projection")
		})

		w.stuck.Store(true)
		last = w.write("a", 2).Position
		late := open(uint64(last))
		start := time.Now()
		var b *Binding
		late.do(func() { b = one(late.p, &stale, w.rows, "a") })
		require.ErrorIs(t, b.Err(), ErrLate, "but not for ever")
		late.see(func() { require.Equal(t, row{"a", 1}, stale) })
		require.Equal(t, 5*time.Second, time.Since(start))
		w.stuck.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.NoError(t, b.Err())
		late.see(func() { require.Equal(t, row{"a", 2}, stale) })
		for _, a := range []*tab{first, back, late} {
			a.leave()
		}
		settle()
		w.close()
	})
}

func TestAPositionOfAnotherStoreIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		a := open(1 << 40)
		var v row
		start := time.Now()
		a.do(func() { require.NoError(t, one(a.p, &v, w.notes, "a").Err()) })
		require.Less(t, time.Since(start), time.Second)
		a.see(func() { require.Equal(t, row{"a", 1}, v) })
		a.leave()
		settle()
		w.close()
	})
}

func TestAStoppedProjectionShowsWhatThereIsAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		settle()
		require.NoError(t, w.app.Group.Pause(t.Context(), "shelf"))
		last := w.write("a", 2).Position
		a := open(0)
		var v row
		var b *Binding
		a.do(func() { b = one(a.p, &v, w.rows, "a") })
		settle()
		var stopped *projection.StoppedError
		require.ErrorAs(t, b.Err(), &stopped)
		a.see(func() { require.Equal(t, row{"a", 1}, v) })
		a.do(func() { a.p.wrote(last) })
		a.see(func() { require.False(t, a.held(), "nobody waits for what is stopped") })
		require.NoError(t, w.app.Group.Resume("shelf"))
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.NoError(t, b.Err())
		a.see(func() { require.Equal(t, row{"a", 2}, v) })

		c := open(uint64(last))
		require.NoError(t, w.app.Group.Pause(t.Context(), "shelf"))
		w.write("a", 3)
		settle()
		require.ErrorAs(t, b.Err(), &stopped, "a page that was there before is told too")
		require.NoError(t, w.app.Group.Resume("shelf"))
		a.leave()
		c.leave()
		settle()
		w.close()
	})
}

func TestWhatCannotBeReadKeepsItsValueAndIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		for _, s := range w.sources() {
			a := open(0)
			var v row
			var l []row
			var bs []*Binding
			a.do(func() { bs = append(bs, one(a.p, &v, s, "a"), all(a.p, &l, s)) })
			other := open(0) // which shows nothing but the list
			var ol []row
			other.do(func() { bs = append(bs, all(other.p, &ol, s)) })
			before := v
			w.faults.set(true)
			w.write("a", before.N+1)
			settle()
			for _, b := range bs {
				require.ErrorIs(t, b.Err(), errFault)
			}
			a.see(func() { require.Equal(t, before, v); require.Equal(t, []row{before}, l) })
			first := open(0)
			var x row
			first.do(func() { require.ErrorIs(t, one(first.p, &x, s, "b").Err(), errFault) })
			w.faults.set(false)
			time.Sleep(6 * time.Second)
			synctest.Wait()
			for _, b := range bs {
				require.NoError(t, b.Err())
			}
			a.see(func() { require.Equal(t, row{"a", before.N + 1}, v); require.Equal(t, []row{v}, l) })
			a.leave()
			other.leave()
			first.leave()
			settle()
		}
		w.close()
	})
}

func TestOneBadValueDoesNotHoldUpTheOthersReadWithIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		w.write("bad", 1)
		read := w.notes.c.Read
		w.notes.c.Read = func(ctx context.Context, keys []string) (map[string]row, eventstore.Position, error) {
			for _, k := range keys {
				if k == "bad" {
					panic("cannot read this")
				}
			}
			return read(ctx, keys)
		}
		a := open(0)
		var l []row
		a.do(func() {
			require.ErrorContains(t, many(a.p, &l, w.notes, []string{"bad", "a"}).Err(), "cannot read this")
		})
		a.see(func() { require.Equal(t, []row{{"a", 1}}, l) })
		a.leave()
		settle()
		w.close()
	})
}

func TestAModelThatIsBuiltAnewIsNotShownUntilItHasCaughtUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 50 {
			w.write("a", i+1)
		}
		a := open(0)
		var v row
		var l []row
		a.do(func() {
			one(a.p, &v, w.rows, "a")
			all(a.p, &l, w.rows)
		})
		check := func() { require.Equal(t, []any{row{"a", 50}, []row{{"a", 50}}}, []any{v, l}) }
		a.see(func() { a.check = check })
		for range 3 {
			require.NoError(t, w.app.Group.Reset(t.Context(), "shelf"))
			w.rows.hub.mu.Lock()
			w.rows.hub.changed(map[string]struct{}{"a": {}}, false)
			w.rows.hub.schedule()
			w.rows.hub.mu.Unlock()
			settle()
		}
		a.leave()
		settle()
		w.close()
	})
}

func TestAClosedStoreEndsItAndSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		a := open(0)
		var v row
		var b *Binding
		a.do(func() { b = one(a.p, &v, w.notes, "a") })
		w.stop()
		require.NoError(t, <-w.over)
		require.NoError(t, w.store.Close())
		settle()
		require.ErrorIs(t, b.Err(), eventstore.ErrClosed)
		a.see(func() { require.Equal(t, row{"a", 1}, v) })
		a.leave()
		settle()
	})
}

func TestAHotAggregateIsReadAtMostOnceInAnInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		tabs := make([]*tab, 100)
		vs := make([]row, len(tabs))
		for i := range tabs {
			tabs[i] = open(0)
			tabs[i].do(func() { one(tabs[i].p, &vs[i], w.notes, "a") })
		}
		require.LessOrEqual(t, w.faults.count(), 2, "they share what was read")
		before, start := w.faults.count(), time.Now()
		n := 1
		for time.Since(start) < 200*time.Millisecond {
			n++
			w.write("a", n)
			time.Sleep(100 * time.Microsecond)
		}
		settle()
		require.LessOrEqual(t, w.faults.count()-before, 12, "200 ms / 20 ms, however many events and pages there are")
		for i, a := range tabs {
			a.see(func() {
				require.Equal(t, row{"a", n}, vs[i])
				require.LessOrEqual(t, a.funcs, 15)
			})
			a.leave()
		}
		settle()
		w.close()
	})
}

func TestAPageThatIsGoneBindsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		a := open(0)
		a.leave()
		settle()
		var v row
		var l []row
		require.ErrorIs(t, one(a.p, &v, w.notes, "a").Err(), context.Canceled)
		require.ErrorIs(t, many(a.p, &l, w.notes, []string{"a"}).Err(), context.Canceled)
		require.ErrorIs(t, all(a.p, &l, w.rows).Err(), context.Canceled)
		settle()
		w.close()
	})
}

func TestSourcesThatLackSomethingAreRefused(t *testing.T) {
	t.Parallel()
	store := newStore(t)
	read := func(context.Context, []string) (map[string]row, eventstore.Position, error) { return nil, 0, nil }
	for name, c := range map[string]Config[string, row]{
		"no store":       {Read: read},
		"no read":        {Store: store},
		"order, no list": {Store: store, Read: read, Compare: byID},
		"no projection":  {Store: store, Read: read, Group: &projection.Group{}},
	} {
		_, err := New(c)
		require.Error(t, err, name)
	}
	s, err := New(Config[string, row]{Store: store, Read: read})
	require.NoError(t, err)
	a := open(0)
	var l []row
	require.ErrorContains(t, all(a.p, &l, s).Err(), "no list")
	a.leave()
}

func TestGetReadsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		v, ok, err := w.notes.Get(t.Context(), "a")
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, row{"a", 1}, v)
		_, ok, err = w.notes.Get(t.Context(), "b")
		require.NoError(t, err)
		require.False(t, ok)
		w.faults.set(true)
		_, _, err = w.notes.Get(t.Context(), "a")
		require.True(t, errors.Is(err, errFault))
		w.close()
	})
}

func TestAnEventIsSeenThoughTheRepositoryWasNotToldYet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := memstore.Open(nil)
		defer store.Close()
		var gate chan struct{}
		stop := store.Watch("note", func(eventstore.StreamName, eventstore.Version) {
			if gate != nil {
				<-gate // holds up those that are told after this one
			}
		})
		defer stop()
		s, err := Aggregates(store, Notes, func(n *Note, _ At) (row, bool) { return row{"a", n.N}, true }, nil)
		require.NoError(t, err)
		write := func(n int) {
			_, err := store.Append(t.Context(), "note-a", eventstore.Any, eventstore.Event{Data: Written{n}})
			require.NoError(t, err)
		}
		write(1)
		v, _, err := s.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, row{"a", 1}, v)
		gate = make(chan struct{})
		go write(2)
		synctest.Wait()
		time.AfterFunc(time.Second, func() { close(gate) })
		v, _, err = s.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, row{"a", 2}, v)
	})
}

// A gated source reads when it is let, so that a test decides about the order of what happens at the same time.
type gated struct {
	*Source[string, row]
	n         atomic.Int64
	one, all  chan struct{} // each lets one read return
	seenFirst atomic.Bool   // All sees before it waits, else after
}

func newGated(t *testing.T, w *world) *gated {
	g := &gated{one: make(chan struct{}, 9), all: make(chan struct{}, 9)}
	see := func() map[string]row { return map[string]row{"a": {"a", int(g.n.Load())}} }
	var err error
	g.Source, err = New(Config[string, row]{
		Store: w.store,
		Keys:  func(r *eventstore.Recorded) []string { return []string{r.Stream.ID()} },
		Read: func(context.Context, []string) (map[string]row, eventstore.Position, error) {
			m := see()
			<-g.one
			return m, 0, nil
		},
		All: func(context.Context) (map[string]row, eventstore.Position, error) {
			m := see()
			<-g.all
			if !g.seenFirst.Load() {
				m = see()
			}
			return m, 0, nil
		},
		Compare: byID,
	})
	require.NoError(t, err)
	return g
}

func TestAListDoesNotGoBackToWhatAValueWasBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		g := newGated(t, w)
		g.n.Store(1)
		a, b := open(0), open(0)
		var v row
		var l []row
		greatest := 0
		b.check = func() {
			for _, r := range l {
				require.GreaterOrEqual(t, r.N, greatest)
				greatest = r.N
			}
		}
		go a.do(func() { one(a.p, &v, g.Source, "a") }) // sees 1 and waits
		synctest.Wait()
		go b.do(func() { all(b.p, &l, g.Source) })
		synctest.Wait()
		g.n.Store(2)
		w.write("a", 2)
		synctest.Wait()
		g.all <- struct{}{} // the list has 2
		synctest.Wait()
		g.one <- struct{}{} // and now comes 1
		synctest.Wait()
		b.see(func() { require.Equal(t, []row{{"a", 2}}, l) })
		g.one <- struct{}{}
		settle()
		a.see(func() { require.Equal(t, row{"a", 2}, v) })
		b.see(func() { require.Equal(t, []row{{"a", 2}}, l) })
		a.leave()
		b.leave()
		settle()
		w.close()
	})
}

func TestWhatChangesWhileAListIsReadIsBroughtInAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		g := newGated(t, w)
		g.seenFirst.Store(true)
		g.n.Store(1)
		b := open(0)
		var l []row
		go b.do(func() { all(b.p, &l, g.Source) }) // sees 1 and waits
		synctest.Wait()
		g.n.Store(2)
		w.write("a", 2)
		g.one <- struct{}{}
		settle()
		g.all <- struct{}{}
		g.one <- struct{}{}
		settle()
		b.see(func() { require.Equal(t, []row{{"a", 2}}, l) })
		b.leave()
		settle()
		w.close()
	})
}

func TestAValueThatIsBehindTwiceIsNotTakenForCurrent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		g := newGated(t, w)
		g.n.Store(1)
		a := open(0)
		var v row
		g.one <- struct{}{}
		a.do(func() { one(a.p, &v, g.Source, "a") })
		g.n.Store(2)
		w.write("a", 2) // its read waits
		settle()
		g.n.Store(3)
		a.do(func() { a.p.wrote(w.write("a", 3).Position) })
		settle()
		g.n.Store(4)
		w.write("a", 4)
		settle()
		a.see(func() { require.NotEmpty(t, a.holds); require.Equal(t, row{"a", 1}, v) })
		g.one <- struct{}{} // what was seen before the event
		settle()
		a.see(func() { require.NotEmpty(t, a.holds); require.Equal(t, row{"a", 2}, v) })
		g.one <- struct{}{}
		settle()
		a.see(func() { require.Empty(t, a.holds); require.Equal(t, row{"a", 4}, v) })
		a.leave()
		settle()
		w.close()
	})
}

func TestManyPagesAndWritersOnAStoreOnDisk(t *testing.T) {
	t.Parallel()
	store, err := sqlitestore.Open(filepath.Join(t.TempDir(), "notes.db"), nil)
	require.NoError(t, err)
	w := newWorldOn(t, store)
	var tabs []*tab
	fields := make([]row, 12)
	lists := make([][]row, len(fields))
	for i := range fields {
		a := open(0)
		tabs = append(tabs, a)
		a.do(func() {
			s := w.sources()[i%3]
			one(a.p, &fields[i], s, fmt.Sprint(i%4))
			all(a.p, &lists[i], s)
		})
		greatest := 0
		a.see(func() {
			a.check = func() {
				assert.GreaterOrEqual(t, fields[i].N, greatest)
				greatest = fields[i].N
			}
		})
	}
	var writers sync.WaitGroup
	for id := range 4 {
		writers.Go(func() {
			for n := range 100 {
				w.write(fmt.Sprint(id), n+1)
			}
		})
	}
	writers.Wait()
	var want []row
	for id := range 4 {
		want = append(want, row{fmt.Sprint(id), 100})
	}
	for i, a := range tabs {
		require.Eventually(t, func() (ok bool) {
			a.see(func() { ok = fields[i] == want[i%4] && slices.Equal(lists[i], want) })
			return ok
		}, 20*time.Second, time.Millisecond)
		a.leave()
	}
	for _, s := range w.sources() {
		require.Eventually(t, func() bool { return !s.awake() }, 20*time.Second, time.Millisecond)
	}
	w.close()
}
