package match

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A result is what a run of Main left behind.
type result struct {
	status      int
	out, errors string
}

func match(t testing.TB, input string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	status := Main(t.Context(), args, strings.NewReader(input), &out, &errs)
	return result{status, out.String(), errs.String()}
}

func lines(s ...string) string { return strings.Join(s, "\n") + "\n" }

func TestEveryOperationIsAnswered(t *testing.T) {
	t.Parallel()
	got := match(t, lines(
		`{"op":"new","id":1,"side":"sell","type":"limit","tif":"gtc","qty":100,"price":1251,"stop":0,"owner":"a","post_only":false}`,
		`{"op":"new","id":2,"side":"sell","qty":50,"price":1252}`,
		``,
		`{"op":"book","depth":1}`,
		` { "price" : 1251 , "qty" : 120 , "side" : "buy" , "id" : 3 , "op" : "new" } `,
		`{"op":"modify","id":2,"qty":40}`,
		`{"op":"modify","id":2,"price":1251}`,
		`{"op":"cancel","id":2}`,
		`{"op":"new","id":4,"side":"buy","type":"stop_limit","qty":5,"price":1300,"stop":1260}`,
		`{"op":"new","id":5,"side":"buy","type":"market","tif":"ioc","qty":5}`,
		`{"op":"new","id":6,"side":"buy","qty":0,"price":5}`,
		`{"op":"book"}`,
	))
	require.Equal(t, result{exitOK, lines(
		`{"order":{"line":1,"id":1,"status":"open"}}`,
		`{"order":{"line":2,"id":2,"status":"open"}}`,
		`{"book":{"bids":[],"asks":[{"price":1251,"qty":100,"orders":[{"id":1,"qty":100}]}]}}`,
		`{"trade":{"maker":1,"taker":3,"price":1251,"qty":100}}`,
		`{"order":{"line":5,"id":1,"status":"filled"}}`,
		`{"order":{"line":5,"id":3,"status":"open"}}`,
		`{"order":{"line":6,"id":2,"status":"open"}}`,
		`{"trade":{"maker":3,"taker":2,"price":1251,"qty":20}}`,
		`{"order":{"line":7,"id":3,"status":"filled"}}`,
		`{"order":{"line":7,"id":2,"status":"open"}}`,
		`{"order":{"line":8,"id":2,"status":"cancelled"}}`,
		`{"order":{"line":9,"id":4,"status":"open"}}`,
		`{"order":{"line":10,"id":5,"status":"cancelled"}}`,
		`{"order":{"line":11,"id":6,"status":"rejected","reason":"quantity is not positive"}}`,
		`{"book":{"bids":[],"asks":[]}}`,
		`{"book":{"bids":[],"asks":[]}}`,
	), ""}, got)
	for _, line := range strings.Split(strings.TrimSpace(got.out), "\n") {
		require.True(t, json.Valid([]byte(line)), line)
	}
}

func TestBookShowsLevelsAndQueues(t *testing.T) {
	t.Parallel()
	input := lines(
		`{"op":"new","id":1,"side":"buy","qty":1,"price":10}`, `{"op":"new","id":2,"side":"buy","qty":2,"price":11}`,
		`{"op":"new","id":3,"side":"buy","qty":3,"price":10}`, `{"op":"new","id":4,"side":"sell","qty":4,"price":12}`,
		`{"op":"new","id":5,"side":"sell","qty":5,"price":13}`)
	whole := `{"book":{"bids":[{"price":11,"qty":2,"orders":[{"id":2,"qty":2}]},{"price":10,"qty":4,"orders":[{"id":1,"qty":1},{"id":3,"qty":3}]}],` +
		`"asks":[{"price":12,"qty":4,"orders":[{"id":4,"qty":4}]},{"price":13,"qty":5,"orders":[{"id":5,"qty":5}]}]}}`
	top := `{"book":{"bids":[{"price":11,"qty":2,"orders":[{"id":2,"qty":2}]}],"asks":[{"price":12,"qty":4,"orders":[{"id":4,"qty":4}]}]}}`
	for query, want := range map[string]string{`{"op":"book"}`: whole, `{"op":"book","depth":0}`: whole, `{"op":"book","depth":9}`: whole, `{"op":"book","depth":1}`: top} {
		out := strings.Split(match(t, input+query).out, "\n")
		require.Equal(t, want, out[5], query)
		require.Equal(t, whole, out[6], "at the end the book is whole")
	}
}

