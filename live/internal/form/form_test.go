package form

import (
	"encoding/json"
	"errors"
	"math"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// amount is a type that reads itself from text.
type amount struct{ cents int }

func (a *amount) UnmarshalText(text []byte) error {
	if string(text) != "1.50" {
		return errors.New("not the amount of this test")
	}
	a.cents = 150
	return nil
}

type audit struct {
	Reason string
	Note   string `live:"why"`
}

type Paging struct{ Page uint8 }

type order struct {
	audit
	*Paging
	Symbol     string
	Quantity   int
	Small      int8
	Count      uint16
	StopPrice  float64
	Ratio      float32
	Limit      bool
	Price      amount
	At         time.Time
	Within     time.Duration
	Tags       []string
	IDs        []int
	Prices     []amount
	Raw        []byte
	MaybeCount *int
	MaybeLimit *bool
	MaybePrice *amount
	MaybeAt    *time.Time
	Side       side
	Hidden     string `live:"-"`
	Renamed    string `live:"other-name"`
	Nested     struct{ Street string }
	secret     string
}

type side string

func TestValuesAreDecodedIntoFieldsByTheirNames(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC)
	for _, row := range []struct {
		name  string
		query string
		want  func(o *order)
	}{
		{"text", "symbol=BTC+USD", func(o *order) { o.Symbol = "BTC USD" }},
		{"a named type of text", "side=buy", func(o *order) { o.Side = "buy" }},
		{"empty text over text", "symbol=", func(o *order) { o.Symbol = "" }},
		{"a whole number", "quantity=-12", func(o *order) { o.Quantity = -12 }},
		{"space around a number", "quantity=+12+", func(o *order) { o.Quantity = 12 }},
		{"the least number of a type", "small=-128", func(o *order) { o.Small = -128 }},
		{"a number without sign", "count=65535", func(o *order) { o.Count = 65535 }},
		{"minus zero without sign", "count=-0", func(o *order) {}},
		{"a number with a sign", "count=%2B7", func(o *order) { o.Count = 7 }},
		{"words of snake case", "stop_price=1.25", func(o *order) { o.StopPrice = 1.25 }},
		{"a number with an exponent", "stop_price=1e3", func(o *order) { o.StopPrice = 1000 }},
		{"a small float", "ratio=0.5", func(o *order) { o.Ratio = 0.5 }},
		{"on", "limit=on", func(o *order) { o.Limit = true }},
		{"true", "limit=TRUE", func(o *order) { o.Limit = true }},
		{"1", "limit=1", func(o *order) { o.Limit = true }},
		{"off", "limit=off", func(o *order) {}},
		{"a hidden no before a ticked box", "limit=false&limit=true", func(o *order) { o.Limit = true }},
		{"text of a type of its own", "price=1.50", func(o *order) { o.Price.cents = 150 }},
		{"RFC 3339", "at=2026-03-04T05:06:00Z", func(o *order) { o.At = at }},
		{"datetime-local", "at=2026-03-04T05:06", func(o *order) { o.At = at }},
		{"datetime-local with seconds", "at=2026-03-04T05:06:00.000", func(o *order) { o.At = at }},
		{"a date", "at=2026-03-04", func(o *order) { o.At = at.Truncate(24 * time.Hour) }},
		{"a duration", "within=1h30m", func(o *order) { o.Within = 90 * time.Minute }},
		{"a repeated name", "tags=a&tags=&tags=c", func(o *order) { o.Tags = []string{"a", "", "c"} }},
		{"repeated numbers", "ids=1&ids=&ids=3", func(o *order) { o.IDs = []int{1, 3} }},
		{"repeated text of a type", "prices=1.50&prices=1.50", func(o *order) { o.Prices = []amount{{150}, {150}} }},
		{"bytes", "raw=abc", func(o *order) { o.Raw = []byte("abc") }},
		{"a pointer", "maybe_count=0", func(o *order) { o.MaybeCount = new(int) }},
		{"an empty pointer", "maybe_count=&maybe_limit=&maybe_at=", func(o *order) {}},
		{"a pointer to a type", "maybe_price=1.50", func(o *order) { o.MaybePrice = &amount{150} }},
		{"a tag", "other-name=x&renamed=y", func(o *order) { o.Renamed = "x" }},
		{"an embedded struct", "reason=late&why=tired", func(o *order) { o.audit = audit{"late", "tired"} }},
		{"an embedded pointer", "page=3", func(o *order) { o.Paging = &Paging{3} }},
		{"numbers left empty", "quantity=&count=&stop_price=&price=&at=&within=&limit=", func(o *order) {}},
		{"names without a field", "nothing=1&_target=symbol&_unused_symbol=&secret=x&hidden=x&-=x&nested=x", func(o *order) {}},
		{"nothing", "", func(o *order) {}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			values, err := url.ParseQuery(row.query)
			require.NoError(t, err)
			var want, got order
			row.want(&want)
			wrong, err := Decode(values, nil, &got)
			require.NoError(t, err)
			require.Empty(t, wrong)
			require.Equal(t, want, got)
		})
	}
}

