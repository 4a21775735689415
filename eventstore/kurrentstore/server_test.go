package kurrentstore

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
)

// What other programs do with the server, by the bare client.

func TestADeletionByAnotherProgramIsUnderstood(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	c := bare(t, server.URL(), nil)
	defer c.Close()
	ctx := t.Context()
	for range 3 {
		require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Err)
	}
	_, err := c.DeleteStream(ctx, "s", esdb.DeleteStreamOptions{})
	require.NoError(t, err)
	info, err := d.Stream(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "s", Version: 3, First: 4, Deleted: true, Origin: 3}, info)
	var conflict *driver.ConflictError
	require.ErrorAs(t, d.Append(ctx, driver.Append{Stream: "s", Expected: 3, Events: events(1)}).Err, &conflict)
	require.Zero(t, conflict.Actual)
	r := d.Append(ctx, driver.Append{Stream: "s", Expected: driver.NoStream, Events: events(2)})
	require.NoError(t, r.Err)
	require.Equal(t, uint64(5), r.Version)
	info, err = d.Stream(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "s", Version: 5, First: 4}, info, "that it was deleted is not known any more")

	// Deleted by this driver, then by another program: what the driver wrote down is old.
	require.NoError(t, d.Delete(ctx, "s", 5))
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(2)}).Err)
	_, err = c.DeleteStream(ctx, "s", esdb.DeleteStreamOptions{})
	require.NoError(t, err)
	info, err = d.Stream(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "s", Version: 7, First: 8, Deleted: true, Origin: 7}, info)

	_, err = c.TombstoneStream(ctx, "s", esdb.TombstoneStreamOptions{})
	require.NoError(t, err)
	_, err = d.Stream(ctx, "s")
	require.ErrorIs(t, err, driver.ErrStreamDeleted)
}

func TestMetadataOfOtherProgramsSurviveRemovals(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	c := bare(t, server.URL(), nil)
	defer c.Close()
	ctx := t.Context()
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(9)}).Err)
	set := func(text string) {
		_, err := c.AppendToStream(ctx, "$$s", esdb.AppendToStreamOptions{}, esdb.EventData{EventType: "$metadata", ContentType: esdb.ContentTypeJson, Data: []byte(text)})
		require.NoError(t, err)
	}
	has := func(want string) {
		t.Helper()
		s, err := c.ReadStream(ctx, "$$s", esdb.ReadStreamOptions{From: esdb.End{}, Direction: esdb.Backwards}, 1)
		require.NoError(t, err)
		defer s.Close()
		e, err := s.Recv()
		require.NoError(t, err)
		var m map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(e.Event.Data, &m))
		delete(m, metaDeleter)
		have, err := json.Marshal(m)
		require.NoError(t, err)
		require.JSONEq(t, want, string(have))
	}
	set(`{"$acl":{"$r":["a","b"],"$w":"$all"},"owner":{"n":12345678901234567890}}`)
	require.NoError(t, d.Truncate(ctx, "s", 4))
	has(`{"$acl":{"$r":["a","b"],"$w":"$all"},"owner":{"n":12345678901234567890},"$tb":3}`)
	require.NoError(t, d.Delete(ctx, "s", driver.Any))
	has(`{"$acl":{"$r":["a","b"],"$w":"$all"},"owner":{"n":12345678901234567890},"$tb":9223372036854775807,"levada.deleting":9}`)
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Expected: driver.NoStream, Events: events(6)}).Err)
	has(`{"$acl":{"$r":["a","b"],"$w":"$all"},"owner":{"n":12345678901234567890},"$tb":9,"levada.deleting":9}`)

	// What the server itself leaves out is not there.
	set(`{"$maxCount":2,"$tb":9,"levada.origin":9}`)
	info, err := d.Stream(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "s", Version: 15, First: 14, Origin: 9}, info)
	require.Len(t, d.stream(t, "s"), 2)
	set(`{"$maxAge":3600}`)
	info, err = d.Stream(ctx, "s")
	require.NoError(t, err)
	require.Equal(t, driver.StreamInfo{Name: "s", Version: 15, First: 1}, info, "what another program forgets is forgotten")
}

func TestADeletionWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d, other := openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)
	ctx := t.Context()
	for i := range 4 {
		name := fmt.Sprint("s-", i)
		require.NoError(t, d.Append(ctx, driver.Append{Stream: name, Events: events(4)}).Err)
		until := make(chan struct{})
		when := esdbdev.AfterCommit
		if i%2 == 1 {
			when = esdbdev.BeforeCommit
		}
		server.Inject(esdbdev.Fault{Method: esdbdev.MethodDelete, Stream: name, Times: 1, When: when, Until: until, Err: esdbdev.Unavailable()})
		done := make(chan error, 1)
		go func() { done <- d.Delete(ctx, name, 4) }()
		if when == esdbdev.AfterCommit {
			// It has happened, and somebody begins the stream anew before the deletion is made again.
			require.Eventually(t, func() bool {
				return other.Append(ctx, driver.Append{Stream: name, Expected: driver.NoStream, Events: events(2)}).Err == nil
			}, 10*time.Second, time.Millisecond)
		}
		close(until)
		require.NoError(t, <-done)
		info, err := d.Stream(ctx, name)
		require.NoError(t, err)
		if when == esdbdev.AfterCommit {
			require.Equal(t, driver.StreamInfo{Name: name, Version: 6, First: 5, Origin: 4}, info)
		} else {
			require.Equal(t, driver.StreamInfo{Name: name, Version: 4, First: 5, Deleted: true, Origin: 4}, info)
		}
	}
}

// What doc.go says of an append and a deletion at once, by two processes.
func TestAnAppendAndADeletionAtOnce(t *testing.T) {
	t.Parallel()
	const stood = 4
	appending := func(expected int64) func(context.Context, *store) error {
		return func(ctx context.Context, d *store) error {
			return d.Append(ctx, driver.Append{Stream: "s", Expected: expected, Events: events(1)}).Err
		}
	}
	deleting := func(expected int64) func(context.Context, *store) error {
		return func(ctx context.Context, d *store) error { return d.Delete(ctx, "s", expected) }
	}
	purging := func(ctx context.Context, d *store) error { return d.Purge(ctx, "s") }
	back := driver.StreamInfo{Name: "s", Version: stood + 1, First: stood + 1, Origin: stood}
	for _, c := range []struct {
		name   string
		late   esdbdev.Method // what of the first is held up on its way, until the second has been answered
		asked  int64          // calls that the first makes up to that one
		first  func(context.Context, *store) error
		second func(context.Context, *store) error
		err    error // of the first
		actual uint64
		after  driver.StreamInfo
		purged bool
	}{
		// The server compares the number of the last event, which the deletion leaves as it is.
		{name: "the append at a version comes second and brings the stream back", late: esdbdev.MethodAppend, asked: 2,
			first: appending(stood), second: deleting(stood), after: back},
		{name: "so does one to a stream that exists", late: esdbdev.MethodAppend, asked: 2,
			first: appending(driver.StreamExists), second: deleting(driver.Any), after: back},
		{name: "an append at any version begins the stream anew, as it may", late: esdbdev.MethodAppend, asked: 2,
			first: appending(driver.Any), second: deleting(stood), after: back},
		{name: "a purge is for ever", late: esdbdev.MethodAppend, asked: 2,
			first: appending(stood), second: purging, err: driver.ErrStreamDeleted, purged: true},
		{name: "the deletion of a version comes second and is refused", late: esdbdev.MethodDelete, asked: 4,
			first: deleting(stood), second: appending(stood), err: &driver.ConflictError{}, actual: stood + 1,
			after: driver.StreamInfo{Name: "s", Version: stood + 1, First: 1}},
		{name: "the deletion of whatever there is comes second and deletes more", late: esdbdev.MethodDelete, asked: 4,
			first: deleting(driver.Any), second: appending(stood),
			after: driver.StreamInfo{Name: "s", Version: stood + 1, First: stood + 2, Deleted: true, Origin: stood + 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, nil)
			a, traffic := counted(t, server.URL())
			b := openDriver(t, server.URL(), nil)
			ctx := t.Context()
			require.NoError(t, a.Append(ctx, driver.Append{Stream: "s", Events: events(stood)}).Err)
			release := make(chan struct{})
			remove := server.Inject(esdbdev.Fault{Method: c.late, Stream: "s", Times: 1, When: esdbdev.BeforeCommit, Until: release})
			defer remove()
			before := traffic.calls.Load()
			first := make(chan error, 1)
			go func() { first <- c.first(ctx, a) }()
			require.Eventually(t, func() bool { return traffic.calls.Load() == before+c.asked }, 20*time.Second, time.Millisecond)
			require.NoError(t, c.second(ctx, b))
			close(release)
			err := <-first
			var conflict *driver.ConflictError
			switch {
			case c.actual > 0:
				require.ErrorAs(t, err, &conflict)
				require.Equal(t, c.actual, conflict.Actual)
			case c.err != nil:
				require.ErrorIs(t, err, c.err)
			default:
				require.NoError(t, err)
			}
			info, err := b.Stream(ctx, "s")
			if c.purged {
				require.ErrorIs(t, err, driver.ErrStreamDeleted)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.after, info)
			list, err := b.ReadStream(ctx, "s", 0, driver.Forward, 10)
			require.NoError(t, err)
			require.Len(t, list, int(info.Version-info.First)+1)
		})
	}
}

