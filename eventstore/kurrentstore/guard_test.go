package kurrentstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/freeport"
)

// Each test of a fault of esdb.Client shows first that it has it, so that a later client without it is noticed.

// bare returns the official client as it is.
func bare(t testing.TB, url string, change func(*esdb.Configuration)) *esdb.Client {
	t.Helper()
	conf, err := esdb.ParseConnectionString(url)
	require.NoError(t, err)
	conf.Logger = esdb.NoopLogging()
	if change != nil {
		change(conf)
	}
	c, err := esdb.NewClient(conf)
	require.NoError(t, err)
	return c
}

// What would hang or end the process of the tests, or is counted by goroutines, runs in another one.
const childEnv = "LEVADA_KURRENT_CHILD"

var children = map[string]func() int{
	"bare callers hang":    childHang,
	"bare close panics":    childPanic,
	"bare reconnect leaks": childLeak,
	"store leaks nothing":  childNoLeak,
}

func child(t *testing.T, name string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, exe, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// number returns the number that a child told under a name.
func number(t *testing.T, output, name string) int {
	t.Helper()
	_, rest, ok := strings.Cut(output, name+"=")
	require.True(t, ok, "no %s in %q", name, output)
	text, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

// down returns an address at which nobody answers.
func down(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

const (
	callers      = 64
	callerBudget = 300 * time.Millisecond
)

func childHang() int {
	conf, _ := esdb.ParseConnectionString("esdb://" + down(nil) + "?tls=false&maxDiscoverAttempts=1")
	conf.Logger = esdb.NoopLogging()
	c, err := esdb.NewClient(conf)
	if err != nil {
		return 1
	}
	var back atomic.Int64
	for range callers {
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), callerBudget)
			defer cancel()
			if s, err := c.ReadAll(ctx, esdb.ReadAllOptions{}, 1); err == nil {
				s.Close()
			}
			back.Add(1)
		}()
	}
	time.Sleep(3 * time.Second) // ten times what they were ready to wait
	fmt.Printf("back=%d\n", back.Load())
	return 0
}

func TestCallersComeBackInTimeWhenNoServerAnswers(t *testing.T) {
	t.Parallel()
	out, err := child(t, "bare callers hang")
	require.NoError(t, err, out)
	require.Less(t, number(t, out, "back"), callers, "the bare client does not hang any more")

	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	server.Stop()
	var wg sync.WaitGroup
	errs := make([]error, callers)
	start := time.Now()
	for i := range errs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), callerBudget)
			defer cancel()
			_, errs[i] = d.Head(ctx)
		})
	}
	wg.Wait()
	require.Less(t, time.Since(start), 20*callerBudget)
	for _, err := range errs {
		require.ErrorIs(t, err, context.DeadlineExceeded)
	}
}

func TestTheStoreGoesOnAfterTheServerWasDown(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	ctx := t.Context()
	c := bare(t, server.URL()+"&maxDiscoverAttempts=1", nil) // not closed: it would panic if a call hangs
	d := openDriver(t, server.URL(), &Options{Patience: 300 * time.Millisecond})
	hangs := errors.New("it hangs")
	read := func() error {
		done := make(chan error, 1)
		go func() {
			s, err := c.ReadAll(ctx, esdb.ReadAllOptions{}, 1)
			if err == nil {
				_, err = s.Recv()
				s.Close()
			}
			if errors.Is(err, io.EOF) {
				err = nil
			}
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-time.After(2 * time.Second):
			return hangs
		}
	}
	dead := func() bool {
		err := read()
		var closed *esdb.Error
		return errors.Is(err, hangs) || errors.As(err, &closed) && closed.Code() == esdb.ErrorCodeConnectionClosed
	}
	require.NoError(t, read())
	_, err := d.Head(ctx)
	require.NoError(t, err)
	// A failure in the middle of a call has the client search; one that it sees before it calls has not.
	server.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Times: 1})
	require.Error(t, read())
	server.Stop()
	require.Eventually(t, dead, 30*time.Second, time.Millisecond, "it notices, it searches, and it is dead")
	_, err = d.Head(ctx)
	require.Error(t, err)
	require.Equal(t, codes.Unavailable, status.Code(err), "the reason is told: %v", err)
	require.NoError(t, server.Start(server.Addr()))
	require.True(t, dead(), "the bare client recovers now")
	require.Eventually(t, func() bool { _, err := d.Head(ctx); return err == nil }, 30*time.Second, time.Millisecond)
}

