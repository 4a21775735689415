package esdbdev_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
)

// responses reads to the end of a raw read.
func responses(t testing.TB, c streams.StreamsClient, req *streams.ReadReq) (list []*streams.ReadResp) {
	t.Helper()
	r, err := c.Read(t.Context(), req)
	require.NoError(t, err)
	for {
		resp, err := r.Recv()
		if errors.Is(err, io.EOF) {
			return list
		}
		require.NoError(t, err)
		list = append(list, resp)
	}
}

func TestOnlyClientsThatKnowThemAreToldOfTheEndsOfStreams(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.must(t, "s-1", esdb.Any{}, events("a", "b", "c")...)
	c := dial(t, f.server)
	for _, resp := range responses(t, c, readRequest("s-1", 10, 0)) {
		require.NotNil(t, resp.GetEvent())
	}
	list := responses(t, c, readRequest("s-1", 10, 1))
	require.Len(t, list, 4)
	require.Equal(t, &streams.ReadResp_LastStreamPosition{LastStreamPosition: 2}, list[3].Content)
	require.Len(t, responses(t, c, readRequest("s-1", 2, 1)), 2, "the end was not reached")
	back := readRequest("s-1", 10, 1)
	back.Options.ReadDirection = streams.ReadReq_Options_Backwards
	back.Options.GetStream().RevisionOption = &streams.ReadReq_Options_StreamOptions_End{End: &shared.Empty{}}
	list = responses(t, c, back)
	require.Len(t, list, 4)
	require.Equal(t, &streams.ReadResp_FirstStreamPosition{FirstStreamPosition: 0}, list[3].Content)
	list = responses(t, c, readRequest("none", 10, 0))
	require.Len(t, list, 1)
	require.Equal(t, "none", string(list[0].GetStreamNotFound().GetStreamIdentifier().GetStreamName()))
}

func TestIDsAreAsTheClientWantsThem(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	e := event("a")
	f.must(t, "s-1", esdb.Any{}, e)
	c := dial(t, f.server)
	req := readRequest("s-1", 1, 0)
	require.NotNil(t, responses(t, c, req)[0].GetEvent().GetEvent().GetId().GetStructured())
	req.Options.UuidOption = &streams.ReadReq_Options_UUIDOption{Content: &streams.ReadReq_Options_UUIDOption_String_{String_: &shared.Empty{}}}
	require.Equal(t, e.EventID.String(), responses(t, c, req)[0].GetEvent().GetEvent().GetId().GetString_())
}

func TestNewerFieldsAreThereForNewerClients(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	r := f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	c := dial(t, f.server)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	caughtUp := func(req *streams.ReadReq) map[protowire.Number][]byte {
		sub, err := c.Read(ctx, req)
		require.NoError(t, err)
		for {
			resp, err := sub.Recv()
			require.NoError(t, err)
			if cp := resp.GetCheckpoint(); cp != nil {
				require.Contains(t, fields(t, cp), protowire.Number(3), "a time")
			}
			if m := resp.GetCaughtUp(); m != nil {
				return fields(t, m)
			}
		}
	}
	req := readRequest("s-1", 0, 0)
	req.Options.CountOption = &streams.ReadReq_Options_Subscription{Subscription: &streams.ReadReq_Options_SubscriptionOptions{}}
	got := caughtUp(req)
	require.Contains(t, got, protowire.Number(1), "a time")
	revision, _ := protowire.ConsumeVarint(got[2])
	require.EqualValues(t, 1, revision)

	req.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}}
	req.Options.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_EventType{EventType: &streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{"b"}}},
		Window: &streams.ReadReq_Options_FilterOptions_Max{Max: 1}, CheckpointIntervalMultiplier: 1}}
	got = caughtUp(req)
	position, n := protowire.ConsumeBytes(got[3])
	require.Positive(t, n)
	_, _, n = protowire.ConsumeTag(position)
	commit, _ := protowire.ConsumeVarint(position[n:])
	require.Equal(t, r.CommitPosition, commit)
}

