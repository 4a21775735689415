package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/pubsub"
	"github.com/levada-go/levada/pubsub/pubsubtest"
)

var numbers = pubsub.Topic[int]{Name: "numbers"}

func subscribe[T any](t testing.TB, b *pubsub.Bus, topic pubsub.Topic[T], m *pubsub.Mailbox[T]) *pubsub.Subscription[T] {
	t.Helper()
	s, err := topic.Subscribe(t.Context(), b, m)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func publish[T any](t testing.TB, b *pubsub.Bus, topic pubsub.Topic[T], vs ...T) {
	t.Helper()
	for _, v := range vs {
		require.NoError(t, topic.Publish(t.Context(), b, v))
	}
}

// waiting returns what is in the mailbox.
func waiting[T any](s *pubsub.Subscription[T]) []T {
	select {
	case vs := <-s.C:
		return vs
	default:
		return nil
	}
}

// quiet is a node of a network that logs nothing.
func quiet(tr pubsub.Transport) *pubsub.Bus {
	return pubsub.New(tr, &pubsub.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
}

func TestEverySubscriptionReceivesWhatIsPublishedInOrder(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	one, two := subscribe(t, b, numbers, nil), subscribe(t, b, numbers, nil)
	other := subscribe(t, b, pubsub.Topic[int]{Name: "others"}, nil)
	publish(t, b, numbers, 1, 2, 3)
	require.Equal(t, []int{1, 2, 3}, waiting(one))
	publish(t, b, numbers, 4)
	require.Equal(t, []int{4}, waiting(one))
	require.Equal(t, []int{1, 2, 3, 4}, waiting(two))
	require.Empty(t, waiting(other))
}

func TestALateSubscriberMissesWhatWasBefore(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	publish(t, b, numbers, 1)
	s := subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 2)
	require.Equal(t, []int{2}, waiting(s))
}

func TestTheSenderDoesNotReceiveItsOwn(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	a, b := pubsub.New(n.Connect(), nil), pubsub.New(n.Connect(), nil)
	sender, near, far := subscribe(t, a, numbers, nil), subscribe(t, a, numbers, nil), subscribe(t, b, numbers, nil)
	require.NoError(t, numbers.PublishFrom(t.Context(), a, sender, 1))
	require.NoError(t, numbers.PublishFrom(t.Context(), a, nil, 2))
	require.Equal(t, []int{2}, waiting(sender))
	require.Equal(t, []int{1, 2}, waiting(near))
	require.Equal(t, []int{1, 2}, waiting(far))
}

func TestPublishLocalStaysInTheProcess(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	a, b := pubsub.New(n.Connect(), nil), pubsub.New(n.Connect(), nil)
	near, far := subscribe(t, a, numbers, nil), subscribe(t, b, numbers, nil)
	require.NoError(t, numbers.PublishLocal(t.Context(), a, 1))
	require.Equal(t, []int{1}, waiting(near))
	require.Empty(t, waiting(far))
	require.NotEqual(t, a.Node(), b.Node())
}

func TestValuesAreSharedWithinAProcessAndEncodedOnceForOthers(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	codec := &countingCodec{}
	topic := pubsub.Topic[*note]{Name: "notes", Codec: codec}
	a, b := pubsub.New(n.Connect(), nil), pubsub.New(n.Connect(), nil)
	near := subscribe(t, a, topic, nil)
	far, far2 := subscribe(t, b, topic, nil), subscribe(t, b, topic, nil)
	v := &note{Text: "x"}
	publish(t, a, topic, v)
	require.Same(t, v, waiting(near)[0])
	got := waiting(far)[0]
	require.NotSame(t, v, got)
	require.Equal(t, v, got)
	require.Same(t, got, waiting(far2)[0])
	require.Equal(t, [2]int{1, 1}, [2]int{codec.marshalled, codec.unmarshalled})

	local := pubsub.Local()
	subscribe(t, local, topic, nil)
	publish(t, local, topic, v)
	require.Equal(t, 1, codec.marshalled, "a local bus does not encode")
}

type note struct{ Text string }

type countingCodec struct {
	pubsub.JSON[*note]
	marshalled, unmarshalled int
}

func (c *countingCodec) Marshal(v *note) ([]byte, error) {
	c.marshalled++
	return c.JSON.Marshal(v)
}

func (c *countingCodec) Unmarshal(data []byte) (*note, error) {
	c.unmarshalled++
	return c.JSON.Unmarshal(data)
}

func TestAFullMailbox(t *testing.T) {
	t.Parallel()
	parity := func(i int) string { return fmt.Sprint(i % 2) }
	decade := func(i int) string { return fmt.Sprint(i / 10) }
	for _, test := range []struct {
		name    string
		mailbox pubsub.Mailbox[int]
		publish []int
		want    []int
		dropped uint64
		err     error
	}{
		{"Latest drops the oldest", pubsub.Mailbox[int]{Buffer: 3}, []int{1, 2, 3, 4, 5, 6, 7, 8}, []int{6, 7, 8}, 5, nil},
		{"Latest of one", pubsub.Mailbox[int]{Buffer: 1}, []int{1, 2, 3}, []int{3}, 2, nil},
		{"Drop drops the newest", pubsub.Mailbox[int]{Buffer: 3, OnFull: pubsub.Drop}, []int{1, 2, 3, 4, 5}, []int{1, 2, 3}, 2, nil},
		{"Fail ends", pubsub.Mailbox[int]{Buffer: 2, OnFull: pubsub.Fail}, []int{1, 2, 3, 4}, []int{1, 2}, 1, pubsub.ErrLagged},
		{"a key replaces and moves to the end", pubsub.Mailbox[int]{Key: parity}, []int{1, 2, 3, 5}, []int{2, 5}, 0, nil},
		{"keys of one value", pubsub.Mailbox[int]{Key: parity, Buffer: 1, OnFull: pubsub.Fail}, []int{1, 3, 5}, []int{5}, 0, nil},
		{"more keys than room, Latest", pubsub.Mailbox[int]{Key: decade, Buffer: 2}, []int{1, 11, 2, 21, 12, 13, 22}, []int{13, 22}, 2, nil},
		{"more keys than room, Drop", pubsub.Mailbox[int]{Key: decade, Buffer: 2, OnFull: pubsub.Drop}, []int{1, 11, 21, 2, 22}, []int{11, 2}, 2, nil},
		{"the default holds 64", pubsub.Mailbox[int]{}, upTo(65), upTo(65)[1:], 1, nil},
		{"the default with a key holds 1,024", pubsub.Mailbox[int]{Key: func(i int) string { return fmt.Sprint(i) }}, upTo(1025), upTo(1025)[1:], 1, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := pubsub.Local()
			witness := subscribe(t, b, numbers, &pubsub.Mailbox[int]{Buffer: 2000})
			s := subscribe(t, b, numbers, &test.mailbox)
			publish(t, b, numbers, test.publish...)
			require.Equal(t, test.want, waiting(s))
			require.Equal(t, test.dropped, s.Dropped())
			require.ErrorIs(t, s.Err(), test.err)
			require.Equal(t, test.publish, waiting(witness), "a mailbox is not disturbed by another")
			if test.err == nil {
				publish(t, b, numbers, 1000)
				require.Equal(t, []int{1000}, waiting(s))
				return
			}
			_, open := <-s.C
			require.False(t, open)
		})
	}
}

