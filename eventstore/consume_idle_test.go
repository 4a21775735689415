package eventstore_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
)

func TestAMemberBeyondThePartitionsWaitsForOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		config := with(func(c *eventstore.Consumer) { c.Partitions = 2 })
		members := []*worker{work(t, s, config), work(t, s, config), work(t, s, config)}
		time.Sleep(time.Second)
		list, err := s.Consumers(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, list[0].Members)
		owners := map[string]bool{}
		for _, p := range list[0].Partitions {
			owners[p.Owner] = true
		}
		require.Len(t, owners, 2)
		require.NotContains(t, owners, "")
		got := 0
		for left := 3; left > 0; left-- {
			for _, key := range "abcdefgh" {
				count(t, s, fmt.Sprintf("%c%d", key, left))
			}
			for more := true; more; {
				more = false
				for _, w := range members[:left] {
					if d := w.next(); d != nil {
						got += len(ack(t, d).Events)
						more = true
					}
				}
			}
			require.Equal(t, 8*(4-left), got, "with %d members", left)
			members[left-1].leave()
		}
	})
}

func TestPositionCoversEventsWithoutKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := openConsume(t)
		config := with(func(c *eventstore.Consumer) {
			c.By, c.Batch = nil, 1
			c.Keys = func(r *eventstore.Recorded) []string { // every third
				if r.Data.(Counted).N%3 == 0 {
					return []string{"k"}
				}
				return nil
			}
		})
		count(t, s, "a1 a2 a3 a4 a5 a6 a7 a8")
		w := work(t, s, config)
		d := w.next()
		require.Equal(t, "a3", counts(d))
		ack(t, d)
		require.EqualValues(t, 3, reached(t, s), "what follows is read again, and passed over again, as long as an event waits")
		ack(t, w.next())
		time.Sleep(2 * time.Second)
		require.EqualValues(t, 8, reached(t, s), "up to the head")
		last := count(t, s, "a1 a2 a4")
		time.Sleep(2 * time.Second)
		require.Equal(t, last, reached(t, s), "when nothing is delivered at all")
		w.leave()
	})
}
