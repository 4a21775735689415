package natsstore

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/natstest"
)

// to is an append of n new events.
func to(stream string, expected int64, n int) driver.Append {
	return driver.Append{Stream: stream, Expected: expected, Events: newEvents(n)}
}

// mustAll appends to several streams at once.
func mustAll(t testing.TB, s *store, as ...driver.Append) []driver.Result {
	t.Helper()
	list, err := s.AppendAtomic(t.Context(), as, nil)
	require.NoError(t, err)
	require.Len(t, list, len(as))
	return list
}

// conflicts checks that an atomic append is refused for a stream at a version,
// and that nothing was written.
func conflicts(t testing.TB, s *store, stream string, actual uint64, as ...driver.Append) {
	t.Helper()
	before, _, err := s.lastSeq(t.Context())
	require.NoError(t, err)
	_, err = s.AppendAtomic(t.Context(), as, nil)
	var c *driver.ConflictError
	require.ErrorAs(t, err, &c)
	require.Equal(t, driver.ConflictError{Actual: actual, Stream: stream}, *c)
	after, _, err := s.lastSeq(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, after)
}

// chained checks that the back pointers of each message are those that follow
// from a full scan of the log, but for those to what was removed.
func chained(t testing.TB, s *store) {
	t.Helper()
	histories := map[string]history{}
	lowest := map[string]uint64{} // version of each stream that is there
	for _, m := range scan(t, s) {
		st, err := m.state()
		require.NoError(t, err)
		before, seen := histories[m.subject]
		if !seen {
			before.top = st.version - 1
			lowest[m.subject] = st.version
		}
		after := before.push(m.seq)
		histories[m.subject] = after
		require.Equal(t, after.top, st.version, "versions of %s are dense", m.subject)
		have := pointers(st.history)
		maps.DeleteFunc(have, func(v, _ uint64) bool { return v < lowest[m.subject] })
		require.Equal(t, pointers(after.from(st.first)), have, "message %d, version %d of %s", m.seq, st.version, m.subject)
	}
}

// entire checks that what each append has in a stream is in the log whole, and
// that all its events lie side by side. Nothing may have been removed. It returns
// how many appends there are to several streams.
func entire(t testing.TB, s *store) (atomic int) {
	t.Helper()
	seen := map[string]bool{}
	var before *message
	open := part{0, 1}
	parts := 0
	for _, m := range scan(t, s) {
		p, err := m.part()
		require.NoError(t, err)
		nonce := m.header.Get(headerAppend)
		switch {
		case before == nil || before.header.Get(headerAppend) != nonce:
			require.False(t, seen[nonce], "message %d belongs to an append above", m.seq)
			seen[nonce], parts = true, 1
		case before.subject != m.subject:
			require.Equal(t, before.seq+1, m.seq)
			if parts++; parts == 2 {
				atomic++
			}
		}
		if before == nil || before.subject != m.subject || open.later() == 0 {
			require.Zero(t, open.later(), "message %d comes within another append", m.seq)
			open = part{-1, p.count}
		} else {
			require.Equal(t, before.seq+1, m.seq)
		}
		require.Equal(t, part{open.index + 1, open.count}, p, "message %d", m.seq)
		before, open = m, p
	}
	require.Zero(t, open.later(), "the last append is there in part")
	return atomic
}