func upTo(n int) []int {
	is := make([]int, n)
	for i := range is {
		is[i] = i
	}
	return is
}

func TestWhatWasReceivedIsNotChangedLater(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	s := subscribe(t, b, numbers, &pubsub.Mailbox[int]{Buffer: 2})
	publish(t, b, numbers, 1, 2, 3)
	got := waiting(s)
	publish(t, b, numbers, 4, 5, 6)
	require.Equal(t, []int{2, 3}, got)
	require.Equal(t, []int{5, 6}, waiting(s))
}

func TestCloseEmptiesTheMailboxAndClosesC(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	s, stays := subscribe(t, b, numbers, nil), subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 1)
	s.Close()
	s.Close()
	publish(t, b, numbers, 2)
	_, open := <-s.C
	require.False(t, open)
	require.NoError(t, s.Err())
	require.Equal(t, []int{1, 2}, waiting(stays))
}

func TestASubscriptionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := pubsub.Local()
		ctx, cancel := context.WithCancel(t.Context())
		s, err := numbers.Subscribe(ctx, b, nil)
		require.NoError(t, err)
		require.NoError(t, s.Err())
		cancel()
		_, open := <-s.C
		require.False(t, open)
		require.ErrorIs(t, s.Err(), context.Canceled)
		s.Close()
		require.ErrorIs(t, s.Err(), context.Canceled, "the first reason stays")
		// The bubble ends only if no goroutine is left.
	})
}