func TestIdsArePrintedAsTheyCame(t *testing.T) {
	t.Parallel()
	ids := []string{`1`, `"1"`, `1.0`, `1e0`, `-0`, `0`, `-1`, `"é\u00e9\n\"x\\"`, `""`, `123456789012345678`, `1234567890123456789`, `18446744073709551616`, `9e999`}
	var in, want strings.Builder
	for i, id := range ids {
		fmt.Fprintf(&in, `{"op":"new","id":%s,"side":"buy","qty":1,"price":%d}`+"\n", id, i+1)
		fmt.Fprintf(&want, `{"order":{"line":%d,"id":%s,"status":"open"}}`+"\n", i+1, id)
	}
	for i, id := range ids {
		fmt.Fprintf(&in, `{"op":"cancel","id":%s}`+"\n", id)
		fmt.Fprintf(&want, `{"order":{"line":%d,"id":%s,"status":"cancelled"}}`+"\n", len(ids)+i+1, id)
	}
	want.WriteString(`{"book":{"bids":[],"asks":[]}}` + "\n")
	for _, store := range []string{"none", "memory:"} {
		require.Equal(t, result{exitOK, want.String(), ""}, match(t, in.String(), "-store", store))
	}
}

func TestMalformedLinesAreReportedAndChangeNothing(t *testing.T) {
	t.Parallel()
	const order = `"op":"new","id":1,"side":"buy"`
	for name, c := range map[string]struct{ line, want string }{
		"no JSON":                     {`buy 5`, "not a JSON object"},
		"array":                       {`[]`, "not a JSON object"},
		"empty object":                {`{}`, `no field "op"`},
		"unfinished object":           {`{"op":"book"`, `neither a comma nor the end of the object after "op"`},
		"comma at the end":            {`{"op":"book",}`, "a field name is not a string"},
		"text behind":                 {`{"op":"book"} x`, "text after the object"},
		"two objects":                 {`{"op":"book"}{"op":"book"}`, "text after the object"},
		"no colon":                    {`{"op" "book"}`, `no colon after "op"`},
		"unknown operation":           {`{"op":"replace","id":1}`, `"op" has the unknown value "replace"`},
		"operation that is no string": {`{"op":1}`, `"op" is not a string`},
		"unknown field":               {`{` + order + `,"colour":"red"}`, `unknown field "colour"`},
		"field of another operation":  {`{"op":"cancel","id":1,"qty":5}`, `field "qty" does not belong to this operation`},
		"depth of an order":           {`{` + order + `,"depth":5}`, `field "depth" does not belong to this operation`},
		"repeated field":              {`{` + order + `,"id":2}`, `field "id" is given twice`},
		"no id":                       {`{"op":"cancel"}`, `no field "id"`},
		"no side":                     {`{"op":"new","id":1}`, `no field "side"`},
		"unknown side":                {`{"op":"new","id":1,"side":"bid"}`, `"side" has the unknown value "bid"`},
		"unknown type":                {`{` + order + `,"type":"iceberg"}`, `"type" has the unknown value "iceberg"`},
		"unknown time in force":       {`{` + order + `,"tif":"day"}`, `"tif" has the unknown value "day"`},
		"null":                        {`{` + order + `,"owner":null}`, `"owner" is not a string`},
		"number as owner":             {`{` + order + `,"owner":5}`, `"owner" is not a string`},
		"object as id":                {`{"op":"cancel","id":{}}`, `"id" is neither a number nor a string`},
		"bool as id":                  {`{"op":"cancel","id":true}`, `"id" is neither a number nor a string`},
		"id with a leading zero":      {`{"op":"cancel","id":01}`, `"id" is neither a number nor a string`},
		"fraction":                    {`{` + order + `,"qty":1.5}`, `"qty" is not a whole number`},
		"fraction of nothing":         {`{` + order + `,"qty":1.0}`, `"qty" is not a whole number`},
		"exponent":                    {`{` + order + `,"price":1e3}`, `"price" is not a whole number`},
		"text as quantity":            {`{` + order + `,"qty":"5"}`, `"qty" is not a whole number`},
		"number beyond 64 bits":       {`{` + order + `,"qty":9223372036854775808}`, `"qty" is out of range`},
		"text as bool":                {`{` + order + `,"post_only":"true"}`, `"post_only" is neither true nor false`},
		"negative depth":              {`{"op":"book","depth":-1}`, `"depth" is negative`},
		"bad UTF-8":                   {"{\"op\":\"cancel\",\"id\":\"\xff\"}", `"id" is not valid UTF-8`},
		"bad escape":                  {`{"op":"cancel","id":"\x"}`, `"id" has a wrong escape sequence`},
		"control character":           {"{\"op\":\"cancel\",\"id\":\"\x01\"}", `"id" has a control character`},
		"long line":                   {`{"op":"cancel","id":"` + strings.Repeat("x", MaxLine) + `"}`, "the line is longer than 65536 bytes"},
		"byte order mark":             {"\ufeff" + `{"op":"book"}`, "not a JSON object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := match(t, lines(`{"op":"new","id":9,"side":"buy","qty":1,"price":1}`, c.line, `{"op":"cancel","id":9}`))
			require.Equal(t, result{exitMalformed, lines(
				`{"order":{"line":1,"id":9,"status":"open"}}`,
				`{"order":{"line":3,"id":9,"status":"cancelled"}}`,
				`{"book":{"bids":[],"asks":[]}}`,
			), "match: line 2: " + c.want + "\n"}, got)
		})
	}
}

