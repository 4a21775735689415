package boundary_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/boundary"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
)

type Counted struct{ N int }

type sealer struct{ err error }

func (s *sealer) Seal(_ context.Context, _ *eventstore.Event, data []byte) ([]byte, error) {
	return data, nil
}

func (s *sealer) Open(_ context.Context, r *eventstore.Recorded, data []byte) ([]byte, error) {
	if r.Metadata["seal"] == "" {
		return data, nil
	}
	return nil, s.err
}

func open(t testing.TB, opt eventstore.Options) (*eventstore.Store, *eventstore.TagStore) {
	store := memstore.Open(&memstore.Options{Store: opt})
	t.Cleanup(func() { _ = store.Close() })
	return store, register(t, store)
}

func register(t testing.TB, store *eventstore.Store) *eventstore.TagStore {
	store.Types.Register("counted", Counted{})
	store.Types.Register("course.defined", CourseDefined{})
	store.Types.Register("course.subscribed", Subscribed{})
	tags, err := store.Tags()
	require.NoError(t, err)
	return tags
}

func counter(tag string) boundary.Model[[]int] {
	return boundary.Model[[]int]{
		Query: eventstore.Query{{Types: []string{"counted", "unknown"}, Tags: []string{tag}}},
		Apply: func(s *[]int, r *eventstore.Recorded) { *s = append(*s, r.Data.(Counted).N) },
	}
}

func counted(tag string, n int) eventstore.Event {
	return eventstore.Event{Data: Counted{n}, Tags: []string{tag}}
}

func to(tag string, n int) []eventstore.To {
	return []eventstore.To{{Stream: eventstore.Stream("count", tag), Event: counted(tag, n)}}
}

func TestAConflictIsDecidedAgainOnWhatCameBetween(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, tags := open(t, eventstore.Options{})
	_, err := store.Append(ctx, "other", eventstore.Any, counted("a", 1))
	require.NoError(t, err)
	var seen [][]int
	pos, err := boundary.Decide(ctx, tags, counter("a"), func(s []int) ([]eventstore.To, error) {
		seen = append(seen, append([]int(nil), s...))
		if len(seen) == 1 {
			// Any append of the tag counts, not only conditional ones.
			_, err := store.Append(ctx, "other", eventstore.Any, counted("a", 2))
			require.NoError(t, err)
		}
		return to("a", len(s)+1), nil
	})
	require.NoError(t, err)
	require.Equal(t, [][]int{{1}, {1, 2}}, seen)
	state, at, err := boundary.Load(ctx, tags, counter("a"))
	require.NoError(t, err)
	require.Equal(t, []int{1, 2, 3}, state)
	require.Equal(t, pos, at)
}

func TestDecideGivesUpAfterEightConflicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		store, tags := open(t, eventstore.Options{})
		calls := 0
		_, err := boundary.Decide(ctx, tags, counter("a"), func([]int) ([]eventstore.To, error) {
			calls++
			_, err := store.Append(ctx, "other", eventstore.Any, counted("a", calls))
			require.NoError(t, err)
			return to("a", 0), nil
		})
		require.ErrorIs(t, err, eventstore.ErrConflict)
		require.Equal(t, 8, calls)
		state, _, err := boundary.Load(ctx, tags, counter("a"))
		require.NoError(t, err)
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7, 8}, state, "nothing of what was decided")
	})
}

func TestDecideEndsWithItsContextBetweenAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, tags := open(t, eventstore.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		_, err := boundary.Decide(ctx, tags, counter("a"), func([]int) ([]eventstore.To, error) {
			if calls++; calls == 2 {
				cancel()
			}
			_, err := store.Append(t.Context(), "other", eventstore.Any, counted("a", calls))
			require.NoError(t, err)
			return to("a", 0), nil
		})
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 2, calls)
	})
}

func TestARefusalIsReturnedUntouchedAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store, tags := open(t, eventstore.Options{})
	refusal := errors.New("no")
	pos, err := boundary.Decide(ctx, tags, counter("a"), func([]int) ([]eventstore.To, error) { return to("a", 1), refusal })
	require.True(t, err == refusal)
	require.Zero(t, pos)
	pos, err = boundary.Decide(ctx, tags, counter("a"), func([]int) ([]eventstore.To, error) { return nil, nil })
	require.NoError(t, err)
	require.Zero(t, pos, "no events are no decision")
	head, err := store.Head(ctx)
	require.NoError(t, err)
	require.Zero(t, head)
}

func TestAnAppendThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	_, tags := open(t, eventstore.Options{})
	_, err := boundary.Decide(t.Context(), tags, counter("a"), func([]int) ([]eventstore.To, error) {
		return []eventstore.To{{Stream: "$mine", Event: counted("a", 1)}}, nil
	})
	require.ErrorIs(t, err, eventstore.ErrInvalid)
}

func TestAModelMustSayWhatItDependsOn(t *testing.T) {
	t.Parallel()
	_, tags := open(t, eventstore.Options{})
	decide := func([]int) ([]eventstore.To, error) { return to("a", 1), nil }
	for name, m := range map[string]boundary.Model[[]int]{
		"no query": {Apply: counter("a").Apply},
		"no apply": {Query: counter("a").Query},
	} {
		_, err := boundary.Decide(t.Context(), tags, m, decide)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
		_, _, err = boundary.Load(t.Context(), tags, m)
		require.ErrorIs(t, err, eventstore.ErrInvalid, name)
	}
}

