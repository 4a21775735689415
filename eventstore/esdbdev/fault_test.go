package esdbdev_test

import (
	"context"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// dial connects without a client, to send and see what clients do not.
func dial(t testing.TB, s *esdbdev.Server) streams.StreamsClient {
	t.Helper()
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return streams.NewStreamsClient(conn)
}

func TestAFaultBeforeTheCommitWritesNothingAndOneAfterLosesTheAnswer(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Stream: "s-1", Times: 1, Err: status.Error(codes.Aborted, "before")})
	list := events("a", "b")
	_, err := f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, list...)
	require.Equal(t, esdb.ErrorAborted, code(err))
	require.Empty(t, f.readAll(t))

	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Stream: "s-1", Times: 1, When: esdbdev.AfterCommit, Err: status.Error(codes.Aborted, "after")})
	_, err = f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, list...)
	require.Equal(t, esdb.ErrorAborted, code(err))
	require.Equal(t, "a b", types(f.readAll(t)))
	r := f.must(t, "s-1", esdb.NoStream{}, list...)
	require.EqualValues(t, 1, r.NextExpectedVersion, "made again it is answered")
	require.Equal(t, "a b", types(f.readAll(t)))
}

func TestAnAnswerCanBeLate(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	answer := make(chan struct{})
	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Times: 1, When: esdbdev.AfterCommit, Until: answer})
	done := make(chan error, 1)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		_, err := f.AppendToStream(ctx, "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("a"))
		done <- err
	}()
	eventually(t, "it is done", func() bool { return types(f.readAll(t)) == "a" })
	require.Empty(t, done, "but nobody was told")
	leave()
	require.Error(t, <-done)

	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Times: 1, Until: answer})
	go func() {
		_, err := f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("b"))
		done <- err
	}()
	require.Equal(t, "a", types(f.readAll(t)), "nothing is done before its time")
	close(answer)
	require.NoError(t, <-done)
	require.Equal(t, "a b", types(f.readAll(t)))
}

func TestAReadCanBreakMidway(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Times: 1, Events: 2, Err: status.Error(codes.Aborted, "midway")})
	list, err := collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{}, 10))
	require.Equal(t, esdb.ErrorAborted, code(err))
	require.Equal(t, "a b", types(list))
	require.Equal(t, "a b c", types(f.read(t, "s-1")))
}

func TestAFaultStrikesAsOftenAsItShouldAndUntilItIsRemoved(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	c := dial(t, f.server)
	read := func(stream string) codes.Code {
		r, err := c.Read(t.Context(), readRequest(stream, 1, 0))
		require.NoError(t, err)
		_, err = r.Recv()
		return status.Code(err)
	}
	remove := f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Stream: "s-1"})
	for range 3 {
		require.Equal(t, codes.Unavailable, read("s-1"))
	}
	require.Equal(t, codes.OK, read("other"), "a stream that is not found is an answer")
	remove()
	remove()
	require.Equal(t, codes.OK, read("s-1"))
	f.server.Inject(esdbdev.Fault{Times: 2, Err: status.Error(codes.Internal, "x")})
	require.Equal(t, codes.Internal, read("s-1"))
	require.Equal(t, codes.Internal, read("other"))
	require.Equal(t, codes.OK, read("s-1"))
}

func TestAnEarlyErrorEndsAnAppendWhileItIsSent(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Times: 1, When: esdbdev.Early, Err: esdbdev.TooLarge(1 << 20)})
	call, err := dial(t, f.server).Append(t.Context())
	require.NoError(t, err)
	require.NoError(t, call.Send(appendOptions("s-1")))
	err = call.RecvMsg(&streams.AppendResp{}) // nothing but the options was sent
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.Equal(t, []string{"maximum-append-size-exceeded"}, call.Trailer().Get("exception"))
	require.Equal(t, []string{"1048576"}, call.Trailer().Get("maximum-append-size"))
}

func TestAFollowerSendsClientsThatInsistToTheLeader(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	require.NoError(t, f.server.SetRole(t.Context(), esdbdev.Role{Leader: "127.0.0.1:4711"}))
	f.must(t, "s-1", esdb.Any{}, event("b")) // it forwards

	ctx := metadata.AppendToOutgoingContext(t.Context(), "requires-leader", "true")
	c := dial(t, f.server)
	var trailer metadata.MD
	_, err := c.Delete(ctx, &streams.DeleteReq{Options: &streams.DeleteReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("s-1")}}}, grpc.Trailer(&trailer))
	require.Error(t, err)
	require.Equal(t, []string{"not-leader"}, trailer.Get("exception"))
	require.Equal(t, []string{"127.0.0.1"}, trailer.Get("leader-endpoint-host"))
	require.Equal(t, []string{"4711"}, trailer.Get("leader-endpoint-port"))
	r, err := c.Read(ctx, readRequest("s-1", 1, 0))
	require.NoError(t, err)
	_, err = r.Recv()
	require.Error(t, err)
	require.Equal(t, []string{"not-leader"}, r.Trailer().Get("exception"))
	require.Equal(t, "a b", types(f.readAll(t)))
}