func TestImpossibleOrdersAreRejectedNotMalformed(t *testing.T) {
	t.Parallel()
	for order, reason := range map[string]string{
		`{"op":"new","id":2,"side":"buy","price":5}`:                                          "quantity is not positive",
		`{"op":"new","id":2,"side":"buy","qty":-5,"price":5}`:                                 "quantity is not positive",
		`{"op":"new","id":2,"side":"buy","qty":9223372036854775807,"price":5}`:                "quantity is too large",
		`{"op":"new","id":2,"side":"buy","qty":5}`:                                            "price is not positive",
		`{"op":"new","id":2,"side":"buy","qty":5,"price":9223372036854775807}`:                "price is too large",
		`{"op":"new","id":2,"side":"buy","type":"market","qty":5,"price":5}`:                  "a market order has no price",
		`{"op":"new","id":2,"side":"buy","type":"stop","qty":5}`:                              "stop price is not positive",
		`{"op":"new","id":2,"side":"buy","qty":5,"price":5,"stop":5}`:                         "the order has no stop price",
		`{"op":"new","id":2,"side":"buy","type":"market","qty":5,"post_only":true}`:           "a market order cannot be post-only",
		`{"op":"new","id":2,"side":"buy","tif":"fok","qty":5,"price":5,"post_only":true}`:     "an immediate order cannot be post-only",
		`{"op":"new","id":2,"side":"sell","qty":5,"price":1,"post_only":true}`:                "the post-only order would trade",
		`{"op":"new","id":1,"side":"buy","qty":5,"price":5}`:                                  "an order with this id is live",
		`{"op":"cancel","id":"1"}`:                                                            "unknown order",
		`{"op":"cancel","id":1,"owner":"b"}`:                                                  "unknown order",
		`{"op":"modify","id":1}`:                                                              "nothing to modify",
		`{"op":"modify","id":1,"qty":0}`:                                                      "quantity is not positive",
		`{"op":"modify","id":1,"price":0}`:                                                    "price is not positive",
		`{"op":"modify","id":1,"stop":0}`:                                                     "the order has no stop price",
		`{"op":"new","id":2,"side":"buy","type":"take_profit","tif":"gtc","qty":5,"stop":-1}`: "stop price is not positive",
	} {
		got := match(t, lines(`{"op":"new","id":1,"side":"buy","qty":1,"price":1,"owner":"a"}`, order))
		require.Equal(t, exitOK, got.status)
		var answer struct {
			Order struct{ Status, Reason string }
		}
		require.NoError(t, json.Unmarshal([]byte(strings.Split(got.out, "\n")[1]), &answer))
		require.Equal(t, "rejected", answer.Order.Status, order)
		require.Equal(t, reason, answer.Order.Reason, order)
	}
}

