package projection_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

// several are the ways to append to several streams at once: each appends the first of ns to
// one shelf, and the rest to another.
var several = map[string]func(t testing.TB, s *eventstore.Store, a, b string, ns ...int) error{
	"atomic": func(t testing.TB, s *eventstore.Store, a, b string, ns ...int) error {
		atomic, err := s.Atomic()
		require.NoError(t, err)
		parts := []eventstore.Part{{Stream: eventstore.Stream("shelf", a)}, {Stream: eventstore.Stream("shelf", b)}}
		for i, n := range ns {
			p := &parts[min(i, 1)]
			p.Events = append(p.Events, eventstore.Event{Data: Put{"k", n}})
		}
		_, err = atomic.Append(t.Context(), parts...)
		return err
	},
	"conditional": func(t testing.TB, s *eventstore.Store, a, b string, ns ...int) error {
		tags, err := s.Tags()
		require.NoError(t, err)
		var events []eventstore.To
		for i, n := range ns {
			events = append(events, eventstore.To{Stream: eventstore.Stream("shelf", []string{a, b}[min(i, 1)]), Event: eventstore.Event{Data: Put{"k", n}}})
		}
		_, err = tags.Append(t.Context(), nil, 0, events...)
		return err
	},
}

func TestAnInlineModelHasTheEventsOfSeveralStreams(t *testing.T) {
	t.Parallel()
	for name, put2 := range several {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openFile(t)
			m := openRows(t, s, sqlitestore.TargetIn)
			put(t, s, "a", 1)
			g := newGroup(s)
			require.NoError(t, g.Add(m.projection()))
			require.NoError(t, put2(t, s, "b", "a", 2, 3, 4))
			require.Equal(t, []int{1, 2, 3, 4}, m.list(t), "with what was there before, although the group does not run")

			m.bad.put(6)
			require.ErrorIs(t, put2(t, s, "c", "a", 5, 6), errBoom)
			for stream, version := range map[eventstore.StreamName]eventstore.Version{"shelf-c": 0, "shelf-a": 3} {
				info, err := s.Stream(t.Context(), stream)
				require.NoError(t, err)
				require.Equal(t, version, info.Version, "nothing of it was written to %s", stream)
			}
			require.Equal(t, []int{1, 2, 3, 4}, m.list(t))

			start(t, g)
			require.NoError(t, put2(t, s, "c", "a", 7, 8))
			require.Equal(t, []int{1, 2, 3, 4, 7, 8}, m.list(t))
			head, err := s.Head(t.Context())
			require.NoError(t, err)
			require.NoError(t, g.Wait(t.Context(), head))
			require.Equal(t, head, status(t, g, "rows").Position)
		})
	}
}

func TestAnInlineModelIsInTheOrderOfTheLogWhoeverAppends(t *testing.T) {
	t.Parallel()
	s := openFile(t)
	m := openRows(t, s, sqlitestore.TargetIn)
	g := newGroup(s)
	require.NoError(t, g.Add(m.projection()))
	start(t, g)
	for n := 0; n < 600; n += 7 {
		m.bad.put(n)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		a, b := fmt.Sprint(i%3), fmt.Sprint(3+i%4)
		for k, do := range []func(ns ...int) error{
			func(ns ...int) error { return several["atomic"](t, s, a, b, ns...) },
			func(ns ...int) error { return several["conditional"](t, s, b, a, ns...) },
			func(ns ...int) error {
				_, err := s.Append(t.Context(), eventstore.Stream("shelf", a), eventstore.Any, eventstore.Event{Data: Put{"k", ns[0]}}, eventstore.Event{Data: Put{"k", ns[1]}})
				return err
			},
		} {
			n := 15*i + 5*k
			wg.Go(func() {
				err := do(n, n+1, n+2)
				if errors.Is(err, errBoom) {
					return
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	var want []int
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		n := r.Data.(Put).N
		require.NotZero(t, n%7)
		want = append(want, n)
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, m.list(t))
}
