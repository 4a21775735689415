package sqlitestore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/levada-go/levada/eventstore"
	"github.com/levada-go/levada/eventstore/sqlitestore"
	"github.com/levada-go/levada/projection"
)

// A Deposited is an event of an account.
type Deposited struct{ Cents int64 }

// deposited keeps the table of balances up to date.
func deposited(_ context.Context, c *sqlite.Conn, e Deposited, r *eventstore.Recorded) error {
	const query = `INSERT INTO balances VALUES(?, ?) ON CONFLICT(account) DO UPDATE SET cents = cents + excluded.cents`
	return sqlitex.Execute(c, query, &sqlitex.ExecOptions{Args: []any{string(r.Stream), e.Cents}})
}

// A projection keeps a table beside the log; what it wrote and how far it has
// come are committed together.
func ExampleTarget() {
	dir, err := os.MkdirTemp("", "levada")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())

	store, err := sqlitestore.Open(filepath.Join(dir, "events.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Types.Register("account.deposited", Deposited{}); err != nil {
		log.Fatal(err)
	}
	balances, err := sqlitestore.Target(store, sqlitestore.Model{
		Tables: []string{"balances"},
		Schema: `CREATE TABLE balances(account TEXT PRIMARY KEY, cents INTEGER NOT NULL) STRICT`,
	})
	if err != nil {
		log.Fatal(err)
	}
	group := &projection.Group{Store: store}
	err = group.Add(&projection.Projection[*sqlite.Conn]{
		Name:     "balances",
		Target:   balances,
		Handlers: []projection.Handler[*sqlite.Conn]{projection.On(deposited)},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- group.Run(ctx) }()

	var at eventstore.Appended
	for _, cents := range []int64{500, 250} {
		if at, err = store.Append(ctx, "account-ann", eventstore.Any, eventstore.Event{Data: Deposited{cents}}); err != nil {
			log.Fatal(err)
		}
	}
	if err := group.Wait(ctx, at.Position, "balances"); err != nil {
		log.Fatal(err)
	}
	err = balances.Read(ctx, func(c *sqlite.Conn) error {
		return sqlitex.Execute(c, "SELECT * FROM balances", &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
			fmt.Println(row.ColumnText(0), row.ColumnInt64(1))
			return nil
		}})
	})
	if err != nil {
		log.Fatal(err)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	// Output: account-ann 750
}