func TestWhatDoesNotFitIsSaidInWords(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ query, field, want string }{
		{"symbol=%ff", "symbol", "must be text"},
		{"tags=a&tags=%ff", "tags", "must be text"},
		{"quantity=1.5", "quantity", "must be a whole number"},
		{"quantity=0x10", "quantity", "must be a whole number"},
		{"quantity=1_000", "quantity", "must be a whole number"},
		{"quantity=9223372036854775808", "quantity", "must be at most 9223372036854775807"},
		{"small=128", "small", "must be at most 127"},
		{"small=-129", "small", "must be at least -128"},
		{"count=65536", "count", "must be at most 65535"},
		{"count=-1", "count", "must not be negative"},
		{"count=-", "count", "must be a whole number"},
		{"count=%2B-1", "count", "must not be negative"},
		{"ids=1&ids=x", "ids", "must be a whole number"},
		{"stop_price=x", "stop_price", "must be a number"},
		{"stop_price=NaN", "stop_price", "must be a number"},
		{"stop_price=Inf", "stop_price", "must be a number"},
		{"stop_price=0x1p4", "stop_price", "must be a number"},
		{"stop_price=1e999", "stop_price", "is too large"},
		{"stop_price=-1e999", "stop_price", "is too small"},
		{"ratio=1e300", "ratio", "is too large"},
		{"limit=perhaps", "limit", "must be yes or no"},
		{"price=2", "price", "is not valid"},
		{"price=%ff", "price", "is not valid"},
		{"at=tomorrow", "at", "must be a date and time"},
		{"within=soon", "within", "must be a duration, such as 90s or 1h30m"},
		{"maybe_count=x", "maybe_count", "must be a whole number"},
		{"page=256", "page", "must be at most 255"},
	} {
		t.Run(row.query, func(t *testing.T) {
			t.Parallel()
			values, err := url.ParseQuery(row.query)
			require.NoError(t, err)
			var got order
			wrong, err := Decode(values, nil, &got)
			require.NoError(t, err)
			require.Equal(t, map[string]string{row.field: row.want}, wrong)
			require.Nil(t, got.MaybeCount)
		})
	}
}

func TestTheOtherFieldsAreSetBesideOnesThatAreWrong(t *testing.T) {
	t.Parallel()
	var got order
	wrong, err := Decode(url.Values{"symbol": {"BTC"}, "quantity": {"many"}, "small": {"1000"}}, nil, &got)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"quantity": "must be a whole number", "small": "must be at most 127"}, wrong)
	require.Equal(t, "BTC", got.Symbol)
}

func TestAPointerToAStructIsMade(t *testing.T) {
	t.Parallel()
	var got *Paging
	_, err := Decode(url.Values{"page": {"7"}}, nil, &got)
	require.NoError(t, err)
	require.Equal(t, &Paging{7}, got)
}

func TestAllValuesAreACopy(t *testing.T) {
	t.Parallel()
	in := url.Values{"a": {"1", "2"}}
	var got url.Values
	wrong, err := Decode(in, nil, &got)
	require.NoError(t, err)
	require.Empty(t, wrong)
	require.Equal(t, in, got)
	got["a"][0] = "changed"
	require.Equal(t, "1", in.Get("a"))

	_, err = Decode(nil, json.RawMessage(`{}`), &got)
	require.ErrorIs(t, err, ErrPayload)
}

func TestAnOuterFieldHidesAnInnerOne(t *testing.T) {
	t.Parallel()
	var got struct {
		audit
		Reason string
	}
	_, err := Decode(url.Values{"reason": {"x"}}, nil, &got)
	require.NoError(t, err)
	require.Equal(t, "x", got.Reason)
	require.Empty(t, got.audit.Reason)
}

