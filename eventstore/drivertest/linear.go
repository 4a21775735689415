package drivertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// LinearOptions configures [Linearize]. Only Stores must be set.
type LinearOptions struct {
	// Stores are handles on one log, as the processes or nodes that share it
	// would have them. The clients use them in turn.
	Stores []driver.Store
	// Readers are handles on the log that cannot write. Each has a client of its
	// own. What they are told must be in order with all writes, but not with what
	// Stores are asked: a reader may see an event a moment before its writer shows it.
	Readers []driver.Store
	Clients int // of Stores, that work at once; default three a handle, and at least six
	Streams int // that they work on at a time; default 3
	Ops     int // of each client, at least; default 60
	// Duration is how long the clients go on, at least; default 0.
	Duration time.Duration
	// Timeout is how long one call may take before its context ends; default ten
	// seconds. Without a Fault no call may take so long.
	Timeout time.Duration
	// Deletes says that streams are deleted, too. The driver must be a Deleter.
	Deletes bool
	// LooseDelete says what it says in Harness.
	LooseDelete bool
	// Fault is called once, on the caller's goroutine, while the clients work,
	// which go on until it returns. Calls may fail from then on. When it returns,
	// the stores must be about to recover: within a minute they must answer.
	Fault func(ctx context.Context)
	// Seed is that of the clients' choices; 0 draws one. It repeats what they
	// ask, not what happens.
	Seed uint64
}

// Linearize lets clients append to, ask about, read and delete a few streams at
// once, append to two of them at once if the driver can, and checks that what they were told could have been told by a single
// log that does one thing at a time:
//
//   - Every call on one stream took effect in a moment between its beginning and
//     its end (it is linearizable): acknowledged appends, conflicts and the
//     versions they tell, versions that were asked for, and pages of streams.
//     So a version that confirms a refusal is never an old one.
//   - So did every call on two streams that were appended to at once: such an append took
//     effect in both in one moment, and a conflict is that of the first that was not as expected.
//   - An append that ended with ErrOutcomeUnknown, or because its context ended,
//     took effect once, at any time since it began, or never. One that ended with
//     another error, or in a conflict, never did.
//   - ReadAll shows each acknowledged event once, at the position that its append
//     told, and shows events that took effect, all of an append or none; positions
//     rise with the versions of a stream; all handles come to show the same.
//
// What it finds fails t, with the path of a picture of the history.
//
// The search is that of github.com/anishathalye/porcupine, stream by stream, and pair by pair.
func Linearize(t testing.TB, opt LinearOptions) {
	t.Helper()
	r, err := linearize(t.Context(), opt)
	t.Logf("linearize: %v", r)
	if err != nil {
		t.Fatal(err)
	}
}

func testLinearizable(g *group) {
	run := func(f *fixture, opt LinearOptions) {
		opt.Stores, opt.LooseDelete = f.handles(), f.h.LooseDelete
		r, err := linearize(f.ctx, opt)
		f.Log(r)
		require.NoError(f, err)
	}
	g.test("appends and reads of clients at once are in one order a stream", func(f *fixture) {
		run(f, LinearOptions{})
	})
	g.test("with deletions they are so, too", func(f *fixture) {
		can[driver.Deleter](f)
		run(f, LinearOptions{Deletes: true})
	})
}

// A linear is one run of Linearize.
type linear struct {
	LinearOptions
	history
	start time.Time
	calls atomic.Int64
	over  atomic.Bool // Fault has returned

	mu     sync.Mutex
	failed error // a call that must not fail
}

// Bounds of a run.
const (
	// streamCalls is how many calls are about one stream, more or less, before the
	// clients go on with another. The search takes longer the longer a history is.
	streamCalls = 250
	// healing is how long stores may take to answer after the last fault.
	healing = time.Minute
	// searching is how long the search may take for one stream.
	searching = 20 * time.Second
)

func linearize(ctx context.Context, opt LinearOptions) (*linear, error) {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&opt.Clients, max(6, 3*len(opt.Stores)))
	set(&opt.Streams, 3)
	set(&opt.Ops, 60)
	if opt.Timeout <= 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.Seed == 0 {
		opt.Seed = rand.Uint64()
	}
	r := &linear{LinearOptions: opt, start: time.Now()}
	if len(opt.Stores) == 0 {
		return r, errors.New("there is no store to test")
	}
	r.work(ctx)
	if r.failed != nil {
		return r, r.failed
	}
	if err := r.finish(ctx); err != nil {
		return r, err
	}
	if err := r.checkLog(); err != nil {
		return r, err
	}
	return r, r.checkOrder()
}