// fields returns the unknown fields of a message.
func fields(t testing.TB, m proto.Message) map[protowire.Number][]byte {
	t.Helper()
	out := map[protowire.Number][]byte{}
	for b := []byte(m.ProtoReflect().GetUnknown()); len(b) > 0; {
		number, typ, n := protowire.ConsumeTag(b)
		require.Positive(t, n)
		size := protowire.ConsumeFieldValue(number, typ, b[n:])
		require.Positive(t, size)
		out[number] = b[n : n+size]
		b = b[n+size:]
	}
	return out
}

func TestRequestsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := dial(t, f.server)
	for name, change := range map[string]func(o *streams.ReadReq_Options){
		"no count":                func(o *streams.ReadReq_Options) { o.CountOption = nil },
		"no stream":               func(o *streams.ReadReq_Options) { o.StreamOption = nil },
		"no name":                 func(o *streams.ReadReq_Options) { o.GetStream().StreamIdentifier.StreamName = nil },
		"a name that is too long": func(o *streams.ReadReq_Options) { o.GetStream().StreamIdentifier.StreamName = make([]byte, 17<<10) },
		"a subscription backwards": func(o *streams.ReadReq_Options) {
			o.CountOption = &streams.ReadReq_Options_Subscription{}
			o.ReadDirection = 1
		},
		"a filter of a stream": func(o *streams.ReadReq_Options) {
			o.FilterOption = filterOf(&streams.ReadReq_Options_FilterOptions_Expression{Prefix: []string{"a"}}, 1)
		},
		"a filter of nothing": func(o *streams.ReadReq_Options) { o.FilterOption = filterOf(nil, 1) },
		"an expression without an x": func(o *streams.ReadReq_Options) {
			o.FilterOption = filterOf(&streams.ReadReq_Options_FilterOptions_Expression{}, 1)
		},
		"a search window of no event": func(o *streams.ReadReq_Options) {
			o.FilterOption = filterOf(&streams.ReadReq_Options_FilterOptions_Expression{Regex: "x"}, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := readRequest("s-1", 1, 0)
			change(req.Options)
			r, err := c.Read(t.Context(), req)
			require.NoError(t, err)
			_, err = r.Recv()
			require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
		})
	}
}

func filterOf(x *streams.ReadReq_Options_FilterOptions_Expression, window uint32) *streams.ReadReq_Options_Filter {
	f := &streams.ReadReq_Options_FilterOptions{Window: &streams.ReadReq_Options_FilterOptions_Max{Max: window}}
	if x != nil {
		f.Filter = &streams.ReadReq_Options_FilterOptions_EventType{EventType: x}
	}
	return &streams.ReadReq_Options_Filter{Filter: f}
}

func TestAReadOfEverythingCanBeFiltered(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	for i := range 10 {
		f.must(t, fmt.Sprint("s-", i%2), esdb.Any{}, event(fmt.Sprint("e", i)))
	}
	req := readRequest("x", 3, 0)
	req.Options.StreamOption = &streams.ReadReq_Options_All{All: &streams.ReadReq_Options_AllOptions{AllOption: &streams.ReadReq_Options_AllOptions_Start{Start: &shared.Empty{}}}}
	req.Options.FilterOption = &streams.ReadReq_Options_Filter{Filter: &streams.ReadReq_Options_FilterOptions{
		Filter: &streams.ReadReq_Options_FilterOptions_StreamIdentifier{StreamIdentifier: &streams.ReadReq_Options_FilterOptions_Expression{Regex: "1$"}},
		Window: &streams.ReadReq_Options_FilterOptions_Count{Count: &shared.Empty{}}}}
	var got []string
	for _, r := range responses(t, dial(t, f.server), req) {
		got = append(got, r.GetEvent().GetEvent().GetMetadata()["type"])
	}
	require.Equal(t, []string{"e1", "e3", "e5"}, got)
}

func message(id uuid.UUID, meta map[string]string) *streams.AppendReq {
	return &streams.AppendReq{Content: &streams.AppendReq_ProposedMessage_{ProposedMessage: &streams.AppendReq_ProposedMessage{
		Id: &shared.UUID{Value: &shared.UUID_String_{String_: id.String()}}, Metadata: meta}}}
}

func TestEventsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := dial(t, f.server)
	id := uuid.New()
	good := map[string]string{"type": "a", "content-type": "application/json"}
	for name, row := range map[string]struct {
		send      []*streams.AppendReq
		exception string
	}{
		"no options first": {[]*streams.AppendReq{message(id, good)}, ""},
		"options twice":    {[]*streams.AppendReq{appendOptions("s"), appendOptions("s")}, ""},
		"no type":          {[]*streams.AppendReq{appendOptions("s"), message(id, map[string]string{"content-type": "x"})}, "missing-required-metadata-property"},
		"no content type":  {[]*streams.AppendReq{appendOptions("s"), message(id, map[string]string{"type": "x"})}, "missing-required-metadata-property"},
		"an empty type":    {[]*streams.AppendReq{appendOptions("s"), message(id, map[string]string{"type": "", "content-type": "x"})}, ""},
		"no id":            {[]*streams.AppendReq{appendOptions("s"), message(uuid.Nil, good)}, ""},
		"an id twice":      {[]*streams.AppendReq{appendOptions("s"), message(id, good), message(id, good)}, ""},
		"all of it":        {[]*streams.AppendReq{appendOptions("$all"), message(id, good)}, "access-denied"},
		"no expectation": {[]*streams.AppendReq{{Content: &streams.AppendReq_Options_{Options: &streams.AppendReq_Options{
			StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("s")}}}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call, err := c.Append(t.Context())
			require.NoError(t, err)
			for _, m := range row.send {
				if call.Send(m) != nil {
					break // it has been refused by now
				}
			}
			_, err = call.CloseAndRecv()
			require.Contains(t, []codes.Code{codes.InvalidArgument, codes.PermissionDenied}, status.Code(err), "%v", err)
			if row.exception != "" {
				require.Equal(t, []string{row.exception}, call.Trailer().Get("exception"))
			}
		})
	}
	require.Empty(t, f.readAll(t))
}

func TestAnAppendOfNothingTellsWhereTheStreamStands(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	c := dial(t, f.server)
	nothing := func() *streams.AppendResp {
		call, err := c.Append(t.Context())
		require.NoError(t, err)
		require.NoError(t, call.Send(appendOptions("s-1")))
		resp, err := call.CloseAndRecv()
		require.NoError(t, err)
		return resp
	}
	require.NotNil(t, nothing().GetSuccess().GetNoStream())
	f.must(t, "s-1", esdb.Any{}, events("a", "b")...)
	require.EqualValues(t, 1, nothing().GetSuccess().GetCurrentRevision())
	require.Len(t, f.readAll(t), 2)
}

// batches sends requests and returns the answers by correlation id.
func batches(t testing.TB, c streams.StreamsClient, n int, send ...*streams.BatchAppendReq) map[string]*streams.BatchAppendResp {
	t.Helper()
	call, err := c.BatchAppend(t.Context())
	require.NoError(t, err)
	for _, m := range send {
		require.NoError(t, call.Send(m))
	}
	out := map[string]*streams.BatchAppendResp{}
	for range n {
		resp, err := call.Recv()
		require.NoError(t, err)
		out[resp.GetCorrelationId().GetString_()] = resp
	}
	require.NoError(t, call.CloseSend())
	_, err = call.Recv()
	require.ErrorIs(t, err, io.EOF)
	return out
}

func batch(id, stream string, final bool, change func(o *streams.BatchAppendReq_Options), types ...string) *streams.BatchAppendReq {
	b := &streams.BatchAppendReq{CorrelationId: &shared.UUID{Value: &shared.UUID_String_{String_: id}}, IsFinal: final}
	if stream != "" {
		b.Options = &streams.BatchAppendReq_Options{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte(stream)},
			ExpectedStreamPosition: &streams.BatchAppendReq_Options_Any{Any: &emptypb.Empty{}}}
		if change != nil {
			change(b.Options)
		}
	}
	for _, typ := range types {
		b.ProposedMessages = append(b.ProposedMessages, &streams.BatchAppendReq_ProposedMessage{
			Id:       &shared.UUID{Value: &shared.UUID_String_{String_: uuid.NewString()}},
			Metadata: map[string]string{"type": typ, "content-type": "application/json"}, Data: []byte(`{}`)})
	}
	return b
}

