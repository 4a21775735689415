package pgstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/levada-go/levada/eventstore/driver"
)

// migrateTo makes a schema of an earlier version, as a program of then would have.
func migrateTo(t testing.TB, pool *pgxpool.Pool, schema string, version int) {
	t.Helper()
	ctx := context.Background()
	n, err := namesOf(schema)
	require.NoError(t, err)
	require.NoError(t, inTx(ctx, pool, func(tx pgx.Tx) error {
		err := script(ctx, tx, n.expand(createMigrations))
		for i := 0; err == nil && i < version; i++ {
			err = script(ctx, tx, n.expand(scripts[i]+recordMigration(i+1)))
		}
		return err
	}))
}

// unchecked opens a store without a look at its schema, as a program does that has it open when it is migrated.
func unchecked(t testing.TB, pool *pgxpool.Pool, schema string) *store {
	t.Helper()
	n, err := namesOf(schema)
	require.NoError(t, err)
	s := &store{pool: pool, done: make(chan struct{}), opt: Options{Schema: schema, NoListen: true}}
	s.setDefaults()
	s.sql = statementsFor(n)
	s.watch.start(s)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func TestAStoreIsMigratedWhileSomeOpenItAndOthersUseIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, 24)
	require.NoError(t, Migrate(t.Context(), b.pool, "fresh"))
	for version := 1; version < len(scripts); version++ {
		t.Run(fmt.Sprintf("from version %d", version), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			schema := fmt.Sprintf("from_%d", version)
			migrateTo(t, b.pool, schema, version)
			before := catalogue(t, b.pool, schema)
			_, err := open(ctx, b.pool, &Options{Schema: schema, CheckOnly: true})
			require.ErrorIs(t, err, ErrOlderSchema)
			require.ErrorContains(t, err, fmt.Sprintf("has version %d, and this program needs %d", version, len(scripts)))
			require.Equal(t, before, catalogue(t, b.pool, schema), "nothing was changed")

			old := unchecked(t, b.pool, schema)
			for i := range 20 {
				require.NoError(t, old.Append(ctx, one(fmt.Sprint("old-", i%3), driver.Any, "tag")).Err)
			}
			stop := make(chan struct{})
			appended := 20
			var using sync.WaitGroup
			using.Go(func() {
				for {
					if r := old.Append(ctx, one("old-1", driver.Any, "tag")); r.Err != nil {
						t.Errorf("a program of before cannot append: %v", r.Err)
						return
					}
					appended++
					if _, _, err := old.ReadAll(ctx, driver.Filter{}, 0, driver.Forward, 10); err != nil {
						t.Errorf("a program of before cannot read: %v", err)
						return
					}
					select {
					case <-stop:
						return
					default:
					}
				}
			})
			var opening sync.WaitGroup
			for i := range 4 {
				opening.Go(func() {
					s, err := open(ctx, b.pool, &Options{Schema: schema, NoListen: true})
					if err != nil {
						t.Error(err)
						return
					}
					defer s.Close()
					if _, err := s.AppendAtomic(ctx, []driver.Append{one(fmt.Sprint("new-", i), driver.NoStream, "tag"), one("new-all", driver.Any)}, nil); err != nil {
						t.Error(err)
					}
				})
			}
			opening.Wait()
			close(stop)
			using.Wait()

			s := b.openAt(t, Options{Schema: schema, CheckOnly: true, NoListen: true})
			versions := map[string]uint64{}
			total := 0
			for at := uint64(0); ; {
				list, scanned, err := s.ReadAll(ctx, driver.Filter{}, at, driver.Forward, 500)
				require.NoError(t, err)
				for i := range list {
					versions[list[i].Stream]++
					require.Equal(t, versions[list[i].Stream], list[i].Version)
				}
				if total += len(list); scanned == at {
					break
				}
				at = scanned
			}
			require.Equal(t, appended+8, total)
			require.Equal(t, uint64(4), versions["new-all"])
			require.NoError(t, old.Append(ctx, one("old-1", int64(versions["old-1"]), "tag")).Err)
			made := func(schema string) []string {
				return slices.DeleteFunc(catalogue(t, b.pool, schema), func(line string) bool { return strings.HasPrefix(line, "sequence ") }) // these go on
			}
			require.Equal(t, made("fresh"), made(schema), "it is as a new one")
		})
	}
}

func TestANewerStoreIsRefusedAndSaysWhatToDo(t *testing.T) {
	t.Parallel()
	b := newBench(t, 4)
	ctx := t.Context()
	migrateTo(t, b.pool, "ahead", len(scripts))
	_, err := b.pool.Exec(ctx, fmt.Sprintf("INSERT INTO ahead.migrations (version) VALUES (%d)", len(scripts)+1))
	require.NoError(t, err)
	before := catalogue(t, b.pool, "ahead")
	for _, checkOnly := range []bool{false, true} {
		_, err := Open(ctx, b.pool, &Options{Schema: "ahead", CheckOnly: checkOnly})
		require.ErrorIs(t, err, ErrNewerSchema)
		require.ErrorContains(t, err, fmt.Sprintf("migrated to version %d, and this program knows none after %d: run a later one", len(scripts)+1, len(scripts)))
	}
	require.ErrorIs(t, Migrate(ctx, b.pool, "ahead"), ErrNewerSchema)
	require.Equal(t, before, catalogue(t, b.pool, "ahead"))
}
