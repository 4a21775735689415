package eventstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
)

func amount(r *eventstore.Recorded) int { return r.Data.(Deposited).Amount }

func position(r *eventstore.Recorded) eventstore.Position { return r.Position }

// receive returns the next n values of c.
func receive[T any](t testing.TB, c <-chan eventstore.Batch[T], n int) []T {
	t.Helper()
	var out []T
	timeout := time.After(20 * time.Second)
	for len(out) < n {
		select {
		case b, ok := <-c:
			require.True(t, ok, "ended after %d", len(out))
			out = append(out, b.Events...)
		case <-timeout:
			t.Fatalf("received %d of %d", len(out), n)
		}
	}
	return out
}

func TestSubscribersGetWhatTheirFilterSelectsFromNowOn(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx := t.Context()
	put := func(stream eventstore.StreamName, events ...eventstore.Event) {
		_, err := s.Append(ctx, stream, eventstore.Any, events...)
		require.NoError(t, err)
	}
	put("a-1", deposits(100)...)
	filters := map[string]eventstore.Filter{
		"all":      {},
		"stream":   {Streams: []eventstore.StreamName{"a-1", "b-2"}},
		"category": {Categories: []string{"b"}},
		"type":     {Types: []string{"deposited"}},
		"both":     {Categories: []string{"a"}, Types: []string{"noted"}},
		"none":     {Types: []string{"nothing"}},
	}
	subs := map[string]*eventstore.Subscription[eventstore.Position]{}
	for name, f := range filters {
		sub, err := eventstore.Subscribe(ctx, s, eventstore.Transient[eventstore.Position]{Filter: f, Map: position})
		require.NoError(t, err)
		subs[name] = sub
	}
	put("a-1", deposits(1)...)                            // 2
	put("b-1", deposits(2)...)                            // 3
	put("a-1", eventstore.Event{Data: Noted{nil}})        // 4
	put("b-2", deposits(3)...)                            // 5
	put("c-1", eventstore.Event{Data: Noted{[]string{}}}) // 6
	for name, want := range map[string][]eventstore.Position{
		"all": {2, 3, 4, 5, 6}, "stream": {2, 4, 5}, "category": {3, 5}, "type": {2, 3, 5}, "both": {4},
	} {
		require.Equal(t, want, receive(t, subs[name].C, len(want)), name)
	}
	select {
	case b := <-subs["none"].C:
		t.Fatalf("a delivery of nothing: %v", b)
	default:
	}
}

func TestOneDeliveryHoldsWhatArrivedSinceTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, memstore.NewDriver(), nil)
		sub, err := eventstore.SubscribeTo[Deposited](t.Context(), s, eventstore.Filter{}, eventstore.Start{})
		require.NoError(t, err)
		for i := range 5 {
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
			require.NoError(t, err)
			synctest.Wait()
		}
		b := <-sub.C
		require.Equal(t, []Deposited{{0}, {1}, {2}, {3}, {4}}, b.Events)
		require.EqualValues(t, 5, b.Position)
		require.NoError(t, s.Close())
	})
}

func TestSelectSeesWhatTheFilterSelectsAndMapWhatSelectDoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, memstore.NewDriver(), nil)
		var selected, mapped []eventstore.Version
		sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{
			Filter: eventstore.Filter{Categories: []string{"a"}},
			Select: func(r *eventstore.Recorded) bool { selected = append(selected, r.Version); return r.Version%2 == 0 },
			Map:    func(r *eventstore.Recorded) int { mapped = append(mapped, r.Version); return amount(r) },
		})
		require.NoError(t, err)
		_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		_, err = s.Append(t.Context(), "b-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, sub.C, 0, "no delivery when all are rejected")
		_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(2, 3, 4)...)
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []int{2, 4}, (<-sub.C).Events)
		require.Equal(t, []eventstore.Version{1, 2, 3, 4}, selected)
		require.Equal(t, []eventstore.Version{2, 4}, mapped)
		s.Close()
	})
}

func TestStarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, memstore.NewDriver(), nil)
		var third time.Time
		for i := 1; i <= 5; i++ {
			if i == 3 {
				third = time.Now()
			}
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		for _, c := range []struct {
			start eventstore.Start
			want  []int
		}{
			{eventstore.Origin(), []int{1, 2, 3, 4, 5}},
			{eventstore.After(3), []int{4, 5}},
			{eventstore.AtTime(third), []int{3, 4, 5}},
			{eventstore.AtTime(third.Add(time.Nanosecond)), []int{4, 5}},
		} {
			sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{From: c.start, Map: amount})
			require.NoError(t, err)
			require.Equal(t, c.want, receive(t, sub.C, len(c.want)))
			sub.Close()
		}
		s.Close()
	})
}