func TestAnAppendToSeveralStreamsIsOneBatchInTheOrderOfItsParts(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			t.Parallel()
			nodes := natstest.Shared(t, n)
			s := openOn(t, nodes, nodes.Connect(t), n)
			must(t, s, "b-1", driver.NoStream, 40)
			list := mustAll(t, s, to("c-1", driver.NoStream, 1), to("b-1", 40, 33), to("a-1", driver.Any, 2))
			at := list[0].Last
			require.Equal(t, []uint64{at}, list[0].Positions)
			require.Equal(t, at+1, list[1].Positions[0])
			require.Equal(t, at+33, list[1].Last)
			require.Equal(t, []uint64{at + 34, at + 35}, list[2].Positions)
			require.Equal(t, []uint64{1, 73, 2}, []uint64{list[0].Version, list[1].Version, list[2].Version})
			events, _, err := s.ReadAll(t.Context(), driver.Filter{}, at-1, driver.Forward, 100)
			require.NoError(t, err)
			require.Len(t, events, 36)
			for i, r := range list {
				for _, p := range r.Positions {
					require.True(t, events[p-at].Time.Equal(r.Time), "in one stream it has one time")
				}
				require.False(t, r.Time.Before(list[max(i, 1)-1].Time))
				position, err := s.PositionAt(t.Context(), r.Time)
				require.NoError(t, err)
				if n == 1 || i == 0 {
					require.Equal(t, r.Positions[0]-1, position)
				}
				if n == 3 {
					require.Equal(t, at-1, position, "in a cluster it has one time in all")
				}
			}
			for _, c := range []struct {
				stream string
				n      uint64
			}{{"a-1", 2}, {"b-1", 73}, {"c-1", 1}} {
				stands(t, s, c.stream, c.n)
			}
			// What is remembered of each is right: nothing has to be asked.
			before := s.log.nc.Stats().OutMsgs
			mustAll(t, s, to("a-1", 2, 1), to("b-1", 73, 1), to("c-1", 1, 1))
			require.LessOrEqual(t, s.log.nc.Stats().OutMsgs-before, uint64(7), "three events, their times, and the word of it")
			chained(t, s)
			require.Equal(t, 2, entire(t, s))
		})
	}
}

func TestAConflictNamesTheFirstStreamThatIsNotAsExpected(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	other, err := open(t.Context(), natstest.Shared(t, 1).Connect(t), &Options{Name: s.opt.Name})
	require.NoError(t, err)
	defer other.Close()
	must(t, s, "a-1", driver.NoStream, 2)
	must(t, s, "b-1", driver.NoStream, 3)
	conflicts(t, s, "b-1", 3, to("a-1", 2, 1), to("b-1", 2, 1))
	conflicts(t, s, "a-1", 2, to("a-1", 1, 1), to("b-1", 2, 1))
	conflicts(t, s, "b-1", 3, to("b-1", 2, 1), to("a-1", 1, 1))
	conflicts(t, s, "new-1", 0, to("a-1", 2, 1), to("b-1", driver.Any, 1), to("new-1", driver.StreamExists, 1), to("a-2", 7, 1))
	conflicts(t, s, "a-1", 2, to("a-1", driver.NoStream, 1))
	res := s.Append(t.Context(), to("a-1", 1, 1))
	require.Equal(t, &driver.ConflictError{Actual: 2}, res.Err, "of a single stream no name is told")
	// Another has moved a-1, and s has not heard of it: what b-1 is refused for is
	// not the first.
	must(t, other, "a-1", 2, 1)
	conflicts(t, s, "a-1", 3, to("a-1", 2, 1), to("b-1", 2, 1))
	must(t, other, "a-1", 3, 1)
	must(t, other, "b-1", 3, 1)
	conflicts(t, s, "b-1", 4, to("a-1", 4, 1), to("b-1", 3, 1))
	must(t, other, "a-1", 4, 1)
	list := mustAll(t, s, to("a-1", 5, 1), to("b-1", 4, 1))
	require.Equal(t, uint64(6), list[0].Version)
	chained(t, s)
}

