package sqlitestore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore/driver"
)

func events1(data string, tags ...string) []driver.Event {
	return []driver.Event{{Type: "t", Data: []byte(data), Tags: tags}}
}

func TestAFunctionThatFailsLeavesNothingOfItsAppend(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{Synchronous: Normal, unmerged: 6, slice: 2})
	ctx := t.Context()
	require.NoError(t, s.write(ctx, func(c *conn) error {
		return sqlitex.ExecuteScript(c.Conn, "CREATE TABLE seen(stream TEXT, position INTEGER)", nil)
	}))
	boom := errors.New("boom")
	var want []string
	for round := range 30 {
		// Streams, categories and ids of those refused go to those that follow.
		bad, good := fmt.Sprintf("bad%d-1", round), fmt.Sprintf("good%d-1", round)
		as := []driver.Append{
			{Stream: bad, Events: events1(bad, "bad")},
			{Stream: good, Events: append(events1(good, "good"), events1(good)...)},
			{Stream: good, Events: events1(bad, "bad")},
			{Stream: good, Expected: 2, Events: events1(good)},
			{Stream: bad, Expected: driver.StreamExists, Events: events1(bad)},
		}
		rs := s.AppendWith(ctx, as, func(tx any, events []driver.Recorded) error {
			for _, e := range events {
				if err := sqlitex.Execute(tx.(*sqlite.Conn), "INSERT INTO seen VALUES(?, ?)", &sqlitex.ExecOptions{Args: []any{e.Stream, int64(e.Position)}}); err != nil {
					return err
				}
			}
			if strings.HasPrefix(string(events[0].Data), "bad") {
				return boom
			}
			return nil
		})
		require.ErrorIs(t, rs[0].Err, boom)
		require.NoError(t, rs[1].Err)
		require.ErrorIs(t, rs[2].Err, boom)
		require.NoError(t, rs[3].Err)
		var conflict *driver.ConflictError
		require.ErrorAs(t, rs[4].Err, &conflict)
		for i := range 3 {
			want = append(want, fmt.Sprintf("%s|%d", good, 3*round+i+1))
		}
	}
	require.Equal(t, want, ask(t, s, "SELECT stream, position FROM seen"))
	require.Equal(t, want, ask(t, s, "SELECT stream, position FROM events WHERE data = stream"))
	checkIndexes(t, s)
	events, _, err := s.Query(ctx, []driver.QueryItem{{Tags: []string{"bad"}}}, 0, 10)
	require.NoError(t, err)
	require.Empty(t, events)
}

func TestAFunctionThatPanicsOrEndsTheTransactionLosesTheBatch(t *testing.T) {
	t.Parallel()
	s := openTest(t, nil)
	ctx := t.Context()
	as := []driver.Append{{Stream: "a-1", Events: events1("1")}, {Stream: "a-1", Events: events1("2")}}
	calls := 0
	require.PanicsWithValue(t, "oops", func() {
		s.AppendWith(ctx, as, func(any, []driver.Recorded) error {
			if calls++; calls == 2 {
				panic("oops")
			}
			return nil
		})
	})
	rs := s.AppendWith(ctx, as, func(tx any, _ []driver.Recorded) error {
		return sqlitex.ExecuteTransient(tx.(*sqlite.Conn), "ROLLBACK", nil)
	})
	require.Error(t, rs[0].Err)
	require.Error(t, rs[1].Err)
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.Zero(t, head)
	r := s.Append(ctx, driver.Append{Stream: "a-1", Expected: driver.NoStream, Events: events1("1")})
	require.NoError(t, r.Err)
	require.Equal(t, uint64(1), r.Last)
}