// unavailable is a server that refuses every read at once.
func unavailable() (*fake, error) {
	return startFake(&fake{read: func(*streams.ReadReq, streams.Streams_ReadServer) error {
		return status.Error(codes.Unavailable, "not ready")
	}})
}

func childPanic() int {
	f, err := unavailable()
	if err != nil {
		return 1
	}
	for range 200 {
		conf, _ := esdb.ParseConnectionString(f.url())
		conf.Logger = esdb.NoopLogging()
		c, _ := esdb.NewClient(conf)
		var failed atomic.Int64
		for range 32 {
			go func() {
				for {
					s, err := c.ReadAll(context.Background(), esdb.ReadAllOptions{}, 1)
					if err != nil {
						return
					}
					s.Recv()
					s.Close()
					failed.Add(1)
				}
			}()
		}
		for failed.Load() < 50 {
			time.Sleep(time.Millisecond)
		}
		c.Close()
	}
	return 0
}

func TestClosingWhileCallsFailDoesNotPanic(t *testing.T) {
	t.Parallel()
	out, err := child(t, "bare close panics")
	require.Error(t, err, "the bare client does not panic any more")
	require.Contains(t, out, "send on closed channel")

	ready := atomic.Bool{}
	f, err := startFake(&fake{read: func(_ *streams.ReadReq, s streams.Streams_ReadServer) error {
		if ready.Load() {
			return status.Error(codes.Unavailable, "not ready")
		}
		return nil
	}})
	require.NoError(t, err)
	t.Cleanup(f.stop)
	for range 20 {
		ready.Store(false)
		d := openDriver(t, f.url(), nil)
		ready.Store(true)
		var wg sync.WaitGroup
		var started atomic.Int64
		for range 32 {
			wg.Go(func() {
				started.Add(1)
				for range 10 {
					if _, err := d.Head(t.Context()); errors.Is(err, driver.ErrClosed) {
						return
					}
				}
			})
		}
		require.Eventually(t, func() bool { return started.Load() == 32 }, 10*time.Second, time.Millisecond)
		require.NoError(t, d.Close())
		require.NoError(t, d.Close())
		wg.Wait()
	}
}

func childLeak() int {
	s := memstore.Open(nil)
	server, _ := esdbdev.New(s, nil)
	if err := freeport.Start(server.Start); err != nil {
		return 1
	}
	conf, _ := esdb.ParseConnectionString(server.URL() + "&maxDiscoverAttempts=1000&discoveryInterval=5")
	conf.Logger = esdb.NoopLogging()
	c, _ := esdb.NewClient(conf)
	read := func() error {
		s, err := c.ReadAll(context.Background(), esdb.ReadAllOptions{}, 1)
		if err != nil {
			return err
		}
		defer s.Close()
		if _, err := s.Recv(); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	}
	return reconnects(server, read)
}

func childNoLeak() int {
	s := memstore.Open(nil)
	server, _ := esdbdev.New(s, nil)
	if err := freeport.Start(server.Start); err != nil {
		return 1
	}
	before := settled()
	d, err := OpenDriver(context.Background(), server.URL(), nil)
	if err != nil {
		return 1
	}
	waiting := make(chan error, 1)
	go func() { waiting <- d.Wait(context.Background(), 1) }() // and a subscription
	code := reconnects(server, func() error {
		_, err := d.Head(context.Background())
		return err
	})
	// Closing while no server is there leaves no search behind.
	server.Stop()
	d.Head(shortly())
	d.Close()
	<-waiting
	d.Close()
	fmt.Printf("left=%d\n", settled()-before)
	return code
}

// shortly is a context that ends soon.
func shortly() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	return ctx
}

// reconnects stops and starts a server ten times, and tells how many goroutines there are more than after the first time.
func reconnects(server *esdbdev.Server, read func() error) int {
	first := 0
	for i := range 11 {
		server.Stop()
		if err := server.Start(server.Addr()); err != nil {
			fmt.Println(err)
			return 1
		}
		for read() != nil {
			time.Sleep(time.Millisecond)
		}
		if i == 0 {
			first = settled()
		}
	}
	fmt.Printf("more=%d\n", settled()-first)
	return 0
}

