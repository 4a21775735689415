package natsstore

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/natstest"
)

// fresh returns a name of a store that nobody else has.
func fresh() string { return "n" + newNonce()[:10] }

func TestAStreamThatWouldLoseEventsIsRefused(t *testing.T) {
	t.Parallel()
	nodes := natstest.Shared(t, 1)
	nc := nodes.Connect(t)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*jetstream.StreamConfig)
		says   string
	}{
		"max_age":     {func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, "max_age is 1h0m0s"},
		"max_msgs":    {func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, "max_msgs is 10"},
		"per subject": {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }, "max_msgs_per_subject is 1"},
		"discard old": {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard is DiscardOld"},
		"memory":      {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage is Memory"},
		"interest":    {func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, "retention is Interest"},
		"async persistence": {func(c *jetstream.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = jetstream.AsyncPersistMode, false
		}, "persist_mode is async"},
		"no batches":     {func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, "allow_atomic is off"},
		"no direct gets": {func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "allow_direct is off"},
		"no purge":       {func(c *jetstream.StreamConfig) { c.DenyPurge = true }, "deny_purge is on"},
		"no acks":        {func(c *jetstream.StreamConfig) { c.NoAck, c.AllowAtomicPublish = true, false }, "no_ack is on"},
		"other subjects": {func(c *jetstream.StreamConfig) { c.Subjects = []string{c.Name + ".u.>"} }, "subjects are"},
		"more subjects":  {func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other."+c.Name) }, "subjects are"},
		"another's":      {func(c *jetstream.StreamConfig) { c.Metadata = nil }, "not an event store"},
		"newer":          {func(c *jetstream.StreamConfig) { c.Metadata[formatKey] = "2" }, "newer format: 2"},
		"two things":     {func(c *jetstream.StreamConfig) { c.MaxAge, c.DenyPurge = time.Hour, true }, "max_age is 1h0m0s, want none; deny_purge is on"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := fresh()
			config := logConfig(store, 1)
			c.change(&config)
			_, err := js.CreateStream(t.Context(), config)
			require.NoError(t, err)
			before, err := lookUp(t.Context(), js, store)
			require.NoError(t, err)
			_, err = Open(t.Context(), nc, &Options{Name: store})
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, store)
			switch name {
			case "another's":
				require.ErrorIs(t, err, ErrNotStore)
			case "newer":
				require.ErrorIs(t, err, ErrNewerFormat)
			default:
				require.ErrorIs(t, err, ErrConfig)
			}
			after, err := lookUp(t.Context(), js, store)
			require.NoError(t, err)
			require.Equal(t, before.Config, after.Config, "nothing may have been changed")
			require.NoError(t, js.DeleteStream(t.Context(), store))
		})
	}
}

func TestSettingsThatHarmNothingAreLeftAlone(t *testing.T) {
	t.Parallel()
	nodes := natstest.Shared(t, 1)
	nc := nodes.Connect(t)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	config := logConfig(fresh(), 1)
	config.MaxBytes, config.MaxMsgSize, config.Compression, config.Description = 64<<20, 128<<10, jetstream.S2Compression, "mine"
	_, err = js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	s, err := open(t.Context(), nc, &Options{Name: config.Name})
	require.NoError(t, err)
	require.Equal(t, 120<<10, s.Limits().EventBytes, "15/16 of the stream's own limit")
	must(t, s, "a-1", driver.NoStream, 3)
	require.NoError(t, s.Close())
	info, err := lookUp(t.Context(), js, config.Name)
	require.NoError(t, err)
	require.Equal(t, "mine", info.Config.Description)
	require.NoError(t, js.DeleteStream(t.Context(), config.Name))
}

func TestAFullStoreRefusesAndGoesOnBeingRead(t *testing.T) {
	t.Parallel()
	nodes := natstest.Shared(t, 1)
	nc := nodes.Connect(t)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	config := logConfig(fresh(), 1)
	config.MaxBytes = 1 << 20
	_, err = js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	s, err := open(t.Context(), nc, &Options{Name: config.Name})
	require.NoError(t, err)
	defer s.Close()
	big := newEvents(1)
	big[0].Data = make([]byte, 300<<10)
	var n uint64
	for ; ; n++ {
		r := s.Append(t.Context(), driver.Append{Stream: "a-1", Events: big})
		if r.Err != nil {
			require.NotErrorIs(t, r.Err, driver.ErrOutcomeUnknown, "it is known that nothing was written")
			require.ErrorContains(t, r.Err, "maximum bytes exceeded")
			break
		}
	}
	require.Positive(t, n)
	info, err := s.Stream(t.Context(), "a-1")
	require.NoError(t, err)
	require.Equal(t, n, info.Version)
	require.NoError(t, js.DeleteStream(t.Context(), config.Name))
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	nc := natstest.Shared(t, 1).Connect(t)
	for want, opt := range map[string]Options{
		"name":     {Name: "a.b"},
		"pubsub":   {Name: "ps"},
		"presence": {Name: "pr"},
		"replicas": {Replicas: 2},
		"timeout":  {Timeout: time.Millisecond},
	} {
		_, err := Open(t.Context(), nc, &opt)
		require.ErrorContains(t, err, want)
	}
	name := fresh()
	s, err := Open(t.Context(), nc, &Options{Name: name, Replicas: 1})
	require.NoError(t, err)
	defer s.Close()
	_, err = Open(t.Context(), nc, &Options{Name: name, Replicas: 3})
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, "replicas are 1, want 3")
	require.Equal(t, "quorum fsync", fmt.Sprint(Quorum, " ", Fsync))
}

