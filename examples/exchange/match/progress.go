package match

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// A progress draws a line that tells how far a run has come, and writes messages
// without mixing them up with it.
type progress struct {
	w     io.Writer
	total int64 // bytes of input, 0 if unknown
	read  func() int64
	done  atomic.Uint64 // lines

	mu    sync.Mutex
	drawn int // characters on the line at present
	stop  chan struct{}
	ended sync.WaitGroup
}

// newProgress begins to draw, if w is a terminal. total is the size of the input,
// or 0, and read returns how much of it was read.
func newProgress(w io.Writer, terminal bool, total int64, read func() int64) *progress {
	p := &progress{w: w, total: total, read: read, stop: make(chan struct{})}
	if terminal {
		p.ended.Go(p.run)
	}
	return p
}

func (p *progress) run() {
	start := time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.mu.Lock()
			p.draw(bar(p.done.Load(), p.read(), p.total, time.Since(start)))
			p.mu.Unlock()
		case <-p.stop:
			return
		}
	}
}

// bar returns the line to draw.
func bar(lines uint64, read, total int64, took time.Duration) string {
	s := ""
	if total > 0 {
		const width = 30
		read = min(read, total)
		full := int(width * read / total)
		s = fmt.Sprintf("[%-*s] %3d %%  ", width, stars[:full], 100*read/total)
	}
	return s + fmt.Sprintf("%d lines, %.0f a second", lines, float64(lines)/max(took.Seconds(), 1e-3))
}

const stars = "##############################"

func (p *progress) draw(s string) {
	fmt.Fprintf(p.w, "\r%-*s", p.drawn, s)
	p.drawn = len(s)
}

// printf writes a message on a line of its own.
func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn > 0 {
		p.draw("")
		fmt.Fprint(p.w, "\r")
		p.drawn = 0
	}
	fmt.Fprintf(p.w, "match: "+format+"\n", args...)
}

// close removes the line.
func (p *progress) close() {
	close(p.stop)
	p.ended.Wait()
	if p.drawn > 0 {
		p.draw("")
		fmt.Fprint(p.w, "\r")
		p.drawn = 0
	}
}

// isTerminal reports whether w is a character device other than the null device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
