package natsstore

import (
	"context"
	"fmt"
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
	n := natstest.Run(t)
	n.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := OpenURL(ctx, n.URL(), nil)
	require.Error(t, err)
	plain, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	require.NoError(t, err)
	plain.Start()
	defer plain.Shutdown()
	require.True(t, plain.ReadyForConnections(10*time.Second))
	_, err = OpenURL(t.Context(), plain.ClientURL(), &Options{Timeout: time.Second})
	require.ErrorContains(t, err, "no JetStream answers")
}
