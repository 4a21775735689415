package eventstore_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type inlineEvent struct{ N int }

func TestInlineTakesPartInEveryAppendAndFailsItsOwnAlone(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	defer s.Close()
	require.NoError(t, s.Types.Register("inline", inlineEvent{}))
	bad := errors.New("no multiples of seven")
	sum := 0
	stop, err := s.Inline(func(_ context.Context, tx any, events []*eventstore.Recorded) error {
		for _, r := range events {
			n := r.Data.(inlineEvent).N
			switch {
			case n%11 == 0:
				panic("eleven")
			case n%7 == 0:
				return bad
			}
			sum += n // one append at a time
		}
		return nil
	})
	require.NoError(t, err)
	want := 0
	var wg sync.WaitGroup
	errs := make([]error, 100)
	for n := range errs {
		if n%7 != 0 && n%11 != 0 {
			want += n
		}
		wg.Go(func() {
			_, errs[n] = s.Append(t.Context(), eventstore.Stream("s", fmt.Sprint(n%5)), eventstore.Any, eventstore.Event{Data: inlineEvent{n}})
		})
	}
	wg.Wait()
	stored := 0
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		stored += r.Data.(inlineEvent).N
	}
	require.Equal(t, want, stored)
	require.Equal(t, want, sum)
	for n, err := range errs {
		switch {
		case n%11 == 0:
			require.ErrorContains(t, err, "eleven", n)
		case n%7 == 0:
			require.ErrorIs(t, err, bad, n)
		default:
			require.NoError(t, err, n)
		}
	}
	stop()
	_, err = s.Append(t.Context(), "s-1", eventstore.Any, eventstore.Event{Data: inlineEvent{7}})
	require.NoError(t, err)
}
