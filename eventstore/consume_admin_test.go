package eventstore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

// Two processes with two members each work while somebody in a third one looks after their consumer.
func TestAConsumerIsLookedAfterWhileItsMembersWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, ctx := memstore.NewDriver().(engine), t.Context()
		process := func() *eventstore.Store {
			s := eventstore.New(line{e}, &eventstore.Options{Logger: quiet})
			require.NoError(t, s.Types.Register("counted", Counted{}))
			return s
		}
		var b book
		config := with(func(c *eventstore.Consumer) { c.Partitions, c.Batch = 0, 3 })
		admin, here, there := process(), process(), process()
		var stops []func()
		for _, s := range []*eventstore.Store{here, there, here, there} {
			stops = append(stops, b.keep(t, s, config))
		}
		info := func() eventstore.ConsumerInfo {
			list, err := admin.Consumers(ctx)
			require.NoError(t, err)
			require.Len(t, list, 1)
			return list[0]
		}
		n := 0
		appends := func() (events string) {
			n++
			for _, key := range "abcdefgh" {
				events += fmt.Sprintf(" %c%d", key, n)
			}
			count(t, admin, events)
			return events
		}
		time.Sleep(2 * time.Second)
		first := appends()
		time.Sleep(time.Second)
		delivered, _ := b.take()
		once(t, first, delivered)
		i := info()
		require.Equal(t, 4, i.Members)
		require.Len(t, i.Partitions, 8, "as by default")
		require.Zero(t, i.Lag)
		require.Equal(t, i.Head, i.Position)
		owners := map[string]int{}
		for _, p := range i.Partitions {
			owners[p.Owner]++
			require.Equal(t, i.Head, p.Position)
		}
		require.Len(t, owners, 4)

		// Paused: a third of a second later nobody is given anything, and the lag tells what waits.
		require.NoError(t, admin.PauseConsumer(ctx, "c"))
		time.Sleep(334 * time.Millisecond)
		waiting := appends() + appends()
		time.Sleep(time.Minute)
		delivered, _ = b.take()
		require.Empty(t, delivered)
		require.True(t, info().Paused)
		require.EqualValues(t, 16, info().Lag)
		late := b.keep(t, here, config)
		time.Sleep(time.Minute)
		delivered, _ = b.take()
		require.Empty(t, delivered, "to one that comes meanwhile neither")
		require.Equal(t, 5, info().Members)
		require.NoError(t, admin.ResumeConsumer(ctx, "c"))
		time.Sleep(time.Second)
		delivered, _ = b.take()
		once(t, waiting, delivered)
		require.Zero(t, info().Lag)
		late()
		require.Equal(t, 4, info().Members)

		// Reset, while events are delivered: all come again, each key from its beginning on.
		all := first + waiting + appends()
		require.NoError(t, admin.ResetConsumer(ctx, "c", eventstore.Origin()))
		time.Sleep(5 * time.Second)
		delivered, _ = b.take()
		for _, key := range "abcdefgh" {
			var of []string
			for _, event := range delivered {
				if event[0] == byte(key) {
					of = append(of, event)
				}
			}
			again := slices.DeleteFunc(strings.Fields(all), func(event string) bool { return event[0] != byte(key) })
			require.Equal(t, again, of[len(of)-len(again):], "what was under way before that may come first")
		}
		require.Zero(t, info().Lag)

		// Repartitioned, while it works: nothing is lost, and everybody goes on.
		more := appends()
		require.NoError(t, admin.Repartition(ctx, "c", 3))
		time.Sleep(5 * time.Second)
		more += appends()
		time.Sleep(time.Second)
		delivered, _ = b.take()
		for event := range strings.FieldsSeq(more) {
			require.Contains(t, delivered, event)
		}
		require.Len(t, info().Partitions, 3)
		require.Zero(t, info().Lag)

		// Deleted: all end, and who comes begins where it says.
		require.NoError(t, admin.DeleteConsumer(ctx, "c"))
		time.Sleep(time.Second)
		b.mu.Lock()
		require.Len(t, b.ended, 5)
		for _, err := range b.ended[1:] {
			require.ErrorIs(t, err, eventstore.ErrNoConsumer)
		}
		b.mu.Unlock()
		leases, err := e.Leases(ctx, "")
		require.NoError(t, err)
		require.Empty(t, leases)
		b.take()
		config.From = eventstore.Start{}
		stops = append(stops, b.keep(t, here, config))
		time.Sleep(time.Second)
		last := appends()
		time.Sleep(time.Second)
		delivered, _ = b.take()
		once(t, last, delivered)
		for _, stop := range stops {
			stop()
		}
		for _, s := range []*eventstore.Store{here, there, admin} {
			require.NoError(t, s.Close())
		}
	})
}
