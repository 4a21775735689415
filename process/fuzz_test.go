package process_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/system"
	"github.com/levada-go/levada/process"
)

// Whatever stands in the stream of an instance, reading it fails in order or succeeds.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"position":1,"status":"running","state":{}}`), []byte(`{"position":2,"status":"stuck","parked":1}`), "$process.waiting")
	f.Add([]byte(`{"status":"stuck","left":1,"error":"x"}`), []byte(`{"parked":7}`), "$process.parked")
	f.Add([]byte(`null`), []byte(`[`), "?")
	f.Fuzz(func(t *testing.T, one, two []byte, typ string) {
		s := memstore.Open(nil)
		defer s.Close()
		for _, data := range [][]byte{one, two} {
			e := eventstore.Event{Type: typ, Raw: append([]byte{}, data...), ContentType: "application/json"}
			if _, err := s.Append(system.Context(t.Context()), "$process.job-1", eventstore.Any, e); err != nil {
				t.Skip(err)
			}
		}
		if _, err := process.Read(t.Context(), s, "job", "1"); err != nil {
			require.True(t, errors.Is(err, eventstore.ErrCodec), "%v", err)
		}
		n := 0
		for _, err := range process.History(t.Context(), s, "job", "1") {
			if err == nil {
				n++
			}
		}
		require.LessOrEqual(t, n, 2)
	})
}
