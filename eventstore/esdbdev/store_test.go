package esdbdev_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/memstore"
	"github.com/levada-go/levada/eventstore/natsstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

func TestItServesEveryStore(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) (*eventstore.Store, error){
		"memory": func(*testing.T) (*eventstore.Store, error) { return memstore.Open(nil), nil },
		"sqlite": func(t *testing.T) (*eventstore.Store, error) {
			return sqlitestore.Open(filepath.Join(t.TempDir(), "events.db"), nil)
		},
		"postgres": func(t *testing.T) (*eventstore.Store, error) {
			return pgstore.OpenURL(t.Context(), postgrestest.URL(t), nil)
		},
		"nats": func(t *testing.T) (*eventstore.Store, error) {
			return natsstore.OpenEmbedded(t.Context(), filepath.Join(t.TempDir(), "nats"), nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := open(t)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, store.Close()) })
			s := serve(t, store, nil)
			f := &fixture{connect(t, s.URL()), s, store}

			sub, err := f.SubscribeToAll(t.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: esdb.ExcludeSystemEventsFilter(), MaxSearchWindow: 1000, CheckpointInterval: 1})
			require.NoError(t, err)
			defer sub.Close()
			says(t, sub, "caught up")
			list := events("a", "b")
			r := f.must(t, "s-1", esdb.NoStream{}, list...)
			require.Equal(t, r, f.must(t, "s-1", esdb.NoStream{}, list...))
			f.must(t, "$x\n", esdb.Any{}, event("x"))
			f.must(t, "s-1", exactly(1), event("c"))
			_, err = f.AppendToStream(t.Context(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: exactly(1)}, event("d"))
			require.Equal(t, esdb.ErrorCodeWrongExpectedVersion, code(err))
			says(t, sub, "a", "b", "x", "c")
			require.Equal(t, "a b c", types(f.read(t, "s-1")))
			require.Equal(t, "a b x c", types(f.readAll(t)))

			f.createGroup(t, "s-1", "g", esdb.Start{}, settings(nil))
			consumer := f.join(t, "s-1", "g", 1)
			gives(t, consumer, "a")
			require.NoError(t, consumer.Nack("later", esdb.NackActionPark, next(t, consumer).Event))
			gives(t, consumer, "c")
			f.parked(t, "s-1", "g", 1)
			require.NoError(t, f.ReplayParkedMessages(t.Context(), "s-1", "g", esdb.ReplayParkedMessagesOptions{}))
			gives(t, consumer, "b")

			_, err = f.DeleteStream(t.Context(), "s-1", esdb.DeleteStreamOptions{ExpectedRevision: exactly(2)})
			require.NoError(t, err)
			require.EqualValues(t, 3, f.must(t, "s-1", esdb.NoStream{}, event("d")).NextExpectedVersion)
			require.Equal(t, "d", types(f.read(t, "s-1")))
			_, err = f.TombstoneStream(t.Context(), "s-1", esdb.TombstoneStreamOptions{ExpectedRevision: exactly(3)})
			require.NoError(t, err)
			_, err = collect(f.ReadStream(t.Context(), "s-1", esdb.ReadStreamOptions{}, 1))
			require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
		})
	}
}

type deposited struct {
	Amount int `json:"amount"`
}

func TestClientsAndProgramsThatUseTheStoreShareTheirEvents(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	require.NoError(t, f.store.Types.Register("deposited", deposited{}))
	_, err := f.store.Append(t.Context(), "account-1", eventstore.NoStream,
		eventstore.Event{Data: deposited{5}, Metadata: map[string]string{"by": "ann"}, Correlation: eventstore.NewID()})
	require.NoError(t, err)
	got := f.read(t, "account-1")[0].Event
	require.Equal(t, "deposited", got.EventType)
	require.Equal(t, "application/json", got.ContentType)
	require.JSONEq(t, `{"amount":5}`, string(got.Data))
	require.Contains(t, string(got.UserMetadata), `"by":"ann"`)
	require.Contains(t, string(got.UserMetadata), `"$correlationId":"`)

	sub, err := eventstore.SubscribeTo[deposited](t.Context(), f.store, eventstore.Filter{}, eventstore.After(1))
	require.NoError(t, err)
	defer sub.Close()
	e := event("deposited")
	e.Data = []byte(`{"amount":7}`)
	f.must(t, "account-1", exactly(0), e)
	select {
	case b := <-sub.C:
		require.Equal(t, []deposited{{7}}, b.Events)
	case <-within(t).Done():
		t.Fatal("the program hears nothing")
	}
	var m esdb.StreamMetadata
	m.SetMaxCount(1)
	_, err = f.SetStreamMetadata(t.Context(), "account-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, m)
	require.NoError(t, err)
	for r, err := range f.store.ReadAll(t.Context(), eventstore.Filter{}, 0) {
		require.NoError(t, err)
		require.Equal(t, eventstore.StreamName("account-1"), r.Stream, "metadata is out of a program's way")
		if r.Version == 2 {
			require.Equal(t, "test", r.Metadata["by"])
			require.Equal(t, e.EventID, r.ID)
		}
	}

	// What the store keeps for itself no client sees.
	require.NoError(t, f.store.SaveSnapshot(t.Context(), "account-1", eventstore.Snapshot{Version: 2, Data: []byte(`{}`)}))
	for _, e := range f.readAll(t) {
		require.NotContains(t, e.Event.StreamID, "snapshot")
	}

	// And what a program deletes is deleted for clients.
	require.NoError(t, f.store.Delete(t.Context(), "account-1", eventstore.Exactly(2)))
	_, err = collect(f.ReadStream(t.Context(), "account-1", esdb.ReadStreamOptions{}, 1))
	require.Equal(t, esdb.ErrorCodeResourceNotFound, code(err))
	require.EqualValues(t, 2, f.must(t, "account-1", esdb.NoStream{}, event("deposited")).NextExpectedVersion)
	require.NoError(t, f.store.Purge(t.Context(), "account-1"))
	_, err = collect(f.ReadStream(t.Context(), "account-1", esdb.ReadStreamOptions{}, 1))
	require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
	_, err = f.AppendToStream(t.Context(), "account-1", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}}, event("x"))
	require.Equal(t, esdb.ErrorCodeStreamDeleted, code(err))
}

func TestManyWritersOfOneStreamHaveOneWinnerEach(t *testing.T) {
	t.Parallel()
	f := start(t, nil)
	const writers, wins = 8, 10
	done := make(chan int)
	for range writers {
		go func() {
			revision, won := -1, 0
			for won < wins {
				var x esdb.ExpectedRevision = esdb.NoStream{}
				if revision >= 0 {
					x = exactly(uint64(revision))
				}
				r, err := f.AppendToStream(context.Background(), "s-1", esdb.AppendToStreamOptions{ExpectedRevision: x}, event("a"))
				if err == nil {
					revision, won = int(r.NextExpectedVersion), won+1
					continue
				}
				if code(err) != esdb.ErrorCodeWrongExpectedVersion {
					break
				}
				list, err := collect(f.ReadStream(context.Background(), "s-1", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1))
				if err != nil {
					break
				}
				revision = int(list[0].Event.EventNumber)
			}
			done <- won
		}()
	}
	for range writers {
		require.Equal(t, wins, <-done)
	}
	list := f.read(t, "s-1")
	require.Len(t, list, writers*wins)
	for i, e := range list {
		require.EqualValues(t, i, e.Event.EventNumber)
	}
}
