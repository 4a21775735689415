package process_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

func TestWaitKnowsOfThePartitionsOfOtherNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := shared{memstore.NewDriver().(everything)}
		w := &world{}
		runners := func(*eventstore.Store) []projection.Runner {
			return []projection.Runner{jobs().Open(w), &schedule.Timers{}}
		}
		a := begin(t, d, runners)
		b := begin(t, d, runners)
		idle := begin(t, d, runners)
		require.NoError(t, idle.stop())
		time.Sleep(time.Minute) // each has its share

		for _, l := range []*lab{a, b} {
			for _, e := range []any{Began{"1", []string{"x"}}, Ended{"never began"}} {
				at, err := l.store.Append(t.Context(), "source-1", eventstore.Any, eventstore.Event{Data: e})
				require.NoError(t, err)
				for who, g := range []*projection.Group{a.group, b.group, idle.group} {
					began := time.Now()
					require.NoError(t, g.Wait(t.Context(), at.Position, "job"))
					require.Less(t, time.Since(began), 700*time.Millisecond, "%T, waited for by %d", e, who)
				}
			}
		}
		require.Contains(t, w.did(), "x")
	})
}
