package natstest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// specVariable tells a test binary that it is to be a server, and which.
const specVariable = "LEVADA_NATSTEST_NODE"

// Processes starts n servers in processes of their own, which can be killed, and
// waits until they are one JetStream cluster. With syncAlways they flush every
// write to the disk before they acknowledge it. They are killed when the test
// ends, and when this process does.
func Processes(t testing.TB, n int, syncAlways bool) *Nodes {
	t.Helper()
	needMain(t)
	c, err := start(tempDir(t), n, func(s spec) *Node {
		s.SyncAlways = syncAlways
		return &Node{spec: s, own: true, log: &logs{}}
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, n := range c.list {
			n.mu.Lock()
			if n.process != nil {
				n.process.kill()
				n.process = nil
			}
			n.mu.Unlock()
		}
		c.show(t, nil)
	})
	return c
}

// A process runs one server: this program, started again.
type process struct {
	cmd   *exec.Cmd
	input io.WriteCloser // a line stops the server, its end kills the process
	gone  chan struct{}
}

func startProcess(s spec, l *logs) (*process, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), specVariable+"="+string(text))
	cmd.Stderr = l
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, input: input, gone: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(p.gone)
		_, err := bufio.NewReader(output).ReadString('\n')
		if err != nil {
			err = fmt.Errorf("natstest: %s has ended: %w", s.Name, err)
		}
		ready <- err
		_ = cmd.Wait()
	}()
	select {
	case err = <-ready:
	case <-time.After(2 * patience):
		err = errors.New("natstest: the process of " + s.Name + " is not ready")
	}
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.gone
	_ = p.input.Close()
}

func (p *process) stop() {
	_, _ = io.WriteString(p.input, "stop\n")
	<-p.gone
	_ = p.input.Close()
}

// serve is the main function of a process that is a server.
func serve(text string) int {
	l := &logs{}
	fail := func(err error) int {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", l.text(), err)
		return 1
	}
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fail(err)
	}
	srv, err := run(s.options(), l)
	if err != nil {
		return fail(err)
	}
	fmt.Fprintln(os.Stderr, l.text())
	srv.SetLoggerV2(&forward{}, false, false, false) // the parent keeps it
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return 1 // the parent is gone
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	return 0
}

// A forward is a logger that writes to the standard error.
type forward struct{ logs }

func (f *forward) print(level, format string, v []any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05.000000 ")+level+" "+format+"\n", v...)
}

func (f *forward) Noticef(format string, v ...any) { f.print("INF", format, v) }
func (f *forward) Warnf(format string, v ...any)   { f.print("WRN", format, v) }
func (f *forward) Errorf(format string, v ...any)  { f.print("ERR", format, v) }
func (f *forward) Fatalf(format string, v ...any)  { f.print("FTL", format, v) }
