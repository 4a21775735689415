package aggregate_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

func TestTruncatedStreamIsNeverFoldedInPart(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	typ := accounts()
	typ.SnapshotEvery = 5
	r := open(t, s, typ)
	for range 8 {
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	}
	awaitSnapshot(t, s, "account-a", 5)

	t.Log("up to the snapshot it may be truncated")
	require.NoError(t, s.Truncate(t.Context(), "account-a", 6))
	sum, v := balance(t, r, "a")
	require.Equal(t, 8, sum)
	require.Equal(t, eventstore.Version(8), v)

	t.Log("without one it cannot be loaded")
	plain := open(t, s, accounts())
	_, err := plain.Execute(t.Context(), deposit{"a", 1})
	require.ErrorIs(t, err, aggregate.ErrTruncated)
	require.ErrorContains(t, err, "account-a")

	t.Log("nor beyond it")
	require.NoError(t, s.Truncate(t.Context(), "account-a", 8))
	require.ErrorIs(t, r.View(t.Context(), "a", func(*account, eventstore.Version) { t.Error("called") }), aggregate.ErrTruncated)
}

func TestStreamTruncatedToNothingIsNotAnEmptyAggregate(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	for range 3 {
		_, err := r.Execute(t.Context(), deposit{"a", 1})
		require.NoError(t, err)
	}
	if err := s.Truncate(t.Context(), "account-a", 4); err != nil {
		t.Skip("the driver keeps the last event")
	}
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.ErrorIs(t, err, aggregate.ErrTruncated)
}

func TestDeletedAggregateBeginsAnew(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(map[bool]string{false: "by this process", true: "by another"}[shared], func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			f.shared = shared
			s := eventstore.New(f, nil)
			other := s
			if shared {
				other = eventstore.New(f, nil)
			}
			r := open(t, s, accounts())
			for range 5 {
				_, err := r.Execute(t.Context(), deposit{"a", 10}, command.Once("k"))
				require.NoError(t, err)
				_, err = r.Execute(t.Context(), deposit{"a", 10})
				require.NoError(t, err)
			}
			require.NoError(t, other.Delete(t.Context(), "account-a", eventstore.Any))
			sum, v := balance(t, r, "a")
			require.Zero(t, sum)
			require.Zero(t, v)
			_, err := r.Execute(t.Context(), withdraw{"a", 1})
			require.ErrorIs(t, err, errPoor)
			res, err := r.Execute(t.Context(), deposit{"a", 1}, command.Once("k"))
			require.NoError(t, err)
			require.False(t, res.Repeated, "its keys went with it")
			require.Equal(t, eventstore.Version(7), res.Version)
			for _, r := range []*aggregate.Repository[account]{r, open(t, other, accounts())} {
				sum, v = balance(t, r, "a")
				require.Equal(t, 1, sum)
				require.Equal(t, eventstore.Version(7), v)
			}
		})
	}
}

func TestStreamDeletedAndBegunAnewElsewhereIsNotFoldedOnTheOldState(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	f.shared = true
	r := open(t, eventstore.New(f, nil), accounts())
	for range 5 {
		_, err := r.Execute(t.Context(), deposit{"a", 10})
		require.NoError(t, err)
	}
	require.NoError(t, f.Delete(t.Context(), "account-a", driver.Any))
	require.NoError(t, f.foreign("account-a"))
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	sum, v := balance(t, r, "a")
	require.Equal(t, 2, sum)
	require.Equal(t, eventstore.Version(7), v)
}

func TestPurgedAggregateIsRefused(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context(), "account-a"))
	_, err = r.Execute(t.Context(), deposit{"a", 1})
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
}

func TestEventThatCannotBeFoldedIsNamed(t *testing.T) {
	t.Parallel()
	raw := func(typ, data string) eventstore.Event {
		return eventstore.Event{Type: typ, Raw: []byte(data), ContentType: "application/json"}
	}
	tests := []struct {
		name  string
		event eventstore.Event
		is    error
		panic bool
	}{
		{"unknown type", raw("seen", `{}`), eventstore.ErrUnregistered, false},
		{"another aggregate's", eventstore.Event{Data: written{}}, eventstore.ErrUnregistered, false},
		{"undecodable", raw("deposited", `{"Amount":"one"}`), eventstore.ErrCodec, false},
		{"unknown content type", eventstore.Event{Type: "deposited", Raw: []byte("x"), ContentType: "x/y"}, eventstore.ErrCodec, false},
		{"panic", eventstore.Event{Data: bomb{true}}, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := memstore.Open(nil)
			require.NoError(t, s.Types.Register("written", written{}))
			typ := accounts()
			typ.Events["bomb"] = bomb{}
			r := open(t, s, typ)
			_, err := r.Execute(t.Context(), deposit{"a", 1})
			require.NoError(t, err)
			_, err = s.Append(t.Context(), "account-a", eventstore.Any, tt.event)
			require.NoError(t, err)
			_, err = r.Execute(t.Context(), deposit{"a", 1})
			require.Error(t, err)
			name := tt.event.Type
			if name == "" {
				name, _ = s.Types.Name(tt.event.Data)
			}
			for _, part := range []string{"account-a", "version 2", name} {
				require.ErrorContains(t, err, part)
			}
			if tt.is != nil {
				require.ErrorIs(t, err, tt.is)
			}
			if tt.panic {
				var p *command.PanicError
				require.ErrorAs(t, err, &p)
			}
			t.Log("it does not spread")
			_, err = r.Execute(t.Context(), deposit{"b", 1})
			require.NoError(t, err)
			require.Error(t, r.View(t.Context(), "a", func(*account, eventstore.Version) { t.Error("called") }))
		})
	}
}