func TestErasedEventsArePassedOverAndUnreadableOnesAreNot(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	sealed := counted("a", 7)
	sealed.Metadata = map[string]string{"seal": "yes"}
	unknown := eventstore.Event{Type: "unknown", Raw: []byte("{}"), ContentType: "application/json", Tags: []string{"a"}}
	for name, c := range map[string]struct {
		event eventstore.Event
		open  error
		err   error
	}{
		"erased":       {sealed, eventstore.ErrErased, nil},
		"not openable": {sealed, broken, broken},
		"unknown":      {unknown, nil, eventstore.ErrUnregistered},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, tags := open(t, eventstore.Options{Seal: &sealer{c.open}})
			for _, e := range []eventstore.Event{counted("a", 1), c.event, counted("a", 2)} {
				_, err := store.Append(t.Context(), "count-a", eventstore.Any, e)
				require.NoError(t, err)
			}
			var seen []int
			_, err := boundary.Decide(t.Context(), tags, counter("a"), func(s []int) ([]eventstore.To, error) {
				seen = s
				return nil, nil
			})
			if c.err == nil {
				require.NoError(t, err)
				require.Equal(t, []int{1, 2}, seen)
				return
			}
			require.ErrorIs(t, err, c.err)
			require.ErrorContains(t, err, "position 2")
			require.Nil(t, seen, "nothing is decided on half of what happened")
		})
	}
}

func TestDecisionsContinueTheConversationOfTheEventBeingHandled(t *testing.T) {
	t.Parallel()
	store, tags := open(t, eventstore.Options{})
	_, err := store.Append(t.Context(), "other", eventstore.Any, counted("b", 1))
	require.NoError(t, err)
	for cause := range store.ReadStream(t.Context(), "other", 0) {
		_, err = boundary.Decide(eventstore.NewContext(t.Context(), cause), tags, counter("a"), func([]int) ([]eventstore.To, error) { return to("a", 1), nil })
		require.NoError(t, err)
		for r, err := range store.ReadStream(t.Context(), "count-a", 0) {
			require.NoError(t, err)
			require.Equal(t, cause.ID, r.Causation)
			require.Equal(t, cause.Correlation, r.Correlation)
		}
	}
}

// stores are the engines that can append under conditions.
var stores = map[string]func(testing.TB) *eventstore.Store{
	"memory": func(testing.TB) *eventstore.Store { return memstore.Open(nil) },
	"sqlite": func(t testing.TB) *eventstore.Store {
		s, err := sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), nil)
		require.NoError(t, err)
		return s
	},
}

func TestDisjointBoundariesNeverConflict(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			defer store.Close()
			tags := register(t, store)
			const deciders, each = 8, 12
			var calls atomic.Int64
			var wg sync.WaitGroup
			for d := range deciders {
				wg.Go(func() {
					tag := fmt.Sprintf("d:%d", d)
					for i := range each {
						_, err := boundary.Decide(t.Context(), tags, counter(tag), func(s []int) ([]eventstore.To, error) {
							calls.Add(1)
							if len(s) != i {
								return nil, fmt.Errorf("%d events of %s before event %d", len(s), tag, i)
							}
							return to(tag, i), nil
						})
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, deciders*each, calls.Load())
		})
	}
}

func TestNoCourseIsEverOverbooked(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := open(t)
			defer store.Close()
			tags := register(t, store)
			school := 0
			rapid.Check(t, func(r *rapid.T) {
				school++ // nobody knows those of another
				start, err := store.Head(t.Context())
				require.NoError(r, err)
				capacity := rapid.IntRange(0, 3).Draw(r, "capacity")
				for _, course := range []string{"x", "y", "z"} {
					course = fmt.Sprint(course, school)
					event := eventstore.Event{Data: CourseDefined{course, capacity}, Tags: []string{"course:" + course}}
					_, err := store.Append(t.Context(), eventstore.Stream("course", course), eventstore.NoStream, event)
					require.NoError(r, err)
				}
				pair := rapid.Custom(func(r *rapid.T) [2]string {
					return [2]string{rapid.SampledFrom([]string{"x", "y", "z"}).Draw(r, "course"), rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(r, "student")}
				})
				wishes := rapid.SliceOfN(pair, 1, 16).Draw(r, "wishes")
				errs := make([]error, len(wishes))
				var wg sync.WaitGroup
				for i, w := range wishes {
					wg.Go(func() {
						for errs[i] = eventstore.ErrConflict; errors.Is(errs[i], eventstore.ErrConflict); {
							errs[i] = subscribe(t.Context(), tags, fmt.Sprint(w[0], school), fmt.Sprint(w[1], school))
						}
					})
				}
				wg.Wait()
				taken, courses, pairs := map[string]int{}, map[string]int{}, map[Subscribed]int{}
				for rec, err := range store.ReadAll(t.Context(), eventstore.Filter{Types: []string{"course.subscribed"}}, start) {
					require.NoError(r, err)
					e := rec.Data.(Subscribed)
					taken[e.Course]++
					courses[e.Student]++
					pairs[e]++
				}
				for i, w := range wishes {
					w[0], w[1] = fmt.Sprint(w[0], school), fmt.Sprint(w[1], school)
					require.Equal(r, errs[i] == nil, pairs[Subscribed{w[0], w[1]}] == 1, "%v: %v", w, errs[i])
					if errors.Is(errs[i], ErrFull) {
						require.Equal(r, capacity, taken[w[0]])
					}
					if errors.Is(errs[i], ErrTooMany) {
						require.Equal(r, 2, courses[w[1]])
					}
					require.LessOrEqual(r, taken[w[0]], capacity)
					require.LessOrEqual(r, courses[w[1]], 2)
				}
			})
		})
	}
}
