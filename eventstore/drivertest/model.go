package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
)

func testModel(g *group) {
	g.t.Run("a random history leaves the driver as it leaves a plain model", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(rt *rapid.T) {
			w := &world{
				h: g.h, outer: t, ctx: t.Context(), d: g.h.Open(t),
				lines:       map[string]*line{},
				snapshots:   map[string]driver.Snapshot{},
				checkpoints: map[string]driver.Checkpoint{},
				cursors:     []uint64{0},
			}
			if g.h.Peer != nil && rapid.Bool().Draw(rt, "shared") {
				w.d, w.h.Reopen = newTurns(w.d, g.h.Peer(t, w.d)), nil
			}
			defer func() { w.d.Close() }()
			rt.Repeat(w.actions())
			w.everything(rt)
		})
	})
}

// A world is a driver, and what a plain model says that it holds.
type world struct {
	h     Harness
	outer *testing.T
	ctx   context.Context
	d     driver.Store

	log         []*entry
	lines       map[string]*line // by stream
	snapshots   map[string]driver.Snapshot
	checkpoints map[string]driver.Checkpoint
	cursors     []uint64 // positions that the driver gave out
	saved       int      // snapshots and checkpoints, to tell them apart
}

// An entry is an event of the model's log.
type entry struct {
	driver.Recorded
	gone bool // nobody sees it any more
	// deleted says that its stream was deleted: readers of the log may go on
	// seeing it, until the driver gets round to removing it.
	deleted bool
}

// A line is a stream of the model.
type line struct {
	version, first uint64
	origin         uint64 // the version at the last deletion
	purged         bool
	entries        []*entry // all that ever were, by version
}

// The pools are small, so that what is drawn meets what is there. Events of
// streams of the system have a type of their own and no tags: whether they match
// a query item, no contract says.
var (
	poolStreams  = []string{"a-1", "a-2", "a", "b-1-x", "b-1", "ab-1", "$sys-1", "$sys-2"}
	poolTypes    = []string{"opened", "closed", "changed"}
	poolTags     = []string{"x", "y", "z:1"}
	poolNames    = []string{"n", "n/1"}
	poolCategory = []string{"a", "b", "ab", "$sys", "none"}
)

// has returns the driver as an optional interface that it has.
func has[T any](w *world) T {
	v, _ := as[T](w.d)
	return v
}

func some(t *rapid.T, pool []string, most int, label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(pool), 0, most, rapid.ID[string]).Draw(t, label)
}

func (w *world) actions() map[string]func(*rapid.T) {
	actions := map[string]func(*rapid.T){
		"":                w.stands,
		"append":          w.append,
		"append again":    w.append,
		"read stream":     w.readStream,
		"read all":        w.readAll,
		"read all onward": w.readAll,
	}
	if _, ok := as[driver.Batcher](w.d); ok {
		actions["append batch"] = func(t *rapid.T) {
			as := rapid.SliceOfN(rapid.Custom(w.drawAppend), 1, 6).Draw(t, "batch")
			w.settle(t, as, has[driver.Batcher](w).AppendBatch(w.ctx, as), nil)
		}
	}
	if _, ok := as[driver.Inliner](w.d); ok {
		actions["append with"] = w.appendWith
	}
	if _, ok := as[driver.Atomic](w.d); ok {
		actions["append atomic"] = w.appendAtomic
	}
	if _, ok := as[driver.Conditional](w.d); ok {
		actions["append if"] = w.appendIf
		actions["query"] = w.query
	}
	if _, ok := as[driver.Deleter](w.d); ok {
		actions["truncate"] = w.truncate
		actions["delete"] = w.delete
		actions["purge"] = w.purge
	}
	if _, ok := as[driver.Lister](w.d); ok {
		actions["list"] = w.list
	}
	if _, ok := as[driver.Snapshotter](w.d); ok {
		actions["snapshots"] = few(w.snapshot)
	}
	if _, ok := as[driver.Checkpointer](w.d); ok {
		actions["checkpoints"] = few(w.checkpoint)
	}
	if w.h.Reopen != nil {
		actions["reopen"] = func(*rapid.T) { w.d = w.h.Reopen(w.outer, w.d) }
	}
	return actions
}

