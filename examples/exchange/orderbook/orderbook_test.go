package orderbook

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/levada-go/levada/aggregate"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/examples/exchange/book"
)

// draw makes up a command for a small market, now and then a senseless one.
func draw(pick func(n int) int) aggregate.Command[Book] {
	mark := Mark{Line: uint64(pick(3)), Sum: uint32(pick(1000))}
	id, owner := uint64(pick(30)), uint64(max(0, pick(5)-2))
	num := func() int64 {
		return int64([]int{-1, 0, 90 + pick(20), 90 + pick(20), 90 + pick(20), 90 + pick(20)}[pick(6)])
	}
	switch pick(6) {
	case 0:
		return Cancel{Symbol: "x", Mark: mark, ID: id, Owner: owner}
	case 1:
		return Modify{Symbol: "x", Mark: mark, Ref: `a"b`, ID: id, Owner: owner, Fields: book.Fields(pick(8)), Qty: num(), Price: num(), Stop: num()}
	}
	c := Place{Symbol: "x", Mark: mark, Ref: []string{"", `"é\u0000"`}[pick(2)], ID: id, Owner: owner, Side: book.Side(1 + pick(2)),
		Type: book.Type(max(0, pick(8)-2)), TIF: book.TIF(max(0, pick(5)-2)), STP: book.STP(pick(5)), PostOnly: pick(6) == 0, Qty: int64(1 + pick(9))}
	if c.Type == book.Limit || c.Type == book.StopLimit || c.Type == book.TakeProfitLimit {
		c.Price = num()
	}
	if c.Type >= book.Stop {
		c.Stop = num()
	}
	if pick(30) == 0 {
		c.Side, c.Type, c.TIF, c.STP = 9, 200, 7, 255
	}
	return c
}

func decide(t require.TestingT, b Book, c aggregate.Command[Book]) Decided {
	events, err := c.Execute(b)
	require.NoError(t, err)
	require.Len(t, events, 1)
	return events[0].(Decided)
}

func shown(b Book) []book.Order {
	l := b.Live()
	return slices.Concat(slices.Collect(l.Waiting()), slices.Collect(l.Resting(book.Buy)), slices.Collect(l.Resting(book.Sell)))
}

func TestStoredEventsFoldToTheSameBook(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var direct, stored Book
		for range 80 {
			c := draw(r.IntN)
			before := shown(direct)
			d := decide(t, direct, c)
			require.Equal(t, before, shown(direct), "Execute changed the state")

			data, err := json.Marshal(d)
			require.NoError(t, err)
			var back Decided
			require.NoError(t, json.Unmarshal(data, &back), "%s", data)
			require.Equal(t, d, back, "%s", data)

			d.Apply(&direct)
			back.Apply(&stored)
		}
		require.Equal(t, shown(direct), shown(stored))
		require.Equal(t, direct.Mark(), stored.Mark())

		data, err := json.Marshal(direct)
		require.NoError(t, err)
		var restored Book
		require.NoError(t, json.Unmarshal(data, &restored), "%s", data)
		require.Equal(t, shown(direct), shown(restored))
		require.Equal(t, direct.Mark(), restored.Mark())
		again, err := json.Marshal(restored)
		require.NoError(t, err)
		require.Equal(t, string(data), string(again))
	})
}

func TestEmptyStateIsABook(t *testing.T) {
	t.Parallel()
	var b, c Book
	require.Zero(t, b.Live().Len())
	require.Zero(t, b.Mark())
	data, err := b.MarshalJSON()
	require.NoError(t, err)
	require.JSONEq(t, `{"last":0,"line":0,"sum":0,"orders":[]}`, string(data))
	require.NoError(t, c.UnmarshalJSON(data))
	d := decide(t, b, Place{ID: 1, Side: book.Buy, Qty: 1, Price: 1})
	d.Apply(&b)
	require.Equal(t, 1, b.Live().Len())
	require.Zero(t, c.Live().Len(), "books share nothing")
	var e Book
	require.Zero(t, e.Live().Len(), "the empty book stays empty")
}