func TestADeletionThatForgetsMetadataIsMendedAfterwards(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	ctx := t.Context()
	for i, back := range []bool{false, true} {
		name := fmt.Sprint("s-", i)
		require.NoError(t, d.Append(ctx, driver.Append{Stream: name, Events: events(4)}).Err)
		was := (&streamMeta{}).deleting(4, "a call")
		was.members["owner"] = json.RawMessage(`"ann"`)
		// The server deletes, and writes $tb alone; perhaps somebody begins the stream anew.
		require.NoError(t, d.saveMeta(ctx, name, (&streamMeta{}).with(metaTruncate, softDeleted)))
		want := driver.StreamInfo{Name: name, Version: 4, First: 5, Deleted: true, Origin: 4}
		if back {
			require.NoError(t, d.Append(ctx, driver.Append{Stream: name, Expected: driver.NoStream, Events: events(2)}).Err)
			want = driver.StreamInfo{Name: name, Version: 6, First: 5, Origin: 4}
		}
		require.NoError(t, d.restoreMeta(ctx, name, was))
		info, err := d.Stream(ctx, name)
		require.NoError(t, err)
		require.Equal(t, want, info)
		m, err := d.loadMeta(ctx, name)
		require.NoError(t, err)
		require.Equal(t, `"ann"`, string(m.members["owner"]))
	}
}