func TestAClientFollowsToTheLeader(t *testing.T) {
	t.Parallel()
	leader := start(t, nil)
	follower := start(t, nil)
	follower.server.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Times: 1, Err: esdbdev.NotLeader(leader.server.Addr())})
	_, err := follower.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("a"))
	require.Equal(t, esdb.ErrorCodeNotLeader, code(err))
	follower.must(t, "s-1", esdb.Any{}, event("a"))
	require.Equal(t, "a", types(leader.readAll(t)), "the client has gone there")
}

func TestAFollowerThatLagsShowsWhatItHadSeen(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, event("a"))
	sub, err := f.SubscribeToStream(t.Context(), "s-1", esdb.SubscribeToStreamOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "a", "caught up")
	require.NoError(t, f.server.SetRole(t.Context(), esdbdev.Role{Leader: "127.0.0.1:4711", Lag: true}))
	f.must(t, "s-1", esdb.Any{}, event("b"))
	f.must(t, "s-2", esdb.Any{}, event("c"))
	require.Equal(t, "a", types(f.read(t, "s-1")))
	require.Equal(t, "a", types(f.readAll(t)))
	_, err = collect(f.ReadStream(t.Context(), "s-2", esdb.ReadStreamOptions{}, 1))
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err))
	back, err := collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1))
	require.NoError(t, err)
	require.Equal(t, "a", types(back))
	_, err = f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: exactly(0)}, event("d"))
	require.Equal(t, esdb.ErrorCodeWrongExpectedVersion, code(err), "writes are the leader's")
	require.NoError(t, f.server.SetRole(t.Context(), esdbdev.Role{}))
	says(t, sub, "b")
	require.Equal(t, "a b c", types(f.readAll(t)))
}

func TestAServerIsStoppedAndStartedAgainInPlace(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	list := events("a", "b")
	r := f.must(t, "s-1", esdb.Any{}, list...)
	sub, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "a", "b", "caught up")
	addr := f.server.Addr()
	f.server.Stop()
	require.Contains(t, said(t, sub, nil), "dropped")
	require.NoError(t, f.server.Start(addr))
	require.Equal(t, addr, f.server.Addr())
	again := &fixture{connect(t, f.server.URL()), f.server, f.store}
	require.Equal(t, "a b", types(again.readAll(t)))
	require.Equal(t, r, again.must(t, "s-1", esdb.Any{}, list...))
}

func TestAnotherServerOfTheSameStoreKnowsWhatWasAppended(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	list := events("a", "b")
	r := f.must(t, "s-1", esdb.Any{}, list...)
	f.server.Stop()
	other := serve(t, f.store, nil)
	g := &fixture{connect(t, other.URL()), other, f.store}
	require.Equal(t, r, g.must(t, "s-1", esdb.Any{}, list...))
	require.Equal(t, "a b", types(g.readAll(t)))
}

func TestAServerServesOneListenerAndNoneOnceItIsClosed(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	require.Error(t, f.server.Start("127.0.0.1:0"))
	require.NoError(t, f.server.Close())
	require.NoError(t, f.server.Close())
	require.ErrorIs(t, f.server.Start("127.0.0.1:0"), esdbdev.ErrClosed)
}

func readRequest(stream string, count uint64, compatibility uint32) *streams.ReadReq {
	return &streams.ReadReq{Options: &streams.ReadReq_Options{
		StreamOption: &streams.ReadReq_Options_Stream{Stream: &streams.ReadReq_Options_StreamOptions{
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
			RevisionOption:   &streams.ReadReq_Options_StreamOptions_Start{Start: &shared.Empty{}}}},
		CountOption:   &streams.ReadReq_Options_Count{Count: count},
		FilterOption:  &streams.ReadReq_Options_NoFilter{NoFilter: &shared.Empty{}},
		ControlOption: &streams.ReadReq_Options_ControlOption{Compatibility: compatibility},
	}}
}

func appendOptions(stream string) *streams.AppendReq {
	return &streams.AppendReq{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
		StreamIdentifier:       &shared.StreamIdentifier{StreamName: []byte(stream)},
		ExpectedStreamRevision: &streams.AppendReq_Options_Any{Any: &shared.Empty{}},
	}}}
}
