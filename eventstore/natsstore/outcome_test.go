package natsstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// writes runs a test for an append of one event and one of three.
func writes(t *testing.T, f func(t *testing.T, r *relay, s *store, n int)) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n, " at once"), func(t *testing.T) {
			t.Parallel()
			r := newRelay(t)
			s := r.open(20 * time.Second)
			must(t, s, "a-1", driver.NoStream, 2)
			f(t, r, s, n)
		})
	}
}

// stands checks that a stream has n events, each once.
func stands(t *testing.T, s *store, stream string, n uint64) {
	t.Helper()
	list, err := s.ReadStream(t.Context(), stream, 0, driver.Forward, 1000)
	require.NoError(t, err)
	require.Len(t, list, int(n))
	seen := map[[16]byte]bool{}
	for i, e := range list {
		require.Equal(t, uint64(i+1), e.Version)
		require.False(t, seen[e.ID], "an event is there twice")
		seen[e.ID] = true
	}
}

func TestAnAppendWhoseAnswerIsLostIsFoundAndNotMadeTwice(t *testing.T) {
	t.Parallel()
	writes(t, func(t *testing.T, r *relay, s *store, n int) {
		lose := only(1)
		r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
			if isWrite(s, request) && lose() {
				return nil
			}
			return []*nats.Msg{m}
		}})
		res := must(t, s, "a-1", 2, n)
		require.Equal(t, uint64(2+n), res.Version)
		stands(t, s, "a-1", uint64(2+n))
		list, err := s.ReadStream(t.Context(), "a-1", 2, driver.Forward, n)
		require.NoError(t, err)
		for i, e := range list {
			require.Equal(t, res.Positions[i], e.Position)
			require.True(t, res.Time.Equal(e.Time))
		}
	})
}

func TestAnAppendWhoseAnswerIsLostIsFoundBelowThatOfAnother(t *testing.T) {
	t.Parallel()
	writes(t, func(t *testing.T, r *relay, s *store, n int) {
		other, err := open(t.Context(), r.real, &Options{Name: s.opt.Name})
		require.NoError(t, err)
		defer other.Close()
		lose := only(1)
		r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
			if isWrite(s, request) && lose() {
				// Another is quick to append behind it.
				if res := other.Append(context.Background(), driver.Append{Stream: "a-1", Events: newEvents(5)}); res.Err != nil {
					t.Error(res.Err)
				}
				return nil
			}
			return []*nats.Msg{m}
		}})
		require.Equal(t, uint64(2+n), must(t, s, "a-1", 2, n).Version)
		stands(t, s, "a-1", uint64(2+n+5))
	})
}

func TestAnAppendThatWasLostOnItsWayIsMadeAgain(t *testing.T) {
	t.Parallel()
	writes(t, func(t *testing.T, r *relay, s *store, n int) {
		lose := only(1)
		r.play(script{request: func(m *nats.Msg) []*nats.Msg {
			if isWrite(s, m) && lose() {
				return nil
			}
			return []*nats.Msg{m}
		}})
		require.Equal(t, uint64(2+n), must(t, s, "a-1", 2, n).Version)
		stands(t, s, "a-1", uint64(2+n))
	})
}

func TestAnAppendThatArrivesTwiceIsMadeOnce(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	must(t, s, "a-1", driver.NoStream, 2)
	answers := 0
	r.play(script{
		request: func(m *nats.Msg) []*nats.Msg {
			if isWrite(s, m) {
				return []*nats.Msg{m, m}
			}
			return []*nats.Msg{m}
		},
		answer: func(request, m *nats.Msg) []*nats.Msg {
			// The first answer is lost: the second says 10071, after our own write.
			if isWrite(s, request) {
				if answers++; answers%2 == 1 {
					return nil
				}
			}
			return []*nats.Msg{m}
		},
	})
	for i := range 3 {
		require.Equal(t, uint64(3+i), must(t, s, "a-1", int64(2+i), 1).Version)
	}
	require.Equal(t, uint64(6), must(t, s, "a-1", driver.Any, 1).Version)
	stands(t, s, "a-1", 6)
}

func TestARefusalForNothingIsTriedAgain(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"10164", "10163", "10071", "10210", "10176", "10167", "10008", "10201"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			writes(t, func(t *testing.T, r *relay, s *store, n int) {
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
				require.Equal(t, uint64(2+n), must(t, s, "a-1", 2, n).Version)
				stands(t, s, "a-1", uint64(2+n))
			})
		})
	}
}

func TestAConflictIsOneOnlyIfTheLeaderSaysSo(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	other, err := open(t.Context(), r.real, &Options{Name: s.opt.Name})
	require.NoError(t, err)
	defer other.Close()
	must(t, s, "a-1", driver.NoStream, 2)
	must(t, other, "a-1", 2, 1)
	// s believes that the stream is at 2.
	require.Equal(t, uint64(4), must(t, s, "a-1", 3, 1).Version, "it is asked before it is refused")
	must(t, other, "a-1", 4, 1)
	res := s.Append(t.Context(), driver.Append{Stream: "a-1", Expected: 4, Events: newEvents(1)})
	var conflict *driver.ConflictError
	require.ErrorAs(t, res.Err, &conflict)
	require.Equal(t, uint64(5), conflict.Actual)
	must(t, other, "a-1", 5, 1)
	require.Equal(t, uint64(7), must(t, s, "a-1", driver.Any, 1).Version)
}

