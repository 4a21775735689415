package sync

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
)

// A mirror is a list that is kept by what is done to a stream.
type mirror struct {
	t     require.TestingT
	items []row
	ops   int
}

func (m *mirror) index(id string) int {
	return slices.IndexFunc(m.items, func(r row) bool { return r.ID == id })
}

func (m *mirror) Reset() { m.items = nil }

func (m *mirror) Append(items ...row) { m.items = append(m.items, items...) }

func (m *mirror) Insert(at int, items ...row) {
	for i, r := range items {
		m.ops++
		require.Negative(m.t, m.index(r.ID), "what is put in was not there")
		m.items = slices.Insert(m.items, at+i, r)
	}
}

func (m *mirror) Update(items ...row) {
	for _, r := range items {
		m.ops++
		i := m.index(r.ID)
		require.GreaterOrEqual(m.t, i, 0, "what is changed was there")
		m.items[i] = r
	}
}

func (m *mirror) Delete(ids ...string) {
	for _, id := range ids {
		m.ops++
		i := m.index(id)
		require.GreaterOrEqual(m.t, i, 0, "what is taken out was there")
		m.items = slices.Delete(m.items, i, i+1)
	}
}

func rowID(r row) string { return r.ID }

func TestAStreamIsToldWhatChangedAndNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 20 {
			w.write(fmt.Sprintf("%02d", i), 5)
		}
		settle()
		for _, s := range w.sources() {
			a := open(0)
			m := &mirror{t: t}
			a.do(func() { flow(a.p, m, s, rowID) })
			a.see(func() { require.Len(t, m.items, 20); m.ops = 0 })
			w.write("07", 10) // the same place in either order
			settle()
			a.see(func() { require.Equal(t, 1, m.ops); m.ops = 0 })
			w.write("30", 1)
			settle()
			a.see(func() { require.Equal(t, 1, m.ops); m.ops = 0 })
			_, err := w.app.Dispatch(t.Context(), Tear{"30"})
			require.NoError(t, err)
			settle()
			a.see(func() { require.Equal(t, 1, m.ops); m.ops = 0 })
			w.write("07", 5)
			settle()
			a.see(func() { require.Equal(t, sorted(t, s), m.items) })
			a.leave()
		}
		settle()
		w.close()
	})
}

func TestAStreamThatIsFarBehindBeginsAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 10 {
			w.write(fmt.Sprintf("%02d", i), 5)
		}
		a := open(0)
		m := &mirror{t: t}
		a.do(func() { flow(a.p, m, w.notes, rowID) })
		a.do(func() { // for as long as this lasts the page takes nothing
			for i := range maxOps + 50 {
				w.write("03", i)
				time.Sleep(25 * time.Millisecond)
			}
			m.ops = 0
		})
		settle()
		a.see(func() {
			require.Zero(t, m.ops)
			require.Equal(t, sorted(t, w.notes), m.items)
		})
		a.leave()
		settle()
		w.close()
	})
}

// A machine is a world with pages, and what must be true of them.
type machine struct {
	*world
	t     *rapid.T
	clock int // every write has a greater N
	tabs  []*looker
	acks  int
	saw   *witness
}

// A witness is a require.TestingT for the goroutines of pages.
type witness struct {
	mu     sync.Mutex
	faults []string
}

func (w *witness) Errorf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *witness) FailNow() { runtime.Goexit() }

// heard fails the test with what the pages' goroutines have seen.
func (w *witness) heard(t require.TestingT) {
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Empty(t, w.faults)
}

// A looker is a page that is bound in all ways.
type looker struct {
	*tab
	m     *machine
	src   []*Source[string, row] // by field
	key   string
	keys  []string
	one   row
	many  []row
	all   []row
	flow  *mirror
	bound [4]bool
	bs    [4]*Binding
	seen  map[string]int // the greatest N of each note, for what each field is bound to
}

var ids = []string{"a", "b", "c", "d", "e"}

