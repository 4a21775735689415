package projection_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
)

// Added and Noted are the events of these tests; only what is Added is projected.
type (
	Added struct{ N int }
	Noted struct{ Text string }
)

func newStore(t testing.TB) *eventstore.Store {
	t.Helper()
	return newStoreWith(t, eventstore.Options{})
}

func newStoreWith(t testing.TB, opt eventstore.Options) *eventstore.Store {
	t.Helper()
	opt.Logger = quiet
	s := memstore.Open(&memstore.Options{Store: opt})
	register(t, s)
	t.Cleanup(func() { s.Close() })
	return s
}

func register(t testing.TB, s *eventstore.Store) {
	t.Helper()
	require.NoError(t, s.Types.Register("added", Added{}))
	require.NoError(t, s.Types.Register("noted", Noted{}))
}

var quiet = slog.New(slog.DiscardHandler)

func newGroup(s *eventstore.Store) *projection.Group {
	return &projection.Group{Store: s, Logger: quiet}
}

// add appends an Added for each n and returns the position of the last.
func add(t testing.TB, s *eventstore.Store, ns ...int) eventstore.Position {
	t.Helper()
	var events []eventstore.Event
	for _, n := range ns {
		events = append(events, eventstore.Event{Data: Added{n}})
	}
	at, err := s.Append(context.Background(), "sum-1", eventstore.Any, events...)
	require.NoError(t, err)
	return at.Position
}

// note appends n events that no projection here handles.
func note(t testing.TB, s *eventstore.Store, n int) eventstore.Position {
	t.Helper()
	events := make([]eventstore.Event, n)
	for i := range events {
		events[i].Data = Noted{"x"}
	}
	at, err := s.Append(context.Background(), "note-1", eventstore.Any, events...)
	require.NoError(t, err)
	return at.Position
}

// Log is a model that remembers what was added, in order, and how. It holds references.
type Log struct{ Seen []int }

func (l Log) Clone() Log { return Log{append([]int(nil), l.Seen...)} }

func seen(m *projection.Memory[Log]) (ns []int) {
	m.View(func(l *Log, _ eventstore.Position) { ns = l.Clone().Seen })
	return ns
}

func position[M any](m *projection.Memory[M]) (at eventstore.Position) {
	m.View(func(_ *M, p eventstore.Position) { at = p })
	return at
}

func added(_ context.Context, l *Log, e Added, _ *eventstore.Recorded) error {
	l.Seen = append(l.Seen, e.N)
	return nil
}

func logged(name string, target projection.Target[*Log]) *projection.Projection[*Log] {
	return &projection.Projection[*Log]{
		Name: name, Target: target,
		Handlers: []projection.Handler[*Log]{projection.On(added)},
	}
}

// exit ends the goroutine, as a failed require does.
func exit() { runtime.Goexit() }

// start runs g and returns what ends it and gives Run's error.
func start(t testing.TB, g *projection.Group) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- g.Run(ctx) }()
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-result
		})
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}

func status(t testing.TB, g *projection.Group, name string) projection.Status {
	t.Helper()
	list, err := g.Status(context.Background())
	require.NoError(t, err)
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	require.Fail(t, "no status", name)
	return projection.Status{}
}

// A tap is a target that counts what is written to the one behind it, and fails on demand.
type tap[T any] struct {
	projection.Target[T]
	mu      sync.Mutex
	updates []update
	before  func(to eventstore.Position) error // instead of the update
	after   func(to eventstore.Position) error // although it was done
	load    func() error
	reset   func() error
}

type update struct{ from, to eventstore.Position }

func (p *tap[T]) Load(ctx context.Context, name string) (eventstore.Position, error) {
	if p.load != nil {
		if err := p.load(); err != nil {
			return 0, err
		}
	}
	return p.Target.Load(ctx, name)
}

func (p *tap[T]) Update(ctx context.Context, name string, from, to eventstore.Position, fn func(T) error) error {
	if p.before != nil {
		if err := p.before(to); err != nil {
			return err
		}
	}
	if err := p.Target.Update(ctx, name, from, to, fn); err != nil {
		return err
	}
	p.mu.Lock()
	p.updates = append(p.updates, update{from, to})
	p.mu.Unlock()
	if p.after != nil {
		return p.after(to)
	}
	return nil
}

func (p *tap[T]) Reset(ctx context.Context, name string) error {
	if p.reset != nil {
		if err := p.reset(); err != nil {
			return err
		}
	}
	return p.Target.Reset(ctx, name)
}

func (p *tap[T]) written() []update {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]update(nil), p.updates...)
}