func TestTwoFieldsOfOneNameAreRefused(t *testing.T) {
	t.Parallel()
	type twice struct {
		StopPrice string
		Other     string `live:"stop_price"`
	}
	const want = `form: two fields of form.twice have the name "stop_price"`
	require.EqualError(t, Check(reflect.TypeFor[twice]()), want)
	require.EqualError(t, Check(reflect.TypeFor[*twice]()), want)
	for range 2 { // also when it is known already
		_, err := Decode(nil, nil, new(twice))
		require.EqualError(t, err, want)
	}
	require.NoError(t, Check(reflect.TypeFor[order]()))
	require.NoError(t, Check(reflect.TypeFor[string]()))
	require.NoError(t, Check(reflect.TypeFor[url.Values]()))
}

func TestJSONIsDecodedByEitherName(t *testing.T) {
	t.Parallel()
	type point struct {
		X, Y      float64
		StopPrice int
		Tagged    string `json:"as_tagged" live:"tagged_too"`
		Line      []point
		Any       any
	}
	for _, row := range []struct {
		name, payload string
		want          point
	}{
		{"names of Go", `{"X":1,"Y":2,"StopPrice":3}`, point{X: 1, Y: 2, StopPrice: 3}},
		{"names of forms", `{"x":1,"stop_price":3}`, point{X: 1, StopPrice: 3}},
		{"a tag for JSON", `{"as_tagged":"a","tagged_too":"b"}`, point{Tagged: "a"}},
		{"nested", `{"line":[{"x":1},{"x":2}],"any":true}`, point{Line: []point{{X: 1}, {X: 2}}, Any: true}},
		{"unknown names", `{"z":1,"x":5}`, point{X: 5}},
		{"null", `null`, point{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var got point
			wrong, err := Decode(nil, json.RawMessage(row.payload), &got)
			require.NoError(t, err)
			require.Empty(t, wrong)
			require.Equal(t, row.want, got)
		})
	}
}

func TestJSONThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, payload string
		wrong         map[string]string
		err           error
	}{
		{"of the wrong type", `{"quantity":"x"}`, map[string]string{"quantity": "must be a whole number"}, nil},
		{"of the wrong type in snake case", `{"stop_price":"x","quantity":1}`, map[string]string{"stop_price": "must be a number"}, nil},
		{"a fraction", `{"quantity":1.5}`, map[string]string{"quantity": "must be a whole number"}, nil},
		{"text for a yes", `{"limit":"on"}`, map[string]string{"limit": "must be yes or no"}, nil},
		{"a number for text", `{"symbol":1}`, map[string]string{"symbol": "must be text"}, nil},
		{"no list", `{"tags":1}`, map[string]string{"tags": "must be a list"}, nil},
		{"no object", `[1]`, map[string]string{"": "is not valid"}, nil},
		{"no JSON", `{`, nil, ErrPayload},
		{"empty", ``, nil, ErrPayload},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			wrong, err := Decode(nil, json.RawMessage(row.payload), new(order))
			require.ErrorIs(t, err, row.err)
			require.Equal(t, row.wrong, wrong)
		})
	}
}

func TestOtherTypesTakeTheJSON(t *testing.T) {
	t.Parallel()
	var n int
	_, err := Decode(nil, json.RawMessage(`42`), &n)
	require.NoError(t, err)
	require.Equal(t, 42, n)

	var m map[string][]string
	_, err = Decode(nil, json.RawMessage(`{"a":["b"]}`), &m)
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"a": {"b"}}, m)

	var at time.Time
	_, err = Decode(nil, json.RawMessage(`"2026-03-04T05:06:00Z"`), &at)
	require.NoError(t, err)
	require.Equal(t, 2026, at.Year())

	var raw json.RawMessage
	_, err = Decode(nil, json.RawMessage(`{"kept":  1}`), &raw)
	require.NoError(t, err)
	require.Equal(t, `{"kept":  1}`, string(raw))

	wrong, err := Decode(nil, json.RawMessage(`"x"`), &n)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"": "must be a whole number"}, wrong)
}

func TestWithoutAPayload(t *testing.T) {
	t.Parallel()
	var anything any
	_, err := Decode(url.Values{"a": {"1"}}, nil, &anything)
	require.NoError(t, err)
	require.Nil(t, anything)
	_, err = Decode(nil, nil, &struct{}{})
	require.NoError(t, err)
	_, err = Decode(nil, nil, new(int))
	require.ErrorIs(t, err, ErrPayload)
}

