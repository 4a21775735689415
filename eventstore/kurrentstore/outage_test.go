package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
)

// stream reads a stream whole.
func (d *store) stream(t testing.TB, name string) []driver.Recorded {
	t.Helper()
	list, err := d.ReadStream(context.Background(), name, 0, driver.Forward, 10_000)
	require.NoError(t, err)
	return list
}

func TestAnAppendWhoseAnswerIsLostIsMadeOnce(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL()+"&defaultDeadline=200", nil)
	ctx := t.Context()
	var n int
	for _, c := range []struct {
		name string
		err  error
		wait bool // the answer is late
	}{
		{"unavailable", esdbdev.Unavailable(), false},
		{"aborted", status.Error(codes.Aborted, "Operation timed out"), false},
		{"deadline exceeded", status.Error(codes.DeadlineExceeded, "too late"), false},
		{"unknown", status.Error(codes.Unknown, "Exception was thrown by handler."), false},
		{"internal", status.Error(codes.Internal, "stream terminated by RST_STREAM"), false},
		{"late", nil, true},
	} {
		for _, when := range []esdbdev.When{esdbdev.Early, esdbdev.BeforeCommit, esdbdev.AfterCommit} {
			for _, x := range []struct {
				name     string
				have     int
				deleted  bool
				expected int64
			}{
				{"no stream", 0, false, driver.NoStream}, {"any", 2, false, driver.Any}, {"any, new", 0, false, driver.Any},
				{"a version", 2, false, 2}, {"a stream that exists", 2, false, driver.StreamExists}, {"a deleted stream", 2, true, driver.NoStream},
			} {
				n++
				what := fmt.Sprintf("%s, moment %d, %s", c.name, when, x.name)
				name := fmt.Sprintf("s-%d", n)
				if x.have > 0 {
					require.NoError(t, d.Append(ctx, driver.Append{Stream: name, Events: events(x.have)}).Err)
				}
				before := d.stream(t, name)
				if x.deleted {
					require.NoError(t, d.Delete(ctx, name, driver.Any))
					before = nil
				}
				f := esdbdev.Fault{Method: esdbdev.MethodAppend, Stream: name, Times: 1, When: when, Err: c.err}
				if c.wait {
					f.Delay = 10 * time.Minute // until the client has gone
				}
				server.Inject(f)
				list := events(3)
				r := d.Append(ctx, driver.Append{Stream: name, Expected: x.expected, Events: list})
				require.NoError(t, r.Err, what)
				require.Equal(t, uint64(x.have+3), r.Version, what)
				stored := d.stream(t, name)
				require.Len(t, stored, len(before)+3, what)
				for i := range list {
					require.Equal(t, list[i].ID, stored[len(before)+i].ID, what)
				}
				require.Equal(t, stored[len(stored)-1].Position, r.Last)
			}
		}
	}
}