func TestAnOutcomeThatCannotBeKnownSaysSo(t *testing.T) {
	t.Parallel()
	writes(t, func(t *testing.T, r *relay, s *store, n int) {
		began := make(chan struct{})
		once := only(1)
		r.play(script{request: func(m *nats.Msg) []*nats.Msg {
			if isWrite(s, m) && once() {
				close(began)
			}
			return nil // nothing passes any more
		}})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-began; cancel() }()
		res := s.Append(ctx, driver.Append{Stream: "a-1", Expected: 2, Events: newEvents(n)})
		require.ErrorIs(t, res.Err, driver.ErrOutcomeUnknown)
		require.ErrorIs(t, res.Err, context.Canceled)
		r.play(script{})
		stands(t, s, "a-1", 2)
	})
}

func TestTheTimeOfACallIsBounded(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(time.Second)
	must(t, s, "a-1", driver.NoStream, 2)
	r.play(script{request: func(*nats.Msg) []*nats.Msg { return nil }})
	start := time.Now()
	res := s.Append(t.Context(), driver.Append{Stream: "a-1", Expected: 2, Events: newEvents(1)})
	require.ErrorIs(t, res.Err, driver.ErrOutcomeUnknown)
	require.ErrorIs(t, res.Err, context.DeadlineExceeded)
	res = s.Append(t.Context(), driver.Append{Stream: "new-1", Expected: driver.NoStream, Events: newEvents(1)})
	require.ErrorIs(t, res.Err, context.DeadlineExceeded)
	require.NotErrorIs(t, res.Err, driver.ErrOutcomeUnknown, "it was never sent")
	for name, read := range map[string]func() error{
		"stream": func() error { _, err := s.ReadStream(t.Context(), "a-1", 0, driver.Forward, 1); return err },
		"all": func() error {
			_, _, err := s.ReadAll(t.Context(), driver.Filter{}, 0, driver.Forward, 1)
			return err
		},
		"head": func() error { _, err := s.Head(t.Context()); return err },
	} {
		require.ErrorIs(t, read(), context.DeadlineExceeded, name)
	}
	require.Less(t, time.Since(start), 30*time.Second)
}

func TestAConnectionThatIsClosedEndsCallsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(time.Minute)
	must(t, s, "a-1", driver.NoStream, 1)
	r.far.Close()
	res := s.Append(t.Context(), driver.Append{Stream: "a-1", Events: newEvents(1)})
	require.ErrorIs(t, res.Err, nats.ErrConnectionClosed)
	_, err := s.Head(t.Context())
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
	require.NoError(t, s.Close())
}

func TestAPageEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(time.Minute)
	must(t, s, "a-1", driver.NoStream, 1)
	r.play(script{request: func(m *nats.Msg) []*nats.Msg {
		if isPage(m) {
			go r.far.Close()
			return nil
		}
		return []*nats.Msg{m}
	}})
	began := time.Now()
	_, _, err := s.ReadAll(t.Context(), driver.Filter{}, 0, driver.Forward, 10)
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
	require.Less(t, time.Since(began), 30*time.Second)
}

func TestAPageThatNobodyAnswersIsAskedForAgain(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(20 * time.Second)
	must(t, s, "a-1", driver.NoStream, 3)
	nobody := only(2)
	r.play(script{answer: func(request, m *nats.Msg) []*nats.Msg {
		if isPage(request) && m.Header.Get("Status") == "" && nobody() {
			return []*nats.Msg{{Header: nats.Header{"Status": {"503"}}}}
		}
		return []*nats.Msg{m}
	}})
	require.Len(t, readAll(t, s, driver.Filter{}, driver.Forward, 10), 3)
}

func TestAnAcknowledgementOfAnotherStreamIsNotBelieved(t *testing.T) {
	t.Parallel()
	r := newRelay(t)
	s := r.open(2 * time.Second)
	must(t, s, "a-1", driver.NoStream, 1)
	r.play(script{request: func(m *nats.Msg) []*nats.Msg {
		if isWrite(s, m) {
			_ = r.near.PublishMsg(&nats.Msg{Subject: m.Reply, Data: []byte(`{"stream":"other","seq":9}`)})
			return nil
		}
		return []*nats.Msg{m}
	}})
	res := s.Append(t.Context(), driver.Append{Stream: "a-1", Expected: 1, Events: newEvents(1)})
	require.ErrorIs(t, res.Err, driver.ErrOutcomeUnknown)
	require.True(t, errors.Is(res.Err, context.DeadlineExceeded) || errors.Is(res.Err, errAck))
}
