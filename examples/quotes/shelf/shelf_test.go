package shelf

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/examples/quotes/quote"
)

func open(t *testing.T) *Shelf {
	store := memstore.Open(nil)
	s, err := Open(store, nil)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-over)
		require.NoError(t, store.Close())
	})
	return s
}

func do(t *testing.T, s *Shelf, c command.Command) {
	t.Helper()
	_, err := s.Dispatch(t.Context(), c, command.Wait("shelf"))
	require.NoError(t, err)
}

func TestTheCollectionHasTheNewestFirst(t *testing.T) {
	t.Parallel()
	s := open(t)
	do(t, s, quote.Add{ID: "a", Content: "one"})
	do(t, s, quote.Add{ID: "b", Author: "me", Content: "two"})
	do(t, s, quote.Like{ID: "a"})
	do(t, s, quote.Reword{ID: "b", Content: "three"})
	rows, err := s.Rows.All(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Equal(t, Row{"b", "", "three", 0, 2, rows[0].at}, rows[0])
	require.Equal(t, Row{"a", "", "one", 1, 2, rows[1].at}, rows[1])
	do(t, s, quote.Remove{ID: "b"})
	rows, err = s.Rows.All(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, 1)
	_, ok, err := s.Quotes.Get(t.Context(), "b")
	require.NoError(t, err)
	require.False(t, ok)
}

func TestAtIsTheQuoteAsItWas(t *testing.T) {
	t.Parallel()
	s := open(t)
	do(t, s, quote.Add{ID: "a", Content: "one"})
	do(t, s, quote.Like{ID: "a"})
	do(t, s, quote.Reword{ID: "a", Content: "two"})
	do(t, s, quote.Remove{ID: "a"})
	for i, want := range []Moment{
		{Quote{Content: "one"}, "added", false},
		{Quote{Content: "one", Likes: 1}, "liked", false},
		{Quote{Content: "two", Likes: 1}, "reworded", false},
		{Quote{Content: "two", Likes: 1}, "removed", true},
	} {
		m, ok, err := s.At(t.Context(), "a", uint64(i+1))
		require.NoError(t, err)
		require.True(t, ok)
		require.False(t, m.AsOf.IsZero())
		want.ID, want.Version, want.AsOf = "a", uint64(i+1), m.AsOf
		require.Equal(t, want, m)
	}
	for _, v := range []uint64{0, 5} {
		_, ok, err := s.At(t.Context(), "a", v)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestAnEmptyShelfIsFilledOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	do(t, s, quote.Add{ID: "steps", Content: "an interrupted start"})
	require.NoError(t, s.Seed(t.Context()))
	head, err := s.Store.Head(t.Context())
	require.NoError(t, err)
	require.NoError(t, s.Seed(t.Context()))
	again, err := s.Store.Head(t.Context())
	require.NoError(t, err)
	require.Equal(t, head, again)
	rows, err := s.Rows.All(t.Context())
	require.NoError(t, err)
	require.Len(t, rows, len(seeds))
	talk, _, err := s.Talk.Get(t.Context(), "steps")
	require.NoError(t, err)
	require.Equal(t, []string{"first1", "first0"}, talk, "the newest first")
}
