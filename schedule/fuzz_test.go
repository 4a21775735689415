package schedule

import (
	"log/slog"
	"testing"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/projection"
)

// Whatever stands in the stream, a keeper reads on and has in its queue what is pending or due.
func FuzzFold(f *testing.F) {
	f.Add([]byte(`{"key":"a","at":"2000-01-01T00:00:00Z"}`), []byte(`{"key":"a","of":1}`), uint8(0), uint8(3), true)
	f.Add([]byte(`{"key":"a","of":7,"due":true,"setBy":{"metadata":{"a":"b"}}}`), []byte(`{"key":"a","of":7}`), uint8(2), uint8(4), true)
	f.Add([]byte(`null`), []byte(`[`), uint8(0), uint8(1), false)
	types := []string{typeSet, typeCancelled, typeCarried, typeDue, typeDone, "?"}
	f.Fuzz(func(t *testing.T, one, two []byte, first, second uint8, loading bool) {
		k := newKeeper(&Timers{Name: "timers", Logger: slog.New(slog.DiscardHandler)}, &projection.Group{})
		if k.loading = loading; loading {
			k.gone = gone{map[string]bool{}, map[eventstore.Version]bool{}}
		}
		v := eventstore.Version(0)
		for _, e := range []struct {
			data []byte
			typ  uint8
		}{{one, first}, {two, second}, {one, second}, {two, first}} {
			v++
			k.fold(&eventstore.Recorded{Event: eventstore.Event{Type: types[int(e.typ)%len(types)], Raw: e.data}, Version: v})
			if len(k.queue) != len(k.pending)+len(k.due) {
				t.Fatalf("%d in the queue, %d pending, %d due", len(k.queue), len(k.pending), len(k.due))
			}
		}
	})
}
