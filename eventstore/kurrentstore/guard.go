package kurrentstore

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	features "github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/levada-go/levada/eventstore/driver"
)

// A guard makes calls to the leader of a cluster, and finds it. It stands where
// the connection of esdb.Client would, which it takes the settings of: that one
// has a goroutine that owns the connection and ends when a search for the
// servers fails, for good and with callers waiting for it whose contexts it does
// not see; it panics when it is closed while calls fail; it does not send that a
// read is for the leader; and it loses the reason of a server that answers while
// it still sends.
//
//	call ──► node ──ok──────────────────────────────► result
//	          │ └─ not the leader: the node it names ─┐
//	          └─── broken: left by new calls, ────────┤
//	               closed when the last one is done   ▼
//	         search: one at a time, shared by all that wait, ended by Close
//
// It has no goroutine but that of a search under way.
type guard struct {
	conf     *esdb.Configuration
	dial     []grpc.DialOption
	call     []grpc.CallOption
	log      *slog.Logger
	patience time.Duration // of one call, through all its attempts
	attempt  time.Duration // of one attempt
	grace    time.Duration // for calls under way when the store is closed

	life    context.Context // of every call: ended when Close has waited long enough
	end     context.CancelFunc
	closing chan struct{} // closed when Close begins: nobody waits any more

	mu     sync.Mutex
	closed bool
	under  sync.WaitGroup // calls and searches under way
	node   *node          // what new calls use, nil if it must be found
	hint   string         // the leader as a server named it
	search *search        // under way
}

// A node is a connection to a server, shared by calls.
type node struct {
	conn    *grpc.ClientConn
	addr    string
	users   int
	retired bool          // no new users: closed with the last
	gone    chan struct{} // closed when it is retired
}

// A search is what callers wait for together.
type search struct {
	done chan struct{}
	err  error
}

const (
	defaultPatience = 20 * time.Second
	defaultAttempt  = 10 * time.Second
	closeGrace      = 5 * time.Second
	minRetry        = 5 * time.Millisecond
	maxRetry        = 500 * time.Millisecond
	maxMessage      = 64 << 20 // that a server may send: events of later servers can have 16 MiB and more
)

func newGuard(conf *esdb.Configuration, patience time.Duration, log *slog.Logger) (*guard, error) {
	if err := conf.Validate(); err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	g := &guard{conf: conf, log: log, patience: patience, attempt: defaultAttempt, grace: closeGrace, closing: make(chan struct{})}
	if !conf.DisableTLS {
		c := &tls.Config{InsecureSkipVerify: conf.SkipCertificateVerification, RootCAs: conf.RootCAs, MinVersion: tls.VersionTLS12}
		if conf.UserCertFile != "" {
			cert, err := tls.LoadX509KeyPair(conf.UserCertFile, conf.UserKeyFile)
			if err != nil {
				return nil, fmt.Errorf("user certificate: %w", err)
			}
			c.Certificates = []tls.Certificate{cert}
		}
		transport = credentials.NewTLS(c)
		if conf.Username != "" && conf.Password != "" {
			g.call = append(g.call, grpc.PerRPCCredentials(basic{conf.Username, conf.Password}))
		}
	}
	g.dial = []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
	}
	if conf.KeepAliveInterval >= 0 {
		g.dial = append(g.dial, grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: conf.KeepAliveInterval, Timeout: conf.KeepAliveTimeout, PermitWithoutStream: true,
		}))
	}
	if d := conf.DefaultDeadline; d != nil {
		g.attempt = *d
	}
	g.life, g.end = context.WithCancel(context.Background())
	return g, nil
}

// basic are credentials that are sent over TLS only.
type basic struct{ user, password string }

func (b basic) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(b.user+":"+b.password))}, nil
}

func (basic) RequireTransportSecurity() bool { return true }

