package pgstore

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/driver"
	"github.com/levada-go/levada/internal/postgrestest"
)

// names of schemas that are easily got wrong in SQL.
var oddSchemas = []string{"levada", "Upper", `a"b`, "it's", `back\slash`, "$fn$", "a$fn$b$fn_$", "with space", "schöne äöü", "a.b", "select", "%s", "@schema@ @literal@", strings.Repeat("x", 63)}

func TestAnySchemaNameWorks(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	for _, schema := range oddSchemas {
		s := b.openAt(t, Options{Schema: schema, NoListen: true})
		ctx := t.Context()
		require.NoError(t, s.Append(ctx, one("s-1", driver.NoStream, "x")).Err)
		require.NoError(t, s.AppendIf(ctx, []driver.QueryItem{{Tags: []string{"y"}}}, 0, []driver.StreamEvent{{Stream: "s-2", Event: event("t", "e", "y")}}, nil).Err)
		require.NoError(t, s.Truncate(ctx, "s-1", 2))
		agree(t, s, 2)
		require.NoError(t, b.openAt(t, Options{Schema: schema, CheckOnly: true, NoListen: true}).Close())
		_, err := b.pool.Exec(ctx, s.sql.expand("DELETE FROM @schema@.events"))
		require.ErrorContains(t, err, "never changed")
	}
	for _, schema := range []string{strings.Repeat("x", 64), "nul\x00", "pg_mine"} {
		_, err := Open(t.Context(), b.pool, &Options{Schema: schema})
		require.Error(t, err, "%q", schema)
		require.Error(t, Migrate(t.Context(), b.pool, schema))
	}
	_, err := Migrations("nul\x00")
	require.Error(t, err)
}