// TestAStreamThatMovesWhileTheOthersAreAskedIsTheFirst has a stream move right
// after it was asked.
func TestAStreamThatMovesWhileTheOthersAreAskedIsTheFirst(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	other, err := open(t.Context(), r.real, &Options{Name: s.opt.Name})
	require.NoError(t, err)
	defer other.Close()
	must(t, other, "a-1", driver.NoStream, 1)
	must(t, other, "b-1", driver.NoStream, 5)
	once := only(1)
	r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if strings.Contains(string(request.Data), s.space.of("a-1")) && once() {
			if res := other.Append(context.Background(), to("a-1", 1, 1)); res.Err != nil {
				t.Error(res.Err)
			}
		}
		return []*nats.Msg{m} // as it was before
	}})
	_, err = s.AppendAtomic(t.Context(), []driver.Append{to("a-1", 1, 1), to("b-1", 1, 1)}, nil)
	var c *driver.ConflictError
	require.ErrorAs(t, err, &c)
	require.Equal(t, driver.ConflictError{Actual: 2, Stream: "a-1"}, *c)
}

func TestAnAtomicAppendIsRefusedByRemovedStreamsAsAPlainOneIs(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	must(t, s, "purged-1", driver.NoStream, 2)
	must(t, s, "deleted-1", driver.NoStream, 3)
	must(t, s, "cut-1", driver.NoStream, 40)
	require.NoError(t, s.Purge(t.Context(), "purged-1"))
	require.NoError(t, s.Delete(t.Context(), "deleted-1", driver.Any))
	require.NoError(t, s.Truncate(t.Context(), "cut-1", 39))
	for _, expected := range []int64{driver.Any, driver.NoStream, 2} {
		_, err := s.AppendAtomic(t.Context(), []driver.Append{to("a-1", driver.NoStream, 1), to("purged-1", expected, 1)}, nil)
		require.ErrorIs(t, err, driver.ErrStreamDeleted)
		require.ErrorContains(t, err, "purged-1")
	}
	conflicts(t, s, "deleted-1", 0, to("a-1", driver.NoStream, 1), to("deleted-1", 3, 1))
	conflicts(t, s, "deleted-1", 0, to("a-1", driver.NoStream, 1), to("deleted-1", driver.StreamExists, 1))
	for _, forgotten := range []bool{false, true} {
		if forgotten {
			for _, name := range []string{"a-1", "deleted-1", "cut-1"} {
				s.tails.drop(name)
			}
		}
		before := must(t, s, "n-1", driver.Any, 1).Last
		list := mustAll(t, s, to("a-1", driver.Any, 2), to("deleted-1", driver.Any, 2), to("cut-1", driver.StreamExists, 2))
		require.Equal(t, before+6, list[2].Last)
	}
	info, err := s.Stream(t.Context(), "deleted-1")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "deleted-1", Version: 7, First: 4, Origin: 3}, info)
	list, err := s.ReadStream(t.Context(), "cut-1", 0, driver.Forward, 100)
	require.NoError(t, err)
	require.Len(t, list, 6)
	require.Equal(t, uint64(39), list[0].Version)
	chained(t, s)
}

func TestTheLimitsOfAnAppendCountAllItsStreams(t *testing.T) {
	t.Parallel()
	s := openTest(t)
	most := s.limits.AppendEvents
	list := mustAll(t, s, to("a-1", driver.NoStream, most/2), to("b-1", driver.NoStream, most-most/2))
	require.Equal(t, uint64(most), list[1].Last-list[0].Positions[0]+1)
	_, err := s.AppendAtomic(t.Context(), []driver.Append{to("a-1", driver.Any, most/2), to("b-1", driver.Any, most-most/2), to("c-1", driver.Any, 1)}, nil)
	require.ErrorIs(t, err, driver.ErrTooLarge)
	one := to("a-1", driver.Any, s.limits.AppendBytes/s.limits.EventBytes)
	for i := range one.Events {
		one.Events[i].Data = make([]byte, s.limits.EventBytes-100)
	}
	two := one
	two.Stream = "b-1"
	_, err = s.AppendAtomic(t.Context(), []driver.Append{one, two}, nil)
	require.ErrorIs(t, err, driver.ErrTooLarge)
	_, err = s.AppendAtomic(t.Context(), []driver.Append{to("a-1", driver.Any, 1), to(strings.Repeat("n", maxNameBytes+1), driver.Any, 1)}, nil)
	require.ErrorIs(t, err, driver.ErrTooLarge)
	// As many streams as there can be: each message has an expectation.
	var many []driver.Append
	for i := range most {
		many = append(many, to(fmt.Sprintf("m-%d", i), driver.NoStream, 1))
	}
	mustAll(t, s, many...)
	conflicts(t, s, "m-0", 1, many...)
	require.Equal(t, int(s.limits.AppendEvents), most)
	require.Len(t, readAll(t, s, driver.Filter{Categories: []string{"m"}}, driver.Forward, 1000), most)
}

