package natstest

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// logLines is how many lines are kept of what a server logs.
const logLines = 400

// A logs keeps the last lines that a server logged. It is a server.Logger, and
// an io.Writer for the output of a process.
type logs struct {
	mu      sync.Mutex
	lines   []string
	dropped int // lines that are no longer kept
}

func (l *logs) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, line); len(l.lines) > 2*logLines {
		l.dropped += logLines
		l.lines = append([]string(nil), l.lines[logLines:]...)
	}
}

// mark returns where the log stands, for since.
func (l *logs) mark() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dropped + len(l.lines)
}

// since returns what was logged since a mark, as far as it is kept.
func (l *logs) since(mark int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[min(max(mark-l.dropped, 0), len(l.lines)):], "\n")
}

func (l *logs) text() string { return l.since(0) }

func (l *logs) log(level, format string, v []any) {
	l.add(time.Now().Format("15:04:05.000000 ") + level + " " + fmt.Sprintf(format, v...))
}

func (l *logs) Noticef(format string, v ...any) { l.log("INF", format, v) }
func (l *logs) Warnf(format string, v ...any)   { l.log("WRN", format, v) }
func (l *logs) Errorf(format string, v ...any)  { l.log("ERR", format, v) }
func (l *logs) Fatalf(format string, v ...any)  { l.log("FTL", format, v) }
func (l *logs) Debugf(format string, v ...any)  { l.log("DBG", format, v) }
func (l *logs) Tracef(format string, v ...any)  { l.log("TRC", format, v) }

// Write takes the output of a process.
func (l *logs) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		l.add(strings.TrimRight(line, "\r\n"))
	}
	return len(p), nil
}