// few is an action a few times over, for what takes several to show.
func few(action func(*rapid.T)) func(*rapid.T) {
	return func(t *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(t, "times") {
			action(t)
		}
	}
}

// line returns a stream of the model, an empty one if there is none yet.
func (w *world) line(stream string) *line {
	l := w.lines[stream]
	if l == nil {
		l = &line{first: 1}
		w.lines[stream] = l
	}
	return l
}

func drawEvent(t *rapid.T, stream string) driver.Event {
	e := event("sys", rapid.SampledFrom([]string{"", "data", "a\x00b\xff"}).Draw(t, "data"))
	if stream[0] != '$' {
		e.Type = rapid.SampledFrom(poolTypes).Draw(t, "type")
		e.Tags = some(t, poolTags, 2, "tags")
	}
	if rapid.Bool().Draw(t, "metadata") {
		e.Metadata = map[string]string{"k": "v"}
	}
	return e
}

func (w *world) drawAppend(t *rapid.T) driver.Append {
	a := driver.Append{Stream: rapid.SampledFrom(poolStreams).Draw(t, "stream")}
	a.Expected = w.drawExpected(t, a.Stream)
	for range rapid.IntRange(1, 4).Draw(t, "events") {
		a.Events = append(a.Events, drawEvent(t, a.Stream))
	}
	return a
}

func (w *world) drawExpected(t *rapid.T, stream string) int64 {
	at := int64(w.line(stream).version)
	return rapid.SampledFrom([]int64{driver.Any, driver.Any, driver.NoStream, driver.StreamExists, max(at, 1), max(at, 1), at + 1, max(at-1, 1), 2}).Draw(t, "expected")
}

// holds says whether a stream is as expected, and if not, what the error may be.
func (l *line) holds(expected int64) bool {
	exists := l.version > l.origin
	switch expected {
	case driver.Any:
		return true
	case driver.NoStream:
		return !exists
	case driver.StreamExists:
		return exists
	}
	return exists && uint64(expected) == l.version
}

// refused checks err, of a write to a stream that is not as expected.
func (l *line) refused(t *rapid.T, err error) {
	if l.purged {
		require.ErrorIs(t, err, driver.ErrStreamDeleted)
		return
	}
	var conflict *driver.ConflictError
	require.Error(t, err)
	require.True(t, errors.As(err, &conflict), "want a *ConflictError, have %v", err)
	if l.version > l.origin {
		require.Equal(t, l.version, conflict.Actual)
	} else {
		require.Zero(t, conflict.Actual, "there is no such stream, or it was deleted")
	}
}

func (w *world) append(t *rapid.T) {
	a := w.drawAppend(t)
	w.settle(t, []driver.Append{a}, []driver.Result{w.d.Append(w.ctx, a)}, nil)
}

// settle checks the results of appends, and makes the model as they say. fails
// says which were to fail anyway.
func (w *world) settle(t *rapid.T, as []driver.Append, results []driver.Result, fails []error) {
	require.Len(t, results, len(as))
	for i, a := range as {
		l, r := w.line(a.Stream), results[i]
		if l.purged || !l.holds(a.Expected) {
			l.refused(t, r.Err)
			continue
		}
		if fails != nil && fails[i] != nil {
			require.ErrorIs(t, r.Err, fails[i])
			continue
		}
		require.NoError(t, r.Err, "append %d: %+v", i, a)
		w.appended(t, a, r)
	}
}

// appended checks the result of an append that was made, and makes it in the model.
func (w *world) appended(t *rapid.T, a driver.Append, r driver.Result) {
	l := w.line(a.Stream)
	checkResult(t, r, len(a.Events))
	require.Equal(t, l.version+uint64(len(a.Events)), r.Version)
	ps := r.Positions
	if ps == nil {
		read, err := w.d.ReadStream(w.ctx, a.Stream, l.version, driver.Forward, len(a.Events))
		require.NoError(t, err)
		ps = positions(read)
		require.Equal(t, r.Last, ps[len(ps)-1])
	}
	for k, e := range a.Events {
		w.record(t, a.Stream, e, ps[k], r)
	}
}