// TestOfTwoAtomicAppendsOverTheSameStreamsOneWins has processes append to the
// same streams in different orders, over and over.
func TestOfTwoAtomicAppendsOverTheSameStreamsOneWins(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d servers", n), func(t *testing.T) {
			t.Parallel()
			nodes := natstest.Shared(t, n)
			name := fresh()
			var stores []*store
			for range 2 {
				stores = append(stores, process(t, nodes, name, n))
			}
			const rounds = 12
			for round := range rounds {
				at := int64(round)
				if round == 0 {
					at = driver.NoStream
				}
				orders := [][]string{{"a-1", "b-1", "c-1"}, {"c-1", "b-1", "a-1"}, {"b-1", "c-1", "a-1"}}
				results := make([]error, 4)
				var all sync.WaitGroup
				for i := range results {
					var as []driver.Append
					for _, stream := range orders[i%3] {
						as = append(as, to(stream, at, 1))
					}
					all.Go(func() { _, results[i] = stores[i%2].AppendAtomic(t.Context(), as, nil) })
				}
				all.Wait()
				won := 0
				for i, err := range results {
					if err == nil {
						won++
						continue
					}
					var c *driver.ConflictError
					require.ErrorAs(t, err, &c)
					require.Equal(t, driver.ConflictError{Actual: uint64(round + 1), Stream: orders[i%3][0]}, *c)
				}
				require.Equal(t, 1, won)
			}
			// Without expectations all succeed, and single appends among them.
			var all sync.WaitGroup
			for i := range 12 {
				all.Go(func() {
					var err error
					if s := stores[i%2]; i%3 == 0 {
						err = s.Append(t.Context(), to("b-1", driver.Any, 1)).Err
					} else if i%3 == 1 {
						_, err = s.AppendAtomic(t.Context(), []driver.Append{to("a-1", driver.Any, 1), to("b-1", driver.Any, 1)}, nil)
					} else {
						_, err = s.AppendAtomic(t.Context(), []driver.Append{to("b-1", driver.Any, 1), to("a-1", driver.Any, 1)}, nil)
					}
					if err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			stands(t, stores[0], "a-1", rounds+8)
			stands(t, stores[0], "b-1", rounds+12)
			stands(t, stores[0], "c-1", rounds)
			chained(t, stores[1])
			require.Equal(t, rounds+8, entire(t, stores[1]))
		})
	}
}

// shaken runs a test for an atomic append behind a relay. a-1 and b-1 have two
// events each.
func shaken(t *testing.T) (r *relay, s, other *store) {
	t.Helper()
	r = newRelay(t)
	s = r.open(20 * time.Second)
	other, err := open(t.Context(), r.real, &Options{Name: s.opt.Name})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	must(t, s, "a-1", driver.NoStream, 2)
	must(t, s, "b-1", driver.NoStream, 2)
	return r, s, other
}

// losingFirst loses the answer to the first write, after it was heard, and calls
// then before anything else is answered.
func losingFirst(s *store, then func()) script {
	lose := only(1)
	return script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if isWrite(s, request) && lose() {
			then()
			return nil
		}
		return []*nats.Msg{m}
	}}
}

