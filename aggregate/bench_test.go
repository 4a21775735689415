package aggregate_test

import (
	"context"
	"testing"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
)

func open(t testing.TB, s *eventstore.Store, typ *aggregate.Type[account]) *aggregate.Repository[account] {
	t.Helper()
	r, err := aggregate.New(s, typ)
	require.NoError(t, err)
	return r
}

// BenchmarkDispatch is one caller on a store in memory.
func BenchmarkDispatch(b *testing.B) {
	ctx := context.Background()
	r := open(b, memstore.Open(nil), accounts())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := command.Dispatch(ctx, r, deposit{"a", 1}); err != nil {
			b.Fatal(err)
		}
	}
}