var errRefused = errors.New("refused")

// drawFn returns what takes part in an append, nil if nothing does, and the error that it will
// return. told returns the calls.
func (w *world) drawFn(t *rapid.T) (fn func(any, []driver.Recorded) error, told func() [][]driver.Recorded, refuses error) {
	var calls [][]driver.Recorded
	told = func() [][]driver.Recorded { return calls }
	if _, ok := as[driver.Inliner](w.d); !ok || rapid.Bool().Draw(t, "alone") {
		return nil, told, nil
	}
	if rapid.IntRange(0, 2).Draw(t, "refuse") == 0 {
		refuses = errRefused
	}
	return func(_ any, list []driver.Recorded) error {
		calls = append(calls, slices.Clone(list))
		return refuses
	}, told, refuses
}

// told checks that what took part in an append was told once of the last n events of the model.
func (w *world) told(t *rapid.T, calls [][]driver.Recorded, n int) {
	require.Len(t, calls, 1, "fn is called once")
	require.Len(t, calls[0], n)
	for i, x := range w.log[len(w.log)-n:] {
		x.equal(t, calls[0][i])
	}
}

func (w *world) appendAtomic(t *rapid.T) {
	list := rapid.SliceOfNDistinct(rapid.Custom(w.drawAppend), 1, 4, func(a driver.Append) string { return a.Stream }).Draw(t, "streams")
	if most := w.d.Limits().AppendEvents; most > 0 {
		n := 0
		list = slices.DeleteFunc(list, func(a driver.Append) bool {
			n += len(a.Events)
			return n > most
		})
	}
	fn, told, refuses := w.drawFn(t)
	results, err := has[driver.Atomic](w).AppendAtomic(w.ctx, list, fn)
	for _, a := range list {
		if l := w.line(a.Stream); l.purged || !l.holds(a.Expected) {
			l.refused(t, err)
			if conflict := (*driver.ConflictError)(nil); errors.As(err, &conflict) {
				require.Equal(t, a.Stream, conflict.Stream)
			}
			require.Empty(t, told(), "fn is not called for what cannot be made")
			return
		}
	}
	if refuses != nil {
		require.ErrorIs(t, err, refuses)
		return
	}
	require.NoError(t, err)
	checkResults(t, results, list)
	n := 0
	for i, a := range list {
		w.appended(t, a, results[i])
		n += len(a.Events)
	}
	if fn != nil {
		w.told(t, told(), n)
	}
}

// record adds an event to the model.
func (w *world) record(t *rapid.T, stream string, e driver.Event, position uint64, r driver.Result) {
	l := w.line(stream)
	if n := len(w.log); n > 0 {
		require.Greater(t, position, w.log[n-1].Position, "positions increase")
		require.False(t, r.Time.Before(w.log[n-1].Time), "time goes on")
	}
	l.version++
	x := &entry{Recorded: driver.Recorded{Event: stored(e), Stream: stream, Version: l.version, Position: position, Time: r.Time}}
	l.entries = append(l.entries, x)
	w.log = append(w.log, x)
	w.cursors = append(w.cursors, position)
}

func (w *world) appendWith(t *rapid.T) {
	as := rapid.SliceOfN(rapid.Custom(w.drawAppend), 1, 4).Draw(t, "batch")
	refused := errors.New("refused")
	fails := make([]error, len(as))
	ids := map[[16]byte]error{}
	for i := range as {
		if rapid.Bool().Draw(t, "refuse") {
			fails[i] = refused
		}
		ids[as[i].Events[0].ID] = fails[i]
	}
	results := has[driver.Inliner](w).AppendWith(w.ctx, as, func(_ any, events []driver.Recorded) error {
		return ids[events[0].ID]
	})
	w.settle(t, as, results, fails)
}

