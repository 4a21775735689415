package pgstore_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/internal/postgrestest"
)

// PostgreSQL commits transactions in another order than it numbers their rows, so that
// a reader who goes by the number can pass over one that appears later. These are ways
// to prevent that, and what each costs writers and readers. They are measured on
// schemas of their own, which hold no more than the question needs.
//
//	go test -run '^$' -bench 'Order' -count 3 ./eventstore/pgstore
//
// An order is how positions are given and read.
type order struct {
	schema string
	// write takes event numbers ($1) and their data ($2), in one statement.
	write string
	// read returns the events after a position, or after a transaction's position, that no other can precede any more.
	read func(ctx context.Context, c *pgxpool.Pool, after mark) (ids []int64, next mark, err error)
}

// A mark is what a reader goes on after.
type mark struct{ xid, position int64 }

// Each page of a reader holds at most so many events.
const page = 1000

// inFlight is the class of the advisory locks that writers hold: the upper half of their key.
const inFlight = 0x6c76

const table = `CREATE TABLE events(position bigint PRIMARY KEY, id bigint NOT NULL, data bytea NOT NULL);`

var orders = map[string]order{
	// What a sequence alone does: the ceiling, and wrong.
	"unsafe": {
		schema: table + `CREATE SEQUENCE positions;`,
		write:  `INSERT INTO events SELECT nextval('positions'), id, data FROM unnest($1::bigint[], $2::bytea[]) AS e(id, data)`,
		read:   readPositions,
	},
	// The row of a counter is locked from numbering to commit: writers queue, and nothing is ever out of order.
	"counter": {
		schema: table + `CREATE TABLE counter(n bigint NOT NULL); INSERT INTO counter VALUES(0);`,
		write: `WITH c AS (UPDATE counter SET n = n + cardinality($1::bigint[]) RETURNING n - cardinality($1::bigint[]) AS base)
			INSERT INTO events SELECT c.base + e.n, e.id, e.data FROM c, unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS e(id, data, n)`,
		read: readPositions,
	},
	// A writer first holds a shared advisory lock whose key is a position below all that it will be given. A
	// reader asks for the last position given, then for the least of these keys, then for events: whatever is
	// numbered but neither committed nor registered by then was numbered after the first question.
	"locks": {
		schema: table + fmt.Sprintf(`CREATE SEQUENCE positions;
			CREATE FUNCTION append(ids bigint[], datas bytea[]) RETURNS void LANGUAGE plpgsql AS $$
			BEGIN
				PERFORM pg_advisory_xact_lock_shared((%d::bigint << 32) | CASE WHEN is_called THEN last_value ELSE 0 END) FROM positions;
				INSERT INTO events SELECT nextval('positions'), id, data FROM unnest(ids, datas) AS e(id, data);
			END $$;`, inFlight),
		write: `SELECT append($1::bigint[], $2::bytea[])`,
		read:  readBelowLocks,
	},
	// Rows carry their transaction; a reader takes those of transactions older than any that runs, in that order.
	// A position is two numbers then, and a transaction of anybody in the whole cluster holds readers up.
	"xid": {
		schema: `CREATE SEQUENCE positions;
			CREATE TABLE events(xid xid8 NOT NULL, position bigint NOT NULL, id bigint NOT NULL, data bytea NOT NULL, PRIMARY KEY (xid, position));`,
		write: `INSERT INTO events SELECT pg_current_xact_id(), nextval('positions'), id, data FROM unnest($1::bigint[], $2::bytea[]) AS e(id, data)`,
		read:  readBelowXmin,
	},
}

func readPositions(ctx context.Context, c *pgxpool.Pool, after mark) (ids []int64, next mark, err error) {
	rows, err := c.Query(ctx, `SELECT position, id FROM events WHERE position > $1 ORDER BY position LIMIT $2`, after.position, page)
	if err != nil {
		return nil, after, err
	}
	next = after
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&next.position, &id}, func() error {
		ids = append(ids, id)
		return nil
	})
	return ids, next, err
}

