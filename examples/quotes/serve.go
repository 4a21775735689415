package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/levada-go/levada/examples/quotes/shelf"
	"github.com/levada-go/levada/examples/quotes/web"
)

// drain bounds how long pages and requests may take to end.
const drain = 5 * time.Second

// serve serves the quotes until ctx ends.
func serve(ctx context.Context, o *options, out io.Writer) (err error) {
	l, err := net.Listen("tcp", o.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use by another program; choose another port with -addr, such as -addr localhost:0 for any", o.addr)
	}
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with -addr", o.addr, err)
	}
	defer l.Close()
	store, err := o.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	quotes, err := shelf.Open(store, nil)
	if err != nil {
		return err
	}
	site, err := web.New(quotes, nil)
	if err != nil {
		return err
	}

	// The model runs until all pages have ended.
	modelling, end := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- quotes.Run(modelling)
		stop() // without a model there is nothing to show
	}()
	defer func() {
		end()
		err = errors.Join(err, <-ended)
	}()
	if err := errors.Join(quotes.Ready(ctx), quotes.Seed(ctx)); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to stop while it was reading
		}
		return err
	}

	server := &http.Server{Handler: site, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 2 * time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	fmt.Fprintf(out, "The quotes are at %s\nThey are kept in %s. Ctrl-C ends it.\n", address(o.addr, l.Addr()), o.place())
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err = errors.Join(err, site.Shutdown(closing))
	if server.Shutdown(closing) != nil {
		server.Close()
	}
	return err
}

// address is where a browser on this machine finds what listens.
func address(asked string, l net.Addr) string {
	host, _, _ := net.SplitHostPort(asked)
	_, port, _ := net.SplitHostPort(l.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}
