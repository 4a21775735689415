package pgstore

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/internal/postgrestest"
)

func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m)) }

// A bench is a database for the tests below one test. They use its schemas one
// after another, since it takes longer to make one than most of them do.
type bench struct {
	pool *pgxpool.Pool

	mu   sync.Mutex
	free []string
	made int
}

// newBench returns one whose pool has at most conns connections.
func newBench(t testing.TB, conns int) *bench {
	t.Helper()
	return &bench{pool: newPool(t, postgrestest.URL(t), conns)}
}

// schema returns the name of an empty schema, or of one with an empty store.
func (b *bench) schema(t testing.TB) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		name := b.free[n-1]
		b.free = b.free[:n-1]
		return name
	}
	b.made++
	return fmt.Sprintf("Store %d's \"events\"", b.made)
}

// give takes a schema back, and empties its store.
func (b *bench) give(t testing.TB, schema string) {
	n, err := namesOf(schema)
	require.NoError(t, err)
	sql := `BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL levada.removing = @literal@; DELETE FROM @schema@.events; `
	for _, table := range []string{"streams", "tags", "event_tags", "snapshots", "checkpoints", "leases"} {
		sql += "DELETE FROM @schema@." + table + "; "
	}
	sql += "SELECT setval(@positions@, 0, true); COMMIT"
	c, err := b.pool.Acquire(context.Background())
	require.NoError(t, err)
	defer c.Release()
	_, err = c.Conn().PgConn().Exec(context.Background(), n.expand(sql)).ReadAll()
	require.NoError(t, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = append(b.free, schema)
}

// open opens an empty store and closes it with the test.
func (b *bench) open(t testing.TB, opt Options) *store {
	t.Helper()
	opt.Schema = b.schema(t)
	t.Cleanup(func() { b.give(t, opt.Schema) })
	return b.openAt(t, opt)
}

func (b *bench) openAt(t testing.TB, opt Options) *store {
	t.Helper()
	s, err := open(context.Background(), b.pool, &opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	b := newBench(t, 24)
	drivertest.Run(t, drivertest.Harness{
		Open: func(t testing.TB) driver.Store { return b.open(t, Options{}) },
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			require.NoError(t, d.Close())
			return b.openAt(t, d.(*store).opt)
		},
		Peer: func(t testing.TB, d driver.Store) driver.Store { return b.openAt(t, d.(*store).opt) },
	})
}

// one returns an append of an event.
func one(stream string, expected int64, tags ...string) driver.Append {
	return driver.Append{Stream: stream, Expected: expected, Events: []driver.Event{event("t", stream, tags...)}}
}

func event(typ, data string, tags ...string) driver.Event {
	e := driver.Event{Type: typ, ContentType: "text/plain", Data: []byte(data), Tags: tags}
	copy(e.ID[:], strings.Repeat(data, 16))
	return e
}
