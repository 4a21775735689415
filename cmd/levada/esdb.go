package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/internal/storeurl"
)

// esdbOptions are the flags of levada esdb.
type esdbOptions struct {
	addr, advertise string
	store           string
	cert, key       string
	self, insecure  bool
	user, password  string
	maxAppend       int
}

// esdb is the command of that name.
func esdb(ctx context.Context, args []string, out, errs io.Writer) (err error) {
	o, err := parseESDB(args, out, errs)
	if err != nil {
		return err
	}
	opt := &esdbdev.Options{User: o.user, Password: o.password, MaxAppendSize: o.maxAppend, Advertise: o.advertise}
	params := "tls=false"
	switch {
	case o.self:
		config, pem, err := esdbdev.SelfSigned(hosts(o.addr, o.advertise)...)
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "levada-esdb-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "ca.crt")
		if err := os.WriteFile(file, pem, 0o600); err != nil {
			return err
		}
		opt.TLS, params = config, "tls=true&tlsCaFile="+filepath.ToSlash(file)
	case o.cert != "":
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("the certificate cannot be used: %w", err)
		}
		opt.TLS, params = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, "tls=true"
	}

	// The address first: a store may take long to open.
	ln, err := net.Listen("tcp", o.addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use; -addr takes another address, and port 0 a free one", o.addr)
	}
	if err != nil {
		return fmt.Errorf("cannot listen: %w; -addr takes another address", err)
	}
	defer ln.Close()
	store, err := storeurl.Open(ctx, o.store, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	server, err := esdbdev.New(store, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()

	address := o.advertise
	if address == "" {
		address = reachable(ln.Addr())
	}
	who, note := "", ""
	if o.user != "" {
		who, note = o.user+":***@", " (*** is the password)"
	}
	fmt.Fprintf(out, "esdb://%s%s?%s%s\nIt serves %s. Ctrl-C ends it.\n", who, address, params, note, storeurl.Describe(o.store))
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	return err
}

func parseESDB(args []string, out, errs io.Writer) (*esdbOptions, error) {
	o := &esdbOptions{}
	f := flags("esdb", `usage: levada esdb [flags]

It speaks the EventStoreDB gRPC protocol, for development and tests, and prints
the connection string for clients.`)
	f.StringVar(&o.addr, "addr", "127.0.0.1:2113", "listen on `HOST:PORT`; port 0 is a free one")
	f.StringVar(&o.advertise, "advertise", "", "the `HOST:PORT` that clients of a cluster are told, where it is not that of -addr")
	f.StringVar(&o.store, "store", "memory:", "the `STORE`, one of "+strings.Join(storeurl.Forms(), ", "))
	f.StringVar(&o.cert, "tls-cert", "", "speak TLS with the certificate in `FILE`, in PEM")
	f.StringVar(&o.key, "tls-key", "", "the `FILE` with the key of -tls-cert")
	f.BoolVar(&o.self, "tls-self", false, "speak TLS with a certificate made for this run")
	f.BoolVar(&o.insecure, "insecure", false, "without TLS, listen where other machines can connect, too")
	f.StringVar(&o.user, "user", "", "the `NAME` that clients must give; needs TLS, without which they give none")
	f.StringVar(&o.password, "password", "", "the `PASSWORD` of -user")
	f.IntVar(&o.maxAppend, "max-append", 1<<20, "the most that is taken in one append, in `BYTES`")
	if err := parse(f, args, out, errs); err != nil {
		return nil, err
	}
	if what := o.check(); what != "" {
		return nil, wrong(f, errs, "%s", what)
	}
	return o, nil
}

// check says what is wrong with the options, if something is.
func (o *esdbOptions) check() string {
	secure := o.self || o.cert != ""
	host, _, err := net.SplitHostPort(o.addr)
	switch {
	case err != nil:
		return fmt.Sprintf("-addr %q is no HOST:PORT", o.addr)
	case storeurl.Check(o.store) != nil:
		return fmt.Sprintf("-store %q is not one of %s", storeurl.Describe(o.store), strings.Join(storeurl.Forms(), ", "))
	case (o.cert == "") != (o.key == ""):
		return "-tls-cert and -tls-key go together"
	case o.self && o.cert != "":
		return "-tls-self makes a certificate, and -tls-cert names one; give one of them"
	case (o.user == "") != (o.password == ""):
		return "-user and -password go together"
	case o.user != "" && !secure:
		return "-user needs TLS, as with -tls-self: clients send no password without it"
	case o.maxAppend < 1:
		return fmt.Sprintf("-max-append %d is no number of bytes", o.maxAppend)
	case !secure && !o.insecure && !loopback(host):
		return fmt.Sprintf("other machines could connect to %q and nothing would be encrypted; -tls-self helps, or -insecure if that is wanted", o.addr)
	}
	if o.advertise != "" {
		if _, _, err := net.SplitHostPort(o.advertise); err != nil {
			return fmt.Sprintf("-advertise %q is no HOST:PORT", o.advertise)
		}
	}
	return ""
}

// loopback reports whether only this machine can connect to a host.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hosts are the names that a certificate is for.
func hosts(addrs ...string) []string {
	list := []string{"localhost", "127.0.0.1", "::1"}
	for _, a := range addrs {
		if host, _, err := net.SplitHostPort(a); err == nil && host != "" {
			list = append(list, host)
		}
	}
	if name, err := os.Hostname(); err == nil {
		list = append(list, name)
	}
	return list
}

// reachable is where this machine finds what listens at an address.
func reachable(addr net.Addr) string {
	a, ok := addr.(*net.TCPAddr)
	if !ok || !a.IP.IsUnspecified() {
		return addr.String()
	}
	return net.JoinHostPort("localhost", fmt.Sprint(a.Port))
}
