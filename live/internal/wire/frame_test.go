package wire_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/live/internal/wire"
	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

func TestFramesOfTheServerAreThoseOfTheProtocol(t *testing.T) {
	t.Parallel()
	title := "A \"b\" <c>"
	body := wire.Body{
		Frame:   []byte(`[0,"x"]`),
		Before:  []wire.Push{{Event: "f", Payload: json.RawMessage(`1`)}},
		After:   []wire.Push{{Event: "e", Payload: json.RawMessage(`{}`)}, {Event: "e", Payload: json.RawMessage(`null`)}},
		Replies: []wire.Reply{{Ref: 3, Value: json.RawMessage(`[]`)}, {Ref: 4, Value: json.RawMessage(`2`)}},
		Title:   &title, URL: "/x?y", Replace: true, Position: 18446744073709551615,
	}
	for want, got := range map[string][]byte{
		`[0]`:           wire.AppendUpdate(nil, nil, &wire.Body{}),
		`[7]`:           wire.AppendUpdate(nil, []uint64{7}, &wire.Body{}),
		`[[7,9]]`:       wire.AppendUpdate(nil, []uint64{7, 9}, &wire.Body{}),
		`[7,{"d":[1]}]`: wire.AppendUpdate(nil, []uint64{7}, &wire.Body{Frame: []byte(`[1]`)}),
		`[0,{"d":[0,"x"],"f":[["f",1]],"e":[["e",{}],["e",null]],"r":[[3,[]],[4,2]],"t":"A \"b\" \u003cc\u003e","u":["/x?y",1],"v":"18446744073709551615"}]`: wire.AppendUpdate(nil, nil, &body),
		`["j",0,{"d":{},"u":["/",0]}]`: wire.AppendMount(nil, 0, &wire.Body{Frame: []byte(`{}`), URL: "/"}),
		`["g","a\"b",1,2,[0]]`:         wire.AppendRegion(nil, `a"b`, 1, 2, []byte(`[0]`)),
		`["l","/x"]`:                   wire.AppendLeave(nil, "/x"),
		`["s"]`:                        wire.AppendStale(nil),
		`["b",2]`:                      wire.AppendBye(nil, time.Millisecond+1),
		`["b",0]`:                      wire.AppendBye(nil, -time.Second),
	} {
		require.Equal(t, want, string(got))
		_, err := wiretest.Parse(got)
		require.NoError(t, err)
	}
}

func TestAppendingLeavesWhatIsThere(t *testing.T) {
	t.Parallel()
	require.Equal(t, `x[0]`, string(wire.AppendUpdate([]byte("x"), nil, &wire.Body{})))
}

func TestWhatIsEncodedIsWhatIsRead(t *testing.T) {
	t.Parallel()
	raw := rapid.Custom(func(t *rapid.T) json.RawMessage {
		b, err := json.Marshal(rapid.String().Draw(t, "json"))
		require.NoError(t, err)
		return b
	})
	push := rapid.Custom(func(t *rapid.T) wire.Push {
		return wire.Push{Event: rapid.String().Draw(t, "event"), Payload: raw.Draw(t, "payload")}
	})
	reply := rapid.Custom(func(t *rapid.T) wire.Reply {
		return wire.Reply{Ref: rapid.Uint64Min(1).Draw(t, "ref"), Value: raw.Draw(t, "value")}
	})
	rapid.Check(t, func(t *rapid.T) {
		body := wire.Body{
			Frame:    raw.Draw(t, "frame"),
			Before:   rapid.SliceOfN(push, 0, 3).Draw(t, "before"),
			After:    rapid.SliceOfN(push, 0, 3).Draw(t, "after"),
			Replies:  rapid.SliceOfN(reply, 0, 3).Draw(t, "replies"),
			Title:    rapid.Ptr(rapid.String(), true).Draw(t, "title"),
			URL:      rapid.String().Draw(t, "url"),
			Position: rapid.Uint64().Draw(t, "position"),
		}
		body.Replace = body.URL != "" && rapid.Bool().Draw(t, "replace")
		acks := rapid.SliceOfN(rapid.Uint64Min(1), 0, 3).Draw(t, "acks")
		same := func(got wire.Body) {
			require.Equal(t, string(body.Frame), string(got.Frame))
			require.ElementsMatch(t, body.Before, got.Before)
			require.ElementsMatch(t, body.After, got.After)
			require.ElementsMatch(t, body.Replies, got.Replies)
			require.Equal(t, body.Title, got.Title)
			require.Equal(t, body.URL, got.URL)
			require.Equal(t, body.Replace, got.Replace)
			require.Equal(t, body.Position, got.Position)
		}
		f, err := wiretest.Parse(wire.AppendUpdate(nil, acks, &body))
		require.NoError(t, err)
		require.ElementsMatch(t, acks, f.Acks)
		same(f.Body)
		f, err = wiretest.Parse(wire.AppendMount(nil, 5, &body))
		require.NoError(t, err)
		require.Equal(t, uint64(5), f.Ref)
		same(f.Body)
	})
}

func TestASharedFrameIsPreparedOnce(t *testing.T) {
	t.Parallel()
	s := &wire.Shared{Bytes: []byte("x")}
	calls := 0
	prepare := func(b []byte) any { calls++; return string(b) + "!" }
	require.Equal(t, "x!", s.Prepared(prepare))
	require.Equal(t, "x!", s.Prepared(prepare))
	require.Equal(t, 1, calls)
}
