package kurrentstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada"
	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/kurrentstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/freeport"
	"github.com/levada-go/levada/projection"
)

// What applications use, on this driver, while the server comes and goes.

type counted struct{ N int }

func dev(t *testing.T) *esdbdev.Server {
	t.Helper()
	s := memstore.Open(nil)
	server, err := esdbdev.New(s, nil)
	require.NoError(t, err)
	require.NoError(t, freeport.Start(server.Start))
	t.Cleanup(func() {
		server.Close()
		s.Close()
	})
	return server
}

func open(t *testing.T, server *esdbdev.Server) *eventstore.Store {
	t.Helper()
	s, err := kurrentstore.Open(t.Context(), server.URL(), &kurrentstore.Options{Store: eventstore.Options{Logger: slog.New(slog.DiscardHandler)}})
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Types.Register("counted", counted{}))
	return s
}

// trouble restarts the server, drops subscriptions and fails calls.
func trouble(t *testing.T, server *esdbdev.Server, round int) {
	t.Helper()
	switch round % 3 {
	case 0:
		server.DropSubscriptions(nil)
		server.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Times: 10})
	case 1:
		server.Stop()
		require.NoError(t, server.Start(server.Addr()))
	case 2:
		server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, When: esdbdev.AfterCommit, Times: 3})
		server.Inject(esdbdev.Fault{Method: esdbdev.MethodSubscribe, Times: 3})
		server.DropSubscriptions(nil)
	}
}

func TestASubscriptionGoesOnByItself(t *testing.T) {
	t.Parallel()
	server := dev(t)
	near, far := open(t, server), open(t, server)
	ctx := t.Context()
	sub, err := eventstore.Subscribe(ctx, near, eventstore.Transient[int]{
		Filter: eventstore.Filter{Categories: []string{"c"}}, From: eventstore.Origin(),
		Map: func(r *eventstore.Recorded) int { return r.Data.(counted).N },
	})
	require.NoError(t, err)
	defer sub.Close()
	n, seen := 0, 0
	for round := range 9 {
		for i := range 10 {
			s := near
			if i%2 == 0 {
				s = far
			}
			_, err := s.Append(ctx, eventstore.Stream("c", fmt.Sprint(i%3)), eventstore.Any, eventstore.Event{Data: counted{n}})
			require.NoError(t, err)
			n++
		}
		trouble(t, server, round)
	}
	for seen < n {
		select {
		case b := <-sub.C:
			for _, v := range b.Events {
				require.Equal(t, seen, v, "each once, in order")
				seen++
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("has %d of %d", seen, n)
		}
	}
}

func TestConsumersShareTheWorkWhileTheServerComesAndGoes(t *testing.T) {
	t.Parallel()
	server := dev(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const streams, rounds, each = 6, 4, 5
	var mu sync.Mutex
	var running sync.WaitGroup
	last := map[eventstore.StreamName]eventstore.Version{}
	acked := 0
	for range 2 {
		s := open(t, server)
		running.Go(func() {
			for d, err := range s.Consume(ctx, eventstore.Consumer{Name: "mailer", Filter: eventstore.Filter{Categories: []string{"c"}}, From: eventstore.Origin(), Partitions: 3, Lease: time.Second}) {
				if err != nil {
					return
				}
				mu.Lock()
				for _, r := range d.Events {
					// At least once, in the order of a key: never a gap.
					if r.Version > last[r.Stream]+1 {
						t.Errorf("%s: version %d after %d", r.Stream, r.Version, last[r.Stream])
					}
					last[r.Stream] = max(last[r.Stream], r.Version)
				}
				mu.Unlock()
				if d.Ack(ctx) == nil {
					mu.Lock()
					acked += len(d.Events)
					mu.Unlock()
				}
			}
		})
	}
	s := open(t, server)
	for round := range rounds {
		for i := range streams * each {
			_, err := s.Append(ctx, eventstore.Stream("c", fmt.Sprint(i%streams)), eventstore.Any, eventstore.Event{Data: counted{i}})
			require.NoError(t, err)
		}
		trouble(t, server, round)
	}
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		for i := range streams {
			if last[eventstore.Stream("c", fmt.Sprint(i))] < rounds*each {
				return false
			}
		}
		return acked >= streams*rounds*each
	}, time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool {
		list, err := s.Consumers(ctx)
		return err == nil && len(list) == 1 && list[0].Members == 2 && list[0].Lag == 0
	}, time.Minute, 20*time.Millisecond)
	cancel()
	running.Wait()
}

// A till is what the aggregate of the test holds.
type till struct{ Sum int }

type tillEvent = aggregate.Event[till]

type sold struct{ Amount int }

func (e sold) Apply(s *till) { s.Sum += e.Amount }

type sell struct {
	Till   string
	Amount int
}

func (c sell) AggregateID() string               { return c.Till }
func (c sell) Execute(till) ([]tillEvent, error) { return []tillEvent{sold{c.Amount}}, nil }

type refund struct {
	Till   string
	Amount int
}

func (c refund) AggregateID() string { return c.Till }
func (c refund) Execute(s till) ([]tillEvent, error) {
	if s.Sum < c.Amount {
		return nil, fmt.Errorf("there are only %d", s.Sum)
	}
	return []tillEvent{sold{-c.Amount}}, nil
}

var tills = &aggregate.Type[till]{Name: "till", Events: aggregate.Events[till]{"till.sold": sold{}}, SnapshotEvery: 5}

type totals struct{ sum, events int }

func TestAnApplicationGoesOnByItself(t *testing.T) {
	t.Parallel()
	server := dev(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	quiet := slog.New(slog.DiscardHandler)
	var sums projection.Memory[totals]
	node := func(projections ...projection.Runner) *levada.App {
		app, err := levada.New(open(t, server), levada.Config{Logger: quiet, Aggregates: []aggregate.Opener{tills}, Projections: projections})
		require.NoError(t, err)
		return app
	}
	a, b := node(), node(&projection.Projection[*totals]{Name: "sums", Target: &sums, Handlers: []projection.Handler[*totals]{
		projection.On(func(_ context.Context, s *totals, e sold, _ *eventstore.Recorded) error {
			s.sum += e.Amount
			s.events++
			return nil
		}),
	}})
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	want := totals{}
	for round := range 6 {
		for i := range 6 {
			for _, app := range []*levada.App{a, b} {
				_, err := app.Dispatch(ctx, sell{"1", 1})
				require.NoError(t, err)
				want.sum++
				want.events++
			}
			// What the other node has just sold can be given back: a refusal is a fact of now.
			node := a
			if i%2 == 0 {
				node = b
			}
			_, err := node.Dispatch(ctx, refund{"1", want.sum})
			require.NoError(t, err)
			want.sum = 0
			want.events++
		}
		trouble(t, server, round)
	}
	wait, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	_, err := b.Dispatch(wait, sell{"1", 7}, command.Wait("sums"))
	require.NoError(t, err)
	want.sum, want.events = want.sum+7, want.events+1
	sums.View(func(s *totals, _ eventstore.Position) { require.Equal(t, want, *s) })
	cancel()
	<-ended
}
