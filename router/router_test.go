package router_test

import (
	"context"
	"errors"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/router"
	"github.com/stretchr/testify/require"
)

type counter struct{ N int }

type counted struct{ By int }

func (e counted) Apply(c *counter) { c.N += e.By }

type count struct {
	ID string
	By int
}

func (c count) AggregateID() string { return c.ID }

func (c count) Execute(counter) ([]aggregate.Event[counter], error) {
	return []aggregate.Event[counter]{counted{c.By}}, nil
}

type invite struct{ Mail string }

func (invite) AggregateID() string { return "" }

type stranger struct{}

func (stranger) AggregateID() string { return "" }

func counters(t testing.TB) *aggregate.Repository[counter] {
	t.Helper()
	r, err := aggregate.New(memstore.Open(nil), &aggregate.Type[counter]{Name: "counter", Events: aggregate.Events[counter]{"counted": counted{}}})
	require.NoError(t, err)
	return r
}

func invites(sent *[]string) command.Target {
	return router.Func(func(_ context.Context, c invite, e *command.Envelope) (command.Result, error) {
		*sent = append(*sent, c.Mail)
		return command.Result{}, nil
	})
}

func TestCommandGoesToTheTargetThatHandlesIt(t *testing.T) {
	t.Parallel()
	var sent []string
	var r, inner router.Router
	inner.Handle(invites(&sent))
	r.Handle(counters(t), &inner)
	for range 2 { // the second time from memory
		res, err := command.Dispatch(t.Context(), &r, count{"a", 2})
		require.NoError(t, err)
		require.Equal(t, []any{counted{2}}, res.Events)
		_, err = command.Dispatch(t.Context(), &r, invite{"ann@example.org"})
		require.NoError(t, err)
	}
	require.Len(t, sent, 2)
	require.True(t, r.Handles(count{}))
	require.True(t, r.Handles(invite{}))
	require.False(t, r.Handles(stranger{}))
}

func TestUnroutedCommandIsAnErrorThatNamesItsType(t *testing.T) {
	t.Parallel()
	var empty, r router.Router
	r.Handle(counters(t))
	for _, r := range []*router.Router{&empty, &r} {
		_, err := command.Dispatch(t.Context(), r, stranger{})
		require.ErrorIs(t, err, command.ErrUnrouted)
		require.ErrorContains(t, err, "stranger")
		_, err = command.Submit(t.Context(), r, stranger{}).Wait(t.Context())
		require.ErrorIs(t, err, command.ErrUnrouted)
		_, err = r.HandleCommand(t.Context(), &command.Envelope{})
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}
	_, err := counters(t).HandleCommand(t.Context(), &command.Envelope{Command: stranger{}})
	require.ErrorIs(t, err, command.ErrUnrouted)
	_, err = invites(nil).HandleCommand(t.Context(), &command.Envelope{Command: stranger{}})
	require.ErrorIs(t, err, command.ErrUnrouted)
}

func TestTwoTargetsForOneCommandIsAnErrorThatNamesItsType(t *testing.T) {
	t.Parallel()
	var r, outer, guarded router.Router
	r.Handle(counters(t), counters(t))
	outer.Handle(&r)
	guarded.Handle(router.Use(&r))
	for _, r := range []*router.Router{&r, &outer, &guarded} {
		require.ErrorIs(t, r.Check(count{}), router.ErrAmbiguous)
		require.True(t, r.Handles(count{}), "so that nobody else takes it")
		_, err := command.Dispatch(t.Context(), r, count{})
		require.ErrorIs(t, err, router.ErrAmbiguous)
		require.ErrorContains(t, err, "router_test.count")
	}
}

func TestCheckFindsMistakesBeforeTheFirstCommand(t *testing.T) {
	t.Parallel()
	var sent []string
	var names router.Names
	require.NoError(t, names.Register("count", count{}))
	require.NoError(t, names.Register("stranger", stranger{}))

	var good router.Router
	good.Handle(counters(t), router.Use(invites(&sent)))
	require.NoError(t, good.Check(count{}))

	var bad, inner router.Router
	inner.Handle(invites(&sent))
	bad.Handle(counters(t), invites(&sent), &inner)
	err := bad.Check(names.Commands()...)
	require.ErrorIs(t, err, router.ErrAmbiguous)
	require.ErrorIs(t, err, command.ErrUnrouted)
	require.ErrorContains(t, err, "router_test.invite")
	require.ErrorContains(t, err, "router_test.stranger")
	require.NotContains(t, err.Error(), "router_test.count")
}