func TestClosingTheBusEndsSubscriptions(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	b := pubsub.New(n.Connect(), nil)
	s := subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 1)
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	require.Equal(t, []int{1}, <-s.C, "what is in the mailbox can still be received")
	_, open := <-s.C
	require.False(t, open)
	require.ErrorIs(t, s.Err(), pubsub.ErrClosed)
	require.ErrorIs(t, numbers.Publish(t.Context(), b, 2), pubsub.ErrClosed)
	_, err := numbers.Subscribe(t.Context(), b, nil)
	require.ErrorIs(t, err, pubsub.ErrClosed)
	require.Zero(t, n.Subscriptions("numbers"))
}

func TestTopicNames(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	for name, ok := range map[string]bool{
		"a": true, "a b/ü.*": true, strings.Repeat("x", 255): true,
		"": false, strings.Repeat("x", 256): false, "a\nb": false, "\x00": false, "\u0085": false, "\xff": false,
	} {
		topic := pubsub.Topic[int]{Name: name}
		s, err := topic.Subscribe(t.Context(), b, nil)
		if ok {
			require.NoError(t, err)
			s.Close()
			require.NoError(t, topic.Publish(t.Context(), b, 1))
			continue
		}
		require.ErrorIs(t, err, pubsub.ErrName, "%q", name)
		require.ErrorIs(t, topic.Publish(t.Context(), b, 1), pubsub.ErrName, "%q", name)
	}
}

func TestATopicHasOneType(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	words := pubsub.Topic[string]{Name: numbers.Name}
	s := subscribe(t, b, numbers, nil)
	require.ErrorIs(t, words.Publish(t.Context(), b, "x"), pubsub.ErrType)
	_, err := words.Subscribe(t.Context(), b, nil)
	require.ErrorIs(t, err, pubsub.ErrType)
	require.Empty(t, waiting(s))
	s.Close()
	subscribe(t, b, words, nil) // nobody is left to be misled
}

func TestAnEndedContextPublishesNothing(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	s := subscribe(t, b, numbers, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, numbers.Publish(ctx, b, 1), context.Canceled)
	require.Empty(t, waiting(s))
	_, err := numbers.Subscribe(ctx, b, nil)
	require.ErrorIs(t, err, context.Canceled)
}

func TestWhatMakesNoSensePanics(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	require.Panics(t, func() { _, _ = numbers.Subscribe(t.Context(), b, &pubsub.Mailbox[int]{Buffer: -1}) })
	require.Panics(t, func() { _, _ = numbers.Subscribe(t.Context(), b, &pubsub.Mailbox[int]{OnFull: 3}) })
	require.Panics(t, func() { pubsub.New(nil, &pubsub.Options{MaxBytes: 25}) })
	require.Equal(t, "Latest Drop Fail OnFull(3)", fmt.Sprint(pubsub.Latest, pubsub.Drop, pubsub.Fail, pubsub.OnFull(3)))
}

func TestAPanicOfAKeyEndsItsSubscriptionAlone(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	bad := subscribe(t, b, numbers, &pubsub.Mailbox[int]{Key: func(int) string { panic("no key") }})
	good := subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 1, 2)
	require.Equal(t, []int{1, 2}, waiting(good))
	_, open := <-bad.C
	require.False(t, open)
	var p *pubsub.PanicError
	require.ErrorAs(t, bad.Err(), &p)
	require.Equal(t, "no key", p.Value)
	require.NotEmpty(t, p.Stack)
}

