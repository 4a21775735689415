package orderbook

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/aggregate/aggregatetest"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

func TestCommandsAppendOneEventEach(t *testing.T) {
	t.Parallel()
	// A restored book need not be laid out in memory like the one it was taken
	// from, which is how a scenario would compare them.
	books := *Books
	books.SnapshotEvery = 0
	sell := book.Command{Op: book.Place, ID: 1, Owner: 7, Side: book.Sell, Qty: 5, Price: 100}
	aggregatetest.Given(t, &books, Decided{Command: sell, Effects: []book.Effect{
		{Kind: book.Rest, Side: book.Sell, ID: 1, Owner: 7, Price: 100, Qty: 5},
	}}).
		When(Place{Symbol: "x", Mark: Mark{4, 5}, Ref: "mine", ID: 2, Owner: 8, Side: book.Buy, TIF: book.IOC, Qty: 6, Price: 101}).
		Then(Decided{Mark: Mark{4, 5}, Ref: "mine",
			Command: book.Command{Op: book.Place, ID: 2, Owner: 8, Side: book.Buy, TIF: book.IOC, Qty: 6, Price: 101},
			Effects: []book.Effect{
				{Kind: book.Trade, Side: book.Buy, ID: 2, Owner: 8, Maker: 1, MakerOwner: 7, Price: 100, Qty: 5},
				{Kind: book.Drop, Side: book.Buy, ID: 2, Owner: 8, Price: 101, Qty: 1},
			}}).
		When(Modify{Symbol: "x", ID: 1, Fields: book.FieldQty, Qty: 3, Price: 9}).
		Then(Decided{Command: book.Command{Op: book.Modify, ID: 1, Fields: book.FieldQty, Qty: 3}, Reason: book.ErrUnknownOrder}).
		When(Cancel{Symbol: "x", ID: 1, Owner: 7}).
		Then(Decided{Command: book.Command{Op: book.Cancel, ID: 1, Owner: 7}, Reason: book.ErrUnknownOrder})
	for _, c := range []aggregate.Command[Book]{Place{Symbol: "x"}, Cancel{Symbol: "x"}, Modify{Symbol: "x"}} {
		require.Equal(t, "x", c.AggregateID())
	}
}

func TestBookSurvivesItsSnapshot(t *testing.T) {
	t.Parallel()
	store := memstore.Open(&memstore.Options{Store: eventstore.Options{Codecs: []eventstore.Codec{Codec}}})
	defer store.Close()
	books := *Books
	books.SnapshotEvery = 50
	first, err := aggregate.New(store, &books)
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 8))
	var folded Book
	execute := func(on *aggregate.Repository[Book], n int) {
		for range n {
			res, err := on.Execute(t.Context(), draw(r.IntN))
			require.NoError(t, err)
			require.Len(t, res.Events, 1)
			res.Events[0].(Decided).Apply(&folded)
		}
	}
	same := func(on *aggregate.Repository[Book]) {
		require.NoError(t, on.View(t.Context(), "x", func(b *Book, v eventstore.Version) {
			require.Equal(t, shown(folded), shown(*b))
			require.Equal(t, folded.Mark(), b.Mark())
		}))
	}
	execute(first, 230)
	same(first)
	require.Eventually(t, func() bool {
		snap, err := store.LoadSnapshot(t.Context(), "book-x")
		require.NoError(t, err)
		return snap.Version >= 200
	}, 10*time.Second, time.Millisecond, "snapshots are written in the background")

	second, err := aggregate.New(store, &books)
	require.NoError(t, err)
	same(second)
	execute(second, 100)
	same(second)
	same(first)
}
