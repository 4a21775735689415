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

	"github.com/levada-go/levada/examples/chat/web"
)

// goodbye bounds how long pages and requests may take to end.
const goodbye = 5 * time.Second

// serve serves a chat until ctx ends.
func serve(ctx context.Context, o *options, out io.Writer) error {
	listener, err := net.Listen("tcp", o.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use; -addr takes another address, and port 0 a free one", o.addr)
	} else if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	defer listener.Close()
	store, err := o.open()
	if err != nil {
		return err
	}
	defer store.Close()
	chat, err := web.Open(ctx, store, nil)
	if err != nil {
		return err
	}

	failed := make(chan error, 2)
	running, end := context.WithCancel(context.WithoutCancel(ctx)) // the model outlives the pages
	defer end()
	go func() { failed <- chat.Run(running) }()
	if err := chat.Ready(ctx); err != nil {
		return err
	}
	server := &http.Server{Handler: chat, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	go func() { failed <- server.Serve(listener) }()
	fmt.Fprintf(out, "%s\nIt is kept in %s. Ctrl-C ends the chat.\n", address(listener), o.place())

	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	return errors.Join(err, chat.Shutdown(ctx), server.Shutdown(ctx))
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
