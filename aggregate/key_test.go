package aggregate_test

import (
	"fmt"
	"testing"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

// twice returns a command with two events.
func twice(id string) custom {
	return custom{id, func(account) ([]event, error) { return []event{deposited{1}, deposited{1}}, nil }}
}

func TestRepeatedCommandChangesNothingAndTellsWhereTheFirstEnded(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	first, err := r.Execute(t.Context(), twice("a"), command.Once("k"), command.Meta("by", "ann"))
	require.NoError(t, err)
	_, err = r.Execute(t.Context(), deposit{"a", 1})
	require.NoError(t, err)

	want := command.Result{Stream: "account-a", Version: first.Version, Position: first.Position, Repeated: true}
	res, err := r.Execute(t.Context(), twice("a"), command.Once("k"))
	require.NoError(t, err)
	require.Equal(t, want, res)

	t.Log("a repository that has to load the aggregate knows as much")
	res, err = open(t, s, accounts()).Execute(t.Context(), twice("a"), command.Once("k"))
	require.NoError(t, err)
	require.Equal(t, want, res)

	t.Log("the key is in the metadata of the first event only")
	var metas []map[string]string
	for rec, err := range s.ReadStream(t.Context(), "account-a", 0) {
		require.NoError(t, err)
		metas = append(metas, rec.Metadata)
	}
	require.Equal(t, []map[string]string{{"$key": "k", "by": "ann"}, {"by": "ann"}, nil}, metas)
}

func TestKeysOfCommandsInOneBatchAreToldApartOnLoad(t *testing.T) {
	t.Parallel()
	f := newFaulty()
	s := eventstore.New(f, nil)
	r := open(t, s, accounts())
	g := gated(f)
	hold := r.Submit(t.Context(), deposit{"a", 1})
	<-g.arrived
	var pending []*command.Pending
	for i := range 4 {
		c := twice("a")
		if i == 2 {
			pending = append(pending, r.Submit(t.Context(), c)) // without a key
			continue
		}
		pending = append(pending, r.Submit(t.Context(), c, command.Once(fmt.Sprint(i))))
	}
	g.open(f)
	_, err := hold.Wait(t.Context())
	require.NoError(t, err)
	fresh := open(t, s, accounts())
	for i, p := range pending {
		res, err := p.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, eventstore.Version(1+2*(i+1)), res.Version)
		if i == 2 {
			continue
		}
		again, err := fresh.Execute(t.Context(), twice("a"), command.Once(fmt.Sprint(i)))
		require.NoError(t, err)
		require.True(t, again.Repeated)
		require.Equal(t, res.Version, again.Version)
		require.LessOrEqual(t, again.Position, res.Position)
	}
}

func TestSameKeyTwiceInOneBatch(t *testing.T) {
	t.Parallel()
	for _, ok := range []bool{true, false} {
		t.Run(map[bool]string{true: "is repeated once the first is durable", false: "fails with the first"}[ok], func(t *testing.T) {
			t.Parallel()
			f := newFaulty()
			r := open(t, eventstore.New(f, nil), accounts())
			g := gated(f)
			hold := r.Submit(t.Context(), deposit{"a", 1})
			<-g.arrived
			a := r.Submit(t.Context(), deposit{"a", 10}, command.Once("k"))
			b := r.Submit(t.Context(), deposit{"a", 10}, command.Once("k"))
			g.pass <- nil
			<-g.arrived
			_, err := hold.Wait(t.Context())
			require.NoError(t, err)
			select {
			case <-b.Done():
				t.Fatal("answered before the first was durable")
			default:
			}
			if !ok {
				g.pass <- errDisk
				_, err := a.Wait(t.Context())
				require.ErrorIs(t, err, errDisk)
				_, err = b.Wait(t.Context())
				require.ErrorIs(t, err, errDisk)
				g.open(f)
				res, err := r.Execute(t.Context(), deposit{"a", 10}, command.Once("k"))
				require.NoError(t, err)
				require.False(t, res.Repeated, "the key was not used")
				return
			}
			g.open(f)
			first, err := a.Wait(t.Context())
			require.NoError(t, err)
			require.False(t, first.Repeated)
			second, err := b.Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, command.Result{Stream: "account-a", Version: first.Version, Position: first.Position, Repeated: true}, second)
			sum, _ := balance(t, r, "a")
			require.Equal(t, 11, sum)
		})
	}
}