// String says what happened.
func (r *linear) String() string {
	return fmt.Sprintf("seed %d, %d handles, %d clients, %v: %v", r.Seed, len(r.Stores)+len(r.Readers), r.Clients+len(r.Readers), time.Since(r.start).Round(time.Millisecond), &r.history)
}

// work runs the clients, and the fault beside them.
func (r *linear) work(ctx context.Context) {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer r.over.Store(true) // Fault may end the goroutine
	for i := range r.Clients + len(r.Readers) {
		c := &client{linear: r, id: i, rand: rand.New(rand.NewPCG(r.Seed, uint64(i))), known: map[string]uint64{}}
		if i < r.Clients {
			c.d = r.Stores[i%len(r.Stores)]
		} else {
			c.d, c.reads = r.Readers[i-r.Clients], true
		}
		clients.Go(func() { c.work(ctx) })
	}
	if r.Fault != nil {
		r.Fault(ctx)
	}
}

// now is the time of the history: of one clock, that never goes back.
func (r *linear) now() int64 { return int64(time.Since(r.start)) }

// broke says that a call failed that must not fail.
func (r *linear) broke(o *operation, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		r.failed = fmt.Errorf("client %d: %v: without a fault no call may fail: %w", o.client, o, err)
	}
	r.over.Store(true)
}

// A client makes one call after another.
type client struct {
	*linear
	id    int
	d     driver.Store
	rand  *rand.Rand
	reads bool              // and does nothing else
	n     int               // calls so far
	known map[string]uint64 // the version of each stream, as it was told last
}

func (c *client) work(ctx context.Context) {
	for ctx.Err() == nil {
		busy := c.n < c.Ops || time.Since(c.start) < c.Duration
		if (!busy || c.broken()) && (c.Fault == nil || c.over.Load()) {
			return
		}
		c.n++
		ok := c.call(ctx)
		switch {
		case !ok: // the store may be down
			pause(ctx, time.Duration(1+c.rand.IntN(20))*time.Millisecond)
		case c.Fault != nil || c.Duration > 0: // the history is to span it, not to grow
			pause(ctx, time.Duration(c.rand.IntN(4))*time.Millisecond)
		}
	}
}

// broken reports whether a call failed that must not.
func (c *client) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed != nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// call makes a call of the client's choice, and reports whether it did not fail.
func (c *client) call(ctx context.Context) bool {
	generation := int(c.calls.Add(1)) / (streamCalls * c.Streams)
	stream := func() string { return streamName(generation, c.rand.IntN(c.Streams)) }
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	hasty := c.rand.IntN(12) == 0
	if hasty { // it gives up before there may be an answer
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, time.Duration(c.rand.IntN(2_000))*time.Microsecond)
		defer stop()
	}
	allowed := func(o *operation, err error) bool {
		if err != nil && c.Fault == nil && !(hasty && ended(err)) && !errors.As(err, new(*driver.ConflictError)) {
			c.broke(o, err)
		}
		return err == nil || errors.As(err, new(*driver.ConflictError)) || hasty && ended(err)
	}
	what := c.rand.IntN(20)
	if c.reads {
		what = 10 + what%9
	}
	switch {
	case what < 2 && c.Streams > 1 && c.joins():
		return c.joint(ctx, generation, allowed)
	case what < 8:
		o := c.append(stream(), 0)
		o.call = c.now()
		res := c.d.Append(ctx, driver.Append{Stream: o.stream, Expected: o.expected, Events: o.events()})
		o.end = c.now()
		c.appended(o, res)
		return allowed(o, res.Err)
	case what < 10:
		return c.batch(ctx, stream, allowed)
	case what < 14:
		o := &operation{kind: opStream, client: c.id, stream: stream(), call: c.now()}
		info, err := c.d.Stream(ctx, o.stream)
		o.end = c.now()
		if err == nil {
			o.info, c.known[o.stream] = info, info.Version
			c.add(o)
		}
		return allowed(o, err)
	case what < 19 || !c.Deletes:
		o := &operation{kind: opRead, client: c.id, stream: stream(), limit: 1 + c.rand.IntN(6)}
		at := c.known[o.stream]
		switch c.rand.IntN(3) {
		case 0: // the end
			o.dir = driver.Backward
		case 1: // what is new
			o.from = at
		default: // a little before
			o.from = at - min(at, uint64(c.rand.IntN(5)))
			if o.from > 0 && c.rand.IntN(2) == 0 {
				o.dir = driver.Backward
			}
		}
		return c.read(ctx, c.d, o, allowed)
	default:
		o := &operation{kind: opDelete, client: c.id, stream: stream()}
		at := c.known[o.stream]
		if at == 0 {
			return true
		}
		o.expected, o.call = int64(at), c.now()
		err := c.d.(driver.Deleter).Delete(ctx, o.stream, o.expected)
		o.end = c.now()
		o.settle(err)
		c.add(o)
		return allowed(o, err)
	}
}

