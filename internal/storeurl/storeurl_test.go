package storeurl_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/internal/storeurl"
	"github.com/stretchr/testify/require"
)

func TestOpenGivesAStoreThatTakesEvents(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{
		"memory": "memory:",
		"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "events.db"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := storeurl.Open(t.Context(), url, nil)
			require.NoError(t, err)
			defer store.Close()
			_, err = store.Append(t.Context(), "a-1", eventstore.NoStream, eventstore.Event{Type: "x", Raw: []byte(`{}`), ContentType: "application/json"})
			require.NoError(t, err)
		})
	}
}

func TestAURLThatNamesNoStoreSaysWhatWouldDo(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "memory", "memory:x", "sqlite:", "sqlite://", "mysql://x", "events.db"} {
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
