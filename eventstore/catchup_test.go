package eventstore_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
)

// gated is a driver whose reads of the log wait, each for its number on the gate, while it is shut.
type gated struct {
	driver.Store
	shut  atomic.Bool
	gate  chan error // what becomes of a read
	deaf  bool       // reads do not heed their context
	reads atomic.Int32
	wait  atomic.Int32
}

// short is what is told to the gate to let a read have so many events at most.
type short int

func (short) Error() string { return "short" }

func newGated(d driver.Store) *gated { return &gated{Store: d, gate: make(chan error)} }

// Purge and Limits let a store remove streams, and read what it has appended.
func (d *gated) Limits() driver.Limits { return driver.Limits{} }
func (d *gated) Truncate(ctx context.Context, s string, v uint64) error {
	return d.Store.(driver.Deleter).Truncate(ctx, s, v)
}
func (d *gated) Delete(ctx context.Context, s string, v int64) error {
	return d.Store.(driver.Deleter).Delete(ctx, s, v)
}
func (d *gated) Purge(ctx context.Context, s string) error {
	return d.Store.(driver.Deleter).Purge(ctx, s)
}

func (d *gated) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, n int) ([]driver.Recorded, uint64, error) {
	if f.System && len(f.Categories)+len(f.Streams) == 0 {
		return d.Store.ReadAll(ctx, f, from, dir, n) // the tail
	}
	d.reads.Add(1)
	if d.shut.Load() {
		d.wait.Add(1)
		defer d.wait.Add(-1)
		done := ctx.Done()
		if d.deaf {
			done = nil
		}
		select {
		case err := <-d.gate:
			if s, ok := err.(short); ok {
				n = int(s)
			} else if err != nil {
				return nil, from, err
			}
		case <-done:
			return nil, from, ctx.Err()
		}
	}
	return d.Store.ReadAll(ctx, f, from, dir, n)
}

// open lets all reads through.
func (d *gated) open() {
	d.shut.Store(false)
	for range d.wait.Load() {
		d.gate <- nil
	}
}

var ofA = eventstore.Filter{Categories: []string{"a"}}

// write appends n events of so many bytes to a-1, in pages of 16 if the store reads so.
func write(t testing.TB, s *eventstore.Store, n, bytes int) {
	for range n {
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, eventstore.Event{Type: "deposited", Raw: append([]byte(`{"Amount":1}`), make([]byte, bytes)...), ContentType: "text/plain"})
		require.NoError(t, err)
	}
}

// A tape is one who follows, and what came.
type tape struct {
	mu   sync.Mutex
	got  []*eventstore.Recorded
	err  error
	done chan struct{}
	stop context.CancelFunc
}

// follow follows after a position. Each batch is taken after a token is, if there are any.
func follow(t testing.TB, s *eventstore.Store, after eventstore.Position, f eventstore.Filter, tokens <-chan bool) *tape {
	tp := &tape{done: make(chan struct{})}
	var ctx context.Context
	ctx, tp.stop = context.WithCancel(t.Context())
	go func() {
		defer close(tp.done)
		for b, err := range s.Follow(ctx, f, after) {
			tp.mu.Lock()
			tp.got = append(tp.got, b.Events...)
			tp.err = err
			tp.mu.Unlock()
			if tokens != nil {
				<-tokens
			}
		}
	}()
	return tp
}

func (tp *tape) events() []*eventstore.Recorded {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	return tp.got
}

// complete requires that all of a log of n came after a position, once and in order.
func (tp *tape) complete(t testing.TB, after, n int) {
	t.Helper()
	got := tp.events()
	require.Len(t, got, n-after)
	for i, r := range got {
		require.EqualValues(t, after+1+i, r.Position)
		require.NoError(t, r.Err)
		require.NotNil(t, r.Data)
	}
}

// text decodes what write appends, and counts.
type text struct{ n *atomic.Int32 }

func (text) ContentType() string           { return "text/plain" }
func (text) Marshal(any) ([]byte, error)   { return nil, errors.New("not needed") }
func (c text) Unmarshal([]byte, any) error { c.n.Add(1); return nil }