// Whatever a receiver does, it gets every event once and in order: with small
// buffers, from any position, while several writers are at it.
func TestNothingIsLostOrDoubledBetweenStoreAndTail(t *testing.T) {
	t.Parallel()
	drivers := map[string]func() driver.Store{
		"everything is this process's": func() driver.Store { return memstore.NewDriver() },
		"others may write":             func() driver.Store { return plainDriver{shared{memstore.NewDriver()}} },
		"positions have gaps":          func() driver.Store { return gappy{memstore.NewDriver()} },
		"only the last position":       func() driver.Store { return lastOnly{shared{memstore.NewDriver()}} },
	}
	for name, d := range drivers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, d(), nil)
			const writers, each = 4, 250
			last := eventstore.Position(writers * each)
			if name == "positions have gaps" {
				last *= 3
			}
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						_, err := s.Append(t.Context(), eventstore.Stream("a", fmt.Sprint(w)), eventstore.Any, deposits(i)...)
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			for r := range 12 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(1, uint64(r)))
					for range 1 + r%3 {
						from, err := s.Head(t.Context())
						require.NoError(t, err)
						if from == last {
							return
						}
						if from -= eventstore.Position(rng.Uint64N(uint64(from) + 1)); r < 4 {
							from = 0
						}
						sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[[2]int]{
							From: eventstore.After(from), Buffer: 1 + rng.IntN(20),
							Map: func(r *eventstore.Recorded) [2]int { return [2]int{int(r.Stream[2] - '0'), int(r.Version)} },
						})
						require.NoError(t, err)
						versions := map[int]int{}
						at := from
						for at < last {
							var b eventstore.Batch[[2]int]
							select {
							case b = <-sub.C:
							case <-time.After(20 * time.Second):
								t.Errorf("stuck at %d: %v", at, versions)
								return
							}
							require.NotEmpty(t, b.Events)
							require.Greater(t, b.Position, at)
							at = b.Position
							for _, e := range b.Events {
								if v := versions[e[0]]; v != 0 && v+1 != e[1] {
									t.Errorf("stream %d: version %d after %d", e[0], e[1], v)
								}
								versions[e[0]] = e[1]
							}
							if rng.IntN(50) == 0 && r > 3 {
								break
							}
							for range rng.IntN(20) {
								runtime.Gosched()
							}
						}
						if at == last && from == 0 {
							for w := range writers {
								require.Equal(t, each, versions[w])
							}
						}
						sub.Close()
					}
				})
			}
			wg.Wait()
		})
	}
}

// shared is a driver that does not claim to be the only writer.
type shared struct{ driver.Store }

func (shared) Limits() driver.Limits { return driver.Limits{} }

// gappy is a driver whose positions are three times those of the one below.
type gappy struct{ driver.Store }

func (g gappy) Limits() driver.Limits { return driver.Limits{Exclusive: true} }

func (g gappy) Append(ctx context.Context, a driver.Append) driver.Result {
	return g.AppendBatch(ctx, []driver.Append{a})[0]
}

func (g gappy) AppendBatch(ctx context.Context, as []driver.Append) []driver.Result {
	out := g.Store.(driver.Batcher).AppendBatch(ctx, as)
	for i := range out {
		out[i].Positions = slices.Clone(out[i].Positions)
		for j := range out[i].Positions {
			out[i].Positions[j] *= 3
		}
		out[i].Last *= 3
	}
	return out
}

func (g gappy) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, n int) ([]driver.Recorded, uint64, error) {
	events, scanned, err := g.Store.ReadAll(ctx, f, from/3, dir, n)
	out := slices.Clone(events)
	for i := range out {
		out[i].Position *= 3
	}
	return out, max(scanned*3, from), err
}

func (g gappy) Head(ctx context.Context) (uint64, error) {
	h, err := g.Store.Head(ctx)
	return 3 * h, err
}

// lastOnly is a driver that tells only the last position of an append.
type lastOnly struct{ driver.Store }

func (d lastOnly) Append(ctx context.Context, a driver.Append) driver.Result {
	res := d.Store.Append(ctx, a)
	if n := len(res.Positions); n > 0 {
		res.Last, res.Positions = res.Positions[n-1], nil
	}
	return res
}

