package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/command"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/projection"
	"github.com/levada-go/levada/router"
	"github.com/levada-go/levada/schedule"
)

var quiet = slog.New(slog.DiscardHandler)

// A Remind is a command for later.
type Remind struct{ ID, Of string }

func (c Remind) AggregateID() string { return c.ID }

type unnamed struct{ Remind }

// A sink is what commands come to when their time has come.
type sink struct {
	mu    sync.Mutex
	got   []*command.Envelope
	times []time.Time
	fails []command.Result
	errs  []error
	block chan struct{}
}

func (s *sink) HandleCommand(_ context.Context, e *command.Envelope) (command.Result, error) {
	s.mu.Lock()
	s.got, s.times = append(s.got, e), append(s.times, time.Now())
	var res command.Result
	var err error
	if len(s.errs) > 0 && e.Command.(Remind).Of == "a" {
		res, err = s.fails[0], s.errs[0]
		s.fails, s.errs = s.fails[1:], s.errs[1:]
	}
	block := s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
	if p, ok := errors.AsType[*command.PanicError](err); ok {
		panic(p.Value)
	}
	return res, err
}

func (s *sink) fail(refused bool, errs ...error) {
	for _, err := range errs {
		s.fails, s.errs = append(s.fails, command.Result{Refused: refused}), append(s.errs, err)
	}
}

func (s *sink) all() []*command.Envelope {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *sink) when() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.times)
}

func (s *sink) of() (list []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		list = append(list, e.Command.(Remind).Of)
	}
	return list
}

type node struct {
	store  *eventstore.Store
	router router.Router
	group  *projection.Group
	stop   func()
}

type engine interface {
	driver.Store
	driver.Batcher
	driver.Checkpointer
	driver.Leaser
	driver.Lister
	driver.Deleter
}

// A driver that several nodes share is not closed by one of them.
type shared struct{ engine }

func (shared) Close() error { return nil }

// A plain driver cannot cut streams.
type plain struct {
	driver.Store
	driver.Checkpointer
	driver.Leaser
}

func start(t *testing.T, d driver.Store, s *sink) *node {
	return startOn(t, eventstore.New(d, &eventstore.Options{Logger: quiet}), s)
}

func startOn(t *testing.T, store *eventstore.Store, s *sink) *node {
	n := &node{store: store}
	n.group = &projection.Group{Store: n.store, Logger: quiet}
	timers := &schedule.Timers{Commands: map[string]command.Command{"remind": Remind{}}, Handler: s}
	n.router.Handle(timers)
	require.NoError(t, n.group.Add(timers))
	n.run()
	return n
}

func (n *node) run() {
	n.begin()
	synctest.Wait()
}

// begin is run outside of a bubble.
func (n *node) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = n.group.Run(ctx)
	}()
	n.stop = func() {
		cancel()
		<-ended
	}
}

func (n *node) at(t *testing.T, d time.Duration, of string, opts ...command.Option) command.Result {
	t.Helper()
	res, err := command.DispatchAfter(t.Context(), &n.router, d, Remind{"ann", of}, opts...)
	require.NoError(t, err)
	return res
}

// events returns what the stream of timers has, by type.
func events(t *testing.T, s *eventstore.Store) (list []string) {
	for r, err := range s.ReadStream(t.Context(), "$timer", 0) {
		require.NoError(t, err)
		list = append(list, strings.TrimPrefix(r.Type, "$timer."))
	}
	return list
}

func TestCommandsAreDispatchedAtTheirTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		n := start(t, memstore.NewDriver(), s)
		defer func() { n.stop() }()
		began := time.Now()
		res := n.at(t, time.Hour, "b", command.Meta("by", "ann"))
		require.NotZero(t, res.Position)
		n.at(t, time.Minute, "a")
		n.at(t, -time.Minute, "now")
		synctest.Wait()
		require.Equal(t, []string{"now"}, s.of())
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"now", "a", "b"}, s.of())
		require.Equal(t, []time.Duration{0, time.Minute, time.Hour}, []time.Duration{s.when()[0].Sub(began), s.when()[1].Sub(began), s.when()[2].Sub(began)},
			"no poll is between the time and the command")
		e := s.all()[2]
		require.Equal(t, "ann", e.Metadata["by"])
		require.NotEmpty(t, e.Key)
		for r, err := range n.store.ReadStream(t.Context(), "$timer", 0) {
			require.NoError(t, err)
			require.Equal(t, r.Correlation, e.Correlation, "the conversation goes on")
			break
		}
		require.Len(t, events(t, n.store), 9, "set, due and done, three times")
	})
}