func TestKeyOfARefusedCommandOrOneWithoutEventsIsNotUsed(t *testing.T) {
	t.Parallel()
	r := open(t, memstore.Open(nil), accounts())
	_, err := r.Execute(t.Context(), withdraw{"a", 5}, command.Once("k"))
	require.ErrorIs(t, err, errPoor)
	res, err := r.Execute(t.Context(), deposit{"a", 0}, command.Once("k"))
	require.NoError(t, err)
	require.False(t, res.Repeated)
	res, err = r.Execute(t.Context(), deposit{"a", 5}, command.Once("k"))
	require.NoError(t, err)
	require.False(t, res.Repeated)
	res, err = r.Execute(t.Context(), withdraw{"a", 500}, command.Once("k"))
	require.NoError(t, err, "the key comes before Execute")
	require.True(t, res.Repeated)
	res, err = r.Execute(t.Context(), deposit{"b", 5}, command.Once("k"))
	require.NoError(t, err)
	require.False(t, res.Repeated, "another aggregate")
}

func TestKeyComesBeforeAt(t *testing.T) {
	t.Parallel()
	r := open(t, memstore.Open(nil), accounts())
	send := func() (command.Result, error) {
		return r.Execute(t.Context(), deposit{"a", 5}, command.Once("k"), command.At(eventstore.NoStream))
	}
	_, err := send()
	require.NoError(t, err)
	res, err := send()
	require.NoError(t, err)
	require.True(t, res.Repeated)
}

func TestKeysBeyondTheWindowAreForgotten(t *testing.T) {
	t.Parallel()
	for _, loaded := range []string{"in memory", "from events", "from a snapshot"} {
		t.Run(loaded, func(t *testing.T) {
			t.Parallel()
			s := memstore.Open(nil)
			typ := accounts()
			typ.Keys = 3
			if loaded == "from a snapshot" {
				typ.SnapshotEvery = 5
			}
			r := open(t, s, typ)
			for i := range 5 {
				_, err := r.Execute(t.Context(), deposit{"a", 1}, command.Once(fmt.Sprint(i)))
				require.NoError(t, err)
			}
			if loaded == "from a snapshot" {
				snap := awaitSnapshot(t, s, "account-a", 5)
				require.Len(t, snap.Keys, 3)
				require.Equal(t, eventstore.KeyAt{Key: "2", Version: 3, Position: 3}, snap.Keys[0])
			}
			if loaded != "in memory" {
				r = open(t, s, typ)
			}
			for i := 4; i >= 0; i-- {
				res, err := r.Execute(t.Context(), deposit{"a", 1}, command.Once(fmt.Sprint(i)))
				require.NoError(t, err)
				require.Equal(t, i >= 2, res.Repeated, "key %d", i)
			}
		})
	}
}

func TestReservedMetadataIsRefused(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	r := open(t, s, accounts())
	_, err := r.Execute(t.Context(), deposit{"a", 1}, command.Meta("$key", "forged"))
	require.ErrorIs(t, err, eventstore.ErrInvalid)
	t.Log("and so it is in an envelope that did not pass Dispatch, next to a key of its own")
	for _, e := range []*command.Envelope{
		{Command: deposit{"a", 1}, Metadata: map[string]string{"$key": "forged"}, Key: "k"},
		{Command: deposit{"a", 1}, Metadata: map[string]string{"$x": "y"}},
	} {
		_, err = r.HandleCommand(t.Context(), e)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		_, err = r.SubmitCommand(t.Context(), e).Wait(t.Context())
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}
	head, err := s.Head(t.Context())
	require.NoError(t, err)
	require.Zero(t, head)
}

func TestKeyUsedAgainAfterItWasForgottenIsRememberedOnce(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	typ := accounts()
	typ.Keys = 1
	r := open(t, s, typ)
	for _, key := range []string{"k1", "k2", "k1"} {
		res, err := r.Execute(t.Context(), deposit{"a", 1}, command.Once(key))
		require.NoError(t, err)
		require.False(t, res.Repeated)
	}
	typ.Keys = 3
	r = open(t, s, typ)
	res, err := r.Execute(t.Context(), deposit{"a", 1}, command.Once("k3"))
	require.NoError(t, err)
	require.False(t, res.Repeated)
	for _, key := range []string{"k1", "k2", "k3"} {
		res, err := r.Execute(t.Context(), deposit{"a", 1}, command.Once(key))
		require.NoError(t, err)
		require.True(t, res.Repeated, key)
	}
}