func readBelowLocks(ctx context.Context, c *pgxpool.Pool, after mark) (ids []int64, next mark, err error) {
	var bound int64
	b := &pgx.Batch{} // one round trip, but each statement sees what was committed before it
	b.Queue(`SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM positions`).QueryRow(func(row pgx.Row) error { return row.Scan(&bound) })
	b.Queue(`SELECT min(objid::bigint) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND objsubid = 1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, inFlight).QueryRow(func(row pgx.Row) error {
		var least *int64
		if err := row.Scan(&least); err == nil && least != nil {
			bound = min(bound, *least)
		}
		return nil
	})
	next = after
	b.Queue(`SELECT position, id FROM events WHERE position > $1 ORDER BY position LIMIT $2`, after.position, page).Query(func(rows pgx.Rows) error {
		var position, id int64
		_, err := pgx.ForEachRow(rows, []any{&position, &id}, func() error {
			if position <= bound {
				ids, next.position = append(ids, id), position
			}
			return nil
		})
		return err
	})
	err = c.SendBatch(ctx, b).Close()
	return ids, next, err
}

func readBelowXmin(ctx context.Context, c *pgxpool.Pool, after mark) (ids []int64, next mark, err error) {
	rows, err := c.Query(ctx, `SELECT xid::text::bigint, position, id FROM events
		WHERE (xid, position) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
		ORDER BY xid, position LIMIT $3`, fmt.Sprint(after.xid), after.position, page)
	if err != nil {
		return nil, after, err
	}
	next = after
	var id int64
	_, err = pgx.ForEachRow(rows, []any{&next.xid, &next.position, &id}, func() error {
		ids = append(ids, id)
		return nil
	})
	return ids, next, err
}

// A way is how appends become transactions.
type way struct {
	nodes    int // with queues of their own; 0 is a transaction for each append
	inFlight int // transactions of a node at once
}

var ways = map[string]way{
	"each":          {},
	"group":         {1, 1},
	"group4":        {1, 4},
	"twonodes":      {2, 1},
	"twonodes4each": {2, 4},
}

// clock takes times of events: when an append was called, and how long it and its way to the reader took.
type clock struct {
	start         time.Time
	called        []time.Duration
	acked, passed []time.Duration
}

func newClock(n int) *clock {
	return &clock{time.Now(), make([]time.Duration, n), make([]time.Duration, n), make([]time.Duration, n)}
}

func percentile(d []time.Duration, p int) float64 {
	slices.Sort(d)
	return float64(d[len(d)*p/100].Microseconds()) / 1000
}

func BenchmarkOrder(b *testing.B) {
	server := postgrestest.Start(b)
	for _, writers := range []int{1, 16, 256} {
		for _, how := range []string{"each", "group", "group4", "twonodes", "twonodes4each"} {
			if writers == 1 && how != "each" && how != "group" {
				continue
			}
			for _, name := range []string{"unsafe", "counter", "locks", "xid"} {
				b.Run(fmt.Sprintf("writers=%d/%s/%s", writers, how, name), func(b *testing.B) {
					benchmarkOrder(b, server, orders[name], ways[how], writers, name != "unsafe")
				})
			}
		}
	}
}

// pools opens one for writers and one for the reader.
func pools(b *testing.B, server *postgrestest.Server, schema string, conns int) (w, r *pgxpool.Pool) {
	address := server.URL(b)
	open := func(n int) *pgxpool.Pool {
		conf, err := pgxpool.ParseConfig(address)
		require.NoError(b, err)
		conf.MaxConns = int32(n)
		pool, err := pgxpool.NewWithConfig(b.Context(), conf)
		require.NoError(b, err)
		b.Cleanup(pool.Close)
		return pool
	}
	w, r = open(conns), open(2)
	_, err := w.Exec(b.Context(), schema)
	require.NoError(b, err)
	// Connections are there before time is taken.
	var held []*pgxpool.Conn
	for range conns {
		c, err := w.Acquire(b.Context())
		require.NoError(b, err)
		held = append(held, c)
	}
	for _, c := range held {
		c.Release()
	}
	return w, r
}

func benchmarkOrder(b *testing.B, server *postgrestest.Server, o order, how way, writers int, safe bool) {
	conns := writers
	if how.nodes > 0 {
		conns = how.nodes * how.inFlight
	}
	pool, reader := pools(b, server, o.schema, conns)
	ctx, t := b.Context(), newClock(b.N)
	data := make([]byte, 200)
	write := func(ids []int64) {
		datas := make([][]byte, len(ids))
		for i := range datas {
			datas[i] = data
		}
		if _, err := pool.Exec(ctx, o.write, ids, datas); err != nil {
			b.Error(err)
		}
	}
	appends := make([]func(id int64), max(1, how.nodes))
	var nodes sync.WaitGroup
	var stops []func()
	for i := range appends {
		if how.nodes == 0 {
			appends[i] = func(id int64) { write([]int64{id}) }
			continue
		}
		add, stop := committer(&nodes, how.inFlight, write)
		appends[i], stops = add, append(stops, stop)
	}
	defer func() {
		for _, stop := range stops {
			stop()
		}
		nodes.Wait()
	}()

	stopReader := make(chan struct{})
	read := make(chan int)
	go func() {
		seen, after := 0, mark{}
		defer func() { read <- seen }()
		last := false
		for seen < b.N {
			ids, next, err := o.read(ctx, reader, after)
			if err != nil {
				b.Error(err)
				return
			}
			now := time.Since(t.start)
			for _, id := range ids {
				t.passed[id] = now - t.called[id]
			}
			seen += len(ids)
			after = next
			if len(ids) > 0 {
				continue
			}
			if last && !safe {
				return // what is missing now will be missing for ever
			}
			select {
			case <-stopReader:
				last = true
			case <-time.After(time.Millisecond):
			}
		}
	}()

	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	began := time.Now()
	t.start = began
	for w := range writers {
		wg.Go(func() {
			for {
				id := next.Add(1) - 1
				if id >= int64(b.N) {
					return
				}
				t.called[id] = time.Since(t.start)
				appends[w%len(appends)](id)
				t.acked[id] = time.Since(t.start) - t.called[id]
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	b.StopTimer()
	close(stopReader)
	seen := <-read
	if safe {
		require.Equal(b, b.N, seen, "the reader sees all")
	} else {
		b.ReportMetric(float64(b.N-seen), "lost")
	}
	b.ReportMetric(float64(b.N)/took.Seconds(), "events/s")
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(percentile(t.acked, 50), "append-p50-ms")
	b.ReportMetric(percentile(t.acked, 99), "append-p99-ms")
	b.ReportMetric(percentile(t.passed, 50), "read-p50-ms")
	b.ReportMetric(percentile(t.passed, 99), "read-p99-ms")
}

// committer writes whatever has queued up, in transactions of which so many are under way at once.
func committer(wg *sync.WaitGroup, inFlight int, write func(ids []int64)) (add func(id int64), stop func()) {
	type waiting struct {
		id   int64
		done chan struct{}
	}
	queue := make(chan waiting, 4096)
	for range inFlight {
		wg.Go(func() {
			for first := range queue {
				batch := []waiting{first}
				for more := true; more && len(batch) < cap(queue); {
					select {
					case w, ok := <-queue:
						if more = ok; ok {
							batch = append(batch, w)
						}
					default:
						more = false
					}
				}
				ids := make([]int64, len(batch))
				for i, w := range batch {
					ids[i] = w.id
				}
				write(ids)
				for _, w := range batch {
					close(w.done)
				}
			}
		})
	}
	return func(id int64) {
		w := waiting{id, make(chan struct{})}
		queue <- w
		<-w.done
	}, func() { close(queue) }
}

// BenchmarkOrderPoll is what it costs to ask for more at the head of a log of 10,000 events while transactions
// of writers are under way.
func BenchmarkOrderPoll(b *testing.B) {
	server := postgrestest.Start(b)
	for _, open := range []int{0, 16, 256} {
		for _, name := range []string{"counter", "locks", "xid"} {
			o := orders[name]
			b.Run(fmt.Sprintf("inflight=%d/%s", open, name), func(b *testing.B) {
				w, r := pools(b, server, o.schema, 1+open)
				ctx, after := b.Context(), mark{}
				ids, datas := make([]int64, 10_000), make([][]byte, 10_000)
				for i := range datas {
					datas[i] = make([]byte, 200)
				}
				_, err := w.Exec(ctx, o.write, ids, datas)
				require.NoError(b, err)
				_, err = w.Exec(ctx, "VACUUM ANALYZE events")
				require.NoError(b, err)
				for n := 0; n < len(ids); {
					page, next, err := o.read(ctx, r, after)
					require.NoError(b, err)
					n, after = n+len(page), next
				}
				writing := open
				if name == "counter" {
					writing = min(open, 1) // the others wait for it, and have written nothing
				}
				var held []pgx.Tx
				for range writing {
					tx, err := w.Begin(ctx)
					require.NoError(b, err)
					_, err = tx.Exec(ctx, o.write, ids[:1], datas[:1])
					require.NoError(b, err)
					held = append(held, tx)
				}
				for b.Loop() {
					ids, _, err := o.read(ctx, r, after)
					if err != nil || len(ids) > 0 {
						b.Fatal(len(ids), err)
					}
				}
				for _, tx := range held {
					require.NoError(b, tx.Rollback(ctx))
				}
			})
		}
	}
}

// BenchmarkOrderForeign is how long a reader waits for an event while a transaction that has nothing to do with the
// log, in another database of the server, is open for a second.
func BenchmarkOrderForeign(b *testing.B) {
	server := postgrestest.Start(b)
	for _, name := range []string{"counter", "locks", "xid"} {
		o := orders[name]
		b.Run(name, func(b *testing.B) {
			w, r := pools(b, server, o.schema, 1)
			other, _ := pools(b, server, table, 1)
			ctx, after := b.Context(), mark{}
			var waited time.Duration
			for n := 0; b.Loop(); n++ {
				tx, err := other.Begin(ctx)
				require.NoError(b, err)
				_, err = tx.Exec(ctx, "INSERT INTO events VALUES($1, 0, '')", n)
				require.NoError(b, err)
				ended := make(chan error)
				time.AfterFunc(time.Second, func() { ended <- tx.Commit(context.WithoutCancel(ctx)) })
				_, err = w.Exec(ctx, o.write, []int64{int64(n)}, [][]byte{{1}})
				require.NoError(b, err)
				began := time.Now()
				for {
					ids, next, err := o.read(ctx, r, after)
					require.NoError(b, err)
					if after = next; len(ids) > 0 {
						break
					}
				}
				waited += time.Since(began)
				require.NoError(b, <-ended)
			}
			b.ReportMetric(waited.Seconds()*1000/float64(b.N), "wait-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}