func TestNobodyWaitsForTimersThatWereReadToBeginWith(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := shared{memstore.NewDriver().(engine)}
		n := start(t, d, &sink{})
		res := n.at(t, time.Hour, "a")
		n.stop()
		require.NoError(t, n.group.Wait(t.Context(), res.Position), "it does not run")
		sub, err := eventstore.Subscribe(t.Context(), n.store, eventstore.Transient[int]{Map: func(*eventstore.Recorded) int { return 0 }})
		require.NoError(t, err) // so that the store is followed already
		defer sub.Close()
		n = startOn(t, n.store, &sink{})
		defer func() { n.stop() }()
		began := time.Now()
		require.NoError(t, n.group.Wait(t.Context(), res.Position))
		require.Zero(t, time.Since(began), "not even for the first word of the tail")
		list, err := n.group.Status(t.Context())
		require.NoError(t, err)
		require.Zero(t, list[0].Lag)
	})
}

func TestAKeyNamesACommandForLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		n := start(t, memstore.NewDriver(), s)
		defer func() { n.stop() }()
		n.at(t, time.Hour, "replaced", command.Once("k"))
		n.at(t, 2*time.Hour, "kept", command.Once("k"))
		n.at(t, time.Hour, "withdrawn", command.Once("w"))
		n.at(t, time.Hour, "other", command.Once("o"))
		require.NoError(t, command.CancelScheduled(t.Context(), &n.router, "w"))
		require.NoError(t, command.CancelScheduled(t.Context(), &n.router, "never"))
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"other"}, s.of())
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Equal(t, []string{"other", "kept"}, s.of())
		require.NoError(t, command.CancelScheduled(t.Context(), &n.router, "k"), "too late is no error")

		at := time.Now().Add(time.Hour)
		for range 2 { // a client that repeats itself, also after the time
			_, err := command.DispatchAt(t.Context(), &n.router, at, Remind{"ann", "twice"}, command.Once("k"))
			require.NoError(t, err)
			time.Sleep(2 * time.Hour)
			synctest.Wait()
		}
		require.Equal(t, []string{"other", "kept", "twice", "twice"}, s.of())
		require.Equal(t, s.all()[2].Key, s.all()[3].Key, "so that it takes effect once")
		require.NotEqual(t, s.all()[1].Key, s.all()[3].Key, "another time is another command")
	})
}

func TestCommandsForLaterThatCannotBeKeptAreRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := start(t, memstore.NewDriver(), &sink{})
		defer func() { n.stop() }()
		for name, opt := range map[string]command.Option{"at": command.At(eventstore.Exactly(3)), "wait": command.Wait(), "once": command.Once("")} {
			_, err := command.DispatchAfter(t.Context(), &n.router, time.Hour, Remind{"ann", ""}, opt)
			require.Error(t, err, name)
		}
		_, err := command.DispatchAfter(t.Context(), &n.router, time.Hour, unnamed{})
		require.ErrorIs(t, err, schedule.ErrUnnamed)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
		require.ErrorContains(t, err, "schedule_test.unnamed")
		require.Empty(t, events(t, n.store))
		for _, a := range []schedule.Alarm{{}, {Key: "k", Stream: "s", Type: "t"}, {Key: "k", Stream: "$s"}, {Stream: "$s", Type: "t"}} {
			require.ErrorIs(t, schedule.Set(t.Context(), n.store, a), eventstore.ErrInvalid)
		}
	})
}

func TestWhatIsWrongWithTimersIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	s := memstore.Open(nil)
	defer s.Close()
	bare := eventstore.New(struct{ driver.Store }{memstore.NewDriver()}, nil)
	defer bare.Close()
	add := func(s *eventstore.Store, timers *schedule.Timers) error {
		return (&projection.Group{Store: s}).Add(timers)
	}
	require.ErrorContains(t, add(s, &schedule.Timers{Commands: map[string]command.Command{"r": Remind{}}}), "no Handler")
	require.ErrorContains(t, add(s, &schedule.Timers{Commands: map[string]command.Command{"r": nil}, Handler: &sink{}}), "nil")
	require.ErrorContains(t, add(s, &schedule.Timers{Store: bare}), "another Store")
	require.ErrorIs(t, add(bare, &schedule.Timers{}), eventstore.ErrUnsupported)
	require.NoError(t, add(s, &schedule.Timers{}))
	_, err := (&schedule.Timers{}).HandleCommand(t.Context(), &command.Envelope{Command: command.Later{Command: Remind{}}})
	require.Error(t, err)
}

