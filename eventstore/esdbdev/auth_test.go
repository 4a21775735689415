package esdbdev_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/gossip"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/persistent"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/projections"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/serverfeatures"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// secure starts a server with TLS and a user, and returns the parameters and the file
// that clients need.
func secure(t *testing.T) (f *fixture, host, ca string) {
	t.Helper()
	config, pem, err := esdbdev.SelfSigned("localhost", "127.0.0.1")
	require.NoError(t, err)
	ca = filepath.ToSlash(filepath.Join(t.TempDir(), "ca.crt"))
	require.NoError(t, os.WriteFile(ca, pem, 0o600))
	store := memstore.Open(nil)
	t.Cleanup(func() { store.Close() })
	s := serve(t, store, &esdbdev.Options{TLS: config, User: "admin", Password: "changeit"})
	host = s.Addr()
	return &fixture{connect(t, "esdb://admin:changeit@"+host+"?tlsCaFile="+ca), s, store}, host, ca
}

func TestWithTLSAndAPasswordEverythingWorks(t *testing.T) {
	t.Parallel()
	f, _, _ := secure(t)
	f.must(t, "s-1", esdb.NoStream{}, events("a", "b")...)
	require.Equal(t, "a b", types(f.read(t, "s-1")))
	sub, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}})
	require.NoError(t, err)
	defer sub.Close()
	says(t, sub, "a", "b", "caught up")
	f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
	consumer := f.join(t, "s-1", "g", 1)
	gives(t, consumer, "a", "b")
	require.Equal(t, "admin", f.info(t, "s-1", "g").Connections[0].Username)
}

func TestWhoGivesNoPasswordOrAWrongOneIsRefused(t *testing.T) {
	t.Parallel()
	f, host, ca := secure(t)
	wrong := connect(t, "esdb://admin:wrong@"+host+"?tlsCaFile="+ca)
	nobody := connect(t, "esdb://"+host+"?tlsCaFile="+ca)
	for name, row := range map[string]struct {
		client *esdb.Client
		want   esdb.ErrorCode
	}{"wrong": {wrong, esdb.ErrorCodeUnauthenticated}, "none": {nobody, esdb.ErrorCodeAccessDenied}} {
		t.Run(name, func(t *testing.T) {
			_, err := collect(row.client.ReadAll(t.Context(), esdb.ReadAllOptions{}, 1))
			require.Equal(t, row.want, code(err), "%v", err)
			_, err = row.client.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
			require.Equal(t, row.want, code(err), "%v", err)
			_, err = row.client.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{})
			require.Equal(t, row.want, code(err), "%v", err)
			err = row.client.CreatePersistentSubscription(t.Context(), "s-1", "g", esdb.PersistentStreamSubscriptionOptions{})
			require.Equal(t, row.want, code(err), "%v", err)
		})
	}
	// A call may have its own.
	good := &esdb.Credentials{Login: "admin", Password: "changeit"}
	_, err := collect(nobody.ReadAll(t.Context(), esdb.ReadAllOptions{Authenticated: good}, 1))
	require.NoError(t, err)
	bad := &esdb.Credentials{Login: "root", Password: "changeit"}
	_, err = collect(f.ReadAll(t.Context(), esdb.ReadAllOptions{Authenticated: bad}, 1))
	require.Equal(t, esdb.ErrorCodeUnauthenticated, code(err))
}

func TestACertificateThatIsNotTrustedIsRefusedByTheClient(t *testing.T) {
	t.Parallel()
	_, host, ca := secure(t)
	for params, want := range map[string]string{"tls=true": "certificate", "tls=true&tlsVerifyCert=false": "", "tlsCaFile=" + ca: ""} {
		t.Run(strings.SplitN(params, "/", 2)[0], func(t *testing.T) {
			t.Parallel()
			c := connect(t, "esdb://admin:changeit@"+host+"?maxDiscoverAttempts=1&"+params)
			_, err := collect(c.ReadAll(t.Context(), esdb.ReadAllOptions{}, 1))
			if want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, want)
			}
		})
	}
}

func TestASelfSignedCertificateIsForItsHostsAlone(t *testing.T) {
	t.Parallel()
	config, pem, err := esdbdev.SelfSigned("localhost", "127.0.0.1", "::1")
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	leaf, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	require.NoError(t, err)
	require.False(t, leaf.IsCA)
	for host, good := range map[string]bool{"localhost": true, "127.0.0.1": true, "::1": true, "example.com": false, "10.0.0.1": false} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host})
		require.Equal(t, good, err == nil, "%s: %v", host, err)
	}
}

