package wire_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/live/internal/wire"
)

func TestFramesOfTheProtocolAreUnderstood(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		frame string
		want  wire.Message
	}{
		"join": {
			`[1,"j",{"t":"tok","u":"/a?b=c","p":{"zone":"UTC","é\n":""},"v":"18446744073709551615","n":3}]`,
			wire.Message{Ref: 1, Kind: wire.Join, URL: "/a?b=c", Join: &wire.JoinValues{
				Token: "tok", Params: map[string]string{"zone": "UTC", "é\n": ""}, Position: 1<<64 - 1, Joins: 3}},
		},
		"join with what is needed": {
			`[1,"j",{"u":"/","t":""}]`, wire.Message{Ref: 1, Kind: wire.Join, URL: "/", Join: &wire.JoinValues{}},
		},
		"click": {
			`[2,"e","buy","click",{"price":"1\u00e9\"","":""}]`,
			wire.Message{Ref: 2, Kind: wire.Event, Name: "buy", Type: "click", Values: url.Values{"price": {`1é"`}, "": {""}}},
		},
		"submit": {
			`[9007199254740991,"e","buy","submit","a=1&a=2&b=%20+"]`,
			wire.Message{Ref: wire.MaxRef, Kind: wire.Event, Name: "buy", Type: "submit", Values: url.Values{"a": {"1", "2"}, "b": {"  "}}},
		},
		"change": {
			`[3,"e","check","change","_target=a"]`,
			wire.Message{Ref: 3, Kind: wire.Event, Name: "check", Type: "change", Values: url.Values{"_target": {"a"}}},
		},
		"hook": {
			`[3,"e","move","hook", {"x": [1.5e3, null, true, "]"]} ]`,
			wire.Message{Ref: 3, Kind: wire.Event, Name: "move", Type: "hook", Payload: json.RawMessage(`{"x": [1.5e3, null, true, "]"]}`)},
		},
		"hook with a number": {
			`[3,"e","move","hook",-1]`, wire.Message{Ref: 3, Kind: wire.Event, Name: "move", Type: "hook", Payload: json.RawMessage(`-1`)},
		},
		"patch":     {`[4,"p","/x"]`, wire.Message{Ref: 4, Kind: wire.Patch, URL: "/x"}},
		"navigate":  {`[4,"n","/x"]`, wire.Message{Ref: 4, Kind: wire.Navigate, URL: "/x"}},
		"region":    {`[4,"g","book"]`, wire.Message{Ref: 4, Kind: wire.Region, Name: "book"}},
		"heartbeat": {" [ 4 ,\t\"h\" ]\r\n", wire.Message{Ref: 4, Kind: wire.Heartbeat}},
		"surrogates": {
			`[4,"p","/\ud83d\ude00\ud800"]`, wire.Message{Ref: 4, Kind: wire.Patch, URL: "/😀\ufffd"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := wire.Decode([]byte(test.frame))
			require.NoError(t, err)
			require.Equal(t, test.want, m)
		})
	}
}

func TestAnythingElseIsRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", wire.MaxDepth+1) + strings.Repeat("]", wire.MaxDepth+1)
	for name, frame := range map[string]string{
		"nothing":                   ``,
		"no array":                  `{}`,
		"an empty array":            `[]`,
		"no ref":                    `["h"]`,
		"a ref of 0":                `[0,"h"]`,
		"a ref below 0":             `[-1,"h"]`,
		"a ref with a fraction":     `[1.5,"h"]`,
		"a ref with a zero":         `[01,"h"]`,
		"a ref too large":           `[9007199254740992,"h"]`,
		"a ref far too large":       `[99999999999999999999999,"h"]`,
		"an unknown kind":           `[1,"x"]`,
		"a long kind":               `[1,"hh"]`,
		"an empty kind":             `[1,""]`,
		"no end":                    `[1,"h"`,
		"something behind":          `[1,"h"] 1`,
		"something more":            `[1,"h",1]`,
		"no UTF-8":                  "[1,\"p\",\"/\xff\"]",
		"a string without end":      `[1,"p","/`,
		"a string with a newline":   "[1,\"p\",\"/\n\"]",
		"a wrong escape":            `[1,"p","\x"]`,
		"a half escape":             `[1,"p","\u12"]`,
		"an escaped end":            `[1,"p","\"]`,
		"a patch without a URL":     `[1,"p"]`,
		"a patch to a number":       `[1,"p",1]`,
		"a join of nothing":         `[1,"j",{}]`,
		"a join without a token":    `[1,"j",{"u":"/"}]`,
		"a join without a URL":      `[1,"j",{"t":""}]`,
		"a join with more":          `[1,"j",{"t":"","u":"/","x":1}]`,
		"a join with an empty key":  `[1,"j",{"t":"","u":"/","":1}]`,
		"a join with capitals":      `[1,"j",{"T":"","u":"/"}]`,
		"two tokens":                `[1,"j",{"t":"","t":"","u":"/"}]`,
		"a param that is a number":  `[1,"j",{"t":"","u":"/","p":{"a":1}}]`,
		"a param twice":             `[1,"j",{"t":"","u":"/","p":{"a":"","a":""}}]`,
		"a position as a number":    `[1,"j",{"t":"","u":"/","v":1}]`,
		"a position with a sign":    `[1,"j",{"t":"","u":"/","v":"+1"}]`,
		"an empty position":         `[1,"j",{"t":"","u":"/","v":""}]`,
		"a position too large":      `[1,"j",{"t":"","u":"/","v":"18446744073709551616"}]`,
		"joins below 0":             `[1,"j",{"t":"","u":"/","n":-1}]`,
		"an event without a name":   `[1,"e","","click",{}]`,
		"an event with a long name": `[1,"e","` + strings.Repeat("x", wire.MaxName+1) + `","click",{}]`,
		"an event of no kind":       `[1,"e","a","dblclick",{}]`,
		"an event without a value":  `[1,"e","a","click"]`,
		"a click of numbers":        `[1,"e","a","click",{"a":1}]`,
		"a click of an array":       `[1,"e","a","click",[]]`,
		"a value twice":             `[1,"e","a","click",{"a":"1","a":"2"}]`,
		"a comma too much":          `[1,"e","a","click",{"a":"1",}]`,
		"a submit of an object":     `[1,"e","a","submit",{}]`,
		"a form that is broken":     `[1,"e","a","submit","a=%zz"]`,
		"a form with a semicolon":   `[1,"e","a","submit","a=1;b=2"]`,
		"a hook without a payload":  `[1,"e","a","hook"]`,
		"a hook with nothing":       `[1,"e","a","hook",]`,
		"a hook with no JSON":       `[1,"e","a","hook",nul]`,
		"a hook with two":           `[1,"e","a","hook",1 2]`,
		"a hook with a wrong end":   `[1,"e","a","hook",[}]`,
		"a hook with an open end":   `[1,"e","a","hook",[1]`,
		"a hook with a bare comma":  `[1,"e","a","hook",[1,]]`,
		"a hook too deep":           `[1,"e","a","hook",` + deep + `]`,
		"a region without a name":   `[1,"g",""]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := wire.Decode([]byte(frame))
			require.ErrorIs(t, err, wire.ErrMessage)
			require.Zero(t, m)
		})
	}
}

func TestAPayloadMayBeAsDeepAsTheBound(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", wire.MaxDepth) + strings.Repeat("]", wire.MaxDepth)
	_, err := wire.Decode([]byte(`[1,"e","a","hook",` + deep + `]`))
	require.NoError(t, err)
}

func TestAMessageDoesNotReferToItsFrame(t *testing.T) {
	t.Parallel()
	frame := []byte(`[1,"e","name","hook",{"key":"value"}]`)
	m, err := wire.Decode(frame)
	require.NoError(t, err)
	clear(frame)
	require.Equal(t, "name", m.Name)
	require.Equal(t, `{"key":"value"}`, string(m.Payload))
}

// FuzzDecode holds what is understood to what encoding/json makes of it.
func FuzzDecode(f *testing.F) {
	for _, frame := range []string{
		`[1,"j",{"t":"tok","u":"/","p":{"a":"b"},"v":"7","n":3}]`,
		`[2,"e","buy","click",{"price":"1"}]`,
		`[2,"e","buy","submit","a=1&b=2"]`,
		`[2,"e","buy","hook",{"a":[1,"x",null]}]`,
		`[3,"p","/a"]`, `[4,"g","r"]`, `[5,"h"]`,
	} {
		f.Add([]byte(frame))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := wire.Decode(frame)
		if err != nil {
			require.ErrorIs(t, err, wire.ErrMessage)
			return
		}
		var a []json.RawMessage
		require.NoError(t, json.Unmarshal(frame, &a))
		text := func(i int) (s string) {
			require.NoError(t, json.Unmarshal(a[i], &s))
			return s
		}
		var ref uint64
		require.NoError(t, json.Unmarshal(a[0], &ref))
		require.Equal(t, ref, m.Ref)
		require.Equal(t, string(m.Kind), text(1))
		switch m.Kind {
		case wire.Join:
			var j struct {
				T, U, V string
				P       map[string]string
				N       int
			}
			require.NoError(t, json.Unmarshal(a[2], &j))
			require.Equal(t, j.T, m.Join.Token)
			require.Equal(t, j.U, m.URL)
			require.Equal(t, j.N, m.Join.Joins)
			require.Equal(t, j.P, m.Join.Params)
		case wire.Event:
			require.Len(t, a, 5)
			require.Equal(t, text(2), m.Name)
			require.Equal(t, text(3), m.Type)
			switch m.Type {
			case "hook":
				require.JSONEq(t, string(a[4]), string(m.Payload))
			case "submit", "change":
				values, err := url.ParseQuery(text(4))
				require.NoError(t, err)
				require.Equal(t, values, m.Values)
			default:
				var values map[string]string
				require.NoError(t, json.Unmarshal(a[4], &values))
				require.Len(t, m.Values, len(values))
				for k, v := range values {
					require.Equal(t, v, m.Values.Get(k))
				}
			}
		case wire.Patch, wire.Navigate:
			require.Equal(t, text(2), m.URL)
		case wire.Region:
			require.Equal(t, text(2), m.Name)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	frame := []byte(`[2,"e","buy","click",{"price":"100.25","side":"buy"}]`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.Decode(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAnEventMaySayWhichViewItIsFor(t *testing.T) {
	t.Parallel()
	for frame, want := range map[string]uint64{
		`[1,"e","x","click",{}]`:         0,
		`[1,"e","x","click",{},3]`:       3,
		`[1,"e","x","hook",[1,2] , 12 ]`: 12,
		`[1,"e","x","submit","a=b",1]`:   1,
	} {
		m, err := wire.Decode([]byte(frame))
		require.NoError(t, err, frame)
		require.Equal(t, want, m.View, frame)
	}
	for _, frame := range []string{`[1,"e","x","click",{},]`, `[1,"e","x","click",{},-1]`, `[1,"e","x","click",{},"1"]`, `[1,"e","x","click",{},1,1]`, `[1,"h",1]`} {
		_, err := wire.Decode([]byte(frame))
		require.ErrorIs(t, err, wire.ErrMessage, frame)
	}
}