func TestWhatOthersWriteInBetweenIsNotPassedOver(t *testing.T) {
	t.Parallel()
	d := &deaf{Store: memstore.NewDriver()}
	mine, theirs := open(t, plainDriver{d}, nil), open(t, plainDriver{d.Store}, nil)
	sub, err := eventstore.Subscribe(t.Context(), mine, eventstore.Transient[int]{Map: amount})
	require.NoError(t, err)
	for i := 0; i < 100; i += 2 {
		_, err := theirs.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
		require.NoError(t, err)
		_, err = mine.Append(t.Context(), "a-1", eventstore.Any, deposits(i+1)...)
		require.NoError(t, err)
		require.Equal(t, []int{i, i + 1}, receive(t, sub.C, 2))
	}
}

func TestASlowReceiverIsFedFromTheStoreInBoundedBatches(t *testing.T) {
	t.Parallel()
	var lagging atomic.Int32
	s := open(t, memstore.NewDriver(), &eventstore.Options{Trace: &eventstore.Trace{
		Lagging: func(f eventstore.Filter, behind eventstore.Position) { lagging.Add(1) },
	}})
	sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount, Buffer: 10})
	require.NoError(t, err)
	const n = 5000
	for i := range n {
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
		require.NoError(t, err)
	}
	eventually(t, func() bool { return lagging.Load() == 1 })
	next := 0
	for next < n {
		b := <-sub.C
		require.LessOrEqual(t, len(b.Events), 10)
		for _, v := range b.Events {
			require.Equal(t, next, v)
			next++
		}
	}
	eventually(t, func() bool { at, behind := s.AtTail(); return at == 1 && behind == 0 })
	_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(n)...)
	require.NoError(t, err)
	require.Equal(t, []int{n}, (<-sub.C).Events)
}

func TestASubscriberThatIsFarBehindLosesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), &eventstore.Options{PageSize: 700})
	sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount, Buffer: 10_000})
	require.NoError(t, err)
	const n = 40_000
	for i := 0; i < n; i += 800 {
		var as []int
		for j := range 800 {
			as = append(as, i+j)
		}
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(as...)...)
		require.NoError(t, err)
	}
	for next := 0; next < n; {
		for _, v := range receive(t, sub.C, 1) {
			require.Equal(t, next, v)
			next++
		}
	}
}

func TestLatestKeepsTheNewest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, memstore.NewDriver(), nil)
		sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount, Buffer: 3, OnLag: eventstore.Latest})
		require.NoError(t, err)
		for i := range 10 {
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
			require.NoError(t, err)
			synctest.Wait()
		}
		b := <-sub.C
		require.Equal(t, []int{7, 8, 9}, b.Events)
		require.EqualValues(t, 10, b.Position)
		_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(1, 2, 3, 4, 5)...)
		require.NoError(t, err)
		require.Equal(t, []int{3, 4, 5}, (<-sub.C).Events)
		s.Close()
	})
}

func TestFailEndsASubscriptionThatLags(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, memstore.NewDriver(), nil)
		sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount, Buffer: 3, OnLag: eventstore.Fail})
		require.NoError(t, err)
		for i := range 5 {
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
			require.NoError(t, err)
			synctest.Wait()
		}
		require.Equal(t, []int{0, 1, 2}, (<-sub.C).Events, "what it had")
		_, open := <-sub.C
		require.False(t, open)
		require.ErrorIs(t, sub.Err(), eventstore.ErrLagged)
		s.Close()
	})
}