func TestAClusterOfThreeGetsThreeReplicas(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{1: 1, 3: 3} {
		nodes := natstest.Shared(t, n)
		nc := nodes.Connect(t)
		name := fresh()
		s, err := open(t.Context(), nc, &Options{Name: name, Timeout: time.Minute})
		require.NoError(t, err)
		require.Equal(t, want, s.replicas)
		require.NoError(t, s.Close())
	}
}

func TestStoresOfOneAccountAreApart(t *testing.T) {
	t.Parallel()
	nc := natstest.Shared(t, 1).Connect(t)
	a, err := open(t.Context(), nc, &Options{Name: fresh()})
	require.NoError(t, err)
	defer a.Close()
	b, err := open(t.Context(), nc, &Options{Name: a.opt.Name + "-b"})
	require.NoError(t, err)
	defer b.Close()
	must(t, a, "s-1", driver.NoStream, 2)
	must(t, b, "s-1", driver.NoStream, 1)
	info, err := a.Stream(t.Context(), "s-1")
	require.NoError(t, err)
	require.Equal(t, uint64(2), info.Version)
}

func TestOpenURLTellsNoPassword(t *testing.T) {
	t.Parallel()
	nodes := natstest.Shared(t, 1)
	s, err := OpenURL(t.Context(), nodes.URL(), &Options{Name: fresh()})
	require.NoError(t, err)
	var nc *nats.Conn
	require.True(t, s.As(&nc))
	require.NoError(t, s.Close())
	require.True(t, nc.IsClosed(), "its connection is its own")
	for _, url := range []string{
		"nats://bob:hunter2@127.0.0.1:1", "nats://hunter2@127.0.0.1:1", "nats://bob:hunter2@127.0.0.1:1,nats://bob:hunter2@127.0.0.1:2",
		"nats://bob:hunter2@[::1", "bob:hunter2@%zz", "nats://bob:hunter2@",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err := OpenURL(ctx, url, nil)
		cancel()
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2", url)
	}
}

func TestOpenWithoutJetStreamSaysSo(t *testing.T) {
	t.Parallel()
	plain := serve(t, &server.Options{})
	for _, timeout := range []time.Duration{time.Second, time.Minute} {
		began := time.Now()
		_, err := OpenURL(t.Context(), plain.ClientURL(), &Options{Timeout: timeout})
		require.ErrorContains(t, err, "no JetStream answers")
		require.ErrorContains(t, err, "nats-server -js")
		require.Less(t, time.Since(began), 50*time.Second, "a single server has it or not")
	}
}

// serve starts a server that has nothing but what is asked for.
func serve(t testing.TB, opt *server.Options) *server.Server {
	t.Helper()
	opt.Host, opt.Port, opt.NoSigs, opt.NoLog = "127.0.0.1", -1, true, true
	s, err := server.NewServer(opt)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(30*time.Second))
	return s
}

func TestAWrongURLIsTold(t *testing.T) {
	t.Parallel()
	n := natstest.Run(t)
	n.Stop(t)
	for url, says := range map[string]string{
		n.URL():                     "no servers available",
		"nats://127.0.0.1:99999":    "127.0.0.1:99999",
		"nats://no.such.host.:4222": "no.such.host",
		"":                          "connect to",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err := OpenURL(ctx, url, nil)
		cancel()
		require.ErrorContains(t, err, says, url)
		require.ErrorContains(t, err, "natsstore: connect to")
	}
}