// equal checks that got is the entry.
func (x *entry) equal(t *rapid.T, got driver.Recorded) {
	want := x.Recorded
	require.True(t, want.Time.Equal(got.Time), "time: want %v, have %v", want.Time, got.Time)
	got.Time = want.Time
	if len(got.Data) == 0 {
		got.Data = nil
	}
	require.Equal(t, want, got)
}

func (w *world) readStream(t *rapid.T) {
	stream := rapid.SampledFrom(poolStreams).Draw(t, "stream")
	l := w.line(stream)
	from := rapid.Uint64Range(0, l.version+2).Draw(t, "from")
	dir := rapid.SampledFrom([]driver.Direction{driver.Forward, driver.Backward}).Draw(t, "direction")
	limit := rapid.IntRange(1, 12).Draw(t, "limit")
	w.checkStream(t, stream, from, dir, limit)
}

func (w *world) checkStream(t *rapid.T, stream string, from uint64, dir driver.Direction, limit int) {
	l := w.line(stream)
	got, err := w.d.ReadStream(w.ctx, stream, from, dir, limit)
	if l.purged {
		require.ErrorIs(t, err, driver.ErrStreamDeleted)
		return
	}
	require.NoError(t, err)
	var want []*entry
	for _, x := range l.entries[l.first-1:] {
		if dir == driver.Forward && x.Version > from || dir == driver.Backward && (from == 0 || x.Version < from) {
			want = append(want, x)
		}
	}
	if dir == driver.Backward {
		slices.Reverse(want)
	}
	want = want[:min(limit, len(want))]
	require.Len(t, got, len(want))
	for i, x := range want {
		x.equal(t, got[i])
	}
}

func (w *world) readAll(t *rapid.T) {
	filter := driver.Filter{
		Streams:    some(t, poolStreams, 3, "streams"),
		Categories: some(t, poolCategory, 2, "categories"),
		Types:      some(t, append([]string{"sys"}, poolTypes...), 2, "types"),
	}
	filter.System = rapid.IntRange(0, 3).Draw(t, "system") == 0
	// Most filters name one thing.
	switch rapid.IntRange(0, 4).Draw(t, "filter") {
	case 0:
		filter = driver.Filter{System: filter.System}
	case 1:
		filter = driver.Filter{Streams: filter.Streams}
	case 2:
		filter = driver.Filter{Categories: filter.Categories}
	case 3:
		filter = driver.Filter{Types: filter.Types, System: filter.System}
	}
	dir := rapid.SampledFrom([]driver.Direction{driver.Forward, driver.Backward}).Draw(t, "direction")
	limit := rapid.IntRange(1, 12).Draw(t, "limit")
	from := rapid.SampledFrom(w.cursors).Draw(t, "from")
	got, scanned, err := w.d.ReadAll(w.ctx, filter, from, dir, limit)
	require.NoError(t, err)
	w.checkPage(t, got, scanned, from, dir, limit, func(x *entry) bool { return match(filter, logged{x.Stream, x.Type}) })
}

func (w *world) query(t *rapid.T) {
	items := w.drawItems(t)
	limit := rapid.IntRange(1, 12).Draw(t, "limit")
	after := rapid.SampledFrom(w.cursors).Draw(t, "after")
	got, scanned, err := has[driver.Conditional](w).Query(w.ctx, items, after, limit)
	require.NoError(t, err)
	w.checkPage(t, got, scanned, after, driver.Forward, limit, func(x *entry) bool { return matchItems(items, x.Stream, x.Type, x.Tags) })
}

