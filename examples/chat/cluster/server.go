package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"

	natsd "github.com/nats-io/nats-server/v2/server"

	"github.com/levada-go/levada/internal/freeport"
)

// A server is one of the NATS servers.
type server struct {
	Name   string
	Dir    string
	Port   int   // where it listens for the others
	Routes []int // where those listen
}

// run runs the server until ctx ends. It says where clients find it.
func (s *server) run(ctx context.Context, out, errs io.Writer) int {
	o := &natsd.Options{
		ServerName: s.Name, Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: s.Dir,
		Cluster: natsd.ClusterOpts{Name: "levada", Host: "127.0.0.1", Port: s.Port},
	}
	for _, port := range s.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats-route", Host: fmt.Sprint("127.0.0.1:", port)})
	}
	n, err := natsd.NewServer(o)
	if err == nil {
		n.Start()
		if !n.ReadyForConnections(startTime) {
			err = errors.New("it does not take connections")
		}
	}
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	fmt.Fprintln(out, n.ClientURL())
	<-ctx.Done()
	n.Shutdown()
	n.WaitForShutdown()
	return 0
}

// startServers starts the servers and returns them, and where they are. What was started before an error is returned
// with it.
func startServers(ctx context.Context, dir string, errs io.Writer) (all []*process, urls []string, err error) {
	ports, err := freeport.Take(size)
	if err != nil {
		return nil, nil, err
	}
	for i := range size {
		s := &server{Name: fmt.Sprint("nats-", i+1), Dir: filepath.Join(dir, fmt.Sprint("nats-", i+1)), Port: ports[i], Routes: ports}
		p, err := start(fmt.Sprint("NATS ", i+1), job{Server: s}, errs)
		if err != nil {
			return all, nil, err
		}
		all = append(all, p)
	}
	for _, p := range all {
		if p.said, err = p.ready(ctx); err != nil {
			return all, nil, err
		}
		urls = append(urls, p.said)
	}
	return all, urls, nil
}
