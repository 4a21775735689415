package pgstore

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/postgrestest"
)

// A tripConn counts round trips: how often something is sent after something was received.
type tripConn struct {
	net.Conn
	trips    *atomic.Int64
	received atomic.Bool
}

func (c *tripConn) Write(b []byte) (int, error) {
	if c.received.Swap(false) {
		c.trips.Add(1)
	}
	return c.Conn.Write(b)
}

func (c *tripConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.received.Store(true)
	}
	return n, err
}

func TestHowManyRoundTripsAnAppendTakes(t *testing.T) {
	t.Parallel()
	config, err := pgxpool.ParseConfig(postgrestest.URL(t))
	require.NoError(t, err)
	config.MaxConns = 1
	var trips atomic.Int64
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &tripConn{Conn: c, trips: &trips}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	s, err := open(t.Context(), pool, &Options{NoListen: true})
	require.NoError(t, err)
	ctx := t.Context()
	portable := eventstore.New(s, nil)
	defer portable.Close()
	m, err := Target(ctx, portable, Model{Tables: []string{"rows"}, Schema: rowsSchema})
	require.NoError(t, err)

	nothing := func(any, []driver.Recorded) error { return nil }
	model := func(tx any, events []driver.Recorded) error {
		return m.UpdateIn(ctx, tx, "p", func(pgx.Tx, eventstore.Position) (eventstore.Position, error) {
			return eventstore.Position(events[len(events)-1].Position), nil
		})
	}
	two := []driver.Append{one("a-1", driver.Any, "x"), one("b-1", driver.Any)}
	items := []driver.QueryItem{{Tags: []string{"never"}}}
	events := []driver.StreamEvent{{Stream: "a-1", Event: event("t", "1")}, {Stream: "b-1", Event: event("t", "2")}}
	with := func(as []driver.Append, fn func(any, []driver.Recorded) error) func() error {
		return func() error {
			for _, r := range s.AppendWith(ctx, as, fn) {
				if r.Err != nil {
					return r.Err
				}
			}
			return nil
		}
	}
	several := func(fn func(any, []driver.Recorded) error) func() error {
		return func() error {
			_, err := s.AppendAtomic(ctx, two, fn)
			return err
		}
	}
	condition := func(fn func(any, []driver.Recorded) error) func() error {
		return func() error { return s.AppendIf(ctx, items, 0, events, fn).Err }
	}
	for _, c := range []struct {
		name string
		want int64
		do   func() error
	}{
		{"an append", 1, func() error { return s.Append(ctx, two[0]).Err }},
		{"a batch", 1, func() error { return s.AppendBatch(ctx, two)[1].Err }},
		{"several streams", 1, several(nil)},
		{"a condition", 1, condition(nil)},
		// The transaction begins and ends.
		{"an append with a func", 3, with(two[:1], nothing)},
		{"a batch with a func", 4, with(two, nothing)},
		{"several streams with a func", 3, several(nothing)},
		{"a condition with a func", 3, condition(nothing)},
		// One before the handler and one after it.
		{"an append with a model", 5, with(two[:1], model)},
		{"several streams with a model", 5, several(model)},
		{"a condition with a model", 5, condition(model)},
	} {
		require.NoError(t, c.do(), c.name) // statements of the model are prepared
		before := trips.Load()
		require.NoError(t, c.do(), c.name)
		require.Equal(t, c.want, trips.Load()-before, c.name)
	}
}
