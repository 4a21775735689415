package command_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/levada-go/levada/command"
	"github.com/stretchr/testify/require"
)

// A recorder is a Submitter that answers when told, and remembers the order.
type recorder struct {
	mu      sync.Mutex
	order   []string
	pending []*command.Pending
}

func (r *recorder) HandleCommand(ctx context.Context, e *command.Envelope) (command.Result, error) {
	return r.SubmitCommand(ctx, e).Wait(ctx)
}

func (r *recorder) SubmitCommand(_ context.Context, e *command.Envelope) *command.Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := command.NewPending()
	r.order = append(r.order, e.Command.AggregateID())
	r.pending = append(r.pending, p)
	return p
}

func (r *recorder) answer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pending {
		p.Resolve(command.Result{Position: 9}, nil)
	}
}

// plain is middleware that knows nothing of submitting, and may retry.
func plain(next command.Handler) command.Handler {
	return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
		c := *e
		return next.HandleCommand(ctx, &c)
	})
}

func TestOrderOfSubmittedCommandsIsKeptThroughMiddleware(t *testing.T) {
	t.Parallel()
	w := &waiter{}
	tests := []struct {
		name string
		h    func(command.Handler) command.Handler
		opts []command.Option
	}{
		{"none", func(h command.Handler) command.Handler { return h }, nil},
		{"one", func(h command.Handler) command.Handler { return command.Chain(h, plain) }, nil},
		{"many", func(h command.Handler) command.Handler { return command.Chain(h, plain, plain, plain) }, nil},
		{"a chain of chains", func(h command.Handler) command.Handler {
			return command.Chain(command.Chain(h, plain, command.Awaiting(w)), plain)
		}, nil},
		{"awaiting, not asked", func(h command.Handler) command.Handler { return command.Chain(h, command.Awaiting(w)) }, nil},
		{"awaiting, asked", func(h command.Handler) command.Handler { return command.Chain(h, command.Awaiting(w)) }, []command.Option{command.Wait("x")}},
		{"awaiting among others, asked", func(h command.Handler) command.Handler {
			return command.Chain(h, plain, command.Awaiting(w), command.Tracing(&command.Trace{}))
		}, []command.Option{command.Wait("x")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r recorder
			h := tt.h(&r)
			var want []string
			var pending []*command.Pending
			for i := range 200 {
				id := string(rune('a' + i%26))
				want = append(want, id)
				pending = append(pending, command.Submit(t.Context(), h, ping{id}, tt.opts...))
			}
			require.Equal(t, want, r.order, "all have their place before any is answered")
			r.answer()
			for _, p := range pending {
				res, err := p.Wait(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, 9, res.Position)
			}
		})
	}
}

func TestWaitOfASubmittedCommandIsHonoured(t *testing.T) {
	t.Parallel()
	var r recorder
	w := &waiter{err: errors.New("paused")}
	h := command.Chain(&r, plain, command.Awaiting(w), plain)
	p := command.Submit(t.Context(), h, ping{"a"}, command.Wait("logs"))
	r.answer()
	res, err := p.Wait(t.Context())
	require.ErrorIs(t, err, command.ErrNotAwaited)
	require.ErrorIs(t, err, w.err)
	require.EqualValues(t, 9, res.Position)
	require.Equal(t, []string{"logs"}, w.names)
}

func TestMiddlewareThatRefusesOrPanicsAnswersASubmittedCommand(t *testing.T) {
	t.Parallel()
	var r recorder
	refused := errors.New("refused")
	for _, fail := range []func(){nil, func() { panic(refused) }, runtime.Goexit} {
		h := command.Chain(&r, func(command.Handler) command.Handler {
			return command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) {
				if fail != nil {
					fail()
				}
				return command.Result{}, refused
			})
		})
		_, err := command.Submit(t.Context(), h, ping{"a"}).Wait(t.Context())
		require.Error(t, err)
	}
	require.Empty(t, r.order)
}

func TestMiddlewareThatRetriesASubmittedCommand(t *testing.T) {
	t.Parallel()
	var r recorder
	twice := func(next command.Handler) command.Handler {
		return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			if res, err := next.HandleCommand(ctx, e); err != nil {
				return res, err
			}
			return next.HandleCommand(ctx, e)
		})
	}
	p := command.Submit(t.Context(), command.Chain(&r, twice), ping{"a"})
	r.answer()
	require.Eventually(t, func() bool {
		r.answer()
		select {
		case <-p.Done():
			return true
		default:
			return false
		}
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, []string{"a", "a"}, r.order)
}

func TestHandlerThatIsNoSubmitterRunsOnAGoroutine(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	h := command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) {
		<-gate
		return command.Result{Version: 4}, nil
	})
	p := command.Submit(t.Context(), command.Chain(h, plain), ping{"a"})
	close(gate)
	res, err := p.Wait(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 4, res.Version)

	_, err = command.Submit(t.Context(), command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) {
		panic("oh")
	}), ping{"a"}).Wait(t.Context())
	_, ok := errors.AsType[*command.PanicError](err)
	require.True(t, ok)
}

func TestWaitThatEndsEarlyMayBeRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := command.NewPending()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.Wait(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, command.ErrOutcomeUnknown)
		p.Resolve(command.Result{Version: 1}, nil)
		p.Resolve(command.Result{Version: 2}, errors.New("late"))
		res, err := p.Wait(ctx)
		require.NoError(t, err, "what is known is told, whatever ctx says")
		require.EqualValues(t, 1, res.Version)
	})
}