func TestOfManyWhoMigrateAtOnceOneDoesIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 16)
	ctx := t.Context()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			s, err := open(ctx, b.pool, &Options{NoListen: true})
			if err != nil {
				t.Error(err)
				return
			}
			if r := s.Append(ctx, one("s-1", driver.Any)); r.Err != nil {
				t.Error(r.Err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	var n int
	require.NoError(t, b.pool.QueryRow(ctx, "SELECT count(*) FROM levada.migrations").Scan(&n))
	require.Equal(t, len(scripts), n)
	require.NoError(t, Migrate(ctx, b.pool, ""), "again")
	s := b.openAt(t, Options{NoListen: true})
	agree(t, s, 8)
}

// catalogue describes all that there is in a schema.
func catalogue(t *testing.T, pool *pgxpool.Pool, schema string) (list []string) {
	rows, err := pool.Query(t.Context(), `
		SELECT 'column ' || table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || coalesce(column_default, '') FROM information_schema.columns WHERE table_schema = $1
		UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = $1
		UNION ALL SELECT 'function ' || pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1
		UNION ALL SELECT 'trigger ' || pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1
		UNION ALL SELECT 'sequence ' || sequencename || ' ' || coalesce(last_value, 0) || ' ' || cache_size FROM pg_sequences WHERE schemaname = $1
		UNION ALL SELECT 'migration ' || version FROM `+pgx.Identifier{schema}.Sanitize()+`.migrations
		ORDER BY 1`, schema)
	require.NoError(t, err)
	list, err = pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for i := range list {
		list[i] = strings.ReplaceAll(list[i], schema, "SCHEMA")
	}
	return list
}

func TestMigrationsAreWhatMigrateDoes(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	ctx := t.Context()
	sql, err := Migrations("printed")
	require.NoError(t, err)
	require.NoError(t, inTx(ctx, b.pool, func(tx pgx.Tx) error { return script(ctx, tx, sql) }))
	require.NoError(t, Migrate(ctx, b.pool, "migrated"))
	want := catalogue(t, b.pool, "migrated")
	require.Greater(t, len(want), 50)
	require.Equal(t, want, catalogue(t, b.pool, "printed"))
	s := b.openAt(t, Options{Schema: "printed", CheckOnly: true})
	require.NoError(t, s.Append(ctx, one("s-1", driver.NoStream)).Err)
}

func TestASchemaThatIsNotOursIsNotTouched(t *testing.T) {
	t.Parallel()
	b := newBench(t, 8)
	ctx := t.Context()
	require.NoError(t, Migrate(ctx, b.pool, "newer"))
	require.NoError(t, Migrate(ctx, b.pool, "older"))
	_, err := b.pool.Exec(ctx, `INSERT INTO newer.migrations (version) VALUES (99); DELETE FROM older.migrations;
		CREATE SCHEMA nothing; CREATE SCHEMA foreign_; CREATE TABLE foreign_.events (id int); CREATE TABLE foreign_.migrations (version text)`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	for _, c := range []struct {
		schema    string
		checkOnly bool
		want      error
	}{
		{"newer", false, ErrNewerSchema},
		{"newer", true, ErrNewerSchema},
		{"older", true, ErrOlderSchema},
		{"nothing", true, ErrNotStore},
		{"not_there", true, ErrNotStore},
		{"foreign_", true, ErrNotStore},
		{"foreign_", false, ErrNotStore},
	} {
		before := []string(nil)
		if c.schema == "newer" || c.schema == "older" {
			before = catalogue(t, b.pool, c.schema)
		}
		_, err := Open(ctx, b.pool, &Options{Schema: c.schema, CheckOnly: c.checkOnly})
		require.ErrorIs(t, err, c.want, "%+v", c)
		if !c.checkOnly {
			require.ErrorIs(t, Migrate(ctx, b.pool, c.schema), c.want, "%+v", c)
		}
		if before != nil {
			require.Equal(t, before, catalogue(t, b.pool, c.schema))
		}
	}
	var n int
	require.NoError(t, b.pool.QueryRow(ctx, "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname IN ('nothing', 'not_there', 'foreign_')").Scan(&n))
	require.Equal(t, 2, n)
}

func TestAnUnsuitableConnectionIsRefused(t *testing.T) {
	t.Parallel()
	base := postgrestest.URL(t)
	with := func(setting string) string {
		if strings.Contains(base, "?") {
			return base + "&" + setting
		}
		return base + "?" + setting
	}
	_, err := OpenURL(t.Context(), with("default_transaction_isolation=serializable"), nil)
	require.ErrorIs(t, err, ErrUnsuitable)
	require.ErrorContains(t, err, "default_transaction_isolation")

	store, err := OpenURL(t.Context(), base, nil)
	require.NoError(t, err)
	var at Place
	require.True(t, store.As(&at))
	require.Equal(t, DefaultSchema, at.Schema)
	var pool *pgxpool.Pool
	require.True(t, store.As(&pool))
	require.Same(t, at.Pool, pool)
	// Where somebody asks for it for one transaction, the schema refuses.
	for _, fn := range []string{"head(0)", "truncate('s-1', 1)", "delete('s-1', 0)", "purge('s-1')", "save_snapshot('s-1', 1, 1, '')"} {
		tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "SELECT levada."+fn)
		require.ErrorContains(t, err, "READ COMMITTED")
		require.NoError(t, tx.Rollback(t.Context()))
	}
	require.NoError(t, store.Close())
	require.Error(t, pool.Ping(t.Context()), "it was the store's own")

	admin, err := pgx.Connect(t.Context(), base)
	require.NoError(t, err)
	defer admin.Close(context.Background())
	name := strings.TrimPrefix(admin.Config().Database, "levada_") + "_ascii"
	_, err = admin.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	require.NoError(t, err)
	defer admin.Exec(context.Background(), "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	_, err = OpenURL(t.Context(), strings.Replace(base, admin.Config().Database, name, 1), nil)
	require.ErrorIs(t, err, ErrUnsuitable)
	require.ErrorContains(t, err, "UTF8")

	read, err := OpenURL(t.Context(), with("default_transaction_read_only=on"), nil)
	require.NoError(t, err, "there is nothing to be written")
	defer read.Close()
	_, err = read.Append(t.Context(), "s-1", eventstore.Any, eventstore.Event{Type: "t", Raw: []byte("1")})
	require.ErrorIs(t, err, driver.ErrReadOnly)
	_, err = read.Head(t.Context())
	require.NoError(t, err)
}

func TestErrorsShowNoPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://user:hunter2@127.0.0.1:1/db?connect_timeout=1",
		"postgres://user:hunter2@127.0.0.1:port/db",
		"postgres://user:hunter2@127.0.0.1/db?pool_max_conns=x",
		"host=127.0.0.1 port=1 password=hunter2 user=u sslmode=nonsense",
	} {
		_, err := OpenURL(t.Context(), url, nil)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestThePoolOfTheCallerStaysOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	store, err := Open(t.Context(), b.pool, nil)
	require.NoError(t, err)
	require.Equal(t, 2, store.Limits().Writers, "half of its connections")
	require.False(t, store.Limits().Exclusive)
	require.NoError(t, store.Close())
	require.NoError(t, b.pool.Ping(t.Context()))
	again, err := OpenDriver(t.Context(), b.pool, &Options{Writers: 9, EventBytes: 10})
	require.NoError(t, err)
	require.Equal(t, 9, again.Limits().Writers)
	require.ErrorIs(t, again.Append(t.Context(), one("s-1", driver.Any)).Err, driver.ErrTooLarge)
	require.NoError(t, again.Close())
}

func TestEventsCanBeReadWithPlainSQLButNotChanged(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	s := b.openAt(t, Options{NoListen: true})
	ctx := t.Context()
	data := []string{`{"amount": 7,  "to":"bob"}`, "not json", "\xff\x00", `{"amount": 8}`, `{"zero":"\u0000"}`}
	types := []string{"application/json", "application/json", "application/octet-stream", "application/vnd.x+json; v=1", "application/json"}
	for i := range data {
		e := driver.Event{ID: [16]byte{byte(i)}, Type: "moved", ContentType: types[i], Data: []byte(data[i]), Tags: []string{"a", "b"}, Metadata: map[string]string{"user": "ann"}}
		require.NoError(t, s.Append(ctx, driver.Append{Stream: "account-1", Events: []driver.Event{e}}).Err)
	}
	var sum int
	require.NoError(t, b.pool.QueryRow(ctx, `SELECT sum((data ->> 'amount')::int) FROM levada.event_log
		WHERE category = 'account' AND metadata ->> 'user' = 'ann' AND tags ->> 1 = 'b' AND data -> 'amount' IS NOT NULL`).Scan(&sum))
	require.Equal(t, 15, sum)
	rows, err := b.pool.Query(ctx, "SELECT coalesce(text, '?') FROM levada.event_log ORDER BY position")
	require.NoError(t, err)
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{data[0], data[1], "?", data[3], data[4]}, texts)
	list, err := s.ReadStream(ctx, "account-1", 0, driver.Forward, 10)
	require.NoError(t, err)
	for i, r := range list {
		require.Equal(t, data[i], string(r.Data), "the very bytes")
	}

	for _, sql := range []string{
		"UPDATE levada.events SET type = 'x'", "UPDATE levada.events SET type = 'x' WHERE false", "DELETE FROM levada.events WHERE position = 1", "TRUNCATE levada.events",
		"UPDATE levada.event_log SET type = 'x'",
	} {
		_, err := b.pool.Exec(ctx, sql)
		require.Error(t, err, sql)
	}
	// What removes events says so for its own transaction and store only.
	require.NoError(t, s.Truncate(ctx, "account-1", 2))
	other := b.openAt(t, Options{Schema: "other", NoListen: true})
	require.NoError(t, other.Append(ctx, one("s-1", driver.Any)).Err)
	tx, err := b.pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(ctx)
	_, err = tx.Exec(ctx, "SELECT levada.truncate('account-1', 3), set_config('levada.removing', 'levada', true)")
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "DELETE FROM other.events")
	require.ErrorContains(t, err, "DELETE refused")
}