// settled counts goroutines when their number has stayed the same for a while.
func settled() int {
	last, since := runtime.NumGoroutine(), time.Now()
	for time.Since(since) < 300*time.Millisecond {
		time.Sleep(5 * time.Millisecond)
		if n := runtime.NumGoroutine(); n != last {
			last, since = n, time.Now()
		}
	}
	return last
}

func TestConnectingAgainLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	out, err := child(t, "bare reconnect leaks")
	require.NoError(t, err, out)
	require.GreaterOrEqual(t, number(t, out, "more"), 10, "the bare client leaks no connection any more")
	out, err = child(t, "store leaks nothing")
	require.NoError(t, err, out)
	require.Less(t, number(t, out, "more"), 5)
	require.LessOrEqual(t, number(t, out, "left"), 0)
}

// A fake is a server of whose calls each can be what a test wants.
type fake struct {
	streams.UnimplementedStreamsServer
	read   func(*streams.ReadReq, streams.Streams_ReadServer) error
	append func(streams.Streams_AppendServer) error

	ln   net.Listener
	grpc *grpc.Server

	mu       sync.Mutex
	headers  map[string][]metadata.MD // by method
	requests []proto.Message
}

func startFake(f *fake) (*fake, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.ln, f.grpc, f.headers = ln, grpc.NewServer(), map[string][]metadata.MD{}
	streams.RegisterStreamsServer(f.grpc, f)
	go f.grpc.Serve(ln)
	return f, nil
}

func (f *fake) stop()       { f.grpc.Stop() }
func (f *fake) url() string { return "esdb://" + f.ln.Addr().String() + "?tls=false" }

func (f *fake) note(ctx context.Context, method string, req proto.Message) {
	md, _ := metadata.FromIncomingContext(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.headers[method] = append(f.headers[method], md)
	f.requests = append(f.requests, req)
}

// take returns what was requested since the last time.
func (f *fake) take() []proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.requests
	f.requests = nil
	return list
}

func (f *fake) Read(req *streams.ReadReq, s streams.Streams_ReadServer) error {
	f.note(s.Context(), "Read", req)
	if f.read != nil {
		return f.read(req, s)
	}
	return nil
}

func (f *fake) Append(s streams.Streams_AppendServer) error {
	if f.append != nil {
		f.note(s.Context(), "Append", nil)
		return f.append(s)
	}
	for {
		req, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		f.note(s.Context(), "Append", req)
	}
	return s.SendAndClose(&streams.AppendResp{Result: &streams.AppendResp_Success_{Success: &streams.AppendResp_Success{
		CurrentRevisionOption: &streams.AppendResp_Success_CurrentRevision{CurrentRevision: 4},
		PositionOption:        &streams.AppendResp_Success_Position{Position: &streams.AppendResp_Position{CommitPosition: 9, PreparePosition: 9}},
	}}})
}

func (f *fake) Delete(ctx context.Context, req *streams.DeleteReq) (*streams.DeleteResp, error) {
	f.note(ctx, "Delete", req)
	return &streams.DeleteResp{PositionOption: &streams.DeleteResp_Position_{Position: &streams.DeleteResp_Position{}}}, nil
}

func (f *fake) Tombstone(ctx context.Context, req *streams.TombstoneReq) (*streams.TombstoneResp, error) {
	f.note(ctx, "Tombstone", req)
	return &streams.TombstoneResp{PositionOption: &streams.TombstoneResp_Position_{Position: &streams.TombstoneResp_Position{}}}, nil
}

// call makes one call with the store's guard.
func (d *store) try(t testing.TB, op func(context.Context, *node) error) {
	t.Helper()
	ctx, done, err := d.g.begin(t.Context())
	require.NoError(t, err)
	defer done()
	_, err = d.g.do(ctx, op)
	require.NoError(t, err)
}

