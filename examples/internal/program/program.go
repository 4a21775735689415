// Package program is what the commands of the examples have in common: flags, the store that they name, the network of those
// that run on one store, an address to open in a browser, and a clean end with Ctrl-C.
//
//	main ──► Program.Main ──► flags ──► listener, store, network ──► Start ──► App: Run, Ready, Handler
//	                                                                            │
//	                                    Ctrl-C ──► Shutdown of pages, requests, ┘ then Run, then the store
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/levada-go/levada/eventstore"
)

// Program is a command.
type Program struct {
	Name  string // also of its file, which is NAME.db in the user's folder for data
	About string // the first lines of what -h prints
	Addr  string // where it listens without -addr
	Keeps string // what the file keeps, for -h: "all that was ever said"
	// Start returns the app on a store, which other processes may use at the same time, unless it is exclusive.
	Start func(ctx context.Context, store *eventstore.Store, net *Network) (*App, error)
}

// App is what a command serves.
type App struct {
	Handler http.Handler
	// Run keeps the app going, until ctx ends, after the pages have. What it returns before is the end of the command.
	Run func(ctx context.Context) error
	// Ready returns when there is something to show. Run runs meanwhile.
	Ready func(ctx context.Context) error
	// Shutdown ends the pages.
	Shutdown func(ctx context.Context) error
}

// goodbye bounds how long pages and requests may take to end.
const goodbye = 5 * time.Second

// Main runs the command and ends the process.
func (p *Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(p.Run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Run runs the command until ctx ends and returns the status of the process: 2 for a wrong command line, 1 for what failed.
func (p *Program) Run(ctx context.Context, args []string, out, errs io.Writer) int {
	o, status := p.parse(args, out, errs)
	if o == nil {
		return status
	}
	if err := p.serve(ctx, o, out); err != nil {
		fmt.Fprintf(errs, "%s: %v\n", p.Name, err)
		return 1
	}
	return 0
}

func (p *Program) serve(ctx context.Context, o *options, out io.Writer) (err error) {
	secret, err := Secret()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", o.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use; -addr takes another address, and port 0 a free one", o.addr)
	}
	if err != nil {
		return fmt.Errorf("cannot listen: %w; -addr takes another address", err)
	}
	defer l.Close()
	store, err := o.place.Open(ctx, p.Name, nil)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to end before there was anything to lose
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	app, err := p.Start(ctx, store, network(p.Name, store, secret))
	if err != nil {
		return err
	}

	// The app runs until all pages have ended.
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- app.Run(running)
		stop() // without it there is nothing to show
	}()
	defer func() {
		end()
		err = errors.Join(err, <-ended)
	}()
	if err := app.Ready(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to end before it was ready, or Run says why it is not
		}
		return err
	}

	server := &http.Server{Handler: app.Handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	fmt.Fprintf(out, "%s\nIt is kept in %s. Ctrl-C ends it.\n", address(l), o.place)
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	err = errors.Join(err, app.Shutdown(closing))
	if server.Shutdown(closing) != nil {
		_ = server.Close()
	}
	return err
}

// address is where a browser on this machine finds what listens.
func address(l net.Listener) string {
	a := l.Addr().(*net.TCPAddr)
	host := "localhost"
	if !a.IP.IsUnspecified() && !a.IP.IsLoopback() {
		host = a.IP.String()
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(a.Port)) + "/"
}