func TestAnAtomicAppendWhoseAnswerIsLostIsFoundInAnyOfItsStreams(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(t *testing.T, other *store){
		"nobody comes after it": func(*testing.T, *store) {},
		"another appends to the first": func(t *testing.T, other *store) {
			must(t, other, "a-1", 4, 20)
		},
		"others append to both": func(t *testing.T, other *store) {
			must(t, other, "a-1", 4, 3)
			must(t, other, "b-1", 5, 3)
		},
		"the first is truncated behind it": func(t *testing.T, other *store) {
			require.NoError(t, other.Truncate(context.Background(), "a-1", 5))
		},
		"the last is deleted": func(t *testing.T, other *store) {
			require.NoError(t, other.Delete(context.Background(), "b-1", driver.Any))
		},
		"the first is purged": func(t *testing.T, other *store) {
			require.NoError(t, other.Purge(context.Background(), "a-1"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s, other := shaken(t)
			r.play(losingFirst(s, func() { then(t, other) }))
			list := mustAll(t, s, to("a-1", 2, 2), to("b-1", 2, 3))
			require.Equal(t, uint64(4), list[0].Version)
			require.Equal(t, uint64(5), list[1].Version)
			require.Equal(t, list[0].Last+3, list[1].Last)
			// It is there once, and what is remembered is of use.
			for _, stream := range []string{"a-1", "b-1"} {
				if _, err := s.Stream(t.Context(), stream); err == nil {
					must(t, s, stream, driver.Any, 1)
				}
			}
			chained(t, s)
		})
	}
}

func TestAnAtomicAppendThatWasTruncatedAwayEverywhereHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	r, s, other := shaken(t)
	r.play(losingFirst(s, func() {
		require.NoError(t, other.Truncate(context.Background(), "a-1", 4))
		require.NoError(t, other.Delete(context.Background(), "b-1", 3))
	}))
	_, err := s.AppendAtomic(t.Context(), []driver.Append{to("a-1", 2, 1), to("b-1", 2, 1)}, nil)
	require.ErrorIs(t, err, driver.ErrOutcomeUnknown)
	require.ErrorIs(t, err, errBlurred)
	require.Equal(t, uint64(4), must(t, s, "a-1", 3, 1).Version)
	require.Equal(t, uint64(4), must(t, s, "b-1", driver.NoStream, 1).Version)
}

