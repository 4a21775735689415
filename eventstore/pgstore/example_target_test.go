package pgstore_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/pgstore"
	"github.com/levada-go/levada/internal/postgrestest"
	"github.com/levada-go/levada/projection"
)

// A Deposited is an event of an account.
type Deposited struct{ Cents int64 }

// deposited keeps the table of balances up to date.
func deposited(ctx context.Context, tx pgx.Tx, e Deposited, r *eventstore.Recorded) error {
	_, err := tx.Exec(ctx, `INSERT INTO balances VALUES ($1, $2)
		ON CONFLICT (account) DO UPDATE SET cents = balances.cents + excluded.cents`, r.Stream, e.Cents)
	return err
}

// A projection keeps a table in the database of the store, here in the transaction of
// the append itself: whoever has appended finds it up to date.
func ExampleTarget() {
	ctx := context.Background()
	url, drop := postgrestest.ExampleURL() // "postgres://user:password@host/database"
	defer drop()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	store, err := pgstore.Open(ctx, pool, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Types.Register("account.deposited", Deposited{}); err != nil {
		log.Fatal(err)
	}
	balances, err := pgstore.Target(ctx, store, pgstore.Model{
		Tables: []string{"balances"},
		Schema: `CREATE TABLE balances(account text PRIMARY KEY, cents bigint NOT NULL)`,
	})
	if err != nil {
		log.Fatal(err)
	}
	group := &projection.Group{Store: store}
	err = group.Add(&projection.Projection[pgx.Tx]{
		Name:     "balances",
		Target:   balances,
		Inline:   true,
		Handlers: []projection.Handler[pgx.Tx]{projection.On(deposited)},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, cents := range []int64{500, 250} {
		if _, err := store.Append(ctx, "account-ann", eventstore.Any, eventstore.Event{Data: Deposited{cents}}); err != nil {
			log.Fatal(err)
		}
	}
	// Any connection will do for a query; the tables are in a schema beside the store's.
	var cents int64
	if err := pool.QueryRow(ctx, `SELECT cents FROM levada_read.balances WHERE account = 'account-ann'`).Scan(&cents); err != nil {
		log.Fatal(err)
	}
	fmt.Println(cents)
	// Output: 750
}