func TestAnAppendThatIsNeverAnsweredHasAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), &Options{Patience: 150 * time.Millisecond})
	for when, written := range map[esdbdev.When]int{esdbdev.BeforeCommit: 0, esdbdev.AfterCommit: 2} {
		remove := server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, When: when})
		name := fmt.Sprintf("s-%d", when)
		r := d.Append(t.Context(), driver.Append{Stream: name, Expected: driver.NoStream, Events: events(2)})
		require.ErrorIs(t, r.Err, driver.ErrOutcomeUnknown)
		require.ErrorContains(t, r.Err, "150ms")
		remove()
		require.Len(t, d.stream(t, name), written)
	}

	// A server that only says that it is not the leader has not written anything.
	remove := server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, When: esdbdev.BeforeCommit, Err: esdbdev.NotLeader(server.Addr())})
	r := d.Append(t.Context(), driver.Append{Stream: "s-9", Events: events(1)})
	require.Error(t, r.Err)
	require.NotErrorIs(t, r.Err, driver.ErrOutcomeUnknown)
	remove()

	// Nor has one that refuses.
	remove = server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Err: status.Error(codes.PermissionDenied, "no")})
	start := time.Now()
	r = d.Append(t.Context(), driver.Append{Stream: "s-9", Events: events(1)})
	require.Equal(t, codes.PermissionDenied, status.Code(r.Err))
	require.NotErrorIs(t, r.Err, driver.ErrOutcomeUnknown)
	require.Less(t, time.Since(start), 10*time.Second)
	remove()

	// A caller that leaves while it is being sent knows nothing either.
	until := make(chan struct{})
	defer close(until)
	server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, When: esdbdev.AfterCommit, Until: until, Times: 1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan driver.Result, 1)
	go func() { done <- d.Append(ctx, driver.Append{Stream: "s-10", Events: events(1)}) }()
	require.Eventually(t, func() bool { return len(d.stream(t, "s-10")) == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	r = <-done
	require.ErrorIs(t, r.Err, driver.ErrOutcomeUnknown)
	require.ErrorIs(t, r.Err, context.Canceled)
}

func TestAReadThatStallsIsMadeAgain(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL()+"&defaultDeadline=100", nil)
	require.NoError(t, d.Append(t.Context(), driver.Append{Stream: "s", Events: events(5)}).Err)
	until := make(chan struct{})
	defer close(until)
	for _, after := range []int{0, 1, 4} {
		for range 2 {
			server.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Events: after, Times: 1, Until: until})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		list, err := d.ReadStream(ctx, "s", 0, driver.Forward, 10)
		require.NoError(t, err, "after %d events", after)
		require.Len(t, list, 5, "each once")
		cancel()
	}
}

// A writer appends to streams of its own until it is told to stop, and keeps count.
type writer struct {
	acked, unknown [][16]byte
}

func (w *writer) run(ctx context.Context, t *testing.T, d *store, stream string, stop <-chan struct{}) {
	at := int64(driver.NoStream)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		list := events(1 + i%3)
		expected := at
		if i%2 == 1 {
			expected = driver.Any
		}
		r := d.Append(ctx, driver.Append{Stream: stream, Expected: expected, Events: list})
		for _, e := range list {
			switch {
			case r.Err == nil:
				w.acked = append(w.acked, e.ID)
			case errors.Is(r.Err, driver.ErrOutcomeUnknown):
				w.unknown = append(w.unknown, e.ID)
			}
		}
		var conflict *driver.ConflictError
		switch {
		case r.Err == nil:
			at = int64(r.Version)
		case errors.As(r.Err, &conflict):
			if at = int64(conflict.Actual); at == 0 {
				at = driver.NoStream
			}
		case !errors.Is(r.Err, driver.ErrOutcomeUnknown) && status.Code(r.Err) == codes.Unknown:
			t.Errorf("append: %v", r.Err)
			return
		}
	}
}

