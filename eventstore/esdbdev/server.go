package esdbdev

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

// A Server answers clients of EventStoreDB from a store. It is safe for concurrent
// use.
type Server struct {
	store     *eventstore.Store
	opt       Options
	nameBytes int
	instance  uuid.UUID

	locks  locks
	recent recents
	faults faults
	hub    hub
	part   atomic.Pointer[part]
	groups groups

	mu     sync.Mutex
	addr   net.Addr     // of the last listener
	grpc   *grpc.Server // nil unless serving
	closed bool
	served sync.WaitGroup // calls of Serve by Start
}

// Options configures a Server. A nil *Options means the defaults.
type Options struct {
	// TLS makes the server speak TLS; without it, it speaks plain text, and clients
	// need tls=false. See [SelfSigned].
	TLS *tls.Config
	// User and Password are what clients must give, by HTTP basic authentication; an
	// empty User lets everybody in. The official clients send a password only over
	// TLS. Nobody is asked what they may do: an $acl is kept and has no effect.
	User, Password string
	// MaxAppendSize bounds the data, metadata and types of one append, in bytes. The
	// default is 1 MiB. What the store refuses is refused in any case.
	MaxAppendSize int
	// Advertise is the address, host and port, that gossip tells and URL names, where
	// clients do not reach the server at the one it listens on.
	Advertise string
	// Version is what the server says it is. The default is 24.10.0.
	Version string
	Logger  *slog.Logger // default slog.Default()
}

// ErrClosed is returned by Serve and Start after Close.
var ErrClosed = errors.New("esdbdev: server closed")

const (
	defaultMaxAppend = 1 << 20
	defaultVersion   = "24.10.0"
)

// New returns a server of store, which stays its caller's: Close does not close it.
// The store must outlive the server. Several servers of one store, one after the
// other or at once, serve the same events; what they expect of streams that are
// deleted, and persistent subscriptions, only one at a time can keep straight.
func New(store *eventstore.Store, opt *Options) (*Server, error) {
	if store == nil {
		return nil, errors.New("esdbdev: no store")
	}
	s := &Server{store: store, nameBytes: store.Limits().NameBytes, instance: uuid.New(), hub: hub{store: store}}
	if opt != nil {
		s.opt = *opt
	}
	if s.opt.MaxAppendSize < 0 {
		return nil, fmt.Errorf("esdbdev: MaxAppendSize %d: want none, or a positive number of bytes", s.opt.MaxAppendSize)
	}
	if s.opt.MaxAppendSize == 0 {
		s.opt.MaxAppendSize = defaultMaxAppend
	}
	if s.opt.Version == "" {
		s.opt.Version = defaultVersion
	}
	if s.opt.Logger == nil {
		s.opt.Logger = slog.Default()
	}
	s.part.Store(&part{upTo: everything})
	s.groups.s = s
	return s, nil
}

// Serve answers clients that connect to ln until Stop or Close, which close ln; it
// returns nil then. A server serves one listener at a time.
func (s *Server) Serve(ln net.Listener) error {
	g, err := s.ready(ln)
	if err != nil {
		ln.Close()
		return err
	}
	if err := g.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("esdbdev: serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Start listens on a TCP address, as "127.0.0.1:0", and serves in the background.
// It returns as soon as clients can connect. After Stop it may be called again:
// Start(s.Addr()) is a restart in place.
func (s *Server) Start(addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("esdbdev: %w", err)
	}
	g, err := s.ready(ln)
	if err != nil {
		ln.Close()
		return err
	}
	s.served.Go(func() {
		if err := g.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			s.opt.Logger.Error("esdbdev: the server has ended", "err", err)
		}
	})
	return nil
}

// ready makes the server that serves ln.
func (s *Server) ready(ln net.Listener) (*grpc.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, ErrClosed
	case s.grpc != nil:
		return nil, errors.New("esdbdev: the server is serving already")
	}
	s.grpc, s.addr = s.newGRPC(), ln.Addr()
	return s.grpc, nil
}

func (s *Server) newGRPC() *grpc.Server {
	opts := []grpc.ServerOption{
		// Append sizes are limited by MaxAppendSize, with an error that clients know.
		grpc.MaxRecvMsgSize(64 << 20),
		// Some clients measure with pings, and are not to be sent away for it.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 1, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.StreamInterceptor(s.streaming),
		grpc.UnknownServiceHandler(unknown),
	}
	if s.opt.TLS != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(s.opt.TLS)))
	}
	g := grpc.NewServer(opts...)
	r := patient{g}
	streams.RegisterStreamsServer(r, &streamsService{s: s})
	persistent.RegisterPersistentSubscriptionsServer(r, &persistentService{s: s})
	gossip.RegisterGossipServer(r, &gossipService{s: s})
	serverfeatures.RegisterServerFeaturesServer(r, &featuresService{s: s})
	return g
}

type streamsService struct {
	streams.UnimplementedStreamsServer
	s *Server
}

// Addr returns the address that the server listens on, host and port; after Stop the
// one it did. It is empty before the first Start or Serve.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addr == nil {
		return ""
	}
	return s.addr.String()
}

// URL returns a connection string for clients, without a password.
func (s *Server) URL() string {
	if s.opt.TLS == nil {
		return "esdb://" + s.public() + "?tls=false"
	}
	return "esdb://" + s.public() + "?tls=true"
}

// public is the address that clients connect to.
func (s *Server) public() string {
	if s.opt.Advertise != "" {
		return s.opt.Advertise
	}
	return s.Addr()
}

// Stop breaks all connections and closes the listener, as if the process had been
// killed, but that appends which are in the store by now go through. It returns
// when no call is under way any more. Start or Serve start the server again.
func (s *Server) Stop() {
	s.mu.Lock()
	g := s.grpc
	s.grpc = nil
	s.mu.Unlock()
	if g != nil {
		g.Stop()
	}
	s.served.Wait()
}

// Close is Stop for good. It may be called more than once.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Stop()
	return nil
}