func gatedStore(t testing.TB) (s *eventstore.Store, d *gated, decoded *atomic.Int32) {
	d, decoded = newGated(memstore.NewDriver()), new(atomic.Int32)
	s = open(t, d, &eventstore.Options{PageSize: 16, Logger: quiet, Codecs: []eventstore.Codec{eventstore.JSON, text{decoded}}})
	return s, d, decoded
}

func TestWhatSeveralReadThatAreBehindIsReadAndDecodedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, d, decoded := gatedStore(t)
		const n = 16 * 20
		write(t, s, n, 0)
		d.shut.Store(true)
		var all []*tape
		for i := range 8 { // not at the same place, but near
			all = append(all, follow(t, s, eventstore.Position(i), ofA, nil))
		}
		synctest.Wait()
		d.open()
		synctest.Wait()
		for i, tp := range all {
			tp.complete(t, i, n)
		}
		// Each may read two pages before it finds those of the others.
		require.LessOrEqual(t, int(decoded.Load()), n+8*2*16)
		require.LessOrEqual(t, int(d.reads.Load()), n/16+8*2)
		require.Same(t, all[0].events()[n-1], all[7].events()[n-8])
		stretches, bytes := s.Kept()
		require.Zero(t, stretches, "everybody is at the tail")
		require.Zero(t, bytes)
		s.Close()
	})
}

func TestWhoReadsSomethingElseSharesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, d, _ := gatedStore(t)
		write(t, s, 64, 0)
		d.shut.Store(true)
		ab := eventstore.Filter{Categories: []string{"a", "b"}}
		one, other := follow(t, s, 0, ofA, nil), follow(t, s, 0, ab, nil)
		raw := &tape{}
		ctx, cancel := context.WithCancel(system.Raw(t.Context()))
		defer cancel()
		for range 2 { // so that these share with each other
			go func() {
				for b := range s.Follow(ctx, ofA, 0) {
					raw.mu.Lock()
					raw.got = append(raw.got, b.Events...)
					raw.mu.Unlock()
				}
			}()
		}
		few, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Filter: ofA, From: eventstore.Origin(), Map: amount, Buffer: 3})
		require.NoError(t, err)
		synctest.Wait()
		d.open()
		synctest.Wait()
		one.complete(t, 0, 64)
		other.complete(t, 0, 64)
		for range 64 / 3 {
			require.LessOrEqual(t, len((<-few.C).Events), 3)
		}
		require.Len(t, raw.events(), 2*64)
		for _, r := range raw.events() {
			require.Nil(t, r.Data, "read as it is stored")
		}
		cancel()
		s.Close()
	})
}

func TestAReadThatEndsSoonerThanWasThoughtTakesNobodyBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, d, _ := gatedStore(t)
		write(t, s, 64, 0)
		d.shut.Store(true)
		var all []*tape
		for _, after := range []eventstore.Position{0, 0, 26} {
			all = append(all, follow(t, s, after, ofA, nil))
			synctest.Wait()
		}
		// The first one's second read seems to have what comes after 28, too.
		for _, answer := range []error{nil, nil, short(2), short(5)} {
			d.gate <- answer
			synctest.Wait()
		}
		require.Len(t, all[2].events(), 2)
		d.open()
		synctest.Wait()
		for i, after := range []int{0, 0, 26} {
			all[i].complete(t, after, 64)
		}
		s.Close()
	})
}

// One that takes nothing holds up nobody, nor memory beyond a bound; it goes on where it was.
func TestOneThatStopsIsLeftBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, size := range map[string]struct{ n, bytes int }{"small events": {16 * 40, 0}, "large events": {16 * 8, 200 << 10}} {
			s, d, _ := gatedStore(t)
			n := size.n
			write(t, s, n, size.bytes)
			d.shut.Store(true)
			tokens, slowly := make(chan bool), make(chan bool)
			stopped := follow(t, s, 0, ofA, tokens)
			var others []*tape
			for range 3 {
				others = append(others, follow(t, s, 0, ofA, slowly))
			}
			synctest.Wait()
			d.open()
			most := 0
			for range n { // token by token, more than the pages of all
				select {
				case slowly <- true:
				case <-time.After(time.Second):
				}
				synctest.Wait()
				stretches, bytes := s.Kept()
				require.LessOrEqual(t, stretches, eventstore.KeepStretches, name)
				require.LessOrEqual(t, bytes, eventstore.KeepBytes, name)
				most = max(most, stretches)
			}
			require.Greater(t, most, 1)
			for _, tp := range others {
				tp.complete(t, 0, n)
			}
			require.Less(t, len(stopped.events()), n)
			close(tokens)
			synctest.Wait()
			stopped.complete(t, 0, n)
			close(slowly)
			s.Close()
		}
	})
}