func TestNoAcknowledgedEventIsLostAndNoneIsTwice(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	url := server.URL() + "&defaultDeadline=300"
	stop := make(chan struct{})
	var wg sync.WaitGroup
	writers := make([]writer, 8)
	for i := range writers {
		d := openDriver(t, url, &Options{Patience: 2 * time.Second})
		wg.Go(func() { writers[i].run(t.Context(), t, d, fmt.Sprintf("s-%d", i/2), stop) }) // two a stream
	}
	d := openDriver(t, url, nil)
	// What is read meanwhile grows, and nothing of it changes.
	var log []driver.Recorded
	written := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for from := uint64(0); ; {
			last := false
			select {
			case <-written:
				last = true
			default:
			}
			page, scanned, err := d.ReadAll(t.Context(), driver.Filter{}, from, driver.Forward, 100)
			if err != nil {
				continue
			}
			log, from = append(log, page...), scanned
			if last && len(page) == 0 {
				return
			}
		}
	})
	rounds := 3
	if soak() {
		rounds = 40
	}
	for range rounds {
		for _, f := range []esdbdev.Fault{
			{Method: esdbdev.MethodAppend, When: esdbdev.AfterCommit, Times: 5},
			{Method: esdbdev.MethodAppend, When: esdbdev.BeforeCommit, Times: 5},
			{Method: esdbdev.MethodAppend, When: esdbdev.Early, Times: 5, Err: status.Error(codes.Aborted, "")},
			{Method: esdbdev.MethodAppend, When: esdbdev.AfterCommit, Times: 3, Delay: 400 * time.Millisecond},
			{Method: esdbdev.MethodRead, Times: 20},
			{Method: esdbdev.MethodRead, Events: 1, Times: 10},
		} {
			server.Inject(f)
		}
		n := len(d.stream(t, "s-0"))
		require.Eventually(t, func() bool { return len(d.stream(t, "s-0")) > n+5 }, 30*time.Second, 5*time.Millisecond)
		server.Stop()
		require.NoError(t, server.Start(server.Addr()))
	}
	n := len(d.stream(t, "s-1"))
	require.Eventually(t, func() bool { return len(d.stream(t, "s-1")) > n+5 }, 30*time.Second, 5*time.Millisecond)
	close(stop)
	wg.Wait()
	close(written)
	reader.Wait()

	stored := map[[16]byte]int{}
	for i := range 4 {
		for k, r := range d.stream(t, fmt.Sprintf("s-%d", i)) {
			stored[r.ID]++
			require.Equal(t, uint64(k+1), r.Version, "versions are dense")
		}
	}
	acked, unknown := 0, 0
	for _, w := range writers {
		for _, id := range w.acked {
			acked++
			require.Equal(t, 1, stored[id], "an acknowledged event is there once")
		}
		for _, id := range w.unknown {
			unknown++
			require.LessOrEqual(t, stored[id], 1)
		}
	}
	require.Equal(t, len(stored), len(log), "who reads along has everything")
	for i := 1; i < len(log); i++ {
		require.Greater(t, log[i].Position, log[i-1].Position)
	}
	t.Logf("%d acknowledged, %d unknown, %d stored", acked, unknown, len(stored))
}

// cluster is a leader and a follower that shows nothing of what comes from now on.
func cluster(t testing.TB) (leader, follower *esdbdev.Server) {
	t.Helper()
	s := memstore.Open(nil)
	t.Cleanup(func() { s.Close() })
	leader, follower = serveStore(t, s, nil), serveStore(t, s, nil)
	require.NoError(t, leader.SetRole(t.Context(), esdbdev.Role{Followers: []string{follower.Addr()}}))
	require.NoError(t, follower.SetRole(t.Context(), esdbdev.Role{Leader: leader.Addr(), Lag: true}))
	return leader, follower
}

func TestNothingIsReadFromAFollower(t *testing.T) {
	t.Parallel()
	leader, follower := cluster(t)
	ctx := t.Context()
	first := openDriver(t, leader.URL(), nil)
	require.NoError(t, first.Append(ctx, driver.Append{Stream: "s-1", Events: events(3)}).Err)

	// The bare client asks for the leader, and is answered by the follower it is connected to.
	c := bare(t, follower.URL(), nil)
	defer c.Close()
	s, err := c.ReadStream(ctx, "s-1", esdb.ReadStreamOptions{RequiresLeader: true}, 10)
	require.NoError(t, err)
	_, err = s.Recv()
	var stale *esdb.Error
	require.ErrorAs(t, err, &stale, "the bare client reads what is new")
	require.Equal(t, esdb.ErrorCodeResourceNotFound, stale.Code())
	s.Close()

	hosts := leader.Addr() + "," + follower.Addr()
	for name, url := range map[string]string{
		"a follower": follower.URL(), "the leader": leader.URL(), "both": "esdb://" + hosts + "?tls=false",
		"both, preferring followers": "kurrentdb://" + hosts + "?tls=false&nodePreference=follower",
		"discovery":                  "kurrentdb+discover://" + follower.Addr() + "?tls=false",
	} {
		d := openDriver(t, url, nil)
		info, err := d.Stream(ctx, "s-1")
		require.NoError(t, err, name)
		require.Equal(t, uint64(3), info.Version, name)
		require.Len(t, d.stream(t, "s-1"), 3, name)
		head, err := d.Head(ctx)
		require.NoError(t, err, name)
		list, scanned, err := d.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 10)
		require.NoError(t, err, name)
		require.Len(t, list, 3, name)
		require.Equal(t, head, scanned, name)
		var conflict *driver.ConflictError
		require.ErrorAs(t, d.Append(ctx, driver.Append{Stream: "s-1", Expected: 2, Events: events(1)}).Err, &conflict, name)
		require.Equal(t, uint64(3), conflict.Actual, name)
		require.Equal(t, leader.Addr(), d.g.node.addr, name)
	}
}

