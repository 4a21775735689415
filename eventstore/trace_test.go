package eventstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
)

type traceKey struct{}

// A start's context reaches its end, and what happens in between.
func TestTraceIsToldOfAppendsCommitsAndReads(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []string
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, fmt.Sprintf(format, args...))
	}
	in := func(ctx context.Context, what string) context.Context {
		return context.WithValue(ctx, traceKey{}, fmt.Sprint(ctx.Value(traceKey{}), ">", what))
	}
	s := open(t, memstore.NewDriver(), &eventstore.Options{Trace: &eventstore.Trace{
		AppendStart: func(ctx context.Context, a eventstore.AppendInfo) context.Context {
			say("append %s %s %d", a.Stream, a.Expected, a.Events)
			if a.Streams != nil {
				say("to %s, conditional %t", a.Streams, a.Conditional)
			}
			return in(ctx, "append")
		},
		AppendEnd: func(ctx context.Context, at eventstore.Appended, err error) {
			say("appended %v %d %t", ctx.Value(traceKey{}), at.Version, err == nil)
		},
		CommitStart: func(ctx context.Context, c eventstore.CommitInfo) context.Context {
			say("commit %d %d %t", c.Appends, c.Events, c.Bytes > 0 && c.Wait >= 0)
			return in(ctx, "commit")
		},
		CommitEnd: func(ctx context.Context, took time.Duration, err error) {
			say("committed %v %t %t", ctx.Value(traceKey{}), took >= 0, err == nil)
		},
		ReadStart: func(ctx context.Context, r eventstore.ReadInfo) context.Context {
			say("read %s %d", r.Stream, r.Version)
			return in(ctx, "read")
		},
		ReadEnd: func(ctx context.Context, n int, err error) {
			say("read %v %d %t", ctx.Value(traceKey{}), n, err == nil)
		},
	}})
	ctx := context.WithValue(t.Context(), traceKey{}, "test")
	_, err := s.Append(ctx, "a-1", eventstore.NoStream, deposits(1, 2)...)
	require.NoError(t, err)
	_, err = s.Append(ctx, "a-1", eventstore.Any)
	require.ErrorIs(t, err, eventstore.ErrNoEvents)
	for _, err := range s.ReadStream(ctx, "a-1", 1) {
		require.NoError(t, err)
	}
	at, err := atomicOf(t, s).Append(ctx, part("a-1", eventstore.Exactly(2), 3), part("b-1", eventstore.Any, 4, 5))
	require.NoError(t, err)
	require.EqualValues(t, 5, at[1].Position)
	_, err = atomicOf(t, s).Append(ctx)
	require.ErrorIs(t, err, eventstore.ErrNoEvents)
	tags, err := s.Tags()
	require.NoError(t, err)
	e := deposits(6)[0]
	_, err = tags.Append(ctx, nil, 0, eventstore.To{Stream: "b-1", Event: e}, eventstore.To{Stream: "a-1", Event: e}, eventstore.To{Stream: "b-1", Event: e})
	require.NoError(t, err)
	_, err = tags.Append(ctx, nil, 0)
	require.ErrorIs(t, err, eventstore.ErrNoEvents)
	require.Equal(t, []string{
		"append a-1 no stream 2", "commit 1 2 true", "committed test>append>commit true true", "appended test>append 2 true",
		"append a-1 any version 0", "appended test>append 0 false",
		"read a-1 1", "read test>read 1 true",
		"append a-1 version 2 3", "to [a-1 b-1], conditional false", "appended test>append 0 true",
		"append  any version 0", "to [], conditional false", "appended test>append 0 false",
		"append b-1 any version 3", "to [b-1 a-1], conditional true", "appended test>append 0 true",
		"append  any version 0", "appended test>append 0 false",
	}, told)
}
