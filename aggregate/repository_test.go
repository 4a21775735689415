package aggregate_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

func TestConcurrentCommandsToOneAggregateAllCount(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"callers work themselves", "callers may leave"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			if name == "callers may leave" {
				ctx = t.Context()
			}
			r := open(t, memstore.Open(nil), accounts())
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					for range 50 {
						if _, err := r.Execute(ctx, deposit{"a", 1}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			sum, v := balance(t, r, "a")
			require.Equal(t, 3200, sum)
			require.Equal(t, eventstore.Version(3200), v)
		})
	}
}

func TestManyCallersWithAnAccountEach(t *testing.T) {
	t.Parallel()
	r := open(t, memstore.Open(nil), accounts())
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			id := strings.Repeat("x", w+1)
			for range 20 {
				if _, err := r.Execute(t.Context(), deposit{id, 1}); err != nil {
					t.Error(err)
				}
			}
			if sum, _ := balance(t, r, id); sum != 20 {
				t.Errorf("%s has %d", id, sum)
			}
		})
	}
	wg.Wait()
}

func TestEventsBelongToTheConversationOfTheirCommand(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	var sent *command.Envelope
	h := command.Chain(r, func(next command.Handler) command.Handler {
		return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			c := *e
			c.Metadata = map[string]string{"ip": "::1"}
			sent = &c
			return next.HandleCommand(ctx, &c)
		})
	})
	cause := &eventstore.Recorded{Event: eventstore.Event{ID: eventstore.NewID(), Correlation: eventstore.NewID()}}
	_, err := command.Dispatch(eventstore.NewContext(t.Context(), cause), h, twice("a"), command.Meta("by", "ann"))
	require.NoError(t, err)
	n := 0
	for rec, err := range s.ReadStream(t.Context(), "account-a", 0) {
		require.NoError(t, err)
		require.Equal(t, cause.Correlation, rec.Correlation)
		require.Equal(t, sent.ID, rec.Causation, "the command")
		require.Equal(t, map[string]string{"ip": "::1"}, rec.Metadata, "as middleware changed it")
		n++
	}
	require.Equal(t, 2, n)
	require.Equal(t, cause.ID, sent.Causation)
}

func TestEnvelopesWithoutAnIDAreToldApart(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	for range 2 {
		_, err := r.HandleCommand(t.Context(), &command.Envelope{Command: twice("a"), Key: "k"})
		require.NoError(t, err)
	}
	_, err := r.HandleCommand(t.Context(), &command.Envelope{Command: twice("a")})
	require.NoError(t, err)
	res, err := open(t, s, accounts()).Execute(t.Context(), twice("a"), command.Once("k"))
	require.NoError(t, err)
	require.True(t, res.Repeated)
	require.Equal(t, eventstore.Version(2), res.Version)
}

func TestIDsThatCannotNameAStreamAreRefused(t *testing.T) {
	t.Parallel()
	for name, id := range map[string]string{
		"empty": "", "long": strings.Repeat("x", 255), "control": "a\nb", "not UTF-8": "\xff",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := open(t, memstore.Open(nil), accounts())
			_, err := r.Execute(t.Context(), deposit{id, 1})
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			_, err = r.Submit(t.Context(), deposit{id, 1}).Wait(t.Context())
			require.ErrorIs(t, err, eventstore.ErrInvalid)
			require.ErrorIs(t, r.View(t.Context(), id, func(*account, eventstore.Version) { t.Error("called") }), eventstore.ErrInvalid)
		})
	}
	_, err := open(t, memstore.Open(nil), accounts()).Execute(t.Context(), deposit{"a-b c/ü", 1})
	require.NoError(t, err, "dashes and spaces are allowed")
}