func TestSubscribeReadMissesNothingInBetween(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	s, total, err := pubsub.SubscribeRead(t.Context(), b, numbers, nil, func(context.Context) (string, error) {
		publish(t, b, numbers, 7)
		return "read", nil
	})
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, "read", total)
	require.Equal(t, []int{7}, waiting(s))
}

func TestSubscribeReadThatFailsLeavesNoSubscription(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	b := pubsub.New(n.Connect(), nil)
	broken := errors.New("broken")
	for _, read := range []func(context.Context) (int, error){
		func(context.Context) (int, error) { return 1, broken },
		func(context.Context) (int, error) { panic(broken) },
	} {
		s, v, err := pubsub.SubscribeRead(t.Context(), b, numbers, nil, read)
		require.ErrorIs(t, err, broken)
		require.Nil(t, s)
		require.Zero(t, v)
		require.Zero(t, n.Subscriptions("numbers"))
	}
	require.NoError(t, b.Close())
	_, _, err := pubsub.SubscribeRead(t.Context(), b, numbers, nil, func(context.Context) (int, error) {
		t.Error("read without a subscription")
		return 0, nil
	})
	require.ErrorIs(t, err, pubsub.ErrClosed)
}

func TestStress(t *testing.T) {
	t.Parallel()
	var n pubsubtest.Network
	n.Copies = func(string, []byte) int { return 2 }
	buses := []*pubsub.Bus{quiet(n.Connect()), quiet(n.Connect())}
	type from struct{ Publisher, N int }
	topic := pubsub.Topic[from]{Name: "busy"}
	var publishers, receivers sync.WaitGroup
	for i := range 8 {
		receivers.Go(func() {
			box := []*pubsub.Mailbox[from]{nil, {Buffer: 3}, {Buffer: 3, OnFull: pubsub.Drop}, {Key: func(f from) string { return fmt.Sprint(f.Publisher) }}}[i%4]
			for range 20 {
				s, err := topic.Subscribe(t.Context(), buses[i%2], box)
				if errors.Is(err, pubsub.ErrClosed) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				last := map[int]int{}
				for range 10 {
					for _, f := range <-s.C {
						if f.N <= last[f.Publisher] {
							t.Errorf("%d after %d of publisher %d", f.N, last[f.Publisher], f.Publisher)
						}
						last[f.Publisher] = f.N
					}
				}
				s.Close()
			}
		})
	}
	done := make(chan struct{})
	for i := range 4 {
		publishers.Go(func() {
			for k := 1; ; k++ {
				select {
				case <-done:
					return
				default:
				}
				if err := topic.Publish(t.Context(), buses[i%2], from{i, k}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	receivers.Wait()
	close(done)
	publishers.Wait()
	require.Zero(t, n.Subscriptions("busy"))
	for _, b := range buses {
		require.NoError(t, b.Close())
	}
}

func TestNoSubscriptionSurvivesTheBus(t *testing.T) {
	t.Parallel()
	for range 100 {
		b := pubsub.Local()
		var subscribers sync.WaitGroup
		begun := make(chan struct{}, 1)
		for range 4 {
			subscribers.Go(func() {
				for {
					s, err := numbers.Subscribe(t.Context(), b, nil)
					if err != nil {
						if !errors.Is(err, pubsub.ErrClosed) {
							t.Error(err)
						}
						return
					}
					select {
					case begun <- struct{}{}:
						<-s.C // nothing is published: it waits for the end
					default:
						s.Close()
					}
				}
			})
		}
		<-begun
		require.NoError(t, b.Close())
		go func() { // takes what later ones wait for
			for range begun {
			}
		}()
		subscribers.Wait()
		close(begun)
	}
}

func TestDroppingAValueDoesNotChangeWhatAnotherReceived(t *testing.T) {
	t.Parallel()
	b := pubsub.Local()
	short := subscribe(t, b, numbers, &pubsub.Mailbox[int]{Buffer: 1})
	long := subscribe(t, b, numbers, nil)
	publish(t, b, numbers, 1)
	got := waiting(long)
	publish(t, b, numbers, 2, 3, 4)
	require.Equal(t, []int{1}, got)
	require.Equal(t, []int{4}, waiting(short))
	require.Equal(t, []int{2, 3, 4}, waiting(long))
}
