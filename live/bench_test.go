package live

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/levada-go/levada/live/internal/wire"
	"github.com/levada-go/levada/live/internal/wire/wiretest"
)

// sink is a connection whose browser takes everything at once and says what it is told to.
type sink struct {
	up     chan []byte
	closed chan struct{}
	once   sync.Once
	frames chan int // the size of each frame, when somebody wants to know
	count  *meter
}

// meter counts frames.
type meter struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

// expect sets how many frames are to come from now on, and wait waits for them.
func (m *meter) expect(n int) { m.want = m.n.Load() + int64(n) }

func (m *meter) wait(tb testing.TB) {
	tb.Helper()
	select {
	case <-m.done:
	case <-time.After(time.Minute):
		tb.Fatal("the frames do not come")
	}
}

func (m *meter) add() {
	if m.n.Add(1) == m.want {
		m.done <- struct{}{}
	}
}

func newSink(count *meter) *sink {
	return &sink{up: make(chan []byte), closed: make(chan struct{}), frames: make(chan int), count: count}
}

func (s *sink) Read() ([]byte, error) {
	select {
	case frame := <-s.up:
		return frame, nil
	case <-s.closed:
		return nil, wiretest.ErrClosed
	}
}

func (s *sink) Write(frame []byte) error {
	if s.count != nil {
		s.count.add()
		return nil
	}
	select {
	case s.frames <- len(frame):
		return nil
	case <-s.closed:
		return wiretest.ErrClosed
	}
}

func (s *sink) WriteShared(frame *wire.Shared) error { return s.Write(frame.Bytes) }

func (s *sink) Close(int, string) { s.once.Do(func() { close(s.closed) }) }

// connectSinks connects n pages and waits until each has taken some frames.
func connectSinks(tb testing.TB, site *Site, n, frames int) (sinks []*sink, count *meter) {
	tb.Helper()
	count = &meter{done: make(chan struct{}, 1)}
	count.expect(n * frames)
	p := load(tb, site, "/")
	for range n {
		s := newSink(count)
		r := httptest.NewRequestWithContext(tb.Context(), "GET", "/_live/socket", nil)
		for _, c := range p.cookies {
			r.AddCookie(c)
		}
		go site.Connect(s, r)
		s.up <- fmt.Appendf(nil, `[1,"j",{"t":%q,"u":"/"}]`, p.token)
		sinks = append(sinks, s)
	}
	count.wait(tb)
	tb.Cleanup(func() {
		for _, s := range sinks {
			s.Close(1000, "")
		}
	})
	return sinks, count
}

func until(tb testing.TB, what string, reached func() bool) {
	tb.Helper()
	for start := time.Now(); !reached(); runtime.Gosched() {
		if time.Since(start) > 2*time.Minute {
			tb.Fatal("waited in vain for ", what)
		}
	}
}

// BenchmarkEvent is the time from the frame of an event to the frame that answers it.
func BenchmarkEvent(b *testing.B) {
	site := quietSite(b, nil)
	Handle(site, "/", counterView())
	p := load(b, site, "/")
	s := newSink(nil)
	r := httptest.NewRequest("GET", "/_live/socket", nil)
	for _, c := range p.cookies {
		r.AddCookie(c)
	}
	done := make(chan struct{})
	go func() { defer close(done); site.Connect(s, r) }()
	s.up <- fmt.Appendf(nil, `[1,"j",{"t":%q,"u":"/"}]`, p.token)
	<-s.frames
	b.ReportAllocs()
	ref := 1
	for b.Loop() {
		ref++
		s.up <- fmt.Appendf(nil, `[%d,"e","add","click",{"by":"1"}]`, ref)
		<-s.frames
	}
	b.StopTimer()
	s.Close(1000, "")
	<-done
}

// BenchmarkIdlePage reports what a page costs that is connected and waits: goroutines, stacks and heap.
func BenchmarkIdlePage(b *testing.B) {
	const pages = 2000
	for b.Loop() {
		site := quietSite(b, nil)
		Handle(site, "/", counterView())
		before, goroutines := memory(), runtime.NumGoroutine()
		sinks, _ := connectSinks(b, site, pages, 1)
		until(b, "the writers", func() bool { return runtime.NumGoroutine() <= goroutines+2*pages })
		b.ReportMetric(float64(memory()-before)/pages, "B/page")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/pages, "goroutines/page")
		for _, s := range sinks {
			s.Close(1000, "")
		}
		until(b, "their end", func() bool { return site.Stats().Connected == 0 })
	}
}

func memory() uint64 {
	for range 4 { // stacks shrink by half with each collection
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// BenchmarkRegion is the time from Set until the frame was written to all pages that show the region.
func BenchmarkRegion(b *testing.B) {
	for _, pages := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(pages), func(b *testing.B) {
			book, site := newBook(b, -1)
			rows := make([]string, 20)
			for i := range rows {
				rows[i] = fmt.Sprint("r", i)
			}
			version := uint64(1)
			book.Set(version, rows)
			_, count := connectSinks(b, site, pages, 2)
			var setting time.Duration
			for b.Loop() {
				next := append([]string(nil), rows...)
				version++
				next[version%20] = fmt.Sprint("v", version)
				count.expect(pages)
				start := time.Now()
				book.Set(version, next)
				setting += time.Since(start)
				count.wait(b)
			}
			b.ReportMetric(float64(setting.Nanoseconds())/float64(b.N), "ns/Set")
			b.ReportMetric(float64(b.N)*float64(pages)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}

func TestAnIdlePageCostsTwoGoroutines(t *testing.T) {
	site := quietSite(t, nil)
	Handle(site, "/", counterView())
	const pages, others = 50, 4 // goroutines that have nothing to do with the pages
	before := runtime.NumGoroutine() + others
	sinks, _ := connectSinks(t, site, pages, 1)
	until(t, "the writers", func() bool { return runtime.NumGoroutine() <= before+2*pages })
	for _, s := range sinks {
		s.Close(1000, "")
	}
	until(t, "their end", func() bool { return runtime.NumGoroutine() <= before && site.Stats().Connected == 0 })
}
