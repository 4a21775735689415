package drivertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// A Harness makes the stores to test.
type Harness struct {
	// Open returns a new, empty store, and arranges its own cleanup with
	// t.Cleanup. The suite may have closed the store by then. Open is called
	// from several subtests at once.
	Open func(t testing.TB) driver.Store
	// Reopen closes d and opens the same store again. Nil means that the store
	// does not outlive its process, and durability is not tested.
	Reopen func(t testing.TB, d driver.Store) driver.Store
	// Peer opens the store of d, which stays open, once more, as another process
	// would, and arranges its own cleanup with t.Cleanup. Nil means that no other
	// process can write to the store: that it is Exclusive.
	Peer func(t testing.TB, d driver.Store) driver.Store
	// LooseDelete says that the engine does not check an append and a deletion of
	// its stream against each other: where both are made at once and expect the
	// stream as it was, both may succeed, and what is appended follows the deletion.
	// The driver's documentation must say so.
	LooseDelete bool
}

// Run runs the suite as subtests of t. Those of a feature run in parallel.
func Run(t *testing.T, h Harness) {
	for _, feature := range features {
		t.Run(feature.name, func(t *testing.T) {
			feature.test(&group{t: t, h: h})
		})
	}
	t.Run("Peers", func(t *testing.T) {
		if h.Peer == nil {
			t.Skip("no other process can write to the store")
		}
		for _, feature := range features {
			if feature.shared {
				t.Run(feature.name, func(t *testing.T) {
					feature.test(&group{t: t, h: h, shared: true})
				})
			}
		}
		testPeers(&group{t: t, h: h})
	})
}

// features are what a driver must do, or can. Those that are shared must go as
// well where each call is made by one of two processes.
var features = []struct {
	name   string
	test   func(*group)
	shared bool
}{
	{"Append", testAppend, true},
	{"Concurrent", testConcurrent, true},
	{"Linearizable", testLinearizable, true},
	{"Batch", testBatch, true},
	{"Inline", testInline, false},
	{"ReadStream", testReadStream, true},
	{"ReadAll", testReadAll, true},
	{"Wait", testWait, true},
	{"Stream", testStream, true},
	{"Close", testClose, false},
	{"List", testList, true},
	{"Delete", testDelete, true},
	{"Date", testDate, true},
	{"Snapshot", testSnapshot, true},
	{"Checkpoint", testCheckpoint, true},
	{"Lease", testLease, true},
	{"Conditional", testConditional, true},
	{"Atomic", testAtomic, true},
	{"View", testView, false},
	{"Durable", testDurable, false},
	{"Model", testModel, false},
}

// A group is the subtests of a feature.
type group struct {
	t      *testing.T
	h      Harness
	shared bool // each call is made by one of two processes
}

// test runs one subtest with a store of its own.
func (g *group) test(name string, f func(*fixture)) {
	g.t.Run(name, func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		x := &fixture{T: t, h: g.h, ctx: ctx, d: g.h.Open(t)}
		if g.shared {
			x.d = newTurns(x.d, g.h.Peer(t, x.d))
			x.h.Reopen = nil
		}
		f(x)
	})
}

// A fixture is one subtest and its store.
type fixture struct {
	*testing.T
	h   Harness
	ctx context.Context // ends if the subtest takes far too long
	d   driver.Store
}

// can returns the driver as an optional interface, or skips the subtest.
func can[T any](f *fixture) T {
	f.Helper()
	v, ok := as[T](f.d)
	if !ok {
		f.Skipf("%T does not implement %v", f.d, reflect.TypeFor[T]())
	}
	return v
}

// handles returns the handles that the store is open under.
func (f *fixture) handles() []driver.Store {
	if t, ok := f.d.(*turns); ok {
		return t.handles[:]
	}
	return []driver.Store{f.d}
}

// reopen replaces the store by the same one, opened again.
func (f *fixture) reopen() {
	f.Helper()
	if f.h.Reopen == nil {
		f.Skip("the store does not outlive its process")
	}
	f.d = f.h.Reopen(f.T, f.d)
}

// lastID numbers the events of this process.
var lastID atomic.Uint64

// event returns an event with an id of its own.
func event(typ, data string, tags ...string) driver.Event {
	e := driver.Event{Type: typ, ContentType: "text/plain", Data: []byte(data), Tags: tags}
	e.ID[0] = 0xE5
	binary.BigEndian.PutUint64(e.ID[8:], lastID.Add(1))
	return e
}