func TestRepositoryHandlesTheCommandsOfItsState(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	target, err := accounts().Open(s)
	require.NoError(t, err)
	require.True(t, target.Handles(deposit{}))
	require.False(t, target.Handles(write{}))
	_, err = command.Dispatch(t.Context(), target, write{"n", 1})
	require.ErrorIs(t, err, command.ErrUnrouted)
	require.ErrorContains(t, err, "write")
	_, err = command.Submit(t.Context(), target, write{"n", 1}).Wait(t.Context())
	require.ErrorIs(t, err, command.ErrUnrouted)
	_, err = command.Dispatch(t.Context(), target, deposit{"a", 1}, command.Wait())
	require.ErrorIs(t, err, command.ErrNoWaiter)
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head)
}

func TestDriverThatCanOnlyAppendIsEnough(t *testing.T) {
	t.Parallel()
	s := eventstore.New(struct{ driver.Store }{memstore.NewDriver()}, nil)
	typ := accounts()
	typ.SnapshotEvery = 100
	r := open(t, s, typ)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 25 {
				if _, err := r.Execute(t.Context(), deposit{"a", 1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	awaitSnapshot(t, s, "account-a", 400)
	sum, v := balance(t, open(t, s, typ), "a")
	require.Equal(t, 400, sum)
	require.Equal(t, eventstore.Version(400), v)
}

func TestClosedStoreRefusesCommands(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	_, err = r.Execute(t.Context(), deposit{"a", 1})
	require.ErrorIs(t, err, eventstore.ErrClosed)
}

// What repeats commands must tell what the domain refuses from what merely failed.
func TestResultSaysWhetherTheDomainRefused(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	for name, c := range map[string]struct {
		cmd     custom
		opts    []command.Option
		refused bool
	}{
		"refusal":          {custom{"a", func(account) ([]event, error) { return nil, errPoor }}, nil, true},
		"no events":        {custom{"a", func(account) ([]event, error) { return nil, nil }}, nil, false},
		"panic":            {custom{"a", func(account) ([]event, error) { panic("oh") }}, nil, false},
		"version":          {custom{"a", func(account) ([]event, error) { return nil, nil }}, []command.Option{command.At(eventstore.Exactly(7))}, false},
		"events of nobody": {custom{"a", func(account) ([]event, error) { return []event{nil}, nil }}, nil, false},
	} {
		res, err := command.Dispatch(t.Context(), r, c.cmd, c.opts...)
		require.Equal(t, c.refused, res.Refused, name)
		if c.refused {
			require.ErrorIs(t, err, errPoor)
		}
		res, _ = command.Submit(t.Context(), r, c.cmd, c.opts...).Wait(t.Context())
		require.Equal(t, c.refused, res.Refused, name)
		res, err = command.Dispatch(t.Context(), r, deposit{"a", 1})
		require.NoError(t, err)
		require.False(t, res.Refused, "afterwards")
	}
}

// A trace goes from the request to the events, and from them to what their handlers do, also when
// commands of several traces are committed together.
func TestEventsBelongToTheTraceOfTheirOwnCommand(t *testing.T) {
	t.Parallel()
	const first, second = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	var pending []*command.Pending
	for _, parent := range []string{first, second, "", first} {
		pending = append(pending, r.Submit(eventstore.WithTrace(t.Context(), parent, ""), deposit{"a", 1}, command.Meta("by", "ann")))
	}
	for _, p := range pending {
		_, err := p.Wait(t.Context())
		require.NoError(t, err)
	}
	var got []string
	for rec, err := range s.ReadStream(t.Context(), "account-a", 0) {
		require.NoError(t, err)
		require.Equal(t, "ann", rec.Metadata["by"])
		got = append(got, rec.Metadata["traceparent"])
		_, err = command.Dispatch(eventstore.NewContext(t.Context(), rec), r, deposit{"b", 1})
		require.NoError(t, err)
	}
	require.Equal(t, []string{first, second, "", first}, got)
	var handled []string
	for rec, err := range s.ReadStream(t.Context(), "account-b", 0) {
		require.NoError(t, err)
		handled = append(handled, rec.Metadata["traceparent"])
	}
	require.Equal(t, got, handled)
}
