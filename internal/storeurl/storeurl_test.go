package storeurl_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/natstest"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/internal/storeurl"
	"github.com/stretchr/testify/require"
)

func TestOpenGivesAStoreThatTakesEvents(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"memory":     func(*testing.T) string { return "memory:" },
		"sqlite":     func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "events.db") },
		"postgres":   func(t *testing.T) string { return "postgres:" + afterScheme(postgrestest.URL(t)) },
		"postgresql": func(t *testing.T) string { return "postgresql:" + afterScheme(postgrestest.URL(t)) },
		"esdb":       func(t *testing.T) string { return server(t) },
		"kurrentdb":  func(t *testing.T) string { return "kurrentdb:" + afterScheme(server(t)) },
		"nats":       func(t *testing.T) string { return natstest.Run(t).URL() },
		"embedded":   func(t *testing.T) string { return "nats+embedded:" + filepath.Join(t.TempDir(), "nats") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := storeurl.Open(t.Context(), url(t), nil)
			require.NoError(t, err)
			defer store.Close()
			_, err = store.Append(t.Context(), "a-1", eventstore.NoStream, eventstore.Event{Type: "x", Raw: []byte(`{}`), ContentType: "application/json"})
			require.NoError(t, err)
		})
	}
}

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func afterScheme(url string) string {
	_, rest, _ := strings.Cut(url, ":")
	return rest
}

// server starts a server that speaks the protocol of EventStoreDB.
func server(t *testing.T) string {
	store := memstore.Open(nil)
	s, err := esdbdev.New(store, nil)
	require.NoError(t, err)
	require.NoError(t, s.Start("127.0.0.1:0"))
	t.Cleanup(func() { _ = s.Close(); _ = store.Close() })
	return s.URL()
}

func TestAnErrorShowsNoPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://ann:s3cr3t@127.0.0.1:1/db", "postgres://ann:s3cr3t@127.0.0.1:no/db", "postgres://127.0.0.1:1/db?password=s3cr3t", "postgres://ann:s3%cr3t@h/db",
		"nats://ann:s3cr3t@127.0.0.1:1", "nats://ann:s3cr3t@127.0.0.1:no",
		"esdb://ann:s3cr3t@127.0.0.1:1", "esdb://ann:s3cr3t@127.0.0.1:no", "kurrentdb://ann:s3cr3t@127.0.0.1:1?tls=nonsense",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := storeurl.Open(ctx, url, nil)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "cr3t")
		})
	}
}

func TestAURLThatNamesNoStoreSaysWhatWouldDo(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "memory", "memory:x", "sqlite:", "sqlite://", "mysql://x", "events.db", "postgres:", "postgres://", "postgres:x", "esdb://", "nats:x", "nats+embedded:"} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			_, err := storeurl.Open(t.Context(), url, nil)
			require.ErrorIs(t, err, storeurl.ErrURL)
			require.ErrorIs(t, storeurl.Check(url), storeurl.ErrURL)
			require.Contains(t, err.Error(), ":", "it names a form")
		})
	}
}

func TestAStoreThatCannotBeOpenedIsTheEnginesError(t *testing.T) {
	t.Parallel()
	_, err := storeurl.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "no", "such", "dir.db"), nil)
	require.Error(t, err)
	require.NotErrorIs(t, err, storeurl.ErrURL)
}

func TestDescribeShowsNoPassword(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"memory:":          "memory:",
		"sqlite:events.db": "sqlite:events.db",
		"postgres://ann:hush@db/levada?sslmode=enable": "postgres://ann:***@db/levada?sslmode=enable",
		"postgres://db/levada?user=ann&password=hush":  "postgres://db/levada?user=ann&password=***",
		"postgres://db/levada?PassWord=hush&a=b":       "postgres://db/levada?PassWord=***&a=b",
		"postgres://db/levada?pass%77ord=hush":         "postgres://db/levada?pass%77ord=***",
		"esdb://ann:hu@sh@a:2113,b:2113?tls=false":     "esdb://ann:***@a:2113,b:2113?tls=false",
		"esdb+discover://ann@a":                        "esdb+discover://ann@a",
		"nats://ann:hush@a,nats://bob:hush@b":          "nats://ann:***@a,nats://bob:***@b",
		"nats://ann:hush@a:4222/x?y=z":                 "nats://ann:***@a:4222/x?y=z",
		"nats+embedded:data":                           "nats+embedded:data",
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, storeurl.Describe(url))
		})
	}
}

func FuzzDescribeNeverShowsAPassword(f *testing.F) {
	f.Add("postgres", "ann", "db/levada?x=y")
	f.Add("nats", "", "a,nats://b")
	f.Fuzz(func(t *testing.T, scheme, user, rest string) {
		const hidden = "s3cr3t-w0rd"
		if strings.Contains(scheme, ":") || strings.ContainsAny(user, ":/?#@") || strings.Contains(scheme+user+rest, hidden) {
			t.Skip()
		}
		require.NotContains(t, storeurl.Describe(scheme+"://"+user+":"+hidden+"@"+rest), hidden)
	})
}