func (m *machine) open() {
	last := uint64(0)
	if head, _ := m.store.Head(context.Background()); head > 0 && rapid.Bool().Draw(m.t, "back") {
		last = uint64(rapid.IntRange(0, int(head)).Draw(m.t, "last"))
	}
	l := &looker{tab: open(last), m: m, src: make([]*Source[string, row], 4), flow: &mirror{t: m.saw}, seen: map[string]int{}}
	l.tab.check = l.forward
	m.tabs = append(m.tabs, l)
	for i := range 4 {
		l.bind(i)
	}
}

// bind binds a field to something, maybe to what it is bound to already.
func (l *looker) bind(field int) {
	s := l.m.sources()[rapid.IntRange(0, 2).Draw(l.m.t, "source")]
	key := rapid.SampledFrom(ids).Draw(l.m.t, "key")
	keys := rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 0, 5, rapid.ID).Draw(l.m.t, "keys")
	l.do(func() {
		if field == 0 && (l.src[0] != s || l.key != key) || field != 0 && l.src[field] != s {
			for k := range l.seen { // another source may be behind the one before
				if k[0] == byte('0'+field) {
					delete(l.seen, k)
				}
			}
		}
		l.src[field], l.bound[field] = s, true
		switch field {
		case 0:
			l.key = key
			l.bs[0] = one(l.p, &l.one, s, key)
		case 1:
			l.keys = keys
			l.bs[1] = many(l.p, &l.many, s, keys)
		case 2:
			l.bs[2] = all(l.p, &l.all, s)
		case 3:
			l.flow = &mirror{t: l.m.saw}
			if l.bs[3] != nil {
				l.bs[3].Stop()
			}
			l.bs[3] = flow(l.p, l.flow, s, rowID)
		}
	})
}

// forward holds after every func of the page.
func (l *looker) forward() {
	for field, rows := range [][]row{{l.one}, l.many, l.all, l.flow.items} {
		for _, r := range rows {
			if r.ID == "" {
				continue
			}
			k := fmt.Sprint(field, r.ID)
			require.GreaterOrEqual(l.m.saw, r.N, l.seen[k], "field %d went back in time: %v", field, r)
			l.seen[k] = r.N
		}
	}
}

// truth requires the page to show exactly what the store has.
func (l *looker) truth() {
	for i, b := range l.bs {
		require.NoError(l.m.t, b.Err(), "field %d", i)
	}
	want := func(s *Source[string, row], ids []string) (list []row) {
		for _, id := range ids {
			v, ok, err := s.Get(context.Background(), id)
			require.NoError(l.m.t, err)
			if ok {
				list = append(list, v)
			}
		}
		return list
	}
	n, _, err := l.src[0].Get(context.Background(), l.key)
	require.NoError(l.m.t, err)
	require.Equal(l.m.t, n, l.one)
	require.Equal(l.m.t, fmt.Sprint(want(l.src[1], l.keys)), fmt.Sprint(l.many))
	full := want(l.src[2], ids)
	slices.SortFunc(full, l.src[2].c.Compare)
	require.Equal(l.m.t, fmt.Sprint(full), fmt.Sprint(l.all))
	full = want(l.src[3], ids)
	slices.SortFunc(full, l.src[3].c.Compare)
	require.Equal(l.m.t, fmt.Sprint(full), fmt.Sprint(l.flow.items))
}

func (m *machine) write() (id string, n int, pos eventstore.Position) {
	id = rapid.SampledFrom(ids).Draw(m.t, "note")
	m.clock++
	return id, m.clock, m.world.write(id, m.clock).Position
}