func TestOrderBookCasesEndToEnd(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("LEVADA_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "data") // beside the module's root
	}
	data, err := os.ReadFile(filepath.Join(dir, "orderbook_cases.json"))
	if err != nil {
		t.Skipf("no test data: %v (set LEVADA_TESTDATA)", err)
	}
	var file struct {
		Cases []struct {
			Name, STP string
			Orders    []json.RawMessage
			Expected  struct {
				Trades     []any
				Bids, Asks any
				Outcomes   map[string]string
			}
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	for _, c := range file.Cases {
		for _, store := range []string{"none", "memory:"} {
			t.Run(c.Name+" "+store, func(t *testing.T) {
				t.Parallel()
				var in bytes.Buffer
				for _, o := range c.Orders {
					require.NoError(t, json.Compact(&in, o))
					in.WriteByte('\n')
				}
				stp := c.STP
				if stp == "" {
					stp = "none"
				}
				got := match(t, in.String(), "-stp", stp, "-store", store)
				require.Equal(t, exitOK, got.status, got.errors)
				outcomes := map[string]string{}
				trades := []any{}
				var book struct{ Bids, Asks any }
				for _, line := range strings.Split(strings.TrimSpace(got.out), "\n") {
					var l struct {
						Trade any
						Order struct {
							Line   int
							ID     json.Number
							Status string
						}
						Book *struct{ Bids, Asks any }
					}
					require.NoError(t, json.Unmarshal([]byte(line), &l))
					switch {
					case l.Trade != nil:
						trades = append(trades, l.Trade)
					case l.Book != nil:
						book = *l.Book
					case l.Order.Status == "rejected":
						outcomes[fmt.Sprint("#", l.Order.Line)] = "rejected"
						if outcomes[l.Order.ID.String()] == "" {
							outcomes[l.Order.ID.String()] = "rejected"
						}
					default:
						outcomes[l.Order.ID.String()] = l.Order.Status
					}
				}
				require.Equal(t, c.Expected.Trades, trades)
				require.Equal(t, c.Expected.Bids, book.Bids)
				require.Equal(t, c.Expected.Asks, book.Asks)
				for key, want := range c.Expected.Outcomes {
					require.Equal(t, want, outcomes[key], key)
				}
			})
		}
	}
}

func TestSummaryReplacesTheLines(t *testing.T) {
	t.Parallel()
	input := lines(`{"op":"new","id":1,"side":"sell","qty":5,"price":7}`, `{"op":"book"}`, `{"op":"new","id":2,"side":"buy","qty":3,"price":7}`,
		`{"op":"cancel","id":4}`, `{"op":"new","id":3,"side":"buy","type":"market","qty":3}`)
	for _, store := range []string{"none", "memory:"} {
		got := match(t, input, "-summary", "-store", store)
		require.Equal(t, exitOK, got.status)
		var s map[string]float64
		require.NoError(t, json.Unmarshal([]byte(got.out), &s))
		require.Positive(t, s["seconds"])
		require.Positive(t, s["commands_per_second"])
		delete(s, "seconds")
		delete(s, "commands_per_second")
		require.Equal(t, map[string]float64{"commands": 4, "events": 4, "trades": 2, "volume": 5}, s)
	}
}

func TestUnusableFlagsAndFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := filepath.Join(dir, "other")
	require.NoError(t, os.WriteFile(other, []byte("something else entirely, and longer than a header of a hundred bytes would be, so it can be told apart"), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown flag":             {[]string{"-x"}, "flag provided but not defined"},
		"unknown mode":             {[]string{"-stp", "x"}, `-stp "x" is not a mode`},
		"unknown store":            {[]string{"-store", "mysql://x"}, `-store "mysql://x" is none of`},
		"store without colon":      {[]string{"-store", "memory"}, `is none of`},
		"memory with a file":       {[]string{"-store", "memory:x"}, `is none of`},
		"no database":              {[]string{"-store", "sqlite:"}, `is none of`},
		"nothing under way":        {[]string{"-inflight", "0"}, "less than 1"},
		"too much under way":       {[]string{"-inflight", "1048577"}, "more than 1048576"},
		"resume of nothing":        {[]string{"-resume"}, "-resume needs -store sqlite:FILE"},
		"resume of memory":         {[]string{"-resume", "-store", "memory:"}, "-resume needs -store sqlite:FILE"},
		"no such file":             {[]string{filepath.Join(dir, "none")}, "no such file"},
		"directory":                {[]string{dir}, "input: "},
		"two files":                {[]string{"a", "b"}, "more than one input file: a b"},
		"database that is none":    {[]string{"-store", "sqlite:" + other}, "not an event store"},
		"database in no directory": {[]string{"-store", "sqlite:" + filepath.Join(dir, "no", "x.db")}, "no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := match(t, "", c.args...)
			require.Equal(t, exitFailed, got.status)
			require.Empty(t, got.out)
			require.Contains(t, got.errors, c.want)
		})
	}
	got := match(t, "", "-h")
	require.Equal(t, exitOK, got.status)
	require.Contains(t, got.out, "Usage: exchange match [flags] [FILE]")
	for _, flag := range []string{"-stp", "-store", "-inflight", "-resume", "-summary"} {
		require.Contains(t, got.out, flag)
	}
}

func TestInputMayBeAFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "orders")
	require.NoError(t, os.WriteFile(file, []byte("\r\n{\"op\":\"cancel\",\"id\":1}\r\n\n{\"op\":\"cancel\",\"id\":2}"), 0o600))
	want := lines(`{"order":{"line":2,"id":1,"status":"rejected","reason":"unknown order"}}`,
		`{"order":{"line":4,"id":2,"status":"rejected","reason":"unknown order"}}`, `{"book":{"bids":[],"asks":[]}}`)
	require.Equal(t, result{exitOK, want, ""}, match(t, "ignored", file))
	require.Equal(t, result{exitOK, lines(`{"book":{"bids":[],"asks":[]}}`), ""}, match(t, "", "-"))
}

