package kurrentstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/memstore"
)

// A history is a store whose clock ticks with the events: that at position n is
// recorded n/each seconds after the beginning.
type history struct {
	driver.Store
	each uint64
}

var beginning = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func (h *history) at(position uint64) time.Time {
	return beginning.Add(time.Duration(position/h.each) * time.Second)
}

func (h *history) date(list []driver.Recorded) []driver.Recorded {
	for i := range list {
		list[i].Time = h.at(list[i].Position)
	}
	return list
}

func (h *history) Append(ctx context.Context, a driver.Append) driver.Result {
	r := h.Store.Append(ctx, a)
	r.Time = h.at(r.Last)
	return r
}

func (h *history) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	list, err := h.Store.ReadStream(ctx, stream, from, dir, limit)
	return h.date(list), err
}

func (h *history) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	list, scanned, err := h.Store.ReadAll(ctx, f, from, dir, limit)
	return h.date(list), scanned, err
}

// add appends events to a stream of the store itself, which is quicker than over the network.
func (h *history) add(t require.TestingT, stream string, n int) {
	list := events(n)
	for i := range list {
		list[i].ID = uuid.New()
	}
	require.NoError(t, h.Store.Append(context.Background(), driver.Append{Stream: stream, Events: list}).Err)
}

// check compares PositionAt with the definition, for each of some times.
func (h *history) check(t require.TestingT, ctx context.Context, d *store, times ...time.Time) {
	var log []driver.Recorded
	for from := uint64(0); ; {
		list, scanned, err := d.ReadAll(ctx, driver.Filter{System: true}, from, driver.Forward, 2000)
		require.NoError(t, err)
		log = append(log, list...)
		if scanned == from {
			break
		}
		from = scanned
	}
	for _, at := range times {
		p, err := d.PositionAt(ctx, at)
		require.NoError(t, err)
		for _, r := range log {
			require.Equal(t, r.Position > p, !r.Time.Before(at), "position %d of %v, found %d before %v", r.Position, r.Time, p, at)
		}
	}
}

func historic(t *testing.T, each uint64) (*history, *store, *traffic) {
	t.Helper()
	h := &history{memstore.NewDriver(), each}
	s := eventstore.New(h, nil)
	t.Cleanup(func() { s.Close() })
	d, traffic := counted(t, serveStore(t, s, nil).URL())
	return h, d, traffic
}

func TestAPositionIsFoundByItsTime(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rapid.Check(t, func(r *rapid.T) {
		h := &history{memstore.NewDriver(), uint64(rapid.IntRange(1, 5).Draw(r, "events a second"))}
		s := eventstore.New(h, nil)
		defer s.Close()
		server := serveStore(t, s, nil)
		defer server.Close()
		d := openDriver(t, server.URL(), nil)
		defer d.Close()
		for range rapid.IntRange(1, 30).Draw(r, "appends") {
			h.add(r, fmt.Sprint("s-", rapid.IntRange(0, 4).Draw(r, "stream")), rapid.IntRange(1, 40).Draw(r, "events"))
		}
		for range rapid.IntRange(0, 3).Draw(r, "removals") {
			stream := fmt.Sprint("s-", rapid.IntRange(0, 4).Draw(r, "stream"))
			info, err := d.Stream(ctx, stream)
			if err != nil || info.Version == 0 {
				continue
			}
			switch rapid.IntRange(0, 2).Draw(r, "how") {
			case 0:
				require.NoError(r, d.Truncate(ctx, stream, 1+info.Version/2))
			case 1:
				require.NoError(r, d.Delete(ctx, stream, driver.Any))
			case 2:
				require.NoError(r, d.Purge(ctx, stream))
			}
		}
		head, err := h.Head(ctx)
		require.NoError(r, err)
		for range 4 {
			at := h.at(uint64(rapid.IntRange(0, int(head)+3).Draw(r, "at")))
			h.check(r, ctx, d, at, at.Add(time.Nanosecond), at.Add(-time.Nanosecond))
		}
	})
}

func TestALongLogIsLeaptOver(t *testing.T) {
	t.Parallel()
	h, d, traffic := historic(t, 10)
	const rounds = 60
	for i := range rounds {
		h.add(t, "long-1", 60)
		h.add(t, fmt.Sprint("short-", i), 40)
		h.add(t, "long-2", 1)
	}
	head, err := h.Head(t.Context())
	require.NoError(t, err)
	h.check(t, t.Context(), d, h.at(head/2), h.at(head/3), h.at(head/10), h.at(head/60))
	for _, part := range []uint64{2, 3, 10, 60} {
		at := h.at(head / part)
		_, messages := traffic.during(func() {
			_, err := d.PositionAt(t.Context(), at)
			require.NoError(t, err)
		})
		require.Less(t, messages, int64(head)/10, "of %d events", head)
	}
	// The ends are at hand.
	for _, at := range []time.Time{{}, beginning, h.at(head).Add(time.Hour)} {
		calls, messages := traffic.during(func() {
			_, err := d.PositionAt(t.Context(), at)
			require.NoError(t, err)
		})
		require.LessOrEqual(t, calls, int64(2))
		require.LessOrEqual(t, messages, int64(4))
	}
}

func TestALogOfShortStreamsIsReadBackward(t *testing.T) {
	t.Parallel()
	h, d, _ := historic(t, 7)
	for i := range 900 {
		h.add(t, fmt.Sprint("s-", i), 1+i%3)
	}
	head, err := h.Head(t.Context())
	require.NoError(t, err)
	h.check(t, t.Context(), d, h.at(1), h.at(head/7), h.at(head/2), h.at(head-100), h.at(head))
}
