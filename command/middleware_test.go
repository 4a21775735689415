package command_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/stretchr/testify/require"
)

// note returns middleware that writes its name before and after into log.
func note(log *[]string, name string) command.Middleware {
	return func(next command.Handler) command.Handler {
		return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			*log = append(*log, name+" before")
			res, err := next.HandleCommand(ctx, e)
			*log = append(*log, fmt.Sprintf("%s after %v", name, err))
			return res, err
		})
	}
}

func TestFirstMiddlewareIsOutermost(t *testing.T) {
	t.Parallel()
	var log []string
	refused := errors.New("refused")
	h := command.Chain(command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) {
		log = append(log, "handled")
		return command.Result{}, refused
	}), note(&log, "a"), note(&log, "b"))
	_, err := command.Dispatch(t.Context(), h, ping{"x"})
	require.True(t, err == refused, "errors pass through untouched")
	require.Equal(t, []string{"a before", "b before", "handled", "b after refused", "a after refused"}, log)
}

func TestMiddlewareMayRefuseACommandAndChangeACopy(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	limit := errors.New("not you")
	auth := func(next command.Handler) command.Handler {
		return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			if e.Metadata["by"] == "" {
				return command.Result{}, limit
			}
			c := *e
			c.Metadata = map[string]string{"checked": e.Metadata["by"]}
			return next.HandleCommand(ctx, &c)
		})
	}
	h := command.Chain(capture(&e), auth)
	_, err := command.Dispatch(t.Context(), h, ping{"x"})
	require.ErrorIs(t, err, limit)
	require.Nil(t, e)
	_, err = command.Dispatch(t.Context(), h, ping{"x"}, command.Meta("by", "ann"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"checked": "ann"}, e.Metadata)
}

// A waiter records what it was asked to wait for.
type waiter struct {
	mu    sync.Mutex
	pos   eventstore.Position
	names []string
	err   error
	calls int
}

func (w *waiter) Wait(_ context.Context, pos eventstore.Position, names ...string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pos, w.names = pos, names
	w.calls++
	return w.err
}

func TestAwaitingWaitsForThePositionOfTheCommand(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	w := &waiter{}
	h := command.Chain(capture(&e), command.Awaiting(w))
	_, err := command.Dispatch(t.Context(), h, ping{"x"})
	require.NoError(t, err)
	require.Zero(t, w.calls, "nobody asked")
	res, err := command.Dispatch(t.Context(), h, ping{"x"}, command.Wait("a", "b"))
	require.NoError(t, err)
	require.Equal(t, eventstore.Position(7), res.Position)
	require.Equal(t, eventstore.Position(7), w.pos)
	require.Equal(t, []string{"a", "b"}, w.names)
	require.Equal(t, 1, w.calls)
	require.Nil(t, e.Await, "it is taken care of")
	_, err = command.Dispatch(t.Context(), h, ping{"x"}, command.Wait())
	require.NoError(t, err)
	require.Empty(t, w.names)
}

// A knowing waiter has only the projection "a".
type knowing struct{ waiter }

func (*knowing) Has(name string) bool { return name == "a" }

func TestACommandThatIsToWaitForNobodyIsNotExecuted(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	h := command.Chain(capture(&e), command.Awaiting(&knowing{}))
	res, err := command.Dispatch(t.Context(), h, ping{"x"}, command.Wait("a", "b"))
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.ErrorContains(t, err, `"b"`)
	require.NotErrorIs(t, err, command.ErrNotAwaited)
	require.Zero(t, res)
	require.Nil(t, e)
	_, err = command.Submit(t.Context(), h, ping{"x"}, command.Wait("b")).Wait(t.Context())
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	require.Nil(t, e)
	_, err = command.Dispatch(t.Context(), h, ping{"x"}, command.Wait("a"))
	require.NoError(t, err)
	require.NotNil(t, e)
}

func TestWaitThatFailsSaysThatTheEventsAreStored(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	w := &waiter{err: context.DeadlineExceeded}
	h := command.Chain(capture(&e), command.Awaiting(w))
	res, err := command.Dispatch(t.Context(), h, ping{"x"}, command.Wait())
	require.ErrorIs(t, err, command.ErrNotAwaited)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, command.Result{Version: 1, Position: 7}, res)
}

func TestCommandWithoutEventsOrRefusedWaitsForNothing(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, errors.New("refused")} {
		w := &waiter{}
		h := command.Chain(command.HandlerFunc(func(context.Context, *command.Envelope) (command.Result, error) {
			res := command.Result{Version: 3}
			if err != nil {
				res.Position = 9
			}
			return res, err
		}), command.Awaiting(w))
		_, got := command.Dispatch(t.Context(), h, ping{"x"}, command.Wait())
		require.Equal(t, err, got)
		require.Zero(t, w.calls)
	}
}

func TestTracingSurroundsEveryOutcome(t *testing.T) {
	t.Parallel()
	type key struct{}
	boom := errors.New("boom")
	tests := []struct {
		name string
		do   func() (command.Result, error)
		is   error
	}{
		{"success", func() (command.Result, error) { return command.Result{Version: 2}, nil }, nil},
		{"error", func() (command.Result, error) { return command.Result{}, boom }, boom},
		{"panic", func() (command.Result, error) { panic(boom) }, boom},
		{"exit", func() (command.Result, error) { runtime.Goexit(); return command.Result{}, nil }, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var ends []error
			tr := &command.Trace{
				CommandStart: func(ctx context.Context, e *command.Envelope) context.Context {
					return context.WithValue(ctx, key{}, e.ID)
				},
				CommandEnd: func(ctx context.Context, e *command.Envelope, res command.Result, err error) {
					require.Equal(t, e.ID, ctx.Value(key{}))
					ends = append(ends, err)
				},
			}
			h := command.Chain(command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
				require.Equal(t, e.ID, ctx.Value(key{}))
				return tt.do()
			}), command.Tracing(tr))
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() {
					if tt.name == "panic" {
						require.Equal(t, boom, recover(), "it goes on")
					}
				}()
				_, _ = command.Dispatch(t.Context(), h, ping{"x"})
			}()
			<-done
			require.Len(t, ends, 1)
			switch {
			case tt.name == "exit":
				require.Error(t, ends[0])
			default:
				require.ErrorIs(t, ends[0], tt.is)
			}
		})
	}
}

func TestEmptyTraceIsAllowed(t *testing.T) {
	t.Parallel()
	var e *command.Envelope
	_, err := command.Dispatch(t.Context(), command.Chain(capture(&e), command.Tracing(&command.Trace{})), ping{"x"})
	require.NoError(t, err)
}