// begin counts a call that Close waits for, and returns a context that ends with
// ctx, or when Close has waited long enough.
func (g *guard) begin(ctx context.Context) (context.Context, func(), error) {
	if err := ctx.Err(); err != nil && !g.isClosed() {
		return nil, nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, nil, driver.ErrClosed
	}
	g.under.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(g.life, cancel)
	return ctx, func() {
		stop()
		cancel()
		g.under.Done()
	}, nil
}

func (g *guard) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// close refuses new calls, ends waits and repetitions, gives calls under way
// some time, and closes the connection. It may be called more than once; each
// call returns when all is over.
func (g *guard) close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.closing)
	}
	g.mu.Unlock()
	timer := time.AfterFunc(g.grace, g.end)
	g.under.Wait()
	timer.Stop()
	g.end()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.node != nil {
		g.retire(g.node)
	}
}

// An outcome says what became of an attempt.
type outcome int8

const (
	answered outcome = iota // the server has decided, and will decide so again
	unmade                  // nothing was done: another server, or a later time
	unclear                 // perhaps it was done, perhaps not
)

// do makes attempts at op until one is answered, ctx ends, or the patience is
// over. op must be such that doing it twice is doing it once. unsure says that an attempt may
// have been carried out although do returns an error.
func (g *guard) do(ctx context.Context, op func(context.Context, *node) error) (unsure bool, err error) {
	limit := time.NewTimer(g.patience)
	defer limit.Stop()
	pause := minRetry
	for odd := 0; ; {
		n, err := g.acquire(ctx)
		what := unmade
		if c := status.Code(err); errors.Is(err, driver.ErrClosed) || c == codes.Unauthenticated || c == codes.PermissionDenied {
			what = answered
		} else if err == nil {
			err = op(leaderOnly(ctx), n)
			what = g.judge(ctx, n, err)
			g.release(n)
		}
		switch {
		case err == nil || what == answered:
			return unsure, err
		case what == unclear:
			unsure = true
		}
		if c := status.Code(err); c == codes.Unknown || c == codes.Internal {
			// Mostly a server's bug, which stays; sometimes a proxy's way to say that there is none.
			if odd++; odd > 2 {
				return unsure, err
			}
		}
		if ctx.Err() != nil {
			if g.life.Err() != nil {
				return unsure, driver.ErrClosed
			}
			return unsure, ctx.Err()
		}
		// Half of it is chance, so that those who were thrown out together do not come back together.
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-limit.C:
			wait.Stop()
			return unsure, fmt.Errorf("no answer in %v: %w", g.patience, err)
		case <-ctx.Done():
		case <-g.closing:
			wait.Stop()
			return unsure, driver.ErrClosed
		}
		wait.Stop()
		pause = min(2*pause, maxRetry)
	}
}

// leaderOnly makes a server that is not the leader say so. A follower would
// answer reads from what it has, and pass writes on.
func leaderOnly(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "requires-leader", "true")
}

// judge says what the error of an attempt means, and leaves a node that is
// broken or not the leader.
func (g *guard) judge(ctx context.Context, n *node, err error) outcome {
	if err == nil {
		return answered
	}
	var leader *notLeader
	if errors.As(err, &leader) {
		g.leave(n, leader.addr)
		return unmade
	}
	st, ok := status.FromError(err)
	if !ok {
		return answered // the driver's own
	}
	switch st.Code() {
	case codes.Unavailable, codes.Internal:
		g.leave(n, "")
		return unclear
	case codes.Canceled:
		if ctx.Err() == nil { // it was the connection that was closed
			g.leave(n, "")
		}
		return unclear
	case codes.DeadlineExceeded, codes.Aborted, codes.Unknown, codes.DataLoss:
		return unclear
	}
	return answered
}

