package natsstore

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/eventstore/driver"
)

// asStored is what the server keeps of a message.
func asStored(t require.TestingT, m *nats.Msg, seq uint64) *message {
	// Over the wire and back.
	var b strings.Builder
	b.WriteString("NATS/1.0\r\n")
	for k, vs := range m.Header {
		for _, v := range vs {
			b.WriteString(k + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	h, err := nats.DecodeHeadersMsg([]byte(b.String()))
	require.NoError(t, err)
	return &message{subject: m.Subject, seq: seq, time: time.Unix(1, 2).UTC(), header: h, data: m.Data}
}

func drawEvent(t *rapid.T) driver.Event {
	text := func(label string) string {
		return string(rapid.SliceOfN(rapid.Byte(), 0, 30).Draw(t, label))
	}
	e := driver.Event{Type: text("type"), ContentType: text("content type"), Data: []byte(text("data"))}
	copy(e.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	copy(e.Correlation[:], rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "correlation"))
	copy(e.Causation[:], rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "causation"))
	for range rapid.IntRange(0, 3).Draw(t, "metadata") {
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		e.Metadata[text("key")] = text("value")
	}
	for range rapid.IntRange(0, 3).Draw(t, "tags") {
		e.Tags = append(e.Tags, text("tag"))
	}
	if rapid.IntRange(0, 4).Draw(t, "large") == 0 {
		if e.Metadata == nil {
			e.Metadata = map[string]string{}
		}
		e.Metadata["large"] = strings.Repeat("é", maxHeaderBytes/3)
	}
	return e
}

func TestAnEventSurvivesItsHeaders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h history
		before := rapid.Uint64Range(0, 100).Draw(t, "version")
		for v := uint64(1); v <= before; v++ {
			h = h.push(3 * v)
		}
		s := state{seq: 3 * before, version: before, first: 1, history: h}
		if rapid.Bool().Draw(t, "truncated") {
			s.first = rapid.Uint64Range(1, before+1).Draw(t, "first")
			s.origin = rapid.Uint64Range(0, s.first-1).Draw(t, "origin")
			s.history = h.from(s.first)
		}
		list := rapid.SliceOfN(rapid.Custom(drawEvent), 1, 30).Draw(t, "events")
		seq := 3*before + rapid.Uint64Range(1, 50).Draw(t, "others between")
		after := s.history
		for i, m := range s.messages("x.u.a.-1", "nonce", list) {
			require.LessOrEqual(t, headerSize(m.Header), maxHeaderBytes+4096)
			got := asStored(t, m, seq+uint64(i))
			r, err := got.recorded("a-1")
			require.NoError(t, err)
			want := list[i]
			if len(want.Data) == 0 {
				want.Data = nil
			}
			require.Equal(t, driver.Recorded{Event: want, Stream: "a-1", Version: before + uint64(i) + 1, Position: seq + uint64(i), Time: time.Unix(1, 2).UTC()}, r)
			now, err := got.state()
			require.NoError(t, err)
			after = after.push(seq + uint64(i))
			require.Equal(t, pointers(after), pointers(now.history), "event %d", i)
			require.Equal(t, before+uint64(i)+1, now.version)
			require.Equal(t, s.first, now.first)
			require.Equal(t, s.origin, now.origin)
			require.Equal(t, "nonce", now.nonce)
			require.False(t, now.purged)
		}
		s.history = after
		s.version += uint64(len(list))
		m := asStored(t, s.marker("x.u.a.-1", kindPurged, "n"), seq+99)
		require.True(t, m.marker())
		now, err := m.state()
		require.NoError(t, err)
		require.True(t, now.purged)
		require.Equal(t, s.version, now.version)
		require.Equal(t, pointers(after), pointers(now.history))
	})
}

func pointers(h history) map[uint64]uint64 {
	m := map[uint64]uint64{}
	h.each(func(p pointer) { m[p.version] = p.seq })
	return m
}

func FuzzAMessageIsRefusedOrUnderstood(f *testing.F) {
	s := state{version: 40, first: 3, origin: 2, history: history{}.pushAll(1, 40)}
	big := driver.Event{Type: "t", Metadata: map[string]string{"k": strings.Repeat("v", maxHeaderBytes)}, Tags: []string{"a", "b"}, Data: []byte("data")}
	for _, m := range s.messages("x.u.a.-1", "n", []driver.Event{{Type: "t", Metadata: map[string]string{"a": "b"}, Tags: []string{"x"}}, big}) {
		f.Add(m.Header.Get(headerVersion), m.Header.Get(headerPart), m.Header.Get(headerPointers), m.Header.Get(headerMetadata), m.Header.Get(headerTags), m.Header.Get(headerAside), m.Data)
	}
	f.Fuzz(func(t *testing.T, version, part, pointers, metadata, tags, aside string, data []byte) {
		h := nats.Header{headerID: {strings.Repeat("0", 32)}, headerType: {"t"}}
		for name, v := range map[string]string{headerVersion: version, headerPart: part, headerPointers: pointers, headerMetadata: metadata, headerTags: tags, headerAside: aside} {
			if v != "" {
				h[name] = []string{v}
			}
		}
		m := &message{subject: "x.u.a.-1", seq: 1 << 40, header: h, data: data}
		if r, err := m.recorded("a-1"); err != nil {
			require.ErrorIs(t, err, ErrNotStore)
		} else {
			require.NotZero(t, r.Version)
		}
		if s, err := m.state(); err != nil {
			require.ErrorIs(t, err, ErrNotStore)
		} else {
			s.history.each(func(p pointer) { require.LessOrEqual(t, p.version, s.version) })
		}
	})
}