func TestTheServersOwnEventsAreLeftOutAndPassedOver(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	c := bare(t, server.URL(), nil)
	defer c.Close()
	ctx := t.Context()
	stats := func(n int) (last uint64) {
		for range n {
			w, err := c.AppendToStream(ctx, "$stats-127.0.0.1:2113", esdb.AppendToStreamOptions{}, esdb.EventData{EventType: "$statsCollected", Data: []byte("{}"), ContentType: esdb.ContentTypeJson})
			require.NoError(t, err)
			last = w.CommitPosition
		}
		return last
	}
	stats(30)
	first := d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Last
	stats(30)
	second := d.Append(ctx, driver.Append{Stream: "$sys", Events: events(1)}).Last
	end := stats(30)
	for _, f := range []driver.Filter{{System: true}, {Categories: []string{"s", "$sys"}}} {
		for _, limit := range []int{1, 2, 100} {
			var have []uint64
			from, head := uint64(0), uint64(0)
			for {
				list, scanned, err := d.ReadAll(ctx, f, from, driver.Forward, limit)
				require.NoError(t, err)
				for _, r := range list {
					have = append(have, r.Position)
				}
				if scanned == from {
					break
				}
				from = scanned
			}
			require.Equal(t, []uint64{first, second}, have)
			require.Equal(t, end, from, "scanned is at the last event of the server")
			head, err := d.Head(ctx)
			require.NoError(t, err)
			require.Equal(t, second, head, "the head is the last that can be read")
			have = nil
			for from = 0; ; {
				list, scanned, err := d.ReadAll(ctx, f, from, driver.Backward, limit)
				require.NoError(t, err)
				for _, r := range list {
					have = append(have, r.Position)
				}
				if from = scanned; from == 0 {
					break
				}
			}
			require.Equal(t, []uint64{second, first}, have)
		}
	}
}

func TestWhatTheDriverKeepsIsNoNews(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	ctx := t.Context()
	last := d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Last
	at := func() uint64 {
		list, scanned, err := d.ReadAll(ctx, driver.Filter{System: true}, last, driver.Forward, 100)
		require.NoError(t, err)
		require.Empty(t, list)
		return scanned
	}
	require.Equal(t, last, at())
	var from *driver.Checkpoint
	for i := range 30 {
		to := driver.Checkpoint{Position: uint64(i)}
		require.NoError(t, d.SaveCheckpoint(ctx, "c", from, to))
		from = &to
		_, ok, err := d.Acquire(ctx, "l", "me", time.Minute)
		require.True(t, ok)
		require.NoError(t, err)
		require.Equal(t, last, at(), "a checkpoint would move a checkpoint")
		head, err := d.Head(ctx)
		require.NoError(t, err)
		require.Equal(t, last, head)
	}
	require.Greater(t, d.head.skip(last), last, "it is not read again and again")
	require.Equal(t, last, at())
	next := d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Last
	list, scanned, err := d.ReadAll(ctx, driver.Filter{}, last, driver.Forward, 100)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, next, scanned)
	// More of it than one read looks at does not hold anybody up.
	for i := range 3 * spare {
		to := driver.Checkpoint{Position: uint64(100 + i)}
		require.NoError(t, d.SaveCheckpoint(ctx, "c", from, to))
		from = &to
	}
	final := d.Append(ctx, driver.Append{Stream: "s", Events: events(1)}).Last
	other := openDriver(t, server.URL(), nil)
	for from, tries := next, 0; from < final; tries++ {
		require.Less(t, tries, 100)
		_, from, err = other.ReadAll(ctx, driver.Filter{}, from, driver.Forward, 1)
		require.NoError(t, err)
	}
}

func TestAnEventOfATransactionEndsAReadWithAClearError(t *testing.T) {
	t.Parallel()
	f, err := startFake(&fake{read: func(req *streams.ReadReq, s streams.Streams_ReadServer) error {
		if req.GetOptions().GetReadDirection() == streams.ReadReq_Options_Backwards && req.GetOptions().GetCount() == 1 {
			return nil // for Open
		}
		for i := range uint64(3) {
			e := onServer(t, &driver.Event{ID: uuid.New(), Type: "t"})
			e.StreamIdentifier = identifier("s")
			e.StreamRevision, e.CommitPosition, e.PreparePosition = i, 100+i, 100+i
			if i == 1 {
				e.PreparePosition = 90
			}
			if err := s.Send(&streams.ReadResp{Content: &streams.ReadResp_Event{Event: &streams.ReadResp_ReadEvent{Event: e}}}); err != nil {
				return err
			}
		}
		return nil
	}})
	require.NoError(t, err)
	t.Cleanup(f.stop)
	d := openDriver(t, f.url(), nil)
	ctx := t.Context()
	start := time.Now()
	for name, read := range map[string]func() error{
		"stream": func() error { _, err := d.ReadStream(ctx, "s", 0, driver.Forward, 10); return err },
		"all":    func() error { _, _, err := d.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 10); return err },
		"others": func() error {
			_, _, err := d.ReadAll(ctx, driver.Filter{Types: []string{"x"}}, 0, driver.Backward, 10)
			return err
		},
	} {
		err := read()
		require.ErrorIs(t, err, ErrTransaction, name)
		require.ErrorContains(t, err, "committed at 101, prepared at 90", name)
	}
	require.Less(t, time.Since(start), 10*time.Second, "it is not tried again")
}