func TestWhatBecomesOfACommandThatFails(t *testing.T) {
	t.Parallel()
	refused, broken := errors.New("no"), errors.New("broken")
	many := func(err error, n int) (list []error) {
		for range n {
			list = append(list, err)
		}
		return list
	}
	tests := []struct {
		name    string
		refused bool
		errs    []error
		calls   int
	}{
		{"a refusal is final", true, many(refused, 9), 1},
		{"what fails is tried again", false, many(broken, 25), 26},
		{"what nothing handles is given up", false, many(command.ErrUnrouted, 30), 20},
		{"a panic is given up", false, many(&command.PanicError{Value: "oh"}, 30), 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &sink{}
				n := start(t, memstore.NewDriver(), s)
				defer func() { n.stop() }()
				s.fail(tt.refused, tt.errs...)
				n.at(t, time.Minute, "a")
				n.at(t, time.Minute+time.Second, "b")
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				require.Contains(t, s.of(), "b", "one that fails holds up no other")
				time.Sleep(time.Hour)
				synctest.Wait()
				n.stop()
				n.run()
				time.Sleep(time.Hour)
				synctest.Wait()
				calls := 0
				for _, e := range s.all() {
					require.Equal(t, s.all()[0].Key == e.Key, e.Command == s.all()[0].Command)
					if e.Command == s.all()[0].Command {
						calls++
					}
				}
				require.Equal(t, tt.calls, calls)
			})
		})
	}
}

func TestTimersSurviveRestartsAndNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := shared{memstore.NewDriver().(engine)}
		s := &sink{}
		a, b := start(t, d, s), start(t, d, s)
		for i := range 20 {
			(map[bool]*node{true: a, false: b}[i%2 == 0]).at(t, time.Duration(i)*time.Minute, fmt.Sprint(i))
		}
		time.Sleep(5*time.Minute + time.Second)
		a.stop()
		time.Sleep(5 * time.Minute)
		b.stop()
		require.Len(t, s.of(), 11)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Len(t, s.of(), 11, "nobody is there")
		a.run()
		began := time.Now()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Len(t, s.of(), 16)
		require.LessOrEqual(t, s.when()[15].Sub(began), 2*time.Second, "who ends in peace leaves the lease")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, s.of(), 20)
		a.stop()
	})
}

func TestACommandThatWasBeingDispatchedIsDispatchedByWhoTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := shared{memstore.NewDriver().(engine)}
		dead := &sink{block: make(chan struct{})}
		a := start(t, &deaf{shared: d, cut: make(chan struct{})}, dead)
		a.at(t, time.Minute, "x", command.Once("k"))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"x"}, dead.of())
		require.NoError(t, command.CancelScheduled(t.Context(), &a.router, "k"), "it is too late for that")

		s := &sink{}
		b := start(t, d, s)
		close(a.driver(t).cut) // a is gone, in the middle of it
		began := time.Now()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"x"}, s.of())
		require.LessOrEqual(t, s.when()[0].Sub(began), 6*time.Second)
		require.Equal(t, dead.all()[0].Key, s.all()[0].Key)
		close(dead.block)
		a.stop()
		b.stop()
	})
}

// A deaf driver reaches nothing after it was cut.
type deaf struct {
	shared
	cut chan struct{}
}

var errDeaf = errors.New("cut")

func (d *deaf) gone() bool {
	select {
	case <-d.cut:
		return true
	default:
		return false
	}
}

func (d *deaf) As(target any) bool {
	if p, ok := target.(**deaf); ok {
		*p = d
		return true
	}
	return false
}

func (n *node) driver(t *testing.T) (d *deaf) {
	require.True(t, n.store.As(&d))
	return d
}

func (d *deaf) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	if d.gone() {
		res := make([]driver.Result, len(as))
		for i := range res {
			res[i].Err = errDeaf
		}
		return res
	}
	return d.shared.AppendBatch(ctx, as)
}

func (d *deaf) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (uint64, bool, error) {
	if d.gone() {
		return 0, false, errDeaf
	}
	return d.shared.Acquire(ctx, name, owner, ttl)
}

func (d *deaf) Release(ctx context.Context, name, owner string, fence uint64) error {
	if d.gone() {
		return errDeaf
	}
	return d.shared.Release(ctx, name, owner, fence)
}

