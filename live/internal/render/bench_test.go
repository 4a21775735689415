package render

import (
	"bytes"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func keptPerView(t testing.TB, n int) uint64 {
	tmpl, data := build(t, tradePage), makeTrades(100)
	views := make([]*View, n)
	var before, after runtime.MemStats
	var frame []byte
	_, err := tmpl.NewView().Frame(nil, data)
	require.NoError(t, err)
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range views {
		views[i] = tmpl.NewView()
		frame, err = views[i].Frame(frame[:0], data)
		require.NoError(t, err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(views)
	return (after.HeapAlloc - before.HeapAlloc) / uint64(n)
}

func BenchmarkMemoryKept(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(float64(keptPerView(b, 500)), "B/view")
	}
}

// BenchmarkExecute is what html/template needs by itself for the page of BenchmarkFrame.
func BenchmarkExecute(b *testing.B) {
	for _, size := range pageSizes {
		b.Run(size.name, func(b *testing.B) {
			tmpl, data := build(b, tradePage), makeTrades(size.rows)
			var buf bytes.Buffer
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				data.change(i)
				buf.Reset()
				if err := tmpl.Execute(&buf, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFrame renders and compares with what the client has; one dynamic differs.
func BenchmarkFrame(b *testing.B) {
	for _, size := range pageSizes {
		b.Run(size.name, func(b *testing.B) {
			tmpl, data := build(b, tradePage), makeTrades(size.rows)
			view := tmpl.NewView()
			var frame []byte
			var err error
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				data.change(i)
				if frame, err = view.Frame(frame[:0], data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var pageSizes = []struct {
	name string
	rows int
}{{"counter", 0}, {"100rows", 100}}

func (p *tradeData) change(i int) {
	if len(p.Rows) == 0 {
		p.Count = i
		return
	}
	p.Rows[len(p.Rows)/2].Px = strconv.Itoa(i)
}

// streamedPage is the tradePage whose table is a stream.
var streamedPage = strings.Replace(tradePage, `<tbody id="trades">`, `<tbody id="trades" live-update="stream">`, 1)

// updates are changes of the trade page, with the bytes of the frame in which LiveView 1.2 sends them: the channel
// envelope included, with rows that have keys, and with a stream where there is one.
var updates = []struct {
	name            string
	keyed, streamed int // 0 where there is none
	change          func(*tradeData)
	ops             []Op    // of the stream
	rows            []trade // that the ops want
}{
	{name: "join", keyed: 8479, streamed: 11189},
	{name: "counter", keyed: 53, change: func(p *tradeData) { p.Count++ }},
	{name: "one cell of 100 rows", keyed: 88, change: func(p *tradeData) { p.Rows[50].Px = "70000.00" }},
	{name: "append a row", keyed: 148, streamed: 192, change: func(p *tradeData) { p.Rows = append(p.Rows, makeTrade(100)) },
		ops: []Op{{Kind: StreamInsert, At: -1, Rows: 1}}, rows: []trade{makeTrade(100)}},
	{name: "prepend a row", keyed: 938, streamed: 190, change: func(p *tradeData) { p.Rows = append([]trade{makeTrade(100)}, p.Rows...) },
		ops: []Op{{Kind: StreamInsert, Limit: 100, Rows: 1}}, rows: []trade{makeTrade(100)}},
	{name: "rolling tape", keyed: 929, change: func(p *tradeData) { p.Rows = append([]trade{makeTrade(100)}, p.Rows[:99]...) }},
	{name: "delete row 10", keyed: 787, streamed: 96, change: func(p *tradeData) { p.Rows = slices.Delete(p.Rows, 10, 11) },
		ops: []Op{{Kind: StreamDelete, IDs: []string{"trades-10"}}}},
	{name: "reverse 100 rows", keyed: 856, change: func(p *tradeData) { slices.Reverse(p.Rows) }},
}

// streamed is a page whose rows are a stream.
type streamed struct {
	Count int
	all   []trade
	view  *View
	ops   []Op
	rows  []trade
}

func (s *streamed) Rows() iter.Seq[trade] {
	if s.view.Known() {
		s.view.Ops(s.ops)
		return slices.Values(s.rows)
	}
	return slices.Values(s.all)
}

// frameOf returns the frame of update i of a page of 100 trades, and checks it with a client.
func frameOf(t require.TestingT, i int, stream bool) []byte {
	u := updates[i]
	client := &Client{}
	render := func(view *View, data any) []byte {
		frame, err := view.Frame(nil, data)
		require.NoError(t, err)
		require.NoError(t, client.Apply(frame))
		return frame
	}
	data := makeTrades(100)
	if stream {
		view := build(t, streamedPage).NewView()
		page := &streamed{all: data.Rows, view: view}
		frame := render(view, page)
		if u.ops != nil {
			page.ops, page.rows = u.ops, u.rows
			frame = render(view, page)
		}
		return frame
	}
	tmpl := build(t, tradePage)
	view := tmpl.NewView()
	frame := render(view, data)
	if u.change != nil {
		u.change(&data)
		frame = render(view, data)
	}
	require.Equal(t, plainHTML(t, tmpl, data), client.HTML())
	return frame
}

// BenchmarkBytes reports the size of a frame, and that of the frame of LiveView 1.2 with its channel envelope of 44
// to 84 bytes. What carries a frame here has 4 to 10 bytes, which are not counted.
func BenchmarkBytes(b *testing.B) {
	for i, u := range updates {
		for _, kind := range []struct {
			name     string
			liveView int
		}{{"rows", u.keyed}, {"stream", u.streamed}} {
			if kind.liveView == 0 {
				continue
			}
			b.Run(strings.ReplaceAll(u.name, " ", "_")+"/"+kind.name, func(b *testing.B) {
				size := 0
				for b.Loop() {
					size = len(frameOf(b, i, kind.name == "stream"))
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(size), "B/frame")
				b.ReportMetric(float64(kind.liveView), "B/LiveView")
			})
		}
	}
}