func TestIntoMustBeAPointer(t *testing.T) {
	t.Parallel()
	_, err := Decode(nil, nil, order{})
	require.EqualError(t, err, "form: form.order is not a pointer to decode into")
	_, err = Decode(nil, nil, (*order)(nil))
	require.Error(t, err)
}

func TestTooMuchIsRefusedWhole(t *testing.T) {
	t.Parallel()
	var got order
	for name, values := range map[string]url.Values{
		"values":  {"tags": make([]string, MaxValues+1)},
		"names":   {strings.Repeat("n", MaxName+1): {"1"}},
		"lengths": {"symbol": {strings.Repeat("v", MaxValue+1)}},
	} {
		_, err := Decode(values, nil, &got)
		require.ErrorIs(t, err, ErrTooLarge, name)
		require.Zero(t, got, name)
	}
	_, err := Decode(url.Values{"tags": make([]string, MaxValues)}, nil, &got)
	require.NoError(t, err)
	require.Len(t, got.Tags, MaxValues)
}

func TestNamesInSnakeCase(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"A": "a", "Name": "name", "StopPrice": "stop_price", "ID": "id", "UserID": "user_id", "HTTPPort": "http_port",
		"Price2": "price2", "Line1Text": "line1_text", "UserIDs": "user_ids", "IDsOfAll": "ids_of_all", "Ärger": "ärger",
		"Snake_Case": "snake_case", "XY": "xy", "AtX": "at_x", "ASet": "a_set", "HasAs": "has_as",
	} {
		require.Equal(t, want, snake(in), in)
	}
}

func TestManyGoroutinesMayDecode(t *testing.T) {
	t.Parallel()
	type fresh struct{ Quantity int } // no other test has looked at it
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var got fresh
			wrong, err := Decode(url.Values{"quantity": {string(rune('0' + i))}}, nil, &got)
			if err != nil || wrong != nil || got.Quantity != i {
				t.Errorf("got %v, %v, %v", got, wrong, err)
			}
		})
	}
	wg.Wait()
}

func FuzzValues(f *testing.F) {
	f.Add("symbol=BTC&quantity=1&small=2&count=3&stop_price=4e5&ratio=1&limit=on&price=1.50&at=2026-03-04T05:06&within=1s")
	f.Add("tags=a&tags=b&ids=1&ids=2&maybe_count=1&maybe_limit=0&page=1&why=x&raw=%ff&symbol=%ff")
	f.Add("quantity=99999999999999999999&count=-1&stop_price=1e400&ratio=-1e40&small=-200")
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		var got order
		wrong, err := Decode(values, nil, &got)
		if err != nil {
			require.ErrorIs(t, err, ErrTooLarge)
			return
		}
		require.True(t, utf8.ValidString(got.Symbol))
		for _, tag := range got.Tags {
			require.True(t, utf8.ValidString(tag))
		}
		for _, f := range []float64{got.StopPrice, float64(got.Ratio)} {
			require.False(t, math.IsNaN(f) || math.IsInf(f, 0))
		}
		require.Empty(t, got.Hidden)
		require.Empty(t, got.secret)
		for field, problem := range wrong {
			require.Contains(t, values, field)
			require.NotEmpty(t, problem)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"symbol":"BTC","quantity":1,"stop_price":"x","price":"1.50","at":"2026-03-04T05:06:00Z","nested":{"street":"a"}}`)
	f.Add(`{"Symbol":1,"SYMBOL":"b","tags":[1],"prices":["x"],"why":null}`)
	f.Add(`[[[[`)
	f.Fuzz(func(t *testing.T, payload string) {
		var got order
		if _, err := Decode(nil, json.RawMessage(payload), &got); err != nil {
			require.ErrorIs(t, err, ErrPayload)
			require.False(t, json.Valid([]byte(payload)), "only what is no JSON is an error")
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	values := url.Values{"symbol": {"BTC"}, "quantity": {"12"}, "stop_price": {"1.25"}, "limit": {"on"}}
	b.ReportAllocs()
	for b.Loop() {
		var got order
		if _, err := Decode(values, nil, &got); err != nil {
			b.Fatal(err)
		}
	}
}