func TestEveryCallIsForTheLeader(t *testing.T) {
	t.Parallel()
	f, err := startFake(&fake{})
	require.NoError(t, err)
	t.Cleanup(f.stop)

	c := bare(t, f.url(), nil)
	defer c.Close()
	s, err := c.ReadStream(t.Context(), "s", esdb.ReadStreamOptions{RequiresLeader: true}, 1)
	require.NoError(t, err)
	s.Recv()
	_, err = c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{RequiresLeader: true}, esdb.EventData{EventType: "t"})
	require.NoError(t, err)
	for method, list := range f.headers {
		for _, md := range list {
			require.Empty(t, md.Get("requires-leader"), "the bare client says it in %s", method)
		}
	}
	clear(f.headers)

	d := openDriver(t, f.url(), nil)
	d.try(t, func(ctx context.Context, n *node) error {
		_, err := d.g.append(ctx, n, "s", at(3), []*proposed{{}})
		return err
	})
	d.try(t, func(ctx context.Context, n *node) error { return d.g.delete(ctx, n, "s", 3) })
	d.try(t, func(ctx context.Context, n *node) error { return d.g.tombstone(ctx, n, "s") })
	d.Wait(shortly(), 1)
	require.NoError(t, d.Close())
	for _, method := range []string{"Read", "Append", "Delete", "Tombstone"} {
		require.NotEmpty(t, f.headers[method], method)
		for _, md := range f.headers[method] {
			require.Equal(t, []string{"true"}, md.Get("requires-leader"), method)
		}
	}
}

func TestRequestsAreThoseOfTheOfficialClient(t *testing.T) {
	t.Parallel()
	f, err := startFake(&fake{read: func(req *streams.ReadReq, s streams.Streams_ReadServer) error {
		if req.GetOptions().GetSubscription() != nil {
			return s.Send(&streams.ReadResp{Content: &streams.ReadResp_Confirmation{Confirmation: &streams.ReadResp_SubscriptionConfirmation{}}})
		}
		return nil
	}})
	require.NoError(t, err)
	t.Cleanup(f.stop)
	c := bare(t, f.url(), nil)
	defer c.Close()
	d := openDriver(t, f.url(), nil)
	f.take()
	ctx := t.Context()
	drain := func(s *esdb.ReadStream, err error) {
		require.NoError(t, err)
		defer s.Close()
		s.Recv()
	}
	read := func(opt *readReq) func(context.Context, *node) error {
		return func(ctx context.Context, n *node) error {
			return d.g.read(ctx, n, opt, func(*recorded) error { return nil })
		}
	}
	id := uuid.New()
	e := driver.Event{ID: id, Type: "opened", ContentType: wireJSON, Data: []byte(`{"a":1}`), Metadata: map[string]string{"k": "v"}}
	sent, _, err := encode(&e)
	require.NoError(t, err)
	event := esdb.EventData{EventID: id, EventType: "opened", ContentType: esdb.ContentTypeJson, Data: []byte(`{"a":1}`), Metadata: []byte(`{"k":"v"}`)}
	for name, c := range map[string]struct {
		theirs func()
		ours   func(context.Context, *node) error
	}{
		"a stream from its start": {
			func() { drain(c.ReadStream(ctx, "s-1", esdb.ReadStreamOptions{From: esdb.Start{}}, 7)) }, read(readStream("s-1", 0, 7, false))},
		"a stream from a revision": {
			func() { drain(c.ReadStream(ctx, "s-1", esdb.ReadStreamOptions{From: esdb.Revision(4)}, 7)) }, read(readStream("s-1", 5, 7, false))},
		"a stream backward from its end": {
			func() {
				drain(c.ReadStream(ctx, "s-1", esdb.ReadStreamOptions{From: esdb.End{}, Direction: esdb.Backwards}, 1))
			}, read(readStream("s-1", 0, 1, true))},
		"a stream backward from a revision": {
			func() {
				drain(c.ReadStream(ctx, "s-1", esdb.ReadStreamOptions{From: esdb.Revision(4), Direction: esdb.Backwards}, 1))
			}, read(readStream("s-1", 5, 1, true))},
		"everything": {
			func() { drain(c.ReadAll(ctx, esdb.ReadAllOptions{From: esdb.Start{}}, 9)) }, read(readAll(0, 9, false))},
		"everything from a position": {
			func() {
				drain(c.ReadAll(ctx, esdb.ReadAllOptions{From: esdb.Position{Commit: 77, Prepare: 77}}, 9))
			}, read(readAll(77, 9, false))},
		"everything backward": {
			func() {
				drain(c.ReadAll(ctx, esdb.ReadAllOptions{From: esdb.End{}, Direction: esdb.Backwards}, 9))
			}, read(readAll(0, 9, true))},
		"everything backward from a position": {
			func() {
				drain(c.ReadAll(ctx, esdb.ReadAllOptions{From: esdb.Position{Commit: 77, Prepare: 77}, Direction: esdb.Backwards}, 9))
			}, read(readAll(77, 9, true))},
		"a subscription": {
			func() {
				s, err := c.SubscribeToAll(ctx, esdb.SubscribeToAllOptions{From: esdb.End{}})
				require.NoError(t, err)
				s.Close()
			},
			func(ctx context.Context, n *node) error {
				err := d.g.subscribe(ctx, n, func() {}, func(*recorded) {})
				if errors.Is(err, io.EOF) {
					err = nil // it ended as the server wanted
				}
				return err
			}},
		"an append to no stream": {
			func() {
				c.AppendToStream(ctx, "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, event, event)
			},
			func(ctx context.Context, n *node) error {
				_, err := d.g.append(ctx, n, "s-1", at(0), []*proposed{sent, sent})
				return err
			}},
		"an append at a revision": {
			func() {
				c.AppendToStream(ctx, "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(2)}, event)
			},
			func(ctx context.Context, n *node) error {
				_, err := d.g.append(ctx, n, "s-1", at(3), []*proposed{sent})
				return err
			}},
		"a delete": {
			func() {
				c.DeleteStream(ctx, "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(2)})
			},
			func(ctx context.Context, n *node) error { return d.g.delete(ctx, n, "s-1", 3) }},
		"a tombstone": {
			func() { c.TombstoneStream(ctx, "s-1", esdb.TombstoneStreamOptions{}) },
			func(ctx context.Context, n *node) error { return d.g.tombstone(ctx, n, "s-1") }},
	} {
		c.theirs()
		want := f.take()
		require.NotEmpty(t, want, name)
		d.try(t, c.ours)
		have := f.take()
		require.Len(t, have, len(want), name)
		for i := range want {
			require.True(t, proto.Equal(want[i], have[i]), "%s:\n%v\n%v", name, want[i], have[i])
		}
	}
}

func TestTheReasonOfAServerThatAnswersEarlyIsTold(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, When: esdbdev.Early, Err: esdbdev.TooLarge(1000)})
	big := make([]byte, 200<<10)

	c := bare(t, server.URL(), nil)
	defer c.Close()
	lost := 0
	for range 20 {
		events := make([]esdb.EventData, 4)
		for i := range events {
			events[i] = esdb.EventData{EventType: "t", Data: big}
		}
		_, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{}, events...)
		require.Error(t, err)
		if strings.Contains(err.Error(), "EOF") {
			lost++
		}
	}
	require.NotZero(t, lost, "the bare client loses no reason any more")

	d := openDriver(t, server.URL(), nil)
	for range 20 {
		var list []driver.Event
		for range 4 {
			list = append(list, driver.Event{ID: uuid.New(), Type: "t", Data: big})
		}
		r := d.Append(t.Context(), driver.Append{Stream: "s", Events: list})
		require.ErrorIs(t, r.Err, driver.ErrTooLarge)
		require.NotErrorIs(t, r.Err, driver.ErrOutcomeUnknown)
		require.ErrorContains(t, r.Err, "1000 bytes")
	}
}

