package aggregate_test

import (
	"testing"

	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

func TestTwoProcessesAreAsOne(t *testing.T) {
	t.Parallel()
	aggregatetest.Shared(t, func(t testing.TB) (a, b *eventstore.Store) {
		d := memstore.NewDriver()
		return eventstore.New(eventstoretest.Share(t, d), nil), eventstore.New(eventstoretest.Share(t, d), nil)
	})
}
