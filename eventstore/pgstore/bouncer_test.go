package pgstore

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/eventstore/drivertest"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/projection"
)

// Behind PgBouncer in transaction mode a connection is another one in every transaction, so
// that nothing may rest on what was said to one before: LISTEN, SET, prepared statements, locks of a session.

// poolBehind returns a pool whose connections go through PgBouncer. They do not ask it to cancel anything, as
// pgx does before it closes a connection that is at work: versions 1.18 to 1.20 may end then
// (https://github.com/pgbouncer/pgbouncer/issues/822).
func poolBehind(t testing.TB, b *postgrestest.Bouncer, address string, conns int) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(b.Through(address))
	require.NoError(t, err)
	config.MaxConns = int32(conns)
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &mild{Conn: c}, err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// mild is a connection over which nothing is canceled.
type mild struct{ net.Conn }

func (c *mild) Write(b []byte) (int, error) {
	if len(b) >= 16 && bytes.Equal(b[4:8], []byte{0x04, 0xd2, 0x16, 0x2e}) { // CancelRequest
		return len(b), c.Close()
	}
	return c.Conn.Write(b)
}

func TestTheWholeSuitePassesBehindPgBouncer(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("TestConformance runs the same code; it is PostgreSQL that sees a difference")
	}
	server := postgrestest.Start(t)
	bouncer := postgrestest.StartBouncer(t, server, "default_pool_size = 10")
	b := &bench{pool: poolBehind(t, bouncer, server.URL(t), 24)}
	drivertest.Run(t, drivertest.Harness{
		Open: func(t testing.TB) driver.Store {
			if strings.Contains(t.Name(), "/Model") && os.Getenv("LEVADA_SOAK") != "1" {
				t.Skip("too long: the rest has all statements; LEVADA_SOAK=1 runs it")
			}
			return b.open(t, Options{})
		},
		Reopen: func(t testing.TB, d driver.Store) driver.Store {
			require.NoError(t, d.Close())
			return b.openAt(t, d.(*store).opt)
		},
	})
}

func TestProjectionsWorkBehindPgBouncer(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	bouncer := postgrestest.StartBouncer(t, server, "default_pool_size = 6")
	address := server.URL(t)
	s := openStore(t, poolBehind(t, bouncer, address, 16))
	other := openStore(t, poolBehind(t, bouncer, address, 16))
	g := &projection.Group{Store: s, Logger: discard}
	var models []*shelf
	for _, inline := range []bool{false, true} {
		m, err := Target(t.Context(), s, Model{In: fmt.Sprint("inline ", inline), Tables: []string{"rows"}, Schema: rowsSchema})
		require.NoError(t, err)
		models = append(models, &shelf{ReadModel: m, bad: map[int]bool{}})
		p := models[len(models)-1].projection()
		p.Name, p.Inline = fmt.Sprint("inline-", inline), inline
		require.NoError(t, g.Add(p))
	}
	startGroup(t, g)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for n := range 20 {
				_, err := []*eventstore.Store{s, other}[w%2].Append(t.Context(), eventstore.Stream("shelf", fmt.Sprint(w)), eventstore.Any,
					eventstore.Event{Data: Put{"k", 1000*w + n}})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	waitFor(t, g, put(t, s, "last", -1))
	var want []int
	for r, err := range s.ReadAll(t.Context(), eventstore.Filter{Types: []string{"put"}}, 0) {
		require.NoError(t, err)
		want = append(want, r.Data.(Put).N)
	}
	require.Len(t, want, 161)
	for _, m := range models {
		require.Equal(t, want, m.list(t))
	}
	keys, err := OpenKeys(t.Context(), poolBehind(t, bouncer, address, 4), "")
	require.NoError(t, err)
	_, err = keys.Make(t.Context(), "ann")
	require.NoError(t, err)
	require.NoError(t, keys.Shred(t.Context(), "ann"))
	_, err = keys.Make(t.Context(), "ann")
	require.ErrorIs(t, err, eventstore.ErrErased)
}

func TestBehindPgBouncerAStoreDoesWithoutNotifications(t *testing.T) {
	t.Parallel()
	server := postgrestest.Start(t)
	bouncer := postgrestest.StartBouncer(t, server)
	pool := poolBehind(t, bouncer, server.URL(t), 8)
	open := func() *store {
		s, err := open(t.Context(), pool, &Options{Store: eventstore.Options{Logger: discard}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s
	}
	a, b := open(), open()
	at := uint64(0)
	until := time.Now().Add(2 * probeTimeout) // through the probe and beyond
	for n := 0; time.Now().Before(until) || n < 5; n++ {
		r := a.Append(t.Context(), one(fmt.Sprint("s-", n), driver.NoStream))
		require.NoError(t, r.Err)
		for seen := false; !seen; {
			require.NoError(t, b.Wait(t.Context(), at))
			head, err := b.Head(t.Context())
			require.NoError(t, err)
			seen = head >= r.Last
		}
		at = r.Last
		if n > 3 {
			time.Sleep(50 * time.Millisecond)
		}
	}
	b.watch.mu.Lock()
	defer b.watch.mu.Unlock()
	require.False(t, b.watch.hears, "nothing can be heard through it")
}
