package sync

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// A Note is the aggregate under test.
type Note struct {
	N    int
	Gone bool
}

type (
	Written struct{ N int }
	Torn    struct{}
)

func (e Written) Apply(n *Note) { *n = Note{N: e.N} }
func (e Torn) Apply(n *Note)    { n.Gone = true }

var Notes = &aggregate.Type[Note]{
	Name:   "note",
	Events: aggregate.Events[Note]{"note.written": Written{}, "note.torn": Torn{}},
}

type Write struct {
	ID string
	N  int
}

type Tear struct{ ID string }

func (c Write) AggregateID() string { return c.ID }
func (c Tear) AggregateID() string  { return c.ID }

func (c Write) Execute(Note) ([]aggregate.Event[Note], error) {
	return []aggregate.Event[Note]{Written{c.N}}, nil
}

var errNone = errors.New("there is no such note")

func (c Tear) Execute(n Note) ([]aggregate.Event[Note], error) {
	if n.N == 0 || n.Gone {
		return nil, errNone
	}
	return []aggregate.Event[Note]{Torn{}}, nil
}

// A row is a note as a page sees it.
type row struct {
	ID string
	N  int
}

func byID(a, b row) int { return cmp.Compare(a.ID, b.ID) }

// byN orders by what changes, so that rows move.
func byN(a, b row) int { return cmp.Or(cmp.Compare(a.N%5, b.N%5), cmp.Compare(a.ID, b.ID)) }

// A shelf is the read model under test.
type shelf struct{ Notes map[string]int }

func written(_ context.Context, s *shelf, e Written, r *eventstore.Recorded) error {
	if s.Notes == nil {
		s.Notes = map[string]int{}
	}
	s.Notes[r.Stream.ID()] = e.N
	return nil
}

func torn(_ context.Context, s *shelf, _ Torn, r *eventstore.Recorded) error {
	delete(s.Notes, r.Stream.ID())
	return nil
}

// A world is a store with all kinds of sources.
type world struct {
	t      require.TestingT
	store  *eventstore.Store
	app    *levada.App
	shelf  *projection.Memory[shelf]
	stop   context.CancelFunc
	over   chan error
	notes  *Source[string, row] // aggregates
	rows   *Source[string, row] // of the model
	blind  *Source[string, row] // of the model, without Keys
	faults *faults
	stuck  atomic.Bool // the projection does not get on
	slow   bool        // reads take their time
}

// faults makes reads fail.
type faults struct {
	mu    sync.Mutex
	on    bool
	reads int // of values or of all
}

var errFault = errors.New("out of order")

func (f *faults) read() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.on {
		return errFault
	}
	return nil
}

func (f *faults) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on = on
}

func (f *faults) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

func newWorld(t require.TestingT) *world {
	return newWorldOn(t, memstore.Open(&memstore.Options{Store: eventstore.Options{Logger: quiet}}))
}

func newWorldOn(t require.TestingT, store *eventstore.Store) *world {
	w := &world{t: t, store: store, shelf: &projection.Memory[shelf]{}, over: make(chan error, 1), faults: &faults{}}
	var err error
	w.app, err = levada.New(w.store, levada.Config{
		Aggregates: []aggregate.Opener{Notes},
		Projections: []projection.Runner{&projection.Projection[*shelf]{
			Name: "shelf", Target: w.shelf,
			Handlers: []projection.Handler[*shelf]{
				projection.On(func(ctx context.Context, s *shelf, e Written, r *eventstore.Recorded) error {
					if w.stuck.Load() {
						return errFault
					}
					return written(ctx, s, e, r)
				}),
				projection.On(torn),
			},
		}},
		Logger: quiet,
	})
	require.NoError(t, err)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(context.Background())
	go func() { w.over <- w.app.Run(ctx) }()

	w.notes, err = Aggregates(w.store, Notes, func(n *Note, at At) (row, bool) {
		if at.ID == "" || at.Version == 0 || at.Position == 0 || at.Time.IsZero() {
			panic("an At that is not filled in")
		}
		return row{at.ID, n.N}, !n.Gone
	}, byID)
	require.NoError(t, err)
	rows := Rows[shelf, string, row]{
		Keys: func(r *eventstore.Recorded) []string { return []string{r.Stream.ID()} },
		Row: func(s *shelf, id string) (row, bool) {
			n, ok := s.Notes[id]
			return row{id, n}, ok
		},
		All: func(s *shelf, yield func(string, row)) {
			for id, n := range s.Notes {
				yield(id, row{id, n})
			}
		},
		Compare: byN,
	}
	w.rows, err = Model(w.app.Group, "shelf", w.shelf, rows)
	require.NoError(t, err)
	rows.Keys = nil
	w.blind, err = Model(w.app.Group, "shelf", w.shelf, rows)
	require.NoError(t, err)
	for _, s := range w.sources() {
		s.c.Logger = quiet
		read, all := s.c.Read, s.c.All
		s.c.Read = func(ctx context.Context, keys []string) (map[string]row, eventstore.Position, error) {
			if err := w.faults.read(); err != nil {
				return nil, 0, err
			}
			w.dawdle()
			defer w.dawdle()
			return read(ctx, keys)
		}
		s.c.All = func(ctx context.Context) (map[string]row, eventstore.Position, error) {
			if err := w.faults.read(); err != nil {
				return nil, 0, err
			}
			w.dawdle()
			defer w.dawdle()
			return all(ctx)
		}
	}
	return w
}