// shifted is a store whose clock is wrong.
type shifted struct {
	driver.Store
	by time.Duration
}

func (s *shifted) Append(ctx context.Context, a driver.Append) driver.Result {
	r := s.Store.Append(ctx, a)
	r.Time = r.Time.Add(s.by)
	return r
}

func (s *shifted) shift(list []driver.Recorded) []driver.Recorded {
	for i := range list {
		list[i].Time = list[i].Time.Add(s.by)
	}
	return list
}

func (s *shifted) ReadStream(ctx context.Context, stream string, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, error) {
	list, err := s.Store.ReadStream(ctx, stream, from, dir, limit)
	return s.shift(list), err
}

func (s *shifted) ReadAll(ctx context.Context, f driver.Filter, from uint64, dir driver.Direction, limit int) ([]driver.Recorded, uint64, error) {
	list, scanned, err := s.Store.ReadAll(ctx, f, from, dir, limit)
	return s.shift(list), scanned, err
}

func TestLeasesGoByTheServersClock(t *testing.T) {
	t.Parallel()
	for _, by := range []time.Duration{0, 5 * time.Hour, -5 * time.Hour} {
		s := eventstore.New(&shifted{memstore.NewDriver(), by}, nil)
		t.Cleanup(func() { s.Close() })
		server := serveStore(t, s, nil)
		a, b := openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)
		ctx := t.Context()
		start := time.Now()
		fence, ok, err := a.Acquire(ctx, "g/l", "a", time.Hour)
		require.NoError(t, err)
		require.True(t, ok)
		_, ok, err = b.Acquire(ctx, "g/l", "b", time.Hour)
		require.NoError(t, err)
		require.False(t, ok, "a has it, by %v", by)
		list, err := b.Leases(ctx, "")
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.WithinDuration(t, start.Add(by+time.Hour), list[0].Expires, time.Minute)
		// A short one ends in time, for a process that has never written anything, too.
		_, ok, err = a.Acquire(ctx, "g/l", "a", 40*time.Millisecond)
		require.NoError(t, err)
		require.True(t, ok)
		c := openDriver(t, server.URL(), nil)
		var second uint64
		require.Eventually(t, func() bool {
			second, ok, err = c.Acquire(ctx, "g/l", "c", time.Hour)
			return err == nil && ok
		}, 20*time.Second, time.Millisecond)
		require.Greater(t, second, fence)
		_, ok, err = a.Acquire(ctx, "g/l", "a", time.Hour)
		require.NoError(t, err)
		require.False(t, ok, "it is c's now")
		require.NoError(t, a.Release(ctx, "g/l", "a", fence))
		_, ok, err = b.Acquire(ctx, "g/l", "b", time.Hour)
		require.NoError(t, err)
		require.False(t, ok)
	}
}

