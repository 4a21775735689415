package natswire_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/internal/natswire"
	"github.com/levada-go/levada/internal/natswire/natswiretest"
)

func TestEveryNameIsOneTokenAndNoTwoAreTheSame(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^[A-Za-z0-9_=-]{1,160}$`)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringN(1, 255, 255), rapid.StringMatching(`[.*> =a-c]{1,4}`), rapid.StringMatching(`=[0-9A-F]{2,64}`))
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		ta, carried := natswire.Token(a)
		tb, _ := natswire.Token(b)
		require.Regexp(t, shape, ta)
		require.Equal(t, a == b, ta == tb)
		require.Equal(t, strings.HasPrefix(ta, "=="), carried != "", "what is hashed is carried")
	})
	token, carried := natswire.Token("round 1.a")
	require.Equal(t, "round=201=2Ea", token)
	require.Empty(t, carried)
}

// sink collects what is delivered to a subscription.
type sink chan []byte

func (s sink) receive(t testing.TB) []byte {
	t.Helper()
	select {
	case m := <-s:
		return m
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing came")
		return nil
	}
}

func conn(nc *nats.Conn, log *bytes.Buffer, pending int) *natswire.Conn {
	return natswire.New(nc, natswire.Config{
		Package: "natswire", MaxBytes: 1 << 20, PendingMessages: pending, PendingBytes: 64 << 20, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
}

func subscribe(t testing.TB, nc *nats.Conn, c *natswire.Conn, subject, carried string) sink {
	t.Helper()
	got := make(sink, 100)
	_, err := c.Subscribe(subject, carried, func(m []byte) { got <- bytes.Clone(m) })
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return got
}

func TestAMessageOfAnySizeArrivesAsItWasWhateverTheServerTakes(t *testing.T) {
	t.Parallel()
	for _, limit := range []int32{400, 1 << 12, 1 << 20} {
		nc := natswiretest.Connect(t, natswiretest.Run(t, server.Options{MaxPayload: limit}))
		var log bytes.Buffer
		c := conn(nc, &log, 1<<20)
		all := make([]byte, 1<<20)
		for i := range all {
			all[i] = byte(rand.Uint32())
		}
		for _, carried := range []string{"", strings.Repeat("=20", 33)} {
			got := subscribe(t, nc, c, "x", carried)
			other := subscribe(t, nc, c, "x", "of the same hash")
			for _, n := range []int{0, 1, int(limit) - 200, int(limit) - 1, int(limit), int(limit) + 1, 3 * int(limit), 1 << 20} {
				n = min(n, 1<<20)
				require.NoError(t, c.Publish("x", carried, all[:n]))
				require.True(t, bytes.Equal(all[:n], got.receive(t)), "%d bytes, the server takes %d, %q", n, limit, carried)
			}
			require.Empty(t, other)
			require.ErrorIs(t, c.Publish("x", carried, append(all, 0)), natswire.ErrTooLarge)
		}
	}
}

func TestAServerThatTakesNextToNothingIsRefused(t *testing.T) {
	t.Parallel()
	nc := natswiretest.Connect(t, natswiretest.Run(t, server.Options{MaxPayload: 100}))
	c := conn(nc, new(bytes.Buffer), 10)
	got := subscribe(t, nc, c, "x", "")
	require.ErrorIs(t, c.Publish("x", "", make([]byte, 101)), natswire.ErrTooLarge)
	require.NoError(t, c.Publish("x", "", make([]byte, 100)))
	require.Len(t, got.receive(t), 100)
}

func part(sender string, number, index, parts int) nats.Header {
	return nats.Header{"Levada-Part": {fmt.Sprintf("%s %d %d %d", sender, number, index, parts)}}
}

func TestAMessageThatLostAPartIsLostAloneAndCountedOnce(t *testing.T) {
	t.Parallel()
	r := natswire.Receiver{MaxBytes: 10}
	take := func(h nats.Header, data string) string {
		m, err := r.Take(h, []byte(data))
		switch {
		case m != nil && err != nil:
			return string(m) + "!"
		case err != nil:
			return "!"
		case m != nil:
			return string(m)
		}
		return "-"
	}
	for i, step := range []struct {
		header     nats.Header
		data, want string
	}{
		{part("a", 1, 0, 3), "x", "-"},
		{part("b", 1, 0, 2), "B", "-"}, // senders do not disturb each other
		{nil, "whole", "whole"},
		{part("a", 1, 2, 3), "z", "!"}, // the middle is lost
		{part("b", 1, 1, 2), "B", "BB"},
		{part("a", 2, 1, 2), "z", "!"}, // the beginning is lost
		{part("a", 3, 1, 3), "y", "-"}, // the same, and counted with the last
		{part("a", 3, 2, 3), "z", "!"},
		{part("a", 4, 0, 2), "x", "-"},
		{part("a", 5, 0, 1), "new", "new!"}, // the end of 4 is lost
		{part("a", 6, 0, 2), "12345", "-"},
		{part("a", 6, 1, 2), "678901", "!"}, // over the limit
		{nil, "12345678901", "!"},
		{part("a", 7, 0, 2), "", "!"}, // malformed
		{part("a", 8, 2, 2), "x", "!"},
		{nats.Header{"Levada-Part": {"a -1 0 1"}}, "x", "!"},
		{nats.Header{"Levada-Part": {"a 1 0 1 1"}}, "x", "!"},
		{nats.Header{"Levada-Part": {strings.Repeat("a", 200) + " 1 0 1"}}, "x", "!"},
		{nats.Header{"Levada-Name": {"other"}}, "x", "!"},
		{part("a", 9, 0, 2), "x", "-"},
		{part("a", 9, 1, 2), "y", "xy"},
	} {
		require.Equal(t, step.want, take(step.header, step.data), "step %d", i)
	}
}

func TestPartsThatNeverEndTakeNoMoreThanFourMessages(t *testing.T) {
	t.Parallel()
	r := natswire.Receiver{MaxBytes: 10}
	var lost int
	for i := range 8 {
		_, err := r.Take(part(fmt.Sprint(i), 1, 0, 2), []byte("12345678"))
		if err != nil {
			lost++
		}
	}
	require.Equal(t, 3, lost, "five times eight bytes are at most 40")
	m, err := r.Take(part("7", 1, 1, 2), []byte("9"))
	require.NoError(t, err)
	require.Equal(t, "123456789", string(m), "the newest stay")
}

func FuzzReceiverTakesAnything(f *testing.F) {
	f.Add("a 1 0 2", "a 1 1 2", []byte("x"))
	f.Add("a 1 0 1", "", []byte("x"))
	f.Fuzz(func(t *testing.T, one, two string, data []byte) {
		r := natswire.Receiver{MaxBytes: 64}
		for _, p := range []string{one, two, one, two} {
			m, err := r.Take(nats.Header{"Levada-Part": {p}}, data)
			require.False(t, m == nil && len(p) == 0 && err == nil)
			require.LessOrEqual(t, len(m), 64)
		}
	})
}

func TestASlowReceiverLosesMessagesAndHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	node := natswiretest.Run(t, server.Options{})
	nc, other := natswiretest.Connect(t, node, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})), natswiretest.Connect(t, node)
	var log bytes.Buffer
	c := conn(nc, &log, 10)
	hold, began := make(chan struct{}), make(chan struct{}, 1000)
	var got []byte
	_, err := c.Subscribe("slow", "", func(m []byte) {
		got = append(got, m...)
		began <- struct{}{}
		<-hold
	})
	require.NoError(t, err)
	quick := subscribe(t, nc, c, "quick", "")
	p := conn(other, &log, 10)
	for i := range 100 {
		require.NoError(t, p.Publish("slow", "", []byte{byte(i)}))
	}
	require.NoError(t, p.Publish("quick", "", []byte("still here")))
	require.Equal(t, "still here", string(quick.receive(t)), "another subscription of the same connection")
	close(hold)
	for range 10 { // the one that is being delivered waits, too
		select {
		case <-began:
		case <-time.After(20 * time.Second):
			require.FailNow(t, "what waited did not come")
		}
	}
	require.NoError(t, p.Publish("slow", "", []byte{100}))
	<-began
	require.EqualValues(t, 90, c.Dropped())
	require.Equal(t, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100}, got)
	require.Equal(t, 1, strings.Count(log.String(), "natswire: messages dropped"))
	require.Contains(t, log.String(), "dropped=90")
}