// TestWhatClientsAskToFindTheirWayIsOpen also shows that a server with TLS speaks nothing else.
func TestWhatClientsAskToFindTheirWayIsOpen(t *testing.T) {
	t.Parallel()
	f, host, ca := secure(t)
	pem, err := os.ReadFile(ca)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(pem))
	conn, err := grpc.NewClient(host, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
	require.NoError(t, err)
	defer conn.Close()
	features, err := serverfeatures.NewServerFeaturesClient(conn).GetSupportedMethods(t.Context(), &shared.Empty{})
	require.NoError(t, err)
	require.Equal(t, "24.10.0", features.GetEventStoreServerVersion())
	info, err := gossip.NewGossipClient(conn).Read(t.Context(), &shared.Empty{})
	require.NoError(t, err)
	require.Len(t, info.GetMembers(), 1)
	_, err = persistent.NewPersistentSubscriptionsClient(conn).List(t.Context(), &persistent.ListReq{})
	require.Equal(t, codes.PermissionDenied, status.Code(err))

	plain, err := grpc.NewClient(f.server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer plain.Close()
	_, err = gossip.NewGossipClient(plain).Read(t.Context(), &shared.Empty{})
	require.Equal(t, codes.Unavailable, status.Code(err))
}

func TestAClientFindsTheLeaderByGossip(t *testing.T) {
	t.Parallel()
	store := memstore.Open(nil)
	t.Cleanup(func() { store.Close() })
	leader, follower := serve(t, store, nil), serve(t, store, nil)
	require.NoError(t, leader.SetRole(t.Context(), esdbdev.Role{Followers: []string{follower.Addr()}}))
	require.NoError(t, follower.SetRole(t.Context(), esdbdev.Role{Leader: leader.Addr()}))
	c := connect(t, fmt.Sprintf("esdb://%s,%s?tls=false&nodePreference=leader", follower.Addr(), follower.Addr()))
	f := &fixture{c, leader, store}
	follower.Inject(esdbdev.Fault{Method: esdbdev.MethodAppend, Err: status.Error(codes.Internal, "not here")})
	f.must(t, "s-1", esdb.Any{}, event("a"))

	other := connect(t, fmt.Sprintf("esdb://%s,%s?tls=false&nodePreference=follower", leader.Addr(), leader.Addr()))
	leader.Inject(esdbdev.Fault{Method: esdbdev.MethodRead, Err: status.Error(codes.Internal, "not here")})
	list, err := collect(other.ReadAll(t.Context(), esdb.ReadAllOptions{}, 10))
	require.NoError(t, err)
	require.Equal(t, "a", types(list))
}

func TestGossipTellsTheAddressThatIsAdvertised(t *testing.T) {
	t.Parallel()
	f := start(t, &esdbdev.Options{Advertise: "db.example.com:1234"})
	require.Equal(t, "esdb://db.example.com:1234?tls=false", f.server.URL())
	conn, err := grpc.NewClient(f.server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	info, err := gossip.NewGossipClient(conn).Read(t.Context(), &shared.Empty{})
	require.NoError(t, err)
	m := info.GetMembers()[0]
	require.Equal(t, "db.example.com", m.GetHttpEndPoint().GetAddress())
	require.EqualValues(t, 1234, m.GetHttpEndPoint().GetPort())
	require.Equal(t, gossip.MemberInfo_Leader, m.GetState())
	require.True(t, m.GetIsAlive())
}

func TestProjectionsAreUnimplemented(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	conn, err := grpc.NewClient(f.server.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	defer conn.Close()
	_, err = projections.NewProjectionsClient(conn).Create(t.Context(), &projections.CreateReq{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

func TestServerVersion(t *testing.T) {
	t.Parallel()
	f := start(t, &esdbdev.Options{Version: "23.10.1"})
	v, err := f.GetServerVersion()
	require.NoError(t, err)
	require.Equal(t, esdb.ServerVersion{Major: 23, Minor: 10, Patch: 1}, *v)
}

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	_, err := esdbdev.New(nil, nil)
	require.Error(t, err)
	_, err = esdbdev.New(memstore.Open(nil), &esdbdev.Options{MaxAppendSize: -1})
	require.Error(t, err)
	s, err := esdbdev.New(memstore.Open(nil), nil)
	require.NoError(t, err)
	require.Empty(t, s.Addr())
	require.Error(t, s.Start("256.0.0.1:0"))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	eventually(t, "it serves", func() bool { return s.Addr() != "" })
	s.Stop()
	require.NoError(t, <-ended)
	require.NoError(t, s.Close())
	ln, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.True(t, errors.Is(s.Serve(ln), esdbdev.ErrClosed))
}
