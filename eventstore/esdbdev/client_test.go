package esdbdev_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/esdbdev"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/internal/freeport"
	"github.com/stretchr/testify/require"
)

// A fixture is a server of a store in memory and the official Go client.
type fixture struct {
	*esdb.Client
	server *esdbdev.Server
	store  *eventstore.Store
}

// serve starts a server that ends with the test.
func serve(t testing.TB, store *eventstore.Store, opt *esdbdev.Options) *esdbdev.Server {
	t.Helper()
	s, err := esdbdev.New(store, opt)
	require.NoError(t, err)
	require.NoError(t, freeport.Start(s.Start))
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// connect connects the official client. Its Close may panic while calls fail, so it
// is closed when the test, and all its calls, have ended and the server still runs.
func connect(t testing.TB, url string) *esdb.Client {
	t.Helper()
	cfg, err := esdb.ParseConnectionString(url)
	require.NoError(t, err)
	cfg.Logger = esdb.NoopLogging()
	c, err := esdb.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func start(t testing.TB, opt *esdbdev.Options) *fixture {
	t.Helper()
	store := memstore.Open(nil)
	t.Cleanup(func() { store.Close() })
	s := serve(t, store, opt)
	return &fixture{connect(t, s.URL()), s, store}
}

func event(typ string) esdb.EventData {
	return esdb.EventData{EventID: uuid.New(), EventType: typ, ContentType: esdb.ContentTypeJson,
		Data: []byte(`{"type":"` + typ + `"}`), Metadata: []byte(`{"by":"test"}`)}
}

func events(types ...string) (list []esdb.EventData) {
	for _, t := range types {
		list = append(list, event(t))
	}
	return list
}

// must appends and returns what the server answered.
func (f *fixture) must(t testing.TB, stream string, x esdb.ExpectedRevision, list ...esdb.EventData) *esdb.WriteResult {
	t.Helper()
	r, err := f.AppendToStream(t.Context(), stream, esdb.AppendToStreamOptions{ExpectedRevision: x}, list...)
	require.NoError(t, err)
	return r
}

// collect reads to the end of what a read gives.
func collect(s *esdb.ReadStream, err error) ([]*esdb.ResolvedEvent, error) {
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out []*esdb.ResolvedEvent
	for {
		e, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
}

func (f *fixture) read(t testing.TB, stream string) []*esdb.ResolvedEvent {
	t.Helper()
	list, err := collect(f.ReadStream(t.Context(), stream, esdb.ReadStreamOptions{}, 10_000))
	require.NoError(t, err)
	return list
}

func (f *fixture) readAll(t testing.TB) []*esdb.ResolvedEvent {
	t.Helper()
	list, err := collect(f.ReadAll(t.Context(), esdb.ReadAllOptions{}, 10_000))
	require.NoError(t, err)
	return list
}

// types names the types of events, in one string.
func types(list []*esdb.ResolvedEvent) string {
	var names []string
	for _, e := range list {
		names = append(names, e.OriginalEvent().EventType)
	}
	return strings.Join(names, " ")
}

// code returns the client's code of an error, which is often wrapped.
func code(err error) esdb.ErrorCode {
	var e *esdb.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return -1
}

// within is a context for what must happen soon.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func exactly(n uint64) esdb.ExpectedRevision { return esdb.Revision(n) }
