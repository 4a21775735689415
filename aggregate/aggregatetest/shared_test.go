package aggregatetest

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A recorder is a testing.TB that fails alone.
type recorder struct {
	testing.TB
	failed []string
}

func (r *recorder) Helper()                           {}
func (r *recorder) Error(args ...any)                 { r.failed = append(r.failed, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) { r.Error(fmt.Sprintf(format, args...)) }
func (r *recorder) FailNow()                          { runtime.Goexit() }
func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); r.FailNow() }
func (r *recorder) Fatal(args ...any)                 { r.Error(args...); r.FailNow() }
func (r *recorder) Failed() bool                      { return len(r.failed) > 0 }

// failures returns the tests of Shared that fail, but for the random ones.
func failures(t *testing.T, open func(t testing.TB) (a, b *eventstore.Store)) (names []string) {
	for _, test := range sharedTests {
		if test.name == random {
			continue
		}
		r := &recorder{TB: t}
		over := make(chan struct{})
		go func() {
			defer close(over)
			test.run(r, newProcesses(t, open))
		}()
		<-over
		if r.Failed() {
			names = append(names, test.name)
		}
	}
	return names
}

// A lying handle says that no other process writes.
type lying struct{ driver.Store }

func (d lying) Limits() driver.Limits {
	l := d.Store.Limits()
	l.Exclusive = true
	return l
}

// A lagging handle shows where a stream stood when it was asked the time before.
type lagging struct {
	driver.Store
	last map[string]driver.StreamInfo
}

func (d lagging) Stream(ctx context.Context, stream string) (driver.StreamInfo, error) {
	now, err := d.Store.Stream(ctx, stream)
	old, ok := d.last[stream]
	if d.last[stream] = now; ok && err == nil {
		return old, nil
	}
	return now, err
}

func TestSharedPassesWhereProcessesShareAStore(t *testing.T) {
	t.Parallel()
	require.Empty(t, failures(t, func(t testing.TB) (a, b *eventstore.Store) {
		d := memstore.NewDriver()
		return eventstore.New(eventstoretest.Share(t, d), nil), eventstore.New(eventstoretest.Share(t, d), nil)
	}))
}

func TestSharedFindsAProcessThatAnswersFromItsMemory(t *testing.T) {
	t.Parallel()
	failed := failures(t, func(t testing.TB) (a, b *eventstore.Store) {
		d := memstore.NewDriver()
		return eventstore.New(lying{eventstoretest.Share(t, d)}, nil), eventstore.New(lying{eventstoretest.Share(t, d)}, nil)
	})
	all := strings.Join(failed, "\n")
	for _, want := range []string{
		"a withdrawal is not refused after a deposit elsewhere", "nothing to do is not said of an old state", "a view shows what was done elsewhere",
		"a version is compared with what was done elsewhere",
	} {
		require.Contains(t, all, want)
	}
}

func TestSharedFindsVersionsThatLag(t *testing.T) {
	t.Parallel()
	failed := failures(t, func(t testing.TB) (a, b *eventstore.Store) {
		d := memstore.NewDriver()
		node := func() *eventstore.Store {
			return eventstore.New(lagging{eventstoretest.Share(t, d), map[string]driver.StreamInfo{}}, nil)
		}
		return node(), node()
	})
	require.Contains(t, failed, "a withdrawal is not refused after a deposit elsewhere")
}
