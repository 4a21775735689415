package match

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/examples/exchange/book"
)

// Whatever is read as a line is JSON, and encoding/json finds the same in it.
func FuzzLine(f *testing.F) {
	for _, line := range []string{
		`{"op":"new","id":1,"side":"buy","type":"limit","tif":"gtc","qty":100,"price":1250,"stop":0,"owner":"a","post_only":false}`,
		`{"op":"cancel","id":"x"}`, `{"op":"modify","id":-1.5e3,"qty":50,"price":1251,"stop":-0}`, `{"op":"book","depth":10}`,
		`{"op":"book"} `, "{\t\"op\":\"book\"\r}", `{"op":"new","id":1,"side":"sell","type":"take_profit_limit","tif":"fok","post_only":true}`,
		`{"op":"cancel","id":1,"owner":"\ud800"}`, `{"op":"cancel","id":01}`, `{"op":"cancel","id":1,}`, `{"op":"book","op":"book"}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		q, err := parseLine(line)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		var want struct {
			Op, Side, Type, TIF, Owner string
			ID                         json.RawMessage
			Qty, Price, Stop           int64
			PostOnly                   bool `json:"post_only"`
			Depth                      int64
		}
		require.NoError(t, json.Unmarshal(line, &want))
		c := q.command
		if q.show {
			require.Equal(t, "book", want.Op)
			require.Equal(t, min(want.Depth, 1<<31-1), int64(q.depth))
			return
		}
		require.Equal(t, want.Op, c.Op.String())
		require.Equal(t, string(want.ID), string(q.id))
		require.Equal(t, [3]int64{want.Qty, want.Price, want.Stop}, [3]int64{c.Qty, c.Price, c.Stop})
		if c.Op == book.Place {
			require.Equal(t, want.Side, c.Side.String())
			require.True(t, want.Type == c.Type.String() || want.Type == "")
			require.True(t, want.TIF == c.TIF.String() || want.TIF == "")
			require.Equal(t, want.PostOnly, c.PostOnly)
		}
		// Names are given and found again.
		names := newNames()
		n, _ := names.id(q.id)
		require.Equal(t, string(q.id), string(names.append(nil, n)))
		again, _ := names.id(q.id)
		require.Equal(t, n, again)
	})
}

func BenchmarkLine(b *testing.B) {
	line := []byte(`{"op":"new","id":123456,"side":"buy","type":"limit","tif":"gtc","qty":100,"price":1250,"owner":"a"}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := parseLine(line); err != nil {
			b.Fatal(err)
		}
	}
}