func TestErasedEventIsPassedOver(t *testing.T) {
	t.Parallel()
	seal := &sealer{}
	s := eventstore.New(memstore.NewDriver(), &eventstore.Options{Seal: seal})
	r := open(t, s, accounts())
	for i := range 3 {
		_, err := r.Execute(t.Context(), deposit{"a", i + 1})
		require.NoError(t, err)
	}
	seal.erased = 2
	sum, v := balance(t, open(t, s, accounts()), "a")
	require.Equal(t, 4, sum)
	require.Equal(t, eventstore.Version(3), v)
}

func TestLoadThatFailsHalfwayLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	seal := &sealer{}
	s := eventstore.New(memstore.NewDriver(), &eventstore.Options{Seal: seal})
	r := open(t, s, accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	_, err = s.Append(t.Context(), "account-a", eventstore.Any, eventstore.Event{Data: deposited{10}}, eventstore.Event{Data: deposited{100}})
	require.NoError(t, err)
	seal.broken = 3
	_, err = r.Execute(context.Background(), deposit{"a", 1})
	require.ErrorIs(t, err, errDisk)
	require.ErrorContains(t, err, "version 3")
	seal.broken = 0
	sum, v := balance(t, r, "a")
	require.Equal(t, 111, sum)
	require.Equal(t, eventstore.Version(3), v)
}

// sealer erases one version, and cannot open another.
type sealer struct{ erased, broken eventstore.Version }

func (s *sealer) Seal(_ context.Context, _ *eventstore.Event, data []byte) ([]byte, error) {
	return data, nil
}

func (s *sealer) Open(_ context.Context, r *eventstore.Recorded, data []byte) ([]byte, error) {
	if r.Version == s.broken {
		return nil, errDisk
	}
	if r.Version == s.erased {
		return nil, fmt.Errorf("gone: %w", eventstore.ErrErased)
	}
	return data, nil
}

func TestPanicOfASealerFailsTheCommandsOfItsBatch(t *testing.T) {
	t.Parallel()
	seal := &panicky{}
	r := open(t, eventstore.New(memstore.NewDriver(), &eventstore.Options{Seal: seal}), accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	var p *command.PanicError
	require.ErrorAs(t, err, &p)
	_, err = r.Execute(context.Background(), deposit{"a", 1})
	require.ErrorAs(t, err, &p)
	seal.calm.Store(true)
	_, err = r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
	sum, _ := balance(t, r, "a")
	require.Equal(t, 1, sum)
}

type panicky struct {
	sealer
	calm atomic.Bool
}

func (p *panicky) Seal(ctx context.Context, e *eventstore.Event, data []byte) ([]byte, error) {
	if !p.calm.Load() {
		panic("no key")
	}
	return data, nil
}

func TestUpcastsApplyToAnAggregatesOwnStream(t *testing.T) {
	t.Parallel()
	type paidIn struct{ Cents int }
	type nothing struct{}
	s := memstore.Open(nil)
	for _, e := range []eventstore.Event{
		{Type: "paid_in", Raw: []byte(`{"Cents":300}`), ContentType: "application/json"},
		{Type: "nothing", Raw: []byte(`{}`), ContentType: "application/json"},
	} {
		_, err := s.Append(t.Context(), "account-a", eventstore.Any, e)
		require.NoError(t, err)
	}
	typ := accounts()
	typ.Upcasts = []eventstore.Upcast{
		eventstore.UpcastFrom("paid_in", func(p paidIn) deposited { return deposited{p.Cents / 100} }),
		eventstore.UpcastSplit("nothing", func(nothing) []any { return nil }),
	}
	r := open(t, s, typ)
	res, err := r.Execute(t.Context(), withdraw{"a", 3})
	require.NoError(t, err)
	require.Equal(t, eventstore.Version(3), res.Version, "events that an upcast left nothing of count")
}

func TestLoadFailureIsToldToAllThatWait(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	broken := &brokenReads{faulty: f, err: errDisk}
	r := open(t, eventstore.New(broken, nil), accounts())
	var pending []*command.Pending
	for range 10 {
		pending = append(pending, r.Submit(t.Context(), deposit{"a", 1}))
	}
	for _, p := range pending {
		_, err := p.Wait(t.Context())
		require.ErrorIs(t, err, errDisk)
	}
	broken.err = nil
	_, err := r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)
}

type brokenReads struct {
	*faulty
	err error
}

func (b *brokenReads) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.faulty.ReadStream(ctx, stream, from, dir, limit)
}