func TestALeaseIsNotTakenBeforeItsTime(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	ctx := t.Context()
	holder := openDriver(t, server.URL(), nil)
	const ttl = 80 * time.Millisecond
	for round := range 3 {
		name := fmt.Sprint("g/", round)
		_, ok, err := holder.Acquire(ctx, name, "holder", ttl)
		require.NoError(t, err)
		require.True(t, ok)
		held, err := holder.loadLeases(ctx, "g")
		require.NoError(t, err)
		other := openDriver(t, server.URL(), nil)
		require.Eventually(t, func() bool {
			_, ok, err = other.Acquire(ctx, name, "other", ttl)
			return err == nil && ok
		}, 20*time.Second, time.Millisecond)
		taken, err := other.loadLeases(ctx, "g")
		require.NoError(t, err)
		require.Equal(t, "other", taken.leases[name].Owner)
		granted := taken.leases[name].Until - ttl.Microseconds() // by the server's clock
		require.GreaterOrEqual(t, granted, held.leases[name].Until)
	}
}

func TestLeasesOfManyMembersAtOnce(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	ctx := t.Context()
	drivers := []*store{openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)}
	const each = 12
	type grant struct {
		fence uint64
		ok    bool
		err   error
	}
	grants := make(chan grant, len(drivers)*each)
	for i, d := range drivers {
		for k := range each {
			go func() { // each lease by all drivers
				fence, ok, err := d.Acquire(ctx, fmt.Sprintf("g/%d", k), fmt.Sprint("member ", i), time.Hour)
				grants <- grant{fence, ok, err}
			}()
		}
	}
	fences := map[uint64]bool{}
	for range len(drivers) * each {
		g := <-grants
		require.NoError(t, g.err)
		if g.ok {
			require.False(t, fences[g.fence], "a fence is granted once")
			fences[g.fence] = true
		}
	}
	require.Len(t, fences, each)
	list, err := drivers[0].Leases(ctx, "g/")
	require.NoError(t, err)
	require.Len(t, list, each)
}

func TestACheckpointIsListedWhoeverDeletesItMeanwhile(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	ctx := t.Context()
	a, b := openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)
	for i := range 30 {
		name := fmt.Sprint("c", i%3)
		done := make(chan error, 1)
		go func() { done <- b.DeleteCheckpoint(ctx, name) }()
		err := a.SaveCheckpoint(ctx, name, nil, driver.Checkpoint{Position: uint64(i)})
		require.NoError(t, <-done)
		if err != nil {
			require.ErrorIs(t, err, driver.ErrMoved)
		}
		for _, d := range []*store{a, b} {
			list, err := d.Checkpoints(ctx, "")
			require.NoError(t, err)
			for k := range 3 {
				name := fmt.Sprint("c", k)
				c, ok, err := d.LoadCheckpoint(ctx, name)
				require.NoError(t, err)
				have, listed := list[name]
				require.Equal(t, ok, listed, name)
				require.Equal(t, c, have)
			}
		}
	}
}

func TestWhatCameBackIsReadWhereverAPageBegins(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	ctx := t.Context()
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(3)}).Err)
	require.NoError(t, d.Delete(ctx, "s", 3))
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Expected: driver.NoStream, Events: events(3)}).Err)
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "cut", Events: events(4)}).Err)
	require.NoError(t, d.Truncate(ctx, "cut", 4))
	want := map[string][]uint64{"s": {4, 5, 6}, "cut": {4}}
	for _, dir := range []driver.Direction{driver.Forward, driver.Backward} {
		for limit := 1; limit < 12; limit++ {
			have := map[string][]uint64{}
			for from := uint64(0); ; {
				list, scanned, err := d.ReadAll(ctx, driver.Filter{}, from, dir, limit)
				require.NoError(t, err)
				for _, r := range list {
					if dir == driver.Forward {
						have[r.Stream] = append(have[r.Stream], r.Version)
					} else {
						have[r.Stream] = append([]uint64{r.Version}, have[r.Stream]...)
					}
				}
				if scanned == from || scanned == 0 {
					break
				}
				from = scanned
			}
			require.Equal(t, want, have, "direction %d, limit %d", dir, limit)
		}
	}
}
