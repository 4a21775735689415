package sync

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// One change of one aggregate, until so many pages have it in their fields. It reports how often the aggregate was read
// for a change, and what memory a page takes, goroutine and binding together.
func BenchmarkFanOut(b *testing.B) {
	for _, pages := range []int{1, 100, 5000} {
		b.Run(fmt.Sprint(pages), func(b *testing.B) {
			w := newWorld(b)
			w.notes.c.Interval = -1
			w.write("a", 1)
			var arrived atomic.Int64
			before := memory()
			tabs := make([]*tab, pages)
			fields := make([]row, pages)
			for i := range tabs {
				tabs[i] = open(0)
				tabs[i].do(func() {
					one(tabs[i].p, &fields[i], w.notes, "a").OnChange(func() { arrived.Add(1) })
				})
			}
			size := float64(memory()-before) / float64(pages)
			all := func(n int64) {
				for arrived.Load() < n {
					time.Sleep(10 * time.Microsecond)
				}
			}
			all(int64(pages))
			reads := w.faults.count()
			n := 1
			for b.Loop() {
				n++
				w.write("a", n)
				all(int64(n * pages))
			}
			b.ReportMetric(float64(w.faults.count()-reads)/float64(n-1), "reads/change")
			b.ReportMetric(size, "B/page")
			for _, a := range tabs {
				a.leave()
			}
			for w.notes.awake() {
				time.Sleep(time.Millisecond)
			}
			w.close()
		})
	}
}

// awake reports whether somebody looks.
func (s *Source[K, V]) awake() bool {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.hub.run != nil
}

func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// A change of a list, until all pages have it.
func BenchmarkList(b *testing.B) {
	for _, size := range []struct{ rows, pages int }{{100, 100}, {10_000, 100}} {
		b.Run(fmt.Sprintf("%d rows, %d pages", size.rows, size.pages), func(b *testing.B) {
			w := newWorld(b)
			w.rows.c.Interval = -1
			for i := range size.rows {
				w.write(fmt.Sprint(i), 1)
			}
			var arrived atomic.Int64
			tabs := make([]*tab, size.pages)
			lists := make([][]row, size.pages)
			for i := range tabs {
				tabs[i] = open(0)
				tabs[i].do(func() {
					all(tabs[i].p, &lists[i], w.rows).OnChange(func() { arrived.Add(1) })
				})
			}
			n := 1
			for b.Loop() {
				n++
				w.write("7", n)
				for arrived.Load() < int64(n*size.pages) {
					runtime.Gosched()
				}
			}
			for _, a := range tabs {
				a.leave()
			}
			for w.rows.awake() {
				time.Sleep(time.Millisecond)
			}
			w.close()
		})
	}
}