func (w *world) sources() []*Source[string, row] {
	return []*Source[string, row]{w.notes, w.rows, w.blind}
}

// dawdle lets a read take some milliseconds, so that much happens between what it sees and what it returns.
func (w *world) dawdle() {
	if w.slow {
		time.Sleep(time.Duration(rand.IntN(6)) * time.Millisecond)
	}
}

// close ends everything, and requires that no source is awake.
func (w *world) close() {
	w.stop()
	require.NoError(w.t, <-w.over)
	for _, s := range w.sources() {
		s.hub.mu.Lock()
		require.Nil(w.t, s.hub.run)
		require.Zero(w.t, s.hub.watches)
		s.hub.mu.Unlock()
	}
	require.NoError(w.t, w.store.Close())
}

func (w *world) write(id string, n int) command.Result {
	res, err := w.app.Dispatch(context.Background(), Write{id, n})
	require.NoError(w.t, err)
	return res
}

// A tab is a page: its funcs are run one at a time.
type tab struct {
	context.Context
	leave     context.CancelFunc
	p         *page
	connected bool
	last      uint64
	check     func() // after every func

	turn  chan struct{} // a mutex that lets synctest's time pass
	holds []func() bool
	freed func() // called once, when no hold is left
	at    uint64
	funcs int
}

func (t *tab) Connected() bool          { return t.connected }
func (t *tab) LastPosition() uint64     { return t.last }
func (t *tab) Position(at uint64)       { t.at = max(t.at, at) }
func (t *tab) Hold(reached func() bool) { t.holds = append(t.holds, reached) }

// open returns a page that is connected.
func open(last uint64) *tab {
	t := &tab{connected: true, last: last}
	t.begin()
	t.p.receive = func() {
		go func() {
			for {
				select {
				case <-t.p.wake:
					t.do(t.p.apply)
				case <-t.Done():
					return
				}
			}
		}()
	}
	return t
}

// get returns a page over HTTP.
func get() *tab {
	t := &tab{}
	t.begin()
	return t
}

func (t *tab) begin() {
	t.turn = make(chan struct{}, 1)
	t.Context, t.leave = context.WithCancel(context.Background())
	t.p = newPage(t)
	context.AfterFunc(t, t.p.close)
}

// do runs a func of the view.
func (t *tab) do(fn func()) {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	if t.Err() != nil {
		return
	}
	fn()
	t.funcs++
	t.held()
	if t.check != nil {
		t.check()
	}
}

// held asks the holds and reports whether one is left.
func (t *tab) held() bool {
	var rest []func() bool
	for _, reached := range t.holds {
		if !reached() {
			rest = append(rest, reached)
		}
	}
	t.holds = rest
	if fn := t.freed; len(rest) == 0 && fn != nil {
		t.freed = nil
		fn()
	}
	return len(rest) > 0
}

// see runs fn while no func of the view runs.
func (t *tab) see(fn func()) {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	fn()
}

func bubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, fn)
}

// settle lets everything happen that is under way, and as much time pass as pauses may last.
func settle() {
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func newStore(t *testing.T) *eventstore.Store {
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	return s
}