func TestLinesMayCrossBlocks(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 3))
	input := random(r, 300)
	want := match(t, input)
	for _, size := range []int{1, 7, 64, 4096} {
		var out, errs bytes.Buffer
		status := Main(t.Context(), nil, &slow{[]byte(input), size}, &out, &errs)
		require.Equal(t, want, result{status, out.String(), errs.String()})
	}
}

// slow reads a few bytes at a time.
type slow struct {
	rest []byte
	size int
}

func (s *slow) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.size)], s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func TestResultsAppearBeforeMoreInputComes(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"none", "memory:"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			inR, inW := io.Pipe()
			outR, outW := io.Pipe()
			status := make(chan int)
			go func() { status <- Main(t.Context(), []string{"-store", store}, inR, outW, io.Discard) }()
			buf := make([]byte, 1000)
			for id := range 3 {
				fmt.Fprintf(inW, `{"op":"cancel","id":%d}`+"\n", id)
				n, err := outR.Read(buf)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf(`{"order":{"line":%d,"id":%d,"status":"rejected","reason":"unknown order"}}`+"\n", id+1, id), string(buf[:n]))
			}
			inW.Write([]byte(`{"op":"book"}` + "\n"))
			n, err := outR.Read(buf)
			require.NoError(t, err)
			require.Equal(t, `{"book":{"bids":[],"asks":[]}}`+"\n", string(buf[:n]))
			inW.Close()
			_, err = outR.Read(buf)
			require.NoError(t, err)
			require.Equal(t, exitOK, <-status)
		})
	}
}

func TestFailingInputAndOutputEndTheRun(t *testing.T) {
	t.Parallel()
	many := strings.Repeat(`{"op":"cancel","id":1}`+"\n", 10_000)
	for _, store := range []string{"none", "memory:", "sqlite:" + filepath.Join(t.TempDir(), "x.db")} {
		var errs bytes.Buffer
		status := Main(t.Context(), []string{"-store", store}, strings.NewReader(many), failing{}, &errs)
		require.Equal(t, exitFailed, status)
		require.Equal(t, "match: output: nobody listens\n", errs.String())
	}
	for _, store := range []string{"none", "memory:"} {
		var out, errs bytes.Buffer
		in := io.MultiReader(strings.NewReader(`{"op":"cancel","id":1}`+"\n"), failing{})
		require.Equal(t, exitFailed, Main(t.Context(), []string{"-store", store}, in, &out, &errs))
		require.Equal(t, "match: input: nothing left\n", errs.String())
		require.Contains(t, out.String(), `"line":1`, "what went before is written")
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("nobody listens") }
func (failing) Read([]byte) (int, error)  { return 0, errors.New("nothing left") }

func TestClosedPipeEndsTheRunWithAMessage(t *testing.T) {
	t.Parallel()
	cmd := child(t, "-")
	cmd.Stdin = strings.NewReader(strings.Repeat(`{"op":"cancel","id":1}`+"\n", 200_000))
	var errs bytes.Buffer
	cmd.Stderr = &errs
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = w
	require.NoError(t, cmd.Start())
	w.Close()
	r.Read(make([]byte, 10))
	r.Close()
	require.Error(t, cmd.Wait())
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode(), errs.String())
	require.Contains(t, errs.String(), "match: output: write")
	require.Contains(t, errs.String(), "broken pipe")
}