// TestAnAtomicAppendThatLandsWhileItIsLookedForIsFound lets the batch through
// only after b-1 was asked, and truncates a-1 behind it before a-1 is.
func TestAnAtomicAppendThatLandsWhileItIsLookedForIsFound(t *testing.T) {
	t.Parallel()
	r, s, other := shaken(t)
	var commit, question *nats.Msg
	answered := make(chan struct{})
	land := func() {
		<-answered
		answer, err := r.real.RequestMsg(&nats.Msg{Subject: commit.Subject, Header: commit.Header, Data: commit.Data}, 10*time.Second)
		if err != nil || strings.Contains(string(answer.Data), "error") {
			t.Errorf("%v %s", err, answer.Data)
		}
		if err := other.Truncate(context.Background(), "a-1", 4); err != nil {
			t.Error(err)
		}
		told, err := r.real.Request(question.Subject, question.Data, 10*time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		_ = r.near.PublishMsg(&nats.Msg{Subject: question.Reply, Data: told.Data})
	}
	once := only(1)
	r.play(script{
		request: func(m *nats.Msg) []*nats.Msg {
			switch {
			case isWrite(s, m) && commit == nil:
				commit = m
				return nil
			case commit != nil && question == nil && strings.Contains(string(m.Data), s.space.of("a-1")):
				question = m
				go land()
				return nil
			}
			return []*nats.Msg{m}
		},
		answer: func(request, m *nats.Msg) []*nats.Msg {
			if commit != nil && strings.Contains(string(request.Data), s.space.of("b-1")) && once() {
				close(answered)
			}
			return []*nats.Msg{m}
		},
	})
	list := mustAll(t, s, to("a-1", 2, 1), to("b-1", 2, 1))
	require.Equal(t, uint64(3), list[0].Version)
	stands(t, s, "b-1", 3)
	chained(t, s)
}

func TestAnAtomicAppendThatWasLostOnItsWayIsMadeAgain(t *testing.T) {
	t.Parallel()
	r, s, _ := shaken(t)
	lose := only(1)
	r.play(script{request: func(m *nats.Msg) []*nats.Msg {
		if isWrite(s, m) && lose() {
			return nil
		}
		return []*nats.Msg{m}
	}})
	mustAll(t, s, to("a-1", 2, 1), to("b-1", 2, 1))
	stands(t, s, "a-1", 3)
	stands(t, s, "b-1", 3)
	chained(t, s)
	require.Equal(t, 1, entire(t, s))
}

func TestAnAtomicAppendThatWasLostLosesAgainstAnother(t *testing.T) {
	t.Parallel()
	r, s, other := shaken(t)
	lose := only(1)
	r.play(script{request: func(m *nats.Msg) []*nats.Msg {
		if isWrite(s, m) && lose() {
			if res := other.Append(context.Background(), to("b-1", 2, 1)); res.Err != nil {
				t.Error(res.Err)
			}
			return nil
		}
		return []*nats.Msg{m}
	}})
	_, err := s.AppendAtomic(t.Context(), []driver.Append{to("a-1", 2, 1), to("b-1", 2, 1)}, nil)
	var c *driver.ConflictError
	require.ErrorAs(t, err, &c)
	require.Equal(t, driver.ConflictError{Actual: 3, Stream: "b-1"}, *c)
	require.NotErrorIs(t, err, driver.ErrOutcomeUnknown, "the stream has moved: it can never be written any more")
	stands(t, s, "a-1", 2)
	mustAll(t, s, to("a-1", 2, 1), to("b-1", 3, 1))
	chained(t, s)
}

func TestARefusalOfAnAtomicAppendForNothingIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"10164", "10163", "10071", "10210", "10176", "10201"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			r, s, _ := shaken(t)
			refuse := only(3)
			r.play(script{request: func(m *nats.Msg) []*nats.Msg {
				if isWrite(s, m) && refuse() {
					a := refusal(code)
					a.Subject = m.Reply
					_ = r.near.PublishMsg(a)
					return nil
				}
				return []*nats.Msg{m}
			}})
			mustAll(t, s, to("a-1", 2, 1), to("b-1", 2, 2))
			stands(t, s, "a-1", 3)
			stands(t, s, "b-1", 4)
		})
	}
}

func TestAnAtomicAppendWhoseOutcomeCannotBeKnownSaysSo(t *testing.T) {
	t.Parallel()
	for name, heard := range map[string]bool{"it was heard": true, "it was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, s, _ := shaken(t)
			began, written := make(chan struct{}), false
			r.play(script{
				request: func(m *nats.Msg) []*nats.Msg {
					switch {
					case isWrite(s, m) && !written:
						if written = true; !heard {
							close(began)
							return nil
						}
					case written && m.Reply != "":
						return nil
					}
					return []*nats.Msg{m}
				},
				answer: func(request, m *nats.Msg) []*nats.Msg {
					if isWrite(s, request) {
						close(began)
					}
					return nil
				},
			})
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-began; cancel() }()
			_, err := s.AppendAtomic(ctx, []driver.Append{to("a-1", 2, 1), to("b-1", 2, 1)}, nil)
			require.ErrorIs(t, err, driver.ErrOutcomeUnknown)
			require.ErrorIs(t, err, context.Canceled)
			r.play(script{})
			want := int64(2)
			if heard {
				want = 3
			}
			// What is remembered may be old: it misleads nobody.
			conflicts(t, s, "a-1", uint64(want), to("a-1", 5-want, 1), to("b-1", 5-want, 1))
			mustAll(t, s, to("a-1", want, 1), to("b-1", want, 1))
			stands(t, s, "a-1", uint64(want)+1)
			stands(t, s, "b-1", uint64(want)+1)
			chained(t, s)
			require.Equal(t, int(want)-1, entire(t, s))
		})
	}
}