// TestPermissionsThatAreMissingAreNamed opens stores as users who may do some of
// what a store does.
func TestPermissionsThatAreMissingAreNamed(t *testing.T) {
	t.Parallel()
	const name = "shop"
	users := map[string]*server.Permissions{}
	all := func() *server.Permissions {
		return &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"$JS.API.>", "shop.>", "$KV.shop-snap.>", "$KV.shop-cp.>", "$KV.shop-lease.>", "levada=appended.shop", "_INBOX.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>", "levada=appended.shop"}},
		}
	}
	users["full"] = all()
	users["nobody"] = &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{">"}}}
	users["reader"] = all()
	users["reader"].Publish.Deny = []string{"shop.>"}
	users["deaf"] = all()
	users["deaf"].Subscribe.Deny = []string{"_INBOX.>"}
	users["finder"] = all()
	users["finder"].Publish.Deny = []string{"$JS.API.STREAM.CREATE.>"}
	opt := &server.Options{JetStream: true, StoreDir: t.TempDir()}
	for user, p := range users {
		opt.Users = append(opt.Users, &server.User{Username: user, Password: "secret", Permissions: p})
	}
	addr := serve(t, opt).Addr().String()
	as := func(user, password string) error {
		s, err := OpenURL(t.Context(), "nats://"+user+":"+password+"@"+addr, &Options{Name: name})
		if err == nil {
			d, err := openURL(t.Context(), "nats://"+user+":"+password+"@"+addr, &Options{Name: name})
			require.NoError(t, err)
			must(t, d, "a-1", driver.Any, 2)
			require.NoError(t, d.Close())
			require.NoError(t, s.Close())
		}
		return err
	}
	require.ErrorIs(t, as("full", "wrong"), nats.ErrAuthorization)
	began := time.Now()
	for _, c := range []struct{ user, subject string }{
		{"finder", "$JS.API.STREAM.CREATE.shop"}, {"full", ""}, {"nobody", "$JS.API.STREAM.INFO.shop"}, {"reader", "shop.u.probe.="}, {"deaf", "_INBOX."},
	} {
		err := as(c.user, "secret")
		if c.subject == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, nats.ErrPermissionViolation, c.user)
		require.ErrorContains(t, err, c.subject)
		require.NotContains(t, err.Error(), "secret")
	}
	require.Less(t, time.Since(began), 50*time.Second, "it does not wait for what is never answered")
}

func TestAnAccountWithoutJetStreamIsTold(t *testing.T) {
	t.Parallel()
	without := server.NewAccount("without")
	s := serve(t, &server.Options{
		JetStream: true, StoreDir: t.TempDir(), Accounts: []*server.Account{without},
		Users: []*server.User{{Username: "u", Password: "secret", Account: without}},
	})
	_, err := OpenURL(t.Context(), "nats://u:secret@"+s.Addr().String(), &Options{Timeout: 10 * time.Second})
	require.Error(t, err)
	require.ErrorContains(t, err, "JetStream")
}

func TestSubjectsThatAnotherStreamHasAreTold(t *testing.T) {
	t.Parallel()
	nc := natstest.Shared(t, 1).Connect(t)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	name := fresh()
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name + "-other", Subjects: []string{name + ".u.room.*"}})
	require.NoError(t, err)
	_, err = Open(t.Context(), nc, &Options{Name: name})
	require.ErrorIs(t, err, ErrConfig)
	require.ErrorContains(t, err, name+".>")
	require.ErrorContains(t, err, "another JetStream stream")
	require.NoError(t, js.DeleteStream(t.Context(), name+"-other"))
}

// TestAServerThatIsTooOldIsRefusedBeforeAnythingIsMade speaks to what says that it
// is a server of an older version.
func TestAServerThatIsTooOldIsRefusedBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]bool{"2.9.25": true, "2.11.4": true, "1.4.1": true, "2.12.0-preview.1": false, "3.0.0": false, "dev": false} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		heard := make(chan string, 100)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					fmt.Fprintf(conn, "INFO {\"server_id\":\"x\",\"version\":%q,\"proto\":1,\"headers\":true,\"max_payload\":1048576,\"jetstream\":true}\r\n", version)
					for lines := bufio.NewScanner(conn); lines.Scan(); {
						if lines.Text() == "PING" {
							fmt.Fprint(conn, "PONG\r\n")
						} else if strings.Contains(lines.Text(), "$JS.API") {
							heard <- lines.Text()
						}
					}
				}()
			}
		}()
		_, err = OpenURL(t.Context(), "nats://"+listener.Addr().String(), &Options{Timeout: time.Second})
		if old {
			require.ErrorIs(t, err, ErrConfig)
			require.ErrorContains(t, err, version)
			require.ErrorContains(t, err, "2.12 or later")
			require.Empty(t, heard)
			continue
		}
		require.ErrorIs(t, err, context.DeadlineExceeded, version)
		require.NotEmpty(t, heard)
	}
}
