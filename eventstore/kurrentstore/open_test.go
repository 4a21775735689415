package kurrentstore

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/stretchr/testify/require"
)

func TestConnectionStringsAreTakenAsTheyAre(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	for _, c := range []struct {
		url   string
		check func(*testing.T, *esdb.Configuration)
	}{
		{"esdb://localhost", func(t *testing.T, c *esdb.Configuration) {
			require.Equal(t, "localhost:2113", c.Address)
			require.False(t, c.DisableTLS)
			require.False(t, c.DnsDiscover)
		}},
		{"kurrentdb://admin:change%40it@node:1113?tls=false&keepAliveInterval=-1", func(t *testing.T, c *esdb.Configuration) {
			require.Equal(t, "node:1113", c.Address)
			require.Equal(t, "admin", c.Username)
			require.Equal(t, "change@it", c.Password)
			require.True(t, c.DisableTLS)
			require.Equal(t, time.Duration(-1), c.KeepAliveInterval)
		}},
		{"esdb+discover://cluster.example.com:2114", func(t *testing.T, c *esdb.Configuration) {
			require.True(t, c.DnsDiscover)
			require.Equal(t, "cluster.example.com:2114", c.Address)
		}},
		{"KurrentDB+Discover://cluster.example.com/?tlsVerifyCert=false", func(t *testing.T, c *esdb.Configuration) {
			require.True(t, c.DnsDiscover)
			require.True(t, c.SkipCertificateVerification)
		}},
		{"kurrentdb://u:p@a:1,b:2,c?gossipTimeout=3&nodePreference=follower&defaultDeadline=1500&connectionName=x", func(t *testing.T, c *esdb.Configuration) {
			require.Len(t, c.GossipSeeds, 3)
			require.Equal(t, "b:2", c.GossipSeeds[1].String())
			require.Equal(t, "c:2113", c.GossipSeeds[2].String())
			require.Equal(t, 3, c.GossipTimeout)
			require.Equal(t, 1500*time.Millisecond, *c.DefaultDeadline)
			require.Equal(t, esdb.NodePreferenceLeader, c.NodePreference)
			require.Equal(t, "p", c.Password)
		}},
	} {
		conf, err := parse(c.url, quiet)
		require.NoError(t, err, c.url)
		c.check(t, conf)
	}
}

func TestABadConnectionStringIsAnErrorWithoutThePassword(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for _, url := range []string{
		"", "postgres://u:hunter2@h", "esdb:u:hunter2@h", "esdb://u:hunter2@", "esdb://u:hunter2@h:port", "esdb://u:hunter2@h:1:2",
		"esdb://u:hunter2@h/path", "esdb://u:hunter2@h?tls=perhaps", "esdb://u:hunter2%zz@h", "esdb://u:hun/ter2@h", "esdb://u:hun?ter2@h",
		"esdb://:hunter2@h", "esdb://u:hunter2@h?tls=%zz", "esdb://u:hunter2@a,,b", "esdb://u:hunter2@h?defaultDeadline=0",
		"esdb://u:hunter2@h?gossipTimeout=0", "esdb://u:hunter2@h?userCertFile=x", "esdb://u:hunter2@h?tlsCaFile=/nowhere/hardly",
	} {
		conf, err := parse(url, logger)
		if err == nil {
			_, err = newGuard(conf, time.Second, logger)
		}
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "hunter2", url)
		require.NotContains(t, err.Error(), "ter2", url)
	}
	_, err := parse("esdb://u:hunter2@h?nodePreference=random&unheard=of", logger)
	require.NoError(t, err)
	require.Contains(t, log.String(), "unheard")
	require.Contains(t, log.String(), "nodePreference")
	require.NotContains(t, log.String(), "hunter2")
}

func FuzzConnectionString(f *testing.F) {
	for _, s := range []string{"esdb://h", "esdb://u:SECRETWORD@h:1,h:2?tls=false", "kurrentdb+discover://u:SECRETWORD@h/?x=y", "esdb://u:SECRETWORD@h:x", "esdb://%zz:SECRETWORD@", "esdb://[::1]:2113"} {
		f.Add(s)
	}
	quiet := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(strings.ToLower(s), "tlscafile") {
			return // it would read files
		}
		conf, err := parse(s, quiet)
		if err != nil {
			// The word may be in an error only if it stands where no password does.
			if strings.Contains(s, ":SECRETWORD@") && strings.Count(s, "SECRETWORD") == 1 {
				require.NotContains(t, err.Error(), "SECRETWORD")
			}
			return
		}
		require.NotNil(t, conf)
	})
}
