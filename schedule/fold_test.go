package schedule

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// Who begins to read at any place knows the same as who has read everything, since nothing is cut off before it was
// carried, and before what ended meanwhile was told again.
func TestWhoBeginsAnywhereKnowsTheSame(t *testing.T) {
	t.Parallel()
	type ev struct {
		typ string
		e   entry
	}
	set := func(key string) ev { return ev{typeSet, entry{Key: key, At: time.Unix(1, 0), Command: "c"}} }
	on := func(typ, key string, of eventstore.Version) ev { return ev{typ, entry{Key: key, Of: of}} }
	carried := func(key string, of eventstore.Version, due bool) ev {
		return ev{typeCarried, entry{Key: key, Of: of, At: time.Unix(1, 0), Command: "c", Due: due}}
	}
	tests := []struct {
		name    string
		events  []ev
		from    []eventstore.Version // where a reader may begin
		pending map[string]eventstore.Version
		due     []eventstore.Version
	}{
		{"carried", []ev{set("a"), carried("a", 1, false)}, []eventstore.Version{0, 1}, map[string]eventstore.Version{"a": 1}, nil},
		{"carried twice", []ev{set("a"), carried("a", 1, false), carried("a", 1, false)}, []eventstore.Version{0, 1, 2}, map[string]eventstore.Version{"a": 1}, nil},
		{"carried, then cancelled", []ev{set("a"), carried("a", 1, false), on(typeCancelled, "a", 0)}, []eventstore.Version{0, 1, 2}, nil, nil},
		{"cancelled, then carried", []ev{set("a"), on(typeCancelled, "a", 0), carried("a", 1, false), on(typeDone, "a", 1)}, []eventstore.Version{0, 1, 2, 3}, nil, nil},
		{"cancelled, then carried, not told again yet", []ev{set("a"), on(typeCancelled, "a", 0), carried("a", 1, false)}, []eventstore.Version{0, 1}, nil, nil},
		{"replaced, then carried", []ev{set("a"), set("a"), carried("a", 1, false)}, []eventstore.Version{0, 1}, map[string]eventstore.Version{"a": 2}, nil},
		{"due, then carried as due", []ev{set("a"), on(typeDue, "a", 1), carried("a", 1, true)}, []eventstore.Version{0, 2}, nil, []eventstore.Version{1}},
		{"due, set again, cancelled", []ev{set("a"), on(typeDue, "a", 1), set("a"), on(typeCancelled, "a", 0)}, []eventstore.Version{0}, nil, []eventstore.Version{1}},
		{"due, set again, carried both", []ev{set("a"), on(typeDue, "a", 1), set("a"), carried("a", 1, true), carried("a", 3, false)}, []eventstore.Version{0, 3}, map[string]eventstore.Version{"a": 3}, []eventstore.Version{1}},
		{"done, then carried as due", []ev{set("a"), on(typeDue, "a", 1), on(typeDone, "a", 1), carried("a", 1, true), on(typeDone, "a", 1)}, []eventstore.Version{0, 1, 2, 3, 4}, nil, nil},
		{"cancelled, then due", []ev{set("a"), on(typeCancelled, "a", 0), on(typeDue, "a", 1)}, []eventstore.Version{0, 1, 2}, nil, nil},
		{"replaced, then due", []ev{set("a"), set("a"), on(typeDue, "a", 1)}, []eventstore.Version{0, 1}, map[string]eventstore.Version{"a": 2}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, from := range tt.from {
				k := newKeeper(&Timers{Name: "timers", Logger: slog.New(slog.DiscardHandler)}, &projection.Group{})
				k.loading, k.gone = true, gone{map[string]bool{}, map[eventstore.Version]bool{}}
				for i, e := range tt.events[from:] {
					data, err := json.Marshal(e.e)
					require.NoError(t, err)
					k.fold(&eventstore.Recorded{Event: eventstore.Event{Type: e.typ, Raw: data}, Version: from + eventstore.Version(i) + 1})
				}
				pending := map[string]eventstore.Version{}
				for key, a := range k.pending {
					pending[key] = a.version
				}
				var due []eventstore.Version
				for v := range k.due {
					due = append(due, v)
				}
				if tt.pending == nil {
					tt.pending = map[string]eventstore.Version{}
				}
				require.Equal(t, tt.pending, pending, "from %d", from)
				require.Equal(t, tt.due, due, "from %d", from)
				require.Len(t, k.queue, len(pending)+len(due))
			}
		})
	}
}

// A live reader that finds something carried which had ended says so again.
func TestWhatEndedBeforeItWasCarriedIsToldAgain(t *testing.T) {
	t.Parallel()
	k := newKeeper(&Timers{Name: "timers", Logger: slog.New(slog.DiscardHandler)}, &projection.Group{})
	for i, typ := range []string{typeSet, typeCancelled, typeCarried} {
		data, err := json.Marshal(entry{Key: "a", Of: eventstore.Version(i / 2)})
		require.NoError(t, err)
		k.fold(&eventstore.Recorded{Event: eventstore.Event{Type: typ, Raw: data}, Version: eventstore.Version(i + 1)})
	}
	require.Empty(t, k.pending)
	require.Equal(t, []entry{{Key: "a", Of: 1}}, k.void)
}