func TestTheStoreFollowsTheLeader(t *testing.T) {
	t.Parallel()
	a, b := cluster(t)
	ctx := t.Context()
	d := openDriver(t, "esdb://"+a.Addr()+","+b.Addr()+"?tls=false", nil)
	expected := driver.NoStream
	for i := range 6 {
		r := d.Append(ctx, driver.Append{Stream: "s-1", Expected: expected, Events: events(2)})
		require.NoError(t, r.Err)
		require.Equal(t, uint64(2*i+2), r.Version)
		expected = int64(r.Version)
		require.Equal(t, a.Addr(), d.g.node.addr)
		// The leader steps down, and every other time it dies.
		a, b = b, a
		require.NoError(t, a.SetRole(ctx, esdbdev.Role{Followers: []string{b.Addr()}}))
		require.NoError(t, b.SetRole(ctx, esdbdev.Role{Leader: a.Addr(), Lag: true}))
		if i%2 == 1 {
			b.Stop()
			require.Len(t, d.stream(t, "s-1"), 2*i+2)
			require.NoError(t, b.Start(b.Addr()))
		}
		info, err := d.Stream(ctx, "s-1")
		require.NoError(t, err)
		require.Equal(t, uint64(2*i+2), info.Version)
	}
}

func TestWaitGoesOnAfterItsSubscriptionWasDropped(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d, other := openDriver(t, server.URL(), nil), openDriver(t, server.URL(), nil)
	ctx := t.Context()
	made := func() int {
		d.watch.mu.Lock()
		defer d.watch.mu.Unlock()
		return d.watch.made
	}
	var last uint64
	for i := range 4 {
		woken := make(chan error, 1)
		go func() { woken <- d.Wait(ctx, last) }()
		require.Eventually(t, func() bool { return made() > i }, 10*time.Second, time.Millisecond)
		select {
		case err := <-woken:
			t.Fatalf("woken for nothing: %v", err)
		default:
		}
		// A checkpoint is nothing that anybody waits for.
		require.NoError(t, other.SaveCheckpoint(ctx, fmt.Sprint("c", i), nil, driver.Checkpoint{}))
		r := other.Append(ctx, driver.Append{Stream: "s-1", Events: events(1)})
		require.NoError(t, r.Err)
		require.NoError(t, <-woken)
		last = r.Last
		if i%2 == 0 {
			server.DropSubscriptions(nil)
		} else {
			server.Stop()
			require.NoError(t, server.Start(server.Addr()))
		}
	}
}

func TestTheSubscriptionRestsWhenNobodyWaits(t *testing.T) {
	t.Parallel()
	d := openDriver(t, serve(t, nil).URL(), nil)
	w := &d.watch
	require.ErrorIs(t, d.Wait(shortly(), 0), context.Canceled)
	stopped := false
	w.waiting++
	w.rest(func() { stopped = true })
	require.False(t, stopped, "somebody waits")
	w.waiting--
	w.rest(func() { stopped = true })
	require.True(t, stopped)
	require.False(t, w.running)
	require.ErrorIs(t, d.Wait(shortly(), 0), context.Canceled)
	require.True(t, w.running, "it is made again")
}