// events returns n events of type "t" whose data is their number from 1.
func events(n int) []driver.Event {
	list := make([]driver.Event, n)
	for i := range list {
		list[i] = event("t", fmt.Sprint(i+1))
	}
	return list
}

// try appends, and checks what holds for every result.
func (f *fixture) try(stream string, expected int64, list ...driver.Event) driver.Result {
	f.Helper()
	r := f.d.Append(f.ctx, driver.Append{Stream: stream, Expected: expected, Events: list})
	if r.Err == nil {
		checkResult(f, r, len(list))
	}
	return r
}

// append appends, which must succeed.
func (f *fixture) append(stream string, expected int64, list ...driver.Event) driver.Result {
	f.Helper()
	r := f.try(stream, expected, list...)
	require.NoError(f, r.Err, "append to %q expecting %d", stream, expected)
	return r
}

// appendAll appends to stream, whatever it holds, with as few appends as the
// driver's limits allow.
func (f *fixture) appendAll(stream string, list ...driver.Event) (last driver.Result) {
	f.Helper()
	most := len(list)
	if l := f.d.Limits().AppendEvents; l > 0 {
		most = min(most, l)
	}
	for part := range slices.Chunk(list, most) {
		last = f.append(stream, driver.Any, part...)
	}
	return last
}

// fill appends n events to stream, each by itself, whatever it holds.
func (f *fixture) fill(stream string, n int) {
	f.Helper()
	for _, e := range events(n) {
		f.append(stream, driver.Any, e)
	}
}

// checkResult checks what every successful result of n events promises.
func checkResult(t require.TestingT, r driver.Result, n int) {
	require.NotZero(t, r.Last, "the last position must be told")
	require.GreaterOrEqual(t, r.Version, uint64(1))
	if r.Positions != nil {
		require.Len(t, r.Positions, n, "one position an event")
		require.Equal(t, r.Last, r.Positions[n-1], "the last position")
		for i := 1; i < n; i++ {
			require.Greater(t, r.Positions[i], r.Positions[i-1], "positions of one append increase")
		}
	}
	require.False(t, r.Time.IsZero(), "the time must be told")
}

// conflict checks that err is a *ConflictError at version actual.
func (f *fixture) conflict(err error, actual uint64) {
	f.Helper()
	require.Equal(f, actual, f.conflicts(err).Actual, "where the conflict says the stream is")
}

// conflicts checks that err is a *ConflictError.
func (f *fixture) conflicts(err error) *driver.ConflictError {
	f.Helper()
	var conflict *driver.ConflictError
	require.Error(f, err)
	require.True(f, errors.As(err, &conflict), "want a *ConflictError, have %v", err)
	return conflict
}

// unchanged runs do and checks that neither the log nor the streams changed.
func (f *fixture) unchanged(streams []string, do func()) {
	f.Helper()
	type state struct {
		head  uint64
		infos []driver.StreamInfo
		log   []driver.Recorded
	}
	look := func() (s state) {
		var err error
		s.head, err = f.d.Head(f.ctx)
		require.NoError(f, err)
		for _, name := range streams {
			info, err := f.d.Stream(f.ctx, name)
			if err != nil {
				require.ErrorIs(f, err, driver.ErrStreamDeleted)
			}
			s.infos = append(s.infos, info)
		}
		s.log = f.all(driver.Filter{})
		return s
	}
	before := look()
	do()
	require.Equal(f, before, look(), "nothing may have been written")
}

// stream returns all events of a stream, read forward in pages of 50, and
// checks that their versions are dense.
func (f *fixture) stream(name string) []driver.Recorded {
	f.Helper()
	var list []driver.Recorded
	for from := uint64(0); ; {
		page, err := f.d.ReadStream(f.ctx, name, from, driver.Forward, 50)
		require.NoError(f, err)
		require.LessOrEqual(f, len(page), 50)
		for i, r := range page {
			require.Equal(f, name, r.Stream)
			if len(list) > 0 || i > 0 {
				require.Equal(f, from+1, r.Version, "versions of %q are dense", name)
			}
			from = r.Version
		}
		list = append(list, page...)
		if len(page) < 50 {
			return list
		}
	}
}

// all returns all events that a filter selects, read forward in pages of 50.
func (f *fixture) all(filter driver.Filter) []driver.Recorded {
	f.Helper()
	return f.allBy(filter, driver.Forward, 50)
}

