package eventstore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTraceParentsAreThoseOfTheRecommendation(t *testing.T) {
	t.Parallel()
	for value, ok := range map[string]bool{
		parent:                               true,
		"01" + parent[2:] + "-more":          true,
		"cc" + parent[2:]:                    true,
		"":                                   false,
		parent[:54]:                          false,
		parent + "-more":                     false,
		"cc" + parent[2:] + "more":           false,
		"ff" + parent[2:]:                    false,
		strings.ToUpper(parent):              false,
		strings.Replace(parent, "-", "_", 1): false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01": false,
		"01" + parent[2:] + "-\n":                                 false,
		"01" + parent[2:] + "-" + strings.Repeat("x", 255):        false,
	} {
		got, state := eventstore.TraceOf(eventstore.WithTrace(t.Context(), value, "a=b"))
		if !ok {
			require.Empty(t, got, value)
			require.Empty(t, state, value)
			continue
		}
		require.Equal(t, value, got)
		require.Equal(t, "a=b", state)
	}
	for _, state := range []string{strings.Repeat("x", 513), "a=\n", "\xff"} {
		got, kept := eventstore.TraceOf(eventstore.WithTrace(t.Context(), parent, state))
		require.Equal(t, parent, got)
		require.Empty(t, kept)
	}
}

func TestEventsBelongToTheTraceOfTheirContext(t *testing.T) {
	t.Parallel()
	s := openConsume(t)
	ctx := eventstore.WithTrace(t.Context(), parent, "a=b")
	own := map[string]string{"traceparent": "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"}
	_, err := s.Append(ctx, "key-a", eventstore.Any,
		eventstore.Event{Data: Counted{1}},
		eventstore.Event{Data: Counted{2}, Metadata: map[string]string{"by": "ann", "tracestate": "stale"}},
		eventstore.Event{Data: Counted{3}, Metadata: own},
		eventstore.Event{Data: Counted{4}, Causation: eventstore.NewID()})
	require.NoError(t, err)
	var list []*eventstore.Recorded
	for r, err := range s.ReadStream(t.Context(), "key-a", 0) {
		require.NoError(t, err)
		list = append(list, r)
	}
	require.Equal(t, map[string]string{"traceparent": parent, "tracestate": "a=b"}, list[0].Metadata)
	require.Equal(t, map[string]string{"by": "ann", "traceparent": parent, "tracestate": "a=b"}, list[1].Metadata)
	require.Equal(t, own, list[2].Metadata)
	require.Nil(t, list[3].Metadata, "what caused it knows its trace")

	// What a handler appends belongs to the trace of what it handles.
	_, err = s.Append(eventstore.NewContext(t.Context(), list[0]), "key-b", eventstore.Any, eventstore.Event{Data: Counted{1}})
	require.NoError(t, err)
	for r, err := range s.ReadStream(t.Context(), "key-b", 0) {
		require.NoError(t, err)
		require.Equal(t, list[0].Metadata, r.Metadata)
	}
	bad := *list[0]
	bad.Metadata = map[string]string{"traceparent": "x"}
	got, _ := eventstore.TraceOf(eventstore.NewContext(t.Context(), &bad))
	require.Empty(t, got)
}