func TestHowSubscriptionsEnd(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1, 2, 3)...)
	require.NoError(t, err)
	for name, from := range map[string]eventstore.Start{"at the tail": {}, "behind": eventstore.Origin()} {
		drain := func(sub *eventstore.Subscription[int]) {
			for range sub.C {
			}
		}
		transient := eventstore.Transient[int]{From: from, Map: amount, Buffer: 1}
		sub, err := eventstore.Subscribe(t.Context(), s, transient)
		require.NoError(t, err)
		sub.Close()
		sub.Close()
		drain(sub)
		require.NoError(t, sub.Err(), name)

		ctx, cancel := context.WithCancel(t.Context())
		sub, err = eventstore.Subscribe(ctx, s, transient)
		require.NoError(t, err)
		require.NoError(t, sub.Err())
		cancel()
		drain(sub)
		require.ErrorIs(t, sub.Err(), context.Canceled, name)

		_, err = eventstore.Subscribe(ctx, s, transient)
		require.ErrorIs(t, err, context.Canceled)

		for _, bad := range []eventstore.Transient[int]{
			{From: from, Map: func(*eventstore.Recorded) int { panic("boom") }},
			{From: from, Map: amount, Select: func(*eventstore.Recorded) bool { panic("boom") }},
		} {
			sub, err = eventstore.Subscribe(t.Context(), s, bad)
			require.NoError(t, err)
			_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(4)...)
			require.NoError(t, err)
			drain(sub)
			require.ErrorContains(t, sub.Err(), "boom", name)
		}
	}
	for _, bad := range []eventstore.Transient[int]{{}, {Map: amount, Buffer: -1}, {Map: amount, OnLag: 9}} {
		_, err = eventstore.Subscribe(t.Context(), s, bad)
		require.ErrorIs(t, err, eventstore.ErrInvalid)
	}
	eventually(t, func() bool { return !s.TailRuns() })
	sub, err := eventstore.SubscribeTo[Deposited](t.Context(), s, eventstore.Filter{}, eventstore.Start{})
	require.NoError(t, err, "and a new one starts the tail again")
	_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(5)...)
	require.NoError(t, err)
	require.Equal(t, []Deposited{{5}}, (<-sub.C).Events)
}

func TestProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, memstore.NewDriver(), nil)
		subscribe := func(progress bool) *eventstore.Subscription[int] {
			sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{
				Filter: eventstore.Filter{Categories: []string{"b"}}, Map: amount, Progress: progress})
			require.NoError(t, err)
			return sub
		}
		with, without := subscribe(true), subscribe(false)
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		require.Len(t, with.C, 0)
		time.Sleep(400 * time.Millisecond)
		synctest.Wait()
		require.Len(t, with.C, 1)
		b := <-with.C
		require.Empty(t, b.Events)
		require.EqualValues(t, 1, b.Position)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Len(t, with.C, 0, "nothing moved")
		_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		synctest.Wait()
		require.EqualValues(t, 2, (<-with.C).Position, "the second had passed")
		for range 11 {
			_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(make([]int, 1000)...)...)
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		require.Len(t, with.C, 1, "more than 10,000 positions")
		require.Greater(t, (<-with.C).Position, eventstore.Position(10_000))
		require.Len(t, without.C, 0)
		rejecting, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{
			Select: func(*eventstore.Recorded) bool { return false }, Map: amount, Progress: true})
		require.NoError(t, err)
		_, err = s.Append(t.Context(), "b-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		b = <-rejecting.C
		require.Empty(t, b.Events, "what the selector rejects is passed, too")
		require.EqualValues(t, 11_003, b.Position)
		s.Close()
	})
}

func TestFollow(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(0, 1, 2)...)
	require.NoError(t, err)
	next := 1
	for b, err := range s.Follow(ctx, eventstore.Filter{Categories: []string{"a"}}, 1) {
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
			break
		}
		for _, r := range b.Events {
			require.Equal(t, next, amount(r))
			next++
		}
		switch {
		case next < 20:
			_, err := s.Append(ctx, "a-1", eventstore.Any, deposits(next)...)
			require.NoError(t, err)
		case next == 20 && len(b.Events) > 0:
			_, err := s.Append(ctx, "b-1", eventstore.Any, deposits(0)...)
			require.NoError(t, err)
		case len(b.Events) == 0:
			require.EqualValues(t, 21, b.Position, "a position without events is told at once")
			cancel()
		}
	}
	require.Error(t, ctx.Err())
	closed := open(t, memstore.NewDriver(), nil)
	_, err = closed.Append(t.Context(), "a-1", eventstore.Any, deposits(0)...)
	require.NoError(t, err)
	for _, err := range closed.Follow(t.Context(), eventstore.Filter{}, 0) {
		if err != nil {
			require.ErrorIs(t, err, eventstore.ErrClosed)
			break
		}
		closed.Close()
	}
}

func TestFollowDeliversWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	s := open(t, memstore.NewDriver(), nil)
	_, err := s.Append(t.Context(), "a-1", eventstore.Any, old("deposited", `"?"`))
	require.NoError(t, err)
	for b, err := range s.Follow(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		if len(b.Events) > 0 {
			require.ErrorIs(t, b.Events[0].Err, eventstore.ErrCodec)
			break
		}
	}
}

// counting counts what is decoded.
type counting struct {
	eventstore.Codec
	n *atomic.Int32
}

func (c counting) Unmarshal(b []byte, v any) error { c.n.Add(1); return c.Codec.Unmarshal(b, v) }