func TestClosingEndsCallsThatAServerDoesNotAnswer(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	until := make(chan struct{})
	defer close(until)
	d := openDriver(t, server.URL(), nil)
	d.g.grace = 50 * time.Millisecond
	server.Inject(esdbdev.Fault{Until: until})
	errs := make(chan error, 3)
	go func() { _, err := d.Head(t.Context()); errs <- err }()
	go func() { errs <- d.Append(t.Context(), driver.Append{Stream: "s", Events: events(1)}).Err }()
	go func() { errs <- d.Wait(t.Context(), 0) }()
	require.Eventually(t, func() bool {
		d.g.mu.Lock()
		defer d.g.mu.Unlock()
		return d.g.node != nil && d.g.node.users >= 3
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, d.Close())
	for range 3 {
		require.ErrorIs(t, <-errs, driver.ErrClosed)
	}
	require.NoError(t, d.Close())
}

func TestClosingEndsWaitingForAServerThatIsDown(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), &Options{Patience: time.Hour})
	server.Stop()
	errs := make(chan error, 2)
	go func() { _, err := d.Head(t.Context()); errs <- err }()
	go func() { _, err := d.ReadStream(t.Context(), "s", 0, driver.Forward, 1); errs <- err }()
	require.Eventually(t, func() bool {
		d.g.mu.Lock()
		defer d.g.mu.Unlock()
		return d.g.node == nil
	}, 10*time.Second, time.Millisecond)
	start := time.Now()
	require.NoError(t, d.Close())
	require.Less(t, time.Since(start), 4*time.Second)
	for range 2 {
		require.ErrorIs(t, <-errs, driver.ErrClosed)
	}
}

func TestOpeningSaysWhyNobodyAnswers(t *testing.T) {
	t.Parallel()
	addr := down(t)
	start := time.Now()
	_, err := OpenDriver(t.Context(), "esdb://u:hunter2@"+addr+"?tls=false", &Options{Patience: 50 * time.Millisecond})
	require.ErrorContains(t, err, addr)
	require.NotContains(t, err.Error(), "hunter2")
	require.Less(t, time.Since(start), 10*time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, "esdb://"+addr+"?tls=false", nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestTLSAndPasswords(t *testing.T) {
	t.Parallel()
	conf, ca, err := esdbdev.SelfSigned("127.0.0.1")
	require.NoError(t, err)
	server := serve(t, &esdbdev.Options{TLS: conf, User: "ann", Password: "hun:ter2"})
	file := filepath.Join(t.TempDir(), "ca.crt")
	require.NoError(t, os.WriteFile(file, ca, 0o600))
	ctx := t.Context()
	at := "@" + server.Addr() + "?tls=true&tlsCaFile=" + file

	d := openDriver(t, "kurrentdb://ann:hun:ter2"+at, nil)
	require.NoError(t, d.Append(ctx, driver.Append{Stream: "s", Events: events(2)}).Err)
	require.Len(t, d.stream(t, "s"), 2)
	require.NoError(t, d.SaveCheckpoint(ctx, "c", nil, driver.Checkpoint{}))
	require.NoError(t, d.Delete(ctx, "s", 2))

	for name, url := range map[string]string{
		"a wrong password": "esdb://ann:hunter3" + at, "no password": "esdb://" + at[1:],
	} {
		start := time.Now()
		_, err := OpenDriver(ctx, url, nil)
		require.Error(t, err, name)
		require.Contains(t, []codes.Code{codes.Unauthenticated, codes.PermissionDenied}, status.Code(err), "%s: %v", name, err)
		require.NotContains(t, err.Error(), "hunter3", name)
		require.Less(t, time.Since(start), 10*time.Second, "%s is told at once", name)
	}
	short := &Options{Patience: 100 * time.Millisecond}
	_, err = OpenDriver(ctx, "esdb://ann:hun:ter2@"+server.Addr()+"?tls=true", short)
	require.ErrorContains(t, err, "certificate", "an authority that nobody knows")
	require.NotContains(t, err.Error(), "ter2")
	_, err = OpenDriver(ctx, "esdb://ann:hun:ter2@"+server.Addr()+"?tls=true&tlsVerifyCert=false", short)
	require.NoError(t, err)

	// In plain text no password is sent, whatever the string says.
	var seen []string
	f, err := startFake(&fake{})
	require.NoError(t, err)
	t.Cleanup(f.stop)
	openDriver(t, strings.Replace(f.url(), "esdb://", "esdb://ann:hun:ter2@", 1), nil)
	for _, list := range f.headers {
		for _, md := range list {
			seen = append(seen, md.Get("authorization")...)
		}
	}
	require.Empty(t, seen)
}