// append returns an append of the client's choice.
func (c *client) append(stream string, part int) *operation {
	o := &operation{kind: opAppend, client: c.id, stream: stream}
	at := c.known[stream]
	switch c.rand.IntN(8) {
	case 0, 1:
		o.expected = driver.Any
	case 2:
		o.expected = driver.NoStream
	case 3:
		o.expected = driver.StreamExists
	default:
		if o.expected = int64(at); at == 0 {
			o.expected = driver.NoStream
		}
	}
	most := 4
	if l := c.d.Limits().AppendEvents; l > 0 {
		most = min(most, l)
	}
	for k := range 1 + c.rand.IntN(most) {
		o.ids = append(o.ids, newEventID(c.id, c.n, 4*part+k))
	}
	return o
}

// appended takes in what became of an append.
func (c *client) appended(o *operation, res driver.Result) {
	if o.settle(res.Err); o.outcome == done {
		o.version, o.positions, o.last = res.Version, res.Positions, res.Last
	}
	c.learned(o)
}

// learned takes in what an append told.
func (c *client) learned(o *operation) {
	if o.outcome == done || o.outcome == conflicted {
		c.known[o.stream] = o.version
	}
	c.add(o)
}

// batch appends by AppendBatch, if the driver has it.
func (c *client) batch(ctx context.Context, stream func() string, allowed func(*operation, error) bool) bool {
	var list []*operation
	var appends []driver.Append
	for i := range 1 + c.rand.IntN(3) {
		o := c.append(stream(), i)
		list = append(list, o)
		appends = append(appends, driver.Append{Stream: o.stream, Expected: o.expected, Events: o.events()})
	}
	call := c.now()
	var results []driver.Result
	if b, ok := as[driver.Batcher](c.d); ok {
		results = b.AppendBatch(ctx, appends)
	} else {
		list = list[:1]
		results = []driver.Result{c.d.Append(ctx, appends[0])}
	}
	end := c.now()
	good := true
	for i, o := range list {
		o.call, o.end = call, end
		c.appended(o, results[i])
		good = allowed(o, results[i].Err) && good
	}
	return good
}

// joins reports whether the driver can append to several streams.
func (c *client) joins() bool {
	_, ok := as[driver.Atomic](c.d)
	return ok && c.d.Limits().AppendEvents != 1
}

// joint appends to the first two streams of a generation, in either order.
func (c *client) joint(ctx context.Context, generation int, allowed func(*operation, error) bool) bool {
	first := c.rand.IntN(2)
	var parts []*operation
	var appends []driver.Append
	room := c.d.Limits().AppendEvents
	for i := range 2 {
		o := c.append(streamName(generation, (first+i)%2), i)
		if room > 0 {
			o.ids = o.ids[:min(len(o.ids), max(room/2, 1))]
		}
		parts = append(parts, o)
		appends = append(appends, driver.Append{Stream: o.stream, Expected: o.expected, Events: o.events()})
	}
	call := c.now()
	d, _ := as[driver.Atomic](c.d)
	results, err := d.AppendAtomic(ctx, appends, nil)
	end := c.now()
	settleAll(parts, results, err)
	for _, o := range parts {
		o.call, o.end, o.parts = call, end, parts
		c.learned(o)
	}
	return allowed(parts[0], err)
}

// streamName is the name of a stream of a generation.
func streamName(generation, i int) string {
	return fmt.Sprintf("%s-%d-%d", linearCategory, generation, i)
}

// read reads a page.
func (r *linear) read(ctx context.Context, d driver.Store, o *operation, allowed func(*operation, error) bool) bool {
	o.call = r.now()
	page, err := d.ReadStream(ctx, o.stream, o.from, o.dir, o.limit)
	o.end = r.now()
	if err != nil {
		return allowed(o, err)
	}
	for i := range page {
		o.page = append(o.page, sightOf(&page[i]))
	}
	r.add(o)
	return true
}