// acquire returns a node to call. It waits for a search, if there is none.
func (g *guard) acquire(ctx context.Context) (*node, error) {
	for {
		g.mu.Lock()
		if n := g.node; n != nil {
			n.users++
			g.mu.Unlock()
			return n, nil
		}
		if g.search == nil {
			s := &search{done: make(chan struct{})}
			g.search = s
			hint := g.hint
			g.hint = ""
			g.under.Add(1) // its caller is under way, so Close waits already
			go func() {
				defer g.under.Done()
				g.find(s, hint)
			}()
		}
		s := g.search
		g.mu.Unlock()
		select {
		case <-s.done:
			if s.err != nil {
				return nil, s.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-g.closing:
			return nil, driver.ErrClosed
		}
	}
}

func (g *guard) release(n *node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n.users--; n.users == 0 && n.retired {
		n.conn.Close()
	}
}

// leave makes new calls look for a server again; hint is the leader, if it is known.
func (g *guard) leave(n *node, hint string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.node != n {
		return // somebody has
	}
	g.hint = hint
	g.retire(n)
}

// retire is called with the lock held.
func (g *guard) retire(n *node) {
	g.node = nil
	n.retired = true
	close(n.gone)
	if n.users == 0 {
		n.conn.Close()
	}
}

// find searches for a node, once, and tells those who wait.
func (g *guard) find(s *search, hint string) {
	ctx, cancel := context.WithCancel(g.life)
	defer cancel()
	go func() { // Close does not wait for a server that is not there
		select {
		case <-g.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	n, err := g.discover(ctx, hint)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.search = nil
	s.err = err
	if err == nil {
		g.node = n
	}
	close(s.done)
}

// discover tries the servers that are known, each once.
func (g *guard) discover(ctx context.Context, hint string) (*node, error) {
	cluster := g.conf.DnsDiscover || len(g.conf.GossipSeeds) > 0
	var list []string
	if hint != "" {
		list = append(list, hint)
	}
	if len(g.conf.GossipSeeds) > 0 {
		for _, i := range rand.Perm(len(g.conf.GossipSeeds)) {
			list = append(list, g.conf.GossipSeeds[i].String())
		}
	} else {
		list = append(list, g.conf.Address)
	}
	var all []error
	for i, addr := range list {
		n, err := g.connect(ctx, addr, cluster && !(i == 0 && hint != ""))
		if err == nil {
			g.log.DebugContext(ctx, "kurrentstore: connected", "node", n.addr)
			return n, nil
		}
		all = append(all, fmt.Errorf("%s: %w", addr, err))
	}
	err := errors.Join(all...)
	g.log.DebugContext(ctx, "kurrentstore: no server", "err", err)
	return nil, err
}

// connect returns a node at addr, or, asked for the cluster, at the leader that addr tells of.
func (g *guard) connect(ctx context.Context, addr string, cluster bool) (*node, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(g.conf.GossipTimeout)*time.Second)
	defer cancel()
	conn, err := grpc.NewClient(addr, g.dial...)
	if err != nil {
		return nil, err
	}
	if cluster {
		leader, err := g.leader(ctx, conn)
		if err != nil {
			conn.Close()
			return nil, err
		}
		if leader != addr {
			conn.Close()
			if conn, err = grpc.NewClient(leader, g.dial...); err != nil {
				return nil, err
			}
			addr = leader
		}
	}
	// The client asks for this first, too; it shows that somebody is there. Old
	// servers do not know it.
	_, err = features.NewServerFeaturesClient(conn).GetSupportedMethods(ctx, &shared.Empty{}, g.call...)
	if c := status.Code(err); err != nil && c != codes.Unimplemented && c != codes.NotFound {
		conn.Close()
		return nil, err
	}
	return &node{conn: conn, addr: addr, gone: make(chan struct{})}, nil
}

// leader asks a server who the leader is.
func (g *guard) leader(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	info, err := gossip.NewGossipClient(conn).Read(ctx, &shared.Empty{}, g.call...)
	if err != nil {
		return "", err
	}
	for _, m := range info.GetMembers() {
		if m.GetState() == gossip.MemberInfo_Leader && m.GetIsAlive() {
			e := m.GetHttpEndPoint()
			return net.JoinHostPort(e.GetAddress(), strconv.Itoa(int(e.GetPort()))), nil
		}
	}
	return "", status.Error(codes.Unavailable, "there is no leader")
}