func TestAReadThatFailsFailsForWhoReadsOnly(t *testing.T) {
	t.Parallel()
	tests := map[string]func(d *gated, reader *tape){
		"the reader leaves":           func(_ *gated, reader *tape) { reader.stop() },
		"the store refuses":           func(d *gated, _ *tape) { d.gate <- errDisk },
		"the read does not come back": func(*gated, *tape) {},
	}
	for name, fail := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, d, _ := gatedStore(t)
				d.deaf = name == "the read does not come back"
				const n = 64
				write(t, s, n, 0)
				d.shut.Store(true)
				reader := follow(t, s, 0, ofA, nil)
				synctest.Wait()
				other := follow(t, s, 0, ofA, nil)
				synctest.Wait()
				d.gate <- nil // what the reader reads first, before the other one is told
				synctest.Wait()
				d.gate <- nil
				synctest.Wait()
				require.EqualValues(t, 3, d.reads.Load(), "it waits for what the reader reads next")
				began := time.Now()
				fail(d, reader)
				synctest.Wait()
				if d.deaf {
					time.Sleep(eventstore.ShareTime)
					synctest.Wait()
				}
				require.EqualValues(t, 4, d.reads.Load(), "its own")
				d.open()
				synctest.Wait()
				other.complete(t, 0, n)
				require.Equal(t, d.deaf, time.Since(began) > 0)
				time.Sleep(time.Second)
				if name != "the reader leaves" {
					reader.complete(t, 0, n)
				}
				s.Close()
			})
		})
	}
}

// What is kept of the log is not given to who begins later: what was purged or registered in between counts.
func TestWhoBeginsLaterReadsAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, d, _ := gatedStore(t)
		write(t, s, 64, 0)
		d.shut.Store(true)
		tokens := make(chan bool)
		for range 2 {
			follow(t, s, 0, ofA, tokens)
		}
		synctest.Wait()
		d.open()
		synctest.Wait()
		stretches, _ := s.Kept()
		require.Positive(t, stretches)
		require.NoError(t, s.Purge(t.Context(), "a-1"))
		later := follow(t, s, 0, ofA, nil)
		synctest.Wait()
		require.Empty(t, later.events())
		close(tokens)
		s.Close()
	})
}

// stuck is a sealer that does not open the event at a position the first time, but for the context that ends.
type stuck struct {
	at   eventstore.Position
	once atomic.Bool
}

func (*stuck) Seal(_ context.Context, _ *eventstore.Event, b []byte) ([]byte, error) { return b, nil }

func (s *stuck) Open(ctx context.Context, r *eventstore.Recorded, b []byte) ([]byte, error) {
	if r.Position == s.at && s.once.CompareAndSwap(false, true) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return b, nil
}

func TestWhoLeavesWhileItDecodesSpoilsNoEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newGated(memstore.NewDriver())
		s := open(t, d, &eventstore.Options{PageSize: 16, Logger: quiet, Seal: &stuck{at: 20}})
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(make([]int, 64)...)...)
		require.NoError(t, err)
		d.shut.Store(true)
		reader := follow(t, s, 0, ofA, nil)
		synctest.Wait()
		other := follow(t, s, 0, ofA, nil)
		synctest.Wait()
		d.gate <- nil
		synctest.Wait()
		d.open()
		synctest.Wait()
		require.Len(t, other.events(), 16)
		reader.stop()
		synctest.Wait()
		other.complete(t, 0, 64)
		s.Close()
	})
}
