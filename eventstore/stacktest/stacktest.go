package stacktest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/eventstoretest"
)

// Options configures [Run]. Only Open must be set.
type Options struct {
	// Open opens the log of this test, the same each time, as another process
	// would. What it returns is closed by the test. It is called while Fault is at
	// work, from several goroutines, and must try until it succeeds.
	Open func(t testing.TB) driver.Store
	// Fault is called once, on the test's goroutine, while the processes work, who
	// go on until it returns: it is where the engine itself may fail. Within a minute
	// of its return everything must be well again.
	Fault func(ctx context.Context)

	Processes int           // default 3
	Duration  time.Duration // of the work, at least; default 2 s
	Streams   int           // that each process writes to; default 3
	Sound     bool          // nothing fails but what Fault does
	Seed      uint64        // of what happens; 0 draws one

	patience time.Duration // how long everything may take to come to rest; default a minute
}

// Run lets processes write, follow, consume and project, and checks what each of
// them has seen.
func Run(t testing.TB, opt Options) {
	t.Helper()
	require.Empty(t, faults(t, opt))
}

// faults runs a stack and returns what must not be.
func faults(t testing.TB, opt Options) []string {
	set := func(v *int, def int) {
		if *v <= 0 {
			*v = def
		}
	}
	set(&opt.Processes, 3)
	set(&opt.Streams, 3)
	if opt.Duration <= 0 {
		opt.Duration = 2 * time.Second
	}
	if opt.Seed == 0 {
		opt.Seed = rand.Uint64()
	}
	if opt.patience <= 0 {
		opt.patience = time.Minute
	}
	s := &stack{t: t, opt: opt, written: map[eventstore.StreamName]*written{}, fates: map[eventstore.Position]*fate{}}
	for i := range opt.Processes {
		s.processes = append(s.processes, newProcess(s, i))
	}
	s.work()
	s.rest()
	s.check()
	return s.faults
}

// A Counted is the event of these tests: the Nth of its stream.
type Counted struct {
	Stream string
	N      int
}

// A stack is one run.
type stack struct {
	t         testing.TB
	opt       Options
	processes []*process

	mu      sync.Mutex
	faults  []string // what must not be
	written map[eventstore.StreamName]*written
	fates   map[eventstore.Position]*fate
}

// A written is a stream that one process writes to, and how far.
type written struct {
	n  int           // events that were acknowledged
	id eventstore.ID // of the event under way, which is appended until its outcome is known
}

// A fate is what became of an event at the consumer.
type fate struct {
	stream eventstore.StreamName
	n      int
	tried  bool // somebody tried to acknowledge it
	acked  bool // and was told that it is
}

// fault notes what must not be.
func (s *stack) fault(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// work lets the processes work for as long as it takes.
func (s *stack) work() {
	ctx, stop := context.WithCancel(s.t.Context())
	var writers, all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for _, p := range s.processes {
		for i := range s.opt.Streams {
			stream := eventstore.Stream("stack", fmt.Sprintf("%d/%d", p.id, i))
			w := &written{}
			s.written[stream] = w
			writers.Go(func() { p.write(ctx, stream, w) })
		}
		if !s.opt.Sound {
			all.Go(func() { p.trouble(ctx) })
		}
	}
	start := time.Now()
	if s.opt.Fault != nil {
		s.opt.Fault(ctx)
	}
	pause(ctx, s.opt.Duration-time.Since(start))
	for _, p := range s.processes {
		p.stopped.Store(true) // writers finish what they have begun
	}
	over := make(chan struct{})
	go func() { writers.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(s.opt.patience):
		stop()
		<-over
		s.fault("an append was never acknowledged")
	}
}

// rest lets everything come to rest.
func (s *stack) rest() {
	ctx, cancel := context.WithTimeout(s.t.Context(), s.opt.patience)
	defer cancel()
	for _, p := range s.processes {
		p.heal()
	}
	var last eventstore.Position
	for _, r := range s.log(ctx) {
		last = max(last, r.Position)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for missing := "?"; missing != ""; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.fault("it never came to rest: %s", missing)
			missing = ""
			continue
		}
		missing = s.missing(ctx, last)
	}
	for _, p := range s.processes {
		p.close()
	}
}