// checkPage checks a page of the log.
func (w *world) checkPage(t *rapid.T, got []driver.Recorded, scanned, from uint64, dir driver.Direction, limit int, match func(*entry) bool) {
	checkPage(t, got, scanned, from, dir, limit)
	order := w.log
	if dir == driver.Backward {
		order = slices.Clone(order)
		slices.Reverse(order)
	}
	rest := got
	for _, x := range order {
		switch {
		case dir == driver.Forward && x.Position <= from, dir == driver.Backward && from > 0 && x.Position >= from:
		case x.gone || !match(x):
		case len(rest) > 0 && rest[0].Position == x.Position:
			x.equal(t, rest[0])
			rest = rest[1:]
		case x.deleted:
		case dir == driver.Forward:
			require.Greater(t, x.Position, scanned, "this event was scanned and left out")
		default:
			require.Less(t, x.Position, scanned, "this event was scanned and left out")
		}
	}
	require.Empty(t, rest, "these events are not in the log, not in order, or not selected")
	if len(got) < limit {
		head, err := w.d.Head(w.ctx)
		require.NoError(t, err)
		if dir == driver.Forward {
			require.True(t, scanned >= head || scanned > from, "scanned stays at %d, the head is %d", scanned, head)
		} else {
			require.True(t, scanned == 0 || from == 0 || scanned < from, "scanned stays at %d", scanned)
		}
	}
	if scanned > 0 && scanned <= w.last() {
		w.cursors = append(w.cursors, scanned)
	}
}

// last returns the highest position that the driver ever gave out.
func (w *world) last() uint64 {
	if len(w.log) == 0 {
		return 0
	}
	return w.log[len(w.log)-1].Position
}

func (w *world) drawItems(t *rapid.T) []driver.QueryItem {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) driver.QueryItem {
		item := driver.QueryItem{Types: some(t, poolTypes, 2, "types"), Tags: some(t, poolTags, 2, "tags")}
		if len(item.Types)+len(item.Tags) == 0 {
			item.Tags = poolTags[:1]
		}
		return item
	}), 0, 3).Draw(t, "items")
}

func (w *world) appendIf(t *rapid.T) {
	items := w.drawItems(t)
	after := rapid.SampledFrom(append(w.cursors, w.last(), w.last(), w.last())).Draw(t, "after")
	var list []driver.StreamEvent
	purged := false
	for range rapid.IntRange(1, 4).Draw(t, "events") {
		stream := rapid.SampledFrom(poolStreams[:6]).Draw(t, "stream")
		list = append(list, driver.StreamEvent{Stream: stream, Event: drawEvent(t, stream)})
		purged = purged || w.line(stream).purged
	}
	fn, told, refuses := w.drawFn(t)
	r := has[driver.Conditional](w).AppendIf(w.ctx, items, after, list, fn)
	if purged && errors.Is(r.Err, driver.ErrStreamDeleted) {
		require.Empty(t, told(), "fn is not called for what cannot be made")
		return
	}
	// An event of a deleted stream may stand in the way, as long as it is there.
	var may []uint64
	must := false
	for _, x := range w.log {
		if len(items) > 0 && x.Position > after && !x.gone && matchItems(items, x.Stream, x.Type, x.Tags) {
			may = append(may, x.Position)
			if must = !x.deleted; must {
				break
			}
		}
	}
	if refuses != nil && !must && errors.Is(r.Err, refuses) {
		require.False(t, purged, "one of the streams was purged")
		return
	}
	if must || r.Err != nil {
		require.Empty(t, told(), "fn is not called for what cannot be made")
		var conflict *driver.ConflictError
		require.Error(t, r.Err)
		require.True(t, errors.As(r.Err, &conflict), "want a *ConflictError, have %v", r.Err)
		require.Contains(t, may, conflict.Actual)
		return
	}
	require.False(t, purged, "one of the streams was purged")
	require.NoError(t, refuses, "fn refused it")
	checkResult(t, r, len(list))
	ps := r.Positions
	if ps == nil {
		page, _, err := w.d.ReadAll(w.ctx, driver.Filter{}, w.last(), driver.Forward, len(list))
		require.NoError(t, err)
		ps = positions(page)
		require.Len(t, ps, len(list))
	}
	for i, e := range list {
		w.record(t, e.Stream, e.Event, ps[i], r)
	}
	if fn != nil {
		w.told(t, told(), len(list))
	}
}

func (w *world) truncate(t *rapid.T) {
	stream := rapid.SampledFrom(poolStreams).Draw(t, "stream")
	l := w.line(stream)
	before := rapid.Uint64Range(0, l.version+2).Draw(t, "before")
	err := has[driver.Deleter](w).Truncate(w.ctx, stream, before)
	switch {
	case l.purged:
		require.ErrorIs(t, err, driver.ErrStreamDeleted)
	case l.version == 0, before > l.version+1:
		require.Error(t, err)
	default:
		require.NoError(t, err)
		for l.first < before {
			l.entries[l.first-1].gone = true
			l.first++
		}
	}
}