func TestAnAppendIsDurableWhateverTheDefaultIs(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	s := b.open(t, Options{NoListen: true})
	for setting, want := range map[string]string{"off": "on", "on": "on", "local": "local", "remote_apply": "remote_apply"} {
		tx, err := b.pool.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "SET synchronous_commit = "+setting)
		require.NoError(t, err)
		batch := newBatch(1)
		a := one(fmt.Sprint("s-", setting), driver.Any)
		batch.add(0, &a)
		st := newStatement(s.sql.append)
		batch.addTo(st)
		require.NoError(t, query(t.Context(), tx.Conn().PgConn(), st, nil))
		var have string
		require.NoError(t, tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&have))
		require.Equal(t, want, have)
		require.NoError(t, tx.Rollback(context.Background()))
	}
}

func TestOpenWarnsOfAServerThatForgets(t *testing.T) {
	t.Parallel()
	for setting, warns := range map[string]bool{"fsync=off": true, "full_page_writes=off": true, "fsync=on": false} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			server := postgrestest.Start(t, setting)
			var b strings.Builder
			store, err := OpenURL(t.Context(), server.URL(t), &Options{NoListen: true, Store: eventstore.Options{Logger: slog.New(slog.NewTextHandler(&b, nil))}})
			require.NoError(t, err)
			require.NoError(t, store.Close())
			require.Equal(t, warns, strings.Contains(b.String(), "loss of power"), b.String())
		})
	}
}
