package process_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/process"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/schedule"
)

// All instances are in one partition, one of them waits for its command, and more events for it come than may be under way.
func TestASlowInstanceHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		block := make(chan struct{})
		unblock := sync.OnceFunc(func() { close(block) })
		typ := jobs()
		typ.Partitions, typ.InFlight, typ.Timeout = 1, 4, -1
		slow := command.HandlerFunc(func(ctx context.Context, e *command.Envelope) (command.Result, error) {
			if c, ok := e.Command.(Do); ok && c.ID == "slow" {
				<-block
			}
			return w.HandleCommand(ctx, e)
		})
		l := begin(t, nil, func(*eventstore.Store) []projection.Runner {
			return []projection.Runner{typ.Open(slow), &schedule.Timers{}}
		})
		t.Cleanup(unblock) // before the group is stopped
		l.happen(Began{"slow", []string{"s"}})
		for n := range 3 {
			l.happen(Went{"slow", fmt.Sprint("s", n)})
		}
		l.happen(Began{"1", []string{"a"}}, Began{"2", []string{"b"}}, Went{"1", "c"})
		require.ElementsMatch(t, []string{"a", "b", "c"}, w.did())
		for n := range 40 {
			l.happen(Went{"slow", fmt.Sprint("t", n)})
		}
		l.happen(Went{"1", "d"}, Began{"3", []string{"e"}})
		require.ElementsMatch(t, []string{"a", "b", "c", "d", "e"}, w.did())
		s := l.status("job")
		require.Equal(t, projection.Running, s.State)
		require.NotZero(t, s.Lag, "which tells that somebody is behind")
		unblock()
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		did := w.did()
		require.Len(t, did, 5+1+3+40)
		require.True(t, slices.Equal([]string{"s", "s0", "s1", "s2", "t0", "t1"}, did[5:11]), "in order")
		require.Zero(t, l.status("job").Lag)
	})
}

// A process is behind as a projection is: Status tells by how much, in events and in time, and why.
func TestStatusTellsHowFarBehindAProcessIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		typ := jobs()
		typ.OnError = func(f process.Failure) process.Action { return process.RetryAfter(time.Minute) }
		w.fail("a", false, errBroken)
		l := job(t, typ, w)
		l.happen(Began{"1", []string{"a"}})
		time.Sleep(10 * time.Second)
		l.happen(Began{"2", []string{"b"}}, Began{"3", nil})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		head, err := l.store.Head(t.Context())
		require.NoError(t, err)
		s := l.status("job")
		require.Equal(t, projection.Running, s.State)
		require.Equal(t, head, s.Head)
		require.Zero(t, s.Position, "the first event is not dealt with")
		require.EqualValues(t, head, s.Lag)
		require.Equal(t, 15*time.Second, s.LagTime.Round(time.Second))
		require.ErrorContains(t, s.LastError, "it is broken")
		require.EqualValues(t, 2, s.Handled)
		time.Sleep(time.Minute)
		synctest.Wait()
		s = l.status("job")
		require.Zero(t, s.Lag)
		require.Zero(t, s.LagTime)
		require.NoError(t, s.LastError)
		require.EqualValues(t, 3, s.Handled)
	})
}