// act does something at random.
func (m *machine) act() {
	if len(m.tabs) == 0 {
		m.open()
	}
	l := m.tabs[rapid.IntRange(0, len(m.tabs)-1).Draw(m.t, "page")]
	switch op := rapid.IntRange(0, 99).Draw(m.t, "op"); {
	case op < 30:
		for range rapid.IntRange(1, 5).Draw(m.t, "writes") {
			m.write()
		}
	case op < 40:
		_, err := m.app.Dispatch(context.Background(), Tear{rapid.SampledFrom(ids).Draw(m.t, "note")})
		if err != nil {
			require.ErrorIs(m.t, err, errNone)
		}
	case op < 50 && len(m.tabs) < 6:
		m.open()
	case op < 56:
		l.leave()
		m.tabs = slices.DeleteFunc(m.tabs, func(o *looker) bool { return o == l })
	case op < 72:
		l.bind(rapid.IntRange(0, 3).Draw(m.t, "field"))
	case op < 84:
		m.readYourWrite(l)
	case op < 90: // the page is busy while others write
		l.do(func() {
			for range 3 {
				m.write()
				time.Sleep(time.Duration(rapid.IntRange(0, 60).Draw(m.t, "busy")) * time.Millisecond)
			}
		})
	case op < 92:
		m.faults.set(true)
		m.write()
		time.Sleep(time.Duration(rapid.IntRange(0, 500).Draw(m.t, "broken")) * time.Millisecond)
		m.faults.set(false)
	case op < 93:
		require.NoError(m.t, m.app.Group.Reset(context.Background(), "shelf"))
		require.NoError(m.t, m.app.Group.Wait(context.Background(), m.head(), "shelf"))
	case op < 95:
		require.NoError(m.t, m.app.Group.Pause(context.Background(), "shelf"))
		m.write()
		time.Sleep(time.Duration(rapid.IntRange(0, 500).Draw(m.t, "paused")) * time.Millisecond)
		require.NoError(m.t, m.app.Group.Resume("shelf"))
	default:
		time.Sleep(time.Duration(rapid.IntRange(0, 40).Draw(m.t, "pass")) * time.Millisecond)
	}
}

func (m *machine) head() eventstore.Position {
	head, err := m.store.Head(context.Background())
	require.NoError(m.t, err)
	return head
}

// readYourWrite writes on a page and looks what it shows when the event is acknowledged.
func (m *machine) readYourWrite(l *looker) {
	var id string
	var n int
	if rapid.Bool().Draw(m.t, "healthy") { // else what has failed may not have been tried again yet
		m.rest()
	}
	l.do(func() {
		var pos eventstore.Position
		id, n, pos = m.write()
		l.p.wrote(pos)
	})
	released(m.t, l.tab, func() {
		m.acks++
		if id == l.key && l.bs[0].Err() == nil {
			require.Equal(m.saw, row{id, n}, l.one, "one")
		}
		for field, rows := range [][]row{1: l.many, 2: l.all, 3: l.flow.items} {
			if field == 0 || field == 1 && !slices.Contains(l.keys, id) || l.bs[field].Err() != nil {
				continue
			}
			require.Contains(m.saw, rows, row{id, n}, "field %d", field)
		}
	})
}

// rest lets everything happen that is under way.
func (m *machine) rest() {
	time.Sleep(12 * time.Second)
	synctest.Wait()
}

// outside hides that it is a *testing.T, of which rapid would ask the deadline: there
// is none inside synctest.
type outside struct{ testing.TB }

func TestWhenIdleEveryPageShowsTheTruthAndNeverGoesBackInTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		rapid.Check(outside{t}, func(rt *rapid.T) {
			m := &machine{world: newWorld(rt), t: rt, saw: &witness{}}
			m.slow = rapid.Bool().Draw(rt, "slow")
			for range rapid.IntRange(1, 25).Draw(rt, "rounds") {
				for range rapid.IntRange(1, 8).Draw(rt, "acts") {
					m.act()
					m.saw.heard(rt)
				}
				if rapid.Bool().Draw(rt, "idle") {
					m.rest()
					for _, l := range m.tabs {
						l.see(l.truth)
					}
				}
			}
			m.rest()
			for _, l := range m.tabs {
				l.see(l.truth)
				l.leave()
			}
			synctest.Wait()
			m.saw.heard(rt)
			m.close()
		})
	})
}

func TestReadingYourWritesOnAStoreThatFailsIsNotHeldForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("a", 1)
		a := open(0)
		var v row
		var b *Binding
		a.do(func() { b = one(a.p, &v, w.notes, "a") })
		w.faults.set(true)
		a.do(func() { a.p.wrote(w.write("a", 2).Position) })
		released(t, a, func() { require.True(t, errors.Is(b.Err(), errFault)) })
		w.faults.set(false)
		a.leave()
		settle()
		w.close()
	})
}