func TestBatchAppendMakesManyAppendsOnOneCall(t *testing.T) {
	t.Parallel()
	f := start(t, &esdbdev.Options{MaxAppendSize: 1000})
	f.must(t, "old-1", esdb.Any{}, event("a"))
	_, err := f.TombstoneStream(t.Context(), "gone-1", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
	require.NoError(t, err)
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	large := batch(ids[3], "large-1", true, nil, "a")
	large.ProposedMessages[0].Data = make([]byte, 1001)
	got := batches(t, dial(t, f.server), 8,
		batch(ids[0], "s-1", false, func(o *streams.BatchAppendReq_Options) {
			o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_NoStream{NoStream: &emptypb.Empty{}}
		}, "a", "b"),
		batch(ids[1], "old-1", true, func(o *streams.BatchAppendReq_Options) {
			o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamPosition{StreamPosition: 7}
		}, "x"),
		batch(ids[0], "", true, nil, "c"),
		batch(ids[2], "gone-1", true, nil, "x"),
		large,
		batch(ids[4], "late-1", true, func(o *streams.BatchAppendReq_Options) {
			o.DeadlineOption = &streams.BatchAppendReq_Options_Deadline{Deadline: durationpb.New(-time.Second)}
		}, "x"),
		batch(ids[5], "", true, nil, "x"),
		batch(ids[6], "none-1", true, func(o *streams.BatchAppendReq_Options) {
			o.ExpectedStreamPosition = &streams.BatchAppendReq_Options_StreamExists{StreamExists: &emptypb.Empty{}}
		}, "x"),
		batch(ids[7], "$all", true, nil, "x"),
	)
	ok := got[ids[0]]
	require.EqualValues(t, 2, ok.GetSuccess().GetCurrentRevision())
	require.Positive(t, ok.GetSuccess().GetPosition().GetCommitPosition())
	require.Equal(t, "s-1", string(ok.GetStreamIdentifier().GetStreamName()))
	require.Equal(t, "a b c", types(f.read(t, "s-1")))
	for id, want := range map[string]proto.Message{
		ids[1]: &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  &shared.WrongExpectedVersion_CurrentStreamRevision{CurrentStreamRevision: 0},
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamPosition{ExpectedStreamPosition: 7}},
		ids[2]: &shared.StreamDeleted{StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("gone-1")}},
		ids[3]: &shared.MaximumAppendSizeExceeded{MaxAppendSize: 1000},
		ids[4]: &shared.Timeout{},
		ids[6]: &shared.WrongExpectedVersion{
			CurrentStreamRevisionOption:  &shared.WrongExpectedVersion_CurrentNoStream{CurrentNoStream: &emptypb.Empty{}},
			ExpectedStreamPositionOption: &shared.WrongExpectedVersion_ExpectedStreamExists{ExpectedStreamExists: &emptypb.Empty{}}},
		ids[7]: &shared.AccessDenied{},
	} {
		detail, err := got[id].GetError().GetDetails()[0].UnmarshalNew()
		require.NoError(t, err)
		require.True(t, proto.Equal(want, detail), "%v, not %v", detail, want)
	}
	detail, err := got[ids[5]].GetError().GetDetails()[0].UnmarshalNew()
	require.NoError(t, err)
	require.Contains(t, detail.(*shared.BadRequest).GetMessage(), "options")
}

func TestAppendsOfOneCallToOneStreamKeepTheirOrder(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	var send []*streams.BatchAppendReq
	var want []string
	for i := range 100 {
		typ := fmt.Sprint("e", i)
		send = append(send, batch(uuid.NewString(), "s-1", true, nil, typ))
		want = append(want, typ)
	}
	batches(t, dial(t, f.server), 100, send...)
	var got []string
	for _, e := range f.read(t, "s-1") {
		got = append(got, e.Event.EventType)
	}
	require.Equal(t, want, got)
}

func TestAFaultOfABatchEndsItsCall(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	f.server.Inject(esdbdev.Fault{Method: esdbdev.MethodBatchAppend, Times: 1, When: esdbdev.AfterCommit, Err: status.Error(codes.Unavailable, "x")})
	call, err := dial(t, f.server).BatchAppend(t.Context())
	require.NoError(t, err)
	require.NoError(t, call.Send(batch(uuid.NewString(), "s-1", true, nil, "a")))
	_, err = call.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.Equal(t, "a", types(f.read(t, "s-1")))
}