func TestInterruptedRunEndsCleanly(t *testing.T) {
	t.Parallel()
	for _, store := range []string{"none", "memory:"} {
		ctx, cancel := context.WithCancel(t.Context())
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		var errs bytes.Buffer
		status := make(chan int)
		go func() {
			s := Main(ctx, []string{"-store", store}, inR, outW, &errs)
			outW.Close()
			status <- s
		}()
		inW.Write([]byte(`{"op":"cancel","id":1}` + "\n"))
		buf := make([]byte, 1000)
		_, err := outR.Read(buf)
		require.NoError(t, err)
		cancel() // while it waits for input that never comes
		rest, err := io.ReadAll(outR)
		require.NoError(t, err)
		require.Empty(t, rest, "no book at the end of what is not the end")
		require.Equal(t, exitFailed, <-status)
		require.Equal(t, "match: interrupted after line 1\n", errs.String())
		inW.Close()
	}
}

func TestProgressIsDrawnOnTerminalsOnly(t *testing.T) {
	t.Parallel()
	require.Equal(t, "[###############               ]  50 %  1000 lines, 500 a second", bar(1000, 10, 20, 2*time.Second))
	require.Equal(t, "[##############################] 100 %  0 lines, 0 a second", bar(0, 30, 20, time.Second))
	require.Equal(t, "7 lines, 7 a second", bar(7, 10, 0, time.Second))
	require.False(t, isTerminal(&bytes.Buffer{}))
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	require.False(t, isTerminal(null))
	file, err := os.Create(filepath.Join(t.TempDir(), "x"))
	require.NoError(t, err)
	defer file.Close()
	require.False(t, isTerminal(file))

	synctest.Test(t, func(t *testing.T) {
		var w bytes.Buffer
		p := newProgress(&w, true, 100, func() int64 { return 50 })
		p.done.Store(10)
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		p.printf("line %d: x", 5)
		p.close()
		require.Contains(t, w.String(), "\r[###############               ]  50 %  10 lines, 50 a second")
		require.True(t, strings.HasSuffix(w.String(), "match: line 5: x\n"), "%q", w.String())

		var quiet bytes.Buffer
		p = newProgress(&quiet, false, 100, func() int64 { return 50 })
		time.Sleep(time.Second)
		p.close()
		require.Empty(t, quiet.String())
	})
}

// random returns input of n lines for a small market, with all operations, some
// lines that are malformed, and ids and owners of all kinds.
func random(r *rand.Rand, n int) string {
	var b strings.Builder
	id := func() string {
		k := r.IntN(60)
		return []string{fmt.Sprint(k), fmt.Sprint(k), fmt.Sprintf("%d.0", k), fmt.Sprintf("%q", fmt.Sprint("o", k))}[r.IntN(4)]
	}
	owner := func() string { return []string{``, ``, `,"owner":"a"`, `,"owner":"b"`}[r.IntN(4)] }
	for range n {
		switch k := r.IntN(20); {
		case k < 13:
			typ := []string{"limit", "limit", "limit", "market", "stop", "stop_limit", "take_profit", "take_profit_limit"}[r.IntN(8)]
			fmt.Fprintf(&b, `{"op":"new","id":%s,"side":"%s","type":"%s","tif":"%s","qty":%d%s`, id(), []string{"buy", "sell"}[r.IntN(2)], typ,
				[]string{"gtc", "gtc", "ioc", "fok"}[r.IntN(4)], r.IntN(20), owner())
			if strings.Contains(typ, "limit") {
				fmt.Fprintf(&b, `,"price":%d,"post_only":%v`, 95+r.IntN(11), r.IntN(8) == 0)
			}
			if strings.Contains(typ, "stop") || strings.Contains(typ, "take") {
				fmt.Fprintf(&b, `,"stop":%d`, 95+r.IntN(11))
			}
			b.WriteString("}\n")
		case k < 15:
			fmt.Fprintf(&b, `{"op":"cancel","id":%s%s}`+"\n", id(), owner())
		case k < 18:
			fmt.Fprintf(&b, `{"op":"modify","id":%s%s,"qty":%d,"price":%d}`+"\n", id(), owner(), r.IntN(20), 95+r.IntN(11))
		case k < 19:
			fmt.Fprintf(&b, `{"op":"book","depth":%d}`+"\n", r.IntN(3))
		default:
			b.WriteString([]string{"\n", "nonsense\n", `{"op":"cancel"}` + "\n"}[r.IntN(3)])
		}
	}
	return b.String()
}