func TestAConflictTellsWhereTheStreamIs(t *testing.T) {
	t.Parallel()
	server := serve(t, nil)
	d := openDriver(t, server.URL(), nil)
	for range 3 {
		require.NoError(t, d.Append(t.Context(), driver.Append{Stream: "s", Events: events(1)}).Err)
	}
	c := bare(t, server.URL(), nil)
	defer c.Close()
	_, err := c.AppendToStream(t.Context(), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Revision(0)}, esdb.EventData{EventType: "t"})
	var wrong *esdb.Error
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, esdb.ErrorCodeWrongExpectedVersion, wrong.Code())
	require.EqualError(t, wrong.Err(), "wrong expected version: expecting '0' but got '2'", "a number in a text is all there is")
	var conflict *driver.ConflictError
	require.ErrorAs(t, d.Append(t.Context(), driver.Append{Stream: "s", Expected: 1, Events: events(1)}).Err, &conflict)
	require.Equal(t, uint64(3), conflict.Actual)
}

// events returns n events.
func events(n int) []driver.Event {
	list := make([]driver.Event, n)
	for i := range list {
		list[i] = driver.Event{ID: uuid.New(), Type: "t", ContentType: "text/plain", Data: []byte(strconv.Itoa(i + 1))}
	}
	return list
}