func TestTheStreamStaysShortAndNothingIsLost(t *testing.T) {
	t.Parallel()
	for _, cuts := range []bool{true, false} {
		t.Run(map[bool]string{true: "cut", false: "marked"}[cuts], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d := memstore.NewDriver()
				var way driver.Store = shared{d.(engine)}
				if !cuts {
					way = plain{d, d.(driver.Checkpointer), d.(driver.Leaser)}
				}
				s := &sink{}
				n := start(t, way, s)
				for i := range 50 { // long in the future
					n.at(t, 30*time.Minute+time.Duration(i)*time.Second, fmt.Sprintf("late%d", i), command.Once(fmt.Sprintf("late%d", i)))
				}
				want := 50
				for i := range 4000 {
					n.at(t, time.Duration(i%7)*time.Second, "soon", command.Once(fmt.Sprint("soon", i)))
					if i%3 == 0 {
						require.NoError(t, command.CancelScheduled(t.Context(), &n.router, fmt.Sprint("soon", i)))
					}
					if i%80 == 0 {
						time.Sleep(time.Second)
						synctest.Wait()
						require.NoError(t, command.CancelScheduled(t.Context(), &n.router, fmt.Sprintf("late%d", i/80)))
						want--
					}
					if i%1000 == 999 { // others begin in between
						n.stop()
						n.run()
					}
				}
				require.Zero(t, want)
				for i := range 5 {
					n.at(t, 30*time.Minute, "late", command.Once(fmt.Sprint("really late", i)))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if cuts {
					require.Less(t, len(events(t, n.store)), 6000)
				} else {
					c, ok, err := d.(driver.Checkpointer).LoadCheckpoint(t.Context(), "$timer")
					require.NoError(t, err)
					require.True(t, ok)
					require.Greater(t, c.Position, uint64(4000))
				}
				n.stop()
				n.run()
				time.Sleep(time.Hour)
				synctest.Wait()
				count := map[string]int{}
				for _, of := range s.of() {
					count[of[:4]]++
				}
				require.Equal(t, 5, count["late"], "what was carried along fires, and what was taken back does not")
				require.GreaterOrEqual(t, count["soon"], 4000-1334)
				n.stop()
			})
		})
	}
}

func TestAlarmsAppendTheirEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := start(t, memstore.NewDriver(), &sink{})
		defer func() { n.stop() }()
		cause := &eventstore.Recorded{Event: eventstore.Event{ID: eventstore.NewID(), Correlation: eventstore.NewID()}}
		ctx := eventstore.NewContext(t.Context(), cause)
		for _, key := range []string{"a", "b", "c"} {
			require.NoError(t, schedule.Set(ctx, n.store, schedule.Alarm{Key: key, At: time.Now().Add(time.Minute), Stream: "$bell-1", Type: "rings", Data: []byte(`"` + key + `"`)}))
		}
		require.NoError(t, schedule.Set(ctx, n.store, schedule.Alarm{Key: "c", At: time.Now().Add(time.Hour), Stream: "$bell-1", Type: "rings", Data: []byte(`"later"`)}))
		require.NoError(t, schedule.Cancel(ctx, n.store, "b"))
		// One whose stream is gone holds up no other.
		_, err := n.store.Append(system.Context(ctx), "$gone-1", eventstore.Any, eventstore.Event{Type: "x", Raw: []byte("{}"), ContentType: "application/json"})
		require.NoError(t, err)
		require.NoError(t, n.store.Purge(system.Context(ctx), "$gone-1"))
		require.NoError(t, schedule.Set(ctx, n.store, schedule.Alarm{Key: "g", At: time.Now(), Stream: "$gone-1", Type: "rings", Data: []byte(`{}`)}))
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		var got []string
		for r, err := range n.store.ReadStream(t.Context(), "$bell-1", 0) {
			require.NoError(t, err)
			require.Equal(t, "rings", r.Type)
			require.Equal(t, cause.Correlation, r.Correlation)
			got = append(got, string(r.Raw))
		}
		require.Equal(t, []string{`"a"`, `"later"`}, got)
		list, err := n.group.Status(t.Context())
		require.NoError(t, err)
		require.Zero(t, list[0].Lag)
		require.NoError(t, list[0].LastError)
	})
}

// Any node takes back, and replaces, what any other has set, also one that fires.
func TestATimerIsTakenBackAndReplacedByAnyNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := shared{memstore.NewDriver().(engine)}
		s := &sink{}
		a, b := start(t, d, s), start(t, d, s)
		for _, n := range []*node{a, b} {
			for _, of := range []string{"1", "2", "3"} {
				n.at(t, time.Minute, of, command.Once(of))
			}
		}
		require.NoError(t, command.CancelScheduled(t.Context(), &b.router, "1"))
		require.NoError(t, command.CancelScheduled(t.Context(), &a.router, "2"))
		b.at(t, 2*time.Minute, "3 later", command.Once("3"))
		require.NoError(t, command.CancelScheduled(t.Context(), &a.router, "never set"))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, s.of())
		a.stop()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		require.Equal(t, []string{"3 later"}, s.of())
		b.stop()
	})
}