func TestRefusalIsAnEventThatChangesNothing(t *testing.T) {
	t.Parallel()
	var b Book
	d := decide(t, b, Cancel{ID: 4, Mark: Mark{3, 9}})
	require.ErrorIs(t, d.Err(), book.ErrUnknownOrder)
	require.Empty(t, d.Effects)
	d.Apply(&b)
	require.Zero(t, b.Live().Len())
	require.Equal(t, Mark{3, 9}, b.Mark())
	d = decide(t, b, Place{ID: 1, Side: book.Buy, Qty: 1, Price: 1})
	require.NoError(t, d.Err())
	d.Apply(&b)
	require.Equal(t, Mark{3, 9}, b.Mark(), "no mark leaves the last one")
}

func TestEventsAreStoredInTheDocumentedForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		event Decided
		want  string
	}{
		{"order that trades and rests", Decided{
			Mark: Mark{9, 123}, Ref: "x",
			Command: book.Command{Op: book.Place, ID: 4, Owner: 7, Side: book.Buy, STP: book.STPDecrement, Qty: 100, Price: 1251},
			Effects: []book.Effect{
				{Kind: book.Trade, Side: book.Buy, ID: 4, Owner: 7, Maker: 2, MakerOwner: 8, Price: 1251, Qty: 60, Left: 5},
				{Kind: book.Rest, Side: book.Buy, ID: 4, Owner: 7, Price: 1251, Qty: 40},
			}},
			`{"op":"new","id":4,"ref":"x","owner":7,"side":"buy","stp":"decrement","qty":100,"price":1251,"line":9,"sum":123,` +
				`"effects":[["trade","buy",4,7,1251,60,2,8,5],["rest","buy",4,7,1251,40]]}`},
		{"refusal", Decided{Command: book.Command{Op: book.Cancel, ID: 4}, Reason: book.ErrUnknownOrder},
			`{"op":"cancel","id":4,"reason":"unknown order"}`},
		{"modification to zero", Decided{Command: book.Command{Op: book.Modify, ID: 4, Fields: book.FieldQty}, Reason: book.ErrQty},
			`{"op":"modify","id":4,"qty":0,"reason":"quantity is not positive"}`},
		{"senseless order", Decided{Command: book.Command{Op: book.Place, Side: 9, Type: 77, TIF: 8, STP: 200, PostOnly: true, Stop: -1}, Reason: book.ErrUnknownSide},
			`{"op":"new","id":0,"side":9,"type":77,"tif":8,"stp":200,"post_only":true,"stop":-1,"reason":"unknown side"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data, err := json.Marshal(c.event)
			require.NoError(t, err)
			require.Equal(t, c.want, string(data))
			var back Decided
			require.NoError(t, json.Unmarshal(data, &back))
			require.Equal(t, c.event, back)

			// The codec of a store does the same, only faster.
			require.Equal(t, eventstore.JSON.ContentType(), Codec.ContentType())
			data, err = Codec.Marshal(c.event)
			require.NoError(t, err)
			require.Equal(t, c.want, string(data))
			require.NoError(t, Codec.Unmarshal(data, &back))
			require.Equal(t, c.event, back)
		})
	}
	data, err := Codec.Marshal(Mark{1, 2})
	require.NoError(t, err)
	var m Mark
	require.NoError(t, Codec.Unmarshal(data, &m))
	require.Equal(t, Mark{1, 2}, m)
}

func TestMalformedBytesAreRefused(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"no object":               `[]`,
		"empty object":            `{}`,
		"no id":                   `{"op":"new"}`,
		"unknown field":           `{"op":"new","id":1,"x":1}`,
		"repeated field":          `{"op":"new","id":1,"id":1}`,
		"unknown name":            `{"op":"sell","id":1}`,
		"number beyond a byte":    `{"op":256,"id":1}`,
		"sum beyond 32 bits":      `{"op":"new","id":1,"sum":4294967296}`,
		"text behind":             `{"op":"new","id":1}x`,
		"effects of a refusal":    `{"op":"new","id":1,"reason":"unknown order","effects":[["fill","buy",1,0,0,0]]}`,
		"unknown reason":          `{"op":"new","id":1,"reason":"accepted"}`,
		"effects that are none":   `{"op":"new","id":1,"effects":{}}`,
		"effect that is none":     `{"op":"new","id":1,"effects":[1]}`,
		"short effect":            `{"op":"new","id":1,"effects":[["fill","buy",1,0,0]]}`,
		"long effect":             `{"op":"new","id":1,"effects":[["fill","buy",1,0,0,0,0,0,0]]}`,
		"short trade":             `{"op":"new","id":1,"effects":[["trade","buy",1,0,0,0]]}`,
		"quantity out of bounds":  `{"op":"new","id":1,"effects":[["rest","buy",1,0,1,4294967296]]}`,
		"negative price":          `{"op":"new","id":1,"effects":[["rest","buy",1,0,-1,1]]}`,
		"unfinished":              `{"op":"new","id":1`,
		"unfinished effects":      `{"op":"new","id":1,"effects":[["fill","buy",1,0,0,0]`,
		"no comma between fields": `{"op":"new" "id":1}`,
		"no colon":                `{"op" "new"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d Decided
			require.ErrorIs(t, d.UnmarshalJSON([]byte(in)), ErrFormat)
		})
	}
	for name, in := range map[string]string{
		"no object":     `1`,
		"unknown field": `{"x":1}`,
		"text behind":   `{"last":0}x`,
		"short order":   `{"orders":[["buy","limit","gtc","none",false,false,1,0,1,1]]}`,
		"crossed book":  `{"orders":[["buy","limit","gtc","none",false,false,1,0,1,5,0],["sell","limit","gtc","none",false,false,2,0,1,5,0]]}`,
		"large sum":     `{"sum":4294967296}`,
	} {
		t.Run("state "+name, func(t *testing.T) {
			t.Parallel()
			var b Book
			require.ErrorIs(t, b.UnmarshalJSON([]byte(in)), ErrFormat)
			require.Zero(t, b.Live().Len())
		})
	}
}

// What can be read at all is written and read again without a difference.
func FuzzDecided(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	var b Book
	for range 60 {
		d := decide(f, b, draw(r.IntN))
		d.Apply(&b)
		data, err := d.MarshalJSON()
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var d, back Decided
		if d.UnmarshalJSON(data) != nil {
			return
		}
		require.True(t, json.Valid(data))
		out, err := d.MarshalJSON()
		require.NoError(t, err)
		require.True(t, json.Valid(out), "%s", out)
		require.NoError(t, back.UnmarshalJSON(out), "%s", out)
		require.Equal(t, d, back)
	})
}

func FuzzBook(f *testing.F) {
	r := rand.New(rand.NewPCG(2, 1))
	var b Book
	for i := range 100 {
		decide(f, b, draw(r.IntN)).Apply(&b)
		if i%10 == 0 {
			data, err := b.MarshalJSON()
			require.NoError(f, err)
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b, back Book
		if b.UnmarshalJSON(data) != nil {
			return
		}
		out, err := b.MarshalJSON()
		require.NoError(t, err)
		require.NoError(t, back.UnmarshalJSON(out), "%s", out)
		require.Equal(t, shown(b), shown(back))
	})
}

func TestStoreTakesTheEvents(t *testing.T) {
	t.Parallel()
	var types eventstore.Types
	for name, example := range Books.Events {
		require.NoError(t, types.Register(name, example))
	}
}

func BenchmarkJSON(b *testing.B) {
	var bk Book
	decide(b, bk, Place{ID: 1, Side: book.Sell, Qty: 60, Price: 1251}).Apply(&bk)
	d := decide(b, bk, Place{Mark: Mark{1234567, 1234567890}, ID: 4, Side: book.Buy, Qty: 100, Price: 1251})
	data, err := json.Marshal(d)
	require.NoError(b, err)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = d.AppendJSON(buf[:0])
		}
		b.SetBytes(int64(len(buf)))
	})
	b.Run("marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(d)
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var back Decided
			if err := Codec.Unmarshal(data, &back); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var back Decided
			if err := json.Unmarshal(data, &back); err != nil {
				b.Fatal(err)
			}
		}
	})
}