// missing says what has not seen everything up to a position, or nothing.
func (s *stack) missing(ctx context.Context, last eventstore.Position) string {
	for _, p := range s.processes {
		p.mu.Lock()
		for name, list := range p.seen {
			if len(list) == 0 || list[len(list)-1] < last {
				p.mu.Unlock()
				return fmt.Sprintf("process %d, %s", p.id, name)
			}
		}
		p.mu.Unlock()
		if at := p.projected(); at < last {
			return fmt.Sprintf("process %d, projection at %d of %d", p.id, at, last)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, f := range s.fates {
		if !f.tried {
			return fmt.Sprintf("consumer, at %d", at)
		}
	}
	if n := s.total(); len(s.fates) < n {
		return fmt.Sprintf("consumer: %d of %d events", len(s.fates), n)
	}
	infos, err := s.processes[0].current().store.Consumers(ctx)
	if err != nil || len(infos) != 1 || infos[0].Position < last {
		return fmt.Sprintf("consumer: %+v (%v), of %d", infos, err, last)
	}
	return ""
}

// total is how many events were acknowledged.
func (s *stack) total() (n int) {
	for _, w := range s.written {
		n += w.n
	}
	return n
}

// log reads everything that was appended, by a handle of its own.
func (s *stack) log(ctx context.Context) []*eventstore.Recorded {
	store := newStore(s.opt.Open(s.t))
	defer store.Close()
	for {
		var list []*eventstore.Recorded
		var failed error
		for r, err := range store.ReadAll(ctx, all, 0) {
			if err != nil {
				failed = err
				break
			}
			list = append(list, r)
		}
		// An engine that has just failed may need a moment, and may hold back what
		// is acknowledged.
		if failed == nil && len(list) >= s.total() {
			return list
		}
		if ctx.Err() != nil {
			s.fault("the log has %d of %d acknowledged events (%v)", len(list), s.total(), failed)
			return list
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// all selects the events of these tests.
var all = eventstore.Filter{Categories: []string{"stack"}}

// check compares what everybody has seen with the log.
func (s *stack) check() {
	ctx, cancel := context.WithTimeout(context.Background(), s.opt.patience)
	defer cancel()
	log := s.log(ctx)
	counts := map[eventstore.StreamName]int{}
	var positions []eventstore.Position
	for _, r := range log {
		e, ok := r.Data.(Counted)
		counts[r.Stream]++
		if !ok || e.Stream != string(r.Stream) || e.N != counts[r.Stream] || int(r.Version) != e.N {
			s.fault("the log has %+v at version %d of %s, as its event %d", r.Data, r.Version, r.Stream, counts[r.Stream])
		}
		if n := len(positions); n > 0 && r.Position <= positions[n-1] {
			s.fault("position %d comes after %d", r.Position, positions[n-1])
		}
		positions = append(positions, r.Position)
		if s.fates[r.Position] == nil {
			s.fault("%d was never delivered to the consumer", r.Position)
		}
	}
	for stream, w := range s.written {
		if counts[stream] != w.n {
			s.fault("%s has %d events, of %d that were acknowledged", stream, counts[stream], w.n)
		}
	}
	restarts := 0
	for _, p := range s.processes {
		restarts += p.restarts
		for name, have := range p.seen {
			if !slices.Equal(positions, have) {
				s.fault("process %d, %s: has seen other events than the log holds: %s", p.id, name, differ(positions, have))
			}
		}
		p.model.View(func(m *model, _ eventstore.Position) {
			for stream, n := range counts {
				if m.last[stream] != n {
					s.fault("process %d: the model has %d of %d events of %s", p.id, m.last[stream], n, stream)
				}
			}
			for _, f := range m.faults {
				s.fault("process %d: the model: %s", p.id, f)
			}
		})
	}
	s.t.Logf("seed %d: %d events of %d processes, %d restarts", s.opt.Seed, len(log), len(s.processes), restarts)
	if len(log) == 0 {
		s.fault("nothing was appended")
	}
}

// differ says where two lists differ first.
func differ(want, have []eventstore.Position) string {
	for i := range want {
		if i >= len(have) {
			return fmt.Sprintf("%d is missing, and %d more", want[i], len(want)-i-1)
		}
		if have[i] != want[i] {
			return fmt.Sprintf("%d instead of %d, the event %d of %d", have[i], want[i], i+1, len(want))
		}
	}
	return fmt.Sprintf("%d more", len(have)-len(want))
}

// newStore returns a portable store with the event of these tests.
func newStore(d driver.Store) *eventstore.Store {
	s := eventstore.New(d, &eventstore.Options{Logger: quiet})
	if err := s.Types.Register("stacktest.counted", Counted{}); err != nil {
		panic(err) // the type is this package's own
	}
	return s
}

// quiet keeps the records of faults that are meant to be out of the test's output.
var quiet = slog.New(slog.DiscardHandler)

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

var errCut = errors.New("stacktest: the line is cut")

// errLost is the error of an append whose answer does not come.
var errLost = fmt.Errorf("%w: %w", driver.ErrOutcomeUnknown, errCut)

// strike lets one thing go wrong.
func strike(faults *eventstoretest.Faults, dice *rand.Rand) {
	n := 1 + dice.IntN(4)
	switch dice.IntN(8) {
	case 0:
		faults.After(eventstoretest.OpAppend, n, errLost)
		faults.Before(eventstoretest.OpReadStream, n, errCut)
		faults.Before(eventstoretest.OpStream, n, errCut)
	case 1:
		faults.Before(eventstoretest.OpAppend, n, errCut)
	case 2:
		faults.Before(eventstoretest.OpReadAll, n, errCut)
	case 3:
		faults.After(eventstoretest.OpSaveCheckpoint, n, errCut)
	case 4:
		faults.Before(eventstoretest.OpSaveCheckpoint, n, errCut)
	case 5:
		faults.After(eventstoretest.OpAcquire, n, errCut)
		faults.Before(eventstoretest.OpLoadCheckpoint, n, errCut)
	case 6:
		faults.Deaf(true)
	default:
		faults.Delay(eventstoretest.OpReadAll, time.Duration(1+dice.IntN(20))*time.Millisecond)
	}
}
