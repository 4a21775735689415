package eventstoretest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// kinds of drivers, by what they can do.
func kinds() map[string]func() driver.Store {
	full := func() eventstoretest.Engine { return memstore.NewDriver().(eventstoretest.Engine) }
	return map[string]func() driver.Store{
		"everything": func() driver.Store { return full() },
		"no transactions": func() driver.Store {
			d := full()
			return struct {
				driver.Store
				driver.Atomic
				driver.Lister
				driver.Deleter
				driver.Dater
				driver.Snapshotter
				driver.Checkpointer
				driver.Leaser
			}{d, d, d, d, d, d, d, d}
		},
		"little": func() driver.Store {
			d := full()
			return struct {
				driver.Store
				driver.Deleter
				driver.Checkpointer
				driver.Leaser
			}{d, d, d, d}
		},
		"nothing more": func() driver.Store { return struct{ driver.Store }{full()} },
	}
}

func TestADriverKeepsItsCapabilities(t *testing.T) {
	t.Parallel()
	for name, make := range kinds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := make()
			shared := eventstoretest.Share(t, d)
			require.Equal(t, eventstoretest.Capabilities(d), eventstoretest.Capabilities(shared))
			require.Equal(t, eventstoretest.Capabilities(d), eventstoretest.Capabilities(eventstoretest.Share(t, shared)))
			f, _ := eventstoretest.Faulty(t, shared)
			require.Equal(t, eventstoretest.Capabilities(d), eventstoretest.Capabilities(f))
			require.Equal(t, eventstoretest.Capabilities(d), eventstoretest.Capabilities(eventstoretest.Share(t, f)))
			drivertest.Run(t, drivertest.Harness{
				Open: func(t testing.TB) driver.Store {
					d, _ := eventstoretest.Faulty(t, eventstoretest.Share(t, make()))
					return d
				},
				Peer: func(t testing.TB, d driver.Store) driver.Store { return eventstoretest.Share(t, d) },
			})
		})
	}
}

func TestAKindThatNobodyKnowsIsRefused(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver().(eventstoretest.Engine)
	require.Contains(t, failure(t, func(t testing.TB) {
		eventstoretest.Faulty(t, struct {
			driver.Store
			driver.Dater
		}{d, d})
	}), "a new kind: Dater")
}

func TestStoresOfSeveralProcessesShareWhatTheyAppend(t *testing.T) {
	t.Parallel()
	d := memstore.NewDriver()
	a, b := eventstore.New(eventstoretest.Share(t, d), nil), eventstore.New(eventstoretest.Share(t, d), nil)
	for _, s := range []*eventstore.Store{a, b} {
		require.NoError(t, s.Types.Register("sent", Sent{}))
		require.False(t, s.Limits().Exclusive)
	}
	put(t, a, "s-1", Sent{"b", 1})
	put(t, b, "s-1", Sent{"a", 2})
	require.NoError(t, a.Close())
	require.Equal(t, []any{Sent{"b", 1}, Sent{"a", 2}}, eventstoretest.Stream(t, b, "s-1"))
	require.NoError(t, b.Close())
	head, err := d.Head(t.Context())
	require.NoError(t, err)
	require.NotZero(t, head, "closing the handles leaves the driver open")
}