func TestAnEventIsDecodedOnceForAllAndOnlyIfSomebodyWantsIt(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]driver.Store{"own appends": memstore.NewDriver(), "read": plainDriver{shared{memstore.NewDriver()}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var n atomic.Int32
			s := open(t, d, &eventstore.Options{Codecs: []eventstore.Codec{counting{eventstore.JSON, &n}}})
			var subs []*eventstore.Subscription[*eventstore.Recorded]
			for range 5 {
				sub, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[*eventstore.Recorded]{
					Filter: eventstore.Filter{Categories: []string{"a"}}, Map: func(r *eventstore.Recorded) *eventstore.Recorded { return r }})
				require.NoError(t, err)
				subs = append(subs, sub)
			}
			words := []string{"x"}
			_, err := s.Append(t.Context(), "b-1", eventstore.Any, eventstore.Event{Data: Noted{words}})
			require.NoError(t, err)
			_, err = s.Append(t.Context(), "a-1", eventstore.Any, eventstore.Event{Data: Noted{words}})
			require.NoError(t, err)
			words[0] = "changed by the caller later"
			var first *eventstore.Recorded
			for _, sub := range subs {
				r := receive(t, sub.C, 1)[0]
				require.Equal(t, Noted{[]string{"x"}}, r.Data)
				if first == nil {
					first = r
				}
				require.Same(t, first, r)
			}
			require.EqualValues(t, 1, n.Load())
			_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(3)...)
			require.NoError(t, err)
			require.Equal(t, Deposited{3}, receive(t, subs[0].C, 1)[0].Data)
			if name == "own appends" {
				require.EqualValues(t, 1, n.Load(), "a plain value is passed on as it is")
			}
		})
	}
}

func TestWhatOthersWriteReachesSubscribers(t *testing.T) {
	t.Parallel()
	d := shared{memstore.NewDriver()}
	mine, theirs := open(t, plainDriver{d}, nil), open(t, plainDriver{d}, nil)
	sub, err := eventstore.Subscribe(t.Context(), mine, eventstore.Transient[int]{Map: amount})
	require.NoError(t, err)
	for i := range 20 {
		s := mine
		if i%2 == 0 {
			s = theirs
		}
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(i)...)
		require.NoError(t, err)
		require.Equal(t, []int{i}, receive(t, sub.C, 1))
	}
}

// deaf is a driver whose Wait never wakes, or always does, and whose reads fail now and then.
type deaf struct {
	driver.Store
	spurious bool
	fail     atomic.Int32
	reads    atomic.Int32
}

func (d *deaf) Limits() driver.Limits { return driver.Limits{} }
func (d *deaf) Wait(ctx context.Context, _ uint64) error {
	if d.spurious {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}
func (d *deaf) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, n int) ([]driver.Recorded, uint64, error) {
	d.reads.Add(1)
	if d.fail.Add(-1) >= 0 {
		return nil, 0, errDisk
	}
	return d.Store.ReadAll(ctx, f, from, dir, n)
}

func TestALostNotificationCostsAPollIntervalNotAnEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{Store: memstore.NewDriver()}
		mine, theirs := open(t, plainDriver{d}, nil), open(t, plainDriver{d.Store}, nil)
		sub, err := eventstore.Subscribe(t.Context(), mine, eventstore.Transient[int]{Map: amount})
		require.NoError(t, err)
		time.Sleep(10 * time.Second) // idle for long: the poll interval is at its longest
		_, err = theirs.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		start := time.Now()
		require.Equal(t, []int{1}, (<-sub.C).Events)
		require.LessOrEqual(t, time.Since(start), 250*time.Millisecond)
		mine.Close()
	})
}

func TestSpuriousWakesDoNotSpin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{Store: memstore.NewDriver(), spurious: true}
		s := open(t, plainDriver{d}, nil)
		_, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount})
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		require.Less(t, d.reads.Load(), int32(150))
		s.Close()
	})
}

func TestReadsThatFailAreTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &deaf{Store: memstore.NewDriver()}
		s := open(t, plainDriver{d}, nil)
		_, err := s.Append(t.Context(), "a-1", eventstore.Any, deposits(1)...)
		require.NoError(t, err)
		d.fail.Store(20)
		behind, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount, From: eventstore.Origin()})
		require.NoError(t, err)
		tail, err := eventstore.Subscribe(t.Context(), s, eventstore.Transient[int]{Map: amount})
		require.NoError(t, err)
		_, err = s.Append(t.Context(), "a-1", eventstore.Any, deposits(2)...)
		require.NoError(t, err)
		require.Equal(t, []int{2}, receive(t, tail.C, 1))
		require.Equal(t, []int{1, 2}, receive(t, behind.C, 2))
		s.Close()
	})
}