// allBy returns all events that a filter selects, read to the other end in
// pages of limit, and checks what every page promises.
func (f *fixture) allBy(filter driver.Filter, dir driver.Direction, limit int) []driver.Recorded {
	f.Helper()
	return f.pages(dir, limit, func(from uint64) ([]driver.Recorded, uint64, error) {
		return f.d.ReadAll(f.ctx, filter, from, dir, limit)
	})
}

// pages reads by read to the other end of the log, and checks what every page
// promises.
func (f *fixture) pages(dir driver.Direction, limit int, read func(from uint64) ([]driver.Recorded, uint64, error)) []driver.Recorded {
	f.Helper()
	head, err := f.d.Head(f.ctx)
	require.NoError(f, err)
	var list []driver.Recorded
	for from := uint64(0); ; {
		page, scanned, err := read(from)
		require.NoError(f, err)
		checkPage(f, page, scanned, from, dir, limit)
		list = append(list, page...)
		if dir == driver.Backward {
			if scanned == 0 {
				return list
			}
		} else if scanned >= head && len(page) < limit {
			return list
		}
		if scanned == from {
			if dir == driver.Forward && len(page) == 0 && scanned >= head {
				return list
			}
			require.FailNow(f, "a read must make headway", "it stays at %d, the head is %d", scanned, head)
		}
		from = scanned
	}
}

// checkPage checks what ReadAll and Query promise of each page.
func checkPage(t require.TestingT, page []driver.Recorded, scanned, from uint64, dir driver.Direction, limit int) {
	require.LessOrEqual(t, len(page), limit, "at most limit events")
	last := from
	for i, r := range page {
		require.NotZero(t, r.Position, "positions are above 0")
		if dir == driver.Forward {
			require.Greater(t, r.Position, last, "positions increase, above the cursor")
		} else if i > 0 || from > 0 {
			require.Less(t, r.Position, last, "positions decrease, below the cursor")
		}
		last = r.Position
	}
	switch {
	case dir == driver.Forward:
		require.GreaterOrEqual(t, scanned, last, "what was returned was scanned")
	case len(page) > 0:
		require.LessOrEqual(t, scanned, last, "what was returned was scanned")
	case from > 0:
		require.LessOrEqual(t, scanned, from, "going backward, scanned cannot rise")
	}
}

// oddNames are names that an engine may take for one another, or for something
// else.
var oddNames = []string{
	"a", "A", "a-1", "a.1", "a/1", "a_1", "a=1", "a 1", " a", "a ", "a*", "*", ">", "a.>", "a%1", "%61", "=61", "é", "e\u0301", "$a", "$sys.a", "a\\1", "consumer/a b/0", ".", "..", "日本/語",
}

// positions returns the positions of a list.
func positions(list []driver.Recorded) []uint64 {
	ps := make([]uint64, len(list))
	for i, r := range list {
		ps[i] = r.Position
	}
	return ps
}

// versions returns the versions of a list.
func versions(list []driver.Recorded) []uint64 {
	vs := make([]uint64, len(list))
	for i, r := range list {
		vs[i] = r.Version
	}
	return vs
}

// data returns the data of a list.
func data(list []driver.Recorded) []string {
	ds := make([]string, len(list))
	for i, r := range list {
		ds[i] = string(r.Data)
	}
	return ds
}

// upTo returns 1, 2 … n.
func upTo(n int) []uint64 {
	list := make([]uint64, n)
	for i := range list {
		list[i] = uint64(i) + 1
	}
	return list
}

// downFrom returns n, n-1 … 1.
func downFrom(n int) []uint64 {
	list := upTo(n)
	slices.Reverse(list)
	return list
}

// stored returns e as readers see it: what is empty reads as nil.
func stored(e driver.Event) driver.Event {
	if len(e.Data) == 0 {
		e.Data = nil
	}
	if len(e.Metadata) == 0 {
		e.Metadata = nil
	}
	if len(e.Tags) == 0 {
		e.Tags = nil
	}
	return e
}

// same checks that got is want as recorded. Empty data may read as nil or not.
func same(t require.TestingT, want driver.Event, got driver.Recorded, msg ...any) {
	if len(got.Data) == 0 {
		got.Data = nil
	}
	require.Equal(t, stored(want), got.Event, msg...)
}

// eventually asks until ok says yes. It is for what happens at a time of the
// store's own choosing.
func (f *fixture) eventually(what string, ok func() bool) {
	f.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			require.FailNow(f, "never came true", what)
		}
	}
}