// ended reports whether err is that of a context.
func ended(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// finish reads everything, once the clients are done.
func (r *linear) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healing)
	defer cancel()
	// until repeats a call that fails, for as long as the stores recover.
	until := func(call func(ctx context.Context) error) error {
		for {
			short, cancel := context.WithTimeout(ctx, r.Timeout)
			err := call(short)
			cancel()
			if err == nil || r.Fault == nil || ctx.Err() != nil {
				return err
			}
			pause(ctx, 10*time.Millisecond)
		}
	}
	handles := slices.Concat(r.Stores, r.Readers)
	for _, stream := range r.streams() {
		for i, d := range handles {
			client := r.Clients + len(r.Readers) + i
			o := &operation{kind: opStream, client: client, stream: stream}
			if err := until(func(ctx context.Context) (err error) {
				o.call = r.now()
				o.info, err = d.Stream(ctx, stream)
				o.end = r.now()
				return err
			}); err != nil {
				return fmt.Errorf("in the end: where %s stands: %w", stream, err)
			}
			r.add(o)
			for from, more := uint64(0), true; more; {
				o := &operation{kind: opRead, client: client, stream: stream, from: from, limit: 200}
				if err := until(func(ctx context.Context) (err error) {
					r.read(ctx, d, o, func(_ *operation, e error) bool { err = e; return false })
					return err
				}); err != nil {
					return fmt.Errorf("in the end: reading %s: %w", stream, err)
				}
				if more = len(o.page) == o.limit; more {
					from = o.page[len(o.page)-1].version
				}
			}
		}
	}
	// The log may hold back what is acknowledged for a while.
	r.logs = make([][]sight, len(handles))
	for i, d := range handles {
		for from := uint64(0); ; {
			var page []driver.Recorded
			var scanned uint64
			if err := until(func(ctx context.Context) (err error) {
				page, scanned, err = d.ReadAll(ctx, driver.Filter{Categories: []string{linearCategory}}, from, driver.Forward, 500)
				return err
			}); err != nil {
				return fmt.Errorf("in the end: reading the log: %w", err)
			}
			for k := range page {
				r.logs[i] = append(r.logs[i], sightOf(&page[k]))
			}
			if scanned == from && len(page) == 0 {
				missing := r.missing(r.logs[i])
				if missing == nil {
					break
				}
				if ctx.Err() != nil || !r.kept(missing) {
					return fmt.Errorf("handle %d: the log never shows an acknowledged append: %v", i, missing)
				}
				wait, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				d.Wait(wait, from)
				cancel()
			}
			from = scanned
		}
	}
	return nil
}

// checkOrder searches for an order in which each stream tells what it told, and then for one of
// each two streams that were appended to at once.
func (r *linear) checkOrder() error {
	for _, o := range r.list {
		o.loose = r.LooseDelete
	}
	if err := checkOrders(r.operations(func(o *operation) bool { return !r.reads(o.client) })); err != nil {
		return err
	}
	if len(r.Readers) == 0 {
		return nil
	}
	err := checkOrders(r.operations(func(o *operation) bool { return o.kind == opAppend || o.kind == opDelete || r.reads(o.client) }))
	if err != nil {
		return fmt.Errorf("readers: %w", err)
	}
	return nil
}

// reads reports whether a client is a reader's. Those of the clients that read
// everything in the end come after all others.
func (r *linear) reads(client int) bool {
	n := r.Clients + len(r.Readers)
	if client >= n {
		return client-n >= len(r.Stores)
	}
	return client >= r.Clients
}

// checkOrders searches in each history, those of single streams first.
func checkOrders(streams, joined orders) error {
	for _, name := range slices.Sorted(maps.Keys(streams)) {
		if err := checkOrder(streamModel, name, streams[name]); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(joined)) {
		if err := checkOrder(pairModel, name, joined[name]); err != nil {
			return err
		}
	}
	return nil
}

func checkOrder(model porcupine.Model, name string, ops []porcupine.Operation) error {
	if porcupine.CheckOperationsTimeout(model, ops, searching) == porcupine.Ok {
		return nil
	}
	result, info := porcupine.CheckOperationsVerbose(model, ops, searching)
	switch result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%s: of %d calls no order was found in %v; see %s", name, len(ops), searching, picture(model, info))
	}
	return fmt.Errorf("%s: there is no order in which one log could have told this; see %s", name, picture(model, info))
}

// picture draws a history to a file and returns its path, or why there is none.
func picture(model porcupine.Model, info porcupine.LinearizationInfo) string {
	file, err := os.CreateTemp("", "levada-linear-*.html")
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if err := porcupine.Visualize(model, info, file); err != nil {
		return err.Error()
	}
	return file.Name()
}