func TestStreamsOfTheSystemAreFollowedByName(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]driver.Store{"own appends": memstore.NewDriver(), "read": lastOnly{shared{memstore.NewDriver()}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, d, nil)
			ctx := system.Context(t.Context())
			sub, err := eventstore.Subscribe(ctx, s, eventstore.Transient[int]{Filter: eventstore.Filter{Categories: []string{"$x"}}, Map: amount})
			require.NoError(t, err)
			all, err := eventstore.Subscribe(ctx, s, eventstore.Transient[int]{Map: amount})
			require.NoError(t, err)
			_, err = s.Append(ctx, "$x-1", eventstore.Any, deposits(1)...)
			require.NoError(t, err)
			_, err = s.Append(ctx, "a-1", eventstore.Any, deposits(2)...)
			require.NoError(t, err)
			require.Equal(t, []int{1}, receive(t, sub.C, 1))
			require.Equal(t, []int{2}, receive(t, all.C, 1))
		})
	}
}

// A history of appends, receives, closings and new subscriptions, against what
// each subscription must have received.
func TestSubscriptionsStateMachine(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var log []int // amounts, by position-1
		var cats []string
		s := eventstore.New(memstore.NewDriver(), &eventstore.Options{PageSize: rapid.IntRange(1, 7).Draw(rt, "page")})
		defer s.Close()
		require.NoError(rt, s.Types.Register("deposited", Deposited{}))
		type reader struct {
			sub  *eventstore.Subscription[int]
			cat  string
			next int // into log
		}
		var readers []*reader
		pick := func() *reader {
			if len(readers) == 0 {
				rt.Skip("no readers")
			}
			return rapid.SampledFrom(readers).Draw(rt, "reader")
		}
		expect := func(r *reader) []int {
			var want []int
			for i := r.next; i < len(log); i++ {
				if r.cat == "" || cats[i] == r.cat {
					want = append(want, log[i])
				}
			}
			return want
		}
		take := func(r *reader, b eventstore.Batch[int]) {
			want := expect(r)
			require.LessOrEqual(rt, len(b.Events), len(want))
			require.Equal(rt, want[:len(b.Events)], b.Events)
			if n := int(b.Position); n > r.next {
				r.next = n
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				cat := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "category")
				n := rapid.IntRange(1, 12).Draw(t, "n")
				var as []int
				for range n {
					as = append(as, len(log)+len(as))
				}
				_, err := s.Append(context.Background(), eventstore.Stream(cat, "1"), eventstore.Any, deposits(as...)...)
				require.NoError(t, err)
				for _, a := range as {
					log, cats = append(log, a), append(cats, cat)
				}
			},
			"subscribe": func(t *rapid.T) {
				r := &reader{cat: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "of")}
				r.next = rapid.IntRange(0, len(log)).Draw(t, "after")
				var f eventstore.Filter
				if r.cat != "" {
					f.Categories = []string{r.cat}
				}
				var err error
				r.sub, err = eventstore.Subscribe(context.Background(), s, eventstore.Transient[int]{
					Filter: f, From: eventstore.After(eventstore.Position(r.next)), Map: amount,
					Buffer: rapid.SampledFrom([]int{1, 3, 9}).Draw(t, "buffer"), Progress: rapid.Bool().Draw(t, "progress")})
				require.NoError(t, err)
				readers = append(readers, r)
			},
			"receive": func(t *rapid.T) {
				r := pick()
				if len(expect(r)) == 0 {
					t.Skip("nothing to come")
				}
				select {
				case b, ok := <-r.sub.C:
					require.True(t, ok)
					take(r, b)
				case <-time.After(10 * time.Second):
					t.Fatal("nothing came")
				}
			},
			"close": func(t *rapid.T) {
				r := pick()
				r.sub.Close()
				readers = slices.DeleteFunc(readers, func(x *reader) bool { return x == r })
			},
		})
		for _, r := range readers {
			for len(expect(r)) > 0 {
				b := <-r.sub.C
				take(r, b)
			}
		}
	})
}

func TestOnLagHasAName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "CatchUp Latest Fail OnLag(9)", fmt.Sprint(eventstore.CatchUp, eventstore.Latest, eventstore.Fail, eventstore.OnLag(9)))
}