func TestTargetsAddedLaterCount(t *testing.T) {
	t.Parallel()
	var sent []string
	var r router.Router
	r.Handle(invites(&sent))
	_, err := command.Dispatch(t.Context(), &r, invite{"a"})
	require.NoError(t, err)
	r.Handle(invites(&sent))
	_, err = command.Dispatch(t.Context(), &r, invite{"a"})
	require.ErrorIs(t, err, router.ErrAmbiguous)
}

func TestHandlePanicsOnMistakesOfTheProgram(t *testing.T) {
	t.Parallel()
	var r, inner router.Router
	inner.Handle(router.Use(&r))
	require.Panics(t, func() { r.Handle(nil) })
	require.Panics(t, func() { r.Handle(&r) })
	require.Panics(t, func() { r.Handle(&inner) })
}

func TestUsePutsMiddlewareBeforeSomeRoutesOnly(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied")
	deny := func(next command.Handler) command.Handler {
		return command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			if e.Metadata["admin"] == "" {
				return command.Result{}, denied
			}
			return next.HandleCommand(ctx, e)
		})
	}
	var sent []string
	var r router.Router
	r.Handle(router.Use(counters(t), deny), invites(&sent))
	_, err := command.Dispatch(t.Context(), &r, count{"a", 1})
	require.ErrorIs(t, err, denied)
	_, err = command.Dispatch(t.Context(), &r, count{"a", 1}, command.Meta("admin", "ann"))
	require.NoError(t, err)
	_, err = command.Dispatch(t.Context(), &r, invite{"x"})
	require.NoError(t, err)
}

func TestOrderOfSubmittedCommandsIsKeptThroughRouters(t *testing.T) {
	t.Parallel()
	pass := func(next command.Handler) command.Handler {
		return command.HandlerFunc(next.HandleCommand)
	}
	var r, inner router.Router
	inner.Handle(router.Use(counters(t), pass))
	r.Handle(&inner)
	h := command.Chain(&r, pass)
	var pending []*command.Pending
	for i := range 300 {
		pending = append(pending, command.Submit(t.Context(), h, count{"a", i}))
	}
	for i, p := range pending {
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(i+1), res.Version)
		require.Equal(t, []any{counted{i}}, res.Events)
	}
}

func TestWaitThatNothingHonoursIsRefused(t *testing.T) {
	t.Parallel()
	var r router.Router
	r.Handle(counters(t))
	_, err := command.Dispatch(t.Context(), &r, count{"a", 1}, command.Wait("x"))
	require.ErrorIs(t, err, command.ErrNoWaiter)
	_, err = command.Submit(t.Context(), &r, count{"a", 1}, command.Wait("x")).Wait(t.Context())
	require.ErrorIs(t, err, command.ErrNoWaiter)
	res, err := command.Dispatch(t.Context(), &r, count{"a", 1})
	require.NoError(t, err)
	require.Equal(t, eventstore.Version(1), res.Version, "the others were not executed")
}

func TestFuncOfAnInterfaceHandlesAllThatImplementIt(t *testing.T) {
	t.Parallel()
	type mailed interface {
		command.Command
		Address() string
	}
	var r router.Router
	r.Handle(router.Func(func(_ context.Context, c mailed, _ *command.Envelope) (command.Result, error) {
		return command.Result{Stream: eventstore.StreamName(c.Address())}, nil
	}))
	require.NoError(t, r.Check())
	res, err := command.Dispatch(t.Context(), &r, letter{})
	require.NoError(t, err)
	require.Equal(t, eventstore.StreamName("here"), res.Stream)
	_, err = command.Dispatch(t.Context(), &r, invite{})
	require.ErrorIs(t, err, command.ErrUnrouted)
}

type letter struct{}

func (letter) AggregateID() string { return "" }
func (letter) Address() string     { return "here" }