func (w *world) delete(t *rapid.T) {
	stream := rapid.SampledFrom(poolStreams).Draw(t, "stream")
	expected := w.drawExpected(t, stream)
	l := w.line(stream)
	absent := l.version == l.origin && !l.purged
	if absent && l.version == 0 && l.holds(expected) || absent && l.version > 0 && expected != driver.Any {
		return // no contract says what becomes of it
	}
	err := has[driver.Deleter](w).Delete(w.ctx, stream, expected)
	if l.purged || !l.holds(expected) {
		l.refused(t, err)
		return
	}
	require.NoError(t, err)
	for l.first <= l.version {
		l.entries[l.first-1].deleted = true
		l.first++
	}
	l.origin = l.version
}

func (w *world) purge(t *rapid.T) {
	// Seldom, since nothing more can happen to a stream then.
	if rapid.IntRange(0, 2).Draw(t, "really") > 0 {
		return
	}
	stream := rapid.SampledFrom(poolStreams).Draw(t, "stream")
	require.NoError(t, has[driver.Deleter](w).Purge(w.ctx, stream))
	l := w.line(stream)
	l.purged = true
	for _, x := range l.entries {
		x.gone = true
	}
	delete(w.snapshots, stream)
}

// info is where the model says that a stream stands.
func (w *world) info(stream string) driver.StreamInfo {
	l := w.lines[stream]
	if l == nil || l.version == 0 {
		return driver.StreamInfo{Name: stream}
	}
	return driver.StreamInfo{Name: stream, Version: l.version, First: l.first, Deleted: l.origin == l.version, Origin: l.origin}
}

func (w *world) list(t *rapid.T) {
	d := has[driver.Lister](w)
	category := rapid.SampledFrom(append([]string{""}, poolCategory...)).Draw(t, "category")
	after := rapid.SampledFrom(append([]string{"", "a-", "zzz"}, poolStreams...)).Draw(t, "after")
	limit := rapid.IntRange(1, 9).Draw(t, "limit")
	var want []driver.StreamInfo
	var categories []string
	names := slices.Clone(poolStreams)
	slices.Sort(names)
	for _, name := range names {
		l := w.line(name)
		if l.version == 0 || l.purged {
			continue
		}
		in := driver.Category(name)
		if name > after && (in == category || category == "" && name[0] != '$') {
			want = append(want, w.info(name))
		}
		if name[0] != '$' && !slices.Contains(categories, in) {
			categories = append(categories, in)
		}
	}
	slices.Sort(categories)
	got, err := d.Streams(w.ctx, category, after, limit)
	require.NoError(t, err)
	require.Equal(t, nilIfEmpty(want[:min(limit, len(want))]), nilIfEmpty(got))
	have, err := d.Categories(w.ctx)
	require.NoError(t, err)
	require.Equal(t, categories, nilIfEmpty(have))
}

func (w *world) snapshot(t *rapid.T) {
	d := has[driver.Snapshotter](w)
	stream := rapid.SampledFrom(poolStreams[:2]).Draw(t, "stream")
	old, has := w.snapshots[stream]
	switch rapid.IntRange(0, 4).Draw(t, "snapshot") {
	case 0:
		require.NoError(t, d.DeleteSnapshot(w.ctx, stream))
		delete(w.snapshots, stream)
	case 1, 2:
		s := driver.Snapshot{Version: rapid.Uint64Range(0, 3).Draw(t, "version"), Schema: rapid.IntRange(0, 2).Draw(t, "schema")}
		w.saved++
		s.Data = []byte(fmt.Sprint("save ", w.saved))
		err := d.SaveSnapshot(w.ctx, stream, s)
		if w.line(stream).purged {
			require.ErrorIs(t, err, driver.ErrStreamDeleted)
			return
		}
		require.NoError(t, err)
		if !has || s.Version >= old.Version {
			w.snapshots[stream] = s
		}
	default:
		s, ok, err := d.LoadSnapshot(w.ctx, stream)
		require.NoError(t, err)
		require.Equal(t, has, ok)
		if ok {
			require.Equal(t, old, s)
		}
	}
}