func TestWhatIsTooLargeIsRefusedAndNothingWritten(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{EventBytes: 1100})
	ctx := t.Context()
	big := strings.Repeat("x", 1101)
	for name, a := range map[string]driver.Append{
		"data":      {Stream: "a-1", Events: append(events1("1"), events1(big)...)},
		"metadata":  {Stream: "a-1", Events: []driver.Event{{Metadata: map[string]string{"k": big}}}},
		"tags":      {Stream: "a-1", Events: events1("1", big)},
		"type":      {Stream: "a-1", Events: []driver.Event{{Type: big}}},
		"name":      {Stream: strings.Repeat("x", maxNameBytes+1), Events: events1("1")},
		"events":    {Stream: "a-1", Events: make([]driver.Event, maxAppendEvents+1)},
		"all of it": {Stream: "a-1", Events: slicesOf(events1(big[:1040])[0], maxAppendEvents)},
	} {
		require.ErrorIs(t, s.Append(ctx, a).Err, driver.ErrTooLarge, name)
		if len(a.Events) < 10 {
			list := make([]driver.StreamEvent, len(a.Events))
			for i := range list {
				list[i] = driver.StreamEvent{Stream: a.Stream, Event: a.Events[i]}
			}
			require.ErrorIs(t, s.AppendIf(ctx, nil, 0, list, nil).Err, driver.ErrTooLarge, name)
		}
	}
	require.ErrorIs(t, s.AppendIf(ctx, nil, 0, make([]driver.StreamEvent, maxAppendEvents+1), nil).Err, driver.ErrTooLarge)
	for _, a := range []driver.Append{
		{Stream: "", Events: events1("1")},
		{Stream: "a-1", Expected: -3, Events: events1("1")},
		{Stream: "a-1", Events: []driver.Event{{Metadata: map[string]string{"k": "\xff"}}}},
		{Stream: "a-1", Events: []driver.Event{{Metadata: map[string]string{"\xff": "v"}}}},
		{Stream: "a-1", Events: events1("1", "\xff")},
		{Stream: "a-1", Events: events1("1", "a\x00b")},
	} {
		require.Error(t, s.Append(ctx, a).Err)
	}
	head, err := s.Head(ctx)
	require.NoError(t, err)
	require.Zero(t, head)
	require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Events: make([]driver.Event, 5000)}).Err)
}

func slicesOf(e driver.Event, n int) []driver.Event {
	list := make([]driver.Event, n)
	for i := range list {
		list[i] = e
	}
	return list
}

// What repeats from one event to the next is not bound again; each sequence of
// values must come back all the same.
func TestEveryFieldReadsBackInEveryOrder(t *testing.T) {
	t.Parallel()
	s := openTest(t, nil)
	ctx := t.Context()
	var values []driver.Event
	for i := range 1 << 7 {
		e := driver.Event{ID: [16]byte{byte(i)}, Type: "t"}
		if i&1 != 0 {
			e.Type = "other"
		}
		if i&2 != 0 {
			e.ContentType = jsonContent
		}
		if i&4 != 0 {
			e.Correlation = [16]byte{1}
		}
		if i&8 != 0 {
			e.Causation = [16]byte{2}
		}
		if i&16 != 0 {
			e.Tags = []string{"a", "b"}
		}
		if i&32 != 0 {
			e.Metadata = map[string]string{"k": "v\n\x00\x1f\"é"}
		}
		if i&64 != 0 {
			e.Data = []byte{byte(i), 0, 0xff}
		}
		if i&66 == 66 {
			e.Data = []byte(`"text é"`)
		}
		if i&65 == 65 {
			e.Data = []byte{}
		}
		values = append(values, e)
	}
	var want []driver.Event
	for step := 1; step < len(values); step += 6 {
		var as []driver.Append
		for i := range values {
			e := values[i*step%len(values)]
			want = append(want, e)
			as = append(as, driver.Append{Stream: fmt.Sprintf("s-%d", i*step%5), Events: []driver.Event{e}})
		}
		for _, r := range s.AppendBatch(ctx, as) {
			require.NoError(t, r.Err)
		}
	}
	var got []driver.Event
	for from := uint64(0); ; {
		events, scanned, err := s.ReadAll(ctx, driver.Filter{}, from, driver.Forward, 100)
		require.NoError(t, err)
		for i := range events {
			got = append(got, events[i].Event)
		}
		if from = scanned; len(events) < 100 {
			break
		}
	}
	require.Equal(t, want, got)
}

func TestAPageOfLargeEventsIsBounded(t *testing.T) {
	t.Parallel()
	s := openTest(t, &Options{Synchronous: Normal})
	ctx := t.Context()
	for range 30 {
		require.NoError(t, s.Append(ctx, driver.Append{Stream: "a-1", Events: []driver.Event{{Data: make([]byte, 900<<10)}}}).Err)
	}
	for _, f := range []driver.Filter{{}, {Categories: []string{"a"}}, {Streams: []string{"a-1"}}} {
		n := 0
		for from := uint64(0); from < 30; {
			events, scanned, err := s.ReadAll(ctx, f, from, driver.Forward, 512)
			require.NoError(t, err)
			require.LessOrEqual(t, len(events), 10)
			n += len(events)
			from = scanned
		}
		require.Equal(t, 30, n)
	}
	events, err := s.ReadStream(ctx, "a-1", 0, driver.Forward, 30)
	require.NoError(t, err)
	require.Len(t, events, 30, "a stream that has more gives as many as were asked for")
}
