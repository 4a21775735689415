package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/levada-go/levada/examples/chat/web"
)

// jobVariable tells this program that it is to be a part of the cluster, and which.
const jobVariable = "LEVADA_CLUSTER_JOB"

// A job is what a process does: one of these.
type job struct {
	Server *server  `json:",omitempty"`
	Chat   []string `json:",omitempty"` // its command line
}

// A process is this program, started again. It ends when its input does, which is also when this one is killed.
type process struct {
	name  string
	said  string // its address
	cmd   *exec.Cmd
	input io.Closer
	first chan string   // the address, or closed
	gone  chan struct{} // closed when it has ended
}

func start(name string, j job, errs io.Writer, env ...string) (*process, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{name: name, cmd: exec.Command(self), first: make(chan string, 1), gone: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), jobVariable+"="+string(text)), env...)
	p.cmd.Stderr = &prefixed{name: name, to: errs}
	if p.input, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		defer close(p.gone)
		address := regexp.MustCompile(`(http|nats)://\S+`)
		lines := bufio.NewScanner(out)
		said := ""
		for lines.Scan() {
			if a := address.FindString(lines.Text()); said == "" && a != "" {
				said = a
				p.first <- a
			}
		}
		close(p.first)
		_ = p.cmd.Wait() // ProcessState tells
	}()
	return p, nil
}

// ready returns the address of the process when it is open.
func (p *process) ready(ctx context.Context) (string, error) {
	select {
	case address, ok := <-p.first:
		if !ok {
			return "", fmt.Errorf("%s does not start", p.name)
		}
		return address, nil
	case <-ctx.Done():
		return "", fmt.Errorf("%s does not start in time: %w", p.name, ctx.Err())
	}
}

// endTime bounds how long a process may take to end.
const endTime = 15 * time.Second

// end ends processes, and returns when they have ended.
func end(all []*process) {
	var ending sync.WaitGroup
	for _, p := range all {
		ending.Go(func() {
			_ = p.input.Close()
			select {
			case <-p.gone:
			case <-time.After(endTime):
				_ = p.cmd.Process.Kill()
				<-p.gone
			}
		})
	}
	ending.Wait()
}

// work is the main function of a process of the cluster. Ctrl-C reaches all processes of a terminal, but these end in
// their order, when their input does.
func work(text string) int {
	signal.Ignore(os.Interrupt)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if j.Server != nil {
		return j.Server.run(ctx, os.Stdout, os.Stderr)
	}
	return web.Program.Run(ctx, j.Chat, os.Stdout, os.Stderr)
}

// prefixed tells whose lines they are.
type prefixed struct {
	name string
	to   io.Writer
	rest string // the beginning of a line
}

var writing sync.Mutex // for all, as they have one writer

func (w *prefixed) Write(b []byte) (int, error) {
	writing.Lock()
	defer writing.Unlock()
	lines := strings.Split(w.rest+string(b), "\n")
	w.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if _, err := fmt.Fprintf(w.to, "%s: %s\n", w.name, line); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}
