// Command cluster is the chat on three machines, all of which are this one: three NATS servers, and three chats on them.
//
//	browser ─► chat 1 ──┐                 ┌── NATS 1
//	browser ─► chat 2 ──┼── events, who ──┼── NATS 2
//	browser ─► chat 3 ──┘    is there     └── NATS 3
//
// Each is a process of its own, which can be killed; the others go on. See ../README.md.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/levada-go/levada/internal/filelock"
)

func main() {
	if job, ok := os.LookupEnv(jobVariable); ok {
		os.Exit(work(job))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// size is how many servers there are, and how many chats: one of each may be lost.
const size = 3

// run runs the cluster until ctx ends, and returns the status of the process.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	addr := flags.String("addr", "localhost:8081", "where the first chat listens, as `HOST:PORT`; the others have the next ports.\nPort 0 is a free one for each")
	dir := flags.String("dir", "", "the `DIR` that keeps everything; by default a new one that is deleted at the end")
	wrong := func(err error) int {
		fmt.Fprintf(errs, "cluster: %v\nRun cluster -h for help.\n", err)
		return 2
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, "Cluster runs three NATS servers and three chats on them, all on this machine. It prints their addresses.\n\n"+
			"\tcluster [-addr HOST:PORT] [-dir DIR]\n\n")
		flags.SetOutput(out)
		flags.PrintDefaults()
		return 0
	case err != nil:
		return wrong(err)
	case flags.NArg() > 0:
		return wrong(fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	addrs, err := addresses(*addr)
	if err != nil {
		return wrong(err)
	}
	if err := serve(ctx, addrs, *dir, out, errs); err != nil {
		fmt.Fprintln(errs, "cluster:", err)
		return 1
	}
	return 0
}

// addresses returns where the chats listen.
func addresses(first string) ([]string, error) {
	host, text, err := net.SplitHostPort(first)
	port, number := strconv.Atoi(text)
	if err != nil || number != nil || port < 0 || port > 65535-size {
		return nil, fmt.Errorf("-addr %q is not HOST:PORT, such as localhost:8081", first)
	}
	var all []string
	for i := range size {
		p := port
		if p != 0 {
			p += i
		}
		all = append(all, net.JoinHostPort(host, strconv.Itoa(p)))
	}
	return all, nil
}

// startTime bounds how long everything together may take to start, on a busy machine.
const startTime = 2 * time.Minute

func serve(ctx context.Context, addrs []string, dir string, out, errs io.Writer) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "levada-cluster-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	} else {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot make the folder: %w; -dir names another", err)
		}
		// Servers of two clusters in one folder would write over each other.
		lock, err := filelock.Acquire(filepath.Join(dir, "lock"))
		if errors.Is(err, filelock.ErrHeld) {
			return fmt.Errorf("another cluster uses %s; -dir names another folder", dir)
		}
		if err != nil {
			return fmt.Errorf("cannot use the folder: %w; -dir names another", err)
		}
		defer lock.Release()
	}
	starting, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	fmt.Fprintln(out, "Starting three NATS servers and three chats.")
	servers, urls, err := startServers(starting, dir, errs)
	defer func() { end(servers) }()
	if err != nil {
		return ignore(ctx, err)
	}
	var chats []*process
	defer func() { end(chats) }()
	secret := "LEVADA_SECRET=" + rand.Text() + rand.Text() // the pages of one may go on with another
	for i, addr := range addrs {
		p, err := start(fmt.Sprint("chat ", i+1), job{Chat: []string{"-addr", addr, "-store", strings.Join(urls, ",")}}, errs, secret)
		if err != nil {
			return err
		}
		chats = append(chats, p)
	}
	for _, p := range chats {
		if p.said, err = p.ready(starting); err != nil {
			return ignore(ctx, err)
		}
	}
	for _, p := range append(chats[:size:size], servers...) {
		fmt.Fprintf(out, "%s: %s  (process %d)\n", p.name, p.said, p.cmd.Process.Pid)
	}
	fmt.Fprintln(out, "Open the chats in as many browsers, then kill one of the processes, or one of each. Ctrl-C ends all.")
	gone := make(chan *process, 2*size)
	for _, p := range append(chats[:size:size], servers...) {
		go func() {
			<-p.gone
			gone <- p
		}()
	}
	for {
		select {
		case p := <-gone:
			fmt.Fprintf(out, "%s has ended: %v. The others go on.\n", p.name, p.cmd.ProcessState)
		case <-ctx.Done():
			return nil
		}
	}
}

// ignore returns nil if ctx has ended: what fails then does so because of that.
func ignore(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