func (w *world) checkpoint(t *rapid.T) {
	d := has[driver.Checkpointer](w)
	name := rapid.SampledFrom(poolNames).Draw(t, "name")
	old, has := w.checkpoints[name]
	w.saved++
	draw := func(label string) driver.Checkpoint {
		return driver.Checkpoint{
			Position: rapid.Uint64Range(0, 2).Draw(t, label+" position"),
			Fence:    rapid.Uint64Range(0, 2).Draw(t, label+" fence"),
			Data:     []byte(fmt.Sprint("save ", w.saved)),
		}
	}
	switch rapid.IntRange(0, 5).Draw(t, "checkpoint") {
	case 0:
		require.NoError(t, d.DeleteCheckpoint(w.ctx, name))
		delete(w.checkpoints, name)
	case 1, 2, 3:
		var from *driver.Checkpoint
		switch rapid.IntRange(0, 4).Draw(t, "from") {
		case 0:
		case 1:
			c := draw("from")
			from = &c
		default:
			if has {
				from = &old
			}
		}
		to := draw("to")
		err := d.SaveCheckpoint(w.ctx, name, from, to)
		if has != (from != nil) || has && (from.Position != old.Position || from.Fence != old.Fence || old.Fence > to.Fence) {
			require.ErrorIs(t, err, driver.ErrMoved)
			return
		}
		require.NoError(t, err)
		w.checkpoints[name] = to
	default:
		w.checkCheckpoints(t)
	}
}

func (w *world) checkCheckpoints(t *rapid.T) {
	all, err := has[driver.Checkpointer](w).Checkpoints(w.ctx, "")
	require.NoError(t, err)
	require.Len(t, all, len(w.checkpoints))
	for name, want := range w.checkpoints {
		c, ok, err := has[driver.Checkpointer](w).LoadCheckpoint(w.ctx, name)
		require.NoError(t, err)
		require.True(t, ok)
		for _, have := range []driver.Checkpoint{c, all[name]} {
			require.True(t, have.Position == want.Position && have.Fence == want.Fence && bytes.Equal(have.Data, want.Data), "want %v, have %v", want, have)
		}
	}
}

// stands checks the head, and where every stream stands.
func (w *world) stands(t *rapid.T) {
	head, err := w.d.Head(w.ctx)
	require.NoError(t, err)
	var least uint64
	for _, x := range slices.Backward(w.log) {
		if !x.gone && !x.deleted {
			least = x.Position
			break
		}
	}
	require.GreaterOrEqual(t, head, least, "the head is at or above the last event that can be read")
	require.LessOrEqual(t, head, w.last(), "the head is at or below the last event that there ever was")
	for _, name := range poolStreams {
		info, err := w.d.Stream(w.ctx, name)
		if w.line(name).purged {
			require.ErrorIs(t, err, driver.ErrStreamDeleted)
			continue
		}
		require.NoError(t, err)
		if want := w.info(name); info != want { // quicker than require.Equal
			require.Equal(t, want, info)
		}
	}
}

// everything reads all that there is, every way.
func (w *world) everything(t *rapid.T) {
	w.stands(t)
	for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
		for _, name := range poolStreams {
			w.checkStream(t, name, 0, dir, 1000)
		}
		for from := uint64(0); ; {
			got, scanned, err := w.d.ReadAll(w.ctx, driver.Filter{}, from, dir, 13)
			require.NoError(t, err)
			w.checkPage(t, got, scanned, from, dir, 13, func(x *entry) bool { return x.Stream[0] != '$' })
			if scanned == from || scanned == 0 || dir == driver.Forward && scanned >= w.last() {
				break
			}
			from = scanned
		}
	}
	if _, ok := as[driver.Checkpointer](w.d); ok {
		w.checkCheckpoints(t)
	}
}
